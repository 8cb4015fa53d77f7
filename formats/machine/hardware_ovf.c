/*
 * hardware_ovf.c - the hardware of an appliance.  Source: DSP0243, Open Virtualization Format; files that VMware and
 * VirtualBox wrote.
 *
 *	VirtualHardwareSection/Item	ResourceType: 3 CPUs, 4 memory, 5 IDE, 6 SCSI, 10 network, 14 floppy, 15, 16 CD, 17 disk,
 *					20 SATA and others
 *		InstanceID, Parent, AddressOnParent, ResourceSubType, VirtualQuantity, AllocationUnits, Connection
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/machine/hardware_internal.h"

#define CONTROLLERS_MAX 64u

struct controller {
	char id[32];
	enum hardware_bus bus;
	enum hardware_adapter adapter;
	uint32_t index;
};

struct ovf {
	struct hardware *h;
	const struct machine *m;
	struct controller controllers[CONTROLLERS_MAX];
	size_t n;
	uint32_t seen[BUS_FLOPPY + 1];
	size_t disk;			/* of m, the next */
};

static const char *item(const struct xml_node *x, const char *name, char *buf, size_t len)
{
	return xml_text(xml_find(x, name), buf, len);
}

static uint32_t item_number(const struct xml_node *x, const char *name, uint32_t otherwise)
{
	char buf[24];

	return hardware_number(item(x, name, buf, sizeof(buf)), UINT32_MAX, otherwise);
}

/* "virtio lsilogic": the ones that would do; the first that is known. */
static enum hardware_adapter adapter_of(const char *s)
{
	return !s ? ADAPTER_LSILOGIC : strcasestr(s, "lsilogicsas") || strcasestr(s, "lsisas") ? ADAPTER_LSISAS :
	       strcasestr(s, "virtualscsi") || strcasestr(s, "pvscsi") ? ADAPTER_PVSCSI :
	       strcasestr(s, "buslogic") ? ADAPTER_BUSLOGIC : strcasestr(s, "lsilogic") ? ADAPTER_LSILOGIC :
	       strcasestr(s, "virtio") ? ADAPTER_VIRTIO : ADAPTER_LSILOGIC;
}

static void read_controller(struct ovf *o, const struct xml_node *x, uint32_t type)
{
	struct controller *c = &o->controllers[o->n];
	char buf[60];
	const char *sub = item(x, "ResourceSubType", buf, sizeof(buf)), *id;

	if (o->n == CONTROLLERS_MAX)
		return;
	*c = (struct controller){ .bus = type == 5 ? BUS_IDE : type == 6 ? BUS_SCSI : BUS_SATA };
	if (type == 20 && sub && strcasestr(sub, "nvme"))
		c->bus = BUS_NVME;
	if (type == 20 && sub && strcasestr(sub, "virtio"))	/* VirtualBox's virtio SCSI */
		c->bus = BUS_SCSI;
	if (c->bus == BUS_SCSI)
		c->adapter = adapter_of(sub);
	id = item(x, "InstanceID", buf, sizeof(buf));
	(void)snprintf(c->id, sizeof(c->id), "%.31s", id ? id : "");
	c->index = o->seen[c->bus]++;
	if (c->bus == BUS_IDE)
		c->index = item_number(x, "Address", c->index) & 1;
	o->n++;
}

static int read_drive(struct ovf *o, const struct xml_node *x, uint32_t type, struct err *e)
{
	char buf[32];
	const char *parent = item(x, "Parent", buf, sizeof(buf));
	struct hardware_drive *d;

	while (o->disk < o->m->disks.n && o->m->disks.p[o->disk].skipped)
		o->disk++;
	d = type == 17 ? hardware_add_drive(o->h, o->m, o->disk++, e) : VEC_PUSH(&o->h->drives, e);

	if (!d)
		return e->code;
	d->kind = type == 17 ? DRIVE_DISK : type == 14 ? DRIVE_FLOPPY : DRIVE_CD;
	d->bus = type == 14 ? BUS_FLOPPY : BUS_SATA;
	d->unit = item_number(x, "AddressOnParent", 0);
	for (size_t i = 0; parent && i < o->n; i++)
		if (!strcmp(o->controllers[i].id, parent)) {
			d->bus = o->controllers[i].bus;
			d->adapter = o->controllers[i].adapter;
			d->controller = o->controllers[i].index;
		}
	return 0;
}

static int read_nic(struct ovf *o, const struct xml_node *x, struct err *e)
{
	static const struct {
		const char *name;
		enum hardware_nic_model model;
	} models[] = {
		{ "E1000", NIC_E1000 }, { "E1000e", NIC_E1000E }, { "VmxNet3", NIC_VMXNET3 }, { "PCNet32", NIC_PCNET },
		{ "virtio", NIC_VIRTIO },
	};
	struct hardware_nic *n = hardware_add_nic(o->h, e);
	char buf[200];
	const char *s;

	if (!n)
		return e->code;
	s = item(x, "ResourceSubType", buf, sizeof(buf));
	for (size_t i = 0; s && i < sizeof(models) / sizeof(*models); i++)
		if (!strncasecmp(s, models[i].name, strlen(models[i].name)))	/* "VmxNet3 ...", longer ones later */
			n->model = models[i].model;
	hardware_set_mac(n, item(x, "Address", buf, sizeof(buf)));
	s = item(x, "Connection", buf, sizeof(buf));
	n->link = !s || !strcasecmp(s, "NAT") ? LINK_NAT : !strcasecmp(s, "bridged") ? LINK_BRIDGED :
		  !strcasecmp(s, "hostonly") ? LINK_HOSTONLY : LINK_NETWORK;
	return n->link == LINK_NETWORK ? machine_text(&n->network, s, e) : 0;
}

