/* test_s3.c - an S3 server that misbehaves, and where credentials come from: the store against tests/s3/fixture.py. */
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "tests/support/folder.h"
#include "tests/support/s3.h"
#include "tests/support/store.h"
#include "transport/registry.h"

struct fixture {
	struct test_s3 *server;
	char *location, *dir;
	struct store_opts o;
	struct cancel cancel;
	char notice[512];
	int notices;
};

static void on_notice(void *opaque, const char *text)
{
	struct fixture *f = opaque;

	f->notices++;
	snprintf(f->notice, sizeof(f->notice), "%s", text);
}

static int group_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->server = test_s3_new(NULL, NULL);
	f->location = test_s3_location(f->server, "p");
	f->dir = test_folder_new();
	*state = f;
	return 0;
}

static int group_teardown(void **state)
{
	struct fixture *f = *state;

	test_s3_free(f->server);
	test_folder_done(f->dir);
	free(f->location);
	free(f);
	return 0;
}

static int setup(void **state)
{
	struct fixture *f = *state;

	test_s3_clear(f->server);
	test_s3_environment();
	f->notices = 0;
	f->cancel = (struct cancel){ 0 };
	f->o = (struct store_opts){ .s3 = { .notice = on_notice, .opaque = f, .cancel = &f->cancel,
					    .limits = { .connect_ms = 2000, .stall_s = 2, .total_s = 20, .tries = 6,
							.retry_s = 20 } } };
	return 0;
}

static struct store *opened(struct fixture *f)
{
	struct err e = ERR_INIT;
	struct store *s = NULL;

	assert_ok(store_open_with(f->location, false, &f->o, &s, &e), &e);
	return s;
}

static void rules(struct fixture *f, const char *json)
{
	free(test_s3_tell(f->server, "rules", json));
}

static void set(struct fixture *f, const char *json)
{
	free(test_s3_tell(f->server, "set", json));
}

/* --- faults ------------------------------------------------------------------------------------------------------ */

static void test_s3__transient(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct err e = ERR_INIT;
	double start;

	rules(f, "[{\"match\":\"PUT .*/x\",\"times\":2,\"status\":500},{\"match\":\"PUT .*/x\",\"status\":502,\"body\":\"<html>no\"},"
		 "{\"match\":\"GET .*/x\",\"drop\":true},{\"match\":\"GET .*/x\",\"truncate\":3},"
		 "{\"match\":\"GET .*list-type\",\"times\":2,\"status\":503,\"code\":\"SlowDown\"}]");
	test_store_put(s, "x", "hello");
	test_store_expect(s, "x", "hello");
	test_store_expect_list(s, "", "x ");
	assert_int_equal(test_s3_count(f->server, "PUT /bucket/p/x "), 4);
	rules(f, "[{\"match\":\"PUT\",\"status\":503,\"retry_after\":1}]");
	start = clock_mono();
	test_store_put(s, "y", "1");
	assert_true(clock_mono() - start >= 1.0);
	/* a wait beyond what is allowed is not begun */
	rules(f, "[{\"match\":\"PUT\",\"status\":503,\"retry_after\":3600}]");
	start = clock_mono();
	assert_int_equal(store_put(s, "z", "1", 1, 0, &e), ERR_TRANSIENT);
	assert_true(clock_mono() - start < 2.0);
	assert_has(e.hint, "3600 s");
	store_close(s);
}

static void test_s3__every_retry_ends(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct err e = ERR_INIT;

	rules(f, "[{\"match\":\".\",\"times\":1000,\"status\":500,\"code\":\"InternalError\",\"message\":\"oh\\u001b[31m\"}]");
	assert_int_equal(store_put(s, "x", "1", 1, 0, &e), ERR_TRANSIENT);
	assert_has(e.cause, "500 InternalError");
	assert_has(e.cause, "6 attempts");
	assert_null(strchr(e.cause, '\x1b'));
	assert_int_equal(test_s3_count(f->server, "PUT "), 6);
	store_close(s);
}

