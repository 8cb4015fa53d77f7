/*
 * reference.h - following the file names that images and machine descriptions contain (docs/formats.md has the rules).
 */
#ifndef KEDGE_FORMATS_REFERENCE_H
#define KEDGE_FORMATS_REFERENCE_H

#include "base/cleanup.h"
#include "base/err.h"

/*
 * Opens the file that an image names as its backing or data file (what: "backing file").
 * path is that of the naming image (or machine description), as it was opened.
 * The reference may be relative to its folder, or absolute; after all symbolic links it must lie inside that folder or
 * one of allow (NULL-terminated or NULL).  A regular file, or a block device inside one of allow; where devices (as
 * allow) isn't NULL, only inside one of these: allow may have folders that the user hasn't given.  *ret_path
 * (malloc'ed) is the name in its real folder: a symbolic link is not resolved in it, because names in the file count
 * from the link's folder.
 */
MUST_CHECK int reference_open(const char *path, const char *reference, const char *what, const char *const *allow,
			      const char *const *devices, int *ret_fd, char **ret_path, struct err *e);

#endif
