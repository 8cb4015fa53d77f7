/* test_reader.c - chunks back out: one by one and many at once, from damaged, moved and vanished packs. */
#include "tests/test.h"

#include <sodium.h>
#include <unistd.h>

#include "repo/index_internal.h"
#include "repo/protocol.h"
#include "repo/reader_internal.h"
#include "tests/support/pack.h"
#include "tests/support/repo.h"
#include "tests/support/run.h"
#include "transport/store.h"

#define CHUNKS 3000u

/* --- fetching ----------------------------------------------------------------------------------------------------- */

struct sink {
	struct run_fx *fx;
	uint64_t seed;
	pthread_mutex_t lock;	/* guards all below */
	uint8_t seen[CHUNKS];
	size_t n, failed, at;	/* at: of both */
	size_t most;		/* items that came in one go */
	bool ordered;
	const struct fetch_item *order;	/* ordered: what must come next */
	size_t stop_at;		/* fails at this item; 0 = never */
	struct cancel *cancel_at_first;
};

static int take_one(struct sink *s, const struct fetch_item *it, const uint8_t *plain, struct err *e)
{
	uint8_t want[RUN_CHUNK];
	int r = 0;

	run_chunk(s->seed, it->tag, want);
	assert_memory_equal(plain, want, RUN_CHUNK);
	pthread_mutex_lock(&s->lock);
	assert_int_equal(s->seen[it->tag]++, 0);
	if (s->ordered)
		assert_int_equal(s->order[s->at].tag, it->tag);
	s->at++;
	s->n++;
	if (s->cancel_at_first)
		cancel_request(s->cancel_at_first);
	if (s->stop_at && s->n >= s->stop_at)
		r = err_set(e, ERR_NOSPACE, "sink is full");
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int take(void *opaque, const struct fetch_item *it, size_t n, const uint8_t *plain, struct err *e)
{
	struct sink *s = opaque;
	int r = 0;

	assert_true(n >= 1);
	pthread_mutex_lock(&s->lock);
	s->most = n > s->most ? n : s->most;
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = take_one(s, it + i, plain + i * RUN_CHUNK, e);
	return r;
}

static int lost(void *opaque, const struct fetch_item *it, struct err *e)
{
	struct sink *s = opaque;

	assert_true(e->code < 0);
	pthread_mutex_lock(&s->lock);
	assert_int_equal(s->seen[it->tag]++, 0);
	if (s->ordered)
		assert_int_equal(s->order[s->at].tag, it->tag);
	s->at++;
	s->failed++;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static size_t items_of(struct repo_reader *rd, const struct tree_ref *t, struct fetch_item *items)
{
	struct node_source src = repo_reader_nodes(rd);
	struct tree_walk *w = NULL;
	struct err e = ERR_INIT;
	uint64_t index;
	struct id id;
	size_t n = 0;

	assert_ok(tree_walk_new(&src, t, RUN_CHUNK, 0, &w, &e), &e);
	while (tree_walk_next(w, &index, &id, &e) == 1)
		items[n++] = (struct fetch_item){ .id = id, .tag = index };
	assert_int_equal(e.code, 0);
	tree_walk_free(w);
	return n;
}

static void shuffle(struct fetch_item *items, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t k = randombytes_uniform((uint32_t)i);
		struct fetch_item tmp = items[k];

		items[k] = items[i - 1];
		items[i - 1] = tmp;
	}
}

struct fixture {
	struct run_fx fx;
	struct tree_ref t;
	struct repo_reader *rd;
	struct fetch_item items[CHUNKS + 1];
	size_t n;
};

static void setup(struct fixture *f)
{
	struct err e = ERR_INIT;

	run_fx_new(&f->fx);
	assert_ok(run_backup(&f->fx, 1, CHUNKS, false, &f->t, NULL, &e), &e);
	run_fx_calm(&f->fx);
	assert_ok(repo_reader_new(f->fx.repo, 0, &f->rd, &e), &e);
	f->n = items_of(f->rd, &f->t, f->items);
	assert_int_equal(f->n, CHUNKS / 5 * 4);
}

static void teardown(struct fixture *f)
{
	repo_reader_free(f->rd);
	run_fx_done(&f->fx);
	free(f);
}

static struct fixture *fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	setup(f);
	return f;
}

