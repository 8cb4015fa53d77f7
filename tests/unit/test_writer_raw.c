/* test_writer_raw.c - the raw writer: files of every preallocation, and block devices (loop devices; root only). */
#include "tests/test.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/raw/raw_write.h"
#include "tests/support/folder.h"

struct fixture {
	char *dir, *path;
	char loop[32];		/* "" = none */
	int loop_fd;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->dir = test_folder_new();
	f->path = test_path(f->dir, "disk.raw");
	f->loop_fd = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->loop_fd >= 0) {
		ioctl(f->loop_fd, LOOP_CLR_FD, 0);
		close(f->loop_fd);
	}
	test_folder_done(f->dir);
	free(f->path);
	free(f);
	return 0;
}

static void fill(uint8_t *p, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24) | 1;
	}
}

static void expect_file(const char *path, const uint8_t *want, size_t len)
{
	CLEANUP(free_ptr) uint8_t *got = NULL;
	struct err e = ERR_INIT;
	size_t n;

	assert_ok(fs_read_file(path, len + 1, &got, &n, &e), &e);
	assert_int_equal(n, len);
	assert_memory_equal(got, want, len);
}

static struct image_writer *begin(const struct writer_opts *o)
{
	struct writer_state_opts s = { .size = o->size };
	struct image_writer *w = NULL;
	struct err e = ERR_INIT;

	assert_ok(raw_create(o, &w, &e), &e);
	assert_ok(writer_begin_state(w, &s, &e), &e);
	return w;
}

#define SIZE ((size_t)1000000)	/* no multiple of anything */

/* Parts in falling order, of odd lengths, every third left out. */
static void write_parts(struct image_writer *w, uint8_t *disk, size_t step)
{
	struct err e = ERR_INIT;

	memset(disk, 0, SIZE);
	for (size_t n = (SIZE + step - 1) / step; n-- > 0;) {
		size_t off = n * step, len = min_size(step, SIZE - off);

		if (n % 3 == 1)
			continue;
		fill(disk + off, len, (uint32_t)n);
		if (n % 3 == 2)
			memset(disk + off, 0, len / 2);
		assert_ok(writer_write(w, disk + off, len, off, &e), &e);
	}
}

static void test_raw__any_order(void **state)
{
	static const enum preallocation modes[] = { PREALLOC_OFF, PREALLOC_FALLOC, PREALLOC_FULL };
	static const size_t steps[] = { 777, 4096, 65536, 100000, SIZE };
	CLEANUP(free_ptr) uint8_t *disk = malloc(SIZE);
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	struct stat st;

	for (size_t m = 0; m < 3; m++) {
		for (size_t s = 0; s < 5; s++) {
			struct image_writer *w = begin(&(struct writer_opts){
				.path = f->path, .size = SIZE, .replace = true, .preallocation = modes[m] });

			write_parts(w, disk, steps[s]);
			assert_ok(writer_zero(w, 777, 777, &e), &e);
			memset(disk + 777, 0, steps[s] == 777 ? 777 : 0);
			assert_ok(writer_finish(w, &e), &e);
			expect_file(f->path, disk, SIZE);
			assert_int_equal(stat(f->path, &st), 0);
			assert_int_equal(st.st_mode & 07777, 0600);
			if (modes[m] != PREALLOC_OFF)
				assert_true((size_t)st.st_blocks * 512 >= SIZE);
			else if (steps[s] == 65536)
				assert_true((size_t)st.st_blocks * 512 < SIZE * 3 / 4);
		}
	}
	assert_int_equal(test_folder_entries(f->dir), 1);
}

static void test_raw__target_untouched_until_finish(void **state)
{
	struct fixture *f = *state;
	struct writer_opts o = { .path = f->path, .size = 5, .mode = 0640 };
	struct image_writer *w;
	struct err e = ERR_INIT;

	umask(022);
	assert_ok(fs_write_atomic(f->path, "old", 3, false, 0600, &e), &e);
	assert_err(raw_create(&o, &w, &e), ERR_EXISTS, &e);
	o.replace = true;
	w = begin(&o);
	assert_ok(writer_write(w, "12345", 5, 0, &e), &e);
	expect_file(f->path, (const uint8_t *)"old", 3);
	writer_abort(w);
	expect_file(f->path, (const uint8_t *)"old", 3);
	assert_int_equal(test_folder_entries(f->dir), 1);
	w = begin(&o);
	assert_ok(writer_write(w, "12345", 5, 0, &e), &e);
	assert_ok(writer_finish(w, &e), &e);
	expect_file(f->path, (const uint8_t *)"12345", 5);
	assert_int_equal(test_folder_entries(f->dir), 1);
}

