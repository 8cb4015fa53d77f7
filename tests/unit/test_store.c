/*
 * test_store.c - one conformance suite for every kind of store, and fault injection.  With KEDGE_TEST_S3 it runs on that
 * location alone (a real server), each test below a prefix of its own.
 */
#include "tests/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/num.h"
#include "tests/support/folder.h"
#include "tests/support/s3.h"
#include "tests/support/store.h"
#include "transport/registry.h"

enum kind { LOCAL, MEM, FAULT, S3 };

struct fixture {
	enum kind kind;
	char *root;		/* folder that holds the store; NULL for memory */
	char *path;		/* of the store */
	struct store *s;
	/* the fault store's hook: fail the op named so, then, when the countdown reaches 0 */
	const char *fail_op;
	enum store_fault_when fail_when;
	int countdown;
	bool corrupt_reads, corrupt_puts;
	int calls;
};

static int hook(void *opaque, const struct store_fault_call *c, struct err *e)
{
	struct fixture *f = opaque;

	if (f->corrupt_reads && strcmp(c->op, "read") == 0 && c->when == STORE_FAULT_AFTER && c->len)
		((uint8_t *)c->buf)[0] ^= 1;
	if (f->corrupt_puts && strcmp(c->op, "put") == 0 && c->when == STORE_FAULT_BEFORE && c->len)
		((uint8_t *)c->buf)[0] ^= 1;
	if (!f->fail_op || strcmp(c->op, f->fail_op) != 0 || c->when != f->fail_when)
		return 0;
	f->calls++;
	return f->countdown-- == 0 ? err_set(e, ERR_TRANSIENT, "injected") : 0;
}

static struct test_s3 *server;	/* one serves all tests of the suite */

static void open_s3(struct fixture *f)
{
	const struct store_opts o = { .s3 = { .self_test = true } };
	const char *real = getenv("KEDGE_TEST_S3");
	struct err e = ERR_INIT;
	char tail[32];

	snprintf(tail, sizeof(tail), "t%d-%ld", getpid(), random());
	if (real) {
		assert_true(asprintf(&f->path, "%s/%s", real, tail) > 0);
	} else {
		test_s3_environment();
		if (!server)
			server = test_s3_new(NULL, NULL);
		f->path = test_s3_location(server, tail);
	}
	assert_ok(store_open_with(f->path, true, &o, &f->s, &e), &e);
}

static struct fixture *fixture_new(enum kind kind)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = ERR_INIT;

	assert_non_null(f);
	f->kind = kind;
	if (kind == MEM) {
		assert_ok(store_mem_new(&f->s, &e), &e);
		return f;
	}
	if (kind == S3) {
		open_s3(f);
		return f;
	}
	f->root = test_folder_new();
	f->path = test_path(f->root, "store");
	assert_ok(store_open(f->path, true, &f->s, &e), &e);
	if (kind == FAULT)
		assert_ok(store_fault_new(f->s, hook, f, &f->s, &e), &e);
	return f;
}

static int setup_local(void **state) { *state = fixture_new(LOCAL); return 0; }
static int setup_mem(void **state) { *state = fixture_new(MEM); return 0; }
static int setup_fault(void **state) { *state = fixture_new(FAULT); return 0; }
static int setup_s3(void **state) { *state = fixture_new(S3); return 0; }

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->s);
	test_folder_done(f->root);
	free(f->path);
	free(f);
	return 0;
}

/* ---- the suite ---- */

static void test_store__put_get(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;
	uint8_t *p = NULL;
	size_t len = 0;

	test_store_put(s, "config", "hello");
	test_store_put(s, "a/b/c/d-1", "deep");
	test_store_put(s, "empty", "");
	test_store_expect(s, "config", "hello");
	test_store_expect(s, "a/b/c/d-1", "deep");
	test_store_expect(s, "empty", "");
	test_store_put(s, "config", "other");
	test_store_expect(s, "config", "other");
	assert_err(store_get(s, "config", 4, &p, &len, &e), ERR_CORRUPT, &e);
	assert_null(p);
	assert_err(store_get(s, "nothing", 4, &p, &len, &e), ERR_NOTFOUND, &e);
	assert_null(p);
}