static int fetch(struct fixture *f, const struct fetch_opts *o, struct sink *s, uint64_t *ret_stored, struct err *e)
{
	CLEANUP(free_ptr) struct fetch_item *order = malloc(sizeof(f->items));

	memcpy(order, f->items, sizeof(f->items));
	s->fx = &f->fx;
	s->seed = 1;
	s->ordered = o->in_order;
	s->order = order;
	pthread_mutex_init(&s->lock, NULL);
	return repo_fetch(f->rd, "default", f->items, f->n, o, take, s, ret_stored, e);
}

static void test_fetch__every_item_once(void **state)
{
	static const size_t budgets[] = { 0, 1, 8 << 20 };
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned k = 0; k < 12; k++) {
		struct fetch_opts o = { .threads = k % 2 ? 4 : 1, .max_bytes = budgets[k / 2 % 3], .in_order = k >= 6 };
		struct sink s = { 0 };
		struct err e = ERR_INIT;
		uint64_t stored = 0;

		if (k != 6)	/* one stream in guest order, the rest in any */
			shuffle(f->items, f->n);
		assert_ok(fetch(f, &o, &s, &stored, &e), &e);
		assert_int_equal(s.n, f->n);
		assert_true(stored > 1 << 20);
	}
	teardown(f);
}

/* What follows each other in a segment and among the items comes in one go. */
static void test_fetch__neighbours_come_together(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned in_order = 0; in_order < 2; in_order++) {
		struct fetch_opts o = { .threads = 2, .in_order = in_order };
		struct sink s = { 0 };
		struct err e = ERR_INIT;

		assert_ok(fetch(f, &o, &s, NULL, &e), &e);
		assert_int_equal(s.n, f->n);
		assert_true(s.most >= 4);
	}
	teardown(f);
}

static void test_fetch__reads_each_pack_about_once(void **state)
{
	struct fixture *f = fixture_new();
	struct fetch_opts o = { .threads = 2 };
	struct sink s = { 0 };
	struct err e = ERR_INIT;
	unsigned packs = run_count(&f->fx, "data/");

	(void)state;
	f->fx.op = "read";
	f->fx.prefix = "data/";
	f->fx.fail_at = UINT32_MAX;	/* counts, and never fails */
	shuffle(f->items, f->n);
	assert_ok(fetch(f, &o, &s, NULL, &e), &e);
	assert_true(packs >= 5);
	assert_true(atomic_load(&f->fx.calls) <= 2 * packs + 2);	/* a directory and a range each */
	teardown(f);
}

static void test_fetch__unknown_ids_are_reported(void **state)
{
	struct fixture *f = fixture_new();
	struct err e = ERR_INIT;

	(void)state;
	for (unsigned order = 0; order < 2; order++) {
		struct fetch_opts o = { .threads = 2, .in_order = order };
		struct sink s = { 0 }, t = { 0 };

		memset(f->items[7].id.b, 0x5a, ID_BYTES);
		assert_err(fetch(f, &o, &s, NULL, &e), ERR_NOTFOUND, &e);
		o.failed = lost;
		assert_ok(fetch(f, &o, &t, NULL, &e), &e);
		assert_int_equal(t.failed, 1);
		assert_int_equal(t.n, f->n - 1);
	}
	teardown(f);
}

