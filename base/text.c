/* text.c - byte strings from outside as safe text. */
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"

/*
 * Length of the valid UTF-8 sequence at s (1..4), 0 if there is none.  Refuses overlong forms, surrogates and code
 * points beyond U+10FFFF (RFC 3629, section 4).
 */
static size_t utf8_len(const uint8_t *s, size_t left)
{
	uint8_t lo = 0x80, hi = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > left)
		return 0;
	switch (s[0]) {
	case 0xe0: lo = 0xa0; break;
	case 0xed: hi = 0x9f; break;
	case 0xf0: lo = 0x90; break;
	case 0xf4: hi = 0x8f; break;
	default: break;
	}
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

/* Bytes at s that may go to a terminal as they are; 0: this byte must be shown as \xNN.  C1 controls (U+0080..9F) and
 * the marks that turn the direction of text round (U+202A..202E, U+2066..2069) could disguise a name. */
static size_t printable_len(const uint8_t *s, size_t left)
{
	size_t n = utf8_len(s, left);

	if (n == 1 && (s[0] < 0x20 || s[0] == 0x7f || s[0] == '\\'))
		return 0;
	if (n == 2 && s[0] == 0xc2 && s[1] < 0xa0)
		return 0;
	if (n == 3 && s[0] == 0xe2 && ((s[1] == 0x80 && s[2] >= 0xaa && s[2] <= 0xae) ||
				       (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)))
		return 0;
	return n;
}

const char *text_quote(const char *s, char *buf, size_t len)
{
	const uint8_t *p = (const uint8_t *)s;
	size_t left = strlen(s), used = 0, keep = 0;

	if (!len)
		return buf;
	while (left) {
		size_t n = printable_len(p, left);
		char hex[5];
		size_t out = n ? n : 4;

		if (used + out + 1 > len)
			break;
		if (n) {
			memcpy(buf + used, p, n);
		} else {
			snprintf(hex, sizeof(hex), "\\x%02x", *p);
			memcpy(buf + used, hex, 4);
		}
		used += out;
		if (used + 4 <= len)
			keep = used;	/* the last end behind which "..." still fits */
		p += n ? n : 1;
		left -= n ? n : 1;
	}
	if (left && len >= 4) {
		memcpy(buf + keep, "...", 3);
		used = keep + 3;
	}
	buf[used] = '\0';
	return buf;
}

/* Bytes of the word that one byte (or one printable sequence, *ret_n bytes) of s becomes; written to out, which has
 * 5. */
static size_t shell_piece(const uint8_t *s, size_t left, bool ansi, char *out, size_t *ret_n)
{
	size_t n = printable_len(s, left);

	*ret_n = n ? n : 1;
	if (ansi && (!n || *s == '\\' || *s == '\''))
		return (size_t)snprintf(out, 5, "\\x%02x", *s);
	if (*s == '\'') {
		memcpy(out, "'\\''", 4);
		return 4;
	}
	memcpy(out, s, *ret_n);
	return *ret_n;
}

const char *text_shell(const char *s, char *buf, size_t len)
{
	static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./_-";
	const uint8_t *p = (const uint8_t *)s;
	size_t left = strlen(s), used;
	bool plain = left && strspn(s, safe) == left, ansi = false;
	char out[5];

	for (size_t i = 0, n; i < left; i += n) {
		n = printable_len(p + i, left - i);
		ansi |= !n && p[i] != '\\';
		n += !n;
	}
	used = plain ? 0 : ansi ? 2 : 1;
	if (used + 2 <= len)
		memcpy(buf, ansi ? "$'" : "'", used);
	for (size_t n; left; p += n, left -= n) {
		size_t w = shell_piece(p, left, ansi, out, &n);

		if (used + w + 2 > len)
			break;
		memcpy(buf + used, out, w);
		used += w;
	}
	if (left || used + 2 > len) {
		snprintf(buf, len, "...");
		return buf;
	}
	if (!plain)
		buf[used++] = '\'';
	buf[used] = '\0';
	return buf;
}

