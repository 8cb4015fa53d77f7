/* Whole reads and writes, and files that appear whole or not at all.  Works in the current folder. */
#include "tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"

struct tmp {
	char dir[64];
	int old;
};

static int enter(void **state)
{
	struct tmp *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	snprintf(t->dir, sizeof(t->dir), "/tmp/kedge-test-fs.XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	t->old = open(".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(chdir(t->dir), 0);
	*state = t;
	return 0;
}

static int leave(void **state)
{
	struct tmp *t = *state;
	char cmd[128];
	int r;

	assert_int_equal(fchdir(t->old), 0);
	close(t->old);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", t->dir);
	r = system(cmd);
	free(t);
	return r;
}

static int count_files(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	assert_non_null(d);
	for (struct dirent *ent = readdir(d); ent; ent = readdir(d))
		n += strcmp(ent->d_name, ".") && strcmp(ent->d_name, "..");
	closedir(d);
	return n;
}

static void test_fs__pread_at_the_end(void **state)
{
	CLEANUP(close_fd) int fd = open("f", O_RDWR | O_CREAT, 0600);
	struct err e = ERR_INIT;
	char buf[10] = "zzzzzzzzz";
	size_t got;

	(void)state;
	assert_ok(fs_write_full(fd, "abcdef", 6, &e), &e);
	assert_ok(fs_pread(fd, buf, 10, 2, &got, &e), &e);
	assert_int_equal(got, 4);
	assert_memory_equal(buf, "cdef", 4);
	assert_ok(fs_pread(fd, buf, 10, 100, &got, &e), &e);
	assert_int_equal(got, 0);
	assert_ok(fs_pread_full(fd, buf, 6, 0, &e), &e);
	assert_int_equal(fs_pread_full(fd, buf, 6, 1, &e), ERR_CORRUPT);
	assert_has(e.cause, "file ends at 6");
	assert_int_equal(fs_pread(fd, buf, 1, UINT64_MAX, &got, &e), ERR_INVALID);
	assert_ok(fs_pwrite_full(fd, "XY", 2, 4, &e), &e);
	assert_ok(fs_pread_full(fd, buf, 6, 0, &e), &e);
	assert_memory_equal(buf, "abcdXY", 6);
	assert_int_equal(fs_pread(-1, buf, 1, 0, &got, &e), ERR_IO);
	assert_int_equal(fs_pwrite_full(-1, buf, 1, 0, &e), ERR_IO);
}

static void test_fs__full_device_is_nospace(void **state)
{
	CLEANUP(close_fd) int fd = open("/dev/full", O_WRONLY);
	struct err e = ERR_INIT;

	(void)state;
	assert_true(fd >= 0);
	assert_err(fs_write_full(fd, "x", 1, &e), ERR_NOSPACE, &e);
}

static void test_fs__read_file_has_a_limit(void **state)
{
	struct err e = ERR_INIT;
	uint8_t *p = NULL;
	size_t len = 0;

	(void)state;
	assert_ok(fs_write_atomic("r", "hello", 5, false, 0600, &e), &e);
	assert_ok(fs_read_file("r", 5, &p, &len, &e), &e);
	assert_int_equal(len, 5);
	assert_string_equal((char *)p, "hello");
	free(p);
	p = NULL;
	assert_err(fs_read_file("r", 4, &p, &len, &e), ERR_INVALID, &e);
	assert_err(fs_read_file("none", 4, &p, &len, &e), ERR_NOTFOUND, &e);
	assert_err(fs_read_file("/dev/zero", 1000000, &p, &len, &e), ERR_INVALID, &e);
	assert_null(p);
	assert_ok(fs_read_file("/dev/null", 0, &p, &len, &e), &e);
	assert_int_equal(len, 0);
	free(p);
}

static void test_fs__paths(void **state)
{
	static const struct { const char *dir, *name, *want;
	} joins[] = {
		{ "a/b", "c", "a/b/c" }, { "a/", "c", "a/c" }, { "/", "c", "/c" },
		{ "a", "/c", "/c" },	 { "", "c", "c" },
	};
	static const struct { const char *path, *want;
	} dirs[] = {
		{ "a/b/c", "a/b" }, { "c", "." },    { "/c", "/" },  { "/", "/" },
		{ "a/b/", "a" },    { "a//b", "a" }, { "//c", "/" },
	};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(joins) / sizeof(joins[0]); i++) {
		CLEANUP(free_ptr) char *got = fs_join(joins[i].dir, joins[i].name, &e);

		assert_string_equal(got, joins[i].want);
	}
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		CLEANUP(free_ptr) char *got = fs_dirname(dirs[i].path, &e);

		assert_string_equal(got, dirs[i].want);
	}
	assert_string_equal(fs_basename("a/b"), "b");
	assert_string_equal(fs_basename("b"), "b");
}

