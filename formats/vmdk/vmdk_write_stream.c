/*
 * vmdk_write_stream.c - streamOptimized: a file that is written from its beginning to its end.
 *
 *	header, descriptor; then grains, each behind its LBA and size; behind the grains of a table a marker and the
 *	table; marker and directory; marker and footer, the header with the directory's place; end marker
 *
 * Grains come in the disk's order; each goes through the worker pool and comes back in the order it went in, so the file
 * doesn't depend on the number of threads.
 */
#include <inttypes.h>
#include <libdeflate.h>

#include "base/num.h"
#include "base/workers.h"
#include "formats/vmdk/vmdk_write_internal.h"

#define LEVEL 6
#define FLAGS 0x30001u		/* the line-end check is valid; compressed; with markers */
#define OVERHEAD 128u		/* sectors of header and descriptor */
#define GRAIN_HEADER_BYTES 12
#define ITEMS_MIN 16		/* grains in the pool, at least */

enum { MARKER_END, MARKER_TABLE, MARKER_DIRECTORY, MARKER_FOOTER };

/* A grain on its way through the pool. */
struct item {
	uint64_t grain;
	size_t packed, room;	/* bytes at out, with the grain's header; room for them */
	uint8_t *in, *out;	/* behind the struct */
};

struct vw_stream {
	struct workers *pool;
	size_t in_pool;
	struct item *now;	/* the grain that is being put together; NULL = none */
	uint64_t end;		/* of the last write, guest bytes */
	uint64_t at;		/* of the next byte in the file */
	uint64_t table;		/* the table that is being filled */
	bool filled;		/* it has a grain */
	uint32_t entries[VW_TABLE_ENTRIES];
	uint32_t *dir;		/* of the tables that are written: sectors */
	uint64_t dir_entries;
};

/* ---- the codec ---- */

static int codec_new(void *opaque, void **ret_local, struct err *e)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(LEVEL);

	(void)opaque;
	if (!c)
		return err_set(e, ERR_NOMEM, "compression");
	*ret_local = c;
	return 0;
}

static void codec_free(void *local)
{
	libdeflate_free_compressor(local);
}

static int pack_item(void *local, void *item, struct err *e)
{
	struct item *it = item;
	size_t len = libdeflate_zlib_compress(local, it->in, VW_GRAIN_BYTES, it->out + GRAIN_HEADER_BYTES,
					      it->room - GRAIN_HEADER_BYTES);

	if (!len)	/* room is by the library's own bound */
		return err_set(e, ERR_INTERNAL, "a grain doesn't fit its bound");
	put_le64(it->out, it->grain * VW_GRAIN_SECTORS);
	put_le32(it->out + 8, (uint32_t)len);
	it->packed = len + GRAIN_HEADER_BYTES;
	return 0;
}

/* ---- the file ---- */

static int append(struct vw *v, const void *p, size_t len, struct err *e)
{
	struct vw_stream *s = v->stream;

	if (fs_pwrite_full(v->extents[0].file.fd, p, len, vw_base(v) + s->at, e) < 0)
		return e->code;
	/* What is left out is a hole, zeros; the end of the file is always written. */
	s->at = round_up(s->at + len, VMDK_SECTOR);
	return 0;
}

static int append_marker(struct vw *v, uint32_t type, uint64_t sectors, struct err *e)
{
	uint8_t p[512] = { 0 };

	put_le64(p, sectors);
	put_le32(p + 12, type);
	return append(v, p, sizeof(p), e);
}

static int here(const struct vw_stream *s, uint32_t *ret, struct err *e)
{
	if (s->at / VMDK_SECTOR > VW_SECTOR_MAX)
		return err_set(e, ERR_INVALID, "a streamOptimized VMDK cannot be larger than 2 TiB");
	*ret = (uint32_t)(s->at / VMDK_SECTOR);
	return 0;
}

