/*
 * hardware_vbox.c - the hardware of a VirtualBox machine.  Source: VirtualBox's settings schema and files that it wrote.
 */
#include <string.h>

#include "base/num.h"
#include "formats/machine/hardware_internal.h"

/* The machine's element; of an appliance, too, where it has a prefix. */
static const struct xml_node *hardware_of(const struct xml_node *machine)
{
	return xml_find(machine, "Hardware");
}

static void read_controller(const struct xml_node *c, uint32_t index, struct hardware_drive *d)
{
	static const struct {
		const char *type;
		enum hardware_bus bus;
		enum hardware_adapter adapter;
	} types[] = {
		{ "AHCI", BUS_SATA, ADAPTER_OTHER }, { "IntelAhci", BUS_SATA, ADAPTER_OTHER },
		{ "PIIX3", BUS_IDE, ADAPTER_OTHER }, { "PIIX4", BUS_IDE, ADAPTER_OTHER }, { "ICH6", BUS_IDE, ADAPTER_OTHER },
		{ "LsiLogic", BUS_SCSI, ADAPTER_LSILOGIC }, { "LsiLogicSas", BUS_SCSI, ADAPTER_LSISAS },
		{ "BusLogic", BUS_SCSI, ADAPTER_BUSLOGIC }, { "VirtioSCSI", BUS_SCSI, ADAPTER_VIRTIO },
		{ "NVMe", BUS_NVME, ADAPTER_OTHER }, { "USB", BUS_USB, ADAPTER_OTHER }, { "I82078", BUS_FLOPPY, ADAPTER_OTHER },
	};

	d->controller = index;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (xml_is(c, "type", types[i].type)) {
			d->bus = types[i].bus;
			d->adapter = types[i].adapter;
		}
}

enum hardware_bus hardware_vbox_bus(const struct xml_node *controller)
{
	struct hardware_drive like = { .bus = BUS_SATA };

	read_controller(controller, 0, &like);
	return like.bus;
}

static int read_device(const struct xml_node *c, uint32_t index, const struct xml_node *x, const struct machine *m,
		       struct hardware *h, struct err *e)
{
	struct hardware_drive *d = hardware_add_drive(h, m, h->drives.n, e);
	const struct xml_node *image = xml_find(x, "Image");
	uint32_t port = hardware_number(xml_get(x, "port"), 10000, 0), device = hardware_number(xml_get(x, "device"), 1, 0);

	if (!d)
		return e->code;
	d->kind = xml_is(x, "type", "DVD") ? DRIVE_CD : xml_is(x, "type", "Floppy") ? DRIVE_FLOPPY : DRIVE_DISK;
	read_controller(c, index, d);
	d->unit = port;
	if (d->bus == BUS_IDE || d->bus == BUS_FLOPPY) {
		d->controller = port;
		d->unit = device;
	}
	/* The image in a CD drive has a UUID, and its path in another list. */
	return d->kind != DRIVE_DISK && image && !d->image ? machine_text(&d->image, xml_get(image, "uuid"), e) : 0;
}

/* Controllers of one bus are numbered as they come. */
static int read_storage(const struct xml_node *parent, const struct machine *m, struct hardware *h, struct err *e)
{
	const struct xml_node *list = xml_find(parent, "StorageControllers"), *c, *x;
	uint32_t seen[BUS_FLOPPY + 1] = { 0 };
	size_t at = 0, in = 0;

	while ((c = xml_next(list, &at, "StorageController"))) {
		const enum hardware_bus bus = hardware_vbox_bus(c);

		for (in = 0; (x = xml_next(c, &in, "AttachedDevice"));)
			if (read_device(c, seen[bus], x, m, h, e) < 0)
				return e->code;
		seen[bus]++;
	}
	return 0;
}

