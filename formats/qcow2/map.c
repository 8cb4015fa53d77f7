/*
 * map.c - from a guest offset to the run of one kind that begins there.
 *
 * An L1 entry names an L2 table; an L2 entry (8 bytes; 16 when extended) maps one cluster, an extended one in 32
 * subclusters:
 *
 *	bit 62	bit 0	offset		meaning
 *	0	0	0		nothing here (with a data file and bit 63: data at host offset 0)
 *	0	1	any		zeros; what lies at the offset must not be read
 *	0	0	not 0		data
 *	1	-	-		compressed: offset and sectors, see decompress.c
 *	extended: second word, low half: subcluster is allocated, high half: subcluster is zero
 *
 * Tables are read through the cache in slices, and one call stays within one slice: so it is short, and next_extent and
 * pread put the pieces together.
 */
#include <inttypes.h>
#include <stdatomic.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"

#define SUBCLUSTERS 32

/* What is kept behind a slice of an L2 table. */
struct slice_facts {
	/* If all of the slice is in a hole of the file, how many bytes of the table are from the slice on, else 0.  A
	 * file that names its own holes as tables is small but its tables are not: they must cost one look each, not
	 * their size. */
	uint64_t hole;
	uint64_t checked;	/* so many entries, from the first on, are right: they are walked many times */
};

/* What one decision found: the run from the asked-for unit on, within its cluster. */
struct piece {
	enum qcow2_run_kind kind;
	uint32_t units;
	uint64_t host;		/* DATA: of the first unit */
};

static int fill_l1(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	const struct qcow2 *q = opaque;

	return file_pread_full(&q->im.file, buf, len, key, e);
}

/* Is every host cluster that [host, host+len) touches free of metadata?  NULL: yes. */
static const char *aliased(const struct qcow2 *q, uint64_t host, uint64_t len)
{
	uint64_t end = min_u64(host + len, q->im.file.size);

	for (uint64_t c = round_down(host, q->cluster_size); c < end; c += q->cluster_size)
		if (qcow2_meta_find(&q->meta, c))
			return "a data cluster lies in metadata";
	return NULL;
}

/* The checks of an entry that doesn't depend on the subcluster.  Each returns NULL, or what is wrong. */
static const char *check_compressed(const struct qcow2 *q, uint64_t v, uint64_t bitmap)
{
	uint64_t host = qcow2_compressed_host(q, v);

	if (q->data_file)
		return "a compressed cluster in an image with a data file";
	if (v & QCOW2_COPIED)
		return "a compressed cluster with bit 63 set";
	if (bitmap)
		return "a compressed cluster with subclusters";
	if (host >> 56)
		return "a compressed cluster with reserved bits set";
	if (host >= q->im.file.size)
		return "compressed data outside the file";
	return aliased(q, host, qcow2_compressed_len(q, v));
}

static const char *check_plain(const struct qcow2 *q, uint64_t guest, uint64_t v)
{
	uint64_t host = v & QCOW2_OFFSET_MASK;
	bool zero = v & QCOW2_ZERO;

	if (v & ~(QCOW2_OFFSET_MASK | QCOW2_COPIED | QCOW2_ZERO))
		return "reserved bits are set";
	if (zero && q->h.version < 3)
		return "the zero flag, which version 2 doesn't have";
	if (zero && q->extl2)
		return "the zero flag in an extended entry";
	if (host & (q->cluster_size - 1))
		return "the host offset is not aligned";
	if (q->data_file)
		return (host || v & QCOW2_COPIED) && host != guest
			       ? "the offset in the data file differs from the guest's"
			       : NULL;
	if (!host)
		return NULL;
	if (!zero && host >= q->im.file.size)
		return "the host offset is outside the file";
	return aliased(q, host, q->cluster_size);
}

/* Neither depends on the guest offset, where there is no data file. */
static const char *check_entry(const struct qcow2 *q, uint64_t guest, uint64_t v, uint64_t bitmap)
{
	return v & QCOW2_COMPRESSED ? check_compressed(q, v, bitmap) : check_plain(q, guest, v);
}

