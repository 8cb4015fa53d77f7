/*
 * flip.c - bad memory, preloaded: one bit of a buffer changes before or after the Nth call of a library's function.
 *
 *	KEDGE_FLIP=POINT:N:SEED	flip one bit, drawn by SEED, at the Nth call (from 1) of POINT
 *	KEDGE_FLIP_LOG=FILE	one line a point: POINT CALLS, and of what was flipped: "flipped POINT BYTES OFFSET BIT"
 *
 * Points: FUNCTION-WHEN, see `points`.  The buffers are those that the program hands to the library, or gets from it.
 * Buffers of fewer than 16 bytes aren't counted, nor what may not be written to (process_vm_writev tells).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define BYTES_MIN 16

/* chunk, node: what is hashed for an id; object: a whole object, or a piece of a pack, hashed for its name; state: of the
 * hash of a pack between two pieces; name: of anything else; payload: of an envelope. */
enum point {
	CHUNK_AFTER, NODE_BEFORE, NODE_AFTER, OBJECT_BEFORE, OBJECT_AFTER, STATE, NAME_OUT, ID_OUT, ZSTD_BEFORE, ZSTD_AFTER, ZSTD_OUT,
	PAYLOAD_BEFORE, AEAD_BEFORE, AEAD_OUT, KEY_BEFORE, KEY_AFTER, AD_AFTER, SIGN_BEFORE, SIGN_AFTER, SIGN_OUT, BOX_OUT,
	JSON_OUT, WRITE_BEFORE, POINTS
};
static const char *const points[POINTS] = {
	"chunk-after", "node-before", "node-after", "object-before", "object-after", "state", "name-out", "id-out", "zstd-before", "zstd-after",
	"zstd-out", "payload-before", "aead-before", "aead-out", "key-before", "key-after", "ad-after", "sign-before",
	"sign-after", "sign-out", "box-out", "json-out", "write-before"
};
static atomic_ulong calls[POINTS];
static char flipped[200];

