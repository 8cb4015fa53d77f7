/* The index: runs stored and loaded, found again within a bounded cache; duplicates, doomed packs, distrust, threads. */
#include "tests/test.h"

#include <pthread.h>
#include <unistd.h>

#include "base/bytes.h"
#include "repo/index_internal.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "tests/support/folder.h"
#include "tests/support/index.h"
#include "tests/support/repo.h"
#include "transport/store.h"

static void test_index__empty(void **state)
{
	struct test_repo t;
	struct chunk_place p;
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	assert_int_equal(test_index_find(x, 1, 1, 0, &p), 0);
	assert_int_equal(index_nentries(x), 0);
	assert_int_equal(test_index_store(x), 0);
	assert_false(index_names_pack(x, "data/x"));
	index_free(x);
	test_repo_done(&t);
}

/* 100,000 entries in 5 runs; cache for few blocks; from memory, then stored, then loaded anew. */
static void test_index__many_entries_many_runs(void **state)
{
	enum { RUNS = 5, PACKS = 4, PER = 5000 };
	char name[RUNS * PACKS][OBJECT_NAME_BYTES];
	struct chunk_place p;
	struct test_repo t;
	struct index *x;
	struct test_names l;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < RUNS * PACKS; i++) {
		test_index_add_fake(x, t.repo, i, PER, name[i]);
		assert_true(index_names_pack(x, name[i]));
		test_index_expect(x, i, 77, name[i]);
		if (i % PACKS == PACKS - 1) {
			uint64_t bytes = test_index_store(x);

			/* 14 blocks of 1488 entries, a table, and at most an eighth of padding */
			assert_true(bytes > 14 * INDEX_BLOCK_BYTES && bytes < 17 * INDEX_BLOCK_BYTES);
			assert_int_equal(x->mem.entries.n, 0);
			test_index_expect(x, i, 77, name[i]);
			test_index_expect(x, i - 1, 4999, name[i - 1]);
			assert_int_equal(test_index_find(x, i + 1, 0, 0, &p), 0);
		}
	}
	assert_int_equal(test_index_store(x), 0);
	assert_int_equal(index_nentries(x), RUNS * PACKS * PER);
	index_free(x);
	l = test_names_of(t.store, "index/");
	assert_int_equal(l.n, RUNS);
	free(l.p);
	for (int build = 0; build < 2; build++) {
		x = test_index_load(t.repo, NULL, build, 1 << 20, 0);
		assert_int_equal(index_nentries(x), RUNS * PACKS * PER);
		assert_int_equal(index_npacks(x), RUNS * PACKS);
		for (unsigned i = 0; i < RUNS * PACKS; i++)
			for (unsigned k = 0; k < PER; k += 97)
				test_index_expect(x, i, k, name[i]);
		for (unsigned k = 0; k < 5000; k++)
			assert_int_equal(test_index_find(x, 1000, k, 0, &p), 0);
		assert_true((bool)x->filter.lines == (bool)build);
		assert_true(x->cache.n <= x->cache.max && x->cache.max * sizeof(struct run_block) <= (1 << 20));
		index_free(x);
	}
	test_repo_done(&t);
}

