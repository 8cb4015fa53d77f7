/* test_writer_repo.c - runs that store and commit: what they leave behind when all goes well, and when anything
 * fails. */
#include "tests/test.h"

#include <sodium.h>
#include <unistd.h>

#include "base/num.h"
#include "repo/pack.h"
#include "repo/protocol_internal.h"
#include "repo/writer_internal.h"
#include "tests/support/repo.h"
#include "tests/support/run.h"
#include "transport/store.h"

#define CHUNKS 1500u		/* 1200 of them not zero: 6 MiB less what repeats and compresses */

static struct repo_writer *open_writer(struct run_fx *fx, unsigned threads)
{
	struct repo_writer_opts o = { .vm = "vm", .threads = threads };
	struct repo_writer *w = NULL;
	struct err e = ERR_INIT;

	assert_ok(repo_writer_open(fx->repo, &o, &w, &e), &e);
	return w;
}

static void test_writer__second_run_stores_no_chunk(void **state)
{
	struct repo_writer_stats first, second;
	struct run_fx fx;
	struct tree_ref a, b;
	struct err e = ERR_INIT;

	(void)state;
	run_fx_new(&fx);
	assert_ok(run_backup(&fx, 1, CHUNKS, false, &a, &first, &e), &e);
	assert_true(first.packs >= 3);
	assert_true(first.chunks_new > 1000 && first.chunks_new < 1200);	/* repeated ones are stored once */
	assert_int_equal(first.bytes_new, first.chunks_new * RUN_CHUNK);
	assert_true(first.bytes_stored > 1 << 20);
	run_verify(&fx, 1, CHUNKS, &a);
	assert_ok(run_backup(&fx, 1, CHUNKS, false, &b, &second, &e), &e);
	assert_int_equal(second.chunks_new, 0);
	assert_int_equal(second.packs, 0);
	assert_int_equal(second.resumed_packs, 0);
	assert_memory_equal(&a.root, &b.root, sizeof(a.root));
	assert_int_equal(run_count(&fx, "manifests/"), 2);
	assert_int_equal(run_count(&fx, "end/"), 2);
	assert_int_equal(run_count(&fx, "index/"), 1);
	assert_int_equal(atomic_load(&fx.notices), 0);
	run_fx_done(&fx);
}

static void get_manifest(struct run_fx *fx, const struct id *id, struct manifest **ret)
{
	struct name_list names = { 0 };
	struct err e = ERR_INIT;

	*ret = NULL;
	assert_ok(object_list(fx->repo, OBJECT_MANIFEST, &names, &e), &e);
	for (size_t i = 0; i < names.n; i++) {
		struct object_name n;
		struct slot_id signer;
		uint8_t *json = NULL;
		size_t len;

		assert_true(object_name_parse(names.p[i], &n));
		if (!id_eq(&n.hash, id))
			continue;
		assert_ok(object_get(fx->repo, names.p[i], &json, &len, &signer, &e), &e);
		assert_ok(manifest_decode(json, len, RUN_CHUNK, ret, &e), &e);
		free(json);
	}
	name_list_free(&names);
	assert_non_null(*ret);
}

static void test_writer__commit_fills_in_the_chain(void **state)
{
	struct run_fx fx;
	struct err e = ERR_INIT;
	struct id id[3];

	(void)state;
	run_fx_new(&fx);
	for (unsigned k = 0; k < 3; k++) {
		struct repo_writer *w = open_writer(&fx, 1);
		struct manifest *m, *back;
		struct tree_ref t;

		assert_ok(run_disk(&fx, w, k, 20, &t, &e), &e);
		m = run_manifest(&t);
		assert_ok(repo_writer_commit(w, m, &id[k], &e), &e);
		assert_err(repo_writer_commit(w, m, &id[k], &e), ERR_INTERNAL, &e);
		get_manifest(&fx, &id[k], &back);
		assert_int_equal(back->sequence, k + 1);
		assert_int_equal(back->has_previous, k > 0);
		assert_true(k == 0 || id_eq(&back->previous, &id[k - 1]));
		assert_memory_equal(&back->session, repo_writer_session(w), sizeof(back->session));
		assert_memory_equal(&back->writer, repo_own_slot(fx.repo), sizeof(back->writer));
		assert_true(back->bytes_stored > 0);
		manifest_free(m);
		manifest_free(back);
		repo_writer_close(w, false);
	}
	run_fx_done(&fx);
}

