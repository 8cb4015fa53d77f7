/*
 * vhdx.h - reading VHDX images (Hyper-V): dynamic, fixed, differencing, with a log that is replayed in memory.  A
 * registry entry; used through formats/image.h.
 *
 * Source of the format: Microsoft, [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format"; where programs differ from it,
 * docs/formats.md says what is done.
 */
#ifndef KEDGE_FORMATS_VHDX_VHDX_H
#define KEDGE_FORMATS_VHDX_VHDX_H

#include "formats/image.h"

/* 100 where the file begins with VHDX's signature. */
int vhdx_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size);
/* Takes fd over on success. */
MUST_CHECK int vhdx_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);
/* The data write GUID. */
MUST_CHECK int vhdx_read_ids(const struct file *f, struct image_ids *ret, struct err *e);

#endif
