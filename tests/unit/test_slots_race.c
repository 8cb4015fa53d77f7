/*
 * Two processes that remove key slots, or change their secrets, at once: every order of their storage operations that can
 * matter, and in each order also with either dead before any of its changes.  However it goes, the repository opens with
 * a key that people have, what was removed or changed doesn't open, and doing it again ends it.
 *
 * Each of them is a thread that stops before every list, put, remove and stat until it is its turn.  The orders are a
 * depth-first search that starts each run from the beginning; sleep sets leave out orders that differ only in what does
 * not matter: two operations of which none is a change, or that are about different objects (Godefroid, 1996).  Reads
 * need no turn of their own: objects never change, and one that vanishes between a listing and its reading might as
 * well not have been listed.
 */
#include "tests/test.h"

#include <pthread.h>
#include <sodium.h>

#include "repo/check.h"
#include "repo/repo_internal.h"
#include "tests/support/repo.h"
#include "transport/store.h"

#define ACTORS 2
#define STEPS_MAX 200
#define OBJECTS_MAX 32
#define CHECK_EVERY 16u		/* runs */

/* --- actors ------------------------------------------------------------------------------------------------------- */

struct op {
	char op[8], name[OBJECT_NAME_BYTES];
	bool change;
};

struct actor {
	pthread_t thread;
	struct repo *repo;
	struct slot_id victim;
	struct secret *to;		/* it gives its own slot this secret; NULL: it removes the victim */
	uint64_t random;
	unsigned changes, dies_at;	/* before its nth change; 0 = never */
	bool dead;
	int rc;
	struct err e;
	/* under the stage's lock: */
	bool waits, done, turn;
	struct op next;			/* while it waits */
};

struct stage {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	bool free;			/* nobody waits any more: the rest of this run is known */
	struct actor a[ACTORS];
};

static struct stage stage = { .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER };
static _Thread_local struct actor *me;	/* NULL: the test itself */

/* Names of objects are sorted where they are removed: the same run must have the same names each time. */
static void same_random(void *buf, size_t len)
{
	static _Thread_local uint64_t others;
	uint64_t *state = me ? &me->random : &others;

	for (size_t i = 0; i < len; i++) {
		*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		((uint8_t *)buf)[i] = (uint8_t)(*state >> 56);
	}
}

static const char *random_name(void)
{
	return "the same each time";
}

static uint32_t one_random(void)
{
	uint32_t v;

	same_random(&v, sizeof(v));
	return v;
}

static void await_turn(const struct store_fault_call *c, bool change)
{
	pthread_mutex_lock(&stage.lock);
	snprintf(me->next.op, sizeof(me->next.op), "%s", c->op);
	snprintf(me->next.name, sizeof(me->next.name), "%s", c->name);
	me->next.change = change;
	me->waits = true;
	pthread_cond_broadcast(&stage.moved);
	while (!me->turn && !stage.free)
		pthread_cond_wait(&stage.moved, &stage.lock);
	me->turn = me->waits = false;
	pthread_mutex_unlock(&stage.lock);
}

static int hook(void *opaque, const struct store_fault_call *c, struct err *e)
{
	bool change = !strcmp(c->op, "put") || !strcmp(c->op, "remove");

	(void)opaque;
	if (!me || c->when == STORE_FAULT_AFTER)
		return 0;
	if (change)
		me->changes++;
	if (change && me->changes == me->dies_at)
		me->dead = true;
	if (me->dead)
		return err_set(e, ERR_IO, "dead");
	if (strcmp(c->op, "read") != 0 && strcmp(c->op, "sync") != 0)
		await_turn(c, change);
	return 0;
}

static void *act(void *arg)
{
	struct actor *a = arg;

	me = a;
	a->rc = a->to ? repo_slot_passwd(a->repo, a->to, &a->e) : repo_slot_remove(a->repo, &a->victim, false, &a->e);
	pthread_mutex_lock(&stage.lock);
	a->done = true;
	pthread_cond_broadcast(&stage.moved);
	pthread_mutex_unlock(&stage.lock);
	return NULL;
}

static void await_all(void)
{
	pthread_mutex_lock(&stage.lock);
	for (int i = 0; i < ACTORS; i++)
		while (!stage.a[i].done && (!stage.a[i].waits || stage.a[i].turn))
			pthread_cond_wait(&stage.moved, &stage.lock);
	pthread_mutex_unlock(&stage.lock);
}

static void give_turn(int i)
{
	pthread_mutex_lock(&stage.lock);
	stage.a[i].turn = true;
	pthread_cond_broadcast(&stage.moved);
	pthread_mutex_unlock(&stage.lock);
	await_all();
}

