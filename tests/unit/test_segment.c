/* Segments: sealed, opened and decoded again; flipped bits between the stages are noticed; deltas; hostile frames. */
#include "tests/test.h"

#include <sodium.h>
#include <zstd.h>

#include "tests/support/pack.h"
#include "tests/support/repo.h"

#define CHUNK 4096u
#define N 24u

static struct test_repo t;
static struct segment_codec *codec;
static struct crypt *crypt;
static struct pack_key key;
static uint8_t plain[N][CHUNK];
static struct segment_item items[N];

static void describe(unsigned i)
{
	items[i] = (struct segment_item){ .plain = plain[i], .len = CHUNK };
	test_id_of_chunk(t.repo, NULL, plain[i], CHUNK, &items[i].id);
}

static int setup(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	assert_ok(segment_codec_new(&codec, &e), &e);
	assert_ok(crypt_new(&crypt, &e), &e);
	assert_ok(pack_key_new(t.repo, PACK_DATA, &key, &e), &e);
	for (unsigned i = 0; i < N; i++) {
		memset(plain[i], (int)i, CHUNK);
		randombytes_buf(plain[i], i % 3 == 0 ? CHUNK : 100);	/* some do not compress */
		describe(i);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	segment_codec_free(codec);
	crypt_free(crypt);
	test_repo_done(&t);
	return 0;
}

/* A directory of one segment. */
static struct directory *directory_of(const struct segment_sealed *s)
{
	struct err e = ERR_INIT;
	struct directory *d = calloc(1, sizeof(*d));
	struct dir_key *k = VEC_PUSH(&d->keys, &e);

	d->kind = s->kind;
	k->generation = key.generation;
	memcpy(k->sealed, key.sealed, BOX_BYTES);
	assert_ok(segment_add_row(d, s, 0, 0, repo_own_slot(t.repo), &e), &e);
	return d;
}

static void round_trip(unsigned first, unsigned n, int level, bool want_zstd)
{
	struct segment_others others = { 0 };
	struct segment_sealed s = { 0 };
	struct segment *back = NULL;
	struct err e = ERR_INIT;
	struct directory *d;
	uint8_t buf[CHUNK];

	assert_ok(segment_seal(codec, t.repo, &key, 7, items + first, n, level, &s, &e), &e);
	assert_int_equal(s.frames.n, 1);
	assert_int_equal(s.frames.p[0].codec, want_zstd ? CODEC_ZSTD : CODEC_RAW);
	assert_int_equal(s.len, s.frames.p[0].stored + AEAD_BYTES);
	d = directory_of(&s);
	assert_ok(segment_open(codec, t.repo, d, 0, s.bytes, s.len, &back, &e), &e);
	assert_int_equal(segment_nchunks(back), n);
	for (unsigned i = 0; i < n; i++) {
		assert_true(id_eq(segment_chunk_id(back, i), &items[first + i].id));
		assert_memory_equal(segment_chunk_peek(back, i), plain[first + i], CHUNK);
		assert_ok(segment_chunk(codec, back, i, NULL, DELTA_DEPTH_MAX, &others, buf, &e), &e);
		assert_ok(segment_verify(codec, t.repo, PACK_DATA, NULL, &items[first + i].id, buf, CHUNK, &e), &e);
	}
	buf[17] ^= 1;
	assert_err(segment_verify(codec, t.repo, PACK_DATA, NULL, &items[first + n - 1].id, buf, CHUNK, &e), ERR_CORRUPT, &e);
	segment_free(back);
	directory_free(d);
	segment_sealed_done(&s);
}

static void test_segment__round_trip(void **state)
{
	(void)state;
	round_trip(0, N, 3, true);
	round_trip(1, 1, 1, true);
	round_trip(0, 1, 3, false);	/* random: raw */
	round_trip(0, N, 0, false);	/* compression off */
	round_trip(0, N, 15, true);
	round_trip(2, 1, -3, true);
}

static void test_segment__nodes(void **state)
{
	uint8_t node[2][NODE_MAX_BYTES];
	struct segment_item it[2] = { { .plain = node[0], .len = 66 }, { .plain = node[1], .len = NODE_MAX_BYTES } };
	struct segment_sealed s = { 0 };
	struct err e = ERR_INIT;
	struct pack_key k;

	(void)state;
	randombytes_buf(node, sizeof(node));
	for (int i = 0; i < 2; i++)
		test_id_of_node(t.repo, node[i], it[i].len, &it[i].id);
	assert_ok(pack_key_new(t.repo, PACK_NODES, &k, &e), &e);
	assert_ok(segment_seal(codec, t.repo, &k, 0, it, 2, 3, &s, &e), &e);
	assert_int_equal(s.chunks.p[1].off, 66);
	segment_sealed_done(&s);
	it[0].nbases = it[0].depth = 1;
	assert_err(segment_seal(codec, t.repo, &k, 1, it, 2, 3, &s, &e), ERR_INVALID, &e);
}

static void test_segment__refuses_wrong_items(void **state)
{
	struct segment_item it = items[0];
	struct segment_sealed s = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_err(segment_seal(codec, t.repo, &key, 1, &it, 0, 3, &s, &e), ERR_INVALID, &e);
	it.len = CHUNK - 1;
	assert_err(segment_seal(codec, t.repo, &key, 1, &it, 1, 3, &s, &e), ERR_INVALID, &e);
	it.len = CHUNK;
	it.id.b[0] ^= 1;	/* content that is not what the id says */
	assert_err(segment_seal(codec, t.repo, &key, 1, &it, 1, 3, &s, &e), ERR_INTERNAL, &e);
	it.id.b[0] ^= 1;
	it.domain = "default";
	assert_ok(segment_seal(codec, t.repo, &key, 1, &it, 1, 3, &s, &e), &e);
	segment_sealed_done(&s);
}

struct flip {
	enum segment_stage stage;
	uint32_t at, calls;
};

static void flip_bit(void *opaque, enum segment_stage stage, uint8_t *bytes, size_t len)
{
	struct flip *f = opaque;

	if (stage != f->stage)
		return;
	f->calls++;
	bytes[f->at % len] ^= (uint8_t)(1u << f->at % 8);
}

static void test_segment__bit_flips_between_stages_are_noticed(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	for (int level = 0; level <= 3; level += 3) {
		for (enum segment_stage stage = SEGMENT_GATHERED; stage <= SEGMENT_DECODED; stage++) {
			for (uint32_t i = 0; i < 40; i++) {
				struct flip f = { stage, randombytes_random(), 0 };
				struct segment_sealed s = { 0 };

				segment_codec_set_hook(codec, flip_bit, &f);
				assert_err(segment_seal(codec, t.repo, &key, 1, items, N, level, &s, &e), ERR_INTERNAL,
					   &e);
				assert_int_equal(f.calls, 1);
				assert_null(s.bytes);
			}
		}
	}
	segment_codec_set_hook(codec, NULL, NULL);
	round_trip(0, N, 3, true);	/* the codec is none the worse */
}

/* --- deltas --- */
#define DELTAS 12u
static uint8_t old[DELTAS][CHUNK];
static struct id old_id[DELTAS];

struct chain {
	struct segment *s;
	unsigned calls;
	bool lie;			/* bases with another content */
	bool full;			/* all bases are full chunks of old[] */
};

/* Bases are chunks of old[] (full), or delta chunks of the segment. */
static int get_base(void *opaque, const struct id *id, unsigned levels, struct segment_others *others, uint8_t *buf,
		    size_t len, struct err *e)
{
	struct chain *c = opaque;
	struct segment_bases again = { get_base, c };

	c->calls++;
	assert_int_equal(len, CHUNK);
	for (uint32_t i = 0; !c->full && c->s && i < segment_nchunks(c->s); i++)
		if (id_eq(segment_chunk_id(c->s, i), id))
			return segment_chunk(codec, c->s, i, &again, levels, others, buf, e);
	for (unsigned i = 0; i < DELTAS; i++) {
		if (id_eq(&old_id[i], id)) {
			memcpy(buf, old[i], CHUNK);
			buf[5] ^= c->lie;
			return 0;
		}
	}
	return err_set(e, ERR_NOTFOUND, "no such base");
}

static void make_old(void)
{
	for (unsigned i = 0; i < DELTAS; i++) {
		randombytes_buf(old[i], CHUNK);
		test_id_of_chunk(t.repo, NULL, old[i], CHUNK, &old_id[i]);
	}
}

/* items[i] = a few bytes changed in what its bases hold. */
static void make_delta(unsigned i, const unsigned *base, unsigned nbases, unsigned depth, uint8_t *prefix)
{
	for (unsigned b = 0; b < nbases; b++)
		memcpy(prefix + b * CHUNK, old[base[b]], CHUNK);
	for (unsigned k = 0; k < CHUNK; k += 512)	/* pieces of all bases in turn */
		memcpy(plain[i] + k, prefix + (k / 512 % nbases) * CHUNK + k, 512);
	plain[i][1000 + i] ^= 0x55;
	describe(i);
	items[i].nbases = (uint8_t)nbases;
	items[i].depth = (uint8_t)depth;
	items[i].prefix = prefix;
	items[i].prefix_len = nbases * CHUNK;
	for (unsigned b = 0; b < nbases; b++)
		items[i].bases[b] = old_id[base[b]];
}

static void test_segment__deltas_with_several_bases(void **state)
{
	static uint8_t prefix[4][4 * CHUNK];
	struct chain c = { 0 };
	struct segment_bases bases = { get_base, &c };
	struct segment_sealed s = { 0 };
	struct err e = ERR_INIT;
	struct directory *d;
	uint8_t buf[CHUNK];

	(void)state;
	make_old();
	for (unsigned i = 0; i < 4; i++)
		make_delta(i, (const unsigned[]){ i, i + 1, i + 2, i + 3 }, i + 1, 1, prefix[i]);
	assert_ok(segment_seal(codec, t.repo, &key, 3, items, 6, 3, &s, &e), &e);	/* 4 and 5: full */
	assert_int_equal(s.frames.n, 5);
	assert_int_equal(s.bases.n, 10);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(s.chunks.p[i].nbases, i + 1);
		assert_true(s.frames.p[s.chunks.p[i].frame].stored < 200);
	}
	d = directory_of(&s);
	assert_ok(segment_open(codec, t.repo, d, 0, s.bytes, s.len, &c.s, &e), &e);
	for (unsigned i = 0; i < 6; i++) {
		struct segment_others others = { 0 };

		assert_int_equal(segment_chunk_depth(c.s, i), i < 4);
		assert_int_equal(segment_chunk_peek(c.s, i) == NULL, i < 4);
		assert_ok(segment_chunk(codec, c.s, i, &bases, DELTA_DEPTH_MAX, &others, buf, &e), &e);
		assert_memory_equal(buf, plain[i], CHUNK);
		assert_int_equal(others.n, i < 4 ? i + 1 : 0);
	}
	assert_err(segment_chunk(codec, c.s, 0, NULL, DELTA_DEPTH_MAX, &(struct segment_others){ 0 }, buf, &e),
		   ERR_UNSUPPORTED, &e);
	c.lie = true;		/* another base: another content, or an error; never taken for the chunk */
	if (segment_chunk(codec, c.s, 1, &bases, DELTA_DEPTH_MAX, &(struct segment_others){ 0 }, buf, &e) == 0)
		assert_err(segment_verify(codec, t.repo, PACK_DATA, NULL, &items[1].id, buf, CHUNK, &e), ERR_CORRUPT, &e);
	err_clear(&e);
	segment_free(c.s);
	directory_free(d);
	segment_sealed_done(&s);

	prefix[2][77] ^= 1;	/* a base that rotted in memory before the delta was made */
	assert_err(segment_seal(codec, t.repo, &key, 3, items, 6, 3, &s, &e), ERR_INTERNAL, &e);
	prefix[2][77] ^= 1;
	randombytes_buf(plain[0], CHUNK);	/* nothing in common: stored as a full chunk */
	test_id_of_chunk(t.repo, NULL, plain[0], CHUNK, &items[0].id);
	assert_ok(segment_seal(codec, t.repo, &key, 3, items, 6, 3, &s, &e), &e);
	assert_int_equal(s.chunks.p[0].nbases, 0);
	assert_int_equal(s.chunks.p[0].depth, 0);
	segment_sealed_done(&s);
	for (unsigned i = 0; i < 4; i++)
		describe(i);
}

