/*
 * vbox_write.c - VirtualBox's settings: new ones, or the old ones with new disks.
 *
 * Format 1.19 is VirtualBox 7.0's; later ones read it.  Images are in the registry by the UUID that they call themselves,
 * with a location from the settings' own folder.  Snapshots go: their images are not there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "formats/machine/hardware_internal.h"

static const char *format_name(const char *format)
{
	return !strcmp(format, "vdi") ? "VDI" : !strcmp(format, "vhd") ? "VHD" : "VMDK";
}

static void set_uuid(struct xml_node *n, const char *uuid, struct err *e)
{
	xml_setf(n, e, "uuid", "{%s}", uuid);
}

/* "08:00:27:.." as VirtualBox has it. */
static void set_mac(struct xml_node *n, const char *mac, struct err *e)
{
	char hex[13];
	size_t k = 0;

	for (; *mac && k < 12; mac++)
		if (*mac != ':')
			hex[k++] = *mac >= 'a' ? (char)(*mac - 'a' + 'A') : *mac;
	hex[k] = '\0';
	xml_set(n, "MACAddress", hex, e);
}

static void add_registry(const struct hardware *h, struct xml_node *registry, struct err *e)
{
	struct xml_node *list = xml_add(registry, "HardDisks", e), *x;

	for (size_t i = 0; i < h->drives.n; i++) {
		const struct hardware_drive *d = &h->drives.p[i];

		if (!d->file)
			continue;
		x = xml_add(list, "HardDisk", e);
		set_uuid(x, d->uuid, e);
		xml_set(xml_set(x, "location", d->file, e), "format", format_name(d->format), e);
		xml_set(x, "type", "Normal", e);
	}
}

/* --- new ones ------------------------------------------------------------------------------------------------------ */

static const char *controller_type(const struct hardware_drive *d)
{
	static const char *const adapters[] = {
		[ADAPTER_OTHER] = "LsiLogic", [ADAPTER_LSILOGIC] = "LsiLogic", [ADAPTER_LSISAS] = "LsiLogicSas",
		[ADAPTER_BUSLOGIC] = "BusLogic", [ADAPTER_PVSCSI] = "LsiLogic", [ADAPTER_VIRTIO] = "VirtioSCSI",
	};

	return d->bus == BUS_IDE ? "PIIX4" : d->bus == BUS_SCSI ? adapters[d->adapter] : d->bus == BUS_NVME ? "NVMe" : "AHCI";
}

static const char *controller_name(const struct hardware_drive *d, char buf[static 24])
{
	const char *base = d->bus == BUS_IDE ? "IDE" : d->bus == BUS_SCSI ? "SCSI" : d->bus == BUS_NVME ? "NVMe" : "SATA";

	if (d->bus == BUS_IDE || !d->controller)
		(void)snprintf(buf, 24, "%s", base);
	else
		(void)snprintf(buf, 24, "%s %" PRIu32, base, d->controller + 1);
	return buf;
}

static struct xml_node *find_controller(const struct xml_node *list, const char *name)
{
	struct xml_node *c;
	size_t at = 0;

	while ((c = xml_next(list, &at, "StorageController")))
		if (xml_is(c, "name", name))
			return c;
	return NULL;
}

/* As many ports as are in use; IDE has two, SCSI sixteen. */
static void set_ports(struct xml_node *c, const struct hardware_drive *d, struct err *e)
{
	uint32_t ports = d->bus == BUS_IDE ? 2 : d->bus == BUS_SCSI && d->adapter != ADAPTER_LSISAS ? 16 : d->unit + 1;

	if (hardware_number(xml_get(c, "PortCount"), 10000, 0) < ports)
		xml_setf(c, e, "PortCount", "%" PRIu32, ports);
}

/* The old machine's controller of that number on the drive's bus, whatever it is called; NULL. */
static struct xml_node *old_controller(const struct xml_node *list, const struct hardware_drive *d)
{
	uint32_t number = d->bus == BUS_IDE ? 0 : d->controller;
	struct xml_node *c;
	size_t at = 0;

	while ((c = xml_next(list, &at, "StorageController")))
		if (hardware_vbox_bus(c) == d->bus && number-- == 0)
			return c;
	return NULL;
}