static void test_writer__equal_ids_are_stored_once(void **state)
{
	struct run_fx fx;
	struct repo_writer_stats st;
	struct repo_writer *w;
	struct err e = ERR_INIT;
	struct id id, node;
	uint8_t raw[NODE_MAX_BYTES];
	struct node n = { .level = 1, .present = { 1 } };

	(void)state;
	run_fx_new(&fx);
	w = open_writer(&fx, 2);
	for (unsigned k = 0; k < 5; k++) {
		uint8_t *plain = malloc(RUN_CHUNK);

		run_chunk(1, 0, plain);
		test_id_of_chunk(fx.repo, NULL, plain, RUN_CHUNK, &id);
		assert_int_equal(repo_writer_has(w, &id, &e), k > 0);
		assert_ok(repo_writer_add_chunk(w, NULL, &id, plain, &e), &e);	/* also without having asked */
		n.child[0] = id;
		assert_ok(repo_writer_add_node(w, raw, node_encode(&n, raw), &node, &e), &e);
		if (k == 2)
			assert_ok(repo_writer_flush(w, &e), &e);
	}
	repo_writer_stats(w, &st);
	assert_int_equal(st.chunks_new, 1);
	assert_int_equal(st.packs, 2);
	assert_int_equal(run_count(&fx, "data/"), 1);
	assert_int_equal(run_count(&fx, "nodes/"), 1);
	repo_writer_close(w, true);
	assert_int_equal(run_count(&fx, "end/"), 1);	/* all is named: nothing for a next run to look for */
	run_fx_done(&fx);
}

static void test_writer__add_bytes_reads_back(void **state)
{
	static const size_t sizes[] = { 0, 1, RUN_CHUNK, RUN_CHUNK + 1, 300 * RUN_CHUNK + 17 };
	struct run_fx fx;
	struct repo_writer *w;
	struct err e = ERR_INIT;

	(void)state;
	run_fx_new(&fx);
	w = open_writer(&fx, 1);
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		uint8_t *p = malloc(sizes[k] + 1), *back = malloc(sizes[k] + 1);
		struct tree_ref t;

		for (size_t i = 0; i < sizes[k]; i++)
			p[i] = (uint8_t)(i * i >> 3);
		assert_ok(repo_writer_add_bytes(w, p, sizes[k], &t, &e), &e);
		assert_int_equal(t.size, sizes[k]);
		assert_ok(repo_writer_flush(w, &e), &e);
		assert_ok(repo_reader_pread(repo_writer_reader(w), "default", &t, back, sizes[k], 0, &e), &e);
		assert_memory_equal(p, back, sizes[k]);
		free(p);
		free(back);
	}
	repo_writer_close(w, false);
	run_fx_done(&fx);
}

/* The layout: of each pack in the order of puts, its segments' births and ids. */
static void layout_of(struct run_fx *fx, struct id *ret)
{
	struct buf all;
	struct err e = ERR_INIT;

	buf_init(&all, 64 << 20);
	for (size_t i = 0; i < fx->puts.n; i++) {
		struct directory *d = NULL;
		struct store_stat st;

		if (strncmp(fx->puts.p[i], "data/", 5) != 0 && strncmp(fx->puts.p[i], "nodes/", 6) != 0)
			continue;
		assert_ok(store_stat(fx->store, fx->puts.p[i], &st, &e), &e);
		assert_int_equal(st.size, padme(st.size));
		assert_true(st.size <= 1 << 20);
		assert_ok(pack_read_directory(fx->repo, fx->puts.p[i], st.size, 0, 0, &d, &e), &e);
		for (size_t s = 0; s < d->segments.n; s++) {
			assert_ok(buf_le64(&all, d->segments.p[s].birth, &e), &e);
			assert_ok(buf_le32(&all, d->segments.p[s].stored, &e), &e);
			assert_ok(buf_le32(&all, d->segments.p[s].nchunks, &e), &e);
		}
		for (size_t c = 0; c < d->chunks.n; c++)
			assert_ok(buf_add(&all, d->chunks.p[c].id.b, ID_BYTES, &e), &e);
		directory_free(d);
	}
	assert_true(all.len > 1000);
	assert_ok(hash_bytes(fx->repo, all.p, all.len, ret, &e), &e);
	buf_done(&all);
}

