/*
 * planner.c - for each state of each disk the base that leaves least to be read.
 *
 * A state is proven (an earlier backup holds it), or it is read against a base: another state of the same chain that
 * is proven or read before it.  Extents of equal origin hold equal bytes, so what has to be read is where the two
 * maps differ.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/ingest/ingest_internal.h"

bool ingest_fatal(int code)
{
	return code == ERR_NOMEM || code == ERR_CANCELLED || code == ERR_INTERNAL;
}

const char *plan_state_id(const struct plan_state *st)
{
	return st->machine ? st->machine->id : image_state(st->image, st->index)->id;
}

int64_t plan_state_date(const struct plan_state *st)
{
	return st->machine ? st->machine->date_ns : image_state(st->image, st->index)->date_ns;
}

void plan_state_map(const struct plan_state *st, struct map *ret)
{
	map_init(ret, st->image, st->index);
}

uint64_t plan_bytes(uint64_t size, uint32_t chunk_size, uint64_t from, uint64_t to)
{
	uint64_t a = min_u64(size, from * chunk_size);

	return (to > size / chunk_size ? size : to * chunk_size) - a;
}

/* Chunks of the state that must be read against base (NULL: everything), as guest bytes. */
static int count_bytes(const struct ingest_plan *p, const struct plan_state *st, const struct plan_state *base,
		       uint64_t *ret, struct err *e)
{
	struct map mb, mn;
	struct chunk_run run;
	struct grid g;
	uint64_t sum = 0;
	int r;

	plan_state_map(st, &mn);
	if (base)
		plan_state_map(base, &mb);
	if (grid_init(&g, base ? &mb : NULL, &mn, p->chunk_size, 0, UINT64_MAX, e) < 0)
		return e->code;
	while ((r = grid_next(&g, &run, e)) > 0) {
		if (run.kind == RUN_READ)
			sum += plan_bytes(st->size, p->chunk_size, run.from, run.to);
		if (cancel_check(p->o->cancel, e) < 0)
			return e->code;
	}
	if (r < 0)
		return r;
	*ret = sum;
	return 0;
}

/* --- bases ----------------------------------------------------------------------------------------------------- */

/*
 * The bases that a state may have.  At most one of each sort is tried, because each try walks two maps; they are
 * carried along from state to state, because there may be many.
 */
struct bases {
	size_t older;		/* the nearest snapshot before it that will have a tree when it is its turn */
	size_t newer;		/* the nearest state behind it that is proven */
	uint32_t *of_layer;	/* for each layer of the chain a state that has just what it shows; NO_BASE */
};

/* The state of the nearest layer at or below that one which will have a tree. */
static size_t nearest_layer(const struct plan_disk *d, uint32_t layer, const struct bases *b)
{
	for (; layer != CHAIN_NONE; layer = chain_below(d->d->chain, layer))
		if (b->of_layer[layer] != NO_BASE)
			return b->of_layer[layer];
	return NO_BASE;
}

static size_t candidates(const struct plan_disk *d, size_t i, struct bases *b, size_t ret[3])
{
	size_t n = 0, layer = nearest_layer(d, d->states.p[i].layer, b);

	for (b->newer = b->newer > i ? b->newer : i + 1; b->newer < d->states.n && !d->states.p[b->newer].proof;
	     b->newer++)
		;
	if (b->older != NO_BASE)
		ret[n++] = b->older;
	if (b->newer < d->states.n && d->states.p[i].kind != STATE_LAYER)
		ret[n++] = b->newer;
	if (layer != NO_BASE)
		ret[n++] = layer;
	return n;
}

/* State i may be the base of those behind it. */
static void note_base(const struct plan_disk *d, size_t i, struct bases *b)
{
	const struct plan_state *st = &d->states.p[i];

	if (!st->proof && (!st->selected || st->failed.code))
		return;
	if (st->view)
		b->of_layer[st->layer] = (uint32_t)i;
	if (st->kind != STATE_LAYER)
		b->older = i;
}

static enum read_how how_of(const struct plan_state *base)
{
	return !base ? READ_FULL : base->kind == STATE_LAYER ? READ_LAYER : READ_SNAPSHOT;
}

