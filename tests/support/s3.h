/*
 * s3.h - tests/s3/fixture.py as a child process, and words with it.  What fails aborts the test.
 */
#ifndef KEDGE_TESTS_SUPPORT_S3_H
#define KEDGE_TESTS_SUPPORT_S3_H

#include <stdbool.h>

#define TEST_S3_ACCESS "FIXTUREKEY"
#define TEST_S3_SECRET "fixture/secret+key"

struct test_s3;

/* Starts one; cert, key: PEM files, or NULL for plain HTTP. */
struct test_s3 *test_s3_new(const char *cert, const char *key);
void test_s3_free(struct test_s3 *t);	/* NULL is fine */
int test_s3_port(const struct test_s3 *t);
/* "s3:http://127.0.0.1:PORT/bucket/TAIL", malloc'ed. */
char *test_s3_location(const struct test_s3 *t, const char *tail);
/* POST /_fixture/WHAT with a JSON body; the answer, malloc'ed. */
char *test_s3_tell(const struct test_s3 *t, const char *what, const char *json);
/* Forgets objects, rules and the log. */
void test_s3_clear(const struct test_s3 *t);
/* How many logged requests contain the text (after METHOD and before the status). */
int test_s3_count(const struct test_s3 *t, const char *text);
/* The environment in which kedge finds the fixture's keys and no others. */
void test_s3_environment(void);

#endif
