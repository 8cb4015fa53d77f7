/*
 * restore_folder.c - a folder that gets all its files at once.
 */
#include "cli/restore_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "base/vec.h"

typedef VEC(char *) name_list;

static void names_done(name_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->p[i]);
	VEC_DONE(l);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is in a folder, sorted. */
static int list_names(const char *dir, name_list *l, struct err *e)
{
	DIR *d = opendir(dir);
	struct dirent *x;

	if (!d)
		return err_sys(e, "%s", dir);
	while (!e->code && (x = readdir(d))) {
		char **slot;

		if (!strcmp(x->d_name, ".") || !strcmp(x->d_name, ".."))
			continue;
		slot = VEC_PUSH(l, e);
		if (slot)
			*slot = text_printf(e, "%s", x->d_name);
	}
	closedir(d);
	if (!e->code && l->n)
		qsort(l->p, l->n, sizeof(*l->p), by_name);
	return e->code;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

static int make_staging(const char *parent, struct restore_folder *f, struct err *e)
{
	char q[300];

	for (int i = 0; i < 100; i++) {		/* as mkdtemp, which has no suffix */
		char *path = text_printf(e, "%s/.kedge-%08x.tmp", parent, randombytes_random());

		if (!path)
			return e->code;
		if (mkdir(path, 0700) == 0) {
			f->staging = path;
			return 0;
		}
		free(path);
		if (errno != EEXIST)
			break;
	}
	return err_sys(e, "%s: a folder in it", text_quote(parent, q, sizeof(q)));
}

int restore_folder_open(const char *dir, struct restore_folder *ret, struct err *e)
{
	struct restore_folder f = { 0 };
	CLEANUP(free_ptr) char *parent = fs_dirname(dir, e);
	CLEANUP(free_ptr) char *real = NULL;
	const size_t n = strlen(dir);
	struct stat st;

	if (!parent)
		return e->code;
	f.exists = stat(dir, &st) == 0;
	if (!f.exists && (n == 0 || dir[n - 1] == '/' || lstat(dir, &st) == 0)) {	/* "a/", a link that leads nowhere */
		if (fs_mkdirs(dir, 0700, e) < 0)
			return e->code;
		f.exists = true;
	}
	if (!f.exists && fs_mkdirs(parent, 0700, e) < 0)
		return e->code;
	real = realpath(f.exists ? dir : parent, NULL);
	if (!real)
		return err_sys(e, "%s", dir);
	f.final = f.exists ? text_printf(e, "%s", real) : fs_join(real, fs_basename(dir), e);
	if (!f.final || make_staging(real, &f, e) < 0) {
		restore_folder_done(&f);
		return e->code;
	}
	*ret = f;
	return 0;
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

static int exists_error(const char *path, struct err *e)
{
	char q[300];

	(void)err_set(e, ERR_EXISTS, "%s exists", text_quote(path, q, sizeof(q)));
	return err_hint(e, "--force overwrites it");
}

static int move(const struct restore_folder *f, const char *name, bool replace, struct err *e)
{
	CLEANUP(free_ptr) char *from = fs_join(f->staging, name, e);
	CLEANUP(free_ptr) char *to = from ? fs_join(f->final, name, e) : NULL;
	struct stat st;

	if (!to)
		return e->code;
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, replace ? 0 : RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST)
		return exists_error(to, e);
	if (errno != EINVAL || replace)		/* a file system without the flag */
		return err_sys(e, "%s", to);
	if (lstat(to, &st) == 0)
		return exists_error(to, e);
	return rename(from, to) < 0 ? err_sys(e, "%s", to) : 0;
}

static int forget(const struct restore_folder *f, const char *name, struct err *e)
{
	CLEANUP(free_ptr) char *path = fs_join(f->final, name, e);

	if (!path)
		return e->code;
	return unlink(path) < 0 && errno != ENOENT ? err_sys(e, "%s: removal of the old file", path) : 0;
}

/* The descriptor's name of a VMDK's extent: "a.vmdk" of "a-flat.vmdk", "a-s001.vmdk"; NULL: it is none. */
static char *descriptor_of(const char *name, struct err *e)
{
	const char *dash = strrchr(name, '-');
	bool is = dash && (!strcmp(dash, "-flat.vmdk") || (dash[1] == 's' && strspn(dash + 2, "0123456789") >= 3 &&
							    !strcmp(dash + 2 + strspn(dash + 2, "0123456789"), ".vmdk")));

	return is ? text_printf(e, "%.*s.vmdk", (int)(dash - name), name) : NULL;
}

static int forget_old(const struct restore_folder *f, const name_list *l, const char *last, struct err *e)
{
	if (last && forget(f, last, e) < 0)
		return e->code;
	for (size_t i = 0; i < l->n; i++) {
		CLEANUP(free_ptr) char *descriptor = descriptor_of(l->p[i], e);

		if (e->code || (descriptor && forget(f, descriptor, e) < 0))
			return e->code;
	}
	return 0;
}

/* Before anything is moved: are all names free, or (replace) those of files? */
static int check_names(const struct restore_folder *f, const name_list *l, bool replace, struct err *e)
{
	char q[300];

	for (size_t i = 0; i < l->n; i++) {
		CLEANUP(free_ptr) char *path = fs_join(f->final, l->p[i], e);
		struct stat st;

		if (!path)
			return e->code;
		if (lstat(path, &st) < 0)
			continue;
		if (!replace)
			return exists_error(path, e);
		if (S_ISDIR(st.st_mode))
			return err_set(e, ERR_EXISTS, "%s is a folder, where a file is to be", text_quote(path, q, sizeof(q)));
	}
	return 0;
}

/* The first n names were moved to where nothing was: back again, as far as that works. */
static void take_back(const struct restore_folder *f, const name_list *l, size_t n)
{
	struct err unheard = ERR_INIT;

	for (size_t i = 0; i < n; i++) {
		CLEANUP(free_ptr) char *from = fs_join(f->final, l->p[i], &unheard);
		CLEANUP(free_ptr) char *to = fs_join(f->staging, l->p[i], &unheard);

		if (from && to)
			(void)!rename(from, to);
	}
}

/* Puts the name behind all others. */
static void put_last(name_list *l, const char *last)
{
	for (size_t i = 0; i + 1 < l->n; i++)
		if (!strcmp(l->p[i], last)) {
			char *name = l->p[i];

			l->p[i] = l->p[i + 1];
			l->p[i + 1] = name;
		}
}

/* Extents of VMDKs before their descriptors: '-' sorts before '.'. */
static int move_all(const struct restore_folder *f, const char *last, bool replace, struct err *e)
{
	name_list l = { 0 };
	int r = list_names(f->staging, &l, e);
	size_t moved = 0;

	if (r == 0)
		r = check_names(f, &l, replace, e);
	if (r == 0 && replace)
		r = forget_old(f, &l, last, e);
	if (last)
		put_last(&l, last);
	while (r == 0 && moved < l.n) {
		r = move(f, l.p[moved], replace, e);
		moved += r == 0;
	}
	if (r < 0 && !replace)
		take_back(f, &l, moved);
	names_done(&l);
	return r;
}

static int sync_folder(const char *path, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	return fd < 0 || (FS_RETRY(fsync(fd)) < 0 && errno != EINVAL) ? err_sys(e, "%s: fsync", path) : 0;
}

int restore_folder_commit(struct restore_folder *f, const char *last, bool replace, mode_t mode, struct err *e)
{
	if (sync_folder(f->staging, e) < 0)
		return e->code;
	if (!f->exists) {
		if (chmod(f->staging, mode) < 0)
			return err_sys(e, "%s", f->staging);
		if (renameat2(AT_FDCWD, f->staging, AT_FDCWD, f->final, RENAME_NOREPLACE) == 0 ||
		    (errno == EINVAL && rename(f->staging, f->final) == 0)) {
			free(STEAL(f->staging));
			return fs_sync_parent(f->final, e);
		}
		if (errno != EEXIST)
			return err_sys(e, "%s", f->final);	/* else somebody made one meanwhile */
	}
	return move_all(f, last, replace, e) < 0 ? e->code : sync_folder(f->final, e);
}

void restore_folder_done(struct restore_folder *f)
{
	struct err unheard = ERR_INIT;
	name_list l = { 0 };

	if (f->staging && list_names(f->staging, &l, &unheard) == 0)
		for (size_t i = 0; i < l.n; i++) {
			char *path = fs_join(f->staging, l.p[i], &unheard);

			if (path)
				(void)unlink(path);	/* best effort: its name says that it is none to keep */
			free(path);
		}
	names_done(&l);
	if (f->staging)
		(void)rmdir(f->staging);
	free(f->staging);
	free(f->final);
	*f = (struct restore_folder){ 0 };
}
