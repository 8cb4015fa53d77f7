/*
 * stats.h - what a repository holds: from listings, the index and the manifests; no pack is read.
 */
#ifndef KEDGE_REPO_STATS_H
#define KEDGE_REPO_STATS_H

#include "base/vec.h"
#include "repo/backups.h"
#include "repo/index.h"
#include "repo/object.h"

struct stats_kind {
	uint64_t objects, bytes;
};

struct stats_vm {
	char *vm;
	uint64_t backups, incomplete, states;
	int64_t first_ns, last_ns;	/* ends of the oldest and newest backup */
	uint64_t size;			/* of all disks in the newest backup's current state (or its first), bytes */
	uint64_t logical;		/* of all disks in all states of all backups */
	uint64_t bytes_read, bytes_new, bytes_stored;	/* as its backups say: read, plain bytes of new chunks, put */
};

struct repo_stats {
	/* by enum object_type; packs under the type of their segments, runs under the tail's */
	struct stats_kind kind[OBJECT_TYPE_END];
	struct stats_kind unknown;			/* objects that are none of ours */
	struct stats_kind total;
	uint64_t chunks, nodes;		/* entries of the index in usable packs; an id stored twice counts twice */
	uint64_t delta_chunks;
	uint64_t chunk_bytes;		/* chunks, unpacked */
	uint64_t logical;		/* of all VMs */
	uint64_t unusable_packs;	/* doomed: to be deleted by the next collection */
	VEC(struct stats_vm) vms;	/* by name */
};
/* All of it.  l: as repo_backups lists (all VMs).  Reads every index block once.  repo_stats_free releases. */
MUST_CHECK int repo_stats_collect(struct repo *r, struct index *x, const struct backup_list *l, struct repo_stats **ret,
				  struct err *e);
void repo_stats_free(struct repo_stats *s);	/* NULL is fine */
DEFINE_CLEANUP(struct repo_stats, repo_stats_free)

#endif
