/* restore_backing.c - proving that a file holds a stored state, and how an overlay names it. */
#include "cli/restore_backing.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "repo/ingest/ingest.h"

#define SECTOR ((uint64_t)512)
#define DOMAIN "default"	/* what ids of an image that is read here are made with */

static bool is_file(const struct image_identity *id, const struct stat *st)
{
	return id->dev == (uint64_t)st->st_dev && id->ino == (uint64_t)st->st_ino;
}

static bool layer_has(const struct image *im, const struct stat *st)
{
	for (size_t i = 0; i < im->parts.n; i++)
		if (is_file(&im->parts.p[i].identity, st))
			return true;
	return is_file(&im->identity, st);
}

/* ---- does QEMU read it alike? ---- */

/* As images and overlays call it. */
static const char *qemu_format(const struct image *im)
{
	return !strcmp(im->info.format, "vhd") ? "vpc" : im->info.format;
}

static bool one_of(const char *text, const char *const *list)
{
	while (*list && strcmp(text, *list))
		list++;
	return *list;
}

/* Of one layer by itself. */
static const char *layer_differs(const struct image *im)
{
	static const char *const known[] = { "raw", "qcow2", "qcow", "vdi", "vmdk", "vhd", "vhdx", NULL };
	static const char *const rounded[] = { "qcow2", "qcow", NULL };

	if (!one_of(im->info.format, known))
		return "a format that it doesn't know";
	if (im->parts.n || im->info.data_file)
		return "it is made of several files";
	if (im->info.damage)
		return im->info.damage;
	if (one_of(im->info.format, rounded) && im->states[IMAGE_STATE_CURRENT].size % SECTOR)
		return "its size isn't whole sectors";
	return im->info.qemu_differs;
}

/*
 * QEMU opens the layer below by the name that im, opened as path, has for it, and as what im says that it is: without
 * that it looks at the bytes, which a guest may have written.
 */
static const char *link_differs(const struct image *im, const struct image *below, const char *path, char **ret_path,
				struct err *e)
{
	const char *ref = im->info.backing, *stored = im->info.backing_format;
	struct stat st;

	if (strcmp(im->info.format, "qcow2") != 0)
		return "it has a layer below, for which its format has no place that QEMU goes by";
	if (!ref || !stored || strcmp(stored, qemu_format(below)) != 0)
		return "it doesn't store the format of the layer below it";
	if (ref[strcspn(ref, ":/")] == ':')
		return "its name for the layer below isn't a path";
	*ret_path = ref[0] == '/' ? text_printf(e, "%s", ref)
				  : text_printf(e, "%.*s%s", (int)(fs_basename(path) - path), path, ref);
	if (*ret_path && (stat(*ret_path, &st) < 0 || !is_file(&below->identity, &st)))
		return "its name for the layer below leads QEMU elsewhere";
	return NULL;
}

static int refuse(const char *path, const char *why, struct err *e)
{
	char q[512];

	(void)err_set(e, ERR_INVALID, "--backing: %s: QEMU doesn't read it as kedge does, or not at all: %s",
		      text_quote(path, q, sizeof(q)), why);
	return err_hint(e, "without --backing the whole disk is restored");
}

/* What is proven is what kedge reads: so QEMU must read every layer alike. */
static int check_alike(const struct chain *chain, const char *path, struct err *e)
{
	CLEANUP(free_ptr) char *at = text_printf(e, "%s", path);

	for (uint32_t i = 0; at && i < chain->nlayers; i++) {
		const struct image *im = chain->layers[i];
		const char *why = layer_differs(im);
		char *next = NULL;

		if (!why && i + 1 < chain->nlayers)
			why = link_differs(im, chain->layers[i + 1], at, &next, e);
		else if (!why && image_has_parent(im))
			why = "it has a layer below";
		if (why) {
			free(next);
			return refuse(im->path, why, e);
		}
		if (i + 1 == chain->nlayers)
			return 0;
		free(at);
		at = next;
	}
	return e->code;
}

