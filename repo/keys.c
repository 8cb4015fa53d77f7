/* keys.c - the keyring: what a slot unlocks, as bytes and in guarded memory (docs/format.md, section 2.1). */
#include <inttypes.h>
#include <sodium.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/repo_internal.h"

#define PAYLOAD_HEAD_BYTES 104u
#define GENERATION_BYTES (4u + 6u * KEY_BYTES)
#define PAYLOAD_ALIGN 256u

void keyring_free(struct keyring *k)
{
	if (!k)
		return;
	sodium_free(k->generations);
	sodium_free(k->domains);
	sodium_free(k);
}

static int keyring_alloc(uint32_t ngenerations, uint32_t ndomains, struct keyring **ret, struct err *e)
{
	CLEANUP(keyring_free_cleanup) struct keyring *k = sodium_malloc(sizeof(*k));

	if (!k)
		return err_set(e, ERR_NOMEM, "no protected memory for keys");
	memset(k, 0, sizeof(*k));
	k->generations = sodium_allocarray(ngenerations, sizeof(*k->generations));
	k->domains = sodium_allocarray(ndomains, sizeof(*k->domains));
	if (!k->generations || !k->domains)
		return err_set(e, ERR_NOMEM, "no protected memory for keys");
	memset(k->generations, 0, ngenerations * sizeof(*k->generations));
	memset(k->domains, 0, ndomains * sizeof(*k->domains));
	k->ngenerations = ngenerations;
	k->ndomains = ndomains;
	*ret = STEAL(k);
	return 0;
}

/* Makes the forms that libsodium signs with from the seeds. */
static void expand(struct keyring *k)
{
	uint8_t authority[32];

	crypto_sign_seed_keypair(k->slot_public, k->slot_secret, k->slot_seed);
	if (k->role == ROLE_FULL)
		crypto_sign_seed_keypair(authority, k->authority_secret, k->authority_seed);
	k->default_domain = keyring_domain(k, DEFAULT_DOMAIN);
}

static struct sum keyring_sum(const struct keyring *k)
{
	struct sum g = sum_of(k->generations, k->ngenerations * sizeof(*k->generations)),
		   d = sum_of(k->domains, k->ndomains * sizeof(*k->domains)),
		   a = sum_of(k->authority_seed, sizeof(k->authority_seed));
	uint64_t rest = sum64(k->slot_seed, sizeof(k->slot_seed), k->ngenerations);

	rest = sum64(k->authority_public, sizeof(k->authority_public), rest);
	rest = sum64(k->authority_secret, sizeof(k->authority_secret), rest);
	rest = sum64(k->slot_public, sizeof(k->slot_public), rest);
	rest = sum64(k->slot_secret, sizeof(k->slot_secret), rest);
	return (struct sum){ (g.lo ^ d.lo ^ a.lo) + rest, g.hi + d.hi + a.hi };
}

int keyring_check(const struct keyring *k, struct err *e)
{
	struct sum is = keyring_sum(k);

	return sum_eq(&is, &k->sum) ? 0 : sum_error(e, "one of this repository's keys");
}

int keyring_generate(struct keyring **ret, struct err *e)
{
	CLEANUP(keyring_free_cleanup) struct keyring *k = NULL;
	struct key_generation *g;

	if (keyring_alloc(1, 1, &k, e) < 0)
		return e->code;
	k->role = ROLE_FULL;
	randombytes_buf(k->authority_seed, 32);
	randombytes_buf(k->slot_seed, 32);
	crypto_sign_seed_keypair(k->authority_public, k->authority_secret, k->authority_seed);
	g = &k->generations[0];
	g->generation = 1;
	randombytes_buf(g->index, KEY_BYTES);
	randombytes_buf(g->shared, KEY_BYTES);
	crypto_box_keypair(g->nodes_public, g->nodes_secret);
	crypto_box_keypair(g->data_public, g->data_secret);
	memcpy(k->domains[0].name, DEFAULT_DOMAIN, sizeof(DEFAULT_DOMAIN));
	randombytes_buf(k->domains[0].id_key, KEY_BYTES);
	expand(k);
	k->sum = keyring_sum(k);
	*ret = STEAL(k);
	return 0;
}

const struct key_generation *keyring_generation(const struct keyring *k, uint32_t generation)
{
	for (uint32_t i = k->ngenerations; i-- > 0;)	/* the newest is asked for most */
		if (k->generations[i].generation == generation)
			return &k->generations[i];
	return NULL;
}

