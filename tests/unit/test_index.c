/* The index: runs stored and loaded, found again within a bounded cache; duplicates, doomed packs, distrust, damage,
 * threads. */
#include "tests/test.h"

#include <pthread.h>
#include <unistd.h>

#include "base/bytes.h"
#include "repo/index_internal.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "tests/support/folder.h"
#include "tests/support/pack.h"
#include "tests/support/repo.h"
#include "transport/store.h"

#define CHUNK 4096u
static const struct session_id session = { { 1, 2, 3 } };

static struct index *load(struct repo *r, const struct protocol_view *v, bool build, size_t max_bytes,
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

static void add_fake(struct index *x, struct repo *r, uint64_t seed, size_t n, char *name)
{
	struct err e = ERR_INIT;
	struct test_pack p;

	test_pack_fake(r, &session, seed, n, &p);
	assert_ok(index_add_directory(x, p.name, p.size, p.envelope_off, p.envelope_len, p.d, &e), &e);
	if (name)
		snprintf(name, OBJECT_NAME_BYTES, "%s", p.name);
	test_pack_done(&p);
}

static uint64_t store_run(struct index *x)
{
	struct err e = ERR_INIT;
	uint64_t bytes = 0;

	assert_ok(index_store_run(x, &session, &bytes, &e), &e);
	return bytes;
}

static int find(struct index *x, uint64_t seed, uint64_t i, unsigned nth, struct chunk_place *p)
{
	struct err e = ERR_INIT;
	struct id id;
	int rc;

	test_fake_id(seed, i, &id);
	rc = index_find(x, &id, nth, p, NULL, &e);
	assert_ok(rc, &e);
	return rc;
}

static void expect(struct index *x, uint64_t seed, uint64_t i, const char *pack)
{
	struct chunk_place p;

	assert_int_equal(find(x, seed, i, 0, &p), 1);
	assert_int_equal(p.segment, i / 4);
	assert_int_equal(p.chunk, i % 4);
	assert_string_equal(index_pack(x, p.pack)->name, pack);
}

struct names {
	char (*p)[OBJECT_NAME_BYTES];
	size_t n;
};

static int take_name(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct names *l = opaque;

	(void)st;
	(void)e;
	l->p = realloc(l->p, (l->n + 1) * sizeof(*l->p));
	snprintf(l->p[l->n++], OBJECT_NAME_BYTES, "%s", name);
	return 0;
}

static struct names names_of(struct store *s, const char *prefix)
{
	struct names l = { 0 };
	struct err e = ERR_INIT;

	assert_ok(store_list(s, prefix, take_name, &l, &e), &e);
	return l;
}

static void flip(struct store *s, const char *name, uint64_t at)
{
	struct err e = ERR_INIT;
	uint8_t *p = NULL;
	size_t len;

	assert_ok(store_get(s, name, PACK_MAX_BYTES, &p, &len, &e), &e);
	p[at < len ? at : len - 1 - (UINT64_MAX - at)] ^= 4;
	assert_ok(store_put(s, name, p, len, 0, &e), &e);
	free(p);
}

static void test_index__empty(void **state)
{
	struct test_repo t;
	struct chunk_place p;
	struct index *x;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	assert_int_equal(find(x, 1, 1, 0, &p), 0);
	assert_int_equal(index_nentries(x), 0);
	assert_int_equal(store_run(x), 0);
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
	struct names l;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < RUNS * PACKS; i++) {
		add_fake(x, t.repo, i, PER, name[i]);
		assert_true(index_names_pack(x, name[i]));
		expect(x, i, 77, name[i]);
		if (i % PACKS == PACKS - 1) {
			uint64_t bytes = store_run(x);

			/* 14 blocks of 1488 entries, a table, and at most an eighth of padding */
			assert_true(bytes > 14 * INDEX_BLOCK_BYTES && bytes < 17 * INDEX_BLOCK_BYTES);
			assert_int_equal(x->mem.entries.n, 0);
			expect(x, i, 77, name[i]);
			expect(x, i - 1, 4999, name[i - 1]);
			assert_int_equal(find(x, i + 1, 0, 0, &p), 0);
		}
	}
	assert_int_equal(store_run(x), 0);
	assert_int_equal(index_nentries(x), RUNS * PACKS * PER);
	index_free(x);
	l = names_of(t.store, "index/");
	assert_int_equal(l.n, RUNS);
	free(l.p);
	for (int build = 0; build < 2; build++) {
		x = load(t.repo, NULL, build, 1 << 20, 0);
		assert_int_equal(index_nentries(x), RUNS * PACKS * PER);
		assert_int_equal(index_npacks(x), RUNS * PACKS);
		for (unsigned i = 0; i < RUNS * PACKS; i++)
			for (unsigned k = 0; k < PER; k += 97)
				expect(x, i, k, name[i]);
		for (unsigned k = 0; k < 5000; k++)
			assert_int_equal(find(x, 1000, k, 0, &p), 0);
		assert_true((bool)x->filter.lines == (bool)build);
		assert_true(x->cache.n <= x->cache.max && x->cache.max * sizeof(struct run_block) <= (1 << 20));
		index_free(x);
	}
	test_repo_done(&t);
}

