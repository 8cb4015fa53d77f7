/* The reader and the writer of qcow version 1: every field of the header right and wrong, tables, compressed clusters,
 * what it reads as, digests; what is refused to be written. */
#include "tests/test.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/formats.h"
#include "formats/qcow/qcow_internal.h"
#include "tests/support/folder.h"

/*
 * An image by hand: clusters of 4 KiB, L2 tables of 64 entries (256 KiB of the disk each); header, L1 table at 512, L2
 * tables at 4096 and 8192, and from 12288 on what is added.
 */
#define CS 4096u
#define COVER (CS * 64)
#define L1_AT 512u
#define SIZE ((uint64_t)4 * COVER - 1000)

struct q1 {
	uint8_t p[256 * 1024];
	size_t len;
};

static void q1_init(struct q1 *q)
{
	memset(q, 0, sizeof(*q));
	put_be32(q->p, QCOW_MAGIC);
	put_be32(q->p + 4, 1);
	put_be64(q->p + 24, SIZE);
	q->p[32] = 12;
	q->p[33] = 6;
	put_be64(q->p + 40, L1_AT);
	put_be64(q->p + L1_AT, 4096);		/* of the first quarter; nothing in the second */
	put_be64(q->p + L1_AT + 16, 8192);	/* of the third and fourth */
	put_be64(q->p + L1_AT + 24, 8192 + 512);
	q->len = 3 * CS;
}

/* Where the L2 entry of guest offset off is. */
static size_t entry_at(const struct q1 *q, uint64_t off)
{
	return (size_t)get_be64(q->p + L1_AT + off / COVER * 8) + off % COVER / CS * 8;
}

static uint64_t q1_fill(struct q1 *q, uint64_t off, uint8_t fill)
{
	size_t at = round_up(q->len, CS);

	memset(q->p + at, fill, CS);
	put_be64(q->p + entry_at(q, off), at);
	q->len = at + CS;
	return at;
}

/* A compressed cluster, right behind what is there. */
static uint64_t q1_pack(struct q1 *q, uint64_t off, uint8_t fill)
{
	uint8_t plain[CS];
	z_stream z = { .next_in = plain, .avail_in = CS, .next_out = q->p + q->len, .avail_out = CS };
	uint64_t at = q->len;

	memset(plain, fill, CS);
	plain[CS - 1] = 0x5a;
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	put_be64(q->p + entry_at(q, off), QCOW_COMPRESSED | z.total_out << 51 | at);
	q->len += z.total_out;
	assert_int_equal(deflateEnd(&z), Z_OK);
	return at;
}

static int q1_fd(const struct q1 *q)
{
	int fd = memfd_create("qcow", MFD_CLOEXEC);
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	assert_ok(fs_pwrite_full(fd, q->p, q->len, 0, &e), &e);
	return fd;
}

static int try(const struct q1 *q, bool force, struct image **ret, struct err *e)
{
	struct image_open_opts o = { .force = force };
	int fd = q1_fd(q), r = format_find("qcow")->open(fd, "test.qcow", &o, ret, e);

	if (r < 0)
		close(fd);
	return r;
}

static struct image *opened(const struct q1 *q)
{
	struct err e = ERR_INIT;
	struct image *im = NULL;

	assert_ok(try(q, false, &im, &e), &e);
	return im;
}

static void refused(const struct q1 *q, int code, const char *cause)
{
	struct err e = ERR_INIT;
	struct image *im;
	int r = try(q, false, &im, &e);

	if (r != code || !strstr(e.cause, cause))
		fail_msg("%s: %s; wanted %s: %s", err_code_name(r), e.cause, err_code_name(code), cause);
}

static void expect(struct image *im, uint64_t off, enum extent_kind kind, uint64_t len, uint64_t host)
{
	struct err e = ERR_INIT;
	struct extent x;

	assert_ok(image_next_extent(im, 0, off, UINT64_MAX, &x, &e), &e);
	if (x.kind != kind || x.len != len || (kind == EXTENT_DATA && x.origin.host != host))
		fail_msg("at %" PRIu64 ": kind %d, %" PRIu64 " bytes, host %" PRIu64 "; wanted %d, %" PRIu64 ", %" PRIu64, off,
			 x.kind, x.len, x.origin.host, kind, len, host);
}