/* --- the scene: a repository that is copied for each run ---------------------------------------------------------- */

/* Letters are full slots with a key file each; 'r' is the recovery key. */
struct scene {
	struct store *original, *live;
	struct repo *actor[ACTORS];	/* on live */
	struct secret *recovery;
	struct slot_id slot[256];
	char *names[OBJECTS_MAX], *new[OBJECTS_MAX];
	size_t n, nnew;
};

static struct secret *key_file(char first)
{
	uint8_t bytes[32] = { (uint8_t)first };
	struct secret *s = NULL;
	struct err e = ERR_INIT;

	assert_ok(secret_new(SECRET_KEYFILE, bytes, sizeof(bytes), &s, &e), &e);
	return s;
}

/* NULL: it does not open. */
static struct repo *open_as(const struct scene *c, struct store *store, char key)
{
	struct secret *s = key == 'r' ? NULL : key_file(key);
	struct err e = ERR_INIT;
	struct repo *r = NULL;

	(void)(repo_open(store, s ? s : c->recovery, &(struct repo_open_opts){ 0 }, &r, &e) == 0);
	secret_free(s);
	if (r)
		r->hasty = true;
	return r;
}

static int remember_name(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct scene *c = opaque;

	(void)st;
	(void)e;
	assert_true(c->n < OBJECTS_MAX);
	c->names[c->n++] = strdup(name);
	return 0;
}

/* keys[0] makes the repository, the others are added. */
static void scene_new(struct scene *c, const char *keys)
{
	struct secret *s = key_file(keys[0]);
	struct slot_new_opts o = { .label = "added", .role = ROLE_FULL, .trusted = true };
	struct err e = ERR_INIT;
	struct store *mem;
	struct repo *r;

	*c = (struct scene){ 0 };
	assert_ok(store_mem_new(&c->original, &e), &e);
	assert_ok(repo_init(c->original, s, &(struct repo_init_opts){ 0 }, &c->recovery, &e), &e);
	secret_free(s);
	r = open_as(c, c->original, keys[0]);
	assert_non_null(r);
	c->slot[(uint8_t)keys[0]] = *repo_own_slot(r);
	for (const char *k = keys + 1; *k; k++) {
		s = key_file(*k);
		assert_ok(repo_slot_add(r, s, &o, &c->slot[(uint8_t)*k], &e), &e);
		secret_free(s);
	}
	repo_close(r);
	assert_ok(store_list(c->original, "", remember_name, c, &e), &e);
	assert_ok(store_mem_new(&mem, &e), &e);
	assert_ok(store_fault_new(mem, hook, NULL, &c->live, &e), &e);
}

static void scene_done(struct scene *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->names[i]);
	for (int i = 0; i < ACTORS; i++)
		repo_close(c->actor[i]);
	secret_free(c->recovery);
	store_close(c->live);
	store_close(c->original);
}

static int remove_new(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct scene *c = opaque;

	(void)st;
	(void)e;
	for (size_t i = 0; i < c->n; i++)
		if (!strcmp(c->names[i], name))
			return 0;
	assert_true(c->nnew < OBJECTS_MAX);
	c->new[c->nnew++] = strdup(name);
	return 0;
}

/* Makes live what original is. */
static void scene_reset(struct scene *c)
{
	struct err e = ERR_INIT;

	assert_ok(store_list(c->live, "", remove_new, c, &e), &e);
	for (; c->nnew > 0; free(c->new[c->nnew]))
		assert_ok(store_remove(c->live, c->new[--c->nnew], &e), &e);
	for (size_t i = 0; i < c->n; i++) {
		CLEANUP(free_ptr) uint8_t *p = NULL;
		struct store_stat st;
		size_t len;

		if (store_stat(c->live, c->names[i], &st, &e) == 0)
			continue;
		assert_ok(store_get(c->original, c->names[i], 1 << 20, &p, &len, &e), &e);
		assert_ok(store_put(c->live, c->names[i], p, len, 0, &e), &e);
	}
}

/* --- all orders --------------------------------------------------------------------------------------------------- */

/* A point of a run where somebody was chosen. */
struct node {
	struct op next[ACTORS];
	bool can[ACTORS], asleep[ACTORS], tried[ACTORS];
	unsigned switches;	/* before this */
	int last;		/* who was chosen before; -1 at first */
	int choice;
};

struct outcome {
	unsigned runs, both, one, none;		/* how many removers reported success */
	unsigned again;				/* runs known from another order before their end */
};

