/*
 * pipeline.c - chunks on their way from images to the coordinator.
 *
 *	coordinator: pipe_put -> [item][item][item] -> workers: read, find zeros, hash -> coordinator: sink, in order
 *
 * The workers do the reading too, so that the clusters of a compressed image are decoded in parallel; the kernel is
 * told of a range when it is put in, a full budget before its turn.  One thread puts and takes: it takes whenever the
 * budget is used up.  So chunks come out in the order of the guest's addresses whatever the number of threads.
 *
 * The page cache is left as found: what was not cached when its turn came (chain_is_cold) is given back to the kernel
 * after use; what was (a guest uses it, say) stays.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/workers.h"
#include "repo/ingest/ingest_internal.h"
#include "repo/object.h"

#define ITEM_BYTES ((size_t)1 << 20)		/* what one read asks for, where the budget allows */
#define ITEM_OVERHEAD 256			/* what an item without a buffer counts against the budget */

struct pipe {
	struct ingest_plan *p;
	struct repo_writer *w;
	struct workers *workers;
	size_t item_chunks;		/* most chunks of an item */
	const char *disk;
	const struct chain *chain;
	struct cold_window window;
	item_sink sink;			/* NULL: forget what comes */
	void *opaque;
	uint64_t inside;		/* items */
	uint64_t bytes_read, bytes_hashed;
};

static void item_free(void *p)
{
	struct item *it = p;

	if (!it)
		return;
	free(it->buf);
	free(it->ids);
	free(it->zero);
	free(it);
}

/* --- in a worker ----------------------------------------------------------------------------------------------- */

static int item_alloc(struct item *it, size_t n, struct err *e)
{
	it->buf = malloc(n * it->chunk_size);	/* bounded by item_chunks */
	it->ids = malloc(n * sizeof(*it->ids));
	it->zero = malloc(n * sizeof(*it->zero));
	return it->buf && it->ids && it->zero ? 0 : err_set(e, ERR_NOMEM, "no memory to read %zu chunks", n);
}

static int item_pread(struct item *it, size_t len, uint64_t off, struct err *e)
{
	return it->vm_state ? image_pread_vm_state(it->image, it->state, it->buf, len, off, e) :
			      image_pread(it->image, it->state, it->buf, len, off, e);
}

static int crypt_local(void *opaque, void **ret, struct err *e)
{
	struct crypt *c = NULL;

	(void)opaque;
	if (crypt_new(&c, e) < 0)
		return e->code;
	*ret = c;
	return 0;
}

static void crypt_local_free(void *crypt)
{
	crypt_free(crypt);
}

/* Reads and hashes.  A source that fails is the item's news, not the end of the work. */
static int item_run(void *local, void *p, struct err *e)
{
	struct crypt *crypt = local;
	struct item *it = p;
	size_t n = (size_t)(it->to - it->from), len;
	uint64_t off = it->from * it->chunk_size;

	if (it->kind != ITEM_READ)
		return 0;
	if (cancel_check(it->cancel, e) < 0 || item_alloc(it, n, e) < 0)
		return e->code;
	len = (size_t)plan_bytes(it->size, it->chunk_size, it->from, it->to);
	if (item_pread(it, len, off, &it->failed) < 0) {
		if (!ingest_fatal(it->failed.code))
			return 0;
		*e = it->failed;
		return e->code;
	}
	memset(it->buf + len, 0, n * it->chunk_size - len);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *chunk = it->buf + i * it->chunk_size;

		it->zero[i] = bytes_all_zero(chunk, it->chunk_size);
		if (!it->zero[i] && id_of_chunk(crypt, it->repo, NULL, chunk, it->chunk_size, &it->ids[i], e) < 0)
			return e->code;
	}
	return 0;
}

/* --- the coordinator's side ------------------------------------------------------------------------------------ */

static void show_progress(struct pipe *pl)
{
	struct repo_writer_stats ws = { 0 };
	struct progress_state s = {
		.phase = "reading", .what = pl->disk, .done = pl->bytes_read, .total = pl->p->bytes_total
	};

	if (pl->w)
		repo_writer_stats(pl->w, &ws);
	s.stored = ws.bytes_stored;
	s.total = max_u64(s.total, s.done); /* a state may have to be read again, and the audit reads beyond the plan */
	progress_update(pl->p->o->progress, &s);
}

static void count(struct pipe *pl, const struct item *it)
{
	size_t n = (size_t)(it->to - it->from);

	if (it->kind != ITEM_READ)
		return;
	pl->bytes_read += plan_bytes(it->size, it->chunk_size, it->from, it->to);
	for (size_t i = 0; !it->failed.code && i < n; i++)
		pl->bytes_hashed += it->zero[i] ? 0 : it->chunk_size;
	show_progress(pl);
}

