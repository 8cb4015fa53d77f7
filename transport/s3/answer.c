/*
 * answer.c - what a reply means: done, no, again, or again in another way.
 *
 * Every request that kedge makes may be repeated: objects are put under names that say their content, and what is
 * removed twice is gone.  Where the first of two attempts may have had an effect that the second sees, the store looks
 * (s3.c).
 */
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "transport/s3/client_internal.h"
#include "transport/s3/xml.h"

#define SKEW_LEAST_S 60
#define SKEW_MOST_S (7 * 24 * 3600)
#define ALTERED_TRIES 3u

static bool is_one_of(const char *code, const char *const *list)
{
	for (; *list; list++) {
		if (!strcmp(code, *list))
			return true;
	}
	return false;
}

/* "the server says 503 SlowDown: Please reduce your request rate." */
static int say(struct s3_op *op, int code, const struct s3_xml_error *x)
{
	char name[160], text[400];

	text_quote(x->code, name, sizeof(name));
	text_quote(x->message, text, sizeof(text));
	return err_set(&op->e, code, "the server says %ld%s%s%s%.250s", op->call.status, name[0] ? " " : "", name,
		       text[0] ? ": " : "", text);
}

/* --- the clock --------------------------------------------------------------------------------------------------- */

static void say_skew(struct s3_client *c, int64_t skew)
{
	char text[256];
	int64_t a = skew < 0 ? -skew : skew;

	snprintf(text, sizeof(text),
		 "the clock of this machine is %" PRId64 " min %" PRId64 " s %s that of the storage at %.80s; "
		 "requests are signed by that one, but set this one right",
		 a / 60, a % 60, skew > 0 ? "behind" : "ahead of", c->place.host);
	if (c->notice)
		c->notice(c->opaque, text);
}

static enum s3_verdict correct_skew(struct s3_client *c, struct s3_op *op, const struct s3_xml_error *x)
{
	time_t server = curl_getdate(op->call.h.date, NULL);
	int64_t skew = server > 0 ? (int64_t)server - clock_wall_ns() / 1000000000 : 0;
	int64_t off = skew - op->sent_skew_s;	/* either clock may have been set meanwhile */
	bool far = skew < -SKEW_MOST_S || skew > SKEW_MOST_S;
	bool first;

	say(op, ERR_REFUSED, x);
	err_hint(&op->e, "the clock of this machine or that of the storage is wrong: set it right");
	if (op->skew_corrected || far || (off > -SKEW_LEAST_S && off < SKEW_LEAST_S))
		return S3_FAILED;
	op->skew_corrected = true;
	pthread_mutex_lock(&c->lock);
	c->skew_s = skew;
	first = !c->skew_said;
	c->skew_said = true;
	pthread_mutex_unlock(&c->lock);
	if (first)
		say_skew(c, skew);
	return S3_RETRY_NOW;
}

/* --- the region -------------------------------------------------------------------------------------------------- */

/* Another region than the one that was signed for: taken over once. */
static bool change_region(struct s3_client *c, struct s3_op *op, const char *region)
{
	if (!*region || op->region_changed || !s3_region_ok(region))
		return false;
	pthread_mutex_lock(&c->lock);
	snprintf(c->region, sizeof(c->region), "%s", region);
	pthread_mutex_unlock(&c->lock);
	op->region_changed = true;
	return strcmp(op->sent_region, region) != 0;
}

/* A redirect is never followed: signed requests go to the host that was named, and to no other. */
static enum s3_verdict redirected(struct s3_client *c, struct s3_op *op, const struct s3_xml_error *x)
{
	const char *to = op->call.h.location[0] ? op->call.h.location : x->endpoint;
	char shown[300];

	if (change_region(c, op, op->call.h.region) || change_region(c, op, x->region))
		return S3_RETRY_NOW;
	text_quote(to, shown, sizeof(shown));
	err_set(&op->e, ERR_REFUSED, "the server answers %ld and sends us elsewhere%s%.200s; that is not followed",
		op->call.status, *to ? ": " : "", shown);
	err_hint(&op->e, "if that is where the bucket is, name it in the location of the repository");
	return S3_FAILED;
}

