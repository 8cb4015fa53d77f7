/*
 * ingest_internal.h - what the files of repo/ingest share.
 *
 *	compare.c	two maps walked in step, and what that means for the chunk grid
 *	states.c	states of each disk, which of them are asked for
 *	planner.c	the best base that can be proven for each
 *	proof.c		rules 1 and 3: is a state, a layer, the same as in an earlier backup?
 *	pipeline.c	ranges of chunks read and hashed by workers, taken in order
 *	build.c		one state's tree
 *	nodes.c		where tree nodes come from and go to during a run
 *	audit.c		re-reading a sample of what was called unchanged
 *	record.c	the manifest
 *	tree_of.c	an image's tree without a run
 *	ingest.c	the run
 */
#ifndef KEDGE_REPO_INGEST_INGEST_INTERNAL_H
#define KEDGE_REPO_INGEST_INGEST_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/vec.h"
#include "formats/chain.h"
#include "repo/ingest/ingest.h"

/* --- compare.c ------------------------------------------------------------------------------------------------- */

/* One state of one image, its map read forward. image NULL: nothing but zeros. */
struct map {
	struct image *image;
	uint32_t state;
	uint64_t size;
	struct extent cur;	/* the last one asked for; len 0: none yet */
};

enum run_kind {
	RUN_EMPTY,	/* zeros, as in the base */
	RUN_KEEP,	/* data, the same places as in the base */
	RUN_ZERO,	/* zeros now, data in the base */
	RUN_READ,	/* data that the base does not have there */
};
struct chunk_run {
	enum run_kind kind;
	uint64_t from, to;	/* chunk indexes */
};

/* What a state's chunks are against a base: runs, rising, each as long as may be.  Work is per extent. */
struct grid {
	struct map base, next;
	uint32_t chunk_size;
	uint64_t pos, end;	/* bytes: where the next piece starts; end of the grid */
	struct chunk_run ahead;	/* found, not yet returned; from == to: none */
};

void map_init(struct map *m, struct image *im, uint32_t state);
/* base NULL: against zeros.  Chunks [first, last) only, cut to those that next has. */
MUST_CHECK int grid_init(struct grid *g, const struct map *base, const struct map *next, uint32_t chunk_size,
			 uint64_t first, uint64_t last, struct err *e);
/* 1 and *ret; 0: no more.  After an error the grid is spent. */
MUST_CHECK int grid_next(struct grid *g, struct chunk_run *ret, struct err *e);

/* --- plan ------------------------------------------------------------------------------------------------------ */

#define NO_BASE UINT32_MAX
#define INGEST_DEFAULT_BYTES ((size_t)64 << 20)

/* One state of one disk, in the order of work. */
struct plan_state {
	enum state_kind kind;
	char *name;			/* snapshot's name, layer's file, "current" */
	char *selector;
	const struct ingest_snapshot *machine;	/* it is one of the machine; NULL */
	bool name_unique;		/* among the snapshots of its disk */
	struct image *image;		/* the chain's, or view */
	struct image *view;		/* owned: a lower layer as a disk of its own; else NULL */
	uint32_t index;			/* state in image */
	uint32_t layer;			/* its top, in the chain */
	uint64_t size;
	bool has_digest;
	uint8_t digest[32];
	bool selected;			/* goes into the manifest; else it is here as a base only */

	const struct manifest_state_disk *proof;	/* an earlier backup's row that is proven equal; NULL */
	const struct manifest_disk *proof_disk;		/* that row's */
	char *proof_text;		/* that point, for people */
	uint32_t base;			/* state to start from; NO_BASE */
	enum read_how how;
	uint64_t bytes_max;

	/* During the run: */
	bool done;			/* tree holds it */
	struct err failed;		/* why it can't be read; code 0 = it can */
	struct tree_ref tree;
	struct tree_ref vm_state;
	uint32_t did_base;		/* the state that it was read against; NO_BASE */
	enum read_how did;
	uint64_t bytes_read;
};

/* What is still believed of a disk; less when it is read again. */
enum trust {
	TRUST_ALL,
	TRUST_RUN,	/* trees of earlier backups could not be read: bases of this run only */
	TRUST_NOTHING,	/* a claim proved false, or the user wants it so: everything is read */
};

