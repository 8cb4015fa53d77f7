/* clock.c - the two clocks, and times as text. */
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

/* Tests move the clock with KEDGE_TEST_TIME_OFFSET; anything but a whole number of seconds counts as 0. */
static int64_t test_offset_s(void)
{
	const char *text = getenv("KEDGE_TEST_TIME_OFFSET");
	char *end;
	long long v;

	if (!text || !*text)
		return 0;
	v = strtoll(text, &end, 10);
	return *end || v > 4000000000LL || v < -4000000000LL ? 0 : v;
}

int64_t clock_wall_ns(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_REALTIME, &ts);
	return (ts.tv_sec + test_offset_s()) * NS_PER_S + ts.tv_nsec;
}

/* "b49740e8-8dde-418a-9725-f337dd5e0833" */
static bool parse_uuid(const char *text, uint8_t ret[static 16])
{
	size_t n = 0;

	for (; *text && *text != '\n'; text++) {
		static const char digits[] = "0123456789abcdef";
		const char *d = strchr(digits, *text);

		if (*text == '-')
			continue;
		if (!d || n == 32)
			return false;
		ret[n / 2] = (uint8_t)(n % 2 ? ret[n / 2] << 4 | (d - digits) : d - digits);
		n++;
	}
	return n == 32;
}

bool clock_boot_id(uint8_t ret[static 16])
{
	const char *test = getenv("KEDGE_TEST_BOOT_ID");
	char text[64] = "";
	FILE *f;
	bool ok;

	if (test && *test)
		return parse_uuid(test, ret);
	f = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (!f)
		return false;
	ok = fgets(text, sizeof(text), f) && parse_uuid(text, ret);
	fclose(f);
	return ok;
}

double clock_mono(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static time_t floor_seconds(int64_t ns)
{
	return (time_t)(ns / NS_PER_S - (ns % NS_PER_S < 0));
}

const char *clock_utc_text(int64_t wall_ns, char buf[static 32])
{
	time_t t = floor_seconds(wall_ns);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(buf, 32, "?");
	return buf;
}

const char *clock_local_text(int64_t wall_ns, char buf[static 32])
{
	time_t t = floor_seconds(wall_ns);
	struct tm tm;

	tzset();	/* localtime_r need not */
	if (!localtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(buf, 32, "?");
	return buf;
}

/* Exactly n digits at *s in [lo, hi]; moves *s. */
static bool take_field(const char **s, int n, int lo, int hi, int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		if ((*s)[i] < '0' || (*s)[i] > '9')
			return false;
		v = v * 10 + ((*s)[i] - '0');
	}
	if (v < lo || v > hi)
		return false;
	*s += n;
	*ret = v;
	return true;
}

static bool take_char(const char **s, char c)
{
	if (**s != c)
		return false;
	++*s;
	return true;
}

/* The instant of a broken-down time as given; false when there is no such day ("2026-02-30"). */
static bool instant(struct tm tm, bool utc, int64_t *ret_s)
{
	struct tm got = tm;
	time_t t;

	got.tm_isdst = -1;
	t = utc ? timegm(&got) : mktime(&got);
	if (got.tm_mday != tm.tm_mday || got.tm_mon != tm.tm_mon || got.tm_year != tm.tm_year)
		return false;
	*ret_s = (int64_t)t;
	return true;
}

/* [first, last] second of the local day; the next midnight is computed, days have 23 to 25 hours. */
static bool parse_day(struct tm tm, int64_t *ret_from, int64_t *ret_to)
{
	int64_t from;
	time_t next;

	if (!instant(tm, false, &from))
		return false;
	tm.tm_mday++;
	tm.tm_isdst = -1;
	next = mktime(&tm);
	*ret_from = from * NS_PER_S;
	*ret_to = (int64_t)next * NS_PER_S - 1;
	return true;
}

bool clock_parse(const char *text, int64_t *ret_from, int64_t *ret_to, bool *ret_is_day)
{
	int year, mon, mday, hour, min, sec = 0;
	int64_t at, span = 60;
	struct tm tm = { 0 };
	const char *s = text;
	bool utc;

	tzset();
	if (!take_field(&s, 4, 1970, 2200, &year) || !take_char(&s, '-') || !take_field(&s, 2, 1, 12, &mon) ||
	    !take_char(&s, '-') || !take_field(&s, 2, 1, 31, &mday))
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = mon - 1;
	tm.tm_mday = mday;
	if (!*s) {
		if (!parse_day(tm, ret_from, ret_to))
			return false;
		*ret_is_day = true;
		return true;
	}
	if ((!take_char(&s, 'T') && !take_char(&s, ' ')) || !take_field(&s, 2, 0, 23, &hour) || !take_char(&s, ':') ||
	    !take_field(&s, 2, 0, 59, &min))
		return false;
	if (take_char(&s, ':')) {
		if (!take_field(&s, 2, 0, 59, &sec))
			return false;
		span = 1;
	}
	utc = take_char(&s, 'Z');
	tm.tm_hour = hour;
	tm.tm_min = min;
	tm.tm_sec = sec;
	if (*s || !instant(tm, utc, &at))
		return false;
	*ret_from = *ret_to = (at + span) * NS_PER_S - 1;
	*ret_is_day = false;
	return true;
}