/* What was done although its reply was lost is found done, and by whom. */
static void test_s3__ambiguous_puts(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct err e = ERR_INIT;

	rules(f, "[{\"match\":\"PUT\",\"after\":true,\"status\":500}]");
	test_store_put(s, "a", "1");
	test_store_expect(s, "a", "1");
	rules(f, "[{\"match\":\"PUT\",\"after\":true,\"drop\":true}]");
	assert_ok(store_put(s, "b", "1", 1, STORE_PUT_IF_ABSENT, &e), &e);
	test_store_expect(s, "b", "1");
	assert_int_equal(test_s3_count(f->server, "PUT /bucket/p/b "), 2);
	assert_err(store_put(s, "b", "2", 1, STORE_PUT_IF_ABSENT, &e), ERR_EXISTS, &e);
	/* somebody else's object stays somebody else's */
	rules(f, "[{\"match\":\"HEAD\",\"status\":404},{\"match\":\"PUT\",\"status\":500}]");
	assert_err(store_put(s, "b", "3", 1, STORE_PUT_IF_ABSENT, &e), ERR_EXISTS, &e);
	test_store_expect(s, "b", "1");
	store_close(s);
}

static void check_conditional(struct fixture *f, const char *how, bool honoured)
{
	struct err e = ERR_INIT;
	struct store *s = NULL;
	char json[64];

	test_s3_clear(f->server);
	snprintf(json, sizeof(json), "{\"conditional\":\"%s\"}", how);
	set(f, json);
	f->o.s3.self_test = true;
	assert_ok(store_open_with(f->location, true, &f->o, &s, &e), &e);
	assert_int_equal(store_caps(s)->conditional_put, honoured);
	test_store_expect_list(s, "", "");
	assert_ok(store_put(s, "x", "1", 1, STORE_PUT_IF_ABSENT, &e), &e);
	assert_err(store_put(s, "x", "2", 1, STORE_PUT_IF_ABSENT, &e), ERR_EXISTS, &e);
	test_store_expect(s, "x", "1");
	store_close(s);
}

static void test_s3__conditional_put_is_tested(void **state)
{
	check_conditional(*state, "yes", true);
	check_conditional(*state, "ignore", false);
	check_conditional(*state, "none", false);
}

/* A server without checksums is asked once, then no more. */
static void test_s3__no_checksums(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);

	set(f, "{\"checksums\":false}");
	test_store_put(s, "x", "1");
	test_store_put(s, "y", "1");
	assert_int_equal(test_s3_count(f->server, "PUT "), 3);
	store_close(s);
}

static void test_s3__altered_on_the_way(void **state)
{
	static const char wrong[] = "data/0000000000000000000000000000000000000000000000000000000000000000";
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct err e = ERR_INIT;

	/* a name that is a hash is what the server checks the bytes against */
	assert_err(store_put(s, wrong, "1", 1, 0, &e), ERR_CORRUPT, &e);
	assert_err(store_read(s, wrong, &(char){ 0 }, 1, 0, &e), ERR_NOTFOUND, &e);
	assert_ok(store_put(s, "data/6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b", "1", 1, 0, &e), &e);
	rules(f, "[{\"match\":\"PUT\",\"times\":2,\"status\":400,\"code\":\"BadDigest\"}]");
	test_store_put(s, "x", "1");
	store_close(s);
}

static void test_s3__throttled(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) uint8_t *big = malloc(33 << 20);
	CLEANUP(free_ptr) char *log = NULL;
	struct err e = ERR_INIT;
	struct store *s;

	f->o.s3.limits.tries = 0;
	f->o.s3.limits.retry_s = 0;
	s = opened(f);
	assert_non_null(big);
	memset(big, 'b', 33 << 20);
	assert_ok(store_put(s, "big", big, 33 << 20, 0, &e), &e);
	set(f, "{\"parallel\":1}");
	assert_ok(store_read(s, "big", big, 33 << 20, 0, &e), &e);
	assert_true(test_s3_count(f->server, " 503") > 0);
	/* by now it asks for less at once, so is refused less */
	log = test_s3_tell(f->server, "log", "");
	assert_ok(store_read(s, "big", big, 33 << 20, 0, &e), &e);
	assert_in_range(test_s3_count(f->server, " 503"), 0, 12);
	store_close(s);
}