static void test_fetch__the_sink_and_cancel_stop_it(void **state)
{
	struct fixture *f = fixture_new();
	struct err e = ERR_INIT;

	(void)state;
	for (unsigned order = 0; order < 2; order++) {
		struct fetch_opts o = { .threads = 3, .in_order = order };
		struct sink s = { .stop_at = 5 }, t = { .cancel_at_first = &f->fx.cancel };

		assert_err(fetch(f, &o, &s, NULL, &e), ERR_NOSPACE, &e);
		assert_true(s.n < f->n);
		assert_err(fetch(f, &o, &t, NULL, &e), ERR_CANCELLED, &e);
		assert_true(t.n < f->n);
		run_fx_calm(&f->fx);
	}
	assert_int_equal(repo_fetch(f->rd, "default", NULL, 0, &(struct fetch_opts){ 0 }, take, NULL, NULL, &e), 0);
	assert_err(repo_fetch(f->rd, "nobody", f->items, 1, &(struct fetch_opts){ 0 }, take, NULL, NULL, &e), ERR_AUTH,
		   &e);
	teardown(f);
}

/* --- damage ------------------------------------------------------------------------------------------------------- */

struct hit {
	struct run_fx *fx;
	unsigned n;
	bool remove;
	size_t step;
};

/* Flips bytes of the segments, or removes the object. */
static int hit_one(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct hit *h = opaque;
	uint8_t *p = NULL;
	size_t len;

	h->n++;
	if (h->remove) {
		assert_ok(store_remove(h->fx->store, name, e), e);
		return 0;
	}
	assert_ok(store_get(h->fx->store, name, 64 << 20, &p, &len, e), e);
	for (size_t at = 50; at < st->size / 2; at += h->step)
		p[at] ^= 0x80;
	assert_ok(store_put(h->fx->store, name, p, len, 0, e), e);
	free(p);
	return 0;
}

static unsigned hit(struct run_fx *fx, const char *prefix, bool remove, size_t step)
{
	struct hit h = { .fx = fx, .remove = remove, .step = step };
	struct err e = ERR_INIT;

	assert_ok(store_list(fx->store, prefix, hit_one, &h, &e), &e);
	return h.n;
}

static void test_fetch__damage_costs_the_segments_hit(void **state)
{
	struct fixture *f = fixture_new();
	struct err e = ERR_INIT;
	char text[2048];

	(void)state;
	assert_true(hit(&f->fx, "data/", false, SIZE_MAX / 2) > 0);	/* the first segment of each pack */
	for (unsigned order = 0; order < 2; order++) {
		struct fetch_opts o = { .threads = 2, .in_order = order };
		struct sink s = { 0 }, t = { 0 };

		assert_int_equal(fetch(f, &o, &s, NULL, &e), ERR_CORRUPT);
		assert_has(err_text(&e, text, sizeof(text)), "pack data/");
		err_clear(&e);
		o.failed = lost;
		assert_ok(fetch(f, &o, &t, NULL, &e), &e);
		assert_true(t.failed >= 64 && t.failed <= f->n / 2);
		assert_int_equal(t.n + t.failed, f->n);
	}
	teardown(f);
}

/* An index says that two ids are the same chunk: one of them at most is. */
static void test_fetch__two_ids_at_one_place(void **state)
{
	struct fixture *f = fixture_new();
	struct chunk_place place;
	struct run_entry en = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	for (unsigned k = 0; k < 2; k++) {	/* in either order of the items */
		struct fetch_opts o = { .threads = 1, .failed = lost };
		struct sink s = { 0 };
		struct index *x = repo_reader_index(f->rd);	/* loaded anew when something is missing */

		assert_int_equal(index_find(x, &f->items[k].id, 0, &place, NULL, &e), 1);
		en.pack = place.pack;
		en.segment = place.segment;
		en.chunk = place.chunk;
		memset(f->items[1 - k].id.b, (int)(0x5a + k), ID_BYTES);
		en.id = f->items[1 - k].id;
		assert_ok(index_mem_add(&x->mem, &en, &e), &e);
		assert_ok(fetch(f, &o, &s, NULL, &e), &e);
		assert_int_equal(s.failed, 1);
		assert_int_equal(s.n, f->n - 1);
		f->n = items_of(f->rd, &f->t, f->items);
	}
	teardown(f);
}

