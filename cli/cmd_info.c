/* cmd_info.c - what an image file is: format, sizes, states, references.  Reads metadata only, ignores locks. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "cli/image_args.h"
#include "cli/info_machine.h"
#include "cli/msg.h"
#include "cli/table.h"
#include "formats/machine/machine.h"

#define SHOWN_BYTES 512

struct info_opts {
	struct image_args image;
	bool chain;
};

static const struct { uint32_t bit; const char *name; } feature_names[] = {
	{ IMAGE_DIRTY, "dirty" },
	{ IMAGE_CORRUPT, "corrupt" },
	{ IMAGE_EXTERNAL_DATA, "external-data" },
	{ IMAGE_RAW_EXTERNAL, "raw-external" },
	{ IMAGE_COMPRESSED_ZSTD, "zstd" },
	{ IMAGE_EXTENDED_L2, "extended-l2" },
	{ IMAGE_BITMAPS, "bitmaps" },
	{ IMAGE_LAZY_REFCOUNTS, "lazy-refcounts" },
	{ IMAGE_ENCRYPTED, "encrypted" },
};
#define NFEATURES (sizeof(feature_names) / sizeof(feature_names[0]))

/* Opens the file alone: no backing file, no data file. */
static int open_alone(struct cli *c, const struct image_args *a, const char *arg, struct image **ret, struct err *e)
{
	CLEANUP(source_done) struct source s = { .file.fd = -1, .outer = -1 };
	CLEANUP(free_ptr) char *full = NULL, *path = NULL, *member = NULL;
	const struct image_open_opts o = { .force = true, .metadata_only = true };
	const struct source_opts so = image_args_source(c, a);
	const struct format *f = NULL;
	char shown[SHOWN_BYTES];
	struct stat st;
	int fd;

	if (image_args_name(c, a, arg, &f, &full, e) < 0 || source_split_path(full, &path, &member, e) < 0)
		return e->code;
	text_quote(full, shown, sizeof(shown));
	if (stat(path, &st) < 0)
		return err_sys(e, "%s", shown);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is neither a file nor a block device", shown);
	fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	if (fd < 0)
		return err_sys(e, "%s", shown);
	if (!f && S_ISBLK(st.st_mode))
		f = format_find("raw");
	if (source_open(fd, path, member, f ? f->name : NULL, &so, &s, e) < 0 ||
	    (!f && source_probe(&s, full, &f, e) < 0) || source_image(&s, f, full, &o, &so, ret, e) < 0)
		return err_ctx(e, "%s", shown);
	return 0;
}

/* --- for people --------------------------------------------------------------------------------------------------- */

static void field(const char *name, const char *value)
{
	printf("%-14s %s\n", name, value);
}

static void size_field(const struct cli *c, const char *name, uint64_t v)
{
	char human[MSG_SIZE_BYTES];

	printf("%-14s %s", name, msg_size(c, v, human));
	if (!c->g.bytes && v >= KIB)
		printf(" (%" PRIu64 " bytes)", v);
	putchar('\n');
}

static void print_features(const struct image_info *in)
{
	bool any = false;

	for (size_t i = 0; i < NFEATURES; i++) {
		if (!(in->features & feature_names[i].bit))
			continue;
		printf(any ? ", %s" : "features       %s", feature_names[i].name);
		any = true;
	}
	if (any)
		putchar('\n');
}