/* --- hostile servers --------------------------------------------------------------------------------------------- */

static void test_s3__hostile_bodies(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;
	uint8_t *p = NULL;
	size_t len;
	char b[4];

	test_store_put(s, "x", "hello");
	rules(f, "[{\"match\":\"GET\",\"times\":3,\"endless\":true}]");
	assert_err(store_read(s, "x", b, 4, 0, &e), ERR_CORRUPT, &e);
	assert_err(store_get(s, "x", 100, &p, &len, &e), ERR_CORRUPT, &e);
	assert_err(store_list(s, "", test_see, &seen, &e), ERR_REFUSED, &e);
	assert_int_equal(seen.n, 0);
	/* another range than the one wanted, a range of nothing, none at all */
	rules(f, "[{\"match\":\"GET\",\"status\":206,\"body\":\"hell\",\"headers\":{\"Content-Range\":\"bytes 1-4/5\"}},"
		 "{\"match\":\"GET\",\"status\":206,\"body\":\"hell\",\"headers\":{\"Content-Range\":\"bytes 9-1/x\"}},"
		 "{\"match\":\"GET\",\"status\":206,\"body\":\"hell\"},{\"match\":\"GET\",\"status\":200,\"body\":\"hel\"}]");
	assert_err(store_read(s, "x", b, 4, 0, &e), ERR_CORRUPT, &e);
	assert_err(store_read(s, "x", b, 4, 0, &e), ERR_REFUSED, &e);
	assert_err(store_read(s, "x", b, 4, 0, &e), ERR_REFUSED, &e);
	assert_int_not_equal(store_read(s, "x", b, 4, 0, &e), 0);
	err_clear(&e);
	/* an object that claims to be huge */
	rules(f, "[{\"match\":\"GET\",\"status\":206,\"body\":\"hell\",\"headers\":{\"Content-Range\":\"bytes 0-3/99999999999\"}}]");
	assert_err(store_get(s, "x", 1 << 20, &p, &len, &e), ERR_CORRUPT, &e);
	store_close(s);
}

static void check_listing(struct fixture *f, struct store *s, const char *body)
{
	CLEANUP(free_ptr) char *json = NULL;
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;
	int r;

	assert_true(asprintf(&json, "[{\"match\":\"GET\",\"status\":200,\"times\":50,\"body\":\"%s\"}]", body) > 0);
	rules(f, json);
	r = store_list(s, "", test_see, &seen, &e);
	if (r != ERR_REFUSED)
		fail_msg("a listing of %s: %d %s", body, r, e.cause);
}

#define OBJECT(key) "<Contents><Key>" key "</Key><Size>1</Size></Contents>"
#define LISTING(inside) "<ListBucketResult>" inside "</ListBucketResult>"

static void test_s3__hostile_listings(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);

	check_listing(f, s, "");
	check_listing(f, s, "{}");
	check_listing(f, s, "<html></html>");
	check_listing(f, s, "<ListBucketResult>");
	check_listing(f, s, "<!DOCTYPE a [<!ENTITY b 'ccc'><!ENTITY d '&b;&b;'>]>" LISTING(OBJECT("&d;")));
	check_listing(f, s, "<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" LISTING(""));
	check_listing(f, s, LISTING("<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>"));
	check_listing(f, s, LISTING(OBJECT("q/elsewhere")));
	check_listing(f, s, LISTING(OBJECT("p/b") OBJECT("p/a")));
	check_listing(f, s, LISTING(OBJECT("p/b") OBJECT("p/b")));
	check_listing(f, s, LISTING(OBJECT("p/%zz")));
	check_listing(f, s, LISTING("<Contents><Key>p/a</Key></Contents>"));
	check_listing(f, s, LISTING("<Contents><Key>p/a</Key><Size>-1</Size></Contents>"));
	check_listing(f, s, LISTING("<IsTruncated>true</IsTruncated>"));
	/* pages without end */
	check_listing(f, s, LISTING("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"));
	check_listing(f, s, LISTING(OBJECT("p/a") "<IsTruncated>true</IsTruncated>"
					"<NextContinuationToken>t</NextContinuationToken>"));
	store_close(s);
}