static void expect_bytes(struct image *im, uint64_t off, size_t len, uint8_t want)
{
	struct err e = ERR_INIT;
	uint8_t *p = malloc(len);

	assert_non_null(p);
	assert_ok(image_pread(im, 0, p, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		if (p[i] != want)
			fail_msg("byte at %" PRIu64 " is %u, wanted %u", off + i, p[i], want);
	free(p);
}

static void expect_error(struct image *im, uint64_t off, const char *cause)
{
	struct err e = ERR_INIT;
	struct extent x;
	uint8_t b;

	assert_int_equal(image_pread(im, 0, &b, 1, off, &e), ERR_CORRUPT);
	assert_has(e.cause, cause);
	assert_has(e.hint, "--force");
	assert_err(image_next_extent(im, 0, off, 1, &x, &e), ERR_CORRUPT, &e);
}

static void test_qcow__reads(void **state)
{
	uint64_t a, c, d, last;
	struct image *im;
	struct q1 q;

	(void)state;
	q1_init(&q);
	a = q1_fill(&q, 2 * CS, 1);
	(void)q1_fill(&q, 3 * CS, 2);
	last = q1_fill(&q, SIZE - 1, 9);
	c = q1_pack(&q, 2 * COVER, 7);
	d = q1_pack(&q, 2 * COVER + CS, 8);
	im = opened(&q);
	assert_int_equal(im->info.version, 1);
	assert_int_equal(im->info.virtual_size, SIZE);
	assert_int_equal(im->info.cluster_size, CS);
	expect(im, 0, EXTENT_HOLE, 2 * CS, 0);
	expect(im, 2 * CS, EXTENT_DATA, 2 * CS, a);
	expect(im, 2 * CS + 77, EXTENT_DATA, 2 * CS - 77, a + 77);
	expect(im, 4 * CS, EXTENT_HOLE, 2 * COVER - 4 * CS, 0);		/* over the end of a table and one that isn't */
	expect(im, 2 * COVER, EXTENT_DATA, CS, c);
	expect(im, 2 * COVER + CS + 5, EXTENT_DATA, CS - 5, d);
	expect(im, round_down(SIZE, CS), EXTENT_DATA, SIZE % CS, last);
	expect_bytes(im, 0, 2 * CS, 0);
	expect_bytes(im, 2 * CS, CS, 1);
	expect_bytes(im, 3 * CS, CS, 2);
	expect_bytes(im, 4 * CS, 2 * COVER - 4 * CS, 0);
	expect_bytes(im, 2 * COVER, CS - 1, 7);
	expect_bytes(im, 2 * COVER + CS - 1, 1, 0x5a);
	expect_bytes(im, 2 * COVER + CS, CS - 1, 8);
	expect_bytes(im, SIZE - SIZE % CS, SIZE % CS, 9);
	image_close(im);
}

/* Nothing aligns an L1 table: behind a hole in it the entries are still where they are. */
static void test_qcow__odd_table(void **state)
{
	uint8_t header[QCOW_HEADER_BYTES] = { 0 }, entry[8], cluster[CS];
	const uint64_t l1 = 4097, l2 = 0x140000, at = 0x150000;
	struct image_open_opts o = { 0 };
	struct err e = ERR_INIT;
	struct image *im;
	int fd;

	(void)state;
	put_be32(header, QCOW_MAGIC);
	put_be32(header + 4, 1);
	put_be64(header + 24, (uint64_t)600 * COVER);
	header[32] = 12;
	header[33] = 6;
	put_be64(header + 40, l1);
	memset(cluster, 7, sizeof(cluster));
	fd = memfd_create("qcow", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_ok(fs_pwrite_full(fd, header, sizeof(header), 0, &e), &e);
	put_be64(entry, l2);
	assert_ok(fs_pwrite_full(fd, entry, 8, l1 + 520 * 8, &e), &e);
	put_be64(entry, at);
	assert_ok(fs_pwrite_full(fd, entry, 8, l2 + 8, &e), &e);
	assert_ok(fs_pwrite_full(fd, cluster, CS, at, &e), &e);
	assert_true(lseek(fd, (off_t)l1, SEEK_DATA) > (off_t)l1);	/* else it would prove nothing */
	assert_ok(format_find("qcow")->open(fd, "test.qcow", &o, &im, &e), &e);
	expect(im, 0, EXTENT_HOLE, (uint64_t)520 * COVER + CS, 0);
	expect(im, (uint64_t)520 * COVER + CS, EXTENT_DATA, CS, at);
	expect_bytes(im, (uint64_t)520 * COVER + CS, CS, 7);
	image_close(im);
}

/* What the last cluster has past the end of the file is zeros; one that begins there is damage. */
static void test_qcow__short_file(void **state)
{
	struct image *im;
	struct q1 q;

	(void)state;
	q1_init(&q);
	(void)q1_fill(&q, 0, 1);
	q.len -= CS - 100;
	im = opened(&q);
	expect_bytes(im, 0, 100, 1);
	expect_bytes(im, 100, CS - 100, 0);
	image_close(im);
	q.len -= 100;
	im = opened(&q);
	expect_error(im, 0, "L2 entry at 4096 for guest offset 0: the host offset is outside the file");
	expect_bytes(im, CS, CS, 0);
	image_close(im);
}

static void test_qcow__backing(void **state)
{
	struct image *im;
	struct q1 q;

	(void)state;
	q1_init(&q);
	memcpy(q.p + 48, "base.img", 8);
	put_be64(q.p + 8, 48);
	put_be32(q.p + 16, 8);
	im = opened(&q);
	assert_string_equal(im->info.backing, "base.img");
	assert_null(im->info.backing_format);
	assert_true(image_has_parent(im));
	image_close(im);
	q.p[50] = 0;
	refused(&q, ERR_CORRUPT, "NUL byte");
	put_be32(q.p + 16, 1024);
	refused(&q, ERR_CORRUPT, "backing file name of 1024 bytes");
	put_be32(q.p + 16, 1023);
	put_be64(q.p + 8, q.len - 1022);
	refused(&q, ERR_CORRUPT, "outside the file");
	put_be64(q.p + 8, UINT64_MAX);
	refused(&q, ERR_CORRUPT, "outside the file");
	put_be64(q.p + 8, 47);
	refused(&q, ERR_CORRUPT, "in the header");
	put_be32(q.p + 16, 0);		/* no name: no backing file */
	put_be64(q.p + 8, 48);
	im = opened(&q);
	assert_false(image_has_parent(im));
	image_close(im);
}

struct field {
	size_t at;
	unsigned width;
	uint64_t value;
	int code;		/* at open; 0: opens */
	const char *cause;
};

static const struct field fields[] = {
	{ 0, 4, 0x514649fa, ERR_CORRUPT, "no qcow header" },
	{ 4, 4, 2, ERR_UNSUPPORTED, "version 2" },
	{ 4, 4, 0, ERR_UNSUPPORTED, "version 0" },
	{ 20, 4, UINT32_MAX, 0, "" },
	{ 24, 8, 0, ERR_CORRUPT, "disk of 0 bytes" },
	{ 24, 8, 1, ERR_CORRUPT, "disk of 1 bytes" },
	{ 24, 8, 2, 0, "" },
	{ 24, 8, UINT64_MAX, ERR_CORRUPT, "too large" },
	{ 24, 8, INT64_MAX, ERR_CORRUPT, "L1 table of 35184372088832 entries" },
	{ 24, 8, (uint64_t)(3 * CS - L1_AT) / 8 * COVER, 0, "" },
	{ 24, 8, (uint64_t)(3 * CS - L1_AT) / 8 * COVER + 1, ERR_CORRUPT, "L1 table of 1473 entries at 512" },
	{ 32, 1, 8, ERR_CORRUPT, "cluster bits 8" },
	{ 32, 1, 9, 0, "" },
	{ 32, 1, 16, 0, "" },
	{ 32, 1, 17, ERR_CORRUPT, "cluster bits 17" },
	{ 33, 1, 5, ERR_CORRUPT, "L2 bits 5" },
	{ 33, 1, 13, ERR_CORRUPT, "" },
	{ 33, 1, 14, ERR_CORRUPT, "L2 bits 14" },
	{ 34, 1, 255, 0, "" },
	{ 36, 4, 2, ERR_CORRUPT, "encryption method 2" },
	{ 40, 8, 0, ERR_CORRUPT, "L1 table at 0, inside the header" },
	{ 40, 8, 47, ERR_CORRUPT, "L1 table at 47, inside the header" },
	{ 40, 8, 3 * CS - 31, ERR_CORRUPT, "outside the file" },
	{ 40, 8, 3 * CS - 32, 0, "" },
	{ 40, 8, UINT64_MAX, ERR_CORRUPT, "outside the file" },
	{ L1_AT, 8, 47, ERR_CORRUPT, "L1 entry at 512: L2 table of 512 bytes at 47" },
	{ L1_AT, 8, 3 * CS - 511, ERR_CORRUPT, "outside the file" },
	{ L1_AT, 8, 3 * CS - 512, 0, "" },
	{ L1_AT, 8, UINT64_MAX, ERR_CORRUPT, "outside the file" },
	{ L1_AT, 8, 8192, ERR_CORRUPT, "L2 tables at 8192 and 8192 are the same" },
	{ L1_AT, 8, 8192 - 8, ERR_CORRUPT, "L2 tables at 8184 and 8192" },
	{ L1_AT, 8, 536, ERR_CORRUPT, "lies in the L1 table" },
	{ L1_AT, 8, 544, 0, "" },
};

static void test_qcow__fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		const struct field *f = &fields[i];
		struct q1 q;

		q1_init(&q);
		if (f->at == 24)	/* the size alone */
			memset(q.p + L1_AT, 0, q.len - L1_AT);
		if (f->width == 8)
			put_be64(q.p + f->at, f->value);
		else if (f->width == 4)
			put_be32(q.p + f->at, (uint32_t)f->value);
		else
			q.p[f->at] = (uint8_t)f->value;
		if (f->code)
			refused(&q, f->code, f->cause);
		else
			image_close(opened(&q));
	}
}

/* Wrong entries damage their own clusters alone. */
static const struct field entries[] = {
	{ 0, 8, 12288 + 511, 0, "not aligned" },
	{ 0, 8, 0x4000, 0, "outside the file" },
	{ 0, 8, 1 << 20, 0, "outside the file" },
	{ 0, 8, INT64_MAX - 511, 0, "outside the file" },
	{ 0, 8, 512, 0, "lies in metadata" },			/* the L1 table */
	{ 0, 8, 4096 - 512, 0, "lies in metadata" },		/* reaches into a table */
	{ 0, 8, 8192 + 512, 0, "lies in metadata" },
	{ 0, 8, QCOW_COMPRESSED | 12288, 0, "of no bytes" },
	{ 0, 8, QCOW_COMPRESSED | (uint64_t)4095 << 51 | 12290, 0, "compressed data outside the file" },
	{ 0, 8, QCOW_COMPRESSED | (uint64_t)1 << 51 | 47, 0, "lies in metadata" },
	{ 0, 8, QCOW_COMPRESSED | (uint64_t)4000 << 51 | 12288, 0, "deflate data don't give 4096 bytes" },
	{ 0, 8, UINT64_MAX, 0, "outside the file" },
};

static void test_qcow__entries(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
		struct image *im;
		struct err e = ERR_INIT;
		struct q1 q;
		uint8_t b;

		q1_init(&q);
		(void)q1_fill(&q, CS, 0xff);
		put_be64(q.p + entry_at(&q, 0), entries[i].value);
		im = opened(&q);
		assert_int_equal(image_pread(im, 0, &b, 1, 0, &e), ERR_CORRUPT);
		assert_has(e.cause, entries[i].cause);
		expect_bytes(im, CS, CS, 0xff);
		image_close(im);
	}
}

