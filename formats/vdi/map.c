/*
 * map.c - the block map: where each block's data are.
 *
 * An entry is checked when the image is opened, for what it means to others (no data belong to two blocks), and again
 * when it is used, for itself: the file can change under us.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/vdi/vdi_internal.h"

/* Bytes of a block that the disk has: the last one may be cut off. */
static uint64_t block_bytes(const struct vdi *v, uint32_t block)
{
	uint64_t at = (uint64_t)block * v->h.block_size;

	return at < v->current.size ? min_u64(v->h.block_size, v->current.size - at) : 0;
}

/* Entries from first on, of a slice. */
static int read_entries(struct vdi *v, uint64_t first, void *buf, size_t len, struct err *e)
{
	if (file_pread_full(&v->im.file, buf, len, v->h.map_offset + first * 4, e) < 0)
		return err_ctx(e, "block map at %" PRIu64, v->h.map_offset + first * 4);
	return 0;
}

/* Where the data of an allocated block begin. */
static int place(const struct vdi *v, uint32_t block, uint32_t index, uint64_t *ret_host, struct err *e)
{
	uint64_t entry_at = v->h.map_offset + (uint64_t)block * 4, size = v->im.file.size, need, host;

	if (index >= v->h.blocks)
		return err_set(e, ERR_CORRUPT,
			       "block map entry at %" PRIu64 ": block %" PRIu32 " lies in place %" PRIu32
			       ", the image has %" PRIu32,
			       entry_at, block, index, v->h.blocks);
	/* below 2^32 * 2^32 + 2^34: no overflow */
	host = v->h.data_offset + (uint64_t)index * ((uint64_t)v->h.block_size + v->h.extra) + v->h.extra;
	need = block_bytes(v, block);
	if (!range_ok(host, need, size))
		return err_set(e, ERR_CORRUPT,
			       "block map entry at %" PRIu64 ": the data of block %" PRIu32 ", %" PRIu64
			       " bytes at %" PRIu64 ", reach past the end of the file at %" PRIu64,
			       entry_at, block, need, host, size);
	*ret_host = host;
	return 0;
}

int vdi_map_check(struct vdi *v, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *used = calloc((size_t)v->h.blocks / 8 + 1, 1);
	CLEANUP(free_ptr) uint8_t *buf = malloc((size_t)VDI_SLICE_ENTRIES * 4);
	uint64_t host;

	if (!used || !buf)
		return err_set(e, ERR_NOMEM, "block map of %" PRIu32 " entries", v->h.blocks);
	for (uint32_t block = 0, n; block < v->h.blocks; block += n) {
		n = (uint32_t)min_u64(VDI_SLICE_ENTRIES, v->h.blocks - block);
		if (read_entries(v, block, buf, (size_t)n * 4, e) < 0)
			return e->code;
		for (uint32_t i = 0; i < n; i++) {
			uint32_t index = get_le32(buf + (size_t)i * 4);

			if (index == VDI_FREE || index == VDI_ZERO)
				continue;
			if (place(v, block + i, index, &host, e) < 0)
				return e->code;
			if (index >= v->h.allocated && !v->note[0])
				(void)snprintf(
					v->note, sizeof(v->note),
					"block map entry at %" PRIu64 ": block %" PRIu32 " lies in place %" PRIu32
					", the header counts %" PRIu32 " places in use",
					v->h.map_offset + ((uint64_t)block + i) * 4, block + i, index, v->h.allocated);
			if (used[index / 8] & (1u << (index % 8)))
				return err_set(e, ERR_CORRUPT,
					       "block map entry at %" PRIu64 ": the data in place %" PRIu32
					       " belong to two blocks",
					       v->h.map_offset + ((uint64_t)block + i) * 4, index);
			used[index / 8] |= (uint8_t)(1u << (index % 8));
		}
	}
	return 0;
}

static int fill_slice(void *opaque, uint64_t key, void *buf, size_t len, struct err *e)
{
	return read_entries(opaque, key * VDI_SLICE_ENTRIES, buf, len, e);
}

/* What an entry says, with the place of allocated ones. */
static int entry_kind(const struct vdi *v, uint32_t block, uint32_t index, enum extent_kind *ret_kind,
		      uint64_t *ret_host, struct err *e)
{
	*ret_host = 0;
	*ret_kind = index == VDI_FREE ? EXTENT_HOLE : index == VDI_ZERO ? EXTENT_ZERO : EXTENT_DATA;
	return *ret_kind == EXTENT_DATA ? place(v, block, index, ret_host, e) : 0;
}

/* Entries [block, end) of a slice that begins at first: how many from the first on are one run. */
static int run_length(const struct vdi *v, const uint8_t *slice, uint32_t first, uint32_t block, uint32_t end,
		      enum extent_kind *ret_kind, uint64_t *ret_host, uint32_t *ret_n, struct err *e)
{
	struct err later = ERR_INIT;	/* of an entry behind the first: found again in its turn */
	uint32_t n = 1;

	if (entry_kind(v, block, get_le32(slice + (size_t)(block - first) * 4), ret_kind, ret_host, e) < 0)
		return e->code;
	for (; block + n < end; n++) {
		enum extent_kind kind;
		uint64_t host;

		if (entry_kind(v, block + n, get_le32(slice + (size_t)(block + n - first) * 4), &kind, &host,
			       &later) < 0 ||
		    kind != *ret_kind)
			break;
		if (kind == EXTENT_DATA && host != *ret_host + (uint64_t)n * v->h.block_size)
			break;
	}
	*ret_n = n;
	return 0;
}

int vdi_run_at(struct vdi *v, uint64_t off, uint64_t limit, enum extent_kind *ret_kind, uint64_t *ret_host,
	       uint64_t *ret_len, struct err *e)
{
	uint32_t block = (uint32_t)(off / v->h.block_size), first = block - block % VDI_SLICE_ENTRIES, n;
	uint64_t in = off % v->h.block_size, last = (off + limit - 1) / v->h.block_size, host;
	uint32_t entries = (uint32_t)min_u64(VDI_SLICE_ENTRIES, v->h.blocks - first);
	const struct cache_block *slice;
	enum extent_kind kind;
	int r;

	if (block_cache_get(v->cache, &v->owner, first / VDI_SLICE_ENTRIES, (size_t)entries * 4, fill_slice, v, &slice,
			    e) < 0)
		return e->code;
	r = run_length(v, slice->data, first, block, (uint32_t)min_u64(last + 1, (uint64_t)first + entries), &kind,
		       &host, &n, e);
	block_cache_put(v->cache, slice);
	if (r < 0)
		return r;
	*ret_kind = kind;
	*ret_host = host + in;
	*ret_len = min_u64((uint64_t)n * v->h.block_size - in, limit);
	return 0;
}
