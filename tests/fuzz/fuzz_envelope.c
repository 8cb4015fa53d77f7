/*
 * fuzz_envelope.c - sealed objects, from outside and from within: byte 0 is the type, byte 1 says what the rest is.
 *
 *	0  the bytes of an object as they come from storage
 *	1  the plaintext, sealed with the right key: what somebody with a key could store
 *	2  as 1, and the signature in it is made right
 *	3  a payload, sealed as kedge does: it must come back
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/num.h"
#include "repo/repo_internal.h"
#include "transport/registry.h"

#define PASSWORD "fuzz"
#define FIELDS_BYTES 84u	/* of the plaintext before the payload; docs/format.md, section 3 */
#define SIGNATURE_AT 20u
#define DECODED_MAX MIB		/* of what this target signs itself */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static struct repo *the_repo(void)
{
	static struct repo *r;
	struct repo_init_opts o = { .chunk_size = CHUNK_MIN_BYTES, .argon_passes = 1, .argon_kib = 8192 };
	struct repo_open_opts open = { 0 };
	struct secret *secret = NULL, *recovery = NULL;
	struct store *store;
	struct err e = ERR_INIT;

	if (r)
		return r;
	check(store_mem_new(&store, &e) == 0 &&
	      secret_new(SECRET_PASSPHRASE, PASSWORD, sizeof(PASSWORD) - 1, &secret, &e) == 0 &&
	      repo_init(store, secret, &o, &recovery, &e) == 0 && repo_open(store, secret, &open, &r, &e) == 0);
	secret_free(secret);
	secret_free(recovery);
	return r;
}

static bool by_authority(enum object_type type) { return type == OBJECT_CONFIG || type == OBJECT_SLOT; }

/* What the payload decodes to, malloc'ed; NULL: it doesn't, and no signature could be right. */
static uint8_t *decoded(const uint8_t *plain, size_t len, size_t *ret_len)
{
	uint32_t stored = get_le32(plain + 4), want = get_le32(plain + 8);
	uint8_t *out;

	if (stored > len - FIELDS_BYTES || want > DECODED_MAX)
		return NULL;
	out = malloc(want + 1);
	check(out != NULL);
	*ret_len = want;
	if (get_le32(plain) == 0 && want == stored)
		memcpy(out, plain + FIELDS_BYTES, stored);
	else if (ZSTD_decompress(out, want, plain + FIELDS_BYTES, stored) != want) {
		free(out);
		return NULL;
	}
	return out;
}

static void sign(struct repo *r, enum object_type type, uint8_t *plain, size_t len)
{
	CLEANUP(free_ptr) uint8_t *payload = NULL, *msg = NULL;
	size_t n;

	memset(plain + 12, 0, SLOT_BYTES);
	if (!by_authority(type))
		memcpy(plain + 12, r->own.b, SLOT_BYTES);
	payload = decoded(plain, len, &n);
	if (!payload)
		return;
	msg = calloc(1, 41 + n);
	check(msg != NULL);
	memcpy(msg, "kedge-sign-v1", 13);
	memcpy(msg + 16, r->cfg.cipher_id, CIPHER_ID_BYTES);
	msg[32] = (uint8_t)type;
	memcpy(msg + 33, plain + 12, SLOT_BYTES);
	memcpy(msg + 41, payload, n);
	crypto_sign_detached(plain + SIGNATURE_AT, NULL, msg, 41 + n,
			     by_authority(type) ? r->keys->authority_secret : r->keys->slot_secret);
}

/* An envelope around any plaintext; its length is not rounded, which no reader may rely on. */
static size_t seal(struct repo *r, enum object_type type, const uint8_t *plain, size_t len, uint8_t *out)
{
	const struct key_generation *g = keyring_newest(r->keys);
	bool object_key = type == OBJECT_MANIFEST || type == OBJECT_CATALOGUE;
	uint8_t key[KEY_BYTES], random[KEY_BYTES] = { 7 }, ad[21], *p = out + 16;

	memcpy(out, "KEDGEOBJ\1", 9);
	out[9] = (uint8_t)type;
	out[10] = object_key ? 2 : 1;
	out[11] = 0;
	put_le32(out + 12, g->generation);
	memcpy(key, g->index, KEY_BYTES);
	if (object_key) {
		check(crypto_box_seal(p, random, KEY_BYTES, g->nodes_public) == 0);
		hash_b2(key, g->shared, KEY_BYTES, NULL, "kedge-objectkey1", random, KEY_BYTES);
		p += BOX_BYTES;
	}
	memcpy(ad, r->cfg.cipher_id, CIPHER_ID_BYTES);
	ad[16] = (uint8_t)type;
	put_le32(ad + 17, g->generation);
	memset(p, 9, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(p + NONCE_BYTES, NULL, plain, len, ad, sizeof(ad), NULL, p, key);
	return (size_t)(p - out) + len + AEAD_BYTES;
}

/* Whether it opens; what it says then must hold together. */
static bool try_open(struct repo *r, enum object_type type, const uint8_t *p, size_t len, const uint8_t *want,
		     size_t want_len)
{
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct err e = ERR_INIT;
	struct slot_id signer;
	uint32_t generation;
	size_t n;

	if (envelope_open(r, type, p, len, &payload, &n, &signer, &generation, &e) < 0) {
		check(e.code < 0 && e.cause[0] && !payload);
		return false;
	}
	check(n <= PAYLOAD_MAX_BYTES && payload[n] == 0 && generation == repo_generation(r));
	check(!want || (n == want_len && !memcmp(payload, want, n)));
	return true;
}

static void fuzz_sealed(struct repo *r, enum object_type type, const uint8_t *p, size_t len, bool signed_rightly)
{
	CLEANUP(free_ptr) uint8_t *plain = malloc(len + 1), *out = malloc(len + 16 + BOX_BYTES + AEAD_BYTES);
	size_t n;

	check(plain && out);
	memcpy(plain, p, len);
	if (signed_rightly && len >= FIELDS_BYTES)
		sign(r, type, plain, len);
	n = seal(r, type, plain, len, out);
	(void)try_open(r, type, out, n, NULL, 0);
}

static void fuzz_payload(struct repo *r, enum object_type type, const uint8_t *p, size_t len)
{
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, ENVELOPE_MAX_BYTES);
	check(envelope_seal(r, type, p, len, &out, &e) == 0 && padme(out.len) == out.len);
	check(try_open(r, type, out.p, out.len, p, len));
	buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct repo *r = the_repo();
	enum object_type type;

	if (size < 2)
		return 0;
	type = (enum object_type)(data[0] % (OBJECT_TYPE_END - 1) + 1);
	switch (data[1] & 3) {
	case 0: (void)try_open(r, type, data + 2, size - 2, NULL, 0); break;
	case 1: fuzz_sealed(r, type, data + 2, size - 2, false); break;
	case 2: fuzz_sealed(r, type, data + 2, size - 2, true); break;
	default: fuzz_payload(r, type, data + 2, size - 2); break;
	}
	return 0;
}
