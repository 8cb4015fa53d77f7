/* creds_json.c - credentials as JSON, read in place: a library for JSON would leave copies of them behind. */
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "transport/s3/creds_internal.h"

/* A member: its value is part of the text, and may be changed.  Negative stops. */
typedef int (*member_fn)(void *opaque, const char *key, size_t key_len, char *value, size_t len, struct err *e);

struct cursor {
	char *p, *end;
};

static void skip_space(struct cursor *c)
{
	while (c->p < c->end && strchr(" \t\r\n", *c->p) && *c->p)
		c->p++;
}

static bool take_char(struct cursor *c, char wanted)
{
	skip_space(c);
	if (c->p == c->end || *c->p != wanted)
		return false;
	c->p++;
	return true;
}

/* Undoes \/ \" \\ in place. */
static bool take_string(struct cursor *c, char **ret, size_t *ret_len)
{
	char *to, *from;

	if (!take_char(c, '"'))
		return false;
	for (from = to = *ret = c->p; from < c->end && *from != '"'; from++) {
		if ((uint8_t)*from < 0x20)
			return false;
		if (*from == '\\') {
			from++;
			if (from == c->end || !*from || !strchr("/\"\\", *from))
				return false;
		}
		*to++ = *from;
	}
	if (from == c->end)
		return false;
	c->p = from + 1;
	*ret_len = (size_t)(to - *ret);
	return true;
}

/* A number, true, false, null. */
static bool take_literal(struct cursor *c, char **ret, size_t *ret_len)
{
	skip_space(c);
	*ret = c->p;
	while (c->p < c->end && *c->p && strchr("abcdefghijklmnopqrstuvwxyzE0123456789+-.", *c->p))
		c->p++;
	*ret_len = (size_t)(c->p - *ret);
	return *ret_len > 0;
}

/* Values are strings (without escapes other than \/ \" \\) or literals. */
static int parse_flat(char *text, size_t len, member_fn fn, void *opaque, struct err *e)
{
	struct cursor c = { .p = text, .end = text + len };
	bool more = true;

	if (!take_char(&c, '{'))
		goto bad;
	more = !take_char(&c, '}');
	while (more) {
		char *key, *value;
		size_t key_len, n;

		if (!take_string(&c, &key, &key_len) || !take_char(&c, ':'))
			goto bad;
		if (!take_string(&c, &value, &n) && !take_literal(&c, &value, &n))
			goto bad;
		if (fn(opaque, key, key_len, value, n, e) < 0)
			return e->code;
		more = take_char(&c, ',');
		if (!more && !take_char(&c, '}'))
			goto bad;
	}
	skip_space(&c);
	if (c.p == c.end)
		return 0;
bad:
	return err_set(e, ERR_CORRUPT, "the answer is not the JSON that is expected");
}

static bool two_digits(const char *s, int *ret)
{
	if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9')
		return false;
	*ret = (s[0] - '0') * 10 + (s[1] - '0');
	return true;
}

bool s3_time_iso(const char *s, int64_t *ret_ns)
{
	int century, year, month, day, hour, minute, second, zone_h, zone_m = 0;
	struct tm t = { 0 };
	int64_t v;

	if (strnlen(s, 20) < 20 || !two_digits(s, &century) || !two_digits(s + 2, &year) || s[4] != '-' ||
	    !two_digits(s + 5, &month) || s[7] != '-' || !two_digits(s + 8, &day) || !strchr("Tt ", s[10]) ||
	    !two_digits(s + 11, &hour) || s[13] != ':' || !two_digits(s + 14, &minute) || s[16] != ':' ||
	    !two_digits(s + 17, &second) || month < 1 || month > 12 || day < 1 || day > 31)
		return false;
	t.tm_year = century * 100 + year - 1900;
	t.tm_mon = month - 1;
	t.tm_mday = day;
	t.tm_hour = hour;
	t.tm_min = minute;
	t.tm_sec = second;
	if (t.tm_year < 70)
		return false;
	v = (int64_t)timegm(&t);
	s += 19;
	if (*s == '.')
		s += 1 + strspn(s + 1, "0123456789");
	if (*s == '+' || *s == '-') {
		int sign = *s == '-' ? 1 : -1;

		if (!two_digits(s + 1, &zone_h))
			return false;
		if (s[3] == ':' && !two_digits(s + 4, &zone_m))
			return false;
		v += sign * (zone_h * 3600 + zone_m * 60);
	} else if (strcmp(s, "Z") && strcmp(s, "z")) {
		return false;
	}
	if (v < 0 || v > INT64_MAX / 1000000000)
		return false;
	*ret_ns = v * 1000000000;
	return true;
}

static bool is(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(s, word, len) == 0;
}

static int on_member(void *opaque, const char *key, size_t key_len, char *v, size_t len, struct err *e)
{
	struct s3_creds *c = opaque;
	char when[64];

	if (is(key, key_len, "AccessKeyId"))
		return s3_secret_copy(c->access, sizeof(c->access), v, len, "AccessKeyId", e);
	if (is(key, key_len, "SecretAccessKey"))
		return s3_secret_copy(c->secret, sizeof(c->secret), v, len, "SecretAccessKey", e);
	if (is(key, key_len, "Token") || is(key, key_len, "SessionToken"))
		return is(v, len, "null") ? 0
					  : s3_secret_copy(c->token, sizeof(c->token), v, len, "the session token", e);
	if (is(key, key_len, "Expiration") && !is(v, len, "null")) {
		snprintf(when, sizeof(when), "%.*s", (int)min_size(len, sizeof(when) - 1), v);
		if (!s3_time_iso(when, &c->expires_ns))
			return err_set(e, ERR_CORRUPT, "Expiration is no time");
	}
	if (is(key, key_len, "Code") && !is(v, len, "Success"))
		return err_set(e, ERR_REFUSED, "it says \"%.*s\"", (int)min_size(len, 64), v);
	return 0;
}

int s3_creds_json(char *text, size_t len, struct s3_creds *ret, struct err *e)
{
	if (parse_flat(text, len, on_member, ret, e) < 0)
		return e->code;
	if (!*ret->access || !*ret->secret)
		return err_set(e, ERR_CORRUPT, "AccessKeyId or SecretAccessKey is missing");
	return 0;
}
