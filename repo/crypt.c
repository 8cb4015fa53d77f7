/* crypt.c - contexts of libcrypto, and its failures. */
#include "repo/crypt.h"

#include <assert.h>
#include <stdbool.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sodium.h>

#include "base/num.h"

#define PERSONAL_BYTES 16u

#define PIECE_BYTES ((size_t)1 << 30)	/* libcrypto's lengths are int */

struct crypt {
	EVP_MAC_CTX *b2;
	EVP_CIPHER_CTX *chacha;
};

/* The reasons are in a queue of each thread, and must not stay there for others to find; without memory there may be
 * none. */
int crypt_error(struct err *e, int code, const char *what)
{
	unsigned long n = ERR_get_error(), first = n;

	if (!n)
		code = ERR_NOMEM;
	for (; n; n = ERR_get_error())
		if (ERR_GET_REASON(n) == ERR_R_MALLOC_FAILURE)
			code = ERR_NOMEM;
	if (code == ERR_NOMEM)
		return err_set(e, code, "no memory for %s", what);
	if (code == ERR_UNSUPPORTED) {	/* what failed inside for want of memory is not always told as that */
		err_set(e, code, "this libcrypto has no %s, or no memory for it (error %lX)", what, first);
		return err_hint(e, "Free some memory and try again; if that does not help, kedge needs the libcrypto "
				   "of a complete OpenSSL 3 (Debian: libssl3)");
	}
	return err_set(e, code, "libcrypto fails in %s (error %lX)", what, first);
}

static int chacha_new(EVP_CIPHER_CTX **ret)
{
	EVP_CIPHER *chacha = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
	EVP_CIPHER_CTX *c = chacha ? EVP_CIPHER_CTX_new() : NULL;
	bool done = c && EVP_CipherInit_ex2(c, chacha, NULL, NULL, 1, NULL) == 1;

	EVP_CIPHER_free(chacha);	/* the context has its own reference */
	if (!done) {
		EVP_CIPHER_CTX_free(c);
		return -1;
	}
	*ret = c;
	return 0;
}

int crypt_new(struct crypt **ret, struct err *e)
{
	CLEANUP(crypt_free_cleanup) struct crypt *c = calloc(1, sizeof(*c));
	EVP_MAC *b2;

	if (!c)
		return err_set(e, ERR_NOMEM, "no memory to hash with");
	b2 = EVP_MAC_fetch(NULL, "BLAKE2BMAC", NULL);
	c->b2 = b2 ? EVP_MAC_CTX_new(b2) : NULL;
	EVP_MAC_free(b2);	/* the context has its own reference */
	if (!c->b2)
		return crypt_error(e, ERR_UNSUPPORTED, "BLAKE2b");
	if (chacha_new(&c->chacha) < 0)
		return crypt_error(e, ERR_UNSUPPORTED, "ChaCha20-Poly1305");
	*ret = STEAL(c);
	return 0;
}

void crypt_free(struct crypt *c)
{
	if (!c)
		return;
	EVP_MAC_CTX_free(c->b2);	/* wipes its key */
	EVP_CIPHER_CTX_free(c->chacha);
	free(c);
}

int crypt_b2(struct crypt *c, const uint8_t key[static KEY_BYTES], const char *personal, const void *msg, size_t len,
	     struct id *ret, struct err *e)
{
	uint8_t person[PERSONAL_BYTES] = { 0 };
	size_t n = strlen(personal), size = ID_BYTES;
	OSSL_PARAM params[] = {
		OSSL_PARAM_octet_string(OSSL_MAC_PARAM_CUSTOM, person, sizeof(person)),
		OSSL_PARAM_size_t(OSSL_MAC_PARAM_SIZE, &size),
		OSSL_PARAM_END,
	};
	struct id id;

