/*
 * record.c - an LD_PRELOAD library that writes down every change below a folder, for tests of power cuts.
 *
 *	KEDGE_RECORD_LOG=FILE	the log, to which any number of processes append
 *	KEDGE_RECORD_ROOT=DIR	what is watched: an absolute path without symbolic links
 *	KEDGE_RECORD_KILL=OP:TEXT:before|after:N
 *				SIGKILL at the Nth call of OP ("name": link or rename) one of whose paths contains TEXT
 *				("name:/index/:after:1")
 *	KEDGE_RECORD_FS=NAME	as on another file system: "plain" has neither O_TMPFILE nor RENAME_NOREPLACE; "btrfs" has, and
 *				says that it is Btrfs
 *
 * A record is appended before each call and another after it, each by one write: what ended before another began has
 * happened before it; all else may be in either order.  tests/power/reclog.py reads the log and describes it.  Calls
 * that change files and are not intercepted here must not be used by the program: that script checks its imports.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PATH_BYTES (2 * PATH_MAX)
#define MAGIC UINT64_C(0x4345524547444544)

enum op {
	OP_CREATE = 1, OP_WRITE, OP_TRUNCATE, OP_FALLOCATE, OP_LINK, OP_RENAME, OP_UNLINK, OP_MKDIR, OP_RMDIR, OP_FSYNC,
	OP_SYNCFS,
};

static const char *const op_names[] = {
	[OP_CREATE] = "create", [OP_WRITE] = "write", [OP_TRUNCATE] = "truncate", [OP_FALLOCATE] = "fallocate",
	[OP_LINK] = "link", [OP_RENAME] = "rename", [OP_UNLINK] = "unlink", [OP_MKDIR] = "mkdir", [OP_RMDIR] = "rmdir",
	[OP_FSYNC] = "fsync", [OP_SYNCFS] = "syncfs",
};

/* In front of each record; the paths and the data follow.  All little-endian, as the machine is. */
struct head {
	uint64_t magic;
	uint32_t bytes;		/* of the whole record */
	uint8_t phase;		/* 0 before the call, 1 after it */
	uint8_t op;
	uint8_t folder;		/* the file is a folder */
	uint8_t unused;
	uint32_t pid, tid;
	uint64_t seq;		/* of the call, within the process */
	int32_t result, error;
	uint64_t dev, ino;	/* of the file that the call is about: after a call that creates it, of the new one */
	uint64_t off, len;
	uint32_t mode;		/* of fallocate */
	uint32_t path_bytes[2];
	uint32_t data_bytes;
};

struct call {
	struct head h;
	char path[2][PATH_BYTES];
	const void *data;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards the log, seq and kills_left */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_len;
static uint64_t seq;
static bool plain, btrfs;
static char kill_op[16], kill_text[PATH_MAX], kill_when[8];
static int kills_left;

static void start(void)
{
	const char *path = getenv("KEDGE_RECORD_LOG"), *dir = getenv("KEDGE_RECORD_ROOT"),
		   *victim = getenv("KEDGE_RECORD_KILL"), *fs = getenv("KEDGE_RECORD_FS");

	plain = fs && !strcmp(fs, "plain");
	btrfs = fs && !strcmp(fs, "btrfs");
	if (victim && sscanf(victim, "%15[^:]:%4095[^:]:%7[^:]:%d", kill_op, kill_text, kill_when, &kills_left) != 4)
		abort();
	if (!path || !dir || strlen(dir) >= sizeof(root))
		return;
	strcpy(root, dir);
	root_len = strlen(root);
	log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (log_fd < 0)
		abort();
}

/* --- what a call is about ----------------------------------------------------------------------------------------- */

static bool below_root(const char *path)
{
	return log_fd >= 0 && !strncmp(path, root, root_len) && (path[root_len] == '/' || path[root_len] == '\0');
}

static void fd_path(int fd, char *ret)
{
	char proc[40];
	ssize_t n;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, ret, PATH_MAX - 1);
	ret[n > 0 ? n : 0] = '\0';
}

static void full_path(int dir, const char *path, char *ret)
{
	size_t n = 0;

	ret[0] = '\0';
	if (path[0] != '/') {
		if (dir != AT_FDCWD)
			fd_path(dir, ret);
		else if (!getcwd(ret, PATH_MAX))
			abort();
		n = strlen(ret);
		ret[n++] = '/';
	}
	snprintf(ret + n, PATH_BYTES - n, "%s", path);
}

