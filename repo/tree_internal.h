/* tree_internal.h - what walking, comparing and building a tree share: the geometry of levels, and loading a checked
 * node. */
#ifndef KEDGE_REPO_TREE_INTERNAL_H
#define KEDGE_REPO_TREE_INTERNAL_H

#include "repo/tree.h"

/* 64-bit sizes over chunks of at least 4 KiB never need more levels; so shifts by 8 * level stay below 64. */
#define TREE_LEVELS_MAX 7u

/* Chunks below one node of a level: 256^level.  Level 0 is a chunk. */
static inline uint64_t tree_span(uint32_t level) { return (uint64_t)1 << (8 * level); }
/* Which node of a level covers a chunk. */
static inline uint64_t tree_node_index(uint64_t chunk, uint32_t level) { return chunk >> (8 * level); }
/* Which child of the node of a level covers a chunk. */
static inline uint32_t tree_child(uint64_t chunk, uint32_t level)
{
	return (uint32_t)(chunk >> (8 * (level - 1))) & 255;
}

uint64_t tree_nchunks(uint64_t size, uint32_t chunk_size);
/* A tree with a root must have the height that its size asks for: ERR_CORRUPT. */
MUST_CHECK int tree_ref_check(const struct tree_ref *t, uint32_t chunk_size, struct err *e);

bool node_is_empty(const struct node *n);
/* The first child at or after from; TREE_FANOUT when there is none. */
uint32_t node_next_child(const struct node *n, uint32_t from);
/* id NULL clears. */
void node_set_child(struct node *n, uint32_t i, const struct id *id);
/* True when child i of n is what id says (NULL = absent). */
bool node_child_is(const struct node *n, uint32_t i, const struct id *id);

/* Reads node number index of a level of a tree of nchunks chunks; children beyond its end are ERR_CORRUPT. */
MUST_CHECK int tree_load_node(const struct node_source *src, const struct id *id, uint32_t level, uint64_t index,
			      uint64_t nchunks, struct node *ret, struct err *e);

#endif
