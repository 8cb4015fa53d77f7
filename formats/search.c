/*
 * search.c - finding a parent that is named by its ids alone.
 */
#include "formats/search.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "formats/file.h"

#define FILES_MAX 50000		/* names in all folders together */
#define LISTED_MAX 4		/* candidates that an error lists */
#define QUOTE_BYTES 200

void search_done(struct search *s)
{
	for (size_t i = 0; i < s->folders.n; i++)
		free(s->folders.p[i]);
	for (size_t i = 0; i < s->images.n; i++)
		free(s->images.p[i].path);
	VEC_DONE(&s->folders);
	VEC_DONE(&s->images);
}

static bool ends_in(const char *name, const char *end)
{
	size_t len = strlen(name), n = strlen(end);

	return len > n && !strcasecmp(name + len - n, end);
}

/* A disk as its guest sees it, by its name: raw, or VMDK's NAME-flat.vmdk and NAME-f001.vmdk.  All that it holds is the
 * guest's to write, the header of another's parent too. */
static bool is_guests(const char *name)
{
	size_t n = strlen(name);

	if (ends_in(name, ".raw") || ends_in(name, ".img") || ends_in(name, "-flat.vmdk"))
		return true;
	if (!ends_in(name, ".vmdk"))
		return false;
	for (n -= 5; n && name[n - 1] >= '0' && name[n - 1] <= '9'; n--)
		;
	return n > 1 && name[n] != '.' && name[n - 1] == 'f' && name[n - 2] == '-';
}

/* The ids of dir/name.  1, or 0 where there is nothing to be found in it, whatever the reason. */
static int look_at(int dir, const char *name, struct search_image *ret)
{
	CLEANUP(close_fd) int fd = -1;
	struct image_identity id;
	struct err unheard = ERR_INIT;
	struct stat st;

	/* Looked at before it is opened: opening a FIFO or a device can do things. */
	if (is_guests(name) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || !st.st_size)
		return 0;
	fd = FS_RETRY(openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || file_identity(fd, &id, &unheard) < 0)
		return 0;
	if (format_probe(fd, name, &ret->format, &unheard) < 0 || !ret->format->read_ids ||
	    ret->format->read_ids(&(struct file){ fd, 0, id.size }, &ret->ids, &unheard) <= 0)
		return 0;
	ret->dev = id.dev;
	ret->ino = id.ino;
	return 1;
}

static int add_image(struct search *s, int dir, const char *folder, const char *name, struct err *e)
{
	struct search_image found = { 0 }, *slot;
	char q[QUOTE_BYTES];

	if (!look_at(dir, name, &found))
		return 0;
	slot = VEC_PUSH(&s->images, e);
	if (!slot)
		return e->code;
	*slot = found;
	slot->folder = folder;
	slot->path = fs_join(folder, name, e);
	if (!slot->path)
		return e->code;
	LOG_DEBUG("%s: %s, %s", text_quote(slot->path, q, sizeof(q)), found.format->name, found.ids.uuid);
	return 0;
}

typedef VEC(const char *) folder_list;

static const char *folder_seen(const struct search *s, const char *real)
{
	for (size_t i = 0; i < s->folders.n; i++)
		if (!strcmp(s->folders.p[i], real))
			return s->folders.p[i];
	return NULL;
}

static int look_through(struct search *s, DIR *dir, const char *folder, struct err *e)
{
	char q[QUOTE_BYTES];
	struct dirent *d;

	while ((d = readdir(dir))) {
		if (++s->nfiles > FILES_MAX) {
			(void)err_set(e, ERR_UNSUPPORTED, "%s: too many files (more than %d) to look for a parent in",
				      text_quote(folder, q, sizeof(q)), FILES_MAX);
			return err_hint(e, "put the disk's images into a folder of their own");
		}
		if (add_image(s, dirfd(dir), folder, d->d_name, e) < 0)
			return e->code;
	}
	return 0;
}

/* Looks through a folder, if that wasn't done, and adds it to the child's; in one that can't be opened is nothing. */
static int add_folder(struct search *s, const char *path, folder_list *l, struct err *e)
{
	CLEANUP(free_ptr) char *real = realpath(path, NULL);
	const char *seen = real ? folder_seen(s, real) : NULL, **slot;
	char **keep;
	DIR *dir;
	int r = 0;

	if (!seen) {
		dir = real ? opendir(real) : NULL;
		if (!dir)
			return 0;
		keep = VEC_PUSH(&s->folders, e);
		if (keep) {
			*keep = STEAL(real);
			seen = *keep;
		}
		r = keep ? look_through(s, dir, seen, e) : e->code;
		closedir(dir);
		if (r < 0)
			return r;
	}
	slot = VEC_PUSH(l, e);
	if (!slot)
		return e->code;
	*slot = seen;
	return 0;
}

/* The folders in which child's parent may be. */
static int add_folders(struct search *s, const struct image *child, const char *const *allow, folder_list *l,
		       struct err *e)
{
	CLEANUP(free_ptr) char *dir = fs_dirname(child->path, e);
	CLEANUP(free_ptr) char *below = dir ? fs_join(dir, "Snapshots", e) : NULL;

	if (!below || add_folder(s, dir, l, e) < 0 || add_folder(s, below, l, e) < 0)
		return e->code;
	for (; allow && *allow; allow++)
		if (add_folder(s, *allow, l, e) < 0)
			return e->code;
	return 0;
}

