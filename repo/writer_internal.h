/*
 * writer_internal.h - inside a repo_writer.
 *
 *	caller --> building segment --> sealers (base/workers.h) --> assembler --> uploaders --> index --> index run
 *	           (a kind each)        compress, seal, verify       packs         store_put
 *
 * Everything in flight is bounded: sealers by their budget, packs by the number of uploaders.  The first error stops
 * all stages and is what every later call returns.
 */
#ifndef KEDGE_REPO_WRITER_INTERNAL_H
#define KEDGE_REPO_WRITER_INTERNAL_H

#include <pthread.h>

#include "base/buf.h"
#include "base/workers.h"
#include "repo/id_set.h"
#include "repo/index.h"
#include "repo/segment.h"
#include "repo/sha256.h"
#include "repo/writer.h"

#define WRITER_KINDS 2u			/* [kind - 1]: data, nodes */
#define WRITER_UPLOADERS_MAX 4u
#define RUN_MAX_BYTES ((uint64_t)1 << 30)	/* of packs, then an index run is written */
#define RUN_MAX_S 300.0
#define TICK_S 30			/* uploaders look at the clock this often */
#define CHUNKS_PER_PACK(target) ((target) / 512)	/* bounds directories and what is in flight */

/* What a budget buys. */
struct writer_plan {
	unsigned threads;		/* sealers; 0: in the caller */
	unsigned uploaders;
	size_t pack_target[WRITER_KINDS];
	size_t index_bytes, reader_bytes, seal_bytes;
	uint64_t run_entries;		/* an index run is written when so many wait for it */
};

/* A segment that is being filled. */
struct building {
	enum pack_kind kind;
	VEC(struct segment_item) items;	/* plain is owned */
	size_t bytes;
	bool has_key;
	struct pack_key key;
	uint64_t birth;			/* of the next segment */
	size_t key_bytes;		/* plain bytes sealed under key */
};

/* What goes through the sealers: a segment, or the wish that everything before becomes durable. */
struct seal_job {
	struct repo_writer *w;
	uint64_t flush;			/* != 0: no segment but this flush */
	enum pack_kind kind;
	struct segment_item *items;	/* plain is owned */
	size_t nitems;
	struct pack_key key;
	uint64_t birth;
	struct segment_sealed sealed;
};

/* Where each segment is in the pack, and what was verified of it. */
struct segment_in_pack {
	uint64_t off, len;
	struct segment_sums sums;
};
struct segment_list {
	VEC(struct segment_in_pack) p;
};

/* A pack that is being filled; the assembler's. */
struct open_pack {
	enum pack_kind kind;
	struct buf bytes;
	struct directory *dir;		/* NULL: empty */
	size_t payload;			/* length of the directory, encoded */
	struct sha256_run hash;		/* of the first `hashed` bytes */
	size_t hashed;
	struct segment_list sums;	/* of its segments */
};

/* A finished pack on its way. */
struct done_pack {
	struct done_pack *next;
	enum pack_kind kind;
	char name[OBJECT_NAME_BYTES];
	uint8_t *bytes;
	size_t len, cap;
	uint64_t envelope_off;
	uint32_t envelope_len;
	struct directory *dir;		/* as it was read back; NULL before that */
	struct segment_list sums;
	uint64_t tail;			/* where what follows the segments begins */
	struct sum tail_sum;
	struct index_sums index;	/* what the index must say of it */
};
void done_pack_free(struct done_pack *d);

struct repo_writer {
	struct repo *r;
	struct writer_plan plan;
	uint32_t chunk_size, segment_size;
	int level;
	bool single_chunk_segments;
	struct session *session;
	struct index *x;

	/* The caller's thread alone. */
	struct crypt *crypt;
	struct repo_reader *reader;
	struct building building[WRITER_KINDS];
	VEC(char *) domains;		/* names that items point to */
	uint64_t flushes;
	bool committed, ended;