static void test_s3__pages(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;
	char name[16];

	set(f, "{\"page\":3}");
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		test_store_put(s, name, "1");
	}
	assert_ok(store_list(s, "d/", test_see, &seen, &e), &e);
	assert_int_equal(seen.n, 10);
	assert_int_equal(test_s3_count(f->server, "list-type=2"), 4);
	store_close(s);
}

/* Nobody who is not named gets to see a signature. */
static void test_s3__redirects(void **state)
{
	struct fixture *f = *state;
	struct test_s3 *other = test_s3_new(NULL, NULL);
	CLEANUP(free_ptr) char *json = NULL;
	struct store *s = opened(f);
	struct err e = ERR_INIT;
	struct store_stat st;

	assert_true(asprintf(&json, "[{\"match\":\".\",\"times\":9,\"status\":307,\"headers\":{\"Location\":\"http://127.0.0.1:%d/"
				    "bucket/p/x\"}}]", test_s3_port(other)) > 0);
	rules(f, json);
	assert_int_equal(store_put(s, "x", "1", 1, 0, &e), ERR_REFUSED);
	assert_has(e.cause, "sends us elsewhere");
	err_clear(&e);
	assert_err(store_stat(s, "x", &st, &e), ERR_REFUSED, &e);
	assert_int_equal(test_s3_count(other, "bucket"), 0);
	assert_int_equal(test_s3_count(f->server, " 307"), 2);
	test_s3_free(other);
	store_close(s);
}

static void test_s3__region_and_clock(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct store_stat st;
	struct err e = ERR_INIT;

	set(f, "{\"region\":\"eu-test-2\",\"skew\":3700}");
	assert_err(store_stat(s, "x", &st, &e), ERR_NOTFOUND, &e);	/* the reply to a HEAD alone has no words for it */
	test_store_put(s, "x", "1");
	assert_ok(store_stat(s, "x", &st, &e), &e);
	assert_int_equal(f->notices, 1);
	assert_has(f->notice, "61 min");
	assert_has(f->notice, "behind");
	store_close(s);
}

/* Two tokens in turn, and never an object. */
static void test_s3__listing_in_circles(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;

	rules(f, "[{\"match\":\"token=a&\",\"times\":99999,\"status\":200,\"body\":\"<ListBucketResult><IsTruncated>true"
		 "</IsTruncated><NextContinuationToken>b</NextContinuationToken></ListBucketResult>\"},"
		 "{\"match\":\"GET\",\"times\":5000,\"status\":200,\"body\":\"<ListBucketResult><IsTruncated>true"
		 "</IsTruncated><NextContinuationToken>a</NextContinuationToken></ListBucketResult>\"}]");
	assert_err(store_list(s, "", test_see, &seen, &e), ERR_REFUSED, &e);
	assert_in_range(test_s3_count(f->server, "GET /bucket"), 900, 1100);
	store_close(s);
}

/* Somebody sets a clock right while a run goes on. */
static void test_s3__clock_is_set(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);

	set(f, "{\"skew\":3600}");
	test_store_put(s, "x", "1");
	set(f, "{\"skew\":0}");
	test_store_put(s, "x", "1");
	store_close(s);
}

static void *put_one(void *opaque)
{
	struct err e = ERR_INIT;

	return store_put(opaque, "many", "1", 1, 0, &e) == 0 ? NULL : opaque;
}

