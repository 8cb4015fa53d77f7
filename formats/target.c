/* target.c - targets: kinds of files, devices in use, zeros and reserved space. */
#include "formats/target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"

/* QEMU's image locks (block/file-posix.c): a byte for each permission somebody uses, and for each nobody else may
 * use. */
#define QEMU_USES(perm) (100 + (perm))
#define QEMU_FORBIDS(perm) (200 + (perm))
enum { QEMU_WRITE = 1, QEMU_RESIZE = 3 };

/* Zeros go to a device in whole pages, so that no page is half cached, half bypassed. */
#define ZERO_ALIGN_BYTES ((uint64_t)4096)
#define HOLE_BYTES ((size_t)4096)	/* shorter runs of zeros are written: no file system has smaller holes */
#define ZERO_STEP_BYTES ((size_t)1 << 20)

static bool byte_locked(int fd, off_t at)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static int check_qemu(int fd, const char *path, struct err *e)
{
	if (!byte_locked(fd, QEMU_USES(QEMU_WRITE)) && !byte_locked(fd, QEMU_USES(QEMU_RESIZE)))
		return 0;
	err_set(e, ERR_LOCKED, "%s is in use: a running VM writes to it", path);
	return err_hint(e, "shut the VM down first, or choose another target");
}

int target_look(const char *path, struct target *ret, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	struct stat st;

	if (stat(path, &st) < 0) {
		if (errno != ENOENT)
			return err_sys(e, "%s", path);
		*ret = (struct target){ .exists = false };
		return 0;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is neither a file nor a block device", path);
	/* what cannot be read cannot be asked either; rename replaces it all the same */
	fd = FS_RETRY(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	if (fd >= 0 && check_qemu(fd, path, e) < 0)
		return e->code;
	*ret = (struct target){ .exists = true, .block_device = S_ISBLK(st.st_mode) };
	return 0;
}

/* ---- who uses a device ---- */

static int in_use(const char *path, const char *part, const char *how, const char *where, struct err *e)
{
	char quoted[256];

	return err_set(e, ERR_LOCKED, "%s%s%s is in use: %s%s", path, *part ? ", partition " : "", part, how,
		       text_quote(where, quoted, sizeof(quoted)));
}

static int check_mounts(const char *path, const char *part, dev_t dev, struct err *e)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096], where[1024];
	unsigned maj, min;

	if (!f)
		return err_sys(e, "/proc/self/mountinfo, which tells whether %s is mounted", path);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*u %*u %u:%u %*s %1023s", &maj, &min, where) != 3 || makedev(maj, min) != dev)
			continue;
		fclose(f);
		in_use(path, part, "mounted on ", where, e);
		return err_hint(e, "unmount it first, or choose another target");
	}
	fclose(f);
	return 0;
}

static int check_swaps(const char *path, const char *part, dev_t dev, struct err *e)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[4096], file[1024];
	bool found = false;
	struct stat st;

	if (!f)
		return 0;	/* a kernel without swap */
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%1023s", file) == 1 && stat(file, &st) == 0 && S_ISBLK(st.st_mode) &&
			st.st_rdev == dev;
	fclose(f);
	return found ? in_use(path, part, "swap space", "", e) : 0;
}

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int check_holders(const char *path, const char *part, const char *sys, struct err *e)
{
	CLEANUP(free_ptr) char *dir = text_printf(e, "%s/holders", sys);
	CLEANUP(close_dir) DIR *d = dir ? opendir(dir) : NULL;

	if (!dir)
		return e->code;
	for (struct dirent *de; d && (de = readdir(d)) != NULL;) {
		if (de->d_name[0] != '.')
			return in_use(path, part, "part of ", de->d_name, e);
	}
	return 0;
}

static int check_one(const char *path, const char *part, dev_t dev, const char *sys, struct err *e)
{
	if (check_mounts(path, part, dev, e) < 0 || check_swaps(path, part, dev, e) < 0)
		return e->code;
	return check_holders(path, part, sys, e);
}

/* Partition `name` of the disk at sys; other entries of its folder have no file "partition". */
static int check_partition(const char *path, const char *sys, const char *name, struct err *e)
{
	CLEANUP(free_ptr) char *part = text_printf(e, "%s/%s", sys, name);
	CLEANUP(free_ptr) char *mark = part ? text_printf(e, "%s/partition", part) : NULL;
	CLEANUP(free_ptr) char *file = part ? text_printf(e, "%s/dev", part) : NULL;
	CLEANUP(free_ptr) uint8_t *text = NULL;
	unsigned maj, min;
	size_t len;

	if (!part || !mark || !file)
		return e->code;
	if (access(mark, F_OK) < 0)
		return 0;
	if (fs_read_file(file, 64, &text, &len, e) < 0)
		return e->code;
	if (sscanf((char *)text, "%u:%u", &maj, &min) != 2)
		return err_set(e, ERR_IO, "%s is not a device number", file);
	return check_one(path, name, makedev(maj, min), part, e);
}