/* Writes the table that is being filled, if it has a grain. */
static int flush_table(struct vw *v, struct err *e)
{
	struct vw_stream *s = v->stream;
	uint8_t p[VW_TABLE_ENTRIES * 4];

	if (!s->filled)
		return 0;
	if (append_marker(v, MARKER_TABLE, VW_TABLE_SECTORS, e) < 0 || here(s, &s->dir[s->table], e) < 0)
		return e->code;
	for (size_t i = 0; i < VW_TABLE_ENTRIES; i++)
		put_le32(p + 4 * i, s->entries[i]);
	memset(s->entries, 0, sizeof(s->entries));
	s->filled = false;
	return append(v, p, sizeof(p), e);
}

static int write_item(struct vw *v, const struct item *it, struct err *e)
{
	struct vw_stream *s = v->stream;

	if (it->grain / VW_TABLE_ENTRIES != s->table) {
		if (flush_table(v, e) < 0)
			return e->code;
		s->table = it->grain / VW_TABLE_ENTRIES;
	}
	if (here(s, &s->entries[it->grain % VW_TABLE_ENTRIES], e) < 0)
		return e->code;
	s->filled = true;
	return append(v, it->out, it->packed, e);
}

/* ---- the pool ---- */

static int take_one(struct vw *v, struct err *e)
{
	struct vw_stream *s = v->stream;
	void *item;
	int rc = workers_next(s->pool, &item, e);

	if (rc <= 0)
		return rc < 0 ? rc : err_set(e, ERR_INTERNAL, "%zu grains got lost", s->in_pool);
	s->in_pool--;
	rc = write_item(v, item, e);
	free(item);
	return rc;
}

static size_t item_bytes(void)
{
	return sizeof(struct item) + VW_GRAIN_BYTES + GRAIN_HEADER_BYTES +
	       libdeflate_zlib_compress_bound(NULL, VW_GRAIN_BYTES);
}

static int submit(struct vw *v, struct err *e)
{
	struct vw_stream *s = v->stream;
	struct item *it = STEAL(s->now);

	if (!it)
		return 0;
	if (bytes_all_zero(it->in, VW_GRAIN_BYTES)) {
		free(it);
		return 0;
	}
	while (workers_full(s->pool)) {
		if (take_one(v, e) < 0) {
			free(it);
			return e->code;
		}
	}
	if (workers_submit(s->pool, it, item_bytes(), e) < 0)
		return e->code;
	s->in_pool++;
	return 0;
}

static int begin_grain(struct vw_stream *s, uint64_t grain, struct err *e)
{
	size_t room = item_bytes() - sizeof(struct item) - VW_GRAIN_BYTES;
	struct item *it = malloc(item_bytes());

	if (!it)
		return err_set(e, ERR_NOMEM, "grain to be compressed");
	*it = (struct item){ .grain = grain, .room = room, .in = (uint8_t *)(it + 1) };
	it->out = it->in + VW_GRAIN_BYTES;
	memset(it->in, 0, VW_GRAIN_BYTES);
	s->now = it;
	return 0;
}

int vw_stream_write(struct vw *v, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	struct vw_stream *s = v->stream;

	if (off < s->end)
		return err_set(e, ERR_INTERNAL, "a write at %" PRIu64 " comes after one that ended at %" PRIu64, off,
			       s->end);
	s->end = off + len;
	for (size_t n; len; buf += n, len -= n, off += n) {
		n = (size_t)min_u64(len, VW_GRAIN_BYTES - off % VW_GRAIN_BYTES);
		if (s->now && s->now->grain != off / VW_GRAIN_BYTES && submit(v, e) < 0)
			return e->code;
		if (!s->now && bytes_all_zero(buf, n))
			continue;
		if (!s->now && begin_grain(s, off / VW_GRAIN_BYTES, e) < 0)
			return e->code;
		memcpy(s->now->in + off % VW_GRAIN_BYTES, buf, n);
	}
	return 0;
}

/* ---- beginning and end ---- */

