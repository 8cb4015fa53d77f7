/*
 * folder.h - a folder of its own for a test, and what is in it.  Everything aborts the test on failure.
 */
#ifndef KEDGE_TESTS_SUPPORT_FOLDER_H
#define KEDGE_TESTS_SUPPORT_FOLDER_H

/* A fresh, empty folder: its path, malloc'ed.  In TMPDIR, else /tmp, and not in TESTDIR: other users can't enter
 * that. */
char *test_folder_new(void);
/* Removes the folder with all that is in it, and frees the path; NULL is fine. */
void test_folder_done(char *dir);
/* Removes what is in it. */
void test_folder_clear(const char *dir);
/* "dir/name", malloc'ed. */
char *test_path(const char *dir, const char *name);
/* How many names it holds, hidden ones too. */
int test_folder_entries(const char *dir);

#endif
