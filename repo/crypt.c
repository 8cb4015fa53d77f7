/* crypt.c - contexts of libcrypto, and its failures. */
#include "repo/crypt.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define PERSONAL_BYTES 16u

struct crypt {
	EVP_MAC_CTX *b2;
};

/* libcrypto's reasons are in a queue of each thread; without memory there may be none. */
static int crypt_error(struct err *e, int code, const char *what)
{
	unsigned long n = ERR_get_error(), first = n;

	if (!n)
		code = ERR_NOMEM;
	for (; n; n = ERR_get_error())
		if (ERR_GET_REASON(n) == ERR_R_MALLOC_FAILURE)
			code = ERR_NOMEM;
	if (code == ERR_NOMEM)
		return err_set(e, code, "no memory for %s", what);
	if (code == ERR_UNSUPPORTED)	/* what failed inside for want of memory is not always told as that */
		return err_set(e, code, "this libcrypto has no %s, or no memory for it (error %lX)", what, first);
	return err_set(e, code, "libcrypto fails in %s (error %lX)", what, first);
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
	*ret = STEAL(c);
	return 0;
}

void crypt_free(struct crypt *c)
{
	if (!c)
		return;
	EVP_MAC_CTX_free(c->b2);	/* wipes its key */
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
