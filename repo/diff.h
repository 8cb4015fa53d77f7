/*
 * diff.h - what differs between two stored states: by their trees, so it costs what differs, and no content is read.
 *
 * Precision is the chunk.  Threads: any, on distinct results.
 */
#ifndef KEDGE_REPO_DIFF_H
#define KEDGE_REPO_DIFF_H

#include "base/vec.h"
#include "repo/manifest.h"
#include "repo/reader.h"

struct diff_counts {
	uint64_t ranges;	/* runs of consecutive bytes that changed */
	uint64_t chunks, bytes;	/* changed in all; the last chunk counts up to the end of the longer one */
	uint64_t bytes_filled;	/* of these: zero in a, not in b */
	uint64_t bytes_zeroed;	/* of these: zero in b, not in a */
};

/* Two stored byte strings.  fn (may be NULL) gets each changed range, rising; it returns 0 or negative to stop. */
typedef int (*diff_range_fn)(void *opaque, uint64_t off, uint64_t len, struct err *e);
MUST_CHECK int diff_trees(const struct node_source *src, const struct tree_ref *a, const struct tree_ref *b,
			  uint32_t chunk_size, diff_range_fn fn, void *opaque, struct diff_counts *ret, struct err *e);

/* One disk of two states. */
struct diff_disk {
	char *name;
	bool in_a, in_b;	/* false: absent there, and taken for empty */
	bool other_domain;	/* its chunks have ids of different keys: all count as changed where neither is zero */
	uint64_t size_a, size_b;
	struct diff_counts counts;
};
struct diff_result {
	VEC(struct diff_disk) disks;	/* a's order, then those that only b has */
};
void diff_result_done(struct diff_result *d);	/* safe on a zeroed struct */

/* Called for each changed range of each disk; disk->counts is not filled in yet. */
typedef int (*diff_disk_fn)(void *opaque, const struct diff_disk *disk, uint64_t off, uint64_t len, struct err *e);
/* State sa of manifest a against state sb of manifest b; disks are paired by name.  disk: only that one, NULL = all; in
 * neither: ERR_NOTFOUND.  fn may be NULL.  *ret is the caller's (diff_result_done). */
MUST_CHECK int diff_states(struct repo_reader *rd, uint32_t chunk_size, const struct manifest *a, uint32_t sa,
			   const struct manifest *b, uint32_t sb, const char *disk, diff_disk_fn fn, void *opaque,
			   struct diff_result *ret, struct err *e);

#endif
