/*
 * ovf.c - an appliance: an OVF descriptor in a folder, or first in a tar archive (OVA).  Source: DSP0243, Open
 * Virtualization Format, 1.1 and 2.1; files that VMware and VirtualBox wrote.
 *
 *	Envelope
 *	  References/File	id, href, size, compression ("gzip"), chunkSize (then it is in pieces, href.000000000 ...)
 *	  DiskSection/Disk	diskId, fileRef (absent: an empty disk), capacity, capacityAllocationUnits, format, parentRef
 *	  VirtualSystem		id; Name; vbox:Machine/@uuid
 *	    VirtualHardwareSection/Item	ResourceType 5, 6, 20: controllers; 17: a disk, its HostResource "ovf:/disk/ID" or
 *				"ovf:/file/ID", AddressOnParent, Parent (the controller's InstanceID)
 *
 * Disks are in the order of the items, as hardware_ovf.c reads them.  NAME.mf beside it has the files' sums, NAME.cert
 * who signed that: ovf_manifest.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"
#include "formats/machine/xml_tree.h"

#define CONTROLLERS_MAX 64u
#define ID_BYTES 200u

struct controller {
	char id[32], name[24];
};

struct appliance {
	struct machine *m;
	const struct xml_node *files, *disks;
	struct controller controllers[CONTROLLERS_MAX];
	size_t n;
	unsigned seen[3];		/* of IDE, SCSI, SATA */
};

/* The element below list with that attribute. */
static const struct xml_node *find_by(const struct xml_node *list, const char *name, const char *attribute, const char *value)
{
	const struct xml_node *x;
	size_t at = 0;

	while ((x = xml_next(list, &at, name)))
		if (value && xml_is(x, attribute, value))
			return x;
	return NULL;
}

static bool number_of(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!s || !*s)
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		if (!mul_u64(v, 10, &v) || !add_u64(v, (uint64_t)(*s - '0'), &v))
			return false;
	*ret = v;
	return !*s;
}

/* "byte * 2^30", "byte*10^6", "byte", absent; older writers: "GigaBytes".  False: not understood. */
static bool unit_of(const char *s, uint64_t *ret)
{
	uint64_t base, power, v = 1;
	const char *star = s ? strchr(s, '*') : NULL, *hat = star ? strchr(star, '^') : NULL;
	char digits[8];

	if (!s || !*s || !strcasecmp(s, "byte") || !strcasecmp(s, "bytes")) {
		*ret = 1;
		return true;
	}
	if (!hat) {
		*ret = strcasestr(s, "tera") ? (uint64_t)1 << 40 : strcasestr(s, "giga") ? GIB :
		       strcasestr(s, "mega") ? MIB : strcasestr(s, "kilo") ? KIB : 0;
		return *ret;
	}
	star += 1 + strspn(star + 1, " ");
	(void)snprintf(digits, sizeof(digits), "%.*s", (int)min_size(strspn(star, "0123456789"), 7), star);
	if (strncasecmp(s, "byte", 4) != 0 || !number_of(digits, &base))
		return false;
	hat += 1 + strspn(hat + 1, " ");
	(void)snprintf(digits, sizeof(digits), "%.*s", (int)min_size(strspn(hat, "0123456789"), 7), hat);
	if (!number_of(digits, &power) || power > 63)
		return false;
	while (power--)
		if (!mul_u64(v, base, &v))
			return false;
	*ret = v;
	return true;
}

/* Kedge's name of the format that a URI stands for; NULL: its content tells. */
static const char *format_of(const char *uri)
{
	return !uri ? NULL : strcasestr(uri, "vmdk") ? "vmdk" : strcasestr(uri, "qcow") ? "qcow2" : NULL;
}

static int set_refused(struct machine_disk *d, const char *why, struct err *e)
{
	return d->refused ? 0 : machine_text(&d->refused, why, e);
}

