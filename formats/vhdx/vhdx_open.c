/*
 * vhdx_open.c - opening a VHDX, the reading ops, and what identifies its state.
 *
 * state digest = BLAKE2b-256 (formats/digest.h) over
 *	"kedge vhdx state 1"
 *	disk size, block size, logical sector size, has parent; the data write GUID; the parent's linkage GUIDs
 *	each part of the file that the log rewrites: start, length, then its bytes, or for zeros nothing
 *	each table entry that isn't 0, in order: index, entry; of a block that is there in parts its sector bitmap
 * The metadata digest is the state digest: there is one state.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/text.h"
#include "formats/digest.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "formats/vhdx/vhdx.h"
#include "formats/vhdx/vhdx_internal.h"

int vhdx_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size)
{
	(void)tail;
	(void)tail_len;
	(void)file_size;
	return head_len >= 8 && memcmp(head, "vhdxfile", 8) == 0 ? 100 : 0;
}

int vhdx_read_ids(const struct file *f, struct image_ids *ret, struct err *e)
{
	struct vhdx_header h;

	if (vhdx_header_read(f, &h, e) < 0)
		return e->code;
	uuid_text_stored(h.data_write, ret->content);
	return 1;
}

static int damaged(const struct vhdx *v, struct err *e)
{
	char q[200];

	if (e->code == ERR_CORRUPT)
		(void)err_hint(e, "restore %s from a copy, or let Hyper-V repair a copy",
			       text_quote(v->im.path, q, sizeof(q)));
	return e->code;
}

/* Releases all but the file: that stays the caller's when opening fails. */
static void vhdx_free(struct vhdx *v)
{
	if (v->cache) {
		block_cache_forget(v->cache, &v->owner_table);
		block_cache_forget(v->cache, &v->owner_bitmaps);
		block_cache_unref(v->cache);
	}
	VEC_DONE(&v->writes);
	free(v->creator);
	image_base_done(&v->im);
	free(v);
}

static void vhdx_close(struct image *im)
{
	vhdx_free((struct vhdx *)im);
}

static void drop_unopened(struct vhdx **v)
{
	if (!*v)
		return;
	(*v)->im.file.fd = -1;
	vhdx_free(*v);
}

/* ---- reading ---- */

static int vhdx_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			    struct err *e)
{
	struct vhdx *v = (struct vhdx *)im;
	struct err later = ERR_INIT;	/* of a run behind the first: found again, and reported, in its turn */
	struct vhdx_run r, next;

	(void)state;
	if (vhdx_run_at(v, off, limit, &r, e) < 0)
		return damaged(v, e);
	while (r.len < limit && vhdx_run_at(v, off + r.len, limit - r.len, &next, &later) == 0 &&
	       next.kind == r.kind && (r.kind != EXTENT_DATA || next.host == r.host + r.len))
		r.len += next.len;
	*ret = (struct extent){ .start = off, .len = r.len, .kind = r.kind };
	if (r.kind == EXTENT_DATA)
		ret->origin.host = r.host;
	return 1;
}

static int vhdx_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vhdx *v = (struct vhdx *)im;
	uint8_t *p = buf;

	(void)state;
	while (len) {
		struct vhdx_run r;

		if (vhdx_run_at(v, off, len, &r, e) < 0)
			return damaged(v, e);
		if (r.kind != EXTENT_DATA)
			memset(p, 0, (size_t)r.len);
		else if (vhdx_read(v, p, (size_t)r.len, r.host, e) < 0)
			return err_ctx(e, "guest offset %" PRIu64, off);
		p += r.len;
		off += r.len;
		len -= (size_t)r.len;
	}
	return 0;
}

static void vhdx_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct err unheard = ERR_INIT;	/* advice: who reads will find the error */

	(void)state;
	while (len) {
		struct vhdx_run r;

		if (vhdx_run_at((struct vhdx *)im, off, len, &r, &unheard) < 0)
			return;
		if (r.kind == EXTENT_DATA)
			file_advise(&im->file, r.host, r.len, will_need);
		off += r.len;
		len -= r.len;
	}
}

