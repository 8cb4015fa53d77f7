/*
 * split.h - a raw disk in pieces: disk.raw.001, .002, ...; .000, .001, ...; .aa, .ab, ... (split(1)).  A registry entry;
 * used through formats/image.h.
 *
 * The first piece is the image's file, the others are its parts.  All but the last have the first one's size.
 */
#ifndef KEDGE_FORMATS_SPLIT_SPLIT_H
#define KEDGE_FORMATS_SPLIT_SPLIT_H

#include "formats/image.h"

/*
 * fd, path: the first piece; taken over on success.  The others are opened by o->opener; without one the first is all that
 * there is to see.  ERR_INVALID: path isn't the name of a first piece; ERR_CORRUPT: a piece is missing, or has another
 * size than it must.
 */
MUST_CHECK int split_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);
/* Is path the name of a first piece, beside which a second one lies? */
bool split_is(const char *path);

#endif
