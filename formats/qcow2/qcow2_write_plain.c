/*
 * qcow2_write_plain.c - uncompressed clusters, and zeros.
 *
 * Guest bytes are taken apart in pieces of whole units (clusters, or subclusters with extended L2 entries) that hold
 * something, whole units of zeros, and parts of units.  Zeros get no place: what nobody writes reads as zeros where
 * there is no backing file; over one they are told, by units.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/qcow2/qcow2_write_internal.h"

/* The subclusters that guest bytes of one cluster touch, as bits of a bitmap's lower half; 0 where there are none. */
static uint32_t sub_mask(const struct q2w *q, uint64_t off, uint64_t len)
{
	uint64_t in = off % q2w_cluster_size(q);

	if (!q->extended || !len)
		return 0;
	return (uint32_t)(((uint64_t)2 << ((in + len - 1) >> q->unit_bits)) - ((uint64_t)1 << (in >> q->unit_bits)));
}

/* The host offset of guest cluster c, allocated if need be, with the subclusters in mask in the file. */
static int place_locked(struct q2w *q, uint64_t c, uint32_t mask, uint64_t *ret_host, bool *ret_fresh, struct err *e)
{
	struct q2w_l2 l2, old;
	uint64_t host;
	uint32_t refs;

	if (q2w_l2_get(q, q2w_now(q), c, &l2, e) < 0)
		return e->code;
	old = l2;
	if (l2.entry == Q2W_ZERO)
		l2.entry = 0;
	if (ret_fresh)
		*ret_fresh = q->extended ? !(l2.bitmap & mask) : !l2.entry;
	if (!l2.entry) {
		if (q2w_alloc(q, 1, &host, e) < 0)
			return e->code;
		l2.entry = host << q->cluster_bits | (q->active ? Q2W_COPIED : 0);
	} else if (l2.entry & Q2W_COMPRESSED) {
		return err_set(e, ERR_INTERNAL, "guest cluster %" PRIu64 " is written twice", c);
	} else {
		if (q2w_refcount(q, (l2.entry & Q2W_OFFSET_MASK) >> q->cluster_bits, &refs, e) < 0)
			return e->code;
		if (refs != 1)
			return err_set(e, ERR_INTERNAL, "guest cluster %" PRIu64 " is shared and written", c);
	}
	l2.bitmap = (l2.bitmap | mask) & ~((uint64_t)mask << 32);
	*ret_host = l2.entry & Q2W_OFFSET_MASK;
	return l2.entry == old.entry && l2.bitmap == old.bitmap ? 0 : q2w_l2_set(q, c, &l2, e);
}

/* Guest clusters that are going to be written get their places in the order of the guest.  Smaller ones may turn out to
 * be zero, and get none then. */
int q2w_expect(struct image_writer *w, uint64_t off, uint64_t len, struct err *e)
{
	struct q2w *q = (struct q2w *)w;
	uint64_t end = div_up(off + len, q2w_cluster_size(q)), host;
	int rc = 0;

	if (q2w_check_begun(q, e) < 0)
		return e->code;
	/* nor do those that are to be filled when they get theirs */
	if (q->pack || q->crypt || q->w.cluster_size < Q2W_CLUSTER_DEFAULT)
		return 0;
	pthread_mutex_lock(&q->lock);
	for (uint64_t c = off >> q->cluster_bits; rc == 0 && c < end; c++)
		rc = place_locked(q, c, 0, &host, NULL, e);
	if (rc == 0)
		rc = q2w_alloc_check(q, e);
	pthread_mutex_unlock(&q->lock);
	return rc < 0 ? err_ctx(e, "%s", q->path) : 0;
}

int q2w_place(struct q2w *q, uint64_t off, uint64_t len, uint64_t *ret_host, bool *ret_fresh, struct err *e)
{
	uint64_t host = 0;
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = place_locked(q, off >> q->cluster_bits, sub_mask(q, off, len), &host, ret_fresh, e);
	pthread_mutex_unlock(&q->lock);
	if (rc == 0)
		*ret_host = host + off % q2w_cluster_size(q);
	return rc;
}

/* What has a place and isn't written is zero already, but in subclusters: those are the backing file's. */
static int set_zero_locked(struct q2w *q, uint64_t c, uint32_t mask, struct err *e)
{
	struct q2w_l2 l2;
	uint64_t zero;

	if (q2w_l2_get(q, q2w_now(q), c, &l2, e) < 0)
		return e->code;
	if (q->extended) {
		zero = (uint64_t)(mask & ~(uint32_t)l2.bitmap) << 32;
		if ((l2.bitmap | zero) == l2.bitmap)
			return 0;
		l2.bitmap |= zero;
	} else if (l2.entry) {
		return 0;
	} else {
		l2.entry = Q2W_ZERO;
	}
	return q2w_l2_set(q, c, &l2, e);
}

