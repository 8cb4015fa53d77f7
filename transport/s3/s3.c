/*
 * s3.c - a bucket as a store: one object, one request, but for what is large.
 *
 * Names of kedge's objects end in the SHA-256 of their bytes (docs/format.md, 1.2).  That is the hash that a request is
 * signed over: the server itself refuses bytes that do not fit their name, and none is hashed twice.
 */
#include "transport/s3/s3_internal.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"

#define PART_BYTES ((size_t)8 << 20)	/* of a read */
#define READ_PARALLEL 4u
#define STORE_PARALLEL 8u
#define RANGE_BYTES 64

int s3_run_one(struct s3_store *s, struct s3_op *op, struct err *e)
{
	return s3_run(s->c, op, 1, 1, e);
}

/* A refused HEAD has no words.  The same as a GET has: why, or what to do otherwise (region, clock, token). */
static int ask_why(struct s3_store *s, const char *name, struct err *e)
{
	struct s3_op op;
	char byte;
	int r;

	err_clear(e);
	s3_op_init(&op, "GET", name);
	s3_op_header(&op, "range", "bytes=0-0");
	op.call.into = &byte;
	op.call.into_len = 1;
	r = s3_run_one(s, &op, e);
	s3_op_done(&op);
	return r;
}

static int s3_stat(struct store *st, const char *name, struct store_stat *ret, struct err *e)
{
	struct s3_store *s = (struct s3_store *)st;
	struct s3_op op;
	int r;

	s3_op_init(&op, "HEAD", name);
	r = s3_run_one(s, &op, e);
	if (r < 0 && r != ERR_NOTFOUND && op.call.status >= 300 && op.call.status < 500 && !op.call.h.location[0]) {
		r = ask_why(s, name, e);
		if (r == 0) {
			op.state = S3_OP_WAITING;
			r = s3_run_one(s, &op, e);
		}
	}
	if (r == 0 && op.call.length < 0)
		r = err_set(e, ERR_REFUSED, "the server does not say how long the object is");
	if (r == 0) {
		time_t t = curl_getdate(op.call.h.last_modified, NULL);

		*ret = (struct store_stat){ .size = (uint64_t)op.call.length,
					    .mtime_ns = t > 0 ? (int64_t)t * 1000000000 : 0 };
	}
	s3_op_done(&op);
	return r;
}

/* --- put --------------------------------------------------------------------------------------------------------- */

void s3_nonce(char ret[static S3_NONCE_BYTES])
{
	uint8_t raw[S3_NONCE_BYTES / 2];

	randombytes_buf(raw, sizeof(raw));
	text_hex(raw, sizeof(raw), ret);
}

bool s3_is_ours(struct s3_store *s, const char *name, const char *nonce)
{
	struct err unheard = ERR_INIT;	/* then it is not known to be */
	struct s3_op op;
	bool ours;

	s3_op_init(&op, "HEAD", name);
	ours = s3_run_one(s, &op, &unheard) == 0 && strcmp(op.call.h.nonce, nonce) == 0;
	s3_op_done(&op);
	return ours;
}

/* The hash at the end of a name, "" if there is none. */
static void hash_of_name(const char *name, char ret[static S3_HASH_HEX])
{
	const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : "";

	if (strlen(last) == S3_HASH_HEX - 1 && strspn(last, "0123456789abcdef") == S3_HASH_HEX - 1)
		memcpy(ret, last, S3_HASH_HEX);
}

static int put_whole(struct s3_store *s, const char *name, const void *buf, size_t len, bool absent, struct err *e)
{
	char nonce[S3_NONCE_BYTES];
	struct s3_op op;
	int r;

	s3_nonce(nonce);
	s3_op_init(&op, "PUT", name);
	op.call.body = buf;
	op.call.body_len = len;
	op.flags = S3_OP_CHECKSUM | (absent ? S3_OP_ABSENT : 0);
	hash_of_name(name, op.hash);
	if (absent)
		s3_op_header(&op, S3_NONCE_HEADER, nonce);
	r = s3_run_one(s, &op, e);
	/* an attempt whose reply was lost may be what is in the way of the next, which libcurl makes by itself, too */
	if (r == ERR_EXISTS && s3_is_ours(s, name, nonce)) {
		err_clear(e);
		r = 0;
	}
	s3_op_done(&op);
	return r;
}

static int s3_put(struct store *st, const char *name, const void *buf, size_t len, int flags, struct err *e)
{
	struct s3_store *s = (struct s3_store *)st;
	bool absent = flags & STORE_PUT_IF_ABSENT;
	struct store_stat there;
	int r;

	if (absent) {	/* many servers ignore If-None-Match without a word */
		r = s3_stat(st, name, &there, e);
		if (r == 0)
			return store_err_exists(e);
		if (r != ERR_NOTFOUND)
			return r;
		err_clear(e);
	}
	if (len >= S3_MULTIPART_BYTES)
		return s3_put_parts(s, name, buf, len, e);
	return put_whole(s, name, buf, len, absent, e);
}

/* --- read -------------------------------------------------------------------------------------------------------- */

