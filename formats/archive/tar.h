/*
 * tar.h - what a tar archive (ustar, pax, GNU) holds, and where: members are read at their places in the file, and
 * nothing is ever taken out by its name, which is the archive's to choose.
 *
 * Any thread, on distinct objects.  Calls block.
 */
#ifndef KEDGE_FORMATS_ARCHIVE_TAR_H
#define KEDGE_FORMATS_ARCHIVE_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"

struct file;

#define TAR_MEMBERS_MAX 65536u
#define TAR_NAME_MAX 4096u	/* bytes */

struct tar_member {
	char *name;		/* bytes, as stored; owned */
	uint64_t offset, size;	/* of its data in the archive */
	bool sparse;		/* its data are not its content: GNU's, or headers that contradict each other */
};

struct tar {
	VEC(struct tar_member) members;	/* regular files, in the archive's order */
};

/* Does the file begin as a tar archive with checksums does? */
bool tar_looks(const uint8_t *head, size_t len);
/* Reads all headers.  ERR_CORRUPT: it ends early, or a member lies outside; ERR_UNSUPPORTED: too many members. */
MUST_CHECK int tar_list(const struct file *f, struct tar *ret, struct err *e);
/*
 * Writes the content of the number-th member of the list, one that is sparse, into the empty file fd, which takes at
 * most max_bytes (0: any number; ERR_NOSPACE).  cancel may be NULL.
 */
MUST_CHECK int tar_unpack(const struct file *f, size_t number, int fd, uint64_t max_bytes, struct cancel *cancel,
			  uint64_t *ret_size, struct err *e);
void tar_done(struct tar *t);	/* safe on a zeroed struct */
/* The member of that name ("./" before it doesn't count); of several the last, as tar unpacks them.  NULL: none. */
const struct tar_member *tar_find(const struct tar *t, const char *name);

#endif
