/* registry.c - from a location as people write it to the store behind it. */
#include "transport/registry.h"

#include <string.h>

#include "transport/implement.h"
#include "transport/s3/s3.h"

static int unknown_kind(const char *location, size_t scheme_len, struct err *e)
{
	err_set(e, ERR_INVALID, "\"%.*s:\" is not a kind of storage that this program knows", (int)scheme_len,
		location);
	return err_hint(e, "a folder is written /path, ./path or file:/path; a bucket s3:https://HOST/BUCKET/PREFIX");
}

int store_open(const char *location, bool create, struct store **ret, struct err *e)
{
	const struct store_opts none = { 0 };

	return store_open_with(location, create, &none, ret, e);
}

int store_open_with(const char *location, bool create, const struct store_opts *o, struct store **ret, struct err *e)
{
	size_t first = strcspn(location, "/:");

	if (!*location)
		return err_set(e, ERR_INVALID, "the location of the storage is empty");
	if (location[first] != ':' || first == 0 || first > 32)	/* "./a:b" and "backup" are paths */
		return store_local_open(location, create, ret, e);
	if (first == strlen("file") && strncmp(location, "file:/", 6) == 0)
		return store_local_open(location + strlen("file:"), create, ret, e);
	if (first == strlen("s3") && strncmp(location, "s3:", 3) == 0)
		return store_s3_open(location, create, &o->s3, ret, e);
	return unknown_kind(location, first, e);
}
