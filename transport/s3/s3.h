/*
 * s3.h - a bucket of S3, or a part of one below a prefix, as a store: how transport/registry.c opens one.
 *
 * Names are keys below the prefix.  A put is durable when it returns, listings are taken to show every put and remove
 * that returned before (AWS, Ceph RGW, MinIO do; docs/s3.md).  What may pass is tried again within limits; the last
 * failure is ERR_TRANSIENT then.  ERR_REFUSED: no credentials, or refused ones; ERR_NOSPACE: a quota.
 */
#ifndef KEDGE_TRANSPORT_S3_S3_H
#define KEDGE_TRANSPORT_S3_S3_H

#include <stdbool.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"

struct store;

struct s3_limits {			/* 0 = default */
	unsigned connect_ms;		/* name, connection, TLS: 15 s */
	unsigned stall_s;		/* without a byte in either direction: 30 s */
	unsigned total_s;		/* of one attempt, beside what its bytes may take at 16 KiB/s: 120 s */
	unsigned tries;			/* of one operation: 15 */
	unsigned retry_s;		/* no attempt begins later than this after the first has failed: 300 s */
};

struct s3_opts {			/* NULL, 0 = default; texts are copied */
	const char *endpoint;		/* for s3://BUCKET: else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS */
	const char *region;		/* else AWS_REGION, AWS_DEFAULT_REGION, the profile's, what the server says */
	const char *style;		/* "path", "virtual", "auto" */
	const char *profile;		/* transport/s3/creds.h */
	const char *ca_file;		/* PEM; else AWS_CA_BUNDLE, the system's */
	struct s3_limits limits;
	bool self_test;			/* find out at once whether If-None-Match is honoured: puts and a delete */
	struct cancel *cancel;		/* ends waiting and retrying; must outlive the store */
	/* Something that people should know, and that is no error; any thread; may be NULL. */
	void (*notice)(void *opaque, const char *text);
	void *opaque;
};

/* create: the bucket must be there and nothing in it below the prefix (ERR_EXISTS).  Without, nothing is asked yet. */
MUST_CHECK int store_s3_open(const char *location, bool create, const struct s3_opts *o, struct store **ret,
			     struct err *e);

#endif
