/* test_vhdx.c - VHDX images built by hand: headers, regions, metadata, block states, sector bitmaps, and what is
 * refused.  The log is in test_vhdx_log.c. */
#include "tests/test.h"

#include <unistd.h>

#include "base/bytes.h"
#include "formats/chain.h"
#include "formats/ids.h"
#include "tests/support/folder.h"
#include "tests/support/vhdximage.h"

#define BLOCK (1 * MIB)

static void expect_bytes(struct image *im, uint64_t off, uint8_t value, size_t len)
{
	uint8_t *got = malloc(len);
	struct err e = ERR_INIT;

	memset(got, 0xee, len);
	assert_ok(image_pread(im, 0, got, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		if (got[i] != value)
			fail_msg("byte %" PRIu64 " is 0x%02x, wanted 0x%02x", off + i, got[i], value);
	free(got);
}

static void expect_extent(struct image *im, uint64_t off, enum extent_kind kind, uint64_t len)
{
	struct err e = ERR_INIT;
	struct extent x;

	assert_ok(image_next_extent(im, 0, off, image_state(im, 0)->size, &x, &e), &e);
	assert_int_equal(x.kind, kind);
	assert_int_equal(x.len, len);
}

static void test_vhdx__block_states(void **state)
{
	struct vhdx_image v;
	struct image *im;

	(void)state;
	vhdx_image_new(&v, 8 * BLOCK + 1024, BLOCK, 512, NULL);
	vhdx_image_block(&v, 1, VHDX_FULLY_PRESENT, 0x11);
	vhdx_image_block(&v, 2, VHDX_FULLY_PRESENT, 0x22);
	vhdx_image_entry(&v, 3, VHDX_ZERO);
	vhdx_image_entry(&v, 4, VHDX_UNDEFINED | v.blocks);	/* an old place that must not be read */
	vhdx_image_entry(&v, 5, VHDX_UNMAPPED | v.blocks);
	vhdx_image_block(&v, 8, VHDX_FULLY_PRESENT, 0x88);
	assert_int_equal(ftruncate(v.fd, (off_t)(v.end - BLOCK + 1024)), 0);	/* QEMU's fixed ones end so */
	im = vhdx_image_open(&v, false);
	expect_extent(im, 0, EXTENT_HOLE, BLOCK);
	expect_extent(im, BLOCK, EXTENT_DATA, 2 * BLOCK);	/* the two lie together */
	expect_extent(im, 3 * BLOCK, EXTENT_ZERO, 3 * BLOCK);
	expect_extent(im, 6 * BLOCK, EXTENT_HOLE, 2 * BLOCK);
	expect_extent(im, 8 * BLOCK, EXTENT_DATA, 1024);
	expect_bytes(im, BLOCK, 0x11, 4096);
	expect_bytes(im, 3 * BLOCK - 512, 0x22, 512);
	expect_bytes(im, 3 * BLOCK, 0, 4096);
	expect_bytes(im, 4 * BLOCK + 512, 0, 2 * BLOCK);
	expect_bytes(im, 8 * BLOCK, 0x88, 1024);
	assert_string_equal(im->info.variant, "dynamic");
	image_close(im);
	vhdx_image_done(&v);
}

/* Chunks of 16 blocks: their bitmaps' entries stand between the blocks'. */
static void test_vhdx__chunks(void **state)
{
	uint32_t big = 256 << 20;
	struct vhdx_image v;
	struct image *im;

	(void)state;
	vhdx_image_new(&v, 40 * (uint64_t)big, big, 512, NULL);
	vhdx_image_block(&v, 15, VHDX_FULLY_PRESENT, 0x15);
	vhdx_image_block(&v, 16, VHDX_FULLY_PRESENT, 0x16);
	vhdx_image_block(&v, 33, VHDX_FULLY_PRESENT, 0x33);
	im = vhdx_image_open(&v, false);
	expect_extent(im, 0, EXTENT_HOLE, 15 * (uint64_t)big);
	expect_bytes(im, 15 * (uint64_t)big, 0x15, 512);
	expect_bytes(im, 16 * (uint64_t)big, 0x16, 512);
	expect_extent(im, 17 * (uint64_t)big, EXTENT_HOLE, 16 * (uint64_t)big);
	expect_bytes(im, 33 * (uint64_t)big, 0x33, 512);
	expect_extent(im, 34 * (uint64_t)big, EXTENT_HOLE, 6 * (uint64_t)big);
	image_close(im);
	vhdx_image_done(&v);
}

/* Every sector by its bit, lowest first, with both sector sizes; of a big disk also in the second chunk. */
static void partial(uint32_t sector, uint32_t block_size, uint64_t block)
{
	struct vhdx_parent p = { .relative = ".\\p.vhdx", .linkage = "{11111111-2222-3333-4444-555566667777}" };
	uint32_t sectors = block_size / sector, seed = 7;
	uint8_t *bits = calloc(1, sectors / 8);
	uint64_t at = block * block_size;
	struct err e = ERR_INIT;
	struct vhdx_image v;
	struct image *im;
	struct extent x;

	vhdx_image_new(&v, (block + 1) * block_size, block_size, sector, &p);
	for (uint32_t i = 0; i < sectors / 8; i++) {
		seed = seed * 1664525 + 1013904223;
		bits[i] = i % 64 < 20 ? 0 : i % 64 < 40 ? 0xff : (uint8_t)(seed >> 24);
	}
	vhdx_image_block(&v, block, VHDX_PARTIALLY_PRESENT, 0x77);
	vhdx_image_bitmap(&v, block, bits, sectors / 8);
	im = vhdx_image_open(&v, false);
	assert_string_equal(im->info.variant, "differencing");
	for (uint64_t i = 0; i < sectors; i += x.len / sector) {
		bool here = bits[i / 8] >> (i % 8) & 1;

		assert_ok(image_next_extent(im, 0, at + i * sector, block_size, &x, &e), &e);
		assert_int_equal(x.kind, here ? EXTENT_DATA : EXTENT_HOLE);
		assert_int_equal(x.len % sector, 0);
		for (uint64_t k = i; k < i + x.len / sector; k++)
			assert_int_equal(bits[k / 8] >> (k % 8) & 1, here);
		if (i + x.len / sector < sectors)
			assert_int_equal(bits[(i + x.len / sector) / 8] >> ((i + x.len / sector) % 8) & 1, !here);
		expect_bytes(im, at + i * sector, here ? 0x77 : 0, sector);
	}
	image_close(im);
	vhdx_image_done(&v);
	free(bits);
}

static void test_vhdx__partial_blocks(void **state)
{
	(void)state;
	partial(512, 1 << 20, 0);
	partial(4096, 1 << 20, 3);
	partial(512, 256 << 20, 17);
	partial(4096, 2 << 20, 1);
}

static void test_vhdx__headers(void **state)
{
	struct vhdx_image v;
	struct image *im;
	uint8_t was[4096];

	(void)state;
	/* The larger sequence number counts; the first one names a log that isn't one. */
	vhdx_image_new(&v, BLOCK, BLOCK, 512, NULL);
	vhdx_image_header(&v, 0, 5, "12345678-1234-1234-1234-123456789abc");
	vhdx_image_header(&v, 1, 6, NULL);
	im = vhdx_image_open(&v, false);
	image_close(im);
	vhdx_image_header(&v, 0, 7, "12345678-1234-1234-1234-123456789abc");
	vhdx_image_refused(&v, ERR_CORRUPT, "no whole sequence");
	/* One that is torn doesn't count. */
	vhdx_image_put(&v, VHDX_HEADER_1 + 3000, "x", 1);
	im = vhdx_image_open(&v, false);
	image_close(im);
	/* Two with one number must be one. */
	vhdx_image_header(&v, 0, 6, NULL);
	im = vhdx_image_open(&v, false);
	image_close(im);
	vhdx_image_header(&v, 0, 6, "12345678-1234-1234-1234-123456789abc");
	vhdx_image_refused(&v, ERR_CORRUPT, "differ and have one sequence number");
	memset(was, 0, sizeof(was));
	vhdx_image_put(&v, VHDX_HEADER_1, was, sizeof(was));
	vhdx_image_put(&v, VHDX_HEADER_2, was, sizeof(was));
	vhdx_image_refused(&v, ERR_CORRUPT, "neither header");
	vhdx_image_put(&v, 0, "vhdxfilf", 8);
	vhdx_image_refused(&v, ERR_CORRUPT, "no file identifier");
	vhdx_image_done(&v);
}

static void test_vhdx__regions(void **state)
{
	static const uint8_t unknown[16] = "unknown region.";
	struct vhdx_image v;
	uint8_t e[32] = { 0 };
	struct image *im;

	(void)state;
	vhdx_image_new(&v, BLOCK, BLOCK, 512, NULL);
	vhdx_image_put(&v, VHDX_REGIONS_1 + 20, "x", 1);	/* the copy counts */
	im = vhdx_image_open(&v, false);
	image_close(im);
	vhdx_image_put(&v, VHDX_REGIONS_2 + 20, "x", 1);
	vhdx_image_refused(&v, ERR_CORRUPT, "neither region table");
	vhdx_image_regions(&v, NULL, 0);
	memcpy(e, unknown, 16);
	put_le64(e + 16, 4 * MIB);
	put_le32(e + 24, MIB);
	vhdx_image_regions(&v, e, 3);		/* unknown, and not needed */
	im = vhdx_image_open(&v, false);
	image_close(im);
	put_le32(e + 28, 1);
	vhdx_image_regions(&v, e, 3);
	vhdx_image_refused(&v, ERR_UNSUPPORTED, "unknown and required");
	put_le32(e + 28, 0);
	put_le64(e + 16, 3 * MIB);
	vhdx_image_regions(&v, e, 3);
	vhdx_image_refused(&v, ERR_CORRUPT, "overlaps the one at 3145728");
	put_le64(e + 16, 1 * MIB);
	vhdx_image_regions(&v, e, 3);
	vhdx_image_refused(&v, ERR_CORRUPT, "overlaps the log");
	put_le64(e + 16, 0);
	vhdx_image_regions(&v, e, 3);
	vhdx_image_refused(&v, ERR_CORRUPT, "not whole MiB inside");
	put_le64(e + 16, 4 * MIB + 4096);
	vhdx_image_regions(&v, e, 3);
	vhdx_image_refused(&v, ERR_CORRUPT, "not whole MiB inside");
	put_le64(e + 16, UINT64_MAX - MIB + 1);
	vhdx_image_regions(&v, e, 3);
	vhdx_image_refused(&v, ERR_CORRUPT, "not whole MiB inside");
	memcpy(e, vhdx_guid_bat, 16);
	put_le64(e + 16, 4 * MIB);
	vhdx_image_regions(&v, e, 3);
	vhdx_image_refused(&v, ERR_CORRUPT, "two regions");
	vhdx_image_regions(&v, NULL, 1);
	vhdx_image_refused(&v, ERR_CORRUPT, "no block allocation table");
	vhdx_image_done(&v);
}

static void test_vhdx__metadata(void **state)
{
	static const struct {
		uint64_t at;		/* in the metadata region */
		uint64_t value;
		size_t len;
		int code;
		const char *cause;
	} rows[] = {
		{ 0, 0, 8, ERR_CORRUPT, "no metadata table" },
		{ 10, 2048, 2, ERR_CORRUPT, "2048 entries" },
		{ 10, 4, 2, ERR_CORRUPT, "no logical sector size" },
		{ 32 + 16, 65535, 4, ERR_CORRUPT, "file parameters: 8 bytes at 65535" },
		{ 32 + 16, 0xffffffff, 4, ERR_CORRUPT, "file parameters" },
		{ 32 + 20, 4, 4, ERR_CORRUPT, "file parameters: 4 bytes" },
		{ 32 + 15, 0, 1, ERR_UNSUPPORTED, "unknown and required" },
		{ VHDX_IMAGE_ITEMS, 0, 4, ERR_CORRUPT, "block size 0" },
		{ VHDX_IMAGE_ITEMS, 3 << 20, 4, ERR_CORRUPT, "block size" },
		{ VHDX_IMAGE_ITEMS, 512 << 10, 4, ERR_CORRUPT, "block size" },
		{ VHDX_IMAGE_ITEMS, 512 << 20, 4, ERR_CORRUPT, "block size" },
		{ VHDX_IMAGE_ITEMS + 4, 2, 4, ERR_CORRUPT, "names no parent" },
		{ VHDX_IMAGE_ITEMS + 4, 4, 4, ERR_UNSUPPORTED, "0x00000004 are unknown" },
		{ VHDX_IMAGE_ITEMS + 8, 64 * TIB + 512, 8, ERR_CORRUPT, "64 TiB" },
		{ VHDX_IMAGE_ITEMS + 8, 1000, 8, ERR_CORRUPT, "whole sectors" },
		{ VHDX_IMAGE_ITEMS + 8, TIB, 8, ERR_CORRUPT, "needs" },
		{ VHDX_IMAGE_ITEMS + 32, 1024, 4, ERR_CORRUPT, "logical sectors of 1024" },
		{ VHDX_IMAGE_ITEMS + 32, 0, 4, ERR_CORRUPT, "logical sectors of 0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vhdx_image v;
		uint8_t b[8];

		vhdx_image_new(&v, BLOCK, BLOCK, 512, NULL);
		put_le64(b, rows[i].value);
		vhdx_image_put(&v, 2 * MIB + rows[i].at, b, rows[i].len);
		vhdx_image_refused(&v, rows[i].code, rows[i].cause);
		vhdx_image_done(&v);
	}
}

static void test_vhdx__bad_entries(void **state)
{
	static const struct {
		uint64_t entry;
		const char *cause;
	} rows[] = {
		{ VHDX_FULLY_PRESENT, "lies in the headers" },
		{ 1 * MIB | VHDX_FULLY_PRESENT, "overlaps the log" },
		{ 2 * MIB | VHDX_FULLY_PRESENT, "overlaps the metadata" },
		{ 3 * MIB | VHDX_FULLY_PRESENT, "overlaps the block allocation table" },
		{ 5 * MIB | VHDX_FULLY_PRESENT, "overlap" },
		{ 100 * MIB | VHDX_FULLY_PRESENT, "outside the file" },
		{ UINT64_MAX << 20 | VHDX_FULLY_PRESENT, "outside the file" },
		{ 4 * MIB | VHDX_PARTIALLY_PRESENT, "no parent" },
		{ 5 * MIB | 4, "unknown state" },
		{ 5 * MIB | 5, "unknown state" },
		{ 5 * MIB | 8 | VHDX_FULLY_PRESENT, "reserved bits" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = ERR_INIT;
		struct vhdx_image v;
		struct image *im;
		uint8_t b;

		vhdx_image_new(&v, 4 * BLOCK, BLOCK, 512, NULL);
		vhdx_image_block(&v, 0, VHDX_FULLY_PRESENT, 0x10);
		vhdx_image_block(&v, 1, VHDX_FULLY_PRESENT, 0x20);
		vhdx_image_entry(&v, 1, rows[i].entry);
		vhdx_image_refused(&v, ERR_CORRUPT, rows[i].cause);
		im = vhdx_image_open(&v, true);		/* by force the others can be read */
		expect_bytes(im, 0, 0x10, 512);
		if (strcmp(rows[i].cause, "overlap") != 0)
			assert_err(image_pread(im, 0, &b, 1, BLOCK, &e), ERR_CORRUPT, &e);
		image_close(im);
		vhdx_image_done(&v);
	}
}

/* A partial block whose bitmap is missing or misplaced. */
static void test_vhdx__bad_bitmap(void **state)
{
	struct vhdx_parent p = { .relative = "p.vhdx", .linkage = "11111111-2222-3333-4444-555566667777" };
	struct err e = ERR_INIT;
	struct vhdx_image v;
	struct image *im;
	uint8_t b;

	(void)state;
	vhdx_image_new(&v, BLOCK, BLOCK, 512, &p);
	vhdx_image_block(&v, 0, VHDX_PARTIALLY_PRESENT, 0x10);
	im = vhdx_image_open(&v, false);
	assert_int_equal(image_pread(im, 0, &b, 1, 0, &e), ERR_CORRUPT);
	assert_has(e.cause, "no sector bitmap");
	image_close(im);
	vhdx_image_entry(&v, VHDX_IMAGE_BITMAP_OF(&v, 0), v.blocks | VHDX_FULLY_PRESENT);
	vhdx_image_refused(&v, ERR_CORRUPT, "overlap");
	vhdx_image_entry(&v, VHDX_IMAGE_BITMAP_OF(&v, 0), v.blocks | VHDX_PARTIALLY_PRESENT);
	vhdx_image_refused(&v, ERR_CORRUPT, "no state that a sector bitmap has");
	vhdx_image_done(&v);
}

/* ---- parents ---- */

static void write_child(const char *path, const struct vhdx_parent *p)
{
	struct vhdx_image v;

	vhdx_image_new(&v, 4 * BLOCK, BLOCK, 512, p);
	vhdx_image_block(&v, 1, VHDX_FULLY_PRESENT, 0xcc);
	vhdx_image_entry(&v, 2, VHDX_ZERO);
	vhdx_image_save(&v, path);
	vhdx_image_done(&v);
}

static void test_vhdx__parent(void **state)
{
	char *dir = test_folder_new(), *child = test_path(dir, "c.vhdx"), *parent = test_path(dir, "p.vhdx");
	struct chain_opts co = { .format = "vhdx" }, forced = { .format = "vhdx", .force = true };
	struct vhdx_parent p = { .linkage = VHDX_IMAGE_DATA_WRITE };
	struct err e = ERR_INIT;
	struct vhdx_image v;
	struct chain *c;

	(void)state;
	vhdx_image_new(&v, 4 * BLOCK, BLOCK, 512, NULL);
	for (uint64_t i = 0; i < 4; i++)
		vhdx_image_block(&v, i, VHDX_FULLY_PRESENT, (uint8_t)(0xa0 + i));
	vhdx_image_save(&v, parent);
	vhdx_image_done(&v);
	for (int i = 0; i < 6; i++) {	/* by each path, and by either id alone */
		p.relative = i == 0 ? ".\\p.vhdx" : NULL;
		p.absolute = i == 1 ? "C:\\old place\\p.vhdx" : NULL;
		p.volume = i == 2 ? "\\\\?\\Volume{5e0bd954}\\x\\p.vhdx" : NULL;
		p.linkage = i >= 4 ? "{99999999-9999-9999-9999-999999999999}" : VHDX_IMAGE_DATA_WRITE;
		p.linkage2 = i >= 4 ? VHDX_IMAGE_DATA_WRITE : NULL;
		p.relative = i == 4 ? "p.vhdx" : p.relative;
		write_child(child, &p);
		assert_ok(chain_open(child, &co, &c, &e), &e);
		assert_int_equal(c->nlayers, 2);
		expect_bytes(c->image, 0, 0xa0, 4096);
		expect_bytes(c->image, BLOCK, 0xcc, 4096);
		expect_bytes(c->image, 2 * BLOCK, 0, 4096);
		expect_bytes(c->image, 4 * BLOCK - 1, 0xa3, 1);
		chain_close(c);
	}
	/* Written to since; and none there. */
	p = (struct vhdx_parent){ .relative = "p.vhdx", .linkage = "{99999999-9999-9999-9999-999999999999}" };
	write_child(child, &p);
	assert_int_equal(chain_open(child, &co, &c, &e), ERR_CHANGED);
	assert_has(e.cause, "99999999-9999-9999-9999-999999999999");
	err_clear(&e);
	assert_ok(chain_open(child, &forced, &c, &e), &e);
	chain_close(c);
	p.linkage = VHDX_IMAGE_DATA_WRITE;
	write_child(child, &p);
	unlink(parent);
	assert_err(chain_open(child, &co, &c, &e), ERR_NOTFOUND, &e);
	p.linkage = "nonsense";
	write_child(child, &p);
	assert_int_equal(chain_open(child, &co, &c, &e), ERR_CORRUPT);
	assert_has(e.cause, "not a GUID");
	unlink(child);
	free(child);
	free(parent);
	test_folder_done(dir);
}

#define METADATA (2 * MIB)
#define LOCATOR (METADATA + VHDX_IMAGE_ITEMS + 64)

/* Puts a locator of these keys; all have one value, that of units. */
static void put_keys(struct vhdx_image *v, const char *const *keys, uint16_t n, const uint16_t *units, uint16_t nunits)
{
	uint8_t p[1024] = { 0 }, length[4];
	uint32_t at = 20 + 12 * (uint32_t)n, value = at;

	memcpy(p, vhdx_guid_parent_vhdx, 16);
	put_le16(p + 18, n);
	for (uint16_t i = 0; i < nunits; i++, at += 2)
		put_le16(p + at, units[i]);
	for (uint32_t i = 0; i < n; i++) {
		put_le32(p + 20 + 12 * i, at);
		put_le32(p + 24 + 12 * i, value);
		put_le16(p + 28 + 12 * i, (uint16_t)(2 * strlen(keys[i])));
		put_le16(p + 30 + 12 * i, (uint16_t)(2 * nunits));
		for (const char *c = keys[i]; *c; c++, at += 2)
			put_le16(p + at, (uint8_t)*c);
	}
	assert_true(at <= sizeof(p));
	vhdx_image_put(v, LOCATOR, p, at);
	put_le32(length, at);
	vhdx_image_put(v, METADATA + 32 + 5 * 32 + 20, length, 4);
}

/* Values are looked at under known keys alone, and under each once: 65535 entries may share one text of 64 KiB. */
static void test_vhdx__locator_keys(void **state)
{
	static const char guid[] = VHDX_IMAGE_DATA_WRITE;
	static const char *const good[] = { "parent_linkage", "parent_linkages", "parent_linkag", "" };
	static const char *const twice[] = { "parent_linkage", "x", "parent_linkage" };
	static const char *const others[] = { "x", "y" };
	static const uint16_t bad[] = { 'x', 0xdc00 };
	struct vhdx_parent p = { .linkage = VHDX_IMAGE_DATA_WRITE };
	uint16_t units[sizeof(guid)];
	struct vhdx_image v;

	(void)state;
	for (size_t i = 0; i < sizeof(guid); i++)
		units[i] = (uint8_t)guid[i];
	vhdx_image_new(&v, BLOCK, BLOCK, 512, &p);
	put_keys(&v, good, 4, units, sizeof(guid) - 1);
	image_close(vhdx_image_open(&v, false));
	put_keys(&v, twice, 3, units, sizeof(guid) - 1);
	vhdx_image_refused(&v, ERR_CORRUPT, "parent_linkage is there twice");
	put_keys(&v, others, 2, bad, 2);
	vhdx_image_refused(&v, ERR_CORRUPT, "no parent_linkage");	/* what these say is nobody's business */
	put_keys(&v, good, 1, bad, 2);
	vhdx_image_refused(&v, ERR_CORRUPT, "not UTF-16");
	vhdx_image_done(&v);
}

/* The digest says what decides the content: table, bitmaps, but no data. */
static void test_vhdx__digest(void **state)
{
	struct vhdx_parent p = { .relative = "p.vhdx", .linkage = VHDX_IMAGE_DATA_WRITE };
	uint8_t bits[256] = { 1 }, was[32], now[32];
	struct err e = ERR_INIT;
	struct vhdx_image v;
	struct image *im;

	(void)state;
	vhdx_image_new(&v, 4 * BLOCK, BLOCK, 512, &p);
	vhdx_image_block(&v, 0, VHDX_PARTIALLY_PRESENT, 0x10);
	vhdx_image_bitmap(&v, 0, bits, sizeof(bits));
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			vhdx_image_put(&v, v.blocks, "data", 4);
		bits[200] = i == 2;
		vhdx_image_put(&v, v.bitmap, bits, sizeof(bits));
		if (i == 3)
			vhdx_image_entry(&v, 3, VHDX_ZERO);
		im = vhdx_image_open(&v, false);
		assert_ok(image_state_digest(im, 0, now, &e), &e);
		if (i)
			assert_int_equal(memcmp(was, now, 32) == 0, i == 1);
		else
			memcpy(was, now, 32);
		assert_memory_equal(im->identity.metadata_digest, now, 32);
		image_close(im);
	}
	vhdx_image_done(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vhdx__block_states),
		cmocka_unit_test(test_vhdx__chunks),
		cmocka_unit_test(test_vhdx__partial_blocks),
		cmocka_unit_test(test_vhdx__headers),
		cmocka_unit_test(test_vhdx__regions),
		cmocka_unit_test(test_vhdx__metadata),
		cmocka_unit_test(test_vhdx__bad_entries),
		cmocka_unit_test(test_vhdx__bad_bitmap),
		cmocka_unit_test(test_vhdx__parent),
		cmocka_unit_test(test_vhdx__locator_keys),
		cmocka_unit_test(test_vhdx__digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
