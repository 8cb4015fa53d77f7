/*
 * vdi_write.c - the VDI writer.
 *
 * The file begins as a hole, so a block that is allocated needs no more than its place, and zeros inside it are left
 * out. The block map is kept in pages, made when a block in them gets its place, and written at the end, before the
 * header.
 */
#include "formats/vdi/vdi_write.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/ids.h"
#include "formats/target.h"
#include "formats/vdi/vdi_internal.h"

#define BLOCK_BYTES ((uint64_t)MIB)
#define ALIGN_BYTES ((uint64_t)MIB)		/* of map and data, as VirtualBox has it */
#define MAP_OFFSET ALIGN_BYTES
#define HEADER_BYTES 400u			/* VirtualBox calls it 1.1+ */
#define UNIT_BYTES ((uint64_t)64 << 10)		/* zeros of this size inside a block are not written */
#define PAGE_ENTRIES 1024u
#define SECTOR ((uint64_t)512)
#define DEFAULT_MODE 0600

struct vdi_writer {
	struct image_writer w;
	char *path;
	struct fs_atomic file;
	bool replace, begun, fixed;
	enum preallocation preallocation;
	uint64_t size;			/* of the disk, whole sectors */
	uint32_t blocks;
	uint64_t data_offset;
	uint8_t uuid[16], modify[16];
	pthread_mutex_t lock;		/* guards the rest */
	uint32_t allocated;
	uint32_t **pages;		/* of the map: each entry 1 + the block's place; 0 = none; NULL = none in it */
};

static void vw_free(struct vdi_writer *v)
{
	for (uint64_t i = 0; v->pages && i < div_up(v->blocks, PAGE_ENTRIES); i++)
		free(v->pages[i]);
	free(v->pages);
	fs_atomic_done(&v->file);
	free(v->path);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

static void vw_abort(struct image_writer *w)
{
	vw_free((struct vdi_writer *)w);
}

static uint64_t block_end(const struct vdi_writer *v, uint32_t n)
{
	return v->data_offset + n * BLOCK_BYTES;
}

static int vw_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct vdi_writer *v = (struct vdi_writer *)w;
	uint64_t size = block_end(v, v->blocks);

	if (v->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a VDI has one state, of %" PRIu64 " bytes", w->size);
	v->begun = true;
	if ((v->preallocation == PREALLOC_FALLOC || v->preallocation == PREALLOC_FULL) &&
	    target_reserve(v->file.fd, 0, size, e) < 0)
		return err_ctx(e, "%s", v->path);
	if (v->preallocation == PREALLOC_FULL && target_write_zeros(v->file.fd, 0, size, e) < 0)
		return err_ctx(e, "%s", v->path);
	return 0;
}

/* Where a block's data are, allocated if need be. */
static int place(struct vdi_writer *v, uint32_t block, uint64_t *ret_host, struct err *e)
{
	uint32_t **page = &v->pages[block / PAGE_ENTRIES], *entry, index = block;

	if (!v->fixed) {
		pthread_mutex_lock(&v->lock);
		if (!*page)
			*page = calloc(PAGE_ENTRIES, sizeof(**page));
		entry = *page ? &(*page)[block % PAGE_ENTRIES] : NULL;
		if (entry && !*entry)
			*entry = ++v->allocated;
		index = entry ? *entry - 1 : 0;
		pthread_mutex_unlock(&v->lock);
		if (!entry)
			return err_set(e, ERR_NOMEM, "block map");
	}
	*ret_host = block_end(v, index);
	return 0;
}

/* Bytes that lie together in memory and in the file, waiting to be written in one go. */
struct run {
	const uint8_t *buf;
	size_t len;
	uint64_t host;
};

static int run_flush(const struct vdi_writer *v, struct run *r, struct err *e)
{
	if (r->len && fs_pwrite_full(v->file.fd, r->buf, r->len, r->host, e) < 0)
		return e->code;
	r->len = 0;
	return 0;
}

static int vw_write_some(struct vdi_writer *v, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	struct run run = { 0 };
	uint64_t host = 0;

	for (size_t n; len; buf += n, len -= n, off += n) {
		n = (size_t)min_u64(len, UNIT_BYTES - off % UNIT_BYTES);
		if (bytes_all_zero(buf, n))
			continue;
		if (place(v, (uint32_t)(off / BLOCK_BYTES), &host, e) < 0)
			return e->code;
		host += off % BLOCK_BYTES;
		if (run.buf + run.len != buf || run.host + run.len != host) {
			if (run_flush(v, &run, e) < 0)
				return e->code;
			run = (struct run){ .buf = buf, .host = host };
		}
		run.len += n;
	}
	return run_flush(v, &run, e);
}

static int vw_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vdi_writer *v = (struct vdi_writer *)w;

	if (!v->begun)
		return err_set(e, ERR_INTERNAL, "no state was begun");
	return vw_write_some(v, buf, len, off, e) < 0 ? err_ctx(e, "%s", v->path) : 0;
}

/* ---- the end ---- */

static int write_map(const struct vdi_writer *v, struct err *e)
{
	uint8_t buf[PAGE_ENTRIES * 4];

	for (uint32_t first = 0, n; first < v->blocks; first += n) {
		const uint32_t *page = v->pages[first / PAGE_ENTRIES];

		n = (uint32_t)min_u64(PAGE_ENTRIES, v->blocks - first);
		for (uint32_t i = 0; i < n; i++)
			put_le32(buf + (size_t)i * 4,
				 v->fixed ? first + i : page && page[i] ? page[i] - 1 : VDI_FREE);
		if (fs_pwrite_full(v->file.fd, buf, (size_t)n * 4, MAP_OFFSET + (uint64_t)first * 4, e) < 0)
			return e->code;
	}
	return 0;
}

