/*
 * cache.c - the block cache: a chained hash table over an LRU list, filled without the lock.
 */
#include "formats/cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>

struct block {
	struct cache_block pub;			/* first: block_cache_put gets back to the block by it */
	struct block *hash_next;
	struct block *newer, *older;		/* LRU list */
	const void *owner;
	uint64_t key;
	size_t len;
	unsigned pins;
	bool ready;				/* false: somebody is filling it */
	uint8_t bytes[];
};

struct block_cache {
	pthread_mutex_t lock;			/* guards everything below, and the fields of all blocks */
	pthread_cond_t filled;
	unsigned refs;
	size_t max_bytes, bytes;
	size_t nbuckets;			/* a power of two */
	struct block **buckets;
	struct block *newest, *oldest;
};

int block_cache_new(size_t max_bytes, struct block_cache **ret, struct err *e)
{
	struct block_cache *c = calloc(1, sizeof(*c));
	size_t n = 64;

	while (n < max_bytes / 1024 && n < 65536)
		n *= 2;
	if (c)
		c->buckets = calloc(n, sizeof(*c->buckets));
	if (!c || !c->buckets) {
		free(c);
		return err_set(e, ERR_NOMEM, "block cache");
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->filled, NULL);
	c->refs = 1;
	c->max_bytes = max_bytes;
	c->nbuckets = n;
	*ret = c;
	return 0;
}

int block_cache_share(struct block_cache *with, struct block_cache **ret, struct err *e)
{
	if (!with)
		return block_cache_new(BLOCK_CACHE_DEFAULT_BYTES, ret, e);
	pthread_mutex_lock(&with->lock);
	with->refs++;
	pthread_mutex_unlock(&with->lock);
	*ret = with;
	return 0;
}

static struct block **bucket(struct block_cache *c, const void *owner, uint64_t key)
{
	uint64_t h = (key ^ (uint64_t)(uintptr_t)owner) * 0x9e3779b97f4a7c15u;

	return &c->buckets[(h >> 32) & (c->nbuckets - 1)];
}

static void lru_unlink(struct block_cache *c, struct block *b)
{
	*(b->newer ? &b->newer->older : &c->newest) = b->older;
	*(b->older ? &b->older->newer : &c->oldest) = b->newer;
}

static void lru_push(struct block_cache *c, struct block *b)
{
	b->newer = NULL;
	b->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = b;
	c->newest = b;
}

static void drop(struct block_cache *c, struct block *b)
{
	struct block **p = bucket(c, b->owner, b->key);

	while (*p != b)
		p = &(*p)->hash_next;
	*p = b->hash_next;
	lru_unlink(c, b);
	c->bytes -= sizeof(*b) + b->len;
	free(b);
}

/* Drops the oldest unused blocks until len more bytes fit, or none is left. */
static void make_room(struct block_cache *c, size_t len)
{
	for (struct block *b = c->oldest, *next; b && c->bytes + len > c->max_bytes; b = next) {
		next = b->newer;
		if (!b->pins)
			drop(c, b);
	}
}

static struct block *find(struct block_cache *c, const void *owner, uint64_t key, size_t len)
{
	for (struct block *b = *bucket(c, owner, key); b; b = b->hash_next)
		if (b->owner == owner && b->key == key && b->len == len)
			return b;
	return NULL;
}

/* A new block, pinned and not ready; NULL: out of memory. */
static struct block *insert(struct block_cache *c, const void *owner, uint64_t key, size_t len)
{
	struct block **p = bucket(c, owner, key);
	struct block *b;

	make_room(c, sizeof(*b) + len);
	b = malloc(sizeof(*b) + len);
	if (!b)
		return NULL;
	*b = (struct block){ .pub.data = b->bytes, .hash_next = *p, .owner = owner, .key = key, .len = len, .pins = 1 };
	*p = b;
	lru_push(c, b);
	c->bytes += sizeof(*b) + len;
	return b;
}

int block_cache_get(struct block_cache *c, const void *owner, uint64_t key, size_t len, block_cache_fill fill,
		    void *opaque, const struct cache_block **ret, struct err *e)
{
	struct block *b;
	int r;

	pthread_mutex_lock(&c->lock);
	while ((b = find(c, owner, key, len)) && !b->ready)
		pthread_cond_wait(&c->filled, &c->lock);
	if (b) {
		b->pins++;
		lru_unlink(c, b);
		lru_push(c, b);
		pthread_mutex_unlock(&c->lock);
		*ret = &b->pub;
		return 0;
	}
	b = insert(c, owner, key, len);
	pthread_mutex_unlock(&c->lock);
	if (!b)
		return err_set(e, ERR_NOMEM, "cache block of %zu bytes", len);
	r = fill(opaque, key, b->bytes, len, e);
	pthread_mutex_lock(&c->lock);
	if (r < 0)
		drop(c, b);	/* who waited finds nothing, and tries it itself */
	else
		b->ready = true;
	pthread_cond_broadcast(&c->filled);
	pthread_mutex_unlock(&c->lock);
	if (r < 0)
		return r;
	*ret = &b->pub;
	return 0;
}

void block_cache_put(struct block_cache *c, const struct cache_block *pub)
{
	struct block *b = (struct block *)(uintptr_t)pub;

	pthread_mutex_lock(&c->lock);
	assert(b->pins);
	b->pins--;
	make_room(c, 0);
	pthread_mutex_unlock(&c->lock);
}

void block_cache_forget(struct block_cache *c, const void *owner)
{
	pthread_mutex_lock(&c->lock);
	for (struct block *b = c->newest, *next; b; b = next) {
		next = b->older;
		if (b->owner == owner)
			drop(c, b);
	}
	pthread_mutex_unlock(&c->lock);
}

void block_cache_unref(struct block_cache *c)
{
	unsigned left;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	left = --c->refs;
	pthread_mutex_unlock(&c->lock);
	if (left)
		return;
	while (c->newest)
		drop(c, c->newest);
	pthread_cond_destroy(&c->filled);
	pthread_mutex_destroy(&c->lock);
	free(c->buckets);
	free(c);
}
