/*
 * envelope.c - sealing and signing what is one piece (docs/format.md, section 3).
 *
 *	header 16 | BOX(nodes, r) 80, manifests only | nonce 24 | encoding 4, stored 4, decoded 4, signer 8,
 *	signature 64, payload, zeros | tag 16
 */
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/repo_internal.h"

#define HEADER_BYTES 16u
#define FIELDS_BYTES 84u	/* of the plaintext, before the payload */
#define SIGNED_PREFIX 41u	/* context 16, cipher id 16, type 1, signer 8 */
#define ZSTD_LEVEL 3
#define SEALING_INDEX 1
#define SEALING_OBJECT 2
#define SLOTS_RELOAD_S 10.0

static const char sign_context[16] = "kedge-sign-v1";

void wiped_key_done(struct wiped_key *k)
{
	sodium_memzero(k->b, sizeof(k->b));
}

static bool by_authority(enum object_type type)
{
	return type == OBJECT_CONFIG || type == OBJECT_SLOT;
}

static bool under_object_key(enum object_type type)
{
	return type == OBJECT_MANIFEST || type == OBJECT_CATALOGUE;
}

static void put_ad(uint8_t ad[21], const struct repo *r, enum object_type type, uint32_t generation)
{
	memcpy(ad, r->cfg.cipher_id, CIPHER_ID_BYTES);
	ad[16] = (uint8_t)type;
	put_le32(ad + 17, generation);
}

/* The bytes that are signed, before the payload. */
static void put_signed_prefix(uint8_t *p, const struct repo *r, enum object_type type, const struct slot_id *signer)
{
	memcpy(p, sign_context, 16);
	memcpy(p + 16, r->cfg.cipher_id, CIPHER_ID_BYTES);
	p[32] = (uint8_t)type;
	memcpy(p + 33, signer->b, SLOT_BYTES);
}

static int sign_payload(const struct repo *r, enum object_type type, const struct slot_id *signer, const void *payload,
			size_t len, uint8_t signature[SIGN_BYTES], struct err *e)
{
	const uint8_t *secret = by_authority(type) ? r->keys->authority_secret : r->keys->slot_secret;
	CLEANUP(free_ptr) uint8_t *msg = malloc(SIGNED_PREFIX + len);

	if (!msg)
		return err_set(e, ERR_NOMEM, "no memory to sign %zu bytes", len);
	put_signed_prefix(msg, r, type, signer);
	memcpy(msg + SIGNED_PREFIX, payload, len);
	crypto_sign_detached(signature, NULL, msg, SIGNED_PREFIX + len, secret);
	return 0;
}

/* *ret is a zstd frame when that is smaller, else NULL. */
static int compress_payload(const void *payload, size_t len, uint8_t **ret, size_t *ret_len, struct err *e)
{
	size_t bound = ZSTD_compressBound(len), n;
	CLEANUP(free_ptr) uint8_t *out = malloc(bound);

	if (!out)
		return err_set(e, ERR_NOMEM, "no memory to compress %zu bytes", len);
	n = ZSTD_compress(out, bound, payload, len, ZSTD_LEVEL);
	if (ZSTD_isError(n))
		return err_set(e, ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? ERR_NOMEM : ERR_INTERNAL,
			       "zstd: %s", ZSTD_getErrorName(n));
	*ret_len = n;
	*ret = n < len ? STEAL(out) : NULL;
	return 0;
}

/* Appends the header and picks the key: the generation's index key, or a new object key whose r is sealed to the nodes
 * pair. */
static int seal_header(const struct repo *r, enum object_type type, struct buf *out, struct wiped_key *key,
		       struct err *e)
{
	const struct key_generation *g = keyring_newest(r->keys);
	CLEANUP(wiped_key_done) struct wiped_key random = { 0 };
	uint8_t *p;

