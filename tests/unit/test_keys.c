/* Secrets, recovery keys, key objects, keyrings, slot records. */
#include "tests/test.h"

#include <sodium.h>

#include "base/bytes.h"
#include "repo/repo_internal.h"
#include "tests/support/repo.h"

static void test_recovery__round_trip_as_people_copy_it(void **state)
{
	struct secret *s = NULL, *back = NULL;
	struct err e = ERR_INIT;
	char *text = NULL, copied[80];
	size_t n = 0;

	(void)state;
	assert_ok(secret_new_recovery(&s, &e), &e);
	assert_ok(secret_recovery_text(s, &text, &e), &e);
	assert_int_equal(strlen(text), 5 + 12 * 6);
	assert_int_equal(strncmp(text, "kedge-", 6), 0);
	assert_ok(secret_new(SECRET_PASSPHRASE, text, strlen(text), &back, &e), &e);
	assert_int_equal(back->kind, SECRET_RECOVERY);
	assert_int_equal(back->len, 32);
	assert_memory_equal(back->bytes, s->bytes, 32);
	secret_free(back);
	for (const char *p = text; *p; p++) {	/* no hyphens, lower case, look-alikes */
		char c = *p;

		if (c == '-')
			continue;
		c = c == '1' ? 'l' : c == '0' ? 'o' : c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
		copied[n++] = c;
	}
	assert_ok(secret_new(SECRET_RECOVERY, copied, n, &back, &e), &e);
	assert_memory_equal(back->bytes, s->bytes, 32);
	secret_free(back);
	assert_ok(secret_new(SECRET_PASSPHRASE, copied + 5, n - 5, &back, &e), &e);	/* without "kedge" */
	assert_int_equal(back->kind, SECRET_RECOVERY);
	secret_free(back);
	text[8] = text[8] == 'A' ? 'B' : 'A';
	assert_ok(secret_new(SECRET_PASSPHRASE, text, strlen(text), &back, &e), &e);
	assert_int_equal(back->kind, SECRET_PASSPHRASE);
	assert_true(secret_is_mistyped_recovery(back));
	secret_free(back);
	assert_err(secret_new(SECRET_RECOVERY, text, strlen(text), &back, &e), ERR_INVALID, &e);
	sodium_free(text);
	secret_free(s);
}

/* 32 bytes 00..1f: groups and check digits computed by an independent program. */
static void test_recovery__known_text(void **state)
{
	uint8_t bytes[32];
	struct secret s = { .kind = SECRET_RECOVERY, .bytes = bytes, .len = 32 };
	struct err e = ERR_INIT;
	char *text = NULL;

	(void)state;
	for (size_t i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	assert_ok(secret_recovery_text(&s, &text, &e), &e);
	assert_string_equal(text, "kedge-000G4-0R40M-30E20-9185G-R38E1-W8124-GK2GA-HC5RR-34D1P-70X3R-FPH3T-9AC00");
	sodium_free(text);
}

static void test_secret__limits(void **state)
{
	static uint8_t big[(1 << 20) + 1];
	struct secret *s = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_err(secret_new(SECRET_PASSPHRASE, "", 0, &s, &e), ERR_INVALID, &e);
	assert_err(secret_new(SECRET_KEYFILE, big, 31, &s, &e), ERR_INVALID, &e);
	assert_err(secret_new(SECRET_KEYFILE, big, sizeof(big), &s, &e), ERR_INVALID, &e);
	assert_ok(secret_new(SECRET_KEYFILE, big, 32, &s, &e), &e);
	assert_false(secret_is_mistyped_recovery(s));
	secret_free(s);
	secret_free(NULL);
}

static struct keyring *make_keyring(void)
{
	struct keyring *k = NULL;
	struct err e = ERR_INIT;

	assert_ok(keyring_generate(&k, &e), &e);
	return k;
}

static void test_keyring__round_trip_by_role(void **state)
{
	struct keyring *k = make_keyring(), *back = NULL;
	struct err e = ERR_INIT;

	(void)state;
	for (int role = ROLE_PUT; role <= ROLE_FULL; role++) {
		uint8_t *payload = NULL;
		size_t len;

		assert_ok(keyring_encode(k, (enum slot_role)role, k->slot_seed, &payload, &len, &e), &e);
		assert_int_equal(len % 256, 0);
		assert_ok(keyring_decode(payload, len, &back, &e), &e);
		assert_int_equal(back->role, role);
		assert_memory_equal(back->authority_public, k->authority_public, 32);
		assert_memory_equal(back->slot_public, k->slot_public, 32);
		assert_memory_equal(back->generations[0].index, k->generations[0].index, 32);
		assert_int_equal(sodium_is_zero(back->authority_seed, 32), role != ROLE_FULL);
		assert_int_equal(sodium_is_zero(back->generations[0].nodes_secret, 32), role == ROLE_PUT);
		assert_int_equal(sodium_is_zero(back->generations[0].data_secret, 32), role != ROLE_FULL);
		assert_memory_equal(back->default_domain->id_key, k->domains[0].id_key, 32);
		if (role == ROLE_PUT) {
			uint8_t *more = NULL;

			assert_err(keyring_encode(back, ROLE_FULL, k->slot_seed, &more, &len, &e), ERR_AUTH, &e);
		}
		keyring_free(back);
		sodium_free(payload);
	}
	keyring_free(k);
}

/* Each field of the payload that can be wrong: offset, new byte, so that the decoder refuses. */
static void test_keyring__refusals(void **state)
{
	static const struct { size_t at; uint8_t xor; } bad[] = {
		{ 0, 3 },		/* version */
		{ 1, 3 }, { 1, 2 },	/* role: none; put with secrets */
		{ 2, 1 }, { 3, 0x80 },	/* domains: 0; too many */
		{ 4, 1 }, { 7, 0x80 },	/* generations: 0; too many */
		{ 10, 1 },		/* authority's public key */
		{ 75, 1 },		/* authority's seed */
		{ 104, 1 },		/* generation 0 */
		{ 104 + 4 + 64, 1 },	/* nodes public */
		{ 104 + 4 + 129, 1 },	/* nodes secret (its lowest bits do not count) */
		{ 104 + 196 - 1, 1 },	/* data secret */
		{ 104 + 196, 7 },	/* length of the domain's name: 0 */
		{ 104 + 197, 0xff },	/* its first letter */
		{ 104 + 198, 0x04 },	/* another name: no "default" */
		{ 511, 1 },		/* padding */
	};
	struct keyring *k = make_keyring(), *back = NULL;
	struct err e = ERR_INIT;
	uint8_t *payload = NULL;
	size_t len;

	(void)state;
	assert_ok(keyring_encode(k, ROLE_FULL, k->slot_seed, &payload, &len, &e), &e);
	assert_int_equal(len, 512);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		payload[bad[i].at] ^= bad[i].xor;
		if (keyring_decode(payload, len, &back, &e) >= 0)
			fail_msg("a wrong byte at %zu was accepted", bad[i].at);
		assert_true(e.code == ERR_CORRUPT || (e.code == ERR_UNSUPPORTED && bad[i].at == 0));
		err_clear(&e);
		payload[bad[i].at] ^= bad[i].xor;
	}
	for (size_t n = 0; n < len; n += 64)
		assert_err(keyring_decode(payload, n, &back, &e), ERR_CORRUPT, &e);
	sodium_free(payload);
	keyring_free(k);
}

