/*
 * restore_machine.c - the machine that restored disks are for.
 */
#include "cli/restore_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/restore_ova.h"

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && !strcasecmp(s + n - m, end);
}

/* --- the saved description ----------------------------------------------------------------------------------------- */

static int add_bytes(void *opaque, const void *buf, size_t len, struct err *e)
{
	return buf_add(opaque, buf, len, e);
}

static int add_zeros(void *opaque, uint64_t len, struct err *e)
{
	return buf_add_zero(opaque, (size_t)len, e);	/* within the tree's size, which was looked at */
}

int restore_machine_attachment(struct restore *rs, const struct manifest *m, size_t i, size_t max, uint8_t **ret,
			       size_t *ret_len, struct err *e)
{
	const struct manifest_attachment *a = &m->attachments.p[i];
	struct restore_result result = { 0 };
	struct buf b;
	const struct restore_stream out = { .data = add_bytes, .zero = add_zeros, .opaque = &b };
	char q[200];
	int r;

	if (a->tree.size > max)
		return err_set(e, ERR_UNSUPPORTED, "attachment %s: too long", text_quote(a->name, q, sizeof(q)));
	buf_init(&b, max + 1);
	r = restore_stream(rs, "default", &a->tree, 0, a->tree.size, &out, &result, e);
	if (r == 0 && result.ndamage)
		r = err_set(e, ERR_CORRUPT, "attachment %s: parts of it are missing", text_quote(a->name, q, sizeof(q)));
	if (r == 0)
		r = buf_u8(&b, 0, e);
	restore_result_done(&result);
	if (r == 0)
		*ret = buf_take(&b, ret_len);
	buf_done(&b);
	return r;
}

/* Is attachment i the machine's description?  1; 0: something else. */
static int try_attachment(struct restore *rs, const struct manifest *m, size_t i, struct restore_machine *rm, struct err *e)
{
	static const char *const endings[] = { ".xml", ".vbox", ".vmx", ".ovf" };
	const struct manifest_attachment *a = &m->attachments.p[i];
	struct err why = ERR_INIT;
	struct machine *x = NULL;
	uint8_t *text;
	bool is = false;
	size_t len;

	for (size_t k = 0; k < sizeof(endings) / sizeof(*endings); k++)
		is = is || ends_with(a->name, endings[k]);
	if (!is || a->tree.size > MACHINE_FILE_MAX)
		return 0;
	if (restore_machine_attachment(rs, m, i, MACHINE_FILE_MAX, &text, &len, e) < 0) {
		if (e->code != ERR_CORRUPT && e->code != ERR_NOTFOUND)
			return e->code;
		err_clear(e);	/* what is missing is told when it is restored */
		return 0;
	}
	len--;		/* its NUL */
	if (machine_parse_text(a->name, text, len, &x, &why) < 0 ||
	    (rm->saved && !(m->machine_uuid && x->uuid && !strcmp(x->uuid, m->machine_uuid)))) {
		machine_free(x);
		free(text);
		return why.code == ERR_NOMEM ? err_set(e, ERR_NOMEM, "%s", why.cause) : 0;
	}
	machine_free(rm->saved);
	free(rm->text);
	rm->saved = x;
	rm->text = text;
	rm->len = len;
	rm->attachment = (uint32_t)i;
	return 1;
}

/* The first that is one, or the one with the machine's UUID. */
static int find_saved(struct restore *rs, const struct manifest *m, struct restore_machine *rm, struct err *e)
{
	for (size_t i = 0; i < m->attachments.n; i++)
		if (try_attachment(rs, m, i, rm, e) < 0)
			return e->code;
	return 0;
}

/* --- which kind ---------------------------------------------------------------------------------------------------- */

static bool kind_of_format(const char *format, enum machine_kind *ret)
{
	if (!strcmp(format, "vdi"))
		*ret = MACHINE_VIRTUALBOX;
	else if (!strcmp(format, "vmdk"))
		*ret = MACHINE_VMWARE;
	else if (!strcmp(format, "qcow2") || !strcmp(format, "qcow3") || !strcmp(format, "qcow") || !strcmp(format, "raw"))
		*ret = MACHINE_LIBVIRT;
	else
		return false;
	return true;
}

/* No machine runs from a compressed raw file: the guest would see the packed bytes, and write over them. */
static bool is_packed(const struct writer_args *writer, const struct format *f)
{
	return !strcmp(f->name, "raw") && strcmp(writer_ending(writer, f), "raw") != 0;
}

