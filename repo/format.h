/*
 * format.h - the numbers of docs/format.md: types, sizes and limits of the repository format.
 */
#ifndef KEDGE_REPO_FORMAT_H
#define KEDGE_REPO_FORMAT_H

#include <stdint.h>
#include <string.h>

#define FORMAT_VERSION 1
#define FORMAT_DRAFT 2	/* of that version; docs/format.md 2.1 */
#define ID_BYTES 32
#define SLOT_BYTES 8
#define SESSION_BYTES 16
#define CIPHER_ID_BYTES 16
#define KEY_BYTES 32
#define SIGN_BYTES 64
#define NONCE_BYTES 24
#define TAG_BYTES 16
#define AEAD_BYTES (NONCE_BYTES + TAG_BYTES)	/* a sealed thing is this much longer */
#define BOX_BYTES 80				/* a sealed 32-byte key */
#define TRAILER_BYTES 48
#define SALT_BYTES 16

#define CHUNK_MIN_BYTES 4096u
#define CHUNK_MAX_BYTES (4u << 20)
#define CHUNK_DEFAULT_BYTES (64u << 10)
#define SEGMENT_DEFAULT_BYTES (256u << 10)
#define SEGMENT_MAX_BYTES (4u << 20)		/* decoded */
#define SEGMENT_MAX_ITEMS 4096u			/* frames, and chunks, of one */
#define PACK_DEFAULT_BYTES (32u << 20)
#define PACK_MAX_BYTES (256u << 20)
#define PAYLOAD_MAX_BYTES (64u << 20)		/* of an envelope, decoded */
#define TREE_FANOUT 256u
#define TREE_HEIGHT_MAX 8u
#define NODE_MAX_BYTES (2u + 32u + 256u * ID_BYTES)
#define BASES_MAX 4u
#define BASES_MAX_BYTES (16u << 20)
#define DELTA_DEPTH_MAX 8u
#define DELTA_OTHERS_MAX 16u
#define INDEX_BLOCK_BYTES 65536u
#define INDEX_BLOCK_PLAIN (INDEX_BLOCK_BYTES - AEAD_BYTES)

enum object_type {
	OBJECT_CONFIG = 1,
	OBJECT_KEY,
	OBJECT_SLOT,
	OBJECT_DATA_SEGMENT,
	OBJECT_NODE_SEGMENT,
	OBJECT_DIRECTORY,
	OBJECT_RUN_TAIL,
	OBJECT_INDEX_BLOCK,
	OBJECT_MANIFEST,
	OBJECT_SESSION,
	OBJECT_RENEWAL,
	OBJECT_READING,
	OBJECT_END,
	OBJECT_COLLECTOR,
	OBJECT_EPOCH,
	OBJECT_EVICTION,
	OBJECT_SWEEP,
	OBJECT_DOOMED,
	OBJECT_TOMBSTONE,
	OBJECT_RESTORE,
	OBJECT_EXTENSION,
	OBJECT_CATALOGUE,
	OBJECT_PARITY,
	OBJECT_LIKENESS,
	OBJECT_REMOVAL,
	OBJECT_TYPE_END
};

enum pack_kind { PACK_DATA = 1, PACK_NODES = 2, PACK_INDEX_RUN = 3 };

/* 32 bytes: a chunk's or node's id, or an object's hash. */
struct id {
	uint8_t b[ID_BYTES];
};
struct slot_id {
	uint8_t b[SLOT_BYTES];
};
struct session_id {
	uint8_t b[SESSION_BYTES];
};

static inline int id_cmp(const struct id *a, const struct id *b) { return memcmp(a->b, b->b, ID_BYTES); }
static inline int id_eq(const struct id *a, const struct id *b) { return !id_cmp(a, b); }

#endif
