/*
 * fetch.c - many chunks at once: sorted by pack, neighbouring segments read together, decoded in parallel.
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
#include "base/queue.h"
#include "base/workers.h"
#include "repo/fetch_internal.h"
#include "transport/store.h"

#define RANGE_MIN_BYTES ((size_t)256 << 10)
#define RANGE_MAX_BYTES ((size_t)4 << 20)
#define GAP_MAX_BYTES 131072u		/* reading over so much costs less than another request */
#define FETCHERS_MAX 4u
#define CAREFUL_ITEMS 64u		/* items of a range without bytes: small, so that decoders share them */
#define NOWHERE UINT32_MAX

/* Where an item is. */
struct located {
	uint32_t item;
	uint32_t pack;		/* NOWHERE: no run names it */
	uint32_t segment;
	uint32_t chunk;
};

/* Items [first, end) of located, all in one pack, and the bytes that hold their segments. */
struct range {
	struct repo_reader *rd;
	size_t first, end;
	struct read_ref *dir;	/* NULL: the careful way */
	uint8_t *bytes;
	uint64_t off;		/* of bytes in the pack */
	size_t len;
};

struct engine {
	struct repo_reader *rd;
	const char *domain;
	const struct fetch_item *items;
	struct located *loc;
	size_t n;
	struct read_index *ri;
	size_t range_max;
	/* Sink and failed get the item's number; from several threads, failed from one at a time. */
	int (*sink)(void *opaque, uint32_t item, const uint8_t *plain, struct err *e);
	int (*failed)(void *opaque, uint32_t item, struct err *e);
	void *opaque;
	atomic_bool *stop;		/* set: finish early, without an error */
	struct queue *q;
	pthread_mutex_t failed_lock;	/* held while failed is called, and nothing else */
	pthread_mutex_t lock;		/* guards what follows */
	size_t next;			/* first located item that no fetcher has taken */
	unsigned fetching;		/* fetchers at work */
	struct err first;		/* first error; code 0 = none */
	uint64_t stored;
};

static void range_free(void *p)
{
	struct range *g = p;

	read_cache_unref(g->rd->cache, g->dir);
	free(g->bytes);
	free(g);
}

static void engine_fail(struct engine *g, const struct err *e)
{
	pthread_mutex_lock(&g->lock);
	if (g->first.code == 0)
		g->first = *e;
	pthread_mutex_unlock(&g->lock);
	queue_abort(g->q);
}

static bool engine_stopped(struct engine *g)
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
	const struct located *a = pa, *b = pb;

	if (a->pack != b->pack)
		return a->pack < b->pack ? -1 : 1;
	if (a->segment != b->segment)
		return a->segment < b->segment ? -1 : 1;
	if (a->chunk != b->chunk)
		return a->chunk < b->chunk ? -1 : 1;
	return a->item < b->item ? -1 : a->item > b->item;
}

/* Looks ids up in their order, which is the order of index blocks, and sorts by place. */
static int locate(struct engine *g, struct err *e)
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
		struct located *l = &g->loc[i];
		int r;

		l->item = order[i];
		l->pack = NOWHERE;
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

