/*
 * machine.c - the model of a machine: making, recognising and opening one.
 */
#include "formats/machine/machine.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"

#define PEEK_BYTES ((size_t)64 << 10)	/* of a file, to see what it is */
#define NAME_MAX_CHARS 64u
#define NOTES_MAX 100u

const char *machine_kind_name(enum machine_kind kind)
{
	static const char *const names[] = {
		[MACHINE_LIBVIRT] = "libvirt", [MACHINE_VIRTUALBOX] = "virtualbox", [MACHINE_VMWARE] = "vmware",
		[MACHINE_OVF] = "ovf",
	};

	return names[kind];
}

const char *machine_role_name(enum machine_role role)
{
	static const char *const names[] = {
		[MACHINE_CONFIG] = "configuration", [MACHINE_SNAPSHOT_LIST] = "snapshot list", [MACHINE_NVRAM] = "nvram",
		[MACHINE_TPM] = "tpm", [MACHINE_MANIFEST] = "manifest", [MACHINE_CERTIFICATE] = "certificate",
		[MACHINE_LOADER] = "loader",
	};

	return names[role];
}

/* --- filling it ---------------------------------------------------------------------------------------------------- */

int machine_text_n(char **ret, const char *s, size_t len, struct err *e)
{
	char *copy = strndup(s, len);

	if (!copy)
		return err_set(e, ERR_NOMEM, "no memory for a machine's description");
	free(*ret);
	*ret = copy;
	return 0;
}

int machine_text(char **ret, const char *s, struct err *e)
{
	return s ? machine_text_n(ret, s, strlen(s), e) : 0;
}

/* Of a name made on Windows: a drive, a share or a volume. */
static bool is_foreign(const char *path)
{
	return (isalpha((unsigned char)path[0]) && path[1] == ':' && (path[2] == '\\' || path[2] == '/')) ||
	       !strncmp(path, "\\\\", 2);
}

int machine_path(char **ret, const char *path, struct err *e)
{
	const char *from = path;

	if (is_foreign(path))
		for (const char *p = path; *p; p++)
			if (*p == '\\' || *p == '/')
				from = p + 1;
	if (machine_text(ret, from, e) < 0)
		return e->code;
	for (char *p = strchr(path, '/') ? NULL : *ret; p && *p; p++)
		if (*p == '\\')
			*p = '/';
	return 0;
}

int machine_uuid(char **ret, const char *text, struct err *e)
{
	char uuid[37] = "";

	if (text && *text == '{')
		text++;
	for (size_t i = 0; text && i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return 0;
		uuid[i] = (char)tolower((unsigned char)text[i]);
	}
	return text && (!text[36] || !strcmp(text + 36, "}")) ? machine_text(ret, uuid, e) : 0;
}

void machine_disk_name(const char *where, char ret[static NAME_MAX_CHARS + 1])
{
	size_t n = 0;

	for (; *where && n < NAME_MAX_CHARS; where++) {
		unsigned char c = (unsigned char)*where;

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("._-", c))
			ret[n++] = (char)c;
		else if (c < 0x80 || c >= 0xc0)		/* one for all bytes of a character */
			ret[n++] = c == ':' ? '-' : '_';
	}
	ret[n] = '\0';
	if (!text_is_name(ret))		/* "", "." and ".." */
		memcpy(ret, "disk", 5);
}

uint32_t machine_find_disk(const struct machine *m, const char *name)
{
	for (uint32_t i = 0; i < m->disks.n; i++)
		if (!strcmp(m->disks.p[i].name, name))
			return i;
	return MACHINE_NONE;
}

struct machine_disk *machine_add_disk(struct machine *m, const char *where, struct err *e)
{
	char name[NAME_MAX_CHARS + 1], unique[NAME_MAX_CHARS + 1];
	struct machine_disk *d;

	machine_disk_name(where, name);
	memcpy(unique, name, sizeof(name));
	for (unsigned i = 2; machine_find_disk(m, unique) != MACHINE_NONE; i++)
		(void)snprintf(unique, sizeof(unique), "%.58s-%u", name, i);
	if (m->disks.n == MACHINE_DISKS_MAX) {
		(void)err_set(e, ERR_UNSUPPORTED, "more than %u drives", MACHINE_DISKS_MAX);
		return NULL;
	}
	d = VEC_PUSH(&m->disks, e);
	if (!d)
		return NULL;
	return machine_text(&d->name, unique, e) < 0 ? NULL : d;
}

int machine_add_file(struct machine *m, const char *path, enum machine_role role, bool optional, struct err *e)
{
	struct machine_file *f;

	if (!*path)
		return 0;
	if (m->files.n == MACHINE_DISKS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "it names more than %u files", MACHINE_DISKS_MAX);
	f = VEC_PUSH(&m->files, e);
	if (!f)
		return e->code;
	f->role = role;
	f->optional = optional;
	return machine_path(&f->path, path, e);
}

