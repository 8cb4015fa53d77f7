/* Reading qcow2: each kind of cluster, what merges, where data come from, and every way an L2 entry can be wrong. */
#include "tests/test.h"

#include <inttypes.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/cache.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/qimage.h"

static struct image *open_ok(const struct qimage *q)
{
	struct err e = ERR_INIT;
	struct image *im;

	assert_ok(qimage_open(q, false, &im, &e), &e);
	return im;
}

static struct extent extent_at(struct image *im, uint32_t state, uint64_t off)
{
	struct err e = ERR_INIT;
	struct extent x;

	assert_ok(image_next_extent(im, state, off, UINT64_MAX, &x, &e), &e);
	assert_int_equal(x.start, off);
	return x;
}

static void expect_extent(struct image *im, uint32_t state, uint64_t off, uint64_t len, enum extent_kind kind,
			  uint64_t host)
{
	struct extent x = extent_at(im, state, off);

	if (x.len != len || x.kind != kind || (kind == EXTENT_DATA && x.origin.host != host))
		fail_msg("at %" PRIu64 ": len %" PRIu64 " kind %d host %" PRIu64 ", wanted %" PRIu64 " %d %" PRIu64,
			 off, x.len, (int)x.kind, x.origin.host, len, (int)kind, host);
}

static void expect_bytes(struct image *im, uint32_t state, uint64_t off, size_t len, uint8_t fill)
{
	struct err e = ERR_INIT;
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	memset(buf, ~fill, len);
	assert_ok(image_pread(im, state, buf, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		if (buf[i] != fill)
			fail_msg("byte %" PRIu64 " is %u, wanted %u", off + i, buf[i], fill);
	free(buf);
}

static void test_read__kinds(void **state)
{
	struct qimage q;
	struct image *im;
	uint64_t a, b, size = 9 * MIB + 77;

	(void)state;
	qimage_init(&q, 3, 12, size, false, 0);
	a = qimage_data(&q, 0, 0x11);
	b = qimage_data(&q, 4096, 0x22);			/* next in the file too */
	(void)qimage_data(&q, 8192, 0x33);
	qimage_set(&q, 8192, qimage_get64(&q, qimage_entry_at(&q, 8192)) | 1);	/* zero, but keeps its cluster */
	qimage_set(&q, 12288, 1);				/* zero without one */
	(void)qimage_data(&q, 9 * MIB, 0x44);			/* the last, of which 77 bytes count */
	im = open_ok(&q);
	assert_int_equal(b, a + 4096);
	expect_extent(im, 0, 0, 8192, EXTENT_DATA, a);
	expect_extent(im, 0, 5000, 3192, EXTENT_DATA, a + 5000);
	expect_extent(im, 0, 8192, 8192, EXTENT_ZERO, 0);
	expect_extent(im, 0, 16384, 9 * MIB - 16384, EXTENT_HOLE, 0);	/* across L2 tables, there or not */
	expect_extent(im, 0, 9 * MIB, 77, EXTENT_DATA, qimage_get64(&q, qimage_entry_at(&q, 9 * MIB)) & ~QIMAGE_COPIED);
	expect_bytes(im, 0, 0, 4096, 0x11);
	expect_bytes(im, 0, 4096, 4096, 0x22);
	expect_bytes(im, 0, 8192, 1000000, 0);
	expect_bytes(im, 0, 9 * MIB, 77, 0x44);
	image_close(im);
	qimage_done(&q);
}

static void test_read__limit_and_ranges(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	struct extent x;
	uint8_t b[2];

	(void)state;
	qimage_init(&q, 3, 9, 100000, false, 0);
	im = open_ok(&q);
	assert_ok(image_next_extent(im, 0, 100, 50, &x, &e), &e);
	assert_int_equal(x.len, 50);
	assert_err(image_next_extent(im, 0, 100000, 1, &x, &e), ERR_INVALID, &e);
	assert_err(image_next_extent(im, 0, 0, 0, &x, &e), ERR_INVALID, &e);
	assert_ok(image_pread(im, 0, b, 0, 100000, &e), &e);
	assert_ok(image_pread(im, 0, b, 1, 99999, &e), &e);
	assert_err(image_pread(im, 0, b, 2, 99999, &e), ERR_INVALID, &e);
	assert_err(image_pread(im, 0, b, 1, UINT64_MAX, &e), ERR_INVALID, &e);
	assert_err(image_pread_vm_state(im, 0, b, 1, 0, &e), ERR_INVALID, &e);
	image_close(im);
	qimage_done(&q);
}

/* Every cluster size: data here and there, the map and the bytes. */
static void test_read__cluster_sizes(void **state)
{
	(void)state;
	for (unsigned bits = 9; bits <= 21; bits++) {
		uint64_t cs = (uint64_t)1 << bits, size = 40 * cs + 13;
		struct qimage q;
		struct image *im;
		uint64_t host;

		qimage_init(&q, bits % 2 ? 2 : 3, bits, size, false, 0);
		host = qimage_data(&q, 3 * cs, 7);
		(void)qimage_data(&q, 40 * cs, 9);
		im = open_ok(&q);
		assert_int_equal(im->info.cluster_size, cs);
		expect_extent(im, 0, 0, 3 * cs, EXTENT_HOLE, 0);
		expect_extent(im, 0, 3 * cs + 1, cs - 1, EXTENT_DATA, host + 1);
		expect_bytes(im, 0, 3 * cs - 5, 5, 0);
		expect_bytes(im, 0, 3 * cs, cs, 7);
		expect_bytes(im, 0, 40 * cs, 13, 9);
		image_close(im);
		qimage_done(&q);
	}
}

static void test_read__extended(void **state)
{
	uint64_t cs = 65536, sub = 2048, host;
	struct qimage q;
	struct image *im;

	(void)state;
	qimage_init(&q, 3, 16, 10 * cs, true, 0);
	host = qimage_data(&q, 0, 5);
	/* 0-3 hole, 4-15 data, 16-23 zero, then hole */
	qimage_set_bitmap(&q, 0, 0x0000fff0 | (uint64_t)0x00ff0000 << 32);
	qimage_set_bitmap(&q, cs, (uint64_t)0x80000001 << 32);			/* no cluster: zero at both ends */
	(void)qimage_data(&q, 2 * cs, 6);
	im = open_ok(&q);
	assert_int_equal(im->info.features, IMAGE_EXTENDED_L2);
	expect_extent(im, 0, 0, 4 * sub, EXTENT_HOLE, 0);
	expect_extent(im, 0, 4 * sub + 1, 12 * sub - 1, EXTENT_DATA, host + 4 * sub + 1);
	expect_extent(im, 0, 16 * sub, 8 * sub, EXTENT_ZERO, 0);
	expect_extent(im, 0, 24 * sub, 8 * sub, EXTENT_HOLE, 0);
	expect_extent(im, 0, cs, sub, EXTENT_ZERO, 0);
	expect_extent(im, 0, cs + sub, 30 * sub, EXTENT_HOLE, 0);
	expect_extent(im, 0, cs + 31 * sub, sub, EXTENT_ZERO, 0);
	expect_extent(im, 0, 3 * cs, 7 * cs, EXTENT_HOLE, 0);
	expect_bytes(im, 0, 0, 4 * sub, 0);
	expect_bytes(im, 0, 4 * sub, 12 * sub, 5);
	expect_bytes(im, 0, 16 * sub, cs, 0);
	expect_bytes(im, 0, 2 * cs, cs, 6);
	image_close(im);
	qimage_done(&q);
}

static void compressed(bool zstd, unsigned bits)
{
	uint64_t cs = (uint64_t)1 << bits;
	struct qimage q;
	struct image *im;
	struct extent x, y;

	qimage_init(&q, 3, bits, 20 * cs, false, 0);
	if (zstd) {
		qimage_be64(&q, 72, 8);
		q.p[104] = 1;
	}
	for (unsigned i = 0; i < 6; i++)
		qimage_compressed(&q, i * cs, (uint8_t)(10 * i), zstd);	/* the last one ends where the file ends */
	im = open_ok(&q);
	assert_string_equal(im->info.compression, zstd ? "zstd" : "deflate");
	for (unsigned i = 0; i < 6; i++) {
		expect_bytes(im, 0, i * cs, cs / 2, (uint8_t)(10 * i));
		expect_bytes(im, 0, i * cs + cs / 2, cs / 2, (uint8_t)(10 * i + 1));
	}
	x = extent_at(im, 0, cs);
	y = extent_at(im, 0, cs + 100);
	assert_true(x.kind == EXTENT_DATA && x.origin.compressed && x.len == cs && x.origin.inner == 0);
	assert_true(y.origin.host == x.origin.host && y.origin.inner == 100 && y.len == cs - 100);
	image_close(im);
	qimage_done(&q);
}

static void test_read__compressed(void **state)
{
	(void)state;
	for (unsigned bits = 9; bits <= 21; bits += 4) {
		compressed(false, bits);
		compressed(true, bits);
	}
}

static void expect_read_error(const struct qimage *q, uint64_t off, int code, const char *text)
{
	struct err e = ERR_INIT;
	struct image *im = open_ok(q);
	uint8_t b;
	char buf[2048];
	int r = image_pread(im, 0, &b, 1, off, &e);

	if (r != code || !strstr(err_text(&e, buf, sizeof(buf)), text))
		fail_msg("%s (%s), wanted %s with \"%s\"", err_code_name(r), err_text(&e, buf, sizeof(buf)),
			 err_code_name(code), text);
	if (code)
		assert_has(buf, "test.qcow2");
	if (code == ERR_CORRUPT)
		assert_true(e.hint[0]);
	image_close(im);
}

static void test_read__compressed_bad(void **state)
{
	struct qimage q;
	uint64_t entry, host;

	(void)state;
	qimage_init(&q, 3, 16, 10 * 65536, false, 0);
	qimage_compressed(&q, 0, 1, false);
	entry = qimage_get64(&q, qimage_entry_at(&q, 0));
	host = entry & (((uint64_t)1 << 54) - 1);
	q.p[host] ^= 0xff;
	expect_read_error(&q, 0, ERR_CORRUPT, "deflate data");
	q.p[host] ^= 0xff;
	q.len -= 3;		/* cut by the file's end, before the output is full */
	expect_read_error(&q, 0, ERR_CORRUPT, "deflate data");
	q.len = host;		/* or altogether */
	expect_read_error(&q, 0, ERR_CORRUPT, "compressed data outside the file");
	q.len = host + 3;
	qimage_set(&q, 0, entry | QIMAGE_COPIED);
	expect_read_error(&q, 0, ERR_CORRUPT, "bit 63");
	qimage_set(&q, 0, QIMAGE_COMPRESSED | 3 * 65536);
	expect_read_error(&q, 0, ERR_CORRUPT, "lies in metadata");
	qimage_set(&q, 0, QIMAGE_COMPRESSED | (3 * 65536 - 512) | (uint64_t)1 << 54);	/* one more sector: into L1 */
	expect_read_error(&q, 0, ERR_CORRUPT, "lies in metadata");
	qimage_done(&q);

	/* Output of less than a cluster: a whole stream, but too short. */
	qimage_init(&q, 3, 16, 10 * 65536, false, 0);
	host = qimage_cluster(&q, "\x03\x00", 2);
	qimage_set(&q, 0, QIMAGE_COMPRESSED | host);
	expect_read_error(&q, 0, ERR_CORRUPT, "deflate data");
	qimage_done(&q);

	qimage_init(&q, 3, 9, 512, false, 0);
	(void)qimage_append(&q, NULL, 512);
	qimage_set(&q, 0, QIMAGE_COMPRESSED | (uint64_t)1 << 56);
	expect_read_error(&q, 0, ERR_CORRUPT, "compressed cluster with reserved bits");
	qimage_done(&q);
}

static const struct entry_row {
	const char *text;
	uint64_t entry;
	uint32_t version;
} entry_rows[] = {
	{ "reserved bits", (uint64_t)5 * 65536 | 2, 3 },
	{ "reserved bits", (uint64_t)5 * 65536 | 0x100, 3 },
	{ "reserved bits", (uint64_t)1 << 56, 3 },
	{ "reserved bits", (uint64_t)1 << 61, 3 },
	{ "not aligned", (uint64_t)5 * 65536 + 512, 3 },
	{ "not aligned", ((uint64_t)5 * 65536 + 512) | 1, 3 },
	{ "zero flag, which version 2", 1, 2 },
	{ "outside the file", (uint64_t)1 << 40, 3 },
	{ "outside the file", 0x00ffffffffff0000, 3 },
	{ "lies in metadata", (uint64_t)65536, 3 },		/* refcount table */
	{ "lies in metadata", (uint64_t)2 * 65536, 3 },		/* refcount block */
	{ "lies in metadata", (uint64_t)3 * 65536, 3 },		/* L1 table */
	{ "lies in metadata", (uint64_t)4 * 65536, 3 },		/* this very L2 table */
	{ "lies in metadata", (uint64_t)3 * 65536 | 1, 3 },	/* zero, but claims metadata */
};

static void test_read__entry_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(entry_rows) / sizeof(entry_rows[0]); i++) {
		struct qimage q;

		qimage_init(&q, entry_rows[i].version, 16, 10 * 65536, false, 0);
		(void)qimage_data(&q, 65536, 1);
		qimage_set(&q, 0, entry_rows[i].entry);
		expect_read_error(&q, 0, ERR_CORRUPT, entry_rows[i].text);
		expect_read_error(&q, 65536, 0, "");		/* the rest stays readable */
		qimage_done(&q);
	}
}