/* A parent that was merged into keeps fitting by its second id. */
static int vhdx_check_parent(const struct image *im, const struct image *parent, struct err *e)
{
	const struct vhdx *v = (const struct vhdx *)im;
	char linkage[2][UUID_TEXT_BYTES], a[256], b[256];
	const char *is = parent->info.ids.content;

	uuid_text(v->m.linkage[0], linkage[0]);
	uuid_text(v->m.linkage[1], linkage[1]);
	if (strcmp(is, linkage[0]) == 0 || (!uuid_is_null(v->m.linkage[1]) && strcmp(is, linkage[1]) == 0))
		return 0;
	text_quote(parent->path, a, sizeof(a));
	text_quote(im->path, b, sizeof(b));
	if (strcmp(parent->info.format, "vhdx") != 0)
		return err_set(e, ERR_INVALID, "%s is not the parent of %s: it is no VHDX image", a, b);
	(void)err_set(e, ERR_CHANGED,
		      "%s is not the parent of %s, or was written to since: its data write GUID is %s, recorded is %s",
		      a, b, is, linkage[0]);
	return err_hint(e, "restore the parent as it was; --force reads the two as they are, which gives neither's "
			   "content where the parent has changed");
}

/* ---- identity ---- */

struct state_digest {
	struct digest d;
	uint8_t *buf;		/* VHDX_SLICE_BYTES */
};

static int digest_writes(struct vhdx *v, struct state_digest *s, struct err *e)
{
	for (size_t i = 0; i < v->writes.n; i++) {
		const struct vhdx_write *w = &v->writes.p[i];

		digest_u64(&s->d, w->start);
		digest_u64(&s->d, w->end - w->start);
		if (w->data == VHDX_ZEROS)
			continue;
		if (vhdx_read(v, s->buf, (size_t)(w->end - w->start), w->start, e) < 0)
			return e->code;
		digest_bytes(&s->d, s->buf, (size_t)(w->end - w->start));
	}
	return 0;
}

static int digest_bitmap(struct vhdx *v, struct state_digest *s, uint64_t block, struct err *e)
{
	uint64_t sectors = v->m.block_size / v->m.sector, chunk = block / v->chunk_blocks;
	uint8_t entry[8];
	uint64_t at;

	if (vhdx_read(v, entry, sizeof(entry), v->bat.offset + (chunk * (v->chunk_blocks + 1) + v->chunk_blocks) * 8,
		      e) < 0)
		return e->code;
	at = (get_le64(entry) >> 20 << 20) + block % v->chunk_blocks * sectors / 8;
	if (!range_ok(at, sectors / 8, v->size))	/* only by force: reading the block fails */
		return 0;
	if (vhdx_read(v, s->buf, (size_t)(sectors / 8), at, e) < 0)
		return err_ctx(e, "sector bitmap at %" PRIu64, at);
	digest_bytes(&s->d, s->buf, (size_t)(sectors / 8));
	return 0;
}

static int digest_entry(struct vhdx *v, uint64_t index, uint64_t entry, void *opaque, struct err *e)
{
	struct state_digest *s = opaque;

	digest_u64(&s->d, index);
	digest_u64(&s->d, entry);
	if (!v->m.has_parent || (entry & VHDX_ENTRY_STATE) != VHDX_PARTIALLY_PRESENT ||
	    index % (v->chunk_blocks + 1) == v->chunk_blocks)
		return 0;
	return digest_bitmap(v, s, index - index / (v->chunk_blocks + 1), e);
}

static int vhdx_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct vhdx *v = (struct vhdx *)im;
	CLEANUP(free_ptr) uint8_t *buf = malloc(VHDX_SLICE_BYTES);
	struct state_digest s = { .buf = buf };

	(void)state;
	if (!buf)
		return err_set(e, ERR_NOMEM, "digest of a state");
	digest_begin(&s.d, "kedge vhdx state 1");
	digest_u64(&s.d, v->m.size);
	digest_u64(&s.d, v->m.block_size);
	digest_u64(&s.d, v->m.sector);
	digest_u64(&s.d, v->m.has_parent);
	digest_bytes(&s.d, v->h.data_write, sizeof(v->h.data_write));
	digest_bytes(&s.d, v->m.linkage, sizeof(v->m.linkage));
	if (digest_writes(v, &s, e) < 0 || vhdx_each_entry(v, digest_entry, &s, e) < 0)
		return e->code;
	digest_end(&s.d, digest);
	return 0;
}

