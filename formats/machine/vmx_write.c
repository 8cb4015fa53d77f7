/*
 * vmx_write.c - VMware's configuration: a new one, or the old one with new disks.
 *
 * One KEY = "VALUE" a line, as dictionary.c reads it: UTF-8, and |XX for a byte that cannot stand in quotes.  Hardware
 * version 14 is that of Workstation 14 and ESXi 6.7; later ones take it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/machine/hardware_internal.h"

static int put_value(struct buf *b, const char *s, struct err *e)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		char escaped[4];

		if (c != '"' && c != '|' && c >= 0x20 && c != 0x7f) {
			if (buf_u8(b, c, e) < 0)
				return e->code;
			continue;
		}
		(void)snprintf(escaped, sizeof(escaped), "|%02X", c);
		if (buf_add(b, escaped, 3, e) < 0)
			return e->code;
	}
	return 0;
}

/* Errors stick in *e. */
static void put(struct buf *b, struct err *e, const char *key, const char *value)
{
	if (e->code || buf_add(b, key, strlen(key), e) < 0 || buf_add(b, " = \"", 4, e) < 0 || put_value(b, value, e) < 0)
		return;
	(void)!buf_add(b, "\"\n", 2, e);
}

static void __attribute__((format(printf, 4, 5))) putf(struct buf *b, struct err *e, const char *key, const char *fmt, ...)
{
	CLEANUP(free_ptr) char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0) {
		s = NULL;
		if (!e->code)
			(void)err_set(e, ERR_NOMEM, "no memory for a machine's description");
		return;
	}
	put(b, e, key, s);
}

/* "564d2e4c-..." as "56 4d 2e 4c ..-..". */
static const char *uuid_words(const char *uuid, char buf[static 48])
{
	char hex[33];
	size_t k = 0, n = 0;

	for (; *uuid && k < 32; uuid++)
		if (*uuid != '-')
			hex[k++] = *uuid;
	for (size_t i = 0; i + 1 < k; i += 2) {
		if (i)
			buf[n++] = i == 16 ? '-' : ' ';
		buf[n++] = hex[i];
		buf[n++] = hex[i + 1];
	}
	buf[n] = '\0';
	return buf;
}

static const char *bus_name(const struct hardware_drive *d)
{
	return d->bus == BUS_IDE ? "ide" : d->bus == BUS_SCSI ? "scsi" : d->bus == BUS_NVME ? "nvme" : "sata";
}

/* "scsi0:1", and behind it `key`. */
static const char *slot_key(const struct hardware_drive *d, const char *key, char buf[static 80])
{
	(void)snprintf(buf, 80, "%s%" PRIu32 ":%" PRIu32 "%.40s", bus_name(d), d->controller, d->unit, key);
	return buf;
}

/* What VMware takes as a static address in any version. */
static bool mac_is_vmware(const char *mac)
{
	return !strncmp(mac, "00:50:56:", 9) && mac[9] < '4';
}

/* --- a new one ----------------------------------------------------------------------------------------------------- */

/* Of its controller; IDE's are always there. */
static bool is_first(const struct hardware *h, size_t i)
{
	const struct hardware_drive *d = &h->drives.p[i];

	for (size_t k = 0; k < i; k++)
		if (h->drives.p[k].bus == d->bus && h->drives.p[k].controller == d->controller)
			return false;
	return d->bus != BUS_IDE;
}

