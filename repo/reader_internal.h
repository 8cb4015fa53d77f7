/*
 * reader_internal.h - what repo_reader and repo_fetch share: the index at hand, caches, and one chunk the careful way.
 */
#ifndef KEDGE_REPO_READER_INTERNAL_H
#define KEDGE_REPO_READER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "repo/reader.h"
#include "repo/segment.h"

/*
 * Values with a memory budget, the least recently used go first.  A value in use stays, whatever the budget.
 * Threads: any.
 */
struct read_cache;
struct read_ref;	/* a use of a value */
struct read_key {
	struct id pack;		/* hash of the pack */
	uint32_t segment;	/* READ_KEY_DIRECTORY: its directory */
};
#define READ_KEY_DIRECTORY UINT32_MAX
MUST_CHECK int read_cache_new(size_t max_bytes, struct read_cache **ret, struct err *e);
void read_cache_free(struct read_cache *c);	/* nothing may be in use; NULL is fine */
/* NULL: not there. */
struct read_ref *read_cache_get(struct read_cache *c, const struct read_key *key);
/* Takes value, also on failure.  Is there one with this key already, that one is returned. */
MUST_CHECK int read_cache_add(struct read_cache *c, const struct read_key *key, void *value, size_t bytes,
			      void (*free_value)(void *), struct read_ref **ret, struct err *e);
void *read_ref_value(const struct read_ref *ref);
void read_cache_unref(struct read_cache *c, struct read_ref *ref);	/* NULL is fine */

/* An index in use: a reload puts another in its place while this one is still being read from. */
struct read_index {
	struct index *x;
	struct protocol_view *view;	/* x was loaded by it; NULL when x is not ours */
	bool owned;
	unsigned refs;			/* guarded by repo_reader.lock */
};

struct repo_reader {
	struct repo *r;
	uint32_t chunk_size;
	size_t index_bytes;
	struct read_cache *cache;
	pthread_mutex_t reload_lock;	/* held through a reload: one at a time.  Taken before lock */
	pthread_mutex_t lock;		/* guards what follows */
	struct read_index *index;	/* the newest */
	double reloaded;		/* when, clock_mono; 0 = never */
	VEC(struct segment_codec *) idle;
};

/* One thread's work with a reader. */
struct read_ctx {
	struct repo_reader *rd;
	struct segment_codec *codec;
	enum pack_kind kind;
	const char *domain;
	uint64_t stored;		/* bytes read from the store */
};
MUST_CHECK int read_begin(struct repo_reader *rd, enum pack_kind kind, const char *domain, struct read_ctx *ret,
			  struct err *e);
void read_end(struct read_ctx *c);	/* safe on a zeroed struct */

struct read_index *read_index_hold(struct repo_reader *rd);
void read_index_drop(struct repo_reader *rd, struct read_index *ri);
/* Replaces *ri, in use by the caller, by a newer index.  1: done; 0: there is none, or it was too short a time ago. */
MUST_CHECK int read_index_reload(struct repo_reader *rd, struct read_index **ri, struct err *e);

/* True for errors that no other copy and no reload can help. */
bool read_is_final(int code);
/* The directory of a pack: a use of a struct directory. */
MUST_CHECK int read_directory(struct read_ctx *c, const struct pack_info *pack, struct read_ref **ret, struct err *e);
/* One chunk or node, verified, from whichever copy is good; reloads the index once when none is. */
MUST_CHECK int read_item(struct read_ctx *c, const struct id *id, uint8_t *buf, size_t cap, size_t *ret_len,
			 struct err *e);
/* The bases of delta chunks, by way of read_item's caches. */
struct segment_bases read_bases(struct read_ctx *c);

#endif
