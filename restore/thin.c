/*
 * thin.c - what differs between two stored states, into an overlay over a file that holds one of them.
 *
 * The unit is the larger of chunk and cluster (or subcluster, where the writer has them): a cluster is written whole or
 * not at all, since what isn't written of it would be zero.  A unit that is zero now and wasn't hides what the file has
 * there.
 */
#include <stdlib.h>

#include "base/num.h"
#include "restore/restore_internal.h"

struct thin {
	struct restore_run j;
	const char *domain;
	struct plan plan;
	struct tree_walk *walk;		/* of the new state */
	bool have;			/* index and id are the walk's next chunk */
	uint64_t index;
	struct id id;
	uint64_t unit_chunks, next;	/* next: the first unit that wasn't looked at */
	uint64_t zero_off, zero_len;	/* run of zeros, not told yet */
};

static int flush_zeros(struct thin *t, struct err *e)
{
	uint64_t len = t->zero_len;

	t->zero_len = 0;
	return len ? writer_zero(t->j.w, t->zero_off, len, e) : 0;
}

static int add_zeros(struct thin *t, uint64_t off, uint64_t len, struct err *e)
{
	if (t->zero_len && t->zero_off + t->zero_len != off && flush_zeros(t, e) < 0)
		return e->code;
	if (!t->zero_len)
		t->zero_off = off;
	t->zero_len += len;
	return 0;
}

static int flush_plan(struct thin *t, struct err *e)
{
	int r = restore_run_run(&t->j, t->domain, &t->plan, e);

	t->plan.n = 0;
	return r;
}

static int step(struct thin *t, struct err *e)
{
	int r = restore_walk_next(t->j.rs, t->j.res, t->walk, t->j.size, &t->index, &t->id, e);

	t->have = r > 0;
	return r < 0 ? r : 0;
}

/* Plans what the new state has in the unit that begins with that chunk. */
static int do_unit(struct thin *t, uint64_t first, struct err *e)
{
	uint64_t chunk = t->j.rs->chunk_size, off = first * chunk, end = first + t->unit_chunks;
	size_t had;

	if (off >= t->j.size)
		return 0;	/* behind this disk's end: nobody sees what the file has there */
	tree_walk_seek(t->walk, first);
	if (t->have && t->index < first && step(t, e) < 0)
		return e->code;
	if (t->plan.n + t->unit_chunks > t->plan.max && flush_plan(t, e) < 0)
		return e->code;
	had = t->plan.n;
	while (t->have && t->index < end) {
		t->plan.items[t->plan.n++] = (struct fetch_item){ .id = t->id, .tag = t->index };
		if (step(t, e) < 0)
			return e->code;
	}
	if (t->plan.n == had)
		return add_zeros(t, off, min_u64(t->unit_chunks * chunk, t->j.size - off), e);
	return 0;
}

static int differs(void *opaque, uint64_t index, const struct id *in_base, const struct id *in_now, struct err *e)
{
	struct thin *t = opaque;
	uint64_t unit = index / t->unit_chunks;

	(void)in_base;
	(void)in_now;
	if (unit < t->next)
		return 0;
	t->next = unit + 1;
	t->j.rs->done = min_u64(index * t->j.rs->chunk_size, t->j.size);
	restore_progress(t->j.rs, NULL);
	if (cancel_check(t->j.rs->opts.cancel, e) < 0)
		return e->code;
	return do_unit(t, unit * t->unit_chunks, e);
}

int restore_thin(struct restore *rs, const char *domain, const struct tree_ref *base, const struct tree_ref *tree,
		 struct image_writer *w, struct restore_result *ret, struct err *e)
{
	struct node_source nodes = repo_reader_nodes(rs->reader);
	struct thin t = { .domain = domain };
	int r = plan_new(rs, &t.plan, e);

	/* A stored chunk is padded with zeros, as a disk is that grows. */
	restore_run_init(&t.j, rs, w, w->size, ret);
	t.unit_chunks = max_u64(rs->chunk_size, w->backing_unit ? w->backing_unit : w->cluster_size) / rs->chunk_size;
	rs->total = w->size;
	rs->done = 0;
	if (r == 0 && t.unit_chunks > t.plan.max)
		r = err_set(e, ERR_NOMEM, "no memory for a cluster of the overlay");
	if (r == 0)
		r = tree_walk_new(&nodes, tree, rs->chunk_size, 0, &t.walk, e);
	if (r == 0)
		r = step(&t, e);
	if (r == 0)
		r = tree_diff(&nodes, base, tree, rs->chunk_size, differs, &t, e);
	if (r == 0 && (flush_zeros(&t, e) < 0 || flush_plan(&t, e) < 0))
		r = e->code;
	tree_walk_free(t.walk);
	plan_done(&t.plan);
	restore_run_done(&t.j);
	return r;
}
