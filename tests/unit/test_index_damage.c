/* The index when runs, blocks of them, or packs are damaged: what serves instead, what is lost, what it costs. */
#include <unistd.h>

#include "tests/test.h"

#include "repo/index_internal.h"
#include "repo/repo_internal.h"
#include "tests/support/folder.h"
#include "tests/support/index.h"
#include "tests/support/repo.h"
#include "transport/store.h"

static int now_so_now_so(void *opaque, const struct store_fault_call *c, struct err *e)
{
	unsigned *n = opaque;

	(void)e;
	if (c->when == STORE_FAULT_AFTER && !strcmp(c->op, "read") && !strncmp(c->name, "index/", 6) &&
	    c->len == INDEX_BLOCK_BYTES && (*n)++ % 2 == 0)
		((uint8_t *)c->buf)[1000] ^= 1;
	return 0;
}

static void test_index__a_store_that_changes_its_mind_ends_it(void **state)
{
	struct chunk_place p;
	struct test_repo t;
	struct index *x;
	struct err e = ERR_INIT;
	struct id id;
	unsigned n;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	test_index_add_fake(x, t.repo, 1, 100, NULL);
	(void)test_index_store(x);
	index_free(x);
	test_fake_id(1, 1, &id);
	assert_ok(store_fault_new(t.store, now_so_now_so, &n, &t.store, &e), &e);
	t.repo->store = t.store;
	for (int build = 0; build < 2; build++) {	/* by a lookup; by the filter */
		n = 0;
		x = test_index_load(t.repo, NULL, build, 0, 0);
		alarm(60);
		assert_err(index_find(x, &id, 0, &p, NULL, &e), ERR_CORRUPT, &e);
		alarm(0);
		assert_true(n >= 2 && n < 20);
		index_free(x);
	}
	test_repo_done(&t);
}

/* Spoils the first block that is read, once. */
static int spoil_once(void *opaque, const struct store_fault_call *c, struct err *e)
{
	unsigned *n = opaque;

	(void)e;
	if (c->when == STORE_FAULT_AFTER && !strcmp(c->op, "read") && !strncmp(c->name, "index/", 6) &&
	    c->len == INDEX_BLOCK_BYTES && (*n)++ == 0)
		((uint8_t *)c->buf)[1000] ^= 1;
	return 0;
}

/* A block that could not be read once is not left out: it is read again. */
static void test_index__each_reads_a_block_again(void **state)
{
	struct test_repo t;
	struct index *x;
	struct err e = ERR_INIT;
	struct seen_entries s;
	unsigned n = 0;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	test_index_add_fake(x, t.repo, 1, 100, NULL);
	(void)test_index_store(x);
	index_free(x);
	assert_ok(store_fault_new(t.store, spoil_once, &n, &t.store, &e), &e);
	t.repo->store = t.store;
	x = test_index_load(t.repo, NULL, false, 0, 0);
	test_index_each(x, &s);
	assert_true(n >= 2);
	assert_int_equal(s.n, 100);
	index_free(x);
	test_repo_done(&t);
}

/* Two runs; the first gets damaged in its tail, then in a block. */
static void test_index__damaged_runs_are_replaced(void **state)
{
	enum { N = 2000 };
	static struct id ids[2][N];
	struct test_repo t;
	struct test_pack p[2];
	struct test_names l;
	struct index *x;
	struct err e = ERR_INIT;
	struct seen_entries s;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	test_index_fill(t.repo, x, 1, &p[0], ids[0], N);
	(void)test_index_store(x);
	l = test_names_of(t.store, "index/");
	assert_int_equal(l.n, 1);
	test_index_fill(t.repo, x, 2, &p[1], ids[1], N);
	(void)test_index_store(x);
	index_free(x);

	for (int build = 0; build < 2; build++) {
		/* its second block: found when it is looked at */
		test_flip(t.store, l.p[0], INDEX_BLOCK_BYTES + 5000);
		x = test_index_load(t.repo, NULL, build, 0, 0);
		t.notices[0] = '\0';
		if (build) {
			test_index_expect_all(x, ids[0], N, p[0].name);
			test_index_expect_all(x, ids[1], N, p[1].name);
		}
		test_index_each(x, &s);
		assert_int_equal(s.n, 2 * N);
		assert_has(t.notices, "1 of 2 blocks are damaged");
		assert_true(x->mem.entries.n > 0 && x->mem.entries.n < N);
		test_index_expect_all(x, ids[0], N, p[0].name);
		assert_int_equal(test_index_store(x), 0);	/* nothing of it is new */
		index_free(x);
		test_flip(t.store, l.p[0], INDEX_BLOCK_BYTES + 5000);

		/* each part of its end: the run is left out, its pack read instead */
		static const uint64_t backs[] = { 10, 20, 30, 47, 60, 150 };	/* salt, trailer, envelope */

		for (size_t i = 0; i < sizeof(backs) / sizeof(*backs); i++) {
			uint64_t back = backs[i];
			uint8_t *whole = NULL;
			size_t len;
			uint32_t damaged = 0;

			assert_ok(store_get(t.store, l.p[0], PACK_MAX_BYTES, &whole, &len, &e), &e);
			free(whole);
			test_flip(t.store, l.p[0], len - 1 - back);
			t.notices[0] = '\0';
			assert_ok(index_load(t.repo, NULL, &(struct index_opts){ .build = build }, &x, &damaged, &e),
				  &e);
			test_index_expect_all(x, ids[0], N, p[0].name);
			test_index_expect_all(x, ids[1], N, p[1].name);
			if (damaged) {
				assert_has(t.notices, "directories of 1 packs");
				assert_false(index_names_pack(x, p[0].name));
			}
			assert_int_equal(damaged, back != 10);	/* nobody needs a run's salt */
			index_free(x);
			test_flip(t.store, l.p[0], len - 1 - back);
		}
	}
	/* healing: what serves instead can be added, and is then named */
	test_flip(t.store, l.p[0], UINT64_MAX - 100);
	x = test_index_load(t.repo, NULL, true, 0, 1);
	assert_ok(index_add_directory(x, p[0].name, p[0].size, p[0].envelope_off, p[0].envelope_len, p[0].d, &e), &e);
	assert_true(index_names_pack(x, p[0].name));
	assert_true(test_index_store(x) > 0);
	assert_int_equal(x->mem.entries.n, 0);
	index_free(x);
	x = test_index_load(t.repo, NULL, true, 0, 1);
	assert_true(index_names_pack(x, p[0].name));
	test_index_expect_all(x, ids[0], N, p[0].name);
	index_free(x);
	free(l.p);
	test_pack_done(&p[0]);
	test_pack_done(&p[1]);
	test_repo_done(&t);
}

