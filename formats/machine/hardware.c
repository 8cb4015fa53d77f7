/*
 * hardware.c - the model of a machine's hardware: making it, its ids, who reads and writes it.
 */
#include "formats/machine/hardware.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/ids.h"
#include "formats/machine/hardware_internal.h"

#define LOST_MAX 200u

static void drive_done(struct hardware_drive *d)
{
	free(d->name);
	free(d->image);
	free(d->file);
}

void hardware_free(struct hardware *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->drives.n; i++)
		drive_done(&h->drives.p[i]);
	for (size_t i = 0; i < h->nics.n; i++)
		free(h->nics.p[i].network);
	for (size_t i = 0; i < h->lost.n; i++)
		free(h->lost.p[i]);
	VEC_DONE(&h->drives);
	VEC_DONE(&h->nics);
	VEC_DONE(&h->lost);
	free(h->name);
	free(h->uuid);
	free(h->description);
	free(h);
}

static struct hardware *make(enum machine_kind kind, const char *name, struct err *e)
{
	struct hardware *h = calloc(1, sizeof(*h));

	if (!h) {
		(void)err_set(e, ERR_NOMEM, "no memory for a machine's description");
		return NULL;
	}
	h->kind = kind;
	h->guest = hardware_guest(kind, NULL);
	if (machine_text(&h->name, name, e) == 0)
		return h;
	free(h);
	return NULL;
}

int hardware_new(const char *name, struct hardware **ret, struct err *e)
{
	struct hardware *h = make(MACHINE_LIBVIRT, name, e);

	if (!h)
		return e->code;
	h->memory = GIB;
	h->cpus = 1;
	if (!hardware_add_nic(h, e)) {
		hardware_free(h);
		return e->code;
	}
	h->nics.p[0].model = NIC_E1000;
	*ret = h;
	return 0;
}

/* Numbers that no machine has are as good as none. */
static void check_numbers(struct hardware *h)
{
	if (h->memory < MIB || h->memory > UINT64_C(1) << 50)
		h->memory = 0;
	if (h->cpus > HARDWARE_CPUS_MAX)
		h->cpus = 0;
	if (!h->cpus || h->cores > h->cpus || (h->cores && h->cpus % h->cores))
		h->cores = 0;
}

int hardware_read(const void *text, size_t len, const struct machine *m, struct hardware **ret, struct err *e)
{
	CLEANUP(hardware_free_cleanup) struct hardware *h = make(m->kind, m->name && *m->name ? m->name : "machine", e);
	int r = ERR_INTERNAL;

	if (!h || (m->uuid && machine_text(&h->uuid, m->uuid, e) < 0))
		return e->code;
	switch (m->kind) {
	case MACHINE_LIBVIRT: r = hardware_read_libvirt(text, len, m, h, e); break;
	case MACHINE_VIRTUALBOX: r = hardware_read_vbox(text, len, m, h, e); break;
	case MACHINE_VMWARE: r = hardware_read_vmx(text, len, m, h, e); break;
	case MACHINE_OVF: r = hardware_read_ovf(text, len, m, h, e); break;
	}
	if (r < 0)
		return r;
	check_numbers(h);
	*ret = STEAL(h);
	return 0;
}

struct hardware_drive *hardware_find(struct hardware *h, const char *name)
{
	for (size_t i = 0; i < h->drives.n; i++)
		if (h->drives.p[i].name && h->drives.p[i].kind == DRIVE_DISK && !strcmp(h->drives.p[i].name, name))
			return &h->drives.p[i];
	return NULL;
}

/* The readers of machines and of hardware go over the same bytes in the same order. */
struct hardware_drive *hardware_add_drive(struct hardware *h, const struct machine *m, size_t at, struct err *e)
{
	struct hardware_drive *d;

	if (at >= m->disks.n) {
		(void)err_set(e, ERR_CORRUPT, "it has a drive more than the %zu that are known of it", m->disks.n);
		return NULL;
	}
	d = VEC_PUSH(&h->drives, e);
	if (!d)
		return NULL;
	*d = (struct hardware_drive){ .kind = DRIVE_DISK, .bus = BUS_SATA };
	if (machine_text(&d->name, m->disks.p[at].name, e) < 0 || machine_text(&d->image, m->disks.p[at].image.path, e) < 0)
		return NULL;
	return d;
}

struct hardware_drive *hardware_add_disk(struct hardware *h, const char *name, struct err *e)
{
	struct hardware_drive like = { .bus = h->kind == MACHINE_LIBVIRT && !h->drives.n ? BUS_VIRTIO : BUS_SATA };
	struct hardware_drive *d;
	uint32_t unit = 0;

	for (size_t i = 0; i < h->drives.n; i++)
		if (h->drives.p[i].kind == DRIVE_DISK) {
			like.bus = h->drives.p[i].bus;
			like.adapter = h->drives.p[i].adapter;
			like.controller = h->drives.p[i].controller;
			break;
		}
	for (size_t i = 0; i < h->drives.n; i++)	/* behind the last one; hardware_fit, hardware_fit_added look for room */
		if (h->drives.p[i].bus == like.bus && h->drives.p[i].controller == like.controller)
			unit = unit > h->drives.p[i].unit ? unit : h->drives.p[i].unit + 1;
	d = VEC_PUSH(&h->drives, e);
	if (!d)
		return NULL;
	*d = like;
	d->unit = unit + (like.bus == BUS_SCSI && unit == 7);
	d->added = true;
	return machine_text(&d->name, name, e) < 0 ? NULL : d;
}

