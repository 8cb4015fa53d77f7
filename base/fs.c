/* fs.c - whole reads and writes, and the one way in which a file appears under its name. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/num.h"
#include "base/text.h"

/* Of one pwrite.  The page cache takes what comes at once in folios of that size.  Large ones are memory that was long
 * free, and of a virtual machine whose host takes back what is free each must be fetched: that cost 3 times the
 * copying. */
#define WRITE_BYTES ((size_t)64 << 10)
#define READ_STEP_BYTES ((size_t)64 << 10)
#define TMP_NAME_TRIES 100

void close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static int check_range(size_t len, uint64_t off, struct err *e)
{
	if (!range_ok(off, len, INT64_MAX))
		return err_set(e, ERR_INVALID, "%zu bytes at %" PRIu64 " are beyond what a file can hold", len, off);
	return 0;
}

int fs_pread(int fd, void *buf, size_t len, uint64_t off, size_t *ret_len, struct err *e)
{
	size_t done = 0;

	if (check_range(len, off, e) < 0)
		return e->code;
	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read of %zu bytes at %" PRIu64, len - done, off + done);
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret_len = done;
	return 0;
}

int fs_pread_full(int fd, void *buf, size_t len, uint64_t off, struct err *e)
{
	size_t got;

	if (fs_pread(fd, buf, len, off, &got, e) < 0)
		return e->code;
	if (got < len)
		return err_set(e, ERR_CORRUPT, "file ends at %" PRIu64 ", %zu bytes at %" PRIu64 " wanted", off + got,
			       len, off);
	return 0;
}

int fs_pwrite_full(int fd, const void *buf, size_t len, uint64_t off, struct err *e)
{
	size_t done = 0;

	if (check_range(len, off, e) < 0)
		return e->code;
	while (done < len) {
		ssize_t n =
			pwrite(fd, (const char *)buf + done, min_size(len - done, WRITE_BYTES), (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write of %zu bytes at %" PRIu64, len - done, off + done);
		if (n == 0)
			return err_set(e, ERR_IO, "write at %" PRIu64 " took no bytes", off + done);
		done += (size_t)n;
	}
	return 0;
}

int fs_write_full(int fd, const void *buf, size_t len, struct err *e)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write of %zu bytes", len - done);
		if (n == 0)
			return err_set(e, ERR_IO, "write took no bytes");
		done += (size_t)n;
	}
	return 0;
}

/* Reads fd to its end; one byte more than max proves that it is too large. */
static int read_to_end(int fd, const char *path, size_t max, uint8_t **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = NULL;
	size_t len = 0, cap = 0;

	for (;;) {
		ssize_t n;

		if (cap - len < 2) {
			size_t want = cap ? cap * 2 : READ_STEP_BYTES;
			uint8_t *p = want > cap ? realloc(buf, want) : NULL;

			if (!p)
				return err_set(e, ERR_NOMEM, "%s: no memory for %zu bytes", path, want);
			buf = p;
			cap = want;
		}
		n = read(fd, buf + len, cap - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "%s: read at %zu", path, len);
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > max)
			return err_set(e, ERR_INVALID, "%s: larger than %zu bytes", path, max);
	}
	buf[len] = 0;
	*ret_len = len;
	*ret = STEAL(buf);
	return 0;
}

int fs_read_file(const char *path, size_t max, uint8_t **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));

	if (fd < 0)
		return err_sys(e, "%s", path);
	return read_to_end(fd, path, max, ret, ret_len, e);
}

static int make_dir(const char *path, mode_t mode, struct err *e)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return fs_sync_parent(path, e);
	if (errno != EEXIST) {
		int saved = errno;

		/* a read-only or foreign parent that exists already answers EROFS or EACCES */
		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
			return 0;
		errno = saved;
		return err_sys(e, "folder %s", path);
	}
	if (stat(path, &st) < 0)
		return err_sys(e, "folder %s", path);
	return S_ISDIR(st.st_mode) ? 0 : err_set(e, ERR_EXISTS, "%s is there and is not a folder", path);
}

int fs_mkdirs(const char *path, mode_t mode, struct err *e)
{
	CLEANUP(free_ptr) char *part = text_printf(e, "%s", path);

	if (!part)
		return e->code;
	for (char *p = part; *p; p++) {
		if (*p != '/' || p == part || p[-1] == '/')
			continue;
		*p = '\0';
		if (make_dir(part, mode, e) < 0)
			return e->code;
		*p = '/';
	}
	return make_dir(part, mode, e);
}