/* --- refusals ---------------------------------------------------------------------------------------------------- */

static enum s3_verdict bad_request(struct s3_client *c, struct s3_op *op, const struct s3_xml_error *x)
{
	static const char *const expired[] = { "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired",
					       "InvalidToken", NULL };
	static const char *const altered[] = { "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
					       "InvalidDigest", NULL };
	static const char *const again[] = { "RequestTimeout", "IncompleteBody", NULL };

	say(op, ERR_REFUSED, x);
	if ((!strcmp(x->code, "AuthorizationHeaderMalformed") || !x->code[0]) &&
	    (change_region(c, op, x->region) || change_region(c, op, op->call.h.region)))
		return S3_RETRY_NOW;
	/* the reply to a HEAD has no words */
	if ((is_one_of(x->code, expired) || (!x->code[0] && !strcmp(op->method, "HEAD"))) && !op->refreshed) {
		op->refreshed = true;
		if (s3_keyring_refuse(c->keys, op->generation))
			return S3_RETRY_NOW;
	}
	if (is_one_of(x->code, expired))
		op->e.code = ERR_REFUSED;
	if (is_one_of(x->code, altered)) {
		op->e.code = ERR_CORRUPT;
		err_hint(&op->e,
			 "the bytes that arrived are not those that were sent: a bad network device or bad memory");
		return ++op->altered < ALTERED_TRIES ? S3_RETRY : S3_FAILED;
	}
	if (is_one_of(x->code, again)) {
		op->e.code = ERR_TRANSIENT;
		return S3_RETRY;
	}
	return S3_FAILED;
}

static enum s3_verdict forbidden(struct s3_client *c, struct s3_op *op, const struct s3_xml_error *x)
{
	if (!strcmp(x->code, "RequestTimeTooSkewed"))
		return correct_skew(c, op, x);
	if (!strcmp(x->code, "QuotaExceeded") || !strcmp(x->code, "XMinioStorageFull")) {
		say(op, ERR_NOSPACE, x);
		err_hint(&op->e,
			 "nothing that was stored is lost; make room or have the quota raised, and run it again");
		return S3_FAILED;
	}
	say(op, ERR_REFUSED, x);
	if (!strcmp(x->code, "SignatureDoesNotMatch"))
		err_hint(&op->e, "the secret key is not the one of that access key");
	else if (!strcmp(x->code, "InvalidAccessKeyId"))
		err_hint(&op->e, "the storage does not know the access key: is it one of this provider?");
	else
		err_hint(&op->e,
			 "these credentials may not do that: look at the policies of the user and of the bucket");
	return S3_FAILED;
}

/*
 * "Not found" is what any proxy says while the gateway behind it is away, and what repo/ builds upon: so it counts from S3
 * only, in S3's words, and for what can be absent.
 */
static bool is_absence(const struct s3_op *op, const struct s3_xml_error *x)
{
	if (!strcmp(x->code, "NoSuchUpload"))
		return strstr(op->query, "uploadId=") != NULL;
	if (!op->name || !strcmp(op->method, "PUT") || !strcmp(op->method, "POST"))
		return false;
	if (!strcmp(op->method, "HEAD"))
		return op->call.h.request_id[0] != 0;
	return !strcmp(x->code, "NoSuchKey");
}

