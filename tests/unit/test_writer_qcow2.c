/*
 * test_writer_qcow2.c - the qcow2 writer, read back by a small decoder of its own that trusts nothing: every refcount
 * is counted again, every copied flag compared, every state and machine memory read through the tables.
 */
#include "tests/test.h"

#include <inttypes.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/crypt/crypt.h"
#include "formats/qcow2/qcow2_write.h"
#include "tests/support/folder.h"
#include "tests/support/qdecode.h"

struct fixture {
	char *dir, *path;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->dir = test_folder_new();
	f->path = test_path(f->dir, "disk.qcow2");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	test_folder_done(f->dir);
	free(f->path);
	free(f);
	return 0;
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return *seed >> 33;
}

/* ---- disks ---- */

struct disk {
	uint64_t size, vm_bytes;
	uint8_t *p, *vm;
};

/* Half of it noise, a quarter compressible, a quarter zero, in pieces of about 3000 bytes. */
static void fill(uint8_t *p, uint64_t len, uint64_t *seed)
{
	for (uint64_t off = 0, n; off < len; off += n) {
		uint64_t kind = next_random(seed) % 4;

		n = min_u64(len - off, 1 + next_random(seed) % 6000);
		memset(p + off, 0, n);
		for (uint64_t i = 0; kind && i < n; i++)
			p[off + i] = kind == 1 ? (uint8_t)(i % 50) : (uint8_t)next_random(seed);
	}
}

static struct disk disk_new(uint64_t size, uint64_t vm_bytes, uint64_t *seed)
{
	struct disk d = { .size = size, .vm_bytes = vm_bytes, .p = calloc(1, size + 1), .vm = calloc(1, vm_bytes + 1) };

	assert_true(d.p && d.vm);
	fill(d.p, size, seed);
	fill(d.vm, vm_bytes, seed);
	return d;
}

static void disk_done(struct disk *d)
{
	free(d->p);
	free(d->vm);
}

/* As from, cut or grown to size, with some places changed. */
static struct disk disk_from(const struct disk *from, uint64_t size, uint64_t vm_bytes, unsigned changes,
			     uint64_t *seed)
{
	struct disk d = disk_new(size, vm_bytes, seed);

	memcpy(d.p, from->p, min_u64(size, from->size));
	for (unsigned i = 0; i < changes && size; i++) {
		uint64_t off = next_random(seed) % size;

		fill(d.p + off, min_u64(size - off, next_random(seed) % 20000), seed);
	}
	return d;
}

struct piece {
	uint64_t off, len;
	uint32_t from;		/* state to share with; UINT32_MAX: write */
};

struct plan {
	struct piece p[100000];
	size_t n;
};

static bool equal_to(const struct disk *d, const struct disk *from, uint64_t off, uint64_t len)
{
	uint64_t both = off >= from->size ? 0 : min_u64(len, from->size - off);

	return memcmp(d->p + off, from->p + off, both) == 0 && bytes_all_zero(d->p + off + both, len - both);
}

/* Cuts disk i into steps, merges neighbours at random, and shuffles. */
static void make_plan(struct plan *plan, const struct disk *disks, uint32_t i, uint64_t step, bool shuffle,
		      uint64_t *seed)
{
	plan->n = 0;
	for (uint64_t off = 0; off < disks[i].size; off += step) {
		uint64_t len = min_u64(step, disks[i].size - off);
		uint32_t from = i ? (uint32_t)(next_random(seed) % i) : UINT32_MAX;
		struct piece *last = plan->n ? &plan->p[plan->n - 1] : NULL;

		if (last && last->from != UINT32_MAX)
			from = last->from;
		if (from != UINT32_MAX && !equal_to(&disks[i], &disks[from], off, len))
			from = UINT32_MAX;
		if (last && last->from == from && (from != UINT32_MAX || next_random(seed) % 3 == 0)) {
			last->len += len;
			continue;
		}
		assert_true(plan->n < 100000);
		plan->p[plan->n++] = (struct piece){ off, len, from };
	}
	for (size_t k = plan->n; shuffle && k > 1; k--) {
		size_t r = next_random(seed) % k;
		struct piece t = plan->p[r];

		plan->p[r] = plan->p[k - 1];
		plan->p[k - 1] = t;
	}
}

struct scenario {
	struct writer_opts o;
	uint32_t nstates;
	uint64_t step;		/* of writes */
	bool shuffle, resize, vm, no_share;
	uint64_t size;
};

static void write_state(struct image_writer *w, const struct plan *plan, const struct disk *d, bool no_share)
{
	struct err e = ERR_INIT;

	for (size_t k = 0; k < plan->n; k++) {
		const struct piece *p = &plan->p[k];

		if (p->from != UINT32_MAX && !no_share)
			assert_ok(writer_share(w, p->from, p->off, p->len, &e), &e);
		else
			assert_ok(writer_write(w, d->p + p->off, p->len, p->off, &e), &e);
	}
	for (uint64_t off = 0, n; off < d->vm_bytes; off += n) {
		n = min_u64(d->vm_bytes - off, 10000);
		assert_ok(writer_write_vm_state(w, d->vm + off, n, off, &e), &e);
	}
}

