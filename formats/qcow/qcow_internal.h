/*
 * qcow_internal.h - what the parts of the qcow version 1 reader share.
 *
 * The L1 table names L2 tables, which name clusters, by their places in the file; 0: nothing there, the layer below
 * shows.  With bit 63 an L2 entry is a compressed cluster: (size << (63 - cluster bits)) | place, exact to the byte.
 */
#ifndef KEDGE_FORMATS_QCOW_QCOW_INTERNAL_H
#define KEDGE_FORMATS_QCOW_QCOW_INTERNAL_H

#include "formats/cache.h"
#include "formats/crypt/crypt.h"
#include "formats/image.h"

#define QCOW_MAGIC 0x514649fbu
#define QCOW_HEADER_BYTES 48
#define QCOW_CLUSTER_BITS_MIN 9
#define QCOW_CLUSTER_BITS_MAX 16
#define QCOW_L2_BITS_MIN 6
#define QCOW_L2_BITS_MAX 13
#define QCOW_BACKING_NAME_MAX 1023
#define QCOW_SIZE_MAX INT64_MAX
#define QCOW_TABLES_MAX 6000000u		/* L2 tables of one image: 48 MB to remember where they are */
#define QCOW_COMPRESSED ((uint64_t)1 << 63)
#define QCOW_CRYPT_AES 1

struct qcow_header {
	uint64_t backing_offset;
	uint32_t backing_len;
	uint32_t mtime;			/* of the backing file once; nobody keeps it */
	uint64_t size;			/* virtual bytes as stored */
	uint8_t cluster_bits, l2_bits;	/* log2 of a cluster's bytes, of an L2 table's entries */
	uint32_t crypt_method;
	uint64_t l1_offset;
	/* follows from these: */
	uint32_t cluster_size;
	uint32_t l2_bytes;		/* of an L2 table */
	unsigned l1_shift;		/* log2 of the guest bytes of one L1 entry */
	uint64_t l1_entries;
};

struct qcow {
	struct image im;
	struct image_state current;
	struct qcow_header h;
	struct block_cache *cache;
	char *backing;
	uint64_t *tables;		/* where L2 tables are, sorted */
	size_t ntables;
	bool force;
	struct imgcrypt *crypt;	/* NULL: not encrypted, or locked */
	char owner_tables, owner_clusters;	/* their addresses name our blocks in the cache */
};

enum qcow_run_kind { QCOW_RUN_HOLE, QCOW_RUN_DATA, QCOW_RUN_COMPRESSED };

struct qcow_run {
	enum qcow_run_kind kind;
	uint64_t len;			/* guest bytes */
	uint64_t host;			/* DATA: of the first byte; COMPRESSED: of the compressed bytes */
	uint64_t entry;			/* COMPRESSED: the L2 entry */
	uint32_t inner;			/* COMPRESSED: first byte's place in the decompressed cluster */
};

/* header.c - decodes and checks the header of a file of file_size bytes.  ERR_CORRUPT, ERR_UNSUPPORTED.  *ret_backing is
 * malloc'ed, or NULL. */
MUST_CHECK int qcow_header_read(const struct file *f, struct qcow_header *ret, char **ret_backing, struct err *e);

/* map.c */
/* Checks every L1 entry, remembers the tables, and finds those that overlap. */
MUST_CHECK int qcow_scan(struct qcow *q, struct err *e);
/* What is at guest byte off, and how far that goes on, at most limit bytes, within one L2 table or hole of the L1 table. */
MUST_CHECK int qcow_run_at(struct qcow *q, uint64_t off, uint64_t limit, struct qcow_run *ret, struct err *e);
uint64_t qcow_compressed_host(const struct qcow *q, uint64_t entry);
uint32_t qcow_compressed_len(const struct qcow *q, uint64_t entry);
/* The decompressed cluster of an L2 entry, from the cache; put it back with block_cache_put(q->cache). */
MUST_CHECK int qcow_cluster_get(struct qcow *q, uint64_t entry, const struct cache_block **ret, struct err *e);

/* digest.c */
MUST_CHECK int qcow_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e);

#endif
