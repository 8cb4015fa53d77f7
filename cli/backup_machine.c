/*
 * backup_machine.c - what `kedge backup` makes of a machine's description: disks with the machine's snapshots, and
 * files.
 */
#include <inttypes.h>
#include <string.h>

#include "base/fs.h"
#include "base/text.h"
#include "cli/backup_internal.h"
#include "cli/msg.h"
#include "formats/file.h"

/* --- files -------------------------------------------------------------------------------------------------------- */

static bool has_file(const struct sources *s, const char *name)
{
	for (size_t i = 0; i < s->files.n; i++)
		if (s->files.p[i].name && !strcmp(s->files.p[i].name, name))
			return true;
	return false;
}

static int add_file(struct cli *c, const struct backup_opts *o, const struct machine_file *mf, struct sources *s,
		    struct err *e)
{
	const char *base = fs_basename(mf->path);
	struct source_file *f;
	uint8_t *p;
	uint32_t mode;
	char q[300];
	size_t len;

	if (machine_read_file(s->machine, mf, o->image.allow_paths.p, sources_files_left(s), &p, &len, &mode, e) < 0) {
		if (e->code != ERR_NOTFOUND || !mf->optional)
			return err_ctx(e, "%s", machine_role_name(mf->role));
		err_clear(e);
		if (mf->role != MACHINE_MANIFEST && mf->role != MACHINE_CERTIFICATE)	/* few have them */
			msg_note(c, "%s %s isn't there", machine_role_name(mf->role),
				 text_quote(mf->path, q, sizeof(q)));
		return 0;
	}
	f = VEC_PUSH(&s->files, e);
	if (!f) {
		free(p);
		return e->code;
	}
	if (mf->role == MACHINE_CERTIFICATE)
		msg_note(c, "%s is kept; whose signature it is was not looked at", text_quote(mf->path, q, sizeof(q)));
	f->p = p;
	f->len = len;
	f->mode = mode;
	f->name = has_file(s, base) ? text_printf(e, "%s-%zu-%s", machine_role_name(mf->role), s->files.n, base)
				    : text_printf(e, "%s", base);
	return f->name ? 0 : e->code;
}

/* --- disks -------------------------------------------------------------------------------------------------------- */

static bool is_skipped(const struct backup_opts *o, const char *name)
{
	for (size_t i = 0; i < o->skip_disks.n; i++)
		if (!strcmp(o->skip_disks.p[i], name))
			return true;
	return false;
}

static int check_skips(struct cli *c, const struct backup_opts *o, const struct machine *m, struct err *e)
{
	char have[400] = "", q[80];
	size_t n = 0;

	for (size_t i = 0; i < m->disks.n && n < sizeof(have) - 1; i++) {
		int w = snprintf(have + n, sizeof(have) - n, "%s%s", i ? ", " : "", m->disks.p[i].name);

		n += w > 0 ? (size_t)w : 0;
	}
	for (size_t i = 0; i < o->skip_disks.n; i++) {
		bool found = false;

		for (size_t k = 0; k < m->disks.n && !found; k++)
			found = !strcmp(m->disks.p[k].name, o->skip_disks.p[i]);
		if (!found)
			return cli_usage(c, e, "--skip-disk %s: the machine has no such disk; it has %s",
					 text_quote(o->skip_disks.p[i], q, sizeof(q)), have);
	}
	return 0;
}

/* The images that snapshots have of a disk: *ret_refs in the order of *ret_of, the snapshots. */
typedef VEC(struct chain_ref) ref_list;
typedef VEC(uint32_t) index_list;

static int collect_images(const struct machine *m, uint32_t disk, ref_list *refs, index_list *of, struct err *e)
{
	for (uint32_t i = 0; i < m->snapshots.n; i++) {
		const struct machine_snapshot *ms = &m->snapshots.p[i];

		for (size_t k = 0; k < ms->disks.n; k++) {
			struct chain_ref *ref;
			uint32_t *slot;

			if (ms->disks.p[k].disk != disk)
				continue;
			ref = VEC_PUSH(refs, e);
			slot = ref ? VEC_PUSH(of, e) : NULL;
			if (!slot)
				return e->code;
			*ref = (struct chain_ref){ ms->disks.p[k].image.path, ms->disks.p[k].image.uuid,
						   ms->disks.p[k].format };
			*slot = i;
		}
	}
	return 0;
}

