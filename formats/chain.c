/*
 * chain.c - opening a disk with all its layers, from the top down.
 */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "base/vec.h"
#include "formats/cache.h"
#include "formats/chain_internal.h"
#include "formats/file.h"
#include "formats/formats.h"

#define QUOTE_BYTES 300

struct opener {
	const struct chain_opts *o;
	struct block_cache *cache;		/* one for all layers */
	VEC(struct image *) layers;
};

static void opener_done(struct opener *b)
{
	for (size_t i = 0; i < b->layers.n; i++)
		image_close(b->layers.p[i]);
	VEC_DONE(&b->layers);
	block_cache_unref(b->cache);
}

/* The file behind fd must be none that is in the chain already, as a layer or a layer's data. */
static int check_loop(const struct opener *b, int fd, const char *path, struct err *e)
{
	struct image_identity id;
	char q[QUOTE_BYTES];

	if (file_identity(fd, &id, e) < 0)
		return err_ctx(e, "%s", text_quote(path, q, sizeof(q)));
	for (size_t i = 0; i < b->layers.n; i++) {
		const struct image *im = b->layers.p[i];

		if ((im->identity.dev == id.dev && im->identity.ino == id.ino) ||
		    (im->data_fd >= 0 && im->data_identity.dev == id.dev && im->data_identity.ino == id.ino))
			return err_set(e, ERR_INVALID, "%s is in this chain already, as layer %zu: the chain is a loop",
				       text_quote(path, q, sizeof(q)), i);
	}
	return 0;
}

static int open_format(const struct opener *b, const struct format *f, int fd, const char *path, int data_fd,
		       struct image **ret, struct err *e)
{
	struct image_open_opts io = { .force = b->o->force, .data_fd = data_fd, .cache = b->cache };
	char q[QUOTE_BYTES];

	if (f->open(fd, path, &io, ret, e) < 0)
		return err_ctx(e, "%s", text_quote(path, q, sizeof(q)));
	return 0;
}

/* An image that says its data are elsewhere is opened again with that file. */
static int open_data(const struct opener *b, const struct format *f, struct image **im, struct err *e)
{
	CLEANUP(close_fd) int data = -1;
	CLEANUP(close_fd) int fd = -1;
	CLEANUP(free_ptr) char *data_path = NULL;
	CLEANUP(free_ptr) char *path = STEAL((*im)->path);
	struct image_identity id;
	char q[QUOTE_BYTES];
	struct image *with;

	(*im)->path = strdup(path);
	text_quote(path, q, sizeof(q));
	if (!(*im)->path)
		return err_set(e, ERR_NOMEM, "path");
	if (reference_open(path, (*im)->info.data_file, "data file", b->o->allow_paths, &data, &data_path, e) < 0)
		return err_ctx(e, "%s", q);
	if (check_loop(b, data, data_path, e) < 0 || file_identity(data, &id, e) < 0)
		return err_ctx(e, "%s", q);
	if (id.dev == (*im)->identity.dev && id.ino == (*im)->identity.ino)
		return err_set(e, ERR_INVALID, "%s: the image names itself as its data file", q);
	if (!b->o->ignore_locks && lock_against_writers(data, data_path, b->layers.n == 0, e) < 0)
		return e->code;
	fd = (*im)->fd;		/* the same open file, whose locks must not be dropped */
	(*im)->fd = -1;
	if (open_format(b, f, fd, path, data, &with, e) < 0)
		return e->code;
	fd = data = -1;
	image_close(*im);
	*im = with;
	return 0;
}

/* Takes fd over, whether it succeeds or not. */
static int add_layer(struct opener *b, const struct format *f, int fd, const char *path, struct err *e)
{
	CLEANUP(close_fd) int own = fd;
	struct image **slot = NULL, *im;
	char shown[256];

	if (!b->o->ignore_locks && lock_against_writers(fd, path, b->layers.n == 0, e) < 0)
		return e->code;
	if (open_format(b, f, fd, path, -1, &im, e) < 0)
		return e->code;
	own = -1;
	if (!im->info.data_file || open_data(b, f, &im, e) == 0)
		slot = VEC_PUSH(&b->layers, e);
	if (!slot) {
		image_close(im);
		return e->code;
	}
	*slot = im;
	LOG_DEBUG("layer %zu: %s, %s, %" PRIu64 " bytes", b->layers.n - 1, text_quote(path, shown, sizeof(shown)),
		  im->info.format, im->info.virtual_size);
	return 0;
}

