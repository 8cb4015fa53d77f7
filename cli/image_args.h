/*
 * image_args.h - what the commands that read images have in common: naming one and opening it.
 */
#ifndef KEDGE_CLI_IMAGE_ARGS_H
#define KEDGE_CLI_IMAGE_ARGS_H

#include "base/vec.h"
#include "cli/cli.h"
#include "formats/archive/source.h"
#include "formats/chain.h"
#include "formats/crypt/crypt.h"
#include "formats/formats.h"

#define IMAGE_FORMATS "qcow2, qcow, raw, split, vdi, vmdk, vhd, vhdx"	/* that are read */

struct image_args {
	const char *format;
	struct opt_list allow_paths, backing_formats, secrets;
	const char *temp_dir;
	uint64_t max_unpacked;
	bool force;
};

/* Rows for a command's table; its struct has a member `image`. */
#define IMAGE_ARGS_FORMAT(type) \
	OPT(type, image.format, 0, OPT_TEXT, "format", "FORMAT", \
	    "the image's format: " IMAGE_FORMATS " (default: found out)")
#define IMAGE_ARGS_CHAIN(type)                                                                                         \
	OPT(type, image.allow_paths, 0, OPT_LIST, "allow-path", "DIR",                                                 \
	    "layers may lie in this folder too (repeatable)"),                                                         \
		OPT(type, image.backing_formats, 0, OPT_LIST, "backing-format", "[NAME=]FORMAT",                       \
		    "of layers for which the image stores none")

#define IMAGE_ARGS_UNPACK(type)                                                                                        \
	OPT(type, image.temp_dir, 0, OPT_TEXT, "temp-dir", "DIR",                                                      \
	    "where compressed images are unpacked (default: TMPDIR, /var/tmp)"),                                       \
		OPT(type, image.max_unpacked, 0, OPT_SIZE, "max-unpacked", "SIZE",                                     \
		    "refuse compressed images that are larger (default: what there is room for)", .min = 1,      \
		    .max = INT64_MAX)

#define IMAGE_ARGS_SECRET(type)                                                                                        \
	OPT(type, image.secrets, 0, OPT_LIST, "image-secret", "[NAME=]FILE",                                           \
	    "the password of encrypted images is in FILE (NAME: a layer's file or a disk; repeatable)")

/* The files of --image-secret, in locked memory. */
struct image_keys {
	VEC(struct image_secret) list;	/* what they point to is owned */
};
MUST_CHECK int image_keys_load(struct cli *c, const struct image_args *a, struct image_keys *ret, struct err *e);
void image_keys_done(struct image_keys *k);
/* Those for a disk (NULL: there are no disks): its own, if it has some, else those of no disk.  *ret borrows buf, which
 * takes IMAGE_KEYS_MAX, and c, whose signals interrupt their use. */
#define IMAGE_KEYS_MAX 16
void image_keys_for(struct cli *c, const struct image_keys *k, const char *disk, struct image_secret *buf,
		    struct image_secrets *ret);

/* How compressed images are unpacked; borrows a and c. */
struct source_opts image_args_source(struct cli *c, const struct image_args *a);
/* Fills in the same of o. */
void image_args_unpack(struct cli *c, const struct image_args *a, struct chain_opts *o);

/* Formats that --backing-format gives must be known: wrong usage. */
MUST_CHECK int image_args_check(struct cli *c, const struct image_args *a, struct err *e);
/* "[FORMAT:]PATH" and --format taken apart: *ret_format is NULL when it is to be probed; *ret_path is malloc'ed.  Wrong
 * usage sets exit 2. */
MUST_CHECK int image_args_name(struct cli *c, const struct image_args *a, const char *arg,
			       const struct format **ret_format, char **ret_path, struct err *e);
/* Opens the image and what lies below it.  locked_ok: encrypted layers without a secret too.  *ret_path is malloc'ed,
 * for messages. */
MUST_CHECK int image_args_open(struct cli *c, const struct image_args *a, const char *arg, bool ignore_locks,
			       bool locked_ok, struct chain **ret, char **ret_path, struct err *e);

/* Tells what the readers of a chain's layers have noted: damage that doesn't hurt. */
void image_args_warn(const struct cli *c, const struct chain *chain);

#endif
