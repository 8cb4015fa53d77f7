/*
 * protocol_view.c - what the protocol objects add up to: which manifests count, what is doomed, what is condemned
 * (docs/format.md 10.1; docs/design.md, 7).
 *
 * The order of loading matters, because others write meanwhile and whatever they remove they have first replaced by
 * something: an epoch object goes after its sweep record is there, a sweep record after a doomed list sums it up.  So
 * epochs are listed before sweep records, sweep records before doomed lists.  Evictions come last: a session whose
 * eviction we see, but not the sweep record that decides about it, is pending, which is the careful answer.
 */
#include <assert.h>

#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"

void protocol_free(struct protocol_view *v)
{
	if (!v)
		return;
	protocol_set_done(&v->tombstones);
	protocol_set_done(&v->restores);
	protocol_set_done(&v->epochs);
	protocol_set_done(&v->sweeps);
	protocol_set_done(&v->doomed_lists);
	protocol_set_done(&v->evictions);
	free(v->verdicts);
	name_list_free(&v->doomed);
	name_list_free(&v->condemned);
	name_list_free(&v->forgotten);
	name_list_free(&v->forgotten_build);
	free(v);
}
DEFINE_CLEANUP(struct protocol_view, protocol_free)

static bool evicts(const struct protocol_object *eviction, const struct slot_id *slot, const struct session_id *session)
{
	return session_eq(&eviction->evicted_session, session) && slot_eq(&eviction->evicted_slot, slot);
}

bool protocol_evicted(const struct protocol_view *v, const struct slot_id *slot, const struct session_id *session)
{
	for (size_t i = 0; i < v->evictions.p.n; i++)
		if (evicts(v->evictions.p.p[i], slot, session))
			return true;
	return false;
}

/* True when sweep record s lists an eviction of the session in `evictions`. */
static bool covers(const struct protocol_view *v, const struct protocol_object *s, const struct slot_id *slot,
		   const struct session_id *session)
{
	for (size_t i = 0; i < v->evictions.p.n; i++)
		if (evicts(v->evictions.p.p[i], slot, session) && name_list_has(&s->evictions, v->evictions.names.p[i]))
			return true;
	return false;
}

enum fate { FATE_OPEN, FATE_VOID, FATE_STANDS };

/* What the records whose fate is known say of record i. */
static enum fate judge(const struct protocol_view *v, const uint8_t *fates, size_t i)
{
	const struct protocol_object *r = v->sweeps.p.p[i];
	bool open = false;

	for (size_t k = 0; v->verdicts[i].evicted && k < v->sweeps.p.n; k++) {
		const struct protocol_object *by = v->sweeps.p.p[k];

		if (fates[k] == FATE_VOID || !covers(v, by, &r->slot, &r->session) ||
		    name_list_has(&by->accepted, v->sweeps.names.p[i]))
			continue;
		if (fates[k] == FATE_STANDS)
			return FATE_VOID;
		open = true;
	}
	return open ? FATE_OPEN : FATE_STANDS;
}

/*
 * A record stands when none but void ones could make it void; it is void when one that stands makes it so; again until
 * nothing changes.  The result does not depend on the order.  What is left is a circle: two collectors whose leases had
 * run out evicted each other, so neither has deleted anything.  Void.
 */
static void settle_void(struct protocol_view *v, uint8_t *fates)
{
	bool changed;

	do {
		changed = false;
		for (size_t i = 0; i < v->sweeps.p.n; i++) {
			if (fates[i] != FATE_OPEN)
				continue;
			fates[i] = (uint8_t)judge(v, fates, i);
			changed |= fates[i] != FATE_OPEN;
		}
	} while (changed);
	for (size_t i = 0; i < v->sweeps.p.n; i++)
		v->verdicts[i].is_void = fates[i] != FATE_STANDS;
}

