/* The VMDK writer: writes of any size and order, extents' borders, what is refused, and what is left when it fails. */
#include "tests/test.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/chain.h"
#include "formats/formats.h"
#include "formats/vmdk/vmdk_write.h"
#include "tests/support/folder.h"

#define SPLIT ((uint64_t)4192256 * 512)
static const char *const kinds[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "streamOptimized", "vmfs" };

static struct image_writer *begun(const char *path, const char *kind, uint64_t size, bool replace)
{
	const struct writer_opts o = { .path = path, .size = size, .subformat = kind, .replace = replace };
	const struct writer_state_opts so = { .size = size };
	struct image_writer *w = NULL;
	struct err e = ERR_INIT;

	assert_ok(vmdk_create(&o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &so, &e), &e);
	return w;
}

static void put(struct image_writer *w, uint64_t off, size_t len, uint8_t fill)
{
	uint8_t *p = malloc(len);
	struct err e = ERR_INIT;

	assert_non_null(p);
	memset(p, fill, len);
	assert_ok(writer_write(w, p, len, off, &e), &e);
	free(p);
}

static void finished(struct image_writer *w)
{
	struct err e = ERR_INIT;

	assert_ok(writer_finish(w, &e), &e);
}

static struct chain *opened(const char *path)
{
	const struct chain_opts o = { .format = "vmdk" };
	struct err e = ERR_INIT;
	struct chain *c = NULL;

	assert_ok(chain_open(path, &o, &c, &e), &e);
	return c;
}

