/*
 * writer_args.h - what the commands that write images have in common: the options that say what the new image is like.
 */
#ifndef KEDGE_CLI_WRITER_ARGS_H
#define KEDGE_CLI_WRITER_ARGS_H

#include "cli/cli.h"
#include "formats/formats.h"

/* Names that -O takes: those of formats.c that can be written. */
#define WRITER_FORMATS "raw|qcow2|qcow3|split|qcow|vdi|vhd|vhdx|vmdk"

struct writer_args {
	const char *format, *subformat, *preallocation, *seed_ids, *compression_type;
	uint64_t cluster_size, piece_size;
	bool compress, extended_l2, keep_ids;
};

/* Rows for a command's table; its struct has a member `writer`. */
#define WRITER_ARGS(type, default_) \
	OPT(type, writer.format, 'O', OPT_TEXT, "format", "FORMAT", "of the new image (default: " default_ ")", \
	    .choices = WRITER_FORMATS), \
	WRITER_ARGS_MORE(type)
#define WRITER_ARGS_MORE(type) \
	OPT(type, writer.subformat, 0, OPT_TEXT, "subformat", "KIND", \
	    "which kind: raw: plain, zst, gz or xz; qcow2: v3 or v2; vdi, vhd, vhdx: dynamic or fixed; " \
	    "vmdk: monolithicSparse, streamOptimized..."), \
	OPT(type, writer.cluster_size, 0, OPT_SIZE, "cluster-size", "SIZE", \
	    "of clusters or blocks (default: qcow2 64K, qcow 4K, vhd and vhdx 2M)", .min = 512, .max = 256 * MIB), \
	OPT(type, writer.compress, 0, OPT_FLAG, "compress", NULL, \
	    "qcow2, qcow: compress clusters; vmdk: as streamOptimized; raw: the file"), \
	OPT(type, writer.compression_type, 0, OPT_TEXT, "compression-type", "TYPE", \
	    "qcow2: compress clusters by this (default: zlib)", .choices = "zlib|zstd"), \
	OPT(type, writer.extended_l2, 0, OPT_FLAG, "extended-l2", NULL, "qcow2: with subclusters, 32 in a cluster"), \
	OPT(type, writer.piece_size, 0, OPT_SIZE, "piece-size", "SIZE", "of the pieces of -O split (default: 2G)", \
	    .min = 64 * KIB, .max = INT64_MAX), \
	OPT(type, writer.preallocation, 0, OPT_TEXT, "preallocation", "MODE", "reserve space", \
	    .choices = "off|metadata|falloc|full"), \
	OPT(type, writer.keep_ids, 0, OPT_FLAG, "keep-ids", NULL, \
	    "give the image the UUIDs that the old one had (default: new ones)"), \
	OPT(type, writer.seed_ids, 0, OPT_TEXT, "seed-ids", "TEXT", \
	    "make its ids from TEXT: the same point and options give the same file")

/* What contradicts itself whatever the format: wrong usage (exit 2). */
MUST_CHECK int writer_args_check(struct cli *c, const struct writer_args *a, struct err *e);
/* How files that become that format are called: "raw.zst", "qcow2". */
const char *writer_ending(const struct writer_args *a, const struct format *f);
/* The format that path's ending stands for; NULL if none that can be written. */
const struct format *writer_format_of(const char *path);
/* Wrong usage when an option doesn't go with the format that path is to get; ERR_INVALID when the old image has no ids
 * to keep. */
MUST_CHECK int writer_args_fit(struct cli *c, const struct writer_args *a, const struct format *f, const char *path,
			       const struct image_ids *ids, struct err *e);
/* Wrong usage when an option doesn't go with an image that is to be encrypted. */
MUST_CHECK int writer_args_sealed(struct cli *c, const struct writer_args *a, struct err *e);
/* The same for an overlay. */
MUST_CHECK int writer_args_thin(struct cli *c, const struct writer_args *a, struct err *e);
/*
 * Fills *ret but for path, sizes and replace.  disk tells the disks of one machine apart, whose ids must differ, and
 * ids are those of the old image: both are used, and borrowed, as far as options say so.  time_ns is noted in the
 * image where it is to be the same each time.  *ret_seed (malloc'ed or NULL) must live as long as *ret.
 */
MUST_CHECK int writer_args_opts(const struct cli *c, const struct writer_args *a, const char *disk,
				const struct image_ids *ids, int64_t time_ns, struct writer_opts *ret, char **ret_seed,
				struct err *e);

#endif
