/* test_s3_sign.c - SigV4 against AWS's published vectors, and S3 locations. */
#include "tests/test.h"

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "transport/s3/sign.h"
#include "transport/s3/url.h"

#define FIELDS 8

struct set {
	const char *name, *access, *secret, *stamp, *service;
};

static const struct set sets[] = {
	{ "suite", "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830T123600Z", "service" },
	{ "s3", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524T000000Z", "s3" },
};

static void check_vector(char *line)
{
	char *f[FIELDS], hex[S3_HASH_HEX], wanted[128];
	struct s3_header h[8];
	struct s3_to_sign t = { .region = "us-east-1", .headers = h };
	struct err e = ERR_INIT;
	const struct set *set;
	uint8_t hash[32];
	struct buf out;

	buf_init(&out, 4096);
	for (int i = 0; i < FIELDS; i++) {
		f[i] = strsep(&line, "\t");
		assert_non_null(f[i]);
	}
	set = strcmp(f[1], "s3") == 0 ? &sets[1] : &sets[0];
	t.method = f[2];
	t.path = f[3];
	t.query = strcmp(f[4], "-") ? f[4] : "";
	for (char *one; (one = strsep(&f[5], "|")) != NULL; t.n++) {
		assert_true(t.n < 8);
		h[t.n].name = strsep(&one, ":");
		h[t.n].value = one;
	}
	f[6] += strcmp(f[6], "-") == 0;	/* "" */
	assert_ok(s3_sha256(f[6], strlen(f[6]), hash, &e), &e);
	t.payload = text_hex(hash, sizeof(hash), hex);
	t.stamp = set->stamp;
	t.service = set->service;
	t.access = set->access;
	t.secret = set->secret;
	assert_ok(s3_sign(&t, &out, &e), &e);
	snprintf(wanted, sizeof(wanted), "Signature=%s", f[7]);
	if (!strstr((char *)out.p, wanted))
		fail_msg("%s: %s, wanted %s", f[0], (char *)out.p, wanted);
	buf_done(&out);
}

static void test_sign__vectors(void **state)
{
	CLEANUP(free_ptr) uint8_t *text = NULL;
	CLEANUP(free_ptr) char *path = NULL;
	struct err e = ERR_INIT;
	char *rest, *line;
	size_t len;
	int n = 0;

	(void)state;
	path = text_printf(&e, "%s/tests/golden/s3/sigv4.txt", getenv("TOP") ? getenv("TOP") : ".");
	assert_non_null(path);
	assert_ok(fs_read_file(path, 1 << 20, &text, &len, &e), &e);
	for (rest = (char *)text; (line = strsep(&rest, "\n")) != NULL;) {
		if (*line && *line != '#') {
			check_vector(line);
			n++;
		}
	}
	assert_int_equal(n, 22);
}

/* Names sort before their longer fellows although ':' sorts behind '-'. */
static void test_sign__canonical_order(void **state)
{
	const struct s3_header h[] = { { "x-amz-meta-a-b", "2" }, { "host", "h" }, { "x-amz-meta-a", " 1  1\t" } };
	const struct s3_to_sign t = { .method = "GET", .path = "/", .query = "a=", .headers = h, .n = 3, .payload = "P" };
	struct err e = ERR_INIT;
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_ok(s3_canonical(&t, &out, &e), &e);
	assert_string_equal((char *)out.p, "GET\n/\na=\nhost:h\nx-amz-meta-a:1 1\nx-amz-meta-a-b:2\n\n"
					   "host;x-amz-meta-a;x-amz-meta-a-b\nP");
	buf_done(&out);
}

static void test_sign__stamp(void **state)
{
	char stamp[S3_STAMP_BYTES];

	(void)state;
	s3_stamp(1369353600, stamp);
	assert_string_equal(stamp, "20130524T000000Z");
}

static void check_encoding(const char *in, bool slash, const char *out)
{
	struct err e = ERR_INIT;
	struct buf b;

	buf_init(&b, 4096);
	assert_ok(s3_encode(&b, in, slash, &e), &e);
	assert_ok(buf_u8(&b, 0, &e), &e);
	assert_string_equal((char *)b.p, out);
	assert_true(s3_decode((char *)b.p));
	assert_string_equal((char *)b.p, in);
	buf_done(&b);
}

static void test_url__encoding(void **state)
{
	char bad[][8] = { "%", "%1", "%zz", "a%00b", "%%%" };

	(void)state;
	check_encoding("a/b c", true, "a/b%20c");
	check_encoding("a/b+c=~", false, "a%2Fb%2Bc%3D~");
	check_encoding("\xc3\xbc%*'()", true, "%C3%BC%25%2A%27%28%29");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(s3_decode(bad[i]));
}

struct good {
	const char *location, *endpoint, *region;
	enum s3_style style;
	const char *host, *bucket, *prefix, *got_region;	/* host: where requests go */
	bool tls;
};

static void test_url__locations(void **state)
{
	static const struct good rows[] = {
		{ "s3:https://s3.example.com/bk/a/b", 0, 0, 0, "s3.example.com", "bk", "a/b/", "us-east-1", true },
		{ "s3:https://s3.example.com:443/bk", 0, 0, 0, "s3.example.com", "bk", "", "us-east-1", true },
		{ "s3:http://127.0.0.1:9000/bk/", 0, "r-1", 0, "127.0.0.1:9000", "bk", "", "r-1", false },
		{ "s3:https://[2001:db8::1]:8443/bk/x", 0, 0, 0, "[2001:db8::1]:8443", "bk", "x/", "us-east-1", true },
		{ "s3:http://[::1]/bk", 0, 0, 0, "[::1]", "bk", "", "us-east-1", false },
		{ "s3:https://s3.example.com/bkt/p", 0, 0, S3_STYLE_VIRTUAL, "bkt.s3.example.com", "bkt", "p/", "us-east-1",
		  true },
		{ "s3://bkt", 0, "eu-west-1", 0, "bkt.s3.eu-west-1.amazonaws.com", "bkt", "", "eu-west-1", true },
		{ "s3://bkt/p/", 0, 0, 0, "bkt.s3.us-east-1.amazonaws.com", "bkt", "p/", "us-east-1", true },
		{ "s3://b.k.t", 0, "eu-west-1", 0, "s3.eu-west-1.amazonaws.com", "b.k.t", "", "eu-west-1", true },
		{ "s3://bkt", 0, "cn-north-1", 0, "bkt.s3.cn-north-1.amazonaws.com.cn", "bkt", "", "cn-north-1", true },
		{ "s3://bkt/p", "http://localhost:9/", 0, 0, "localhost:9", "bkt", "p/", "us-east-1", false },
		{ "s3:https://s3.amazonaws.com/bkt", 0, "eu-west-3", 0, "bkt.s3.eu-west-3.amazonaws.com", "bkt", "", "eu-west-3",
		  true },
		{ "s3:https://s3.eu-central-1.amazonaws.com/bkt", 0, 0, 0, "bkt.s3.eu-central-1.amazonaws.com", "bkt", "",
		  "eu-central-1", true },
		{ "s3:https://s3.dualstack.eu-west-2.amazonaws.com/bkt", 0, 0, S3_STYLE_PATH,
		  "s3.dualstack.eu-west-2.amazonaws.com", "bkt", "", "eu-west-2", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct good *g = &rows[i];
		const struct s3_place_opts o = { .endpoint = g->endpoint, .region = g->region, .style = g->style };
		CLEANUP(free_ptr) char *host = NULL;
		struct err e = ERR_INIT;
		struct s3_place p;

		assert_true(s3_is_location(g->location));
		assert_ok(s3_place_parse(g->location, &o, &p, &e), &e);
		host = s3_place_host(&p, p.region, &e);
		assert_non_null(host);
		assert_string_equal(host, g->host);
		assert_string_equal(p.bucket, g->bucket);
		assert_string_equal(p.prefix, g->prefix);
		assert_string_equal(p.region, g->got_region);
		assert_int_equal(p.tls, g->tls);
		s3_place_done(&p);
	}
}

static void test_url__refused(void **state)
{
	static const char *const bad[] = {
		"s3:", "s3:x", "s3://", "s3:///p", "s3:https://", "s3:https://h", "s3:https://h/", "s3:ftp://h/b",
		"s3:https://h:0/b", "s3:https://h:65536/b", "s3:https://h:/b", "s3:https://h:1x/b", "s3:https://-h/b",
		"s3:https://h_/b", "s3:https://[::1/b", "s3:https://::1/b", "s3:https://[]/b", "s3:https://[g]/b",
		"s3:https://h/b/../c", "s3:https://h/b/./c", "s3:https://h/b//c", "s3:https://h/b?x", "s3:https://h/b/x?y",
		"s3:https://h/b/x#y", "s3:https://h/b/x\ny", "s3:https://h/b%/c", "s3:https://user:geheim@h/b",
		"s3:https://h/.b", "s3://b/..",
	};
	const struct s3_place_opts o = { 0 }, virtual = { .style = S3_STYLE_VIRTUAL }, region = { .region = "a/b" };
	struct err e = ERR_INIT;
	struct s3_place p;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (s3_place_parse(bad[i], &o, &p, &e) != ERR_INVALID)
			fail_msg("%s is accepted", bad[i]);
		assert_true(e.hint[0] != 0);
		assert_null(strstr(e.cause, "geheim"));
		err_clear(&e);
	}
	assert_err(s3_place_parse("s3:https://h/Bucket", &virtual, &p, &e), ERR_INVALID, &e);
	assert_err(s3_place_parse("s3:https://10.0.0.1/bucket", &virtual, &p, &e), ERR_INVALID, &e);
	assert_err(s3_place_parse("s3:https://h/bucket", &region, &p, &e), ERR_INVALID, &e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sign__vectors),	  cmocka_unit_test(test_sign__canonical_order),
		cmocka_unit_test(test_sign__stamp),	  cmocka_unit_test(test_url__encoding),
		cmocka_unit_test(test_url__locations),	  cmocka_unit_test(test_url__refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
