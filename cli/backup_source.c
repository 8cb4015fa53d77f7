/*
 * backup_source.c - what `kedge backup` is asked to read: names, disks, attachments, selectors; and whether it is the
 * same machine and the same formats as last time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "cli/backup_internal.h"
#include "cli/msg.h"
#include "repo/object.h"

#define ATTACHMENTS_MAX_BYTES ((size_t)64 << 20)	/* of one backup */

void sources_done(struct sources *s)
{
	for (size_t i = 0; i < s->disks.n; i++) {
		chain_close(s->disks.p[i].chain);
		free(s->disks.p[i].name);
		free(s->disks.p[i].path);
		VEC_DONE(&s->disks.p[i].snapshots);
	}
	machine_free(s->machine);
	for (size_t i = 0; i < s->files.n; i++) {
		free(s->files.p[i].name);
		free(s->files.p[i].p);
	}
	for (char **p = s->states; p && *p; p++)
		free(*p);
	free(s->states);
	VEC_DONE(&s->disks);
	image_keys_done(&s->keys);
	VEC_DONE(&s->files);
	free(s->vm);
	free(s->vm_name);
	free(s->uuid);
	free(s->machine_source);
	*s = (struct sources){ 0 };
}

/* A name that can't be typed in a point gets an alias: what is allowed of it, and digits of its hash to tell it from
 * others. */
static int set_vm(struct sources *s, const char *name, struct err *e)
{
	char safe[48], hex[9];
	uint8_t hash[32];
	size_t n = 0;

	if (text_is_name(name)) {
		s->vm = text_printf(e, "%s", name);
		return s->vm ? 0 : e->code;
	}
	for (const char *p = name; *p && n < sizeof(safe) - 1; p++) {
		bool kept = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');

		safe[n++] = kept || *p == '-' ? *p : '_';
	}
	safe[n] = 0;
	/* fails for lengths only */
	(void)crypto_generichash(hash, sizeof(hash), (const uint8_t *)name, strlen(name), NULL, 0);
	s->vm = text_printf(e, "%s-%s", safe, text_hex(hash, 4, hex));
	s->vm_name = text_printf(e, "%s", name);
	return s->vm && s->vm_name ? 0 : e->code;
}

/* The machine's name, or the first file's without its last ending. */
static int name_vm(struct cli *c, struct sources *s, const struct backup_opts *o, struct err *e)
{
	CLEANUP(free_ptr) char *base = NULL;
	char *dot;

	if (o->vm)
		return *o->vm ? set_vm(s, o->vm, e) : cli_usage(c, e, "--vm: an empty name");
	if (s->machine && s->machine->name && *s->machine->name)
		return set_vm(s, s->machine->name, e);
	base = text_printf(e, "%s", fs_basename(s->machine ? s->machine->path : s->disks.p[0].path));
	if (!base)
		return e->code;
	dot = strrchr(base, '.');
	if (dot && dot != base)
		*dot = 0;
	return set_vm(s, base, e);
}

static int parse_disk(struct cli *c, const struct backup_opts *o, const char *arg, struct sources *s,
		      struct source_disk *d, const struct format **ret_format, struct err *e)
{
	const struct format *given = o->image.format ? format_find(o->image.format) : NULL, *prefix = NULL;
	char q[256];

	if (o->image.format && !given)
		return cli_usage(c, e, "--format: no format \"%s\"", text_quote(o->image.format, q, sizeof(q)));
	if (image_args_check(c, &o->image, e) < 0)
		return e->code;
	if (format_parse_source(arg, &d->name, &prefix, &d->path, e) < 0)
		return e->code == ERR_INVALID ? cli_exit(c, EXIT_USAGE, e) : e->code;
	if (!d->name)
		d->name = text_printf(e, "disk%zu", s->disks.n - 1);
	if (!d->name)
		return e->code;
	if (!text_is_name(d->name))
		return cli_usage(c, e, "disk name \"%s\": letters, digits, '.', '_' and '-' only",
				 text_quote(d->name, q, sizeof(q)));
	for (size_t i = 0; i + 1 < s->disks.n; i++)
		if (!strcmp(s->disks.p[i].name, d->name))
			return cli_usage(c, e, "two disks are named %s", d->name);
	*ret_format = prefix ? prefix : given;
	d->format_given = *ret_format != NULL;
	return 0;
}

