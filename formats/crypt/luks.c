/*
 * luks.c - the header of LUKS version 1, big-endian, and its key slots.
 *
 *	0 "LUKS\xba\xbe"  6 u16 version  8 32 cipher  40 32 mode  72 32 hash  104 payload  108 key bytes
 *	112 20 digest of the key  132 32 its salt  164 its iterations  168 40 UUID
 *	208 + 48 n: slot: active (0x00ac71f3)  iterations  32 salt  key material's sector  stripes
 *
 * A slot's key material is the data's key, spread over the stripes and encrypted with a key made from the password.
 */
#include <gcrypt.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/crypt/crypt_internal.h"
#include "formats/file.h"

#define HASH_MAX 64u
#define CANCEL_ROUNDS 4096u	/* so often it is asked: milliseconds */

static const char *const hashes[] = { "sha1", "sha224", "sha256", "sha384", "sha512", "md5", "ripemd160" };

static int hash_of(const char *name, struct err *e)
{
	char q[64];
	int id = 0;

	for (size_t i = 0; i < sizeof(hashes) / sizeof(*hashes); i++)
		if (!strcmp(hashes[i], name))
			id = gcry_md_map_name(name);
	if (id && gcry_md_get_algo_dlen(id) && gcry_md_get_algo_dlen(id) <= HASH_MAX)
		return id;	/* this libgcrypt has it, and allows it */
	return err_set(e, ERR_UNSUPPORTED, "LUKS header: hash \"%s\" is not supported",
		       text_quote(name, q, sizeof(q)));
}

static bool take_name(struct rd *r, char name[33])
{
	name[32] = '\0';
	return rd_copy(r, name, 32);
}

static bool take_slot(struct rd *r, struct luks_slot *s)
{
	return rd_be32(r, &s->active) && rd_be32(r, &s->iterations) && rd_copy(r, s->salt, sizeof(s->salt)) &&
	       rd_be32(r, &s->offset) && rd_be32(r, &s->stripes);
}

static int decode(struct rd r, struct luks_header *h, struct err *e)
{
	const uint8_t *magic;
	uint16_t version;

	if (!rd_take(&r, 6, &magic) || memcmp(magic, "LUKS\xba\xbe", 6) != 0 || !rd_be16(&r, &version))
		return err_set(e, ERR_CORRUPT, "LUKS header: it doesn't begin with \"LUKS\\xba\\xbe\"");
	if (version != 1)
		return err_set(e, ERR_UNSUPPORTED, "LUKS header: version %u; images have version 1, and Argon2, which "
			       "version 2 has, is not supported", version);
	if (!take_name(&r, h->cipher) || !take_name(&r, h->mode) || !take_name(&r, h->hash) ||
	    !rd_be32(&r, &h->payload) || !rd_be32(&r, &h->key_len) || !rd_copy(&r, h->digest, LUKS_DIGEST_BYTES) ||
	    !rd_copy(&r, h->digest_salt, 32) || !rd_be32(&r, &h->digest_iterations) || !rd_skip(&r, 40))
		return err_set(e, ERR_CORRUPT, "LUKS header: it is cut off");
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		if (!take_slot(&r, &h->slots[i]))
			return err_set(e, ERR_CORRUPT, "LUKS header: it is cut off");
	return 0;
}

static size_t material_bytes(const struct luks_header *h)
{
	return (size_t)round_up((uint64_t)h->key_len * LUKS_STRIPES, CRYPT_SECTOR);
}

static int check_slots(struct luks_header *h, uint64_t len, struct err *e)
{
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *s = &h->slots[i];
		uint64_t at = (uint64_t)s->offset * CRYPT_SECTOR;

		if (s->active != LUKS_SLOT_ACTIVE && s->active != LUKS_SLOT_DISABLED)
			return err_set(e, ERR_CORRUPT,
				       "LUKS header: key slot %u is neither active nor disabled (0x%08" PRIx32 ")", i,
				       s->active);
		if (s->active != LUKS_SLOT_ACTIVE)
			continue;
		h->active++;
		if (s->stripes != LUKS_STRIPES)
			return err_set(e, ERR_CORRUPT, "LUKS header: key slot %u has %" PRIu32 " stripes, not 4000", i,
				       s->stripes);
		if (!s->iterations)
			return err_set(e, ERR_CORRUPT, "LUKS header: key slot %u has no iterations", i);
		if (at < LUKS_HEADER_BYTES || !range_ok(at, material_bytes(h), len))
			return err_set(e, ERR_CORRUPT,
				       "LUKS header: key slot %u lies at %" PRIu64 ", outside its %" PRIu64 " bytes", i,
				       at, len);
	}
	if (!h->active)
		return err_set(e, ERR_CORRUPT, "LUKS header: no key slot is active: nothing opens it any more");
	return 0;
}