static void test_store__range(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;
	char buf[16] = "";

	test_store_put(s, "x", "0123456789");
	assert_ok(store_read(s, "x", buf, 3, 0, &e), &e);
	assert_memory_equal(buf, "012", 3);
	assert_ok(store_read(s, "x", buf, 4, 6, &e), &e);
	assert_memory_equal(buf, "6789", 4);
	assert_ok(store_read(s, "x", buf, 0, 10, &e), &e);
	assert_err(store_read(s, "x", buf, 5, 6, &e), ERR_CORRUPT, &e);
	assert_err(store_read(s, "x", buf, 0, 11, &e), ERR_CORRUPT, &e);
	assert_err(store_read(s, "x", buf, 1, (uint64_t)1 << 40, &e), ERR_CORRUPT, &e);
	assert_err(store_read(s, "y", buf, 1, 0, &e), ERR_NOTFOUND, &e);
	assert_err(store_read(s, "y/z", buf, 1, 0, &e), ERR_NOTFOUND, &e);
	assert_err(store_read(s, "x/z", buf, 1, 0, &e), ERR_NOTFOUND, &e);
}

static void test_store__hostile_lengths(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;
	char buf[16] = "";

	test_store_put(s, "x", "0123456789");
	assert_err(store_read(s, "x", buf, 1, UINT64_MAX, &e), ERR_INVALID, &e);
	assert_err(store_read(s, "x", buf, 2, INT64_MAX, &e), ERR_INVALID, &e);
	assert_err(store_read(s, "x", buf, STORE_READ_MAX + 1, 0, &e), ERR_INVALID, &e);
	assert_err(store_read(s, "x", buf, SIZE_MAX, 1, &e), ERR_INVALID, &e);
	assert_err(store_put(s, "y", buf, STORE_READ_MAX + 1, 0, &e), ERR_INVALID, &e);
}

static void test_store__error_names_the_place(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;
	struct store_stat st;
	char line[1600];

	assert_int_equal(store_stat(s, "packs/none", &st, &e), ERR_NOTFOUND);
	assert_has(err_text(&e, line, sizeof(line)), ": packs/none: no such object");
	assert_has(line, s->location);
}

static void test_store__if_absent(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;

	assert_ok(store_put(s, "p/one", "1", 1, STORE_PUT_IF_ABSENT, &e), &e);
	assert_err(store_put(s, "p/one", "2", 1, STORE_PUT_IF_ABSENT, &e), ERR_EXISTS, &e);
	test_store_expect(s, "p/one", "1");
	assert_ok(store_remove(s, "p/one", &e), &e);
	assert_ok(store_put(s, "p/one", "3", 1, STORE_PUT_IF_ABSENT, &e), &e);
	test_store_expect(s, "p/one", "3");
}

static void test_store__remove(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;
	struct store_stat st;

	test_store_put(s, "p/one", "1");
	test_store_put(s, "p/two", "2");
	assert_ok(store_remove(s, "p/one", &e), &e);
	assert_err(store_stat(s, "p/one", &st, &e), ERR_NOTFOUND, &e);
	assert_err(store_remove(s, "p/one", &e), ERR_NOTFOUND, &e);
	assert_err(store_remove(s, "q/one", &e), ERR_NOTFOUND, &e);
	assert_err(store_remove(s, "p", &e), ERR_NOTFOUND, &e);
	test_store_expect(s, "p/two", "2");
}

static void test_store__remove_many(void **state)
{
	static const char *const names[] = { "p/one", "p/three", "none", "q/r/two" };
	static const char *const bad[] = { "p/two", "../x" };
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;

	test_store_put(s, "p/one", "1");
	test_store_put(s, "p/two", "2");
	test_store_put(s, "p/three", "3");
	test_store_put(s, "q/r/two", "2");
	assert_ok(store_remove_many(s, names, 0, &e), &e);
	assert_ok(store_remove_many(s, names, 4, &e), &e);
	assert_err(store_remove_many(s, bad, 2, &e), ERR_INVALID, &e);
	test_store_expect_list(s, "", "p/two ");
}

static void test_store__stat(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct store_stat st = { .size = 77 };
	struct err e = ERR_INIT;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	test_store_put(s, "p/one", "12345");
	assert_ok(store_stat(s, "p/one", &st, &e), &e);
	assert_int_equal(st.size, 5);
	assert_true(st.mtime_ns / 1000000000 >= now.tv_sec - 60 && st.mtime_ns / 1000000000 <= now.tv_sec + 60);
	st.size = 77;
	assert_err(store_stat(s, "p", &st, &e), ERR_NOTFOUND, &e);
	assert_int_equal(st.size, 77);
}