static void test_qcow__truncated(void **state)
{
	struct q1 q;

	(void)state;
	q1_init(&q);
	for (q.len = 0; q.len < 8192 + 1024; q.len += 7)
		refused(&q, ERR_CORRUPT, "");
}

static void digest_of(const struct q1 *q, uint8_t digest[32])
{
	struct image *im = opened(q);
	struct err e = ERR_INIT;

	assert_ok(image_state_digest(im, 0, digest, &e), &e);
	assert_memory_equal(digest, im->identity.metadata_digest, 32);
	image_close(im);
}

/* What maps the image is in the digest, what it holds isn't. */
static void test_qcow__digest(void **state)
{
	uint8_t was[32], now[32];
	uint64_t at;
	struct q1 q;

	(void)state;
	q1_init(&q);
	at = q1_fill(&q, 0, 1);
	(void)q1_fill(&q, CS, 2);
	digest_of(&q, was);
	q.p[at] ^= 1;
	q.p[20] ^= 1;		/* a time that nobody keeps */
	digest_of(&q, now);
	assert_memory_equal(was, now, 32);
	put_be64(q.p + entry_at(&q, 0), at + CS);
	digest_of(&q, now);
	assert_memory_not_equal(was, now, 32);
	put_be64(q.p + entry_at(&q, 0), at);
	put_be64(q.p + 24, SIZE - 1);
	digest_of(&q, now);
	assert_memory_not_equal(was, now, 32);
	put_be64(q.p + 24, SIZE);
	put_be64(q.p + L1_AT + 8, 1024);	/* an empty table where there was none */
	digest_of(&q, now);
	assert_memory_not_equal(was, now, 32);
}

