/*
 * crypt.h - keyed hashing for many messages, by libcrypto: its BLAKE2b takes about half of libsodium's time.  Whoever
 * hashes now and then calls hash_b2.  Private to repo/.
 *
 * Contexts are made once and used for message after message: nothing is fetched or allocated for one.  They hold the key
 * used last, outside guarded memory, until crypt_free wipes it.
 *
 * Threads: one struct crypt per thread.
 */
#ifndef KEDGE_REPO_CRYPT_H
#define KEDGE_REPO_CRYPT_H

#include "base/cleanup.h"
#include "base/err.h"
#include "repo/format.h"

/* A thread's contexts, less than 2 KiB.  No memory: ERR_NOMEM; a libcrypto that was built without them: ERR_UNSUPPORTED. */
struct crypt;
MUST_CHECK int crypt_new(struct crypt **ret, struct err *e);
void crypt_free(struct crypt *c);	/* wipes; NULL is fine */
DEFINE_CLEANUP(struct crypt, crypt_free)

/* B2 of docs/format.md 1 with a key (RFC 7693): the same as hash_b2 without salt.  personal has at most 16
 * characters.  ERR_NOMEM, ERR_INTERNAL: nothing was hashed, c stays usable. */
MUST_CHECK int crypt_b2(struct crypt *c, const uint8_t key[static KEY_BYTES], const char *personal, const void *msg,
			size_t len, struct id *ret, struct err *e);

#endif
