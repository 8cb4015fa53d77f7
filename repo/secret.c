/* secret.c - secrets, recovery keys, and the key objects that they open (docs/format.md, section 2.1). */
#include <ctype.h>
#include <inttypes.h>
#include <sodium.h>

#include "base/bytes.h"
#include "repo/repo_internal.h"

#define KEYFILE_MIN_BYTES ((size_t)32)
#define KEYFILE_MAX_BYTES ((size_t)1 << 20)
#define PASSPHRASE_MAX_BYTES ((size_t)1 << 20)
#define RECOVERY_BYTES 32u
#define RECOVERY_CHECK_BYTES 4u
#define RECOVERY_GROUPS 12u
#define RECOVERY_GROUP 5u
#define RECOVERY_CHARS (RECOVERY_GROUPS * RECOVERY_GROUP)
#define KEY_HEADER_BYTES 64u

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void guarded_free(void *p)
{
	sodium_free(*(void **)p);	/* wipes */
}

void secret_free(struct secret *s)
{
	if (!s)
		return;
	sodium_free(s->bytes);
	free(s);
}

static int secret_make(enum secret_kind kind, const void *bytes, size_t len, struct secret **ret, struct err *e)
{
	struct secret *s = calloc(1, sizeof(*s));

	if (!s || sodium_init() < 0)
		goto fail;
	s->bytes = sodium_malloc(len);
	if (!s->bytes)
		goto fail;
	memcpy(s->bytes, bytes, len);
	s->kind = kind;
	s->len = len;
	*ret = s;
	return 0;
fail:
	free(s);
	return err_set(e, ERR_NOMEM, "no protected memory for a secret of %zu bytes", len);
}

/* The value of a recovery key's character, as people copy it; -1: none. */
static int recovery_digit(char c)
{
	const char *at;

	c = (char)toupper((unsigned char)c);
	if (c == 'I' || c == 'L')
		c = '1';
	else if (c == 'O')
		c = '0';
	at = c ? strchr(alphabet, c) : NULL;
	return at ? (int)(at - alphabet) : -1;
}

/* Takes 60 characters, hyphens anywhere, with or without "kedge" before them.  False: not of that shape. */
static bool recovery_digits(const uint8_t *text, size_t len, uint8_t digits[RECOVERY_CHARS])
{
	static const char lead[] = "KEDGE";
	size_t chars = 0, n = 0, skip;

	for (size_t i = 0; i < len; i++)
		chars += text[i] != '-';
	skip = chars == RECOVERY_CHARS ? 0 : sizeof(lead) - 1;
	if (chars != RECOVERY_CHARS + skip)
		return false;
	for (size_t i = 0; i < len; i++) {
		int v;

		if (text[i] == '-')
			continue;
		v = recovery_digit((char)text[i]);
		if (n < skip ? toupper(text[i]) != lead[n] : v < 0)
			return false;
		if (n >= skip)
			digits[n - skip] = (uint8_t)v;
		n++;
	}
	return true;
}

static void recovery_check(const uint8_t key[RECOVERY_BYTES], uint8_t out[RECOVERY_CHECK_BYTES])
{
	uint8_t h[32];

	hash_b2(h, NULL, 0, NULL, "kedge-recovery-c", key, RECOVERY_BYTES);
	memcpy(out, h, RECOVERY_CHECK_BYTES);
}

/* 300 bits, most significant first: key, check digits, 12 zero bits. */
static bool recovery_decode(const uint8_t digits[RECOVERY_CHARS], uint8_t key[RECOVERY_BYTES])
{
	uint8_t bytes[38] = { 0 }, check[RECOVERY_CHECK_BYTES];
	bool ok;

	for (size_t i = 0; i < RECOVERY_CHARS * 5; i++)
		if (digits[i / 5] >> (4 - i % 5) & 1)
			bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
	recovery_check(bytes, check);
	ok = memcmp(check, bytes + RECOVERY_BYTES, RECOVERY_CHECK_BYTES) == 0 && bytes[36] == 0 && bytes[37] == 0;
	if (ok)
		memcpy(key, bytes, RECOVERY_BYTES);
	sodium_memzero(bytes, sizeof(bytes));
	return ok;
}

