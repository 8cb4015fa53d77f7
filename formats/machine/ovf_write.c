/*
 * ovf_write.c - an OVF descriptor.  Source: DSP0243 1.1; what VMware and VirtualBox write and read.
 *
 * The elements of an Item are in the order of their names, as the schema has it.  A descriptor's text doesn't depend on
 * anything but its disks' sizes, names and places, and is as long as ever for the same number of digits.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "formats/machine/hardware_internal.h"

#define STREAM "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
#define CIM "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"

struct ovf {
	const struct hardware *h;
	struct xml_node *hw;
	uint32_t next;			/* InstanceID */
	uint32_t ids[MACHINE_DISKS_MAX];	/* of the controllers, by drive: the first one on it */
};

/* An Item's elements, as text; NULL = left out. */
struct item {
	const char *address, *unit, *units, *automatic, *connection, *name, *host, *parent, *sub, *type, *quantity;
};

static void add_one(struct xml_node *x, const char *name, const char *text, struct err *e)
{
	if (text)
		xml_add_text(x, name, text, e);
}

static uint32_t add_item(struct ovf *o, const struct item *i, struct err *e)
{
	struct xml_node *x = xml_add(o->hw, "Item", e);
	const uint32_t id = ++o->next;

	add_one(x, "rasd:Address", i->address, e);
	add_one(x, "rasd:AddressOnParent", i->unit, e);
	add_one(x, "rasd:AllocationUnits", i->units, e);
	add_one(x, "rasd:AutomaticAllocation", i->automatic, e);
	add_one(x, "rasd:Caption", i->name, e);
	add_one(x, "rasd:Connection", i->connection, e);
	add_one(x, "rasd:ElementName", i->name, e);
	add_one(x, "rasd:HostResource", i->host, e);
	xml_set_textf(xml_add(x, "rasd:InstanceID", e), e, "%" PRIu32, id);
	add_one(x, "rasd:Parent", i->parent, e);
	add_one(x, "rasd:ResourceSubType", i->sub, e);
	add_one(x, "rasd:ResourceType", i->type, e);
	add_one(x, "rasd:VirtualQuantity", i->quantity, e);
	return id;
}

static uint32_t add_controller(struct ovf *o, const struct hardware_drive *d, struct err *e)
{
	static const char *const adapters[] = {
		[ADAPTER_OTHER] = "lsilogic", [ADAPTER_LSILOGIC] = "lsilogic", [ADAPTER_LSISAS] = "lsilogicsas",
		[ADAPTER_BUSLOGIC] = "buslogic", [ADAPTER_PVSCSI] = "VirtualSCSI", [ADAPTER_VIRTIO] = "lsilogic",
	};
	const char *bus = d->bus == BUS_IDE ? "IDE" : d->bus == BUS_SCSI ? "SCSI" : "SATA";
	char address[16], name[60];
	const struct item i = {
		.address = address, .name = name,
		.sub = d->bus == BUS_SCSI ? adapters[d->adapter] : d->bus == BUS_IDE ? NULL : "vmware.sata.ahci",
		.type = d->bus == BUS_IDE ? "5" : d->bus == BUS_SCSI ? "6" : "20",
	};

	(void)snprintf(address, sizeof(address), "%" PRIu32, d->controller);
	(void)snprintf(name, sizeof(name), "%s controller %" PRIu32, bus, d->controller);
	return add_item(o, &i, e);
}

static void add_controllers(struct ovf *o, struct err *e)
{
	const struct hardware *h = o->h;

	for (size_t i = 0; i < h->drives.n && i < MACHINE_DISKS_MAX; i++) {
		const struct hardware_drive *d = &h->drives.p[i];

		for (size_t k = 0; k < i && !o->ids[i]; k++)
			if (h->drives.p[k].bus == d->bus && h->drives.p[k].controller == d->controller)
				o->ids[i] = o->ids[k];
		if (!o->ids[i])
			o->ids[i] = add_controller(o, d, e);
	}
}