static void test_store__list(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;

	test_store_expect_list(s, "", "");
	test_store_expect_list(s, "packs/", "");
	test_store_put(s, "config", "c");
	test_store_put(s, "packs/1/a", "1a");
	test_store_put(s, "packs/1/b", "1b");
	test_store_put(s, "packs/11/a", "11a");
	test_store_put(s, "packs-x", "x");
	test_store_expect_list(s, "", "config packs-x packs/1/a packs/1/b packs/11/a ");
	test_store_expect_list(s, "packs/", "packs/1/a packs/1/b packs/11/a ");
	test_store_expect_list(s, "packs/1/", "packs/1/a packs/1/b ");
	test_store_expect_list(s, "packs/1/a/", "");
	test_store_expect_list(s, "pack/", "");
	test_store_expect_list(s, "config/", "");
}

static void test_store__list_stops(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct test_seen two = { .stop_after = 2, .stop_with = 1 }, bad = { .stop_after = 1, .stop_with = ERR_CORRUPT };
	struct err e = ERR_INIT;
	char line[1600];

	test_store_put(s, "a/1", "1");
	test_store_put(s, "a/b/2", "2");
	test_store_put(s, "a/b/c/3", "3");
	assert_int_equal(store_list(s, "", test_see, &two, &e), 0);
	assert_int_equal(two.n, 2);
	assert_int_equal(store_list(s, "a/", test_see, &bad, &e), ERR_CORRUPT);
	assert_int_equal(bad.n, 1);
	assert_string_equal(err_text(&e, line, sizeof(line)), "enough");
}

static void test_store__list_while_removing(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct test_seen seen = { .remove_from = s };
	struct err e = ERR_INIT;
	char name[20];

	for (int i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "a/%d/%d", i % 3, i);
		test_store_put(s, name, "0123456789");
	}
	assert_ok(store_list(s, "a/", test_see, &seen, &e), &e);
	assert_int_equal(seen.n, 30);
	assert_int_equal(seen.bytes, 300);
	test_store_expect_list(s, "", "");
}

static void test_store__bad_names(void **state)
{
	static const char *const bad[] = {
		"",  "/",   "/a",  "a/",  "a//b", ".",	      "..",   "../a", "a/../b", "a/./b", ".tmp/x",
		"A", "a b", "a_b", "a.b", "a\n",  "\xc3\xa9", "a\\b", "a:b",  "a%b",	"a*",
	};
	struct store *s = ((struct fixture *)*state)->s;
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;
	struct store_stat st;
	char longest[STORE_NAME_MAX + 2];
	char b;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_false(store_name_ok(bad[i]));
		assert_err(store_put(s, bad[i], "x", 1, 0, &e), ERR_INVALID, &e);
		assert_err(store_read(s, bad[i], &b, 1, 0, &e), ERR_INVALID, &e);
		assert_err(store_remove(s, bad[i], &e), ERR_INVALID, &e);
		assert_err(store_stat(s, bad[i], &st, &e), ERR_INVALID, &e);
		if (*bad[i] && bad[i][strlen(bad[i]) - 1] != '/')
			assert_err(store_list(s, bad[i], test_see, &seen, &e), ERR_INVALID, &e);
	}
	assert_err(store_list(s, "config", test_see, &seen, &e), ERR_INVALID, &e);
	assert_err(store_list(s, "/", test_see, &seen, &e), ERR_INVALID, &e);
	assert_err(store_list(s, "a//", test_see, &seen, &e), ERR_INVALID, &e);
	assert_err(store_list(s, "../", test_see, &seen, &e), ERR_INVALID, &e);
	memset(longest, 'a', sizeof(longest));
	longest[STORE_NAME_MAX + 1] = '\0';
	assert_err(store_put(s, longest, "x", 1, 0, &e), ERR_INVALID, &e);
	longest[STORE_NAME_MAX] = '\0';
	assert_true(store_name_ok(longest));
	test_store_put(s, longest, "x");
	for (size_t i = 1; i < STORE_NAME_MAX; i += 2)
		longest[i] = '/';
	longest[STORE_NAME_MAX - 1] = '\0';
	test_store_put(s, longest, "deepest");
	test_store_expect(s, longest, "deepest");
	assert_ok(store_list(s, "", test_see, &seen, &e), &e);
	assert_int_equal(seen.n, 2);
}

#define LARGE_BYTES ((size_t)33 << 20)