static void test_index__each_and_duplicates_across_runs(void **state)
{
	char a[OBJECT_NAME_BYTES], b[OBJECT_NAME_BYTES], c[OBJECT_NAME_BYTES];
	struct chunk_place p[4], q;
	struct test_repo t;
	struct seen_entries before, after;
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	test_index_add_fake(x, t.repo, 1, 3000, a);
	(void)test_index_store(x);
	test_index_add_fake(x, t.repo, 1, 3000, b);	/* the same ids in another pack, another run */
	(void)test_index_store(x);
	test_index_add_fake(x, t.repo, 1, 10, c);		/* and a few in memory */
	test_index_each(x, &before);
	assert_int_equal(before.n, 6010);
	for (unsigned nth = 0; nth < 4; nth++)
		assert_int_equal(test_index_find(x, 1, 7, nth, &p[nth]), 1);
	assert_int_equal(test_index_find(x, 1, 7, 4, &q), 0);
	assert_true(p[1].pack != p[2].pack && p[2].pack != p[3].pack && p[1].pack != p[3].pack);
	assert_int_equal(test_index_find(x, 1, 2000, 2, &q), 1);
	assert_int_equal(test_index_find(x, 1, 2000, 3, &q), 0);
	(void)test_index_store(x);
	index_free(x);
	x = test_index_load(t.repo, NULL, false, 0, 0);
	test_index_each(x, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	for (unsigned nth = 1; nth < 4; nth++)
		assert_int_equal(test_index_find(x, 1, 7, nth, &p[nth]), 1);
	index_free(x);
	test_repo_done(&t);
}

/* A pack with the same id twice: one entry of it in the run, the one of less depth. */
static void test_index__same_id_twice_in_a_pack(void **state)
{
	struct chunk_place p;
	struct err e = ERR_INIT;
	struct test_repo t;
	struct test_pack k;
	struct id bases[BASES_MAX];
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, false, 0, 0);
	test_pack_fake(t.repo, &test_index_session, 5, 8, &k);
	k.d->chunks.p[6].id = k.d->chunks.p[1].id;
	k.d->chunks.p[1].nbases = 1;
	k.d->chunks.p[1].depth = 1;
	k.d->chunks.p[3].nbases = 2;
	k.d->chunks.p[3].depth = 3;
	for (uint64_t i = 0; i < 2; i++)
		test_fake_id(6, i, VEC_PUSH(&k.d->bases, &e));
	assert_ok(index_add_directory(x, k.name, k.size, k.envelope_off, k.envelope_len, k.d, &e), &e);
	for (int stored = 0; stored < 2; stored++) {
		assert_int_equal(index_find(x, &k.d->chunks.p[6].id, 0, &p, NULL, &e), 1);
		assert_int_equal(p.segment * 4 + p.chunk, 6);
		assert_int_equal(p.depth, 0);
		assert_int_equal(index_find(x, &k.d->chunks.p[1].id, 2, &p, bases, &e), !stored);
		assert_int_equal(index_find(x, &k.d->chunks.p[3].id, 0, &p, bases, &e), 1);
		assert_int_equal(p.nbases, 2);
		assert_int_equal(p.depth, 3);
		assert_memory_equal(bases, k.d->bases.p, 2 * ID_BYTES);
		(void)test_index_store(x);
	}
	assert_int_equal(index_nentries(x), 7);
	test_pack_done(&k);
	index_free(x);
	test_repo_done(&t);
}

/* For writers a chunk without a usable base is not there; readers see it. */
static void test_index__writers_need_the_bases(void **state)
{
	struct chunk_place p;
	struct err e = ERR_INIT;
	struct test_repo t;
	struct test_pack k;
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	for (int build = 0; build < 2; build++) {
		x = test_index_load(t.repo, NULL, build, 0, 0);
		test_pack_fake(t.repo, &test_index_session, 5, 8, &k);
		for (unsigned i = 1; i < 4; i++) {	/* 1 needs 0; 2 needs 1; 3 needs what is nowhere */
			k.d->chunks.p[i].nbases = 1;
			k.d->chunks.p[i].depth = (uint8_t)i;
			k.d->chunks.p[i].first_base = i - 1;
			*VEC_PUSH(&k.d->bases, &e) = k.d->chunks.p[i - 1].id;
		}
		test_fake_id(99, 99, &k.d->bases.p[2]);
		assert_ok(index_add_directory(x, k.name, k.size, k.envelope_off, k.envelope_len, k.d, &e), &e);
		assert_int_equal(index_find(x, &k.d->chunks.p[2].id, 0, &p, NULL, &e), 1);
		assert_int_equal(index_find(x, &k.d->chunks.p[3].id, 0, &p, NULL, &e), !build);
		/* a chunk that is its own base ends */
		x->mem.bases.p[0] = k.d->chunks.p[1].id;
		assert_int_equal(index_find(x, &k.d->chunks.p[1].id, 0, &p, NULL, &e), !build);
		test_pack_done(&k);
		index_free(x);
	}
	test_repo_done(&t);
}

