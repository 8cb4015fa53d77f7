/*
 * writer.h - a run that stores chunks and commits one manifest: session, deduplication, segments, packs, index runs.
 *
 * Chunks go in, in guest order, from one thread; sealing (compress, encrypt, decode again, verify) runs on worker
 * threads, packs are put by uploader threads; everything in flight is bounded.  The order of chunks, and so roots and
 * segment plaintext, does not depend on the number of threads.
 * Write order: packs, then index runs that name only durable packs, then the manifest.
 */
#ifndef KEDGE_REPO_WRITER_H
#define KEDGE_REPO_WRITER_H

#include "base/progress.h"
#include "repo/index.h"
#include "repo/manifest.h"
#include "repo/protocol.h"
#include "repo/reader.h"
#include "repo/repo.h"

struct repo_writer;

enum compression { COMPRESS_DEFAULT = 0, COMPRESS_FAST, COMPRESS_MAX, COMPRESS_OFF };	/* zstd 1, -1, 15, none */
#define COMPRESS_DEFAULT_LEVEL 1

struct repo_writer_opts {
	const char *vm;			/* for the session object; may be NULL */
	unsigned threads;		/* sealers; 0 = the CPUs this process may use */
	/* Everything in flight and the index cache; 0 = 160 MiB.  Less memory: fewer threads, smaller packs; never less
	 * than 24 MiB, or with segments of more than 1 MiB about ten of them. */
	size_t max_bytes;
	enum compression compression;
	int zstd_level;			/* != 0: exactly this level instead */
	bool single_chunk_segments;	/* --no-shared-compression */
};

struct repo_writer_stats {
	uint64_t chunks_new, bytes_new;	/* chunks not found, their plain bytes */
	uint64_t bytes_stored;		/* bytes put so far: packs, runs, manifest */
	uint64_t packs, resumed_packs;	/* resumed: orphans of an interrupted run found usable */
	uint64_t resumed_bytes;
};

/* Posts the session, loads the index, finds usable orphans.  Removes nothing on failure. */
MUST_CHECK int repo_writer_open(struct repo *r, const struct repo_writer_opts *o, struct repo_writer **ret,
				struct err *e);
/* True when the chunk or node is stored already or on its way in this run. 1, 0, or negative. */
MUST_CHECK int repo_writer_has(struct repo_writer *w, const struct id *id, struct err *e);
/* Stores a chunk that repo_writer_has did not know; plain (malloc'ed, chunk_size bytes) is the writer's from here on,
 * also on failure.  Blocks while too much is in flight. */
MUST_CHECK int repo_writer_add_chunk(struct repo_writer *w, const char *domain, const struct id *id, void *plain,
				     struct err *e);
/* Stores a node unless it is there (tree_builder_opts.emit); returns its id. */
MUST_CHECK int repo_writer_add_node(struct repo_writer *w, const uint8_t *encoded, size_t len, struct id *ret_id,
				    struct err *e);
/* Stores a small byte string (an attachment: at most 256 MiB in memory) as a tree. */
MUST_CHECK int repo_writer_add_bytes(struct repo_writer *w, const void *p, size_t len, struct tree_ref *ret,
				     struct err *e);
/* A reader on the writer's index: stored nodes and chunks, those of this run once they are durable.  Borrowed. */
struct repo_reader *repo_writer_reader(struct repo_writer *w);
const struct protocol_view *repo_writer_view(const struct repo_writer *w);
const struct session_id *repo_writer_session(const struct repo_writer *w);
/* Everything added so far becomes durable and named by an index run. */
MUST_CHECK int repo_writer_flush(struct repo_writer *w, struct err *e);
/*
 * Flushes, fills in writer, session, sequence, previous and bytes_stored, puts the manifest: the commit; then checks
 * for an eviction and posts the end marker.  *ret_id is the backup's id.  ERR_TRANSIENT: evicted; not committed for
 * good, run again.  If it is not known whether the put of the manifest arrived, says so, and posts no end marker.
 */
MUST_CHECK int repo_writer_commit(struct repo_writer *w, struct manifest *m, struct id *ret_id, struct err *e);
void repo_writer_stats(const struct repo_writer *w, struct repo_writer_stats *ret);	/* any thread */
/* Stops everything; without a commit, what is stored stays as orphans for the next run.  With save, writes an index run
 * for packs that are durable first. */
void repo_writer_close(struct repo_writer *w, bool save);

#endif