static void put_uuid(uint8_t *p, const uint8_t uuid[16])
{
	memcpy(p, uuid, 16);
	uuid_swap(p);
}

/* header.c of this folder has the layout.  What stays 0: flags, comment, geometries but for their sector sizes, extra
 * bytes, the parent's UUIDs. */
static int write_header(const struct vdi_writer *v, struct err *e)
{
	uint8_t h[VDI_PREHEADER_BYTES + HEADER_BYTES] = "<<< kedge virtual disk image >>>\n";
	uint8_t *p = h + VDI_PREHEADER_BYTES;

	put_le32(h + VDI_SIGNATURE_OFFSET, VDI_SIGNATURE);
	put_le32(h + VDI_SIGNATURE_OFFSET + 4, 1u << 16 | 1);
	put_le32(p, HEADER_BYTES);
	put_le32(p + 4, v->fixed ? VDI_FIXED : VDI_DYNAMIC);
	put_le32(p + 268, (uint32_t)MAP_OFFSET);
	put_le32(p + 272, (uint32_t)v->data_offset);
	put_le32(p + 288, (uint32_t)SECTOR);
	put_le64(p + 296, v->size);
	put_le32(p + 304, (uint32_t)BLOCK_BYTES);
	put_le32(p + 312, v->blocks);
	put_le32(p + 316, v->fixed ? v->blocks : v->allocated);
	put_uuid(p + 320, v->uuid);
	put_uuid(p + 336, v->modify);
	put_le32(p + 396, (uint32_t)SECTOR);
	return fs_pwrite_full(v->file.fd, h, sizeof(h), 0, e);
}

static int end(const struct vdi_writer *v, struct err *e)
{
	if (!v->begun)
		return err_set(e, ERR_INTERNAL, "finished before it was begun");
	if (FS_RETRY(ftruncate(v->file.fd, (off_t)block_end(v, v->fixed ? v->blocks : v->allocated))) < 0)
		return err_sys(e, "size of the file");
	return write_map(v, e) < 0 ? e->code : write_header(v, e);
}

static int vw_finish(struct image_writer *w, struct err *e)
{
	struct vdi_writer *v = (struct vdi_writer *)w;
	int rc = end(v, e);

	if (rc < 0)
		err_ctx(e, "%s", v->path);
	else	/* names the file itself */
		rc = fs_atomic_commit(&v->file, v->replace, e);
	vw_free(v);
	return rc;
}

static const struct writer_ops vdi_writer_ops = {
	.format = "vdi",
	.concurrent = true,
	.begin_state = vw_begin,
	.write = vw_write,
	.finish = vw_finish,
	.abort = vw_abort,
};

static int check_opts(const struct writer_opts *o, struct err *e)
{
	bool dynamic = !o->subformat || !strcmp(o->subformat, "dynamic");
	struct target t;

	if (target_look(o->path, &t, e) < 0)
		return e->code;
	if (t.block_device)
		return err_set(e, ERR_INVALID, "%s is a block device: only a raw image can be written to it", o->path);
	if (o->compress || o->cluster_size)
		return err_set(e, ERR_INVALID, "a VDI has %s", o->compress ? "no compression" : "blocks of 1 MiB");
	if (o->max_size > o->size)
		return err_set(e, ERR_INVALID, "a VDI has one size");
	if (!dynamic && strcmp(o->subformat, "fixed") != 0)
		return err_set(e, ERR_INVALID, "a VDI is dynamic or fixed, not %s", o->subformat);
	if (o->subformat && dynamic && o->preallocation != PREALLOC_OFF) {
		(void)err_set(e, ERR_INVALID, "a dynamic VDI cannot be preallocated");
		return err_hint(e, "--subformat fixed can");
	}
	if (div_up(o->size, BLOCK_BYTES) > VDI_BLOCKS_MAX)
		return err_set(e, ERR_INVALID, "a disk of %" PRIu64 " bytes is too large for a VDI", o->size);
	return 0;
}

static int open_parts(struct vdi_writer *v, const struct writer_opts *o, struct err *e)
{
	v->path = strdup(o->path);
	v->pages = calloc((size_t)div_up(v->blocks, PAGE_ENTRIES) + 1, sizeof(*v->pages));
	if (!v->path || !v->pages)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	uuid_for(o, o->ids ? o->ids->uuid : NULL, "vdi image", v->uuid);
	uuid_for(o, o->ids ? o->ids->modify : NULL, "vdi modification", v->modify);
	return fs_atomic_open(&v->file, o->path, o->replace, o->mode ? o->mode : DEFAULT_MODE, e);
}

int vdi_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	struct vdi_writer *v;

	if (check_opts(o, e) < 0)
		return e->code;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	v->w = (struct image_writer){
		.ops = &vdi_writer_ops, .cluster_size = (uint32_t)BLOCK_BYTES, .size = o->size, .in_order = o->id_seed
	};
	v->file.fd = -1;
	v->replace = o->replace;
	v->preallocation = o->preallocation;
	v->fixed = o->preallocation != PREALLOC_OFF || (o->subformat && !strcmp(o->subformat, "fixed"));
	v->size = round_up(o->size, SECTOR);
	v->blocks = (uint32_t)div_up(o->size, BLOCK_BYTES);
	v->data_offset = round_up(MAP_OFFSET + (uint64_t)v->blocks * 4, ALIGN_BYTES);
	pthread_mutex_init(&v->lock, NULL);
	if (open_parts(v, o, e) < 0) {
		vw_free(v);
		return e->code;
	}
	*ret = &v->w;
	return 0;
}
