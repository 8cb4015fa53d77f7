/*
 * meta.c - which host places hold metadata.
 *
 * Regions (header, L1 tables, refcount table, snapshot table, bitmap tables) are a sorted list.  The clusters that
 * tables name one by one (L2 tables, refcount blocks, bitmap data) are a hash set of 64-bit words: host offset / 512 in
 * the upper 47 bits, owner in the lower 17.  The set grows with the entries that were really read from the file, up to
 * a cap.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "formats/qcow2/qcow2_internal.h"

#define SLOTS_MIN 256
#define SLOTS_MAX ((size_t)1 << 23)	/* 64 MiB; three quarters of it, 6 million tables, are the limit */
#define OWNER_BITS 17
#define OWNER_MASK (((uint64_t)1 << OWNER_BITS) - 1)

int qcow2_meta_add_region(struct qcow2_meta *m, uint64_t start, uint64_t len, uint32_t cluster_size, const char *what,
			  uint32_t index, struct err *e)
{
	struct qcow2_region *r;

	if (!len)
		return 0;
	r = VEC_PUSH(&m->regions, e);
	if (!r)
		return e->code;
	/* Callers have checked that start + len is inside the file, so this can't wrap. */
	*r = (struct qcow2_region){ start, round_up(start + len, cluster_size), what, index };
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct qcow2_region *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void region_name(const struct qcow2_region *r, char buf[static 64])
{
	if (r->index == QCOW2_NO_INDEX)
		snprintf(buf, 64, "%s", r->what);
	else
		snprintf(buf, 64, "%s %" PRIu32, r->what, r->index);
}

int qcow2_meta_seal(struct qcow2_meta *m, struct err *e)
{
	char a[64], b[64];

	if (m->regions.n)
		qsort(m->regions.p, m->regions.n, sizeof(*m->regions.p), by_start);
	for (size_t i = 1; i < m->regions.n && !m->tolerant; i++) {
		const struct qcow2_region *x = &m->regions.p[i - 1], *y = &m->regions.p[i];

		if (x->end <= y->start)
			continue;
		region_name(x, a);
		region_name(y, b);
		return err_set(e, ERR_CORRUPT, "%s at %" PRIu64 " overlaps %s at %" PRIu64, b, y->start, a, x->start);
	}
	return 0;
}

static const struct qcow2_region *find_region(const struct qcow2_meta *m, uint64_t host)
{
	size_t lo = 0, hi = m->regions.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->regions.p[mid].end <= host)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->regions.n && m->regions.p[lo].start <= host ? &m->regions.p[lo] : NULL;
}

/* The slot that holds host, or the free one where it belongs.  There is always a free slot. */
static uint64_t *slot_of(uint64_t *slots, size_t nslots, uint64_t key)
{
	size_t i = (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (nslots - 1);

	while (slots[i] && slots[i] >> OWNER_BITS != key)
		i = (i + 1) & (nslots - 1);
	return &slots[i];
}

static int grow(struct qcow2_meta *m, struct err *e)
{
	size_t n = m->nslots ? m->nslots * 2 : SLOTS_MIN;
	uint64_t *slots;

	if (n > SLOTS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "more than %zu L2 tables and refcount blocks in one image", m->used);
	slots = calloc(n, sizeof(*slots));
	if (!slots)
		return err_set(e, ERR_NOMEM, "set of %zu tables", m->used);
	for (size_t i = 0; i < m->nslots; i++)
		if (m->slots[i])
			*slot_of(slots, n, m->slots[i] >> OWNER_BITS) = m->slots[i];
	free(m->slots);
	m->slots = slots;
	m->nslots = n;
	return 0;
}

int qcow2_meta_add_cluster(struct qcow2_meta *m, uint64_t host, uint32_t owner, const char *what, struct err *e)
{
	const struct qcow2_region *r = find_region(m, host);
	char name[64];
	uint64_t *slot, was;

	if (r && !m->tolerant) {
		region_name(r, name);
		return err_set(e, ERR_CORRUPT, "%s at %" PRIu64 " overlaps %s at %" PRIu64, what, host, name, r->start);
	}
	if (m->used >= m->nslots / 4 * 3 && grow(m, e) < 0)
		return e->code;
	slot = slot_of(m->slots, m->nslots, host >> 9);
	was = *slot & OWNER_MASK;
	/* One L2 table under two L1 entries of one state would multiply the work: not tolerated from anybody. */
	if (*slot && was == owner && owner != QCOW2_OWNER_OTHER)
		return err_set(e, ERR_CORRUPT, "%s at %" PRIu64 " is used twice in one state", what, host);
	if (*slot && !m->tolerant && (was == QCOW2_OWNER_OTHER || owner == QCOW2_OWNER_OTHER))
		return err_set(e, ERR_CORRUPT, "%s at %" PRIu64 " overlaps another table there", what, host);
	m->used += !*slot;
	*slot = (host >> 9) << OWNER_BITS | owner;
	return 0;
}

const char *qcow2_meta_find(const struct qcow2_meta *m, uint64_t host)
{
	const struct qcow2_region *r;
	uint64_t v;

	if (m->tolerant)
		return NULL;
	r = find_region(m, host);
	if (r)
		return r->what;
	if (!m->nslots)
		return NULL;
	v = *slot_of(m->slots, m->nslots, host >> 9);
	if (!v)
		return NULL;
	return (v & OWNER_MASK) == QCOW2_OWNER_OTHER ? "a refcount block or bitmap" : "an L2 table";
}

void qcow2_meta_done(struct qcow2_meta *m)
{
	VEC_DONE(&m->regions);
	free(m->slots);
	*m = (struct qcow2_meta){ 0 };
}
