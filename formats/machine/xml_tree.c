/*
 * xml_tree.c - XML in memory.
 */
#include "formats/machine/xml_tree.h"

#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "formats/machine/machine_internal.h"

static void no_memory(struct err *e)
{
	(void)err_set(e, ERR_NOMEM, "no memory for a machine's description");
}

static struct xml_node *make(const char *name, struct err *e)
{
	struct xml_node *n = calloc(1, sizeof(*n));

	if (n && (n->name = strdup(name)))
		return n;
	free(n);
	no_memory(e);
	return NULL;
}

void xml_free(struct xml_node *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->children.n; i++)
		xml_free(n->children.p[i]);
	for (size_t i = 0; i < n->attributes.n; i++) {
		free(n->attributes.p[i].name);
		free(n->attributes.p[i].value);
	}
	VEC_DONE(&n->children);
	VEC_DONE(&n->attributes);
	free(n->name);
	free(n->text);
	free(n);
}

/* --- looking ------------------------------------------------------------------------------------------------------- */

/* Is `full`, perhaps with a prefix, the name of len bytes? */
static bool fits(const char *full, const char *name, size_t len)
{
	const char *colon = memchr(name, ':', len) ? NULL : strchr(full, ':');

	if (strlen(full) == len && !memcmp(full, name, len))
		return true;
	return colon && strlen(colon + 1) == len && !memcmp(colon + 1, name, len);
}

bool xml_named(const struct xml_node *n, const char *name)
{
	return n && fits(n->name, name, strlen(name));
}

static struct xml_node *child(const struct xml_node *n, const char *name, size_t len)
{
	for (size_t i = 0; i < n->children.n; i++)
		if (fits(n->children.p[i]->name, name, len))
			return n->children.p[i];
	return NULL;
}

struct xml_node *xml_find(const struct xml_node *n, const char *path)
{
	struct xml_node *at = NULL;

	while (n && *path) {
		size_t len = strcspn(path, "/");

		n = at = child(n, path, len);
		path += len + (path[len] == '/');
	}
	return at;
}

struct xml_node *xml_next(const struct xml_node *n, size_t *at, const char *name)
{
	while (n && *at < n->children.n) {
		struct xml_node *x = n->children.p[(*at)++];

		if (!name || xml_named(x, name))
			return x;
	}
	return NULL;
}

static struct xml_pair *attribute(const struct xml_node *n, const char *name)
{
	for (size_t i = 0; i < n->attributes.n; i++)
		if (fits(n->attributes.p[i].name, name, strlen(name)))
			return &n->attributes.p[i];
	return NULL;
}

const char *xml_get(const struct xml_node *n, const char *name)
{
	const struct xml_pair *p = n ? attribute(n, name) : NULL;

	return p ? p->value : NULL;
}

bool xml_is(const struct xml_node *n, const char *name, const char *value)
{
	const char *s = xml_get(n, name);

	return s && !strcmp(s, value);
}

const char *xml_text(const struct xml_node *n, char *buf, size_t len)
{
	const char *s = n ? n->text : NULL;
	size_t k;

	if (!s)
		return NULL;
	s += strspn(s, " \t\r\n");
	k = strlen(s);
	while (k && strchr(" \t\r\n", s[k - 1]))
		k--;
	if (!k)
		return NULL;
	(void)snprintf(buf, len, "%.*s", (int)k, s);
	return buf;
}

/* --- changing ------------------------------------------------------------------------------------------------------ */

struct xml_node *xml_new(const char *name, struct err *e)
{
	return e->code ? NULL : make(name, e);
}

struct xml_node *xml_add(struct xml_node *parent, const char *name, struct err *e)
{
	struct xml_node *n, **slot;

	if (!parent || e->code)
		return NULL;
	n = make(name, e);
	slot = n ? VEC_PUSH(&parent->children, e) : NULL;
	if (!slot) {
		xml_free(n);
		return NULL;
	}
	n->parent = parent;
	return *slot = n;
}

