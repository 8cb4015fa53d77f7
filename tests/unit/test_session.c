/* Sessions: what they post, renewals, evictions, settling, what is left unfinished; read sessions on stores of all
 * kinds. */
#include "tests/test.h"

#include "base/clock.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "tests/support/repo.h"
#include "transport/store.h"

static struct test_repo t;

static int setup(void **state)
{
	(void)state;
	unsetenv("KEDGE_TEST_TIME_OFFSET");
	test_repo_new(&t, 0, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unsetenv("KEDGE_TEST_TIME_OFFSET");
	test_repo_done(&t);
	return 0;
}

static size_t count(enum object_type type)
{
	struct err e = ERR_INIT;
	struct name_list l;
	size_t n;

	assert_ok(object_list(t.repo, type, &l, &e), &e);
	n = l.n;
	name_list_free(&l);
	return n;
}

/* The only object of the type. */
static struct protocol_object *only(enum object_type type)
{
	struct protocol_object *p = NULL;
	struct err e = ERR_INIT;
	struct name_list l;

	assert_ok(object_list(t.repo, type, &l, &e), &e);
	assert_int_equal(l.n, 1);
	assert_ok(protocol_get(t.repo, l.p[0], &p, &e), &e);
	name_list_free(&l);
	return p;
}

static struct session *begin(void)
{
	struct session *s = NULL;
	struct err e = ERR_INIT;

	assert_ok(session_begin(t.repo, SESSION_BACKUP, "web", &s, &e), &e);
	return s;
}

static void post_epoch(void)
{
	struct protocol_object p = { .type = OBJECT_EPOCH, .session = { { 5 } } };
	char name[OBJECT_NAME_BYTES];
	struct object_name pack = { .type = OBJECT_DATA_SEGMENT, .slot = *repo_own_slot(t.repo), .session = { { 6 } } };
	struct err e = ERR_INIT;

	object_name_text(&pack, name);
	assert_ok(name_list_add(&p.condemned, name, &e), &e);
	assert_ok(protocol_put(t.repo, &p, name, &e), &e);
	name_list_free(&p.condemned);
}

static void evict(const struct session_id *id)
{
	struct protocol_object p = { .type = OBJECT_EVICTION,
				     .session = { { 7 } },
				     .evicted_slot = *repo_own_slot(t.repo),
				     .evicted_session = *id };
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;

	assert_ok(protocol_put(t.repo, &p, name, &e), &e);
}

static void test_session__posts_names_and_ends(void **state)
{
	struct protocol_object *p;
	struct err e = ERR_INIT;
	struct session *s;

	(void)state;
	post_epoch();
	s = begin();
	p = only(OBJECT_SESSION);
	assert_int_equal(p->kind, SESSION_BACKUP);
	assert_string_equal(p->vm, "web");
	assert_true(strlen(p->host) > 0);
	assert_int_equal(p->epochs.n, 1);
	assert_true(session_eq(&p->session, session_id_of(s)) && slot_eq(&p->slot, repo_own_slot(t.repo)));
	protocol_object_free(p);
	assert_true(protocol_open_epoch(session_view(s)));
	assert_int_equal(count(OBJECT_END), 0);
	assert_ok(session_end(s, true, &e), &e);
	p = only(OBJECT_END);
	assert_true(p->done && session_eq(&p->session, session_id_of(s)));
	protocol_object_free(p);
	session_free(s);
	assert_ok(session_begin(t.repo, SESSION_COPY, NULL, &s, &e), &e);	/* without a VM */
	session_free(s);
}

/* An epoch object that appears between the listing for the session and the second one is in the view. */
struct appear {
	struct test_repo *t;
	bool done;
};

static int appear_hook(void *opaque, const struct store_fault_call *c, struct err *e)
{
	struct appear *a = opaque;

	(void)e;
	if (!a->done && c->when == STORE_FAULT_AFTER && !strcmp(c->op, "put") && !strncmp(c->name, "session/", 8)) {
		a->done = true;
		post_epoch();
	}
	return 0;
}

static void test_session__lists_epochs_again_after_posting(void **state)
{
	struct appear a = { .t = &t };
	struct protocol_object *p;
	struct err e = ERR_INIT;
	struct session *s;

	(void)state;
	assert_ok(store_fault_new(t.store, appear_hook, &a, &t.store, &e), &e);
	t.repo->store = t.store;
	s = begin();
	assert_true(a.done);
	p = only(OBJECT_SESSION);
	assert_int_equal(p->epochs.n, 0);
	protocol_object_free(p);
	assert_true(protocol_open_epoch(session_view(s)));
	assert_int_equal(session_view(s)->condemned.n, 1);
	session_free(s);
}

/* What an epoch object condemns is not known while it can't be read: its collector has to wait for this session. */
static void test_session__names_no_epoch_that_it_cannot_read(void **state)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct protocol_object *o;
	struct name_list l;
	struct err e = ERR_INIT;
	struct session *s;
	size_t len;

	(void)state;
	post_epoch();
	assert_ok(object_list(t.repo, OBJECT_EPOCH, &l, &e), &e);
	assert_int_equal(l.n, 1);
	assert_ok(store_get(t.store, l.p[0], 1 << 20, &p, &len, &e), &e);
	p[len / 2] ^= 1;
	assert_ok(store_put(t.store, l.p[0], p, len, 0, &e), &e);
	s = begin();
	o = only(OBJECT_SESSION);
	assert_int_equal(o->epochs.n, 0);
	assert_has(t.notices, l.p[0]);
	protocol_object_free(o);
	name_list_free(&l);
	session_free(s);
}