/* A block device has no change time: what is written to it while it is read goes unnoticed. Someone has it: say so. */
static void warn_busy(const struct cli *c, const struct chain *chain)
{
	for (uint32_t i = 0; i < chain->nlayers + chain->nextra; i++) {
		const struct image *im = chain->layers[i];
		CLEANUP(close_fd) int fd = -1;
		char q[512];

		if (!im->identity.block_device)
			continue;
		fd = FS_RETRY(open(im->path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK));
		if (fd < 0 && errno == EBUSY)
			msg_warn(c, "%s is mounted or otherwise in use on this host: if it is written to meanwhile, "
				    "the backup is torn and nothing shows it; back up a snapshot of it (lvcreate -s, "
				    "zfs snapshot)",
				 text_quote(im->path, q, sizeof(q)));
	}
}

int sources_open_chain(struct cli *c, const struct backup_opts *o, const struct sources *s, const char *path,
		       const char *disk, struct chain_opts co, struct chain **ret, struct err *e)
{
	struct image_secret buf[IMAGE_KEYS_MAX];
	struct image_secrets secrets;

	image_keys_for(c, &s->keys, disk, buf, &secrets);
	co.backing_formats = o->image.backing_formats.p;
	co.force = o->image.force;
	co.settle = true;
	co.secrets = &secrets;
	image_args_unpack(c, &o->image, &co);
	if (chain_open(path, &co, ret, e) < 0)
		return e->code;
	warn_busy(c, *ret);
	image_args_warn(c, *ret);
	if ((*ret)->layers[0]->info.sequential)
		msg_note(c, "%s is decompressed while it is read: of what is called unchanged no samples are read "
			    "again", path);
	return 0;
}

static int open_disk(struct cli *c, const struct backup_opts *o, const char *arg, struct sources *s, struct err *e)
{
	struct source_disk *d = VEC_PUSH(&s->disks, e);
	struct chain_opts co = { .allow_paths = o->image.allow_paths.p };
	const struct format *f = NULL;

	if (!d || parse_disk(c, o, arg, s, d, &f, e) < 0)
		return e->code;
	co.format = f ? f->name : NULL;
	if (sources_open_chain(c, o, s, d->path, d->name, co, &d->chain, e) < 0) {
		if (e->code == ERR_NOTFOUND && !e->hint[0] && strcspn(d->path, ":=") < strcspn(d->path, "/"))
			err_hint(e, "a disk is written [DISK=][FORMAT:]PATH; DISK has letters, digits, '.', '_' and "
				    "'-' only, FORMAT is one of " IMAGE_FORMATS);
		return e->code;
	}
	return 0;
}

/* A libvirt description tells which machine it is. */
static int take_uuid(struct sources *s, const struct source_file *f, struct err *e)
{
	char uuid[MACHINE_UUID_BYTES];
	int found = libvirt_uuid(f->p, f->len, uuid);

	if (found < 0)
		return err_set(e, ERR_NOMEM, "attachment %s: no memory to parse it", f->name);
	if (found)
		s->uuid = text_printf(e, "%s", uuid);
	return found && !s->uuid ? e->code : 0;
}

size_t sources_files_left(const struct sources *s)
{
	size_t left = ATTACHMENTS_MAX_BYTES;

	for (size_t i = 0; i < s->files.n; i++)
		left -= s->files.p[i].len;
	return left;
}