int fs_sync_parent(const char *path, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(path, e);
	CLEANUP(close_fd) int fd = -1;

	if (!dir)
		return e->code;
	fd = FS_RETRY(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd < 0)
		return err_sys(e, "folder %s", dir);
	/* EINVAL: this file system has no fsync of folders; nothing more can be done */
	if (FS_RETRY(fsync(fd)) < 0 && errno != EINVAL)
		return err_sys(e, "folder %s: fsync", dir);
	return 0;
}

char *fs_join(const char *dir, const char *name, struct err *e)
{
	size_t n = strlen(dir);

	if (name[0] == '/' || n == 0)
		return text_printf(e, "%s", name);
	return text_printf(e, "%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

char *fs_dirname(const char *path, struct err *e)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')	/* "a/b/" is in "a" */
		n--;
	while (n > 0 && path[n - 1] != '/')
		n--;
	if (n == 0)
		return text_printf(e, ".");
	while (n > 1 && path[n - 1] == '/')
		n--;
	return text_printf(e, "%.*s", n > INT_MAX ? INT_MAX : (int)n, path);
}

const char *fs_basename(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* A name in dir that nobody has: it does not grow with the target's, so any legal target works. */
static char *tmp_name(const char *dir, struct err *e)
{
	uint8_t rnd[8];
	char hex[17];

	if (getrandom(rnd, sizeof(rnd), 0) == sizeof(rnd))
		return text_printf(e, "%s/.kedge-%s.tmp", dir, text_hex(rnd, sizeof(rnd), hex));
	(void)err_sys(e, "random bytes");
	return NULL;
}

int fs_name_fd(int fd, int dir, const char *name)
{
	char proc[40];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, dir, name, AT_SYMLINK_FOLLOW);
}

bool fs_unnamed_lasts(int fd)
{
	struct statfs st;

	return FS_RETRY(fstatfs(fd, &st)) == 0 && (st.f_type == EXT4_SUPER_MAGIC || st.f_type == XFS_SUPER_MAGIC ||
						   st.f_type == TMPFS_MAGIC);
}

bool fs_reserve_pays(int fd)
{
	struct statfs st;

	return FS_RETRY(fstatfs(fd, &st)) == 0 && st.f_type == EXT4_SUPER_MAGIC;
}

int fs_reserve(int fd, uint64_t off, uint64_t len)
{
	if (!range_ok(off, len, INT64_MAX)) {
		errno = EFBIG;
		return -1;
	}
	return FS_RETRY(fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len));
}

/* A file without a name in dir, which is gone when we are, however we go; -1 where there is none that could be named
 * later: that is tried with another one first. */
static int open_unnamed(const char *dir, mode_t mode)
{
	struct err unheard = ERR_INIT;	/* there is another way */
	CLEANUP(close_fd) int trial = FS_RETRY(open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
	CLEANUP(free_ptr) char *name = trial >= 0 && fs_unnamed_lasts(trial) ? tmp_name(dir, &unheard) : NULL;
	bool named;

	if (!name)
		return -1;
	named = fs_name_fd(trial, AT_FDCWD, name) == 0;
	/* a network's answer may be lost after the deed: the name goes whatever was said */
	if ((unlink(name) < 0 && errno != ENOENT) || !named)
		return -1;
	return FS_RETRY(open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, mode));
}

int fs_scratch(const char *dir, int *ret_fd, struct err *e)
{
	int fd = FS_RETRY(open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));

	for (int i = 0; fd < 0 && i < TMP_NAME_TRIES; i++) {
		CLEANUP(free_ptr) char *tmp = tmp_name(dir, e);

		if (!tmp)
			return e->code;
		fd = FS_RETRY(open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
		if (fd >= 0)
			(void)unlink(tmp);
		else if (errno != EEXIST)
			break;
	}
	if (fd < 0)
		return err_sys(e, "%s: temporary file", dir);
	*ret_fd = fd;
	return 0;
}