/* Who does what, by the key that it has: "ab" is a removing b's slot, "a>c" is a giving its own another secret. */
struct play {
	const char *who[ACTORS];
	const char *keys;	/* of which at least one must open in the end */
	unsigned dies[ACTORS];
	/* At most so many from one that could go on to the other, and then all orders with so many; 0 = any number. */
	unsigned switches;
};

static bool independent(const struct op *a, const struct op *b)
{
	if (!a->change && !b->change)
		return true;
	if (!strcmp(a->op, "list"))
		return strncmp(b->name, a->name, strlen(a->name)) != 0;
	if (!strcmp(b->op, "list"))
		return strncmp(a->name, b->name, strlen(b->name)) != 0;
	return strcmp(a->name, b->name) != 0;
}

static bool is_switch(const struct node *n, int choice)
{
	return n->last >= 0 && choice != n->last && n->can[n->last];
}

static bool fill_node(struct node *n, const struct node *before, bool sleep)
{
	bool any = false;

	*n = (struct node){ .choice = -1, .last = before ? before->choice : -1 };
	if (before)
		n->switches = before->switches + is_switch(before, before->choice);
	for (int i = 0; i < ACTORS; i++) {
		n->can[i] = !stage.a[i].done;
		n->next[i] = stage.a[i].next;
		if (before && sleep && i != before->choice && (before->asleep[i] || before->tried[i]))
			n->asleep[i] = n->can[i] && independent(&before->next[i], &before->next[before->choice]);
		any |= n->can[i];
	}
	return any;
}

/* Who went on last is preferred. */
static int choose(const struct node *n, unsigned switches)
{
	for (int k = 0; k < ACTORS; k++) {
		int i = n->last == 1 ? 1 - k : k;

		if (n->can[i] && !n->asleep[i] && !n->tried[i] && n->switches + is_switch(n, i) <= switches)
			return i;
	}
	return -1;
}

static bool changes_own(const struct play *p, int i)
{
	return p->who[i][1] == '>';
}

static void begin_run(struct scene *c, const struct play *p)
{
	scene_reset(c);
	stage.free = false;
	for (int i = 0; i < ACTORS; i++) {
		if (!c->actor[i])
			c->actor[i] = open_as(c, c->live, p->who[i][0]);
		assert_non_null(c->actor[i]);
		stage.a[i] = (struct actor){ .repo = c->actor[i], .victim = c->slot[(uint8_t)p->who[i][1]],
					     .dies_at = p->dies[i] };
	}
	for (int i = 0; i < ACTORS; i++) {
		stage.a[i].random = (uint64_t)i + 1;
		stage.a[i].to = changes_own(p, i) ? key_file(p->who[i][2]) : NULL;
	}
	for (int i = 0; i < ACTORS; i++)
		assert_int_equal(pthread_create(&stage.a[i].thread, NULL, act, &stage.a[i]), 0);
	await_all();
}

static void end_run(void)
{
	pthread_mutex_lock(&stage.lock);
	stage.free = true;
	pthread_cond_broadcast(&stage.moved);
	pthread_mutex_unlock(&stage.lock);
	for (int i = 0; i < ACTORS; i++) {
		pthread_join(stage.a[i].thread, NULL);
		secret_free(stage.a[i].to);
	}
}

static int no_damage(void *opaque, const struct check_finding *f, struct err *e)
{
	(void)opaque;
	(void)e;
	if (f->severity == CHECK_DAMAGE)
		fail_msg("damage: %s: %s", f->object, f->text);
	return 0;
}

static void check_sometimes(struct repo *r, const struct outcome *out)
{
	struct check_result res;
	struct err e = ERR_INIT;

	if (out->runs % CHECK_EVERY == 0)
		assert_ok(repo_check(r, &(struct check_opts){ .threads = 1 }, no_damage, NULL, &res, &e), &e);
}

static void must_open(const struct scene *c, const struct play *p, struct store *s, const struct outcome *out)
{
	bool open = false;

	for (const char *k = p->keys; *k && !open; k++) {
		struct repo *r = open_as(c, s, *k);

		open = r && repo_own_role(r) == ROLE_FULL;
		if (open)
			check_sometimes(r, out);
		repo_close(r);
	}
	if (!open)
		fail_msg("run %u: no key opens the repository: %s: %s; %s: %s", out->runs, p->who[0],
			 stage.a[0].e.cause, p->who[1], stage.a[1].e.cause);
}

static void must_not_open(const struct scene *c, const struct play *p, char key, const struct outcome *out)
{
	struct repo *r = open_as(c, c->live, key);

	if (r)
		fail_msg("run %u: %c still opens the repository: %s: %d %s; %s: %d %s", out->runs, key, p->who[0],
			 stage.a[0].rc, stage.a[0].e.cause, p->who[1], stage.a[1].rc, stage.a[1].e.cause);
}

