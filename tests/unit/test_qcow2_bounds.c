/* Hostile qcow2 images at the limits: what is the last that is read, and what the first that is refused. */
#include "tests/test.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/qimage.h"

#define SECONDS_MAX 5

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The image as a file of `size` bytes, what is behind its own a hole. */
static int sparse_fd(const struct qimage *q, uint64_t size)
{
	int fd = qimage_fd(q);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void put64(int fd, uint64_t at, uint64_t v)
{
	struct err e = ERR_INIT;
	uint8_t b[8];

	put_be64(b, v);
	assert_ok(fs_pwrite_full(fd, b, sizeof(b), at, &e), &e);
}

/*
 * A file of a few hundred KiB, most of it holes, that names thousands of L2 tables in its holes: neither opening it nor
 * walking its map may read them byte by byte (they are 32 GiB).
 */
static void test_bounds__l2_tables_in_holes(void **state)
{
	struct image_open_opts o = { .data_fd = -1 };
	uint64_t tables = 16384, cs = 2 * MIB, size = tables << 39, n = 0, end;
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	struct extent x;
	uint8_t digest[32];
	double began;
	int fd;

	(void)state;
	qimage_init(&q, 3, 21, size, false, 0);
	for (uint64_t i = 0; i < tables; i++)
		qimage_be64(&q, q.l1 + i * 8, (4 + i) * cs | QIMAGE_COPIED);
	fd = sparse_fd(&q, (4 + tables + 1) * cs);
	put64(fd, 4 * cs + 2 * MIB - 8, (4 + tables) * cs | QIMAGE_COPIED);	/* one entry, at a table's very end */
	end = (uint64_t)1 << 39;
	began = now();
	assert_ok(qcow2_open(fd, "test.qcow2", &o, &im, &e), &e);
	for (uint64_t off = 0; off < size; off += x.len, n++) {
		assert_ok(image_next_extent(im, 0, off, UINT64_MAX, &x, &e), &e);
		if (x.kind == EXTENT_DATA)
			assert_true(x.start == end - cs && x.len == cs);
	}
	assert_int_equal(n, 3);
	assert_ok(image_state_digest(im, 0, digest, &e), &e);
	if (now() - began > SECONDS_MAX)
		fail_msg("took %.1f seconds", now() - began);
	image_close(im);
	qimage_done(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds__l2_tables_in_holes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
