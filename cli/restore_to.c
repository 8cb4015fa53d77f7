/*
 * restore_to.c - `restore --to DIR`: all disks of a machine, what was kept with it, and its description.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "cli/restore_internal.h"

/* --- the plan ------------------------------------------------------------------------------------------------------ */

static int check_free(const struct restore_job *j, const char *name, struct err *e)
{
	CLEANUP(free_ptr) char *path = fs_join(j->o->to, name, e);
	struct stat st;

	if (!path)
		return e->code;
	for (size_t i = 0; i < j->targets.n; i++)
		if (!strcmp(strrchr(j->targets.p[i].path, '/') + 1, name)) {
			(void)err_set(e, ERR_EXISTS, "an attachment has the name that disk %s gets: %s",
				      j->pt.backup->m->disks.p[j->targets.p[i].disk].name, path);
			return err_hint(e, "-O with another format gives the disk another name");
		}
	if (lstat(path, &st) < 0 || j->o->force)
		return 0;
	(void)err_set(e, ERR_EXISTS, "%s exists", path);
	return err_hint(e, "--force overwrites it");
}

static bool is_chosen(const struct restore_job *j, uint32_t disk)
{
	return !j->pt.has_disk || j->pt.disk == disk;
}

/* Which machine it will be, by the formats of the disks. */
static int plan_machine(struct restore_job *j, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	const struct manifest_state *s = &m->states.p[j->pt.state];
	VEC(const struct format *) formats = { 0 };
	const struct format **slot;

	for (size_t i = 0; i < s->disks.n; i++) {
		if (!is_chosen(j, s->disks.p[i].disk))
			continue;
		slot = VEC_PUSH(&formats, e);
		if (!slot)
			break;
		*slot = restore_format(j->o, NULL, &m->disks.p[s->disks.p[i].disk]);
	}
	if (!e->code)
		(void)!restore_machine_plan(j->c, &j->o->machine, j->writer, j->rs, m, formats.p, formats.n, !j->pt.has_disk,
					    &j->machine, e);
	VEC_DONE(&formats);
	return e->code;
}

/* What a disk has beside its own file: the first extent or piece, NULL if there is none. */
static char *beside(const struct restore_job *j, const struct restore_target *t, struct err *e)
{
	static const struct {
		const char *subformat, *end;
	} ends[] = {
		{ "monolithicFlat", "-flat.vmdk" }, { "vmfs", "-flat.vmdk" }, { "twoGbMaxExtentSparse", "-s001.vmdk" },
	};
	const char *name = fs_basename(t->path), *subformat = j->writer->subformat;

	for (size_t i = 0; subformat && !strcmp(t->format->name, "vmdk") && i < sizeof(ends) / sizeof(*ends); i++)
		if (!strcmp(subformat, ends[i].subformat))
			return text_printf(e, "%.*s%s", (int)(strlen(name) - strlen(".vmdk")), name, ends[i].end);
	return !strcmp(t->format->name, "split") ? text_printf(e, "%s.001", name) : NULL;
}

/* The names that come with the disks and the description. */
static int check_beside(const struct restore_job *j, struct err *e)
{
	CLEANUP(free_ptr) char *sums = NULL;

	for (size_t i = 0; i < j->targets.n; i++) {
		CLEANUP(free_ptr) char *name = beside(j, &j->targets.p[i], e);

		if (e->code || (name && check_free(j, name, e) < 0))
			return e->code;
	}
	if (!j->machine.wanted)
		return 0;
	sums = j->machine.to == MACHINE_OVF ? text_printf(e, "%s.mf", j->pt.backup->m->vm) : NULL;
	if (e->code || (sums && check_free(j, sums, e) < 0))
		return e->code;
	return check_free(j, j->machine.file, e);
}

