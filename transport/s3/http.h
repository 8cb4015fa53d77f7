/*
 * http.h - HTTP requests on libcurl's multi interface: one thread moves the bytes of all of them, connections are kept
 * and used again, HTTP/2 where a TLS server speaks it.  Redirects are never followed, nothing is decoded, nothing is
 * retried here, a reply is taken up to what was asked for and no further.
 *
 * A call's request and its buffers are the caller's and must stay until it is done.  Any thread.
 */
#ifndef KEDGE_TRANSPORT_S3_HTTP_H
#define KEDGE_TRANSPORT_S3_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cancel.h"
#include "base/err.h"
#include "transport/s3/s3.h"

struct s3_http;
struct curl_slist;

struct s3_http_opts {
	const char *ca_file;		/* NULL = the system's */
	struct s3_limits limits;
};

/* Headers of a reply that somebody looks at; "" = none. */
struct s3_reply_headers {
	char date[40], last_modified[40], etag[136], retry_after[40], region[40], content_range[96], nonce[40];
	char location[256];
	char request_id[16];		/* its beginning: only S3 gives one */
};

enum s3_http_state { S3_HTTP_IDLE, S3_HTTP_QUEUED, S3_HTTP_RUNNING, S3_HTTP_DONE };

struct s3_http_call {
	/* the request */
	const char *method, *url;
	struct curl_slist *headers;
	const void *body;		/* NULL = none; PUT and POST send a length of 0 then */
	size_t body_len;
	bool direct;			/* past any proxy */
	unsigned connect_ms, total_s;	/* 0 = as set up */
	/* where a reply's body goes: that of a success (2xx) to into, if that is not NULL, else to text */
	void *into;
	size_t into_len;
	struct buf text;		/* give it its maximum; what does not fit sets too_long */
	/* the reply */
	int curl_code;			/* CURLE_OK: a whole reply came */
	char curl_text[256];
	long status;			/* 0 = none came */
	size_t got;			/* bytes in into */
	int64_t length;			/* Content-Length; -1 = none */
	bool too_long, sent_all;
	struct s3_reply_headers h;
	/* private */
	enum s3_http_state state;
	bool abort;
	void *easy;
	size_t sent, header_bytes;
	struct s3_http *http;
	struct s3_http_call *next;
};

MUST_CHECK int s3_http_new(const struct s3_http_opts *o, struct s3_http **ret, struct err *e);
void s3_http_free(struct s3_http *h);	/* no call may be under way; NULL is fine */
const struct s3_limits *s3_http_limits(const struct s3_http *h);	/* with the defaults filled in */
/* Starts it and returns at once.  c may have been used before. */
void s3_http_start(struct s3_http *h, struct s3_http_call *c);
/* Waits until one of the n calls that are under way is done (or seconds have passed); how many are done. */
size_t s3_http_wait(struct s3_http *h, struct s3_http_call *const *c, size_t n, double seconds);
bool s3_http_done(struct s3_http *h, struct s3_http_call *c);
/* Ends it if it runs, and waits until nothing of it is touched any more. */
void s3_http_abort(struct s3_http *h, struct s3_http_call *c);
/* start and wait; ERR_CANCELLED when cancel says so.  0: c has a reply, or why there is none. */
MUST_CHECK int s3_http_do(struct s3_http *h, struct s3_http_call *c, struct cancel *cancel, struct err *e);
/* What went wrong below HTTP, in words: ERR_TRANSIENT, ERR_REFUSED (certificate), ERR_CORRUPT (too long), ERR_NOMEM. */
int s3_http_error(const struct s3_http_call *c, struct err *e);
/* A header line appended to *list; ERR_NOMEM. */
MUST_CHECK int s3_http_header(struct curl_slist **list, const char *name, const char *value, struct err *e);
/* No "Expect: 100-continue", which costs a round trip. */
MUST_CHECK int s3_http_no_expect(struct curl_slist **list, struct err *e);
/* Wipes and frees a list that held secrets. */
void s3_http_headers_free(struct curl_slist *list);

#endif