static void test_store__large(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	CLEANUP(free_ptr) uint32_t *out = malloc(LARGE_BYTES);
	CLEANUP(free_ptr) uint8_t *in = NULL;
	struct err e = ERR_INIT;
	uint32_t part[4];
	size_t len;

	assert_non_null(out);
	for (size_t i = 0; i < LARGE_BYTES / 4; i++)
		out[i] = (uint32_t)i * 2654435761U;
	assert_ok(store_put(s, "packs/large", out, LARGE_BYTES, STORE_PUT_IF_ABSENT, &e), &e);
	assert_ok(store_get(s, "packs/large", LARGE_BYTES, &in, &len, &e), &e);
	assert_int_equal(len, LARGE_BYTES);
	assert_memory_equal(in, out, LARGE_BYTES);
	assert_ok(store_read(s, "packs/large", part, sizeof(part), LARGE_BYTES - sizeof(part), &e), &e);
	assert_memory_equal(part, (uint8_t *)out + LARGE_BYTES - sizeof(part), sizeof(part));
	free(STEAL(in));
	assert_err(store_get(s, "packs/large", LARGE_BYTES - 1, &in, &len, &e), ERR_CORRUPT, &e);
}

#define RACERS 4
#define RACES 60

struct race {
	struct store *s;
	atomic_int won[RACES], failures;
};

/* Every racer wants every name; exactly one may get it, and whoever reads it sees a whole object. */
static void *racer(void *opaque)
{
	struct race *r = opaque;
	struct err e = ERR_INIT;
	char name[40], content[5000];

	for (int i = 0; i < RACES; i++) {
		size_t len = 0;
		uint8_t *p = NULL;
		int rc;

		snprintf(name, sizeof(name), "race/%d/x-%d", i % 7, i);
		memset(content, 'a' + i % 26, sizeof(content));
		rc = store_put(r->s, name, content, sizeof(content), STORE_PUT_IF_ABSENT, &e);
		if (rc == 0)
			atomic_fetch_add(&r->won[i], 1);
		else if (rc != ERR_EXISTS)
			atomic_fetch_add(&r->failures, 1);
		err_clear(&e);
		if (store_get(r->s, name, sizeof(content), &p, &len, &e) < 0 || len != sizeof(content) ||
		    memcmp(p, content, len) != 0)
			atomic_fetch_add(&r->failures, 1);
		free(p);
		err_clear(&e);
	}
	return NULL;
}

static void test_store__concurrent_puts(void **state)
{
	struct race r = { .s = ((struct fixture *)*state)->s };
	pthread_t t[RACERS];

	for (int i = 0; i < RACERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, racer, &r), 0);
	for (int i = 0; i < RACERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(r.failures, 0);
	for (int i = 0; i < RACES; i++)
		assert_true(store_caps(r.s)->conditional_put ? r.won[i] == 1 : r.won[i] >= 1);
}

struct churn {
	struct store *s;
	atomic_bool stop;
	atomic_int failures;
};

static void *churner(void *opaque)
{
	struct churn *c = opaque;
	struct err e = ERR_INIT;

	while (!c->stop) {
		for (int i = 0; i < 10; i++) {
			char name[30];

			snprintf(name, sizeof(name), "churn/%d/%d", i % 3, i);
			if (store_put(c->s, name, "x", 1, 0, &e) < 0 || store_remove(c->s, name, &e) < 0)
				atomic_fetch_add(&c->failures, 1);
		}
	}
	return NULL;
}

static int count(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	(void)st, (void)e;
	*(int *)opaque += strncmp(name, "stays/", 6) == 0;
	return 0;
}

/* Objects come and go while a list runs; those that stay are in every list. */
static void test_store__list_under_churn(void **state)
{
	struct churn c = { .s = ((struct fixture *)*state)->s };
	struct err e = ERR_INIT;
	pthread_t t;

	test_store_put(c.s, "stays/1", "1");
	test_store_put(c.s, "stays/2", "2");
	assert_int_equal(pthread_create(&t, NULL, churner, &c), 0);
	for (int i = 0; i < 200; i++) {
		int n = 0;

		assert_ok(store_list(c.s, "", count, &n, &e), &e);
		assert_int_equal(n, 2);
	}
	c.stop = true;
	pthread_join(t, NULL);
	assert_int_equal(c.failures, 0);
}

static void test_store__sync(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;

	test_store_put(s, "a/b/1", "1");
	test_store_put(s, "a/c/d/2", "2");
	assert_ok(store_sync(s, "", &e), &e);
	assert_ok(store_sync(s, "a/", &e), &e);
	assert_ok(store_sync(s, "a/b/", &e), &e);
	assert_ok(store_sync(s, "a/x/y/", &e), &e);	/* that nothing is there is made durable too */
	assert_ok(store_sync(s, "a/b/1/", &e), &e);
	assert_err(store_sync(s, "../", &e), ERR_INVALID, &e);
	err_clear(&e);
	assert_err(store_sync(s, "a", &e), ERR_INVALID, &e);
	err_clear(&e);
	test_store_expect_list(s, "", "a/b/1 a/c/d/2 ");
}

/* ---- fault injection ---- */

