/*
 * domain.c - a libvirt domain: its disks, and the files of its firmware and TPM.
 *
 *	<domain>
 *	  <name>web</name> <uuid>...</uuid>
 *	  <os><loader>/usr/share/...</loader><nvram>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>
 *	  <devices>
 *	    <disk type="file" device="disk">
 *	      <driver name="qemu" type="qcow2"/>	absent: raw, as libvirt has it
 *	      <source file="/var/lib/libvirt/images/web.qcow2"/>	<source dev="/dev/..."/> of type="block"
 *		<slices>			the disk is a part of it: refused
 *		<encryption format="luks">	or beside the source; a raw file of that is a LUKS container: refused
 *	      <target dev="vda"/>
 *	      <mirror>				a block job is under way
 *	    <tpm><backend type="emulator"><source type="file" path="..."/>	absent: a folder of libvirt's own
 *
 * Sources inside backingStore and mirror are not the disk's.  Snapshots are those inside its qcow2 images.
 */
#include <string.h>

#include "base/text.h"
#include "formats/machine/libvirt.h"
#include "formats/machine/machine_internal.h"

/* A <disk> while it is open. */
struct drive {
	char *type, *device, *path, *target, *format;
	bool in_source, sliced, encrypted, mirrored;
};

struct domain {
	struct machine *m;
	struct drive drive;
	unsigned disk_depth;		/* of the open <disk>; 0 = none */
	bool in_os, in_tpm, in_nvram;
	bool tpm_emulated, tpm_kept;	/* of the open <tpm> */
};

static void drive_done(struct drive *d)
{
	free(d->type);
	free(d->device);
	free(d->path);
	free(d->target);
	free(d->format);
	*d = (struct drive){ 0 };
}

static void domain_done(struct domain *d)
{
	drive_done(&d->drive);
}

static int on_disk_child(struct domain *d, const char *name, const char *const *a, struct err *e)
{
	const char *path;

	d->drive.in_source = !strcmp(name, "source");
	d->drive.encrypted = d->drive.encrypted || !strcmp(name, "encryption");
	d->drive.mirrored = d->drive.mirrored || !strcmp(name, "mirror");
	if (!strcmp(name, "driver"))
		return machine_text(&d->drive.format, xml_attribute(a, "type"), e);
	if (!strcmp(name, "target"))
		return machine_text(&d->drive.target, xml_attribute(a, "dev"), e);
	if (!d->drive.in_source)
		return 0;
	path = xml_attribute(a, "file");
	if (!path)
		path = xml_attribute(a, "dev");
	return machine_text(&d->drive.path, path, e);
}

static void on_source_child(struct drive *d, const char *name)
{
	d->sliced = d->sliced || !strcmp(name, "slices");
	d->encrypted = d->encrypted || !strcmp(name, "encryption");
}

/* What the state of the firmware or the TPM is in. */
static int on_state_source(struct domain *d, const char *const *a, struct err *e)
{
	const char *path = xml_attribute(a, d->in_nvram ? "file" : "path"), *type = xml_attribute(a, "type");

	if (d->in_nvram)
		return path ? machine_add_file(d->m, path, MACHINE_NVRAM, true, e)
			    : machine_add_note(d->m, e, "its NVRAM is in no file of this host: it is not kept");
	if (!path || (type && strcmp(type, "file")))	/* a folder; an emulator's socket */
		return 0;
	d->tpm_kept = true;
	return machine_add_file(d->m, path, MACHINE_TPM, true, e);
}

static int on_start(void *opaque, unsigned depth, const char *name, const char *const *a, struct err *e)
{
	struct domain *d = opaque;

	if (depth == 1)
		return strcmp(name, "domain") ? err_set(e, ERR_CORRUPT, "the root element is not domain") : 0;
	if (d->disk_depth && depth == d->disk_depth + 2 && d->drive.in_source)
		on_source_child(&d->drive, name);
	if (d->disk_depth)
		return depth == d->disk_depth + 1 ? on_disk_child(d, name, a, e) : 0;
	if (depth == 2 && !strcmp(name, "os"))
		d->in_os = true;
	else if (depth == 3 && !strcmp(name, "tpm"))
		d->in_tpm = true;
	else if (d->in_tpm && !strcmp(name, "backend"))
		d->tpm_emulated = xml_attribute(a, "type") && !strcmp(xml_attribute(a, "type"), "emulator");
	else if (depth == 3 && !strcmp(name, "disk")) {
		d->disk_depth = depth;
		return machine_text(&d->drive.type, xml_attribute(a, "type"), e) < 0 ? e->code :
		       machine_text(&d->drive.device, xml_attribute(a, "device"), e);
	} else if (depth == 3 && d->in_os && !strcmp(name, "nvram"))
		d->in_nvram = true;
	else if (!strcmp(name, "source") && (d->in_nvram || d->in_tpm))
		return on_state_source(d, a, e);
	return 0;
}

