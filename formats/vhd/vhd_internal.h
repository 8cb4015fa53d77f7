/*
 * vhd_internal.h - what the parts of the VHD reader share.
 *
 *	vhd_footer.c	footer and dynamic header: find, decode, check
 *	vhd_parent.c	what a differencing image says of its parent
 *	vhd_map.c	block allocation table and sector bitmaps: guest offset -> run of one kind
 *	vhd_write.c	the writer
 *	vhd_open.c	opening, closing, the reading ops, what identifies a state
 *
 * All integers are big-endian.  The file:
 *
 *	fixed		data, footer
 *	dynamic		copy of the footer, dynamic header, parent locators, table, blocks, footer
 *
 * A block is a bitmap, one bit a sector from the highest bit of the first byte on, padded to a sector, then the data.
 */
#ifndef KEDGE_FORMATS_VHD_VHD_INTERNAL_H
#define KEDGE_FORMATS_VHD_VHD_INTERNAL_H

#include "base/bytes.h"
#include "base/num.h"
#include "formats/cache.h"
#include "formats/image.h"

#define VHD_SECTOR 512u
#define VHD_FOOTER_BYTES 512
#define VHD_OLD_FOOTER_BYTES 511	/* Virtual PC before 2004 */
#define VHD_HEADER_BYTES 1024
#define VHD_SIZE_MAX (2040 * GIB)	/* what the 32-bit sector numbers of the format reach */
#define VHD_BLOCK_MAX ((uint32_t)256 << 20)
#define VHD_BLOCKS_MAX ((uint64_t)8 << 20)	/* allocated; a full disk of the usual 2 MiB blocks has a million */
#define VHD_SLICE_BYTES 65536	/* the table is read and cached in pieces of at most this */
#define VHD_NO_BLOCK UINT32_MAX
#define VHD_LOCATORS 8

enum vhd_type { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };

struct vhd_footer {
	uint64_t data_offset;	/* of the dynamic header */
	uint32_t time;		/* of creation, seconds since 2000-01-01 */
	char creator[5];	/* "vpc ", "win ", "vbox", "qemu", ... */
	uint64_t size;		/* current size, bytes */
	uint64_t chs_size;	/* bytes that cylinders, heads and sectors make */
	uint32_t type;
	uint8_t uuid[16];	/* as stored; formats/ids.h */
	/* A dynamic disk's copy at the start isn't the footer; at a fixed disk's start something begins like one. */
	bool copy_differs;
};

struct vhd_locator {
	uint8_t code[4];
	uint32_t length;
	uint64_t offset;
};

struct vhd_header {
	uint64_t table_offset;
	uint32_t entries;
	uint32_t block_size;
	uint8_t parent_uuid[16];
	uint32_t parent_time;
	uint8_t parent_name[512];	/* UTF-16BE */
	struct vhd_locator locators[VHD_LOCATORS];
};

struct vhd {
	struct image im;	/* first */
	struct image_state current;
	struct vhd_footer f;
	struct vhd_header h;	/* not of a fixed disk */
	uint64_t data_end;	/* where the footer at the end begins; the file's size if it is lost */
	uint32_t bitmap_bytes;	/* before each block's data, a sector multiple */
	unsigned block_bits;
	bool force;
	struct block_cache *cache;
	char owner_table, owner_bitmaps;	/* their addresses name our blocks in the cache */
};

struct vhd_run {
	enum extent_kind kind;
	uint64_t len;		/* guest bytes */
	uint64_t host;		/* EXTENT_DATA: of the first byte */
};

/* vhd_footer.c */
/* Of the len bytes at p; the four at field, where it is stored, count as zeros. */
uint32_t vhd_checksum(const uint8_t *p, size_t len, size_t field);
/* True when the len bytes (511 or 512) at p are a fixed disk's footer with a right checksum. */
bool vhd_is_fixed_footer(const uint8_t *p, size_t len);
/* Finds the footer that counts, and checks it.  *ret_data_end is where the data end: at the footer, or at the file's
 * end when only the copy at the start is left. */
MUST_CHECK int vhd_footer_read(const struct file *file, struct vhd_footer *ret, uint64_t *ret_data_end,
			       struct err *e);
MUST_CHECK int vhd_header_read(const struct file *file, const struct vhd_footer *f, struct vhd_header *ret,
			       struct err *e);

/* vhd_parent.c.  Fills im.parent and info.backing of a differencing image. */
MUST_CHECK int vhd_parent_read(struct vhd *v, struct err *e);

/* vhd_map.c */
/* Checks the table's entries: inside the data, not in metadata, no two blocks on one place. */
MUST_CHECK int vhd_scan(struct vhd *v, struct err *e);
MUST_CHECK int vhd_run_at(struct vhd *v, uint64_t off, uint64_t limit, struct vhd_run *ret, struct err *e);
/* Calls fn for each allocated block, in order; at is the file offset of its bitmap. */
typedef int (*vhd_block_fn)(struct vhd *v, uint64_t block, uint64_t at, void *opaque, struct err *e);
MUST_CHECK int vhd_each_block(struct vhd *v, vhd_block_fn fn, void *opaque, struct err *e);

#endif
