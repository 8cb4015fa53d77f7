/* local_folder.c - the folder store's way down to a folder, its syncing of what others put, and its listing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "transport/local_internal.h"

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int local_sync_folder(int fd, struct err *e)
{
	/* EINVAL: this file system has no fsync of folders; nothing more can be done */
	if (FS_RETRY(fsync(fd)) < 0 && errno != EINVAL)
		return err_sys(e, "fsync of the folder");
	return 0;
}

/* FNV-1a, for a place in a small table. */
static size_t durable_slot(const char *path, size_t len)
{
	uint32_t h = 2166136261U;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)path[i]) * 16777619U;
	return h % LOCAL_DURABLE_SLOTS;
}

static bool is_durable(struct local *l, const char *path, size_t len)
{
	const char *known;
	bool same;

	pthread_mutex_lock(&l->lock);
	known = l->durable[durable_slot(path, len)];
	same = known && strncmp(known, path, len) == 0 && known[len] == '\0';
	pthread_mutex_unlock(&l->lock);
	return same;
}

static void note_durable(struct local *l, const char *path, size_t len)
{
	char *copy = strndup(path, len);	/* out of memory: it will be synced again */
	char **slot = &l->durable[durable_slot(path, len)];

	pthread_mutex_lock(&l->lock);
	free(*slot);
	*slot = copy;
	pthread_mutex_unlock(&l->lock);
}

