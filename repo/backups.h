/*
 * backups.h - which backups a repository lists, and finding a point by its written form (docs/design.md, 7; kedge(1),
 * POINTS).
 */
#ifndef KEDGE_REPO_BACKUPS_H
#define KEDGE_REPO_BACKUPS_H

#include "repo/manifest.h"
#include "repo/repo.h"

struct backup {
	char *name;		/* object name */
	struct id hash;		/* its id: the hash of the manifest object */
	struct manifest *m;
	/* May be read, not built upon: it, or the restore record that brought it back, is of an evicted session that no
	 * sweep has decided about yet. */
	bool pending;
	bool distrusted;	/* its writer is a slot that this one does not trust: not built upon either */
};

struct backup_list {
	struct backup *p;	/* by VM, then end time, oldest first */
	size_t n;
};
void backup_list_free(struct backup_list *l);

/*
 * Lists the backups that count: manifests that open, are signed by a slot that may write that VM, and are neither void
 * nor forgotten (docs/format.md 10.1).  What can't be read or must not count is reported through the repo's notice and
 * left out; *ret_bad (may be NULL) counts those.  vm NULL = all.  Checks seen heads: a store that shows less than it
 * did is reported, and counts as bad.  Put-only keys: ERR_AUTH.
 */
MUST_CHECK int repo_backups(struct repo *r, const char *vm, struct backup_list *ret, uint32_t *ret_bad, struct err *e);
/* The same, and calls fn with each thing that counts as bad.  Strings are valid during the call; negative stops. */
struct backup_problem {
	const char *what;	/* a stable word: "manifest-unusable", "backup-missing", "slot-record-missing" */
	const char *object;	/* its name, as far as it is known: what isn't is '?' */
	const char *vm;		/* NULL: not known */
	const char *text;
};
typedef int (*backup_problem_fn)(void *opaque, const struct backup_problem *p, struct err *e);
MUST_CHECK int repo_backups_told(struct repo *r, backup_problem_fn fn, void *opaque, struct backup_list *ret,
				 struct err *e);

/*
 * The newest manifest of the own slot: its sequence number (0: there is none) and hash, for the next one's sequence and
 * previous.  What this client has seen counts too, so that a store which hides our last backup gets a chain that shows
 * the gap.  Two backups of one slot that run at once may take the same number: harmless, nothing but the report of gaps
 * looks at it.
 */
MUST_CHECK int repo_own_head(struct repo *r, uint64_t *ret_sequence, struct id *ret_hash, struct err *e);
/* Remembers a manifest that was just committed, so that the next run notices when the store no longer shows it.  hash
 * is its id. */
void repo_saw_manifest(struct repo *r, const struct manifest *m, const struct id *hash);

/* A point as it is written: VM[:DISK][@WHEN][/STATE]. */
struct point {
	const struct backup *backup;	/* in the list given */
	uint32_t state;			/* index into its manifest's states */
	bool has_disk;
	uint32_t disk;			/* index into the manifest's disks */
};
/* Finds one.  Nothing fits: ERR_NOTFOUND, saying what there is; several fit: ERR_INVALID, listing them.  A point
 * without STATE is "current".  WHEN other than an id chooses among complete backups only. */
MUST_CHECK int point_find(const struct backup_list *l, const char *text, struct point *ret, struct err *e);
/* Only VM[@WHEN]: the backup; a DISK or STATE is ERR_INVALID. */
MUST_CHECK int backup_find(const struct backup_list *l, const char *text, const struct backup **ret, struct err *e);
/* The row of a disk in a state; NULL if the disk is absent in it. */
const struct manifest_state_disk *point_disk(const struct manifest *m, uint32_t state, uint32_t disk);

#endif
