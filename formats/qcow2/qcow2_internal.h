/*
 * qcow2_internal.h - what the parts of the qcow2 reader share.
 *
 *	header.c	header and extensions: decode, check
 *	meta.c		which host places hold metadata; who may not overlap
 *	scan.c		L1, refcount and bitmap tables at open: every entry checked and entered in meta
 *	snapshot.c	snapshot table -> states
 *	bitmap.c	bitmap directory
 *	map.c		guest offset -> run of one kind, within one L2 slice
 *	read.c		the ops: extents, reads, saved machine memory
 *	decompress.c	deflate and zstd clusters
 *	digest.c	what identifies a state
 *	open.c		opening, closing
 */
#ifndef KEDGE_FORMATS_QCOW2_QCOW2_INTERNAL_H
#define KEDGE_FORMATS_QCOW2_QCOW2_INTERNAL_H

#include <pthread.h>

#include "base/bytes.h"
#include "base/vec.h"
#include "formats/cache.h"
#include "formats/crypt/crypt.h"
#include "formats/image.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_V2_HEADER_BYTES 72
#define QCOW2_V3_HEADER_BYTES 104
#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_L1_MAX_BYTES ((uint64_t)32 << 20)
#define QCOW2_REFTABLE_MAX_BYTES ((uint64_t)8 << 20)
#define QCOW2_SNAPSHOTS_MAX 65536
#define QCOW2_SNAPSHOT_TABLE_MAX_BYTES ((uint64_t)64 << 20)
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024
#define QCOW2_BACKING_NAME_MAX 1023
#define QCOW2_BITMAPS_MAX 65535
#define QCOW2_SLICE_BYTES 65536		/* tables are read and cached in pieces of at most this */

#define QCOW2_INCOMPAT_DIRTY ((uint64_t)1 << 0)
#define QCOW2_INCOMPAT_CORRUPT ((uint64_t)1 << 1)
#define QCOW2_INCOMPAT_DATA_FILE ((uint64_t)1 << 2)
#define QCOW2_INCOMPAT_COMPRESSION ((uint64_t)1 << 3)
#define QCOW2_INCOMPAT_EXTL2 ((uint64_t)1 << 4)
#define QCOW2_INCOMPAT_KNOWN ((uint64_t)0x1f)
#define QCOW2_COMPAT_LAZY_REFCOUNTS ((uint64_t)1 << 0)
#define QCOW2_CRYPT_AES 1
#define QCOW2_CRYPT_LUKS 2
#define QCOW2_AUTOCLEAR_BITMAPS ((uint64_t)1 << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA ((uint64_t)1 << 1)

#define QCOW2_OFFSET_MASK ((uint64_t)0x00fffffffffffe00)	/* of L1, L2 and bitmap table entries */
#define QCOW2_COPIED ((uint64_t)1 << 63)
#define QCOW2_COMPRESSED ((uint64_t)1 << 62)
#define QCOW2_ZERO ((uint64_t)1)

struct qcow2_header {
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_len;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt_method;
	uint32_t l1_size;		/* entries */
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t nb_snapshots;
	uint64_t snapshots_offset;
	uint64_t incompat, compat, autoclear;
	uint32_t refcount_order;
	uint32_t header_length;
	uint8_t compression_type;	/* 0 deflate, 1 zstd */
};

/* Extensions, borrowed from the header cluster; .p NULL = absent. */
struct qcow2_extensions {
	struct rd backing_format, feature_names, bitmaps, data_file, luks;
};

/* Host places that hold metadata: whole regions, and single clusters (L2 tables, refcount blocks, bitmap data). */
struct qcow2_region {
	uint64_t start, end;
	const char *what;	/* static text: "L1 table" */
	uint32_t index;		/* of the snapshot or bitmap that it belongs to; QCOW2_NO_INDEX */
};
#define QCOW2_NO_INDEX UINT32_MAX

struct qcow2_meta {
	VEC(struct qcow2_region) regions;	/* sorted by start after qcow2_meta_seal */
	uint64_t *slots;	/* open addressing; 0 = free; else host / 512 << 17 | owner */
	size_t nslots, used;
	bool tolerant;		/* overlaps are not reported: the image is marked corrupt and is read anyway */
};
#define QCOW2_OWNER_OTHER 0x1ffffu	/* refcount block, bitmap cluster; below: the state whose L1 names an L2 table */

struct qcow2_state {
	uint64_t l1_offset;
	uint32_t l1_size;	/* entries */
	uint64_t vm_base;	/* guest offset of saved machine memory */
	bool own_size;		/* the snapshot entry stores its disk's size */
	uint32_t date_sec, date_nsec;
	_Atomic uint64_t last_l2;	/* map.c: the L2 table looked into last, and its L1 entry's index; 0: none */
};

struct qcow2_bitmap_table {
	uint64_t off;
	uint32_t entries;
};

struct qcow2_name {
	struct qcow2_name *next;
	char text[];
};

