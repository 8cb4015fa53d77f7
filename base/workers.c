/*
 * workers.c - an ordered parallel map.
 *
 * One list holds what is inside, oldest first; threads take the oldest item that has not been started, next() takes the
 * head once it is done:
 *
 *	head -> [done] -> [running] -> [done] -> [waiting] -> [waiting]
 *	        next() waits here                ^ todo
 */
#include "base/workers.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "base/log.h"

struct slot {
	struct slot *next;
	void *item;
	size_t bytes;
	bool done;
};

struct thread {
	struct workers *w;
	pthread_t id;
	void *local;
};

struct workers {
	struct workers_opts o;
	/* guards all up to failed; never held while run, item_free or local_* are called */
	pthread_mutex_t lock;
	pthread_cond_t room, work, ready;
	struct slot *head, **tail;
	struct slot *todo;		/* oldest not started, NULL = none */
	size_t bytes;			/* of items in the list */
	bool closed, stop;
	struct err failed;		/* first error; code 0 = none */
	struct thread *threads;
	unsigned nlocals, nstarted;	/* threads[] with a context; with a running thread */
};

unsigned workers_cpus(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;	/* more CPUs than the set can name: better few threads than none */
	n = CPU_COUNT(&set);
	return n > 0 ? (unsigned)n : 1;
}

static bool is_full(const struct workers *w)
{
	return w->head && w->bytes >= w->o.max_bytes;
}

static void wake_all(struct workers *w)
{
	pthread_cond_broadcast(&w->room);
	pthread_cond_broadcast(&w->work);
	pthread_cond_broadcast(&w->ready);
}

/* Runs the function on s without the lock, which is held before and after. */
static void run_slot(struct workers *w, struct slot *s, void *local)
{
	struct err e = ERR_INIT;
	int r;

	pthread_mutex_unlock(&w->lock);
	r = w->o.run(local, s->item, &e);
	if (r < 0 && e.code == 0)
		(void)err_set(&e, ERR_INTERNAL, "%s: worker failed without saying why", w->o.name);
	pthread_mutex_lock(&w->lock);
	s->done = true;
	if (r < 0 && w->failed.code == 0) {
		w->failed = e;
		wake_all(w);
	}
	if (s == w->head)
		pthread_cond_broadcast(&w->ready);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct workers *w = t->w;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct slot *s;

		while (!w->stop && !(w->todo && w->failed.code == 0))
			pthread_cond_wait(&w->work, &w->lock);
		if (w->stop)
			break;
		s = w->todo;
		w->todo = s->next;
		run_slot(w, s, t->local);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int workers_no_thread(struct err *e, int os_errno, const char *what)
{
	errno = os_errno;
	err_sys(e, "%s: no thread could be started", what);
	e->code = ERR_NOMEM;	/* whatever the errno: of what there is too little */
	return err_hint(e, "the limit of processes and threads is reached, or memory is short: look at `ulimit -u`, at "
			   "pids.max and memory.max of the cgroup (TasksMax= of a systemd unit); --threads 1 needs the "
			   "fewest");
}

static int start_threads(struct workers *w, struct err *e)
{
	unsigned n = w->o.threads ? w->o.threads : 1;	/* serial: one context, no thread */
	sigset_t all, before;
	int r = 0;

	w->threads = calloc(n, sizeof(*w->threads));
	if (!w->threads)
		return err_set(e, ERR_NOMEM, "no memory for %u threads", n);
	for (; w->nlocals < n; w->nlocals++) {
		struct thread *t = &w->threads[w->nlocals];

		t->w = w;
		if (w->o.local_new && w->o.local_new(w->o.opaque, &t->local, e) < 0)
			return e->code;
	}
	sigfillset(&all);	/* signals are the main thread's business */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (; r == 0 && w->nstarted < w->o.threads; w->nstarted += r == 0) {
		struct thread *t = &w->threads[w->nstarted];

		r = pthread_create(&t->id, NULL, thread_main, t);
		if (r == 0 && w->o.name)
			pthread_setname_np(t->id, w->o.name);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	LOG_DEBUG("%s: %u threads, %zu in the queue", w->o.name ? w->o.name : "workers", w->nstarted, w->o.max_bytes);
	return r ? workers_no_thread(e, r, w->o.name ? w->o.name : "workers") : 0;
}

int workers_new(const struct workers_opts *o, struct workers **ret, struct err *e)
{
	struct workers *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(e, ERR_NOMEM, "no memory for workers");
	w->o = *o;
	w->tail = &w->head;
	pthread_mutex_init(&w->lock, NULL);	/* cannot fail with default attributes */
	pthread_cond_init(&w->room, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->ready, NULL);
	if (start_threads(w, e) < 0) {
		workers_free(w);
		return e->code;
	}
	*ret = w;
	return 0;
}

static void free_item(struct workers *w, void *item)
{
	if (w->o.item_free)
		w->o.item_free(item);
}

void workers_free(struct workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	wake_all(w);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->nstarted; i++)
		pthread_join(w->threads[i].id, NULL);
	for (unsigned i = 0; i < w->nlocals; i++)
		if (w->o.local_free)
			w->o.local_free(w->threads[i].local);
	while (w->head) {
		struct slot *s = w->head;

		w->head = s->next;
		free_item(w, s->item);
		free(s);
	}
	pthread_cond_destroy(&w->ready);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->room);
	pthread_mutex_destroy(&w->lock);
	free(w->threads);
	free(w);
}

