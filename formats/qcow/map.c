/*
 * map.c - from a guest offset to the run of one kind that begins there.
 *
 * L1 entries are checked at open, L2 entries when they are looked at.  Tables go through the cache, an L2 table as a
 * whole (64 KiB at most), the L1 table in slices.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/inflate.h"
#include "formats/qcow/qcow_internal.h"
#include "formats/table.h"

#define L1_SLICE_BYTES ((uint64_t)65536)
#define SECTOR 512u

/* ---- at open ---- */

static int add_table(void *opaque, uint64_t index, uint64_t entry, struct err *e)
{
	struct qcow *q = opaque;
	uint64_t where = q->h.l1_offset + index * 8;

	if (entry < QCOW_HEADER_BYTES || !range_ok(entry, q->h.l2_bytes, q->im.file.size))
		return err_set(e, ERR_CORRUPT,
			       "L1 entry at %" PRIu64 ": L2 table of %" PRIu32 " bytes at %" PRIu64
			       " is in the header or outside the file of %" PRIu64 " bytes",
			       where, q->h.l2_bytes, entry, q->im.file.size);
	if (q->ntables == QCOW_TABLES_MAX)
		return err_set(e, ERR_UNSUPPORTED, "more than %u L2 tables", QCOW_TABLES_MAX);
	if (is_pow2(q->ntables + 1) || !q->tables) {
		uint64_t *p = realloc(q->tables, (q->ntables + 1) * 2 * sizeof(*p));

		if (!p)
			return err_set(e, ERR_NOMEM, "L2 tables");
		q->tables = p;
	}
	q->tables[q->ntables++] = entry;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* One table under two places could make a small file a disk without end to walk: refused in any case. */
static int check_overlaps(const struct qcow *q, struct err *e)
{
	for (size_t i = 0; i < q->ntables; i++) {
		if (i && q->tables[i] - q->tables[i - 1] < q->h.l2_bytes)
			return err_set(e, ERR_CORRUPT,
				       "L2 tables at %" PRIu64 " and %" PRIu64 " are the same or overlap",
				       q->tables[i - 1], q->tables[i]);
		if (!q->force && overlap(q->tables[i], q->h.l2_bytes, q->h.l1_offset, q->h.l1_entries * 8))
			return err_set(e, ERR_CORRUPT, "the L2 table at %" PRIu64 " lies in the L1 table",
				       q->tables[i]);
	}
	return 0;
}

int qcow_scan(struct qcow *q, struct err *e)
{
	if (table_scan(&q->im.file, q->h.l1_offset, q->h.l1_entries, add_table, q, e) < 0)
		return e->code;
	if (q->ntables)
		qsort(q->tables, q->ntables, sizeof(*q->tables), by_place);
	return check_overlaps(q, e);
}

/* ---- entries ---- */

uint64_t qcow_compressed_host(const struct qcow *q, uint64_t entry)
{
	return entry & (((uint64_t)1 << (63 - q->h.cluster_bits)) - 1);
}

uint32_t qcow_compressed_len(const struct qcow *q, uint64_t entry)
{
	return (uint32_t)(entry >> (63 - q->h.cluster_bits)) & (q->h.cluster_size - 1);
}

/* Do the bytes touch the header or a table? */
static bool in_metadata(const struct qcow *q, uint64_t host, uint64_t len)
{
	size_t low = 0, high = q->ntables;

	if (host < QCOW_HEADER_BYTES || overlap(host, len, q->h.l1_offset, q->h.l1_entries * 8))
		return true;
	while (low < high) {	/* the first table that ends behind host */
		size_t mid = low + (high - low) / 2;

		if (q->tables[mid] + q->h.l2_bytes <= host)
			low = mid + 1;
		else
			high = mid;
	}
	return low < q->ntables && q->tables[low] < host + len;
}

/* What is wrong with an entry that isn't 0; NULL: nothing. */
static const char *check_entry(const struct qcow *q, uint64_t v)
{
	uint64_t size = q->im.file.size, host = v;
	uint32_t len = q->h.cluster_size;

	if (v & QCOW_COMPRESSED) {
		host = qcow_compressed_host(q, v);
		len = qcow_compressed_len(q, v);
		if (!len)
			return "a compressed cluster of no bytes";
		if (!range_ok(host, len, size))
			return "compressed data outside the file";
	} else if (host % SECTOR) {
		return "the host offset is not aligned";
	} else if (host >= size) {
		return "the host offset is outside the file";
	}
	return !q->force && in_metadata(q, host, min_u64(len, size - host)) ? "a data cluster lies in metadata" : NULL;
}

/* ---- lookup ---- */

static int fill_l1(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	return file_pread_full(&((const struct qcow *)opaque)->im.file, buf, len, key, e);
}

/* A table in a hole of the file costs no reading. */
static int fill_l2(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	const struct qcow *q = opaque;
	uint64_t data;

	if (file_skip_hole(&q->im.file, key, key + len, &data, e) < 0)
		return e->code;
	if (data < key + len)
		return file_pread_full(&q->im.file, buf, len, key, e);
	memset(buf, 0, len);
	return 0;
}

/* The L2 table of off's L1 entry; 0: none, and none either up to *ret_end. */
static int table_at(struct qcow *q, uint64_t off, uint64_t *ret_table, uint64_t *ret_end, struct err *e)
{
	uint64_t bytes = q->h.l1_entries * 8, at = (off >> q->h.l1_shift) * 8, slice = round_down(at, L1_SLICE_BYTES),
		 len = min_u64(bytes - slice, L1_SLICE_BYTES), end = at - slice + 8;
	const struct cache_block *b;

	if (block_cache_get(q->cache, &q->owner_tables, q->h.l1_offset + slice, (size_t)len, fill_l1, q, &b, e) < 0)
		return e->code;
	*ret_table = get_be64(b->data + (at - slice));
	while (!*ret_table && end < len && !get_be64(b->data + end))
		end += 8;
	block_cache_put(q->cache, b);
	*ret_end = (slice + end) / 8 << q->h.l1_shift;
	return 0;
}

/* A run in the L2 table p, whose first cluster is at guest offset first.  A bad entry behind the first ends it; it is found
 * in its turn.  Returns what is wrong with the first. */
static const char *run_in_table(const struct qcow *q, const uint8_t *p, uint64_t first, uint64_t off, uint64_t limit,
				struct qcow_run *ret)
{
	uint64_t in = off & (q->h.cluster_size - 1), i = (off - first) >> q->h.cluster_bits, n = 1,
		 entries = (uint64_t)1 << q->h.l2_bits, v = get_be64(p + i * 8);
	const char *bad = v ? check_entry(q, v) : NULL;

	if (bad)
		return bad;
	*ret = (struct qcow_run){ .kind = v & QCOW_COMPRESSED ? QCOW_RUN_COMPRESSED : v ? QCOW_RUN_DATA : QCOW_RUN_HOLE };
	if (v & QCOW_COMPRESSED) {
		ret->host = qcow_compressed_host(q, v);
		ret->entry = v;
		ret->inner = (uint32_t)in;
	} else {
		ret->host = v ? v + in : 0;
		for (; i + n < entries && (n << q->h.cluster_bits) < limit + in; n++) {
			uint64_t next = get_be64(p + (i + n) * 8);

			if (v ? next != v + (n << q->h.cluster_bits) || check_entry(q, next) != NULL : next != 0)
				break;
		}
	}
	ret->len = min_u64((n << q->h.cluster_bits) - in, limit);
	return NULL;
}

int qcow_run_at(struct qcow *q, uint64_t off, uint64_t limit, struct qcow_run *ret, struct err *e)
{
	const struct cache_block *b;
	uint64_t table = 0, end = 0, first;
	const char *bad;

	if (table_at(q, off, &table, &end, e) < 0)
		return e->code;
	limit = min_u64(limit, end - off);
	if (!table) {
		*ret = (struct qcow_run){ .kind = QCOW_RUN_HOLE, .len = limit };
		return 0;
	}
	if (!range_ok(table, q->h.l2_bytes, q->im.file.size))
		return err_set(e, ERR_CHANGED, "L2 table at %" PRIu64 ": the image was changed while it was read", table);
	if (block_cache_get(q->cache, &q->owner_tables, table, q->h.l2_bytes, fill_l2, q, &b, e) < 0)
		return err_ctx(e, "L2 table at %" PRIu64, table);
	first = round_down(off, (uint64_t)1 << q->h.l1_shift);
	bad = run_in_table(q, b->data, first, off, limit, ret);
	block_cache_put(q->cache, b);
	if (!bad)
		return 0;
	return err_set(e, ERR_CORRUPT, "L2 entry at %" PRIu64 " for guest offset %" PRIu64 ": %s",
		       table + ((off - first) >> q->h.cluster_bits) * 8, off, bad);
}

/* ---- compressed clusters ---- */

static int fill_cluster(void *opaque, uint64_t entry, void *buf, size_t len, struct err *e)
{
	const struct qcow *q = opaque;
	uint64_t host = qcow_compressed_host(q, entry);
	size_t packed = qcow_compressed_len(q, entry);
	CLEANUP(free_ptr) uint8_t *in = malloc(packed + 1);
	int ok;

	if (!in)
		return err_set(e, ERR_NOMEM, "compressed cluster of %zu bytes", packed);
	if (file_pread_full(&q->im.file, in, packed, host, e) < 0)
		return e->code;
	ok = inflate_raw(buf, len, in, packed);
	if (ok == ERR_NOMEM)
		return err_set(e, ERR_NOMEM, "decompression of the cluster at %" PRIu64, host);
	if (ok)
		return 0;
	return err_set(e, ERR_CORRUPT, "compressed cluster at %" PRIu64 ": its %zu bytes of deflate data don't give %zu bytes",
		       host, packed, len);
}

int qcow_cluster_get(struct qcow *q, uint64_t entry, const struct cache_block **ret, struct err *e)
{
	return block_cache_get(q->cache, &q->owner_clusters, entry, q->h.cluster_size, fill_cluster, q, ret, e);
}
