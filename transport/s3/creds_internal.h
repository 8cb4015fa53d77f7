/* creds_internal.h - the sources of credentials. */
#ifndef KEDGE_TRANSPORT_S3_CREDS_INTERNAL_H
#define KEDGE_TRANSPORT_S3_CREDS_INTERNAL_H

#include <stddef.h>

#include "transport/s3/creds.h"
#include "transport/s3/parse.h"

#define S3_PROFILE_VALUE_MAX 4096

/* A profile, from both files; guarded memory (s3_profile_new).  "" = not named. */
struct s3_profile {
	struct s3_creds keys;
	char process[S3_PROFILE_VALUE_MAX], token_file[S3_PROFILE_VALUE_MAX], role_arn[S3_PROFILE_VALUE_MAX];
	char session_name[S3_PROFILE_VALUE_MAX], source[S3_PROFILE_VALUE_MAX], region[128];
	bool found;		/* one of the files has it */
};

/* ERR_CORRUPT names file and line; files that are not there are no error.  The caller sodium_frees *ret. */
MUST_CHECK int s3_profile_load(const char *name, struct s3_profile **ret, struct err *e);
/* The profile's name: given, or of the environment, or "default". */
const char *s3_profile_name(const char *given);

/* Copies a secret; too long, or with control characters: ERR_INVALID, naming what only. */
MUST_CHECK int s3_secret_copy(char *to, size_t size, const char *s, size_t len, const char *what, struct err *e);
/* Each fills in *ret; ERR_NOTFOUND: this source is not set up here. */
MUST_CHECK int s3_creds_process(const char *command, struct cancel *cancel, struct s3_creds *ret, struct err *e);
struct s3_web_identity {
	const char *token_file, *role_arn, *session_name, *region;
};
MUST_CHECK int s3_creds_web_identity(struct s3_http *http, const struct s3_web_identity *w, struct cancel *cancel,
				     struct s3_creds *ret, struct err *e);
MUST_CHECK int s3_creds_container(struct s3_http *http, struct cancel *cancel, struct s3_creds *ret, struct err *e);
MUST_CHECK int s3_creds_instance(struct s3_http *http, struct cancel *cancel, struct s3_creds *ret, struct err *e);

#endif
