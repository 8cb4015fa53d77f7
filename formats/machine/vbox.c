/*
 * vbox.c - VirtualBox's machine settings.
 *
 *	<VirtualBox version="1.19-linux">
 *	  <Machine uuid="{...}" name="..." currentSnapshot="{...}">
 *	    <MediaRegistry><HardDisks>
 *	      <HardDisk uuid location format type>		an image; differencing ones are inside their parent
 *	        <Property name="CRYPT/..."/>			it is encrypted
 *	    <Snapshot uuid name timeStamp stateFile>		the first one
 *	      <Description>
 *	      <StorageControllers> or <Hardware><StorageControllers>	the images as they were attached then
 *	      <Snapshots><Snapshot>...				those made on it
 *	    <Hardware><StorageControllers>
 *	      <StorageController name><AttachedDevice type port device><Image uuid/>
 *	    <Hardware><BIOS><NVRAM path/>			holds the TPM's state, too; snapshots' are not kept
 *
 * A snapshot's images are never written to again: what the machine writes goes to differencing images made on them.
 * Images of type Writethrough, Shareable and Readonly take no part in it.  Settings before 1.11 have no registry: then
 * images are known by UUID alone, and looked for (docs/machines.md).  The key of an encrypted image stands at the first
 * of a chain alone; those made on it are encrypted with it, too.
 */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"

#define CONTROLLER_BYTES_MAX 255u

/* What the registry says of an image, while it is read. */
struct medium {
	char *uuid, *path, *format;
	uint32_t parent;	/* the one it stands in, while they are in the order of the file; MACHINE_NONE */
	bool independent, encrypted;
};

/* An image that is attached somewhere. */
struct attachment {
	uint32_t owner;		/* snapshot; MACHINE_NONE = the current state */
	char *controller;
	uint32_t port, device;
	char *uuid;
	char *type;		/* "HardDisk", "DVD", "Floppy" */
	bool host_drive;
};

struct vbox {
	struct machine *m;
	VEC(struct medium) media;
	VEC(struct attachment) attached;
	VEC(uint32_t) now;		/* attachments of the current state, as the machine's disks are */
	VEC(uint32_t) open;		/* snapshots whose elements are open, innermost last */
	uint32_t medium;		/* the innermost open image of the registry; MACHINE_NONE */
	char *controller;
	char *current;			/* UUID of the current snapshot */
	bool in_machine, in_registry, in_device, has_root;
};

static void vbox_done(struct vbox *v)
{
	for (size_t i = 0; i < v->media.n; i++) {
		free(v->media.p[i].uuid);
		free(v->media.p[i].path);
		free(v->media.p[i].format);
	}
	for (size_t i = 0; i < v->attached.n; i++) {
		free(v->attached.p[i].controller);
		free(v->attached.p[i].uuid);
		free(v->attached.p[i].type);
	}
	VEC_DONE(&v->media);
	VEC_DONE(&v->attached);
	VEC_DONE(&v->now);
	VEC_DONE(&v->open);
	free(v->controller);
	free(v->current);
}

static uint32_t owner(const struct vbox *v)
{
	return v->open.n ? v->open.p[v->open.n - 1] : MACHINE_NONE;
}

/* --- elements ------------------------------------------------------------------------------------------------------ */

static int on_machine(struct vbox *v, const char *const *a, struct err *e)
{
	const char *saved = xml_attribute(a, "stateFile");
	char q[200];

	v->in_machine = true;
	if (saved && machine_add_note(v->m, e, "it is suspended: its saved memory (%s) is not kept, only what is on "
				      "its disks", text_quote(saved, q, sizeof(q))) < 0)
		return e->code;
	return machine_text(&v->m->name, xml_attribute(a, "name"), e) < 0 ||
	       machine_uuid(&v->m->uuid, xml_attribute(a, "uuid"), e) < 0 ||
	       machine_uuid(&v->current, xml_attribute(a, "currentSnapshot"), e) < 0 ? e->code : 0;
}

static int on_medium(struct vbox *v, const char *const *a, struct err *e)
{
	const char *path = xml_attribute(a, "location"), *type = xml_attribute(a, "type");
	struct medium *x;

	if (v->media.n == MACHINE_IMAGES_MAX)
		return err_set(e, ERR_UNSUPPORTED, "more than %u images in the registry", MACHINE_IMAGES_MAX);
	x = VEC_PUSH(&v->media, e);
	if (!x)
		return e->code;
	x->parent = v->medium;
	v->medium = (uint32_t)(v->media.n - 1);
	if (machine_uuid(&x->uuid, xml_attribute(a, "uuid"), e) < 0 ||
	    machine_text(&x->format, xml_attribute(a, "format"), e) < 0 ||
	    (path && machine_path(&x->path, path, e) < 0))
		return e->code;
	if (!x->uuid || !x->path)
		return err_set(e, ERR_CORRUPT, "an image in the registry without %s", x->uuid ? "location" : "a UUID");
	x->independent = type &&
			 (!strcmp(type, "Writethrough") || !strcmp(type, "Shareable") || !strcmp(type, "Readonly"));
	return 0;
}

