/*
 * chain_internal.h - what the parts of the chain share: following references, QEMU's lock bytes, the stack.
 */
#ifndef KEDGE_FORMATS_CHAIN_INTERNAL_H
#define KEDGE_FORMATS_CHAIN_INTERNAL_H

#include "formats/chain.h"

/*
 * reference.c - opens the file that an image names as its backing or data file (what: "backing file").
 * path is that of the naming image, as it was opened.  The reference may be relative to the image's folder, or
 * absolute; after all symbolic links it must lie inside that folder or one of allow (NULL-terminated or NULL).  A
 * regular file, or a block device inside an allowed folder.  *ret_path (malloc'ed) is the name in its real folder: a
 * symbolic link is not resolved in it, because names in the file count from the link's folder.
 */
MUST_CHECK int reference_open(const char *path, const char *reference, const char *what, const char *const *allow,
			      int *ret_fd, char **ret_path, struct err *e);
/* Opens what the user named: a regular file or block device, anywhere. */
MUST_CHECK int reference_open_top(const char *path, int *ret_fd, struct err *e);

/*
 * lock.c - takes QEMU's lock bytes that forbid writers on fd, to be held as long as the open file, and looks whether
 * there is a writer already: ERR_LOCKED.  top: it is the image the user named.  Where the file system has no locks, 0.
 */
MUST_CHECK int lock_against_writers(int fd, const char *path, bool top, struct err *e);

/* stack.c - layers[0..n) as one image; origins number them by numbers (NULL: as they are).  One that starts at another
 * than number 0 has its current state alone.  keep_holes: for a top without its chain.  layers are borrowed. */
MUST_CHECK int stack_new(struct image *const *layers, uint32_t n, const uint32_t *numbers, bool keep_holes,
			 struct image **ret, struct err *e);

#endif