static int push(struct engine *g, const struct range *proto, struct err *e)
{
	struct range *range = malloc(sizeof(*range));

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
static int push_careful(struct engine *g, size_t first, size_t end, struct err *e)
{
	while (first < end) {
		struct range range = { .rd = g->rd,
				       .first = first,
				       .end = first + min_size(end - first, CAREFUL_ITEMS) };

		if (push(g, &range, e) < 0)
			return e->code;
		first = range.end;
	}
	return 0;
}

/* Reads what want says of the pack and hands it on; what can't be read goes the careful way. */
static int push_range(struct engine *g, struct read_ctx *c, const struct pack_info *pack, const struct range *want,
		      struct err *e)
{
	struct range range = *want;
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
static bool fits_range(const struct engine *g, const struct range *range, const struct dir_segment *s)
{
	uint64_t end = range->off + range->len;

	if (s->off < range->off || s->off > end + GAP_MAX_BYTES)
		return false;
	return s->off + s->stored <= end || s->off + s->stored - range->off <= g->range_max;
}

/* Items [first, end) are in one pack with directory d. */
static int fetch_pack(struct engine *g, struct read_ctx *c, const struct pack_info *pack, const struct directory *d,
		      size_t first, size_t end, struct err *e)
{
	struct range range = { .rd = g->rd, .first = first, .end = first };

	for (size_t i = first; i < end; i++) {
		const struct dir_segment *s;

		if (g->loc[i].segment >= d->segments.n)	/* sorted: so are all after it */
			break;
		s = &d->segments.p[g->loc[i].segment];
		if (range.len && !fits_range(g, &range, s)) {
			if (engine_stopped(g))
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
static bool take_pack(struct engine *g, size_t *ret_first, size_t *ret_end)
{
	pthread_mutex_lock(&g->lock);
	*ret_first = g->next;
	while (g->next < g->n && g->loc[g->next].pack == g->loc[*ret_first].pack)
		g->next++;
	*ret_end = g->next;
	pthread_mutex_unlock(&g->lock);
	return *ret_first < *ret_end;
}

static int fetch_all(struct engine *g, struct read_ctx *c, struct err *e)
{
	size_t first, end;

	while (!engine_stopped(g) && take_pack(g, &first, &end)) {
		struct err lost = ERR_INIT;
		struct read_ref *dir = NULL;
		struct pack_info pack;
		int r;

		if (cancel_check(repo_cancel(g->rd->r), e) < 0)
			return e->code;
		if (g->loc[first].pack != NOWHERE) {
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
	struct engine *g = arg;
	struct err e = ERR_INIT;
	struct read_ctx c = { 0 };
	bool last;

	if (read_begin(g->rd, PACK_DATA, g->domain, &c, &e) < 0 || fetch_all(g, &c, &e) < 0)
		engine_fail(g, &e);
	pthread_mutex_lock(&g->lock);
	g->stored += c.stored;
	last = --g->fetching == 0;
	pthread_mutex_unlock(&g->lock);
	if (last)
		queue_close(g->q);
	read_end(&c);
	return NULL;
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

struct decoder {
	struct engine *g;
	struct read_ctx c;
	uint8_t *scratch;	/* one chunk */
};

/* One item by way of other copies and a newer index. */
static int careful(struct decoder *d, uint32_t item, struct err *e)
{
	struct engine *g = d->g;
	size_t len;
	int r = read_item(&d->c, &g->items[item].id, d->scratch, g->rd->chunk_size, &len, e);

	if (r == 0)
		return g->sink(g->opaque, item, d->scratch, e);
	if (!g->failed || read_is_final(r))
		return r;
	pthread_mutex_lock(&g->failed_lock);
	r = g->failed(g->opaque, item, e);
	pthread_mutex_unlock(&g->failed_lock);
	if (r == 0)
		err_clear(e);
	return r;
}

/* The verified content of an item of an opened segment; NULL: it is not good. */
static const uint8_t *plain_of(struct decoder *d, const struct segment *s, const struct located *l)
{
	struct engine *g = d->g;
	const struct id *id = &g->items[l->item].id;
	struct segment_others others = { 0 };
	struct segment_bases bases = read_bases(&d->c);
	struct err lost = ERR_INIT;
	const uint8_t *plain;

	if (l->chunk >= segment_nchunks(s) || !id_eq(segment_chunk_id(s, l->chunk), id) ||
	    segment_chunk_len(s, l->chunk) != g->rd->chunk_size)
		return NULL;
	plain = segment_chunk_peek(s, l->chunk);
	if (!plain) {
		if (segment_chunk(d->c.codec, s, l->chunk, &bases, DELTA_DEPTH_MAX, &others, d->scratch, &lost) < 0)
			return NULL;
		plain = d->scratch;
	}
	if (segment_verify(g->rd->r, PACK_DATA, g->domain, id, plain, g->rd->chunk_size, &lost) < 0)
		return NULL;
	return plain;
}

static bool same_item(const struct engine *g, const struct located *a, const struct located *b)
{
	return a->chunk == b->chunk && id_eq(&g->items[a->item].id, &g->items[b->item].id);
}

/* Items [first, end) are in one segment; s NULL: it could not be opened. */
static int deliver(struct decoder *d, const struct segment *s, size_t first, size_t end, struct err *e)
{
	struct engine *g = d->g;
	const uint8_t *plain = NULL;
	int r = 0;

	for (size_t i = first; r >= 0 && i < end; i++) {
		const struct located *l = &g->loc[i];

		if (atomic_load_explicit(g->stop, memory_order_relaxed))
			return 0;
		/* The same again was verified a moment ago; two ids at one place are not the same, whatever an index
		 * says. */
		if (s && !(plain && same_item(g, l, &g->loc[i - 1])))
			plain = plain_of(d, s, l);
		r = plain ? g->sink(g->opaque, l->item, plain, e) : careful(d, l->item, e);
	}
	return r;
}

static int decode_range(struct decoder *d, struct range *range, struct err *e)
{
	const struct directory *dir = range->dir ? read_ref_value(range->dir) : NULL;
	size_t end;
	int r = 0;

	for (size_t i = range->first; r >= 0 && i < range->end; i = end) {
		CLEANUP(segment_free_cleanup) struct segment *s = NULL;
		uint32_t index = d->g->loc[i].segment;
		struct err lost = ERR_INIT;

		for (end = i + 1; end < range->end && d->g->loc[end].segment == index; end++)
			;
		if (dir) {
			const struct dir_segment *row = &dir->segments.p[index];

			r = segment_open(d->c.codec, d->g->rd->r, dir, index, range->bytes + (row->off - range->off),
					 row->stored, &s, &lost);
			if (r == ERR_NOMEM) {
				*e = lost;
				return r;
			}
		}
		r = deliver(d, s, i, end, e);
	}
	return r;
}

static void *decoder_main(void *arg)
{
	struct engine *g = arg;
	struct decoder d = { .g = g };
	struct err e = ERR_INIT;
	struct range *range;
	int r = read_begin(g->rd, PACK_DATA, g->domain, &d.c, &e);

	d.scratch = malloc(g->rd->chunk_size);
	if (r == 0 && !d.scratch)
		r = err_set(&e, ERR_NOMEM, "no memory for a chunk");
	while (r >= 0 && (range = queue_pop(g->q)) != NULL) {
		r = cancel_check(repo_cancel(g->rd->r), &e);
		if (r == 0 && !engine_stopped(g))
			r = decode_range(&d, range, &e);
		range_free(range);
	}
	if (r < 0)
		engine_fail(g, &e);
	pthread_mutex_lock(&g->lock);
	g->stored += d.c.stored;
	pthread_mutex_unlock(&g->lock);
	free(d.scratch);
	read_end(&d.c);
	return NULL;
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static unsigned start(pthread_t *t, unsigned n, void *(*run)(void *), struct engine *g)
{
	sigset_t all, before;
	unsigned started = 0;

	sigfillset(&all);	/* signals are the main thread's business */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (started < n && pthread_create(&t[started], NULL, run, g) == 0)
		started++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

static unsigned fetchers_for(const struct engine *g)
{
	unsigned n = store_caps(repo_store(g->rd->r))->parallel;

	return n < 1 ? 1 : n < FETCHERS_MAX ? n : FETCHERS_MAX;
}

static int run_threads(struct engine *g, unsigned decoders, struct err *e)
{
	CLEANUP(free_ptr) pthread_t *t = calloc(decoders + FETCHERS_MAX, sizeof(*t));
	unsigned nfetch = fetchers_for(g), ndecode, got;

	if (!t)
		return err_set(e, ERR_NOMEM, "no memory for threads");
	ndecode = start(t, decoders, decoder_main, g);
	g->fetching = nfetch;
	got = ndecode ? start(t + ndecode, nfetch, fetcher_main, g) : 0;
	pthread_mutex_lock(&g->lock);
	g->fetching -= nfetch - got;	/* fewer than asked for will do */
	nfetch = g->fetching;
	pthread_mutex_unlock(&g->lock);
	LOG_DEBUG("fetch: %u threads decode, %u read ranges of at most %zu bytes", ndecode, got, g->range_max);
	if (got == 0)
		(void)err_set(e, ERR_NOMEM, "threads could not be started");
	if (got == 0)
		engine_fail(g, e);
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
	struct engine g = { .rd = j->rd,
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
	if (queue_new(g.range_max * FETCHERS_MAX, range_free, &g.q, e) < 0)
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
