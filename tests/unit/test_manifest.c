/* Manifests: what goes in comes out; every wrong member is refused by name. */
#include "tests/test.h"

#include "base/text.h"
#include "repo/manifest.h"
#include "tests/support/manifest.h"

static void test_manifest__round_trip(void **state)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = test_manifest("db", 7), *back = NULL;
	CLEANUP(free_ptr) char *json = NULL, *again = NULL;
	struct err e = ERR_INIT;
	size_t len, len2;

	(void)state;
	assert_ok(manifest_encode(m, &json, &len, &e), &e);
	assert_ok(manifest_decode(json, len, 65536, &back, &e), &e);
	assert_string_equal(back->vm, "db");
	assert_string_equal(back->vm_name, "D B \xff%");
	assert_int_equal(back->sequence, 7);
	assert_true(back->has_previous && back->complete);
	assert_int_equal(back->disks.n, 2);
	assert_string_equal(back->disks.p[1].path, "/images/b\x01.raw");
	assert_true(back->disks.p[0].layers.p[0].ino == UINT64_MAX && back->disks.p[0].layers.p[0].dev == 1);
	assert_int_equal(back->disks.p[0].layers.p[0].mtime_ns, -5);
	assert_true(back->disks.p[0].layers.p[1].block_device);
	assert_null(back->disks.p[0].uuid);
	assert_string_equal(back->disks.p[1].uuid, "28dfb01b-9c38-4e10-8000-000000000001");
	assert_string_equal(back->disks.p[1].modify_uuid, "28dfb01b-9c38-4e10-8000-000000000002");
	assert_string_equal(back->disks.p[1].content_id, "1234abcd");
	assert_int_equal(back->disks.p[0].how, READ_LAYER);
	assert_int_equal(back->disks.p[0].audit_owed, 4);
	assert_int_equal(back->states.n, 2);
	assert_int_equal(back->states.p[1].kind, STATE_SNAPSHOT);
	assert_string_equal(back->states.p[1].name, "night/3");
	assert_string_equal(back->states.p[1].disks.p[0].snapshot_id, "17");
	assert_true(back->states.p[1].disks.p[0].vm_clock_ns == UINT64_MAX);
	assert_true(back->states.p[1].disks.p[0].has_vm_state && back->states.p[1].disks.p[0].has_digest);
	assert_int_equal(back->states.p[1].disks.p[0].vm_state.size, 1000);
	assert_memory_equal(&back->states.p[0].disks.p[0].tree.root, &m->states.p[0].disks.p[0].tree.root, ID_BYTES);
	assert_null(back->machine_uuid);
	assert_string_equal(back->machine_source, "host:/images");
	assert_int_equal(back->attachments.p[0].mode, 0640);
	assert_string_equal(back->tags.p[0], "nightly, 100%");
	assert_string_equal(back->problems.p[0].text, "line\nbreak");
	assert_int_equal(back->milliseconds, 5);
	assert_ok(manifest_encode(back, &again, &len2, &e), &e);
	assert_int_equal(len, len2);
	assert_memory_equal(json, again, len);
}

/* Replaces the first occurrence of from in a good manifest by to. */
static char *changed(const char *from, const char *to)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = test_manifest("db", 7);
	CLEANUP(free_ptr) char *json = NULL;
	struct err e = ERR_INIT;
	size_t len;
	char *at, *out;

	assert_ok(manifest_encode(m, &json, &len, &e), &e);
	at = strstr(json, from);
	if (!at)
		fail_msg("the manifest has no %s: %s", from, json);
	out = text_printf(&e, "%.*s%s%s", (int)(at - json), json, to, at + strlen(from));
	assert_non_null(out);
	return out;
}

