/* vhdximage.c - VHDX images made by hand. */
#include "tests/support/vhdximage.h"
#include "tests/test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "formats/ids.h"
#include "formats/vhdx/vhdx.h"

#define TABLE (3 * MIB)
#define METADATA (2 * MIB)
#define LOG (1 * MIB)

void vhdx_image_put(struct vhdx_image *v, uint64_t at, const void *p, size_t len)
{
	struct err e = ERR_INIT;

	assert_ok(fs_pwrite_full(v->fd, p, len, at, &e), &e);
}

static void put_guid(uint8_t *p, const char *text)
{
	memset(p, 0, 16);
	if (text) {
		assert_true(uuid_parse(text, p));
		uuid_swap(p);
	}
}

static void checksum(uint8_t *p, size_t len)
{
	put_le32(p + 4, 0);
	put_le32(p + 4, ~vhdx_crc(UINT32_MAX, p, len));
}

void vhdx_image_header(struct vhdx_image *v, int which, uint64_t sequence, const char *log_guid)
{
	uint8_t p[VHDX_HEADER_BYTES] = "head";

	put_le64(p + 8, sequence);
	put_guid(p + 16, "99990000-1111-2222-3333-444455556666");
	put_guid(p + 32, VHDX_IMAGE_DATA_WRITE);
	put_guid(p + 48, log_guid);
	put_le16(p + 66, 1);
	put_le32(p + 68, (uint32_t)VHDX_IMAGE_LOG_BYTES);
	put_le64(p + 72, LOG);
	checksum(p, sizeof(p));
	vhdx_image_put(v, which ? VHDX_HEADER_2 : VHDX_HEADER_1, p, sizeof(p));
}

void vhdx_image_regions(struct vhdx_image *v, const uint8_t extra[32], uint32_t n)
{
	uint8_t *p = calloc(1, VHDX_REGIONS_BYTES);

	memcpy(p, "regi", 4);
	put_le32(p + 8, n ? n : 2);
	memcpy(p + 16, vhdx_guid_metadata, 16);
	put_le64(p + 32, METADATA);
	put_le32(p + 40, MIB);
	memcpy(p + 48, vhdx_guid_bat, 16);
	put_le64(p + 64, TABLE);
	put_le32(p + 72, MIB);
	if (extra)
		memcpy(p + 80, extra, 32);
	checksum(p, VHDX_REGIONS_BYTES);
	vhdx_image_put(v, VHDX_REGIONS_1, p, VHDX_REGIONS_BYTES);
	vhdx_image_put(v, VHDX_REGIONS_2, p, VHDX_REGIONS_BYTES);
	free(p);
}

static void put_item(struct vhdx_image *v, uint32_t i, const uint8_t guid[16], uint32_t at, uint32_t len)
{
	uint8_t p[32] = { 0 };

	memcpy(p, guid, 16);
	put_le32(p + 16, VHDX_IMAGE_ITEMS + at);
	put_le32(p + 20, len);
	put_le32(p + 24, VHDX_META_IS_REQUIRED);
	vhdx_image_put(v, METADATA + 32 + 32 * (uint64_t)i, p, sizeof(p));
}

/* Appends text as UTF-16LE; returns its length in bytes. */
static uint16_t put_utf16(uint8_t *p, const char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		put_le16(p + 2 * i, (uint8_t)text[i]);
	return (uint16_t)(2 * n);
}

static uint32_t put_locator(struct vhdx_image *v, const struct vhdx_parent *parent)
{
	const char *pairs[5][2] = { { "parent_linkage", parent->linkage },
				    { "parent_linkage2", parent->linkage2 },
				    { "relative_path", parent->relative },
				    { "volume_path", parent->volume },
				    { "absolute_win32_path", parent->absolute } };
	uint8_t p[4096] = { 0 };
	uint32_t at = 20 + 5 * 12;
	uint16_t n = 0;

	memcpy(p, vhdx_guid_parent_vhdx, 16);
	for (size_t i = 0; i < 5; i++) {
		uint8_t *entry = p + 20 + 12 * n;

		if (!pairs[i][1])
			continue;
		for (size_t k = 0; k < 2; k++) {
			put_le32(entry + 4 * k, at);
			put_le16(entry + 8 + 2 * k, put_utf16(p + at, pairs[i][k]));
			at += get_le16(entry + 8 + 2 * k);
		}
		n++;
	}
	put_le16(p + 18, n);
	vhdx_image_put(v, METADATA + VHDX_IMAGE_ITEMS + 64, p, at);
	return at;
}

