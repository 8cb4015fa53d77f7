/*
 * qcow2_write_pack.c - compressed clusters: parts are put together, whole clusters go through the worker pool, and come
 * back in the order they went in, so the file does not depend on the number of threads.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/qcow2/qcow2_write_internal.h"

#define PARTS_MAX 256		/* looked through one by one */

/* A whole guest cluster on its way through the pool. */
struct item {
	uint64_t cluster;
	size_t size;		/* cluster_size */
	size_t packed;		/* bytes at out; 0: it did not get smaller */
	uint8_t *in, *out;	/* behind the struct */
};

/* A guest cluster of which some bytes have come. */
struct part {
	uint64_t cluster;
	uint64_t have;		/* bytes; each comes once */
	uint64_t age;
	uint8_t *bytes;		/* NULL: the slot is free */
};

struct q2w_pack {
	pthread_mutex_t lock;	/* guards all of it; held while the pool works and results are written */
	struct workers *pool;
	size_t in_pool;
	struct part *parts;
	size_t nparts;
	uint64_t age;
};

static int pack_item(void *codec, void *item, struct err *e)
{
	struct item *it = item;

	return q2w_compress(codec, it->in, it->size, it->out, &it->packed, e);
}

/* ---- the pool ---- */

static int place_packed(struct q2w *q, const struct item *it, uint64_t *ret_host, struct err *e)
{
	struct q2w_l2 l2;

	if (q2w_l2_get(q, q2w_now(q), it->cluster, &l2, e) < 0)
		return e->code;
	if (!q2w_l2_none(&l2))
		return err_set(e, ERR_INTERNAL, "guest cluster %" PRIu64 " is written twice", it->cluster);
	if (q2w_alloc_bytes(q, it->packed, ret_host, e) < 0)
		return e->code;
	l2.entry = q2w_compressed_entry(q, *ret_host, it->packed);
	return q2w_l2_set(q, it->cluster, &l2, e);
}

static int write_item(struct q2w *q, const struct item *it, struct err *e)
{
	uint64_t host;
	int rc;

	if (!it->packed)
		return q2w_write_plain(q, it->in, it->size, it->cluster << q->cluster_bits, e);
	pthread_mutex_lock(&q->lock);
	rc = place_packed(q, it, &host, e);
	pthread_mutex_unlock(&q->lock);
	return rc < 0 ? rc : fs_pwrite_full(q->file.fd, it->out, it->packed, host, e);
}

/* Takes the oldest item out of the pool and writes it. */
static int take_one(struct q2w *q, struct err *e)
{
	struct q2w_pack *p = q->pack;
	void *item;
	int rc = workers_next(p->pool, &item, e);

	if (rc <= 0)
		return rc < 0 ? rc : err_set(e, ERR_INTERNAL, "%zu clusters got lost", p->in_pool);
	p->in_pool--;
	rc = write_item(q, item, e);
	free(item);
	return rc;
}

/* A whole cluster, or the disk's last one: len bytes, zeros behind them. */
static int submit(struct q2w *q, const uint8_t *buf, size_t len, uint64_t cluster, struct err *e)
{
	struct q2w_pack *p = q->pack;
	size_t size = q->w.cluster_size;
	struct item *it;

	if (bytes_all_zero(buf, len))
		return q->backing ? q2w_set_zero(q, cluster << q->cluster_bits, size, e) : 0;
	while (workers_full(p->pool))
		if (take_one(q, e) < 0)
			return e->code;
	it = malloc(sizeof(*it) + 2 * size);
	if (!it)
		return err_set(e, ERR_NOMEM, "cluster to be compressed");
	*it = (struct item){ .cluster = cluster, .size = size, .in = (uint8_t *)(it + 1), .out = (uint8_t *)(it + 1) + size };
	memcpy(it->in, buf, len);
	memset(it->in + len, 0, size - len);
	if (workers_submit(p->pool, it, sizeof(*it) + 2 * size, e) < 0)
		return e->code;
	p->in_pool++;
	return 0;
}

/* ---- parts ---- */

static struct part *find_part(struct q2w_pack *p, uint64_t cluster)
{
	for (size_t i = 0; i < p->nparts; i++)
		if (p->parts[i].bytes && p->parts[i].cluster == cluster)
			return &p->parts[i];
	return NULL;
}

static void drop_part(struct part *pt)
{
	free(pt->bytes);
	*pt = (struct part){ 0 };
}

/* A free slot; when there is none, the oldest cluster goes into the file uncompressed, where later parts can be
 * added. */
