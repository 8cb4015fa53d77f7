/*
 * cmd_restore.c - kedge restore: a point into a fresh image, onto a block device, or a whole VM into a folder.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "cli/restore_internal.h"
#include "cli/restore_size.h"

static const struct opt restore_options[] = {
	OPT(struct restore_cmd_opts, output, 'o', OPT_TEXT, "output", "FILE",
	    "write one disk to this file or block device"),
	OPT(struct restore_cmd_opts, to, 0, OPT_TEXT, "to", "DIR", "write all disks and attachments into this folder"),
	OPT(struct restore_cmd_opts, writer.format, 'O', OPT_TEXT, "format", "FORMAT",
	    "of the new image, or ova: all disks in one file (default: by the file's name, else as it was)",
	    .choices = WRITER_FORMATS "|ova"),
	WRITER_ARGS_MORE(struct restore_cmd_opts),
	OPT(struct restore_cmd_opts, sizes, 0, OPT_LIST, "size", "[DISK=]SIZE",
	    "grow the disk to this size: zeros behind its end (repeatable)"),
	OPT(struct restore_cmd_opts, with_snapshots, 0, OPT_FLAG, "with-snapshots", NULL,
	    "qcow2: with all internal snapshots of that backup"),
	RESTORE_CRYPT_ARGS(struct restore_cmd_opts),
	RESTORE_MACHINE_ARGS(struct restore_cmd_opts),
	RESTORE_BACKING_ARGS(struct restore_cmd_opts),
	OPT(struct restore_cmd_opts, crypt.args.allow_paths, 0, OPT_LIST, "allow-path", "DIR",
	    "layers below --backing may lie in this folder too (repeatable)"),
	OPT(struct restore_cmd_opts, force, 'f', OPT_FLAG, "force", NULL,
	    "overwrite existing files, or the block device"),
	OPT(struct restore_cmd_opts, salvage, 0, OPT_FLAG, "salvage", NULL,
	    "restore what can be had of a damaged point; zeros elsewhere, exit 4"),
	{ .name = NULL },
};

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

/* The target's format: as asked for, a block device's, by the name's ending, else what the disk was. */
const struct format *restore_format(const struct restore_cmd_opts *o, const char *path,
					  const struct manifest_disk *d)
{
	struct stat st;
	const struct format *f;

	if (o->writer.format)
		return format_find(o->writer.format);
	if (path && stat(path, &st) == 0 && S_ISBLK(st.st_mode))
		return format_find("raw");
	f = path ? writer_format_of(path) : NULL;
	if (f)
		return f;
	f = format_find(d->format);
	return f && f->create ? f : format_find("raw");
}

/* Names by which people would take the file for something else than what it would be. */
static bool is_foreign(const char *path)
{
	static const char *const endings[] = { ".vmdk", ".vdi", ".vhd", ".vhdx", ".qcow" };

	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++)
		if (ends_with(path, endings[i]))
			return !writer_format_of(path);
	return false;
}

/* -O ova, or a name that says so. */
static bool restore_is_ova(const struct restore_cmd_opts *o)
{
	return o->writer.format ? !strcmp(o->writer.format, "ova") : o->output && ends_with(o->output, ".ova");
}

static int check_options(const struct restore_job *j, struct err *e)
{
	const struct restore_cmd_opts *o = j->o;
	struct cli *c = j->c;

	if (j->ova && (!o->output || o->to))
		return cli_usage(c, e, "-O ova is one file: -o machine.ova; --to DIR --machine ovf -O vmdk is a folder");
	if (j->ova && strcmp(o->writer.subformat, "streamOptimized"))
		return cli_usage(c, e, "-O ova: its disks are streamOptimized, not %s", o->writer.subformat);
	if (j->ova && o->machine.kind && strcmp(o->machine.kind, "ovf"))
		return cli_usage(c, e, "-O ova: it holds an OVF, not --machine %s", o->machine.kind);
	if (!o->to && !j->ova && (o->machine.kind || o->machine.name || o->machine.firmware || o->machine.memory || o->machine.cpus))
		return cli_usage(c, e, "options for the machine need --to DIR, or -O ova");
	if (o->crypt.args.allow_paths.n && !o->backing.file)
		return cli_usage(c, e, "--allow-path is for the layers below --backing");
	if (!o->output == !o->to)
		return cli_usage(c, e, "say where to: either -o FILE for one disk or --to DIR for all");
	if (writer_args_check(c, &o->writer, e) < 0)
		return e->code;
	if (o->output && !o->writer.format && is_foreign(o->output))
		return cli_usage(c, e,
				 "%s: that is the name of a format that can't be written yet: -O raw or -O qcow2 says "
				 "what it is to be",
				 o->output);
	return 0;
}

