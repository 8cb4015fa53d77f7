/* Objects: padding, names, sealing and signing, put and get with every check, listings, segment and block seals,
 * ids. */
#include "tests/test.h"

#include "base/fs.h"
#include "base/text.h"
#include "repo/object.h"
#include "repo/repo_internal.h"
#include "tests/support/repo.h"
#include "transport/store.h"

static struct test_repo t;

static int setup(void **state)
{
	(void)state;
	test_repo_new(&t, 0, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_repo_done(&t);
	return 0;
}

static void test_padme__known_values(void **state)
{
	(void)state;
	/* by hand from the definition: n, padded */
	static const uint64_t want[][2] = { { 0, 0 },
					    { 1, 1 },
					    { 2, 2 },
					    { 3, 3 },
					    { 8, 8 },
					    { 9, 10 },
					    { 31, 32 },
					    { 33, 36 },
					    { 65, 72 },
					    { 1000, 1024 },
					    { 1025, 1088 },
					    { 65537, 67584 },
					    { 1u << 20, 1u << 20 },
					    { (1u << 20) + 1, (1u << 20) + (1u << 15) } };

	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++)
		assert_int_equal(padme(want[i][0]), want[i][1]);
	for (uint64_t n = 2; n < 100000; n++) {
		assert_true(padme(n) >= n && padme(n) * 100 <= n * 113);
		assert_int_equal(padme(padme(n)), padme(n));
	}
}

static void test_object_name__round_trip_and_refusals(void **state)
{
	struct object_name n = { .type = OBJECT_MANIFEST }, back;
	char text[OBJECT_NAME_BYTES], bad[OBJECT_NAME_BYTES + 2];

	(void)state;
	memset(n.slot.b, 0xa1, SLOT_BYTES);
	memset(n.session.b, 0xb2, SESSION_BYTES);
	memset(n.hash.b, 0xc3, ID_BYTES);
	for (int type = 1; type < OBJECT_TYPE_END; type++) {
		if (!object_prefix((enum object_type)type))
			continue;
		n.type = (enum object_type)type;
		object_name_text(&n, text);
		assert_true(store_name_ok(text));
		assert_true(object_name_parse(text, &back));
		assert_int_equal(back.type, type);
		assert_memory_equal(back.slot.b, n.slot.b, SLOT_BYTES);
		assert_true(id_eq(&back.hash, &n.hash));
		if (type != OBJECT_KEY && type != OBJECT_SLOT)
			assert_memory_equal(back.session.b, n.session.b, SESSION_BYTES);
		snprintf(bad, sizeof(bad), "%s0", text);
		assert_false(object_name_parse(bad, &back));
		text[strlen(text) - 1] = '\0';
		assert_false(object_name_parse(text, &back));
	}
	n.type = OBJECT_SESSION;
	object_name_text(&n, text);
	text[10] = 'A';			/* upper case is another name */
	assert_false(object_name_parse(text, &back));
	assert_false(object_name_parse("config", &back));
	assert_false(object_name_parse("", &back));
	assert_null(object_prefix(OBJECT_CONFIG));
	assert_null(object_prefix(OBJECT_INDEX_BLOCK));
}

static void seal_and_open(enum object_type type, size_t len, int fill)
{
	CLEANUP(free_ptr) uint8_t *payload = malloc(len + 1), *back = NULL;
	struct err e = ERR_INIT;
	struct slot_id signer;
	uint32_t generation;
	struct buf out;
	size_t back_len;

	for (size_t i = 0; i < len; i++)
		payload[i] = fill >= 0 ? (uint8_t)fill : (uint8_t)(i * 2654435761u >> 13);
	buf_init(&out, 80u << 20);
	assert_ok(envelope_seal(t.repo, type, payload, len, &out, &e), &e);
	assert_int_equal(out.len, padme(out.len));
	assert_ok(envelope_open(t.repo, type, out.p, out.len, &back, &back_len, &signer, &generation, &e), &e);
	assert_int_equal(back_len, len);
	assert_memory_equal(back, payload, len);
	assert_int_equal(back[len], 0);
	assert_int_equal(generation, 1);
	if (type != OBJECT_SLOT)
		assert_memory_equal(signer.b, repo_own_slot(t.repo)->b, SLOT_BYTES);
	buf_done(&out);
}

static void flip_byte(uint8_t *p, size_t len)
{
	p[len / 2] ^= 0x10;
}