/* Who reports success has done what it was to do. */
static void judge_successes(const struct scene *c, const struct play *p, const struct outcome *out)
{
	for (int i = 0; i < ACTORS; i++) {
		if (stage.a[i].rc != 0)
			continue;
		must_not_open(c, p, p->who[i][changes_own(p, i) ? 0 : 1], out);
		for (int k = 0; !changes_own(p, i) && k < ACTORS; k++)
			if (changes_own(p, k) && p->who[k][0] == p->who[i][1])
				must_not_open(c, p, p->who[k][2], out);
	}
}

/* A change that died is made again with either secret, and leaves the new one alone. */
static void change_again(const struct scene *c, const char *who)
{
	struct repo *r = open_as(c, c->live, who[0]), *old, *new;
	struct secret *s = key_file(who[2]);
	struct err e = ERR_INIT;
	struct name_list l;

	if (!r)
		r = open_as(c, c->live, who[2]);
	if (r) {
		assert_ok(repo_slot_passwd(r, s, &e), &e);
		assert_ok(object_list_of(r, OBJECT_KEY, repo_own_slot(r), NULL, &l, &e), &e);
		assert_int_equal(l.n, 1);
		name_list_free(&l);
		old = open_as(c, c->live, who[0]);
		new = open_as(c, c->live, who[2]);
		assert_true(!old && new);
		repo_close(new);
	}
	secret_free(s);
	repo_close(r);
}

/* A removal that died is done again by whoever can; if it may be, it ends. */
static void do_again(const struct scene *c, const struct play *p, struct store *s, int i, const struct outcome *out)
{
	struct repo *r = open_as(c, s, p->who[i][0]), *gone;
	struct err e = ERR_INIT;

	if (r && repo_slot_remove(r, &c->slot[(uint8_t)p->who[i][1]], false, &e) == 0) {
		gone = open_as(c, s, p->who[i][1]);
		assert_null(gone);
		check_sometimes(r, out);
	}
	repo_close(r);
}

/* Somebody opens it fully, nothing is damaged, and doing again what died leaves it so. */
static void judge_run(const struct scene *c, const struct play *p, struct store *s, struct outcome *out)
{
	unsigned successes = 0;

	for (int i = 0; i < ACTORS; i++)
		successes += stage.a[i].rc == 0;
	out->runs++;
	out->both += successes == 2;
	out->one += successes == 1;
	out->none += successes == 0;
	must_open(c, p, s, out);
	judge_successes(c, p, out);
	for (int i = 0; i < ACTORS; i++)
		if (stage.a[i].dead && changes_own(p, i))
			change_again(c, p->who[i]);
		else if (stage.a[i].dead)
			do_again(c, p, s, i, out);
	must_open(c, p, s, out);
}

/* One run along the path; makes it longer to its end.  False: it is one that was seen in another order. */
static bool run_along(struct node *path, size_t *n, unsigned switches)
{
	for (size_t i = 0;; i++) {
		assert_true(i < STEPS_MAX);
		if (i == *n) {
			if (!fill_node(&path[i], i ? &path[i - 1] : NULL, switches == STEPS_MAX))
				return true;
			path[i].choice = choose(&path[i], switches);
			if (path[i].choice < 0)
				return false;
			(*n)++;
		}
		give_turn(path[i].choice);
	}
}

/* The last point at which another choice is left. */
static bool step_back(struct node *path, size_t *n, unsigned switches)
{
	while (*n > 0) {
		struct node *last = &path[*n - 1];

		last->tried[last->choice] = true;
		last->choice = choose(last, switches);
		if (last->choice >= 0)
			return true;
		(*n)--;
	}
	return false;
}

static void all_orders(struct scene *c, const struct play *p, struct outcome *out)
{
	static struct node path[STEPS_MAX];
	unsigned switches = p->switches ? p->switches : STEPS_MAX;
	size_t n = 0;
	bool whole;

	do {
		begin_run(c, p);
		whole = run_along(path, &n, switches);
		end_run();
		if (whole)
			judge_run(c, p, c->live, out);
		else
			out->again++;
	} while (step_back(path, &n, switches));
}

/* --- the plays ---------------------------------------------------------------------------------------------------- */

/* `test_slots_race all` leaves no order out; `most` none where nobody dies; without a word there are as many as a quick
 * test allows. */
static bool all, most;

static unsigned some(unsigned switches) { return all ? 0 : switches; }
static unsigned many(unsigned switches) { return all || most ? 0 : switches; }

