/*
 * audit.c - re-reading a random sample of what was called unchanged, and comparing it with what is stored.
 *
 * What is called unchanged: of a state whose tree was reused, all data; of a state read against a base, the data that
 * had the base's origins.  The same host bytes are mostly part of many states and count once: states are gone through
 * from the last back, and each adds the claimed chunks that the one before it in this order does not show too.  Of
 * many states the last one and a random few are looked at, so that the work does not grow with the number of
 * snapshots; each has its turn in some run.
 *
 *	current     [ claimed ][ read ][     claimed     ]
 *	snapshot 3  [ same ...][claimed][ same ..........]     adds only what differs from current
 *
 * The claimed chunks are cut into units of 4 MiB, in guest order; a random choice of units (reservoir sampling, so
 * that one walk over the maps does) is read through the image and hashed again, in random order, until the bytes or
 * the time are used up.
 */
#include <sodium.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "repo/ingest/ingest_internal.h"

#define UNIT_BYTES (4 * MIB)
#define STATES_MAX 32u
#define UNITS_MAX (1u << 19)		/* of one disk and run: 2 TiB, which take 12 MiB to remember */
#define DEFAULT_SHARE 30
#define TIME_SHARE 10

/* A stretch of the guest that holds UNIT_BYTES (the last of a state: less) of claimed chunks. */
struct unit {
	uint32_t state;			/* index into picked */
	uint64_t from, to;
};

struct audit {
	struct run *run;
	struct plan_disk *d;
	struct audit_finding *finding;
	uint32_t picked[STATES_MAX];	/* states in the order gone through */
	uint32_t npicked;
	uint64_t claimed, nunits;	/* bytes; units seen */
	VEC(struct unit) units;		/* the reservoir */
	size_t reservoir;

	/* The unit at hand: */
	const struct plan_state *st;
	struct tree_walk *walk;
	bool ahead, at_end;
	uint64_t index;
	struct id id;
	bool is_false;
	uint64_t where;
	struct err source;
};

/* Uniform in [0, n), n > 0. */
static uint64_t random_below(uint64_t n)
{
	uint64_t v, limit = UINT64_MAX - UINT64_MAX % n;

	do
		randombytes_buf(&v, sizeof(v));
	while (v >= limit);
	return v % n;
}

/* --- what is claimed ------------------------------------------------------------------------------------------- */

/* The claimed chunks of picked state i: two grids in step. */
struct claims {
	bool reused;			/* the whole tree: grid a is against zeros, and data is what is claimed */
	bool has_b;
	struct grid a, b;		/* against the base; against the state gone through before */
	struct chunk_run ra, rb;
};

static int claims_init(const struct audit *au, uint32_t i, uint64_t first, uint64_t last, struct claims *c,
		       struct err *e)
{
	const struct plan_state *st = &au->d->states.p[au->picked[i]];
	uint32_t chunk_size = au->run->p->chunk_size;
	struct map next, other;

	*c = (struct claims){ .reused = st->did == READ_SAME, .has_b = i > 0 };
	plan_state_map(st, &next);
	if (!c->reused)
		plan_state_map(&au->d->states.p[st->did_base], &other);
	if (grid_init(&c->a, c->reused ? NULL : &other, &next, chunk_size, first, last, e) < 0)
		return e->code;
	if (!c->has_b)
		return 0;
	plan_state_map(&au->d->states.p[au->picked[i - 1]], &other);
	return grid_init(&c->b, &other, &next, chunk_size, first, last, e);
}

/* The next claimed chunks: 1 and *from, *to; 0: no more. */
static int claims_next(struct claims *c, uint64_t *from, uint64_t *to, struct err *e)
{
	enum run_kind claimed = c->reused ? RUN_READ : RUN_KEEP;
	int r;

	for (;;) {
		if (c->ra.from == c->ra.to) {
			r = grid_next(&c->a, &c->ra, e);
			if (r <= 0)
				return r;
			if (c->ra.kind != claimed) {
				c->ra.from = c->ra.to;
				continue;
			}
		}
		*from = c->ra.from;
		*to = c->ra.to;
		if (!c->has_b) {
			c->ra.from = c->ra.to;
			return 1;
		}
		while (c->rb.to <= *from) {
			r = grid_next(&c->b, &c->rb, e);
			if (r < 0)
				return r;
			if (r == 0)	/* both grids end together */
				return err_set(e, ERR_INTERNAL, "maps of one state end at different places");
		}
		*to = min_u64(*to, c->rb.to);
		c->ra.from = *to;
		if (c->rb.kind != RUN_KEEP)
			return 1;
	}
}

/* --- choosing -------------------------------------------------------------------------------------------------- */

static bool has_claims(const struct plan_state *st)
{
	return st->selected && st->done && (st->did == READ_SAME || st->did_base != NO_BASE);
}