/* The first that the kind can't have; NULL: none. */
static const struct format *not_taken(enum machine_kind kind, const struct writer_args *writer,
				      const struct format *const *formats, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!hardware_takes(kind, formats[i]->name) || is_packed(writer, formats[i]))
			return formats[i];
	return NULL;
}

static bool takes_all(enum machine_kind kind, const struct writer_args *writer, const struct format *const *formats, size_t n)
{
	return !not_taken(kind, writer, formats, n);
}

/* Are they VMDKs for import alone? */
static bool is_stream(const struct writer_args *writer, const struct format *const *formats, size_t n)
{
	bool vmdk = false;

	for (size_t i = 0; i < n; i++)
		vmdk = vmdk || !strcmp(formats[i]->name, "vmdk");
	return vmdk && (writer->compress || (writer->subformat && !strcmp(writer->subformat, "streamOptimized")));
}

/* Without --machine.  False: none. */
static bool default_kind(const struct restore_machine *rm, const struct writer_args *writer,
			 const struct format *const *formats, size_t n, enum machine_kind *ret)
{
	if (!n)
		return false;
	if (!writer->format && rm->saved && rm->saved->kind != MACHINE_OVF && takes_all(rm->saved->kind, writer, formats, n) &&
	    !is_stream(writer, formats, n)) {
		*ret = rm->saved->kind;
		return true;
	}
	if (is_stream(writer, formats, n)) {
		*ret = MACHINE_OVF;
		return takes_all(*ret, writer, formats, n);
	}
	return kind_of_format(formats[0]->name, ret) && takes_all(*ret, writer, formats, n);
}

static bool kind_of_name(const char *name, enum machine_kind *ret)
{
	for (enum machine_kind k = MACHINE_LIBVIRT; k <= MACHINE_OVF; k++)
		if (!strcmp(machine_kind_name(k), name)) {
			*ret = k;
			return true;
		}
	return false;
}

/* Disks that a machine of the kind can run from, or (OVF) be imported from. */
static int check_subformat(struct cli *c, struct writer_args *writer, const struct format *const *formats, size_t n,
			   struct restore_machine *rm, struct err *e)
{
	const bool stream = is_stream(writer, formats, n);

	rm->esx = writer->subformat && !strcmp(writer->subformat, "vmfs");
	if (rm->to == MACHINE_OVF) {
		if (writer->subformat && !stream)
			return cli_usage(c, e, "--machine ovf: its disks are streamOptimized, not %s", writer->subformat);
		writer->subformat = "streamOptimized";
	} else if (stream) {
		return cli_usage(c, e, "--machine %s: no machine runs from streamOptimized disks; --machine ovf is for import",
				 machine_kind_name(rm->to));
	}
	return 0;
}

static bool is_asked_for(const struct restore_machine_args *a)
{
	return a->kind || a->name || a->firmware || a->memory || a->cpus;
}

int restore_machine_plan(struct cli *c, const struct restore_machine_args *a, struct writer_args *writer,
			 struct restore *rs, const struct manifest *m, const struct format *const *formats, size_t n,
			 bool whole, struct restore_machine *ret, struct err *e)
{
	static const char *const usual[] = {
		[MACHINE_LIBVIRT] = "qcow2", [MACHINE_VIRTUALBOX] = "vdi", [MACHINE_VMWARE] = "vmdk", [MACHINE_OVF] = "vmdk",
	};
	const bool none = a->kind && !strcmp(a->kind, "none");
	const struct format *bad;

	ret->args = a;
	if (none && (a->name || a->firmware || a->memory || a->cpus))
		return cli_usage(c, e, "--machine none: then there is no machine to give options to");
	if (!whole && is_asked_for(a) && !none)
		return cli_usage(c, e, "--machine: a machine has all its disks; leave :DISK out");
	if (none || !whole)
		return 0;
	if (find_saved(rs, m, ret, e) < 0)
		return e->code;
	if (!ret->saved && !is_asked_for(a))
		return 0;
	if (a->kind) {
		ret->wanted = kind_of_name(a->kind, &ret->to);
		bad = not_taken(ret->to, writer, formats, n);
		if (bad)
			return cli_usage(c, e, "--machine %s: it can't have %s%s disks; -O %s makes ones that it can", a->kind,
					 is_packed(writer, bad) ? "compressed " : "", bad->name, usual[ret->to]);
	} else {
		ret->wanted = default_kind(ret, writer, formats, n, &ret->to);
		if (!ret->wanted && is_asked_for(a))
			return cli_usage(c, e, "--machine KIND says what is to have these disks");
		if (!ret->wanted)
			msg_note(c, "no description of a machine is written for disks of this format: -O FORMAT, --machine KIND");
	}
	if (!ret->wanted)
		return 0;
	ret->edit = ret->saved && ret->saved->kind == ret->to && ret->to != MACHINE_OVF;
	ret->file = text_printf(e, "%s%s", m->vm, hardware_ending(ret->to));
	return ret->file ? check_subformat(c, writer, formats, n, ret, e) : e->code;
}