struct seen_entries {
	uint64_t n;
	uint8_t xor[ID_BYTES];
};

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

static void each(struct index *x, struct seen_entries *s)
{
	struct err e = ERR_INIT;

	*s = (struct seen_entries){ 0 };
	assert_ok(index_each(x, see, s, &e), &e);
}

static void test_index__each_and_duplicates_across_runs(void **state)
{
	char a[OBJECT_NAME_BYTES], b[OBJECT_NAME_BYTES], c[OBJECT_NAME_BYTES];
	struct chunk_place p[4], q;
	struct test_repo t;
	struct seen_entries before, after;
	struct index *x;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	add_fake(x, t.repo, 1, 3000, a);
	(void)store_run(x);
	add_fake(x, t.repo, 1, 3000, b);	/* the same ids in another pack, another run */
	(void)store_run(x);
	add_fake(x, t.repo, 1, 10, c);		/* and a few in memory */
	each(x, &before);
	assert_int_equal(before.n, 6010);
	for (unsigned nth = 0; nth < 4; nth++)
		assert_int_equal(find(x, 1, 7, nth, &p[nth]), 1);
	assert_int_equal(find(x, 1, 7, 4, &q), 0);
	assert_true(p[1].pack != p[2].pack && p[2].pack != p[3].pack && p[1].pack != p[3].pack);
	assert_int_equal(find(x, 1, 2000, 2, &q), 1);
	assert_int_equal(find(x, 1, 2000, 3, &q), 0);
	(void)store_run(x);
	index_free(x);
	x = load(t.repo, NULL, false, 0, 0);
	each(x, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	for (unsigned nth = 1; nth < 4; nth++)
		assert_int_equal(find(x, 1, 7, nth, &p[nth]), 1);
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
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, false, 0, 0);
	test_pack_fake(t.repo, &session, 5, 8, &k);
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
		(void)store_run(x);
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
	test_repo_new(&t, CHUNK, NULL);
	for (int build = 0; build < 2; build++) {
		x = load(t.repo, NULL, build, 0, 0);
		test_pack_fake(t.repo, &session, 5, 8, &k);
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
	test_repo_new(&t, CHUNK, NULL);
	other = test_repo_as(&t, ROLE_FULL, "another");
	x = load(other, NULL, false, 0, 0);
	test_pack_fake(other, &session, 5, 16, &k);
	k.d->segments.p[1].verified = true;
	assert_ok(index_add_directory(x, k.name, k.size, k.envelope_off, k.envelope_len, k.d, &e), &e);
	(void)store_run(x);
	index_free(x);
	test_pack_done(&k);
	for (int build = 0; build < 2; build++) {
		x = load(t.repo, NULL, build, 0, 0);
		assert_int_equal(find(x, 5, 0, 0, &p), !build);
		assert_int_equal(find(x, 5, 5, 0, &p), 1);	/* verified */
		assert_int_equal(find(x, 5, 9, 0, &p), !build);
		index_free(x);
	}
	x = load(other, NULL, true, 0, 0);
	assert_int_equal(find(x, 5, 9, 0, &p), 1);		/* its own */
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
	test_repo_new(&t, CHUNK, NULL);
	for (unsigned k = 0; k < 2; k++) {
		struct repo *other = test_repo_as(&t, roles[k], k ? "maintain" : "put");
		struct index *x = load(other, NULL, false, 0, 0);
		struct test_pack made;

		test_pack_fake(other, &session, k, 8, &made);
		made.d->segments.p[0].verified = true;
		made.d->segments.p[1].sealer = *repo_own_slot(t.repo);
		assert_ok(index_add_directory(x, made.name, made.size, made.envelope_off, made.envelope_len, made.d,
					      &e),
			  &e);
		(void)store_run(x);
		index_free(x);
		for (int build = 0; build < 2; build++) {
			x = load(t.repo, NULL, build, 0, 0);
			assert_int_equal(find(x, k, 1, 0, &p), !build || k);
			assert_int_equal(find(x, k, 5, 0, &p), !build || k);
			index_free(x);
		}
		x = load(t.repo, NULL, true, 0, 0);	/* the same by way of the directory */
		if (k == 0)
			assert_ok(index_add_directory(x, made.name, made.size, made.envelope_off, made.envelope_len,
						      made.d, &e),
				  &e);
		assert_int_equal(find(x, k, 1, 0, &p), k);
		assert_int_equal(find(x, k, 5, 0, &p), k);
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
	struct names l;
	struct index *x;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		add_fake(x, t.repo, 20 + i, 100, pack[i]);
	(void)store_run(x);
	index_free(x);
	doomed[0] = pack[0];
	condemned[0] = pack[strcmp(pack[0], pack[1]) > 0];	/* sorted */
	condemned[1] = pack[strcmp(pack[0], pack[1]) < 0];
	for (int build = 0; build < 2; build++) {
		x = load(t.repo, &v, build, 0, 0);
		assert_int_equal(find(x, 20, 7, 0, &p), 0);
		assert_int_equal(find(x, 21, 7, 0, &p), !build);
		expect(x, 22, 7, pack[2]);
		assert_true(index_names_pack(x, pack[0]));
		assert_int_equal(find(x, 20, 7, 1, &p), 0);
		add_fake(x, t.repo, 20, 8, NULL);	/* another copy counts */
		assert_int_equal(find(x, 20, 7, 0, &p), 1);
		index_free(x);
	}
	l = names_of(t.store, "index/");
	assert_int_equal(l.n, 1);
	doomed[0] = l.p[0];
	x = load(t.repo, &v, false, 0, 0);
	assert_int_equal(find(x, 22, 7, 0, &p), 0);
	assert_int_equal(index_npacks(x), 0);
	index_free(x);
	free(l.p);
	test_repo_done(&t);
}

/* --- damage --- */
static void fill_real(struct repo *r, struct index *x, uint8_t seed, struct test_pack *p, struct id *ids, size_t n)
{
	uint8_t *plain = malloc(n * CHUNK);
	struct segment_item *it = calloc(n, sizeof(*it));
	struct err e = ERR_INIT;

	for (size_t i = 0; i < n; i++) {
		memset(plain + i * CHUNK, seed, CHUNK);
		memcpy(plain + i * CHUNK, &i, sizeof(i));
		it[i] = (struct segment_item){ .plain = plain + i * CHUNK, .len = CHUNK };
		id_of_chunk(r, NULL, it[i].plain, CHUNK, &it[i].id);
		ids[i] = it[i].id;
	}
	test_pack_put(r, &session, PACK_DATA, it, n, 64, 1, p);
	assert_ok(index_add_directory(x, p->name, p->size, p->envelope_off, p->envelope_len, p->d, &e), &e);
	free(plain);
	free(it);
}

static void expect_all(struct index *x, const struct id *ids, size_t n, const char *pack)
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

/* Spoils every second block that is read. */
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
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	add_fake(x, t.repo, 1, 100, NULL);
	(void)store_run(x);
	index_free(x);
	test_fake_id(1, 1, &id);
	assert_ok(store_fault_new(t.store, now_so_now_so, &n, &t.store, &e), &e);
	t.repo->store = t.store;
	for (int build = 0; build < 2; build++) {	/* by a lookup; by the filter */
		n = 0;
		x = load(t.repo, NULL, build, 0, 0);
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
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	add_fake(x, t.repo, 1, 100, NULL);
	(void)store_run(x);
	index_free(x);
	assert_ok(store_fault_new(t.store, spoil_once, &n, &t.store, &e), &e);
	t.repo->store = t.store;
	x = load(t.repo, NULL, false, 0, 0);
	each(x, &s);
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
	struct names l;
	struct index *x;
	struct err e = ERR_INIT;
	struct seen_entries s;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	fill_real(t.repo, x, 1, &p[0], ids[0], N);
	(void)store_run(x);
	l = names_of(t.store, "index/");
	assert_int_equal(l.n, 1);
	fill_real(t.repo, x, 2, &p[1], ids[1], N);
	(void)store_run(x);
	index_free(x);

	for (int build = 0; build < 2; build++) {
		/* its second block: found when it is looked at */
		flip(t.store, l.p[0], INDEX_BLOCK_BYTES + 5000);
		x = load(t.repo, NULL, build, 0, 0);
		t.notices[0] = '\0';
		if (build) {
			expect_all(x, ids[0], N, p[0].name);
			expect_all(x, ids[1], N, p[1].name);
		}
		each(x, &s);
		assert_int_equal(s.n, 2 * N);
		assert_has(t.notices, "1 of 2 blocks are damaged");
		assert_true(x->mem.entries.n > 0 && x->mem.entries.n < N);
		expect_all(x, ids[0], N, p[0].name);
		assert_int_equal(store_run(x), 0);	/* nothing of it is new */
		index_free(x);
		flip(t.store, l.p[0], INDEX_BLOCK_BYTES + 5000);

		/* each part of its end: the run is left out, its pack read instead */
		static const uint64_t backs[] = { 10, 20, 30, 47, 60, 150 };	/* salt, trailer, envelope */

		for (size_t i = 0; i < sizeof(backs) / sizeof(*backs); i++) {
			uint64_t back = backs[i];
			uint8_t *whole = NULL;
			size_t len;
			uint32_t damaged = 0;

			assert_ok(store_get(t.store, l.p[0], PACK_MAX_BYTES, &whole, &len, &e), &e);
			free(whole);
			flip(t.store, l.p[0], len - 1 - back);
			t.notices[0] = '\0';
			assert_ok(index_load(t.repo, NULL, &(struct index_opts){ .build = build }, &x, &damaged, &e),
				  &e);
			expect_all(x, ids[0], N, p[0].name);
			expect_all(x, ids[1], N, p[1].name);
			if (damaged) {
				assert_has(t.notices, "directories of 1 packs");
				assert_false(index_names_pack(x, p[0].name));
			}
			assert_int_equal(damaged, back != 10);	/* nobody needs a run's salt */
			index_free(x);
			flip(t.store, l.p[0], len - 1 - back);
		}
	}
	/* healing: what serves instead can be added, and is then named */
	flip(t.store, l.p[0], UINT64_MAX - 100);
	x = load(t.repo, NULL, true, 0, 1);
	assert_ok(index_add_directory(x, p[0].name, p[0].size, p[0].envelope_off, p[0].envelope_len, p[0].d, &e), &e);
	assert_true(index_names_pack(x, p[0].name));
	assert_true(store_run(x) > 0);
	assert_int_equal(x->mem.entries.n, 0);
	index_free(x);
	x = load(t.repo, NULL, true, 0, 1);
	assert_true(index_names_pack(x, p[0].name));
	expect_all(x, ids[0], N, p[0].name);
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
	struct names l;
	struct index *x;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < PACKS; i++)
		fill_real(t.repo, x, (uint8_t)(i + 1), &p[i], ids[i], N);
	(void)store_run(x);
	index_free(x);
	l = names_of(t.store, "index/");
	assert_int_equal(l.n, 1);
	for (int tail = 0; tail < 2; tail++) {
		for (uint64_t block = 0; !tail && block * INDEX_BLOCK_BYTES < (uint64_t)PACKS * N * 44; block++)
			flip(t.store, l.p[0], block * INDEX_BLOCK_BYTES + 99);
		if (tail)
			flip(t.store, l.p[0], UINT64_MAX - 100);
		x = load(t.repo, NULL, tail, (size_t)1 << 19, (uint32_t)tail);
		for (unsigned i = 0; i < PACKS; i++)
			expect_all(x, ids[i], N, p[i].name);
		each(x, &s);
		assert_int_equal(s.n, PACKS * N);
		assert_true(x->runs.n > 1);
		assert_true(x->mem.entries.n < N);
		if (!tail) {
			index_free(x);
			continue;
		}
		assert_int_equal(store_run(x), 0);
		for (unsigned i = 0; i < PACKS; i++)
			assert_ok(index_add_directory(x, p[i].name, p[i].size, p[i].envelope_off, p[i].envelope_len,
						      p[i].d, &e),
				  &e);
		assert_true(store_run(x) > 0);
		index_free(x);
	}
	assert_ok(store_remove(t.store, l.p[0], &e), &e);
	x = load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < PACKS; i++) {
		expect_all(x, ids[i], N, p[i].name);
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
	struct names l;
	struct index *x;
	unsigned lost = 0;

	(void)state;
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, false, 0, 0);
	fill_real(t.repo, x, 1, &p[0], ids[0], N);
	(void)store_run(x);
	index_free(x);
	l = names_of(t.store, "index/");
	x = load(t.repo, NULL, false, 0, 0);
	fill_real(t.repo, x, 2, &p[1], ids[1], N);
	(void)store_run(x);
	index_free(x);
	flip(t.store, l.p[0], 99);
	flip(t.store, p[0].name, p[0].envelope_off + 99);
	for (int build = 0; build < 2; build++) {
		x = load(t.repo, NULL, build, 0, 0);
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
		expect_all(x, ids[1], N, p[1].name);
		index_free(x);
	}
	free(l.p);
	test_pack_done(&p[0]);
	test_pack_done(&p[1]);
	test_repo_done(&t);
}

