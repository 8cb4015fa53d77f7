/* crypt.c - sectors: ciphers by libgcrypt, and the initial vectors that LUKS names. */
#include "formats/crypt/crypt_internal.h"

#include <gcrypt.h>
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"

#define IDLE_MAX 16
#define BLOCK_MAX 16u

/* What one thread works with. */
struct handle {
	gcry_cipher_hd_t data, essiv;
};

struct imgcrypt {
	struct imgcrypt_spec s;
	size_t block;		/* of the cipher */
	uint8_t *key;		/* locked; CRYPT_KEY_MAX, then the key of ESSIV's cipher */
	pthread_mutex_t lock;	/* guards idle */
	struct handle idle[IDLE_MAX];
	unsigned nidle;
};

static const struct {
	const char *name;
	size_t key_len;
	int id;
} ciphers[] = {
	{ "aes", 16, GCRY_CIPHER_AES128 },     { "aes", 24, GCRY_CIPHER_AES192 },
	{ "aes", 32, GCRY_CIPHER_AES256 },     { "serpent", 16, GCRY_CIPHER_SERPENT128 },
	{ "serpent", 24, GCRY_CIPHER_SERPENT192 }, { "serpent", 32, GCRY_CIPHER_SERPENT256 },
	{ "twofish", 16, GCRY_CIPHER_TWOFISH128 }, { "twofish", 32, GCRY_CIPHER_TWOFISH },
	{ "cast5", 16, GCRY_CIPHER_CAST5 },
};

static int cipher_of(const char *name, size_t key_len)
{
	for (size_t i = 0; i < sizeof(ciphers) / sizeof(*ciphers); i++)
		if (!strcmp(ciphers[i].name, name) && ciphers[i].key_len == key_len)
			return ciphers[i].id;
	return 0;
}

static int unsupported(const char *cipher, const char *mode, size_t key_len, struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED, "encryption %s-%s with a key of %zu bytes is not supported", cipher, mode,
		       key_len);
}

static bool iv_of(const char *name, const char *cipher, struct imgcrypt_spec *s)
{
	if (!strcmp(name, "plain")) {
		s->iv = CRYPT_IV_PLAIN;
	} else if (!strcmp(name, "plain64")) {
		s->iv = CRYPT_IV_PLAIN64;
	} else if (!strncmp(name, "essiv:", 6)) {
		s->iv = CRYPT_IV_ESSIV;
		s->essiv_hash = gcry_md_map_name(name + 6);
		s->essiv_cipher = s->essiv_hash ? cipher_of(cipher, gcry_md_get_algo_dlen(s->essiv_hash)) : 0;
		return s->essiv_cipher != 0;
	} else {
		return false;
	}
	return true;
}

static int mode_of(const char *name, size_t n)
{
	static const struct { const char *name; int id; } modes[] = {
		{ "xts", GCRY_CIPHER_MODE_XTS }, { "cbc", GCRY_CIPHER_MODE_CBC }, { "ctr", GCRY_CIPHER_MODE_CTR },
		{ "ecb", GCRY_CIPHER_MODE_ECB },
	};

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (n == 3 && !memcmp(name, modes[i].name, 3))
			return modes[i].id;
	return 0;
}

int imgcrypt_library(struct err *e)
{
	if (!gcry_check_version(NULL))
		return err_set(e, ERR_INTERNAL, "libgcrypt can't be used");
	(void)gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
	(void)gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	return sodium_init() < 0 ? err_set(e, ERR_INTERNAL, "libsodium can't be used") : 0;
}

int imgcrypt_spec_of(const char *cipher, const char *mode, size_t key_len, struct imgcrypt_spec *ret,
		     struct err *e)
{
	struct imgcrypt_spec s = { .key_len = key_len };
	size_t n = strcspn(mode, "-");
	bool xts = mode_of(mode, n) == GCRY_CIPHER_MODE_XTS;

