/* test_writer_roundtrip.c - what our writers write, our readers read: by the registry, every state, machine memory
 * too. */
#include "tests/test.h"

#include <inttypes.h>
#include <pthread.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/chain.h"
#include "formats/formats.h"
#include "tests/support/folder.h"

#define STATES 3

struct disk {
	uint64_t size, vm_bytes;
	uint8_t *p, *vm;
};

static void fill(uint8_t *p, uint64_t len, uint32_t seed)
{
	for (uint64_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = i / 5000 % 3 == 0 ? 0 : i / 5000 % 3 == 1 ? (uint8_t)(i % 40) : (uint8_t)(seed >> 24);
	}
}

/* VHD and VHDX hold whole sectors only. */
static bool whole_sectors(const char *format)
{
	return strncmp(format, "vhd", 3) == 0;
}

static void make_disks(const char *format, struct disk *d)
{
	for (uint32_t i = 0; i < STATES; i++) {
		d[i].size = 1500000 + i * 300001;
		if (whole_sectors(format))
			d[i].size = round_up(d[i].size, 512);
		d[i].vm_bytes = i == 1 ? 123456 : 0;
		d[i].p = calloc(1, d[i].size);
		d[i].vm = calloc(1, d[i].vm_bytes + 1);
		fill(d[i].p, d[i].size, 1);
		fill(d[i].p + 400000 * i, 70000, i + 2);
		fill(d[i].vm, d[i].vm_bytes, 9);
	}
}

static void write_states(const struct format *f, const struct writer_opts *o, const struct disk *d, uint32_t first)
{
	static const char *const names[STATES] = { "first", "with memory", NULL };
	struct image_writer *w;
	struct err e = ERR_INIT;

	assert_ok(f->create(o, &w, &e), &e);
	for (uint32_t i = first; i < STATES; i++) {
		struct writer_state_opts so = { .name = names[i], .size = d[i].size, .vm_state_bytes = d[i].vm_bytes,
						.date_ns = INT64_C(1600000000000000007), .vm_clock_ns = 5 };

		assert_ok(writer_begin_state(w, &so, &e), &e);
		for (uint64_t off = 0, n; off < d[i].size; off += n) {
			n = min_u64(d[i].size - off, 65536);
			if (i > first && off + n <= d[i - 1].size && memcmp(d[i].p + off, d[i - 1].p + off, n) == 0)
				assert_ok(writer_share(w, i - first - 1, off, n, &e), &e);
			else
				assert_ok(writer_write(w, d[i].p + off, n, off, &e), &e);
		}
		if (d[i].vm_bytes)
			assert_ok(writer_write_vm_state(w, d[i].vm, d[i].vm_bytes, 0, &e), &e);
	}
	assert_ok(writer_finish(w, &e), &e);
}

static void expect_state(struct image *im, uint32_t index, const struct disk *d)
{
	const struct image_state *s = image_state(im, index);
	CLEANUP(free_ptr) uint8_t *got = malloc(d->size + d->vm_bytes);
	struct err e = ERR_INIT;

	assert_int_equal(round_up(s->size, 512), round_up(d->size, 512));	/* qcow2 counts in sectors */
	assert_int_equal(s->vm_state_bytes, d->vm_bytes);
	assert_ok(image_pread(im, index, got, d->size, 0, &e), &e);
	assert_memory_equal(got, d->p, d->size);
	if (d->vm_bytes) {
		assert_ok(image_pread_vm_state(im, index, got, d->vm_bytes, 0, &e), &e);
		assert_memory_equal(got, d->vm, d->vm_bytes);
	}
}

static void roundtrip(const char *format, struct writer_opts o, uint32_t first)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk");
	const struct format *f = format_find(format);
	struct chain_opts co = { .format = format };
	struct disk d[STATES];
	struct chain *c;
	struct err e = ERR_INIT;

	assert_true(f && f->create);
	make_disks(format, d);
	o.path = path;
	o.size = d[STATES - 1].size;
	write_states(f, &o, d, first);
	assert_ok(chain_open(path, &co, &c, &e), &e);
	assert_int_equal(image_info(c->image)->nstates, STATES - first);
	expect_state(c->image, IMAGE_STATE_CURRENT, &d[STATES - 1]);
	for (uint32_t i = first; i + 1 < STATES; i++) {
		const struct image_state *s = image_state(c->image, i - first + 1);

		assert_string_equal(s->name, i == 0 ? "first" : "with memory");
		assert_string_equal(s->id, i == 0 ? "1" : "2");
		assert_int_equal(s->date_ns, INT64_C(1600000000000000007));
		assert_int_equal(s->vm_clock_ns, 5);
		expect_state(c->image, i - first + 1, &d[i]);
	}
	chain_close(c);
	for (uint32_t i = 0; i < STATES; i++) {
		free(d[i].p);
		free(d[i].vm);
	}
	free(path);
	test_folder_done(dir);
}

