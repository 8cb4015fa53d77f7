/* regions.c - which places of a file hold metadata: a sorted list, in proportion to the tables that there are. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "formats/vmdk/vmdk_internal.h"

int vmdk_regions_add(struct vmdk_regions *r, uint64_t start, uint64_t len, const char *what, struct err *e)
{
	struct vmdk_region *n;

	if (!len)
		return 0;
	n = VEC_PUSH(&r->v, e);
	if (!n)
		return e->code;
	*n = (struct vmdk_region){ start, start + len, what };	/* callers have checked that it is inside the file */
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct vmdk_region *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

int vmdk_regions_seal(struct vmdk_regions *r, struct err *e)
{
	if (r->v.n)
		qsort(r->v.p, r->v.n, sizeof(*r->v.p), by_start);
	for (size_t i = 1; i < r->v.n; i++) {
		const struct vmdk_region *x = &r->v.p[i - 1], *y = &r->v.p[i];

		if (x->end > y->start)
			return err_set(e, ERR_CORRUPT, "the %s at %" PRIu64 " overlaps the %s at %" PRIu64, y->what,
				       y->start, x->what, x->start);
	}
	return 0;
}

const char *vmdk_regions_find(const struct vmdk_regions *r, uint64_t start, uint64_t len)
{
	size_t lo = 0, hi = r->v.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->v.p[mid].end <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* No subtraction can wrap: the first region that ends behind start begins before it, or behind it. */
	if (lo < r->v.n && (r->v.p[lo].start <= start || r->v.p[lo].start - start < len))
		return r->v.p[lo].what;
	return NULL;
}

void vmdk_regions_done(struct vmdk_regions *r)
{
	VEC_DONE(&r->v);
}