	if (imgcrypt_library(e) < 0)
		return e->code;
	s.mode = mode_of(mode, n);
	s.cipher = cipher_of(cipher, xts ? key_len / 2 : key_len);
	if (!s.mode || !s.cipher || key_len > CRYPT_KEY_MAX || (xts && key_len % 2) ||
	    (xts && gcry_cipher_get_algo_blklen(s.cipher) != 16))
		return unsupported(cipher, mode, key_len, e);
	if (s.mode == GCRY_CIPHER_MODE_ECB)
		s.iv = CRYPT_IV_NONE;
	else if (mode[n] != '-' || !iv_of(mode + n + 1, cipher, &s))
		return unsupported(cipher, mode, key_len, e);
	*ret = s;
	return 0;
}

/* ---- handles ---- */

static void handle_close(struct handle *h)
{
	gcry_cipher_close(h->data);	/* wipes; NULL is fine */
	gcry_cipher_close(h->essiv);
	*h = (struct handle){ 0 };
}

static int handle_open(const struct imgcrypt *c, struct handle *ret, struct err *e)
{
	struct handle h = { 0 };
	gcry_error_t r = gcry_cipher_open(&h.data, c->s.cipher, c->s.mode, 0);

	if (!r)
		r = gcry_cipher_setkey(h.data, c->key, c->s.key_len);
	if (!r && c->s.iv == CRYPT_IV_ESSIV)
		r = gcry_cipher_open(&h.essiv, c->s.essiv_cipher, GCRY_CIPHER_MODE_ECB, 0);
	if (!r && c->s.iv == CRYPT_IV_ESSIV)
		r = gcry_cipher_setkey(h.essiv, c->key + CRYPT_KEY_MAX, gcry_cipher_get_algo_keylen(c->s.essiv_cipher));
	if (r) {
		handle_close(&h);
		return err_set(e, ERR_UNSUPPORTED, "encryption: %s", gcry_strerror(r));
	}
	*ret = h;
	return 0;
}

static int handle_take(struct imgcrypt *c, struct handle *ret, struct err *e)
{
	bool have;

	pthread_mutex_lock(&c->lock);
	have = c->nidle > 0;
	if (have)
		*ret = c->idle[--c->nidle];
	pthread_mutex_unlock(&c->lock);
	return have ? 0 : handle_open(c, ret, e);
}

static void handle_give(struct imgcrypt *c, struct handle *h)
{
	pthread_mutex_lock(&c->lock);
	if (c->nidle < IDLE_MAX) {
		c->idle[c->nidle++] = *h;
		*h = (struct handle){ 0 };
	}
	pthread_mutex_unlock(&c->lock);
	handle_close(h);
}

void imgcrypt_free(struct imgcrypt *c)
{
	if (!c)
		return;
	while (c->nidle)
		handle_close(&c->idle[--c->nidle]);
	pthread_mutex_destroy(&c->lock);
	sodium_free(c->key);	/* wipes */
	free(c);
}

int imgcrypt_new(const struct imgcrypt_spec *s, const uint8_t *key, struct imgcrypt **ret, struct err *e)
{
	struct imgcrypt *c = calloc(1, sizeof(*c));
	struct handle h = { 0 };

	if (!c)
		return err_set(e, ERR_NOMEM, "decryption");
	pthread_mutex_init(&c->lock, NULL);
	c->s = *s;
	c->block = gcry_cipher_get_algo_blklen(s->cipher);
	c->key = sodium_malloc((size_t)CRYPT_KEY_MAX * 2);
	if (!c->key) {
		imgcrypt_free(c);
		return err_set(e, ERR_NOMEM, "no protected memory for a key (see ulimit -l)");
	}
	memset(c->key, 0, (size_t)CRYPT_KEY_MAX * 2);
	memcpy(c->key, key, s->key_len);
	if (s->iv == CRYPT_IV_ESSIV)
		gcry_md_hash_buffer(s->essiv_hash, c->key + CRYPT_KEY_MAX, key, s->key_len);
	if (handle_take(c, &h, e) < 0) {
		imgcrypt_free(c);
		return e->code;
	}
	handle_give(c, &h);
	*ret = c;
	return 0;
}

/* ---- sectors ---- */