/* The last state, and of the others a random choice, last to first. */
static void pick_states(struct audit *au)
{
	uint64_t left = 0, want = STATES_MAX;

	for (size_t i = 0; i < au->d->states.n; i++)
		left += has_claims(&au->d->states.p[i]);
	for (size_t i = au->d->states.n; i-- > 0 && want;) {
		if (!has_claims(&au->d->states.p[i]))
			continue;
		if (au->npicked == 0 || random_below(left) < want) {
			au->picked[au->npicked++] = (uint32_t)i;
			want--;
		}
		left--;
	}
}

/* Keeps the unit with the probability that makes every unit equally likely to be in the reservoir at the end. */
static int offer(struct audit *au, const struct unit *u, struct err *e)
{
	uint64_t n = au->nunits++;

	if (au->units.n < au->reservoir) {
		struct unit *slot = VEC_PUSH(&au->units, e);

		if (!slot)
			return e->code;
		*slot = *u;
		return 0;
	}
	n = random_below(n + 1);
	if (n < au->units.n)
		au->units.p[n] = *u;
	return 0;
}

/* The maps can't be read: the source's problem, unless it is ours. */
static int map_failed(struct audit *au, struct err *e)
{
	if (ingest_fatal(e->code))
		return e->code;
	au->source = *e;
	err_clear(e);
	return 0;
}

static int gather_state(struct audit *au, uint32_t i, struct err *e)
{
	const struct plan_state *st = &au->d->states.p[au->picked[i]];
	struct unit u = { .state = i };
	uint32_t chunk_size = au->run->p->chunk_size;
	uint64_t per_unit = max_u64(1, UNIT_BYTES / chunk_size), have = 0, from, to;
	struct claims c;
	int r;

	if (claims_init(au, i, 0, UINT64_MAX, &c, e) < 0)
		return e->code;
	while ((r = claims_next(&c, &from, &to, e)) > 0) {
		au->claimed += plan_bytes(st->size, chunk_size, from, to);
		while (from < to) {
			uint64_t n = min_u64(to - from, per_unit - have);

			u.from = have ? u.from : from;
			from += n;
			have += n;
			u.to = from;
			if (have == per_unit) {
				if (offer(au, &u, e) < 0)
					return e->code;
				have = 0;
			}
		}
		if (cancel_check(au->run->p->o->cancel, e) < 0)
			return e->code;
	}
	if (r < 0)
		return map_failed(au, e);
	return have ? offer(au, &u, e) : 0;
}

static void shuffle(struct audit *au)
{
	for (size_t i = au->units.n; i > 1; i--) {
		size_t k = (size_t)random_below(i);
		struct unit t = au->units.p[i - 1];

		au->units.p[i - 1] = au->units.p[k];
		au->units.p[k] = t;
	}
}

/* --- reading --------------------------------------------------------------------------------------------------- */

/* What the tree says of chunk index: 1 and *ret, or 0: zero.  Indexes rise. */
static int expected(struct audit *au, uint64_t index, struct id *ret, struct err *e)
{
	while (!au->at_end && (!au->ahead || au->index < index)) {
		int r;

		tree_walk_seek(au->walk, index);
		r = tree_walk_next(au->walk, &au->index, &au->id, e);
		if (r < 0)
			return r;
		au->ahead = r > 0;
		au->at_end = r == 0;
	}
	if (au->at_end || au->index != index)
		return 0;
	*ret = au->id;
	return 1;
}

static int take(void *opaque, struct item *it, struct err *e)
{
	struct audit *au = opaque;

	if (au->is_false || au->source.code)
		return 0;
	if (it->failed.code) {
		au->source = it->failed;
		return 0;
	}
	for (uint64_t i = it->from; i < it->to; i++) {
		size_t k = (size_t)(i - it->from);
		struct id want;
		int r = expected(au, i, &want, e);

		if (r < 0)
			return r;
		if (r == 0 ? !it->zero[k] : it->zero[k] || !id_eq(&want, &it->ids[k])) {
			au->is_false = true;
			au->where = i * it->chunk_size;
			return 0;
		}
	}
	return 0;
}

static int put_unit(struct audit *au, const struct unit *u, struct err *e)
{
	struct item like = { .kind = ITEM_READ, .image = au->st->image, .state = au->st->index, .size = au->st->size };
	uint64_t from, to;
	struct claims c;
	int r;

	if (claims_init(au, u->state, u->from, u->to, &c, e) < 0)
		return e->code;
	while ((r = claims_next(&c, &from, &to, e)) > 0) {
		if (pipe_put(au->run->pipe, &like, from, to, e) < 0)
			return e->code;
		au->d->bytes_audited += plan_bytes(au->st->size, au->run->p->chunk_size, from, to);
	}
	if (r < 0 && map_failed(au, e) < 0)
		return e->code;
	return pipe_drain(au->run->pipe, e);
}

