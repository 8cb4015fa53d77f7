/*
 * stream.h - a compressed raw disk that is read as it is decompressed, from front to back, without a copy of it on disk.
 *
 * Its size is known only once all of it has been decompressed: opening does that, and reading does it again.  What was
 * decompressed last is kept (STREAM_KEPT_BYTES) so that readers may overtake each other a little; who reads further back
 * starts the decompression anew, at most STREAM_RESTARTS_MAX times.
 */
#ifndef KEDGE_FORMATS_ARCHIVE_STREAM_H
#define KEDGE_FORMATS_ARCHIVE_STREAM_H

#include "base/cancel.h"
#include "formats/archive/decode.h"
#include "formats/image.h"

#define STREAM_KEPT_BYTES ((size_t)16 << 20)
#define STREAM_RESTARTS_MAX 64u

/*
 * file is a part of fd's file, as in image_open_opts.window.  fd is taken over on success.  The disk may have at most
 * max_bytes (0: any number): ERR_NOSPACE.  cancel is borrowed for the image's life; may be NULL.
 */
MUST_CHECK int stream_open(int fd, const struct file *file, enum decode_kind kind, uint64_t max_bytes, struct cancel *cancel,
			   const char *path, struct image **ret, struct err *e);

#endif