/* Firm spreads from the records whose collector is not evicted to what they accept. */
static bool firm_round(struct protocol_view *v)
{
	bool changed = false;

	for (size_t i = 0; i < v->sweeps.p.n; i++) {
		struct sweep_verdict *x = &v->verdicts[i];

		if (x->firm || x->is_void)
			continue;
		x->firm = !x->evicted;
		for (size_t k = 0; !x->firm && k < v->sweeps.p.n; k++)
			x->firm = k != i && v->verdicts[k].firm &&
				  name_list_has(&v->sweeps.p.p[k]->accepted, v->sweeps.names.p[i]);
		changed |= x->firm;
	}
	return changed;
}

static int settle_sweeps(struct protocol_view *v, struct err *e)
{
	size_t n = v->sweeps.p.n;
	CLEANUP(free_ptr) uint8_t *fates = calloc(n + 1, 1);

	v->verdicts = calloc(n + 1, sizeof(*v->verdicts));
	if (!fates || !v->verdicts)
		return err_set(e, ERR_NOMEM, "no memory for %zu sweep records", n);
	for (size_t i = 0; i < n; i++)
		v->verdicts[i].evicted = protocol_evicted(v, &v->sweeps.p.p[i]->slot, &v->sweeps.p.p[i]->session);
	settle_void(v, fates);
	while (firm_round(v))
		;
	return 0;
}

static int add_names(struct name_list *to, const struct name_list *from, struct err *e)
{
	for (size_t i = 0; i < from->n; i++)
		if (name_list_add(to, from->p[i], e) < 0)
			return e->code;
	return 0;
}

/* A manifest or restore record of an evicted session: void when a record in force covers that eviction and does not
 * accept it. */
static bool commit_void(const struct protocol_view *v, const char *name, const struct object_name *n)
{
	if (!protocol_evicted(v, &n->slot, &n->session))
		return false;
	for (size_t i = 0; i < v->sweeps.p.n; i++)
		if (!v->verdicts[i].is_void && covers(v, v->sweeps.p.p[i], &n->slot, &n->session) &&
		    !name_list_has(&v->sweeps.p.p[i]->accepted, name))
			return true;
	return false;
}

/* Of an evicted session, and no firm record accepts it. */
static bool commit_pending(const struct protocol_view *v, const char *name, const struct object_name *n)
{
	if (!protocol_evicted(v, &n->slot, &n->session))
		return false;
	for (size_t i = 0; i < v->sweeps.p.n; i++)
		if (v->verdicts[i].firm && name_list_has(&v->sweeps.p.p[i]->accepted, name))
			return false;
	return true;
}

static bool undone(const struct protocol_view *v, const char *manifest, const char *tombstone, bool build)
{
	for (size_t i = 0; i < v->restores.p.n; i++) {
		const struct protocol_object *r = v->restores.p.p[i];
		struct object_name n;

		if (strcmp(r->manifest, manifest) != 0 || !name_list_has(&r->tombstones, tombstone) ||
		    !object_name_parse(v->restores.names.p[i], &n) || commit_void(v, v->restores.names.p[i], &n))
			continue;
		if (!build || !commit_pending(v, v->restores.names.p[i], &n))
			return true;
	}
	return false;
}

/* The manifests that a tombstone names which nothing undoes: for reading, and (a pending restore record undoes nothing)
 * for building upon. */
static int settle_forgotten(struct protocol_view *v, struct err *e)
{
	for (size_t i = 0; i < v->tombstones.p.n; i++) {
		const char *manifest = v->tombstones.p.p[i]->manifest, *tombstone = v->tombstones.names.p[i];

		if (!undone(v, manifest, tombstone, false) && name_list_add(&v->forgotten, manifest, e) < 0)
			return e->code;
		if (!undone(v, manifest, tombstone, true) && name_list_add(&v->forgotten_build, manifest, e) < 0)
			return e->code;
	}
	name_list_sort(&v->forgotten);
	name_list_sort(&v->forgotten_build);
	return 0;
}

