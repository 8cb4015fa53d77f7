/*
 * Protocol objects: their bytes, who may sign them, and what they add up to.
 *
 * The scenarios are written as small scripts.  Sessions are letters: w, x writers, A to D collectors.  A line is one
 * object:
 *	m1w	manifest 1 by session w		t1	tombstone t1 of manifest 1 (t1b: another one)
 *	e:A	epoch by A			u1x	restore record for manifest 1 by x, undoing every tombstone of it so far
 *	!w	eviction of w			s:A	sweep by A, followed by "covers", "accepts", "dooms" lists
 */
#include "tests/test.h"

#include "base/text.h"
#include "repo/protocol_internal.h"
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

static struct session_id session(char letter)
{
	struct session_id s = { { 0 } };

	s.b[0] = (uint8_t)letter;
	return s;
}

static char *copy(const char *s)
{
	char *p = strdup(s);

	assert_non_null(p);
	return p;
}

/* A name of an object that nobody has to store. */
static void name_of(enum object_type type, char letter, uint8_t number, char out[OBJECT_NAME_BYTES])
{
	struct object_name n = { .type = type, .slot = *repo_own_slot(t.repo), .session = session(letter) };

	n.hash.b[0] = number;
	object_name_text(&n, out);
}

static const char *pack(uint8_t number)
{
	static char names[8][OBJECT_NAME_BYTES];

	name_of(OBJECT_DATA_SEGMENT, 'p', number, names[number % 8]);
	return names[number % 8];
}

static struct protocol_object *make(enum object_type type, char letter)
{
	struct protocol_object *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->type = type;
	p->session = session(letter);
	return p;
}

static void add(struct name_list *l, const char *name)
{
	struct err e = ERR_INIT;

	assert_ok(name_list_add(l, name, &e), &e);
}

/* Stores p under r's slot and frees it; the name is in a static buffer, one per call site's need. */
static char *put_as(struct repo *r, struct protocol_object *p)
{
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;

	assert_ok(protocol_put(r, p, name, &e), &e);
	protocol_object_free(p);
	return copy(name);
}

static struct protocol_view *load(void)
{
	struct protocol_view *v = NULL;
	struct err e = ERR_INIT;

	assert_ok(protocol_load(t.repo, true, &v, &e), &e);
	return v;
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static struct protocol_object *full_object(enum object_type type)
{
	struct protocol_object *p = make(type, 'w');
	char name[OBJECT_NAME_BYTES];

	p->slot = *repo_own_slot(t.repo);
	p->time_ns = 42;
	p->kind = SESSION_UNDELETE;
	p->host = copy("h\n\xff");
	p->vm = copy("web");
	p->purpose = copy("restore");
	p->number = 3;
	p->done = true;
	p->evicted_slot = *repo_own_slot(t.repo);
	p->evicted_session = session('A');
	p->removes = *repo_own_slot(t.repo);
	p->evicted_collector = true;
	p->until_ns = 99;
	name_of(OBJECT_EPOCH, 'A', 1, name);
	p->epoch = copy(name);
	add(&p->epochs, name);
	name_of(OBJECT_MANIFEST, 'w', 1, name);
	p->manifest = copy(name);
	add(&p->points, name);
	add(&p->accepted, name);
	name_of(OBJECT_EVICTION, 'A', 1, name);
	add(&p->evictions, name);
	add(&p->condemned, pack(1));
	add(&p->doomed, pack(1));
	add(&p->reprieved, pack(2));
	name_of(OBJECT_SWEEP, 'A', 1, name);
	add(&p->sweeps, name);
	add(&p->accepted, name);
	name_list_sort(&p->accepted);
	name_of(OBJECT_TOMBSTONE, 'w', 1, name);
	add(&p->tombstones, name);
	add(&p->objects, pack(3));
	return p;
}

static void test_protocol__every_type_round_trips_and_needs_every_member(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	for (int type = OBJECT_SESSION; type <= OBJECT_REMOVAL; type += type == OBJECT_EXTENSION ? OBJECT_REMOVAL - type : 1) {
		CLEANUP(protocol_object_free_cleanup)
		struct protocol_object *p = full_object((enum object_type)type),
				       *back = NULL;
		CLEANUP(free_ptr) char *json = NULL, *again = NULL;
		size_t len, len2;
		int depth = 0, members = 0;

		assert_ok(protocol_encode(p, &json, &len, &e), &e);
		assert_ok(protocol_decode((enum object_type)type, json, len, &back, &e), &e);
		assert_ok(protocol_encode(back, &again, &len2, &e), &e);
		assert_string_equal(json, again);
		for (size_t i = 0; i < len; i++) {	/* misname each member of the outer object in turn */
			struct protocol_object *bad = NULL;

			depth += (json[i] == '{' || json[i] == '[') - (json[i] == '}' || json[i] == ']');
			if (depth != 1 || json[i] != '"' || (json[i - 1] != '{' && json[i - 1] != ','))
				continue;
			json[i + 1] ^= 1;
			members++;
			if (!strncmp(json + i + 2, "m\":", 3)) {
				/* vm: absent means null */
				assert_ok(protocol_decode((enum object_type)type, json, len, &bad, &e), &e);
				protocol_object_free(bad);
			} else {
				assert_err(protocol_decode((enum object_type)type, json, len, &bad, &e), ERR_CORRUPT,
					   &e);
			}
			json[i + 1] ^= 1;
		}
		assert_true(members >= 3);
	}
}

static void test_protocol__names_must_be_of_their_kind(void **state)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *p = make(OBJECT_TOMBSTONE, 'w'), *back = NULL;
	CLEANUP(free_ptr) char *json = NULL, *json2 = NULL;
	struct err e = ERR_INIT;
	size_t len;

