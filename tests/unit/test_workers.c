/* The ordered parallel map and its serial twin. */
#include "tests/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/workers.h"

#define ITEMS 5000

struct item {
	uint64_t in, out;
	atomic_int *alive;
};

struct env {
	atomic_int alive, locals, running, most;
	uint64_t fail_at;	/* run fails on this item; 0 = never */
	int fail_local;		/* local_new fails at this context; 0 = never */
	bool mute;		/* fails without saying why */
	unsigned slow_us;
};

struct local {
	struct env *env;
	uint64_t runs;
};

static struct item *item_new(uint64_t in, struct env *env)
{
	struct item *it = malloc(sizeof(*it));

	assert_non_null(it);
	*it = (struct item){ .in = in, .alive = &env->alive };
	atomic_fetch_add(&env->alive, 1);
	return it;
}

static void item_free(void *p)
{
	struct item *it = p;

	atomic_fetch_sub(it->alive, 1);
	free(it);
}

static int local_new(void *opaque, void **ret, struct err *e)
{
	struct env *env = opaque;
	struct local *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->env = env;
	if (atomic_fetch_add(&env->locals, 1) + 1 == env->fail_local) {
		atomic_fetch_sub(&env->locals, 1);
		free(l);
		return err_set(e, ERR_NOMEM, "no context");
	}
	*ret = l;
	return 0;
}

static void local_free(void *p)
{
	struct local *l = p;

	atomic_fetch_sub(&l->env->locals, 1);
	free(l);
}

static int run(void *p, void *item, struct err *e)
{
	struct local *l = p;
	struct item *it = item;
	int now = atomic_fetch_add(&l->env->running, 1) + 1, most = atomic_load(&l->env->most);

	while (now > most && !atomic_compare_exchange_weak(&l->env->most, &most, now))
		;
	if (l->env->slow_us)
		usleep(l->env->slow_us * (unsigned)(it->in % 7));
	l->runs++;		/* the context is one thread's own: TSan would see it */
	it->out = it->in * 3 + 1;
	atomic_fetch_sub(&l->env->running, 1);
	if (l->env->fail_at && it->in == l->env->fail_at)
		return l->env->mute ? -1 : err_set(e, ERR_CORRUPT, "item %d is bad", (int)it->in);
	return 0;
}

static struct workers *make(unsigned threads, size_t max_bytes, struct env *env)
{
	const struct workers_opts o = {
		.name = "test", .threads = threads, .max_bytes = max_bytes, .run = run, .local_new = local_new,
		.local_free = local_free, .opaque = env, .item_free = item_free,
	};
	struct err e = ERR_INIT;
	struct workers *w = NULL;

	assert_ok(workers_new(&o, &w, &e), &e);
	return w;
}

/* Takes one item and checks its place; returns what next said. */
static int take(struct workers *w, uint64_t want)
{
	struct err e = ERR_INIT;
	void *p = NULL;
	int r = workers_next(w, &p, &e);

	if (r == 1) {
		struct item *it = p;

		assert_true(it->in == want);
		assert_true(it->out == want * 3 + 1);
		item_free(it);
	}
	return r;
}

/* One thread on both sides: takes before it submits when the map is full. */
static void test_workers__order_for_any_thread_count(void **state)
{
	(void)state;
	for (unsigned threads = 0; threads <= 5; threads++) {
		struct env env = { 0 };
		struct workers *w = make(threads, 100, &env);
		struct err e = ERR_INIT;
		uint64_t taken = 0;

		for (uint64_t i = 0; i < ITEMS; i++) {
			while (workers_full(w))
				assert_int_equal(take(w, taken++), 1);
			assert_ok(workers_submit(w, item_new(i, &env), 1 + i % 30, &e), &e);
			assert_true(env.alive <= 101);
		}
		workers_close(w);
		while (taken < ITEMS)
			assert_int_equal(take(w, taken++), 1);
		assert_int_equal(take(w, 0), 0);
		assert_int_equal(take(w, 0), 0);
		workers_free(w);
		assert_int_equal(env.alive, 0);
		assert_int_equal(env.locals, 0);
		assert_true((unsigned)env.most <= (threads ? threads : 1));
	}
}

struct feeder {
	struct workers *w;
	struct env *env;
	int r;
	struct err e;
};

static void *feed(void *arg)
{
	struct feeder *f = arg;

	for (uint64_t i = 1; i <= ITEMS && f->r >= 0; i++)
		f->r = workers_submit(f->w, item_new(i, f->env), 40, &f->e);
	workers_close(f->w);
	return NULL;
}

static void test_workers__two_sides_in_two_threads(void **state)
{
	(void)state;
	for (unsigned threads = 0; threads <= 3; threads++) {
		struct env env = { .slow_us = threads ? 3 : 0 };
		struct workers *w = make(threads, 200, &env);
		struct feeder f = { .w = w, .env = &env };
		uint64_t taken = 0;
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, feed, &f), 0);
		while (take(w, taken + 1) == 1)
			taken++;
		pthread_join(t, NULL);
		assert_int_equal(taken, ITEMS);
		assert_int_equal(f.r, 0);
		workers_free(w);
		assert_int_equal(env.alive, 0);
	}
}

