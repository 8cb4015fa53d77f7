/*
 * file.c - the file behind an image: identity, holes, padded reads, page cache advice.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"

static int64_t ts_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int file_identity(int fd, struct image_identity *ret, struct err *e)
{
	struct image_identity id = { 0 };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat");
	id.dev = (uint64_t)st.st_dev;
	id.ino = (uint64_t)st.st_ino;
	id.mtime_ns = ts_ns(st.st_mtim);
	id.ctime_ns = ts_ns(st.st_ctim);
	if (S_ISREG(st.st_mode)) {
		if (st.st_size < 0)
			return err_set(e, ERR_INVALID, "negative file size");
		id.size = (uint64_t)st.st_size;
	} else if (S_ISBLK(st.st_mode)) {
		id.block_device = true;
		/* Two device nodes of one device are one source: identify the device, not its node. */
		id.dev = (uint64_t)st.st_rdev;
		id.ino = 0;
		if (ioctl(fd, BLKGETSIZE64, &id.size) < 0)
			return err_sys(e, "size of the block device");
	} else {
		return err_set(e, ERR_INVALID, "%s, not a file or block device",
			       S_ISDIR(st.st_mode) ? "a folder" : S_ISFIFO(st.st_mode) ? "a FIFO" :
			       S_ISSOCK(st.st_mode) ? "a socket" : "a character device");
	}
	*ret = id;
	return 0;
}

int file_check_unchanged(int fd, const struct image_identity *was, struct err *e)
{
	struct image_identity now;
	const char *what = NULL;
	int r = file_identity(fd, &now, e);

	if (r < 0)
		return r;
	if (now.size != was->size)
		return err_set(e, ERR_CHANGED,
			       "size changed while it was read: %" PRIu64 " bytes at the start, %" PRIu64 " now",
			       was->size, now.size);
	if (was->block_device)
		return 0;	/* a device node's times say nothing about the device */
	if (now.dev != was->dev || now.ino != was->ino)
		what = "file was replaced";
	else if (now.mtime_ns != was->mtime_ns)
		what = "file was written to";
	else if (now.ctime_ns != was->ctime_ns)
		what = "file was changed, renamed or removed";
	return what ? err_set(e, ERR_CHANGED, "%s while it was read", what) : 0;
}

int file_pread(const struct file *f, void *buf, size_t len, uint64_t off, size_t *ret_len, struct err *e)
{
	if (off >= f->size) {
		*ret_len = 0;
		return 0;
	}
	return fs_pread(f->fd, buf, (size_t)min_u64(len, f->size - off), f->start + off, ret_len, e);
}

int file_pread_full(const struct file *f, void *buf, size_t len, uint64_t off, struct err *e)
{
	if (!range_ok(off, len, f->size))
		return err_set(e, ERR_CORRUPT, "file ends at %" PRIu64 ", %zu bytes at %" PRIu64 " wanted", f->size,
			       len, off);
	return fs_pread_full(f->fd, buf, len, f->start + off, e);
}

int file_pread_padded(const struct file *f, void *buf, size_t len, uint64_t off, struct err *e)
{
	size_t want = off < f->size ? (size_t)min_u64(len, f->size - off) : 0;
	size_t got = 0;
	int r;

	if (want) {
		r = fs_pread(f->fd, buf, want, f->start + off, &got, e);
		if (r < 0)
			return r;
		if (got < want)
			return err_set(e, ERR_CHANGED,
				       "file ends at %" PRIu64 ", it had %" PRIu64 " bytes when it was opened",
				       off + got, f->size);
	}
	memset((uint8_t *)buf + want, 0, len - want);
	return 0;
}

int file_next_data(const struct file *f, uint64_t off, uint64_t end, bool *ret_data, uint64_t *ret_end, struct err *e)
{
	off_t from = (off_t)(f->start + off), at = lseek(f->fd, from, SEEK_DATA);

	/* a hole to the end; or the file has shrunk, which the read will find */
	if (at < 0 && errno == ENXIO) {
		*ret_data = false;
		*ret_end = end;
		return 0;
	}
	if (at > from) {
		*ret_data = false;
		*ret_end = min_u64((uint64_t)at - f->start, end);
		return 0;
	}
	if (at >= 0)
		at = lseek(f->fd, from, SEEK_HOLE);
	if (at < 0 && errno != EINVAL && errno != EOPNOTSUPP && errno != ENXIO && errno != ESPIPE)
		return err_sys(e, "search for holes at %" PRIu64, off);
	*ret_data = true;
	*ret_end = at > from ? min_u64((uint64_t)at - f->start, end) : end;
	return 0;
}