/* libvirt's names are QEMU's. */
static const char *format_of(const char *name)
{
	return !name ? "raw" : !strcmp(name, "vpc") ? "vhd" : name;
}

/* Why the image can't be taken for the disk; NULL. */
static const char *refuse_reason(const struct drive *dr)
{
	if (dr->sliced)
		return "is a part (slice) of its file, which is not read as one";
	if (dr->encrypted && !strcmp(format_of(dr->format), "raw"))
		return "is a raw file that is encrypted by LUKS, which is read inside qcow2 alone";
	return NULL;
}

static int add_drive(struct domain *d, struct err *e)
{
	const struct drive *dr = &d->drive;
	const char *type = dr->type ? dr->type : "file", *device = dr->device ? dr->device : "disk";
	struct machine_disk *x = machine_add_disk(d->m, dr->target ? dr->target : "disk", e);
	char q[60];

	if (!x)
		return e->code;
	if (strcmp(device, "disk") && strcmp(device, "lun")) {
		x->skipped = text_printf(e, "%s drive", text_quote(device, q, sizeof(q)));
		return x->skipped ? 0 : e->code;
	}
	if (strcmp(type, "file") && strcmp(type, "block")) {
		x->refused = text_printf(e, "is of type %s, which is no file or block device of this host",
					 text_quote(type, q, sizeof(q)));
		return x->refused ? 0 : e->code;
	}
	if (!dr->path)
		return machine_text(&x->skipped, "nothing is attached", e);
	if (dr->mirrored && machine_add_note(d->m, e, "disk %s: a block job was under way when this was written, so its "
					     "image may be another by now", x->name) < 0)
		return e->code;
	return machine_text(&x->image.path, dr->path, e) < 0 ||
	       machine_text(&x->refused, refuse_reason(dr), e) < 0 ||
	       machine_text(&x->format, format_of(dr->format), e) < 0 ? e->code : 0;
}

static int end_tpm(struct domain *d, struct err *e)
{
	bool lost = d->tpm_emulated && !d->tpm_kept;

	d->in_tpm = d->tpm_emulated = d->tpm_kept = false;
	return lost ? machine_add_note(d->m, e, "its TPM's state is in no file that the description names (libvirt's own "
				       "place is /var/lib/libvirt/swtpm): it is not kept") : 0;
}

static int on_end(void *opaque, unsigned depth, const char *name, const char *text, struct err *e)
{
	struct domain *d = opaque;
	int r;

	if (d->disk_depth) {
		if (depth == d->disk_depth + 1)
			d->drive.in_source = false;
		if (depth != d->disk_depth)
			return 0;
		r = add_drive(d, e);
		drive_done(&d->drive);
		d->disk_depth = 0;
		return r;
	}
	if (depth == 2 && !strcmp(name, "name"))
		return machine_text(&d->m->name, text, e);
	if (depth == 2 && !strcmp(name, "uuid"))
		return machine_uuid(&d->m->uuid, text, e);
	if (depth == 2 && !strcmp(name, "os"))
		d->in_os = false;
	else if (depth == 3 && !strcmp(name, "tpm"))
		return end_tpm(d, e);
	else if (depth == 3 && d->in_os && !strcmp(name, "loader") && *text)
		return machine_add_file(d->m, text, MACHINE_LOADER, true, e);
	else if (depth == 3 && d->in_nvram) {
		d->in_nvram = false;
		return *text ? machine_add_file(d->m, text, MACHINE_NVRAM, true, e) : 0;
	}
	return 0;
}

int libvirt_parse(const void *text, size_t len, struct machine *m, struct err *e)
{
	static const struct xml_ops ops = { on_start, on_end };
	CLEANUP(domain_done) struct domain d = { .m = m };

	if (xml_parse(text, len, &ops, &d, e) < 0)
		return e->code;
	return m->name && *m->name ? 0 : err_set(e, ERR_CORRUPT, "the domain has no name");
}
