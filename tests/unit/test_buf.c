/* Growable buffers and arrays. */
#include "tests/test.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/vec.h"

static void test_buf__grows_to_its_maximum_and_not_beyond(void **state)
{
	struct err e = ERR_INIT;
	struct buf b;
	uint8_t *p;
	size_t len;

	(void)state;
	buf_init(&b, 1000);
	for (unsigned i = 0; i < 1000; i++)
		assert_ok(buf_u8(&b, (uint8_t)i, &e), &e);
	assert_int_equal(b.len, 1000);
	assert_true(b.cap <= 1000);
	assert_err(buf_u8(&b, 1, &e), ERR_NOMEM, &e);
	assert_null(buf_room(&b, SIZE_MAX, &e));
	err_clear(&e);
	assert_int_equal(b.len, 1000);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(b.p[i], (uint8_t)i);
	p = buf_take(&b, &len);
	assert_int_equal(len, 1000);
	assert_null(b.p);
	assert_int_equal(b.len, 0);
	free(p);
	assert_ok(buf_add(&b, "abc", 3, &e), &e);	/* usable again, same maximum */
	assert_err(buf_add_zero(&b, 998, &e), ERR_NOMEM, &e);
	buf_done(&b);
}

static void test_buf__integers_and_room(void **state)
{
	struct err e = ERR_INIT;
	struct buf b;
	uint8_t *p;

	(void)state;
	buf_init(&b, SIZE_MAX);
	assert_ok(buf_le16(&b, 0x0102, &e), &e);
	assert_ok(buf_le32(&b, 0x03040506, &e), &e);
	assert_ok(buf_le64(&b, 0x0708090a0b0c0d0eu, &e), &e);
	assert_int_equal(b.len, 14);
	assert_int_equal(get_le16(b.p), 0x0102);
	assert_int_equal(get_le32(b.p + 2), 0x03040506);
	assert_true(get_le64(b.p + 6) == 0x0708090a0b0c0d0eu);
	p = buf_room(&b, 100, &e);
	assert_ptr_equal(p, b.p + 14);
	assert_int_equal(b.len, 14);
	p = buf_extend(&b, 100, &e);
	assert_ptr_equal(p, b.p + 14);
	assert_int_equal(b.len, 114);
	buf_clear(&b);
	assert_ok(buf_add(&b, NULL, 0, &e), &e);
	assert_ok(buf_add_zero(&b, 20, &e), &e);
	assert_true(bytes_all_zero(b.p, 20));
	buf_done(&b);
	buf_done(&b);
	buf_init(&b, 0);
	assert_non_null(buf_room(&b, 0, &e));
	assert_null(buf_room(&b, 1, &e));
	buf_done(&b);
}

static void test_vec__push_keeps_and_zeroes(void **state)
{
	VEC(struct { uint64_t a; char c; }) v = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		__typeof__(v.p) slot = VEC_PUSH(&v, &e);

		assert_non_null(slot);
		assert_true(slot->a == 0 && slot->c == 0);
		slot->a = i;
		slot->c = 'x';
	}
	assert_int_equal(v.n, 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_true(v.p[i].a == i && v.p[i].c == 'x');
	VEC_DONE(&v);
	assert_null(v.p);
	assert_int_equal(v.cap, 0);
}

static void test_vec__impossible_size_leaves_the_array(void **state)
{
	VEC(uint64_t) v = { 0 };
	struct err e = ERR_INIT;
	size_t n = 1, cap = 1;
	void *p;

	(void)state;
	*VEC_PUSH(&v, &e) = 5;
	p = v.p;
	assert_null(vec_push_(&p, &n, &cap, SIZE_MAX / 2 + 1, &e));
	assert_int_equal(e.code, ERR_NOMEM);
	assert_ptr_equal(p, v.p);
	assert_int_equal(n, 1);
	assert_int_equal(v.p[0], 5);
	VEC_DONE(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf__grows_to_its_maximum_and_not_beyond),
		cmocka_unit_test(test_buf__integers_and_room),
		cmocka_unit_test(test_vec__push_keeps_and_zeroes),
		cmocka_unit_test(test_vec__impossible_size_leaves_the_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
