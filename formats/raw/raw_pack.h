/*
 * raw_pack.h - writing a raw disk compressed: .gz, .zst, .xz.  What raw_create does for such targets.
 */
#ifndef KEDGE_FORMATS_RAW_RAW_PACK_H
#define KEDGE_FORMATS_RAW_RAW_PACK_H

#include "formats/writer.h"

enum raw_pack { RAW_PLAIN, RAW_ZSTD, RAW_GZIP, RAW_XZ };

/* What o asks for: its subformat, else the path's ending, else zstd where o->compress is set. */
enum raw_pack raw_pack_of(const struct writer_opts *o);
/*
 * A new file; writes come in order.  zstd and xz compress in o->threads threads as far as o->max_bytes allows, and xz
 * at most as hard.  With checksums.  ERR_INVALID: preallocation.  The target appears when it is complete.
 */
MUST_CHECK int raw_pack_create(const struct writer_opts *o, enum raw_pack pack, struct image_writer **ret, struct err *e);

#endif
