/*
 * qcow2_write_meta.c - a bounded write-back cache of metadata clusters.
 *
 * Blocks are found by a hash of their offset and leave by a clock: the hand passes over blocks used since its last
 * round.
 */
#include <string.h>

#include "base/num.h"
#include "formats/qcow2/qcow2_write_internal.h"

#define NONE UINT32_MAX

struct block {
	uint64_t off;
	uint8_t *bytes;		/* NULL: the slot has never been used */
	uint32_t chain;		/* next slot with the same hash */
	bool dirty, recent;
};

struct q2w_meta {
	int fd;			/* the writer's */
	uint32_t block_size;
	uint32_t n, used, hand;
	uint32_t mask;		/* of buckets */
	uint32_t *buckets;
	struct block *blocks;
};

void q2w_meta_free(struct q2w_meta *m)
{
	if (!m)
		return;
	for (uint32_t i = 0; m->blocks && i < m->used; i++)
		free(m->blocks[i].bytes);
	free(m->blocks);
	free(m->buckets);
	free(m);
}

int q2w_meta_new(int fd, uint32_t block_size, size_t max_bytes, struct q2w_meta **ret, struct err *e)
{
	struct q2w_meta *m = calloc(1, sizeof(*m));
	size_t buckets = 1;

	if (!m)
		return err_set(e, ERR_NOMEM, "cache of metadata");
	m->fd = fd;
	m->block_size = block_size;
	m->n = (uint32_t)min_u64(max_u64(max_bytes / block_size, Q2W_MIN_CLUSTERS), 1U << 20);
	while (buckets < m->n)
		buckets *= 2;
	m->mask = (uint32_t)buckets - 1;
	m->buckets = malloc(buckets * sizeof(*m->buckets));
	m->blocks = calloc(m->n, sizeof(*m->blocks));
	if (!m->buckets || !m->blocks) {
		q2w_meta_free(m);
		return err_set(e, ERR_NOMEM, "cache of metadata");
	}
	memset(m->buckets, 0xff, buckets * sizeof(*m->buckets));
	*ret = m;
	return 0;
}

static uint32_t *bucket(struct q2w_meta *m, uint64_t off)
{
	return &m->buckets[(uint32_t)((off / m->block_size * UINT64_C(0x9e3779b97f4a7c15)) >> 40) & m->mask];
}

static int write_back(struct q2w_meta *m, struct block *b, struct err *e)
{
	if (b->dirty && fs_pwrite_full(m->fd, b->bytes, m->block_size, b->off, e) < 0)
		return err_ctx(e, "metadata");
	b->dirty = false;
	return 0;
}

static void unlink_block(struct q2w_meta *m, uint32_t i)
{
	uint32_t *at = bucket(m, m->blocks[i].off);

	while (*at != i)
		at = &m->blocks[*at].chain;
	*at = m->blocks[i].chain;
}

/* A slot that is in no chain: a new one, or what the hand finds. */
static int free_slot(struct q2w_meta *m, uint32_t *ret, struct err *e)
{
	struct block *b;

	if (m->used < m->n) {
		b = &m->blocks[m->used];
		b->bytes = malloc(m->block_size);
		if (!b->bytes)
			return err_set(e, ERR_NOMEM, "block of metadata");
		*ret = m->used++;
		return 0;
	}
	for (;; m->blocks[m->hand].recent = false, m->hand = (m->hand + 1) % m->n)
		if (!m->blocks[m->hand].recent)
			break;
	b = &m->blocks[m->hand];
	if (write_back(m, b, e) < 0)
		return e->code;
	unlink_block(m, m->hand);
	*ret = m->hand;
	m->hand = (m->hand + 1) % m->n;
	return 0;
}

static int load(struct q2w_meta *m, uint64_t off, bool fresh, uint32_t *ret, struct err *e)
{
	struct block *b;
	size_t got = 0;
	uint32_t i = 0;
	int rc = 0;

	if (free_slot(m, &i, e) < 0)
		return e->code;
	b = &m->blocks[i];
	if (!fresh)
		rc = fs_pread(m->fd, b->bytes, m->block_size, off, &got, e);
	memset(b->bytes + got, 0, m->block_size - got);
	b->off = off;
	b->dirty = false;
	b->chain = *bucket(m, off);
	*bucket(m, off) = i;
	if (rc < 0)
		return err_ctx(e, "metadata");
	*ret = i;
	return 0;
}

uint8_t *q2w_meta_get(struct q2w_meta *m, uint64_t off, enum q2w_use use, struct err *e)
{
	uint32_t i = *bucket(m, off);

	while (i != NONE && m->blocks[i].off != off)
		i = m->blocks[i].chain;
	if (i == NONE && load(m, off, use == Q2W_FRESH, &i, e) < 0)
		return NULL;
	m->blocks[i].recent = true;
	m->blocks[i].dirty |= use != Q2W_READ;
	return m->blocks[i].bytes;
}

static int by_offset(const void *a, const void *b)
{
	const struct block *x = *(struct block *const *)a, *y = *(struct block *const *)b;

	return x->off < y->off ? -1 : x->off > y->off;
}

int q2w_meta_flush(struct q2w_meta *m, struct err *e)
{
	CLEANUP(free_ptr) struct block **order = calloc((size_t)m->used + 1, sizeof(*order));

	if (!order)
		return err_set(e, ERR_NOMEM, "order of %u blocks", m->used);
	for (uint32_t i = 0; i < m->used; i++)
		order[i] = &m->blocks[i];
	qsort(order, m->used, sizeof(*order), by_offset);
	for (uint32_t i = 0; i < m->used; i++)
		if (write_back(m, order[i], e) < 0)
			return e->code;
	return 0;
}