static unsigned long rnd(unsigned long *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* False: that memory may not be written to. */
static int set_byte(unsigned char *at, unsigned char v)
{
	struct iovec local = { &v, 1 }, remote = { at, 1 };

	return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 1;
}

static void at(enum point p, const void *buf, size_t len)
{
	const char *text = getenv("KEDGE_FLIP");
	unsigned long n, seed, call;
	unsigned char *b = (unsigned char *)(unsigned long)buf;
	size_t off;
	char *end;

	if (!buf || len < BYTES_MIN)
		return;
	call = atomic_fetch_add(&calls[p], 1) + 1;
	if (!text || strncmp(text, points[p], strlen(points[p])) != 0 || text[strlen(points[p])] != ':')
		return;
	n = strtoul(text + strlen(points[p]) + 1, &end, 10);
	seed = *end ? strtoul(end + 1, NULL, 10) * 2654435761u + 88172645463325252u : 1;
	if (call != n)
		return;
	for (int i = 0; i < 8; i++)
		(void)rnd(&seed);
	off = rnd(&seed) % len;
	if (set_byte(b + off, (unsigned char)(b[off] ^ 1u << (seed >> 40) % 8)))
		snprintf(flipped, sizeof(flipped), "flipped %s %zu %zu %lu\n", points[p], len, off, (seed >> 40) % 8);
	else
		snprintf(flipped, sizeof(flipped), "protected %s %zu\n", points[p], len);
}

__attribute__((destructor)) static void tell(void)
{
	const char *path = getenv("KEDGE_FLIP_LOG");
	char text[2000];
	size_t n = 0;
	int fd;

	if (!path)
		return;
	for (int p = 0; p < POINTS; p++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %lu\n", points[p], atomic_load(&calls[p]));
	n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", flipped);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, n) < 0)
		_exit(99);
	close(fd);
}

#define REAL(name) \
	static __typeof__(&name) real; \
	if (!real) \
		real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int EVP_Digest(const void *in, size_t inlen, unsigned char *out, unsigned *outlen, const EVP_MD *md, ENGINE *engine)
{
	int r;

	REAL(EVP_Digest);
	at(OBJECT_BEFORE, in, inlen);
	r = real(in, inlen, out, outlen, md, engine);
	at(OBJECT_AFTER, in, inlen);
	at(NAME_OUT, out, 32);
	return r;
}

/* The context into which this thread has put a piece, until it is copied: that copy tells the hash so far. */
static _Thread_local const EVP_MD_CTX *fed;

int EVP_DigestInit_ex2(EVP_MD_CTX *c, const EVP_MD *md, const OSSL_PARAM params[])
{
	REAL(EVP_DigestInit_ex2);
	fed = c;
	return real(c, md, params);
}

int EVP_DigestUpdate(EVP_MD_CTX *c, const void *in, size_t inlen)
{
	int r;

	REAL(EVP_DigestUpdate);
	fed = c;
	at(OBJECT_BEFORE, in, inlen);
	r = real(c, in, inlen);
	at(OBJECT_AFTER, in, inlen);
	return r;
}

/*
 * Any other copy is made to compare with the hash so far: what memory changed in between, it has changed by now.  Of
 * libcrypto 3.0's context the eighth word is the address of its SHA256_CTX; of that the first 104 bytes are flipped (state,
 * length, what is left over of a block): behind them is how much is left over, without which libcrypto crashes.
 */
int EVP_MD_CTX_copy_ex(EVP_MD_CTX *out, const EVP_MD_CTX *in)
{
	const void *state = ((void *const *)(const void *)in)[7];

	REAL(EVP_MD_CTX_copy_ex);
	if (fed != in && state && malloc_usable_size((void *)(unsigned long)state) / 16 == 7)
		at(STATE, state, 104);
	fed = NULL;
	return real(out, in);
}

/* Chunks and nodes are told apart by their personalisation, which the thread's EVP_MAC_init before has as "custom". */
static _Thread_local enum { OTHER, CHUNK, NODE } hashed;
static _Thread_local const unsigned char *message;
static _Thread_local size_t message_bytes;

int EVP_MAC_init(EVP_MAC_CTX *c, const unsigned char *key, size_t keylen, const OSSL_PARAM params[])
{
	const OSSL_PARAM *p = params ? OSSL_PARAM_locate_const(params, "custom") : NULL;

	REAL(EVP_MAC_init);
	hashed = !p || p->data_size < 14 ? OTHER :
		 !memcmp(p->data, "kedge-chunk-v1", 14) ? CHUNK :
		 !memcmp(p->data, "kedge-node-v1", 13) ? NODE : OTHER;
	message = NULL;
	return real(c, key, keylen, params);
}

int EVP_MAC_update(EVP_MAC_CTX *c, const unsigned char *in, size_t inlen)
{
	REAL(EVP_MAC_update);
	if (hashed == NODE)
		at(NODE_BEFORE, in, inlen);
	message = in;
	message_bytes = inlen;
	return real(c, in, inlen);
}

int EVP_MAC_final(EVP_MAC_CTX *c, unsigned char *out, size_t *outlen, size_t outsize)
{
	int r;

	REAL(EVP_MAC_final);
	r = real(c, out, outlen, outsize);
	if (hashed != OTHER) {
		at(hashed == CHUNK ? CHUNK_AFTER : NODE_AFTER, message, message_bytes);
		at(ID_OUT, out, 32);
	}
	return r;
}

size_t ZSTD_compress2(void *c, void *dst, size_t cap, const void *src, size_t len);
size_t ZSTD_compress2(void *c, void *dst, size_t cap, const void *src, size_t len)
{
	size_t r;

	REAL(ZSTD_compress2);
	at(ZSTD_BEFORE, src, len);
	r = real(c, dst, cap, src, len);
	at(ZSTD_AFTER, src, len);
	if (r <= cap)
		at(ZSTD_OUT, dst, r);
	return r;
}

size_t ZSTD_compress(void *dst, size_t cap, const void *src, size_t len, int level);
size_t ZSTD_compress(void *dst, size_t cap, const void *src, size_t len, int level)
{
	size_t r;

	REAL(ZSTD_compress);
	at(PAYLOAD_BEFORE, src, len);
	r = real(dst, cap, src, len, level);
	at(ZSTD_AFTER, src, len);
	if (r <= cap)
		at(ZSTD_OUT, dst, r);
	return r;
}

int crypto_aead_xchacha20poly1305_ietf_encrypt(unsigned char *c, unsigned long long *clen, const unsigned char *m,
					       unsigned long long mlen, const unsigned char *ad,
					       unsigned long long adlen, const unsigned char *nsec,
					       const unsigned char *npub, const unsigned char *k);
int crypto_aead_xchacha20poly1305_ietf_encrypt(unsigned char *c, unsigned long long *clen, const unsigned char *m,
					       unsigned long long mlen, const unsigned char *ad,
					       unsigned long long adlen, const unsigned char *nsec,
					       const unsigned char *npub, const unsigned char *k)
{
	int r;

	REAL(crypto_aead_xchacha20poly1305_ietf_encrypt);
	at(AEAD_BEFORE, m, mlen);
	at(KEY_BEFORE, k, 32);
	r = real(c, clen, m, mlen, ad, adlen, nsec, npub, k);
	at(AEAD_OUT, c, mlen + 16);
	at(KEY_AFTER, k, 32);
	at(AD_AFTER, ad, adlen);
	return r;
}

/* A segment: randombytes_buf makes the nonce, crypto_core_hchacha20 takes it and the key, libcrypto does the rest and is
 * asked for the tag last. */
static _Thread_local const void *nonce;
static _Thread_local struct sealing {
	const unsigned char *key, *ad;
	unsigned char *out;
	int ad_bytes, bytes;
} sealing;

void randombytes_buf(void *buf, size_t size)
{
	REAL(randombytes_buf);
	real(buf, size);
	nonce = buf;
}

int crypto_core_hchacha20(unsigned char *out, const unsigned char *in, const unsigned char *k, const unsigned char *c)
{
	REAL(crypto_core_hchacha20);
	sealing = (struct sealing){ 0 };
	if (in == nonce) {
		at(KEY_BEFORE, k, 32);
		sealing.key = k;
	}
	nonce = NULL;
	return real(out, in, k, c);
}

int EVP_CipherUpdate(EVP_CIPHER_CTX *c, unsigned char *out, int *outl, const unsigned char *in, int inl)
{
	REAL(EVP_CipherUpdate);
	if (sealing.key && !out) {
		sealing.ad = in;
		sealing.ad_bytes = inl;
	} else if (sealing.key) {
		at(AEAD_BEFORE, in, (size_t)inl);
		sealing.out = out;
		sealing.bytes = inl;
	}
	return real(c, out, outl, in, inl);
}

int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *c, int type, int arg, void *p)
{
	int r;

	REAL(EVP_CIPHER_CTX_ctrl);
	r = real(c, type, arg, p);
	if (type == EVP_CTRL_AEAD_GET_TAG && sealing.key) {
		at(AEAD_OUT, sealing.out, (size_t)sealing.bytes + 16);
		at(KEY_AFTER, sealing.key, 32);
		at(AD_AFTER, sealing.ad, (size_t)sealing.ad_bytes);
		sealing = (struct sealing){ 0 };
	}
	return r;
}

int crypto_sign_detached(unsigned char *sig, unsigned long long *siglen, const unsigned char *m,
			 unsigned long long mlen, const unsigned char *sk);
int crypto_sign_detached(unsigned char *sig, unsigned long long *siglen, const unsigned char *m,
			 unsigned long long mlen, const unsigned char *sk)
{
	int r;

	REAL(crypto_sign_detached);
	at(SIGN_BEFORE, m, mlen);
	r = real(sig, siglen, m, mlen, sk);
	at(SIGN_AFTER, m, mlen);
	at(SIGN_OUT, sig, 64);
	return r;
}

int crypto_box_seal(unsigned char *c, const unsigned char *m, unsigned long long mlen, const unsigned char *pk);
int crypto_box_seal(unsigned char *c, const unsigned char *m, unsigned long long mlen, const unsigned char *pk)
{
	int r;

	REAL(crypto_box_seal);
	r = real(c, m, mlen, pk);
	at(BOX_OUT, c, mlen + 48);
	return r;
}

char *json_dumps(const void *json, size_t flags);
char *json_dumps(const void *json, size_t flags)
{
	char *r;

	REAL(json_dumps);
	r = real(json, flags);
	if (r)
		at(JSON_OUT, r, strlen(r));
	return r;
}

/* Only what goes to a repository: its path has "/repo/" in it. */
static int is_object(int fd)
{
	char link[64], path[512];
	ssize_t n;
	int keep = errno;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	errno = keep;
	path[n < 0 ? 0 : n] = '\0';
	return strstr(path, "/repo/") != NULL;
}

ssize_t write(int fd, const void *buf, size_t len)
{
	REAL(write);
	if (len >= BYTES_MIN && is_object(fd))
		at(WRITE_BEFORE, buf, len);
	return real(fd, buf, len);
}