static enum s3_verdict not_found(struct s3_client *c, struct s3_op *op, const struct s3_xml_error *x)
{
	if (!strcmp(x->code, "NoSuchBucket")) {
		err_set(&op->e, ERR_REFUSED, "there is no bucket \"%.64s\" at %.80s", c->place.bucket, c->place.host);
		op->e.os_errno = ENOENT;
		err_hint(&op->e, "make it first (kedge makes none: its settings matter), or mend the name");
		return S3_FAILED;
	}
	if (!is_absence(op, x)) {
		say(op, ERR_TRANSIENT, x);
		err_hint(&op->e, "that is not how S3 says that something is absent: is this its address, and is what "
				 "stands before it (proxy, gateway) well?");
		/* the reply to a HEAD has no words: a GET finds out more (s3.c) */
		return strcmp(op->method, "HEAD") ? S3_RETRY : S3_FAILED;
	}
	if (op->flags & S3_OP_QUIET_404)
		return S3_DONE;
	err_set(&op->e, ERR_NOTFOUND, "no such object");
	return S3_FAILED;
}

/* Something that was sent along in the hope that the server has it. */
static enum s3_verdict unimplemented(struct s3_client *c, struct s3_op *op, const struct s3_xml_error *x)
{
	bool again = false;

	pthread_mutex_lock(&c->lock);
	if (op->sent_condition)
		c->no_condition = again = true;
	else if (op->sent_checksum)
		c->no_checksum = again = true;
	pthread_mutex_unlock(&c->lock);
	say(op, ERR_REFUSED, x);
	return again ? S3_RETRY_NOW : S3_FAILED;
}

/* "120", or a date. */
static double rest_wanted(const char *retry_after)
{
	uint64_t n;
	time_t when;

	if (parse_u64(retry_after, 0, 1u << 30, &n))
		return (double)n;
	when = *retry_after ? curl_getdate(retry_after, NULL) : -1;
	return when > 0 && when > time(NULL) ? (double)(when - time(NULL)) : 0;
}

static enum s3_verdict busy(struct s3_op *op, const struct s3_xml_error *x, double *ret_rest)
{
	*ret_rest = rest_wanted(op->call.h.retry_after);
	say(op, ERR_TRANSIENT, x);
	if (*ret_rest > 60)
		err_hint(&op->e, "the storage asks to come back in %.0f s", *ret_rest);
	return S3_RETRY;
}

static enum s3_verdict judge_status(struct s3_client *c, struct s3_op *op, double *ret_rest)
{
	struct s3_xml_error x = { 0 };
	long status = op->call.status;

	if (status >= 200 && status < 300)
		return S3_DONE;
	s3_xml_error(op->call.text.p, op->call.text.len, &x);
	if (status == 408 || status == 429 || (status >= 500 && status != 501 && status != 507))
		return busy(op, &x, ret_rest);
	switch (status) {
	case 301: case 302: case 303: case 307: case 308:
		return redirected(c, op, &x);
	case 400:
		return bad_request(c, op, &x);
	case 401: case 403:
		return forbidden(c, op, &x);
	case 404:
		return not_found(c, op, &x);
	case 409:
		say(op, ERR_TRANSIENT, &x);
		return S3_RETRY;
	case 412:
		err_set(&op->e, ERR_EXISTS, "the object is there already");
		return S3_FAILED;
	case 416:
		err_set(&op->e, ERR_CORRUPT, "the object ends before what was wanted");
		return S3_FAILED;
	case 501:
		return unimplemented(c, op, &x);
	case 507:
		say(op, ERR_NOSPACE, &x);
		return S3_FAILED;
	default:
		say(op, ERR_REFUSED, &x);
		return S3_FAILED;
	}
}

enum s3_verdict s3_judge(struct s3_client *c, struct s3_op *op, double *ret_rest)
{
	if (op->call.curl_code == CURLE_OK) {
		pthread_mutex_lock(&c->lock);
		c->reached = true;
		pthread_mutex_unlock(&c->lock);
		return judge_status(c, op, ret_rest);
	}
	/* a refusal may come while the body is still being sent, and the connection be closed over it */
	if (op->call.status >= 400 && op->call.status < 500 && op->call.text.len && !op->call.too_long)
		return judge_status(c, op, ret_rest);
	return s3_http_error(&op->call, &op->e) == ERR_TRANSIENT ? S3_RETRY : S3_FAILED;
}