static void test_writer__layout_does_not_depend_on_threads(void **state)
{
	static const unsigned threads[] = { 0, 1, 2, 4 };
	struct run_fx model;
	struct tree_ref t[4];
	struct id layout[4];

	(void)state;
	run_fx_new(&model);
	for (unsigned k = 0; k < 4; k++) {
		struct run_fx fx;
		struct repo_writer *w;
		struct err e = ERR_INIT;

		run_fx_like(&fx, &model);
		w = open_writer(&fx, threads[k]);
		assert_ok(run_disk(&fx, w, 7, 3000, &t[k], &e), &e);
		assert_ok(repo_writer_flush(w, &e), &e);
		repo_writer_close(w, false);
		layout_of(&fx, &layout[k]);
		run_fx_done(&fx);
		assert_memory_equal(&t[k].root, &t[0].root, sizeof(t[0].root));
		assert_memory_equal(&layout[k], &layout[0], sizeof(layout[0]));
	}
	run_fx_done(&model);
}

static void test_writer__small_budget_is_enough(void **state)
{
	struct repo_writer_opts o = {
		.max_bytes = 1, .threads = 64, .compression = COMPRESS_MAX, .single_chunk_segments = true
	};
	struct run_fx fx;
	struct repo_writer *w = NULL;
	struct err e = ERR_INIT;
	struct manifest *m;
	struct tree_ref t;
	struct id id;

	(void)state;
	run_fx_new(&fx);
	assert_ok(repo_writer_open(fx.repo, &o, &w, &e), &e);
	assert_ok(run_disk(&fx, w, 1, 700, &t, &e), &e);
	m = run_manifest(&t);
	assert_ok(repo_writer_commit(w, m, &id, &e), &e);
	manifest_free(m);
	repo_writer_close(w, false);
	run_verify(&fx, 1, 700, &t);
	run_fx_done(&fx);
}

/* Adds n strings of len bytes that nothing compresses. */
static void add_noise(struct repo *r, struct repo_writer *w, bool nodes, unsigned n, size_t len)
{
	struct err e = ERR_INIT;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *p = malloc(len);
		struct id id;

		assert_non_null(p);
		randombytes_buf(p, len);
		if (nodes) {
			assert_ok(repo_writer_add_node(w, p, len, &id, &e), &e);
			free(p);
		} else {
			test_id_of_chunk(r, NULL, p, len, &id);
			assert_ok(repo_writer_add_chunk(w, "default", &id, p, &e), &e);
		}
	}
	assert_ok(repo_writer_flush(w, &e), &e);
}

/* A data pack's buffer serves the next one, whatever its size, and is in nobody's way while nodes are stored. */
static void test_writer__buffers_of_packs(void **state)
{
	struct repo_writer_opts o = { .max_bytes = 24 << 20, .threads = 1, .compression = COMPRESS_OFF };
	struct repo_writer *w = NULL;
	struct err e = ERR_INIT;
	struct test_repo t;

	(void)state;
	test_repo_new(&t, RUN_CHUNK, NULL);
	assert_ok(repo_writer_open(t.repo, &o, &w, &e), &e);
	assert_false(is_pow2(w->plan.pack_target[PACK_DATA - 1]));
	assert_int_equal(w->plan.uploaders, 1);
	add_noise(t.repo, w, false, 3000, RUN_CHUNK);
	assert_true(w->stats.packs > 2);
	assert_int_equal(w->nspare, 1);
	add_noise(t.repo, w, true, 300, 8000);
	assert_int_equal(w->nspare, 0);
	repo_writer_close(w, false);
	test_repo_done(&t);
}

/* After any failure a run without faults must succeed, and what it reads back be right. */
static void recover(struct run_fx *fx, struct repo_writer_stats *st)
{
	struct tree_ref t;
	struct err e = ERR_INIT;

	run_fx_calm(fx);
	assert_ok(run_backup(fx, 1, CHUNKS, true, &t, st, &e), &e);
	run_verify(fx, 1, CHUNKS, &t);
}

