/*
 * text.h - byte strings from outside as text that is safe to print, store and compare.
 *
 * Names and paths are byte strings.  text_quote makes them printable on a terminal; text_escape is the reversible form
 * that the repository's JSON uses (docs/format.md): bytes below 0x20, 0x7f, '%', and bytes that are not part of valid
 * UTF-8 become %XX.  Pure functions; any thread.
 */
#ifndef KEDGE_BASE_TEXT_H
#define KEDGE_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

/* Copies s to buf with control characters and invalid UTF-8 as \xNN, shortened with "..." to fit.  Returns buf. */
const char *text_quote(const char *s, char *buf, size_t len);
/*
 * s as one word of a command line that a user may paste into a shell: as it is where that is safe, else in single
 * quotes, or in bash's $'...' where it has bytes that text_quote wouldn't print.  One that doesn't fit becomes "...":
 * never half a word.  Returns buf.
 */
const char *text_shell(const char *s, char *buf, size_t len);
/* The reversible form of len bytes at s, malloc'ed; NULL with *e set when out of memory. */
MUST_CHECK char *text_escape(const void *s, size_t len, struct err *e);
/* The bytes of an escaped string, malloc'ed and NUL-terminated beyond *ret_len; ERR_CORRUPT on a malformed escape. */
MUST_CHECK int text_unescape(const char *s, char **ret, size_t *ret_len, struct err *e);
/* Lower-case hex of len bytes; buf takes 2*len+1. */
const char *text_hex(const void *p, size_t len, char *buf);
/* Exactly len bytes from 2*len hex digits (either case), nothing after; false otherwise. */
bool text_unhex(const char *hex, void *p, size_t len);
/* True when s is 1..64 characters of [A-Za-z0-9._-] and not "." or "..". */
bool text_is_name(const char *s);
/* The UTF-8 of the UTF-16 code units at p, up to a NUL or all of them, malloc'ed; ERR_CORRUPT where a surrogate has no
 * partner. */
MUST_CHECK char *text_from_utf16(const uint8_t *p, size_t units, bool big_endian, struct err *e);
/* malloc'ed printf; NULL with *e set when out of memory. */
MUST_CHECK char *text_printf(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
