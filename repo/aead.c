/* aead.c - pack keys, segments, index blocks and ids (docs/format.md, sections 5, 6.1 and 8). */
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>

#include "base/bytes.h"
#include "repo/repo_internal.h"

uint32_t repo_generation(const struct repo *r)
{
	return keyring_newest(r->keys)->generation;
}

bool repo_has_domain(const struct repo *r, const char *domain)
{
	return keyring_domain(r->keys, domain ? domain : DEFAULT_DOMAIN) != NULL;
}

int id_of_chunk(struct crypt *c, const struct repo *r, const char *domain, const void *plain, size_t len,
		struct id *ret, struct err *e)
{
	const struct key_domain *d = domain ? keyring_domain(r->keys, domain) : r->keys->default_domain;

	assert(d);
	return crypt_b2(c, d->id_key, "kedge-chunk-v1", plain, len, ret, e);
}

int id_of_node(struct crypt *c, const struct repo *r, const void *encoded, size_t len, struct id *ret, struct err *e)
{
	return crypt_b2(c, r->keys->default_domain->id_key, "kedge-node-v1", encoded, len, ret, e);
}

static void derive_pack_key(const struct key_generation *g, const struct wiped_key *random, struct pack_key *k)
{
	hash_b2(k->key, g->shared, KEY_BYTES, NULL, "kedge-packkey-v1", random->b, KEY_BYTES);
	k->generation = g->generation;
}

struct sum pack_key_row_sum(uint32_t generation, const uint8_t sealed[BOX_BYTES])
{
	uint8_t row[4 + BOX_BYTES];

	put_le32(row, generation);
	memcpy(row + 4, sealed, BOX_BYTES);
	return sum_of(row, sizeof(row));
}

static struct sum key_sum(const struct pack_key *k)
{
	struct sum row = pack_key_row_sum(k->generation, k->sealed), key = sum_of(k->key, KEY_BYTES);

	return (struct sum){ row.lo ^ key.lo, row.hi + key.hi + (uint64_t)k->kind };
}

int pack_key_check(const struct pack_key *k, struct err *e)
{
	struct sum is = key_sum(k);

	return sum_eq(&is, &k->sum) ? 0 : sum_error(e, "the key of a pack");
}

/* Whoever can't read what was sealed with a key has only the sum. */
static int open_again(struct repo *r, const struct pack_key *k, struct err *e)
{
	struct pack_key back;
	bool same;

	if (r->keys->role == ROLE_PUT || (k->kind == PACK_DATA && r->keys->role != ROLE_FULL))
		return 0;
	if (pack_key_open(r, k->kind, k->generation, k->sealed, &back, e) < 0) {
		err_clear(e);
		return sum_error(e, "the sealed key of a pack");
	}
	same = !sodium_memcmp(back.key, k->key, KEY_BYTES);
	sodium_memzero(&back, sizeof(back));
	return same ? 0 : sum_error(e, "the key of a pack");
}

int pack_key_new(struct repo *r, enum pack_kind kind, struct pack_key *ret, struct err *e)
{
	const struct key_generation *g = keyring_newest(r->keys);
	CLEANUP(wiped_key_done) struct wiped_key random = { 0 };
	uint8_t sealed[BOX_BYTES];

	assert(kind == PACK_DATA || kind == PACK_NODES);
	randombytes_buf(random.b, KEY_BYTES);
	if (crypto_box_seal(sealed, random.b, KEY_BYTES, kind == PACK_DATA ? g->data_public : g->nodes_public) != 0)
		return err_set(e, ERR_CORRUPT, "the key slot's public key for packs is no valid point");
	derive_pack_key(g, &random, ret);
	memcpy(ret->sealed, sealed, BOX_BYTES);
	ret->kind = kind;
	ret->sum = key_sum(ret);
	return open_again(r, ret, e);
}

int pack_key_open(struct repo *r, enum pack_kind kind, uint32_t generation, const uint8_t sealed[BOX_BYTES],
		  struct pack_key *ret, struct err *e)
{
	const struct key_generation *g = keyring_generation(r->keys, generation);
	CLEANUP(wiped_key_done) struct wiped_key random = { 0 };
	bool data = kind == PACK_DATA;

