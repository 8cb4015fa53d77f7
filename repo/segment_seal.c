/*
 * segment_seal.c - chunks to a sealed segment, opened and decoded again before anybody may send it (docs/design.md, 6).
 */
#include <inttypes.h>
#include <zstd_errors.h>

#include "base/num.h"
#include "repo/segment_internal.h"

void segment_sealed_done(struct segment_sealed *s)
{
	free(STEAL(s->bytes));
	VEC_DONE(&s->frames);
	VEC_DONE(&s->chunks);
	VEC_DONE(&s->bases);
}

/* Deltas gain little from more, and zstd's tables grow with the prefix. */
#define DELTA_LEVEL_MAX 9

static int check_items(const struct repo *r, const struct pack_key *k, const struct segment_item *it, size_t n,
		       struct err *e)
{
	uint32_t chunk_size = repo_config(r)->chunk_size;
	uint64_t total = 0;

	if (k->kind != PACK_DATA && k->kind != PACK_NODES)
		return err_set(e, ERR_INVALID, "segment of kind %d", (int)k->kind);
	if (n < 1 || n > SEGMENT_MAX_ITEMS)
		return err_set(e, ERR_INVALID, "segment of %zu chunks", n);
	for (size_t i = 0; i < n; i++) {
		if (k->kind == PACK_DATA ? it[i].len != chunk_size : !it[i].len || it[i].len > NODE_MAX_BYTES)
			return err_set(e, ERR_INVALID, "chunk of %" PRIu32 " bytes in a segment", it[i].len);
		if (it[i].nbases && (k->kind != PACK_DATA || it[i].nbases > BASES_MAX || it[i].depth < 1 ||
				     it[i].depth > DELTA_DEPTH_MAX || it[i].prefix_len != it[i].nbases * it[i].len))
			return err_set(e, ERR_INVALID, "delta chunk of %u bases, depth %u", it[i].nbases, it[i].depth);
		total += it[i].len;
	}
	if (total > SEGMENT_MAX_BYTES)
		return err_set(e, ERR_INVALID, "segment of %" PRIu64 " bytes", total);
	return 0;
}

/* Appends one frame of the bytes to the payload.  *ret is its stored length; 0: it would not be smaller than it was. */
static int compress(struct segment_codec *c, const uint8_t *in, size_t len, const uint8_t *prefix, size_t prefix_len,
		    int level, uint32_t *ret, struct err *e)
{
	size_t room = ZSTD_compressBound(len), n;
	uint8_t *out = buf_room(&c->payload, room, e);

	if (!out)
		return e->code;
	if (!c->cctx)
		c->cctx = ZSTD_createCCtx();
	if (!c->cctx)
		return err_set(e, ERR_NOMEM, "zstd encoder");
	n = ZSTD_CCtx_reset(c->cctx, ZSTD_reset_session_and_parameters);
	if (!ZSTD_isError(n))
		n = ZSTD_CCtx_setParameter(c->cctx, ZSTD_c_compressionLevel, level);
	if (!ZSTD_isError(n) && prefix)
		n = ZSTD_CCtx_refPrefix(c->cctx, prefix, prefix_len);
	if (!ZSTD_isError(n))
		n = ZSTD_compress2(c->cctx, out, room, in, len);
	if (ZSTD_isError(n))
		return err_set(e, ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? ERR_NOMEM : ERR_INTERNAL,
			       "zstd encoder: %s", ZSTD_getErrorName(n));
	if (n >= len)
		n = 0;
	c->payload.len += n;
	*ret = (uint32_t)n;
	return 0;
}

static int push_frame(struct segment_sealed *s, uint32_t stored, uint32_t decoded, enum frame_codec codec,
		      struct err *e)
{
	struct dir_frame *f = VEC_PUSH(&s->frames, e);

	if (!f)
		return e->code;
	*f = (struct dir_frame){ stored, decoded, (uint8_t)codec };
	return 0;
}

static int push_chunks(struct segment_sealed *s, const struct segment_item *it, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		struct dir_chunk *ch = VEC_PUSH(&s->chunks, e);

		if (!ch)
			return e->code;
		ch->id = it[i].id;
		ch->len = it[i].len;
	}
	return 0;
}

