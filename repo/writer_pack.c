/*
 * writer_pack.c - sealed segments become packs: one thread appends them in the order in which they were submitted, and
 * closes a pack when the next segment would make it larger than it should be.
 */
#include <sodium.h>

#include "base/num.h"
#include "repo/repo_internal.h"
#include "repo/writer_internal.h"

/* Lengths of a directory's parts, docs/format.md 6.2. */
#define DIR_HEAD_BYTES 56u
#define DIR_KEY_BYTES (4u + BOX_BYTES)
#define DIR_SEGMENT_BYTES 40u
#define DIR_FRAME_BYTES 12u
#define DIR_CHUNK_BYTES 44u
/* An envelope under the index key is at most so much longer than its payload, before its own padding. */
#define ENVELOPE_MORE_BYTES (16u + AEAD_BYTES + 84u)

void done_pack_free(struct done_pack *d)
{
	if (!d)
		return;
	free(d->bytes);
	VEC_DONE(&d->sums.p);
	directory_free(d->dir);
	free(d);
}

void open_pack_done(struct open_pack *p)
{
	buf_done(&p->bytes);
	directory_free(p->dir);
	VEC_DONE(&p->sums.p);
	p->dir = NULL;
	sha256_done(&p->hash);
}

/* Takes in what has been appended.  A pack is hashed as it grows: hashed at its end, it would hold up the sealers for
 * as long as that takes. */
static int hash_more(struct open_pack *p, struct err *e)
{
	if (sha256_add(&p->hash, p->bytes.p + p->hashed, p->bytes.len - p->hashed, e) < 0)
		return e->code;
	p->hashed = p->bytes.len;
	return 0;
}

static size_t row_bytes(const struct segment_sealed *s)
{
	return DIR_SEGMENT_BYTES + s->frames.n * DIR_FRAME_BYTES + s->chunks.n * DIR_CHUNK_BYTES +
	       s->bases.n * ID_BYTES;
}

/* What the object would be at most with more bytes of segments and directory. */
static uint64_t total_with(const struct open_pack *p, size_t segment, size_t row)
{
	return padme(p->bytes.len + segment + padme(p->payload + row + ENVELOPE_MORE_BYTES) + TRAILER_BYTES);
}

static bool fits(const struct repo_writer *w, const struct open_pack *p, const struct segment_sealed *s)
{
	size_t target = w->plan.pack_target[p->kind - 1];

	return p->dir->chunks.n + s->chunks.n <= CHUNKS_PER_PACK(target) &&
	       total_with(p, s->len, row_bytes(s) + DIR_KEY_BYTES) <= target;
}

void writer_pack_recycle(struct repo_writer *w, struct done_pack *d)
{
	pthread_mutex_lock(&w->lock);
	if (d->kind == PACK_DATA && d->cap == w->plan.pack_target[PACK_DATA - 1] && w->nspare < w->plan.uploaders)
		w->spare[w->nspare++] = STEAL(d->bytes);
	pthread_mutex_unlock(&w->lock);
	done_pack_free(d);
}

/* Of just the size that the plan counts with: a buffer that grows by itself is up to twice as large. */
static int buffer_new(struct repo_writer *w, enum pack_kind kind, struct buf *b, struct err *e)
{
	size_t target = w->plan.pack_target[kind - 1];

	buf_init(b, PACK_MAX_BYTES);
	pthread_mutex_lock(&w->lock);
	if (kind == PACK_DATA && w->nspare)
		b->p = w->spare[--w->nspare];
	pthread_mutex_unlock(&w->lock);
	if (!b->p)
		b->p = malloc(target);
	if (!b->p)
		return err_set(e, ERR_NOMEM, "no memory for a pack of %zu bytes", target);
	b->cap = target;
	return 0;
}

static int begin(struct repo_writer *w, struct open_pack *p, enum pack_kind kind, struct err *e)
{
	p->kind = kind;
	p->dir = calloc(1, sizeof(*p->dir));
	if (!p->dir)
		return err_set(e, ERR_NOMEM, "no memory for a pack");
	p->dir->kind = kind;
	p->dir->slot = *repo_own_slot(w->r);
	p->dir->session = *session_id_of(w->session);
	randombytes_buf(p->dir->salt, SALT_BYTES);
	p->payload = DIR_HEAD_BYTES;
	p->sums.p.n = 0;
	p->hashed = 0;
	if (buffer_new(w, kind, &p->bytes, e) < 0 || sha256_begin(w->r->sha256, &p->hash, e) < 0) {
		open_pack_done(p);	/* there is nothing in it to be saved */
		return e->code;
	}
	return 0;
}

