/* Level and sink of the log. */
#include "tests/test.h"

#include "base/log.h"

struct seen {
	int n;
	enum log_level level;
	char line[4096];
};

static void sink(void *opaque, enum log_level level, const char *line)
{
	struct seen *s = opaque;

	s->n++;
	s->level = level;
	snprintf(s->line, sizeof(s->line), "%s", line);
}

static int count_call(int *n)
{
	return ++*n;
}

static void test_log__level_drops_before_formatting(void **state)
{
	struct seen s = { 0 };
	int formatted = 0;

	(void)state;
	log_setup(LOG_LEVEL_WARN, sink, &s);
	LOG_DEBUG("%d", count_call(&formatted));
	log_write(LOG_LEVEL_INFO, "f.c", 1, "info");
	assert_int_equal(formatted, 0);
	assert_int_equal(s.n, 0);
	log_write(LOG_LEVEL_WARN, "f.c", 1, "warn %d", 5);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.level, LOG_LEVEL_WARN);
	assert_string_equal(s.line, "warn 5");
	log_setup(LOG_LEVEL_DEBUG, sink, &s);
	LOG_DEBUG("%d", count_call(&formatted));
	assert_int_equal(formatted, 1);
	assert_has(s.line, "test_log.c:");
	assert_has(s.line, ": 1");
	log_setup(LOG_LEVEL_WARN, NULL, NULL);
}

static void test_log__long_line_is_cut(void **state)
{
	struct seen s = { 0 };
	char big[4000];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_setup(LOG_LEVEL_ERROR, sink, &s);
	log_write(LOG_LEVEL_ERROR, "f.c", 1, "%s", big);
	assert_true(strlen(s.line) > 1000 && strlen(s.line) < 3000);
	log_setup(LOG_LEVEL_WARN, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log__level_drops_before_formatting),
		cmocka_unit_test(test_log__long_line_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