	p = buf_extend(out, HEADER_BYTES + (under_object_key(type) ? BOX_BYTES : 0), e);
	if (!p)
		return e->code;
	memcpy(p, "KEDGEOBJ", 8);
	p[8] = 1;
	p[9] = (uint8_t)type;
	p[10] = under_object_key(type) ? SEALING_OBJECT : SEALING_INDEX;
	p[11] = 0;
	put_le32(p + 12, g->generation);
	if (!under_object_key(type)) {
		memcpy(key->b, g->index, KEY_BYTES);
		return 0;
	}
	randombytes_buf(random.b, KEY_BYTES);
	if (crypto_box_seal(p + HEADER_BYTES, random.b, KEY_BYTES, g->nodes_public) != 0)
		return err_set(e, ERR_CORRUPT, "the key slot's public key for manifests is no valid point");
	hash_b2(key->b, g->shared, KEY_BYTES, NULL, "kedge-objectkey1", random.b, KEY_BYTES);
	return 0;
}

/* Builds the plaintext in place behind the nonce and encrypts it there. */
static int seal_body(const struct repo *r, enum object_type type, const void *payload, size_t len,
		     const struct wiped_key *key, size_t start, struct buf *out, struct err *e)
{
	static const struct slot_id nobody;
	const struct slot_id *signer = by_authority(type) ? &nobody : &r->own;
	CLEANUP(free_ptr) uint8_t *zipped = NULL;
	size_t stored = len, unpadded, plain_len;
	uint8_t *nonce, *plain, ad[21];

	if (compress_payload(payload, len, &zipped, &stored, e) < 0)
		return e->code;
	if (!zipped)
		stored = len;
	unpadded = out->len - start + AEAD_BYTES + FIELDS_BYTES + stored;
	plain_len = FIELDS_BYTES + stored + (size_t)(padme(unpadded) - unpadded);
	nonce = buf_extend(out, plain_len + AEAD_BYTES, e);
	if (!nonce)
		return e->code;
	randombytes_buf(nonce, NONCE_BYTES);
	plain = nonce + NONCE_BYTES;
	memset(plain, 0, plain_len);
	put_le32(plain, zipped != NULL);
	put_le32(plain + 4, (uint32_t)stored);
	put_le32(plain + 8, (uint32_t)len);
	memcpy(plain + 12, signer->b, SLOT_BYTES);
	if (sign_payload(r, type, signer, payload, len, plain + 20, e) < 0)
		return e->code;
	memcpy(plain + FIELDS_BYTES, zipped ? zipped : payload, stored);
	put_ad(ad, r, type, keyring_newest(r->keys)->generation);
	crypto_aead_xchacha20poly1305_ietf_encrypt(plain, NULL, plain, plain_len, ad, sizeof(ad), NULL, nonce, key->b);
	return 0;
}

struct envelope {
	uint32_t generation;
	uint8_t sealing;
	const uint8_t *box;		/* sealing 2 */
	const uint8_t *sealed;		/* nonce, ciphertext, tag */
	size_t sealed_len;
};

static int parse_header(enum object_type type, const void *p, size_t len, struct envelope *ret, struct err *e)
{
	struct rd rd = rd_of(p, len);
	struct envelope v = { 0 };
	const uint8_t *magic;
	uint8_t version, kind, zero;

	if (len > ENVELOPE_MAX_BYTES)
		return err_set(e, ERR_CORRUPT, "%zu bytes are more than a sealed object can have", len);
	if (!rd_take(&rd, 8, &magic) || memcmp(magic, "KEDGEOBJ", 8) != 0)
		return err_set(e, ERR_CORRUPT, "it does not begin as a sealed object does");
	if (!rd_u8(&rd, &version) || !rd_u8(&rd, &kind) || !rd_u8(&rd, &v.sealing) || !rd_u8(&rd, &zero) ||
	    !rd_le32(&rd, &v.generation))
		return err_set(e, ERR_CORRUPT, "it ends inside its header");
	if (version != 1)
		return err_set(e, ERR_UNSUPPORTED, "it has version %u; this program knows version 1", version);
	if (kind != type || zero != 0 || v.sealing != (under_object_key(type) ? SEALING_OBJECT : SEALING_INDEX))
		return err_set(e, ERR_CORRUPT, "type %u, sealing %u, reserved %u where type %d belongs", kind,
			       v.sealing, zero, (int)type);
	if ((v.sealing == SEALING_OBJECT && !rd_take(&rd, BOX_BYTES, &v.box)) || rd.left < AEAD_BYTES + FIELDS_BYTES)
		return err_set(e, ERR_CORRUPT, "%zu bytes are too few for a sealed object", len);
	v.sealed = rd.p;
	v.sealed_len = rd.left;
	*ret = v;
	return 0;
}

