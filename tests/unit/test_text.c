/* Byte strings from outside as safe text. */
#include "tests/test.h"

#include "base/text.h"

static void test_text_quote__shows_what_could_lie(void **state)
{
	static const struct { const char *in, *want; } rows[] = {
		{ "plain name.qcow2", "plain name.qcow2" },
		{ "a\033[2Jb\n", "a\\x1b[2Jb\\x0a" },
		{ "z\xc3\xa4hler", "z\xc3\xa4hler" },
		{ "bad\xff\xc3", "bad\\xff\\xc3" },
		{ "c1\xc2\x9b" "2J", "c1\\xc2\\x9b2J" },
		{ "rtl\xe2\x80\xae" "x", "rtl\\xe2\\x80\\xaex" },
		{ "back\\slash", "back\\x5cslash" },
		{ "over\xc0\xaf", "over\\xc0\\xaf" },
		{ "surrogate\xed\xa0\x80", "surrogate\\xed\\xa0\\x80" },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
		{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },
		{ "", "" },
	};
	char buf[128];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(text_quote(rows[i].in, buf, sizeof(buf)), rows[i].want);
}

static void test_text_shell__makes_one_word_of_anything(void **state)
{
	static const struct { const char *in, *want; } rows[] = {
		{ "/images/web.qcow2", "/images/web.qcow2" },
		{ "", "''" },
		{ "two words", "'two words'" },
		{ "$(reboot);`x`", "'$(reboot);`x`'" },
		{ "it's", "'it'\\''s'" },
		{ "back\\slash", "'back\\slash'" },
		{ "z\xc3\xa4hler", "'z\xc3\xa4hler'" },
		{ "nl\n'\\\xff$(x)", "$'nl\\x0a\\x27\\x5c\\xff$(x)'" },
	};
	char buf[64], small[9];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(text_shell(rows[i].in, buf, sizeof(buf)), rows[i].want);
	for (size_t len = 1; len <= sizeof(small); len++) {	/* never half a word */
		const char *got = text_shell("a b c d e f g", memset(small, 'Z', sizeof(small)), len);

		assert_true(strlen(got) < len && strspn(got, ".") == strlen(got));
	}
	assert_string_equal(text_shell("a b", small, 6), "'a b'");
}

static void test_text_quote__shortens_to_fit(void **state)
{
	char buf[64];

	(void)state;
	assert_string_equal(text_quote("abcdef", buf, 7), "abcdef");
	assert_string_equal(text_quote("abcdefg", buf, 7), "abc...");
	assert_string_equal(text_quote("ab\x01zz", buf, 9), "ab\\x01zz");
	assert_string_equal(text_quote("ab\x01zz", buf, 8), "ab...");
	assert_string_equal(text_quote("z\xc3\xa4z", buf, 5), "z\xc3\xa4z");
	assert_string_equal(text_quote("abc", buf, 2), "a");
	assert_string_equal(text_quote("abc", buf, 1), "");
	for (size_t len = 1; len < sizeof(buf); len++) {
		memset(buf, 'Z', sizeof(buf));
		text_quote("\x01\x02 some \xc3\xa4 text \xff that is much longer than the buffer it goes to, yes", buf,
			   len);
		assert_true(strlen(buf) < len);
	}
}

static void test_text_escape__round_trip_of_any_bytes(void **state)
{
	struct err e = ERR_INIT;
	uint8_t all[512];

	(void)state;
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)(i * 7 + i / 256);
	for (size_t len = 0; len <= sizeof(all); len += 31) {
		CLEANUP(free_ptr) char *text = text_escape(all, len, &e), *back = NULL;
		size_t back_len = 0;

		assert_non_null(text);
		for (const char *p = text; *p; p++)
			assert_true((uint8_t)*p >= 0x20 && *p != 0x7f);
		assert_ok(text_unescape(text, &back, &back_len, &e), &e);
		assert_int_equal(back_len, len);
		assert_memory_equal(back, all, len);
		assert_int_equal(back[len], 0);
	}
}

