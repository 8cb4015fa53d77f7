/*
 * fault.c - makes the Nth call of a class fail, fall short, or be the last of the process (LD_PRELOAD on any program).
 *
 *	FAULT_CLASS=a,b	which calls count: alloc, open, create, stat, list, read, write, sync, name, remove,
 *			thread, seek, ioctl, fopen, libcrypto (what that library allocates; no alloc then)
 *	FAULT_NTH=n	the call that is hit, counted from 1 over all threads and all the classes; 0: only count
 *	FAULT_DO=what	kill-before, kill-after: SIGKILL; error: FAULT_ERRNO instead of the call; done: the call is made and
 *			FAULT_ERRNO reported all the same; short: half of the bytes; short-error: half, then FAULT_ERRNO;
 *			stop-before: SIGSTOP, and after SIGCONT the call as it is
 *	FAULT_ERRNO=n	the number; for alloc and libcrypto always ENOMEM
 *	FAULT_ON=1	hit every call from the Nth on
 *	FAULT_PLAIN=1	as on a file system that has neither O_TMPFILE nor RENAME_NOREPLACE
 *	FAULT_REPORT=f	a file of FAULT_REPORT_BYTES that is kept up to date: u64 calls counted, u64 calls hit, name of the
 *			first call hit and what it was about
 *
 * Counting begins with main().  What libc calls within itself (stdio's writes, readdir's getdents) is not seen; its
 * allocations are.  The report is a shared mapping: it is right after SIGKILL, too.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAULT_REPORT_BYTES 512
#define EXPORT __attribute__((visibility("default")))

enum class { ALLOC, OPEN, CREATE, STAT, LIST, READ, WRITE, SYNC, NAME, REMOVE, THREAD, SEEK, IOCTL, FOPEN, LIBCRYPTO, CLASSES };
static const char *const class_names[CLASSES] = { "alloc", "open", "create", "stat",   "list", "read", "write",
						  "sync",  "name", "remove", "thread", "seek", "ioctl", "fopen", "libcrypto" };

enum action { PASS, KILL_BEFORE, KILL_AFTER, ERROR, DONE, SHORT, SHORT_ERROR, STOP_BEFORE };
static const char *const action_names[] = { "pass", "kill-before", "kill-after", "error", "done", "short",
					    "short-error", "stop-before" };

struct report {
	_Atomic uint64_t calls, hits;
	char what[FAULT_REPORT_BYTES - 16];
};

static struct {
	bool counting, classes[CLASSES], on, plain;
	enum action action;
	uint64_t nth;
	int error;
	struct report *report;
	uintptr_t libcrypto, libcrypto_end;
	int (*main)(int, char **, char **);
} fault;

/* After a short transfer the rest of it, on the same descriptor and by the same thread, fails. */
static _Thread_local int fail_fd = -1;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

/* --- real functions --------------------------------------------------------------------------------------------------- */

#define REAL(ret, name, ...) static ret (*real_##name)(__VA_ARGS__)
REAL(int, open64, const char *, int, ...);
REAL(int, openat64, int, const char *, int, ...);
REAL(int, mkostemp64, char *, int);
REAL(FILE *, fopen64, const char *, const char *);
REAL(DIR *, opendir, const char *);
REAL(DIR *, fdopendir, int);
REAL(struct dirent64 *, readdir64, DIR *);
REAL(int, stat64, const char *, struct stat64 *);
REAL(int, lstat64, const char *, struct stat64 *);
REAL(int, fstat64, int, struct stat64 *);
REAL(int, fstatat64, int, const char *, struct stat64 *, int);
REAL(int, statvfs64, const char *, struct statvfs64 *);
REAL(int, faccessat, int, const char *, int, int);
REAL(int, access, const char *, int);
REAL(ssize_t, read, int, void *, size_t);
REAL(ssize_t, pread64, int, void *, size_t, off64_t);
REAL(ssize_t, preadv64v2, int, const struct iovec *, int, off64_t, int);
REAL(ssize_t, write, int, const void *, size_t);
REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
REAL(int, ftruncate64, int, off64_t);
REAL(int, fallocate64, int, int, off64_t, off64_t);
REAL(int, posix_fallocate64, int, off64_t, off64_t);
REAL(int, fsync, int);
REAL(int, fdatasync, int);
REAL(int, sync_file_range, int, off64_t, off64_t, unsigned);
REAL(int, syncfs, int);
REAL(int, rename, const char *, const char *);
REAL(int, renameat, int, const char *, int, const char *);
REAL(int, renameat2, int, const char *, int, const char *, unsigned);
REAL(int, link, const char *, const char *);
REAL(int, linkat, int, const char *, int, const char *, int);
REAL(int, unlink, const char *);
REAL(int, unlinkat, int, const char *, int);
REAL(int, mkdir, const char *, mode_t);
REAL(int, mkdirat, int, const char *, mode_t);
REAL(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
REAL(off64_t, lseek64, int, off64_t, int);
REAL(int, ioctl, int, unsigned long, ...);

static void *real(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p) {
		fprintf(stderr, "fault.so: no %s here\n", name);
		abort();
	}
	return p;
}
#define FIND(name) *(void **)&real_##name = real(#name)

