/*
 * hardware_fit.c - a machine of one hypervisor as another can have it.
 *
 * A device that both have stays what it is: the guest has the driver.  Else a disk goes to SATA and a network adapter
 * becomes an e1000e or e1000, which about every guest knows; and it is noted.  Places stay where they are free.
 */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/machine/hardware_internal.h"

#define CONTROLLERS_MAX 64u

static const char *const kind_names[] = {
	[MACHINE_LIBVIRT] = "libvirt", [MACHINE_VIRTUALBOX] = "VirtualBox", [MACHINE_VMWARE] = "VMware", [MACHINE_OVF] = "OVF",
};

/* --- disks --------------------------------------------------------------------------------------------------------- */

static bool has_adapter(enum machine_kind to, enum hardware_adapter a)
{
	switch (a) {
	case ADAPTER_OTHER: return false;
	/* QEMU's "lsilogic" is an older chip than everybody else's. */
	case ADAPTER_LSILOGIC:
	case ADAPTER_BUSLOGIC: return to != MACHINE_LIBVIRT;
	case ADAPTER_LSISAS: return true;
	case ADAPTER_PVSCSI: return to != MACHINE_VIRTUALBOX;
	case ADAPTER_VIRTIO: break;
	}
	return to == MACHINE_LIBVIRT || to == MACHINE_VIRTUALBOX;
}

static bool has_bus(const struct hardware *h, enum machine_kind to, const struct hardware_drive *d)
{
	switch (d->bus) {
	case BUS_IDE: return to != MACHINE_LIBVIRT || !h->uefi;	/* UEFI is of the machine type q35, which has none */
	case BUS_SATA: return true;
	case BUS_SCSI: return has_adapter(to, d->adapter);
	case BUS_NVME: return to == MACHINE_VIRTUALBOX || to == MACHINE_VMWARE;
	case BUS_VIRTIO:
	case BUS_USB: return to == MACHINE_LIBVIRT;
	case BUS_FLOPPY: break;
	}
	return false;
}

static const char *bus_name(const struct hardware_drive *d)
{
	static const char *const buses[] = {
		[BUS_IDE] = "IDE", [BUS_SATA] = "SATA", [BUS_SCSI] = "SCSI", [BUS_NVME] = "NVMe", [BUS_VIRTIO] = "virtio",
		[BUS_USB] = "USB", [BUS_FLOPPY] = "a floppy controller",
	};
	static const char *const adapters[] = {
		[ADAPTER_OTHER] = "SCSI", [ADAPTER_LSILOGIC] = "LSI Logic SCSI", [ADAPTER_LSISAS] = "LSI Logic SAS",
		[ADAPTER_BUSLOGIC] = "BusLogic SCSI", [ADAPTER_PVSCSI] = "VMware's paravirtual SCSI",
		[ADAPTER_VIRTIO] = "virtio SCSI",
	};

	return d->bus == BUS_SCSI ? adapters[d->adapter] : buses[d->bus];
}

/* How many units the drive's controller has. */
static uint32_t units_of(enum machine_kind to, const struct hardware_drive *d)
{
	switch (d->bus) {
	case BUS_IDE: return 2;
	case BUS_SATA: return to == MACHINE_LIBVIRT ? 6 : 30;
	case BUS_SCSI: return to == MACHINE_LIBVIRT && d->adapter == ADAPTER_LSISAS ? 8 : 16;	/* QEMU's chip has 8 ports */
	case BUS_NVME: return 15;
	case BUS_VIRTIO:
	case BUS_USB: return MACHINE_DISKS_MAX;
	case BUS_FLOPPY: break;
	}
	return 2;
}

static uint32_t controllers_of(enum machine_kind to, enum hardware_bus bus)
{
	return bus == BUS_IDE ? 2 : bus == BUS_VIRTIO || bus == BUS_USB || bus == BUS_FLOPPY ? 1 :
	       to == MACHINE_LIBVIRT ? CONTROLLERS_MAX : 4;
}