int machine_add_note(struct machine *m, struct err *e, const char *fmt, ...)
{
	char text[600], **slot;
	va_list ap;

	if (m->notes.n == NOTES_MAX)
		return 0;
	slot = VEC_PUSH(&m->notes, e);
	if (!slot)
		return e->code;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return machine_text(slot, text, e);
}

struct machine_snapshot *machine_add_snapshot(struct machine *m, struct err *e)
{
	struct machine_snapshot *s;

	if (m->snapshots.n == MACHINE_SNAPSHOTS_MAX) {
		(void)err_set(e, ERR_UNSUPPORTED, "more than %u snapshots", MACHINE_SNAPSHOTS_MAX);
		return NULL;
	}
	s = VEC_PUSH(&m->snapshots, e);
	if (!s)
		return NULL;
	s->parent = MACHINE_NONE;
	return s;
}

struct machine_snapshot_disk *machine_add_snapshot_disk(struct machine *m, struct machine_snapshot *s, uint32_t disk,
							struct err *e)
{
	struct machine_snapshot_disk *row;
	size_t at = s->disks.n;

	while (at && s->disks.p[at - 1].disk > disk)
		at--;
	if (at && s->disks.p[at - 1].disk == disk) {
		(void)err_set(e, ERR_CORRUPT, "snapshot %.60s has two disks at %s", s->id, m->disks.p[disk].name);
		return NULL;
	}
	if (!VEC_PUSH(&s->disks, e))
		return NULL;
	row = &s->disks.p[at];
	memmove(row + 1, row, (s->disks.n - 1 - at) * sizeof(*row));
	*row = (struct machine_snapshot_disk){ .disk = disk };
	return row;
}

bool machine_is_written(const struct machine *m, const struct machine_image *image)
{
	for (size_t i = 0; i < m->disks.n; i++) {
		const struct machine_image *now = &m->disks.p[i].image;

		if (image->uuid && now->uuid ? !strcmp(image->uuid, now->uuid)
					     : image->path && now->path && !strcmp(image->path, now->path))
			return true;
	}
	return false;
}

int machine_note_written(struct machine *m, const struct machine_snapshot *s, uint32_t disk, struct err *e)
{
	return machine_add_note(m, e, "snapshot %.200s has for disk %s an image that is written to since: what was in it "
				"then is gone, and not kept", s->name, m->disks.p[disk].name);
}

int machine_note_gone(struct machine *m, const struct machine_snapshot *s, const char *where, struct err *e)
{
	char name[NAME_MAX_CHARS + 1];

	machine_disk_name(where, name);
	return machine_add_note(m, e, "snapshot %.200s has a disk %s, which the machine has no longer: it is not kept",
				s->name, name);
}

bool machine_tree_is_sound(const struct machine *m)
{
	for (uint32_t i = 0; i < m->snapshots.n; i++) {
		uint32_t at = m->snapshots.p[i].parent;

		for (size_t steps = 0; at != MACHINE_NONE; at = m->snapshots.p[at].parent)
			if (at == i || ++steps > m->snapshots.n)
				return false;
	}
	return true;
}

struct machine *machine_new(enum machine_kind kind, const char *path, struct err *e)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m) {
		(void)err_set(e, ERR_NOMEM, "no memory for a machine");
		return NULL;
	}
	m->kind = kind;
	m->current = MACHINE_NONE;
	if (machine_text(&m->path, path, e) < 0 ||
	    machine_add_file(m, fs_basename(path), MACHINE_CONFIG, false, e) < 0) {
		machine_free(m);
		return NULL;
	}
	return m;
}

static void image_done(struct machine_image *im)
{
	free(im->path);
	free(im->uuid);
}

static void snapshot_done(struct machine_snapshot *s)
{
	for (size_t i = 0; i < s->disks.n; i++) {
		image_done(&s->disks.p[i].image);
		free(s->disks.p[i].format);
	}
	VEC_DONE(&s->disks);
	free(s->id);
	free(s->name);
	free(s->description);
	free(s->memory);
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->disks.n; i++) {
		image_done(&m->disks.p[i].image);
		free(m->disks.p[i].name);
		free(m->disks.p[i].format);
		free(m->disks.p[i].skipped);
		free(m->disks.p[i].refused);
	}
	for (size_t i = 0; i < m->files.n; i++)
		free(m->files.p[i].path);
	for (size_t i = 0; i < m->snapshots.n; i++)
		snapshot_done(&m->snapshots.p[i]);
	for (size_t i = 0; i < m->images.n; i++)
		image_done(&m->images.p[i]);
	for (size_t i = 0; i < m->notes.n; i++)
		free(m->notes.p[i]);
	VEC_DONE(&m->disks);
	VEC_DONE(&m->files);
	VEC_DONE(&m->snapshots);
	VEC_DONE(&m->images);
	VEC_DONE(&m->notes);
	free(m->path);
	free(m->name);
	free(m->uuid);
	free(m->version);
	free(m);
}

/* --- recognising --------------------------------------------------------------------------------------------------- */

static bool has_ending(const char *path, const char *ending)
{
	size_t n = strlen(path), k = strlen(ending);

	return n > k && !strcasecmp(path + n - k, ending);
}

