/*
 * vmdk_write_sparse.c - a hosted sparse extent.
 *
 *	header, descriptor (of a disk in one file), directory and tables, directory and tables once more, grains
 *
 * All tables have their place from the start, as VMware has it; those without grains stay a hole of the file.  A grain
 * needs no more than its place, for the file begins as a hole.
 */
#include <inttypes.h>

#include "base/num.h"
#include "formats/vmdk/vmdk_write_internal.h"

#define FLAGS 3u	/* the line-end check is valid, and there is a redundant directory */

int vw_sparse_init(struct vw *v, struct vw_extent *x, struct err *e)
{
	bool embedded = v->subformat == VW_SPARSE;
	uint64_t dir_sectors, end;

	x->dir_entries = div_up(x->len, VW_GRAIN_BYTES * VW_TABLE_ENTRIES);
	dir_sectors = div_up(x->dir_entries * 4, VMDK_SECTOR);
	x->copy = 1 + (embedded ? VW_DESCRIPTOR_SECTORS : 0);
	x->dir = x->copy + dir_sectors + x->dir_entries * VW_TABLE_SECTORS;
	x->first = round_up(x->dir + dir_sectors + x->dir_entries * VW_TABLE_SECTORS, VW_GRAIN_SECTORS);
	/* Rounded up, and with all grains in the file, the last one must still be named in 32 bits. */
	if (!add_u64(x->first, round_up(x->len, VW_GRAIN_BYTES) / VMDK_SECTOR, &end) || end > VW_SECTOR_MAX) {
		(void)err_set(e, ERR_INVALID, "a disk of %" PRIu64 " bytes is too large for a sparse VMDK in one file",
			      x->len);
		return err_hint(e, "--subformat twoGbMaxExtentSparse or monolithicFlat can");
	}
	x->pages = calloc((size_t)x->dir_entries, sizeof(*x->pages));
	return x->pages ? 0 : err_set(e, ERR_NOMEM, "grain tables");
}

/* Where a grain is in the file, with a place given to it if it has none. */
static int place(struct vw_extent *x, uint64_t grain, uint64_t *ret_host, struct err *e)
{
	uint32_t **page = &x->pages[grain / VW_TABLE_ENTRIES], *entry;

	pthread_mutex_lock(&x->lock);
	if (!*page)
		*page = calloc(VW_TABLE_ENTRIES, sizeof(**page));
	entry = *page ? &(*page)[grain % VW_TABLE_ENTRIES] : NULL;
	if (entry && !*entry)
		*entry = ++x->grains;
	if (entry)
		*ret_host = x->first * VMDK_SECTOR + (*entry - 1) * VW_GRAIN_BYTES;
	pthread_mutex_unlock(&x->lock);
	return entry ? 0 : err_set(e, ERR_NOMEM, "grain table");
}

int vw_sparse_write(struct vw_extent *x, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	const uint8_t *from = buf;	/* [from, from+run) waits to be written at to */
	uint64_t to = 0, host = 0;
	size_t run = 0;

	for (size_t n; len; buf += n, len -= n, off += n) {
		n = (size_t)min_u64(len, VW_GRAIN_BYTES - off % VW_GRAIN_BYTES);
		if (bytes_all_zero(buf, n))
			continue;
		if (place(x, off / VW_GRAIN_BYTES, &host, e) < 0)
			return e->code;
		host += off % VW_GRAIN_BYTES;
		if (from + run != buf || to + run != host) {
			if (run && fs_pwrite_full(x->file.fd, from, run, to, e) < 0)
				return e->code;
			from = buf;
			to = host;
			run = 0;
		}
		run += n;
	}
	return run ? fs_pwrite_full(x->file.fd, from, run, to, e) : 0;
}

/* One of the two directories, at sector `at`, and the tables behind it. */
static int write_tables(const struct vw_extent *x, uint64_t at, struct err *e)
{
	uint64_t tables = at + div_up(x->dir_entries * 4, VMDK_SECTOR);
	uint8_t buf[VW_TABLE_ENTRIES * 4];

	for (uint64_t i = 0; i < x->dir_entries; i += VW_TABLE_ENTRIES) {
		size_t n = (size_t)min_u64(x->dir_entries - i, VW_TABLE_ENTRIES);

		for (size_t k = 0; k < n; k++)
			put_le32(buf + 4 * k, (uint32_t)(tables + (i + k) * VW_TABLE_SECTORS));
		if (fs_pwrite_full(x->file.fd, buf, n * 4, at * VMDK_SECTOR + i * 4, e) < 0)
			return e->code;
	}
	for (uint64_t i = 0; i < x->dir_entries; i++) {
		if (!x->pages[i])
			continue;
		for (size_t k = 0; k < VW_TABLE_ENTRIES; k++)
			put_le32(buf + 4 * k, x->pages[i][k] ? (uint32_t)(x->first + (uint64_t)(x->pages[i][k] - 1) *
										     VW_GRAIN_SECTORS) : 0);
		if (fs_pwrite_full(x->file.fd, buf, sizeof(buf), (tables + i * VW_TABLE_SECTORS) * VMDK_SECTOR, e) < 0)
			return e->code;
	}
	return 0;
}

int vw_sparse_end(const struct vw *v, struct vw_extent *x, struct err *e)
{
	bool embedded = v->subformat == VW_SPARSE;
	const struct vmdk_header h = {
		.version = 1, .flags = FLAGS, .capacity = x->len / VMDK_SECTOR, .grain = VW_GRAIN_SECTORS,
		.descriptor = embedded, .descriptor_len = embedded ? VW_DESCRIPTOR_SECTORS : 0,
		.table_entries = VW_TABLE_ENTRIES, .copy = x->copy, .dir = x->dir, .overhead = x->first,
	};
	uint64_t end = x->first * VMDK_SECTOR + x->grains * VW_GRAIN_BYTES;
	uint8_t p[512];

	if (FS_RETRY(ftruncate(x->file.fd, (off_t)end)) < 0)
		return err_sys(e, "size of the file");
	if (write_tables(x, x->copy, e) < 0 || write_tables(x, x->dir, e) < 0 ||
	    (embedded && vw_descriptor_embed(v, x->file.fd, e) < 0))
		return e->code;
	vw_header(p, &h);
	return fs_pwrite_full(x->file.fd, p, sizeof(p), 0, e);
}

void vw_sparse_done(struct vw_extent *x)
{
	for (uint64_t i = 0; x->pages && i < x->dir_entries; i++)
		free(x->pages[i]);
	free(x->pages);
	x->pages = NULL;
}