int protocol_view_settle(struct protocol_view *v, struct err *e)
{
	if (settle_sweeps(v, e) < 0)
		return e->code;
	for (size_t i = 0; i < v->sweeps.p.n; i++)
		if (!v->verdicts[i].is_void && add_names(&v->doomed, &v->sweeps.p.p[i]->doomed, e) < 0)
			return e->code;
	for (size_t i = 0; i < v->doomed_lists.p.n; i++)
		if (add_names(&v->doomed, &v->doomed_lists.p.p[i]->doomed, e) < 0)
			return e->code;
	if (add_names(&v->condemned, &v->doomed, e) < 0)
		return e->code;
	for (size_t i = 0; i < v->epochs.p.n; i++)
		if (add_names(&v->condemned, &v->epochs.p.p[i]->condemned, e) < 0)
			return e->code;
	name_list_sort(&v->doomed);
	name_list_sort(&v->condemned);
	return settle_forgotten(v, e);
}

int protocol_load(struct repo *r, bool epochs, struct protocol_view **ret, struct err *e)
{
	CLEANUP(protocol_free_cleanup) struct protocol_view *v = calloc(1, sizeof(*v));

	if (!v)
		return err_set(e, ERR_NOMEM, "no memory for protocol objects");
	if (protocol_set_load(r, OBJECT_TOMBSTONE, &v->tombstones, e) < 0 ||
	    protocol_set_load(r, OBJECT_RESTORE, &v->restores, e) < 0 ||
	    (epochs && protocol_set_load(r, OBJECT_EPOCH, &v->epochs, e) < 0) ||
	    protocol_set_load(r, OBJECT_SWEEP, &v->sweeps, e) < 0 ||
	    protocol_set_load(r, OBJECT_DOOMED, &v->doomed_lists, e) < 0 ||
	    protocol_set_load(r, OBJECT_EVICTION, &v->evictions, e) < 0 || protocol_view_settle(v, e) < 0)
		return e->code;
	*ret = STEAL(v);
	return 0;
}

enum manifest_standing protocol_standing(const struct protocol_view *v, const char *manifest_name, bool build)
{
	struct object_name n;

	if (!object_name_parse(manifest_name, &n) || n.type != OBJECT_MANIFEST)
		return STANDING_VOID;	/* whatever it is, it is no manifest */
	if (commit_void(v, manifest_name, &n))
		return STANDING_VOID;
	if (name_list_has(&v->doomed, manifest_name))
		return STANDING_FORGOTTEN;	/* for good: a collector removes the object */
	if (name_list_has(build ? &v->forgotten_build : &v->forgotten, manifest_name))
		return STANDING_FORGOTTEN;
	return commit_pending(v, manifest_name, &n) ? STANDING_PENDING : STANDING_LISTED;
}

bool protocol_doomed(const struct protocol_view *v, const char *pack_name)
{
	return name_list_has(&v->doomed, pack_name);
}

bool protocol_condemned(const struct protocol_view *v, const char *pack_name)
{
	return name_list_has(&v->condemned, pack_name);
}

bool protocol_open_epoch(const struct protocol_view *v)
{
	for (size_t i = 0; i < v->epochs.p.n; i++) {
		bool swept = false;

		for (size_t k = 0; !swept && k < v->sweeps.p.n; k++)
			swept = v->verdicts[k].firm && !strcmp(v->sweeps.p.p[k]->epoch, v->epochs.names.p[i]);
		if (!swept)
			return true;
	}
	return false;
}

bool protocol_explains_missing(const struct protocol_view *v, const struct slot_id *slot, const struct id *hash)
{
	struct object_name n;

	for (size_t i = 0; i < v->forgotten.n; i++)	/* what was brought back may not be missing */
		if (object_name_parse(v->forgotten.p[i], &n) && slot_eq(&n.slot, slot) && id_eq(&n.hash, hash))
			return true;
	for (size_t i = 0; i < v->evictions.p.n; i++)
		if (slot_eq(&v->evictions.p.p[i]->evicted_slot, slot))
			return true;
	return false;
}
