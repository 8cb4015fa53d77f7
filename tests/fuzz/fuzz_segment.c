/*
 * fuzz_segment.c - a hostile directory and the plaintext of a segment, sealed with the right key: what a writer with a
 * key could store.  Input: u16 length of the directory, the directory, the frames of its first segment.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "repo/segment_internal.h"
#include "transport/registry.h"

#define CHUNK CHUNK_MIN_BYTES
#define PASSWORD "fuzz"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Made once: a key derivation for each input would be all that is fuzzed. */
struct world {
	struct store *store;
	struct repo *r;
	struct segment_codec *codec;
	struct crypt *crypt;
	struct pack_key key[2];
};

static const struct world *the_world(void)
{
	static struct world w;
	struct repo_init_opts o = { .chunk_size = CHUNK, .argon_passes = 1, .argon_kib = 8192 };
	struct repo_open_opts open = { 0 };
	struct secret *secret = NULL, *recovery = NULL;
	struct err e = ERR_INIT;

	if (w.r)
		return &w;
	check(store_mem_new(&w.store, &e) == 0 &&
	      secret_new(SECRET_PASSPHRASE, PASSWORD, sizeof(PASSWORD) - 1, &secret, &e) == 0 &&
	      repo_init(w.store, secret, &o, &recovery, &e) == 0 && repo_open(w.store, secret, &open, &w.r, &e) == 0 &&
	      segment_codec_new(&w.codec, &e) == 0 && crypt_new(&w.crypt, &e) == 0 &&
	      pack_key_new(w.r, PACK_DATA, &w.key[0], &e) == 0 && pack_key_new(w.r, PACK_NODES, &w.key[1], &e) == 0);
	secret_free(secret);
	secret_free(recovery);
	return &w;
}

struct ctx {
	const struct world *w;
	const struct segment *s;
	unsigned calls;
};

/* Every base is chunk 0 of the same segment, or zeros when that is asked to be of another length. */
static int get_base(void *opaque, const struct id *id, unsigned levels, struct segment_others *others, uint8_t *buf,
		    size_t len, struct err *e)
{
	struct ctx *c = opaque;
	struct segment_bases bases = { get_base, c };

	check(++c->calls <= SEGMENT_FETCHES_MAX && levels < DELTA_DEPTH_MAX && len <= CHUNK_MAX_BYTES);
	memset(buf, 0, len);
	if (id->b[0] & 1 || segment_chunk_len(c->s, 0) != len)
		return 0;
	return segment_chunk(c->w->codec, c->s, 0, &bases, levels, others, buf, e);
}

static void read_chunks(const struct world *w, const struct segment *s)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(CHUNK > NODE_MAX_BYTES ? CHUNK : NODE_MAX_BYTES);
	uint32_t n = segment_nchunks(s) < 64 ? segment_nchunks(s) : 64;

	check(buf != NULL);
	for (uint32_t i = 0; i < n; i++) {
		struct ctx c = { w, s, 0 };
		struct segment_bases bases = { get_base, &c };
		struct segment_others others = { 0 };
		struct err e = ERR_INIT;

		if (segment_chunk(w->codec, s, i, &bases, DELTA_DEPTH_MAX, &others, buf, &e) < 0)
			check(e.code < 0 && e.cause[0]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL;
	CLEANUP(segment_free_cleanup) struct segment *s = NULL;
	CLEANUP(free_ptr) uint8_t *sealed = NULL;
	const struct world *w = the_world();
	struct err e = ERR_INIT;
	struct rd rd = rd_of(data, size), dir;
	const struct pack_key *k;
	struct dir_key *row;
	uint16_t len;

	if (!rd_le16(&rd, &len) || !rd_window(&rd, len, &dir) ||
	    directory_decode(dir.p, dir.left, 64 * MIB, &d, &e) < 0)
		return 0;
	/* Sealed rightly, whatever it holds. */
	k = &w->key[d->kind == PACK_NODES];
	row = &d->keys.p[d->segments.p[0].key];
	row->generation = k->generation;
	memcpy(row->sealed, k->sealed, BOX_BYTES);
	sealed = malloc(rd.left + AEAD_BYTES);
	check(sealed != NULL);
	check(segment_aead_seal(w->crypt, w->r, k, d->segments.p[0].birth, rd.p, rd.left, sealed, &e) == 0);
	if (segment_open(w->codec, w->r, d, 0, sealed, rd.left + AEAD_BYTES, &s, &e) < 0) {
		check(e.code < 0 && e.cause[0] && !s);
		return 0;
	}
	check(segment_bytes(s) < 2 * (size_t)SEGMENT_MAX_BYTES + ((size_t)2 << 20));
	read_chunks(w, s);
	return 0;
}
