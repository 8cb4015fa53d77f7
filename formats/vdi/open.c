/*
 * open.c - opening a VDI, and the reading ops.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "formats/vdi/vdi.h"
#include "formats/vdi/vdi_internal.h"

#define SECTOR ((uint64_t)512)

int vdi_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size)
{
	(void)tail;
	(void)tail_len;
	(void)file_size;
	if (head_len < VDI_PREHEADER_BYTES || get_le32(head + VDI_SIGNATURE_OFFSET) != VDI_SIGNATURE)
		return 0;
	return get_le32(head + VDI_SIGNATURE_OFFSET + 4) >> 16 <= 1 ? 100 : 0;
}

int vdi_read_ids(const struct file *f, struct image_ids *ret, struct err *e)
{
	struct vdi_header h;
	int r = vdi_header_read(f, &h, e);

	if (r < 0)
		return r == ERR_CORRUPT || r == ERR_UNSUPPORTED ? 0 : r;
	vdi_header_ids(&h, ret);
	return ret->uuid[0] != '\0';
}

/* Tells what can be done about a damaged image. */
static int damaged(const struct vdi *v, struct err *e)
{
	char q[200];

	if (e->code == ERR_CORRUPT)
		(void)err_hint(e,
			       "restore %s, or copy it anew if it was copied incompletely; --force reads what of it "
			       "is sound",
			       text_shell(v->im.path, q, sizeof(q)));
	return e->code;
}

/*
 * A run of the map; of allocated blocks, the part that is, or isn't, a hole of the file.  A fixed image may be sparse,
 * and is one run.  Elsewhere runs may be as many as blocks, and looking for the end of the data goes through the
 * file's extents: there a run that begins with data counts as data.
 */
static int run_at(struct vdi *v, uint64_t off, uint64_t limit, enum extent_kind *ret_kind, uint64_t *ret_host,
		  uint64_t *ret_len, struct err *e)
{
	uint64_t end, stop;
	bool data;
	int r;

	if (vdi_run_at(v, off, limit, ret_kind, ret_host, ret_len, e) < 0)
		return e->code;
	if (*ret_kind != EXTENT_DATA)
		return 0;
	stop = *ret_host + *ret_len;
	if (v->h.type == VDI_FIXED) {
		r = file_next_data(&v->im.file, *ret_host, stop, &data, &end, e);
	} else {
		r = file_skip_hole(&v->im.file, *ret_host, stop, &end, e);
		data = r == 0 && end == *ret_host;
		end = data ? stop : end;
	}
	if (r < 0)
		return r;
	*ret_len = end - *ret_host;
	if (!data)
		*ret_kind = EXTENT_ZERO;
	return 0;
}

static int vdi_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			   struct err *e)
{
	struct vdi *v = (struct vdi *)im;
	enum extent_kind kind;
	uint64_t host, len;

	(void)state;
	if (run_at(v, off, limit, &kind, &host, &len, e) < 0)
		return damaged(v, e);
	*ret = (struct extent){ .start = off, .len = len, .kind = kind };
	if (kind == EXTENT_DATA)
		ret->origin.host = host;
	return 1;
}

static int vdi_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vdi *v = (struct vdi *)im;
	uint8_t *p = buf;

	(void)state;
	while (len) {
		enum extent_kind kind;
		uint64_t host, n;
		int r = 0;

		if (vdi_run_at(v, off, len, &kind, &host, &n, e) < 0)
			return damaged(v, e);
		if (kind == EXTENT_DATA)
			r = file_pread_padded(&im->file, p, (size_t)n, host, e);
		else
			memset(p, 0, (size_t)n);
		if (r < 0)
			return err_ctx(e, "guest offset %" PRIu64, off);
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

static void vdi_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct err unheard = ERR_INIT;	/* advice: who reads will find the error */

	(void)state;
	while (len) {
		enum extent_kind kind;
		uint64_t host, n;

		if (vdi_run_at((struct vdi *)im, off, len, &kind, &host, &n, &unheard) < 0)
			return;
		if (kind == EXTENT_DATA)
			file_advise(&im->file, host, n, will_need);
		off += n;
		len -= n;
	}
}

