/* test_vhd.c - VHD images built by hand: footers, tables, sector bitmaps, parents, and what is refused. */
#include "tests/test.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/chain.h"
#include "formats/vhd/vhd.h"
#include "tests/support/folder.h"

#define BLOCK 8192		/* small ones, for small images */
#define SECTORS (BLOCK / 512)
#define BLOCKS 4
#define SIZE (BLOCKS * BLOCK - 512)
#define TABLE 4096
#define FIRST 4608		/* where the first block goes */
#define BYTES_MAX 65536
#define VHD_ABSENT 0xffffffff

/* footer copy, header, locators from 1536 on, table, blocks, footer */
struct vhd_image {
	uint8_t p[BYTES_MAX];
	size_t end;	/* where the footer at the end begins */
	size_t len;
};

static void seal(uint8_t *p, size_t len, size_t field)
{
	uint32_t sum = 0;

	put_be32(p + field, 0);
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	put_be32(p + field, ~sum);
}

static void make_footer(uint8_t *p, uint32_t type, uint64_t size, uint8_t id)
{
	memset(p, 0, 512);
	memcpy(p, "conectix", 8);
	put_be32(p + 12, 0x10000);
	put_be64(p + 16, type == 2 ? UINT64_MAX : 512);
	memcpy(p + 28, "vpc ", 4);
	put_be64(p + 40, size);
	put_be64(p + 48, size);
	put_be16(p + 56, 1);		/* a geometry that nobody may believe */
	p[58] = p[59] = 1;
	put_be32(p + 60, type);
	memset(p + 68, id, 16);
	seal(p, 512, 64);
}

static void make(struct vhd_image *v, uint32_t type)
{
	uint8_t *h = v->p + 512;

	memset(v, 0, sizeof(*v));
	make_footer(v->p, type, SIZE, 0xcc);
	memcpy(h, "cxsparse", 8);
	put_be64(h + 8, UINT64_MAX);
	put_be64(h + 16, TABLE);
	put_be32(h + 24, 0x10000);
	put_be32(h + 28, BLOCKS);
	put_be32(h + 32, BLOCK);
	memset(h + 40, type == 4 ? 0xdd : 0, 16);
	seal(h, 1024, 36);
	memset(v->p + TABLE, 0xff, 512);
	v->end = FIRST;
	memcpy(v->p + v->end, v->p, 512);
	v->len = v->end + 512;
}

/* Adds a block with this bitmap (NULL: zeros); each sector's bytes are value + its number. */
static void add_block(struct vhd_image *v, uint32_t block, const uint8_t *bits, uint8_t value)
{
	uint8_t *p = v->p + v->end;

	put_be32(v->p + TABLE + 4 * block, (uint32_t)(v->end / 512));
	memset(p, 0, 512);
	if (bits)
		memcpy(p, bits, SECTORS / 8);
	for (uint32_t i = 0; i < SECTORS; i++)
		memset(p + 512 + 512 * i, (uint8_t)(value + i), 512);
	v->end += 512 + BLOCK;
	memcpy(v->p + v->end, v->p, 512);
	v->len = v->end + 512;
}

static void add_locator(struct vhd_image *v, int i, const char *code, const char *text, bool wide)
{
	uint8_t *l = v->p + 512 + 576 + 24 * i, *to = v->p + 1536 + 256 * i;
	uint32_t n = (uint32_t)strlen(text);

	for (uint32_t k = 0; k < n; k++)
		to[wide ? 2 * k : k] = (uint8_t)text[k];
	memcpy(l, code, 4);
	put_be32(l + 4, 256);
	put_be32(l + 8, wide ? 2 * n : n);
	put_be64(l + 16, (uint64_t)(to - v->p));
	seal(v->p + 512, 1024, 36);
}

static int open_bytes(const uint8_t *p, size_t len, bool force, struct image **ret, struct err *e)
{
	const struct image_open_opts o = { .force = force };
	int fd = memfd_create("vhd", MFD_CLOEXEC), r;

	assert_true(fd >= 0);
	assert_ok(fs_pwrite_full(fd, p, len, 0, e), e);
	r = vhd_open(fd, "test.vhd", &o, ret, e);
	if (r < 0)
		close(fd);
	return r;
}

static struct image *opened(const struct vhd_image *v, bool force)
{
	struct err e = ERR_INIT;
	struct image *im;

