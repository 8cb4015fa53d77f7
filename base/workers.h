/*
 * workers.h - an ordered parallel map: items go in, worker threads transform them, they come out in the order they
 * went in, whatever the number of threads.  0 threads: submit runs the function itself; same interface, same order.
 *
 * The bytes of items inside (submitted, not yet taken) are bounded: submit blocks while they have reached the budget,
 * so that at most the budget and one item are inside, and workers_full() is exact.  The side that takes must be another
 * thread, or take before it submits when workers_full() says so.  One thread submits, any number take.
 * The function's first error stops the map: submit and next then return that error; items not taken are released by
 * workers_free.  Worker threads block all signals.
 */
#ifndef KEDGE_BASE_WORKERS_H
#define KEDGE_BASE_WORKERS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"

struct workers;

/* CPUs that this process may use (affinity counts), at least 1. */
unsigned workers_cpus(void);
/* For what pthread_create returned: ERR_NOMEM, "WHAT: no thread could be started: ...", and which limits there are. */
int workers_no_thread(struct err *e, int os_errno, const char *what);

struct workers_opts {
	const char *name;		/* thread name, at most 15 characters */
	unsigned threads;		/* 0: run in submit */
	size_t max_bytes;		/* budget of items inside */
	/* Transforms item in place.  local is the thread's own context.  0 or negative with *e set. */
	int (*run)(void *local, void *item, struct err *e);
	/* Each thread's context (codec contexts and the like); both may be NULL. */
	int (*local_new)(void *opaque, void **ret_local, struct err *e);
	void (*local_free)(void *local);
	void *opaque;			/* passed to local_new */
	void (*item_free)(void *item);	/* for items that nobody takes */
};

MUST_CHECK int workers_new(const struct workers_opts *o, struct workers **ret, struct err *e);
/* Stops the threads after their present item; releases what nobody took. */
void workers_free(struct workers *w);
/* Takes ownership of item (released on failure, at the latest by workers_free).  Blocks while the budget is used up. */
MUST_CHECK int workers_submit(struct workers *w, void *item, size_t bytes, struct err *e);
/* Says that no more items come. */
void workers_close(struct workers *w);
/* The next item in order, blocking until it is ready: 1 and *ret_item (the caller's now); 0 when closed and drained. */
MUST_CHECK int workers_next(struct workers *w, void **ret_item, struct err *e);
/* True when submit would block: take one first. */
bool workers_full(struct workers *w);
/* Makes submit and next return e's error from now on; wakes everybody. */
void workers_abort(struct workers *w, const struct err *e);

#endif
