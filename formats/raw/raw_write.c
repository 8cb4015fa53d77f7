/*
 * raw_write.c - the raw writer.
 *
 * A file starts as a hole, so zeros are simply not written.  A device has old content: a bitmap tells for each unit
 * whether that is gone.  A write to a part of an untouched unit zeroes the rest first; finish zeroes untouched units.
 */
#include <inttypes.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/raw/raw_pack.h"
#include "formats/raw/raw_write.h"
#include "formats/target.h"

#define UNIT_BYTES ((uint64_t)64 << 10)
#define BITMAP_MAX_BYTES ((uint64_t)8 << 20)
#define DEFAULT_MODE 0600

struct raw_writer {
	struct image_writer w;
	char *path;
	struct fs_atomic file;		/* fd -1 for a device */
	int fd;				/* file.fd, or the device, owned */
	bool replace, begun, device;
	enum preallocation preallocation;
	uint64_t unit;			/* device: bytes behind a bit of gone */
	_Atomic(uint8_t) *gone;		/* device: 1 = the unit's old content is no more */
};

static void raw_free(struct raw_writer *r)
{
	if (r->device)
		close_fd(&r->fd);
	fs_atomic_done(&r->file);
	free(r->gone);
	free(r->path);
	free(r);
}

static void raw_abort(struct image_writer *w)
{
	raw_free((struct raw_writer *)w);
}

static int raw_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct raw_writer *r = (struct raw_writer *)w;

	if (r->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a raw image has one state, of %" PRIu64 " bytes", w->size);
	r->begun = true;
	return 0;
}

/* ---- devices ---- */

/* Marks unit i; true when it was marked before. */
static bool mark_gone(struct raw_writer *r, uint64_t i)
{
	uint8_t bit = (uint8_t)(1U << (i % 8));

	return atomic_fetch_or(&r->gone[i / 8], bit) & bit;
}

/* A part [off, off+len) of one unit; buf NULL = zeros. */
static int device_part(struct raw_writer *r, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	uint64_t start = round_down(off, r->unit), end = min_u64(start + r->unit, r->w.size);

	if (!mark_gone(r, off / r->unit) && len < end - start) {
		if (target_zero_device(r->fd, start, off - start, e) < 0 ||
		    target_zero_device(r->fd, off + len, end - off - len, e) < 0)
			return e->code;
	}
	if (!buf || bytes_all_zero(buf, len))
		return target_zero_device(r->fd, off, len, e);
	return fs_pwrite_full(r->fd, buf, len, off, e);
}

static int device_write(struct raw_writer *r, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	for (size_t n; len > 0; buf += n, len -= n, off += n) {
		n = (size_t)min_u64(len, r->unit - off % r->unit);
		if (device_part(r, buf, n, off, e) < 0)
			return e->code;
	}
	return 0;
}

/* Whole units in one go, the rest by parts. */
static int device_zero(struct raw_writer *r, uint64_t off, uint64_t len, struct err *e)
{
	uint64_t end = off + len, first = div_up(off, r->unit);
	uint64_t last = end == r->w.size ? div_up(end, r->unit) : end / r->unit;	/* the last unit may be short */

	if (first >= last) {
		for (uint64_t n; off < end; off += n) {
			n = min_u64(end - off, r->unit - off % r->unit);
			if (device_part(r, NULL, (size_t)n, off, e) < 0)
				return e->code;
		}
		return 0;
	}
	if (off < first * r->unit && device_part(r, NULL, (size_t)(first * r->unit - off), off, e) < 0)
		return e->code;
	if (end > last * r->unit && device_part(r, NULL, (size_t)(end - last * r->unit), last * r->unit, e) < 0)
		return e->code;
	for (uint64_t i = first; i < last; i++)
		(void)mark_gone(r, i);	/* whatever it was, it is zero now */
	return target_zero_device(r->fd, first * r->unit, min_u64(last * r->unit, end) - first * r->unit, e);
}

/* Zeroes the runs of units that nobody touched. */
static int device_zero_rest(struct raw_writer *r, struct err *e)
{
	uint64_t units = div_up(r->w.size, r->unit), run = 0;

	for (uint64_t i = 0; i <= units; i++) {
		if (i < units && !mark_gone(r, i)) {
			run++;
			continue;
		}
		if (run && target_zero_device(r->fd, (i - run) * r->unit,
					      min_u64(i * r->unit, r->w.size) - (i - run) * r->unit, e) < 0)
			return e->code;
		run = 0;
	}
	return 0;
}

static int device_finish(struct raw_writer *r, struct err *e)
{
	if (device_zero_rest(r, e) < 0)
		return e->code;
	if (FS_RETRY(fsync(r->fd)) < 0)
		return err_sys(e, "fsync");
	(void)ioctl(r->fd, BLKRRPART);	/* the new partitions; a device that can have none says no */
	return 0;
}

