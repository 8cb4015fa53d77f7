/*
 * qcow_write_pack.c - compressed clusters: some neighbours at a time go through the worker pool and come back in the
 * order they went in, so the file doesn't depend on the number of threads.  Writes come in the disk's order.
 */
#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/workers.h"
#include "formats/qcow/qcow_write_internal.h"
#include "formats/qcow_deflate.h"

#define CLUSTERS_MAX 64u	/* of an item: as many as the smallest L2 table has entries */
#define ITEM_BYTES ((uint32_t)512 << 10)
#define ITEMS_MIN 8		/* in the pool, at least */

/* Neighbouring clusters on their way through the pool; they begin at a multiple of their count. */
struct item {
	uint64_t first;			/* number of the first cluster */
	uint32_t n, cluster;		/* clusters; bytes of each */
	uint32_t packed[CLUSTERS_MAX];	/* bytes at out, one behind the other; 0: zeros; cluster: as it is */
	uint8_t *in, *out;		/* behind the struct */
};

struct qw_pack {
	struct workers *pool;
	size_t in_pool;
	uint32_t n;		/* clusters of an item */
	struct item *now;	/* what is being put together; NULL = none */
	uint64_t end;		/* of the last write, guest bytes */
};

/* ---- the codec ---- */

/* One cluster; its bytes at out, *ret_len of them. */
static int pack_cluster(z_stream *z, const uint8_t *in, uint32_t size, uint8_t *out, uint32_t *ret_len, struct err *e)
{
	int rc;

	if (bytes_all_zero(in, size)) {
		*ret_len = 0;
		return 0;
	}
	if (deflateReset(z) != Z_OK)
		return err_set(e, ERR_INTERNAL, "compression cannot be started again");
	z->next_in = (uint8_t *)(uintptr_t)in;
	z->avail_in = size;
	z->next_out = out;
	z->avail_out = size - 1;	/* an entry has no room for the length of a whole cluster */
	rc = deflate(z, Z_FINISH);
	if (rc != Z_STREAM_END && rc != Z_OK && rc != Z_BUF_ERROR)
		return err_set(e, ERR_INTERNAL, "compression failed with %d", rc);
	*ret_len = rc == Z_STREAM_END ? size - 1 - z->avail_out : size;
	if (rc != Z_STREAM_END)
		memcpy(out, in, size);
	return 0;
}

static int pack_item(void *local, void *item, struct err *e)
{
	struct item *it = item;
	uint8_t *out = it->out;

	for (uint32_t i = 0; i < it->n; i++) {
		if (pack_cluster(local, it->in + (size_t)i * it->cluster, it->cluster, out, &it->packed[i], e) < 0)
			return e->code;
		out += it->packed[i];
	}
	return 0;
}

/* ---- the pool ---- */

/* Gives the clusters their places and writes them: compressed ones lie together, byte behind byte. */
static int write_item(struct qw *q, const struct item *it, struct err *e)
{
	uint64_t entries[CLUSTERS_MAX] = { 0 }, run_at = 0;
	const uint8_t *run = it->out, *p = it->out;
	uint64_t host;

	for (uint32_t i = 0; i < it->n; p += it->packed[i++]) {
		uint32_t len = it->packed[i];

		if (!len)
			continue;
		host = qw_alloc(q, len, len == it->cluster ? it->cluster : 1);
		entries[i] = len == it->cluster
				     ? host
				     : QCOW_COMPRESSED | (uint64_t)len << (63 - q->cluster_bits) | host;
		if (host == run_at + (uint64_t)(p - run) && p != run)
			continue;
		if (p != run && fs_pwrite_full(q->file.fd, run, (size_t)(p - run), run_at, e) < 0)
			return e->code;
		run = p;
		run_at = host;
	}
	if (p != run && fs_pwrite_full(q->file.fd, run, (size_t)(p - run), run_at, e) < 0)
		return e->code;
	return qw_set_entries(q, it->first, entries, it->n, e);
}

