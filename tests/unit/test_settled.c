/* test_settled.c - who has a file open for writing, and that nobody changes it unseen after that; the kernel's part of
 * rule 3 for the current state (docs/design.md, 5). */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "formats/chain.h"
#include "formats/file.h"
#include "tests/support/qimage.h"

#define FILE_BYTES 65536u

static int make(const char *path)
{
	static const char bytes[FILE_BYTES] = { 1 };
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	return fd;
}

static bool asked(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int64_t at = file_unwritten(fd), now = clock_wall_ns();

	assert_true(fd >= 0);
	close(fd);
	assert_true(at == 0 || (at <= now && at > now - 60 * INT64_C(1000000000)));
	return at > 0;
}

static int64_t ctime_of(const char *path)
{
	struct image_identity id;
	struct err e = ERR_INIT;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_ok(file_identity(fd, &id, &e), &e);
	close(fd);
	return id.ctime_ns;
}

/* Elsewhere nothing is believed, which is all that there is to see. */
static bool here(void)
{
	struct statfs sf;
	uint32_t type;

	assert_int_equal(statfs(".", &sf), 0);
	type = (uint32_t)sf.f_type;
	if (type == 0xef53 || type == 0x58465342 || type == 0x9123683e)
		return true;
	close(make("f"));
	assert_false(asked("f"));
	print_message("SKIP: file system type %#x: times are not believed here\n", type);
	skip();
	return false;
}