struct xml_node *xml_set_text(struct xml_node *n, const char *text, struct err *e)
{
	char *copy;

	if (!n || e->code)
		return NULL;
	copy = strdup(text);
	if (!copy) {
		no_memory(e);
		return NULL;
	}
	free(n->text);
	n->text = copy;
	return n;
}

struct xml_node *xml_add_text(struct xml_node *parent, const char *name, const char *text, struct err *e)
{
	return xml_set_text(xml_add(parent, name, e), text, e);
}

struct xml_node *xml_need(struct xml_node *parent, const char *name, struct err *e)
{
	struct xml_node *n = parent ? xml_find(parent, name) : NULL;

	return n ? n : xml_add(parent, name, e);
}

struct xml_node *xml_set(struct xml_node *n, const char *name, const char *value, struct err *e)
{
	struct xml_pair *p, x = { 0 };

	if (!n || e->code)
		return NULL;
	p = attribute(n, name);
	if (!value) {
		if (p) {
			free(p->name);
			free(p->value);
			memmove(p, p + 1, (size_t)(n->attributes.p + n->attributes.n - (p + 1)) * sizeof(*p));
			n->attributes.n--;
		}
		return n;
	}
	x.value = strdup(value);
	if (p && x.value) {
		free(p->value);
		p->value = x.value;
		return n;
	}
	x.name = strdup(name);
	p = x.name && x.value ? VEC_PUSH(&n->attributes, e) : NULL;
	if (!p) {
		free(x.name);
		free(x.value);
		no_memory(e);
		return NULL;
	}
	*p = x;
	return n;
}

static char *format(struct err *e, const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) >= 0)
		return s;
	no_memory(e);
	return NULL;
}

struct xml_node *xml_setf(struct xml_node *n, struct err *e, const char *name, const char *fmt, ...)
{
	CLEANUP(free_ptr) char *s = NULL;
	va_list ap;

	if (!n || e->code)
		return NULL;
	va_start(ap, fmt);
	s = format(e, fmt, ap);
	va_end(ap);
	return s ? xml_set(n, name, s, e) : NULL;
}

struct xml_node *xml_set_textf(struct xml_node *n, struct err *e, const char *fmt, ...)
{
	CLEANUP(free_ptr) char *s = NULL;
	va_list ap;

	if (!n || e->code)
		return NULL;
	va_start(ap, fmt);
	s = format(e, fmt, ap);
	va_end(ap);
	return s ? xml_set_text(n, s, e) : NULL;
}

void xml_remove(struct xml_node *n)
{
	struct xml_node *p = n ? n->parent : NULL;

	for (size_t i = 0; p && i < p->children.n; i++)
		if (p->children.p[i] == n) {
			memmove(&p->children.p[i], &p->children.p[i + 1], (p->children.n - i - 1) * sizeof(n));
			p->children.n--;
			break;
		}
	xml_free(n);
}

