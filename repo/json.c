/* json.c - JSON from storage, member by member. */
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>

#include "base/text.h"
#include "repo/json_internal.h"
#include "repo/format.h"

/* More than the largest object needs; keeps what a parse may allocate (about 100 bytes a value) in proportion. */
#define VALUES_MAX 2000000u

static int bad(struct err *e, const char *key, const char *what)
{
	return err_set(e, ERR_CORRUPT, "member \"%s\" %s", key, what);
}

/* Every value but the first follows a comma, a colon or an opening bracket; those inside strings only make the bound
 * stricter. */
static size_t count_values(const char *p, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += p[i] == ',' || p[i] == '[' || p[i] == '{';
	return n;
}

/*
 * Where to go when an allocation of jansson fails in a parse or a dump; NULL: nowhere, it returns NULL.  jansson can't
 * be left to itself: of some failures it makes syntax errors, strings for which there is no room it cuts short, keys it
 * leaves out, without a word, and of others an abort.  What it had allocated by then is lost.
 */
static _Thread_local jmp_buf *starving;
static pthread_once_t malloc_once = PTHREAD_ONCE_INIT;

static void *malloc_or_leave(size_t n)
{
	void *p = malloc(n);

	if (!p && starving)
		longjmp(*starving, 1);
	return p;
}

static void take_over_malloc(void)
{
	json_set_alloc_funcs(malloc_or_leave, free);
}

void js_begin(void)
{
	pthread_once(&malloc_once, take_over_malloc);
}

/* false: no memory.  *ret is NULL for bad JSON. */
static bool load(const void *text, size_t len, json_t **ret, json_error_t *why)
{
	jmp_buf out;

	if (setjmp(out)) {
		starving = NULL;
		return false;
	}
	starving = &out;
	*ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, why);
	starving = NULL;
	return true;
}

static bool dump(const json_t *j, char **ret)
{
	jmp_buf out;

	if (setjmp(out)) {
		starving = NULL;
		return false;
	}
	starving = &out;
	*ret = json_dumps(j, JSON_COMPACT);
	starving = NULL;
	return *ret != NULL;
}

int js_parse(const void *text, size_t len, json_t **ret, struct err *e)
{
	char why[2 * JSON_ERROR_TEXT_LENGTH];
	json_error_t je;
	json_t *j;

	if (len > PAYLOAD_MAX_BYTES || count_values(text, len) > VALUES_MAX)
		return err_set(e, ERR_CORRUPT, "JSON of %zu bytes has more values than an object can have", len);
	js_begin();
	if (!load(text, len, &j, &je))
		return err_set(e, ERR_NOMEM, "no memory to parse JSON of %zu bytes", len);
	if (!j)
		return err_set(e, ERR_CORRUPT, "JSON at byte %d: %s", je.position,
			       text_quote(je.text, why, sizeof(why))); /* it quotes what it stumbled over */
	if (!json_is_object(j)) {
		json_decref(j);
		return err_set(e, ERR_CORRUPT, "JSON, but not an object");
	}
	*ret = j;
	return 0;
}

int js_dump(json_t *j, char **ret, size_t *ret_len, struct err *e)
{
	char *text = NULL;
	bool ok;

	js_begin();
	ok = j && dump(j, &text);
	json_decref(j);
	if (!ok)
		return err_set(e, ERR_NOMEM, "no memory to build JSON");
	*ret_len = strlen(text);
	*ret = text;
	return 0;
}

int js_uint(const json_t *o, const char *key, uint64_t min, uint64_t max, uint64_t *ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);
	json_int_t n;

	if (!json_is_integer(v))
		return bad(e, key, "is not an integer");
	n = json_integer_value(v);
	if (n < 0 || (uint64_t)n < min || (uint64_t)n > max)
		return err_set(e, ERR_CORRUPT,
			       "member \"%s\" is %" JSON_INTEGER_FORMAT ", not from %" PRIu64 " to %" PRIu64, key, n,
			       min, max);
	*ret = (uint64_t)n;
	return 0;
}

int js_u32(const json_t *o, const char *key, uint32_t min, uint32_t max, uint32_t *ret, struct err *e)
{
	uint64_t v = 0;

	if (js_uint(o, key, min, max, &v, e) < 0)
		return e->code;
	*ret = (uint32_t)v;
	return 0;
}

int js_time(const json_t *o, const char *key, int64_t *ret, struct err *e)
{
	uint64_t v = 0;

	if (js_uint(o, key, 0, INT64_MAX, &v, e) < 0)
		return e->code;
	*ret = (int64_t)v;
	return 0;
}