	(void)state;
	p->manifest = copy(pack(1));
	assert_ok(protocol_encode(p, &json, &len, &e), &e);
	assert_err(protocol_decode(OBJECT_TOMBSTONE, json, len, &back, &e), ERR_CORRUPT, &e);
	p->type = OBJECT_EPOCH;
	add(&p->condemned, "config");
	assert_ok(protocol_encode(p, &json2, &len, &e), &e);
	assert_err(protocol_decode(OBJECT_EPOCH, json2, len, &back, &e), ERR_CORRUPT, &e);
}

/* --- who may sign, and for whom ----------------------------------------------------------------------------------- */

static void test_protocol__put_slot_cannot_forget(void **state)
{
	struct repo *put = test_repo_as(&t, ROLE_PUT, "put"), *maintain = test_repo_as(&t, ROLE_MAINTAIN, "maintain");
	struct protocol_object *p;
	struct protocol_view *v;
	char manifest[OBJECT_NAME_BYTES];

	(void)state;
	name_of(OBJECT_MANIFEST, 'w', 1, manifest);
	p = make(OBJECT_TOMBSTONE, 'w');
	p->manifest = copy(manifest);
	free(put_as(put, p));
	p = make(OBJECT_EVICTION, 'w');
	p->evicted_slot = *repo_own_slot(t.repo);
	p->evicted_session = session('w');
	free(put_as(put, p));
	p = make(OBJECT_DOOMED, 'w');
	add(&p->doomed, pack(1));
	free(put_as(put, p));
	p = make(OBJECT_EPOCH, 'w');
	add(&p->condemned, pack(2));
	free(put_as(put, p));
	v = load();
	assert_int_equal(protocol_standing(v, manifest, false), STANDING_LISTED);
	assert_false(protocol_doomed(v, pack(1)));
	assert_false(protocol_condemned(v, pack(2)));
	assert_has(t.notices, "tombstone/");
	assert_has(t.notices, "a put key, which may not");
	protocol_free(v);
	p = make(OBJECT_TOMBSTONE, 'w');
	p->manifest = copy(manifest);
	free(put_as(maintain, p));
	v = load();
	assert_int_equal(protocol_standing(v, manifest, false), STANDING_FORGOTTEN);
	protocol_free(v);
	repo_close(put);
	repo_close(maintain);
}

