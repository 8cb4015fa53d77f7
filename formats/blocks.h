/*
 * blocks.h - writing a disk as blocks of one size that lie in the file in the order in which they were first written
 * to: what VHD and VHDX have in common.
 *
 * The file reads as zeros where nothing was written, and blocks of zeros get no place.  Any thread may write; init,
 * done and reading the places are for one.
 */
#ifndef KEDGE_FORMATS_BLOCKS_H
#define KEDGE_FORMATS_BLOCKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

#define BLOCKS_NO_PLACE UINT32_MAX

struct blocks {
	int fd;			/* borrowed */
	uint64_t start, stride;	/* the block with place n begins at start + n * stride in the file */
	uint32_t head;		/* bytes of a block before its data */
	unsigned bits;		/* log2 of a block's data bytes */
	uint64_t n;		/* blocks of the disk */
	pthread_mutex_t lock;	/* guards places and used */
	uint32_t *places;	/* of each block, or BLOCKS_NO_PLACE */
	uint32_t used;		/* places given */
};

/* start, stride, head and fd are the caller's to set before the first write.  all: every block gets its own number as
 * its place. */
MUST_CHECK int blocks_init(struct blocks *b, uint64_t size, uint32_t block_size, bool all, struct err *e);
void blocks_done(struct blocks *b);	/* safe on a zeroed struct */
/* Writes guest bytes. */
MUST_CHECK int blocks_write(struct blocks *b, const uint8_t *buf, size_t len, uint64_t off, struct err *e);
/* Where the file ends with all places that were given. */
uint64_t blocks_end(const struct blocks *b);

#endif