static void test_roundtrip__raw(void **state)
{
	(void)state;
	roundtrip("raw", (struct writer_opts){ 0 }, STATES - 1);
	roundtrip("raw", (struct writer_opts){ .preallocation = PREALLOC_FULL }, STATES - 1);
}

static void test_roundtrip__qcow(void **state)
{
	static const uint32_t sizes[] = { 512, 0, 65536 };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		for (unsigned threads = 0; threads < 3; threads += 2)
			for (int compress = 0; compress < 2; compress++)
				roundtrip("qcow",
					  (struct writer_opts){
						  .cluster_size = sizes[i], .compress = compress, .threads = threads },
					  STATES - 1);
}

static void test_roundtrip__qcow2(void **state)
{
	static const uint32_t sizes[] = { 512, 0, 2 << 20 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (int compress = 0; compress < 2; compress++) {
			roundtrip("qcow2", (struct writer_opts){ .cluster_size = sizes[i], .compress = compress }, 0);
			roundtrip("qcow2",
				  (struct writer_opts){ .cluster_size = sizes[i], .compress = compress, .threads = 2 },
				  2);
		}
		roundtrip("qcow2", (struct writer_opts){ .cluster_size = sizes[i], .preallocation = PREALLOC_METADATA },
			  0);
		roundtrip("qcow2", (struct writer_opts){ .cluster_size = sizes[i], .compress = true, .zstd = true }, 2);
		for (int compress = 0; i > 0 && compress < 2; compress++)
			roundtrip("qcow2",
				  (struct writer_opts){ .cluster_size = sizes[i], .extended_l2 = true, .compress = compress,
							.zstd = true },
				  2);
	}
}

static void test_roundtrip__vdi(void **state)
{
	static const char *const kinds[] = { NULL, "dynamic", "fixed" };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		roundtrip("vdi", (struct writer_opts){ .subformat = kinds[i] }, STATES - 1);
	for (int p = PREALLOC_OFF; p <= PREALLOC_FULL; p++)
		roundtrip("vdi", (struct writer_opts){ .preallocation = (enum preallocation)p }, STATES - 1);
}

static void test_roundtrip__vmdk(void **state)
{
	static const char *const kinds[] = { NULL, "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
					     "streamOptimized", "vmfs" };

	(void)state;
	for (size_t i = 0; i < 6; i++)
		roundtrip("vmdk", (struct writer_opts){ .subformat = kinds[i], .threads = (unsigned)i }, STATES - 1);
	roundtrip("vmdk", (struct writer_opts){ .compress = true }, STATES - 1);
	for (int p = PREALLOC_FALLOC; p <= PREALLOC_FULL; p++)
		roundtrip("vmdk", (struct writer_opts){ .preallocation = (enum preallocation)p }, STATES - 1);
}

static void test_roundtrip__vhd_and_vhdx(void **state)
{
	static const char *const formats[] = { "vhd", "vhdx" }, *const kinds[] = { NULL, "dynamic", "fixed" };

	(void)state;
	for (size_t f = 0; f < 2; f++) {
		for (size_t i = 0; i < 3; i++)
			roundtrip(formats[f], (struct writer_opts){ .subformat = kinds[i] }, STATES - 1);
		roundtrip(formats[f], (struct writer_opts){ .cluster_size = 1 << 20 }, STATES - 1);
		roundtrip(formats[f], (struct writer_opts){ .cluster_size = f ? 256 << 20 : 512 << 10 }, STATES - 1);
		for (int p = PREALLOC_FALLOC; p <= PREALLOC_FULL; p++) {
			roundtrip(formats[f],
				  (struct writer_opts){ .subformat = "fixed", .preallocation = (enum preallocation)p },
				  STATES - 1);
			roundtrip(formats[f], (struct writer_opts){ .preallocation = (enum preallocation)p }, STATES - 1);
		}
	}
}

