/*
 * index_repair.c - work that reads many blocks: the filter, and what takes the place of blocks that can't be read.
 */
#include <inttypes.h>

#include "base/num.h"
#include "repo/index_internal.h"

/* Few runs are searched without a filter when nobody asks for ids that are not there. */
#define RUNS_WITHOUT_FILTER 8u
#define FILTER_MAX_BYTES ((size_t)32 << 20)
#define CACHE_MIN_BYTES ((size_t)1 << 20)

bool index_block_dead(const struct index_run *run, uint32_t block)
{
	return run->dead[block / 8] >> block % 8 & 1;
}

uint32_t index_repairs_max(struct index *x)
{
	uint32_t n;

	pthread_rwlock_rdlock(&x->mem_lock);
	n = (uint32_t)x->runs.n;
	pthread_rwlock_unlock(&x->mem_lock);
	return n + 3;
}

struct repair {
	struct index *x;
	struct index_run *run;
	uint8_t *bad; /* bit per block */
	uint32_t nbad;
	VEC(struct index_range) ranges;
	uint32_t read; /* directories */
};

static void repair_done(struct repair *r)
{
	free(r->bad);
	VEC_DONE(&r->ranges);
}

/* Reads all blocks of the run; ranges are of the bad ones, neighbours joined. */
static int find_bad_blocks(struct repair *r, struct err *e)
{
	CLEANUP(free_ptr) struct run_block *b = malloc(sizeof(*b));
	const struct run_shape *s = &r->run->shape;
	bool joined = false;

	r->bad = calloc(s->nblocks / 8 + 1, 1);
	if (!b || !r->bad)
		return err_set(e, ERR_NOMEM, "block of the index");
	for (uint32_t i = 0; i < s->nblocks; i++) {
		struct index_range *range;

		if (index_block_dead(r->run, i)) { /* only changed under the work lock, which is held */
			joined = false;
			continue;
		}
		if (cancel_check(repo_cancel(r->x->repo), e) < 0)
			return e->code;
		if (index_block_read(r->x->repo, r->run, i, b, e) == 0) {
			joined = false;
			continue;
		}
		if (!index_is_damage(e->code))
			return e->code;
		err_clear(e);
		r->bad[i / 8] |= (uint8_t)(1u << i % 8);
		r->nbad++;
		range = joined ? &r->ranges.p[r->ranges.n - 1] : VEC_PUSH(&r->ranges, e);
		if (!range)
			return e->code;
		if (!joined)
			range->from = s->fences[i].first;
		range->has_to = i + 1 < s->nblocks;
		if (range->has_to)
			range->to = s->fences[i + 1].first;
		joined = true;
	}
	return 0;
}

static int add_from_pack(struct repair *r, uint32_t pack, struct err *e)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL;
	const struct pack_info *p = index_pack(r->x, pack);
	char text[ERR_CAUSE_BYTES];
	size_t before;
	int rc;

	if (cancel_check(repo_cancel(r->x->repo), e) < 0)
		return e->code;
	if (pack_read_directory(r->x->repo, p->name, p->size, p->envelope_off, p->envelope_len, &d, e) < 0) {
		if (!index_is_damage(e->code) && e->code != ERR_NOTFOUND)
			return e->code;
		repo_notice(r->x->repo, "pack left out: %s", err_text(e, text, sizeof(text)));
		err_clear(e);
		return 0;
	}
	r->read++;
	pthread_rwlock_wrlock(&r->x->mem_lock);
	before = r->x->mem.entries.n;
	rc = index_add_entries(r->x, pack, d, r->ranges.p, r->ranges.n, e);
	r->x->nloose += r->x->mem.entries.n - before;
	pthread_rwlock_unlock(&r->x->mem_lock);
	return rc < 0 ? rc : index_scratch(r->x, e);
}

