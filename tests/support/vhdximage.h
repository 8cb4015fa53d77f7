/*
 * vhdximage.h - VHDX images made by hand, field by field, for tests of the reader.
 *
 *	1 MiB log (1 MiB), 2 MiB metadata, 3 MiB table (1 MiB), from 4 MiB on blocks as they are added
 */
#ifndef KEDGE_TESTS_SUPPORT_VHDXIMAGE_H
#define KEDGE_TESTS_SUPPORT_VHDXIMAGE_H

#include <inttypes.h>

#include "formats/image.h"
#include "formats/vhdx/vhdx_format.h"

#define VHDX_IMAGE_ITEMS 65536	/* in the metadata: parameters 8, size 8, disk id 16, sector sizes 4, 4 bytes */
#define VHDX_IMAGE_DATA_WRITE "{0a0b0c0d-1111-2222-3333-444455556666}"	/* of every image */
#define VHDX_IMAGE_LOG_BYTES (1 * MIB)

struct vhdx_parent {
	const char *linkage, *linkage2, *relative, *volume, *absolute;	/* NULL: not there */
};

struct vhdx_image {
	int fd;			/* of a file without a name */
	uint64_t size;
	uint32_t block_size, sector;
	uint64_t blocks;	/* place of the first block */
	uint64_t bitmap;	/* place of the bitmap added last */
	uint64_t end;		/* where the next block goes */
};

void vhdx_image_new(struct vhdx_image *v, uint64_t size, uint32_t block_size, uint32_t sector,
		    const struct vhdx_parent *p);
void vhdx_image_done(struct vhdx_image *v);
void vhdx_image_put(struct vhdx_image *v, uint64_t at, const void *p, size_t len);
/* Header 0 or 1; log_guid NULL: none. */
void vhdx_image_header(struct vhdx_image *v, int which, uint64_t sequence, const char *log_guid);
/* Both region tables: metadata, table; the third is extra.  n = 0: those two. */
void vhdx_image_regions(struct vhdx_image *v, const uint8_t extra[32], uint32_t n);
/* Sets the table entry with this index. */
void vhdx_image_entry(struct vhdx_image *v, uint64_t index, uint64_t entry);
/* Adds a block whose first and last 64 KiB, or all its bytes if there are no more than 1 MiB, are value. */
void vhdx_image_block(struct vhdx_image *v, uint64_t block, enum vhdx_block_state state, uint8_t value);
/* Adds a sector bitmap block that holds the bits of this block. */
void vhdx_image_bitmap(struct vhdx_image *v, uint64_t block, const uint8_t *bits, size_t len);
/* The table index of the sector bitmap for a block. */
#define VHDX_IMAGE_BITMAP_OF(v, block) vhdx_image_bitmap_index((v), (block))
uint64_t vhdx_image_bitmap_index(const struct vhdx_image *v, uint64_t block);

/* Writes one page, or zeros. */
struct vhdx_image_write {
	uint64_t off;
	uint64_t zeros;		/* bytes; 0: one page of value */
	uint8_t value;
};
/* An entry at pos in the log, round its end if need be; returns the place behind it in the log. */
uint32_t vhdx_image_log(struct vhdx_image *v, uint32_t pos, uint64_t sequence, uint32_t tail, const char *log_guid,
			const struct vhdx_image_write *w, uint32_t n, uint64_t flushed, uint64_t last);

/* The checksum of len bytes of the log made right again. */
void vhdx_image_log_seal(struct vhdx_image *v, uint32_t pos, size_t len);

/* Opens it; the image is the caller's.  Fails the test if it can't. */
struct image *vhdx_image_open(struct vhdx_image *v, bool force);
/* It must not open, with this code, and these words in the cause. */
void vhdx_image_refused(struct vhdx_image *v, int code, const char *cause);
/* Copies it to a file. */
void vhdx_image_save(struct vhdx_image *v, const char *path);

#endif
