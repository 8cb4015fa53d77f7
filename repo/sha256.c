/* sha256.c - SHA-256 by libcrypto. */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "repo/crypt.h"
#include "repo/sha256.h"
#include "repo/sum.h"

struct sha256 {
	EVP_MD *md;
};

/* The reasons are in a queue of the thread, and must not stay there for others to find. */
static int no_memory(struct err *e)
{
	unsigned long first = ERR_get_error();

	ERR_clear_error();
	if (first && ERR_GET_REASON(first) != ERR_R_MALLOC_FAILURE)
		return err_set(e, ERR_NOMEM, "no memory for libcrypto's SHA-256 (error %lX)", first);
	return err_set(e, ERR_NOMEM, "no memory for libcrypto's SHA-256");
}

int sha256_new(struct sha256 **ret, struct err *e)
{
	struct sha256 *s = malloc(sizeof(*s));

	if (!s)
		return no_memory(e);
	s->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!s->md) {
		free(s);
		return crypt_error(e, ERR_UNSUPPORTED, "SHA-256");
	}
	*ret = s;
	return 0;
}

void sha256_free(struct sha256 *s)
{
	if (!s)
		return;
	EVP_MD_free(s->md);
	free(s);
}

int sha256_of(const struct sha256 *s, const void *p, size_t len, struct id *ret, struct err *e)
{
	struct id is;

	if (EVP_Digest(p, len, is.b, NULL, s->md, NULL) != 1)
		return no_memory(e);
	*ret = is;
	return 0;
}

static int so_far(struct sha256_run *run, struct id *ret, struct err *e)
{
	return EVP_MD_CTX_copy_ex(run->copy, run->h) == 1 && EVP_DigestFinal_ex(run->copy, ret->b, NULL) == 1 ?
		       0 : no_memory(e);
}

int sha256_begin(const struct sha256 *s, struct sha256_run *run, struct err *e)
{
	if (!run->h)
		run->h = EVP_MD_CTX_new();
	if (!run->copy)
		run->copy = EVP_MD_CTX_new();
	if (!run->h || !run->copy || EVP_DigestInit_ex2(run->h, s->md, NULL) != 1)
		return no_memory(e);
	return so_far(run, &run->so_far, e);
}

int sha256_add(struct sha256_run *run, const void *p, size_t len, struct err *e)
{
	struct id is;

	if (so_far(run, &is, e) < 0)
		return e->code;
	if (!id_eq(&is, &run->so_far))
		return sum_error(e, "a hash");
	if (EVP_DigestUpdate(run->h, p, len) != 1)
		return no_memory(e);
	return so_far(run, &run->so_far, e);
}

int sha256_end(struct sha256_run *run, struct id *ret, struct err *e)
{
	struct id is;

	if (EVP_DigestFinal_ex(run->h, is.b, NULL) != 1)
		return no_memory(e);
	if (!id_eq(&is, &run->so_far))
		return sum_error(e, "a hash");
	*ret = is;
	return 0;
}

void sha256_done(struct sha256_run *run)
{
	EVP_MD_CTX_free(run->h);
	EVP_MD_CTX_free(run->copy);
	*run = (struct sha256_run){ 0 };
}
