/*
 * fetch_deliver.c - the two ways to hand out chunks: as they come, to whichever thread has them; or in the order of the
 * items, where one window is fetched while the one before is handed out.
 */
#include <signal.h>

#include "base/cancel.h"
#include "base/num.h"
#include "base/workers.h"
#include "repo/fetch_internal.h"

#define DEFAULT_BYTES ((size_t)64 << 20)
#define TOGETHER_MAX 16u	/* chunks handed out in order in one go: somebody may want to stop in between */

struct caller {
	const struct fetch_item *items;
	const struct fetch_opts *o;
	size_t chunk_size;
	fetch_fn fn;
	void *opaque;
};

static int sink_caller(void *opaque, uint32_t item, size_t n, const uint8_t *plain, struct err *e)
{
	struct caller *c = opaque;

	return c->fn(c->opaque, &c->items[item], n, plain, e);
}

static int failed_caller(void *opaque, uint32_t item, struct err *e)
{
	struct caller *c = opaque;

	return c->o->failed(c->opaque, &c->items[item], e);
}

/* Items of a stream that are fetched together and then handed out in order. */
struct window {
	struct fetch_job job;
	uint8_t *plain;
	uint8_t *have;		/* per item: 1 = plain holds it */
	pthread_t thread;
	bool running;
	int r;			/* of the last fetch */
	struct err e;
};

static int sink_window(void *opaque, uint32_t item, size_t n, const uint8_t *plain, struct err *e)
{
	struct window *w = opaque;

	(void)e;
	memcpy(w->plain + (size_t)item * w->job.rd->chunk_size, plain, n * w->job.rd->chunk_size);
	memset(w->have + item, 1, n);
	return 0;
}

/* The error is made again, in its turn, when the item is handed out. */
static int failed_window(void *opaque, uint32_t item, struct err *e)
{
	(void)opaque;
	(void)item;
	(void)e;
	return 0;
}

static void *window_main(void *arg)
{
	struct window *w = arg;

	w->r = fetch_run(&w->job, &w->e);
	return NULL;
}

static int window_start(struct window *w, const struct fetch_item *items, size_t n, struct err *e)
{
	sigset_t all, before;
	int r;

	w->job.items = items;
	w->job.n = n;
	memset(w->have, 0, n);
	sigfillset(&all);	/* signals are the main thread's business */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, NULL, window_main, w);
	w->running = r == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return w->running ? 0 : workers_no_thread(e, r, "reading ahead");
}

static int window_wait(struct window *w, struct err *e)
{
	if (w->running)
		pthread_join(w->thread, NULL);
	w->running = false;
	if (w->r < 0)
		*e = w->e;
	return w->r;
}

static int window_lost(struct window *w, struct read_ctx *c, const struct caller *call, uint32_t i, struct err *e)
{
	uint8_t *at = w->plain + (size_t)i * call->chunk_size;
	size_t len;
	int r = read_item(c, &w->job.items[i].id, at, call->chunk_size, &len, e);

	if (r == 0) {
		w->have[i] = 1;
		return 0;
	}
	if (!call->o->failed || read_is_final(r))
		return r;
	r = call->o->failed(call->opaque, &w->job.items[i], e);
	if (r == 0)
		err_clear(e);
	return r;
}

static int window_deliver(struct window *w, struct read_ctx *c, const struct caller *call, struct err *e)
{
	int r = 0;

	for (size_t i = 0, n; r >= 0 && i < w->job.n; i += n) {
		n = 1;
		if (!w->have[i])
			r = window_lost(w, c, call, (uint32_t)i, e);
		while (n < TOGETHER_MAX && i + n < w->job.n && w->have[i] && w->have[i + n])
			n++;
		if (r >= 0 && w->have[i])
			r = call->fn(call->opaque, &w->job.items[i], n, w->plain + i * call->chunk_size, e);
		if (r >= 0)
			r = cancel_check(repo_cancel(w->job.rd->r), e);
	}
	return r;
}

static int stream_windows(struct window w[2], size_t per_window, const struct fetch_item *items, size_t n,
			  struct read_ctx *c, const struct caller *call, struct err *e)
{
	size_t at = min_size(n, per_window);

	if (window_start(&w[0], items, at, e) < 0)
		return e->code;
	for (unsigned k = 0;; k ^= 1) {
		size_t more = min_size(n - at, per_window);

		if (window_wait(&w[k], e) < 0)
			return e->code;
		if (more && window_start(&w[k ^ 1], items + at, more, e) < 0)
			return e->code;
		at += more;
		if (window_deliver(&w[k], c, call, e) < 0)
			return e->code;
		if (more == 0)
			return 0;
	}
}

static int fetch_in_order(const struct fetch_job *proto, const struct caller *call, uint64_t *stored, struct err *e)
{
	size_t per_window = proto->max_bytes * 3 / 8 / call->chunk_size;
	struct window w[2] = { 0 };
	struct read_ctx c = { 0 };
	int r = 0;

	per_window = min_size(per_window ? per_window : 1, proto->n);
	for (unsigned k = 0; k < 2; k++) {
		w[k].job = *proto;
		w[k].job.max_bytes = proto->max_bytes / 4;
		w[k].job.sink = sink_window;
		w[k].job.failed = failed_window;
		w[k].job.opaque = &w[k];
		w[k].plain = malloc(per_window * call->chunk_size);
		w[k].have = malloc(per_window);
		if (!w[k].plain || !w[k].have)
			r = err_set(e, ERR_NOMEM, "no memory for a window of %zu chunks", per_window);
	}
	if (r == 0)
		r = read_begin(proto->rd, PACK_DATA, proto->domain, &c, e);
	if (r == 0)
		r = stream_windows(w, per_window, proto->items, proto->n, &c, call, e);
	for (unsigned k = 0; k < 2; k++) {
		struct err late = ERR_INIT;	/* r says what went wrong */

		atomic_store(&w[k].job.stop, true);
		(void)window_wait(&w[k], &late);
		*stored += w[k].job.stored;
		free(w[k].plain);
		free(w[k].have);
	}
	*stored += c.stored;
	read_end(&c);
	return r < 0 ? r : 0;
}

int repo_fetch(struct repo_reader *rd, const char *domain, struct fetch_item *items, size_t n,
	       const struct fetch_opts *o, fetch_fn fn, void *opaque, uint64_t *ret_stored, struct err *e)
{
	struct caller call = { .items = items, .o = o, .chunk_size = rd->chunk_size, .fn = fn, .opaque = opaque };
	struct fetch_job job = { .rd = rd, .domain = domain, .items = items, .n = n, .threads = o->threads,
			   .max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_BYTES };
	uint64_t stored = 0;
	int r;

	if (n > FETCH_ITEMS_MAX)
		return err_set(e, ERR_INVALID, "%zu chunks at once", n);
	if (domain && !repo_has_domain(rd->r, domain))
		return err_set(e, ERR_AUTH, "no key for the deduplication domain \"%s\"", domain);
	if (n == 0) {
		r = 0;
	} else if (o->in_order) {
		r = fetch_in_order(&job, &call, &stored, e);
	} else {
		job.sink = sink_caller;
		job.failed = o->failed ? failed_caller : NULL;
		job.opaque = &call;
		r = fetch_run(&job, e);
		stored = job.stored;
	}
	if (r == 0 && ret_stored)
		*ret_stored = stored;
	return r;
}