/* Takes the oldest item; the pipe is not empty. */
static int take_one(struct pipe *pl, struct err *e)
{
	struct item *it;
	void *p;
	int r;

	if (workers_next(pl->workers, &p, e) < 0)
		return e->code;
	it = p;
	pl->inside--;
	count(pl, it);
	if (it->cold)
		image_advise(it->image, it->state, it->from * it->chunk_size, (it->to - it->from) * it->chunk_size,
			     false);
	r = pl->sink ? pl->sink(pl->opaque, it, e) : 0;
	item_free(it);
	return r;
}

static int put_one(struct pipe *pl, const struct item *like, uint64_t from, uint64_t to, struct err *e)
{
	struct item *it = malloc(sizeof(*it));
	size_t bytes = sizeof(*it) + ITEM_OVERHEAD;

	if (!it)
		return err_set(e, ERR_NOMEM, "no memory for a range to read");
	*it = *like;
	it->repo = pl->p->r;
	it->cancel = pl->p->o->cancel;
	it->chunk_size = pl->p->chunk_size;
	it->from = from;
	it->to = to;
	if (it->kind == ITEM_READ) {
		bytes += (size_t)(to - from) * it->chunk_size;
		it->cold = pl->chain && !it->vm_state &&
			   chain_is_cold(pl->chain, &pl->window, it->image, it->state, it->from * it->chunk_size);
		if (!it->vm_state)
			image_advise(it->image, it->state, from * it->chunk_size, (to - from) * it->chunk_size, true);
	}
	while (workers_full(pl->workers))
		if (take_one(pl, e) < 0) {
			item_free(it);
			return e->code;
		}
	if (workers_submit(pl->workers, it, bytes, e) < 0)
		return e->code;
	pl->inside++;
	return 0;
}

int pipe_put(struct pipe *pl, const struct item *like, uint64_t from, uint64_t to, struct err *e)
{
	if (like->kind != ITEM_READ)
		return put_one(pl, like, from, to, e);
	while (from < to) {
		uint64_t n = min_u64(to - from, pl->item_chunks);

		if (cancel_check(pl->p->o->cancel, e) < 0 || put_one(pl, like, from, from + n, e) < 0)
			return e->code;
		from += n;
	}
	return 0;
}

int pipe_drain(struct pipe *pl, struct err *e)
{
	while (pl->inside)
		if (take_one(pl, e) < 0)
			return e->code;
	return 0;
}

int pipe_discard(struct pipe *pl, struct err *e)
{
	pl->sink = NULL;
	return pipe_drain(pl, e);
}

void pipe_aim(struct pipe *pl, const char *disk, const struct chain *chain, item_sink sink, void *opaque)
{
	pl->disk = disk;
	pl->chain = chain;
	pl->sink = sink;
	pl->opaque = opaque;
	pl->window = (struct cold_window){ 0 };
}

void pipe_count(struct pipe *pl, uint64_t bytes_read, uint64_t bytes_hashed)
{
	pl->bytes_read += bytes_read;
	pl->bytes_hashed += bytes_hashed;
}

uint64_t pipe_bytes_read(const struct pipe *pl)
{
	return pl->bytes_read;
}

uint64_t pipe_bytes_hashed(const struct pipe *pl)
{
	return pl->bytes_hashed;
}

int pipe_new(struct ingest_plan *p, struct repo_writer *w, struct pipe **ret, struct err *e)
{
	CLEANUP(pipe_free_cleanup) struct pipe *pl = calloc(1, sizeof(*pl));
	size_t budget = p->o->max_bytes ? p->o->max_bytes : INGEST_DEFAULT_BYTES;
	unsigned threads = p->o->threads ? p->o->threads : workers_cpus();
	struct workers_opts wo = { .name = "kedge-read",
				   .run = item_run,
				   .local_new = crypt_local,
				   .local_free = crypt_local_free,
				   .item_free = item_free };
	size_t item_bytes;

	if (!pl)
		return err_set(e, ERR_NOMEM, "no memory to read with");
	/* A quarter is the node table's (nodes.c).  Each thread has an item at hand and one to come; else fewer
	 * threads. */
	budget -= budget / 4;
	while (threads > 1 && budget / (2 * threads) < p->chunk_size)
		threads--;
	item_bytes = max_u64(p->chunk_size, min_u64(ITEM_BYTES, budget / (2 * threads)));
	pl->item_chunks = item_bytes / p->chunk_size;
	/* submit lets one item in beyond the budget, and one is with the sink */
	wo.max_bytes = budget > 3 * item_bytes ? budget - 2 * item_bytes : item_bytes;
	wo.threads = threads;
	pl->p = p;
	pl->w = w;
	if (workers_new(&wo, &pl->workers, e) < 0)
		return e->code;
	*ret = STEAL(pl);
	return 0;
}

void pipe_free(struct pipe *pl)
{
	if (!pl)
		return;
	workers_free(pl->workers);
	free(pl);
}
