/*
 * vdi.h - VirtualBox's VDI format.  A registry entry; used through formats/image.h.
 */
#ifndef KEDGE_FORMATS_VDI_VDI_H
#define KEDGE_FORMATS_VDI_VDI_H

#include "formats/image.h"

/* 100 for a VDI header of a version that vdi_open reads, else 0; see struct format. */
int vdi_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size);
/*
 * Opens a dynamic, fixed or differencing image, header versions 0 and 1, any block size, after checking the header and
 * every entry of the block map (with o->force a bad one is noted in info.damage, and an error where it is used).  A
 * differencing image names its parent by UUID: holes show it.  The virtual size is rounded down to 512, as VirtualBox
 * does.  Takes fd over on success.  Format: VirtualBox's VDICore.h; rules: docs/formats.md.
 */
MUST_CHECK int vdi_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);
/* See struct format. */
MUST_CHECK int vdi_read_ids(const struct file *f, struct image_ids *ret, struct err *e);

#endif
