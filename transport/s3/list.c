/* list.c - ListObjectsV2 page by page, and DeleteObjects.  What a listing says is checked before it is passed on. */
#include "transport/s3/s3_internal.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "base/vec.h"
#include "transport/s3/parse.h"
#include "transport/s3/xml.h"

#define PAGE_KEYS 1000u
#define EMPTY_PAGES_MAX 1000u	/* of what was deleted in a bucket with versions: as many come in a row, not more */
#define PAGE_MAX_BYTES ((size_t)8 << 20)
#define PAGES_MAX 1000000u		/* a thousand million objects */
#define QUERY_MAX_BYTES ((size_t)32 << 10)
#define DELETE_MAX 1000u

struct entry {
	char *key;
	struct store_stat st;
	bool has_size;
};

struct page {
	VEC(struct entry) entries;
	struct entry now;		/* being read */
	char *token;			/* of the next page; NULL = none */
	bool truncated;
};

static void page_done(struct page *p)
{
	for (size_t i = 0; i < p->entries.n; i++)
		free(p->entries.p[i].key);
	VEC_DONE(&p->entries);
	free(p->now.key);
	free(p->token);
	*p = (struct page){ 0 };
}

static int bad_listing(struct err *e, const char *what)
{
	return err_set(e, ERR_CORRUPT, "the server's listing %s", what);
}

static int take_entry(struct page *p, struct err *e)
{
	struct entry *slot;

	if (!p->now.key || !p->now.has_size)
		return bad_listing(e, "has an object without a key or a size");
	if (p->entries.n >= PAGE_KEYS)
		return bad_listing(e, "has more objects than were asked for");
	slot = VEC_PUSH(&p->entries, e);
	if (!slot)
		return e->code;
	*slot = p->now;
	p->now = (struct entry){ 0 };
	return 0;
}

static int on_object(struct page *p, const char *name, char *text, struct err *e)
{
	if (!strcmp(name, "Key")) {
		if (!s3_decode(text))
			return bad_listing(e, "has a key that is not encoded as it was asked for");
		free(p->now.key);
		p->now.key = text_printf(e, "%s", text);
		return p->now.key ? 0 : e->code;
	}
	if (!strcmp(name, "Size")) {
		if (!parse_u64(text, 0, INT64_MAX, &p->now.st.size))
			return bad_listing(e, "has an object of no size");
		p->now.has_size = true;
	}
	if (!strcmp(name, "LastModified") && !s3_time_iso(text, &p->now.st.mtime_ns))
		p->now.st.mtime_ns = 0;
	return 0;
}

static int on_listing(void *opaque, const char *parent, const char *name, char *text, struct err *e)
{
	struct page *p = opaque;

	if (!strcmp(parent, "Contents"))
		return on_object(p, name, text, e);
	if (strcmp(parent, "ListBucketResult"))
		return *parent || !strcmp(name, "ListBucketResult") ? 0 : bad_listing(e, "is none");
	if (!strcmp(name, "Contents"))
		return take_entry(p, e);
	if (!strcmp(name, "IsTruncated"))
		p->truncated = !strcmp(text, "true");
	if (!strcmp(name, "NextContinuationToken") && *text) {
		free(p->token);
		p->token = text_printf(e, "%s", text);
		return p->token ? 0 : e->code;
	}
	return 0;
}

/* Pairs in the order in which they are signed. */
static int list_query(struct s3_store *s, const char *prefix, const char *token, struct buf *q,
		      struct err *e)
{
	char tail[64];
	int r = 0;

	if (token) {
		r = buf_add(q, "continuation-token=", 19, e);
		if (r == 0)
			r = s3_encode(q, token, false, e);
		if (r == 0)
			r = buf_add(q, "&", 1, e);
	}
	snprintf(tail, sizeof(tail), "encoding-type=url&list-type=2&max-keys=%u&prefix=", PAGE_KEYS);
	if (r == 0)
		r = buf_add(q, tail, strlen(tail), e);
	if (r == 0)
		r = s3_encode(q, s3_client_place(s->c)->prefix, false, e);
	if (r == 0)
		r = s3_encode(q, prefix, false, e);
	return r == 0 ? buf_u8(q, 0, e) : r;
}

