/*
 * tree_build.c - a new tree from an older one and changes in rising order.
 *
 * At most one node a level is open: the path to the last change.  A node is opened by reading the base's (or empty),
 * and closed when a change beyond it comes: then it is dropped (no children), kept by its id (nothing changed), or
 * emitted, and its parent, always open at that moment, gets the result.
 *
 *	level 3   [ node 0 ..................... ]
 *	level 2        [ node 7 ....... ]            open: the path to chunk `next - 1`
 *	level 1             [ node 1800 ]
 *
 * Each child of an open node is assigned at most once, because changes rise; so "changed" is exact without a second
 * copy.  Growth: the levels above the old root are open from the start, the old root being child 0 of the lowest of
 * them.
 */
#include <inttypes.h>

#include "base/num.h"
#include "repo/sum.h"
#include "repo/tree_internal.h"

struct level {
	bool open, changed;
	bool has_base;
	uint64_t index;		/* number of the node within the level */
	struct id base;		/* the id it was read by */
	uint64_t sum;		/* of its children, kept in step: memory must not change them meanwhile */
	struct node n;
};

struct tree_builder {
	struct tree_builder_opts o;
	struct node_source src;
	uint32_t height;
	uint64_t nchunks, base_nchunks;
	uint64_t next;		/* the least index that may come */
	bool has_root;		/* of the part that is not open */
	struct id root;
	struct level level[TREE_LEVELS_MAX + 1];	/* [1..height] */
};

static uint64_t child_sum(uint32_t i, const struct id *id)
{
	return sum64(id->b, ID_BYTES, i + 1);
}

static uint64_t children_sum(const struct node *n)
{
	uint64_t sum = 0;

	for (uint32_t i = node_next_child(n, 0); i < TREE_FANOUT; i = node_next_child(n, i + 1))
		sum += child_sum(i, &n->child[i]);
	return sum;
}

/* The base is higher than the new tree: what is needed of it hangs below child 0 of child 0 ... */
static int lower_base(struct tree_builder *b, const struct tree_ref *base, struct err *e)
{
	struct node *n = &b->level[0].n;	/* not used otherwise */

	for (uint32_t level = base->height; b->has_root && level > b->height; level--) {
		if (tree_load_node(&b->src, &b->root, level, 0, b->base_nchunks, n, e) < 0)
			return e->code;
		b->has_root = node_has(n, 0);
		b->root = n->child[0];
	}
	return 0;
}

static void raise_base(struct tree_builder *b, const struct tree_ref *base)
{
	for (uint32_t level = base->height + 1; level <= b->height; level++) {
		struct level *v = &b->level[level];

		v->open = v->changed = true;
		v->n.level = level;
		if (level == base->height + 1)
			node_set_child(&v->n, 0, &b->root);
		v->sum = children_sum(&v->n);
	}
	b->has_root = false;
}

static int take_base(struct tree_builder *b, const struct tree_ref *base, struct err *e)
{
	if (tree_ref_check(base, b->o.chunk_size, e) < 0)
		return err_ctx(e, "base");
	b->base_nchunks = tree_nchunks(base->size, b->o.chunk_size);
	b->has_root = true;
	b->root = base->root;
	b->src = *b->o.src;
	if (base->height > b->height)
		return lower_base(b, base, e);
	if (base->height < b->height)
		raise_base(b, base);
	return 0;
}

int tree_builder_new(const struct tree_builder_opts *o, struct tree_builder **ret, struct err *e)
{
	CLEANUP(free_ptr) struct tree_builder *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(e, ERR_NOMEM, "no memory to build a tree");
	b->o = *o;
	b->height = tree_height(o->size, o->chunk_size);
	b->nchunks = tree_nchunks(o->size, o->chunk_size);
	if (o->base && o->base->has_root && take_base(b, o->base, e) < 0)
		return e->code;
	*ret = STEAL(b);
	return 0;
}

void tree_builder_free(struct tree_builder *b)
{
	free(b);
}

/* What stands at the place of the node of a level that covers chunk index: the parent is open. */
static const struct id *slot_get(const struct tree_builder *b, uint32_t level, uint64_t index)
{
	const struct level *up = &b->level[level + 1];
	uint32_t i;

	if (level == b->height)
		return b->has_root ? &b->root : NULL;
	i = tree_child(index, level + 1);
	return node_has(&up->n, i) ? &up->n.child[i] : NULL;
}

static void slot_put(struct tree_builder *b, uint32_t level, uint64_t index, const struct id *id)
{
	struct level *up = &b->level[level + 1];
	uint32_t i;

	if (level == b->height) {
		b->has_root = id;
		if (id)
			b->root = *id;
		return;
	}
	i = tree_child(index, level + 1);
	if (!node_child_is(&up->n, i, id)) {
		if (node_has(&up->n, i))
			up->sum -= child_sum(i, &up->n.child[i]);
		if (id)
			up->sum += child_sum(i, id);
		node_set_child(&up->n, i, id);
		up->changed = true;
	}
}