static void vdi_free(struct vdi *v)
{
	if (!v)
		return;
	if (v->cache) {
		block_cache_forget(v->cache, &v->owner);
		block_cache_unref(v->cache);
	}
	image_base_done(&v->im);
	free(v);
}

static void vdi_close(struct image *im)
{
	vdi_free((struct vdi *)im);
}

static const struct image_ops vdi_ops = {
	.format = "vdi",
	.close = vdi_close,
	.next_extent = vdi_next_extent,
	.pread = vdi_pread,
	.state_digest = vdi_state_digest,
	.advise = vdi_advise,
};

static const char *qemu_differs(const struct vdi_header *h)
{
	if (h->block_size != MIB)
		return "blocks of another size than 1 MiB";
	if (h->extra)
		return "extra bytes before each block";
	if (h->map_offset % SECTOR || h->data_offset % SECTOR)
		return "a map or data that begin inside a sector";
	if (h->type > VDI_FIXED || !uuid_is_null(h->parent) || !uuid_is_null(h->parent_modify))
		return "it names a parent";
	return h->size % SECTOR ? "a size that isn't whole sectors" : NULL;
}

static void take_info(struct vdi *v)
{
	static const char *const variants[] = { "", "dynamic", "fixed", "undo", "differencing" };
	const struct vdi_header *h = &v->h;

	v->current = (struct image_state){ .name = "current", .id = "", .size = round_down(h->size, SECTOR) };
	v->im.states = &v->current;
	v->im.info = (struct image_info){
		.format = "vdi",
		.version = h->version >> 16,
		.variant = variants[h->type],
		.file_size = v->im.file.size,
		.virtual_size = v->current.size,
		.cluster_size = h->block_size,
		.nstates = 1,
		.creator = h->creator[0] ? h->creator : NULL,
		.qemu_differs = qemu_differs(h),
	};
	vdi_header_ids(h, &v->im.info.ids);
	if (!vdi_is_child(h))
		return;
	(void)uuid_text(h->parent, v->im.parent.ids.uuid);
	if (!uuid_is_null(h->parent_modify))
		(void)uuid_text(h->parent_modify, v->im.parent.ids.modify);
}

/* With force a defect of the map is noted: who reads what it is about will meet it again. */
static int check_map(struct vdi *v, bool force, struct err *e)
{
	struct err found = ERR_INIT;

	if (vdi_map_check(v, &found) == 0)
		return 0;
	if (!force || found.code != ERR_CORRUPT) {
		*e = found;
		return e->code;
	}
	(void)snprintf(v->damage, sizeof(v->damage), "%s", found.cause);
	v->im.info.damage = v->damage;
	return 0;
}

static int load(struct vdi *v, const struct image_open_opts *o, struct err *e)
{
	if (vdi_header_read(&v->im.file, &v->h, e) < 0)
		return e->code;
	take_info(v);
	if (check_map(v, o->force, e) < 0)
		return e->code;
	v->im.info.note = v->note[0] ? v->note : NULL;
	return o->metadata_only ? 0 : vdi_state_digest(&v->im, 0, v->im.identity.metadata_digest, e);
}

/* Gives the file back before it releases the rest. */
static void drop_unopened(struct vdi **v)
{
	if (*v)
		(*v)->im.file.fd = -1;
	vdi_free(*v);
}

int vdi_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(drop_unopened) struct vdi *v = calloc(1, sizeof(*v));

	if (!v)
		return err_set(e, ERR_NOMEM, "VDI image");
	if (image_base_init(&v->im, &vdi_ops, fd, path, o, e) < 0)
		return e->code;
	if (block_cache_share(o->cache, &v->cache, e) < 0)
		return e->code;
	if (load(v, o, e) < 0) {
		(void)err_ctx(e, "vdi");
		return damaged(v, e);
	}
	*ret = &STEAL(v)->im;
	return 0;
}
