/*
 * vmx.c - VMware's machines: the configuration, and the list of its snapshots.
 *
 *	.vmx	scsi0:0.present = "TRUE"	also sata, nvme, ide
 *		scsi0:0.fileName = "web-000002.vmdk"
 *		scsi0:0.deviceType = "scsi-hardDisk"	"cdrom-image", "atapi-cdrom", ...: no disk
 *		scsi0:0.mode = "independent-persistent"	snapshots leave it alone
 *		nvram, extendedConfigFile, uuid.bios, displayName; encryption.*: nothing can be read
 *	.vmsd	snapshot.current = "2"			by uid
 *		snapshot0.uid = "1", .parent, .displayName, .description, .filename (.vmsn)
 *		snapshot0.createTimeHigh, createTimeLow	microseconds since 1970, in halves; the lower one may be negative
 *		snapshot0.disk0.node = "scsi0:0", .fileName	the image that holds the disk as it was
 */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"

#define LOOKS_LINES 400

static void done(struct dictionary *d)
{
	dictionary_done(d);
}

bool vmx_looks(const void *text, size_t len)
{
	const char *p = text, *end = p + len;

	if (memchr(text, 0, len))
		return false;
	for (int i = 0; i < LOOKS_LINES && p < end; i++) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		const char *q = p;
		char key[40];
		size_t n = 0;

		while (q < end && (*q == ' ' || *q == '\t'))
			q++;
		while (q < end && *q != '=' && *q != ' ' && *q != '\t' && *q != '\n' && n < sizeof(key) - 1)
			key[n++] = *q++;
		key[n] = '\0';
		if (!strcasecmp(key, "config.version") || !strcasecmp(key, "virtualHW.version"))
			return true;
		p = eol ? eol + 1 : end;
	}
	return false;
}

bool vmx_is_true(const char *s)
{
	return s && (!strcasecmp(s, "TRUE") || !strcmp(s, "1") || !strcasecmp(s, "yes"));
}