/* Two runs at once that know nothing of each other store everything twice. */
static void backup_twice(struct run_fx *fx, struct tree_ref *ret, char prefix[2][64])
{
	struct repo_writer_opts o = { .vm = "vm", .threads = 1 };
	struct repo_writer *w[2] = { NULL };
	struct err e = ERR_INIT;

	for (unsigned k = 0; k < 2; k++)
		assert_ok(repo_writer_open(fx->repo, &o, &w[k], &e), &e);
	for (unsigned k = 0; k < 2; k++) {
		struct object_name n = { .type = OBJECT_DATA_SEGMENT,
					 .slot = *repo_own_slot(fx->repo),
					 .session = *repo_writer_session(w[k]) };
		char name[OBJECT_NAME_BYTES];

		assert_ok(run_disk(fx, w[k], 1, CHUNKS, ret, &e), &e);
		assert_ok(repo_writer_flush(w[k], &e), &e);
		object_name_text(&n, name);
		snprintf(prefix[k], 64, "%.*s", 5 + 17 + 33, name);
		repo_writer_close(w[k], false);
	}
}

static void test_reader__a_second_copy_serves(void **state)
{
	struct run_fx fx;
	struct tree_ref t;
	char prefix[2][64];

	(void)state;
	run_fx_new(&fx);
	backup_twice(&fx, &t, prefix);
	assert_true(hit(&fx, prefix[0], false, 1000) > 1);
	run_verify(&fx, 1, CHUNKS, &t);
	assert_true(hit(&fx, prefix[0], true, 0) > 1);
	run_verify(&fx, 1, CHUNKS, &t);
	run_fx_done(&fx);
}

