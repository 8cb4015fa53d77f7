/* Trailers and directories: what is written comes back, and whatever breaks a rule of the format is refused. */
#include "tests/test.h"

#include "base/bytes.h"
#include "tests/support/pack.h"
#include "tests/support/repo.h"
#include "transport/store.h"

#define CHUNK 4096u
#define DATA_END 100000u

static void test_trailer__round_trip_and_refusals(void **state)
{
	struct trailer t = { .kind = PACK_NODES, .envelope_off = 1000, .envelope_len = 500 }, back;
	static const struct {
		size_t at;
		int code;
	} bad[] = { { 0, ERR_CORRUPT },	 { 8, ERR_UNSUPPORTED }, { 9, ERR_CORRUPT },
		    { 10, ERR_CORRUPT }, { 12, ERR_CORRUPT },	 { 16, ERR_CORRUPT },
		    { 23, ERR_CORRUPT }, { 24, ERR_CORRUPT },	 { 31, ERR_CORRUPT } };
	uint8_t b[TRAILER_BYTES];
	struct err e = ERR_INIT;

	(void)state;
	memset(t.salt, 7, sizeof(t.salt));
	trailer_encode(&t, b);
	assert_ok(trailer_decode(b, 1548, &back, &e), &e);
	assert_int_equal(back.kind, PACK_NODES);
	assert_int_equal(back.envelope_off, 1000);
	assert_int_equal(back.envelope_len, 500);
	assert_memory_equal(back.salt, t.salt, SALT_BYTES);
	assert_err(trailer_decode(b, 1549, &back, &e), ERR_CORRUPT, &e);
	assert_err(trailer_decode(b, 48, &back, &e), ERR_CORRUPT, &e);
	assert_err(trailer_decode(b, 0, &back, &e), ERR_CORRUPT, &e);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		trailer_encode(&t, b);
		b[bad[i].at] ^= 0x40;
		assert_err(trailer_decode(b, 1548, &back, &e), bad[i].code, &e);
	}
}

/* Two keys; segment 0: a raw and a zstd frame with three chunks; segment 1: a full chunk and two deltas. */
static struct directory *sample(void)
{
	struct err e = ERR_INIT;
	struct directory *d = calloc(1, sizeof(*d));
	static const struct dir_frame frames[] = { { CHUNK, CHUNK, CODEC_RAW },
						   { 900, 2 * CHUNK, CODEC_ZSTD },
						   { 500, CHUNK, CODEC_ZSTD },
						   { 30, CHUNK, CODEC_ZSTD_PREFIX },
						   { 31, CHUNK, CODEC_ZSTD_PREFIX } };
	static const struct {
		uint16_t frame;
		uint8_t nbases, depth;
		uint32_t off;
	} chunks[] = { { 0, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, CHUNK },
		       { 2, 0, 0, 0 }, { 1, 1, 1, 0 }, { 0, 3, 8, 0 } };

	assert_non_null(d);
	d->kind = PACK_DATA;
	memset(d->slot.b, 1, SLOT_BYTES);
	memset(d->session.b, 2, SESSION_BYTES);
	memset(d->salt, 3, SALT_BYTES);
	for (unsigned i = 0; i < 2; i++)
		VEC_PUSH(&d->keys, &e)->generation = i + 1;
	for (size_t i = 0; i < 5; i++)
		*VEC_PUSH(&d->frames, &e) = frames[i];
	for (size_t i = 0; i < 6; i++) {
		struct dir_chunk *c = VEC_PUSH(&d->chunks, &e);

		*c = (struct dir_chunk){ .frame = chunks[i].frame, .nbases = chunks[i].nbases, .depth = chunks[i].depth, .off = chunks[i].off,
					 .len = CHUNK, .first_base = (uint32_t)d->bases.n };
		memset(c->id.b, 0x10 + (int)i, ID_BYTES);
		for (unsigned b = 0; b < c->nbases; b++)
			memset(VEC_PUSH(&d->bases, &e)->b, 0x40 + (int)b, ID_BYTES);
	}
	d->chunks.p[3].frame = 0;
	d->chunks.p[4].frame = 1;
	d->chunks.p[5].frame = 2;
	*VEC_PUSH(&d->segments, &e) = (struct dir_segment){ .off = 0, .birth = 5, .stored = 40 + CHUNK + 900, .key = 1, .verified = true,
							    .nframes = 2, .nchunks = 3 };
	*VEC_PUSH(&d->segments, &e) = (struct dir_segment){ .off = 40 + CHUNK + 900, .birth = 6, .stored = 40 + 561, .first_frame = 2,
							    .nframes = 3, .first_chunk = 3, .nchunks = 3 };
	return d;
}