	assert_ok(open_bytes(v->p, v->len, force, &im, &e), &e);
	return im;
}

static void refused(const struct vhd_image *v, int code, const char *cause)
{
	struct err e = ERR_INIT;
	struct image *im;

	assert_int_equal(open_bytes(v->p, v->len, false, &im, &e), code);
	assert_has(e.cause, cause);
}

static void expect(struct image *im, uint64_t off, uint8_t value, size_t len)
{
	uint8_t *got = malloc(len);
	struct err e = ERR_INIT;

	assert_ok(image_pread(im, 0, got, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		if (got[i] != value)
			fail_msg("byte %" PRIu64 " is 0x%02x, wanted 0x%02x", off + i, got[i], value);
	free(got);
}

static void save(const struct vhd_image *v, const char *path)
{
	struct err e = ERR_INIT;

	assert_ok(fs_write_atomic(path, v->p, v->len, true, 0600, &e), &e);
}

/* ---- tests ---- */

/* The bitmap of a dynamic disk isn't believed: some writers leave it at zero. */
static void test_vhd__dynamic(void **state)
{
	struct vhd_image v;
	struct err e = ERR_INIT;
	struct image *im;
	struct extent x;

	(void)state;
	make(&v, 3);
	add_block(&v, 3, NULL, 0x30);
	add_block(&v, 1, NULL, 0x10);
	im = opened(&v, false);
	assert_int_equal(image_state(im, 0)->size, SIZE);	/* not what the geometry says */
	assert_string_equal(im->info.variant, "dynamic");
	expect(im, 0, 0, BLOCK);
	for (uint32_t i = 0; i < SECTORS; i++) {
		expect(im, BLOCK + 512 * i, (uint8_t)(0x10 + i), 512);
		if (i < SECTORS - 1)
			expect(im, 3 * BLOCK + 512 * i, (uint8_t)(0x30 + i), 512);
	}
	assert_ok(image_next_extent(im, 0, 100, SIZE, &x, &e), &e);
	assert_int_equal(x.kind, EXTENT_HOLE);
	assert_int_equal(x.len, BLOCK - 100);
	assert_ok(image_next_extent(im, 0, 3 * BLOCK, SIZE, &x, &e), &e);
	assert_int_equal(x.kind, EXTENT_DATA);
	assert_int_equal(x.len, BLOCK - 512);
	assert_int_equal(x.origin.host, FIRST + 512);
	image_close(im);
	/* The last block's place may be as short as the disk's use of it. */
	make(&v, 3);
	add_block(&v, 3, NULL, 0x30);
	v.end -= 512;
	memcpy(v.p + v.end, v.p, 512);
	v.len = v.end + 512;
	im = opened(&v, false);
	expect(im, SIZE - 512, 0x30 + SECTORS - 2, 512);
	image_close(im);
}

static void test_vhd__fixed(void **state)
{
	static uint8_t p[10000 * 512 + 512];
	uint64_t size = 10000 * 512;
	struct err e = ERR_INIT;
	struct image *im;

	(void)state;
	memset(p, 0x42, size);
	memcpy(p, "conectix", 8);	/* the guest's own joke: the footer at the end counts */
	make_footer(p + size, 2, size, 1);
	assert_ok(open_bytes(p, size + 512, false, &im, &e), &e);
	assert_string_equal(im->info.variant, "fixed");
	assert_int_equal(image_state(im, 0)->size, size);
	expect(im, 8, 0x42, size - 8);
	image_close(im);
	seal(p + size, 511, 64);	/* as Virtual PC wrote it once */
	assert_ok(open_bytes(p, size + 511, false, &im, &e), &e);
	assert_int_equal(image_state(im, 0)->size, size);
	image_close(im);
	make_footer(p + size, 2, size + 512, 1);
	assert_int_equal(open_bytes(p, size + 512, false, &im, &e), ERR_CORRUPT);
	assert_has(e.cause, "the file has only");
	/* What the guest wrote at the start is no copy of a footer that is lost. */
	make_footer(p, 2, size, 1);
	assert_int_equal(open_bytes(p, size, false, &im, &e), ERR_CORRUPT);
}

static void test_vhd__footers(void **state)
{
	struct vhd_image v;
	struct image *im;

	(void)state;
	make(&v, 3);
	add_block(&v, 0, NULL, 0x10);
	/* The copy is damaged. */
	v.p[200] ^= 1;
	im = opened(&v, false);
	expect(im, 0, 0x10, 512);
	image_close(im);
	/* Both are. */
	v.p[v.end + 200] ^= 1;
	refused(&v, ERR_CORRUPT, "checksum");
	/* The one at the end is; and it is lost. */
	v.p[200] ^= 1;
	im = opened(&v, false);
	image_close(im);
	v.len -= 512;
	im = opened(&v, false);
	expect(im, 0, 0x10, 512);
	image_close(im);
	memset(v.p, 0, 8);
	refused(&v, ERR_CORRUPT, "no footer at the end");
	/* Both are whole and differ: the end counts. */
	make(&v, 3);
	put_be64(v.p + 48, SIZE - 512);
	seal(v.p, 512, 64);
	im = opened(&v, false);
	assert_int_equal(image_state(im, 0)->size, SIZE);
	image_close(im);
}

static void test_vhd__hostile_fields(void **state)
{
	enum { FOOTER, HEADER, ENTRY };
	static const struct {
		int where;
		size_t at, len;
		uint64_t value;
		int code;
		const char *cause;
	} rows[] = {
		{ FOOTER, 12, 4, 0x20000, ERR_UNSUPPORTED, "version" },
		{ FOOTER, 60, 4, 1, ERR_UNSUPPORTED, "disk type 1" },
		{ FOOTER, 60, 4, 5, ERR_UNSUPPORTED, "disk type 5" },
		{ FOOTER, 48, 8, 2040 * GIB + 1, ERR_CORRUPT, "2040 GiB" },
		{ FOOTER, 48, 8, UINT64_MAX, ERR_CORRUPT, "2040 GiB" },
		{ FOOTER, 48, 8, BLOCKS * BLOCK + 1, ERR_CORRUPT, "4 table entries" },
		{ FOOTER, 16, 8, UINT64_MAX, ERR_CORRUPT, "outside the file" },
		{ FOOTER, 16, 8, 1024, ERR_CORRUPT, "no dynamic header at 1024" },
		{ HEADER, 24, 4, 0x20000, ERR_UNSUPPORTED, "version" },
		{ HEADER, 28, 4, 0x40000001, ERR_CORRUPT, "outside the file" },
		{ HEADER, 28, 4, 0xffffffff, ERR_CORRUPT, "outside the file" },
		{ HEADER, 28, 4, 3, ERR_CORRUPT, "3 table entries, the disk has 4 blocks" },
		{ HEADER, 32, 4, 0, ERR_CORRUPT, "block size 0" },
		{ HEADER, 32, 4, 256, ERR_CORRUPT, "block size 256" },
		{ HEADER, 32, 4, 12288, ERR_CORRUPT, "block size 12288" },
		{ HEADER, 32, 4, 512 << 20, ERR_CORRUPT, "block size" },
		{ HEADER, 16, 8, UINT64_MAX - 3, ERR_CORRUPT, "outside the file" },
		{ ENTRY, 0, 4, 0, ERR_CORRUPT, "overlaps the header" },
		{ ENTRY, 0, 4, 1, ERR_CORRUPT, "overlaps the header" },
		{ ENTRY, 0, 4, TABLE / 512, ERR_CORRUPT, "overlaps the table" },
		{ ENTRY, 0, 4, 0xfffffffe, ERR_CORRUPT, "outside the file" },
		{ ENTRY, 0, 4, FIRST / 512, ERR_CORRUPT, "overlap" },
		{ ENTRY, 0, 4, FIRST / 512 + 1, ERR_CORRUPT, "overlap" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vhd_image v;
		uint8_t b[8], *to;

		make(&v, 3);
		add_block(&v, 1, NULL, 0x10);
		add_block(&v, 2, NULL, 0x20);
		put_be64(b, rows[i].value);
		to = rows[i].where == FOOTER ? v.p + v.end : rows[i].where == HEADER ? v.p + 512 : v.p + TABLE;
		memcpy(to + rows[i].at, b + 8 - rows[i].len, rows[i].len);
		if (rows[i].where == FOOTER)
			seal(to, 512, 64);
		else if (rows[i].where == HEADER)
			seal(to, 1024, 36);
		refused(&v, rows[i].code, rows[i].cause);
		if (rows[i].where == ENTRY) {	/* by force: its own block can't be read, the other can */
			struct image *im = opened(&v, true);
			struct err e = ERR_INIT;

			expect(im, BLOCK, 0x10, 512);
			if (strcmp(rows[i].cause, "overlap") != 0)
				assert_err(image_pread(im, 0, b, 1, 0, &e), ERR_CORRUPT, &e);
			image_close(im);
		}
	}
}

static void test_vhd__header_checksum(void **state)
{
	struct vhd_image v;

	(void)state;
	make(&v, 3);
	v.p[512 + 800] = 1;
	refused(&v, ERR_CORRUPT, "dynamic header at 512: checksum");
}

/* Each sector by its bit, highest first; absent ones are the parent's. */
static void test_vhd__differencing(void **state)
{
	char *dir = test_folder_new(), *child = test_path(dir, "c.vhd"), *parent = test_path(dir, "p.vhd");
	static const uint8_t bits[SECTORS / 8] = { 0xc5, 0x01 };
	struct chain_opts co = { .format = "vhd" };
	struct err e = ERR_INIT;
	struct vhd_image v;
	struct chain *c;
	struct extent x;

	(void)state;
	make(&v, 3);
	make_footer(v.p, 3, SIZE, 0xdd);
	for (uint32_t i = 0; i < 3; i++)
		add_block(&v, i, NULL, (uint8_t)(0x80 + 0x10 * i));
	save(&v, parent);
	make(&v, 4);
	add_block(&v, 1, bits, 0x10);
	add_locator(&v, 0, "W2ru", ".\\p.vhd", true);
	save(&v, child);
	assert_ok(chain_open(child, &co, &c, &e), &e);
	assert_int_equal(c->nlayers, 2);
	assert_string_equal(c->layers[0]->info.variant, "differencing");
	expect(c->image, 512, 0x81, 512);
	for (uint32_t i = 0; i < SECTORS; i++) {
		bool here = bits[i / 8] >> (7 - i % 8) & 1;

		expect(c->image, BLOCK + 512 * i, (uint8_t)((here ? 0x10 : 0x90) + i), 512);
		assert_ok(image_next_extent(c->layers[0], 0, BLOCK + 512 * i + 7, SIZE, &x, &e), &e);
		assert_int_equal(x.kind, here ? EXTENT_DATA : EXTENT_HOLE);
	}
	assert_ok(image_next_extent(c->layers[0], 0, BLOCK, SIZE, &x, &e), &e);
	assert_int_equal(x.len, 1024);
	assert_ok(image_next_extent(c->layers[0], 0, BLOCK + 8 * 512, SIZE, &x, &e), &e);
	assert_int_equal(x.len, 7 * 512);
	expect(c->image, 3 * BLOCK, 0, BLOCK - 512);
	chain_close(c);
	unlink(child);
	unlink(parent);
	free(child);
	free(parent);
	test_folder_done(dir);
}

/* By force what is sound is read: also where the table names a block whose bitmap would be outside the file. */
static void test_vhd__differencing_damaged(void **state)
{
	static const uint8_t bits[SECTORS / 8] = { 0xff, 0xff };
	struct err e = ERR_INIT;
	struct vhd_image v;
	struct image *im;
	uint8_t b;

	(void)state;
	make(&v, 4);
	add_block(&v, 1, bits, 0x10);
	put_be32(v.p + TABLE, 0xfffffffe);
	refused(&v, ERR_CORRUPT, "outside the file");
	im = opened(&v, true);
	expect(im, BLOCK, 0x10, 512);
	assert_err(image_pread(im, 0, &b, 1, 0, &e), ERR_CORRUPT, &e);
	image_close(im);
}

static void test_vhd__parent_names(void **state)
{
	static const struct {
		const char *code, *text;
		bool wide;
	} rows[] = {
		{ "W2ru", ".\\p q.vhd", true },	      { "W2ku", "D:\\images\\p q.vhd", true },
		{ "W2ku", "/srv/images/p q.vhd", true }, { "Wi2r", "p q.vhd", false },
		{ "MacX", "file://localhost/Images/p%20q.vhd", false },
	};
	char *dir = test_folder_new(), *child = test_path(dir, "c.vhd"), *parent = test_path(dir, "p q.vhd");
	char *other = test_path(dir, "renamed.vhd");
	struct chain_opts co = { .format = "vhd" };
	struct err e = ERR_INIT;
	struct vhd_image v;
	struct chain *c;

	(void)state;
	make(&v, 3);
	make_footer(v.p, 3, SIZE, 0xdd);
	add_block(&v, 0, NULL, 0x80);
	save(&v, parent);
	for (size_t i = 0; i <= sizeof(rows) / sizeof(rows[0]); i++) {
		make(&v, 4);
		if (i < sizeof(rows) / sizeof(rows[0])) {
			add_locator(&v, 3, rows[i].code, rows[i].text, rows[i].wide);
		} else {	/* the name in the header */
			for (size_t k = 0; k < 7; k++)
				v.p[512 + 64 + 2 * k + 1] = (uint8_t)"p q.vhd"[k];
			seal(v.p + 512, 1024, 36);
		}
		save(&v, child);
		assert_ok(chain_open(child, &co, &c, &e), &e);
		assert_string_equal(fs_basename(c->layers[0]->info.backing), "p q.vhd");
		expect(c->image, 0, 0x80, 512);
		chain_close(c);
	}
	/* By its UUID, where the names lead nowhere; refused where the UUID is another's. */
	assert_int_equal(rename(parent, other), 0);
	assert_ok(chain_open(child, &co, &c, &e), &e);
	assert_int_equal(c->nlayers, 2);
	chain_close(c);
	make(&v, 3);
	save(&v, parent);
	unlink(other);
	assert_int_equal(chain_open(child, &co, &c, &e), ERR_INVALID);
	assert_has(e.cause, "UUID");
	err_clear(&e);
	/* Out of the folder. */
	make(&v, 4);
	add_locator(&v, 0, "W2ru", "..\\..\\..\\etc\\passwd", true);
	save(&v, child);
	unlink(parent);
	assert_true(chain_open(child, &co, &c, &e) < 0);
	test_folder_clear(dir);
	free(child);
	free(parent);
	free(other);
	test_folder_done(dir);
}

static void test_vhd__parent_refused(void **state)
{
	struct vhd_image v;

	(void)state;
	make(&v, 4);
	memset(v.p + 512 + 40, 0, 16);
	seal(v.p + 512, 1024, 36);
	refused(&v, ERR_CORRUPT, "doesn't name its parent");
	make(&v, 4);
	add_locator(&v, 0, "W2ru", "p.vhd", true);
	put_be64(v.p + 512 + 576 + 16, BYTES_MAX * 2);
	seal(v.p + 512, 1024, 36);
	refused(&v, ERR_CORRUPT, "parent locator W2ru");
	add_locator(&v, 0, "W2ru", "p.vhd", true);
	put_be32(v.p + 512 + 576 + 8, 0xfffffffe);
	seal(v.p + 512, 1024, 36);
	refused(&v, ERR_CORRUPT, "parent locator W2ru");
}

static void test_vhd__digest(void **state)
{
	uint8_t was[32], now[32], bits[SECTORS / 8] = { 0xf0 };
	struct err e = ERR_INIT;
	struct vhd_image v;
	struct image *im;

	(void)state;
	make(&v, 4);
	add_block(&v, 2, bits, 0x10);
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			v.p[v.end - 1] ^= 0xff;		/* data: not part of it */
		if (i == 2)
			v.p[FIRST + 1] = 1;		/* a bit */
		if (i == 3)
			put_be32(v.p + TABLE + 8, VHD_ABSENT);
		im = opened(&v, false);
		assert_ok(image_state_digest(im, 0, now, &e), &e);
		assert_memory_equal(im->identity.metadata_digest, now, 32);
		if (i)
			assert_int_equal(memcmp(was, now, 32) == 0, i == 1);
		memcpy(was, now, 32);
		image_close(im);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vhd__dynamic),
		cmocka_unit_test(test_vhd__fixed),
		cmocka_unit_test(test_vhd__footers),
		cmocka_unit_test(test_vhd__hostile_fields),
		cmocka_unit_test(test_vhd__header_checksum),
		cmocka_unit_test(test_vhd__differencing),
		cmocka_unit_test(test_vhd__differencing_damaged),
		cmocka_unit_test(test_vhd__parent_names),
		cmocka_unit_test(test_vhd__parent_refused),
		cmocka_unit_test(test_vhd__digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
