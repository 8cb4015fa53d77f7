/* test_archive.c - compressed files and archives: where an image in them is, and reading a raw disk in a stream. */
#include "tests/test.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/archive/source.h"
#include "formats/archive/stream.h"
#include "formats/archive/tar.h"
#include "formats/file.h"

#define DISK_BYTES (40 * MIB + 100)	/* more than a stream keeps */

static int file_with(const void *p, size_t len)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	assert_ok(fs_pwrite_full(fd, p, len, 0, &e), &e);
	return fd;
}

/* What lies at each place of the disk. */
static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off ^ off >> 9 ^ off >> 17);
}

static int gzip_disk(uint64_t size)
{
	CLEANUP(free_ptr) uint8_t *p = malloc(size), *out = malloc(size);
	z_stream z = { .next_out = out, .avail_out = (uInt)size, .next_in = p, .avail_in = (uInt)size };
	int fd;

	assert_non_null(p);
	assert_non_null(out);
	for (uint64_t i = 0; i < size; i++)
		p[i] = byte_at(i);
	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	fd = file_with(out, size - z.avail_out);
	deflateEnd(&z);
	return fd;
}

static struct image *open_disk(int fd, const char *path)
{
	const struct source_opts o = { .temp_dir = "/nonexistent" };
	const struct image_open_opts io = { 0 };
	struct err e = ERR_INIT;
	struct image *im;
	struct source s;

	assert_ok(source_open(fd, path, NULL, "raw", &o, &s, &e), &e);
	assert_ok(source_image(&s, format_find("raw"), path, &io, &o, &im, &e), &e);
	source_done(&s);
	return im;
}

static void expect_bytes(struct image *im, size_t len, uint64_t off)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(len);
	struct err e = ERR_INIT;

	assert_non_null(buf);
	assert_ok(image_pread(im, 0, buf, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], byte_at(off + i));
}

static void test_archive__stream_is_read_out_of_order(void **state)
{
	struct image *im = open_disk(gzip_disk(DISK_BYTES), "d.raw.gz");
	struct extent x;
	struct err e = ERR_INIT;

	(void)state;
	assert_true(im->info.sequential);
	assert_string_equal(im->info.format, "raw");
	assert_string_equal(im->info.wrapping, "gzip");
	assert_true(im->info.virtual_size == DISK_BYTES);
	assert_ok(image_next_extent(im, 0, 5, DISK_BYTES, &x, &e), &e);
	assert_true(x.kind == EXTENT_DATA && x.len == DISK_BYTES - 5);
	expect_bytes(im, MIB, 0);
	expect_bytes(im, MIB, 3 * MIB);		/* ahead of ... */
	expect_bytes(im, MIB, 2 * MIB);		/* ... one that is still kept */
	expect_bytes(im, 20 * MIB, 10 * MIB);	/* more than is kept */
	expect_bytes(im, 4096, 30 * MIB - 4096 - STREAM_KEPT_BYTES / 2);
	expect_bytes(im, 100, DISK_BYTES - 100);
	expect_bytes(im, 100, 0);		/* from the start again */
	image_close(im);
}