struct qcow2 {
	struct image im;	/* first */
	struct qcow2_header h;
	struct block_cache *cache;
	struct qcow2_state *st;	/* beside im.states */
	struct qcow2_meta meta;
	uint32_t cluster_size;
	unsigned l2_entry_bytes;	/* 8, extended 16 */
	unsigned l1_shift;		/* log2 of the guest bytes of one L1 entry */
	unsigned unit_bits;		/* log2 of what one mapping decision covers: cluster or subcluster */
	bool extl2, data_file, raw_data;
	struct imgcrypt *crypt;		/* NULL: not encrypted, or locked */
	bool crypt_by_host;		/* the vector counts places in the file, not the guest's */
	char encryption[160];
	bool force;
	struct qcow2_name *names;	/* snapshot ids and names, backing reference...: what im.info points to */
	struct image_bitmap *bitmaps;
	struct qcow2_bitmap_table *bitmap_tables;	/* beside bitmaps */
	char owner_tables, owner_clusters;	/* their addresses name our blocks in the cache */
	pthread_mutex_t zstd_lock;	/* guards the idle decompression contexts */
	void *zstd_idle[16];
	unsigned nzstd_idle;
};

enum qcow2_run_kind { QCOW2_RUN_HOLE, QCOW2_RUN_ZERO, QCOW2_RUN_DATA, QCOW2_RUN_COMPRESSED };

struct qcow2_run {
	enum qcow2_run_kind kind;
	uint64_t len;		/* guest bytes */
	uint64_t host;		/* DATA: of the first byte; COMPRESSED: of the compressed bytes */
	uint64_t entry;		/* COMPRESSED: the L2 entry */
	uint32_t inner;		/* COMPRESSED: first byte's place in the decompressed cluster */
};

/* header.c.  *ret_cluster (malloc'ed) holds the first cluster, as far as the file has it; ext points into it. */
MUST_CHECK int qcow2_header_read(const struct file *f, bool force, struct qcow2_header *ret,
				 uint8_t **ret_cluster, struct qcow2_extensions *ret_ext, struct err *e);

/* meta.c.  add_region before seal, add_cluster after it. */
MUST_CHECK int qcow2_meta_add_region(struct qcow2_meta *m, uint64_t start, uint64_t len, uint32_t cluster_size,
				     const char *what, uint32_t index, struct err *e);
/* Sorts the regions; two that overlap are ERR_CORRUPT. */
MUST_CHECK int qcow2_meta_seal(struct qcow2_meta *m, struct err *e);
/* Enters the cluster at host.  In a region, or there already (an L2 table of another state may be): ERR_CORRUPT. */
MUST_CHECK int qcow2_meta_add_cluster(struct qcow2_meta *m, uint64_t host, uint32_t owner, const char *what,
				      struct err *e);
/* What metadata the cluster at host holds (static text), or NULL. */
const char *qcow2_meta_find(const struct qcow2_meta *m, uint64_t host);
void qcow2_meta_done(struct qcow2_meta *m);

/* scan.c. */
/* Checks the refcount table and all states' L1 tables, and enters what they name in meta. */
MUST_CHECK int qcow2_scan_image(struct qcow2 *q, struct err *e);

/* snapshot.c.  Fills im.states, st and info.nstates; adds the snapshots' regions to meta. */
MUST_CHECK int qcow2_snapshots_read(struct qcow2 *q, struct err *e);

/* bitmap.c.  read fills info.bitmaps and adds the directory and tables to meta; scan enters what the tables name. */
MUST_CHECK int qcow2_bitmaps_read(struct qcow2 *q, struct rd ext, struct err *e);
MUST_CHECK int qcow2_bitmaps_scan(struct qcow2 *q, struct err *e);

/* map.c */
MUST_CHECK int qcow2_run_at(struct qcow2 *q, uint32_t state, uint64_t off, uint64_t limit, struct qcow2_run *ret,
			    struct err *e);

/* decompress.c */
uint64_t qcow2_compressed_host(const struct qcow2 *q, uint64_t entry);
uint64_t qcow2_compressed_len(const struct qcow2 *q, uint64_t entry);	/* upper bound, may reach past the file's end */
/* The decompressed cluster of an L2 entry, from the cache; put it back with block_cache_put(q->cache). */
MUST_CHECK int qcow2_cluster_get(struct qcow2 *q, uint64_t entry, const struct cache_block **ret, struct err *e);
void qcow2_decompress_done(struct qcow2 *q);

/* read.c */
extern const struct image_ops qcow2_ops;

/* digest.c */
MUST_CHECK int qcow2_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e);
MUST_CHECK int qcow2_metadata_digest(struct qcow2 *q, uint8_t digest[32], struct err *e);

/* open.c */
/* A copy of len bytes with a NUL after them, which lives as long as q; NULL with *e set.  A NUL among the bytes is
 * ERR_CORRUPT, what says which text it is in. */
MUST_CHECK const char *qcow2_name_add(struct qcow2 *q, const void *p, size_t len, const char *what, struct err *e);
void qcow2_close(struct image *im);
/* Adds to an ERR_CORRUPT what the user can do; returns e->code. */
int qcow2_damaged(const struct qcow2 *q, struct err *e);

#endif
