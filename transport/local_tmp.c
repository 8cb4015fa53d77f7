/* local_tmp.c - the folder store's temporary files: made, named, and swept up after crashes. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "transport/local_internal.h"

/* Writing goes on at least this often in a file that is still wanted. */
#define STRAY_AGE_S ((time_t)24 * 3600)
#define TMP_HEX 32
/* Larger objects are packs, which the run that wrote them doesn't read again. */
#define CACHED_BYTES ((off_t)1 << 20)
#define TMP_TRIES 16

static bool is_stray(int dir, const char *name)
{
	struct stat st;

	if (strlen(name) != TMP_HEX || name[strspn(name, "0123456789abcdef")] != '\0')
		return false;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return false;
	return st.st_mtim.tv_sec < time(NULL) - STRAY_AGE_S;
}

/* Removes what crashed runs left.  Whatever goes wrong here costs space, not safety, and is left to the next run. */
static void sweep(int dir)
{
	int fd = FS_RETRY(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		close_fd(&fd);
		return;
	}
	while ((de = readdir(d)) != NULL) {
		if (is_stray(dir, de->d_name))
			(void)unlinkat(dir, de->d_name, 0);
	}
	closedir(d);
}

static int random_name(char name[static TMP_HEX + 1], struct err *e)
{
	uint8_t rnd[TMP_HEX / 2];

	if (getrandom(rnd, sizeof(rnd), 0) != sizeof(rnd))
		return err_sys(e, "random bytes");
	text_hex(rnd, sizeof(rnd), name);
	return 0;
}

static int open_unnamed(int dir)
{
	/* the mode counts for later opens: a finished object is read-only */
	return FS_RETRY(openat(dir, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0400));
}

/* Does the file system have files without a name that can be given one later?  Nobody knows without trying. */
static bool has_unnamed(int dir)
{
	struct err unheard = ERR_INIT;	/* there is another way */
	CLEANUP(close_fd) int fd = open_unnamed(dir);
	char name[TMP_HEX + 1];
	bool named;

	if (fd < 0 || !fs_unnamed_lasts(fd) || random_name(name, &unheard) < 0)
		return false;
	named = fs_name_fd(fd, dir, name) == 0;
	return (unlinkat(dir, name, 0) == 0 || errno == ENOENT) && named;
}

/* Once per store, so the lock may be held meanwhile. */
static int open_tmp_folder(struct local *l, struct err *e)
{
	int fd;

	if (l->tmp_fd >= 0)
		return 0;
	if (mkdirat(l->root_fd, LOCAL_TMP_FOLDER, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "folder for temporary files");
	fd = FS_RETRY(openat(l->root_fd, LOCAL_TMP_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	if (fd < 0)
		return err_sys(e, "folder for temporary files");
	sweep(fd);
	l->unnamed = has_unnamed(fd);
	l->tmp_fd = fd;
	return 0;
}

static int create(struct local_tmp *t, struct err *e)
{
	if (t->unnamed) {
		t->fd = open_unnamed(t->dir_fd);
		return t->fd < 0 ? err_sys(e, "temporary file") : 0;
	}
	for (int i = 0; i < TMP_TRIES; i++) {
		if (random_name(t->name, e) < 0)
			return e->code;
		t->fd = FS_RETRY(openat(t->dir_fd, t->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
					0400));
		if (t->fd >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	t->name[0] = '\0';
	return err_sys(e, "temporary file");
}

int local_tmp_open(struct local *l, struct local_tmp *ret, struct err *e)
{
	struct local_tmp t = { .fd = -1 };
	int rc;

	static_assert(sizeof(t.name) == TMP_HEX + 1, "room for the name");
	pthread_mutex_lock(&l->lock);
	rc = open_tmp_folder(l, e);
	t.dir_fd = l->tmp_fd;
	t.unnamed = l->unnamed;
	pthread_mutex_unlock(&l->lock);
	if (rc < 0 || create(&t, e) < 0)
		return e->code;
	*ret = t;
	return 0;
}

/* The file gets its first name; what was synced stays so (fs_unnamed_lasts). */
static int name_unnamed(struct local_tmp *t, int folder_fd, const char *leaf, struct err *e)
{
	if (fs_name_fd(t->fd, folder_fd, leaf) < 0)
		return errno == EEXIST ? store_err_exists(e) : err_sys(e, "name of the finished object");
	t->unnamed = false;
	return 0;
}

/* The name is taken only if it is free, whatever the file system can do. */
static int name_absent(struct local_tmp *t, int folder_fd, const char *leaf, struct err *e)
{
	if (renameat2(t->dir_fd, t->name, folder_fd, leaf, RENAME_NOREPLACE) == 0) {
		t->name[0] = '\0';
		return 0;
	}
	if (errno == EEXIST)
		return store_err_exists(e);
	if (errno != EINVAL && errno != ENOSYS)
		return err_sys(e, "rename of the finished object");
	if (linkat(t->dir_fd, t->name, folder_fd, leaf, 0) < 0)
		return errno == EEXIST ? store_err_exists(e) : err_sys(e, "link of the finished object");
	return 0;	/* local_tmp_done removes the other name */
}

/* A backup to a local disk must not push what the host's guests use out of the page cache. */
static void forget_pages(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && st.st_size > CACHED_BYTES)
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);	/* durable now, so they can go at once */
}

int local_tmp_name(struct local_tmp *t, int folder_fd, const char *leaf, bool absent, struct err *e)
{
	if (FS_RETRY(fsync(t->fd)) < 0)
		return err_sys(e, "fsync");
	forget_pages(t->fd);
	if (t->unnamed) {
		int rc = name_unnamed(t, folder_fd, leaf, e);

		if (rc != ERR_EXISTS || absent)
			return rc;
		/* taken, and to be replaced: by way of a name of its own */
		err_clear(e);
		if (random_name(t->name, e) < 0)
			return e->code;
		if (fs_name_fd(t->fd, t->dir_fd, t->name) < 0) {
			t->name[0] = '\0';
			return err_sys(e, "temporary name of the finished object");
		}
	}
	if (absent)
		return name_absent(t, folder_fd, leaf, e);
	if (renameat(t->dir_fd, t->name, folder_fd, leaf) < 0) {
		if (errno == EISDIR || errno == ENOTEMPTY)
			return err_set(e, ERR_INVALID, "a folder of other objects has this name");
		return err_sys(e, "rename of the finished object");
	}
	t->name[0] = '\0';
	return 0;
}

void local_tmp_done(struct local_tmp *t)
{
	close_fd(&t->fd);
	if (t->name[0])
		(void)unlinkat(t->dir_fd, t->name, 0);	/* fails only if it is gone, or will be swept */
	t->name[0] = '\0';
}