/* Attachment i gets another name than it had: is it one that another attachment has? */
static int check_renamed(const struct restore_job *j, size_t i, const char *name, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	char q[200];

	if (!strcmp(name, m->attachments.p[i].name))
		return 0;
	for (size_t k = 0; k < m->attachments.n; k++)
		if (!strcmp(m->attachments.p[k].name, name)) {
			(void)err_set(e, ERR_EXISTS, "two attachments would be called %s", text_quote(name, q, sizeof(q)));
			return err_hint(e, "--machine none leaves them their names");
		}
	return 0;
}

int restore_to_plan(struct restore_job *j, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	const struct manifest_state *s = &m->states.p[j->pt.state];

	if (plan_machine(j, e) < 0)
		return e->code;
	for (size_t i = 0; i < s->disks.n; i++) {
		const struct manifest_disk *d = &m->disks.p[s->disks.p[i].disk];
		char *path;

		if (!is_chosen(j, s->disks.p[i].disk))
			continue;
		path = text_printf(e, "%s/%s.%s", j->o->to, d->name, writer_ending(&j->o->writer, restore_format(j->o, NULL, d)));
		if (!path || restore_add_target(j, s->disks.p[i].disk, path, e) < 0)
			return e->code;
	}
	for (size_t i = 0; i < m->attachments.n; i++) {
		CLEANUP(free_ptr) char *name = restore_machine_name(&j->machine, m, i, e);

		if (!name || check_renamed(j, i, name, e) < 0 || check_free(j, name, e) < 0)
			return e->code;
	}
	return check_beside(j, e);
}

/* --- before the first disk ----------------------------------------------------------------------------------------- */

/* Checks (before there are disks) or writes the machine's description. */
static int describe_machine(struct restore_job *j, bool check, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	VEC(struct restore_machine_disk) disks = { 0 };
	struct restore_machine_disk *x;

	for (size_t i = 0; i < j->targets.n && !e->code; i++) {
		const struct restore_target *t = &j->targets.p[i];

		x = VEC_PUSH(&disks, e);
		if (x)
			*x = (struct restore_machine_disk){
				.name = m->disks.p[t->disk].name, .file = fs_basename(t->path), .format = t->format,
				.size = t->size, .encrypted = t->secret != NULL,
				.device = !t->made, .path = check ? NULL : t->made ? t->made : t->path,
			};
	}
	if (!e->code && check)
		(void)!restore_machine_check(&j->machine, m, j->folder.final, disks.p, disks.n, j->writer, e);
	else if (!e->code)
		(void)!restore_machine_write(&j->machine, m, j->folder.staging, j->folder.final, disks.p, disks.n, j->writer, e);
	VEC_DONE(&disks);
	return e->code ? err_ctx(e, "the machine's description") : 0;
}

int restore_to_begin(struct restore_job *j, struct err *e)
{
	struct stat st;

	if (restore_folder_open(j->o->to, &j->folder, e) < 0)
		return e->code;
	for (size_t i = 0; i < j->targets.n; i++) {
		struct restore_target *t = &j->targets.p[i];

		if (stat(t->path, &st) == 0 && S_ISBLK(st.st_mode))
			continue;	/* a link to a volume: its content is overwritten where it is */
		t->made = fs_join(j->folder.staging, fs_basename(t->path), e);
		if (!t->made)
			return e->code;
	}
	return j->machine.wanted ? describe_machine(j, true, e) : 0;
}

/* --- attachments --------------------------------------------------------------------------------------------------- */

/* They are small: written whole by way of a stream. */
struct file_out {
	struct fs_atomic file;
	uint64_t at;
};

static int file_data(void *opaque, const void *buf, size_t len, struct err *e)
{
	struct file_out *f = opaque;
	uint64_t at = f->at;

	f->at += len;
	return fs_pwrite_full(f->file.fd, buf, len, at, e);
}

static int file_zero(void *opaque, uint64_t len, struct err *e)
{
	struct file_out *f = opaque;

	f->at += len;
	return FS_RETRY(ftruncate(f->file.fd, (off_t)f->at)) < 0 ? err_sys(e, "resizing %s", f->file.path) : 0;
}

