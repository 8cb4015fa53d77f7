/*
 * restore.c - pinning a backup, and writing one stored byte string into an image writer.
 */
#include "restore/restore_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "repo/protocol.h"

void restore_result_done(struct restore_result *r)
{
	VEC_DONE(&r->damage);
	r->ndamage = 0;
}

/* Shares the budget: half for the reader's caches, a third for what is in flight, the rest for the plan. */
static void set_budget(struct restore *rs)
{
	size_t max = rs->opts.max_bytes ? rs->opts.max_bytes : RESTORE_MAX_DEFAULT;

	if (max < RESTORE_MAX_LEAST)
		max = RESTORE_MAX_LEAST;
	rs->opts.max_bytes = max;
	rs->fetch_bytes = max / 3;
	rs->window = max / 6 / sizeof(struct fetch_item);
}

static int pin(struct restore *rs, struct err *e)
{
	const char *names[2] = { rs->backup->name, rs->opts.also ? rs->opts.also->name : NULL };

	return read_session_begin(rs->repo, names, rs->opts.also ? 2 : 1, "restore", &rs->session, &rs->posted, e);
}

int restore_new(struct repo *r, const struct backup *b, const struct restore_opts *o, struct restore **ret,
		struct err *e)
{
	CLEANUP(restore_free_cleanup) struct restore *rs = calloc(1, sizeof(*rs));

	if (!rs)
		return err_set(e, ERR_NOMEM, "no memory for a restore");
	if (repo_own_role(r) != ROLE_FULL) {
		err_set(e, ERR_AUTH, "a %s key cannot read guest data", slot_role_name(repo_own_role(r)));
		return err_hint(e, "open the repository with a full key");
	}
	rs->repo = r;
	rs->backup = b;
	rs->opts = *o;
	rs->chunk_size = repo_config(r)->chunk_size;
	set_budget(rs);
	if (pin(rs, e) < 0)
		return err_ctx(e, "read session");
	if (repo_reader_new(r, rs->opts.max_bytes / 2, &rs->reader, e) < 0)
		return e->code;
	*ret = STEAL(rs);
	return 0;
}

void restore_free(struct restore *rs)
{
	if (!rs)
		return;
	repo_reader_free(rs->reader);
	read_session_end(rs->repo, &rs->session, rs->posted);
	free(rs);
}

int plan_new(const struct restore *rs, struct plan *ret, struct err *e)
{
	struct fetch_item *items = malloc(rs->window * sizeof(*items));

	if (!items)
		return err_set(e, ERR_NOMEM, "no memory for a plan of %zu chunks", rs->window);
	*ret = (struct plan){ .items = items, .max = rs->window };
	return 0;
}

void plan_done(struct plan *p)
{
	free(p->items);
	*p = (struct plan){ 0 };
}

int restore_note_damage(struct restore *rs, struct restore_result *res, uint64_t off, uint64_t len, struct err *e)
{
	struct err ignored = ERR_INIT;
	struct restore_damage *d;

	res->ndamage++;
	if (res->damage.n < RESTORE_DAMAGE_MAX && (d = VEC_PUSH(&res->damage, &ignored))) {
		char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];

		d->off = off;
		d->len = len;
		snprintf(d->text, sizeof(d->text), "%.*s", (int)sizeof(d->text) - 1, err_text(e, text, sizeof(text)));
	}
	if (rs->opts.salvage)
		return 0;
	err_hint(e, "kedge check --read-data tells what else is affected; --salvage restores the rest and lists what "
		    "is missing");
	return err_ctx(e, "guest bytes %" PRIu64 " to %" PRIu64, off, off + len);
}

/* What says nothing about the stored bytes: the machine, the user or the key fails. */
static bool is_damage(int code)
{
	return code != ERR_NOMEM && code != ERR_CANCELLED && code != ERR_AUTH && code != ERR_REFUSED &&
	       code != ERR_INTERNAL;
}

int restore_walk_next(struct restore *rs, struct restore_result *res, struct tree_walk *w, uint64_t end,
		      uint64_t *ret_index, struct id *ret_id, struct err *e)
{
	for (;;) {
		int r = tree_walk_next(w, ret_index, ret_id, e);
		uint64_t from, to, off;

		if (r >= 0 || !is_damage(r))
			return r;
		tree_walk_skip(w, &from, &to);
		off = from * rs->chunk_size;
		if (off < end && restore_note_damage(rs, res, off, min_u64(to * rs->chunk_size, end) - off, e) < 0)
			return e->code;
		if (off < end)
			res->ndamage += to - from - 1;	/* one is noted */
		err_clear(e);
	}
}

void restore_progress(struct restore *rs, const char *what)
{
	const struct progress_state s = {
		.phase = "restoring", .what = what, .done = rs->done, .total = rs->total,
	};

	progress_update(rs->opts.progress, &s);
}

void restore_run_init(struct restore_run *j, struct restore *rs, struct image_writer *w, uint64_t size,
		      struct restore_result *res)
{
	*j = (struct restore_run){ .rs = rs, .w = w, .res = res, .size = size };
	pthread_mutex_init(&j->lock, NULL);
}

void restore_run_done(struct restore_run *j)
{
	pthread_mutex_destroy(&j->lock);
}

static uint64_t item_range(const struct restore_run *j, const struct fetch_item *it, uint64_t *ret_len)
{
	uint64_t off = it->tag * j->rs->chunk_size;

	*ret_len = min_u64(j->rs->chunk_size, j->size - off);
	return off;
}

