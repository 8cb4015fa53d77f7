/*
 * client.h - requests to one bucket until they have an answer: signed anew for each attempt, tried again where that can
 * help, several at once, fewer when the server asks for it.
 */
#ifndef KEDGE_TRANSPORT_S3_CLIENT_H
#define KEDGE_TRANSPORT_S3_CLIENT_H

#include "transport/s3/creds.h"
#include "transport/s3/http.h"
#include "transport/s3/sign.h"
#include "transport/s3/url.h"

#define S3_PARALLEL_MAX 16u
#define S3_OP_HEADERS_MAX 6

struct s3_client;

MUST_CHECK int s3_client_new(const char *location, const struct s3_opts *o, struct s3_client **ret, struct err *e);
void s3_client_free(struct s3_client *c);	/* NULL is fine; no operation may be under way */
const struct s3_place *s3_client_place(const struct s3_client *c);

enum s3_op_flags {
	S3_OP_ABSENT = 1 << 0,		/* If-None-Match: *; dropped for good where the server has none (501) */
	S3_OP_CHECKSUM = 1 << 1,	/* x-amz-checksum-sha256; likewise */
	S3_OP_QUIET_404 = 1 << 2,	/* absent is as good as done */
};

enum s3_op_state { S3_OP_WAITING, S3_OP_FLYING, S3_OP_FINISHED };

/* An operation.  s3_op_init, fill in, s3_run, look, s3_op_done.  Not const: the caller's until then. */
struct s3_op {
	const char *method, *name;	/* name: below the prefix; NULL = the bucket */
	const char *query;		/* encoded, in order; "" = none */
	struct s3_header headers[S3_OP_HEADERS_MAX];	/* signed, too */
	size_t n;
	int flags;
	char hash[S3_HASH_HEX];		/* of the body, if it is known; "": computed */
	struct s3_http_call call;	/* body, into, text.max; then the reply */
	/* the result */
	int code;			/* 0, or what e says */
	struct err e;
	unsigned tries;			/* attempts so far; libcurl may have made more on dead connections */
	/* private */
	enum s3_op_state state;
	char *url;
	double first_failed, not_before;
	uint64_t generation;
	char sent_region[S3_REGION_MAX];	/* what this attempt was made with: others may change the client's meanwhile */
	int64_t sent_skew_s;
	bool sent_condition, sent_checksum;
	bool region_changed, refreshed, skew_corrected;
	unsigned altered;
};

void s3_op_init(struct s3_op *op, const char *method, const char *name);
void s3_op_done(struct s3_op *op);	/* may be called twice */
void s3_op_header(struct s3_op *op, const char *name, const char *value);
/*
 * Carries out n operations, at most `parallel` at a time.  0: all have code 0.  The first that fails ends the others;
 * its error is returned.  ERR_CANCELLED when somebody asked to stop.  Any thread.
 */
MUST_CHECK int s3_run(struct s3_client *c, struct s3_op *ops, size_t n, unsigned parallel, struct err *e);

#endif
