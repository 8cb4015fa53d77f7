/*
 * repo.h - a repository in memory for tests: cheap key derivation, notices collected.
 */
#ifndef KEDGE_TESTS_SUPPORT_REPO_H
#define KEDGE_TESTS_SUPPORT_REPO_H

#include "repo/repo.h"
#include "transport/registry.h"

#define TEST_PASSWORD "correct horse"

struct test_repo {
	struct store *store;
	struct repo *repo;
	char notices[8192];	/* what was noticed, one a line */
};

/* A passphrase; aborts the test when it fails. */
struct secret *test_secret(const char *password);
/* A fresh repository of chunk_size (0 = default) in memory, opened with TEST_PASSWORD.  state_dir may be NULL. */
void test_repo_new(struct test_repo *t, uint32_t chunk_size, const char *state_dir);
/* Closes and opens again, with another password. */
void test_repo_reopen(struct test_repo *t, const char *password, const char *state_dir);
void test_repo_done(struct test_repo *t);
/* Opens a second handle on the same store, with a slot of the role that this makes; repo_close it. */
struct repo *test_repo_as(struct test_repo *t, enum slot_role role, const char *password);

/* id_of_chunk, id_of_node. */
void test_id_of_chunk(const struct repo *r, const char *domain, const void *plain, size_t len, struct id *ret);
void test_id_of_node(const struct repo *r, const void *encoded, size_t len, struct id *ret);

#endif
