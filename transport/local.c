/*
 * local.c - a folder as a store: an object is a file under its name.
 *
 * An object appears by naming a complete, fsynced temporary file; put returns when the folder that names it, and
 * the folders that name that, are on disk too.  Nothing outside the root is reached: names cannot hold "..", and
 * symbolic links are not followed.  Whoever can write to the folder can change or delete anything in it: that is for
 * repo/ to notice.
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "transport/local_internal.h"

#define OBJECT_PARALLEL 4
#define EMPTY_DEPTH_MAX 4u		/* deeper than any object's folder */

static void local_close(struct store *s)
{
	struct local *l = (struct local *)s;

	for (size_t i = 0; i < LOCAL_DURABLE_SLOTS; i++)
		free(l->durable[i]);
	close_fd(&l->root_fd);
	close_fd(&l->tmp_fd);
	pthread_mutex_destroy(&l->lock);
	free(l->s.location);
	free(l);
}

void local_stat_from(const struct stat *st, struct store_stat *ret)
{
	*ret = (struct store_stat){
		.size = (uint64_t)st->st_size,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
	};
}

/* A full disk costs the object at hand and nothing else: the temporary file goes, no name has changed. */
static int put_failed(struct local *l, struct err *e)
{
	if (e->os_errno == EFBIG || e->os_errno == ENOSPC || e->os_errno == EDQUOT)
		e->code = ERR_NOSPACE;
	if (e->code == ERR_NOSPACE)
		return err_hint(e, "nothing that was stored is lost; make room in %s and run again", l->s.location);
	if (e->os_errno == EACCES || e->os_errno == EPERM)
		return err_hint(e, "check who may write to %s", l->s.location);
	return e->code;
}

