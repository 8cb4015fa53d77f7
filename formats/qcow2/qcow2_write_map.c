/* qcow2_write_map.c - L1 and L2 tables: from a guest cluster to its entry. */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/qcow2/qcow2_write_internal.h"

static int l1_at(struct q2w *q, uint32_t state, uint64_t slot, enum q2w_use use, uint8_t **ret, struct err *e)
{
	const struct q2w_state *s = &q->states.p[state];
	uint64_t at = s->l1_off + slot * 8;
	uint8_t *p;

	if (slot >= s->l1_entries)
		return err_set(e, ERR_INTERNAL, "slot %" PRIu64 " of %" PRIu64, slot, s->l1_entries);
	p = q2w_meta_get(q->meta, round_down(at, q2w_cluster_size(q)), use, e);
	if (!p)
		return e->code;
	*ret = p + at % q2w_cluster_size(q);
	return 0;
}

int q2w_l1_get(struct q2w *q, uint32_t state, uint64_t slot, uint64_t *ret, struct err *e)
{
	uint8_t *p = NULL;

	if (slot >= q->states.p[state].l1_entries) {
		*ret = 0;
		return 0;
	}
	if (l1_at(q, state, slot, Q2W_READ, &p, e) < 0)
		return e->code;
	*ret = get_be64(p);
	return 0;
}

int q2w_l1_set(struct q2w *q, uint64_t slot, uint64_t entry, struct err *e)
{
	uint8_t *p = NULL;

	if (l1_at(q, q2w_now(q), slot, Q2W_CHANGE, &p, e) < 0)
		return e->code;
	put_be64(p, entry);
	return 0;
}

static size_t entry_bytes(const struct q2w *q)
{
	return q->extended ? 16 : 8;
}

struct q2w_l2 q2w_l2_at(const struct q2w *q, const uint8_t *table, size_t i)
{
	const uint8_t *p = table + i * entry_bytes(q);

	return (struct q2w_l2){ get_be64(p), q->extended ? get_be64(p + 8) : 0 };
}

int q2w_l2_get(struct q2w *q, uint32_t state, uint64_t c, struct q2w_l2 *ret, struct err *e)
{
	uint64_t l1;
	uint8_t *p;

	if (q2w_l1_get(q, state, c >> q->l2_bits, &l1, e) < 0)
		return e->code;
	if (!l1) {
		*ret = (struct q2w_l2){ 0 };
		return 0;
	}
	p = q2w_meta_get(q->meta, l1 & Q2W_OFFSET_MASK, Q2W_READ, e);
	if (!p)
		return e->code;
	*ret = q2w_l2_at(q, p, q2w_l2_index(q, c));
	return 0;
}

/* "Copied" says that a refcount is 1 and matters in the current state only, the last one: nothing shares with it
 * later. */
static int new_table(struct q2w *q, uint64_t slot, uint64_t *ret_l1, struct err *e)
{
	uint64_t c, l1;

	if (q2w_alloc(q, 1, &c, e) < 0)
		return e->code;
	if (!q2w_meta_get(q->meta, c << q->cluster_bits, Q2W_FRESH, e))
		return e->code;
	l1 = c << q->cluster_bits | (q->active ? Q2W_COPIED : 0);
	if (q2w_l1_set(q, slot, l1, e) < 0)
		return e->code;
	*ret_l1 = l1;
	return 0;
}

int q2w_l2_set(struct q2w *q, uint64_t c, const struct q2w_l2 *l2, struct err *e)
{
	uint64_t l1;
	uint8_t *p;

	if (q2w_l1_get(q, q2w_now(q), c >> q->l2_bits, &l1, e) < 0)
		return e->code;
	if (!l1 && new_table(q, c >> q->l2_bits, &l1, e) < 0)
		return e->code;
	p = q2w_meta_get(q->meta, l1 & Q2W_OFFSET_MASK, Q2W_CHANGE, e);
	if (!p)
		return e->code;
	p += q2w_l2_index(q, c) * entry_bytes(q);
	put_be64(p, l2->entry);
	if (q->extended)
		put_be64(p + 8, l2->bitmap);
	return 0;
}

/*
 * A compressed entry: bits 0 to x-1 the host offset in bytes, x to 61 the number of further 512-byte sectors that the
 * data touch, with x = 62 - (cluster_bits - 8).  From the qcow2 specification, "L2 table entry".
 */
static unsigned sector_shift(const struct q2w *q)
{
	return 62 - (q->cluster_bits - 8);
}

uint64_t q2w_compressed_entry(const struct q2w *q, uint64_t host, size_t len)
{
	uint64_t sectors = (host + len - 1) / Q2W_SECTOR - host / Q2W_SECTOR;

	return Q2W_COMPRESSED | host | sectors << sector_shift(q);
}

void q2w_compressed_range(const struct q2w *q, uint64_t entry, uint64_t *ret_host, uint64_t *ret_len)
{
	unsigned x = sector_shift(q);
	uint64_t host = entry & (((uint64_t)1 << x) - 1);
	uint64_t sectors = (entry >> x & (((uint64_t)1 << (q->cluster_bits - 8)) - 1)) + 1;

	*ret_host = host;
	*ret_len = sectors * Q2W_SECTOR - host % Q2W_SECTOR;
}

void q2w_entry_clusters(const struct q2w *q, uint64_t entry, uint64_t *ret_first, uint64_t *ret_n)
{
	uint64_t host = entry & Q2W_OFFSET_MASK, len = 1;

	if (entry & Q2W_COMPRESSED)
		q2w_compressed_range(q, entry, &host, &len);
	*ret_first = host >> q->cluster_bits;
	*ret_n = ((host + len - 1) >> q->cluster_bits) - *ret_first + 1;
}
