/*
 * index.c - looking ids up: memory first, then the runs that the filter and the fences leave, those that answered last
 * before others.
 *
 * A lookup gathers a few candidates under the lock, and reads their blocks without it.  A block that can't be read is
 * replaced by what the packs' directories say (index_repair.c), and the lookup starts again.
 */
#include <assert.h>
#include <inttypes.h>

#include "base/num.h"
#include "repo/index_internal.h"

#define BLOCK_TRIES 4u
#define COPIES_MAX 16u /* of one id that are told apart */
#define CANDIDATES 16u
#define BASES_TRIED_MAX 64u /* lookups that one delta chunk may cost */
#define AGAIN 2 /* a run was repaired: look anew */

struct copies {
	unsigned n;
	bool enough; /* one of depth 0 will do */
	struct run_entry e[COPIES_MAX];
};

struct lookup {
	struct index *x;
	const struct id *id;
	unsigned levels; /* of bases that may be needed */
	unsigned *tried; /* lookups of bases so far */
};

static int find_copies(const struct lookup *l, struct copies *c, struct err *e);

/* Whether a writer may build upon the entry's bases: each has a copy that counts (docs/design.md, 7). */
static int bases_usable(const struct lookup *l, const struct run_entry *en, struct err *e)
{
	for (unsigned b = 0; b < en->nbases; b++) {
		struct lookup base = { l->x, &en->bases[b], l->levels - 1, l->tried };
		struct copies c = { .enough = true };

		if (!l->levels || ++*l->tried > BASES_TRIED_MAX)
			return 0;
		if (find_copies(&base, &c, e) < 0)
			return e->code;
		if (!c.n)
			return 0;
	}
	return 1;
}

static bool pack_counts(struct index *x, const struct run_entry *en)
{
	const struct index_pack_row *p;
	bool ok;

	pthread_rwlock_rdlock(&x->mem_lock);
	p = x->packs.p[en->pack];
	ok = p->info.usable && !(p->distrusted && en->segment < p->info.nsegments &&
				 (p->distrusted[en->segment / 8] >> en->segment % 8 & 1));
	pthread_rwlock_unlock(&x->mem_lock);
	return ok;
}

/* Less depth first; then by place, so that the order does not depend on what was asked before. */
static bool before(const struct run_entry *a, const struct run_entry *b)
{
	if (a->depth != b->depth)
		return a->depth < b->depth;
	if (a->pack != b->pack)
		return a->pack < b->pack;
	return a->segment != b->segment ? a->segment < b->segment : a->chunk < b->chunk;
}

/* Takes an entry in unless it does not count, or is there.  1: enough. */
static int take_copy(const struct lookup *l, struct copies *c, const struct run_entry *en, struct err *e)
{
	unsigned i;

	if (!pack_counts(l->x, en))
		return 0;
	for (i = 0; i < c->n; i++)
		if (c->e[i].pack == en->pack && c->e[i].segment == en->segment && c->e[i].chunk == en->chunk)
			return 0;
	if (l->x->build && en->nbases) {
		int rc = bases_usable(l, en, e);

		if (rc <= 0)
			return rc;
	}
	for (i = c->n; i > 0 && before(en, &c->e[i - 1]); i--)
		if (i < COPIES_MAX)
			c->e[i] = c->e[i - 1];
	if (i < COPIES_MAX)
		c->e[i] = *en;
	if (c->n < COPIES_MAX)
		c->n++;
	return c->enough && c->e[0].depth == 0;
}

static int collect_mem(void *opaque, const struct run_entry *en, struct err *e)
{
	struct copies *c = opaque;

	(void)e;
	if (c->n < COPIES_MAX)
		c->e[c->n++] = *en;
	return 0;
}

/* Entries in memory: copied under the lock, judged without it. */
static int find_in_memory(const struct lookup *l, struct copies *c, struct err *e)
{
	struct copies found = { 0 };
	int rc;

	pthread_rwlock_rdlock(&l->x->mem_lock);
	rc = index_mem_each_of(&l->x->mem, l->id, collect_mem, &found, e);
	pthread_rwlock_unlock(&l->x->mem_lock);
	for (unsigned i = 0; rc == 0 && i < found.n; i++)
		rc = take_copy(l, c, &found.e[i], e);
	return rc;
}

struct candidate {
	uint32_t number, block;
	struct index_run *run;
};

