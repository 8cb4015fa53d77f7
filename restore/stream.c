/*
 * stream.c - a stored byte string in rising order, zeros included: for pipes and for VM states.
 */
#include "restore/restore_internal.h"

#include "base/num.h"

#define ZERO_PIECE_BYTES ((uint64_t)16 << 20)	/* holes are large: progress and stopping in between */

/* One restore_stream call; the fetch delivers in order, from one thread. */
struct stream_job {
	struct restore *rs;
	const struct restore_stream *out;
	struct restore_result *res;
	uint64_t at, end;	/* next byte to hand out; where the range ends */
};

static int zeros_to(struct stream_job *j, uint64_t to, struct err *e)
{
	to = min_u64(to, j->end);
	while (j->at < to) {
		uint64_t n = min_u64(to - j->at, ZERO_PIECE_BYTES);

		if (j->out->zero(j->out->opaque, n, e) < 0 || cancel_check(j->rs->opts.cancel, e) < 0)
			return e->code;
		j->at += n;
		j->rs->done += n;
		restore_progress(j->rs, NULL);
	}
	return 0;
}

static int deliver(void *opaque, const struct fetch_item *it, size_t n, const uint8_t *plain, struct err *e)
{
	struct stream_job *j = opaque;
	int r = 0;

	for (size_t k; r >= 0 && n > 0; it += k, n -= k, plain += k * j->rs->chunk_size) {
		uint64_t start, len, part;

		k = restore_together(j->rs, it, n, j->end, &start, &len);
		r = zeros_to(j, start, e);
		if (r < 0)
			return r;
		/* at lies inside the first chunk: the range may begin in its middle */
		part = start + len - j->at;
		r = j->out->data(j->out->opaque, plain + (j->at - start), (size_t)part, e);
		j->at += part;
		j->res->bytes_written += part;
		j->rs->done += part;
		restore_progress(j->rs, NULL);
	}
	return r < 0 ? r : cancel_check(j->rs->opts.cancel, e);
}

static int failed(void *opaque, const struct fetch_item *it, struct err *e)
{
	struct stream_job *j = opaque;
	uint64_t start = it->tag * j->rs->chunk_size;

	/* Salvaged chunks become zeros with the next chunk delivered, or at the end. */
	return restore_note_damage(j->rs, j->res, start, min_u64(j->rs->chunk_size, j->end - start), e);
}

static int run(struct stream_job *j, const char *domain, struct tree_walk *walk, struct plan *p, struct err *e)
{
	const struct fetch_opts fo = {
		.threads = j->rs->opts.threads, .max_bytes = j->rs->fetch_bytes, .in_order = true, .failed = failed,
	};
	uint64_t fetched = 0;
	int more = 1;

	while (more) {
		int r;

		for (p->n = 0; p->n < p->max; p->n++) {
			struct fetch_item *it = &p->items[p->n];

			more = restore_walk_next(j->rs, j->res, walk, j->end, &it->tag, &it->id, e);
			if (more < 0)
				return more;
			if (more && it->tag * j->rs->chunk_size >= j->end)
				more = 0;
			if (!more)
				break;
		}
		r = repo_fetch(j->rs->reader, domain, p->items, p->n, &fo, deliver, j, &fetched, e);
		j->res->bytes_fetched += fetched;
		if (r < 0)
			return r;
	}
	return zeros_to(j, j->end, e);
}

int restore_stream(struct restore *rs, const char *domain, const struct tree_ref *t, uint64_t off, uint64_t len,
		   const struct restore_stream *out, struct restore_result *ret, struct err *e)
{
	struct node_source nodes = repo_reader_nodes(rs->reader);
	struct stream_job j = { .rs = rs, .out = out, .res = ret, .at = off };
	struct tree_walk *walk = NULL;
	struct plan p = { 0 };
	int r;

	if (!range_ok(off, len, t->size))
		return err_set(e, ERR_INVALID, "the range ends after the last byte");
	j.end = off + len;
	rs->total = len;
	rs->done = 0;
	r = plan_new(rs, &p, e);
	if (r == 0)
		r = tree_walk_new(&nodes, t, rs->chunk_size, off / rs->chunk_size, &walk, e);
	if (r == 0)
		r = run(&j, domain, walk, &p, e);
	tree_walk_free(walk);
	plan_done(&p);
	return r;
}
