/*
 * vhdx_map.c - where a guest offset lies: the table has an entry for each block and, after each chunk of blocks, one
 * for the chunk's sector bitmap, one bit a sector from the lowest bit of the first byte on.
 */
#include <inttypes.h>

#include "formats/bits.h"
#include "formats/vhdx/vhdx_internal.h"

#define PLACES_END ((uint64_t)1 << 32)	/* in MiB: no file is larger than 4 PiB */

uint64_t vhdx_blocks(const struct vhdx *v)
{
	return div_up(v->m.size, v->m.block_size);
}

/* Number of a block's table entry, and of the bitmap's of the chunk it is in. */
static uint64_t block_index(const struct vhdx *v, uint64_t block)
{
	return block + block / v->chunk_blocks;
}

static uint64_t bitmap_index(const struct vhdx *v, uint64_t block)
{
	return block / v->chunk_blocks * (v->chunk_blocks + 1) + v->chunk_blocks;
}

static bool is_bitmap(const struct vhdx *v, uint64_t index)
{
	return index % (v->chunk_blocks + 1) == v->chunk_blocks;
}

static uint64_t index_block(const struct vhdx *v, uint64_t index)
{
	return index - index / (v->chunk_blocks + 1);
}

/* Bytes of a block that the disk uses: the last may be short, and so may its place be. */
static uint64_t block_used(const struct vhdx *v, uint64_t block)
{
	return min_u64(v->m.block_size, v->m.size - (block << v->block_bits));
}

static bool meets(uint64_t at, uint64_t len, uint64_t start, uint64_t n)
{
	return n && at < start + n && start < at + len;
}

/* What is wrong with len bytes at a place that the table names, or NULL. */
static const char *place_bad(const struct vhdx *v, uint64_t at, uint64_t len)
{
	if (at < VHDX_UNIT)
		return "lies in the headers";
	if (at / VHDX_UNIT >= PLACES_END || !range_ok(at, len, v->size))
		return "is outside the file";
	if (meets(at, len, v->h.log_offset, v->h.log_length))
		return "overlaps the log";
	if (meets(at, len, v->bat.offset, v->bat.length))
		return "overlaps the block allocation table";
	if (meets(at, len, v->metadata.offset, v->metadata.length))
		return "overlaps the metadata";
	return NULL;
}

static uint64_t place(uint64_t entry)
{
	return entry >> 20 << 20;
}

static int bad_entry(const struct vhdx *v, uint64_t index, uint64_t entry, const char *bad, struct err *e)
{
	return err_set(e, ERR_CORRUPT, "table entry at %" PRIu64 " for %s %" PRIu64 ", 0x%016" PRIx64 ": %s",
		       v->bat.offset + index * 8, is_bitmap(v, index) ? "the sector bitmap of chunk" : "guest offset",
		       is_bitmap(v, index) ? index / (v->chunk_blocks + 1) : index_block(v, index) << v->block_bits,
		       entry, bad);
}

/* What is wrong with an entry in itself, or NULL.  *ret_len: bytes at its place that are read, 0 = none. */
static const char *entry_bad(const struct vhdx *v, uint64_t index, uint64_t entry, uint64_t *ret_len)
{
	unsigned state = entry & VHDX_ENTRY_STATE;

	*ret_len = 0;
	if (is_bitmap(v, index)) {
		if (!v->m.has_parent)	/* nobody reads them */
			return NULL;
		if (state != VHDX_NOT_PRESENT && state != VHDX_FULLY_PRESENT)
			return "no state that a sector bitmap has";
		*ret_len = state == VHDX_FULLY_PRESENT ? VHDX_BITMAP_BYTES : 0;
	} else if (state == VHDX_FULLY_PRESENT || (state == VHDX_PARTIALLY_PRESENT && v->m.has_parent)) {
		*ret_len = block_used(v, index_block(v, index));
	} else if (state > VHDX_UNMAPPED) {
		return state == VHDX_PARTIALLY_PRESENT ? "a block in parts, and the disk has no parent"
						       : "an unknown state";
	}
	if (entry & VHDX_ENTRY_RESERVED)
		return "reserved bits are set";
	return *ret_len ? place_bad(v, place(entry), *ret_len) : NULL;
}