/* The block of a run that may hold id; mem_lock held. */
static bool candidate_of(const struct index *x, uint32_t number, const struct id *id, struct candidate *ret)
{
	struct index_run *run = x->runs.p[number];
	uint32_t lo = 0, hi = run->shape.nblocks;

	if (x->filter.lines && !index_filter_may(&x->filter, id, number))
		return false;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (id_cmp(&run->shape.fences[mid].first, id) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0 || index_block_dead(run, lo - 1))
		return false;
	*ret = (struct candidate){ number, lo - 1, run };
	return true;
}

/* Runs in the order in which they are tried: recent ones, then from the newest on. */
struct cursor {
	uint32_t recent[INDEX_RECENT];
	unsigned step; /* the next of recent */
	uint32_t left; /* runs below this one are to be tried */
	bool started;
};

static unsigned gather(const struct lookup *l, struct cursor *cur, struct candidate *out)
{
	struct index *x = l->x;
	unsigned n = 0;

	pthread_rwlock_rdlock(&x->mem_lock);
	if (!cur->started) {
		cur->left = (uint32_t)x->runs.n;
		cur->started = true;
		for (unsigned i = 0; i < INDEX_RECENT; i++)
			cur->recent[i] = atomic_load_explicit(&x->recent[i], memory_order_relaxed);
	}
	for (; cur->step < INDEX_RECENT && n < CANDIDATES; cur->step++)
		if (cur->recent[cur->step] < cur->left && candidate_of(x, cur->recent[cur->step], l->id, &out[n]))
			n++;
	while (cur->step == INDEX_RECENT && cur->left > 0 && n < CANDIDATES) {
		uint32_t run = --cur->left;
		bool tried = false;

		for (unsigned i = 0; i < INDEX_RECENT; i++)
			tried |= cur->recent[i] == run;
		if (!tried && candidate_of(x, run, l->id, &out[n]))
			n++;
	}
	pthread_rwlock_unlock(&x->mem_lock);
	return n;
}

static void note_recent(struct index *x, uint32_t run)
{
	uint32_t carry = run;

	for (unsigned i = 0; i < INDEX_RECENT; i++) {
		uint32_t was = atomic_exchange_explicit(&x->recent[i], carry, memory_order_relaxed);

		if (was == run)
			return;
		carry = was;
	}
}

/* The block, from the cache or read into it; to be given back. */
static int block_of(struct index *x, const struct candidate *c, struct run_block **ret, struct err *e)
{
	CLEANUP(free_ptr) struct run_block *b = NULL;
	struct run_block *cached = index_cache_get(&x->cache, c->number, c->block);

	if (!cached) {
		b = malloc(sizeof(*b));
		if (!b)
			return err_set(e, ERR_NOMEM, "block of the index");
		if (index_block_read(x->repo, c->run, c->block, b, e) < 0)
			return e->code;
		cached = index_cache_add(&x->cache, c->number, c->block, b);
		if (!cached)
			return err_set(e, ERR_NOMEM, "block of the index");
	}
	*ret = cached;
	return 0;
}

static int find_in_run(const struct lookup *l, const struct candidate *cand, struct copies *c, struct err *e)
{
	struct run_block *b = NULL;
	struct run_entry en;
	int rc;

	if (block_of(l->x, cand, &b, e) < 0) {
		if (!index_is_damage(e->code))
			return e->code;
		err_clear(e);
		return index_repair_run(l->x, cand->number, e) < 0 ? e->code : AGAIN;
	}
	rc = run_block_find(b, l->id, &en);
	index_cache_put_back(&l->x->cache, b);
	if (!rc)
		return 0;
	note_recent(l->x, cand->number);
	en.pack = cand->run->pack[en.pack];
	return take_copy(l, c, &en, e);
}

static int find_once(const struct lookup *l, struct copies *c, struct err *e)
{
	struct candidate cand[CANDIDATES];
	struct cursor cur = { 0 };
	int rc = find_in_memory(l, c, e);

	while (rc == 0) {
		unsigned n = gather(l, &cur, cand);

		if (!n)
			return 0;
		for (unsigned i = 0; i < n && rc == 0; i++)
			rc = find_in_run(l, &cand[i], c, e);
	}
	return rc;
}