static bool identify(struct call *c, int dir, const char *path, int flags)
{
	struct stat st;

	if (fstatat(dir, path, &st, flags) < 0)
		return false;
	c->h.dev = st.st_dev;
	c->h.ino = st.st_ino;
	c->h.folder = S_ISDIR(st.st_mode);
	return true;
}

/* --- the log ------------------------------------------------------------------------------------------------------ */

static void append(struct call *c)
{
	struct iovec v[4] = { { &c->h, sizeof(c->h) } };
	ssize_t n;

	c->h.magic = MAGIC;
	c->h.bytes = sizeof(c->h);
	for (int i = 0; i < 2; i++) {
		c->h.path_bytes[i] = (uint32_t)strlen(c->path[i]);
		v[i + 1] = (struct iovec){ c->path[i], c->h.path_bytes[i] };
		c->h.bytes += c->h.path_bytes[i];
	}
	v[3] = (struct iovec){ (void *)(uintptr_t)c->data, c->h.data_bytes };
	c->h.bytes += c->h.data_bytes;
	n = syscall(SYS_writev, log_fd, v, 4);
	if (n != (ssize_t)c->h.bytes)
		abort();
}

/* The lock is held: no other thread is in the middle of a record. */
static void kill_if(const struct call *c, const char *when)
{
	bool names = c->h.op == OP_LINK || c->h.op == OP_RENAME;

	if (!kills_left || strcmp(kill_when, when) ||
	    (strcmp(kill_op, op_names[c->h.op]) && !(names && !strcmp(kill_op, "name"))) ||
	    (!strstr(c->path[0], kill_text) && !strstr(c->path[1], kill_text)))
		return;
	if (--kills_left == 0) {
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	}
}

static void before(struct call *c, enum op op)
{
	int saved = errno;

	c->h.op = (uint8_t)op;
	c->h.pid = (uint32_t)getpid();
	c->h.tid = (uint32_t)syscall(SYS_gettid);
	pthread_mutex_lock(&lock);
	c->h.seq = ++seq;
	c->h.phase = 0;
	append(c);
	kill_if(c, "before");
	pthread_mutex_unlock(&lock);
	errno = saved;
}

