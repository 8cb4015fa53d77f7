/*
 * vmdk_write.c - the VMDK writer: options, files and their names.
 */
#include "formats/vmdk/vmdk_write.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/ids.h"
#include "formats/target.h"
#include "formats/vmdk/vmdk_write_internal.h"

#define SPLIT_BYTES ((uint64_t)4192256 * VMDK_SECTOR)	/* 2047 MiB, as VMware splits */
#define DEFAULT_MODE 0600

static void vw_free(struct vw *v)
{
	for (size_t i = 0; v->extents && i < v->nextents; i++) {
		struct vw_extent *x = &v->extents[i];

		vw_sparse_done(x);
		fs_atomic_done(&x->file);
		pthread_mutex_destroy(&x->lock);
		free(x->name);
	}
	free(v->extents);
	vw_stream_free(v->stream);
	fs_atomic_done(&v->descriptor);
	free(v->path);
	free(v);
}

static void vw_abort(struct image_writer *w)
{
	vw_free((struct vw *)w);
}

static bool is_flat(const struct vw *v)
{
	return v->subformat == VW_FLAT || v->subformat == VW_VMFS;
}

/* ---- guest data ---- */

static int vw_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct vw *v = (struct vw *)w;

	if (v->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a VMDK has one state, of %" PRIu64 " bytes", w->size);
	v->begun = true;
	if (v->preallocation != PREALLOC_OFF && target_reserve(v->extents[0].file.fd, 0, v->size, e) < 0)
		return err_ctx(e, "%s", v->path);
	if (v->preallocation == PREALLOC_FULL && target_write_zeros(v->extents[0].file.fd, 0, v->size, e) < 0)
		return err_ctx(e, "%s", v->path);
	return 0;
}

