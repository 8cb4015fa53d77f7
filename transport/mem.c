/*
 * mem.c - a store in memory: the twin that tests run against, and the plainest statement of what a store does.
 *
 * Objects are kept sorted by name.  The lock is held for copies of memory only, never while a receiver runs.
 */
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "transport/registry.h"
#include "transport/implement.h"

struct object {
	char *name;
	uint8_t *bytes;
	struct store_stat st;
};

struct mem {
	struct store s;
	pthread_mutex_t lock;	/* guards objects */
	struct object *objects;	/* sorted by name */
	size_t n, cap;
};

static void object_done(struct object *o)
{
	free(o->name);
	free(o->bytes);
	*o = (struct object){ 0 };
}

static void mem_close(struct store *s)
{
	struct mem *m = (struct mem *)s;

	for (size_t i = 0; i < m->n; i++)
		object_done(&m->objects[i]);
	free(m->objects);
	free(m->s.location);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* Where name is, or would be inserted. */
static bool find(const struct mem *m, const char *name, size_t *ret)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(m->objects[mid].name, name);

		if (c == 0) {
			*ret = mid;
			return true;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret = lo;
	return false;
}

static int make_room(struct mem *m, struct err *e)
{
	size_t cap = m->cap ? m->cap * 2 : 16;
	struct object *p;

	if (m->n < m->cap)
		return 0;
	p = reallocarray(m->objects, cap, sizeof(*p));
	if (!p)
		return err_set(e, ERR_NOMEM, "table of %zu objects", cap);
	m->objects = p;
	m->cap = cap;
	return 0;
}

/* Puts a finished object under its name; takes it over, or what it replaces, through *o. */
static int mem_insert(struct mem *m, struct object *o, int flags, struct err *e)
{
	struct object old = { 0 };
	size_t at;

	if (find(m, o->name, &at)) {
		if (flags & STORE_PUT_IF_ABSENT)
			return store_err_exists(e);
		old = m->objects[at];
	} else {
		if (make_room(m, e) < 0)
			return e->code;
		memmove(&m->objects[at + 1], &m->objects[at], (m->n - at) * sizeof(*m->objects));
		m->n++;
	}
	m->objects[at] = *o;
	*o = old;
	return 0;
}

static int mem_put(struct store *s, const char *name, const void *buf, size_t len, int flags, struct err *e)
{
	struct mem *m = (struct mem *)s;
	CLEANUP(object_done) struct object o = { .st = { .size = len, .mtime_ns = clock_wall_ns() } };
	int rc;

	o.name = strdup(name);
	o.bytes = malloc(len ? len : 1);
	if (!o.name || !o.bytes)
		return err_set(e, ERR_NOMEM, "no memory for an object of %zu bytes", len);
	if (len)
		memcpy(o.bytes, buf, len);
	pthread_mutex_lock(&m->lock);
	rc = mem_insert(m, &o, flags, e);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

static int mem_read_locked(struct mem *m, const char *name, void *buf, size_t len, uint64_t off, struct err *e)
{
	size_t at;

	if (!find(m, name, &at))
		return store_err_absent(e);
	if (!range_ok(off, len, m->objects[at].st.size))
		return store_err_short(e, m->objects[at].st.size, len, off);
	if (len)
		memcpy(buf, m->objects[at].bytes + off, len);
	return 0;
}

static int mem_read(struct store *s, const char *name, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct mem *m = (struct mem *)s;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = mem_read_locked(m, name, buf, len, off, e);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

/* Copies the first object after `after` that has the prefix; false at the end. */
static bool next_object(struct mem *m, const char *prefix, const char *after, char name[STORE_NAME_MAX + 1],
			struct store_stat *st)
{
	bool found = false;
	size_t at;

	pthread_mutex_lock(&m->lock);
	if (find(m, *after ? after : prefix, &at) && *after)
		at++;
	if (at < m->n && strncmp(m->objects[at].name, prefix, strlen(prefix)) == 0) {
		memcpy(name, m->objects[at].name, strlen(m->objects[at].name) + 1);
		*st = m->objects[at].st;
		found = true;
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static int mem_list(struct store *s, const char *prefix, store_list_fn fn, void *opaque, struct err *e)
{
	char after[STORE_NAME_MAX + 1] = "", name[STORE_NAME_MAX + 1];
	struct store_stat st;

	while (next_object((struct mem *)s, prefix, after, name, &st)) {
		int rc = fn(opaque, name, &st, e);

		if (rc != 0)
			return rc;
		memcpy(after, name, sizeof(after));
	}
	return 0;
}

static int mem_remove(struct store *s, const char *name, struct err *e)
{
	struct mem *m = (struct mem *)s;
	CLEANUP(object_done) struct object o = { 0 };
	bool found;
	size_t at;

	pthread_mutex_lock(&m->lock);
	found = find(m, name, &at);
	if (found) {
		o = m->objects[at];
		m->n--;
		memmove(&m->objects[at], &m->objects[at + 1], (m->n - at) * sizeof(*m->objects));
	}
	pthread_mutex_unlock(&m->lock);
	return found ? 0 : store_err_absent(e);
}

static int mem_stat(struct store *s, const char *name, struct store_stat *ret, struct err *e)
{
	struct mem *m = (struct mem *)s;
	bool found;
	size_t at;

	pthread_mutex_lock(&m->lock);
	found = find(m, name, &at);
	if (found)
		*ret = m->objects[at].st;
	pthread_mutex_unlock(&m->lock);
	return found ? 0 : store_err_absent(e);
}

static const struct store_ops mem_ops = {
	.kind = "mem",
	.close = mem_close,
	.put = mem_put,
	.read = mem_read,
	.list = mem_list,
	.remove = mem_remove,
	.stat = mem_stat,
};

int store_mem_new(struct store **ret, struct err *e)
{
	struct mem *m = calloc(1, sizeof(*m));

	if (!m)
		return err_set(e, ERR_NOMEM, "store in memory");
	m->s.location = strdup("memory");
	if (!m->s.location) {
		free(m);
		return err_set(e, ERR_NOMEM, "store in memory");
	}
	m->s.ops = &mem_ops;
	m->s.caps = (struct store_caps){ .conditional_put = true, .strong_listing = true, .can_remove = true,
					 .parallel = 4, .is_local = true };
	pthread_mutex_init(&m->lock, NULL);
	*ret = &m->s;
	return 0;
}