static void put_many(struct store *s)
{
	pthread_t t[8];
	void *failed;

	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, put_one, s), 0);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(pthread_join(t[i], &failed), 0);
		assert_null(failed);
	}
}

/* Several requests at once are told the same: one of them changes what is sent, all are sent anew. */
static void test_s3__many_learn_at_once(void **state)
{
	struct fixture *f = *state;
	struct store *s = opened(f);

	rules(f, "[{\"match\":\"PUT .*/many\",\"times\":8,\"stall\":0.3}]");
	set(f, "{\"checksums\":false}");
	put_many(s);
	rules(f, "[{\"match\":\"PUT .*/many\",\"times\":8,\"stall\":0.3}]");
	set(f, "{\"region\":\"eu-test-3\"}");
	put_many(s);
	store_close(s);
}

static void test_s3__stall_and_cancel(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	struct store *s;
	double start = clock_mono();

	f->o.s3.limits.tries = 2;
	s = opened(f);
	rules(f, "[{\"match\":\"GET\",\"times\":9,\"stall\":60}]");
	assert_err(store_read(s, "x", &(char){ 0 }, 1, 0, &e), ERR_TRANSIENT, &e);
	assert_true(clock_mono() - start < 15);
	start = clock_mono();
	cancel_request(&f->cancel);
	assert_err(store_read(s, "x", &(char){ 0 }, 1, 0, &e), ERR_CANCELLED, &e);
	assert_true(clock_mono() - start < 2);
	store_close(s);
}

static void check_refused(struct fixture *f, const char *code, int status, int wanted, const char *hint)
{
	struct store *s = opened(f);
	struct err e = ERR_INIT;
	char json[256];

	snprintf(json, sizeof(json), "[{\"match\":\".\",\"status\":%d,\"code\":\"%s\"}]", status, code);
	rules(f, json);
	assert_int_equal(store_put(s, "x", "1", 1, 0, &e), wanted);
	assert_has(e.hint, hint);
	store_close(s);
}

static void test_s3__refusals(void **state)
{
	struct fixture *f = *state;

	check_refused(f, "AccessDenied", 403, ERR_REFUSED, "policies");
	check_refused(f, "InvalidAccessKeyId", 403, ERR_REFUSED, "access key");
	check_refused(f, "SignatureDoesNotMatch", 403, ERR_REFUSED, "secret key");
	check_refused(f, "QuotaExceeded", 403, ERR_NOSPACE, "quota");
	check_refused(f, "NoSuchBucket", 404, ERR_REFUSED, "make it first");
	check_refused(f, "Whatever", 418, ERR_REFUSED, "");
}

/* A 404 of whoever stands before S3 is no word about an object. */
static void test_s3__foreign_404(void **state)
{
	static const char away[] = "[{\"match\":\"(GET|HEAD|PUT|DELETE) \",\"times\":%d,\"status\":404,"
				   "\"body\":\"default backend - 404\"}]";
	struct fixture *f = *state;
	struct store *s = opened(f);
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;
	struct store_stat st;
	char json[256], b[2];

	test_store_put(s, "x", "hi");
	snprintf(json, sizeof(json), away, 2);
	rules(f, json);
	assert_ok(store_read(s, "x", b, 2, 0, &e), &e);
	rules(f, json);
	assert_ok(store_stat(s, "x", &st, &e), &e);
	rules(f, json);
	assert_ok(store_put(s, "y", "1", 1, 0, &e), &e);
	rules(f, json);
	assert_ok(store_list(s, "", test_see, &seen, &e), &e);
	assert_int_equal(seen.n, 2);
	snprintf(json, sizeof(json), away, 1000);
	rules(f, json);
	assert_err(store_read(s, "x", b, 2, 0, &e), ERR_TRANSIENT, &e);
	assert_err(store_stat(s, "x", &st, &e), ERR_TRANSIENT, &e);
	assert_int_equal(store_put(s, "y", "1", 1, 0, &e), ERR_TRANSIENT);
	assert_has(e.hint, "is this its address");
	err_clear(&e);
	/* in S3's words, but of the bucket, or to a request that has no such answer */
	rules(f, "[{\"match\":\"GET\",\"status\":404,\"code\":\"NoSuchBucket\"},"
		 "{\"match\":\"PUT\",\"status\":404,\"code\":\"NoSuchKey\"}]");
	assert_err(store_read(s, "x", b, 2, 0, &e), ERR_REFUSED, &e);
	assert_ok(store_put(s, "z", "1", 1, 0, &e), &e);
	assert_err(store_read(s, "none", b, 2, 0, &e), ERR_NOTFOUND, &e);
	store_close(s);
}

