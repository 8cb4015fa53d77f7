/*
 * index_pack.c - the packs and slots that an index knows, and entries from directories.
 */
#include <assert.h>
#include <xxhash.h>

#include "repo/index_internal.h"
#include "repo/protocol.h"

static size_t name_slot(const struct index *x, const char *name)
{
	return (size_t)XXH3_64bits(name, strlen(name)) & (x->nby_name - 1);
}

static int grow_names(struct index *x, struct err *e)
{
	size_t n = x->nby_name ? x->nby_name * 2 : 256;
	uint32_t *slots = calloc(n, sizeof(*slots));

	if (!slots)
		return err_set(e, ERR_NOMEM, "index of %zu packs", x->packs.n);
	free(x->by_name);
	x->by_name = slots;
	x->nby_name = n;
	for (size_t i = 0; i < x->packs.n; i++) {
		size_t at = name_slot(x, x->packs.p[i]->info.name);

		while (slots[at])
			at = (at + 1) & (n - 1);
		slots[at] = (uint32_t)i + 1;
	}
	return 0;
}

int64_t index_pack_by_name(const struct index *x, const char *name)
{
	if (!x->nby_name)
		return -1;
	for (size_t at = name_slot(x, name); x->by_name[at]; at = (at + 1) & (x->nby_name - 1))
		if (!strcmp(x->packs.p[x->by_name[at] - 1]->info.name, name))
			return (int64_t)x->by_name[at] - 1;
	return -1;
}

static bool usable(const struct index *x, const char *name)
{
	if (!x->view)
		return true;
	return !(x->build ? protocol_condemned(x->view, name) : protocol_doomed(x->view, name));
}

int index_pack_row(struct index *x, const struct run_pack *p, uint32_t *ret, bool *ret_new, struct err *e)
{
	CLEANUP(free_ptr) struct index_pack_row *row = calloc(1, sizeof(*row));
	struct index_pack_row **to;
	int64_t known;
	size_t at;

	if (!row)
		return err_set(e, ERR_NOMEM, "pack of the index");
	object_name_text(&p->name, row->info.name);
	known = index_pack_by_name(x, row->info.name);
	if (known >= 0) {
		*ret = (uint32_t)known;
		*ret_new = false;
		return 0;
	}
	if ((x->packs.n + 1) * 2 > x->nby_name && grow_names(x, e) < 0)
		return e->code;
	row->info.kind = p->name.type == OBJECT_DATA_SEGMENT ? PACK_DATA : PACK_NODES;
	row->info.size = p->size;
	row->info.envelope_off = p->envelope_off;
	row->info.envelope_len = p->envelope_len;
	row->info.nsegments = p->nsegments;
	row->info.usable = usable(x, row->info.name);
	row->generation = p->generation;
	to = VEC_PUSH(&x->packs, e);
	if (!to)
		return e->code;
	*to = row;
	for (at = name_slot(x, row->info.name); x->by_name[at]; at = (at + 1) & (x->nby_name - 1))
		;
	x->by_name[at] = (uint32_t)x->packs.n;
	row = NULL;
	*ret = (uint32_t)x->packs.n - 1;
	*ret_new = true;
	return 0;
}

int index_slot(struct index *x, const struct slot_id *id, uint32_t *ret, struct err *e)
{
	struct index_slot *s;

	for (size_t i = 0; i < x->slots.n; i++) {
		if (!memcmp(x->slots.p[i].id.b, id->b, SLOT_BYTES)) {
			*ret = (uint32_t)i;
			return 0;
		}
	}
	s = VEC_PUSH(&x->slots, e);
	if (!s)
		return e->code;
	s->id = *id;
	s->trusted = repo_slot_trusted(x->repo, id);
	*ret = (uint32_t)x->slots.n - 1;
	return 0;
}

int index_pack_trust(struct index *x, struct index_pack_row *p, uint32_t segment, uint32_t v, struct err *e)
{
	if (!x->build || (v & 1) || x->slots.p[v / 2].trusted || segment >= p->info.nsegments)
		return 0;
	if (!p->distrusted)
		p->distrusted = calloc(p->info.nsegments / 8 + 1, 1);
	if (!p->distrusted)
		return err_set(e, ERR_NOMEM, "pack of the index");
	p->distrusted[segment / 8] |= (uint8_t)(1u << segment % 8);
	return 0;
}