/* What can't be kept exactly is refused, and the hint says what can. */
static void test_vhd_and_vhdx__refuse(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk");
	const struct {
		const char *format, *cause, *hint;
		struct writer_opts o;
	} rows[] = {
		{ "vhd", "whole sectors", "-O raw", { .size = 1000 } },
		{ "vhd", "2040 GiB", "vhdx", { .size = 2040 * GIB + 512 } },
		{ "vhd", "dynamic", "fixed", { .size = MIB, .subformat = "dynamic", .preallocation = PREALLOC_FULL } },
		{ "vhd", "no metadata", "", { .size = MIB, .preallocation = PREALLOC_METADATA } },
		{ "vhd", "not 4194304", "", { .size = MIB, .cluster_size = 4 << 20 } },
		{ "vhd", "not 262144", "", { .size = MIB, .cluster_size = 256 << 10 } },
		{ "vhd", "no blocks", "", { .size = MIB, .cluster_size = 2 << 20, .subformat = "fixed" } },
		{ "vhd", "not odd", "", { .size = MIB, .subformat = "odd" } },
		{ "vhd", "compression", "", { .size = MIB, .compress = true } },
		{ "vhd", "one size", "", { .size = MIB, .max_size = 2 * MIB } },
		{ "vhdx", "whole sectors", "-O raw", { .size = 513 } },
		{ "vhdx", "64 TiB", "", { .size = 64 * TIB + 512 } },
		{ "vhdx", "dynamic", "fixed", { .size = MIB, .subformat = "dynamic", .preallocation = PREALLOC_FALLOC } },
		{ "vhdx", "no metadata", "", { .size = MIB, .preallocation = PREALLOC_METADATA } },
		{ "vhdx", "not 524288", "", { .size = MIB, .cluster_size = 512 << 10 } },
		{ "vhdx", "not 3145728", "", { .size = MIB, .cluster_size = 3 << 20 } },
		{ "vhdx", "memory", "--cluster-size", { .size = 64 * TIB, .cluster_size = 1 << 20 } },
		{ "vhdx", "not odd", "", { .size = MIB, .subformat = "odd" } },
		{ "vhdx", "compression", "", { .size = MIB, .compress = true } },
	};
	struct image_writer *w;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct writer_opts o = rows[i].o;

		o.path = path;
		assert_int_equal(format_find(rows[i].format)->create(&o, &w, &e), ERR_INVALID);
		assert_has(e.cause, rows[i].cause);
		assert_has(e.hint, rows[i].hint);
		err_clear(&e);
		assert_true(access(path, F_OK) < 0);
	}
	free(path);
	test_folder_done(dir);
}

/* The largest disks, nearly empty: the first and the last sector come back, and the file stays small. */
static void test_vhd_and_vhdx__largest(void **state)
{
	static const struct {
		const char *format;
		uint64_t size;
	} rows[] = { { "vhd", 2040 * GIB }, { "vhdx", 64 * TIB } };
	uint8_t sector[512], got[512];

	(void)state;
	memset(sector, 0x5a, sizeof(sector));
	for (size_t i = 0; i < 2; i++) {
		char *dir = test_folder_new(), *path = test_path(dir, "disk");
		struct writer_opts o = { .path = path, .size = rows[i].size };
		struct writer_state_opts so = { .size = rows[i].size };
		struct chain_opts co = { .format = rows[i].format };
		struct image_writer *w;
		struct err e = ERR_INIT;
		struct extent x;
		struct chain *c;

		assert_ok(format_find(rows[i].format)->create(&o, &w, &e), &e);
		assert_ok(writer_begin_state(w, &so, &e), &e);
		assert_ok(writer_write(w, sector, 512, 0, &e), &e);
		assert_ok(writer_write(w, sector, 512, o.size - 512, &e), &e);
		assert_ok(writer_finish(w, &e), &e);
		assert_ok(chain_open(path, &co, &c, &e), &e);
		assert_int_equal(image_state(c->image, 0)->size, rows[i].size);
		assert_ok(image_pread(c->image, 0, got, 512, rows[i].size - 512, &e), &e);
		assert_memory_equal(got, sector, 512);
		assert_ok(image_next_extent(c->image, 0, 256 * MIB, rows[i].size, &x, &e), &e);
		assert_int_equal(x.kind, EXTENT_ZERO);
		assert_true(x.len > rows[i].size - 600 * MIB);
		chain_close(c);
		free(path);
		test_folder_done(dir);
	}
}

struct stripe {
	struct image_writer *w;
	const uint8_t *p;
	uint64_t size;
	unsigned n;		/* of THREADS */
};
#define THREADS 4u

static void *write_stripe(void *arg)
{
	const struct stripe *s = arg;
	struct err e = ERR_INIT;

	for (uint64_t off = (uint64_t)s->n * 65536; off < s->size; off += THREADS * 65536)
		assert_ok(writer_write(s->w, s->p + off, min_u64(65536, s->size - off), off, &e), &e);
	return NULL;
}

