/*
 * store.h - a flat store of objects; the only way in which repo/ reaches storage.
 *
 * Objects are immutable once store_put returned 0, and durable.  A name is 1..STORE_NAME_MAX characters of [a-z0-9/-],
 * no empty part, no leading or trailing '/'; checked here in both directions.  Storage isn't trusted: what comes back
 * may be anything, its length included; repo/ verifies.
 *
 * Errors: 0 or negative ERR_*.  On failure ret_ arguments are untouched and the store stays usable.  ERR_NOTFOUND and
 * ERR_EXISTS are ordinary answers; ERR_NOSPACE is a full target; ERR_TRANSIENT is worth another try; ERR_CORRUPT is an
 * object of another length than it must have, or bytes that were altered on the way there.  ERR_REFUSED: the storage does
 * not serve us (credentials, policies, answers that make no sense), which says nothing about any object.  Never ERR_AUTH or
 * ERR_UNSUPPORTED: these are repo/'s verdicts on what is in an object.
 * Threads: any number at once.  Calls block.
 */
#ifndef KEDGE_TRANSPORT_STORE_H
#define KEDGE_TRANSPORT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

#define STORE_NAME_MAX 160
#define STORE_SELF_TEST "self-test/"	/* objects below it are a store's own, of trying out the storage: no content */
#define STORE_READ_MAX ((size_t)256 << 20)

struct store;

struct store_stat {
	uint64_t size;
	int64_t mtime_ns;	/* when it was stored, by the store's clock; 0 = not known */
};

/* What a store can do and promises; constant while it is open. */
struct store_caps {
	bool conditional_put;	/* STORE_PUT_IF_ABSENT is atomic; otherwise best effort */
	bool strong_listing;	/* a list sees every put and remove that returned before it began */
	bool can_remove;	/* nothing forbids it up front */
	unsigned parallel;	/* calls in flight that make sense, >= 1 */
	bool is_local;		/* reads are cheap: no cache needed */
};

enum { STORE_PUT_IF_ABSENT = 1 << 0 };

/* One listed object.  name is valid during the call only.  Non-zero stops the listing; negative values are passed
 * on. */
typedef int (*store_list_fn)(void *opaque, const char *name, const struct store_stat *st, struct err *e);

struct store_ops {
	const char *kind;	/* "local", "mem", "fault" */
	void (*close)(struct store *s);
	/* Stores len bytes under name, durably, whole or not at all.  Without IF_ABSENT an existing object may be
	 * replaced (kedge only ever replaces by the same bytes); with it: ERR_EXISTS. */
	int (*put)(struct store *s, const char *name, const void *buf, size_t len, int flags, struct err *e);
	/* Reads exactly [off, off+len).  Object shorter: ERR_CORRUPT; absent: ERR_NOTFOUND. */
	int (*read)(struct store *s, const char *name, void *buf, size_t len, uint64_t off, struct err *e);
	/* Calls fn for every object whose name begins with prefix (ends at a '/' or is ""), in no particular order. */
	int (*list)(struct store *s, const char *prefix, store_list_fn fn, void *opaque, struct err *e);
	int (*remove)(struct store *s, const char *name, struct err *e);	/* absent: ERR_NOTFOUND */
	int (*stat)(struct store *s, const char *name, struct store_stat *ret, struct err *e);
	/* The whole object in one go, malloc'ed, NUL after it; more than max: ERR_CORRUPT.  NULL: stat and read
	 * do it. */
	int (*get)(struct store *s, const char *name, size_t max, uint8_t **ret, size_t *ret_len, struct err *e);
	/* Removes n objects; those that are not there count as removed.  NULL: one by one. */
	int (*remove_many)(struct store *s, const char *const *names, size_t n, struct err *e);
	/* Makes durable what a list of prefix shows now; NULL: whatever is shown is. */
	int (*sync)(struct store *s, const char *prefix, struct err *e);
};

/* First member of every implementation. */
struct store {
	const struct store_ops *ops;
	struct store_caps caps;
	char *location;		/* for messages: "/backup" */
};

/* The callers' side: checks names and lengths, then calls the op and adds "LOCATION: NAME" to errors. */
void store_close(struct store *s);	/* NULL is fine */
static inline const struct store_caps *store_caps(const struct store *s) { return &s->caps; }
MUST_CHECK int store_put(struct store *s, const char *name, const void *buf, size_t len, int flags, struct err *e);
MUST_CHECK int store_read(struct store *s, const char *name, void *buf, size_t len, uint64_t off, struct err *e);
/* The whole object, malloc'ed; larger than max: ERR_CORRUPT. */
MUST_CHECK int store_get(struct store *s, const char *name, size_t max, uint8_t **ret, size_t *ret_len, struct err *e);
MUST_CHECK int store_list(struct store *s, const char *prefix, store_list_fn fn, void *opaque, struct err *e);
MUST_CHECK int store_remove(struct store *s, const char *name, struct err *e);
/* Removes n objects, in any order; those that are not there count as removed.  After an error some may be gone. */
MUST_CHECK int store_remove_many(struct store *s, const char *const *names, size_t n, struct err *e);
MUST_CHECK int store_stat(struct store *s, const char *name, struct store_stat *ret, struct err *e);
/*
 * What others put may be shown before their put returns, and be gone after a power cut.  When this returns 0, every
 * object that a list of prefix showed when it was called is durable, and every removal that it showed is too.  For what
 * is built upon and was not put by oneself.
 */
MUST_CHECK int store_sync(struct store *s, const char *prefix, struct err *e);
/* False: store_sync does nothing, so there is no need to find out what for. */
static inline bool store_needs_sync(const struct store *s) { return s->ops->sync != NULL; }
bool store_name_ok(const char *name);

#endif