/* "56 4d 2e 4c 5b 1c 0a 3e-8f 11 5c 6d 7e 8f 90 a1" */
static int set_uuid(struct machine *m, const char *s, struct err *e)
{
	char hex[33], text[37];
	size_t n = 0;

	for (; s && *s; s++) {
		if (*s == ' ' || *s == '-')
			continue;
		if (!isxdigit((unsigned char)*s) || n == 32)
			return 0;	/* none that is known */
		hex[n++] = (char)tolower((unsigned char)*s);
	}
	if (n != 32)
		return 0;
	hex[32] = '\0';
	(void)snprintf(text, sizeof(text), "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
	return machine_text(&m->uuid, text, e);
}

size_t vmx_slot_of(const char *key)
{
	static const char *const buses[] = { "scsi", "sata", "nvme", "ide" };

	for (size_t i = 0; i < sizeof(buses) / sizeof(*buses); i++) {
		size_t n = strlen(buses[i]), bus, unit;

		if (strncmp(key, buses[i], n))
			continue;
		bus = strspn(key + n, "0123456789");
		unit = key[n + bus] == ':' ? strspn(key + n + bus + 1, "0123456789") : 0;
		if (bus && unit && bus <= 3 && unit <= 3 && !strcmp(key + n + bus + 1 + unit, ".filename"))
			return n + bus + 1 + unit;
	}
	return 0;
}

static bool has_word(const char *s, const char *word)
{
	return s && strcasestr(s, word);
}

/* Why the drive is no disk to back up; NULL. */
static const char *skip_reason(const char *type, const char *file)
{
	size_t n = strlen(file);

	if (has_word(type, "cdrom") || has_word(type, "atapi") || (n > 4 && !strcasecmp(file + n - 4, ".iso")))
		return "CD drive";
	if (has_word(type, "floppy"))
		return "floppy drive";
	return !n || !strcasecmp(file, "emptyBackingString") ? "nothing is attached" : NULL;
}

static int add_drive(struct machine *m, const struct dictionary *d, const char *slot, const char *file, struct err *e)
{
	const char *reason = skip_reason(dictionary_getf(d, "%s.devicetype", slot), file);
	struct machine_disk *x = machine_add_disk(m, slot, e);

	if (!x)
		return e->code;
	x->independent = has_word(dictionary_getf(d, "%s.mode", slot), "independent");
	if (reason)
		return machine_text(&x->skipped, reason, e);
	return machine_path(&x->image.path, file, e);
}

static int refuse_encrypted(const struct dictionary *d, struct err *e)
{
	const bool all = dictionary_get(d, "encryption.keysafe") || dictionary_get(d, "encryption.data");

	if (!all && !vmx_is_true(dictionary_get(d, "vtpm.present")))
		return 0;
	(void)err_set(e, ERR_UNSUPPORTED, all ? "the machine is encrypted by VMware"
					      : "the machine has a virtual TPM, whose state VMware keeps encrypted");
	return err_hint(e, "decrypt it in VMware (take the TPM out first), or back up disks that are in the clear by "
			   "themselves");
}

static int read_vmx(const struct dictionary *d, struct machine *m, struct err *e)
{
	const char *s;

	if (refuse_encrypted(d, e) < 0 || machine_text(&m->name, dictionary_get(d, "displayname"), e) < 0 ||
	    machine_text(&m->version, dictionary_get(d, "virtualhw.version"), e) < 0 ||
	    set_uuid(m, dictionary_get(d, "uuid.bios"), e) < 0)
		return e->code;
	for (size_t i = 0; i < d->entries.n; i++) {
		const struct dictionary_entry *x = &d->entries.p[i];
		CLEANUP(free_ptr) char *slot = NULL;
		size_t n = vmx_slot_of(x->key);

		if (!n)
			continue;
		if (machine_text_n(&slot, x->key, n, e) < 0)
			return e->code;
		if (vmx_is_true(dictionary_getf(d, "%s.present", slot)) && add_drive(m, d, slot, x->value, e) < 0)
			return e->code;
	}
	s = dictionary_get(d, "nvram");
	if (s && machine_add_file(m, s, MACHINE_NVRAM, true, e) < 0)	/* written at the first start */
		return e->code;
	s = dictionary_get(d, "extendedconfigfile");
	if (s && machine_add_file(m, s, MACHINE_CONFIG, true, e) < 0)
		return e->code;
	s = dictionary_get(d, "checkpoint.vmstate");
	return s && *s ? machine_add_note(m, e, "it is suspended: its saved memory (%.200s) is not kept, only what is on "
					  "its disks", s) : 0;
}

int vmx_parse(const void *text, size_t len, struct machine *m, struct err *e)
{
	CLEANUP(done) struct dictionary d = { 0 };

	return dictionary_parse(text, len, &d, e) < 0 ? e->code : read_vmx(&d, m, e);
}

/* --- snapshots ----------------------------------------------------------------------------------------------------- */

/* The number in "snapshotN.uid"; -1 = the key is another. */
static int64_t snapshot_number(const char *key)
{
	char digits[12] = "";
	uint64_t v;
	size_t n;

	if (strncmp(key, "snapshot", 8))
		return -1;
	n = strspn(key + 8, "0123456789");
	if (!n || n > 9 || strcmp(key + 8 + n, ".uid"))
		return -1;
	memcpy(digits, key + 8, n);
	return parse_u64(digits, 0, 999999999, &v) ? (int64_t)v : -1;
}

/* Halves of 32 bits, each as a signed or unsigned number. */
static bool half(const char *s, uint32_t *ret)
{
	uint64_t v;

	if (s && *s == '-') {
		if (!parse_u64(s + 1, 0, UINT64_C(1) << 31, &v))
			return false;
		*ret = (uint32_t)-(int64_t)v;
		return true;
	}
	if (!s || !parse_u64(s, 0, UINT32_MAX, &v))
		return false;
	*ret = (uint32_t)v;
	return true;
}

static int64_t time_of(const struct dictionary *d, uint32_t n)
{
	uint32_t high, low;
	uint64_t us;

	if (!half(dictionary_getf(d, "snapshot%" PRIu32 ".createtimehigh", n), &high) ||
	    !half(dictionary_getf(d, "snapshot%" PRIu32 ".createtimelow", n), &low))
		return 0;
	us = (uint64_t)high << 32 | low;
	return us > INT64_MAX / 1000 ? 0 : (int64_t)us * 1000;
}

static int add_snapshot_disk(struct machine *m, struct machine_snapshot *s, const char *node, const char *file,
			     struct err *e)
{
	CLEANUP(free_ptr) char *path = NULL;
	struct machine_snapshot_disk *row;
	char name[65];
	uint32_t disk;

	machine_disk_name(node, name);
	for (char *c = name; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	disk = machine_find_disk(m, name);
	if (disk == MACHINE_NONE || m->disks.p[disk].skipped)
		return machine_note_gone(m, s, name, e);
	if (m->disks.p[disk].independent)
		return 0;
	if (machine_path(&path, file, e) < 0)
		return e->code;
	if (machine_is_written(m, &(struct machine_image){ .path = path }))
		return machine_note_written(m, s, disk, e);
	row = machine_add_snapshot_disk(m, s, disk, e);
	if (!row)
		return e->code;
	row->image.path = STEAL(path);
	return 0;
}

static int add_snapshot(struct machine *m, const struct dictionary *d, uint32_t n, const char *uid, struct err *e)
{
	struct machine_snapshot *s = machine_add_snapshot(m, e);
	const char *name = dictionary_getf(d, "snapshot%" PRIu32 ".displayname", n);
	const char *type = dictionary_getf(d, "snapshot%" PRIu32 ".type", n);

	if (!s || machine_text(&s->id, uid, e) < 0 || machine_text(&s->name, name ? name : "", e) < 0 ||
	    machine_text(&s->description, dictionary_getf(d, "snapshot%" PRIu32 ".description", n), e) < 0)
		return e->code;
	s->time_ns = time_of(d, n);
	if (type && strcmp(type, "0") &&	/* 1: of a running machine */
	    machine_text(&s->memory, dictionary_getf(d, "snapshot%" PRIu32 ".filename", n), e) < 0)
		return e->code;
	for (uint32_t k = 0; k < MACHINE_DISKS_MAX; k++) {
		const char *node = dictionary_getf(d, "snapshot%" PRIu32 ".disk%" PRIu32 ".node", n, k);
		const char *file = dictionary_getf(d, "snapshot%" PRIu32 ".disk%" PRIu32 ".filename", n, k);

		if (!node || !file)
			return 0;
		if (add_snapshot_disk(m, s, node, file, e) < 0)
			return e->code;
	}
	return 0;
}

static uint32_t find_uid(const struct machine *m, const char *uid)
{
	for (uint32_t i = 0; uid && i < m->snapshots.n; i++)
		if (!strcmp(m->snapshots.p[i].id, uid))
			return i;
	return MACHINE_NONE;
}

static int read_vmsd(const struct dictionary *d, struct machine *m, struct err *e)
{
	VEC(uint32_t) numbers = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->entries.n; i++) {
		int64_t n = snapshot_number(d->entries.p[i].key);
		uint32_t *slot;

		if (n < 0)
			continue;
		slot = VEC_PUSH(&numbers, e);
		r = slot ? add_snapshot(m, d, (uint32_t)n, d->entries.p[i].value, e) : e->code;
		if (r == 0)
			*slot = (uint32_t)n;
	}
	for (uint32_t i = 0; r == 0 && i < numbers.n; i++) {
		const char *parent = dictionary_getf(d, "snapshot%" PRIu32 ".parent", numbers.p[i]);

		if (find_uid(m, m->snapshots.p[i].id) != i)
			r = err_set(e, ERR_CORRUPT, "two snapshots have the uid %.40s", m->snapshots.p[i].id);
		m->snapshots.p[i].parent = find_uid(m, parent);
	}
	VEC_DONE(&numbers);
	if (r == 0 && !machine_tree_is_sound(m))
		r = err_set(e, ERR_CORRUPT, "snapshots are each other's parents");
	if (r == 0)	/* else the last snapshot may have no id */
		m->current = find_uid(m, dictionary_get(d, "snapshot.current"));
	return r;
}

int vmsd_parse(const void *text, size_t len, struct machine *m, struct err *e)
{
	CLEANUP(done) struct dictionary d = { 0 };

	return dictionary_parse(text, len, &d, e) < 0 ? e->code : read_vmsd(&d, m, e);
}