/* An object whose JSON names another session than its name does. */
static void test_protocol__speaks_for_its_own_session(void **state)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *p = make(OBJECT_END, 'w'), *back = NULL;
	CLEANUP(free_ptr) char *json = NULL;
	struct session_id other = session('x');
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;
	size_t len;

	(void)state;
	p->slot = *repo_own_slot(t.repo);
	assert_ok(protocol_encode(p, &json, &len, &e), &e);
	assert_ok(object_put(t.repo, OBJECT_END, &other, json, len, name, &e), &e);
	assert_err(protocol_get(t.repo, name, &back, &e), ERR_CORRUPT, &e);
}

static void test_protocol__unknown_members_and_rubbish(void **state)
{
	struct session_id s = session('w');
	char name[OBJECT_NAME_BYTES], json[1200], slot[17], sess[33], manifest[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;
	struct protocol_view *v;

	(void)state;
	name_of(OBJECT_MANIFEST, 'w', 1, manifest);
	snprintf(json, sizeof(json),
		 "{\"slot\":\"%s\",\"session\":\"%s\",\"time\":1,\"manifest\":\"%s\",\"why\":{\"deep\":[null]}}",
		 text_hex(repo_own_slot(t.repo)->b, SLOT_BYTES, slot), text_hex(s.b, SESSION_BYTES, sess), manifest);
	assert_ok(object_put(t.repo, OBJECT_TOMBSTONE, &s, json, strlen(json), name, &e), &e);
	assert_ok(object_put(t.repo, OBJECT_TOMBSTONE, &s, "not json", 8, name, &e), &e);
	assert_ok(store_put(t.store, "tombstone/x", "y", 1, 0, &e), &e);
	v = load();
	assert_int_equal(v->tombstones.p.n, 1);
	assert_int_equal(protocol_standing(v, manifest, false), STANDING_FORGOTTEN);
	assert_has(t.notices, "JSON");
	assert_has(t.notices, "tombstone/x");
	protocol_free(v);
}

/* What is listed and gone when it is read is just not there. */
struct vanish {
	char name[OBJECT_NAME_BYTES];
};

static int vanish_hook(void *opaque, const struct store_fault_call *c, struct err *e)
{
	struct vanish *x = opaque;

	if (c->when == STORE_FAULT_BEFORE && (!strcmp(c->op, "read") || !strcmp(c->op, "stat")) &&
	    !strcmp(c->name, x->name))
		return err_set(e, ERR_NOTFOUND, "gone");
	return 0;
}

static void test_protocol__vanishing_object(void **state)
{
	struct protocol_object *p = make(OBJECT_EPOCH, 'A');
	CLEANUP(free_ptr) char *name = NULL;
	struct store *inner = t.store;
	struct protocol_view *v;
	struct err e = ERR_INIT;
	struct vanish x;

	(void)state;
	add(&p->condemned, pack(1));
	name = put_as(t.repo, p);
	snprintf(x.name, sizeof(x.name), "%s", name);
	assert_ok(store_fault_new(inner, vanish_hook, &x, &t.store, &e), &e);
	t.repo->store = t.store;
	t.notices[0] = '\0';
	v = load();
	assert_false(protocol_condemned(v, pack(1)));
	assert_string_equal(t.notices, "");
	protocol_free(v);
}

/* --- verdicts ----------------------------------------------------------------------------------------------------- */

/* Names of what a scenario has made, by label: "m1w", "t1", "u1x", "!w", "e:A", "s:A". */
struct scenario {
	struct { char label[8]; char *name; } made[32];
	size_t n;
};

static const char *made(const struct scenario *s, const char *label)
{
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->made[i].label, label))
			return s->made[i].name;
	fail_msg("the scenario has no %s yet", label);
	return NULL;
}

static void keep(struct scenario *s, const char *label, char *name)
{
	assert_true(s->n < 32);
	snprintf(s->made[s->n].label, sizeof(s->made[0].label), "%s", label);
	s->made[s->n++].name = name;
}

