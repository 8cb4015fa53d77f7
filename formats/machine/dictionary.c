/*
 * dictionary.c - VMware's text files: one KEY = "VALUE" a line.
 *
 *	#comment, blank lines, a "#!" line
 *	scsi0:0.fileName = "a disk.vmdk"	keys in any case
 *	displayName = "say |22hi|22"		|XX is a byte that can't stand there, in hex
 *	.encoding = "windows-1252"		of all values
 *
 * A value is also taken without quotes, as VMware does.  A key that is there twice is an error for VMware, too.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "formats/machine/machine_internal.h"
#include "formats/vmdk/vmdk.h"

#define ENTRIES_MAX 200000u
#define KEY_MAX 200u

void dictionary_done(struct dictionary *d)
{
	for (size_t i = 0; i < d->entries.n; i++) {
		free(d->entries.p[i].key);
		free(d->entries.p[i].spelled);
		free(d->entries.p[i].value);
	}
	VEC_DONE(&d->entries);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void trim(const char **p, size_t *len)
{
	while (*len && is_blank(**p))
		(*p)++, (*len)--;
	while (*len && is_blank((*p)[*len - 1]))
		(*len)--;
}

/* The value with its |XX undone; quotes are off already. */
static char *unescape(const char *p, size_t len, struct err *e)
{
	char *s = malloc(len + 1);
	size_t n = 0;

	if (!s) {
		(void)err_set(e, ERR_NOMEM, "no memory for a value");
		return NULL;
	}
	for (size_t i = 0; i < len; i++) {
		char hex[3] = "", byte;

		if (p[i] == '|' && len - i >= 3) {
			hex[0] = p[i + 1];
			hex[1] = p[i + 2];
		}
		if (hex[0] && text_unhex(hex, &byte, 1) && byte) {
			s[n++] = byte;
			i += 2;
		} else {
			s[n++] = p[i];
		}
	}
	s[n] = '\0';
	return s;
}

/* A line without its end. */
static int add_line(struct dictionary *d, const char *p, size_t len, uint32_t line, struct err *e)
{
	const char *equals, *value;
	size_t key_len, value_len;
	struct dictionary_entry *x;

	trim(&p, &len);
	if (!len || *p == '#')
		return 0;
	equals = memchr(p, '=', len);
	if (!equals || memchr(p, 0, len))
		return err_set(e, ERR_CORRUPT, "line %" PRIu32 ": not KEY = \"VALUE\"", line);
	value = equals + 1;
	value_len = len - (size_t)(value - p);
	key_len = (size_t)(equals - p);
	trim(&p, &key_len);
	trim(&value, &value_len);
	if (value_len && *value == '"') {
		const char *end = memchr(value + 1, '"', value_len - 1);

		if (!end)
			return err_set(e, ERR_CORRUPT, "line %" PRIu32 ": the value has no closing quote", line);
		value++;
		value_len = (size_t)(end - value);
	}
	if (!key_len || key_len > KEY_MAX || d->entries.n == ENTRIES_MAX)
		return err_set(e, ERR_CORRUPT, "line %" PRIu32 ": %s", line,
			       d->entries.n == ENTRIES_MAX ? "too many lines" : "a key of that length is none");
	x = VEC_PUSH(&d->entries, e);
	if (!x)
		return e->code;
	x->line = line;
	x->value = unescape(value, value_len, e);
	if (!x->value || machine_text_n(&x->key, p, key_len, e) < 0 || machine_text(&x->spelled, x->key, e) < 0)
		return e->code;
	for (char *c = x->key; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct dictionary_entry *x = a, *y = b;
	int r = strcmp(x->key, y->key);

	return r ? r : x->line < y->line ? -1 : x->line > y->line;
}

static int key_is(const void *key, const void *entry)
{
	return strcmp(key, ((const struct dictionary_entry *)entry)->key);
}

const char *dictionary_get(const struct dictionary *d, const char *key)
{
	const struct dictionary_entry *x =
		d->entries.n ? bsearch(key, d->entries.p, d->entries.n, sizeof(*d->entries.p), key_is) : NULL;

	return x ? x->value : NULL;
}

const char *dictionary_getf(const struct dictionary *d, const char *fmt, ...)
{
	char key[KEY_MAX + 1];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(key, sizeof(key), fmt, ap);
	va_end(ap);
	return n > 0 && (size_t)n < sizeof(key) ? dictionary_get(d, key) : NULL;
}

static int check_keys(const struct dictionary *d, struct err *e)
{
	char q[100];

	for (size_t i = 1; i < d->entries.n; i++)
		if (!strcmp(d->entries.p[i - 1].key, d->entries.p[i].key))
			return err_set(e, ERR_CORRUPT, "lines %" PRIu32 " and %" PRIu32 ": \"%s\" is there twice",
				       d->entries.p[i - 1].line, d->entries.p[i].line,
				       text_quote(d->entries.p[i].key, q, sizeof(q)));
	return 0;
}

/* All values as UTF-8. */
static int decode(struct dictionary *d, struct err *e)
{
	CLEANUP(free_ptr) char *encoding = NULL;

	if (machine_text(&encoding, dictionary_get(d, ".encoding"), e) < 0)
		return e->code;
	for (size_t i = 0; encoding && i < d->entries.n; i++) {
		struct dictionary_entry *x = &d->entries.p[i];
		char *text;

		if (vmdk_to_utf8(encoding, x->value, strlen(x->value), &text, e) < 0)
			return err_ctx(e, "line %" PRIu32, x->line);
		free(x->value);
		x->value = text;
	}
	return 0;
}

int dictionary_parse(const void *text, size_t len, struct dictionary *ret, struct err *e)
{
	struct dictionary d = { 0 };
	const char *p = text, *end = p + len;
	uint32_t line = 0;
	int r = 0;

	if (len >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3;
	while (r == 0 && p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((eol ? eol : end) - p);

		r = add_line(&d, p, n, ++line, e);
		p += eol ? n + 1 : n;
	}
	if (r == 0 && d.entries.n)
		qsort(d.entries.p, d.entries.n, sizeof(*d.entries.p), by_key);
	if (r == 0)
		r = check_keys(&d, e);
	if (r == 0)
		r = decode(&d, e);
	if (r < 0) {
		dictionary_done(&d);
		return r;
	}
	*ret = d;
	return 0;
}
