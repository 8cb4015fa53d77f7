/*
 * index_internal.h - inside the index: runs, packs, entries in memory, block cache, filter.
 */
#ifndef KEDGE_REPO_INDEX_INTERNAL_H
#define KEDGE_REPO_INDEX_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/vec.h"
#include "repo/index.h"
#include "repo/pack.h"

/* --- the bytes of a run (index_run.c) ----------------------------------------------------------------------------- */
#define RUN_ENTRY_BYTES 44u	/* and 32 per base */
#define RUN_BLOCK_ENTRIES ((INDEX_BLOCK_PLAIN - 4) / RUN_ENTRY_BYTES)
#define RUN_SLOTS_MAX 65536u

/* One entry; pack counts in the run's table, or in the index's where that is said. */
struct run_entry {
	struct id id;
	uint32_t pack, segment;
	uint16_t chunk;
	uint8_t nbases, depth;
	struct id bases[BASES_MAX];
};

/* A pack as a tail names it. */
struct run_pack {
	struct object_name name;	/* type, slot, session, hash */
	uint32_t generation;
	uint64_t size, envelope_off, retain_until;
	uint32_t envelope_len;
	uint32_t nsegments, first_segment;	/* into run_tail.segments */
};
struct run_fence {
	struct id first;	/* of its first entry */
	struct id hash;		/* H of the sealed block */
};
struct run_tail {
	uint32_t generation;
	uint64_t nentries;
	VEC(struct slot_id) slots;
	VEC(struct run_pack) packs;
	VEC(uint32_t) segments;		/* 2 * slot + verified */
	VEC(struct run_fence) blocks;
};
void run_tail_done(struct run_tail *t);
MUST_CHECK int run_tail_encode(const struct run_tail *t, struct buf *out, struct err *e);
/* Checks all that can be checked without the blocks.  data_end: the envelope's offset.  The caller runs run_tail_done,
 * also on failure. */
MUST_CHECK int run_tail_decode(const void *payload, size_t len, uint64_t data_end, struct run_tail *t, struct err *e);

/* What blocks are checked against; of a tail. */
struct run_shape {
	uint32_t npacks, nblocks;
	uint32_t *nsegments;	/* of each pack */
	struct run_fence *fences;
};
void run_shape_done(struct run_shape *s);
/* Takes the tail's fences. */
MUST_CHECK int run_shape_take(struct run_tail *t, struct run_shape *ret, struct err *e);

/* A decoded block: its plaintext and where its entries are, known to be sorted, whole, and inside the run's limits. */
struct run_block {
	uint16_t n;
	uint16_t off[RUN_BLOCK_ENTRIES];
	uint8_t plain[INDEX_BLOCK_PLAIN];
};
/* Appends an entry to the plaintext; false: it does not fit.  *n 0 and *used 4 at first. */
bool run_block_add(uint8_t plain[INDEX_BLOCK_PLAIN], uint32_t *used, uint32_t *n, const struct run_entry *en);
/* Finds and checks the entries of b->plain, which is block (< s->nblocks) of the run. */
MUST_CHECK int run_block_decode(struct run_block *b, const struct run_shape *s, uint32_t block, struct err *e);
void run_block_entry(const struct run_block *b, uint32_t i, struct run_entry *ret);
/* Finds id: 1 and *ret, or 0. */
int run_block_find(const struct run_block *b, const struct id *id, struct run_entry *ret);

/* --- the index ---------------------------------------------------------------------------------------------------- */
struct index_pack_row {
	struct pack_info info;
	uint8_t *distrusted;		/* build: bit per segment that must not be built upon; NULL = none */
	uint32_t generation;		/* of its directory */
	bool named;			/* a stored run names it, or somebody added it */
	bool pending;			/* to be named by the next run stored */
	bool scratch;			/* its entries are in a file of ours */
	uint32_t *segments;		/* while pending: 2 * index into index.slots + verified */
	bool has_sums;
	struct index_sums sums;
};

/* A slot that sealed segments or wrote packs. */
struct index_slot {
	struct slot_id id;
	bool trusted;			/* its segments may be built upon */
};