static void put_metadata(struct vhdx_image *v, const struct vhdx_parent *p)
{
	uint8_t table[32] = "metadata", items[40] = { 0 };

	put_le16(table + 10, p ? 6 : 5);
	vhdx_image_put(v, METADATA, table, sizeof(table));
	put_le32(items, v->block_size);
	put_le32(items + 4, p ? VHDX_FILE_PARAM_HAS_PARENT : 0);
	put_le64(items + 8, v->size);
	memset(items + 16, 0xd1, 16);
	put_le32(items + 32, v->sector);
	put_le32(items + 36, 4096);
	vhdx_image_put(v, METADATA + VHDX_IMAGE_ITEMS, items, sizeof(items));
	put_item(v, 0, vhdx_guid_file_params, 0, 8);
	put_item(v, 1, vhdx_guid_disk_size, 8, 8);
	put_item(v, 2, vhdx_guid_disk_id, 16, 16);
	put_item(v, 3, vhdx_guid_physical_sector, 36, 4);
	put_item(v, 4, vhdx_guid_logical_sector, 32, 4);
	if (p)
		put_item(v, 5, vhdx_guid_parent_locator, 64, put_locator(v, p));
}

void vhdx_image_new(struct vhdx_image *v, uint64_t size, uint32_t block_size, uint32_t sector,
		    const struct vhdx_parent *p)
{
	*v = (struct vhdx_image){ .size = size, .block_size = block_size, .sector = sector };
	v->fd = memfd_create("vhdx", MFD_CLOEXEC);
	assert_true(v->fd >= 0);
	v->end = 5 * MIB;	/* a MiB to put something into */
	v->blocks = v->end;
	assert_int_equal(ftruncate(v->fd, (off_t)v->end), 0);
	vhdx_image_put(v, 0, "vhdxfile", 8);
	vhdx_image_header(v, 0, 1, NULL);
	vhdx_image_header(v, 1, 2, NULL);
	vhdx_image_regions(v, NULL, 0);
	put_metadata(v, p);
}

void vhdx_image_done(struct vhdx_image *v)
{
	close_fd(&v->fd);
}

static uint64_t chunk(const struct vhdx_image *v)
{
	return vhdx_chunk_blocks(v->sector, v->block_size);
}

uint64_t vhdx_image_bitmap_index(const struct vhdx_image *v, uint64_t block)
{
	return block / chunk(v) * (chunk(v) + 1) + chunk(v);
}

void vhdx_image_entry(struct vhdx_image *v, uint64_t index, uint64_t entry)
{
	uint8_t b[8];

	put_le64(b, entry);
	vhdx_image_put(v, TABLE + index * 8, b, sizeof(b));
}

void vhdx_image_block(struct vhdx_image *v, uint64_t block, enum vhdx_block_state state, uint8_t value)
{
	size_t part = (size_t)min_u64(v->block_size, MIB);
	uint8_t *p = malloc(part);

	if (part < v->block_size)
		part = 65536;
	memset(p, value, part);
	vhdx_image_put(v, v->end, p, part);
	vhdx_image_put(v, v->end + v->block_size - part, p, part);
	if (state == VHDX_PARTIALLY_PRESENT)	/* all of it is looked at */
		for (uint64_t at = 0; at < v->block_size; at += part)
			vhdx_image_put(v, v->end + at, p, part);
	free(p);
	vhdx_image_entry(v, block + block / chunk(v), v->end | (uint64_t)state);
	v->end += v->block_size;
}

