/*
 * fuzz_vhdx.c - anything as a VHDX image: probe, open with its log, walk, read, digest.
 *
 * No VHDX has less than a few MiB, nearly all of them zeros, so the input says what isn't zero: flags, then the file's
 * size in MiB, then pieces: u32 LE place, u16 LE length, bytes.  Flags, bit 0: put right checksums into headers, region
 * tables and the log's entries, which nobody hits by chance.
 */
#include "formats/vhdx/vhdx_format.h"
#include "tests/fuzz/walk.h"

#define SIZE_MAX_MIB 32
#define ENTRIES_MAX 64
#define ENTRY_BYTES_MAX ((size_t)256 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(int fd, uint64_t at, size_t len)
{
	uint8_t *p = malloc(len);
	struct err e = ERR_INIT;

	check(p);
	if (fs_pread_full(fd, p, len, at, &e) == 0) {
		put_le32(p + 4, 0);
		put_le32(p + 4, ~vhdx_crc(UINT32_MAX, p, len));
		check(fs_pwrite_full(fd, p, len, at, &e) == 0);
	}
	free(p);
}

/* Entries that don't go round the ring's end; found at every place of a header's log. */
static void seal_log(int fd, uint64_t header, uint64_t size)
{
	struct err e = ERR_INIT;
	uint8_t h[16], p[12];
	unsigned n = 0;

	if (fs_pread_full(fd, h, sizeof(h), header + 64, &e) < 0)
		return;
	for (uint64_t at = get_le64(h + 8), end = min_u64(at + get_le32(h + 4), size); at < end && n < ENTRIES_MAX;
	     at += VHDX_LOG_SECTOR) {
		if (fs_pread_full(fd, p, sizeof(p), at, &e) < 0)
			return;
		if (memcmp(p, "loge", 4) != 0)
			continue;
		if (get_le32(p + 8) >= 64 && get_le32(p + 8) <= ENTRY_BYTES_MAX)
			seal(fd, at, get_le32(p + 8));
		n++;
	}
}

static void seal_all(int fd, uint64_t size)
{
	seal(fd, VHDX_HEADER_1, VHDX_HEADER_BYTES);
	seal(fd, VHDX_HEADER_2, VHDX_HEADER_BYTES);
	seal(fd, VHDX_REGIONS_1, VHDX_REGIONS_BYTES);
	seal(fd, VHDX_REGIONS_2, VHDX_REGIONS_BYTES);
	seal_log(fd, VHDX_HEADER_1, size);
	seal_log(fd, VHDX_HEADER_2, size);
}

static int make_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct rd r = rd_of(data, size), bytes;
	uint8_t flags = 0, mib = 0;
	struct err e = ERR_INIT;
	uint64_t file_size;
	uint32_t at;
	uint16_t len;

	check(fd >= 0);
	(void)(rd_u8(&r, &flags) && rd_u8(&r, &mib));
	file_size = (mib % SIZE_MAX_MIB + 1) * MIB;
	check(ftruncate(fd, (off_t)file_size) == 0);
	while (rd_le32(&r, &at) && rd_le16(&r, &len) && rd_window(&r, min_size(len, r.left), &bytes))
		if (range_ok(at, bytes.left, file_size))
			check(fs_pwrite_full(fd, bytes.p, bytes.left, at, &e) == 0);
	if (flags & 1)
		seal_all(fd, file_size);
	return fd;
}

static void run(const uint8_t *data, size_t size, bool force)
{
	const struct image_open_opts o = { .force = force };
	const struct format *f = format_find("vhdx"), *probed;
	int fd = make_file(data, size);
	struct image_ids ids = { 0 };
	struct err e = ERR_INIT;
	struct image *im;

	if (format_probe(fd, "fuzz", &probed, &e) < 0 || f->read_ids(&(struct file){ fd, 0, 33 * MIB }, &ids, &e) < 0)
		check(e.code < 0 && e.cause[0]);
	err_clear(&e);
	if (f->open(fd, "fuzz", &o, &im, &e) == 0) {
		walk_image(im);
		return;
	}
	check(e.code < 0 && e.cause[0]);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run(data, size, false);
	run(data, size, true);
	return 0;
}
