/*
 * object.h - sealing, signing and naming: every object but segments and index blocks goes through here
 * (docs/format.md, sections 1 and 3).  Private to repo/.
 *
 * Threads: any; the keyring behind a repo is constant.
 */
#ifndef KEDGE_REPO_OBJECT_H
#define KEDGE_REPO_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "repo/crypt.h"
#include "repo/format.h"
#include "repo/sum.h"

struct repo;
struct store;
struct cancel;

/* PADME (format.md 1). */
uint64_t padme(uint64_t n);

/* H of format.md; ERR_NOMEM. */
MUST_CHECK int hash_bytes(const struct repo *r, const void *p, size_t len, struct id *ret, struct err *e);

/* Appends a whole envelope around the payload, signed by the own slot (or the authority with OBJECT_CONFIG,
 * OBJECT_SLOT), sealed under the newest generation's index key, or an object key for OBJECT_MANIFEST/CATALOGUE.  It is
 * opened again and compared: ERR_INTERNAL. */
MUST_CHECK int envelope_seal(struct repo *r, enum object_type type, const void *payload, size_t len, struct buf *out,
			     struct err *e);
/* Opens an envelope of exactly len bytes; *ret_payload is malloc'ed (NUL after it).  *ret_signer says who signed; the
 * signature is verified.  Not of that type, damaged: ERR_CORRUPT; signed by nobody known: ERR_AUTH; an object key that
 * this slot does not hold: ERR_AUTH; other version: ERR_UNSUPPORTED. */
MUST_CHECK int envelope_open(struct repo *r, enum object_type type, const void *p, size_t len, uint8_t **ret_payload,
			     size_t *ret_len, struct slot_id *ret_signer, uint32_t *ret_generation, struct err *e);

/* "kind/SLOT/SESSION/HASH" taken apart. */
struct object_name {
	/* OBJECT_DATA_SEGMENT for data/, OBJECT_NODE_SEGMENT for nodes/, OBJECT_RUN_TAIL for index/ */
	enum object_type type;
	struct slot_id slot;
	struct session_id session;	/* zero for keys/ and slots/ */
	struct id hash;
};
#define OBJECT_NAME_BYTES 128	/* any object's name with NUL */
/* The prefix ("data/", "session/") of a type's names; NULL for those that live inside others. */
const char *object_prefix(enum object_type type);
void object_name_text(const struct object_name *n, char buf[static OBJECT_NAME_BYTES]);
bool object_name_parse(const char *text, struct object_name *ret);
/* Names a new object by its bytes: n's hash, and the text of n.  What memory does to the name meanwhile is noticed
 * (ERR_INTERNAL): an object under a wrong name is lost. */
MUST_CHECK int object_name_new(const struct repo *r, struct object_name *n, const void *p, size_t len,
			       char name[static OBJECT_NAME_BYTES], struct err *e);

/* Seals payload as a type and puts it under the own slot and the session given: its name to name
 * (OBJECT_NAME_BYTES). */
MUST_CHECK int object_put(struct repo *r, enum object_type type, const struct session_id *session, const void *payload,
			  size_t len, char *name, struct err *e);
/* The same with a second encoding of the payload: what was sealed must be that, too. */
MUST_CHECK int object_put_twice(struct repo *r, enum object_type type, const struct session_id *session,
				const void *payload, size_t len, const void *same, size_t same_len, char *name,
				struct err *e);
/*
 * An object on its way out: object_outgoing names it (ret->name, n's hash) and opens it again from the bytes that will
 * be stored: what comes out must be `same`.  object_send puts it, and looks whether the bytes still are what they were.
 * ERR_INTERNAL: memory or codec error.
 */
struct outgoing {
	char name[OBJECT_NAME_BYTES];
	struct sum sum;
};
MUST_CHECK int object_outgoing(struct repo *r, struct object_name *n, const struct buf *sealed, const void *same,
			       size_t same_len, struct outgoing *ret, struct err *e);
MUST_CHECK int object_send(struct repo *r, const struct outgoing *o, const struct buf *sealed, struct err *e);
/* Gets a whole object, checks its hash, opens the envelope, checks that signer and name agree.  Errors name the
 * object. */
MUST_CHECK int object_get(struct repo *r, const char *name, uint8_t **ret_payload, size_t *ret_len,
			  struct slot_id *ret_signer, struct err *e);
