/* err.c - errors by value: code, cause, context and hint in fixed buffers. */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Marks text that did not fit, so that nobody takes the rest for the whole. */
static void mark_cut(char *buf, size_t size, int need)
{
	if (need >= 0 && (size_t)need >= size)
		memcpy(buf + size - 4, "...", 4);
}

static void set_cause(struct err *e, int code, const char *fmt, va_list ap)
{
	char cause[ERR_CAUSE_BYTES];	/* an argument may point into *e */
	int n = vsnprintf(cause, sizeof(cause), fmt, ap);

	mark_cut(cause, sizeof(cause), n);
	err_clear(e);
	e->code = code;
	memcpy(e->cause, cause, sizeof(cause));
}

/* Most say only what there was no memory for. */
static void say_memory(struct err *e)
{
	size_t used = strlen(e->cause);

	if (!strstr(e->cause, "memory"))
		mark_cut(e->cause, sizeof(e->cause),
			 (int)used + snprintf(e->cause + used, sizeof(e->cause) - used, ": out of memory"));
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	assert(code < 0);
	va_start(ap, fmt);
	set_cause(e, code, fmt, ap);
	va_end(ap);
	if (code == ERR_NOMEM)
		say_memory(e);
	return code;
}

static int code_of_errno(int os_errno)
{
	switch (os_errno) {
	case ENOENT:
		return ERR_NOTFOUND;
	case EEXIST:
		return ERR_EXISTS;
	case ENOSPC:
	case EDQUOT:
		return ERR_NOSPACE;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EAGAIN:
		return ERR_NOMEM;
	default:
		return ERR_IO;
	}
}

int err_sys(struct err *e, const char *fmt, ...)
{
	int os_errno = errno ? errno : EIO;
	char reason[128];
	va_list ap;
	size_t used;
	int n;

	va_start(ap, fmt);
	set_cause(e, code_of_errno(os_errno), fmt, ap);
	va_end(ap);
	e->os_errno = os_errno;
	used = strlen(e->cause);
	/* GNU strerror_r: the text may or may not be in the buffer */
	n = snprintf(e->cause + used, sizeof(e->cause) - used, ": %s", strerror_r(os_errno, reason, sizeof(reason)));
	mark_cut(e->cause, sizeof(e->cause), n + (int)used);
	return e->code;
}

int err_ctx(struct err *e, const char *fmt, ...)
{
	char outer[ERR_CTX_BYTES];
	size_t have = strlen(e->ctx), room, len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(outer, sizeof(outer), fmt, ap);
	va_end(ap);
	len = strlen(outer);
	if (have + 8 >= sizeof(e->ctx))
		return e->code;		/* the inner layers fill it: they know more */
	room = sizeof(e->ctx) - 1 - have - (have ? 2 : 0);
	if (len > room) {
		len = room;
		memcpy(outer + len - 3, "...", 3);
	}
	if (have) {
		memmove(e->ctx + len + 2, e->ctx, have + 1);
		memcpy(e->ctx + len, ": ", 2);
	} else {
		e->ctx[len] = '\0';
	}
	memcpy(e->ctx, outer, len);
	return e->code;
}

int err_hint(struct err *e, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (e->hint[0])
		return e->code;
	va_start(ap, fmt);
	n = vsnprintf(e->hint, sizeof(e->hint), fmt, ap);
	va_end(ap);
	mark_cut(e->hint, sizeof(e->hint), n);
	return e->code;
}

void err_clear(struct err *e)
{
	memset(e, 0, sizeof(*e));
}

const char *err_text(const struct err *e, char *buf, size_t len)
{
	if (!len)
		return buf;
	snprintf(buf, len, "%s%s%s", e->ctx, e->ctx[0] ? ": " : "", e->cause);
	return buf;
}

const char *err_code_name(int code)
{
	static const char *const names[] = {
		"ok", "invalid", "no-memory", "io", "no-space", "not-found", "exists", "corrupt", "auth", "unsupported",
		"locked", "transient", "cancelled", "changed", "internal", "refused",
	};

	if (code > 0)
		return "ok";
	if (-code >= (int)(sizeof(names) / sizeof(names[0])))
		return "internal";
	return names[-code];
}
