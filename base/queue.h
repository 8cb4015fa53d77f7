/*
 * queue.h - a queue between two pipeline stages, bounded in bytes.
 *
 * Items are pointers with a stated size.  push blocks while the item would take the queue over its budget (one larger
 * than the budget goes in alone), pop blocks while it is empty.  close: no more pushes, pops drain the rest.  abort:
 * both sides return at once; what is inside is released with the free function given at creation.
 * Threads: any number on either side.
 */
#ifndef KEDGE_BASE_QUEUE_H
#define KEDGE_BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"

struct queue;

MUST_CHECK int queue_new(size_t max_bytes, void (*free_item)(void *), struct queue **ret, struct err *e);
void queue_free(struct queue *q);	/* releases what is still inside; no thread may be waiting on q */
/* Takes ownership of item.  Returns false when the queue was aborted or closed: item was released.  Out of memory
 * aborts the queue: a stream that lost an item must not look complete. */
MUST_CHECK bool queue_push(struct queue *q, void *item, size_t bytes);
/* The oldest item, now the caller's; NULL when closed and empty, or aborted. */
void *queue_pop(struct queue *q);
void queue_close(struct queue *q);
void queue_abort(struct queue *q);

#endif
