/*
 * reader.c - a reader's life, its index and the loading of a newer one, and what is read by way of it: nodes, chunks,
 * byte strings.
 */
#include "repo/reader.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "repo/protocol.h"
#include "repo/reader_internal.h"

#define DEFAULT_BYTES ((size_t)96 << 20)
#define RELOAD_AGAIN_S 10.0	/* a repository with many lost chunks must not be loaded anew for each */

static int reader_new(struct repo *r, size_t cache_bytes, struct repo_reader **ret, struct err *e)
{
	struct repo_reader *rd = calloc(1, sizeof(*rd));

	if (!rd)
		return err_set(e, ERR_NOMEM, "no memory for a reader");
	rd->r = r;
	rd->chunk_size = repo_config(r)->chunk_size;
	pthread_mutex_init(&rd->lock, NULL);	/* cannot fail with default attributes */
	pthread_mutex_init(&rd->reload_lock, NULL);
	if (read_cache_new(cache_bytes, &rd->cache, e) < 0) {
		repo_reader_free(rd);
		return e->code;
	}
	*ret = rd;
	return 0;
}

static void index_done(struct read_index *ri)
{
	if (ri->owned) {
		index_free(ri->x);
		protocol_free(ri->view);
	}
	free(ri);
}

/* unnamed: something was not found where the runs say, so a run may be lost. */
static int load_index(struct repo_reader *rd, bool unnamed, struct read_index **ret, struct err *e)
{
	struct index_opts o = { .max_bytes = rd->index_bytes, .unnamed = unnamed };
	struct read_index *ri = calloc(1, sizeof(*ri));

	if (!ri)
		return err_set(e, ERR_NOMEM, "no memory for an index");
	ri->owned = true;
	ri->refs = 1;
	if (protocol_load(rd->r, false, &ri->view, e) < 0 || index_load(rd->r, ri->view, &o, &ri->x, NULL, e) < 0) {
		index_done(ri);
		return e->code;
	}
	*ret = ri;
	return 0;
}

int repo_reader_new(struct repo *r, size_t max_bytes, struct repo_reader **ret, struct err *e)
{
	struct repo_reader *rd = NULL;

	if (max_bytes == 0)
		max_bytes = DEFAULT_BYTES;
	if (reader_new(r, max_bytes - max_bytes / 3, &rd, e) < 0)
		return e->code;
	rd->index_bytes = max_bytes / 3;
	LOG_DEBUG("reader: %zu bytes for what was read, %zu for the index", max_bytes - rd->index_bytes,
		  rd->index_bytes);
	if (load_index(rd, false, &rd->index, e) < 0) {
		repo_reader_free(rd);
		return e->code;
	}
	*ret = rd;
	return 0;
}

int repo_reader_on(struct repo *r, struct index *x, size_t max_bytes, struct repo_reader **ret, struct err *e)
{
	struct repo_reader *rd = NULL;

	if (reader_new(r, max_bytes ? max_bytes : DEFAULT_BYTES, &rd, e) < 0)
		return e->code;
	rd->index = calloc(1, sizeof(*rd->index));
	if (!rd->index) {
		repo_reader_free(rd);
		return err_set(e, ERR_NOMEM, "no memory for a reader");
	}
	*rd->index = (struct read_index){ .x = x, .refs = 1 };
	*ret = rd;
	return 0;
}

void repo_reader_free(struct repo_reader *rd)
{
	if (!rd)
		return;
	for (size_t i = 0; i < rd->idle.n; i++)
		segment_codec_free(rd->idle.p[i]);
	VEC_DONE(&rd->idle);
	if (rd->index)
		read_index_drop(rd, rd->index);
	read_cache_free(rd->cache);
	pthread_mutex_destroy(&rd->reload_lock);
	pthread_mutex_destroy(&rd->lock);
	free(rd);
}

struct index *repo_reader_index(struct repo_reader *rd)
{
	struct index *x;

	pthread_mutex_lock(&rd->lock);
	x = rd->index->x;
	pthread_mutex_unlock(&rd->lock);
	return x;
}

struct read_index *read_index_hold(struct repo_reader *rd)
{
	struct read_index *ri;

	pthread_mutex_lock(&rd->lock);
	ri = rd->index;
	ri->refs++;
	pthread_mutex_unlock(&rd->lock);
	return ri;
}

