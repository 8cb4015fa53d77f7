/* test_store_local.c - what is particular to stores in folders: modes, leftovers, links, limits, full disks. */
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "tests/support/folder.h"
#include "tests/support/store.h"
#include "transport/registry.h"

struct fixture {
	char *root;		/* folder that holds the store */
	char *path;		/* of the store */
	struct store *s;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = ERR_INIT;

	assert_non_null(f);
	f->root = test_folder_new();
	f->path = test_path(f->root, "store");
	assert_ok(store_open(f->path, true, &f->s, &e), &e);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->s);
	test_folder_done(f->root);
	free(f->path);
	free(f);
	return 0;
}

static void test_local__modes_and_leftovers(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *file = test_path(f->path, "packs/one");
	CLEANUP(free_ptr) char *dir = test_path(f->path, "packs");
	CLEANUP(free_ptr) char *tmp = test_path(f->path, ".tmp");
	struct stat st;

	umask(022);
	test_store_put(f->s, "packs/one", "1");
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(test_folder_entries(tmp), 0);
}

static void touch(const char *path, time_t age)
{
	struct timespec t[2] = { { .tv_sec = time(NULL) - age }, { .tv_sec = time(NULL) - age } };
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, t), 0);
	close(fd);
}

static void test_local__stray_files(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *tmp = test_path(f->path, ".tmp");
	CLEANUP(free_ptr) char *old = test_path(tmp, "0123456789abcdef0123456789abcdef");
	CLEANUP(free_ptr) char *recent = test_path(tmp, "1123456789abcdef0123456789abcdef");
	CLEANUP(free_ptr) char *foreign = test_path(tmp, "notes");
	CLEANUP(free_ptr) char *other = test_path(f->path, "README.txt");

	assert_int_equal(mkdir(tmp, 0700), 0);
	touch(old, 25 * 3600);
	touch(recent, 3600);
	touch(foreign, 25 * 3600);
	touch(other, 0);
	test_store_expect_list(f->s, "", "");
	assert_int_equal(access(old, F_OK), 0);	/* a reader cleans nothing */
	test_store_put(f->s, "x", "1");
	assert_int_equal(access(old, F_OK), -1);
	assert_int_equal(access(recent, F_OK), 0);
	assert_int_equal(access(foreign, F_OK), 0);
	test_store_expect_list(f->s, "", "x ");
}

/* Whoever can write to the folder may put links there: none of them leads out. */
static void test_local__links_are_not_followed(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *secret = test_path(f->root, "secret");
	CLEANUP(free_ptr) char *outside = test_path(f->root, "outside");
	CLEANUP(free_ptr) char *link_file = test_path(f->path, "file");
	CLEANUP(free_ptr) char *link_dir = test_path(f->path, "folder");
	CLEANUP(free_ptr) char *fifo = test_path(f->path, "fifo");
	struct err e = ERR_INIT;
	char b;

	touch(secret, 0);
	assert_int_equal(mkdir(outside, 0700), 0);
	assert_int_equal(symlink(secret, link_file), 0);
	assert_int_equal(symlink(outside, link_dir), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_err(store_read(f->s, "file", &b, 0, 0, &e), ERR_CORRUPT, &e);
	assert_err(store_read(f->s, "fifo", &b, 0, 0, &e), ERR_CORRUPT, &e);
	assert_err(store_read(f->s, "folder/x", &b, 0, 0, &e), ERR_CORRUPT, &e);
	assert_err(store_put(f->s, "folder/x", "1", 1, 0, &e), ERR_CORRUPT, &e);
	assert_int_equal(test_folder_entries(outside), 0);
	test_store_expect_list(f->s, "", "");
	test_store_put(f->s, "file", "mine");	/* replaces the link, not what it names */
	test_store_expect(f->s, "file", "mine");
	assert_int_equal(test_folder_entries(f->root), 3);
}

static void test_local__object_and_folder_clash(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;

	test_store_put(f->s, "a", "1");
	test_store_put(f->s, "b/c", "1");
	assert_err(store_put(f->s, "a/b", "1", 1, 0, &e), ERR_INVALID, &e);
	assert_err(store_put(f->s, "b", "1", 1, 0, &e), ERR_INVALID, &e);
	assert_err(store_put(f->s, "b", "1", 1, STORE_PUT_IF_ABSENT, &e), ERR_EXISTS, &e);
	test_store_expect_list(f->s, "", "a b/c ");
}

static void test_local__open(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *none = test_path(f->root, "none");
	CLEANUP(free_ptr) char *deep = test_path(f->root, "no/parent");
	CLEANUP(free_ptr) char *file = test_path(f->root, "file");
	CLEANUP(free_ptr) char *url = test_path("file:", f->path + 1);
	struct err e = ERR_INIT;
	struct store *s = NULL;

	assert_err(store_open(none, false, &s, &e), ERR_NOTFOUND, &e);
	assert_err(store_open(deep, true, &s, &e), ERR_NOTFOUND, &e);
	touch(file, 0);
	assert_err(store_open(file, false, &s, &e), ERR_NOTFOUND, &e);
	assert_err(store_open("", false, &s, &e), ERR_INVALID, &e);
	assert_int_equal(store_open("gopher:/x", false, &s, &e), ERR_INVALID);
	assert_has(e.hint, "file:/path");
	err_clear(&e);
	test_store_put(f->s, "x", "1");
	assert_int_equal(store_open(f->path, true, &s, &e), ERR_EXISTS);
	assert_has(e.hint, "empty");
	err_clear(&e);
	assert_ok(store_open(url, false, &s, &e), &e);
	test_store_expect(s, "x", "1");
	assert_true(store_caps(s)->is_local && store_caps(s)->can_remove && store_caps(s)->conditional_put);
	store_close(s);
	assert_ok(store_open(none, true, &s, &e), &e);
	store_close(s);
	assert_ok(store_open(none, true, &s, &e), &e);	/* empty, so still new */
	store_close(s);
}

/* Runs fn in a child that may give up rights or lower limits; its assertions count here. */
static void in_child(void (*fn)(struct fixture *), struct fixture *f)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		fn(f);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define CHILD_CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #cond, e.cause); \
			_exit(1); \
		} \
	} while (0)

