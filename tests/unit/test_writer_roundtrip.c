/* test_writer_roundtrip.c - what our writers write, our readers read: by the registry, every state, machine memory
 * too. */
#include "tests/test.h"

#include <inttypes.h>
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

static void make_disks(struct disk *d)
{
	for (uint32_t i = 0; i < STATES; i++) {
		d[i].size = 1500000 + i * 300001;
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
	make_disks(d);
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

/* One disk written with the same seed is one file; without, it isn't; ids that are given are kept. */
static void test_roundtrip__ids(void **state)
{
	static const char *const formats[] = { "vdi" };
	static const struct image_ids kept = {
		.uuid = "28dfb01b-389c-4e10-b1b1-95726720e3f0", .modify = "ca03c877-63f0-4ebe-b005-d68a8246994d"
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

		make_disks(d);
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
		assert_string_equal(c->image->info.ids.modify, kept.modify);
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
		cmocka_unit_test(test_roundtrip__qcow2),
		cmocka_unit_test(test_roundtrip__vdi),
		cmocka_unit_test(test_roundtrip__vdi_refuses),
		cmocka_unit_test(test_roundtrip__ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
