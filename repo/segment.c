/*
 * segment.c - codecs, and segments from sealed bytes to verified chunks (docs/format.md, 6.1 and 6.2).
 */
#include "repo/segment.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <zstd_errors.h>

#include "base/num.h"
#include "base/text.h"
#include "repo/segment_internal.h"

/* Chunks of a gathered segment, and frames that zstd may make a little longer than what goes in. */
#define PLAIN_MAX ((size_t)SEGMENT_MAX_BYTES)
#define PAYLOAD_MAX (2 * PLAIN_MAX + SEGMENT_MAX_ITEMS * (size_t)1024)

int segment_codec_new(struct segment_codec **ret, struct err *e)
{
	CLEANUP(segment_codec_free_cleanup) struct segment_codec *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, ERR_NOMEM, "codec of segments");
	if (crypt_new(&c->crypt, e) < 0)
		return e->code;
	buf_init(&c->plain, PLAIN_MAX);
	buf_init(&c->payload, PAYLOAD_MAX);
	c->dctx = ZSTD_createDCtx();
	if (!c->dctx)
		return err_set(e, ERR_NOMEM, "zstd decoder");
	*ret = STEAL(c);
	return 0;
}

void segment_codec_free(struct segment_codec *c)
{
	if (!c)
		return;
	crypt_free(c->crypt);
	(void)ZSTD_freeCCtx(c->cctx); /* free: NULL is fine, and they cannot fail */
	(void)ZSTD_freeDCtx(c->dctx);
	buf_done(&c->plain);
	buf_done(&c->payload);
	sodium_memzero(&c->key, sizeof(c->key));
	free(c);
}

/* Contexts of zstd 1.5.4 as measured over levels and sizes, rounded up; and what is in memory besides while a segment
 * is sealed and opened again: gathered (doubling), payload (doubling), opened, decoded. */
size_t segment_codec_bytes(int level, size_t segment_bytes)
{
	size_t other = 6 * segment_bytes + (256u << 10);

	if (level == 0)
		return other;
	if (level <= 2)
		return other + (640u << 10);
	if (level <= 4)
		return other + (2560u << 10);
	if (level <= 6)
		return other + (4u << 20);
	return other + 20 * segment_bytes + (2u << 20);
}

void segment_codec_set_hook(struct segment_codec *c, segment_hook hook, void *opaque)
{
	c->hook = hook;
	c->hook_opaque = opaque;
}

void segment_free(struct segment *s)
{
	if (!s)
		return;
	free(s->bytes);
	free(s->frames);
	free(s->chunks);
	free(s->bases);
	free(s);
}

size_t segment_bytes(const struct segment *s)
{
	return sizeof(*s) + s->nbytes + s->nframes * sizeof(*s->frames) + s->nchunks * sizeof(*s->chunks) +
	       s->nbases * sizeof(*s->bases);
}

uint32_t segment_nchunks(const struct segment *s)
{
	return s->nchunks;
}

const struct id *segment_chunk_id(const struct segment *s, uint32_t i)
{
	assert(i < s->nchunks);
	return &s->chunks[i].id;
}

uint32_t segment_chunk_len(const struct segment *s, uint32_t i)
{
	assert(i < s->nchunks);
	return s->chunks[i].len;
}

unsigned segment_chunk_depth(const struct segment *s, uint32_t i)
{
	assert(i < s->nchunks);
	return s->chunks[i].depth;
}

const uint8_t *segment_chunk_peek(const struct segment *s, uint32_t i)
{
	assert(i < s->nchunks);
	if (s->chunks[i].nbases)
		return NULL;
	return s->bytes + s->frames[s->chunks[i].frame].off + s->chunks[i].off;
}

/*
 * One zstd frame of exactly the lengths stated.  Decoding in one call into memory of the right size needs no window, so
 * a frame cannot ask for memory.  The stored bytes must be one frame and nothing else: the decoder would also take
 * several, or skippable ones.
 */
static int decode_zstd(struct segment_codec *c, const uint8_t *in, size_t len, const uint8_t *prefix, size_t prefix_len,
		       uint8_t *out, size_t out_len, struct err *e)
{
	unsigned long long said = ZSTD_getFrameContentSize(in, len);
	size_t n = ZSTD_findFrameCompressedSize(in, len);

	if (ZSTD_isError(n) || n != len || (said != ZSTD_CONTENTSIZE_UNKNOWN && said != out_len))
		return err_set(e, ERR_CORRUPT, "zstd frame is not as long as the directory says");
	n = ZSTD_DCtx_reset(c->dctx, ZSTD_reset_session_and_parameters);
	if (!ZSTD_isError(n) && prefix)
		n = ZSTD_DCtx_refPrefix(c->dctx, prefix, prefix_len);
	if (ZSTD_isError(n))
		return err_set(e, ERR_INTERNAL, "zstd decoder: %s", ZSTD_getErrorName(n));
	n = ZSTD_decompressDCtx(c->dctx, out, out_len, in, len);
	if (ZSTD_isError(n))
		return err_set(e, ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? ERR_NOMEM : ERR_CORRUPT,
			       "zstd frame: %s", ZSTD_getErrorName(n));
	if (n != out_len)
		return err_set(e, ERR_CORRUPT, "zstd frame of %zu bytes decoded, the directory says %zu", n, out_len);
	return 0;
}