/* Puts s at the end and, without threads, runs it; the lock is held. */
static void enter(struct workers *w, struct slot *s)
{
	*w->tail = s;
	w->tail = &s->next;
	w->bytes += s->bytes;
	if (w->o.threads == 0) {
		run_slot(w, s, w->threads[0].local);
		return;
	}
	if (!w->todo)
		w->todo = s;
	pthread_cond_signal(&w->work);
}

int workers_submit(struct workers *w, void *item, size_t bytes, struct err *e)
{
	struct slot *s = calloc(1, sizeof(*s));
	bool entered = false;
	int r = 0;

	if (s)
		*s = (struct slot){ .item = item, .bytes = bytes };
	pthread_mutex_lock(&w->lock);
	while (s && is_full(w) && w->failed.code == 0 && !w->closed)
		pthread_cond_wait(&w->room, &w->lock);
	if (w->failed.code == 0 && s && !w->closed) {
		enter(w, s);
		entered = true;
	}
	if (w->failed.code) {
		*e = w->failed;
		r = e->code;
	} else if (!entered) {
		r = s ? err_set(e, ERR_INTERNAL, "item after the end") : err_set(e, ERR_NOMEM, "no memory for an item");
	}
	pthread_mutex_unlock(&w->lock);
	if (!entered) {		/* one that entered and failed is released with the map */
		free_item(w, item);
		free(s);
	}
	return r;
}

void workers_close(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	w->closed = true;
	wake_all(w);
	pthread_mutex_unlock(&w->lock);
}

int workers_next(struct workers *w, void **ret_item, struct err *e)
{
	struct slot *s = NULL;
	int r = 0;

	pthread_mutex_lock(&w->lock);
	while (w->failed.code == 0 && !(w->head && w->head->done) && !(w->closed && !w->head))
		pthread_cond_wait(&w->ready, &w->lock);
	if (w->failed.code) {
		*e = w->failed;
		r = e->code;
	} else if (w->head) {
		s = w->head;
		w->head = s->next;
		if (!w->head)
			w->tail = &w->head;
		w->bytes -= s->bytes;
		pthread_cond_broadcast(&w->room);
		pthread_cond_broadcast(&w->ready);	/* another taker may find the new head done */
		r = 1;
	}
	pthread_mutex_unlock(&w->lock);
	if (r == 1) {
		*ret_item = s->item;
		free(s);
	}
	return r;
}

bool workers_full(struct workers *w)
{
	bool full;

	pthread_mutex_lock(&w->lock);
	full = is_full(w);
	pthread_mutex_unlock(&w->lock);
	return full;
}

void workers_abort(struct workers *w, const struct err *e)
{
	pthread_mutex_lock(&w->lock);
	if (w->failed.code == 0)
		w->failed = *e;
	if (w->failed.code == 0)
		(void)err_set(&w->failed, ERR_CANCELLED, "interrupted");
	wake_all(w);
	pthread_mutex_unlock(&w->lock);
}
