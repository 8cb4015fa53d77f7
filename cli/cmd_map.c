/* cmd_map.c - which guest bytes of an image are data, and where they lie. */
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/image_args.h"
#include "cli/msg.h"

struct map_opts {
	struct image_args image;
	const char *state;
};

struct printer {
	bool json;
	bool any;		/* something was printed */
	struct extent held;	/* not printed yet: the next one may continue it; len 0 = none */
};

static void print_extent(struct printer *p, const struct extent *x)
{
	bool data = x->kind == EXTENT_DATA;

	if (p->json) {
		printf("%s{\"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"kind\": \"%s\"", p->any ? ",\n" : "[\n",
		       x->start, x->len, data ? "data" : "zero");
		if (data)
			printf(", \"layer\": %" PRIu32 ", \"file\": %" PRIu32 ", \"host\": %" PRIu64
			       ", \"compressed\": %s",
			       x->origin.layer, x->origin.file, x->origin.host,
			       x->origin.compressed ? "true" : "false");
		putchar('}');
	} else {
		if (!p->any)
			printf("%16s  %16s  %-10s  %5s  %16s\n", "START", "LENGTH", "KIND", "LAYER", "HOST");
		printf("%16" PRIu64 "  %16" PRIu64, x->start, x->len);
		if (data)
			printf("  %-10s  %5" PRIu32 "  %16" PRIu64 "\n", x->origin.compressed ? "compressed" : "data",
			       x->origin.layer, x->origin.host);
		else
			printf("  %-10s  %5s  %16s\n", "zero", "-", "-");
	}
	p->any = true;
}

/* Does x go on where a ends, in the image and in the file? */
static bool continues(const struct extent *a, const struct extent *x)
{
	if (!a->len || a->kind != x->kind)
		return false;
	if (a->kind != EXTENT_DATA)
		return true;
	if (a->origin.layer != x->origin.layer || a->origin.file != x->origin.file ||
	    a->origin.compressed != x->origin.compressed)
		return false;
	if (a->origin.compressed)	/* one compressed cluster is one extent */
		return a->origin.host == x->origin.host && a->origin.inner + a->len == x->origin.inner;
	return a->origin.host + a->len == x->origin.host;
}

static void add_extent(struct printer *p, const struct extent *x)
{
	if (continues(&p->held, x)) {
		p->held.len += x->len;
		return;
	}
	if (p->held.len)
		print_extent(p, &p->held);
	p->held = *x;
}

static int walk(struct cli *c, struct image *im, uint32_t state, struct printer *p, struct err *e)
{
	uint64_t size = image_state(im, state)->size, off = 0;

	while (off < size) {
		struct extent x;

		if (cancel_check(&c->cancel, e) < 0 || image_next_extent(im, state, off, size - off, &x, e) < 0)
			return e->code;
		add_extent(p, &x);
		off += x.len;
		progress_update(&c->progress,
				&(struct progress_state){ .phase = "mapping", .done = off, .total = size });
		if (ferror(stdout))
			return msg_flush(e);
	}
	if (p->held.len)
		print_extent(p, &p->held);
	return 0;
}

static int run_map(struct cli *c, void *opts, struct err *e)
{
	const struct map_opts *o = opts;
	CLEANUP(free_ptr) char *path = NULL;
	struct printer p = { .json = c->g.json };
	struct chain *chain = NULL;
	char shown[300];
	uint32_t state;
	int r;

	if (image_args_open(c, &o->image, c->args[0], false, true, &chain, &path, e) < 0)
		return e->code;
	r = image_find_state(chain->image, o->state ? o->state : "current", &state, e);
	if (r == 0)
		r = walk(c, chain->image, state, &p, e);
	if (r == 0 && p.json)
		puts(p.any ? "\n]" : "[]");
	for (uint32_t i = 0; r == 0 && chain->nlayers > 1 && i < chain->nlayers; i++)
		msg_note(c, "layer %" PRIu32 ": %s", i, text_quote(chain->layers[i]->path, shown, sizeof(shown)));
	if (r == 0)
		r = chain_check_unchanged(chain, e);
	chain_close(chain);
	return r < 0 ? err_ctx(e, "%s", text_quote(path, shown, sizeof(shown))) : EXIT_DONE;
}

static const struct opt map_options[] = {
	OPT(struct map_opts, state, 0, OPT_TEXT, "state", "SELECTOR", "current (default), snap:NAME or snapid:ID"),
	IMAGE_ARGS_FORMAT(struct map_opts),
	IMAGE_ARGS_CHAIN(struct map_opts),
	IMAGE_ARGS_UNPACK(struct map_opts),
	OPT(struct map_opts, image.force, 'f', OPT_FLAG, "force", NULL, "read an image that is marked corrupt"),
	{ .name = NULL },
};

const struct command cmd_map = {
	.name = "map",
	.summary = "show which guest bytes of an image are data or zero, and where they lie",
	.usage = "[FORMAT:]IMAGE",
	.text = "One line an extent: guest offset, length, kind (data, compressed, zero), the layer of the\n"
		"backing chain that holds it (0 = the image itself) and the offset in that layer's file.\n"
		"All numbers are bytes. With --json an array of objects.",
	.options = map_options,
	.opts_size = sizeof(struct map_opts),
	.globals = CLI_JSON | CLI_PROGRESS,
	.min_args = 1,
	.max_args = 1,
	.run = run_map,
};