static int get_page(struct s3_store *s, const char *prefix, const char *token, struct page *ret,
		    struct err *e)
{
	struct s3_op op;
	struct buf q;
	int r;

	buf_init(&q, QUERY_MAX_BYTES);
	s3_op_init(&op, "GET", NULL);
	buf_init(&op.call.text, PAGE_MAX_BYTES);
	r = list_query(s, prefix, token, &q, e);
	op.query = (char *)q.p;
	if (r == 0)
		r = s3_run_one(s, &op, e);
	if (r == 0)
		r = s3_xml_parse(op.call.text.p, op.call.text.len, on_listing, ret, e);
	if (r == 0 && ret->truncated && !ret->token)
		r = bad_listing(e, "goes on, but does not say where");
	s3_op_done(&op);
	buf_done(&q);
	return r;
}

/* Keys rise from page to page and within one: a server that shows a page again, or one of yesterday, is found out. */
static int check_order(const struct page *p, const char *before, struct err *e)
{
	for (size_t i = 0; i < p->entries.n; i++) {
		if (before && strcmp(before, p->entries.p[i].key) >= 0)
			return bad_listing(e, "is not in order, or shows an object twice");
		before = p->entries.p[i].key;
	}
	return 0;
}

static int tell(const struct page *p, size_t skip, store_list_fn fn, void *opaque, struct err *e)
{
	for (size_t i = 0; i < p->entries.n; i++) {
		const struct entry *n = &p->entries.p[i];
		int r;

		if (strlen(n->key) <= skip)
			continue;	/* the prefix itself, which some programs make an object of */
		r = fn(opaque, n->key + skip, &n->st, e);
		if (r != 0)
			return r;
	}
	return 0;
}

static int list_pages(struct s3_store *s, const char *prefix, store_list_fn fn, void *opaque, struct page *last,
		      struct err *e)
{
	const char *base = s3_client_place(s->c)->prefix;
	size_t skip = strlen(base);
	unsigned empty = 0;

	for (unsigned n = 0; n < PAGES_MAX; n++) {
		struct page p = { 0 };
		const char *before = last->entries.n ? last->entries.p[last->entries.n - 1].key : NULL;
		int r = get_page(s, prefix, last->token, &p, e);

		for (size_t i = 0; r == 0 && i < p.entries.n; i++) {
			if (strncmp(p.entries.p[i].key, base, skip))
				r = bad_listing(e, "has keys that were not asked for");
		}
		if (r == 0)
			r = check_order(&p, before, e);
		if (r == 0 && p.truncated && last->token && !strcmp(p.token, last->token))
			r = bad_listing(e, "does not go on");
		if (r == 0 && p.truncated && !p.entries.n && ++empty > EMPTY_PAGES_MAX)
			r = bad_listing(e, "has no end");
		if (r == ERR_CORRUPT)
			r = e->code = ERR_REFUSED;	/* says nothing about any object */
		if (r == 0)
			r = tell(&p, skip, fn, opaque, e);
		if (r != 0 || !p.truncated) {
			page_done(&p);
			return r;
		}
		if (p.entries.n) {
			page_done(last);
			*last = p;
		} else {	/* an empty page in the middle: what came before it still bounds what follows */
			free(last->token);
			last->token = STEAL(p.token);
			page_done(&p);
		}
	}
	(void)bad_listing(e, "has no end");
	return e->code = ERR_REFUSED;
}

int s3_list(struct store *st, const char *prefix, store_list_fn fn, void *opaque, struct err *e)
{
	struct page last = { 0 };
	int r = list_pages((struct s3_store *)st, prefix, fn, opaque, &last, e);

	page_done(&last);
	return r;
}

static int any(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	(void)opaque, (void)name, (void)st, (void)e;
	return 1;
}

