/*
 * sign.c - Signature Version 4.  What is signed is exactly what is sent: path and query come encoded and in order, so
 * that nothing is normalised here and nothing may be afterwards.
 */
#include "transport/s3/sign.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

#define TEXT_MAX ((size_t)1 << 20)
#define HASH_BYTES 32

void s3_stamp(int64_t unix_s, char ret[static S3_STAMP_BYTES])
{
	char text[32];
	size_t n = 0;

	clock_utc_text(unix_s * 1000000000, text);	/* "2026-11-20T03:04:05Z" */
	for (const char *s = text; *s && n < S3_STAMP_BYTES - 1; s++) {
		if (*s != '-' && *s != ':')
			ret[n++] = *s;
	}
	ret[n] = '\0';
}

int s3_sha256(const void *p, size_t len, uint8_t ret[static 32], struct err *e)
{
	uint8_t md[HASH_BYTES];

	if (EVP_Digest(p, len, md, NULL, EVP_sha256(), NULL) != 1)
		return err_set(e, ERR_NOMEM, "SHA-256 by libcrypto");
	memcpy(ret, md, sizeof(md));
	return 0;
}

static int add_text(struct buf *b, const char *s, struct err *e)
{
	return buf_add(b, s, strlen(s), e);
}

/* A value without spaces at its ends, and one for each run of them inside. */
static int add_value(struct buf *b, const char *s, struct err *e)
{
	s += strspn(s, " \t");
	while (*s) {
		size_t word = strcspn(s, " \t"), gap = strspn(s + word, " \t");

		if (buf_add(b, s, word, e) < 0)
			return e->code;
		s += word + gap;
		if (*s && gap && buf_add(b, " ", 1, e) < 0)
			return e->code;
	}
	return 0;
}

/* By name, not by line: "x-amz-meta-a" before "x-amz-meta-a-b", where ':' would come after '-'. */
static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct s3_header *)a)->name, ((const struct s3_header *)b)->name);
}

static int sort_headers(const struct s3_to_sign *t, struct s3_header sorted[static S3_SIGNED_HEADERS_MAX],
			struct err *e)
{
	if (t->n > S3_SIGNED_HEADERS_MAX)
		return err_set(e, ERR_INTERNAL, "%zu headers to sign", t->n);
	memcpy(sorted, t->headers, t->n * sizeof(*sorted));
	qsort(sorted, t->n, sizeof(*sorted), by_name);
	return 0;
}

static int add_names(const struct s3_header *sorted, size_t n, struct buf *b, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if ((i && buf_add(b, ";", 1, e) < 0) || add_text(b, sorted[i].name, e) < 0)
			return e->code;
	}
	return 0;
}

static int canonical(const struct s3_to_sign *t, const struct s3_header *sorted, struct buf *b, struct err *e)
{
	const char *const head[] = { t->method, "\n", t->path, "\n", t->query, "\n" };

	for (size_t i = 0; i < sizeof(head) / sizeof(*head); i++) {
		if (add_text(b, head[i], e) < 0)
			return e->code;
	}
	for (size_t i = 0; i < t->n; i++) {
		if (add_text(b, sorted[i].name, e) < 0 || buf_add(b, ":", 1, e) < 0 ||
		    add_value(b, sorted[i].value, e) < 0 || buf_add(b, "\n", 1, e) < 0)
			return e->code;
	}
	if (buf_add(b, "\n", 1, e) < 0 || add_names(sorted, t->n, b, e) < 0 || buf_add(b, "\n", 1, e) < 0)
		return e->code;
	return add_text(b, t->payload, e);
}

int s3_canonical(const struct s3_to_sign *t, struct buf *out, struct err *e)
{
	struct s3_header sorted[S3_SIGNED_HEADERS_MAX];

	if (sort_headers(t, sorted, e) < 0 || canonical(t, sorted, out, e) < 0 || buf_u8(out, 0, e) < 0)
		return e->code;
	out->len--;
	return 0;
}

static int hmac(const void *key, size_t key_len, const char *text, uint8_t out[static HASH_BYTES], struct err *e)
{
	unsigned n = 0;

	if (!HMAC(EVP_sha256(), key, (int)key_len, (const uint8_t *)text, strlen(text), out, &n) || n != HASH_BYTES)
		return err_set(e, ERR_NOMEM, "HMAC by libcrypto");
	return 0;
}

/* The key of a day, a region and a service; whoever has it can sign for these and nothing else. */
static int signing_key(const struct s3_to_sign *t, const char *day, uint8_t out[static HASH_BYTES], struct err *e)
{
	const char *const parts[] = { t->region, t->service, "aws4_request" };
	struct buf first;
	int r;

	buf_init(&first, 1024);
	if (add_text(&first, "AWS4", e) < 0 || add_text(&first, t->secret, e) < 0)
		r = e->code;
	else
		r = hmac(first.p, first.len, day, out, e);
	for (size_t i = 0; r == 0 && i < sizeof(parts) / sizeof(*parts); i++) {
		uint8_t key[HASH_BYTES];

		memcpy(key, out, sizeof(key));
		r = hmac(key, sizeof(key), parts[i], out, e);
		OPENSSL_cleanse(key, sizeof(key));
	}
	if (first.p)
		OPENSSL_cleanse(first.p, first.cap);
	buf_done(&first);
	return r;
}

static int add_authorization(const struct s3_to_sign *t, const struct s3_header *sorted, const char *scope,
			     const uint8_t signature[static HASH_BYTES], struct buf *out, struct err *e)
{
	char hex[S3_HASH_HEX];

	if (add_text(out, "AWS4-HMAC-SHA256 Credential=", e) < 0 || add_text(out, t->access, e) < 0 ||
	    add_text(out, "/", e) < 0 || add_text(out, scope, e) < 0 || add_text(out, ", SignedHeaders=", e) < 0 ||
	    add_names(sorted, t->n, out, e) < 0 || add_text(out, ", Signature=", e) < 0 ||
	    add_text(out, text_hex(signature, HASH_BYTES, hex), e) < 0 || buf_u8(out, 0, e) < 0)
		return e->code;
	out->len--;
	return 0;
}

int s3_sign(const struct s3_to_sign *t, struct buf *out, struct err *e)
{
	struct s3_header sorted[S3_SIGNED_HEADERS_MAX];
	char day[9], scope[160], text[400], hex[S3_HASH_HEX];
	uint8_t hash[HASH_BYTES], key[HASH_BYTES], signature[HASH_BYTES];
	struct buf request;
	int r;

	buf_init(&request, TEXT_MAX);
	r = sort_headers(t, sorted, e);
	if (r == 0)
		r = canonical(t, sorted, &request, e);
	if (r == 0)
		r = s3_sha256(request.p, request.len, hash, e);
	if (request.p)
		OPENSSL_cleanse(request.p, request.cap);	/* a session token is among the headers */
	buf_done(&request);
	if (r < 0)
		return r;
	snprintf(day, sizeof(day), "%.8s", t->stamp);
	snprintf(scope, sizeof(scope), "%s/%s/%s/aws4_request", day, t->region, t->service);
	text_hex(hash, sizeof(hash), hex);
	snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", t->stamp, scope, hex);
	r = signing_key(t, day, key, e);
	if (r == 0)
		r = hmac(key, sizeof(key), text, signature, e);
	OPENSSL_cleanse(key, sizeof(key));
	return r < 0 ? r : add_authorization(t, sorted, scope, signature, out, e);
}
