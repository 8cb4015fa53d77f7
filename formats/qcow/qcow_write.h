/*
 * qcow_write.h - writing qcow version 1.  A registry entry; used through formats/writer.h.
 */
#ifndef KEDGE_FORMATS_QCOW_QCOW_WRITE_H
#define KEDGE_FORMATS_QCOW_QCOW_WRITE_H

#include "formats/writer.h"

/*
 * A new qcow that QEMU and libqcow accept: without a backing file, clusters of 4 KiB or o->cluster_size (512 bytes to
 * 64 KiB), L2 tables of one cluster, clusters of zeros left out.  Sizes are rounded up to 512 bytes; a disk without bytes,
 * and one whose L1 table were larger than 32 MiB (8 TiB in clusters of 4 KiB), is ERR_INVALID.  o->compress: clusters are
 * compressed where that makes them smaller; then, and with o->id_seed, writes come in order (image_writer.in_order).
 * Otherwise several threads may write, parts of clusters too, as long as no two write to one cluster.
 *
 * Memory: the L1 table; compressing, o->max_bytes at most, or what 4 MiB of disk need if that is more.
 */
MUST_CHECK int qcow_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);

#endif