/* A chain: chunk i has chunk i - 1 as base, chunk 0 old[0]. */
static void test_segment__chains_end_at_the_limits(void **state)
{
	static uint8_t prefix[12][4 * CHUNK];
	struct chain c = { 0 };
	struct segment_bases bases = { get_base, &c };
	struct segment_others others = { 0 };
	struct segment_sealed s = { 0 };
	struct err e = ERR_INIT;
	struct directory *d;
	uint8_t buf[CHUNK];

	(void)state;
	make_old();
	for (unsigned i = 0; i < 9; i++) {
		make_delta(i, &(const unsigned){ i }, 1, i < 8 ? i + 1 : 8, prefix[i]);
		memcpy(old[i + 1], plain[i], CHUNK);
		old_id[i + 1] = items[i].id;
	}
	assert_ok(segment_seal(codec, t.repo, &key, 3, items, 9, 3, &s, &e), &e);
	d = directory_of(&s);
	assert_ok(segment_open(codec, t.repo, d, 0, s.bytes, s.len, &c.s, &e), &e);
	assert_ok(segment_chunk(codec, c.s, 7, &bases, DELTA_DEPTH_MAX, &others, buf, &e), &e);
	assert_memory_equal(buf, plain[7], CHUNK);
	assert_int_equal(c.calls, 8);
	assert_int_equal(others.n, 8);
	/* the ninth says depth 8 and needs nine levels */
	others = (struct segment_others){ 0 };
	assert_err(segment_chunk(codec, c.s, 8, &bases, DELTA_DEPTH_MAX, &others, buf, &e), ERR_CORRUPT, &e);
	segment_free(c.s);
	directory_free(d);
	segment_sealed_done(&s);
}

