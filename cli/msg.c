/* msg.c - what people and programs are told. */
#include "cli/msg.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/bar.h"

#define TEXT_BYTES (ERR_CTX_BYTES + ERR_CAUSE_BYTES + 8)
#define SHOWN_BYTES (2 * TEXT_BYTES)

/* Control characters as \xNN: error texts quote names already (text_quote), what slipped through stays off the
 * terminal. */
static void tame(const char *text, char *buf, size_t len)
{
	size_t n = 0;

	for (; *text && n + 5 <= len; text++) {
		uint8_t b = (uint8_t)*text;

		if (b < 0x20 || b == 0x7f)
			n += (size_t)snprintf(buf + n, 5, "\\x%02x", b);
		else
			buf[n++] = (char)b;
	}
	buf[n] = '\0';
}

static void print_line(const struct cli *c, const char *before, const char *text)
{
	char shown[SHOWN_BYTES];

	tame(text, shown, sizeof(shown));
	bar_hide(c->bar);
	fflush(stdout);
	fprintf(stderr, "%s%s\n", before, shown);
	bar_show(c->bar);
}

static int set_text(json_t *obj, const char *key, const char *text)
{
	return text[0] ? json_object_set_new(obj, key, msg_json_text(text)) : 0;
}

static bool error_as_json(const struct err *e, int exit_code)
{
	json_t *obj = json_object(), *outer;
	char text[TEXT_BYTES];
	int bad = 0;

	err_text(e, text, sizeof(text));
	bad |= json_object_set_new(obj, "code", json_string(err_code_name(e->code)));
	bad |= json_object_set_new(obj, "exit", json_integer(exit_code));
	bad |= set_text(obj, "message", text);
	bad |= set_text(obj, "context", e->ctx);
	bad |= set_text(obj, "cause", e->cause);
	bad |= set_text(obj, "hint", e->hint);
	if (e->os_errno)
		bad |= json_object_set_new(obj, "errno", json_integer(e->os_errno));
	outer = json_object();
	bad |= json_object_set_new(outer, "error", obj);
	if (!bad)
		bad = json_dumpf(outer, stdout, JSON_COMPACT) || putchar('\n') == EOF || fflush(stdout) == EOF;
	json_decref(outer);
	return !bad;
}

void msg_error(const struct cli *c, const struct err *e, int exit_code)
{
	char text[TEXT_BYTES];

	if (c->g.json && error_as_json(e, exit_code))
		return;
	print_line(c, "kedge: error: ", err_text(e, text, sizeof(text)));
	if (e->hint[0])
		print_line(c, "  hint: ", e->hint);
}

void msg_warn(const struct cli *c, const char *fmt, ...)
{
	char text[TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	print_line(c, "kedge: warning: ", text);
}

void msg_note(const struct cli *c, const char *fmt, ...)
{
	char text[TEXT_BYTES];
	va_list ap;

	if (c->g.quiet || c->g.json)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	print_line(c, "", text);
}

const char *msg_size(const struct cli *c, uint64_t v, char buf[static MSG_SIZE_BYTES])
{
	if (!c->g.bytes)
		return human_bytes(v, buf);
	snprintf(buf, MSG_SIZE_BYTES, "%" PRIu64, v);
	return buf;
}

const char *msg_plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

void msg_json_set(json_t **o, const char *key, json_t *v)
{
	if (!*o) {
		json_decref(v);
	} else if (!v || json_object_set_new(*o, key, v) < 0) {
		json_decref(*o);
		*o = NULL;
	}
}

void msg_json_push(json_t **a, json_t *v)
{
	if (!*a) {
		json_decref(v);
	} else if (!v || json_array_append_new(*a, v) < 0) {
		json_decref(*a);
		*a = NULL;
	}
}

int msg_json(json_t *json, struct err *e)
{
	int bad;

	if (!json)
		return err_set(e, ERR_NOMEM, "no memory for the JSON result");
	errno = 0;
	bad = json_dumpf(json, stdout, JSON_INDENT(2)) || putchar('\n') == EOF;
	json_decref(json);
	return bad ? err_sys(e, "standard output") : 0;
}

json_t *msg_json_text(const char *text)
{
	struct err e = ERR_INIT;	/* NULL says it all */
	CLEANUP(free_ptr) char *escaped = NULL;

	if (!text)
		return json_null();
	escaped = text_escape(text, strlen(text), &e);
	return escaped ? json_string(escaped) : NULL;
}

json_t *msg_json_u64(uint64_t v)
{
	return json_integer((json_int_t)min_u64(v, INT64_MAX));
}

int msg_flush(struct err *e)
{
	errno = 0;
	if (fflush(stdout) == EOF || ferror(stdout))
		return err_sys(e, "standard output");
	return 0;
}
