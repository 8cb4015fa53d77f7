/*
 * check_data.c - packs read whole: the hash against the name, every segment opened, every chunk decoded and its id
 * computed.
 *
 * A pack goes once through a window of a segment's size.  Where that fails to read, the segments are read one by one,
 * so that a bad spot of a disk costs what lies on it.
 */
#include <inttypes.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/workers.h"
#include "repo/check_internal.h"
#include "repo/reader_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define THREAD_BYTES ((size_t)16 << 20) /* window, opened and decoded segment, codec */

struct pack_job {
	struct check *c;
	const struct pack_info *pack;
	uint32_t number;
	struct id hash; /* in its name */
	bool hash_bad, lost; /* lost: nothing of it can be read */
	VEC(struct bad_place) bad;
	uint64_t bad_chunks, chunks;
	char first[ERR_CAUSE_BYTES]; /* the first thing that was wrong */
	char unread[ERR_CAUSE_BYTES]; /* why it could not be read as a whole, or "" */
};

static void job_free(void *p)
{
	struct pack_job *j = p;

	VEC_DONE(&j->bad);
	free(j);
}

/* Bytes of a pack in rising order, hashed as they pass. */
struct stream {
	struct repo *r;
	struct cancel *cancel;
	const struct pack_info *pack;
	uint8_t *p;
	size_t cap, len;
	uint64_t start; /* offset of p[0] */
	bool broken; /* could not be read to its end: no hash */
	char why[ERR_CAUSE_BYTES]; /* broken: the first failure */
	struct sha256_run h;
};

static void stream_done(struct stream *s)
{
	free(s->p);
	sha256_done(&s->h);
}

static int stream_room(struct stream *s, size_t cap, struct err *e)
{
	uint8_t *p;

	if (cap <= s->cap)
		return 0;
	p = realloc(s->p, cap);
	if (!p)
		return err_set(e, ERR_NOMEM, "%zu bytes of a pack", cap);
	s->p = p;
	s->cap = cap;
	return 0;
}

/* Drops what lies before off and reads until len bytes from there are in the window. */
static int stream_forward(struct stream *s, uint64_t off, size_t len, struct err *e)
{
	/* a directory that is another pack's has its segments elsewhere */
	if (!range_ok(off, len, s->pack->size))
		return err_set(e, ERR_CORRUPT, "%s: a segment at %" PRIu64 " in a pack of %" PRIu64 " bytes",
			       s->pack->name, off, s->pack->size);
	if (stream_room(s, len + PIECE_BYTES, e) < 0)
		return e->code;
	while (s->start + s->len < off + len) {
		uint64_t end = s->start + s->len;
		size_t drop = (size_t)min_u64(off > s->start ? off - s->start : 0, s->len);
		size_t n;

		memmove(s->p, s->p + drop, s->len - drop);
		s->len -= drop;
		s->start += drop;
		n = (size_t)min_u64(s->cap - s->len, s->pack->size - end);
		if (n > PIECE_BYTES)
			n = PIECE_BYTES;
		if (cancel_check(s->cancel, e) < 0)
			return e->code;
		if (store_read(repo_store(s->r), s->pack->name, s->p + s->len, n, end, e) < 0 ||
		    sha256_add(&s->h, s->p + s->len, n, e) < 0)
			return e->code;
		s->len += n;
	}
	return 0;
}

/* Bytes [off, off+len), valid until the next call; off does not fall. */
static int stream_get(struct stream *s, uint64_t off, size_t len, const uint8_t **ret, struct err *e)
{
	if (!s->broken && stream_forward(s, off, len, e) == 0) {
		*ret = s->p + (off - s->start);
		return 0;
	}
	if (!s->broken && (check_is_final(e->code) || e->code == ERR_NOTFOUND))
		return e->code;
	if (!s->broken)
		err_text(e, s->why, sizeof(s->why));
	s->broken = true;
	s->len = 0;
	if (stream_room(s, len, e) < 0 || store_read(repo_store(s->r), s->pack->name, s->p, len, off, e) < 0)
		return e->code;
	*ret = s->p;
	return 0;
}