struct plan_disk {
	const struct ingest_disk *d;
	VEC(struct plan_state) states;	/* order of work: lower layers, snapshots, current */
	enum trust trust;
	bool settled;			/* all layers of the chain are, now */
	uint64_t owed;			/* audit bytes carried over from the last backup */
	uint64_t bytes_read, bytes_unchanged, bytes_audited, audit_owed;
	double seconds;			/* spent on reading it */
	bool changed;			/* its files changed during the run */
};

struct ingest_plan {
	struct repo *r;
	struct ingest_opts opts;	/* the caller's struct, copied; what it points to is borrowed */
	const struct ingest_opts *o;	/* &opts */
	uint32_t chunk_size;
	int64_t start_ns;
	double start;
	bool has_boot;			/* boot is this host's start */
	uint8_t boot[16];
	bool look_up;			/* trees of earlier backups are reused only after looking each id up */
	struct plan_disk *disks;	/* o->ndisks */
	struct ingest_plan_row *rows;
	size_t nrows;
	uint64_t bytes_total;
};

/* A failure of the machine or of kedge; anything else while reading a source makes that source incomplete. */
bool ingest_fatal(int code);
/* The snapshot's id and time: the machine's, else the image's. */
const char *plan_state_id(const struct plan_state *st);
int64_t plan_state_date(const struct plan_state *st);
void plan_state_map(const struct plan_state *st, struct map *ret);
/* The guest bytes of chunks [from, to) of a state of that size. */
uint64_t plan_bytes(uint64_t size, uint32_t chunk_size, uint64_t from, uint64_t to);

/* --- states.c -------------------------------------------------------------------------------------------------- */

/* Fills in d->states from d->d. */
MUST_CHECK int states_add(struct plan_disk *d, struct err *e);
/* Marks those that the options ask for; ERR_NOTFOUND for a selector that fits none. */
MUST_CHECK int states_select(struct ingest_plan *p, struct err *e);

/* --- proof.c --------------------------------------------------------------------------------------------------- */

/* Every layer of the current state is settled now: what is read of them now can go unread later. */
bool proof_chain_settled(const struct ingest_plan *p, const struct chain *c);
/* Sets st->proof where rule 1 (snapshots) or rule 3 (lower layers, the current state) holds.  Computes st->digest when
 * it is needed for that. */
MUST_CHECK int proof_find(struct ingest_plan *p, const struct plan_disk *d, struct plan_state *st, struct err *e);
/* Sets unseen[k] for each layer k of which the state's proof holds what may not have been read when it was settled,
 * since this host was started.  st->proof is set. */
void proof_unseen(const struct ingest_plan *p, const struct plan_disk *d, const struct plan_state *st, bool *unseen);
/* The newest backup of this VM that may be built upon; NULL. */
const struct manifest *proof_last(const struct ingest_plan *p);

/* --- nodes.c --------------------------------------------------------------------------------------------------- */

/* Nodes of this run can't be read back before they are durable: the last ones are kept in memory. */
struct nodes;
MUST_CHECK int nodes_new(struct repo_writer *w, size_t max_bytes, struct nodes **ret, struct err *e);
void nodes_free(struct nodes *n);
DEFINE_CLEANUP(struct nodes, nodes_free)
/* For tree_walk and tree_builder; borrowed from n. */
const struct node_source *nodes_source(struct nodes *n);
/* tree_builder_opts.emit with n as opaque. */
int nodes_emit(void *n, const uint8_t *encoded, size_t len, struct id *ret_id, struct err *e);
/* True once a node of an earlier run could not be had, until asked. */
bool nodes_missed(struct nodes *n);

/* --- pipeline.c ------------------------------------------------------------------------------------------------ */

enum item_kind { ITEM_READ, ITEM_ZERO };

/* Consecutive chunks on their way from an image to the repository. */
struct item {
	enum item_kind kind;
	const struct repo *repo;
	struct cancel *cancel;
	struct image *image;
	uint32_t state;
	bool vm_state;		/* of the saved machine memory, not the disk */
	bool cold;		/* was not in the page cache: to be dropped from it after use */
	uint32_t chunk_size;
	uint64_t size;		/* of the byte string that the chunks belong to */
	uint64_t from, to;	/* chunk indexes */
	/* ITEM_READ, filled in by a worker: */
	uint8_t *buf;		/* the chunks */
	struct id *ids;		/* one a chunk, not for zero ones */
	bool *zero;
	struct err failed;	/* the source could not be read; code 0 = fine */
};