struct hardware_nic *hardware_add_nic(struct hardware *h, struct err *e)
{
	struct hardware_nic *n;

	if (h->nics.n == HARDWARE_NICS_MAX) {
		(void)err_set(e, ERR_UNSUPPORTED, "more than %u network adapters", HARDWARE_NICS_MAX);
		return NULL;
	}
	n = VEC_PUSH(&h->nics, e);
	if (n)
		n->slot = (uint32_t)h->nics.n - 1;
	return n;
}

int hardware_lose(struct hardware *h, struct err *e, const char *fmt, ...)
{
	char text[500], **slot;
	va_list ap;

	if (h->lost.n == LOST_MAX || e->code)
		return e->code;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	slot = VEC_PUSH(&h->lost, e);
	return slot ? machine_text(slot, text, e) : e->code;
}

void hardware_set_mac(struct hardware_nic *n, const char *text)
{
	char hex[13] = "";
	uint8_t b[6];
	size_t k = 0;

	for (; text && *text; text++) {
		if (*text == ':' || *text == '-')
			continue;
		if (!isxdigit((unsigned char)*text) || k == 12)
			return;
		hex[k++] = (char)tolower((unsigned char)*text);
	}
	if (text_unhex(hex, b, 6))
		(void)snprintf(n->mac, sizeof(n->mac), "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
}

uint32_t hardware_number(const char *text, uint32_t max, uint32_t otherwise)
{
	uint64_t v;

	return text && parse_u64(text, 0, max, &v) ? (uint32_t)v : otherwise;
}

bool hardware_is_by_target(const struct hardware_drive *d)
{
	return d->bus == BUS_SCSI && (d->adapter == ADAPTER_LSISAS || d->adapter == ADAPTER_PVSCSI);
}

const char *hardware_drive_name(const struct hardware_drive *d, char buf[static 100])
{
	char q[80];

	if (d->kind != DRIVE_DISK)
		return d->kind == DRIVE_CD ? "the CD drive" : "the floppy drive";
	(void)snprintf(buf, 100, "disk %s", text_quote(d->name ? d->name : "", q, sizeof(q)));
	return buf;
}

/* --- ids ----------------------------------------------------------------------------------------------------------- */

/* Of the range that each hypervisor gives out itself. */
static void new_mac(struct hardware_nic *n, size_t i, enum machine_kind to, const struct writer_opts *seeded)
{
	static const uint8_t prefixes[][3] = {
		[MACHINE_LIBVIRT] = { 0x52, 0x54, 0x00 }, [MACHINE_VIRTUALBOX] = { 0x08, 0x00, 0x27 },
		[MACHINE_VMWARE] = { 0x00, 0x50, 0x56 }, [MACHINE_OVF] = { 0x00, 0x50, 0x56 },
	};
	const uint8_t *p = prefixes[to];
	uint8_t b[16];
	char what[40];

	(void)snprintf(what, sizeof(what), "machine mac %zu", i);
	uuid_for(seeded, NULL, what, b);
	if (p[1] == 0x50)	/* VMware's static addresses end at 00:50:56:3f */
		b[0] &= 0x3f;
	(void)snprintf(n->mac, sizeof(n->mac), "%02x:%02x:%02x:%02x:%02x:%02x", p[0], p[1], p[2], b[0], b[1], b[2]);
}

int hardware_new_ids(struct hardware *h, enum machine_kind to, bool keep, const char *seed, struct err *e)
{
	const struct writer_opts seeded = { .id_seed = seed };
	uint8_t uuid[16];
	char text[UUID_TEXT_BYTES];

	if (!h->uuid || !keep) {
		uuid_for(&seeded, NULL, "machine", uuid);
		if (machine_text(&h->uuid, uuid_text(uuid, text), e) < 0)
			return e->code;
	}
	for (size_t i = 0; i < h->nics.n; i++)
		if (!h->nics.p[i].mac[0] || !keep)
			new_mac(&h->nics.p[i], i, to, &seeded);
	return 0;
}

/* --- kinds --------------------------------------------------------------------------------------------------------- */

const char *hardware_ending(enum machine_kind kind)
{
	static const char *const endings[] = {
		[MACHINE_LIBVIRT] = ".xml", [MACHINE_VIRTUALBOX] = ".vbox", [MACHINE_VMWARE] = ".vmx", [MACHINE_OVF] = ".ovf",
	};

	return endings[kind];
}

bool hardware_takes(enum machine_kind kind, const char *format)
{
	switch (kind) {
	case MACHINE_LIBVIRT:	/* its names of formats have no VHDX; pieces have no one file */
		return strcmp(format, "vhdx") != 0 && strcmp(format, "split") != 0;
	case MACHINE_VIRTUALBOX: return !strcmp(format, "vdi") || !strcmp(format, "vmdk") || !strcmp(format, "vhd");
	case MACHINE_VMWARE:
	case MACHINE_OVF: break;
	}
	return !strcmp(format, "vmdk");
}

int hardware_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e)
{
	switch (o->to) {
	case MACHINE_LIBVIRT: return libvirt_write(h, o, b, e);
	case MACHINE_VIRTUALBOX: return vbox_write(h, o, b, e);
	case MACHINE_VMWARE: return vmx_write(h, o, b, e);
	case MACHINE_OVF: break;
	}
	return ovf_write(h, o, b, e);
}
