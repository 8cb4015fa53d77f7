/* test_ingest_compare.c - two maps walked in step, against a model that asks byte by byte. */
#include "tests/test.h"

#include <time.h>

#include "base/num.h"
#include "repo/ingest/ingest_internal.h"
#include "tests/support/fake_image.h"

#define UNIT 512u	/* the least cluster */
#define STEP 256u	/* sizes are multiples of it */

/* What the map shows at off: false for zeros. */
static bool origin_at(struct image *im, uint32_t state, uint64_t off, struct extent_origin *ret)
{
	struct err e = ERR_INIT;
	struct extent x;

	if (!im || off >= image_state(im, state)->size)
		return false;
	assert_ok(image_next_extent(im, state, off, 1, &x, &e), &e);
	*ret = x.origin;
	return x.kind == EXTENT_DATA;
}

static enum run_kind model(struct image *base, uint32_t bs, struct image *next, uint32_t ns, uint64_t chunk,
			   uint32_t chunk_size)
{
	bool same = true, zero = true;

	for (uint64_t off = chunk * chunk_size; off < (chunk + 1) * chunk_size; off += STEP) {
		struct extent_origin a = { 0 }, b = { 0 };
		bool da = origin_at(base, bs, off, &a), db = origin_at(next, ns, off, &b);

		same &= da == db && a.layer == b.layer && a.file == b.file && a.host == b.host && a.inner == b.inner &&
			a.compressed == b.compressed;
		zero &= !db;
	}
	return same ? (zero ? RUN_EMPTY : RUN_KEEP) : (zero ? RUN_ZERO : RUN_READ);
}

/* The grid's runs follow each other, differ from their neighbours, and say what the model says. */
static void compare(struct image *base, uint32_t bs, struct image *next, uint32_t ns, uint32_t chunk_size)
{
	struct err e = ERR_INIT;
	struct map mb, mn;
	struct chunk_run run, before = { 0 };
	struct grid g;
	uint64_t at = 0;

	map_init(&mn, next, ns);
	map_init(&mb, base, bs);
	assert_ok(grid_init(&g, base ? &mb : NULL, &mn, chunk_size, 0, UINT64_MAX, &e), &e);
	for (;;) {
		int r = grid_next(&g, &run, &e);

		assert_ok(r, &e);
		if (r == 0)
			break;
		assert_int_equal(run.from, at);
		assert_true(run.to > run.from);
		assert_true(at == 0 || run.kind != before.kind);
		for (; at < run.to; at++)
			assert_int_equal(run.kind, model(base, bs, next, ns, at, chunk_size));
		before = run;
	}
	assert_int_equal(at, div_up(image_state(next, ns)->size, chunk_size));
}

/* Random writes, clears and snapshots. */
static void scribble(struct fake *f, uint64_t *rng, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t off = fake_random(rng) % f->pub[0].size, what = fake_random(rng) % 10;

		if (what < 7)
			fake_write(f, off, fake_random(rng), what < 2);
		else
			fake_clear(f, off, what == 7 ? EXTENT_HOLE : EXTENT_ZERO);
	}
}

static void random_images(uint32_t cluster, uint32_t chunk_size, uint64_t seed)
{
	uint64_t rng = seed, size = (24 + seed % 5) * max_u64(cluster, chunk_size) - (seed % 3) * UNIT;
	struct fake *f[2] = { fake_new("top", cluster, size), fake_new("low", 512, size - size / 3 / UNIT * UNIT) };
	struct chain *c;
	uint32_t s1, s2;

	scribble(f[1], &rng, 40);
	scribble(f[0], &rng, 25);
	s1 = fake_snapshot(f[0], "s1", "1", 1);
	scribble(f[0], &rng, 6);
	fake_resize(f[0], size + 3 * chunk_size + UNIT);
	s2 = fake_snapshot(f[0], "s2", "2", 2);
	scribble(f[0], &rng, 6);
	fake_resize(f[0], size / 2);
	c = fake_chain(f, 2);
	for (uint32_t a = 0; a < 3; a++)
		for (uint32_t b = 0; b < 3; b++)
			compare(c->image, a, c->image, b, chunk_size);
	compare(NULL, 0, c->image, s1, chunk_size);
	compare(c->layers[1], 0, c->image, s2, chunk_size);
	fake_chain_free(c);
	fake_free(f[0]);
	fake_free(f[1]);
}

static void test_grid__random_images_as_the_model(void **state)
{
	static const uint32_t clusters[] = { 512, 4096, 65536, 2u << 20 };
	static const uint32_t chunks[] = { 4096, 65536 };

	(void)state;
	for (size_t i = 0; i < 4; i++)
		for (size_t k = 0; k < 2; k++)
			for (uint64_t seed = 1; seed <= (clusters[i] > MIB ? 1 : 6); seed++)
				random_images(clusters[i], chunks[k], seed * 97 + i * 7 + k);
}

static struct chunk_run first_run(struct image *im, uint32_t base, uint32_t next, uint32_t chunk_size)
{
	struct err e = ERR_INIT;
	struct chunk_run run = { 0 };
	struct map mb, mn;
	struct grid g;

	map_init(&mb, im, base);
	map_init(&mn, im, next);
	assert_ok(grid_init(&g, &mb, &mn, chunk_size, 0, UINT64_MAX, &e), &e);
	assert_ok(grid_next(&g, &run, &e), &e);
	return run;
}

