/* test_vhdx_log.c - the log of a VHDX: which entries count, what they write, and that the file is never written to. */
#include "tests/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "tests/support/vhdximage.h"

#define BLOCK (1 * MIB)
#define GUID "aaaabbbb-cccc-dddd-eeee-ffff00001111"
#define OTHER "aaaabbbb-cccc-dddd-eeee-ffff00002222"
#define PAGE 4096

/* Two blocks: 0 of 0xb0, 1 of 0xb1, at 5 and 6 MiB. */
static void new_image(struct vhdx_image *v)
{
	vhdx_image_new(v, 4 * BLOCK, BLOCK, 512, NULL);
	vhdx_image_block(v, 0, VHDX_FULLY_PRESENT, 0xb0);
	vhdx_image_block(v, 1, VHDX_FULLY_PRESENT, 0xb1);
	vhdx_image_header(v, 1, 9, GUID);
}

static uint32_t write_page(struct vhdx_image *v, uint32_t pos, uint64_t sequence, uint32_t tail, uint64_t page,
			   uint8_t value)
{
	const struct vhdx_image_write w = { .off = v->blocks + page * PAGE, .value = value };

	return vhdx_image_log(v, pos, sequence, tail, GUID, &w, 1, v->end, v->end);
}

static void expect_page(struct image *im, uint64_t page, uint8_t value)
{
	uint8_t got[PAGE];
	struct err e = ERR_INIT;

	assert_ok(image_pread(im, 0, got, PAGE, page * PAGE, &e), &e);
	for (size_t i = 0; i < PAGE; i++)
		if (got[i] != value)
			fail_msg("page %" PRIu64 ": byte %zu is 0x%02x, wanted 0x%02x", page, i, got[i], value);
}

/* Opens it; pages[0..n) of block 0 must be these values, and the rest as it was. */
static void expect_pages(struct vhdx_image *v, const uint8_t *values, size_t n)
{
	struct image *im = vhdx_image_open(v, false);

	for (size_t i = 0; i < n; i++)
		expect_page(im, i, values[i]);
	expect_page(im, n, 0xb0);
	expect_page(im, BLOCK / PAGE, 0xb1);
	assert_true(im->info.features & IMAGE_DIRTY);
	image_close(im);
}

static void test_log__one_entry(void **state)
{
	uint8_t *was, *now, part[100];
	struct vhdx_image v;
	struct err e = ERR_INIT;
	struct image *im;
	struct stat st, st2;

	(void)state;
	new_image(&v);
	write_page(&v, 0, 1, 0, 0, 0x01);
	was = malloc((size_t)v.end);
	now = malloc((size_t)v.end);
	assert_ok(fs_pread_full(v.fd, was, (size_t)v.end, 0, &e), &e);
	assert_int_equal(fstat(v.fd, &st), 0);
	expect_pages(&v, (const uint8_t[]){ 0x01 }, 1);
	/* Across the border between log and file. */
	im = vhdx_image_open(&v, false);
	assert_ok(image_pread(im, 0, part, sizeof(part), PAGE - 50, &e), &e);
	for (size_t i = 0; i < sizeof(part); i++)
		assert_int_equal(part[i], i < 50 ? 0x01 : 0xb0);
	image_close(im);
	assert_ok(fs_pread_full(v.fd, now, (size_t)v.end, 0, &e), &e);
	assert_int_equal(fstat(v.fd, &st2), 0);
	assert_memory_equal(was, now, v.end);
	assert_int_equal(st.st_mtim.tv_nsec, st2.st_mtim.tv_nsec);
	assert_int_equal(st.st_size, st2.st_size);
	free(was);
	free(now);
	vhdx_image_done(&v);
}

