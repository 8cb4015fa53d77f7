/* Which format a file is: what is recognised, what is refused and in which words, and how a source is written. */
#include "tests/test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "formats/formats.h"
#include "tests/support/qimage.h"

struct bytes {
	uint64_t at;
	const char *p;
	size_t len;
};

static int probe(uint64_t size, const struct bytes *b, size_t n, const struct format **ret, struct err *e)
{
	int fd = memfd_create("probe", MFD_CLOEXEC), r;
	struct err we = ERR_INIT;

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	for (size_t i = 0; i < n; i++)
		assert_ok(fs_pwrite_full(fd, b[i].p, b[i].len, b[i].at, &we), &we);
	r = format_probe(fd, "dir/disk.img", ret, e);
	close(fd);
	return r;
}

#define QCOW2 { 0, "QFI\xfb\0\0\0\3", 8 }

static void test_probe__qcow2(void **state)
{
	const struct bytes b[] = { QCOW2 };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(probe(100000, b, 1, &f, &e), &e);
	assert_string_equal(f->name, "qcow2");
	assert_ok(probe(8, b, 1, &f, &e), &e);		/* what is wrong with it, its reader says better */
}

static void test_probe__qcow(void **state)
{
	const struct bytes b[] = { { 0, "QFI\xfb\0\0\0\1", 8 }, { 510, "\x55\xaa", 2 } };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(probe(100000, b, 1, &f, &e), &e);
	assert_string_equal(f->name, "qcow");
	assert_int_equal(probe(100000, b, 2, &f, &e), ERR_INVALID);
	assert_has(e.hint, "raw:dir/disk.img or qcow:dir/disk.img");
}

static void test_probe__vmdk(void **state)
{
	static const struct bytes rows[] = {
		{ 0, "KDMV", 4 }, { 0, "COWD", 4 }, { 0, "\xbe\xba\xfe\xca\0\0\0\0", 8 },
		{ 0, "\r\n \n# Disk DescriptorFile\r\nversion=1\r\n", 39 },
	};
	struct bytes both[2] = { [1] = { 510, "\x55\xaa", 2 } };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_ok(probe(100000, &rows[i], 1, &f, &e), &e);
		assert_string_equal(f->name, "vmdk");
		both[0] = rows[i];
		assert_int_equal(probe(100000, both, 2, &f, &e), ERR_INVALID);
		assert_has(e.cause, "ambiguous");
	}
}

static void test_probe__nothing_is_not_raw(void **state)
{
	const struct bytes mbr[] = { { 510, "\x55\xaa", 2 } };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(probe(100000, NULL, 0, &f, &e), ERR_INVALID);
	assert_has(e.hint, "raw:dir/disk.img");
	assert_int_equal(probe(0, NULL, 0, &f, &e), ERR_INVALID);
	assert_has(e.hint, "raw:dir/disk.img");
	assert_int_equal(probe(100000, mbr, 1, &f, &e), ERR_INVALID);
	assert_has(e.cause, "MBR");
	assert_has(e.hint, "raw:dir/disk.img");
}

static void test_probe__ambiguous(void **state)
{
	static const struct bytes other[] = {
		{ 510, "\x55\xaa", 2 },
		{ 512, "EFI PART", 8 },
		{ 4096, "EFI PART", 8 },
		{ 32768, "\1CD001", 6 },
		{ 64, "\x7f\x10\xda\xbe", 4 },		/* and a VDI */
	};
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		const struct bytes b[] = { QCOW2, other[i] };

		assert_int_equal(probe(100000, b, 2, &f, &e), ERR_INVALID);
		assert_has(e.cause, "ambiguous");
		assert_has(e.hint, "raw:dir/disk.img or qcow2:dir/disk.img");
	}
}

static void test_probe__luks_inside_vdi(void **state)
{
	const struct bytes b[] = { { 0, "LUKS\xba\xbe", 6 }, { 64, "\x7f\x10\xda\xbe", 4 } };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(probe(100000, b, 2, &f, &e), ERR_INVALID);
	assert_has(e.cause, "ambiguous");
}

static void test_probe__known_by_sight(void **state)
{
	static const struct {
		struct bytes b;
		const char *name;
	} rows[] = {
		{ { 0, "QFI\xfb\0\0\0\4", 8 }, "a newer qcow image" },
		{ { 64, "\x7f\x10\xda\xbe\0\0\2", 7 }, "a newer VDI image" },
		{ { 0, "QED\0", 4 }, "QED" },
		{ { 0, "WithoutFreeSpace", 16 }, "Parallels" },
		{ { 0, "WithouFreSpacExt", 16 }, "Parallels" },
		{ { 0, "LUKS\xba\xbe", 6 }, "LUKS" },
	};
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(probe(100000, &rows[i].b, 1, &f, &e), ERR_UNSUPPORTED);
		assert_has(e.cause, rows[i].name);
		assert_true(e.hint[0]);
	}
}

static void test_probe__tar(void **state)
{
	const struct bytes tar = { 257, "ustar", 5 };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(probe(100000, &tar, 1, &f, &e), ERR_INVALID);
	assert_has(e.cause, "tar archive");
	assert_has(e.hint, "//MEMBER");
}

