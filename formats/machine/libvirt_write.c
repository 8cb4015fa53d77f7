/*
 * libvirt_write.c - a libvirt domain: a new one, or the old one with new disks.  Source: libvirt's "Domain XML format".
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/machine/hardware_internal.h"

#define OSINFO "http://libosinfo.org/xmlns/libvirt/domain/1.0"

/* libvirt's names are QEMU's. */
static const char *format_name(const char *format)
{
	return !strcmp(format, "vhd") ? "vpc" : format;
}

/* --- disks --------------------------------------------------------------------------------------------------------- */

/* The n-th target of a prefix: sda, ..., sdz, sdaa. */
static const char *target_name(const char *prefix, uint32_t n, char buf[static 16])
{
	char letters[8];
	size_t k = sizeof(letters);

	letters[--k] = '\0';
	for (n++; n; n = (n - 1) / 26)
		letters[--k] = (char)('a' + (n - 1) % 26);
	(void)snprintf(buf, 16, "%s%s", prefix, letters + k);
	return buf;
}

static bool target_is_taken(const struct xml_node *devices, const char *name)
{
	const struct xml_node *x;
	size_t at = 0;

	while ((x = xml_next(devices, &at, "disk")))
		if (xml_is(xml_find(x, "target"), "dev", name))
			return true;
	return false;
}

static const char *const bus_names[] = {
	[BUS_IDE] = "ide", [BUS_SATA] = "sata", [BUS_SCSI] = "scsi", [BUS_NVME] = "sata", [BUS_VIRTIO] = "virtio",
	[BUS_USB] = "usb", [BUS_FLOPPY] = "fdc",
};

/* Places of virtio SCSI are LUNs of target 0; the other adapters know LUN 0 alone, and QEMU refuses the rest. */
static void add_address(struct xml_node *x, const struct hardware_drive *d, struct err *e)
{
	const bool by_target = hardware_is_by_target(d);
	struct xml_node *a;

	if (d->bus != BUS_IDE && d->bus != BUS_SATA && d->bus != BUS_SCSI)
		return;
	a = xml_set(xml_add(x, "address", e), "type", "drive", e);
	xml_setf(a, e, "controller", "%" PRIu32, d->bus == BUS_IDE ? 0 : d->controller);
	xml_setf(a, e, "bus", "%" PRIu32, d->bus == BUS_IDE ? d->controller : 0);
	xml_setf(a, e, "target", "%" PRIu32, by_target ? d->unit : 0);
	xml_setf(a, e, "unit", "%" PRIu32, by_target ? 0 : d->unit);
}

static void add_source(struct xml_node *x, const struct hardware_drive *d, const char *dir, struct err *e)
{
	CLEANUP(free_ptr) char *path = d->file && !e->code ? fs_join(dir, d->file, e) : NULL;

	xml_set(x, "type", d->device ? "block" : "file", e);	/* QEMU takes neither for the other */
	if (path)
		xml_set(xml_need(x, "source", e), d->device ? "dev" : "file", path, e);
}

static void add_drive(struct xml_node *devices, const struct hardware_drive *d, const char *dir, struct err *e)
{
	struct xml_node *x, *driver;
	const char *prefix = d->bus == BUS_VIRTIO ? "vd" : d->bus == BUS_IDE ? "hd" : "sd";
	char dev[16];
	uint32_t n = d->bus == BUS_IDE ? 2 * d->controller + d->unit : 0;

	while (!e->code && target_is_taken(devices, target_name(prefix, n, dev)))
		n++;
	x = xml_set(xml_add(devices, "disk", e), "type", "file", e);
	xml_set(x, "device", d->kind == DRIVE_CD ? "cdrom" : "disk", e);
	driver = xml_set(xml_add(x, "driver", e), "name", "qemu", e);
	xml_set(driver, "type", d->file ? format_name(d->format) : "raw", e);
	if (d->file)
		add_source(x, d, dir, e);
	xml_set(xml_set(xml_add(x, "target", e), "dev", dev, e), "bus", bus_names[d->bus], e);
	if (d->kind == DRIVE_CD)
		xml_add(x, "readonly", e);
	add_address(x, d, e);
}