int luks_read(const struct file *f, uint64_t off, uint64_t len, struct luks_header *ret, struct err *e)
{
	struct luks_header h = { 0 };
	uint8_t buf[LUKS_HEADER_BYTES];

	if (!range_ok(off, len, f->size) || len < LUKS_HEADER_BYTES)
		return err_set(e, ERR_CORRUPT, "LUKS header of %" PRIu64 " bytes at %" PRIu64 " is outside the file",
			       len, off);
	if (file_pread_full(f, buf, sizeof(buf), off, e) < 0)
		return err_ctx(e, "LUKS header");
	if (decode(rd_of(buf, sizeof(buf)), &h, e) < 0)
		return e->code;
	if (!h.key_len || h.key_len > CRYPT_KEY_MAX)
		return err_set(e, ERR_CORRUPT, "LUKS header: key of %" PRIu32 " bytes", h.key_len);
	if (!h.digest_iterations)
		return err_set(e, ERR_CORRUPT, "LUKS header: its key's digest has no iterations");
	if (imgcrypt_spec_of(h.cipher, h.mode, h.key_len, &h.spec, e) < 0)
		return err_ctx(e, "LUKS header");
	h.hash_id = hash_of(h.hash, e);
	if (h.hash_id < 0 || check_slots(&h, len, e) < 0)
		return e->code;
	*ret = h;
	return 0;
}

const char *luks_text(const struct luks_header *h, char *buf, size_t len)
{
	bool xts = !strncmp(h->mode, "xts", 3);

	snprintf(buf, len, "luks, %s-%" PRIu32 "-%s, %s, %u of %u key slots", h->cipher, h->key_len * 8 / (xts ? 2 : 1),
		 h->mode, h->hash, h->active, LUKS_SLOTS);
	return buf;
}

/* ---- keys ---- */

/* Locked memory for what a key comes out of. */
struct work {
	uint8_t slot_key[CRYPT_KEY_MAX], key[CRYPT_KEY_MAX], digest[LUKS_DIGEST_BYTES];
	uint8_t material[CRYPT_KEY_MAX * LUKS_STRIPES + CRYPT_SECTOR];
};

static void work_free(struct work **w)
{
	sodium_free(*w);	/* wipes; NULL is fine */
}

struct attempt {
	const struct file *f;
	uint64_t off;
	const struct luks_header *h;
	const struct luks_limits *limits;
	uint64_t rounds;	/* of all attempts so far */
	struct work *w;
};

/* Is so much work allowed?  A hostile header can ask for hours. */
static int check_work(struct attempt *a, uint32_t iterations, size_t len, const char *what, struct err *e)
{
	uint64_t rounds = div_up(len, gcry_md_get_algo_dlen(a->h->hash_id)) * iterations;

	if (rounds > a->limits->one)
		return err_set(e, ERR_UNSUPPORTED,
			       "LUKS header: %s asks for %" PRIu32 " iterations of %s; no more than %" PRIu64
			       " rounds are made for it", what, iterations, a->h->hash, a->limits->one);
	if (rounds > a->limits->all - a->rounds) {
		(void)err_set(e, ERR_UNSUPPORTED,
			      "LUKS: none of the secrets tried so far opens it, and more than %" PRIu64
			      " rounds of %s are not made for one image", a->limits->all, a->h->hash);
		return err_hint(e, "say which secret is for it: --image-secret NAME=FILE, with a layer's file name or "
				   "a disk's name");
	}
	a->rounds += rounds;
	return 0;
}

/* PBKDF2 (RFC 8018, 5.2) over HMAC.  libgcrypt's own can't be interrupted, and this takes seconds to minutes. */
static int rounds(const struct attempt *a, gcry_md_hd_t h, const uint8_t salt[32], uint32_t iterations, uint8_t *out,
		  size_t len, struct err *e)
{
	size_t size = gcry_md_get_algo_dlen(a->h->hash_id);
	uint8_t u[HASH_MAX], number[4];
	int r = 0;

	for (size_t at = 0; at < len && r == 0; at += size) {
		size_t n = min_size(size, len - at);

		put_be32(number, (uint32_t)(at / size + 1));
		gcry_md_reset(h);
		gcry_md_write(h, salt, 32);
		gcry_md_write(h, number, sizeof(number));
		memcpy(u, gcry_md_read(h, 0), size);
		memcpy(out + at, u, n);
		for (uint32_t k = 1; k < iterations && r == 0; k++) {
			gcry_md_reset(h);
			gcry_md_write(h, u, size);
			memcpy(u, gcry_md_read(h, 0), size);
			for (size_t i = 0; i < n; i++)
				out[at + i] ^= u[i];
			if (!(k % CANCEL_ROUNDS) && a->limits->cancel)
				r = cancel_check(a->limits->cancel, e);
		}
	}
	sodium_memzero(u, sizeof(u));
	return r;
}

