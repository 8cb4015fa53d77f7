/*
 * check.c - the order of a check: manifests first, then all objects but packs, then the index, packs, trees and damage.
 * What was written later can't be missing from what was listed before.
 */
#include "repo/check_internal.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>

#define BUDGET_DEFAULT ((size_t)128 << 20)
#define BUDGET_MIN ((size_t)32 << 20)
#define BAD_PLACES_MAX ((size_t)256 << 10)

int check_report(struct check *c, const struct check_finding *f, struct err *e)
{
	uint64_t *count[] = { &c->res.infos, &c->res.warnings, &c->res.damages };

	++*count[f->severity];
	return c->fn ? c->fn(c->opaque, f, e) : 0;
}

int check_find(struct check *c, enum check_severity s, const char *what, const char *object, struct err *e,
	       const char *fmt, ...)
{
	struct check_finding f = { .severity = s, .what = what, .object = object };
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f.text = text;
	return check_report(c, &f, e);
}

bool check_is_final(int code)
{
	return code == ERR_NOMEM || code == ERR_CANCELLED || code == ERR_REFUSED || code == ERR_INTERNAL || code == ERR_TRANSIENT;
}

int check_bad_place(struct check *c, uint32_t pack, uint32_t segment, uint32_t chunk, const struct id *id,
		    struct err *e)
{
	struct bad_place *p;

	if (c->bad.n == BAD_PLACES_MAX) { /* a heap of rubble: take all of it for bad */
		c->bad_pack[pack] = true;
		return 0;
	}
	p = VEC_PUSH(&c->bad, e);
	if (!p)
		return e->code;
	*p = (struct bad_place){ .pack = pack, .segment = segment, .chunk = chunk };
	if (id)
		p->id = *id;
	return 0;
}

static int cmp_bad(const void *a, const void *b)
{
	const struct bad_place *x = a, *y = b;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	if (x->chunk != y->chunk)
		return x->chunk < y->chunk ? -1 : 1;
	return id_cmp(&x->id, &y->id);
}

static void sort_bad(struct check *c)
{
	if (c->bad.n)
		qsort(c->bad.p, c->bad.n, sizeof(*c->bad.p), cmp_bad);
}

bool check_place_good(const struct check *c, const struct id *id, const struct chunk_place *p)
{
	struct bad_place key = { .pack = p->pack, .segment = p->segment, .chunk = CHECK_ALL_CHUNKS };
	bool bad;

	if (p->pack >= c->npacks || !c->size[p->pack] || c->bad_pack[p->pack])
		return false;
	if (!c->bad.n)
		return true;
	bad = bsearch(&key, c->bad.p, c->bad.n, sizeof(key), cmp_bad);
	key.chunk = p->chunk;
	bad = bad || bsearch(&key, c->bad.p, c->bad.n, sizeof(key), cmp_bad);
	key.id = *id;
	return !bad && !bsearch(&key, c->bad.p, c->bad.n, sizeof(key), cmp_bad);
}

static int take_problem(void *opaque, const struct backup_problem *p, struct err *e)
{
	struct check *c = opaque;
	struct check_problem *to = VEC_PUSH(&c->problems, e);

	if (!to)
		return e->code;
	*to = (struct check_problem){ strdup(p->what), strdup(p->object), p->vm ? strdup(p->vm) : NULL,
				      strdup(p->text) };
	if (!to->what || !to->object || !to->text || (p->vm && !to->vm))
		return err_set(e, ERR_NOMEM, "no memory for a finding");
	return 0;
}

static int load_backups(struct check *c, struct err *e)
{
	if (repo_own_role(c->r) == ROLE_PUT)
		return check_find(c, CHECK_INFO, "manifests-unread", NULL, e,
				  "the key in use reads no manifests: what backups need was not checked");
	if (repo_backups_told(c->r, take_problem, c, &c->backups, e) < 0)
		return e->code;
	c->has_backups = true;
	c->res.backups = c->backups.n;
	for (size_t i = 0; i < c->backups.n; i++)
		c->res.points += c->backups.p[i].m->states.n;
	return 0;
}