/* What stands at a part of the way that would not open as a folder. */
static int no_folder(int dir, const char *part, bool make, struct err *e)
{
	struct stat st;

	if (fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? store_err_absent(e) : err_sys(e, "folder %s", part);
	if (S_ISLNK(st.st_mode))
		return err_set(e, ERR_CORRUPT, "%s is a symbolic link, which is not followed", part);
	if (make)
		return err_set(e, ERR_INVALID, "%s is an object, and cannot be a folder too", part);
	return store_err_absent(e);
}

static int open_step(int dir, const char *part, bool make, int *ret_fd, bool *ret_made, struct err *e)
{
	int fd = FS_RETRY(openat(dir, part, FOLDER_FLAGS));

	*ret_made = false;
	if (fd < 0 && errno == ENOENT && make) {
		if (mkdirat(dir, part, 0700) < 0 && errno != EEXIST)
			return err_sys(e, "new folder %s", part);
		*ret_made = true;
		fd = FS_RETRY(openat(dir, part, FOLDER_FLAGS));
	}
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return no_folder(dir, part, make, e);
	if (fd < 0)
		return err_sys(e, "folder %s", part);
	*ret_fd = fd;
	return 0;
}

/*
 * Goes down the first len bytes of path.  A folder that is there may have been made a moment ago by somebody whose
 * fsync has not come back yet, so being there does not mean being durable: each is synced once by every process that
 * puts something below it.
 */
static int walk(struct local *l, const char *path, size_t len, bool make, int *ret_fd, struct err *e)
{
	CLEANUP(close_fd) int dir = FS_RETRY(openat(l->root_fd, ".", FOLDER_FLAGS));
	char part[STORE_NAME_MAX + 1];
	size_t at = 0;

	if (dir < 0)
		return err_sys(e, "folder");
	while (at < len) {
		size_t n = strcspn(path + at, "/");
		bool made;
		int next;

		memcpy(part, path + at, n);
		part[n] = '\0';
		if (open_step(dir, part, make, &next, &made, e) < 0)
			return e->code;
		if (make && (made || !is_durable(l, path, at + n))) {
			if (local_sync_folder(dir, e) < 0) {
				close_fd(&next);
				return e->code;
			}
			note_durable(l, path, at + n);
		}
		close_fd(&dir);
		dir = next;
		at += n + 1;
	}
	*ret_fd = dir;
	dir = -1;
	return 0;
}

int local_open_parent(struct local *l, const char *name, bool make, int *ret_fd, const char **ret_leaf, struct err *e)
{
	const char *leaf = fs_basename(name);
	size_t len = leaf > name ? (size_t)(leaf - name) - 1 : 0;

	if (walk(l, name, len, make, ret_fd, e) < 0)
		return e->code;
	*ret_leaf = leaf;
	return 0;
}

/* Opens folder `name` (all parts), which must exist. */
static int open_folder(struct local *l, const char *name, int *ret_fd, struct err *e)
{
	return walk(l, name, strlen(name), false, ret_fd, e);
}

/* ---- making durable what others put ---- */

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Only what could be a part of an object's name; leaves out ".", "..", temporary files and whatever people put
 * there. */
static bool is_part(const char *s)
{
	return s[0] != '\0' && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0';
}

/* Takes fd over: fsync of it and of all folders below.  The depth is bounded by the length of a name. */
static int sync_tree(int fd, size_t len, struct err *e)
{
	CLEANUP(close_dir) DIR *d = fdopendir(fd);
	struct dirent *de;

	if (!d) {
		err_sys(e, "folder");
		close_fd(&fd);
		return e->code;
	}
	/* first what is in it, so that it is read before it is synced: what shows later is not meant */
	while (errno = 0, (de = readdir(d)) != NULL) {
		size_t n = strlen(de->d_name);
		int sub;

		if (!is_part(de->d_name) || n + 1 > STORE_NAME_MAX - len)
			continue;
		sub = FS_RETRY(openat(dirfd(d), de->d_name, FOLDER_FLAGS));
		if (sub < 0 && (errno == ENOTDIR || errno == ENOENT || errno == ELOOP))
			continue;
		if (sub < 0)
			return err_sys(e, "folder %s", de->d_name);
		if (sync_tree(sub, len + n + 1, e) < 0)
			return e->code;
	}
	return errno ? err_sys(e, "folder") : local_sync_folder(dirfd(d), e);
}

int local_sync(struct store *s, const char *prefix, struct err *e)
{
	struct local *l = (struct local *)s;
	CLEANUP(close_fd) int dir = FS_RETRY(openat(l->root_fd, ".", FOLDER_FLAGS));
	char part[STORE_NAME_MAX + 1];
	size_t at = 0, len = strlen(prefix);
	int root;

	if (dir < 0)
		return err_sys(e, "folder");
	while (at < len) {
		size_t n = strcspn(prefix + at, "/");
		int next;

		memcpy(part, prefix + at, n);
		part[n] = '\0';
		next = FS_RETRY(openat(dir, part, FOLDER_FLAGS));
		if (next < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			return err_sys(e, "folder %s", part);
		if (next < 0)		/* nothing is shown there: that is to stay so */
			return local_sync_folder(dir, e);
		if (!is_durable(l, prefix, at + n) && local_sync_folder(dir, e) < 0) {
			close_fd(&next);
			return e->code;
		}
		note_durable(l, prefix, at + n);
		close_fd(&dir);
		dir = next;
		at += n + 1;
	}
	root = dir;
	dir = -1;
	return sync_tree(root, len, e);
}

/* ---- listing ---- */

struct listing {
	store_list_fn fn;
	void *opaque;
	char name[STORE_NAME_MAX + 1];	/* of the folder or object at hand */
};

static int list_folder(struct listing *li, int fd, size_t len, struct err *e);

/* Something in a folder under li->name, which is len bytes long.  What has vanished since readdir is not there. */
static int list_entry(struct listing *li, int dir, const char *part, size_t len, struct err *e)
{
	struct store_stat os;
	struct stat st;
	int sub;

	if (fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "%s", li->name);
	if (S_ISREG(st.st_mode)) {
		local_stat_from(&st, &os);
		return li->fn(li->opaque, li->name, &os, e);
	}
	if (!S_ISDIR(st.st_mode) || len + 1 >= STORE_NAME_MAX)
		return 0;
	sub = FS_RETRY(openat(dir, part, FOLDER_FLAGS));
	if (sub < 0)
		return errno == ENOENT ? 0 : err_sys(e, "folder %s", li->name);
	li->name[len] = '/';
	return list_folder(li, sub, len + 1, e);
}

/* Takes fd over.  li->name holds the folder's name and a '/' (len bytes), or nothing for the root.  The depth is
 * bounded by the length of a name. */
static int list_folder(struct listing *li, int fd, size_t len, struct err *e)
{
	CLEANUP(close_dir) DIR *d = fdopendir(fd);
	struct dirent *de;

	if (!d) {
		err_sys(e, "folder %.*s", (int)len, li->name);
		close_fd(&fd);
		return e->code;
	}
	while (errno = 0, (de = readdir(d)) != NULL) {
		size_t n = strlen(de->d_name);
		int rc;

		if (!is_part(de->d_name) || n > STORE_NAME_MAX - len)
			continue;
		memcpy(li->name + len, de->d_name, n + 1);
		rc = list_entry(li, dirfd(d), de->d_name, len + n, e);
		if (rc != 0)
			return rc;
	}
	return errno ? err_sys(e, "folder %.*s", (int)len, li->name) : 0;
}

int local_list(struct store *s, const char *prefix, store_list_fn fn, void *opaque, struct err *e)
{
	struct listing li = { .fn = fn, .opaque = opaque };
	size_t len = strlen(prefix);
	int fd;

	memcpy(li.name, prefix, len);	/* checked by store_list: at most a name and a '/' */
	if (len > 0)
		li.name[len - 1] = '\0';
	if (open_folder((struct local *)s, li.name, &fd, e) < 0) {
		if (e->code != ERR_NOTFOUND)
			return e->code;
		err_clear(e);	/* no folder, no objects */
		return 0;
	}
	if (len > 0)
		li.name[len - 1] = '/';
	return list_folder(&li, fd, len, e);
}