/* What memory spoils between sealing and storing is not stored. */
static void test_envelope__is_opened_again_before_it_is_sent(void **state)
{
	static const enum object_type types[] = { OBJECT_CONFIG, OBJECT_DIRECTORY, OBJECT_MANIFEST, OBJECT_END };
	struct err e = ERR_INIT;
	struct buf out;

	(void)state;
	buf_init(&out, 1u << 20);
	assert_ok(buf_u8(&out, 7, &e), &e);
	t.repo->sealed_hook = flip_byte;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		assert_int_equal(envelope_seal(t.repo, types[i], "payload", 7, &out, &e), ERR_INTERNAL);
		assert_has(e.hint, "memory");
		assert_int_equal(out.len, 1);
	}
	t.repo->sealed_hook = NULL;
	err_clear(&e);
	assert_ok(envelope_seal(t.repo, OBJECT_END, "payload", 7, &out, &e), &e);
	buf_done(&out);
}

static void test_envelope__round_trips(void **state)
{
	(void)state;
	for (size_t len = 0; len < 70; len++)
		seal_and_open(OBJECT_SESSION, len, 'x');
	seal_and_open(OBJECT_MANIFEST, 100000, 0);
	seal_and_open(OBJECT_MANIFEST, 100000, -1);
	seal_and_open(OBJECT_DIRECTORY, 3000000, -1);
	seal_and_open(OBJECT_SLOT, 17, 1);
}

static void test_envelope__every_changed_byte_is_noticed(void **state)
{
	static const enum object_type types[] = { OBJECT_SESSION, OBJECT_MANIFEST };
	struct err e = ERR_INIT;

	(void)state;
	for (size_t k = 0; k < 2; k++) {
		struct buf out;

		buf_init(&out, 4096);
		assert_ok(envelope_seal(t.repo, types[k], "hello", 5, &out, &e), &e);
		for (size_t i = 0; i < out.len; i++) {
			uint8_t *back = NULL;
			size_t len;

			out.p[i] ^= 1;
			assert_true(envelope_open(t.repo, types[k], out.p, out.len, &back, &len, NULL, NULL, &e) < 0);
			assert_null(back);
			err_clear(&e);
			out.p[i] ^= 1;
		}
		for (size_t len = 0; len < out.len; len++) {
			CLEANUP(free_ptr) uint8_t *cut = malloc(len + 1);
			uint8_t *back = NULL;
			size_t n;

			memcpy(cut, out.p, len);
			assert_err(envelope_open(t.repo, types[k], cut, len, &back, &n, NULL, NULL, &e), ERR_CORRUPT,
				   &e);
		}
		buf_done(&out);
	}
}

static void test_envelope__type_and_version(void **state)
{
	struct err e = ERR_INIT;
	uint8_t *back = NULL;
	struct buf out;
	size_t len;

	(void)state;
	buf_init(&out, 4096);
	assert_ok(envelope_seal(t.repo, OBJECT_SESSION, "x", 1, &out, &e), &e);
	assert_err(envelope_open(t.repo, OBJECT_END, out.p, out.len, &back, &len, NULL, NULL, &e), ERR_CORRUPT, &e);
	out.p[9] = OBJECT_END;		/* the type is part of the associated data */
	assert_err(envelope_open(t.repo, OBJECT_END, out.p, out.len, &back, &len, NULL, NULL, &e), ERR_CORRUPT, &e);
	out.p[9] = OBJECT_SESSION;
	out.p[8] = 2;
	assert_err(envelope_open(t.repo, OBJECT_SESSION, out.p, out.len, &back, &len, NULL, NULL, &e), ERR_UNSUPPORTED,
		   &e);
	out.p[8] = 1;
	out.p[12] = 9;			/* a generation that nobody holds */
	assert_err(envelope_open(t.repo, OBJECT_SESSION, out.p, out.len, &back, &len, NULL, NULL, &e), ERR_AUTH, &e);
	buf_done(&out);
}

