/*
 * check_packs.c - packs that are there against packs that should be, and their directories against the index.
 *
 * Directories are held for as many packs at a time as the budget allows; the index is gone through once for each such
 * batch.
 */
#include <inttypes.h>

#include "base/num.h"
#include "repo/check_internal.h"
#include "transport/store.h"

static int see_unnamed(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct check *c = opaque;
	struct object_name n;
	int64_t pack;

	(void)st;
	if (cancel_check(c->cancel, e) < 0)
		return e->code;
	pack = object_name_parse(name, &n) ? index_pack_by_name(c->x, name) : 0;
	if ((pack >= 0 && c->x->packs.p[pack]->named) || protocol_doomed(c->view, name) || !check_committed(c, name) ||
	    (c->runs_damaged && check_has_run(c, name)))
		return 0;
	c->run_lost = true;
	return check_find(c, CHECK_DAMAGE, "run-missing", name, e,
			  "no index run names it, and a backup of its run is there: an index run is lost; the pack's "
			  "directory serves instead");
}

/* The packs of a commit are named by an index run that was stored before it. */
int check_lost_runs(struct check *c, struct err *e)
{
	if (store_list(repo_store(c->r), object_prefix(OBJECT_DATA_SEGMENT), see_unnamed, c, e) < 0 ||
	    store_list(repo_store(c->r), object_prefix(OBJECT_NODE_SEGMENT), see_unnamed, c, e) < 0)
		return e->code;
	return 0;
}

/* A pack that the index does not have.  Its chunks are of no use to anybody yet, but the next run may go on with it. */
static int see_stray(struct check *c, const char *name, struct err *e)
{
	char text[ERR_CAUSE_BYTES];

	c->res.packs_unnamed++;
	if ((c->run_lost || c->runs_damaged) && check_committed(c, name)) {
		c->res.packs_damaged++;
		return check_find(c, CHECK_DAMAGE, "pack-damaged", name, e,
				  "no index run names it, and its directory can't be read");
	}
	if (c->o.read != CHECK_READ_ALL || check_hash_of(c, name, e) == 0)
		return check_find(c, CHECK_INFO, "pack-unnamed", name, e,
				  "no index run names it: of a run that is going on, or was interrupted");
	if (check_is_final(e->code))
		return e->code;
	snprintf(text, sizeof(text), "%s", e->cause);
	err_clear(e);
	c->res.packs_damaged++;
	return check_find(c, CHECK_DAMAGE, "pack-damaged", name, e, "%s; no index run names it", text);
}

static int see_pack(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct check *c = opaque;
	struct object_name n;
	int64_t pack;

	if (cancel_check(c->cancel, e) < 0)
		return e->code;
	if (!object_name_parse(name, &n))
		return check_find(c, CHECK_INFO, "object-unknown", name, e, "not an object of kedge");
	pack = index_pack_by_name(c->x, name);
	if (pack >= 0) {
		c->size[pack] = st->size;
		if (!c->x->packs.p[pack]->named)
			c->res.packs_unnamed++;
		return 0;
	}
	if (protocol_doomed(c->view, name))
		return check_find(c, CHECK_INFO, "pack-doomed", name, e, "doomed, and not deleted yet");
	return see_stray(c, name, e);
}

/* A pack may have been swept since the view was loaded: then it is not missed. */
static int report_missing(struct check *c, struct err *e)
{
	struct protocol_view *now = NULL;
	int rc = 0;

	for (uint32_t i = 0; i < c->npacks && rc == 0; i++) {
		const struct pack_info *p = index_pack(c->x, i);

		if (!p->usable)
			continue;
		c->res.packs++;
		if (c->size[i] == p->size)
			continue;
		if (!now)
			rc = protocol_load(c->r, true, &now, e);
		if (rc < 0 || protocol_doomed(now, p->name))
			continue;
		/* Without its directory nothing of a pack can be used; what only lacks the trailer, or has
		 * grown, can. */
		c->bad_pack[i] = c->size[i] < p->envelope_off + p->envelope_len;
		if (!c->size[i]) {
			c->res.packs_missing++;
			rc = check_find(c, CHECK_DAMAGE, "pack-missing", p->name, e, "it is not there");
		} else {
			c->res.packs_damaged++;
			rc = check_find(c, CHECK_DAMAGE, "pack-damaged", p->name, e,
					"it has %" PRIu64 " bytes, the index says %" PRIu64, c->size[i], p->size);
		}
	}
	protocol_free(now);
	return rc;
}

/* Directories of some packs, and which of their chunks the index names. */
struct loaded {
	uint32_t pack;
	struct directory *d;
	uint8_t *named; /* bit per chunk */
	uint64_t wrong; /* entries that do not fit */
};
struct batch {
	struct check *c;
	VEC(struct loaded) packs;
	uint32_t *number; /* of every pack: index in packs + 1 */
	size_t bytes;
};

static void batch_clear(struct batch *b)
{
	for (size_t i = 0; i < b->packs.n; i++) {
		b->number[b->packs.p[i].pack] = 0;
		directory_free(b->packs.p[i].d);
		free(b->packs.p[i].named);
	}
	b->packs.n = 0;
	b->bytes = 0;
}

static void batch_done(struct batch *b)
{
	batch_clear(b);
	VEC_DONE(&b->packs);
	free(b->number);
}