const struct key_domain *keyring_domain(const struct keyring *k, const char *name)
{
	for (uint32_t i = 0; i < k->ndomains; i++)
		if (!strcmp(k->domains[i].name, name))
			return &k->domains[i];
	return NULL;
}

static size_t payload_bytes(const struct keyring *k)
{
	size_t n = PAYLOAD_HEAD_BYTES + (size_t)k->ngenerations * GENERATION_BYTES;

	for (uint32_t i = 0; i < k->ndomains; i++)
		n += 1 + strlen(k->domains[i].name) + KEY_BYTES;
	return (size_t)round_up(n, PAYLOAD_ALIGN);
}

static uint8_t *put_key(uint8_t *p, const uint8_t key[KEY_BYTES], bool held)
{
	if (held)
		memcpy(p, key, KEY_BYTES);
	return p + KEY_BYTES;
}

int keyring_encode(const struct keyring *k, enum slot_role role, const uint8_t slot_seed[32], uint8_t **ret,
		   size_t *ret_len, struct err *e)
{
	size_t len = payload_bytes(k);
	uint8_t *payload, *p;

	if (role > k->role)
		return err_set(e, ERR_AUTH, "a %s key cannot make a %s key", slot_role_name(k->role),
			       slot_role_name(role));
	payload = sodium_malloc(len);
	if (!payload)
		return err_set(e, ERR_NOMEM, "no protected memory for %zu bytes of keys", len);
	memset(payload, 0, len);
	payload[0] = 1;
	payload[1] = (uint8_t)role;
	put_le16(payload + 2, (uint16_t)k->ndomains);
	put_le32(payload + 4, k->ngenerations);
	p = put_key(payload + 8, k->authority_public, true);
	p = put_key(p, slot_seed, true);
	p = put_key(p, k->authority_seed, role == ROLE_FULL);
	for (uint32_t i = 0; i < k->ngenerations; i++) {
		const struct key_generation *g = &k->generations[i];

		put_le32(p, g->generation);
		p = put_key(p + 4, g->index, true);
		p = put_key(p, g->shared, true);
		p = put_key(p, g->nodes_public, true);
		p = put_key(p, g->data_public, true);
		p = put_key(p, g->nodes_secret, role != ROLE_PUT);
		p = put_key(p, g->data_secret, role == ROLE_FULL);
	}
	for (uint32_t i = 0; i < k->ndomains; i++) {
		size_t n = strlen(k->domains[i].name);

		*p++ = (uint8_t)n;
		memcpy(p, k->domains[i].name, n);
		p = put_key(p + n, k->domains[i].id_key, true);
	}
	*ret = payload;
	*ret_len = len;
	return 0;
}

/* A secret key must belong to its public key where the role holds it, and be absent where not. */
static bool pair_ok(const uint8_t public[KEY_BYTES], const uint8_t secret[KEY_BYTES], bool held)
{
	uint8_t computed[KEY_BYTES];

	if (!held)
		return bytes_all_zero(secret, KEY_BYTES);
	return crypto_scalarmult_base(computed, secret) == 0 && !memcmp(computed, public, KEY_BYTES);
}

static int decode_generation(struct rd *rd, enum slot_role role, uint32_t above, struct key_generation *g,
			     struct err *e)
{
	if (!rd_le32(rd, &g->generation) || !rd_copy(rd, g->index, KEY_BYTES) || !rd_copy(rd, g->shared, KEY_BYTES) ||
	    !rd_copy(rd, g->nodes_public, KEY_BYTES) || !rd_copy(rd, g->data_public, KEY_BYTES) ||
	    !rd_copy(rd, g->nodes_secret, KEY_BYTES) || !rd_copy(rd, g->data_secret, KEY_BYTES))
		return err_set(e, ERR_CORRUPT, "the keys end inside generation %" PRIu32, g->generation);
	if (g->generation <= above)
		return err_set(e, ERR_CORRUPT, "key generation %" PRIu32 " after %" PRIu32, g->generation, above);
	if (!pair_ok(g->nodes_public, g->nodes_secret, role != ROLE_PUT) ||
	    !pair_ok(g->data_public, g->data_secret, role == ROLE_FULL))
		return err_set(e, ERR_CORRUPT, "the key pairs of generation %" PRIu32 " do not fit a %s key",
			       g->generation, slot_role_name(role));
	return 0;
}

