/*
 * qcow2.h - the qcow2 format, versions 2 and 3.  A registry entry; used through formats/image.h.
 */
#ifndef KEDGE_FORMATS_QCOW2_QCOW2_H
#define KEDGE_FORMATS_QCOW2_QCOW2_H

#include "formats/image.h"

/* 100 for a qcow2 header of a version that qcow2_open reads, else 0; see struct format. */
int qcow2_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size);
/* Opens an image after checking its header, its tables' places and every state's L1 table.  L2 entries are checked when
 * they are read.  An external data file that can't be had (no o->opener) is no error here: reading data is.
 * Takes fd over on success.  Format: docs/interop/qcow2 of QEMU; rules: docs/formats.md. */
MUST_CHECK int qcow2_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);

#endif