static void add_drives(struct ovf *o, struct err *e)
{
	char unit[16], parent[16], host[40], name[40];
	size_t disk = 0;

	for (size_t i = 0; i < o->h->drives.n && i < MACHINE_DISKS_MAX; i++) {
		const struct hardware_drive *d = &o->h->drives.p[i];
		struct item x = { .unit = unit, .parent = parent, .name = name, .type = d->kind == DRIVE_CD ? "15" : "17" };

		(void)snprintf(unit, sizeof(unit), "%" PRIu32, d->unit);
		(void)snprintf(parent, sizeof(parent), "%" PRIu32, o->ids[i]);
		if (d->kind == DRIVE_CD) {
			(void)snprintf(name, sizeof(name), "CD drive");
			x.automatic = "false";
		} else {
			(void)snprintf(name, sizeof(name), "Hard disk %zu", ++disk);
			(void)snprintf(host, sizeof(host), "ovf:/disk/vmdisk%zu", disk);
			x.host = host;
		}
		add_item(o, &x, e);
	}
}

static const char *network_name(const struct hardware_nic *n)
{
	return n->link == LINK_NETWORK && n->network && *n->network ? n->network : n->link == LINK_BRIDGED ? "bridged" :
	       n->link == LINK_HOSTONLY ? "hostonly" : "NAT";
}

static void add_nics(struct ovf *o, bool keep, struct err *e)
{
	static const char *const models[] = {
		[NIC_OTHER] = "E1000", [NIC_E1000] = "E1000", [NIC_E1000E] = "E1000e", [NIC_VMXNET3] = "VmxNet3",
		[NIC_VIRTIO] = "E1000", [NIC_PCNET] = "PCNet32", [NIC_RTL8139] = "E1000",
	};
	char name[40];

	for (size_t i = 0; i < o->h->nics.n; i++) {
		const struct hardware_nic *n = &o->h->nics.p[i];
		const struct item x = {
			.address = keep ? n->mac : NULL, .name = name, .connection = network_name(n), .sub = models[n->model],
			.automatic = n->unplugged || n->link == LINK_NONE ? "false" : "true", .type = "10",
		};

		(void)snprintf(name, sizeof(name), "Network adapter %zu", i + 1);
		add_item(o, &x, e);
	}
}

static void add_config(struct xml_node *hw, const char *key, const char *value, struct err *e)
{
	struct xml_node *x = xml_set(xml_add(hw, "vmw:Config", e), "ovf:required", "false", e);

	xml_set(xml_set(x, "vmw:key", key, e), "vmw:value", value, e);
}

static void add_hardware(const struct hardware *h, const struct hardware_write_opts *w, struct xml_node *system,
			 struct err *e)
{
	struct ovf o = { .h = h, .hw = xml_add(system, "VirtualHardwareSection", e) };
	char cpus[16], memory[24], name[60];
	struct xml_node *x;

	xml_add_text(o.hw, "Info", "Virtual hardware requirements", e);
	x = xml_add(o.hw, "System", e);
	xml_add_text(x, "vssd:ElementName", "Virtual Hardware Family", e);
	xml_add_text(x, "vssd:InstanceID", "0", e);
	xml_add_text(x, "vssd:VirtualSystemIdentifier", h->name, e);
	xml_add_text(x, "vssd:VirtualSystemType", "vmx-14", e);
	(void)snprintf(cpus, sizeof(cpus), "%" PRIu32, h->cpus);
	(void)snprintf(name, sizeof(name), "%" PRIu32 " virtual CPU(s)", h->cpus);
	add_item(&o, &(struct item){ .units = "hertz * 10^6", .name = name, .type = "3", .quantity = cpus }, e);
	if (h->cores)
		xml_set_textf(xml_set(xml_add(xml_find(o.hw, "Item"), "vmw:CoresPerSocket", e), "ovf:required", "false", e), e,
			      "%" PRIu32, h->cores);
	(void)snprintf(memory, sizeof(memory), "%" PRIu64, max_u64(h->memory / MIB, 1));
	(void)snprintf(name, sizeof(name), "%s MB of memory", memory);
	add_item(&o, &(struct item){ .units = "byte * 2^20", .name = name, .type = "4", .quantity = memory }, e);
	add_controllers(&o, e);
	add_drives(&o, e);
	add_nics(&o, w->keep_ids, e);
	if (h->uefi)
		add_config(o.hw, "firmware", "efi", e);
	if (h->secure_boot)
		add_config(o.hw, "bootOptions.efiSecureBootEnabled", "true", e);
}

