/* Key slots when commands are interrupted: after each storage operation of init, add and remove. */
#include "tests/test.h"

#include "base/text.h"
#include "repo/check.h"
#include "repo/repo_internal.h"
#include "tests/support/repo.h"
#include "transport/store.h"

/* A store whose user dies: from the nth change on nothing works. */
struct mortal {
	struct store *s;
	unsigned changes, dies_at;	/* 0 = never */
	const char *unsure;		/* puts below this are done, and fail; NULL */
	const char *hides;		/* the next read below this says that nothing is there; NULL */
};

static int mortal_hook(void *opaque, const struct store_fault_call *c, struct err *e)
{
	struct mortal *m = opaque;
	bool change = !strcmp(c->op, "put") || !strcmp(c->op, "remove");

	if (c->when == STORE_FAULT_AFTER)
		return m->unsure && !strcmp(c->op, "put") && !strncmp(c->name, m->unsure, strlen(m->unsure)) ?
			       err_set(e, ERR_IO, "who knows") : 0;
	if (m->hides && !strcmp(c->op, "read") && !strncmp(c->name, m->hides, strlen(m->hides))) {
		m->hides = NULL;
		return err_set(e, ERR_NOTFOUND, "gone");
	}
	if (change)
		m->changes++;
	if (m->dies_at && m->changes >= m->dies_at)
		return err_set(e, ERR_IO, "dead");
	return 0;
}

static void mortal_new(struct mortal *m)
{
	struct err e = ERR_INIT;
	struct store *mem;

	*m = (struct mortal){ 0 };
	assert_ok(store_mem_new(&mem, &e), &e);
	assert_ok(store_fault_new(mem, mortal_hook, m, &m->s, &e), &e);
}

static void lives_until(struct mortal *m, unsigned change)
{
	m->changes = 0;
	m->dies_at = change;
}

static struct secret *key_file(char first)
{
	uint8_t bytes[32] = { (uint8_t)first };
	struct secret *s = NULL;
	struct err e = ERR_INIT;

	assert_ok(secret_new(SECRET_KEYFILE, bytes, sizeof(bytes), &s, &e), &e);
	return s;
}

static int init_with(struct mortal *m, struct secret **ret_recovery, struct err *e)
{
	struct secret *s = key_file('k');
	int rc = repo_init(m->s, s, &(struct repo_init_opts){ 0 }, ret_recovery, e);

	secret_free(s);
	return rc;
}

static int init(struct mortal *m, struct err *e)
{
	struct secret *recovery = NULL;
	int rc = init_with(m, &recovery, e);

	secret_free(recovery);
	return rc;
}

static int open_as(struct store *store, char key, struct repo **ret, struct err *e)
{
	struct secret *s = key_file(key);
	int rc;

	*ret = NULL;
	rc = repo_open(store, s, &(struct repo_open_opts){ 0 }, ret, e);
	secret_free(s);
	return rc;
}

static bool opens(struct store *store, char key)
{
	struct err e = ERR_INIT;
	struct repo *r = NULL;
	int rc = open_as(store, key, &r, &e);

	repo_close(r);
	return rc == 0;
}

struct found {
	unsigned by_severity[3];
	char what[200];		/* each with a space behind */
};

static int take(void *opaque, const struct check_finding *f, struct err *e)
{
	struct found *o = opaque;
	size_t n = strlen(o->what);

	(void)e;
	o->by_severity[f->severity]++;
	snprintf(o->what + n, sizeof(o->what) - n, "%s ", f->what);
	return 0;
}

static struct found check(struct repo *r)
{
	struct check_result res;
	struct found f = { 0 };
	struct err e = ERR_INIT;

	assert_ok(repo_check(r, &(struct check_opts){ .threads = 1 }, take, &f, &res, &e), &e);
	if (f.by_severity[CHECK_DAMAGE])
		fail_msg("damage: %s", f.what);
	return f;
}

static void assert_nothing_found(struct repo *r)
{
	struct found f = check(r);

	assert_string_equal(f.what, "");
}

static size_t count(struct repo *r, enum object_type type)
{
	struct err e = ERR_INIT;
	struct name_list l;
	size_t n;

	assert_ok(object_list(r, type, &l, &e), &e);
	n = l.n;
	name_list_free(&l);
	return n;
}