/* A File element is where the disk's image is. */
static int take_file(struct appliance *a, const struct xml_node *file, struct machine_disk *d, struct err *e)
{
	const char *compression = xml_get(file, "compression"), *chunk = xml_get(file, "chunkSize"), *href = xml_get(file, "href");
	struct machine_image *im;

	if (!href || !*href)
		return set_refused(d, "has no file in the description", e);
	if (chunk && *chunk)
		return set_refused(d, "is cut into pieces (chunkSize): put them together with cat, under the name that the description has", e);
	if (compression && *compression && strcasecmp(compression, "identity") != 0 && strcasecmp(compression, "gzip") != 0)
		return set_refused(d, "is compressed in a way that is not known", e);
	d->gzip = compression && !strcasecmp(compression, "gzip");
	if (machine_text(&d->image.path, href, e) < 0)
		return e->code;
	im = VEC_PUSH(&a->m->images, e);
	return im ? machine_text(&im->path, href, e) : e->code;
}

static int take_disk(struct appliance *a, const struct xml_node *disk, struct machine_disk *d, struct err *e)
{
	const char *ref = xml_get(disk, "fileRef");
	const struct xml_node *file = find_by(a->files, "File", "id", ref);
	uint64_t units, capacity;

	if (number_of(xml_get(disk, "capacity"), &capacity) && unit_of(xml_get(disk, "capacityAllocationUnits"), &units) &&
	    !mul_u64(capacity, units, &d->capacity))
		return err_set(e, ERR_CORRUPT, "disk %s has an impossible capacity", d->name);
	if (!ref)
		return set_refused(d, "is an empty one, of which the appliance has no image", e);
	if (!file)
		return set_refused(d, "has no file in the description", e);
	if (xml_get(disk, "parentRef"))
		return set_refused(d, "is based on another disk of the appliance, which isn't read", e);
	return machine_text(&d->format, format_of(xml_get(disk, "format")), e) < 0 ? e->code : take_file(a, file, d, e);
}

/* "ovf:/disk/ID", "/disk/ID", "ovf:/file/ID". */
static int take_resource(struct appliance *a, const char *resource, struct machine_disk *d, struct err *e)
{
	const char *disk = resource ? strstr(resource, "/disk/") : NULL, *file = resource ? strstr(resource, "/file/") : NULL;
	const struct xml_node *x = disk ? find_by(a->disks, "Disk", "diskId", disk + 6) :
				   file ? find_by(a->files, "File", "id", file + 6) : NULL;

	if (!x)
		return set_refused(d, "is not described", e);
	return disk ? take_disk(a, x, d, e) : take_file(a, x, d, e);
}

static const char *item(const struct xml_node *x, const char *name, char *buf, size_t len)
{
	return xml_text(xml_find(x, name), buf, len);
}

static uint64_t type_of(const struct xml_node *x)
{
	char buf[24];
	uint64_t v;

	return number_of(item(x, "ResourceType", buf, sizeof(buf)), &v) ? v : 0;
}

static void add_controller(struct appliance *a, const struct xml_node *x, uint64_t type)
{
	static const char *const names[] = { "ide", "scsi", "sata" };
	unsigned kind = type == 5 ? 0 : type == 6 ? 1 : 2;
	struct controller *c = &a->controllers[a->n];
	char buf[60];
	const char *id = item(x, "InstanceID", buf, sizeof(buf));

	if (a->n == CONTROLLERS_MAX)
		return;
	(void)snprintf(c->id, sizeof(c->id), "%.31s", id ? id : "");
	(void)snprintf(c->name, sizeof(c->name), "%s-%u", names[kind], a->seen[kind]++);
	a->n++;
}

static int add_drive(struct appliance *a, const struct xml_node *x, struct err *e)
{
	char buf[60], unit[24], where[100], resource[ID_BYTES];
	const char *parent = item(x, "Parent", buf, sizeof(buf)), *at = item(x, "AddressOnParent", unit, sizeof(unit));
	struct machine_disk *d;

	(void)snprintf(where, sizeof(where), "disk-%zu", a->m->disks.n);
	for (size_t i = 0; parent && i < a->n; i++)
		if (!strcmp(a->controllers[i].id, parent))
			(void)snprintf(where, sizeof(where), "%s-%s", a->controllers[i].name, at ? at : "0");
	d = machine_add_disk(a->m, where, e);
	return d ? take_resource(a, item(x, "HostResource", resource, sizeof(resource)), d, e) : e->code;
}