static int close_level(struct tree_builder *b, uint32_t level, struct err *e)
{
	struct level *v = &b->level[level];
	struct node *back = &b->level[0].n;	/* not used otherwise */
	uint64_t chunk = v->index << (8 * level);
	uint8_t raw[NODE_MAX_BYTES];
	struct id id;
	size_t len;

	v->open = false;
	if (node_is_empty(&v->n)) {
		slot_put(b, level, chunk, NULL);
		return 0;
	}
	if (v->has_base && !v->changed) {
		slot_put(b, level, chunk, &v->base);
		return 0;
	}
	len = node_encode(&v->n, raw);
	if (b->o.emit(b->o.opaque, raw, len, &id, e) < 0)
		return e->code;
	/* Only now: what emit has hashed is what was set. */
	if (node_decode(raw, len, level, back, e) < 0 || children_sum(back) != v->sum) {
		err_clear(e);
		return sum_error(e, "a tree node");
	}
	slot_put(b, level, chunk, &id);
	return 0;
}

/* Closes every open node that does not cover chunk index, children first. */
static int close_before(struct tree_builder *b, uint64_t index, struct err *e)
{
	for (uint32_t level = 1; level <= b->height; level++)
		if (b->level[level].open && b->level[level].index != tree_node_index(index, level) &&
		    close_level(b, level, e) < 0)
			return e->code;
	return 0;
}

/* Loads a node of the base, twice: what changes in memory after its id was compared would become part of a new node. */
static int load_base(struct tree_builder *b, struct level *v, uint32_t level, uint64_t number, struct err *e)
{
	struct node *again = &b->level[0].n;	/* not used otherwise */

	if (tree_load_node(&b->src, &v->base, level, number, b->base_nchunks, &v->n, e) < 0 ||
	    tree_load_node(&b->src, &v->base, level, number, b->base_nchunks, again, e) < 0)
		return e->code;
	v->sum = children_sum(again);
	return children_sum(&v->n) == v->sum ? 0 : sum_error(e, "a tree node");
}

static int open_level(struct tree_builder *b, uint32_t level, uint64_t index, struct err *e)
{
	struct level *v = &b->level[level];
	const struct id *id = slot_get(b, level, index);
	uint64_t number = tree_node_index(index, level);

	if (id) {
		v->base = *id;
		if (load_base(b, v, level, number, e) < 0)
			return e->code;
	} else {
		memset(&v->n, 0, sizeof(v->n));
		v->n.level = level;
		v->sum = 0;
	}
	v->has_base = id;
	v->changed = false;
	v->index = number;
	v->open = true;
	return 0;
}

/* Opens the path to chunk index from the root down to a level.  Without create it stops where there is nothing:
 * returns the level that could not be opened, 0 when all are open. */
static int open_path(struct tree_builder *b, uint64_t index, uint32_t down_to, bool create, struct err *e)
{
	if (close_before(b, index, e) < 0)
		return e->code;
	for (uint32_t level = b->height; level >= down_to; level--) {
		if (b->level[level].open)
			continue;
		if (!create && !slot_get(b, level, index))
			return (int)level;
		if (open_level(b, level, index, e) < 0)
			return e->code;
	}
	return 0;
}

/* Forgets what is open from a level downwards: all of it becomes zero. */
static void discard(struct tree_builder *b, uint32_t level)
{
	for (; level >= 1; level--)
		b->level[level].open = false;
}

/* [from, to) becomes zero; to may be up to what the height can hold. */
static int zero_range(struct tree_builder *b, uint64_t from, uint64_t to, struct err *e)
{
	while (from < to) {
		uint32_t level = 0;
		int r;

		while (level < b->height && from % tree_span(level + 1) == 0 && tree_span(level + 1) <= to - from)
			level++;
		r = close_before(b, from, e);
		if (r == 0 && level < b->height)
			r = open_path(b, from, level + 1, false, e);
		if (r < 0)
			return r;
		if (r > 0) {	/* zero already, up to the end of that node */
			from = (tree_node_index(from, (uint32_t)r) + 1) << (8 * r);
			continue;
		}
		discard(b, level);
		slot_put(b, level, from, NULL);
		from += tree_span(level);
	}
	return 0;
}

int tree_builder_set(struct tree_builder *b, uint64_t index, const struct id *id, struct err *e)
{
	int r;

	if (index < b->next || index >= b->nchunks)
		return err_set(e, ERR_INVALID, "chunk %" PRIu64 " of a tree of %" PRIu64 " after chunk %" PRIu64, index,
			       b->nchunks, b->next);
	b->next = index + 1;
	r = open_path(b, index, 1, id, e);
	if (r < 0)
		return r;
	if (r == 0)
		slot_put(b, 0, index, id);
	return 0;
}

int tree_builder_zero(struct tree_builder *b, uint64_t from, uint64_t to, struct err *e)
{
	if (from < b->next || from > to)
		return err_set(e, ERR_INVALID, "chunks %" PRIu64 " to %" PRIu64 " after chunk %" PRIu64, from, to,
			       b->next);
	to = min_u64(to, b->nchunks);
	if (from >= to)
		return 0;
	b->next = to;
	return zero_range(b, from, to == b->nchunks ? tree_span(b->height) : to, e);
}

int tree_builder_finish(struct tree_builder *b, struct tree_ref *ret, struct err *e)
{
	if (b->base_nchunks > b->nchunks && zero_range(b, b->nchunks, tree_span(b->height), e) < 0)
		return e->code;
	for (uint32_t level = 1; level <= b->height; level++)
		if (b->level[level].open && close_level(b, level, e) < 0)
			return e->code;
	memset(ret, 0, sizeof(*ret));
	ret->has_root = b->has_root;
	if (b->has_root)
		ret->root = b->root;
	ret->height = b->height;
	ret->size = b->o.size;
	return 0;
}