static void find_all(void)
{
	FIND(open64); FIND(openat64); FIND(mkostemp64); FIND(fopen64); FIND(opendir); FIND(fdopendir); FIND(readdir64);
	FIND(stat64); FIND(lstat64); FIND(fstat64); FIND(fstatat64); FIND(statvfs64); FIND(faccessat); FIND(access);
	FIND(read); FIND(pread64); FIND(preadv64v2); FIND(write); FIND(pwrite64); FIND(ftruncate64); FIND(fallocate64);
	FIND(posix_fallocate64); FIND(fsync); FIND(fdatasync); FIND(sync_file_range); FIND(syncfs); FIND(rename);
	FIND(renameat); FIND(renameat2); FIND(link); FIND(linkat); FIND(unlink); FIND(unlinkat); FIND(mkdir);
	FIND(mkdirat); FIND(pthread_create); FIND(lseek64); FIND(ioctl);
}

/* --- what to do --------------------------------------------------------------------------------------------------------- */

static void configure(void)
{
	const char *classes = getenv("FAULT_CLASS"), *nth = getenv("FAULT_NTH"), *what = getenv("FAULT_DO");
	const char *error = getenv("FAULT_ERRNO"), *file = getenv("FAULT_REPORT");
	int fd;

	for (int c = 0; c < CLASSES && classes; c++) {
		size_t n = strlen(class_names[c]);

		for (const char *p = classes; *p; p += strcspn(p, ","), p += *p == ',')
			fault.classes[c] |= strcspn(p, ",") == n && memcmp(p, class_names[c], n) == 0;
	}
	for (size_t a = 0; a < sizeof(action_names) / sizeof(*action_names) && what; a++)
		if (strcmp(action_names[a], what) == 0)
			fault.action = (enum action)a;
	fault.nth = nth ? strtoull(nth, NULL, 10) : 0;
	fault.error = error ? atoi(error) : EIO;
	fault.on = getenv("FAULT_ON") != NULL;
	fault.plain = getenv("FAULT_PLAIN") != NULL;
	fd = file ? (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	if (fd < 0 || syscall(SYS_ftruncate, fd, FAULT_REPORT_BYTES) < 0) {
		fputs("fault.so: FAULT_REPORT must be a file that can be written\n", stderr);
		abort();
	}
	fault.report = (struct report *)syscall(SYS_mmap, NULL, FAULT_REPORT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
						fd, 0);
	if (fault.report == MAP_FAILED)
		abort();
	syscall(SYS_close, fd);
}

static int find_libcrypto(struct dl_phdr_info *o, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	if (!strstr(o->dlpi_name, "/libcrypto.so"))
		return 0;
	fault.libcrypto = o->dlpi_addr;
	for (unsigned i = 0; i < o->dlpi_phnum; i++)
		if (o->dlpi_phdr[i].p_type == PT_LOAD)
			fault.libcrypto_end = o->dlpi_addr + o->dlpi_phdr[i].p_vaddr + o->dlpi_phdr[i].p_memsz;
	return 1;
}

__attribute__((constructor)) static void begin(void)
{
	find_all();
	dl_iterate_phdr(find_libcrypto, NULL);
	configure();
}

static int counted_main(int argc, char **argv, char **env)
{
	unsetenv("LD_PRELOAD");
	fault.counting = true;
	return fault.main(argc, argv, env);
}

EXPORT int __libc_start_main(int (*m)(int, char **, char **), int argc, char **argv, void (*init)(void),
			     void (*fini)(void), void (*rtld)(void), void *stack);
int __libc_start_main(int (*m)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
		      void (*rtld)(void), void *stack)
{
	int (*start)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void),
		     void *) = NULL;

	*(void **)&start = real("__libc_start_main");
	fault.main = m;
	return start(counted_main, argc, argv, init, fini, rtld, stack);
}

