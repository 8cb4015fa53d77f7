/*
 * build.c - one state's tree: what equals the base is kept, what became zero is cut out, what differs is read and
 * stored.
 */
#include <string.h>

#include "base/num.h"
#include "repo/ingest/ingest_internal.h"
#include "repo/object.h"

struct build {
	struct run *run;
	const struct plan_disk *d;
	struct plan_state *st;
	bool vm_state;
	uint64_t size;
	bool fresh;			/* there is nothing that a zero chunk would have to be cut out of */
	struct tree_builder *tree;
	struct err *source;		/* why the source can't be read */
};

static struct item item_of(const struct build *b, enum item_kind kind)
{
	return (struct item){
		.kind = kind, .image = b->st->image, .state = b->st->index, .vm_state = b->vm_state, .size = b->size
	};
}

static int put_chunk(struct build *b, uint64_t index, const uint8_t *chunk, const struct id *id, struct err *e)
{
	uint32_t len = b->run->p->chunk_size;
	int r = repo_writer_has(b->run->w, id, e);

	if (r == 0) {
		uint8_t *copy = malloc(len);

		if (!copy)
			return err_set(e, ERR_NOMEM, "no memory for a chunk");
		memcpy(copy, chunk, len);
		r = repo_writer_add_chunk(b->run->w, "default", id, copy, e);
	}
	return r < 0 ? r : tree_builder_set(b->tree, index, id, e);
}

static int put_read(struct build *b, const struct item *it, struct err *e)
{
	for (uint64_t i = it->from; i < it->to; i++) {
		size_t k = (size_t)(i - it->from);

		if (it->zero[k] ? !b->fresh && tree_builder_set(b->tree, i, NULL, e) < 0 :
				  put_chunk(b, i, it->buf + k * it->chunk_size, &it->ids[k], e) < 0)
			return e->code;
	}
	return 0;
}

/* A chunk that the earlier tree names has no copy that may be built upon: it is read from the image. */
static int read_lost(struct build *b, uint64_t index, struct err *e)
{
	struct run *run = b->run;
	uint32_t chunk_size = run->p->chunk_size;
	CLEANUP(free_ptr) uint8_t *buf = calloc(1, chunk_size);
	size_t len = (size_t)plan_bytes(b->size, chunk_size, index, index + 1);
	uint64_t off = index * chunk_size;
	struct id id;
	int r;

	if (!buf)
		return err_set(e, ERR_NOMEM, "no memory for a chunk");
	r = b->vm_state ? image_pread_vm_state(b->st->image, b->st->index, buf, len, off, e) :
			  image_pread(b->st->image, b->st->index, buf, len, off, e);
	if (r < 0) {
		if (ingest_fatal(r))
			return r;
		*b->source = *e;
		err_clear(e);
		return 0;
	}
	pipe_count(run->pipe, len, chunk_size);
	if (id_of_chunk(run->crypt, run->p->r, NULL, buf, chunk_size, &id, e) < 0)
		return e->code;
	return put_chunk(b, index, buf, &id, e);
}

static int take(void *opaque, struct item *it, struct err *e)
{
	struct build *b = opaque;

	if (b->source->code)
		return 0;	/* the state is lost: what follows is for nothing */
	if (it->kind == ITEM_ZERO)
		return tree_builder_zero(b->tree, it->from, it->to, e);
	if (it->failed.code) {
		*b->source = it->failed;
		return 0;
	}
	return put_read(b, it, e);
}