/* What two dead inits left is no damage; it is named, and can be removed by the name. */
static size_t clear_strays(struct repo *r)
{
	struct found f = check(r);
	struct err e = ERR_INIT;
	struct slot_list l;
	size_t n;

	assert_ok(repo_slots(r, &l, &e), &e);
	assert_int_equal(l.n, 2);
	n = l.nstrays;
	assert_int_equal(f.by_severity[CHECK_WARNING], n);
	for (size_t i = 0; i < n; i++) {
		assert_true(l.stray[i].foreign);
		assert_ok(repo_slot_remove(r, &l.stray[i].id, false, &e), &e);
	}
	slot_list_free(&l);
	assert_int_equal(count(r, OBJECT_KEY), 2);
	assert_int_equal(count(r, OBJECT_SLOT), 2);
	return n;
}

static void test_init__dies_twice(void **state)
{
	size_t strays = 0;

	(void)state;
	for (unsigned first = 1; first <= 6; first++)
		for (unsigned second = 1; second <= 12; second++) {
			struct err e = ERR_INIT;
			struct repo *r = NULL;
			struct mortal m;
			int rc;

			mortal_new(&m);
			lives_until(&m, first);
			rc = init(&m, &e);
			assert_true(rc == 0 || rc == ERR_IO);
			lives_until(&m, second);
			rc = init(&m, &e);
			assert_true(rc == 0 || rc == ERR_IO || rc == ERR_EXISTS);
			lives_until(&m, 0);
			if (!opens(m.s, 'k'))
				assert_ok(init(&m, &e), &e);
			assert_ok(open_as(m.s, 'k', &r, &e), &e);
			strays += clear_strays(r);
			assert_nothing_found(r);
			repo_close(r);
			store_close(m.s);
		}
	assert_true(strays > 0);
}

static int add(struct repo *r, char key, struct slot_id *ret, struct err *e)
{
	struct slot_new_opts o = { .label = "spare", .role = ROLE_FULL, .trusted = true };
	struct secret *s = key_file(key);
	int rc = repo_slot_add(r, s, &o, ret, e);

	secret_free(s);
	return rc;
}

static const struct slot_info *without_key(const struct slot_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->p[i].nkeys && !l->p[i].removed)
			return &l->p[i];
	return NULL;
}

static void remove_half(struct repo *r)
{
	struct err e = ERR_INIT;
	struct slot_list l;

	assert_ok(repo_slots(r, &l, &e), &e);
	assert_int_equal(l.nstrays, 0);
	if (without_key(&l)) {
		struct found f = check(r);

		assert_string_equal(f.what, "key-missing ");
		assert_int_equal(f.by_severity[CHECK_INFO], 1);
		assert_ok(repo_slot_remove(r, &without_key(&l)->id, false, &e), &e);
	}
	slot_list_free(&l);
}

/* What is left of an interrupted addition is seen and can be removed; the next addition succeeds. */
static void test_add__dies(void **state)
{
	unsigned died = 0;

	(void)state;
	for (unsigned at = 1; at <= 4; at++) {
		struct err e = ERR_INIT;
		struct repo *r = NULL;
		struct slot_id id;
		struct mortal m;

		mortal_new(&m);
		assert_ok(init(&m, &e), &e);
		assert_ok(open_as(m.s, 'k', &r, &e), &e);
		lives_until(&m, at);
		died += add(r, 's', &id, &e) < 0;
		lives_until(&m, 0);
		err_clear(&e);
		assert_int_equal(opens(m.s, 's'), at > 2);
		assert_ok(add(r, 's', &id, &e), &e);
		assert_true(opens(m.s, 's'));
		remove_half(r);
		assert_nothing_found(r);
		repo_close(r);
		store_close(m.s);
	}
	assert_int_equal(died, 2);
}

