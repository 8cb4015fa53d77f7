/*
 * fetch_decode.c - the decoding half of a fetch: ranges of packs to verified chunks.
 *
 * Chunks that belong together go out together: a segment's chunks mostly follow each other on the disk too.
 */
#include "base/cancel.h"
#include "repo/fetch_internal.h"

struct decoder {
	struct fetch_engine *g;
	struct read_ctx c;
	uint8_t *scratch;	/* one chunk */
};

/* One item by way of other copies and a newer index. */
static int careful(struct decoder *d, uint32_t item, struct err *e)
{
	struct fetch_engine *g = d->g;
	size_t len;
	int r = read_item(&d->c, &g->items[item].id, d->scratch, g->rd->chunk_size, &len, e);

	if (r == 0)
		return g->sink(g->opaque, item, 1, d->scratch, e);
	if (!g->failed || read_is_final(r))
		return r;
	pthread_mutex_lock(&g->failed_lock);
	r = g->failed(g->opaque, item, e);
	pthread_mutex_unlock(&g->failed_lock);
	if (r == 0)
		err_clear(e);
	return r;
}

static bool same_item(const struct fetch_engine *g, const struct fetch_located *a, const struct fetch_located *b)
{
	return a->chunk == b->chunk && id_eq(&g->items[a->item].id, &g->items[b->item].id);
}

/* Is item l what its place in the segment says? */
static bool placed(const struct fetch_engine *g, const struct segment *s, const struct fetch_located *l)
{
	return l->chunk < segment_nchunks(s) && id_eq(segment_chunk_id(s, l->chunk), &g->items[l->item].id) &&
	       segment_chunk_len(s, l->chunk) == g->rd->chunk_size;
}

/* The verified content of an item of an opened segment, in it or in scratch; NULL: it is not good. */
static const uint8_t *plain_of(struct decoder *d, const struct segment *s, const struct fetch_located *l)
{
	struct fetch_engine *g = d->g;
	struct segment_others others = { 0 };
	struct segment_bases bases = read_bases(&d->c);
	struct err lost = ERR_INIT;
	const uint8_t *plain;

	if (!placed(g, s, l))
		return NULL;
	plain = segment_chunk_peek(s, l->chunk);
	if (!plain) {
		if (segment_chunk(d->c.codec, s, l->chunk, &bases, DELTA_DEPTH_MAX, &others, d->scratch, &lost) < 0)
			return NULL;
		plain = d->scratch;
	}
	if (segment_verify(d->c.codec, g->rd->r, PACK_DATA, g->domain, &g->items[l->item].id, plain, g->rd->chunk_size,
			   &lost) < 0)
		return NULL;
	return plain;
}

/* Chunks that lie together in memory and belong to items that follow each other, waiting to be handed out. */
struct run {
	uint32_t item;
	size_t n;
	const uint8_t *plain;
};

static int run_flush(struct decoder *d, struct run *run, struct err *e)
{
	size_t n = run->n;

	run->n = 0;
	return n ? d->g->sink(d->g->opaque, run->item, n, run->plain, e) : 0;
}

static int run_add(struct decoder *d, struct run *run, uint32_t item, const uint8_t *plain, struct err *e)
{
	if (run->n && item == run->item + run->n && plain == run->plain + run->n * d->g->rd->chunk_size) {
		run->n++;
		return 0;
	}
	if (run_flush(d, run, e) < 0)
		return e->code;
	*run = (struct run){ .item = item, .n = 1, .plain = plain };
	return plain == d->scratch ? run_flush(d, run, e) : 0;	/* scratch is about to be used again */
}

/* Items [first, end) are in one segment; s NULL: it could not be opened. */
static int deliver(struct decoder *d, const struct segment *s, size_t first, size_t end, struct err *e)
{
	struct fetch_engine *g = d->g;
	const uint8_t *plain = NULL;
	struct run run = { 0 };

	for (size_t i = first; i < end; i++) {
		const struct fetch_located *l = &g->loc[i];

		if (atomic_load_explicit(g->stop, memory_order_relaxed))
			return 0;
		/* The same again was verified a moment ago; two ids at one place are not the same, whatever an index
		 * says. */
		if (s && !(plain && same_item(g, l, &g->loc[i - 1])))
			plain = plain_of(d, s, l);
		if (plain ? run_add(d, &run, l->item, plain, e) < 0
			  : run_flush(d, &run, e) < 0 || careful(d, l->item, e) < 0)
			return e->code;
	}
	return run_flush(d, &run, e);
}

static int decode_range(struct decoder *d, struct fetch_range *range, struct err *e)
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

void *fetch_decoder(void *arg)
{
	struct fetch_engine *g = arg;
	struct decoder d = { .g = g };
	struct err e = ERR_INIT;
	struct fetch_range *range;
	int r = read_begin(g->rd, PACK_DATA, g->domain, &d.c, &e);

	d.scratch = malloc(g->rd->chunk_size);
	if (r == 0 && !d.scratch)
		r = err_set(&e, ERR_NOMEM, "no memory for a chunk");
	while (r >= 0 && (range = queue_pop(g->q)) != NULL) {
		r = cancel_check(repo_cancel(g->rd->r), &e);
		if (r == 0 && !fetch_stopped(g))
			r = decode_range(&d, range, &e);
		fetch_range_free(range);
	}
	if (r < 0)
		fetch_fail(g, &e);
	pthread_mutex_lock(&g->lock);
	g->stored += d.c.stored;
	pthread_mutex_unlock(&g->lock);
	free(d.scratch);
	read_end(&d.c);
	return NULL;
}