static int open_file(struct sources *s, const char *path, struct err *e)
{
	size_t left = sources_files_left(s);
	struct source_file *f = VEC_PUSH(&s->files, e);
	struct stat st;

	if (!f)
		return e->code;
	if (stat(path, &st) < 0)
		return err_sys(e, "attachment %s", path);
	if (st.st_size > (off_t)left)
		return err_set(e, ERR_INVALID,
			       "%s: attachments can have %zu MiB together, because they are held in memory", path,
			       ATTACHMENTS_MAX_BYTES >> 20);
	if (fs_read_file(path, left, &f->p, &f->len, e) < 0)
		return err_ctx(e, "attachment");
	f->mode = st.st_mode & 07777;
	f->name = text_printf(e, "%s", fs_basename(path));
	if (!f->name)
		return e->code;
	for (size_t i = 0; i + 1 < s->files.n; i++)
		if (!strcmp(s->files.p[i].name, f->name))
			return err_set(e, ERR_INVALID, "two attachments are named %s", f->name);
	return s->uuid ? 0 : take_uuid(s, f, e);
}

/* "snap:a,current": commas separate; a selector of a name with a comma is given by its snapid. */
static int split_states(struct cli *c, const char *text, struct sources *s, struct err *e)
{
	size_t n = 1, k = 0;

	if (!text || !strcmp(text, "all"))
		return 0;
	for (const char *p = text; *p; p++)
		n += *p == ',';
	s->states = calloc(n + 1, sizeof(*s->states));
	if (!s->states)
		return err_set(e, ERR_NOMEM, "no memory for --states");
	for (const char *p = text;; p++) {
		size_t len = strcspn(p, ",");

		if (len == 0)
			return cli_usage(c, e, "--states: an empty selector");
		s->states[k] = text_printf(e, "%.*s", (int)len, p);
		if (!s->states[k++])
			return e->code;
		p += len;
		if (!*p)
			return 0;
	}
}

/* "off", "5%", "30s", "2m" or "1h". */
static int parse_audit(struct cli *c, const char *text, struct sources *s, struct err *e)
{
	char *end;
	double v;

	if (!text)
		return 0;
	if (!strcmp(text, "off")) {
		s->audit = AUDIT_OFF;
		return 0;
	}
	errno = 0;
	v = strtod(text, &end);
	if (end == text || errno || !(v >= 0) || v > 1e9)
		return cli_usage(c, e, "--audit %s: give N%%, a time (30s, 2m) or off", text);
	if (!strcmp(end, "%") && v <= 100)
		s->audit = AUDIT_PERCENT;
	else if (!strcmp(end, "s") || !strcmp(end, "m") || !strcmp(end, "h"))
		s->audit = AUDIT_SECONDS;
	else
		return cli_usage(c, e, "--audit %s: give N%%, a time (30s, 2m) or off", text);
	s->audit_value = *end == 'm' ? v * 60 : *end == 'h' ? v * 3600 : v;
	return 0;
}

static int set_machine(struct sources *s, struct err *e)
{
	const char *path = s->machine ? s->machine->path : s->disks.p[0].path;
	CLEANUP(free_ptr) char *real = realpath(path, NULL);
	char host[HOST_NAME_MAX + 1] = "";

	gethostname(host, sizeof(host) - 1);
	s->machine_source = text_printf(e, "%s:%s", host, real ? real : path);
	return s->machine_source ? 0 : e->code;
}

/* Disks, or one machine. */
static int open_args(struct cli *c, const struct backup_opts *o, struct sources *s, struct err *e)
{
	for (size_t i = 0; i < c->nargs; i++) {
		if (o->image.format || !machine_is(c->args[i]))
			continue;
		return c->nargs == 1 ? sources_open_machine(c, o, c->args[i], s, e)
				     : cli_usage(c, e, "%s describes a machine: it stands alone, without other disks",
						 c->args[i]);
	}
	if (o->skip_disks.n)
		return cli_usage(c, e, "--skip-disk is for the disks of a machine's description");
	for (size_t i = 0; i < c->nargs; i++)
		if (open_disk(c, o, c->args[i], s, e) < 0)
			return e->code;
	return 0;
}

