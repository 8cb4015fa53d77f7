/*
 * index_mem.c - what the index holds in memory: entries that no stored run has, the block cache, and the filter.
 *
 * Ids are outputs of a keyed hash: their bytes serve as hash values, and nobody without the id key can choose them.
 */
#include <assert.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/num.h"
#include "repo/index_internal.h"

void index_mem_done(struct index_mem *m)
{
	VEC_DONE(&m->entries);
	VEC_DONE(&m->bases);
	free(STEAL(m->slots));
	m->nslots = 0;
}

static void mem_link(struct index_mem *m, const struct id *id, size_t entry)
{
	size_t i = (size_t)get_le64(id->b) & (m->nslots - 1);

	while (m->slots[i])
		i = (i + 1) & (m->nslots - 1);
	m->slots[i] = (uint32_t)entry + 1;
}

/* At most half full. */
static int mem_grow(struct index_mem *m, struct err *e)
{
	size_t n = m->nslots ? m->nslots * 2 : 1024;
	uint32_t *slots = calloc(n, sizeof(*slots));

	if (!slots || m->entries.n >= UINT32_MAX / 2) {
		free(slots);
		return err_set(e, ERR_NOMEM, "index of %zu entries in memory", m->entries.n);
	}
	free(m->slots);
	m->slots = slots;
	m->nslots = n;
	for (size_t k = 0; k < m->entries.n; k++)
		mem_link(m, &m->entries.p[k].id, k);
	return 0;
}

int index_mem_add(struct index_mem *m, const struct run_entry *en, struct err *e)
{
	uint32_t first_base = (uint32_t)m->bases.n;
	struct index_mem_entry *to;

	if ((m->entries.n + 1) * 2 > m->nslots && mem_grow(m, e) < 0)
		return e->code;
	for (unsigned i = 0; i < en->nbases; i++) {
		struct id *b = VEC_PUSH(&m->bases, e);

		if (!b)
			return e->code;
		*b = en->bases[i];
	}
	to = VEC_PUSH(&m->entries, e);
	if (!to)
		return e->code;
	*to = (struct index_mem_entry){
		.id = en->id,
		.pack = en->pack,
		.segment = en->segment,
		.chunk = en->chunk,
		.nbases = en->nbases,
		.depth = en->depth,
		.first_base = first_base,
	};
	mem_link(m, &en->id, m->entries.n - 1);
	return 0;
}

void index_mem_entry(const struct index_mem *m, size_t i, struct run_entry *ret)
{
	const struct index_mem_entry *p = &m->entries.p[i];

	ret->id = p->id;
	ret->pack = p->pack;
	ret->segment = p->segment;
	ret->chunk = p->chunk;
	ret->nbases = p->nbases;
	ret->depth = p->depth;
	for (unsigned b = 0; b < p->nbases; b++)
		ret->bases[b] = m->bases.p[p->first_base + b];
}