static void test_raw__refusals(void **state)
{
	struct fixture *f = *state;
	struct writer_state_opts snap = { .size = 5, .name = "s" }, other = { .size = 6 }, right = { .size = 5 };
	struct writer_opts bad[] = {
		{ .compress = true, .preallocation = PREALLOC_FULL }, { .compress = true, .cluster_size = 4096 },
		{ .compress = true, .max_size = 7 }, { .cluster_size = 65536 }, { .preallocation = PREALLOC_METADATA },
		{ .max_size = 7 },    { .size = UINT64_MAX },
	};
	struct writer_opts o = { .path = f->path, .size = 5 };
	struct image_writer *w;
	struct err e = ERR_INIT;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		bad[i].path = f->path;
		bad[i].size = bad[i].size ? bad[i].size : 5;
		assert_err(raw_create(&bad[i], &w, &e), ERR_INVALID, &e);
	}
	o.path = f->dir;
	assert_err(raw_create(&o, &w, &e), ERR_INVALID, &e);
	o.path = f->path;
	assert_ok(raw_create(&o, &w, &e), &e);
	assert_false(w->ops->snapshots);
	assert_err(writer_begin_state(w, &snap, &e), ERR_UNSUPPORTED, &e);
	assert_err(writer_begin_state(w, &other, &e), ERR_INTERNAL, &e);
	assert_ok(writer_begin_state(w, &right, &e), &e);
	assert_err(writer_write(w, "123456", 6, 0, &e), ERR_INTERNAL, &e);
	assert_err(writer_write(w, "123456", 2, 4, &e), ERR_INTERNAL, &e);
	assert_err(writer_share(w, 0, 0, 1, &e), ERR_UNSUPPORTED, &e);
	assert_err(writer_write_vm_state(w, "1", 1, 0, &e), ERR_UNSUPPORTED, &e);
	writer_abort(w);
	assert_int_equal(test_folder_entries(f->dir), 0);
}

/* A running QEMU is known by its lock bytes; the same bytes of ours in this process, on another description, count
 * too. */
static void test_raw__target_of_a_running_vm(void **state)
{
	struct fixture *f = *state;
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1 };
	struct writer_opts o = { .path = f->path, .size = 5, .replace = true };
	struct image_writer *w;
	struct err e = ERR_INIT;
	int fd;

	assert_ok(fs_write_atomic(f->path, "old", 3, false, 0600, &e), &e);
	fd = open(f->path, O_RDONLY);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
	assert_err(raw_create(&o, &w, &e), ERR_LOCKED, &e);
	close(fd);
	assert_ok(raw_create(&o, &w, &e), &e);
	writer_abort(w);
}

/* ---- devices ---- */

/* A loop device of len bytes full of 0xee behind f->path; skips the test where there is none to be had. */
static void make_loop(struct fixture *f, size_t len)
{
	CLEANUP(close_fd) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	CLEANUP(close_fd) int file = -1;
	CLEANUP(free_ptr) uint8_t *old = malloc(len);
	struct err e = ERR_INIT;
	int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);

	if (n < 0)
		skip();
	memset(old, 0xee, len);
	assert_ok(fs_write_atomic(f->path, old, len, true, 0600, &e), &e);
	snprintf(f->loop, sizeof(f->loop), "/dev/loop%d", n);
	f->loop_fd = open(f->loop, O_RDWR | O_CLOEXEC);
	file = open(f->path, O_RDWR | O_CLOEXEC);
	if (f->loop_fd < 0 || ioctl(f->loop_fd, LOOP_SET_FD, file) < 0)
		skip();
}

#define DEVICE ((size_t)1 << 20)

static void expect_device(struct fixture *f, const uint8_t *disk)
{
	CLEANUP(free_ptr) uint8_t *got = malloc(DEVICE);
	struct err e = ERR_INIT;

	assert_ok(fs_pread_full(f->loop_fd, got, DEVICE, 0, &e), &e);
	assert_memory_equal(got, disk, SIZE);
	for (size_t i = SIZE; i < DEVICE; i++)
		assert_int_equal(got[i], 0xee);	/* behind the image nothing is touched */
}

