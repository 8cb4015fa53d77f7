/* Arithmetic that cannot wrap, and numbers as people write them. */
#include "tests/test.h"

#include "base/num.h"

static void test_num__checked_operations(void **state)
{
	uint64_t v = 7;
	size_t s = 7;

	(void)state;
	assert_false(add_u64(UINT64_MAX, 1, &v));
	assert_false(mul_u64(UINT64_MAX / 2, 3, &v));
	assert_int_equal(v, 7);
	assert_true(add_u64(UINT64_MAX - 1, 1, &v));
	assert_true(v == UINT64_MAX);
	assert_false(mul_size(SIZE_MAX, 2, &s));
	assert_int_equal(s, 7);
	assert_true(range_ok(10, 0, 10));
	assert_false(range_ok(11, 0, 10));
	assert_false(range_ok(5, UINT64_MAX, 10));
	assert_true(range_ok(5, 5, 10));
	assert_true(round_up(UINT64_MAX, 4096) == (UINT64_MAX & ~(uint64_t)4095));
	assert_int_equal(round_up(4097, 4096), 8192);
	assert_int_equal(div_up(0, 3), 0);
	assert_int_equal(div_up(7, 3), 3);
	assert_true(is_pow2(1) && is_pow2((uint64_t)1 << 63));
	assert_false(is_pow2(0) || is_pow2(6));
}

static void test_parse_size__units(void **state)
{
	static const struct { const char *text; uint64_t want; } good[] = {
		{ "0", 0 }, { "10", 10 }, { "17B", 17 }, { "64K", 65536 }, { "64k", 65536 }, { "1.5G", 3 * GIB / 2 },
		{ "2MiB", 2 * MIB }, { "1MB", MIB }, { "3 TiB", 3 * TIB }, { "1P", 1024 * TIB }, { "0.25K", 256 },
		{ "18446744073709551615", UINT64_MAX }, { "1.123456789M", MIB + 123 * MIB / 1000 },
	};
	static const char *const bad[] = {
		"", "K", "-1", "+1", "1.K", "1.5", "1.5B", ".5K", "1X", "1KK", "1iB", "1 K K", "0x10", " 1", "1 2",
		"18446744073709551616", "16385P", "99999999999999999999", "1KiBs",
	};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!parse_size(good[i].text, &v) || v != good[i].want)
			fail_msg("parse_size(\"%s\") = %llu", good[i].text, (unsigned long long)v);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		v = 42;
		if (parse_size(bad[i], &v) || v != 42)
			fail_msg("parse_size(\"%s\") accepted", bad[i]);
	}
}

static void test_parse_u64__range(void **state)
{
	uint64_t v = 42;

	(void)state;
	assert_true(parse_u64("5", 5, 5, &v));
	assert_int_equal(v, 5);
	assert_false(parse_u64("4", 5, 9, &v));
	assert_false(parse_u64("10", 5, 9, &v));
	assert_false(parse_u64("5 ", 5, 9, &v));
	assert_false(parse_u64("", 0, 9, &v));
	assert_false(parse_u64("-5", 0, UINT64_MAX, &v));
	assert_int_equal(v, 5);
}

static void test_human_bytes__text(void **state)
{
	char b[HUMAN_BYTES_MAX];

	(void)state;
	assert_string_equal(human_bytes(0, b), "0 B");
	assert_string_equal(human_bytes(17, b), "17 B");
	assert_string_equal(human_bytes(1023, b), "1023 B");
	assert_string_equal(human_bytes(1024, b), "1.0 KiB");
	assert_string_equal(human_bytes(3 * GIB / 2, b), "1.5 GiB");
	assert_string_equal(human_bytes(MIB - 1, b), "1023.9 KiB");
	assert_string_equal(human_bytes(UINT64_MAX, b), "15.9 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_num__checked_operations),
		cmocka_unit_test(test_parse_size__units),
		cmocka_unit_test(test_parse_u64__range),
		cmocka_unit_test(test_human_bytes__text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