static bool in_ranges(const struct id *id, const struct index_range *ranges, size_t n)
{
	if (!n)
		return true;
	for (size_t i = 0; i < n; i++)
		if (id_cmp(&ranges[i].from, id) <= 0 && (!ranges[i].has_to || id_cmp(id, &ranges[i].to) < 0))
			return true;
	return false;
}

static void entry_of(const struct directory *d, uint32_t pack, size_t segment, uint32_t chunk, struct run_entry *ret)
{
	const struct dir_chunk *ch = &d->chunks.p[d->segments.p[segment].first_chunk + chunk];

	*ret = (struct run_entry){ .id = ch->id,
				   .pack = pack,
				   .segment = (uint32_t)segment,
				   .chunk = (uint16_t)chunk,
				   .nbases = ch->nbases,
				   .depth = ch->depth };
	for (unsigned b = 0; b < ch->nbases; b++)
		ret->bases[b] = d->bases.p[ch->first_base + b];
}

int index_add_entries(struct index *x, uint32_t pack, const struct directory *d, const struct index_range *ranges,
		      size_t nranges, struct err *e)
{
	for (size_t s = 0; s < d->segments.n; s++) {
		const struct dir_segment *seg = &d->segments.p[s];

		for (uint32_t i = 0; i < seg->nchunks; i++) {
			struct run_entry en;

			entry_of(d, pack, s, i, &en);
			if (!in_ranges(&en.id, ranges, nranges))
				continue;
			if (index_mem_add(&x->mem, &en, e) < 0)
				return e->code;
		}
	}
	return 0;
}

/* 2 * slot + verified of each segment, as tails have it.  What a slot says that may not attest counts as sealed by
 * itself. */
static int directory_segments(struct index *x, const struct directory *d, uint32_t **ret, struct err *e)
{
	CLEANUP(free_ptr) uint32_t *v = calloc(d->segments.n, sizeof(*v));
	bool attests = repo_slot_attests(x->repo, &d->slot);

	if (!v)
		return err_set(e, ERR_NOMEM, "pack of %zu segments", d->segments.n);
	for (size_t i = 0; i < d->segments.n; i++) {
		if (index_slot(x, attests ? &d->segments.p[i].sealer : &d->slot, &v[i], e) < 0)
			return e->code;
		v[i] = v[i] * 2 + (attests && d->segments.p[i].verified);
	}
	*ret = STEAL(v);
	return 0;
}

static int add_pack(struct index *x, const struct run_pack *p, const struct directory *d, bool named,
		    uint32_t **segments, struct err *e)
{
	struct index_pack_row *row;
	uint32_t pack = 0;
	bool is_new = false;

	if (index_pack_row(x, p, &pack, &is_new, e) < 0)
		return e->code;
	row = x->packs.p[pack];
	if (is_new) {
		for (size_t i = 0; i < d->segments.n; i++)
			if (index_pack_trust(x, row, (uint32_t)i, (*segments)[i], e) < 0)
				return e->code;
	}
	/* What has gone to a file of our own must be in memory for the run that names it. */
	if ((is_new || (named && !row->named && row->scratch)) && index_add_entries(x, pack, d, NULL, 0, e) < 0)
		return e->code;
	if (is_new && !named)
		x->nloose += d->chunks.n;
	if (named && !row->named) {
		row->named = row->pending = true;
		row->segments = STEAL(*segments);
	}
	return 0;
}

int index_add_pack(struct index *x, const struct run_pack *p, const struct directory *d, bool named, struct err *e)
{
	CLEANUP(free_ptr) uint32_t *segments = NULL;
	uint32_t slot;
	int rc;

	if (p->nsegments != d->segments.n)
		return err_set(e, ERR_INTERNAL, "pack of %u segments, its directory has %zu", p->nsegments,
			       d->segments.n);
	if (directory_segments(x, d, &segments, e) < 0 || index_slot(x, &d->slot, &slot, e) < 0)
		return e->code;
	pthread_rwlock_wrlock(&x->mem_lock);
	rc = add_pack(x, p, d, named, &segments, e);
	pthread_rwlock_unlock(&x->mem_lock);
	return rc;
}