/* Each level names the level below four times: 4^8 decodings, were they not counted; and a cycle. */
static void test_segment__bombs_of_bases_end(void **state)
{
	struct segment_sealed s = { 0 };
	struct chain c = { 0 };
	struct segment_bases bases = { get_base, &c };
	struct segment_others others = { 0 };
	static uint8_t prefix[8][4 * CHUNK];
	struct err e = ERR_INIT;
	struct directory *d;
	uint8_t buf[CHUNK];

	(void)state;
	make_old();
	for (unsigned i = 0; i < 8; i++) {
		make_delta(i, (const unsigned[]){ i, i, i, i }, 4, i + 1, prefix[i]);
		memcpy(old[i + 1], plain[i], CHUNK);
		old_id[i + 1] = items[i].id;
	}
	assert_ok(segment_seal(codec, t.repo, &key, 3, items, 8, 3, &s, &e), &e);
	d = directory_of(&s);
	assert_ok(segment_open(codec, t.repo, d, 0, s.bytes, s.len, &c.s, &e), &e);
	assert_err(segment_chunk(codec, c.s, 7, &bases, DELTA_DEPTH_MAX, &others, buf, &e), ERR_CORRUPT, &e);
	assert_true(c.calls <= SEGMENT_FETCHES_MAX);
	segment_free(c.s);
	/* a cycle: a chunk that is its own base */
	d->bases.p[0] = items[0].id;
	c.calls = 0;
	others = (struct segment_others){ 0 };
	assert_ok(segment_open(codec, t.repo, d, 0, s.bytes, s.len, &c.s, &e), &e);
	assert_err(segment_chunk(codec, c.s, 0, &bases, DELTA_DEPTH_MAX, &others, buf, &e), ERR_CORRUPT, &e);
	segment_free(c.s);
	directory_free(d);
	segment_sealed_done(&s);
}