/* The row of a key, added when it is new.  Keys come in order, so the last rows are the likely ones. */
static int key_row(struct open_pack *p, const struct pack_key *k, uint32_t *ret, struct err *e)
{
	struct dir_key *row;

	for (size_t i = p->dir->keys.n; i > 0; i--) {
		row = &p->dir->keys.p[i - 1];
		if (row->generation == k->generation && memcmp(row->sealed, k->sealed, BOX_BYTES) == 0) {
			*ret = (uint32_t)(i - 1);
			return 0;
		}
	}
	row = VEC_PUSH(&p->dir->keys, e);
	if (!row)
		return e->code;
	row->generation = k->generation;
	memcpy(row->sealed, k->sealed, BOX_BYTES);
	p->payload += DIR_KEY_BYTES;
	*ret = (uint32_t)(p->dir->keys.n - 1);
	return 0;
}

static int append(struct repo_writer *w, const struct seal_job *job, struct err *e)
{
	struct open_pack *p = &w->pack[job->kind - 1];
	struct done_pack *done = NULL;
	struct segment_in_pack *at;
	uint32_t key = 0;

	if (p->dir && !fits(w, p, &job->sealed)) {
		if (writer_pack_finish(w, p, &done, e) < 0 || writer_put_queue(w, done, e) < 0)
			return e->code;
	}
	if (!p->dir && begin(w, p, job->kind, e) < 0)
		return e->code;
	if (key_row(p, &job->key, &key, e) < 0 ||
	    segment_add_row(p->dir, &job->sealed, p->bytes.len, key, repo_own_slot(w->r), e) < 0 ||
	    buf_add(&p->bytes, job->sealed.bytes, job->sealed.len, e) < 0)
		return e->code;
	p->payload += row_bytes(&job->sealed);
	at = VEC_PUSH(&p->sums.p, e);
	if (!at)
		return e->code;
	*at = (struct segment_in_pack){ p->bytes.len - job->sealed.len, job->sealed.len, job->sealed.sums };
	return hash_more(p, e);
}

/* Padding, directory and trailer behind the segments. */
static int close_bytes(struct repo_writer *w, struct open_pack *p, struct err *e)
{
	CLEANUP(buf_done) struct buf payload, envelope;
	struct trailer t = { .kind = p->kind };
	uint64_t bare;
	uint8_t *at;

	buf_init(&payload, PAYLOAD_MAX_BYTES);
	buf_init(&envelope, 2 * (size_t)PAYLOAD_MAX_BYTES);
	if (directory_encode(p->dir, &payload, e) < 0 ||
	    envelope_seal(w->r, OBJECT_DIRECTORY, payload.p, payload.len, &envelope, e) < 0)
		return e->code;
	bare = p->bytes.len + envelope.len + TRAILER_BYTES;
	at = buf_extend(&p->bytes, (size_t)(padme(bare) - bare), e);
	if (!at)
		return e->code;
	randombytes_buf(at, (size_t)(padme(bare) - bare));
	t.envelope_off = p->bytes.len;
	t.envelope_len = (uint32_t)envelope.len;
	memcpy(t.salt, p->dir->salt, SALT_BYTES);
	if (buf_add(&p->bytes, envelope.p, envelope.len, e) < 0)
		return e->code;
	at = buf_extend(&p->bytes, TRAILER_BYTES, e);
	if (!at)
		return e->code;
	trailer_encode(&t, at);
	return 0;
}

/* The pack is one that memory, or a codec, has changed since its segments were verified. */
static int spoilt(struct err *e)
{
	char text[ERR_CAUSE_BYTES / 2];

	if (e->code == ERR_NOMEM)
		return e->code;
	if (e->code) {
		err_text(e, text, sizeof(text));
		(void)err_set(e, ERR_INTERNAL, "memory or codec error: a pack does not come back as it went in: %s",
			      text);
		return err_hint(e, "It was not stored.  Test this computer's memory before you trust it with backups.");
	}
	return sum_error(e, "a pack");
}

int writer_pack_same(const struct done_pack *d, const char *what, struct err *e)
{
	for (size_t i = 0; i < d->sums.p.n; i++) {
		const struct segment_in_pack *s = &d->sums.p.p[i];

		if (sum_check(d->bytes + s->off, s->len, &s->sums.bytes, what, e) < 0)
			return e->code;
	}
	return sum_check(d->bytes + d->tail, d->len - d->tail, &d->tail_sum, what, e);
}

