/*
 * reader.c - chunks and nodes one at a time: place by the index, directory, segment, content, id.
 *
 * Nothing that the store says is believed: the id decides.  What fails is tried again from the next copy that the index
 * names; when no copy is left the index is loaded anew (a collector may have moved the chunk), at most once in a while.
 */
#include "repo/reader.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/protocol.h"
#include "repo/reader_internal.h"
#include "transport/store.h"

#define DEFAULT_BYTES ((size_t)96 << 20)
#define COPIES_MAX 16u		/* index_find tells no more apart */
#define RELOAD_AGAIN_S 10.0	/* a repository with many lost chunks must not be loaded anew for each */
#define IDLE_CODECS_MAX 16u

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
	LOG_DEBUG("reader: %zu bytes for what was read, %zu for the index", max_bytes - rd->index_bytes, rd->index_bytes);
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

/* Replaces *ri, in use by the caller, by a newer index.  1: done; 0: there is none, or it was too short a time ago. */
static int reload(struct repo_reader *rd, struct read_index **ri, struct err *e)
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

int read_begin(struct repo_reader *rd, enum pack_kind kind, const char *domain, struct read_ctx *ret, struct err *e)
{
	struct segment_codec *codec = NULL;

	if (kind == PACK_DATA && domain && !repo_has_domain(rd->r, domain))
		return err_set(e, ERR_AUTH, "no key for the deduplication domain \"%s\"", domain);
	pthread_mutex_lock(&rd->lock);
	if (rd->idle.n)
		codec = rd->idle.p[--rd->idle.n];
	pthread_mutex_unlock(&rd->lock);
	if (!codec && segment_codec_new(&codec, e) < 0)
		return e->code;
	*ret = (struct read_ctx){ .rd = rd, .codec = codec, .kind = kind, .domain = domain };
	return 0;
}

void read_end(struct read_ctx *c)
{
	struct segment_codec **slot = NULL;
	struct err e = ERR_INIT;

	if (!c->rd)
		return;
	pthread_mutex_lock(&c->rd->lock);
	if (c->rd->idle.n < IDLE_CODECS_MAX)
		slot = VEC_PUSH(&c->rd->idle, &e);	/* no memory: it is freed instead */
	if (slot)
		*slot = c->codec;
	pthread_mutex_unlock(&c->rd->lock);
	if (!slot)
		segment_codec_free(c->codec);
	memset(c, 0, sizeof(*c));
}

bool read_is_final(int code)
{
	return code == ERR_NOMEM || code == ERR_CANCELLED || code == ERR_AUTH || code == ERR_INTERNAL;
}

static void free_directory(void *p)
{
	directory_free(p);
}

static void free_segment(void *p)
{
	segment_free(p);
}

static size_t directory_bytes(const struct directory *d)
{
	return sizeof(*d) + d->keys.cap * sizeof(*d->keys.p) + d->segments.cap * sizeof(*d->segments.p) +
	       d->frames.cap * sizeof(*d->frames.p) + d->chunks.cap * sizeof(*d->chunks.p) +
	       d->bases.cap * sizeof(*d->bases.p);
}

static int key_of(const struct pack_info *pack, uint32_t segment, struct read_key *ret, struct err *e)
{
	struct object_name n;

	if (!object_name_parse(pack->name, &n))
		return err_set(e, ERR_INTERNAL, "pack without a name");
	ret->pack = n.hash;
	ret->segment = segment;
	return 0;
}

int read_directory(struct read_ctx *c, const struct pack_info *pack, struct read_ref **ret, struct err *e)
{
	struct directory *d = NULL;
	struct read_key key;
	struct read_ref *ref;

	if (key_of(pack, READ_KEY_DIRECTORY, &key, e) < 0)
		return e->code;
	ref = read_cache_get(c->rd->cache, &key);
	if (!ref) {
		if (pack_read_directory(c->rd->r, pack->name, pack->size, pack->envelope_off, pack->envelope_len, &d,
					e) < 0) {
			if (e->code == ERR_AUTH)	/* this pack's fault, not our key's: another copy may be good */
				e->code = ERR_CORRUPT;
			return e->code;
		}
		c->stored += pack->envelope_len;
		if (read_cache_add(c->rd->cache, &key, d, directory_bytes(d), free_directory, &ref, e) < 0)
			return e->code;
	}
	*ret = ref;
	return 0;
}