static uint64_t count_checked(const struct qcow2 *q, const uint8_t *p, size_t len)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len && !q->data_file; i += q->l2_entry_bytes, n++)
		if (check_entry(q, 0, get_be64(p + i), q->extl2 ? get_be64(p + i + 8) : 0))
			break;
	return n;
}

/* A slice of an L2 table, and struct slice_facts behind it. */
static int fill_l2(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	const struct qcow2 *q = opaque;
	struct slice_facts facts = { 0 };
	size_t slice = len - sizeof(facts);
	uint64_t data;

	if (file_skip_hole(&q->im.file, key, round_down(key, q->cluster_size) + q->cluster_size, &data, e) < 0)
		return e->code;
	if (data - key >= slice) {
		facts.hole = data - key;
		memset(buf, 0, slice);
	} else if (file_pread_full(&q->im.file, buf, slice, key, e) < 0) {
		return e->code;
	} else {
		facts.checked = count_checked(q, buf, slice);
	}
	memcpy((uint8_t *)buf + slice, &facts, sizeof(facts));
	return 0;
}

/* Decides for unit `unit` of the cluster at guest offset `guest`; checked: check_entry finds nothing.  NULL, or what is
 * wrong with the entry. */
static const char *decide(const struct qcow2 *q, uint64_t guest, uint64_t v, uint64_t bitmap, bool checked, uint32_t unit,
			  struct piece *ret)
{
	uint64_t host = v & QCOW2_OFFSET_MASK;
	uint32_t alloc = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32), same;
	bool allocated = host || (q->data_file && v & QCOW2_COPIED);
	const char *bad = checked ? NULL : check_entry(q, guest, v, bitmap);

	if (bad)
		return bad;
	if ((!v && !bitmap) || v & QCOW2_COMPRESSED) {
		*ret = (struct piece){ v ? QCOW2_RUN_COMPRESSED : QCOW2_RUN_HOLE, (q->extl2 ? SUBCLUSTERS : 1) - unit, 0 };
		return NULL;
	}
	if (!q->extl2) {
		*ret = (struct piece){ v & QCOW2_ZERO ? QCOW2_RUN_ZERO : allocated ? QCOW2_RUN_DATA : QCOW2_RUN_HOLE, 1, host };
		return NULL;
	}
	if (alloc & zero)
		return "a subcluster is both allocated and zero";
	if (alloc && !allocated)
		return "allocated subclusters without a cluster";
	ret->kind = alloc >> unit & 1 ? QCOW2_RUN_DATA : zero >> unit & 1 ? QCOW2_RUN_ZERO : QCOW2_RUN_HOLE;
	same = ret->kind == QCOW2_RUN_DATA ? alloc : ret->kind == QCOW2_RUN_ZERO ? zero : ~(alloc | zero);
	ret->host = host + ((uint64_t)unit << q->unit_bits);
	for (ret->units = 1; unit + ret->units < SUBCLUSTERS && same >> (unit + ret->units) & 1; ret->units++)
		;
	return NULL;
}

/* An L2 slice in hand: where it is in the file, and how to look into it. */
struct slice {
	const uint8_t *p;
	uint64_t host;		/* of the slice */
	uint64_t first;		/* guest offset of its first cluster */
	uint32_t entries;
	uint64_t checked;	/* of these, from the first on */
};

static const char *decide_at(const struct qcow2 *q, const struct slice *s, uint64_t off, struct piece *ret,
			     uint64_t *ret_entry)
{
	uint64_t rel = off - s->first;
	uint64_t i = rel >> q->h.cluster_bits;
	const uint8_t *p = s->p + i * q->l2_entry_bytes;
	uint32_t unit = (uint32_t)((rel & (q->cluster_size - 1)) >> q->unit_bits);

	*ret_entry = get_be64(p);
	return decide(q, round_down(off, q->cluster_size), *ret_entry, q->extl2 ? get_be64(p + 8) : 0, i < s->checked,
		      unit, ret);
}

