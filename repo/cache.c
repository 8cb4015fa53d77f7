/*
 * cache.c - sealed manifests kept on disk where the store is far away.
 *
 * The cache holds objects as they are stored: nothing is in the clear, and what is in it is checked like what comes
 * from the store.  It may be deleted at any time; failing to read or write it only costs a transfer.
 */
#include <errno.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

static char *cache_path(struct repo *r, const char *name, struct err *e)
{
	char instance[2 * 16 + 1];

	text_hex(r->cfg.instance_id, 16, instance);
	return text_printf(e, "%s/%s/%s", r->cache_dir, instance, name);
}

static bool cache_get(const struct repo *r, const char *path, const struct object_name *n, uint8_t **ret,
		      size_t *ret_len)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct err e = ERR_INIT;
	struct id hash;
	size_t len;

	if (fs_read_file(path, ENVELOPE_MAX_BYTES, &p, &len, &e) < 0)
		return false;
	if (hash_bytes(r, p, len, &hash, &e) < 0 || !id_eq(&hash, &n->hash))
		return false;
	*ret_len = len;
	*ret = STEAL(p);
	return true;
}

static void cache_put(const char *path, const void *p, size_t len)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *dir = fs_dirname(path, &e);

	if (!dir || fs_mkdirs(dir, 0700, &e) < 0 || fs_write_atomic(path, p, len, true, 0600, &e) < 0)
		LOG_DEBUG("%s: not cached: %s", path, e.cause);
}

int object_read(struct repo *r, const struct object_name *n, const char *name, uint8_t **ret, size_t *ret_len,
		struct err *e)
{
	CLEANUP(free_ptr) char *path = NULL;

	if (n->type == OBJECT_MANIFEST && r->cache_dir && !store_caps(r->store)->is_local) {
		path = cache_path(r, name, e);
		if (!path)
			return e->code;
		if (cache_get(r, path, n, ret, ret_len))
			return 0;
	}
	if (store_get(r->store, name, ENVELOPE_MAX_BYTES, ret, ret_len, e) < 0)
		return e->code;
	if (path) {
		struct err unheard = ERR_INIT;
		struct id hash;

		if (hash_bytes(r, *ret, *ret_len, &hash, &unheard) == 0 && id_eq(&hash, &n->hash))
			cache_put(path, *ret, *ret_len);
	}
	return 0;
}
