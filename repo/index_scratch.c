/*
 * index_scratch.c - what lost runs held, read again from the packs' directories, kept in a file of our own: however
 * much it is, memory holds fences of it only.
 *
 * The file is a run's blocks, sealed as they are in the store, and has no name: it is gone with the process.
 */
#include <stdlib.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/num.h"
#include "repo/index_internal.h"
#include "repo/repo_internal.h"

/* Entries that stay in memory: an eighth of the budget. */
static size_t loose_max(const struct index *x)
{
	return (size_t)max_u64(1024, x->max_bytes / 8 / sizeof(struct index_mem_entry));
}

static int open_file(const struct repo *r, int *ret_fd, struct err *e)
{
	const char *dir = r->cache_dir;

	if (dir && fs_mkdirs(dir, 0700, e) == 0 && fs_scratch(dir, ret_fd, e) == 0)
		return 0;
	err_clear(e);
	dir = getenv("TMPDIR");
	return fs_scratch(dir && *dir ? dir : "/var/tmp", ret_fd, e);
}

/* The blocks in their file, as a run without a tail: what it is checked by is in memory. */
static int make_run(struct run_making *m, struct index_run **ret, struct err *e)
{
	CLEANUP(index_run_free_cleanup) struct index_run *run = calloc(1, sizeof(*run));

	if (!run)
		return err_set(e, ERR_NOMEM, "index run");
	run->scratch_fd = -1;
	snprintf(run->name, sizeof(run->name), "temporary file of the index");
	if (open_file(m->x->repo, &run->scratch_fd, e) < 0 ||
	    fs_pwrite_full(run->scratch_fd, m->out.p, m->out.len, 0, e) < 0)
		return err_ctx(e, "%s", run->name);
	for (size_t i = 0; i < m->packs.n; i++) {
		struct run_pack *p = VEC_PUSH(&m->tail.packs, e);

		if (!p)
			return e->code;
		p->nsegments = m->x->packs.p[m->packs.p[i]]->info.nsegments;
	}
	if (run_shape_take(&m->tail, &run->shape, e) < 0)
		return e->code;
	run->size = m->out.len;
	run->generation = repo_generation(m->x->repo);
	run->nentries = m->entries.n;
	run->dead = calloc(run->shape.nblocks / 8 + 1, 1);
	if (!run->dead)
		return err_set(e, ERR_NOMEM, "index run");
	run->pack = STEAL(m->packs.p);
	m->packs.n = m->packs.cap = 0;
	*ret = STEAL(run);
	return 0;
}

/* Memory without what the run has; further copies of its ids stay, as a run has each id once. */
static int rest_of_memory(const struct run_making *m, struct index_mem *ret, struct err *e)
{
	const struct index_mem *mem = &m->x->mem;
	CLEANUP(free_ptr) uint8_t *gone = calloc(mem->entries.n / 8 + 1, 1);
	CLEANUP(index_mem_done) struct index_mem keep = { 0 };
	struct run_entry en;

	if (!gone)
		return err_set(e, ERR_NOMEM, "index of %zu entries in memory", mem->entries.n);
	for (size_t i = 0; i < m->entries.n; i++)
		gone[m->entries.p[i] / 8] |= (uint8_t)(1u << m->entries.p[i] % 8);
	for (size_t i = 0; i < mem->entries.n; i++) {
		if (gone[i / 8] >> i % 8 & 1)
			continue;
		index_mem_entry(mem, i, &en);
		if (index_mem_add(&keep, &en, e) < 0)
			return e->code;
	}
	*ret = keep;
	keep = (struct index_mem){ 0 };
	return 0;
}

/* The run takes the place of what is in memory; nobody sees an entry missing. */
static int hand_over(struct run_making *m, struct index_run *run, struct err *e)
{
	struct index *x = m->x;
	struct index_mem keep, old;
	struct index_run **to;

	if (rest_of_memory(m, &keep, e) < 0)
		return e->code;
	pthread_rwlock_wrlock(&x->mem_lock);
	to = VEC_PUSH(&x->runs, e);
	if (!to) {
		pthread_rwlock_unlock(&x->mem_lock);
		index_mem_done(&keep);
		return e->code;
	}
	*to = run;
	x->nentries += run->nentries;
	for (size_t i = 0; x->filter.lines && i < m->entries.n; i++)
		index_filter_add(&x->filter, &x->mem.entries.p[m->entries.p[i]].id, (uint32_t)x->runs.n - 1);
	for (uint32_t i = 0; i < run->shape.npacks; i++)
		x->packs.p[run->pack[i]]->scratch = true;
	old = x->mem;
	x->mem = keep;
	x->nloose = 0;
	pthread_rwlock_unlock(&x->mem_lock);
	index_mem_done(&old);
	return 0;
}

static int spill(struct run_making *m, struct err *e)
{
	CLEANUP(index_run_free_cleanup) struct index_run *run = NULL;

	if (run_making_packs(m, false, UINT64_MAX, e) < 0 || run_making_entries(m, e) < 0)
		return e->code;
	if (!m->entries.n)
		return 0;
	if (run_making_blocks(m, e) < 0 || make_run(m, &run, e) < 0 || hand_over(m, run, e) < 0)
		return e->code;
	run = NULL;
	return 0;
}

int index_scratch(struct index *x, struct err *e)
{
	CLEANUP(run_making_done) struct run_making m = { .x = x };
	size_t loose;
	int rc;

	buf_init(&m.out, PACK_MAX_BYTES);
	pthread_rwlock_rdlock(&x->mem_lock);
	loose = x->nloose;
	pthread_rwlock_unlock(&x->mem_lock);
	if (loose < loose_max(x) || x->no_scratch)
		return 0;
	rc = spill(&m, e);
	if (rc < 0 && rc != ERR_NOMEM && rc != ERR_INTERNAL) {
		x->no_scratch = true;
		LOG_DEBUG("index: what lost runs held stays in memory: %s", e->cause);
		err_clear(e);
		return 0;
	}
	return rc;
}
