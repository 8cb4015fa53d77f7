/* client.c - opening a client, signing, and the loop that carries operations through. */
#include <curl/curl.h>
#include <sodium.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "base/text.h"
#include "transport/s3/client_internal.h"

#define URL_MAX_BYTES 8192u
#define BACKOFF_FIRST_S 0.2
#define BACKOFF_MAX_S 20.0
#define STEP_S 0.2			/* how soon a request to stop is noticed */
#define SLOT_STEP_S 0.01
#define UNREACHED_TRIES 3u		/* a server that never answered is more likely a wrong name than a bad moment */
#define LOWER_EVERY_S 1.0
#define ASK_FIRST_BYTES ((size_t)1 << 20)

static const char *first_of(const char *given, const char *env1, const char *env2)
{
	const char *v = given;

	if (!v || !*v)
		v = getenv(env1);
	if ((!v || !*v) && env2)
		v = getenv(env2);
	return v && *v ? v : NULL;
}

static int parse_style(const char *style, enum s3_style *ret, struct err *e)
{
	if (!style || !*style || !strcmp(style, "auto"))
		*ret = S3_STYLE_AUTO;
	else if (!strcmp(style, "path"))
		*ret = S3_STYLE_PATH;
	else if (!strcmp(style, "virtual"))
		*ret = S3_STYLE_VIRTUAL;
	else
		return err_set(e, ERR_INVALID, "\"%.32s\" is no style of addressing buckets: path, virtual, auto",
			       style);
	return 0;
}

static int open_parts(struct s3_client *c, const char *location, const struct s3_opts *o, struct err *e)
{
	struct s3_place_opts po = { .endpoint = first_of(o->endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
				    .region = first_of(o->region, "AWS_REGION", "AWS_DEFAULT_REGION") };
	const struct s3_http_opts ho = { .ca_file = first_of(o->ca_file, "AWS_CA_BUNDLE", NULL), .limits = o->limits };
	struct s3_keyring_opts ko = { .profile = o->profile, .cancel = o->cancel };
	CLEANUP(free_ptr) char *region = NULL;

	if (parse_style(o->style, &po.style, e) < 0)
		return e->code;
	if (!po.region) {
		if (s3_profile_region(o->profile, &region, e) < 0)
			return err_ctx(e, "profile");
		po.region = region;
	}
	if (s3_place_parse(location, &po, &c->place, e) < 0 || s3_http_new(&ho, &c->http, e) < 0)
		return e->code;
	memcpy(c->region, c->place.region, sizeof(c->region));
	ko.region = c->region;
	ko.http = c->http;
	return s3_keyring_new(&ko, &c->keys, e);
}

int s3_client_new(const char *location, const struct s3_opts *o, struct s3_client **ret, struct err *e)
{
	struct s3_client *c;

	if (sodium_init() < 0)	/* guarded memory; doing it again costs nothing */
		return err_set(e, ERR_INTERNAL, "libsodium does not start");
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, ERR_NOMEM, "S3");
	pthread_mutex_init(&c->lock, NULL);
	c->allowed = S3_PARALLEL_MAX;
	c->cancel = o->cancel;
	c->notice = o->notice;
	c->opaque = o->opaque;
	if (open_parts(c, location, o, e) < 0) {
		s3_client_free(c);
		return e->code;
	}
	*ret = c;
	return 0;
}

