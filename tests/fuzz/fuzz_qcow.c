/*
 * fuzz_qcow.c - any bytes as a qcow of version 1: open, walk the map, read, digest.
 */
#include "tests/fuzz/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct format *f = format_find("qcow");

	walk_probe(data, size);
	walk_image(walk_open(f, data, size, false, NULL));
	walk_image(walk_open(f, data, size, true, NULL));
	return 0;
}