static void test_reader__a_vanished_pack_reloads_the_index(void **state)
{
	struct repo_writer_opts wo = { .vm = "vm", .threads = 1 };
	struct repo_writer *w = NULL;
	struct fixture *f;
	struct tree_ref t;
	struct err e = ERR_INIT;
	struct fetch_opts o = { .threads = 2 };
	struct sink s = { 0 };
	uint8_t got[RUN_CHUNK], want[RUN_CHUNK];

	(void)state;
	f = calloc(1, sizeof(*f));
	assert_non_null(f);
	run_fx_new(&f->fx);
	assert_ok(repo_writer_open(f->fx.repo, &wo, &w, &e), &e);	/* knows of nothing: stores all again */
	assert_ok(run_backup(&f->fx, 1, CHUNKS, false, &f->t, NULL, &e), &e);
	assert_ok(repo_reader_new(f->fx.repo, 0, &f->rd, &e), &e);
	f->n = items_of(f->rd, &f->t, f->items);
	/* What a collector does, seen from far: copies are stored and named, then the old packs go. */
	hit(&f->fx, "data/", true, 0);
	assert_ok(run_disk(&f->fx, w, 1, CHUNKS, &t, &e), &e);
	assert_ok(repo_writer_flush(w, &e), &e);
	repo_writer_close(w, false);
	assert_ok(repo_reader_chunk(f->rd, "default", &f->items[0].id, got, &e), &e);
	run_chunk(1, f->items[0].tag, want);
	assert_memory_equal(got, want, RUN_CHUNK);
	assert_ok(fetch(f, &o, &s, NULL, &e), &e);
	assert_int_equal(s.n, f->n);
	hit(&f->fx, "data/", true, 0);
	repo_reader_free(f->rd);	/* what it has in memory it would still give */
	assert_ok(repo_reader_new(f->fx.repo, 0, &f->rd, &e), &e);
	assert_err(repo_reader_chunk(f->rd, "default", &f->items[0].id, got, &e), ERR_CORRUPT, &e);
	teardown(f);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static void test_reader__pread_at_any_place(void **state)
{
	struct fixture *f = fixture_new();
	uint8_t *all = malloc(CHUNKS * RUN_CHUNK), *got = malloc(100000);
	struct err e = ERR_INIT;

	(void)state;
	for (uint64_t i = 0; i < CHUNKS; i++)
		run_chunk(1, i, all + i * RUN_CHUNK);
	for (unsigned k = 0; k < 100; k++) {
		size_t len = randombytes_uniform(k % 2 ? 100000 : 5000),
		       off = randombytes_uniform((uint32_t)(CHUNKS * RUN_CHUNK - len + 1));

		memset(got, 0xaa, len);
		assert_ok(repo_reader_pread(f->rd, NULL, &f->t, got, len, off, &e), &e);
		assert_memory_equal(got, all + off, len);
	}
	assert_err(repo_reader_pread(f->rd, NULL, &f->t, got, 2, f->t.size - 1, &e), ERR_INVALID, &e);
	free(all);
	free(got);
	teardown(f);
}

static void *read_thread(void *arg)
{
	struct fixture *f = arg;
	uint8_t got[RUN_CHUNK], want[RUN_CHUNK];
	struct err e = ERR_INIT;

	for (unsigned k = 0; k < 150; k++) {
		const struct fetch_item *it = &f->items[randombytes_uniform((uint32_t)f->n)];

		assert_ok(repo_reader_chunk(f->rd, "default", &it->id, got, &e), &e);
		run_chunk(1, it->tag, want);
		assert_memory_equal(got, want, RUN_CHUNK);
		assert_ok(repo_reader_pread(f->rd, "default", &f->t, got, RUN_CHUNK, it->tag * RUN_CHUNK, &e), &e);
		assert_memory_equal(got, want, RUN_CHUNK);
	}
	return NULL;
}

static void test_reader__many_threads_and_a_tiny_cache(void **state)
{
	struct fixture *f = fixture_new();
	struct err e = ERR_INIT;
	pthread_t t[4];

	(void)state;
	repo_reader_free(f->rd);
	assert_ok(repo_reader_new(f->fx.repo, 1 << 20, &f->rd, &e), &e);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, read_thread, f), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	teardown(f);
}

/* A chain of deltas: chunk k is a small change of chunk k - 1, and stored against it. */
static void put_chain(struct run_fx *fx, unsigned n, uint8_t (*plain)[RUN_CHUNK], struct id *ids)
{
	struct session *ses = NULL;
	struct index *x = NULL;
	struct index_opts xo = { .build = true };
	struct err e = ERR_INIT;
	uint64_t bytes;

	assert_ok(session_begin(fx->repo, SESSION_BACKUP, NULL, &ses, &e), &e);
	assert_ok(index_load(fx->repo, session_view(ses), &xo, &x, NULL, &e), &e);
	for (unsigned k = 0; k < n; k++) {
		struct segment_item it = { .plain = plain[k], .len = RUN_CHUNK };
		struct test_pack p;

		if (k == 0)
			randombytes_buf(plain[0], RUN_CHUNK);
		else
			memcpy(plain[k], plain[k - 1], RUN_CHUNK);
		plain[k][k * 100] ^= 0xff;
		test_id_of_chunk(fx->repo, NULL, plain[k], RUN_CHUNK, &ids[k]);
		it.id = ids[k];
		if (k) {
			it.nbases = 1;
			it.depth = (uint8_t)k;
			it.bases[0] = ids[k - 1];
			it.prefix = plain[k - 1];
			it.prefix_len = RUN_CHUNK;
		}
		test_pack_put(fx->repo, session_id_of(ses), PACK_DATA, &it, 1, 1, 3, &p);
		assert_int_equal(p.d->chunks.p[0].nbases, k > 0);
		assert_ok(index_add_directory(x, p.name, p.size, p.envelope_off, p.envelope_len, p.d, &e), &e);
		test_pack_done(&p);
	}
	assert_ok(index_store_run(x, session_id_of(ses), &bytes, &e), &e);
	index_free(x);
	session_free(ses);
}