static void test_object__put_get_list(void **state)
{
	struct session_id a = { { 1 } }, b = { { 2 } };
	char one[OBJECT_NAME_BYTES], two[OBJECT_NAME_BYTES];
	CLEANUP(free_ptr) uint8_t *back = NULL;
	struct err e = ERR_INIT;
	struct name_list l;
	struct slot_id signer;
	size_t len;

	(void)state;
	assert_ok(object_put(t.repo, OBJECT_SESSION, &a, "{}", 2, one, &e), &e);
	assert_ok(object_put(t.repo, OBJECT_SESSION, &b, "{}", 2, two, &e), &e);
	assert_ok(store_put(t.store, "session/rubbish", "x", 1, 0, &e), &e);
	assert_ok(object_list(t.repo, OBJECT_SESSION, &l, &e), &e);
	assert_int_equal(l.n, 2);
	assert_true(name_list_has(&l, one) && name_list_has(&l, two));
	assert_false(name_list_has(&l, "session/rubbish"));
	assert_has(t.notices, "session/rubbish");
	name_list_free(&l);
	assert_ok(object_list_of(t.repo, OBJECT_SESSION, repo_own_slot(t.repo), &b, &l, &e), &e);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.p[0], two);
	name_list_free(&l);
	assert_ok(object_list_of(t.repo, OBJECT_SESSION, NULL, &a, &l, &e), &e);
	assert_int_equal(l.n, 1);
	name_list_free(&l);
	assert_ok(object_get(t.repo, one, &back, &len, &signer, &e), &e);
	assert_int_equal(len, 2);
	assert_memory_equal(signer.b, repo_own_slot(t.repo)->b, SLOT_BYTES);
	assert_ok(store_remove(t.store, "session/rubbish", &e), &e);
}

/* The same bytes under a name that they don't belong to. */
static void test_object__misplaced(void **state)
{
	CLEANUP(free_ptr) uint8_t *bytes = NULL, *back = NULL;
	char name[OBJECT_NAME_BYTES], other[OBJECT_NAME_BYTES];
	struct session_id session = { { 7 } };
	struct err e = ERR_INIT;
	struct object_name n;
	size_t len, plen;

	(void)state;
	assert_ok(object_put(t.repo, OBJECT_END, &session, "{}", 2, name, &e), &e);
	assert_ok(store_get(t.store, name, 1 << 20, &bytes, &len, &e), &e);
	assert_true(object_name_parse(name, &n));
	n.slot.b[0] ^= 1;		/* another slot's name */
	object_name_text(&n, other);
	assert_ok(store_put(t.store, other, bytes, len, 0, &e), &e);
	assert_err(object_get(t.repo, other, &back, &plen, NULL, &e), ERR_AUTH, &e);
	n.slot.b[0] ^= 1;
	n.hash.b[5] ^= 1;		/* another hash */
	object_name_text(&n, other);
	assert_ok(store_put(t.store, other, bytes, len, 0, &e), &e);
	assert_int_equal(object_get(t.repo, other, &back, &plen, NULL, &e), ERR_CORRUPT);
	assert_has(e.ctx, other);
	err_clear(&e);
	n.hash.b[5] ^= 2;
	object_name_text(&n, other);
	assert_err(object_get(t.repo, other, &back, &plen, NULL, &e), ERR_NOTFOUND, &e);
}

static void test_object__put_slot_may_not_sign_tombstones(void **state)
{
	struct repo *put = test_repo_as(&t, ROLE_PUT, "put");
	CLEANUP(free_ptr) uint8_t *back = NULL;
	char name[OBJECT_NAME_BYTES];
	struct session_id session = { { 7 } };
	struct err e = ERR_INIT;
	size_t len;

	(void)state;
	assert_int_equal(repo_own_role(put), ROLE_PUT);
	assert_ok(object_put(put, OBJECT_TOMBSTONE, &session, "{}", 2, name, &e), &e);
	assert_err(object_get(t.repo, name, &back, &len, NULL, &e), ERR_AUTH, &e);
	/* What it may: sessions, and manifests that it cannot read back. */
	assert_ok(object_put(put, OBJECT_MANIFEST, &session, "{}", 2, name, &e), &e);
	assert_err(object_get(put, name, &back, &len, NULL, &e), ERR_AUTH, &e);
	assert_ok(object_get(t.repo, name, &back, &len, NULL, &e), &e);
	repo_close(put);
}

