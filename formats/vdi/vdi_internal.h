/*
 * vdi_internal.h - what the parts of the VDI reader share.
 *
 *	+------------+--------+----- ... -----+-----------------+-----------------+---
 *	| pre-header | header |   block map   | extra | block 0 | extra | block 1 | ...
 *	+------------+--------+----- ... -----+-----------------+-----------------+---
 *	0            72       map             data
 *
 * The map has a u32 for each block of the disk: where its data are, counted in blocks from the start of the data; or
 * FREE, never written, the parent shows; or ZERO.
 */
#ifndef KEDGE_FORMATS_VDI_VDI_INTERNAL_H
#define KEDGE_FORMATS_VDI_VDI_INTERNAL_H

#include "formats/cache.h"
#include "formats/image.h"

#define VDI_SIGNATURE 0xbeda107fu
#define VDI_SIGNATURE_OFFSET 64
#define VDI_PREHEADER_BYTES 72
#define VDI_TEXT_BYTES 64			/* at its start: who made the image */
#define VDI_HEADER_MAX_BYTES 472		/* all that is looked at, pre-header included */
#define VDI_HEADER1_BYTES 384u			/* of version 1, behind the pre-header; 1.1+ has 400 */
#define VDI_FREE 0xffffffffu
#define VDI_ZERO 0xfffffffeu
#define VDI_BLOCKS_MAX 0x1fffffffu		/* QEMU's limit: 512 TiB in blocks of 1 MiB */
#define VDI_BLOCK_MIN_BYTES 512u
#define VDI_SLICE_ENTRIES 4096u			/* of the map are read and cached at a time */

enum vdi_type { VDI_DYNAMIC = 1, VDI_FIXED, VDI_UNDO, VDI_DIFF };

struct vdi_header {
	char creator[VDI_TEXT_BYTES + 1];	/* who made it, without ornaments; "" = doesn't say */
	uint32_t version;		/* major << 16 | minor */
	uint32_t type;			/* enum vdi_type */
	uint64_t map_offset, data_offset;
	uint64_t size;			/* virtual bytes as stored */
	uint32_t block_size, extra;	/* extra bytes stand before each block's data */
	uint32_t blocks, allocated;
	uint8_t uuid[16], modify[16], parent[16], parent_modify[16];	/* in the order of their text */
};

struct vdi {
	struct image im;
	struct image_state current;
	struct vdi_header h;
	struct block_cache *cache;
	char owner;			/* its address is the cache's owner */
	char damage[ERR_CAUSE_BYTES];
	char note[200];			/* by the check of the map; "": nothing */
};

/* header.c - decodes and checks the header at the start of a file of file_size bytes; of a map that lies elsewhere
 * only the place is checked.  ERR_CORRUPT, ERR_UNSUPPORTED. */
MUST_CHECK int vdi_header_read(const struct file *f, struct vdi_header *ret, struct err *e);
void vdi_header_ids(const struct vdi_header *h, struct image_ids *ret);
bool vdi_is_child(const struct vdi_header *h);

/* map.c */
/* Checks every entry: inside the file, no block of data twice.  Memory: a bit for each block. */
MUST_CHECK int vdi_map_check(struct vdi *v, struct err *e);
/* What guest byte off is, and how far that goes on, at most limit bytes: *ret_host is where its data are. */
MUST_CHECK int vdi_run_at(struct vdi *v, uint64_t off, uint64_t limit, enum extent_kind *ret_kind, uint64_t *ret_host,
			  uint64_t *ret_len, struct err *e);

/* digest.c */
MUST_CHECK int vdi_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e);

#endif