static int put_file(struct local *l, const char *name, const void *buf, size_t len, bool absent, struct err *e)
{
	CLEANUP(close_fd) int folder = -1;
	CLEANUP(local_tmp_done) struct local_tmp tmp = { .dir_fd = -1, .fd = -1 };
	const char *leaf;
	struct stat st;

	if (local_open_parent(l, name, true, &folder, &leaf, e) < 0)
		return e->code;
	/* spares the writing; what decides is the rename */
	if (absent && fstatat(folder, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return store_err_exists(e);
	if (local_tmp_open(l, &tmp, e) < 0)
		return e->code;
	if (fs_write_full(tmp.fd, buf, len, e) < 0)
		return e->code;
	if (local_tmp_name(&tmp, folder, leaf, absent, e) < 0)
		return e->code;
	return local_sync_folder(folder, e);
}

static int local_put(struct store *s, const char *name, const void *buf, size_t len, int flags, struct err *e)
{
	struct local *l = (struct local *)s;

	if (put_file(l, name, buf, len, flags & STORE_PUT_IF_ABSENT, e) < 0)
		return put_failed(l, e);
	return 0;
}

/* What is found under an object's name but is no regular file: a folder holds other objects, anything else is
 * foreign. */
static int not_a_file(const struct stat *st, struct err *e)
{
	if (S_ISDIR(st->st_mode))
		return store_err_absent(e);
	return err_set(e, ERR_CORRUPT, "%s stands where an object should be, and is not followed",
		       S_ISLNK(st->st_mode) ? "a symbolic link" : "a special file");
}

/* Stats the object; *ret_folder is the folder that holds it. */
static int find_object(struct local *l, const char *name, int *ret_folder, const char **ret_leaf, struct stat *ret_st,
		       struct err *e)
{
	CLEANUP(close_fd) int folder = -1;
	const char *leaf;
	struct stat st;

	if (local_open_parent(l, name, false, &folder, &leaf, e) < 0)
		return e->code;
	if (fstatat(folder, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? store_err_absent(e) : err_sys(e, "stat");
	if (!S_ISREG(st.st_mode))
		return not_a_file(&st, e);
	*ret_folder = folder;
	folder = -1;
	*ret_leaf = leaf;
	*ret_st = st;
	return 0;
}

static int local_read(struct store *s, const char *name, void *buf, size_t len, uint64_t off, struct err *e)
{
	CLEANUP(close_fd) int folder = -1;
	CLEANUP(close_fd) int fd = -1;
	const char *leaf;
	struct stat st;
	size_t got;

	if (find_object((struct local *)s, name, &folder, &leaf, &st, e) < 0)
		return e->code;
	fd = FS_RETRY(openat(folder, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
	if (fd < 0)
		return errno == ENOENT ? store_err_absent(e) : err_sys(e, "open");
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat");
	if (!S_ISREG(st.st_mode))
		return not_a_file(&st, e);
	if (!range_ok(off, len, (uint64_t)st.st_size))
		return store_err_short(e, (uint64_t)st.st_size, len, off);
	if (fs_pread(fd, buf, len, off, &got, e) < 0)
		return e->code;
	return got == len ? 0 : store_err_short(e, off + got, len, off);	/* it shrank meanwhile */
}

static int local_remove(struct store *s, const char *name, struct err *e)
{
	CLEANUP(close_fd) int folder = -1;
	const char *leaf;
	struct stat st;

	if (find_object((struct local *)s, name, &folder, &leaf, &st, e) < 0)
		return e->code;
	if (unlinkat(folder, leaf, 0) < 0)
		return errno == ENOENT ? store_err_absent(e) : err_sys(e, "removal");
	return local_sync_folder(folder, e);
}

static int local_stat(struct store *s, const char *name, struct store_stat *ret, struct err *e)
{
	CLEANUP(close_fd) int folder = -1;
	const char *leaf;
	struct stat st;

	if (find_object((struct local *)s, name, &folder, &leaf, &st, e) < 0)
		return e->code;
	local_stat_from(&st, ret);
	return 0;
}

static const struct store_ops local_ops = {
	.kind = "local",
	.close = local_close,
	.put = local_put,
	.read = local_read,
	.list = local_list,
	.remove = local_remove,
	.stat = local_stat,
	.sync = local_sync,
};

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* What mkfs leaves in a fresh file system, and temporary files of a store that was not finished. */
static bool is_nothing(const char *name, unsigned depth)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	       (depth == 0 && (strcmp(name, "lost+found") == 0 || strcmp(name, LOCAL_TMP_FOLDER) == 0));
}

/*
 * A new store wants a folder of its own.  Empty folders in it are what a crash leaves between making a folder and the
 * first object in it, and are in nobody's way.
 */
static int check_empty(int dir, const char *name, const char *path, unsigned depth, struct err *e)
{
	int fd = FS_RETRY(openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	CLEANUP(close_dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	struct stat st;

	if (!d) {
		err_sys(e, "folder %s", path);
		close_fd(&fd);
		return e->code;
	}
	while (errno = 0, (de = readdir(d)) != NULL) {
		if (is_nothing(de->d_name, depth))
			continue;
		if (depth < EMPTY_DEPTH_MAX && fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISDIR(st.st_mode)) {
			if (check_empty(dirfd(d), de->d_name, path, depth + 1, e) < 0)
				return e->code;
			continue;
		}
		err_set(e, ERR_EXISTS, "folder %s is not empty", path);
		return err_hint(e, "name a new folder, or an empty one");
	}
	return errno ? err_sys(e, "folder %s", path) : 0;
}

static int make_root(const char *path, struct err *e)
{
	if (mkdir(path, 0700) == 0)
		return fs_sync_parent(path, e);
	if (errno != EEXIST)
		return err_sys(e, "new folder %s", path);
	/* Made a moment ago, by hand or by an init that died; somebody else vouches for it where we may not read. */
	if (fs_sync_parent(path, e) == 0)
		return 0;
	if (e->os_errno != EACCES)
		return e->code;
	err_clear(e);
	return 0;
}

int store_local_open(const char *path, bool create, struct store **ret, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	CLEANUP(free_ptr) char *location = strdup(path);
	struct local *l;

	if (!location)
		return err_set(e, ERR_NOMEM, "store in %s", path);
	if (create && make_root(path, e) < 0)
		return e->code;
	fd = FS_RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd < 0)
		return errno == ENOTDIR ? err_set(e, create ? ERR_INVALID : ERR_NOTFOUND, "%s is not a folder", path)
					: err_sys(e, "folder %s", path);
	if (create && check_empty(fd, ".", path, 0, e) < 0)
		return e->code;
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, ERR_NOMEM, "store in %s", path);
	l->s.ops = &local_ops;
	l->s.location = STEAL(location);
	l->s.caps = (struct store_caps){ .conditional_put = true, .strong_listing = true, .parallel = OBJECT_PARALLEL,
					 .is_local = true, .can_remove = faccessat(fd, ".", W_OK, AT_EACCESS) == 0 };
	pthread_mutex_init(&l->lock, NULL);
	l->tmp_fd = -1;
	l->root_fd = fd;
	fd = -1;
	*ret = &l->s;
	return 0;
}