static void test_fault__each_op(void **state)
{
	static const char *const ops[] = { "put", "read", "list", "remove", "stat" };
	struct fixture *f = *state;
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;
	struct store_stat st;
	char b;

	for (int when = STORE_FAULT_BEFORE; when <= STORE_FAULT_AFTER; when++) {
		for (size_t i = 0; i < 5; i++) {
			test_store_put(f->s, "x", "1");
			f->fail_op = ops[i];
			f->fail_when = (enum store_fault_when)when;
			f->countdown = 0;
			seen.n = 0;
			assert_int_equal(store_put(f->s, "y", "2", 1, 0, &e), i == 0 ? ERR_TRANSIENT : 0);
			assert_int_equal(store_read(f->s, "x", &b, 1, 0, &e), i == 1 ? ERR_TRANSIENT : 0);
			assert_int_equal(store_list(f->s, "", test_see, &seen, &e), i == 2 ? ERR_TRANSIENT : 0);
			assert_int_equal(store_stat(f->s, "x", &st, &e), i == 4 ? ERR_TRANSIENT : 0);
			assert_int_equal(store_remove(f->s, "x", &e), i == 3 ? ERR_TRANSIENT : 0);
			f->fail_op = NULL;
			/* before: not done; after: done, the reply was lost */
			assert_int_equal(store_stat(f->s, "x", &st, &e),
					 i == 3 && when == STORE_FAULT_BEFORE ? 0 : ERR_NOTFOUND);
			assert_int_equal(store_remove(f->s, "y", &e),
					 i == 0 && when == STORE_FAULT_BEFORE ? ERR_NOTFOUND : 0);
			err_clear(&e);
		}
	}
}

static void test_fault__nth_call(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;

	f->fail_op = "put";
	f->fail_when = STORE_FAULT_BEFORE;
	f->countdown = 2;
	test_store_put(f->s, "a", "1");
	test_store_put(f->s, "b", "1");
	assert_err(store_put(f->s, "c", "1", 1, 0, &e), ERR_TRANSIENT, &e);
	test_store_put(f->s, "d", "1");
	assert_int_equal(f->calls, 4);
	test_store_expect_list(f->s, "", "a b d ");
}

static void test_fault__corruption(void **state)
{
	struct fixture *f = *state;
	const char mine[] = "1";

	f->corrupt_puts = true;
	test_store_put(f->s, "x", mine);
	assert_string_equal(mine, "1");	/* the caller's bytes are not touched */
	f->corrupt_puts = false;
	test_store_expect(f->s, "x", "0");
	f->corrupt_reads = true;
	test_store_expect(f->s, "x", "1");
}

static void test_mem__shares_nothing(void **state)
{
	struct store *s = ((struct fixture *)*state)->s;
	struct err e = ERR_INIT;
	char content[] = "abc";

	assert_ok(store_put(s, "x", content, 3, 0, &e), &e);
	content[0] = 'z';
	test_store_expect(s, "x", "abc");
}

#define SUITE(setup) \
	cmocka_unit_test_setup_teardown(test_store__put_get, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__range, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__hostile_lengths, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__error_names_the_place, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__if_absent, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__remove, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__remove_many, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__stat, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__list, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__list_stops, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__sync, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__list_while_removing, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__bad_names, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__large, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__concurrent_puts, setup, teardown), \
	cmocka_unit_test_setup_teardown(test_store__list_under_churn, setup, teardown)

#define FAULT_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_fault, teardown)

int main(void)
{
	const struct CMUnitTest local[] = {
		SUITE(setup_local),
	};
	const struct CMUnitTest mem[] = {
		SUITE(setup_mem),
		cmocka_unit_test_setup_teardown(test_mem__shares_nothing, setup_mem, teardown),
	};
	const struct CMUnitTest fault[] = {
		SUITE(setup_fault),
		FAULT_TEST(test_fault__each_op),
		FAULT_TEST(test_fault__nth_call),
		FAULT_TEST(test_fault__corruption),
	};
	const struct CMUnitTest s3[] = {
		SUITE(setup_s3),
	};
	int failed = 0;

	srandom((unsigned)time(NULL));
	if (getenv("KEDGE_TEST_S3"))
		return cmocka_run_group_tests(s3, NULL, NULL) != 0;
	failed += cmocka_run_group_tests(s3, NULL, NULL);
	test_s3_free(server);
	failed += cmocka_run_group_tests(local, NULL, NULL);
	failed += cmocka_run_group_tests(mem, NULL, NULL);
	failed += cmocka_run_group_tests(fault, NULL, NULL);
	return failed != 0;
}
