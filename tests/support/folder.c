/* folder.c - a folder of its own for a test. */
#include "tests/test.h"

#include <dirent.h>
#include <ftw.h>
#include <unistd.h>

#include "tests/support/folder.h"

char *test_path(const char *dir, const char *name)
{
	char *p = NULL;

	assert_true(asprintf(&p, "%s/%s", dir, name) > 0);
	return p;
}

char *test_folder_new(void)
{
	char *dir = test_path(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", "kedge-test.XXXXXX");

	assert_non_null(mkdtemp(dir));
	return dir;
}

static int remove_below(const char *path, const struct stat *st, int flag, struct FTW *w)
{
	(void)st, (void)flag;
	return w->level ? remove(path) : 0;
}

void test_folder_clear(const char *dir)
{
	assert_int_equal(nftw(dir, remove_below, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void test_folder_done(char *dir)
{
	if (!dir)
		return;
	test_folder_clear(dir);
	assert_int_equal(rmdir(dir), 0);
	free(dir);
}

int test_folder_entries(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d)) != NULL;)
		n += strcmp(de->d_name, ".") && strcmp(de->d_name, "..");
	closedir(d);
	return n;
}
