/*
 * qcow_write.c - the qcow version 1 writer.
 *
 * The file begins as a hole.  Header and L1 table come at its beginning, and behind them L2 tables and clusters in the
 * order in which they are needed.  L2 tables are kept in the file alone, a few entries written at a time, so memory
 * doesn't grow with the disk but for the L1 table.
 */
#include "formats/qcow/qcow_write.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/qcow/qcow_write_internal.h"
#include "formats/target.h"

#define CLUSTER_DEFAULT 4096u		/* QEMU's, for images without a backing file */
#define L1_MAX_ENTRIES ((uint64_t)4 << 20)
#define BATCH 512u			/* clusters that get their places at once */
#define SECTOR ((uint64_t)512)
#define DEFAULT_MODE 0600

static void qw_free(struct qw *q)
{
	qw_pack_free(q->pack);
	free(q->l1);
	fs_atomic_done(&q->file);
	free(q->path);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static void qw_abort(struct image_writer *w)
{
	qw_free((struct qw *)w);
}

static int qw_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct qw *q = (struct qw *)w;

	if (q->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a qcow has one state, of %" PRIu64 " bytes", w->size);
	q->begun = true;
	return 0;
}

uint64_t qw_alloc(struct qw *q, uint64_t len, uint32_t align)
{
	uint64_t at = round_up(q->end, align);

	q->end = at + len;
	return at;
}

static unsigned l2_bits(const struct qw *q)
{
	return q->cluster_bits - 3;
}

/* The place in the file of a cluster's L2 entry; its table is made if there is none. */
static uint64_t entry_place(struct qw *q, uint64_t cluster)
{
	uint64_t *table = &q->l1[cluster >> l2_bits(q)];

	if (!*table)
		*table = qw_alloc(q, q->w.cluster_size, q->w.cluster_size);
	return *table + (cluster & (((uint64_t)1 << l2_bits(q)) - 1)) * 8;
}

/* Entries of n clusters from first on, all of one table. */
static int get_entries(struct qw *q, uint64_t first, uint64_t *ret, size_t n, struct err *e)
{
	uint8_t buf[BATCH * 8] = { 0 };
	size_t got = 0;

	if (q->l1[first >> l2_bits(q)] && fs_pread(q->file.fd, buf, n * 8, entry_place(q, first), &got, e) < 0)
		return err_ctx(e, "L2 table");
	for (size_t i = 0; i < n; i++)	/* a table that wasn't written to may be behind the file's end: zeros */
		ret[i] = get_be64(buf + i * 8);
	return 0;
}

int qw_set_entries(struct qw *q, uint64_t first, const uint64_t *entries, size_t n, struct err *e)
{
	uint8_t buf[BATCH * 8];

	for (size_t i = 0, k; i < n; i = k) {
		k = i + 1;
		if (!entries[i])
			continue;
		put_be64(buf, entries[i]);
		for (; k < n && entries[k]; k++)
			put_be64(buf + (k - i) * 8, entries[k]);
		if (fs_pwrite_full(q->file.fd, buf, (k - i) * 8, entry_place(q, first + i), e) < 0)
			return err_ctx(e, "L2 table");
	}
	return 0;
}

/* How many of len bytes at off are in its cluster. */
static size_t in_cluster(const struct qw *q, size_t len, uint64_t off)
{
	return (size_t)min_u64(len, q->w.cluster_size - (off & (q->w.cluster_size - 1)));
}

/* Gives clusters that get something other than zeros their places: hosts[i] is 0 for those that have none. */
static int place(struct qw *q, const uint8_t *buf, size_t len, uint64_t off, uint64_t *hosts, size_t n, struct err *e)
{
	uint64_t fresh[BATCH] = { 0 }, first = off >> q->cluster_bits;
	bool any = false;

	if (get_entries(q, first, hosts, n, e) < 0)
		return e->code;
	for (size_t i = 0, part; i < n; i++, buf += part, off += part, len -= part) {
		part = in_cluster(q, len, off);
		if (hosts[i] || bytes_all_zero(buf, part))
			continue;
		if (!any)	/* before the clusters: it lies in front of them */
			(void)entry_place(q, first);
		hosts[i] = fresh[i] = qw_alloc(q, q->w.cluster_size, q->w.cluster_size);
		any = true;
	}
	return any ? qw_set_entries(q, first, fresh, n, e) : 0;
}

/* Writes clusters to their places, neighbours together. */
static int put(struct qw *q, const uint8_t *buf, size_t len, uint64_t off, const uint64_t *hosts, size_t n, struct err *e)
{
	for (size_t i = 0; i < n;) {
		uint64_t in = off & (q->w.cluster_size - 1), host = hosts[i++] + in;
		bool placed = host != in;
		size_t run = in_cluster(q, len, off);

		while (i < n && (placed ? hosts[i] == host + run : !hosts[i])) {
			run += in_cluster(q, len - run, off + run);
			i++;
		}
		if (placed && fs_pwrite_full(q->file.fd, buf, run, host, e) < 0)
			return e->code;
		buf += run;
		off += run;
		len -= run;
	}
	return 0;
}

static int write_plain(struct qw *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	uint64_t hosts[BATCH], span;
	int rc;

	for (size_t n, part; len; buf += part, off += part, len -= part) {
		uint64_t first = off >> q->cluster_bits;

		/* up to the end of the L2 table, of the batch, of what is there */
		n = (size_t)min_u64(BATCH, ((uint64_t)1 << l2_bits(q)) - (first & (((uint64_t)1 << l2_bits(q)) - 1)));
		span = ((first + n) << q->cluster_bits) - off;
		part = (size_t)min_u64(len, span);
		n = (size_t)(((off + part - 1) >> q->cluster_bits) - first + 1);
		pthread_mutex_lock(&q->lock);
		rc = place(q, buf, part, off, hosts, n, e);
		pthread_mutex_unlock(&q->lock);
		if (rc < 0 || put(q, buf, part, off, hosts, n, e) < 0)
			return e->code;
	}
	return 0;
}

static int qw_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct qw *q = (struct qw *)w;
	int rc;

	if (!q->begun)
		return err_set(e, ERR_INTERNAL, "no state was begun");
	rc = q->pack ? qw_pack_write(q, buf, len, off, e) : write_plain(q, buf, len, off, e);
	return rc < 0 ? err_ctx(e, "%s", q->path) : 0;
}