void restore_machine_done(struct restore_machine *rm)
{
	machine_free(rm->saved);
	hardware_free(rm->h);
	free(rm->text);
	free(rm->file);
	*rm = (struct restore_machine){ 0 };
}

/* --- attachments --------------------------------------------------------------------------------------------------- */

/* Is the attachment that file of the old machine?  Its name is the path's last part, or has what it is in front. */
static bool is_file(const struct machine_file *f, const char *name)
{
	const char *base = fs_basename(f->path);

	return !strcmp(base, name) || (f->role != MACHINE_CONFIG && ends_with(name, base) &&
				       !strncmp(name, machine_role_name(f->role), strlen(machine_role_name(f->role))));
}

/* The attachment that is the machine's file in that role; NULL. */
static const char *find_role(const struct restore_machine *rm, const struct manifest *m, enum machine_role role)
{
	for (size_t k = 0; rm->edit && k < rm->saved->files.n; k++)
		for (size_t i = 0; rm->saved->files.p[k].role == role && i < m->attachments.n; i++)
			if (is_file(&rm->saved->files.p[k], m->attachments.p[i].name))
				return m->attachments.p[i].name;
	return NULL;
}

/* Has the new machine no use for it, or would take it for its own although it isn't? */
static bool is_left_over(const struct restore_machine *rm, const struct manifest *m, size_t i)
{
	const char *name = m->attachments.p[i].name;

	if (!rm->wanted)
		return false;
	if (i == rm->attachment && rm->saved)
		return true;
	if (!strcmp(name, rm->file) || ends_with(name, ".vmsd"))	/* its snapshots are not there */
		return true;
	for (size_t k = 0; rm->saved && k < rm->saved->files.n; k++)
		if (is_file(&rm->saved->files.p[k], name))
			return !rm->edit;
	return false;
}

char *restore_machine_name(const struct restore_machine *rm, const struct manifest *m, size_t i, struct err *e)
{
	const char *name = m->attachments.p[i].name;

	if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..")) {
		(void)err_set(e, ERR_CORRUPT, "attachment with a name that is no file name");
		return NULL;
	}
	return text_printf(e, "%s%s", name, is_left_over(rm, m, i) ? ".orig" : "");
}

/* --- writing ------------------------------------------------------------------------------------------------------- */

/* The UUID that the image calls itself by: VirtualBox wants to know. */
static int read_uuid(const char *path, const struct format *f, struct hardware_drive *d, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	struct image_ids ids = { 0 };
	struct stat st;

	fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "%s", path);
	d->file_bytes = (uint64_t)st.st_size;
	if (f->read_ids && f->read_ids(&(struct file){ fd, 0, d->file_bytes }, &ids, e) < 0)
		return e->code;
	(void)snprintf(d->uuid, sizeof(d->uuid), "%.36s", ids.uuid);
	return 0;
}

static int add_disk(struct restore_machine *rm, const struct restore_machine_disk *x, struct err *e)
{
	struct hardware_drive *d = hardware_find(rm->h, x->name);

	if (!d)
		d = hardware_add_disk(rm->h, x->name, e);
	if (!d)
		return e->code;
	free(d->file);
	d->file = text_printf(e, "%s", x->file);
	d->format = x->format->name;
	d->size = x->size;
	d->device = x->device;
	if (x->encrypted)
		hardware_lose(rm->h, e, "the passphrase of disk %s: virsh secret-define makes a secret for its <encryption>",
			      x->name);
	return !e->code && x->path ? read_uuid(x->path, x->format, d, e) : e->code;
}

