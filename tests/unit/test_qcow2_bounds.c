/* Hostile qcow2 images at the limits: what is the last that is read, and what the first that is refused. */
#include "tests/test.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/qimage.h"

#define SECONDS_MAX 30	/* generous for sanitizers: what it guards against took minutes */

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
	struct image_open_opts o = { 0 };
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

static void opens(const struct qimage *q, uint64_t file_size, int code, const char *text)
{
	struct image_open_opts o = { 0 };
	int fd = sparse_fd(q, max_u64(file_size, q->len));
	struct err e = ERR_INIT;
	struct image *im;
	char buf[2048];
	int r = qcow2_open(fd, "test.qcow2", &o, &im, &e);

	if (r == 0)
		image_close(im);
	else
		close(fd);
	if (r != code || (code && !strstr(err_text(&e, buf, sizeof(buf)), text)))
		fail_msg("%s (%s), wanted %s with \"%s\"", err_code_name(r), err_text(&e, buf, sizeof(buf)),
			 err_code_name(code), text);
}

static void small_image(struct qimage *q)
{
	qimage_init(q, 3, 12, MIB, false, 0);
}

static void test_bounds__names_in_the_header(void **state)
{
	char name[1100];
	struct qimage q;

	(void)state;
	memset(name, 'n', sizeof(name));
	for (size_t len = 1023; len <= 1024; len++) {
		name[len] = '\0';
		small_image(&q);
		qimage_backing(&q, name, "raw");
		opens(&q, 0, len == 1023 ? 0 : ERR_CORRUPT, "backing file name of 1024 bytes");
		qimage_done(&q);

		small_image(&q);
		qimage_be64(&q, 72, 4);
		qimage_extension(&q, QIMAGE_EXT_DATA_FILE, name, len);
		opens(&q, 0, len == 1023 ? 0 : ERR_CORRUPT, "data file name of 1024 bytes");
		qimage_done(&q);
		name[len] = 'n';
	}
	small_image(&q);
	qimage_be64(&q, 72, 4);
	qimage_extension(&q, QIMAGE_EXT_DATA_FILE, "", 0);
	opens(&q, 0, ERR_CORRUPT, "its name is missing");
	qimage_done(&q);

	small_image(&q);		/* up to the cluster's end, and one byte on */
	memset(q.p + 4000, 'n', 96);
	qimage_be64(&q, 8, 4000);
	qimage_be32(&q, 16, 96);
	opens(&q, 0, 0, "");
	qimage_be32(&q, 16, 97);
	opens(&q, 0, ERR_CORRUPT, "of 97 bytes at 4000 is outside the first cluster");
	qimage_be32(&q, 16, 96);	/* raw external data leave no room for a backing file */
	qimage_be64(&q, 72, 4);
	qimage_be64(&q, 88, 2);
	qimage_extension(&q, QIMAGE_EXT_DATA_FILE, "data", 4);
	opens(&q, 0, ERR_CORRUPT, "a backing file with raw external data");
	qimage_done(&q);

	small_image(&q);
	qimage_be32(&q, 4, 1);
	opens(&q, 0, ERR_UNSUPPORTED, "qcow version 1");
	qimage_done(&q);
}

/* The largest L1 table, in a file that is a hole but for its header. */
static void test_bounds__l1_limit(void **state)
{
	struct qimage q;

	(void)state;
	small_image(&q);
	qimage_be64(&q, 40, MIB);
	qimage_be32(&q, 36, 4 << 20);
	opens(&q, 40 * MIB, 0, "");
	opens(&q, 33 * MIB - 1, ERR_CORRUPT, "outside the file");
	qimage_be32(&q, 36, (4 << 20) + 1);
	opens(&q, 40 * MIB, ERR_CORRUPT, "32 MiB is the limit");
	qimage_done(&q);
}