static void die(void)
{
	syscall(SYS_kill, getpid(), SIGKILL);
	for (;;)
		pause();
}

/* Without snprintf, which may allocate. */
static void note(const char *call, int fd, const char *path)
{
	char *p = fault.report->what, *end = p + sizeof(fault.report->what) - 1;
	char link[64] = "/proc/self/fd/", digits[12];
	size_t n = 0;

	for (; *call && p < end; call++)
		*p++ = *call;
	if (p < end)
		*p++ = ' ';
	if (fd >= 0) {
		do
			digits[n++] = (char)('0' + fd % 10);
		while ((fd /= 10) > 0);
		for (char *l = link + strlen(link); n > 0;)
			*l++ = digits[--n];
		ssize_t got = syscall(SYS_readlink, link, p, (size_t)(end - p));
		p += got > 0 ? got : 0;
		if (path && p < end)
			*p++ = '/';
	}
	for (; path && *path && p < end; path++)
		*p++ = *path;
	*p = '\0';
}

/* Counts the call; PASS, or what is to be done instead.  errno is as before. */
static enum action hit(enum class c, const char *call, int fd, const char *path)
{
	uint64_t n;

	if (!fault.counting || !fault.classes[c])
		return PASS;
	n = atomic_fetch_add(&fault.report->calls, 1) + 1;
	if (fault.nth == 0 || (fault.on ? n < fault.nth : n != fault.nth))
		return PASS;
	if (atomic_fetch_add(&fault.report->hits, 1) == 0) {
		int saved = errno;

		note(call, fd, path);
		errno = saved;
	}
	if (fault.action == KILL_BEFORE)
		die();
	if (fault.action == STOP_BEFORE) {
		raise(SIGSTOP);
		return PASS;
	}
	return fault.action;
}

/* The call EXPR with the fault in its place; BAD is what it returns when it fails. */
#define CALL(class, fd, path, type, bad, expr)                     \
	do {                                                       \
		enum action a_ = hit(class, __func__, fd, path);   \
		type r_;                                           \
                                                                   \
		if (a_ == ERROR || a_ == SHORT_ERROR) {            \
			errno = fault.error;                       \
			return bad;                                \
		}                                                  \
		r_ = (expr);                                       \
		if (a_ == KILL_AFTER)                              \
			die();                                     \
		if (a_ == DONE) {                                  \
			errno = fault.error;                       \
			return bad;                                \
		}                                                  \
		return r_;                                         \
	} while (0)

/* The same for transfers of N bytes; EXPR transfers n_ of them. */
#define TRANSFER(class, fd, n, expr)                               \
	do {                                                       \
		size_t n_ = n;                                     \
		enum action a_;                                    \
		ssize_t r_;                                        \
                                                                   \
		if (fail_fd == fd && fd >= 0) {                    \
			fail_fd = -1;                              \
			errno = fault.error;                       \
			return -1;                                 \
		}                                                  \
		a_ = hit(class, __func__, fd, NULL);               \
		if (a_ == ERROR || (a_ == SHORT_ERROR && n_ < 2)) { \
			errno = fault.error;                       \
			return -1;                                 \
		}                                                  \
		if ((a_ == SHORT || a_ == SHORT_ERROR) && n_ > 1)  \
			n_ /= 2;                                   \
		if (a_ == SHORT_ERROR)                             \
			fail_fd = fd;                              \
		r_ = (expr);                                       \
		if (a_ == KILL_AFTER)                              \
			die();                                     \
		if (a_ == DONE) {                                  \
			errno = fault.error;                       \
			return -1;                                 \
		}                                                  \
		return r_;                                         \
	} while (0)

/* --- memory ------------------------------------------------------------------------------------------------------------- */

/* caller: who wants it. */
static bool no_memory(const char *call, const void *caller)
{
	uintptr_t from = (uintptr_t)caller;
	bool libcrypto = from >= fault.libcrypto && from < fault.libcrypto_end;

	if (hit(libcrypto ? LIBCRYPTO : ALLOC, call, -1, NULL) == PASS)
		return false;
	errno = ENOMEM;
	return true;
}

EXPORT void *malloc(size_t n)
{
	return no_memory("malloc", __builtin_return_address(0)) ? NULL : __libc_malloc(n);
}

EXPORT void *calloc(size_t n, size_t m)
{
	return no_memory("calloc", __builtin_return_address(0)) ? NULL : __libc_calloc(n, m);
}

