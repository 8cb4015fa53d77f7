/* test_ustar.c - headers of tar members, small and large. */
#include "tests/test.h"

#include "cli/ustar.h"

static uint64_t octal(const uint8_t *p, size_t len)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len && p[i] >= '0' && p[i] <= '7'; i++)
		v = v * 8 + (uint64_t)(p[i] - '0');
	return v;
}

static void check_block(const uint8_t *p, const char *name, char type, uint64_t size)
{
	uint64_t sum = 8 * ' ';

	for (size_t i = 0; i < USTAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? 0 : p[i];
	assert_int_equal(octal(p + 148, 8), sum);
	assert_string_equal((const char *)p, name);
	assert_int_equal(p[156], type);
	assert_int_equal(octal(p + 124, 12), size);
	assert_int_equal(octal(p + 136, 12), 1700000000);
	assert_int_equal(octal(p + 100, 8), 0644);
	assert_memory_equal(p + 257, "ustar\00000", 8);
}

static void test_ustar__small(void **state)
{
	uint8_t p[USTAR_HEADER_MAX];

	(void)state;
	assert_int_equal(ustar_header_bytes(077777777777), USTAR_BLOCK);
	ustar_header(p, USTAR_BLOCK, "a.vmdk", 077777777777, 1700000000);
	check_block(p, "a.vmdk", '0', 077777777777);
}

/* Room was left for a size that a ustar header can't hold: it is told there, whatever it came to be. */
static void test_ustar__large(void **state)
{
	static const struct {
		uint64_t size, in_header;
		const char *record;
	} cases[] = {
		{ 5, 5, "9 size=5\n" }, { 12, 12, "11 size=12\n" }, { 8589934591, 8589934591, "19 size=8589934591\n" },
		{ 8589934592, 0, "19 size=8589934592\n" }, { UINT64_C(99999999999999), 0, "23 size=99999999999999\n" },
	};
	uint8_t p[USTAR_HEADER_MAX];

	(void)state;
	assert_int_equal(ustar_header_bytes(UINT64_C(1) << 33), USTAR_HEADER_MAX);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ustar_header(p, USTAR_HEADER_MAX, "a.vmdk", cases[i].size, 1700000000);
		assert_string_equal((const char *)p + USTAR_BLOCK, cases[i].record);
		assert_int_equal(strtoul(cases[i].record, NULL, 10), strlen(cases[i].record));
		check_block(p, "PaxHeaders/a.vmdk", 'x', strlen(cases[i].record));
		check_block(p + 2 * USTAR_BLOCK, "a.vmdk", '0', cases[i].in_header);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ustar__small), cmocka_unit_test(test_ustar__large) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