void s3_client_free(struct s3_client *c)
{
	if (!c)
		return;
	s3_keyring_free(c->keys);
	s3_http_free(c->http);
	s3_place_done(&c->place);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

const struct s3_place *s3_client_place(const struct s3_client *c)
{
	return &c->place;
}

/* --- operations -------------------------------------------------------------------------------------------------- */

void s3_op_init(struct s3_op *op, const char *method, const char *name)
{
	*op = (struct s3_op){ .method = method, .name = name, .query = "" };
	buf_init(&op->call.text, 64 * KIB);
}

void s3_op_done(struct s3_op *op)
{
	buf_done(&op->call.text);
	s3_http_headers_free(op->call.headers);
	op->call.headers = NULL;
	free(STEAL(op->url));
}

void s3_op_header(struct s3_op *op, const char *name, const char *value)
{
	if (op->n < S3_OP_HEADERS_MAX)
		op->headers[op->n++] = (struct s3_header){ name, value };
}

static int hash_body(struct s3_op *op, struct err *e)
{
	uint8_t hash[32];

	if (op->hash[0])
		return 0;
	if (s3_sha256(op->call.body_len ? op->call.body : "", op->call.body_len, hash, e) < 0)
		return e->code;
	text_hex(hash, sizeof(hash), op->hash);
	return 0;
}

/* "/bucket/prefix/name" as it is sent, then url and host from it. */
static int build_path(const struct s3_client *c, const struct s3_op *op, struct buf *path, struct err *e)
{
	const struct s3_place *p = &c->place;

	if (buf_add(path, "/", 1, e) < 0)
		return e->code;
	if (!p->virtual_host && s3_encode(path, p->bucket, false, e) < 0)
		return e->code;
	if (!p->virtual_host && op->name && buf_add(path, "/", 1, e) < 0)
		return e->code;
	if (op->name && (s3_encode(path, p->prefix, true, e) < 0 || s3_encode(path, op->name, true, e) < 0))
		return e->code;
	return buf_u8(path, 0, e);
}

struct attempt {
	char *host, *region;
	struct buf path, authorization;
	char stamp[S3_STAMP_BYTES], checksum[64];
	struct s3_header h[S3_SIGNED_HEADERS_MAX];
	size_t n;
};

static void attempt_done(struct attempt *a)
{
	free(a->host);
	free(a->region);
	buf_done(&a->path);
	buf_done(&a->authorization);
}

static void add_header(struct attempt *a, const char *name, const char *value)
{
	a->h[a->n++] = (struct s3_header){ name, value };	/* 6 of ours and S3_OP_HEADERS_MAX at most */
}

static int sum_base64(const char *hex, char ret[static 64], struct err *e)
{
	uint8_t raw[32];

	if (!text_unhex(hex, raw, sizeof(raw)))
		return err_set(e, ERR_INTERNAL, "a checksum that is none");
	sodium_bin2base64(ret, 64, raw, sizeof(raw), sodium_base64_VARIANT_ORIGINAL);
	return 0;
}

static int choose_headers(struct s3_client *c, struct s3_op *op, struct attempt *a, struct err *e)
{
	bool condition, checksum;
	int64_t now;

	pthread_mutex_lock(&c->lock);
	now = clock_wall_ns() / 1000000000 + c->skew_s;
	a->region = text_printf(e, "%s", c->region);
	condition = (op->flags & S3_OP_ABSENT) && !c->no_condition;
	checksum = (op->flags & S3_OP_CHECKSUM) && !c->no_checksum;
	memcpy(op->sent_region, c->region, sizeof(op->sent_region));
	op->sent_skew_s = c->skew_s;
	op->sent_condition = condition;
	op->sent_checksum = checksum;
	pthread_mutex_unlock(&c->lock);
	a->host = a->region ? s3_place_host(&c->place, a->region, e) : NULL;
	if (!a->host)
		return e->code;
	s3_stamp(now, a->stamp);
	add_header(a, "host", a->host);
	add_header(a, "x-amz-content-sha256", op->hash);
	add_header(a, "x-amz-date", a->stamp);
	for (size_t i = 0; i < op->n; i++)
		add_header(a, op->headers[i].name, op->headers[i].value);
	if (condition)
		add_header(a, "if-none-match", "*");
	if (checksum) {
		if (sum_base64(op->hash, a->checksum, e) < 0)
			return e->code;
		add_header(a, "x-amz-checksum-sha256", a->checksum);
	}
	return 0;
}

/* With credentials in hand: the signature, and the list that libcurl gets. */
static int sign(struct s3_op *op, struct attempt *a, const struct s3_creds *creds, struct err *e)
{
	struct s3_to_sign t = { .method = op->method, .path = (char *)a->path.p, .query = op->query, .headers = a->h,
				.payload = op->hash, .stamp = a->stamp, .region = a->region, .service = "s3",
				.access = creds->access, .secret = creds->secret };

	if (creds->token[0])
		add_header(a, "x-amz-security-token", creds->token);
	t.n = a->n;
	if (s3_sign(&t, &a->authorization, e) < 0)
		return e->code;
	s3_http_headers_free(op->call.headers);
	op->call.headers = NULL;
	for (size_t i = 0; i < a->n; i++) {	/* Host, too: libcurl would write some addresses in another way */
		if (s3_http_header(&op->call.headers, a->h[i].name, a->h[i].value, e) < 0)
			return e->code;
	}
	/* asking first pays where a refusal would come after megabytes */
	if (op->call.body_len < ASK_FIRST_BYTES && s3_http_no_expect(&op->call.headers, e) < 0)
		return e->code;
	return s3_http_header(&op->call.headers, "Authorization", (char *)a->authorization.p, e);
}

static int prepare(struct s3_client *c, struct s3_op *op, struct attempt *a, struct err *e)
{
	const struct s3_creds *creds;
	int r;

	if (hash_body(op, e) < 0 || build_path(c, op, &a->path, e) < 0 || choose_headers(c, op, a, e) < 0)
		return e->code;
	free(op->url);
	op->url = text_printf(e, "http%s://%s%s%s%s", c->place.tls ? "s" : "", a->host, (char *)a->path.p,
			      *op->query ? "?" : "", op->query);
	if (!op->url || s3_keyring_borrow(c->keys, &creds, e) < 0)
		return e->code;
	op->generation = s3_keyring_generation(c->keys);
	r = sign(op, a, creds, e);
	s3_keyring_return(c->keys);
	return r;
}

static int start(struct s3_client *c, struct s3_op *op, struct err *e)
{
	struct attempt a = { 0 };
	int r;

	buf_init(&a.path, URL_MAX_BYTES);
	buf_init(&a.authorization, URL_MAX_BYTES);
	r = prepare(c, op, &a, e);
	attempt_done(&a);
	if (r < 0)
		return r;
	op->call.method = op->method;
	op->call.url = op->url;
	op->state = S3_OP_FLYING;
	op->tries++;
	s3_http_start(c->http, &op->call);
	return 0;
}

/* --- how many at once -------------------------------------------------------------------------------------------- */

static bool take_slot(struct s3_client *c)
{
	bool got;

	pthread_mutex_lock(&c->lock);
	got = c->running < c->allowed;
	c->running += got;
	pthread_mutex_unlock(&c->lock);
	return got;
}

/* A server that asks for less gets half of what was running, at most once a second; each time that as many as are
 * allowed have succeeded twice, one more may run. */
static void give_slot(struct s3_client *c, bool throttled, bool succeeded)
{
	double now = clock_mono();
	unsigned ran;

	pthread_mutex_lock(&c->lock);
	ran = c->running--;
	if (throttled) {
		c->streak = 0;
		if (c->allowed > 1 && now - c->lowered_at >= LOWER_EVERY_S) {
			c->allowed = (ran < c->allowed ? ran : c->allowed) / 2;
			c->allowed = c->allowed ? c->allowed : 1;
			c->lowered_at = now;
			LOG_DEBUG("throttled: %u requests at once from now on", c->allowed);
		}
	} else if (succeeded && c->allowed < S3_PARALLEL_MAX && ++c->streak >= 2 * c->allowed) {
		c->streak = 0;
		c->allowed++;
	}
	pthread_mutex_unlock(&c->lock);
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static void fail_op(struct s3_op *op, int code)
{
	op->state = S3_OP_FINISHED;
	op->code = code;
}

/* Exponential, with full jitter: many clients that failed together do not come back together. */
static double backoff(unsigned tries)
{
	double most = BACKOFF_FIRST_S;

	for (unsigned i = 1; i < tries && most < BACKOFF_MAX_S; i++)
		most *= 2;
	most = most < BACKOFF_MAX_S ? most : BACKOFF_MAX_S;
	return most * (double)randombytes_uniform(1u << 20) / (double)(1u << 20);
}

static void give_up(struct s3_op *op, double now)
{
	char cause[ERR_CAUSE_BYTES], hint[ERR_HINT_BYTES];

	snprintf(cause, sizeof(cause), "%s", op->e.cause);
	snprintf(hint, sizeof(hint), "%s", op->e.hint);
	err_set(&op->e, op->e.code, "%.300s (given up after %u attempt%s in %.0f s)", cause, op->tries,
		op->tries == 1 ? "" : "s", now - op->first_failed);
	if (hint[0])
		err_hint(&op->e, "%s", hint);
	else
		err_hint(&op->e, "run it again when the storage answers: nothing that was stored is sent twice");
	fail_op(op, op->e.code);
}

static void plan_retry(struct s3_client *c, struct s3_op *op, double rest)
{
	const struct s3_limits *l = s3_http_limits(c->http);
	double now = clock_mono(), delay = backoff(op->tries);
	unsigned tries = l->tries;

	pthread_mutex_lock(&c->lock);
	if (!c->reached && tries > UNREACHED_TRIES)
		tries = UNREACHED_TRIES;
	pthread_mutex_unlock(&c->lock);
	if (op->first_failed == 0)
		op->first_failed = now;
	delay = delay > rest ? delay : rest;
	if (op->tries >= tries || now + delay - op->first_failed > l->retry_s) {
		give_up(op, now);
		return;
	}
	LOG_DEBUG("%s %s: attempt %u: %s; again in %.1f s", op->method, op->name ? op->name : "", op->tries,
		  op->e.cause, delay);
	op->state = S3_OP_WAITING;
	op->not_before = now + delay;
	err_clear(&op->e);
}

static void land(struct s3_client *c, struct s3_op *op)
{
	double rest = 0;
	enum s3_verdict v;

	err_clear(&op->e);
	op->code = 0;
	v = s3_judge(c, op, &rest);
	give_slot(c, op->call.status == 503 || op->call.status == 429, v == S3_DONE);
	if (v == S3_DONE) {
		op->state = S3_OP_FINISHED;
	} else if (v == S3_FAILED) {
		fail_op(op, op->e.code);
	} else if (v == S3_RETRY_NOW) {
		op->state = S3_OP_WAITING;
		op->not_before = 0;
		err_clear(&op->e);
	} else {
		plan_retry(c, op, rest);
	}
}

struct flight {
	struct s3_client *c;
	struct s3_op *ops;
	size_t n, finished, flying;
	struct s3_http_call *calls[S3_PARALLEL_MAX];
	double wait;			/* until something is due */
	struct s3_op *failed;
};

static void look_at(struct flight *f, struct s3_op *op, unsigned parallel, double now)
{
	if (op->state == S3_OP_FLYING && s3_http_done(f->c->http, &op->call))
		land(f->c, op);
	if (op->state == S3_OP_WAITING && op->not_before > now) {
		if (op->not_before - now < f->wait)
			f->wait = op->not_before - now;
	} else if (op->state == S3_OP_WAITING && f->flying < parallel) {
		if (!take_slot(f->c)) {
			f->wait = SLOT_STEP_S;
		} else if (start(f->c, op, &op->e) < 0) {
			give_slot(f->c, false, false);
			fail_op(op, op->e.code);
		}
	}
	if (op->state == S3_OP_FLYING)
		f->calls[f->flying++] = &op->call;
	f->finished += op->state == S3_OP_FINISHED;
	if (op->state == S3_OP_FINISHED && op->code < 0 && !f->failed)
		f->failed = op;
}

static void end_all(struct flight *f)
{
	for (size_t i = 0; i < f->n; i++) {
		if (f->ops[i].state != S3_OP_FLYING)
			continue;
		s3_http_abort(f->c->http, &f->ops[i].call);
		give_slot(f->c, false, false);
		fail_op(&f->ops[i], err_set(&f->ops[i].e, ERR_CANCELLED, "ended"));
	}
}

int s3_run(struct s3_client *c, struct s3_op *ops, size_t n, unsigned parallel, struct err *e)
{
	struct flight f = { .c = c, .ops = ops, .n = n };

	if (parallel < 1 || parallel > S3_PARALLEL_MAX)
		parallel = S3_PARALLEL_MAX;
	for (;;) {
		double now = clock_mono();

		f.finished = f.flying = 0;
		f.wait = STEP_S;
		for (size_t i = 0; i < n && !f.failed; i++)
			look_at(&f, &ops[i], parallel, now);
		if (f.failed || f.finished == n)
			break;
		if (cancel_check(c->cancel, e) < 0) {
			end_all(&f);
			return e->code;
		}
		(void)s3_http_wait(c->http, f.calls, f.flying, f.wait);
	}
	if (!f.failed)
		return 0;
	end_all(&f);
	*e = f.failed->e;
	return e->code;
}