int sources_open(struct cli *c, const struct backup_opts *o, struct sources *ret, struct err *e)
{
	struct sources s = { 0 };
	int r = split_states(c, o->states, &s, e);

	if (r == 0)
		r = image_keys_load(c, &o->image, &s.keys, e);
	if (r == 0)
		r = parse_audit(c, o->audit, &s, e);
	if (r == 0)
		r = open_args(c, o, &s, e);
	for (size_t i = 0; r == 0 && i < o->attach.n; i++)
		r = open_file(&s, o->attach.p[i], e);
	if (r == 0)
		r = name_vm(c, &s, o, e);
	if (r == 0)
		r = set_machine(&s, e);
	if (r < 0) {
		sources_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}

/* The newest complete backup of the VM: what this one is compared with. */
static const struct manifest *last_of(const struct backup_list *l, const char *vm)
{
	for (size_t i = l->n; i-- > 0;)
		if (!strcmp(l->p[i].m->vm, vm) && l->p[i].m->complete && !l->p[i].pending)
			return l->p[i].m;
	return NULL;
}

/* True when one of the chains holds, as some layer, the image that was a disk's top layer last time: the same disk
 * under a new overlay. */
static bool continues(const struct sources *s, const struct manifest *last)
{
	for (size_t i = 0; i < last->disks.n; i++) {
		const struct manifest_layer *top = last->disks.p[i].layers.n ? &last->disks.p[i].layers.p[0] : NULL;

		for (size_t k = 0; top && k < s->disks.n; k++)
			for (uint32_t j = 0; j < s->disks.p[k].chain->nlayers + s->disks.p[k].chain->nextra; j++) {
				const struct image_identity *id = &s->disks.p[k].chain->layers[j]->identity;

				if (id->dev == top->dev && id->ino == top->ino && !id->block_device)
					return true;
			}
	}
	return false;
}

static bool same_machine(const struct sources *s, const struct manifest *last)
{
	if (s->uuid && last->machine_uuid)
		return !strcmp(s->uuid, last->machine_uuid) || continues(s, last);
	return !strcmp(s->machine_source, last->machine_source ? last->machine_source : "") || continues(s, last);
}

static int check_formats(const struct sources *s, const struct manifest *last, struct err *e)
{
	for (size_t i = 0; i < s->disks.n; i++) {
		const struct source_disk *d = &s->disks.p[i];
		const char *now = d->chain->layers[0]->info.format;

		for (size_t k = 0; k < last->disks.n && !d->format_given; k++) {
			if (strcmp(last->disks.p[k].name, d->name) || !strcmp(last->disks.p[k].format, now))
				continue;
			err_set(e, ERR_INVALID, "%s: disk %s is %s now and was %s in its last backup", d->path, d->name,
				now, last->disks.p[k].format);
			return err_hint(e, "a guest can make its raw disk look like another format; "
					   "if the change is meant: %s=%s:%s", d->name, now, d->path);
		}
	}
	return 0;
}

int sources_check_last(struct cli *c, const struct backup_opts *o, const struct sources *s, const struct backup_list *l,
		       struct err *e)
{
	const struct manifest *last = last_of(l, s->vm);

	(void)c;
	if (!last)
		return 0;
	if (!o->adopt && !same_machine(s, last)) {
		const bool by_uuid = s->uuid && last->machine_uuid;
		const char *source = last->machine_source ? last->machine_source : "?";
		char was[256], now[256];

		err_set(e, ERR_EXISTS, "the name %s belongs to another machine (%s; this one: %s)", s->vm,
			text_quote(by_uuid ? last->machine_uuid : source, was, sizeof(was)),
			text_quote(by_uuid ? s->uuid : s->machine_source, now, sizeof(now)));
		return err_hint(e, "--vm NAME gives this one another name; --adopt says that it continues that one");
	}
	return check_formats(s, last, e);
}