/* Threads that write parts of the same blocks at once. */
static void test_roundtrip__vdi_threads(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk");
	struct disk d = { .size = 20 * MIB + 4096 };
	struct writer_opts o = { .path = path, .size = d.size };
	struct writer_state_opts so = { .size = d.size };
	struct chain_opts co = { .format = "vdi" };
	struct stripe s[THREADS];
	pthread_t t[THREADS];
	struct err e = ERR_INIT;
	struct image_writer *w;
	struct chain *c;

	(void)state;
	d.p = malloc(d.size);
	assert_non_null(d.p);
	fill(d.p, d.size, 3);
	assert_ok(format_find("vdi")->create(&o, &w, &e), &e);
	assert_true(writer_is_concurrent(w));
	assert_ok(writer_begin_state(w, &so, &e), &e);
	for (unsigned i = 0; i < THREADS; i++) {
		s[i] = (struct stripe){ w, d.p, d.size, i };
		assert_int_equal(pthread_create(&t[i], NULL, write_stripe, &s[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_ok(writer_finish(w, &e), &e);
	assert_ok(chain_open(path, &co, &c, &e), &e);
	expect_state(c->image, IMAGE_STATE_CURRENT, &d);
	chain_close(c);
	free(d.p);
	free(path);
	test_folder_done(dir);
}

/* One disk written with the same seed is one file; without, it isn't; ids that are given are kept. */
static void test_roundtrip__ids(void **state)
{
	static const char *const formats[] = { "vdi", "vhd", "vhdx" };
	static const struct image_ids kept = {
		.uuid = "28dfb01b-389c-4e10-b1b1-95726720e3f0", .modify = "ca03c877-63f0-4ebe-b005-d68a8246994d",
		.content = "0123c877-63f0-4ebe-b005-d68a82469abc"
	};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		const struct format *f = format_find(formats[i]);
		char *dir = test_folder_new(), *path = test_path(dir, "disk");
		struct chain_opts co = { .format = formats[i] };
		uint8_t *was = NULL, *now;
		struct disk d[STATES];
		size_t len, len2;
		struct chain *c;

		make_disks(formats[i], d);
		for (int k = 0; k < 4; k++) {	/* seed a, seed a, seed b, random */
			struct writer_opts o = { .path = path, .size = d[STATES - 1].size, .replace = true, .time_ns = 1,
						 .id_seed = k < 2 ? "a" : k == 2 ? "b" : NULL };

			write_states(f, &o, d, STATES - 1);
			assert_ok(fs_read_file(path, 64 * MIB, &now, &len2, &e), &e);
			if (was) {
				assert_int_equal(len, len2);
				assert_true((memcmp(was, now, len) == 0) == (k == 1));
			}
			free(was);
			was = now;
			len = len2;
		}
		free(was);
		write_states(f, &(struct writer_opts){ .path = path, .size = d[STATES - 1].size, .replace = true,
						       .ids = &kept }, d, STATES - 1);
		assert_ok(chain_open(path, &co, &c, &e), &e);
		assert_string_equal(c->image->info.ids.uuid, kept.uuid);
		assert_string_equal(c->image->info.ids.modify, i == 0 ? kept.modify : "");
		assert_string_equal(c->image->info.ids.content, i == 2 ? kept.content : "");
		chain_close(c);
		for (uint32_t k = 0; k < STATES; k++) {
			free(d[k].p);
			free(d[k].vm);
		}
		free(path);
		test_folder_done(dir);
	}
}

/* What a format can't do is refused before a file is made. */
static void test_roundtrip__vdi_refuses(void **state)
{
	char *dir = test_folder_new(), *path = test_path(dir, "disk");
	const struct writer_opts bad[] = {
		{ .compress = true },
		{ .cluster_size = 65536 },
		{ .subformat = "split" },
		{ .subformat = "dynamic", .preallocation = PREALLOC_METADATA },
		{ .max_size = 2 * MIB },
		{ .size = UINT64_MAX },
		{ .size = (UINT64_C(0x1fffffff) << 20) + 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct writer_opts o = bad[i];
		struct image_writer *w;
		struct err e = ERR_INIT;

		o.path = path;
		o.size = o.size ? o.size : MIB;
		assert_err(format_find("vdi")->create(&o, &w, &e), ERR_INVALID, &e);
	}
	assert_int_equal(test_folder_entries(dir), 0);
	free(path);
	test_folder_done(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roundtrip__raw),
		cmocka_unit_test(test_roundtrip__qcow),
		cmocka_unit_test(test_roundtrip__qcow2),
		cmocka_unit_test(test_roundtrip__vdi),
		cmocka_unit_test(test_roundtrip__vdi_threads),
		cmocka_unit_test(test_roundtrip__vmdk),
		cmocka_unit_test(test_roundtrip__vdi_refuses),
		cmocka_unit_test(test_roundtrip__vhd_and_vhdx),
		cmocka_unit_test(test_vhd_and_vhdx__refuse),
		cmocka_unit_test(test_vhd_and_vhdx__largest),
		cmocka_unit_test(test_roundtrip__ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
