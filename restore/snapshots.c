/*
 * snapshots.c - one image with all the internal snapshots that a backup holds of a disk.
 *
 * States are written oldest snapshot first, the current one last.  Each is compared with the one written before it:
 * ranges whose chunks have equal ids are shared, so that the image takes the space of the differences, as the original
 * did.  The unit of comparison is the larger of chunk and cluster: both are powers of two, so one is a multiple of the
 * other.
 */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "restore/restore_internal.h"

/* The states of a disk in the order in which they are written. */
struct snapshot_row {
	const struct manifest_state *state;
	const struct manifest_state_disk *sd;
};
typedef VEC(struct snapshot_row) snapshot_rows;

static int older(const void *a, const void *b)
{
	const struct snapshot_row *x = a, *y = b;

	if (x->state->kind != y->state->kind)
		return x->state->kind == STATE_CURRENT ? 1 : -1;
	if (x->sd->date_ns != y->sd->date_ns)
		return x->sd->date_ns < y->sd->date_ns ? -1 : 1;
	return x->state < y->state ? -1 : x->state > y->state;
}

static bool wanted(const struct manifest_state *s)
{
	return s->kind == STATE_CURRENT || s->kind == STATE_SNAPSHOT;
}

static int collect(const struct manifest *m, uint32_t disk, snapshot_rows *rows, struct err *e)
{
	for (uint32_t i = 0; i < m->states.n; i++) {
		const struct manifest_state_disk *sd = point_disk(m, i, disk);
		struct snapshot_row *row;

		if (!sd || !wanted(&m->states.p[i]))
			continue;
		row = VEC_PUSH(rows, e);
		if (!row)
			return e->code;
		*row = (struct snapshot_row){ .state = &m->states.p[i], .sd = sd };
	}
	if (rows->n)
		qsort(rows->p, rows->n, sizeof(*rows->p), older);
	if (!rows->n || rows->p[rows->n - 1].state->kind != STATE_CURRENT)
		return err_set(e, ERR_INVALID, "the backup does not hold the current state of disk %s",
			       m->disks.p[disk].name);
	return 0;
}

uint64_t restore_max_size(const struct manifest *m, uint32_t disk)
{
	uint64_t max = 0;

	for (uint32_t i = 0; i < m->states.n; i++) {
		const struct manifest_state_disk *sd = point_disk(m, i, disk);

		if (sd && wanted(&m->states.p[i]))
			max = max_u64(max, sd->tree.size);
	}
	return max;
}

/* The chunks of one unit (at most unit/chunk of them) of one tree, taken from its walk. */
struct unit_side {
	struct restore *rs;
	struct restore_result *res;
	struct tree_walk *walk;
	uint64_t size;
	bool have;		/* index and id hold the walk's next chunk */
	uint64_t index;
	struct id id;
	struct fetch_item *items;
	size_t n;
};

/* The walk's next chunk. */
static int side_step(struct unit_side *s, struct err *e)
{
	int r = restore_walk_next(s->rs, s->res, s->walk, s->size, &s->index, &s->id, e);

	s->have = r > 0;
	return r < 0 ? r : 0;
}

/* Damage found on the way goes to res; of the state shared with it is noted already, so res is then a scratch one. */
static int side_new(struct restore *rs, const struct tree_ref *t, size_t unit_chunks, struct restore_result *res,
		    struct unit_side *s, struct err *e)
{
	struct node_source nodes = repo_reader_nodes(rs->reader);

	s->rs = rs;
	s->res = res;
	s->size = t->size;
	s->items = malloc(unit_chunks * sizeof(*s->items));
	if (!s->items)
		return err_set(e, ERR_NOMEM, "no memory to compare states");
	if (tree_walk_new(&nodes, t, rs->chunk_size, 0, &s->walk, e) < 0)
		return e->code;
	return side_step(s, e);
}

static void side_done(struct unit_side *s)
{
	tree_walk_free(s->walk);
	free(s->items);
}

/* Takes the chunks below index end. */
static int side_take(struct unit_side *s, uint64_t end, struct err *e)
{
	for (s->n = 0; s->have && s->index < end; s->n++) {
		s->items[s->n] = (struct fetch_item){ .id = s->id, .tag = s->index };
		if (side_step(s, e) < 0)
			return e->code;
	}
	return 0;
}

static bool sides_equal(const struct unit_side *a, const struct unit_side *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->items[i].tag != b->items[i].tag || !id_eq(&a->items[i].id, &b->items[i].id))
			return false;
	return true;
}