static void test_fs__mkdirs(void **state)
{
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	assert_ok(fs_mkdirs("x/y//z", 0700, &e), &e);
	assert_int_equal(stat("x/y/z", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_ok(fs_mkdirs("x/y/z", 0700, &e), &e);
	assert_ok(fs_mkdirs("/", 0700, &e), &e);
	assert_ok(fs_write_atomic("x/file", "", 0, false, 0600, &e), &e);
	assert_err(fs_mkdirs("x/file", 0700, &e), ERR_EXISTS, &e);
	assert_true(fs_mkdirs("x/file/below", 0700, &e) < 0);
}

static void test_fs_atomic__nothing_until_commit(void **state)
{
	CLEANUP(fs_atomic_done) struct fs_atomic a = { .fd = -1 };
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(mkdir("at", 0700), 0);
	assert_ok(fs_atomic_open(&a, "at/target", false, 0640, &e), &e);
	assert_ok(fs_pwrite_full(a.fd, "new", 3, 0, &e), &e);
	assert_true(access("at/target", F_OK) < 0);
	fs_atomic_done(&a);
	assert_int_equal(count_files("at"), 0);
	assert_ok(fs_write_atomic("at/target", "new", 3, false, 0640, &e), &e);
	assert_int_equal(stat("at/target", &st), 0);
	assert_int_equal(st.st_mode & 0707, 0600);
	assert_int_equal(count_files("at"), 1);
}

static void test_fs_atomic__never_overwrites_unasked(void **state)
{
	CLEANUP(fs_atomic_done) struct fs_atomic a = { .fd = -1 };
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct err e = ERR_INIT;
	size_t len;

	(void)state;
	assert_int_equal(mkdir("no", 0700), 0);
	assert_ok(fs_atomic_open(&a, "no/t", false, 0600, &e), &e);
	assert_ok(fs_write_full(a.fd, "late", 4, &e), &e);
	assert_ok(fs_write_atomic("no/t", "first", 5, false, 0600, &e), &e);	/* somebody was faster */
	assert_err(fs_atomic_commit(&a, false, &e), ERR_EXISTS, &e);
	fs_atomic_done(&a);
	assert_err(fs_write_atomic("no/t", "again", 5, false, 0600, &e), ERR_EXISTS, &e);
	assert_ok(fs_read_file("no/t", 100, &p, &len, &e), &e);
	assert_string_equal((char *)p, "first");
	assert_ok(fs_write_atomic("no/t", "third", 5, true, 0600, &e), &e);
	free(p);
	assert_ok(fs_read_file("no/t", 100, &p, &len, &e), &e);
	assert_string_equal((char *)p, "third");
	assert_int_equal(count_files("no"), 1);
}

static void test_fs_scratch__has_no_name(void **state)
{
	CLEANUP(close_fd) int fd = -1;
	struct err e = ERR_INIT;
	char buf[5];

	(void)state;
	assert_int_equal(mkdir("scratch", 0700), 0);
	assert_ok(fs_scratch("scratch", &fd, &e), &e);
	assert_ok(fs_pwrite_full(fd, "hello", 5, 10, &e), &e);
	assert_ok(fs_pread_full(fd, buf, 5, 10, &e), &e);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(count_files("scratch"), 0);
	fd = (close(fd), -1);
	assert_err(fs_scratch("no-such-folder", &fd, &e), ERR_NOTFOUND, &e);
	assert_int_equal(fd, -1);
}

/* Killed in the middle: neither the target nor a rest of it is there. */
static void test_fs_atomic__nothing_left_by_a_kill(void **state)
{
	CLEANUP(close_fd) int unnamed = -1;
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct err e = ERR_INIT;
	int status = 0;
	size_t len;
	pid_t pid;

	(void)state;
	assert_int_equal(mkdir("kill", 0700), 0);
	unnamed = open("kill", O_RDWR | O_TMPFILE, 0600);
	if (unnamed < 0)
		skip();		/* this file system has to name it */
	assert_ok(fs_write_atomic("kill/t", "old", 3, false, 0600, &e), &e);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct fs_atomic a = { .fd = -1 };

		if (fs_atomic_open(&a, "kill/t", true, 0600, &e) == 0 && fs_write_full(a.fd, "new", 3, &e) == 0)
			raise(SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_ok(fs_read_file("kill/t", 100, &p, &len, &e), &e);
	assert_string_equal((char *)p, "old");
	assert_int_equal(count_files("kill"), 1);
	assert_ok(fs_write_atomic("kill/t", "new", 3, true, 0600, &e), &e);
	free(p);
	assert_ok(fs_read_file("kill/t", 100, &p, &len, &e), &e);
	assert_string_equal((char *)p, "new");
	assert_int_equal(count_files("kill"), 1);
}

static void test_fs_atomic__longest_name(void **state)
{
	struct err e = ERR_INIT;
	char name[256];

	(void)state;
	memset(name, 'n', 255);
	name[255] = '\0';
	assert_ok(fs_write_atomic(name, "x", 1, false, 0600, &e), &e);
	assert_int_equal(access(name, F_OK), 0);
	assert_err(fs_write_atomic("absent/dir/file", "x", 1, false, 0600, &e), ERR_NOTFOUND, &e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fs__pread_at_the_end),
		cmocka_unit_test(test_fs__full_device_is_nospace),
		cmocka_unit_test(test_fs__read_file_has_a_limit),
		cmocka_unit_test(test_fs__paths),
		cmocka_unit_test(test_fs__mkdirs),
		cmocka_unit_test(test_fs_atomic__nothing_until_commit),
		cmocka_unit_test(test_fs_atomic__never_overwrites_unasked),
		cmocka_unit_test(test_fs_scratch__has_no_name),
		cmocka_unit_test(test_fs_atomic__nothing_left_by_a_kill),
		cmocka_unit_test(test_fs_atomic__longest_name),
	};

	return cmocka_run_group_tests(tests, enter, leave);
}