static void test_read__extended_bad(void **state)
{
	struct qimage q;
	uint64_t host;

	(void)state;
	qimage_init(&q, 3, 16, 10 * 65536, true, 0);
	host = qimage_data(&q, 0, 1);
	qimage_set_bitmap(&q, 0, 1 | (uint64_t)1 << 32);
	expect_read_error(&q, 0, ERR_CORRUPT, "both allocated and zero");
	qimage_set(&q, 0, host | 1);
	expect_read_error(&q, 0, ERR_CORRUPT, "zero flag in an extended entry");
	qimage_set(&q, 0, 0);
	qimage_set_bitmap(&q, 0, 1);
	expect_read_error(&q, 0, ERR_CORRUPT, "allocated subclusters without a cluster");
	qimage_compressed(&q, 0, 1, false);
	expect_read_error(&q, 0, ERR_CORRUPT, "compressed cluster with subclusters");
	qimage_set_bitmap(&q, 0, 0);
	expect_read_error(&q, 0, 0, "");
	qimage_done(&q);
}

/* The map of a good entry ends before a bad one, and says so there. */
static void test_read__map_stops_at_bad(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	struct extent x;

	(void)state;
	qimage_init(&q, 3, 16, 10 * 65536, false, 0);
	qimage_set(&q, 2 * 65536, 2);
	im = open_ok(&q);
	expect_extent(im, 0, 0, 2 * 65536, EXTENT_HOLE, 0);
	assert_err(image_next_extent(im, 0, 2 * 65536, 65536, &x, &e), ERR_CORRUPT, &e);
	image_close(im);
	qimage_done(&q);
}