/* --- hostile segments: sealed with the right key, frames as given --- */
static struct directory *hostile(const void *frame, size_t len, uint32_t decoded, enum frame_codec fc, uint32_t nchunks,
				 uint8_t **ret_sealed)
{
	struct err e = ERR_INIT;
	struct directory *d = calloc(1, sizeof(*d));
	struct dir_key *k = VEC_PUSH(&d->keys, &e);

	d->kind = PACK_DATA;
	k->generation = key.generation;
	memcpy(k->sealed, key.sealed, BOX_BYTES);
	*VEC_PUSH(&d->frames, &e) = (struct dir_frame){ (uint32_t)len, decoded, (uint8_t)fc };
	for (uint32_t i = 0; i < nchunks; i++)
		*VEC_PUSH(&d->chunks, &e) = (struct dir_chunk){ .off = i * CHUNK, .len = CHUNK };
	*VEC_PUSH(&d->segments, &e) = (struct dir_segment){ .stored = (uint32_t)len + AEAD_BYTES, .nframes = 1, .nchunks = nchunks };
	*ret_sealed = malloc(len + AEAD_BYTES);
	assert_ok(segment_aead_seal(crypt, t.repo, &key, 0, frame, len, *ret_sealed, &e), &e);
	return d;
}

static void refuse(const void *frame, size_t len, uint32_t decoded, uint32_t nchunks)
{
	struct err e = ERR_INIT;
	struct segment *s = NULL;
	uint8_t *sealed;
	struct directory *d = hostile(frame, len, decoded, CODEC_ZSTD, nchunks, &sealed);

	assert_err(segment_open(codec, t.repo, d, 0, sealed, len + AEAD_BYTES, &s, &e), ERR_CORRUPT, &e);
	assert_null(s);
	free(sealed);
	directory_free(d);
}