static void after(struct call *c, int64_t result)
{
	int saved = errno;

	c->h.result = (int32_t)(result > INT32_MAX ? INT32_MAX : result);
	c->h.error = result < 0 ? saved : 0;
	c->h.data_bytes = 0;
	c->data = NULL;
	pthread_mutex_lock(&lock);
	c->h.phase = 1;
	append(c);
	if (result >= 0)
		kill_if(c, "after");
	pthread_mutex_unlock(&lock);
	errno = saved;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static int raw_open(int dir, const char *path, int flags, mode_t mode)
{
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

static int recorded_open(int dir, const char *path, int flags, mode_t mode)
{
	bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
	struct call c = { 0 };
	int fd;

	pthread_once(&once, start);
	full_path(dir, path, c.path[0]);
	if (!below_root(c.path[0]) || !(flags & (O_CREAT | O_TRUNC) || unnamed))
		return raw_open(dir, path, flags, mode);
	if (unnamed && plain) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if (unnamed) {
		c.path[0][0] = '\0';
	} else if (identify(&c, dir, path, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0)) {
		if (!(flags & O_TRUNC) || flags & O_EXCL)
			return raw_open(dir, path, flags, mode);
		before(&c, OP_TRUNCATE);
		fd = raw_open(dir, path, flags, mode);
		after(&c, fd < 0 ? -1 : 0);
		return fd;
	}
	before(&c, OP_CREATE);
	fd = raw_open(dir, path, flags, mode);
	if (fd >= 0 && !identify(&c, fd, "", AT_EMPTY_PATH))
		abort();
	after(&c, fd);
	return fd;
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

#define OPEN(name) \
	EXPORT int name(const char *path, int flags, ...) \
	{ \
		mode_t mode; \
		va_list ap; \
\
		va_start(ap, flags); \
		mode = mode_of(flags, ap); \
		va_end(ap); \
		return recorded_open(AT_FDCWD, path, flags, mode); \
	}
#define OPENAT(name) \
	EXPORT int name(int dir, const char *path, int flags, ...) \
	{ \
		mode_t mode; \
		va_list ap; \
\
		va_start(ap, flags); \
		mode = mode_of(flags, ap); \
		va_end(ap); \
		return recorded_open(dir, path, flags, mode); \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

EXPORT int __open_2(const char *path, int flags);
EXPORT int __open_2(const char *path, int flags) { return recorded_open(AT_FDCWD, path, flags, 0); }
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags) { return recorded_open(AT_FDCWD, path, flags, 0); }
EXPORT int __openat_2(int dir, const char *path, int flags);
EXPORT int __openat_2(int dir, const char *path, int flags) { return recorded_open(dir, path, flags, 0); }
EXPORT int __openat64_2(int dir, const char *path, int flags);
EXPORT int __openat64_2(int dir, const char *path, int flags) { return recorded_open(dir, path, flags, 0); }

/* --- content ------------------------------------------------------------------------------------------------------ */

/* Fills in what fd is; false when it is none of ours. */
static bool watched_fd(struct call *c, int fd)
{
	int saved = errno;
	bool ours;

	pthread_once(&once, start);
	if (log_fd < 0 || fd == log_fd)
		return false;
	fd_path(fd, c->path[0]);
	ours = below_root(c->path[0]) && identify(c, fd, "", AT_EMPTY_PATH);
	errno = saved;
	return ours;
}

static ssize_t recorded_write(int fd, const void *buf, size_t len, off64_t off, bool at)
{
	struct call c = { 0 };
	bool ours = watched_fd(&c, fd);
	ssize_t n;

	if (ours) {
		c.h.off = (uint64_t)(at ? off : lseek64(fd, 0, SEEK_CUR));
		c.h.len = len;
		c.h.data_bytes = (uint32_t)len;
		c.data = buf;
		before(&c, OP_WRITE);
	}
	n = at ? syscall(SYS_pwrite64, fd, buf, len, off) : syscall(SYS_write, fd, buf, len);
	if (ours)
		after(&c, n);
	return n;
}

EXPORT ssize_t write(int fd, const void *buf, size_t len) { return recorded_write(fd, buf, len, 0, false); }
EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t off) { return recorded_write(fd, buf, len, off, true); }
EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	return recorded_write(fd, buf, len, off, true);
}

static int recorded_truncate(int fd, off64_t len)
{
	struct call c = { 0 };
	bool ours = watched_fd(&c, fd);
	int r;

	c.h.len = (uint64_t)len;
	if (ours)
		before(&c, OP_TRUNCATE);
	r = (int)syscall(SYS_ftruncate, fd, len);
	if (ours)
		after(&c, r);
	return r;
}

EXPORT int ftruncate(int fd, off_t len) { return recorded_truncate(fd, len); }
EXPORT int ftruncate64(int fd, off64_t len) { return recorded_truncate(fd, len); }

static int recorded_fallocate(int fd, int mode, off64_t off, off64_t len)
{
	struct call c = { 0 };
	bool ours = watched_fd(&c, fd);
	int r;

	c.h.mode = (uint32_t)mode;
	c.h.off = (uint64_t)off;
	c.h.len = (uint64_t)len;
	if (ours)
		before(&c, OP_FALLOCATE);
	r = (int)syscall(SYS_fallocate, fd, mode, off, len);
	if (ours)
		after(&c, r);
	return r;
}

EXPORT int fallocate(int fd, int mode, off_t off, off_t len) { return recorded_fallocate(fd, mode, off, len); }
EXPORT int fallocate64(int fd, int mode, off64_t off, off64_t len) { return recorded_fallocate(fd, mode, off, len); }
EXPORT int posix_fallocate(int fd, off_t off, off_t len)
{
	return recorded_fallocate(fd, 0, off, len) < 0 ? errno : 0;
}
EXPORT int posix_fallocate64(int fd, off64_t off, off64_t len)
{
	return recorded_fallocate(fd, 0, off, len) < 0 ? errno : 0;
}

static int recorded_sync(int fd, enum op op)
{
	struct call c = { 0 };
	bool ours = watched_fd(&c, fd);
	int r;

	if (ours)
		before(&c, op);
	r = (int)syscall(op == OP_SYNCFS ? SYS_syncfs : SYS_fsync, fd);
	if (ours)
		after(&c, r);
	return r;
}

static int recorded_statfs(int fd, struct statfs *st)
{
	int r = (int)syscall(SYS_fstatfs, fd, st);

	pthread_once(&once, start);
	if (r == 0 && btrfs)
		st->f_type = BTRFS_SUPER_MAGIC;
	return r;
}

EXPORT int fstatfs(int fd, struct statfs *st) { return recorded_statfs(fd, st); }
EXPORT int fstatfs64(int fd, struct statfs64 *st) { return recorded_statfs(fd, (struct statfs *)st); }

EXPORT int fsync(int fd) { return recorded_sync(fd, OP_FSYNC); }
EXPORT int fdatasync(int fd) { return recorded_sync(fd, OP_FSYNC); }
EXPORT int syncfs(int fd) { return recorded_sync(fd, OP_SYNCFS); }

/* --- names -------------------------------------------------------------------------------------------------------- */

static int recorded_link(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	struct call c = { 0 };
	bool ours;
	int r;

	pthread_once(&once, start);
	full_path(from_dir, from, c.path[0]);
	full_path(to_dir, to, c.path[1]);
	ours = below_root(c.path[1]) &&
	       identify(&c, from_dir, from, (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) | (flags & AT_EMPTY_PATH));
	if (ours)
		before(&c, OP_LINK);
	r = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
	if (ours)
		after(&c, r);
	return r;
}

EXPORT int link(const char *from, const char *to) { return recorded_link(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	return recorded_link(from_dir, from, to_dir, to, flags);
}

static int recorded_rename(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	struct call c = { 0 };
	bool ours;
	int r;

	pthread_once(&once, start);
	if (flags && plain) {
		errno = EINVAL;
		return -1;
	}
	full_path(from_dir, from, c.path[0]);
	full_path(to_dir, to, c.path[1]);
	ours = (below_root(c.path[0]) || below_root(c.path[1])) && identify(&c, from_dir, from, AT_SYMLINK_NOFOLLOW);
	if (ours)
		before(&c, OP_RENAME);
	r = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
	if (ours)
		after(&c, r);
	return r;
}

EXPORT int rename(const char *from, const char *to) { return recorded_rename(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return recorded_rename(from_dir, from, to_dir, to, 0);
}
EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	return recorded_rename(from_dir, from, to_dir, to, flags);
}

static int recorded_unlink(int dir, const char *path, int flags)
{
	struct call c = { 0 };
	bool ours;
	int r;

	pthread_once(&once, start);
	full_path(dir, path, c.path[0]);
	ours = below_root(c.path[0]) && identify(&c, dir, path, AT_SYMLINK_NOFOLLOW);
	if (ours)
		before(&c, flags & AT_REMOVEDIR ? OP_RMDIR : OP_UNLINK);
	r = (int)syscall(SYS_unlinkat, dir, path, flags);
	if (ours)
		after(&c, r);
	return r;
}

EXPORT int unlink(const char *path) { return recorded_unlink(AT_FDCWD, path, 0); }
EXPORT int rmdir(const char *path) { return recorded_unlink(AT_FDCWD, path, AT_REMOVEDIR); }
EXPORT int unlinkat(int dir, const char *path, int flags) { return recorded_unlink(dir, path, flags); }

static int recorded_mkdir(int dir, const char *path, mode_t mode)
{
	struct call c = { 0 };
	bool ours;
	int r;

	pthread_once(&once, start);
	full_path(dir, path, c.path[0]);
	ours = below_root(c.path[0]);
	if (ours)
		before(&c, OP_MKDIR);
	r = (int)syscall(SYS_mkdirat, dir, path, mode);
	if (ours) {
		int saved = errno;

		if (r == 0 && !identify(&c, dir, path, AT_SYMLINK_NOFOLLOW))
			abort();
		errno = saved;
		after(&c, r);
	}
	return r;
}

EXPORT int mkdir(const char *path, mode_t mode) { return recorded_mkdir(AT_FDCWD, path, mode); }
EXPORT int mkdirat(int dir, const char *path, mode_t mode) { return recorded_mkdir(dir, path, mode); }
