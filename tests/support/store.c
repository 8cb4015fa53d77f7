/* store.c - see store.h. */
#include "tests/support/store.h"

#include "tests/test.h"

void test_store_put(struct store *s, const char *name, const char *content)
{
	struct err e = ERR_INIT;

	assert_ok(store_put(s, name, content, strlen(content), 0, &e), &e);
}

void test_store_expect(struct store *s, const char *name, const char *content)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct err e = ERR_INIT;
	size_t len;

	assert_ok(store_get(s, name, 1000, &p, &len, &e), &e);
	assert_int_equal(len, strlen(content));
	assert_memory_equal(p, content, len);
}

int test_see(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct test_seen *seen = opaque;

	if (seen->n == 32)
		return err_set(e, ERR_INTERNAL, "more names than were put");
	snprintf(seen->names[seen->n++], sizeof(seen->names[0]), "%s", name);
	seen->bytes += st->size;
	if (seen->remove_from && store_remove(seen->remove_from, name, e) < 0)
		return e->code;
	if (seen->stop_after && seen->n == seen->stop_after)
		return seen->stop_with < 0 ? err_set(e, seen->stop_with, "enough") : seen->stop_with;
	return 0;
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

void test_store_expect_list(struct store *s, const char *prefix, const char *joined)
{
	struct test_seen seen = { 0 };
	struct err e = ERR_INIT;
	char got[1000] = "";

	assert_ok(store_list(s, prefix, test_see, &seen, &e), &e);
	qsort(seen.names, (size_t)seen.n, sizeof(seen.names[0]), by_name);
	for (int i = 0; i < seen.n; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ", seen.names[i]);
	assert_string_equal(got, joined);
}
