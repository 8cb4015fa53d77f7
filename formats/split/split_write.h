/*
 * split_write.h - writing a raw disk in pieces, NAME.001, NAME.002, ...: `cat NAME.*` gives the disk.  A registry entry;
 * used through formats/writer.h.
 */
#ifndef KEDGE_FORMATS_SPLIT_SPLIT_WRITE_H
#define KEDGE_FORMATS_SPLIT_SPLIT_WRITE_H

#include "formats/writer.h"

#define SPLIT_PIECE_BYTES ((uint64_t)2 << 30)	/* where nothing else is said */
#define SPLIT_PIECES_MAX 512u			/* each is an open file */

/*
 * One state; several threads may write.  path: NAME or NAME.001.  o->piece_size: bytes of each piece but the last.  Pieces
 * are sparse.  ERR_INVALID: too many pieces, preallocation of metadata; ERR_EXISTS: one is there, or one that would be
 * taken for the next (o->replace doesn't allow that).  The first piece appears last, when all are durable.
 */
MUST_CHECK int split_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);

#endif
