/* test_ingest_faults.c - sources that fail, change or lie, and what the audit finds. */
#include "tests/test.h"

#include "base/num.h"
#include "tests/support/night.h"

#define CLUSTER 4096u
#define SIZE (64 * CLUSTER)

static struct fake *layers[NIGHT_DISKS_MAX];	/* the run wants an array; each test ends before the next begins */

static void add_disk(struct nights *n, struct fake *f)
{
	layers[n->ndisks] = f;
	n->disks[n->ndisks] = (struct night_disk){
		.name = n->ndisks ? "vdb" : "vda", .layers = &layers[n->ndisks], .nlayers = 1,
	};
	n->ndisks++;
}

/* 32 clusters of data; snapshot "one"; four changed; snapshot "two"; one more written. */
static struct fake *make_disk(struct nights *n, const char *path)
{
	struct fake *f = fake_new(path, CLUSTER, SIZE);

	for (uint64_t i = 0; i < 32; i++)
		fake_write(f, i * CLUSTER, 100 + i, false);
	(void)fake_snapshot(f, "one", "1", 1000);
	for (uint64_t i = 4; i < 8; i++)
		fake_write(f, i * CLUSTER, 200 + i, false);
	(void)fake_snapshot(f, "two", "2", 2000);
	fake_write(f, 40 * CLUSTER, 300, false);
	add_disk(n, f);
	return f;
}

static void fail_at(struct fake *f, uint32_t state, uint64_t off)
{
	f->fails = true;
	f->fail_state = state;
	f->fail_from = off;
	f->fail_to = off + 1;
}

static void lie_at(struct fake *f, uint32_t state, uint64_t off)
{
	f->lies = true;
	f->lie_state = state;
	f->lie_at = off;
}

static const char *problem(const struct manifest *m, size_t i)
{
	assert_true(i < m->problems.n);
	return m->problems.p[i].text;
}

/* --- unreadable ------------------------------------------------------------------------------------------------ */

static void test_fault__unreadable_state_is_left_out(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	fail_at(f, 2, 5 * CLUSTER);
	m = night(&n);
	assert_true(n.res.incomplete);
	assert_false(m->complete);
	assert_null(night_row(m, "snap:two", 0));
	assert_int_equal(m->problems.n, 1);
	assert_string_equal(m->problems.p[0].disk, "vda");
	assert_string_equal(m->problems.p[0].state, "snap:two");
	assert_has(problem(m, 0), "made to fail");
	assert_string_equal(night_how(m, "current", 0), "snapshot");	/* on the nearest that could be read */
	assert_int_equal(night_compare(&n, m), 2);
	f->fails = false;
	m = night(&n);
	assert_true(m->complete);
	assert_string_equal(night_how(m, "snap:one", 0), "full"); /* nothing is built upon a disk that had a problem */
	assert_int_equal(night_compare(&n, m), 3);
	nights_done(&n);
	fake_free(f);
}