static int restore_attachment(struct restore_job *j, const struct manifest_attachment *a, const char *name, struct err *e)
{
	struct file_out f = { .file = { .fd = -1 } };
	const struct restore_stream out = { .data = file_data, .zero = file_zero, .opaque = &f };
	CLEANUP(free_ptr) char *path = fs_join(j->folder.staging, name, e);
	int r;

	if (!path)
		return e->code;
	r = fs_atomic_open(&f.file, path, false, 0600, e);
	if (r == 0)
		r = restore_stream(j->rs, "default", &a->tree, 0, a->tree.size, &out, &j->result, e);
	if (r == 0)
		r = fs_atomic_commit(&f.file, false, e);
	fs_atomic_done(&f.file);
	return r;
}

static int restore_attachments(struct restore_job *j, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	char q[256];

	for (size_t i = 0; i < m->attachments.n; i++) {
		CLEANUP(free_ptr) char *name = restore_machine_name(&j->machine, m, i, e);

		if (!name || restore_attachment(j, &m->attachments.p[i], name, e) < 0)
			return err_ctx(e, "attachment %s", text_quote(m->attachments.p[i].name, q, sizeof(q)));
		msg_note(j->c, "attachment %s", text_quote(name, q, sizeof(q)));
	}
	return 0;
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

int restore_to_end(struct restore_job *j, struct err *e)
{
	if (restore_attachments(j, e) < 0 || (j->machine.wanted && describe_machine(j, false, e) < 0))
		return e->code;
	return restore_folder_commit(&j->folder, j->machine.file, j->o->force, restore_machine_folder_mode(&j->machine), e);
}

/* Can QEMU have it as a disk?  Not a compressed raw file, nor pieces. */
static bool has_drive(const struct restore_job *j, const struct format *f)
{
	return strcmp(f->name, "split") != 0 && (strcmp(f->name, "raw") != 0 || !strcmp(writer_ending(j->writer, f), "raw"));
}

static const char *qemu_name(const struct format *f)
{
	return !strcmp(f->name, "vhd") ? "vpc" : f->name;
}

/* A -drive of QEMU, which takes ",," for a comma in a path, as one word for the shell. */
static const char *drive_word(const char *path, const char *format, char *buf, size_t len)
{
	char opts[2 * PATH_MAX];
	size_t n = (size_t)snprintf(opts, sizeof(opts), "file=");

	for (; *path && n + 3 < sizeof(opts); path++) {
		opts[n++] = *path;
		if (*path == ',')
			opts[n++] = ',';
	}
	(void)snprintf(opts + n, sizeof(opts) - n, ",format=%s,if=virtio", format);
	return text_shell(opts, buf, len);
}

void restore_to_report(struct restore_job *j, json_t **o)
{
	char word[2 * PATH_MAX + 64];
	json_t *machine = NULL;
	bool runs = true;

	if (j->machine.wanted) {
		struct err unheard = ERR_INIT;
		CLEANUP(free_ptr) char *path = j->ova ? NULL : fs_join(j->folder.final, j->machine.file, &unheard);

		restore_machine_report(j->c, &j->machine, path ? path : j->ova ? j->o->output : j->machine.file, &machine);
		if (o)
			msg_json_set(o, "machine", machine);
		return;
	}
	for (size_t i = 0; i < j->targets.n; i++)
		runs = runs && has_drive(j, j->targets.p[i].format);
	for (size_t i = 0; !o && runs && i < j->targets.n; i++)
		msg_note(j->c, "%s-drive %s%s", i ? "      " : "next: qemu-system-x86_64 -m 1024 ",
			 drive_word(j->targets.p[i].path, qemu_name(j->targets.p[i].format), word, sizeof(word)),
			 i + 1 < j->targets.n ? " \\" : "");
}

void restore_to_done(struct restore_job *j)
{
	restore_folder_done(&j->folder);
	restore_machine_done(&j->machine);
}
