/*
 * planner.c - the states of each disk in the order of work, and for each the base that leaves least to be read.
 *
 *	lower layers, deepest first -> snapshots, oldest first -> current
 *
 * A state is proven (an earlier backup holds it), or it is read against a base: another state of the same chain that
 * is proven or read before it.  Extents of equal origin hold equal bytes, so what has to be read is where the two
 * maps differ.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
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

/* --- states ---------------------------------------------------------------------------------------------------- */

static struct plan_state *state_add(struct plan_disk *d, enum state_kind kind, struct image *im, uint32_t index,
				    uint32_t layer, struct err *e)
{
	struct plan_state *st = VEC_PUSH(&d->states, e);

	if (!st)
		return NULL;
	st->kind = kind;
	st->image = im;
	st->index = index;
	st->layer = layer;
	st->size = image_state(im, index)->size;
	st->base = st->did_base = NO_BASE;
	st->name_unique = true;
	return st;
}

static int state_name(struct plan_state *st, const char *name, struct err *e)
{
	struct manifest_state ms = { .kind = st->kind };

	ms.name = st->name = text_printf(e, "%s", name);
	if (!st->name)
		return e->code;
	st->selector = manifest_state_selector(&ms, e);
	return st->selector ? 0 : e->code;
}

/* A lower layer goes by its file's name; by its path where another layer of the disk has the same. */
static const char *layer_name(const struct chain *c, uint32_t k)
{
	for (uint32_t i = 1; i < c->nlayers + c->nextra; i++)
		if (i != k && !strcmp(fs_basename(c->layers[i]->path), fs_basename(c->layers[k]->path)))
			return c->layers[k]->path;
	return fs_basename(c->layers[k]->path);
}

/* Layer k as a disk of its own; s: as the machine's snapshot, NULL: as itself. */
static int add_view(struct plan_disk *d, uint32_t k, const struct ingest_snapshot *s, struct err *e)
{
	struct plan_state *st;
	struct image *view;

	if (chain_view(d->d->chain, k, &view, e) < 0)
		return e->code;
	st = state_add(d, s ? STATE_SNAPSHOT : STATE_LAYER, view, IMAGE_STATE_CURRENT, k, e);
	if (!st) {
		image_close(view);
		return e->code;
	}
	st->view = view;
	st->machine = s;
	return state_name(st, s ? s->name : layer_name(d->d->chain, k), e);
}

static int add_layer(struct plan_disk *d, uint32_t k, struct err *e)
{
	bool named = false;

	for (size_t i = 0; i < d->d->nsnapshots; i++) {
		if (d->d->snapshots[i].layer != k)
			continue;
		named = true;
		if (add_view(d, k, &d->d->snapshots[i], e) < 0)
			return e->code;
	}
	return named || !k ? 0 : add_view(d, k, NULL, e);
}

/* The chain's layers from the deepest up, then the branches made on them.  The top is there only as a snapshot has it. */
static int add_layers(struct plan_disk *d, struct err *e)
{
	struct chain *c = d->d->chain;

	for (uint32_t k = c->nlayers; k-- > 0;)
		if (add_layer(d, k, e) < 0)
			return e->code;
	for (uint32_t k = c->nlayers + c->nextra; k-- > c->nlayers;)
		if (add_layer(d, k, e) < 0)
			return e->code;
	return 0;
}

static int by_date(const void *a, const void *b)
{
	const struct plan_state *x = a, *y = b;
	int64_t dx = image_state(x->image, x->index)->date_ns, dy = image_state(y->image, y->index)->date_ns;

	if (dx != dy)
		return dx < dy ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct plan_state *const *)a)->name, (*(struct plan_state *const *)b)->name);
}

