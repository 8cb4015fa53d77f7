/*
 * scan.c - the tables that are read whole at open: refcount table and L1 tables.
 *
 * Every entry's bits and place are checked here, and what it names is entered in the metadata map, so that overlaps are
 * found before a single guest byte is read.  Later lookups check places again: a file can change under us.
 */
#include <inttypes.h>

#include "base/num.h"
#include "formats/qcow2/qcow2_internal.h"
#include "formats/table.h"

struct l1_scan {
	struct qcow2 *q;
	uint32_t state;
};

static int scan_l1_entry(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	const struct l1_scan *s = opaque;
	struct qcow2 *q = s->q;
	uint64_t host = v & QCOW2_OFFSET_MASK, where = q->st[s->state].l1_offset + index * 8;

	if (v & ~(QCOW2_OFFSET_MASK | QCOW2_COPIED))
		return err_set(e, ERR_CORRUPT, "L1 entry at %" PRIu64 ": reserved bits are set (0x%016" PRIx64 ")",
			       where, v);
	if (!host)
		return 0;
	if (host & (q->cluster_size - 1))
		return err_set(e, ERR_CORRUPT, "L1 entry at %" PRIu64 ": L2 table at %" PRIu64 " is not aligned", where,
			       host);
	if (!range_ok(host, q->cluster_size, q->im.file.size))
		return err_set(e, ERR_CORRUPT,
			       "L1 entry at %" PRIu64 ": L2 table at %" PRIu64 " is outside the file of %" PRIu64
			       " bytes",
			       where, host, q->im.file.size);
	if (qcow2_meta_add_cluster(&q->meta, host, s->state, "L2 table", e) < 0)
		return err_ctx(e, "L1 entry at %" PRIu64, where);
	return 0;
}

static int scan_reftable_entry(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	struct qcow2 *q = opaque;
	uint64_t where = q->h.reftable_offset + index * 8;

	if (v & (q->cluster_size - 1) || !range_ok(v, q->cluster_size, q->im.file.size))
		return err_set(e, ERR_CORRUPT,
			       "refcount table entry at %" PRIu64 ": refcount block at %" PRIu64 " is %s", where, v,
			       v & (q->cluster_size - 1) ? "not aligned" : "outside the file");
	if (qcow2_meta_add_cluster(&q->meta, v, QCOW2_OWNER_OTHER, "refcount block", e) < 0)
		return err_ctx(e, "refcount table entry at %" PRIu64, where);
	return 0;
}

int qcow2_scan_image(struct qcow2 *q, struct err *e)
{
	const struct qcow2_header *h = &q->h;

	/* Nothing is read through refcounts; an image that is marked corrupt may have any. */
	if (!q->force &&
	    table_scan(&q->im.file, h->reftable_offset, (uint64_t)h->reftable_clusters * q->cluster_size / 8,
			     scan_reftable_entry, q, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < q->im.info.nstates; i++) {
		struct l1_scan s = { q, i };

		if (table_scan(&q->im.file, q->st[i].l1_offset, q->st[i].l1_size, scan_l1_entry, &s, e) < 0)
			return i ? err_ctx(e, "snapshot %" PRIu32, i) : e->code;
	}
	return 0;
}
