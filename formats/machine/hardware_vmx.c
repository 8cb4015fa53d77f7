/*
 * hardware_vmx.c - the hardware of a VMware machine.  Sources: VMware's documentation of .vmx parameters, files that
 * Workstation, Fusion and ESXi wrote.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/machine/hardware_internal.h"

#define NICS 10u

static void done(struct dictionary *d)
{
	dictionary_done(d);
}

static enum hardware_adapter adapter_of(const char *s)
{
	return !s || !strcasecmp(s, "lsilogic") ? ADAPTER_LSILOGIC : !strcasecmp(s, "lsisas1068") ? ADAPTER_LSISAS :
	       !strcasecmp(s, "buslogic") ? ADAPTER_BUSLOGIC : !strcasecmp(s, "pvscsi") ? ADAPTER_PVSCSI : ADAPTER_OTHER;
}

/* slot: "scsi0:1". */
static int read_drive(const struct dictionary *dict, const char *slot, const struct machine *m, struct hardware *h,
		      struct err *e)
{
	struct hardware_drive *d = hardware_add_drive(h, m, h->drives.n, e);
	size_t letters = strcspn(slot, "0123456789");
	const char *type = dictionary_getf(dict, "%s.devicetype", slot), *colon = strchr(slot, ':');
	char number[8];

	if (!d)
		return e->code;
	d->bus = !strncmp(slot, "ide", 3) ? BUS_IDE : !strncmp(slot, "nvme", 4) ? BUS_NVME :
		 !strncmp(slot, "scsi", 4) ? BUS_SCSI : BUS_SATA;
	(void)snprintf(number, sizeof(number), "%.*s", (int)(strcspn(slot, ":") - letters), slot + letters);
	d->controller = hardware_number(number, 999, 0);
	d->unit = hardware_number(colon ? colon + 1 : NULL, 999, 0);
	if (d->bus == BUS_SCSI)
		d->adapter = adapter_of(dictionary_getf(dict, "scsi%" PRIu32 ".virtualdev", d->controller));
	if (type && (strcasestr(type, "cdrom") || strcasestr(type, "atapi")))
		d->kind = DRIVE_CD;
	else if (m->disks.p[h->drives.n - 1].skipped && !strcmp(m->disks.p[h->drives.n - 1].skipped, "CD drive"))
		d->kind = DRIVE_CD;
	if (d->kind == DRIVE_CD && type && strcasestr(type, "image"))
		return machine_text(&d->image, dictionary_getf(dict, "%s.filename", slot), e);
	return 0;
}

static int read_drives(const struct dictionary *d, const struct machine *m, struct hardware *h, struct err *e)
{
	for (size_t i = 0; i < d->entries.n; i++) {
		CLEANUP(free_ptr) char *slot = NULL;
		size_t n = vmx_slot_of(d->entries.p[i].key);

		if (!n)
			continue;
		if (machine_text_n(&slot, d->entries.p[i].key, n, e) < 0)
			return e->code;
		if (vmx_is_true(dictionary_getf(d, "%s.present", slot)) && read_drive(d, slot, m, h, e) < 0)
			return e->code;
	}
	return 0;
}

static int read_nic(const struct dictionary *d, uint32_t i, struct hardware *h, struct err *e)
{
	const char *dev = dictionary_getf(d, "ethernet%" PRIu32 ".virtualdev", i);
	const char *type = dictionary_getf(d, "ethernet%" PRIu32 ".connectiontype", i);
	const char *name = dictionary_getf(d, "ethernet%" PRIu32 ".networkname", i), *mac, *connected;
	struct hardware_nic *n = hardware_add_nic(h, e);

	if (!n)
		return e->code;
	n->slot = i;
	n->model = !dev || !strcasecmp(dev, "vlance") ? NIC_PCNET : !strcasecmp(dev, "e1000") ? NIC_E1000 :
		   !strcasecmp(dev, "e1000e") ? NIC_E1000E : !strcasecmp(dev, "vmxnet3") ? NIC_VMXNET3 : NIC_OTHER;
	n->link = name && *name ? LINK_NETWORK : !type || !strcasecmp(type, "bridged") ? LINK_BRIDGED :
		  !strcasecmp(type, "nat") ? LINK_NAT : !strcasecmp(type, "hostonly") ? LINK_HOSTONLY : LINK_NETWORK;
	mac = dictionary_getf(d, "ethernet%" PRIu32 ".address", i);
	hardware_set_mac(n, mac ? mac : dictionary_getf(d, "ethernet%" PRIu32 ".generatedaddress", i));
	connected = dictionary_getf(d, "ethernet%" PRIu32 ".startconnected", i);
	n->unplugged = connected && !vmx_is_true(connected);
	if (!name || !*name)
		name = dictionary_getf(d, "ethernet%" PRIu32 ".vnet", i);
	return machine_text(&n->network, name, e);
}

static void note_rest(const struct dictionary *d, struct hardware *h, struct err *e)
{
	static const struct {
		const char *key, *what;
	} rest[] = {
		{ "sound.present", "the sound card" }, { "usb.present", "the USB controller" },
		{ "ehci.present", "the USB 2 controller" }, { "usb_xhci.present", "the USB 3 controller" },
		{ "floppy0.present", "the floppy drive" }, { "serial0.present", "a serial port" },
		{ "serial1.present", "a serial port" }, { "parallel0.present", "a parallel port" },
		{ "sharedfolder0.present", "the shared folders" }, { "pcipassthru0.present", "devices of the host on PCI" },
	};

	for (size_t i = 0; i < sizeof(rest) / sizeof(*rest); i++)
		if (vmx_is_true(dictionary_get(d, rest[i].key)))
			hardware_lose(h, e, "%s", rest[i].what);
}

int hardware_read_vmx(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e)
{
	CLEANUP(done) struct dictionary d = { 0 };
	const char *guest, *firmware;

	if (dictionary_parse(text, len, &d, e) < 0)
		return e->code;
	guest = dictionary_get(&d, "guestos");
	h->guest = hardware_guest(MACHINE_VMWARE, guest);
	h->bits32 = guest && *guest && !strstr(guest, "64");
	h->memory = hardware_number(dictionary_get(&d, "memsize"), UINT32_MAX, 0) * MIB;
	h->cpus = hardware_number(dictionary_get(&d, "numvcpus"), HARDWARE_CPUS_MAX, 1);
	h->cores = hardware_number(dictionary_get(&d, "cpuid.corespersocket"), HARDWARE_CPUS_MAX, 0);
	firmware = dictionary_get(&d, "firmware");
	h->uefi = firmware && !strcasecmp(firmware, "efi");
	h->secure_boot = h->uefi && vmx_is_true(dictionary_get(&d, "uefi.secureboot.enabled"));
	h->tpm = vmx_is_true(dictionary_get(&d, "vtpm.present")) ? 2 : 0;
	if (machine_text(&h->description, dictionary_get(&d, "annotation"), e) < 0 || read_drives(&d, m, h, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < NICS; i++)
		if (vmx_is_true(dictionary_getf(&d, "ethernet%" PRIu32 ".present", i)) && read_nic(&d, i, h, e) < 0)
			return e->code;
	note_rest(&d, h, e);
	return e->code;
}