static void test_archive__stream_goes_back_so_often(void **state)
{
	struct image *im = open_disk(gzip_disk(STREAM_KEPT_BYTES + MIB), "d.raw.gz");
	struct err e = ERR_INIT;
	uint8_t buf[16];

	(void)state;
	for (unsigned i = 0; i < STREAM_RESTARTS_MAX + 1; i++) {
		expect_bytes(im, 16, 0);
		expect_bytes(im, 16, STREAM_KEPT_BYTES + MIB - 16);
	}
	assert_int_equal(image_pread(im, 0, buf, sizeof(buf), 0, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "backwards");
	image_close(im);
}

static int open_code(int fd, const char *path, const char *format, const struct source_opts *o, struct err *e)
{
	const struct image_open_opts io = { 0 };
	const struct format *f = format ? format_find(format) : NULL;
	struct source s = { .file.fd = -1, .outer = -1 };
	struct image *im;
	int r = source_open(fd, path, NULL, format, o, &s, e);

	if (r == 0 && !f)
		r = source_probe(&s, path, &f, e);
	if (r == 0)
		r = source_image(&s, f, path, &io, o, &im, e);
	if (r == 0)
		image_close(im);
	source_done(&s);
	return r;
}

static void test_archive__bounds(void **state)
{
	const struct source_opts less = { .max_bytes = MIB - 1 }, enough = { .max_bytes = MIB };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(open_code(gzip_disk(MIB), "d.gz", "raw", &less, &e), ERR_NOSPACE);
	assert_has(e.hint, "--max-unpacked");
	assert_ok(open_code(gzip_disk(MIB), "d.gz", "raw", &enough, &e), &e);
	assert_int_equal(open_code(gzip_disk(MIB), "d.gz", "qcow2", &less, &e), ERR_NOSPACE);
	assert_has(e.hint, "--max-unpacked");
	assert_int_equal(open_code(gzip_disk(MIB), "d.gz", "qcow2", &enough, &e), ERR_CORRUPT);	/* it is none */
	assert_int_equal(open_code(gzip_disk(MIB), "d.gz", NULL, &enough, &e), ERR_INVALID);
	assert_has(e.cause, "no known image format");
}

static void test_archive__cancel(void **state)
{
	struct cancel cancel = { 0 };
	const struct source_opts o = { .cancel = &cancel };
	struct err e = ERR_INIT;

	(void)state;
	cancel_request(&cancel);
	assert_int_equal(open_code(gzip_disk(MIB), "d.gz", "raw", &o, &e), ERR_CANCELLED);
	assert_int_equal(open_code(gzip_disk(MIB), "d.gz", "qcow2", &o, &e), ERR_CANCELLED);
}

static void test_archive__kinds_want_name_and_content(void **state)
{
	static const uint8_t gz[] = { 0x1f, 0x8b, 8, 0 }, xz[] = { 0xfd, '7', 'z', 'X', 'Z', 0 };

	(void)state;
	assert_int_equal(decode_kind_of("a.gz", gz, sizeof(gz)), DECODE_GZIP);
	assert_int_equal(decode_kind_of("a.img", gz, sizeof(gz)), DECODE_NONE);
	assert_int_equal(decode_kind_of("a.gz", xz, sizeof(xz)), DECODE_NONE);
	assert_int_equal(decode_kind_of("a.xz", xz, sizeof(xz)), DECODE_XZ);
	assert_int_equal(decode_kind_of("a.xz", xz, sizeof(xz) - 1), DECODE_NONE);
	assert_int_equal(decode_kind_of(".gz", gz, sizeof(gz)), DECODE_NONE);
	assert_int_equal(decode_kind_of(NULL, gz, sizeof(gz)), DECODE_GZIP);
	assert_int_equal(decode_stem("a.raw.gz"), 5);
	assert_int_equal(decode_stem("a.raw"), 5);
}

/* A tar file with members of these names, each with its number as content. */
static int tar_with(int format, const char *const *names, size_t n, size_t *ret_len)
{
	static const size_t room = 1 << 20;
	CLEANUP(free_ptr) uint8_t *out = calloc(1, room);
	struct archive *a = archive_write_new();
	size_t used = 0;

	assert_int_equal(archive_write_set_format(a, format), ARCHIVE_OK);
	assert_int_equal(archive_write_open_memory(a, out, room, &used), ARCHIVE_OK);
	for (size_t i = 0; i < n; i++) {
		struct archive_entry *x = archive_entry_new();

		archive_entry_set_pathname(x, names[i]);
		archive_entry_set_filetype(x, names[i][0] == '-' ? AE_IFDIR : AE_IFREG);
		archive_entry_set_perm(x, 0644);
		archive_entry_set_size(x, names[i][0] == '-' ? 0 : 1000);
		assert_int_equal(archive_write_header(a, x), ARCHIVE_OK);
		for (size_t k = 0; names[i][0] != '-' && k < 1000; k++)
			assert_int_equal(archive_write_data(a, &(char){ (char)('0' + i) }, 1), 1);
		archive_entry_free(x);
	}
	assert_int_equal(archive_write_free(a), ARCHIVE_OK);
	*ret_len = used;
	return file_with(out, used);
}

static void test_archive__members_lie_where_it_says(void **state)
{
	static const char *const names[] = { "one", "-folder", "../../etc/passwd", "./two", "one" };
	static const int formats[] = { ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, ARCHIVE_FORMAT_TAR_GNUTAR };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct err e = ERR_INIT;
		struct tar t;
		uint8_t p[512], buf[1000];
		size_t len, got;
		int fd = tar_with(formats[i], names, 5, &len);

		assert_ok(fs_pread(fd, p, sizeof(p), 0, &got, &e), &e);
		assert_true(tar_looks(p, got));
		p[0] ^= 1;
		assert_false(tar_looks(p, got));	/* its checksum */
		assert_ok(tar_list(&(struct file){ fd, 0, len }, &t, &e), &e);
		assert_int_equal(t.members.n, 4);
		assert_string_equal(t.members.p[1].name, "../../etc/passwd");	/* a name is a name */
		assert_ptr_equal(tar_find(&t, "two"), &t.members.p[2]);
		assert_ptr_equal(tar_find(&t, "one"), &t.members.p[3]);		/* the last, as tar has it */
		assert_null(tar_find(&t, "-folder"));
		for (size_t k = 0; k < 4; k++) {
			assert_ok(fs_pread_full(fd, buf, 1000, t.members.p[k].offset, &e), &e);
			assert_int_equal(t.members.p[k].size, 1000);
			for (size_t b = 0; b < 1000; b++)
				assert_int_equal(buf[b], "0234"[k]);
		}
		tar_done(&t);
		/* every length that cuts a member off is noticed; one between members is an archive without its end */
		for (size_t cut = 600; cut < len; cut += 100) {
			if (tar_list(&(struct file){ fd, 0, cut }, &t, &e) < 0) {
				assert_int_equal(e.code, ERR_CORRUPT);
				continue;
			}
			for (size_t k = 0; k < t.members.n; k++)
				assert_true(t.members.p[k].offset + 1000 <= cut);
			tar_done(&t);
		}
		close(fd);
	}
}