static int envelope_key(const struct repo *r, const struct envelope *v, struct wiped_key *key, struct err *e)
{
	const struct key_generation *g = keyring_generation(r->keys, v->generation);
	CLEANUP(wiped_key_done) struct wiped_key random = { 0 };

	if (!g)
		return err_set(e, ERR_AUTH,
			       "it is sealed under key generation %" PRIu32 ", which this key slot does not hold",
			       v->generation);
	if (v->sealing == SEALING_INDEX) {
		memcpy(key->b, g->index, KEY_BYTES);
		return 0;
	}
	if (r->keys->role == ROLE_PUT)
		return err_set(e, ERR_AUTH, "a put key cannot read this");
	if (crypto_box_seal_open(random.b, v->box, BOX_BYTES, g->nodes_public, g->nodes_secret) != 0)
		return err_set(e, ERR_CORRUPT, "its key does not open: damaged or forged");
	hash_b2(key->b, g->shared, KEY_BYTES, NULL, "kedge-objectkey1", random.b, KEY_BYTES);
	return 0;
}

struct plaintext {
	uint32_t encoding, stored, decoded;
	struct slot_id signer;
	const uint8_t *signature, *payload;
};

static int parse_plaintext(const uint8_t *p, size_t len, struct plaintext *ret, struct err *e)
{
	struct rd rd = rd_of(p, len);
	struct plaintext t = { 0 };

	if (!rd_le32(&rd, &t.encoding) || !rd_le32(&rd, &t.stored) || !rd_le32(&rd, &t.decoded) ||
	    !rd_copy(&rd, t.signer.b, SLOT_BYTES) || !rd_take(&rd, SIGN_BYTES, &t.signature) ||
	    !rd_take(&rd, t.stored, &t.payload))
		return err_set(e, ERR_CORRUPT, "the payload of %" PRIu32 " bytes does not fit", t.stored);
	if (t.encoding > 1 || t.decoded > PAYLOAD_MAX_BYTES || (t.encoding == 0 && t.stored != t.decoded))
		return err_set(e, ERR_CORRUPT, "encoding %" PRIu32 ", %" PRIu32 " bytes stored, %" PRIu32 " decoded",
			       t.encoding, t.stored, t.decoded);
	if (!bytes_all_zero(rd.p, rd.left))
		return err_set(e, ERR_CORRUPT, "the padding is not zero");
	*ret = t;
	return 0;
}

/* Decodes the payload to SIGNED_PREFIX bytes behind *ret: there is the room for what was signed along with it. */
static int decode_payload(const struct plaintext *t, uint8_t **ret, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *msg = malloc((size_t)SIGNED_PREFIX + t->decoded + 1);
	size_t n;

	if (!msg)
		return err_set(e, ERR_NOMEM, "no memory for an object of %" PRIu32 " bytes", t->decoded);
	if (t->encoding == 0) {
		memcpy(msg + SIGNED_PREFIX, t->payload, t->decoded);
	} else {
		n = ZSTD_findFrameCompressedSize(t->payload, t->stored);
		if (ZSTD_isError(n) || n != t->stored)
			return err_set(e, ERR_CORRUPT, "the payload is not one zstd frame");
		n = ZSTD_decompress(msg + SIGNED_PREFIX, t->decoded, t->payload, t->stored);
		if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
			return err_set(e, ERR_NOMEM, "decompression of %" PRIu32 " bytes", t->stored);
		if (ZSTD_isError(n) || n != t->decoded)
			return err_set(e, ERR_CORRUPT, "the payload does not decompress to %" PRIu32 " bytes",
				       t->decoded);
	}
	*ret = STEAL(msg);
	return 0;
}

