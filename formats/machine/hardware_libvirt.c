/*
 * hardware_libvirt.c - the hardware of a libvirt domain.  Source: libvirt's "Domain XML format".
 */
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/machine/hardware_internal.h"

static bool is_one_of(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(name, *list))
			return true;
	return false;
}

/* "<memory unit='MiB'>512</memory>" in bytes; 0 = none. */
static uint64_t bytes_of(const struct xml_node *n)
{
	static const struct {
		const char *unit;
		uint64_t bytes;
	} units[] = {
		{ "b", 1 }, { "bytes", 1 }, { "KB", 1000 }, { "k", KIB }, { "KiB", KIB }, { "MB", 1000000 }, { "M", MIB },
		{ "MiB", MIB }, { "GB", 1000000000 }, { "G", GIB }, { "GiB", GIB }, { "T", TIB }, { "TiB", TIB },
	};
	const char *unit = xml_get(n, "unit"), *text;
	char buf[40];
	uint64_t v;

	text = xml_text(n, buf, sizeof(buf));
	if (!text || !parse_u64(text, 0, UINT64_MAX, &v))
		return 0;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (!strcmp(unit ? unit : "KiB", units[i].unit))
			return mul_u64(v, units[i].bytes, &v) ? v : 0;
	return 0;
}

static void read_firmware(const struct xml_node *os, struct hardware *h)
{
	const struct xml_node *loader = xml_find(os, "loader"), *x;
	size_t at = 0;

	h->uefi = xml_is(os, "firmware", "efi") || xml_is(loader, "type", "pflash");
	h->secure_boot = h->uefi && xml_is(loader, "secure", "yes");
	while ((x = xml_next(xml_find(os, "firmware"), &at, "feature")))
		if (xml_is(x, "name", "secure-boot"))
			h->secure_boot = xml_is(x, "enabled", "yes");
}

static enum hardware_bus bus_of(const char *bus, const char *target)
{
	static const struct {
		const char *name;
		enum hardware_bus bus;
	} buses[] = {
		{ "ide", BUS_IDE }, { "sata", BUS_SATA }, { "scsi", BUS_SCSI }, { "virtio", BUS_VIRTIO }, { "usb", BUS_USB },
		{ "fdc", BUS_FLOPPY }, { "nvme", BUS_NVME },
	};

	for (size_t i = 0; bus && i < sizeof(buses) / sizeof(*buses); i++)
		if (!strcmp(bus, buses[i].name))
			return buses[i].bus;
	if (!target)
		return BUS_SATA;
	return !strncmp(target, "vd", 2) ? BUS_VIRTIO : !strncmp(target, "hd", 2) ? BUS_IDE :
	       !strncmp(target, "fd", 2) ? BUS_FLOPPY : BUS_SCSI;
}

static enum hardware_adapter adapter_of(const struct xml_node *devices, uint32_t index)
{
	static const struct {
		const char *model;
		enum hardware_adapter adapter;
	} models[] = {
		{ "virtio-scsi", ADAPTER_VIRTIO }, { "virtio-transitional", ADAPTER_VIRTIO },
		{ "virtio-non-transitional", ADAPTER_VIRTIO }, { "lsisas1068", ADAPTER_LSISAS }, { "vmpvscsi", ADAPTER_PVSCSI },
		{ "buslogic", ADAPTER_BUSLOGIC },
	};
	const struct xml_node *c;
	size_t at = 0;

	while ((c = xml_next(devices, &at, "controller"))) {
		if (!xml_is(c, "type", "scsi") || hardware_number(xml_get(c, "index"), 1000, 0) != index)
			continue;
		for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++)
			if (xml_is(c, "model", models[i].model))
				return models[i].adapter;
	}
	return ADAPTER_OTHER;
}

/* The place that a target's name stands for where there is no address: "sdc" is the third. */
static uint32_t letter_of(const char *target)
{
	uint32_t n = 0;

	if (!target || strlen(target) < 3)
		return 0;
	for (const char *c = target + 2; *c >= 'a' && *c <= 'z' && n < 10000; c++)
		n = n * 26 + (uint32_t)(*c - 'a') + 1;
	return n ? n - 1 : 0;
}

static int read_disk(const struct xml_node *devices, const struct xml_node *x, const struct machine *m,
		     struct hardware *h, struct err *e)
{
	const struct xml_node *target = xml_find(x, "target"), *address = xml_find(x, "address");
	struct hardware_drive *d = hardware_add_drive(h, m, h->drives.n, e);
	const char *dev = xml_get(target, "dev");
	uint32_t letter = letter_of(dev);

	if (!d)
		return e->code;
	d->kind = xml_is(x, "device", "cdrom") ? DRIVE_CD : xml_is(x, "device", "floppy") ? DRIVE_FLOPPY : DRIVE_DISK;
	d->bus = bus_of(xml_get(target, "bus"), dev);
	d->controller = hardware_number(xml_get(address, "controller"), 1000, 0);
	d->unit = hardware_number(xml_get(address, "unit"), 10000, letter);
	if (d->bus == BUS_IDE) {
		d->controller = hardware_number(xml_get(address, "bus"), 1, letter / 2 % 2);
		d->unit = hardware_number(xml_get(address, "unit"), 1, letter % 2);
	}
	if (d->bus == BUS_SCSI)
		d->adapter = adapter_of(devices, d->controller);
	if (hardware_is_by_target(d) && hardware_number(xml_get(address, "target"), 10000, 0))
		d->unit = hardware_number(xml_get(address, "target"), 10000, 0);
	if (d->kind == DRIVE_DISK || d->image)
		return 0;
	return machine_text(&d->image, xml_get(xml_find(x, "source"), xml_is(x, "type", "block") ? "dev" : "file"), e);
}