/* An epoch object that rots between the listing for the session and the second one: the run would not know what it is
 * said to know. */
static int rot_hook(void *opaque, const struct store_fault_call *c, struct err *e)
{
	struct appear *a = opaque;

	(void)e;
	if (c->when == STORE_FAULT_AFTER && !strcmp(c->op, "put") && !strncmp(c->name, "session/", 8))
		a->done = true;
	if (a->done && c->when == STORE_FAULT_AFTER && !strcmp(c->op, "read") && !strncmp(c->name, "epoch/", 6))
		((uint8_t *)c->buf)[100] ^= 1;
	return 0;
}

static void test_session__an_epoch_that_rots_ends_it(void **state)
{
	struct appear a = { .t = &t };
	struct protocol_object *p;
	struct session *s = NULL;
	struct err e = ERR_INIT;

	(void)state;
	post_epoch();
	assert_ok(store_fault_new(t.store, rot_hook, &a, &t.store, &e), &e);
	t.repo->store = t.store;
	assert_err(session_begin(t.repo, SESSION_BACKUP, "web", &s, &e), ERR_TRANSIENT, &e);
	assert_null(s);
	p = only(OBJECT_END);		/* nobody has to wait for it */
	assert_false(p->done);
	protocol_object_free(p);
}

static void test_session__renews_every_hour(void **state)
{
	struct err e = ERR_INIT;
	struct session *s = begin();
	struct protocol_object *p;

	(void)state;
	assert_ok(session_renew(s, &e), &e);
	setenv("KEDGE_TEST_TIME_OFFSET", "3590", 1);
	assert_ok(session_renew(s, &e), &e);
	assert_int_equal(count(OBJECT_RENEWAL), 0);
	setenv("KEDGE_TEST_TIME_OFFSET", "3602", 1);
	assert_ok(session_renew(s, &e), &e);
	assert_ok(session_renew(s, &e), &e);
	p = only(OBJECT_RENEWAL);
	assert_int_equal(p->number, 1);
	protocol_object_free(p);
	setenv("KEDGE_TEST_TIME_OFFSET", "7300", 1);
	assert_ok(session_renew(s, &e), &e);
	assert_int_equal(count(OBJECT_RENEWAL), 2);
	setenv("KEDGE_TEST_TIME_OFFSET", "0", 1);	/* a clock set back renews rather than never again */
	assert_ok(session_renew(s, &e), &e);
	assert_int_equal(count(OBJECT_RENEWAL), 3);
	session_free(s);
}

static void test_session__notices_its_eviction(void **state)
{
	struct session *s = begin(), *other = begin();
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(session_check_evicted(s, &e), &e);
	evict(session_id_of(other));
	assert_ok(session_check_evicted(s, &e), &e);
	assert_int_equal(session_check_evicted(other, &e), ERR_TRANSIENT);
	assert_has(e.hint, "run it again");
	session_free(s);
	session_free(other);
}

/* Evictions by slots that may not evict don't count. */
static void test_session__a_put_slot_cannot_evict(void **state)
{
	struct repo *put = test_repo_as(&t, ROLE_PUT, "put"), *own = t.repo;
	struct session *s = begin();
	struct protocol_object p = { .type = OBJECT_EVICTION, .session = { { 7 } }, .evicted_slot = *repo_own_slot(own),
				     .evicted_session = *session_id_of(s) };
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(protocol_put(put, &p, name, &e), &e);
	assert_ok(session_check_evicted(s, &e), &e);
	assert_has(t.notices, name);
	session_free(s);
	repo_close(put);
}

static void test_session__settles_where_listings_lag(void **state)
{
	struct cancel cancel = { 0 };
	struct err e = ERR_INIT;
	struct session *s = NULL;
	double start;

	(void)state;
	t.store->caps.strong_listing = false;
	t.repo->cfg.settling_ns = 300 * INT64_C(1000000);
	start = clock_mono();
	s = begin();
	assert_true(clock_mono() - start >= 0.3);
	start = clock_mono();
	assert_ok(session_check_evicted(s, &e), &e);
	assert_true(clock_mono() - start >= 0.3);
	session_free(s);
	t.repo->cfg.settling_ns = 3600 * INT64_C(1000000000);	/* and can be interrupted */
	t.repo->cancel = &cancel;
	s = NULL;
	t.store->caps.strong_listing = true;
	s = begin();
	t.store->caps.strong_listing = false;
	cancel_request(&cancel);
	assert_err(session_check_evicted(s, &e), ERR_CANCELLED, &e);
	session_free(s);
}