/* Is the place there, and free of the drives before d? */
static bool is_free(const struct hardware *h, enum machine_kind to, const struct hardware_drive *d, uint32_t controller,
		    uint32_t unit)
{
	if (controller >= controllers_of(to, d->bus) || unit >= units_of(to, d) || (d->bus == BUS_SCSI && unit == 7))
		return false;
	for (const struct hardware_drive *x = h->drives.p; x < d; x++)
		if (x->bus == d->bus && x->controller == controller && (x->unit == unit || x->adapter != d->adapter))
			return false;
	return true;
}

static int find_place(struct hardware *h, enum machine_kind to, struct hardware_drive *d, struct err *e)
{
	char name[100];

	if (is_free(h, to, d, d->controller, d->unit))
		return 0;
	for (uint32_t c = 0; c < controllers_of(to, d->bus); c++)
		for (uint32_t u = 0; u < units_of(to, d); u++)
			if (is_free(h, to, d, c, u)) {
				d->controller = c;
				d->unit = u;
				return 0;
			}
	if (d->bus == BUS_SATA)
		return err_set(e, ERR_UNSUPPORTED, "%s has no room for %s", kind_names[to], hardware_drive_name(d, name));
	d->bus = BUS_SATA;
	d->adapter = ADAPTER_OTHER;
	return find_place(h, to, d, e);
}

static int fit_drive(struct hardware *h, enum machine_kind to, struct hardware_drive *d, struct err *e)
{
	char name[100];

	if (!has_bus(h, to, d)) {
		if (d->kind == DRIVE_DISK &&
		    hardware_lose(h, e, "%s was on %s, which %s has not%s: it is on SATA", hardware_drive_name(d, name),
				  bus_name(d), kind_names[to], d->bus == BUS_IDE ? " with UEFI" : "") < 0)
			return e->code;
		d->bus = BUS_SATA;
		d->adapter = ADAPTER_OTHER;
	}
	return find_place(h, to, d, e);
}

/* Takes out what the new machine will not have. */
static int drop_drives(struct hardware *h, struct err *e)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < h->drives.n; i++) {
		struct hardware_drive *d = &h->drives.p[i];
		char name[100];
		bool keep = d->kind == DRIVE_CD || (d->kind == DRIVE_DISK && d->file);

		if (r == 0 && !keep)
			r = hardware_lose(h, e, d->kind == DRIVE_DISK ? "%s is not in this backup" : "%s",
					  hardware_drive_name(d, name));
		if (keep) {
			h->drives.p[kept++] = *d;
			continue;
		}
		free(d->name);
		free(d->image);
		free(d->file);
	}
	h->drives.n = kept;
	return r;
}

/* --- network ------------------------------------------------------------------------------------------------------- */

static bool has_nic(enum machine_kind to, enum hardware_nic_model m)
{
	switch (m) {
	case NIC_OTHER: return false;
	case NIC_E1000:
	case NIC_PCNET: return true;
	case NIC_E1000E:
	case NIC_VMXNET3: return to != MACHINE_VIRTUALBOX;
	case NIC_VIRTIO: return to == MACHINE_LIBVIRT || to == MACHINE_VIRTUALBOX;
	case NIC_RTL8139: break;
	}
	return to == MACHINE_LIBVIRT;
}

static bool has_link(enum machine_kind to, const struct hardware_nic *n)
{
	switch (n->link) {
	case LINK_NAT:
	case LINK_NONE: return true;
	case LINK_BRIDGED:
	case LINK_HOSTONLY: return to == MACHINE_VMWARE || to == MACHINE_OVF;
	case LINK_NETWORK: break;
	}
	return to == MACHINE_OVF;
}

