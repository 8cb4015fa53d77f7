/*
 * protocol_internal.h - one protocol object in memory, its JSON, and reading all of a type (docs/format.md, section
 * 10).
 */
#ifndef KEDGE_REPO_PROTOCOL_INTERNAL_H
#define KEDGE_REPO_PROTOCOL_INTERNAL_H

#include "base/vec.h"
#include "repo/object.h"
#include "repo/protocol.h"

/* Every member that any of them has; which ones count depends on the type. */
struct protocol_object {
	enum object_type type;
	struct slot_id slot;
	struct session_id session;
	int64_t time_ns;
	enum session_kind kind;			/* session */
	char *host, *vm, *purpose;		/* session (vm: NULL = none); purpose: read session */
	uint64_t number;			/* renewal */
	bool done;				/* end marker */
	struct slot_id evicted_slot;		/* eviction */
	struct session_id evicted_session;
	bool evicted_collector;
	char *epoch;				/* sweep record */
	char *manifest;				/* tombstone, restore record */
	int64_t until_ns;			/* extension */
	struct slot_id removes;			/* removal */
	/* Names, sorted: */
	struct name_list epochs;		/* session */
	struct name_list points;		/* read session */
	struct name_list condemned;		/* epoch: packs, manifests */
	struct name_list evictions, accepted, reprieved;	/* sweep record */
	struct name_list doomed;		/* sweep record, doomed list: packs, runs, manifests */
	struct name_list sweeps;		/* doomed list */
	struct name_list tombstones;		/* restore record */
	struct name_list objects;		/* extension */
};
void protocol_object_free(struct protocol_object *p);
DEFINE_CLEANUP(struct protocol_object, protocol_object_free)

MUST_CHECK int protocol_encode(const struct protocol_object *p, char **ret, size_t *ret_len, struct err *e);
MUST_CHECK int protocol_decode(enum object_type type, const void *json, size_t len, struct protocol_object **ret,
			       struct err *e);

/* Seals and puts it under the own slot and p->session; fills in slot and time first.  name takes OBJECT_NAME_BYTES. */
MUST_CHECK int protocol_put(struct repo *r, struct protocol_object *p, char *name, struct err *e);
/* Gets one and checks that what it says of itself fits its name. */
MUST_CHECK int protocol_get(struct repo *r, const char *name, struct protocol_object **ret, struct err *e);

/* All objects of a type that are there, sorted by name. */
struct protocol_set {
	VEC(struct protocol_object *) p;
	VEC(char *) names;		/* in step with p */
	VEC(char *) unread;		/* names of those that were left out */
};
void protocol_set_done(struct protocol_set *s);
/* What cannot be read or may not count is reported by notice and left out; what vanishes between listing and reading is
 * just absent. */
MUST_CHECK int protocol_set_load(struct repo *r, enum object_type type, struct protocol_set *ret, struct err *e);

/* After a post and before the listing that is to show whether others posted, too: where listings lag, it waits the
 * settling time. */
MUST_CHECK int protocol_settle(struct repo *r, struct err *e);

/* --- evaluation (protocol_view.c); also for tests, which make the sets themselves --------------------------------- */
struct sweep_verdict {
	bool evicted;		/* its collector's session is evicted */
	bool is_void, firm;
};
struct protocol_view {
	struct protocol_set tombstones, restores, epochs, sweeps, doomed_lists, evictions;
	struct sweep_verdict *verdicts;		/* in step with sweeps */
	struct name_list doomed, condemned;	/* condemned contains doomed */
	struct name_list forgotten, forgotten_build;	/* manifests: for reading, for building upon */
};
/* Works out the verdicts and lists below from the sets, once. */
MUST_CHECK int protocol_view_settle(struct protocol_view *v, struct err *e);
/* True when a manifest that is not in the store any more need not be missed: a tombstone that counts names that hash,
 * or a session of the slot was evicted (its manifests may be void and gone). */
bool protocol_explains_missing(const struct protocol_view *v, const struct slot_id *slot, const struct id *hash);

#endif
