/* Integers in byte arrays, and the cursor. */
#include "tests/test.h"

#include "base/bytes.h"

static void test_bytes__endianness(void **state)
{
	uint8_t b[8];

	(void)state;
	put_be64(b, 0x0102030405060708u);
	assert_int_equal(b[0], 1);
	assert_int_equal(b[7], 8);
	assert_true(get_be64(b) == 0x0102030405060708u);
	assert_true(get_le64(b) == 0x0807060504030201u);
	assert_int_equal(get_be32(b), 0x01020304);
	assert_int_equal(get_le32(b), 0x04030201);
	assert_int_equal(get_be16(b), 0x0102);
	assert_int_equal(get_le16(b), 0x0201);
	memset(b, 0xff, sizeof(b));
	assert_true(get_be64(b) == UINT64_MAX && get_le64(b) == UINT64_MAX);
	put_le64(b, 0xfedcba9876543210u);
	assert_int_equal(b[0], 0x10);
	assert_true(get_le64(b) == 0xfedcba9876543210u);
	put_le16(b, 0xabcd);
	put_be32(b + 2, 0xdeadbeef);
	assert_int_equal(get_le16(b), 0xabcd);
	assert_int_equal(get_be32(b + 2), 0xdeadbeef);
}

static void test_rd__short_leaves_cursor_and_output(void **state)
{
	static const uint8_t bytes[7] = { 1, 2, 3, 4, 5, 6, 7 };
	struct rd r = rd_of(bytes, sizeof(bytes)), w = { 0 };
	uint64_t v64 = 99;
	uint32_t v32 = 99;
	const uint8_t *p = NULL;

	(void)state;
	assert_false(rd_be64(&r, &v64));
	assert_int_equal(v64, 99);
	assert_int_equal(r.left, 7);
	assert_true(rd_be32(&r, &v32));
	assert_int_equal(v32, 0x01020304);
	assert_false(rd_le32(&r, &v32));
	assert_int_equal(v32, 0x01020304);
	assert_false(rd_take(&r, 4, &p));
	assert_null(p);
	assert_false(rd_window(&r, SIZE_MAX, &w));
	assert_null(w.p);
	assert_true(rd_take(&r, 3, &p));
	assert_ptr_equal(p, bytes + 4);
	assert_int_equal(r.left, 0);
	assert_true(rd_skip(&r, 0));
	assert_false(rd_skip(&r, 1));
}

static void test_rd__window_ends_where_it_must(void **state)
{
	static const uint8_t bytes[6] = { 1, 2, 3, 4, 5, 6 };
	struct rd r = rd_of(bytes, sizeof(bytes)), w;
	uint16_t v16;
	uint8_t v8;

	(void)state;
	assert_true(rd_window(&r, 3, &w));
	assert_int_equal(r.left, 3);
	assert_true(rd_le16(&w, &v16));
	assert_int_equal(v16, 0x0201);
	assert_false(rd_le16(&w, &v16));
	assert_true(rd_u8(&w, &v8));
	assert_int_equal(v8, 3);
	assert_true(rd_u8(&r, &v8));
	assert_int_equal(v8, 4);
}

static void test_bytes_all_zero__finds_any_byte(void **state)
{
	uint8_t *b = calloc(1, 4097);

	(void)state;
	assert_non_null(b);
	for (size_t off = 0; off < 3; off++) {
		for (size_t len = 0; len < 200; len++) {
			assert_true(bytes_all_zero(b + off, len));
			for (size_t at = 0; at < len; at++) {
				b[off + at] = 0x80;
				assert_false(bytes_all_zero(b + off, len));
				b[off + at] = 0;
			}
			b[off + len] = 1;	/* the byte behind does not count */
			assert_true(bytes_all_zero(b + off, len));
			b[off + len] = 0;
		}
	}
	b[4096] = 1;
	assert_true(bytes_all_zero(b, 4096));
	assert_false(bytes_all_zero(b, 4097));
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes__endianness),
		cmocka_unit_test(test_rd__short_leaves_cursor_and_output),
		cmocka_unit_test(test_rd__window_ends_where_it_must),
		cmocka_unit_test(test_bytes_all_zero__finds_any_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