/* ---- the end ---- */

static uint64_t l1_offset(const struct qw *q)
{
	return q->w.cluster_size;
}

static int write_l1(const struct qw *q, struct err *e)
{
	uint8_t buf[4096];

	for (uint64_t first = 0, n; first < q->l1_entries; first += n) {
		n = min_u64(sizeof(buf) / 8, q->l1_entries - first);
		for (uint64_t i = 0; i < n; i++)
			put_be64(buf + i * 8, q->l1[first + i]);
		if (!bytes_all_zero(buf, (size_t)n * 8) &&
		    fs_pwrite_full(q->file.fd, buf, (size_t)n * 8, l1_offset(q) + first * 8, e) < 0)
			return err_ctx(e, "L1 table");
	}
	return 0;
}

static int write_header(const struct qw *q, struct err *e)
{
	uint8_t h[QCOW_HEADER_BYTES] = { 0 };	/* no backing file, not encrypted */

	put_be32(h, QCOW_MAGIC);
	put_be32(h + 4, 1);
	put_be64(h + 24, q->size);
	h[32] = (uint8_t)q->cluster_bits;
	h[33] = (uint8_t)l2_bits(q);
	put_be64(h + 40, l1_offset(q));
	return fs_pwrite_full(q->file.fd, h, sizeof(h), 0, e);
}