static int choose_base(struct ingest_plan *p, struct plan_disk *d, size_t i, struct bases *b, struct err *e)
{
	struct plan_state *st = &d->states.p[i];
	size_t c[3], n = p->o->full_read ? 0 : candidates(d, i, b, c);

	st->how = READ_FULL;
	for (size_t k = 0; k < n; k++) {
		uint64_t bytes;

		if (count_bytes(p, st, &d->states.p[c[k]], &bytes, e) < 0) {
			if (ingest_fatal(e->code))
				return e->code;
			err_clear(e);	/* the base's map may be what is broken: this state's own is tried below */
			continue;
		}
		if (st->base == NO_BASE || bytes < st->bytes_max) {
			st->base = (uint32_t)c[k];
			st->bytes_max = bytes;
			st->how = how_of(&d->states.p[c[k]]);
		}
	}
	if (st->base == NO_BASE && count_bytes(p, st, NULL, &st->bytes_max, e) < 0) {
		if (ingest_fatal(e->code))
			return e->code;
		st->failed = *e;	/* comes out as a problem of the run */
		err_clear(e);
	}
	return 0;
}

static int prove_states(struct ingest_plan *p, struct plan_disk *d, struct err *e)
{
	for (size_t i = 0; i < d->states.n; i++) {
		struct plan_state *st = &d->states.p[i];
		int r = proof_find(p, d, st, e);

		if (r == 0 && st->kind == STATE_SNAPSHOT && !st->machine && st->selected && !st->has_digest) {
			r = image_state_digest(st->image, st->index, st->digest, e);
			st->has_digest = r >= 0;
		}
		if (r < 0 && ingest_fatal(r))
			return r;
		err_clear(e);	/* a state without digest is read: what is wrong with it shows there */
		st->how = READ_SAME;
		if (cancel_check(p->o->cancel, e) < 0)
			return e->code;
	}
	return 0;
}

static int plan_disk(struct ingest_plan *p, struct plan_disk *d, struct err *e)
{
	const struct manifest *last = proof_last(p);
	const uint32_t nlayers = d->d->chain->nlayers + d->d->chain->nextra;
	CLEANUP(free_ptr) uint32_t *of_layer = malloc(nlayers * sizeof(*of_layer));
	struct bases bases = { .older = NO_BASE, .of_layer = of_layer };

	if (!of_layer)
		return err_set(e, ERR_NOMEM, "no memory for a plan of %" PRIu32 " layers", nlayers);
	memset(of_layer, 0xff, nlayers * sizeof(*of_layer));	/* NO_BASE */
	for (size_t i = 0; last && i < last->disks.n; i++)
		if (!strcmp(last->disks.p[i].name, d->d->name))
			d->owed = last->disks.p[i].audit_owed;
	d->trust = p->o->full_read ? TRUST_NOTHING : TRUST_ALL;
	d->settled = proof_chain_settled(p, d->d->chain);
	if (prove_states(p, d, e) < 0)
		return e->code;
	for (size_t i = 0; i < d->states.n; note_base(d, i++, &bases)) {
		struct plan_state *st = &d->states.p[i];

		if (!st->selected || st->proof)
			continue;
		if (choose_base(p, d, i, &bases, e) < 0)
			return e->code;
		if (!add_u64(st->bytes_max, image_state(st->image, st->index)->vm_state_bytes, &st->bytes_max))
			st->bytes_max = UINT64_MAX;
	}
	return 0;
}

/* --- rows ------------------------------------------------------------------------------------------------------ */

static int fill_row(const struct plan_disk *d, uint32_t disk, const struct plan_state *st, struct ingest_plan_row *row,
		    struct err *e)
{
	const char *base = st->proof ? st->proof_text : st->base != NO_BASE ? d->states.p[st->base].selector : NULL;

	row->disk = disk;
	row->how = st->how;
	row->bytes_max = st->bytes_max;
	row->size = st->size;
	row->state = text_printf(e, "%s", st->selector);
	if (!row->state || (base && !(row->base = text_printf(e, "%s", base))))
		return e->code;
	return 0;
}