static int fill(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	return vhdx_read(opaque, buf, len, key, e);
}

int vhdx_each_entry(struct vhdx *v, vhdx_entry_fn fn, void *opaque, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(VHDX_SLICE_BYTES);
	uint64_t at = v->bat.offset, end = at + v->entries * 8, stop;
	size_t len;
	bool data;

	if (!buf)
		return err_set(e, ERR_NOMEM, "block allocation table");
	while (at < end) {
		if (vhdx_next_data(v, at, end, &data, &stop, e) < 0)
			return e->code;
		if (!data) {
			at = round_down(stop, 8);	/* holes end at more than 8, or at the end */
			if (stop >= end)
				break;
		}
		len = (size_t)min_u64(end - at, VHDX_SLICE_BYTES);
		if (vhdx_read(v, buf, len, at, e) < 0)
			return err_ctx(e, "block allocation table");
		for (size_t i = 0; i < len; i += 8) {
			uint64_t entry = get_le64(buf + i);

			if (entry && fn(v, (at - v->bat.offset + i) / 8, entry, opaque, e) < 0)
				return e->code;
		}
		at += len;
	}
	return 0;
}

/* ---- at open ---- */

struct place {
	uint32_t start, len;	/* MiB; the length rounded up */
};

struct scan {
	VEC(struct place) places;
	bool sorted;
};

static int scan_entry(struct vhdx *v, uint64_t index, uint64_t entry, void *opaque, struct err *e)
{
	struct scan *s = opaque;
	struct place *slot;
	const char *bad;
	uint64_t len;

	bad = entry_bad(v, index, entry, &len);
	if (bad)
		return bad_entry(v, index, entry, bad, e);
	if (!len)
		return 0;
	if (s->places.n == VHDX_BLOCKS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "more than %zu blocks of %" PRIu32 " bytes", VHDX_BLOCKS_MAX,
			       v->m.block_size);
	slot = VEC_PUSH(&s->places, e);
	if (!slot)
		return e->code;
	*slot = (struct place){ (uint32_t)(place(entry) / VHDX_UNIT), (uint32_t)div_up(len, VHDX_UNIT) };
	if (s->places.n > 1 && slot[-1].start >= slot->start)
		s->sorted = false;
	return 0;
}

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

int vhdx_scan(struct vhdx *v, struct err *e)
{
	struct scan s = { .sorted = true };
	int r = vhdx_each_entry(v, scan_entry, &s, e);

	if (r == 0 && !s.sorted)
		qsort(s.places.p, s.places.n, sizeof(*s.places.p), compare_places);
	for (size_t i = 1; r == 0 && i < s.places.n; i++) {
		const struct place *a = &s.places.p[i - 1], *b = a + 1;

		if ((uint64_t)a->start + a->len > b->start)
			r = err_set(e, ERR_CORRUPT,
				    "block allocation table: blocks at %" PRIu64 " and %" PRIu64 " overlap",
				    a->start * VHDX_UNIT, b->start * VHDX_UNIT);
	}
	VEC_DONE(&s.places);
	return r;
}

/* ---- reading ---- */

/* How many blocks' entries from number first on lie in a hole of the file, or of what its log wrote. */
static int blocks_in_hole(struct vhdx *v, uint64_t first, uint64_t *ret, struct err *e)
{
	uint64_t start = v->bat.offset + first * 8, end = v->bat.offset + v->entries * 8, stop, last;
	uint64_t group = v->chunk_blocks + 1;
	bool data;

	*ret = 0;
	if (start >= end)
		return 0;
	if (vhdx_next_data(v, start, end, &data, &stop, e) < 0)
		return e->code;
	last = (stop - v->bat.offset) / 8;
	if (!data && last > first)	/* bitmaps' entries are the last of each group */
		*ret = last - first - (last / group - first / group);
	return 0;
}

