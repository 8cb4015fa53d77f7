/*
 * ustar.c - headers of a tar archive.
 *
 *	ustar	name 100, mode 8, uid 8, gid 8, size 12, mtime 12, checksum 8, type 1, link name 100, "ustar\0" "00", ...
 *	pax	a member of type x before it, whose content is "LENGTH size=BYTES\n"
 */
#include "cli/ustar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SIZE_MAX_USTAR UINT64_C(077777777777)

size_t ustar_header_bytes(uint64_t max)
{
	return max > SIZE_MAX_USTAR ? USTAR_HEADER_MAX : USTAR_BLOCK;
}

static void block(uint8_t *p, const char *name, char type, uint64_t size, uint64_t mtime)
{
	unsigned sum = 0;
	char text[16];

	memset(p, 0, USTAR_BLOCK);
	memcpy(p, name, strnlen(name, USTAR_NAME_MAX));
	memcpy(p + 100, "0000644", 7);
	memcpy(p + 108, "0000000", 7);
	memcpy(p + 116, "0000000", 7);
	(void)snprintf(text, sizeof(text), "%011" PRIo64, size <= SIZE_MAX_USTAR ? size : 0);
	memcpy(p + 124, text, 11);
	(void)snprintf(text, sizeof(text), "%011" PRIo64, mtime <= SIZE_MAX_USTAR ? mtime : 0);
	memcpy(p + 136, text, 11);
	memset(p + 148, ' ', 8);
	p[156] = (uint8_t)type;
	memcpy(p + 257, "ustar\00000", 8);
	for (size_t i = 0; i < USTAR_BLOCK; i++)
		sum += p[i];
	(void)snprintf(text, sizeof(text), "%06o", sum & 0777777);
	memcpy(p + 148, text, 7);
}

/* The length counts itself. */
static size_t pax_record(uint8_t *p, uint64_t size)
{
	char text[64];
	int len = 0, n = snprintf(text, sizeof(text), " size=%" PRIu64 "\n", size);

	for (int digits = 1; digits <= 3 && !len; digits++)
		if (snprintf(NULL, 0, "%d", n + digits) == digits)
			len = n + digits;
	memset(p, 0, USTAR_BLOCK);
	n = snprintf(text, sizeof(text), "%d size=%" PRIu64 "\n", len, size);
	memcpy(p, text, (size_t)n);
	return (size_t)n;
}

void ustar_header(uint8_t *p, size_t room, const char *name, uint64_t size, uint64_t mtime)
{
	if (room == USTAR_HEADER_MAX) {
		char pax[USTAR_NAME_MAX + 1];
		size_t n = pax_record(p + USTAR_BLOCK, size);

		(void)snprintf(pax, sizeof(pax), "PaxHeaders/%.80s", name);
		block(p, pax, 'x', n, mtime);
		p += 2 * USTAR_BLOCK;
	}
	block(p, name, '0', size, mtime);
}