/* "bytes 0-9/10"; without a range ("*") for 416. */
static bool parse_range(const char *s, uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_size)
{
	char *end;

	if (strncmp(s, "bytes ", 6))
		return false;
	s += 6;
	*ret_from = *ret_to = 0;
	if (*s == '*') {
		s++;
	} else {
		if (*s < '0' || *s > '9')
			return false;
		*ret_from = strtoull(s, &end, 10);
		if (*end != '-' || end[1] < '0' || end[1] > '9')
			return false;
		*ret_to = strtoull(end + 1, &end, 10);
		s = end;
	}
	return *s == '/' && parse_u64(s + 1, 0, INT64_MAX, ret_size) && *ret_to >= *ret_from;
}

/* A part that came: is it the one that was asked for? */
static int check_part(const struct s3_op *op, size_t len, uint64_t off, struct err *e)
{
	uint64_t from, to, size;

	if (op->call.status == 200 && off == 0 && op->call.got == len)
		return 0;	/* the whole object, which is what was wanted */
	if (op->call.status != 206 || !parse_range(op->call.h.content_range, &from, &to, &size))
		return err_set(e, ERR_REFUSED, "the server does not read parts of objects (HTTP status %ld)",
			       op->call.status);
	if (from != off)
		return err_set(e, ERR_CORRUPT, "bytes from %" PRIu64 " came instead of from %" PRIu64, from, off);
	if (op->call.got != len || to - from + 1 != len)
		return store_err_short(e, size, len, off);
	return 0;
}


static void part_init(struct s3_op *op, char range[static RANGE_BYTES], const char *name, size_t len, uint64_t off)
{
	s3_op_init(op, "GET", name);
	snprintf(range, RANGE_BYTES, "bytes=%" PRIu64 "-%" PRIu64, off, off + len - 1);
	s3_op_header(op, "range", range);
}

/* A range beyond the end is refused with the object's size. */
static int say_short(struct s3_store *s, const struct s3_op *op, const char *name, size_t len, uint64_t off,
		     struct err *e)
{
	struct store_stat st;
	uint64_t from, to, size;

	err_clear(e);
	if (parse_range(op->call.h.content_range, &from, &to, &size))
		return store_err_short(e, size, len, off);
	if (s3_stat(&s->s, name, &st, e) < 0)
		return e->code;
	return store_err_short(e, st.size, len, off);
}

static int read_parts(struct s3_store *s, const char *name, uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	size_t n = (len + PART_BYTES - 1) / PART_BYTES;
	struct s3_op *ops = calloc(n, sizeof(*ops));
	char (*ranges)[RANGE_BYTES] = calloc(n, sizeof(*ranges));
	int r = ops && ranges ? 0 : err_set(e, ERR_NOMEM, "a read of %zu bytes", len);
	size_t i;

	for (i = 0; r == 0 && i < n; i++) {
		size_t at = i * PART_BYTES;

		part_init(&ops[i], ranges[i], name, min_size(PART_BYTES, len - at), off + at);
		ops[i].call.into = buf + at;
		ops[i].call.into_len = min_size(PART_BYTES, len - at);
	}
	if (r == 0)
		r = s3_run(s->c, ops, n, READ_PARALLEL, e);
	for (i = 0; i < n && ops && ranges; i++) {
		size_t at = i * PART_BYTES;

		if (r == 0)
			r = check_part(&ops[i], ops[i].call.into_len, off + at, e);
		else if (r == ERR_CORRUPT && ops[i].call.status == 416)
			r = say_short(s, &ops[i], name, len, off, e);
		s3_op_done(&ops[i]);
	}
	free(ops);
	free(ranges);
	return r;
}

static int s3_read(struct store *st, const char *name, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct store_stat there;

	if (len)
		return read_parts((struct s3_store *)st, name, buf, len, off, e);
	if (s3_stat(st, name, &there, e) < 0)
		return e->code;
	return off <= there.size ? 0 : store_err_short(e, there.size, len, off);
}

/* The first part came with the object's size: the rest, if there is any. */
static int get_rest(struct s3_store *s, const char *name, const struct buf *first, size_t size, uint8_t **ret,
		    struct err *e)
{
	CLEANUP(free_ptr) uint8_t *all = malloc(size + 1);	/* at most what the caller expects */

	if (!all)
		return err_set(e, ERR_NOMEM, "no memory for an object of %zu bytes", size);
	memcpy(all, first->p, first->len);
	if (read_parts(s, name, all + first->len, size - first->len, first->len, e) < 0)
		return e->code;
	all[size] = 0;
	*ret = STEAL(all);
	return 0;
}

static int too_large(struct err *e, uint64_t size, size_t max)
{
	return err_set(e, ERR_CORRUPT, "the object has %" PRIu64 " bytes, at most %zu were expected", size, max);
}

static int get_reply(struct s3_store *s, struct s3_op *op, const char *name, size_t max, uint8_t **ret, size_t *ret_len,
		     struct err *e)
{
	struct buf *b = &op->call.text;
	uint64_t from = 0, to = 0, size = b->len;

