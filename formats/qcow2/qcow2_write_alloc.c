/* qcow2_write_alloc.c - host clusters, one after the other, and how many references each has. */
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/qcow2/qcow2_write_internal.h"

/* Clusters that one refcount block describes: 16 bits each. */
static uint64_t per_block(const struct q2w *q)
{
	return q2w_cluster_size(q) / 2;
}

static int refcount_at(struct q2w *q, uint64_t cluster, enum q2w_use use, uint8_t **ret, struct err *e)
{
	uint64_t b = cluster / per_block(q);
	uint8_t *p;

	if (b >= q->blocks.n)
		return err_set(e, ERR_INTERNAL, "cluster %" PRIu64 " was never allocated", cluster);
	p = q2w_meta_get(q->meta, q->blocks.p[b], use, e);
	if (!p)
		return e->code;
	*ret = p + cluster % per_block(q) * 2;
	return 0;
}

int q2w_refcount(struct q2w *q, uint64_t cluster, uint32_t *ret, struct err *e)
{
	uint8_t *p;

	if (refcount_at(q, cluster, Q2W_READ, &p, e) < 0)
		return e->code;
	*ret = get_be16(p);
	return 0;
}

int q2w_ref(struct q2w *q, uint64_t cluster, struct err *e)
{
	uint8_t *p;

	if (refcount_at(q, cluster, Q2W_CHANGE, &p, e) < 0)
		return e->code;
	if (get_be16(p) == Q2W_REFCOUNT_MAX)
		return err_set(e, ERR_INTERNAL, "cluster %" PRIu64 " has too many references", cluster);
	put_be16(p, (uint16_t)(get_be16(p) + 1));
	return 0;
}

static int check_room(const struct q2w *q, uint64_t n, struct err *e)
{
	uint64_t end = (q->next + n) << q->cluster_bits;

	if (n <= Q2W_FILE_MAX_BYTES >> q->cluster_bits && end <= Q2W_FILE_MAX_BYTES &&
	    (q->next + n) / (per_block(q) - 1) + 2 <= Q2W_REFTABLE_MAX_BYTES / 8)
		return 0;
	err_set(e, ERR_INVALID, "a qcow2 file with clusters of %" PRIu64 " bytes cannot grow beyond %" PRIu64 " bytes",
		q2w_cluster_size(q), q->next << q->cluster_bits);
	return err_hint(e, "use a larger cluster size");
}

/*
 * Clusters come one behind the other, so that their space can be reserved ahead of them in large pieces: as much again
 * as there is, within bounds.  What is left over goes when the file gets its size.  What isn't to be had ahead may be
 * there for the clusters themselves: writes tell.
 */
static void reserve(struct q2w *q)
{
	uint64_t end = q->next << q->cluster_bits, len = min_u64(end, Q2W_RESERVE_MAX_BYTES);

	if (!q->reserve_ahead || end <= max_u64(q->reserved, Q2W_RESERVE_MIN_BYTES))
		return;
	if (fs_reserve(q->file.fd, q->reserved, end + len - q->reserved) < 0)
		q->reserve_ahead = false;
	else
		q->reserved = end + len;
}

int q2w_alloc_check(struct q2w *q, struct err *e)
{
	uint64_t end = q->next << q->cluster_bits;
	char size[HUMAN_BYTES_MAX];

	if (!q->reserves || end <= max_u64(q->reserved, Q2W_RESERVE_MIN_BYTES))
		return 0;
	if (fs_reserve(q->file.fd, q->reserved, end - q->reserved) == 0) {
		q->reserved = end;
		return 0;
	}
	if (errno != ENOSPC && errno != EDQUOT)
		return 0;	/* says nothing about writing */
	return err_sys(e, "reserving %s", human_bytes(end - q->reserved, size));
}

int q2w_alloc(struct q2w *q, uint64_t n, uint64_t *ret, struct err *e)
{
	uint64_t first = q->next;

	if (check_room(q, n, e) < 0)
		return e->code;
	q->next += n;
	/* the blocks that describe the new clusters come behind them, and may need a further one themselves */
	while (q->blocks.n * per_block(q) < q->next) {
		uint64_t *slot = VEC_PUSH(&q->blocks, e);

		if (!slot)
			return e->code;
		*slot = q->next++ << q->cluster_bits;
		if (!q2w_meta_get(q->meta, *slot, Q2W_FRESH, e))
			return e->code;
	}
	for (uint64_t c = first; c < q->next; c++)
		if (q2w_ref(q, c, e) < 0)
			return e->code;
	reserve(q);
	*ret = first;
	return 0;
}

int q2w_alloc_bytes(struct q2w *q, size_t len, uint64_t *ret, struct err *e)
{
	uint64_t size = q2w_cluster_size(q), at = q->byte_next, cluster = at >> q->cluster_bits;
	uint64_t room = at ? size - at % size : 0, fresh;
	uint32_t refs = Q2W_REFCOUNT_MAX;

	if (at && q2w_refcount(q, cluster, &refs, e) < 0)
		return e->code;
	if (refs == Q2W_REFCOUNT_MAX || (len > room && q->next != cluster + 1)) {
		/* no open cluster, or no neighbour to run over into */
		if (q2w_alloc(q, 1, &fresh, e) < 0)
			return e->code;
		at = fresh << q->cluster_bits;
	} else {
		if (len > room && q2w_alloc(q, 1, &fresh, e) < 0)
			return e->code;
		if (q2w_ref(q, cluster, e) < 0)
			return e->code;
	}
	q->byte_next = (at + len) % size ? at + len : 0;
	*ret = at;
	return 0;
}

/*
 * The table must hold the blocks that describe the table itself.  Every step of the search adds what the last one
 * lacked; a table cluster holds cluster_size / 8 blocks and each describes cluster_size / 2 clusters, so it ends at
 * once or almost.
 */
static uint64_t reftable_clusters(const struct q2w *q)
{
	uint64_t per_table = q2w_cluster_size(q) / 8, n = 1;

	for (;;) {
		uint64_t blocks = q->blocks.n, next = q->next + n;

		while (blocks * per_block(q) < next) {
			blocks++;
			next++;
		}
		if (blocks <= n * per_table)
			return n;
		n = div_up(blocks, per_table);
	}
}

int q2w_write_reftable(struct q2w *q, uint64_t *ret_off, uint64_t *ret_clusters, struct err *e)
{
	uint64_t n = reftable_clusters(q), per_table = q2w_cluster_size(q) / 8, first;

	if (q2w_alloc(q, n, &first, e) < 0)
		return e->code;
	for (uint64_t i = 0; i < n; i++) {
		uint8_t *p = q2w_meta_get(q->meta, (first + i) << q->cluster_bits, Q2W_FRESH, e);

		if (!p)
			return e->code;
		for (uint64_t k = 0; k < per_table && i * per_table + k < q->blocks.n; k++)
			put_be64(p + k * 8, q->blocks.p[i * per_table + k]);
	}
	*ret_off = first << q->cluster_bits;
	*ret_clusters = n;
	return 0;
}
