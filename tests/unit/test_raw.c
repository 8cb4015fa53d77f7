/* Raw images: exact sizes, holes, block devices' absence of claims, files that change. */
#include "tests/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/raw/raw.h"

static struct image *open_raw(const char *path, int flags)
{
	struct image_open_opts o = { 0 };
	struct err e = ERR_INIT;
	struct image *im;
	int fd = open(path, O_RDWR | O_CREAT | flags, 0600);

	assert_true(fd >= 0);
	assert_ok(raw_open(fd, path, &o, &im, &e), &e);
	return im;
}

static void test_raw__odd_size_and_bytes(void **state)
{
	struct err e = ERR_INIT;
	struct image *im;
	struct extent x;
	char buf[16];

	(void)state;
	assert_ok(fs_write_atomic("odd.img", "0123456789abc", 13, true, 0600, &e), &e);
	im = open_raw("odd.img", 0);
	assert_int_equal(im->info.virtual_size, 13);
	assert_int_equal(im->info.nstates, 1);
	assert_int_equal(im->info.cluster_size, 0);
	assert_string_equal(im->info.format, "raw");
	assert_ok(image_next_extent(im, 0, 3, UINT64_MAX, &x, &e), &e);
	assert_true(x.kind == EXTENT_DATA && x.len == 10 && x.origin.host == 3 && !x.origin.compressed);
	assert_ok(image_pread(im, 0, buf, 10, 3, &e), &e);
	assert_memory_equal(buf, "3456789abc", 10);
	assert_err(image_pread(im, 0, buf, 11, 3, &e), ERR_INVALID, &e);
	assert_err(image_next_extent(im, 0, 13, 1, &x, &e), ERR_INVALID, &e);
	image_advise(im, 0, 0, 13, true);
	image_advise(im, 0, 0, 13, false);
	image_close(im);
}

static void test_raw__empty(void **state)
{
	struct err e = ERR_INIT;
	struct image *im = open_raw("empty.img", O_TRUNC);
	struct extent x;

	(void)state;
	assert_int_equal(im->info.virtual_size, 0);
	assert_err(image_next_extent(im, 0, 0, 1, &x, &e), ERR_INVALID, &e);
	image_close(im);
}

static void test_raw__holes(void **state)
{
	struct err e = ERR_INIT;
	struct image *im = open_raw("holes.img", O_TRUNC);
	struct extent x;
	uint64_t data = 0;

	(void)state;
	image_close(im);
	assert_int_equal(truncate("holes.img", 64 * MIB + 5), 0);
	im = open_raw("holes.img", 0);
	assert_ok(fs_pwrite_full(im->file.fd, "x", 1, 32 * MIB, &e), &e);
	for (uint64_t off = 0; off < im->info.virtual_size; off += x.len) {
		assert_ok(image_next_extent(im, 0, off, UINT64_MAX, &x, &e), &e);
		if (x.kind == EXTENT_DATA) {
			assert_true(x.start <= 32 * MIB && x.start + x.len > 32 * MIB && x.origin.host == x.start);
			data += x.len;
		}
	}
	assert_true(data > 0 && data <= 2 * MIB);	/* a file system without holes would say 64 MiB */
	image_close(im);
}

static void test_raw__changed(void **state)
{
	struct err e = ERR_INIT;
	struct image *im;
	char buf[100] = "content";

	(void)state;
	assert_ok(fs_write_atomic("c.img", buf, 100, true, 0600, &e), &e);
	im = open_raw("c.img", 0);
	assert_ok(image_check_unchanged(im, &e), &e);
	assert_int_equal(truncate("c.img", 50), 0);
	assert_err(image_check_unchanged(im, &e), ERR_CHANGED, &e);
	assert_int_equal(image_pread(im, 0, buf, 100, 0, &e), ERR_CHANGED);
	assert_has(e.cause, "file ends at 50");
	image_close(im);

	assert_ok(fs_write_atomic("c.img", buf, 100, true, 0600, &e), &e);
	im = open_raw("c.img", 0);
	usleep(20000);
	assert_ok(fs_pwrite_full(im->file.fd, "y", 1, 0, &e), &e);
	assert_err(image_check_unchanged(im, &e), ERR_CHANGED, &e);
	image_close(im);

	im = open_raw("c.img", 0);
	usleep(20000);
	assert_int_equal(unlink("c.img"), 0);
	assert_err(image_check_unchanged(im, &e), ERR_CHANGED, &e);
	image_close(im);
}

