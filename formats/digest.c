/*
 * digest.c - hashing what identifies an image's state.
 */
#include "formats/digest.h"

#include <string.h>

#include "base/bytes.h"

/* libsodium's hash functions fail only for lengths out of range. */
void digest_bytes(struct digest *d, const void *p, size_t len)
{
	(void)crypto_generichash_update(&d->h, p, len);
}

void digest_u64(struct digest *d, uint64_t v)
{
	uint8_t b[8];

	put_le64(b, v);
	digest_bytes(d, b, sizeof(b));
}

void digest_text(struct digest *d, const char *s)
{
	size_t n = s ? strlen(s) : 0;

	digest_u64(d, n);
	digest_bytes(d, s ? s : "", n);
}

void digest_begin(struct digest *d, const char *what)
{
	(void)crypto_generichash_init(&d->h, NULL, 0, 32);
	digest_text(d, what);
}

void digest_parts(struct digest *d, const struct image *im)
{
	for (size_t i = 0; i < im->parts.n; i++) {
		const struct image_identity *id = &im->parts.p[i].identity;

		digest_u64(d, id->dev);
		digest_u64(d, id->ino);
		digest_u64(d, id->size);
		digest_u64(d, (uint64_t)id->mtime_ns);
		digest_u64(d, (uint64_t)id->ctime_ns);
	}
}

void digest_end(struct digest *d, uint8_t digest[32])
{
	(void)crypto_generichash_final(&d->h, digest, 32);
}
