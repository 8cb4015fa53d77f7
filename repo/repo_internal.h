/*
 * repo_internal.h - what is inside a repo and a keyring, and the functions of repo/ that nobody else calls.
 */
#ifndef KEDGE_REPO_REPO_INTERNAL_H
#define KEDGE_REPO_REPO_INTERNAL_H

#include <pthread.h>

#include "base/vec.h"
#include "repo/object.h"
#include "repo/repo.h"
#include "repo/sha256.h"

#define DOMAIN_NAME_MAX 64u
#define GENERATIONS_MAX 1024u
#define DOMAINS_MAX 4096u
#define KEY_OBJECT_MAX ((size_t)1 << 20)	/* more than 1024 generations and 4096 domains need */
#define DEFAULT_DOMAIN "default"

/* Largest envelope, padding included (docs/format.md 3). */
#define ENVELOPE_MAX_BYTES ((size_t)72 << 20)

/* --- keyring (keys.c) --------------------------------------------------------------------------------------------- */
struct key_generation {
	uint32_t generation;
	uint8_t index[KEY_BYTES], shared[KEY_BYTES];
	uint8_t nodes_public[KEY_BYTES], data_public[KEY_BYTES];
	uint8_t nodes_secret[KEY_BYTES];	/* zeros for put */
	uint8_t data_secret[KEY_BYTES];		/* zeros unless full */
};
struct key_domain {
	char name[DOMAIN_NAME_MAX + 1];
	uint8_t id_key[KEY_BYTES];
};
/* In guarded memory, as are its two arrays. */
struct keyring {
	enum slot_role role;
	uint32_t ngenerations, ndomains;
	uint8_t authority_public[32], authority_seed[32];	/* seed: zeros unless full */
	uint8_t slot_seed[32];
	uint8_t authority_secret[64], slot_public[32], slot_secret[64];	/* as libsodium signs with them */
	struct key_generation *generations;	/* rising; the last is what writers use */
	struct key_domain *domains;
	const struct key_domain *default_domain;
	struct sum sum;		/* of the keys above, from when they were read or made */
};
void keyring_free(struct keyring *k);
DEFINE_CLEANUP(struct keyring, keyring_free)
/* Fresh random keys: one generation, the default domain, role full. */
MUST_CHECK int keyring_generate(struct keyring **ret, struct err *e);
/* The payload of a key object for a slot of that role, in guarded memory (sodium_free). */
MUST_CHECK int keyring_encode(const struct keyring *k, enum slot_role role, const uint8_t slot_seed[32], uint8_t **ret,
			      size_t *ret_len, struct err *e);
/* ERR_INTERNAL when a key is not what it was: what was sealed or named by it would never open or be found. */
MUST_CHECK int keyring_check(const struct keyring *k, struct err *e);
MUST_CHECK int keyring_decode(const void *payload, size_t len, struct keyring **ret, struct err *e);
/* NULL: this slot does not hold that generation. */
const struct key_generation *keyring_generation(const struct keyring *k, uint32_t generation);
static inline const struct key_generation *keyring_newest(const struct keyring *k)
{
	return &k->generations[k->ngenerations - 1];
}
const struct key_domain *keyring_domain(const struct keyring *k, const char *name);

/* --- key objects (secret.c) --------------------------------------------------------------------------------------- */
#define ARGON_PASSES_DEFAULT 3u
#define ARGON_PASSES_MAX 10u
#define ARGON_KIB_DEFAULT 65536u
#define ARGON_KIB_MIN 8192u
#define ARGON_KIB_MAX 262144u

struct key_header {
	enum secret_kind kind;
	uint8_t cipher_id[CIPHER_ID_BYTES];
	struct slot_id slot;
	uint32_t argon_passes, argon_kib;
	uint8_t salt[SALT_BYTES];
};
/* ERR_UNSUPPORTED: it is of another draft than FORMAT_DRAFT; 0 is the first. */
int key_object_draft(unsigned draft, struct err *e);
/* Checks everything outside the seal, the cost parameters above all, before anything is computed from it.  Another
 * draft: as key_object_draft. */
