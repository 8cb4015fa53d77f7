/* Opening qcow2 images: every field of header, extensions and tables, right and wrong. */
#include "tests/test.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/qimage.h"

#define CB 12		/* cluster bits of the base image */
#define CS 4096u
#define DISK (5 * MIB + 300)	/* 3 L2 tables, no cluster multiple, no sector multiple */

/* A version 3 image with data, a snapshot, a bitmap. */
static void base_image(struct qimage *q)
{
	uint8_t ext[24] = { 0 }, dir[32] = { 0 };
	uint64_t table, at;

	qimage_init(q, 3, CB, DISK, false, 2);
	(void)qimage_data(q, 0, 1);
	(void)qimage_data(q, 4 * MIB, 2);
	qimage_snapshot(q, "1", "one", DISK, 100, 16);
	(void)qimage_data(q, CS, 3);
	table = qimage_cluster(q, NULL, CS);
	at = qimage_cluster(q, NULL, CS);
	qimage_be64(q, table, at);
	put_be64(dir, table);
	put_be32(dir + 8, 1);
	put_be32(dir + 12, 2);
	dir[16] = 1;
	dir[17] = 16;
	put_be16(dir + 18, 4);
	memcpy(dir + 24, "bmap", 4);
	at = qimage_cluster(q, dir, sizeof(dir));
	put_be32(ext, 1);
	put_be64(ext + 8, sizeof(dir));
	put_be64(ext + 16, at);
	qimage_extension(q, QIMAGE_EXT_BITMAPS, ext, sizeof(ext));
	qimage_be64(q, 88, 1);
	(void)qimage_append(q, NULL, (size_t)round_up(q->len, CS) - q->len);
}

static void expect(const struct qimage *q, int code, const char *text, const char *what)
{
	struct err e = ERR_INIT;
	struct image *im = NULL;
	char buf[2048];
	int r = qimage_open(q, false, &im, &e);

	if (r == 0)
		image_close(im);
	if (r != code)
		fail_msg("%s: %s (%s), wanted %s", what, err_code_name(r), err_text(&e, buf, sizeof(buf)),
			 err_code_name(code));
	if (code && !strstr(err_text(&e, buf, sizeof(buf)), text))
		fail_msg("%s: \"%s\" lacks \"%s\"", what, buf, text);
	if (code == ERR_CORRUPT)
		assert_true(e.hint[0]);
}

static void test_open__info(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;

	(void)state;
	base_image(&q);
	assert_ok(qimage_open(&q, false, &im, &e), &e);
	assert_string_equal(im->info.format, "qcow2");
	assert_int_equal(im->info.version, 3);
	assert_int_equal(im->info.virtual_size, DISK);
	assert_int_equal(im->info.cluster_size, CS);
	assert_int_equal(im->info.nstates, 2);
	assert_int_equal(im->info.refcount_bits, 16);
	assert_string_equal(im->info.compression, "deflate");
	assert_int_equal(im->info.nbitmaps, 1);
	assert_string_equal(im->info.bitmaps[0].name, "bmap");
	assert_int_equal(im->info.bitmaps[0].granularity, 65536);
	assert_true(im->info.bitmaps[0].auto_on && !im->info.bitmaps[0].in_use);
	assert_int_equal(im->info.features, IMAGE_BITMAPS);
	assert_string_equal(image_state(im, 1)->name, "one");
	assert_string_equal(image_state(im, 1)->id, "1");
	assert_int_equal(image_state(im, 1)->vm_state_bytes, 100);
	assert_int_equal(image_state(im, 1)->date_ns, 1700000000000000005);
	assert_int_equal(image_state(im, 1)->vm_clock_ns, 77);
	image_close(im);
	qimage_be64(&q, 88, 0);		/* somebody wrote who knows no bitmaps */
	assert_ok(qimage_open(&q, false, &im, &e), &e);
	assert_int_equal(im->info.nbitmaps, 0);
	image_close(im);
	qimage_done(&q);
}

