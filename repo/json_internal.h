/*
 * json_internal.h - taking JSON from storage apart: every member's kind, range and length is checked, and the error
 * names it.
 *
 * Getters fail with ERR_CORRUPT and "member "x" ..."; the caller adds where ("disks[3]") by err_ctx.  Strings that
 * js_* return are malloc'ed.  Members that nobody asks for are ignored (docs/format.md 1).
 */
#ifndef KEDGE_REPO_JSON_INTERNAL_H
#define KEDGE_REPO_JSON_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

/* bytes of an escaped text: a snapshot's name can have 65535, each escaped to three */
#define JS_TEXT_MAX ((size_t)256 << 10)

static inline void js_decref(json_t **j) { json_decref(*j); }	/* for CLEANUP; NULL is fine */

/* Takes over jansson's allocations; js_parse and js_dump do it themselves, but it must have been done before several
 * threads use jansson. */
void js_begin(void);
/* One object; no duplicate members, a bounded number of values. */
MUST_CHECK int js_parse(const void *text, size_t len, json_t **ret, struct err *e);
/* The text of j, malloc'ed.  Takes ownership of j (may be NULL: out of memory while it was built). */
MUST_CHECK int js_dump(json_t *j, char **ret, size_t *ret_len, struct err *e);

MUST_CHECK int js_uint(const json_t *o, const char *key, uint64_t min, uint64_t max, uint64_t *ret, struct err *e);
MUST_CHECK int js_u32(const json_t *o, const char *key, uint32_t min, uint32_t max, uint32_t *ret, struct err *e);
/* any integer of 63 bits, not negative */
MUST_CHECK int js_time(const json_t *o, const char *key, int64_t *ret, struct err *e);
/* All 64 bits: what exceeds 2^63-1 is written minus 2^64. */
MUST_CHECK int js_bits(const json_t *o, const char *key, uint64_t *ret, struct err *e);
MUST_CHECK int js_bool(const json_t *o, const char *key, bool *ret, struct err *e);
/* Plain text as it stands (words, names).  Borrowed from o. */
MUST_CHECK int js_word(const json_t *o, const char *key, const char **ret, struct err *e);
/* Escaped text, unescaped. */
MUST_CHECK int js_text(const json_t *o, const char *key, char **ret, struct err *e);
/* As js_text; null or absent gives NULL. */
MUST_CHECK int js_text_opt(const json_t *o, const char *key, char **ret, struct err *e);
/* A name as text_is_name has it. */
MUST_CHECK int js_name(const json_t *o, const char *key, char **ret, struct err *e);
/* Exactly len bytes in lower-case hex. */
MUST_CHECK int js_hex(const json_t *o, const char *key, void *out, size_t len, struct err *e);
/* As js_hex; null or absent: *ret_there is false. */
MUST_CHECK int js_hex_opt(const json_t *o, const char *key, void *out, size_t len, bool *ret_there, struct err *e);
/* An array of at most max elements.  Borrowed. */
MUST_CHECK int js_array(const json_t *o, const char *key, size_t max, const json_t **ret, struct err *e);
MUST_CHECK int js_object(const json_t *o, const char *key, const json_t **ret, struct err *e);
/* True: the member is there and not null. */
bool js_has(const json_t *o, const char *key);
/* One string of words[0..n): *ret is its index. */
MUST_CHECK int js_choice(const json_t *o, const char *key, const char *const *words, size_t n, size_t *ret,
			 struct err *e);
/* Unescapes one string value; what names it in the error. */
MUST_CHECK int js_text_value(const json_t *v, const char *what, char **ret, struct err *e);

/* Building: NULL (out of memory) passes through, js_dump reports it. */
json_t *js_new_text(const char *bytes);			/* escaped; NULL gives null */
json_t *js_new_hex(const void *p, size_t len);
json_t *js_new_uint(uint64_t v);			/* at most 2^63-1, saturates */
json_t *js_new_bits(uint64_t v);
/* Adds and takes ownership of v; a failure (v NULL too) makes *o NULL and releases it. */
void js_set(json_t **o, const char *key, json_t *v);
void js_push(json_t **a, json_t *v);

#endif