static void copy_id(char *buf, size_t len, const char *id)
{
	snprintf(buf, len, "%s", id ? id : "");
}

/* What the image of a disk was called. */
static void old_ids(const struct manifest_disk *d, struct image_ids *ret)
{
	copy_id(ret->uuid, sizeof(ret->uuid), d->uuid);
	copy_id(ret->modify, sizeof(ret->modify), d->modify_uuid);
	copy_id(ret->content, sizeof(ret->content), d->content_id);
}

/* Of a machine --keep-ids means the machine; of its disks those that have ids. */
static struct writer_args disk_args(const struct restore_job *j, const struct restore_target *t,
				    const struct image_ids *ids)
{
	struct writer_args a = *j->writer;

	if (j->machine.wanted && !((t->format->can & FORMAT_IDS) && (ids->uuid[0] || ids->content[0])))
		a.keep_ids = false;
	return a;
}

static int check_target(struct restore_job *j, struct restore_target *t, struct err *e)
{
	const struct manifest_disk *d = &j->pt.backup->m->disks.p[t->disk];
	struct writer_args args;
	struct image_ids ids;
	struct stat st;

	old_ids(d, &ids);
	args = disk_args(j, t, &ids);
	if (restore_crypt_secret(j->c, j->crypt, d, t->format, t->path, &t->secret, e) < 0 ||
	    writer_args_fit(j->c, &args, t->format, t->path, &ids, e) < 0)
		return e->code;
	if (t->secret && writer_args_sealed(j->c, &j->o->writer, e) < 0)
		return e->code;
	if (j->o->backing.file && !(t->format->can & FORMAT_BACKING))
		return cli_usage(j->c, e, "--backing needs -O qcow2: %s becomes %s", t->path, t->format->name);
	if (j->o->with_snapshots && !(t->format->can & FORMAT_SNAPSHOTS))
		return cli_usage(j->c, e, "--with-snapshots needs -O qcow2: %s becomes %s", t->path, t->format->name);
	if (lstat(t->path, &st) < 0)
		return 0;
	if (S_ISLNK(st.st_mode) && stat(t->path, &st) < 0)
		st.st_mode = S_IFREG;	/* volumes are known by links; a link that leads nowhere is in the way */
	if (S_ISDIR(st.st_mode))
		return cli_usage(j->c, e, "%s is a folder: -o names a file; --to %s writes all disks into it", t->path,
				 t->path);
	if (S_ISBLK(st.st_mode) && !(t->format->can & FORMAT_DEVICE))
		return cli_usage(j->c, e, "%s is a block device: only raw can be written to it", t->path);
	if (!j->o->force) {
		err_set(e, ERR_EXISTS, "%s exists", t->path);
		return err_hint(e, S_ISBLK(st.st_mode) ? "--force overwrites the device" : "--force overwrites it");
	}
	return 0;
}

int restore_add_target(struct restore_job *j, uint32_t disk, char *path, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	struct restore_target *t = VEC_PUSH(&j->targets, e);

	if (!t) {
		free(path);
		return e->code;
	}
	t->disk = disk;
	t->path = path;
	t->sd = point_disk(m, j->pt.state, disk);
	t->size = t->sd->tree.size;
	t->format = restore_format(j->o, j->o->output, &m->disks.p[disk]);
	return check_target(j, t, e);
}

