/*
 * vhd_write.h - writing VHD images.  A registry entry; used through formats/writer.h.
 */
#ifndef KEDGE_FORMATS_VHD_VHD_WRITE_H
#define KEDGE_FORMATS_VHD_VHD_WRITE_H

#include "formats/writer.h"

/*
 * One state, no snapshots; several threads may write.  Subformats: dynamic (blocks of 2 MiB, or 512 KiB to 2 MiB by
 * cluster_size) and fixed (also by preallocation falloc or full).  The size is kept exactly: whole sectors of 512
 * bytes, at most 2040 GiB, else ERR_INVALID.  ids->uuid is the footer's UUID.
 */
MUST_CHECK int vhd_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);
extern const char *const vhd_subformats[];

#endif
