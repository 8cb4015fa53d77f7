/* qimage.c - small qcow2 images built in memory. */
#include "tests/support/qimage.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/qcow2/qcow2.h"

static void must(bool ok)
{
	if (!ok)
		abort();
}

void qimage_be32(struct qimage *q, uint64_t at, uint32_t v)
{
	must(range_ok(at, 4, q->len));
	put_be32(q->p + at, v);
}

void qimage_be64(struct qimage *q, uint64_t at, uint64_t v)
{
	must(range_ok(at, 8, q->len));
	put_be64(q->p + at, v);
}

uint32_t qimage_get32(const struct qimage *q, uint64_t at)
{
	must(range_ok(at, 4, q->len));
	return get_be32(q->p + at);
}

uint64_t qimage_get64(const struct qimage *q, uint64_t at)
{
	must(range_ok(at, 8, q->len));
	return get_be64(q->p + at);
}

uint64_t qimage_append(struct qimage *q, const void *p, size_t len)
{
	size_t at = q->len;

	q->p = realloc(q->p, q->len + len + 1);
	must(q->p);
	if (p)
		memcpy(q->p + at, p, len);
	else
		memset(q->p + at, 0, len);
	q->len += len;
	return at;
}

uint64_t qimage_cluster(struct qimage *q, const void *p, size_t len)
{
	(void)qimage_append(q, NULL, (size_t)round_up(q->len, q->cluster) - q->len);
	return qimage_append(q, p, len);
}

void qimage_init(struct qimage *q, uint32_t version, unsigned cluster_bits, uint64_t size, bool extl2,
		 uint32_t l1_spare)
{
	unsigned l1_shift = 2 * cluster_bits - (extl2 ? 4 : 3);

	*q = (struct qimage){ .version = version, .cluster_bits = cluster_bits, .cluster = 1u << cluster_bits, .extl2 = extl2 };
	q->l1_size = (uint32_t)div_up(size, (uint64_t)1 << l1_shift) + l1_spare;
	q->l1 = 3 * (uint64_t)q->cluster;
	(void)qimage_append(q, NULL, (size_t)round_up(q->l1 + q->l1_size * 8, q->cluster));
	qimage_be32(q, 0, 0x514649fb);
	qimage_be32(q, 4, version);
	qimage_be32(q, 20, cluster_bits);
	qimage_be64(q, 24, size);
	qimage_be32(q, 36, q->l1_size);
	qimage_be64(q, 40, q->l1);
	qimage_be64(q, 48, q->cluster);
	qimage_be32(q, 56, 1);
	qimage_be64(q, q->cluster, 2 * (uint64_t)q->cluster);	/* refcount table -> block */
	q->ext_end = 72;
	if (version < 3)
		return;
	qimage_be64(q, 72, extl2 ? 1 << 4 : 0);
	qimage_be32(q, 96, 4);
	qimage_be32(q, 100, 112);
	q->ext_end = 112;
}

void qimage_done(struct qimage *q)
{
	free(q->p);
	free(q->snapshots);
	*q = (struct qimage){ 0 };
}

void qimage_extension(struct qimage *q, uint32_t type, const void *p, size_t len)
{
	must(q->ext_end + 8 + round_up(len, 8) <= q->cluster);
	qimage_be32(q, q->ext_end, type);
	qimage_be32(q, q->ext_end + 4, (uint32_t)len);
	memcpy(q->p + q->ext_end + 8, p, len);
	q->ext_end += 8 + (size_t)round_up(len, 8);
}

void qimage_backing(struct qimage *q, const char *name, const char *format)
{
	size_t at;

	if (format)
		qimage_extension(q, QIMAGE_EXT_BACKING_FORMAT, format, strlen(format));
	at = q->ext_end + 8;
	must(at + strlen(name) <= q->cluster);
	memcpy(q->p + at, name, strlen(name));
	qimage_be64(q, 8, at);
	qimage_be32(q, 16, (uint32_t)strlen(name));
}

uint64_t qimage_entry_at(struct qimage *q, uint64_t guest)
{
	unsigned entry = q->extl2 ? 16 : 8, l1_shift = 2 * q->cluster_bits - (q->extl2 ? 4 : 3);
	uint64_t l1_at = q->l1 + (guest >> l1_shift) * 8, l2 = qimage_get64(q, l1_at) & 0x00fffffffffffe00;

	must(guest >> l1_shift < q->l1_size);
	if (!l2) {
		l2 = qimage_cluster(q, NULL, q->cluster);
		qimage_be64(q, l1_at, l2 | QIMAGE_COPIED);
	}
	return l2 + ((guest >> q->cluster_bits) & (q->cluster / entry - 1)) * entry;
}

