/*
 * vmdk.h - VMware's disks: hosted and ESXi ones, sparse, flat and compressed.  A registry entry; used through
 * formats/image.h.
 */
#ifndef KEDGE_FORMATS_VMDK_VMDK_H
#define KEDGE_FORMATS_VMDK_VMDK_H

#include "formats/image.h"

int vmdk_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size);

/*
 * Opens a descriptor with the extents that it names, or a sparse file that holds its own.  Takes fd over on success.
 * A sparse file without a descriptor is one extent of a larger disk: ERR_UNSUPPORTED, but with force, which also reads
 * flat extents that are too short.  ERR_CORRUPT names the place and what is wrong there; ERR_UNSUPPORTED what is meant
 * for another program or host (devices, unknown flags, a pending SESparse journal).
 */
MUST_CHECK int vmdk_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);

/* Who the image is by its descriptor; see struct format. */
MUST_CHECK int vmdk_read_ids(const struct file *f, struct image_ids *ret, struct err *e);

/* len bytes in the named encoding (NULL: UTF-8) as UTF-8, malloc'ed.  An encoding that isn't known is
 * ERR_UNSUPPORTED, bytes that aren't valid in it are ERR_CORRUPT. */
MUST_CHECK int vmdk_to_utf8(const char *encoding, const char *p, size_t len, char **ret, struct err *e);

#endif
