/*
 * decode.h - what a compressed file holds, as a stream: .gz, .xz, .zst, .bz2, .lz4.
 *
 * Every check that a format has is made: CRCs of gzip (by zlib), the sums of the others (by libarchive and the libraries
 * behind it).  A file that ends early is ERR_CORRUPT, never a short stream.  Files of several members or frames are one
 * stream.  Memory: what the decoders need (xz: the dictionary, which its level sets), never the file's content.
 *
 * Threads: one decoder, one thread at a time.  Calls block.
 */
#ifndef KEDGE_FORMATS_ARCHIVE_DECODE_H
#define KEDGE_FORMATS_ARCHIVE_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct file;

enum decode_kind { DECODE_NONE, DECODE_GZIP, DECODE_XZ, DECODE_ZSTD, DECODE_BZIP2, DECODE_LZ4 };

#define DECODE_HEAD_BYTES 8	/* of a file are enough for decode_kind_of */

/*
 * How a file is compressed: by its name's ending and its first bytes.  Both, because a guest may write anything into a
 * raw disk.  name NULL: by the bytes alone.
 */
enum decode_kind decode_kind_of(const char *name, const uint8_t *head, size_t len);
/* "gzip", "xz", "zstd", "bzip2", "lz4". */
const char *decode_kind_name(enum decode_kind kind);
/* The length of name without the ending that says how it is compressed; of a name without one, its own. */
size_t decode_stem(const char *name);

struct decoder;

/* in is copied, its fd borrowed. */
MUST_CHECK int decoder_new(const struct file *in, enum decode_kind kind, struct decoder **ret, struct err *e);
/* The next bytes: at most len, at least 1; 0 at the end. */
MUST_CHECK int decoder_read(struct decoder *d, void *buf, size_t len, size_t *ret_len, struct err *e);
void decoder_free(struct decoder *d);	/* NULL is fine */
DEFINE_CLEANUP(struct decoder, decoder_free)

#endif
