/*
 * dump.c - writes the guest content of one state of an image to standard output: for tests of the readers alone.
 *
 *	dump [--format F] [--backing-format F] [--allow-path DIR] [--state SEL] [--layer N] [--force] [--map|--vm|--info] IMAGE
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/chain.h"

#define STEP MIB

struct args {
	struct chain_opts o;
	const char *allow[2];
	const char *path, *state, *mode;
	uint64_t layer;
};

static bool parse(int argc, char **argv, struct args *a)
{
	a->state = "current";
	a->mode = "";
	for (int i = 1; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--force") == 0)
			a->o.force = true;
		else if (strcmp(argv[i], "--map") == 0 || strcmp(argv[i], "--vm") == 0 || strcmp(argv[i], "--info") == 0)
			a->mode = argv[i] + 2;
		else if (argv[i][0] != '-')
			a->path = argv[i];
		else if (!next)
			return false;
		else if (strcmp(argv[i], "--format") == 0)
			a->o.format = argv[++i];
		else if (strcmp(argv[i], "--backing-format") == 0)
			a->o.backing_format = argv[++i];
		else if (strcmp(argv[i], "--allow-path") == 0)
			a->allow[0] = argv[++i];
		else if (strcmp(argv[i], "--state") == 0)
			a->state = argv[++i];
		else if (strcmp(argv[i], "--layer") != 0 || !parse_u64(argv[++i], 0, IMAGE_CHAIN_MAX, &a->layer))
			return false;
	}
	a->o.allow_paths = a->allow;
	return a->path;
}

/* Data are read by extents, so that the map is tested with them; the rest is written as zeros. */
static int dump(struct image *im, uint32_t state, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(STEP);
	uint64_t size = image_state(im, state)->size;

	if (!buf)
		return err_set(e, ERR_NOMEM, "buffer");
	for (uint64_t off = 0; off < size;) {
		struct extent x;

		if (image_next_extent(im, state, off, size - off, &x, e) < 0)
			return e->code;
		for (; x.len; x.len -= min_u64(x.len, STEP)) {
			size_t n = (size_t)min_u64(x.len, STEP);

			memset(buf, 0, n);
			if (x.kind == EXTENT_DATA && image_pread(im, state, buf, n, off, e) < 0)
				return e->code;
			if (fs_write_full(STDOUT_FILENO, buf, n, e) < 0)
				return e->code;
			off += n;
		}
	}
	return 0;
}

static int dump_vm(struct image *im, uint32_t state, struct err *e)
{
	uint64_t size = image_state(im, state)->vm_state_bytes;
	CLEANUP(free_ptr) uint8_t *buf = malloc(size + 1);

	if (!buf)
		return err_set(e, ERR_NOMEM, "buffer");
	if (image_pread_vm_state(im, state, buf, size, 0, e) < 0)
		return e->code;
	return fs_write_full(STDOUT_FILENO, buf, size, e);
}

static int map(struct image *im, uint32_t state, struct err *e)
{
	static const char *const kinds[] = { "hole", "zero", "data" };
	uint64_t size = image_state(im, state)->size;
	struct extent x;

	for (uint64_t off = 0; off < size; off += x.len) {
		if (image_next_extent(im, state, off, size - off, &x, e) < 0)
			return e->code;
		printf("%" PRIu64 " %" PRIu64 " %s %" PRIu32 " %" PRIu64 "+%" PRIu32 "%s\n", x.start, x.len, kinds[x.kind],
		       x.origin.layer, x.origin.host, x.origin.inner, x.origin.compressed ? " compressed" : "");
	}
	return 0;
}

static int info(struct image *im)
{
	const struct image_info *i = image_info(im);

	printf("%s %" PRIu32 " cluster %" PRIu32 " features %" PRIx32 " backing %s data %s\n", i->format, i->version,
	       i->cluster_size, i->features, i->backing ? i->backing : "-", i->data_file ? i->data_file : "-");
	for (uint32_t s = 0; s < i->nstates; s++)
		printf("%s %s %" PRIu64 " vm %" PRIu64 "\n", image_state(im, s)->id, image_state(im, s)->name,
		       image_state(im, s)->size, image_state(im, s)->vm_state_bytes);
	return 0;
}

static int run(struct chain *c, const struct args *a, struct err *e)
{
	struct image *view;
	uint32_t state;
	int r;

	if (chain_view(c, (uint32_t)a->layer, &view, e) < 0)
		return e->code;
	r = image_find_state(view, a->state, &state, e);
	if (r == 0)
		r = strcmp(a->mode, "map") == 0 ? map(view, state, e) : strcmp(a->mode, "vm") == 0 ? dump_vm(view, state, e) :
		    strcmp(a->mode, "info") == 0 ? info(view) : dump(view, state, e);
	image_close(view);
	return r < 0 ? r : chain_check_unchanged(c, e);
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct args a = { 0 };
	struct chain *c = NULL;
	char text[2048];

	if (!parse(argc, argv, &a)) {
		fprintf(stderr, "usage: dump [options] IMAGE\n");
		return 2;
	}
	if (chain_open(a.path, &a.o, &c, &e) == 0)
		(void)run(c, &a, &e);	/* e says how it went */
	chain_close(c);
	if (!e.code)
		return 0;
	fprintf(stderr, "error (%s): %s\nhint: %s\n", err_code_name(e.code), err_text(&e, text, sizeof(text)), e.hint);
	return e.code == ERR_LOCKED ? 11 : 1;
}
