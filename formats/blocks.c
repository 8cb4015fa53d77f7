/* blocks.c - blocks in the order in which they are written to. */
#include "formats/blocks.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/target.h"

int blocks_init(struct blocks *b, uint64_t size, uint32_t block_size, bool all, struct err *e)
{
	uint64_t n = div_up(size, block_size);
	uint32_t *places = n < BLOCKS_NO_PLACE ? malloc((size_t)n * sizeof(*places) + 1) : NULL;

	if (!places)
		return err_set(e, ERR_NOMEM, "places of %" PRIu64 " blocks", n);
	for (uint64_t i = 0; i < n; i++)
		places[i] = all ? (uint32_t)i : BLOCKS_NO_PLACE;
	pthread_mutex_init(&b->lock, NULL);
	b->bits = (unsigned)__builtin_ctz(block_size);
	b->n = n;
	b->used = all ? (uint32_t)n : 0;
	b->places = places;
	return 0;
}

void blocks_done(struct blocks *b)
{
	if (!b->places)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b->places);
	b->places = NULL;
}

static uint64_t place_of(struct blocks *b, uint64_t block)
{
	uint32_t place;

	pthread_mutex_lock(&b->lock);
	if (b->places[block] == BLOCKS_NO_PLACE)
		b->places[block] = b->used++;
	place = b->places[block];
	pthread_mutex_unlock(&b->lock);
	return b->start + place * b->stride;
}

int blocks_write(struct blocks *b, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	uint64_t size = (uint64_t)1 << b->bits;

	for (size_t n; len; buf += n, len -= n, off += n) {
		uint64_t within = off & (size - 1);

		n = (size_t)min_u64(len, size - within);
		if (bytes_all_zero(buf, n))
			continue;
		if (target_write_sparse(b->fd, buf, n, place_of(b, off >> b->bits) + b->head + within, e) < 0)
			return e->code;
	}
	return 0;
}

uint64_t blocks_end(const struct blocks *b)
{
	return b->start + b->used * b->stride;
}