void qimage_set(struct qimage *q, uint64_t guest, uint64_t entry)
{
	uint64_t at = qimage_entry_at(q, guest);

	qimage_be64(q, at, entry);
}

void qimage_set_bitmap(struct qimage *q, uint64_t guest, uint64_t bitmap)
{
	uint64_t at = qimage_entry_at(q, guest);

	qimage_be64(q, at + 8, bitmap);
}

uint64_t qimage_data(struct qimage *q, uint64_t guest, uint8_t fill)
{
	uint64_t at = qimage_entry_at(q, guest), host = qimage_cluster(q, NULL, q->cluster);

	memset(q->p + host, fill, q->cluster);
	qimage_be64(q, at, host | QIMAGE_COPIED);
	if (q->extl2)
		qimage_be64(q, at + 8, 0xffffffff);
	return host;
}

static size_t pack(const struct qimage *q, uint8_t fill, bool zstd, uint8_t *out, size_t cap)
{
	uint8_t *in = malloc(q->cluster);
	z_stream z = { 0 };
	size_t len;

	must(in);
	memset(in, fill, q->cluster / 2);
	memset(in + q->cluster / 2, fill + 1, q->cluster / 2);
	if (zstd) {
		len = ZSTD_compress(out, cap, in, q->cluster, 3);
		must(!ZSTD_isError(len));
	} else {
		z.next_in = in;
		z.avail_in = q->cluster;
		z.next_out = out;
		z.avail_out = (uInt)cap;
		must(deflateInit2(&z, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK &&
		     deflate(&z, Z_FINISH) == Z_STREAM_END);
		len = cap - z.avail_out;
		(void)deflateEnd(&z);
	}
	free(in);
	return len;
}

void qimage_compressed(struct qimage *q, uint64_t guest, uint8_t fill, bool zstd)
{
	uint64_t at = qimage_entry_at(q, guest), host;
	uint8_t *out = malloc(q->cluster + 1024);
	size_t len;

	must(out);
	len = pack(q, fill, zstd, out, q->cluster + 1024);
	host = qimage_append(q, out, len);	/* packed, as writers do: not aligned */
	free(out);
	qimage_be64(q, at,
		    QIMAGE_COMPRESSED | ((host + len - 1) / 512 - host / 512) << (62 - (q->cluster_bits - 8)) | host);
}

void qimage_snapshot(struct qimage *q, const char *id, const char *name, uint64_t size, uint64_t vm_bytes,
		     uint32_t extra)
{
	size_t tail = extra + strlen(id) + strlen(name), len = (size_t)round_up(40 + tail, 8);
	uint8_t *l1 = malloc(q->l1_size * 8 + 1), *n;
	uint64_t at;

	must(l1);
	memcpy(l1, q->p + q->l1, q->l1_size * 8);
	at = qimage_cluster(q, l1, q->l1_size * 8);
	free(l1);
	q->snapshots = realloc(q->snapshots, q->snapshots_len + len);
	must(q->snapshots);
	n = q->snapshots + q->snapshots_len;
	memset(n, 0, len);
	put_be64(n, at);
	put_be32(n + 8, q->l1_size);
	put_be16(n + 12, (uint16_t)strlen(id));
	put_be16(n + 14, (uint16_t)strlen(name));
	put_be32(n + 16, 1700000000u + q->nsnapshots);
	put_be32(n + 20, 5);
	put_be64(n + 24, 77);
	put_be32(n + 32, (uint32_t)vm_bytes);
	put_be32(n + 36, extra);
	if (extra >= 16) {
		put_be64(n + 40, vm_bytes);
		put_be64(n + 48, size);
	}
	memcpy(n + 40 + extra, id, strlen(id));
	memcpy(n + 40 + extra + strlen(id), name, strlen(name));
	q->snapshots_len += len;
	q->nsnapshots++;
	at = qimage_cluster(q, q->snapshots, q->snapshots_len);
	qimage_be32(q, 60, q->nsnapshots);
	qimage_be64(q, 64, at);
}

int qimage_fd(const struct qimage *q)
{
	struct err e = ERR_INIT;
	int fd = memfd_create("qimage", MFD_CLOEXEC);

	must(fd >= 0 && fs_pwrite_full(fd, q->p, q->len, 0, &e) == 0);
	return fd;
}

void qimage_save(const struct qimage *q, const char *path)
{
	struct err e = ERR_INIT;

	must(fs_write_atomic(path, q->p, q->len, true, 0600, &e) == 0);
}

int qimage_open(const struct qimage *q, bool force, struct image **ret, struct err *e)
{
	struct image_open_opts o = { .force = force };
	int fd = qimage_fd(q);
	int r = qcow2_open(fd, "test.qcow2", &o, ret, e);

	if (r < 0)
		close(fd);
	return r;
}
