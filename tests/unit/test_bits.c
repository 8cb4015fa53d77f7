/* test_bits.c - runs of equal bits against the plain way, in both orders. */
#include "tests/test.h"

#include "formats/bits.h"

#define BITS 700

static bool bit(const uint8_t *p, uint64_t i, bool msb_first)
{
	return p[i / 8] & (msb_first ? 0x80 >> i % 8 : 1 << i % 8);
}

static void test_bits_run__every_start_and_end(void **state)
{
	uint8_t p[BITS / 8 + 1];
	uint32_t seed = 5;

	(void)state;
	for (int k = 0; k < 2; k++) {
		for (size_t i = 0; i < sizeof(p); i++) {
			seed = seed * 1664525 + 1013904223;
			p[i] = i % 30 < 12 ? 0 : i % 30 < 24 ? 0xff : (uint8_t)(seed >> 24);
		}
		for (uint64_t from = 0; from < BITS; from++) {
			for (uint64_t end = from + 1; end <= BITS; end += 1 + from % 7) {
				uint64_t want = from + 1;
				bool set;

				while (want < end && bit(p, want, k) == bit(p, from, k))
					want++;
				assert_int_equal(bits_run(p, from, end, k, &set), want - from);
				assert_int_equal(set, bit(p, from, k));
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits_run__every_start_and_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