size_t restore_together(const struct restore *rs, const struct fetch_item *it, size_t n, uint64_t size,
			uint64_t *ret_off, uint64_t *ret_len)
{
	size_t k = 1;

	while (k < n && it[k].tag == it[0].tag + k)
		k++;
	*ret_off = it->tag * rs->chunk_size;
	*ret_len = min_u64(k * rs->chunk_size, size - *ret_off);
	return k;
}

/* A writer that takes one write at a time is written under the job's lock: there is no other way to serve it. */
static int deliver(void *opaque, const struct fetch_item *it, size_t n, const uint8_t *plain, struct err *e)
{
	struct restore_run *j = opaque;
	int r = 0;

	for (size_t k; r >= 0 && n > 0; it += k, n -= k, plain += k * j->rs->chunk_size) {
		uint64_t off, len;

		k = restore_together(j->rs, it, n, j->size, &off, &len);
		if (writer_is_concurrent(j->w)) {
			r = writer_write(j->w, plain, (size_t)len, off, e);
			pthread_mutex_lock(&j->lock);
		} else {
			pthread_mutex_lock(&j->lock);
			r = writer_write(j->w, plain, (size_t)len, off, e);
		}
		j->res->bytes_written += len;
		j->rs->done += len;
		restore_progress(j->rs, NULL);
		pthread_mutex_unlock(&j->lock);
	}
	return r < 0 ? r : cancel_check(j->rs->opts.cancel, e);
}

static int failed(void *opaque, const struct fetch_item *it, struct err *e)
{
	struct restore_run *j = opaque;
	uint64_t n, off = item_range(j, it, &n);
	int r;

	pthread_mutex_lock(&j->lock);
	r = restore_note_damage(j->rs, j->res, off, n, e);
	if (r == 0 && j->w->ops->zero)
		r = writer_zero(j->w, off, n, e);
	pthread_mutex_unlock(&j->lock);
	return r;
}

/* Guest bytes [from, to) are zero: counts them as done, and tells a writer that wants to know. */
static int gap(struct restore_run *j, uint64_t from, uint64_t to, struct err *e)
{
	j->rs->done += to - from;
	restore_progress(j->rs, NULL);
	return j->w->ops->zero ? writer_zero(j->w, from, to - from, e) : 0;
}

/* Tells the writer what the plan holds, in runs. */
static int expect(struct restore_run *j, const struct plan *p, struct err *e)
{
	int r = 0;

	for (size_t i = 0, k; r == 0 && j->w->ops->expect && i < p->n; i += k) {
		uint64_t off, len;

		k = restore_together(j->rs, p->items + i, p->n - i, j->size, &off, &len);
		r = writer_expect(j->w, off, len, e);
	}
	return r;
}

/* Fills the plan from the walk.  *next is the chunk after the last one seen. */
static int fill(struct restore_run *j, struct tree_walk *walk, struct plan *p, uint64_t *next, bool *ret_end,
		struct err *e)
{
	uint64_t chunk = j->rs->chunk_size;
	int r = 1;

	for (p->n = 0; p->n < p->max; p->n++) {
		struct fetch_item *it = &p->items[p->n];
		uint64_t end;

		r = restore_walk_next(j->rs, j->res, walk, j->size, &it->tag, &it->id, e);
		if (r < 0)
			return r;
		end = r ? it->tag : div_up(j->size, chunk);
		if (end > *next && gap(j, *next * chunk, min_u64(end * chunk, j->size), e) < 0)
			return e->code;
		*next = r ? it->tag + 1 : end;
		if (!r)
			break;
	}
	*ret_end = !r;
	return 0;
}

int restore_run_run(struct restore_run *j, const char *domain, struct plan *p, struct err *e)
{
	const struct fetch_opts fo = {
		.threads = j->rs->opts.threads, .max_bytes = j->rs->fetch_bytes,
		.in_order = j->w->in_order, .failed = failed,
	};
	uint64_t fetched = 0;
	int r = expect(j, p, e);

	if (r < 0)
		return r;
	r = repo_fetch(j->rs->reader, domain, p->items, p->n, &fo, deliver, j, &fetched, e);
	j->res->bytes_fetched += fetched;
	return r;
}

static int run_windows(struct restore_run *j, const char *domain, struct tree_walk *walk, struct plan *p, struct err *e)
{
	uint64_t next = 0;
	bool end = false;

	while (!end)
		if (fill(j, walk, p, &next, &end, e) < 0 || restore_run_run(j, domain, p, e) < 0)
			return e->code;
	return 0;
}

int restore_tree(struct restore *rs, const char *domain, const struct tree_ref *t, struct image_writer *w,
		 struct restore_result *ret, struct err *e)
{
	struct node_source nodes = repo_reader_nodes(rs->reader);
	struct restore_run j;
	struct tree_walk *walk = NULL;
	struct plan p = { 0 };
	int r;

	restore_run_init(&j, rs, w, t->size, ret);
	rs->total = t->size;
	rs->done = 0;
	r = plan_new(rs, &p, e);
	if (r == 0)
		r = tree_walk_new(&nodes, t, rs->chunk_size, 0, &walk, e);
	if (r == 0)
		r = run_windows(&j, domain, walk, &p, e);
	if (r == 0 && w->size > t->size && w->ops->zero)
		r = writer_zero(w, t->size, w->size - t->size, e);
	tree_walk_free(walk);
	plan_done(&p);
	restore_run_done(&j);
	return r;
}
