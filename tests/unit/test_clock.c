/* The two clocks, and times as text. */
#include "tests/test.h"

#include "base/clock.h"

#define S INT64_C(1000000000)

static void test_clock__texts(void **state)
{
	char b[32];

	(void)state;
	assert_string_equal(clock_utc_text(0, b), "1970-01-01T00:00:00Z");
	assert_string_equal(clock_utc_text(-1, b), "1969-12-31T23:59:59Z");
	assert_string_equal(clock_utc_text(1795143845 * S + 999999999, b), "2026-11-20T03:04:05Z");
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	assert_string_equal(clock_local_text(1795143845 * S, b), "2026-11-20 04:04:05");
}

static void test_clock__test_offset_is_added(void **state)
{
	int64_t now, moved;

	(void)state;
	unsetenv("KEDGE_TEST_TIME_OFFSET");
	now = clock_wall_ns();
	setenv("KEDGE_TEST_TIME_OFFSET", "86400", 1);
	moved = clock_wall_ns();
	assert_true(moved - now >= 86400 * S && moved - now < 86460 * S);
	setenv("KEDGE_TEST_TIME_OFFSET", "-3600", 1);
	moved = clock_wall_ns();
	assert_true(now - moved > 3500 * S && now - moved <= 3600 * S);
	setenv("KEDGE_TEST_TIME_OFFSET", "12x", 1);
	moved = clock_wall_ns();
	assert_true(moved - now < 60 * S);
	unsetenv("KEDGE_TEST_TIME_OFFSET");
	assert_true(clock_mono() > 0);
}

static void test_clock_parse__day_is_local_and_has_its_own_length(void **state)
{
	int64_t from, to;
	bool day = false;

	(void)state;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	assert_true(clock_parse("2026-11-20", &from, &to, &day));
	assert_true(day);
	assert_true(from == (1795132800 - 3600) * S);
	assert_true(to - from + 1 == 86400 * S);
	assert_true(clock_parse("2026-03-29", &from, &to, &day));
	assert_true(to - from + 1 == 23 * 3600 * S);
	assert_true(clock_parse("2026-10-25", &from, &to, &day));
	assert_true(to - from + 1 == 25 * 3600 * S);
}

static void test_clock_parse__instants_end_at_their_precision(void **state)
{
	int64_t from, to;
	bool day = true;

	(void)state;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	assert_true(clock_parse("2026-11-20T03:04:05Z", &from, &to, &day));
	assert_false(day);
	assert_true(from == to && to == 1795143846 * S - 1);
	assert_true(clock_parse("2026-11-20 04:04:05", &from, &to, &day));
	assert_true(to == 1795143846 * S - 1);
	assert_true(clock_parse("2026-11-20T03:04Z", &from, &to, &day));
	assert_true(to == (1795143840 + 60) * S - 1);
	assert_true(clock_parse("2024-02-29T00:00Z", &from, &to, &day));
}

static void test_clock_parse__refuses(void **state)
{
	static const char *const bad[] = {
		"", "2026", "2026-1-2", "2026-13-01", "2026-02-30", "2025-02-29", "2026-11-20T", "2026-11-20T24:00",
		"2026-11-20T03", "2026-11-20T03:04:60", "2026-11-20T03:04:05+01", "2026-11-20x", "x2026-11-20",
		"2026-11-20T03:04ZZ", "latest", "1969-01-01",
	};
	int64_t from = 1, to = 2;
	bool day;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (clock_parse(bad[i], &from, &to, &day))
			fail_msg("\"%s\" accepted", bad[i]);
	assert_true(from == 1 && to == 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock__texts),
		cmocka_unit_test(test_clock__test_offset_is_added),
		cmocka_unit_test(test_clock_parse__day_is_local_and_has_its_own_length),
		cmocka_unit_test(test_clock_parse__instants_end_at_their_precision),
		cmocka_unit_test(test_clock_parse__refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
