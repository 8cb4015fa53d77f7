/* index.c - an index to test: filled, stored, damaged, looked up. */
#include "tests/support/index.h"

#include "tests/test.h"

#include "repo/repo_internal.h"
#include "tests/support/repo.h"
#include "transport/store.h"

const struct session_id test_index_session = { { 1, 2, 3 } };

struct index *test_index_load(struct repo *r, const struct protocol_view *v, bool build, size_t max_bytes,
			  uint32_t want_damaged)
{
	struct index_opts o = { .build = build, .max_bytes = max_bytes };
	struct err e = ERR_INIT;
	struct index *x = NULL;
	uint32_t damaged = 99;

	assert_ok(index_load(r, v, &o, &x, &damaged, &e), &e);
	assert_int_equal(damaged, want_damaged);
	return x;
}

void test_index_add_fake(struct index *x, struct repo *r, uint64_t seed, size_t n, char *name)
{
	struct err e = ERR_INIT;
	struct test_pack p;

	test_pack_fake(r, &test_index_session, seed, n, &p);
	assert_ok(index_add_directory(x, p.name, p.size, p.envelope_off, p.envelope_len, p.d, &e), &e);
	if (name)
		snprintf(name, OBJECT_NAME_BYTES, "%s", p.name);
	test_pack_done(&p);
}

uint64_t test_index_store(struct index *x)
{
	struct err e = ERR_INIT;
	uint64_t bytes = 0;

	assert_ok(index_store_run(x, &test_index_session, &bytes, &e), &e);
	return bytes;
}

int test_index_find(struct index *x, uint64_t seed, uint64_t i, unsigned nth, struct chunk_place *p)
{
	struct err e = ERR_INIT;
	struct id id;
	int rc;

	test_fake_id(seed, i, &id);
	rc = index_find(x, &id, nth, p, NULL, &e);
	assert_ok(rc, &e);
	return rc;
}

void test_index_expect(struct index *x, uint64_t seed, uint64_t i, const char *pack)
{
	struct chunk_place p;

	assert_int_equal(test_index_find(x, seed, i, 0, &p), 1);
	assert_int_equal(p.segment, i / 4);
	assert_int_equal(p.chunk, i % 4);
	assert_string_equal(index_pack(x, p.pack)->name, pack);
}

static int take_name(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct test_names *l = opaque;

	(void)st;
	(void)e;
	l->p = realloc(l->p, (l->n + 1) * sizeof(*l->p));
	snprintf(l->p[l->n++], OBJECT_NAME_BYTES, "%s", name);
	return 0;
}

struct test_names test_names_of(struct store *s, const char *prefix)
{
	struct test_names l = { 0 };
	struct err e = ERR_INIT;

	assert_ok(store_list(s, prefix, take_name, &l, &e), &e);
	return l;
}

void test_flip(struct store *s, const char *name, uint64_t at)
{
	struct err e = ERR_INIT;
	uint8_t *p = NULL;
	size_t len;

	assert_ok(store_get(s, name, PACK_MAX_BYTES, &p, &len, &e), &e);
	p[at < len ? at : len - 1 - (UINT64_MAX - at)] ^= 4;
	assert_ok(store_put(s, name, p, len, 0, &e), &e);
	free(p);
}

static int see(void *opaque, const struct id *id, const struct chunk_place *place, const struct id *bases,
	       struct err *e)
{
	struct seen_entries *s = opaque;

	(void)place;
	(void)bases;
	(void)e;
	s->n++;
	for (size_t i = 0; i < ID_BYTES; i++)
		s->xor[i] ^= id->b[i];
	return 0;
}

void test_index_each(struct index *x, struct seen_entries *s)
{
	struct err e = ERR_INIT;

	*s = (struct seen_entries){ 0 };
	assert_ok(index_each(x, see, s, &e), &e);
}

void test_index_fill(struct repo *r, struct index *x, uint8_t seed, struct test_pack *p, struct id *ids, size_t n)
{
	uint8_t *plain = malloc(n * TEST_INDEX_CHUNK);
	struct segment_item *it = calloc(n, sizeof(*it));
	struct err e = ERR_INIT;

	for (size_t i = 0; i < n; i++) {
		memset(plain + i * TEST_INDEX_CHUNK, seed, TEST_INDEX_CHUNK);
		memcpy(plain + i * TEST_INDEX_CHUNK, &i, sizeof(i));
		it[i] = (struct segment_item){ .plain = plain + i * TEST_INDEX_CHUNK, .len = TEST_INDEX_CHUNK };
		test_id_of_chunk(r, NULL, it[i].plain, TEST_INDEX_CHUNK, &it[i].id);
		ids[i] = it[i].id;
	}
	test_pack_put(r, &test_index_session, PACK_DATA, it, n, 64, 1, p);
	assert_ok(index_add_directory(x, p->name, p->size, p->envelope_off, p->envelope_len, p->d, &e), &e);
	free(plain);
	free(it);
}

void test_index_expect_all(struct index *x, const struct id *ids, size_t n, const char *pack)
{
	struct chunk_place p;
	struct err e = ERR_INIT;

	for (size_t i = 0; i < n; i++) {
		int rc = index_find(x, &ids[i], 0, &p, NULL, &e);

		assert_ok(rc, &e);
		assert_int_equal(rc, 1);
		assert_int_equal(p.segment, i / 64);
		assert_int_equal(p.chunk, i % 64);
		assert_string_equal(index_pack(x, p.pack)->name, pack);
	}
}