static void test_read__data_past_the_end(void **state)
{
	struct qimage q;
	struct image *im;

	(void)state;
	qimage_init(&q, 3, 16, 10 * 65536, false, 0);
	(void)qimage_data(&q, 0, 7);
	q.len -= 65536 - 10;		/* 10 bytes of the last cluster are there */
	im = open_ok(&q);
	expect_bytes(im, 0, 0, 10, 7);
	expect_bytes(im, 0, 10, 65526, 0);
	image_close(im);
	qimage_done(&q);
}

struct data_file {
	const void *p;
	size_t len;
};

static int give_data(void *opaque, const char *reference, const char *what, struct image_part *ret, struct err *e)
{
	const struct data_file *d = opaque;

	assert_string_equal(reference, "data.bin");
	assert_string_equal(what, "data file");
	*ret = (struct image_part){ .path = strdup(reference), .fd = memfd_create("data", MFD_CLOEXEC) };
	return fs_pwrite_full(ret->fd, d->p, d->len, 0, e);
}

static struct image *open_data(const struct qimage *q, const void *data, size_t len)
{
	struct data_file d = { data, len };
	const struct image_opener opener = { give_data, &d };
	struct image_open_opts o = { .opener = &opener };
	struct err e = ERR_INIT;
	struct image *im;