static int load_directory(struct batch *b, uint32_t pack, struct err *e)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL;
	const struct pack_info *p = index_pack(b->c->x, pack);
	struct check *c = b->c;
	struct loaded *l;
	char text[ERR_CAUSE_BYTES];

	if (cancel_check(c->cancel, e) < 0)
		return e->code;
	if (pack_read_directory(c->r, p->name, p->size, p->envelope_off, p->envelope_len, &d, e) < 0) {
		if (check_is_final(e->code))
			return e->code;
		err_text(e, text, sizeof(text));
		err_clear(e);
		c->bad_pack[pack] = true;
		c->res.packs_damaged++;
		return check_find(c, CHECK_DAMAGE, "pack-damaged", p->name, e, "its directory can't be read: %s", text);
	}
	if (d->trailer_bad && c->size[pack] == p->size &&
	    check_find(c, CHECK_DAMAGE, "pack-altered", p->name, e,
		       "its trailer is damaged: its chunks can be had as long as an index run names it") < 0)
		return e->code;
	l = VEC_PUSH(&b->packs, e);
	if (!l)
		return e->code;
	l->pack = pack;
	l->named = calloc(d->chunks.n / 8 + 1, 1);
	b->bytes += sizeof(*d) + d->keys.cap * sizeof(*d->keys.p) + d->segments.cap * sizeof(*d->segments.p) +
		    d->frames.cap * sizeof(*d->frames.p) + d->chunks.cap * sizeof(*d->chunks.p) +
		    d->bases.cap * sizeof(*d->bases.p);
	l->d = STEAL(d);
	b->number[pack] = (uint32_t)b->packs.n;
	return l->named ? 0 : err_set(e, ERR_NOMEM, "directory of a pack");
}

static bool entry_fits(const struct directory *d, const struct id *id, const struct chunk_place *p,
		       const struct id *bases, size_t *ret_chunk)
{
	const struct dir_chunk *ch;

	if (p->segment >= d->segments.n || p->chunk >= d->segments.p[p->segment].nchunks)
		return false;
	*ret_chunk = d->segments.p[p->segment].first_chunk + p->chunk;
	ch = &d->chunks.p[*ret_chunk];
	if (!id_eq(&ch->id, id) || ch->nbases != p->nbases || ch->depth != p->depth)
		return false;
	for (unsigned i = 0; i < p->nbases; i++)
		if (!id_eq(&d->bases.p[ch->first_base + i], &bases[i]))
			return false;
	return true;
}

static int see_entry(void *opaque, const struct id *id, const struct chunk_place *place, const struct id *bases,
		     struct err *e)
{
	struct batch *b = opaque;
	struct loaded *l;
	size_t chunk = 0;

	if (place->pack >= b->c->npacks || !b->number[place->pack])
		return 0;
	l = &b->packs.p[b->number[place->pack] - 1];
	if (entry_fits(l->d, id, place, bases, &chunk)) {
		l->named[chunk / 8] |= (uint8_t)(1u << chunk % 8);
		return 0;
	}
	l->wrong++;
	return check_bad_place(b->c, place->pack, place->segment, place->chunk, id, e);
}

/* Chunks of a directory that no entry names, and whose ids are nowhere else: lost to readers until the index
 * is mended. */
static int count_unnamed(struct check *c, const struct loaded *l, uint64_t *ret, struct err *e)
{
	struct chunk_place place;
	uint64_t n = 0;

	for (size_t i = 0; i < l->d->chunks.n; i++) {
		int rc;

		if (l->named[i / 8] >> i % 8 & 1)
			continue;
		rc = index_find(c->x, &l->d->chunks.p[i].id, 0, &place, NULL, e);
		if (rc < 0)
			return rc;
		n += rc == 0;
	}
	*ret = n;
	return 0;
}

static int compare_batch(struct batch *b, struct err *e)
{
	struct check *c = b->c;

	if (index_each(c->x, see_entry, b, e) < 0)
		return e->code;
	for (size_t i = 0; i < b->packs.n; i++) {
		const struct loaded *l = &b->packs.p[i];
		const char *name = index_pack(c->x, l->pack)->name;
		uint64_t unnamed = 0;

		if (l->wrong && check_find(c, CHECK_DAMAGE, "index-wrong", name, e,
					   "%" PRIu64 " entries of the index do not fit its directory", l->wrong) < 0)
			return e->code;
		if (count_unnamed(c, l, &unnamed, e) < 0)
			return e->code;
		if (unnamed && check_find(c, CHECK_DAMAGE, "index-incomplete", name, e,
					  "%" PRIu64 " of its chunks are in no index run", unnamed) < 0)
			return e->code;
	}
	batch_clear(b);
	return 0;
}

static int check_directories(struct check *c, struct err *e)
{
	CLEANUP(batch_done) struct batch b = { .c = c };
	struct progress_state ps = { .phase = "checking packs", .total = c->npacks };

	b.number = calloc(c->npacks + 1u, sizeof(*b.number));
	if (!b.number)
		return err_set(e, ERR_NOMEM, "%" PRIu32 " packs", c->npacks);
	for (uint32_t i = 0; i < c->npacks; i++) {
		const struct pack_info *p = index_pack(c->x, i);

		ps.done = i;
		ps.what = p->name;
		progress_update(c->o.progress, &ps);
		if (!p->usable || !c->size[i] || c->bad_pack[i])
			continue;
		if (load_directory(&b, i, e) < 0 || (b.bytes > c->budget / 4 && compare_batch(&b, e) < 0))
			return e->code;
	}
	return compare_batch(&b, e);
}

int check_packs(struct check *c, struct err *e)
{
	if (store_list(repo_store(c->r), object_prefix(OBJECT_DATA_SEGMENT), see_pack, c, e) < 0 ||
	    store_list(repo_store(c->r), object_prefix(OBJECT_NODE_SEGMENT), see_pack, c, e) < 0 ||
	    report_missing(c, e) < 0)
		return e->code;
	return check_directories(c, e);
}
