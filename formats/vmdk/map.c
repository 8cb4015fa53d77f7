/*
 * map.c - from a guest offset to the run of one kind that begins there.
 *
 * One call stays within one extent, and in a sparse one within one table: so it is short, and next_extent and pread put
 * the pieces together.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk_internal.h"

#define HOLE_BYTES 1	/* behind a cached table: 1 = it lies in a hole of the file, all its entries are 0 */

static int fill_dir(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	const struct vmdk_sparse *s = opaque;

	return file_pread_full(&s->file->bytes, buf, len, key, e);
}

static int fill_table(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	const struct vmdk_sparse *s = opaque;
	uint8_t *p = buf;
	bool hole;

	if (vmdk_table_read(s, key, p, &hole, e) < 0)
		return e->code;
	p[len - HOLE_BYTES] = hole;
	return 0;
}

static enum extent_kind kind_of(const struct vmdk_grain *g)
{
	return g->kind == VMDK_GRAIN_HOLE ? EXTENT_HOLE : g->kind == VMDK_GRAIN_ZERO ? EXTENT_ZERO : EXTENT_DATA;
}

/* Where the next grain that the table names begins, if it is behind host: so much at most belongs to this one. */
static uint64_t next_host(const struct vmdk_sparse *s, const uint8_t *table, uint64_t i, uint64_t host)
{
	struct vmdk_grain g;

	while (++i < s->table_entries)
		if (!vmdk_grain_of(s, vmdk_entry_get(s, table, i), &g) && g.kind == VMDK_GRAIN_COMPRESSED)
			return g.host > host ? g.host : 0;
	return 0;
}

/* What a grain has past the end of the file is zeros, and costs nothing, however large grains are. */
static void cut_at_end(const struct vmdk_sparse *s, uint64_t within, struct vmdk_run *r)
{
	uint64_t size = s->file->bytes.size;

	if (r->host >= size) {		/* the grain begins in the file, and this is its rest */
		r->kind = EXTENT_ZERO;
		r->len = s->grain - within;
	} else {
		r->len = min_u64(r->len, size - r->host);
	}
}

/* The run from `in` (bytes into the extent) on, as far as the table shows it.  A bad entry behind the first ends the
 * run; it is found in its turn. */
static const char *run_in_table(const struct vmdk_sparse *s, const uint8_t *table, uint64_t in, uint64_t limit,
				struct vmdk_run *r)
{
	uint64_t i = in % s->span / s->grain, within = in & (s->grain - 1);
	struct vmdk_grain g, next;
	const char *bad = vmdk_grain_of(s, vmdk_entry_get(s, table, i), &g);

	if (bad)
		return bad;
	r->kind = kind_of(&g);
	r->len = s->grain - within;
	r->host = g.host + (g.kind == VMDK_GRAIN_DATA ? within : 0);
	r->compressed = g.kind == VMDK_GRAIN_COMPRESSED;
	if (r->compressed) {
		r->inner = (uint32_t)within;
		r->next = next_host(s, table, i, g.host);
	}
	while (!r->compressed && r->len < limit && ++i < s->table_entries) {
		if (vmdk_grain_of(s, vmdk_entry_get(s, table, i), &next) || next.kind != g.kind ||
		    (g.kind == VMDK_GRAIN_DATA && next.host != r->host + r->len))
			break;
		r->len += s->grain;
	}
	if (g.kind == VMDK_GRAIN_DATA)
		cut_at_end(s, within, r);
	r->len = min_u64(r->len, limit);
	return NULL;
}

static int table_run(struct vmdk *v, struct vmdk_sparse *s, uint64_t table, uint64_t in, uint64_t limit,
		     struct vmdk_run *r, struct err *e)
{
	size_t len = vmdk_table_bytes(s);
	const struct cache_block *b;
	const char *bad = NULL;

	limit = min_u64(limit, s->span - in % s->span);
	if (block_cache_get(v->cache, &s->file->owner_tables, table, len + HOLE_BYTES, fill_table, s, &b, e) < 0)
		return e->code;
	if (b->data[len]) {
		r->kind = EXTENT_HOLE;
		r->len = limit;
	} else {
		bad = run_in_table(s, b->data, in, limit, r);
	}
	block_cache_put(v->cache, b);
	if (!bad)
		return 0;
	return err_set(e, ERR_CORRUPT, "grain table entry at %" PRIu64 ": %s",
		       table + in % s->span / s->grain * s->entry_bytes, bad);
}