static void add_scsi(const struct hardware *h, struct xml_node *devices, struct err *e)
{
	static const char *const models[] = {
		[ADAPTER_OTHER] = "virtio-scsi", [ADAPTER_LSILOGIC] = "lsilogic", [ADAPTER_LSISAS] = "lsisas1068",
		[ADAPTER_BUSLOGIC] = "buslogic", [ADAPTER_PVSCSI] = "vmpvscsi", [ADAPTER_VIRTIO] = "virtio-scsi",
	};

	for (size_t i = 0; i < h->drives.n; i++) {
		const struct hardware_drive *d = &h->drives.p[i];
		bool first = d->bus == BUS_SCSI;

		for (size_t k = 0; k < i && first; k++)
			first = h->drives.p[k].bus != BUS_SCSI || h->drives.p[k].controller != d->controller;
		if (!first)
			continue;
		xml_setf(xml_set(xml_set(xml_add(devices, "controller", e), "type", "scsi", e), "model",
				 models[d->adapter], e), e, "index", "%" PRIu32, d->controller);
	}
}

/* --- a new domain -------------------------------------------------------------------------------------------------- */

static void add_nic(struct xml_node *devices, const struct hardware_nic *n, struct err *e)
{
	static const char *const models[] = {
		[NIC_OTHER] = "e1000e", [NIC_E1000] = "e1000", [NIC_E1000E] = "e1000e", [NIC_VMXNET3] = "vmxnet3",
		[NIC_VIRTIO] = "virtio", [NIC_PCNET] = "pcnet", [NIC_RTL8139] = "rtl8139",
	};
	struct xml_node *x = xml_set(xml_add(devices, "interface", e), "type", "network", e);

	xml_set(xml_add(x, "mac", e), "address", n->mac, e);
	xml_set(xml_add(x, "source", e), "network", "default", e);
	xml_set(xml_add(x, "model", e), "type", models[n->model], e);
	if (n->unplugged || n->link == LINK_NONE)
		xml_set(xml_add(x, "link", e), "state", "down", e);
}

static void add_feature(struct xml_node *firmware, const char *name, bool on, struct err *e)
{
	xml_set(xml_set(xml_add(firmware, "feature", e), "enabled", on ? "yes" : "no", e), "name", name, e);
}

static void add_os(const struct hardware *h, const struct hardware_write_opts *o, struct xml_node *root, struct err *e)
{
	CLEANUP(free_ptr) char *nvram = o->nvram ? fs_join(o->dir, o->nvram, e) : NULL;
	struct xml_node *os = xml_add(root, "os", e), *firmware;
	bool ide = false;

	for (size_t i = 0; i < h->drives.n; i++)
		ide = ide || h->drives.p[i].bus == BUS_IDE;
	if (h->uefi)
		xml_set(os, "firmware", "efi", e);
	xml_set(xml_set(xml_add_text(os, "type", "hvm", e), "arch", "x86_64", e), "machine",
		ide ? "pc" : "q35", e);
	if (h->uefi) {
		firmware = xml_add(os, "firmware", e);
		add_feature(firmware, "secure-boot", h->secure_boot, e);
		add_feature(firmware, "enrolled-keys", h->secure_boot, e);
		if (h->secure_boot)
			xml_set(xml_add(os, "loader", e), "secure", "yes", e);
		if (nvram)
			xml_add_text(os, "nvram", nvram, e);
	}
	xml_set(xml_add(os, "boot", e), "dev", "hd", e);
}

static void add_settings(const struct hardware *h, const struct hardware_write_opts *o, struct xml_node *root,
			 struct err *e)
{
	struct xml_node *x;

	xml_add_text(root, "name", h->name, e);
	xml_add_text(root, "uuid", h->uuid, e);
	if (h->description)
		xml_add_text(root, "description", h->description, e);
	if (h->guest->to_osinfo) {
		x = xml_set(xml_add(xml_add(root, "metadata", e), "libosinfo:libosinfo", e), "xmlns:libosinfo", OSINFO, e);
		xml_set(xml_add(x, "libosinfo:os", e), "id", h->guest->to_osinfo, e);
	}
	xml_set_textf(xml_set(xml_add(root, "memory", e), "unit", "KiB", e), e, "%" PRIu64, h->memory / KIB);
	xml_set_textf(xml_add(root, "vcpu", e), e, "%" PRIu32, h->cpus);
	add_os(h, o, root, e);
	x = xml_add(root, "features", e);
	xml_add(x, "acpi", e);
	xml_add(x, "apic", e);
	if (h->secure_boot)
		xml_set(xml_add(x, "smm", e), "state", "on", e);
	x = xml_set(xml_add(root, "cpu", e), "mode", "host-model", e);
	if (h->cores) {
		x = xml_setf(xml_add(x, "topology", e), e, "sockets", "%" PRIu32, h->cpus / h->cores);
		xml_set(xml_setf(x, e, "cores", "%" PRIu32, h->cores), "threads", "1", e);
	}
	xml_set(xml_add(root, "clock", e), "offset", strncmp(h->guest->vbox, "Windows", 7) ? "utc" : "localtime", e);
}

