/*
 * creds.h - whose name requests are signed in, and where that comes from, in the order in which AWS's tools look:
 *
 *  1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (not when a profile was given as an option)
 *  2. AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN: AssumeRoleWithWebIdentity at STS (likewise)
 *  3. the profile (option, AWS_PROFILE, "default") in ~/.aws/credentials and ~/.aws/config
 *     (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE): keys, web identity, credential_process
 *  4. the container's endpoint: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI
 *  5. the instance's metadata service, version 2 (unless AWS_EC2_METADATA_DISABLED)
 *
 * What expires is fetched anew from where it came, five minutes before.  Secrets are kept in guarded memory and
 * wiped (what libcurl copies isn't: cli/main.c has no core dumps made); no message has them.
 */
#ifndef KEDGE_TRANSPORT_S3_CREDS_H
#define KEDGE_TRANSPORT_S3_CREDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/err.h"
#include "base/cleanup.h"

#define S3_ACCESS_MAX 256
#define S3_SECRET_MAX 512
#define S3_TOKEN_MAX 12288

struct s3_creds {
	char access[S3_ACCESS_MAX];
	char secret[S3_SECRET_MAX];
	char token[S3_TOKEN_MAX];	/* "" = none */
	int64_t expires_ns;		/* wall clock; 0 = never */
};

struct s3_http;
struct s3_keyring;

struct s3_keyring_opts {
	const char *profile;		/* NULL = AWS_PROFILE, else "default" */
	const char *region;		/* where STS is asked */
	struct s3_http *http;		/* must outlive the keyring */
	struct cancel *cancel;		/* may be NULL */
};

/* Looks for nothing yet. */
MUST_CHECK int s3_keyring_new(const struct s3_keyring_opts *o, struct s3_keyring **ret, struct err *e);
void s3_keyring_free(struct s3_keyring *k);	/* NULL is fine */
/*
 * Valid credentials, locked until s3_keyring_return: look, sign, give back, and do nothing in between that blocks.
 * Fetches them when there are none or they are about to expire; others wait meanwhile, or go on with those that still
 * hold.  None anywhere: ERR_REFUSED with a hint.  Any thread.
 */
MUST_CHECK int s3_keyring_borrow(struct s3_keyring *k, const struct s3_creds **ret, struct err *e);
void s3_keyring_return(struct s3_keyring *k);
/* Which fetch the borrowed credentials come from. */
uint64_t s3_keyring_generation(const struct s3_keyring *k);
/* The server says that those of that generation have expired: others are fetched at the next borrow.  False: they are
 * of a kind that does not change. */
bool s3_keyring_refuse(struct s3_keyring *k, uint64_t generation);
/* region of the profile, malloc'ed; NULL without error: it names none. */
MUST_CHECK int s3_profile_region(const char *profile, char **ret, struct err *e);

#endif
