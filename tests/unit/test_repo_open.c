/* Making and opening repositories; slots added, removed and re-keyed; what a hostile or broken store can show at
 * opening. */
#include "tests/test.h"

#include <sodium.h>

#include "base/fs.h"
#include "base/text.h"
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

static int try_open(const struct secret *s, struct repo **ret, struct err *e)
{
	struct repo_open_opts o = { 0 };

	*ret = NULL;
	return repo_open(t.store, s, &o, ret, e);
}

static int try_password(const char *password, struct err *e)
{
	struct secret *s = test_secret(password);
	struct repo *r = NULL;
	int rc = try_open(s, &r, e);

	repo_close(r);
	secret_free(s);
	return rc;
}

static const struct slot_new_opts cheap = {
	.label = "second", .role = ROLE_FULL, .argon_passes = 1, .argon_kib = 8192
};

static struct slot_id add_slot(const char *password, const struct slot_new_opts *o)
{
	struct secret *s = test_secret(password);
	struct err e = ERR_INIT;
	struct slot_id id;

	assert_ok(repo_slot_add(t.repo, s, o, &id, &e), &e);
	secret_free(s);
	return id;
}

static void test_init__config_and_slots(void **state)
{
	const struct repo_config *c = repo_config(t.repo);
	struct err e = ERR_INIT;
	struct slot_list l;

	(void)state;
	assert_true(c->draft);
	assert_int_equal(c->chunk_size, 65536);
	assert_int_equal(c->segment_size, 262144);
	assert_int_equal(c->pack_size, 32 << 20);
	assert_int_equal(c->lease_ns, 86400 * INT64_C(1000000000));
	assert_int_equal(c->settling_ns, 60 * INT64_C(1000000000));
	assert_int_equal(repo_own_role(t.repo), ROLE_FULL);
	assert_ok(repo_slots(t.repo, &l, &e), &e);
	assert_int_equal(l.n, 2);
	for (size_t i = 0; i < l.n; i++)
		assert_true(l.p[i].nkeys && !l.p[i].removed && l.p[i].trusted && !l.p[i].vms);
	assert_int_not_equal(l.p[0].kind, l.p[1].kind);
	slot_list_free(&l);
}

static void test_init__refusals(void **state)
{
	struct repo_init_opts odd = { .chunk_size = 65537 }, small = { .pack_size = 4096 }, good = { .argon_kib = 1 };
	struct secret *s = test_secret("x"), *recovery = NULL;
	struct err e = ERR_INIT;
	struct store *other;

	(void)state;
	assert_err(repo_init(t.store, s, &(struct repo_init_opts){ 0 }, &recovery, &e), ERR_EXISTS, &e);
	assert_ok(store_mem_new(&other, &e), &e);
	assert_err(repo_init(other, s, &odd, &recovery, &e), ERR_INVALID, &e);
	assert_err(repo_init(other, s, &small, &recovery, &e), ERR_INVALID, &e);
	assert_err(repo_init(other, s, &good, &recovery, &e), ERR_INVALID, &e);
	assert_ok(store_put(other, "some/thing", "x", 1, 0, &e), &e);
	assert_int_equal(repo_init(other, s, &(struct repo_init_opts){ 0 }, &recovery, &e), ERR_EXISTS);
	assert_has(e.cause, "some/thing");
	assert_null(recovery);
	store_close(other);
	secret_free(s);
}

static int refuse_to_show(void *opaque, const struct secret *recovery, struct err *e)
{
	*(bool *)opaque = recovery != NULL;
	return err_set(e, ERR_IO, "nobody looks");
}

static size_t objects_of(struct store *s, const char *prefix)
{
	struct repo shell = { .store = s };
	enum object_type type = strcmp(prefix, "keys/") == 0 ? OBJECT_KEY : OBJECT_SLOT;
	struct err e = ERR_INIT;
	struct name_list l;
	size_t n;

	assert_ok(object_list(&shell, type, &l, &e), &e);
	n = l.n;
	name_list_free(&l);
	return n;
}