	assert_ok(qcow2_open(qimage_fd(q), "test.qcow2", &o, &im, &e), &e);
	return im;
}

static void test_read__data_file(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	uint8_t *data = malloc(3 * 65536), b;

	(void)state;
	assert_non_null(data);
	memset(data, 1, 65536);
	memset(data + 65536, 2, 65536);
	memset(data + 2 * 65536, 3, 65536);
	qimage_init(&q, 3, 16, 10 * 65536, false, 0);
	qimage_be64(&q, 72, 4);
	qimage_extension(&q, QIMAGE_EXT_DATA_FILE, "data.bin", 8);
	qimage_set(&q, 0, QIMAGE_COPIED);		/* allocated at host offset 0 */
	qimage_set(&q, 65536, 65536 | QIMAGE_COPIED);
	qimage_set(&q, 2 * 65536, 2 * 65536 | QIMAGE_COPIED | 1);
	qimage_set(&q, 9 * 65536, 9 * 65536 | QIMAGE_COPIED);
	im = open_data(&q, data, 3 * 65536);
	expect_extent(im, 0, 0, 2 * 65536, EXTENT_DATA, 0);
	expect_extent(im, 0, 2 * 65536, 65536, EXTENT_ZERO, 0);
	expect_bytes(im, 0, 0, 65536, 1);
	expect_bytes(im, 0, 65536, 65536, 2);
	expect_bytes(im, 0, 2 * 65536, 65536, 0);
	expect_bytes(im, 0, 9 * 65536, 65536, 0);	/* the data file is too short for it */
	assert_ok(image_check_unchanged(im, &e), &e);
	assert_int_equal(ftruncate(im->parts.p[0].fd, 65536), 0);
	assert_err(image_check_unchanged(im, &e), ERR_CHANGED, &e);
	assert_err(image_pread(im, 0, &b, 1, 65536, &e), ERR_CHANGED, &e);
	image_close(im);
	expect_read_error(&q, 0, ERR_INVALID, "data file is not open");
	qimage_set(&q, 65536, 2 * 65536 | QIMAGE_COPIED);
	im = open_data(&q, data, 3 * 65536);
	assert_err(image_pread(im, 0, &b, 1, 65536, &e), ERR_CORRUPT, &e);
	image_close(im);
	qimage_compressed(&q, 65536, 1, false);
	im = open_data(&q, data, 3 * 65536);
	assert_err(image_pread(im, 0, &b, 1, 65536, &e), ERR_CORRUPT, &e);
	image_close(im);
	qimage_done(&q);
	free(data);
}