static int take_one(struct qw *q, struct err *e)
{
	struct qw_pack *p = q->pack;
	void *item;
	int rc = workers_next(p->pool, &item, e);

	if (rc <= 0)
		return rc < 0 ? rc : err_set(e, ERR_INTERNAL, "%zu items got lost", p->in_pool);
	p->in_pool--;
	rc = write_item(q, item, e);
	free(item);
	return rc;
}

static size_t item_bytes(const struct qw *q, const struct qw_pack *p)
{
	return sizeof(struct item) + 2 * (size_t)p->n * q->w.cluster_size;
}

static int submit(struct qw *q, struct err *e)
{
	struct qw_pack *p = q->pack;
	struct item *it = STEAL(p->now);

	if (!it)
		return 0;
	while (workers_full(p->pool)) {
		if (take_one(q, e) < 0) {
			free(it);
			return e->code;
		}
	}
	if (workers_submit(p->pool, it, item_bytes(q, p), e) < 0)
		return e->code;
	p->in_pool++;
	return 0;
}

static int begin_item(struct qw *q, uint64_t first, struct err *e)
{
	struct qw_pack *p = q->pack;
	size_t bytes = (size_t)p->n * q->w.cluster_size;
	struct item *it = malloc(item_bytes(q, p));

	if (!it)
		return err_set(e, ERR_NOMEM, "clusters to be compressed");
	*it = (struct item){ .first = first, .n = p->n, .cluster = q->w.cluster_size, .in = (uint8_t *)(it + 1) };
	it->out = it->in + bytes;
	memset(it->in, 0, bytes);
	p->now = it;
	return 0;
}

int qw_pack_write(struct qw *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	struct qw_pack *p = q->pack;
	uint64_t bytes = (uint64_t)p->n * q->w.cluster_size;

	if (off < p->end)
		return err_set(e, ERR_INTERNAL, "a write at %" PRIu64 " comes after one that ended at %" PRIu64, off,
			       p->end);
	p->end = off + len;
	for (size_t n; len; buf += n, len -= n, off += n) {
		uint64_t first = round_down(off, bytes) >> q->cluster_bits;

		n = (size_t)min_u64(len, bytes - (off & (bytes - 1)));
		if (p->now && p->now->first != first && submit(q, e) < 0)
			return e->code;
		if (!p->now && bytes_all_zero(buf, n))
			continue;
		if (!p->now && begin_item(q, first, e) < 0)
			return e->code;
		memcpy(p->now->in + (off & (bytes - 1)), buf, n);
	}
	return 0;
}

int qw_pack_end(struct qw *q, struct err *e)
{
	struct qw_pack *p = q->pack;

	if (submit(q, e) < 0)
		return e->code;
	workers_close(p->pool);
	while (p->in_pool)
		if (take_one(q, e) < 0)
			return e->code;
	return 0;
}

int qw_pack_new(struct qw *q, const struct writer_opts *o, struct qw_pack **ret, struct err *e)
{
	struct workers_opts wo = {
		.name = "qcow-deflate", .threads = o->threads > 1 ? o->threads : 0,
		.run = pack_item, .local_new = qcow_deflate_new, .local_free = qcow_deflate_free, .item_free = free,
	};
	struct qw_pack *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(e, ERR_NOMEM, "compression");
	p->n = (uint32_t)min_u64(CLUSTERS_MAX, ITEM_BYTES / q->w.cluster_size);
	wo.max_bytes = (size_t)max_u64(o->max_bytes ? o->max_bytes / 2 : 32 * MIB, ITEMS_MIN * item_bytes(q, p));
	if (workers_new(&wo, &p->pool, e) < 0) {
		qw_pack_free(p);
		return e->code;
	}
	*ret = p;
	return 0;
}

void qw_pack_free(struct qw_pack *p)
{
	if (!p)
		return;
	workers_free(p->pool);
	free(p->now);
	free(p);
}