static int signer_public(struct repo *r, enum object_type type, const struct slot_id *signer, const uint8_t **ret,
			 struct err *e)
{
	static const struct slot_id nobody;
	const struct slot_info *s;
	char hex[2 * SLOT_BYTES + 1];

	if (by_authority(type) != slot_eq(signer, &nobody))
		return err_set(e, ERR_AUTH, "it is signed by %s",
			       by_authority(type) ? "a key slot instead of the authority"
						  : "the authority instead of a key slot");
	if (by_authority(type)) {
		*ret = r->keys->authority_public;
		return 0;
	}
	s = repo_slot(r, signer);
	if (!s)
		return err_set(e, ERR_AUTH, "it is signed by slot %s, of which there is no record",
			       text_hex(signer->b, SLOT_BYTES, hex));
	*ret = s->sign_public;
	return 0;
}

/* Decrypts and decodes; the signature is for the caller to verify.  *ret_plain holds what t points to, *ret_msg is as
 * decode_payload's. */
static int unseal(const struct repo *r, enum object_type type, const struct envelope *v, const struct wiped_key *key,
		  struct plaintext *t, uint8_t **ret_plain, uint8_t **ret_msg, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *plain = malloc(v->sealed_len - AEAD_BYTES);
	uint8_t ad[21];

	if (!plain)
		return err_set(e, ERR_NOMEM, "no memory for an object of %zu bytes", v->sealed_len);
	put_ad(ad, r, type, v->generation);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, NULL, NULL, v->sealed + NONCE_BYTES,
						       v->sealed_len - NONCE_BYTES, ad, sizeof(ad), v->sealed,
						       key->b) != 0)
		return err_set(e, ERR_CORRUPT, "its seal does not verify: damaged or forged");
	if (parse_plaintext(plain, v->sealed_len - AEAD_BYTES, t, e) < 0 || decode_payload(t, ret_msg, e) < 0)
		return e->code;
	*ret_plain = STEAL(plain);
	return 0;
}

static int verify(const struct repo *r, enum object_type type, const struct plaintext *t, uint8_t *msg,
		  const uint8_t *sign_public, struct err *e)
{
	put_signed_prefix(msg, r, type, &t->signer);
	if (crypto_sign_verify_detached(t->signature, msg, SIGNED_PREFIX + t->decoded, sign_public) != 0)
		return err_set(e, ERR_AUTH, "its signature does not verify");
	return 0;
}

int envelope_open(struct repo *r, enum object_type type, const void *p, size_t len, uint8_t **ret_payload,
		  size_t *ret_len, struct slot_id *ret_signer, uint32_t *ret_generation, struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key key = { 0 };
	CLEANUP(free_ptr) uint8_t *plain = NULL, *msg = NULL;
	const uint8_t *sign_public = NULL;
	struct plaintext t = { 0 };
	struct envelope v = { 0 };

	if (parse_header(type, p, len, &v, e) < 0 || envelope_key(r, &v, &key, e) < 0 ||
	    unseal(r, type, &v, &key, &t, &plain, &msg, e) < 0 ||
	    signer_public(r, type, &t.signer, &sign_public, e) < 0 || verify(r, type, &t, msg, sign_public, e) < 0)
		return e->code;
	memmove(msg, msg + SIGNED_PREFIX, t.decoded);
	msg[t.decoded] = '\0';
	*ret_len = t.decoded;
	if (ret_signer)
		*ret_signer = t.signer;
	if (ret_generation)
		*ret_generation = v.generation;
	*ret_payload = STEAL(msg);
	return 0;
}