static int fetch_segment(struct read_ctx *c, const struct pack_info *pack, uint32_t index, struct segment **ret,
			 struct err *e)
{
	CLEANUP(free_ptr) uint8_t *sealed = NULL;
	struct read_ref *dir = NULL;
	const struct dir_segment *row;
	const struct directory *d;
	int r;

	if (read_directory(c, pack, &dir, e) < 0)
		return e->code;
	d = read_ref_value(dir);
	if (index < d->segments.n) {
		row = &d->segments.p[index];
		sealed = malloc(row->stored);	/* inside the pack: checked with the directory */
		r = sealed ? store_read(repo_store(c->rd->r), pack->name, sealed, row->stored, row->off, e)
			   : err_set(e, ERR_NOMEM, "no memory for a segment of %" PRIu32 " bytes", row->stored);
		if (r == 0) {
			c->stored += row->stored;
			r = segment_open(c->codec, c->rd->r, d, index, sealed, row->stored, ret, e);
		}
	} else {
		r = err_set(e, ERR_CORRUPT, "index names segment %" PRIu32 ", the pack has %zu", index, d->segments.n);
	}
	read_cache_unref(c->rd->cache, dir);
	return r;
}

static int hold_segment(struct read_ctx *c, const struct pack_info *pack, uint32_t index, struct read_ref **ret,
			struct err *e)
{
	struct segment *s = NULL;
	struct read_key key;
	struct read_ref *ref;

	if (key_of(pack, index, &key, e) < 0)
		return e->code;
	ref = read_cache_get(c->rd->cache, &key);
	if (!ref) {
		if (fetch_segment(c, pack, index, &s, e) < 0)
			return e->code;
		if (read_cache_add(c->rd->cache, &key, s, segment_bytes(s), free_segment, &ref, e) < 0)
			return e->code;
	}
	*ret = ref;
	return 0;
}

/* How far a delta chunk's bases may go: the outermost call's allowance. */
struct allowance {
	unsigned levels;
	struct segment_others *others;
};

static int copy_out(struct read_ctx *c, const struct segment *s, uint32_t chunk, const struct id *id,
		    const struct allowance *a, uint8_t *buf, size_t cap, size_t *ret_len, struct err *e)
{
	struct segment_bases bases = read_bases(c);
	size_t len;

	if (chunk >= segment_nchunks(s) || !id_eq(segment_chunk_id(s, chunk), id))
		return err_set(e, ERR_CORRUPT, "index and directory disagree on chunk %" PRIu32, chunk);
	len = segment_chunk_len(s, chunk);
	if (len > cap || (c->kind == PACK_DATA && len != c->rd->chunk_size))
		return err_set(e, ERR_CORRUPT, "chunk %" PRIu32 " has %zu bytes", chunk, len);
	if (segment_chunk(c->codec, s, chunk, &bases, a->levels, a->others, buf, e) < 0 ||
	    segment_verify(c->rd->r, c->kind, c->domain, id, buf, len, e) < 0)
		return e->code;
	*ret_len = len;
	return 0;
}

static int read_place(struct read_ctx *c, const struct pack_info *pack, const struct chunk_place *p,
		      const struct id *id, const struct allowance *a, uint8_t *buf, size_t cap, size_t *ret_len,
		      struct err *e)
{
	struct read_ref *ref = NULL;
	int r;

	if (pack->kind != c->kind)
		return err_set(e, ERR_CORRUPT, "index names a pack of the other kind");
	if (hold_segment(c, pack, p->segment, &ref, e) < 0)
		return e->code;
	r = copy_out(c, read_ref_value(ref), p->chunk, id, a, buf, cap, ret_len, e);
	read_cache_unref(c->rd->cache, ref);
	return r < 0 ? err_ctx(e, "segment %" PRIu32, p->segment) : 0;
}

