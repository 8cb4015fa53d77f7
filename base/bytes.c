/* bytes.c - the part of bytes.h that is worth a call. */
#include "base/bytes.h"

bool bytes_all_zero(const void *p, size_t len)
{
	const uint8_t *b = p;
	size_t head = len < 16 ? len : 16;

	for (size_t i = 0; i < head; i++)
		if (b[i])
			return false;
	/* 16 zeros in front, and each byte equals the one 16 before it: memcmp runs at memory speed */
	return len <= 16 || memcmp(b, b + 16, len - 16) == 0;
}