static void test_text_escape__exact_form(void **state)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *text = text_escape("a%\n\x7f\xc3\xa4\xff", 7, &e);

	(void)state;
	assert_string_equal(text, "a%25%0A%7F\xc3\xa4%FF");
}

static void test_text_unescape__malformed(void **state)
{
	static const char *const bad[] = { "%", "a%1", "%g0", "%0g", "%%41" };
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *out = (char *)"untouched";
		size_t len = 77;

		assert_err(text_unescape(bad[i], &out, &len, &e), ERR_CORRUPT, &e);
		assert_string_equal(out, "untouched");
		assert_int_equal(len, 77);
	}
}

static void test_text_hex__both_ways(void **state)
{
	uint8_t b[3] = { 0x00, 0xAb, 0xff }, got[3] = { 9, 9, 9 };
	char hex[7];

	(void)state;
	assert_string_equal(text_hex(b, 3, hex), "00abff");
	assert_false(text_unhex("00abf", got, 3));
	assert_false(text_unhex("00abff0", got, 3));
	assert_false(text_unhex("00abfg", got, 3));
	assert_int_equal(got[0], 9);
	assert_true(text_unhex("00aBFf", got, 3));
	assert_memory_equal(b, got, 3);
}

static void test_text_is_name__alphabet(void **state)
{
	char long_name[70];

	(void)state;
	memset(long_name, 'a', sizeof(long_name));
	long_name[65] = '\0';
	assert_false(text_is_name(long_name));
	long_name[64] = '\0';
	assert_true(text_is_name(long_name));
	assert_true(text_is_name("web-1.A_z"));
	assert_true(text_is_name("..."));
	assert_false(text_is_name("") || text_is_name(".") || text_is_name(".."));
	assert_false(text_is_name("a/b") || text_is_name("a b") || text_is_name("\xc3\xa4"));
}

static void test_text_from_utf16__both_orders_and_bad_ones(void **state)
{
	static const uint8_t be[] = { 0, 'a', 0, 0xe9, 0x20, 0xac, 0xd8, 0x3d, 0xde, 0x00, 0, 0, 0, 'x' };
	static const uint8_t low_alone[] = { 0xde, 0x00, 0, 'a' }, high_last[] = { 0, 'a', 0xd8, 0x3d };
	static const uint8_t two_high[] = { 0xd8, 0x3d, 0xd8, 0x3d };
	uint8_t le[sizeof(be)];
	struct err e = ERR_INIT;
	char *t;

	(void)state;
	for (size_t i = 0; i < sizeof(be); i++)
		le[i] = be[i ^ 1];
	t = text_from_utf16(be, sizeof(be) / 2, true, &e);
	assert_string_equal(t, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	free(t);
	t = text_from_utf16(le, 2, false, &e);
	assert_string_equal(t, "a\xc3\xa9");
	free(t);
	t = text_from_utf16(le, 0, false, &e);
	assert_string_equal(t, "");
	free(t);
	assert_null(text_from_utf16(low_alone, 2, true, &e));
	assert_int_equal(e.code, ERR_CORRUPT);
	assert_null(text_from_utf16(high_last, 2, true, &e));
	assert_null(text_from_utf16(two_high, 2, true, &e));
	assert_null(text_from_utf16(be, 4, true, &e));	/* cut in the middle of a pair */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_quote__shows_what_could_lie),
		cmocka_unit_test(test_text_shell__makes_one_word_of_anything),
		cmocka_unit_test(test_text_quote__shortens_to_fit),
		cmocka_unit_test(test_text_escape__round_trip_of_any_bytes),
		cmocka_unit_test(test_text_escape__exact_form),
		cmocka_unit_test(test_text_unescape__malformed),
		cmocka_unit_test(test_text_hex__both_ways),
		cmocka_unit_test(test_text_is_name__alphabet),
		cmocka_unit_test(test_text_from_utf16__both_orders_and_bad_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