static void test_probe__vhd_and_vhdx(void **state)
{
	const struct bytes vhd[] = { { 0, "conectix", 8 }, { 510, "\x55\xaa", 2 } }, vhdx = { 0, "vhdxfile", 8 };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(probe(100000, &vhdx, 1, &f, &e), &e);
	assert_string_equal(f->name, "vhdx");
	assert_ok(probe(100000, vhd, 1, &f, &e), &e);
	assert_string_equal(f->name, "vhd");
	assert_int_equal(probe(100000, vhd, 2, &f, &e), ERR_INVALID);	/* no dynamic one has a boot sector there */
	assert_has(e.cause, "ambiguous");
}

static void seal_footer(uint8_t *footer, size_t len)
{
	uint32_t sum = 0;

	put_be32(footer + 64, 0);
	for (size_t i = 0; i < len; i++)
		sum += footer[i];
	put_be32(footer + 64, ~sum);
}

/* A fixed VHD begins with the guest's MBR, and is known by its footer alone. */
static void test_probe__fixed_vhd(void **state)
{
	uint8_t footer[512] = "conectix";
	const struct bytes b[] = { { 510, "\x55\xaa", 2 }, { 100000 - 512, (const char *)footer, 512 } };
	const struct bytes old[] = { { 510, "\x55\xaa", 2 }, { 100000 - 511, (const char *)footer, 511 } };
	const struct bytes two[] = { { 0, "QFI\xfb\0\0\0\3", 8 }, { 100000 - 512, (const char *)footer, 512 } };
	const struct format *f;
	struct err e = ERR_INIT;

	(void)state;
	put_be32(footer + 60, 2);
	seal_footer(footer, 511);	/* the last byte is 0, and not part of an old footer */
	assert_ok(probe(100000, b, 2, &f, &e), &e);
	assert_string_equal(f->name, "vhd");
	assert_ok(probe(100000, old, 2, &f, &e), &e);
	assert_string_equal(f->name, "vhd");
	assert_int_equal(probe(100000, two, 2, &f, &e), ERR_INVALID);
	assert_has(e.cause, "ambiguous");
	footer[100] = 1;	/* the checksum no longer fits: a guest's own bytes */
	assert_int_equal(probe(100000, b, 2, &f, &e), ERR_INVALID);
	assert_has(e.cause, "MBR");
	/* A differencing one would begin with a copy of its footer: what ends like one is a raw disk's guest's. */
	put_be32(footer + 60, 4);
	seal_footer(footer, 512);
	assert_int_equal(probe(100000, b, 2, &f, &e), ERR_INVALID);
	assert_has(e.cause, "MBR");
}

static void expect_source(const char *arg, const char *disk, const char *format, const char *path)
{
	CLEANUP(free_ptr) char *d = NULL;
	CLEANUP(free_ptr) char *p = NULL;
	const struct format *f = NULL;
	struct err e = ERR_INIT;

	assert_ok(format_parse_source(arg, &d, &f, &p, &e), &e);
	if (!!d != !!disk || (d && strcmp(d, disk) != 0) || !!f != !!format || (f && strcmp(f->name, format) != 0) ||
	    strcmp(p, path) != 0)
		fail_msg("%s: disk %s format %s path %s", arg, d ? d : "-", f ? f->name : "-", p);
}

static void test_source__parts(void **state)
{
	(void)state;
	expect_source("web.qcow2", NULL, NULL, "web.qcow2");
	expect_source("/a/b", NULL, NULL, "/a/b");
	expect_source("raw:/a/b", NULL, "raw", "/a/b");
	expect_source("vda=/a/b", "vda", NULL, "/a/b");
	expect_source("vda=raw:/a/b", "vda", "raw", "/a/b");
	expect_source("vda=qcow2:b", "vda", "qcow2", "b");
	expect_source("./raw:b", NULL, NULL, "./raw:b");
	expect_source("./a=b", NULL, NULL, "./a=b");
	expect_source("/x/vda=raw:b", NULL, NULL, "/x/vda=raw:b");
	expect_source("other:b", NULL, NULL, "other:b");
	expect_source("vda=other:b", "vda", NULL, "other:b");
	expect_source("my disk=b", NULL, NULL, "my disk=b");
	expect_source("raw:raw:b", NULL, "raw", "raw:b");
	expect_source("RAW:b", NULL, NULL, "RAW:b");
}

static void test_source__empty_path(void **state)
{
	static const char *const bad[] = { "", "raw:", "vda=", "vda=raw:" };
	const struct format *f;
	struct err e = ERR_INIT;
	char *d, *p;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_err(format_parse_source(bad[i], &d, &f, &p, &e), ERR_INVALID, &e);
}

static void test_registry(void **state)
{
	(void)state;
	assert_string_equal(format_find("raw")->name, "raw");
	assert_null(format_find("raw")->probe);
	assert_string_equal(format_find("qcow")->name, "qcow");
	assert_null(format_find("qco"));
	assert_null(format_find(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe__qcow2),
		cmocka_unit_test(test_probe__qcow),
		cmocka_unit_test(test_probe__vmdk),
		cmocka_unit_test(test_probe__nothing_is_not_raw),
		cmocka_unit_test(test_probe__ambiguous),
		cmocka_unit_test(test_probe__luks_inside_vdi),
		cmocka_unit_test(test_probe__known_by_sight),
		cmocka_unit_test(test_probe__tar),
		cmocka_unit_test(test_probe__vhd_and_vhdx),
		cmocka_unit_test(test_probe__fixed_vhd),
		cmocka_unit_test(test_source__parts),
		cmocka_unit_test(test_source__empty_path),
		cmocka_unit_test(test_registry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
