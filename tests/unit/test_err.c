/* Errors by value. */
#include "tests/test.h"

#include <errno.h>

static void test_err__set_ctx_hint_text(void **state)
{
	struct err e = ERR_INIT;
	char buf[256];

	(void)state;
	assert_int_equal(err_set(&e, ERR_CORRUPT, "table of %d entries", 7), ERR_CORRUPT);
	assert_int_equal(err_ctx(&e, "qcow2"), ERR_CORRUPT);
	assert_int_equal(err_ctx(&e, "backup of %s", "vm1"), ERR_CORRUPT);
	assert_string_equal(err_text(&e, buf, sizeof(buf)), "backup of vm1: qcow2: table of 7 entries");
	(void)err_hint(&e, "first");
	(void)err_hint(&e, "second");
	assert_string_equal(e.hint, "first");
	err_clear(&e);
	assert_int_equal(e.code, 0);
	assert_string_equal(err_text(&e, buf, sizeof(buf)), "");
}

static void test_err__sys_maps_errno(void **state)
{
	static const struct { int os; int code; } map[] = {
		{ ENOENT, ERR_NOTFOUND }, { EEXIST, ERR_EXISTS }, { ENOSPC, ERR_NOSPACE }, { EDQUOT, ERR_NOSPACE },
		{ ENOMEM, ERR_NOMEM }, { EACCES, ERR_IO }, { 0, ERR_IO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		struct err e = ERR_INIT;

		errno = map[i].os;
		assert_int_equal(err_sys(&e, "open"), map[i].code);
		assert_int_equal(e.os_errno, map[i].os ? map[i].os : EIO);
		assert_has(e.cause, "open: ");
		assert_has(e.cause, strerror(e.os_errno));
	}
}

static void test_err__set_forgets_the_last_one(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	(void)err_set(&e, ERR_IO, "old");
	(void)err_ctx(&e, "ctx");
	(void)err_hint(&e, "hint");
	(void)err_set(&e, ERR_AUTH, "again after %s", e.cause);
	assert_string_equal(e.cause, "again after old");
	assert_string_equal(e.ctx, "");
	assert_string_equal(e.hint, "");
}

static void test_err__long_text_is_cut_from_the_outside(void **state)
{
	struct err e = ERR_INIT;
	char big[2000], text[2000];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	(void)err_set(&e, ERR_IO, "%s", big);
	assert_int_equal(strlen(e.cause), ERR_CAUSE_BYTES - 1);
	assert_string_equal(e.cause + ERR_CAUSE_BYTES - 4, "...");
	(void)err_ctx(&e, "inner");
	(void)err_ctx(&e, "%s", big);
	assert_true(strlen(e.ctx) < ERR_CTX_BYTES);
	assert_string_equal(e.ctx + strlen(e.ctx) - 10, "...: inner");
	for (int i = 0; i < 300; i++)
		(void)err_ctx(&e, "layer %d", i);
	assert_true(strlen(e.ctx) < ERR_CTX_BYTES);
	assert_has(e.ctx, ": inner");
	assert_has(err_text(&e, text, sizeof(text)), "inner: xxx");
	assert_int_equal(strlen(err_text(&e, text, 10)), 9);
}

static void test_err__names_are_stable(void **state)
{
	(void)state;
	assert_string_equal(err_code_name(0), "ok");
	assert_string_equal(err_code_name(ERR_CORRUPT), "corrupt");
	assert_string_equal(err_code_name(ERR_NOSPACE), "no-space");
	assert_string_equal(err_code_name(ERR_CHANGED), "changed");
	assert_string_equal(err_code_name(ERR_INTERNAL), "internal");
	assert_string_equal(err_code_name(ERR_REFUSED), "refused");
	assert_string_equal(err_code_name(-999), "internal");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err__set_ctx_hint_text),
		cmocka_unit_test(test_err__sys_maps_errno),
		cmocka_unit_test(test_err__set_forgets_the_last_one),
		cmocka_unit_test(test_err__long_text_is_cut_from_the_outside),
		cmocka_unit_test(test_err__names_are_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
