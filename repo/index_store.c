/*
 * index_store.c - entries in memory become a stored run: sealed, opened again and compared before it is sent.
 */
#include <inttypes.h>
#include <sodium.h>

#include "base/num.h"
#include "repo/index_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

/* A run is made in memory: what more entries there are go into further runs.  Packs are not divided. */
#define RUN_ENTRIES_AIM 262144u

void run_making_done(struct run_making *m)
{
	VEC_DONE(&m->packs);
	VEC_DONE(&m->entries);
	free(m->number);
	free(m->left_out);
	run_tail_done(&m->tail);
	buf_done(&m->out);
}

int run_making_packs(struct run_making *m, bool pending, uint64_t max, struct err *e)
{
	const struct index *x = m->x;
	CLEANUP(free_ptr) uint32_t *count = calloc(x->packs.n + 1, sizeof(*count));
	uint64_t total = 0;

	m->number = malloc((x->packs.n + 1) * sizeof(*m->number));
	if (!count || !m->number)
		return err_set(e, ERR_NOMEM, "index of %zu packs", x->packs.n);
	memset(m->number, 0xff, (x->packs.n + 1) * sizeof(*m->number));
	for (size_t i = 0; i < x->mem.entries.n; i++)
		count[x->mem.entries.p[i].pack]++;
	for (uint32_t i = 0; i < x->packs.n; i++) {
		uint32_t *p;

		if (x->packs.p[i]->pending != pending || (!pending && !count[i]) ||
		    (m->packs.n && total + count[i] > max))
			continue;
		p = VEC_PUSH(&m->packs, e);
		if (!p)
			return e->code;
		*p = i;
		m->number[i] = (uint32_t)m->packs.n - 1;
		total += count[i];
	}
	return 0;
}

