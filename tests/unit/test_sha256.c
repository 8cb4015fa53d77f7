/* SHA-256 in one piece and in many, against known values; a state that memory changes gives no hash. */
#include "tests/test.h"

#include <openssl/evp.h>
#include <pthread.h>

#include "base/text.h"
#include "repo/sha256.h"

#define LONG_BYTES 1000000u

static struct sha256 *sha;
static uint8_t *as;		/* LONG_BYTES times "a" */

static int setup(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(sha256_new(&sha, &e), &e);
	as = malloc(LONG_BYTES);
	assert_non_null(as);
	memset(as, 'a', LONG_BYTES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sha256_free(sha);
	sha256_free(NULL);
	free(as);
	return 0;
}

/* NIST's examples for FIPS 180-4, and the empty message. */
static const struct {
	const char *text;	/* NULL: as */
	const char *hex;
} known[] = {
	{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	{ "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
	  "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
	{ NULL, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
};

static void assert_hex(const struct id *is, const char *want)
{
	char hex[2 * ID_BYTES + 1];

	assert_string_equal(text_hex(is->b, ID_BYTES, hex), want);
}

static void test_sha256__known_values(void **state)
{
	struct err e = ERR_INIT;
	struct id is;

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		const void *p = known[i].text ? (const void *)known[i].text : as;

		assert_ok(sha256_of(sha, p, known[i].text ? strlen(known[i].text) : LONG_BYTES, &is, &e), &e);
		assert_hex(&is, known[i].hex);
	}
	assert_ok(sha256_of(sha, NULL, 0, &is, &e), &e);
	assert_hex(&is, known[0].hex);
}

static void test_sha256_run__pieces_and_reuse(void **state)
{
	static const size_t piece[] = { 1, 63, 64, 65, 4096, 99991, LONG_BYTES };
	CLEANUP(sha256_done) struct sha256_run run = { 0 };
	struct err e = ERR_INIT;
	struct id is;

	(void)state;
	for (size_t k = 0; k < sizeof(piece) / sizeof(*piece); k++) {
		size_t total = k == 0 ? 1000 : LONG_BYTES;

		assert_ok(sha256_begin(sha, &run, &e), &e);
		for (size_t at = 0; at < total; at += piece[k])
			assert_ok(sha256_add(&run, as + at, total - at < piece[k] ? total - at : piece[k], &e), &e);
		assert_ok(sha256_add(&run, NULL, 0, &e), &e);
		assert_ok(sha256_end(&run, &is, &e), &e);
		assert_hex(&is, k == 0 ? "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3" : known[4].hex);
	}
	assert_ok(sha256_begin(sha, &run, &e), &e);	/* begun, not ended */
	assert_ok(sha256_add(&run, "x", 1, &e), &e);
	assert_ok(sha256_begin(sha, &run, &e), &e);
	assert_ok(sha256_end(&run, &is, &e), &e);
	assert_hex(&is, known[0].hex);
}

/* A state that is not what it was when the last piece had been added. */
static void test_sha256_run__changed_between_pieces(void **state)
{
	(void)state;
	for (int what = 0; what < 4; what++) {
		CLEANUP(sha256_done) struct sha256_run run = { 0 };
		struct err e = ERR_INIT;
		struct id is;

		assert_ok(sha256_begin(sha, &run, &e), &e);
		assert_ok(sha256_add(&run, as, 100000, &e), &e);
		if (what & 1)
			run.so_far.b[31] ^= 0x80;
		else
			assert_int_equal(EVP_DigestUpdate(run.h, "x", 1), 1);
		if (what & 2)
			assert_int_equal(sha256_end(&run, &is, &e), ERR_INTERNAL);
		else
			assert_int_equal(sha256_add(&run, as, 1, &e), ERR_INTERNAL);
		assert_has(e.cause, "memory error");
	}
}

static void *hash_often(void *arg)
{
	struct id *is = arg;
	struct err e = ERR_INIT;

	for (int i = 0; i < 2000; i++)
		assert_ok(sha256_of(sha, as, (size_t)i, is, &e), &e);
	return NULL;
}

static void test_sha256__many_threads(void **state)
{
	pthread_t thread[4];
	struct id is[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, hash_often, &is[i]), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	for (size_t i = 1; i < 4; i++)
		assert_memory_equal(is[i].b, is[0].b, ID_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256__known_values),
		cmocka_unit_test(test_sha256_run__pieces_and_reuse),
		cmocka_unit_test(test_sha256_run__changed_between_pieces),
		cmocka_unit_test(test_sha256__many_threads),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
