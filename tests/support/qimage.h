/*
 * qimage.h - small qcow2 images built in memory, right or wrong in any field.
 *
 * Layout: header in cluster 0, refcount table in 1, a refcount block in 2, the L1 table from 3 on; what is added goes
 * to the end.  Everything aborts on failure: it is for tests.
 */
#ifndef KEDGE_TESTS_SUPPORT_QIMAGE_H
#define KEDGE_TESTS_SUPPORT_QIMAGE_H

#include "formats/image.h"

struct qimage {
	uint8_t *p;
	size_t len;
	uint32_t version, cluster;
	unsigned cluster_bits;
	bool extl2;
	uint64_t l1;		/* offset of the current L1 table */
	uint32_t l1_size;
	size_t ext_end;		/* where the next header extension goes */
	uint32_t nsnapshots;
	uint8_t *snapshots;	/* table as it was written last */
	size_t snapshots_len;
};

#define QIMAGE_COPIED ((uint64_t)1 << 63)
#define QIMAGE_COMPRESSED ((uint64_t)1 << 62)
#define QIMAGE_EXT_BACKING_FORMAT 0xe2792acau
#define QIMAGE_EXT_FEATURES 0x6803f857u
#define QIMAGE_EXT_BITMAPS 0x23852875u
#define QIMAGE_EXT_DATA_FILE 0x44415441u

/* l1_spare: L1 entries beyond what size needs, for machine state. */
void qimage_init(struct qimage *q, uint32_t version, unsigned cluster_bits, uint64_t size, bool extl2,
		 uint32_t l1_spare);
void qimage_done(struct qimage *q);

void qimage_be32(struct qimage *q, uint64_t at, uint32_t v);
void qimage_be64(struct qimage *q, uint64_t at, uint64_t v);
uint32_t qimage_get32(const struct qimage *q, uint64_t at);
uint64_t qimage_get64(const struct qimage *q, uint64_t at);
/* Appends bytes, zero if p is NULL; qimage_cluster begins at a cluster.  Both return the offset. */
uint64_t qimage_append(struct qimage *q, const void *p, size_t len);
uint64_t qimage_cluster(struct qimage *q, const void *p, size_t len);
void qimage_extension(struct qimage *q, uint32_t type, const void *p, size_t len);
void qimage_backing(struct qimage *q, const char *name, const char *format);

/* The place of the L2 entry for a guest offset; its table is made if there is none. */
uint64_t qimage_entry_at(struct qimage *q, uint64_t guest);
void qimage_set(struct qimage *q, uint64_t guest, uint64_t entry);
void qimage_set_bitmap(struct qimage *q, uint64_t guest, uint64_t bitmap);
/* A cluster of data, every byte `fill`; returns its host offset. */
uint64_t qimage_data(struct qimage *q, uint64_t guest, uint8_t fill);
/* A compressed cluster whose content is `fill` in its first half and fill + 1 in the second. */
void qimage_compressed(struct qimage *q, uint64_t guest, uint8_t fill, bool zstd);
/* Snapshot of the present L1 table.  extra: bytes of extra data, 0 or 16 (machine state, disk size). */
void qimage_snapshot(struct qimage *q, const char *id, const char *name, uint64_t size, uint64_t vm_bytes,
		     uint32_t extra);

/* The image as an open memory file (the caller closes it). */
int qimage_fd(const struct qimage *q);
/* Written to a new file. */
void qimage_save(const struct qimage *q, const char *path);
/* qcow2_open over qimage_fd; the image owns the file. */
int qimage_open(const struct qimage *q, bool force, struct image **ret, struct err *e);

#endif
