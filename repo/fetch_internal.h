/* fetch_internal.h - between what fetches chunks (fetch.c, fetch_decode.c) and the two ways to hand them out
 * (fetch_deliver.c). */
#ifndef KEDGE_REPO_FETCH_INTERNAL_H
#define KEDGE_REPO_FETCH_INTERNAL_H

#include "base/queue.h"
#include "repo/reader_internal.h"

#define FETCH_ITEMS_MAX (UINT32_MAX - 1)

/* One fetch.  sink gets the number of an item, of which the n - 1 that follow it are in plain too, one behind the
 * other; it is called from several threads.  failed gets the number of an item, from one thread at a time. */
struct fetch_job {
	struct repo_reader *rd;
	const char *domain;
	const struct fetch_item *items;
	size_t n;
	unsigned threads;
	size_t max_bytes;
	int (*sink)(void *opaque, uint32_t item, size_t n, const uint8_t *plain, struct err *e);
	/* An item that can't be had: 0 to go on.  NULL: its error ends the fetch. */
	int (*failed)(void *opaque, uint32_t item, struct err *e);
	void *opaque;
	atomic_bool stop;		/* may be set from outside: finish early, without an error */
	uint64_t stored;		/* bytes read from the store */
};
MUST_CHECK int fetch_run(struct fetch_job *j, struct err *e);

/* --- between fetch.c and fetch_decode.c --- */
#define FETCH_NOWHERE UINT32_MAX

/* Where an item is. */
struct fetch_located {
	uint32_t item;
	uint32_t pack;		/* FETCH_NOWHERE: no run names it */
	uint32_t segment;
	uint32_t chunk;
};

/* Items [first, end) of located, all in one pack, and the bytes that hold their segments. */
struct fetch_range {
	struct repo_reader *rd;
	size_t first, end;
	struct read_ref *dir;	/* NULL: the careful way */
	uint8_t *bytes;
	uint64_t off;		/* of bytes in the pack */
	size_t len;
};

struct fetch_engine {
	struct repo_reader *rd;
	const char *domain;
	const struct fetch_item *items;
	struct fetch_located *loc;
	size_t n;
	struct read_index *ri;
	size_t range_max;
	/* As those of the job. */
	int (*sink)(void *opaque, uint32_t item, size_t n, const uint8_t *plain, struct err *e);
	int (*failed)(void *opaque, uint32_t item, struct err *e);
	void *opaque;
	atomic_bool *stop;
	struct queue *q;
	pthread_mutex_t failed_lock;	/* held while failed is called, and nothing else */
	pthread_mutex_t lock;		/* guards what follows */
	size_t next;			/* first located item that no fetcher has taken */
	unsigned fetching;		/* fetchers at work */
	struct err first;		/* first error; code 0 = none */
	uint64_t stored;
};


void fetch_range_free(void *p);
/* The first error counts: it stops the others. */
void fetch_fail(struct fetch_engine *g, const struct err *e);
bool fetch_stopped(struct fetch_engine *g);
/* The main function of a thread that decodes; takes a struct fetch_engine. */
void *fetch_decoder(void *arg);

#endif