/* Other files that it refers to: an NVRAM is kept, a CD's image is not. */
static int add_files(struct appliance *a, struct err *e)
{
	const struct xml_node *x;
	size_t at = 0;
	char q[200];

	while ((x = xml_next(a->files, &at, "File"))) {
		const char *href = xml_get(x, "href"), *end = href ? strrchr(href, '.') : NULL;

		if (!end || machine_names_image(a->m, href))
			continue;
		if (!strcasecmp(end, ".nvram")) {
			if (machine_add_file(a->m, href, MACHINE_NVRAM, true, e) < 0)
				return e->code;
		} else if (machine_add_note(a->m, e, "its file %s is not kept", text_quote(href, q, sizeof(q))) < 0) {
			return e->code;
		}
	}
	return 0;
}

bool machine_names_image(const struct machine *m, const char *path)
{
	for (size_t i = 0; i < m->images.n; i++)
		if (m->images.p[i].path && !strcmp(m->images.p[i].path, path))
			return true;
	return false;
}

static const struct xml_node *find_system(const struct xml_node *root, struct err *e)
{
	const struct xml_node *in = xml_find(root, "VirtualSystemCollection"), *x;
	size_t at = 0;

	in = in ? in : root;
	x = xml_next(in, &at, "VirtualSystem");
	if (!x)
		(void)err_set(e, ERR_CORRUPT, "it has no VirtualSystem");
	else if (xml_next(in, &at, "VirtualSystem")) {
		(void)err_set(e, ERR_UNSUPPORTED, "it describes several machines, and only one can be read");
		(void)err_hint(e, "back up its disks by themselves: DISK=FILE.ova//MEMBER");
		return NULL;
	}
	return x;
}

static int take_system(struct appliance *a, const struct xml_node *system, struct err *e)
{
	const struct xml_node *hw = xml_find(system, "VirtualHardwareSection"), *vbox = xml_find(system, "Machine"), *x;
	char name[300];
	size_t at = 0;

	if (machine_text(&a->m->name, item(system, "Name", name, sizeof(name)), e) < 0 ||
	    (!a->m->name && machine_text(&a->m->name, xml_get(system, "id"), e) < 0) ||
	    machine_uuid(&a->m->uuid, xml_get(vbox, "uuid"), e) < 0)
		return e->code;
	while ((x = xml_next(hw, &at, "Item"))) {
		uint64_t type = type_of(x);

		if (type == 5 || type == 6 || type == 20)
			add_controller(a, x, type);
	}
	for (at = 0; (x = xml_next(hw, &at, "Item"));)
		if (type_of(x) == 17 && add_drive(a, x, e) < 0)
			return e->code;
	return 0;
}

/* NAME.mf and NAME.cert beside NAME.ovf. */
static int add_beside(struct machine *m, const char *ending, enum machine_role role, struct err *e)
{
	const char *ovf = m->files.p[0].path;
	size_t len = strlen(ovf);
	char *path = text_printf(e, "%.*s%s", (int)(len > 4 ? len - 4 : len), ovf, ending);
	int r = path ? machine_add_file(m, path, role, true, e) : e->code;

	free(path);
	return r;
}

int ovf_parse(const void *text, size_t len, struct machine *m, struct err *e)
{
	CLEANUP(xml_free_cleanup) struct xml_node *root = NULL;
	const struct xml_node *system;
	struct appliance a = { .m = m };

	if (xml_tree_parse(text, len, &root, e) < 0)
		return e->code;
	a.files = xml_find(root, "References");
	a.disks = xml_find(root, "DiskSection");
	system = find_system(root, e);
	if (!system || machine_text(&m->version, xml_get(root, "version"), e) < 0 || take_system(&a, system, e) < 0 ||
	    add_files(&a, e) < 0 || add_beside(m, ".mf", MACHINE_MANIFEST, e) < 0)
		return e->code;
	return add_beside(m, ".cert", MACHINE_CERTIFICATE, e);
}
