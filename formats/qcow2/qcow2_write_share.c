/*
 * qcow2_write_share.c - a range that equals an earlier state's.
 *
 * Cheapest first: an L2 table is shared when the range covers all of it, a cluster when the range covers all of it, and
 * what is left is copied: parts of clusters, what lies beyond the end of this disk (a guest that grows it later must
 * see zeros there), and clusters whose refcount is at its limit.
 */
#include <inttypes.h>
#include <string.h>

#include "base/num.h"
#include "formats/qcow2/qcow2_write_internal.h"

struct share {
	struct q2w *q;
	uint32_t from;
	uint64_t off, end;		/* guest bytes that are equal */
	uint64_t size, from_size;	/* of the two disks */
};

/* Whether all of an entry's clusters have at most max references. */
static int refs_at_most(struct q2w *q, uint64_t entry, uint32_t max, bool *ret, struct err *e)
{
	uint64_t first, n;
	uint32_t refs;
	bool fine = true;

	q2w_entry_clusters(q, entry, &first, &n);
	for (uint64_t c = first; fine && c < first + n; c++) {
		if (q2w_refcount(q, c, &refs, e) < 0)
			return e->code;
		fine = refs <= max;
	}
	*ret = fine;
	return 0;
}

static int ref_entry(struct q2w *q, uint64_t entry, struct err *e)
{
	uint64_t first, n;

	q2w_entry_clusters(q, entry, &first, &n);
	for (uint64_t c = first; c < first + n; c++)
		if (q2w_ref(q, c, e) < 0)
			return e->code;
	return 0;
}

/*
 * Whether [start, end) of the disk, cut at its end, is covered by the range, and nothing that the other state holds
 * there lies beyond this one's end.
 */
static bool covers(const struct share *s, uint64_t start, uint64_t end)
{
	return s->off <= start && s->end >= min_u64(end, s->size) &&
	       min_u64(end, s->from_size) <= min_u64(end, s->size);
}

/* ---- whole tables; the lock is held ---- */

/*
 * Several compressed entries of a table may lie in one host cluster, and each will add a reference.  They are no more
 * than it has already, so up to half of the limit all is well.
 */
static int can_ref_table(struct q2w *q, uint64_t l1, bool *ret, struct err *e)
{
	bool fine;

	if (refs_at_most(q, l1 & Q2W_OFFSET_MASK, Q2W_REFCOUNT_MAX - 1, &fine, e) < 0)
		return e->code;
	for (size_t i = 0; fine && i < (size_t)1 << q->l2_bits; i++) {
		uint64_t entry = q2w_l2_at(q, q->table, i).entry;

		if (entry && refs_at_most(q, entry, Q2W_REFCOUNT_MAX / 2, &fine, e) < 0)
			return e->code;
	}
	*ret = fine;
	return 0;
}

/* Shares the table that is in q->table; *ret_done tells whether it could be. */
static int share_table(const struct share *s, uint64_t slot, uint64_t l1, bool *ret_done, struct err *e)
{
	struct q2w *q = s->q;
	uint64_t here;

	*ret_done = false;
	if (q2w_l1_get(q, q2w_now(q), slot, &here, e) < 0 || can_ref_table(q, l1, ret_done, e) < 0)
		return e->code;
	*ret_done &= here == 0;
	if (!*ret_done)
		return 0;
	for (size_t i = 0; i < (size_t)1 << q->l2_bits; i++) {
		uint64_t entry = q2w_l2_at(q, q->table, i).entry;

		if (entry && ref_entry(q, entry, e) < 0)
			return e->code;
	}
	if (ref_entry(q, l1 & Q2W_OFFSET_MASK, e) < 0)
		return e->code;
	return q2w_l1_set(q, slot, l1 & Q2W_OFFSET_MASK, e);
}

/* Reads the other state's table of the slot into q->table; *ret_l1 0: there is none. */
static int load_table(const struct share *s, uint64_t slot, uint64_t *ret_l1, struct err *e)
{
	struct q2w *q = s->q;
	uint8_t *p;

	if (q2w_l1_get(q, s->from, slot, ret_l1, e) < 0)
		return e->code;
	if (!*ret_l1)
		return 0;
	p = q2w_meta_get(q->meta, *ret_l1 & Q2W_OFFSET_MASK, Q2W_READ, e);
	if (!p)
		return e->code;
	memcpy(q->table, p, q->w.cluster_size);
	return 0;
}

/* ---- clusters ---- */

/* Points guest cluster c at the same place; *ret_done false: the refcount is at its limit. */
static int share_cluster(struct q2w *q, uint64_t c, struct q2w_l2 l2, bool *ret_done, struct err *e)
{
	struct q2w_l2 here;

	*ret_done = false;
	if (q2w_l2_get(q, q2w_now(q), c, &here, e) < 0 ||
	    refs_at_most(q, l2.entry, Q2W_REFCOUNT_MAX - 1, ret_done, e) < 0)
		return e->code;
	if (!q2w_l2_none(&here))
		return err_set(e, ERR_INTERNAL, "guest cluster %" PRIu64 " is written and shared", c);
	if (!*ret_done)
		return 0;
	if (ref_entry(q, l2.entry, e) < 0)
		return e->code;
	l2.entry &= ~Q2W_COPIED;
	return q2w_l2_set(q, c, &l2, e);
}