/* --- the copy on disk for stores that are far away --- */
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
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	add_fake(x, t.repo, 1, 20000, name);
	(void)store_run(x);
	index_free(x);
	assert_ok(store_fault_new(t.store, counting, &reads, &far, &e), &e);
	far->caps.is_local = false;
	assert_ok(repo_open(far, secret, &o, &r, &e), &e);
	secret_free(secret);
	for (int round = 0; round < 4; round++) {
		reads = 0;
		x = load(r, NULL, true, 0, 0);
		for (unsigned i = 0; i < 20000; i += 50)
			expect(x, 1, i, name);
		index_free(x);
		warm = reads;
		assert_true(round == 0 || round == 3 ? warm >= 2 && warm < 6 : warm == 0 || round == 2);
		if (round == 1) {	/* a bit of the copy rots */
			snprintf(cmd, sizeof(cmd),
				 "f=$(find '%s' -type f) && printf x | dd of=\"$f\" bs=1 seek=70000 conv=notrunc "
				 "status=none",
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
	test_repo_new(&t, CHUNK, NULL);
	x = load(t.repo, NULL, true, 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		add_fake(x, t.repo, i, 3000, NULL);
		(void)store_run(x);
	}
	index_free(x);
	x = load(t.repo, NULL, true, 1 << 20, 0);
	for (unsigned i = 0; i < 4; i++) {
		f[i] = (struct finder){ x, i, 3000, false };
		assert_int_equal(pthread_create(&th[i], NULL, find_many, &f[i]), 0);
	}
	for (unsigned i = 0; i < 6; i++) {
		add_fake(x, t.repo, 10 + i, 2000, NULL);
		if (i % 2)
			(void)store_run(x);
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
		cmocka_unit_test(test_index__a_store_that_changes_its_mind_ends_it),
		cmocka_unit_test(test_index__each_reads_a_block_again),
		cmocka_unit_test(test_index__damaged_runs_are_replaced),
		cmocka_unit_test(test_index__lost_runs_do_not_fill_memory),
		cmocka_unit_test(test_index__damaged_block_and_damaged_packs_lose_nothing_else),
		cmocka_unit_test(test_index__cache_folder),
		cmocka_unit_test(test_index__threads),
		cmocka_unit_test(test_run_block__full_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
