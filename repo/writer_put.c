/*
 * writer_put.c - packs go to the store, then into the index, and now and then an index run names what is durable.
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "repo/protocol.h"
#include "repo/writer_internal.h"
#include "transport/store.h"

int writer_put_queue(struct repo_writer *w, struct done_pack *d, struct err *e)
{
	int r;

	pthread_mutex_lock(&w->lock);
	while (w->npending >= w->plan.uploaders && w->failed.code == 0)
		pthread_cond_wait(&w->changed, &w->lock);
	/* After a failure too: closing with save puts what is complete. */
	*w->queue_tail = d;
	w->queue_tail = &d->next;
	w->npending++;
	if (d->kind == PACK_NODES && w->nspare && w->npending + w->nspare > w->plan.uploaders)
		free(w->spare[--w->nspare]);	/* the plan has it in the place of what is on its way */
	r = w->failed.code;
	if (r)
		*e = w->failed;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return r;
}

int writer_put_pack(struct repo_writer *w, struct done_pack *d, struct err *e)
{
	int r = writer_pack_read_back(w, d, e);

	if (r < 0)
		return r;
	r = store_put(repo_store(w->r), d->name, d->bytes, d->len, 0, e);
	if (r == 0)	/* what changed while it was written is there under a name that its bytes don't fit */
		r = writer_pack_same(d, "a pack that was being stored", e);
	pthread_mutex_lock(&w->run_lock);
	w->unnamed++;	/* also when it failed: it may be there */
	if (r < 0) {
		pthread_mutex_unlock(&w->run_lock);
		return r;
	}
	w->run_bytes += d->len;
	w->run_entries += d->dir->chunks.n;
	r = index_add_own(w->x, d->name, d->len, d->envelope_off, d->envelope_len, d->dir, &d->index, e);
	pthread_mutex_unlock(&w->run_lock);
	if (r < 0)
		return r;
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < d->dir->chunks.n; i++)	/* they are in the index now */
		id_set_remove(&w->in_flight, &d->dir->chunks.p[i].id);
	w->stats.packs++;
	w->stats.bytes_stored += d->len;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

/* run_lock is held. */
static bool run_is_due(const struct repo_writer *w)
{
	return w->run_bytes >= RUN_MAX_BYTES || w->run_entries >= w->plan.run_entries ||
	       (w->run_entries && clock_mono() - w->run_time >= RUN_MAX_S);
}

static int store_run(struct repo_writer *w, struct err *e)
{
	uint64_t bytes = 0;

	if (index_store_run(w->x, session_id_of(w->session), &bytes, e) < 0)
		return e->code;
	w->run_bytes = w->run_entries = w->unnamed = 0;
	w->run_time = clock_mono();
	pthread_mutex_lock(&w->lock);
	w->stats.bytes_stored += bytes;
	pthread_mutex_unlock(&w->lock);
	return bytes ? writer_check_evicted(w, e) : 0;
}

int writer_check_evicted(struct repo_writer *w, struct err *e)
{
	int r = session_check_evicted(w->session, e);

	if (session_is_evicted(w->session)) {
		pthread_mutex_lock(&w->lock);
		w->evicted = true;
		pthread_mutex_unlock(&w->lock);
	}
	return r;
}

int writer_put_run(struct repo_writer *w, bool now, struct err *e)
{
	int r;

	pthread_mutex_lock(&w->run_lock);
	r = session_renew(w->session, e);
	if (r == 0 && (now || run_is_due(w)))
		r = store_run(w, e);
	pthread_mutex_unlock(&w->run_lock);
	return r;
}

/* --- the uploaders ------------------------------------------------------------------------------------------------ */

/* Waits for a pack.  NULL: none came within a while (*ret_end false), or none will. */
static struct done_pack *take(struct repo_writer *w, bool *ret_end)
{
	struct done_pack *d = NULL;
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += TICK_S;
	pthread_mutex_lock(&w->lock);
	while (!w->queue && !w->assembled && w->failed.code == 0 && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&w->changed, &w->lock, &until);
	if (w->queue && w->failed.code == 0) {
		d = w->queue;
		w->queue = d->next;
		if (!w->queue)
			w->queue_tail = &w->queue;
		d->next = NULL;
	}
	*ret_end = !d && (w->assembled || w->failed.code);
	pthread_mutex_unlock(&w->lock);
	return d;
}

/* d NULL: nothing was put, but time has passed. */
static int work(struct repo_writer *w, struct done_pack *d, struct err *e)
{
	int r = d ? writer_put_pack(w, d, e) : 0;

	if (r == 0)
		r = writer_put_run(w, false, e);
	return r;
}

void *writer_uploader(void *arg)
{
	struct repo_writer *w = arg;
	struct done_pack *d;
	bool end;

	while ((d = take(w, &end)) || !end) {
		struct err e = ERR_INIT;

		if (work(w, d, &e) < 0)
			writer_fail(w, &e);
		if (!d)
			continue;
		writer_pack_recycle(w, d);	/* first: the next pack may need it */
		pthread_mutex_lock(&w->lock);
		w->npending--;
		pthread_cond_broadcast(&w->changed);
		pthread_mutex_unlock(&w->lock);
	}
	return NULL;
}