static void test_writer__every_put_may_fail(void **state)
{
	static const enum store_fault_when when[] = { STORE_FAULT_BEFORE, STORE_FAULT_AFTER };

	(void)state;
	for (unsigned k = 0; k < 4; k++) {
		unsigned at = 1, failed = 0, resumed = 0;
		bool save = k & 1;

		for (;; at++) {
			struct repo_writer_stats st;
			struct run_fx fx;
			struct tree_ref t;
			struct err e = ERR_INIT;
			unsigned committed;
			int r;

			run_fx_new(&fx);
			fx.op = "put";
			fx.prefix = "";
			fx.when = when[k / 2];
			fx.fail_at = at;
			fx.fail_code = at % 2 ? ERR_NOSPACE : ERR_TRANSIENT;
			r = run_backup(&fx, 1, CHUNKS, save, &t, NULL, &e);
			if (atomic_load(&fx.calls) < at) {	/* the loop has passed the last put */
				run_fx_done(&fx);
				break;
			}
			failed += r < 0;
			committed = run_count(&fx, "manifests/");
			if (r == 0) {
				assert_int_equal(committed, 1);
				run_verify(&fx, 1, CHUNKS, &t);
			}
			recover(&fx, &st);
			resumed += st.resumed_packs > 0;
			assert_true(st.resumed_packs == 0 || st.resumed_bytes > 0);
			assert_int_equal(run_count(&fx, "manifests/"), committed + 1);
			run_fx_done(&fx);
		}
		assert_true(at >= 7);		/* session, packs, run, manifest, end marker */
		assert_true(failed >= 4);
		assert_true(resumed >= 1);
	}
}

static void test_writer__orphans_are_used_again(void **state)
{
	struct repo_writer_stats st;
	struct run_fx fx;
	struct repo_writer *w;
	struct tree_ref t;
	struct err e = ERR_INIT;
	unsigned packs;

	(void)state;
	run_fx_new(&fx);
	fx.op = "put";
	fx.prefix = "index/";
	fx.fail_at = 1;
	fx.fail_code = ERR_IO;
	w = open_writer(&fx, 2);
	assert_ok(run_disk(&fx, w, 1, CHUNKS, &t, &e), &e);
	assert_err(repo_writer_flush(w, &e), ERR_IO, &e);
	repo_writer_close(w, true);	/* the run can't be stored here either */
	assert_int_equal(run_count(&fx, "end/"), 0);
	packs = run_count(&fx, "data/") + run_count(&fx, "nodes/");
	recover(&fx, &st);
	assert_int_equal(st.resumed_packs, packs);
	assert_int_equal(st.chunks_new, 0);
	assert_int_equal(st.packs, 0);
	assert_int_equal(run_count(&fx, "index/"), 1);
	recover(&fx, &st);
	assert_int_equal(st.resumed_packs, 0);	/* they have a name now */
	run_fx_done(&fx);
}

/* What an interrupted run put may be shown without being durable: a run that builds upon it makes it so first. */
static void test_writer__what_is_built_upon_is_synced(void **state)
{
	static const char *const prefixes[] = { "data/", "nodes/", "index/" };
	struct repo_writer_opts o = { .vm = "vm" };
	struct repo_writer_stats st;
	struct run_fx fx;
	struct repo_writer *w;
	struct tree_ref t;
	struct err e = ERR_INIT;

	(void)state;
	run_fx_new(&fx);
	fx.op = "sync";
	fx.prefix = "data/";
	fx.fail_at = 1;
	fx.fail_code = ERR_IO;
	for (int i = 0; i < 2; i++)	/* runs that ended left nothing to sync */
		assert_ok(run_backup(&fx, 2, 10, false, &t, &st, &e), &e);
	run_fx_calm(&fx);
	fx.op = "put";
	fx.prefix = "index/";
	fx.when = STORE_FAULT_AFTER;
	fx.fail_at = 1;
	fx.fail_code = ERR_IO;
	w = open_writer(&fx, 2);
	assert_ok(run_disk(&fx, w, 1, CHUNKS, &t, &e), &e);
	assert_err(repo_writer_flush(w, &e), ERR_IO, &e);
	err_clear(&e);
	repo_writer_close(w, false);
	assert_int_equal(run_count(&fx, "end/"), 2);
	for (size_t i = 0; i < 3; i++) {
		run_fx_calm(&fx);
		fx.op = "sync";
		fx.prefix = prefixes[i];
		fx.fail_at = 1;
		fx.fail_code = ERR_IO;
		assert_err(repo_writer_open(fx.repo, &o, &w, &e), ERR_IO, &e);
		err_clear(&e);
	}
	run_fx_calm(&fx);
	recover(&fx, &st);
	assert_int_equal(st.chunks_new, 0);
	run_fx_done(&fx);
}