static int check_device_free(const char *path, dev_t dev, struct err *e)
{
	CLEANUP(free_ptr) char *sys = text_printf(e, "/sys/dev/block/%u:%u", major(dev), minor(dev));
	CLEANUP(close_dir) DIR *d = sys ? opendir(sys) : NULL;

	if (!sys || check_one(path, "", dev, sys, e) < 0)
		return e->code;
	for (struct dirent *de; d && (de = readdir(d)) != NULL;) {
		if (de->d_name[0] != '.' && check_partition(path, sys, de->d_name, e) < 0)
			return e->code;
	}
	return 0;
}

static int lock_against_qemu(int fd, const char *path, struct err *e)
{
	static const off_t bytes[] = { QEMU_USES(QEMU_WRITE), QEMU_FORBIDS(QEMU_WRITE), QEMU_FORBIDS(QEMU_RESIZE) };

	for (size_t i = 0; i < sizeof(bytes) / sizeof(*bytes); i++) {
		struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = bytes[i], .l_len = 1 };

		if (fcntl(fd, F_OFD_SETLK, &l) < 0)
			return errno == EAGAIN || errno == EACCES ? err_set(e, ERR_LOCKED, "%s is in use", path)
								  : err_sys(e, "%s: lock", path);
	}
	/* asked after taking ours, so that of two that start at once one sees the other */
	if (byte_locked(fd, QEMU_FORBIDS(QEMU_WRITE)) || byte_locked(fd, QEMU_USES(QEMU_WRITE)))
		return check_qemu(fd, path, e) < 0 ? e->code : err_set(e, ERR_LOCKED, "%s is in use by a VM", path);
	return 0;
}

int target_open_device(const char *path, int *ret_fd, uint64_t *ret_size, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	struct stat st;
	uint64_t size;

	if (stat(path, &st) < 0)
		return err_sys(e, "%s", path);
	if (!S_ISBLK(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is not a block device", path);
	if (check_device_free(path, st.st_rdev, e) < 0)
		return e->code;
	/* O_EXCL on a block device: the kernel itself refuses what it uses, in whatever namespace */
	fd = FS_RETRY(open(path, O_RDWR | O_EXCL | O_CLOEXEC));
	if (fd < 0)
		return errno == EBUSY ? err_set(e, ERR_LOCKED, "%s is in use by the system", path)
				      : err_sys(e, "%s", path);
	if (ioctl(fd, BLKGETSIZE64, &size) < 0)
		return err_sys(e, "%s: size of the device", path);
	if (lock_against_qemu(fd, path, e) < 0)
		return e->code;
	*ret_fd = fd;
	fd = -1;
	*ret_size = size;
	return 0;
}

/* ---- zeros and space ---- */

int target_write_zeros(int fd, uint64_t off, uint64_t len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *zeros = calloc(1, ZERO_STEP_BYTES);

	if (!zeros)
		return err_set(e, ERR_NOMEM, "buffer of zeros");
	for (uint64_t n; len > 0; off += n, len -= n) {
		n = min_u64(len, ZERO_STEP_BYTES);
		if (fs_pwrite_full(fd, zeros, (size_t)n, off, e) < 0)
			return e->code;
	}
	return 0;
}

/* Pieces are counted from the start of the file, so that they match the file system's blocks. */
int target_write_sparse(int fd, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	size_t from = 0, at = 0;	/* [from, at) is waiting to be written */

	while (at < len) {
		size_t n = min_size(len - at, HOLE_BYTES - (size_t)((off + at) % HOLE_BYTES));

		if (bytes_all_zero(buf + at, n)) {
			if (from < at && fs_pwrite_full(fd, buf + from, at - from, off + from, e) < 0)
				return e->code;
			from = at + n;
		}
		at += n;
	}
	return from < len ? fs_pwrite_full(fd, buf + from, len - from, off + from, e) : 0;
}

int target_zero_device(int fd, uint64_t off, uint64_t len, struct err *e)
{
	uint64_t start = round_up(off, ZERO_ALIGN_BYTES), end = round_down(off + len, ZERO_ALIGN_BYTES);
	uint64_t range[2];

	if (start >= end)
		return target_write_zeros(fd, off, len, e);
	if (target_write_zeros(fd, off, start - off, e) < 0 || target_write_zeros(fd, end, off + len - end, e) < 0)
		return e->code;
	/* the kernel punches a block device only where it then reads as zeros: BLKDISCARD alone would not promise it */
	if (FS_RETRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)(end - start))) == 0)
		return 0;
	range[0] = start;
	range[1] = end - start;
	if (ioctl(fd, BLKZEROOUT, range) == 0)
		return 0;
	return target_write_zeros(fd, start, end - start, e);
}

int target_reserve(int fd, uint64_t off, uint64_t len, struct err *e)
{
	char size[HUMAN_BYTES_MAX];
	int rc;

	if (len == 0)
		return 0;
	do
		rc = posix_fallocate(fd, (off_t)off, (off_t)len);
	while (rc == EINTR);
	if (rc == 0)
		return 0;
	errno = rc;
	err_sys(e, "reserving %s", human_bytes(len, size));
	if (rc == EFBIG)
		e->code = ERR_NOSPACE;
	return e->code;
}