static struct vmdk_header header(const struct vw *v, uint64_t dir)
{
	return (struct vmdk_header){
		.version = 3, .flags = FLAGS,
		/* VirtualBox wants whole grains; the true size is the descriptor's */
		.capacity = round_up(v->size, VW_GRAIN_BYTES) / VMDK_SECTOR, .grain = VW_GRAIN_SECTORS,
		.descriptor = 1, .descriptor_len = VW_DESCRIPTOR_SECTORS, .table_entries = VW_TABLE_ENTRIES,
		.dir = dir, .overhead = OVERHEAD, .compression = 1,
	};
}

static int append_dir(struct vw *v, uint64_t *ret_dir, struct err *e)
{
	struct vw_stream *s = v->stream;
	uint8_t p[VW_TABLE_ENTRIES * 4];
	uint32_t at = 0;

	if (append_marker(v, MARKER_DIRECTORY, div_up(s->dir_entries * 4, VMDK_SECTOR), e) < 0 || here(s, &at, e) < 0)
		return e->code;
	for (uint64_t i = 0; i < s->dir_entries; i += VW_TABLE_ENTRIES) {
		size_t n = (size_t)min_u64(s->dir_entries - i, VW_TABLE_ENTRIES);

		for (size_t k = 0; k < n; k++)
			put_le32(p + 4 * k, s->dir[i + k]);
		if (append(v, p, n * 4, e) < 0)
			return e->code;
	}
	*ret_dir = at;
	return 0;
}

int vw_stream_end(struct vw *v, struct err *e)
{
	struct vw_stream *s = v->stream;
	struct vmdk_header h;
	uint64_t dir = 0;
	uint8_t p[512];

	if (submit(v, e) < 0)
		return e->code;
	workers_close(s->pool);
	while (s->in_pool)
		if (take_one(v, e) < 0)
			return e->code;
	if (flush_table(v, e) < 0 || append_dir(v, &dir, e) < 0 || append_marker(v, MARKER_FOOTER, 1, e) < 0)
		return e->code;
	h = header(v, dir);
	vw_header(p, &h);
	if (append(v, p, sizeof(p), e) < 0 || append_marker(v, MARKER_END, 0, e) < 0 ||
	    vw_descriptor_embed(v, v->extents[0].file.fd, e) < 0)
		return e->code;
	h = header(v, VMDK_DIR_AT_END);
	vw_header(p, &h);
	return fs_pwrite_full(v->extents[0].file.fd, p, sizeof(p), vw_base(v), e);
}

uint64_t vw_stream_bytes(const struct vw_stream *s)
{
	return s->at;
}

int vw_stream_new(struct vw *v, const struct writer_opts *o, struct vw_stream **ret, struct err *e)
{
	struct workers_opts wo = {
		.name = "vmdk-deflate", .threads = o->threads > 1 ? o->threads : 0,
		.max_bytes = (size_t)max_u64(o->max_bytes ? o->max_bytes / 2 : 32 * MIB, ITEMS_MIN * item_bytes()),
		.run = pack_item, .local_new = codec_new, .local_free = codec_free, .item_free = free,
	};
	struct vw_stream *s;

	if (round_up(v->size, VW_GRAIN_BYTES) / VMDK_SECTOR > VW_SECTOR_MAX) {
		(void)err_set(e, ERR_INVALID, "a disk of %" PRIu64 " bytes is too large for a streamOptimized VMDK",
			      v->size);
		return err_hint(e, "--subformat twoGbMaxExtentSparse or monolithicFlat can");
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, ERR_NOMEM, "stream");
	s->at = OVERHEAD * VMDK_SECTOR;
	s->dir_entries = div_up(v->size, VW_GRAIN_BYTES * VW_TABLE_ENTRIES);
	s->dir = calloc((size_t)s->dir_entries, sizeof(*s->dir));
	if (!s->dir || workers_new(&wo, &s->pool, e) < 0) {
		if (!s->dir)
			err_set(e, ERR_NOMEM, "grain directory");
		vw_stream_free(s);
		return e->code;
	}
	*ret = s;
	return 0;
}

void vw_stream_free(struct vw_stream *s)
{
	if (!s)
		return;
	workers_free(s->pool);
	free(s->now);
	free(s->dir);
	free(s);
}
