/*
 * segment.h - chunks into sealed segments and back (docs/format.md, 6.1 and 6.2), checked on both ways.  Private to
 * repo/.
 *
 * Sealing opens and decodes what it has sealed into fresh memory and computes every id anew from that before anything
 * can be sent: a flipped bit in memory or a codec's bug must not reach the storage.  Opening trusts nothing: sizes are
 * bounded before anything is allocated or decoded.
 *
 * Threads: one struct segment_codec per thread; struct segment is constant once opened, any thread may read it with its
 * own codec.
 */
#ifndef KEDGE_REPO_SEGMENT_H
#define KEDGE_REPO_SEGMENT_H

#include "repo/pack.h"

/* A thread's contexts of zstd and libcrypto, and buffers.  Grows with use to segment_codec_bytes(), never beyond. */
struct segment_codec;
MUST_CHECK int segment_codec_new(struct segment_codec **ret, struct err *e);
void segment_codec_free(struct segment_codec *c);	/* wipes its key; NULL is fine */
DEFINE_CLEANUP(struct segment_codec, segment_codec_free)
/* Upper bound in bytes of one codec that seals segments of at most segment_bytes at a zstd level (0 = off: also right
 * for codecs that only open), the sealed result not included.  Sealing delta chunks may take 13 MiB more. */
size_t segment_codec_bytes(int level, size_t segment_bytes);

/* One chunk or node to seal.  Everything is borrowed during the call. */
struct segment_item {
	struct id id;
	const char *domain;		/* whose id key made id; NULL = "default"; nodes: not looked at */
	const uint8_t *plain;
	uint32_t len;
	/* A delta chunk: compressed with the bases' contents, one after the other, as prefix.  nbases 0: a full chunk.
	 * One that gains nothing by it is stored as a full chunk: see the result's chunks. */
	uint8_t nbases, depth;
	struct id bases[BASES_MAX];
	const uint8_t *prefix;
	uint32_t prefix_len;		/* at most BASES_MAX_BYTES */
};

/* Of what was verified: the bytes, what the directory says of them, the row of their key. */
struct segment_sums {
	struct sum bytes, key;
	uint64_t rows;
};
/* A sealed segment and what the directory says of it. */
struct segment_sealed {
	struct segment_sums sums;
	uint8_t *bytes;			/* malloc'ed */
	size_t len;
	uint64_t birth;
	enum pack_kind kind;
	VEC(struct dir_frame) frames;
	VEC(struct dir_chunk) chunks;	/* in the order of the items; first_base counts in bases below */
	VEC(struct id) bases;
};
void segment_sealed_done(struct segment_sealed *s);	/* frees what it holds; safe on a zeroed struct */

/*
 * Seals n items (1 to SEGMENT_MAX_ITEMS, together at most SEGMENT_MAX_BYTES) as the birth'th segment of the key: full
 * chunks in one frame, each delta in one of its own.  level: zstd's, 0 = raw frames.  Birth numbers MUST NOT be used
 * twice with a key.  Data items are exactly the chunk size, nodes at most NODE_MAX_BYTES, else ERR_INVALID.  What does
 * not come back as it went in: ERR_INTERNAL ("memory or codec error"): nothing of this process should be sent any more.
 */
MUST_CHECK int segment_seal(struct segment_codec *c, struct repo *r, const struct pack_key *k, uint64_t birth,
			    const struct segment_item *items, size_t n, int level, struct segment_sealed *ret,
			    struct err *e);
/* Adds a sealed segment as the next row of a directory that is being made: at off in the pack, under the directory's
 * key row given, first sealed by sealer. */
MUST_CHECK int segment_add_row(struct directory *d, const struct segment_sealed *s, uint64_t off, uint32_t key,
			       const struct slot_id *sealer, struct err *e);

/* The sum of what a directory says of a segment: chunks' first_base counts in bases. */
uint64_t segment_rows_sum(const struct dir_frame *frames, size_t nframes, const struct dir_chunk *chunks,
			  size_t nchunks, const struct id *bases, uint64_t birth, uint64_t stored);

/* A segment, opened: frames without bases are decoded, delta frames are kept until a chunk of theirs is asked for. */
struct segment;
/* Opens the bytes of segment index of directory d (which may go away after).  Damaged, or not as the directory says:
 * ERR_CORRUPT; a key that this slot does not hold: ERR_AUTH. */
MUST_CHECK int segment_open(struct segment_codec *c, struct repo *r, const struct directory *d, uint32_t index,
			    const void *sealed, size_t len, struct segment **ret, struct err *e);
void segment_free(struct segment *s);	/* NULL is fine */
DEFINE_CLEANUP(struct segment, segment_free)
size_t segment_bytes(const struct segment *s);		/* memory it holds */
uint32_t segment_nchunks(const struct segment *s);
/* Chunk i (< segment_nchunks): its id, plain length and depth. */
const struct id *segment_chunk_id(const struct segment *s, uint32_t i);
uint32_t segment_chunk_len(const struct segment *s, uint32_t i);
unsigned segment_chunk_depth(const struct segment *s, uint32_t i);
/* The content of a full chunk inside s; NULL for a delta chunk.  Not verified. */
const uint8_t *segment_chunk_peek(const struct segment *s, uint32_t i);

/*
 * How delta chunks get their bases.  get writes the verified content of chunk id of the same domain (exactly len bytes,
 * the chunk size) to buf.  levels and others say what may still be needed for it: both are to be handed to
 * segment_chunk, which so ends after DELTA_DEPTH_MAX levels and DELTA_OTHERS_MAX different chunks whatever directories
 * claim.  May use the same codec.
 */
#define SEGMENT_FETCHES_MAX 256		/* bases of bases counted each time: diamonds end too */
struct segment_others {
	unsigned n, fetches;		/* zeroed by the outermost caller */
	struct id id[DELTA_OTHERS_MAX];
};
struct segment_bases {
	int (*get)(void *opaque, const struct id *id, unsigned levels, struct segment_others *others, uint8_t *buf,
		   size_t len, struct err *e);
	void *opaque;
};
/* Writes chunk i to buf (segment_chunk_len bytes).  bases may be NULL: a delta chunk is then ERR_UNSUPPORTED.  The
 * outermost call passes DELTA_DEPTH_MAX and a zeroed struct segment_others.  Not verified: segment_verify.  Takes the
 * bases' lengths of memory during the call. */
MUST_CHECK int segment_chunk(struct segment_codec *c, const struct segment *s, uint32_t i,
			     const struct segment_bases *bases, unsigned levels, struct segment_others *others,
			     uint8_t *buf, struct err *e);
/* Compares content with its id; ERR_CORRUPT, or as crypt_b2 fails.  domain: as for segment_item. */
MUST_CHECK int segment_verify(struct segment_codec *c, const struct repo *r, enum pack_kind kind, const char *domain,
			      const struct id *id, const void *plain, size_t len, struct err *e);

/* For tests only: called with the bytes between the stages of segment_seal, and may change them. */
enum segment_stage { SEGMENT_GATHERED, SEGMENT_COMPRESSED, SEGMENT_IS_SEALED, SEGMENT_OPENED, SEGMENT_DECODED };
typedef void (*segment_hook)(void *opaque, enum segment_stage stage, uint8_t *bytes, size_t len);
void segment_codec_set_hook(struct segment_codec *c, segment_hook hook, void *opaque);

#endif