static void write_all(const struct scenario *s, const struct disk *disks, uint64_t *seed)
{
	CLEANUP(free_ptr) struct plan *plan = malloc(sizeof(*plan));
	struct writer_opts o = s->o;
	struct image_writer *w;
	struct err e = ERR_INIT;

	o.size = disks[s->nstates - 1].size;
	assert_ok(qcow2_create(&o, &w, &e), &e);
	for (uint32_t i = 0; i < s->nstates; i++) {
		char name[40];
		struct writer_state_opts so = { .size = disks[i].size,
						.vm_state_bytes = disks[i].vm_bytes,
						.vm_clock_ns = i * 7,
						.date_ns = INT64_C(1700000000123456789) + i };

		snprintf(name, sizeof(name), "snap %u", i);
		so.name = i + 1 < s->nstates ? name : NULL;
		assert_ok(writer_begin_state(w, &so, &e), &e);
		make_plan(plan, disks, i, s->step, s->shuffle, seed);
		write_state(w, plan, &disks[i], s->no_share);
	}
	assert_ok(writer_finish(w, &e), &e);
}

static void expect_all(const char *path, const struct disk *disks, uint32_t n, const struct image_secret *secret)
{
	CLEANUP(qdecode_done) struct qdecode im;

	qdecode_load(&im, path);
	if (secret)
		qdecode_unlock(&im, path, secret);
	assert_int_equal(im.nsnap, n - 1);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t vm_base = round_up(disks[i].size, im.cluster * im.l2_n), full = round_up(disks[i].size, 512);
		CLEANUP(free_ptr) uint8_t *got = malloc(full + disks[i].vm_bytes + im.cluster + 1);
		char name[40];

		assert_int_equal(im.t[i].size, full);
		qdecode_read(&im, &im.t[i], got, round_up(full, im.cluster), 0);
		assert_memory_equal(got, disks[i].p, disks[i].size);
		assert_true(bytes_all_zero(got + disks[i].size, round_up(full, im.cluster) - disks[i].size));
		assert_int_equal(im.t[i].vm_bytes, disks[i].vm_bytes);
		qdecode_read(&im, &im.t[i], got, disks[i].vm_bytes, vm_base);
		assert_memory_equal(got, disks[i].vm, disks[i].vm_bytes);
		if (i + 1 == n)
			break;
		snprintf(name, sizeof(name), "%usnap %u", i + 1, i);
		assert_int_equal(get_be16(im.snap[i] + 12) + get_be16(im.snap[i] + 14), strlen(name));
		assert_memory_equal(im.snap[i] + 64, name, strlen(name));
		assert_int_equal(get_be32(im.snap[i] + 16), 1700000000);
		assert_int_equal(get_be32(im.snap[i] + 20), 123456789 + i);
		assert_int_equal(get_be64(im.snap[i] + 24), i * 7);
	}
	qdecode_check(&im);
}

static void run(struct fixture *f, struct scenario s, uint64_t seed)
{
	struct disk disks[QDECODE_STATES] = { 0 };

	s.o.path = f->path;
	s.o.replace = true;
	for (uint32_t i = 0; i < s.nstates; i++) {
		uint64_t size = s.resize ? s.size / 2 + next_random(&seed) % s.size : s.size;
		uint64_t vm = s.vm && i + 1 < s.nstates ? 1 + next_random(&seed) % 200000 : 0;

		disks[i] = i ? disk_from(&disks[next_random(&seed) % i], size, vm, (unsigned)(next_random(&seed) % 6),
					 &seed)
			     : disk_new(size, vm, &seed);
	}
	write_all(&s, disks, &seed);
	expect_all(f->path, disks, s.nstates, s.o.secret);
	for (uint32_t i = 0; i < s.nstates; i++)
		disk_done(&disks[i]);
	assert_int_equal(test_folder_entries(f->dir), 1);
}

/* ---- tests ---- */

static const uint32_t cluster_sizes[] = { 512, 4096, 65536, 2097152 };

static void test_qcow2w__one_state(void **state)
{
	for (size_t c = 0; c < 4; c++) {
		for (int compress = 0; compress < 2; compress++) {
			for (uint64_t k = 0; k < 4; k++) {
				static const uint64_t steps[] = { 512, 4096, 65536, 77777 };

				run(*state,
				    (struct scenario){ .o = { .cluster_size = cluster_sizes[c], .compress = compress },
						       .nstates = 1,
						       .size = 3000001,
						       .step = steps[k],
						       .shuffle = k % 2 },
				    k * 10 + c);
			}
		}
	}
}

static void test_qcow2w__snapshots(void **state)
{
	for (size_t c = 0; c < 4; c++) {
		for (uint64_t k = 0; k < 6; k++) {
			uint64_t step = k < 4 ? cluster_sizes[c] : 7777;

			run(*state,
			    (struct scenario){ .o = { .cluster_size = cluster_sizes[c], .compress = k % 2 },
					       .nstates = 5,
					       .size = 2500000,
					       .step = step,
					       .shuffle = k % 3 == 1,
					       .resize = k >= 2,
					       .vm = k % 3 == 2,
					       .no_share = k == 3 },
			    k * 100 + c);
		}
	}
}