/* Later entries win; the last one's tail says from where on. */
static void test_log__sequence(void **state)
{
	struct vhdx_image v;
	uint32_t pos[4];

	(void)state;
	new_image(&v);
	pos[1] = write_page(&v, 0, 7, 0, 0, 0x07);
	pos[2] = write_page(&v, pos[1], 8, pos[1], 1, 0x08);
	write_page(&v, pos[2], 9, pos[1], 1, 0x09);
	expect_pages(&v, (const uint8_t[]){ 0xb0, 0x09 }, 2);	/* number 7 is behind the tail: done before */
	write_page(&v, pos[2], 9, 0, 1, 0x09);
	expect_pages(&v, (const uint8_t[]){ 0x07, 0x09 }, 2);
	vhdx_image_done(&v);
}

/* An entry that was being written when the power failed ends the sequence before it. */
static void test_log__torn(void **state)
{
	struct vhdx_image v;
	uint32_t pos[3];

	(void)state;
	new_image(&v);
	pos[1] = write_page(&v, 0, 1, 0, 0, 0x01);
	pos[2] = write_page(&v, pos[1], 2, 0, 1, 0x02);
	write_page(&v, pos[2], 3, 0, 2, 0x03);
	expect_pages(&v, (const uint8_t[]){ 1, 2, 3 }, 3);
	vhdx_image_put(&v, MIB + pos[2] + PAGE + 1000, "torn", 4);	/* its data: the checksum is wrong */
	expect_pages(&v, (const uint8_t[]){ 1, 2 }, 2);
	write_page(&v, pos[2], 3, 0, 2, 0x03);
	vhdx_image_put(&v, MIB + pos[2] + 2 * PAGE - 4, "old!", 4);	/* its data sector is an older one's */
	expect_pages(&v, (const uint8_t[]){ 1, 2 }, 2);
	vhdx_image_put(&v, MIB + pos[1] + 100, "torn", 4);
	expect_pages(&v, (const uint8_t[]){ 1 }, 1);
	vhdx_image_put(&v, MIB + 8, "\0\0\0\0", 4);
	vhdx_image_refused(&v, ERR_CORRUPT, "no whole sequence");
	vhdx_image_done(&v);
}

static void test_log__gap(void **state)
{
	struct vhdx_image v;
	uint32_t pos[3];

	(void)state;
	new_image(&v);
	pos[1] = write_page(&v, 0, 4, 0, 0, 0x04);
	pos[2] = write_page(&v, pos[1], 5, 0, 1, 0x05);
	write_page(&v, pos[2], 7, pos[2], 2, 0x07);	/* 6 is missing: of two sequences the higher counts */
	expect_pages(&v, (const uint8_t[]){ 0xb0, 0xb0, 0x07 }, 3);
	write_page(&v, pos[2], 7, 0, 2, 0x07);		/* its tail is in the other one: it isn't whole */
	expect_pages(&v, (const uint8_t[]){ 0x04, 0x05 }, 2);
	write_page(&v, pos[2], 3, pos[2], 2, 0x03);	/* an older one */
	expect_pages(&v, (const uint8_t[]){ 0x04, 0x05 }, 2);
	vhdx_image_done(&v);
}

static void test_log__other_guid(void **state)
{
	struct vhdx_image v;
	uint32_t next;

	(void)state;
	new_image(&v);
	next = write_page(&v, 0, 1, 0, 0, 0x01);
	vhdx_image_log(&v, next, 2, 0, OTHER, &(struct vhdx_image_write){ .off = v.blocks, .value = 2 }, 1, 0, v.end);
	expect_pages(&v, (const uint8_t[]){ 0x01 }, 1);
	vhdx_image_header(&v, 1, 9, OTHER);	/* whose tail is in an entry of another log */
	vhdx_image_refused(&v, ERR_CORRUPT, "no whole sequence");
	vhdx_image_done(&v);
}

/* A sequence that goes round the ring's end, with an entry that does. */
static void test_log__round_the_end(void **state)
{
	uint32_t start = (uint32_t)VHDX_IMAGE_LOG_BYTES - 3 * PAGE, pos;
	struct vhdx_image v;

	(void)state;
	new_image(&v);
	pos = write_page(&v, start, 1, start, 0, 0x01);
	pos = write_page(&v, pos, 2, start, 1, 0x02);
	assert_int_equal(pos, PAGE);
	pos = write_page(&v, pos, 3, start, 2, 0x03);
	write_page(&v, pos, 4, start, 2, 0x04);
	expect_pages(&v, (const uint8_t[]){ 1, 2, 4 }, 3);
	vhdx_image_done(&v);
}