static void test_session__unfinished(void **state)
{
	struct session *a = begin(), *b = begin(), *c = begin();
	struct repo *other = test_repo_as(&t, ROLE_FULL, "other");
	struct session *foreign = NULL;
	struct object_name name;
	struct name_list l;
	struct err e = ERR_INIT;

	(void)state;
	assert_ok(session_begin(other, SESSION_BACKUP, NULL, &foreign, &e), &e);
	assert_ok(session_end(b, false, &e), &e);
	assert_ok(session_unfinished(c, false, &l, &e), &e);
	assert_int_equal(l.n, 1);
	assert_true(object_name_parse(l.p[0], &name));
	assert_true(session_eq(&name.session, session_id_of(a)));
	name_list_free(&l);
	assert_ok(session_unfinished(c, true, &l, &e), &e);	/* of other slots too */
	assert_int_equal(l.n, 2);
	name_list_free(&l);
	assert_ok(session_end(foreign, true, &e), &e);
	assert_ok(session_unfinished(c, true, &l, &e), &e);
	assert_int_equal(l.n, 1);
	name_list_free(&l);
	session_free(a);
	session_free(b);
	session_free(c);
	session_free(foreign);
	repo_close(other);
}

static int fail_puts(void *opaque, const struct store_fault_call *c, struct err *e)
{
	if (c->when == STORE_FAULT_BEFORE && !strcmp(c->op, "put"))
		return err_set(e, *(int *)opaque, "read-only");
	return 0;
}

static void test_read_session__pins_and_ends(void **state)
{
	struct object_name m = { .type = OBJECT_MANIFEST, .slot = *repo_own_slot(t.repo), .session = { { 1 } } };
	char name[OBJECT_NAME_BYTES];
	const char *points[] = { name };
	struct protocol_object *p;
	struct session_id id;
	struct err e = ERR_INIT;
	bool posted = false;

	(void)state;
	object_name_text(&m, name);
	assert_ok(read_session_begin(t.repo, points, 1, "restore", &id, &posted, &e), &e);
	assert_true(posted);
	p = only(OBJECT_READING);
	assert_string_equal(p->purpose, "restore");
	assert_int_equal(p->points.n, 1);
	assert_string_equal(p->points.p[0], name);
	protocol_object_free(p);
	read_session_end(t.repo, &id, posted);
	p = only(OBJECT_END);
	assert_true(session_eq(&p->session, &id));
	protocol_object_free(p);
}

/* What is pinned too late is said; a pin before the tombstone is not complained of. */
static void test_read_session__looks_again(void **state)
{
	struct object_name m = { .type = OBJECT_MANIFEST, .slot = *repo_own_slot(t.repo), .session = { { 1 } } };
	struct protocol_object p = { .type = OBJECT_TOMBSTONE, .session = { { 2 } } };
	char name[OBJECT_NAME_BYTES], tombstone[OBJECT_NAME_BYTES];
	const char *points[] = { name };
	struct session_id id;
	struct err e = ERR_INIT;
	bool posted = false;

	(void)state;
	object_name_text(&m, name);
	t.notices[0] = '\0';
	assert_ok(read_session_begin(t.repo, points, 1, "restore", &id, &posted, &e), &e);
	assert_string_equal(t.notices, "");
	p.manifest = name;
	assert_ok(protocol_put(t.repo, &p, tombstone, &e), &e);
	assert_ok(read_session_begin(t.repo, points, 1, "restore", &id, &posted, &e), &e);
	assert_true(posted);
	assert_has(t.notices, "forgotten");
}

static void test_read_session__where_nothing_can_be_written(void **state)
{
	int code = ERR_IO;
	struct session_id id;
	struct err e = ERR_INIT;
	bool posted = true;

	(void)state;
	assert_ok(store_fault_new(t.store, fail_puts, &code, &t.store, &e), &e);
	t.repo->store = t.store;
	assert_ok(read_session_begin(t.repo, NULL, 0, "restore", &id, &posted, &e), &e);
	assert_false(posted);
	assert_int_equal(e.code, 0);
	assert_has(t.notices, "read-only");
	read_session_end(t.repo, &id, posted);
	assert_int_equal(count(OBJECT_END), 0);
	code = ERR_CANCELLED;
	assert_err(read_session_begin(t.repo, NULL, 0, "restore", &id, &posted, &e), ERR_CANCELLED, &e);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_session__posts_names_and_ends),
		T(test_session__lists_epochs_again_after_posting),
		T(test_session__names_no_epoch_that_it_cannot_read),
		T(test_session__an_epoch_that_rots_ends_it),
		T(test_session__renews_every_hour),
		T(test_session__notices_its_eviction),
		T(test_session__a_put_slot_cannot_evict),
		T(test_session__settles_where_listings_lag),
		T(test_session__unfinished),
		T(test_read_session__pins_and_ends),
		T(test_read_session__looks_again),
		T(test_read_session__where_nothing_can_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