static void test_s3__unreachable(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	struct store *s = NULL;

	assert_ok(store_open_with("s3:http://127.0.0.1:1/bucket", false, &f->o, &s, &e), &e);
	assert_int_equal(store_put(s, "x", "1", 1, 0, &e), ERR_TRANSIENT);
	assert_has(e.cause, "3 attempts");
	store_close(s);
}

/* --- large objects ----------------------------------------------------------------------------------------------- */

static void test_s3__multipart(void **state)
{
	const size_t len = ((size_t)70 << 20) + 5;
	struct fixture *f = *state;
	CLEANUP(free_ptr) uint8_t *big = malloc(len), *back = NULL;
	struct store *s = opened(f);
	struct err e = ERR_INIT;
	struct store_stat st;
	size_t n;

	assert_non_null(big);
	for (size_t i = 0; i < len; i++)
		big[i] = (uint8_t)(i * 7 + (i >> 16));
	rules(f, "[{\"match\":\"partNumber=2\",\"status\":500},{\"match\":\"partNumber=3\",\"after\":true,\"drop\":true},"
		 "{\"match\":\"POST .*uploadId\",\"after\":true,\"status\":500}]");
	assert_ok(store_put(s, "big", big, len, 0, &e), &e);
	assert_ok(store_get(s, "big", len, &back, &n, &e), &e);
	assert_int_equal(n, len);
	assert_memory_equal(back, big, len);
	/* one that fails leaves neither an object nor an upload */
	rules(f, "[{\"match\":\"partNumber=4\",\"status\":403,\"code\":\"AccessDenied\"}]");
	assert_err(store_put(s, "big2", big, len, 0, &e), ERR_REFUSED, &e);
	assert_err(store_stat(s, "big2", &st, &e), ERR_NOTFOUND, &e);
	CLEANUP(free_ptr) char *log = test_s3_tell(f->server, "peek", "");
	assert_has(log, "\"uploads\": 0");
	store_close(s);
}

static void test_s3__remove_many(void **state)
{
	struct fixture *f = *state;
	const char *names[1200];
	static char text[1200][24];
	struct store *s = opened(f);
	struct err e = ERR_INIT;

	for (int i = 0; i < 1200; i++) {
		snprintf(text[i], sizeof(text[i]), "d/%d", i);
		names[i] = text[i];
	}
	test_store_put(s, "d/0", "1");
	test_store_put(s, "d/1199", "1");
	test_store_put(s, "stays", "1");
	assert_ok(store_remove_many(s, names, 1200, &e), &e);
	test_store_expect_list(s, "", "stays ");
	assert_int_equal(test_s3_count(f->server, "POST "), 2);
	names[0] = "d/locked";
	test_store_put(s, "d/locked", "1");
	assert_int_equal(store_remove_many(s, names, 1, &e), ERR_REFUSED);
	assert_has(e.cause, "locked");
	err_clear(&e);
	/* what is no answer of S3 is no success */
	names[0] = "stays";
	rules(f, "[{\"match\":\"POST\",\"status\":200,\"body\":\"<html></html>\"},"
		 "{\"match\":\"POST\",\"status\":200,\"body\":\"\"}]");
	assert_err(store_remove_many(s, names, 1, &e), ERR_REFUSED, &e);
	assert_err(store_remove_many(s, names, 1, &e), ERR_REFUSED, &e);
	store_close(s);
}