/* ---- the writer ---- */

static int raw_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct raw_writer *r = (struct raw_writer *)w;
	int rc = r->device ? device_write(r, buf, len, off, e) : target_write_sparse(r->fd, buf, len, off, e);

	return rc < 0 ? err_ctx(e, "%s", r->path) : 0;
}

static int raw_zero(struct image_writer *w, uint64_t off, uint64_t len, struct err *e)
{
	struct raw_writer *r = (struct raw_writer *)w;

	if (r->device && device_zero(r, off, len, e) < 0)
		return err_ctx(e, "%s", r->path);
	return 0;
}

static int raw_finish(struct image_writer *w, struct err *e)
{
	struct raw_writer *r = (struct raw_writer *)w;
	int rc;

	if (!r->begun)
		rc = err_set(e, ERR_INTERNAL, "finished before it was begun");
	else
		rc = r->device ? device_finish(r, e) : fs_atomic_commit(&r->file, r->replace, e);
	if (rc < 0 && r->device)	/* fs_atomic_commit names the file itself */
		err_ctx(e, "%s", r->path);
	raw_free(r);
	return rc;
}

static const struct writer_ops raw_ops = {
	.format = "raw",
	.concurrent = true,
	.begin_state = raw_begin,
	.write = raw_write,
	.zero = raw_zero,
	.finish = raw_finish,
	.abort = raw_abort,
};

static int check_opts(const struct writer_opts *o, bool device, struct err *e)
{
	if (o->cluster_size)
		return err_set(e, ERR_INVALID, "a raw image has no clusters");
	if (o->max_size > o->size)
		return err_set(e, ERR_INVALID, "a raw image has one size");
	if (device && o->preallocation != PREALLOC_OFF)
		return err_set(e, ERR_INVALID, "a block device cannot be preallocated: it is what it is");
	if (o->preallocation == PREALLOC_METADATA) {
		err_set(e, ERR_INVALID, "a raw image has no metadata to preallocate");
		return err_hint(e, "use falloc, full or off");
	}
	if (o->size > INT64_MAX)
		return err_set(e, ERR_INVALID, "a file cannot have %" PRIu64 " bytes", o->size);
	return 0;
}

static int open_device(struct raw_writer *r, struct err *e)
{
	uint64_t size;

	if (target_open_device(r->path, &r->fd, &size, e) < 0)
		return e->code;
	if (size < r->w.size)
		return err_set(e, ERR_INVALID, "%s has %" PRIu64 " bytes, the disk needs %" PRIu64, r->path, size,
			       r->w.size);
	r->unit = UNIT_BYTES;
	while (div_up(r->w.size, r->unit * 8) > BITMAP_MAX_BYTES)
		r->unit *= 2;
	r->w.cluster_size = (uint32_t)r->unit;
	r->gone = calloc((size_t)div_up(r->w.size, r->unit * 8) + 1, 1);
	return r->gone ? 0 : err_set(e, ERR_NOMEM, "map of %s", r->path);
}

static int open_file(struct raw_writer *r, mode_t mode, struct err *e)
{
	if (fs_atomic_open(&r->file, r->path, r->replace, mode ? mode : DEFAULT_MODE, e) < 0)
		return e->code;
	r->fd = r->file.fd;
	if (FS_RETRY(ftruncate(r->fd, (off_t)r->w.size)) < 0)
		return err_sys(e, "%s: size of %" PRIu64 " bytes", r->path, r->w.size);
	if (r->preallocation != PREALLOC_OFF && target_reserve(r->fd, 0, r->w.size, e) < 0)
		return err_ctx(e, "%s", r->path);
	if (r->preallocation == PREALLOC_FULL && target_write_zeros(r->fd, 0, r->w.size, e) < 0)
		return err_ctx(e, "%s", r->path);
	return 0;
}

int raw_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	struct target t;
	enum raw_pack pack = raw_pack_of(o);
	struct raw_writer *r;
	int rc;

	if (target_look(o->path, &t, e) < 0 || check_opts(o, t.block_device, e) < 0)
		return e->code;
	if (pack != RAW_PLAIN)
		return t.block_device ? err_set(e, ERR_INVALID, "%s is a block device: a compressed image is a file", o->path) :
					raw_pack_create(o, pack, ret, e);
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	r->w = (struct image_writer){ .ops = &raw_ops, .cluster_size = UNIT_BYTES, .size = o->size };
	r->file.fd = r->fd = -1;
	r->device = t.block_device;
	r->replace = o->replace;
	r->preallocation = o->preallocation;
	r->path = strdup(o->path);
	if (!r->path)
		rc = err_set(e, ERR_NOMEM, "writer of %s", o->path);
	else
		rc = r->device ? open_device(r, e) : open_file(r, o->mode, e);
	if (rc < 0) {
		raw_free(r);
		return rc;
	}
	*ret = &r->w;
	return 0;
}
