/*
 * luks_write.c - a new header of LUKS version 1, as QEMU makes it: AES-256 in XTS mode, plain64, SHA-256, one key slot
 * of eight in use.  luks.c has the layout of the bytes.
 *
 *	0 header, 592 bytes  4096 + n * 258048: material of slot n, 256000 bytes  2068480: where data would begin
 *
 * The data's key, all salts and the stripes are random, from the system.  How often PBKDF2 goes round is measured, so
 * that trying one password costs the time that was asked for.
 */
#include <gcrypt.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/crypt/crypt_internal.h"
#include "formats/ids.h"

#define KEY_BYTES 64u				/* both halves for XTS */
#define ALIGN_BYTES 4096u
#define SALT_BYTES 32u
#define MATERIAL_BYTES (KEY_BYTES * LUKS_STRIPES)
#define SLOT_STRIDE (((MATERIAL_BYTES + ALIGN_BYTES - 1) / ALIGN_BYTES) * ALIGN_BYTES)
#define PAYLOAD (ALIGN_BYTES + LUKS_SLOTS * SLOT_STRIDE)
#define ITERATIONS_LEAST 100000u		/* also where the clock says otherwise */
#define ITERATIONS_MOST ((uint32_t)1 << 24)	/* luks_open takes 2^28 rounds, two for each of these */
#define MEASURE_NS 50000000			/* long enough for the clock */

static const char cipher_name[] = "aes", mode_name[] = "xts-plain64", hash_name[] = "sha256";

/* Locked memory for all that the key can be had from. */
struct work {
	uint8_t key[KEY_BYTES], slot_key[KEY_BYTES], last[KEY_BYTES];
	uint8_t material[MATERIAL_BYTES];
};

static void work_free(struct work **w)
{
	sodium_free(*w);	/* wipes; NULL is fine */
}

static int derive(const uint8_t *p, size_t p_len, const uint8_t salt[SALT_BYTES], uint32_t iterations, uint8_t *out,
		  size_t len, struct err *e)
{
	gcry_error_t r =
		gcry_kdf_derive(p, p_len, GCRY_KDF_PBKDF2, GCRY_MD_SHA256, salt, SALT_BYTES, iterations, len, out);

	return r ? err_set(e, ERR_INTERNAL, "LUKS: key derivation: %s", gcry_strerror(r)) : 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);	/* there on every Linux */
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Iterations of PBKDF2 for a key that take so long here.  This thread's time counts: others may be busy. */
static int measure(struct work *w, unsigned ms, uint32_t *ret, struct err *e)
{
	uint8_t salt[SALT_BYTES] = { 0 };
	uint64_t ns = 0;
	uint32_t n = ITERATIONS_LEAST / 4;

	for (; n < ITERATIONS_MOST; n *= 2) {
		uint64_t start = cpu_ns();

		if (derive((const uint8_t *)"password", 8, salt, n, w->slot_key, KEY_BYTES, e) < 0)
			return e->code;
		ns = cpu_ns() - start;
		if (ns >= MEASURE_NS)
			break;
	}
	n = (uint32_t)min_u64((uint64_t)n * ms * 1000000 / max_u64(ns, 1), ITERATIONS_MOST);
	*ret = n < ITERATIONS_LEAST ? ITERATIONS_LEAST : n;
	return 0;
}

/* Spreads the key over the stripes (AFsplit of the specification): all but the last are random. */
static void split(struct work *w)
{
	uint8_t *last = w->material + (size_t)KEY_BYTES * (LUKS_STRIPES - 1);

	randombytes_buf(w->material, (size_t)KEY_BYTES * (LUKS_STRIPES - 1));
	memset(w->last, 0, KEY_BYTES);
	for (size_t s = 0; s + 1 < LUKS_STRIPES; s++) {
		for (size_t i = 0; i < KEY_BYTES; i++)
			w->last[i] ^= w->material[s * KEY_BYTES + i];
		luks_diffuse(GCRY_MD_SHA256, w->last, KEY_BYTES);
	}
	for (size_t i = 0; i < KEY_BYTES; i++)
		last[i] = w->last[i] ^ w->key[i];
}