static uint64_t slice_end(const struct qcow2 *q, const struct slice *s)
{
	return s->first + ((uint64_t)s->entries << q->h.cluster_bits);
}

/* How many clusters from the one at off on are what a run of that kind goes on with, data from host on; only those that
 * can be told at a glance. */
static uint64_t same_clusters(const struct qcow2 *q, const struct slice *s, uint64_t off, enum qcow2_run_kind kind,
			      uint64_t host)
{
	const uint64_t mask = QCOW2_OFFSET_MASK | QCOW2_ZERO | QCOW2_COMPRESSED;
	uint64_t first = (off - s->first) >> q->h.cluster_bits, i = first;

	if (q->extl2 || off & (q->cluster_size - 1) || (kind != QCOW2_RUN_DATA && kind != QCOW2_RUN_HOLE))
		return 0;
	if (kind == QCOW2_RUN_HOLE)
		while (i < s->checked && !get_be64(s->p + i * 8))
			i++;
	else
		for (; i < s->checked && (get_be64(s->p + i * 8) & mask) == host; host += q->cluster_size)
			i++;
	return i - first;
}

/* The run from off on, as far as the slice shows it.  A bad entry behind the first ends the run; it is found in its
 * turn. */
static const char *run_in_slice(const struct qcow2 *q, const struct slice *s, uint64_t off, uint64_t limit,
				struct qcow2_run *r)
{
	uint64_t unit_size = (uint64_t)1 << q->unit_bits, within = off & (unit_size - 1), stop = slice_end(q, s), entry,
		 at;
	struct piece p, next;
	const char *bad = decide_at(q, s, off, &p, &entry);

	if (bad)
		return bad;
	*r = (struct qcow2_run){ .kind = p.kind, .len = p.units * unit_size - within, .host = p.host + within, .entry = entry };
	if (p.kind == QCOW2_RUN_COMPRESSED) {
		r->host = qcow2_compressed_host(q, entry);
		r->inner = (uint32_t)(off & (q->cluster_size - 1));
	}
	while (r->len < limit && p.kind != QCOW2_RUN_COMPRESSED && (at = off + r->len) < stop) {
		uint64_t same = same_clusters(q, s, at, p.kind, r->host + r->len);

		if (same) {
			r->len += same << q->h.cluster_bits;
			continue;
		}
		if (decide_at(q, s, at, &next, &entry) || next.kind != p.kind ||
		    (p.kind == QCOW2_RUN_DATA && next.host != r->host + r->len))
			break;
		r->len += next.units * unit_size;
	}
	r->len = min_u64(r->len, limit);
	return NULL;
}

/* The run from off on in a slice that begins a hole of `hole` bytes in its table. */
static struct qcow2_run run_in_hole(const struct qcow2 *q, const struct slice *s, uint64_t hole, uint64_t off,
				    uint64_t limit)
{
	uint64_t end = s->first + (hole / q->l2_entry_bytes << q->h.cluster_bits);

	return (struct qcow2_run){ .kind = QCOW2_RUN_HOLE, .len = min_u64(limit, end - off) };
}

static int run_in_table(struct qcow2 *q, uint64_t table, uint64_t off, uint64_t limit, struct qcow2_run *ret,
			struct err *e)
{
	uint64_t len = min_u64(q->cluster_size, QCOW2_SLICE_BYTES);
	uint64_t cover = len / q->l2_entry_bytes << q->h.cluster_bits;		/* guest bytes of a slice */
	uint64_t in_table = off & (((uint64_t)1 << q->l1_shift) - 1);
	struct slice s = {
		.host = table + in_table / cover * len,
		.first = round_down(off, cover),
		.entries = (uint32_t)(len / q->l2_entry_bytes),
	};
	const struct cache_block *b;
	const char *bad = NULL;
	struct slice_facts facts;

