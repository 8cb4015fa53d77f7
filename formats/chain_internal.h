/*
 * chain_internal.h - what the parts of the chain share: following references, QEMU's lock bytes, the stack.
 */
#ifndef KEDGE_FORMATS_CHAIN_INTERNAL_H
#define KEDGE_FORMATS_CHAIN_INTERNAL_H

#include "formats/chain.h"
#include "formats/reference.h"

/* reference.c.  Opens what the user named: a regular file or block device, anywhere. */
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