/* The entry of the directory at dir; *ret_zeros is how many entries from it on are 0, as far as the slice shows. */
static int dir_entry(struct vmdk *v, struct vmdk_sparse *s, uint64_t dir, uint64_t index, uint64_t *ret,
		     uint64_t *ret_zeros, struct err *e)
{
	uint64_t bytes = s->dir_entries * s->entry_bytes, at = index * s->entry_bytes,
		 slice = round_down(at, VMDK_SLICE_BYTES);
	size_t len = (size_t)min_u64(bytes - slice, VMDK_SLICE_BYTES), i = (size_t)(at - slice) / s->entry_bytes;
	const struct cache_block *b;
	uint64_t n = 0;

	if (block_cache_get(v->cache, &s->file->owner_tables, dir + slice, len, fill_dir, s, &b, e) < 0)
		return e->code;
	*ret = vmdk_entry_get(s, b->data, i);
	while (i + n < len / s->entry_bytes && !vmdk_entry_get(s, b->data, i + n))
		n++;
	block_cache_put(v->cache, b);
	*ret_zeros = n;
	return 0;
}

static int sparse_run(struct vmdk *v, struct vmdk_extent *x, uint64_t in, uint64_t limit, struct vmdk_run *r,
		      struct err *e)
{
	struct vmdk_sparse *s = x->sparse;
	uint64_t index = in / s->span, value = 0, zeros = 0, table, end;

	if (dir_entry(v, s, vmdk_dir_for(s, index), index, &value, &zeros, e) < 0)
		return e->code;
	if (value) {
		if (vmdk_table_of(s, value, &table))
			return err_set(e, ERR_CHANGED, "the image was changed while it was read");
		return table_run(v, s, table, in, limit, r, e);
	}
	r->kind = EXTENT_HOLE;
	r->len = mul_u64(index + zeros, s->span, &end) ? min_u64(limit, end - in) : limit;
	return 0;
}

/* A flat file is all there: what its file system calls a hole is zeros, and masks the parent. */
static int flat_run(struct vmdk_extent *x, uint64_t in, uint64_t limit, struct vmdk_run *r, struct err *e)
{
	uint64_t at = x->offset + in, end = at + limit, size = x->file->bytes.size;
	bool data = false;

	if (at < size) {
		if (x->file->id->block_device) {
			data = true;
			end = min_u64(end, size);
		} else if (file_next_data(&x->file->bytes, at, min_u64(end, size), &data, &end, e) < 0) {
			return e->code;
		}
	}
	r->kind = data ? EXTENT_DATA : EXTENT_ZERO;
	r->len = end - at;
	r->host = at;
	return 0;
}

static struct vmdk_extent *extent_at(struct vmdk *v, uint64_t off)
{
	size_t lo = 0, hi = v->nextents;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->extents[mid].start <= off)
			lo = mid;
		else
			hi = mid;
	}
	return &v->extents[lo];
}

int vmdk_at(const struct vmdk *v, const struct vmdk_extent *x, uint64_t off, struct err *e)
{
	char q[300];

	if (x->file && x->file != v->files)
		(void)err_ctx(e, "extent %s", text_quote(x->file->path, q, sizeof(q)));
	return err_ctx(e, "guest offset %" PRIu64, off);
}

int vmdk_run_at(struct vmdk *v, uint64_t off, uint64_t limit, struct vmdk_run *ret, struct err *e)
{
	struct vmdk_extent *x = extent_at(v, off);
	uint64_t in = off - x->start;
	struct vmdk_run r = { .kind = EXTENT_ZERO, .extent = x };
	int err = 0;

	limit = min_u64(limit, x->len - in);
	if (x->kind == VMDK_ZERO || x->access == VMDK_NOACCESS)
		r.len = limit;
	else if (!x->file)
		return err_set(e, ERR_INVALID, "its extents are not open");
	else if (x->sparse)
		err = sparse_run(v, x, in, limit, &r, e);
	else
		err = flat_run(x, in, limit, &r, e);
	if (err < 0)
		return vmdk_at(v, x, off, e);
	*ret = r;
	return 0;
}
