/*
 * writer.h - writing a fresh image: the interface every format's writer implements.
 *
 * A writer gets one disk (and, where the format has them, its internal snapshots) as writes of guest bytes in any
 * order; what is never written reads as zeros.  Each guest byte is written at most once per state.  Nothing appears
 * under the target's name before finish succeeded (files); abort, or a crash, leaves the target as it was.  Over a
 * backing file what is never written reads as that has it, and zeros are to be told.
 *
 * States: writer_begin_state is called for each snapshot, oldest first, then for the current state; a plain image is
 * just the current state.  Within a state of a format that can share (qcow2), writer_share says that a range is the
 * same as in an earlier state of this image, so that clusters are shared.
 *
 * Threads: writer_write may be called from several threads on disjoint cluster-aligned ranges if writer_is_concurrent
 * says so; everything else from one.  Errors: after a failed call only writer_abort is allowed.
 */
#ifndef KEDGE_FORMATS_WRITER_H
#define KEDGE_FORMATS_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct image_writer;
struct image_ids;
struct image_secret;

enum preallocation { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };

struct writer_state_opts {
	const char *name;		/* snapshot's name; NULL: this is the current state, the last one */
	const char *id;			/* snapshot's id; NULL = next number */
	uint64_t size;			/* virtual bytes of this state */
	int64_t date_ns;
	uint64_t vm_clock_ns;
	uint64_t vm_state_bytes;	/* 0 = none; content through writer_write_vm_state */
};

/* A place in an open file, for an image that is a part of it. */
struct writer_part {
	int fd;				/* read-write; stays the caller's */
	uint64_t off;			/* of the image's first byte: nothing is behind it */
	uint64_t len;			/* set by writer_finish: bytes of the image */
};

struct writer_opts {
	const char *path;		/* target file, or a block device (raw only) */
	uint64_t size;			/* virtual bytes of the current state */
	uint64_t max_size;		/* largest state's size (>= size); 0 = size */
	bool replace;			/* overwrite an existing file */
	uint32_t cluster_size;		/* 0 = the format's default (qcow2: 64 KiB) */
	bool compress;			/* qcow2: deflate clusters */
	bool zstd;			/* qcow2 (version 3), with compress: by zstd instead */
	bool extended_l2;		/* qcow2 (version 3): entries with subclusters; clusters of at least 16 KiB */
	enum preallocation preallocation;
	unsigned threads;		/* for compression; 0 = 1 */
	size_t max_bytes;		/* memory that the writer may use; 0 = 64 MiB */
	mode_t mode;			/* of a new file; 0 = 0600 */
	/* qcow2: encrypted with LUKS, which this opens; borrowed until create returns; NULL = not encrypted.  Excludes
	 * compress, preallocation and id_seed: keys are random. */
	const struct image_secret *secret;
	unsigned secret_ms;		/* how long trying a passphrase is to take; 0 = LUKS_MS_DEFAULT */
	/* qcow2 (version 3): an overlay over this file, named as the image is to name it, with its format as QEMU calls
	 * it; NULL = none.  One state, no preallocation. */
	const char *backing, *backing_format;
	const char *subformat;		/* one of struct format's subformats; NULL = the first of them */
	/* For formats that name their images (formats/ids.h): */
	const struct image_ids *ids;	/* used as they are where not ""; NULL = none */
	const char *id_seed;		/* all other ids are made from this, not at random, and writes come in order, so
					 * that the same content gives the same file; NULL = at random */
	/* vmdk as streamOptimized alone: the image goes there, path is only what it is called.  Must outlive the writer,
	 * which neither syncs the file nor gives it a name.  NULL: a file of its own. */
	struct writer_part *part;
	uint64_t piece_size;		/* split: bytes of each piece; 0 = the default */
	int64_t time_ns;		/* what is noted as the time of creation; 0 = now */
};

struct writer_ops {
	const char *format;
	bool concurrent;		/* write from several threads */
	bool snapshots;			/* more than one state */
	int (*begin_state)(struct image_writer *w, const struct writer_state_opts *o, struct err *e);
	/* buf may be changed by nobody until the call returns; all-zero parts may be left out by the writer. */
	int (*write)(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e);
	/* These guest bytes will be written, and each 64 KiB of them hold something other than zeros: a hint, so that
	 * neighbours get their place together, whatever order they come in, and a full target is known before much is
	 * written.  What is not written after all reads as zeros.  Not while write runs.  NULL: nothing to do. */
	int (*expect)(struct image_writer *w, uint64_t off, uint64_t len, struct err *e);
	/* These guest bytes are zero: matters only to targets with old content (block devices, backing files).  NULL:
	 * nothing to do. */
	int (*zero)(struct image_writer *w, uint64_t off, uint64_t len, struct err *e);
	/* [off, off+len) of the state that is being written equals that of the state begun as number from (0 = first).
	 * Cluster-aligned or up to the end.  NULL: not supported, write the bytes. */
	int (*share)(struct image_writer *w, uint32_t from, uint64_t off, uint64_t len, struct err *e);
	int (*write_vm_state)(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e);
	/* Writes what is left, makes it durable, gives the target its name.  Frees w whether it succeeds or not. */
	int (*finish)(struct image_writer *w, struct err *e);
	/* Removes the temporary file; frees w. */
	void (*abort)(struct image_writer *w);
};

/* First member of every implementation. */
struct image_writer {
	const struct writer_ops *ops;
	uint32_t cluster_size;	/* natural write unit in bytes, a power of two */
	/* Over a backing file: of so many bytes (a power of two, at most cluster_size) all or nothing must be written or
	 * told to be zero, since what isn't of them reads as zeros.  0 = cluster_size. */
	uint32_t backing_unit;
	uint64_t size;		/* virtual bytes of the state being written */
	bool in_order;		/* writes must come in rising order, from one thread */
};

MUST_CHECK int writer_begin_state(struct image_writer *w, const struct writer_state_opts *o, struct err *e);
MUST_CHECK int writer_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int writer_expect(struct image_writer *w, uint64_t off, uint64_t len, struct err *e);
MUST_CHECK int writer_zero(struct image_writer *w, uint64_t off, uint64_t len, struct err *e);
MUST_CHECK int writer_share(struct image_writer *w, uint32_t from, uint64_t off, uint64_t len, struct err *e);
MUST_CHECK int writer_write_vm_state(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int writer_finish(struct image_writer *w, struct err *e);
void writer_abort(struct image_writer *w);	/* NULL is fine */
/* True when writer_write may be called from several threads at once (disjoint cluster-aligned ranges). */
static inline bool writer_is_concurrent(const struct image_writer *w)
{
	return w->ops->concurrent && !w->in_order;
}

#endif
