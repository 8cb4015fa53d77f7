/* test_ingest_reuse.c - trees of earlier backups whose packs are condemned or gone: nothing is built upon what may not
 * stay. */
#include "tests/test.h"

#include "base/num.h"
#include "repo/protocol_internal.h"
#include "tests/support/night.h"
#include "transport/store.h"

#define CLUSTER 4096u
#define SIZE (600 * CLUSTER)	/* a tree of two levels */
#define NAMES_MAX 64

/* 500 clusters of data; snapshot "one"; one cluster changed. */
static struct fake *make_disk(struct nights *n)
{
	static struct fake *layer;	/* the run wants an array */
	struct fake *f = fake_new("a", CLUSTER, SIZE);

	for (uint64_t i = 0; i < 500; i++)
		fake_write(f, i * CLUSTER, 100 + i, false);
	fake_vm_state(f, fake_snapshot(f, "one", "1", 1000), 5 * CLUSTER, 77);
	fake_write(f, 3 * CLUSTER, 1, false);
	layer = f;
	n->disks[0] = (struct night_disk){ .name = "vda", .layers = &layer, .nlayers = 1 };
	n->ndisks = 1;
	return f;
}

struct names {
	char *p[NAMES_MAX];
	size_t n;
};

static int collect(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct names *l = opaque;

	(void)st;
	(void)e;
	assert_true(l->n < NAMES_MAX);
	l->p[l->n++] = strdup(name);
	return 0;
}

static struct names names_of(struct nights *n, const char *prefix)
{
	struct names l = { 0 };
	struct err e = ERR_INIT;

	assert_ok(store_list(n->t.store, prefix, collect, &l, &e), &e);
	return l;
}

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->p[i]);
}

/* A collector condemns the objects below prefix (NULL: none). */
static void condemn(struct nights *n, const char *prefix)
{
	struct names l = { 0 };
	struct err e = ERR_INIT;
	struct protocol_object p = { .type = OBJECT_EPOCH, .session.b = { 9 } };
	char name[OBJECT_NAME_BYTES];

	if (prefix)
		l = names_of(n, prefix);
	p.condemned = (struct name_list){ .p = l.p, .n = l.n };
	assert_ok(protocol_put(n->t.repo, &p, name, &e), &e);
	names_done(&l);
}

static void lose(struct nights *n, const char *prefix)
{
	struct names l = names_of(n, prefix);
	struct err e = ERR_INIT;

	assert_true(l.n > 0);
	for (size_t i = 0; i < l.n; i++)
		assert_ok(store_remove(n->t.store, l.p[i], &e), &e);
	names_done(&l);
}

static void test_reuse__open_epoch_looks_each_id_up(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n);
	(void)night(&n);
	condemn(&n, NULL);
	f->nread = 0;
	m = night(&n);
	assert_string_equal(night_how(m, "snap:one", 0), "same");
	assert_int_equal(f->nread, CLUSTER);	/* all ids are there */
	assert_int_equal(m->bytes_new, 0);
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

/* Neither what a sweep has yet to decide about nor what a slot says that is not trusted. */
static void test_reuse__builds_upon_what_may_be_built_upon(void **state)
{
	struct nights n;
	struct fake *f;

	(void)state;
	nights_new(&n);
	f = make_disk(&n);
	(void)night(&n);
	n.list.p[0].pending = true;
	assert_string_equal(night_how(night(&n), "snap:one", 0), "full");
	n.list.p[1].distrusted = true;
	assert_string_equal(night_how(night(&n), "snap:one", 0), "full");
	assert_string_equal(night_how(night(&n), "snap:one", 0), "same");
	nights_done(&n);
	fake_free(f);
}

static void test_reuse__condemned_chunks_are_read_and_stored_again(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;
	struct id was;

	(void)state;
	nights_new(&n);
	f = make_disk(&n);
	m = night(&n);
	was = night_row(m, "snap:one", 0)->tree.root;
	condemn(&n, "data/");
	f->nread = 0;
	m = night(&n);
	assert_string_equal(night_how(m, "snap:one", 0), "same");
	assert_int_equal(f->nread, 501 * CLUSTER);
	assert_int_equal(m->bytes_new, 506 * CLUSTER);	/* saved memory too */
	assert_memory_equal(&was, &night_row(m, "snap:one", 0)->tree.root, ID_BYTES);
	lose(&n, "epoch/");
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

static void test_reuse__condemned_nodes_make_a_state_be_read(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;
	struct names old;
	struct err e = ERR_INIT;

	(void)state;
	nights_new(&n);
	f = make_disk(&n);
	(void)night(&n);
	old = names_of(&n, "nodes/");
	condemn(&n, "nodes/");
	m = night(&n);
	assert_string_equal(night_how(m, "snap:one", 0), "full");
	assert_true(m->complete);
	/* What was condemned may be deleted now, and everything of this backup still reads. */
	for (size_t i = 0; i < old.n; i++)
		assert_ok(store_remove(n.t.store, old.p[i], &e), &e);
	names_done(&old);
	test_repo_reopen(&n.t, TEST_PASSWORD, NULL);
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

/* Without an epoch trees are trusted; when one turns out to be gone, the disk is read anew. */
static void test_reuse__lost_nodes_make_the_disk_be_read(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n);
	(void)night(&n);
	lose(&n, "nodes/");
	lose(&n, "index/");
	test_repo_reopen(&n.t, TEST_PASSWORD, NULL);
	f->nread = 0;
	m = night(&n);
	assert_string_equal(night_how(m, "snap:one", 0), "full");
	assert_string_equal(night_how(m, "current", 0), "snapshot");
	assert_in_range(f->nread, 501 * CLUSTER, 502 * CLUSTER); /* the first attempt got as far as one cluster */
	assert_true(m->complete);
	assert_has(n.t.notices, "read anew");
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

/* The same, found by the audit alone: nothing changed, so no node was needed before. */
static void test_reuse__audit_finds_lost_nodes(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n);
	fake_clear(f, 3 * CLUSTER, EXTENT_HOLE);
	f->s[0].map[3] = f->s[1].map[3];
	(void)night(&n);
	lose(&n, "nodes/");
	lose(&n, "index/");
	test_repo_reopen(&n.t, TEST_PASSWORD, NULL);
	n.o.audit = AUDIT_DEFAULT;
	m = night(&n);
	assert_string_equal(night_how(m, "snap:one", 0), "full");
	assert_false(n.res.claim_false);
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reuse__open_epoch_looks_each_id_up),
		cmocka_unit_test(test_reuse__builds_upon_what_may_be_built_upon),
		cmocka_unit_test(test_reuse__condemned_chunks_are_read_and_stored_again),
		cmocka_unit_test(test_reuse__condemned_nodes_make_a_state_be_read),
		cmocka_unit_test(test_reuse__lost_nodes_make_the_disk_be_read),
		cmocka_unit_test(test_reuse__audit_finds_lost_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
