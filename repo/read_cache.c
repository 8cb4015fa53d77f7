/* read_cache.c - directories and opened segments under one budget: a hash table and a list from oldest to newest
 * use. */
#include "repo/reader_internal.h"

#define BUCKETS 4096u	/* power of two; 96 MiB of 256 KiB segments are 400 entries */

struct read_ref {
	struct read_ref *chain;			/* bucket */
	struct read_ref *older, *newer;		/* list, only while refs == 0 */
	struct read_key key;
	void *value;
	void (*free_value)(void *);
	size_t bytes;
	unsigned refs;
};

struct read_cache {
	pthread_mutex_t lock;			/* guards all below; never held while values are freed */
	size_t bytes, max_bytes;
	struct read_ref *oldest, *newest;
	struct read_ref *bucket[BUCKETS];
};

int read_cache_new(size_t max_bytes, struct read_cache **ret, struct err *e)
{
	struct read_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, ERR_NOMEM, "no memory for a cache");
	pthread_mutex_init(&c->lock, NULL);	/* cannot fail with default attributes */
	c->max_bytes = max_bytes;
	*ret = c;
	return 0;
}

static void ref_free(struct read_ref *ref)
{
	ref->free_value(ref->value);
	free(ref);
}

void read_cache_free(struct read_cache *c)
{
	if (!c)
		return;
	while (c->oldest) {
		struct read_ref *ref = c->oldest;

		c->oldest = ref->newer;
		ref_free(ref);
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Hashes are uniform: their first bytes will do. */
static struct read_ref **bucket_of(struct read_cache *c, const struct read_key *key)
{
	uint32_t h;

	memcpy(&h, key->pack.b, sizeof(h));
	return &c->bucket[(h + key->segment * 2654435761u) & (BUCKETS - 1)];
}

static struct read_ref *find(struct read_cache *c, const struct read_key *key)
{
	struct read_ref *ref = *bucket_of(c, key);

	while (ref && !(ref->key.segment == key->segment && id_eq(&ref->key.pack, &key->pack)))
		ref = ref->chain;
	return ref;
}

static void list_add(struct read_cache *c, struct read_ref *ref)
{
	ref->older = c->newest;
	ref->newer = NULL;
	*(c->newest ? &c->newest->newer : &c->oldest) = ref;
	c->newest = ref;
}

static void list_remove(struct read_cache *c, struct read_ref *ref)
{
	*(ref->older ? &ref->older->newer : &c->oldest) = ref->newer;
	*(ref->newer ? &ref->newer->older : &c->newest) = ref->older;
	ref->older = ref->newer = NULL;
}

/* Takes what is beyond the budget out; returns it as a list by way of newer. */
static struct read_ref *evict(struct read_cache *c)
{
	struct read_ref *out = NULL;

	while (c->bytes > c->max_bytes && c->oldest) {
		struct read_ref *ref = c->oldest, **at = bucket_of(c, &ref->key);

		list_remove(c, ref);
		while (*at != ref)
			at = &(*at)->chain;
		*at = ref->chain;
		c->bytes -= ref->bytes;
		ref->newer = out;
		out = ref;
	}
	return out;
}

static void free_list(struct read_ref *list)
{
	while (list) {
		struct read_ref *next = list->newer;

		ref_free(list);
		list = next;
	}
}

static struct read_ref *use(struct read_cache *c, struct read_ref *ref)
{
	if (ref->refs++ == 0)
		list_remove(c, ref);
	return ref;
}

struct read_ref *read_cache_get(struct read_cache *c, const struct read_key *key)
{
	struct read_ref *ref;

	pthread_mutex_lock(&c->lock);
	ref = find(c, key);
	if (ref)
		use(c, ref);
	pthread_mutex_unlock(&c->lock);
	return ref;
}

int read_cache_add(struct read_cache *c, const struct read_key *key, void *value, size_t bytes,
		   void (*free_value)(void *), struct read_ref **ret, struct err *e)
{
	struct read_ref *ref = calloc(1, sizeof(*ref)), *other, *gone, **at;

	if (!ref) {
		free_value(value);
		return err_set(e, ERR_NOMEM, "no memory for a cache entry");
	}
	*ref = (struct read_ref){ .key = *key, .value = value, .free_value = free_value,
				  .bytes = bytes + sizeof(*ref), .refs = 1 };
	pthread_mutex_lock(&c->lock);
	other = find(c, key);
	if (other) {
		use(c, other);
	} else {
		at = bucket_of(c, key);
		ref->chain = *at;
		*at = ref;
		c->bytes += ref->bytes;
	}
	gone = evict(c);
	pthread_mutex_unlock(&c->lock);
	free_list(gone);
	if (other)
		ref_free(ref);
	*ret = other ? other : ref;
	return 0;
}

void *read_ref_value(const struct read_ref *ref)
{
	return ref->value;
}

void read_cache_unref(struct read_cache *c, struct read_ref *ref)
{
	struct read_ref *gone = NULL;

	if (!ref)
		return;
	pthread_mutex_lock(&c->lock);
	if (--ref->refs == 0) {
		list_add(c, ref);
		gone = evict(c);
	}
	pthread_mutex_unlock(&c->lock);
	free_list(gone);
}