/* "covers:!w,!A accepts:m1w dooms:1,2" behind a sweep. */
static void sweep_part(struct scenario *s, struct protocol_object *p, char *word)
{
	char *list = strchr(word, ':'), *save = NULL;

	assert_non_null(list);
	*list++ = '\0';
	for (char *label = strtok_r(list, ",", &save); label; label = strtok_r(NULL, ",", &save)) {
		if (!strcmp(word, "covers"))
			add(&p->evictions, made(s, label));
		else if (!strcmp(word, "accepts"))
			add(&p->accepted, made(s, label));
		else if (label[0] == 'm')
			add(&p->doomed, made(s, label));
		else
			add(&p->doomed, pack((uint8_t)(label[0] - '0')));
	}
}

static void step_manifest(struct scenario *s, const char *word)
{
	char name[OBJECT_NAME_BYTES];

	name_of(OBJECT_MANIFEST, word[2], (uint8_t)word[1], name);	/* m1w; it need not exist */
	keep(s, word, copy(name));
}

static void step_tombstone(struct scenario *s, const char *word)
{
	struct protocol_object *p = make(OBJECT_TOMBSTONE, 'f');

	for (size_t i = 0; i < s->n; i++)
		if (s->made[i].label[0] == 'm' && s->made[i].label[1] == word[1])
			p->manifest = copy(s->made[i].name);
	assert_non_null(p->manifest);
	keep(s, word, put_as(t.repo, p));
}

static void step_restore(struct scenario *s, const char *word)
{
	struct protocol_object *p = make(OBJECT_RESTORE, word[2]);

	for (size_t i = 0; i < s->n; i++) {
		if (s->made[i].label[1] != word[1])
			continue;
		if (s->made[i].label[0] == 'm' && !p->manifest)
			p->manifest = copy(s->made[i].name);
		else if (s->made[i].label[0] == 't')
			add(&p->tombstones, s->made[i].name);
	}
	keep(s, word, put_as(t.repo, p));
}

static void step_eviction(struct scenario *s, const char *word)
{
	struct protocol_object *p = make(OBJECT_EVICTION, 'z');

	p->evicted_slot = *repo_own_slot(t.repo);
	p->evicted_session = session(word[1]);
	p->evicted_collector = word[1] >= 'A' && word[1] <= 'Z';
	keep(s, word, put_as(t.repo, p));
}

static void step_epoch(struct scenario *s, const char *word)
{
	struct protocol_object *p = make(OBJECT_EPOCH, word[2]);

	add(&p->condemned, pack((uint8_t)(word[3] ? word[3] - '0' : 0)));
	keep(s, word, put_as(t.repo, p));
}

static void step_sweep(struct scenario *s, const char *word, char **save)
{
	struct protocol_object *p = make(OBJECT_SWEEP, word[2]);
	char epoch[OBJECT_NAME_BYTES], *part;

	name_of(OBJECT_EPOCH, word[2], 1, epoch);
	for (size_t i = 0; i < s->n; i++)
		if (!strncmp(s->made[i].label, "e:", 2) && s->made[i].label[2] == word[2])
			snprintf(epoch, sizeof(epoch), "%s", s->made[i].name);
	p->epoch = copy(epoch);
	while ((part = strtok_r(NULL, " ", save)) != NULL && strcmp(part, ";") != 0)
		sweep_part(s, p, part);
	keep(s, word, put_as(t.repo, p));
}

static void run_script(struct scenario *s, const char *script)
{
	char text[512], *save = NULL;

	snprintf(text, sizeof(text), "%s", script);
	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		switch (word[0]) {
		case 'm': step_manifest(s, word); break;
		case 't': step_tombstone(s, word); break;
		case 'u': step_restore(s, word); break;
		case '!': step_eviction(s, word); break;
		case 'e': step_epoch(s, word); break;
		case 's': step_sweep(s, word, &save); break;
		default: fail_msg("no step %s", word);
		}
	}
}

#define L STANDING_LISTED
#define P STANDING_PENDING
#define F STANDING_FORGOTTEN
#define V STANDING_VOID

