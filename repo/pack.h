/*
 * pack.h - segments, directories and packs as bytes (docs/format.md, section 6).  Pure encoding and decoding; no store.
 *
 * Threads: distinct objects in distinct threads; a decoded directory is constant.
 */
#ifndef KEDGE_REPO_PACK_H
#define KEDGE_REPO_PACK_H

#include "base/buf.h"
#include "base/vec.h"
#include "repo/object.h"
#include "repo/repo.h"

enum frame_codec { CODEC_RAW = 0, CODEC_ZSTD = 1, CODEC_ZSTD_PREFIX = 2 };

struct dir_frame {
	uint32_t stored, decoded;
	uint8_t codec;
};
struct dir_chunk {
	struct id id;
	uint16_t frame;
	uint8_t nbases, depth;
	uint32_t off, len;
	uint32_t first_base;	/* index into directory.bases */
};
struct dir_segment {
	uint64_t off, birth;
	uint32_t stored, key;
	struct slot_id sealer;
	bool verified;
	uint32_t first_frame, nframes;	/* into directory.frames */
	uint32_t first_chunk, nchunks;	/* into directory.chunks */
};
struct dir_key {
	uint32_t generation;
	uint8_t sealed[BOX_BYTES];
};
struct directory {
	enum pack_kind kind;
	uint32_t generation, envelope_len;	/* of its envelope, where it was read from one; 0 = not sealed yet */
	struct slot_id slot;
	struct session_id session;
	uint8_t salt[SALT_BYTES];
	bool trailer_bad;	/* read from its known place; the trailer behind it is damaged or cut off */
	VEC(struct dir_key) keys;
	VEC(struct dir_segment) segments;
	VEC(struct dir_frame) frames;
	VEC(struct dir_chunk) chunks;
	VEC(struct id) bases;
};
void directory_free(struct directory *d);
DEFINE_CLEANUP(struct directory, directory_free)
MUST_CHECK int directory_encode(const struct directory *d, struct buf *out, struct err *e);
/* Checks everything format.md says; data_end = the envelope's offset. */
MUST_CHECK int directory_decode(const void *payload, size_t len, uint64_t data_end, struct directory **ret,
				struct err *e);

/* Trailer of packs and runs. */
struct trailer {
	enum pack_kind kind;
	uint64_t envelope_off;
	uint32_t envelope_len;
	uint8_t salt[SALT_BYTES];
};
void trailer_encode(const struct trailer *t, uint8_t out[TRAILER_BYTES]);
MUST_CHECK int trailer_decode(const uint8_t in[TRAILER_BYTES], uint64_t object_len, struct trailer *ret, struct err *e);

/* Opens a directory from its sealed bytes, with the checks of pack_read_directory. */
MUST_CHECK int pack_open_directory(struct repo *r, const char *name, const uint8_t *sealed, const struct trailer *t,
				   struct directory **ret, struct err *e);
/* Reads a pack's directory from the store: from its known place, or (envelope_len 0, or nothing good there) by way of
 * its trailer.  Checks kind, slot and session against the name, and the signer.  A damaged trailer behind an envelope
 * whose place is known costs nothing: trailer_bad. */
MUST_CHECK int pack_read_directory(struct repo *r, const char *name, uint64_t size, uint64_t envelope_off,
				   uint32_t envelope_len, struct directory **ret, struct err *e);

#endif
