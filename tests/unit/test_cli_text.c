/* Tables, the progress line, and what errors advise. */
#include "tests/test.h"

#include <errno.h>

#include "base/num.h"
#include "cli/bar.h"
#include "cli/cli.h"
#include "cli/hint.h"
#include "cli/table.h"

static void test_table__aligns(void **state)
{
	CLEANUP(table_done) struct table t;
	struct err e = ERR_INIT;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	table_init(&t, 3, (const char *const[]){ "NAME", "SIZE>", "DATE" });
	assert_ok(table_row(&t, &e, "a", "1.0 GiB", "today"), &e);
	assert_ok(table_row(&t, &e, "z\xc3\xa4hler", NULL, ""), &e);
	table_print(&t, 2, f);
	fclose(f);
	assert_string_equal(text, "  NAME       SIZE  DATE\n"
				  "  a       1.0 GiB  today\n"
				  "  z\xc3\xa4hler        -  \n");
	free(text);
	for (int i = 0; i < 100; i++)
		assert_ok(table_row(&t, &e, "x", "y", "z"), &e);
	assert_int_equal(t.ncells, 306);
}

static void test_bar_line__fits_any_width(void **state)
{
	const struct progress_state s = {
		.phase = "reading", .what = "v\033da", .done = 3 * GIB / 2, .total = 3 * GIB
	};
	char buf[256];

	(void)state;
	assert_string_equal(bar_line(&s, 100.0 * (double)MIB, 200, buf, sizeof(buf)),
			    "reading v\\x1bda [##########..........] 50% 1.5 GiB/3.0 GiB 100.0 MiB/s ETA 0:15");
	for (size_t width = 1; width < 100; width++) {
		bar_line(&s, 100.0 * (double)MIB, width, buf, sizeof(buf));
		assert_true(strlen(buf) <= width);
	}
	/* On 80 columns the gauge shrinks instead of going. */
	assert_string_equal(bar_line(&s, 100.0 * (double)MIB, 72, buf, sizeof(buf)),
			    "reading v\\x1bda [######.......] 50% 1.5 GiB/3.0 GiB 100.0 MiB/s ETA 0:15");
	assert_string_equal(bar_line(&s, 1e8, 12, buf, sizeof(buf)), "reading 50%");
	assert_string_equal(bar_line(&s, 1, 30, buf, 9), "reading");
}

static void test_bar_line__unknown_total_and_rate(void **state)
{
	struct progress_state s = { .phase = "storing", .done = 5 * MIB };
	char buf[256];

	(void)state;
	assert_string_equal(bar_line(&s, 0, 200, buf, sizeof(buf)), "storing 5.0 MiB");
	s.total = MIB;		/* more done than announced */
	assert_string_equal(bar_line(&s, 1024, 200, buf, sizeof(buf)),
			    "storing [####################] 100% 5.0 MiB/1.0 MiB 1.0 KiB/s");
	s = (struct progress_state){ .phase = "x", .total = TIB };
	assert_has(bar_line(&s, 1024 * 1024, 200, buf, sizeof(buf)), "ETA >4 days");
	assert_has(bar_line(&s, 200.0 * 1024 * 1024, 200, buf, sizeof(buf)), "ETA 1:27:22");
}

static void test_bar__silent_unless_asked(void **state)
{
	const struct progress_state s = { .phase = "reading", .done = 1, .total = 2 };
	struct err e = ERR_INIT;
	struct bar *b = NULL;

	(void)state;
	assert_ok(bar_new(false, &b, &e), &e);
	for (int i = 0; i < 1000; i++)
		bar_update(b, &s);
	bar_hide(b);
	bar_show(b);
	bar_free(b);
	bar_free(NULL);
	bar_hide(NULL);
	bar_show(NULL);
}

static void advises(int os_errno, int code, const struct command *cmd, const char *words)
{
	struct err e = ERR_INIT;

	errno = os_errno;
	if (os_errno)
		err_sys(&e, "something");
	else
		err_set(&e, code, "something");
	hint_general(&e, cmd);
	assert_has(e.hint, words);
}

static void test_hint__by_errno_and_code(void **state)
{
	static const struct command greedy = { .globals = CLI_THREADS | CLI_MEMORY }, modest = { .globals = CLI_REPO };
	struct err e = ERR_INIT;

	(void)state;
	advises(EIO, 0, NULL, "dmesg");
	advises(EUCLEAN, 0, NULL, "dmesg");
	advises(EISDIR, 0, NULL, "look at the path");
	advises(ENAMETOOLONG, 0, NULL, "look at the path");
	advises(EBUSY, 0, NULL, "something else uses that");
	advises(EACCES, 0, NULL, "owner and mode");
	advises(EROFS, 0, NULL, "read-only");
	advises(EMFILE, 0, NULL, "ulimit -Hn");
	advises(ENOSPC, 0, NULL, "make room");
	advises(EDQUOT, 0, NULL, "quota");
	advises(ESTALE, 0, NULL, "server");
	advises(ENOMEM, 0, &greedy, "--memory and --threads");
	advises(0, ERR_NOMEM, NULL, "memory.max");
	advises(0, ERR_IO, NULL, "device");
	advises(0, ERR_TRANSIENT, NULL, "again");
	err_set(&e, ERR_NOMEM, "something");
	hint_general(&e, &modest);
	assert_null(strstr(e.hint, "--threads"));
	errno = EINVAL;		/* says nothing of a device */
	err_sys(&e, "something");
	hint_general(&e, NULL);
	assert_string_equal(e.hint, "");
	err_set(&e, ERR_IO, "something");
	err_hint(&e, "pull the plug");
	hint_general(&e, NULL);
	assert_string_equal(e.hint, "pull the plug");	/* who knows more has said so */
	err_set(&e, ERR_CORRUPT, "something");
	hint_general(&e, NULL);
	assert_string_equal(e.hint, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table__aligns),
		cmocka_unit_test(test_bar_line__fits_any_width),
		cmocka_unit_test(test_bar_line__unknown_total_and_rate),
		cmocka_unit_test(test_bar__silent_unless_asked),
		cmocka_unit_test(test_hint__by_errno_and_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