/* More than may stay in memory goes to a file; all of it is found, and can be named again. */
static void test_index__lost_runs_do_not_fill_memory(void **state)
{
	enum { N = 2000, PACKS = 4 };
	static struct id ids[PACKS][N];
	struct test_pack p[PACKS];
	struct seen_entries s;
	struct err e = ERR_INIT;
	struct test_repo t;
	struct test_names l;
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < PACKS; i++)
		test_index_fill(t.repo, x, (uint8_t)(i + 1), &p[i], ids[i], N);
	(void)test_index_store(x);
	index_free(x);
	l = test_names_of(t.store, "index/");
	assert_int_equal(l.n, 1);
	for (int tail = 0; tail < 2; tail++) {
		for (uint64_t block = 0; !tail && block * INDEX_BLOCK_BYTES < (uint64_t)PACKS * N * 44; block++)
			test_flip(t.store, l.p[0], block * INDEX_BLOCK_BYTES + 99);
		if (tail)
			test_flip(t.store, l.p[0], UINT64_MAX - 100);
		x = test_index_load(t.repo, NULL, tail, (size_t)1 << 19, (uint32_t)tail);
		for (unsigned i = 0; i < PACKS; i++)
			test_index_expect_all(x, ids[i], N, p[i].name);
		test_index_each(x, &s);
		assert_int_equal(s.n, PACKS * N);
		assert_true(x->runs.n > 1);
		assert_true(x->mem.entries.n < N);
		if (!tail) {
			index_free(x);
			continue;
		}
		assert_int_equal(test_index_store(x), 0);
		for (unsigned i = 0; i < PACKS; i++)
			assert_ok(index_add_directory(x, p[i].name, p[i].size, p[i].envelope_off, p[i].envelope_len,
						      p[i].d, &e),
				  &e);
		assert_true(test_index_store(x) > 0);
		index_free(x);
	}
	assert_ok(store_remove(t.store, l.p[0], &e), &e);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < PACKS; i++) {
		test_index_expect_all(x, ids[i], N, p[i].name);
		test_pack_done(&p[i]);
	}
	index_free(x);
	free(l.p);
	test_repo_done(&t);
}

/* What is lost is not there; it doesn't hide what is (format.md, section 11). */
static void test_index__damaged_block_and_damaged_packs_lose_nothing_else(void **state)
{
	enum { N = 2000 };
	static struct id ids[2][N];
	struct chunk_place place;
	struct err e = ERR_INIT;
	struct test_repo t;
	struct test_pack p[2];
	struct test_names l;
	struct index *x;
	unsigned lost = 0;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, false, 0, 0);
	test_index_fill(t.repo, x, 1, &p[0], ids[0], N);
	(void)test_index_store(x);
	index_free(x);
	l = test_names_of(t.store, "index/");
	x = test_index_load(t.repo, NULL, false, 0, 0);
	test_index_fill(t.repo, x, 2, &p[1], ids[1], N);
	(void)test_index_store(x);
	index_free(x);
	test_flip(t.store, l.p[0], 99);
	test_flip(t.store, p[0].name, p[0].envelope_off + 99);
	for (int build = 0; build < 2; build++) {
		x = test_index_load(t.repo, NULL, build, 0, 0);
		t.notices[0] = '\0';
		lost = 0;
		for (unsigned i = 0; i < N; i++) {
			int rc = index_find(x, &ids[0][i], 0, &place, NULL, &e);

			assert_ok(rc, &e);
			lost += rc == 0;
		}
		assert_true(lost > 1000 && lost < N);
		assert_has(t.notices, "pack left out");
		assert_has(t.notices, "directories of 0 packs");
		test_index_expect_all(x, ids[1], N, p[1].name);
		index_free(x);
	}
	free(l.p);
	test_pack_done(&p[0]);
	test_pack_done(&p[1]);
	test_repo_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_index__a_store_that_changes_its_mind_ends_it),
		cmocka_unit_test(test_index__each_reads_a_block_again),
		cmocka_unit_test(test_index__damaged_runs_are_replaced),
		cmocka_unit_test(test_index__lost_runs_do_not_fill_memory),
		cmocka_unit_test(test_index__damaged_block_and_damaged_packs_lose_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
