/* VMDK images: sparse, compressed and ESXi's kinds, each field right and wrong; what is damaged and what stays readable. */
#include "tests/test.h"

#include <inttypes.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "formats/vmdk/vmdk.h"
#include "tests/support/kimage.h"

static struct image *opened(const struct kimage *k)
{
	struct err e = ERR_INIT;
	struct image *im = NULL;

	assert_ok(kimage_open(k, NULL, false, &im, &e), &e);
	return im;
}

/* Closes nothing: it must not open.  k is done. */
static void refused(struct kimage *k, int code, const char *words)
{
	struct err e = ERR_INIT;
	struct image *im;

	assert_int_equal(kimage_open(k, NULL, false, &im, &e), code);
	assert_has(e.cause, words);
	kimage_done(k);
}

static void expect_extent(struct image *im, uint64_t off, uint64_t limit, enum extent_kind kind, uint64_t len)
{
	struct err e = ERR_INIT;
	struct extent x;

	assert_ok(image_next_extent(im, 0, off, limit, &x, &e), &e);
	if (x.kind != kind || x.len != len)
		fail_msg("at %" PRIu64 ": kind %d, %" PRIu64 " bytes, wanted %d, %" PRIu64, off, (int)x.kind, x.len,
			 (int)kind, len);
}