static int end(struct qw *q, struct err *e)
{
	if (!q->begun)
		return err_set(e, ERR_INTERNAL, "finished before it was begun");
	if (q->pack && qw_pack_end(q, e) < 0)
		return e->code;
	/* whole sectors, behind compressed data too; and tables whose end nobody wrote to */
	if (FS_RETRY(ftruncate(q->file.fd, (off_t)round_up(q->end, SECTOR))) < 0)
		return err_sys(e, "size of the file");
	return write_l1(q, e) < 0 ? e->code : write_header(q, e);
}

static int qw_finish(struct image_writer *w, struct err *e)
{
	struct qw *q = (struct qw *)w;
	int rc = end(q, e);

	if (rc < 0)
		err_ctx(e, "%s", q->path);
	else	/* names the file itself */
		rc = fs_atomic_commit(&q->file, q->replace, e);
	qw_free(q);
	return rc;
}

static const struct writer_ops qcow_writer_ops = {
	.format = "qcow",
	.concurrent = true,
	.begin_state = qw_begin,
	.write = qw_write,
	.finish = qw_finish,
	.abort = qw_abort,
};

static int check_opts(const struct writer_opts *o, uint32_t cluster, struct err *e)
{
	struct target t;

	if (target_look(o->path, &t, e) < 0)
		return e->code;
	if (t.block_device)
		return err_set(e, ERR_INVALID, "%s is a block device: only a raw image can be written to it", o->path);
	if (o->max_size > o->size)
		return err_set(e, ERR_INVALID, "a qcow has one size");
	if (o->subformat || o->preallocation != PREALLOC_OFF)
		return err_set(e, ERR_INVALID, "a qcow %s", o->subformat ? "is of one kind" : "cannot be preallocated");
	if (!is_pow2(cluster) || cluster < 1u << QCOW_CLUSTER_BITS_MIN || cluster > 1u << QCOW_CLUSTER_BITS_MAX)
		return err_set(e, ERR_INVALID, "clusters of %" PRIu32 " bytes: a qcow has 512 to 65536", cluster);
	if (!o->size)
		return err_set(e, ERR_INVALID, "a qcow cannot hold a disk without bytes");
	if (div_up(o->size, (uint64_t)cluster * (cluster / 8)) > L1_MAX_ENTRIES) {
		(void)err_set(e, ERR_INVALID, "a disk of %" PRIu64 " bytes is too large for a qcow with clusters of %" PRIu32
			      " bytes", o->size, cluster);
		return err_hint(e, "--cluster-size 64K takes up to 2 PiB");
	}
	return 0;
}

static int open_parts(struct qw *q, const struct writer_opts *o, struct err *e)
{
	q->path = strdup(o->path);
	q->l1 = calloc((size_t)q->l1_entries, sizeof(*q->l1));
	if (!q->path || !q->l1)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	if (o->compress && qw_pack_new(q, o, &q->pack, e) < 0)
		return e->code;
	return fs_atomic_open(&q->file, o->path, o->replace, o->mode ? o->mode : DEFAULT_MODE, e);
}

int qcow_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	uint32_t cluster = o->cluster_size ? o->cluster_size : CLUSTER_DEFAULT;
	struct qw *q;

	if (check_opts(o, cluster, e) < 0)
		return e->code;
	q = calloc(1, sizeof(*q));
	if (!q)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	q->w = (struct image_writer){
		.ops = &qcow_writer_ops, .cluster_size = cluster, .size = o->size, .in_order = o->id_seed || o->compress
	};
	q->file.fd = -1;
	q->replace = o->replace;
	q->cluster_bits = (unsigned)__builtin_ctz(cluster);
	q->size = round_up(o->size, SECTOR);
	q->l1_entries = div_up(q->size, (uint64_t)cluster << l2_bits(q));
	q->end = l1_offset(q) + q->l1_entries * 8;
	pthread_mutex_init(&q->lock, NULL);
	if (open_parts(q, o, e) < 0) {
		qw_free(q);
		return e->code;
	}
	*ret = &q->w;
	return 0;
}
