/*
 * writer.c - a run's life: what its budget buys, opening, what is stored already, adding, flushing, closing.
 */
#include "repo/writer.h"

#include <signal.h>
#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "base/workers.h"
#include "repo/writer_internal.h"
#include "transport/store.h"

#define DEFAULT_BYTES ((size_t)160 << 20)
#define LEAST_BYTES ((size_t)24 << 20)		/* less is taken for this much */
#define PACK_LEAST_BYTES ((size_t)1 << 20)
#define ENTRY_BYTES 160u			/* of a chunk from its sealing to its index run, about */
#define ADD_BYTES_MAX ((size_t)256 << 20)

/* --- budget ------------------------------------------------------------------------------------------------------- */

/*
 * Of 100: 20 for the index; 45 for packs; 6 for the reader; 12 for what waits for an index run; the rest seals.  A pack
 * takes 20 (or the repository's pack size, which it has from 160 MiB on), a node pack a quarter of that.  There is one
 * of each that fills, or is full and waits for an uploader, and one for each uploader, or its buffer, kept for the next
 * (writer_put_queue, writer_pack_recycle).  Pack sizes must not depend on the number of threads: the layout would.
 */
static void plan(struct repo_writer *w, const struct repo_writer_opts *o)
{
	size_t max = o->max_bytes ? o->max_bytes : DEFAULT_BYTES, codec, each, seal;
	const struct store_caps *caps = store_caps(repo_store(w->r));
	unsigned threads = o->threads ? o->threads : workers_cpus();
	size_t target, packs;

	if (max < LEAST_BYTES)
		max = LEAST_BYTES;
	target = min_size(repo_config(w->r)->pack_size, max / 5);
	if (target < PACK_LEAST_BYTES)
		target = PACK_LEAST_BYTES;
	w->plan.pack_target[PACK_DATA - 1] = target;
	w->plan.pack_target[PACK_NODES - 1] = target / 4 > PACK_LEAST_BYTES ? target / 4 : PACK_LEAST_BYTES;
	w->plan.index_bytes = max / 5;
	w->plan.reader_bytes = max / 100 * 6;
	w->plan.run_entries = max / 100 * 12 / ENTRY_BYTES;
	packs = (max / 100 * 45 - target / 4) / target;		/* data packs, filling and on their way */
	w->plan.uploaders = packs < 3 || caps->is_local ? 1 : (unsigned)min_u64(packs - 1, WRITER_UPLOADERS_MAX);
	if (w->plan.uploaders > caps->parallel)
		w->plan.uploaders = caps->parallel ? caps->parallel : 1;
	seal = max / 100 * 17;
	codec = segment_codec_bytes(w->level, w->segment_size);
	each = codec + 4 * (size_t)w->segment_size;	/* two segments inside for each thread, plain and sealed */
	w->plan.threads = (unsigned)min_u64(threads, seal / each > 0 ? seal / each : 1);
	/* More where there is room: segments are taken in order; with few inside, all wait for one that is late. */
	each = w->plan.threads * 4 * (size_t)w->segment_size;
	codec *= w->plan.threads;
	w->plan.seal_bytes = seal > codec + each ? min_size(seal - codec, 4 * each) : each;
}

static int level_of(const struct repo_writer_opts *o)
{
	static const int levels[] = {
		[COMPRESS_DEFAULT] = COMPRESS_DEFAULT_LEVEL, [COMPRESS_FAST] = -1, [COMPRESS_MAX] = 15,
		[COMPRESS_OFF] = 0
	};

	return o->zstd_level ? o->zstd_level : levels[o->compression];
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static void init(struct repo_writer *w, const struct repo_writer_opts *o)
{
	pthread_condattr_t attr;

	w->chunk_size = repo_config(w->r)->chunk_size;
	w->segment_size = repo_config(w->r)->segment_size;
	if (w->segment_size < w->chunk_size)
		w->segment_size = w->chunk_size;
	if (w->segment_size > SEGMENT_MAX_BYTES)
		w->segment_size = SEGMENT_MAX_BYTES;
	w->level = level_of(o);
	w->single_chunk_segments = o->single_chunk_segments;
	w->queue_tail = &w->queue;
	w->run_time = clock_mono();
	pthread_mutex_init(&w->run_lock, NULL);	/* none of these can fail with these attributes */
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	plan(w, o);
}

static int start_threads(struct repo_writer *w, struct err *e)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);	/* signals are the main thread's business */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->assembler, NULL, writer_assembler, w);
	w->has_assembler = r == 0;
	for (; r == 0 && w->nuploaders < w->plan.uploaders; w->nuploaders += r == 0)
		r = pthread_create(&w->uploader[w->nuploaders], NULL, writer_uploader, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return w->nuploaders ? 0 : workers_no_thread(e, r, "writing");	/* fewer than planned will do */
}