	if (table & (q->cluster_size - 1) || !range_ok(table, q->cluster_size, q->im.file.size))
		return err_set(e, ERR_CHANGED,
			       "L2 table at %" PRIu64 " for guest offset %" PRIu64 ": the image was changed while it "
			       "was read",
			       table, off);
	if (block_cache_get(q->cache, &q->owner_tables, s.host, (size_t)len + sizeof(facts), fill_l2, q, &b, e) < 0)
		return e->code;
	s.p = b->data;
	memcpy(&facts, b->data + len, sizeof(facts));
	s.checked = facts.checked;
	if (facts.hole)
		*ret = run_in_hole(q, &s, facts.hole, off, limit);
	else
		bad = run_in_slice(q, &s, off, limit, ret);
	block_cache_put(q->cache, b);
	if (!bad)
		return 0;
	return err_set(e, ERR_CORRUPT, "L2 entry at %" PRIu64 " for guest offset %" PRIu64 ": %s",
		       s.host + ((off - s.first) >> q->h.cluster_bits) * q->l2_entry_bytes, off, bad);
}

/*
 * Walks ask for the same L2 table many times.  It is remembered with the index of its L1 entry in one word, which any
 * thread may read and write: offsets are below 2^56 and multiples of 512.
 */
#define LAST_INDEX_BITS 17
#define LAST_INDEX_MASK (((uint64_t)1 << LAST_INDEX_BITS) - 1)

static uint64_t last_l2_get(const struct qcow2_state *st, uint64_t index)
{
	uint64_t last = atomic_load_explicit(&st->last_l2, memory_order_relaxed);

	return (last & LAST_INDEX_MASK) == index ? last >> LAST_INDEX_BITS << 9 : 0;
}

static void last_l2_set(struct qcow2_state *st, uint64_t index, uint64_t table)
{
	if (index <= LAST_INDEX_MASK && !(table & 511))
		atomic_store_explicit(&st->last_l2, table >> 9 << LAST_INDEX_BITS | index, memory_order_relaxed);
}

/* The L2 table of off's L1 entry; 0: none, and none either up to *ret_end. */
static int l2_table_at(struct qcow2 *q, struct qcow2_state *st, uint64_t off, uint64_t *ret_table, uint64_t *ret_end,
		       struct err *e)
{
	uint64_t bytes = (uint64_t)st->l1_size * 8, at = (off >> q->l1_shift) * 8,
		 slice = round_down(at, QCOW2_SLICE_BYTES), len = min_u64(bytes - slice, QCOW2_SLICE_BYTES);
	uint64_t table = last_l2_get(st, at / 8), end = at - slice + 8;
	const struct cache_block *b;

	if (!table) {
		if (block_cache_get(q->cache, &q->owner_tables, st->l1_offset + slice, (size_t)len, fill_l1, q, &b, e) <
		    0)
			return e->code;
		table = get_be64(b->data + (at - slice)) & QCOW2_OFFSET_MASK;
		for (; !table && end < len; end += 8)
			if (get_be64(b->data + end) & QCOW2_OFFSET_MASK)
				break;
		block_cache_put(q->cache, b);
		if (table)
			last_l2_set(st, at / 8, table);
	}
	*ret_table = table;
	*ret_end = (slice + end) / 8 << q->l1_shift;
	return 0;
}

int qcow2_run_at(struct qcow2 *q, uint32_t state, uint64_t off, uint64_t limit, struct qcow2_run *ret, struct err *e)
{
	struct qcow2_state *st = &q->st[state];
	uint64_t table = 0, end = 0;

	if (off >> q->l1_shift >= st->l1_size) {	/* an old snapshot without a size of its own */
		*ret = (struct qcow2_run){ .kind = QCOW2_RUN_HOLE, .len = limit };
		return 0;
	}
	if (l2_table_at(q, st, off, &table, &end, e) < 0)
		return e->code;
	if (table)
		return run_in_table(q, table, off, min_u64(limit, end - off), ret, e);
	*ret = (struct qcow2_run){ .kind = QCOW2_RUN_HOLE, .len = min_u64(limit, end - off) };
	return 0;
}