static void test_grid__compressed_same_place_is_same(void **state)
{
	struct fake *f = fake_new("x", 65536, 65536);
	struct chain *c;
	uint32_t s;

	(void)state;
	fake_write(f, 0, 1, true);
	s = fake_snapshot(f, "s", "1", 1);
	c = fake_chain(&f, 1);
	assert_int_equal(first_run(c->image, s, 0, 4096).kind, RUN_KEEP);
	assert_int_equal(first_run(c->image, s, 0, 4096).to, 16);	/* chunks within the cluster, by inner offset */
	fake_chain_free(c);
	f->s[0].map[0].compressed = false;	/* same host, other form */
	c = fake_chain(&f, 1);
	assert_int_equal(first_run(c->image, s, 0, 4096).kind, RUN_READ);
	fake_chain_free(c);
	fake_free(f);
}

/* The same place of another file of the image: other bytes, and no continuation either. */
static void test_grid__other_file_is_not_same(void **state)
{
	struct fake *f[2] = { fake_new("x", 4096, 3 * 4096), fake_new("low", 4096, 4096) };
	struct err e = ERR_INIT;
	struct extent x;
	struct chain *c;
	uint32_t s;

	(void)state;
	for (uint64_t i = 0; i < 3; i++)
		fake_write(f[0], i * 4096, i + 1, false);
	s = fake_snapshot(f[0], "s", "1", 1);
	f[0]->s[0].map[1].file = 1;
	c = fake_chain(f, 2);
	assert_ok(image_next_extent(c->image, 0, 0, UINT64_MAX, &x, &e), &e);
	assert_int_equal(x.len, 4096);
	assert_ok(image_next_extent(c->image, s, 0, UINT64_MAX, &x, &e), &e);
	assert_int_equal(x.len, 3 * 4096);
	assert_int_equal(first_run(c->image, s, 0, 4096).to, 1);
	assert_int_equal(first_run(c->image, s, 0, 4096).kind, RUN_KEEP);
	assert_int_equal(first_run(c->image, s, 0, 12288).kind, RUN_READ);
	fake_chain_free(c);
	fake_free(f[0]);
	fake_free(f[1]);
}

static void test_grid__unknown_origin_is_never_same(void **state)
{
	struct fake *f = fake_new("x", 65536, 65536);
	struct chain *c;
	uint32_t s;

	(void)state;
	f->s[0].map[0] = (struct fake_cluster){ .kind = EXTENT_DATA, .host = IMAGE_ORIGIN_NONE };
	s = fake_snapshot(f, "s", "1", 1);
	c = fake_chain(&f, 1);
	assert_int_equal(first_run(c->image, s, 0, 65536).kind, RUN_READ);
	fake_chain_free(c);
	fake_free(f);
}

static void test_grid__part_of_a_disk(void **state)
{
	struct err e = ERR_INIT;
	struct fake *f = fake_new("x", 4096, 100 * 4096);
	struct chain *c;
	struct chunk_run run;
	struct map m;
	struct grid g;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		fake_write(f, i * 4096, i + 1, false);
	c = fake_chain(&f, 1);
	map_init(&m, c->image, 0);
	assert_ok(grid_init(&g, NULL, &m, 4096, 10, 20, &e), &e);
	assert_int_equal(grid_next(&g, &run, &e), 1);
	assert_int_equal(run.from, 10);
	assert_int_equal(run.to, 20);
	assert_int_equal(grid_next(&g, &run, &e), 0);
	assert_ok(grid_init(&g, NULL, &m, 4096, 100, UINT64_MAX, &e), &e);
	assert_int_equal(grid_next(&g, &run, &e), 0);
	fake_chain_free(c);
	fake_free(f);
}

/* 64 PiB of holes: as many steps as extents. */
static void test_grid__vast_holes_take_no_time(void **state)
{
	uint64_t size = (uint64_t)64 << 50;
	struct fake *f = fake_new("x", 2u << 20, size);
	struct chain *c;
	clock_t start = clock();
	struct chunk_run run;

	(void)state;
	(void)fake_snapshot(f, "s", "1", 1);
	c = fake_chain(&f, 1);
	run = first_run(c->image, 1, 0, 65536);
	assert_int_equal(run.kind, RUN_EMPTY);
	assert_int_equal(run.to, size / 65536);
	assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
	fake_chain_free(c);
	fake_free(f);
}

static void test_grid__broken_map_is_an_error(void **state)
{
	struct err e = ERR_INIT;
	struct fake *f = fake_new("x", 4096, 4096);
	struct chunk_run run;
	struct map m;
	struct grid g;

	(void)state;
	f->bad_map = true;
	map_init(&m, &f->im, 0);
	assert_ok(grid_init(&g, NULL, &m, 4096, 0, UINT64_MAX, &e), &e);
	assert_err(grid_next(&g, &run, &e), ERR_CORRUPT, &e);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grid__random_images_as_the_model),
		cmocka_unit_test(test_grid__compressed_same_place_is_same),
		cmocka_unit_test(test_grid__other_file_is_not_same),
		cmocka_unit_test(test_grid__unknown_origin_is_never_same),
		cmocka_unit_test(test_grid__part_of_a_disk),
		cmocka_unit_test(test_grid__vast_holes_take_no_time),
		cmocka_unit_test(test_grid__broken_map_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
