/*
 * qcow2_write_internal.h - the parts of the qcow2 writer.
 *
 *	qcow2_write.c		the writer's operations, states
 *	qcow2_write_plain.c	uncompressed clusters and zeros
 *	qcow2_write_pack.c	compression: parts of clusters, the worker pool
 *	qcow2_write_codec.c	deflate and zstd
 *	qcow2_write_crypt.c	encryption
 *	qcow2_write_share.c	equal ranges of an earlier state
 *	qcow2_write_map.c	L1 and L2 tables
 *	qcow2_write_alloc.c	host clusters and their refcounts
 *	qcow2_write_meta.c	a write-back cache of metadata clusters
 *	qcow2_write_end.c	preallocation, snapshot table, refcount table, header
 *
 * The file grows only at its end.  L1 tables, L2 tables and refcount blocks get their place when they are first needed
 * and are changed there, through the cache, so memory does not grow with the disk.  A refcount block describes
 * cluster_size / 2 clusters and is allocated as soon as the file reaches them; it may lie in the range of the next one.
 *
 * A unit is what the tables can call zero or absent on its own: a cluster, or with extended L2 entries a subcluster.
 */
#ifndef KEDGE_FORMATS_QCOW2_QCOW2_WRITE_INTERNAL_H
#define KEDGE_FORMATS_QCOW2_QCOW2_WRITE_INTERNAL_H

#include <pthread.h>

#include "base/fs.h"
#include "base/vec.h"
#include "base/workers.h"
#include "formats/writer.h"

#define Q2W_CLUSTER_MIN ((uint32_t)512)
#define Q2W_CLUSTER_MAX ((uint32_t)2 << 20)
#define Q2W_CLUSTER_MIN_EXTENDED ((uint32_t)16 << 10)	/* subclusters of 512 bytes */
#define Q2W_CLUSTER_DEFAULT ((uint32_t)64 << 10)
#define Q2W_MAX_BYTES_DEFAULT ((size_t)64 << 20)
#define Q2W_SECTOR ((uint64_t)512)
#define Q2W_L1_MAX_BYTES ((uint64_t)32 << 20)		/* QEMU's limits from here on */
#define Q2W_REFTABLE_MAX_BYTES ((uint64_t)8 << 20)
#define Q2W_SNAPSHOTS_MAX 65536
#define Q2W_SNAPSHOT_TABLE_MAX_BYTES ((uint64_t)64 << 20)
#define Q2W_REFCOUNT_MAX 65535
#define Q2W_FILE_MAX_BYTES ((uint64_t)1 << 55)
#define Q2W_RESERVE_MIN_BYTES ((uint64_t)1 << 20)	/* of the file before space is reserved */
#define Q2W_RESERVE_MAX_BYTES ((uint64_t)64 << 20)	/* at a time */
#define Q2W_MIN_CLUSTERS 4				/* of each kind of buffer, whatever the budget */

#define Q2W_COPIED ((uint64_t)1 << 63)
#define Q2W_COMPRESSED ((uint64_t)1 << 62)
#define Q2W_ZERO UINT64_C(1)		/* the whole entry: zeros that hide the backing file; not in extended ones */
#define Q2W_SUBCLUSTER_BITS 5		/* log2 of how many a cluster has */
#define Q2W_BACKING_MAX_BYTES 1023
#define Q2W_OFFSET_MASK UINT64_C(0x00fffffffffffe00)

struct q2w_state {
	uint64_t l1_off;	/* bytes in the file */
	uint64_t l1_entries;
	uint64_t size;		/* exact, of the disk */
	uint64_t vm_base;	/* guest offset where machine memory starts: the first L2 table behind the disk */
	uint64_t vm_bytes;
	char *name, *id;	/* NULL for the current state */
	int64_t date_ns;
	uint64_t vm_clock_ns;
};

/*
 * An L2 entry.  bitmap is 0 unless they are extended: bits 0 to 31 say which subclusters are in the file, 32 to 63
 * which are zeros that hide the backing file.  Those with neither read as the backing file has them, or as zeros.
 */
struct q2w_l2 {
	uint64_t entry, bitmap;
};

struct q2w_meta;
struct q2w_pack;
struct q2w_crypt;