static void add_devices(const struct hardware *h, const struct hardware_write_opts *o, struct xml_node *root,
			struct err *e)
{
	struct xml_node *devices = xml_add(root, "devices", e), *x;

	for (size_t i = 0; i < h->drives.n; i++)
		add_drive(devices, &h->drives.p[i], o->dir, e);
	add_scsi(h, devices, e);
	for (size_t i = 0; i < h->nics.n; i++)
		add_nic(devices, &h->nics.p[i], e);
	xml_set(xml_add(devices, "serial", e), "type", "pty", e);
	xml_set(xml_add(devices, "console", e), "type", "pty", e);
	xml_set(xml_set(xml_add(devices, "input", e), "type", "tablet", e), "bus", "usb", e);
	if (h->tpm) {
		x = xml_set(xml_add(devices, "tpm", e), "model", h->tpm == 1 ? "tpm-tis" : "tpm-crb", e);
		xml_set(xml_set(xml_add(x, "backend", e), "type", "emulator", e), "version", h->tpm == 1 ? "1.2" : "2.0", e);
	}
	x = xml_set(xml_set(xml_add(devices, "graphics", e), "type", "vnc", e), "port", "-1", e);
	xml_set(x, "autoport", "yes", e);
	xml_set(xml_add(xml_add(devices, "video", e), "model", e), "type", "vga", e);
}

/* --- the old domain ------------------------------------------------------------------------------------------------ */

/* The disk element with the new image; the layers, mirrors and secrets were of the old one. */
static void edit_disk(struct xml_node *x, const struct hardware_drive *d, const char *dir, struct err *e)
{
	static const char *const old[] = { "source", "backingStore", "mirror", "auth", "encryption", "transient" };
	struct xml_node *driver;

	for (size_t i = 0; i < sizeof(old) / sizeof(*old); i++)
		xml_remove_all(x, old[i]);
	driver = xml_set(xml_need(x, "driver", e), "name", "qemu", e);
	xml_set(driver, "type", format_name(d->format), e);
	if (xml_is(x, "device", "lun"))		/* of a real SCSI device only */
		xml_set(xml_set(xml_set(x, "device", "disk", e), "rawio", NULL, e), "sgio", NULL, e);
	add_source(x, d, dir, e);
}

static int edit_drives(struct hardware *h, const struct hardware_write_opts *o, struct xml_node *devices, struct err *e)
{
	VEC(struct xml_node *) gone = { 0 };
	struct xml_node *x, **slot;
	size_t at = 0, i = 0;
	char name[100];

	while (!e->code && i < h->drives.n && (x = xml_next(devices, &at, "disk"))) {
		const struct hardware_drive *d = &h->drives.p[i++];

		if (d->file) {
			edit_disk(x, d, o->dir, e);
		} else if (d->kind == DRIVE_DISK) {
			slot = VEC_PUSH(&gone, e);
			if (!slot || hardware_lose(h, e, "%s is not in this backup", hardware_drive_name(d, name)) < 0)
				break;
			*slot = x;
		} else if (d->image) {
			xml_remove_all(x, "source");
			if (hardware_lose(h, e, "what is in %s", hardware_drive_name(d, name)) < 0)
				break;
		}
	}
	for (size_t k = 0; !e->code && k < gone.n; k++)
		xml_remove(gone.p[k]);
	VEC_DONE(&gone);
	for (i = 0; i < h->drives.n; i++)
		if (h->drives.p[i].added) {
			struct hardware_drive d = h->drives.p[i];

			d.bus = d.bus == BUS_VIRTIO || d.bus == BUS_IDE ? BUS_VIRTIO : d.bus;
			add_drive(devices, &d, o->dir, e);
		}
	return e->code;
}

static void edit_nics(const struct hardware *h, struct xml_node *devices, struct err *e)
{
	struct xml_node *x;
	size_t at = 0, i = 0;

	while (i < h->nics.n && (x = xml_next(devices, &at, "interface")))
		xml_set(xml_need(x, "mac", e), "address", h->nics.p[i++].mac, e);
}