	struct workers *seal;
	pthread_t assembler, uploader[WRITER_UPLOADERS_MAX];
	bool has_assembler;
	unsigned nuploaders;
	struct open_pack pack[WRITER_KINDS];	/* the assembler's */

	/* Held by whoever changes the index or uses the session, also during I/O: both want one thread at a time.
	 * Never taken with lock held. */
	pthread_mutex_t run_lock;
	uint64_t run_bytes, run_entries;	/* packs that no stored run names; guarded by run_lock */
	uint64_t unnamed;			/* of these, packs of this run; guarded by run_lock */
	double run_time;			/* of the last run; guarded by run_lock */

	pthread_mutex_t lock;		/* guards what follows; never held across I/O */
	pthread_cond_t changed;		/* anything below did */
	struct id_set in_flight;	/* added, and not yet in the index */
	struct done_pack *queue, **queue_tail;
	unsigned npending;		/* packs in the queue or being put */
	uint8_t *spare[WRITER_UPLOADERS_MAX];	/* buffers of data packs that were put, for the next ones */
	unsigned nspare;
	bool assembled;			/* the assembler has ended */
	uint64_t flushed;		/* flushes done */
	struct err failed;		/* first error; code 0 = none */
	bool evicted, outcome_unknown;
	struct repo_writer_stats stats;
};

/* --- writer.c */
/* Records the first error and stops all stages. */
void writer_fail(struct repo_writer *w, const struct err *e);
/* The first error, if any; also looks at the cancel flag. */
MUST_CHECK int writer_check(struct repo_writer *w, struct err *e);

/* --- writer_seal.c: the caller's side and the sealers */
MUST_CHECK int writer_seal_start(struct repo_writer *w, struct err *e);
/* Takes plain. */
MUST_CHECK int writer_seal_add(struct repo_writer *w, enum pack_kind kind, const char *domain, const struct id *id,
			       void *plain, size_t len, struct err *e);
/* Hands segments that are not full to the sealers, then a flush with the number. */
MUST_CHECK int writer_seal_flush(struct repo_writer *w, uint64_t flush, struct err *e);
void building_done(struct building *b);
void seal_job_free(void *job);

/* --- writer_pack.c: segments to packs; the assembler's thread, later the closing one */
/* The finished pack; NULL when p is empty. */
MUST_CHECK int writer_pack_finish(struct repo_writer *w, struct open_pack *p, struct done_pack **ret, struct err *e);
void open_pack_done(struct open_pack *p);
/* As done_pack_free, but the buffer of a data pack is kept for another: every page of a new one would have to be found
 * and zeroed by the kernel. */
void writer_pack_recycle(struct repo_writer *w, struct done_pack *d);
/* Reads a finished pack back from the bytes that will be stored (d->dir, d->index), and compares with what was summed
 * up when each segment was verified.  ERR_INTERNAL: memory or codec error. */
MUST_CHECK int writer_pack_read_back(struct repo_writer *w, struct done_pack *d, struct err *e);
/* Whether its bytes still are what they were. */
MUST_CHECK int writer_pack_same(const struct done_pack *d, const char *what, struct err *e);
void *writer_assembler(void *w);

/* --- writer_put.c: packs to the store */
/* Waits for room, then queues d (taken, also on failure). */
MUST_CHECK int writer_put_queue(struct repo_writer *w, struct done_pack *d, struct err *e);
/* Puts one and adds it to the index; d stays the caller's. */
MUST_CHECK int writer_put_pack(struct repo_writer *w, struct done_pack *d, struct err *e);
/* Writes an index run when one is due, or always when asked; renews the session, looks for an eviction. */
MUST_CHECK int writer_put_run(struct repo_writer *w, bool now, struct err *e);
/* Looks for an eviction of this session and remembers it; run_lock is held. */
MUST_CHECK int writer_check_evicted(struct repo_writer *w, struct err *e);
void *writer_uploader(void *w);

/* --- writer_resume.c */
/* Packs that an interrupted run left behind become part of the index. */
MUST_CHECK int writer_resume(struct repo_writer *w, struct err *e);

#endif
