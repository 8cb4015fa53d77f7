/*
 * index.h - where chunks are: index runs on the store, looked up through fences, a bounded block cache and one filter
 * (docs/format.md, section 8).
 *
 * Memory: fences and pack tables of all runs (64 bytes per 1,400 chunks, about 250 per pack), what index_add_directory
 * added since the last stored run (60 bytes a chunk), and the budget given, which the block cache and the filter share.
 * What lost runs held is read from the packs and kept, sealed, in a file without a name in the cache folder (or TMPDIR,
 * or /var/tmp), 44 bytes a chunk; in memory where no such file can be made.  The filter is built at the first lookup
 * that needs it: at once for writers, from 8 runs on for readers.
 * Threads: index_find, index_pack, index_npacks, index_names_pack and index_nentries from any number of threads, also
 * while one other thread uses the rest.
 */
#ifndef KEDGE_REPO_INDEX_H
#define KEDGE_REPO_INDEX_H

#include "repo/object.h"
#include "repo/repo.h"

struct index;
struct protocol_view;

/* A pack as the index knows it. */
struct pack_info {
	char name[OBJECT_NAME_BYTES];
	enum pack_kind kind;
	uint64_t size, envelope_off;
	uint32_t envelope_len, nsegments;
	bool usable;		/* neither doomed nor (for writers) condemned: entries in it count */
};

struct chunk_place {
	uint32_t pack;		/* index_pack() */
	uint32_t segment;
	uint16_t chunk;
	uint8_t nbases, depth;
};

struct index_opts {
	bool build;		/* leave out condemned packs too (writers); else only doomed ones */
	size_t max_bytes;	/* 0 = 64 MiB */
	/* Packs that no run names serve too, from their directories: when a run may be lost. */
	bool unnamed;
};

/* Loads all index runs' tails that the view does not doom; v (may be NULL: nothing is doomed) must outlive the index.
 * A damaged run is reported by notice and replaced by the directories of its packs where they can be read, *ret_damaged
 * (may be NULL) counts them. */
MUST_CHECK int index_load(struct repo *r, const struct protocol_view *v, const struct index_opts *o, struct index **ret,
			  uint32_t *ret_damaged, struct err *e);
void index_free(struct index *x);
/*
 * Finds a place of id: 1 found, 0 not there.  nth 0: a full chunk, the first that is found, or else the copy of the
 * least depth; 1..: all copies in a fixed order (at most 16), the one of nth 0 again among them.  bases may be NULL,
 * else takes BASES_MAX ids.  A writer's index leaves out copies that must not be built upon: in packs that don't count,
 * first sealed by slots that it does not trust and verified by nobody (as runs and directories say whose signer may
 * attest that), deltas one of whose bases has no copy that counts.  A damaged block is reported by notice, and the
 * directories of the run's packs serve instead; ERR_NOTFOUND: a run has vanished: load the index again.
 */
MUST_CHECK int index_find(struct index *x, const struct id *id, unsigned nth, struct chunk_place *ret, struct id *bases,
			  struct err *e);
const struct pack_info *index_pack(const struct index *x, uint32_t pack);
uint32_t index_npacks(const struct index *x);
bool index_names_pack(const struct index *x, const char *name);
uint64_t index_nentries(const struct index *x);
/* Calls fn for every entry of every run, in the order of runs. */
typedef int (*index_entry_fn)(void *opaque, const struct id *id, const struct chunk_place *place,
			      const struct id *bases, struct err *e);
MUST_CHECK int index_each(struct index *x, index_entry_fn fn, void *opaque, struct err *e);

/* Adds a pack's directory as if a run named it (orphans, rebuilding, packs of this run before their run is stored). */
struct directory;
MUST_CHECK int index_add_directory(struct index *x, const char *pack_name, uint64_t pack_size, uint64_t envelope_off,
				   uint32_t envelope_len, const struct directory *d, struct err *e);
/* Of a pack that was verified: its name and place, and its chunks, whatever their order. */
struct index_sums {
	struct sum label;
	uint64_t entries;
};
void index_sums_of(const char *pack_name, uint64_t pack_size, uint64_t envelope_off, uint32_t envelope_len,
		   const struct directory *d, struct index_sums *ret);
/* As index_add_directory; the run that names the pack is compared with the sums before it is stored. */
MUST_CHECK int index_add_own(struct index *x, const char *pack_name, uint64_t pack_size, uint64_t envelope_off,
			     uint32_t envelope_len, const struct directory *d, const struct index_sums *sums,
			     struct err *e);
/* Writes one run naming every pack added by index_add_directory that no stored run names yet; nothing to name: 0 and
 * nothing is written.  After it the entries are served from the stored run and their memory is released. */
MUST_CHECK int index_store_run(struct index *x, const struct session_id *session, uint64_t *ret_bytes, struct err *e);

#endif