/* c: the controller; NULL: that of our name, made where it is missing. */
static void add_drive(struct xml_node *list, struct xml_node *c, const struct hardware_drive *d, struct err *e)
{
	char name[24];
	struct xml_node *x;

	if (!c)
		c = find_controller(list, controller_name(d, name));
	if (!c) {
		c = xml_set(xml_set(xml_add(list, "StorageController", e), "name", controller_name(d, name), e), "type", controller_type(d), e);
		set_ports(c, d, e);
		xml_set(xml_set(c, "useHostIOCache", d->bus == BUS_IDE ? "true" : "false", e), "Bootable", "true", e);
	}
	set_ports(c, d, e);
	x = xml_set(xml_add(c, "AttachedDevice", e), "type", d->kind == DRIVE_CD ? "DVD" : "HardDisk", e);
	xml_setf(x, e, "port", "%" PRIu32, d->bus == BUS_IDE ? d->controller : d->unit);
	xml_setf(x, e, "device", "%" PRIu32, d->bus == BUS_IDE ? d->unit : 0);
	if (d->file)
		set_uuid(xml_add(x, "Image", e), d->uuid, e);
}

/* The older chipset has room for one controller of a type. */
static bool needs_ich9(const struct hardware *h)
{
	for (size_t i = 0; i < h->drives.n; i++)
		for (size_t k = 0; k < i; k++)
			if (h->drives.p[i].bus == h->drives.p[k].bus && h->drives.p[i].bus != BUS_IDE &&
			    h->drives.p[i].controller != h->drives.p[k].controller &&
			    h->drives.p[i].adapter == h->drives.p[k].adapter)
				return true;
	return false;
}

static void add_nic(struct xml_node *network, const struct hardware_nic *n, size_t slot, struct err *e)
{
	struct xml_node *x = xml_setf(xml_add(network, "Adapter", e), e, "slot", "%zu", slot);

	xml_set(x, "enabled", "true", e);
	set_mac(x, n->mac, e);
	if (n->unplugged)
		xml_set(x, "cable", "false", e);
	xml_set(x, "type", n->model == NIC_VIRTIO ? "virtio" : n->model == NIC_PCNET ? "Am79C973" : "82540EM", e);
	if (n->link != LINK_NONE)
		xml_add(x, "NAT", e);
}

static void add_hardware(const struct hardware *h, const struct hardware_write_opts *o, struct xml_node *hw, struct err *e)
{
	struct xml_node *x = xml_setf(xml_add(hw, "CPU", e), e, "count", "%" PRIu32, h->cpus);

	xml_set(xml_add(x, "PAE", e), "enabled", "true", e);
	xml_set(xml_add(x, "LongMode", e), "enabled", "true", e);
	xml_setf(xml_add(hw, "Memory", e), e, "RAMSize", "%" PRIu64, max_u64(h->memory / MIB, 4));
	if (h->uefi)
		xml_set(xml_add(hw, "Firmware", e), "type", h->bits32 ? "EFI32" : "EFI", e);
	if (needs_ich9(h))
		xml_set(xml_add(hw, "Chipset", e), "type", "ICH9", e);
	if (h->tpm) {
		x = xml_set(xml_add(hw, "TrustedPlatformModule", e), "type", h->tpm == 1 ? "v1_2" : "v2_0", e);
		xml_set(x, "location", "", e);
	}
	xml_set(xml_set(xml_add(hw, "Display", e), "controller", "VMSVGA", e), "VRAMSize", "16", e);
	x = xml_add(hw, "BIOS", e);
	xml_set(xml_add(x, "IOAPIC", e), "enabled", "true", e);
	if (o->nvram)
		xml_set(xml_add(x, "NVRAM", e), "path", o->nvram, e);
	x = xml_add(hw, "Network", e);
	for (size_t i = 0; i < h->nics.n; i++)
		add_nic(x, &h->nics.p[i], i, e);
	xml_set(xml_add(hw, "RTC", e), "localOrUTC", strncmp(h->guest->vbox, "Windows", 7) ? "UTC" : "local", e);
	x = xml_add(hw, "StorageControllers", e);
	for (size_t i = 0; i < h->drives.n; i++)
		add_drive(x, NULL, &h->drives.p[i], e);
}

static struct xml_node *make(const struct hardware *h, const struct hardware_write_opts *o, struct err *e)
{
	struct xml_node *root = xml_set(xml_new("VirtualBox", e), "xmlns", "http://www.virtualbox.org/", e), *m;
	char os[40];

	xml_set(root, "version", "1.19-linux", e);
	m = xml_add(root, "Machine", e);
	set_uuid(m, h->uuid, e);
	xml_set(xml_set(m, "name", h->name, e), "OSType", hardware_guest_vbox(h, os), e);
	xml_set(m, "snapshotFolder", "Snapshots", e);
	if (h->description)
		xml_add_text(m, "Description", h->description, e);
	add_registry(h, xml_add(m, "MediaRegistry", e), e);
	add_hardware(h, o, xml_add(m, "Hardware", e), e);
	return root;
}

/* --- the old ones -------------------------------------------------------------------------------------------------- */