static void test_index__distrusted_slots_count_for_readers_only(void **state)
{
	struct chunk_place p;
	struct err e = ERR_INIT;
	struct test_repo t;
	struct test_pack k;
	struct index *x;
	struct repo *other;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	other = test_repo_as(&t, ROLE_FULL, "another");
	x = test_index_load(other, NULL, false, 0, 0);
	test_pack_fake(other, &test_index_session, 5, 16, &k);
	k.d->segments.p[1].verified = true;
	assert_ok(index_add_directory(x, k.name, k.size, k.envelope_off, k.envelope_len, k.d, &e), &e);
	(void)test_index_store(x);
	index_free(x);
	test_pack_done(&k);
	for (int build = 0; build < 2; build++) {
		x = test_index_load(t.repo, NULL, build, 0, 0);
		assert_int_equal(test_index_find(x, 5, 0, 0, &p), !build);
		assert_int_equal(test_index_find(x, 5, 5, 0, &p), 1);	/* verified */
		assert_int_equal(test_index_find(x, 5, 9, 0, &p), !build);
		index_free(x);
	}
	x = test_index_load(other, NULL, true, 0, 0);
	assert_int_equal(test_index_find(x, 5, 9, 0, &p), 1);		/* its own */
	index_free(x);
	repo_close(other);
	test_repo_done(&t);
}

/* A slot that nobody trusts says that a trusted one sealed what it stored, or that somebody verified it. */
static void test_index__only_those_who_may_attest_are_believed(void **state)
{
	static const enum slot_role roles[] = { ROLE_PUT, ROLE_MAINTAIN };
	struct err e = ERR_INIT;
	struct chunk_place p;
	struct test_repo t;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	for (unsigned k = 0; k < 2; k++) {
		struct repo *other = test_repo_as(&t, roles[k], k ? "maintain" : "put");
		struct index *x = test_index_load(other, NULL, false, 0, 0);
		struct test_pack made;

		test_pack_fake(other, &test_index_session, k, 8, &made);
		made.d->segments.p[0].verified = true;
		made.d->segments.p[1].sealer = *repo_own_slot(t.repo);
		assert_ok(index_add_directory(x, made.name, made.size, made.envelope_off, made.envelope_len, made.d,
					      &e),
			  &e);
		(void)test_index_store(x);
		index_free(x);
		for (int build = 0; build < 2; build++) {
			x = test_index_load(t.repo, NULL, build, 0, 0);
			assert_int_equal(test_index_find(x, k, 1, 0, &p), !build || k);
			assert_int_equal(test_index_find(x, k, 5, 0, &p), !build || k);
			index_free(x);
		}
		x = test_index_load(t.repo, NULL, true, 0, 0);	/* the same by way of the directory */
		if (k == 0)
			assert_ok(index_add_directory(x, made.name, made.size, made.envelope_off, made.envelope_len,
						      made.d, &e),
				  &e);
		assert_int_equal(test_index_find(x, k, 1, 0, &p), k);
		assert_int_equal(test_index_find(x, k, 5, 0, &p), k);
		index_free(x);
		test_pack_done(&made);
		repo_close(other);
	}
	test_repo_done(&t);
}

