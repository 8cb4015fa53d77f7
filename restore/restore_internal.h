/*
 * restore_internal.h - what the files of restore/ share: the pinned backup and the windowed plan.
 */
#ifndef KEDGE_RESTORE_RESTORE_INTERNAL_H
#define KEDGE_RESTORE_RESTORE_INTERNAL_H

#include <pthread.h>

#include "repo/reader.h"
#include "restore/restore.h"

#define RESTORE_MAX_DEFAULT ((size_t)192 << 20)
#define RESTORE_MAX_LEAST ((size_t)32 << 20)

struct restore {
	struct repo *repo;
	const struct backup *backup;
	struct restore_opts opts;
	struct repo_reader *reader;
	uint32_t chunk_size;
	size_t window;			/* items of one plan */
	size_t fetch_bytes;		/* in flight inside repo_fetch */
	struct session_id session;
	bool posted;
	uint64_t total, done;		/* guest bytes, for progress; done under the fetch's own lock */
};

/* The chunks to fetch next: at most rs->window of them, from a walk. */
struct plan {
	struct fetch_item *items;
	size_t n, max;
};
MUST_CHECK int plan_new(const struct restore *rs, struct plan *ret, struct err *e);
void plan_done(struct plan *p);

/* One byte string on its way into a writer: what the fetch's threads share.  lock guards res, rs->done, and w where it
 * isn't concurrent. */
struct restore_run {
	struct restore *rs;
	struct image_writer *w;
	struct restore_result *res;
	uint64_t size;		/* bytes that chunks are cut to */
	pthread_mutex_t lock;
};
void restore_run_init(struct restore_run *j, struct restore *rs, struct image_writer *w, uint64_t size,
		      struct restore_result *res);
void restore_run_done(struct restore_run *j);
/* Tells the writer what the plan holds, fetches it and writes it. */
MUST_CHECK int restore_run_run(struct restore_run *j, const char *domain, struct plan *p, struct err *e);

/*
 * tree_walk_next, where only the bytes before end matter.  A node that can't be had costs the chunks below it: noted as
 * damage, and when salvaging the walk goes on behind them, as over zeros.
 */
MUST_CHECK int restore_walk_next(struct restore *rs, struct restore_result *res, struct tree_walk *w, uint64_t end,
				 uint64_t *ret_index, struct id *ret_id, struct err *e);
/* Notes a chunk that can't be had; returns 0 when salvaging, else e's code with the guest range in its context. */
int restore_note_damage(struct restore *rs, struct restore_result *res, uint64_t off, uint64_t len, struct err *e);
/* How many of the n items (>= 1) follow each other on the disk too, and the bytes of a disk of that size that they
 * cover. */
size_t restore_together(const struct restore *rs, const struct fetch_item *it, size_t n, uint64_t size,
			uint64_t *ret_off, uint64_t *ret_len);
void restore_progress(struct restore *rs, const char *what);

#endif