	assert(kind == PACK_DATA || kind == PACK_NODES);
	if (!g)
		return err_set(e, ERR_AUTH,
			       "it is sealed under key generation %" PRIu32 ", which this key slot does not hold",
			       generation);
	if (r->keys->role == ROLE_PUT || (data && r->keys->role != ROLE_FULL))
		return err_set(e, ERR_AUTH, "a %s key cannot read %s", slot_role_name(r->keys->role),
			       data ? "guest data" : "trees");
	if (crypto_box_seal_open(random.b, sealed, BOX_BYTES, data ? g->data_public : g->nodes_public,
				 data ? g->data_secret : g->nodes_secret) != 0)
		return err_set(e, ERR_CORRUPT, "a pack key does not open: damaged or forged");
	derive_pack_key(g, &random, ret);
	memcpy(ret->sealed, sealed, BOX_BYTES);
	ret->kind = kind;
	return 0;
}

#define SEGMENT_AD_BYTES 29u
#define BLOCK_AD_BYTES 21u

static void segment_ad(uint8_t ad[SEGMENT_AD_BYTES], const struct repo *r, const struct pack_key *k, uint64_t birth)
{
	memcpy(ad, r->cfg.cipher_id, CIPHER_ID_BYTES);
	ad[16] = k->kind == PACK_DATA ? OBJECT_DATA_SEGMENT : OBJECT_NODE_SEGMENT;
	put_le32(ad + 17, k->generation);
	put_le64(ad + 21, birth);
}

int segment_aead_seal(struct crypt *c, const struct repo *r, const struct pack_key *k, uint64_t birth,
		      const void *plain, size_t len, uint8_t *out, struct err *e)
{
	uint8_t ad[SEGMENT_AD_BYTES];
	struct crypt_aead a = { .key = k->key, .nonce = out, .ad = ad, .ad_len = sizeof(ad) };

	segment_ad(ad, r, k, birth);
	randombytes_buf(out, NONCE_BYTES);
	return crypt_seal(c, &a, plain, len, out + NONCE_BYTES, e);
}

int segment_aead_open(struct crypt *c, const struct repo *r, const struct pack_key *k, uint64_t birth,
		      const void *sealed, size_t len, uint8_t *out, struct err *e)
{
	uint8_t ad[SEGMENT_AD_BYTES];
	struct crypt_aead a = { .key = k->key, .nonce = sealed, .ad = ad, .ad_len = sizeof(ad) };

	if (len < AEAD_BYTES)
		return err_set(e, ERR_CORRUPT, "a segment of %zu bytes is no sealed one", len);
	segment_ad(ad, r, k, birth);
	return crypt_open(c, &a, (const uint8_t *)sealed + NONCE_BYTES, len - NONCE_BYTES, out, e);
}

static void block_ad(uint8_t ad[BLOCK_AD_BYTES], const struct repo *r, uint32_t generation)
{
	memcpy(ad, r->cfg.cipher_id, CIPHER_ID_BYTES);
	ad[16] = OBJECT_INDEX_BLOCK;
	put_le32(ad + 17, generation);
}

void block_aead_seal(struct repo *r, const uint8_t plain[INDEX_BLOCK_PLAIN], uint8_t out[INDEX_BLOCK_BYTES])
{
	const struct key_generation *g = keyring_newest(r->keys);
	uint8_t ad[BLOCK_AD_BYTES];

	block_ad(ad, r, g->generation);
	randombytes_buf(out, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + NONCE_BYTES, NULL, plain, INDEX_BLOCK_PLAIN, ad, sizeof(ad),
						   NULL, out, g->index);
}

int block_aead_open(struct repo *r, uint32_t generation, const uint8_t sealed[INDEX_BLOCK_BYTES],
		    uint8_t out[INDEX_BLOCK_PLAIN], struct err *e)
{
	const struct key_generation *g = keyring_generation(r->keys, generation);
	uint8_t ad[BLOCK_AD_BYTES];

	if (!g)
		return err_set(e, ERR_AUTH,
			       "it is sealed under key generation %" PRIu32 ", which this key slot does not hold",
			       generation);
	block_ad(ad, r, generation);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed + NONCE_BYTES,
						       INDEX_BLOCK_BYTES - NONCE_BYTES, ad, sizeof(ad), sealed,
						       g->index) != 0)
		return err_set(e, ERR_CORRUPT, "an index block's seal does not verify: damaged or forged");
	return 0;
}
