/* kimage.c - small VMDK files built in memory. */
#include "tests/support/kimage.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/vmdk/vmdk.h"

static void must(bool ok)
{
	if (!ok)
		abort();
}

void kimage_init(struct kimage *k, size_t sectors)
{
	*k = (struct kimage){ 0 };
	kimage_grow(k, sectors);
}

void kimage_grow(struct kimage *k, size_t sectors)
{
	size_t len = sectors * KSECTOR;

	must(len >= k->len);
	k->p = realloc(k->p, len);
	must(k->p);
	memset(k->p + k->len, 0, len - k->len);
	k->len = len;
}

void kimage_done(struct kimage *k)
{
	free(k->p);
	*k = (struct kimage){ 0 };
}

void kimage_le32(struct kimage *k, uint64_t at, uint32_t v)
{
	must(range_ok(at, 4, k->len));
	put_le32(k->p + at, v);
}

void kimage_le64(struct kimage *k, uint64_t at, uint64_t v)
{
	must(range_ok(at, 8, k->len));
	put_le64(k->p + at, v);
}

void kimage_text(struct kimage *k, uint64_t at, const char *text)
{
	must(range_ok(at, strlen(text), k->len));
	memcpy(k->p + at, text, strlen(text));
}

void kimage_fill(struct kimage *k, uint64_t sector, uint8_t fill, size_t len)
{
	must(range_ok(sector * KSECTOR, len, k->len));
	memset(k->p + sector * KSECTOR, fill, len);
}

int kimage_fd(const struct kimage *k)
{
	int fd = memfd_create("vmdk", MFD_CLOEXEC);
	struct err e = ERR_INIT;

	must(fd >= 0 && fs_pwrite_full(fd, k->p, k->len, 0, &e) == 0);
	return fd;
}

void kimage_header(struct kimage *k, uint64_t sector, const struct kheader *h)
{
	uint64_t at = sector * KSECTOR;

	kimage_text(k, at, "KDMV");
	kimage_le32(k, at + 4, h->version);
	kimage_le32(k, at + 8, h->flags);
	kimage_le64(k, at + 12, h->capacity);
	kimage_le64(k, at + 20, h->grain);
	kimage_le64(k, at + 28, h->descriptor);
	kimage_le64(k, at + 36, h->descriptor_len);
	kimage_le32(k, at + 44, h->entries);
	kimage_le64(k, at + 48, h->copy);
	kimage_le64(k, at + 56, h->dir);
	kimage_le64(k, at + 64, h->overhead);
	kimage_text(k, at + 73, "\n \r\n");
	put_le16(k->p + at + 77, h->compression);
}

char *kdescriptor(const char *type, const char *lines)
{
	struct err e = ERR_INIT;
	char *text = NULL;

	must(asprintf(&text, "# Disk DescriptorFile\nversion=1\nCID=12345678\n%screateType=\"%s\"\n%s\n",
		      strstr(lines, "parentCID") ? "" : "parentCID=ffffffff\n", type, lines) > 0);
	(void)e;
	return text;
}

static void embed(struct kimage *k, const char *type, const char *line, const char *extra)
{
	char lines[700], *text;

	snprintf(lines, sizeof(lines), "%s\n%s", line, extra);
	text = kdescriptor(type, lines);
	must(strlen(text) <= 2 * KSECTOR);
	kimage_text(k, KSECTOR, text);
	free(text);
}

void kimage_sparse(struct kimage *k, uint32_t grains, const char *extra)
{
	const struct kheader h = { .version = 1, .flags = 3, .capacity = 24, .grain = 2, .descriptor = 1,
				   .descriptor_len = 2, .entries = 4, .copy = 3, .dir = 7, .overhead = 12 };

	kimage_init(k, 36);
	kimage_header(k, 0, &h);
	embed(k, "monolithicSparse", "RW 23 SPARSE \"a.vmdk\"", extra);
	for (uint32_t t = 0; t < 3; t++) {
		kimage_le32(k, 3 * KSECTOR + 4 * t, 4 + t);
		kimage_le32(k, 7 * KSECTOR + 4 * t, 8 + t);
	}
	for (uint32_t n = 0; n < 12; n++) {
		if (!(grains >> n & 1))
			continue;
		kimage_le32(k, KSPARSE_TABLE(n / 4) + 4 * (n % 4), 12 + 2 * n);
		kimage_le32(k, KSPARSE_COPY_TABLE(n / 4) + 4 * (n % 4), 12 + 2 * n);
		kimage_fill(k, 12 + 2 * n, (uint8_t)(n + 1), 1024);
	}
}

static uint64_t append(struct kimage *k, const void *p, size_t len)
{
	uint64_t at = k->len / KSECTOR;

	kimage_grow(k, (size_t)(at + div_up(len, KSECTOR)));
	memcpy(k->p + at * KSECTOR, p, len);
	return at;
}

static void marker(struct kimage *k, uint64_t value, uint32_t type)
{
	uint8_t p[16] = { 0 };

	put_le64(p, value);
	put_le32(p + 12, type);
	append(k, p, sizeof(p));
}

static uint64_t packed_grain(struct kimage *k, uint32_t n)
{
	uint8_t data[1024], p[1200];
	uLongf len = sizeof(p) - 12;

	memset(data, (int)n + 1, sizeof(data));
	must(compress(p + 12, &len, data, sizeof(data)) == Z_OK);
	put_le64(p, n * 2);
	put_le32(p + 8, (uint32_t)len);
	return append(k, p, len + 12);
}