static void test_remove__dies(void **state)
{
	unsigned died = 0, unfinished = 0;

	(void)state;
	for (unsigned at = 1; at <= 6; at++) {
		struct err e = ERR_INIT;
		struct repo *r = NULL;
		struct slot_id id;
		struct mortal m;
		struct found f;

		mortal_new(&m);
		assert_ok(init(&m, &e), &e);
		assert_ok(open_as(m.s, 'k', &r, &e), &e);
		assert_ok(add(r, 's', &id, &e), &e);
		lives_until(&m, at);
		died += repo_slot_remove(r, &id, false, &e) < 0;
		lives_until(&m, 0);
		err_clear(&e);
		f = check(r);
		unfinished += strstr(f.what, "key-removal-unfinished ") != NULL;
		assert_int_equal(f.by_severity[CHECK_WARNING], 0);	/* it is young */
		assert_ok(repo_slot_remove(r, &id, false, &e), &e);
		assert_false(opens(m.s, 's'));
		assert_nothing_found(r);
		assert_int_equal(count(r, OBJECT_KEY), 2);
		assert_int_equal(count(r, OBJECT_REMOVAL), 0);
		repo_close(r);
		store_close(m.s);
	}
	assert_int_equal(died, 4);
	assert_int_equal(unfinished, 2);	/* without its key object, and with nothing but that it was to be removed */
}

/* Who died after saying that a slot is to go has it in the way of others, until it is done again or given up. */
static void test_remove__begun_and_given_up(void **state)
{
	struct err e = ERR_INIT;
	struct slot_id k, s;
	struct repo *r = NULL;
	struct found f;
	struct mortal m;

	(void)state;
	mortal_new(&m);
	assert_ok(init(&m, &e), &e);
	assert_ok(open_as(m.s, 'k', &r, &e), &e);
	k = *repo_own_slot(r);
	assert_ok(add(r, 's', &s, &e), &e);
	assert_err(repo_slot_keep(r, &s, false, &e), ERR_INVALID, &e);
	lives_until(&m, 2);
	assert_int_equal(repo_slot_remove(r, &s, false, &e), ERR_IO);
	lives_until(&m, 0);
	err_clear(&e);
	f = check(r);
	assert_string_equal(f.what, "key-removal-begun ");
	repo_close(r);
	assert_ok(open_as(m.s, 's', &r, &e), &e);
	r->hasty = true;
	assert_int_equal(repo_slot_remove(r, &k, false, &e), ERR_TRANSIENT);
	assert_has(e.hint, "key keep");
	err_clear(&e);
	assert_int_equal(count(r, OBJECT_REMOVAL), 1);	/* its own it has taken back */
	assert_int_equal(repo_slot_keep(r, &s, false, &e), ERR_TRANSIENT);	/* it may go on */
	assert_has(e.hint, "--force");
	err_clear(&e);
	r->slow_ns = 1;		/* an hour later */
	assert_ok(repo_slot_keep(r, &s, false, &e), &e);
	r->slow_ns = 0;
	assert_nothing_found(r);
	assert_ok(repo_slot_remove(r, &k, false, &e), &e);
	assert_int_equal(count(r, OBJECT_REMOVAL), 0);
	assert_false(opens(m.s, 'k'));
	repo_close(r);
	store_close(m.s);
}

/* Who stood still for so long that another may keep the slot meanwhile doesn't go on, and leaves nothing. */
static void test_remove__stood_still(void **state)
{
	struct err e = ERR_INIT;
	struct repo *r = NULL;
	struct slot_id s;
	struct mortal m;

	(void)state;
	mortal_new(&m);
	assert_ok(init(&m, &e), &e);
	assert_ok(open_as(m.s, 'k', &r, &e), &e);
	assert_ok(add(r, 's', &s, &e), &e);
	r->slow_ns = 1;
	assert_int_equal(repo_slot_remove(r, &s, false, &e), ERR_TRANSIENT);
	err_clear(&e);
	assert_true(opens(m.s, 's'));
	assert_int_equal(count(r, OBJECT_REMOVAL), 0);
	r->slow_ns = 0;
	assert_ok(repo_slot_remove(r, &s, false, &e), &e);
	assert_false(opens(m.s, 's'));
	repo_close(r);
	store_close(m.s);
}

/* By force the last one goes, too; the recovery key is not asked for. */
static void test_remove__by_force(void **state)
{
	struct err e = ERR_INIT;
	struct repo *r = NULL;
	struct mortal m;

	(void)state;
	mortal_new(&m);
	assert_ok(init(&m, &e), &e);
	assert_ok(open_as(m.s, 'k', &r, &e), &e);
	assert_err(repo_slot_remove(r, repo_own_slot(r), false, &e), ERR_INVALID, &e);
	assert_ok(repo_slot_remove(r, repo_own_slot(r), true, &e), &e);
	assert_int_equal(count(r, OBJECT_REMOVAL), 0);
	assert_false(opens(m.s, 'k'));
	repo_close(r);
	store_close(m.s);
}

