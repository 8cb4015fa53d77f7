/* num.c - numbers as people write them. */
#include "base/num.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Digits at *s as a number; *s moves behind them.  False: none there, or too large. */
static bool take_digits(const char **s, uint64_t *ret)
{
	const char *p = *s;
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (!mul_u64(v, 10, &v) || !add_u64(v, (uint64_t)(*p - '0'), &v))
			return false;
	*s = p;
	*ret = v;
	return true;
}

/* The shift of "", "B", "K", "KB", "KiB", ... in either case; -1 if it is none of these. */
static int unit_shift(const char *s)
{
	static const char units[] = "KMGTP";
	const char *u;

	if (!*s || !strcmp(s, "B") || !strcmp(s, "b"))
		return 0;
	u = strchr(units, toupper((unsigned char)*s));
	if (!u)
		return -1;
	s++;
	if ((s[0] == 'i' || s[0] == 'I') && (s[1] == 'B' || s[1] == 'b'))
		s++;
	if (*s == 'B' || *s == 'b')
		s++;
	return *s ? -1 : 10 * (int)(u - units + 1);
}

bool parse_size(const char *text, uint64_t *ret)
{
	uint64_t whole, unit, frac = 0, scale = 1, v;
	const char *p = text;
	int shift;

	if (!take_digits(&p, &whole))
		return false;
	if (*p == '.') {
		p++;
		if (*p < '0' || *p > '9')
			return false;
		for (; *p >= '0' && *p <= '9'; p++) {
			if (scale >= 1000)
				continue;	/* beyond thousandths nobody means it; keeps frac * unit in range */
			frac = frac * 10 + (uint64_t)(*p - '0');
			scale *= 10;
		}
	}
	while (*p == ' ')
		p++;
	shift = unit_shift(p);
	if (shift < 0 || (shift == 0 && scale > 1))
		return false;
	unit = (uint64_t)1 << shift;
	if (!mul_u64(whole, unit, &v) || !add_u64(v, frac * unit / scale, &v))
		return false;
	*ret = v;
	return true;
}

bool parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v;

	if (!take_digits(&text, &v) || *text || v < min || v > max)
		return false;
	*ret = v;
	return true;
}

const char *human_bytes(uint64_t v, char buf[static HUMAN_BYTES_MAX])
{
	static const char units[] = "KMGTPE";
	uint64_t whole = v, rest = 0;
	unsigned tenths, i = 0;

	if (v < 1024) {
		snprintf(buf, HUMAN_BYTES_MAX, "%u B", (unsigned)v);
		return buf;
	}
	for (; whole >= 1024; i++) {
		rest = whole % 1024;
		whole /= 1024;
	}
	tenths = (unsigned)(rest * 10 / 1024);
	snprintf(buf, HUMAN_BYTES_MAX, "%u.%u %ciB", (unsigned)whole, tenths, units[i - 1]);
	return buf;
}