static void put_drive(const struct hardware *h, size_t i, struct buf *b, struct err *e)
{
	static const char *const adapters[] = {
		[ADAPTER_OTHER] = "lsilogic", [ADAPTER_LSILOGIC] = "lsilogic", [ADAPTER_LSISAS] = "lsisas1068",
		[ADAPTER_BUSLOGIC] = "buslogic", [ADAPTER_PVSCSI] = "pvscsi", [ADAPTER_VIRTIO] = "pvscsi",
	};
	const struct hardware_drive *d = &h->drives.p[i];
	const bool first = is_first(h, i);
	char key[80];

	if (first) {
		(void)snprintf(key, sizeof(key), "%s%" PRIu32 ".present", bus_name(d), d->controller);
		put(b, e, key, "TRUE");
	}
	if (first && d->bus == BUS_SCSI) {
		(void)snprintf(key, sizeof(key), "scsi%" PRIu32 ".virtualDev", d->controller);
		put(b, e, key, adapters[d->adapter]);
	}
	put(b, e, slot_key(d, ".present", key), "TRUE");
	if (d->kind == DRIVE_CD) {
		put(b, e, slot_key(d, ".deviceType", key), d->bus == BUS_IDE ? "atapi-cdrom" : "cdrom-raw");
		put(b, e, slot_key(d, ".fileName", key), "auto detect");
		put(b, e, slot_key(d, ".startConnected", key), "FALSE");
	} else {
		put(b, e, slot_key(d, ".fileName", key), d->file);
		if (d->bus == BUS_SCSI)
			put(b, e, slot_key(d, ".deviceType", key), "scsi-hardDisk");
	}
}

static const char *nic_key(size_t i, const char *key, char buf[static 60])
{
	(void)snprintf(buf, 60, "ethernet%zu.%s", i, key);
	return buf;
}

static void put_address(const struct hardware_nic *n, size_t i, struct buf *b, struct err *e)
{
	char key[60];

	put(b, e, nic_key(i, "addressType", key), "static");
	put(b, e, nic_key(i, "address", key), n->mac);
	if (!mac_is_vmware(n->mac))
		put(b, e, nic_key(i, "checkMACAddress", key), "FALSE");
}

static void put_nic(const struct hardware_nic *n, size_t i, bool esx, struct buf *b, struct err *e)
{
	static const char *const models[] = {
		[NIC_OTHER] = "e1000e", [NIC_E1000] = "e1000", [NIC_E1000E] = "e1000e", [NIC_VMXNET3] = "vmxnet3",
		[NIC_VIRTIO] = "e1000e", [NIC_PCNET] = "vlance", [NIC_RTL8139] = "e1000e",
	};
	const char *type = n->link == LINK_BRIDGED ? "bridged" : n->link == LINK_HOSTONLY ? "hostonly" : "nat";
	char key[60];

	put(b, e, nic_key(i, "present", key), "TRUE");
	put(b, e, nic_key(i, "virtualDev", key), models[n->model]);
	if (esx)
		put(b, e, nic_key(i, "networkName", key), "VM Network");
	else
		put(b, e, nic_key(i, "connectionType", key), type);
	put(b, e, nic_key(i, "startConnected", key), n->unplugged || n->link == LINK_NONE ? "FALSE" : "TRUE");
	put_address(n, i, b, e);
}

static void put_bridges(struct buf *b, struct err *e)
{
	char key[40];

	put(b, e, "pciBridge0.present", "TRUE");
	for (int i = 4; i < 8; i++) {	/* PCI express, which newer adapters need */
		(void)snprintf(key, sizeof(key), "pciBridge%d.present", i);
		put(b, e, key, "TRUE");
		(void)snprintf(key, sizeof(key), "pciBridge%d.virtualDev", i);
		put(b, e, key, "pcieRootPort");
		(void)snprintf(key, sizeof(key), "pciBridge%d.functions", i);
		put(b, e, key, "8");
	}
}