/* What memory or a codec has spoilt must not be stored: a directory that does not open loses a pack, a manifest a
 * backup. */
static int open_again(const struct repo *r, enum object_type type, const uint8_t *p, size_t len,
		      const struct wiped_key *key, const void *payload, size_t payload_len, struct err *e)
{
	const uint8_t *sign_public = by_authority(type) ? r->keys->authority_public : r->keys->slot_public;
	CLEANUP(free_ptr) uint8_t *plain = NULL, *msg = NULL;
	struct plaintext t = { 0 };
	struct envelope v = { 0 };
	char text[ERR_CAUSE_BYTES / 2];

	if (parse_header(type, p, len, &v, e) == 0 && unseal(r, type, &v, key, &t, &plain, &msg, e) == 0 &&
	    verify(r, type, &t, msg, sign_public, e) == 0) {
		if (t.decoded == payload_len && memcmp(msg + SIGNED_PREFIX, payload, payload_len) == 0)
			return 0;
		err_set(e, ERR_CORRUPT, "its content differs");
	}
	if (e->code == ERR_NOMEM)
		return e->code;
	err_text(e, text, sizeof(text));
	err_set(e, ERR_INTERNAL, "memory or codec error: an object does not come back as it went in: %s", text);
	return err_hint(e, "It was not stored.  Test this computer's memory before you trust it with backups.");
}

int envelope_seal(struct repo *r, enum object_type type, const void *payload, size_t len, struct buf *out,
		  struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key key = { 0 };
	size_t start = out->len;

	if (len > PAYLOAD_MAX_BYTES)
		return err_set(e, ERR_INVALID, "an object of %zu bytes is larger than the %u that the format allows",
			       len, PAYLOAD_MAX_BYTES);
	if (by_authority(type) && r->keys->role != ROLE_FULL)
		return err_set(e, ERR_AUTH, "only a full key can sign this; the key in use is a %s key",
			       slot_role_name(r->keys->role));
	if (seal_header(r, type, out, &key, e) < 0 || seal_body(r, type, payload, len, &key, start, out, e) < 0) {
		out->len = start;
		return e->code;
	}
	if (r->sealed_hook)
		r->sealed_hook(out->p + start, out->len - start);
	if (open_again(r, type, out->p + start, out->len - start, &key, payload, len, e) < 0) {
		out->len = start;
		return e->code;
	}
	return 0;
}

static const struct slot_info *find_slot(const struct repo *r, const struct slot_id *id)
{
	for (size_t i = 0; i < r->slots.p.n; i++)
		if (slot_eq(&r->slots.p.p[i]->id, id))
			return r->slots.p.p[i];
	return NULL;
}

/* A slot that was added while this process runs is as good as any: the records are read again, but not for every object
 * of one that stays unknown. */
const struct slot_info *repo_slot(struct repo *r, const struct slot_id *id)
{
	const struct slot_info *s;
	struct err e = ERR_INIT;
	bool again;

	pthread_mutex_lock(&r->lock);
	s = find_slot(r, id);
	again = !s && (!slot_eq(&r->unknown, id) || clock_mono() - r->slots_loaded > SLOTS_RELOAD_S);
	if (again)
		r->unknown = *id;
	pthread_mutex_unlock(&r->lock);
	if (!again || slots_load(r, &e) < 0)
		return s;
	pthread_mutex_lock(&r->lock);
	s = find_slot(r, id);
	pthread_mutex_unlock(&r->lock);
	return s;
}

bool repo_slot_trusted(struct repo *r, const struct slot_id *id)
{
	const struct slot_info *s = slot_eq(id, &r->own) ? NULL : repo_slot(r, id);

	return slot_eq(id, &r->own) || (s && s->trusted);
}

bool repo_slot_attests(struct repo *r, const struct slot_id *id)
{
	const struct slot_info *s;

	if (repo_slot_trusted(r, id))
		return true;
	s = repo_slot(r, id);
	return s && s->role >= ROLE_MAINTAIN;
}