static void seal_key(enum secret_kind kind, const char *secret, struct buf *out)
{
	struct key_header h = { .kind = kind, .slot = { { 1, 2, 3 } }, .salt = { 9 } };
	struct keyring *k = make_keyring();
	struct err e = ERR_INIT;
	struct secret *s = NULL;
	uint8_t *payload = NULL;
	size_t len;

	if (kind == SECRET_PASSPHRASE)
		h.argon_passes = 1, h.argon_kib = 8192;
	assert_ok(secret_new(kind, secret, strlen(secret), &s, &e), &e);
	assert_ok(keyring_encode(k, ROLE_FULL, k->slot_seed, &payload, &len, &e), &e);
	buf_init(out, 1 << 20);
	assert_ok(key_object_seal(&h, s, payload, len, out, &e), &e);
	sodium_free(payload);
	secret_free(s);
	keyring_free(k);
}

static void test_key_object__opens_with_its_secret_only(void **state)
{
	static const char file[] = "0123456789abcdef0123456789abcdef";
	struct secret *s = NULL;
	struct keyring *k = NULL;
	struct err e = ERR_INIT;
	struct buf pass, keyfile;

	(void)state;
	seal_key(SECRET_PASSPHRASE, "pw", &pass);
	seal_key(SECRET_KEYFILE, file, &keyfile);
	assert_ok(secret_new(SECRET_PASSPHRASE, "pw", 2, &s, &e), &e);
	assert_ok(key_object_open(pass.p, pass.len, s, &k, &e), &e);
	keyring_free(k);
	k = NULL;
	assert_err(key_object_open(keyfile.p, keyfile.len, s, &k, &e), ERR_AUTH, &e);
	pass.p[20] ^= 1;	/* the cipher id is part of the associated data */
	assert_err(key_object_open(pass.p, pass.len, s, &k, &e), ERR_AUTH, &e);
	pass.p[20] ^= 1;
	secret_free(s);
	assert_ok(secret_new(SECRET_PASSPHRASE, "pW", 2, &s, &e), &e);
	assert_err(key_object_open(pass.p, pass.len, s, &k, &e), ERR_AUTH, &e);
	secret_free(s);
	assert_ok(secret_new(SECRET_KEYFILE, file, strlen(file), &s, &e), &e);
	assert_ok(key_object_open(keyfile.p, keyfile.len, s, &k, &e), &e);
	keyring_free(k);
	secret_free(s);
	buf_done(&pass);
	buf_done(&keyfile);
}

