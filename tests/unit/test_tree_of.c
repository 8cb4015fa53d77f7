/* test_tree_of.c - an image's tree without a run is the tree that a backup of it has; what changes or fails gives none.
 */
#include "tests/test.h"

#include "tests/support/night.h"

#define CLUSTER 4096u
#define SIZE (300 * CLUSTER)

static struct fake *make(struct nights *n)
{
	static struct fake *layers[2];	/* the run wants an array; each test ends before the next begins */

	nights_new(n);
	layers[0] = fake_new("top", CLUSTER, SIZE - 100);
	layers[1] = fake_new("below", CLUSTER, SIZE / 2);
	for (uint64_t i = 0; i < 40; i++) {
		fake_write(layers[1], i * 2 * CLUSTER, i % 7, false);	/* some chunks are equal */
		fake_write(layers[0], i * 7 * CLUSTER, 50 + i, i % 3 == 0);
	}
	fake_write(layers[0], SIZE - CLUSTER, 99, false);	/* the last chunk, which is cut off */
	fake_clear(layers[0], 2 * CLUSTER, EXTENT_ZERO);
	n->disks[0] = (struct night_disk){ .name = "vda", .layers = layers, .nlayers = 2 };
	n->ndisks = 1;
	return layers[0];
}

static void done(struct nights *n)
{
	struct fake *top = n->disks[0].layers[0], *below = n->disks[0].layers[1];

	nights_done(n);
	fake_free(top);
	fake_free(below);
}

static int tree_of(struct nights *n, unsigned threads, struct tree_ref *ret, struct err *e)
{
	const struct ingest_opts o = { .threads = threads };
	struct chain *c = fake_chain(n->disks[0].layers, n->disks[0].nlayers);
	int r = ingest_tree_of(n->t.repo, c, &o, ret, e);

	fake_chain_free(c);
	return r;
}

static bool same(const struct tree_ref *a, const struct tree_ref *b)
{
	return a->has_root == b->has_root && a->height == b->height && a->size == b->size && id_eq(&a->root, &b->root);
}

static void test_tree_of__equals_a_backup(void **state)
{
	struct nights n;
	struct fake *f = make(&n);
	struct err e = ERR_INIT;
	const struct manifest *m;
	struct tree_ref t;

	(void)state;
	m = night(&n);
	for (unsigned threads = 1; threads < 4; threads++) {
		assert_ok(tree_of(&n, threads, &t, &e), &e);
		assert_true(same(&t, &night_row(m, "current", 0)->tree));
	}
	/* elsewhere in the file, with explicit zeros: the content counts */
	fake_clear(f, 4 * CLUSTER + 1, EXTENT_ZERO);
	assert_ok(tree_of(&n, 2, &t, &e), &e);
	assert_false(same(&t, &night_row(m, "current", 0)->tree));
	m = night(&n);
	assert_true(same(&t, &night_row(m, "current", 0)->tree));
	done(&n);
}

static void test_tree_of__one_byte_counts(void **state)
{
	struct nights n;
	struct fake *f = make(&n);
	struct err e = ERR_INIT;
	struct tree_ref a, b;

	(void)state;
	assert_ok(tree_of(&n, 2, &a, &e), &e);
	for (size_t i = 0; i < 3; i++) {
		static const uint64_t at[] = { 0, 7 * CLUSTER + 1, SIZE - 101 };

		f->lies = true;
		f->lie_at = at[i];
		assert_ok(tree_of(&n, 2, &b, &e), &e);
		assert_false(same(&a, &b));
	}
	done(&n);
}

static void test_tree_of__fails(void **state)
{
	struct nights n;
	struct fake *f = make(&n);
	struct err e = ERR_INIT;
	struct tree_ref t;

	(void)state;
	f->changed = true;
	assert_int_equal(tree_of(&n, 2, &t, &e), ERR_CHANGED);
	f->changed = false;
	f->bad_map = true;
	assert_true(tree_of(&n, 2, &t, &e) < 0);
	f->bad_map = false;
	f->fails = true;
	f->fail_from = 7 * CLUSTER;
	f->fail_to = 8 * CLUSTER;
	assert_true(tree_of(&n, 2, &t, &e) < 0);
	done(&n);
}

static void test_tree_of__nothing_but_zeros(void **state)
{
	struct nights n;
	struct fake *f = make(&n);
	struct err e = ERR_INIT;
	struct tree_ref t;

	(void)state;
	for (uint64_t i = 0; i < SIZE / CLUSTER; i++)
		fake_clear(f, i * CLUSTER, EXTENT_ZERO);
	assert_ok(tree_of(&n, 2, &t, &e), &e);
	assert_false(t.has_root);
	done(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree_of__equals_a_backup),
		cmocka_unit_test(test_tree_of__one_byte_counts),
		cmocka_unit_test(test_tree_of__fails),
		cmocka_unit_test(test_tree_of__nothing_but_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