void kimage_stream(struct kimage *k, uint32_t grains, uint64_t ret_grain[12])
{
	struct kheader h = { .version = 3, .flags = 0x30001, .capacity = 24, .grain = 2, .descriptor = 1,
			     .descriptor_len = 2, .entries = 4, .dir = UINT64_MAX, .overhead = 8, .compression = 1 };
	uint8_t tables[3][16] = { { 0 } }, dir[12];
	uint64_t at;

	kimage_init(k, 8);
	kimage_header(k, 0, &h);
	embed(k, "streamOptimized", "RDONLY 23 SPARSE \"a.vmdk\"", "");
	for (uint32_t n = 0; n < 12; n++) {
		if (!(grains >> n & 1))
			continue;
		at = packed_grain(k, n);
		put_le32(tables[n / 4] + 4 * (n % 4), (uint32_t)at);
		if (ret_grain)
			ret_grain[n] = at;
	}
	for (size_t t = 0; t < 3; t++) {
		marker(k, 1, 1);
		put_le32(dir + 4 * t, (uint32_t)append(k, tables[t], 16));
	}
	marker(k, 1, 2);
	h.dir = append(k, dir, sizeof(dir));
	marker(k, 1, 3);
	kimage_grow(k, k->len / KSECTOR + 1);
	kimage_header(k, k->len / KSECTOR - 1, &h);
	marker(k, 0, 0);
}

void kimage_cowd(struct kimage *k)
{
	static const uint32_t header[] = { 0x44574f43, 1, 3, 4196, 1, 4, 2, 73 };

	kimage_init(k, 73);
	for (size_t i = 0; i < 8; i++)
		kimage_le32(k, 4 * i, header[i]);
	kimage_le32(k, 4 * KSECTOR, 5);
	kimage_le32(k, 4 * KSECTOR + 4, 37);
	kimage_le32(k, 5 * KSECTOR, 69);
	kimage_le32(k, 5 * KSECTOR + 4, 70);
	kimage_le32(k, 5 * KSECTOR + 4 * 4095, 71);
	kimage_le32(k, 37 * KSECTOR + 4 * 99, 72);
	for (uint8_t i = 0; i < 4; i++)
		kimage_fill(k, 69u + i, (uint8_t)(i + 1), KSECTOR);
}

void kimage_sesparse(struct kimage *k)
{
	static const uint64_t areas[][2] = { { 1, 1 }, { 2, 1 }, { 3, 1 }, { 4, 1 }, { 8, 128 }, { 136, 1 }, { 137, 1 },
					     { 144, 24 } };

	kimage_init(k, 168);
	kimage_le64(k, 0, 0xcafebabe);
	kimage_le64(k, 8, 0x200000001);
	kimage_le64(k, 16, 32848);
	kimage_le64(k, 24, 8);
	kimage_le64(k, 32, 64);
	for (size_t i = 0; i < 8; i++) {
		kimage_le64(k, 80 + 16 * i, areas[i][0]);
		kimage_le64(k, 88 + 16 * i, areas[i][1]);
	}
	kimage_le64(k, KSECTOR, 0xcafecafe);
	kimage_le64(k, 4 * KSECTOR, (uint64_t)0x10000000 << 32);
	kimage_le64(k, 4 * KSECTOR + 8, (uint64_t)0x10000000 << 32 | 1);
	kimage_le64(k, KSE_TABLE(0), (uint64_t)3 << 60);
	kimage_le64(k, KSE_TABLE(0) + 8, (uint64_t)3 << 60 | (uint64_t)1 << 48);
	kimage_le64(k, KSE_TABLE(0) + 16, (uint64_t)2 << 60);
	kimage_le64(k, KSE_TABLE(0) + 24, (uint64_t)1 << 60);
	kimage_le64(k, KSE_TABLE(1) + 8 * 9, (uint64_t)3 << 60 | (uint64_t)2 << 48);
	for (uint8_t i = 0; i < 3; i++)
		kimage_fill(k, 144 + 8u * i, (uint8_t)(i + 1), 4096);
}

/* ---- opening ---- */

void kfiles_add(struct kfiles *f, const char *name, const struct kimage *k)
{
	for (size_t i = 0; i < 4; i++) {
		if (f->f[i].name)
			continue;
		f->f[i].name = name;
		f->f[i].k = k;
		f->f[i].fd = kimage_fd(k);
		return;
	}
	must(false);
}

void kfiles_done(struct kfiles *f)
{
	for (size_t i = 0; i < 4; i++)
		if (f->f[i].name)
			close(f->f[i].fd);
	*f = (struct kfiles){ 0 };
}

static int give(void *opaque, const char *reference, const char *what, struct image_part *ret, struct err *e)
{
	struct kfiles *f = opaque;

	f->asked++;
	for (size_t i = 0; i < 4; i++) {
		if (!f->f[i].name || strcmp(f->f[i].name, reference) != 0)
			continue;
		*ret = (struct image_part){ .path = strdup(reference), .fd = fcntl(f->f[i].fd, F_DUPFD_CLOEXEC, 0) };
		must(ret->path && ret->fd >= 0);
		return 0;
	}
	return err_set(e, ERR_NOTFOUND, "%s %s: not there", what, reference);
}

int kimage_open(const struct kimage *k, struct kfiles *files, bool force, struct image **ret, struct err *e)
{
	const struct image_opener opener = { give, files };
	const struct image_open_opts o = { .force = force, .opener = files ? &opener : NULL };
	int fd = kimage_fd(k), r = vmdk_open(fd, "dir/disk.vmdk", &o, ret, e);

	if (r < 0)
		close(fd);
	return r;
}

int kdescriptor_open(const char *text, struct kfiles *files, bool force, struct image **ret, struct err *e)
{
	const struct kimage k = { (uint8_t *)(uintptr_t)text, strlen(text) };

	return kimage_open(&k, files, force, ret, e);
}
