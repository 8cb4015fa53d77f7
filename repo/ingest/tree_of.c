/* tree_of.c - the tree that an image's content would have in a repository: read whole, stored nowhere. */
#include "repo/ingest/ingest_internal.h"
#include "repo/object.h"

struct tree_of {
	struct repo *repo;
	struct crypt *crypt;
	struct tree_builder *tree;
};

static int emit(void *opaque, const uint8_t *encoded, size_t len, struct id *ret_id, struct err *e)
{
	const struct tree_of *t = opaque;

	return id_of_node(t->crypt, t->repo, encoded, len, ret_id, e);
}

static int take(void *opaque, struct item *it, struct err *e)
{
	struct tree_of *t = opaque;

	if (it->failed.code) {
		*e = it->failed;
		return e->code;
	}
	for (uint64_t i = it->from; i < it->to; i++)
		if (!it->zero[i - it->from] && tree_builder_set(t->tree, i, &it->ids[i - it->from], e) < 0)
			return e->code;
	return 0;
}

static int read_all(struct ingest_plan *p, struct tree_of *t, struct chain *chain, struct err *e)
{
	CLEANUP(pipe_free_cleanup) struct pipe *pipe = NULL;
	const struct item like = {
		.kind = ITEM_READ, .image = chain->image, .size = chain->image->states[0].size
	};
	struct map map;
	struct chunk_run run;
	struct grid g;
	int r;

	map_init(&map, chain->image, 0);
	if (pipe_new(p, NULL, &pipe, e) < 0 || grid_init(&g, NULL, &map, p->chunk_size, 0, UINT64_MAX, e) < 0)
		return e->code;
	pipe_aim(pipe, "backing file", chain, take, t);
	while ((r = grid_next(&g, &run, e)) > 0)
		if (run.kind == RUN_READ && pipe_put(pipe, &like, run.from, run.to, e) < 0)
			return e->code;
	return r < 0 ? r : pipe_drain(pipe, e);
}

int ingest_tree_of(struct repo *r, struct chain *chain, const struct ingest_opts *o, struct tree_ref *ret,
		   struct err *e)
{
	struct ingest_plan p = { .r = r, .opts = *o, .chunk_size = repo_config(r)->chunk_size };
	struct tree_of t = { .repo = r };
	const struct tree_builder_opts bo = {
		.size = chain->image->states[0].size, .chunk_size = p.chunk_size, .emit = emit, .opaque = &t
	};
	int rc;

	p.o = &p.opts;
	p.bytes_total = bo.size;
	if (crypt_new(&t.crypt, e) < 0)
		return e->code;
	rc = tree_builder_new(&bo, &t.tree, e);
	if (rc == 0)
		rc = read_all(&p, &t, chain, e);
	if (rc == 0)
		rc = chain_check_unchanged(chain, e);
	if (rc == 0)
		rc = tree_builder_finish(t.tree, ret, e);
	tree_builder_free(t.tree);
	crypt_free(t.crypt);
	return rc;
}