static int decode_of(const struct directory *d, struct directory **ret, struct err *e)
{
	struct buf b;
	int rc;

	buf_init(&b, PAYLOAD_MAX_BYTES);
	assert_ok(directory_encode(d, &b, e), e);
	rc = directory_decode(b.p, b.len, DATA_END, ret, e);
	buf_done(&b);
	return rc;
}

static void test_directory__round_trip(void **state)
{
	struct directory *d = sample(), *back = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(decode_of(d, &back, &e), &e);
	assert_int_equal(back->kind, d->kind);
	assert_memory_equal(&back->slot, &d->slot, sizeof(d->slot));
	assert_memory_equal(&back->session, &d->session, sizeof(d->session));
	assert_memory_equal(back->salt, d->salt, SALT_BYTES);
	assert_int_equal(back->keys.n, 2);
	assert_int_equal(back->keys.p[1].generation, 2);
	assert_int_equal(back->segments.n, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct dir_segment *a = &back->segments.p[i], *b = &d->segments.p[i];

		assert_true(a->off == b->off && a->birth == b->birth && a->stored == b->stored && a->key == b->key &&
			    a->verified == b->verified);
		assert_true(a->first_frame == b->first_frame && a->nframes == b->nframes &&
			    a->first_chunk == b->first_chunk && a->nchunks == b->nchunks);
	}
	assert_int_equal(back->chunks.n, 6);
	for (size_t i = 0; i < 6; i++) {
		const struct dir_chunk *a = &back->chunks.p[i], *b = &d->chunks.p[i];

		assert_true(id_eq(&a->id, &b->id) && a->frame == b->frame && a->nbases == b->nbases &&
			    a->depth == b->depth && a->off == b->off && a->len == b->len &&
			    a->first_base == b->first_base);
	}
	assert_int_equal(back->bases.n, 4);
	assert_int_equal(back->bases.p[3].b[0], 0x42);
	directory_free(back);
	directory_free(d);
}

/* One broken rule each. */
static void damage(struct directory *d, int what)
{
	switch (what) {
	case 0: d->segments.p[0].key = 2; break;
	case 1: d->segments.p[1].off = 0; break;			/* overlap */
	case 2: d->segments.p[1].off = DATA_END - 10; break;
	case 3: d->segments.p[1].off = UINT64_MAX - 5; break;
	case 4: d->segments.p[0].stored++; break;
	case 5: d->frames.p[0].decoded++; break;			/* raw of another length */
	case 6: d->frames.p[1].decoded = SEGMENT_MAX_BYTES; break;
	case 7: d->frames.p[1].decoded = 0; break;
	case 8: d->chunks.p[2].off = CHUNK + 1; break;
	case 9: d->chunks.p[2].len = UINT32_MAX; break;
	case 10: d->chunks.p[2].len = 0; break;
	case 11: d->chunks.p[0].frame = 2; break;
	case 12: d->chunks.p[4].frame = 0; break;			/* delta in a full frame; delta frame empty */
	case 13: d->chunks.p[5].frame = 1; break;			/* two in a delta frame */
	case 14: d->chunks.p[5].depth = 9; break;
	case 15: d->chunks.p[4].depth = 0; break;
	case 16: d->chunks.p[0].depth = 1; break;
	case 17: d->chunks.p[4].len--; break;				/* not all of its frame */
	case 18: d->kind = PACK_NODES; break;				/* deltas of nodes */
	case 19: d->kind = PACK_INDEX_RUN; break;
	case 20: d->chunks.n--; d->segments.p[1].nchunks--; break;	/* delta frame without a chunk */
	case 21: d->segments.p[1].nchunks = 0; break;
	default: fail();
	}
}

static void test_directory__refuses_broken_rules(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	for (int what = 0; what < 22; what++) {
		struct directory *d = sample(), *back = NULL;

		damage(d, what);
		if (decode_of(d, &back, &e) != ERR_CORRUPT)
			fail_msg("damage %d: %s", what, e.cause);
		assert_null(back);
		err_clear(&e);
		directory_free(d);
	}
}

static void test_directory__refuses_every_truncation_and_count(void **state)
{
	struct directory *d = sample(), *back = NULL;
	struct err e = ERR_INIT;
	struct buf b;

	(void)state;
	buf_init(&b, PAYLOAD_MAX_BYTES);
	assert_ok(directory_encode(d, &b, &e), &e);
	for (size_t n = 0; n < b.len; n++)
		assert_err(directory_decode(b.p, n, DATA_END, &back, &e), ERR_CORRUPT, &e);
	assert_ok(buf_u8(&b, 0, &e), &e);
	assert_err(directory_decode(b.p, b.len, DATA_END, &back, &e), ERR_CORRUPT, &e);
	b.len--;
	for (size_t at = 4; at < 16; at += 4) {		/* keys, segments, chunks */
		uint32_t v = get_le32(b.p + at);

		put_le32(b.p + at, v + 1);
		assert_err(directory_decode(b.p, b.len, DATA_END, &back, &e), ERR_CORRUPT, &e);
		put_le32(b.p + at, UINT32_MAX);
		assert_err(directory_decode(b.p, b.len, DATA_END, &back, &e), ERR_CORRUPT, &e);
		put_le32(b.p + at, 0);
		assert_err(directory_decode(b.p, b.len, DATA_END, &back, &e), ERR_CORRUPT, &e);
		put_le32(b.p + at, v);
	}
	b.p[0] = 2;
	assert_err(directory_decode(b.p, b.len, DATA_END, &back, &e), ERR_UNSUPPORTED, &e);
	buf_done(&b);
	directory_free(d);
}

