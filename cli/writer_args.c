/* writer_args.c - what a new image is to be like. */
#include "cli/writer_args.h"

#include <inttypes.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"

#define EXTENDED_CLUSTER_MIN (16 * KIB)	/* of qcow2 with subclusters, which have at least 512 bytes */

static enum preallocation preallocation_of(const char *text)
{
	static const char *const names[] = { "off", "metadata", "falloc", "full" };

	for (unsigned i = 0; text && i < 4; i++)
		if (!strcmp(text, names[i]))
			return (enum preallocation)i;
	return PREALLOC_OFF;
}

/* --compression-type says that, too. */
static bool compresses(const struct writer_args *a)
{
	return a->compress || a->compression_type;
}

static bool is_zstd(const struct writer_args *a)
{
	return a->compression_type && !strcmp(a->compression_type, "zstd");
}

int writer_args_check(struct cli *c, const struct writer_args *a, struct err *e)
{
	if (a->cluster_size && !is_pow2(a->cluster_size))
		return cli_usage(c, e, "--cluster-size must be a power of two");
	if (compresses(a) && preallocation_of(a->preallocation) != PREALLOC_OFF)
		return cli_usage(c, e, "--%s and --preallocation contradict each other",
				 a->compress ? "compress" : "compression-type");
	if (a->format && !strcmp(a->format, "qcow3") && a->subformat && strcmp(a->subformat, "v3") != 0)
		return cli_usage(c, e, "-O qcow3 is version 3 of qcow2: --subformat contradicts it");
	if (a->keep_ids && a->seed_ids)
		return cli_usage(c, e, "--keep-ids and --seed-ids contradict each other");
	return 0;
}

const struct format *writer_format_of(const char *path)
{
	size_t len = strlen(path);

	for (const struct format *f = format_list(); f->name; f++)
		for (const char *const *end = f->endings; f->create && end && *end; end++)
			if (len >= strlen(*end) && !strcmp(path + len - strlen(*end), *end))
				return f;
	return NULL;
}

const char *writer_ending(const struct writer_args *a, const struct format *f)
{
	const char *kind = a->subformat ? a->subformat : a->compress ? "zst" : "plain";

	if (!strcmp(f->name, "split"))
		return "raw";
	if (strcmp(f->name, "raw") != 0 || !strcmp(kind, "plain"))
		return f->name;
	return !strcmp(kind, "gz") ? "raw.gz" : !strcmp(kind, "xz") ? "raw.xz" : "raw.zst";
}

/* The formats that can do it: "qcow2", "qcow2 or vdi". */
static const char *able(unsigned can, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = '\0';
	for (const struct format *f = format_list(); f->name; f++) {
		int w;

		if (!f->create || !(f->can & can))
			continue;
		w = snprintf(buf + n, len - n, "%s%s", n ? " or " : "", f->name);
		n += w > 0 && (size_t)w < len - n ? (size_t)w : 0;
	}
	return buf;
}

static int unfit(struct cli *c, const char *option, unsigned can, const struct format *f, const char *path,
		 struct err *e)
{
	char list[200], q[256];

	return cli_usage(c, e, "%s needs -O %s: %s becomes %s", option, able(can, list, sizeof(list)),
			 text_quote(path, q, sizeof(q)), f->name);
}

static int check_subformat(struct cli *c, const char *kind, const struct format *f, const char *path, struct err *e)
{
	char list[300] = "", q[256], qk[64];
	size_t n = 0;

	for (const char *const *s = f->subformats; s && *s; s++) {
		int w = snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", *s);

		if (!strcmp(*s, kind))
			return 0;
		n += w > 0 && (size_t)w < sizeof(list) - n ? (size_t)w : 0;
	}
	if (!f->subformats)
		return cli_usage(c, e, "--subformat %s: %s becomes %s, of which there is one kind",
				 text_quote(kind, qk, sizeof(qk)), text_quote(path, q, sizeof(q)), f->name);
	return cli_usage(c, e, "--subformat %s: %s images are %s", text_quote(kind, qk, sizeof(qk)), f->name, list);
}

static bool is_packed_name(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot && (!strcmp(dot, ".zst") || !strcmp(dot, ".gz") || !strcmp(dot, ".xz"));
}

/* What goes with extended L2 entries and zstd, which only qcow2 has. */
static int check_qcow2(struct cli *c, const struct writer_args *a, struct err *e)
{
	bool v2 = a->subformat && !strcmp(a->subformat, "v2");

	if (v2 && is_zstd(a))
		return cli_usage(c, e, "--subformat v2: that version can't be compressed by zstd");
	if (v2 && a->extended_l2)
		return cli_usage(c, e, "--subformat v2: that version has no extended L2 entries");
	if (a->extended_l2 && a->cluster_size && a->cluster_size < EXTENDED_CLUSTER_MIN)
		return cli_usage(c, e, "--extended-l2 needs clusters of 16K or more, not %" PRIu64, a->cluster_size);
	return 0;
}