	if (op->call.status == 206 && (!parse_range(op->call.h.content_range, &from, &to, &size) || from != 0 ||
				       b->len != to + 1 || b->len > size))
		return err_set(e, ERR_CORRUPT, "the server's answer is not the beginning of the object");
	if (size > max)
		return too_large(e, size, max);
	*ret_len = (size_t)size;
	if (size > b->len)
		return get_rest(s, name, b, (size_t)size, ret, e);
	if (buf_u8(b, 0, e) < 0)
		return e->code;
	*ret = buf_take(b, &(size_t){ 0 });
	return 0;
}

/* One request for most objects: the first part, which says how much there is. */
static int s3_get(struct store *st, const char *name, size_t max, uint8_t **ret, size_t *ret_len, struct err *e)
{
	struct s3_store *s = (struct s3_store *)st;
	char range[RANGE_BYTES];
	struct store_stat there;
	struct s3_op op;
	int r;

	part_init(&op, range, name, max > PART_BYTES ? PART_BYTES : max ? max : 1, 0);
	buf_init(&op.call.text, min_size(max, PART_BYTES) + 64 * KIB);
	r = s3_run_one(s, &op, e);
	if (r == 0)
		r = get_reply(s, &op, name, max, ret, ret_len, e);
	s3_op_done(&op);
	if (r == ERR_CORRUPT && op.call.status == 416) {	/* an empty object has no first byte */
		err_clear(e);
		if (s3_stat(st, name, &there, e) < 0)
			return e->code;
		if (there.size)
			return err_set(e, ERR_CORRUPT, "the server does not give the object's first byte");
		*ret = calloc(1, 1);
		*ret_len = 0;
		return *ret ? 0 : err_set(e, ERR_NOMEM, "an empty object");
	}
	return r;
}

static int s3_remove(struct store *st, const char *name, struct err *e)
{
	struct s3_store *s = (struct s3_store *)st;
	struct store_stat there;
	struct s3_op op;
	int r;

	if (s3_stat(st, name, &there, e) < 0)	/* S3 says yes to whatever is gone already */
		return e->code;
	s3_op_init(&op, "DELETE", name);
	op.flags = S3_OP_QUIET_404;
	r = s3_run_one(s, &op, e);
	s3_op_done(&op);
	return r;
}

static void s3_close(struct store *st)
{
	struct s3_store *s = (struct s3_store *)st;

	s3_client_free(s->c);
	free(s->s.location);
	free(s);
}

static const struct store_ops s3_ops = {
	.kind = "s3",
	.close = s3_close,
	.put = s3_put,
	.read = s3_read,
	.get = s3_get,
	.list = s3_list,
	.remove = s3_remove,
	.remove_many = s3_remove_many,
	.stat = s3_stat,
};

/* Is If-None-Match honoured?  Plain servers say 412; in buckets with versions some ignore it; others have none. */
static int self_test(struct s3_store *s, bool *ret, struct err *e)
{
	char nonce[S3_NONCE_BYTES], name[64];
	int first, second;

	s3_nonce(nonce);
	snprintf(name, sizeof(name), STORE_SELF_TEST "%s", nonce);
	first = put_whole(s, name, "1", 1, true, e);
	if (first < 0)
		return err_ctx(e, "self-test of the bucket");
	second = put_whole(s, name, "2", 1, true, e);
	if (second < 0 && second != ERR_EXISTS)
		return err_ctx(e, "self-test of the bucket");
	err_clear(e);
	*ret = second == ERR_EXISTS;
	if (s3_remove(&s->s, name, e) < 0 && e->code != ERR_REFUSED)	/* who may not delete leaves a byte behind */
		return err_ctx(e, "self-test of the bucket");
	err_clear(e);
	return 0;
}

static int check_new(struct s3_store *s, struct err *e)
{
	bool empty;

	if (s3_is_empty(s, &empty, e) < 0)
		return e->code;
	if (empty)
		return 0;
	err_set(e, ERR_EXISTS, "%s is not empty", s->s.location);
	return err_hint(e, "name another prefix, or an empty bucket");
}

int store_s3_open(const char *location, bool create, const struct s3_opts *o, struct store **ret, struct err *e)
{
	struct s3_store *s = calloc(1, sizeof(*s));
	bool conditional = false;
	int r;

	if (!s)
		return err_set(e, ERR_NOMEM, "S3 store");
	s->s.ops = &s3_ops;
	r = s3_client_new(location, o, &s->c, e);
	if (r == 0) {
		s->s.location = text_printf(e, "%s", s3_client_place(s->c)->location);
		r = s->s.location ? 0 : e->code;
	}
	if (r == 0 && create)
		r = check_new(s, e);
	if (r == 0 && o->self_test)
		r = self_test(s, &conditional, e);
	if (r < 0) {
		s3_close(&s->s);
		return r;
	}
	s->s.caps = (struct store_caps){ .conditional_put = conditional, .strong_listing = true, .can_remove = true,
					 .parallel = STORE_PARALLEL };
	*ret = &s->s;
	return 0;
}