/* Zeros over pages, pages over zeros, many in one entry, in any order of places. */
static void test_log__overlaps(void **state)
{
	struct vhdx_image_write w[300];
	uint8_t want[256];
	uint32_t pos = 0, seed = 3;
	struct vhdx_image v;
	struct image *im;

	(void)state;
	new_image(&v);
	memset(want, 0xb0, sizeof(want));
	for (uint64_t entry = 1; entry <= 5; entry++) {
		uint32_t n = entry == 3 ? 0 : 20 * (uint32_t)entry;	/* an empty one says how long the file is */

		for (uint32_t i = 0; i < n; i++) {
			uint32_t page, len = 1;

			seed = seed * 1664525 + 1013904223;
			page = seed >> 24;
			if (i % 4 == 0)
				len = 1 + (seed >> 8) % (256 - page);
			w[i] = (struct vhdx_image_write){ .off = v.blocks + page * PAGE,
							  .zeros = i % 4 ? 0 : len * PAGE,
							  .value = (uint8_t)(i | 1) };
			memset(want + page, i % 4 ? (uint8_t)(i | 1) : 0, len);
		}
		pos = vhdx_image_log(&v, pos, entry, 0, GUID, w, n, v.end, v.end);
	}
	im = vhdx_image_open(&v, false);
	for (uint64_t i = 0; i < 256; i++)
		expect_page(im, i, want[i]);
	image_close(im);
	vhdx_image_done(&v);
}

/* The log writes the table, and makes the file longer: how QEMU leaves an image behind. */
static void test_log__table_and_size(void **state)
{
	struct vhdx_image_write w;
	struct vhdx_image v;
	uint64_t end;
	uint32_t pos;
	struct image *im;
	uint8_t page[PAGE] = { 0 };

	(void)state;
	new_image(&v);
	end = v.end + 2 * MIB;
	/* An entry's page is made of one value; the table's is put in by hand. */
	put_le64(page + 8, v.blocks | VHDX_FULLY_PRESENT);
	put_le64(page + 16, v.end | VHDX_FULLY_PRESENT);
	w = (struct vhdx_image_write){ .off = v.end, .value = 0xcc };
	pos = vhdx_image_log(&v, 0, 1, 0, GUID, &w, 1, v.end, end);
	w = (struct vhdx_image_write){ .off = 3 * MIB };
	(void)vhdx_image_log(&v, pos, 2, 0, GUID, &w, 1, v.end, end);
	vhdx_image_put(&v, MIB + pos + PAGE + 8, page + 8, PAGE - 12);
	vhdx_image_put(&v, MIB + pos + 64 + 8, page, 8);
	vhdx_image_log_seal(&v, pos, 2 * PAGE);
	im = vhdx_image_open(&v, false);
	expect_page(im, 0, 0);				/* no longer in the table */
	expect_page(im, BLOCK / PAGE, 0xb0);		/* moved */
	expect_page(im, 2 * BLOCK / PAGE, 0xcc);	/* behind the file's end */
	expect_page(im, 2 * BLOCK / PAGE + 1, 0);
	image_close(im);
	vhdx_image_done(&v);
}