/* Tables and parts do not fit into the memory given: they go out and come back. */
static void test_qcow2w__small_budget(void **state)
{
	for (uint64_t k = 0; k < 4; k++)
		run(*state,
		    (struct scenario){ .o = { .cluster_size = k < 2 ? 512 : 4096, .compress = k % 2, .max_bytes = 1 },
				       .nstates = 4,
				       .size = 1500000,
				       .step = k < 2 ? 300 : 1000,
				       .shuffle = true,
				       .resize = true,
				       .vm = true },
		    k);
}

static void test_qcow2w__preallocation(void **state)
{
	static const enum preallocation modes[] = { PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };
	struct fixture *f = *state;
	struct stat st;

	for (size_t m = 0; m < 3; m++) {
		for (uint32_t n = 1; n <= 3; n += 2) {
			CLEANUP(qdecode_done) struct qdecode im;

			run(f,
			    (struct scenario){ .o = { .cluster_size = 4096, .preallocation = modes[m] },
					       .nstates = n,
					       .size = 3000000,
					       .step = 4096,
					       .shuffle = true,
					       .resize = n > 1 },
			    m);
			qdecode_load(&im, f->path);
			for (uint64_t c = 0; c < div_up(im.t[n - 1].size, 4096); c++)
				assert_true(qdecode_entry(&im, &im.t[n - 1], c) != 0);
			assert_int_equal(stat(f->path, &st), 0);
			if (modes[m] != PREALLOC_METADATA)
				assert_true((uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size);
		}
	}
}

/* Tables of twice the size, of any kind of cluster: each subcluster is in the file or isn't. */
static void test_qcow2w__extended(void **state)
{
	static const uint32_t sizes[] = { 16384, 65536, 2097152 };
	static const uint64_t steps[] = { 512, 2048, 77777, 65536 };

	for (size_t c = 0; c < 3; c++)
		for (uint64_t k = 0; k < 8; k++)
			run(*state,
			    (struct scenario){ .o = { .cluster_size = sizes[c], .extended_l2 = true,
						      .compress = k % 4 == 1, .zstd = k == 5, .max_bytes = k == 6 },
					       .nstates = k < 3 ? 1 : 4,
					       .size = 2500001,
					       .step = steps[k % 4],
					       .shuffle = k % 2,
					       .resize = k > 4,
					       .vm = k > 3,
					       .no_share = k == 7 },
			    k * 10 + c);
}

static void test_qcow2w__extended_preallocation(void **state)
{
	for (int m = PREALLOC_METADATA; m <= PREALLOC_FULL; m++)
		for (uint32_t n = 1; n <= 3; n += 2)
			run(*state,
			    (struct scenario){ .o = { .cluster_size = 16384, .extended_l2 = true,
						      .preallocation = (enum preallocation)m },
					       .nstates = n,
					       .size = 3000000,
					       .step = 4096,
					       .shuffle = true,
					       .resize = n > 1 },
			    (uint64_t)m);
}

static void test_qcow2w__zstd(void **state)
{
	for (size_t c = 0; c < 4; c++)
		for (uint64_t k = 0; k < 4; k++)
			run(*state,
			    (struct scenario){ .o = { .cluster_size = cluster_sizes[c], .compress = true, .zstd = true,
						      .threads = k % 2 ? 3 : 0, .max_bytes = k == 3 },
					       .nstates = k < 2 ? 1 : 5,
					       .size = 2000001,
					       .step = k % 2 ? 7777 : 65536,
					       .shuffle = k > 1,
					       .resize = k == 3,
					       .vm = k > 1 },
			    k * 10 + c);
}

/* Of a cluster only those subclusters that hold something have a place; it costs no more than that on disk. */
static void test_qcow2w__subclusters_stay_absent(void **state)
{
	struct fixture *f = *state;
	struct disk d = { .size = 300000, .p = calloc(1, 300000), .vm = calloc(1, 1) };
	struct scenario s = { .o = { .path = f->path, .extended_l2 = true }, .nstates = 1, .step = 300000 };
	CLEANUP(qdecode_done) struct qdecode im;
	uint64_t seed = 1, bitmap, entry;

	d.p[65536 + 2048 * 3 + 2047] = 1;
	memset(d.p + 65536 + 2048 * 30, 2, 2048 * 4);	/* into the next cluster */
	d.p[299999] = 3;				/* a subcluster that the disk's end cuts */
	write_all(&s, &d, &seed);
	expect_all(f->path, &d, 1, NULL);
	qdecode_load(&im, f->path);
	assert_true(im.extended && !im.zstd);
	assert_int_equal(qdecode_entry(&im, &im.t[0], 0) | qdecode_entry(&im, &im.t[0], 3), 0);
	entry = qdecode_entry_bitmap(&im, &im.t[0], 1, &bitmap);
	assert_true(entry != 0);
	assert_true(bitmap == (1U << 3 | 3U << 30));
	entry = qdecode_entry_bitmap(&im, &im.t[0], 2, &bitmap);
	assert_true(entry != 0);
	assert_true(bitmap == 3);
	(void)qdecode_entry_bitmap(&im, &im.t[0], 4, &bitmap);
	assert_true(bitmap == 1U << ((299999 - 4 * 65536) / 2048));
	disk_done(&d);
}

static const struct image_secret secret = { .p = (const uint8_t *)"secret", .len = 6 };

/* Encrypted by places in the file: writes of any size in any order, shared and copied clusters, machine memory. */
static void test_qcow2w__encrypted(void **state)
{
	for (size_t c = 0; c < 4; c++) {
		for (uint64_t k = c % 2; k < 4; k += 2) {	/* each takes key derivations: every second one */
			static const uint64_t steps[] = { 512, 7777, 65536, 300 };

			run(*state,
			    (struct scenario){ .o = { .cluster_size = cluster_sizes[c], .secret = &secret, .secret_ms = 1 },
					       .nstates = k < 2 ? 1 : 4,
					       .size = 1500001,
					       .step = steps[k],
					       .shuffle = k % 2,
					       .resize = k == 3,
					       .vm = k > 1 },
			    k * 10 + c);
		}
	}
}

static void test_qcow2w__encrypted_extended(void **state)
{
	for (uint64_t k = 0; k < 4; k++) {
		static const uint64_t steps[] = { 512, 7777, 65536, 300 };

		run(*state,
		    (struct scenario){ .o = { .cluster_size = k < 2 ? 16384 : 65536, .secret = &secret, .secret_ms = 1,
					      .extended_l2 = true },
				       .nstates = k % 2 ? 4 : 1,
				       .size = 1500001,
				       .step = steps[k],
				       .shuffle = true,
				       .resize = k == 3,
				       .vm = k > 1 },
		    k);
	}
}

static void test_qcow2w__encrypted_refuses(void **state)
{
	struct fixture *f = *state;
	struct writer_opts o[] = { { .compress = true }, { .preallocation = PREALLOC_METADATA }, { .id_seed = "x" } };

	for (size_t i = 0; i < 3; i++) {
		struct image_writer *w = NULL;
		struct err e = ERR_INIT;

		o[i].path = f->path;
		o[i].size = 1 << 20;
		o[i].secret = &secret;
		assert_int_equal(qcow2_create(&o[i], &w, &e), ERR_INVALID);
		assert_has(e.cause, "encrypted");
	}
	assert_int_equal(test_folder_entries(f->dir), 0);
}

/* Over a backing file zeros are told, and a cluster that is zero in part has a place. */
static void test_qcow2w__overlay(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) uint8_t *buf = calloc(1, 65536);
	const struct writer_state_opts so = { .size = 10 * 65536 + 512 };

	for (int compress = 0; compress < 2; compress++) {
		const struct writer_opts o = { .path = f->path, .size = so.size, .replace = true, .compress = compress,
					       .backing = "base.vhd", .backing_format = "vpc" };
		CLEANUP(qdecode_done) struct qdecode im;
		struct image_writer *w;
		struct err e = ERR_INIT;
		uint64_t entry[11];

		assert_ok(qcow2_create(&o, &w, &e), &e);
		assert_ok(writer_begin_state(w, &so, &e), &e);
		memset(buf, 7, 65536);
		assert_ok(writer_write(w, buf, 65536, 1 * 65536, &e), &e);
		assert_ok(writer_zero(w, 2 * 65536, 2 * 65536, &e), &e);
		memset(buf, 0, 65536);
		assert_ok(writer_write(w, buf, 65536, 4 * 65536, &e), &e);	/* zeros, as data */
		assert_ok(writer_zero(w, 5 * 65536 + 4096, 4096, &e), &e);	/* a part: the rest is zero then */
		buf[0] = 1;
		assert_ok(writer_write(w, buf, 4096, 6 * 65536, &e), &e);
		assert_ok(writer_zero(w, 6 * 65536 + 4096, 61440, &e), &e);
		assert_ok(writer_zero(w, 10 * 65536, 512, &e), &e);		/* all that the disk has of the last */
		assert_ok(writer_finish(w, &e), &e);
		qdecode_load(&im, f->path);
		for (uint64_t c = 0; c < 11; c++)
			entry[c] = qdecode_entry(&im, &im.t[0], c);
		assert_int_equal(entry[0] | entry[7] | entry[8] | entry[9], 0);
		assert_true(entry[1] > 1 && entry[6] > 1);
		for (size_t c = 2; c < 5; c++)
			assert_int_equal(entry[c], 1);
		assert_true(compress ? entry[5] == 1 : entry[5] > 1);
		assert_int_equal(entry[10], 1);
		assert_int_equal(get_be32(im.p + 16), 8);
		assert_memory_equal(im.p + get_be64(im.p + 8), "base.vhd", 8);
		assert_memory_equal(im.p + 120, "vpc", 3);
		qdecode_check(&im);
	}
}

