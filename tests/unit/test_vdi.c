/* The VDI reader: every field of the header right and wrong, the map, what it reads as, digests. */
#include "tests/test.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/formats.h"
#include "tests/support/vimage.h"

#define BS 4096u

static struct image *opened(const struct vimage *v)
{
	struct err e = ERR_INIT;
	struct image *im = NULL;

	assert_ok(vimage_open(v, false, &im, &e), &e);
	return im;
}

static void refused(const struct vimage *v, int code, const char *cause)
{
	struct err e = ERR_INIT;
	struct image *im;
	int r = vimage_open(v, false, &im, &e);

	if (r != code || !strstr(e.cause, cause))
		fail_msg("%s: %s; wanted %s: %s", err_code_name(r), e.cause, err_code_name(code), cause);
	if (code == ERR_CORRUPT)
		assert_has(e.hint, "--force");
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

/* Blocks 2 and 3 lie together, 5 is zero, 7 lies before them, the rest was never written; the disk ends inside 9. */
static void fill(struct vimage *v)
{
	(void)vimage_fill(v, 7, 7);
	(void)vimage_fill(v, 2, 2);
	(void)vimage_fill(v, 3, 3);
	(void)vimage_fill(v, 9, 9);
	vimage_entry(v, 5, UINT32_MAX - 1);
}

static void test_vdi__reads(void **state)
{
	uint64_t size = 9 * BS + 512;
	struct vimage v;
	struct image *im;
	char text[40];

	(void)state;
	vimage_init(&v, size, BS, 0, 0x11);
	fill(&v);
	im = opened(&v);
	assert_int_equal(im->info.virtual_size, size);
	assert_int_equal(im->info.cluster_size, BS);
	assert_int_equal(im->info.version, 1);
	assert_string_equal(im->info.variant, "dynamic");
	assert_string_equal(im->info.ids.uuid, vimage_uuid(0x11, false, text));
	assert_string_equal(im->info.ids.modify, vimage_uuid(0x11, true, text));
	assert_false(image_has_parent(im));
	expect(im, 0, EXTENT_HOLE, 2 * BS, 0);
	expect(im, 2 * BS, EXTENT_DATA, 2 * BS, v.data + BS);
	expect(im, 3 * BS + 100, EXTENT_DATA, BS - 100, v.data + 2 * BS + 100);
	expect(im, 4 * BS, EXTENT_HOLE, BS, 0);
	expect(im, 5 * BS + 1, EXTENT_ZERO, BS - 1, 0);
	expect(im, 6 * BS, EXTENT_HOLE, BS, 0);
	expect(im, 7 * BS, EXTENT_DATA, BS, v.data);
	expect(im, 9 * BS, EXTENT_DATA, 512, v.data + 3 * BS);
	expect_bytes(im, 0, 2 * BS, 0);
	expect_bytes(im, 2 * BS, BS, 2);
	expect_bytes(im, 3 * BS, BS, 3);
	expect_bytes(im, 4 * BS, 3 * BS, 0);
	expect_bytes(im, 7 * BS, BS, 7);
	expect_bytes(im, 9 * BS, 512, 9);
	image_close(im);
	vimage_done(&v);
}

/* Bytes before each block belong to nobody: QEMU ignores that they are there. */
static void test_vdi__extra(void **state)
{
	struct vimage v;
	struct image *im;

	(void)state;
	vimage_init(&v, 10 * BS, BS, 512, 1);
	fill(&v);
	im = opened(&v);
	expect(im, 2 * BS, EXTENT_DATA, BS, v.data + BS + 2 * 512);	/* with the next one's extra between, no longer */
	expect_bytes(im, 2 * BS, BS, 2);
	expect_bytes(im, 3 * BS, BS, 3);
	expect_bytes(im, 7 * BS, BS, 7);
	expect_bytes(im, 9 * BS, BS, 9);
	image_close(im);
	vimage_le32(&v, VIMAGE_EXTRA, 513);
	refused(&v, ERR_CORRUPT, "513 extra bytes");
	vimage_done(&v);
}

static void test_vdi__version_0(void **state)
{
	struct vimage v;
	struct image *im;
	char text[40];

	(void)state;
	vimage_init0(&v, 10 * BS, BS, 0x21);
	fill(&v);
	im = opened(&v);
	assert_int_equal(im->info.version, 0);
	assert_string_equal(im->info.ids.uuid, vimage_uuid(0x21, false, text));
	expect_bytes(im, 2 * BS, BS, 2);
	expect_bytes(im, 9 * BS, BS, 9);
	expect(im, 7 * BS, EXTENT_DATA, BS, 420 + 10 * 4);
	image_close(im);
	vimage_le32(&v, 364, 11);	/* one block more: map and data move on */
	refused(&v, ERR_CORRUPT, "");
	vimage_done(&v);
}

static void test_vdi__kinds(void **state)
{
	struct vimage v;
	struct image *im;
	char text[40];

	(void)state;
	vimage_init(&v, 4 * BS, BS, 0, 1);
	for (uint32_t i = 0; i < 4; i++)
		(void)vimage_fill(&v, i, (uint8_t)i);
	vimage_le32(&v, VIMAGE_TYPE, 2);
	im = opened(&v);
	assert_string_equal(im->info.variant, "fixed");
	expect_bytes(im, 3 * BS, BS, 3);
	image_close(im);
	vimage_child(&v, 0x33);
	im = opened(&v);
	assert_string_equal(im->info.variant, "differencing");
	assert_true(image_has_parent(im));
	assert_string_equal(im->parent.ids.uuid, vimage_uuid(0x33, false, text));
	assert_string_equal(im->parent.ids.modify, vimage_uuid(0x33, true, text));
	image_close(im);
	vimage_le32(&v, VIMAGE_TYPE, 3);
	im = opened(&v);
	assert_string_equal(im->info.variant, "undo");
	image_close(im);
	vimage_le32(&v, VIMAGE_TYPE, 1);
	refused(&v, ERR_CORRUPT, "type 1 with a parent UUID");
	memset(v.p + VIMAGE_PARENT, 0, 16);
	vimage_le32(&v, VIMAGE_TYPE, 4);
	refused(&v, ERR_CORRUPT, "type 4 without a parent UUID");
	vimage_done(&v);
}

struct field {
	size_t at;
	unsigned width;
	uint64_t value;
	int code;
	const char *cause;
};

/* One field changed at a time, of an image of 10 blocks, of which 4 are allocated. */
static const struct field fields[] = {
	{ 64, 4, 0xbeda107e, ERR_CORRUPT, "signature 0xbeda107e" },
	{ VIMAGE_VERSION, 4, 0x20000, ERR_UNSUPPORTED, "version 2.0" },
	{ VIMAGE_VERSION, 4, 0x10002, 0, "" },
	{ VIMAGE_VERSION, 4, 0x10000, 0, "" },
	{ VIMAGE_HEADER_SIZE, 4, 383, ERR_CORRUPT, "size of 383 bytes" },
	{ VIMAGE_HEADER_SIZE, 4, 384, 0, "" },
	{ VIMAGE_TYPE, 4, 0, ERR_CORRUPT, "image type 0" },
	{ VIMAGE_TYPE, 4, 5, ERR_CORRUPT, "image type 5" },
	{ VIMAGE_MAP, 4, 455, ERR_CORRUPT, "inside the header" },
	{ VIMAGE_MAP, 4, 100000, ERR_CORRUPT, "block map of 10 entries at 100000" },
	{ VIMAGE_MAP, 4, UINT32_MAX, ERR_CORRUPT, "block map" },
	{ VIMAGE_DATA, 4, 512 + 39, ERR_CORRUPT, "inside the block map" },
	{ VIMAGE_DATA, 4, 512 + 40, 0, "" },
	{ VIMAGE_DATA, 4, 1025, ERR_CORRUPT, "past the end of the file" },
	{ VIMAGE_SIZE, 8, 10 * BS + 1, ERR_CORRUPT, "but 10 blocks" },
	{ VIMAGE_SIZE, 8, UINT64_MAX, ERR_CORRUPT, "but 10 blocks" },
	{ VIMAGE_SIZE, 8, 0, 0, "" },
	{ VIMAGE_BLOCK, 4, 0, ERR_CORRUPT, "block size 0" },
	{ VIMAGE_BLOCK, 4, BS + 512, ERR_CORRUPT, "block size 4608" },
	{ VIMAGE_BLOCK, 4, 256, ERR_CORRUPT, "block size 256" },
	{ VIMAGE_BLOCK, 4, 0x80000000, ERR_CORRUPT, "past the end of the file" },
	{ VIMAGE_EXTRA, 4, 3, ERR_CORRUPT, "3 extra bytes" },
	{ VIMAGE_EXTRA, 4, 0x80000000, ERR_CORRUPT, "past the end of the file" },
	{ VIMAGE_BLOCKS, 4, 9, ERR_CORRUPT, "but 9 blocks" },
	{ VIMAGE_BLOCKS, 4, 0x1fffffff, ERR_CORRUPT, "block map of 536870911 entries" },
	{ VIMAGE_BLOCKS, 4, 0x20000000, ERR_UNSUPPORTED, "536870912 blocks" },
	{ VIMAGE_BLOCKS, 4, UINT32_MAX, ERR_UNSUPPORTED, "4294967295 blocks" },
	{ VIMAGE_ALLOCATED, 4, 11, ERR_CORRUPT, "11 blocks allocated of 10" },
	{ VIMAGE_ALLOCATED, 4, 0, 0, "" },
	{ 512, 4, 10, ERR_CORRUPT, "entry at 512: block 0 lies in place 10" },
	{ 512, 4, UINT32_MAX - 2, ERR_CORRUPT, "lies in place 4294967293" },
	{ 512, 4, 4, ERR_CORRUPT, "past the end of the file" },
	{ 512, 4, 1, ERR_CORRUPT, "entry at 520: the data in place 1 belong to two blocks" },
};

static void test_vdi__fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		const struct field *f = &fields[i];
		struct vimage v;

		vimage_init(&v, 10 * BS, BS, 0, 1);
		fill(&v);
		if (f->width == 8)
			vimage_le64(&v, f->at, f->value);
		else
			vimage_le32(&v, f->at, (uint32_t)f->value);
		if (f->code)
			refused(&v, f->code, f->cause);
		else
			image_close(opened(&v));
		vimage_done(&v);
	}
}