/* No repository comes to be whose recovery key was not shown; what is left of the attempt is no obstacle and goes. */
static void test_init__interrupted(void **state)
{
	bool asked = false;
	struct repo_init_opts o = { .argon_passes = 1, .argon_kib = 8192, .show = refuse_to_show, .opaque = &asked };
	struct secret *s = test_secret("x"), *recovery = NULL;
	struct err e = ERR_INIT;
	struct repo *r = NULL;
	struct store *other;

	(void)state;
	assert_ok(store_mem_new(&other, &e), &e);
	assert_int_equal(repo_init(other, s, &o, &recovery, &e), ERR_IO);
	assert_true(asked);
	assert_null(recovery);
	assert_int_equal(repo_open(other, s, &(struct repo_open_opts){ 0 }, &r, &e), ERR_NOTFOUND);
	assert_int_equal(objects_of(other, "keys/"), 2);
	assert_true(repo_unfinished(other));
	o.show = NULL;
	assert_ok(repo_init(other, s, &o, &recovery, &e), &e);
	assert_false(repo_unfinished(other));
	assert_int_equal(objects_of(other, "keys/"), 2);
	assert_int_equal(objects_of(other, "slots/"), 2);
	assert_ok(repo_open(other, s, &(struct repo_open_opts){ 0 }, &r, &e), &e);
	repo_close(r);
	secret_free(recovery);
	secret_free(s);
	store_close(other);
}

static void test_open__recovery_key(void **state)
{
	struct repo_init_opts o = { .chunk_size = 4096, .argon_passes = 1, .argon_kib = 8192 };
	struct secret *s = test_secret("x"), *recovery = NULL, *typed = NULL;
	struct err e = ERR_INIT;
	struct repo *r = NULL;
	struct store *other;
	char *text = NULL;

	(void)state;
	assert_ok(store_mem_new(&other, &e), &e);
	assert_ok(repo_init(other, s, &o, &recovery, &e), &e);
	assert_ok(secret_recovery_text(recovery, &text, &e), &e);
	assert_ok(secret_new(SECRET_PASSPHRASE, text, strlen(text), &typed, &e), &e);
	assert_ok(repo_open(other, typed, &(struct repo_open_opts){ 0 }, &r, &e), &e);
	assert_int_equal(repo_config(r)->chunk_size, 4096);
	assert_int_equal(repo_own_role(r), ROLE_FULL);
	repo_close(r);
	secret_free(typed);
	text[10] = text[10] == 'A' ? 'B' : 'A';
	assert_ok(secret_new(SECRET_PASSPHRASE, text, strlen(text), &typed, &e), &e);
	r = NULL;
	assert_int_equal(repo_open(other, typed, &(struct repo_open_opts){ 0 }, &r, &e), ERR_AUTH);
	assert_has(e.hint, "mistake");
	sodium_free(text);
	secret_free(typed);
	secret_free(recovery);
	secret_free(s);
	store_close(other);
}

static void test_open__wrong_secret(void **state)
{
	static const char file[32] = "a key file that nobody has made";
	struct err e = ERR_INIT;
	struct secret *s = NULL;
	struct repo *r;

	(void)state;
	assert_int_equal(try_password("wrong", &e), ERR_AUTH);
	assert_string_equal(e.cause, "no key slot opens with this password (1 tried)");
	err_clear(&e);
	assert_ok(secret_new(SECRET_KEYFILE, file, sizeof(file), &s, &e), &e);
	assert_int_equal(try_open(s, &r, &e), ERR_AUTH);
	assert_has(e.cause, "(0 tried)");
	assert_has(e.hint, "2 key slots");
	secret_free(s);
}

static void test_open__nothing_there(void **state)
{
	struct secret *s = test_secret("x");
	struct err e = ERR_INIT;
	struct repo *r = NULL;
	struct store *empty;

	(void)state;
	assert_ok(store_mem_new(&empty, &e), &e);
	assert_int_equal(repo_open(empty, s, NULL, &r, &e), ERR_NOTFOUND);
	assert_has(e.cause, "no repository at ");
	assert_has(e.hint, "init");
	store_close(empty);
	assert_ok(store_remove(t.store, "config", &e), &e);
	assert_int_equal(try_open(s, &r, &e), ERR_NOTFOUND);
	assert_has(e.cause, "no config");
	secret_free(s);
}

