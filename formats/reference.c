/*
 * reference.c - following the file names that images contain.
 *
 * Images are hostile, so a name is never handed to open() as it is.  Its real path (all symbolic links resolved) must
 * lie inside an allowed root; it is then opened anew from that root, one component after the other, none of which may
 * be a symbolic link: so nobody can swap a folder for a link between the check and the open.
 *
 * When the named file is itself a symbolic link, what it names in turn counts from the link's folder, not from that of
 * the file behind it: QEMU does it so, and the guest has seen that chain.  So the link's folder must be allowed as
 * well.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "formats/chain_internal.h"

#define QUOTE_BYTES 300

int reference_open_top(const char *path, int *ret_fd, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	char q[QUOTE_BYTES];
	struct stat st;

	text_quote(path, q, sizeof(q));
	/* Looked at before it is opened: opening a FIFO or a device can do things. */
	if (stat(path, &st) < 0)
		return err_sys(e, "%s", q);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is %s, not an image file or block device", q,
			       S_ISDIR(st.st_mode) ? "a folder" : S_ISFIFO(st.st_mode) ? "a FIFO" : "a special file");
	fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	if (fd < 0)
		return err_sys(e, "%s", q);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* Refuses what only QEMU's file name parser understands. */
static int check_form(const char *ref, const char *what, struct err *e)
{
	char q[QUOTE_BYTES];
	size_t len = strcspn(ref, ":/");

	text_quote(ref, q, sizeof(q));
	if (!*ref)
		return err_set(e, ERR_INVALID, "%s: empty name", what);
	if (ref[len] != ':')
		return 0;
	if (strncmp(ref, "file:", 5) == 0) {
		(void)err_set(e, ERR_INVALID, "%s \"%s\" is written with a protocol, which is never followed", what, q);
		return err_hint(e, "name the plain path in the image: qemu-img rebase -u -F FORMAT -b PATH IMAGE");
	}
	if (strncmp(ref, "json:", 5) == 0)
		(void)err_set(e, ERR_INVALID, "%s \"%s\" is a json: description, which is never followed", what, q);
	else
		(void)err_set(e, ERR_INVALID, "%s \"%s\" is on a protocol (%.*s:), which is never followed", what, q,
			      (int)(len < 20 ? len : 20), q);
	return err_hint(e, "only paths of local files are; if a local file has a colon in its name, name it ./%s", q);
}

/* The rest of path below root, or NULL if it isn't below. */
static const char *below(const char *root, const char *path)
{
	size_t n = strlen(root);

	if (n && root[n - 1] == '/')	/* "/" itself */
		n--;
	if (strncmp(root, path, n) != 0 || path[n] != '/')
		return NULL;
	return path + n + 1;
}

/* The canonical path of the root that holds path; *ret_allowed: it is one that the user gave. */
static int find_root(const char *dir, const char *const *allow, const char *path, char **ret_root, bool *ret_allowed,
		     struct err *e)
{
	for (const char *const *a = allow; a && *a; a++) {
		char *root = realpath(*a, NULL);
		char q[QUOTE_BYTES];

		if (!root)
			return err_sys(e, "--allow-path %s", text_quote(*a, q, sizeof(q)));
		if (below(root, path)) {
			*ret_root = root;
			*ret_allowed = true;
			return 1;
		}
		free(root);
	}
	*ret_allowed = false;
	*ret_root = realpath(dir, NULL);
	if (!*ret_root)
		return err_sys(e, "folder of the image");
	if (below(*ret_root, path))
		return 1;
	free(*ret_root);
	*ret_root = NULL;
	return 0;
}

/* Opens name in dir without following it; *ret_st is of what was opened. */
static int open_component(int dir, const char *name, bool last, bool device_ok, struct err *e)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (last ? O_NONBLOCK | O_NOCTTY : O_DIRECTORY | O_PATH);
	struct stat st;
	int fd;

	if (last) {	/* looked at before it is opened, and again after */
		if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_sys(e, "stat");
		if (!S_ISREG(st.st_mode) && !(device_ok && S_ISBLK(st.st_mode)))
			return err_set(e, ERR_INVALID, "%s",
				       S_ISBLK(st.st_mode) ? "a block device" : "not a regular file");
	}
	fd = FS_RETRY(openat(dir, name, flags));
	if (fd < 0)
		return err_sys(e, "open");
	if (last && fstat(fd, &st) < 0) {
		err_sys(e, "stat");
		close(fd);
		return e->code;
	}
	if (last && !S_ISREG(st.st_mode) && !(device_ok && S_ISBLK(st.st_mode))) {
		close(fd);
		return err_set(e, ERR_INVALID, "was swapped while it was opened");
	}
	return fd;
}