void vhdx_image_bitmap(struct vhdx_image *v, uint64_t block, const uint8_t *bits, size_t len)
{
	uint64_t sectors = v->block_size / v->sector;

	v->bitmap = v->end;
	vhdx_image_put(v, v->end + block % chunk(v) * sectors / 8, bits, len);
	v->end += MIB;
	assert_int_equal(ftruncate(v->fd, (off_t)v->end), 0);
	vhdx_image_entry(v, vhdx_image_bitmap_index(v, block), v->bitmap | VHDX_FULLY_PRESENT);
}

static void put_data_sector(uint8_t *p, uint64_t sequence, uint8_t value)
{
	memset(p, value, VHDX_LOG_SECTOR);
	memcpy(p, "data", 4);
	put_le32(p + 4, (uint32_t)(sequence >> 32));
	put_le32(p + VHDX_LOG_SECTOR - 4, (uint32_t)sequence);
}

uint32_t vhdx_image_log(struct vhdx_image *v, uint32_t pos, uint64_t sequence, uint32_t tail, const char *log_guid,
			const struct vhdx_image_write *w, uint32_t n, uint64_t flushed, uint64_t last)
{
	uint32_t heads = (uint32_t)div_up(64 + 32 * (uint64_t)n, VHDX_LOG_SECTOR), sectors = heads, at = 0;
	uint8_t *p;

	for (uint32_t i = 0; i < n; i++)
		sectors += !w[i].zeros;
	p = calloc(sectors, VHDX_LOG_SECTOR);
	memcpy(p, "loge", 4);
	put_le32(p + 8, sectors * VHDX_LOG_SECTOR);
	put_le32(p + 12, tail);
	put_le64(p + 16, sequence);
	put_le32(p + 24, n);
	put_guid(p + 32, log_guid);
	put_le64(p + 48, flushed);
	put_le64(p + 56, last);
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *d = p + 64 + 32 * (size_t)i;

		memcpy(d, w[i].zeros ? "zero" : "desc", 4);
		memset(d + 4, w[i].zeros ? 0 : w[i].value, 12);
		if (w[i].zeros)
			put_le64(d + 8, w[i].zeros);
		else
			put_data_sector(p + (heads + at++) * VHDX_LOG_SECTOR, sequence, w[i].value);
		put_le64(d + 16, w[i].off);
		put_le64(d + 24, sequence);
	}
	checksum(p, (size_t)sectors * VHDX_LOG_SECTOR);
	for (uint32_t i = 0; i < sectors; i++)
		vhdx_image_put(v, LOG + (pos + (uint64_t)i * VHDX_LOG_SECTOR) % VHDX_IMAGE_LOG_BYTES,
			       p + (size_t)i * VHDX_LOG_SECTOR, VHDX_LOG_SECTOR);
	free(p);
	return (uint32_t)((pos + (uint64_t)sectors * VHDX_LOG_SECTOR) % VHDX_IMAGE_LOG_BYTES);
}

void vhdx_image_log_seal(struct vhdx_image *v, uint32_t pos, size_t len)
{
	uint8_t *p = malloc(len);
	struct err e = ERR_INIT;

	assert_ok(fs_pread_full(v->fd, p, len, LOG + pos, &e), &e);
	checksum(p, len);
	vhdx_image_put(v, LOG + pos, p, len);
	free(p);
}

struct image *vhdx_image_open(struct vhdx_image *v, bool force)
{
	const struct image_open_opts o = { .force = force };
	struct err e = ERR_INIT;
	int fd = dup(v->fd);
	struct image *im;

	assert_ok(vhdx_open(fd, "test.vhdx", &o, &im, &e), &e);
	return im;
}

void vhdx_image_refused(struct vhdx_image *v, int code, const char *cause)
{
	const struct image_open_opts o = { 0 };
	struct err e = ERR_INIT;
	struct image *im;

	assert_int_equal(vhdx_open(v->fd, "test.vhdx", &o, &im, &e), code);
	assert_has(e.cause, cause);
}

void vhdx_image_save(struct vhdx_image *v, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = (size_t)v->end;
	uint8_t *p = malloc(len);
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(v->fd, (off_t)len), 0);
	assert_ok(fs_pread_full(v->fd, p, len, 0, &e), &e);
	assert_ok(fs_pwrite_full(fd, p, len, 0, &e), &e);
	free(p);
	close(fd);
}