static void test_log__refused(void **state)
{
	const struct {
		struct vhdx_image_write w;
		uint64_t flushed, last;		/* beyond the file's end */
		const char *cause;
	} rows[] = {
		{ { .off = 0, .value = 1 }, 0, 0, "writes to the headers" },
		{ { .off = VHDX_HEADER_2, .value = 1 }, 0, 0, "writes to the headers" },
		{ { .off = MIB + 8192, .value = 1 }, 0, 0, "writes to the log" },
		{ { .off = 512 * KIB, .zeros = 600 * KIB }, 0, 0, "writes to the log" },
		{ { .off = 5 * MIB + 512, .value = 1 }, 0, 0, "writes 4096 bytes at 5243392" },
		{ { .off = 5 * MIB, .zeros = 5000 }, 0, 0, "writes 5000 bytes" },
		{ { .off = 7 * MIB, .value = 1 }, 0, 0, "to a file of 7340032 bytes" },
		{ { .off = 5 * MIB, .zeros = UINT64_MAX - 4095 }, 0, 0, "writes 18446744073709547520" },
		{ { .off = 5 * MIB, .value = 1 }, 1, MIB, "it was cut off" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vhdx_image v;

		new_image(&v);
		vhdx_image_log(&v, 0, 1, 0, GUID, &rows[i].w, 1, v.end + rows[i].flushed, v.end + rows[i].last);
		vhdx_image_refused(&v, ERR_CORRUPT, rows[i].cause);
		vhdx_image_done(&v);
	}
}

/* A tail that is in no entry of the sequence, lengths that aren't. */
static void test_log__hostile_fields(void **state)
{
	static const struct {
		uint64_t at;
		uint32_t value;
	} rows[] = {
		{ 8, 0 }, { 8, 4096 }, { 8, 8193 }, { 8, 12288 }, { 8, 0xfffff000 }, { 12, 8192 }, { 12, 100 },
		{ 12, 0xfffff000 }, { 24, 0 }, { 24, 2 }, { 24, 0xffffffff }, { 16, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vhdx_image v;
		uint8_t b[4];

		new_image(&v);
		write_page(&v, 0, 1, 0, 0, 0x01);
		put_le32(b, rows[i].value);
		vhdx_image_put(&v, MIB + rows[i].at, b, 4);
		vhdx_image_log_seal(&v, 0, 2 * PAGE);
		vhdx_image_refused(&v, ERR_CORRUPT, "no whole sequence");
		vhdx_image_done(&v);
	}
}

/* A ring full of whole entries that lead nowhere: each half's tail is in the other. */
static void test_log__full_ring(void **state)
{
	uint32_t n = (uint32_t)VHDX_IMAGE_LOG_BYTES / PAGE, half = n / 2 * PAGE;
	struct vhdx_image v;
	struct image *im;

	(void)state;
	new_image(&v);
	for (uint32_t i = 0; i < n; i++)
		vhdx_image_log(&v, i * PAGE, i < n / 2 ? 10 + i : 1000 + i, i < n / 2 ? half : 0, GUID, NULL, 0, v.end,
			       v.end);
	vhdx_image_refused(&v, ERR_CORRUPT, "no whole sequence");
	vhdx_image_log(&v, (n - 1) * PAGE, 1000 + n - 1, half, GUID, NULL, 0, v.end, v.end);
	im = vhdx_image_open(&v, false);
	expect_page(im, 0, 0xb0);
	image_close(im);
	vhdx_image_done(&v);
}

/* What is pending is part of the digest. */
static void test_log__digest(void **state)
{
	uint8_t was[32], now[32];
	struct err e = ERR_INIT;
	struct vhdx_image v;
	struct image *im;

	(void)state;
	new_image(&v);
	for (uint8_t i = 0; i < 3; i++) {
		write_page(&v, 0, 1, 0, 0, i < 2 ? 1 : 2);
		im = vhdx_image_open(&v, false);
		assert_ok(image_state_digest(im, 0, now, &e), &e);
		if (i)
			assert_int_equal(memcmp(was, now, 32) == 0, i == 1);
		memcpy(was, now, 32);
		image_close(im);
	}
	vhdx_image_done(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log__one_entry),
		cmocka_unit_test(test_log__sequence),
		cmocka_unit_test(test_log__torn),
		cmocka_unit_test(test_log__gap),
		cmocka_unit_test(test_log__other_guid),
		cmocka_unit_test(test_log__round_the_end),
		cmocka_unit_test(test_log__overlaps),
		cmocka_unit_test(test_log__table_and_size),
		cmocka_unit_test(test_log__refused),
		cmocka_unit_test(test_log__hostile_fields),
		cmocka_unit_test(test_log__full_ring),
		cmocka_unit_test(test_log__digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