static bool has_content(const struct image_parent *p, const struct image_ids *is)
{
	return !p->ids.content[0] || !strcmp(p->ids.content, is->content) ||
	       (p->content2[0] && !strcmp(p->content2, is->content));
}

static bool fits(const struct image_parent *p, const struct image_ids *is, bool exactly)
{
	const struct image_ids *want = &p->ids;

	if (want->uuid[0] && strcmp(want->uuid, is->uuid) != 0)
		return false;
	if ((exactly || !want->uuid[0]) && !has_content(p, is))
		return false;
	return !exactly || !want->modify[0] || !strcmp(want->modify, is->modify);
}

static int by_path(const void *a, const void *b)
{
	return strcmp((*(const struct search_image *const *)a)->path, (*(const struct search_image *const *)b)->path);
}

typedef VEC(const struct search_image *) image_list;

static bool in_folders(const struct search_image *x, const folder_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->p[i] == x->folder)
			return true;
	return false;
}

/* One file may have several names. */
static bool is_listed(const struct search_image *x, const image_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->p[i]->dev == x->dev && l->p[i]->ino == x->ino)
			return true;
	return false;
}

/* Those that fit, but for the child itself, by path: the order of a folder's entries means nothing. */
static int collect(const struct search *s, const struct image *child, const folder_list *folders, bool exactly,
		   image_list *ret, struct err *e)
{
	ret->n = 0;
	for (size_t i = 0; i < s->images.n; i++) {
		const struct search_image *x = &s->images.p[i], **slot;

		if (!fits(&child->parent, &x->ids, exactly) || !in_folders(x, folders) || is_listed(x, ret) ||
		    (x->dev == child->identity.dev && x->ino == child->identity.ino))
			continue;
		slot = VEC_PUSH(ret, e);
		if (!slot)
			return e->code;
		*slot = x;
	}
	if (ret->n)
		qsort(ret->p, ret->n, sizeof(*ret->p), by_path);
	return 0;
}

static const char *wanted(const struct image *child)
{
	return child->parent.ids.uuid[0] ? child->parent.ids.uuid : child->parent.ids.content;
}

static int refuse_absent(const folder_list *l, const struct image *child, struct err *e)
{
	char list[400] = "", q[QUOTE_BYTES];
	size_t n = 0;

	for (size_t i = 0; i < l->n && n < sizeof(list) - 1; i++) {
		int w = snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "",
				 text_quote(l->p[i], q, sizeof(q)));

		n += w > 0 ? (size_t)w : 0;
	}
	(void)err_set(e, ERR_NOTFOUND, "%s: no image with the id of its parent, %s, in %s",
		      text_quote(child->path, q, sizeof(q)), wanted(child), list);
	return err_hint(e,
			"say where the layers below lie: --allow-path DIR (VirtualBox keeps a machine's first image in "
			"the folder above Snapshots)");
}

static int refuse_several(const struct image *child, const image_list *l, struct err *e)
{
	char list[500] = "", q[QUOTE_BYTES];
	size_t n = 0;

	for (size_t i = 0; i < l->n && i < LISTED_MAX && n < sizeof(list) - 1; i++) {
		int w = snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "",
				 text_quote(l->p[i]->path, q, sizeof(q)));

		n += w > 0 ? (size_t)w : 0;
	}
	(void)err_set(e, ERR_INVALID, "%s: %zu images have the id of its parent, %s: %s%s",
		      text_quote(child->path, q, sizeof(q)), l->n, wanted(child), list,
		      l->n > LISTED_MAX ? ", ..." : "");
	return err_hint(e, "leave the right one and move the copies elsewhere");
}

static int refuse_changed(const struct image *child, const struct search_image *x, struct err *e)
{
	char a[QUOTE_BYTES], b[QUOTE_BYTES];
	const struct image_ids *want = &child->parent.ids;
	bool modify = want->modify[0] && strcmp(want->modify, x->ids.modify) != 0;

	text_quote(x->path, a, sizeof(a));
	text_quote(child->path, b, sizeof(b));
	(void)err_set(e, ERR_CHANGED, "%s was written to after %s had been made on it: its %s is %s, recorded is %s", a,
		      b, modify ? "modification UUID" : "content id", modify ? x->ids.modify : x->ids.content,
		      modify ? want->modify : want->content);
	return err_hint(e, "restore the parent as it was; --force reads the two as they are, which gives neither's "
			   "content where the parent has changed");
}

int search_parent(struct search *s, const struct image *child, const char *const *allow, bool changed,
		  char **ret_path, const struct format **ret_format, struct err *e)
{
	image_list l = { 0 };
	folder_list folders = { 0 };
	bool exactly = true;
	int r = add_folders(s, child, allow, &folders, e);

	if (r == 0)
		r = collect(s, child, &folders, true, &l, e);
	if (r == 0 && !l.n) {
		exactly = false;
		r = collect(s, child, &folders, false, &l, e);
	}
	if (r == 0 && !l.n)
		r = refuse_absent(&folders, child, e);
	else if (r == 0 && l.n > 1)
		r = refuse_several(child, &l, e);
	else if (r == 0 && !exactly && !changed)
		r = refuse_changed(child, l.p[0], e);
	if (r == 0) {
		*ret_path = text_printf(e, "%s", l.p[0]->path);
		*ret_format = l.p[0]->format;
		r = *ret_path ? 0 : e->code;
	}
	VEC_DONE(&l);
	VEC_DONE(&folders);
	return r;
}