/* len bytes from off on are all `fill`. */
static void expect_bytes(struct image *im, uint64_t off, size_t len, uint8_t fill)
{
	uint8_t *buf = malloc(len);
	struct err e = ERR_INIT;

	assert_non_null(buf);
	memset(buf, 0xee, len);
	assert_ok(image_pread(im, 0, buf, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		if (buf[i] != fill)
			fail_msg("byte at %" PRIu64 ": %u, wanted %u", off + i, buf[i], fill);
	free(buf);
}

static void unreadable(struct image *im, uint64_t off, const char *words)
{
	struct err e = ERR_INIT;
	uint8_t b;

	assert_int_equal(image_pread(im, 0, &b, 1, off, &e), ERR_CORRUPT);
	assert_has(e.cause, words);
	assert_has(e.ctx, "guest offset");
	assert_true(e.hint[0]);
}

/* ---- hosted sparse ---- */

#define GRAINS (1u << 0 | 1u << 1 | 1u << 5 | 1u << 11)

static void test_sparse__map(void **state)
{
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sparse(&k, GRAINS, "");
	im = opened(&k);
	assert_int_equal(im->info.virtual_size, 23 * KSECTOR);
	assert_string_equal(im->info.format, "vmdk");
	assert_string_equal(im->info.variant, "monolithicSparse");
	assert_string_equal(im->info.ids.content, "12345678");
	assert_null(im->info.note);
	assert_false(image_has_parent(im));
	expect_extent(im, 0, UINT64_MAX, EXTENT_DATA, 2048);	/* two grains that lie together */
	expect_extent(im, 100, 200, EXTENT_DATA, 200);
	expect_extent(im, 2048, UINT64_MAX, EXTENT_HOLE, 3 * 1024);	/* from one table into the next */
	expect_extent(im, 5 * 1024, UINT64_MAX, EXTENT_DATA, 1024);
	expect_extent(im, 6 * 1024, UINT64_MAX, EXTENT_HOLE, 5 * 1024);
	expect_extent(im, 11 * 1024, UINT64_MAX, EXTENT_DATA, 512);	/* the disk ends inside the grain */
	expect_bytes(im, 0, 1024, 1);
	expect_bytes(im, 1024, 1024, 2);
	expect_bytes(im, 2048, 3072, 0);
	expect_bytes(im, 5 * 1024 + 7, 1000, 6);
	expect_bytes(im, 11 * 1024, 512, 12);
	image_close(im);
	kimage_done(&k);
}

static void test_sparse__zero_entry(void **state)
{
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sparse(&k, GRAINS, "");
	kimage_le32(&k, KSPARSE_TABLE(0) + 8, 1);	/* without the flag it is nothing's */
	kimage_le32(&k, KSPARSE_COPY_TABLE(0) + 8, 1);
	im = opened(&k);
	unreadable(im, 2048, "it means zeros, and the header says that there is no such entry");
	expect_bytes(im, 0, 2048 / 2, 1);		/* the others stay readable */
	image_close(im);
	kimage_le32(&k, 8, 7);
	kimage_le32(&k, 4, 2);
	im = opened(&k);
	expect_extent(im, 2048, UINT64_MAX, EXTENT_ZERO, 1024);
	expect_extent(im, 3072, UINT64_MAX, EXTENT_HOLE, 2048);
	image_close(im);
	kimage_done(&k);
}

static void test_sparse__header_fields(void **state)
{
	static const struct { uint64_t at; unsigned width; uint64_t v; int code; const char *words; } rows[] = {
		{ 4, 4, 0, ERR_UNSUPPORTED, "version 0" }, { 4, 4, 4, ERR_UNSUPPORTED, "version 4" },
		{ 8, 4, 0x40003, ERR_UNSUPPORTED, "flags" }, { 8, 4, 0x10003, ERR_CORRUPT, "but not how" },
		{ 12, 8, UINT64_MAX, ERR_CORRUPT, "capacity" }, { 12, 8, 22, ERR_CORRUPT, "23 sectors, its own header 22" },
		{ 12, 8, 25, ERR_CORRUPT, "23 sectors, its own header 25" },
		{ 12, 8, 0, ERR_UNSUPPORTED, "" },
		{ 20, 8, 0, ERR_CORRUPT, "grains of 0" }, { 20, 8, 3, ERR_CORRUPT, "grains of 3" },
		{ 20, 8, 1 << 22, ERR_CORRUPT, "grains of" },
		{ 28, 8, 1 << 20, ERR_CORRUPT, "descriptor" }, { 36, 8, UINT64_MAX / 2, ERR_CORRUPT, "descriptor" },
		{ 44, 4, 0, ERR_CORRUPT, "tables of 0" }, { 44, 4, 3, ERR_CORRUPT, "tables of 3" },
		{ 44, 4, 1024, ERR_CORRUPT, "tables of 1024" },
		{ 56, 8, 0, ERR_CORRUPT, "outside" }, { 56, 8, 36, ERR_CORRUPT, "outside" },
		{ 56, 8, UINT64_MAX - 1, ERR_CORRUPT, "outside" }, { 56, 8, 2, ERR_CORRUPT, "overlaps" },
		{ 73, 4, 0x0a0a0a0a, ERR_CORRUPT, "copied as text" }, { 77, 2, 2, ERR_UNSUPPORTED, "compression 2" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = ERR_INIT;
		struct image *im;
		struct kimage k;
		int r;

		kimage_sparse(&k, GRAINS, "");
		memset(k.p + 48, 0, 8);		/* no copy that could stand in */
		for (unsigned b = 0; b < rows[i].width; b++)
			k.p[rows[i].at + b] = (uint8_t)(rows[i].v >> (8 * b));
		r = kimage_open(&k, NULL, false, &im, &e);
		if (i == 7) {	/* a descriptor in a sparse file's clothes: its extent is elsewhere, and not opened */
			assert_ok(r, &e);
			image_close(im);
		} else if (r != rows[i].code || !strstr(e.cause, rows[i].words)) {
			fail_msg("field at %" PRIu64 " = %" PRIu64 ": %d, \"%s\"", rows[i].at, rows[i].v, r, e.cause);
		}
		kimage_done(&k);
	}
}

static void test_sparse__copy_of_the_directory(void **state)
{
	static const struct { uint32_t v; const char *words; } damage[] = {
		{ 99999, "grain directory entry at 3588 (0x1869f): the table is outside the file" },
		{ 8, "the grain table at 4096 overlaps the grain table at 4096" },	/* another entry's */
		{ 1, "overlaps the descriptor at 512" },
	};
	struct image *im;
	struct kimage k;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		kimage_sparse(&k, GRAINS, "");
		kimage_le32(&k, 7 * KSECTOR + 4, damage[i].v);
		im = opened(&k);
		assert_non_null(im->info.note);
		assert_has(im->info.note, "the redundant grain directory is used");
		expect_bytes(im, 5 * 1024, 1024, 6);
		expect_bytes(im, 11 * 1024, 512, 12);
		image_close(im);
		kimage_le32(&k, 3 * KSECTOR + 4, 99999);	/* now both are wrong */
		refused(&k, ERR_CORRUPT, damage[i].words);
	}
	for (size_t i = 0; i < 3; i++) {	/* the header's own place of the first */
		kimage_sparse(&k, GRAINS, "");
		kimage_le64(&k, 56, (const uint64_t[]){ 0, 0xffff, UINT64_MAX / 512 }[i]);
		im = opened(&k);
		assert_string_equal(im->info.note, "the redundant grain directory is used, the first is outside the file");
		expect_bytes(im, 5 * 1024, 1024, 6);
		image_close(im);
		kimage_le32(&k, 3 * KSECTOR + 4, 99999);
		refused(&k, ERR_CORRUPT, "grain directory entry at 1540");
	}
	kimage_sparse(&k, GRAINS, "");
	kimage_le32(&k, 3 * KSECTOR + 4, 99999);
	im = opened(&k);
	assert_has(im->info.note, "the redundant grain directory is damaged");
	expect_bytes(im, 5 * 1024, 1024, 6);
	image_close(im);
	kimage_done(&k);
}

static void test_sparse__copy_of_a_table(void **state)
{
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sparse(&k, GRAINS, "");
	kimage_le32(&k, KSPARSE_TABLE(1) + 4, 77777);
	kimage_le32(&k, KSPARSE_TABLE(2) + 12, 8);
	im = opened(&k);
	assert_has(im->info.note, "redundant grain tables are used, the first damage: grain table entry at 4612: the grain");
	expect_bytes(im, 0, 1024, 1);
	expect_bytes(im, 5 * 1024, 1024, 6);
	expect_bytes(im, 11 * 1024, 512, 12);
	image_close(im);
	kimage_le32(&k, KSPARSE_COPY_TABLE(1), 66666);	/* the copy has damage elsewhere: the first one counts */
	im = opened(&k);
	assert_string_equal(im->info.damage, "grain table entry at 4612: the grain is outside the file");
	unreadable(im, 5 * 1024, "grain table entry at 4612: the grain is outside the file");
	expect_bytes(im, 4 * 1024, 1024, 0);
	image_close(im);
	kimage_done(&k);
}

/* A grain may be cut off by the file's end, but not begin behind it. */
static void test_sparse__file_end(void **state)
{
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sparse(&k, GRAINS, "");
	k.len -= KSECTOR;
	im = opened(&k);
	expect_bytes(im, 11 * 1024, 512, 12);
	image_close(im);
	k.len -= 300;
	im = opened(&k);
	expect_extent(im, 11 * 1024, UINT64_MAX, EXTENT_DATA, 212);
	expect_extent(im, 11 * 1024 + 212, UINT64_MAX, EXTENT_ZERO, 300);
	expect_extent(im, 11 * 1024 + 500, UINT64_MAX, EXTENT_ZERO, 12);
	expect_bytes(im, 11 * 1024, 212, 12);
	expect_bytes(im, 11 * 1024 + 212, 300, 0);
	image_close(im);
	k.len += 300;
	k.len -= 2 * KSECTOR;
	im = opened(&k);
	unreadable(im, 11 * 1024, "outside the file");
	image_close(im);
	kimage_done(&k);
}

static void test_sparse__digest(void **state)
{
	uint8_t a[32], b[32];
	struct err e = ERR_INIT;
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sparse(&k, GRAINS, "");
	im = opened(&k);
	assert_ok(image_state_digest(im, 0, a, &e), &e);
	assert_memory_equal(a, im->identity.metadata_digest, 32);
	image_close(im);
	kimage_fill(&k, 12, 99, 1024);		/* data don't count */
	im = opened(&k);
	assert_ok(image_state_digest(im, 0, b, &e), &e);
	assert_memory_equal(a, b, 32);
	image_close(im);
	kimage_le32(&k, KSPARSE_TABLE(0) + 4, 0);
	im = opened(&k);
	assert_ok(image_state_digest(im, 0, b, &e), &e);
	assert_memory_not_equal(a, b, 32);
	image_close(im);
	kimage_done(&k);
	/* where all grains lie */
	kimage_sesparse(&k);
	assert_ok(kimage_open(&k, NULL, true, &im, &e), &e);
	memcpy(a, im->identity.metadata_digest, 32);
	image_close(im);
	kimage_le64(&k, 192, get_le64(k.p + 192) + 1);
	assert_ok(kimage_open(&k, NULL, true, &im, &e), &e);
	assert_memory_not_equal(a, im->identity.metadata_digest, 32);
	image_close(im);
	kimage_done(&k);
}

/* ---- streamOptimized ---- */

static void test_stream__grains(void **state)
{
	struct image *im;
	struct kimage k;
	struct extent x;
	struct err e = ERR_INIT;
	uint64_t at[12];

	(void)state;
	kimage_stream(&k, GRAINS, at);
	im = opened(&k);
	assert_string_equal(im->info.compression, "deflate");
	expect_extent(im, 0, UINT64_MAX, EXTENT_DATA, 1024);	/* compressed ones stay apart */
	assert_ok(image_next_extent(im, 0, 1030, 10, &x, &e), &e);
	assert_true(x.origin.compressed && x.origin.inner == 6 && x.origin.host == at[1] * KSECTOR);
	expect_extent(im, 2048, UINT64_MAX, EXTENT_HOLE, 3072);
	expect_bytes(im, 0, 1024, 1);
	expect_bytes(im, 1024 + 5, 1000, 2);
	expect_bytes(im, 5 * 1024, 1024, 6);
	expect_bytes(im, 11 * 1024, 512, 12);
	image_close(im);
	kimage_grow(&k, k.len / KSECTOR + 100);		/* padding of a tar */
	im = opened(&k);
	expect_bytes(im, 11 * 1024, 512, 12);
	image_close(im);
	kimage_grow(&k, k.len / KSECTOR + 200);
	refused(&k, ERR_CORRUPT, "no footer in the last 64 KiB");
}

static void test_stream__damage(void **state)
{
	struct image *im;
	struct kimage k;
	uint64_t at[12];

	(void)state;
	kimage_stream(&k, GRAINS, at);
	kimage_le64(&k, at[1] * KSECTOR, 4);		/* another grain's */
	kimage_le32(&k, at[5] * KSECTOR + 8, 999999);	/* too long for a grain */
	k.p[at[11] * KSECTOR + 20] ^= 0xff;		/* its zlib data */
	im = opened(&k);
	expect_bytes(im, 0, 1024, 1);
	unreadable(im, 1024, "it is of sector 4, its table has it at 2");
	unreadable(im, 5 * 1024, "999999 bytes are too many");
	unreadable(im, 11 * 1024, "its zlib data don't give 512 bytes");
	image_close(im);
	kimage_le32(&k, k.len - 2 * KSECTOR + 20, 4);	/* the footer's grain */
	refused(&k, ERR_CORRUPT, "doesn't agree with the header");
	kimage_stream(&k, GRAINS, NULL);
	k.len -= 2 * KSECTOR;
	refused(&k, ERR_CORRUPT, "cut off");
}

/* Tables of kimage_stream lie in a row, each behind its marker, in front of directory, footer and end. */
static uint64_t stream_entry(const struct kimage *k, uint32_t n)
{
	return k->len - (5 + 2 * (3 - n / 4)) * KSECTOR + KSECTOR + 4 * (n % 4);
}

/* Two entries name one grain: it is in the cache when the wrong one is read, or it isn't. */
static void test_stream__one_grain_twice(void **state)
{
	struct image *im;
	struct kimage k;
	uint64_t at[12];

	(void)state;
	kimage_stream(&k, GRAINS, at);
	assert_int_equal(get_le32(k.p + stream_entry(&k, 0)), at[0]);
	assert_int_equal(get_le32(k.p + stream_entry(&k, 5)), at[5]);
	kimage_le32(&k, stream_entry(&k, 1), (uint32_t)at[0]);
	for (int cached = 0; cached < 2; cached++) {
		im = opened(&k);
		if (cached)
			expect_bytes(im, 0, 1024, 1);
		unreadable(im, 1024, "it is of sector 0, its table has it at 2");
		expect_bytes(im, 0, 1024, 1);
		image_close(im);
	}
	kimage_done(&k);
}

/* The zlib data themselves, without a header in front of them: the flag for markers is clear. */
static void make_bare(struct kimage *k, const uint64_t at[12])
{
	kimage_le32(k, 8, 0x10001);
	kimage_le32(k, k->len - 2 * KSECTOR + 8, 0x10001);
	for (uint32_t n = 0; n < 12; n++)
		if (GRAINS >> n & 1)
			memmove(k->p + at[n] * KSECTOR, k->p + at[n] * KSECTOR + 12, KSECTOR - 12);
}

/* Bare data may be of several grains, but the disk's last one is too short for a whole one. */
static void test_stream__bare_last_grain_twice(void **state)
{
	struct image *im;
	uint8_t data[KSECTOR];
	uLongf len = KSECTOR;
	struct kimage k;
	uint64_t at[12];

	(void)state;
	kimage_stream(&k, GRAINS, at);
	make_bare(&k, at);
	memset(data, 12, sizeof(data));
	assert_int_equal(compress(k.p + at[11] * KSECTOR, &len, data, sizeof(data)), Z_OK);
	kimage_le32(&k, stream_entry(&k, 1), (uint32_t)at[0]);
	kimage_le32(&k, stream_entry(&k, 5), (uint32_t)at[11]);
	im = opened(&k);
	expect_bytes(im, 0, 2048, 1);
	expect_bytes(im, 11 * 1024, 512, 12);
	unreadable(im, 5 * 1024, "its zlib data don't give 1024 bytes");
	image_close(im);
	kimage_done(&k);
}

static void test_stream__without_markers(void **state)
{
	struct image *im;
	struct kimage k;
	uint64_t at[12];

	(void)state;
	kimage_stream(&k, GRAINS, at);
	make_bare(&k, at);
	im = opened(&k);
	expect_bytes(im, 0, 1024, 1);
	expect_bytes(im, 5 * 1024, 1024, 6);
	expect_bytes(im, 11 * 1024, 512, 12);
	image_close(im);
	kimage_done(&k);
}

/* ---- COWD, SESparse ---- */

#define COWD_LINE "RW 4196 VMFSSPARSE \"delta.vmdk\""
#define SE_LINE "RW 32848 SESPARSE \"se.vmdk\""

static int open_extent(const char *type, const char *line, const char *name, const struct kimage *k, struct image **ret,
		       struct err *e)
{
	CLEANUP(free_ptr) char *text = kdescriptor(type, line);
	struct kfiles files = { 0 };
	int r;

	kfiles_add(&files, name, k);
	r = kdescriptor_open(text, &files, false, ret, e);
	kfiles_done(&files);
	return r;
}

static void test_cowd(void **state)
{
	struct err e = ERR_INIT;
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_cowd(&k);
	assert_ok(open_extent("vmfsSparse", COWD_LINE, "delta.vmdk", &k, &im, &e), &e);
	assert_null(im->info.damage);
	expect_bytes(im, 0, 512, 1);
	expect_bytes(im, 512, 512, 2);
	expect_extent(im, 1024, UINT64_MAX, EXTENT_HOLE, 4093 * 512);
	expect_bytes(im, 4095 * 512, 512, 3);
	expect_extent(im, 4096 * 512, UINT64_MAX, EXTENT_HOLE, 99 * 512);
	expect_bytes(im, 4195 * 512, 512, 4);
	image_close(im);
	kimage_le32(&k, 5 * KSECTOR, 1);	/* no entry for zeros here: it is the header */
	assert_ok(open_extent("vmfsSparse", COWD_LINE, "delta.vmdk", &k, &im, &e), &e);
	unreadable(im, 0, "the grain lies in metadata");
	image_close(im);
	kimage_le32(&k, 4 * KSECTOR + 4, 5);
	assert_err(open_extent("vmfsSparse", COWD_LINE, "delta.vmdk", &k, &im, &e), ERR_CORRUPT, &e);
	kimage_le32(&k, 24, 1);
	assert_int_equal(open_extent("vmfsSparse", COWD_LINE, "delta.vmdk", &k, &im, &e), ERR_CORRUPT);
	assert_has(e.cause, "a directory of 1 entries is too small");
	kimage_done(&k);
}

static void test_sesparse(void **state)
{
	struct err e = ERR_INIT;
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sesparse(&k);
	assert_ok(open_extent("seSparse", SE_LINE, "se.vmdk", &k, &im, &e), &e);
	expect_extent(im, 0, UINT64_MAX, EXTENT_DATA, 8192);
	expect_bytes(im, 0, 4096, 1);
	expect_bytes(im, 4096, 4096, 2);
	expect_extent(im, 8192, UINT64_MAX, EXTENT_ZERO, 8192);		/* zero and unmapped */
	expect_extent(im, 16384, UINT64_MAX, EXTENT_HOLE, (4105 - 4) * 4096);
	expect_bytes(im, 4105 * 4096, 4096, 3);
	assert_has(im->info.note, "unmapped");
	image_close(im);
	kimage_le64(&k, KSE_TABLE(0) + 16, (uint64_t)7 << 60);
	kimage_le64(&k, KSE_TABLE(0) + 24, 5);
	kimage_le64(&k, KSE_TABLE(0) + 8, (uint64_t)3 << 60 | 0xffffffffffff);
	assert_ok(open_extent("seSparse", SE_LINE, "se.vmdk", &k, &im, &e), &e);
	unreadable(im, 4096, "outside the file");
	unreadable(im, 8192, "its kind is not known");
	unreadable(im, 12288, "reserved bits");
	image_close(im);
	kimage_done(&k);
}

static void test_sesparse__refused(void **state)
{
	static const struct { uint64_t at, v; int code; const char *words; } rows[] = {
		{ 8, 1, ERR_UNSUPPORTED, "version" }, { 24, 16, ERR_UNSUPPORTED, "grains of 16" },
		{ 40, 1, ERR_UNSUPPORTED, "flags" }, { 72, 1, ERR_UNSUPPORTED, "reserved" },
		{ 504, 1, ERR_CORRUPT, "must be zero" }, { KSECTOR, 1, ERR_CORRUPT, "magic" },
		{ KSECTOR + 24, 1, ERR_UNSUPPORTED, "journal must be replayed" },
		{ 128, 99999, ERR_CORRUPT, "grain directory of" }, { 136, 0, ERR_CORRUPT, "too small" },
		{ 4 * KSECTOR, 1, ERR_CORRUPT, "no table's index" },
		{ 4 * KSECTOR, (uint64_t)0x10000000 << 32 | 2, ERR_CORRUPT, "area of grain tables" },
		{ 4 * KSECTOR, (uint64_t)0x10000000 << 32 | 1, ERR_CORRUPT, "overlaps" },
		{ 144, UINT64_MAX / 1024, ERR_CORRUPT, "outside the file" }, { 16, 32847, ERR_CORRUPT, "its own header 32847" },
	};
	struct err e = ERR_INIT;
	struct image *im;
	struct kimage k;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int r;

		kimage_sesparse(&k);
		kimage_le64(&k, rows[i].at, rows[i].v);
		r = open_extent("seSparse", SE_LINE, "se.vmdk", &k, &im, &e);
		if (r != rows[i].code || !strstr(e.cause, rows[i].words))
			fail_msg("field at %" PRIu64 ": %d, \"%s\"", rows[i].at, r, e.cause);
		assert_has(e.ctx, "extent se.vmdk");
		kimage_done(&k);
	}
}

/* ---- parts of a disk, and claims ---- */

static void test_extent_without_descriptor(void **state)
{
	struct err e = ERR_INIT;
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sparse(&k, GRAINS, "");
	memset(k.p + KSECTOR, 0, 1024);
	assert_int_equal(kimage_open(&k, NULL, false, &im, &e), ERR_UNSUPPORTED);
	assert_has(e.hint, "--force");
	assert_ok(kimage_open(&k, NULL, true, &im, &e), &e);
	assert_int_equal(im->info.virtual_size, 24 * KSECTOR);
	expect_bytes(im, 5 * 1024, 1024, 6);
	image_close(im);
	kimage_done(&k);
	kimage_cowd(&k);
	assert_int_equal(kimage_open(&k, NULL, false, &im, &e), ERR_UNSUPPORTED);
	assert_ok(kimage_open(&k, NULL, true, &im, &e), &e);
	expect_bytes(im, 512, 512, 2);
	image_close(im);
	kimage_done(&k);
}

/* A claim of any size costs what is there: a directory must be in the file. */
/* The directory is in the file, as a hole: looking through it would take as long as it claims. */
static void test_claims__directory(void **state)
{
	CLEANUP(free_ptr) char *text = kdescriptor("monolithicSparse", "RW 8589934593 SPARSE \"x\"");
	struct image_open_opts o = { 0 };
	struct err e = ERR_INIT;
	struct image *im;
	struct kimage k;
	int fd;

	(void)state;
	kimage_sparse(&k, 0, "");
	memset(k.p + KSECTOR, 0, KSECTOR);
	kimage_text(&k, KSECTOR, text);
	kimage_le64(&k, 12, ((uint64_t)1 << 33) + 1);
	kimage_le64(&k, 20, 1);
	kimage_le32(&k, 44, 256);
	kimage_le64(&k, 48, 0);
	kimage_le64(&k, 56, k.len / KSECTOR);
	fd = kimage_fd(&k);
	assert_int_equal(ftruncate(fd, (off_t)(k.len + (1 << 27) + 4)), 0);
	assert_int_equal(vmdk_open(fd, "x.vmdk", &o, &im, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "directory of 33554433 entries, 33554432 are the limit");
	close(fd);
	kimage_done(&k);
}

static void test_claims(void **state)
{
	struct kimage k;

	(void)state;
	kimage_sparse(&k, GRAINS, "");
	kimage_le64(&k, 12, (uint64_t)1 << 53);
	memset(k.p + 48, 0, 8);
	refused(&k, ERR_CORRUPT, "is outside the file");
	kimage_cowd(&k);
	kimage_le32(&k, 12, UINT32_MAX);
	kimage_le32(&k, 24, UINT32_MAX);
	{
		struct err e = ERR_INIT;
		struct image *im;

		assert_int_equal(kimage_open(&k, NULL, true, &im, &e), ERR_CORRUPT);
		assert_has(e.cause, "is outside the file");
	}
	kimage_done(&k);
	kimage_init(&k, 1);
	kimage_text(&k, 0, "KDMV");
	refused(&k, ERR_UNSUPPORTED, "version 0");
	kimage_init(&k, 2);
	k.len = 200;
	kimage_text(&k, 0, "KDMV");
	refused(&k, ERR_CORRUPT, "ends inside its sparse header");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sparse__map),
		cmocka_unit_test(test_sparse__zero_entry),
		cmocka_unit_test(test_sparse__header_fields),
		cmocka_unit_test(test_sparse__copy_of_the_directory),
		cmocka_unit_test(test_sparse__copy_of_a_table),
		cmocka_unit_test(test_sparse__file_end),
		cmocka_unit_test(test_sparse__digest),
		cmocka_unit_test(test_stream__grains),
		cmocka_unit_test(test_stream__damage),
		cmocka_unit_test(test_stream__one_grain_twice),
		cmocka_unit_test(test_stream__bare_last_grain_twice),
		cmocka_unit_test(test_stream__without_markers),
		cmocka_unit_test(test_cowd),
		cmocka_unit_test(test_sesparse),
		cmocka_unit_test(test_sesparse__refused),
		cmocka_unit_test(test_extent_without_descriptor),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_claims__directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
