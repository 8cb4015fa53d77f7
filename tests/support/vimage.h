/*
 * vimage.h - small VDI images built in memory, right or wrong in any field.
 *
 * Header version 1.1, the map at 512, the data right behind the map at the next multiple of 512.  Everything aborts on
 * failure: it is for tests.
 */
#ifndef KEDGE_TESTS_SUPPORT_VIMAGE_H
#define KEDGE_TESTS_SUPPORT_VIMAGE_H

#include "formats/image.h"

/* Offsets of header fields in the file. */
#define VIMAGE_VERSION 68
#define VIMAGE_HEADER_SIZE 72
#define VIMAGE_TYPE 76
#define VIMAGE_MAP 340
#define VIMAGE_DATA 344
#define VIMAGE_SIZE 368
#define VIMAGE_BLOCK 376
#define VIMAGE_EXTRA 380
#define VIMAGE_BLOCKS 384
#define VIMAGE_ALLOCATED 388
#define VIMAGE_UUID 392
#define VIMAGE_MODIFY 408
#define VIMAGE_PARENT 424
#define VIMAGE_PARENT_MODIFY 440

struct vimage {
	uint8_t *p;
	size_t len;
	uint32_t block, extra, blocks, allocated;
	size_t map, data;
};

/* A base image whose UUIDs are made of the byte id; no block is allocated. */
void vimage_init(struct vimage *v, uint64_t size, uint32_t block, uint32_t extra, uint8_t id);
/* The same with a header of version 0. */
void vimage_init0(struct vimage *v, uint64_t size, uint32_t block, uint8_t id);
/* Makes it a child of the image with that id. */
void vimage_child(struct vimage *v, uint8_t parent);
void vimage_done(struct vimage *v);
void vimage_le32(struct vimage *v, size_t at, uint32_t value);
void vimage_le64(struct vimage *v, size_t at, uint64_t value);
/* Sets the map entry. */
void vimage_entry(struct vimage *v, uint32_t block, uint32_t entry);
/* A block of data, every byte `fill`; returns where it is in the file. */
size_t vimage_fill(struct vimage *v, uint32_t block, uint8_t fill);
/* The UUID of the image (of its modification) made of id, as text. */
const char *vimage_uuid(uint8_t id, bool modify, char buf[40]);
int vimage_fd(const struct vimage *v);		/* an open memory file, the caller's */
void vimage_save(const struct vimage *v, const char *path);
int vimage_open(const struct vimage *v, bool force, struct image **ret, struct err *e);

#endif