static int print_states(const struct cli *c, const struct image *im, struct err *e)
{
	CLEANUP(table_done) struct table t = { 0 };

	if (im->info.nstates <= 1)
		return 0;
	table_init(&t, 6, (const char *const[]){ "ID", "NAME", "SIZE>", "VM STATE>", "GUEST CLOCK>", "DATE" });
	for (uint32_t i = 1; i < im->info.nstates; i++) {
		const struct image_state *s = image_state(im, i);
		char id[SHOWN_BYTES], name[SHOWN_BYTES], date[32], size[MSG_SIZE_BYTES], vm[MSG_SIZE_BYTES], clock[48];
		uint64_t sec = s->vm_clock_ns / 1000000000u;

		snprintf(clock, sizeof(clock), "%" PRIu64 ":%02u:%02u.%03u", sec / 3600, (unsigned)(sec / 60 % 60),
			 (unsigned)(sec % 60), (unsigned)(s->vm_clock_ns / 1000000u % 1000));
		if (table_row(&t, e, text_quote(s->id, id, sizeof(id)), text_quote(s->name, name, sizeof(name)),
			      msg_size(c, s->size, size), s->vm_state_bytes ? msg_size(c, s->vm_state_bytes, vm) : NULL,
			      clock, clock_local_text(s->date_ns, date)) < 0)
			return e->code;
	}
	puts("snapshots");
	table_print(&t, 2, stdout);
	return 0;
}

static int print_bitmaps(const struct cli *c, const struct image_info *in, struct err *e)
{
	CLEANUP(table_done) struct table t = { 0 };

	if (!in->nbitmaps)
		return 0;
	table_init(&t, 3, (const char *const[]){ "NAME", "GRANULARITY>", "FLAGS" });
	for (uint32_t i = 0; i < in->nbitmaps; i++) {
		const struct image_bitmap *b = &in->bitmaps[i];
		char name[SHOWN_BYTES], size[MSG_SIZE_BYTES];

		if (table_row(&t, e, text_quote(b->name, name, sizeof(name)), msg_size(c, b->granularity, size),
			      b->in_use ? (b->auto_on ? "in-use, auto" : "in-use") : b->auto_on ? "auto" : "") < 0)
			return e->code;
	}
	puts("bitmaps");
	table_print(&t, 2, stdout);
	return 0;
}

#define PIECES_SHOWN 16

static int print_pieces(const struct cli *c, const struct image_info *in, struct err *e)
{
	CLEANUP(table_done) struct table t = { 0 };

	if (!in->npieces)
		return 0;
	table_init(&t, 3, (const char *const[]){ "KIND", "SIZE>", "FILE" });
	for (uint32_t i = 0; i < in->npieces && i < PIECES_SHOWN; i++) {
		const struct image_piece *p = &in->pieces[i];
		char file[SHOWN_BYTES], size[MSG_SIZE_BYTES];

		if (table_row(&t, e, p->kind, msg_size(c, p->size, size),
			      p->file ? text_quote(p->file, file, sizeof(file)) : NULL) < 0)
			return e->code;
	}
	printf("extents        %" PRIu32 "\n", in->npieces);
	table_print(&t, 2, stdout);
	if (in->npieces > PIECES_SHOWN)
		printf("  and %" PRIu32 " more\n", in->npieces - PIECES_SHOWN);
	return 0;
}

static void print_ids(const char *uuid, const char *modify, const char *content, const struct image_ids *ids)
{
	if (ids->uuid[0])
		field(uuid, ids->uuid);
	if (ids->modify[0])
		field(modify, ids->modify);
	if (ids->content[0])
		field(content, ids->content);
}

/* What the file takes on its file system; block devices take all of theirs. */
static bool stored_bytes(const struct image *im, uint64_t *ret)
{
	struct stat st;

	if (im->identity.block_device || im->file.fd < 0 || im->member || fstat(image_outer_fd(im), &st) < 0)
		return false;
	*ret = (uint64_t)st.st_blocks * 512;	/* stat(2): of 512 bytes, always */
	return true;
}

