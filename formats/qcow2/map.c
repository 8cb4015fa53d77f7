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

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"

#define SUBCLUSTERS 32
#define HOLE_BYTES sizeof(uint64_t)

/* What one decision found: the run from the asked-for unit on, within its cluster. */
struct piece {
	enum qcow2_run_kind kind;
	uint32_t units;
	uint64_t host;		/* DATA: of the first unit */
};

static int fill_l1(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	const struct qcow2 *q = opaque;

	return fs_pread_full(q->im.fd, buf, len, key, e);
}

/*
 * A slice of an L2 table, and HOLE_BYTES behind it: if all of the slice is in a hole of the file, how many bytes of the
 * table are from the slice on, else 0.  A file that names its own holes as tables is small but its tables are not: they
 * must cost one look each, not their size.
 */
static int fill_l2(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	const struct qcow2 *q = opaque;
	uint64_t stop, hole = 0;
	size_t slice = len - HOLE_BYTES;
	bool data;

	if (file_next_data(q->im.fd, key, round_down(key, q->cluster_size) + q->cluster_size, &data, &stop, e) < 0)
		return e->code;
	if (!data && stop - key >= slice) {
		hole = stop - key;
		memset(buf, 0, slice);
	} else if (fs_pread_full(q->im.fd, buf, slice, key, e) < 0) {
		return e->code;
	}
	memcpy((uint8_t *)buf + slice, &hole, HOLE_BYTES);
	return 0;
}

/* Is every host cluster that [host, host+len) touches free of metadata?  NULL: yes. */
static const char *aliased(const struct qcow2 *q, uint64_t host, uint64_t len)
{
	uint64_t end = min_u64(host + len, q->im.identity.size);

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
	if (host >= q->im.identity.size)
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
	if (!zero && host >= q->im.identity.size)
		return "the host offset is outside the file";
	return aliased(q, host, q->cluster_size);
}

/* Decides for unit `unit` of the cluster at guest offset `guest`.  NULL, or what is wrong with the entry. */
static const char *decide(const struct qcow2 *q, uint64_t guest, uint64_t v, uint64_t bitmap, uint32_t unit,
			  struct piece *ret)
{
	uint64_t host = v & QCOW2_OFFSET_MASK;
	uint32_t alloc = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32), same;
	bool allocated = host || (q->data_file && v & QCOW2_COPIED);
	const char *bad;

	if (!v && !bitmap) {
		*ret = (struct piece){ QCOW2_RUN_HOLE, (q->extl2 ? SUBCLUSTERS : 1) - unit, 0 };
		return NULL;
	}
	if (v & QCOW2_COMPRESSED) {
		*ret = (struct piece){ QCOW2_RUN_COMPRESSED, (q->extl2 ? SUBCLUSTERS : 1) - unit, 0 };
		return check_compressed(q, v, bitmap);
	}
	bad = check_plain(q, guest, v);
	if (bad)
		return bad;
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
};

static const char *decide_at(const struct qcow2 *q, const struct slice *s, uint64_t off, struct piece *ret,
			     uint64_t *ret_entry)
{
	uint64_t rel = off - s->first;
	const uint8_t *p = s->p + (rel >> q->h.cluster_bits) * q->l2_entry_bytes;
	uint32_t unit = (uint32_t)((rel & (q->cluster_size - 1)) >> q->unit_bits);

	*ret_entry = get_be64(p);
	return decide(q, round_down(off, q->cluster_size), *ret_entry, q->extl2 ? get_be64(p + 8) : 0, unit, ret);
}

static uint64_t slice_end(const struct qcow2 *q, const struct slice *s)
{
	return s->first + ((uint64_t)s->entries << q->h.cluster_bits);
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
	uint64_t hole;

	if (table & (q->cluster_size - 1) || !range_ok(table, q->cluster_size, q->im.identity.size))
		return err_set(e, ERR_CHANGED,
			       "L2 table at %" PRIu64 " for guest offset %" PRIu64 ": the image was changed while it "
			       "was read",
			       table, off);
	if (block_cache_get(q->cache, &q->owner_tables, s.host, (size_t)len + HOLE_BYTES, fill_l2, q, &b, e) < 0)
		return e->code;
	s.p = b->data;
	memcpy(&hole, b->data + len, HOLE_BYTES);
	if (hole)
		*ret = run_in_hole(q, &s, hole, off, limit);
	else
		bad = run_in_slice(q, &s, off, limit, ret);
	block_cache_put(q->cache, b);
	if (!bad)
		return 0;
	return err_set(e, ERR_CORRUPT, "L2 entry at %" PRIu64 " for guest offset %" PRIu64 ": %s",
		       s.host + ((off - s.first) >> q->h.cluster_bits) * q->l2_entry_bytes, off, bad);
}

int qcow2_run_at(struct qcow2 *q, uint32_t state, uint64_t off, uint64_t limit, struct qcow2_run *ret, struct err *e)
{
	const struct qcow2_state *st = &q->st[state];
	uint64_t bytes = (uint64_t)st->l1_size * 8, at = (off >> q->l1_shift) * 8,
		 slice = round_down(at, QCOW2_SLICE_BYTES);
	uint64_t table, end, len;
	const struct cache_block *b;

	if (at >= bytes) {	/* an old snapshot without a size of its own */
		*ret = (struct qcow2_run){ .kind = QCOW2_RUN_HOLE, .len = limit };
		return 0;
	}
	len = min_u64(bytes - slice, QCOW2_SLICE_BYTES);
	if (block_cache_get(q->cache, &q->owner_tables, st->l1_offset + slice, (size_t)len, fill_l1, q, &b, e) < 0)
		return e->code;
	table = get_be64(b->data + (at - slice)) & QCOW2_OFFSET_MASK;
	for (end = at - slice + 8; !table && end < len; end += 8)
		if (get_be64(b->data + end) & QCOW2_OFFSET_MASK)
			break;
	block_cache_put(q->cache, b);
	if (table)
		return run_in_table(q, table, off, min_u64(limit, (((off >> q->l1_shift) + 1) << q->l1_shift) - off),
				    ret, e);
	*ret = (struct qcow2_run){ .kind = QCOW2_RUN_HOLE, .len = min_u64(limit, ((slice + end) / 8 << q->l1_shift) - off) };
	return 0;
}