/* Over a backing file each subcluster is data, zeros or the backing file's. */
static void test_qcow2w__overlay_extended(void **state)
{
	enum { SUB = 2048 };
	struct fixture *f = *state;
	CLEANUP(free_ptr) uint8_t *buf = calloc(1, 65536);
	const struct writer_state_opts so = { .size = 3 * 65536 + 3 * SUB + 512 };
	const struct writer_opts o = { .path = f->path, .size = so.size, .extended_l2 = true, .backing = "b",
				       .backing_format = "raw" };
	CLEANUP(qdecode_done) struct qdecode im;
	struct image_writer *w;
	struct err e = ERR_INIT;
	uint64_t bitmap;

	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &so, &e), &e);
	memset(buf, 7, 2 * SUB);
	assert_ok(writer_write(w, buf, 4 * SUB, 2 * SUB, &e), &e);	/* data, data, zeros, zeros */
	assert_ok(writer_zero(w, 10 * SUB, SUB + 512, &e), &e);		/* zeros; a part, so data */
	assert_ok(writer_write(w, buf, 512, 31 * SUB, &e), &e);
	assert_ok(writer_expect(w, 65536, 65536, &e), &e);		/* a place, of which zeros are told */
	assert_ok(writer_zero(w, 65536, 32 * SUB, &e), &e);
	assert_ok(writer_zero(w, 2 * 65536 + SUB, SUB, &e), &e);	/* zeros, no place; then one for another */
	assert_ok(writer_write(w, buf, SUB, 2 * 65536 + 5 * SUB, &e), &e);
	assert_ok(writer_zero(w, 3 * 65536 + SUB, 2 * SUB + 512, &e), &e);	/* up to the end */
	assert_ok(writer_finish(w, &e), &e);
	qdecode_load(&im, f->path);
	assert_true(qdecode_entry_bitmap(&im, &im.t[0], 0, &bitmap) != 0);
	assert_true(bitmap == ((uint64_t)(3U << 4 | 1U << 10) << 32 | 3U << 2 | 1U << 11 | 1U << 31));
	assert_true(qdecode_entry_bitmap(&im, &im.t[0], 1, &bitmap) != 0);
	assert_true(bitmap == (uint64_t)UINT32_MAX << 32);
	assert_true(qdecode_entry_bitmap(&im, &im.t[0], 2, &bitmap) != 0);
	assert_true(bitmap == ((uint64_t)1 << 33 | 1U << 5));
	assert_true(qdecode_entry_bitmap(&im, &im.t[0], 3, &bitmap) == 0);
	assert_true(bitmap == (uint64_t)(7U << 1) << 32);
	qdecode_check(&im);
}

