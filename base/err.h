/*
 * err.h - how every module reports failure: a code the caller can act on, the cause, the context, and the way out.
 *
 * A fallible function returns 0 (or a documented positive value) on success and a negative enum err_code on failure,
 * and takes a caller-owned `struct err *e` as its last parameter, never NULL.  The place that finds the fault calls
 * err_set() or err_sys() once; each layer above may prepend what it was doing with err_ctx().  Nothing here allocates,
 * so it works out of memory, and a struct err may be copied from a worker thread to its coordinator.
 * A struct err must be zeroed (ERR_INIT) before first use.  Threads: one struct err per thread.
 */
#ifndef KEDGE_BASE_ERR_H
#define KEDGE_BASE_ERR_H

#include <stddef.h>

/* Named by what the caller can do about it. */
enum err_code {
	ERR_INVALID = -1,	/* the request makes no sense: change it */
	ERR_NOMEM = -2,		/* out of memory, of the memory budget, of open files, of threads */
	ERR_IO = -3,		/* the system failed to read or write: look at the device */
	ERR_NOSPACE = -4,	/* the target is full: make room, run again */
	ERR_NOTFOUND = -5,	/* there is no such thing; often an ordinary answer */
	ERR_EXISTS = -6,	/* it is there already; nothing was overwritten */
	ERR_CORRUPT = -7,	/* bytes that were read are not what they must be */
	ERR_AUTH = -8,		/* wrong key, or something not signed by who it claims */
	ERR_UNSUPPORTED = -9,	/* valid, but this program cannot do it */
	ERR_LOCKED = -10,	/* in use by another process */
	ERR_TRANSIENT = -11,	/* may work when tried again */
	ERR_CANCELLED = -12,	/* somebody asked to stop */
	ERR_CHANGED = -13,	/* a source changed or vanished while it was read */
	ERR_INTERNAL = -14,	/* a bug in kedge */
	ERR_REFUSED = -15,	/* the storage does not serve us: says nothing about what is stored */
};

#define ERR_CAUSE_BYTES 512
#define ERR_CTX_BYTES 1024
#define ERR_HINT_BYTES 512

struct err {
	int code;			/* 0 or enum err_code */
	int os_errno;			/* errno at the origin, 0 if none */
	char cause[ERR_CAUSE_BYTES];	/* what is wrong, without trailing full stop or newline */
	char ctx[ERR_CTX_BYTES];	/* "outermost: ...: innermost", may be empty */
	char hint[ERR_HINT_BYTES];	/* what to do about it: a sentence or a command line; may be empty */
};

#define ERR_INIT { 0 }

/* Sets code and cause; clears context and hint.  Returns code.  code must be negative. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As err_set, with the code derived from errno (ENOENT: NOTFOUND, EEXIST: EXISTS, ENOSPC/EDQUOT: NOSPACE, ENOMEM,
 * EMFILE, ENFILE, EAGAIN: NOMEM, else IO) and ": " strerror appended to the cause.  Returns the code; errno 0 counts as
 * EIO. */
int err_sys(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prepends "text: " to the context; keeps code, cause and hint.  Truncates from the outside when full.  Returns
 * e->code. */
int err_ctx(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sets the hint unless an inner layer already has (the inner one knows more).  Returns e->code. */
int err_hint(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Forgets everything: e is as after ERR_INIT. */
void err_clear(struct err *e);
/* Writes "context: cause" to buf, always terminated; returns buf. */
const char *err_text(const struct err *e, char *buf, size_t len);
/* The stable word for a code, as --json prints it ("corrupt", "no-space"); "ok" for 0. */
const char *err_code_name(int code);

#endif