	assert(n <= sizeof(person));
	memcpy(person, personal, n);
	if (EVP_MAC_init(c->b2, key, KEY_BYTES, params) != 1 || EVP_MAC_update(c->b2, msg, len) != 1 ||
	    EVP_MAC_final(c->b2, id.b, &n, sizeof(id.b)) != 1 || n != sizeof(id.b))
		return crypt_error(e, ERR_INTERNAL, "hashing");
	*ret = id;
	return 0;
}

#define CHACHA_NONCE_BYTES 12u

/* Makes the context ready to seal or open one message, all but the message fed.  The subkey is nowhere but in it. */
static bool aead_begin(struct crypt *c, const struct crypt_aead *a, bool seal)
{
	uint8_t subkey[KEY_BYTES], nonce[CHACHA_NONCE_BYTES] = { 0 };
	int n;
	bool done;

	static_assert(KEY_BYTES == crypto_core_hchacha20_OUTPUTBYTES && KEY_BYTES == crypto_core_hchacha20_KEYBYTES &&
		      NONCE_BYTES == crypto_core_hchacha20_INPUTBYTES + 8, "the sizes of XChaCha20");
	assert(a->ad_len <= PIECE_BYTES);
	crypto_core_hchacha20(subkey, a->nonce, a->key, NULL);	/* cannot fail */
	memcpy(nonce + 4, a->nonce + crypto_core_hchacha20_INPUTBYTES, 8);
	done = EVP_CipherInit_ex2(c->chacha, NULL, subkey, nonce, seal, NULL) == 1 &&
	       (!a->ad_len || EVP_CipherUpdate(c->chacha, NULL, &n, a->ad, (int)a->ad_len) == 1);
	sodium_memzero(subkey, sizeof(subkey));
	return done;
}

static bool aead_feed(struct crypt *c, const uint8_t *in, size_t len, uint8_t *out)
{
	for (size_t at = 0; at < len;) {
		size_t piece = min_size(len - at, PIECE_BYTES);
		int n;

		if (EVP_CipherUpdate(c->chacha, out + at, &n, in + at, (int)piece) != 1 || (size_t)n != piece)
			return false;
		at += piece;
	}
	return true;
}

/* A key that is none takes the place of the subkey. */
static void aead_forget(struct crypt *c)
{
	static const uint8_t none[KEY_BYTES];

	(void)!EVP_CipherInit_ex2(c->chacha, NULL, none, none, 1, NULL);	/* nothing to be done if it fails */
}

int crypt_seal(struct crypt *c, const struct crypt_aead *a, const void *plain, size_t len, uint8_t *out, struct err *e)
{
	int n;
	bool done = aead_begin(c, a, true) && aead_feed(c, plain, len, out) &&
		    EVP_CipherFinal_ex(c->chacha, out + len, &n) == 1 && n == 0 &&
		    EVP_CIPHER_CTX_ctrl(c->chacha, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out + len) == 1;

	aead_forget(c);
	return done ? 0 : crypt_error(e, ERR_INTERNAL, "sealing");
}

int crypt_open(struct crypt *c, const struct crypt_aead *a, const void *sealed, size_t len, uint8_t *out, struct err *e)
{
	uint8_t tag[TAG_BYTES];
	bool fed, good;
	int n;

	if (len < TAG_BYTES)
		return err_set(e, ERR_CORRUPT, "%zu sealed bytes are too few", len);
	len -= TAG_BYTES;
	memcpy(tag, (const uint8_t *)sealed + len, TAG_BYTES);
	fed = aead_begin(c, a, false) &&
	      EVP_CIPHER_CTX_ctrl(c->chacha, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) == 1 &&
	      aead_feed(c, sealed, len, out);
	good = fed && EVP_CipherFinal_ex(c->chacha, tag, &n) == 1;	/* writes nothing; compares */
	aead_forget(c);
	if (good)
		return 0;
	memset(out, 0, len);
	if (!fed)
		return crypt_error(e, ERR_INTERNAL, "opening");
	ERR_clear_error();
	return err_set(e, ERR_CORRUPT, "the seal does not verify: damaged or forged");
}
