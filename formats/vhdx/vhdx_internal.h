/*
 * vhdx_internal.h - what the parts of the VHDX reader share.
 *
 *	vhdx_format.c	identifiers, CRC
 *	vhdx_header.c	file identifier, headers, region table
 *	vhdx_log.c	which log entries count
 *	vhdx_overlay.c	the file as it is after those are replayed
 *	vhdx_metadata.c	metadata: sizes, the parent
 *	vhdx_map.c	block allocation table and sector bitmaps: guest offset -> run of one kind
 *	vhdx_open.c	opening, closing, the reading ops, what identifies a state
 */
#ifndef KEDGE_FORMATS_VHDX_VHDX_INTERNAL_H
#define KEDGE_FORMATS_VHDX_VHDX_INTERNAL_H

#include "base/bytes.h"
#include "base/vec.h"
#include "formats/cache.h"
#include "formats/image.h"
#include "formats/vhdx/vhdx_format.h"

#define VHDX_SLICE_BYTES 65536		/* the table is read and cached in pieces of at most this */
#define VHDX_BLOCKS_MAX ((size_t)8 << 20)	/* allocated ones */
#define VHDX_LOG_WRITES_MAX ((size_t)1 << 20)	/* that a log may hold: 4 GiB of data */

struct vhdx_header {
	uint64_t sequence;
	uint8_t data_write[16];		/* GUID: changes when a guest writes for the first time after an open */
	uint8_t log_guid[16];		/* zeros: nothing to replay */
	uint16_t log_version;
	uint64_t log_offset;
	uint32_t log_length;
};

struct vhdx_region {
	uint64_t offset;
	uint32_t length;
};

/* What the log says of a part of the file. */
struct vhdx_write {
	uint64_t start, end;	/* of the file */
	uint64_t data;		/* file offset of the log's data sector, for one page; VHDX_ZEROS: zeros */
	uint64_t leading;	/* the page's first 8 bytes, LE, and its last 4: the sector has its own marks there */
	uint32_t trailing;
};
#define VHDX_ZEROS UINT64_MAX

struct vhdx_metadata {
	uint32_t block_size;
	bool fixed, has_parent;
	uint64_t size;
	uint32_t sector;	/* logical */
	uint8_t linkage[2][16];	/* the parent's data write GUIDs that fit; zeros: none */
};

struct vhdx {
	struct image im;	/* first */
	struct image_state current;
	struct vhdx_header h;
	VEC(struct vhdx_write) writes;	/* of the log; sorted, disjoint */
	uint64_t size;		/* of the file after the replay */
	struct vhdx_region bat, metadata;
	struct vhdx_metadata m;
	uint64_t chunk_blocks;	/* blocks for which the table has one entry of a sector bitmap */
	uint64_t entries;	/* of the table, as far as the disk needs them */
	unsigned block_bits;
	char *creator;		/* NULL = doesn't say */
	struct block_cache *cache;
	char owner_table, owner_bitmaps;	/* their addresses name our blocks in the cache */
};

struct vhdx_run {
	enum extent_kind kind;
	uint64_t len;		/* guest bytes */
	uint64_t host;		/* EXTENT_DATA: of the first byte */
};

/* vhdx_header.c */
MUST_CHECK int vhdx_header_read(const struct file *f, struct vhdx_header *ret, struct err *e);
/* Fills bat and metadata; reads through the overlay. */
MUST_CHECK int vhdx_regions_read(struct vhdx *v, struct err *e);

/* vhdx_log.c.  Fills writes and size from the log. */
MUST_CHECK int vhdx_log_read(struct vhdx *v, struct err *e);

/* vhdx_overlay.c.  Makes what the log wrote, in that order, sorted and disjoint: where two overlap the later counts. */
MUST_CHECK int vhdx_overlay_seal(struct vhdx *v, struct err *e);
/* len bytes of the file after the replay; what is behind the real file's end is zeros. */
MUST_CHECK int vhdx_read(struct vhdx *v, void *buf, size_t len, uint64_t off, struct err *e);
/* file_next_data for the file after the replay. */
MUST_CHECK int vhdx_next_data(struct vhdx *v, uint64_t off, uint64_t end, bool *ret_data, uint64_t *ret_end,
			      struct err *e);

/* vhdx_metadata.c.  Fills m, and of a differencing image im.parent and info.backing. */
MUST_CHECK int vhdx_metadata_read(struct vhdx *v, struct err *e);

/* vhdx_map.c */
/* The number of blocks of the disk. */
uint64_t vhdx_blocks(const struct vhdx *v);
/* Checks the table's entries: states, inside the file, not in metadata, no two blocks on one place. */
MUST_CHECK int vhdx_scan(struct vhdx *v, struct err *e);
MUST_CHECK int vhdx_run_at(struct vhdx *v, uint64_t off, uint64_t limit, struct vhdx_run *ret, struct err *e);
/* Calls fn for each table entry that isn't 0, in order. */
typedef int (*vhdx_entry_fn)(struct vhdx *v, uint64_t index, uint64_t entry, void *opaque, struct err *e);
MUST_CHECK int vhdx_each_entry(struct vhdx *v, vhdx_entry_fn fn, void *opaque, struct err *e);

#endif