/* With the raw bit the data file alone is the disk, whatever the tables say; its holes are zeros. */
static void test_read__data_file_raw(void **state)
{
	struct qimage q;
	struct image *im;
	uint8_t data[4096];

	(void)state;
	memset(data, 9, sizeof(data));
	qimage_init(&q, 3, 16, 10 * 65536, false, 0);
	qimage_be64(&q, 72, 4);
	qimage_be64(&q, 88, 2);
	qimage_extension(&q, QIMAGE_EXT_DATA_FILE, "data.bin", 8);
	im = open_data(&q, data, sizeof(data));
	assert_int_equal(im->info.features, IMAGE_EXTERNAL_DATA | IMAGE_RAW_EXTERNAL);
	expect_bytes(im, 0, 0, 4096, 9);
	expect_bytes(im, 0, 4096, 65536, 0);
	expect_extent(im, 0, 0, 4096, EXTENT_DATA, 0);
	expect_extent(im, 0, 4096, 10 * 65536 - 4096, EXTENT_ZERO, 0);
	image_close(im);
	qimage_backing(&q, "base", "raw");
	{
		struct err e = ERR_INIT;

		assert_err(qimage_open(&q, false, &im, &e), ERR_CORRUPT, &e);
	}
	qimage_done(&q);
}