struct q2w {
	struct image_writer w;
	char *path;
	struct fs_atomic file;
	bool replace;
	char *backing, *backing_format;	/* NULL: none */
	enum preallocation preallocation;
	bool reserves;			/* space, before it is written */
	unsigned cluster_bits, l2_bits;
	unsigned unit_bits;		/* = cluster_bits, or of subclusters */
	bool extended;			/* L2 entries, of 16 bytes */
	bool zstd;			/* how clusters are compressed; else deflate */
	uint32_t version;		/* 3, or 2 for programs that know no other */
	uint64_t size;			/* of the current state */
	struct q2w_pack *pack;		/* NULL: not compressing.  Its lock is taken before `lock` */
	struct q2w_crypt *crypt;	/* NULL: not encrypted */
	uint8_t *table, *cluster, *packed;	/* share's own: a cluster each */

	/* guards what follows; held while metadata is read or written, never for data */
	pthread_mutex_t lock;
	struct q2w_meta *meta;
	uint64_t next;			/* first host cluster that nobody has */
	bool reserve_ahead;		/* of clusters that are going to be written; false once refused */
	uint64_t reserved;		/* where that ends, bytes */
	VEC(uint64_t) blocks;		/* offsets of the refcount blocks */
	uint64_t byte_next;		/* where the next compressed cluster may go; 0 = in a new host cluster */
	VEC(struct q2w_state) states;
	bool active;			/* the last of states is the current one */
};

static inline uint64_t q2w_cluster_size(const struct q2w *q) { return (uint64_t)1 << q->cluster_bits; }
static inline uint64_t q2w_unit_size(const struct q2w *q) { return (uint64_t)1 << q->unit_bits; }
/* Guest bytes behind one L2 table. */
static inline unsigned q2w_slot_bits(const struct q2w *q) { return q->cluster_bits + q->l2_bits; }
static inline uint32_t q2w_now(const struct q2w *q) { return (uint32_t)q->states.n - 1; }
/* Where the guest bytes around guest offset off end: those of the disk, or of the machine memory. */
uint64_t q2w_region_end(const struct q2w *q, uint64_t off);

/* ---- meta: blocks of one cluster; the caller holds q->lock ---- */
enum q2w_use { Q2W_READ, Q2W_CHANGE, Q2W_FRESH };	/* FRESH: all zero, to be changed; the file is not read */
MUST_CHECK int q2w_meta_new(int fd, uint32_t block_size, size_t max_bytes, struct q2w_meta **ret, struct err *e);
void q2w_meta_free(struct q2w_meta *m);
/* The block at file offset off, valid until the next call; NULL with *e set.  What the file does not have is zero. */
MUST_CHECK uint8_t *q2w_meta_get(struct q2w_meta *m, uint64_t off, enum q2w_use use, struct err *e);
MUST_CHECK int q2w_meta_flush(struct q2w_meta *m, struct err *e);

/* ---- alloc: the caller holds q->lock ---- */
/* n consecutive host clusters with refcount 1; *ret is the first's number. */
MUST_CHECK int q2w_alloc(struct q2w *q, uint64_t n, uint64_t *ret, struct err *e);
/* The space of all clusters so far is there, where space is reserved; else ERR_NOSPACE. */
MUST_CHECK int q2w_alloc_check(struct q2w *q, struct err *e);
/* Room for len < cluster_size bytes of a compressed cluster; *ret is a byte offset.  Counts the reference. */
MUST_CHECK int q2w_alloc_bytes(struct q2w *q, size_t len, uint64_t *ret, struct err *e);
MUST_CHECK int q2w_refcount(struct q2w *q, uint64_t cluster, uint32_t *ret, struct err *e);
/* One more reference; the caller knows that there is room for it. */
MUST_CHECK int q2w_ref(struct q2w *q, uint64_t cluster, struct err *e);
/* Allocates and writes the refcount table: nothing may be allocated after. */
MUST_CHECK int q2w_write_reftable(struct q2w *q, uint64_t *ret_off, uint64_t *ret_clusters, struct err *e);