int index_repair_run(struct index *x, uint32_t run, struct err *e)
{
	CLEANUP(repair_done) struct repair r = { .x = x };
	int rc;

	pthread_mutex_lock(&x->work);
	pthread_rwlock_rdlock(&x->mem_lock);
	r.run = x->runs.p[run];
	pthread_rwlock_unlock(&x->mem_lock);
	rc = find_bad_blocks(&r, e);
	for (uint32_t i = 0; rc == 0 && r.nbad && i < r.run->shape.npacks; i++)
		rc = add_from_pack(&r, r.run->pack[i], e);
	/* What was in bad blocks of lost packs is lost; what other runs hold must stay within reach. */
	if (rc == 0 && r.nbad) {
		repo_notice(x->repo,
			    "%s: %" PRIu32 " of %" PRIu32 " blocks are damaged: the directories of %" PRIu32
			    " packs serve instead",
			    r.run->name, r.nbad, r.run->shape.nblocks, r.read);
		pthread_rwlock_wrlock(&x->mem_lock);
		for (uint32_t i = 0; i <= r.run->shape.nblocks / 8; i++)
			r.run->dead[i] |= r.bad[i];
		pthread_rwlock_unlock(&x->mem_lock);
	}
	pthread_mutex_unlock(&x->work);
	return rc;
}

static int filter_run(struct index *x, struct index_filter *f, uint32_t number, struct err *e)
{
	CLEANUP(free_ptr) struct run_block *b = malloc(sizeof(*b));
	struct index_run *run = x->runs.p[number];

	if (!b)
		return err_set(e, ERR_NOMEM, "block of the index");
	for (uint32_t i = 0; i < run->shape.nblocks; i++) {
		struct run_entry en;

		if (index_block_dead(run, i))
			continue;
		if (cancel_check(repo_cancel(x->repo), e) < 0)
			return e->code;
		if (index_block_read(x->repo, run, i, b, e) < 0)
			return e->code;
		for (uint32_t k = 0; k < b->n; k++) {
			run_block_entry(b, k, &en);
			index_filter_add(f, &en.id, number);
		}
	}
	return 0;
}

/* ret_bad: the run that could not be read; it is to be repaired and the filter built anew.  work is held: nobody adds
 * runs. */
static int build_filter(struct index *x, uint32_t *ret_bad, struct err *e)
{
	size_t max = x->max_bytes / 2 < FILTER_MAX_BYTES ? x->max_bytes / 2 : FILTER_MAX_BYTES;
	struct index_filter f = { 0 };
	size_t used;

	/* Twice what there is: room for what this run adds, before it is built again. */
	if (index_filter_init(&f, x->nentries * 2 + 65536, max, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < x->runs.n; i++) {
		if (filter_run(x, &f, i, e) < 0) {
			index_filter_done(&f);
			*ret_bad = i;
			return e->code;
		}
	}
	used = (size_t)f.nlines * 64;
	pthread_rwlock_wrlock(&x->mem_lock);
	index_filter_done(&x->filter);
	x->filter = f;
	pthread_rwlock_unlock(&x->mem_lock);
	index_cache_limit(&x->cache, x->max_bytes > used + CACHE_MIN_BYTES ? x->max_bytes - used : CACHE_MIN_BYTES);
	return 0;
}

/* Due: there is none, or what there is has twice the entries that it was made for and can still grow. */
static bool filter_due(struct index *x)
{
	size_t max = x->max_bytes / 2 < FILTER_MAX_BYTES ? x->max_bytes / 2 : FILTER_MAX_BYTES;
	bool due;

	pthread_rwlock_rdlock(&x->mem_lock);
	if (!x->filter.lines)
		due = x->runs.n > (x->build ? 0 : RUNS_WITHOUT_FILTER);
	else
		due = x->filter.nentries > 2 * x->filter.capacity && x->filter.nlines < max / 64;
	pthread_rwlock_unlock(&x->mem_lock);
	return due;
}

int index_filter_ready(struct index *x, struct err *e)
{
	uint32_t left = index_repairs_max(x);

	while (filter_due(x)) {
		uint32_t bad = UINT32_MAX;
		int rc = 0;

		pthread_mutex_lock(&x->work);
		if (filter_due(x))
			rc = build_filter(x, &bad, e);
		pthread_mutex_unlock(&x->work);
		if (rc < 0 && (bad == UINT32_MAX || !index_is_damage(rc)))
			return rc;
		if (rc < 0 && !left--)
			return rc;
		if (rc < 0) {
			err_clear(e);
			if (index_repair_run(x, bad, e) < 0)
				return e->code;
		}
	}
	return 0;
}