/* Each delta that gains by it becomes a frame; the others stay as they are: full chunks. */
static int add_deltas(struct segment_codec *c, struct segment_sealed *s, const struct segment_item *it, size_t n,
		      int level, struct err *e)
{
	level = level < DELTA_LEVEL_MAX ? level : DELTA_LEVEL_MAX;
	for (size_t i = 0; i < n; i++) {
		struct dir_chunk *ch = &s->chunks.p[i];
		uint32_t stored;

		ch->first_base = (uint32_t)s->bases.n;
		if (!it[i].nbases)
			continue;
		if (compress(c, it[i].plain, it[i].len, it[i].prefix, it[i].prefix_len, level, &stored, e) < 0)
			return e->code;
		if (!stored)
			continue;
		ch->frame = (uint16_t)s->frames.n;
		ch->nbases = it[i].nbases;
		ch->depth = it[i].depth;
		for (unsigned b = 0; b < it[i].nbases; b++) {
			struct id *base = VEC_PUSH(&s->bases, e);

			if (!base)
				return e->code;
			*base = it[i].bases[b];
		}
		if (push_frame(s, stored, it[i].len, CODEC_ZSTD_PREFIX, e) < 0)
			return e->code;
	}
	return 0;
}

static int add_full(struct segment_codec *c, struct segment_sealed *s, const struct segment_item *it, size_t n,
		    int level, struct err *e)
{
	uint32_t stored = 0;

	buf_clear(&c->plain);
	for (size_t i = 0; i < n; i++) {
		struct dir_chunk *ch = &s->chunks.p[i];

		if (ch->nbases)
			continue;
		ch->frame = (uint16_t)s->frames.n;
		ch->off = (uint32_t)c->plain.len;
		if (buf_add(&c->plain, it[i].plain, it[i].len, e) < 0)
			return e->code;
	}
	if (!c->plain.len)
		return 0;
	segment_hook_call(c, SEGMENT_GATHERED, c->plain.p, c->plain.len);
	if (level != 0 && compress(c, c->plain.p, c->plain.len, NULL, 0, level, &stored, e) < 0)
		return e->code;
	if (stored)
		return push_frame(s, stored, (uint32_t)c->plain.len, CODEC_ZSTD, e);
	if (buf_add(&c->payload, c->plain.p, c->plain.len, e) < 0)
		return e->code;
	return push_frame(s, (uint32_t)c->plain.len, (uint32_t)c->plain.len, CODEC_RAW, e);
}

struct own_bases {
	struct segment_codec *c;
	const struct repo *r;
	const struct segment_item *it;
};

/* The bases of the item at hand, from its prefix, each against its id: the decoder must not repeat an error of the
 * encoder's. */
static int base_of_item(void *opaque, const struct id *id, unsigned levels, struct segment_others *others, uint8_t *buf,
			size_t len, struct err *e)
{
	const struct own_bases *o = opaque;

	(void)levels;
	(void)others;
	for (unsigned b = 0; b < o->it->nbases; b++) {
		const uint8_t *p = o->it->prefix + (size_t)b * len;

		if (!id_eq(id, &o->it->bases[b]))
			continue;
		memcpy(buf, p, len);
		return segment_verify(o->c, o->r, PACK_DATA, o->it->domain, id, buf, len, e);
	}
	return err_set(e, ERR_CORRUPT, "a base is not one that was given");
}

