/*
 * references.c - files that a description names: reading them, where images may lie, who has them open.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"
#include "formats/reference.h"

int machine_read_file(const struct machine *m, const struct machine_file *f, const char *const *allow, size_t max,
		      uint8_t **ret, size_t *ret_len, uint32_t *ret_mode, struct err *e)
{
	CLEANUP(free_ptr) char *path = NULL;
	CLEANUP(free_ptr) uint8_t *p = NULL;
	CLEANUP(close_fd) int fd = -1;
	char q[300];
	struct stat st;

	if (machine_in_archive(m)) {
		*ret_mode = 0600;
		return ova_read(m->path, f->path, max, NULL, ret, ret_len, e) < 0 ? err_ctx(e, "%s", m->path) : 0;
	}
	if (reference_open(m->path, f->path, machine_role_name(f->role), allow, NULL, &fd, &path, e) < 0)
		return e->code;
	text_quote(path, q, sizeof(q));
	if (fstat(fd, &st) < 0)
		return err_sys(e, "%s", q);
	if (st.st_size < 0 || (uint64_t)st.st_size > max)
		return err_set(e, ERR_INVALID, "%s: %lld bytes, more than the %zu that are kept", q,
			       (long long)st.st_size, max);
	p = malloc((size_t)st.st_size + 1);
	if (!p)
		return err_set(e, ERR_NOMEM, "%s: no memory for it", q);
	if (fs_pread_full(fd, p, (size_t)st.st_size, 0, e) < 0)
		return err_ctx(e, "%s", q);
	p[st.st_size] = 0;
	*ret = STEAL(p);
	*ret_len = (size_t)st.st_size;
	*ret_mode = st.st_mode & 07777;
	return 0;
}

/* --- folders ------------------------------------------------------------------------------------------------------- */

typedef VEC(char *) path_list;

static int add_path(path_list *l, char *path, struct err *e)
{
	char **slot;

	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->p[i], path)) {
			free(path);
			return 0;
		}
	slot = VEC_PUSH(l, e);
	if (!slot) {
		free(path);
		return e->code;
	}
	*slot = path;
	return 0;
}

static bool is_below(const char *root, const char *path)
{
	size_t n = strlen(root);

	while (n && root[n - 1] == '/')
		n--;
	return !strncmp(root, path, n) && (path[n] == '/' || !path[n]);
}

/* The folder of a listed image, if it is real and in one of the first `nroots`, which are allowed as they are. */
static int add_image_folder(path_list *l, size_t nroots, const char *dir, const char *path, struct err *e)
{
	CLEANUP(free_ptr) char *joined = fs_join(dir, path, e);
	CLEANUP(free_ptr) char *folder = joined ? fs_dirname(joined, e) : NULL;
	char *real = folder ? realpath(folder, NULL) : NULL;

	if (!folder)
		return e->code;
	for (size_t i = 0; real && i < nroots; i++)
		if (is_below(l->p[i], real))
			return add_path(l, real, e);
	free(real);
	return 0;
}

static int fill_folders(const struct machine *m, const char *const *allow, path_list *l, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(m->path, e);
	char *real;
	size_t nroots;

	if (!dir)
		return e->code;
	for (; allow && *allow; allow++) {
		real = realpath(*allow, NULL);
		if (!real)
			return err_sys(e, "--allow-path %s", *allow);
		if (add_path(l, real, e) < 0)
			return e->code;
	}
	if (m->kind != MACHINE_LIBVIRT) {
		real = realpath(dir, NULL);
		if (!real)
			return err_sys(e, "folder of %s", m->path);
		if (add_path(l, real, e) < 0)
			return e->code;
	}
	nroots = l->n;
	/* Of thousands of images few lie in folders of their own; those that do may be given by --allow-path. */
	for (size_t i = 0; i < m->images.n && l->n < nroots + MACHINE_DISKS_MAX; i++)
		if (m->images.p[i].path && add_image_folder(l, nroots, dir, m->images.p[i].path, e) < 0)
			return e->code;
	return 0;
}

int machine_folders(const struct machine *m, const char *const *allow, char ***ret, struct err *e)
{
	path_list l = { 0 };
	int r = fill_folders(m, allow, &l, e);
	char **end = r < 0 ? NULL : VEC_PUSH(&l, e);	/* NULL */

	if (!end) {
		for (size_t i = 0; i < l.n; i++)
			free(l.p[i]);
		VEC_DONE(&l);
		return e->code;
	}
	*ret = l.p;
	return 0;
}

void machine_folders_free(char **folders)
{
	for (char **p = folders; p && *p; p++)
		free(*p);
	free(folders);
}

/* --- locks --------------------------------------------------------------------------------------------------------- */

/* VMware's lock: a folder FILE.lck with files in it; ESXi's: none that can be seen from outside. */
static bool has_lock(const char *path, struct err *e)
{
	CLEANUP(free_ptr) char *lock = text_printf(e, "%s.lck", path);
	DIR *dir = lock ? opendir(lock) : NULL;
	struct dirent *d = NULL;

	while (dir && (d = readdir(dir)) && d->d_name[0] == '.')
		;
	if (dir)
		closedir(dir);
	return d != NULL;
}

int machine_check_locked(const struct machine *m, const struct machine_image *image, struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(m->path, e);
	CLEANUP(free_ptr) char *path = NULL;
	char q[300];

	if (!dir || m->kind != MACHINE_VMWARE || (image && !image->path))
		return dir ? 0 : e->code;
	path = fs_join(dir, image ? image->path : fs_basename(m->path), e);
	if (!path || !has_lock(path, e))
		return e->code;
	text_quote(path, q, sizeof(q));
	(void)err_set(e, ERR_LOCKED, "%s: in use: VMware's lock is there (%s.lck)", q, q);
	return err_hint(e, "shut the machine down; if none runs and it is left over from a crash, remove the folder "
			   "%s.lck", q);
}
