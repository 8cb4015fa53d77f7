/* Checking: a whole repository gives no finding; each kind of damage is found, and mapped to the points and bytes that
 * it touches. */
#include "tests/test.h"

#include "repo/backups.h"
#include "repo/check.h"
#include "repo/index.h"
#include "repo/pack.h"
#include "tests/support/pack.h"
#include "tests/support/repo.h"
#include "tests/support/run.h"
#include "transport/store.h"

#define CHUNKS 3000u

struct found {
	unsigned n, ranges, by_severity[3];
	uint64_t lost[2];		/* bytes, of each backup */
	char what[64][24];
	char object[64][OBJECT_NAME_BYTES];
	const struct backup_list *backups;
	int stop;
};

static int take(void *opaque, const struct check_finding *f, struct err *e)
{
	struct found *o = opaque;

	assert_non_null(f->what);
	assert_non_null(f->text);
	o->by_severity[f->severity]++;
	if (o->n < 64) {
		snprintf(o->what[o->n], sizeof(o->what[0]), "%s", f->what);
		snprintf(o->object[o->n], sizeof(o->object[0]), "%s", f->object ? f->object : "");
	}
	o->n++;
	if (!strcmp(f->what, "range-lost")) {
		o->ranges++;
		assert_true(f->len > 0);
		assert_string_equal(f->point, "current");
		assert_non_null(f->disk);
		for (size_t i = 0; o->backups && i < o->backups->n; i++)
			if (!strcmp(o->backups->p[i].name, f->manifest))
				o->lost[i] += f->len;
	}
	return o->stop ? err_set(e, ERR_IO, "stop") : 0;
}

static bool has(const struct found *f, const char *what)
{
	for (unsigned i = 0; i < f->n && i < 64; i++)
		if (!strcmp(f->what[i], what))
			return true;
	return false;
}

static struct check_result check(struct run_fx *fx, enum check_read read, struct found *f)
{
	struct check_opts o = { .read = read, .percent = 100, .threads = 2, .max_bytes = 1 };
	struct check_result res = { 0 };
	struct err e = ERR_INIT;
	const struct backup_list *l = f->backups;

	*f = (struct found){ .backups = l };
	assert_ok(repo_check(fx->repo, &o, take, f, &res, &e), &e);
	assert_int_equal(res.infos, f->by_severity[CHECK_INFO]);
	assert_int_equal(res.warnings, f->by_severity[CHECK_WARNING]);
	assert_int_equal(res.damages, f->by_severity[CHECK_DAMAGE]);
	return res;
}

struct fixture {
	struct run_fx fx;
	struct tree_ref t[2];
	struct backup_list l;
	struct found f;
};

/* Two backups: a large disk, and a small one with other content. */
static void setup(struct fixture *x)
{
	struct err e = ERR_INIT;

	memset(x, 0, sizeof(*x));
	run_fx_new(&x->fx);
	assert_ok(run_backup(&x->fx, 1, CHUNKS, false, &x->t[0], NULL, &e), &e);
	assert_ok(run_backup(&x->fx, 2, 100, false, &x->t[1], NULL, &e), &e);
	run_fx_calm(&x->fx);
	assert_ok(repo_backups(x->fx.repo, NULL, &x->l, NULL, &e), &e);
	assert_int_equal(x->l.n, 2);
	x->f.backups = &x->l;
}

static void teardown(struct fixture *x)
{
	backup_list_free(&x->l);
	run_fx_done(&x->fx);
}

struct largest {
	const char *prefix;
	char name[OBJECT_NAME_BYTES];
	uint64_t size;
};

static int see(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct largest *l = opaque;

	(void)e;
	if (st->size > l->size) {
		l->size = st->size;
		snprintf(l->name, sizeof(l->name), "%s", name);
	}
	return 0;
}

static struct largest largest(struct run_fx *fx, const char *prefix)
{
	struct largest l = { .prefix = prefix };
	struct err e = ERR_INIT;

