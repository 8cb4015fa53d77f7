/*
 * progress.h - how long work says where it is.  Called often; the receiver limits the rate.
 */
#ifndef KEDGE_BASE_PROGRESS_H
#define KEDGE_BASE_PROGRESS_H

#include <stdint.h>

/* Where a job is.  done and total are bytes unless the phase says otherwise; total 0 = unknown. */
struct progress_state {
	const char *phase;	/* static text: "reading", "storing", "restoring", "checking" */
	const char *what;	/* the disk or object at hand; may be NULL; valid during the call only */
	uint64_t done, total;
	uint64_t stored;	/* bytes sent to the store so far (backup); 0 elsewhere */
};

struct progress {
	void (*update)(void *opaque, const struct progress_state *s);	/* from any thread; NULL = nobody looks */
	void *opaque;
};

static inline void progress_update(const struct progress *p, const struct progress_state *s)
{
	if (p && p->update)
		p->update(p->opaque, s);
}

#endif