int restore_machine_make(struct restore_machine *rm, const struct manifest *m,
			 const struct restore_machine_disk *disks, size_t n, const struct writer_args *writer, struct err *e)
{
	const struct restore_machine_args *a = rm->args;
	bool uefi = a->firmware && !strcmp(a->firmware, "uefi");
	CLEANUP(free_ptr) char *seed = NULL;

	if (rm->saved ? hardware_read(rm->text, rm->len, rm->saved, &rm->h, e) < 0
		      : hardware_new(m->vm_name ? m->vm_name : m->vm, &rm->h, e) < 0)
		return e->code;
	if (a->name) {
		free(rm->h->name);
		rm->h->name = text_printf(e, "%s", a->name);
		if (!rm->h->name)
			return e->code;
	}
	if (a->firmware && rm->h->uefi != uefi) {
		rm->h->uefi = uefi;
		rm->h->secure_boot = false;
		rm->edit = false;	/* it is another machine then */
	}
	rm->h->memory = a->memory ? a->memory : rm->h->memory;
	if (a->cpus) {
		rm->h->cpus = (uint32_t)a->cpus;
		rm->h->cores = 0;
	}
	if (rm->edit)	/* what that kind can have is all there */
		while (rm->h->lost.n)
			free(rm->h->lost.p[--rm->h->lost.n]);
	for (size_t i = 0; i < n; i++)
		if (add_disk(rm, &disks[i], e) < 0)
			return e->code;
	if (writer->seed_ids)		/* machines that go together must not have one UUID */
		seed = text_printf(e, "%s\n%s\n%s", writer->seed_ids, m->vm, rm->h->name);
	if (e->code || hardware_new_ids(rm->h, rm->to, writer->keep_ids, seed, e) < 0)
		return e->code;
	return rm->edit ? hardware_fit_added(rm->h, rm->to, e) : hardware_fit(rm->h, rm->to, e);
}

static int sha256_file(const char *path, char *hex, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));

	if (fd < 0)
		return err_sys(e, "%s", path);
	return restore_sha256(fd, 0, UINT64_MAX, hex, e) < 0 ? err_ctx(e, "%s", path) : 0;
}

/* SHA256(NAME)= HEX: the lines of an OVF's manifest, for the description and each disk. */
static int write_manifest(const struct restore_machine *rm, const struct manifest *m, const char *dir,
			  const struct restore_machine_disk *disks, size_t n, struct err *e)
{
	CLEANUP(free_ptr) char *name = text_printf(e, "%s.mf", m->vm);
	CLEANUP(free_ptr) char *path = name ? fs_join(dir, name, e) : NULL;
	CLEANUP(free_ptr) char *text = path ? text_printf(e, "%s", "") : NULL;

	for (size_t i = 0; text && i <= n; i++) {
		CLEANUP(free_ptr) char *file = fs_join(dir, i ? disks[i - 1].file : rm->file, e);
		CLEANUP(free_ptr) char *before = STEAL(text);
		char hex[RESTORE_SHA256_BYTES];

		if (!file || sha256_file(file, hex, e) < 0)
			return e->code;
		text = text_printf(e, "%sSHA256(%s)= %s\n", before, fs_basename(file), hex);
	}
	return text ? fs_write_atomic(path, text, strlen(text), false, 0600, e) : e->code;
}

/* libvirt's QEMU runs as a user of its own, who must be able to open what root restored. */
static int give_away(const char *dir, const char *name, struct err *e)
{
	const struct passwd *user = geteuid() == 0 ? getpwnam("libvirt-qemu") : NULL;
	const struct group *group = user ? getgrnam("kvm") : NULL;
	CLEANUP(free_ptr) char *path = NULL;

	if (!user || !group)
		return 0;
	path = fs_join(dir, name, e);
	if (!path)
		return e->code;
	return lchown(path, user->pw_uid, group->gr_gid) < 0 ? err_sys(e, "%s: its owner", path) : 0;
}

mode_t restore_machine_folder_mode(const struct restore_machine *rm)
{
	return rm->wanted && rm->to == MACHINE_LIBVIRT && geteuid() == 0 ? 0711 : 0700;
}

/* The description's text, for a folder called `final`. */
static int describe(struct restore_machine *rm, const struct manifest *m, const char *final,
		    const struct restore_machine_disk *disks, size_t n, const struct writer_args *writer, struct buf *b,
		    struct err *e)
{
	struct hardware_write_opts o = {
		.to = rm->to, .dir = final, .keep_ids = writer->keep_ids, .esx = rm->esx,
		.set_memory = rm->args->memory != 0, .set_cpus = rm->args->cpus != 0,
	};