static struct outcome perform(const char *slots, const struct play *p)
{
	struct outcome out = { 0 };
	struct scene c;

	scene_new(&c, slots);
	all_orders(&c, p, &out);
	scene_done(&c);
	print_message("%s, %s of \"%s\", dying before changes %u, %u: %u orders (%u more cut short): %u both, %u one, %u none\n",
		      p->who[0], p->who[1], slots, p->dies[0], p->dies[1], out.runs, out.again, out.both, out.one, out.none);
	return out;
}

static void test_race__each_removes_the_other(void **state)
{
	struct outcome out = perform("ab", &(struct play){ .who = { "ab", "ba" }, .keys = "ab", .switches = many(1) });

	(void)state;
	assert_true(out.both == 0 && out.one > out.none);
}

/* With the recovery key, which does not count as a key that people have. */
static void test_race__one_after_the_other(void **state)
{
	struct outcome out = perform("ab", &(struct play){ .who = { "ra", "rb" }, .keys = "ab", .switches = many(1) });

	(void)state;
	assert_true(out.both == 0 && out.one > out.none);
}

/* They change the same objects, so most orders differ: not all of them, ever. */
static void test_race__both_the_same(void **state)
{
	struct outcome out = perform("ab", &(struct play){ .who = { "ab", "rb" }, .keys = "a", .switches = all ? 2 : 1 });

	(void)state;
	assert_int_equal(out.both, out.runs);
}

/* Saying so, the record, the key object, unsaying it: after the fourth change it is over. */
static void test_race__either_dies(void **state)
{
	(void)state;
	for (unsigned at = 1; at <= 4; at++)
		for (unsigned who = 0; who < ACTORS; who++) {
			struct play p = { .who = { "ab", "ba" }, .keys = "ab", .switches = some(1) };

			p.dies[who] = at;
			assert_int_equal(perform("ab", &p).both, 0);
		}
}

/* Both succeed, and at least one secret stays: that of the one who put its key object last. */
static void test_race__both_change_the_secret(void **state)
{
	struct outcome out = perform("a", &(struct play){ .who = { "a>c", "a>d" }, .keys = "cd" });

	(void)state;
	assert_int_equal(out.both, out.runs);
}

/* The new key object, then the old one gone, and what the other put, if it was there. */
static void test_race__either_dies_changing(void **state)
{
	(void)state;
	for (unsigned at = 1; at <= 3; at++) {
		struct play p = { .who = { "a>c", "a>d" }, .keys = "acd", .dies = { at, 0 }, .switches = some(2) };

		assert_int_equal(perform("a", &p).none, 0);
	}
}

/* Whoever is first: what has been removed does not open, with no secret. */
static void test_race__changed_and_removed(void **state)
{
	struct outcome out = perform("ab", &(struct play){ .who = { "a>c", "ba" }, .keys = "b", .switches = many(1) });

	(void)state;
	assert_true(out.none == 0 && out.one > 0 && out.both > 0);
	for (unsigned at = 1; at <= 4; at++)
		for (unsigned who = 0; who < ACTORS; who++) {
			struct play p = { .who = { "a>c", "ba" }, .keys = "b", .switches = some(1) };

			p.dies[who] = at;
			(void)perform("ab", &p);
		}
}

/* The slot that another's removal rests on has a key object at any time. */
static void test_race__changed_while_another_goes(void **state)
{
	struct outcome out = perform("ab", &(struct play){ .who = { "a>c", "rb" }, .keys = "c", .switches = many(1) });

	(void)state;
	assert_int_equal(out.both, out.runs);
	for (unsigned at = 1; at <= 2; at++)
		(void)perform("ab", &(struct play){ .who = { "a>c", "rb" }, .keys = "ac", .dies = { at, 0 },
						    .switches = some(1) });
}

int main(int argc, char **argv)
{
	static struct randombytes_implementation same = {
		.implementation_name = random_name, .random = one_random, .buf = same_random,
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_race__each_removes_the_other),
		cmocka_unit_test(test_race__one_after_the_other),
		cmocka_unit_test(test_race__both_the_same),
		cmocka_unit_test(test_race__either_dies),
		cmocka_unit_test(test_race__both_change_the_secret),
		cmocka_unit_test(test_race__either_dies_changing),
		cmocka_unit_test(test_race__changed_and_removed),
		cmocka_unit_test(test_race__changed_while_another_goes),
	};

	if (randombytes_set_implementation(&same) < 0)
		return 1;

	all = argc > 1 && !strcmp(argv[1], "all");
	most = argc > 1 && !strcmp(argv[1], "most");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