	assert_ok(store_list(fx->store, prefix, see, &l, &e), &e);
	assert_true(l.size > 0);
	return l;
}

/* Flips a bit, or (at UINT64_MAX) removes the object; returns what mend puts back. */
static uint8_t *damage(struct run_fx *fx, const struct largest *l, uint64_t at)
{
	struct err e = ERR_INIT;
	uint8_t *p = NULL;
	size_t len;

	assert_ok(store_get(fx->store, l->name, PACK_MAX_BYTES, &p, &len, &e), &e);
	if (at == UINT64_MAX) {
		assert_ok(store_remove(fx->store, l->name, &e), &e);
		return p;
	}
	p[at] ^= 1;
	assert_ok(store_put(fx->store, l->name, p, len, 0, &e), &e);
	p[at] ^= 1;
	return p;
}

static void mend(struct run_fx *fx, const struct largest *l, uint8_t *p)
{
	struct err e = ERR_INIT;

	assert_ok(store_put(fx->store, l->name, p, (size_t)l->size, 0, &e), &e);
	free(p);
}

static void test_check__whole_repository(void **state)
{
	struct fixture x;
	struct check_result r;

	(void)state;
	setup(&x);
	for (int read = CHECK_READ_NONE; read <= CHECK_READ_ALL; read++) {
		r = check(&x.fx, (enum check_read)read, &x.f);
		if (x.f.n)
			fail_msg("%s: %s", x.f.what[0], x.f.object[0]);
		assert_int_equal(r.backups, 2);
		assert_int_equal(r.points, 2);
		assert_int_equal(r.points_damaged, 0);
		assert_true(r.chunks >= 2000 && r.nodes >= 13 && r.packs >= 4);
		assert_int_equal(r.packs_read, read ? r.packs : 0);
		assert_true(read ? r.chunks_read > r.chunks && r.bytes_read > 1 << 20 : !r.chunks_read);
	}
	teardown(&x);
}

static void test_check__percent_is_drawn_by_seed(void **state)
{
	struct check_opts o = { .read = CHECK_READ_PERCENT, .percent = 30 };
	struct check_result a, b;
	struct err e = ERR_INIT;
	struct fixture x;
	struct found f = { 0 };

	(void)state;
	setup(&x);
	assert_ok(repo_check(x.fx.repo, &o, take, &f, &a, &e), &e);
	assert_true(a.seed != 0);
	assert_int_equal(a.packs_read, (a.packs * 30 + 99) / 100);
	o.seed = a.seed;
	assert_ok(repo_check(x.fx.repo, &o, take, &f, &b, &e), &e);
	assert_int_equal(a.bytes_read, b.bytes_read);
	assert_int_equal(a.seed, b.seed);
	o.percent = 0;
	assert_err(repo_check(x.fx.repo, &o, take, &f, &b, &e), ERR_INVALID, &e);
	o.percent = 101;
	assert_err(repo_check(x.fx.repo, &o, take, &f, &b, &e), ERR_INVALID, &e);
	teardown(&x);
}

static void test_check__missing_data_pack(void **state)
{
	struct check_result r;
	struct largest l;
	struct fixture x;
	uint8_t *p;

	(void)state;
	setup(&x);
	l = largest(&x.fx, "data/");
	p = damage(&x.fx, &l, UINT64_MAX);
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_string_equal(x.f.what[0], "pack-missing");
	assert_string_equal(x.f.object[0], l.name);
	assert_int_equal(r.packs_missing, 1);
	assert_true(r.chunks_lost > 100);
	assert_int_equal(r.points_damaged, 1);		/* the large disk's */
	assert_true(has(&x.f, "range-lost"));
	assert_true(x.f.ranges <= 20);
	assert_true((x.f.lost[0] > 0) + (x.f.lost[1] > 0) == 1);
	mend(&x.fx, &l, p);
	(void)check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_int_equal(x.f.n, 0);
	teardown(&x);
}