static int decode_again(struct segment_codec *c, struct repo *r, const struct pack_key *k,
			const struct segment_sealed *s, const struct segment_item *it, struct err *e)
{
	struct segment_layout l = {
		.frames = s->frames.p,
		.nframes = (uint32_t)s->frames.n,
		.chunks = s->chunks.p,
		.nchunks = (uint32_t)s->chunks.n,
		.bases = s->bases.p,
		.nbases = (uint32_t)s->bases.n,
	};
	CLEANUP(segment_free_cleanup) struct segment *back = NULL;

	if (segment_open_with(c, r, k, s->birth, &l, s->bytes, s->len, &back, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < l.nchunks; i++) {
		CLEANUP(free_ptr) uint8_t *delta = NULL;
		const uint8_t *plain = segment_chunk_peek(back, i);
		struct segment_bases bases = { base_of_item, &(struct own_bases){ c, r, &it[i] } };
		struct segment_others others = { 0 };

		if (!plain) {
			plain = delta = malloc(it[i].len);
			if (!delta)
				return err_set(e, ERR_NOMEM, "delta chunk");
			if (segment_chunk(c, back, i, &bases, DELTA_DEPTH_MAX, &others, delta, e) < 0)
				return e->code;
		}
		if (segment_verify(c, r, k->kind, it[i].domain, &it[i].id, plain, segment_chunk_len(back, i), e) < 0)
			return err_ctx(e, "chunk %" PRIu32, i);
	}
	return 0;
}

uint64_t segment_rows_sum(const struct dir_frame *frames, size_t nframes, const struct dir_chunk *chunks,
			  size_t nchunks, const struct id *bases, uint64_t birth, uint64_t stored)
{
	uint64_t head[4] = { birth, stored, nframes, nchunks };
	uint64_t sum = sum64(head, sizeof(head), 0);

	for (size_t i = 0; i < nframes; i++) {
		uint32_t row[3] = { frames[i].stored, frames[i].decoded, frames[i].codec };

		sum = sum64(row, sizeof(row), sum);
	}
	for (size_t i = 0; i < nchunks; i++) {
		const struct dir_chunk *ch = &chunks[i];
		uint32_t row[5] = { ch->frame, ch->off, ch->len, ch->nbases, ch->depth };

		sum = sum64(row, sizeof(row), sum64(ch->id.b, ID_BYTES, sum));
		for (unsigned b = 0; b < ch->nbases && b < BASES_MAX; b++)
			sum = sum64(bases[ch->first_base + b].b, ID_BYTES, sum);
	}
	return sum;
}

/* Taken before the bytes are opened again: what changes later differs, what changed before does not open. */
static void take_sums(struct segment_sealed *s, const struct pack_key *k)
{
	s->sums.bytes = sum_of(s->bytes, s->len);
	s->sums.key = pack_key_row_sum(k->generation, k->sealed);
	s->sums.rows =
		segment_rows_sum(s->frames.p, s->frames.n, s->chunks.p, s->chunks.n, s->bases.p, s->birth, s->len);
}

static void sealed_cleanup(struct segment_sealed *s)
{
	segment_sealed_done(s);
}

int segment_seal(struct segment_codec *c, struct repo *r, const struct pack_key *k, uint64_t birth,
		 const struct segment_item *items, size_t n, int level, struct segment_sealed *ret, struct err *e)
{
	CLEANUP(sealed_cleanup) struct segment_sealed s = { .birth = birth, .kind = k->kind };

	if (check_items(r, k, items, n, e) < 0)
		return e->code;
	buf_clear(&c->payload);
	if (push_chunks(&s, items, n, e) < 0 || (level != 0 && add_deltas(c, &s, items, n, level, e) < 0) ||
	    add_full(c, &s, items, n, level, e) < 0)
		return e->code;
	segment_hook_call(c, SEGMENT_COMPRESSED, c->payload.p, c->payload.len);
	s.len = c->payload.len + AEAD_BYTES;
	s.bytes = malloc(s.len);
	if (!s.bytes)
		return err_set(e, ERR_NOMEM, "segment of %zu bytes", s.len);
	if (segment_aead_seal(c->crypt, r, k, birth, c->payload.p, c->payload.len, s.bytes, e) < 0)
		return e->code;
	take_sums(&s, k);
	segment_hook_call(c, SEGMENT_IS_SEALED, s.bytes, s.len);
	if (decode_again(c, r, k, &s, items, e) < 0) {
		char text[ERR_CAUSE_BYTES / 2];

		if (e->code == ERR_NOMEM)
			return e->code;
		err_text(e, text, sizeof(text));
		(void)err_set(e, ERR_INTERNAL, "memory or codec error: a segment does not come back as it went in: %s",
			      text);
		return err_hint(
			e, "Nothing of it was stored.  Test this computer's memory before you trust it with backups.");
	}
	*ret = s;
	s = (struct segment_sealed){ 0 };
	return 0;
}

int segment_add_row(struct directory *d, const struct segment_sealed *s, uint64_t off, uint32_t key,
		    const struct slot_id *sealer, struct err *e)
{
	struct dir_segment row = {
		.off = off,
		.birth = s->birth,
		.stored = (uint32_t)s->len,
		.key = key,
		.sealer = *sealer,
		.first_frame = (uint32_t)d->frames.n,
		.nframes = (uint32_t)s->frames.n,
		.first_chunk = (uint32_t)d->chunks.n,
		.nchunks = (uint32_t)s->chunks.n,
	};
	uint32_t first_base = (uint32_t)d->bases.n;
	struct dir_segment *p;

	for (size_t i = 0; i < s->frames.n; i++) {
		struct dir_frame *f = VEC_PUSH(&d->frames, e);

		if (!f)
			return e->code;
		*f = s->frames.p[i];
	}
	for (size_t i = 0; i < s->chunks.n; i++) {
		struct dir_chunk *ch = VEC_PUSH(&d->chunks, e);

		if (!ch)
			return e->code;
		*ch = s->chunks.p[i];
		ch->first_base += first_base;
	}
	for (size_t i = 0; i < s->bases.n; i++) {
		struct id *b = VEC_PUSH(&d->bases, e);

		if (!b)
			return e->code;
		*b = s->bases.p[i];
	}
	p = VEC_PUSH(&d->segments, e);
	if (!p)
		return e->code;
	*p = row;
	return 0;
}