/* "byte * 2^20", "MegaBytes". */
static uint64_t unit_of(const char *s)
{
	const char *power = s ? strstr(s, "2^") : NULL;

	if (power)
		return UINT64_C(1) << (hardware_number(power + 2, 40, 20));
	return !s || strcasestr(s, "mega") || !strcasecmp(s, "MB") ? MIB : strcasestr(s, "giga") ? GIB :
	       strcasestr(s, "kilo") ? KIB : MIB;
}

static int read_item(struct ovf *o, const struct xml_node *x, struct err *e)
{
	const uint32_t type = item_number(x, "ResourceType", 0);
	char buf[60], q[80];
	const char *s;

	switch (type) {
	case 3:
		o->h->cpus = item_number(x, "VirtualQuantity", 1);
		o->h->cores = item_number(x, "CoresPerSocket", 0);
		return 0;
	case 4:
		s = item(x, "AllocationUnits", buf, sizeof(buf));
		if (!mul_u64(item_number(x, "VirtualQuantity", 0), unit_of(s), &o->h->memory))
			o->h->memory = 0;
		return 0;
	case 10: return read_nic(o, x, e);
	case 14: case 15: case 16: case 17: return read_drive(o, x, type, e);
	case 5: case 6: case 20: case 24: return 0;	/* a screen is nothing to tell of */
	default: break;
	}
	s = item(x, "ElementName", buf, sizeof(buf));
	return hardware_lose(o->h, e, "the device %s", text_quote(s ? s : "without a name", q, sizeof(q)));
}

static void read_guest(const struct xml_node *os, struct hardware *h)
{
	char buf[60], name[60];
	const char *s = item(os, "OSType", buf, sizeof(buf)), *cut;	/* VirtualBox's */

	if (s) {
		h->guest = hardware_guest(MACHINE_VIRTUALBOX, s);
		h->bits32 = !strstr(s, "64");
		return;
	}
	s = xml_get(os, "osType");	/* VMware's: "debian10_64Guest" */
	if (!s)
		return;
	cut = strstr(s, "Guest");
	(void)snprintf(name, sizeof(name), "%.*s", cut ? (int)min_size((size_t)(cut - s), 59) : 59, s);
	for (char *c = name; *c; c++)
		*c = *c == '_' ? '-' : *c;
	h->guest = hardware_guest(MACHINE_VMWARE, name);
	h->bits32 = !strstr(s, "64");	/* "otherGuest64" */
}

static void read_config(const struct xml_node *hw, struct hardware *h)
{
	const struct xml_node *x;
	size_t at = 0;

	while ((x = xml_next(hw, &at, "Config"))) {
		if (xml_is(x, "key", "firmware"))
			h->uefi = xml_is(x, "value", "efi");
		if (xml_is(x, "key", "bootOptions.efiSecureBootEnabled"))
			h->secure_boot = xml_is(x, "value", "true");
	}
}

static void note_sections(const struct xml_node *system, struct hardware *h, struct err *e)
{
	static const char *const known[] = { "Info", "Name", "OperatingSystemSection", "VirtualHardwareSection", "Machine",
					     "AnnotationSection", NULL };
	const struct xml_node *x;
	size_t at = 0;
	char q[80];

	while ((x = xml_next(system, &at, NULL))) {
		bool is_known = false;

		for (size_t i = 0; known[i] && !is_known; i++)
			is_known = xml_named(x, known[i]);
		if (!is_known)
			hardware_lose(h, e, "the section %s", text_quote(x->name, q, sizeof(q)));
	}
}

int hardware_read_ovf(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e)
{
	CLEANUP(xml_free_cleanup) struct xml_node *root = NULL;
	const struct xml_node *system, *hw, *x, *firmware;
	struct ovf o = { .h = h, .m = m };
	size_t at = 0;

	if (xml_tree_parse(text, len, &root, e) < 0)
		return e->code;
	system = xml_find(root, "VirtualSystem");
	if (!system)
		system = xml_find(root, "VirtualSystemCollection/VirtualSystem");
	hw = xml_find(system, "VirtualHardwareSection");
	while ((x = xml_next(hw, &at, "Item"))) {
		uint32_t type = item_number(x, "ResourceType", 0);

		if (type == 5 || type == 6 || type == 20)
			read_controller(&o, x, type);
	}
	for (at = 0; (x = xml_next(hw, &at, "Item"));)
		if (read_item(&o, x, e) < 0)
			return e->code;
	x = xml_find(system, "AnnotationSection/Annotation");
	if (x && x->text && machine_text(&h->description, x->text, e) < 0)
		return e->code;
	read_guest(xml_find(system, "OperatingSystemSection"), h);
	read_config(hw, h);
	firmware = xml_find(system, "Machine/Hardware/Firmware");	/* VirtualBox's own settings */
	if (firmware && xml_get(firmware, "type"))
		h->uefi = !strncmp(xml_get(firmware, "type"), "EFI", 3);
	note_sections(system, h, e);
	return e->code;
}
