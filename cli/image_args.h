/*
 * image_args.h - what the commands that read images have in common: naming one and opening it.
 */
#ifndef KEDGE_CLI_IMAGE_ARGS_H
#define KEDGE_CLI_IMAGE_ARGS_H

#include "cli/cli.h"
#include "formats/chain.h"
#include "formats/formats.h"

#define IMAGE_FORMATS "qcow2, qcow, raw, vdi, vmdk, vhd, vhdx"	/* that are read */

struct image_args {
	const char *format, *backing_format;
	struct opt_list allow_paths;
	bool force;
};

/* Rows for a command's table; its struct has a member `image`. */
#define IMAGE_ARGS_FORMAT(type) \
	OPT(type, image.format, 0, OPT_TEXT, "format", "FORMAT", "the image's format: " IMAGE_FORMATS " (default: found out)")
#define IMAGE_ARGS_CHAIN(type)                                                                                         \
	OPT(type, image.allow_paths, 0, OPT_LIST, "allow-path", "DIR",                                                 \
	    "layers may lie in this folder too (repeatable)"),                                                         \
		OPT(type, image.backing_format, 0, OPT_TEXT, "backing-format", "FORMAT",                               \
		    "of layers for which the image stores none")

/* "[FORMAT:]PATH" and --format taken apart: *ret_format is NULL when it is to be probed; *ret_path is malloc'ed.  Wrong
 * usage sets exit 2. */
MUST_CHECK int image_args_name(struct cli *c, const struct image_args *a, const char *arg,
			       const struct format **ret_format, char **ret_path, struct err *e);
/* Opens the image and what lies below it.  *ret_path is malloc'ed, for messages. */
MUST_CHECK int image_args_open(struct cli *c, const struct image_args *a, const char *arg, bool ignore_locks,
			       struct chain **ret, char **ret_path, struct err *e);

/* Tells what the readers of a chain's layers have noted: damage that doesn't hurt. */
void image_args_warn(const struct cli *c, const struct chain *chain);

#endif
