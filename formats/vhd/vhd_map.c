/*
 * vhd_map.c - where a guest offset lies: the table names a block's place, the block's bitmap says which sectors are
 * there.  Only a differencing image's bitmap is believed: other writers' are all ones or not kept (Virtual PC, QEMU).
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/vec.h"
#include "formats/file.h"
#include "formats/bits.h"
#include "formats/vhd/vhd_internal.h"

/* Bytes of a block that the disk uses: the last may be short. */
static uint64_t block_used(const struct vhd *v, uint64_t block)
{
	return min_u64(v->h.block_size, v->f.size - (block << v->block_bits));
}

/* What is wrong with a block whose bitmap is at file offset at, or NULL. */
static const char *place_bad(const struct vhd *v, uint64_t block, uint64_t at)
{
	uint64_t span = v->bitmap_bytes + block_used(v, block), table = (uint64_t)v->h.entries * 4;

	if (!range_ok(at, span, v->data_end))
		return "is outside the file's data";
	if (at < VHD_FOOTER_BYTES || (at < v->f.data_offset + VHD_HEADER_BYTES && v->f.data_offset < at + span))
		return "overlaps the header";
	if (at < v->h.table_offset + table && v->h.table_offset < at + span)
		return "overlaps the table";
	return NULL;
}

static int fill(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	return file_pread_full(&((struct vhd *)opaque)->im.file, buf, len, key, e);
}

static int bad_entry(const struct vhd *v, uint64_t block, uint64_t at, const char *bad, struct err *e)
{
	return err_set(e, ERR_CORRUPT,
		       "table entry at %" PRIu64 " for guest offset %" PRIu64 ": block at %" PRIu64 " %s",
		       v->h.table_offset + block * 4, block << v->block_bits, at, bad);
}

int vhd_each_block(struct vhd *v, vhd_block_fn fn, void *opaque, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(VHD_SLICE_BYTES);
	uint64_t blocks = div_up(v->f.size, v->h.block_size);

	if (!buf)
		return err_set(e, ERR_NOMEM, "block table");
	for (uint64_t first = 0, n; first < blocks; first += n) {
		n = min_u64(blocks - first, VHD_SLICE_BYTES / 4);
		if (file_pread_full(&v->im.file, buf, (size_t)n * 4, v->h.table_offset + first * 4, e) < 0)
			return err_ctx(e, "block table");
		for (uint64_t i = 0; i < n; i++) {
			uint32_t sector = get_be32(buf + i * 4);

			if (sector != VHD_NO_BLOCK && fn(v, first + i, (uint64_t)sector * VHD_SECTOR, opaque, e) < 0)
				return e->code;
		}
	}
	return 0;
}

struct scan {
	VEC(uint32_t) starts;	/* sectors */
	bool sorted;
	uint32_t last;		/* where the disk's last block is, which may be short; VHD_NO_BLOCK */
};

static int scan_block(struct vhd *v, uint64_t block, uint64_t at, void *opaque, struct err *e)
{
	const char *bad = place_bad(v, block, at);
	struct scan *s = opaque;
	uint32_t *slot;

	if (bad)
		return bad_entry(v, block, at, bad, e);
	if (s->starts.n == VHD_BLOCKS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "more than %" PRIu64 " blocks of %" PRIu32 " bytes", VHD_BLOCKS_MAX,
			       v->h.block_size);
	slot = VEC_PUSH(&s->starts, e);
	if (!slot)
		return e->code;
	*slot = (uint32_t)(at / VHD_SECTOR);
	if (s->starts.n > 1 && slot[-1] >= *slot)
		s->sorted = false;
	if (block == (v->f.size - 1) >> v->block_bits)
		s->last = *slot;
	return 0;
}

static int compare_sectors(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int vhd_scan(struct vhd *v, struct err *e)
{
	struct scan s = { .sorted = true, .last = VHD_NO_BLOCK };
	int r = vhd_each_block(v, scan_block, &s, e);

	if (r == 0 && !s.sorted)
		qsort(s.starts.p, s.starts.n, sizeof(*s.starts.p), compare_sectors);
	for (size_t i = 1; r == 0 && i < s.starts.n; i++) {
		uint64_t at = (uint64_t)s.starts.p[i - 1] * VHD_SECTOR, next = (uint64_t)s.starts.p[i] * VHD_SECTOR;
		uint64_t used = s.starts.p[i - 1] == s.last ? block_used(v, (v->f.size - 1) >> v->block_bits)
							    : v->h.block_size;

		if (at + v->bitmap_bytes + used > next)
			r = err_set(e, ERR_CORRUPT, "block table: blocks at %" PRIu64 " and %" PRIu64 " overlap", at,
				    next);
	}
	VEC_DONE(&s.starts);
	return r;
}

/* The entry of a block; for an absent one also how many absent ones follow in the table's piece (itself included). */
static int entry_at(struct vhd *v, uint64_t block, uint32_t *ret, uint64_t *ret_absent, struct err *e)
{
	uint64_t per = VHD_SLICE_BYTES / 4, first = round_down(block, per);
	uint64_t n = min_u64(per, v->h.entries - first), i = block - first;
	const struct cache_block *b;
	int r = block_cache_get(v->cache, &v->owner_table, v->h.table_offset + first * 4, (size_t)n * 4, fill, v, &b,
				e);

	if (r < 0)
		return r;
	*ret = get_be32(b->data + i * 4);
	for (*ret_absent = 0; i < n && get_be32(b->data + i * 4) == VHD_NO_BLOCK; i++)
		++*ret_absent;
	block_cache_put(v->cache, b);
	return 0;
}

/* Sectors of a differencing image's block: those that are here, or those that the parent has. */
static int run_in_bitmap(struct vhd *v, uint64_t at, uint64_t within, struct vhd_run *r, struct err *e)
{
	uint64_t sectors = v->h.block_size / VHD_SECTOR, first = within / VHD_SECTOR, n;
	const struct cache_block *b;
	bool here;

	if (block_cache_get(v->cache, &v->owner_bitmaps, at, v->bitmap_bytes, fill, v, &b, e) < 0)
		return err_ctx(e, "sector bitmap at %" PRIu64, at);
	n = bits_run(b->data, first, sectors, true, &here);
	block_cache_put(v->cache, b);
	if (!here)
		r->kind = EXTENT_HOLE;
	r->len = min_u64(r->len, (first + n) * VHD_SECTOR - within);
	return 0;
}

int vhd_run_at(struct vhd *v, uint64_t off, uint64_t limit, struct vhd_run *ret, struct err *e)
{
	uint64_t block = off >> v->block_bits, within = off & (v->h.block_size - 1), absent, at;
	struct vhd_run r = { .kind = EXTENT_DATA };
	const char *bad;
	uint32_t sector;

	if (entry_at(v, block, &sector, &absent, e) < 0)
		return e->code;
	if (sector == VHD_NO_BLOCK) {
		r.kind = EXTENT_HOLE;
		r.len = min_u64(limit, (absent << v->block_bits) - within);
		*ret = r;
		return 0;
	}
	at = (uint64_t)sector * VHD_SECTOR;
	bad = place_bad(v, block, at);	/* again: the file may have changed, or be opened by force */
	if (bad)
		return bad_entry(v, block, at, bad, e);
	r.host = at + v->bitmap_bytes + within;
	r.len = min_u64(limit, v->h.block_size - within);
	if (v->f.type == VHD_DIFFERENCING && run_in_bitmap(v, at, within, &r, e) < 0)
		return e->code;
	*ret = r;
	return 0;
}
