/*
 * formats.h - the registry of formats: names, probing, and opening by name.  Only cli/ and formats/ include it.
 */
#ifndef KEDGE_FORMATS_FORMATS_H
#define KEDGE_FORMATS_FORMATS_H

#include "formats/image.h"
#include "formats/writer.h"

enum format_can {			/* bits of struct format.can: what create does */
	FORMAT_CLUSTERS = 1 << 0,	/* writer_opts.cluster_size */
	FORMAT_COMPRESS = 1 << 1,
	FORMAT_SNAPSHOTS = 1 << 2,	/* several states */
	FORMAT_PREALLOC = 1 << 3,	/* PREALLOC_FALLOC and PREALLOC_FULL */
	FORMAT_PREALLOC_METADATA = 1 << 4,
	FORMAT_IDS = 1 << 5,		/* images have ids (writer_opts.ids) */
	FORMAT_DEVICE = 1 << 6,		/* onto a block device */
	FORMAT_ENCRYPT = 1 << 7,	/* writer_opts.secret */
	FORMAT_BACKING = 1 << 8,	/* writer_opts.backing */
	FORMAT_PIECES = 1 << 9,	/* writer_opts.piece_size */
	FORMAT_ZSTD = 1 << 10,		/* writer_opts.zstd */
	FORMAT_EXTENDED_L2 = 1 << 11,	/* writer_opts.extended_l2 */
};

struct format {
	const char *name;
	const char *const *endings;	/* of new files' names that mean this format: NULL-terminated; NULL = none */
	/* How sure the format is that this is one of its images: 0 no, 100 its magic and version fit.  head holds the
	 * first head_len (<= 4096) bytes, tail the last 512 of the file.  NULL: never probed (raw). */
	int (*probe)(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size);
	/* Takes fd over on success. */
	int (*open)(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e);
	/* Reads from the header alone who the image is: 1; 0: it has no ids, or the file isn't one.  An op for looking
	 * through folders: quick, bounded, opens nothing else.  NULL: images of this format have none. */
	int (*read_ids)(const struct file *f, struct image_ids *ret, struct err *e);
	int (*create)(const struct writer_opts *o, struct image_writer **ret, struct err *e);	/* NULL: read only */
	unsigned can;			/* enum format_can */
	uint32_t cluster_min, cluster_max;	/* writer_opts.cluster_size, a power of two, with FORMAT_CLUSTERS */
	/* What create can make of it, writer_opts.subformat: NULL-terminated, the default first.  NULL: there is one.
	 */
	const char *const *subformats;
};

/* NULL if unknown.  "qcow3" is another name of qcow2. */
const struct format *format_find(const char *name);
/* All formats, NULL-named at the end. */
const struct format *format_list(void);
/* Names the format of fd's content.  Nothing found, or found ambiguous (an image's magic and a partition table):
 * ERR_INVALID, and the hint is the line to type with path in it. */
MUST_CHECK int format_probe(int fd, const char *path, const struct format **ret, struct err *e);
/* The same for a part of a file, or what came out of one. */
MUST_CHECK int format_probe_part(const struct file *f, const char *path, const struct format **ret, struct err *e);
/* "DISK=FORMAT:PATH" taken apart: disk and format are malloc'ed or NULL, path is malloc'ed.  A prefix counts only
 * before the first '/' and, for FORMAT, only if it is a known name; "./a:b" is a path. */
MUST_CHECK int format_parse_source(const char *arg, char **ret_disk, const struct format **ret_format, char **ret_path,
				   struct err *e);

#endif