EXPORT void *realloc(void *p, size_t n)
{
	return no_memory("realloc", __builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}

EXPORT void *reallocarray(void *p, size_t n, size_t m)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, m, &bytes) || no_memory("reallocarray", __builtin_return_address(0))) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_realloc(p, bytes);
}

EXPORT void *memalign(size_t align, size_t n);
EXPORT void *memalign(size_t align, size_t n)
{
	return no_memory("memalign", __builtin_return_address(0)) ? NULL : __libc_memalign(align, n);
}

EXPORT void *aligned_alloc(size_t align, size_t n)
{
	return no_memory("aligned_alloc", __builtin_return_address(0)) ? NULL : __libc_memalign(align, n);
}

EXPORT int posix_memalign(void **ret, size_t align, size_t n)
{
	void *p = no_memory("posix_memalign", __builtin_return_address(0)) ? NULL : __libc_memalign(align, n);

	if (!p)
		return ENOMEM;
	*ret = p;
	return 0;
}

EXPORT void *mmap64(void *at, size_t n, int prot, int flags, int fd, off64_t off)
{
	if ((flags & MAP_ANONYMOUS) && no_memory("mmap", __builtin_return_address(0)))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}

EXPORT void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return mmap64(at, n, prot, flags, fd, off);
}

/* --- files -------------------------------------------------------------------------------------------------------------- */

/* Of a new file, or of what is there. */
static enum class opening(int flags)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? CREATE : OPEN;
}

static mode_t mode_of(int flags, va_list ap)
{
	return opening(flags) == CREATE ? va_arg(ap, mode_t) : 0;
}

#define MODE(flags)                                \
	mode_t mode;                               \
	va_list ap;                                \
                                                   \
	va_start(ap, flags);                       \
	mode = mode_of(flags, ap);                 \
	va_end(ap)

/* Refuses what plain file systems do not have; sets errno. */
static bool refused(int flags)
{
	if (!fault.plain || (flags & O_TMPFILE) != O_TMPFILE)
		return false;
	errno = EOPNOTSUPP;
	return true;
}

EXPORT int open64(const char *path, int flags, ...)
{
	MODE(flags);
	if (refused(flags))
		return -1;
	CALL(opening(flags), -1, path, int, -1, real_open64(path, flags, mode));
}

EXPORT int open(const char *path, int flags, ...)
{
	MODE(flags);
	CALL(opening(flags), -1, path, int, -1, real_open64(path, flags, mode));
}

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	MODE(flags);
	if (refused(flags))
		return -1;
	CALL(opening(flags), dir, path, int, -1, real_openat64(dir, path, flags, mode));
}

EXPORT int __open64_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags)
{
	CALL(OPEN, -1, path, int, -1, real_open64(path, flags));
}

EXPORT int __openat64_2(int dir, const char *path, int flags);
EXPORT int __openat64_2(int dir, const char *path, int flags)
{
	CALL(OPEN, dir, path, int, -1, real_openat64(dir, path, flags));
}

EXPORT int mkostemp64(char *path, int flags)
{
	CALL(CREATE, -1, path, int, -1, real_mkostemp64(path, flags));
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	CALL(FOPEN, -1, path, FILE *, NULL, real_fopen64(path, mode));
}

EXPORT DIR *opendir(const char *path)
{
	CALL(FOPEN, -1, path, DIR *, NULL, real_opendir(path));
}

EXPORT DIR *fdopendir(int fd)
{
	CALL(LIST, fd, NULL, DIR *, NULL, real_fdopendir(fd));
}

EXPORT struct dirent64 *readdir64(DIR *d)
{
	CALL(LIST, dirfd(d), NULL, struct dirent64 *, NULL, real_readdir64(d));
}

EXPORT int stat64(const char *path, struct stat64 *st)
{
	CALL(STAT, -1, path, int, -1, real_stat64(path, st));
}

EXPORT int lstat64(const char *path, struct stat64 *st)
{
	CALL(STAT, -1, path, int, -1, real_lstat64(path, st));
}

EXPORT int fstat64(int fd, struct stat64 *st)
{
	CALL(STAT, fd, NULL, int, -1, real_fstat64(fd, st));
}

EXPORT int fstatat64(int dir, const char *path, struct stat64 *st, int flags)
{
	CALL(STAT, dir, path, int, -1, real_fstatat64(dir, path, st, flags));
}

EXPORT int statvfs64(const char *path, struct statvfs64 *st)
{
	CALL(STAT, -1, path, int, -1, real_statvfs64(path, st));
}