static void test_archive__paths_are_split_where_there_is_no_file(void **state)
{
	char dir[] = "/tmp/test-archive-XXXXXX", path[200];
	CLEANUP(free_ptr) char *file = NULL, *member = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/x.tar", dir);
	assert_ok(fs_write_atomic(path, "x", 1, false, 0600, &e), &e);
	(void)snprintf(path, sizeof(path), "%s//x.tar", dir);	/* a slash too many */
	assert_ok(source_split_path(path, &file, &member, &e), &e);
	assert_string_equal(file, path);
	assert_null(member);
	free(STEAL(file));
	(void)snprintf(path, sizeof(path), "%s/x.tar//a/b", dir);
	assert_ok(source_split_path(path, &file, &member, &e), &e);
	assert_string_equal(member, "a/b");
	free(STEAL(file));
	free(STEAL(member));
	(void)snprintf(path, sizeof(path), "%s//none", dir);	/* a folder has no members */
	assert_ok(source_split_path(path, &file, &member, &e), &e);
	assert_string_equal(file, path);
	assert_null(member);
	(void)snprintf(path, sizeof(path), "%s/x.tar", dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_archive__stream_is_read_out_of_order),
		cmocka_unit_test(test_archive__stream_goes_back_so_often),
		cmocka_unit_test(test_archive__bounds),
		cmocka_unit_test(test_archive__cancel),
		cmocka_unit_test(test_archive__kinds_want_name_and_content),
		cmocka_unit_test(test_archive__members_lie_where_it_says),
		cmocka_unit_test(test_archive__paths_are_split_where_there_is_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
