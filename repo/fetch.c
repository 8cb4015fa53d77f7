/*
 * fetch.c - many chunks at once: sorted by pack, neighbouring segments read together, decoded in parallel
 * (fetch_decode.c).
 *
 *	located items --> fetchers --> queue of ranges --> decoders --> sink
 *	(by pack, segment)  read          (bytes)          open, verify
 *
 * A fetcher takes the items of one pack, reads its directory and then ranges of it; a decoder opens the segments of a
 * range and hands each item to the sink.  What fails anywhere goes the careful way of reader.c, item by item: it knows
 * of other copies and of newer indexes.
 */
#include <inttypes.h>
#include <signal.h>

#include "base/cancel.h"
#include "base/log.h"
#include "base/num.h"
#include "base/workers.h"
#include "repo/fetch_internal.h"
#include "transport/store.h"

#define RANGE_MIN_BYTES ((size_t)256 << 10)
#define RANGE_MAX_BYTES ((size_t)4 << 20)
#define GAP_MAX_BYTES 131072u		/* reading over so much costs less than another request */
#define FETCHERS_MAX 4u
#define CAREFUL_ITEMS 64u		/* items of a range without bytes: small, so that decoders share them */

void fetch_range_free(void *p)
{
	struct fetch_range *g = p;

	read_cache_unref(g->rd->cache, g->dir);
	free(g->bytes);
	free(g);
}

void fetch_fail(struct fetch_engine *g, const struct err *e)
{
	pthread_mutex_lock(&g->lock);
	if (g->first.code == 0)
		g->first = *e;
	pthread_mutex_unlock(&g->lock);
	queue_abort(g->q);
}