static void edit_device(struct hardware *h, struct hardware_drive *d, struct xml_node *c, struct xml_node *x,
			struct err *e)
{
	struct xml_node *image = xml_find(x, "Image");
	char name[100];

	(void)c;
	if (d->file) {
		xml_remove_all(x, "HostDrive");
		set_uuid(xml_need(x, "Image", e), d->uuid, e);
	} else if (d->kind == DRIVE_DISK && (image || xml_find(x, "HostDrive"))) {
		xml_remove_all(x, "Image");
		xml_remove_all(x, "HostDrive");
		xml_set(x, "type", NULL, e);	/* marks it: taken out below */
		hardware_lose(h, e, "%s is not in this backup", hardware_drive_name(d, name));
	} else if (image) {		/* listed by its UUID, which another machine may have */
		xml_remove(image);
		hardware_lose(h, e, "what is in %s", hardware_drive_name(d, name));
	}
}

/* Takes out the devices without type. */
static void drop_devices(struct xml_node *c)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->children.n; i++)
		if (xml_named(c->children.p[i], "AttachedDevice") && !xml_get(c->children.p[i], "type"))
			xml_free(c->children.p[i]);
		else
			c->children.p[kept++] = c->children.p[i];
	c->children.n = kept;
}

static void edit_storage(struct hardware *h, struct xml_node *list, struct err *e)
{
	struct xml_node *c, *x;
	size_t at = 0, in, i = 0;

	while ((c = xml_next(list, &at, "StorageController"))) {
		for (in = 0; i < h->drives.n && (x = xml_next(c, &in, "AttachedDevice"));) {
			if (!xml_get(x, "type"))
				xml_set(x, "type", "HardDisk", e);
			edit_device(h, &h->drives.p[i++], c, x, e);
		}
		drop_devices(c);
	}
	for (i = 0; i < h->drives.n; i++)
		if (h->drives.p[i].added)
			add_drive(list, old_controller(list, &h->drives.p[i]), &h->drives.p[i], e);
}

static void edit_nics(const struct hardware *h, struct xml_node *network, struct err *e)
{
	struct xml_node *x;
	size_t at = 0, i = 0;

	while (i < h->nics.n && (x = xml_next(network, &at, "Adapter")))
		if (xml_is(x, "enabled", "true"))
			set_mac(x, h->nics.p[i++].mac, e);
}

static void edit_nvram(struct hardware *h, const struct hardware_write_opts *o, struct xml_node *hw, struct err *e)
{
	struct xml_node *nvram = xml_find(hw, "BIOS/NVRAM");

	if (!nvram)
		nvram = xml_find(hw, "Firmware/NVRAM");		/* since 1.20 */
	if (!nvram)
		return;
	if (!o->nvram && xml_get(nvram, "path") && h->uefi)
		hardware_lose(h, e, "the UEFI's variables and the TPM's state, which are not in the backup: new ones are made");
	xml_set(nvram, "path", o->nvram, e);
}

static void edit_machine(const struct hardware *h, struct xml_node *m, struct err *e)
{
	static const char *const old[] = { "currentSnapshot", "stateFile", "stateKeyId", "stateKeyStore", "aborted",
					   "currentStateModified" };

	for (size_t i = 0; i < sizeof(old) / sizeof(*old); i++)
		xml_set(m, old[i], NULL, e);
	set_uuid(m, h->uuid, e);
	xml_set(m, "name", h->name, e);
	xml_remove_all(m, "Snapshot");
	xml_remove_all(m, "MediaRegistry");
}

static struct xml_node *edit(struct hardware *h, const struct hardware_write_opts *o, struct err *e)
{
	struct xml_node *root = NULL, *m, *hw, *list;

	if (xml_tree_parse(o->text, o->len, &root, e) < 0)
		return NULL;
	m = xml_find(root, "Machine");
	hw = xml_need(m, "Hardware", e);
	edit_machine(h, m, e);
	list = xml_find(hw, "StorageControllers");
	edit_storage(h, list ? list : xml_need(m, "StorageControllers", e), e);
	add_registry(h, xml_add(m, "MediaRegistry", e), e);
	edit_nics(h, xml_find(hw, "Network"), e);
	edit_nvram(h, o, hw, e);
	if (o->set_memory)
		xml_setf(xml_need(hw, "Memory", e), e, "RAMSize", "%" PRIu64, max_u64(h->memory / MIB, 4));
	if (o->set_cpus)
		xml_setf(xml_need(hw, "CPU", e), e, "count", "%" PRIu32, h->cpus);
	return root;
}

int vbox_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e)
{
	CLEANUP(xml_free_cleanup) struct xml_node *root = o->text ? edit(h, o, e) : make(h, o, e);

	return e->code ? e->code : xml_write(root, b, e);
}