/* A slot whose record is lost is not taken for a leftover: it is damage, and its key object goes by force only. */
static void test_stray__of_this_repository(void **state)
{
	struct check_result res;
	struct found f = { 0 };
	struct err e = ERR_INIT;
	struct name_list l;
	struct repo *r = NULL;
	struct slot_id id;
	struct mortal m;

	(void)state;
	mortal_new(&m);
	assert_ok(init(&m, &e), &e);
	assert_ok(open_as(m.s, 'k', &r, &e), &e);
	assert_ok(add(r, 's', &id, &e), &e);
	assert_ok(object_list_of(r, OBJECT_SLOT, &id, NULL, &l, &e), &e);
	assert_ok(store_remove(m.s, l.p[0], &e), &e);
	name_list_free(&l);
	assert_ok(repo_check(r, &(struct check_opts){ .threads = 1 }, take, &f, &res, &e), &e);
	assert_string_equal(f.what, "slot-record-missing ");
	assert_int_equal(f.by_severity[CHECK_DAMAGE], 1);
	assert_int_equal(repo_slot_remove(r, &id, false, &e), ERR_INVALID);
	assert_has(e.hint, "--force");
	err_clear(&e);
	assert_ok(repo_slot_remove(r, &id, true, &e), &e);
	assert_nothing_found(r);
	repo_close(r);
	store_close(m.s);
}

/* --- what a slot opens with ----------------------------------------------------------------------------------------- */

/* Two slots, k and s, and the recovery key's; r is open with s. */
struct two {
	struct mortal m;
	struct repo *r;
	struct slot_id k, s;
	struct secret *recovery;
};

static void two_new(struct two *t)
{
	struct err e = ERR_INIT;

	*t = (struct two){ 0 };
	mortal_new(&t->m);
	assert_ok(init_with(&t->m, &t->recovery, &e), &e);
	assert_ok(open_as(t->m.s, 'k', &t->r, &e), &e);
	t->k = *repo_own_slot(t->r);
	assert_ok(add(t->r, 's', &t->s, &e), &e);
	repo_close(t->r);
	assert_ok(open_as(t->m.s, 's', &t->r, &e), &e);
	t->r->hasty = true;
}

static void two_done(struct two *t)
{
	repo_close(t->r);
	secret_free(t->recovery);
	store_close(t->m.s);
}

/* Changes a byte of each object of the type below the slot. */
static void damage(struct two *t, enum object_type type, const struct slot_id *id)
{
	struct err e = ERR_INIT;
	struct name_list l;

	assert_ok(object_list_of(t->r, type, id, NULL, &l, &e), &e);
	assert_true(l.n > 0);
	for (size_t i = 0; i < l.n; i++) {
		CLEANUP(free_ptr) uint8_t *p = NULL;
		size_t len;

		assert_ok(store_get(t->m.s, l.p[i], 1 << 20, &p, &len, &e), &e);
		p[len - 1] ^= 1;
		assert_ok(store_put(t->m.s, l.p[i], p, len, 0, &e), &e);
	}
	name_list_free(&l);
}

static int passwd(struct repo *r, char to, struct err *e)
{
	struct secret *s = key_file(to);
	int rc = repo_slot_passwd(r, s, e);

	secret_free(s);
	return rc;
}

static void test_remove__not_when_the_other_key_is_damaged(void **state)
{
	struct err e = ERR_INIT;
	struct two t;

	(void)state;
	two_new(&t);
	damage(&t, OBJECT_KEY, &t.s);
	assert_int_equal(repo_slot_remove(t.r, &t.k, false, &e), ERR_INVALID);
	assert_has(e.cause, "last full key slot");
	err_clear(&e);
	damage(&t, OBJECT_KEY, &t.s);	/* back */
	assert_ok(repo_slot_remove(t.r, &t.k, false, &e), &e);
	two_done(&t);
}