bool fetch_stopped(struct fetch_engine *g)
{
	bool stop = atomic_load_explicit(g->stop, memory_order_relaxed);

	pthread_mutex_lock(&g->lock);
	stop |= g->first.code != 0;
	pthread_mutex_unlock(&g->lock);
	return stop;
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

static int cmp_item(const void *a, const void *b, void *opaque)
{
	const struct fetch_item *items = opaque;

	return id_cmp(&items[*(const uint32_t *)a].id, &items[*(const uint32_t *)b].id);
}

static int cmp_located(const void *pa, const void *pb)
{
	const struct fetch_located *a = pa, *b = pb;

	if (a->pack != b->pack)
		return a->pack < b->pack ? -1 : 1;
	if (a->segment != b->segment)
		return a->segment < b->segment ? -1 : 1;
	if (a->chunk != b->chunk)
		return a->chunk < b->chunk ? -1 : 1;
	return a->item < b->item ? -1 : a->item > b->item;
}

/* Looks ids up in their order, which is the order of index blocks, and sorts by place. */
static int locate(struct fetch_engine *g, struct err *e)
{
	CLEANUP(free_ptr) uint32_t *order = malloc(g->n * sizeof(*order));
	struct chunk_place place;
	struct err one = ERR_INIT;

	g->loc = calloc(g->n, sizeof(*g->loc));
	if (!order || !g->loc)
		return err_set(e, ERR_NOMEM, "no memory for the places of %zu chunks", g->n);
	for (size_t i = 0; i < g->n; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, g->n, sizeof(*order), cmp_item, (void *)(uintptr_t)g->items);
	for (size_t i = 0; i < g->n; i++) {
		struct fetch_located *l = &g->loc[i];
		int r;

		l->item = order[i];
		l->pack = FETCH_NOWHERE;
		if (i && id_eq(&g->items[order[i]].id, &g->items[order[i - 1]].id)) {
			*l = g->loc[i - 1];
			l->item = order[i];
			continue;
		}
		err_clear(&one);
		r = index_find(g->ri->x, &g->items[order[i]].id, 0, &place, NULL, &one);
		if (r < 0 && read_is_final(r)) {
			*e = one;
			return r;
		}
		if (r == 1) {
			l->pack = place.pack;
			l->segment = place.segment;
			l->chunk = place.chunk;
		}
		if (cancel_check(repo_cancel(g->rd->r), e) < 0)
			return e->code;
	}
	qsort(g->loc, g->n, sizeof(*g->loc), cmp_located);
	return 0;
}

/* --- fetching ----------------------------------------------------------------------------------------------------- */

static int push(struct fetch_engine *g, const struct fetch_range *proto, struct err *e)
{
	struct fetch_range *range = malloc(sizeof(*range));

	if (!range) {
		read_cache_unref(g->rd->cache, proto->dir);
		free(proto->bytes);
		return err_set(e, ERR_NOMEM, "no memory for a range");
	}
	*range = *proto;
	if (!queue_push(g->q, range, range->len + sizeof(*range)))
		return err_set(e, ERR_CANCELLED, "stopped");	/* somebody failed before: that error counts */
	return 0;
}

/* Items that have to go the careful way. */
static int push_careful(struct fetch_engine *g, size_t first, size_t end, struct err *e)
{
	while (first < end) {
		struct fetch_range range = { .rd = g->rd,
				       .first = first,
				       .end = first + min_size(end - first, CAREFUL_ITEMS) };

		if (push(g, &range, e) < 0)
			return e->code;
		first = range.end;
	}
	return 0;
}

/* Reads what want says of the pack and hands it on; what can't be read goes the careful way. */
static int push_range(struct fetch_engine *g, struct read_ctx *c, const struct pack_info *pack,
		      const struct fetch_range *want, struct err *e)
{
	struct fetch_range range = *want;
	struct err lost = ERR_INIT;

	if (read_directory(c, pack, &range.dir, &lost) == 0)	/* in use by our caller: it comes from the cache */
		range.bytes = malloc(range.len);
	if (range.bytes &&
	    store_read(repo_store(g->rd->r), pack->name, range.bytes, range.len, range.off, &lost) == 0) {
		c->stored += range.len;
		return push(g, &range, e);
	}
	read_cache_unref(g->rd->cache, range.dir);
	free(range.bytes);
	return push_careful(g, range.first, range.end, e);
}

/* True when the segment can be read together with range: it is in it, or begins shortly behind. */
static bool fits_range(const struct fetch_engine *g, const struct fetch_range *range, const struct dir_segment *s)
{
	uint64_t end = range->off + range->len;

	if (s->off < range->off || s->off > end + GAP_MAX_BYTES)
		return false;
	return s->off + s->stored <= end || s->off + s->stored - range->off <= g->range_max;
}

/* Items [first, end) are in one pack with directory d. */
static int fetch_pack(struct fetch_engine *g, struct read_ctx *c, const struct pack_info *pack,
		      const struct directory *d, size_t first, size_t end, struct err *e)
{
	struct fetch_range range = { .rd = g->rd, .first = first, .end = first };

	for (size_t i = first; i < end; i++) {
		const struct dir_segment *s;

		if (g->loc[i].segment >= d->segments.n)	/* sorted: so are all after it */
			break;
		s = &d->segments.p[g->loc[i].segment];
		if (range.len && !fits_range(g, &range, s)) {
			if (fetch_stopped(g))
				return 0;
			if (push_range(g, c, pack, &range, e) < 0)
				return e->code;
			range.first = i;
			range.len = 0;
		}
		if (range.len == 0)
			range.off = s->off;
		range.len = (size_t)max_u64(range.len, s->off + s->stored - range.off);
		range.end = i + 1;
	}
	if (range.len && push_range(g, c, pack, &range, e) < 0)
		return e->code;
	return push_careful(g, range.end, end, e);
}

/* Takes the items of the next pack; false: there are none. */
static bool take_pack(struct fetch_engine *g, size_t *ret_first, size_t *ret_end)
{
	pthread_mutex_lock(&g->lock);
	*ret_first = g->next;
	while (g->next < g->n && g->loc[g->next].pack == g->loc[*ret_first].pack)
		g->next++;
	*ret_end = g->next;
	pthread_mutex_unlock(&g->lock);
	return *ret_first < *ret_end;
}

static int fetch_all(struct fetch_engine *g, struct read_ctx *c, struct err *e)
{
	size_t first, end;

	while (!fetch_stopped(g) && take_pack(g, &first, &end)) {
		struct err lost = ERR_INIT;
		struct read_ref *dir = NULL;
		struct pack_info pack;
		int r;

		if (cancel_check(repo_cancel(g->rd->r), e) < 0)
			return e->code;
		if (g->loc[first].pack != FETCH_NOWHERE) {
			pack = *index_pack(g->ri->x, g->loc[first].pack);
			r = read_directory(c, &pack, &dir, &lost);
			if (r < 0 && read_is_final(r)) {
				*e = lost;
				return r;
			}
		}
		r = dir ? fetch_pack(g, c, &pack, read_ref_value(dir), first, end, e) : push_careful(g, first, end, e);
		read_cache_unref(g->rd->cache, dir);
		if (r < 0)
			return r;
	}
	return 0;
}

static void *fetcher_main(void *arg)
{
	struct fetch_engine *g = arg;
	struct err e = ERR_INIT;
	struct read_ctx c = { 0 };
	bool last;

	if (read_begin(g->rd, PACK_DATA, g->domain, &c, &e) < 0 || fetch_all(g, &c, &e) < 0)
		fetch_fail(g, &e);
	pthread_mutex_lock(&g->lock);
	g->stored += c.stored;
	last = --g->fetching == 0;
	pthread_mutex_unlock(&g->lock);
	if (last)
		queue_close(g->q);
	read_end(&c);
	return NULL;
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static unsigned start(pthread_t *t, unsigned n, void *(*run)(void *), struct fetch_engine *g, int *ret_error)
{
	sigset_t all, before;
	unsigned started = 0;
	int r = 0;

	sigfillset(&all);	/* signals are the main thread's business */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (; r == 0 && started < n; started += r == 0)
		r = pthread_create(&t[started], NULL, run, g);
	if (r)
		*ret_error = r;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

static unsigned fetchers_for(const struct fetch_engine *g)
{
	unsigned n = store_caps(repo_store(g->rd->r))->parallel;

	return n < 1 ? 1 : n < FETCHERS_MAX ? n : FETCHERS_MAX;
}

static int run_threads(struct fetch_engine *g, unsigned decoders, struct err *e)
{
	CLEANUP(free_ptr) pthread_t *t = calloc(decoders + FETCHERS_MAX, sizeof(*t));
	unsigned nfetch = fetchers_for(g), ndecode, got;
	int error = 0;

	if (!t)
		return err_set(e, ERR_NOMEM, "no memory for threads");
	ndecode = start(t, decoders, fetch_decoder, g, &error);
	g->fetching = nfetch;
	got = ndecode ? start(t + ndecode, nfetch, fetcher_main, g, &error) : 0;
	pthread_mutex_lock(&g->lock);
	g->fetching -= nfetch - got;	/* fewer than asked for will do */
	nfetch = g->fetching;
	pthread_mutex_unlock(&g->lock);
	LOG_DEBUG("fetch: %u threads decode, %u read ranges of at most %zu bytes", ndecode, got, g->range_max);
	if (got == 0)
		(void)workers_no_thread(e, error, "reading");
	if (got == 0)
		fetch_fail(g, e);
	else if (nfetch == 0)
		queue_close(g->q);
	for (unsigned i = 0; i < ndecode + got; i++)
		pthread_join(t[i], NULL);
	if (g->first.code)
		*e = g->first;
	return g->first.code;
}

int fetch_run(struct fetch_job *j, struct err *e)
{
	struct fetch_engine g = { .rd = j->rd,
			    .domain = j->domain,
			    .items = j->items,
			    .n = j->n,
			    .sink = j->sink,
			    .failed = j->failed,
			    .opaque = j->opaque,
			    .stop = &j->stop };
	unsigned threads = j->threads ? j->threads : workers_cpus();
	size_t each = j->max_bytes / (2 * FETCHERS_MAX + threads);	/* a range: read, waiting, or being decoded */
	int r;

	if (j->n == 0)
		return 0;
	g.range_max = each < RANGE_MIN_BYTES ? RANGE_MIN_BYTES : min_size(each, RANGE_MAX_BYTES);
	if (queue_new(g.range_max * FETCHERS_MAX, fetch_range_free, &g.q, e) < 0)
		return e->code;
	pthread_mutex_init(&g.lock, NULL);	/* cannot fail with default attributes */
	pthread_mutex_init(&g.failed_lock, NULL);
	g.ri = read_index_hold(j->rd);
	r = locate(&g, e);
	if (r == 0)
		r = run_threads(&g, threads, e);
	j->stored += g.stored;
	read_index_drop(j->rd, g.ri);
	queue_free(g.q);
	pthread_mutex_destroy(&g.failed_lock);
	pthread_mutex_destroy(&g.lock);
	free(g.loc);
	return r;
}
