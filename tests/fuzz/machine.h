/* machine.h - parses bytes as a machine and checks that what comes out is what machine.h says. */
#ifndef KEDGE_TESTS_FUZZ_MACHINE_H
#define KEDGE_TESTS_FUZZ_MACHINE_H

#include <stdlib.h>

#include "base/text.h"
#include "formats/machine/machine_internal.h"

static inline void machine_must(bool ok)
{
	if (!ok)
		abort();
}

static inline void check_machine(const struct machine *m)
{
	machine_must(machine_tree_is_sound(m) && m->disks.n <= MACHINE_DISKS_MAX);
	machine_must(m->current == MACHINE_NONE || m->current < m->snapshots.n);
	for (size_t i = 0; i < m->disks.n; i++) {
		const struct machine_disk *d = &m->disks.p[i];

		machine_must(text_is_name(d->name) && machine_find_disk(m, d->name) == i);
		machine_must(d->skipped || d->refused || d->image.path || d->image.uuid);
	}
	for (size_t i = 0; i < m->snapshots.n; i++) {
		const struct machine_snapshot *s = &m->snapshots.p[i];

		machine_must(s->id && s->name && (s->parent == MACHINE_NONE || s->parent < m->snapshots.n));
		for (size_t k = 0; k < s->disks.n; k++) {
			machine_must(s->disks.p[k].disk < m->disks.n && (s->disks.p[k].image.path || s->disks.p[k].image.uuid));
			machine_must(!k || s->disks.p[k - 1].disk < s->disks.p[k].disk);
		}
	}
}

static inline void fuzz_machine(int (*parse)(const void *, size_t, struct machine *, struct err *), enum machine_kind kind,
				const uint8_t *data, size_t size)
{
	struct err e = ERR_INIT;
	struct machine *m = machine_new(kind, "x.vmx", &e);

	if (!m)
		return;
	if (parse(data, size, m, &e) < 0)
		machine_must(e.code < 0 && e.cause[0]);
	else
		check_machine(m);
	machine_free(m);
}

#endif