/* --- credentials ------------------------------------------------------------------------------------------------- */

static void no_keys(void)
{
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
}

static char *file(struct fixture *f, const char *name, const char *text)
{
	char *path = test_path(f->dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	return path;
}

static void works(struct fixture *f)
{
	struct store *s = opened(f);

	test_store_put(s, "x", "1");
	test_store_expect(s, "x", "1");
	store_close(s);
}

static void fails(struct fixture *f, int code, const char *cause)
{
	struct store *s = NULL;
	struct err e = ERR_INIT;
	char line[1600];

	if (store_open_with(f->location, false, &f->o, &s, &e) == 0)
		assert_int_not_equal(store_put(s, "x", "1", 1, 0, &e), 0);
	assert_int_equal(e.code, code);
	assert_has(err_text(&e, line, sizeof(line)), cause);
	assert_null(strstr(line, "fixture/secret"));
	assert_null(strstr(e.hint, "fixture/secret"));
	store_close(s);
}

static void test_creds__none(void **state)
{
	struct fixture *f = *state;

	no_keys();
	fails(f, ERR_REFUSED, "no credentials");
	setenv("AWS_ACCESS_KEY_ID", TEST_S3_ACCESS, 1);
	fails(f, ERR_REFUSED, "not both set");
	setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1);
	fails(f, ERR_REFUSED, "SignatureDoesNotMatch");
	setenv("AWS_SECRET_ACCESS_KEY", "fixture/secret\r\nX: y", 1);
	fails(f, ERR_INVALID, "control character");
}

static void test_creds__profiles(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *creds = file(f, "credentials",
		"# a comment\n[default]\naws_access_key_id = nobody\naws_secret_access_key=x\n\n"
		"[work]\r\n aws_x = 1\naws_access_key_id\t=\tFIXTUREKEY  \r\naws_secret_access_key = fixture/secret+key\n[half]\n"
		"aws_access_key_id = a\n");
	CLEANUP(free_ptr) char *config = file(f, "config",
		"[default]\nregion = eu-test-9\ns3 =\n  max_queue_size = 10\n[profile work]\nregion = us-east-1\n"
		"[profile ext]\ncredential_process = printf '{\"Version\": 1, \"AccessKeyId\": \"FIXTUREKEY\", \"SecretAccessKey\":"
		" \"fixture\\\\/secret+key\", \"Expiration\": null}'\n"
		"[profile bad]\ncredential_process = echo fixture/secret+key; exit 3\n[profile role]\nrole_arn = a\n"
		"source_profile = work\n[profile rest]\nregion=us-east-1\n");

	no_keys();
	setenv("AWS_SHARED_CREDENTIALS_FILE", creds, 1);
	setenv("AWS_CONFIG_FILE", config, 1);
	fails(f, ERR_REFUSED, "InvalidAccessKeyId");
	setenv("AWS_PROFILE", "work", 1);
	works(f);
	setenv("AWS_PROFILE", "none", 1);
	fails(f, ERR_REFUSED, "profile \"none\"");
	f->o.s3.profile = "work";	/* the option wins, also over keys in the environment */
	setenv("AWS_ACCESS_KEY_ID", "other", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "other", 1);
	works(f);
	f->o.s3.profile = "ext";
	works(f);
	f->o.s3.profile = "bad";
	fails(f, ERR_REFUSED, "exit 3");
	f->o.s3.profile = "half";
	fails(f, ERR_REFUSED, "only one of");
	f->o.s3.profile = "rest";
	fails(f, ERR_REFUSED, "no credentials");
	f->o.s3.profile = "role";
	fails(f, ERR_REFUSED, "role_arn");
	free(file(f, "credentials", "[work]\naws_access_key_id = FIXTUREKEY\nfixture/secret+key\n"));
	f->o.s3.profile = "work";
	fails(f, ERR_INVALID, "line 3");
}