/* Its record may say already that people have its secret. */
static void test_remove__not_when_the_other_key_is_a_recovery_key(void **state)
{
	struct err e = ERR_INIT;
	struct slot_info s;
	struct slot_id p;
	struct found f;
	struct two t;

	(void)state;
	two_new(&t);
	assert_ok(repo_slot_remove(t.r, &t.k, false, &e), &e);
	repo_close(t.r);
	assert_ok(repo_open(t.m.s, t.recovery, &(struct repo_open_opts){ 0 }, &t.r, &e), &e);
	t.r->hasty = true;
	s = *repo_slot(t.r, repo_own_slot(t.r));
	s.kind = SECRET_KEYFILE;
	s.serial++;
	assert_ok(slot_record_put(t.r, &s, &e), &e);
	f = check(t.r);
	assert_string_equal(f.what, "key-change-unfinished ");
	assert_int_equal(repo_slot_remove(t.r, &t.s, false, &e), ERR_INVALID);
	err_clear(&e);
	assert_true(opens(t.m.s, 's'));
	s.kind = SECRET_RECOVERY;
	s.serial++;
	assert_ok(slot_record_put(t.r, &s, &e), &e);
	assert_nothing_found(t.r);
	assert_ok(add(t.r, 'p', &p, &e), &e);
	assert_ok(repo_slot_remove(t.r, &t.s, false, &e), &e);
	assert_true(opens(t.m.s, 'p'));
	two_done(&t);
}

/* It may be of any slot. */
static void test_remove__not_when_a_removal_cannot_be_read(void **state)
{
	struct err e = ERR_INIT;
	struct repo *k = NULL;
	struct two t;

	(void)state;
	two_new(&t);
	assert_ok(open_as(t.m.s, 'k', &k, &e), &e);
	lives_until(&t.m, 2);
	assert_int_equal(repo_slot_remove(k, &t.s, false, &e), ERR_IO);
	lives_until(&t.m, 0);
	repo_close(k);
	err_clear(&e);
	damage(&t, OBJECT_REMOVAL, &t.k);
	assert_int_equal(repo_slot_remove(t.r, &t.k, false, &e), ERR_TRANSIENT);
	assert_has(e.cause, "removal/");
	assert_has(e.hint, "--force");
	err_clear(&e);
	assert_int_equal(count(t.r, OBJECT_REMOVAL), 1);
	assert_ok(repo_slot_remove(t.r, &t.k, true, &e), &e);
	two_done(&t);
}

/* A put that failed may have stored it all the same. */
static void test_remove__said_after_all(void **state)
{
	struct err e = ERR_INIT;
	struct two t;

	(void)state;
	two_new(&t);
	t.m.unsure = "removal/";
	assert_int_equal(repo_slot_remove(t.r, &t.k, false, &e), ERR_IO);
	t.m.unsure = NULL;
	assert_int_equal(count(t.r, OBJECT_REMOVAL), 0);
	assert_nothing_found(t.r);
	two_done(&t);
}

/* What an interrupted addition left is not what opens the repository, so it may go. */
static void test_remove__half_when_only_the_recovery_key_is_left(void **state)
{
	struct err e = ERR_INIT;
	struct slot_id id;
	struct slot_list l;
	struct two t;

	(void)state;
	two_new(&t);
	lives_until(&t.m, 2);
	assert_int_equal(add(t.r, 'h', &id, &e), ERR_IO);
	lives_until(&t.m, 0);
	err_clear(&e);
	assert_ok(repo_slot_remove(t.r, &t.k, true, &e), &e);
	assert_ok(repo_slot_remove(t.r, &t.s, true, &e), &e);
	assert_ok(repo_slots(t.r, &l, &e), &e);
	assert_non_null(without_key(&l));
	assert_ok(repo_slot_remove(t.r, &without_key(&l)->id, false, &e), &e);
	slot_list_free(&l);
	assert_nothing_found(t.r);
	two_done(&t);
}

static void test_passwd__dies(void **state)
{
	struct err e = ERR_INIT;
	struct slot_list l;
	struct found f;
	struct two t;

	(void)state;
	two_new(&t);
	lives_until(&t.m, 2);		/* the new key object is there, the old one too */
	assert_int_equal(passwd(t.r, 'n', &e), ERR_IO);
	lives_until(&t.m, 0);
	err_clear(&e);
	assert_true(opens(t.m.s, 's') && opens(t.m.s, 'n'));
	f = check(t.r);
	assert_string_equal(f.what, "key-change-unfinished ");
	assert_ok(repo_slots(t.r, &l, &e), &e);
	assert_int_equal(slot_list_find(&l, &t.s)->nkeys, 2);
	assert_int_equal(slot_list_find(&l, &t.s)->kinds, 1 << SECRET_KEYFILE);
	slot_list_free(&l);
	assert_ok(passwd(t.r, 'm', &e), &e);
	assert_true(!opens(t.m.s, 's') && !opens(t.m.s, 'n') && opens(t.m.s, 'm'));
	assert_nothing_found(t.r);
	two_done(&t);
}

