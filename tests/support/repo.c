/* repo.c - a repository in memory for tests. */
#include "tests/test.h"

#include "repo/object.h"
#include "tests/support/repo.h"

#define ARGON_TEST_KIB 8192
#define ARGON_TEST_PASSES 1

struct secret *test_secret(const char *password)
{
	struct err e = ERR_INIT;
	struct secret *s = NULL;

	assert_ok(secret_new(SECRET_PASSPHRASE, password, strlen(password), &s, &e), &e);
	return s;
}

static void collect(void *opaque, const char *text)
{
	struct test_repo *t = opaque;
	size_t used = strlen(t->notices);

	snprintf(t->notices + used, sizeof(t->notices) - used, "%s\n", text);
}

static struct repo *open_with(struct test_repo *t, const char *password, const char *state_dir)
{
	struct repo_open_opts o = { .state_dir = state_dir, .notice = collect, .opaque = t };
	struct secret *s = test_secret(password);
	struct err e = ERR_INIT;
	struct repo *r = NULL;

	assert_ok(repo_open(t->store, s, &o, &r, &e), &e);
	secret_free(s);
	return r;
}

void test_repo_new(struct test_repo *t, uint32_t chunk_size, const char *state_dir)
{
	struct repo_init_opts o = { .chunk_size = chunk_size,
				    .argon_passes = ARGON_TEST_PASSES,
				    .argon_kib = ARGON_TEST_KIB };
	struct secret *s = test_secret(TEST_PASSWORD), *recovery = NULL;
	struct err e = ERR_INIT;

	*t = (struct test_repo){ 0 };
	assert_ok(store_mem_new(&t->store, &e), &e);
	assert_ok(repo_init(t->store, s, &o, &recovery, &e), &e);
	secret_free(recovery);
	secret_free(s);
	t->repo = open_with(t, TEST_PASSWORD, state_dir);
}

void test_repo_reopen(struct test_repo *t, const char *password, const char *state_dir)
{
	repo_close(t->repo);
	t->repo = NULL;
	t->repo = open_with(t, password, state_dir);
}

void test_repo_done(struct test_repo *t)
{
	repo_close(t->repo);
	store_close(t->store);
}

struct repo *test_repo_as(struct test_repo *t, enum slot_role role, const char *password)
{
	struct slot_new_opts o = {
		.label = "test", .role = role, .argon_passes = ARGON_TEST_PASSES, .argon_kib = ARGON_TEST_KIB
	};
	struct secret *s = test_secret(password);
	struct err e = ERR_INIT;
	struct slot_id id;

	assert_ok(repo_slot_add(t->repo, s, &o, &id, &e), &e);
	secret_free(s);
	return open_with(t, password, NULL);
}

void test_id_of_chunk(const struct repo *r, const char *domain, const void *plain, size_t len, struct id *ret)
{
	struct crypt *c = NULL;
	struct err e = ERR_INIT;

	assert_ok(crypt_new(&c, &e), &e);
	assert_ok(id_of_chunk(c, r, domain, plain, len, ret, &e), &e);
	crypt_free(c);
}

void test_id_of_node(const struct repo *r, const void *encoded, size_t len, struct id *ret)
{
	struct crypt *c = NULL;
	struct err e = ERR_INIT;

	assert_ok(crypt_new(&c, &e), &e);
	assert_ok(id_of_node(c, r, encoded, len, ret, &e), &e);
	crypt_free(c);
}