static int load_index(struct check *c, struct err *e)
{
	struct index_opts o = { .max_bytes = c->budget / 4 };

	if (index_load(c->r, c->view, &o, &c->x, &c->runs_damaged, e) < 0 || check_lost_runs(c, e) < 0)
		return e->code;
	if (c->run_lost && !c->runs_damaged) {	/* else the index has the packs that no run names */
		index_free(STEAL(c->x));
		o.unnamed = true;
		if (index_load(c->r, c->view, &o, &c->x, &c->runs_damaged, e) < 0)
			return e->code;
	}
	if (repo_reader_on(c->r, c->x, c->budget / 8, &c->rd, e) < 0)
		return e->code;
	c->npacks = index_npacks(c->x);
	c->size = calloc(c->npacks + 1u, sizeof(*c->size));
	c->bad_pack = calloc(c->npacks + 1u, sizeof(*c->bad_pack));
	if (!c->size || !c->bad_pack)
		return err_set(e, ERR_NOMEM, "%" PRIu32 " packs", c->npacks);
	if (c->runs_damaged)
		return check_find(c, CHECK_DAMAGE, "runs-damaged", NULL, e,
				  "%" PRIu32 " index run%s can't be read; the directories of the packs serve instead",
				  c->runs_damaged, c->runs_damaged == 1 ? "" : "s");
	return 0;
}

/* Blocks that index_each met and replaced by the packs' directories. */
static int report_blocks(struct check *c, struct err *e)
{
	for (size_t i = 0; i < c->x->runs.n; i++) {
		const struct index_run *run = c->x->runs.p[i];
		uint32_t n = 0;

		for (uint32_t k = 0; k < run->shape.nblocks; k++)
			n += index_block_dead(run, k);
		if (n && check_find(c, CHECK_DAMAGE, "run-damaged", run->name, e,
				    "%" PRIu32 " of its %" PRIu32
				    " blocks are damaged; the directories of its packs serve instead",
				    n, run->shape.nblocks) < 0)
			return e->code;
	}
	return 0;
}

static void check_done(struct check *c)
{
	repo_reader_free(c->rd);
	index_free(c->x);
	protocol_free(c->view);
	backup_list_free(&c->backups);
	free(c->size);
	free(c->bad_pack);
	for (size_t i = 0; i < c->problems.n; i++) {
		free(c->problems.p[i].what);
		free(c->problems.p[i].object);
		free(c->problems.p[i].vm);
		free(c->problems.p[i].text);
	}
	VEC_DONE(&c->problems);
	check_sessions_done(&c->sessions);
	VEC_DONE(&c->bad);
	id_set_done(&c->lost);
}

int repo_check(struct repo *r, const struct check_opts *o, check_fn fn, void *opaque, struct check_result *ret,
	       struct err *e)
{
	CLEANUP(check_done) struct check c = { .r = r, .o = *o, .fn = fn, .opaque = opaque };

	if (o->read == CHECK_READ_PERCENT && (o->percent < 1 || o->percent > 100))
		return err_set(e, ERR_INVALID, "%u percent of the packs", o->percent);
	c.cancel = o->cancel ? o->cancel : repo_cancel(r);
	c.budget = o->max_bytes ? o->max_bytes : BUDGET_DEFAULT;
	if (c.budget < BUDGET_MIN)
		c.budget = BUDGET_MIN;
	while (!c.o.seed)
		randombytes_buf(&c.o.seed, sizeof(c.o.seed));
	c.res.seed = c.o.seed;
	if (load_backups(&c, e) < 0 || protocol_load(r, true, &c.view, e) < 0 || check_objects(&c, e) < 0 ||
	    load_index(&c, e) < 0 || check_packs(&c, e) < 0 || report_blocks(&c, e) < 0)
		return err_ctx(e, "check");
	if (o->read != CHECK_READ_NONE && check_data(&c, e) < 0)
		return err_ctx(e, "check");
	sort_bad(&c);
	if (c.has_backups && (check_trees(&c, e) < 0 || check_map_damage(&c, e) < 0))
		return err_ctx(e, "check");
	*ret = c.res;
	return 0;
}