/* Which format a layer below has: what its child stores, else what the user says; never what its content looks like. */
static int backing_format(const struct opener *b, const struct image *child, const struct format **ret, struct err *e)
{
	const char *name = child->info.backing_format ? child->info.backing_format : b->o->backing_format;
	char q[QUOTE_BYTES], qn[64];

	text_quote(child->path, q, sizeof(q));
	if (!name) {
		(void)err_set(e, ERR_INVALID, "%s: doesn't say which format its backing file \"%s\" has", q,
			      text_quote(child->info.backing, (char[QUOTE_BYTES]){ 0 }, QUOTE_BYTES));
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

static int add_backing(struct opener *b, struct err *e)
{
	const struct image *child = b->layers.p[b->layers.n - 1];
	CLEANUP(free_ptr) char *path = NULL;
	CLEANUP(close_fd) int fd = -1;
	const struct format *f;
	char q[QUOTE_BYTES];
	int take;

	text_quote(child->path, q, sizeof(q));
	if (b->layers.n == IMAGE_CHAIN_MAX)
		return err_set(e, ERR_UNSUPPORTED, "%s: the chain has more than %d layers", q, IMAGE_CHAIN_MAX);
	if (reference_open(child->path, child->info.backing, "backing file", b->o->allow_paths, &fd, &path, e) < 0)
		return err_ctx(e, "%s", q);
	if (check_loop(b, fd, path, e) < 0)
		return err_ctx(e, "%s", q);
	if (backing_format(b, child, &f, e) < 0)
		return e->code;
	take = fd;
	fd = -1;
	return add_layer(b, f, take, path, e);
}

static int add_top(struct opener *b, const char *path, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	const struct format *f;
	char q[QUOTE_BYTES];
	int take;

	if (reference_open_top(path, &fd, e) < 0)
		return e->code;
	if (b->o->format) {
		f = format_find(b->o->format);
		if (!f)
			return err_set(e, ERR_INVALID, "format \"%s\" is unknown",
				       text_quote(b->o->format, q, sizeof(q)));
	} else if (format_probe(fd, path, &f, e) < 0) {
		return err_ctx(e, "%s", text_quote(path, q, sizeof(q)));
	}
	take = fd;
	fd = -1;
	return add_layer(b, f, take, path, e);
}

/* Hands the layers over to a struct chain. */
static int finish(struct opener *b, struct chain **ret, struct err *e)
{
	bool keep_holes = b->o->no_backing && b->layers.p[0]->info.backing;
	struct chain *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, ERR_NOMEM, "chain");
	if (stack_new(b->layers.p, (uint32_t)b->layers.n, 0, keep_holes, &c->image, e) < 0) {
		free(c);
		return e->code;
	}
	c->nlayers = (uint32_t)b->layers.n;
	c->layers = b->layers.p;
	b->layers.p = NULL;
	b->layers.n = 0;
	*ret = c;
	return 0;
}

int chain_open(const char *path, const struct chain_opts *o, struct chain **ret, struct err *e)
{
	CLEANUP(opener_done) struct opener b = { .o = o };

	if (block_cache_new(o->cache_bytes ? o->cache_bytes : BLOCK_CACHE_DEFAULT_BYTES, &b.cache, e) < 0 || add_top(&b, path, e) < 0)
		return e->code;
	while (!o->no_backing && b.layers.p[b.layers.n - 1]->info.backing)
		if (add_backing(&b, e) < 0)
			return e->code;
	return finish(&b, ret, e);
}

void chain_close(struct chain *c)
{
	if (!c)
		return;
	image_close(c->image);
	for (uint32_t i = 0; i < c->nlayers; i++)
		image_close(c->layers[i]);
	free(c->layers);
	free(c);
}

int chain_view(struct chain *c, uint32_t first, struct image **ret, struct err *e)
{
	if (first >= c->nlayers)
		return err_set(e, ERR_INVALID, "layer %" PRIu32 " of %" PRIu32, first, c->nlayers);
	return stack_new(c->layers + first, c->nlayers - first, first, false, ret, e);
}

int chain_check_unchanged(struct chain *c, struct err *e)
{
	return image_check_unchanged(c->image, e);
}