/* What an untrusted store may ask of the key derivation. */
static void test_key_object__costs_are_capped(void **state)
{
	static const struct { uint32_t passes, kib; bool ok; } costs[] = {
		{ 1, 8192, true }, { 10, 262144, true }, { 0, 8192, false }, { 11, 8192, false }, { 1, 8191, false },
		{ 1, 262145, false }, { 0xffffffff, 0xffffffff, false },
	};
	struct err e = ERR_INIT;
	struct key_header h;
	struct buf b;

	(void)state;
	seal_key(SECRET_PASSPHRASE, "pw", &b);
	for (size_t i = 0; i < sizeof(costs) / sizeof(*costs); i++) {
		put_le32(b.p + 40, costs[i].passes);
		put_le32(b.p + 44, costs[i].kib);
		if (costs[i].ok)
			assert_ok(key_object_parse(b.p, b.len, &h, &e), &e);
		else
			assert_err(key_object_parse(b.p, b.len, &h, &e), ERR_CORRUPT, &e);
	}
	put_le32(b.p + 40, 1);
	put_le32(b.p + 44, 8192);
	b.p[9] = SECRET_KEYFILE;	/* costs must be 0 there */
	assert_err(key_object_parse(b.p, b.len, &h, &e), ERR_CORRUPT, &e);
	b.p[9] = 4;
	assert_err(key_object_parse(b.p, b.len, &h, &e), ERR_CORRUPT, &e);
	b.p[9] = SECRET_PASSPHRASE;
	b.p[12] = 1;
	assert_err(key_object_parse(b.p, b.len, &h, &e), ERR_CORRUPT, &e);
	b.p[12] = 0;
	b.p[8] = 2;
	assert_err(key_object_parse(b.p, b.len, &h, &e), ERR_UNSUPPORTED, &e);
	b.p[8] = 1;
	for (size_t n = 0; n < 104; n++)
		assert_err(key_object_parse(b.p, n, &h, &e), ERR_CORRUPT, &e);
	buf_done(&b);
}

static void test_slot_record__round_trip_and_refusals(void **state)
{
	char *vms[] = { (char[]){ "web" }, (char[]){ "db" }, NULL }, label[] = "caf\xc3\xa9 \xff 100%";
	struct slot_info s = { .id = { { 1 } },
			       .role = ROLE_PUT,
			       .kind = SECRET_KEYFILE,
			       .label = label,
			       .vms = vms,
			       .trusted = true,
			       .removed = true,
			       .serial = 7,
			       .time_ns = 12345 },
			 back;
	static const char *const bad[] = {
		"{}",
		"[]",
		"",
		"{\"slot\":1}",
		/* each: one member of a good record made wrong */
		"{\"slot\":\"01\",\"sign\":\"%s\",\"role\":\"put\",\"label\":\"\",\"kdf\":\"keyfile\",\"vms\":null,"
		"\"trusted\":true,\"status\":\"active\",\"serial\":1,\"time\":1}",
	};
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *json = NULL;
	size_t len;

	(void)state;
	assert_ok(slot_record_encode(&s, &json, &len, &e), &e);
	assert_has(json, "\"label\":\"caf\xc3\xa9 %FF 100%25\"");
	assert_ok(slot_record_decode(json, len, &back, &e), &e);
	assert_string_equal(back.label, label);
	assert_int_equal(back.role, ROLE_PUT);
	assert_int_equal(back.kind, SECRET_KEYFILE);
	assert_true(back.trusted && back.removed);
	assert_int_equal(back.serial, 7);
	assert_true(slot_may_write(&back, "web") && slot_may_write(&back, "db"));
	assert_false(slot_may_write(&back, "we"));
	slot_info_done(&back);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_err(slot_record_decode(bad[i], strlen(bad[i]), &back, &e), ERR_CORRUPT, &e);
	/* Every member is needed: misname one at a time. */
	for (char *p = json; (p = strchr(p, '"')) != NULL; p++) {
		char *end = strchr(p + 1, '"');

		if (end && end[1] == ':') {
			p[1] ^= 1;
			if (strncmp(p + 2, "ms\"", 3) != 0)	/* vms: absent means null */
				assert_err(slot_record_decode(json, len, &back, &e), ERR_CORRUPT, &e);
			p[1] ^= 1;
		}
		p = end;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recovery__round_trip_as_people_copy_it),
		cmocka_unit_test(test_recovery__known_text),
		cmocka_unit_test(test_secret__limits),
		cmocka_unit_test(test_keyring__round_trip_by_role),
		cmocka_unit_test(test_keyring__refusals),
		cmocka_unit_test(test_key_object__opens_with_its_secret_only),
		cmocka_unit_test(test_key_object__costs_are_capped),
		cmocka_unit_test(test_slot_record__round_trip_and_refusals),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