static int check_unit(struct audit *au, const struct unit *u, struct err *e)
{
	struct run *run = au->run;
	struct err unheard = ERR_INIT;
	int r;

	au->st = &au->d->states.p[au->picked[u->state]];
	au->ahead = au->at_end = false;
	if (tree_walk_new(nodes_source(run->nodes), &au->st->tree, run->p->chunk_size, u->from, &au->walk, e) < 0)
		return e->code;
	pipe_aim(run->pipe, au->d->d->name, au->d->d->chain, take, au);
	r = put_unit(au, u, e);
	if (r < 0 && pipe_discard(run->pipe, &unheard) < 0)
		err_clear(&unheard);	/* r says it already */
	tree_walk_free(au->walk);
	au->walk = NULL;
	return r;
}

/* --- the whole ------------------------------------------------------------------------------------------------- */

/* What the default asks for: its share, and what earlier runs cut. */
static uint64_t bytes_due(const struct audit *au)
{
	uint64_t due;

	return add_u64(au->claimed / DEFAULT_SHARE, au->d->owed, &due) ? min_u64(due, au->claimed) : au->claimed;
}

/* How many bytes, and how long (negative: as long as it takes); the first UNIT_BYTES are read whatever the time. */
static uint64_t budget(const struct audit *au, double *ret_seconds)
{
	const struct ingest_opts *o = au->run->p->o;

	*ret_seconds = -1;
	switch (o->audit) {
	case AUDIT_OFF:
		return 0;
	case AUDIT_PERCENT:
		return o->audit_value >= 100 ? au->claimed : (uint64_t)((double)au->claimed * o->audit_value / 100);
	case AUDIT_SECONDS:
		*ret_seconds = au->run->audit_seconds;
		return au->claimed;
	default:
		*ret_seconds = au->d->seconds / (TIME_SHARE - 1);
		return max_u64(bytes_due(au), UNIT_BYTES);
	}
}

/* How many units to choose is known only when they have been counted; the reservoir is large enough for any budget. */
static int gather(struct audit *au, struct err *e)
{
	au->reservoir = UNITS_MAX;
	pick_states(au);
	for (uint32_t i = 0; i < au->npicked && !au->source.code; i++)
		if (gather_state(au, i, e) < 0)
			return e->code;
	shuffle(au);
	return 0;
}

static int check_units(struct audit *au, uint64_t bytes, double seconds, struct err *e)
{
	double start = clock_mono();

	for (size_t i = 0; i < au->units.n && au->d->bytes_audited < bytes && !au->is_false && !au->source.code; i++) {
		if (au->d->bytes_audited >= UNIT_BYTES && seconds >= 0 && clock_mono() - start >= seconds)
			break;
		if (check_unit(au, &au->units.p[i], e) < 0)
			return e->code;
	}
	if (au->run->p->o->audit == AUDIT_SECONDS)
		au->run->audit_seconds -= clock_mono() - start;
	return 0;
}

/* What became of an audit that ended with r. */
static int verdict(struct audit *au, int r, struct audit_finding *ret, struct err *e)
{
	char text[1024];

	if (au->source.code)
		return run_problem(au->run, au->d->d->name, au->st ? au->st->selector : NULL, true, e, "audit: %s",
				   err_text(&au->source, text, sizeof(text)));
	if (r < 0 && nodes_missed(au->run->nodes)) {
		err_clear(e);
		return AUDIT_NO_TREE;
	}
	if (r < 0)
		return r;
	if (!au->is_false)
		return AUDIT_FINE;
	*ret = (struct audit_finding){
		.state = (uint32_t)(au->st - au->d->states.p), .base = au->st->did_base, .at = au->where,
	};
	return AUDIT_FALSE;
}

int audit_disk(struct run *run, struct plan_disk *d, struct audit_finding *ret, struct err *e)
{
	struct audit au = { .run = run, .d = d };
	uint64_t bytes, due;
	double seconds = -1;
	int r = gather(&au, e);

	d->bytes_unchanged = au.claimed;
	/* What is decompressed as it is read would have to be decompressed again up to each sample. */
	bytes = d->d->chain->layers[0]->info.sequential ? 0 : budget(&au, &seconds);
	if (r >= 0 && !au.source.code)
		r = check_units(&au, bytes, seconds, e);
	due = bytes_due(&au);
	d->audit_owed = run->p->o->audit == AUDIT_OFF ? min_u64(d->owed, au.claimed)
						      : due - min_u64(due, d->bytes_audited);
	VEC_DONE(&au.units);
	return verdict(&au, r, ret, e);
}