int js_bits(const json_t *o, const char *key, uint64_t *ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_integer(v))
		return bad(e, key, "is not an integer");
	*ret = (uint64_t)json_integer_value(v);
	return 0;
}

int js_bool(const json_t *o, const char *key, bool *ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_boolean(v))
		return bad(e, key, "is neither true nor false");
	*ret = json_is_true(v);
	return 0;
}

int js_word(const json_t *o, const char *key, const char **ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_string(v) || json_string_length(v) > JS_TEXT_MAX)
		return bad(e, key, "is not a text of reasonable length");
	*ret = json_string_value(v);
	return 0;
}

int js_text_value(const json_t *v, const char *what, char **ret, struct err *e)
{
	CLEANUP(free_ptr) char *text = NULL;
	size_t len;

	if (!json_is_string(v) || json_string_length(v) > JS_TEXT_MAX)
		return bad(e, what, "is not a text of reasonable length");
	if (text_unescape(json_string_value(v), &text, &len, e) < 0)
		return err_ctx(e, "member \"%s\"", what);
	if (strlen(text) != len)
		return bad(e, what, "contains a zero byte");
	*ret = STEAL(text);
	return 0;
}

int js_text(const json_t *o, const char *key, char **ret, struct err *e)
{
	return js_text_value(json_object_get(o, key), key, ret, e);
}

bool js_has(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return v && !json_is_null(v);
}

int js_text_opt(const json_t *o, const char *key, char **ret, struct err *e)
{
	if (js_has(o, key))
		return js_text(o, key, ret, e);
	*ret = NULL;
	return 0;
}

int js_name(const json_t *o, const char *key, char **ret, struct err *e)
{
	const char *word;
	char *copy;

	if (js_word(o, key, &word, e) < 0)
		return e->code;
	if (!text_is_name(word))
		return bad(e, key, "is not a name of 1 to 64 of A-Z a-z 0-9 . _ -");
	copy = strdup(word);
	if (!copy)
		return err_set(e, ERR_NOMEM, "no memory for a name");
	*ret = copy;
	return 0;
}

int js_hex(const json_t *o, const char *key, void *out, size_t len, struct err *e)
{
	const json_t *v = json_object_get(o, key);
	const char *hex = json_string_value(v);

	if (!hex || json_string_length(v) != 2 * len || strspn(hex, "0123456789abcdef") != 2 * len ||
	    !text_unhex(hex, out, len))
		return err_set(e, ERR_CORRUPT, "member \"%s\" is not %zu bytes in hex", key, len);
	return 0;
}

int js_hex_opt(const json_t *o, const char *key, void *out, size_t len, bool *ret_there, struct err *e)
{
	bool there = js_has(o, key);

	if (there && js_hex(o, key, out, len, e) < 0)
		return e->code;
	*ret_there = there;
	return 0;
}

int js_array(const json_t *o, const char *key, size_t max, const json_t **ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_array(v))
		return bad(e, key, "is not an array");
	if (json_array_size(v) > max)
		return err_set(e, ERR_CORRUPT, "member \"%s\" has %zu elements; at most %zu are possible", key,
			       json_array_size(v), max);
	*ret = v;
	return 0;
}

int js_object(const json_t *o, const char *key, const json_t **ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_object(v))
		return bad(e, key, "is not an object");
	*ret = v;
	return 0;
}

int js_choice(const json_t *o, const char *key, const char *const *words, size_t n, size_t *ret, struct err *e)
{
	const char *word;

	if (js_word(o, key, &word, e) < 0)
		return e->code;
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(words[i], word)) {
			*ret = i;
			return 0;
		}
	}
	return bad(e, key, "is none of the words that it can be");
}

json_t *js_new_text(const char *bytes)
{
	struct err e = ERR_INIT;
	char *escaped;
	json_t *v;

	if (!bytes)
		return json_null();
	escaped = text_escape(bytes, strlen(bytes), &e);
	if (!escaped)
		return NULL;
	v = json_string(escaped);
	free(escaped);
	return v;
}

json_t *js_new_hex(const void *p, size_t len)
{
	char hex[2 * ID_BYTES + 1];

	return len <= ID_BYTES ? json_string(text_hex(p, len, hex)) : NULL;
}

json_t *js_new_uint(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

json_t *js_new_bits(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static void drop(json_t **j)
{
	json_decref(*j);
	*j = NULL;
}

void js_set(json_t **o, const char *key, json_t *v)
{
	if (!*o)
		json_decref(v);
	else if (!v || json_object_set_new(*o, key, v) < 0)
		drop(o);
}

void js_push(json_t **a, json_t *v)
{
	if (!*a)
		json_decref(v);
	else if (!v || json_array_append_new(*a, v) < 0)
		drop(a);
}