static void test_qcow2w__overlay_refuses(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *name = calloc(1, 1025);
	const struct writer_opts rows[] = {
		{ .backing = "b", .backing_format = "raw", .preallocation = PREALLOC_METADATA },
		{ .backing = "b", .backing_format = "raw", .subformat = "v2" },
		{ .backing = "b" },
		{ .backing = "", .backing_format = "raw" },
		{ .backing = name, .backing_format = "raw" },
	};
	const struct writer_state_opts snap = { .size = 1 << 20, .name = "x" }, now = { .size = 1 << 20 };
	struct writer_opts o = { .path = f->path, .size = 1 << 20, .backing = name, .backing_format = "raw", .cluster_size = 512 };
	struct image_writer *w;
	struct err e = ERR_INIT;

	memset(name, 'n', 1024);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct writer_opts r = rows[i];

		r.path = f->path;
		r.size = 1 << 20;
		assert_int_equal(qcow2_create(&r, &w, &e), ERR_INVALID);
	}
	name[1023] = 0;	/* the longest name, which clusters of 512 bytes can't hold */
	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_int_equal(writer_begin_state(w, &snap, &e), ERR_INVALID);
	writer_abort(w);
	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &now, &e), &e);
	assert_int_equal(writer_finish(w, &e), ERR_INVALID);
	assert_has(e.cause, "doesn't fit");
	o.cluster_size = 4096;
	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &now, &e), &e);
	assert_ok(writer_finish(w, &e), &e);
	assert_int_equal(test_folder_entries(f->dir), 1);
}

/* The same bytes, whatever the number of threads. */
static void test_qcow2w__threads_do_not_show(void **state)
{
	CLEANUP(free_ptr) uint8_t *one = NULL, *four = NULL;
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	size_t one_len, four_len;
	struct scenario s = { .o = { .compress = true, .threads = 1 }, .nstates = 2, .size = 9000000, .step = 65536 };

	run(f, s, 5);
	assert_ok(fs_read_file(f->path, (size_t)1 << 30, &one, &one_len, &e), &e);
	s.o.threads = 4;
	run(f, s, 5);
	assert_ok(fs_read_file(f->path, (size_t)1 << 30, &four, &four_len, &e), &e);
	assert_int_equal(one_len, four_len);
	assert_memory_equal(one, four, one_len);
	assert_true(one_len < 9000000);
}

struct job {
	struct image_writer *w;
	const struct disk *d;
	uint64_t first, step;
	int rc;
};

static void *write_every_third(void *opaque)
{
	struct job *j = opaque;
	struct err e = ERR_INIT;

	for (uint64_t off = j->first * j->step; off < j->d->size && j->rc == 0; off += 3 * j->step)
		j->rc = writer_write(j->w, j->d->p + off, min_u64(j->step, j->d->size - off), off, &e);
	return NULL;
}