/* n entries of 40 + extra bytes each, all zero: no L1 table, no size, no name. */
static void table_of(struct qimage *q, uint32_t n, uint32_t extra)
{
	uint64_t at;

	small_image(q);
	at = qimage_cluster(q, NULL, (size_t)n * (40 + extra));
	for (uint32_t i = 0; i < n; i++)
		qimage_be32(q, at + (uint64_t)i * (40 + extra) + 36, extra);
	qimage_be32(q, 60, n);
	qimage_be64(q, 64, at);
}

static void test_bounds__snapshot_table(void **state)
{
	uint32_t most = (uint32_t)(64 * MIB / 1064);
	struct qimage q;

	(void)state;
	table_of(&q, 65536, 16);
	opens(&q, 0, 0, "");
	qimage_done(&q);
	table_of(&q, most, 1024);
	opens(&q, 0, 0, "");
	qimage_done(&q);
	table_of(&q, most + 1, 1024);
	opens(&q, 0, ERR_CORRUPT, "longer than 64 MiB");
	qimage_done(&q);
}

/* One bitmap: its directory entry and its extension are the caller's to change. */
static void bitmap_image(struct qimage *q, uint64_t *ret_dir, uint64_t *ret_table)
{
	uint8_t ext[24] = { 0 };

	small_image(q);
	*ret_table = qimage_cluster(q, NULL, 4096);
	*ret_dir = qimage_cluster(q, NULL, 8192);
	qimage_be64(q, *ret_dir, *ret_table);
	qimage_be32(q, *ret_dir + 8, 1);
	q->p[*ret_dir + 16] = 1;
	q->p[*ret_dir + 17] = 16;
	q->p[*ret_dir + 19] = 4;
	memcpy(q->p + *ret_dir + 24, "bmap", 4);
	put_be32(ext, 1);
	put_be64(ext + 8, 32);
	put_be64(ext + 16, *ret_dir);
	qimage_extension(q, QIMAGE_EXT_BITMAPS, ext, sizeof(ext));
	qimage_be64(q, 88, 1);
	opens(q, 0, 0, "");
}

static void test_bounds__bitmaps(void **state)
{
	uint64_t dir, table;
	struct qimage q;

	(void)state;
	bitmap_image(&q, &dir, &table);
	memset(q.p + dir + 24, 'n', 1024);
	qimage_be64(&q, 128, 1048);
	q.p[dir + 18] = 1023 >> 8;
	q.p[dir + 19] = 1023 & 255;
	opens(&q, 0, 0, "");
	q.p[dir + 18] = 1024 >> 8;
	q.p[dir + 19] = 0;
	opens(&q, 0, ERR_CORRUPT, "name of 1024 bytes");
	qimage_done(&q);

	bitmap_image(&q, &dir, &table);		/* a good directory in a bad place, of a bad length */
	memmove(q.p + dir + 512, q.p + dir, 32);
	qimage_be64(&q, 136, dir + 512);
	opens(&q, 0, ERR_CORRUPT, "not aligned or outside");
	qimage_be64(&q, 136, (uint64_t)1 << 40);
	opens(&q, 0, ERR_CORRUPT, "not aligned or outside");
	qimage_be64(&q, 136, dir);
	qimage_be64(&q, 128, 0);
	opens(&q, 0, ERR_CORRUPT, "directory of 0 bytes");
	qimage_done(&q);

	bitmap_image(&q, &dir, &table);
	qimage_be64(&q, 128, 64 * MIB);
	opens(&q, 128 * MIB, 0, "");
	qimage_be64(&q, 128, 64 * MIB + 8);
	opens(&q, 128 * MIB, ERR_CORRUPT, "bitmap directory of 67108872 bytes");
	qimage_be32(&q, 120, 65536);
	qimage_be64(&q, 128, 64 * MIB);
	opens(&q, 128 * MIB, ERR_CORRUPT, "65536 bitmaps in a directory");
	qimage_done(&q);

	bitmap_image(&q, &dir, &table);		/* a table in the hole at the end */
	qimage_be64(&q, dir, MIB);
	qimage_be32(&q, dir + 8, 8 << 20);
	opens(&q, 128 * MIB, 0, "");
	qimage_be32(&q, dir + 8, (8 << 20) + 1);
	opens(&q, 128 * MIB, ERR_CORRUPT, "table of 8388609 entries");
	qimage_done(&q);

	bitmap_image(&q, &dir, &table);
	qimage_be64(&q, table, 256 * 4096 | 1);
	opens(&q, 8 * MIB, ERR_CORRUPT, "entry 0: 0x0000000000100001");
	qimage_be64(&q, table, 256 * 4096 + 512);
	opens(&q, 8 * MIB, ERR_CORRUPT, "entry 0: 0x0000000000100200");
	qimage_be64(&q, table, 256 * 4096);
	opens(&q, 8 * MIB, 0, "");
	qimage_be32(&q, 120 - 4, 32);		/* extension of 32 bytes */
	opens(&q, 8 * MIB, ERR_CORRUPT, "bitmaps extension");
	qimage_done(&q);
}