/* One segment of content: only reading finds it; its chunks, and no others, are lost. */
static void test_check__damaged_segment(void **state)
{
	struct check_result r;
	struct largest l;
	struct fixture x;
	uint8_t *p;

	(void)state;
	setup(&x);
	l = largest(&x.fx, "data/");
	p = damage(&x.fx, &l, 1000);
	(void)check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_int_equal(x.f.n, 0);
	r = check(&x.fx, CHECK_READ_ALL, &x.f);
	assert_string_equal(x.f.what[0], "pack-damaged");
	assert_string_equal(x.f.object[0], l.name);
	assert_int_equal(r.packs_damaged, 1);
	assert_true(r.chunks_lost >= 1 && r.chunks_lost <= 64);	/* a segment of 256 KiB */
	assert_true(x.f.lost[0] + x.f.lost[1] >= r.chunks_lost * RUN_CHUNK);
	assert_int_equal((x.f.lost[0] + x.f.lost[1]) % RUN_CHUNK, 0);
	assert_true(r.points_damaged >= 1);
	mend(&x.fx, &l, p);
	teardown(&x);
}

/* Padding and salt: nothing is lost, and it is told. */
static void test_check__damage_that_touches_nothing(void **state)
{
	struct check_result r;
	struct largest l;
	struct fixture x;
	struct trailer t;
	struct err e = ERR_INIT;
	uint8_t *p, end[TRAILER_BYTES];

	(void)state;
	setup(&x);
	l = largest(&x.fx, "data/");
	assert_ok(store_read(x.fx.store, l.name, end, TRAILER_BYTES, l.size - TRAILER_BYTES, &e), &e);
	assert_ok(trailer_decode(end, l.size, &t, &e), &e);
	p = damage(&x.fx, &l, t.envelope_off - 1);
	r = check(&x.fx, CHECK_READ_ALL, &x.f);
	assert_int_equal(x.f.n, 1);
	assert_string_equal(x.f.what[0], "pack-altered");
	assert_int_equal(r.damages, 1);
	assert_int_equal(r.points_damaged, 0);
	mend(&x.fx, &l, p);
	teardown(&x);
}

static void test_check__damaged_directory(void **state)
{
	struct check_result r;
	struct largest l;
	struct fixture x;
	uint8_t *p;

	(void)state;
	setup(&x);
	l = largest(&x.fx, "data/");
	p = damage(&x.fx, &l, l.size - TRAILER_BYTES - 50);
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_string_equal(x.f.what[0], "pack-damaged");
	assert_true(r.chunks_lost > 100 && r.points_damaged >= 1);
	mend(&x.fx, &l, p);
	teardown(&x);
}

static void test_check__missing_nodes(void **state)
{
	struct check_result r;
	struct largest l;
	struct fixture x;
	uint8_t *p;

	(void)state;
	setup(&x);
	l = largest(&x.fx, "nodes/");
	p = damage(&x.fx, &l, UINT64_MAX);
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_true(has(&x.f, "pack-missing") && has(&x.f, "node-lost") && has(&x.f, "range-lost"));
	assert_int_equal(r.points_damaged, 1);
	/* the root is gone: the whole disk is */
	assert_true(x.f.lost[0] == CHUNKS * RUN_CHUNK || x.f.lost[1] == CHUNKS * RUN_CHUNK);
	mend(&x.fx, &l, p);
	teardown(&x);
}

static void test_check__damaged_runs(void **state)
{
	struct check_result r;
	struct largest l;
	struct fixture x;
	uint8_t *p;

	(void)state;
	setup(&x);
	l = largest(&x.fx, "index/");
	p = damage(&x.fx, &l, 5000);		/* a block */
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_true(has(&x.f, "run-damaged"));
	assert_int_equal(r.chunks_lost, 0);
	mend(&x.fx, &l, p);
	p = damage(&x.fx, &l, l.size - TRAILER_BYTES - 30);	/* the tail */
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_true(has(&x.f, "runs-damaged"));
	assert_int_equal(r.chunks_lost, 0);
	assert_int_equal(r.points_damaged, 0);
	mend(&x.fx, &l, p);
	p = damage(&x.fx, &l, UINT64_MAX);	/* gone: the packs are there, nobody names them, and they serve */
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_true(has(&x.f, "run-missing"));
	assert_true(r.packs_unnamed > 0 && r.points_damaged == 0 && r.chunks_lost == 0);
	mend(&x.fx, &l, p);
	teardown(&x);
}