static void expect(struct chain *c, uint64_t off, size_t len, uint8_t fill)
{
	uint8_t *p = malloc(len);
	struct err e = ERR_INIT;

	assert_non_null(p);
	assert_ok(image_pread(c->image, 0, p, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		if (p[i] != fill)
			fail_msg("byte at %" PRIu64 " is %u, wanted %u", off + i, p[i], fill);
	free(p);
}

/* Parts of grains, a size that ends inside one, and of no whole sectors. */
static void test_write__any_size(void **state)
{
	(void)state;
	for (size_t i = 0; i < 5; i++) {
		char *dir = test_folder_new(), *path = test_path(dir, "disk.vmdk");
		uint64_t size = 3 * 65536 + 1000;
		struct image_writer *w = begun(path, kinds[i], size, false);
		struct chain *c;

		put(w, 10, 20, 1);
		put(w, 100, 65536, 2);
		put(w, 65700, 1, 3);
		put(w, size - 7, 7, 4);
		finished(w);
		c = opened(path);
		assert_int_equal(c->image->info.virtual_size, round_up(size, 512));
		expect(c, 0, 10, 0);
		expect(c, 10, 20, 1);
		expect(c, 30, 70, 0);
		expect(c, 100, 65536, 2);
		expect(c, 65636, 64, 0);
		expect(c, 65700, 1, 3);
		expect(c, 65701, (size_t)(size - 7 - 65701), 0);
		expect(c, size - 7, 7, 4);
		expect(c, size, (size_t)(round_up(size, 512) - size), 0);
		chain_close(c);
		free(path);
		test_folder_done(dir);
	}
}

static void test_write__across_extents(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "a b");
	struct image_writer *w = begun(path, "twoGbMaxExtentSparse", 2 * SPLIT + 70000, false);
	struct chain *c;

	(void)state;
	put(w, 2 * SPLIT - 100000, 170000, 9);
	put(w, SPLIT - 5, 10, 8);
	put(w, 0, 5, 7);
	finished(w);
	assert_int_equal(test_folder_entries(dir), 4);	/* three extents and "a b" */
	c = opened(path);
	assert_int_equal(c->layers[0]->parts.n, 3);
	expect(c, 0, 5, 7);
	expect(c, SPLIT - 5, 10, 8);
	expect(c, SPLIT - 65536, 65531, 0);
	expect(c, 2 * SPLIT - 100000, 170000, 9);
	chain_close(c);
	free(path);
	test_folder_done(dir);
}

struct job {
	struct image_writer *w;
	unsigned n;
};

static void *write_part(void *opaque)
{
	const struct job *j = opaque;

	for (uint64_t g = j->n; g < 200; g += 4)
		put(j->w, g * 65536, 65536, (uint8_t)(g % 251 + 1));
	return NULL;
}

static void test_write__threads(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk.vmdk");
	struct image_writer *w = begun(path, "monolithicSparse", 200 * 65536, false);
	pthread_t t[4];
	struct job j[4];
	struct chain *c;

	(void)state;
	assert_true(writer_is_concurrent(w));
	for (unsigned i = 0; i < 4; i++) {
		j[i] = (struct job){ w, i };
		assert_int_equal(pthread_create(&t[i], NULL, write_part, &j[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	finished(w);
	c = opened(path);
	for (uint64_t g = 0; g < 200; g++)
		expect(c, g * 65536, 65536, (uint8_t)(g % 251 + 1));
	chain_close(c);
	free(path);
	test_folder_done(dir);
}

/* A stream is written in order, or not at all. */
static void test_stream__order(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk.vmdk");
	struct image_writer *w = begun(path, "streamOptimized", MIB, false);
	struct err e = ERR_INIT;

	(void)state;
	assert_false(writer_is_concurrent(w));
	put(w, 500000, 1000, 1);
	assert_err(writer_write(w, "x", 1, 500999, &e), ERR_INTERNAL, &e);
	writer_abort(w);
	assert_int_equal(test_folder_entries(dir), 0);
	free(path);
	test_folder_done(dir);
}

static void test_abort__leaves_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < 5; i++) {
		char *dir = test_folder_new(), *path = test_path(dir, "disk.vmdk");
		struct image_writer *w = begun(path, kinds[i], 5 * SPLIT / 2, false);

		put(w, 65536, 200000, 3);
		writer_abort(w);
		assert_int_equal(test_folder_entries(dir), 0);
		free(path);
		test_folder_done(dir);
	}
}

/* An extent's name that can't be given: the others' are taken back, and no descriptor appears. */
static void test_finish__fails(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk.vmdk"), *second = test_path(dir, "disk-s002.vmdk");
	struct image_writer *w = begun(path, "twoGbMaxExtentSparse", 5 * SPLIT / 2, false);
	struct err e = ERR_INIT;

	(void)state;
	put(w, 0, 1000, 3);
	assert_int_equal(mkdir(second, 0700), 0);
	assert_err(writer_finish(w, &e), ERR_EXISTS, &e);
	assert_int_equal(test_folder_entries(dir), 1);
	/* the same over an old disk: its descriptor must not stay beside new extents */
	assert_int_equal(rmdir(second), 0);
	w = begun(path, "twoGbMaxExtentSparse", 5 * SPLIT / 2, false);
	finished(w);
	assert_int_equal(test_folder_entries(dir), 4);
	w = begun(path, "twoGbMaxExtentSparse", 5 * SPLIT / 2, true);
	put(w, 0, 1000, 4);
	assert_int_equal(unlink(second), 0);
	assert_int_equal(mkdir(second, 0700), 0);
	assert_true(writer_finish(w, &e) < 0);
	assert_int_not_equal(access(path, F_OK), 0);
	free(path);
	free(second);
	test_folder_done(dir);
}

static void test_replace(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk.vmdk");
	struct chain *c;
	struct err e = ERR_INIT;

	(void)state;
	for (uint8_t i = 1; i < 3; i++) {
		struct image_writer *w = begun(path, "monolithicFlat", MIB, i > 1);

		put(w, 0, 1000, i);
		finished(w);
		c = opened(path);
		expect(c, 0, 1000, i);
		chain_close(c);
	}
	assert_int_equal(test_folder_entries(dir), 2);
	{
		const struct writer_opts o = { .path = path, .size = MIB, .subformat = "vmfs" };
		struct image_writer *w;

		assert_err(vmdk_create(&o, &w, &e), ERR_EXISTS, &e);
	}
	free(path);
	test_folder_done(dir);
}

static void test_create__refused(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk.vmdk"), *quote = test_path(dir, "a\"b.vmdk"),
	     *line = test_path(dir, "a\nRW 1 FLAT");
	const struct { struct writer_opts o; const char *words; } rows[] = {
		{ { .path = path, .size = 0 }, "cannot have 0 bytes" },
		{ { .path = path, .size = UINT64_MAX }, "cannot have" },
		{ { .path = path, .size = 2 * TIB }, "too large for a sparse VMDK" },
		{ { .path = path, .size = 2 * TIB, .compress = true }, "too large for a streamOptimized VMDK" },
		{ { .path = path, .size = UINT64_MAX / 8, .compress = true }, "too large for a streamOptimized VMDK" },
		{ { .path = path, .size = 5000 * SPLIT, .subformat = "twoGbMaxExtentSparse" }, "more than 4096 files" },
		{ { .path = path, .size = MIB, .subformat = "thick" }, "is not thick" },
		{ { .path = path, .size = MIB, .cluster_size = 65536 }, "grains of 64 KiB" },
		{ { .path = path, .size = MIB, .max_size = 2 * MIB }, "one size" },
		{ { .path = path, .size = MIB, .compress = true, .subformat = "vmfs" }, "is not compressed" },
		{ { .path = path, .size = MIB, .preallocation = PREALLOC_METADATA }, "metadata" },
		{ { .path = path, .size = MIB, .preallocation = PREALLOC_FULL, .subformat = "monolithicSparse" },
		  "cannot be preallocated" },
		{ { .path = quote, .size = MIB }, "cannot hold that name" },
		{ { .path = line, .size = MIB }, "cannot hold that name" },
	};
	struct image_writer *w;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(vmdk_create(&rows[i].o, &w, &e), ERR_INVALID);
		assert_has(e.cause, rows[i].words);
	}
	assert_int_equal(test_folder_entries(dir), 0);
	free(path);
	free(quote);
	free(line);
	test_folder_done(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write__any_size),
		cmocka_unit_test(test_write__across_extents),
		cmocka_unit_test(test_write__threads),
		cmocka_unit_test(test_stream__order),
		cmocka_unit_test(test_abort__leaves_nothing),
		cmocka_unit_test(test_finish__fails),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_create__refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