/* Size decides the digest, nothing else: it must never pass for a proof of content. */
static void test_raw__digest(void **state)
{
	struct err e = ERR_INIT;
	uint8_t a[32], b[32], c[32];
	struct image *im;

	(void)state;
	assert_ok(fs_write_atomic("d1.img", "aa", 2, true, 0600, &e), &e);
	assert_ok(fs_write_atomic("d2.img", "bb", 2, true, 0600, &e), &e);
	assert_ok(fs_write_atomic("d3.img", "bbb", 3, true, 0600, &e), &e);
	im = open_raw("d1.img", 0);
	assert_ok(image_state_digest(im, 0, a, &e), &e);
	image_close(im);
	im = open_raw("d2.img", 0);
	assert_ok(image_state_digest(im, 0, b, &e), &e);
	image_close(im);
	im = open_raw("d3.img", 0);
	assert_ok(image_state_digest(im, 0, c, &e), &e);
	image_close(im);
	assert_memory_equal(a, b, 32);
	assert_memory_not_equal(a, c, 32);
}

static void test_raw__no_file(void **state)
{
	struct image_open_opts o = { 0 };
	struct err e = ERR_INIT;
	struct image *im;
	int fd = open(".", O_RDONLY), p[2];

	(void)state;
	assert_err(raw_open(fd, ".", &o, &im, &e), ERR_INVALID, &e);
	close(fd);
	assert_int_equal(pipe(p), 0);
	assert_err(raw_open(p[0], "pipe", &o, &im, &e), ERR_INVALID, &e);
	close(p[0]);
	close(p[1]);
	fd = open("/dev/zero", O_RDONLY);
	assert_int_equal(raw_open(fd, "/dev/zero", &o, &im, &e), ERR_INVALID);
	assert_has(e.cause, "character device");
	close(fd);
}

static uint64_t skipped(int fd, uint64_t off, uint64_t end)
{
	struct err e = ERR_INIT;
	uint64_t data;

	assert_ok(file_skip_hole(&(struct file){ fd, 0, UINT64_MAX }, off, end, &data, &e), &e);
	return data;
}

static void test_file__skip_hole(void **state)
{
	int fd = open("holes", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint64_t at;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8 << 20), 0);
	assert_int_equal(pwrite(fd, "x", 1, 4 << 20), 1);
	at = skipped(fd, 0, 8 << 20);
	if (at == 0)
		skip();		/* no holes here */
	assert_int_equal(at, 4 << 20);
	assert_int_equal(skipped(fd, 100, 4 << 20), 4 << 20);	/* the end is where the data begins */
	assert_int_equal(skipped(fd, 100, 1000), 1000);
	assert_int_equal(skipped(fd, (4 << 20) + 1, 8 << 20), (4 << 20) + 1);
	assert_int_equal(skipped(fd, 7 << 20, 8 << 20), 8 << 20);	/* no data behind */
	close(fd);
	assert_int_equal(unlink("holes"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file__skip_hole),
		cmocka_unit_test(test_raw__odd_size_and_bytes),
		cmocka_unit_test(test_raw__empty),
		cmocka_unit_test(test_raw__holes),
		cmocka_unit_test(test_raw__changed),
		cmocka_unit_test(test_raw__digest),
		cmocka_unit_test(test_raw__no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
