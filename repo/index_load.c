/*
 * index_load.c - the runs of a repository as one index; what damaged runs named comes from the packs themselves.
 */
#include <inttypes.h>

#include "base/num.h"
#include "repo/index_internal.h"
#include "repo/protocol.h"
#include "transport/store.h"

#define MAX_BYTES_DEFAULT ((size_t)64 << 20)
#define TRIES 4 /* runs that vanish while they are listed: a collector has merged them */

struct listed {
	char name[OBJECT_NAME_BYTES];
	uint64_t size;
	int64_t mtime_ns;
};
struct listing {
	struct repo *r;
	const struct protocol_view *view;
	enum object_type type;
	VEC(struct listed) found;
};

static void listing_done(struct listing *l)
{
	VEC_DONE(&l->found);
}

static int take_name(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct listing *l = opaque;
	struct object_name n;
	struct listed *to;

	if (!object_name_parse(name, &n) || n.type != l->type) {
		repo_notice(l->r, "%s: not an object of kedge; ignored", name);
		return 0;
	}
	if (l->view && protocol_doomed(l->view, name))
		return 0;
	to = VEC_PUSH(&l->found, e);
	if (!to)
		return e->code;
	snprintf(to->name, sizeof(to->name), "%s", name);
	to->size = st->size;
	to->mtime_ns = st->mtime_ns;
	return 0;
}

/* Oldest first, as far as the store knows. */
static int cmp_listed(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	if (x->mtime_ns != y->mtime_ns)
		return x->mtime_ns < y->mtime_ns ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int list_objects(struct listing *l, struct err *e)
{
	if (store_list(repo_store(l->r), object_prefix(l->type), take_name, l, e) < 0)
		return e->code;
	if (l->found.n)
		qsort(l->found.p, l->found.n, sizeof(*l->found.p), cmp_listed);
	return 0;
}

static int adopt_packs(struct index *x, struct index_run *run, const uint32_t *slot, struct err *e)
{
	for (size_t i = 0; i < run->tail.packs.n; i++) {
		const struct run_pack *p = &run->tail.packs.p[i];
		bool is_new = false;

		if (index_pack_row(x, p, &run->pack[i], &is_new, e) < 0)
			return e->code;
		x->packs.p[run->pack[i]]->named = true;
		for (uint32_t s = 0; is_new && s < p->nsegments; s++) {
			uint32_t v = run->tail.segments.p[p->first_segment + s];

			if (index_pack_trust(x, x->packs.p[run->pack[i]], s, slot[v / 2] * 2 + (v & 1), e) < 0)
				return e->code;
		}
	}
	return 0;
}

int index_adopt_run(struct index *x, struct index_run *run, struct err *e)
{
	CLEANUP(free_ptr) uint32_t *slot = calloc(run->tail.slots.n + 1, sizeof(*slot));
	struct index_run **to;
	int rc;

	if (!slot)
		return err_set(e, ERR_NOMEM, "index run");
	for (size_t i = 0; i < run->tail.slots.n; i++)
		if (index_slot(x, &run->tail.slots.p[i], &slot[i], e) < 0)
			return e->code;
	pthread_rwlock_wrlock(&x->mem_lock);
	rc = adopt_packs(x, run, slot, e);
	to = rc < 0 ? NULL : VEC_PUSH(&x->runs, e);
	if (to) {
		*to = run;
		x->nentries += run->nentries;
		run_tail_done(&run->tail);
	}
	pthread_rwlock_unlock(&x->mem_lock);
	return to ? 0 : e->code;
}

/* A run says which chunk is where, who sealed it, and who verified it: a writer believes those that may attest that. */
static bool believes_run(const struct index *x, const char *name)
{
	struct object_name n;

	return !x->build || (object_name_parse(name, &n) && repo_slot_attests(x->repo, &n.slot));
}

static int load_run(struct index *x, const struct listed *l, struct err *e)
{
	CLEANUP(index_run_free_cleanup) struct index_run *run = NULL;

	if (!believes_run(x, l->name))
		return 0;
	if (cancel_check(repo_cancel(x->repo), e) < 0 || index_run_open(x->repo, l->name, l->size, NULL, &run, e) < 0 ||
	    index_adopt_run(x, run, e) < 0)
		return e->code;
	run = NULL;
	return 0;
}

static int spill(struct index *x, struct err *e)
{
	int rc;

	pthread_mutex_lock(&x->work);
	rc = index_scratch(x, e);
	pthread_mutex_unlock(&x->work);
	return rc;
}

/* Adds the packs of one kind that no run names: what lost runs knew is among them. */
static int add_orphans(struct index *x, enum object_type type, uint32_t *n, struct err *e)
{
	CLEANUP(listing_done) struct listing l = { .r = x->repo, .view = x->view, .type = type };

	if (list_objects(&l, e) < 0)
		return e->code;
	for (size_t i = 0; i < l.found.n; i++) {
		CLEANUP(directory_free_cleanup) struct directory *d = NULL;
		struct run_pack p = { .size = l.found.p[i].size };
		char text[ERR_CAUSE_BYTES];

		if (index_pack_by_name(x, l.found.p[i].name) >= 0)
			continue;
		if (cancel_check(repo_cancel(x->repo), e) < 0)
			return e->code;
		if (pack_read_directory(x->repo, l.found.p[i].name, p.size, 0, 0, &d, e) < 0) {
			if (!index_is_damage(e->code) && e->code != ERR_NOTFOUND)
				return e->code;
			repo_notice(x->repo, "pack left out: %s", err_text(e, text, sizeof(text)));
			err_clear(e);
			continue;
		}
		if (!object_name_parse(l.found.p[i].name, &p.name))
			continue; /* was checked when it was listed */
		p.generation = d->generation;
		p.nsegments = (uint32_t)d->segments.n;
		p.envelope_len = d->envelope_len;
		p.envelope_off = p.size - TRAILER_BYTES - d->envelope_len;
		if (index_add_pack(x, &p, d, false, e) < 0 || spill(x, e) < 0)
			return e->code;
		++*n;
	}
	return 0;
}

/* 1: a run has vanished since it was listed. */
static int load_runs(struct index *x, uint32_t *damaged, struct err *e)
{
	CLEANUP(listing_done) struct listing l = { .r = x->repo, .view = x->view, .type = OBJECT_RUN_TAIL };
	CLEANUP(free_ptr) char **names = NULL;

	if (list_objects(&l, e) < 0)
		return e->code;
	names = calloc(l.found.n + 1, sizeof(*names));
	if (!names)
		return err_set(e, ERR_NOMEM, "%zu index runs", l.found.n);
	for (size_t i = 0; i < l.found.n; i++) {
		char text[ERR_CAUSE_BYTES];

		names[i] = l.found.p[i].name;
		if (load_run(x, &l.found.p[i], e) == 0)
			continue;
		if (e->code == ERR_NOTFOUND) {
			err_clear(e);
			return 1;
		}
		if (!index_is_damage(e->code))
			return e->code;
		++*damaged;
		repo_notice(x->repo, "index run left out: %s", err_text(e, text, sizeof(text)));
		err_clear(e);
	}
	index_cache_clean(x->repo, names, l.found.n);
	return 0;
}

static int index_new(struct repo *r, const struct protocol_view *v, const struct index_opts *o, struct index **ret,
		     struct err *e)
{
	struct index *x = calloc(1, sizeof(*x));

	if (!x)
		return err_set(e, ERR_NOMEM, "index");
	x->repo = r;
	x->view = v;
	x->build = o && o->build;
	x->max_bytes = o && o->max_bytes ? o->max_bytes : MAX_BYTES_DEFAULT;
	if (index_cache_init(&x->cache, x->max_bytes, e) < 0) {
		free(x);
		return e->code;
	}
	pthread_mutex_init(&x->work, NULL);
	pthread_rwlock_init(&x->mem_lock, NULL);
	*ret = x;
	return 0;
}

void index_free(struct index *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->runs.n; i++)
		index_run_free(x->runs.p[i]);
	for (size_t i = 0; i < x->packs.n; i++) {
		free(x->packs.p[i]->distrusted);
		free(x->packs.p[i]->segments);
		free(x->packs.p[i]);
	}
	VEC_DONE(&x->runs);
	VEC_DONE(&x->packs);
	VEC_DONE(&x->slots);
	free(x->by_name);
	index_mem_done(&x->mem);
	index_filter_done(&x->filter);
	index_cache_done(&x->cache);
	pthread_rwlock_destroy(&x->mem_lock);
	pthread_mutex_destroy(&x->work);
	free(x);
}