	if (restore_machine_make(rm, m, disks, n, writer, e) < 0)
		return e->code;
	if (rm->edit) {
		o.text = rm->text;
		o.len = rm->len;
		o.nvram = find_role(rm, m, MACHINE_NVRAM);
		o.tpm = find_role(rm, m, MACHINE_TPM);
	}
	return hardware_write(rm->h, &o, b, e);
}

int restore_machine_check(struct restore_machine *rm, const struct manifest *m, const char *final,
			  const struct restore_machine_disk *disks, size_t n, const struct writer_args *writer, struct err *e)
{
	struct buf b;

	buf_init(&b, 2 * MACHINE_FILE_MAX);
	if (describe(rm, m, final, disks, n, writer, &b, e) < 0)
		(void)err_hint(e, "--machine none restores the disks without a description");
	buf_done(&b);
	hardware_free(rm->h);
	rm->h = NULL;
	return e->code;
}

int restore_machine_write(struct restore_machine *rm, const struct manifest *m, const char *dir, const char *final,
			  const struct restore_machine_disk *disks, size_t n, const struct writer_args *writer, struct err *e)
{
	CLEANUP(free_ptr) char *path = fs_join(dir, rm->file, e);
	const char *nvram;
	struct buf b;
	int r;

	if (!path)
		return e->code;
	buf_init(&b, 2 * MACHINE_FILE_MAX);
	r = describe(rm, m, final, disks, n, writer, &b, e);
	if (r == 0)
		r = fs_write_atomic(path, b.p, b.len, false, 0600, e);
	buf_done(&b);
	nvram = find_role(rm, m, MACHINE_NVRAM);
	if (r == 0 && rm->to == MACHINE_OVF)
		r = write_manifest(rm, m, dir, disks, n, e);
	for (size_t i = 0; r == 0 && rm->to == MACHINE_LIBVIRT && i < n; i++)
		if (!disks[i].device)
			r = give_away(dir, disks[i].file, e);
	if (r == 0 && rm->to == MACHINE_LIBVIRT && nvram)
		r = give_away(dir, nvram, e);
	return r;
}

/* --- telling ------------------------------------------------------------------------------------------------------- */

/* The command that a user would type next. */
static char *next_command(const struct restore_machine *rm, const char *path)
{
	static const char *const commands[] = {
		[MACHINE_LIBVIRT] = "virsh define", [MACHINE_VIRTUALBOX] = "VBoxManage registervm",
		[MACHINE_VMWARE] = "vmrun start", [MACHINE_OVF] = "VBoxManage import",
	};
	char word[2 * PATH_MAX], line[2 * PATH_MAX + 64];

	(void)snprintf(line, sizeof(line), "%s %s", rm->to == MACHINE_VMWARE && rm->esx ? "vim-cmd solo/registervm"
										     : commands[rm->to],
		       text_shell(path, word, sizeof(word)));
	return strdup(line);
}

void restore_machine_report(struct cli *c, const struct restore_machine *rm, const char *path, json_t **ret_json)
{
	CLEANUP(free_ptr) char *next = next_command(rm, path);
	char q[520];
	json_t *lost;

	if (!c->g.json) {
		for (size_t i = 0; i < rm->h->lost.n; i++)
			msg_warn(c, "not carried over: %s", text_quote(rm->h->lost.p[i], q, sizeof(q)));
		msg_note(c, "machine %s: %s, UUID %s", text_quote(rm->h->name, q, sizeof(q)), machine_kind_name(rm->to),
			 rm->h->uuid);
		msg_note(c, "next: %s", next ? next : "");
		return;
	}
	*ret_json = json_object();
	msg_json_set(ret_json, "kind", json_string(machine_kind_name(rm->to)));
	msg_json_set(ret_json, "name", msg_json_text(rm->h->name));
	msg_json_set(ret_json, "uuid", msg_json_text(rm->h->uuid));
	msg_json_set(ret_json, "file", msg_json_text(fs_basename(path)));
	lost = json_array();
	for (size_t i = 0; i < rm->h->lost.n; i++)
		msg_json_push(&lost, msg_json_text(rm->h->lost.p[i]));
	msg_json_set(ret_json, "not_carried_over", lost);
	msg_json_set(ret_json, "next", msg_json_text(next));
}