static void test_read__snapshots(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	uint64_t big = 4 * 65536 + 100, cover = (uint64_t)8192 * 65536, shared;
	uint8_t vm[200];
	uint32_t s;

	(void)state;
	qimage_init(&q, 3, 16, 3 * 65536, false, 2);
	shared = qimage_data(&q, 0, 1);
	(void)qimage_data(&q, 4 * 65536, 2);			/* behind the present end: of a bigger snapshot */
	(void)qimage_data(&q, cover, 0xee);			/* its machine state */
	qimage_snapshot(&q, "1", "big", big, 150, 16);
	qimage_snapshot(&q, "2", "small", 100, 0, 16);
	im = open_ok(&q);
	assert_ok(image_find_state(im, "snap:big", &s, &e), &e);
	assert_int_equal(s, 1);
	assert_int_equal(image_state(im, 1)->size, big);
	assert_int_equal(image_state(im, 2)->size, 100);
	expect_bytes(im, 1, 4 * 65536, 100, 2);
	expect_extent(im, 1, 65536, 3 * 65536, EXTENT_HOLE, 0);
	expect_extent(im, 0, 65536, 2 * 65536, EXTENT_HOLE, 0);
	expect_extent(im, 0, 0, 65536, EXTENT_DATA, shared);
	expect_extent(im, 2, 0, 100, EXTENT_DATA, shared);
	assert_ok(image_pread_vm_state(im, 1, vm, 150, 0, &e), &e);
	assert_int_equal(vm[0], 0xee);
	assert_int_equal(vm[149], 0xee);
	assert_err(image_pread_vm_state(im, 1, vm, 151, 0, &e), ERR_INVALID, &e);
	image_close(im);
	qimage_done(&q);
}

static void test_read__many_snapshots(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	char id[16], name[16];
	uint32_t s;

	(void)state;
	qimage_init(&q, 3, 9, 64 * 512, false, 0);
	for (unsigned i = 0; i < 320; i++) {
		qimage_be64(&q, q.l1, 0);	/* each gets a tree of its own */
		(void)qimage_data(&q, 0, (uint8_t)i);
		snprintf(id, sizeof(id), "%u", i + 1);
		snprintf(name, sizeof(name), "night-%u", i % 319);
		qimage_snapshot(&q, id, name, 64 * 512, 0, 16);
	}
	im = open_ok(&q);
	assert_int_equal(im->info.nstates, 321);
	expect_bytes(im, 2, 0, 512, 1);
	expect_bytes(im, 300, 0, 512, (uint8_t)299);
	assert_ok(image_find_state(im, "snap:night-318", &s, &e), &e);
	assert_int_equal(s, 319);
	assert_ok(image_find_state(im, "snapid:320", &s, &e), &e);
	assert_int_equal(s, 320);
	assert_int_equal(image_find_state(im, "snap:night-0", &s, &e), ERR_INVALID);
	assert_has(e.cause, "snapid:1, snapid:320");
	assert_int_equal(image_find_state(im, "snap:no", &s, &e), ERR_NOTFOUND);
	assert_has(e.cause, "snap:night-0");
	assert_int_equal(image_find_state(im, "yesterday", &s, &e), ERR_INVALID);
	assert_has(e.hint, "snap:NAME");
	image_close(im);
	qimage_done(&q);
}

