/*
 * tree_diff.c - where two trees differ; equal ids end the descent, so it costs what differs.
 *
 * Both trees are seen at the greater height.  The lower one's root is child 0 of child 0 of ... of nodes that don't
 * exist: such a place is called raised.
 */
#include "repo/tree_internal.h"

/* What a tree has at one place. */
struct place {
	enum { PLACE_ZERO, PLACE_ID, PLACE_RAISED } kind;
	struct id id;
};

struct side {
	const struct tree_ref *t;
	uint64_t nchunks;
	struct node n[TREE_LEVELS_MAX];	/* the node at hand of each level */
};

struct diff {
	const struct node_source *src;
	tree_diff_fn fn;
	void *opaque;
	struct side a, b;
};

static struct place side_top(const struct side *s, uint32_t height)
{
	if (!s->t->has_root)
		return (struct place){ .kind = PLACE_ZERO };
	if (s->t->height < height)
		return (struct place){ .kind = PLACE_RAISED };
	return (struct place){ .kind = PLACE_ID, .id = s->t->root };
}

static int side_load(const struct diff *d, struct side *s, const struct place *p, uint32_t level, uint64_t index,
		     struct err *e)
{
	if (p->kind != PLACE_ID)
		return 0;
	return tree_load_node(d->src, &p->id, level, index, s->nchunks, &s->n[level - 1], e);
}

/* Child i of the node loaded at p, seen from a level. */
static struct place side_child(const struct side *s, const struct place *p, uint32_t level, uint32_t i)
{
	const struct node *n = &s->n[level - 1];

	if (p->kind == PLACE_RAISED && i == 0)
		return side_top(s, level - 1);
	if (p->kind == PLACE_ID && node_has(n, i))
		return (struct place){ .kind = PLACE_ID, .id = n->child[i] };
	return (struct place){ .kind = PLACE_ZERO };
}

static bool place_eq(const struct place *a, const struct place *b)
{
	return a->kind == b->kind && (a->kind != PLACE_ID || id_eq(&a->id, &b->id));
}

/* a and b differ.  Depth is at most TREE_LEVELS_MAX. */
static int diff_at(struct diff *d, uint32_t level, uint64_t index, const struct place *a, const struct place *b,
		   struct err *e)
{
	int r;

	if (level == 0)
		return d->fn(d->opaque, index, a->kind == PLACE_ID ? &a->id : NULL, b->kind == PLACE_ID ? &b->id : NULL,
			     e);
	if (side_load(d, &d->a, a, level, index, e) < 0 || side_load(d, &d->b, b, level, index, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < TREE_FANOUT; i++) {
		struct place ca = side_child(&d->a, a, level, i), cb = side_child(&d->b, b, level, i);

		if (place_eq(&ca, &cb))
			continue;
		r = diff_at(d, level - 1, index * TREE_FANOUT + i, &ca, &cb, e);
		if (r != 0)
			return r;
	}
	return 0;
}

int tree_diff(const struct node_source *src, const struct tree_ref *a, const struct tree_ref *b, uint32_t chunk_size,
	      tree_diff_fn fn, void *opaque, struct err *e)
{
	CLEANUP(free_ptr) struct diff *d = NULL;
	struct place pa, pb;
	uint32_t height = 1;

	if (tree_ref_check(a, chunk_size, e) < 0 || tree_ref_check(b, chunk_size, e) < 0)
		return e->code;
	d = malloc(sizeof(*d));
	if (!d)
		return err_set(e, ERR_NOMEM, "no memory to compare trees");
	d->src = src;
	d->fn = fn;
	d->opaque = opaque;
	d->a.t = a;
	d->b.t = b;
	d->a.nchunks = tree_nchunks(a->size, chunk_size);
	d->b.nchunks = tree_nchunks(b->size, chunk_size);
	if (a->has_root)
		height = a->height;
	if (b->has_root && b->height > height)
		height = b->height;
	pa = side_top(&d->a, height);
	pb = side_top(&d->b, height);
	return place_eq(&pa, &pb) ? 0 : diff_at(d, height, 0, &pa, &pb, e);
}