/* The printed key goes on to open the repository. */
static void test_passwd__not_the_recovery_key(void **state)
{
	struct err e = ERR_INIT;
	struct two t;

	(void)state;
	two_new(&t);
	repo_close(t.r);
	assert_ok(repo_open(t.m.s, t.recovery, &(struct repo_open_opts){ 0 }, &t.r, &e), &e);
	assert_int_equal(passwd(t.r, 'p', &e), ERR_INVALID);
	assert_has(e.hint, "kedge key add");
	err_clear(&e);
	assert_false(opens(t.m.s, 'p'));
	assert_nothing_found(t.r);
	repo_close(t.r);
	assert_ok(repo_open(t.m.s, t.recovery, &(struct repo_open_opts){ 0 }, &t.r, &e), &e);
	two_done(&t);
}

/* Who changes a slot's record at the time of its removal, and doesn't know of that, does not bring it back. */
static void test_passwd__after_the_removal(void **state)
{
	struct err e = ERR_INIT;
	struct slot_info s;
	struct repo *k = NULL;
	struct two t;

	(void)state;
	two_new(&t);
	assert_ok(open_as(t.m.s, 'k', &k, &e), &e);
	s = *repo_slot(k, &t.k);
	assert_ok(repo_slot_remove(t.r, &t.k, false, &e), &e);
	s.serial += 5;
	assert_ok(slot_record_put(k, &s, &e), &e);
	assert_err(passwd(k, 'n', &e), ERR_AUTH, &e);
	assert_false(opens(t.m.s, 'k') || opens(t.m.s, 'n'));
	assert_int_equal(count(k, OBJECT_KEY), 2);
	repo_close(k);
	two_done(&t);
}

/* What was listed went before it was read: its secret was changed just now, and it has another key object. */
static void test_slots__changed_while_they_are_looked_at(void **state)
{
	struct err e = ERR_INIT;
	struct slot_list l;
	struct two t;

	(void)state;
	two_new(&t);
	t.m.hides = "keys/";
	assert_ok(repo_slots(t.r, &l, &e), &e);
	assert_null(t.m.hides);
	assert_int_equal(l.n, 3);
	for (size_t i = 0; i < l.n; i++)
		assert_true(l.p[i].nkeys == 1 && l.p[i].kinds);
	slot_list_free(&l);
	two_done(&t);
}

/* A record that is put between two listings is of a slot that is being added, and no stray. */
static void test_slots__added_while_they_are_looked_at(void **state)
{
	char name[64], hex[2 * SLOT_BYTES + 1];
	struct err e = ERR_INIT;
	struct slot_list l;
	struct two t;

	(void)state;
	two_new(&t);
	snprintf(name, sizeof(name), "slots/%s", text_hex(t.s.b, SLOT_BYTES, hex));
	t.m.hides = name;
	assert_ok(repo_slots(t.r, &l, &e), &e);
	assert_null(t.m.hides);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.nstrays, 0);
	slot_list_free(&l);
	two_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init__dies_twice),
		cmocka_unit_test(test_add__dies),
		cmocka_unit_test(test_remove__dies),
		cmocka_unit_test(test_remove__begun_and_given_up),
		cmocka_unit_test(test_remove__stood_still),
		cmocka_unit_test(test_remove__by_force),
		cmocka_unit_test(test_stray__of_this_repository),
		cmocka_unit_test(test_remove__not_when_the_other_key_is_damaged),
		cmocka_unit_test(test_remove__not_when_the_other_key_is_a_recovery_key),
		cmocka_unit_test(test_remove__not_when_a_removal_cannot_be_read),
		cmocka_unit_test(test_remove__said_after_all),
		cmocka_unit_test(test_remove__half_when_only_the_recovery_key_is_left),
		cmocka_unit_test(test_passwd__dies),
		cmocka_unit_test(test_passwd__not_the_recovery_key),
		cmocka_unit_test(test_passwd__after_the_removal),
		cmocka_unit_test(test_slots__changed_while_they_are_looked_at),
		cmocka_unit_test(test_slots__added_while_they_are_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