static int damage(struct run_fx *fx, const char *name, bool in_segment, struct err *e)
{
	uint8_t *p = NULL;
	size_t len;

	assert_ok(store_get(fx->store, name, 64 << 20, &p, &len, e), e);
	p[in_segment ? 10 : len - 100] ^= 1;
	assert_ok(store_put(fx->store, name, p, len, 0, e), e);
	free(p);
	return 0;
}

/* Damage one byte of every object listed. */
static int damage_segment(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	(void)st;
	return damage(opaque, name, true, e);
}

static int damage_directory(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	(void)st;
	return damage(opaque, name, false, e);
}

static void damaged_orphans(bool in_segment)
{
	struct repo_writer_stats st;
	struct run_fx fx;
	struct repo_writer *w;
	struct tree_ref t;
	struct err e = ERR_INIT;

	run_fx_new(&fx);
	fx.op = "put";
	fx.prefix = "index/";
	fx.fail_at = 1;
	fx.fail_code = ERR_IO;
	w = open_writer(&fx, 2);
	assert_ok(run_disk(&fx, w, 1, CHUNKS, &t, &e), &e);
	assert_err(repo_writer_flush(w, &e), ERR_IO, &e);
	repo_writer_close(w, false);
	run_fx_calm(&fx);
	assert_ok(store_list(fx.store, "data/", in_segment ? damage_segment : damage_directory, &fx, &e), &e);
	recover(&fx, &st);
	assert_int_equal(st.resumed_packs, run_count(&fx, "nodes/"));
	assert_true(st.chunks_new > 1000);
	assert_true(atomic_load(&fx.notices) > 0);
	run_fx_done(&fx);
}

static void test_writer__damaged_orphans_are_left_alone(void **state)
{
	(void)state;
	damaged_orphans(false);
	damaged_orphans(true);
}

static void test_writer__cancel_saves_what_is_durable(void **state)
{
	/* the least memory, so that little is on its way when the end comes */
	struct repo_writer_opts o = { .vm = "vm", .threads = 2, .max_bytes = 1 };
	struct repo_writer_stats st;
	struct run_fx fx;
	struct repo_writer *w = NULL;
	struct tree_ref t;
	struct err e = ERR_INIT;
	unsigned packs;

	(void)state;
	run_fx_new(&fx);
	assert_ok(repo_writer_open(fx.repo, &o, &w, &e), &e);
	assert_ok(run_disk(&fx, w, 1, CHUNKS, &t, &e), &e);
	cancel_request(&fx.cancel);
	assert_err(run_disk(&fx, w, 2, CHUNKS, &t, &e), ERR_CANCELLED, &e);
	assert_err(repo_writer_flush(w, &e), ERR_CANCELLED, &e);
	repo_writer_close(w, true);
	packs = run_count(&fx, "data/");
	assert_true(packs >= 1);
	assert_int_equal(run_count(&fx, "index/"), 1);
	assert_int_equal(run_count(&fx, "end/"), 1);
	assert_int_equal(run_count(&fx, "manifests/"), 0);
	recover(&fx, &st);
	assert_int_equal(st.resumed_packs, 0);
	assert_true(st.chunks_new < 600);	/* of 1060: what was not sealed yet */
	run_fx_done(&fx);
}

static void test_writer__close_without_commit_keeps_all(void **state)
{
	struct repo_writer_stats st;
	struct run_fx fx;
	struct repo_writer *w;
	struct tree_ref t;
	struct err e = ERR_INIT;

	(void)state;
	run_fx_new(&fx);
	w = open_writer(&fx, 2);
	assert_ok(run_disk(&fx, w, 1, CHUNKS, &t, &e), &e);
	repo_writer_close(w, true);
	recover(&fx, &st);
	assert_int_equal(st.chunks_new, 0);
	run_fx_done(&fx);
}

