/* qcow2_write_end.c - what is written when all data are in: preallocated clusters, snapshot table, refcounts,
 * header. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/qcow2/qcow2_write_internal.h"
#include "formats/target.h"

#define HEADER_BYTES 112
#define V2_HEADER_BYTES 72
#define EXT_BACKING_FORMAT 0xe2792acau
#define EXT_LUKS 0x0537be77u
#define CRYPT_LUKS 2
#define INCOMPAT_COMPRESSION (UINT64_C(1) << 3)	/* another than deflate */
#define INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)
#define COMPRESSION_ZSTD 1
#define SNAPSHOT_BYTES 40
#define SNAPSHOT_EXTRA_BYTES 24

/* ---- preallocation ---- */

/* Host clusters that follow each other and were just allocated. */
struct fresh {
	uint64_t first, n;
};

static int fill_fresh(struct q2w *q, struct fresh *f, struct err *e)
{
	uint64_t off = f->first << q->cluster_bits, len = f->n << q->cluster_bits;
	int rc = 0;

	if (f->n && q->preallocation == PREALLOC_FALLOC)
		rc = target_reserve(q->file.fd, off, len, e);
	if (f->n && q->preallocation == PREALLOC_FULL)
		rc = target_write_zeros(q->file.fd, off, len, e);
	f->n = 0;
	return rc;
}

/* *ret_host 0: it had a place. */
static int map_cluster(struct q2w *q, uint64_t c, uint64_t *ret_host, struct err *e)
{
	struct q2w_l2 l2;
	uint64_t host;

	*ret_host = 0;
	if (q2w_l2_get(q, q2w_now(q), c, &l2, e) < 0)
		return e->code;
	if (!q2w_l2_none(&l2))
		return 0;
	if (q2w_alloc(q, 1, &host, e) < 0)
		return e->code;
	*ret_host = host;
	l2.entry = host << q->cluster_bits | Q2W_COPIED;	/* as QEMU does it, no subcluster is in use */
	return q2w_l2_set(q, c, &l2, e);
}

static int preallocate_one(struct q2w *q, uint64_t c, struct fresh *f, struct err *e)
{
	uint64_t host;
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = map_cluster(q, c, &host, e);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0 || !host)
		return rc;
	if (f->n && f->first + f->n != host && fill_fresh(q, f, e) < 0)
		return e->code;
	if (!f->n)
		f->first = host;
	f->n++;
	return 0;
}

int q2w_preallocate(struct q2w *q, struct err *e)
{
	uint64_t n = div_up(q->size, q2w_cluster_size(q));
	struct fresh f = { 0 };

	for (uint64_t c = 0; c < n; c++)
		if (preallocate_one(q, c, &f, e) < 0)
			return e->code;
	return fill_fresh(q, &f, e);
}

/* ---- snapshot table ---- */

static int add_snapshot(struct buf *b, const struct q2w_state *s, struct err *e)
{
	uint64_t sec = s->date_ns > 0 ? (uint64_t)s->date_ns / 1000000000 : 0;
	uint32_t nsec = s->date_ns > 0 ? (uint32_t)((uint64_t)s->date_ns % 1000000000) : 0;
	size_t id = strlen(s->id), name = strlen(s->name);
	size_t len = SNAPSHOT_BYTES + SNAPSHOT_EXTRA_BYTES + id + name;
	uint8_t *p = buf_extend(b, (size_t)round_up(len, 8), e);

	if (!p)
		return e->code;
	memset(p, 0, (size_t)round_up(len, 8));
	put_be64(p, s->l1_off);
	put_be32(p + 8, (uint32_t)s->l1_entries);
	put_be16(p + 12, (uint16_t)id);
	put_be16(p + 14, (uint16_t)name);
	put_be32(p + 16, (uint32_t)min_u64(sec, UINT32_MAX));
	put_be32(p + 20, nsec);
	put_be64(p + 24, s->vm_clock_ns);
	put_be32(p + 32, s->vm_bytes > UINT32_MAX ? 0 : (uint32_t)s->vm_bytes);	/* the extra data have it in full */
	put_be32(p + 36, SNAPSHOT_EXTRA_BYTES);
	put_be64(p + 40, s->vm_bytes);
	put_be64(p + 48, round_up(s->size, Q2W_SECTOR));
	put_be64(p + 56, UINT64_MAX);	/* icount: not recorded */
	memcpy(p + 64, s->id, id);
	memcpy(p + 64 + id, s->name, name);
	return 0;
}

static void done_buf(struct buf *b)
{
	buf_done(b);
}

static int write_snapshots(struct q2w *q, uint64_t *ret_off, struct err *e)
{
	CLEANUP(done_buf) struct buf b = { 0 };
	uint64_t first;
	int rc;

	*ret_off = 0;
	if (q->states.n == 1)
		return 0;
	buf_init(&b, Q2W_SNAPSHOT_TABLE_MAX_BYTES);
	for (size_t i = 0; i + 1 < q->states.n; i++)
		if (add_snapshot(&b, &q->states.p[i], e) < 0)
			return err_ctx(e, "table of %zu snapshots", q->states.n - 1);
	pthread_mutex_lock(&q->lock);
	rc = q2w_alloc(q, div_up(b.len, q2w_cluster_size(q)), &first, e);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0 || fs_pwrite_full(q->file.fd, b.p, b.len, first << q->cluster_bits, e) < 0)
		return e->code;
	*ret_off = first << q->cluster_bits;
	return 0;
}

