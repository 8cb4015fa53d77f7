/*
 * sha256.h - SHA-256 (FIPS 180-4), the H of docs/format.md that names objects.  libcrypto computes it, by the
 * processor's own instructions where there are any.  Private to repo/.
 *
 * Once sha256_new has found it (else ERR_UNSUPPORTED), only memory can be lacking: ERR_NOMEM.
 * Threads: one struct sha256 serves all at once; a struct sha256_run is one thread's.
 */
#ifndef KEDGE_REPO_SHA256_H
#define KEDGE_REPO_SHA256_H

#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "repo/format.h"

/* libcrypto's implementation, looked up once: that takes longer than hashing a small message. */
struct sha256;
MUST_CHECK int sha256_new(struct sha256 **ret, struct err *e);
void sha256_free(struct sha256 *s);	/* NULL is fine */

MUST_CHECK int sha256_of(const struct sha256 *s, const void *p, size_t len, struct id *ret, struct err *e);

/*
 * A message in pieces.  The state may lie in memory for minutes before the next piece comes: the hash so far is taken
 * after each piece and compared before the next, so that a name which bad memory made is never given (ERR_INTERNAL).
 */
struct evp_md_ctx_st;
struct sha256_run {
	struct evp_md_ctx_st *h, *copy;
	struct id so_far;
};
/* run is zeroed, or was used before; sha256_done it whatever comes out. */
MUST_CHECK int sha256_begin(const struct sha256 *s, struct sha256_run *run, struct err *e);
MUST_CHECK int sha256_add(struct sha256_run *run, const void *p, size_t len, struct err *e);
/* What was added; only sha256_begin or sha256_done may follow. */
MUST_CHECK int sha256_end(struct sha256_run *run, struct id *ret, struct err *e);
void sha256_done(struct sha256_run *run);	/* zeroes it */

#endif
