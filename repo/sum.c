/* sum.c - checksums against this computer's own memory. */
#include "repo/sum.h"

#include <xxhash.h>

struct sum sum_of(const void *p, size_t len)
{
	XXH128_hash_t h = XXH3_128bits(p, len);

	return (struct sum){ h.low64, h.high64 };
}

uint64_t sum64(const void *p, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(p, len, seed);
}

int sum_error(struct err *e, const char *what)
{
	err_set(e, ERR_INTERNAL, "memory error: %s has changed since it was made", what);
	return err_hint(e, "What was under way has failed, and what was stored before is as it was.  Test this "
			   "computer's memory before you trust it with backups.");
}

int sum_check(const void *p, size_t len, const struct sum *want, const char *what, struct err *e)
{
	struct sum is = sum_of(p, len);

	return sum_eq(&is, want) ? 0 : sum_error(e, what);
}