/* Lays out and fills bytes: decoded frames, and delta frames as they are stored. */
static int decode_frames(struct segment_codec *c, struct segment *s, const struct segment_layout *l,
			 const uint8_t *payload, size_t len, struct err *e)
{
	uint64_t total = 0, stored = 0;

	for (uint32_t i = 0; i < l->nframes; i++) {
		total += l->frames[i].codec == CODEC_ZSTD_PREFIX ? l->frames[i].stored : l->frames[i].decoded;
		stored += l->frames[i].stored;
		/* Also what deltas will decode to is bounded, by the directory's check. */
		if (total > PAYLOAD_MAX || stored > len)
			return err_set(e, ERR_CORRUPT, "its frames are longer than it is");
	}
	if (stored != len)
		return err_set(e, ERR_CORRUPT, "its frames have %" PRIu64 " bytes, it has %zu", stored, len);
	s->bytes = malloc(total ? (size_t)total : 1);
	s->frames = calloc(l->nframes, sizeof(*s->frames));
	if (!s->bytes || !s->frames)
		return err_set(e, ERR_NOMEM, "segment of %" PRIu64 " bytes", total);
	for (uint32_t i = 0; i < l->nframes; i++) {
		const struct dir_frame *f = &l->frames[i];
		uint8_t *out = s->bytes + s->nbytes;

		s->frames[i] = (struct segment_frame){ f->codec, f->decoded, f->stored, s->nbytes };
		if (f->codec == CODEC_ZSTD) {
			if (decode_zstd(c, payload, f->stored, NULL, 0, out, f->decoded, e) < 0)
				return err_ctx(e, "frame %" PRIu32, i);
		} else {
			memcpy(out, payload, f->stored); /* raw: stored equals decoded, by the directory's check */
		}
		payload += f->stored;
		s->nbytes += f->codec == CODEC_ZSTD_PREFIX ? f->stored : f->decoded;
	}
	s->nframes = l->nframes;
	return 0;
}

static int copy_chunks(struct segment *s, const struct segment_layout *l, const struct repo *r, struct err *e)
{
	uint32_t chunk_size = repo_config(r)->chunk_size;

	s->chunks = calloc(l->nchunks, sizeof(*s->chunks));
	s->bases = calloc(l->nbases ? l->nbases : 1, sizeof(*s->bases));
	if (!s->chunks || !s->bases)
		return err_set(e, ERR_NOMEM, "segment of %" PRIu32 " chunks", l->nchunks);
	for (uint32_t i = 0; i < l->nchunks; i++) {
		struct dir_chunk *c = &s->chunks[i];

		*c = l->chunks[i];
		c->first_base -= l->base_shift;
		if (s->kind == PACK_DATA ? c->len != chunk_size : c->len > NODE_MAX_BYTES)
			return err_set(e, ERR_CORRUPT, "chunk %" PRIu32 " has %" PRIu32 " bytes", i, c->len);
	}
	if (l->nbases)
		memcpy(s->bases, l->bases, l->nbases * sizeof(*s->bases));
	s->nchunks = l->nchunks;
	s->nbases = l->nbases;
	return 0;
}

int segment_open_with(struct segment_codec *c, struct repo *r, const struct pack_key *k, uint64_t birth,
		      const struct segment_layout *l, const void *sealed, size_t len, struct segment **ret,
		      struct err *e)
{
	CLEANUP(segment_free_cleanup) struct segment *s = calloc(1, sizeof(*s));
	CLEANUP(free_ptr) uint8_t *payload = NULL;

	if (len <= AEAD_BYTES)
		return err_set(e, ERR_CORRUPT, "it has %zu bytes", len);
	payload = malloc(len - AEAD_BYTES);
	if (!s || !payload)
		return err_set(e, ERR_NOMEM, "segment of %zu bytes", len);
	s->kind = k->kind;
	if (segment_aead_open(c->crypt, r, k, birth, sealed, len, payload, e) < 0)
		return e->code;
	segment_hook_call(c, SEGMENT_OPENED, payload, len - AEAD_BYTES);
	if (decode_frames(c, s, l, payload, len - AEAD_BYTES, e) < 0 || copy_chunks(s, l, r, e) < 0)
		return e->code;
	segment_hook_call(c, SEGMENT_DECODED, s->bytes, s->nbytes);
	*ret = STEAL(s);
	return 0;
}