int s3_is_empty(struct s3_store *s, bool *ret, struct err *e)
{
	int r = s3_list((struct store *)s, "", any, NULL, e);

	if (r >= 0)
		*ret = r == 0;
	return r < 0 ? r : 0;
}

/* --- DeleteObjects ----------------------------------------------------------------------------------------------- */

struct deletion {
	char key[256];
};

static int on_deletion(void *opaque, const char *parent, const char *name, char *text, struct err *e)
{
	struct deletion *d = opaque;

	if (!*parent && strcmp(name, "DeleteResult"))
		return err_set(e, ERR_REFUSED, "the server does not say what it has removed");
	if (strcmp(parent, "Error"))
		return 0;
	if (!strcmp(name, "Key"))
		snprintf(d->key, sizeof(d->key), "%.255s", text);
	if (!strcmp(name, "Code")) {
		char shown[64];

		if (!strcmp(text, "NoSuchKey"))
			return 0;
		return err_set(e, strcmp(text, "AccessDenied") ? ERR_TRANSIENT : ERR_REFUSED,
			       "the server does not remove %s: %s", d->key[0] ? d->key : "an object",
			       text_quote(text, shown, sizeof(shown)));
	}
	return 0;
}

static int delete_text(struct s3_store *s, const char *const *names, size_t n, struct buf *b, struct err *e)
{
	static const char head[] = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>";
	const char *base = s3_client_place(s->c)->prefix;
	int r = buf_add(b, head, sizeof(head) - 1, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		CLEANUP(free_ptr) char *key = text_printf(e, "%s%s", base, names[i]);

		r = key ? buf_add(b, "<Object><Key>", 13, e) : e->code;
		for (const char *k = key; r == 0 && *k; k++) {
			const char *as = *k == '&' ? "&amp;" : *k == '<' ? "&lt;" : *k == '>' ? "&gt;" : NULL;

			r = as ? buf_add(b, as, strlen(as), e) : buf_add(b, k, 1, e);
		}
		if (r == 0)
			r = buf_add(b, "</Key></Object>", 15, e);
	}
	return r == 0 ? buf_add(b, "</Delete>", 9, e) : r;
}

/* Swift and older AWS insist on it for this one request. */
static int md5_base64(const struct buf *b, char ret[static 32], struct err *e)
{
	uint8_t md[16];

	if (EVP_Digest(b->p, b->len, md, NULL, EVP_md5(), NULL) != 1)
		return err_set(e, ERR_UNSUPPORTED, "libcrypto has no MD5 here, which deleting several objects needs");
	sodium_bin2base64(ret, 32, md, sizeof(md), sodium_base64_VARIANT_ORIGINAL);
	return 0;
}

static int delete_some(struct s3_store *s, const char *const *names, size_t n, struct err *e)
{
	struct deletion d = { 0 };
	struct s3_op op;
	struct buf text;
	char md5[32];
	int r;

	buf_init(&text, DELETE_MAX * 1500u);
	s3_op_init(&op, "POST", NULL);
	buf_init(&op.call.text, (size_t)4 << 20);	/* a thousand refusals, each with its key and a reason */
	op.query = "delete=";
	r = delete_text(s, names, n, &text, e);
	if (r == 0)
		r = md5_base64(&text, md5, e);
	op.call.body = text.p;
	op.call.body_len = text.len;
	s3_op_header(&op, "content-md5", md5);
	s3_op_header(&op, "content-type", "application/xml");
	if (r == 0)
		r = s3_run_one(s, &op, e);
	if (r == 0)
		r = s3_xml_parse(op.call.text.p, op.call.text.len, on_deletion, &d, e);
	if (r == ERR_CORRUPT)
		r = e->code = ERR_REFUSED;
	s3_op_done(&op);
	buf_done(&text);
	return r;
}

int s3_remove_many(struct store *st, const char *const *names, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i += DELETE_MAX) {
		if (delete_some((struct s3_store *)st, names + i, min_size(n - i, DELETE_MAX), e) < 0)
			return e->code;
	}
	return 0;
}