/* ---- map: the caller holds q->lock ---- */
/* The L1 entry of a slot (guest offset >> slot bits), 0 if there is none. */
MUST_CHECK int q2w_l1_get(struct q2w *q, uint32_t state, uint64_t slot, uint64_t *ret, struct err *e);
MUST_CHECK int q2w_l1_set(struct q2w *q, uint64_t slot, uint64_t entry, struct err *e);
/* The L2 entry of guest cluster c, 0 if there is none. */
MUST_CHECK int q2w_l2_get(struct q2w *q, uint32_t state, uint64_t c, struct q2w_l2 *ret, struct err *e);
/* Sets it in the state being written; makes the table if need be. */
MUST_CHECK int q2w_l2_set(struct q2w *q, uint64_t c, const struct q2w_l2 *l2, struct err *e);
/* Entry number i of a table in memory. */
struct q2w_l2 q2w_l2_at(const struct q2w *q, const uint8_t *table, size_t i);
static inline size_t q2w_l2_index(const struct q2w *q, uint64_t c)
{
	return (size_t)(c & (((uint64_t)1 << q->l2_bits) - 1));
}
/* Nothing was written there, nor told to be zero. */
static inline bool q2w_l2_none(const struct q2w_l2 *l2) { return !l2->entry && !l2->bitmap; }
uint64_t q2w_compressed_entry(const struct q2w *q, uint64_t host, size_t len);
/* Host byte range of a compressed entry: *ret_len reaches to the end of its last sector. */
void q2w_compressed_range(const struct q2w *q, uint64_t entry, uint64_t *ret_host, uint64_t *ret_len);
/* The host clusters that an entry with an offset refers to. */
void q2w_entry_clusters(const struct q2w *q, uint64_t entry, uint64_t *ret_first, uint64_t *ret_n);

/* ---- data; q->lock is not held ---- */
MUST_CHECK int q2w_check_begun(const struct q2w *q, struct err *e);
/* The host offset of guest offset off, for len bytes of one cluster, allocated if need be; their units are in the file
 * from now on.  *ret_fresh (NULL: no matter) tells whether none was. */
MUST_CHECK int q2w_place(struct q2w *q, uint64_t off, uint64_t len, uint64_t *ret_host, bool *ret_fresh, struct err *e);
MUST_CHECK int q2w_expect(struct image_writer *w, uint64_t off, uint64_t len, struct err *e);
/* Guest bytes, uncompressed. */
MUST_CHECK int q2w_write_plain(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e);
/* These guest bytes, whole units of one cluster, hide what the backing file has there. */
MUST_CHECK int q2w_set_zero(struct q2w *q, uint64_t off, uint64_t len, struct err *e);
MUST_CHECK int q2w_zero(struct image_writer *w, uint64_t off, uint64_t len, struct err *e);
/* Guest bytes, by whatever way the image wants. */
MUST_CHECK int q2w_write_any(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int q2w_share(struct image_writer *w, uint32_t from, uint64_t off, uint64_t len, struct err *e);

/* ---- pack ---- */
MUST_CHECK int q2w_pack_new(struct q2w *q, unsigned threads, size_t max_bytes, struct q2w_pack **ret, struct err *e);
void q2w_pack_free(struct q2w_pack *p);
MUST_CHECK int q2w_pack_write(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e);
/* Ends a state: everything that was handed in is in the file and mapped. */
MUST_CHECK int q2w_pack_drain(struct q2w *q, struct err *e);

/* ---- codec ---- */
/* What one thread compresses with; opaque is the struct q2w.  Signatures of base/workers.h. */
MUST_CHECK int q2w_codec_new(void *opaque, void **ret_codec, struct err *e);
void q2w_codec_free(void *codec);	/* NULL is fine */
/* *ret_len 0: the cluster of len bytes doesn't get smaller.  out has room for len - 1. */
MUST_CHECK int q2w_compress(void *codec, const uint8_t *in, size_t len, uint8_t *out, size_t *ret_len, struct err *e);
/* A compressed cluster, whatever follows it, to exactly out_len bytes. */
MUST_CHECK int q2w_decompress(const struct q2w *q, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len,
			      struct err *e);

/* ---- crypt; q->lock is not held ---- */
/* Makes the LUKS header and writes it behind what there is; before the first state. */
MUST_CHECK int q2w_crypt_new(struct q2w *q, const struct image_secret *s, unsigned ms, struct err *e);
void q2w_crypt_free(struct q2w_crypt *c);	/* NULL is fine */
/* Where it is, for the file's header. */
void q2w_crypt_header(const struct q2w_crypt *c, uint64_t *ret_off, uint64_t *ret_len);
/* Whole sectors at a host offset: decrypted in place; encrypted and written. */
MUST_CHECK int q2w_crypt_decrypt(struct q2w *q, uint8_t *buf, size_t len, uint64_t host, struct err *e);
MUST_CHECK int q2w_crypt_write(struct q2w *q, const uint8_t *buf, size_t len, uint64_t host, struct err *e);
/* Guest bytes inside of one unit; what nobody writes of it is zero. */
MUST_CHECK int q2w_crypt_write_part(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e);

/* ---- end ---- */
/* Gives every cluster of the current state a place, as the preallocation mode says. */
MUST_CHECK int q2w_preallocate(struct q2w *q, struct err *e);
MUST_CHECK int q2w_end(struct q2w *q, struct err *e);

#endif
