/*
 * restore.h - points out of a repository: into fresh images, onto block devices, or as a stream.
 *
 * A struct restore pins one backup while it lives (a read session, where the store may be written) and owns a reader.
 * Every chunk's id is verified before its bytes reach the target.  Memory stays within restore_opts.max_bytes, whatever
 * the size of the disk: chunks are fetched in windows, and within a window sorted by pack, so that each segment is
 * fetched and decoded once.
 *
 * Threads: one struct restore, one thread; it makes its own.
 */
#ifndef KEDGE_RESTORE_RESTORE_H
#define KEDGE_RESTORE_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/progress.h"
#include "base/vec.h"
#include "formats/writer.h"
#include "repo/backups.h"
#include "repo/manifest.h"
#include "repo/repo.h"

struct restore_opts {
	unsigned threads;		/* decoders; 0 = the CPUs this process may use */
	size_t max_bytes;		/* 0 = 192 MiB; less makes it slower, not wrong; at least 32 MiB */
	const struct backup *also;	/* is pinned too; NULL */
	bool salvage;			/* go on where chunks can't be had: zeros there, and a list */
	struct cancel *cancel;
	const struct progress *progress;
};

/* A range of guest bytes that could not be restored, and why. */
struct restore_damage {
	uint64_t off, len;
	char text[480];
};

struct restore_result {
	uint64_t bytes_written;		/* guest bytes that were not zero */
	uint64_t bytes_fetched;		/* read from the store */
	VEC(struct restore_damage) damage;	/* at most RESTORE_DAMAGE_MAX rows; ndamage counts all chunks */
	uint64_t ndamage;
};
#define RESTORE_DAMAGE_MAX 1000
void restore_result_done(struct restore_result *r);

struct restore;

/* Pins the backup and loads the index.  b and r are borrowed until restore_free. */
MUST_CHECK int restore_new(struct repo *r, const struct backup *b, const struct restore_opts *o, struct restore **ret,
			   struct err *e);
void restore_free(struct restore *rs);	/* NULL is fine */
DEFINE_CLEANUP(struct restore, restore_free)

/*
 * Writes a stored byte string (a disk in a state) to w, whose present state has the tree's size or a larger one: what
 * lies behind the tree's end is zero.  Does not finish w. Without salvage the first chunk that can't be had is an error
 * (ERR_CORRUPT or ERR_NOTFOUND, naming the guest range), and ret->ndamage is not 0.  *ret accumulates; zero it before
 * first use, also valid on failure.
 */
MUST_CHECK int restore_tree(struct restore *rs, const char *domain, const struct tree_ref *t, struct image_writer *w,
			    struct restore_result *ret, struct err *e);

/*
 * Writes to w, an overlay over a file that holds what base is, all in which t differs from it; base has the same
 * domain. w's present state has t's size or a larger one.  Does not finish w.  Otherwise as restore_tree; nodes that
 * can't be had are an error also when salvaging.
 */
MUST_CHECK int restore_thin(struct restore *rs, const char *domain, const struct tree_ref *base,
			    const struct tree_ref *t, struct image_writer *w, struct restore_result *ret,
			    struct err *e);

/*
 * Writes disk as it is in the current state together with all its internal snapshots in that backup, oldest first, VM
 * states included, sharing what is equal.  The current state gets size bytes, its own or more.  w was created for that
 * size with max_size; does not finish w.
 */
MUST_CHECK int restore_with_snapshots(struct restore *rs, uint32_t disk, uint64_t size, struct image_writer *w,
				      struct restore_result *ret, struct err *e);
/* The largest size of the disk in the states that restore_with_snapshots writes; for writer_opts.max_size. */
uint64_t restore_max_size(const struct manifest *m, uint32_t disk);

/* Where a stream goes, in rising order without gaps. */
struct restore_stream {
	int (*data)(void *opaque, const void *buf, size_t len, struct err *e);
	int (*zero)(void *opaque, uint64_t len, struct err *e);
	void *opaque;
};
/* Streams [off, off+len) of a stored byte string; past its end is ERR_INVALID. */
MUST_CHECK int restore_stream(struct restore *rs, const char *domain, const struct tree_ref *t, uint64_t off,
			      uint64_t len, const struct restore_stream *out, struct restore_result *ret,
			      struct err *e);

#endif
