/*
 * vmdk_write_internal.h - what the parts of the VMDK writer share.
 *
 *	vmdk_write.c			options, the writer's ops, files and their names
 *	vmdk_write_descriptor.c		the descriptor's text
 *	vmdk_write_sparse.c		a hosted sparse extent
 *	vmdk_write_stream.c		streamOptimized
 */
#ifndef KEDGE_FORMATS_VMDK_VMDK_WRITE_INTERNAL_H
#define KEDGE_FORMATS_VMDK_VMDK_WRITE_INTERNAL_H

#include <pthread.h>

#include "base/buf.h"
#include "base/fs.h"
#include "formats/vmdk/vmdk_internal.h"
#include "formats/writer.h"

#define VW_GRAIN_SECTORS 128u
#define VW_GRAIN_BYTES ((uint64_t)VW_GRAIN_SECTORS * VMDK_SECTOR)
#define VW_TABLE_ENTRIES 512u
#define VW_TABLE_SECTORS (VW_TABLE_ENTRIES * 4 / VMDK_SECTOR)
#define VW_DESCRIPTOR_SECTORS 20u	/* room for an embedded one */
#define VW_SECTOR_MAX ((uint64_t)UINT32_MAX)	/* where a grain may begin in a file */

enum vw_subformat { VW_SPARSE, VW_FLAT, VW_SPLIT_SPARSE, VW_STREAM, VW_VMFS };

/* A file with guest data.  Of a sparse one: */
struct vw_extent {
	struct fs_atomic file;
	char *name;			/* in the descriptor */
	uint64_t start, len;		/* guest bytes, whole sectors */
	pthread_mutex_t lock;		/* guards grains and pages */
	uint64_t dir_entries, copy, dir, first;	/* sectors: the two directories, the first grain */
	uint32_t grains;		/* that have a place */
	uint32_t **pages;		/* the tables: each entry 1 + the grain's place; NULL: nothing in it */
};

struct vw_stream;

struct vw {
	struct image_writer w;		/* first */
	char *path;
	enum vw_subformat subformat;
	bool replace, begun;
	enum preallocation preallocation;
	uint64_t size;			/* of the disk, whole sectors */
	uint32_t cid;
	uint8_t uuid[16], modify[16], vmware_uuid[16], content[16];
	struct vw_extent *extents;
	size_t nextents;
	struct fs_atomic descriptor;	/* fd -1: it is embedded */
	struct vw_stream *stream;
	struct writer_part *part;	/* the stream goes there; NULL: a file of its own */
};

/* Where the stream's first byte is in its file. */
static inline uint64_t vw_base(const struct vw *v)
{
	return v->part ? v->part->off : 0;
}

/* vmdk_write_descriptor.c.  Appends the text. */
MUST_CHECK int vw_descriptor(const struct vw *v, struct buf *b, struct err *e);
/* The sectors of an embedded one, padded with zeros, at sector 1 of what begins at vw_base in fd. */
MUST_CHECK int vw_descriptor_embed(const struct vw *v, int fd, struct err *e);

/* A hosted header: 512 bytes. */
void vw_header(uint8_t p[static 512], const struct vmdk_header *h);

/* vmdk_write_sparse.c.  init lays the file out. */
MUST_CHECK int vw_sparse_init(struct vw *v, struct vw_extent *x, struct err *e);
MUST_CHECK int vw_sparse_write(struct vw_extent *x, const uint8_t *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int vw_sparse_end(const struct vw *v, struct vw_extent *x, struct err *e);
void vw_sparse_done(struct vw_extent *x);

/* vmdk_write_stream.c */
MUST_CHECK int vw_stream_new(struct vw *v, const struct writer_opts *o, struct vw_stream **ret, struct err *e);
MUST_CHECK int vw_stream_write(struct vw *v, const uint8_t *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int vw_stream_end(struct vw *v, struct err *e);
/* Bytes of the stream so far; all of them after its end. */
uint64_t vw_stream_bytes(const struct vw_stream *s);
void vw_stream_free(struct vw_stream *s);

#endif