static int64_t parse_time(const char *text)
{
	int64_t from, to;
	bool is_day;

	if (!text || !clock_parse(text, &from, &to, &is_day) || is_day || to <= 0)
		return 0;
	return to / 1000000000 * 1000000000;	/* the instant's last nanosecond: to its second */
}

static int on_snapshot(struct vbox *v, const char *const *a, struct err *e)
{
	uint32_t parent = owner(v), *slot;
	struct machine_snapshot *s = machine_add_snapshot(v->m, e);

	if (!s)
		return e->code;
	s->parent = parent;
	s->time_ns = parse_time(xml_attribute(a, "timeStamp"));
	if (machine_uuid(&s->id, xml_attribute(a, "uuid"), e) < 0 ||
	    machine_text(&s->name, xml_attribute(a, "name"), e) < 0 ||
	    machine_text(&s->memory, xml_attribute(a, "stateFile"), e) < 0)
		return e->code;
	if (!s->id || !s->name)
		return err_set(e, ERR_CORRUPT, "a snapshot without %s", s->id ? "name" : "a UUID");
	slot = VEC_PUSH(&v->open, e);
	if (!slot)
		return e->code;
	*slot = (uint32_t)(v->m->snapshots.n - 1);
	return 0;
}

static int on_controller(struct vbox *v, const char *const *a, struct err *e)
{
	const char *name = xml_attribute(a, "name");

	/* each device has a copy of it */
	if (name && strlen(name) > CONTROLLER_BYTES_MAX)
		return err_set(e, ERR_UNSUPPORTED, "a storage controller's name has %zu bytes, more than %u",
			       strlen(name), CONTROLLER_BYTES_MAX);
	return machine_text(&v->controller, name ? name : "disk", e);
}

/* Absent: 0. */
static int number(const char *const *a, const char *name, uint32_t *ret, struct err *e)
{
	const char *text = xml_attribute(a, name);
	uint64_t n = 0;
	char q[40];

	if (text && !parse_u64(text, 0, UINT32_MAX, &n))
		return err_set(e, ERR_CORRUPT, "a drive's %s is \"%s\", which is no number", name,
			       text_quote(text, q, sizeof(q)));
	*ret = (uint32_t)n;
	return 0;
}

static int on_device(struct vbox *v, const char *const *a, struct err *e)
{
	struct attachment *x = VEC_PUSH(&v->attached, e);
	const char *type = xml_attribute(a, "type");

	if (!x)
		return e->code;
	v->in_device = true;
	x->owner = owner(v);
	return number(a, "port", &x->port, e) < 0 || number(a, "device", &x->device, e) < 0 ||
	       machine_text(&x->controller, v->controller ? v->controller : "disk", e) < 0 ||
	       machine_text(&x->type, type ? type : "HardDisk", e) < 0 ? e->code : 0;
}

/* Of an image of the registry. */
static void on_property(struct vbox *v, const char *key)
{
	if (key && !strncmp(key, "CRYPT/", 6) && v->medium != MACHINE_NONE)
		v->media.p[v->medium].encrypted = true;
}

static int on_start(void *opaque, unsigned depth, const char *name, const char *const *a, struct err *e)
{
	struct vbox *v = opaque;

	if (depth == 1) {
		v->has_root = !strcmp(name, "VirtualBox");
		return v->has_root ? machine_text(&v->m->version, xml_attribute(a, "version"), e)
				   : err_set(e, ERR_CORRUPT, "the root element is not VirtualBox");
	}
	if (depth == 2 && !strcmp(name, "MachineEncrypted")) {
		(void)err_set(e, ERR_UNSUPPORTED, "the machine's settings are encrypted");
		return err_hint(e, "decrypt it: VBoxManage encryptvm VM removeencryption; or back up its images by "
				   "themselves");
	}
	if (depth == 2 && !strcmp(name, "Machine"))
		return on_machine(v, a, e);
	if (!v->in_machine)
		return 0;
	if (!strcmp(name, "HardDisks"))
		v->in_registry = true;
	else if (v->in_registry && !strcmp(name, "HardDisk"))
		return on_medium(v, a, e);
	else if (v->in_registry && !strcmp(name, "Property"))
		on_property(v, xml_attribute(a, "name"));
	else if (!strcmp(name, "Snapshot"))
		return on_snapshot(v, a, e);
	else if (!strcmp(name, "StorageController"))
		return on_controller(v, a, e);
	else if (!strcmp(name, "AttachedDevice"))
		return on_device(v, a, e);
	else if (v->in_device && !strcmp(name, "Image"))
		return machine_uuid(&v->attached.p[v->attached.n - 1].uuid, xml_attribute(a, "uuid"), e);
	else if (v->in_device && !strcmp(name, "HostDrive"))
		v->attached.p[v->attached.n - 1].host_drive = true;
	else if (!v->open.n && !strcmp(name, "NVRAM") && xml_attribute(a, "path"))	/* written at the first start */
		return machine_add_file(v->m, xml_attribute(a, "path"), MACHINE_NVRAM, true, e);
	return 0;
}