/* Reads a whole object, a pack or run too, piece by piece: ERR_CORRUPT when its hash is not the one in its name. */
MUST_CHECK int object_compare_hash(struct repo *r, const char *name, struct cancel *cancel, struct err *e);
/* Sealed names of a type that the store lists, sorted, malloc'ed strings; strange names are reported by notice and left
 * out. */
struct name_list {
	char **p;
	size_t n;
};
MUST_CHECK int object_list(struct repo *r, enum object_type type, struct name_list *ret, struct err *e);
/* As object_list, below one slot and session only (either may be NULL = any). */
MUST_CHECK int object_list_of(struct repo *r, enum object_type type, const struct slot_id *slot,
			      const struct session_id *session, struct name_list *ret, struct err *e);
/* store_sync of the objects of a type, of one slot, of one of its sessions (NULL: all; a session needs its slot). */
MUST_CHECK int object_sync(struct repo *r, enum object_type type, const struct slot_id *slot,
			   const struct session_id *session, struct err *e);
/* store_remove; what is gone already is fine. */
MUST_CHECK int object_remove(struct repo *r, const char *name, struct err *e);
void name_list_free(struct name_list *l);
bool name_list_has(const struct name_list *l, const char *name);	/* binary search */

/* Segments and blocks: AEAD with the associated data of format.md 6.1 / 8. */
struct pack_key {
	uint8_t key[KEY_BYTES];
	uint8_t sealed[BOX_BYTES];
	uint32_t generation;
	enum pack_kind kind;
	struct sum sum;		/* of a new one: of all above; see pack_key_check */
};
/* A new random pack key, sealed to the public key of the kind; opened again by those who can. */
MUST_CHECK int pack_key_new(struct repo *r, enum pack_kind kind, struct pack_key *ret, struct err *e);
/* ERR_INTERNAL when a key from pack_key_new is not what it was: what it sealed would never open. */
MUST_CHECK int pack_key_check(const struct pack_key *k, struct err *e);
/* Of a directory's key row. */
struct sum pack_key_row_sum(uint32_t generation, const uint8_t sealed[BOX_BYTES]);
/* The key of a directory's row; ERR_AUTH when this slot does not hold the secret. */
MUST_CHECK int pack_key_open(struct repo *r, enum pack_kind kind, uint32_t generation, const uint8_t sealed[BOX_BYTES],
			     struct pack_key *ret, struct err *e);
/* By the thread's c.  out takes len + AEAD_BYTES and may not overlap plain.  Fails as crypt_seal. */
MUST_CHECK int segment_aead_seal(struct crypt *c, const struct repo *r, const struct pack_key *k, uint64_t birth,
				 const void *plain, size_t len, uint8_t *out, struct err *e);
/* out takes len - AEAD_BYTES and may not overlap sealed; ERR_CORRUPT when it does not verify, else as crypt_open. */
MUST_CHECK int segment_aead_open(struct crypt *c, const struct repo *r, const struct pack_key *k, uint64_t birth,
				 const void *sealed, size_t len, uint8_t *out, struct err *e);
void block_aead_seal(struct repo *r, const uint8_t plain[INDEX_BLOCK_PLAIN], uint8_t out[INDEX_BLOCK_BYTES]);
MUST_CHECK int block_aead_open(struct repo *r, uint32_t generation, const uint8_t sealed[INDEX_BLOCK_BYTES],
			       uint8_t out[INDEX_BLOCK_PLAIN], struct err *e);
uint32_t repo_generation(const struct repo *r);	/* newest */

/* Ids (format.md 5), by the thread's c; domain NULL = "default".  Unknown domain: asserted earlier by repo_has_domain.
 * Fail as crypt_b2. */
MUST_CHECK int id_of_chunk(struct crypt *c, const struct repo *r, const char *domain, const void *plain, size_t len,
			   struct id *ret, struct err *e);
MUST_CHECK int id_of_node(struct crypt *c, const struct repo *r, const void *encoded, size_t len, struct id *ret,
			  struct err *e);
bool repo_has_domain(const struct repo *r, const char *domain);
void repo_notice(struct repo *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct cancel *repo_cancel(struct repo *r);
/* The slot's record; NULL if unknown.  Removed slots are known. */
const struct slot_info *repo_slot(struct repo *r, const struct slot_id *id);
/* True when what the slot stored may be built upon: the own slot, or one that is marked trusted. */
bool repo_slot_trusted(struct repo *r, const struct slot_id *id);
/* True when the slot's word counts on who sealed a segment, and whether it was verified: a trusted one, or one that may
 * collect. */
bool repo_slot_attests(struct repo *r, const struct slot_id *id);

#endif