static int open_restore(struct restore_job *j, struct err *e)
{
	const struct restore_opts ro = {
		.threads = (unsigned)j->c->g.threads,
		.max_bytes = (size_t)(j->c->g.memory / 2),
		.salvage = j->o->salvage,
		.also = j->backing->backup,
		.cancel = &j->c->cancel,
		.progress = &j->c->progress,
	};

	return restore_new(j->open.repo, j->pt.backup, &ro, &j->rs, e);
}

static int plan(struct restore_job *j, struct err *e)
{
	const char *text = j->c->args[0];
	char *path;

	if (j->o->to || j->ova) {
		if (points_find(j->c, &j->open.backups, text, &j->pt, e) < 0 || open_restore(j, e) < 0)
			return e->code;
		return j->ova ? restore_ova_plan(j, e) : restore_to_plan(j, e);
	}
	if (points_find_disk(j->c, &j->open.backups, text, &j->pt, e) < 0)
		return e->code;
	path = text_printf(e, "%s", j->o->output);
	return path ? restore_add_target(j, j->pt.disk, path, e) : e->code;
}

/* The disk that a --size is for. */
static struct restore_target *sized_target(struct restore_job *j, const char *disk, size_t len)
{
	for (size_t i = 0; i < j->targets.n; i++) {
		const char *name = j->pt.backup->m->disks.p[j->targets.p[i].disk].name;

		if (len ? strlen(name) == len && !memcmp(name, disk, len) : j->targets.n == 1)
			return &j->targets.p[i];
	}
	return NULL;
}

static int plan_sizes(struct restore_job *j, struct err *e)
{
	for (size_t i = 0; i < j->o->sizes.n; i++) {
		const char *arg = j->o->sizes.p[i];
		struct restore_target *t;
		uint64_t size;
		char q[128];
		size_t len;

		if (restore_size_parse(j->c, arg, &len, &size, e) < 0)
			return e->code;
		t = sized_target(j, arg, len);
		if (t && t->sized)
			return cli_usage(j->c, e, "--size %s: disk %s has been given a size already",
					 text_quote(arg, q, sizeof(q)), j->pt.backup->m->disks.p[t->disk].name);
		if (!t)
			return cli_usage(j->c, e, len ? "--size %s: no disk of that name is restored"
						      : "--size %s: several disks are restored; DISK=SIZE says which",
					 text_quote(arg, q, sizeof(q)));
		if (restore_size_check(j->c, j->pt.backup->m->disks.p[t->disk].name, t->sd->tree.size, size, e) < 0)
			return e->code;
		t->size = size;
		t->sized = true;
	}
	return 0;
}

/* After everything else is checked: it reads FILE whole. */
static int plan_backing(struct restore_job *j, struct err *e)
{
	const struct restore_cmd_opts *o = j->o;

	if (!o->backing.file)
		return 0;
	if (o->to || o->with_snapshots || o->salvage)
		return cli_usage(j->c, e, "--backing and %s contradict each other",
				 o->to ? "--to" : o->salvage ? "--salvage" : "--with-snapshots");
	if (writer_args_thin(j->c, &o->writer, e) < 0)
		return e->code;
	if (restore_backing_open(j->c, j->backing, &j->crypt->args, j->targets.p[0].path, e) < 0)
		return e->code;
	return restore_backing_prove(j->c, j->backing, j->open.repo, &j->open.backups, j->pt.backup->m->vm, e);
}

static int write_content(struct restore_job *j, struct restore *rs, const struct restore_target *t,
			 struct image_writer *w, struct err *e)
{
	const struct manifest_disk *d = &j->pt.backup->m->disks.p[t->disk];
	const struct writer_state_opts so = { .size = t->size };