static void test_unwritten__writers(void **state)
{
	int fd, second;
	void *map;

	(void)state;
	if (!here())
		return;
	fd = make("f");
	assert_false(asked("f"));
	map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	close(fd);
	assert_false(asked("f"));	/* the mapping alone */
	munmap(map, FILE_BYTES);
	assert_true(asked("f"));
	fd = open("f", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_false(asked("f"));
	second = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	close(fd);
	assert_false(asked("f"));
	close(second);
	fd = open("f", O_RDONLY | O_CLOEXEC);	/* readers don't matter */
	map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_true(asked("f"));
	munmap(map, FILE_BYTES);
	close(fd);
}

static void test_unwritten__other_kinds(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(mkdir("folder", 0700), 0);
	assert_false(asked("folder"));
	assert_int_equal(mkfifo("fifo", 0600), 0);
	fd = open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_int_equal(file_unwritten(fd), 0);
	close(fd);
	fd = memfd_create("m", MFD_CLOEXEC);	/* tmpfs */
	assert_true(fd >= 0);
	assert_int_equal(file_unwritten(fd), 0);
	close(fd);
	assert_int_equal(file_unwritten(-1), 0);
}

/* What the rule rests on: whoever opens the file after it was asked about changes its times with the first byte. */
static void test_unwritten__later_writers_show(void **state)
{
	volatile char *map;
	int64_t was;
	int fd;

	(void)state;
	if (!here())
		return;
	close(make("f"));	/* dirty in the page cache */
	assert_true(asked("f"));
	was = ctime_of("f");
	usleep(50000);
	fd = open("f", O_RDWR | O_CLOEXEC);
	map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	close(fd);
	assert_int_equal(map[5000], 0);		/* the page is mapped, before it is written to */
	assert_int_equal(ctime_of("f"), was);
	map[5000] = 1;
	assert_true(ctime_of("f") > was);
	was = ctime_of("f");
	usleep(50000);
	map[5001] = 1;				/* the page is writable already: nothing shows ... */
	assert_int_equal(ctime_of("f"), was);
	assert_false(asked("f"));		/* ... but that */
	munmap((void *)(uintptr_t)map, FILE_BYTES);
	fd = open("f", O_WRONLY | O_CLOEXEC);
	usleep(50000);
	assert_int_equal(pwrite(fd, "x", 1, 9), 1);
	assert_true(ctime_of("f") > was);
	close(fd);
}

/* A child opens the file for writing all the time, which sends its holder of a lease a signal: nothing comes of it, and
 * nobody waits. */
static void test_unwritten__in_the_way_of_nobody(void **state)
{
	unsigned granted = 0, refused = 0;
	int64_t start = clock_wall_ns();
	int status;
	pid_t pid;

	(void)state;
	if (!here())
		return;
	close(make("f"));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (unsigned i = 0; i < 200000; i++)
			close(open("f", O_WRONLY | O_CLOEXEC));
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		if (asked("f"))
			granted++;
		else
			refused++;
	assert_int_equal(status, 0);
	print_message("%u granted, %u refused\n", granted, refused);
	assert_true(granted && refused);
	assert_true(clock_wall_ns() - start < 30 * INT64_C(1000000000));
}

static bool settled(const char *path, bool settle)
{
	struct chain_opts o = { .settle = settle };
	struct err e = ERR_INIT;
	struct chain *c;
	bool yes;

	assert_ok(chain_open(path, &o, &c, &e), &e);
	yes = image_is_settled(c->layers[0]);
	chain_close(c);
	return yes;
}

static void test_settled__when(void **state)
{
	struct qimage q;
	int fd;

	(void)state;
	if (!here())
		return;
	qimage_init(&q, 3, 16, 1 << 20, false, 0);
	qimage_save(&q, "a.qcow2");
	qimage_done(&q);
	assert_false(settled("a.qcow2", true));		/* just written */
	setenv("KEDGE_TEST_TIME_OFFSET", "10", 1);
	assert_true(settled("a.qcow2", true));
	assert_false(settled("a.qcow2", false));	/* not asked for */
	fd = open("a.qcow2", O_RDWR | O_CLOEXEC);
	assert_false(settled("a.qcow2", true));
	close(fd);
	assert_true(settled("a.qcow2", true));
	setenv("KEDGE_TEST_TIME_OFFSET", "-10", 1);	/* last changed in the future */
	assert_false(settled("a.qcow2", true));
	unsetenv("KEDGE_TEST_TIME_OFFSET");
}

/* An image is as settled as its external data file. */
static void test_settled__data_file(void **state)
{
	struct qimage q;
	int fd;

	(void)state;
	if (!here())
		return;
	setenv("KEDGE_TEST_TIME_OFFSET", "10", 1);
	close(make("data.raw"));
	qimage_init(&q, 3, 16, 1 << 20, false, 0);
	qimage_extension(&q, QIMAGE_EXT_DATA_FILE, "data.raw", 8);
	qimage_be64(&q, 72, 4);				/* incompatible features: external data file */
	qimage_save(&q, "b.qcow2");
	qimage_done(&q);
	assert_true(settled("b.qcow2", true));
	fd = open("data.raw", O_RDWR | O_CLOEXEC);
	assert_false(settled("b.qcow2", true));
	close(fd);
	assert_true(settled("b.qcow2", true));
	unsetenv("KEDGE_TEST_TIME_OFFSET");
}

static void test_boot_id__text(void **state)
{
	static const uint8_t want[16] = { 0xb4, 0x97, 0x40, 0xe8, 0x8d, 0xde, 0x41, 0x8a, 0x97, 0x25, 0xf3, 0x37, 0xdd, 0x5e, 8, 0x33 };
	static const char *const bad[] = { "b", "b49740e8-8dde-418a-9725-f337dd5e083", "b49740e8-8dde-418a-9725-f337dd5e08330", "x" };
	uint8_t one[16], two[16];

	(void)state;
	assert_true(clock_boot_id(one));
	assert_true(clock_boot_id(two));
	assert_memory_equal(one, two, 16);
	setenv("KEDGE_TEST_BOOT_ID", "b49740e8-8dde-418a-9725-f337dd5e0833", 1);
	assert_true(clock_boot_id(one));
	assert_memory_equal(one, want, 16);
	for (size_t i = 0; i < 4; i++) {
		setenv("KEDGE_TEST_BOOT_ID", bad[i], 1);
		assert_false(clock_boot_id(one));
	}
	unsetenv("KEDGE_TEST_BOOT_ID");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unwritten__writers),
		cmocka_unit_test(test_unwritten__other_kinds),
		cmocka_unit_test(test_unwritten__later_writers_show),
		cmocka_unit_test(test_unwritten__in_the_way_of_nobody),
		cmocka_unit_test(test_settled__when),
		cmocka_unit_test(test_settled__data_file),
		cmocka_unit_test(test_boot_id__text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
