/* qdecode.c - see qdecode.h. */
#include "tests/support/qdecode.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/crypt/crypt.h"
#include "formats/image.h"
#include "tests/test.h"

static const uint8_t *at(const struct qdecode *im, uint64_t off, uint64_t len)
{
	assert_true(range_ok(off, len, im->len));
	return im->p + off;
}

static void qdecode_snapshots(struct qdecode *im)
{
	uint64_t off = get_be64(im->p + 64);

	for (uint32_t i = 0; i < im->nsnap; i++) {
		const uint8_t *s = at(im, off, 40);
		uint32_t extra = get_be32(s + 36);

		assert_true(extra >= 24);
		at(im, off, 40 + (uint64_t)extra + get_be16(s + 12) + get_be16(s + 14));
		im->snap[i] = s;
		im->t[i] = (struct qdecode_table){ .l1_off = get_be64(s), .l1_n = get_be32(s + 8), .vm_bytes = get_be64(s + 40),
					   .size = get_be64(s + 48) };
		assert_int_equal(get_be32(s + 32), im->t[i].vm_bytes);
		assert_true(get_be64(s + 56) == UINT64_MAX);
		off = round_up(off + 40 + extra + get_be16(s + 12) + get_be16(s + 14), 8);
	}
}

void qdecode_load(struct qdecode *im, const char *path)
{
	struct err e = ERR_INIT;

	*im = (struct qdecode){ 0 };
	assert_ok(fs_read_file(path, (size_t)1 << 30, &im->p, &im->len, &e), &e);
	assert_memory_equal(im->p, "QFI\xfb\0\0\0\3", 8);
	im->bits = get_be32(im->p + 20);
	im->cluster = (uint64_t)1 << im->bits;
	assert_int_equal(get_be64(im->p + 72) & ~(uint64_t)24, 0);	/* bit 3: not deflate; 4: extended L2 entries */
	im->zstd = get_be64(im->p + 72) & 8;
	im->extended = get_be64(im->p + 72) & 16;
	assert_int_equal(im->p[104], im->zstd);
	assert_true(!im->extended || im->bits >= 14);
	im->l2_n = im->cluster / (im->extended ? 16 : 8);
	assert_int_equal(im->len % im->cluster, 0);
	im->nclusters = im->len / im->cluster;
	im->nsnap = get_be32(im->p + 60);
	assert_true(im->nsnap <= QDECODE_STATES);
	qdecode_snapshots(im);
	im->t[im->nsnap] = (struct qdecode_table){ .l1_off = get_be64(im->p + 40), .l1_n = get_be32(im->p + 36),
					   .size = get_be64(im->p + 24) };
	assert_int_equal(get_be64(im->p + 80) | get_be64(im->p + 88), 0);
	assert_int_equal(get_be32(im->p + 96), 4);
	assert_int_equal(get_be32(im->p + 100), 112);
	if (get_be32(im->p + 32) == 2) {
		assert_int_equal(get_be32(im->p + 112), 0x0537be77);
		assert_int_equal(get_be32(im->p + 116), 16);
		im->luks_off = get_be64(im->p + 120);
		im->luks_len = get_be64(im->p + 128);
		assert_int_equal(im->luks_off % im->cluster, 0);
		at(im, im->luks_off, im->luks_len);
		assert_int_equal(get_be64(im->p + 136), 0);
	} else if (get_be64(im->p + 8)) {
		assert_int_equal(get_be32(im->p + 112), 0xe2792aca);
		assert_int_equal(get_be64(im->p + 120 + round_up(get_be32(im->p + 116), 8)), 0);
	} else {
		assert_int_equal(get_be32(im->p + 32), 0);
		assert_int_equal(get_be64(im->p + 112), 0);
	}
}

void qdecode_unlock(struct qdecode *im, const char *path, const struct image_secret *s)
{
	struct file f = { .fd = open(path, O_RDONLY | O_CLOEXEC), .size = im->len };
	const struct luks_limits limits = { .one = LUKS_ROUNDS_ONE, .all = LUKS_ROUNDS_ALL };
	struct err e = ERR_INIT;
	struct luks_header h;

	assert_true(f.fd >= 0);
	assert_ok(luks_read(&f, im->luks_off, im->luks_len, &h, &e), &e);
	assert_ok(luks_open(&f, im->luks_off, &h, &s, 1, &limits, &im->key, &e), &e);
	close(f.fd);
}