static gcry_error_t set_vector(const struct imgcrypt *c, const struct handle *h, uint64_t sector)
{
	uint8_t iv[BLOCK_MAX] = { 0 };
	gcry_error_t r = 0;

	switch (c->s.iv) {
	case CRYPT_IV_NONE:
		return 0;
	case CRYPT_IV_PLAIN:
		put_le32(iv, (uint32_t)sector);
		break;
	case CRYPT_IV_PLAIN64:
	case CRYPT_IV_ESSIV:
		put_le64(iv, sector);
		break;
	}
	if (c->s.iv == CRYPT_IV_ESSIV)
		r = gcry_cipher_encrypt(h->essiv, iv, c->block, NULL, 0);
	if (r)
		return r;
	return c->s.mode == GCRY_CIPHER_MODE_CTR ? gcry_cipher_setctr(h->data, iv, c->block)
						 : gcry_cipher_setiv(h->data, iv, c->block);
}

int imgcrypt_decrypt(struct imgcrypt *c, uint8_t *buf, size_t len, uint64_t sector, struct err *e)
{
	struct handle h = { 0 };
	gcry_error_t r = 0;

	if (handle_take(c, &h, e) < 0)
		return e->code;
	for (size_t i = 0; i < len && !r; i += CRYPT_SECTOR, sector++) {
		r = set_vector(c, &h, sector);
		if (!r)
			r = gcry_cipher_decrypt(h.data, buf + i, CRYPT_SECTOR, NULL, 0);
	}
	handle_give(c, &h);
	return r ? err_set(e, ERR_INTERNAL, "decryption: %s", gcry_strerror(r)) : 0;
}

int imgcrypt_encrypt(struct imgcrypt *c, uint8_t *out, const uint8_t *in, size_t len, uint64_t sector, struct err *e)
{
	struct handle h = { 0 };
	gcry_error_t r = 0;

	if (handle_take(c, &h, e) < 0)
		return e->code;
	for (size_t i = 0; i < len && !r; i += CRYPT_SECTOR, sector++) {
		r = set_vector(c, &h, sector);
		if (!r)
			r = gcry_cipher_encrypt(h.data, out + i, CRYPT_SECTOR, in + i, CRYPT_SECTOR);
	}
	handle_give(c, &h);
	return r ? err_set(e, ERR_INTERNAL, "encryption: %s", gcry_strerror(r)) : 0;
}

void imgcrypt_check_value(const struct imgcrypt *c, uint8_t ret[32])
{
	static const char what[] = "kedge image key";

	const uint32_t spec[] = { (uint32_t)c->s.cipher, (uint32_t)c->s.mode, (uint32_t)c->s.key_len, c->s.iv,
				  (uint32_t)c->s.essiv_hash, (uint32_t)c->s.essiv_cipher };
	uint8_t msg[sizeof(what) - 1 + sizeof(spec)];

	memcpy(msg, what, sizeof(what) - 1);
	for (size_t i = 0; i < sizeof(spec) / sizeof(*spec); i++)
		put_le32(msg + sizeof(what) - 1 + 4 * i, spec[i]);
	(void)crypto_generichash(ret, 32, msg, sizeof(msg), c->key, CRYPT_KEY_MAX);
}

int imgcrypt_aes_open(const struct image_secret *s, struct imgcrypt **ret, struct err *e)
{
	static const struct imgcrypt_spec spec = {
		.cipher = GCRY_CIPHER_AES128, .mode = GCRY_CIPHER_MODE_CBC, .key_len = 16, .iv = CRYPT_IV_PLAIN64,
	};
	uint8_t key[16] = { 0 };
	int r;

	if (imgcrypt_library(e) < 0)
		return e->code;
	if (s->len && s->len <= 16 && s->p[s->len - 1] == '\n') {
		(void)err_set(e, ERR_INVALID, "the secret's file ends with a newline, and nothing in an image that is "
			      "encrypted with AES tells whether that belongs to the password");
		return err_hint(e, "write the password without one: printf %%s PASSWORD >FILE");
	}
	memcpy(key, s->p, s->len < 16 ? s->len : 16);
	r = imgcrypt_new(&spec, key, ret, e);
	sodium_memzero(key, sizeof(key));
	return r;
}