/* More tables than are kept in mind: two dense L1 tables of the largest size whose tables are all different. */
static void test_bounds__most_tables(void **state)
{
	uint32_t n = 4 << 20;
	struct qimage q;
	uint64_t host;

	(void)state;
	qimage_init(&q, 3, 9, 512, false, n - 1);
	host = 3 * 512 + n * 8;
	for (uint32_t i = 0; i < n; i++)
		qimage_be64(&q, q.l1 + i * 8, (host + i) * 512);
	qimage_snapshot(&q, "1", "s", 512, 0, 16);
	for (uint32_t i = 0; i < n; i++)
		qimage_be64(&q, q.l1 + i * 8, (host + n + i) * 512);
	opens(&q, (host + 2 * n) * 512, ERR_UNSUPPORTED, "more than 6291456 L2 tables");
	qimage_done(&q);
}

/* An L1 entry that was right at open and isn't any more: said as what it is, a change, and not followed. */
static void test_bounds__l1_changed_since(void **state)
{
	static const uint64_t entries[] = { 4096 + 512, (uint64_t)1 << 40, 0x00ffffffffffe000 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct image_open_opts o = { 0 };
		struct err e = ERR_INIT;
		struct qimage q;
		struct image *im;
		uint8_t b;

		small_image(&q);
		(void)qimage_data(&q, 0, 1);
		assert_ok(qcow2_open(qimage_fd(&q), "test.qcow2", &o, &im, &e), &e);
		put64(im->file.fd, q.l1, entries[i]);
		assert_err(image_pread(im, 0, &b, 1, 0, &e), ERR_CHANGED, &e);
		image_close(im);
		qimage_done(&q);
	}
}

/* Marked corrupt and read by force: what overlaps is shown, because it may be all that is left. */
static void test_bounds__forced_overlap(void **state)
{
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	uint8_t b[8];

	(void)state;
	small_image(&q);
	(void)qimage_data(&q, 0, 1);
	qimage_set(&q, 4096, q.l1);
	qimage_be64(&q, 72, 2);
	assert_ok(qimage_open(&q, true, &im, &e), &e);
	assert_ok(image_pread(im, 0, b, 8, 4096, &e), &e);
	assert_int_equal(get_be64(b), qimage_get64(&q, q.l1));
	image_close(im);
	qimage_done(&q);
}

/* ---- zstd ---- */

static size_t zstd_piece(uint8_t *out, size_t cap, uint8_t fill, size_t len, bool known)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	CLEANUP(free_ptr) uint8_t *in = malloc(len + 1);
	ZSTD_outBuffer o = { out, cap, 0 };
	ZSTD_inBuffer i = { in, len, 0 };

	assert_true(c && in);
	memset(in, fill, len);
	if (!known)	/* a stream: no content size in the frame, and the largest window */
		assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27)));
	while (!known && i.pos < i.size)
		assert_false(ZSTD_isError(ZSTD_compressStream2(c, &o, &i, ZSTD_e_flush)));
	assert_int_equal(ZSTD_compressStream2(c, &o, &i, ZSTD_e_end), 0);
	ZSTD_freeCCtx(c);
	return o.pos;
}