int writer_args_fit(struct cli *c, const struct writer_args *a, const struct format *f, const char *path,
		    const struct image_ids *ids, struct err *e)
{
	const struct {
		bool given;
		unsigned can;
		const char *option;
	} needs[] = {
		{ a->cluster_size != 0, FORMAT_CLUSTERS, "--cluster-size" },
		{ a->piece_size != 0, FORMAT_PIECES, "--piece-size" },
		{ a->compress, FORMAT_COMPRESS, "--compress" },
		{ a->compression_type != NULL, FORMAT_ZSTD, "--compression-type" },
		{ a->extended_l2, FORMAT_EXTENDED_L2, "--extended-l2" },
		{ preallocation_of(a->preallocation) == PREALLOC_METADATA, FORMAT_PREALLOC_METADATA,
		  "--preallocation metadata" },
		{ preallocation_of(a->preallocation) > PREALLOC_METADATA, FORMAT_PREALLOC, "--preallocation" },
		{ a->keep_ids, FORMAT_IDS, "--keep-ids" },
	};

	char q[256];

	for (size_t i = 0; i < sizeof(needs) / sizeof(*needs); i++)
		if (needs[i].given && !(f->can & needs[i].can))
			return unfit(c, needs[i].option, needs[i].can, f, path, e);
	if (a->compress && !strcmp(f->name, "raw") && !a->subformat && !is_packed_name(path))
		return cli_usage(c, e, "--compress: nothing in the name %s would say how it is compressed: name it .raw.zst, "
				       ".raw.gz or .raw.xz, or mean it by --subformat zst; or choose -O qcow2", text_quote(path, q, sizeof(q)));
	if (a->cluster_size && (a->cluster_size < f->cluster_min || a->cluster_size > f->cluster_max))
		return cli_usage(c, e, "--cluster-size: %s takes %" PRIu32 " to %" PRIu32 " bytes, not %" PRIu64,
				 f->name, f->cluster_min, f->cluster_max, a->cluster_size);
	if (a->keep_ids && !ids->uuid[0] && !ids->content[0])
		return err_set(e, ERR_INVALID, "--keep-ids: the old image of %s has no ids, or they weren't kept",
			       path);
	if (a->subformat && check_subformat(c, a->subformat, f, path, e) < 0)
		return e->code;
	return check_qcow2(c, a, e);
}

int writer_args_sealed(struct cli *c, const struct writer_args *a, struct err *e)
{
	if (compresses(a))
		return cli_usage(c, e, "--%s: qcow2 has no clusters that are both compressed and encrypted",
				 a->compress ? "compress" : "compression-type");
	if (preallocation_of(a->preallocation) != PREALLOC_OFF)
		return cli_usage(c, e, "--preallocation: what isn't written of an encrypted image would read as noise");
	if (a->seed_ids)
		return cli_usage(
			c, e,
			"--seed-ids: the key of an encrypted image is always random, so no two files are the same");
	return 0;
}

int writer_args_thin(struct cli *c, const struct writer_args *a, struct err *e)
{
	if (preallocation_of(a->preallocation) != PREALLOC_OFF)
		return cli_usage(c, e, "--preallocation would hide the backing file");
	if (a->subformat && !strcmp(a->subformat, "v2"))
		return cli_usage(c, e, "--subformat v2: that version can't hide what the backing file has");
	return 0;
}

int writer_args_opts(const struct cli *c, const struct writer_args *a, const char *disk, const struct image_ids *ids,
		     int64_t time_ns, struct writer_opts *ret, char **ret_seed, struct err *e)
{
	char *seed = NULL;

	if (a->seed_ids) {
		seed = text_printf(e, "%s\n%s", a->seed_ids, disk);
		if (!seed)
			return e->code;
	}
	*ret = (struct writer_opts){
		.cluster_size = (uint32_t)a->cluster_size,
		.compress = compresses(a),
		.zstd = is_zstd(a),
		.extended_l2 = a->extended_l2,
		.piece_size = a->piece_size,
		.preallocation = preallocation_of(a->preallocation),
		.threads = (unsigned)c->g.threads,
		.max_bytes = (size_t)(c->g.memory / 4),
		.subformat = a->subformat,
		.ids = a->keep_ids ? ids : NULL,
		.id_seed = seed,
		.time_ns = a->seed_ids ? time_ns : 0,
	};
	*ret_seed = seed;
	return 0;
}