static void test_raw__device(void **state)
{
	static const size_t steps[] = { 777, 4096, 65536, 100000, SIZE };
	CLEANUP(free_ptr) uint8_t *disk = malloc(SIZE);
	struct fixture *f = *state;
	struct err e = ERR_INIT;

	make_loop(f, DEVICE);
	for (size_t s = 0; s < 5; s++) {
		struct image_writer *w = begin(&(struct writer_opts){ .path = f->loop, .size = SIZE });

		write_parts(w, disk, steps[s]);
		assert_ok(writer_finish(w, &e), &e);
		expect_device(f, disk);
	}
}

static void test_raw__device_zero(void **state)
{
	static const size_t ranges[][2] = { { 0, SIZE }, { 100, 50 }, { 100, 500000 }, { 65536, 65536 }, { 65530, 12 },
					    { SIZE - 5, 5 }, { 70000, SIZE - 70000 } };
	CLEANUP(free_ptr) uint8_t *disk = malloc(SIZE);
	struct fixture *f = *state;
	struct err e = ERR_INIT;

	make_loop(f, DEVICE);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		size_t off = ranges[i][0], len = ranges[i][1];
		struct image_writer *w = begin(&(struct writer_opts){ .path = f->loop, .size = SIZE });

		fill(disk, SIZE, (uint32_t)i);
		assert_ok(writer_write(w, disk, off, 0, &e), &e);
		assert_ok(writer_write(w, disk + off + len, SIZE - off - len, off + len, &e), &e);
		assert_ok(writer_zero(w, off, len, &e), &e);
		memset(disk + off, 0, len);
		assert_ok(writer_finish(w, &e), &e);
		expect_device(f, disk);
	}
}

static void test_raw__device_refusals(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *mnt = test_path(f->dir, "mnt");
	struct writer_opts small = { .size = DEVICE + 512 }, full = { .size = DEVICE, .preallocation = PREALLOC_FULL };
	struct writer_opts o = { .size = DEVICE };
	struct image_writer *w;
	struct err e = ERR_INIT;
	uint8_t b;
	int fd;

	make_loop(f, DEVICE);
	small.path = full.path = o.path = f->loop;
	assert_err(raw_create(&small, &w, &e), ERR_INVALID, &e);
	assert_err(raw_create(&full, &w, &e), ERR_INVALID, &e);
	fd = open(f->loop, O_RDWR | O_EXCL | O_CLOEXEC);	/* what a mount, dm or swap does */
	assert_true(fd >= 0);
	assert_err(raw_create(&o, &w, &e), ERR_LOCKED, &e);
	close(fd);
	assert_ok(fs_pread_full(f->loop_fd, &b, 1, 0, &e), &e);
	assert_int_equal(b, 0xee);
	assert_ok(raw_create(&o, &w, &e), &e);
	writer_abort(w);
}

static void test_raw__device_mounted(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *mnt = test_path(f->dir, "mnt");
	CLEANUP(free_ptr) char *command = NULL;
	struct writer_opts o = { .size = DEVICE };
	struct image_writer *w;
	struct err e = ERR_INIT;

	make_loop(f, DEVICE * 8);
	o.path = f->loop;
	assert_true(asprintf(&command, "mkfs.ext4 -q -F %s", f->loop) > 0);
	assert_int_equal(mkdir(mnt, 0700), 0);
	if (system(command) != 0 || mount(f->loop, mnt, "ext4", 0, NULL) < 0)
		skip();
	assert_int_equal(raw_create(&o, &w, &e), ERR_LOCKED);
	assert_has(e.cause, "mounted on ");
	assert_has(e.cause, mnt);
	err_clear(&e);
	assert_int_equal(umount(mnt), 0);
	assert_ok(raw_create(&o, &w, &e), &e);
	writer_abort(w);
}

#define RAW_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RAW_TEST(test_raw__any_order),
		RAW_TEST(test_raw__target_untouched_until_finish),
		RAW_TEST(test_raw__refusals),
		RAW_TEST(test_raw__target_of_a_running_vm),
		RAW_TEST(test_raw__device),
		RAW_TEST(test_raw__device_zero),
		RAW_TEST(test_raw__device_refusals),
		RAW_TEST(test_raw__device_mounted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