/* ---- the header ---- */

static int add_extension(struct buf *b, uint32_t type, const void *data, size_t len, struct err *e)
{
	uint8_t *p = buf_extend(b, 8 + (size_t)round_up(len, 8), e);

	if (!p)
		return e->code;
	memset(p, 0, 8 + (size_t)round_up(len, 8));
	put_be32(p, type);
	put_be32(p + 4, (uint32_t)len);
	memcpy(p + 8, data, len);
	return 0;
}

/* "Header extensions" of the specification; zeros end them. */
static int add_extensions(const struct q2w *q, struct buf *b, struct err *e)
{
	uint8_t luks[16];
	uint64_t off, len;

	if (q->backing && add_extension(b, EXT_BACKING_FORMAT, q->backing_format, strlen(q->backing_format), e) < 0)
		return e->code;
	if (q->crypt) {
		q2w_crypt_header(q->crypt, &off, &len);
		put_be64(luks, off);
		put_be64(luks + 8, len);
		if (add_extension(b, EXT_LUKS, luks, sizeof(luks), e) < 0)
			return e->code;
	}
	return add_extension(b, 0, "", 0, e);
}

static int add_backing(const struct q2w *q, struct buf *b, struct err *e)
{
	size_t off = b->len, len = strlen(q->backing);
	uint8_t *p = off + len <= q2w_cluster_size(q) ? buf_extend(b, len, e) : NULL;

	if (off + len > q2w_cluster_size(q)) {
		(void)err_set(e, ERR_INVALID, "the name of the backing file doesn't fit into the first cluster");
		return err_hint(e, "use a larger cluster size, or the same folder for both");
	}
	if (!p)
		return e->code;
	memcpy(p, q->backing, len);
	put_be64(b->p + 8, off);
	put_be32(b->p + 16, (uint32_t)len);
	return 0;
}

/* From the qcow2 specification, "Header"; what stays 0: other feature bits. */
static int write_header(struct q2w *q, uint64_t snapshots, uint64_t reftable, uint64_t reftable_clusters, struct err *e)
{
	const struct q2w_state *s = &q->states.p[q2w_now(q)];
	size_t len = q->version > 2 ? HEADER_BYTES : V2_HEADER_BYTES;
	CLEANUP(done_buf) struct buf b = { 0 };
	uint8_t *h;

	buf_init(&b, Q2W_CLUSTER_MAX);
	h = buf_extend(&b, len, e);
	if (!h)
		return e->code;
	memset(h, 0, len);
	memcpy(h, "QFI\xfb", 4);
	put_be32(h + 4, q->version);
	put_be32(h + 20, q->cluster_bits);
	put_be64(h + 24, round_up(s->size, Q2W_SECTOR));
	put_be32(h + 32, q->crypt ? CRYPT_LUKS : 0);
	put_be32(h + 36, (uint32_t)s->l1_entries);
	put_be64(h + 40, s->l1_off);
	put_be64(h + 48, reftable);
	put_be32(h + 56, (uint32_t)reftable_clusters);
	put_be32(h + 60, (uint32_t)(q->states.n - 1));
	put_be64(h + 64, snapshots);
	if (q->version > 2) {
		put_be64(h + 72, (q->zstd ? INCOMPAT_COMPRESSION : 0) | (q->extended ? INCOMPAT_EXTENDED_L2 : 0));
		put_be32(h + 96, 4);	/* 1 << 4 = 16 bits a refcount */
		put_be32(h + 100, HEADER_BYTES);
		h[104] = q->zstd ? COMPRESSION_ZSTD : 0;
	}
	if (add_extensions(q, &b, e) < 0 || (q->backing && add_backing(q, &b, e) < 0))
		return e->code;
	return fs_pwrite_full(q->file.fd, b.p, b.len, 0, e);
}

/* ---- the end ---- */

/* A file that grows keeps the space reserved behind its end; one that is given the size that it has gives it back. */
static int set_size(struct q2w *q, uint64_t size, struct err *e)
{
	if (FS_RETRY(ftruncate(q->file.fd, (off_t)size)) < 0 ||
	    (q->reserved > size && FS_RETRY(ftruncate(q->file.fd, (off_t)size)) < 0))
		return err_sys(e, "size of %" PRIu64 " bytes", size);
	return 0;
}

int q2w_end(struct q2w *q, struct err *e)
{
	uint64_t snapshots, reftable, clusters, size;
	int rc;

	if (write_snapshots(q, &snapshots, e) < 0)
		return e->code;
	pthread_mutex_lock(&q->lock);
	rc = q2w_write_reftable(q, &reftable, &clusters, e);
	if (rc == 0)
		rc = q2w_meta_flush(q->meta, e);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return rc;
	size = q->next << q->cluster_bits;
	if (set_size(q, size, e) < 0)
		return e->code;
	/* also what is zero inside of clusters that were written */
	if ((q->preallocation == PREALLOC_FALLOC || q->preallocation == PREALLOC_FULL) &&
	    target_reserve(q->file.fd, 0, size, e) < 0)
		return e->code;
	return write_header(q, snapshots, reftable, clusters, e);
}
