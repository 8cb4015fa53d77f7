/*
 * cancel.h - a flag that asks long work to stop.  Set from a signal handler or another thread; polled by loops.
 */
#ifndef KEDGE_BASE_CANCEL_H
#define KEDGE_BASE_CANCEL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

struct cancel {
	atomic_int requested;
};

static inline bool cancel_requested(struct cancel *c)
{
	return c && atomic_load_explicit(&c->requested, memory_order_relaxed);
}
static inline void cancel_request(struct cancel *c) { atomic_store(&c->requested, 1); }
/* 0, or ERR_CANCELLED with *e set; c may be NULL. */
static inline int cancel_check(struct cancel *c, struct err *e)
{
	return cancel_requested(c) ? err_set(e, ERR_CANCELLED, "interrupted") : 0;
}

#endif