struct patch {
	const char *what;
	uint64_t at;
	unsigned width;
	uint64_t value;
	int code;
	const char *text;
};

static void apply(struct qimage *q, const struct patch *p)
{
	if (p->width == 8)
		qimage_be64(q, p->at, p->value);
	else if (p->width == 4)
		qimage_be32(q, p->at, (uint32_t)p->value);
	else
		q->p[p->at] = (uint8_t)p->value;
}

static const struct patch header_patches[] = {
	{ "magic", 0, 4, 0x514649fa, ERR_CORRUPT, "no qcow2 header" },
	{ "version 1", 4, 4, 1, ERR_UNSUPPORTED, "version 1" },
	{ "version 4", 4, 4, 4, ERR_UNSUPPORTED, "version 4" },
	{ "backing in the header", 8, 8, 80, ERR_CORRUPT, "backing file name" },
	{ "backing behind the cluster", 8, 8, CS + 8, ERR_CORRUPT, "backing file name" },
	{ "backing far away", 8, 8, UINT64_MAX, ERR_CORRUPT, "backing file name" },
	{ "cluster bits 8", 20, 4, 8, ERR_CORRUPT, "cluster bits" },
	{ "cluster bits 22", 20, 4, 22, ERR_CORRUPT, "cluster bits" },
	{ "cluster bits 64", 20, 4, 64, ERR_CORRUPT, "cluster bits" },
	{ "size beyond L1", 24, 8, 11 * MIB, ERR_CORRUPT, "too small for a disk" },
	{ "size 2^64-1", 24, 8, UINT64_MAX, ERR_CORRUPT, "too small for a disk" },
	{ "LUKS", 32, 4, 2, ERR_CORRUPT, "no extension says where its header is" },
	{ "unknown encryption", 32, 4, 3, ERR_CORRUPT, "encryption method" },
	{ "L1 of 2^32-1", 36, 4, UINT32_MAX, ERR_CORRUPT, "32 MiB" },
	{ "L1 too small", 36, 4, 2, ERR_CORRUPT, "too small" },
	{ "L1 to the end and beyond", 36, 4, 4 * MIB, ERR_CORRUPT, "outside the file" },
	{ "L1 unaligned", 40, 8, 3 * CS + 8, ERR_CORRUPT, "not aligned" },
	{ "L1 outside", 40, 8, (uint64_t)1 << 40, ERR_CORRUPT, "outside the file" },
	{ "L1 near 2^64", 40, 8, UINT64_MAX - CS + 1, ERR_CORRUPT, "outside the file" },
	{ "L1 over the header", 40, 8, 0, ERR_CORRUPT, "overlaps header" },
	{ "L1 over the refcount table", 40, 8, CS, ERR_CORRUPT, "overlaps" },
	{ "refcount table unaligned", 48, 8, CS + 512, ERR_CORRUPT, "not aligned" },
	{ "refcount table outside", 48, 8, (uint64_t)1 << 50, ERR_CORRUPT, "outside the file" },
	{ "refcount table over the header", 48, 8, 0, ERR_CORRUPT, "overlaps" },
	{ "no refcount table", 56, 4, 0, ERR_CORRUPT, "refcount table of 0" },
	{ "refcount table over 8 MiB", 56, 4, 2049, ERR_CORRUPT, "refcount table of 2049" },
	{ "refcount table 2^32-1", 56, 4, UINT32_MAX, ERR_CORRUPT, "refcount table of" },
	{ "refcount table over L1", 56, 4, 3, ERR_CORRUPT, "overlaps" },
	{ "65537 snapshots", 60, 4, 65537, ERR_CORRUPT, "65536 is the limit" },
	{ "more snapshots than bytes", 60, 4, 60000, ERR_CORRUPT, "don't fit" },
	{ "one snapshot too many", 60, 4, 2, ERR_CORRUPT, "" },
	{ "snapshot table unaligned", 64, 8, 8, ERR_CORRUPT, "not aligned" },
	{ "snapshot table outside", 64, 8, (uint64_t)1 << 40, ERR_CORRUPT, "outside the file" },
	{ "snapshot table is the header", 64, 8, 0, ERR_CORRUPT, "" },
	{ "corrupt bit", 72, 8, 2, ERR_CORRUPT, "marked corrupt" },
	{ "unknown feature", 72, 8, 1 << 5, ERR_UNSUPPORTED, "bit 5 (without a name)" },
	{ "unknown feature 63", 72, 8, (uint64_t)1 << 63, ERR_UNSUPPORTED, "bit 63" },
	{ "extended L2 with small clusters", 72, 8, 16, ERR_CORRUPT, "16384" },
	{ "data file without a name", 72, 8, 4, ERR_CORRUPT, "" },
	{ "compression bit without type", 72, 8, 8, ERR_CORRUPT, "contradicts" },
	{ "raw data without data file", 88, 8, 2, ERR_CORRUPT, "raw external data" },
	{ "refcount order", 96, 4, 7, ERR_CORRUPT, "refcount order" },
	{ "header length 96", 100, 4, 96, ERR_CORRUPT, "length 96" },
	{ "header length 108", 100, 4, 108, ERR_CORRUPT, "length 108" },
	{ "header length 2^31", 100, 4, 0x80000000, ERR_CORRUPT, "length" },
	{ "header longer than the cluster", 100, 4, CS + 8, ERR_CORRUPT, "length" },
	{ "compression type without bit", 104, 1, 1, ERR_CORRUPT, "contradicts" },
	{ "compression type 2", 104, 1, 2, ERR_UNSUPPORTED, "compression type 2" },
	{ "extension past the end", 116, 4, CS, ERR_CORRUPT, "reaches past" },
	{ "extension of 2^32-1", 116, 4, UINT32_MAX, ERR_CORRUPT, "reaches past" },
	{ "bitmaps extension of 16 bytes", 116, 4, 16, ERR_CORRUPT, "bitmaps extension" },
	{ "no bitmaps", 120, 4, 0, ERR_CORRUPT, "0 bitmaps" },
	{ "70000 bitmaps", 120, 4, 70000, ERR_CORRUPT, "70000 bitmaps" },
	{ "bitmaps reserved", 124, 4, 1, ERR_CORRUPT, "bitmaps extension" },
	{ "bitmap directory of 2^60", 128, 8, (uint64_t)1 << 60, ERR_CORRUPT, "bitmap directory" },
	{ "bitmap directory of 8 bytes", 128, 8, 8, ERR_CORRUPT, "1 bitmaps in a directory of 8" },
	{ "bitmap directory unaligned", 136, 8, 8, ERR_CORRUPT, "bitmap directory" },
	{ "bitmap directory over L1", 136, 8, 3 * CS, ERR_CORRUPT, "" },
	{ "refcount block unaligned", CS, 8, 2 * CS + 512, ERR_CORRUPT, "not aligned" },
	{ "refcount block outside", CS, 8, (uint64_t)1 << 40, ERR_CORRUPT, "outside" },
	{ "refcount block in the header's place", CS + 8, 8, 1, ERR_CORRUPT, "not aligned" },
	{ "refcount block over L1", CS + 8, 8, 3 * CS, ERR_CORRUPT, "overlaps L1 table" },
	{ "refcount block twice", CS + 8, 8, 2 * CS, ERR_CORRUPT, "overlaps another table" },
	{ "L1 entry reserved low bits", 3 * CS, 8, 4 * CS | 1, ERR_CORRUPT, "reserved bits" },
	{ "L1 entry reserved high bits", 3 * CS, 8, (uint64_t)1 << 56 | 4 * CS, ERR_CORRUPT, "reserved bits" },
	{ "L2 table unaligned", 3 * CS, 8, 4 * CS + 512, ERR_CORRUPT, "not aligned" },
	{ "L2 table outside", 3 * CS, 8, (uint64_t)1 << 40, ERR_CORRUPT, "outside the file" },
	{ "L2 table is L1", 3 * CS, 8, 3 * CS, ERR_CORRUPT, "overlaps L1 table" },
	{ "L2 table is the refcount table", 3 * CS, 8, CS, ERR_CORRUPT, "overlaps refcount table" },
	{ "L2 table is a refcount block", 3 * CS, 8, 2 * CS, ERR_CORRUPT, "overlaps another table" },
	{ "L2 table used twice", 3 * CS + 8, 8, 4 * CS, ERR_CORRUPT, "used twice" },
};

