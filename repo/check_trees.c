/*
 * check_trees.c - what the backups need: every node once, and every chunk that they name has a copy that can be used.
 *
 * Nodes seen are remembered within the budget; beyond it they are looked at again, which costs time only.  Chunk ids
 * are gathered and looked up sorted, so that a large index is gone through in order and not at random.
 */
#include <inttypes.h>

#include "base/text.h"
#include "repo/check_internal.h"
#include "repo/segment.h"
#include "repo/tree_internal.h"

#define BATCH_IDS ((size_t)256 << 10)
#define SET_ID_BYTES 48u /* of a set of ids, see id_set.h */
#define COPIES_MAX 17u

struct trees {
	struct check *c;
	struct node_source src;
	struct id_set seen;
	size_t seen_max, lost_max;
	VEC(struct id) ids;
	const struct check_tree *t;
	struct progress_state ps;
};

static void trees_done(struct trees *t)
{
	id_set_done(&t->seen);
	VEC_DONE(&t->ids);
}

static int state_trees(const struct backup *b, const struct manifest_state *s, check_tree_fn fn, void *opaque,
		       struct err *e)
{
	for (size_t i = 0; i < s->disks.n; i++) {
		const struct manifest_state_disk *d = &s->disks.p[i];
		struct check_tree t = {
			.backup = b, .state = s, .disk = b->m->disks.p[d->disk].name, .tree = &d->tree
		};
		int rc = fn(opaque, &t, e);

		if (rc == 0 && d->has_vm_state) {
			t.vm_state = true;
			t.tree = &d->vm_state;
			rc = fn(opaque, &t, e);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

int check_each_tree(const struct backup *b, check_tree_fn fn, void *opaque, struct err *e)
{
	for (size_t i = 0; i < b->m->states.n; i++)
		if (state_trees(b, &b->m->states.p[i], fn, opaque, e) < 0)
			return e->code;
	for (size_t i = 0; i < b->m->attachments.n; i++) {
		const struct manifest_attachment *a = &b->m->attachments.p[i];
		struct check_tree t = { .backup = b, .disk = a->name, .tree = &a->tree };

		if (fn(opaque, &t, e) < 0)
			return e->code;
	}
	return 0;
}

static int lose(struct trees *t, const struct id *id, struct err *e)
{
	int rc;

	if (t->c->lost.n >= t->lost_max && !id_set_has(&t->c->lost, id)) {
		t->c->lost_full = true;
		t->c->res.chunks_lost++; /* may count one twice */
		return 0;
	}
	rc = id_set_add(&t->c->lost, id, e);
	if (rc > 0)
		t->c->res.chunks_lost++;
	return rc < 0 ? rc : 0;
}

/* 1: the chunk has a copy whose place is good and whose bases have one; 0: none.  *left: lookups that it may still
 * cost. */
static int chunk_usable(struct check *c, const struct id *id, unsigned levels, unsigned *left, struct err *e)
{
	for (unsigned nth = 0; nth < COPIES_MAX; nth++) {
		struct id bases[BASES_MAX];
		struct chunk_place p;
		int rc;

		if (!*left)
			return 0;
		--*left;
		rc = index_find(c->x, id, nth, &p, bases, e);
		if (rc < 0 && check_is_final(rc))
			return rc;
		if (rc <= 0) {
			err_clear(e);
			return 0;
		}
		rc = check_place_good(c, id, &p) && index_pack(c->x, p.pack)->kind == PACK_DATA &&
		     (!p.nbases || levels);
		for (unsigned b = 0; rc > 0 && b < p.nbases; b++)
			rc = chunk_usable(c, &bases[b], levels - 1, left, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int cmp_id(const void *a, const void *b)
{
	return id_cmp(a, b);
}

static int flush(struct trees *t, struct err *e)
{
	if (t->ids.n)
		qsort(t->ids.p, t->ids.n, sizeof(*t->ids.p), cmp_id);
	for (size_t i = 0; i < t->ids.n; i++) {
		unsigned left = SEGMENT_FETCHES_MAX;
		int rc;

		if (i > 0 && id_eq(&t->ids.p[i], &t->ids.p[i - 1]))
			continue;
		if (cancel_check(t->c->cancel, e) < 0)
			return e->code;
		t->c->res.chunks++;
		rc = chunk_usable(t->c, &t->ids.p[i], DELTA_DEPTH_MAX, &left, e);
		if (rc < 0 || (rc == 0 && lose(t, &t->ids.p[i], e) < 0))
			return e->code;
	}
	t->ids.n = 0;
	return 0;
}

static int add_chunk(struct trees *t, const struct id *id, struct err *e)
{
	struct id *p;

	if (t->ids.n == BATCH_IDS && flush(t, e) < 0)
		return e->code;
	p = VEC_PUSH(&t->ids, e);
	if (!p)
		return e->code;
	*p = *id;
	return 0;
}

static int node_lost(struct trees *t, const struct id *id, struct err *e)
{
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES], hex[2 * ID_BYTES + 1];
	bool known = id_set_has(&t->c->lost, id);

	if (check_is_final(e->code))
		return e->code;
	err_text(e, text, sizeof(text));
	err_clear(e);
	if (lose(t, id, e) < 0)
		return e->code;
	if (known)
		return 0;
	return check_find(t->c, CHECK_DAMAGE, "node-lost", NULL, e, "tree node %.16s of %s: %s",
			  text_hex(id->b, ID_BYTES, hex), t->t->backup->m->vm, text);
}

static int walk(struct trees *t, const struct id *id, uint32_t level, uint64_t index, uint64_t nchunks, struct err *e)
{
	struct node n;

	if (id_set_has(&t->seen, id) || id_set_has(&t->c->lost, id))
		return 0;
	if (cancel_check(t->c->cancel, e) < 0)
		return e->code;
	if (tree_load_node(&t->src, id, level, index, nchunks, &n, e) < 0)
		return node_lost(t, id, e);
	t->c->res.nodes++;
	for (uint32_t i = node_next_child(&n, 0); i < TREE_FANOUT; i = node_next_child(&n, i + 1)) {
		int rc = level == 1 ? add_chunk(t, &n.child[i], e)
				    : walk(t, &n.child[i], level - 1, index * TREE_FANOUT + i, nchunks, e);

		if (rc < 0)
			return rc;
	}
	if (t->seen.n < t->seen_max && id_set_add(&t->seen, id, e) < 0)
		return e->code;
	t->ps.done = t->c->res.nodes;
	progress_update(t->c->o.progress, &t->ps);
	return 0;
}

static int check_tree(void *opaque, const struct check_tree *ct, struct err *e)
{
	struct trees *t = opaque;
	uint32_t chunk_size = repo_config(t->c->r)->chunk_size;

	t->t = ct;
	t->ps.what = ct->backup->m->vm;
	/* The manifest was checked when it was decoded: its heights fit its sizes. */
	if (!ct->tree->has_root)
		return 0;
	if (tree_ref_check(ct->tree, chunk_size, e) < 0)
		return node_lost(t, &ct->tree->root, e);
	return walk(t, &ct->tree->root, ct->tree->height, 0, tree_nchunks(ct->tree->size, chunk_size), e);
}

int check_trees(struct check *c, struct err *e)
{
	CLEANUP(trees_done)
	struct trees t = {
		.c = c,
		.src = repo_reader_nodes(c->rd),
		.seen_max = c->budget / 4 / SET_ID_BYTES,
		.lost_max = c->budget / 16 / SET_ID_BYTES,
		.ps = { .phase = "checking trees" },
	};

	for (size_t i = 0; i < c->backups.n; i++)
		if (check_each_tree(&c->backups.p[i], check_tree, &t, e) < 0)
			return e->code;
	return flush(&t, e);
}
