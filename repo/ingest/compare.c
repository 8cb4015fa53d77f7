/*
 * compare.c - two states' maps walked in step, and what their differences mean for the chunk grid.
 *
 *	base   |####|    |######|####....      # data, . zero; equal origins hold equal bytes
 *	next   |####|####|    |##|####....
 *	chunks |  keep  |  read  |zero |       a chunk is read when any byte of it has another origin than in the base
 *
 * Beyond its size a state is zeros, so states of different sizes compare like any others, and a tail chunk is zeros
 * to its end.
 */
#include "base/num.h"
#include "repo/ingest/ingest_internal.h"

void map_init(struct map *m, struct image *im, uint32_t state)
{
	*m = (struct map){ .image = im, .state = state, .size = im ? image_state(im, state)->size : 0 };
}

/* The piece that holds off: from off on, whatever its extent's start. */
static int map_at(struct map *m, uint64_t off, struct extent *ret, struct err *e)
{
	uint64_t skip;

	if (off >= m->size) {
		*ret = (struct extent){ .start = off, .len = UINT64_MAX - off, .kind = EXTENT_ZERO };
		return 0;
	}
	if (m->cur.len == 0 || off < m->cur.start || off - m->cur.start >= m->cur.len) {
		struct extent x = { 0 };
		int r = image_next_extent(m->image, m->state, off, m->size - off, &x, e);

		if (r < 0)
			return r;
		if (off < x.start || off - x.start >= x.len)
			return err_set(e, ERR_INTERNAL, "map of %s does not cover byte %llu",
				       m->image->path ? m->image->path : "image", (unsigned long long)off);
		m->cur = x;
	}
	*ret = m->cur;
	skip = off - ret->start;
	ret->start = off;
	ret->len -= skip;
	if (ret->kind == EXTENT_DATA) {
		if (ret->origin.compressed)
			ret->origin.inner += (uint32_t)skip;
		else if (ret->origin.host != IMAGE_ORIGIN_NONE)
			ret->origin.host += skip;
	}
	return 0;
}

static bool same_bytes(const struct extent *a, const struct extent *b)
{
	const struct extent_origin *x = &a->origin, *y = &b->origin;

	if (a->kind != EXTENT_DATA || b->kind != EXTENT_DATA)
		return a->kind != EXTENT_DATA && b->kind != EXTENT_DATA;	/* in a chain holes are zeros */
	return x->host != IMAGE_ORIGIN_NONE && x->layer == y->layer && x->file == y->file && x->host == y->host &&
	       x->inner == y->inner && x->compressed == y->compressed;
}

int grid_init(struct grid *g, const struct map *base, const struct map *next, uint32_t chunk_size, uint64_t first,
	      uint64_t last, struct err *e)
{
	uint64_t chunks = min_u64(div_up(next->size, chunk_size), last);
	uint64_t end;

	if (!mul_u64(chunks, chunk_size, &end))
		return err_set(e, ERR_UNSUPPORTED, "a disk of %llu bytes is too large", (unsigned long long)next->size);
	*g = (struct grid){ .next = *next, .chunk_size = chunk_size, .end = end };
	if (base)
		g->base = *base;
	g->pos = first < chunks ? first * chunk_size : end;
	return 0;
}

/* The piece of both maps at g->pos: how far it goes, and how they compare there. */
static int piece(struct grid *g, uint64_t *ret_end, bool *ret_same, bool *ret_zero, struct err *e)
{
	struct extent a, b;

	if (map_at(&g->base, g->pos, &a, e) < 0 || map_at(&g->next, g->pos, &b, e) < 0)
		return e->code;
	*ret_end = min_u64(g->end, g->pos + min_u64(min_u64(a.len, b.len), UINT64_MAX - g->pos));
	*ret_same = same_bytes(&a, &b);
	*ret_zero = b.kind != EXTENT_DATA;
	return 0;
}

static enum run_kind run_kind(bool same, bool zero)
{
	return same ? (zero ? RUN_EMPTY : RUN_KEEP) : (zero ? RUN_ZERO : RUN_READ);
}

/* Either all whole chunks of the piece at g->pos (a chunk's start), or that one chunk made of several pieces. */
static int some_chunks(struct grid *g, struct chunk_run *ret, struct err *e)
{
	uint64_t end, stop = g->pos + g->chunk_size, from = g->pos / g->chunk_size;
	bool same, zero;

	if (piece(g, &end, &same, &zero, e) < 0)
		return e->code;
	if (end >= stop) {
		*ret = (struct chunk_run){ run_kind(same, zero), from, end / g->chunk_size };
		g->pos = ret->to * g->chunk_size;
		return 0;
	}
	for (g->pos = end; g->pos < stop; g->pos = end) {
		bool s, z;

		if (piece(g, &end, &s, &z, e) < 0)
			return e->code;
		end = min_u64(end, stop);
		same &= s;
		zero &= z;
	}
	*ret = (struct chunk_run){ run_kind(same, zero), from, from + 1 };
	return 0;
}

int grid_next(struct grid *g, struct chunk_run *ret, struct err *e)
{
	struct chunk_run run = g->ahead;

	g->ahead = (struct chunk_run){ 0 };
	while (g->pos < g->end) {
		struct chunk_run more;

		if (some_chunks(g, &more, e) < 0)
			return e->code;
		if (run.from == run.to) {
			run = more;
		} else if (more.kind == run.kind) {
			run.to = more.to;
		} else {
			g->ahead = more;
			break;
		}
	}
	if (run.from == run.to)
		return 0;
	*ret = run;
	return 1;
}