static void test_open__header_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(header_patches) / sizeof(header_patches[0]); i++) {
		struct qimage q;

		base_image(&q);
		expect(&q, 0, "", "base");
		apply(&q, &header_patches[i]);
		expect(&q, header_patches[i].code, header_patches[i].text, header_patches[i].what);
		qimage_done(&q);
	}
}

/* Offsets within the only snapshot entry, and the only bitmap directory entry. */
static const struct patch snapshot_patches[] = {
	{ "L1 unaligned", 0, 8, 8, ERR_CORRUPT, "not aligned" },
	{ "L1 outside", 0, 8, (uint64_t)1 << 45, ERR_CORRUPT, "outside" },
	{ "L1 is the active one", 0, 8, 3 * CS, ERR_CORRUPT, "overlaps" },
	{ "L1 is the header", 0, 8, 0, ERR_CORRUPT, "overlaps" },
	{ "L1 of 2^32-1", 8, 4, UINT32_MAX, ERR_CORRUPT, "32 MiB" },
	{ "L1 too small", 8, 4, 2, ERR_CORRUPT, "too small for a disk" },
	{ "L1 too small for the machine", 8, 4, 3, ERR_CORRUPT, "machine state" },
	{ "id past the end", 12, 4, 0xffffffff, ERR_CORRUPT, "ends inside" },
	{ "nanoseconds", 20, 4, 1000000000, ERR_CORRUPT, "nanoseconds" },
	{ "extra 1025", 36, 4, 1025, ERR_CORRUPT, "1024 is the limit" },
	{ "extra 2^32-1", 36, 4, UINT32_MAX, ERR_CORRUPT, "1024 is the limit" },
	{ "extra 8 in version 3", 36, 4, 8, ERR_CORRUPT, "needs 16" },
	{ "machine state 2^64-1", 40, 8, UINT64_MAX, ERR_CORRUPT, "machine state" },
	{ "size 2^64-1", 48, 8, UINT64_MAX, ERR_CORRUPT, "too small for a disk" },
	{ "NUL in the name", 57, 1, 0, ERR_CORRUPT, "NUL" },
};

