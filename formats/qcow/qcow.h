/*
 * qcow.h - QEMU's qcow format, version 1.  A registry entry; used through formats/image.h.
 */
#ifndef KEDGE_FORMATS_QCOW_QCOW_H
#define KEDGE_FORMATS_QCOW_QCOW_H

#include "formats/image.h"

/* 100 for a header of version 1, else 0; see struct format. */
int qcow_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size);
/*
 * Opens an image after checking the header and where all tables lie (with o->force their entries are checked when they
 * are used).  It may have a backing file, whose format the image doesn't store.  Takes fd over on success.  Format:
 * QEMU's block/qcow.c; rules: docs/formats.md.
 */
MUST_CHECK int qcow_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);

#endif
