/* id_set.h - a set of ids in memory, about 48 bytes each.  Private to repo/.  Threads: one at a time. */
#ifndef KEDGE_REPO_ID_SET_H
#define KEDGE_REPO_ID_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "repo/format.h"

struct id_set {
	struct id *p;		/* open addressing; all zero = free */
	size_t n, cap;		/* cap: 0 or a power of two */
};

void id_set_done(struct id_set *s);	/* safe on a zeroed struct */
bool id_set_has(const struct id_set *s, const struct id *id);
/* 1 added, 0 was there. */
MUST_CHECK int id_set_add(struct id_set *s, const struct id *id, struct err *e);
void id_set_remove(struct id_set *s, const struct id *id);

#endif
