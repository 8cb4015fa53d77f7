/*
 * tree_walk.c - the chunks of a tree in rising order.
 *
 * One position, the next chunk index, is the whole state; node[l - 1] caches the node of level l that was read last, so
 * stepping costs a descent through memory and seeking is an assignment.
 */
#include "repo/tree_internal.h"

struct tree_walk {
	struct node_source src;
	struct tree_ref t;
	uint64_t nchunks, next;
	uint64_t fail_end;	/* the first chunk behind the node that could not be loaded */
	struct {
		bool loaded;
		uint64_t index;
		struct node n;
	} node[TREE_LEVELS_MAX];
};

int tree_walk_new(const struct node_source *src, const struct tree_ref *t, uint32_t chunk_size, uint64_t first,
		  struct tree_walk **ret, struct err *e)
{
	struct tree_walk *w;

	if (tree_ref_check(t, chunk_size, e) < 0)
		return e->code;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(e, ERR_NOMEM, "no memory to walk a tree");
	w->src = *src;
	w->t = *t;
	w->nchunks = t->has_root ? tree_nchunks(t->size, chunk_size) : 0;
	w->next = first;
	*ret = w;
	return 0;
}

void tree_walk_free(struct tree_walk *w)
{
	free(w);
}

void tree_walk_skip(struct tree_walk *w, uint64_t *ret_from, uint64_t *ret_to)
{
	*ret_from = w->next;
	w->next = w->fail_end < w->nchunks ? w->fail_end : w->nchunks;
	*ret_to = w->next;
}

void tree_walk_seek(struct tree_walk *w, uint64_t to)
{
	if (to > w->next)
		w->next = to;
}

/* Makes the node of a level that covers the position available. */
static int load(struct tree_walk *w, uint32_t level, const struct id *id, const struct node **ret, struct err *e)
{
	uint64_t index = tree_node_index(w->next, level);

	if (!w->node[level - 1].loaded || w->node[level - 1].index != index) {
		w->node[level - 1].loaded = false;
		if (tree_load_node(&w->src, id, level, index, w->nchunks, &w->node[level - 1].n, e) < 0) {
			w->fail_end = (index + 1) << (8 * level);
			return e->code;
		}
		w->node[level - 1].index = index;
		w->node[level - 1].loaded = true;
	}
	*ret = &w->node[level - 1].n;
	return 0;
}

/* Goes down from the root towards the position, which moves up to the next present child.  1: a chunk is there; 0: this
 * subtree has no more, the position is behind it. */
static int descend(struct tree_walk *w, struct id *ret_id, struct err *e)
{
	struct id id = w->t.root;

	for (uint32_t level = w->t.height; level >= 1; level--) {
		uint64_t index = tree_node_index(w->next, level);
		uint32_t want = tree_child(w->next, level), have;
		const struct node *n = NULL;

		if (load(w, level, &id, &n, e) < 0)
			return e->code;
		have = node_next_child(n, want);
		if (have == TREE_FANOUT) {
			w->next = (index + 1) << (8 * level);
			return 0;
		}
		if (have > want)
			w->next = (index * TREE_FANOUT + have) << (8 * (level - 1));
		id = n->child[have];
	}
	*ret_id = id;
	return 1;
}

int tree_walk_next(struct tree_walk *w, uint64_t *ret_index, struct id *ret_id, struct err *e)
{
	while (w->next < w->nchunks) {
		int r = descend(w, ret_id, e);

		if (r < 0)
			return r;
		if (r == 1) {
			*ret_index = w->next++;
			return 1;
		}
	}
	return 0;
}
