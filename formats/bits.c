/* bits.c - runs of equal bits, eight bytes at a time where they are long. */
#include "formats/bits.h"

#include "base/bytes.h"

static bool bit(const uint8_t *p, uint64_t i, bool msb_first)
{
	unsigned at = (unsigned)(i & 7);

	return p[i >> 3] >> (msb_first ? 7 - at : at) & 1;
}

uint64_t bits_run(const uint8_t *p, uint64_t from, uint64_t end, bool msb_first, bool *ret_set)
{
	bool set = bit(p, from, msb_first);
	uint64_t all = set ? UINT64_MAX : 0, n = from + 1;

	while (n < end) {
		if (!(n & 7)) {
			while (end - n >= 64 && get_le64(p + (n >> 3)) == all)
				n += 64;
			while (end - n >= 8 && p[n >> 3] == (uint8_t)all)
				n += 8;
			if (n == end)
				break;
		}
		if (bit(p, n, msb_first) != set)
			break;
		n++;
	}
	*ret_set = set;
	return n - from;
}