int file_skip_hole(const struct file *f, uint64_t off, uint64_t end, uint64_t *ret, struct err *e)
{
	off_t from = (off_t)(f->start + off), at = lseek(f->fd, from, SEEK_DATA);

	if (at < 0 && errno != ENXIO && errno != EINVAL && errno != EOPNOTSUPP && errno != ESPIPE)
		return err_sys(e, "search for holes at %" PRIu64, off);
	if (at < 0)	/* a hole to the end; or a file system that can't tell */
		*ret = errno == ENXIO ? end : off;
	else
		*ret = min_u64(at > from ? (uint64_t)at - f->start : off, end);
	return 0;
}

void file_advise(const struct file *f, uint64_t off, uint64_t len, bool will_need)
{
	if (len && off <= INT64_MAX - f->start && len <= INT64_MAX - f->start - off)
		(void)posix_fadvise(f->fd, (off_t)(f->start + off), (off_t)len,
				    will_need ? POSIX_FADV_WILLNEED : POSIX_FADV_DONTNEED);
}

int image_base_init(struct image *im, const struct image_ops *ops, int fd, const char *path,
		    const struct image_open_opts *o, struct err *e)
{
	int r;

	im->ops = ops;
	im->file.fd = -1;
	r = file_identity(fd, &im->identity, e);
	if (r < 0)
		return r;
	im->path = strdup(path);
	if (!im->path)
		return err_set(e, ERR_NOMEM, "path of an image");
	if (o->window && !range_ok(o->window->start, o->window->size, im->identity.size))
		return err_set(e, ERR_INTERNAL, "window outside the file");
	im->file = o->window ? *o->window : (struct file){ .size = im->identity.size };
	im->file.fd = fd;
	return 0;
}

static void part_done(struct image_part *p)
{
	close_fd(&p->fd);
	free(p->path);
}

void image_base_done(struct image *im)
{
	close_fd(&im->file.fd);
	if (im->decoded)
		close_fd(&im->outer_fd);
	free(im->wrapping);
	free(im->path);
	im->path = NULL;
	for (size_t i = 0; i < im->parts.n; i++)
		part_done(&im->parts.p[i]);
	VEC_DONE(&im->parts);
	for (size_t i = 0; i < im->parent.refs.n; i++)
		free(im->parent.refs.p[i]);
	VEC_DONE(&im->parent.refs);
}

int image_part_open(struct image *im, const struct image_open_opts *o, const char *reference, const char *what,
		    uint32_t *ret_file, struct err *e)
{
	CLEANUP(part_done) struct image_part part = { .fd = -1 };
	struct image_part *slot;

	if (o->opener->open(o->opener->opaque, reference, what, &part, e) < 0 ||
	    file_identity(part.fd, &part.identity, e) < 0)
		return e->code;
	for (size_t i = 0; i < im->parts.n; i++) {
		const struct image_identity *id = &im->parts.p[i].identity;

		if (id->dev == part.identity.dev && id->ino == part.identity.ino) {
			*ret_file = (uint32_t)i + 1;
			return 0;
		}
	}
	if (im->parts.n == IMAGE_PARTS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "the image has more than %d files", IMAGE_PARTS_MAX);
	slot = VEC_PUSH(&im->parts, e);
	if (!slot)
		return e->code;
	*slot = part;
	part = (struct image_part){ .fd = -1 };
	*ret_file = (uint32_t)im->parts.n;
	return 0;
}

int image_parent_add(struct image *im, const char *ref, struct err *e)
{
	char **slot;

	for (size_t i = 0; i < im->parent.refs.n; i++)
		if (!strcmp(im->parent.refs.p[i], ref))
			return 0;
	if (im->parent.refs.n == IMAGE_PARENT_REFS_MAX)
		return err_set(e, ERR_CORRUPT, "more than %d places for one parent", IMAGE_PARENT_REFS_MAX);
	slot = VEC_PUSH(&im->parent.refs, e);
	if (!slot)
		return e->code;
	*slot = strdup(ref);
	return *slot ? 0 : err_set(e, ERR_NOMEM, "name of a parent");
}

int image_parent_add_windows(struct image *im, const char *ref, struct err *e)
{
	CLEANUP(free_ptr) char *copy = strdup(ref);

	if (!copy)
		return err_set(e, ERR_NOMEM, "name of a parent");
	for (char *c = copy; *c; c++)
		if (*c == '\\')
			*c = '/';
	if (copy[0] == '/' || (copy[0] && copy[1] == ':'))
		return image_parent_add(im, fs_basename(copy[0] != '/' && !strchr(copy, '/') ? copy + 2 : copy), e);
	return image_parent_add(im, copy, e);
}