/* Standing of m1w (read, build) after a script; a sweep's parts end with ";" or the script's end. */
static const struct { const char *what, *script; enum manifest_standing read, build;
} standings[] = {
	{ "nothing happened", "m1w", L, L },
	{ "forgotten", "m1w t1", F, F },
	{ "undone", "m1w t1 u1x", L, L },
	{ "undone, then forgotten again", "m1w t1 u1x t1b", F, F },
	{ "undone by an evicted session: may be read, not built upon", "m1w t1 u1x !x", L, F },
	{ "undone by an evicted session that a sweep accepts", "m1w t1 u1x !x s:A covers:!x accepts:u1x", L, L },
	{ "undone by a void restore record", "m1w t1 u1x !x s:A covers:!x", F, F },
	{ "another session's eviction", "m1w !x", L, L },
	{ "evicted, no sweep yet", "m1w !w", P, P },
	{ "evicted, a sweep that does not cover it", "m1w !w s:A", P, P },
	{ "evicted, covered, not accepted", "m1w !w s:A covers:!w", V, V },
	{ "evicted, covered and accepted", "m1w !w s:A covers:!w accepts:m1w", L, L },
	{ "evicted, accepted by one that does not cover it", "m1w !w s:A accepts:m1w", L, L },
	{ "evicted twice, the second covered alone and not accepted", "m1w !w !w2 s:A covers:!w2", V, V },
	{ "accepted and forgotten", "m1w !w s:A covers:!w accepts:m1w ; t1", F, F },
	{ "pending and forgotten", "m1w !w t1", F, F },
	{ "the sweep's collector is evicted too: not firm", "m1w !w s:A covers:!w accepts:m1w ; !A", P, P },
	{ "that sweep record covers and does not accept: void at once, though not firm", "m1w !w s:A covers:!w ; !A", V,
	  V },
	{ "an evicted collector's record, void by a later one", "m1w !w s:A covers:!w ; !A s:B covers:!A", P, P },
	{ "same, the later one decides itself", "m1w !w s:A covers:!w ; !A s:B covers:!A,!w accepts:m1w", L, L },
	{ "an evicted collector's record, accepted by a firm one",
	  "m1w !w s:A covers:!w accepts:m1w ; !A s:B covers:!A accepts:s:A", L, L },
	{ "a chain of acceptances ends at one that is not evicted",
	  "m1w !w s:A covers:!w accepts:m1w ; !A s:B covers:!A accepts:s:A ; !B s:C covers:!B accepts:s:B", L, L },
	{ "a chain that ends nowhere is not firm",
	  "m1w !w s:A covers:!w accepts:m1w ; !A s:B covers:!A accepts:s:A ; !B", P, P },
	{ "B is void by C, so B does not make A void", "m1w !w s:A covers:!w ; !A s:B covers:!A ; !B s:C covers:!B", V,
	  V },
	{ "a circle of two is void on both sides", "m1w !w !A !B s:A covers:!w,!B ; s:B covers:!A,!w", P, P },
	{ "a record that covers its own eviction and does not accept itself", "m1w !w !A s:A covers:!w,!A", P, P },
	{ "forgotten, and doomed", "m1w t1 s:A dooms:m1w", F, F },
	{ "doomed: an undelete comes too late", "m1w t1 s:A dooms:m1w ; u1x", F, F },
	{ "doomed by a void record", "m1w s:A dooms:m1w ; !A s:B covers:!A", L, L },
	{ "a record that accepts itself is not firm by that",
	  "m1w !w s:A covers:!w accepts:m1w ; !A s:B accepts:s:A ; !B", P, P },
};

static void test_protocol__standings(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(standings) / sizeof(*standings); i++) {
		struct scenario s = { 0 };
		struct protocol_view *v;
		enum manifest_standing rd, build;

		if (i)
			test_repo_new(&t, 0, NULL);
		run_script(&s, standings[i].script);
		v = load();
		rd = protocol_standing(v, made(&s, "m1w"), false);
		build = protocol_standing(v, made(&s, "m1w"), true);
		if (rd != standings[i].read || build != standings[i].build)
			fail_msg("%s (%s): read %d, build %d; wanted %d, %d", standings[i].what, standings[i].script,
				 rd, build, standings[i].read, standings[i].build);
		protocol_free(v);
		for (size_t k = 0; k < s.n; k++)
			free(s.made[k].name);
		if (i + 1 < sizeof(standings) / sizeof(*standings))
			test_repo_done(&t);
	}
}