static int add_snapshots(struct cli *c, const struct machine *m, const index_list *of, struct source_disk *d,
			 struct err *e)
{
	char q[300];

	for (size_t i = 0; i < of->n; i++) {
		const struct machine_snapshot *ms = &m->snapshots.p[of->p[i]];
		struct ingest_snapshot *s;

		if (!d->chain->branches[i]) {	/* by another name than the disk's: descriptions are compared before */
			msg_note(c, "snapshot %s has for disk %s an image that is written to since: what was in it "
				 "then is gone, and not kept", text_quote(ms->name, q, sizeof(q)), d->name);
			continue;
		}
		s = VEC_PUSH(&d->snapshots, e);
		if (!s)
			return e->code;
		*s = (struct ingest_snapshot){
			.id = ms->id, .name = ms->name, .description = ms->description, .date_ns = ms->time_ns,
			.parent_id = ms->parent == MACHINE_NONE ? NULL : m->snapshots.p[ms->parent].id,
			.layer = d->chain->branches[i],
		};
	}
	return 0;
}

/* VirtualBox and VMware keep no lock that can be seen on their images, but they have them open. */
static int check_in_use(const struct machine *m, const struct chain *c, struct err *e)
{
	const struct image *top = c->layers[0];
	bool used = file_has_writer(image_outer_fd(top));
	char q[300];

	for (size_t i = 0; i < top->parts.n && !used; i++)
		used = file_has_writer(top->parts.p[i].fd);
	if (!used || m->kind == MACHINE_LIBVIRT)	/* QEMU's locks were looked at */
		return 0;
	(void)err_set(e, ERR_LOCKED, "%s: in use: another program has it open for writing",
		      text_quote(top->path, q, sizeof(q)));
	return err_hint(e, "shut the machine down; or take a snapshot of it, then back up the image that was its "
			   "disk's until then, which is not written to any more");
}

static int open_chain(struct cli *c, const struct backup_opts *o, const struct sources *s, uint32_t disk,
		      char *const *folders, struct source_disk *d, struct err *e)
{
	const struct machine *m = s->machine;
	const struct machine_disk *md = &m->disks.p[disk];
	ref_list refs = { 0 };
	index_list of = { 0 };
	static const char *const none[] = { NULL };
	struct chain_opts co = {
		.allow_paths = (const char *const *)folders,
		.device_paths = o->image.allow_paths.n ? o->image.allow_paths.p : none, .format = md->format,
		.named_by = machine_in_archive(m) ? NULL : m->path, .uuid = md->image.uuid, .gzip = md->gzip,
	};
	CLEANUP(free_ptr)
	char *member = machine_in_archive(m) ? text_printf(e, "%s//%s", m->path, md->image.path) : NULL;
	int r = collect_images(m, disk, &refs, &of, e);

	co.branches = refs.p;
	co.nbranches = refs.n;
	if (machine_in_archive(m) && !member)
		r = e->code;
	if (r == 0)
		r = sources_open_chain(c, o, s, member ? member : md->image.path, md->name, co, &d->chain, e);
	if (r == 0 && md->capacity && md->capacity != image_info(d->chain->image)->virtual_size)
		msg_note(c, "disk %s: the description gives it %" PRIu64 " bytes, its image has %" PRIu64, md->name,
			 md->capacity, image_info(d->chain->image)->virtual_size);
	if (r == 0)
		r = add_snapshots(c, m, &of, d, e);
	VEC_DONE(&refs);
	VEC_DONE(&of);
	return r < 0 ? r : check_in_use(m, d->chain, e);
}

static int add_disk(struct cli *c, const struct backup_opts *o, uint32_t disk, char *const *folders, struct sources *s,
		    struct err *e)
{
	const struct machine *m = s->machine;
	const struct machine_disk *md = &m->disks.p[disk];
	struct source_disk *d;
	char q[300];