static void cannot_write(const char *dir, struct writer_opts o, const char *cause)
{
	char *path = test_path(dir, "new.qcow");
	struct err e = ERR_INIT;
	struct image_writer *w;

	o.path = path;
	assert_int_equal(format_find("qcow")->create(&o, &w, &e), ERR_INVALID);
	assert_has(e.cause, cause);
	assert_int_equal(access(path, F_OK), -1);
	free(path);
}

static void test_qcow__not_written(void **state)
{
	char *dir = test_folder_new();

	(void)state;
	cannot_write(dir, (struct writer_opts){ .size = 0 }, "without bytes");
	cannot_write(dir, (struct writer_opts){ .size = 4096, .cluster_size = 256 }, "clusters of 256 bytes");
	cannot_write(dir, (struct writer_opts){ .size = 4096, .cluster_size = 131072 }, "clusters of 131072 bytes");
	cannot_write(dir, (struct writer_opts){ .size = 4096, .preallocation = PREALLOC_FULL }, "preallocated");
	cannot_write(dir, (struct writer_opts){ .size = 8 * TIB + 512 }, "too large");
	cannot_write(dir, (struct writer_opts){ .size = 4096, .max_size = 8192 }, "one size");
	cannot_write(dir, (struct writer_opts){ .size = 4096, .subformat = "fixed" }, "one kind");
	test_folder_done(dir);
}

