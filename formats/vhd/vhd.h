/*
 * vhd.h - reading VHD images (Virtual PC, Hyper-V, VirtualBox): fixed, dynamic, differencing.  A registry entry; used
 * through formats/image.h.
 *
 * Source of the format: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0; where programs differ
 * from it, docs/formats.md says what is done.
 */
#ifndef KEDGE_FORMATS_VHD_VHD_H
#define KEDGE_FORMATS_VHD_VHD_H

#include "formats/image.h"

/* 100 where the file begins with a footer's cookie, or ends with the footer of a fixed disk. */
int vhd_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size);
/* Takes fd over on success. */
MUST_CHECK int vhd_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);
/* The footer's UUID.  0 for a fixed disk: a footer behind what is else a guest's bytes could be the guest's. */
MUST_CHECK int vhd_read_ids(const struct file *f, struct image_ids *ret, struct err *e);

#endif
