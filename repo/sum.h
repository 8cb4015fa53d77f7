/*
 * sum.h - checksums against this computer's own memory: taken when something has been verified, compared when it goes
 * out.  They guard nothing against people; ids, seals and signatures do that.
 *
 * Threads: any.
 */
#ifndef KEDGE_REPO_SUM_H
#define KEDGE_REPO_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct sum {
	uint64_t lo, hi;
};

/* XXH3, 128 bits. */
struct sum sum_of(const void *p, size_t len);
/* XXH3, 64 bits, for sums of many small things: seed is the place, or the sum so far. */
uint64_t sum64(const void *p, size_t len, uint64_t seed);
static inline bool sum_eq(const struct sum *a, const struct sum *b) { return a->lo == b->lo && a->hi == b->hi; }
/* ERR_INTERNAL: "memory error: WHAT has changed since it was made", and what to do. */
int sum_error(struct err *e, const char *what);
/* 0, or sum_error. */
MUST_CHECK int sum_check(const void *p, size_t len, const struct sum *want, const char *what, struct err *e);

#endif
