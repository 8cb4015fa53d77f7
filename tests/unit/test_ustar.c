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

static void check_block(const uint8_t *p, const char *name)
{
	uint64_t sum = 8 * ' ';

	for (size_t i = 0; i < USTAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? 0 : p[i];
	assert_int_equal(octal(p + 148, 8), sum);
	assert_string_equal((const char *)p, name);
	assert_int_equal(p[156], '0');
	assert_int_equal(octal(p + 136, 12), 1700000000);
	assert_int_equal(octal(p + 100, 8), 0644);
	assert_memory_equal(p + 257, "ustar\00000", 8);
}

static void test_ustar__octal(void **state)
{
	static const uint64_t sizes[] = { 0, 5, 512, 68608, 8589934591 };
	uint8_t p[USTAR_BLOCK];

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		ustar_header(p, "a.vmdk", sizes[i], 1700000000);
		check_block(p, "a.vmdk");
		assert_int_equal(octal(p + 124, 12), sizes[i]);
		assert_int_equal(p[135], 0);
	}
}

/* No room for the octal number: GNU's base-256, not a member of pax, which VirtualBox refuses. */
static void test_ustar__base256(void **state)
{
	static const struct {
		uint64_t size;
		uint8_t field[12];
	} cases[] = {
		{ 8589934592, { 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0 } },
		{ UINT64_C(0x123456789abcdef0), { 0x80, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0 } },
	};
	uint8_t p[USTAR_BLOCK];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ustar_header(p, "a.vmdk", cases[i].size, 1700000000);
		check_block(p, "a.vmdk");
		assert_memory_equal(p + 124, cases[i].field, 12);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ustar__octal), cmocka_unit_test(test_ustar__base256) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