static void test_qcow2w__concurrent_writes(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = 9;
	struct disk d = disk_new(20000000, 0, &seed);

	for (unsigned k = 0; k < 9; k++) {
		struct writer_opts o = { .path = f->path,
					 .size = d.size,
					 .replace = true,
					 .compress = k == 1 || k == 2 || k == 5,
					 .zstd = k == 5,
					 .extended_l2 = k > 5,
					 .threads = k % 5,
					 .secret = k == 3 || k == 4 || k == 8 ? &secret : NULL,
					 .secret_ms = 1,
					 /* 4, 7 and 8: threads meet in a cluster */
					 .cluster_size = k == 4 || k > 6 ? 262144 : 16384 };
		struct writer_state_opts so = { .size = d.size };
		struct image_writer *w;
		struct job jobs[3];
		pthread_t t[3];
		struct err e = ERR_INIT;

		assert_ok(qcow2_create(&o, &w, &e), &e);
		assert_true(writer_is_concurrent(w));
		assert_ok(writer_begin_state(w, &so, &e), &e);
		for (uint64_t i = 0; i < 3; i++) {
			jobs[i] = (struct job){ .w = w, .d = &d, .first = i, .step = 65536 };
			assert_int_equal(pthread_create(&t[i], NULL, write_every_third, &jobs[i]), 0);
		}
		for (int i = 0; i < 3; i++) {
			pthread_join(t[i], NULL);
			assert_int_equal(jobs[i].rc, 0);
		}
		assert_ok(writer_finish(w, &e), &e);
		expect_all(f->path, &d, 1, o.secret);
	}
	disk_done(&d);
}

#define LIMIT_STATES 110

/* Small compressed clusters, hundreds in one host cluster, shared by so many states that refcounts reach their
 * limit. */
static void test_qcow2w__refcount_limit(void **state)
{
	struct fixture *f = *state;
	struct writer_opts o = { .path = f->path, .size = 50000000, .compress = true };
	CLEANUP(free_ptr) uint8_t *disk = malloc(o.size), *got = malloc(o.size);
	CLEANUP(qdecode_done) struct qdecode im;
	struct image_writer *w;
	struct err e = ERR_INIT;
	bool full = false;

	memset(disk, 'x', o.size);
	assert_ok(qcow2_create(&o, &w, &e), &e);
	for (uint32_t i = 0; i < LIMIT_STATES; i++) {
		struct writer_state_opts so = { .size = o.size, .name = i + 1 < LIMIT_STATES ? "s" : NULL };

		assert_ok(writer_begin_state(w, &so, &e), &e);
		if (i)
			assert_ok(writer_share(w, i - 1, 0, o.size, &e), &e);
		else
			assert_ok(writer_write(w, disk, o.size, 0, &e), &e);
	}
	assert_ok(writer_finish(w, &e), &e);
	qdecode_load(&im, f->path);
	qdecode_check(&im);
	for (uint64_t c = 0; c < im.nclusters; c++)
		full |= im.refs[c] == 65535;
	assert_true(full);
	assert_true(im.len < 20000000);
	for (uint32_t i = 9; i < LIMIT_STATES; i += 50) {
		qdecode_read(&im, &im.t[i], got, o.size, 0);
		assert_memory_equal(got, disk, o.size);
	}
}

/* Equal states share everything: a snapshot more costs an L1 table. */
static void test_qcow2w__sharing_saves(void **state)
{
	struct fixture *f = *state;
	struct disk disks[20] = { 0 };
	struct scenario s = {
		.o = { .cluster_size = 4096, .path = f->path }, .nstates = 20, .size = 8000000, .step = 8000000
	};
	uint64_t seed = 3;
	struct stat st;

	disks[0] = disk_new(s.size, 0, &seed);
	for (uint32_t i = 1; i < s.nstates; i++)
		disks[i] = disks[0];
	write_all(&s, disks, &seed);
	expect_all(f->path, disks, s.nstates, s.o.secret);
	assert_int_equal(stat(f->path, &st), 0);
	assert_true(st.st_size < 8000000 + 40 * 4096 + 8000000 / 100);
	disk_done(&disks[0]);
}

/* What lay behind the end of a smaller disk must not show when a guest grows it. */
static void test_qcow2w__no_stale_tail(void **state)
{
	struct fixture *f = *state;

	for (int k = 0; k < 6; k++) {
		uint8_t content[200000];
		struct disk disks[2] = { { .size = sizeof(content), .p = content }, { .size = 70000, .p = content } };
		struct scenario s = { .o = { .compress = k % 3 > 0, .zstd = k % 3 == 2, .extended_l2 = k > 2,
					     .path = f->path, .replace = true },
				      .nstates = 2,
				      .step = 65536 };
		CLEANUP(qdecode_done) struct qdecode im;
		uint64_t seed = 1;

		memset(content, 'x', sizeof(content));
		write_all(&s, disks, &seed);
		expect_all(f->path, disks, 2, NULL);	/* also looks at the rest of the last cluster */
		qdecode_load(&im, f->path);
		assert_int_equal(qdecode_entry(&im, &im.t[1], 2), 0);
		assert_int_equal(qdecode_entry(&im, &im.t[1], 3), 0);
	}
}

static void test_qcow2w__empty_disk(void **state)
{
	struct fixture *f = *state;
	struct disk d = { .size = 0, .p = (uint8_t *)"" };
	struct scenario s = { .o = { .path = f->path }, .nstates = 1, .step = 512 };
	uint64_t seed = 1;

	write_all(&s, &d, &seed);
	expect_all(f->path, &d, 1, NULL);
}

