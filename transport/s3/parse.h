/* parse.h - times and credentials as servers write them.  Pure functions; any thread. */
#ifndef KEDGE_TRANSPORT_S3_PARSE_H
#define KEDGE_TRANSPORT_S3_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct s3_creds;

/* ISO 8601 ("2026-11-22T23:00:00Z", with fractions, or with +00:00) in nanoseconds since 1970. */
bool s3_time_iso(const char *s, int64_t *ret_ns);
/* {"AccessKeyId": ..., "SecretAccessKey": ..., "Token" or "SessionToken": ..., "Expiration": ...}; flat, read in place:
 * text is changed, and nothing of it is copied elsewhere than to *ret, which the caller has zeroed. */
MUST_CHECK int s3_creds_json(char *text, size_t len, struct s3_creds *ret, struct err *e);

#endif