static int make(const struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e)
{
	char guest[40], words[48];

	put(b, e, ".encoding", "UTF-8");
	put(b, e, "config.version", "8");
	put(b, e, "virtualHW.version", "14");
	put_bridges(b, e);
	put(b, e, "displayName", h->name);
	if (h->description)
		put(b, e, "annotation", h->description);
	put(b, e, "guestOS", hardware_guest_vmware(h, guest));
	put(b, e, "uuid.bios", uuid_words(h->uuid, words));
	put(b, e, "uuid.action", "keep");
	putf(b, e, "memSize", "%" PRIu64, max_u64(round_up(h->memory, 4 * MIB) / MIB, 4));
	putf(b, e, "numvcpus", "%" PRIu32, h->cpus);
	if (h->cores)
		putf(b, e, "cpuid.coresPerSocket", "%" PRIu32, h->cores);
	if (h->uefi)
		put(b, e, "firmware", "efi");
	if (h->secure_boot)
		put(b, e, "uefi.secureBoot.enabled", "TRUE");
	if (o->nvram)
		put(b, e, "nvram", o->nvram);
	for (size_t i = 0; i < h->drives.n; i++)
		put_drive(h, i, b, e);
	for (size_t i = 0; i < h->nics.n; i++)
		put_nic(&h->nics.p[i], i, o->esx, b, e);
	return e->code;
}

/* --- the old one --------------------------------------------------------------------------------------------------- */

static void done(struct dictionary *d)
{
	dictionary_done(d);
}

struct edit {
	struct dictionary d;	/* sorted by key until it is written */
	struct buf more;	/* lines that it didn't have */
	struct err *e;
};

static struct dictionary_entry *entry(struct edit *x, const char *key)
{
	size_t low = 0, high = x->d.entries.n;
	char lower[200];