static int write_some(struct vw *v, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	if (v->stream)
		return vw_stream_write(v, buf, len, off, e);
	/* All extents but the last have one length. */
	for (size_t n; len; buf += n, len -= n, off += n) {
		struct vw_extent *x = &v->extents[off / v->extents[0].len];
		uint64_t in = off - x->start;
		int r;

		n = (size_t)min_u64(len, x->len - in);
		r = is_flat(v) ? target_write_sparse(x->file.fd, buf, n, in, e) : vw_sparse_write(x, buf, n, in, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int vw_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vw *v = (struct vw *)w;

	if (!v->begun)
		return err_set(e, ERR_INTERNAL, "no state was begun");
	return write_some(v, buf, len, off, e) < 0 ? err_ctx(e, "%s", v->path) : 0;
}

/* ---- the end ---- */

static int write_descriptor(struct vw *v, struct err *e)
{
	struct buf b;
	int r;

	if (v->descriptor.fd < 0)
		return 0;
	buf_init(&b, VMDK_DESCRIPTOR_MAX);
	r = vw_descriptor(v, &b, e);
	if (r == 0)
		r = fs_pwrite_full(v->descriptor.fd, b.p, b.len, 0, e);
	buf_done(&b);
	return r;
}

static int end(struct vw *v, struct err *e)
{
	if (!v->begun)
		return err_set(e, ERR_INTERNAL, "finished before it was begun");
	if (v->stream)
		return vw_stream_end(v, e);
	for (size_t i = 0; i < v->nextents && !is_flat(v); i++)
		if (vw_sparse_end(v, &v->extents[i], e) < 0)
			return e->code;
	return write_descriptor(v, e);
}

static int make_durable(const struct fs_atomic *f, struct err *e)
{
	return f->fd >= 0 && FS_RETRY(fsync(f->fd)) < 0 && errno != EINVAL ? err_sys(e, "%s: fsync", f->path) : 0;
}

/* An old descriptor must not stand beside new extents, which have its extents' names. */
static int remove_old(const struct vw *v, struct err *e)
{
	if (v->descriptor.fd < 0 || !v->replace)
		return 0;
	if (unlink(v->path) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "%s: removal of the old file", v->path);
	return fs_sync_parent(v->path, e);
}

/* The names, extents' first; *named counts those that were given, whatever is returned. */
static int give_names(struct vw *v, size_t *named, struct err *e)
{
	for (; *named < v->nextents; ++*named)
		if (fs_atomic_name(&v->extents[*named].file, v->replace, e) < 0)
			return e->code;
	if (fs_sync_parent(v->path, e) < 0 || v->descriptor.fd < 0)
		return e->code;
	if (fs_atomic_name(&v->descriptor, v->replace, e) < 0)
		return e->code;
	++*named;
	return fs_sync_parent(v->path, e);
}

/* vmdk_write.h has the order. */
static int commit(struct vw *v, struct err *e)
{
	size_t named = 0;
	int r;

	if (v->part) {
		v->part->len = vw_stream_bytes(v->stream);
		return 0;
	}
	r = make_durable(&v->descriptor, e);
	for (size_t i = 0; r == 0 && i < v->nextents; i++)
		r = make_durable(&v->extents[i].file, e);
	if (r < 0 || remove_old(v, e) < 0)
		return e->code;
	r = give_names(v, &named, e);
	/* Best effort, the descriptor first: what is left without it is no disk. */
	if (r < 0 && named > v->nextents)
		(void)unlink(v->path);
	for (size_t i = 0; r < 0 && i < min_size(named, v->nextents); i++)
		(void)unlink(v->extents[i].file.path);
	return r;
}

static int vw_finish(struct image_writer *w, struct err *e)
{
	struct vw *v = (struct vw *)w;
	int r = end(v, e);

	if (r < 0)
		err_ctx(e, "%s", v->path);
	else
		r = commit(v, e);
	vw_free(v);
	return r;
}

static const struct writer_ops vw_ops = {
	.format = "vmdk",
	.concurrent = true,
	.begin_state = vw_begin,
	.write = vw_write,
	.finish = vw_finish,
	.abort = vw_abort,
};

/* ---- the beginning ---- */

static const char *const subformats[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
					  "streamOptimized", "vmfs" };

static int choose(const struct writer_opts *o, enum vw_subformat *ret, struct err *e)
{
	bool room = o->preallocation != PREALLOC_OFF;

	*ret = o->compress ? VW_STREAM : room ? VW_FLAT : VW_SPARSE;
	for (unsigned i = 0; o->subformat; i++) {
		if (i == sizeof(subformats) / sizeof(*subformats))
			return err_set(e, ERR_INVALID, "a VMDK is not %s", o->subformat);
		if (strcmp(o->subformat, subformats[i]) != 0)
			continue;
		*ret = (enum vw_subformat)i;
		break;
	}
	if (o->compress && *ret != VW_STREAM) {
		(void)err_set(e, ERR_INVALID, "a %s VMDK is not compressed", o->subformat);
		return err_hint(e, "--subformat streamOptimized is");
	}
	if (room && (o->preallocation == PREALLOC_METADATA || (*ret != VW_FLAT && *ret != VW_VMFS))) {
		(void)err_set(e, ERR_INVALID, "a %s VMDK cannot be preallocated%s", subformats[*ret],
			      o->preallocation == PREALLOC_METADATA ? " in its metadata alone" : "");
		return err_hint(e, "use --preallocation falloc or full with monolithicFlat or vmfs");
	}
	return 0;
}

static int check_opts(const struct writer_opts *o, struct err *e)
{
	struct target t;
	char q[300];

	if (target_look(o->path, &t, e) < 0)
		return e->code;
	if (t.block_device)
		return err_set(e, ERR_INVALID, "%s is a block device: only a raw image can be written to it", o->path);
	if (o->cluster_size)
		return err_set(e, ERR_INVALID, "a VMDK has grains of 64 KiB");
	if (o->max_size > o->size)
		return err_set(e, ERR_INVALID, "a VMDK has one size");
	if (!o->size || o->size > VMDK_SECTORS_MAX * VMDK_SECTOR)
		return err_set(e, ERR_INVALID, "a VMDK cannot have %" PRIu64 " bytes", o->size);
	for (const char *c = fs_basename(o->path); *c; c++)
		if (*c == '"' || (unsigned char)*c < ' ')
			return err_set(e, ERR_INVALID, "%s: a VMDK's descriptor cannot hold that name",
				       text_quote(o->path, q, sizeof(q)));
	return strlen(fs_basename(o->path)) > 240 ? err_set(e, ERR_INVALID, "%s: the name is too long", o->path) : 0;
}

/* The name of an extent's file beside path: "disk.vmdk" has "disk-flat.vmdk", "disk-s001.vmdk". */
static char *extent_name(const struct vw *v, size_t i, struct err *e)
{
	const char *base = fs_basename(v->path);
	size_t len = strlen(base);

	if (v->subformat == VW_SPARSE || v->subformat == VW_STREAM)
		return text_printf(e, "%s", base);
	if (len > 5 && !strcmp(base + len - 5, ".vmdk"))
		len -= 5;
	if (v->subformat == VW_SPLIT_SPARSE)
		return text_printf(e, "%.*s-s%03zu.vmdk", (int)len, base, i + 1);
	return text_printf(e, "%.*s-flat.vmdk", (int)len, base);
}

static int open_extent(struct vw *v, struct vw_extent *x, mode_t mode, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(v->path, e);
	CLEANUP(free_ptr) char *path = NULL;

	x->name = dir ? extent_name(v, (size_t)(x - v->extents), e) : NULL;
	path = x->name ? fs_join(dir, x->name, e) : NULL;
	if (!path)
		return e->code;
	if (v->part) {
		x->file.fd = FS_RETRY(fcntl(v->part->fd, F_DUPFD_CLOEXEC, 0));
		return x->file.fd < 0 ? err_sys(e, "%s", path) : 0;
	}
	if (fs_atomic_open(&x->file, path, v->replace, mode, e) < 0)
		return e->code;
	if (is_flat(v))
		return FS_RETRY(ftruncate(x->file.fd, (off_t)x->len)) < 0 ?
		       err_sys(e, "%s: size of %" PRIu64 " bytes", path, x->len) : 0;
	return v->subformat == VW_STREAM ? 0 : vw_sparse_init(v, x, e);
}

static int open_files(struct vw *v, mode_t mode, struct err *e)
{
	uint64_t each = v->subformat == VW_SPLIT_SPARSE ? SPLIT_BYTES : v->size;
	uint64_t n = div_up(v->size, each);

	if (n > VMDK_EXTENTS_MAX) {
		(void)err_set(e, ERR_INVALID, "a disk of %" PRIu64 " bytes would be more than %d files", v->size,
			      VMDK_EXTENTS_MAX);
		return err_hint(e, "--subformat monolithicFlat is two");
	}
	v->extents = calloc((size_t)n, sizeof(*v->extents));
	if (!v->extents)
		return err_set(e, ERR_NOMEM, "%" PRIu64 " extents", n);
	for (uint64_t i = 0; i < n; i++) {
		v->extents[i] = (struct vw_extent){
			.file.fd = -1, .start = i * each, .len = min_u64(each, v->size - i * each),
		};
		pthread_mutex_init(&v->extents[i].lock, NULL);
	}
	v->nextents = (size_t)n;
	for (uint64_t i = 0; i < n; i++)
		if (open_extent(v, &v->extents[i], mode, e) < 0)
			return e->code;
	if (v->subformat == VW_SPARSE || v->subformat == VW_STREAM)
		return 0;
	return fs_atomic_open(&v->descriptor, v->path, v->replace, mode, e);
}

static void make_ids(struct vw *v, const struct writer_opts *o)
{
	v->cid = id32_for(o, o->ids ? o->ids->content : NULL, "vmdk content");
	uuid_for(o, o->ids ? o->ids->uuid : NULL, "vmdk image", v->uuid);
	uuid_for(o, o->ids ? o->ids->modify : NULL, "vmdk modification", v->modify);
	uuid_for(o, NULL, "vmdk disk", v->vmware_uuid);
	memcpy(v->vmware_uuid, "\x60\x00\xc2", 3);
	v->vmware_uuid[3] = (uint8_t)(0x90 | (v->vmware_uuid[3] & 0x0f));
	uuid_for(o, NULL, "vmdk long content", v->content);
	put_be32(v->content + 12, v->cid);
}

int vmdk_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	enum vw_subformat subformat;
	struct vw *v;

	if (check_opts(o, e) < 0 || choose(o, &subformat, e) < 0)
		return e->code;
	if (o->part && subformat != VW_STREAM)
		return err_set(e, ERR_INTERNAL, "only a streamOptimized VMDK can be a part of a file");
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	v->w = (struct image_writer){
		.ops = &vw_ops, .cluster_size = (uint32_t)VW_GRAIN_BYTES, .size = o->size,
		.in_order = subformat == VW_STREAM || o->id_seed,
	};
	v->subformat = subformat;
	v->descriptor.fd = -1;
	v->replace = o->replace;
	v->part = o->part;
	v->preallocation = o->preallocation;
	v->size = round_up(o->size, VMDK_SECTOR);
	make_ids(v, o);
	v->path = strdup(o->path);
	if (!v->path)
		err_set(e, ERR_NOMEM, "writer of %s", o->path);
	if (!v->path || open_files(v, o->mode ? o->mode : DEFAULT_MODE, e) < 0 ||
	    (subformat == VW_STREAM && vw_stream_new(v, o, &v->stream, e) < 0)) {
		vw_free(v);
		return e->code;
	}
	*ret = &v->w;
	return 0;
}