/* Entry number index; and how many from there on in the table's piece, bitmaps' left out, are as empty as it is.  A
 * table may be one large hole: that is seen at once. */
static int entry_at(struct vhdx *v, uint64_t index, uint64_t *ret, uint64_t *ret_same, struct err *e)
{
	uint64_t per = VHDX_SLICE_BYTES / 8, first = round_down(index, per);
	uint64_t n = min_u64(per, v->entries - first), i = index - first, entry, state;
	const struct cache_block *b;

	if (block_cache_get(v->cache, &v->owner_table, v->bat.offset + first * 8, (size_t)n * 8, fill, v, &b, e) < 0)
		return err_ctx(e, "block allocation table");
	entry = get_le64(b->data + i * 8);
	state = entry & VHDX_ENTRY_STATE;
	*ret_same = 1;
	for (i++; i < n && state <= VHDX_UNMAPPED; i++) {
		if (is_bitmap(v, first + i))
			continue;
		if ((get_le64(b->data + i * 8) & (VHDX_ENTRY_STATE | VHDX_ENTRY_RESERVED)) != state)
			break;
		++*ret_same;
	}
	block_cache_put(v->cache, b);
	if (!entry && i == n) {
		uint64_t more;

		if (blocks_in_hole(v, first + n, &more, e) < 0)
			return e->code;
		*ret_same += more;
	}
	*ret = entry;
	return 0;
}

/* Sectors of a block that is here in parts. */
static int run_in_bitmap(struct vhdx *v, uint64_t block, uint64_t within, struct vhdx_run *r, struct err *e)
{
	uint64_t sectors = v->m.block_size / v->m.sector, index = bitmap_index(v, block), entry, len, unused, n, at;
	const struct cache_block *b;
	const char *bad;
	bool here;

	if (entry_at(v, index, &entry, &unused, e) < 0)
		return e->code;
	bad = entry_bad(v, index, entry, &len);
	if (!bad && !len)
		bad = "a block in parts, and no sector bitmap";
	if (bad)
		return bad_entry(v, index, entry, bad, e);
	at = place(entry) + block % v->chunk_blocks * sectors / 8;
	if (block_cache_get(v->cache, &v->owner_bitmaps, at, (size_t)(sectors / 8), fill, v, &b, e) < 0)
		return err_ctx(e, "sector bitmap at %" PRIu64, at);
	n = bits_run(b->data, within / v->m.sector, sectors, false, &here);
	block_cache_put(v->cache, b);
	if (!here)
		r->kind = EXTENT_HOLE;
	r->len = min_u64(r->len, (within / v->m.sector + n) * v->m.sector - within);
	return 0;
}

int vhdx_run_at(struct vhdx *v, uint64_t off, uint64_t limit, struct vhdx_run *ret, struct err *e)
{
	uint64_t block = off >> v->block_bits, within = off & (v->m.block_size - 1), index = block_index(v, block);
	struct vhdx_run r = { .kind = EXTENT_DATA };
	uint64_t entry, same, len;
	const char *bad;

	if (entry_at(v, index, &entry, &same, e) < 0)
		return e->code;
	bad = entry_bad(v, index, entry, &len);	/* again: the file may have changed, or be opened by force */
	if (bad)
		return bad_entry(v, index, entry, bad, e);
	if (!len) {
		/* Undefined and unmapped blocks must not show a parent's bytes. */
		r.kind = (entry & VHDX_ENTRY_STATE) == VHDX_NOT_PRESENT ? EXTENT_HOLE : EXTENT_ZERO;
		r.len = min_u64(limit, (same << v->block_bits) - within);
		*ret = r;
		return 0;
	}
	r.host = place(entry) + within;
	r.len = min_u64(limit, v->m.block_size - within);
	if ((entry & VHDX_ENTRY_STATE) == VHDX_PARTIALLY_PRESENT && run_in_bitmap(v, block, within, &r, e) < 0)
		return e->code;
	*ret = r;
	return 0;
}