static int decode_domain(struct rd *rd, struct keyring *k, uint32_t i, struct err *e)
{
	struct key_domain *d = &k->domains[i];
	uint8_t len;

	if (!rd_u8(rd, &len) || len < 1 || len > DOMAIN_NAME_MAX || !rd_copy(rd, d->name, len) ||
	    !rd_copy(rd, d->id_key, KEY_BYTES))
		return err_set(e, ERR_CORRUPT, "the keys end inside domain %" PRIu32, i);
	if (strlen(d->name) != len || !text_is_name(d->name) || keyring_domain(k, d->name) != d)
		return err_set(e, ERR_CORRUPT, "domain %" PRIu32 " has no valid name of its own", i);
	return 0;
}

/* The fixed head; makes the keyring with room for what the counts say and the bytes can hold. */
static int decode_head(struct rd *rd, struct keyring **ret, struct err *e)
{
	CLEANUP(keyring_free_cleanup) struct keyring *k = NULL;
	uint8_t version, role, authority[32], secret[64];
	uint32_t ngenerations;
	uint16_t ndomains;
	bool match;

	if (!rd_u8(rd, &version) || !rd_u8(rd, &role) || !rd_le16(rd, &ndomains) || !rd_le32(rd, &ngenerations))
		return err_set(e, ERR_CORRUPT, "the keys end inside their head");
	if (version != 1)
		return err_set(e, ERR_UNSUPPORTED, "the keys have version %u; this program knows version 1", version);
	if (role < ROLE_PUT || role > ROLE_FULL || ndomains < 1 || ndomains > DOMAINS_MAX || ngenerations < 1 ||
	    ngenerations > GENERATIONS_MAX || rd->left / GENERATION_BYTES < ngenerations ||
	    rd->left / (2 + KEY_BYTES) < ndomains)
		return err_set(e, ERR_CORRUPT, "the keys say role %u, %u domains, %" PRIu32 " generations in %zu bytes",
			       role, ndomains, ngenerations, rd->left);
	if (keyring_alloc(ngenerations, ndomains, &k, e) < 0)
		return e->code;
	k->role = (enum slot_role)role;
	if (!rd_copy(rd, k->authority_public, 32) || !rd_copy(rd, k->slot_seed, 32) ||
	    !rd_copy(rd, k->authority_seed, 32))
		return err_set(e, ERR_CORRUPT, "the keys end inside their head");
	crypto_sign_seed_keypair(authority, secret, k->authority_seed);
	sodium_memzero(secret, sizeof(secret));
	match = !memcmp(authority, k->authority_public, 32);
	if (k->role == ROLE_FULL ? !match : !bytes_all_zero(k->authority_seed, 32))
		return err_set(e, ERR_CORRUPT, "the authority's key does not fit a %s key", slot_role_name(k->role));
	*ret = STEAL(k);
	return 0;
}

int keyring_decode(const void *payload, size_t len, struct keyring **ret, struct err *e)
{
	CLEANUP(keyring_free_cleanup) struct keyring *k = NULL;
	struct rd rd = rd_of(payload, len);
	uint32_t above = 0;

	if (len % PAYLOAD_ALIGN)
		return err_set(e, ERR_CORRUPT, "%zu bytes of keys are no multiple of %u", len, PAYLOAD_ALIGN);
	if (decode_head(&rd, &k, e) < 0)
		return e->code;
	for (uint32_t i = 0; i < k->ngenerations; i++) {
		if (decode_generation(&rd, k->role, above, &k->generations[i], e) < 0)
			return e->code;
		above = k->generations[i].generation;
	}
	for (uint32_t i = 0; i < k->ndomains; i++)
		if (decode_domain(&rd, k, i, e) < 0)
			return e->code;
	if (rd.left >= PAYLOAD_ALIGN || !bytes_all_zero(rd.p, rd.left))
		return err_set(e, ERR_CORRUPT, "%zu bytes behind the keys are not padding", rd.left);
	expand(k);
	if (!k->default_domain)
		return err_set(e, ERR_CORRUPT, "there is no id key of the domain \"%s\"", DEFAULT_DOMAIN);
	k->sum = keyring_sum(k);
	*ret = STEAL(k);
	return 0;
}