static int on_end(void *opaque, unsigned depth, const char *name, const char *text, struct err *e)
{
	struct vbox *v = opaque;

	if (depth == 2)
		v->in_machine = false;
	else if (!strcmp(name, "HardDisks"))
		v->in_registry = false;
	else if (v->medium != MACHINE_NONE && v->in_registry && !strcmp(name, "HardDisk"))
		v->medium = v->media.p[v->medium].parent;
	else if (!strcmp(name, "AttachedDevice"))
		v->in_device = false;
	else if (v->open.n && !strcmp(name, "Snapshot") && v->in_machine)
		v->open.n--;
	else if (v->open.n && v->in_machine && !strcmp(name, "Description") && *text) {
		struct machine_snapshot *s = &v->m->snapshots.p[owner(v)];

		if (!s->description)
			return machine_text(&s->description, text, e);
	}
	return 0;
}

/* --- putting it together ------------------------------------------------------------------------------------------- */

static int by_uuid(const void *a, const void *b)
{
	return strcmp(((const struct medium *)a)->uuid, ((const struct medium *)b)->uuid);
}

static const struct medium *find_medium(const struct vbox *v, char *uuid)
{
	const struct medium key = { .uuid = uuid };

	return v->media.n ? bsearch(&key, v->media.p, v->media.n, sizeof(key), by_uuid) : NULL;
}

static int sort_media(struct vbox *v, struct err *e)
{
	for (size_t i = 0; i < v->media.n; i++) {	/* a parent stands before those in it */
		struct medium *x = &v->media.p[i];

		x->encrypted = x->encrypted || (x->parent != MACHINE_NONE && v->media.p[x->parent].encrypted);
	}
	if (v->media.n)
		qsort(v->media.p, v->media.n, sizeof(*v->media.p), by_uuid);
	for (size_t i = 0; i < v->media.n; i++) {
		struct machine_image *im;

		if (i && !strcmp(v->media.p[i - 1].uuid, v->media.p[i].uuid))
			return err_set(e, ERR_CORRUPT, "two images in the registry have the UUID %s", v->media.p[i].uuid);
		im = VEC_PUSH(&v->m->images, e);
		if (!im || machine_text(&im->uuid, v->media.p[i].uuid, e) < 0 ||
		    machine_text(&im->path, v->media.p[i].path, e) < 0)
			return e->code;
	}
	return 0;
}

static int set_image(struct machine_image *im, const char *uuid, const struct medium *x, struct err *e)
{
	return machine_text(&im->uuid, uuid, e) < 0 ? e->code : x ? machine_text(&im->path, x->path, e) : 0;
}

