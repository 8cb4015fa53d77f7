/* client_internal.h - a client, as client.c and answer.c see it. */
#ifndef KEDGE_TRANSPORT_S3_CLIENT_INTERNAL_H
#define KEDGE_TRANSPORT_S3_CLIENT_INTERNAL_H

#include <pthread.h>

#include "transport/s3/client.h"

struct s3_client {
	struct s3_place place;
	struct s3_http *http;
	struct s3_keyring *keys;
	struct cancel *cancel;
	void (*notice)(void *opaque, const char *text);
	void *opaque;
	pthread_mutex_t lock;		/* guards what follows */
	char region[S3_REGION_MAX];
	int64_t skew_s;			/* the server's clock is ahead of ours by this */
	bool skew_said, reached;	/* reached: it has answered once */
	bool no_condition, no_checksum;	/* it has none of that */
	unsigned running, allowed, streak;
	double lowered_at;
};

enum s3_verdict { S3_DONE, S3_FAILED, S3_RETRY, S3_RETRY_NOW };

/* What a finished call means; op->e and op->code are set unless DONE.  *ret_rest: seconds that the server asks for. */
enum s3_verdict s3_judge(struct s3_client *c, struct s3_op *op, double *ret_rest);

#endif