int secret_new(enum secret_kind kind, const void *bytes, size_t len, struct secret **ret, struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key key = { 0 };
	uint8_t digits[RECOVERY_CHARS];
	bool recovery = false;
	int rc;

	if (len == 0)
		return err_set(e, ERR_INVALID, "the %s is empty", kind == SECRET_KEYFILE ? "key file" : "password");
	if (kind == SECRET_KEYFILE) {
		if (len < KEYFILE_MIN_BYTES || len > KEYFILE_MAX_BYTES)
			return err_set(e, ERR_INVALID, "the key file has %zu bytes; it must have %zu to %zu", len,
				       KEYFILE_MIN_BYTES, KEYFILE_MAX_BYTES);
		return secret_make(kind, bytes, len, ret, e);
	}
	if (len > PASSPHRASE_MAX_BYTES)
		return err_set(e, ERR_INVALID, "the password has %zu bytes; at most %zu are possible", len,
			       PASSPHRASE_MAX_BYTES);
	recovery = recovery_digits(bytes, len, digits) && recovery_decode(digits, key.b);
	sodium_memzero(digits, sizeof(digits));
	if (recovery)
		rc = secret_make(SECRET_RECOVERY, key.b, RECOVERY_BYTES, ret, e);
	else if (kind == SECRET_RECOVERY)
		rc = err_set(e, ERR_INVALID, "this is not a recovery key, or a character of it is wrong");
	else
		rc = secret_make(kind, bytes, len, ret, e);
	return rc;
}

bool secret_is_mistyped_recovery(const struct secret *s)
{
	uint8_t digits[RECOVERY_CHARS];
	bool shaped = s->kind == SECRET_PASSPHRASE && recovery_digits(s->bytes, s->len, digits);

	sodium_memzero(digits, sizeof(digits));
	return shaped;
}

int secret_new_recovery(struct secret **ret, struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key key = { 0 };

	if (sodium_init() < 0)
		return err_set(e, ERR_INTERNAL, "the cryptographic library does not start");
	randombytes_buf(key.b, RECOVERY_BYTES);
	return secret_make(SECRET_RECOVERY, key.b, RECOVERY_BYTES, ret, e);
}

int secret_recovery_text(const struct secret *s, char **ret, struct err *e)
{
	uint8_t bytes[38] = { 0 };
	size_t used = 5;
	char *text;

	if (s->kind != SECRET_RECOVERY || s->len != RECOVERY_BYTES)
		return err_set(e, ERR_INVALID, "this secret is not a recovery key");
	text = sodium_malloc(5 + RECOVERY_GROUPS * (1 + RECOVERY_GROUP) + 1);
	if (!text)
		return err_set(e, ERR_NOMEM, "no protected memory for a recovery key");
	memcpy(bytes, s->bytes, RECOVERY_BYTES);
	recovery_check(bytes, bytes + RECOVERY_BYTES);
	memcpy(text, "kedge", 5);
	for (size_t i = 0; i < RECOVERY_CHARS; i++) {
		unsigned v = 0;

		for (size_t bit = 5 * i; bit < 5 * i + 5; bit++)
			v = v << 1 | ((unsigned)bytes[bit / 8] >> (7 - bit % 8) & 1u);
		if (i % RECOVERY_GROUP == 0)
			text[used++] = '-';
		text[used++] = alphabet[v];
	}
	text[used] = '\0';
	sodium_memzero(bytes, sizeof(bytes));
	*ret = text;
	return 0;
}

const char *secret_kind_name(enum secret_kind kind)
{
	switch (kind) {
	case SECRET_PASSPHRASE: return "passphrase";
	case SECRET_KEYFILE: return "keyfile";
	case SECRET_RECOVERY: return "recovery";
	}
	return "unknown";
}

int key_object_draft(unsigned draft, struct err *e)
{
	err_set(e, ERR_UNSUPPORTED, "the repository is of %s %u of the format; this program knows draft %u only",
		draft < FORMAT_DRAFT ? "the earlier draft" : "draft", draft ? draft : 1, FORMAT_DRAFT);
	return err_hint(e, "nothing is damaged, but a draft is read only by the kedge that made it: restore with that "
			   "one, and begin a new repository with this one");
}