static int open_all(struct repo_writer *w, const struct repo_writer_opts *o, struct err *e)
{
	struct index_opts xo = { .build = true, .max_bytes = w->plan.index_bytes };

	if (crypt_new(&w->crypt, e) < 0 || session_begin(w->r, SESSION_BACKUP, o->vm, &w->session, e) < 0)
		return e->code;
	if (index_load(w->r, session_view(w->session), &xo, &w->x, NULL, e) < 0 || writer_resume(w, e) < 0)
		return e->code;
	if (repo_reader_on(w->r, w->x, w->plan.reader_bytes, &w->reader, e) < 0 || writer_seal_start(w, e) < 0)
		return e->code;
	return start_threads(w, e);
}

int repo_writer_open(struct repo *r, const struct repo_writer_opts *o, struct repo_writer **ret, struct err *e)
{
	struct repo_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(e, ERR_NOMEM, "no memory for a writer");
	w->r = r;
	init(w, o);
	if (open_all(w, o, e) < 0) {
		repo_writer_close(w, false);
		return e->code;
	}
	*ret = w;
	return 0;
}

/* --- errors ------------------------------------------------------------------------------------------------------- */

void writer_fail(struct repo_writer *w, const struct err *e)
{
	pthread_mutex_lock(&w->lock);
	if (w->failed.code == 0)
		w->failed = *e;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	workers_abort(w->seal, e);
}

static bool has_failed(struct repo_writer *w)
{
	bool failed;

	pthread_mutex_lock(&w->lock);
	failed = w->failed.code != 0;
	pthread_mutex_unlock(&w->lock);
	return failed;
}

int writer_check(struct repo_writer *w, struct err *e)
{
	int r;

	pthread_mutex_lock(&w->lock);
	r = w->failed.code;
	if (r)
		*e = w->failed;
	pthread_mutex_unlock(&w->lock);
	if (r == 0 && cancel_check(repo_cancel(w->r), e) < 0) {
		writer_fail(w, e);
		r = e->code;
	}
	return r;
}

/* What went wrong here stops the run; but if another stage failed before, that is the cause to tell. */
static int fail_here(struct repo_writer *w, struct err *e)
{
	writer_fail(w, e);
	pthread_mutex_lock(&w->lock);
	*e = w->failed;
	pthread_mutex_unlock(&w->lock);
	return e->code;
}

/* --- what is there ------------------------------------------------------------------------------------------------ */

int repo_writer_has(struct repo_writer *w, const struct id *id, struct err *e)
{
	struct chunk_place place;
	bool flying;
	int r;

	if (writer_check(w, e) < 0)
		return e->code;
	pthread_mutex_lock(&w->lock);
	flying = id_set_has(&w->in_flight, id);
	pthread_mutex_unlock(&w->lock);
	if (flying)
		return 1;
	/* an index to build upon leaves out deltas whose bases are gone */
	r = index_find(w->x, id, 0, &place, NULL, e);
	return r < 0 ? fail_here(w, e) : r;
}

/* --- adding ------------------------------------------------------------------------------------------------------- */

/* Takes plain. */
static int add(struct repo_writer *w, enum pack_kind kind, const char *domain, const struct id *id, void *plain,
	       size_t len, struct err *e)
{
	CLEANUP(free_ptr) void *owned = plain;
	int r = repo_writer_has(w, id, e);

	if (r != 0)
		return r < 0 ? r : 0;
	pthread_mutex_lock(&w->lock);
	r = id_set_add(&w->in_flight, id, e);
	if (r == 1 && kind == PACK_DATA) {
		w->stats.chunks_new++;
		w->stats.bytes_new += len;
	}
	pthread_mutex_unlock(&w->lock);
	if (r < 0 || writer_seal_add(w, kind, domain, id, STEAL(owned), len, e) < 0)
		return fail_here(w, e);
	return 0;
}