/* Subclusters that aren't in the file are zeros to the guest, whatever lies in their places. */
static void clear_absent(struct q2w *q, const struct q2w_l2 *l2)
{
	size_t unit = (size_t)q2w_unit_size(q);

	for (unsigned i = 0; q->extended && i < 1U << Q2W_SUBCLUSTER_BITS; i++)
		if (!(l2->bitmap >> i & 1))
			memset(q->cluster + i * unit, 0, unit);
}

/* Reads the cluster behind an entry into q->cluster.  Its end may not have reached the file yet: that is zeros. */
static int read_cluster(struct q2w *q, const struct q2w_l2 *l2, struct err *e)
{
	bool compressed = l2->entry & Q2W_COMPRESSED;
	size_t size = q->w.cluster_size, got;
	uint64_t host = l2->entry & Q2W_OFFSET_MASK, len = size;

	if (compressed)
		q2w_compressed_range(q, l2->entry, &host, &len);
	if (len > size)		/* the last sector may be the next cluster's first; the data end before */
		len = size;
	if (fs_pread(q->file.fd, compressed ? q->packed : q->cluster, (size_t)len, host, &got, e) < 0)
		return e->code;
	if (compressed)
		return q2w_decompress(q, q->packed, got, q->cluster, size, e);
	memset(q->cluster + got, 0, size - got);
	if (q->crypt && q2w_crypt_decrypt(q, q->cluster, size, host, e) < 0)	/* its units are written whole */
		return e->code;
	clear_absent(q, l2);
	return 0;
}

static int copy_part(const struct share *s, const struct q2w_l2 *l2, uint64_t from, uint64_t to, struct err *e)
{
	to = min_u64(to, s->from_size);
	if (from >= to)
		return 0;
	if (read_cluster(s->q, l2, e) < 0)
		return err_ctx(e, "copy of %" PRIu64 " bytes at %" PRIu64, to - from, from);
	return q2w_write_any(s->q, s->q->cluster + from % q2w_cluster_size(s->q), (size_t)(to - from), from, e);
}

static int share_one(const struct share *s, uint64_t c, const struct q2w_l2 *l2, struct err *e)
{
	struct q2w *q = s->q;
	uint64_t start = c << q->cluster_bits, end = start + q2w_cluster_size(q);
	bool done = false;
	int rc = 0;

	if (covers(s, start, end)) {
		pthread_mutex_lock(&q->lock);
		rc = share_cluster(q, c, *l2, &done, e);
		pthread_mutex_unlock(&q->lock);
	}
	if (rc < 0 || done)
		return rc;
	return copy_part(s, l2, max_u64(start, s->off), min_u64(end, s->end), e);
}

static int share_slot(const struct share *s, uint64_t slot, struct err *e)
{
	struct q2w *q = s->q;
	uint64_t start = slot << q2w_slot_bits(q), end = start + ((uint64_t)1 << q2w_slot_bits(q)), l1;
	uint64_t first = max_u64(start, s->off) >> q->cluster_bits;
	uint64_t last = div_up(min_u64(end, s->end), q2w_cluster_size(q));
	/* preallocation fills tables up later, so they must be this state's own */
	bool done = false, whole = covers(s, start, end) && q->preallocation == PREALLOC_OFF;
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = load_table(s, slot, &l1, e);
	if (rc == 0 && l1 && whole)
		rc = share_table(s, slot, l1, &done, e);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0 || done || !l1)
		return rc;
	for (uint64_t c = first; c < last; c++) {
		struct q2w_l2 l2 = q2w_l2_at(q, q->table, q2w_l2_index(q, c));

		if (l2.entry && share_one(s, c, &l2, e) < 0)
			return e->code;
	}
	return 0;
}

int q2w_share(struct image_writer *w, uint32_t from, uint64_t off, uint64_t len, struct err *e)
{
	struct q2w *q = (struct q2w *)w;
	struct share s = { .q = q, .from = from, .off = off, .end = off + len, .size = w->size };

	if (q->states.n < 2 || from >= q2w_now(q))
		return err_set(e, ERR_INTERNAL, "%s: state %" PRIu32 " is not an earlier one", q->path, from);
	s.from_size = q->states.p[from].size;
	for (uint64_t slot = off >> q2w_slot_bits(q); slot << q2w_slot_bits(q) < min_u64(s.end, s.from_size); slot++)
		if (share_slot(&s, slot, e) < 0)
			return err_ctx(e, "%s", q->path);
	return 0;
}