MUST_CHECK int key_object_parse(const void *p, size_t len, struct key_header *ret, struct err *e);
/* ERR_AUTH: the secret does not open it. */
MUST_CHECK int key_object_open(const void *p, size_t len, const struct secret *s, struct keyring **ret, struct err *e);
MUST_CHECK int key_object_seal(const struct key_header *h, const struct secret *s, const void *payload, size_t len,
			       struct buf *out, struct err *e);
const char *secret_kind_name(enum secret_kind kind);	/* "passphrase", "keyfile", "recovery" */
/* True for a passphrase that has the shape of a recovery key but not its check digits: somebody mistyped one. */
bool secret_is_mistyped_recovery(const struct secret *s);
static inline void secret_free_cleanup(struct secret **p) { secret_free(*p); }
/* CLEANUP for a pointer from sodium_malloc. */
void guarded_free(void *p);

/* `key add` and `key remove` are not thought to take longer. */
#define SLOT_CHANGE_NS ((int64_t)3600 * 1000000000)

/* --- slots (slots.c, slots_look.c, slots_change.c) ---------------------------------------------------------------- */
MUST_CHECK int slot_record_encode(const struct slot_info *s, char **ret, size_t *ret_len, struct err *e);
MUST_CHECK int slot_record_decode(const void *json, size_t len, struct slot_info *ret, struct err *e);
void slot_info_done(struct slot_info *s);
/* True when the slot may commit manifests of the VM. */
bool slot_may_write(const struct slot_info *s, const char *vm);
const struct slot_info *slot_list_find(const struct slot_list *l, const struct slot_id *id);	/* NULL: none */
const struct slot_stray *slot_list_stray(const struct slot_list *l, const struct slot_id *id);	/* NULL: none */
/* Reads the slot records anew: what is new is added, what changed replaces (older copies stay valid until
 * repo_close). */
MUST_CHECK int slots_load(struct repo *r, struct err *e);
/* The records that count, of one slot (NULL: all), as they are in the store now; nothing else of them is filled in.
 * The list is the caller's (slot_list_free). */
MUST_CHECK int slot_records_read(struct repo *r, const struct slot_id *id, struct slot_list *ret, struct err *e);
/* True when its bytes are what its name promises, and this repository's keys did not seal them. */
MUST_CHECK int slot_record_is_foreign(struct repo *r, const char *name, bool *ret, struct err *e);
/* As repo_slots; without strays they are not looked for, which takes a score of listings for each. */
MUST_CHECK int slots_look(struct repo *r, bool strays, struct slot_list *ret, struct err *e);
/* The header of a key object whose hash and slot are those of its name; else ERR_CORRUPT. */
MUST_CHECK int key_object_look(struct repo *r, const char *name, struct key_header *ret, struct err *e);
/* Seals and puts a record, under the serial that it has. */
MUST_CHECK int slot_record_put(struct repo *r, const struct slot_info *s, struct err *e);
MUST_CHECK int slot_need_full(const struct repo *r, const char *what, struct err *e);
/* Removes the objects of a type below the slot's name, durably. */
MUST_CHECK int slot_remove_objects(struct repo *r, enum object_type type, const struct slot_id *id, struct err *e);
/* Seals and puts a slot's record and its key object, in this order.  r needs a full keyring. */
MUST_CHECK int slot_store(struct repo *r, const struct secret *secret, const struct slot_new_opts *o,
			  struct slot_id *ret, struct err *e);

/* --- config (config.c) -------------------------------------------------------------------------------------------- */
MUST_CHECK int config_encode(const struct repo_config *c, char **ret, size_t *ret_len, struct err *e);
MUST_CHECK int config_decode(const void *json, size_t len, struct repo_config *ret, struct err *e);

/* --- what a client remembers (state.c) ---------------------------------------------------------------------------- */
struct seen_head {
	struct slot_id slot;
	struct session_id session;
	struct id hash;
	uint64_t sequence;
	int64_t end_ns;
	char vm[DOMAIN_NAME_MAX + 1];
};
struct seen_slot {
	struct slot_id slot;
	uint64_t serial;
};
struct seen {
	VEC(struct seen_head) heads;	/* the newest manifest of each writer */
	VEC(struct seen_slot) slots;	/* the newest record of each slot */
};
void seen_done(struct seen *s);
/* What earlier runs have seen of this instance; nothing without a state folder.  A damaged file is reported by notice
 * and counts as empty. */