static int take_chain(void *opaque, const struct fetch_item *it, size_t n, const uint8_t *plain, struct err *e)
{
	uint8_t (*want)[RUN_CHUNK] = opaque;

	(void)e;
	for (size_t i = 0; i < n; i++)
		assert_memory_equal(plain + i * RUN_CHUNK, want[it[i].tag], RUN_CHUNK);
	return 0;
}

static void test_reader__delta_chunks_come_with_their_bases(void **state)
{
	uint8_t plain[DELTA_DEPTH_MAX + 1][RUN_CHUNK], got[RUN_CHUNK];
	struct id ids[DELTA_DEPTH_MAX + 1];
	struct fetch_item items[DELTA_DEPTH_MAX + 1];
	struct fetch_opts o = { .threads = 2 };
	struct repo_reader *rd = NULL;
	struct run_fx fx;
	struct err e = ERR_INIT;

	(void)state;
	run_fx_new(&fx);
	put_chain(&fx, DELTA_DEPTH_MAX + 1, plain, ids);
	assert_ok(repo_reader_new(fx.repo, 0, &rd, &e), &e);
	for (unsigned k = DELTA_DEPTH_MAX + 1; k-- > 0;) {
		assert_ok(repo_reader_chunk(rd, "default", &ids[k], got, &e), &e);
		assert_memory_equal(got, plain[k], RUN_CHUNK);
		items[k] = (struct fetch_item){ .id = ids[k], .tag = k };
	}
	for (unsigned order = 0; order < 2; order++) {
		o.in_order = order;
		assert_ok(repo_fetch(rd, "default", items, DELTA_DEPTH_MAX + 1, &o, take_chain, plain, NULL, &e), &e);
	}
	repo_reader_free(rd);
	run_fx_done(&fx);
}

static void test_reader__nodes_and_chunks_are_not_mixed_up(void **state)
{
	struct fixture *f = fixture_new();
	struct node_source src = repo_reader_nodes(f->rd);
	uint8_t raw[NODE_MAX_BYTES];
	struct err e = ERR_INIT;
	size_t len;

	(void)state;
	assert_ok(src.get(src.opaque, &f->t.root, raw, &len, &e), &e);
	assert_err(src.get(src.opaque, &f->items[0].id, raw, &len, &e), ERR_CORRUPT, &e);
	assert_err(repo_reader_chunk(f->rd, "default", &f->t.root, raw, &e), ERR_CORRUPT, &e);
	memset(raw, 1, ID_BYTES);
	assert_err(repo_reader_chunk(f->rd, "default", (struct id *)raw, raw + 100, &e), ERR_NOTFOUND, &e);
	teardown(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetch__every_item_once),
		cmocka_unit_test(test_fetch__neighbours_come_together),
		cmocka_unit_test(test_fetch__reads_each_pack_about_once),
		cmocka_unit_test(test_fetch__unknown_ids_are_reported),
		cmocka_unit_test(test_fetch__the_sink_and_cancel_stop_it),
		cmocka_unit_test(test_fetch__damage_costs_the_segments_hit),
		cmocka_unit_test(test_fetch__two_ids_at_one_place),
		cmocka_unit_test(test_reader__a_second_copy_serves),
		cmocka_unit_test(test_reader__a_vanished_pack_reloads_the_index),
		cmocka_unit_test(test_reader__pread_at_any_place),
		cmocka_unit_test(test_reader__many_threads_and_a_tiny_cache),
		cmocka_unit_test(test_reader__delta_chunks_come_with_their_bases),
		cmocka_unit_test(test_reader__nodes_and_chunks_are_not_mixed_up),
	};

	alarm(600);	/* a deadlock must end the test */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