void xml_remove_all(struct xml_node *n, const char *name)
{
	size_t kept = 0;

	for (size_t i = 0; n && i < n->children.n; i++)
		if (xml_named(n->children.p[i], name))
			xml_free(n->children.p[i]);
		else
			n->children.p[kept++] = n->children.p[i];
	if (n)
		n->children.n = kept;
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

struct reading {
	struct xml_node *root, *now;
};

static int on_start(void *opaque, unsigned depth, const char *name, const char *const *a, struct err *e)
{
	struct reading *r = opaque;

	if (depth == 1)
		r->now = r->root = make(name, e);
	else
		r->now = xml_add(r->now, name, e);
	for (; r->now && a[0]; a += 2) {	/* pushed, not set: nothing is there twice, and many stay cheap */
		struct xml_pair *p = VEC_PUSH(&r->now->attributes, e);

		if (!p)
			break;
		if (machine_text(&p->name, a[0], e) < 0 || machine_text(&p->value, a[1], e) < 0) {
			free(p->name);
			r->now->attributes.n--;
			break;
		}
	}
	return e->code;
}

static int on_end(void *opaque, unsigned depth, const char *name, const char *text, struct err *e)
{
	struct reading *r = opaque;
	struct xml_node *n = r->now;

	(void)depth, (void)name;
	r->now = n->parent;
	return *text && !n->children.n && !xml_set_text(n, text, e) ? e->code : 0;
}

int xml_tree_parse(const void *text, size_t len, struct xml_node **ret, struct err *e)
{
	static const struct xml_ops ops = { on_start, on_end };
	struct reading r = { 0 };

	if (xml_parse(text, len, &ops, &r, e) < 0) {
		xml_free(r.root);
		return e->code;
	}
	*ret = r.root;
	return 0;
}

/* --- writing ------------------------------------------------------------------------------------------------------- */

static int put(struct buf *b, const char *s, struct err *e)
{
	return buf_add(b, s, strlen(s), e);
}

static const char *reference(char c, bool quoted)
{
	switch (c) {
	case '&': return "&amp;";
	case '<': return "&lt;";
	case '>': return "&gt;";
	case '"': return quoted ? "&quot;" : NULL;
	case '\r': return "&#13;";
	case '\n': return quoted ? "&#10;" : NULL;
	case '\t': return quoted ? "&#9;" : NULL;
	default: return NULL;
	}
}

/* Bytes that need no reference, as far as XML can hold them. */
static int put_run(struct buf *b, const char *s, size_t len, struct err *e)
{
	CLEANUP(free_ptr) char *run = len ? strndup(s, len) : NULL;
	CLEANUP(free_ptr) char *clean = run ? malloc(4 * len + 1) : NULL;

	if (!len)
		return 0;
	if (!clean) {
		no_memory(e);
		return e->code;
	}
	return put(b, text_quote(run, clean, 4 * len + 1), e);
}

static int put_text(struct buf *b, const char *s, bool quoted, struct err *e)
{
	const char *from = s;

	for (; *s; s++) {
		char plain[2] = { *s, '\0' };
		const char *r = reference(*s, quoted);

		if (!r && *s != '\n' && *s != '\t' && *s != '\\')
			continue;
		if (put_run(b, from, (size_t)(s - from), e) < 0 || put(b, r ? r : plain, e) < 0)
			return e->code;
		from = s + 1;
	}
	return put_run(b, from, (size_t)(s - from), e);
}

static int put_indent(struct buf *b, unsigned depth, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < depth; i++)
		r = put(b, "  ", e);
	return r;
}

static int put_open(const struct xml_node *n, struct buf *b, struct err *e)
{
	if (put(b, "<", e) < 0 || put(b, n->name, e) < 0)
		return e->code;
	for (size_t i = 0; i < n->attributes.n; i++)
		if (put(b, " ", e) < 0 || put(b, n->attributes.p[i].name, e) < 0 || put(b, "=\"", e) < 0 ||
		    put_text(b, n->attributes.p[i].value, true, e) < 0 || put(b, "\"", e) < 0)
			return e->code;
	return 0;
}

static int put_node(const struct xml_node *n, unsigned depth, struct buf *b, struct err *e)
{
	bool text = n->text && *n->text && !n->children.n;

	if (put_indent(b, depth, e) < 0 || put_open(n, b, e) < 0)
		return e->code;
	if (!text && !n->children.n)
		return put(b, "/>\n", e);
	if (put(b, text ? ">" : ">\n", e) < 0 || (text && put_text(b, n->text, false, e) < 0))
		return e->code;
	for (size_t i = 0; i < n->children.n; i++)
		if (put_node(n->children.p[i], depth + 1, b, e) < 0)
			return e->code;
	if (!text && put_indent(b, depth, e) < 0)
		return e->code;
	return put(b, "</", e) < 0 || put(b, n->name, e) < 0 || put(b, ">\n", e) < 0 ? e->code : 0;
}

int xml_write(const struct xml_node *root, struct buf *b, struct err *e)
{
	return put(b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", e) < 0 ? e->code : put_node(root, 0, b, e);
}
