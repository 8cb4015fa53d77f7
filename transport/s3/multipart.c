/*
 * multipart.c - a large object in parts, several at a time.  It appears when the upload is completed, whole; an upload
 * that fails is aborted.  What a crash leaves is not listed as an object: a lifecycle rule clears it away (docs/s3.md).
 */
#include "transport/s3/s3_internal.h"

#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "transport/s3/xml.h"

#define PART_BYTES ((size_t)16 << 20)	/* at least 5 MiB, at most 10,000 of them */
#define PARTS_PARALLEL 4u
#define UPLOAD_ID_MAX 1024
#define QUERY_BYTES (3 * UPLOAD_ID_MAX + 64)

static int on_initiated(void *opaque, const char *parent, const char *name, char *text, struct err *e)
{
	char *id = opaque;

	if (strcmp(parent, "InitiateMultipartUploadResult") || strcmp(name, "UploadId"))
		return 0;
	if (!*text || strlen(text) >= UPLOAD_ID_MAX)
		return err_set(e, ERR_CORRUPT, "the server's upload id is none");
	memcpy(id, text, strlen(text) + 1);
	return 0;
}

static int initiate(struct s3_store *s, const char *name, const char *nonce, char id[static UPLOAD_ID_MAX],
		    struct err *e)
{
	struct s3_op op;
	int r;

	id[0] = '\0';
	s3_op_init(&op, "POST", name);
	op.query = "uploads=";
	s3_op_header(&op, "content-type", "application/octet-stream");
	s3_op_header(&op, S3_NONCE_HEADER, nonce);
	r = s3_run_one(s, &op, e);
	if (r == 0)
		r = s3_xml_parse(op.call.text.p, op.call.text.len, on_initiated, id, e);
	if (r == 0 && !id[0])
		r = err_set(e, ERR_CORRUPT, "the server begins an upload without an id");
	s3_op_done(&op);
	return r;
}

/* "partNumber=1&uploadId=ID", or without a number. */
static int upload_query(const char *id, size_t number, char ret[static QUERY_BYTES], struct err *e)
{
	char head[48] = "uploadId=";
	struct buf b;
	int r;

	if (number)
		snprintf(head, sizeof(head), "partNumber=%zu&uploadId=", number);
	buf_init(&b, QUERY_BYTES);
	r = buf_add(&b, head, strlen(head), e);
	if (r == 0)
		r = s3_encode(&b, id, false, e);
	if (r == 0)
		r = buf_u8(&b, 0, e);
	if (r == 0)
		memcpy(ret, b.p, b.len);
	buf_done(&b);
	return r;
}

static void abort_upload(struct s3_store *s, const char *name, const char *id)
{
	struct err unheard = ERR_INIT;	/* what is left costs space; the error that brought us here is told */
	char query[QUERY_BYTES];
	struct s3_op op;

	if (upload_query(id, 0, query, &unheard) < 0)
		return;
	s3_op_init(&op, "DELETE", name);
	op.query = query;
	op.flags = S3_OP_QUIET_404;
	(void)!s3_run_one(s, &op, &unheard);
	s3_op_done(&op);
}

struct parts {
	struct s3_op *ops;
	char (*queries)[QUERY_BYTES];
	size_t n;
};

static void parts_done(struct parts *p)
{
	for (size_t i = 0; p->ops && i < p->n; i++)
		s3_op_done(&p->ops[i]);
	free(p->ops);
	free(p->queries);
}

static int send_parts(struct s3_store *s, const char *name, const char *id, const uint8_t *buf, size_t len,
		      struct parts *p, struct err *e)
{
	p->n = (len + PART_BYTES - 1) / PART_BYTES;
	p->ops = calloc(p->n, sizeof(*p->ops));
	p->queries = calloc(p->n, sizeof(*p->queries));
	if (!p->ops || !p->queries)
		return err_set(e, ERR_NOMEM, "an upload in %zu parts", p->n);
	for (size_t i = 0; i < p->n; i++) {
		struct s3_op *op = &p->ops[i];

		if (upload_query(id, i + 1, p->queries[i], e) < 0)
			return e->code;
		s3_op_init(op, "PUT", name);
		op->query = p->queries[i];
		op->call.body = buf + i * PART_BYTES;
		op->call.body_len = min_size(PART_BYTES, len - i * PART_BYTES);
	}
	return s3_run(s->c, p->ops, p->n, PARTS_PARALLEL, e);
}

static int complete_text(const struct parts *p, struct buf *b, struct err *e)
{
	char line[256];
	int r = buf_add(b, "<CompleteMultipartUpload>", 25, e);

	for (size_t i = 0; r == 0 && i < p->n; i++) {
		const char *tag = p->ops[i].call.h.etag;

		if (!*tag || strpbrk(tag, "<>&"))
			return err_set(e, ERR_CORRUPT, "the server acknowledges a part without an ETag");
		snprintf(line, sizeof(line), "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag></Part>", i + 1, tag);
		r = buf_add(b, line, strlen(line), e);
	}
	return r == 0 ? buf_add(b, "</CompleteMultipartUpload>", 26, e) : r;
}

/* Begun with 200 and then failed: S3 keeps the connection alive while it assembles. */
static int check_completed(const struct s3_op *op, struct err *e)
{
	struct s3_xml_error x;

	s3_xml_error(op->call.text.p, op->call.text.len, &x);
	if (!x.code[0])
		return 0;
	return err_set(e, ERR_TRANSIENT, "the server does not complete the upload: %s", x.code);
}

static int complete(struct s3_store *s, const char *name, const char *id, const struct parts *p, const char *nonce,
		    struct err *e)
{
	char query[QUERY_BYTES];
	struct s3_op op;
	struct buf text;
	int r;

	buf_init(&text, MIB);
	s3_op_init(&op, "POST", name);
	r = upload_query(id, 0, query, e);
	if (r == 0)
		r = complete_text(p, &text, e);
	op.query = query;
	op.call.body = text.p;
	op.call.body_len = text.len;
	s3_op_header(&op, "content-type", "application/xml");
	if (r == 0)
		r = s3_run_one(s, &op, e);
	if (r == 0)
		r = check_completed(&op, e);
	/* an attempt whose reply was lost has completed it: there is no such upload any more, but the object */
	if (r == ERR_NOTFOUND && s3_is_ours(s, name, nonce)) {
		err_clear(e);
		r = 0;
	}
	s3_op_done(&op);
	buf_done(&text);
	return r;
}

int s3_put_parts(struct s3_store *s, const char *name, const void *buf, size_t len, struct err *e)
{
	char id[UPLOAD_ID_MAX], nonce[S3_NONCE_BYTES];
	struct parts p = { 0 };
	int r;

	s3_nonce(nonce);
	if (initiate(s, name, nonce, id, e) < 0)
		return e->code;
	r = send_parts(s, name, id, buf, len, &p, e);
	if (r == 0)
		r = complete(s, name, id, &p, nonce, e);
	if (r == ERR_NOTFOUND)	/* somebody ended the upload: the object is neither there nor known to be absent */
		r = err_set(e, ERR_TRANSIENT, "the server does not know the upload any more");
	if (r < 0)
		abort_upload(s, name, id);
	parts_done(&p);
	return r;
}