/* What the directory that was read back says of segment i. */
static bool row_is(const struct directory *dir, size_t i, const struct segment_in_pack *want)
{
	const struct dir_segment *s = &dir->segments.p[i];
	const struct dir_key *k = &dir->keys.p[s->key];
	struct sum key = pack_key_row_sum(k->generation, k->sealed);

	return s->off == want->off && s->stored == want->len && sum_eq(&key, &want->sums.key) &&
	       want->sums.rows == segment_rows_sum(dir->frames.p + s->first_frame, s->nframes,
						   dir->chunks.p + s->first_chunk, s->nchunks, dir->bases.p, s->birth,
						   s->stored);
}

int writer_pack_read_back(struct repo_writer *w, struct done_pack *d, struct err *e)
{
	struct trailer t;

	directory_free(STEAL(d->dir));	/* it may be tried again */
	if (repo_keys_check(w->r, e) < 0 || writer_pack_same(d, "a pack", e) < 0)
		return e->code;
	if (trailer_decode(d->bytes + d->len - TRAILER_BYTES, d->len, &t, e) < 0 ||
	    pack_open_directory(w->r, d->name, d->bytes + t.envelope_off, &t, &d->dir, e) < 0)
		return spoilt(e);
	d->envelope_off = t.envelope_off;
	d->envelope_len = t.envelope_len;
	index_sums_of(d->name, d->len, t.envelope_off, t.envelope_len, d->dir, &d->index);
	if (d->dir->segments.n != d->sums.p.n)
		return spoilt(e);
	for (size_t i = 0; i < d->sums.p.n; i++)
		if (!row_is(d->dir, i, &d->sums.p.p[i]))
			return spoilt(e);
	return 0;
}

int writer_pack_finish(struct repo_writer *w, struct open_pack *p, struct done_pack **ret, struct err *e)
{
	struct object_name n = { .type = p->kind == PACK_DATA ? OBJECT_DATA_SEGMENT : OBJECT_NODE_SEGMENT };
	struct done_pack *d;

	if (!p->dir) {
		*ret = NULL;
		return 0;
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(e, ERR_NOMEM, "no memory for a pack");
	if (close_bytes(w, p, e) < 0) {
		free(d);
		return err_ctx(e, "closing a pack");
	}
	d->tail = p->hashed;
	d->tail_sum = sum_of(p->bytes.p + d->tail, p->bytes.len - d->tail);
	if (hash_more(p, e) < 0 || sha256_end(&p->hash, &n.hash, e) < 0) {
		done_pack_free(d);
		return err_ctx(e, "closing a pack");
	}
	directory_free(STEAL(p->dir));
	d->sums = p->sums;
	p->sums = (struct segment_list){ 0 };
	d->kind = p->kind;
	d->cap = p->bytes.cap;
	d->bytes = buf_take(&p->bytes, &d->len);
	n.slot = *repo_own_slot(w->r);
	n.session = *session_id_of(w->session);
	object_name_text(&n, d->name);
	*ret = d;
	return 0;
}

/* --- the assembler ------------------------------------------------------------------------------------------------ */

static int finish_all(struct repo_writer *w, struct err *e)
{
	for (unsigned k = 0; k < WRITER_KINDS; k++) {
		struct done_pack *done = NULL;

		if (writer_pack_finish(w, &w->pack[k], &done, e) < 0 || (done && writer_put_queue(w, done, e) < 0))
			return e->code;
	}
	return 0;
}

/* All that came before becomes durable and named. */
static int flush(struct repo_writer *w, uint64_t number, struct err *e)
{
	if (finish_all(w, e) < 0)
		return e->code;
	pthread_mutex_lock(&w->lock);
	while (w->npending && w->failed.code == 0)
		pthread_cond_wait(&w->changed, &w->lock);
	if (w->failed.code)
		*e = w->failed;
	pthread_mutex_unlock(&w->lock);
	if (e->code)
		return e->code;
	if (writer_put_run(w, true, e) < 0)
		return e->code;
	pthread_mutex_lock(&w->lock);
	w->flushed = number;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

void *writer_assembler(void *arg)
{
	struct repo_writer *w = arg;
	struct err e = ERR_INIT;
	void *item;
	int r;

	while ((r = workers_next(w->seal, &item, &e)) == 1) {
		struct seal_job *job = item;

		r = job->flush ? flush(w, job->flush, &e) : append(w, job, &e);
		seal_job_free(job);
		if (r < 0)
			break;
	}
	if (r < 0)
		writer_fail(w, &e);
	pthread_mutex_lock(&w->lock);
	w->assembled = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}
