/*
 * index.h - an index to test: filled, stored, damaged, looked up.  What fails aborts the test.
 */
#ifndef KEDGE_TESTS_SUPPORT_INDEX_H
#define KEDGE_TESTS_SUPPORT_INDEX_H

#include "repo/index.h"
#include "tests/support/pack.h"

#define TEST_INDEX_CHUNK 4096u

/* Of all runs that are stored here. */
extern const struct session_id test_index_session;

/* Loads it; so many runs are damaged. */
struct index *test_index_load(struct repo *r, const struct protocol_view *v, bool build, size_t max_bytes,
			      uint32_t want_damaged);
/* Adds the directory of a pack that does not exist (test_pack_fake); name (may be NULL): the pack's. */
void test_index_add_fake(struct index *x, struct repo *r, uint64_t seed, size_t n, char *name);
/* Puts a pack of n chunks, 64 a segment, and adds its directory. */
void test_index_fill(struct repo *r, struct index *x, uint8_t seed, struct test_pack *p, struct id *ids, size_t n);
/* Stores a run; its bytes. */
uint64_t test_index_store(struct index *x);
/* Looks up chunk i of a fake pack. */
int test_index_find(struct index *x, uint64_t seed, uint64_t i, unsigned nth, struct chunk_place *p);
/* Chunk i of a fake pack, all chunks of a real one, are where they were put. */
void test_index_expect(struct index *x, uint64_t seed, uint64_t i, const char *pack);
void test_index_expect_all(struct index *x, const struct id *ids, size_t n, const char *pack);

/* Every entry of the index: how many, and all their ids together. */
struct seen_entries {
	uint64_t n;
	uint8_t xor[ID_BYTES];
};
void test_index_each(struct index *x, struct seen_entries *s);

/* What the store lists; p is the caller's to free. */
struct test_names {
	char (*p)[OBJECT_NAME_BYTES];
	size_t n;
};
struct test_names test_names_of(struct store *s, const char *prefix);
/* Changes a bit of an object's byte at; counted from the end: UINT64_MAX is the last. */
void test_flip(struct store *s, const char *name, uint64_t at);

#endif