	if (md->skipped || is_skipped(o, md->name)) {
		msg_note(c, "%s is left out: %s", md->name,
			 md->skipped ? text_quote(md->skipped, q, sizeof(q)) : "--skip-disk");
		return 0;
	}
	if (md->refused) {
		(void)err_set(e, ERR_UNSUPPORTED, "disk %s %s", md->name, text_quote(md->refused, q, sizeof(q)));
		return err_hint(e, "without it: --skip-disk %s", md->name);
	}
	if (machine_check_locked(m, &md->image, e) < 0)
		return e->code;
	d = VEC_PUSH(&s->disks, e);
	if (!d)
		return e->code;
	d->format_given = md->format != NULL;
	d->name = text_printf(e, "%s", md->name);
	if (!d->name)
		return e->code;
	if (open_chain(c, o, s, disk, folders, d, e) < 0) {
		if (e->code != ERR_LOCKED && e->code != ERR_NOMEM)
			(void)err_hint(e, "without this disk: --skip-disk %s", md->name);
		return err_ctx(e, "disk %s", md->name);
	}
	d->path = text_printf(e, "%s", d->chain->layers[0]->path);
	return d->path ? 0 : e->code;
}

static void say_notes(const struct cli *c, const struct machine *m)
{
	char q[600], name[200];

	for (size_t i = 0; i < m->notes.n; i++)
		msg_note(c, "%s", text_quote(m->notes.p[i], q, sizeof(q)));
	for (size_t i = 0; i < m->snapshots.n; i++)
		if (m->snapshots.p[i].memory)
			msg_note(c, "snapshot %s: its saved memory (%s) is not kept, only what was on its disks",
				 text_quote(m->snapshots.p[i].name, name, sizeof(name)),
				 text_quote(m->snapshots.p[i].memory, q, sizeof(q)));
}

static int open_all(struct cli *c, const struct backup_opts *o, char *const *folders, struct sources *s, struct err *e)
{
	const struct machine *m = s->machine;
	char q[300];

	for (uint32_t i = 0; i < m->disks.n; i++)
		if (add_disk(c, o, i, folders, s, e) < 0)
			return e->code;
	if (!s->disks.n)
		return err_set(e, ERR_INVALID, "%s: the machine has no disk to back up",
			       text_quote(m->path, q, sizeof(q)));
	for (size_t i = 0; i < m->files.n; i++)
		if (m->files.p[i].role != MACHINE_LOADER && add_file(c, o, &m->files.p[i], s, e) < 0)
			return e->code;
	if (m->uuid) {
		s->uuid = text_printf(e, "%s", m->uuid);
		return s->uuid ? 0 : e->code;
	}
	return 0;
}

/* The sums of an appliance's files; with --force what is wrong is only told. */
static int verify(struct cli *c, const struct backup_opts *o, const struct machine *m, struct err *e)
{
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];
	int r = machine_verify(m, o->image.allow_paths.p, &c->cancel, e);

	if (r > 0)
		msg_note(c, "the files have the sums that the manifest lists");
	if (r >= 0)
		return 0;
	if (!o->image.force || r == ERR_CANCELLED || r == ERR_NOMEM)
		return r;
	msg_warn(c, "%s", err_text(e, text, sizeof(text)));
	err_clear(e);
	return 0;
}

int sources_open_machine(struct cli *c, const struct backup_opts *o, const char *path, struct sources *s, struct err *e)
{
	char **folders;
	int r;

	if (image_args_check(c, &o->image, e) < 0 || machine_open(path, o->image.allow_paths.p, &s->machine, e) < 0 ||
	    check_skips(c, o, s->machine, e) < 0 ||
	    machine_check_locked(s->machine, NULL, e) < 0 ||
	    machine_folders(s->machine, o->image.allow_paths.p, &folders, e) < 0)
		return e->code;
	say_notes(c, s->machine);
	r = verify(c, o, s->machine, e);
	if (r == 0)
		r = open_all(c, o, folders, s, e);
	machine_folders_free(folders);
	return r;
}