static int fit_nic(struct hardware *h, enum machine_kind to, struct hardware_nic *n, struct err *e)
{
	static const char *const models[] = {
		[NIC_OTHER] = "of an unknown kind", [NIC_E1000] = "an e1000", [NIC_E1000E] = "an e1000e",
		[NIC_VMXNET3] = "a vmxnet3", [NIC_VIRTIO] = "virtio", [NIC_PCNET] = "a PCnet", [NIC_RTL8139] = "an rtl8139",
	};
	static const char *const links[] = {
		[LINK_NAT] = "NAT", [LINK_BRIDGED] = "bridged", [LINK_HOSTONLY] = "host-only", [LINK_NETWORK] = "on a network",
		[LINK_NONE] = "",
	};
	const size_t number = (size_t)(n - h->nics.p) + 1;
	char q[100];

	if (!has_nic(to, n->model)) {
		enum hardware_nic_model now = has_nic(to, NIC_E1000E) ? NIC_E1000E : NIC_E1000;

		if (hardware_lose(h, e, "network adapter %zu was %s, which %s has not: it is %s", number, models[n->model],
				  kind_names[to], models[now]) < 0)
			return e->code;
		n->model = now;
	}
	if (!has_link(to, n)) {
		if (hardware_lose(h, e, "network adapter %zu was %s%s%s%s: it is behind NAT", number, links[n->link],
				  n->network ? " (" : "", n->network ? text_quote(n->network, q, sizeof(q)) : "",
				  n->network ? ")" : "") < 0)
			return e->code;
		n->link = LINK_NAT;
	}
	return 0;
}

static int fit_nics(struct hardware *h, enum machine_kind to, struct err *e)
{
	const size_t most = to == MACHINE_VIRTUALBOX ? 8 : to == MACHINE_VMWARE ? 10 : HARDWARE_NICS_MAX;

	for (; h->nics.n > most; h->nics.n--) {
		if (hardware_lose(h, e, "network adapter %zu: %s has %zu", h->nics.n, kind_names[to], most) < 0)
			return e->code;
		free(h->nics.p[h->nics.n - 1].network);
	}
	for (size_t i = 0; i < h->nics.n; i++)
		if (fit_nic(h, to, &h->nics.p[i], e) < 0)
			return e->code;
	return 0;
}

/* --- the rest ------------------------------------------------------------------------------------------------------ */

static int fit_firmware(struct hardware *h, enum machine_kind to, struct err *e)
{
	if (h->uefi && h->kind != to &&
	    hardware_lose(h, e, "the UEFI's variables (boot entries, enrolled keys): the firmware makes new ones") < 0)
		return e->code;
	if (h->uefi && to == MACHINE_OVF &&
	    hardware_lose(h, e, "UEFI, for VirtualBox, which doesn't find it in an OVF: VBoxManage modifyvm NAME --firmware "
			  "efi") < 0)
		return e->code;
	if (h->secure_boot && to == MACHINE_VIRTUALBOX) {
		h->secure_boot = false;
		if (hardware_lose(h, e, "secure boot, which VirtualBox switches on in its NVRAM: VBoxManage modifynvram NAME "
				  "inituefivarstore, enrollorclpk, enrollmssignatures, secureboot --enable") < 0)
			return e->code;
	}
	if (!h->tpm)
		return 0;
	if (to == MACHINE_VMWARE || to == MACHINE_OVF) {
		h->tpm = 0;
		return hardware_lose(h, e, "the TPM, which VMware has in encrypted machines only: what a guest sealed with it "
				     "(BitLocker) needs its recovery key");
	}
	return h->kind == to ? 0 :
	       hardware_lose(h, e, "the TPM's state: the new one is empty, what a guest sealed with it (BitLocker) needs its "
			     "recovery key");
}

int hardware_fit_added(struct hardware *h, enum machine_kind to, struct err *e)
{
	for (size_t i = 0; i < h->drives.n; i++)
		if (h->drives.p[i].added && find_place(h, to, &h->drives.p[i], e) < 0)
			return e->code;
	return 0;
}

int hardware_fit(struct hardware *h, enum machine_kind to, struct err *e)
{
	if (drop_drives(h, e) < 0 || fit_firmware(h, to, e) < 0)
		return e->code;
	for (size_t i = 0; i < h->drives.n; i++)
		if (fit_drive(h, to, &h->drives.p[i], e) < 0)
			return e->code;
	if (!h->memory)
		h->memory = GIB;
	if (!h->cpus)
		h->cpus = 1;
	if (to == MACHINE_VIRTUALBOX && h->cpus > 64) {
		if (hardware_lose(h, e, "%u of %u CPUs: VirtualBox has 64 at most", h->cpus - 64, h->cpus) < 0)
			return e->code;
		h->cpus = 64;
	}
	return fit_nics(h, to, e);
}