/* The whole cluster at a host offset, as the guest sees it. */
static void read_host(const struct qdecode *im, uint64_t host, uint8_t *out)
{
	struct err e = ERR_INIT;

	memcpy(out, at(im, host, im->cluster), im->cluster);
	assert_int_equal(im->luks_off != 0, im->key != NULL);
	if (im->key)
		assert_ok(imgcrypt_decrypt(im->key, out, im->cluster, host / 512, &e), &e);
}

void qdecode_done(struct qdecode *im)
{
	imgcrypt_free(im->key);
	free(im->p);
	free(im->refs);
}

static void packed_range(const struct qdecode *im, uint64_t entry, uint64_t *off, uint64_t *len)
{
	unsigned x = 62 - (im->bits - 8);

	*off = entry & (((uint64_t)1 << x) - 1);
	*len = ((entry >> x & (((uint64_t)1 << (im->bits - 8)) - 1)) + 1) * 512 - *off % 512;
}

/* As QEMU does it: in a stream, which must be at its end when the cluster is full, whatever follows. */
static void unzstd_cluster(const struct qdecode *im, const uint8_t *p, uint64_t len, uint8_t *out)
{
	ZSTD_DStream *d = ZSTD_createDStream();
	ZSTD_inBuffer in = { p, len, 0 };
	ZSTD_outBuffer o = { out, im->cluster, 0 };
	size_t r = 1, was;

	assert_non_null(d);
	while (o.pos < o.size) {
		was = in.pos + o.pos;
		r = ZSTD_decompressStream(d, &o, &in);
		assert_false(ZSTD_isError(r));
		assert_true(in.pos + o.pos > was);
	}
	assert_int_equal(r, 0);
	ZSTD_freeDStream(d);
}

static void inflate_cluster(const struct qdecode *im, uint64_t entry, uint8_t *out)
{
	z_stream z = { .next_out = out, .avail_out = (uInt)im->cluster };
	uint64_t off, len;

	packed_range(im, entry, &off, &len);
	len = min_u64(len, im->len - off);
	if (im->zstd) {
		unzstd_cluster(im, at(im, off, len), len, out);
		return;
	}
	z.next_in = (uint8_t *)(uintptr_t)at(im, off, len);
	z.avail_in = (uInt)len;
	assert_int_equal(inflateInit2(&z, -12), Z_OK);	/* the window that QEMU's decoder has */
	inflate(&z, Z_FINISH);
	assert_int_equal(z.avail_out, 0);
	inflateEnd(&z);
}

/* Entry i of the L2 table at l2. */
static uint64_t entry_at(const struct qdecode *im, uint64_t l2, uint64_t i, uint64_t *ret_bitmap)
{
	uint64_t size = im->cluster / im->l2_n;
	const uint8_t *p = at(im, l2 + i * size, size);

	*ret_bitmap = im->extended ? get_be64(p + 8) : 0;
	return get_be64(p);
}

uint64_t qdecode_entry_bitmap(const struct qdecode *im, const struct qdecode_table *t, uint64_t c, uint64_t *ret_bitmap)
{
	uint64_t l1;

	*ret_bitmap = 0;
	if (c / im->l2_n >= t->l1_n)
		return 0;
	l1 = get_be64(at(im, t->l1_off + c / im->l2_n * 8, 8)) & 0x00fffffffffffe00;
	return l1 ? entry_at(im, l1, c % im->l2_n, ret_bitmap) : 0;
}

uint64_t qdecode_entry(const struct qdecode *im, const struct qdecode_table *t, uint64_t c)
{
	uint64_t bitmap;

	return qdecode_entry_bitmap(im, t, c, &bitmap);
}

/* What the specification allows of the two halves of an extended entry. */
static void check_extended(uint64_t entry, uint64_t bitmap)
{
	uint32_t alloc = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);

	assert_int_equal(alloc & zero, 0);
	if (entry & (uint64_t)1 << 62)
		assert_int_equal(bitmap, 0);
	else
		assert_int_equal(entry & 1, 0);
	if (!(entry & 0x00fffffffffffe00))
		assert_int_equal(alloc, 0);
}

/* Of a cluster at hand what the guest doesn't see: subclusters that aren't in the file. */
static void hide_absent(const struct qdecode *im, uint64_t bitmap, uint8_t *cluster)
{
	for (unsigned i = 0; im->extended && i < 32; i++)
		if (!(bitmap >> i & 1))
			memset(cluster + i * im->cluster / 32, 0, im->cluster / 32);
}