static void use_read_only(struct fixture *f)
{
	struct err e = ERR_INIT;
	struct store *s;
	char b;

	if (geteuid() == 0)
		CHILD_CHECK(setegid(65534) == 0 && seteuid(65534) == 0);
	CHILD_CHECK(store_open(f->path, false, &s, &e) == 0);
	CHILD_CHECK(!store_caps(s)->can_remove);
	CHILD_CHECK(store_read(s, "p/x", &b, 1, 0, &e) == 0 && b == '1');
	CHILD_CHECK(store_put(s, "p/y", "1", 1, 0, &e) == ERR_IO && strstr(e.hint, "who may write"));
	err_clear(&e);
	CHILD_CHECK(store_put(s, "q/y", "1", 1, 0, &e) == ERR_IO);
	err_clear(&e);
	CHILD_CHECK(store_remove(s, "p/x", &e) == ERR_IO);
	store_close(s);
}

static void test_local__read_only_folder(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *dir = test_path(f->path, "p");
	CLEANUP(free_ptr) char *file = test_path(f->path, "p/x");

	test_store_put(f->s, "p/x", "1");
	assert_int_equal(chmod(f->root, 0755), 0);
	assert_int_equal(chmod(f->path, 0555), 0);
	assert_int_equal(chmod(dir, 0555), 0);
	assert_int_equal(chmod(file, 0444), 0);
	in_child(use_read_only, f);
	assert_int_equal(chmod(f->path, 0700), 0);
	assert_int_equal(chmod(dir, 0700), 0);
}

static void use_small_limit(struct fixture *f)
{
	struct rlimit small = { .rlim_cur = 100000, .rlim_max = 100000 };
	static char content[200000];
	struct err e = ERR_INIT;

	signal(SIGXFSZ, SIG_IGN);
	CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
	CHILD_CHECK(store_put(f->s, "p/big", content, sizeof(content), 0, &e) == ERR_NOSPACE);
	CHILD_CHECK(strstr(e.hint, "nothing that was stored is lost"));
	err_clear(&e);
	CHILD_CHECK(store_put(f->s, "p/small", content, 1000, 0, &e) == 0);
}

static void test_local__limit_of_file_size(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *tmp = test_path(f->path, ".tmp");

	test_store_put(f->s, "p/x", "1");
	in_child(use_small_limit, f);
	test_store_expect_list(f->s, "", "p/small p/x ");
	assert_int_equal(test_folder_entries(tmp), 0);
}

/* A really full file system: what was stored stays whole, the failed put leaves nothing, and room made is room used. */
static void test_local__full_disk(void **state)
{
	struct fixture *f = *state;
	CLEANUP(free_ptr) char *mnt = test_path(f->root, "mnt");
	CLEANUP(free_ptr) char *path = test_path(mnt, "store");
	CLEANUP(free_ptr) uint8_t *content = calloc(1, MIB);
	struct err e = ERR_INIT;
	struct store *s;

	assert_non_null(content);
	assert_int_equal(mkdir(mnt, 0700), 0);
	if (mount("kedge-test", mnt, "tmpfs", 0, "size=2560k") < 0)
		skip();	/* not root: test_local__limit_of_file_size has covered the error */
	assert_ok(store_open(path, true, &s, &e), &e);
	assert_ok(store_put(s, "p/1", content, MIB, 0, &e), &e);
	assert_ok(store_put(s, "p/2", content, MIB, 0, &e), &e);
	assert_int_equal(store_put(s, "p/3", content, MIB, 0, &e), ERR_NOSPACE);
	assert_has(e.hint, "make room");
	err_clear(&e);
	test_store_expect_list(s, "", "p/1 p/2 ");
	assert_ok(store_remove(s, "p/1", &e), &e);
	assert_ok(store_put(s, "p/3", content, MIB, 0, &e), &e);
	test_store_expect_list(s, "", "p/2 p/3 ");
	store_close(s);
	assert_int_equal(umount(mnt), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_local__modes_and_leftovers),
		TEST(test_local__stray_files),
		TEST(test_local__links_are_not_followed),
		TEST(test_local__object_and_folder_clash),
		TEST(test_local__open),
		TEST(test_local__read_only_folder),
		TEST(test_local__limit_of_file_size),
		TEST(test_local__full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