static void test_writer__lost_reply_of_the_commit(void **state)
{
	struct run_fx fx;
	struct tree_ref t;
	struct err e = ERR_INIT;
	char text[2048];

	(void)state;
	run_fx_new(&fx);
	fx.op = "put";
	fx.prefix = "manifests/";
	fx.when = STORE_FAULT_AFTER;
	fx.fail_at = 1;
	fx.fail_code = ERR_TRANSIENT;
	assert_ok(run_backup(&fx, 1, 100, true, &t, NULL, &e), &e);	/* the store can say that it is there */
	assert_int_equal(run_count(&fx, "end/"), 1);
	run_fx_calm(&fx);
	fx.op = "put";
	fx.prefix = "manifests/";
	fx.when = STORE_FAULT_AFTER;
	fx.fail_at = 1;
	fx.fail_code = ERR_TRANSIENT;
	fx.stat_fails = true;
	assert_int_equal(run_backup(&fx, 2, 100, true, &t, NULL, &e), ERR_TRANSIENT);
	assert_has(err_text(&e, text, sizeof(text)), "outcome unknown");
	assert_true(e.hint[0]);
	assert_int_equal(run_count(&fx, "end/"), 1);
	fx.stat_fails = false;
	fx.when = STORE_FAULT_BEFORE;
	err_clear(&e);
	atomic_store(&fx.calls, 0);
	assert_int_equal(run_backup(&fx, 3, 100, true, &t, NULL, &e), ERR_TRANSIENT);	/* known: it is not there */
	assert_null(strstr(err_text(&e, text, sizeof(text)), "outcome unknown"));
	assert_int_equal(run_count(&fx, "end/"), 1);	/* but what timed out may arrive yet */
	run_fx_done(&fx);
}

/* A folder that can't be synced shows what the next power cut takes away: only a put that succeeds is a commit. */
static void test_writer__a_commit_that_is_there_but_not_durable(void **state)
{
	struct run_fx fx;
	struct tree_ref t;
	struct err e = ERR_INIT;
	char text[2048];

	(void)state;
	run_fx_new(&fx);
	fx.op = "put";
	fx.prefix = "manifests/";
	fx.when = STORE_FAULT_AFTER;
	fx.fail_at = 1;
	fx.fail_code = ERR_IO;
	assert_int_equal(run_backup(&fx, 1, 100, true, &t, NULL, &e), ERR_IO);
	assert_has(err_text(&e, text, sizeof(text)), "outcome unknown");
	assert_int_equal(run_count(&fx, "manifests/"), 1);
	assert_int_equal(run_count(&fx, "end/"), 0);
	err_clear(&e);
	atomic_store(&fx.calls, 0);
	fx.fail_calls = 1;		/* the second time it is */
	assert_ok(run_backup(&fx, 2, 100, true, &t, NULL, &e), &e);
	assert_int_equal(atomic_load(&fx.calls), 2);
	assert_int_equal(run_count(&fx, "manifests/"), 2);
	assert_int_equal(run_count(&fx, "end/"), 1);
	atomic_store(&fx.calls, 0);
	fx.when = STORE_FAULT_BEFORE;
	fx.fail_calls = 0;
	fx.fail_code = ERR_NOSPACE;	/* known: it is not there */
	assert_int_equal(run_backup(&fx, 3, 100, true, &t, NULL, &e), ERR_NOSPACE);
	assert_int_equal(run_count(&fx, "end/"), 2);
	run_fx_done(&fx);
}

/* A store that does not answer has not evicted anybody. */
static void test_writer__no_answer_is_no_eviction(void **state)
{
	struct run_fx fx;
	struct repo_writer *w;
	struct manifest *m;
	struct tree_ref t;
	struct id id;
	struct err e = ERR_INIT;
	char text[2048];

	(void)state;
	run_fx_new(&fx);
	w = open_writer(&fx, 2);
	assert_ok(run_disk(&fx, w, 1, 100, &t, &e), &e);
	assert_ok(repo_writer_flush(w, &e), &e);
	fx.op = "list";
	fx.prefix = "eviction/";
	fx.fail_at = 1;
	fx.fail_code = ERR_TRANSIENT;
	m = run_manifest(&t);
	assert_int_equal(repo_writer_commit(w, m, &id, &e), ERR_TRANSIENT);
	assert_has(err_text(&e, text, sizeof(text)), "outcome unknown");
	assert_int_equal(run_count(&fx, "manifests/"), 1);
	manifest_free(m);
	repo_writer_close(w, true);
	assert_int_equal(run_count(&fx, "end/"), 0);
	run_fx_done(&fx);
}