/* Takes items in the order in which they went in, on the thread that calls the pipe.  The item stays the pipe's. */
typedef int (*item_sink)(void *opaque, struct item *it, struct err *e);

struct pipe;
/* w NULL: nothing is stored; of the plan, r, o and chunk_size count then. */
MUST_CHECK int pipe_new(struct ingest_plan *p, struct repo_writer *w, struct pipe **ret, struct err *e);
void pipe_free(struct pipe *pl);
DEFINE_CLEANUP(struct pipe, pipe_free)
/* Who gets what is put in from here on; the pipe must be empty.  layers: of the images' chain, for the page cache;
 * may be NULL. */
void pipe_aim(struct pipe *pl, const char *disk, const struct chain *chain, item_sink sink, void *opaque);
/* Puts chunks [from, to) of a state in, in pieces; calls the sink for what is ready.  like: what all pieces share. */
MUST_CHECK int pipe_put(struct pipe *pl, const struct item *like, uint64_t from, uint64_t to, struct err *e);
/* Waits for everything put in. */
MUST_CHECK int pipe_drain(struct pipe *pl, struct err *e);
/* Waits for everything put in and forgets it. */
MUST_CHECK int pipe_discard(struct pipe *pl, struct err *e);
/* Counts what was read beside the pipe. */
void pipe_count(struct pipe *pl, uint64_t bytes_read, uint64_t bytes_hashed);
uint64_t pipe_bytes_read(const struct pipe *pl);
uint64_t pipe_bytes_hashed(const struct pipe *pl);

/* --- build.c --------------------------------------------------------------------------------------------------- */

/*
 * Trees of a state.  A source that can't be read sets st->failed and is no error; the tree is then not written.  A
 * base whose nodes can't be read is an error, and nodes_missed() tells.  The pipe is empty after (unless the error is
 * fatal).
 */
struct run;
MUST_CHECK int build_state(struct run *run, const struct plan_disk *d, struct plan_state *st,
			   const struct plan_state *base, struct err *e);
MUST_CHECK int build_vm_state(struct run *run, const struct plan_disk *d, struct plan_state *st, struct err *e);
/* The tree from, each id of it looked up; chunks without a copy that may be built upon are read. */
MUST_CHECK int build_copy(struct run *run, const struct plan_disk *d, struct plan_state *st,
			  const struct tree_ref *from, bool vm_state, struct tree_ref *ret, struct err *e);

/* --- audit.c --------------------------------------------------------------------------------------------------- */

enum audit_verdict { AUDIT_FINE, AUDIT_FALSE, AUDIT_NO_TREE };
struct audit_finding {
	uint32_t state;
	uint32_t base;		/* what it was called equal to; NO_BASE: its tree in an earlier backup */
	uint64_t at;		/* guest byte */
};
/*
 * Re-reads a sample of what the disk's states were called equal to without being read.  AUDIT_FALSE: it is not, *ret
 * says where.  AUDIT_NO_TREE: the tree to compare with can't be read.  A source that can't be read comes out as a
 * problem of the run.
 */
MUST_CHECK int audit_disk(struct run *run, struct plan_disk *d, struct audit_finding *ret, struct err *e);

/* --- ingest.c -------------------------------------------------------------------------------------------------- */

struct run {
	struct ingest_plan *p;
	struct repo_writer *w;
	struct nodes *nodes;
	struct pipe *pipe;
	struct crypt *crypt;	/* of the thread that runs it */
	struct manifest *m;	/* problems are put in as they come up */
	struct ingest_result res;
	double audit_seconds;	/* AUDIT_SECONDS: what is left */
};
/* Adds a problem; disk, state may be NULL.  incomplete: the backup does not have all that it should. */
MUST_CHECK int run_problem(struct run *run, const char *disk, const char *state, bool incomplete, struct err *e,
			   const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* --- record.c -------------------------------------------------------------------------------------------------- */

/* Fills in everything that the run has found out: disks, states, machine, statistics. */
MUST_CHECK int record_fill(struct run *run, struct err *e);

#endif