void qdecode_read(const struct qdecode *im, const struct qdecode_table *t, uint8_t *out, uint64_t len, uint64_t off)
{
	CLEANUP(free_ptr) uint8_t *tmp = malloc(im->cluster);

	for (uint64_t n; len > 0; off += n, out += n, len -= n) {
		uint64_t bitmap, entry = qdecode_entry_bitmap(im, t, off / im->cluster, &bitmap);

		n = min_u64(len, im->cluster - off % im->cluster);
		memset(out, 0, n);
		if (entry & (uint64_t)1 << 62) {
			inflate_cluster(im, entry, tmp);
			memcpy(out, tmp + off % im->cluster, n);
		} else if (entry) {
			assert_int_equal(entry & 1, 0);
			read_host(im, entry & 0x00fffffffffffe00, tmp);
			hide_absent(im, bitmap, tmp);
			memcpy(out, tmp + off % im->cluster, n);
		}
	}
}

static void count(struct qdecode *im, uint64_t off, uint64_t len)
{
	for (uint64_t c = off / im->cluster; len && c <= (off + len - 1) / im->cluster; c++) {
		assert_true(c < im->nclusters);
		im->refs[c]++;
	}
}

static void count_tree(struct qdecode *im, const struct qdecode_table *t)
{
	uint64_t off, len;

	assert_int_equal(t->l1_off % im->cluster, 0);
	count(im, t->l1_off, t->l1_n * 8);
	for (uint64_t i = 0; i < t->l1_n; i++) {
		uint64_t l2 = get_be64(at(im, t->l1_off + i * 8, 8)) & 0x00fffffffffffe00;

		if (!l2)
			continue;
		assert_int_equal(l2 % im->cluster, 0);
		count(im, l2, im->cluster);
		for (uint64_t k = 0; k < im->l2_n; k++) {
			uint64_t bitmap, entry = entry_at(im, l2, k, &bitmap);

			if (im->extended)
				check_extended(entry, bitmap);
			if (entry & (uint64_t)1 << 62) {
				packed_range(im, entry, &off, &len);
				count(im, off, len);
			} else if (entry && entry != 1) {	/* 1: zeros without a place */
				assert_int_equal((entry & 0x00fffffffffffe00) % im->cluster, 0);
				count(im, entry & 0x00fffffffffffe00, im->cluster);
			}
		}
	}
}

static void check_copied(const struct qdecode *im)
{
	const struct qdecode_table *t = &im->t[im->nsnap];

	for (uint64_t i = 0; i < t->l1_n; i++) {
		uint64_t l1 = get_be64(at(im, t->l1_off + i * 8, 8)), l2 = l1 & 0x00fffffffffffe00;

		if (!l2)
			continue;
		assert_int_equal(l1 >> 63, im->refs[l2 / im->cluster] == 1);
		for (uint64_t k = 0; k < im->l2_n; k++) {
			uint64_t bitmap, entry = entry_at(im, l2, k, &bitmap);

			if (entry && entry != 1 && !(entry & (uint64_t)1 << 62))
				assert_int_equal(entry >> 63,
						 im->refs[(entry & 0x00fffffffffffe00) / im->cluster] == 1);
			else
				assert_int_equal(entry >> 63, 0);
		}
	}
}

void qdecode_check(struct qdecode *im)
{
	uint64_t rt = get_be64(im->p + 48), rt_clusters = get_be32(im->p + 56), snaps = get_be64(im->p + 64);
	uint64_t end = snaps, per_block = im->cluster / 2;

	im->refs = calloc(im->nclusters, sizeof(*im->refs));
	count(im, 0, im->cluster);
	count(im, rt, rt_clusters * im->cluster);
	count(im, im->luks_off, im->luks_len);
	for (uint64_t i = 0; i < rt_clusters * im->cluster / 8; i++)
		if (get_be64(at(im, rt + i * 8, 8)))
			count(im, get_be64(at(im, rt + i * 8, 8)), im->cluster);
	for (uint32_t i = 0; i <= im->nsnap; i++)
		count_tree(im, &im->t[i]);
	for (uint32_t i = 0; i < im->nsnap; i++)
		end = round_up((uint64_t)(im->snap[i] - im->p) + 64 + get_be16(im->snap[i] + 12) +
				       get_be16(im->snap[i] + 14),
			       8);
	count(im, snaps, end - snaps);
	for (uint64_t c = 0; c < im->nclusters; c++) {
		uint64_t block = get_be64(at(im, rt + c / per_block * 8, 8));

		assert_true(block != 0);
		assert_int_equal(get_be16(at(im, block + c % per_block * 2, 2)), im->refs[c]);
		assert_true(im->refs[c] > 0);	/* nothing leaked */
	}
	check_copied(im);
}