char *text_escape(const void *s, size_t len, struct err *e)
{
	static const char digits[] = "0123456789ABCDEF";
	const uint8_t *p = s;
	size_t size, used = 0;
	char *out = NULL;

	if (mul_size(len, 3, &size) && size < SIZE_MAX)
		out = malloc(size + 1);
	if (!out) {
		(void)err_set(e, ERR_NOMEM, "no memory to escape a text of %zu bytes", len);
		return NULL;
	}
	while (len) {
		size_t n = utf8_len(p, len);

		if (n == 0 || *p < 0x20 || *p == 0x7f || *p == '%') {
			n = 1;
			out[used++] = '%';
			out[used++] = digits[*p >> 4];
			out[used++] = digits[*p & 15];
		} else {
			memcpy(out + used, p, n);
			used += n;
		}
		p += n;
		len -= n;
	}
	out[used] = '\0';
	return out;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int text_unescape(const char *s, char **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(free_ptr) char *out = malloc(strlen(s) + 1);
	size_t used = 0;

	if (!out)
		return err_set(e, ERR_NOMEM, "no memory to unescape a text");
	while (*s) {
		uint8_t byte;

		if (*s != '%') {
			out[used++] = *s++;
			continue;
		}
		if (!s[1] || !text_unhex((char[3]){ s[1], s[2], 0 }, &byte, 1))
			return err_set(e, ERR_CORRUPT, "'%%' without two hex digits behind it");
		out[used++] = (char)byte;
		s += 3;
	}
	out[used] = '\0';
	*ret_len = used;
	*ret = STEAL(out);
	return 0;
}

const char *text_hex(const void *p, size_t len, char *buf)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++) {
		buf[2 * i] = digits[b[i] >> 4];
		buf[2 * i + 1] = digits[b[i] & 15];
	}
	buf[2 * len] = '\0';
	return buf;
}

bool text_unhex(const char *hex, void *p, size_t len)
{
	uint8_t *b = p;

	for (size_t i = 0; i < 2 * len; i++)	/* validate all first: p stays untouched on failure */
		if (hex_digit(hex[i]) < 0)
			return false;
	if (hex[2 * len])
		return false;
	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
	return true;
}

bool text_is_name(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n >= 1 && n <= 64 && !s[n] && strcmp(s, ".") && strcmp(s, "..");
}

static size_t put_utf8(char *to, uint32_t c)
{
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

	for (size_t i = n; --i > 0; c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(lead[n] | c);
	return n;
}

char *text_from_utf16(const uint8_t *p, size_t units, bool big_endian, struct err *e)
{
	char *text = units < SIZE_MAX / 4 ? malloc(units * 3 + 1) : NULL, *to = text;

	if (!text) {
		(void)err_set(e, ERR_NOMEM, "text of %zu characters", units);
		return NULL;
	}
	for (size_t i = 0; i < units; i++) {
		uint32_t c = big_endian ? get_be16(p + 2 * i) : get_le16(p + 2 * i), low;

		if (!c)
			break;
		if ((c & 0xf800) == 0xd800) {
			low = i + 1 == units ? 0 : big_endian ? get_be16(p + 2 * i + 2) : get_le16(p + 2 * i + 2);
			if (c >= 0xdc00 || (low & 0xfc00) != 0xdc00) {
				free(text);
				(void)err_set(e, ERR_CORRUPT, "not UTF-16: 0x%04" PRIx32 " stands alone", c);
				return NULL;
			}
			c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
			i++;
		}
		to += put_utf8(to, c);
	}
	*to = '\0';
	return text;
}

char *text_printf(struct err *e, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n >= 0)
		return s;
	(void)err_set(e, ERR_NOMEM, "no memory for a text");
	return NULL;
}