static int note(struct pack_job *j, uint32_t segment, uint32_t chunk, uint64_t chunks, struct err *e)
{
	struct bad_place *p;
	struct err none = ERR_INIT;

	if (check_is_final(e->code))
		return e->code;
	if (!j->first[0])
		err_text(e, j->first, sizeof(j->first));
	err_clear(e);
	p = VEC_PUSH(&j->bad, &none);
	if (!p) {
		*e = none;
		return e->code;
	}
	*p = (struct bad_place){ .pack = j->number, .segment = segment, .chunk = chunk };
	j->bad_chunks += chunks;
	return 0;
}

/* A chunk belongs to one of the domains; the pack does not say which. */
static int verify_chunk(struct read_ctx *ctx, const struct segment *s, uint32_t i, uint8_t *buf, struct err *e)
{
	const struct keyring *keys = ctx->rd->r->keys;
	const uint8_t *plain = segment_chunk_peek(s, i);
	int rc = 0;

	for (uint32_t d = 0; d < keys->ndomains; d++) {
		struct segment_bases bases = read_bases(ctx);
		struct segment_others others = { 0 };

		ctx->domain = keys->domains[d].name;
		err_clear(e);
		rc = plain ? 0 : segment_chunk(ctx->codec, s, i, &bases, DELTA_DEPTH_MAX, &others, buf, e);
		if (rc == 0)
			rc = segment_verify(ctx->codec, ctx->rd->r, ctx->kind, ctx->domain, segment_chunk_id(s, i),
					    plain ? plain : buf, segment_chunk_len(s, i), e);
		if (rc == 0 || check_is_final(rc) || ctx->kind == PACK_NODES)
			break;
	}
	return rc;
}

static int check_segment(struct pack_job *j, struct read_ctx *ctx, const struct directory *d, uint32_t number,
			 const uint8_t *sealed, struct err *e)
{
	CLEANUP(segment_free_cleanup) struct segment *s = NULL;
	CLEANUP(free_ptr) uint8_t *buf = malloc(CHUNK_MAX_BYTES);
	const struct dir_segment *row = &d->segments.p[number];

	if (!buf)
		return err_set(e, ERR_NOMEM, "chunk");
	if (segment_open(ctx->codec, j->c->r, d, number, sealed, row->stored, &s, e) < 0)
		return note(j, number, CHECK_ALL_CHUNKS, row->nchunks, e);
	for (uint32_t i = 0; i < row->nchunks; i++) {
		j->chunks++;
		if (verify_chunk(ctx, s, i, buf, e) < 0 && note(j, number, i, 1, e) < 0)
			return e->code;
	}
	return 0;
}

struct by_offset {
	uint64_t off;
	uint32_t segment;
};

