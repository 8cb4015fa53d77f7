/* fetch_internal.h - between what fetches chunks (fetch.c) and the two ways to hand them out (fetch_deliver.c). */
#ifndef KEDGE_REPO_FETCH_INTERNAL_H
#define KEDGE_REPO_FETCH_INTERNAL_H

#include "repo/reader_internal.h"

#define FETCH_ITEMS_MAX (UINT32_MAX - 1)

/* One fetch.  sink and failed get the number of an item; from several threads, failed from one at a time. */
struct fetch_job {
	struct repo_reader *rd;
	const char *domain;
	const struct fetch_item *items;
	size_t n;
	unsigned threads;
	size_t max_bytes;
	int (*sink)(void *opaque, uint32_t item, const uint8_t *plain, struct err *e);
	/* An item that can't be had: 0 to go on.  NULL: its error ends the fetch. */
	int (*failed)(void *opaque, uint32_t item, struct err *e);
	void *opaque;
	atomic_bool stop;		/* may be set from outside: finish early, without an error */
	uint64_t stored;		/* bytes read from the store */
};
MUST_CHECK int fetch_run(struct fetch_job *j, struct err *e);

#endif