static int read_nic(const struct xml_node *x, struct hardware *h, struct err *e)
{
	static const struct {
		const char *name;
		enum hardware_nic_model model;
	} models[] = {
		{ "virtio", NIC_VIRTIO }, { "virtio-transitional", NIC_VIRTIO }, { "virtio-non-transitional", NIC_VIRTIO },
		{ "e1000", NIC_E1000 }, { "e1000e", NIC_E1000E }, { "rtl8139", NIC_RTL8139 }, { "vmxnet3", NIC_VMXNET3 },
		{ "pcnet", NIC_PCNET },
	};
	const struct xml_node *source = xml_find(x, "source");
	struct hardware_nic *n = hardware_add_nic(h, e);
	const char *name;

	if (!n)
		return e->code;
	for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++)
		if (xml_is(xml_find(x, "model"), "type", models[i].name))
			n->model = models[i].model;
	hardware_set_mac(n, xml_get(xml_find(x, "mac"), "address"));
	n->unplugged = xml_is(xml_find(x, "link"), "state", "down");
	if (xml_is(x, "type", "user") || xml_is(source, "network", "default"))
		return 0;
	n->link = xml_is(x, "type", "bridge") || xml_is(x, "type", "direct") ? LINK_BRIDGED : LINK_NETWORK;
	name = xml_get(source, "bridge");
	name = name ? name : xml_get(source, "network");
	return machine_text(&n->network, name ? name : xml_get(source, "dev"), e);
}

/* Devices that any machine has, or that make none that a guest would miss. */
static const char *const common_devices[] = {
	"emulator", "disk", "controller", "interface", "tpm", "input", "graphics", "video", "console", "channel", "memballoon",
	"rng", "audio", "panic", "hub", "redirdev", "serial", NULL,
};
static const char *const common_settings[] = {
	"name", "uuid", "genid", "title", "description", "metadata", "memory", "currentMemory", "maxMemory", "vcpu", "vcpus",
	"os", "features", "cpu", "clock", "on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "pm", "devices", "seclabel",
	"resource", "sysinfo", NULL,
};

static int note_rest(const struct xml_node *root, const char *what, const char *const *common, struct hardware *h,
		     struct err *e)
{
	const struct xml_node *x;
	char q[80];
	size_t at = 0;

	while ((x = xml_next(root, &at, NULL)))
		if (!is_one_of(x->name, common) && hardware_lose(h, e, "%s %s", what, text_quote(x->name, q, sizeof(q))) < 0)
			return e->code;
	return 0;
}

static int read_tpm(const struct xml_node *tpm, struct hardware *h, struct err *e)
{
	const struct xml_node *backend = xml_find(tpm, "backend");

	if (!tpm)
		return 0;
	if (!xml_is(backend, "type", "emulator"))
		return hardware_lose(h, e, "the host's TPM");
	h->tpm = xml_is(backend, "version", "1.2") ? 1 : 2;
	return 0;
}

/* What a machine made anew boots by itself, and on which CPU. */
static int note_os(const struct xml_node *os, struct hardware *h, struct err *e)
{
	const char *arch = xml_get(xml_find(os, "type"), "arch");
	char q[60];

	if (arch && strcmp(arch, "x86_64") != 0 && strcmp(arch, "i686") != 0)
		hardware_lose(h, e, "the CPU's architecture, %s: it is x86_64, on which the guest doesn't boot",
			      text_quote(arch, q, sizeof(q)));
	if (xml_find(os, "kernel"))
		hardware_lose(h, e, "the kernel that the host has for it: it boots from its disks");
	return e->code;
}

int hardware_read_libvirt(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e)
{
	CLEANUP(xml_free_cleanup) struct xml_node *root = NULL;
	const struct xml_node *devices, *topology, *os, *x;
	char buf[40];
	size_t at = 0;

	if (xml_tree_parse(text, len, &root, e) < 0)
		return e->code;
	devices = xml_find(root, "devices");
	os = xml_find(root, "os");
	x = xml_find(root, "description");
	if (x && x->text && machine_text(&h->description, x->text, e) < 0)
		return e->code;
	h->guest = hardware_guest(MACHINE_LIBVIRT, xml_get(xml_find(root, "metadata/libosinfo/os"), "id"));
	h->bits32 = xml_is(xml_find(os, "type"), "arch", "i686");
	h->memory = bytes_of(xml_find(root, "memory"));
	h->cpus = hardware_number(xml_text(xml_find(root, "vcpu"), buf, sizeof(buf)), HARDWARE_CPUS_MAX, 1);
	topology = xml_find(root, "cpu/topology");
	h->cores = hardware_number(xml_get(topology, "cores"), HARDWARE_CPUS_MAX, 0) *
		   hardware_number(xml_get(topology, "threads"), 64, 1);
	read_firmware(os, h);
	while ((x = xml_next(devices, &at, "disk")))
		if (read_disk(devices, x, m, h, e) < 0)
			return e->code;
	for (at = 0; (x = xml_next(devices, &at, "interface"));)
		if (read_nic(x, h, e) < 0)
			return e->code;
	if (note_os(os, h, e) < 0 || read_tpm(xml_find(devices, "tpm"), h, e) < 0)
		return e->code;
	return note_rest(devices, "the device", common_devices, h, e) < 0 ? e->code :
	       note_rest(root, "the setting", common_settings, h, e);
}