/* Memory and file follow what is written, not what the disk could hold. */
static void test_qcow2w__huge_disk(void **state)
{
	struct fixture *f = *state;
	struct writer_opts o = { .path = f->path, .size = 1000 * TIB, .max_bytes = MIB };
	struct writer_state_opts so = { .size = o.size };
	CLEANUP(qdecode_done) struct qdecode im;
	struct image_writer *w;
	struct err e = ERR_INIT;
	uint8_t buf[4096], got[4096];

	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &so, &e), &e);
	for (uint64_t i = 0; i < 300; i++) {
		memset(buf, (int)i | 1, sizeof(buf));
		assert_ok(writer_write(w, buf, sizeof(buf), (i * 7919 % 300) * (o.size / 300 / 4096 * 4096), &e), &e);
	}
	assert_ok(writer_finish(w, &e), &e);
	qdecode_load(&im, f->path);
	qdecode_check(&im);
	for (uint64_t i = 0; i < 300; i++) {
		memset(buf, (int)i | 1, sizeof(buf));
		qdecode_read(&im, &im.t[0], got, sizeof(got), (i * 7919 % 300) * (o.size / 300 / 4096 * 4096));
		assert_memory_equal(got, buf, sizeof(buf));
	}
}

static void test_qcow2w__refusals(void **state)
{
	struct fixture *f = *state;
	struct writer_opts bad[] = {
		{ .cluster_size = 256 }, { .cluster_size = 4 << 20 }, { .cluster_size = 65537 },
		{ .compress = true, .preallocation = PREALLOC_FULL }, { .cluster_size = 512, .size = 129 * GIB },
		{ .cluster_size = 512, .max_size = 129 * GIB }, { .size = UINT64_MAX },
		{ .extended_l2 = true, .cluster_size = 8192 }, { .extended_l2 = true, .subformat = "v2" },
		{ .compress = true, .zstd = true, .subformat = "v2" },
	};
	struct image_writer *w;
	struct err e = ERR_INIT;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		bad[i].path = f->path;
		bad[i].size = bad[i].size ? bad[i].size : 5;
		assert_err(qcow2_create(&bad[i], &w, &e), ERR_INVALID, &e);
		assert_int_equal(test_folder_entries(f->dir), 0);
	}
	bad[0] = (struct writer_opts){ .path = f->dir, .size = 5 };
	assert_err(qcow2_create(&bad[0], &w, &e), ERR_INVALID, &e);
}

static const uint8_t *find_cluster(const uint8_t *p, size_t n, uint8_t byte)
{
	static uint8_t want[65536];

	memset(want, byte, sizeof(want));
	for (size_t i = 0; i < n; i++)
		if (memcmp(p + i * sizeof(want), want, sizeof(want)) == 0)
			return p + i * sizeof(want);
	return NULL;
}

/* What is expected lies in the guest's order, though it comes in another; what doesn't come after all is zero. */
static void test_qcow2w__expect(void **state)
{
	enum { CLUSTERS = 40, ABSENT = 7 };
	struct fixture *f = *state;
	struct writer_opts o = { .path = f->path, .size = CLUSTERS * 65536 - 512 };
	struct writer_state_opts so = { .size = o.size };
	struct disk d = { .size = o.size, .p = calloc(CLUSTERS, 65536), .vm = calloc(1, 1) };
	CLEANUP(free_ptr) uint8_t *file = NULL;
	const uint8_t *last = NULL;
	struct image_writer *w;
	struct err e = ERR_INIT;
	size_t len;

	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_err(writer_expect(w, 0, 1, &e), ERR_INTERNAL, &e);	/* in which state? */
	err_clear(&e);
	assert_ok(writer_begin_state(w, &so, &e), &e);
	assert_err(writer_expect(w, 0, o.size + 1, &e), ERR_INTERNAL, &e);
	err_clear(&e);
	assert_ok(writer_expect(w, 2 * 65536, o.size - 2 * 65536, &e), &e);
	for (uint64_t c = CLUSTERS; c-- > 0;) {
		uint64_t off = c * 65536, n = min_u64(65536, o.size - off);

		if (c == ABSENT)
			continue;
		memset(d.p + off, (int)c + 1, n);
		assert_ok(writer_write(w, d.p + off, n, off, &e), &e);
	}
	assert_ok(writer_finish(w, &e), &e);
	expect_all(f->path, &d, 1, NULL);
	assert_ok(fs_read_file(f->path, 8 * MIB, &file, &len, &e), &e);
	for (uint8_t c = 2; c < CLUSTERS - 1; c++) {
		const uint8_t *at = find_cluster(file, len / 65536, (uint8_t)(c + 1));

		if (c == ABSENT)
			continue;
		assert_true(at && at > last);
		last = at;
	}
	/* what nobody told of came behind */
	assert_true(find_cluster(file, len / 65536, 1) > last && find_cluster(file, len / 65536, 2) > last);
	disk_done(&d);
}