struct index_run {
	char name[OBJECT_NAME_BYTES];
	struct id hash;
	uint64_t size;
	uint32_t generation;
	uint64_t nentries;
	struct run_shape shape;
	struct run_tail tail;		/* until it is adopted; without fences */
	uint32_t *pack;			/* its packs as the index's */
	/* bit per block that can't be read: its entries are in memory instead; guarded by mem_lock */
	uint8_t *dead;
	int scratch_fd;			/* its blocks are in this file, not in the store (index_scratch.c); or -1 */
};

/* An entry in memory.  pack is the index's. */
struct index_mem_entry {
	struct id id;
	uint32_t pack, segment;
	uint16_t chunk;
	uint8_t nbases, depth;
	uint32_t first_base;
};
/* Entries by id: open addressing; equal ids follow each other in the probe sequence. */
struct index_mem {
	VEC(struct index_mem_entry) entries;
	VEC(struct id) bases;
	uint32_t *slots;		/* index into entries + 1; 0 = free */
	size_t nslots;			/* a power of two, or 0 */
};
void index_mem_done(struct index_mem *m);
MUST_CHECK int index_mem_add(struct index_mem *m, const struct run_entry *en, struct err *e);
/* Calls fn for each entry of id until it returns non-zero, which is passed on. */
typedef int (*index_mem_fn)(void *opaque, const struct run_entry *en, struct err *e);
int index_mem_each_of(const struct index_mem *m, const struct id *id, index_mem_fn fn, void *opaque, struct err *e);
void index_mem_entry(const struct index_mem *m, size_t i, struct run_entry *ret);

/* Blocks by (run, block), least recently used out first.  Its lock is never held across I/O. */
struct index_cached;
struct index_cache {
	pthread_mutex_t lock;
	struct index_cached **bucket;
	struct index_cached *head, *tail;	/* newest, oldest */
	size_t nbuckets, n, max;
};
MUST_CHECK int index_cache_init(struct index_cache *c, size_t max_bytes, struct err *e);
void index_cache_done(struct index_cache *c);
void index_cache_limit(struct index_cache *c, size_t max_bytes);	/* shrinks at once */
/* A block that stays valid until it is given back; NULL: not there. */
struct run_block *index_cache_get(struct index_cache *c, uint32_t run, uint32_t block);
/* Copies b in, unless it is there already; to be given back.  NULL: out of memory. */
struct run_block *index_cache_add(struct index_cache *c, uint32_t run, uint32_t block, const struct run_block *b);
void index_cache_put_back(struct index_cache *c, struct run_block *b);

/* One filter for all runs: the cache line is chosen by the id, the bits by id and run, so that all runs cost one
 * line. */
struct index_filter {
	uint8_t *lines;			/* NULL: not built */
	uint64_t nlines, nentries, capacity;
};
void index_filter_done(struct index_filter *f);
MUST_CHECK int index_filter_init(struct index_filter *f, uint64_t entries, size_t max_bytes, struct err *e);
void index_filter_add(struct index_filter *f, const struct id *id, uint32_t run);
bool index_filter_may(const struct index_filter *f, const struct id *id, uint32_t run);

#define INDEX_RECENT 4u

/*
 * Locks, in this order: work (one repair or filter build at a time; held across I/O), mem_lock (tables; never across
 * I/O), the cache's.
 */
struct index {
	struct repo *repo;
	const struct protocol_view *view;
	bool build;
	size_t max_bytes;
	pthread_mutex_t work;
	pthread_rwlock_t mem_lock;	/* guards all below but the cache */
	VEC(struct index_run *) runs;
	VEC(struct index_pack_row *) packs;
	VEC(struct index_slot) slots;	/* only for who may change the index: no lock */
	uint32_t *by_name;		/* packs by name: index + 1; 0 = free */
	size_t nby_name;
	struct index_mem mem;
	size_t nloose;			/* added to mem since index_scratch, for no run that will be stored */
	bool no_scratch;		/* no file can be made; guarded by work */
	struct index_filter filter;
	uint64_t nentries;
	struct index_cache cache;
	_Atomic uint32_t recent[INDEX_RECENT];	/* runs that had what was looked for: tried first */
};

