/*
 * fuzz_hardware.c - any bytes as a machine's description: its hardware, as each kind and edited.  What is written can be
 * read again.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/machine/hardware_internal.h"

static const char *const names[] = { "a.xml", "a.vbox", "a.vmx", "a.ovf" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void give_files(struct hardware *h)
{
	struct err e = ERR_INIT;

	for (size_t i = 0; i < h->drives.n; i++) {
		struct hardware_drive *d = &h->drives.p[i];

		if (d->kind == DRIVE_DISK && i % 3 != 2 && machine_text(&d->file, "disk", &e) == 0)
			d->format = "vmdk";
		(void)snprintf(d->uuid, sizeof(d->uuid), "11111111-0000-0000-0000-%012u", (unsigned)(i % 1000));
	}
}

static void read_again(const char *name, const struct buf *b)
{
	struct machine *m = NULL;
	struct hardware *h = NULL;
	struct err e = ERR_INIT;

	if (machine_parse_text(name, b->p, b->len, &m, &e) < 0 && e.code == ERR_CORRUPT)
		abort();
	if (m && hardware_read(b->p, b->len, m, &h, &e) < 0 && e.code == ERR_CORRUPT)
		abort();
	hardware_free(h);
	machine_free(m);
}

/* edit: the description itself; else a new one. */
static void write_as(const struct machine *m, enum machine_kind to, const uint8_t *data, size_t size, bool edit)
{
	const struct hardware_write_opts o = {
		.to = to, .dir = "/d", .nvram = "n", .text = edit ? data : NULL, .len = edit ? size : 0,
	};
	struct hardware *h = NULL;
	struct err e = ERR_INIT;
	struct buf b;

	buf_init(&b, 4 * MACHINE_FILE_MAX);
	if (hardware_read(data, size, m, &h, &e) == 0) {
		give_files(h);
		if (hardware_new_ids(h, to, false, "x", &e) == 0 && (edit || hardware_fit(h, to, &e) == 0) &&
		    hardware_write(h, &o, &b, &e) == 0)
			read_again(names[to], &b);
	}
	hardware_free(h);
	buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (enum machine_kind k = MACHINE_LIBVIRT; k <= MACHINE_OVF; k++) {
		struct machine *m = NULL;
		struct err e = ERR_INIT;

		if (machine_parse_text(names[k], data, size, &m, &e) < 0)
			continue;
		for (enum machine_kind to = MACHINE_LIBVIRT; m->kind == k && to <= MACHINE_OVF; to++)
			write_as(m, to, data, size, false);
		if (m->kind == k && k != MACHINE_OVF)
			write_as(m, k, data, size, true);
		machine_free(m);
	}
	return 0;
}