static void index_free_cleanup(struct index **x)
{
	index_free(*x);
}

static int load_once(struct repo *r, const struct protocol_view *v, const struct index_opts *o, struct index **ret,
		     uint32_t *ret_damaged, struct err *e)
{
	CLEANUP(index_free_cleanup) struct index *x = NULL;
	uint32_t damaged = 0, found = 0;
	int rc;

	if (index_new(r, v, o, &x, e) < 0)
		return e->code;
	rc = load_runs(x, &damaged, e);
	if (rc != 0)
		return rc;
	if (damaged || (o && o->unnamed)) {
		if (add_orphans(x, OBJECT_DATA_SEGMENT, &found, e) < 0 ||
		    add_orphans(x, OBJECT_NODE_SEGMENT, &found, e) < 0)
			return e->code;
		if (damaged)
			repo_notice(r,
				    "%" PRIu32 " index run%s damaged: the directories of %" PRIu32
				    " packs that no other run names serve instead",
				    damaged, damaged == 1 ? " is" : "s are", found);
		else if (found)
			repo_notice(r, "no index run names %" PRIu32 " packs: their directories serve instead", found);
	}
	*ret_damaged = damaged;
	*ret = STEAL(x);
	return 0;
}

int index_load(struct repo *r, const struct protocol_view *v, const struct index_opts *o, struct index **ret,
	       uint32_t *ret_damaged, struct err *e)
{
	uint32_t damaged = 0;

	for (int i = 0; i < TRIES; i++) {
		int rc = load_once(r, v, o, ret, &damaged, e);

		if (rc < 0)
			return err_ctx(e, "index");
		if (rc > 0)
			continue;
		if (ret_damaged)
			*ret_damaged = damaged;
		return 0;
	}
	return err_set(e, ERR_TRANSIENT, "index: its runs vanish as fast as they are listed");
}
