/*
 * states.c - the states of each disk in the order of work, and which of them a backup is to hold.
 *
 *	lower layers, deepest first -> snapshots, oldest first -> current
 */
#include <string.h>

#include "base/fs.h"
#include "base/text.h"
#include "repo/ingest/ingest_internal.h"

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

/* The chain's layers from the deepest up, then the branches made on them.  The top is there only as a snapshot has
 * it. */
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

int states_add(struct plan_disk *d, struct err *e)
{
	struct plan_state *current;

	if (add_layers(d, e) < 0 || add_snapshots(d, e) < 0)
		return e->code;
	current = state_add(d, STATE_CURRENT, d->d->chain->image, IMAGE_STATE_CURRENT, 0, e);
	return current ? state_name(current, "current", e) : e->code;
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
int states_select(struct ingest_plan *p, struct err *e)
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