/* A full file system is told as such, and nothing is left behind. */
static void test_qcow2w__full_target(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *mnt = test_path(f->dir, "mnt");
	CLEANUP(free_ptr) char *path = test_path(mnt, "disk");
	struct writer_opts o = { .path = path, .size = 4 * MIB };
	struct writer_state_opts so = { .size = o.size };
	uint64_t seed = 1;
	struct disk d = disk_new(o.size, 0, &seed);
	struct image_writer *w;
	struct err e = ERR_INIT;

	assert_int_equal(mkdir(mnt, 0700), 0);
	if (mount("kedge-test", mnt, "tmpfs", 0, "size=1m") < 0) {
		disk_done(&d);
		skip();	/* not root */
	}
	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &so, &e), &e);
	assert_int_equal(writer_write(w, d.p, d.size, 0, &e), ERR_NOSPACE);
	assert_has(e.hint, "make room");
	assert_has(e.ctx, path);
	err_clear(&e);
	writer_abort(w);
	assert_int_equal(test_folder_entries(mnt), 0);
	o.preallocation = PREALLOC_FALLOC;	/* fails before the first byte of data */
	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_err(writer_begin_state(w, &so, &e), ERR_NOSPACE, &e);
	writer_abort(w);
	assert_int_equal(test_folder_entries(mnt), 0);
	assert_int_equal(umount(mnt), 0);
	disk_done(&d);
}

static struct image_writer *begin_pair(const char *path, bool compress)
{
	struct writer_opts o = { .path = path, .size = 200000, .compress = compress, .replace = true };
	struct writer_state_opts snap = { .size = 200000, .name = "s", .vm_state_bytes = 10 }, now = { .size = 200000 };
	struct image_writer *w;
	struct err e = ERR_INIT;
	uint8_t buf[65536];

	memset(buf, 'x', sizeof(buf));
	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &snap, &e), &e);
	assert_ok(writer_write(w, buf, sizeof(buf), 0, &e), &e);
	assert_err(writer_write_vm_state(w, buf, 11, 0, &e), ERR_INTERNAL, &e);
	assert_err(writer_share(w, 0, 0, 1, &e), ERR_INTERNAL, &e);
	assert_ok(writer_begin_state(w, &now, &e), &e);
	return w;
}

/* Mistakes of the caller are told, not written: a shared cluster must never be written to. */
static void test_qcow2w__misuse(void **state)
{
	struct fixture *f = *state;
	struct writer_state_opts again = { .size = 200000 }, wrong = { .size = 1 };
	struct writer_opts o = { .path = f->path, .size = 200000 };
	struct err e = ERR_INIT;
	struct image_writer *w;

	for (int compress = 0; compress < 2; compress++) {
		w = begin_pair(f->path, compress);
		assert_err(writer_begin_state(w, &again, &e), ERR_INTERNAL, &e);
		assert_ok(writer_share(w, 0, 0, 65536, &e), &e);
		assert_err(writer_write(w, "y", 1, 5, &e), ERR_INTERNAL, &e);
		writer_abort(w);
		w = begin_pair(f->path, compress);
		assert_ok(writer_share(w, 0, 0, 65536, &e), &e);
		assert_err(writer_share(w, 0, 0, 65536, &e), ERR_INTERNAL, &e);
		assert_err(writer_write(w, "y", 1, 200000, &e), ERR_INTERNAL, &e);
		assert_err(writer_share(w, 1, 0, 1, &e), ERR_INTERNAL, &e);
		writer_abort(w);
	}
	assert_ok(qcow2_create(&o, &w, &e), &e);
	assert_err(writer_begin_state(w, &wrong, &e), ERR_INTERNAL, &e);
	assert_err(writer_finish(w, &e), ERR_INTERNAL, &e);
	assert_int_equal(test_folder_entries(f->dir), 0);
}

#define QCOW2_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		QCOW2_TEST(test_qcow2w__one_state),
		QCOW2_TEST(test_qcow2w__snapshots),
		QCOW2_TEST(test_qcow2w__small_budget),
		QCOW2_TEST(test_qcow2w__extended),
		QCOW2_TEST(test_qcow2w__extended_preallocation),
		QCOW2_TEST(test_qcow2w__zstd),
		QCOW2_TEST(test_qcow2w__subclusters_stay_absent),
		QCOW2_TEST(test_qcow2w__preallocation),
		QCOW2_TEST(test_qcow2w__encrypted),
		QCOW2_TEST(test_qcow2w__encrypted_extended),
		QCOW2_TEST(test_qcow2w__encrypted_refuses),
		QCOW2_TEST(test_qcow2w__overlay),
		QCOW2_TEST(test_qcow2w__overlay_extended),
		QCOW2_TEST(test_qcow2w__overlay_refuses),
		QCOW2_TEST(test_qcow2w__threads_do_not_show),
		QCOW2_TEST(test_qcow2w__concurrent_writes),
		QCOW2_TEST(test_qcow2w__refcount_limit),
		QCOW2_TEST(test_qcow2w__sharing_saves),
		QCOW2_TEST(test_qcow2w__no_stale_tail),
		QCOW2_TEST(test_qcow2w__empty_disk),
		QCOW2_TEST(test_qcow2w__huge_disk),
		QCOW2_TEST(test_qcow2w__refusals),
		QCOW2_TEST(test_qcow2w__expect),
		QCOW2_TEST(test_qcow2w__full_target),
		QCOW2_TEST(test_qcow2w__misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