static void add_files(const struct hardware *h, struct xml_node *root, struct err *e)
{
	struct xml_node *files = xml_add(root, "References", e), *disks = xml_add(root, "DiskSection", e), *x;
	size_t n = 0;

	xml_add_text(disks, "Info", "The virtual disks", e);
	for (size_t i = 0; i < h->drives.n; i++) {
		const struct hardware_drive *d = &h->drives.p[i];

		if (!d->file)
			continue;
		n++;
		x = xml_set(xml_add(files, "File", e), "ovf:href", d->file, e);
		xml_setf(x, e, "ovf:id", "file%zu", n);
		xml_setf(x, e, "ovf:size", "%" PRIu64, d->file_bytes);
		x = xml_setf(xml_add(disks, "Disk", e), e, "ovf:capacity", "%" PRIu64, d->size);
		xml_set(x, "ovf:capacityAllocationUnits", "byte", e);
		xml_setf(x, e, "ovf:diskId", "vmdisk%zu", n);
		xml_setf(x, e, "ovf:fileRef", "file%zu", n);
		xml_set(x, "ovf:format", STREAM, e);
	}
}

static void add_networks(const struct hardware *h, struct xml_node *root, struct err *e)
{
	struct xml_node *list = xml_add(root, "NetworkSection", e), *x;

	xml_add_text(list, "Info", "The networks that the machine is on", e);
	for (size_t i = 0; i < h->nics.n; i++) {
		const char *name = network_name(&h->nics.p[i]);
		bool seen = false;

		for (size_t k = 0; k < i && !seen; k++)
			seen = !strcmp(network_name(&h->nics.p[k]), name);
		if (seen)
			continue;
		x = xml_set(xml_add(list, "Network", e), "ovf:name", name, e);
		xml_set_textf(xml_add(x, "Description", e), e, "The network %s", name);
	}
}

/* As CIM, VMware's interface ("debian10_64Guest") and VirtualBox call it. */
static void add_guest(const struct hardware *h, struct xml_node *system, struct err *e)
{
	struct xml_node *x = xml_setf(xml_add(system, "OperatingSystemSection", e), e, "ovf:id", "%u", h->guest->cim);
	char vmware[40], vbox[40];

	(void)hardware_guest_vmware(h, vmware);
	for (char *c = vmware; *c; c++)
		*c = *c == '-' ? '_' : *c;
	xml_setf(x, e, "vmw:osType", "%sGuest", vmware);
	xml_add_text(x, "Info", "The operating system in it", e);
	xml_add_text(x, "Description", hardware_guest_vbox(h, vbox), e);
	xml_set(xml_add_text(x, "vbox:OSType", vbox, e), "ovf:required", "false", e);
}

int ovf_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e)
{
	CLEANUP(xml_free_cleanup) struct xml_node *root = xml_new("Envelope", e);
	struct xml_node *system, *x;

	xml_set(root, "xmlns", "http://schemas.dmtf.org/ovf/envelope/1", e);
	xml_set(root, "xmlns:ovf", "http://schemas.dmtf.org/ovf/envelope/1", e);
	xml_set(root, "xmlns:rasd", CIM "CIM_ResourceAllocationSettingData", e);
	xml_set(root, "xmlns:vssd", CIM "CIM_VirtualSystemSettingData", e);
	xml_set(root, "xmlns:vbox", "http://www.virtualbox.org/ovf/machine", e);
	xml_set(root, "xmlns:vmw", "http://www.vmware.com/schema/ovf", e);
	add_files(h, root, e);
	if (h->nics.n)
		add_networks(h, root, e);
	system = xml_set(xml_add(root, "VirtualSystem", e), "ovf:id", h->name, e);
	xml_add_text(system, "Info", "A virtual machine", e);
	xml_add_text(system, "Name", h->name, e);
	add_guest(h, system, e);
	if (h->description) {
		x = xml_add(system, "AnnotationSection", e);
		xml_add_text(x, "Info", "A note about the machine", e);
		xml_add_text(x, "Annotation", h->description, e);
	}
	add_hardware(h, o, system, e);
	return e->code ? e->code : xml_write(root, b, e);
}