static void put_config_json(const char *json)
{
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 1 << 20);
	assert_ok(envelope_seal(t.repo, OBJECT_CONFIG, json, strlen(json), &out, &e), &e);
	assert_ok(store_put(t.store, "config", out.p, out.len, 0, &e), &e);
	buf_done(&out);
}

/* The repository's config with one text replaced by another. */
static void put_config_with(const char *from, const char *to)
{
	CLEANUP(free_ptr) char *json = NULL, *changed = NULL;
	struct err e = ERR_INIT;
	size_t len;
	char *at;

	assert_ok(config_encode(&t.repo->cfg, &json, &len, &e), &e);
	at = strstr(json, from);
	assert_non_null(at);
	changed = text_printf(&e, "%.*s%s%s", (int)(at - json), json, to, at + strlen(from));
	put_config_json(changed);
}

static void test_open__config(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	put_config_with("\"format\":1", "\"format\":2");
	assert_int_equal(try_password(TEST_PASSWORD, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "format 2");
	put_config_with("\"incompatible\":[]", "\"incompatible\":[\"time-travel\"]");
	assert_int_equal(try_password(TEST_PASSWORD, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "time-travel");
	put_config_with("\"compatible\":[]", "\"compatible\":[\"harmless\"],\"new\":[{}]");
	assert_ok(try_password(TEST_PASSWORD, &e), &e);
	put_config_with("\"chunk_size\":65536", "\"chunk_size\":65535");
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
	put_config_with("\"chunk_size\":65536", "\"chunk_size\":8388608");
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
	put_config_with("\"chunk_size\":65536", "\"chunk_size\":65536,\"chunk_size\":4096");
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
	put_config_with("\"lease\":86400", "\"lease\":-1");
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
	put_config_with("\"draft\":true", "\"draft\":1");
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
	put_config_with("\"repository\":\"", "\"repository\":\"00");
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
	put_config_json("{");
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
	assert_ok(store_put(t.store, "config", "rubbish", 7, 0, &e), &e);
	assert_err(try_password(TEST_PASSWORD, &e), ERR_CORRUPT, &e);
}

/* A config signed by somebody else, and one of another repository with its key slot mixed in. */
static void test_open__foreign_config_and_key(void **state)
{
	CLEANUP(free_ptr) uint8_t *bytes = NULL;
	struct err e = ERR_INIT;
	struct test_repo other;
	struct name_list keys;
	size_t len;

	(void)state;
	test_repo_new(&other, 0, NULL);
	assert_ok(object_list(other.repo, OBJECT_KEY, &keys, &e), &e);
	for (size_t i = 0; i < keys.n; i++) {
		CLEANUP(free_ptr) uint8_t *key = NULL;

		assert_ok(store_get(other.store, keys.p[i], 1 << 20, &key, &len, &e), &e);
		assert_ok(store_put(t.store, keys.p[i], key, len, 0, &e), &e);
	}
	name_list_free(&keys);
	assert_ok(try_password(TEST_PASSWORD, &e), &e);	/* a stray key object with the same password is passed over */
	assert_ok(store_get(other.store, "config", 1 << 20, &bytes, &len, &e), &e);
	assert_ok(store_put(t.store, "config", bytes, len, 0, &e), &e);
	assert_true(try_password(TEST_PASSWORD, &e) < 0);	/* keys and config of the other, but no slot record */
	test_repo_done(&other);
}

static void test_open__damaged_key_object_does_not_hide_others(void **state)
{
	CLEANUP(free_ptr) uint8_t *bytes = NULL;
	struct err e = ERR_INIT;
	struct name_list own;
	size_t len;

	(void)state;
	(void)add_slot("second", &cheap);
	assert_ok(object_list_of(t.repo, OBJECT_KEY, repo_own_slot(t.repo), NULL, &own, &e), &e);
	assert_int_equal(own.n, 1);
	assert_ok(store_get(t.store, own.p[0], 1 << 20, &bytes, &len, &e), &e);
	bytes[70] ^= 1;
	assert_ok(store_put(t.store, own.p[0], bytes, len, 0, &e), &e);
	name_list_free(&own);
	assert_ok(try_password("second", &e), &e);
	assert_err(try_password(TEST_PASSWORD, &e), ERR_AUTH, &e);
}

static void test_slots__remove(void **state)
{
	struct err e = ERR_INIT;
	struct slot_id second, nobody = { { 9 } };
	struct slot_list l;

	(void)state;
	assert_int_equal(repo_slot_remove(t.repo, repo_own_slot(t.repo), false, &e), ERR_INVALID);
	assert_has(e.cause, "last full");
	assert_err(repo_slot_remove(t.repo, &nobody, false, &e), ERR_NOTFOUND, &e);
	second = add_slot("second", &cheap);
	assert_int_equal(repo_slot_remove(t.repo, repo_own_slot(t.repo), false, &e), ERR_INVALID);
	assert_has(e.cause, "opened the repository now");
	assert_ok(try_password("second", &e), &e);
	assert_ok(repo_slot_remove(t.repo, &second, false, &e), &e);
	assert_err(try_password("second", &e), ERR_AUTH, &e);
	assert_ok(repo_slots(t.repo, &l, &e), &e);
	assert_int_equal(l.n, 3);
	for (size_t i = 0; i < l.n; i++)
		if (slot_eq(&l.p[i].id, &second))
			assert_true(l.p[i].removed && !l.p[i].nkeys && l.p[i].serial == 2);
	slot_list_free(&l);
	assert_ok(repo_slot_remove(t.repo, &second, false, &e), &e);	/* again: nothing left to do */
	assert_ok(repo_slot_remove(t.repo, repo_own_slot(t.repo), true, &e), &e);
	assert_err(try_password(TEST_PASSWORD, &e), ERR_AUTH, &e);
}

/* The store brings a removed slot's key object back. */
static void test_slots__removed_key_does_not_open_again(void **state)
{
	CLEANUP(free_ptr) uint8_t *bytes = NULL;
	struct err e = ERR_INIT;
	struct name_list keys;
	struct slot_id second;
	size_t len;

	(void)state;
	second = add_slot("second", &cheap);
	assert_ok(object_list_of(t.repo, OBJECT_KEY, &second, NULL, &keys, &e), &e);
	assert_int_equal(keys.n, 1);
	assert_ok(store_get(t.store, keys.p[0], 1 << 20, &bytes, &len, &e), &e);
	assert_ok(repo_slot_remove(t.repo, &second, false, &e), &e);
	assert_ok(store_put(t.store, keys.p[0], bytes, len, 0, &e), &e);
	assert_int_equal(try_password("second", &e), ERR_AUTH);
	assert_has(e.cause, "was removed");
	name_list_free(&keys);
}

static void test_slots__passwd(void **state)
{
	struct secret *s = test_secret("new");
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(repo_slot_passwd(t.repo, s, &e), &e);
	secret_free(s);
	assert_err(try_password(TEST_PASSWORD, &e), ERR_AUTH, &e);
	assert_ok(try_password("new", &e), &e);
}

static void test_slots__roles(void **state)
{
	static const char *const vms[] = { "web", NULL };
	static const char *const strange[] = { "a/b", NULL };
	struct slot_new_opts o = {
		.label = "host", .role = ROLE_PUT, .vms = vms, .argon_passes = 1, .argon_kib = 8192
	};
	struct secret *s = test_secret("y");
	struct err e = ERR_INIT;
	struct repo *put;
	struct slot_id id;

	(void)state;
	(void)add_slot("host", &o);
	o.vms = strange;
	assert_err(repo_slot_add(t.repo, s, &o, &id, &e), ERR_INVALID, &e);
	o.vms = NULL;
	put = test_repo_as(&t, ROLE_PUT, "put");
	assert_err(repo_slot_add(put, s, &o, &id, &e), ERR_AUTH, &e);
	assert_err(repo_slot_remove(put, repo_own_slot(t.repo), true, &e), ERR_AUTH, &e);
	assert_ok(repo_slot_passwd(put, s, &e), &e);	/* its own secret anybody may change */
	repo_close(put);
	secret_free(s);
	s = test_secret("host");
	assert_ok(try_open(s, &put, &e), &e);
	assert_true(slot_may_write(repo_slot(put, repo_own_slot(put)), "web"));
	assert_false(slot_may_write(repo_slot(put, repo_own_slot(put)), "db"));
	repo_close(put);
	secret_free(s);
}

/* A record that gives a put key another role, signed by the authority's key holder by mistake or replayed under another
 * slot. */
static void test_slots__record_must_fit_key(void **state)
{
	struct slot_info s = *repo_slot(t.repo, repo_own_slot(t.repo));
	struct object_name n = { .type = OBJECT_SLOT, .slot = s.id };
	CLEANUP(free_ptr) char *json = NULL;
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;
	struct buf out;
	size_t len;

	(void)state;
	s.serial++;
	s.role = ROLE_PUT;
	assert_ok(slot_record_encode(&s, &json, &len, &e), &e);
	buf_init(&out, 1 << 20);
	assert_ok(envelope_seal(t.repo, OBJECT_SLOT, json, len, &out, &e), &e);
	n.slot.b[0] ^= 1;	/* under another slot's name: reported, not counted */
	assert_ok(hash_bytes(t.repo, out.p, out.len, &n.hash, &e), &e);
	object_name_text(&n, name);
	assert_ok(store_put(t.store, name, out.p, out.len, 0, &e), &e);
	test_repo_reopen(&t, TEST_PASSWORD, NULL);
	assert_has(t.notices, "another slot than its name");
	n.slot.b[0] ^= 1;
	object_name_text(&n, name);
	assert_ok(store_put(t.store, name, out.p, out.len, 0, &e), &e);
	buf_done(&out);
	assert_int_equal(try_password(TEST_PASSWORD, &e), ERR_CORRUPT);
	assert_has(e.cause, "does not fit its key");
}

/* A handle that was opened before a slot was added knows the slot as soon as it meets something of it. */
static void test_slots__added_meanwhile(void **state)
{
	struct secret *s = test_secret(TEST_PASSWORD);
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct session_id session = { { 1 } };
	struct repo *early = NULL, *second;
	char name[OBJECT_NAME_BYTES];
	size_t len;

	(void)state;
	assert_ok(try_open(s, &early, &e), &e);
	secret_free(s);
	second = test_repo_as(&t, ROLE_FULL, "second");
	assert_ok(object_put(second, OBJECT_END, &session, "{}", 2, name, &e), &e);
	assert_ok(object_get(early, name, &payload, &len, NULL, &e), &e);
	repo_close(second);
	repo_close(early);
}

/* The hint saves derivations: the slot that opened last is tried first. */
static void test_open__last_slot_first(void **state)
{
	const char *dir = getenv("TESTDIR");
	CLEANUP(free_ptr) char *path = NULL;
	struct err e = ERR_INIT;
	struct slot_id last;

	(void)state;
	path = fs_join(dir ? dir : "/tmp", "kedge-test-hint", &e);
	assert_false(state_last_slot(path, t.repo->cfg.cipher_id, &last));
	(void)add_slot("second", &cheap);
	test_repo_reopen(&t, "second", path);
	assert_true(state_last_slot(path, t.repo->cfg.cipher_id, &last));
	assert_true(slot_eq(&last, repo_own_slot(t.repo)));
	test_repo_reopen(&t, TEST_PASSWORD, path);
	assert_true(state_last_slot(path, t.repo->cfg.cipher_id, &last));
	assert_true(slot_eq(&last, repo_own_slot(t.repo)));
	assert_false(state_last_slot(NULL, t.repo->cfg.cipher_id, &last));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_init__config_and_slots),
		T(test_init__refusals), cmocka_unit_test(test_init__interrupted),
		T(test_open__recovery_key),
		T(test_open__wrong_secret),
		T(test_open__nothing_there),
		T(test_open__config),
		T(test_open__foreign_config_and_key),
		T(test_open__damaged_key_object_does_not_hide_others),
		T(test_slots__remove),
		T(test_slots__removed_key_does_not_open_again),
		T(test_slots__passwd),
		T(test_slots__roles),
		T(test_slots__record_must_fit_key),
		T(test_slots__added_meanwhile),
		T(test_open__last_slot_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
