/*
 * digest.h - hashing what identifies an image's state: BLAKE2b-256 over integers as u64 LE, and texts as length and
 * bytes.
 *
 * Each format's digest.c lists what goes in, in order.  Such a digest is stored with backups: what goes in never
 * changes its meaning; a new list begins with a new name.  One struct digest, one thread.
 */
#ifndef KEDGE_FORMATS_DIGEST_H
#define KEDGE_FORMATS_DIGEST_H

#include <sodium.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/image.h"

struct digest {
	crypto_generichash_state h;
};

/* what: the list's name and version, "kedge qcow2 state 1". */
void digest_begin(struct digest *d, const char *what);
void digest_bytes(struct digest *d, const void *p, size_t len);
void digest_u64(struct digest *d, uint64_t v);
void digest_text(struct digest *d, const char *s);	/* NULL = "" */
/* Of each part of im in order: device, inode, size, mtime, ctime. */
void digest_parts(struct digest *d, const struct image *im);
void digest_end(struct digest *d, uint8_t digest[32]);

#endif