/* Doomed packs and runs count for nobody, condemned packs for readers only. */
static void test_index__doomed_and_condemned(void **state)
{
	char pack[3][OBJECT_NAME_BYTES], *doomed[3], *condemned[3];
	struct protocol_view v = { .doomed = { doomed, 1 }, .condemned = { condemned, 2 } };
	struct chunk_place p;
	struct test_repo t;
	struct test_names l;
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		test_index_add_fake(x, t.repo, 20 + i, 100, pack[i]);
	(void)test_index_store(x);
	index_free(x);
	doomed[0] = pack[0];
	condemned[0] = pack[strcmp(pack[0], pack[1]) > 0];	/* sorted */
	condemned[1] = pack[strcmp(pack[0], pack[1]) < 0];
	for (int build = 0; build < 2; build++) {
		x = test_index_load(t.repo, &v, build, 0, 0);
		assert_int_equal(test_index_find(x, 20, 7, 0, &p), 0);
		assert_int_equal(test_index_find(x, 21, 7, 0, &p), !build);
		test_index_expect(x, 22, 7, pack[2]);
		assert_true(index_names_pack(x, pack[0]));
		assert_int_equal(test_index_find(x, 20, 7, 1, &p), 0);
		test_index_add_fake(x, t.repo, 20, 8, NULL);	/* another copy counts */
		assert_int_equal(test_index_find(x, 20, 7, 0, &p), 1);
		index_free(x);
	}
	l = test_names_of(t.store, "index/");
	assert_int_equal(l.n, 1);
	doomed[0] = l.p[0];
	x = test_index_load(t.repo, &v, false, 0, 0);
	assert_int_equal(test_index_find(x, 22, 7, 0, &p), 0);
	assert_int_equal(index_npacks(x), 0);
	index_free(x);
	free(l.p);
	test_repo_done(&t);
}

static int counting(void *opaque, const struct store_fault_call *c, struct err *e)
{
	(void)e;
	if (c->when == STORE_FAULT_BEFORE && !strcmp(c->op, "read") && !strncmp(c->name, "index/", 6))
		++*(unsigned *)opaque;
	return 0;
}

static void test_index__cache_folder(void **state)
{
	char *dir = test_folder_new(), cmd[1024], name[OBJECT_NAME_BYTES];
	struct repo_open_opts o = { .cache_dir = dir };
	struct secret *secret = test_secret(TEST_PASSWORD);
	struct store *far = NULL;
	struct test_repo t;
	struct repo *r = NULL;
	struct err e = ERR_INIT;
	unsigned reads = 0, warm;
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	test_index_add_fake(x, t.repo, 1, 20000, name);
	(void)test_index_store(x);
	index_free(x);
	assert_ok(store_fault_new(t.store, counting, &reads, &far, &e), &e);
	far->caps.is_local = false;
	assert_ok(repo_open(far, secret, &o, &r, &e), &e);
	secret_free(secret);
	for (int round = 0; round < 4; round++) {
		reads = 0;
		x = test_index_load(r, NULL, true, 0, 0);
		for (unsigned i = 0; i < 20000; i += 50)
			test_index_expect(x, 1, i, name);
		index_free(x);
		warm = reads;
		assert_true(round == 0 || round == 3 ? warm >= 2 && warm < 6 : warm == 0 || round == 2);
		if (round == 1) {	/* a bit of the copy rots */
			snprintf(cmd, sizeof(cmd),
				 "f=$(find '%s' -type f) && b=$(od -An -tu1 -j70000 -N1 \"$f\") && "
				 "printf \"\\\\$(printf %%o $((b ^ 1)))\" | "
				 "dd of=\"$f\" bs=1 seek=70000 conv=notrunc status=none",
				 dir);
			assert_int_equal(system(cmd), 0);
		}
		if (round == 2) {
			assert_true(warm > 0);
			test_folder_clear(dir);
		}
	}
	repo_close(r);
	repo_close(t.repo);
	store_close(far);	/* and the store inside */
	test_folder_done(dir);
}

/* --- threads --- */
struct finder {
	struct index *x;
	unsigned seed, n;
	bool ok;
};

static void *find_many(void *opaque)
{
	struct finder *f = opaque;
	struct err e = ERR_INIT;
	struct chunk_place p;
	struct id id;

	f->ok = true;
	for (unsigned i = 0; i < f->n; i++) {
		test_fake_id(i % 3, (uint64_t)i * 7919 % 3000, &id);
		f->ok = f->ok && index_find(f->x, &id, 0, &p, NULL, &e) == 1;
		test_fake_id(1000 + f->seed, i, &id);
		f->ok = f->ok && index_find(f->x, &id, 0, &p, NULL, &e) == 0;
	}
	return NULL;
}