void read_index_drop(struct repo_reader *rd, struct read_index *ri)
{
	bool last;

	pthread_mutex_lock(&rd->lock);
	last = --ri->refs == 0;
	pthread_mutex_unlock(&rd->lock);
	if (last)
		index_done(ri);
}

int read_index_reload(struct repo_reader *rd, struct read_index **ri, struct err *e)
{
	struct read_index *fresh = NULL, *old;
	int r = 0;

	if (!(*ri)->owned)
		return 0;
	pthread_mutex_lock(&rd->reload_lock);
	if (rd->index == *ri && (rd->reloaded == 0 || clock_mono() - rd->reloaded >= RELOAD_AGAIN_S)) {
		r = load_index(rd, true, &fresh, e);
		if (r == 0) {
			pthread_mutex_lock(&rd->lock);
			old = rd->index;
			rd->index = fresh;
			rd->reloaded = clock_mono();
			pthread_mutex_unlock(&rd->lock);
			read_index_drop(rd, old);
		}
	}
	if (r == 0 && rd->index != *ri) {
		read_index_drop(rd, *ri);
		*ri = read_index_hold(rd);
		r = 1;
	}
	pthread_mutex_unlock(&rd->reload_lock);
	return r;
}

static int get_node(void *opaque, const struct id *id, uint8_t *buf, size_t *ret_len, struct err *e)
{
	struct read_ctx c = { 0 };
	int r;

	if (read_begin(opaque, PACK_NODES, NULL, &c, e) < 0)
		return e->code;
	r = read_item(&c, id, buf, NODE_MAX_BYTES, ret_len, e);
	read_end(&c);
	return r;
}

struct node_source repo_reader_nodes(struct repo_reader *rd)
{
	return (struct node_source){ .get = get_node, .opaque = rd };
}

int repo_reader_chunk(struct repo_reader *rd, const char *domain, const struct id *id, void *buf, struct err *e)
{
	struct read_ctx c = { 0 };
	size_t len;
	int r;

	if (read_begin(rd, PACK_DATA, domain, &c, e) < 0)
		return e->code;
	r = read_item(&c, id, buf, rd->chunk_size, &len, e);
	read_end(&c);
	return r;
}

/* The part of chunk index that lies in [off, off+len) goes to its place in buf; scratch takes a whole chunk. */
static int pread_chunk(struct read_ctx *c, uint64_t index, const struct id *id, uint8_t *buf, size_t len, uint64_t off,
		       uint8_t *scratch, struct err *e)
{
	uint64_t start = index * c->rd->chunk_size, from = max_u64(start, off),
		 to = min_u64(start + c->rd->chunk_size, off + len);
	bool whole = to - from == c->rd->chunk_size;
	uint8_t *at = buf + (from - off);
	size_t got;

	if (read_item(c, id, whole ? at : scratch, c->rd->chunk_size, &got, e) < 0)
		return e->code;
	if (!whole)
		memcpy(at, scratch + (from - start), (size_t)(to - from));
	return 0;
}

int repo_reader_pread(struct repo_reader *rd, const char *domain, const struct tree_ref *t, void *buf, size_t len,
		      uint64_t off, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *scratch = NULL;
	struct node_source nodes = repo_reader_nodes(rd);
	struct tree_walk *w = NULL;
	struct read_ctx c = { 0 };
	uint64_t index;
	struct id id;
	int r;

	if (!range_ok(off, len, t->size))
		return err_set(e, ERR_INVALID, "read of %zu bytes at %" PRIu64 " of %" PRIu64, len, off, t->size);
	memset(buf, 0, len);
	if (len == 0 || !t->has_root)
		return 0;
	scratch = malloc(rd->chunk_size);
	if (!scratch)
		return err_set(e, ERR_NOMEM, "no memory for a chunk");
	if (read_begin(rd, PACK_DATA, domain, &c, e) < 0)
		return e->code;
	r = tree_walk_new(&nodes, t, rd->chunk_size, off / rd->chunk_size, &w, e);
	while (r >= 0) {
		r = tree_walk_next(w, &index, &id, e);
		if (r <= 0 || index > (off + len - 1) / rd->chunk_size)
			break;
		r = pread_chunk(&c, index, &id, buf, len, off, scratch, e);
	}
	tree_walk_free(w);
	read_end(&c);
	return r < 0 ? r : 0;
}