/* The key's stripes, encrypted with what the password gives, for slot 0. */
static int make_material(struct work *w, const struct image_secret *s, const struct imgcrypt_spec *spec,
			 const uint8_t salt[SALT_BYTES], uint32_t iterations, uint8_t *out, struct err *e)
{
	struct imgcrypt *c;
	int r;

	split(w);
	if (derive(s->p, s->len, salt, iterations, w->slot_key, KEY_BYTES, e) < 0 ||
	    imgcrypt_new(spec, w->slot_key, &c, e) < 0)
		return e->code;
	r = imgcrypt_encrypt(c, out, w->material, MATERIAL_BYTES, 0, e);
	imgcrypt_free(c);
	return r;
}

static void put_slots(uint8_t *h, const uint8_t salt[SALT_BYTES], uint32_t iterations)
{
	for (uint32_t i = 0; i < LUKS_SLOTS; i++) {
		uint8_t *p = h + 208 + (size_t)48 * i;

		put_be32(p, i ? LUKS_SLOT_DISABLED : LUKS_SLOT_ACTIVE);
		put_be32(p + 40, (ALIGN_BYTES + i * SLOT_STRIDE) / CRYPT_SECTOR);
		put_be32(p + 44, LUKS_STRIPES);
	}
	put_be32(h + 208 + 4, iterations);
	memcpy(h + 208 + 8, salt, SALT_BYTES);
}

static int fill(uint8_t *h, struct work *w, const struct image_secret *s, unsigned ms, const struct imgcrypt_spec *spec,
		struct err *e)
{
	uint8_t salt[SALT_BYTES], digest_salt[SALT_BYTES], uuid[16];
	const struct writer_opts at_random = { .path = NULL };
	uint32_t iterations = 0;

	randombytes_buf(w->key, KEY_BYTES);
	randombytes_buf(salt, sizeof(salt));
	randombytes_buf(digest_salt, sizeof(digest_salt));
	uuid_for(&at_random, NULL, "luks", uuid);
	if (measure(w, ms, &iterations, e) < 0)
		return e->code;
	memcpy(h, "LUKS\xba\xbe\0\1", 8);
	memcpy(h + 8, cipher_name, sizeof(cipher_name));
	memcpy(h + 40, mode_name, sizeof(mode_name));
	memcpy(h + 72, hash_name, sizeof(hash_name));
	put_be32(h + 104, PAYLOAD / CRYPT_SECTOR);
	put_be32(h + 108, KEY_BYTES);
	memcpy(h + 132, digest_salt, sizeof(digest_salt));
	put_be32(h + 164, iterations / 8);	/* one that tries passwords pays for the slot before */
	(void)uuid_text(uuid, (char *)h + 168);
	put_slots(h, salt, iterations);
	if (derive(w->key, KEY_BYTES, digest_salt, iterations / 8, h + 112, LUKS_DIGEST_BYTES, e) < 0)
		return e->code;
	return make_material(w, s, spec, salt, iterations, h + ALIGN_BYTES, e);
}

int luks_make(const struct image_secret *s, unsigned ms, uint8_t **ret_header, size_t *ret_len, struct imgcrypt **ret,
	      struct err *e)
{
	CLEANUP(work_free) struct work *w = NULL;
	CLEANUP(free_ptr) uint8_t *h = NULL;
	struct imgcrypt_spec spec;

	if (!s->len)
		return err_set(e, ERR_INVALID, "the passphrase of the new image is empty");
	if (s->p[s->len - 1] == '\n') {
		(void)err_set(e, ERR_INVALID,
			      "the passphrase of the new image ends with a newline, which programs would or wouldn't "
			      "take for a part of it");
		return err_hint(e, "write it without one: printf %%s PASSPHRASE >FILE");
	}
	if (imgcrypt_spec_of(cipher_name, mode_name, KEY_BYTES, &spec, e) < 0)	/* starts the libraries */
		return e->code;
	w = sodium_malloc(sizeof(*w));
	h = calloc(1, PAYLOAD);
	if (!w || !h)
		return err_set(e, ERR_NOMEM, "no protected memory for keys (see ulimit -l)");
	if (fill(h, w, s, ms ? ms : LUKS_MS_DEFAULT, &spec, e) < 0 || imgcrypt_new(&spec, w->key, ret, e) < 0)
		return e->code;
	*ret_header = STEAL(h);
	*ret_len = PAYLOAD;
	return 0;
}
