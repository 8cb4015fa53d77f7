/*
 * registry.h - opens a store by its location.  Only cli/ and tests include it.
 */
#ifndef KEDGE_TRANSPORT_REGISTRY_H
#define KEDGE_TRANSPORT_REGISTRY_H

#include "transport/s3/s3.h"
#include "transport/store.h"

/* "s3:https://HOST/BUCKET/PREFIX", "s3://BUCKET/PREFIX": transport/s3/s3.h.
 * "/path", "./path", "file:/path": a folder.  With create, the folder is made (its parent must exist) and must be empty
 * or new; without, an absent folder is ERR_NOTFOUND. */
MUST_CHECK int store_open(const char *location, bool create, struct store **ret, struct err *e);
/* The same with what is given beside the location, for the kind that it is for. */
struct store_opts {
	struct s3_opts s3;
};
MUST_CHECK int store_open_with(const char *location, bool create, const struct store_opts *o, struct store **ret,
			       struct err *e);
/* Objects in memory, for tests; copies share nothing. */
MUST_CHECK int store_mem_new(struct store **ret, struct err *e);

/*
 * Fault injection: wraps inner (owned from then on) and asks before and after every operation.  The hook may return a
 * negative code (set *e) to fail the call: before, nothing has been done; after, it has been done and the reply is
 * lost.  After a read it may change buf.  Counting and choosing is the hook's business.  Any thread.
 */
enum store_fault_when { STORE_FAULT_BEFORE, STORE_FAULT_AFTER };
struct store_fault_call {
	enum store_fault_when when;
	const char *op;			/* "put", "read", "list", "remove", "stat", "sync" */
	const char *name;
	void *buf;			/* put: the bytes (before); read: the result (after); else NULL */
	size_t len;
};
typedef int (*store_fault_fn)(void *opaque, const struct store_fault_call *c, struct err *e);
MUST_CHECK int store_fault_new(struct store *inner, store_fault_fn hook, void *opaque, struct store **ret,
			       struct err *e);

#endif