/* A file cut short anywhere is refused for what is missing, and by force the rest of it is read. */
static void test_vdi__truncated(void **state)
{
	struct err e = ERR_INIT;
	struct vimage v;
	struct image *im;
	size_t whole;
	uint8_t b;

	(void)state;
	vimage_init(&v, 9 * BS + 512, BS, 0, 1);
	fill(&v);
	whole = v.len;
	for (size_t len = 0; len < v.data; len += 13) {
		v.len = len;
		refused(&v, ERR_CORRUPT, "");
	}
	v.len = whole - BS + 512;	/* of the last block the disk has one sector */
	image_close(opened(&v));
	v.len--;
	refused(&v, ERR_CORRUPT, "entry at 548: the data of block 9");
	assert_ok(vimage_open(&v, true, &im, &e), &e);
	assert_has(im->info.damage, "entry at 548: the data of block 9");
	expect_bytes(im, 3 * BS, BS, 3);
	assert_err(image_pread(im, 0, &b, 1, 9 * BS, &e), ERR_CORRUPT, &e);
	image_close(im);
	v.len = whole;
	vimage_done(&v);
}

/* VirtualBox counts whole sectors, QEMU one more. */
static void test_vdi__odd_size(void **state)
{
	struct vimage v;
	struct image *im;

	(void)state;
	vimage_init(&v, 9 * BS + 700, BS, 0, 1);
	im = opened(&v);
	assert_int_equal(im->info.virtual_size, 9 * BS + 512);
	image_close(im);
	vimage_done(&v);
}

