/* store.c - the callers' side of a store: names and lengths are checked here, once, for every kind of store. */
#include "transport/store.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "transport/implement.h"

static bool name_char_ok(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

static bool name_ok(const char *name, size_t len)
{
	char before = '/';

	if (len == 0 || len > STORE_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (name[i] == '/' ? before == '/' : !name_char_ok(name[i]))
			return false;
		before = name[i];
	}
	return before != '/';
}

bool store_name_ok(const char *name)
{
	return name_ok(name, strnlen(name, STORE_NAME_MAX + 1));
}

static bool prefix_ok(const char *prefix)
{
	size_t len = strnlen(prefix, STORE_NAME_MAX + 2);

	return len == 0 || (prefix[len - 1] == '/' && name_ok(prefix, len - 1));
}

static int check_name(const struct store *s, const char *name, struct err *e)
{
	if (store_name_ok(name))
		return 0;
	err_set(e, ERR_INVALID, "an object cannot have this name");
	return err_ctx(e, "%s: \"%.*s\"", s->location, STORE_NAME_MAX, name);
}

/* Every answer of an op passes here: what fails says so in e, and learns where it failed. */
static int answer(const struct store *s, const char *name, int rc, struct err *e)
{
	if (rc >= 0)
		return 0;
	assert(e->code == rc);
	/* what repo/ takes for a verdict on the bytes of an object; a store can't have one */
	assert(rc != ERR_AUTH && rc != ERR_UNSUPPORTED);
	return err_ctx(e, "%s: %s", s->location, name);
}

int store_err_absent(struct err *e)
{
	return err_set(e, ERR_NOTFOUND, "no such object");
}

int store_err_exists(struct err *e)
{
	return err_set(e, ERR_EXISTS, "the object is there already");
}

int store_err_short(struct err *e, uint64_t size, size_t len, uint64_t off)
{
	return err_set(e, ERR_CORRUPT, "the object has %" PRIu64 " bytes, %zu at %" PRIu64 " were wanted", size, len,
		       off);
}

void store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
}

int store_put(struct store *s, const char *name, const void *buf, size_t len, int flags, struct err *e)
{
	assert((flags & ~STORE_PUT_IF_ABSENT) == 0);
	if (check_name(s, name, e) < 0)
		return e->code;
	if (len > STORE_READ_MAX) {
		err_set(e, ERR_INVALID, "an object of %zu bytes is larger than the %zu that can be read back", len,
			STORE_READ_MAX);
		return err_ctx(e, "%s: %s", s->location, name);
	}
	LOG_DEBUG("put %s: %zu bytes", name, len);
	return answer(s, name, s->ops->put(s, name, buf, len, flags, e), e);
}

int store_read(struct store *s, const char *name, void *buf, size_t len, uint64_t off, struct err *e)
{
	if (check_name(s, name, e) < 0)
		return e->code;
	if (len > STORE_READ_MAX || !range_ok(off, len, INT64_MAX)) {
		err_set(e, ERR_INVALID, "%zu bytes at %" PRIu64 " cannot be read in one call", len, off);
		return err_ctx(e, "%s: %s", s->location, name);
	}
	LOG_DEBUG("read %s: %zu bytes at %" PRIu64, name, len, off);
	return answer(s, name, s->ops->read(s, name, buf, len, off, e), e);
}

int store_get(struct store *s, const char *name, size_t max, uint8_t **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = NULL;
	struct store_stat st;

	max = min_size(max, STORE_READ_MAX);
	if (s->ops->get) {
		if (check_name(s, name, e) < 0)
			return e->code;
		LOG_DEBUG("get %s: at most %zu bytes", name, max);
		return answer(s, name, s->ops->get(s, name, max, ret, ret_len, e), e);
	}
	if (store_stat(s, name, &st, e) < 0)
		return e->code;
	if (st.size > max) {
		err_set(e, ERR_CORRUPT, "the object has %" PRIu64 " bytes, at most %zu were expected", st.size, max);
		return err_ctx(e, "%s: %s", s->location, name);
	}
	buf = malloc((size_t)st.size + 1);	/* never 0, and bounded by what the caller expects */
	if (!buf)
		return err_set(e, ERR_NOMEM, "no memory for an object of %" PRIu64 " bytes", st.size);
	if (store_read(s, name, buf, (size_t)st.size, 0, e) < 0)
		return e->code;
	buf[st.size] = 0;
	*ret_len = (size_t)st.size;
	*ret = STEAL(buf);
	return 0;
}

/* Stands between a listing and its receiver: names that no object can have stop here. */
struct list_gate {
	const char *prefix;
	store_list_fn fn;
	void *opaque;
	bool stopped;	/* the receiver said so; its error is not the store's */
};

static int list_gate(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct list_gate *g = opaque;
	int rc;

	if (!store_name_ok(name) || strncmp(name, g->prefix, strlen(g->prefix)) != 0) {
		LOG_DEBUG("listing of \"%s\": a name that is not ours was left out", g->prefix);
		return 0;
	}
	rc = g->fn(g->opaque, name, st, e);
	g->stopped = rc != 0;
	return rc;
}

int store_list(struct store *s, const char *prefix, store_list_fn fn, void *opaque, struct err *e)
{
	struct list_gate g = { .prefix = prefix, .fn = fn, .opaque = opaque };
	int rc;

	if (!prefix_ok(prefix)) {
		err_set(e, ERR_INVALID, "a listing cannot have the prefix \"%.*s\"", STORE_NAME_MAX, prefix);
		return err_ctx(e, "%s", s->location);
	}
	rc = s->ops->list(s, prefix, list_gate, &g, e);
	if (g.stopped)
		return rc < 0 ? rc : 0;
	if (rc >= 0)
		return 0;
	assert(e->code == rc);
	return err_ctx(e, "%s: listing of \"%s\"", s->location, prefix);
}

int store_remove(struct store *s, const char *name, struct err *e)
{
	if (check_name(s, name, e) < 0)
		return e->code;
	LOG_DEBUG("remove %s", name);
	return answer(s, name, s->ops->remove(s, name, e), e);
}

int store_remove_many(struct store *s, const char *const *names, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (check_name(s, names[i], e) < 0)
			return e->code;
	}
	if (s->ops->remove_many) {
		LOG_DEBUG("remove %zu objects", n);
		return answer(s, "several", n ? s->ops->remove_many(s, names, n, e) : 0, e);
	}
	for (size_t i = 0; i < n; i++) {
		if (store_remove(s, names[i], e) == ERR_NOTFOUND)
			err_clear(e);
		else if (e->code)
			return e->code;
	}
	return 0;
}

int store_stat(struct store *s, const char *name, struct store_stat *ret, struct err *e)
{
	if (check_name(s, name, e) < 0)
		return e->code;
	return answer(s, name, s->ops->stat(s, name, ret, e), e);
}

int store_sync(struct store *s, const char *prefix, struct err *e)
{
	if (!prefix_ok(prefix)) {
		err_set(e, ERR_INVALID, "a sync cannot have the prefix \"%.*s\"", STORE_NAME_MAX, prefix);
		return err_ctx(e, "%s", s->location);
	}
	if (!s->ops->sync)
		return 0;
	LOG_DEBUG("sync %s", prefix);
	return answer(s, prefix, s->ops->sync(s, prefix, e), e);
}