/* Pack 1 and 2 (d: doomed, c: condemned only, -: neither), and whether an epoch is open. */
static const struct { const char *what, *script, *packs; bool open;
} dooms[] = {
	{ "nothing", "m1w", "--", false },
	{ "an epoch condemns", "e:A1", "c-", true },
	{ "its sweep dooms", "e:A1 s:A dooms:1", "d-", false },
	{ "its sweep reprieves; the epoch object is still there", "e:A1 s:A", "c-", false },
	{ "the sweep of an evicted collector that nobody voids: doomed, but the epoch is open", "e:A1 s:A dooms:1 ; !A",
	  "d-", true },
	{ "a void sweep dooms nothing", "e:A1 s:A dooms:1 ; !A s:B covers:!A dooms:2", "cd", true },
	{ "accepted by a firm one", "e:A1 s:A dooms:1 ; !A s:B covers:!A accepts:s:A dooms:2", "dd", false },
	{ "two epochs, one swept", "e:A1 e:B2 s:A dooms:1", "dc", true },
};

static void test_protocol__doomed_and_condemned(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(dooms) / sizeof(*dooms); i++) {
		struct scenario s = { 0 };
		struct protocol_view *v;

		if (i)
			test_repo_new(&t, 0, NULL);
		run_script(&s, dooms[i].script);
		v = load();
		for (uint8_t k = 0; k < 2; k++) {
			const char *name = pack((uint8_t)(k + 1));
			char is = protocol_doomed(v, name) ? 'd' : protocol_condemned(v, name) ? 'c' : '-';

			if (is != dooms[i].packs[k])
				fail_msg("%s: pack %u is %c, wanted %c", dooms[i].what, k + 1, is, dooms[i].packs[k]);
			assert_true(!protocol_doomed(v, name) || protocol_condemned(v, name));
		}
		if (protocol_open_epoch(v) != dooms[i].open)
			fail_msg("%s: the epoch's state is wrong", dooms[i].what);
		protocol_free(v);
		for (size_t k = 0; k < s.n; k++)
			free(s.made[k].name);
		if (i + 1 < sizeof(dooms) / sizeof(*dooms))
			test_repo_done(&t);
	}
}

static void test_protocol__doomed_lists_last(void **state)
{
	struct protocol_object *p = make(OBJECT_DOOMED, 'A');
	char run[OBJECT_NAME_BYTES];
	struct protocol_view *v;

	(void)state;
	name_of(OBJECT_RUN_TAIL, 'w', 1, run);
	add(&p->doomed, pack(1));
	add(&p->doomed, run);
	free(put_as(t.repo, p));
	p = make(OBJECT_EVICTION, 'B');
	p->evicted_slot = *repo_own_slot(t.repo);
	p->evicted_session = session('A');
	free(put_as(t.repo, p));
	v = load();
	assert_true(protocol_doomed(v, pack(1)) && protocol_doomed(v, run));
	assert_true(protocol_evicted(v, repo_own_slot(t.repo), &(struct session_id){ { 'A' } }));
	assert_false(protocol_evicted(v, repo_own_slot(t.repo), &(struct session_id){ { 'B' } }));
	protocol_free(v);
}

#undef L
#undef P
#undef F
#undef V
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_protocol__every_type_round_trips_and_needs_every_member),
		T(test_protocol__names_must_be_of_their_kind),
		T(test_protocol__put_slot_cannot_forget),
		T(test_protocol__speaks_for_its_own_session),
		T(test_protocol__unknown_members_and_rubbish),
		T(test_protocol__vanishing_object),
		T(test_protocol__standings),
		T(test_protocol__doomed_and_condemned),
		T(test_protocol__doomed_lists_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
