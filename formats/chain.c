/*
 * chain.c - opening a disk with all its layers, from the top down.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "base/vec.h"
#include "formats/archive/source.h"
#include "formats/cache.h"
#include "formats/chain_internal.h"
#include "formats/file.h"
#include "formats/formats.h"
#include "formats/search.h"
#include "formats/split/split.h"

#define QUOTE_BYTES 300

struct opener {
	const struct chain_opts *o;
	struct block_cache *cache;		/* one for all layers */
	VEC(struct image *) layers;
	VEC(uint32_t) below;			/* for each of these; CHAIN_NONE: none, or not known yet */
	size_t branch;				/* first layer of the branch that is being opened; 0 = the chain itself */
	VEC(uint32_t) tops;			/* of branches */
	struct search search;			/* parents that have no name, only ids */
};

static void opener_done(struct opener *b)
{
	for (size_t i = 0; i < b->layers.n; i++)
		image_close(b->layers.p[i]);
	VEC_DONE(&b->layers);
	VEC_DONE(&b->below);
	VEC_DONE(&b->tops);
	search_done(&b->search);
	block_cache_unref(b->cache);
}

static bool same_file(const struct image_identity *a, const struct image_identity *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

/* The file behind fd must be none that is in the chain already, as a layer or a part of one. */
static int check_loop(const struct opener *b, int fd, const char *path, struct err *e)
{
	struct image_identity id;
	char q[QUOTE_BYTES];

	if (file_identity(fd, &id, e) < 0)
		return err_ctx(e, "%s", text_quote(path, q, sizeof(q)));
	for (size_t i = 0; i < b->layers.n; i++) {
		const struct image *im = b->layers.p[i];
		bool found = same_file(&im->identity, &id);

		for (size_t k = 0; k < im->parts.n && !found; k++)
			found = same_file(&im->parts.p[k].identity, &id);
		if (found)
			return err_set(e, ERR_INVALID, "%s is in this chain already, as layer %zu: the chain is a loop",
				       text_quote(path, q, sizeof(q)), i);
	}
	return 0;
}

/* The image that is being opened, which asks for its other files. */
struct part_opener {
	struct opener *b;
	const char *path;
	struct image_identity id;
};

static int open_part(void *opaque, const char *reference, const char *what, struct image_part *ret, struct err *e)
{
	const struct part_opener *p = opaque;
	CLEANUP(close_fd) int fd = -1;
	CLEANUP(free_ptr) char *path = NULL;
	struct image_identity id;

	if (reference_open(p->path, reference, what, p->b->o->allow_paths, p->b->o->device_paths, &fd, &path, e) < 0 ||
	    check_loop(p->b, fd, path, e) < 0 || file_identity(fd, &id, e) < 0)
		return e->code;
	if (same_file(&id, &p->id))
		return err_set(e, ERR_INVALID, "the image names itself as its %s", what);
	if (!p->b->o->ignore_locks && lock_against_writers(fd, path, p->b->layers.n == 0, e) < 0)
		return e->code;
	*ret = (struct image_part){ .path = STEAL(path), .fd = fd };
	ret->unwritten_ns = p->b->o->settle ? file_unwritten(fd) : 0;
	fd = -1;
	return 0;
}

static struct source_opts source_opts(const struct opener *b)
{
	return (struct source_opts){ .temp_dir = b->o->temp_dir, .max_bytes = b->o->max_unpacked,
				     .cancel = b->o->cancel, .gzip = b->o->gzip };
}

/* Takes over what s owns, if it succeeds. */
static int open_layer(struct opener *b, const struct format *f, struct source *s, const char *path, struct image **ret,
		      struct err *e)
{
	const struct source_opts so = source_opts(b);
	struct part_opener parts = { .b = b, .path = path };
	const struct image_opener opener = { open_part, &parts };
	const struct image_open_opts io = { .force = b->o->force, .opener = &opener, .cache = b->cache,
					     .secrets = b->o->secrets };
	int64_t unwritten;
	char q[QUOTE_BYTES];

	if (!b->o->ignore_locks && lock_against_writers(source_outer(s), path, b->layers.n == 0, e) < 0)
		return e->code;
	unwritten = b->o->settle ? file_unwritten(source_outer(s)) : 0;
	if (file_identity(source_outer(s), &parts.id, e) < 0 || source_image(s, f, path, &io, &so, ret, e) < 0)
		return err_ctx(e, "%s", text_quote(path, q, sizeof(q)));
	(*ret)->unwritten_ns = unwritten;
	if (!(*ret)->locked || b->o->locked_ok)
		return 0;
	(void)err_set(e, ERR_INVALID, "%s: encrypted with %s, and no secret was given for it", text_quote(path, q, sizeof(q)),
		      !strncmp((*ret)->info.encryption, "luks", 4) ? "LUKS" : "AES");
	image_close(*ret);
	return err_hint(e, "--image-secret FILE, with the password in FILE; for several layers or disks "
			   "--image-secret NAME=FILE, with a layer's file name or a disk's name");
}

/* Takes im over, whether it succeeds or not.  It is the layer below the last one, unless it is a branch's first. */
static int push_layer(struct opener *b, struct image *im, struct err *e)
{
	uint32_t n = (uint32_t)b->layers.n, *below = VEC_PUSH(&b->below, e);
	struct image **slot = below ? VEC_PUSH(&b->layers, e) : NULL;
	char shown[256];

	if (!slot) {
		image_close(im);
		return e->code;
	}
	*slot = im;
	*below = CHAIN_NONE;
	if (n > b->branch)
		b->below.p[n - 1] = n;
	LOG_DEBUG("layer %zu: %s, %s, %" PRIu64 " bytes", b->layers.n - 1, text_quote(im->path, shown, sizeof(shown)),
		  im->info.format, im->info.virtual_size);
	return 0;
}

/* What the user says of a file that is named so; NULL. */
static const char *given_format(const struct chain_opts *o, const char *backing)
{
	const char *base = backing ? fs_basename(backing) : "", *any = NULL;

	for (const char *const *p = o->backing_formats; p && *p; p++) {
		const char *format = strrchr(*p, '=');	/* a name may have one, a format hasn't */

		if (!format)
			any = *p;
		else if (strlen(base) == (size_t)(format - *p) && !strncmp(*p, base, strlen(base)))
			return format + 1;
	}
	return any;
}

/* Which format a layer below has: what its child stores, else what the user says; never what its content looks like. */
static int backing_format(const struct opener *b, const struct image *child, const struct format **ret, struct err *e)
{
	const char *name = child->info.backing_format ? child->info.backing_format
						      : given_format(b->o, child->info.backing);
	char q[QUOTE_BYTES], qn[64];

	text_quote(child->path, q, sizeof(q));
	if (!name) {
		(void)err_set(e, ERR_INVALID, "%s: doesn't say which format its backing file \"%s\" has", q,
			      text_quote(child->info.backing, (char[QUOTE_BYTES]){ 0 }, QUOTE_BYTES));
		if (!strcmp(child->info.format, "qcow"))	/* it has no place for it */
			return err_hint(e, "give it: --backing-format qcow (or raw, qcow2); where layers differ "
					   "--backing-format %s=FORMAT for this one",
					text_shell(fs_basename(child->info.backing), (char[160]){ 0 }, 160));
		return err_hint(e,
				"give it: --backing-format qcow2 (or raw); or store it: qemu-img rebase -u -F qcow2 -b "
				"%s %s",
				text_shell(child->info.backing, (char[160]){ 0 }, 160),
				text_shell(child->path, (char[160]){ 0 }, 160));
	}
	*ret = format_find(name);
	if (!*ret)
		return err_set(e, ERR_UNSUPPORTED, "%s: backing format \"%s\" is not supported", q,
			       text_quote(name, qn, sizeof(qn)));
	return 0;
}

/* Which layer, of those that were there before the branch at hand, the file is; CHAIN_NONE. */
static uint32_t find_layer(const struct opener *b, const struct image_identity *id)
{
	for (size_t i = 0; i < b->branch; i++)
		if (same_file(&b->layers.p[i]->identity, id))
			return (uint32_t)i;
	return CHAIN_NONE;
}

/* A file that is a layer already, by another name of its format: one of the two reads what isn't there. */
static int check_format(const struct image *im, const char *format, const char *who, struct err *e)
{
	char q[QUOTE_BYTES], qw[QUOTE_BYTES], qf[64];

	if (!format || format_find(format) == format_find(im->info.format))
		return 0;
	return err_set(e, ERR_INVALID, "%s is a layer as %s already, and %s for %s", text_quote(im->path, q, sizeof(q)),
		       im->info.format, text_quote(format, qf, sizeof(qf)), text_quote(who, qw, sizeof(qw)));
}

/* Does the branch meet layers that are open already, in this file?  1: it does, and ends. */
static int join(struct opener *b, const struct image *child, int fd, const char *path, bool changed, struct err *e)
{
	struct image_identity id;
	uint32_t found;
	char q[QUOTE_BYTES];

	if (!b->branch)
		return 0;
	if (file_identity(fd, &id, e) < 0)
		return err_ctx(e, "%s", text_quote(path, q, sizeof(q)));
	found = find_layer(b, &id);
	if (found == CHAIN_NONE)
		return 0;
	if (check_format(b->layers.p[found], child->info.backing_format, child->path, e) < 0)
		return e->code;
	if (image_check_parent(child, b->layers.p[found], e) < 0 && !(e->code == ERR_CHANGED && changed))
		return e->code;
	err_clear(e);
	b->below.p[b->layers.n - 1] = found;
	return 1;
}

/* Of a layer that the user calls raw, what should make him think: a wrong word gives a wrong disk. */
static const char *doubt(const struct image *child, const struct file *file, const char *path, const struct format *f)
{
	const struct format *looks = NULL;
	struct err unheard = ERR_INIT;

	if (f->probe || child->info.backing_format || format_probe_part(file, path, &looks, &unheard) < 0 || looks == f)
		return NULL;
	return "is read as raw, as --backing-format says, but begins as an image of another format does (of one layer "
	       "the format is given by NAME=FORMAT)";
}

/* Opens one place where child's parent may be; f NULL = the child knows the format; changed: one that was written to
 * since will do.  It becomes the next layer. */
static int try_parent(struct opener *b, const struct image *child, const char *ref, const struct format *f, bool changed,
		      struct err *e)
{
	CLEANUP(source_done) struct source s = { .file.fd = -1, .outer = -1 };
	CLEANUP(free_ptr) char *path = NULL;
	CLEANUP(close_fd) int fd = -1;
	char q[QUOTE_BYTES];
	const char *note;
	struct image *im;
	int r;

	text_quote(child->path, q, sizeof(q));
	if (child->member) {
		(void)err_set(e, ERR_UNSUPPORTED, "%s is based on another image, which isn't looked for in an archive", q);
		return err_hint(e, "unpack the archive, and back up the image in its folder");
	}
	if (reference_open(child->path, ref, "backing file", b->o->allow_paths, b->o->device_paths, &fd, &path, e) < 0)
		return err_ctx(e, "%s", q);
	r = join(b, child, fd, path, changed, e);
	if (r)
		return r < 0 ? r : 0;
	if (check_loop(b, fd, path, e) < 0)
		return err_ctx(e, "%s", q);
	if (!f && backing_format(b, child, &f, e) < 0)
		return e->code;
	if (source_plain(fd, &s, e) < 0)
		return e->code;
	fd = -1;
	note = doubt(child, &s.file, path, f);
	if (open_layer(b, f, &s, path, &im, e) < 0)
		return e->code;
	if (note)
		im->info.note = note;
	if (image_check_parent(child, im, e) < 0 && !(e->code == ERR_CHANGED && changed)) {
		image_close(im);
		return e->code;
	}
	err_clear(e);
	return push_layer(b, im, e);
}

/* Another place may have what this one hasn't. */
static bool try_next(int code)
{
	return code == ERR_NOTFOUND || code == ERR_INVALID || code == ERR_CORRUPT || code == ERR_UNSUPPORTED ||
	       code == ERR_CHANGED;
}

/* The places that the image names, then those where it may be; of all that is wrong, the first that isn't mere absence
 * is told, unless it is nothing that another place could mend. */
static int find_parent(struct opener *b, const struct image *child, bool changed, struct err *e)
{
	CLEANUP(free_ptr) char *found = NULL;
	const struct format *f;
	struct err now = ERR_INIT;

	for (size_t i = 0; i < child->parent.refs.n; i++) {
		int r = try_parent(b, child, child->parent.refs.p[i], NULL, changed, &now);

		if (r == 0) {
			err_clear(e);	/* an earlier place's */
			return 0;
		}
		if (!i || e->code == ERR_NOTFOUND || !try_next(r))
			*e = now;
		if (!try_next(r))
			return r;
	}
	if (!child->parent.ids.uuid[0] && !child->parent.ids.content[0])
		return e->code;
	err_clear(&now);
	if (search_parent(&b->search, child, b->o->allow_paths, changed, &found, &f, &now) < 0) {
		if (!e->code || now.code != ERR_NOTFOUND)
			*e = now;
		return e->code;
	}
	err_clear(e);
	return try_parent(b, child, found, f, changed, e);
}

static int add_parent(struct opener *b, struct err *e)
{
	const struct image *child = b->layers.p[b->layers.n - 1];
	char q[QUOTE_BYTES];
	int r;

	if (b->layers.n - b->branch == IMAGE_CHAIN_MAX)
		return err_set(e, ERR_UNSUPPORTED, "%s: the chain has more than %d layers",
			       text_quote(child->path, q, sizeof(q)), IMAGE_CHAIN_MAX);
	if (b->layers.n == CHAIN_LAYERS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "%s: the disk has more than %d layers",
			       text_quote(child->path, q, sizeof(q)), CHAIN_LAYERS_MAX);
	r = find_parent(b, child, false, e);
	if (r == 0 || !b->o->force || !try_next(r))
		return r;
	err_clear(e);	/* the right one is nowhere: now one that was changed will do */
	return find_parent(b, child, true, e);
}

/* Opens what a description names: *ret_path is malloc'ed. */
static int open_named(struct opener *b, const struct chain_ref *ref, int *ret_fd, char **ret_path, struct err *e)
{
	CLEANUP(free_ptr) char *found = NULL;
	/* What search_parent needs of a child: where it is, and what it wants. */
	struct image child = { .path = (char *)(uintptr_t)b->o->named_by };
	const struct format *f;

	if (ref->path)
		return reference_open(b->o->named_by, ref->path, "disk", b->o->allow_paths, b->o->device_paths, ret_fd, ret_path, e);
	(void)snprintf(child.parent.ids.uuid, sizeof(child.parent.ids.uuid), "%s", ref->uuid);
	if (search_parent(&b->search, &child, b->o->allow_paths, false, &found, &f, e) < 0)
		return e->code;
	return reference_open(b->o->named_by, found, "disk", b->o->allow_paths, b->o->device_paths, ret_fd, ret_path, e);
}

static int check_uuid(const struct opener *b, const struct image *im, const char *uuid, struct err *e)
{
	char q[QUOTE_BYTES];

	if (!uuid || !im->info.ids.uuid[0] || !strcmp(uuid, im->info.ids.uuid) || b->o->force)
		return 0;
	(void)err_set(e, ERR_INVALID, "%s calls itself %s, the machine's description says %s: it is another image",
		      text_quote(im->path, q, sizeof(q)), im->info.ids.uuid, uuid);
	return err_hint(e, "put the right image there; --force reads this one all the same");
}

/* What the user named, or OVF as gzip's, may be packed; what other descriptions and images name is taken as it is. */
static int open_source(struct opener *b, int fd, const char *path, const char *member, const char *format,
		       struct source *ret, struct err *e)
{
	const struct source_opts so = source_opts(b);

	if (!b->o->named_by || b->o->gzip)
		return source_open(fd, path, member, format, &so, ret, e);
	if (source_plain(fd, ret, e) < 0) {
		close(fd);
		return e->code;
	}
	return 0;
}

/* The first of several pieces, by their names: a raw disk, unless it begins like an image, which would be another's guess. */
static int probe_split(const struct source *s, const char *path, const struct format **ret, struct err *e)
{
	int r = source_probe(s, path, ret, e);
	char q[200];

	if (r == ERR_INVALID) {
		err_clear(e);
		*ret = format_find("split");
		return 0;
	}
	if (r < 0 && r != ERR_UNSUPPORTED)
		return r;
	text_quote(path, q, sizeof(q));
	(void)err_set(e, ERR_INVALID, "ambiguous: it is the first of several pieces, and begins like %s image",
		      r ? "an" : (*ret)->name);
	return r ? err_hint(e, "say which it is: split:%s or raw:%s", q, q) :
		   err_hint(e, "say which it is: split:%s, a raw disk in pieces, or %s:%s", q, (*ret)->name, q);
}

/* The first layer of a chain or branch.  Takes fd over, whether it succeeds or not. */
static int add_first(struct opener *b, int fd, const char *format, const char *path, const char *member,
		     const char *uuid, struct err *e)
{
	CLEANUP(source_done) struct source s = { .file.fd = -1, .outer = -1 };
	CLEANUP(free_ptr) char *full = member ? text_printf(e, "%s//%s", path, member) : text_printf(e, "%s", path);
	const struct format *f;
	char q[QUOTE_BYTES];
	struct image *im;

	if (!full) {
		close(fd);
		return e->code;
	}
	if (open_source(b, fd, path, member, format, &s, e) < 0)
		return err_ctx(e, "%s", text_quote(full, q, sizeof(q)));

	if (format) {
		f = format_find(format);
		if (!f)
			return err_set(e, ERR_INVALID, "format \"%s\" is unknown",
				       text_quote(format, q, sizeof(q)));
	} else if (!b->o->named_by && !member && split_is(path)) {
		if (probe_split(&s, path, &f, e) < 0)
			return err_ctx(e, "%s", text_quote(full, q, sizeof(q)));
	} else if (source_probe(&s, full, &f, e) < 0) {
		return err_ctx(e, "%s", text_quote(full, q, sizeof(q)));
	}
	if (open_layer(b, f, &s, full, &im, e) < 0)
		return e->code;
	if (check_uuid(b, im, uuid, e) < 0) {
		image_close(im);
		return e->code;
	}
	return push_layer(b, im, e);
}

static int add_top(struct opener *b, const char *path, struct err *e)
{
	const struct chain_ref ref = { .path = path, .uuid = b->o->uuid };
	CLEANUP(free_ptr) char *named = NULL, *member = NULL;
	int fd;

	if (b->o->named_by ? open_named(b, &ref, &fd, &named, e) < 0 :
			     source_split_path(path, &named, &member, e) < 0 || reference_open_top(named, &fd, e) < 0)
		return e->code;
	return add_first(b, fd, b->o->format, named, member, b->o->uuid, e);
}

static int add_parents(struct opener *b, struct err *e)
{
	/* A branch that has met a layer has it below its last one. */
	while (b->below.p[b->layers.n - 1] == CHAIN_NONE && image_has_parent(b->layers.p[b->layers.n - 1]))
		if (add_parent(b, e) < 0)
			return e->code;
	return 0;
}

/* An image of the disk that may be a layer already. */
static int add_branch(struct opener *b, const struct chain_ref *ref, struct err *e)
{
	CLEANUP(free_ptr) char *path = NULL;
	struct image_identity id;
	uint32_t found, *top;
	int fd, r;

	if (open_named(b, ref, &fd, &path, e) < 0)
		return e->code;
	b->branch = b->layers.n;
	top = file_identity(fd, &id, e) < 0 ? NULL : VEC_PUSH(&b->tops, e);
	found = top ? find_layer(b, &id) : CHAIN_NONE;
	if (!top || found != CHAIN_NONE) {
		close(fd);
		if (top)
			*top = found;
		return !top || check_format(b->layers.p[found], ref->format, b->o->named_by, e) < 0
		       ? e->code : check_uuid(b, b->layers.p[found], ref->uuid, e);
	}
	*top = (uint32_t)b->layers.n;
	if (b->layers.n == CHAIN_LAYERS_MAX) {
		close(fd);
		return err_set(e, ERR_UNSUPPORTED, "the disk has more than %d layers", CHAIN_LAYERS_MAX);
	}
	r = add_first(b, fd, ref->format, path, NULL, ref->uuid, e);
	return r < 0 ? r : add_parents(b, e);
}

/* Hands the layers over to a struct chain. */
static int finish(struct opener *b, uint32_t nlayers, struct chain **ret, struct err *e)
{
	bool keep_holes = b->o->no_backing && image_has_parent(b->layers.p[0]);
	struct chain *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, ERR_NOMEM, "chain");
	if (stack_new(b->layers.p, nlayers, NULL, keep_holes, &c->image, e) < 0) {
		free(c);
		return e->code;
	}
	c->nlayers = nlayers;
	c->nextra = (uint32_t)b->layers.n - nlayers;
	c->layers = b->layers.p;
	c->below = STEAL(b->below.p);
	c->branches = STEAL(b->tops.p);
	b->layers.p = NULL;
	b->layers.n = 0;
	*ret = c;
	return 0;
}