static int cmp_offset(const void *a, const void *b)
{
	const struct by_offset *x = a, *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

static bool may_open(const struct check *c, enum pack_kind kind)
{
	return repo_own_role(c->r) == ROLE_FULL || (kind == PACK_NODES && repo_own_role(c->r) == ROLE_MAINTAIN);
}

static int check_segments(struct pack_job *j, struct stream *st, const struct directory *d, struct err *e)
{
	CLEANUP(free_ptr) struct by_offset *order = calloc(d->segments.n, sizeof(*order));
	CLEANUP(read_end) struct read_ctx ctx = { 0 };

	if (!order)
		return err_set(e, ERR_NOMEM, "segments of a pack");
	if (read_begin(j->c->rd, d->kind, NULL, &ctx, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < d->segments.n; i++)
		order[i] = (struct by_offset){ d->segments.p[i].off, i };
	qsort(order, d->segments.n, sizeof(*order), cmp_offset);
	for (size_t i = 0; i < d->segments.n; i++) {
		const struct dir_segment *row = &d->segments.p[order[i].segment];
		const uint8_t *sealed = NULL;
		int rc;

		if (cancel_check(j->c->cancel, e) < 0)
			return e->code;
		if (stream_get(st, row->off, row->stored, &sealed, e) < 0)
			rc = note(j, order[i].segment, CHECK_ALL_CHUNKS, row->nchunks, e);
		else
			rc = check_segment(j, &ctx, d, order[i].segment, sealed, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The rest of the pack, for the hash. */
static int check_hash(struct pack_job *j, struct stream *st, struct err *e)
{
	struct id is;

	while (!st->broken && st->start + st->len < j->pack->size) {
		uint64_t end = st->start + st->len;

		if (cancel_check(j->c->cancel, e) < 0)
			return e->code;
		if (stream_forward(st, end, (size_t)min_u64(PIECE_BYTES, j->pack->size - end), e) == 0)
			continue;
		if (check_is_final(e->code))
			return e->code;
		st->broken = true;
		err_text(e, st->why, sizeof(st->why));
		err_clear(e);
	}
	memcpy(j->unread, st->why, sizeof(j->unread));
	if (sha256_end(&st->h, &is, e) < 0)
		return e->code;
	j->hash_bad = st->broken || !id_eq(&is, &j->hash);
	return 0;
}

static int run_job(void *local, void *item, struct err *e)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL;
	struct pack_job *j = item;
	CLEANUP(stream_done) struct stream st = { .r = j->c->r, .cancel = j->c->cancel, .pack = j->pack };
	struct object_name n;

	(void)local;
	if (!object_name_parse(j->pack->name, &n))
		return err_set(e, ERR_INTERNAL, "%s: not the name of a pack", j->pack->name);
	j->hash = n.hash;
	if (sha256_begin(j->c->r->sha256, &st.h, e) < 0)
		return e->code;
	if (pack_read_directory(j->c->r, j->pack->name, j->pack->size, j->pack->envelope_off, j->pack->envelope_len, &d,
				e) < 0) {
		if (check_is_final(e->code))
			return e->code;
		j->lost = true;
		err_text(e, j->first, sizeof(j->first));
		err_clear(e);
		return 0;
	}
	if (stream_room(&st, PIECE_BYTES, e) < 0 || (may_open(j->c, d->kind) && check_segments(j, &st, d, e) < 0))
		return e->code;
	return check_hash(j, &st, e);
}

static int report_job(struct check *c, const struct pack_job *j, struct err *e)
{
	c->res.packs_read++;
	c->res.bytes_read += j->pack->size;
	c->res.chunks_read += j->chunks;
	if (!j->lost && !j->hash_bad && !j->bad.n)
		return 0;
	c->res.packs_damaged++;
	if (j->lost) {
		c->bad_pack[j->number] = true;
		return check_find(c, CHECK_DAMAGE, "pack-damaged", j->pack->name, e, "its directory can't be read: %s",
				  j->first);
	}
	for (size_t i = 0; i < j->bad.n; i++)
		if (check_bad_place(c, j->number, j->bad.p[i].segment, j->bad.p[i].chunk, NULL, e) < 0)
			return e->code;
	if (j->bad.n)
		return check_find(c, CHECK_DAMAGE, "pack-damaged", j->pack->name, e,
				  "%" PRIu64 " of its chunks can't be read; the first: %s", j->bad_chunks, j->first);
	if (!may_open(c, j->pack->kind) && j->unread[0])
		return check_find(c, CHECK_DAMAGE, "pack-damaged", j->pack->name, e, "it can't be read: %s", j->unread);
	if (!may_open(c, j->pack->kind))
		return check_find(
			c, CHECK_DAMAGE, "pack-damaged", j->pack->name, e,
			"its bytes are not those that its name promises; what that touches only a full key can tell");
	if (j->unread[0])
		return check_find(c, CHECK_WARNING, "pack-unread", j->pack->name, e,
				  "its chunks could be read and are good, but not all of it in one go: %s", j->unread);
	return check_find(c, CHECK_DAMAGE, "pack-altered", j->pack->name, e,
			  "its bytes are not those that its name promises, but every chunk in it is good%s%s",
			  j->first[0] ? ": " : "", j->first);
}

struct chosen {
	uint64_t rank;
	uint32_t pack;
};

static int cmp_rank(const void *a, const void *b)
{
	const struct chosen *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return (x->pack > y->pack) - (x->pack < y->pack);
}

/* The packs to read, in the order of the draw that the seed makes of their names. */
static int choose(struct check *c, struct chosen **ret, size_t *ret_n, uint64_t *ret_bytes, struct err *e)
{
	struct chosen *p = calloc(c->npacks + 1u, sizeof(*p));
	uint64_t bytes = 0;
	size_t n = 0;

	if (!p)
		return err_set(e, ERR_NOMEM, "%" PRIu32 " packs", c->npacks);
	for (uint32_t i = 0; i < c->npacks; i++) {
		const struct pack_info *k = index_pack(c->x, i);

		if (k->usable && c->size[i] && !c->bad_pack[i])
			p[n++] = (struct chosen){ XXH3_64bits_withSeed(k->name, strlen(k->name), c->o.seed), i };
	}
	if (c->o.read == CHECK_READ_PERCENT) {
		qsort(p, n, sizeof(*p), cmp_rank);
		n = (size_t)div_up((uint64_t)n * c->o.percent, 100);
	}
	for (size_t i = 0; i < n; i++)
		bytes += index_pack(c->x, p[i].pack)->size;
	*ret = p;
	*ret_n = n;
	*ret_bytes = bytes;
	return 0;
}

static int take_one(struct check *c, struct workers *w, struct progress_state *ps, struct err *e)
{
	void *item = NULL;
	int rc = workers_next(w, &item, e);

	if (rc <= 0)
		return rc;
	rc = report_job(c, item, e);
	ps->done = c->res.bytes_read;
	ps->what = ((struct pack_job *)item)->pack->name;
	progress_update(c->o.progress, ps);
	job_free(item);
	return rc < 0 ? rc : 1;
}

static int read_all(struct check *c, struct workers *w, const struct chosen *p, size_t n, struct progress_state *ps,
		    struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc >= 0; i++) {
		struct pack_job *j;

		while (rc >= 0 && workers_full(w))
			rc = take_one(c, w, ps, e);
		if (rc < 0)
			break;
		j = calloc(1, sizeof(*j));
		if (!j)
			return err_set(e, ERR_NOMEM, "check of a pack");
		j->c = c;
		j->number = p[i].pack;
		j->pack = index_pack(c->x, p[i].pack);
		rc = workers_submit(w, j, 1, e);
	}
	workers_close(w);
	if (rc < 0)
		return rc;
	do {
		rc = take_one(c, w, ps, e);
	} while (rc > 0);
	return rc;
}

int check_data(struct check *c, struct err *e)
{
	CLEANUP(free_ptr) struct chosen *p = NULL;
	struct workers_opts o = { .name = "check",
				  .threads = c->o.threads ? c->o.threads : workers_cpus(),
				  .run = run_job,
				  .item_free = job_free };
	struct progress_state ps = { .phase = "reading" };
	struct workers *w = NULL;
	size_t n = 0;
	int rc;

	if (!may_open(c, PACK_DATA) &&
	    check_find(c, CHECK_INFO, "content-unread", NULL, e,
		       "the key in use can't open content: only the hashes of packs are compared") < 0)
		return e->code;
	if (choose(c, &p, &n, &ps.total, e) < 0)
		return e->code;
	if (o.threads > c->budget / 2 / THREAD_BYTES)
		o.threads = (unsigned)(c->budget / 2 / THREAD_BYTES);
	o.max_bytes = 2 * (size_t)o.threads; /* items, not bytes: what an item costs is the thread's */
	if (workers_new(&o, &w, e) < 0)
		return e->code;
	rc = read_all(c, w, p, n, &ps, e);
	workers_free(w);
	return rc < 0 ? rc : 0;
}