/* Opens rest (a canonical path's remainder) below root step by step. */
static int open_below(const char *root, const char *rest, bool device_ok, int *ret_fd, struct err *e)
{
	CLEANUP(close_fd) int dir = FS_RETRY(open(root, O_PATH | O_DIRECTORY | O_CLOEXEC));
	CLEANUP(free_ptr) char *copy = strdup(rest);
	char *name = copy;

	if (!copy)
		return err_set(e, ERR_NOMEM, "path");
	if (dir < 0)
		return err_sys(e, "open of the folder");
	for (;;) {
		char *slash = strchr(name, '/');
		int fd;

		if (slash)
			*slash = '\0';
		fd = open_component(dir, name, !slash, device_ok, e);
		if (fd < 0)
			return fd;
		if (!slash) {
			*ret_fd = fd;
			return 0;
		}
		close_fd(&dir);
		dir = fd;
		name = slash + 1;
	}
}

static int refuse_outside(const char *real, const char *what, const char *dir, struct err *e)
{
	char q[QUOTE_BYTES], qd[QUOTE_BYTES];
	char *folder = fs_dirname(real, e);

	if (!folder)
		return e->code;
	(void)err_set(e, ERR_INVALID, "%s %s is outside the image's folder %s, so it is not followed", what,
		      text_quote(real, q, sizeof(q)), text_quote(dir, qd, sizeof(qd)));
	(void)err_hint(e, "if it belongs to this disk, allow its folder: --allow-path %s",
		       text_quote(folder, q, sizeof(q)));
	free(folder);
	return e->code;
}

/* path with its folder, and not its last part, made real. */
static char *name_in_folder(const char *path, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(path, e);
	CLEANUP(free_ptr) char *real = dir ? realpath(dir, NULL) : NULL;

	if (dir && !real)
		(void)err_sys(e, "folder of %s", path);
	return real ? fs_join(real, fs_basename(path), e) : NULL;
}

/* Is the real path in one of these folders? */
static bool in_folders(const char *const *folders, const char *path)
{
	bool found = false;

	for (; folders && *folders && !found; folders++) {
		char *root = realpath(*folders, NULL);

		found = root && below(root, path);
		free(root);
	}
	return found;
}

int reference_open(const char *path, const char *reference, const char *what, const char *const *allow,
		   const char *const *devices, int *ret_fd, char **ret_path, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(path, e);
	CLEANUP(free_ptr) char *joined = NULL;
	CLEANUP(free_ptr) char *real = NULL;
	CLEANUP(free_ptr) char *named = NULL;
	CLEANUP(free_ptr) char *root = NULL;
	char q[QUOTE_BYTES];
	bool allowed;
	int r;

	if (!dir || check_form(reference, what, e) < 0)
		return e->code;
	joined = fs_join(dir, reference, e);
	if (!joined)
		return e->code;
	real = realpath(joined, NULL);
	if (!real) {
		(void)err_sys(e, "%s %s", what, text_quote(joined, q, sizeof(q)));
		return err_hint(e,
				"a file of this disk is missing: put it there (qcow2 images can be given another name "
				"for it: qemu-img rebase -u)");
	}
	named = name_in_folder(joined, e);
	if (!named)
		return e->code;
	r = find_root(dir, allow, named, &root, &allowed, e);
	if (r < 0)
		return r;
	if (!r)
		return refuse_outside(named, what, dir, e);
	free(STEAL(root));
	r = find_root(dir, allow, real, &root, &allowed, e);
	if (r < 0)
		return r;
	if (!r)
		return refuse_outside(real, what, dir, e);
	r = open_below(root, below(root, real), allowed && (!devices || in_folders(devices, real)), ret_fd, e);
	if (r < 0) {
		(void)err_ctx(e, "%s %s", what, text_quote(real, q, sizeof(q)));
		if (r == ERR_INVALID)
			(void)err_hint(e, "an image may name regular files; block devices only in a folder given by "
					  "--allow-path");
		return r;
	}
	*ret_path = STEAL(named);
	return 0;
}