static void digest_of(const struct qimage *q, uint32_t state, uint8_t d[32], uint8_t meta[32])
{
	struct err e = ERR_INIT;
	struct image *im = open_ok(q);

	assert_ok(image_state_digest(im, state, d, &e), &e);
	memcpy(meta, im->identity.metadata_digest, 32);
	image_close(im);
}

static void test_read__digests(void **state)
{
	struct qimage q;
	uint8_t a[32], b[32], ma[32], mb[32];

	(void)state;
	qimage_init(&q, 3, 12, 10 * 4096, false, 0);
	(void)qimage_data(&q, 0, 1);
	qimage_snapshot(&q, "1", "one", 10 * 4096, 0, 16);
	digest_of(&q, 1, a, ma);
	qimage_be64(&q, 72, 1);					/* dirty: says nothing about content */
	qimage_be64(&q, q.l1, qimage_get64(&q, q.l1) & ~QIMAGE_COPIED);
	qimage_set(&q, 0, qimage_get64(&q, qimage_entry_at(&q, 0)) & ~QIMAGE_COPIED);
	digest_of(&q, 1, b, mb);
	assert_memory_equal(a, b, 32);
	assert_memory_equal(ma, mb, 32);
	qimage_snapshot(&q, "2", "two", 10 * 4096, 0, 16);	/* another snapshot: not this one's business */
	digest_of(&q, 1, b, mb);
	assert_memory_equal(a, b, 32);
	assert_memory_not_equal(ma, mb, 32);
	qimage_set(&q, 4096, 1);				/* its L2 table, shared */
	digest_of(&q, 1, b, mb);
	assert_memory_not_equal(a, b, 32);
	qimage_set(&q, 4096, 0);
	digest_of(&q, 1, b, mb);
	assert_memory_equal(a, b, 32);
	q.p[qimage_get64(&q, 64) + 19] ^= 1;			/* its date */
	digest_of(&q, 1, b, mb);
	assert_memory_not_equal(a, b, 32);
	digest_of(&q, 0, a, ma);
	qimage_backing(&q, "base", "raw");
	digest_of(&q, 0, b, mb);
	assert_memory_not_equal(a, b, 32);
	qimage_done(&q);
}

/* 64 PB in a file of a few MiB, and almost nothing in it: the map must not take longer for its size. */
static void test_read__sparse_bomb(void **state)
{
	uint64_t size = (uint64_t)64 << 50, cover = (uint64_t)1 << 39, n = 0;
	struct timespec t0, t1;
	struct qimage q;
	struct image *im;

	(void)state;
	qimage_init(&q, 3, 21, size, false, 0);
	(void)qimage_data(&q, size / 2, 1);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	im = open_ok(&q);
	for (uint64_t off = 0; off < size; n++)
		off += extent_at(im, 0, off).len;
	clock_gettime(CLOCK_MONOTONIC, &t1);
	assert_int_equal(n, 3);
	assert_int_equal(q.l1_size, size / cover);
	expect_bytes(im, 0, size / 2, 2 * MIB, 1);
	image_close(im);
	qimage_done(&q);
	if (t1.tv_sec - t0.tv_sec > 2)
		fail_msg("took %ld seconds", (long)(t1.tv_sec - t0.tv_sec));
}

/* Many entries that share one compressed cluster: decompressed once each time round, not a million times. */
static void test_read__compressed_bomb(void **state)
{
	uint64_t cs = 2 * MIB;
	struct err e = ERR_INIT;
	struct timespec t0, t1;
	struct qimage q;
	struct image *im;
	uint64_t entry;
	uint8_t b;

	(void)state;
	qimage_init(&q, 3, 21, 32768 * cs, false, 0);
	qimage_compressed(&q, 0, 1, false);
	entry = qimage_get64(&q, qimage_entry_at(&q, 0));
	for (uint64_t i = 1; i < 32768; i++)
		qimage_set(&q, i * cs, entry);
	im = open_ok(&q);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (uint64_t i = 0; i < 32768; i++)
		assert_ok(image_pread(im, 0, &b, 1, i * cs, &e), &e);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	image_close(im);
	qimage_done(&q);
	if (t1.tv_sec - t0.tv_sec > 5)
		fail_msg("took %ld seconds", (long)(t1.tv_sec - t0.tv_sec));
}