int chain_open(const char *path, const struct chain_opts *o, struct chain **ret, struct err *e)
{
	CLEANUP(opener_done) struct opener b = { .o = o };
	uint32_t nlayers;

	if (block_cache_new(o->cache_bytes ? o->cache_bytes : BLOCK_CACHE_DEFAULT_BYTES, &b.cache, e) < 0 ||
	    add_top(&b, path, e) < 0 || (!o->no_backing && add_parents(&b, e) < 0))
		return e->code;
	nlayers = (uint32_t)b.layers.n;
	for (size_t i = 0; i < o->nbranches; i++)
		if (add_branch(&b, &o->branches[i], e) < 0)
			return e->code;
	return finish(&b, nlayers, ret, e);
}

void chain_close(struct chain *c)
{
	if (!c)
		return;
	image_close(c->image);
	for (uint32_t i = 0; i < c->nlayers + c->nextra; i++)
		image_close(c->layers[i]);
	free(c->layers);
	free(c->below);
	free(c->branches);
	free(c);
}

int chain_view(struct chain *c, uint32_t first, struct image **ret, struct err *e)
{
	CLEANUP(free_ptr) struct image **layers = NULL;
	CLEANUP(free_ptr) uint32_t *numbers = NULL;
	uint32_t n = c->nlayers + c->nextra, used = 0;

	if (first >= n)
		return err_set(e, ERR_INVALID, "layer %" PRIu32 " of %" PRIu32, first, n);
	layers = calloc(n, sizeof(*layers));
	numbers = calloc(n, sizeof(*numbers));
	if (!layers || !numbers)
		return err_set(e, ERR_NOMEM, "chain of %" PRIu32 " layers", n);
	for (uint32_t i = first; i != CHAIN_NONE; i = chain_below(c, i)) {
		layers[used] = c->layers[i];
		numbers[used++] = i;
	}
	return stack_new(layers, used, numbers, false, ret, e);
}

int chain_check_unchanged(struct chain *c, struct err *e)
{
	for (uint32_t i = c->nlayers; i < c->nlayers + c->nextra; i++)
		if (image_check_unchanged(c->layers[i], e) < 0)
			return e->code;
	return image_check_unchanged(c->image, e);
}