/* --- packs (index_pack.c); mem_lock held for writing where an index is changed ------------------------------------ */
/* The pack's number; added when not known: *ret_new says. */
MUST_CHECK int index_pack_row(struct index *x, const struct run_pack *p, uint32_t *ret, bool *ret_new, struct err *e);
/* -1: not known. */
int64_t index_pack_by_name(const struct index *x, const char *name);
/* A slot's number.  May read slot records: not under mem_lock. */
MUST_CHECK int index_slot(struct index *x, const struct slot_id *id, uint32_t *ret, struct err *e);
/* Notes which segments a writer must not build upon: v is 2 * slot + verified. */
MUST_CHECK int index_pack_trust(struct index *x, struct index_pack_row *p, uint32_t segment, uint32_t v, struct err *e);
struct index_range {
	struct id from, to;
	bool has_to;
};
/* Adds a directory's entries; nranges 0 = all, else those with from <= id (< to). */
MUST_CHECK int index_add_entries(struct index *x, uint32_t pack, const struct directory *d,
				 const struct index_range *ranges, size_t nranges, struct err *e);
/* Adds a pack and its entries; named: as somebody's, to be named by the next run; else until a run turns up. */
MUST_CHECK int index_add_pack(struct index *x, const struct run_pack *p, const struct directory *d, bool named,
			      struct err *e);

/* --- runs (index_block.c, _load.c, _repair.c, _store.c, _scratch.c) ----------------------------------------------- */
void index_run_free(struct index_run *run);
DEFINE_CLEANUP(struct index_run, index_run_free)
/* A run by its tail: of an object in the store (bytes NULL), or in memory. */
MUST_CHECK int index_run_open(struct repo *r, const char *name, uint64_t size, const uint8_t *bytes,
			      struct index_run **ret, struct err *e);
/* Takes run: its packs and their trust become the index's.  On failure run is the caller's still. */
MUST_CHECK int index_adopt_run(struct index *x, struct index_run *run, struct err *e);
/* Reads, checks and decodes one block; by way of the cache folder for stores that are not local. */
MUST_CHECK int index_block_read(struct repo *r, const struct index_run *run, uint32_t block, struct run_block *b,
				struct err *e);
/* Checks, opens and decodes a sealed block. */
MUST_CHECK int index_block_open(struct repo *r, const struct index_run *run, uint32_t block, const uint8_t *sealed,
				struct run_block *b, struct err *e);
/* Removes copies in the cache folder of runs that are not among the n names. */
void index_cache_clean(struct repo *r, char *const *names, size_t n);
/* True for errors that mean: these bytes are lost; not: try again, out of memory, cancelled. */
bool index_is_damage(int code);
/* Puts the entries of a run's unreadable blocks into memory, from the directories of its packs. */
MUST_CHECK int index_repair_run(struct index *x, uint32_t run, struct err *e);
/* Each repair takes a run's unreadable blocks out; more than these are needed only when the store answers now so, now
 * so. */
uint32_t index_repairs_max(struct index *x);
bool index_block_dead(const struct index_run *run, uint32_t block);	/* mem_lock held */
/* A run in the making, of entries in memory (index_store.c). */
struct run_making {
	struct index *x;
	VEC(uint32_t) packs;	/* the run's packs, as the index numbers them */
	uint32_t *number;	/* of every pack of the index: in the run, or UINT32_MAX */
	VEC(uint32_t) entries;	/* in memory: sorted by id, best first; then each id once */
	uint64_t *left_out;	/* of each of its packs: sum of the entries that others are better than */
	struct run_tail tail;
	struct buf out;		/* the sealed blocks, and what follows them */
};
void run_making_done(struct run_making *m);
/* Takes packs, which are pending or not, until the entries in memory that are theirs are about max. */
MUST_CHECK int run_making_packs(struct run_making *m, bool pending, uint64_t max, struct err *e);
/* True when a row of a run's tail says what was summed up. */
bool index_label_is(const struct run_pack *p, const struct index_sums *sums);
/* What an entry adds to index_sums.entries; its pack doesn't count. */
uint64_t index_entry_sum(const struct run_entry *en);
/* Those packs' entries; of entries with one id the best. */
MUST_CHECK int run_making_entries(struct run_making *m, struct err *e);
MUST_CHECK int run_making_blocks(struct run_making *m, struct err *e);
/* Puts entries that no stored run will have, if there are many, into a file of our own; work is held.  Where no file
 * can be made they stay. */
MUST_CHECK int index_scratch(struct index *x, struct err *e);
/* Builds or enlarges the filter when that is due. */
MUST_CHECK int index_filter_ready(struct index *x, struct err *e);

#endif