/* 1 and the kind. */
static int kind_of(const char *path, const void *text, size_t len, enum machine_kind *ret)
{
	char root[64];

	if (has_ending(path, ".vmx") && vmx_looks(text, len)) {
		*ret = MACHINE_VMWARE;
		return 1;
	}
	if (has_ending(path, ".ovf") && xml_root(text, len, root)) {
		const char *colon = strchr(root, ':');

		*ret = MACHINE_OVF;
		return !strcmp(colon ? colon + 1 : root, "Envelope");
	}
	if (!(has_ending(path, ".vbox") || has_ending(path, ".vbox-prev") || has_ending(path, ".xml")) ||
	    !xml_root(text, len, root))
		return 0;
	*ret = !strcmp(root, "VirtualBox") ? MACHINE_VIRTUALBOX : MACHINE_LIBVIRT;
	return *ret == MACHINE_VIRTUALBOX || !strcmp(root, "domain");
}

static int peek(const char *path, enum machine_kind *ret)
{
	CLEANUP(close_fd) int fd = -1;
	CLEANUP(free_ptr) uint8_t *head = malloc(PEEK_BYTES);
	struct err unheard = ERR_INIT;
	struct stat st;
	size_t len;

	/* Looked at before it is opened: opening a FIFO or a device can do things. */
	if (!head || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	if (has_ending(path, ".ova")) {
		*ret = MACHINE_OVF;
		return ova_is(path);
	}
	fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	if (fd < 0 || fs_pread(fd, head, PEEK_BYTES, 0, &len, &unheard) < 0)
		return 0;
	return kind_of(path, head, len, ret);
}

int machine_is(const char *path)
{
	enum machine_kind kind;

	return peek(path, &kind);
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

/* The list of snapshots has the description's name with another ending. */
static int read_vmsd(struct machine *m, const char *const *allow, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *text = NULL;
	CLEANUP(free_ptr) char *name = NULL;
	const char *base = fs_basename(m->path);
	const struct machine_file *f;
	uint32_t mode;
	size_t len;

	name = text_printf(e, "%.*s.vmsd", (int)(strlen(base) - strlen(".vmx")), base);
	if (!name || machine_add_file(m, name, MACHINE_SNAPSHOT_LIST, true, e) < 0)
		return e->code;
	f = &m->files.p[m->files.n - 1];
	if (machine_read_file(m, f, allow, MACHINE_FILE_MAX, &text, &len, &mode, e) < 0) {
		if (e->code != ERR_NOTFOUND)
			return e->code;
		err_clear(e);	/* it never had a snapshot */
		return 0;
	}
	return vmsd_parse(text, len, m, e) < 0 ? err_ctx(e, "%s", name) : 0;
}

static int parse(struct machine *m, const void *text, size_t len, struct err *e)
{
	switch (m->kind) {
	case MACHINE_VIRTUALBOX: return vbox_parse(text, len, m, e);
	case MACHINE_LIBVIRT: return libvirt_parse(text, len, m, e);
	case MACHINE_OVF: return ovf_parse(text, len, m, e);
	case MACHINE_VMWARE: break;
	}
	return vmx_parse(text, len, m, e);
}

int machine_parse_text(const char *path, const void *text, size_t len, struct machine **ret, struct err *e)
{
	CLEANUP(machine_free_cleanup) struct machine *m = NULL;
	enum machine_kind kind;
	char q[300];

	text_quote(path, q, sizeof(q));
	if (!kind_of(path, text, min_size(len, PEEK_BYTES), &kind))
		return err_set(e, ERR_INVALID, "%s is no description of a machine", q);
	m = machine_new(kind, path, e);
	if (!m || parse(m, text, len, e) < 0)
		return err_ctx(e, "%s", q);
	*ret = STEAL(m);
	return 0;
}

int machine_open(const char *path, const char *const *allow, struct machine **ret, struct err *e)
{
	CLEANUP(machine_free_cleanup) struct machine *m = NULL;
	CLEANUP(free_ptr) uint8_t *text = NULL;
	CLEANUP(free_ptr) char *name = NULL;
	enum machine_kind kind;
	char q[300];
	size_t len;

	text_quote(path, q, sizeof(q));
	if (!peek(path, &kind))
		return err_set(e, ERR_INVALID, "%s is no description of a machine", q);
	if (has_ending(path, ".ova") ? ova_read(path, NULL, MACHINE_FILE_MAX, &name, &text, &len, e) < 0 :
				       fs_read_file(path, MACHINE_FILE_MAX, &text, &len, e) < 0)
		return has_ending(path, ".ova") ? err_ctx(e, "%s", q) : e->code;
	m = machine_new(kind, path, e);
	if (!m || machine_text(&m->files.p[0].path, name, e) < 0)
		return e->code;
	if (parse(m, text, len, e) < 0 || (kind == MACHINE_VMWARE && read_vmsd(m, allow, e) < 0))
		return err_ctx(e, "%s", q);
	*ret = STEAL(m);
	return 0;
}
