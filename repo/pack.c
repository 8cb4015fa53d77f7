/*
 * pack.c - directories and trailers of packs: encoding, and decoding that believes nothing (docs/format.md, section 6).
 */
#include "repo/pack.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "base/num.h"
#include "transport/store.h"

#define KEYS_MAX 65536u
/* An envelope is its payload and a head, rounded up by PADME: by less than an eighth. */
#define ENVELOPE_MAX_BYTES (PAYLOAD_MAX_BYTES / 8 * 9 + 4096)

static const char trailer_magic[8] = { 'K', 'E', 'D', 'G', 'E', 'E', 'N', 'D' };

void directory_free(struct directory *d)
{
	if (!d)
		return;
	VEC_DONE(&d->keys);
	VEC_DONE(&d->segments);
	VEC_DONE(&d->frames);
	VEC_DONE(&d->chunks);
	VEC_DONE(&d->bases);
	free(d);
}

void trailer_encode(const struct trailer *t, uint8_t out[TRAILER_BYTES])
{
	memset(out, 0, TRAILER_BYTES);
	memcpy(out, trailer_magic, sizeof(trailer_magic));
	out[8] = FORMAT_VERSION;
	out[9] = (uint8_t)t->kind;
	put_le32(out + 12, t->envelope_len);
	put_le64(out + 16, t->envelope_off);
	memcpy(out + 32, t->salt, SALT_BYTES);
}

int trailer_decode(const uint8_t in[TRAILER_BYTES], uint64_t object_len, struct trailer *ret, struct err *e)
{
	struct trailer t = { .kind = in[9], .envelope_len = get_le32(in + 12), .envelope_off = get_le64(in + 16) };

	if (memcmp(in, trailer_magic, sizeof(trailer_magic)) != 0)
		return err_set(e, ERR_CORRUPT, "it does not end in a trailer");
	if (in[8] != FORMAT_VERSION)
		return err_set(e, ERR_UNSUPPORTED, "trailer of version %u", in[8]);
	if (t.kind != PACK_DATA && t.kind != PACK_NODES && t.kind != PACK_INDEX_RUN)
		return err_set(e, ERR_CORRUPT, "trailer: kind %u is not known", in[9]);
	if (get_le16(in + 10) != 0 || get_le64(in + 24) != 0)
		return err_set(e, ERR_CORRUPT, "trailer: a field that must be 0 is not");
	if (t.envelope_len > ENVELOPE_MAX_BYTES || object_len < TRAILER_BYTES ||
	    t.envelope_len > object_len - TRAILER_BYTES ||
	    t.envelope_off != object_len - TRAILER_BYTES - t.envelope_len)
		return err_set(e, ERR_CORRUPT,
			       "trailer: envelope of %" PRIu32 " bytes at %" PRIu64 ", the object has %" PRIu64
			       " bytes",
			       t.envelope_len, t.envelope_off, object_len);
	memcpy(t.salt, in + 32, SALT_BYTES);
	*ret = t;
	return 0;
}

static int encode_head(const struct directory *d, struct buf *out, struct err *e)
{
	if (buf_u8(out, FORMAT_VERSION, e) < 0 || buf_u8(out, (uint8_t)d->kind, e) < 0 || buf_le16(out, 0, e) < 0 ||
	    buf_le32(out, (uint32_t)d->keys.n, e) < 0 || buf_le32(out, (uint32_t)d->segments.n, e) < 0 ||
	    buf_le32(out, (uint32_t)d->chunks.n, e) < 0 || buf_add(out, d->slot.b, SLOT_BYTES, e) < 0 ||
	    buf_add(out, d->session.b, SESSION_BYTES, e) < 0 || buf_add(out, d->salt, SALT_BYTES, e) < 0)
		return e->code;
	for (size_t i = 0; i < d->keys.n; i++)
		if (buf_le32(out, d->keys.p[i].generation, e) < 0 ||
		    buf_add(out, d->keys.p[i].sealed, BOX_BYTES, e) < 0)
			return e->code;
	return 0;
}

