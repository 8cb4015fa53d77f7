/*
 * pack.h - packs for tests: real ones in the store, and directories that only claim to be.
 */
#ifndef KEDGE_TESTS_SUPPORT_PACK_H
#define KEDGE_TESTS_SUPPORT_PACK_H

#include "repo/pack.h"
#include "repo/segment.h"

struct test_pack {
	char name[OBJECT_NAME_BYTES];
	uint64_t size, envelope_off;
	uint32_t envelope_len;
	struct directory *d;
};
void test_pack_done(struct test_pack *p);
/* Seals each group of `per` items as a segment of a new pack, puts it, and describes it.  Aborts the test when it
 * fails. */
void test_pack_put(struct repo *r, const struct session_id *session, enum pack_kind kind, const struct segment_item *it,
		   size_t n, size_t per, int level, struct test_pack *ret);
/* The bytes of such a pack without putting it: malloc'ed; name and size are filled in. */
uint8_t *test_pack_make(struct repo *r, const struct session_id *session, enum pack_kind kind,
			const struct segment_item *it, size_t n, size_t per, int level, struct test_pack *ret);
/* A directory of n chunks with ids from the seed, in segments of 4, that belongs to no pack; name is made up. */
void test_pack_fake(struct repo *r, const struct session_id *session, uint64_t seed, size_t n, struct test_pack *ret);
/* The id of chunk i of such a directory. */
void test_fake_id(uint64_t seed, uint64_t i, struct id *ret);

#endif
