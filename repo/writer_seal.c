/*
 * writer_seal.c - chunks and nodes are collected to segments, which are sealed by worker threads.
 *
 * What goes into which segment, and which segment under which key, is decided here, by counting plain bytes in the
 * order of the calls: so the layout does not depend on the number of threads.
 */
#include <sodium.h>

#include "base/num.h"
#include "repo/writer_internal.h"

static void free_items(struct segment_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free((void *)(uintptr_t)items[i].plain);	/* owned: const is the sealer's view */
	free(items);
}

void seal_job_free(void *p)
{
	struct seal_job *job = p;

	if (!job)
		return;
	free_items(job->items, job->nitems);
	segment_sealed_done(&job->sealed);
	sodium_memzero(&job->key, sizeof(job->key));
	free(job);
}

void building_done(struct building *b)
{
	free_items(b->items.p, b->items.n);
	memset(&b->items, 0, sizeof(b->items));
	sodium_memzero(&b->key, sizeof(b->key));
}

/* --- the sealers -------------------------------------------------------------------------------------------------- */

static int codec_new(void *opaque, void **ret, struct err *e)
{
	struct segment_codec *c = NULL;

	(void)opaque;
	if (segment_codec_new(&c, e) < 0)
		return e->code;
	*ret = c;
	return 0;
}

static void codec_free(void *codec)
{
	segment_codec_free(codec);
}

static int seal_run(void *codec, void *item, struct err *e)
{
	struct seal_job *job = item;
	struct repo_writer *w = job->w;

	if (job->flush)
		return 0;
	if (segment_seal(codec, w->r, &job->key, job->birth, job->items, job->nitems, w->level, &job->sealed, e) < 0)
		return err_ctx(e, "sealing");
	if (pack_key_check(&job->key, e) < 0)	/* what a changed key sealed it also opens, and nobody else */
		return err_ctx(e, "sealing");
	free_items(job->items, job->nitems);	/* what waits to be assembled need not hold both forms */
	job->items = NULL;
	job->nitems = 0;
	return 0;
}

int writer_seal_start(struct repo_writer *w, struct err *e)
{
	struct workers_opts o = { .name = "kedge-seal",
				  .threads = w->plan.threads,
				  .max_bytes = w->plan.seal_bytes,
				  .run = seal_run,
				  .local_new = codec_new,
				  .local_free = codec_free,
				  .item_free = seal_job_free };

	w->building[PACK_DATA - 1].kind = PACK_DATA;
	w->building[PACK_NODES - 1].kind = PACK_NODES;
	return workers_new(&o, &w->seal, e);
}

/* --- the caller's side -------------------------------------------------------------------------------------------- */

/* A key seals about one pack's worth of plain bytes. */
static int use_key(struct repo_writer *w, struct building *b, struct err *e)
{
	if (b->has_key && b->key_bytes < w->plan.pack_target[b->kind - 1])
		return 0;
	b->has_key = false;
	if (pack_key_new(w->r, b->kind, &b->key, e) < 0)
		return e->code;
	b->has_key = true;
	b->birth = 0;
	b->key_bytes = 0;
	return 0;
}

static int submit(struct repo_writer *w, struct building *b, struct err *e)
{
	struct seal_job *job;
	size_t bytes = b->bytes;

	if (b->items.n == 0)
		return 0;
	if (use_key(w, b, e) < 0)
		return e->code;
	job = calloc(1, sizeof(*job));
	if (!job)
		return err_set(e, ERR_NOMEM, "no memory for a segment");
	job->w = w;
	job->kind = b->kind;
	job->key = b->key;
	job->birth = b->birth++;
	job->items = b->items.p;
	job->nitems = b->items.n;
	memset(&b->items, 0, sizeof(b->items));
	b->key_bytes += bytes;
	b->bytes = 0;
	return workers_submit(w->seal, job, 2 * bytes, e);	/* plain and, for a moment, sealed */
}

static const char *intern_domain(struct repo_writer *w, const char *domain, struct err *e)
{
	char **slot, *copy;

	for (size_t i = 0; i < w->domains.n; i++)
		if (strcmp(w->domains.p[i], domain) == 0)
			return w->domains.p[i];
	copy = strdup(domain);
	slot = copy ? VEC_PUSH(&w->domains, e) : NULL;
	if (!slot) {
		free(copy);
		(void)err_set(e, ERR_NOMEM, "no memory for a domain's name");
		return NULL;
	}
	*slot = copy;
	return copy;
}

int writer_seal_add(struct repo_writer *w, enum pack_kind kind, const char *domain, const struct id *id, void *plain,
		    size_t len, struct err *e)
{
	struct building *b = &w->building[kind - 1];
	CLEANUP(free_ptr) void *owned = plain;
	struct segment_item *it;
	bool full = b->items.n && (b->bytes + len > w->segment_size || b->items.n == SEGMENT_MAX_ITEMS);

	if (full && submit(w, b, e) < 0)
		return e->code;
	if (domain && !(domain = intern_domain(w, domain, e)))
		return e->code;
	it = VEC_PUSH(&b->items, e);
	if (!it)
		return e->code;
	it->id = *id;
	it->domain = domain;
	it->plain = STEAL(owned);
	it->len = (uint32_t)len;
	b->bytes += len;
	if (kind == PACK_DATA && w->single_chunk_segments)
		return submit(w, b, e);
	return 0;
}

int writer_seal_flush(struct repo_writer *w, uint64_t flush, struct err *e)
{
	struct seal_job *job;

	for (unsigned k = 0; k < WRITER_KINDS; k++)
		if (submit(w, &w->building[k], e) < 0)
			return e->code;
	job = calloc(1, sizeof(*job));
	if (!job)
		return err_set(e, ERR_NOMEM, "no memory for a flush");
	job->w = w;
	job->flush = flush;
	return workers_submit(w->seal, job, 0, e);
}
