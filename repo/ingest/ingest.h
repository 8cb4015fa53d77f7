/*
 * ingest.h - image in, chunks out: one backup run of one VM (docs/design.md, 5 and 6).
 *
 * The caller opens the disks' chains (and keeps them open), the repository and a writer; ingest plans, reads, hashes,
 * deduplicates and fills in a manifest.  The commit is the caller's: after ingest_run it checks what it got and calls
 * repo_writer_commit.
 *
 * Stages: one reader per disk (rising offsets, read ahead, page cache left as found), hashers, then one coordinator
 * that deduplicates and hands new chunks to the writer in guest order.  Queues are bounded in bytes.
 * Threads: call from one; it makes its own.
 */
#ifndef KEDGE_REPO_INGEST_INGEST_H
#define KEDGE_REPO_INGEST_INGEST_H

#include "base/cancel.h"
#include "base/progress.h"
#include "formats/chain.h"
#include "repo/backups.h"
#include "repo/writer.h"

/* A snapshot of the machine that one of the chain's layers holds for this disk. */
struct ingest_snapshot {
	const char *id, *name;		/* id is the same for all its disks, and no other's */
	const char *parent_id, *description;	/* may be NULL */
	int64_t date_ns;
	uint32_t layer;			/* of the chain, with its branches */
};

struct ingest_disk {
	const char *name;		/* [A-Za-z0-9._-]+ */
	const char *path;		/* as given, for the manifest */
	struct chain *chain;		/* open; borrowed */
	bool states_all;		/* every state; else those selected */
	const char *const *states;	/* selectors ("current", "snap:X", "layer:F"), NULL-terminated */
	/* A layer that such a snapshot has goes by the snapshot's name, and not as a state of its own. */
	const struct ingest_snapshot *snapshots;
	size_t nsnapshots;
};

struct ingest_attachment {
	const char *name;
	const void *p;
	size_t len;
	uint32_t mode;			/* permission bits of the file */
};

enum audit_mode { AUDIT_DEFAULT, AUDIT_OFF, AUDIT_PERCENT, AUDIT_SECONDS };

struct ingest_opts {
	const char *vm, *vm_name;	/* vm_name: NULL unless vm is an alias */
	const char *machine_uuid, *machine_kind, *machine_source;	/* NULL where not known */
	const struct ingest_disk *disks;
	size_t ndisks;
	const struct ingest_attachment *attachments;
	size_t nattachments;
	const char *const *tags;	/* NULL-terminated; may be NULL */
	/* What the repository lists, loaded after the writer's session began: bases come from here. */
	const struct backup_list *backups;
	unsigned threads;		/* hashers; 0 = the CPUs this process may use */
	size_t max_bytes;		/* for reading and hashing; 0 = 64 MiB */
	enum audit_mode audit;
	double audit_value;		/* percent or seconds */
	bool full_read;			/* nothing is called unchanged: every state is read whole, without a base */
	struct cancel *cancel;
	const struct progress *progress;
};

/* What will be done, before anything is read: for people, and for --dry-run. */
struct ingest_plan_row {
	uint32_t disk;
	char *state;			/* selector */
	enum read_how how;
	char *base;			/* the point or state it starts from, for people; NULL */
	uint64_t bytes_max;		/* guest bytes that may have to be read */
	uint64_t size;
};
struct ingest_plan;
/*
 * Looks at maps and earlier backups; reads no guest data.  What o points to (not o itself) must live as long as the
 * plan.  w NULL: a plan that is only looked at.  A selector that fits no disk: ERR_NOTFOUND.  An image whose maps
 * can't be read is no error here: ingest_run reports it.
 */
MUST_CHECK int ingest_plan_new(struct repo *r, const struct repo_writer *w, const struct ingest_opts *o,
			       struct ingest_plan **ret, struct err *e);
size_t ingest_plan_rows(const struct ingest_plan *p, const struct ingest_plan_row **ret);
void ingest_plan_free(struct ingest_plan *p);

struct ingest_result {
	uint64_t bytes_read, bytes_hashed, bytes_unchanged, bytes_audited;
	bool incomplete;		/* a source was unreadable or changed: the manifest says so; exit 3 */
	bool claim_false;		/* an "unchanged" claim proved false; the disk was read whole; exit 5 */
};
/* Runs the plan, filling *ret_manifest (caller frees) except what commit fills in.  A source that fails or changes
 * makes the result incomplete, not an error; store errors, cancel, out of memory are errors. */
MUST_CHECK int ingest_run(struct ingest_plan *p, struct repo_writer *w, struct manifest **ret_manifest,
			  struct ingest_result *ret, struct err *e);

/*
 * The tree that the current state of a chain has: read whole, hashed as for a backup in the default domain, and stored
 * nowhere.  Equal content has an equal root and height (docs/format.md, 7).  Of o threads, max_bytes, cancel and
 * progress count.  ERR_CHANGED when a file changed meanwhile.
 */
MUST_CHECK int ingest_tree_of(struct repo *r, struct chain *chain, const struct ingest_opts *o, struct tree_ref *ret,
			      struct err *e);

#endif