int repo_writer_add_chunk(struct repo_writer *w, const char *domain, const struct id *id, void *plain, struct err *e)
{
	if (domain && !repo_has_domain(w->r, domain)) {
		free(plain);
		return err_set(e, ERR_AUTH, "no key for the deduplication domain \"%s\"", domain);
	}
	return add(w, PACK_DATA, domain, id, plain, w->chunk_size, e);
}

int repo_writer_add_node(struct repo_writer *w, const uint8_t *encoded, size_t len, struct id *ret_id, struct err *e)
{
	struct id id;
	void *copy;
	int r;

	if (id_of_node(w->crypt, w->r, encoded, len, &id, e) < 0)
		return e->code;
	r = repo_writer_has(w, &id, e);
	if (r == 0) {
		copy = malloc(len);
		if (!copy)
			return err_set(e, ERR_NOMEM, "no memory for a tree node");
		memcpy(copy, encoded, len);
		r = add(w, PACK_NODES, NULL, &id, copy, len, e);
	}
	if (r < 0)
		return r;
	*ret_id = id;
	return 0;
}

static int emit_node(void *opaque, const uint8_t *encoded, size_t len, struct id *ret_id, struct err *e)
{
	return repo_writer_add_node(opaque, encoded, len, ret_id, e);
}

/* One chunk of p, padded with zeros, to its place in the tree. */
static int add_piece(struct repo_writer *w, struct tree_builder *b, uint64_t index, const uint8_t *p, size_t len,
		     struct err *e)
{
	CLEANUP(free_ptr) uint8_t *plain = NULL;
	struct id id;

	if (bytes_all_zero(p, len))
		return 0;
	plain = calloc(1, w->chunk_size);
	if (!plain)
		return err_set(e, ERR_NOMEM, "no memory for a chunk");
	memcpy(plain, p, len);
	if (id_of_chunk(w->crypt, w->r, NULL, plain, w->chunk_size, &id, e) < 0 ||
	    add(w, PACK_DATA, NULL, &id, STEAL(plain), w->chunk_size, e) < 0)
		return e->code;
	return tree_builder_set(b, index, &id, e);
}

int repo_writer_add_bytes(struct repo_writer *w, const void *p, size_t len, struct tree_ref *ret, struct err *e)
{
	struct tree_builder_opts o = { .size = len, .chunk_size = w->chunk_size, .emit = emit_node, .opaque = w };
	struct tree_builder *b = NULL;
	int r = 0;

	if (len > ADD_BYTES_MAX)
		return err_set(e, ERR_INVALID, "%zu bytes at once; at most %zu", len, ADD_BYTES_MAX);
	if (tree_builder_new(&o, &b, e) < 0)
		return e->code;
	for (size_t at = 0; r == 0 && at < len; at += w->chunk_size)
		r = add_piece(w, b, at / w->chunk_size, (const uint8_t *)p + at, min_size(w->chunk_size, len - at), e);
	if (r == 0)
		r = tree_builder_finish(b, ret, e);
	tree_builder_free(b);
	return r;
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

struct repo_reader *repo_writer_reader(struct repo_writer *w)
{
	return w->reader;
}

const struct protocol_view *repo_writer_view(const struct repo_writer *w)
{
	return session_view(w->session);
}

const struct session_id *repo_writer_session(const struct repo_writer *w)
{
	return session_id_of(w->session);
}

void repo_writer_stats(const struct repo_writer *w, struct repo_writer_stats *ret)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;	/* const is the caller's view */

	pthread_mutex_lock(lock);
	*ret = w->stats;
	pthread_mutex_unlock(lock);
}

/* --- flushing and closing ----------------------------------------------------------------------------------------- */