	if (j->o->with_snapshots)
		return restore_with_snapshots(rs, t->disk, t->size, w, &j->result, e);
	if (writer_begin_state(w, &so, e) < 0)
		return e->code;
	if (j->backing->chain)
		return restore_thin(rs, d->domain, &j->backing->tree, &t->sd->tree, w, &j->result, e) < 0 ||
		       restore_backing_check(j->backing, e) < 0 ? e->code : 0;
	return restore_tree(rs, d->domain, &t->sd->tree, w, &j->result, e);
}

static int restore_disk(struct restore_job *j, const struct restore_target *t, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	const struct manifest_disk *d = &m->disks.p[t->disk];
	CLEANUP(free_ptr) char *seed = NULL;
	struct image_writer *w = NULL;
	struct writer_args args;
	struct writer_opts wo;
	struct image_ids ids;
	int r;

	old_ids(d, &ids);
	args = disk_args(j, t, &ids);
	if (writer_args_opts(j->c, &args, d->name, &ids, m->end_ns, &wo, &seed, e) < 0)
		return e->code;
	wo.path = t->made ? t->made : t->path;
	wo.part = t->part;
	wo.size = t->size;
	wo.max_size = j->o->with_snapshots ? max_u64(restore_max_size(m, t->disk), t->size) : 0;
	wo.replace = j->o->force;
	wo.backing = j->backing->name;
	wo.backing_format = j->backing->format;
	wo.secret = t->secret;
	wo.secret_ms = (unsigned)j->crypt->iter_ms;
	r = t->format->create(&wo, &w, e);
	if (r < 0)
		return r;
	r = write_content(j, j->rs, t, w, e);
	if (r < 0) {
		writer_abort(w);
		return r;
	}
	return writer_finish(w, e);
}

static void note_growth(struct restore_job *j, struct restore *rs, const struct restore_target *t, json_t **row)
{
	const struct manifest_disk *d = &j->pt.backup->m->disks.p[t->disk];
	enum partitions p;

	if (t->size == t->sd->tree.size)
		return;
	p = restore_size_partitions(rs, d->domain, &t->sd->tree);
	restore_size_note(j->c, d->name, t->path, t->format->name, p, t->sd->tree.size, t->size);
	if (*row) {
		msg_json_set(row, "grown_from", msg_json_u64(t->sd->tree.size));
		msg_json_set(row, "partition_table", json_string(restore_size_partitions_name(p)));
	}
}

static void note_disk(struct restore_job *j, struct restore *rs, const struct restore_target *t, double seconds)
{
	const struct manifest_disk *d = &j->pt.backup->m->disks.p[t->disk];
	char size[MSG_SIZE_BYTES], q[512];
	json_t *row = j->c->g.json ? json_object() : NULL;

	msg_note(j->c, "disk %s: %s, %s%s, %s in %.1f s, every chunk verified%s", d->name,
		 text_quote(t->path, q, sizeof(q)), t->format->name, t->secret ? " (LUKS)" : "",
		 msg_size(j->c, t->size, size), seconds, j->result.ndamage ? " but those that are missing" : "");
	for (size_t i = 0; j->o->with_snapshots && i < d->dropped.n; i++)
		msg_warn(j->c, "disk %s: not carried over: %s", d->name, text_quote(d->dropped.p[i], q, sizeof(q)));
	if (j->backing->chain)
		restore_backing_note(j->c, j->backing);
	if (row && j->backing->chain)
		msg_json_set(&row, "backing", restore_backing_json(j->backing));
	note_growth(j, rs, t, &row);
	if (row) {
		msg_json_set(&row, "disk", msg_json_text(d->name));
		msg_json_set(&row, "path", msg_json_text(t->path));
		msg_json_set(&row, "format", json_string(t->format->name));
		msg_json_set(&row, "encryption", t->secret ? json_string("luks") : json_null());
		msg_json_set(&row, "size", msg_json_u64(t->size));
		msg_json_push(&j->written, row);
	}
}

int restore_target_write(struct restore_job *j, const struct restore_target *t, struct err *e)
{
	double start = clock_mono();

	if (restore_disk(j, t, e) < 0)
		return err_ctx(e, "disk %s", j->pt.backup->m->disks.p[t->disk].name);
	note_disk(j, j->rs, t, clock_mono() - start);
	return 0;
}