/* VirtualBox's names of formats: VDI, VMDK, VHD, VHDX, Parallels, RAW, QCOW, QED, iSCSI. */
static int set_format(char **ret, const struct medium *x, struct err *e)
{
	if (!x || !x->format || !strcasecmp(x->format, "QCOW"))	/* of either version: found out */
		return 0;
	if (machine_text(ret, x->format, e) < 0)
		return e->code;
	for (char *p = *ret; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return 0;
}

/* What can't be read of a disk, now or at a snapshot, can't be read at all: a backup of the rest wouldn't be one. */
static int refuse_medium(struct machine_disk *d, const struct medium *x, struct err *e)
{
	if (!x || d->refused)
		return 0;
	if (x->encrypted)
		return machine_text(&d->refused, "is encrypted by VirtualBox (VBoxManage encryptmedium removes that)", e);
	return x->format && !strcasecmp(x->format, "iSCSI")
		? machine_text(&d->refused, "is on iSCSI, which VirtualBox itself reads over the network", e) : 0;
}

static bool same_place(const struct attachment *a, const struct attachment *b)
{
	return a->port == b->port && a->device == b->device && !strcmp(a->controller, b->controller);
}

/* The disk that is there now; names won't do: two places may have got one. */
static uint32_t find_place(const struct vbox *v, const struct attachment *a)
{
	for (uint32_t i = 0; i < v->now.n; i++)
		if (same_place(&v->attached.p[v->now.p[i]], a))
			return i;
	return MACHINE_NONE;
}

static char *place_text(const struct attachment *a, struct err *e)
{
	return text_printf(e, "%.40s-%" PRIu32 "-%" PRIu32, a->controller, a->port, a->device);
}

static int add_current(struct vbox *v, uint32_t at, struct err *e)
{
	const struct attachment *a = &v->attached.p[at];
	CLEANUP(free_ptr) char *where = place_text(a, e);
	struct machine_disk *d;
	const struct medium *x;
	uint32_t *slot;

	if (!where)
		return e->code;
	if (find_place(v, a) != MACHINE_NONE)
		return err_set(e, ERR_CORRUPT, "two drives are at %s", where);
	d = machine_add_disk(v->m, where, e);
	slot = d ? VEC_PUSH(&v->now, e) : NULL;
	if (!slot)
		return e->code;
	*slot = at;
	if (strcmp(a->type, "HardDisk") || a->host_drive)
		return text_is_name(a->type) ? ((d->skipped = text_printf(e, "%s drive", a->type)) ? 0 : e->code)
					     : machine_text(&d->skipped, "no disk", e);
	if (!a->uuid)
		return machine_text(&d->skipped, "nothing is attached", e);
	x = find_medium(v, a->uuid);
	if (set_image(&d->image, a->uuid, x, e) < 0)
		return e->code;
	d->independent = x && x->independent;
	return set_format(&d->format, x, e) < 0 ? e->code : refuse_medium(d, x, e);
}

/* An attachment of a snapshot; the disk may be gone by now, or have come since. */
static int add_then(struct vbox *v, const struct attachment *a, struct err *e)
{
	struct machine_snapshot *s = &v->m->snapshots.p[a->owner];
	CLEANUP(free_ptr) char *where = NULL;
	struct machine_image image = { 0 };
	struct machine_snapshot_disk *row;
	const struct medium *x;
	uint32_t disk;

	if (strcmp(a->type, "HardDisk") || a->host_drive || !a->uuid)
		return 0;
	disk = find_place(v, a);
	if (disk == MACHINE_NONE || v->m->disks.p[disk].skipped) {
		where = place_text(a, e);
		return where ? machine_note_gone(v->m, s, where, e) : e->code;
	}
	x = find_medium(v, a->uuid);
	if (v->m->disks.p[disk].independent || (x && x->independent))
		return 0;
	image.uuid = a->uuid;
	if (machine_is_written(v->m, &image))
		return machine_note_written(v->m, s, disk, e);
	row = machine_add_snapshot_disk(v->m, s, disk, e);
	return !row || set_image(&row->image, a->uuid, x, e) < 0 || set_format(&row->format, x, e) < 0 ||
	       refuse_medium(&v->m->disks.p[disk], x, e) < 0 ? e->code : 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Backups tell snapshots by their UUIDs. */
static int check_snapshots(const struct machine *m, struct err *e)
{
	VEC(const char *) ids = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->snapshots.n; i++) {
		const char **slot = VEC_PUSH(&ids, e);

		if (slot)
			*slot = m->snapshots.p[i].id;
		r = slot ? 0 : e->code;
	}
	if (ids.n)
		qsort(ids.p, ids.n, sizeof(*ids.p), by_text);
	for (size_t i = 1; r == 0 && i < ids.n; i++)
		if (!strcmp(ids.p[i - 1], ids.p[i]))
			r = err_set(e, ERR_CORRUPT, "two snapshots have the UUID %s", ids.p[i]);
	VEC_DONE(&ids);
	return r;
}

static int put_together(struct vbox *v, struct err *e)
{
	struct machine *m = v->m;

	if (sort_media(v, e) < 0 || check_snapshots(m, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < v->attached.n; i++)
		if (v->attached.p[i].owner == MACHINE_NONE && add_current(v, i, e) < 0)
			return e->code;
	for (uint32_t i = 0; i < v->attached.n; i++)
		if (v->attached.p[i].owner != MACHINE_NONE && add_then(v, &v->attached.p[i], e) < 0)
			return e->code;
	for (uint32_t i = 0; v->current && i < m->snapshots.n; i++)
		if (!strcmp(v->current, m->snapshots.p[i].id))
			m->current = i;
	return 0;
}

int vbox_parse(const void *text, size_t len, struct machine *m, struct err *e)
{
	static const struct xml_ops ops = { on_start, on_end };
	CLEANUP(vbox_done) struct vbox v = { .m = m, .medium = MACHINE_NONE };

	if (xml_parse(text, len, &ops, &v, e) < 0)
		return e->code;
	if (!m->name || !m->uuid)
		return err_set(e, ERR_CORRUPT, "no machine with a name and a UUID is in it");
	return put_together(&v, e);
}