/* The cluster's compressed bytes; read back: fills[i] in its i-th quarter, or refused. */
static void expect_zstd(const uint8_t *p, size_t len, const uint8_t fills[4])
{
	struct image_open_opts o = { 0 };
	size_t cs = 65536;
	CLEANUP(free_ptr) uint8_t *got = malloc(cs);
	struct err e = ERR_INIT;
	struct qimage q;
	struct image *im;
	uint64_t at, host;
	int r;

	qimage_init(&q, 3, 16, cs, false, 0);
	qimage_be64(&q, 72, 8);
	q.p[104] = 1;
	at = qimage_entry_at(&q, 0);
	host = qimage_cluster(&q, p, len);
	qimage_be64(&q, at, QIMAGE_COMPRESSED | ((len - 1) / 512) << 54 | host);
	assert_ok(qcow2_open(qimage_fd(&q), "test.qcow2", &o, &im, &e), &e);
	r = image_pread(im, 0, got, cs, 0, &e);
	if (fills)
		assert_ok(r, &e);
	else
		assert_int_equal(r, ERR_CORRUPT);
	for (size_t i = 0; fills && i < cs; i++)
		if (got[i] != fills[i / (cs / 4)])
			fail_msg("byte %zu is %u", i, got[i]);
	image_close(im);
	qimage_done(&q);
}

static void test_bounds__zstd_frames(void **state)
{
	static const uint8_t fills[4] = { 1, 2, 3, 4 },
			     skippable[] = { 0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z' };
	uint8_t buf[4096];
	size_t n = 0, last = 0;

	(void)state;
	for (int round = 0; round < 2; round++) {	/* frames that know their size, and that don't */
		n = 0;
		for (unsigned i = 0; i < 4; i++) {
			last = n;
			n += zstd_piece(buf + n, sizeof(buf) - n, fills[i], 16384, round == 0);
			if (i == 1) {
				memcpy(buf + n, skippable, sizeof(skippable));
				n += sizeof(skippable);
				n += zstd_piece(buf + n, sizeof(buf) - n, 0, 0, true);
			}
		}
		expect_zstd(buf, n, fills);
		memset(buf + n, 0xee, 300);		/* what follows belongs to the next cluster */
		expect_zstd(buf, n + 300, fills);
		expect_zstd(buf, last, NULL);		/* three quarters of a cluster */
		memset(buf + n, 0, 300);
		buf[last] ^= 1;				/* the last frame's magic */
		expect_zstd(buf, n, NULL);
		buf[last] ^= 1;
	}
	n = zstd_piece(buf, sizeof(buf), 7, 65536, false);
	/* the frame's end is cut off, after the output was full */
	expect_zstd(buf, n - 3, (uint8_t[4]){ 7, 7, 7, 7 });
	n = zstd_piece(buf, sizeof(buf), 7, 65537, false);
	expect_zstd(buf, n, (uint8_t[4]){ 7, 7, 7, 7 });	/* the frame goes on: one cluster is taken */
	expect_zstd(skippable, sizeof(skippable), NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds__l2_tables_in_holes),
		cmocka_unit_test(test_bounds__names_in_the_header),
		cmocka_unit_test(test_bounds__l1_limit),
		cmocka_unit_test(test_bounds__snapshot_table),
		cmocka_unit_test(test_bounds__bitmaps),
		cmocka_unit_test(test_bounds__most_tables),
		cmocka_unit_test(test_bounds__l1_changed_since),
		cmocka_unit_test(test_bounds__forced_overlap),
		cmocka_unit_test(test_bounds__zstd_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
