/* crypt_internal.h - what reading and writing LUKS headers share. */
#ifndef KEDGE_FORMATS_CRYPT_CRYPT_INTERNAL_H
#define KEDGE_FORMATS_CRYPT_CRYPT_INTERNAL_H

#include "formats/crypt/crypt.h"

#define LUKS_HEADER_BYTES 592u
#define LUKS_SLOT_ACTIVE 0x00ac71f3u
#define LUKS_SLOT_DISABLED 0x0000deadu
#define LUKS_STRIPES 4000u
#define LUKS_DIGEST_BYTES 20u

/* Starts libgcrypt and libsodium; calling it again does nothing. */
MUST_CHECK int imgcrypt_library(struct err *e);
/* H(number of the block, block) over each block of the hash's size, in place; hash is libgcrypt's. */
void luks_diffuse(int hash, uint8_t *p, size_t len);

#endif
