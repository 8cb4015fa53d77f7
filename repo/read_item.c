/*
 * read_item.c - chunks and nodes one at a time: place by the index, directory, segment, content, id.
 *
 * Nothing that the store says is believed: the id decides.  What fails is tried again from the next copy that the index
 * names; when no copy is left the index is loaded anew (a collector may have moved the chunk), at most once in a while.
 */
#include <inttypes.h>

#include "base/num.h"
#include "base/text.h"
#include "repo/reader_internal.h"
#include "transport/store.h"

#define COPIES_MAX 16u		/* index_find tells no more apart */
#define IDLE_CODECS_MAX 16u

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
	return code == ERR_NOMEM || code == ERR_CANCELLED || code == ERR_REFUSED || code == ERR_AUTH || code == ERR_INTERNAL;
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
	    segment_verify(c->codec, c->rd->r, c->kind, c->domain, id, buf, len, e) < 0)
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

	if (r < 0 && !read_is_final(r) && read_index_reload(c->rd, &ri, &ignored) == 1) {
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
