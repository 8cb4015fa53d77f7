/* night.c - backup runs of made-up disks into a repository in memory. */
#include "tests/test.h"
#include "tests/support/night.h"

#include "base/num.h"

struct opened {
	struct chain *chains[NIGHT_DISKS_MAX];
	struct ingest_disk disks[NIGHT_DISKS_MAX];
};

void nights_new(struct nights *n)
{
	*n = (struct nights){ 0 };
	test_repo_new(&n->t, NIGHT_CHUNK, NULL);
	n->o.audit = AUDIT_OFF;
}

void nights_done(struct nights *n)
{
	for (size_t i = 0; i < n->list.n; i++)
		manifest_free(n->list.p[i].m);
	free(n->list.p);
	test_repo_done(&n->t);
}

static void open_disks(struct nights *n, struct opened *op)
{
	for (size_t i = 0; i < n->ndisks; i++) {
		op->chains[i] = fake_chain(n->disks[i].layers, n->disks[i].nlayers);
		op->disks[i] = (struct ingest_disk){
			.name = n->disks[i].name, .path = n->disks[i].layers[0]->im.path, .chain = op->chains[i],
			.states_all = !n->states, .states = n->states,
		};
	}
	n->o.vm = "vm";
	n->o.disks = op->disks;
	n->o.ndisks = n->ndisks;
	n->o.backups = &n->list;
}

static void close_disks(struct nights *n, struct opened *op)
{
	for (size_t i = 0; i < n->ndisks; i++)
		fake_chain_free(op->chains[i]);
	n->o.disks = NULL;
}

static void write_plan(struct nights *n, const struct ingest_plan *p)
{
	const struct ingest_plan_row *rows;
	size_t count = ingest_plan_rows(p, &rows), at = 0;

	n->plan[0] = '\0';
	for (size_t i = 0; i < count && at < sizeof(n->plan); i++)
		at += (size_t)snprintf(n->plan + at, sizeof(n->plan) - at, "%s/%s %s %s %llu\n",
				       n->disks[rows[i].disk].name, rows[i].state, read_how_name(rows[i].how),
				       rows[i].base ? rows[i].base : "-", (unsigned long long)rows[i].bytes_max);
}

static int run(struct nights *n, struct repo_writer *w, struct manifest **ret, struct err *e)
{
	struct ingest_plan *p = NULL;
	int r = ingest_plan_new(n->t.repo, w, &n->o, &p, e);

	if (r >= 0) {
		write_plan(n, p);
		r = ingest_run(p, w, ret, &n->res, e);
	}
	ingest_plan_free(p);
	return r;
}

int night_fails(struct nights *n, struct err *e)
{
	struct repo_writer_opts wo = { .threads = 1 };
	struct repo_writer *w = NULL;
	struct manifest *m = NULL;
	struct opened op;
	int r;

	assert_ok(repo_writer_open(n->t.repo, &wo, &w, e), e);
	open_disks(n, &op);
	r = run(n, w, &m, e);
	close_disks(n, &op);
	manifest_free(m);
	repo_writer_close(w, false);
	return r;
}

const struct manifest *night(struct nights *n)
{
	struct repo_writer_opts wo = { .threads = 1 };
	struct repo_writer *w = NULL;
	struct err e = ERR_INIT;
	struct opened op;
	struct backup *b;

	assert_ok(repo_writer_open(n->t.repo, &wo, &w, &e), &e);
	n->list.p = realloc(n->list.p, (n->list.n + 1) * sizeof(*n->list.p));
	assert_non_null(n->list.p);
	b = &n->list.p[n->list.n];
	*b = (struct backup){ 0 };
	open_disks(n, &op);
	assert_ok(run(n, w, &b->m, &e), &e);
	close_disks(n, &op);
	assert_ok(repo_writer_commit(w, b->m, &b->hash, &e), &e);
	repo_writer_close(w, false);
	n->list.n++;
	return b->m;
}

const struct manifest_state_disk *night_row(const struct manifest *m, const char *selector, uint32_t disk)
{
	struct err e = ERR_INIT;

	for (size_t i = 0; i < m->states.n; i++) {
		CLEANUP(free_ptr) char *s = manifest_state_selector(&m->states.p[i], &e);

		assert_non_null(s);
		for (size_t k = 0; !strcmp(s, selector) && k < m->states.p[i].disks.n; k++)
			if (m->states.p[i].disks.p[k].disk == disk)
				return &m->states.p[i].disks.p[k];
	}
	return NULL;
}

const char *night_how(const struct manifest *m, const char *selector, uint32_t disk)
{
	const struct manifest_state_disk *row = night_row(m, selector, disk);

	return row ? read_how_name(row->how) : "none";
}

static void compare_tree(struct repo_reader *rd, const struct tree_ref *t, struct image *im, uint32_t state,
			 bool vm_state)
{
	uint64_t size = vm_state ? image_state(im, state)->vm_state_bytes : image_state(im, state)->size;
	CLEANUP(free_ptr) uint8_t *want = malloc((size_t)size + 1), *have = malloc((size_t)size + 1);
	struct err e = ERR_INIT;

	assert_true(want && have);
	assert_int_equal(t->size, size);
	if (!size)
		return;
	assert_ok(vm_state ? image_pread_vm_state(im, state, want, (size_t)size, 0, &e)
			   : image_pread(im, state, want, (size_t)size, 0, &e),
		  &e);
	assert_ok(repo_reader_pread(rd, "default", t, have, (size_t)size, 0, &e), &e);
	assert_memory_equal(want, have, (size_t)size);
}

/* The state that a row was made of: snapshots by id, layers by number. */
static void compare_row(struct repo_reader *rd, const struct manifest_state *ms, const struct manifest_state_disk *row,
			struct chain *c)
{
	struct image *im = c->image, *view = NULL;
	struct err e = ERR_INIT;
	uint32_t state = 0;

	if (ms->kind == STATE_LAYER) {
		assert_ok(chain_view(c, row->layer, &view, &e), &e);
		im = view;
	}
	if (ms->kind == STATE_SNAPSHOT)
		for (uint32_t i = 1; i < im->info.nstates; i++)
			if (!strcmp(im->states[i].id, row->snapshot_id))
				state = i;
	assert_true((ms->kind == STATE_SNAPSHOT) == (state > 0));
	compare_tree(rd, &row->tree, im, state, false);
	assert_int_equal(row->has_vm_state, image_state(im, state)->vm_state_bytes > 0);
	if (row->has_vm_state)
		compare_tree(rd, &row->vm_state, im, state, true);
	image_close(view);
}

unsigned night_compare(struct nights *n, const struct manifest *m)
{
	struct repo_reader *rd = NULL;
	struct err e = ERR_INIT;
	struct opened op;
	unsigned rows = 0;

	assert_ok(repo_reader_new(n->t.repo, 0, &rd, &e), &e);
	open_disks(n, &op);
	for (size_t i = 0; i < m->states.n; i++)
		for (size_t k = 0; k < m->states.p[i].disks.n; k++, rows++)
			compare_row(rd, &m->states.p[i], &m->states.p[i].disks.p[k],
				    op.chains[m->states.p[i].disks.p[k].disk]);
	close_disks(n, &op);
	repo_reader_free(rd);
	return rows;
}