static void test_workers__first_error_stops_both_sides(void **state)
{
	(void)state;
	for (unsigned threads = 0; threads <= 3; threads++) {
		struct env env = { .fail_at = 1000 };
		struct workers *w = make(threads, 200, &env);
		struct feeder f = { .w = w, .env = &env };
		struct err e = ERR_INIT;
		void *p = NULL;
		pthread_t t;
		int r;

		assert_int_equal(pthread_create(&t, NULL, feed, &f), 0);
		while ((r = workers_next(w, &p, &e)) == 1)
			item_free(p);
		pthread_join(t, NULL);
		assert_int_equal(r, ERR_CORRUPT);
		assert_string_equal(e.cause, "item 1000 is bad");
		assert_int_equal(f.r, ERR_CORRUPT);
		assert_string_equal(f.e.cause, "item 1000 is bad");
		assert_err(workers_submit(w, item_new(1, &env), 1, &e), ERR_CORRUPT, &e);
		workers_free(w);
		assert_int_equal(env.alive, 0);
		assert_int_equal(env.locals, 0);
	}
}

static void *abort_soon(void *arg)
{
	struct feeder *f = arg;

	usleep(10000);
	workers_abort(f->w, &f->e);
	return NULL;
}

static void test_workers__abort_wakes_submit_and_next(void **state)
{
	(void)state;
	for (unsigned threads = 0; threads <= 2; threads++) {
		struct env env = { 0 };
		struct workers *w = make(threads, 10, &env);
		struct feeder f = { .w = w, .env = &env };
		struct err e = ERR_INIT;
		void *p = NULL;
		pthread_t t;

		(void)err_set(&f.e, ERR_CANCELLED, "stop");
		assert_int_equal(pthread_create(&t, NULL, abort_soon, &f), 0);
		assert_err(workers_next(w, &p, &e), ERR_CANCELLED, &e);		/* empty: waits for the abort */
		pthread_join(t, NULL);
		workers_free(w);

		w = f.w = make(threads, 10, &env);
		assert_ok(workers_submit(w, item_new(1, &env), 50, &e), &e);	/* larger than the budget */
		assert_true(workers_full(w));
		assert_int_equal(pthread_create(&t, NULL, abort_soon, &f), 0);
		assert_err(workers_submit(w, item_new(2, &env), 1, &e), ERR_CANCELLED, &e);	/* full: waits */
		pthread_join(t, NULL);
		workers_free(w);
		assert_int_equal(env.alive, 0);
	}
}

static void test_workers__odd_ends(void **state)
{
	struct env env = { .fail_local = 2 };
	const struct workers_opts o = { .name = "test",
					.threads = 3,
					.max_bytes = 1,
					.run = run,
					.local_new = local_new,
					.local_free = local_free,
					.opaque = &env,
					.item_free = item_free };
	struct err e = ERR_INIT;
	struct workers *w = NULL;
	void *p;

	(void)state;
	assert_err(workers_new(&o, &w, &e), ERR_NOMEM, &e);
	assert_null(w);
	assert_int_equal(env.locals, 0);

	env = (struct env){ .fail_at = 5, .mute = true };
	w = make(0, 100, &env);
	assert_err(workers_submit(w, item_new(5, &env), 1, &e), ERR_INTERNAL, &e);
	assert_err(workers_next(w, &p, &e), ERR_INTERNAL, &e);
	workers_free(w);

	env = (struct env){ 0 };
	w = make(2, 100, &env);
	workers_close(w);
	assert_err(workers_submit(w, item_new(5, &env), 1, &e), ERR_INTERNAL, &e);
	assert_int_equal(workers_next(w, &p, &e), 0);
	workers_free(w);
	w = make(2, 1000, &env);	/* freed while busy */
	for (uint64_t i = 0; i < 50; i++)
		assert_ok(workers_submit(w, item_new(i, &env), 1, &e), &e);
	workers_free(w);
	assert_int_equal(env.alive, 0);
	workers_free(NULL);
}

static void test_workers__no_thread(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(workers_no_thread(&e, EAGAIN, "hashing"), ERR_NOMEM);
	assert_string_equal(e.cause, "hashing: no thread could be started: Resource temporarily unavailable");
	assert_int_equal(e.os_errno, EAGAIN);
	assert_has(e.hint, "pids.max");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_workers__order_for_any_thread_count),
		cmocka_unit_test(test_workers__two_sides_in_two_threads),
		cmocka_unit_test(test_workers__first_error_stops_both_sides),
		cmocka_unit_test(test_workers__abort_wakes_submit_and_next),
		cmocka_unit_test(test_workers__odd_ends),
		cmocka_unit_test(test_workers__no_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