uint64_t index_entry_sum(const struct run_entry *en)
{
	uint32_t row[4] = { en->segment, en->chunk, en->nbases, en->depth };
	uint64_t sum = sum64(row, sizeof(row), sum64(en->id.b, ID_BYTES, 0));

	for (unsigned b = 0; b < en->nbases && b < BASES_MAX; b++)
		sum = sum64(en->bases[b].b, ID_BYTES, sum);
	return sum;
}

static struct sum label_sum(const char *name, uint64_t size, uint64_t off, uint32_t len)
{
	uint64_t place[3] = { size, off, len };
	struct sum a = sum_of(name, strlen(name)), b = sum_of(place, sizeof(place));

	return (struct sum){ a.lo ^ b.lo, a.hi + b.hi };
}

bool index_label_is(const struct run_pack *p, const struct index_sums *sums)
{
	char name[OBJECT_NAME_BYTES];
	struct sum is;

	object_name_text(&p->name, name);
	is = label_sum(name, p->size, p->envelope_off, p->envelope_len);
	return sum_eq(&is, &sums->label);
}

void index_sums_of(const char *pack_name, uint64_t pack_size, uint64_t envelope_off, uint32_t envelope_len,
		   const struct directory *d, struct index_sums *ret)
{
	struct run_entry en;

	ret->label = label_sum(pack_name, pack_size, envelope_off, envelope_len);
	ret->entries = 0;
	for (size_t s = 0; s < d->segments.n; s++) {
		for (uint32_t i = 0; i < d->segments.p[s].nchunks; i++) {
			entry_of(d, 0, s, i, &en);
			ret->entries += index_entry_sum(&en);
		}
	}
}

int index_add_own(struct index *x, const char *pack_name, uint64_t pack_size, uint64_t envelope_off,
		  uint32_t envelope_len, const struct directory *d, const struct index_sums *sums, struct err *e)
{
	int64_t pack;

	if (index_add_directory(x, pack_name, pack_size, envelope_off, envelope_len, d, e) < 0)
		return e->code;
	pthread_rwlock_wrlock(&x->mem_lock);
	pack = index_pack_by_name(x, pack_name);
	if (pack >= 0 && x->packs.p[pack]->pending) {
		x->packs.p[pack]->sums = *sums;
		x->packs.p[pack]->has_sums = true;
	}
	pthread_rwlock_unlock(&x->mem_lock);
	return 0;
}

int index_add_directory(struct index *x, const char *pack_name, uint64_t pack_size, uint64_t envelope_off,
			uint32_t envelope_len, const struct directory *d, struct err *e)
{
	struct run_pack p = {
		.size = pack_size,
		.envelope_off = envelope_off,
		.envelope_len = envelope_len,
		.nsegments = (uint32_t)d->segments.n,
		.generation = d->generation ? d->generation : repo_generation(x->repo),
	};

	if (!object_name_parse(pack_name, &p.name) ||
	    (p.name.type != OBJECT_DATA_SEGMENT && p.name.type != OBJECT_NODE_SEGMENT))
		return err_set(e, ERR_INVALID, "%s: not the name of a pack", pack_name);
	return index_add_pack(x, &p, d, true, e);
}

const struct pack_info *index_pack(const struct index *x, uint32_t pack)
{
	struct index *m = (struct index *)(uintptr_t)x; /* locking is not a change */
	const struct pack_info *p;

	pthread_rwlock_rdlock(&m->mem_lock);
	assert(pack < x->packs.n);
	p = &x->packs.p[pack]->info;
	pthread_rwlock_unlock(&m->mem_lock);
	return p;
}

uint32_t index_npacks(const struct index *x)
{
	struct index *m = (struct index *)(uintptr_t)x;
	uint32_t n;

	pthread_rwlock_rdlock(&m->mem_lock);
	n = (uint32_t)x->packs.n;
	pthread_rwlock_unlock(&m->mem_lock);
	return n;
}

bool index_names_pack(const struct index *x, const char *name)
{
	struct index *m = (struct index *)(uintptr_t)x;
	int64_t i;
	bool named;

	pthread_rwlock_rdlock(&m->mem_lock);
	i = index_pack_by_name(x, name);
	named = i >= 0 && x->packs.p[i]->named;
	pthread_rwlock_unlock(&m->mem_lock);
	return named;
}
