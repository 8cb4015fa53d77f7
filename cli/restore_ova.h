/*
 * restore_ova.h - what OVF packages need: digests.  Main thread only.
 */
#ifndef KEDGE_CLI_RESTORE_OVA_H
#define KEDGE_CLI_RESTORE_OVA_H

#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

#define RESTORE_SHA256_BYTES 65		/* as text with NUL */

/* SHA-256 of [off, off+len) of the file, up to its end, in hex. */
MUST_CHECK int restore_sha256(int fd, uint64_t off, uint64_t len, char ret[static RESTORE_SHA256_BYTES], struct err *e);

#endif