static int print_image(const struct cli *c, const struct image *im, struct err *e)
{
	const struct image_info *in = image_info(im);
	char shown[SHOWN_BYTES], format[64];
	uint64_t stored;

	field("image", text_quote(im->path, shown, sizeof(shown)));
	if (in->version)
		printf("%-14s %s, version %" PRIu32 "\n", "format", in->format, in->version);
	else
		field("format", in->format);
	if (in->variant)
		field("kind", in->variant);
	if (in->wrapping)
		field("in", text_quote(in->wrapping, shown, sizeof(shown)));
	size_field(c, "virtual size", in->virtual_size);
	size_field(c, "file size", in->file_size);
	if (stored_bytes(im, &stored))
		size_field(c, "on disk", stored);
	if (in->cluster_size)
		size_field(c, "cluster size", in->cluster_size);
	if (in->creator)
		field("made by", text_quote(in->creator, shown, sizeof(shown)));
	if (in->adapter)
		field("adapter", text_quote(in->adapter, shown, sizeof(shown)));
	if (in->encryption)
		field("encrypted", text_quote(in->encryption, shown, sizeof(shown)));
	if (in->compression)
		field("compression", in->compression);
	if (in->refcount_bits)
		printf("%-14s %" PRIu32 "\n", "refcount bits", in->refcount_bits);
	print_features(in);
	if (in->note)
		field("note", text_quote(in->note, shown, sizeof(shown)));
	if (in->backing)
		printf("%-14s %s (format %s)\n", "backing file", text_quote(in->backing, shown, sizeof(shown)),
		       in->backing_format ? text_quote(in->backing_format, format, sizeof(format)) : "not stored");
	if (in->damage)
		field("damaged", text_quote(in->damage, shown, sizeof(shown)));
	print_ids("uuid", "modified", "content id", &in->ids);
	print_ids("parent uuid", "its modified", "its content id", &im->parent.ids);
	if (in->data_file)
		field("data file", text_quote(in->data_file, shown, sizeof(shown)));
	if (print_pieces(c, in, e) < 0 || print_states(c, im, e) < 0)
		return e->code;
	return print_bitmaps(c, in, e);
}

/* --- for programs ------------------------------------------------------------------------------------------------- */

