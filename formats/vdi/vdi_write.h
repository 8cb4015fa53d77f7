/*
 * vdi_write.h - writing VDI 1.1.  A registry entry; used through formats/writer.h.
 */
#ifndef KEDGE_FORMATS_VDI_VDI_WRITE_H
#define KEDGE_FORMATS_VDI_VDI_WRITE_H

#include "formats/writer.h"

/*
 * A new VDI that VirtualBox, QEMU and 7-Zip accept: version 1.1 with the 400-byte header, blocks of 1 MiB, both UUIDs
 * set, no parent.  subformat "dynamic" (default): blocks in the order in which they came, what stays zero is not in
 * the file; "fixed": all blocks in the disk's order.  A preallocation makes it fixed, as QEMU does: metadata leaves
 * the file sparse, falloc reserves its space, full writes it; asking for "dynamic" as well is ERR_INVALID, and so are
 * compression, snapshots and a cluster size.  Sizes are rounded up to 512 bytes; at most 512 TiB.
 *
 * Writes may have any alignment and order, and come from several threads.  Memory: 4 KiB for each GiB of the disk that
 * has data.
 */
MUST_CHECK int vdi_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);

#endif