static void test_manifest__refusals(void **state)
{
	static const struct { const char *from, *to, *says; } bad[] = {
		{ "\"vm\":\"db\"", "\"vm\":\"a/b\"", "\"vm\"" },
		{ "\"vm\":\"db\"", "\"vm\":\"..\"", "\"vm\"" },
		{ "\"vm\":\"db\"", "\"vm\":\"\"", "\"vm\"" },
		{ "\"vm\":\"db\"", "\"vm\":7", "\"vm\"" },
		{ "\"vm\":\"db\"", "\"vm\":\"db\",\"vm\":\"db\"", "uplicate" },
		{ "\"sequence\":7", "\"sequence\":0", "\"sequence\"" },
		{ "\"sequence\":7", "\"sequence\":7.0", "\"sequence\"" },
		{ "\"sequence\":7", "\"sequence\":99999999999999999999", "JSON" },
		{ "\"start\":1", "\"start\":-1", "\"start\"" },
		{ "\"host\":\"h\"", "\"host\":\"%zz\"", "hex" },
		{ "\"host\":\"h\"", "\"host\":\"a%00b\"", "zero byte" },
		{ "\"complete\":true", "\"complete\":1", "\"complete\"" },
		{ "\"previous\":\"09", "\"previous\":\"0G", "\"previous\"" },
		{ "\"previous\":\"09", "\"previous\":\"0A", "\"previous\"" },
		{ "\"name\":\"vdb\"", "\"name\":\"vda\"", "same name" },
		{ "\"name\":\"vdb\"", "\"name\":\"v db\"", "\"name\"" },
		{ "\"how\":\"layer\"", "\"how\":\"magic\"", "\"how\"" },
		{ "\"kind\":\"snapshot\"", "\"kind\":\"current\"", "snapshot_id" },
		{ "\"disk\":1", "\"disk\":2", "\"disk\"" },
		{ "\"disk\":1", "\"disk\":0", "twice" },
		{ "\"layer\":1", "\"layer\":2", "\"layer\"" },
		{ "\"height\":1", "\"height\":2", "\"height\"" },
		{ "\"height\":1", "\"height\":0", "\"height\"" },
		{ "\"height\":1", "\"height\":9", "\"height\"" },
		{ "\"size\":100000", "\"size\":-1", "\"size\"" },
		{ "\"size\":100000", "\"size\":100000000000", "\"height\"" },
		{ "\"name\":\"db.xml\"", "\"name\":\"../db.xml\"", "attachment" },
		{ "\"name\":\"db.xml\"", "\"name\":\"..\"", "attachment" },
		{ "\"mode\":416", "\"mode\":4096", "\"mode\"" },
		{ "\"machine\":{", "\"machine\":[],\"x\":{", "\"machine\"" },
		{ "\"block_device\":", "\"below\":99,\"block_device\":", "\"below\"" },
		{ "\"kind\":\"current\"", "\"kind\":\"current\",\"machine_id\":\"x\"", "machine's snapshot" },
		{ "\"statistics\":{", "\"statistics\":{},\"x\":{", "statistics" },
		{ "\"disks\":[", "\"disks\":7,\"x\":[", "\"disks\"" },
		{ "\"tags\":[", "\"tags\":[[],", "\"tags\"" },
	};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CLEANUP(free_ptr) char *json = changed(bad[i].from, bad[i].to);
		struct manifest *m = NULL;
		char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];

		if (manifest_decode(json, strlen(json), 65536, &m, &e) != ERR_CORRUPT)
			fail_msg("%s accepted", bad[i].to);
		assert_has(err_text(&e, text, sizeof(text)), bad[i].says);
		assert_null(m);
		err_clear(&e);
	}
}

static void test_manifest__ignores_what_is_new(void **state)
{
	CLEANUP(free_ptr) char *json = changed("\"complete\":true", "\"complete\":true,\"colour\":{\"deep\":[1,2,3]}");
	CLEANUP(free_ptr) char *newer = changed("\"format\":1", "\"format\":2");
	struct manifest *m = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(manifest_decode(json, strlen(json), 65536, &m, &e), &e);
	manifest_free(m);
	assert_err(manifest_decode(newer, strlen(newer), 65536, &m, &e), ERR_UNSUPPORTED, &e);
}

/* Two hundred megabytes of small values from a few of text are refused before they are parsed. */
static void test_manifest__json_bomb(void **state)
{
	size_t n = 6u << 20;
	CLEANUP(free_ptr) char *bomb = malloc(n + 10);
	struct manifest *m = NULL;
	struct err e = ERR_INIT;
	size_t at = 0;

	(void)state;
	memcpy(bomb, "{\"x\":[", 6);
	for (at = 6; at + 3 < n; at += 3)
		memcpy(bomb + at, "[],", 3);
	memcpy(bomb + at, "1]}", 3);
	assert_int_equal(manifest_decode(bomb, at + 3, 65536, &m, &e), ERR_CORRUPT);
	assert_has(e.cause, "more values");
	err_clear(&e);
	memset(bomb, '[', n);	/* and depth */
	assert_err(manifest_decode(bomb, 100000, 65536, &m, &e), ERR_CORRUPT, &e);
}

/* The parser's own message quotes what it stumbled over: that must not reach a terminal as it is. */
static void test_manifest__errors_are_printable(void **state)
{
	static const char bad[] = "{\"vm\":\"\x1b[2J\"}";
	struct manifest *m = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(manifest_decode(bad, sizeof(bad) - 1, 65536, &m, &e), ERR_CORRUPT);
	assert_null(strchr(e.cause, 0x1b));
}

/* What could not be read back is not stored. */
static void test_manifest__encode_refuses_the_unreadable(void **state)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = test_manifest("db", 7);
	struct err e = ERR_INIT;
	char *json = NULL;
	size_t len;

	(void)state;
	m->states.p[0].disks.p[0].layer = 5;
	assert_err(manifest_encode(m, &json, &len, &e), ERR_CORRUPT, &e);
	assert_null(json);
}

static void test_manifest__selectors(void **state)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = test_manifest("db", 7);
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *current = manifest_state_selector(&m->states.p[0], &e);
	CLEANUP(free_ptr) char *snap = manifest_state_selector(&m->states.p[1], &e);

	(void)state;
	assert_string_equal(current, "current");
	assert_string_equal(snap, "snap:night/3");
	assert_string_equal(read_how_name(READ_SAME), "same");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manifest__round_trip),
		cmocka_unit_test(test_manifest__refusals),
		cmocka_unit_test(test_manifest__ignores_what_is_new),
		cmocka_unit_test(test_manifest__json_bomb),
		cmocka_unit_test(test_manifest__errors_are_printable),
		cmocka_unit_test(test_manifest__encode_refuses_the_unreadable),
		cmocka_unit_test(test_manifest__selectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
