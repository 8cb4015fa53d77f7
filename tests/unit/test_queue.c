/* A queue bounded in bytes, between threads. */
#include "tests/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/queue.h"

#define ITEMS 20000

struct item {
	uint64_t seq;
	atomic_int *alive;	/* counts items that nobody released */
};

static struct item *item_new(uint64_t seq, atomic_int *alive)
{
	struct item *it = malloc(sizeof(*it));

	assert_non_null(it);
	*it = (struct item){ .seq = seq, .alive = alive };
	atomic_fetch_add(alive, 1);
	return it;
}

static void item_free(void *p)
{
	struct item *it = p;

	atomic_fetch_sub(it->alive, 1);
	free(it);
}

struct job {
	struct queue *q;
	atomic_int *alive;
	atomic_int state;	/* 1 = about to block, 2 = came back */
	bool ok;
	uint64_t n, sum;
};

static void *push_many(void *arg)
{
	struct job *j = arg;

	for (uint64_t i = 0; i < ITEMS; i++)
		if (!queue_push(j->q, item_new(i, j->alive), 1 + i % 50))
			break;
	return NULL;
}

static void *pop_all(void *arg)
{
	struct job *j = arg;
	struct item *it;

	while ((it = queue_pop(j->q)) != NULL) {
		j->n++;
		j->sum += it->seq;
		item_free(it);
	}
	return NULL;
}

static void *push_one(void *arg)
{
	struct job *j = arg;

	atomic_store(&j->state, 1);
	j->ok = queue_push(j->q, item_new(99, j->alive), 60);
	atomic_store(&j->state, 2);
	return NULL;
}

static void test_queue__order_and_close(void **state)
{
	struct err e = ERR_INIT;
	atomic_int alive = 0;
	struct queue *q;

	(void)state;
	assert_ok(queue_new(1000, item_free, &q, &e), &e);
	for (uint64_t i = 0; i < 10; i++)
		assert_true(queue_push(q, item_new(i, &alive), 100));
	queue_close(q);
	assert_false(queue_push(q, item_new(10, &alive), 1));
	assert_int_equal(alive, 10);
	for (uint64_t i = 0; i < 10; i++) {
		struct item *it = queue_pop(q);

		assert_int_equal(it->seq, i);
		item_free(it);
	}
	assert_null(queue_pop(q));
	assert_int_equal(alive, 0);
	queue_free(q);
}

static void test_queue__many_threads_lose_nothing(void **state)
{
	pthread_t push[3], pop[3];
	struct err e = ERR_INIT;
	struct job in, out[3];
	atomic_int alive = 0;
	uint64_t n = 0, sum = 0;
	struct queue *q;

	(void)state;
	assert_ok(queue_new(200, item_free, &q, &e), &e);
	in = (struct job){ .q = q, .alive = &alive };
	for (int i = 0; i < 3; i++) {
		out[i] = (struct job){ .q = q };
		assert_int_equal(pthread_create(&pop[i], NULL, pop_all, &out[i]), 0);
		assert_int_equal(pthread_create(&push[i], NULL, push_many, &in), 0);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(push[i], NULL);
	queue_close(q);
	for (int i = 0; i < 3; i++) {
		pthread_join(pop[i], NULL);
		n += out[i].n;
		sum += out[i].sum;
	}
	assert_int_equal(n, 3 * ITEMS);
	assert_true(sum == 3 * (uint64_t)ITEMS * (ITEMS - 1) / 2);
	assert_int_equal(alive, 0);
	queue_free(q);
}

static void wait_for(atomic_int *v, int want)
{
	for (int i = 0; i < 5000 && atomic_load(v) != want; i++)
		usleep(1000);
	assert_int_equal(atomic_load(v), want);
}

static void test_queue__push_waits_for_room(void **state)
{
	struct err e = ERR_INIT;
	atomic_int alive = 0;
	struct queue *q;
	struct job j;
	pthread_t t;

	(void)state;
	assert_ok(queue_new(100, item_free, &q, &e), &e);
	assert_true(queue_push(q, item_new(0, &alive), 500));	/* larger than the budget: alone */
	j = (struct job){ .q = q, .alive = &alive };
	assert_int_equal(pthread_create(&t, NULL, push_one, &j), 0);
	wait_for(&j.state, 1);
	usleep(20000);
	assert_int_equal(atomic_load(&j.state), 1);
	item_free(queue_pop(q));
	wait_for(&j.state, 2);
	pthread_join(t, NULL);
	assert_true(j.ok);
	assert_int_equal(alive, 1);
	queue_free(q);		/* releases what is inside */
	assert_int_equal(alive, 0);
}

static void test_queue__abort_wakes_both_sides(void **state)
{
	struct err e = ERR_INIT;
	atomic_int alive = 0;
	struct queue *q;
	struct job j;
	pthread_t t;

	(void)state;
	assert_ok(queue_new(100, item_free, &q, &e), &e);
	assert_true(queue_push(q, item_new(0, &alive), 90));
	j = (struct job){ .q = q, .alive = &alive, .ok = true };
	assert_int_equal(pthread_create(&t, NULL, push_one, &j), 0);
	wait_for(&j.state, 1);
	queue_abort(q);
	pthread_join(t, NULL);
	assert_false(j.ok);
	assert_int_equal(alive, 0);
	assert_null(queue_pop(q));
	assert_false(queue_push(q, item_new(0, &alive), 1));
	assert_int_equal(alive, 0);
	queue_free(q);

	assert_ok(queue_new(100, item_free, &q, &e), &e);
	j = (struct job){ .q = q };
	assert_int_equal(pthread_create(&t, NULL, pop_all, &j), 0);
	usleep(5000);
	queue_abort(q);
	pthread_join(t, NULL);
	assert_int_equal(j.n, 0);
	queue_free(q);
	queue_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queue__order_and_close),
		cmocka_unit_test(test_queue__many_threads_lose_nothing),
		cmocka_unit_test(test_queue__push_waits_for_room),
		cmocka_unit_test(test_queue__abort_wakes_both_sides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