/* Parts of clusters in any order land in one cluster; the header is QEMU's. */
static void test_qcow__parts(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "new.qcow");
	struct writer_opts o = { .path = path, .size = 8 * TIB };
	struct writer_state_opts so = { .size = o.size };
	struct image_open_opts oo = { 0 };
	struct err e = ERR_INIT;
	struct image_writer *w;
	struct image *im;
	uint8_t b[3 * CS];
	int fd;

	(void)state;
	memset(b, 6, sizeof(b));
	assert_ok(format_find("qcow")->create(&o, &w, &e), &e);
	assert_true(writer_is_concurrent(w));
	assert_ok(writer_begin_state(w, &so, &e), &e);
	assert_ok(writer_write(w, b, 100, o.size - 100, &e), &e);
	assert_ok(writer_write(w, b, 2 * CS, 3 * CS + 5, &e), &e);
	assert_ok(writer_write(w, b, 5, 3 * CS, &e), &e);
	assert_ok(writer_finish(w, &e), &e);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_ok(format_find("qcow")->open(fd, path, &oo, &im, &e), &e);
	assert_int_equal(im->info.virtual_size, o.size);
	expect(im, 0, EXTENT_HOLE, 3 * CS, 0);
	expect_bytes(im, 3 * CS, 2 * CS + 5, 6);
	expect_bytes(im, 5 * CS + 5, CS - 5, 0);
	expect_bytes(im, o.size - 200, 100, 0);
	expect_bytes(im, o.size - 100, 100, 6);
	assert_true(im->info.file_size < 34 * MIB);
	image_close(im);
	free(path);
	test_folder_done(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_qcow__reads), cmocka_unit_test(test_qcow__odd_table),
		cmocka_unit_test(test_qcow__short_file),
		cmocka_unit_test(test_qcow__backing),
		cmocka_unit_test(test_qcow__fields),
		cmocka_unit_test(test_qcow__entries),
		cmocka_unit_test(test_qcow__truncated),
		cmocka_unit_test(test_qcow__digest),
		cmocka_unit_test(test_qcow__not_written),
		cmocka_unit_test(test_qcow__parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