static int restore_all(struct restore_job *j, struct err *e)
{
	int r = j->o->to ? restore_to_begin(j, e) : j->rs ? 0 : open_restore(j, e);

	if (r == 0 && j->ova)
		r = restore_ova_write(j, e);
	for (size_t i = 0; r == 0 && !j->ova && i < j->targets.n; i++)
		r = restore_target_write(j, &j->targets.p[i], e);
	if (r == 0 && j->o->to)
		r = restore_to_end(j, e);
	points_report_damage(j->c, &j->result);
	if (j->result.ndamage)
		j->c->exit_code = EXIT_UNVERIFIED;
	return r;
}

static int report(struct restore_job *j, struct err *e)
{
	json_t *o;

	if (!j->c->g.json) {
		if (j->o->to || j->ova)
			restore_to_report(j, NULL);
		return 0;
	}
	o = json_object();
	msg_json_set(&o, "vm", msg_json_text(j->pt.backup->m->vm));
	msg_json_set(&o, "disks", json_incref(j->written));
	msg_json_set(&o, "bytes_written", msg_json_u64(j->result.bytes_written));
	msg_json_set(&o, "bytes_fetched", msg_json_u64(j->result.bytes_fetched));
	msg_json_set(&o, "chunks_missing", msg_json_u64(j->result.ndamage));
	msg_json_set(&o, "missing", points_damage_json(&j->result));
	if (j->o->to || j->ova)
		restore_to_report(j, &o);
	return msg_json(o, e);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	struct restore_cmd_opts *o = opts;
	struct restore_job j = { .c = c, .o = o, .crypt = &o->crypt, .backing = &o->backing, .writer = &o->writer };
	int r;

	j.ova = restore_is_ova(o);
	if (j.ova) {
		o->writer.format = "vmdk";
		o->writer.subformat = o->writer.subformat ? o->writer.subformat : "streamOptimized";
		o->machine.kind = o->machine.kind ? o->machine.kind : "ovf";
	}
	r = check_options(&j, e);

	if (c->g.json)
		j.written = json_array();
	if (r == 0)
		r = restore_crypt_load(c, j.crypt, e);
	if (r == 0)
		r = open_listed(c, &j.open, NULL, e);
	if (r == 0)
		r = plan(&j, e);
	if (r == 0)
		r = plan_sizes(&j, e);
	if (r == 0)
		r = restore_crypt_all_used(c, j.crypt, e);
	if (r == 0)
		r = plan_backing(&j, e);
	if (r == 0)
		r = restore_all(&j, e);
	if (r == 0)
		r = report(&j, e);
	restore_free(j.rs);
	restore_to_done(&j);
	for (size_t i = 0; i < j.targets.n; i++) {
		free(j.targets.p[i].path);
		free(j.targets.p[i].made);
	}
	VEC_DONE(&j.targets);
	restore_crypt_done(j.crypt);
	restore_backing_done(j.backing);
	restore_result_done(&j.result);
	json_decref(j.written);
	opened_done(&j.open);
	return r < 0 ? r : c->exit_code;
}

const struct command cmd_restore = {
	.name = "restore",
	.summary = "restore a point to a fresh image, a device or a folder",
	.usage = "VM[:DISK][@WHEN][/STATE]",
	.text = "WHEN is latest (default), the beginning of an id, a day or a time; STATE is current (default),\n"
		"snap:NAME, snapid:ID or layer:FILE.  The target appears when all of it is written and durable;\n"
		"every chunk is verified on the way.  With --to, and for an OVA, a description of the machine is\n"
		"written too, and the next command to type is printed.",
	.options = restore_options,
	.opts_size = sizeof(struct restore_cmd_opts),
	.globals = CLI_REPO | CLI_JSON | CLI_PROGRESS | CLI_BYTES | CLI_THREADS | CLI_MEMORY,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