struct share_job {
	struct restore *rs;
	struct image_writer *w;
	struct restore_result *res;
	const char *domain;
	uint32_t from;			/* number of the state that is shared with */
	uint64_t unit, size, base_size;
	uint64_t share_off, share_len;	/* run of equal bytes, not told yet */
	uint64_t next;			/* end of the last unit looked at */
	struct plan plan;
	pthread_mutex_t lock;		/* guards res and a writer that isn't concurrent */
};

static int flush_share(struct share_job *j, struct err *e)
{
	uint64_t len = j->share_len;

	j->share_len = 0;
	return len ? writer_share(j->w, j->from, j->share_off, len, e) : 0;
}

static int share_deliver(void *opaque, const struct fetch_item *it, size_t n, const uint8_t *plain, struct err *e)
{
	struct share_job *j = opaque;
	int r = 0;

	for (size_t k; r >= 0 && n > 0; it += k, n -= k, plain += k * j->rs->chunk_size) {
		uint64_t off, len;

		k = restore_together(j->rs, it, n, j->size, &off, &len);
		pthread_mutex_lock(&j->lock);
		r = writer_write(j->w, plain, (size_t)len, off, e);
		j->res->bytes_written += len;
		pthread_mutex_unlock(&j->lock);
	}
	return r < 0 ? r : cancel_check(j->rs->opts.cancel, e);
}

static int share_failed(void *opaque, const struct fetch_item *it, struct err *e)
{
	struct share_job *j = opaque;
	uint64_t off = it->tag * j->rs->chunk_size;
	int r;

	pthread_mutex_lock(&j->lock);
	r = restore_note_damage(j->rs, j->res, off, min_u64(j->rs->chunk_size, j->size - off), e);
	pthread_mutex_unlock(&j->lock);
	return r;
}

static int flush_plan(struct share_job *j, struct err *e)
{
	const struct fetch_opts fo = {
		.threads = j->rs->opts.threads, .max_bytes = j->rs->fetch_bytes,
		.in_order = j->w->in_order, .failed = share_failed,
	};
	uint64_t fetched = 0;
	int r = repo_fetch(j->rs->reader, j->domain, j->plan.items, j->plan.n, &fo, share_deliver, j, &fetched, e);

	j->res->bytes_fetched += fetched;
	j->plan.n = 0;
	return r;
}

static int add_share(struct share_job *j, uint64_t off, uint64_t len, struct err *e)
{
	if (j->share_len && j->share_off + j->share_len != off && flush_share(j, e) < 0)
		return e->code;
	if (!j->share_len)
		j->share_off = off;
	j->share_len += len;
	return 0;
}

/* One unit: shared with the base, or planned to be written. */
static int do_unit(struct share_job *j, struct unit_side *now, struct unit_side *base, uint64_t off, struct err *e)
{
	uint64_t len = min_u64(j->unit, j->size - off);

	j->next = off + len;
	/* A unit that is cut off at another place in the base may hold other bytes behind its end: written anew. */
	if (sides_equal(now, base) && off + len <= j->base_size &&
	    (off + len < j->base_size || j->size == j->base_size))
		return add_share(j, off, len, e);
	if (j->plan.n + now->n > j->plan.max && flush_plan(j, e) < 0)
		return e->code;
	memcpy(j->plan.items + j->plan.n, now->items, now->n * sizeof(*now->items));
	j->plan.n += now->n;
	return 0;
}

/*
 * Between the last unit and off this state is zero.  Where the base is zero too, the zeros are shared like any bytes:
 * so runs get long enough for a writer to share whole tables.  What the base has there needs no writing.
 */
static int do_gap(struct share_job *j, const struct unit_side *base, uint64_t off, struct err *e)
{
	if (off <= j->next || off > j->base_size || (base->have && base->index < off / j->rs->chunk_size))
		return 0;
	return add_share(j, j->next, off - j->next, e);
}