static int part_slot(struct q2w *q, struct part **ret, struct err *e)
{
	struct q2w_pack *p = q->pack;
	struct part *best = &p->parts[0];

	for (size_t i = 0; i < p->nparts && best->bytes; i++)
		if (!p->parts[i].bytes || p->parts[i].age < best->age)
			best = &p->parts[i];
	if (best->bytes) {
		if (q2w_write_plain(q, best->bytes, q->w.cluster_size, best->cluster << q->cluster_bits, e) < 0)
			return e->code;
		drop_part(best);
	}
	*ret = best;
	return 0;
}

static int has_place(struct q2w *q, uint64_t cluster, bool *ret, struct err *e)
{
	struct q2w_l2 l2;
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = q2w_l2_get(q, q2w_now(q), cluster, &l2, e);
	pthread_mutex_unlock(&q->lock);
	if (rc == 0)
		*ret = !q2w_l2_none(&l2);
	return rc;
}

/* Some bytes of one cluster that holds `want` bytes in all. */
static int add_part(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, uint64_t want, struct err *e)
{
	uint64_t cluster = off >> q->cluster_bits;
	struct part *pt = find_part(q->pack, cluster);
	bool placed = false;
	int rc = 0;

	if (!pt) {
		if (has_place(q, cluster, &placed, e) < 0)
			return e->code;
		if (placed)
			return q2w_write_plain(q, buf, len, off, e);
		if (part_slot(q, &pt, e) < 0)
			return e->code;
		pt->bytes = calloc(1, q->w.cluster_size);
		if (!pt->bytes)
			return err_set(e, ERR_NOMEM, "part of a cluster");
		pt->cluster = cluster;
		pt->age = q->pack->age++;
	}
	memcpy(pt->bytes + off % q->w.cluster_size, buf, len);
	pt->have += len;
	if (pt->have < want)
		return 0;
	rc = submit(q, pt->bytes, q->w.cluster_size, cluster, e);
	drop_part(pt);
	return rc;
}

static int write_pieces(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	uint64_t size = q2w_cluster_size(q), region = q2w_region_end(q, off);

	for (size_t n; len > 0; buf += n, len -= n, off += n) {
		uint64_t want = min_u64(size, region - round_down(off, size));
		int rc;

		n = (size_t)min_u64(len, size - off % size);
		if (n == want)
			rc = submit(q, buf, n, off >> q->cluster_bits, e);
		else
			rc = add_part(q, buf, n, off, want, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int q2w_pack_write(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	int rc;

	pthread_mutex_lock(&q->pack->lock);
	rc = write_pieces(q, buf, len, off, e);
	pthread_mutex_unlock(&q->pack->lock);
	return rc;
}

static int drain(struct q2w *q, struct err *e)
{
	struct q2w_pack *p = q->pack;

	for (size_t i = 0; i < p->nparts; i++) {
		struct part *pt = &p->parts[i];

		if (pt->bytes && submit(q, pt->bytes, q->w.cluster_size, pt->cluster, e) < 0)
			return e->code;
		drop_part(pt);
	}
	while (p->in_pool)
		if (take_one(q, e) < 0)
			return e->code;
	return 0;
}

int q2w_pack_drain(struct q2w *q, struct err *e)
{
	int rc;

	pthread_mutex_lock(&q->pack->lock);
	rc = drain(q, e);
	pthread_mutex_unlock(&q->pack->lock);
	return rc;
}

void q2w_pack_free(struct q2w_pack *p)
{
	if (!p)
		return;
	workers_free(p->pool);
	for (size_t i = 0; p->parts && i < p->nparts; i++)
		drop_part(&p->parts[i]);
	free(p->parts);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int q2w_pack_new(struct q2w *q, unsigned threads, size_t max_bytes, struct q2w_pack **ret, struct err *e)
{
	struct workers_opts o = {
		.name = "qcow2-compress",
		.threads = threads > 1 ? threads : 0,
		.max_bytes = (size_t)max_u64(max_bytes / 2, (uint64_t)Q2W_MIN_CLUSTERS * q->w.cluster_size),
		.run = pack_item,
		.local_new = q2w_codec_new,
		.local_free = q2w_codec_free,
		.opaque = q,
		.item_free = free,
	};
	struct q2w_pack *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(e, ERR_NOMEM, "compression");
	pthread_mutex_init(&p->lock, NULL);
	p->nparts = (size_t)min_u64(max_u64(max_bytes / 2 / q->w.cluster_size, Q2W_MIN_CLUSTERS), PARTS_MAX);
	p->parts = calloc(p->nparts, sizeof(*p->parts));
	if (!p->parts || workers_new(&o, &p->pool, e) < 0) {
		if (!p->parts)
			err_set(e, ERR_NOMEM, "compression");
		q2w_pack_free(p);
		return e->code;
	}
	*ret = p;
	return 0;
}
