/*
 * source.h - where an image really is: in a file, in a member of a tar archive, compressed; or any of these in each other.
 *
 *	disk.vmdk		a file
 *	machine.ova//disk.vmdk	a member: read at its place in the archive, nothing is taken out
 *	raw:disk.img.xz		decompressed while it is read (formats/archive/stream.h)
 *	disk.qcow2.gz		decompressed into a file without a name in source_opts.temp_dir, since its tables are
 *				anywhere in it
 *
 * A compressed file is one by its name's ending and its content, an archive by ".tar" or ".ova" and its content.
 * Threads: one source, one thread.  Calls block.
 */
#ifndef KEDGE_FORMATS_ARCHIVE_SOURCE_H
#define KEDGE_FORMATS_ARCHIVE_SOURCE_H

#include "base/cancel.h"
#include "formats/archive/decode.h"
#include "formats/formats.h"
#include "formats/image.h"

#define SOURCE_TEMP_DIR "/var/tmp"

struct source_opts {
	const char *temp_dir;		/* NULL = SOURCE_TEMP_DIR */
	uint64_t max_bytes;		/* that may come out of a compressed file; 0 = as many as there is room for */
	struct cancel *cancel;		/* may be NULL; lives as long as the image */
	bool gzip;			/* the file is gzip's, whatever its name (OVF says so) */
};

struct source {
	struct file file;		/* holds the image; fd owned */
	int outer;			/* the file that file.fd was decompressed from, owned; -1: none */
	char *wrapping;			/* for people: "gzip", "tar member disk.vmdk, xz"; NULL = none */
	enum decode_kind stream;	/* a raw disk, not yet decompressed */
	bool member;			/* of an archive: it has no folder where its references could lead */
};

/*
 * "archive//member" taken apart: *ret_file and *ret_member are malloc'ed, *ret_member NULL where path is that of a file.
 * It is taken apart only if there is no file of the whole name.
 */
MUST_CHECK int source_split_path(const char *path, char **ret_file, char **ret_member, struct err *e);
/*
 * Takes fd, open for reading, over whether it succeeds or not.  path is for messages and endings.  format: the image's,
 * NULL = to be found out.  ERR_NOTFOUND: the archive has no such member (the hint lists what it has); ERR_NOSPACE: more
 * comes out of it than may, or than there is room for.
 */
MUST_CHECK int source_open(int fd, const char *path, const char *member, const char *format, const struct source_opts *o,
			   struct source *ret, struct err *e);
/* A file as it is; cannot fail but for what isn't a file. */
MUST_CHECK int source_plain(int fd, struct source *ret, struct err *e);
void source_done(struct source *s);	/* safe on one with file.fd and outer -1 */
/* Finds out its format, as format_probe does. */
MUST_CHECK int source_probe(const struct source *s, const char *path, const struct format **ret, struct err *e);
/* Opens the image; what s owns goes over to it.  io->window is ignored. */
MUST_CHECK int source_image(struct source *s, const struct format *f, const char *path, const struct image_open_opts *io,
			    const struct source_opts *o, struct image **ret, struct err *e);
/* The file whose identity and locks count: as it lies on the disk. */
static inline int source_outer(const struct source *s)
{
	return s->outer >= 0 ? s->outer : s->file.fd;
}

#endif
