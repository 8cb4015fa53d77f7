/*
 * search.h - finding a parent that is named by its ids alone.
 *
 * Looked through are the folder of the child, the folder Snapshots in it, and the folders that the user allowed; not
 * what lies below them.  Regular files only, no symbolic links; of each the header is read, once for a whole chain, if
 * it is of a format whose images have ids.  Raw is none of these.  But what a raw disk holds is its guest's to write,
 * and one who knows the parent's id could make its disk look like it: so files that are raw by their names (NAME.raw,
 * NAME.img, VMDK's NAME-flat.vmdk and NAME-f001.vmdk) aren't looked at, nor are those with a boot sector's mark
 * (probing).  A raw disk under another name is refused as a second image with that id where the parent is there, too.
 */
#ifndef KEDGE_FORMATS_SEARCH_H
#define KEDGE_FORMATS_SEARCH_H

#include "base/vec.h"
#include "formats/formats.h"

/* An image that was seen, and where. */
struct search_image {
	char *path;
	const char *folder;	/* one of folders */
	uint64_t dev, ino;
	const struct format *format;
	struct image_ids ids;
};

/* Zeroed at first; one thread. */
struct search {
	VEC(char *) folders;			/* real paths that were looked through, for any child */
	VEC(struct search_image) images;
	uint64_t nfiles;			/* names seen, of any kind */
};

void search_done(struct search *s);

/*
 * The image that is child's parent by its ids: *ret_path is malloc'ed, real and absolute.  changed: one that was
 * written to since will do.  ERR_NOTFOUND: none (says where it was looked for); ERR_CHANGED: only such a one;
 * ERR_INVALID: several (lists them), or more files than are looked at.
 */
MUST_CHECK int search_parent(struct search *s, const struct image *child, const char *const *allow, bool changed,
			     char **ret_path, const struct format **ret_format, struct err *e);

#endif