/* More entries than fit a slice of the map, data and holes across its end. */
static void test_vdi__slices(void **state)
{
	struct vimage v;
	struct image *im;

	(void)state;
	vimage_init(&v, 10000 * 512, 512, 0, 1);
	for (uint32_t i = 4090; i < 4100; i++)
		(void)vimage_fill(&v, i, (uint8_t)(i - 4000));
	(void)vimage_fill(&v, 9999, 200);
	im = opened(&v);
	for (uint32_t i = 4090; i < 4100; i++)
		expect_bytes(im, i * 512, 512, (uint8_t)(i - 4000));
	expect(im, 4090 * 512, EXTENT_DATA, 6 * 512, v.data);
	expect(im, 4096 * 512, EXTENT_DATA, 4 * 512, v.data + 6 * 512);
	expect(im, 9999 * 512, EXTENT_DATA, 512, v.data + 10 * 512);
	expect_bytes(im, 9000 * 512, 999 * 512, 0);
	image_close(im);
	vimage_done(&v);
}

/* A fixed image may be a sparse file: what is a hole there needs no reading.  Of a dynamic one, whose runs may be short
 * and many, nobody looks for the end of the data. */
static void test_vdi__file_holes(void **state)
{
	struct image_open_opts o = { 0 };
	struct err e = ERR_INIT;
	struct vimage v;
	struct image *im;
	size_t at;
	int fd;

	(void)state;
	vimage_init(&v, 4 * MIB, (uint32_t)MIB, 0, 1);
	at = vimage_fill(&v, 0, 0);
	for (uint32_t i = 1; i < 4; i++)
		(void)vimage_fill(&v, i, (uint8_t)i);
	for (int fixed = 0; fixed < 2; fixed++) {
		if (fixed)
			vimage_le32(&v, VIMAGE_TYPE, 2);
		fd = vimage_fd(&v);
		assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, MIB), 0);
		assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(at + 2 * MIB), MIB), 0);
		assert_ok(format_find("vdi")->open(fd, "test.vdi", &o, &im, &e), &e);
		/* holes are of whole pages */
		expect(im, 8192, EXTENT_ZERO, MIB - 8192 - at % 4096, 0);
		expect(im, MIB, EXTENT_DATA, fixed ? MIB + 4096 - at % 4096 : 3 * MIB, at + MIB);
		expect(im, 2 * MIB + 8192, EXTENT_ZERO, MIB - 8192 - at % 4096, 0);
		expect(im, 3 * MIB, EXTENT_DATA, MIB, at + 3 * MIB);
		expect_bytes(im, 2 * MIB, MIB, 0);
		expect_bytes(im, 3 * MIB, MIB, 3);
		image_close(im);
	}
	vimage_done(&v);
}