int index_mem_each_of(const struct index_mem *m, const struct id *id, index_mem_fn fn, void *opaque, struct err *e)
{
	size_t i;

	if (!m->nslots)
		return 0;
	for (i = (size_t)get_le64(id->b) & (m->nslots - 1); m->slots[i]; i = (i + 1) & (m->nslots - 1)) {
		struct run_entry en;
		int rc;

		if (!id_eq(&m->entries.p[m->slots[i] - 1].id, id))
			continue;
		index_mem_entry(m, m->slots[i] - 1, &en);
		rc = fn(opaque, &en, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* --- block cache ---------------------------------------------------------------------------------------------------
 */
struct index_cached {
	struct run_block block; /* first: users hold its address */
	uint32_t run, number;
	unsigned users;
	struct index_cached *newer, *older, *next; /* next: in its bucket */
};

static size_t cache_capacity(size_t max_bytes)
{
	size_t n = max_bytes / sizeof(struct index_cached);

	return n < 4 ? 4 : n;
}

int index_cache_init(struct index_cache *c, size_t max_bytes, struct err *e)
{
	*c = (struct index_cache){ .max = cache_capacity(max_bytes) };
	c->nbuckets = 64;
	while (c->nbuckets < c->max)
		c->nbuckets *= 2;
	c->bucket = calloc(c->nbuckets, sizeof(struct index_cached *));
	if (!c->bucket)
		return err_set(e, ERR_NOMEM, "cache of index blocks");
	pthread_mutex_init(&c->lock, NULL);
	return 0;
}

static void cache_unlink(struct index_cache *c, struct index_cached *k)
{
	*(k->newer ? &k->newer->older : &c->head) = k->older;
	*(k->older ? &k->older->newer : &c->tail) = k->newer;
}

static void cache_push(struct index_cache *c, struct index_cached *k)
{
	k->newer = NULL;
	k->older = c->head;
	*(c->head ? &c->head->newer : &c->tail) = k;
	c->head = k;
}

static struct index_cached **cache_bucket(const struct index_cache *c, uint32_t run, uint32_t block)
{
	uint64_t h = (((uint64_t)run << 32) | block) * 0x9e3779b97f4a7c15u;

	return &c->bucket[(size_t)(h >> 32) & (c->nbuckets - 1)];
}

static void cache_drop(struct index_cache *c, struct index_cached *k)
{
	struct index_cached **p = cache_bucket(c, k->run, k->number);

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	cache_unlink(c, k);
	c->n--;
	free(k);
}

/* Blocks in use are left: a few more than the limit while many threads look at once. */
static void cache_trim(struct index_cache *c)
{
	struct index_cached *k = c->tail;

	while (k && c->n > c->max) {
		struct index_cached *newer = k->newer;

		if (!k->users)
			cache_drop(c, k);
		k = newer;
	}
}

void index_cache_done(struct index_cache *c)
{
	if (!c->bucket)
		return;
	while (c->head)
		cache_drop(c, c->head);
	free(STEAL(c->bucket));
	pthread_mutex_destroy(&c->lock);
}

void index_cache_limit(struct index_cache *c, size_t max_bytes)
{
	pthread_mutex_lock(&c->lock);
	c->max = cache_capacity(max_bytes);
	cache_trim(c);
	pthread_mutex_unlock(&c->lock);
}

static struct index_cached *cache_lookup(struct index_cache *c, uint32_t run, uint32_t block)
{
	struct index_cached *k = *cache_bucket(c, run, block);

	while (k && (k->run != run || k->number != block))
		k = k->next;
	if (k) {
		cache_unlink(c, k);
		cache_push(c, k);
		k->users++;
	}
	return k;
}

struct run_block *index_cache_get(struct index_cache *c, uint32_t run, uint32_t block)
{
	struct index_cached *k;

	pthread_mutex_lock(&c->lock);
	k = cache_lookup(c, run, block);
	pthread_mutex_unlock(&c->lock);
	return k ? &k->block : NULL;
}

struct run_block *index_cache_add(struct index_cache *c, uint32_t run, uint32_t block, const struct run_block *b)
{
	struct index_cached *made = malloc(sizeof(*made)), *k;

	if (!made)
		return NULL;
	memcpy(&made->block, b, sizeof(*b));
	made->run = run;
	made->number = block;
	made->users = 1;
	pthread_mutex_lock(&c->lock);
	k = cache_lookup(c, run, block);
	if (!k) {
		struct index_cached **p = cache_bucket(c, run, block);

		k = STEAL(made);
		k->next = *p;
		*p = k;
		cache_push(c, k);
		c->n++;
		cache_trim(c);
	}
	pthread_mutex_unlock(&c->lock);
	free(made);
	return &k->block;
}

void index_cache_put_back(struct index_cache *c, struct run_block *b)
{
	struct index_cached *k = (struct index_cached *)(void *)b;

	pthread_mutex_lock(&c->lock);
	assert(k->users > 0);
	k->users--;
	cache_trim(c);
	pthread_mutex_unlock(&c->lock);
}

/* --- filter --------------------------------------------------------------------------------------------------------
 */
#define LINE_BYTES 64u
#define FILTER_BITS 6u /* set per entry */
#define FILTER_ENTRIES_PER_LINE 40u /* 12.8 bits an entry: a false answer in about 150 */

void index_filter_done(struct index_filter *f)
{
	free(STEAL(f->lines));
	*f = (struct index_filter){ 0 };
}

int index_filter_init(struct index_filter *f, uint64_t entries, size_t max_bytes, struct err *e)
{
	uint64_t n = entries / FILTER_ENTRIES_PER_LINE + 1024;

	if (n > max_bytes / LINE_BYTES)
		n = max_u64(max_bytes / LINE_BYTES, 1);
	*f = (struct index_filter){ .nlines = n, .capacity = n * FILTER_ENTRIES_PER_LINE };
	f->lines = calloc((size_t)n, LINE_BYTES);
	if (!f->lines)
		return err_set(e, ERR_NOMEM, "filter of the index, %" PRIu64 " bytes", n * LINE_BYTES);
	return 0;
}

static uint8_t *filter_line(const struct index_filter *f, const struct id *id)
{
	/* The high half of the product maps 64 random bits evenly to the lines. */
	return f->lines + (size_t)((unsigned __int128)get_le64(id->b) * f->nlines >> 64) * LINE_BYTES;
}

static uint64_t filter_bits(const struct id *id, uint32_t run)
{
	uint64_t h = get_le64(id->b + 8) ^ ((uint64_t)run + 1) * 0x9e3779b97f4a7c15u;

	h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

void index_filter_add(struct index_filter *f, const struct id *id, uint32_t run)
{
	uint8_t *line = filter_line(f, id);
	uint64_t h = filter_bits(id, run);

	for (unsigned i = 0; i < FILTER_BITS; i++, h >>= 9)
		line[h % 512 / 8] |= (uint8_t)(1u << h % 8);
	f->nentries++;
}

bool index_filter_may(const struct index_filter *f, const struct id *id, uint32_t run)
{
	const uint8_t *line = filter_line(f, id);
	uint64_t h = filter_bits(id, run);

	for (unsigned i = 0; i < FILTER_BITS; i++, h >>= 9)
		if (!(line[h % 512 / 8] >> h % 8 & 1))
			return false;
	return true;
}