/* Creates the temporary file in path's folder.  It is made by open, not mkstemp, so that the mode follows the umask. */
static int open_tmp(struct fs_atomic *a, const char *path, mode_t mode, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(path, e);

	if (!dir)
		return e->code;
	a->fd = open_unnamed(dir, mode);
	if (a->fd >= 0)
		return 0;
	for (int i = 0; i < TMP_NAME_TRIES; i++) {
		CLEANUP(free_ptr) char *tmp = tmp_name(dir, e);

		if (!tmp)
			return e->code;
		a->fd = FS_RETRY(open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
		if (a->fd >= 0) {
			a->tmp = STEAL(tmp);
			return 0;
		}
		if (errno != EEXIST)
			return err_sys(e, "%s: temporary file in its folder", path);
	}
	return err_set(e, ERR_IO, "%s: no free name for a temporary file", path);
}

static int already_there(const char *path, struct err *e)
{
	return err_set(e, ERR_EXISTS, "%s exists already", path);
}

int fs_atomic_open(struct fs_atomic *a, const char *path, bool replace, mode_t mode, struct err *e)
{
	CLEANUP(free_ptr) char *copy = NULL;
	struct stat st;

	*a = (struct fs_atomic){ .fd = -1 };
	if (!replace && lstat(path, &st) == 0)
		return already_there(path, e);
	copy = text_printf(e, "%s", path);
	if (!copy || open_tmp(a, path, mode, e) < 0)
		return e->code;
	a->path = STEAL(copy);
	return 0;
}

/* Gives the file its name unless the name is taken, whatever the file system can do. */
static int rename_new(const char *tmp, const char *path, struct err *e)
{
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST)
		return already_there(path, e);
	if (errno != EINVAL && errno != ENOSYS)
		return err_sys(e, "%s: rename of the finished file", path);
	if (link(tmp, path) < 0)
		return errno == EEXIST ? already_there(path, e) : err_sys(e, "%s: link of the finished file", path);
	if (unlink(tmp) < 0)
		return err_sys(e, "%s: removal of its temporary name %s", path, tmp);
	return 0;
}

/* The temporary name that an unnamed file needs on its way to replace another. */
static int name_tmp(struct fs_atomic *a, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(a->path, e);
	CLEANUP(free_ptr) char *tmp = dir ? tmp_name(dir, e) : NULL;

	if (!tmp)
		return e->code;
	if (fs_name_fd(a->fd, AT_FDCWD, tmp) < 0) {
		err_sys(e, "%s: temporary name of the finished file", a->path);
		unlink(tmp);	/* in case only the answer was lost */
		return e->code;
	}
	a->tmp = STEAL(tmp);
	return 0;
}

static int take_name(struct fs_atomic *a, bool replace, struct err *e)
{
	if (!a->tmp && !replace) {
		if (fs_name_fd(a->fd, AT_FDCWD, a->path) == 0)
			return 0;
		return errno == EEXIST ? already_there(a->path, e)
				       : err_sys(e, "%s: name of the finished file", a->path);
	}
	if (!replace)
		return rename_new(a->tmp, a->path, e);
	if (!a->tmp && name_tmp(a, e) < 0)
		return e->code;
	return rename(a->tmp, a->path) < 0 ? err_sys(e, "%s: rename of the finished file", a->path) : 0;
}

int fs_atomic_name(struct fs_atomic *a, bool replace, struct err *e)
{
	if (FS_RETRY(fsync(a->fd)) < 0 && errno != EINVAL)
		return err_sys(e, "%s: fsync", a->path);
	if (take_name(a, replace, e) < 0)
		return e->code;
	free(STEAL(a->tmp));	/* it has its name: nothing to remove any more */
	return 0;
}

int fs_atomic_commit(struct fs_atomic *a, bool replace, struct err *e)
{
	return fs_atomic_name(a, replace, e) < 0 ? e->code : fs_sync_parent(a->path, e);
}

void fs_atomic_done(struct fs_atomic *a)
{
	close_fd(&a->fd);
	if (a->tmp)
		unlink(a->tmp);
	free(a->tmp);
	free(a->path);
	*a = (struct fs_atomic){ .fd = -1 };
}

int fs_write_atomic(const char *path, const void *buf, size_t len, bool replace, mode_t mode, struct err *e)
{
	CLEANUP(fs_atomic_done) struct fs_atomic a = { .fd = -1 };

	if (fs_atomic_open(&a, path, replace, mode, e) < 0)
		return e->code;
	if (fs_write_full(a.fd, buf, len, e) < 0)
		return err_ctx(e, "%s", path);
	return fs_atomic_commit(&a, replace, e);
}
