/*
 * check_internal.h - what the parts of a check share.
 */
#ifndef KEDGE_REPO_CHECK_INTERNAL_H
#define KEDGE_REPO_CHECK_INTERNAL_H

#include "base/vec.h"
#include "repo/backups.h"
#include "repo/check.h"
#include "repo/id_set.h"
#include "repo/index_internal.h"
#include "repo/protocol.h"
#include "repo/reader.h"

/*
 * A copy that can't be used.  chunk CHECK_ALL_CHUNKS: its whole segment.  id not zeros: only as a copy of that id,
 * which an entry of the index wrongly places there.
 */
#define CHECK_ALL_CHUNKS UINT32_MAX
struct bad_place {
	uint32_t pack, segment, chunk;
	struct id id;
};

/* What the objects of a session show of it (check_objects.c). */
struct check_session {
	struct slot_id slot;
	struct session_id session;
	unsigned has;
	char *vm;			/* escaped text; NULL: none, or not known */
};
struct check_sessions {
	VEC(struct check_session) p;
};
void check_sessions_done(struct check_sessions *l);

/* A backup that can't be listed, kept until its session is known. */
struct check_problem {
	char *what, *object, *vm, *text;
};

struct check {
	struct repo *r;
	struct check_opts o;
	struct cancel *cancel;
	size_t budget;
	check_fn fn;
	void *opaque;
	struct check_result res;
	struct backup_list backups;
	bool has_backups;		/* the key in use reads manifests */
	VEC(struct check_problem) problems;
	struct check_sessions sessions;	/* sorted */
	uint32_t runs_damaged;
	bool run_lost;			/* packs that no run names are in the index, from their directories */
	struct protocol_view *view;
	struct index *x;
	struct repo_reader *rd;
	uint32_t npacks;
	uint64_t *size;			/* of each pack in the store; 0 = not there */
	bool *bad_pack;			/* nothing of it can be used */
	VEC(struct bad_place) bad;	/* sorted once all are known */
	struct id_set lost;		/* chunks and nodes without a usable copy */
	bool lost_full;			/* there are more than are remembered */
};

/* Reports, and counts. */
MUST_CHECK int check_find(struct check *c, enum check_severity s, const char *what, const char *object, struct err *e,
			  const char *fmt, ...) __attribute__((format(printf, 6, 7)));
MUST_CHECK int check_report(struct check *c, const struct check_finding *f, struct err *e);
MUST_CHECK int check_bad_place(struct check *c, uint32_t pack, uint32_t segment, uint32_t chunk, const struct id *id,
			       struct err *e);
/* Some other copy of the chunk may still be good. */
bool check_place_good(const struct check *c, const struct id *id, const struct chunk_place *p);
/* True for errors that say something of this computer, not of what was read. */
bool check_is_final(int code);

/* check_objects.c: all but packs */
MUST_CHECK int check_objects(struct check *c, struct err *e);
/* check_slots.c: records and key objects, for check_objects at its end */
MUST_CHECK int check_slots(struct check *c, struct err *e);
/* Reports an object by the error that opening it gave; passes on what says something of this computer. */
MUST_CHECK int check_unusable(struct check *c, const char *name, struct err *e);
/* Something is there that a session of the slot has put. */
bool check_slot_used(const struct check *c, const struct slot_id *slot);
/* Compares an object's bytes with its name: ERR_CORRUPT. */
MUST_CHECK int check_hash_of(struct check *c, const char *name, struct err *e);
/* Whether a manifest, an index run of the session of that object is there. */
bool check_committed(const struct check *c, const char *name);
bool check_has_run(const struct check *c, const char *name);
/* check_packs.c: an index run that should be there is not (c->run_lost) */
MUST_CHECK int check_lost_runs(struct check *c, struct err *e);
/* check_packs.c: listing; directories against the index */
MUST_CHECK int check_packs(struct check *c, struct err *e);
MUST_CHECK int check_data(struct check *c, struct err *e);	/* check_data.c: content */
/* check_trees.c: what backups need; and check_damage.c */
MUST_CHECK int check_trees(struct check *c, struct err *e);
MUST_CHECK int check_map_damage(struct check *c, struct err *e);

/* Calls fn for every tree of a backup: disks of states, their VM states, attachments. */
struct check_tree {
	const struct backup *backup;
	const struct manifest_state *state;	/* NULL: an attachment */
	const char *disk;			/* or the attachment's name */
	bool vm_state;
	const struct tree_ref *tree;
};
typedef int (*check_tree_fn)(void *opaque, const struct check_tree *t, struct err *e);
MUST_CHECK int check_each_tree(const struct backup *b, check_tree_fn fn, void *opaque, struct err *e);

#endif