static int check_layers(const struct chain *chain, const char *target, struct err *e)
{
	struct stat st;
	bool there = stat(target, &st) == 0;
	char q[512];

	for (uint32_t i = 0; i < chain->nlayers; i++) {
		const struct image *im = chain->layers[i];

		text_quote(im->path, q, sizeof(q));
		if (there && layer_has(im, &st))
			return err_set(e, ERR_INVALID, "--backing: %s is what would be overwritten", q);
		if (im->locked)
			return err_set(e, ERR_INVALID, "--backing: %s is encrypted: an overlay over it is not written",
				       q);
		if (im->member || im->wrapping) {
			(void)err_set(e, ERR_INVALID, "--backing: %s is packed: no hypervisor opens it as it is", q);
			return err_hint(e, "unpack it first");
		}
	}
	return 0;
}

/* ---- opening ---- */

/* The canonical folder of a path that may not exist yet. */
static char *folder_of(const char *path, struct err *e)
{
	const char *base = fs_basename(path);
	CLEANUP(free_ptr)
	char *dir = base == path ? text_printf(e, ".") : text_printf(e, "%.*s", (int)(base - path), path);
	char *real = dir ? realpath(dir, NULL) : NULL;

	if (dir && !real)
		(void)err_sys(e, "%s", dir);
	return real;
}

static int name_it(struct restore_backing *b, const char *target, struct err *e)
{
	CLEANUP(free_ptr) char *mine = folder_of(target, e), *its = mine ? folder_of(b->path, e) : NULL;
	const char *base = fs_basename(b->path);

	if (!its)
		return e->code;
	if (strcmp(mine, its) != 0)
		b->name = text_printf(e, "%s", b->path);
	else	/* what ends with a colon would be a protocol */
		b->name = text_printf(e, "%s%s", strchr(base, ':') ? "./" : "", base);
	return b->name ? 0 : e->code;
}

int restore_backing_open(struct cli *c, struct restore_backing *b, const struct image_args *args, const char *target,
			 struct err *e)
{
	const struct image_args a = { .allow_paths = args->allow_paths };
	CLEANUP(free_ptr) char *path = NULL;

	if (image_args_open(c, &a, b->file, false, true, &b->chain, &path, e) < 0) {
		/* what would be given is not what QEMU will go by */
		if (strstr(e->hint, "--backing-format")) {
			e->hint[0] = '\0';
			(void)err_hint(e, "`qemu-img rebase -u -F FORMAT -b NAME` stores it in a qcow2; without --backing the "
					  "whole disk is restored");
		}
		return e->code;
	}
	b->path = realpath(path, NULL);
	if (!b->path)
		return err_sys(e, "%s", path);
	b->format = qemu_format(b->chain->layers[0]);
	image_args_warn(c, b->chain);
	return check_layers(b->chain, target, e) < 0 || check_alike(b->chain, b->path, e) < 0 ? e->code
											  : name_it(b, target, e);
}

void restore_backing_done(struct restore_backing *b)
{
	chain_close(b->chain);
	free(b->path);
	free(b->name);
	b->chain = NULL;
	b->path = b->name = NULL;
}

/* ---- proving ---- */

/* A disk that isn't whole sectors is made so in most formats, by zeros. */
static bool fits(const struct manifest *m, const struct manifest_state_disk *sd, uint64_t size)
{
	return !strcmp(m->disks.p[sd->disk].domain, DOMAIN) &&
	       (sd->tree.size == size || round_up(sd->tree.size, SECTOR) == size);
}

static bool equal(const struct tree_ref *a, const struct tree_ref *b)
{
	return a->has_root == b->has_root && a->height == b->height && (!a->has_root || id_eq(&a->root, &b->root));
}

