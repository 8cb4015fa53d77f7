/*
 * sign.h - AWS Signature Version 4 in the Authorization header, as the documentation of S3 has it ("Authenticating
 * Requests: Using the Authorization Header").  Pure functions; any thread.
 */
#ifndef KEDGE_TRANSPORT_S3_SIGN_H
#define KEDGE_TRANSPORT_S3_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define S3_HASH_HEX 65		/* SHA-256 in hex, and its end */
#define S3_STAMP_BYTES 17	/* "20130524T000000Z" */
#define S3_SIGNED_HEADERS_MAX 24

struct s3_header {
	const char *name;	/* lower case */
	const char *value;
};

struct s3_to_sign {
	const char *method;
	const char *path;	/* as it is sent, encoded once */
	const char *query;	/* as it is sent: encoded pairs in order, "a=1&b="; "" = none */
	const struct s3_header *headers;	/* all of these are signed; each name once, any order */
	size_t n;
	const char *payload;	/* hex SHA-256 of the body, or UNSIGNED-PAYLOAD */
	const char *stamp;	/* s3_stamp */
	const char *region, *service;
	const char *access, *secret;
};

/* "20130524T000000Z" of seconds since 1970. */
void s3_stamp(int64_t unix_s, char ret[static S3_STAMP_BYTES]);
MUST_CHECK int s3_sha256(const void *p, size_t len, uint8_t ret[static 32], struct err *e);
/* The value of the Authorization header, appended to out and NUL-terminated (not counted). */
MUST_CHECK int s3_sign(const struct s3_to_sign *t, struct buf *out, struct err *e);
/* The canonical request, for tests; as s3_sign. */
MUST_CHECK int s3_canonical(const struct s3_to_sign *t, struct buf *out, struct err *e);

#endif