/* polite: an interruption ends it. */
static int flush(struct repo_writer *w, bool polite, struct err *e)
{
	uint64_t number = ++w->flushes;
	int r = 0;

	if (writer_seal_flush(w, number, e) < 0)
		return fail_here(w, e);
	pthread_mutex_lock(&w->lock);
	while (r == 0 && w->flushed < number && w->failed.code == 0) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 200000000;	/* to look at the cancel flag */
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&w->changed, &w->lock, &until);
		if (polite && cancel_requested(repo_cancel(w->r)))
			break;
	}
	if (w->failed.code) {
		*e = w->failed;
		r = e->code;
	}
	pthread_mutex_unlock(&w->lock);
	return r == 0 && polite ? writer_check(w, e) : r;
}

int repo_writer_flush(struct repo_writer *w, struct err *e)
{
	return writer_check(w, e) < 0 ? e->code : flush(w, true, e);
}

static void stop_threads(struct repo_writer *w)
{
	struct err stop = ERR_INIT;

	(void)err_set(&stop, ERR_CANCELLED, "closed");
	if (w->seal && !w->has_assembler)
		workers_abort(w->seal, &stop);
	else if (w->seal)
		writer_fail(w, &stop);
	if (w->has_assembler)
		pthread_join(w->assembler, NULL);
	for (unsigned i = 0; i < w->nuploaders; i++)
		pthread_join(w->uploader[i], NULL);
	workers_free(w->seal);
	w->seal = NULL;
}

/* The threads have ended: what is complete is put, and an index run names what is durable. */
static void salvage(struct repo_writer *w)
{
	struct err e = ERR_INIT, late = ERR_INIT;	/* whatever fails: the next run stores it again */

	for (unsigned k = 0; k < WRITER_KINDS; k++) {
		struct done_pack *d = NULL;

		if (writer_pack_finish(w, &w->pack[k], &d, &e) < 0)
			break;
		if (d) {
			*w->queue_tail = d;
			w->queue_tail = &d->next;
		}
	}
	while (w->queue && e.code == 0) {
		struct done_pack *d = w->queue;

		w->queue = d->next;
		if (writer_put_pack(w, d, &e) < 0)
			LOG_DEBUG("closing: %s: %s", d->name, e.cause);
		done_pack_free(d);
	}
	if (writer_put_run(w, true, &late) < 0)
		LOG_DEBUG("closing: index run: %s", late.cause);
}

static void free_all(struct repo_writer *w)
{
	crypt_free(w->crypt);
	repo_reader_free(w->reader);
	while (w->queue) {
		struct done_pack *d = w->queue;

		w->queue = d->next;
		done_pack_free(d);
	}
	for (unsigned k = 0; k < WRITER_KINDS; k++) {
		building_done(&w->building[k]);
		open_pack_done(&w->pack[k]);
	}
	for (unsigned i = 0; i < w->nspare; i++)
		free(w->spare[i]);
	for (size_t i = 0; i < w->domains.n; i++)
		free(w->domains.p[i]);
	VEC_DONE(&w->domains);
	id_set_done(&w->in_flight);
	index_free(w->x);
	session_free(w->session);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	pthread_mutex_destroy(&w->run_lock);
	free(w);
}

/* Without a commit.  An end marker frees collectors from waiting for the lease, but the next run looks for orphans only
 * in sessions that have none: so it is posted only when every pack put has a name in an index run. */
static void end_failed(struct repo_writer *w)
{
	struct err e = ERR_INIT;

	if (!w->session || w->ended || w->committed || w->evicted || w->outcome_unknown || w->unnamed)
		return;
	if (session_end(w->session, false, &e) < 0)	/* without it the lease runs out, no more */
		LOG_DEBUG("closing: end marker: %s", e.cause);
}

void repo_writer_close(struct repo_writer *w, bool save)
{
	struct err e = ERR_INIT;
	bool broken;

	if (!w)
		return;
	save = save && w->nuploaders && !w->committed && !w->outcome_unknown;
	if (save && !has_failed(w) && flush(w, false, &e) < 0)
		LOG_DEBUG("closing: %s", e.cause);
	pthread_mutex_lock(&w->lock);
	broken = w->failed.code == ERR_INTERNAL || w->evicted;	/* what memory or codec broke must not be sent */
	pthread_mutex_unlock(&w->lock);
	stop_threads(w);
	if (save && !broken)
		salvage(w);
	end_failed(w);
	free_all(w);
}