static void test_creds__instance(void **state)
{
	struct fixture *f = *state;
	char url[64];
	struct store *s;

	no_keys();
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", test_s3_port(f->server));
	setenv("AWS_EC2_METADATA_DISABLED", "false", 1);
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
	works(f);
	assert_int_equal(test_s3_count(f->server, "security-credentials/backup-role "), 1);
	assert_int_equal(test_s3_count(f->server, "PUT /latest/api/token "), 1);
	/* about to expire: fetched anew, before each use here; the tool's own clock decides */
	set(f, "{\"lifetime\":200}");
	s = opened(f);
	test_store_put(s, "x", "1");
	free(test_s3_tell(f->server, "set", "{\"lifetime\":3600}"));
	store_close(s);
	/* the server says that they have expired, before their time */
	s = opened(f);
	test_store_put(s, "x", "1");
	free(test_s3_tell(f->server, "log", ""));
	rules(f, "[{\"match\":\"PUT /bucket\",\"status\":400,\"code\":\"ExpiredToken\"}]");
	test_store_put(s, "x", "1");
	assert_int_equal(test_s3_count(f->server, "security-credentials/backup-role "), 1);
	store_close(s);
	unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
}

static void test_creds__container(void **state)
{
	struct fixture *f = *state;
	char url[64];

	no_keys();
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/container", test_s3_port(f->server));
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
	fails(f, ERR_REFUSED, "401");
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token", 1);
	works(f);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/x", 1);
	fails(f, ERR_INVALID, "neither on this host");
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1@example.com/", 1);
	fails(f, ERR_INVALID, "neither on this host");
}

static void test_creds__web_identity(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *token = file(f, "token", "web+identity/token=\n");
	char url[64];

	no_keys();
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/sts", test_s3_port(f->server));
	setenv("AWS_ENDPOINT_URL_STS", url, 1);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup", 1);
	works(f);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/other", 1);
	fails(f, ERR_REFUSED, "InvalidIdentityToken");
}

static void *cancel_soon(void *opaque)
{
	usleep(500000);
	cancel_request(opaque);
	return NULL;
}

/* A credential_process that closes its output and stays. */
static void test_creds__process_stays(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *config = file(f, "stays", "[profile stays]\ncredential_process = exec >&-; sleep 30\n");
	struct store *s = NULL;
	struct err e = ERR_INIT;
	double start = clock_mono();
	pthread_t t;

	no_keys();
	setenv("AWS_CONFIG_FILE", config, 1);
	f->o.s3.profile = "stays";
	assert_int_equal(pthread_create(&t, NULL, cancel_soon, &f->cancel), 0);
	assert_ok(store_open_with(f->location, false, &f->o, &s, &e), &e);
	assert_int_equal(store_put(s, "x", "1", 1, 0, &e), ERR_CANCELLED);
	assert_true(clock_mono() - start < 10);
	assert_int_equal(pthread_join(t, NULL), 0);
	store_close(s);
}

#define TEST(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_s3__transient),	TEST(test_s3__every_retry_ends),
		TEST(test_s3__ambiguous_puts),	TEST(test_s3__conditional_put_is_tested),
		TEST(test_s3__no_checksums),	TEST(test_s3__altered_on_the_way),
		TEST(test_s3__throttled),	TEST(test_s3__hostile_bodies),
		TEST(test_s3__hostile_listings), TEST(test_s3__pages),
		TEST(test_s3__redirects),	TEST(test_s3__region_and_clock),
		TEST(test_s3__stall_and_cancel), TEST(test_s3__refusals),
		TEST(test_s3__unreachable),	TEST(test_s3__multipart),
		TEST(test_s3__foreign_404),	TEST(test_s3__listing_in_circles),
			TEST(test_s3__clock_is_set),
		TEST(test_s3__many_learn_at_once),
		TEST(test_creds__process_stays),	TEST(test_s3__remove_many),	TEST(test_creds__none),
		TEST(test_creds__profiles),	TEST(test_creds__instance),
		TEST(test_creds__container),	TEST(test_creds__web_identity),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