static int derive(struct attempt *a, const uint8_t *p, size_t p_len, const uint8_t salt[32], uint32_t iterations,
		  uint8_t *out, size_t len, const char *what, struct err *e)
{
	gcry_md_hd_t h = NULL;
	gcry_error_t bad;
	int r;

	if (check_work(a, iterations, len, what, e) < 0)
		return e->code;
	bad = gcry_md_open(&h, a->h->hash_id, GCRY_MD_FLAG_HMAC);
	if (!bad)
		bad = gcry_md_setkey(h, p, p_len);
	r = bad ? err_set(e, ERR_UNSUPPORTED, "LUKS: %s: %s", what, gcry_strerror(bad))
		: rounds(a, h, salt, iterations, out, len, e);
	gcry_md_close(h);	/* wipes; NULL is fine */
	return r;
}

void luks_diffuse(int hash, uint8_t *p, size_t len)
{
	size_t size = gcry_md_get_algo_dlen(hash);
	uint8_t in[4 + HASH_MAX], out[HASH_MAX];

	for (size_t i = 0; i * size < len; i++) {
		size_t n = min_size(size, len - i * size);

		put_be32(in, (uint32_t)i);
		memcpy(in + 4, p + i * size, n);
		gcry_md_hash_buffer(hash, out, in, 4 + n);
		memcpy(p + i * size, out, n);
	}
	sodium_memzero(in, sizeof(in));
	sodium_memzero(out, sizeof(out));
}

/* Puts the stripes together again (AFmerge of the specification). */
static void merge(const struct luks_header *h, const uint8_t *material, uint8_t *key)
{
	memset(key, 0, h->key_len);
	for (size_t s = 0; s < LUKS_STRIPES; s++) {
		for (size_t i = 0; i < h->key_len; i++)
			key[i] ^= material[s * h->key_len + i];
		if (s + 1 < LUKS_STRIPES)
			luks_diffuse(h->hash_id, key, h->key_len);
	}
}

/* 1: the slot opens, and the key is in a->w->key; 0: it doesn't. */
static int try_slot(struct attempt *a, unsigned i, const uint8_t *p, size_t len, struct err *e)
{
	const struct luks_slot *s = &a->h->slots[i];
	size_t material = material_bytes(a->h);
	struct imgcrypt *c;
	char what[32];
	int r;

	snprintf(what, sizeof(what), "key slot %u", i);
	if (derive(a, p, len, s->salt, s->iterations, a->w->slot_key, a->h->key_len, what, e) < 0)
		return e->code;
	if (file_pread_full(a->f, a->w->material, material, a->off + (uint64_t)s->offset * CRYPT_SECTOR, e) < 0)
		return err_ctx(e, "LUKS %s", what);
	if (imgcrypt_new(&a->h->spec, a->w->slot_key, &c, e) < 0)
		return e->code;
	r = imgcrypt_decrypt(c, a->w->material, material, 0, e);
	imgcrypt_free(c);
	if (r < 0)
		return r;
	merge(a->h, a->w->material, a->w->key);
	if (derive(a, a->w->key, a->h->key_len, a->h->digest_salt, a->h->digest_iterations, a->w->digest, LUKS_DIGEST_BYTES,
		   "its key's digest", e) < 0)
		return e->code;
	return sodium_memcmp(a->w->digest, a->h->digest, LUKS_DIGEST_BYTES) == 0;
}

static int try_password(struct attempt *a, const uint8_t *p, size_t len, struct err *e)
{
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		int r = a->h->slots[i].active == LUKS_SLOT_ACTIVE ? try_slot(a, i, p, len, e) : 0;

		if (r)
			return r;
	}
	return 0;
}

int luks_open(const struct file *f, uint64_t off, const struct luks_header *h,
	      const struct image_secret *const *secrets, size_t n, const struct luks_limits *limits,
	      struct imgcrypt **ret, struct err *e)
{
	CLEANUP(work_free) struct work *w = sodium_malloc(sizeof(*w));
	struct attempt a = { .f = f, .off = off, .h = h, .limits = limits, .w = w };
	int r = 0;

	if (!w)
		return err_set(e, ERR_NOMEM, "no protected memory for keys (see ulimit -l)");
	for (size_t i = 0; i < n && !r; i++) {
		const struct image_secret *s = secrets[i];

		r = try_password(&a, s->p, s->len, e);
		if (!r && s->len > 1 && s->p[s->len - 1] == '\n')
			r = try_password(&a, s->p, s->len - 1, e);
	}
	if (r < 0)
		return r;
	if (r)
		return imgcrypt_new(&h->spec, w->key, ret, e);
	(void)err_set(e, ERR_AUTH, "the secret doesn't open any of its %u key slots", h->active);
	return err_hint(e, "--image-secret FILE: the file holds the password as QEMU's secret object gets it");
}
