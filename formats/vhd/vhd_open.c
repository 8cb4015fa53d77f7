/*
 * vhd_open.c - opening a VHD, the reading ops, and what identifies its state.
 *
 * state digest = BLAKE2b-256 (formats/digest.h) over
 *	"kedge vhd state 1"
 *	type, size, UUID, time of creation
 *	dynamic and differencing: block size; differencing: the parent's UUID and time
 *	for each allocated block, in order: its number, the file offset of its bitmap; differencing: the bitmap
 * Of a fixed disk that says nothing about its content.  The metadata digest is the state digest: there is one state.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "formats/digest.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "formats/vhd/vhd.h"
#include "formats/vhd/vhd_internal.h"

int vhd_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size)
{
	(void)file_size;
	if (head_len >= 8 && memcmp(head, "conectix", 8) == 0)
		return 100;
	if (tail_len != VHD_FOOTER_BYTES)
		return 0;
	/* Another type begins with a copy; a guest could write the rest of one into a raw disk. */
	if (vhd_is_fixed_footer(tail, VHD_FOOTER_BYTES) || vhd_is_fixed_footer(tail + 1, VHD_OLD_FOOTER_BYTES))
		return 100;
	return 0;
}

int vhd_read_ids(const struct file *file, struct image_ids *ret, struct err *e)
{
	struct vhd_footer f;
	uint64_t data_end;

	if (vhd_footer_read(file, &f, &data_end, e) < 0)
		return e->code;
	if (f.type == VHD_FIXED)
		return 0;
	uuid_text_stored(f.uuid, ret->uuid);
	return 1;
}

static int damaged(const struct vhd *v, struct err *e)
{
	char q[200];

	if (e->code == ERR_CORRUPT)
		(void)err_hint(e, "restore %s from a copy, or let its hypervisor repair a copy",
			       text_quote(v->im.path, q, sizeof(q)));
	return e->code;
}

/* Releases all but the file: that stays the caller's when opening fails. */
static void vhd_free(struct vhd *v)
{
	if (v->cache) {
		block_cache_forget(v->cache, &v->owner_table);
		block_cache_forget(v->cache, &v->owner_bitmaps);
		block_cache_unref(v->cache);
	}
	image_base_done(&v->im);
	free(v);
}

static void vhd_close(struct image *im)
{
	vhd_free((struct vhd *)im);
}

static void drop_unopened(struct vhd **v)
{
	if (!*v)
		return;
	(*v)->im.file.fd = -1;
	vhd_free(*v);
}

/* ---- reading ---- */

static int run_at(struct vhd *v, uint64_t off, uint64_t limit, struct vhd_run *ret, struct err *e)
{
	uint64_t end = off + limit;
	bool data;

	if (v->f.type != VHD_FIXED)
		return vhd_run_at(v, off, limit, ret, e);
	if (file_next_data(&v->im.file, off, off + limit, &data, &end, e) < 0)
		return e->code;
	*ret = (struct vhd_run){ .kind = data ? EXTENT_DATA : EXTENT_HOLE, .len = end - off, .host = off };
	return 0;
}

static int vhd_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			   struct err *e)
{
	struct vhd *v = (struct vhd *)im;
	struct err later = ERR_INIT;	/* of a run behind the first: found again, and reported, in its turn */
	struct vhd_run r, next;

	(void)state;
	if (run_at(v, off, limit, &r, e) < 0)
		return damaged(v, e);
	while (r.len < limit && run_at(v, off + r.len, limit - r.len, &next, &later) == 0 && next.kind == r.kind &&
	       (r.kind == EXTENT_HOLE || next.host == r.host + r.len))
		r.len += next.len;
	*ret = (struct extent){ .start = off, .len = r.len, .kind = r.kind };
	if (r.kind == EXTENT_DATA)
		ret->origin.host = r.host;
	return 1;
}

static int vhd_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vhd *v = (struct vhd *)im;
	uint8_t *p = buf;

	(void)state;
	while (len) {
		struct vhd_run r;

		if (run_at(v, off, len, &r, e) < 0)
			return damaged(v, e);
		if (r.kind != EXTENT_DATA)
			memset(p, 0, (size_t)r.len);
		else if (file_pread_padded(&im->file, p, (size_t)r.len, r.host, e) < 0)
			return err_ctx(e, "guest offset %" PRIu64, off);
		p += r.len;
		off += r.len;
		len -= (size_t)r.len;
	}
	return 0;
}

static void vhd_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct err unheard = ERR_INIT;	/* advice: who reads will find the error */

	(void)state;
	while (len) {
		struct vhd_run r;

		if (run_at((struct vhd *)im, off, len, &r, &unheard) < 0)
			return;
		if (r.kind == EXTENT_DATA)
			file_advise(&im->file, r.host, r.len, will_need);
		off += r.len;
		len -= r.len;
	}
}

/* ---- identity ---- */

struct block_digest {
	struct digest d;
	uint8_t *bitmap;
};