/* The first disk of a backup that has the size, and with tree the content. */
static bool find_in(struct restore_backing *b, const struct backup *backup, uint64_t size, const struct tree_ref *tree)
{
	const struct manifest *m = backup->m;

	for (uint32_t i = 0; i < m->states.n; i++)
		for (size_t k = 0; k < m->states.p[i].disks.n; k++) {
			const struct manifest_state_disk *sd = &m->states.p[i].disks.p[k];

			if (!fits(m, sd, size) || (tree && !equal(tree, &sd->tree)))
				continue;
			b->backup = backup;
			b->state = i;
			b->disk = sd->disk;
			return true;
		}
	return false;
}

static bool find(struct restore_backing *b, const struct backup_list *l, const char *vm, uint64_t size,
		 const struct tree_ref *tree)
{
	for (int other = 0; other < 2; other++)
		for (size_t i = l->n; i-- > 0;)
			if ((strcmp(l->p[i].m->vm, vm) != 0) == other && find_in(b, &l->p[i], size, tree))
				return true;
	return false;
}

static int no_match(struct cli *c, const char *why, const struct restore_backing *b, struct err *e)
{
	char q[512];

	(void)err_set(e, ERR_INVALID, "--backing %s: %s", text_quote(b->path, q, sizeof(q)), why);
	(void)err_hint(e, "an overlay is written only over what is proven to hold a stored state; without --backing "
			  "the whole disk is restored");
	return cli_exit(c, EXIT_NO_MATCH, e);
}

int restore_backing_prove(struct cli *c, struct restore_backing *b, struct repo *r, const struct backup_list *l,
			  const char *vm, struct err *e)
{
	const struct ingest_opts o = {
		.threads = (unsigned)c->g.threads, .max_bytes = (size_t)(c->g.memory / 2),
		.cancel = &c->cancel, .progress = &c->progress,
	};
	uint64_t size = b->chain->image->states[0].size;
	char shown[MSG_SIZE_BYTES], why[128];

	snprintf(why, sizeof(why), "no stored state of any disk has its size (%s, %" PRIu64 " bytes)",
		 msg_size(c, size, shown), size);
	if (!find(b, l, vm, size, NULL))
		return no_match(c, why, b, e);
	if (ingest_tree_of(r, b->chain, &o, &b->tree, e) < 0)
		return err_ctx(e, "reading %s", b->path);
	if (!find(b, l, vm, size, &b->tree))
		return no_match(c, "its content equals no stored state", b, e);
	return 0;
}

int restore_backing_check(struct restore_backing *b, struct err *e)
{
	return chain_check_unchanged(b->chain, e) < 0 ? err_ctx(e, "--backing") : 0;
}

/* ---- telling ---- */

static char *point_text(const struct restore_backing *b, struct err *e)
{
	const struct manifest *m = b->backup->m;
	const struct manifest_state *s = &m->states.p[b->state];
	static const char *const kinds[] = { "", "snap:", "layer:" };	/* enum state_kind */
	char id[SHORT_ID_BYTES];

	return text_printf(e, "%s:%s@%s/%s%s", m->vm, m->disks.p[b->disk].name, short_id(&b->backup->hash, id),
			   kinds[s->kind], s->name);
}

void restore_backing_note(const struct cli *c, const struct restore_backing *b)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *point = point_text(b, &e);
	char q[512], qp[512];

	msg_note(c, "backing file %s (%s) holds %s: nobody may write to it from now on",
		 text_quote(b->name, q, sizeof(q)), b->format,
		 point ? text_quote(point, qp, sizeof(qp)) : "a stored state");
}

json_t *restore_backing_json(const struct restore_backing *b)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *point = point_text(b, &e);
	json_t *o = json_object();

	msg_json_set(&o, "path", msg_json_text(b->path));
	msg_json_set(&o, "name", msg_json_text(b->name));
	msg_json_set(&o, "format", json_string(b->format));
	msg_json_set(&o, "point", msg_json_text(point));
	return o;
}
