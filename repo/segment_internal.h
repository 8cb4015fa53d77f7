/*
 * segment_internal.h - what sealing and opening of segments share.
 */
#ifndef KEDGE_REPO_SEGMENT_INTERNAL_H
#define KEDGE_REPO_SEGMENT_INTERNAL_H

#include <zstd.h>

#include "repo/segment.h"

struct segment_codec {
	struct crypt *crypt;
	ZSTD_CCtx *cctx; /* made when first needed: opening needs none */
	ZSTD_DCtx *dctx;
	struct buf plain;   /* sealing: full chunks, one after the other */
	struct buf payload; /* sealing: the frames */
	bool has_key;       /* of the row opened last: segments of one pack come together */
	struct pack_key key;
	segment_hook hook;
	void *hook_opaque;
};

struct segment_frame {
	uint8_t codec;
	uint32_t len;    /* decoded */
	uint32_t stored; /* of delta frames */
	size_t off;      /* in bytes: the content, or a delta frame's stored bytes */
};

struct segment {
	enum pack_kind kind;
	uint8_t *bytes;
	size_t nbytes;
	struct segment_frame *frames;
	struct dir_chunk *chunks; /* first_base counts in bases */
	struct id *bases;
	uint32_t nframes, nchunks, nbases;
};

/* What a directory says of one segment. */
struct segment_layout {
	const struct dir_frame *frames;
	const struct dir_chunk *chunks;
	const struct id *bases;
	uint32_t nframes, nchunks;
	uint32_t base_shift; /* the chunks' first_base counts from here */
	uint32_t nbases;
};

static inline void segment_hook_call(const struct segment_codec *c, enum segment_stage stage, uint8_t *p, size_t len)
{
	if (c->hook)
		c->hook(c->hook_opaque, stage, p, len);
}

/* Opens and decodes into fresh memory. */
int segment_open_with(struct segment_codec *c, struct repo *r, const struct pack_key *k, uint64_t birth,
		      const struct segment_layout *l, const void *sealed, size_t len, struct segment **ret,
		      struct err *e) MUST_CHECK;

#endif