/* want 0: any error. */
static void read_with(struct repo *r, const char *name, const uint8_t *bytes, size_t len, int want)
{
	struct err e = ERR_INIT;
	struct directory *d = NULL;

	assert_ok(store_put(repo_store(r), name, bytes, len, 0, &e), &e);
	if (want)
		assert_err(pack_read_directory(r, name, len, 0, 0, &d, &e), want, &e);
	else
		assert_true(pack_read_directory(r, name, len, 0, 0, &d, &e) < 0);
	assert_null(d);
}

static void test_pack__read_directory(void **state)
{
	static const struct session_id session = { { 9 } }, other = { { 8 } };
	struct test_repo t;
	struct err e = ERR_INIT;
	uint8_t plain[3][CHUNK];
	struct segment_item it[3] = { 0 };
	struct directory *d = NULL;
	struct object_name n;
	struct test_pack p;
	char name[OBJECT_NAME_BYTES];
	uint8_t *bytes;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	for (int i = 0; i < 3; i++) {
		memset(plain[i], i + 1, CHUNK);
		it[i].plain = plain[i];
		it[i].len = CHUNK;
		test_id_of_chunk(t.repo, NULL, plain[i], CHUNK, &it[i].id);
	}
	bytes = test_pack_make(t.repo, &session, PACK_DATA, it, 3, 2, 3, &p);
	assert_ok(store_put(t.store, p.name, bytes, (size_t)p.size, 0, &e), &e);
	assert_ok(pack_read_directory(t.repo, p.name, p.size, 0, 0, &d, &e), &e);
	assert_int_equal(d->chunks.n, 3);
	assert_int_equal(d->segments.n, 2);
	assert_int_equal(d->generation, 1);
	assert_true(id_eq(&d->chunks.p[2].id, &it[2].id));
	directory_free(d);
	d = NULL;
	assert_ok(pack_read_directory(t.repo, p.name, p.size, p.envelope_off, p.envelope_len, &d, &e), &e);
	directory_free(d);
	d = NULL;
	/* an index run that has it at a wrong place must not keep anybody from it */
	for (unsigned k = 0; k < 4; k++) {
		uint64_t size = p.size - (k == 3), off = p.envelope_off - (k == 0 || k == 3) + 8u * (k == 2);
		uint32_t len = k == 1 ? UINT32_MAX : p.envelope_len - 8u * (k == 2);

		assert_ok(pack_read_directory(t.repo, p.name, size, off, len, &d, &e), &e);
		assert_int_equal(e.code, 0);
		assert_int_equal(d->envelope_len, p.envelope_len);
		directory_free(d);
		d = NULL;
	}
	assert_err(pack_read_directory(t.repo, p.name, 47, 0, 0, &d, &e), ERR_CORRUPT, &e);
	assert_err(pack_read_directory(t.repo, "config", p.size, 0, 0, &d, &e), ERR_INVALID, &e);

	/* under another session, another slot, another kind */
	assert_true(object_name_parse(p.name, &n));
	n.session = other;
	object_name_text(&n, name);
	read_with(t.repo, name, bytes, (size_t)p.size, ERR_CORRUPT);
	n.session = session;
	n.slot.b[0] ^= 1;
	object_name_text(&n, name);
	read_with(t.repo, name, bytes, (size_t)p.size, ERR_CORRUPT);
	n.slot.b[0] ^= 1;
	n.type = OBJECT_NODE_SEGMENT;
	object_name_text(&n, name);
	read_with(t.repo, name, bytes, (size_t)p.size, ERR_CORRUPT);
	/* salt, envelope and trailer damaged */
	for (size_t back = 1; back < p.envelope_len + (size_t)TRAILER_BYTES; back += 37) {
		bytes[p.size - back] ^= 1;
		read_with(t.repo, p.name, bytes, (size_t)p.size, 0);
		bytes[p.size - back] ^= 1;
	}
	free(bytes);
	test_pack_done(&p);
	test_repo_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trailer__round_trip_and_refusals),
		cmocka_unit_test(test_directory__round_trip),
		cmocka_unit_test(test_directory__refuses_broken_rules),
		cmocka_unit_test(test_directory__refuses_every_truncation_and_count),
		cmocka_unit_test(test_pack__read_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