static const struct image_ops vhdx_ops = {
	.format = "vhdx",
	.close = vhdx_close,
	.next_extent = vhdx_next_extent,
	.pread = vhdx_pread,
	.state_digest = vhdx_state_digest,
	.advise = vhdx_advise,
	.check_parent = vhdx_check_parent,
};

/* ---- opening ---- */

/* The file identifier says who made the image, in UTF-16 up to a NUL; of no consequence, so damage in it is none. */
static int read_creator(struct vhdx *v, struct err *e)
{
	uint8_t p[VHDX_CREATOR_UNITS * 2];
	struct err found = ERR_INIT;
	size_t len;

	if (file_pread(&v->im.file, p, sizeof(p), VHDX_CREATOR, &len, e) < 0)
		return e->code;
	v->creator = text_from_utf16(p, len / 2, false, &found);
	if (!v->creator && found.code != ERR_CORRUPT) {
		*e = found;
		return e->code;
	}
	return 0;
}

static void take_info(struct vhdx *v)
{
	struct image_info *info = &v->im.info;

	v->current = (struct image_state){ .name = "current", .id = "", .size = v->m.size };
	v->im.states = &v->current;
	info->format = "vhdx";
	info->version = 1;
	info->file_size = v->im.file.size;
	info->virtual_size = v->m.size;
	info->cluster_size = v->m.block_size;
	info->nstates = 1;
	info->variant = v->m.has_parent ? "differencing" : v->m.fixed ? "fixed" : "dynamic";
	info->creator = v->creator && v->creator[0] ? v->creator : NULL;
	info->features = v->writes.n ? IMAGE_DIRTY : 0;
	info->qemu_differs = v->m.has_parent ? "it has a parent" : v->writes.n ? "a log that wasn't replayed"
			     : v->m.sector != 512 ? "sectors of 4096 bytes" : NULL;
	uuid_text_stored(v->h.data_write, info->ids.content);
}

/* How the table is laid out, and whether it has room for the disk. */
static int take_geometry(struct vhdx *v, struct err *e)
{
	uint64_t blocks = vhdx_blocks(v);

	v->block_bits = (unsigned)__builtin_ctz(v->m.block_size);
	v->chunk_blocks = vhdx_chunk_blocks(v->m.sector, v->m.block_size);
	if (v->m.has_parent)
		v->entries = div_up(blocks, v->chunk_blocks) * (v->chunk_blocks + 1);
	else
		v->entries = blocks ? blocks + (blocks - 1) / v->chunk_blocks : 0;
	if (v->entries <= v->bat.length / 8)
		return 0;
	return err_set(e, ERR_CORRUPT,
		       "block allocation table at %" PRIu64 ": %" PRIu32 " bytes, the disk of %" PRIu64
		       " bytes needs %" PRIu64,
		       v->bat.offset, v->bat.length, v->m.size, v->entries * 8);
}

static int load(struct vhdx *v, const struct image_open_opts *o, struct err *e)
{
	if (vhdx_header_read(&v->im.file, &v->h, e) < 0 || vhdx_log_read(v, e) < 0 ||
	    vhdx_regions_read(v, e) < 0 || vhdx_metadata_read(v, e) < 0 || take_geometry(v, e) < 0)
		return e->code;
	if (!o->force && vhdx_scan(v, e) < 0)
		return e->code;
	if (o->metadata_only && read_creator(v, e) < 0)
		return e->code;
	take_info(v);
	return o->metadata_only ? 0
				: vhdx_state_digest(&v->im, IMAGE_STATE_CURRENT, v->im.identity.metadata_digest, e);
}

int vhdx_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(drop_unopened) struct vhdx *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_set(e, ERR_NOMEM, "VHDX image");
	r = image_base_init(&v->im, &vhdx_ops, fd, path, o, e);
	if (r < 0)
		return r;
	if (block_cache_share(o->cache, &v->cache, e) < 0)
		return e->code;
	r = load(v, o, e);
	if (r < 0) {
		(void)err_ctx(e, "vhdx");
		return damaged(v, e);
	}
	*ret = &STEAL(v)->im;
	return 0;
}