static void test_segment__refuses_bombs_and_lies(void **state)
{
	size_t cap = ZSTD_compressBound(SEGMENT_MAX_BYTES), n, two;
	uint8_t *zeros = calloc(1, SEGMENT_MAX_BYTES), *frame = malloc(2 * cap), *sealed;
	struct segment *s = NULL;
	struct err e = ERR_INIT;
	struct directory *d;

	(void)state;
	n = ZSTD_compress(frame, cap, zeros, SEGMENT_MAX_BYTES, 3);
	refuse(frame, n, CHUNK, 1);			/* a bomb: 4 MiB where 4 KiB are declared */
	refuse(frame, n - 1, SEGMENT_MAX_BYTES, 1);	/* cut off */
	n = ZSTD_compress(frame, cap, zeros, CHUNK, 3);
	refuse(frame, n, 2 * CHUNK, 1);			/* less than declared */
	two = ZSTD_compress(frame + n, cap, zeros, CHUNK, 3);
	refuse(frame, n + two, 2 * CHUNK, 2);		/* two frames */
	refuse(frame, n + two, CHUNK, 1);
	memcpy(frame + n, "\x50\x2a\x4d\x18\x01\0\0\0x", 9);
	refuse(frame, n + 9, CHUNK, 1);			/* a skippable frame behind */
	memcpy(frame, "\x50\x2a\x4d\x18\x01\0\0\0x", 9);
	refuse(frame, 9, CHUNK, 1);			/* nothing but one */
	randombytes_buf(frame, 100);
	refuse(frame, 100, CHUNK, 1);
	n = ZSTD_compress(frame, cap, zeros, CHUNK, 3);
	d = hostile(frame, n, CHUNK, CODEC_ZSTD, 1, &sealed);
	assert_ok(segment_open(codec, t.repo, d, 0, sealed, n + AEAD_BYTES, &s, &e), &e);
	segment_free(s);
	s = NULL;
	d->chunks.p[0].len = CHUNK / 2;			/* not the chunk size */
	assert_err(segment_open(codec, t.repo, d, 0, sealed, n + AEAD_BYTES, &s, &e), ERR_CORRUPT, &e);
	d->chunks.p[0].len = CHUNK;
	d->segments.p[0].birth = 1;			/* another place under the key */
	assert_err(segment_open(codec, t.repo, d, 0, sealed, n + AEAD_BYTES, &s, &e), ERR_CORRUPT, &e);
	d->segments.p[0].birth = 0;
	d->keys.p[0].sealed[50] ^= 1;
	assert_true(segment_open(codec, t.repo, d, 0, sealed, n + AEAD_BYTES, &s, &e) < 0);
	err_clear(&e);
	assert_err(segment_open(codec, t.repo, d, 1, sealed, n + AEAD_BYTES, &s, &e), ERR_CORRUPT, &e);
	free(sealed);
	directory_free(d);
	free(frame);
	free(zeros);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segment__round_trip),
		cmocka_unit_test(test_segment__nodes),
		cmocka_unit_test(test_segment__refuses_wrong_items),
		cmocka_unit_test(test_segment__bit_flips_between_stages_are_noticed),
		cmocka_unit_test(test_segment__deltas_with_several_bases),
		cmocka_unit_test(test_segment__chains_end_at_the_limits),
		cmocka_unit_test(test_segment__bombs_of_bases_end),
		cmocka_unit_test(test_segment__refuses_bombs_and_lies),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