static void test_pack_key__kinds_and_roles(void **state)
{
	struct repo *maintain = test_repo_as(&t, ROLE_MAINTAIN, "maintain");
	struct pack_key data, nodes, back;
	struct err e = ERR_INIT;
	uint8_t sealed[5 + AEAD_BYTES], plain[5];
	struct crypt *crypt = NULL;

	(void)state;
	assert_ok(pack_key_new(t.repo, PACK_DATA, &data, &e), &e);
	assert_ok(pack_key_new(t.repo, PACK_NODES, &nodes, &e), &e);
	assert_int_equal(data.generation, repo_generation(t.repo));
	assert_ok(pack_key_open(t.repo, PACK_DATA, 1, data.sealed, &back, &e), &e);
	assert_memory_equal(back.key, data.key, KEY_BYTES);
	assert_err(pack_key_open(t.repo, PACK_NODES, 1, data.sealed, &back, &e), ERR_CORRUPT, &e);
	assert_err(pack_key_open(t.repo, PACK_DATA, 2, data.sealed, &back, &e), ERR_AUTH, &e);
	assert_err(pack_key_open(maintain, PACK_DATA, 1, data.sealed, &back, &e), ERR_AUTH, &e);
	assert_ok(pack_key_open(maintain, PACK_NODES, 1, nodes.sealed, &back, &e), &e);
	assert_ok(crypt_new(&crypt, &e), &e);
	assert_ok(segment_aead_seal(crypt, t.repo, &nodes, 3, "nodes", 5, sealed, &e), &e);
	assert_ok(segment_aead_open(crypt, maintain, &back, 3, sealed, sizeof(sealed), plain, &e), &e);
	assert_memory_equal(plain, "nodes", 5);
	assert_err(segment_aead_open(crypt, maintain, &back, 4, sealed, sizeof(sealed), plain, &e), ERR_CORRUPT, &e);
	assert_err(segment_aead_open(crypt, maintain, &back, 3, sealed, 39, plain, &e), ERR_CORRUPT, &e);
	sealed[30] ^= 1;
	assert_err(segment_aead_open(crypt, maintain, &back, 3, sealed, sizeof(sealed), plain, &e), ERR_CORRUPT, &e);
	crypt_free(crypt);
	repo_close(maintain);
}

static void test_block_aead__round_trip(void **state)
{
	static uint8_t plain[INDEX_BLOCK_PLAIN], sealed[INDEX_BLOCK_BYTES], back[INDEX_BLOCK_PLAIN];
	struct err e = ERR_INIT;

	(void)state;
	memset(plain, 7, sizeof(plain));
	block_aead_seal(t.repo, plain, sealed);
	assert_ok(block_aead_open(t.repo, 1, sealed, back, &e), &e);
	assert_memory_equal(plain, back, sizeof(plain));
	assert_err(block_aead_open(t.repo, 2, sealed, back, &e), ERR_AUTH, &e);
	sealed[INDEX_BLOCK_BYTES - 1] ^= 1;
	assert_err(block_aead_open(t.repo, 1, sealed, back, &e), ERR_CORRUPT, &e);
}

static void test_ids__keyed_and_separated(void **state)
{
	struct test_repo other;
	struct id chunk, node, again, elsewhere;

	(void)state;
	test_repo_new(&other, 0, NULL);
	test_id_of_chunk(t.repo, NULL, "abc", 3, &chunk);
	test_id_of_chunk(t.repo, "default", "abc", 3, &again);
	test_id_of_node(t.repo, "abc", 3, &node);
	test_id_of_chunk(other.repo, NULL, "abc", 3, &elsewhere);
	assert_true(id_eq(&chunk, &again));
	assert_false(id_eq(&chunk, &node));
	assert_false(id_eq(&chunk, &elsewhere));
	assert_true(repo_has_domain(t.repo, NULL) && repo_has_domain(t.repo, "default"));
	assert_false(repo_has_domain(t.repo, "web"));
	test_repo_done(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_padme__known_values),
		cmocka_unit_test(test_object_name__round_trip_and_refusals),
		cmocka_unit_test(test_envelope__round_trips),
		cmocka_unit_test(test_envelope__is_opened_again_before_it_is_sent),
		cmocka_unit_test(test_envelope__every_changed_byte_is_noticed),
		cmocka_unit_test(test_envelope__type_and_version),
		cmocka_unit_test(test_object__put_get_list),
		cmocka_unit_test(test_object__misplaced),
		cmocka_unit_test(test_object__put_slot_may_not_sign_tombstones),
		cmocka_unit_test(test_pack_key__kinds_and_roles),
		cmocka_unit_test(test_block_aead__round_trip),
		cmocka_unit_test(test_ids__keyed_and_separated),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