static int fill_rows(struct ingest_plan *p, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < p->o->ndisks; i++)
		n += p->disks[i].states.n;
	p->rows = calloc(n ? n : 1, sizeof(*p->rows));
	if (!p->rows)
		return err_set(e, ERR_NOMEM, "no memory for a plan of %zu states", n);
	for (size_t i = 0; i < p->o->ndisks; i++)
		for (size_t k = 0; k < p->disks[i].states.n; k++) {
			const struct plan_state *st = &p->disks[i].states.p[k];

			if (!st->selected)
				continue;
			if (fill_row(&p->disks[i], (uint32_t)i, st, &p->rows[p->nrows++], e) < 0)
				return e->code;
			if (!add_u64(p->bytes_total, st->bytes_max, &p->bytes_total))
				p->bytes_total = UINT64_MAX;
		}
	return 0;
}

/* --- the whole ------------------------------------------------------------------------------------------------- */

static int check_names(const struct ingest_opts *o, struct err *e)
{
	for (size_t i = 0; i < o->ndisks; i++) {
		if (!text_is_name(o->disks[i].name))
			return err_set(e, ERR_INVALID, "\"%s\" is no disk name: letters, digits, '.', '_' and '-' only",
				       o->disks[i].name);
		for (size_t k = 0; k < i; k++)
			if (!strcmp(o->disks[i].name, o->disks[k].name))
				return err_set(e, ERR_INVALID, "two disks are named \"%s\"", o->disks[i].name);
	}
	if (!text_is_name(o->vm))
		return err_set(e, ERR_INVALID, "\"%s\" is no VM name: letters, digits, '.', '_' and '-' only", o->vm);
	return 0;
}

static int fill_plan(struct ingest_plan *p, struct err *e)
{
	p->disks = calloc(p->o->ndisks ? p->o->ndisks : 1, sizeof(*p->disks));
	if (!p->disks)
		return err_set(e, ERR_NOMEM, "no memory for a plan");
	for (size_t i = 0; i < p->o->ndisks; i++) {
		struct plan_disk *d = &p->disks[i];

		d->d = &p->o->disks[i];
		if (states_add(d, e) < 0)
			return err_ctx(e, "disk %s", d->d->name);
	}
	if (states_select(p, e) < 0)
		return e->code;
	for (size_t i = 0; i < p->o->ndisks; i++)
		if (plan_disk(p, &p->disks[i], e) < 0)
			return err_ctx(e, "disk %s", p->disks[i].d->name);
	return fill_rows(p, e);
}

int ingest_plan_new(struct repo *r, const struct repo_writer *w, const struct ingest_opts *o, struct ingest_plan **ret,
		    struct err *e)
{
	struct ingest_plan *p;

	if (check_names(o, e) < 0)
		return e->code;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a plan");
	p->r = r;
	p->opts = *o;
	p->o = &p->opts;
	p->chunk_size = repo_config(r)->chunk_size;
	p->start_ns = clock_wall_ns();
	p->start = clock_mono();
	p->has_boot = clock_boot_id(p->boot);
	p->look_up = w && protocol_open_epoch(repo_writer_view(w));
	if (fill_plan(p, e) < 0) {
		ingest_plan_free(p);
		return e->code;
	}
	*ret = p;
	return 0;
}

size_t ingest_plan_rows(const struct ingest_plan *p, const struct ingest_plan_row **ret)
{
	*ret = p->rows;
	return p->nrows;
}

void ingest_plan_free(struct ingest_plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; p->disks && i < p->o->ndisks; i++) {
		for (size_t k = 0; k < p->disks[i].states.n; k++) {
			struct plan_state *st = &p->disks[i].states.p[k];

			free(st->name);
			free(st->selector);
			free(st->proof_text);
			image_close(st->view);
		}
		VEC_DONE(&p->disks[i].states);
	}
	for (size_t i = 0; p->rows && i < p->nrows; i++) {
		free(p->rows[i].state);
		free(p->rows[i].base);
	}
	free(p->disks);
	free(p->rows);
	free(p);
}