static void test_read__changed(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;

	(void)state;
	qimage_init(&q, 3, 12, MIB, false, 0);
	(void)qimage_data(&q, 0, 1);
	im = open_ok(&q);
	assert_ok(image_check_unchanged(im, &e), &e);
	assert_int_equal(ftruncate(im->file.fd, 3 * 4096), 0);
	assert_err(image_check_unchanged(im, &e), ERR_CHANGED, &e);
	image_close(im);
	qimage_done(&q);
}

#define WALKERS 6

struct walker {
	struct image *im;
	uint32_t state;
	uint64_t sum;
};

static void *walk(void *opaque)
{
	struct walker *w = opaque;
	struct err e = ERR_INIT;
	uint8_t *buf = malloc(70000);
	uint64_t size = image_state(w->im, w->state)->size;

	for (uint64_t off = 0; buf && off < size; off += 70000) {
		size_t n = (size_t)min_u64(70000, size - off);

		if (image_pread(w->im, w->state, buf, n, off, &e) < 0)
			break;
		for (size_t i = 0; i < n; i++)
			w->sum += buf[i] * (off + i + 1);
	}
	free(buf);
	if (e.code)
		w->sum = 0;
	return NULL;
}

/* Many threads over two states see what one sees, through a cache smaller than what they read. */
static void test_read__threads(void **state)
{
	struct image_open_opts o = { 0 };
	struct walker w[WALKERS];
	pthread_t t[WALKERS];
	struct err e = ERR_INIT;
	struct qimage q;

	(void)state;
	qimage_init(&q, 3, 12, 4 * MIB, false, 0);
	for (unsigned i = 0; i < 1000; i += 3) {
		if (i % 2)
			qimage_compressed(&q, i * 4096, (uint8_t)i, false);
		else
			(void)qimage_data(&q, i * 4096, (uint8_t)i);
	}
	qimage_snapshot(&q, "1", "s", 3 * MIB, 0, 16);
	assert_ok(block_cache_new(40000, &o.cache, &e), &e);
	w[0].im = NULL;
	assert_ok(qcow2_open(qimage_fd(&q), "test.qcow2", &o, &w[0].im, &e), &e);
	for (unsigned i = 0; i < WALKERS; i++) {
		w[i] = (struct walker){ .im = w[0].im, .state = i % 2 };
		assert_int_equal(pthread_create(&t[i], NULL, walk, &w[i]), 0);
	}
	for (unsigned i = 0; i < WALKERS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < WALKERS; i++) {
		assert_true(w[i].sum != 0);
		assert_int_equal(w[i].sum, w[i % 2].sum);
	}
	assert_true(w[0].sum != w[1].sum);
	image_close(w[0].im);
	block_cache_unref(o.cache);
	qimage_done(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read__kinds),
		cmocka_unit_test(test_read__limit_and_ranges),
		cmocka_unit_test(test_read__cluster_sizes),
		cmocka_unit_test(test_read__extended),
		cmocka_unit_test(test_read__compressed),
		cmocka_unit_test(test_read__compressed_bad),
		cmocka_unit_test(test_read__entry_bad),
		cmocka_unit_test(test_read__extended_bad),
		cmocka_unit_test(test_read__map_stops_at_bad),
		cmocka_unit_test(test_read__data_past_the_end),
		cmocka_unit_test(test_read__data_file),
		cmocka_unit_test(test_read__data_file_raw),
		cmocka_unit_test(test_read__snapshots),
		cmocka_unit_test(test_read__many_snapshots),
		cmocka_unit_test(test_read__digests),
		cmocka_unit_test(test_read__sparse_bomb),
		cmocka_unit_test(test_read__compressed_bomb),
		cmocka_unit_test(test_read__changed),
		cmocka_unit_test(test_read__threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
