/*
 * fuzz_vhd.c - any bytes as a VHD image: probe, open, walk, read, digest.
 *
 * The first byte's lowest bit: put right checksums into footer, copy and header, which nobody hits by chance.
 */
#include "tests/fuzz/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *p, size_t len, size_t field)
{
	uint32_t sum = 0;

	memset(p + field, 0, 4);
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	put_be32(p + field, ~sum);
}

static void seal_all(uint8_t *p, size_t size)
{
	uint64_t header;

	if (size < 512)
		return;
	header = get_be64(p + size - 512 + 16);
	if (range_ok(header, 1024, size))
		seal(p + header, 1024, 36);
	if (memcmp(p, "conectix", 8) == 0)
		seal(p, 512, 64);
	seal(p + size - 512, 512, 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct format *f = format_find("vhd");
	uint8_t *p;

	if (!size)
		return 0;
	p = malloc(size);
	check(p);
	memcpy(p, data + 1, size - 1);
	if (data[0] & 1)
		seal_all(p, size - 1);
	walk_probe(p, size - 1);
	walk_image(walk_open(f, p, size - 1, false, NULL));
	walk_image(walk_open(f, p, size - 1, true, NULL));
	free(p);
	return 0;
}