/* Data in a place that the header doesn't count are read, and told of: whoever writes next may put others there. */
static void test_vdi__uncounted(void **state)
{
	struct vimage v;
	struct image *im;

	(void)state;
	vimage_init(&v, 10 * BS, BS, 0, 1);
	(void)vimage_fill(&v, 2, 2);
	(void)vimage_fill(&v, 3, 3);
	im = opened(&v);
	assert_null(im->info.note);
	image_close(im);
	vimage_le32(&v, VIMAGE_ALLOCATED, 1);
	im = opened(&v);
	assert_non_null(im->info.note);
	assert_has(im->info.note, "block 3 lies in place 1, the header counts 1 places in use");
	expect_bytes(im, 3 * BS, BS, 3);
	image_close(im);
	vimage_done(&v);
}

static void digest_of(const struct vimage *v, uint8_t digest[32])
{
	struct image *im = opened(v);
	struct err e = ERR_INIT;

	assert_ok(image_state_digest(im, 0, digest, &e), &e);
	assert_memory_equal(digest, im->identity.metadata_digest, 32);
	image_close(im);
}

/* What maps the image is in the digest, what it holds isn't. */
static void test_vdi__digest(void **state)
{
	static const size_t changes[] = { VIMAGE_VERSION, VIMAGE_UUID, VIMAGE_MODIFY, VIMAGE_PARENT_MODIFY };
	uint8_t was[32], now[32];
	struct vimage v;

	(void)state;
	vimage_init(&v, 10 * BS, BS, 0, 1);
	fill(&v);
	digest_of(&v, was);
	v.p[v.data + 5] ^= 1;
	v.p[100] ^= 1;		/* the comment */
	digest_of(&v, now);
	assert_memory_equal(was, now, 32);
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		v.p[changes[i]] ^= 2;
		digest_of(&v, now);
		assert_memory_not_equal(was, now, 32);
		v.p[changes[i]] ^= 2;
	}
	vimage_entry(&v, 0, UINT32_MAX - 1);
	digest_of(&v, now);
	assert_memory_not_equal(was, now, 32);
	vimage_done(&v);
}

static void test_vdi__ids(void **state)
{
	const struct format *f = format_find("vdi");
	struct err e = ERR_INIT;
	struct image_ids ids;
	struct vimage v;
	char text[40];
	int fd;

	(void)state;
	vimage_init(&v, 10 * BS, BS, 0, 0x44);
	fd = vimage_fd(&v);
	assert_int_equal(f->read_ids(&(struct file){ fd, 0, v.len }, &ids, &e), 1);
	assert_string_equal(ids.uuid, vimage_uuid(0x44, false, text));
	assert_string_equal(ids.modify, vimage_uuid(0x44, true, text));
	assert_int_equal(f->read_ids(&(struct file){ fd, 0, 100 }, &ids, &e), 0);
	close(fd);
	/* the bytes of a GUID: the first three groups are turned round */
	memcpy(v.p + VIMAGE_UUID, "\x1b\xb0\xdf\x28\x9c\x38\x10\x4e\xb1\xb1\x95\x72\x67\x20\xe3\xf0", 16);
	fd = vimage_fd(&v);
	assert_int_equal(f->read_ids(&(struct file){ fd, 0, v.len }, &ids, &e), 1);
	assert_string_equal(ids.uuid, "28dfb01b-389c-4e10-b1b1-95726720e3f0");
	close(fd);
	vimage_done(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vdi__reads),
		cmocka_unit_test(test_vdi__extra),
		cmocka_unit_test(test_vdi__version_0),
		cmocka_unit_test(test_vdi__kinds),
		cmocka_unit_test(test_vdi__fields),
		cmocka_unit_test(test_vdi__truncated),
		cmocka_unit_test(test_vdi__odd_size),
		cmocka_unit_test(test_vdi__slices),
		cmocka_unit_test(test_vdi__file_holes),
		cmocka_unit_test(test_vdi__uncounted),
		cmocka_unit_test(test_vdi__digest),
		cmocka_unit_test(test_vdi__ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