/* What one thread wants of read_copies. */
struct wanted {
	const struct id *id;
	struct allowance a;
	uint8_t *buf;
	size_t cap, len;	/* len: set on success */
	bool named;		/* an index run names the id */
};

static bool place_eq(const struct chunk_place *a, const struct chunk_place *b)
{
	return a->pack == b->pack && a->segment == b->segment && a->chunk == b->chunk;
}

/* Tries the copies that one index names.  *e is the first failure. */
static int read_copies(struct read_ctx *c, struct read_index *ri, struct wanted *w, struct err *e)
{
	char hex[2 * ID_BYTES + 1];
	struct err first = ERR_INIT, one = ERR_INIT;
	struct chunk_place place, quick = { 0 };
	struct pack_info pack;
	unsigned copies = 0;
	int r;

	for (unsigned nth = 0; nth <= COPIES_MAX; nth++) {
		r = index_find(ri->x, w->id, nth, &place, NULL, &one);
		if (r <= 0)
			break;
		if (nth && place_eq(&place, &quick))	/* nth 0 is one of those that follow */
			continue;
		quick = nth ? quick : place;
		w->named = true;
		copies++;
		pack = *index_pack(ri->x, place.pack);
		r = read_place(c, &pack, &place, w->id, &w->a, w->buf, w->cap, &w->len, &one);
		if (r == 0)
			return 0;
		(void)err_ctx(&one, "pack %s", pack.name);
		if (first.code == 0 || read_is_final(r))
			first = one;
		if (read_is_final(r))
			break;
		err_clear(&one);
	}
	if (first.code == 0)
		first = one;
	text_hex(w->id->b, ID_BYTES, hex);
	if (first.code == 0)
		return err_set(e, ERR_NOTFOUND, "%s %s is in no index run",
			       c->kind == PACK_NODES ? "tree node" : "chunk", hex);
	*e = first;
	return copies > 1 ? err_ctx(e, "chunk %s: none of %u copies is good; the first", hex, copies)
			  : err_ctx(e, "chunk %s", hex);
}

static int read_wanted(struct read_ctx *c, struct wanted *w, struct err *e)
{
	struct read_index *ri = read_index_hold(c->rd);
	struct err ignored = ERR_INIT;	/* a reload that fails leaves the first failure to tell */
	int r = read_copies(c, ri, w, e);

	if (r < 0 && !read_is_final(r) && reload(c->rd, &ri, &ignored) == 1) {
		err_clear(e);
		w->named = false;
		r = read_copies(c, ri, w, e);
	}
	if (r == ERR_NOTFOUND && w->named)	/* a pack that a run names has gone: damage, not an ordinary answer */
		r = e->code = ERR_CORRUPT;
	read_index_drop(c->rd, ri);
	return r;
}

static int get_base(void *opaque, const struct id *id, unsigned levels, struct segment_others *others, uint8_t *buf,
		    size_t len, struct err *e)
{
	struct wanted w = { .id = id, .a = { .levels = levels, .others = others }, .buf = buf, .cap = len };

	if (read_wanted(opaque, &w, e) < 0)
		return err_ctx(e, "base");
	return w.len == len ? 0 : err_set(e, ERR_CORRUPT, "base has %zu bytes", w.len);
}

struct segment_bases read_bases(struct read_ctx *c)
{
	return (struct segment_bases){ .get = get_base, .opaque = c };
}

int read_item(struct read_ctx *c, const struct id *id, uint8_t *buf, size_t cap, size_t *ret_len, struct err *e)
{
	struct segment_others others = { 0 };
	struct wanted w = { .id = id, .a = { .levels = DELTA_DEPTH_MAX, .others = &others }, .buf = buf, .cap = cap };

	if (read_wanted(c, &w, e) < 0)
		return e->code;
	*ret_len = w.len;
	return 0;
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