/* Images can hold 65536 snapshots: they are sorted by name for it, not compared with each other. */
static int find_unique_names(struct plan_state *p, size_t n, struct err *e)
{
	CLEANUP(free_ptr) struct plan_state **sorted = calloc(n + 1, sizeof(*sorted));

	if (!sorted)
		return err_set(e, ERR_NOMEM, "no memory for %zu snapshots", n);
	for (size_t i = 0; i < n; i++)
		sorted[i] = &p[i];
	qsort(sorted, n, sizeof(struct plan_state *), by_name);
	for (size_t i = 0; i < n; i++) {
		bool same = i > 0 && !strcmp(sorted[i - 1]->name, sorted[i]->name);

		sorted[i]->name_unique = !same && sorted[i]->name[0];
		if (same)
			sorted[i - 1]->name_unique = false;
	}
	return 0;
}

static int add_snapshots(struct plan_disk *d, struct err *e)
{
	struct image *im = d->d->chain->image;
	size_t first = d->states.n;

	for (uint32_t i = 1; i < im->info.nstates; i++) {
		struct plan_state *st = state_add(d, STATE_SNAPSHOT, im, i, 0, e);

		if (!st || state_name(st, image_state(im, i)->name, e) < 0)
			return e->code;
	}
	if (d->states.n == first)
		return 0;
	qsort(d->states.p + first, d->states.n - first, sizeof(*d->states.p), by_date);
	return find_unique_names(d->states.p + first, d->states.n - first, e);
}

/* --- selecting ------------------------------------------------------------------------------------------------- */

static bool selector_fits(const char *selector, const struct plan_state *st)
{
	if (!strncmp(selector, "snapid:", 7))
		return st->kind == STATE_SNAPSHOT && !strcmp(selector + 7, plan_state_id(st));
	return !strcmp(selector, st->selector);
}

static bool select_states(struct plan_disk *d, const char *selector)
{
	bool any = false;

	for (size_t i = 0; i < d->states.n; i++)
		if (selector_fits(selector, &d->states.p[i]))
			any = d->states.p[i].selected = true;
	return any;
}

static int no_such_state(const struct ingest_plan *p, const char *selector, struct err *e)
{
	char q[128], have[512] = "";
	size_t n = 0;

	for (size_t i = 0; i < p->o->ndisks; i++)
		for (size_t k = p->disks[i].states.n; k > 0 && n < sizeof(have); k--) {
			char one[96];
			int len = snprintf(have + n, sizeof(have) - n, "%s%s", n ? ", " : "",
					   text_quote(p->disks[i].states.p[k - 1].selector, one, sizeof(one)));

			n += len > 0 ? (size_t)len : 0;
		}
	return err_set(e, ERR_NOTFOUND, "no disk has a state \"%s\"; there are: %s", text_quote(selector, q, sizeof(q)),
		       have);
}

/* A selector must fit some disk; a disk may be absent in a state. */
static int select_all(struct ingest_plan *p, struct err *e)
{
	for (size_t i = 0; i < p->o->ndisks; i++) {
		const struct ingest_disk *d = &p->o->disks[i];

		for (size_t k = 0; d->states_all && k < p->disks[i].states.n; k++)
			p->disks[i].states.p[k].selected = true;
		for (const char *const *s = d->states; !d->states_all && s && *s; s++) {
			bool any = select_states(&p->disks[i], *s);

			for (size_t k = 0; !any && k < p->o->ndisks; k++)
				for (size_t j = 0; !any && j < p->disks[k].states.n; j++)
					any = selector_fits(*s, &p->disks[k].states.p[j]);
			if (!any)
				return no_such_state(p, *s, e);
		}
	}
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

	for (b->newer = b->newer > i ? b->newer : i + 1; b->newer < d->states.n && !d->states.p[b->newer].proof; b->newer++)
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
		struct plan_state *current;

		d->d = &p->o->disks[i];
		if (add_layers(d, e) < 0 || add_snapshots(d, e) < 0)
			return err_ctx(e, "disk %s", d->d->name);
		current = state_add(d, STATE_CURRENT, d->d->chain->image, IMAGE_STATE_CURRENT, 0, e);
		if (!current || state_name(current, "current", e) < 0)
			return e->code;
	}
	if (select_all(p, e) < 0)
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