static void test_fault__first_state_unreadable_others_go_on(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	fail_at(f, 1, 0);
	m = night(&n);
	assert_null(night_row(m, "snap:one", 0));
	assert_string_equal(night_how(m, "snap:two", 0), "full");
	assert_string_equal(night_how(m, "current", 0), "snapshot");
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

static void test_fault__broken_map(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	f->bad_map = true;
	f->bad_state = 2;
	m = night(&n);
	assert_null(night_row(m, "snap:two", 0));
	assert_has(problem(m, 0), "broken");
	assert_int_equal(m->problems.n, 1);
	f->bad_map = false;
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

static void test_fault__another_disk_goes_on(void **state)
{
	struct nights n;
	struct fake *a, *b;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	a = make_disk(&n, "a");
	b = make_disk(&n, "b");
	fail_at(a, 0, 40 * CLUSTER);
	m = night(&n);
	assert_false(m->complete);
	assert_null(night_row(m, "current", 0));
	assert_non_null(night_row(m, "current", 1));
	a->fails = false;
	m = night(&n);
	assert_string_equal(night_how(m, "snap:one", 0), "full");
	assert_string_equal(night_how(m, "snap:one", 1), "same");
	assert_int_equal(night_compare(&n, m), 6);
	nights_done(&n);
	fake_free(a);
	fake_free(b);
}

static void test_fault__changed_source_is_incomplete(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	f->changed = true;
	m = night(&n);
	assert_true(n.res.incomplete);
	assert_false(m->complete);
	assert_int_equal(m->problems.n, 1);
	assert_null(m->problems.p[0].state);
	assert_has(problem(m, 0), "changed while it was read");
	assert_int_equal(m->states.n, 3);
	f->changed = false;
	assert_string_equal(night_how(night(&n), "snap:one", 0), "full");
	nights_done(&n);
	fake_free(f);
}

static void test_fault__cancelled(void **state)
{
	struct cancel stop = { 1 };
	struct err e = ERR_INIT;
	struct nights n;
	struct fake *f;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	n.o.cancel = &stop;
	assert_int_equal(night_fails(&n, &e), ERR_CANCELLED);
	nights_done(&n);
	fake_free(f);
}

/* --- audit ----------------------------------------------------------------------------------------------------- */

static void test_audit__reused_tree_proves_false(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	lie_at(f, 2, 6 * CLUSTER + 9);	/* of snapshot "two"'s own bytes, which the current state shows too */
	lie_at(f, 0, 6 * CLUSTER + 9);
	n.o.audit = AUDIT_PERCENT;
	n.o.audit_value = 100;
	m = night(&n);
	assert_true(n.res.claim_false);
	assert_false(n.res.incomplete);
	assert_true(m->complete);
	assert_int_equal(m->problems.n, 1);
	assert_has(problem(m, 0), "is not");
	assert_has(problem(m, 0), "24576");
	assert_int_equal(m->disks.p[0].how, READ_FULL);
	assert_string_equal(night_how(m, "snap:one", 0), "full");
	assert_string_equal(night_how(m, "current", 0), "full");
	assert_int_equal(night_compare(&n, m), 3);
	nights_done(&n);
	fake_free(f);
}

static void test_audit__old_snapshot_proves_false(void **state)
{
	struct nights n;
	struct fake *f;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	lie_at(f, 1, 5 * CLUSTER);	/* only snapshot "one" shows that place */
	n.o.audit = AUDIT_DEFAULT;	/* less than 4 MiB in all: that is read whole */
	assert_int_equal(night_compare(&n, night(&n)), 3);
	assert_true(n.res.claim_false);
	nights_done(&n);
	fake_free(f);
}

static void test_audit__equal_origin_proves_false(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	lie_at(f, 0, 20 * CLUSTER);	/* the current state claims the snapshot's place, but reads otherwise */
	n.o.audit = AUDIT_PERCENT;
	n.o.audit_value = 100;
	m = night(&n);
	assert_true(n.res.claim_false);
	assert_has(problem(m, 0), "snap:two");
	assert_int_equal(night_compare(&n, m), 3);
	nights_done(&n);
	fake_free(f);
}

/* The second reading meets the same failure: it is told once. */
static void test_audit__false_and_unreadable(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	fail_at(f, 0, 40 * CLUSTER);
	lie_at(f, 1, 5 * CLUSTER);
	n.o.audit = AUDIT_PERCENT;
	n.o.audit_value = 100;
	m = night(&n);
	assert_true(n.res.claim_false);
	assert_true(n.res.incomplete);
	assert_int_equal(m->problems.n, 2);
	assert_has(problem(m, 0), "is not");
	assert_has(problem(m, 1), "made to fail");
	nights_done(&n);
	fake_free(f);
}

static void test_audit__off_looks_at_nothing(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	lie_at(f, 1, 5 * CLUSTER);
	m = night(&n);
	assert_false(n.res.claim_false);
	assert_int_equal(m->disks.p[0].bytes_audited, 0);
	/* Each place once: 32, and 4 more of snapshot "one". */
	assert_int_equal(m->disks.p[0].bytes_unchanged, 36 * CLUSTER);
	nights_done(&n);
	fake_free(f);
}

static void test_audit__changed_source_claimed_nothing(void **state)
{
	struct nights n;
	struct fake *f;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	lie_at(f, 0, 20 * CLUSTER);
	f->changed = true;
	n.o.audit = AUDIT_PERCENT;
	n.o.audit_value = 100;
	(void)night(&n);
	assert_false(n.res.claim_false);
	assert_true(n.res.incomplete);
	nights_done(&n);
	fake_free(f);
}

static void test_audit__unreadable_is_incomplete(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	fail_at(f, 1, 5 * CLUSTER);
	n.o.audit = AUDIT_PERCENT;
	n.o.audit_value = 100;
	m = night(&n);
	assert_false(m->complete);
	assert_has(problem(m, 0), "audit");
	assert_int_equal(m->states.n, 3);
	nights_done(&n);
	fake_free(f);
}

/* 16 MiB that don't change: four units of 4 MiB. */
static struct fake *make_large(struct nights *n)
{
	struct fake *f = fake_new("large", 65536, 16 * MIB);

	for (uint64_t off = 0; off < 16 * MIB; off += 65536)
		fake_write(f, off, off + 1, false);
	(void)fake_snapshot(f, "one", "1", 1000);
	add_disk(n, f);
	n->o.audit = AUDIT_OFF;
	(void)night(n);
	return f;
}

static uint64_t audited(struct nights *n, enum audit_mode mode, double value)
{
	const struct manifest *m;

	n->o.audit = mode;
	n->o.audit_value = value;
	m = night(n);
	assert_int_equal(m->disks.p[0].bytes_unchanged, 16 * MIB);
	assert_int_equal(n->res.bytes_audited, m->disks.p[0].bytes_audited);
	assert_int_equal(n->res.bytes_read, m->disks.p[0].bytes_audited);
	assert_int_equal(m->disks.p[0].bytes_read, 0);
	return m->disks.p[0].bytes_audited;
}

static void test_audit__budgets(void **state)
{
	struct nights n;
	struct fake *f;

	(void)state;
	nights_new(&n);
	f = make_large(&n);
	assert_int_equal(audited(&n, AUDIT_OFF, 0), 0);
	assert_int_equal(audited(&n, AUDIT_DEFAULT, 0), 4 * MIB);
	assert_int_equal(audited(&n, AUDIT_PERCENT, 50), 8 * MIB);
	assert_int_equal(audited(&n, AUDIT_PERCENT, 100), 16 * MIB);
	assert_int_equal(audited(&n, AUDIT_SECONDS, 0), 4 * MIB);
	assert_int_equal(audited(&n, AUDIT_SECONDS, 1000), 16 * MIB);
	nights_done(&n);
	fake_free(f);
}

static void test_audit__what_is_cut_is_carried_over(void **state)
{
	struct nights n;
	struct fake *f;
	struct manifest *last;

	(void)state;
	nights_new(&n);
	f = make_large(&n);
	last = n.list.p[n.list.n - 1].m;
	last->disks.p[0].audit_owed = 100 * MIB;	/* more than there is */
	assert_int_equal(audited(&n, AUDIT_OFF, 0), 0);
	last = n.list.p[n.list.n - 1].m;
	assert_int_equal(last->disks.p[0].audit_owed, 16 * MIB);
	/* A tenth of a run that reads nothing is no time: one unit, and the rest stays owed. */
	assert_int_equal(audited(&n, AUDIT_DEFAULT, 0), 4 * MIB);
	last = n.list.p[n.list.n - 1].m;
	assert_int_equal(last->disks.p[0].audit_owed, 12 * MIB);
	assert_int_equal(audited(&n, AUDIT_PERCENT, 100), 16 * MIB);
	assert_int_equal(n.list.p[n.list.n - 1].m->disks.p[0].audit_owed, 0);
	nights_done(&n);
	fake_free(f);
}

/* One unit of four a night: a lie anywhere is found within a few nights. */
static void test_audit__sample_is_random(void **state)
{
	struct nights n;
	struct fake *f;
	unsigned found = 0;

	(void)state;
	nights_new(&n);
	f = make_large(&n);
	lie_at(f, 0, 13 * MIB);
	for (unsigned i = 0; i < 64 && !found; i++) {
		n.o.audit = AUDIT_DEFAULT;
		(void)night(&n);
		found += n.res.claim_false;
	}
	assert_int_equal(found, 1);	/* missed with probability 0.75^64: one in 100 million */
	nights_done(&n);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fault__unreadable_state_is_left_out),
		cmocka_unit_test(test_fault__first_state_unreadable_others_go_on),
		cmocka_unit_test(test_fault__broken_map),
		cmocka_unit_test(test_fault__another_disk_goes_on),
		cmocka_unit_test(test_fault__changed_source_is_incomplete),
		cmocka_unit_test(test_fault__cancelled),
		cmocka_unit_test(test_audit__reused_tree_proves_false),
		cmocka_unit_test(test_audit__old_snapshot_proves_false),
		cmocka_unit_test(test_audit__equal_origin_proves_false),
		cmocka_unit_test(test_audit__false_and_unreadable),
		cmocka_unit_test(test_audit__off_looks_at_nothing),
		cmocka_unit_test(test_audit__changed_source_claimed_nothing),
		cmocka_unit_test(test_audit__unreadable_is_incomplete),
		cmocka_unit_test(test_audit__budgets),
		cmocka_unit_test(test_audit__what_is_cut_is_carried_over),
		cmocka_unit_test(test_audit__sample_is_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