MUST_CHECK int state_load(struct repo *r, struct seen *ret, struct err *e);
/* Merges what is newer into the file.  A folder that can't be written is reported by notice, not an error. */
void state_merge(struct repo *r, const struct seen *s);
/* Plain content of the file, as fuzzers and state_load see it. */
MUST_CHECK int seen_decode(const void *json, size_t len, struct seen *ret, struct err *e);
/* Which slot opened a repository of this cipher id last: a hint that saves key derivations. */
bool state_last_slot(const char *state_dir, const uint8_t cipher_id[CIPHER_ID_BYTES], struct slot_id *ret);
void state_set_last_slot(const char *state_dir, const uint8_t cipher_id[CIPHER_ID_BYTES], const struct slot_id *slot);

/* --- repo --------------------------------------------------------------------------------------------------------- */
struct repo_slots {
	VEC(struct slot_info *) p;	/* current records */
	VEC(struct slot_info *) old;	/* replaced ones: pointers that repo_slot gave out stay valid */
};

struct repo {
	struct store *store;
	struct sha256 *sha256;
	struct keyring *keys;
	struct repo_config cfg;
	struct slot_id own;
	struct sum ids;				/* of cipher id and own slot, once open */
	char *state_dir, *cache_dir;
	struct cancel *cancel;
	void (*notice)(void *opaque, const char *text);
	void *opaque;
	void (*sealed_hook)(uint8_t *p, size_t len);	/* for tests only: may change what was sealed */
	pthread_mutex_t lock;			/* guards the rest */
	struct repo_slots slots;
	double slots_loaded;			/* clock_mono of the last load */
	struct slot_id unknown;			/* the last slot of which there was no record */
	int64_t slow_ns;			/* for tests only: instead of SLOT_CHANGE_NS; 0 = that */
	bool hasty;				/* for tests only: what waits for others looks twice, without a pause */
};

#define CONFIG_NAME "config"
DEFINE_CLEANUP(struct repo, repo_close)
/* Without keys or config; o may be NULL. */
MUST_CHECK int repo_new(struct store *s, const struct repo_open_opts *o, struct repo **ret, struct err *e);
/* Whether the keys and ids that everything is sealed with are what they were: ERR_INTERNAL. */
MUST_CHECK int repo_keys_check(const struct repo *r, struct err *e);
struct sum repo_ids_sum(const struct repo *r);
/* Reports what e says through the notice, after what was done about it ("key slot record ignored"). */
void repo_notice_err(struct repo *r, const struct err *e, const char *what);
/* The bytes of an object, by way of the manifest cache (cache.c); not verified. */
MUST_CHECK int object_read(struct repo *r, const struct object_name *n, const char *name, uint8_t **ret,
			   size_t *ret_len, struct err *e);
MUST_CHECK int name_list_add(struct name_list *l, const char *name, struct err *e);
void name_list_sort(struct name_list *l);
/* Who may sign objects of a type (docs/format.md 10).  ERR_AUTH says why not. */
MUST_CHECK int object_check_signer(struct repo *r, enum object_type type, const struct slot_id *signer, struct err *e);
/* B2 of docs/format.md 1; personal has at most 16 characters. */
void hash_b2(uint8_t out[32], const void *key, size_t key_len, const uint8_t *salt, const char *personal,
	     const void *msg, size_t len);
/* CLEANUP for key material on the stack. */
struct wiped_key {
	uint8_t b[KEY_BYTES];
};
void wiped_key_done(struct wiped_key *k);

static inline bool slot_eq(const struct slot_id *a, const struct slot_id *b) { return !memcmp(a->b, b->b, SLOT_BYTES); }
static inline bool session_eq(const struct session_id *a, const struct session_id *b)
{
	return !memcmp(a->b, b->b, SESSION_BYTES);
}

#endif
