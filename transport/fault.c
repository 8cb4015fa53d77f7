/* fault.c - a store that asks a hook before and after each call of the store inside it: how tests make storage fail. */
#include <string.h>

#include "transport/registry.h"
#include "transport/implement.h"

struct fault {
	struct store s;
	struct store *inner;	/* owned */
	store_fault_fn hook;
	void *opaque;
};

static void fault_close(struct store *s)
{
	struct fault *f = (struct fault *)s;

	store_close(f->inner);
	free(f->s.location);
	free(f);
}

static int ask(struct fault *f, enum store_fault_when when, const char *op, const char *name, void *buf, size_t len,
	       struct err *e)
{
	struct store_fault_call c = { .when = when, .op = op, .name = name, .buf = buf, .len = len };

	return f->hook(f->opaque, &c, e);
}

/* The reply of a call that was done: lost if the hook says so. */
static int reply(struct fault *f, const char *op, const char *name, void *buf, size_t len, int rc, struct err *e)
{
	if (rc < 0)
		return rc;
	return ask(f, STORE_FAULT_AFTER, op, name, buf, len, e);
}

static int fault_put(struct store *s, const char *name, const void *buf, size_t len, int flags, struct err *e)
{
	struct fault *f = (struct fault *)s;
	CLEANUP(free_ptr) uint8_t *copy = malloc(len ? len : 1);	/* the hook may change it, the caller's stays */

	if (!copy)
		return err_set(e, ERR_NOMEM, "copy of %zu bytes", len);
	if (len)
		memcpy(copy, buf, len);
	if (ask(f, STORE_FAULT_BEFORE, "put", name, copy, len, e) < 0)
		return e->code;
	return reply(f, "put", name, NULL, len, f->inner->ops->put(f->inner, name, copy, len, flags, e), e);
}

static int fault_read(struct store *s, const char *name, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct fault *f = (struct fault *)s;

	if (ask(f, STORE_FAULT_BEFORE, "read", name, NULL, len, e) < 0)
		return e->code;
	return reply(f, "read", name, buf, len, f->inner->ops->read(f->inner, name, buf, len, off, e), e);
}

static int fault_list(struct store *s, const char *prefix, store_list_fn fn, void *opaque, struct err *e)
{
	struct fault *f = (struct fault *)s;
	int rc;

	if (ask(f, STORE_FAULT_BEFORE, "list", prefix, NULL, 0, e) < 0)
		return e->code;
	rc = f->inner->ops->list(f->inner, prefix, fn, opaque, e);
	if (rc != 0)
		return rc;
	return ask(f, STORE_FAULT_AFTER, "list", prefix, NULL, 0, e);
}

static int fault_remove(struct store *s, const char *name, struct err *e)
{
	struct fault *f = (struct fault *)s;

	if (ask(f, STORE_FAULT_BEFORE, "remove", name, NULL, 0, e) < 0)
		return e->code;
	return reply(f, "remove", name, NULL, 0, f->inner->ops->remove(f->inner, name, e), e);
}

static int fault_stat(struct store *s, const char *name, struct store_stat *ret, struct err *e)
{
	struct fault *f = (struct fault *)s;
	struct store_stat st;

	if (ask(f, STORE_FAULT_BEFORE, "stat", name, NULL, 0, e) < 0)
		return e->code;
	if (reply(f, "stat", name, NULL, 0, f->inner->ops->stat(f->inner, name, &st, e), e) < 0)
		return e->code;
	*ret = st;
	return 0;
}

static int fault_sync(struct store *s, const char *prefix, struct err *e)
{
	struct fault *f = (struct fault *)s;

	if (ask(f, STORE_FAULT_BEFORE, "sync", prefix, NULL, 0, e) < 0)
		return e->code;
	return reply(f, "sync", prefix, NULL, 0, store_sync(f->inner, prefix, e), e);
}

static const struct store_ops fault_ops = {
	.kind = "fault",
	.close = fault_close,
	.put = fault_put,
	.read = fault_read,
	.list = fault_list,
	.remove = fault_remove,
	.stat = fault_stat,
	.sync = fault_sync,
};

int store_fault_new(struct store *inner, store_fault_fn hook, void *opaque, struct store **ret, struct err *e)
{
	struct fault *f = calloc(1, sizeof(*f));
	char *location = strdup(inner->location);

	if (!f || !location) {
		free(f);
		free(location);
		store_close(inner);	/* owned from the call on, so released on failure too */
		return err_set(e, ERR_NOMEM, "fault injection");
	}
	*f = (struct fault){ .s = { .ops = &fault_ops, .caps = inner->caps, .location = location },
			     .inner = inner, .hook = hook, .opaque = opaque };
	*ret = &f->s;
	return 0;
}