static int find_copies(const struct lookup *l, struct copies *c, struct err *e)
{
	uint32_t left = index_repairs_max(l->x);
	int rc;

	do {
		c->n = 0;
		rc = find_once(l, c, e);
	} while (rc == AGAIN && left--);
	if (rc == AGAIN)
		return err_set(e, ERR_CORRUPT, "blocks of it read differently each time");
	return rc < 0 ? rc : 0;
}

int index_find(struct index *x, const struct id *id, unsigned nth, struct chunk_place *ret, struct id *bases,
	       struct err *e)
{
	unsigned tried = 0, i = nth ? nth - 1 : 0;
	struct lookup l = { x, id, DELTA_DEPTH_MAX, &tried };
	struct copies c = { .enough = nth == 0 };

	if (index_filter_ready(x, e) < 0 || find_copies(&l, &c, e) < 0)
		return err_ctx(e, "index");
	if (i >= c.n)
		return 0;
	*ret = (struct chunk_place){ .pack = c.e[i].pack,
				     .segment = c.e[i].segment,
				     .chunk = c.e[i].chunk,
				     .nbases = c.e[i].nbases,
				     .depth = c.e[i].depth };
	for (unsigned b = 0; bases && b < c.e[i].nbases; b++)
		bases[b] = c.e[i].bases[b];
	return 1;
}

uint64_t index_nentries(const struct index *x)
{
	struct index *m = (struct index *)(uintptr_t)x; /* locking is not a change */
	uint64_t n;

	pthread_rwlock_rdlock(&m->mem_lock);
	n = x->nentries + x->mem.entries.n;
	pthread_rwlock_unlock(&m->mem_lock);
	return n;
}

static int call_each(index_entry_fn fn, void *opaque, const struct run_entry *en, uint32_t pack, struct err *e)
{
	struct chunk_place p = {
		.pack = pack, .segment = en->segment, .chunk = en->chunk, .nbases = en->nbases, .depth = en->depth
	};

	return fn(opaque, &en->id, &p, en->bases, e);
}

/* 1: the block is in b; 0: it is dead, and its entries are in memory. */
static int read_or_repair(struct index *x, uint32_t number, uint32_t block, struct run_block *b, struct err *e)
{
	struct index_run *run = x->runs.p[number];

	for (unsigned tries = 0; tries < BLOCK_TRIES; tries++) {
		bool dead;

		pthread_rwlock_rdlock(&x->mem_lock);
		dead = index_block_dead(run, block);
		pthread_rwlock_unlock(&x->mem_lock);
		if (dead)
			return 0;
		if (index_block_read(x->repo, run, block, b, e) == 0)
			return 1;
		if (!index_is_damage(e->code))
			return e->code;
		err_clear(e);
		/* may find it readable after all */
		if (index_repair_run(x, number, e) < 0)
			return e->code;
	}
	return err_set(e, ERR_CORRUPT, "%s: block %" PRIu32 " of it reads differently each time", run->name, block);
}

static int each_of_run(struct index *x, uint32_t number, index_entry_fn fn, void *opaque, struct err *e)
{
	CLEANUP(free_ptr) struct run_block *b = malloc(sizeof(*b));
	struct index_run *run = x->runs.p[number];

	if (!b)
		return err_set(e, ERR_NOMEM, "block of the index");
	for (uint32_t i = 0; i < run->shape.nblocks; i++) {
		int found = read_or_repair(x, number, i, b, e);

		if (found < 0)
			return found;
		if (!found)
			continue; /* its entries come last, from memory */
		for (uint32_t k = 0; k < b->n; k++) {
			struct run_entry en;
			int rc;

			run_block_entry(b, k, &en);
			rc = call_each(fn, opaque, &en, run->pack[en.pack], e);
			if (rc != 0)
				return rc;
		}
	}
	return 0;
}

int index_each(struct index *x, index_entry_fn fn, void *opaque, struct err *e)
{
	for (uint32_t i = 0; i < x->runs.n; i++) {
		int rc = each_of_run(x, i, fn, opaque, e);

		if (rc != 0)
			return rc;
	}
	for (size_t i = 0;; i++) {
		struct run_entry en;
		bool more;
		int rc;

		pthread_rwlock_rdlock(&x->mem_lock);
		more = i < x->mem.entries.n;
		if (more)
			index_mem_entry(&x->mem, i, &en);
		pthread_rwlock_unlock(&x->mem_lock);
		rc = more ? call_each(fn, opaque, &en, en.pack, e) : 0;
		if (!more || rc != 0)
			return rc;
	}
}
