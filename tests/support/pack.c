/* pack.c - packs for tests. */
#include "tests/test.h"

#include <sodium.h>

#include "base/bytes.h"
#include "tests/support/pack.h"
#include "transport/store.h"

void test_pack_done(struct test_pack *p)
{
	directory_free(p->d);
	p->d = NULL;
}

static struct directory *new_directory(struct repo *r, const struct session_id *session, enum pack_kind kind)
{
	struct directory *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->kind = kind;
	d->slot = *repo_own_slot(r);
	d->session = *session;
	randombytes_buf(d->salt, SALT_BYTES);
	return d;
}

static void seal_all(struct repo *r, const struct pack_key *k, const struct segment_item *it, size_t n, size_t per,
		     int level, struct directory *d, struct buf *out)
{
	struct err e = ERR_INIT;
	struct segment_codec *c = NULL;
	uint64_t birth = 0;

	assert_ok(segment_codec_new(&c, &e), &e);
	for (size_t i = 0; i < n; i += per) {
		struct segment_sealed s = { 0 };

		assert_ok(segment_seal(c, r, k, birth++, it + i, n - i < per ? n - i : per, level, &s, &e), &e);
		assert_ok(segment_add_row(d, &s, out->len, 0, repo_own_slot(r), &e), &e);
		assert_ok(buf_add(out, s.bytes, s.len, &e), &e);
		segment_sealed_done(&s);
	}
	segment_codec_free(c);
}

uint8_t *test_pack_make(struct repo *r, const struct session_id *session, enum pack_kind kind,
			const struct segment_item *it, size_t n, size_t per, int level, struct test_pack *ret)
{
	struct err e = ERR_INIT;
	struct directory *d = new_directory(r, session, kind);
	struct object_name name = { .type = kind == PACK_DATA ? OBJECT_DATA_SEGMENT : OBJECT_NODE_SEGMENT,
				    .slot = d->slot,
				    .session = *session };
	struct trailer t = { .kind = kind };
	struct pack_key k;
	struct dir_key *row = VEC_PUSH(&d->keys, &e);
	struct buf out, payload, envelope;
	uint8_t end[TRAILER_BYTES];
	uint64_t bare;
	size_t len;

	buf_init(&out, PACK_MAX_BYTES);
	buf_init(&payload, PAYLOAD_MAX_BYTES);
	buf_init(&envelope, PACK_MAX_BYTES);
	assert_non_null(row);
	assert_ok(pack_key_new(r, kind, &k, &e), &e);
	row->generation = k.generation;
	memcpy(row->sealed, k.sealed, BOX_BYTES);
	seal_all(r, &k, it, n, per, level, d, &out);
	assert_ok(directory_encode(d, &payload, &e), &e);
	assert_ok(envelope_seal(r, OBJECT_DIRECTORY, payload.p, payload.len, &envelope, &e), &e);
	bare = out.len + envelope.len + TRAILER_BYTES;
	assert_ok(buf_add_zero(&out, (size_t)(padme(bare) - bare), &e), &e);
	t.envelope_off = out.len;
	t.envelope_len = (uint32_t)envelope.len;
	memcpy(t.salt, d->salt, SALT_BYTES);
	trailer_encode(&t, end);
	assert_ok(buf_add(&out, envelope.p, envelope.len, &e), &e);
	assert_ok(buf_add(&out, end, sizeof(end), &e), &e);
	assert_ok(hash_bytes(r, out.p, out.len, &name.hash, &e), &e);
	*ret = (struct test_pack){
		.size = out.len, .envelope_off = t.envelope_off, .envelope_len = t.envelope_len, .d = d
	};
	object_name_text(&name, ret->name);
	buf_done(&payload);
	buf_done(&envelope);
	return buf_take(&out, &len);
}

void test_pack_put(struct repo *r, const struct session_id *session, enum pack_kind kind, const struct segment_item *it,
		   size_t n, size_t per, int level, struct test_pack *ret)
{
	struct err e = ERR_INIT;
	uint8_t *p = test_pack_make(r, session, kind, it, n, per, level, ret);

	assert_ok(store_put(repo_store(r), ret->name, p, (size_t)ret->size, 0, &e), &e);
	free(p);
}

void test_fake_id(uint64_t seed, uint64_t i, struct id *ret)
{
	uint8_t b[16];

	put_le64(b, seed);
	put_le64(b + 8, i);
	(void)crypto_generichash(ret->b, ID_BYTES, b, sizeof(b), NULL, 0);
}

void test_pack_fake(struct repo *r, const struct session_id *session, uint64_t seed, size_t n, struct test_pack *ret)
{
	struct err e = ERR_INIT;
	struct directory *d = new_directory(r, session, PACK_DATA);
	struct object_name name = { .type = OBJECT_DATA_SEGMENT, .slot = d->slot, .session = *session };
	uint32_t size = repo_config(r)->chunk_size;

	assert_non_null(VEC_PUSH(&d->keys, &e));
	for (size_t i = 0; i < n; i += 4) {
		size_t count = n - i < 4 ? n - i : 4;
		struct dir_segment *s = VEC_PUSH(&d->segments, &e);
		struct dir_frame *f = VEC_PUSH(&d->frames, &e);

		assert_true(s && f);
		*f = (struct dir_frame){ .stored = 1000, .decoded = (uint32_t)count * size, .codec = CODEC_ZSTD };
		*s = (struct dir_segment){ .off = i / 4 * 1040,
					   .birth = i / 4,
					   .stored = 1040,
					   .sealer = d->slot,
					   .first_frame = (uint32_t)d->frames.n - 1,
					   .nframes = 1,
					   .first_chunk = (uint32_t)d->chunks.n,
					   .nchunks = (uint32_t)count };
		for (size_t k = 0; k < count; k++) {
			struct dir_chunk *ch = VEC_PUSH(&d->chunks, &e);

			assert_non_null(ch);
			test_fake_id(seed, i + k, &ch->id);
			ch->off = (uint32_t)k * size;
			ch->len = size;
		}
	}
	randombytes_buf(name.hash.b, ID_BYTES);
	*ret = (struct test_pack){
		.size = 100000 + TRAILER_BYTES, .envelope_off = 90000, .envelope_len = 10000, .d = d
	};
	object_name_text(&name, ret->name);
}
