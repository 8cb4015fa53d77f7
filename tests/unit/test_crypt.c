/* Keyed hashing by libcrypto: the same bytes as libsodium's and Python's. */
#include "tests/test.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <sodium.h>

#include "base/text.h"
#include "repo/object.h"
#include "repo/repo_internal.h"

#define BIG ((size_t)5 << 20)
#define THREADS 4
#define ROUNDS 200

static struct crypt *crypt;
static uint8_t *bytes;		/* BIG of them */

static int set_up(void **state)
{
	static const uint8_t seed[randombytes_SEEDBYTES] = { 1 };
	struct err e = ERR_INIT;

	(void)state;
	assert_true(sodium_init() >= 0);
	assert_ok(crypt_new(&crypt, &e), &e);
	bytes = malloc(BIG);
	assert_non_null(bytes);
	randombytes_buf_deterministic(bytes, BIG, seed);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(bytes);
	crypt_free(crypt);
	crypt_free(NULL);
	return 0;
}

static void expect_b2(struct crypt *c, const uint8_t *key, const char *personal, const uint8_t *msg, size_t len)
{
	struct id is, want;
	struct err e = ERR_INIT;

	hash_b2(want.b, key, KEY_BYTES, NULL, personal, msg, len);
	assert_ok(crypt_b2(c, key, personal, msg, len, &is, &e), &e);
	assert_memory_equal(is.b, want.b, ID_BYTES);
}

/* By Python's hashlib.blake2b(message, digest_size=32, key=bytes(range(32)), person=...). */
static void test_crypt_b2__known(void **state)
{
	static const struct {
		const char *personal;
		size_t len;
		const char *hex;
	} known[] = {
		{ "kedge-chunk-v1", 0, "a1350d186bdb2ce6fabb3ae32aa94c28fb7ae3afe3241c1412904beffe785eb2" },
		{ "kedge-chunk-v1", 3, "04b16cbf72cfd65242ceeec7c9c709ff197e4aa22275e4966a105c26c9bf9f7f" },
		{ "kedge-node-v1", 1000, "d1fdb178e9c7f1ec5cb0b8bcffa14cf99ccb549bafc62c4ec6889e38e04009a1" },
	};
	uint8_t key[KEY_BYTES], msg[1000];
	char hex[2 * ID_BYTES + 1];
	struct err e = ERR_INIT;
	struct id is;

	(void)state;
	for (unsigned i = 0; i < KEY_BYTES; i++)
		key[i] = (uint8_t)i;
	for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
		for (size_t i = 0; i < sizeof(msg); i++)
			msg[i] = (uint8_t)(i * 7);
		if (known[k].len == 3)
			memcpy(msg, "abc", 3);
		assert_ok(crypt_b2(crypt, key, known[k].personal, msg, known[k].len, &is, &e), &e);
		assert_string_equal(text_hex(is.b, ID_BYTES, hex), known[k].hex);
	}
}

static void test_crypt_b2__same_as_libsodium(void **state)
{
	static const size_t big[] = { 4095, 4096, 4097, 65535, 65536, 65537, (size_t)1 << 20, BIG };

	(void)state;
	for (size_t len = 0; len <= 300; len++) {
		expect_b2(crypt, bytes + len, "kedge-chunk-v1", bytes + 1000 + len, len);
		expect_b2(crypt, bytes + len, "kedge-node-v1", bytes + 1001, len);
	}
	for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++)
		expect_b2(crypt, bytes + 17 * i, i % 2 ? "" : "sixteen letters.", bytes, big[i]);
}

static void *hash_many(void *seed)
{
	size_t at = (size_t)(uintptr_t)seed;
	struct crypt *c = NULL;
	struct err e = ERR_INIT;

	assert_ok(crypt_new(&c, &e), &e);
	for (size_t i = 0; i < ROUNDS; i++) {
		at = (at * 7919 + i) % (BIG - 70000);
		expect_b2(c, bytes + at, i % 2 ? "kedge-chunk-v1" : "kedge-node-v1", bytes + at, at % 9000);
	}
	crypt_free(c);
	return NULL;
}

static void test_crypt__threads(void **state)
{
	pthread_t t[THREADS];

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, hash_many, (void *)(uintptr_t)(1000 + i)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crypt_b2__known),
		cmocka_unit_test(test_crypt_b2__same_as_libsodium),
		cmocka_unit_test(test_crypt__threads),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
