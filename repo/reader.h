/*
 * reader.h - chunks and nodes back out of a repository, every id verified.
 *
 * A reader has an index, directories and segments in bounded caches.  When a pack has vanished it reloads the index
 * once and tries again (docs/design.md, 7); when one copy is damaged it tries another.
 * Threads: repo_reader_get and repo_fetch from any number of threads at once.
 */
#ifndef KEDGE_REPO_READER_H
#define KEDGE_REPO_READER_H

#include "repo/index.h"
#include "repo/manifest.h"
#include "repo/repo.h"
#include "repo/tree.h"

struct repo_reader;

/* max_bytes: memory for index blocks, directories, nodes and decoded segments together; 0 = 96 MiB. */
MUST_CHECK int repo_reader_new(struct repo *r, size_t max_bytes, struct repo_reader **ret, struct err *e);
/* On an index that somebody else owns (a writer's). */
MUST_CHECK int repo_reader_on(struct repo *r, struct index *x, size_t max_bytes, struct repo_reader **ret,
			      struct err *e);
void repo_reader_free(struct repo_reader *rd);
struct index *repo_reader_index(struct repo_reader *rd);	/* borrowed */

/* One node's encoding, by way of the node cache. */
struct node_source repo_reader_nodes(struct repo_reader *rd);
/* One chunk of the domain into buf (chunk_size bytes).  ERR_NOTFOUND: no run names it; ERR_CORRUPT: every copy is
 * damaged (names the packs). */
MUST_CHECK int repo_reader_chunk(struct repo_reader *rd, const char *domain, const struct id *id, void *buf,
				 struct err *e);
/* [off, off+len) of a stored byte string; zeros where the tree has none.  Past its size: ERR_INVALID. */
MUST_CHECK int repo_reader_pread(struct repo_reader *rd, const char *domain, const struct tree_ref *t, void *buf,
				 size_t len, uint64_t off, struct err *e);

/* Many chunks in parallel: sorted by pack, each segment fetched and decoded once. */
struct fetch_item {
	struct id id;
	uint64_t tag;		/* the caller's: where it goes */
};
struct fetch_opts {
	unsigned threads;	/* decoders; 0 = the CPUs this process may use */
	size_t max_bytes;	/* in flight; 0 = 64 MiB */
	/* Fetch order: false = by pack (the sink writes anywhere), true = in the order of items (streams); costs a
	 * window. */
	bool in_order;
	/* An item whose chunk can't be had: return 0 to go on (it is counted), negative to stop with *e as it is.
	 * NULL: stop. */
	int (*failed)(void *opaque, const struct fetch_item *it, struct err *e);
};
/* Called with n >= 1 items that follow each other and their verified chunks, one behind the other in plain, which is
 * valid during the call; from several threads at once unless in_order.  Each item comes once. */
typedef int (*fetch_fn)(void *opaque, const struct fetch_item *it, size_t n, const uint8_t *plain, struct err *e);
/* items is reordered.  n up to a million or so at a time: the caller's window.  *ret_stored (may be NULL): bytes read
 * from the store. */
MUST_CHECK int repo_fetch(struct repo_reader *rd, const char *domain, struct fetch_item *items, size_t n,
			  const struct fetch_opts *o, fetch_fn fn, void *opaque, uint64_t *ret_stored, struct err *e);

#endif