static int cmp_entries(const void *a, const void *b, void *opaque)
{
	const struct index_mem *mem = opaque;
	const struct index_mem_entry *x = &mem->entries.p[*(const uint32_t *)a],
				     *y = &mem->entries.p[*(const uint32_t *)b];
	int c = id_cmp(&x->id, &y->id);

	if (c)
		return c;
	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

int run_making_entries(struct run_making *m, struct err *e)
{
	struct index_mem *mem = &m->x->mem;
	struct run_entry en;
	size_t n = 0;

	m->left_out = calloc(m->packs.n + 1, sizeof(*m->left_out));
	if (!m->left_out)
		return err_set(e, ERR_NOMEM, "index run of %zu packs", m->packs.n);

	for (size_t i = 0; i < mem->entries.n; i++) {
		uint32_t *p;

		if (m->number[mem->entries.p[i].pack] == UINT32_MAX)
			continue;
		p = VEC_PUSH(&m->entries, e);
		if (!p)
			return e->code;
		*p = (uint32_t)i;
	}
	if (m->entries.n)
		qsort_r(m->entries.p, m->entries.n, sizeof(*m->entries.p), cmp_entries, mem);
	for (size_t i = 0; i < m->entries.n; i++) {
		if (i == 0 || !id_eq(&mem->entries.p[m->entries.p[i]].id, &mem->entries.p[m->entries.p[n - 1]].id)) {
			m->entries.p[n++] = m->entries.p[i];
			continue;
		}
		index_mem_entry(mem, m->entries.p[i], &en);
		m->left_out[m->number[en.pack]] += index_entry_sum(&en);
	}
	m->entries.n = n;
	return 0;
}

static void entry_of(const struct run_making *m, size_t i, struct run_entry *ret)
{
	index_mem_entry(&m->x->mem, m->entries.p[i], ret);
	ret->pack = m->number[ret->pack];
}

static int seal_block(struct run_making *m, const uint8_t *plain, struct err *e)
{
	struct run_fence *f = VEC_PUSH(&m->tail.blocks, e);
	uint8_t *out = f ? buf_extend(&m->out, INDEX_BLOCK_BYTES, e) : NULL;

	if (!out)
		return e->code;
	block_aead_seal(m->x->repo, plain, out);
	memcpy(f->first.b, plain + 4, ID_BYTES);
	return hash_bytes(m->x->repo, out, INDEX_BLOCK_BYTES, &f->hash, e);
}

int run_making_blocks(struct run_making *m, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *plain = calloc(1, INDEX_BLOCK_PLAIN);
	uint32_t used = 4, n = 0;

	if (!plain)
		return err_set(e, ERR_NOMEM, "block of the index");
	for (size_t i = 0; i < m->entries.n; i++) {
		struct run_entry en;

		entry_of(m, i, &en);
		if (run_block_add(plain, &used, &n, &en))
			continue;
		if (seal_block(m, plain, e) < 0)
			return e->code;
		memset(plain, 0, INDEX_BLOCK_PLAIN);
		used = 4;
		n = 0;
		(void)run_block_add(plain, &used, &n, &en); /* an empty block takes any entry */
	}
	return n ? seal_block(m, plain, e) : 0;
}

static int make_tail(struct run_making *m, struct err *e)
{
	const struct index *x = m->x;

	m->tail.generation = repo_generation(x->repo);
	m->tail.nentries = m->entries.n;
	for (size_t i = 0; i < x->slots.n; i++) {
		struct slot_id *s = VEC_PUSH(&m->tail.slots, e);

		if (!s)
			return e->code;
		*s = x->slots.p[i].id;
	}
	for (size_t i = 0; i < m->packs.n; i++) {
		const struct index_pack_row *row = x->packs.p[m->packs.p[i]];
		struct run_pack *p = VEC_PUSH(&m->tail.packs, e);

		if (!p)
			return e->code;
		if (!object_name_parse(row->info.name, &p->name))
			return err_set(e, ERR_INTERNAL, "%s: not the name of a pack", row->info.name);
		p->generation = row->generation;
		p->size = row->info.size;
		p->envelope_off = row->info.envelope_off;
		p->envelope_len = row->info.envelope_len;
		p->nsegments = row->info.nsegments;
		for (uint32_t s = 0; s < p->nsegments; s++) {
			uint32_t *v = VEC_PUSH(&m->tail.segments, e);

			if (!v)
				return e->code;
			*v = row->segments[s];
		}
	}
	return 0;
}

/* Padding, the sealed tail and the trailer behind the blocks. */
static int make_end(struct run_making *m, struct err *e)
{
	struct trailer t = { .kind = PACK_INDEX_RUN };
	struct buf payload, envelope;
	uint64_t bare;
	uint8_t *p;
	int rc;

	buf_init(&payload, PAYLOAD_MAX_BYTES);
	buf_init(&envelope, PACK_MAX_BYTES);
	rc = run_tail_encode(&m->tail, &payload, e);
	if (rc == 0)
		rc = envelope_seal(m->x->repo, OBJECT_RUN_TAIL, payload.p, payload.len, &envelope, e);
	buf_done(&payload);
	bare = m->out.len + envelope.len + TRAILER_BYTES;
	if (rc == 0 && padme(bare) > PACK_MAX_BYTES)
		rc = err_set(e, ERR_NOMEM, "index run of %" PRIu64 " bytes", bare);
	if (rc == 0 && padme(bare) > bare) {
		p = buf_extend(&m->out, (size_t)(padme(bare) - bare), e);
		if (p)
			randombytes_buf(p, (size_t)(padme(bare) - bare));
		rc = p ? 0 : e->code;
	}
	t.envelope_off = m->out.len;
	t.envelope_len = (uint32_t)envelope.len;
	randombytes_buf(t.salt, sizeof(t.salt));
	if (rc == 0)
		rc = buf_add(&m->out, envelope.p, envelope.len, e);
	buf_done(&envelope);
	p = rc == 0 ? buf_extend(&m->out, TRAILER_BYTES, e) : NULL;
	if (!p)
		return e->code;
	trailer_encode(&t, p);
	return 0;
}

static bool same_entry(const struct run_entry *a, const struct run_entry *b)
{
	if (!id_eq(&a->id, &b->id) || a->pack != b->pack || a->segment != b->segment || a->chunk != b->chunk ||
	    a->nbases != b->nbases || a->depth != b->depth)
		return false;
	for (unsigned i = 0; i < a->nbases; i++)
		if (!id_eq(&a->bases[i], &b->bases[i]))
			return false;
	return true;
}

/* The rows of the tail against what was summed up when the packs were verified, and against memory.  sums: of the
 * entries of each pack. */
static int check_packs(const struct run_making *m, const struct index_run *run, const uint64_t *sums, struct err *e)
{
	if (run->tail.slots.n != m->x->slots.n || run->tail.packs.n != m->packs.n)
		return err_set(e, ERR_CORRUPT, "%zu packs of %zu", run->tail.packs.n, m->packs.n);
	for (size_t i = 0; i < m->x->slots.n; i++)
		if (memcmp(run->tail.slots.p[i].b, m->x->slots.p[i].id.b, SLOT_BYTES) != 0)
			return err_set(e, ERR_CORRUPT, "slot %zu differs", i);
	for (size_t i = 0; i < m->packs.n; i++) {
		const struct index_pack_row *row = m->x->packs.p[m->packs.p[i]];
		const struct run_pack *p = &run->tail.packs.p[i];

		if (p->generation != row->generation || p->retain_until || p->nsegments != row->info.nsegments ||
		    memcmp(&run->tail.segments.p[p->first_segment], row->segments,
			   p->nsegments * sizeof(*row->segments)) != 0 ||
		    (row->has_sums && (!index_label_is(p, &row->sums) || sums[i] != row->sums.entries)))
			return err_set(e, ERR_CORRUPT, "pack %zu is not what was stored", i);
	}
	return 0;
}

/* Reads back from the sealed bytes what will be sent, and compares. */
static int check_run(const struct run_making *m, const struct index_run *run, struct err *e)
{
	CLEANUP(free_ptr) struct run_block *b = malloc(sizeof(*b));
	CLEANUP(free_ptr) uint64_t *sums = calloc(m->packs.n + 1, sizeof(*sums));
	struct run_entry is, want;
	size_t n = 0;

	if (!b || !sums)
		return err_set(e, ERR_NOMEM, "block of the index");
	memcpy(sums, m->left_out, m->packs.n * sizeof(*sums));
	for (uint32_t i = 0; i < run->shape.nblocks; i++) {
		if (index_block_open(m->x->repo, run, i, m->out.p + (size_t)i * INDEX_BLOCK_BYTES, b, e) < 0)
			return e->code;
		for (uint32_t k = 0; k < b->n; k++, n++) {
			if (n == m->entries.n)
				return err_set(e, ERR_CORRUPT, "more entries than went in");
			run_block_entry(b, k, &is);
			entry_of(m, n, &want);
			if (!same_entry(&is, &want))
				return err_set(e, ERR_CORRUPT, "entry %zu differs", n);
			sums[is.pack] += index_entry_sum(&is);
		}
	}
	if (n != m->entries.n || run->shape.npacks != m->packs.n)
		return err_set(e, ERR_CORRUPT, "%zu entries of %zu", n, m->entries.n);
	return check_packs(m, run, sums, e);
}

/* Memory without the run's entries. */
static int rest_of_memory(const struct run_making *m, struct index_mem *ret, struct err *e)
{
	struct index_mem keep = { 0 };
	struct run_entry en;

	for (size_t i = 0; i < m->x->mem.entries.n; i++) {
		index_mem_entry(&m->x->mem, i, &en);
		if (m->number[en.pack] != UINT32_MAX)
			continue;
		if (index_mem_add(&keep, &en, e) < 0) {
			index_mem_done(&keep);
			return e->code;
		}
	}
	*ret = keep;
	return 0;
}

/* The stored run takes the place of what is in memory.  An entry may be seen twice for a moment, never not at all. */
static int hand_over(struct run_making *m, struct index_run *run, struct err *e)
{
	struct index *x = m->x;
	struct index_mem keep, old;
	uint32_t number = (uint32_t)x->runs.n;

	if (rest_of_memory(m, &keep, e) < 0)
		return e->code;
	if (index_adopt_run(x, run, e) < 0) {
		index_mem_done(&keep);
		return e->code;
	}
	pthread_rwlock_wrlock(&x->mem_lock);
	for (size_t i = 0; x->filter.lines && i < m->entries.n; i++)
		index_filter_add(&x->filter, &x->mem.entries.p[m->entries.p[i]].id, number);
	old = x->mem;
	x->mem = keep;
	for (size_t i = 0; i < m->packs.n; i++) {
		x->packs.p[m->packs.p[i]]->pending = false;
		free(STEAL(x->packs.p[m->packs.p[i]]->segments));
	}
	pthread_rwlock_unlock(&x->mem_lock);
	index_mem_done(&old);
	return 0;
}

static int put_run(struct run_making *m, const struct session_id *session, uint64_t *bytes, struct err *e)
{
	CLEANUP(index_run_free_cleanup) struct index_run *run = NULL;
	struct object_name n = { .type = OBJECT_RUN_TAIL, .slot = *repo_own_slot(m->x->repo), .session = *session };
	char name[OBJECT_NAME_BYTES], text[ERR_CAUSE_BYTES / 2];
	struct sum sum = sum_of(m->out.p, m->out.len);

	if (object_name_new(m->x->repo, &n, m->out.p, m->out.len, name, e) < 0)
		return e->code;
	if (index_run_open(m->x->repo, name, m->out.len, m->out.p, &run, e) < 0 || check_run(m, run, e) < 0) {
		if (e->code == ERR_NOMEM)
			return e->code;
		err_text(e, text, sizeof(text));
		(void)err_set(e, ERR_INTERNAL,
			      "memory or codec error: an index run does not come back as it went in: %s", text);
		return err_hint(e, "It was not stored.  Test this computer's memory before you trust it with backups.");
	}
	if (repo_keys_check(m->x->repo, e) < 0 || sum_check(m->out.p, m->out.len, &sum, "an index run", e) < 0 ||
	    store_put(repo_store(m->x->repo), name, m->out.p, m->out.len, 0, e) < 0 ||
	    sum_check(m->out.p, m->out.len, &sum, "an index run that was being stored", e) < 0)
		return e->code;
	*bytes += m->out.len;
	if (hand_over(m, run, e) < 0)
		return e->code;
	run = NULL;
	return 0;
}

/* 1: a run was stored; 0: nothing is pending. */
static int store_one(struct index *x, const struct session_id *session, uint64_t *bytes, struct err *e)
{
	CLEANUP(run_making_done) struct run_making m = { .x = x };

	buf_init(&m.out, PACK_MAX_BYTES);
	if (run_making_packs(&m, true, RUN_ENTRIES_AIM, e) < 0)
		return e->code;
	if (!m.packs.n)
		return 0;
	if (run_making_entries(&m, e) < 0 || run_making_blocks(&m, e) < 0 || make_tail(&m, e) < 0 ||
	    make_end(&m, e) < 0 || put_run(&m, session, bytes, e) < 0)
		return e->code;
	return 1;
}

int index_store_run(struct index *x, const struct session_id *session, uint64_t *ret_bytes, struct err *e)
{
	uint64_t bytes = 0;
	int rc;

	do {
		pthread_mutex_lock(&x->work); /* the filter is not built, and nothing is repaired, meanwhile */
		rc = store_one(x, session, &bytes, e);
		pthread_mutex_unlock(&x->work);
	} while (rc > 0);
	if (rc < 0)
		return err_ctx(e, "storing an index run");
	*ret_bytes = bytes;
	return 0;
}
