/*
 * raw.h - the raw format: guest bytes are the file's bytes.  A registry entry; used through formats/image.h.
 */
#ifndef KEDGE_FORMATS_RAW_RAW_H
#define KEDGE_FORMATS_RAW_RAW_H

#include "formats/image.h"

/* Opens a regular file or block device of any size.  Never fails for what the bytes are.  Takes fd over on success. */
MUST_CHECK int raw_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);

#endif
