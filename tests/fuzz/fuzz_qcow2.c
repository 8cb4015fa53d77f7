/*
 * fuzz_qcow2.c - any bytes as a qcow2 image: open, walk the map of every state, read, digest.
 */
#include "tests/fuzz/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Opened alone, and again with its data file if it wants one. */
static void run(const uint8_t *data, size_t size, bool force)
{
	struct walk_input in = { data, size };
	const struct image_opener opener = { give_input, &in };
	const struct format *f = format_find("qcow2");
	struct image *im = walk_open(f, data, size, force, NULL);

	if (im && im->info.data_file) {
		image_close(im);
		im = walk_open(f, data, size, force, &opener);
		check(im != NULL);
	}
	walk_image(im);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	walk_probe(data, size);
	run(data, size, false);
	run(data, size, true);
	return 0;
}