static int digest_block(struct vhd *v, uint64_t block, uint64_t at, void *opaque, struct err *e)
{
	struct block_digest *b = opaque;

	digest_u64(&b->d, block);
	digest_u64(&b->d, at);
	if (v->f.type != VHD_DIFFERENCING ||
	    !range_ok(at, v->bitmap_bytes, v->im.file.size))	/* only by force: reading the block fails */
		return 0;
	if (file_pread_full(&v->im.file, b->bitmap, v->bitmap_bytes, at, e) < 0)
		return err_ctx(e, "sector bitmap at %" PRIu64, at);
	digest_bytes(&b->d, b->bitmap, v->bitmap_bytes);
	return 0;
}

static int vhd_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct vhd *v = (struct vhd *)im;
	CLEANUP(free_ptr) uint8_t *bitmap = malloc((size_t)v->bitmap_bytes + 1);
	struct block_digest b = { .bitmap = bitmap };

	(void)state;
	if (!bitmap)
		return err_set(e, ERR_NOMEM, "digest of a state");
	digest_begin(&b.d, "kedge vhd state 1");
	digest_u64(&b.d, v->f.type);
	digest_u64(&b.d, v->f.size);
	digest_bytes(&b.d, v->f.uuid, sizeof(v->f.uuid));
	digest_u64(&b.d, v->f.time);
	if (v->f.type != VHD_FIXED) {
		digest_u64(&b.d, v->h.block_size);
		if (v->f.type == VHD_DIFFERENCING) {
			digest_bytes(&b.d, v->h.parent_uuid, sizeof(v->h.parent_uuid));
			digest_u64(&b.d, v->h.parent_time);
		}
		if (vhd_each_block(v, digest_block, &b, e) < 0)
			return e->code;
	}
	digest_end(&b.d, digest);
	return 0;
}

static const struct image_ops vhd_ops = {
	.format = "vhd",
	.close = vhd_close,
	.next_extent = vhd_next_extent,
	.pread = vhd_pread,
	.state_digest = vhd_state_digest,
	.advise = vhd_advise,
};

/* ---- opening ---- */

/* It looks at the copy at the start first, and goes by the geometry unless it knows the creator; releases differ in
 * whom they know. */
static const char *qemu_differs(const struct vhd *v)
{
	static const char *const known[] = { "win ", "qem2", "d2v " };

	if (v->f.type == VHD_DIFFERENCING)
		return "it has a parent";
	if (v->f.copy_differs || v->data_end + VHD_FOOTER_BYTES != v->im.file.size)
		return "the footer and its copy at the start differ, or one of them is missing";
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(v->f.creator, known[i]))
			return NULL;
	return v->f.chs_size != v->f.size ? "cylinders, heads and sectors make another size than its own" : NULL;
}

static void take_info(struct vhd *v)
{
	static const char *const variants[] = { "fixed", "dynamic", "differencing" };
	struct image_info *info = &v->im.info;

	v->current = (struct image_state){ .name = "current", .id = "", .size = v->f.size };
	v->im.states = &v->current;
	info->format = "vhd";
	info->version = 1;
	info->file_size = v->im.file.size;
	info->virtual_size = v->f.size;
	info->cluster_size = v->f.type == VHD_FIXED ? 0 : v->h.block_size;
	info->nstates = 1;
	info->variant = variants[v->f.type - VHD_FIXED];
	info->creator = v->f.creator[0] ? v->f.creator : NULL;
	info->qemu_differs = qemu_differs(v);
	uuid_text_stored(v->f.uuid, info->ids.uuid);
	if (v->f.chs_size != v->f.size)
		LOG_DEBUG("size %" PRIu64 ", geometry %" PRIu64 ", creator \"%s\": the size counts", v->f.size,
			  v->f.chs_size, v->f.creator);
}

static int load(struct vhd *v, const struct image_open_opts *o, struct err *e)
{
	if (vhd_footer_read(&v->im.file, &v->f, &v->data_end, e) < 0)
		return e->code;
	if (v->f.type != VHD_FIXED) {
		if (vhd_header_read(&v->im.file, &v->f, &v->h, e) < 0)
			return e->code;
		v->bitmap_bytes = (uint32_t)round_up(div_up(v->h.block_size / VHD_SECTOR, 8), VHD_SECTOR);
		v->block_bits = (unsigned)__builtin_ctz(v->h.block_size);
		if (!o->force && vhd_scan(v, e) < 0)
			return e->code;
	}
	if (v->f.type == VHD_DIFFERENCING && vhd_parent_read(v, e) < 0)
		return e->code;
	take_info(v);
	return o->metadata_only ? 0 : vhd_state_digest(&v->im, IMAGE_STATE_CURRENT, v->im.identity.metadata_digest, e);
}

int vhd_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(drop_unopened) struct vhd *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_set(e, ERR_NOMEM, "VHD image");
	r = image_base_init(&v->im, &vhd_ops, fd, path, o, e);
	if (r < 0)
		return r;
	if (block_cache_share(o->cache, &v->cache, e) < 0)
		return e->code;
	r = load(v, o, e);
	if (r < 0) {
		(void)err_ctx(e, "vhd");
		return damaged(v, e);
	}
	*ret = &STEAL(v)->im;
	return 0;
}
