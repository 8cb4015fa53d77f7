/*
 * read.c - the reading ops: runs of the map put together, and their bytes.
 */
#include <inttypes.h>

#include "base/num.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk_internal.h"

int vmdk_damaged(struct err *e)
{
	if (e->code == ERR_CORRUPT)
		(void)err_hint(e, "restore the image, or repair a copy of it with vmware-vdiskmanager -R");
	return e->code;
}

static bool continues(const struct vmdk_run *a, const struct vmdk_run *b)
{
	if (a->kind != b->kind || a->compressed || b->compressed)
		return false;
	return a->kind != EXTENT_DATA || (a->extent->file == b->extent->file && a->host + a->len == b->host);
}

static uint32_t file_number(const struct vmdk *v, const struct vmdk_run *r)
{
	return (uint32_t)(r->extent->file - v->files);
}

static int vmdk_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			    struct err *e)
{
	struct vmdk *v = (struct vmdk *)im;
	struct err later = ERR_INIT;	/* of a run behind the first: found again, and reported, in its turn */
	struct vmdk_run r, next;

	(void)state;
	if (vmdk_run_at(v, off, limit, &r, e) < 0)
		return vmdk_damaged(e);
	while (r.len < limit && vmdk_run_at(v, off + r.len, limit - r.len, &next, &later) == 0 && continues(&r, &next))
		r.len += next.len;
	*ret = (struct extent){ .start = off, .len = r.len, .kind = r.kind };
	if (r.kind == EXTENT_DATA)
		ret->origin = (struct extent_origin){
			.file = file_number(v, &r), .host = r.host, .inner = r.inner, .compressed = r.compressed,
		};
	return 1;
}

static int read_data(struct vmdk *v, const struct vmdk_run *r, void *buf, uint64_t off, struct err *e)
{
	const struct vmdk_file *f = r->extent->file;
	const struct cache_block *b;

	if (r->kind != EXTENT_DATA) {
		memset(buf, 0, (size_t)r->len);
		return 0;
	}
	if (!r->compressed)
		return file_pread_padded(&f->bytes, buf, (size_t)r->len, r->host, e);
	if (vmdk_grain_get(v, r, off, &b, e) < 0)
		return e->code;
	memcpy(buf, b->data + r->inner, (size_t)r->len);
	block_cache_put(v->cache, b);
	return 0;
}

static int vmdk_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vmdk *v = (struct vmdk *)im;
	uint8_t *p = buf;

	(void)state;
	while (len) {
		struct vmdk_run r;

		if (vmdk_run_at(v, off, len, &r, e) < 0)
			return vmdk_damaged(e);
		if (read_data(v, &r, p, off, e) < 0) {
			(void)vmdk_at(v, r.extent, off, e);
			return vmdk_damaged(e);
		}
		p += r.len;
		off += r.len;
		len -= (size_t)r.len;
	}
	return 0;
}

static void vmdk_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct vmdk *v = (struct vmdk *)im;
	struct err unheard = ERR_INIT;	/* advice: who reads will find the error */

	(void)state;
	while (len) {
		struct vmdk_run r;

		if (vmdk_run_at(v, off, len, &r, &unheard) < 0)
			return;
		if (r.kind == EXTENT_DATA) {
			uint64_t packed = !r.compressed ? 0 : r.next ? r.next - r.host : r.extent->sparse->grain;

			file_advise(&r.extent->file->bytes, r.host, r.compressed ? packed : r.len, will_need);
		}
		off += r.len;
		len -= r.len;
	}
}

const struct image_ops vmdk_ops = {
	.format = "vmdk",
	.close = vmdk_close,
	.next_extent = vmdk_next_extent,
	.pread = vmdk_pread,
	.state_digest = vmdk_state_digest,
	.advise = vmdk_advise,
};