static json_t *states_json(const struct image *im)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < im->info.nstates; i++) {
		const struct image_state *s = image_state(im, i);
		char date[32];
		json_t *row = json_pack("{s:o, s:o, s:o, s:o, s:o}", "name", msg_json_text(s->name),
					"id", msg_json_text(s->id), "size", msg_json_u64(s->size),
					"vm_state_bytes", msg_json_u64(s->vm_state_bytes),
					"vm_clock_ns", msg_json_u64(s->vm_clock_ns));

		if (row && i > 0 && json_object_set_new(row, "date", json_string(clock_utc_text(s->date_ns, date)))) {
			json_decref(row);
			row = NULL;
		}
		if (json_array_append_new(list, row)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *bitmaps_json(const struct image_info *in)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < in->nbitmaps; i++) {
		const struct image_bitmap *b = &in->bitmaps[i];

		if (json_array_append_new(list, json_pack("{s:o, s:o, s:b, s:b}", "name", msg_json_text(b->name),
							  "granularity", msg_json_u64(b->granularity),
							  "in_use", b->in_use, "auto", b->auto_on))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *pieces_json(const struct image_info *in)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < in->npieces; i++) {
		const struct image_piece *p = &in->pieces[i];

		if (json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "kind", p->kind,
							  "file", msg_json_text(p->file),
							  "size", msg_json_u64(p->size)))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *features_json(const struct image_info *in)
{
	json_t *list = json_array();

	for (size_t i = 0; i < NFEATURES; i++)
		if ((in->features & feature_names[i].bit) &&
		    json_array_append_new(list, json_string(feature_names[i].name))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *id_json(const char *id)
{
	return id[0] ? json_string(id) : json_null();
}

static json_t *ids_json(const struct image_ids *ids)
{
	return json_pack("{s:o, s:o, s:o}", "uuid", id_json(ids->uuid), "modify", id_json(ids->modify),
			 "content", id_json(ids->content));
}

static json_t *image_json(const struct image *im)
{
	const struct image_info *in = image_info(im);
	uint64_t stored;
	bool known = stored_bytes(im, &stored);

	/* "o" takes a NULL over as failure of the whole, so that nothing is printed by halves */
	return json_pack("{s:o, s:o, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
			 "s:o, s:o, s:o, s:o, s:o, s:o}",
			 "image", msg_json_text(im->path), "encryption", msg_json_text(in->encryption),
			 "format", in->format, "version", (int)in->version,
			 "virtual_size", msg_json_u64(in->virtual_size), "file_size", msg_json_u64(in->file_size),
			 "cluster_size", msg_json_u64(in->cluster_size), "compression", msg_json_text(in->compression),
			 "features", features_json(in), "refcount_bits", (int)in->refcount_bits,
			 "backing", msg_json_text(in->backing), "backing_format", msg_json_text(in->backing_format),
			 "data_file", msg_json_text(in->data_file), "states", states_json(im),
			 "bitmaps", bitmaps_json(in), "variant", msg_json_text(in->variant),
			 "note", msg_json_text(in->note),
			 "damage", msg_json_text(in->damage),
			 "ids", ids_json(&in->ids), "parent_ids", ids_json(&im->parent.ids),
			 "stored", known ? msg_json_u64(stored) : json_null(), "creator", msg_json_text(in->creator),
			 "adapter", msg_json_text(in->adapter), "extents", pieces_json(in));
}

/* --- the command -------------------------------------------------------------------------------------------------- */

static int show_alone(struct cli *c, const struct info_opts *o, struct err *e)
{
	struct image *im = NULL;
	int r;

	if (open_alone(c, &o->image, c->args[0], &im, e) < 0)
		return e->code;
	r = c->g.json ? msg_json(image_json(im), e) : print_image(c, im, e);
	image_close(im);
	return r;
}

static int show_chain(struct cli *c, const struct info_opts *o, struct err *e)
{
	struct image_args args = o->image;
	CLEANUP(free_ptr) char *path = NULL;
	struct chain *chain = NULL;
	json_t *list = NULL;
	int r = 0;

	args.force = true;	/* nothing but metadata is shown */
	if (image_args_open(c, &args, c->args[0], true, true, &chain, &path, e) < 0)
		return e->code;
	if (c->g.json)
		list = json_array();
	for (uint32_t i = 0; r == 0 && i < chain->nlayers; i++) {
		if (c->g.json && json_array_append_new(list, image_json(chain->layers[i])))
			r = err_set(e, ERR_NOMEM, "no memory for the JSON result");
		if (!c->g.json) {
			printf(i ? "\nlayer %" PRIu32 "\n" : "layer %" PRIu32 "\n", i);
			r = print_image(c, chain->layers[i], e);
		}
	}
	if (r == 0 && c->g.json)
		r = msg_json(STEAL(list), e);
	json_decref(list);
	chain_close(chain);
	return r;
}

static int run_info(struct cli *c, void *opts, struct err *e)
{
	const struct info_opts *o = opts;

	if (!o->image.format && machine_is(c->args[0])) {
		if (o->chain || o->image.backing_formats.n)
			return cli_usage(c, e, "--chain and --backing-format are for images, not for a machine's "
					       "description");
		return info_machine(c, c->args[0], o->image.allow_paths.p, e);
	}
	if (!o->chain && (o->image.allow_paths.n || o->image.backing_formats.n))
		return cli_usage(c, e,
				 "--allow-path and --backing-format need --chain: without it no other file is opened");
	return o->chain ? show_chain(c, o, e) : show_alone(c, o, e);
}

static const struct opt info_options[] = {
	OPT(struct info_opts, chain, 0, OPT_FLAG, "chain", NULL, "show every layer of the backing chain, top first"),
	IMAGE_ARGS_FORMAT(struct info_opts),
	IMAGE_ARGS_CHAIN(struct info_opts),
	IMAGE_ARGS_UNPACK(struct info_opts),
	{ .name = NULL },
};

const struct command cmd_info = {
	.name = "info",
	.summary = "show what an image is: format, sizes, snapshots, references",
	.usage = "[FORMAT:]IMAGE|MACHINE",
	.text = "Reads metadata only and works on the image of a running VM, where it shows what is in the\n"
		"file at that moment. Opens no other file unless --chain is given. With --json an object, with\n"
		"--chain an array of them.",
	.options = info_options,
	.opts_size = sizeof(struct info_opts),
	.globals = CLI_JSON | CLI_BYTES,
	.min_args = 1,
	.max_args = 1,
	.run = run_info,
};