static int encode_chunk(const struct directory *d, const struct dir_chunk *c, struct buf *out, struct err *e)
{
	if (buf_add(out, c->id.b, ID_BYTES, e) < 0 || buf_le16(out, c->frame, e) < 0 || buf_u8(out, c->nbases, e) < 0 ||
	    buf_u8(out, c->depth, e) < 0 || buf_le32(out, c->off, e) < 0 || buf_le32(out, c->len, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < c->nbases; i++)
		if (buf_add(out, d->bases.p[c->first_base + i].b, ID_BYTES, e) < 0)
			return e->code;
	return 0;
}

static int encode_segment(const struct directory *d, const struct dir_segment *s, struct buf *out, struct err *e)
{
	if (buf_le64(out, s->off, e) < 0 || buf_le32(out, s->stored, e) < 0 || buf_le32(out, s->key, e) < 0 ||
	    buf_le64(out, s->birth, e) < 0 || buf_add(out, s->sealer.b, SLOT_BYTES, e) < 0 ||
	    buf_u8(out, s->verified, e) < 0 || buf_u8(out, 0, e) < 0 || buf_le16(out, (uint16_t)s->nframes, e) < 0 ||
	    buf_le16(out, (uint16_t)s->nchunks, e) < 0 || buf_le16(out, 0, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < s->nframes; i++) {
		const struct dir_frame *f = &d->frames.p[s->first_frame + i];

		if (buf_le32(out, f->stored, e) < 0 || buf_le32(out, f->decoded, e) < 0 ||
		    buf_u8(out, f->codec, e) < 0 || buf_add_zero(out, 3, e) < 0)
			return e->code;
	}
	for (uint32_t i = 0; i < s->nchunks; i++)
		if (encode_chunk(d, &d->chunks.p[s->first_chunk + i], out, e) < 0)
			return e->code;
	return 0;
}

int directory_encode(const struct directory *d, struct buf *out, struct err *e)
{
	if (d->keys.n < 1 || d->keys.n > KEYS_MAX || d->segments.n < 1)
		return err_set(e, ERR_INTERNAL, "directory of %zu keys and %zu segments", d->keys.n, d->segments.n);
	if (encode_head(d, out, e) < 0)
		return e->code;
	for (size_t i = 0; i < d->segments.n; i++)
		if (encode_segment(d, &d->segments.p[i], out, e) < 0)
			return e->code;
	return 0;
}

struct dir_counts {
	uint32_t keys, segments, chunks;
};

static int decode_head(struct rd *rd, struct directory *d, struct dir_counts *n, struct err *e)
{
	uint8_t version, kind;
	uint16_t zero;

	if (!rd_u8(rd, &version) || !rd_u8(rd, &kind) || !rd_le16(rd, &zero) || !rd_le32(rd, &n->keys) ||
	    !rd_le32(rd, &n->segments) || !rd_le32(rd, &n->chunks) || !rd_copy(rd, d->slot.b, SLOT_BYTES) ||
	    !rd_copy(rd, d->session.b, SESSION_BYTES) || !rd_copy(rd, d->salt, SALT_BYTES))
		return err_set(e, ERR_CORRUPT, "directory ends inside its head");
	if (version != FORMAT_VERSION)
		return err_set(e, ERR_UNSUPPORTED, "directory of version %u", version);
	if ((kind != PACK_DATA && kind != PACK_NODES) || zero != 0)
		return err_set(e, ERR_CORRUPT, "directory: kind %u", kind);
	if (n->keys < 1 || n->keys > KEYS_MAX || n->segments < 1)
		return err_set(e, ERR_CORRUPT, "directory: %" PRIu32 " keys, %" PRIu32 " segments", n->keys,
			       n->segments);
	d->kind = kind;
	for (uint32_t i = 0; i < n->keys; i++) {
		struct dir_key key, *k;

		if (!rd_le32(rd, &key.generation) || !rd_copy(rd, key.sealed, BOX_BYTES))
			return err_set(e, ERR_CORRUPT, "directory ends inside its keys");
		k = VEC_PUSH(&d->keys, e);
		if (!k)
			return e->code;
		*k = key;
	}
	return 0;
}

static int decode_frames(struct rd *rd, struct directory *d, struct dir_segment *s, struct err *e)
{
	uint64_t stored = AEAD_BYTES, decoded = 0;

	s->first_frame = (uint32_t)d->frames.n;
	for (uint32_t i = 0; i < s->nframes; i++) {
		struct dir_frame f, *p;

		if (!rd_le32(rd, &f.stored) || !rd_le32(rd, &f.decoded) || !rd_u8(rd, &f.codec) || !rd_skip(rd, 3))
			return err_set(e, ERR_CORRUPT, "directory ends inside a segment's frames");
		if (f.codec > CODEC_ZSTD_PREFIX)
			return err_set(e, ERR_UNSUPPORTED, "frame of codec %u", f.codec);
		/* No encoder makes more than this of it: so a segment's stored length is bounded too. */
		if (!f.stored || !f.decoded || (f.codec == CODEC_RAW && f.stored != f.decoded) ||
		    f.stored > (uint64_t)f.decoded + f.decoded / 128 + 128)
			return err_set(e, ERR_CORRUPT, "frame of %" PRIu32 " bytes stored, %" PRIu32 " decoded",
				       f.stored, f.decoded);
		stored += f.stored;
		decoded += f.decoded;
		p = VEC_PUSH(&d->frames, e);
		if (!p)
			return e->code;
		*p = f;
	}
	if (stored != s->stored)
		return err_set(e, ERR_CORRUPT, "segment of %" PRIu32 " bytes, its frames need %" PRIu64, s->stored,
			       stored);
	if (decoded > SEGMENT_MAX_BYTES)
		return err_set(e, ERR_CORRUPT, "segment of %" PRIu64 " bytes decoded, %u are allowed", decoded,
			       SEGMENT_MAX_BYTES);
	return 0;
}

/* A chunk with bases is alone in its frame, and has all of it. */
static int check_chunk(const struct directory *d, const struct dir_segment *s, const struct dir_chunk *c, struct err *e)
{
	const struct dir_frame *f;

	if (c->frame >= s->nframes)
		return err_set(e, ERR_CORRUPT, "chunk in frame %u of %" PRIu32, c->frame, s->nframes);
	f = &d->frames.p[s->first_frame + c->frame];
	if (!c->len || !range_ok(c->off, c->len, f->decoded))
		return err_set(e, ERR_CORRUPT, "chunk of %" PRIu32 " bytes at %" PRIu32 " in a frame of %" PRIu32,
			       c->len, c->off, f->decoded);
	if (c->nbases > BASES_MAX || c->depth > DELTA_DEPTH_MAX || !c->nbases != !c->depth)
		return err_set(e, ERR_CORRUPT, "chunk of %u bases and depth %u", c->nbases, c->depth);
	if (!c->nbases != (f->codec != CODEC_ZSTD_PREFIX) ||
	    (c->nbases && (c->len != f->decoded || d->kind == PACK_NODES)))
		return err_set(e, ERR_CORRUPT, "chunk of %u bases in a frame of codec %u", c->nbases, f->codec);
	return 0;
}

static int decode_chunks(struct rd *rd, struct directory *d, struct dir_segment *s, struct err *e)
{
	uint8_t used[SEGMENT_MAX_ITEMS / 8] = { 0 }; /* frames of deltas that have their chunk */

	s->first_chunk = (uint32_t)d->chunks.n;
	for (uint32_t i = 0; i < s->nchunks; i++) {
		struct dir_chunk c, *p;

		if (!rd_copy(rd, c.id.b, ID_BYTES) || !rd_le16(rd, &c.frame) || !rd_u8(rd, &c.nbases) ||
		    !rd_u8(rd, &c.depth) || !rd_le32(rd, &c.off) || !rd_le32(rd, &c.len))
			return err_set(e, ERR_CORRUPT, "directory ends inside a segment's chunks");
		if (check_chunk(d, s, &c, e) < 0)
			return e->code;
		if (c.nbases && (used[c.frame / 8] >> c.frame % 8 & 1))
			return err_set(e, ERR_CORRUPT, "two chunks in delta frame %u", c.frame);
		if (c.nbases)
			used[c.frame / 8] |= (uint8_t)(1 << c.frame % 8);
		c.first_base = (uint32_t)d->bases.n;
		for (uint32_t b = 0; b < c.nbases; b++) {
			struct id *base = VEC_PUSH(&d->bases, e);

			if (!base)
				return e->code;
			if (!rd_copy(rd, base->b, ID_BYTES))
				return err_set(e, ERR_CORRUPT, "directory ends inside a chunk's bases");
		}
		p = VEC_PUSH(&d->chunks, e);
		if (!p)
			return e->code;
		*p = c;
	}
	for (uint32_t i = 0; i < s->nframes; i++)
		if (d->frames.p[s->first_frame + i].codec == CODEC_ZSTD_PREFIX && !(used[i / 8] >> i % 8 & 1))
			return err_set(e, ERR_CORRUPT, "delta frame %" PRIu32 " without a chunk", i);
	return 0;
}

static int decode_segment(struct rd *rd, struct directory *d, uint64_t data_end, struct err *e)
{
	struct dir_segment s = { 0 }, *p;
	uint16_t nframes, nchunks;
	uint8_t flags;

	if (!rd_le64(rd, &s.off) || !rd_le32(rd, &s.stored) || !rd_le32(rd, &s.key) || !rd_le64(rd, &s.birth) ||
	    !rd_copy(rd, s.sealer.b, SLOT_BYTES) || !rd_u8(rd, &flags) || !rd_skip(rd, 1) || !rd_le16(rd, &nframes) ||
	    !rd_le16(rd, &nchunks) || !rd_skip(rd, 2))
		return err_set(e, ERR_CORRUPT, "directory ends inside its segments");
	s.verified = flags & 1;
	s.nframes = nframes;
	s.nchunks = nchunks;
	if (!range_ok(s.off, s.stored, data_end))
		return err_set(e, ERR_CORRUPT,
			       "segment of %" PRIu32 " bytes at %" PRIu64 ", the segments end at %" PRIu64, s.stored,
			       s.off, data_end);
	if (s.key >= d->keys.n)
		return err_set(e, ERR_CORRUPT, "segment under key %" PRIu32 " of %zu", s.key, d->keys.n);
	if (!s.nframes || s.nframes > SEGMENT_MAX_ITEMS || !s.nchunks || s.nchunks > SEGMENT_MAX_ITEMS)
		return err_set(e, ERR_CORRUPT, "segment of %" PRIu32 " frames and %" PRIu32 " chunks", s.nframes,
			       s.nchunks);
	if (decode_frames(rd, d, &s, e) < 0 || decode_chunks(rd, d, &s, e) < 0)
		return e->code;
	p = VEC_PUSH(&d->segments, e);
	if (!p)
		return e->code;
	*p = s;
	return 0;
}

struct extent {
	uint64_t off, end;
};

static int cmp_extent(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

static int check_overlap(const struct directory *d, struct err *e)
{
	CLEANUP(free_ptr) struct extent *x = malloc(d->segments.n * sizeof(*x));

	if (!x)
		return err_set(e, ERR_NOMEM, "directory of %zu segments", d->segments.n);
	for (size_t i = 0; i < d->segments.n; i++)
		x[i] = (struct extent){ d->segments.p[i].off, d->segments.p[i].off + d->segments.p[i].stored };
	qsort(x, d->segments.n, sizeof(*x), cmp_extent);
	for (size_t i = 1; i < d->segments.n; i++)
		if (x[i].off < x[i - 1].end)
			return err_set(e, ERR_CORRUPT, "segments overlap at %" PRIu64, x[i].off);
	return 0;
}

int directory_decode(const void *payload, size_t len, uint64_t data_end, struct directory **ret, struct err *e)
{
	CLEANUP(directory_free_cleanup) struct directory *d = calloc(1, sizeof(*d));
	struct rd rd = rd_of(payload, len);
	struct dir_counts n = { 0 };

	if (!d)
		return err_set(e, ERR_NOMEM, "directory");
	if (decode_head(&rd, d, &n, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < n.segments; i++)
		if (decode_segment(&rd, d, data_end, e) < 0)
			return err_ctx(e, "segment %" PRIu32, i);
	if (rd.left)
		return err_set(e, ERR_CORRUPT, "directory: %zu bytes after its last segment", rd.left);
	if (d->chunks.n != n.chunks)
		return err_set(e, ERR_CORRUPT, "directory of %" PRIu32 " chunks, its segments have %zu", n.chunks,
			       d->chunks.n);
	if (check_overlap(d, e) < 0)
		return e->code;
	*ret = STEAL(d);
	return 0;
}

/* The envelope at a known place and the trailer, in one read.  The envelope verifies itself, so that a pack whose
 * trailer is damaged or cut off is not lost: *ret_bad. */
static int read_known(struct repo *r, const char *name, uint64_t size, uint64_t off, uint32_t len, uint8_t *p,
		      struct trailer *t, bool *ret_bad, struct err *e)
{
	struct err why = ERR_INIT;

	*ret_bad = true;
	if (store_read(repo_store(r), name, p, (size_t)len + TRAILER_BYTES, off, e) < 0) {
		if (e->code != ERR_CORRUPT)
			return e->code;
		err_clear(e);
		return store_read(repo_store(r), name, p, len, off, e);
	}
	if (trailer_decode(p + len, size, t, &why) < 0)
		return 0;
	if (t->envelope_off != off || t->envelope_len != len)
		return err_set(e, ERR_CORRUPT, "%s: its directory is not where the index has it", name);
	*ret_bad = false;
	return 0;
}

/* The envelope and what the trailer says. */
static int read_tail(struct repo *r, const char *name, uint64_t size, uint64_t off, uint32_t len, uint8_t **ret,
		     struct trailer *ret_t, bool *ret_bad, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct trailer t = { .envelope_off = off, .envelope_len = len };
	bool bad = false;
	int rc;
	uint8_t end[TRAILER_BYTES];

	if (size < TRAILER_BYTES || size > PACK_MAX_BYTES)
		return err_set(e, ERR_CORRUPT, "%s: a pack of %" PRIu64 " bytes", name, size);
	if (!len) {
		if (store_read(repo_store(r), name, end, TRAILER_BYTES, size - TRAILER_BYTES, e) < 0)
			return e->code;
		if (trailer_decode(end, size, &t, e) < 0)
			return err_ctx(e, "%s", name);
	} else if (len > ENVELOPE_MAX_BYTES || len > size - TRAILER_BYTES || off != size - TRAILER_BYTES - len) {
		return err_set(e, ERR_CORRUPT,
			       "%s: directory of %" PRIu32 " bytes at %" PRIu64 " in a pack of %" PRIu64, name, len,
			       off, size);
	}
	p = malloc((size_t)t.envelope_len + TRAILER_BYTES);
	if (!p)
		return err_set(e, ERR_NOMEM, "%s: directory of %" PRIu32 " bytes", name, t.envelope_len);
	if (len)
		rc = read_known(r, name, size, off, len, p, &t, &bad, e);
	else
		rc = store_read(repo_store(r), name, p, t.envelope_len, t.envelope_off, e);
	if (rc < 0)
		return rc;
	*ret = STEAL(p);
	*ret_t = t;
	*ret_bad = bad;
	return 0;
}

static int check_directory(const struct directory *d, const struct object_name *n, const struct trailer *t,
			   const struct slot_id *signer, struct err *e)
{
	enum pack_kind kind = n->type == OBJECT_DATA_SEGMENT ? PACK_DATA : PACK_NODES;

	if (d->kind != kind || (!d->trailer_bad && t->kind != kind))
		return err_set(e, ERR_CORRUPT, "name, directory and trailer are not of one kind");
	if (memcmp(d->slot.b, n->slot.b, SLOT_BYTES) != 0 || memcmp(d->session.b, n->session.b, SESSION_BYTES) != 0)
		return err_set(e, ERR_CORRUPT, "the directory belongs to another writer or session");
	if (memcmp(signer->b, n->slot.b, SLOT_BYTES) != 0)
		return err_set(e, ERR_AUTH, "the directory is not signed by the slot in the name");
	if (!d->trailer_bad && memcmp(d->salt, t->salt, SALT_BYTES) != 0)
		return err_set(e, ERR_CORRUPT, "the salts of directory and trailer differ");
	return 0;
}

int pack_open_directory(struct repo *r, const char *name, const uint8_t *sealed, const struct trailer *t,
			struct directory **ret, struct err *e)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL;
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct object_name n;
	struct slot_id signer;
	uint32_t generation;
	size_t len;

	if (!object_name_parse(name, &n))
		return err_set(e, ERR_INTERNAL, "%s: not the name of a pack", name);
	if (envelope_open(r, OBJECT_DIRECTORY, sealed, t->envelope_len, &payload, &len, &signer, &generation, e) < 0 ||
	    directory_decode(payload, len, t->envelope_off, &d, e) < 0 || check_directory(d, &n, t, &signer, e) < 0)
		return err_ctx(e, "%s: directory", name);
	d->generation = generation;
	d->envelope_len = t->envelope_len;
	*ret = STEAL(d);
	return 0;
}

static int read_directory(struct repo *r, const char *name, uint64_t size, uint64_t envelope_off, uint32_t envelope_len,
			  struct directory **ret, struct err *e)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL;
	CLEANUP(free_ptr) uint8_t *sealed = NULL, *payload = NULL;
	struct object_name n;
	struct slot_id signer;
	struct trailer t;
	uint32_t generation;
	bool bad = false;
	size_t len;

	if (!object_name_parse(name, &n) || (n.type != OBJECT_DATA_SEGMENT && n.type != OBJECT_NODE_SEGMENT))
		return err_set(e, ERR_INVALID, "%s: not the name of a pack", name);
	if (read_tail(r, name, size, envelope_off, envelope_len, &sealed, &t, &bad, e) < 0)
		return e->code;
	if (envelope_open(r, OBJECT_DIRECTORY, sealed, t.envelope_len, &payload, &len, &signer, &generation, e) < 0 ||
	    directory_decode(payload, len, t.envelope_off, &d, e) < 0)
		return err_ctx(e, "%s: directory", name);
	/* where the place is known, what the trailer adds may be wrong too */
	d->trailer_bad = bad || (envelope_len && (t.kind != d->kind || memcmp(d->salt, t.salt, SALT_BYTES) != 0));
	if (check_directory(d, &n, &t, &signer, e) < 0)
		return err_ctx(e, "%s: directory", name);
	d->generation = generation;
	d->envelope_len = t.envelope_len;
	*ret = STEAL(d);
	return 0;
}

int pack_read_directory(struct repo *r, const char *name, uint64_t size, uint64_t envelope_off, uint32_t envelope_len,
			struct directory **ret, struct err *e)
{
	struct err again = ERR_INIT;
	struct store_stat st;
	int rc = read_directory(r, name, size, envelope_off, envelope_len, ret, e);

	/* The place may be what is wrong: any slot can store an index run. */
	if (rc != ERR_CORRUPT || !envelope_len)
		return rc;
	if (store_stat(repo_store(r), name, &st, &again) < 0 || read_directory(r, name, st.size, 0, 0, ret, &again) < 0)
		return rc;
	err_clear(e);
	return 0;
}
