/*
 * qcow2_write.h - writing qcow2, version 3 or 2.  A registry entry; used through formats/writer.h.
 */
#ifndef KEDGE_FORMATS_QCOW2_QCOW2_WRITE_H
#define KEDGE_FORMATS_QCOW2_QCOW2_WRITE_H

#include "formats/writer.h"

/*
 * A new qcow2 file that QEMU, VirtualBox and others accept: version 3 (subformat "v2": 2), 16-bit refcounts, no zero
 * flags but in overlays.  cluster_size: a power of two from 512 bytes to 2 MiB, 0 = 64 KiB.  compress: raw deflate with
 * QEMU's 4 KiB window, or zstd (QEMU 5.1 and later), in `threads` threads; excludes preallocation (ERR_INVALID).  Sizes
 * are rounded up to 512 bytes, as QEMU counts.
 *
 * extended_l2 (QEMU 5.2 and later): 32 subclusters a cluster, of which those that hold nothing stay unallocated; in
 * overlays each is zero, data, or the backing file's.  Compressed clusters have none.
 *
 * States: any number of snapshots (up to 65536), then the current state; each has its own size, and snapshots may have
 * machine memory.  writer_share shares clusters, and whole L2 tables where they are equal; what cannot be shared (parts
 * of clusters, full refcounts) is copied.
 *
 * Writes may have any alignment and order, and come from several threads.  A cluster that arrives in parts is
 * compressed when it is complete, or when the state ends; more than a few MiB of such parts at a time are stored
 * uncompressed.
 *
 * Clusters of at least 64 KiB that are expected (writer_expect) get their places at once, in the guest's order; on ext4
 * their space too, so that ERR_NOSPACE comes before data do.
 *
 * secret: LUKS version 1, whose header lies in clusters of its own behind the image's.  Clusters are encrypted whole,
 * by their place in the file; machine memory too, the tables not.
 *
 * backing: an overlay.  What is written as zeros, or told by writer_zero, hides the backing file (zero clusters, only
 * version 3 has them); no snapshots, no preallocation.
 *
 * Memory: max_bytes (default 64 MiB), but never less than four clusters for each of tables, parts and compression, plus
 * 8 bytes for each (cluster_size / 2) clusters of the file.  Disks too large for the cluster size are ERR_INVALID.
 */
MUST_CHECK int qcow2_create(const struct writer_opts *o, struct image_writer **ret, struct err *e);

#endif