static void evict(struct run_fx *fx, const struct session_id *session)
{
	struct protocol_object p = { .type = OBJECT_EVICTION,
				     .session = { { 9 } },
				     .evicted_slot = *repo_own_slot(fx->repo),
				     .evicted_session = *session };
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;

	assert_ok(protocol_put(fx->repo, &p, name, &e), &e);
}

static void test_writer__an_evicted_run_does_not_stand(void **state)
{
	struct run_fx fx;
	struct err e = ERR_INIT;

	(void)state;
	run_fx_new(&fx);
	for (unsigned late = 0; late < 2; late++) {	/* before the index run; between it and the commit */
		struct repo_writer *w = open_writer(&fx, 2);
		struct manifest *m;
		struct tree_ref t;
		struct id id;

		assert_ok(run_disk(&fx, w, 10 + late, 100, &t, &e), &e);
		if (late)
			assert_ok(repo_writer_flush(w, &e), &e);
		evict(&fx, repo_writer_session(w));
		m = run_manifest(&t);
		assert_err(repo_writer_commit(w, m, &id, &e), ERR_TRANSIENT, &e);
		assert_int_equal(run_count(&fx, "manifests/"), late);
		manifest_free(m);
		repo_writer_close(w, true);
		assert_int_equal(run_count(&fx, "end/"), 0);
	}
	run_fx_done(&fx);
}

static void *backup_thread(void *arg)
{
	struct run_fx *fx = arg;
	struct tree_ref t;
	struct err e = ERR_INIT;

	assert_ok(run_backup(fx, 1, CHUNKS, false, &t, NULL, &e), &e);
	return NULL;
}

static void test_writer__two_at_once(void **state)
{
	struct run_fx fx;
	struct repo_writer_stats st;
	pthread_t other;

	(void)state;
	run_fx_new(&fx);
	assert_int_equal(pthread_create(&other, NULL, backup_thread, &fx), 0);
	(void)backup_thread(&fx);
	pthread_join(other, NULL);
	assert_int_equal(run_count(&fx, "manifests/"), 2);
	recover(&fx, &st);
	assert_int_equal(st.chunks_new, 0);
	run_fx_done(&fx);
}

static void test_writer__refuses_a_domain_without_key(void **state)
{
	struct run_fx fx;
	struct repo_writer *w;
	struct err e = ERR_INIT;
	struct id id = { { 1 } };

	(void)state;
	run_fx_new(&fx);
	w = open_writer(&fx, 1);
	assert_err(repo_writer_add_chunk(w, "nobody", &id, calloc(1, RUN_CHUNK), &e), ERR_AUTH, &e);
	repo_writer_close(w, false);
	run_fx_done(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writer__second_run_stores_no_chunk),
		cmocka_unit_test(test_writer__commit_fills_in_the_chain),
		cmocka_unit_test(test_writer__equal_ids_are_stored_once),
		cmocka_unit_test(test_writer__add_bytes_reads_back),
		cmocka_unit_test(test_writer__layout_does_not_depend_on_threads),
		cmocka_unit_test(test_writer__small_budget_is_enough),
		cmocka_unit_test(test_writer__buffers_of_packs),
		cmocka_unit_test(test_writer__every_put_may_fail),
		cmocka_unit_test(test_writer__orphans_are_used_again),
		cmocka_unit_test(test_writer__what_is_built_upon_is_synced),
		cmocka_unit_test(test_writer__damaged_orphans_are_left_alone),
		cmocka_unit_test(test_writer__cancel_saves_what_is_durable),
		cmocka_unit_test(test_writer__close_without_commit_keeps_all),
		cmocka_unit_test(test_writer__lost_reply_of_the_commit),
		cmocka_unit_test(test_writer__a_commit_that_is_there_but_not_durable),
		cmocka_unit_test(test_writer__no_answer_is_no_eviction),
		cmocka_unit_test(test_writer__an_evicted_run_does_not_stand),
		cmocka_unit_test(test_writer__two_at_once),
		cmocka_unit_test(test_writer__refuses_a_domain_without_key),
	};

	alarm(600);	/* a deadlock must end the test */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