	(void)snprintf(lower, sizeof(lower), "%s", key);
	for (char *c = lower; *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int r = strcmp(lower, x->d.entries.p[mid].key);

		if (!r)
			return &x->d.entries.p[mid];
		if (r < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static void set(struct edit *x, const char *key, const char *value)
{
	struct dictionary_entry *have = entry(x, key);

	if (!have)
		put(&x->more, x->e, key, value);
	else if (!x->e->code)
		(void)!machine_text(&have->value, value, x->e);
}

/* Without a value it isn't written. */
static void drop(struct edit *x, const char *key)
{
	struct dictionary_entry *have = entry(x, key);

	if (!have)
		return;
	free(have->value);
	have->value = NULL;
}

/* All keys of a device: "scsi0:1.". */
static void drop_device(struct edit *x, const char *prefix)
{
	for (size_t i = 0; i < x->d.entries.n; i++)
		if (!strncmp(x->d.entries.p[i].key, prefix, strlen(prefix))) {
			free(x->d.entries.p[i].value);
			x->d.entries.p[i].value = NULL;
		}
}

/* A place without a disk may have lines: VMware refuses a key that is there twice. */
static void add_drive(struct edit *x, const struct hardware *h, size_t i)
{
	const struct hardware_drive *d = &h->drives.p[i];
	char key[80];

	drop_device(x, slot_key(d, ".", key));
	if (is_first(h, i)) {
		(void)snprintf(key, sizeof(key), "%s%" PRIu32 ".present", bus_name(d), d->controller);
		drop(x, key);
		(void)snprintf(key, sizeof(key), "%s%" PRIu32 ".virtualDev", bus_name(d), d->controller);
		drop(x, key);
	}
	put_drive(h, i, &x->more, x->e);
}

static void edit_drives(struct edit *x, struct hardware *h)
{
	char key[80], name[100];

	for (size_t i = 0; i < h->drives.n; i++) {
		const struct hardware_drive *d = &h->drives.p[i];

		if (d->added) {
			add_drive(x, h, i);
		} else if (d->kind == DRIVE_DISK && d->file) {
			set(x, slot_key(d, ".fileName", key), d->file);
			drop(x, slot_key(d, ".redo", key));
			if (entry(x, slot_key(d, ".deviceType", key)))	/* a raw disk of the host, perhaps */
				set(x, key, d->bus == BUS_SCSI ? "scsi-hardDisk" : d->bus == BUS_IDE ? "ata-hardDisk" : "disk");
		} else if (d->kind == DRIVE_DISK) {
			drop_device(x, slot_key(d, ".", key));
			hardware_lose(h, x->e, "%s is not in this backup", hardware_drive_name(d, name));
		}
	}
}

static void edit_nics(struct edit *x, const struct hardware *h)
{
	static const char *const old[] = { "generatedAddress", "generatedAddressOffset", "checkMACAddress" };
	char key[60];

	for (size_t i = 0; i < h->nics.n; i++) {
		const struct hardware_nic *n = &h->nics.p[i];

		for (size_t k = 0; k < sizeof(old) / sizeof(*old); k++)
			drop(x, nic_key(n->slot, old[k], key));
		set(x, nic_key(n->slot, "addressType", key), "static");
		set(x, nic_key(n->slot, "address", key), n->mac);
		if (!mac_is_vmware(n->mac))
			set(x, nic_key(n->slot, "checkMACAddress", key), "FALSE");
	}
}

static void edit_ids(struct edit *x, const struct hardware *h, const struct hardware_write_opts *o)
{
	/* Of the place where it was, of what it did last. */
	static const char *const old[] = { "uuid.location", "checkpoint.vmState", "checkpoint.vmState.readOnly",
					   "migrate.hostlog", "sched.swap.derivedName", "vmotion.checkpointFBSize" };
	static const char *const ids[] = { "vc.uuid", "vm.genid", "vm.genidX" };
	char words[48];

	for (size_t i = 0; i < sizeof(old) / sizeof(*old); i++)
		drop(x, old[i]);
	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids) && !o->keep_ids; i++)
		drop(x, ids[i]);
	set(x, ".encoding", "UTF-8");
	set(x, "displayName", h->name);
	set(x, "uuid.bios", uuid_words(h->uuid, words));
	set(x, "uuid.action", "keep");
}

static int by_line(const void *a, const void *b)
{
	uint32_t x = ((const struct dictionary_entry *)a)->line, y = ((const struct dictionary_entry *)b)->line;

	return x < y ? -1 : x > y;
}

static int edit(struct hardware *h, const struct hardware_write_opts *o, struct edit *x, struct buf *b, struct err *e)
{
	edit_ids(x, h, o);
	edit_drives(x, h);
	if (!o->keep_ids)
		edit_nics(x, h);
	if (o->nvram)
		set(x, "nvram", o->nvram);
	else if (h->uefi && entry(x, "nvram"))
		hardware_lose(h, e, "the UEFI's variables, which are not in the backup: the firmware makes new ones");
	if (!o->nvram)
		drop(x, "nvram");
	if (o->set_memory) {
		char text[24];

		(void)snprintf(text, sizeof(text), "%" PRIu64, max_u64(round_up(h->memory, 4 * MIB) / MIB, 4));
		set(x, "memSize", text);
	}
	if (o->set_cpus) {
		char text[24];

		(void)snprintf(text, sizeof(text), "%" PRIu32, h->cpus);
		set(x, "numvcpus", text);
		drop(x, "cpuid.coresPerSocket");
	}
	if (x->d.entries.n)
		qsort(x->d.entries.p, x->d.entries.n, sizeof(*x->d.entries.p), by_line);
	for (size_t i = 0; i < x->d.entries.n; i++)
		if (x->d.entries.p[i].value)
			put(b, e, x->d.entries.p[i].spelled, x->d.entries.p[i].value);
	return e->code || !x->more.len ? e->code : buf_add(b, x->more.p, x->more.len, e);
}

int vmx_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e)
{
	CLEANUP(done) struct dictionary d = { 0 };
	struct edit x = { .e = e };
	int r;

	if (!o->text)
		return make(h, o, b, e);
	if (dictionary_parse(o->text, o->len, &d, e) < 0)
		return e->code;
	x.d = d;
	buf_init(&x.more, MACHINE_FILE_MAX);
	r = edit(h, o, &x, b, e);
	buf_done(&x.more);
	return r;
}
