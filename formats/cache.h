/*
 * cache.h - a bounded, shared cache of blocks that readers parse or decompress: L2 tables, decompressed clusters.
 *
 * One cache serves all layers of a chain, so that memory doesn't grow with the chain.  A block is identified by owner,
 * key and length; whoever misses fills it, others who want the same block wait for it, and nothing is locked meanwhile.
 * Blocks in use are never evicted: the budget is exceeded by at most what the threads hold.  A thread holds at most one
 * block at a time.
 *
 * Threads: all calls from any thread, except that forget wants no one to hold or want a block of that owner.
 */
#ifndef KEDGE_FORMATS_CACHE_H
#define KEDGE_FORMATS_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct block_cache;

#define BLOCK_CACHE_DEFAULT_BYTES ((size_t)32 << 20)

struct cache_block {
	const uint8_t *data;	/* len bytes as asked for; valid until block_cache_put */
};

/* Makes the block's bytes.  Runs without a lock held. */
typedef int (*block_cache_fill)(void *opaque, uint64_t key, void *buf, size_t len, struct err *e);

MUST_CHECK int block_cache_new(size_t max_bytes, struct block_cache **ret, struct err *e);
/* A reference to `with`, or to a new cache of BLOCK_CACHE_DEFAULT_BYTES where that is NULL. */
MUST_CHECK int block_cache_share(struct block_cache *with, struct block_cache **ret, struct err *e);
void block_cache_unref(struct block_cache *c);	/* NULL is fine; the last reference frees */
/* The block, filled if it isn't there; the caller puts it back.  Errors are fill's, and aren't remembered. */
MUST_CHECK int block_cache_get(struct block_cache *c, const void *owner, uint64_t key, size_t len,
			       block_cache_fill fill, void *opaque, const struct cache_block **ret, struct err *e);
void block_cache_put(struct block_cache *c, const struct cache_block *b);
/* Drops all blocks of owner, which is about to go. */
void block_cache_forget(struct block_cache *c, const void *owner);

#endif
