/*
 * run.h - backups for tests without images: made-up chunks through a repo_writer, on a store with faults on demand.
 */
#ifndef KEDGE_TESTS_SUPPORT_RUN_H
#define KEDGE_TESTS_SUPPORT_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "repo/object.h"
#include "repo/writer.h"
#include "transport/registry.h"

#define RUN_CHUNK 4096u

struct run_fx {
	struct store *store;		/* faults around memory */
	struct repo *repo;
	struct cancel cancel;
	atomic_uint notices;
	/* Faults: */
	const char *op, *prefix;	/* which calls count; NULL = none; prefix "" = all */
	enum store_fault_when when;
	unsigned fail_at;		/* the calls from this one on fail, counted from 1; 0 = none */
	unsigned fail_calls;		/* so many; 0 = all from there on */
	int fail_code;
	atomic_uint calls;
	bool stat_fails;		/* once a call has been made to fail */
	pthread_mutex_t lock;		/* guards puts */
	VEC(char *) puts;		/* names put, in order */
};

/* A repository with chunks of RUN_CHUNK and packs of 1 MiB. */
void run_fx_new(struct run_fx *fx);
/* A second store with the same keys and config, and nothing else. */
void run_fx_like(struct run_fx *fx, struct run_fx *other);
void run_fx_done(struct run_fx *fx);
/* No faults from here on; counting starts anew. */
void run_fx_calm(struct run_fx *fx);

/* Content of chunk i of the disk made from seed; every fifth is zero, some repeat, half compress well. */
void run_chunk(uint64_t seed, uint64_t i, uint8_t out[RUN_CHUNK]);
/* Adds chunks [0, n) as a tree.  Returns the first failure's code. */
int run_disk(struct run_fx *fx, struct repo_writer *w, uint64_t seed, uint64_t n, struct tree_ref *ret, struct err *e);
/* A manifest of one VM with one disk. */
struct manifest *run_manifest(const struct tree_ref *t);
/* Open, one disk, commit, close.  *ret_stats may be NULL. */
int run_backup(struct run_fx *fx, uint64_t seed, uint64_t n, bool save, struct tree_ref *ret,
	       struct repo_writer_stats *ret_stats, struct err *e);
/* Reads the tree by a fresh reader and compares every byte. */
void run_verify(struct run_fx *fx, uint64_t seed, uint64_t n, const struct tree_ref *t);
unsigned run_count(struct run_fx *fx, const char *prefix);

#endif