EXPORT int faccessat(int dir, const char *path, int mode, int flags)
{
	CALL(STAT, dir, path, int, -1, real_faccessat(dir, path, mode, flags));
}

EXPORT int access(const char *path, int mode)
{
	CALL(STAT, -1, path, int, -1, real_access(path, mode));
}

EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	TRANSFER(READ, fd, n, real_read(fd, buf, n_));
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
	if (n > room)
		abort();
	TRANSFER(READ, fd, n, real_read(fd, buf, n_));
}

EXPORT ssize_t pread64(int fd, void *buf, size_t n, off64_t off)
{
	TRANSFER(READ, fd, n, real_pread64(fd, buf, n_, off));
}

EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t off, size_t room);
EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t off, size_t room)
{
	if (n > room)
		abort();
	TRANSFER(READ, fd, n, real_pread64(fd, buf, n_, off));
}

/* A short one ends in the first buffer. */
EXPORT ssize_t preadv64v2(int fd, const struct iovec *v, int count, off64_t off, int flags)
{
	struct iovec first = count > 0 ? v[0] : (struct iovec){ 0 };

	TRANSFER(READ, fd, first.iov_len,
		 n_ == first.iov_len ? real_preadv64v2(fd, v, count, off, flags)
				     : (first.iov_len = n_, real_preadv64v2(fd, &first, 1, off, flags)));
}

EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	TRANSFER(WRITE, fd, n, real_write(fd, buf, n_));
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off)
{
	TRANSFER(WRITE, fd, n, real_pwrite64(fd, buf, n_, off));
}

EXPORT int ftruncate64(int fd, off64_t size)
{
	CALL(WRITE, fd, NULL, int, -1, real_ftruncate64(fd, size));
}

EXPORT int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	CALL(WRITE, fd, NULL, int, -1, real_fallocate64(fd, mode, off, len));
}

EXPORT int posix_fallocate64(int fd, off64_t off, off64_t len)
{
	CALL(WRITE, fd, NULL, int, errno, real_posix_fallocate64(fd, off, len));
}

EXPORT int fsync(int fd)
{
	CALL(SYNC, fd, NULL, int, -1, real_fsync(fd));
}

EXPORT int fdatasync(int fd)
{
	CALL(SYNC, fd, NULL, int, -1, real_fdatasync(fd));
}

EXPORT int sync_file_range(int fd, off64_t off, off64_t n, unsigned flags)
{
	CALL(SYNC, fd, NULL, int, -1, real_sync_file_range(fd, off, n, flags));
}

EXPORT int syncfs(int fd)
{
	CALL(SYNC, fd, NULL, int, -1, real_syncfs(fd));
}

EXPORT int rename(const char *from, const char *to)
{
	CALL(NAME, -1, to, int, -1, real_rename(from, to));
}

EXPORT int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	CALL(NAME, to_dir, to, int, -1, real_renameat(from_dir, from, to_dir, to));
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	if (fault.plain && flags) {
		errno = EINVAL;
		return -1;
	}
	CALL(NAME, to_dir, to, int, -1, real_renameat2(from_dir, from, to_dir, to, flags));
}

EXPORT int link(const char *from, const char *to)
{
	CALL(NAME, -1, to, int, -1, real_link(from, to));
}

EXPORT int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	CALL(NAME, to_dir, to, int, -1, real_linkat(from_dir, from, to_dir, to, flags));
}

EXPORT int unlink(const char *path)
{
	CALL(REMOVE, -1, path, int, -1, real_unlink(path));
}

EXPORT int unlinkat(int dir, const char *path, int flags)
{
	CALL(REMOVE, dir, path, int, -1, real_unlinkat(dir, path, flags));
}

EXPORT int mkdir(const char *path, mode_t mode)
{
	CALL(NAME, -1, path, int, -1, real_mkdir(path, mode));
}

EXPORT int mkdirat(int dir, const char *path, mode_t mode)
{
	CALL(NAME, dir, path, int, -1, real_mkdirat(dir, path, mode));
}

/* --- the rest ----------------------------------------------------------------------------------------------------------- */

EXPORT int pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *opaque)
{
	CALL(THREAD, -1, NULL, int, errno, real_pthread_create(ret, attr, run, opaque));
}

EXPORT off64_t lseek64(int fd, off64_t off, int whence)
{
	CALL(SEEK, fd, NULL, off64_t, -1, real_lseek64(fd, off, whence));
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	CALL(IOCTL, fd, NULL, int, -1, real_ioctl(fd, request, arg));
}
