/*
 * raw_write.h - writing the raw format: a sparse file, or an existing block device.  A registry entry; used through
 * formats/writer.h.
 */
#ifndef KEDGE_FORMATS_RAW_RAW_WRITE_H
#define KEDGE_FORMATS_RAW_RAW_WRITE_H

#include "formats/writer.h"

/*
 * One state, no snapshots; a unit is 64 KiB; several threads may write.  Files: preallocation off (sparse), falloc
 * (space reserved) or full (zeros written); metadata and a cluster size are ERR_INVALID: raw has none.
 * Subformats zst, gz and xz, a path that ends so, or compress (zst): formats/raw/raw_pack.h.
 * Block devices: too small is ERR_INVALID, in use is ERR_LOCKED, both before the first byte is written.  What is never
 * written is made zero by finish; bytes behind the image's end are left alone.  A device that was written in part stays
 * so after abort.
 */
MUST_CHECK int raw_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);

#endif
