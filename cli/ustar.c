/*
 * ustar.c - headers of a tar archive.
 *
 *	name 100, mode 8, uid 8, gid 8, size 12, mtime 12, checksum 8, type 1, link name 100, "ustar\0" "00", ...
 *
 * Numbers are octal text.  A size that has no room there is GNU's base-256: the byte 0x80, and the number big-endian in the
 * other 11.  pax has a member of type 'x' for it, which importers of OVAs (VirtualBox) refuse.
 */
#include "cli/ustar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define OCTAL_MAX UINT64_C(077777777777)

static void set_number(uint8_t p[static 12], uint64_t v)
{
	char text[16];

	if (v <= OCTAL_MAX) {
		(void)snprintf(text, sizeof(text), "%011" PRIo64, v);
		memcpy(p, text, 12);
		return;
	}
	memset(p, 0, 12);
	p[0] = 0x80;
	put_be64(p + 4, v);
}

void ustar_header(uint8_t p[static USTAR_BLOCK], const char *name, uint64_t size, uint64_t mtime)
{
	unsigned sum = 0;
	char text[16];

	memset(p, 0, USTAR_BLOCK);
	memcpy(p, name, strnlen(name, USTAR_NAME_MAX));
	memcpy(p + 100, "0000644", 7);
	memcpy(p + 108, "0000000", 7);
	memcpy(p + 116, "0000000", 7);
	set_number(p + 124, size);
	set_number(p + 136, mtime <= OCTAL_MAX ? mtime : 0);
	memset(p + 148, ' ', 8);
	p[156] = '0';
	memcpy(p + 257, "ustar\00000", 8);
	for (size_t i = 0; i < USTAR_BLOCK; i++)
		sum += p[i];
	(void)snprintf(text, sizeof(text), "%06o", sum & 0777777);
	memcpy(p + 148, text, 7);
}