int q2w_set_zero(struct q2w *q, uint64_t off, uint64_t len, struct err *e)
{
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = set_zero_locked(q, off >> q->cluster_bits, sub_mask(q, off, len), e);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* ---- pieces ---- */

/* Whether n guest bytes at off are all that their block of a size holds of the disk, or of the machine memory: nothing,
 * behind their end. */
static bool is_whole(const struct q2w *q, uint64_t size, uint64_t off, uint64_t n)
{
	uint64_t end = q2w_region_end(q, off);

	return off % size == 0 && n >= min_u64(size, end > off ? end - off : 0);
}

struct piece {
	size_t len;
	bool whole, zero;	/* units; all of it */
};

static struct piece piece_of_unit(const struct q2w *q, const uint8_t *buf, size_t len, uint64_t off)
{
	uint64_t unit = q2w_unit_size(q);
	size_t n = (size_t)min_u64(len, unit - off % unit);

	return (struct piece){ n, is_whole(q, unit, off, n), bytes_all_zero(buf, n) };
}

/* The first piece: units of one kind, in one cluster; a part of a unit, or a short one at the disk's end, alone. */
static struct piece next_piece(const struct q2w *q, const uint8_t *buf, size_t len, uint64_t off)
{
	uint64_t unit = q2w_unit_size(q), size = q2w_cluster_size(q);
	size_t room = (size_t)min_u64(len, size - off % size);
	struct piece first = piece_of_unit(q, buf, room, off), next;

	while (first.whole && first.len % unit == 0 && first.len < room) {
		next = piece_of_unit(q, buf + first.len, room - first.len, off + first.len);
		if (!next.whole || next.zero != first.zero || next.len < unit)
			break;
		first.len += next.len;
	}
	return first;
}

/* Bytes that lie together in memory and in the file, waiting to be written in one go. */
struct run {
	const uint8_t *buf;
	size_t len;
	uint64_t host;
};

static int run_flush(struct q2w *q, struct run *r, struct err *e)
{
	size_t len = r->len;

	r->len = 0;
	if (!len)
		return 0;
	return q->crypt ? q2w_crypt_write(q, r->buf, len, r->host, e)
			: fs_pwrite_full(q->file.fd, r->buf, len, r->host, e);
}

static int run_add(struct q2w *q, struct run *r, const uint8_t *buf, size_t len, uint64_t host, struct err *e)
{
	if (r->buf + r->len != buf || r->host + r->len != host) {
		if (run_flush(q, r, e) < 0)
			return e->code;
		*r = (struct run){ .buf = buf, .host = host };
	}
	r->len += len;
	return 0;
}

int q2w_write_plain(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	struct run run = { 0 };
	uint64_t host = 0;
	struct piece p;

	for (; len > 0; buf += p.len, len -= p.len, off += p.len) {
		p = next_piece(q, buf, len, off);
		/* what nobody writes reads as zeros where there is no backing file, and a new cluster is a hole */
		if (p.zero && (!q->backing || p.whole)) {
			if (q->backing && q2w_set_zero(q, off, p.len, e) < 0)
				return e->code;
			continue;
		}
		if (q->crypt && p.len % q2w_unit_size(q)) {
			if (q2w_crypt_write_part(q, buf, p.len, off, e) < 0)
				return e->code;
			continue;
		}
		if (q2w_place(q, off, p.len, &host, NULL, e) < 0 || run_add(q, &run, buf, p.len, host, e) < 0)
			return e->code;
	}
	return run_flush(q, &run, e);
}

/* ---- zeros ---- */

/* Of a unit that is zero in part only, that part is written: the rest of it comes, or came, too.  Compressed clusters
 * are put together of all their parts. */
static int zero_range(struct q2w *q, uint64_t off, uint64_t len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *zeros = NULL;
	uint64_t size = q->pack ? q2w_cluster_size(q) : q2w_unit_size(q);
	int rc = 0;

	for (uint64_t n; rc == 0 && len > 0; len -= n, off += n) {
		n = min_u64(len, size - off % size);
		if (is_whole(q, size, off, n)) {
			rc = q2w_set_zero(q, off, n, e);
			continue;
		}
		if (!zeros)
			zeros = calloc(1, (size_t)size);
		if (!zeros)
			return err_set(e, ERR_NOMEM, "zeros");
		rc = q2w_write_any(q, zeros, (size_t)n, off, e);
	}
	return rc;
}

int q2w_zero(struct image_writer *w, uint64_t off, uint64_t len, struct err *e)
{
	struct q2w *q = (struct q2w *)w;

	if (!q->backing)
		return 0;
	if (q2w_check_begun(q, e) < 0 || zero_range(q, off, len, e) < 0)
		return err_ctx(e, "%s", q->path);
	return 0;
}