int key_object_parse(const void *p, size_t len, struct key_header *ret, struct err *e)
{
	struct key_header h = { 0 };
	struct rd rd = rd_of(p, len);
	const uint8_t *magic, *zero;
	uint8_t version, kdf, draft;

	if (!rd_take(&rd, 8, &magic) || memcmp(magic, "KEDGEKEY", 8) != 0)
		return err_set(e, ERR_CORRUPT, "it does not begin as a key object does");
	if (!rd_u8(&rd, &version) || !rd_u8(&rd, &kdf) || !rd_u8(&rd, &draft) || !rd_take(&rd, 5, &zero) ||
	    !rd_copy(&rd, h.cipher_id, CIPHER_ID_BYTES) || !rd_copy(&rd, h.slot.b, SLOT_BYTES) ||
	    !rd_le32(&rd, &h.argon_passes) || !rd_le32(&rd, &h.argon_kib) || !rd_copy(&rd, h.salt, SALT_BYTES) ||
	    rd.left < AEAD_BYTES)
		return err_set(e, ERR_CORRUPT, "%zu bytes are too few for a key object", len);
	if (version != 1)
		return err_set(e, ERR_UNSUPPORTED, "it has version %u; this program knows version 1", version);
	if (draft != FORMAT_DRAFT)
		return key_object_draft(draft, e);
	if (kdf < SECRET_PASSPHRASE || kdf > SECRET_RECOVERY || !bytes_all_zero(zero, 5) ||
	    bytes_all_zero(h.slot.b, SLOT_BYTES))
		return err_set(e, ERR_CORRUPT, "kdf %u or a reserved field is not what it can be", kdf);
	h.kind = (enum secret_kind)kdf;
	if (h.kind == SECRET_PASSPHRASE ? h.argon_passes < 1 || h.argon_passes > ARGON_PASSES_MAX ||
						  h.argon_kib < ARGON_KIB_MIN || h.argon_kib > ARGON_KIB_MAX
					: h.argon_passes || h.argon_kib)
		return err_set(e, ERR_CORRUPT,
			       "it asks for %" PRIu32 " passes over %" PRIu32 " KiB to derive a key; refused",
			       h.argon_passes, h.argon_kib);
	*ret = h;
	return 0;
}

static int derive_kek(const struct key_header *h, const struct secret *s, struct wiped_key *kek, struct err *e)
{
	if (h->kind != SECRET_PASSPHRASE) {
		hash_b2(kek->b, NULL, 0, h->salt, h->kind == SECRET_KEYFILE ? "kedge-keyfile-v1" : "kedge-recovery-1",
			s->bytes, s->len);
		return 0;
	}
	if (crypto_pwhash(kek->b, KEY_BYTES, (const char *)s->bytes, s->len, h->salt, h->argon_passes,
			  (size_t)h->argon_kib * 1024, crypto_pwhash_ALG_ARGON2ID13) != 0)
		return err_set(e, ERR_NOMEM, "no memory to derive a key: Argon2id wants %" PRIu32 " KiB", h->argon_kib);
	return 0;
}

int key_object_open(const void *p, size_t len, const struct secret *s, struct keyring **ret, struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key kek = { 0 };
	CLEANUP(guarded_free) uint8_t *payload = NULL;
	const uint8_t *b = p;
	struct key_header h;
	size_t n;

	if (key_object_parse(p, len, &h, e) < 0)
		return e->code;
	if (h.kind != s->kind)
		return err_set(e, ERR_AUTH, "it opens with a %s only", secret_kind_name(h.kind));
	if (len > KEY_OBJECT_MAX)
		return err_set(e, ERR_CORRUPT, "%zu bytes are more than a key object can have", len);
	n = len - KEY_HEADER_BYTES - AEAD_BYTES;
	payload = sodium_malloc(n);
	if (!payload)
		return err_set(e, ERR_NOMEM, "no protected memory for %zu bytes of keys", n);
	if (derive_kek(&h, s, &kek, e) < 0)
		return e->code;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(payload, NULL, NULL, b + KEY_HEADER_BYTES + NONCE_BYTES,
						       n + TAG_BYTES, b, KEY_HEADER_BYTES, b + KEY_HEADER_BYTES,
						       kek.b) != 0)
		return err_set(e, ERR_AUTH, "the %s does not open it", secret_kind_name(s->kind));
	return keyring_decode(payload, n, ret, e);
}

int key_object_seal(const struct key_header *h, const struct secret *s, const void *payload, size_t len,
		    struct buf *out, struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key kek = { 0 };
	uint8_t *p;

	if (derive_kek(h, s, &kek, e) < 0)
		return e->code;
	p = buf_extend(out, KEY_HEADER_BYTES + len + AEAD_BYTES, e);
	if (!p)
		return e->code;
	memset(p, 0, KEY_HEADER_BYTES);
	memcpy(p, "KEDGEKEY", 8);
	p[8] = 1;
	p[9] = (uint8_t)h->kind;
	p[10] = FORMAT_DRAFT;
	memcpy(p + 16, h->cipher_id, CIPHER_ID_BYTES);
	memcpy(p + 32, h->slot.b, SLOT_BYTES);
	put_le32(p + 40, h->argon_passes);
	put_le32(p + 44, h->argon_kib);
	memcpy(p + 48, h->salt, SALT_BYTES);
	randombytes_buf(p + KEY_HEADER_BYTES, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(p + KEY_HEADER_BYTES + NONCE_BYTES, NULL, payload, len, p,
						   KEY_HEADER_BYTES, NULL, p + KEY_HEADER_BYTES, kek.b);
	return 0;
}
