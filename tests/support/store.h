/*
 * store.h - objects put, read and listed for the tests of stores.  What fails aborts the test.
 */
#ifndef KEDGE_TESTS_SUPPORT_STORE_H
#define KEDGE_TESTS_SUPPORT_STORE_H

#include "transport/store.h"

void test_store_put(struct store *s, const char *name, const char *content);
/* The object is there with this content (1000 bytes at most). */
void test_store_expect(struct store *s, const char *name, const char *content);
/* All names below the prefix, sorted, each followed by a space. */
void test_store_expect_list(struct store *s, const char *prefix, const char *joined);

/* store_list's function: notes what it sees, up to 32 names. */
struct test_seen {
	char names[32][STORE_NAME_MAX + 1];
	uint64_t bytes;
	int n, stop_after, stop_with;
	struct store *remove_from;
};

int test_see(void *opaque, const char *name, const struct store_stat *st, struct err *e);

#endif