static int share_state(struct share_job *j, struct unit_side *now, struct unit_side *base, struct err *e)
{
	uint64_t chunk = j->rs->chunk_size;

	while (now->have) {
		uint64_t off = round_down(now->index * chunk, j->unit);
		uint64_t end = (off + j->unit) / chunk;

		if (do_gap(j, base, off, e) < 0)
			return e->code;
		tree_walk_seek(base->walk, off / chunk);
		if (base->have && base->index < off / chunk && side_step(base, e) < 0)
			return e->code;
		if (side_take(now, end, e) < 0 || side_take(base, end, e) < 0 || do_unit(j, now, base, off, e) < 0)
			return e->code;
		j->rs->done = off;
		restore_progress(j->rs, NULL);
		if (cancel_check(j->rs->opts.cancel, e) < 0)
			return e->code;
	}
	if (j->size == j->base_size && !base->have && do_gap(j, base, j->size, e) < 0)
		return e->code;
	return flush_share(j, e) < 0 || flush_plan(j, e) < 0 ? e->code : 0;
}

/* Writes one state as what differs from the one before it. */
static int write_shared(struct restore *rs, const char *domain, const struct tree_ref *now, const struct tree_ref *base,
			uint32_t from, struct image_writer *w, struct restore_result *res, struct err *e)
{
	struct share_job j = {
		.rs = rs,
		.w = w,
		.res = res,
		.domain = domain,
		.from = from,
		.unit = max_u64(rs->chunk_size, w->cluster_size),
		.size = now->size,
		.base_size = base->size,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	struct restore_result known = { 0 };
	struct unit_side a = { 0 }, b = { 0 };
	size_t unit_chunks = (size_t)(j.unit / rs->chunk_size);
	int r = plan_new(rs, &j.plan, e);

	rs->total = now->size;
	rs->done = 0;
	if (r == 0)
		r = side_new(rs, now, unit_chunks, res, &a, e);
	if (r == 0)
		r = side_new(rs, base, unit_chunks, &known, &b, e);
	if (r == 0)
		r = share_state(&j, &a, &b, e);
	side_done(&a);
	side_done(&b);
	restore_result_done(&known);
	plan_done(&j.plan);
	pthread_mutex_destroy(&j.lock);
	return r;
}

struct vm_state_out {
	struct image_writer *w;
	uint64_t at;
};

static int vm_state_data(void *opaque, const void *buf, size_t len, struct err *e)
{
	struct vm_state_out *o = opaque;
	uint64_t at = o->at;

	o->at += len;
	return writer_write_vm_state(o->w, buf, len, at, e);
}

static int vm_state_zero(void *opaque, uint64_t len, struct err *e)
{
	struct vm_state_out *o = opaque;

	(void)e;	/* what is never written reads as zeros */
	o->at += len;
	return 0;
}

static int write_vm_state(struct restore *rs, const struct tree_ref *t, struct image_writer *w,
			  struct restore_result *res, struct err *e)
{
	struct vm_state_out o = { .w = w };
	const struct restore_stream out = { .data = vm_state_data, .zero = vm_state_zero, .opaque = &o };

	return restore_stream(rs, "default", t, 0, t->size, &out, res, e);
}

static int begin(struct image_writer *w, const struct snapshot_row *row, uint64_t current_size, struct err *e)
{
	bool current = row->state->kind == STATE_CURRENT;
	const struct writer_state_opts so = {
		.name = current ? NULL : row->state->name,
		.id = row->sd->snapshot_id,
		.size = current ? current_size : row->sd->tree.size,
		.date_ns = row->sd->date_ns,
		.vm_clock_ns = row->sd->vm_clock_ns,
		.vm_state_bytes = row->sd->has_vm_state ? row->sd->vm_state.size : 0,
	};

	return writer_begin_state(w, &so, e);
}

int restore_with_snapshots(struct restore *rs, uint32_t disk, uint64_t size, struct image_writer *w,
			   struct restore_result *ret, struct err *e)
{
	const struct manifest *m = rs->backup->m;
	const char *domain = m->disks.p[disk].domain;
	snapshot_rows rows = { 0 };
	int r = collect(m, disk, &rows, e);

	for (uint32_t i = 0; r == 0 && i < rows.n; i++) {
		const struct snapshot_row *row = &rows.p[i];

		r = begin(w, row, size, e);
		if (r == 0 && i == 0)
			r = restore_tree(rs, domain, &row->sd->tree, w, ret, e);
		else if (r == 0)
			r = write_shared(rs, domain, &row->sd->tree, &rows.p[i - 1].sd->tree, i - 1, w, ret, e);
		if (r == 0 && row->sd->has_vm_state)
			r = write_vm_state(rs, &row->sd->vm_state, w, ret, e);
		if (r < 0)
			err_ctx(e, "%s %s", row->state->kind == STATE_CURRENT ? "state" : "snapshot", row->state->name);
	}
	VEC_DONE(&rows);
	return r;
}