/* A run that says of a pack what its directory does not; and one that leaves chunks out. */
static void test_check__index_against_directories(void **state)
{
	static const struct session_id session = { { 7 } };
	struct directory *d = NULL;
	struct index *ix = NULL;
	struct err e = ERR_INIT;
	struct check_result r;
	struct segment_item it[4] = { 0 };
	uint8_t plain[4][RUN_CHUNK];
	struct test_pack p;
	struct fixture x;
	uint64_t bytes;

	(void)state;
	setup(&x);
	for (unsigned i = 0; i < 4; i++) {
		run_chunk(77, i, plain[i]);
		it[i] = (struct segment_item){ .plain = plain[i], .len = RUN_CHUNK };
		test_id_of_chunk(x.fx.repo, NULL, plain[i], RUN_CHUNK, &it[i].id);
	}
	test_pack_put(x.fx.repo, &session, PACK_DATA, it, 4, 2, 3, &p);
	assert_ok(index_load(x.fx.repo, NULL, NULL, &ix, NULL, &e), &e);
	d = p.d;
	d->chunks.p[1].id.b[0] ^= 1;
	d->chunks.p[3].id.b[0] ^= 1;
	assert_ok(index_add_directory(ix, p.name, p.size, p.envelope_off, p.envelope_len, d, &e), &e);
	assert_ok(index_store_run(ix, &session, &bytes, &e), &e);
	index_free(ix);
	test_pack_done(&p);
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_true(has(&x.f, "index-wrong"));
	assert_true(has(&x.f, "index-incomplete"));
	assert_int_equal(r.damages, 2);
	assert_int_equal(r.points_damaged, 0);		/* no backup needs it */
	teardown(&x);
}

static void test_check__manifests_stray_objects_and_stopping(void **state)
{
	struct check_opts o = { 0 };
	struct check_result r;
	struct err e = ERR_INIT;
	struct largest l;
	struct fixture x;
	uint8_t *p;

	(void)state;
	setup(&x);
	assert_ok(store_put(x.fx.store, "data/what", "x", 1, 0, &e), &e);
	(void)check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_int_equal(x.f.n, 1);
	assert_string_equal(x.f.what[0], "object-unknown");
	assert_int_equal(x.f.by_severity[CHECK_INFO], 1);
	x.f.stop = 1;
	assert_err(repo_check(x.fx.repo, &o, take, &x.f, &r, &e), ERR_IO, &e);
	assert_ok(store_remove(x.fx.store, "data/what", &e), &e);
	l = largest(&x.fx, "manifests/");
	p = damage(&x.fx, &l, 200);
	r = check(&x.fx, CHECK_READ_NONE, &x.f);
	assert_true(has(&x.f, "manifest-unusable"));
	assert_int_equal(r.backups, 1);
	mend(&x.fx, &l, p);
	cancel_request(&x.fx.cancel);
	assert_err(repo_check(x.fx.repo, &o, take, &x.f, &r, &e), ERR_CANCELLED, &e);
	teardown(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check__whole_repository),
		cmocka_unit_test(test_check__percent_is_drawn_by_seed),
		cmocka_unit_test(test_check__missing_data_pack),
		cmocka_unit_test(test_check__damaged_segment),
		cmocka_unit_test(test_check__damage_that_touches_nothing),
		cmocka_unit_test(test_check__damaged_directory),
		cmocka_unit_test(test_check__missing_nodes),
		cmocka_unit_test(test_check__damaged_runs),
		cmocka_unit_test(test_check__index_against_directories),
		cmocka_unit_test(test_check__manifests_stray_objects_and_stopping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