static int key_of_row(struct segment_codec *c, struct repo *r, enum pack_kind kind, const struct dir_key *row,
		      struct err *e)
{
	if (c->has_key && c->key.kind == kind && c->key.generation == row->generation &&
	    !memcmp(c->key.sealed, row->sealed, BOX_BYTES))
		return 0;
	c->has_key = false;
	if (pack_key_open(r, kind, row->generation, row->sealed, &c->key, e) < 0)
		return e->code;
	c->has_key = true;
	return 0;
}

int segment_open(struct segment_codec *c, struct repo *r, const struct directory *d, uint32_t index, const void *sealed,
		 size_t len, struct segment **ret, struct err *e)
{
	const struct dir_segment *row;
	struct segment_layout l;

	if (index >= d->segments.n)
		return err_set(e, ERR_CORRUPT, "segment %" PRIu32 " of %zu", index, d->segments.n);
	row = &d->segments.p[index];
	if (len != row->stored)
		return err_set(e, ERR_INTERNAL, "segment %" PRIu32 ": %zu bytes given, it has %" PRIu32, index, len,
			       row->stored);
	l = (struct segment_layout){
		.frames = d->frames.p + row->first_frame,
		.nframes = row->nframes,
		.chunks = d->chunks.p + row->first_chunk,
		.nchunks = row->nchunks,
	};
	l.base_shift = l.chunks[0].first_base;
	for (uint32_t i = 0; i < l.nchunks; i++)
		l.nbases += l.chunks[i].nbases;
	if (l.nbases)
		l.bases = d->bases.p + l.base_shift;
	if (key_of_row(c, r, d->kind, &d->keys.p[row->key], e) < 0 ||
	    segment_open_with(c, r, &c->key, row->birth, &l, sealed, len, ret, e) < 0)
		return err_ctx(e, "segment %" PRIu32, index);
	return 0;
}

/* Counts a base among the chunks that are needed. */
static int need(struct segment_others *o, const struct id *id, struct err *e)
{
	unsigned i = 0;

	while (i < o->n && !id_eq(&o->id[i], id))
		i++;
	if (i == DELTA_OTHERS_MAX || o->fetches == SEGMENT_FETCHES_MAX)
		return err_set(e, ERR_CORRUPT, "delta chunk needs more than %u other chunks", DELTA_OTHERS_MAX);
	o->fetches++;
	if (i == o->n)
		o->id[o->n++] = *id;
	return 0;
}

static int fetch_bases(const struct segment *s, const struct dir_chunk *ch, const struct segment_bases *bases,
		       unsigned levels, struct segment_others *others, uint8_t **ret, struct err *e)
{
	/* 4 * 4 MiB at most, by the directory's check. */
	CLEANUP(free_ptr) uint8_t *prefix = malloc((size_t)ch->nbases * ch->len);

	if (!prefix)
		return err_set(e, ERR_NOMEM, "bases of a delta chunk");
	for (uint32_t b = 0; b < ch->nbases; b++) {
		const struct id *id = &s->bases[ch->first_base + b];
		uint8_t *at = prefix + (size_t)b * ch->len;

		if (need(others, id, e) < 0)
			return e->code;
		if (bases->get(bases->opaque, id, levels - 1, others, at, ch->len, e) < 0)
			return err_ctx(e, "base %" PRIu32 " of a delta chunk", b);
	}
	*ret = STEAL(prefix);
	return 0;
}

int segment_chunk(struct segment_codec *c, const struct segment *s, uint32_t i, const struct segment_bases *bases,
		  unsigned levels, struct segment_others *others, uint8_t *buf, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *prefix = NULL;
	const struct segment_frame *f;
	const struct dir_chunk *ch;

	assert(i < s->nchunks);
	ch = &s->chunks[i];
	f = &s->frames[ch->frame];
	if (!ch->nbases) {
		memcpy(buf, segment_chunk_peek(s, i), ch->len);
		return 0;
	}
	if (!bases)
		return err_set(e, ERR_UNSUPPORTED, "a delta chunk, without a way to its bases");
	if (!levels)
		return err_set(e, ERR_CORRUPT, "delta chunks are more than %u deep", DELTA_DEPTH_MAX);
	if (fetch_bases(s, ch, bases, levels, others, &prefix, e) < 0)
		return e->code;
	return decode_zstd(c, s->bytes + f->off, f->stored, prefix, (size_t)ch->nbases * ch->len, buf, ch->len, e);
}

int segment_verify(struct segment_codec *c, const struct repo *r, enum pack_kind kind, const char *domain,
		   const struct id *id, const void *plain, size_t len, struct err *e)
{
	struct id is;
	char hex[2 * ID_BYTES + 1];

	if (kind == PACK_NODES ? id_of_node(c->crypt, r, plain, len, &is, e) < 0 :
				 id_of_chunk(c->crypt, r, domain, plain, len, &is, e) < 0)
		return e->code;
	if (id_eq(id, &is))
		return 0;
	return err_set(e, ERR_CORRUPT, "content does not match the id %.16s", text_hex(id->b, ID_BYTES, hex));
}
