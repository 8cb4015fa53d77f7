/*
 * vmdk_write.h - writing VMDK.  A registry entry; used through formats/writer.h.
 */
#ifndef KEDGE_FORMATS_VMDK_VMDK_WRITE_H
#define KEDGE_FORMATS_VMDK_VMDK_WRITE_H

#include "formats/writer.h"

/*
 * A new VMDK without a parent, by subformat:
 *	monolithicSparse	(default) one file; grains of 64 KiB in the order in which they came, what stays zero is
 *				not in the file; directory and tables twice
 *	monolithicFlat		NAME.vmdk, the descriptor, and NAME-flat.vmdk, a raw disk
 *	twoGbMaxExtentSparse	NAME.vmdk, the descriptor, and NAME-s001.vmdk, ...: sparse extents of 2047 MiB
 *	streamOptimized		one file; grains compressed, in the disk's order, tables behind them, footer: for OVF;
 *				writes must come in order (in_order)
 *	vmfs			as monolithicFlat, for ESXi
 * compress makes it streamOptimized, falloc and full preallocation monolithicFlat; with another subformat they are
 * ERR_INVALID, and so are snapshots, a cluster size and the preallocation of metadata.  Sizes are rounded up to 512
 * bytes; a sparse file, and a stream, cannot reach 2 TiB.
 *
 * Ids: ids->uuid is ddb.uuid.image, ids->modify ddb.uuid.modification, ids->content the CID.
 *
 * Several files: all are made durable before the first gets its name, and the descriptor gets its name last.  With
 * replace an old file of that name is removed before that, so that no crash leaves a descriptor beside another disk's
 * extents: one between the two leaves none.  When giving names fails, all that had theirs are removed, the descriptor
 * first.  Extents of an old disk that the new one doesn't have stay.
 *
 * Writes but a stream's may have any alignment and order, and come from several threads.  Memory: 2 KiB for each 32 MiB
 * of a sparse disk that have data; of a stream what max_bytes says, and 4 bytes for each 32 MiB.
 */
MUST_CHECK int vmdk_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);

#endif