static int read_nic(const struct xml_node *x, struct hardware *h, struct err *e)
{
	static const struct {
		const char *type;
		enum hardware_nic_model model;
	} types[] = {
		{ "82540EM", NIC_E1000 }, { "82543GC", NIC_E1000 }, { "82545EM", NIC_E1000 }, { "virtio", NIC_VIRTIO },
		{ "Am79C970A", NIC_PCNET }, { "Am79C973", NIC_PCNET }, { "Am79C960", NIC_PCNET },
	};
	static const struct {
		const char *element;
		enum hardware_link link;
	} links[] = {
		{ "NAT", LINK_NAT }, { "NATNetwork", LINK_NAT }, { "BridgedInterface", LINK_BRIDGED },
		{ "HostInterface", LINK_BRIDGED }, { "InternalNetwork", LINK_NETWORK }, { "HostOnlyInterface", LINK_HOSTONLY },
		{ "HostOnlyNetwork", LINK_HOSTONLY }, { "GenericInterface", LINK_NETWORK },
	};
	struct hardware_nic *n;

	if (!xml_is(x, "enabled", "true"))
		return 0;
	n = hardware_add_nic(h, e);
	if (!n)
		return e->code;
	n->slot = hardware_number(xml_get(x, "slot"), 1000, 0);
	n->model = xml_get(x, "type") ? NIC_OTHER : NIC_PCNET;
	n->unplugged = xml_is(x, "cable", "false");
	n->link = LINK_NONE;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (xml_is(x, "type", types[i].type))
			n->model = types[i].model;
	hardware_set_mac(n, xml_get(x, "MACAddress"));
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++) {
		const struct xml_node *l = xml_find(x, links[i].element);

		if (!l)
			continue;
		n->link = links[i].link;
		return machine_text(&n->network, xml_get(l, "name"), e);
	}
	return 0;
}

/* Devices that another kind of machine could have, too, but that aren't carried over. */
static void note_rest(const struct xml_node *hw, struct hardware *h, struct err *e)
{
	const struct xml_node *x;
	size_t at = 0;

	if (xml_is(xml_find(hw, "AudioAdapter"), "enabled", "true"))
		hardware_lose(h, e, "the sound card");
	if (xml_find(hw, "USB/Controllers/Controller") || xml_is(xml_find(hw, "USBController"), "enabled", "true"))
		hardware_lose(h, e, "the USB controllers");
	if (xml_find(hw, "SharedFolders/SharedFolder"))
		hardware_lose(h, e, "the shared folders");
	if (xml_is(xml_find(hw, "RemoteDisplay"), "enabled", "true"))
		hardware_lose(h, e, "the remote display");
	if (xml_find(hw, "HostPci/Devices/Device"))
		hardware_lose(h, e, "devices of the host on PCI");
	while ((x = xml_next(xml_find(hw, "UART"), &at, "Port")))
		if (xml_is(x, "enabled", "true"))
			hardware_lose(h, e, "a serial port");
	for (at = 0; (x = xml_next(xml_find(hw, "LPT"), &at, "Port"));)
		if (xml_is(x, "enabled", "true"))
			hardware_lose(h, e, "a parallel port");
	for (at = 0; (x = xml_next(xml_find(hw, "Network"), &at, "Adapter"));)
		if (xml_is(x, "enabled", "true") && xml_find(x, "NAT/Forwarding"))
			hardware_lose(h, e, "the ports that NAT forwards");
}

int hardware_read_vbox(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e)
{
	CLEANUP(xml_free_cleanup) struct xml_node *root = NULL;
	const struct xml_node *machine, *hw, *x;
	const char *os, *firmware, *tpm;
	size_t at = 0;

	if (xml_tree_parse(text, len, &root, e) < 0)
		return e->code;
	machine = xml_find(root, "Machine");
	hw = hardware_of(machine);
	x = xml_find(machine, "Description");
	if (x && x->text && machine_text(&h->description, x->text, e) < 0)
		return e->code;
	os = xml_get(machine, "OSType");
	h->guest = hardware_guest(MACHINE_VIRTUALBOX, os);
	h->bits32 = os && *os && !strstr(os, "_64") && !strstr(os, "_x64");
	h->memory = hardware_number(xml_get(xml_find(hw, "Memory"), "RAMSize"), UINT32_MAX, 0) * MIB;
	h->cpus = hardware_number(xml_get(xml_find(hw, "CPU"), "count"), HARDWARE_CPUS_MAX, 1);
	firmware = xml_get(xml_find(hw, "Firmware"), "type");
	h->uefi = firmware && !strncmp(firmware, "EFI", 3);
	tpm = xml_get(xml_find(hw, "TrustedPlatformModule"), "type");
	if (tpm && strcmp(tpm, "None"))
		h->tpm = strcmp(tpm, "v1_2") ? 2 : 1;
	while ((x = xml_next(xml_find(hw, "Network"), &at, "Adapter")))
		if (read_nic(x, h, e) < 0)
			return e->code;
	/* Beside the hardware before 1.15, in it later: the order in the file. */
	for (at = 0; (x = xml_next(machine, &at, NULL));)
		if ((xml_named(x, "Hardware") && read_storage(x, m, h, e) < 0))
			return e->code;
	if (!h->drives.n && read_storage(machine, m, h, e) < 0)
		return e->code;
	note_rest(hw, h, e);
	return e->code;
}
