/*
 * tree.h - the tree that maps a disk's chunk grid to ids (docs/format.md, section 7): walking, comparing, and building
 * with an older tree as the start, so that work follows change.
 *
 * Threads: each object in one thread.
 */
#ifndef KEDGE_REPO_TREE_H
#define KEDGE_REPO_TREE_H

#include "repo/manifest.h"
#include "repo/repo.h"

/* The least height >= 1 that covers size. */
uint32_t tree_height(uint64_t size, uint32_t chunk_size);

/* One node, decoded. */
struct node {
	uint32_t level;
	uint8_t present[32];		/* bitmap */
	struct id child[TREE_FANOUT];	/* zeroed where not present */
};
/* Writes at most NODE_MAX_BYTES; returns the length.  A node without children has no encoding: asserts. */
size_t node_encode(const struct node *n, uint8_t out[NODE_MAX_BYTES]);
MUST_CHECK int node_decode(const void *p, size_t len, uint32_t level, struct node *ret, struct err *e);
static inline bool node_has(const struct node *n, uint32_t i) { return n->present[i / 8] >> (i % 8) & 1; }

/* Where nodes come from: repo_reader, a put-only host's own state, a test. */
struct node_source {
	/* The verified encoding of node id; len <= NODE_MAX_BYTES. */
	int (*get)(void *opaque, const struct id *id, uint8_t *buf, size_t *ret_len, struct err *e);
	void *opaque;
};

/* Walks the chunks that are not zero, in rising order, from chunk index first on. */
struct tree_walk;
MUST_CHECK int tree_walk_new(const struct node_source *src, const struct tree_ref *t, uint32_t chunk_size,
			     uint64_t first, struct tree_walk **ret, struct err *e);
/* 1: *ret_index and *ret_id; 0: no more. */
MUST_CHECK int tree_walk_next(struct tree_walk *w, uint64_t *ret_index, struct id *ret_id, struct err *e);
/* After tree_walk_next failed: the chunks [*ret_from, *ret_to) lie below the node that can't be had.  The walk goes on
 * behind them. */
void tree_walk_skip(struct tree_walk *w, uint64_t *ret_from, uint64_t *ret_to);
/* Leaves out everything below chunk index to. */
void tree_walk_seek(struct tree_walk *w, uint64_t to);
void tree_walk_free(struct tree_walk *w);

/* Calls fn for each chunk index at which a and b differ (NULL id = zero), rising; subtrees with equal ids are not
 * read. */
typedef int (*tree_diff_fn)(void *opaque, uint64_t index, const struct id *in_a, const struct id *in_b, struct err *e);
MUST_CHECK int tree_diff(const struct node_source *src, const struct tree_ref *a, const struct tree_ref *b,
			 uint32_t chunk_size, tree_diff_fn fn, void *opaque, struct err *e);

/* Builds a tree from an older one (or nothing) and changes in rising order.  Nodes are handed to emit when complete
 * (children first); nodes equal to the base's are not emitted.  Untouched subtrees of the base are not read.  size may
 * grow or shrink against base's: chunks beyond are dropped. */
struct tree_builder;
struct tree_builder_opts {
	uint64_t size;			/* of the new tree */
	uint32_t chunk_size;
	const struct tree_ref *base;	/* NULL = empty; borrowed during the build */
	const struct node_source *src;	/* of base's nodes; NULL if no base */
	/* A new node: stores it and returns its id in *ret_id. */
	int (*emit)(void *opaque, const uint8_t *encoded, size_t len, struct id *ret_id, struct err *e);
	void *opaque;
};
MUST_CHECK int tree_builder_new(const struct tree_builder_opts *o, struct tree_builder **ret, struct err *e);
/* Chunk index (rising) becomes id; NULL = zero. */
MUST_CHECK int tree_builder_set(struct tree_builder *b, uint64_t index, const struct id *id, struct err *e);
/* Chunks [from, to) become zero, cheaply. */
MUST_CHECK int tree_builder_zero(struct tree_builder *b, uint64_t from, uint64_t to, struct err *e);
MUST_CHECK int tree_builder_finish(struct tree_builder *b, struct tree_ref *ret, struct err *e);
void tree_builder_free(struct tree_builder *b);

#endif