static void edit_nvram(struct hardware *h, const struct hardware_write_opts *o, struct xml_node *os, struct err *e)
{
	struct xml_node *nvram = xml_find(os, "nvram"), *source = xml_find(nvram, "source");
	CLEANUP(free_ptr) char *path = o->nvram && !e->code ? fs_join(o->dir, o->nvram, e) : NULL;

	if (!nvram)
		return;
	if (path && source)
		xml_set(source, "file", path, e);
	else if (path)
		xml_set_text(nvram, path, e);
	else {	/* at the old place it would be the old machine's; with a template libvirt makes one at its own */
		xml_remove(source);
		xml_set(nvram, "type", NULL, e);
		if (xml_get(nvram, "template"))
			xml_set_text(nvram, "", e);
		else
			xml_remove(nvram);
		hardware_lose(h, e, "the UEFI's variables, which are not in the backup: the firmware makes new ones");
	}
}

static void edit_tpm(struct hardware *h, const struct hardware_write_opts *o, struct xml_node *devices, struct err *e)
{
	struct xml_node *source = xml_find(devices, "tpm/backend/source");
	CLEANUP(free_ptr) char *path = o->tpm && !e->code ? fs_join(o->dir, o->tpm, e) : NULL;

	if (path && source)
		xml_set(source, "path", path, e);
	else if (h->tpm) {
		xml_remove(source);
		hardware_lose(h, e, "the TPM's state, which is not in the backup: the new one is empty, what a guest "
				    "sealed with it (BitLocker) needs its recovery key");
	}
}

/* What has the machine's UUID in it, or must be one of its own. */
static void edit_ids(const struct hardware *h, const struct hardware_write_opts *o, struct xml_node *root, struct err *e)
{
	struct xml_node *system = xml_find(root, "sysinfo/system"), *x;
	size_t at = 0;

	xml_set(root, "id", NULL, e);
	xml_set_text(xml_need(root, "name", e), h->name, e);
	xml_set_text(xml_need(root, "uuid", e), h->uuid, e);
	while ((x = xml_next(system, &at, "entry")))
		if (xml_is(x, "name", "uuid"))
			xml_set_text(x, h->uuid, e);
	x = xml_find(root, "genid");
	if (x && !o->keep_ids)
		xml_set_text(x, "", e);
	for (at = 0; (x = xml_next(root, &at, "seclabel"));)
		if (xml_is(x, "type", "dynamic"))	/* of the domain while it ran */
			xml_remove_all(x, "label"), xml_remove_all(x, "imagelabel");
}

static int edit(struct hardware *h, const struct hardware_write_opts *o, struct xml_node *root, struct err *e)
{
	struct xml_node *devices = xml_need(root, "devices", e), *os = xml_need(root, "os", e);

	edit_ids(h, o, root, e);
	if (o->set_memory) {
		xml_remove_all(root, "currentMemory");
		xml_set_textf(xml_set(xml_need(root, "memory", e), "unit", "KiB", e), e, "%" PRIu64, h->memory / KIB);
	}
	if (o->set_cpus) {
		struct xml_node *vcpu = xml_set_textf(xml_need(root, "vcpu", e), e, "%" PRIu32, h->cpus);

		xml_set(xml_set(vcpu, "current", NULL, e), "cpuset", NULL, e);
		xml_remove_all(root, "vcpus");
		xml_remove(xml_find(root, "cpu/topology"));
		xml_remove(xml_find(root, "cpu/numa"));
	}
	if (edit_drives(h, o, devices, e) < 0)
		return e->code;
	edit_nics(h, devices, e);
	edit_nvram(h, o, os, e);
	edit_tpm(h, o, devices, e);
	return e->code;
}

/* libvirt makes files of the name, and refuses what can't be in one's. */
static int fit_name(struct hardware *h, struct err *e)
{
	bool changed = false;

	for (char *c = h->name; *c; c++)
		if (*c == '/' || *c == '\n') {
			*c = '_';
			changed = true;
		}
	return changed ? hardware_lose(h, e, "characters of the machine's name that libvirt has not: they are _") : 0;
}

int libvirt_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e)
{
	CLEANUP(xml_free_cleanup) struct xml_node *root = NULL;

	if (fit_name(h, e) < 0)
		return e->code;
	if (o->text) {
		if (xml_tree_parse(o->text, o->len, &root, e) < 0 || edit(h, o, root, e) < 0)
			return e->code;
	} else {
		root = xml_set(xml_new("domain", e), "type", "kvm", e);
		add_settings(h, o, root, e);
		add_devices(h, o, root, e);
	}
	return e->code ? e->code : xml_write(root, b, e);
}