static const struct patch bitmap_patches[] = {
	{ "table unaligned", 0, 8, 8, ERR_CORRUPT, "table of 1 entries" },
	{ "table outside", 0, 8, (uint64_t)1 << 45, ERR_CORRUPT, "table of 1 entries" },
	{ "table is L1", 0, 8, 3 * CS, ERR_CORRUPT, "overlaps" },
	{ "table of 2^32-1", 8, 4, UINT32_MAX, ERR_CORRUPT, "table of 4294967295" },
	{ "type 2", 16, 1, 2, ERR_CORRUPT, "type 2" },
	{ "granularity 2^8", 17, 1, 8, ERR_CORRUPT, "granularity" },
	{ "granularity 2^32", 17, 1, 32, ERR_CORRUPT, "granularity" },
	{ "no name", 18, 2, 0, ERR_CORRUPT, "name of 0" },
	{ "extra past the end", 20, 4, 1000, ERR_CORRUPT, "ends inside" },
	{ "NUL in the name", 25, 1, 0, ERR_CORRUPT, "NUL" },
};

static void patch_entry(uint64_t (*place)(const struct qimage *), const struct patch *p, const char *kind)
{
	struct patch at = *p;
	struct qimage q;
	char what[80];

	base_image(&q);
	at.at += place(&q);
	if (at.width == 2) {
		q.p[at.at] = (uint8_t)(at.value >> 8);
		q.p[at.at + 1] = (uint8_t)at.value;
	} else {
		apply(&q, &at);
	}
	snprintf(what, sizeof(what), "%s: %s", kind, p->what);
	expect(&q, p->code, p->text, what);
	qimage_done(&q);
}

