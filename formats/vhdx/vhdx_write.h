/*
 * vhdx_write.h - writing VHDX images.  A registry entry; used through formats/writer.h.
 */
#ifndef KEDGE_FORMATS_VHDX_VHDX_WRITE_H
#define KEDGE_FORMATS_VHDX_VHDX_WRITE_H

#include "formats/writer.h"

/*
 * One state, no snapshots; several threads may write.  Subformats: dynamic and fixed (also by preallocation falloc or
 * full); blocks of 1 to 256 MiB by cluster_size, by default 2 MiB, or more so that the table has at most a million
 * entries.  The size is kept exactly: whole sectors of 512 bytes, at most 64 TiB, else ERR_INVALID.  ids->content is
 * the data write GUID, by which children know the image, ids->uuid the disk's id, which the guest sees.
 */
MUST_CHECK int vhdx_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);
extern const char *const vhdx_subformats[];

#endif