/* Puts in what the maps say. */
static int feed_grid(struct build *b, const struct plan_state *base, struct err *e)
{
	struct item read = item_of(b, ITEM_READ), zero = item_of(b, ITEM_ZERO);
	struct map mb, mn;
	struct chunk_run run;
	struct grid g;
	int r;

	plan_state_map(b->st, &mn);
	if (base)
		plan_state_map(base, &mb);
	if (grid_init(&g, base ? &mb : NULL, &mn, b->run->p->chunk_size, 0, UINT64_MAX, e) < 0)
		return e->code;
	while (!b->source->code && (r = grid_next(&g, &run, e)) != 0) {
		if (r < 0) {
			if (ingest_fatal(r))
				return r;
			*b->source = *e;
			err_clear(e);
			break;
		}
		if (run.kind == RUN_READ)
			r = pipe_put(b->run->pipe, &read, run.from, run.to, e);
		else if (run.kind == RUN_ZERO)
			r = pipe_put(b->run->pipe, &zero, run.from, run.to, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Builds what feed_x puts in, and lets go of it when it fails. */
static int finish(struct build *b, int r, struct tree_ref *ret, struct err *e)
{
	struct err unheard = ERR_INIT;

	if (r >= 0 && !b->source->code)
		r = pipe_drain(b->run->pipe, e);
	if (r < 0 || b->source->code) {
		if (pipe_discard(b->run->pipe, &unheard) < 0 && r >= 0) {
			*e = unheard;
			r = e->code;
		}
		return r;
	}
	return tree_builder_finish(b->tree, ret, e);
}

static int begin(struct build *b, const struct tree_ref *base, struct err *e)
{
	struct nodes *n = b->run->nodes;
	struct tree_builder_opts o = {
		.size = b->size,
		.chunk_size = b->run->p->chunk_size,
		.base = base,
		.src = base ? nodes_source(n) : NULL,
		.emit = nodes_emit,
		.opaque = n,
	};

	b->fresh = !base || !base->has_root;
	pipe_aim(b->run->pipe, b->d->d->name, b->d->d->chain, take, b);
	return tree_builder_new(&o, &b->tree, e);
}

int build_state(struct run *run, const struct plan_disk *d, struct plan_state *st, const struct plan_state *base,
		struct err *e)
{
	struct build b = { .run = run, .d = d, .st = st, .size = st->size, .source = &st->failed };
	int r = begin(&b, base ? &base->tree : NULL, e);

	if (r >= 0)
		r = finish(&b, feed_grid(&b, base, e), &st->tree, e);
	tree_builder_free(b.tree);
	return r;
}

static uint64_t chunks_of(const struct build *b)
{
	return div_up(b->size, b->run->p->chunk_size);
}

int build_vm_state(struct run *run, const struct plan_disk *d, struct plan_state *st, struct err *e)
{
	struct build b = { .run = run, .d = d, .st = st, .vm_state = true, .source = &st->failed };
	struct item like;
	int r;

	b.size = image_state(st->image, st->index)->vm_state_bytes;
	like = item_of(&b, ITEM_READ);
	r = begin(&b, NULL, e);
	if (r >= 0)
		r = finish(&b, pipe_put(run->pipe, &like, 0, chunks_of(&b), e), &st->vm_state, e);
	tree_builder_free(b.tree);
	return r;
}

static int copy_chunks(struct build *b, struct tree_walk *walk, struct err *e)
{
	uint64_t index;
	struct id id;
	int r;

	while (!b->source->code && (r = tree_walk_next(walk, &index, &id, e)) != 0) {
		if (r > 0)
			r = repo_writer_has(b->run->w, &id, e);
		if (r > 0)
			r = tree_builder_set(b->tree, index, &id, e);
		else if (r == 0)
			r = read_lost(b, index, e);
		if (r < 0 || cancel_check(b->run->p->o->cancel, e) < 0)
			return e->code;
	}
	return 0;
}

int build_copy(struct run *run, const struct plan_disk *d, struct plan_state *st, const struct tree_ref *from,
	       bool vm_state, struct tree_ref *ret, struct err *e)
{
	struct build b = {
		.run = run, .d = d, .st = st, .vm_state = vm_state, .size = from->size, .source = &st->failed
	};
	struct tree_walk *walk = NULL;
	int r = tree_walk_new(nodes_source(run->nodes), from, run->p->chunk_size, 0, &walk, e);

	if (r >= 0)
		r = begin(&b, NULL, e);
	if (r >= 0)
		r = finish(&b, copy_chunks(&b, walk, e), ret, e);
	tree_builder_free(b.tree);
	tree_walk_free(walk);
	return r;
}