static uint64_t snapshot_place(const struct qimage *q) { return qimage_get64(q, 64); }
static uint64_t directory_place(const struct qimage *q) { return qimage_get64(q, 136); }

static void test_open__snapshot_and_bitmap_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(snapshot_patches) / sizeof(snapshot_patches[0]); i++)
		patch_entry(snapshot_place, &snapshot_patches[i], "snapshot");
	for (size_t i = 0; i < sizeof(bitmap_patches) / sizeof(bitmap_patches[0]); i++)
		patch_entry(directory_place, &bitmap_patches[i], "bitmap");
}

static void test_open__bitmap_table(void **state)
{
	static const struct patch rows[] = {
		{ "reserved", 0, 8, (uint64_t)1 << 60, ERR_CORRUPT, "table of bitmap 0" },
		{ "ones and an offset", 0, 8, 4 * CS | 1, ERR_CORRUPT, "table of bitmap 0" },
		{ "outside", 0, 8, (uint64_t)1 << 40, ERR_CORRUPT, "outside" },
		{ "over an L2 table", 0, 8, 4 * CS, ERR_CORRUPT, "overlaps" },
		{ "over the L1 table", 0, 8, 3 * CS, ERR_CORRUPT, "overlaps L1" },
		{ "all ones", 0, 8, 1, 0, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct qimage q;

		base_image(&q);
		qimage_be64(&q, qimage_get64(&q, directory_place(&q)), rows[i].value);
		expect(&q, rows[i].code, rows[i].text, rows[i].what);
		qimage_done(&q);
	}
}

/* An image cut anywhere either opens (what is missing are data, or nothing) or says so; it never does more harm. */
static void test_open__truncated_anywhere(void **state)
{
	struct qimage q;
	size_t whole, opened = 0;

	(void)state;
	base_image(&q);
	whole = q.len;
	for (q.len = 0; q.len < whole; q.len += q.len < 200 ? 1 : 61) {
		struct err e = ERR_INIT;
		struct image *im;
		char text[64];

		if (qimage_open(&q, false, &im, &e) < 0) {
			assert_int_equal(e.code, ERR_CORRUPT);
			assert_true(e.cause[0] && e.hint[0]);
			continue;
		}
		snprintf(text, sizeof(text), "opened with %zu of %zu bytes", q.len, whole);
		if (q.len < qimage_get64(&q, 136))	/* the directory is the last thing in the file */
			fail_msg("%s", text);
		opened++;
		image_close(im);
	}
	assert_true(opened > 0);
	q.len = whole;
	qimage_done(&q);
}

static void test_open__feature_names(void **state)
{
	uint8_t row[48] = { 0, 9 };
	struct qimage q;

	(void)state;
	qimage_init(&q, 3, CB, DISK, false, 0);
	memcpy(row + 2, "time\033travel", 11);
	qimage_extension(&q, QIMAGE_EXT_FEATURES, row, sizeof(row));
	qimage_be64(&q, 72, 1 << 9 | 1 << 6);
	expect(&q, ERR_UNSUPPORTED, "bit 6 (without a name), bit 9 (time\\x1btravel)", "names");
	qimage_done(&q);
}

static void test_open__extensions(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;

	(void)state;
	qimage_init(&q, 3, CB, DISK, false, 0);
	qimage_extension(&q, 0x12345678, "unknown", 7);
	qimage_backing(&q, "base.raw", "raw");
	assert_ok(qimage_open(&q, false, &im, &e), &e);
	assert_string_equal(im->info.backing, "base.raw");
	assert_string_equal(im->info.backing_format, "raw");
	image_close(im);
	qimage_be32(&q, 16, 1024);
	expect(&q, ERR_CORRUPT, "backing file name", "name of 1024");
	qimage_be32(&q, 16, 8);
	q.p[qimage_get64(&q, 8) + 2] = 0;
	expect(&q, ERR_CORRUPT, "NUL", "NUL in the name");
	qimage_done(&q);

	qimage_init(&q, 3, CB, DISK, false, 0);
	qimage_extension(&q, QIMAGE_EXT_BACKING_FORMAT, "raw", 3);
	qimage_extension(&q, QIMAGE_EXT_BACKING_FORMAT, "raw", 3);
	expect(&q, ERR_CORRUPT, "occurs twice", "twice");
	qimage_done(&q);

	qimage_init(&q, 3, CB, DISK, false, 0);
	qimage_be64(&q, 72, 4);
	expect(&q, ERR_CORRUPT, "its name is missing", "data file");
	qimage_extension(&q, QIMAGE_EXT_DATA_FILE, "disk.bin", 8);
	assert_ok(qimage_open(&q, false, &im, &e), &e);
	assert_string_equal(im->info.data_file, "disk.bin");
	image_close(im);
	qimage_snapshot(&q, "1", "s", DISK, 0, 16);
	expect(&q, ERR_CORRUPT, "snapshots in an image with an external data file", "snapshots");
	qimage_done(&q);
}

static void test_open__dirty_and_corrupt(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;

	(void)state;
	base_image(&q);
	qimage_be64(&q, 72, 1);
	qimage_be64(&q, 80, 1);
	assert_ok(qimage_open(&q, false, &im, &e), &e);
	assert_int_equal(im->info.features, IMAGE_DIRTY | IMAGE_BITMAPS | IMAGE_LAZY_REFCOUNTS);
	image_close(im);
	qimage_be64(&q, 72, 3);
	assert_err(qimage_open(&q, false, &im, &e), ERR_CORRUPT, &e);
	qimage_be64(&q, CS + 8, 3 * CS);	/* and its refcounts are what made it so */
	assert_ok(qimage_open(&q, true, &im, &e), &e);
	assert_true(im->info.features & IMAGE_CORRUPT);
	image_close(im);
	qimage_be64(&q, 3 * CS, (uint64_t)1 << 40);	/* force is no leave to read outside */
	assert_err(qimage_open(&q, true, &im, &e), ERR_CORRUPT, &e);
	qimage_done(&q);
}

static void test_open__version_2(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;

	(void)state;
	qimage_init(&q, 2, CB, DISK, false, 0);
	qimage_backing(&q, "base", NULL);
	qimage_snapshot(&q, "1", "old", 0, 0, 0);
	assert_ok(qimage_open(&q, false, &im, &e), &e);
	assert_int_equal(im->info.version, 2);
	assert_string_equal(im->info.backing, "base");
	assert_null(im->info.backing_format);
	assert_int_equal(image_state(im, 1)->size, DISK);	/* stores none: the image's */
	image_close(im);
	qimage_done(&q);
}

static void test_open__probe(void **state)
{
	struct qimage q;

	(void)state;
	qimage_init(&q, 3, CB, DISK, false, 0);
	assert_int_equal(qcow2_probe(q.p, 4096, NULL, 0, q.len), 100);
	assert_int_equal(qcow2_probe(q.p, 7, NULL, 0, 7), 0);
	q.p[7] = 1;
	assert_int_equal(qcow2_probe(q.p, 4096, NULL, 0, q.len), 0);
	qimage_done(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open__info),
		cmocka_unit_test(test_open__header_fields),
		cmocka_unit_test(test_open__snapshot_and_bitmap_fields),
		cmocka_unit_test(test_open__bitmap_table),
		cmocka_unit_test(test_open__truncated_anywhere),
		cmocka_unit_test(test_open__feature_names),
		cmocka_unit_test(test_open__extensions),
		cmocka_unit_test(test_open__dirty_and_corrupt),
		cmocka_unit_test(test_open__version_2),
		cmocka_unit_test(test_open__probe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
