/*
 * crypt.h - keyed hashing and sealing of many messages, by libcrypto: its BLAKE2b takes about half of libsodium's time,
 * its ChaCha20-Poly1305 a third.  Whoever hashes or seals now and then calls hash_b2 and libsodium.  Private to repo/.
 *
 * Contexts are made once and used for message after message: nothing is fetched or allocated for one.  They hold the
 * hash key used last, outside guarded memory, until crypt_free wipes it; no key of a seal stays.
 *
 * Threads: one struct crypt per thread.
 */
#ifndef KEDGE_REPO_CRYPT_H
#define KEDGE_REPO_CRYPT_H

#include "base/cleanup.h"
#include "base/err.h"
#include "repo/format.h"

/* A thread's contexts, less than 4 KiB.  No memory: ERR_NOMEM; a libcrypto that was built without them:
 * ERR_UNSUPPORTED. */
struct crypt;
MUST_CHECK int crypt_new(struct crypt **ret, struct err *e);
void crypt_free(struct crypt *c);	/* wipes; NULL is fine */
DEFINE_CLEANUP(struct crypt, crypt_free)

/* For what libcrypto refused: code (ERR_UNSUPPORTED, ERR_INTERNAL), or ERR_NOMEM where that is why.
 * what: "SHA-256". */
int crypt_error(struct err *e, int code, const char *what);

/* B2 of docs/format.md 1 with a key (RFC 7693): the same as hash_b2 without salt.  personal has at most 16
 * characters.  ERR_NOMEM, ERR_INTERNAL: nothing was hashed, c stays usable. */
MUST_CHECK int crypt_b2(struct crypt *c, const uint8_t key[static KEY_BYTES], const char *personal, const void *msg,
			size_t len, struct id *ret, struct err *e);

/* AEAD of docs/format.md 1: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, 2.3: HChaCha20 makes a key of the first 16
 * bytes of the nonce, RFC 8439 seals under it with 4 zero bytes and the other 8).  The same bytes as libsodium's
 * crypto_aead_xchacha20poly1305_ietf. */
struct crypt_aead {
	const uint8_t *key, *nonce;	/* KEY_BYTES, NONCE_BYTES */
	const uint8_t *ad;
	size_t ad_len;
};
/* Writes len + TAG_BYTES to out, which may not overlap plain.  ERR_NOMEM, ERR_INTERNAL: what is in out is of no use, c
 * stays usable. */
MUST_CHECK int crypt_seal(struct crypt *c, const struct crypt_aead *a, const void *plain, size_t len, uint8_t *out,
			  struct err *e);
/* Writes len - TAG_BYTES to out, which may not overlap sealed.  Damaged, forged, too short: ERR_CORRUPT; else as
 * crypt_seal.  Whenever it fails, out holds zeros. */
MUST_CHECK int crypt_open(struct crypt *c, const struct crypt_aead *a, const void *sealed, size_t len, uint8_t *out,
			  struct err *e);

#endif
