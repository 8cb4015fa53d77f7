/*
 * crypt.h - the encryption inside qcow and qcow2 images: LUKS version 1, and QEMU's older AES.
 *
 * AES is only read; LUKS is written too.  Keys and passwords are in locked memory (sodium_malloc) and wiped; the
 * ciphers' own state, in libgcrypt, is wiped when it is freed.
 *
 * Threads: imgcrypt_decrypt and imgcrypt_encrypt from any number of threads at once; the rest from one.
 */
#ifndef KEDGE_FORMATS_CRYPT_CRYPT_H
#define KEDGE_FORMATS_CRYPT_CRYPT_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct cancel;
struct file;
struct imgcrypt;

#define CRYPT_SECTOR 512u
#define CRYPT_KEY_MAX 64u		/* bytes; AES-256 in XTS mode */

/* A password as its file has it, borrowed. */
struct image_secret {
	const char *name;		/* of the layer's file or of the disk that it is for; NULL: any */
	const uint8_t *p;
	size_t len;
};

struct image_secrets {
	const struct image_secret *p;
	size_t n;
	struct cancel *cancel;		/* asked while keys are made of them, which takes seconds; may be NULL */
};

/* What encrypts a sector; the same for the data and for LUKS' key slots. */
struct imgcrypt_spec {
	int cipher, mode;		/* of libgcrypt */
	size_t key_len;			/* bytes, both halves for XTS */
	enum { CRYPT_IV_NONE, CRYPT_IV_PLAIN, CRYPT_IV_PLAIN64, CRYPT_IV_ESSIV } iv;
	int essiv_hash, essiv_cipher;	/* of libgcrypt */
};

/* Names as LUKS has them: "aes", "xts-plain64", key bytes.  ERR_UNSUPPORTED names what isn't known. */
MUST_CHECK int imgcrypt_spec_of(const char *cipher, const char *mode, size_t key_len, struct imgcrypt_spec *ret,
				struct err *e);
/* key is copied. */
MUST_CHECK int imgcrypt_new(const struct imgcrypt_spec *s, const uint8_t *key, struct imgcrypt **ret, struct err *e);
void imgcrypt_free(struct imgcrypt *c);	/* NULL is fine */
/* Decrypts whole sectors in place; sector is the number of the first for the initial vector. */
MUST_CHECK int imgcrypt_decrypt(struct imgcrypt *c, uint8_t *buf, size_t len, uint64_t sector, struct err *e);
/* The reverse, of len bytes at in; out may be in. */
MUST_CHECK int imgcrypt_encrypt(struct imgcrypt *c, uint8_t *out, const uint8_t *in, size_t len, uint64_t sector,
				 struct err *e);
/* Tells two keys, or ways to use one, apart without telling them: BLAKE2b over the key and the spec. */
void imgcrypt_check_value(const struct imgcrypt *c, uint8_t ret[32]);

/*
 * QEMU's AES of qcow and qcow2: AES-128-CBC, the password's first 16 bytes are the key, the guest's sector number is
 * the vector.  Nothing tells whether the password is right.  Source: QEMU's crypto/block-qcow.c.
 */
MUST_CHECK int imgcrypt_aes_open(const struct image_secret *s, struct imgcrypt **ret, struct err *e);

/* ---- LUKS version 1; source: LUKS On-Disk Format Specification 1.2.3, QEMU's crypto/block-luks.c ---- */

#define LUKS_SLOTS 8

struct luks_slot {
	uint32_t active, iterations;
	uint8_t salt[32];
	uint32_t offset, stripes;	/* of the key material: sectors from the header; pieces */
};

struct luks_header {
	char cipher[33], mode[33], hash[33];
	uint32_t payload, key_len;
	uint8_t digest[20], digest_salt[32];
	uint32_t digest_iterations;
	struct luks_slot slots[LUKS_SLOTS];
	/* follows: */
	struct imgcrypt_spec spec;
	int hash_id;			/* of libgcrypt */
	unsigned active;		/* slots */
};

/*
 * Reads and checks the header that lies in [off, off + len) of the file.  ERR_CORRUPT; ERR_UNSUPPORTED:
 * version 2, and ciphers, modes and hashes that QEMU doesn't write.
 */
MUST_CHECK int luks_read(const struct file *f, uint64_t off, uint64_t len, struct luks_header *ret, struct err *e);
/* "luks, aes-256-xts-plain64, sha256, 1 of 8 key slots"; buf takes 160 bytes. */
const char *luks_text(const struct luks_header *h, char *buf, size_t len);
/* How many rounds of a hash may be made of a password for a key slot, and for all of a header; who interrupts it. */
struct luks_limits {
	uint64_t one, all;
	struct cancel *cancel;	/* may be NULL */
};
#define LUKS_ROUNDS_ONE ((uint64_t)1 << 28)	/* a minute or two; QEMU and cryptsetup make 2 seconds of them */
#define LUKS_ROUNDS_ALL ((uint64_t)1 << 31)
/*
 * Opens the data's key with one of the n secrets (tried in order, one that ends with a newline also without it).
 * ERR_AUTH: none fits.  ERR_UNSUPPORTED: trying would take more rounds than the limits.  ERR_CANCELLED.
 */
MUST_CHECK int luks_open(const struct file *f, uint64_t off, const struct luks_header *h,
			 const struct image_secret *const *secrets, size_t n, const struct luks_limits *limits,
			 struct imgcrypt **ret, struct err *e);

/*
 * A new header with a new random key, which one slot opens with the secret: AES-256-XTS, plain64, SHA-256, as QEMU
 * makes it. *ret_header is malloc'ed: *ret_len bytes, what an image's file holds of it; *ret encrypts the data.  ms:
 * how long trying a password is to take on this processor, 0 = LUKS_MS_DEFAULT; making it takes that time. ERR_INVALID:
 * an empty secret, or one that ends with a newline.
 */
#define LUKS_MS_DEFAULT 2000u
MUST_CHECK int luks_make(const struct image_secret *s, unsigned ms, uint8_t **ret_header, size_t *ret_len,
			 struct imgcrypt **ret, struct err *e);

/* ---- what the readers do with it ---- */

/*
 * Opens the encryption of the image at path with those secrets that are for it: whose name is that of its file, else
 * those without a name.  h NULL: AES, for which there must be one.  *ret stays NULL when there is none.
 */
MUST_CHECK int imgcrypt_unlock(const struct file *f, const char *path, uint64_t off, const struct luks_header *h,
			       const struct image_secrets *s, struct imgcrypt **ret, struct err *e);
/*
 * Reads and decrypts len bytes at host.  tweak is what counts for the vector, in bytes; it and host have the same place
 * in their sectors.  What is past the end of the file counts as zeros before it is decrypted, as QEMU does it.
 */
MUST_CHECK int imgcrypt_pread(struct imgcrypt *c, const struct file *f, void *buf, size_t len, uint64_t host,
			      uint64_t tweak, struct err *e);

#endif
