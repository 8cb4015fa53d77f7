/* Hashing and sealing by libcrypto: the same bytes as libsodium's, Python's, and the draft's. */
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

/* Both ways, and no forgery. */
static void expect_aead(struct crypt *c, const struct crypt_aead *a, const uint8_t *msg, size_t len)
{
	uint8_t *want = malloc(len + TAG_BYTES), *is = malloc(len + TAG_BYTES), *back = malloc(len + 1);
	struct err e = ERR_INIT;

	assert_true(want && is && back);
	crypto_aead_xchacha20poly1305_ietf_encrypt(want, NULL, msg, len, a->ad, a->ad_len, NULL, a->nonce, a->key);
	assert_ok(crypt_seal(c, a, msg, len, is, &e), &e);
	assert_memory_equal(is, want, len + TAG_BYTES);
	back[len] = 0x5a;
	assert_ok(crypt_open(c, a, is, len + TAG_BYTES, back, &e), &e);
	assert_memory_equal(back, msg, len);
	assert_int_equal(back[len], 0x5a);
	free(want);
	free(is);
	free(back);
}

static void test_crypt_aead__same_as_libsodium(void **state)
{
	static const size_t big[] = { 4096, 65535, 65536, 65537, 262144, 262145, BIG - 4096 };
	struct crypt_aead a = { 0 };

	(void)state;
	for (size_t len = 0; len <= 300; len++) {
		a = (struct crypt_aead){ .key = bytes + len, .nonce = bytes + 400 + len };
		if (len % 3) {
			a.ad = bytes + 2 * len;
			a.ad_len = len % 3 == 1 ? 29 : len % 67;
		}
		expect_aead(crypt, &a, bytes + 1001, len);
	}
	for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++)
		expect_aead(crypt, &a, bytes + i, big[i]);
}

/* draft-irtf-cfrg-xchacha-03, A.3.1. */
static void test_crypt_aead__of_the_draft(void **state)
{
	static const char plain[] = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
				    "future, sunscreen would be it.";
	static const char sealed_hex[] =
		"bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
		"731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
		"2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
		"21f9664c97637da9768812f615c68b13b52e"
		"c0875924c1c7987947deafd8780acf49";
	uint8_t key[KEY_BYTES], nonce[NONCE_BYTES], ad[12], want[sizeof(plain) - 1 + TAG_BYTES], is[sizeof(want)];
	struct crypt_aead a = { .key = key, .nonce = nonce, .ad = ad, .ad_len = sizeof(ad) };
	struct err e = ERR_INIT;

	(void)state;
	for (unsigned i = 0; i < KEY_BYTES; i++)
		key[i] = (uint8_t)(0x80 + i);
	for (unsigned i = 0; i < NONCE_BYTES; i++)
		nonce[i] = (uint8_t)(0x40 + i);
	assert_true(text_unhex("50515253c0c1c2c3c4c5c6c7", ad, sizeof(ad)));
	assert_true(text_unhex(sealed_hex, want, sizeof(want)));
	assert_ok(crypt_seal(crypt, &a, plain, sizeof(plain) - 1, is, &e), &e);
	assert_memory_equal(is, want, sizeof(want));
}

static void refuse(const struct crypt_aead *a, const uint8_t *sealed, size_t len)
{
	uint8_t out[1000];
	struct err e = ERR_INIT;

	memset(out, 0x77, sizeof(out));
	assert_err(crypt_open(crypt, a, sealed, len, out, &e), ERR_CORRUPT, &e);
	for (size_t i = 0; len >= TAG_BYTES && i < len - TAG_BYTES; i++)
		assert_int_equal(out[i], 0);
}

static void test_crypt_open__refuses_what_changed(void **state)
{
	static const size_t lens[] = { 0, 1, 63, 64, 65, 700 };
	uint8_t key[KEY_BYTES] = { 1 }, nonce[NONCE_BYTES] = { 2 }, ad[29] = { 3 }, sealed[700 + TAG_BYTES];
	struct crypt_aead a = { .key = key, .nonce = nonce, .ad = ad, .ad_len = sizeof(ad) }, other = a;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t len = lens[i] + TAG_BYTES;

		assert_ok(crypt_seal(crypt, &a, bytes, lens[i], sealed, &e), &e);
		for (size_t at = 0; at < len; at += at + 90 < len ? 40 : 1) {	/* each of the tag's */
			sealed[at] ^= (uint8_t)(1u << at % 8);
			refuse(&a, sealed, len);
			sealed[at] ^= (uint8_t)(1u << at % 8);
		}
		for (size_t cut = 1; cut <= TAG_BYTES + 1 && cut <= len; cut++)
			refuse(&a, sealed, len - cut);
		other.ad_len = sizeof(ad) - 1;
		refuse(&other, sealed, len);
		other.ad_len = 0;
		refuse(&other, sealed, len);
		other = a;
		for (unsigned at = 0; at < NONCE_BYTES; at++) {
			nonce[at] ^= 16;
			refuse(&a, sealed, len);
			nonce[at] ^= 16;
		}
		key[31] ^= 1;
		refuse(&a, sealed, len);
		key[31] ^= 1;
		expect_aead(crypt, &a, bytes, lens[i]);	/* none the worse */
	}
}

static void *work(void *seed)
{
	size_t at = (size_t)(uintptr_t)seed;
	struct crypt *c = NULL;
	struct err e = ERR_INIT;

	assert_ok(crypt_new(&c, &e), &e);
	for (size_t i = 0; i < ROUNDS; i++) {
		at = (at * 7919 + i) % (BIG - 70000);
		expect_b2(c, bytes + at, i % 2 ? "kedge-chunk-v1" : "kedge-node-v1", bytes + at, at % 9000);
		expect_aead(c, &(struct crypt_aead){ .key = bytes + at, .nonce = bytes + at + 99 }, bytes + at, at % 9001);
	}
	crypt_free(c);
	return NULL;
}

static void test_crypt__threads(void **state)
{
	pthread_t t[THREADS];

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, work, (void *)(uintptr_t)(1000 + i)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crypt_b2__known),
		cmocka_unit_test(test_crypt_b2__same_as_libsodium),
		cmocka_unit_test(test_crypt_aead__same_as_libsodium),
		cmocka_unit_test(test_crypt_aead__of_the_draft),
		cmocka_unit_test(test_crypt_open__refuses_what_changed),
		cmocka_unit_test(test_crypt__threads),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