/* Four threads find, while packs are added and runs stored. */
static void test_index__threads(void **state)
{
	struct finder f[4];
	pthread_t th[4];
	struct test_repo t;
	struct index *x;

	(void)state;
	test_repo_new(&t, TEST_INDEX_CHUNK, NULL);
	x = test_index_load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		test_index_add_fake(x, t.repo, i, 3000, NULL);
		(void)test_index_store(x);
	}
	index_free(x);
	x = test_index_load(t.repo, NULL, true, 1 << 20, 0);
	for (unsigned i = 0; i < 4; i++) {
		f[i] = (struct finder){ x, i, 3000, false };
		assert_int_equal(pthread_create(&th[i], NULL, find_many, &f[i]), 0);
	}
	for (unsigned i = 0; i < 6; i++) {
		test_index_add_fake(x, t.repo, 10 + i, 2000, NULL);
		if (i % 2)
			(void)test_index_store(x);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(th[i], NULL);
		assert_true(f[i].ok);
	}
	index_free(x);
	test_repo_done(&t);
}

static void test_run_block__full_blocks(void **state)
{
	static struct run_block b;
	uint32_t nsegments[1] = { 10 }, used = 4, n = 0;
	struct run_fence fence;
	struct run_shape s = { 1, 1, nsegments, &fence };
	struct run_entry en = { .segment = 9, .chunk = 4095 }, back;
	struct err e = ERR_INIT;

	(void)state;
	do {
		put_be16(en.id.b, (uint16_t)(n + 1));
	} while (run_block_add(b.plain, &used, &n, &en));
	assert_int_equal(n, RUN_BLOCK_ENTRIES);
	assert_int_equal(INDEX_BLOCK_PLAIN - used < RUN_ENTRY_BYTES, 1);
	memcpy(fence.first.b, b.plain + 4, ID_BYTES);
	assert_ok(run_block_decode(&b, &s, 0, &e), &e);
	assert_int_equal(b.n, n);
	for (uint32_t i = 0; i < n; i++) {
		run_block_entry(&b, i, &en);
		assert_int_equal(run_block_find(&b, &en.id, &back), 1);
		assert_true(id_eq(&back.id, &en.id) && back.segment == 9 && back.chunk == 4095);
	}
	en.id.b[31] = 1;
	assert_int_equal(run_block_find(&b, &en.id, &back), 0);
	/* limits */
	nsegments[0] = 9;
	assert_err(run_block_decode(&b, &s, 0, &e), ERR_CORRUPT, &e);
	nsegments[0] = 10;
	fence.first.b[31]++;
	assert_err(run_block_decode(&b, &s, 0, &e), ERR_CORRUPT, &e);
	fence.first.b[31]--;
	b.plain[4 + RUN_ENTRY_BYTES] = 0;
	b.plain[4 + RUN_ENTRY_BYTES + 1] = 0;		/* out of order */
	assert_err(run_block_decode(&b, &s, 0, &e), ERR_CORRUPT, &e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_index__empty),
		cmocka_unit_test(test_index__many_entries_many_runs),
		cmocka_unit_test(test_index__each_and_duplicates_across_runs),
		cmocka_unit_test(test_index__same_id_twice_in_a_pack),
		cmocka_unit_test(test_index__writers_need_the_bases),
		cmocka_unit_test(test_index__distrusted_slots_count_for_readers_only),
		cmocka_unit_test(test_index__only_those_who_may_attest_are_believed),
		cmocka_unit_test(test_index__doomed_and_condemned),
		cmocka_unit_test(test_index__cache_folder),
		cmocka_unit_test(test_index__threads),
		cmocka_unit_test(test_run_block__full_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
