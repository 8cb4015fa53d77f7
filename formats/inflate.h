/*
 * inflate.h - blocks that writers of images compressed with deflate.  Pure functions; any thread.
 *
 * Both answer 1: good; 0: the data are bad; or ERR_NOMEM.  Output never exceeds out_len.
 */
#ifndef KEDGE_FORMATS_INFLATE_H
#define KEDGE_FORMATS_INFLATE_H

#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"

/* Raw deflate that gives exactly out_len bytes; a stream that goes on, or is cut off, after that many is good. */
MUST_CHECK int inflate_raw(void *out, size_t out_len, const void *in, size_t in_len);
/* A whole zlib stream (its checksum is compared) that gives at most out_len bytes, *ret_made of them; what follows it
 * is left. */
MUST_CHECK int inflate_zlib(void *out, size_t out_len, const void *in, size_t in_len, size_t *ret_made);

#endif
