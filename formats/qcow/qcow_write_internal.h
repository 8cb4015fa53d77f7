/*
 * qcow_write_internal.h - what the parts of the qcow writer share.
 *
 *	qcow_write.c		options, tables, plain clusters, the end
 *	qcow_write_pack.c	compressed clusters
 */
#ifndef KEDGE_FORMATS_QCOW_QCOW_WRITE_INTERNAL_H
#define KEDGE_FORMATS_QCOW_QCOW_WRITE_INTERNAL_H

#include <pthread.h>

#include "base/fs.h"
#include "formats/qcow/qcow_internal.h"
#include "formats/writer.h"

struct qw_pack;

struct qw {
	struct image_writer w;
	char *path;
	struct fs_atomic file;
	bool replace, begun;
	unsigned cluster_bits;
	uint64_t size;			/* of the disk, whole sectors */
	uint64_t l1_entries;
	struct qw_pack *pack;		/* NULL: not compressing */
	pthread_mutex_t lock;		/* guards the rest, and the L2 tables in the file */
	uint64_t *l1;
	uint64_t end;			/* of the file */
};

/* Both with the lock held, or while one thread writes (qcow_write_pack.c). */
/* Sets the L2 entries of n clusters from the first on, all of one table, where *entries isn't 0. */
MUST_CHECK int qw_set_entries(struct qw *q, uint64_t first, const uint64_t *entries, size_t n, struct err *e);
/* A place for len bytes, aligned to a power of two. */
uint64_t qw_alloc(struct qw *q, uint64_t len, uint32_t align);

/* qcow_write_pack.c */
MUST_CHECK int qw_pack_new(struct qw *q, const struct writer_opts *o, struct qw_pack **ret, struct err *e);
void qw_pack_free(struct qw_pack *p);		/* NULL is fine */
MUST_CHECK int qw_pack_write(struct qw *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int qw_pack_end(struct qw *q, struct err *e);

#endif
