/* url.c - the location of an S3 repository, taken apart with suspicion: it decides who gets to see signatures. */
#include "transport/s3/url.h"

#include <string.h>

#include "base/num.h"
#include "base/text.h"

#define BUCKET_MAX 255		/* old buckets of us-east-1; today 63 */
#define PREFIX_MAX 800		/* S3 keys end at 1024 */
#define HOST_MAX 255

bool s3_is_location(const char *location)
{
	return strncmp(location, "s3:", 3) == 0;
}

bool s3_region_ok(const char *region)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-";
	size_t n = strlen(region);

	return n > 0 && n < S3_REGION_MAX && n == strspn(region, plain);
}

int s3_encode(struct buf *b, const char *s, bool keep_slash, struct err *e)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	for (; *s; s++) {
		char hex[4];
		bool as_is = strchr(plain, *s) || (*s == '/' && keep_slash);

		snprintf(hex, sizeof(hex), "%%%02X", (unsigned)(uint8_t)*s);
		if (buf_add(b, as_is ? s : hex, as_is ? 1 : 3, e) < 0)
			return e->code;
	}
	return 0;
}

bool s3_decode(char *s)
{
	char *to = s;

	while (*s) {
		char hex[3] = "";

		if (*s != '%') {
			*to++ = *s == '+' ? ' ' : *s;
			s++;
			continue;
		}
		hex[0] = s[1];
		hex[1] = s[1] ? s[2] : '\0';
		if (!text_unhex(hex, to, 1) || !*to)
			return false;
		to++;
		s += 3;
	}
	*to = '\0';
	return true;
}

void s3_place_done(struct s3_place *p)
{
	free(p->host);
	free(p->bucket);
	free(p->prefix);
	free(p->location);
	*p = (struct s3_place){ 0 };
}

static int bad_location(struct err *e, const char *why)
{
	err_set(e, ERR_INVALID, "the location of the S3 storage: %s", why);
	return err_hint(e,
			"write s3:https://HOST[:PORT]/BUCKET[/PREFIX], or s3://BUCKET[/PREFIX] with --s3-endpoint or "
			"--s3-region");
}

/* A name or an IPv4 address, or an IPv6 address in brackets. */
static bool host_ok(const char *s, size_t len)
{
	if (len > 2 && *s == '[')
		return s[len - 1] == ']' && strspn(s + 1, "0123456789abcdefABCDEF:.") == len - 2;
	return len > 0 && len <= HOST_MAX && *s != '.' && *s != '-' &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-") >= len;
}

/* "https://host[:port]" up to len into p: scheme and host. */
static int parse_endpoint(const char *s, size_t len, struct s3_place *p, struct err *e)
{
	size_t scheme = strncmp(s, "https://", 8) == 0 ? 8 : strncmp(s, "http://", 7) == 0 ? 7 : 0, n;
	const char *colon;
	uint64_t port = 0;
	char digits[8] = "";

	if (!scheme || len <= scheme)
		return bad_location(e, "an endpoint begins with https:// (or http://) and a host");
	p->tls = scheme == 8;
	s += scheme;
	len -= scheme;
	if (memchr(s, '@', len))
		return bad_location(e, "it has a user or password in it; credentials come from the environment or from "
				       "~/.aws/credentials");
	colon = memrchr(s, ':', len);
	if (colon && memchr(colon, ']', (size_t)(s + len - colon)))
		colon = NULL;	/* one of an IPv6 address */
	n = colon ? (size_t)(colon - s) : len;
	if (colon) {
		snprintf(digits, sizeof(digits), "%.*s", (int)min_size(len - n - 1, sizeof(digits) - 1), colon + 1);
		if (!parse_u64(digits, 1, 65535, &port))
			return bad_location(e, "the port is not a number from 1 to 65535");
	}
	if (!host_ok(s, n))
		return bad_location(e, "the host is no name and no address (IPv6 is written in brackets)");
	if (port == (p->tls ? 443 : 80))
		port = 0;	/* the Host header and the signature leave it out */
	p->host = port ? text_printf(e, "%.*s:%u", (int)n, s, (unsigned)port) : text_printf(e, "%.*s", (int)n, s);
	return p->host ? 0 : e->code;
}

/* "bucket[/prefix]". */
static int parse_path(const char *s, struct s3_place *p, struct err *e)
{
	size_t n = strcspn(s, "/"), len;
	const char *rest;

	if (n == 0 || n > BUCKET_MAX)
		return bad_location(e, "it names no bucket");
	if (strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") < n || *s == '.')
		return bad_location(e, "a bucket's name has letters, digits, '.', '-' and '_'");
	rest = s + n + (s[n] == '/');
	for (len = strlen(rest); len && rest[len - 1] == '/';)
		len--;
	if (len > PREFIX_MAX)
		return bad_location(e, "the prefix is longer than 800 bytes");
	for (size_t i = 0, part; i < len; i += part + 1) {
		part = strcspn(rest + i, "/");
		if (part == 0 || (part <= 2 && strspn(rest + i, ".") >= part))
			return bad_location(e, "the prefix has an empty part, \".\" or \"..\"");
	}
	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)rest[i] < 0x20 || rest[i] == 0x7f || strchr("?#", rest[i]))
			return bad_location(e, "the prefix has a control character, '?' or '#'");
	}
	p->bucket = text_printf(e, "%.*s", (int)n, s);
	p->prefix = text_printf(e, "%.*s%s", (int)len, rest, len ? "/" : "");
	return p->bucket && p->prefix ? 0 : e->code;
}

/* s3.REGION.amazonaws.com, s3-REGION., s3.dualstack.REGION., also of China: *ret_region; "" for s3.amazonaws.com. */
static bool is_aws_host(const char *host, char ret_region[static S3_REGION_MAX])
{
	const char *end = strstr(host, ".amazonaws.com"), *s = host;
	size_t n;

	if (!end || (strcmp(end, ".amazonaws.com") && strcmp(end, ".amazonaws.com.cn")) || strncmp(s, "s3", 2))
		return false;
	s += 2;
	if (strncmp(s, ".dualstack", 10) == 0)
		s += 10;
	s += *s == '.' || *s == '-' ? 1 : 0;
	n = s < end ? (size_t)(end - s) : 0;
	if (memchr(s, '.', n) || n >= S3_REGION_MAX)
		return false;
	memcpy(ret_region, s, n);
	ret_region[n] = '\0';
	return true;
}

char *s3_place_host(const struct s3_place *p, const char *region, struct err *e)
{
	const char *dot = p->virtual_host ? "." : "", *bucket = p->virtual_host ? p->bucket : "";

	if (!p->aws)
		return text_printf(e, "%s%s%s", bucket, dot, p->host);
	return text_printf(e, "%s%ss3.%s.amazonaws.com%s", bucket, dot, region, strncmp(region, "cn-", 3) ? "" : ".cn");
}

/* A bucket's name as a part of a host's: a certificate for *.host matches no dot. */
static bool dns_ok(const struct s3_place *p)
{
	size_t n = strlen(p->bucket);

	return n >= 3 && n <= 63 && strspn(p->bucket, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n &&
	       !(p->tls && strchr(p->bucket, '.')) && p->host[0] != '[' &&
	       strspn(p->host, "0123456789.:") != strlen(p->host);
}

static int choose_style(struct s3_place *p, enum s3_style style, bool aws_host, struct err *e)
{
	if (style == S3_STYLE_VIRTUAL && !dns_ok(p))
		return bad_location(e,
				    "the bucket's name (or an address as the host) does not allow virtual-host style");
	p->virtual_host = style == S3_STYLE_VIRTUAL || (style == S3_STYLE_AUTO && aws_host && dns_ok(p));
	return 0;
}

static int choose_region(struct s3_place *p, const char *given, const char *from_host, struct err *e)
{
	const char *region = given && *given ? given : from_host;

	p->region_known = *region != '\0';
	if (!p->region_known)
		region = "us-east-1";
	if (!s3_region_ok(region))
		return bad_location(e, "a region's name has letters, digits and hyphens");
	memcpy(p->region, region, strlen(region) + 1);
	return 0;
}

static int parse_parts(const char *location, const struct s3_place_opts *o, struct s3_place *p, struct err *e)
{
	const char *rest = location + strlen("s3:"), *endpoint = o->endpoint && *o->endpoint ? o->endpoint : NULL;
	bool short_form = strncmp(rest, "//", 2) == 0;
	char from_host[S3_REGION_MAX] = "";
	size_t n;

	if (!short_form) {
		const char *host = strstr(rest, "://");

		n = host ? (size_t)(host + 3 - rest) + strcspn(host + 3, "/") : strlen(rest);
		if (parse_endpoint(rest, n, p, e) < 0 || parse_path(rest + n + (rest[n] == '/'), p, e) < 0)
			return e->code;
	} else {
		if (parse_path(rest + 2, p, e) < 0)
			return e->code;
		n = endpoint ? strlen(endpoint) : 0;
		while (n && endpoint[n - 1] == '/')
			n--;
		if (endpoint && parse_endpoint(endpoint, n, p, e) < 0)
			return e->code;
		p->aws = !endpoint;
		p->tls |= p->aws;
	}
	if (!p->host && !(p->host = text_printf(e, "s3.amazonaws.com")))
		return e->code;
	/* The plain host of AWS is the same as none: the right one follows from the region. */
	if (is_aws_host(p->host, from_host) && p->tls)
		p->aws |= strcmp(p->host, "s3.amazonaws.com") == 0;
	if (choose_region(p, o->region, from_host, e) < 0)
		return e->code;
	return choose_style(p, o->style, is_aws_host(p->host, from_host), e);
}

int s3_place_parse(const char *location, const struct s3_place_opts *o, struct s3_place *ret, struct err *e)
{
	struct s3_place p = { 0 };
	int len;

	if (parse_parts(location, o, &p, e) < 0) {
		s3_place_done(&p);
		return e->code;
	}
	len = (int)strlen(p.prefix);
	p.location = text_printf(e, "s3:http%s://%s/%s%s%.*s", p.tls ? "s" : "", p.host, p.bucket, len ? "/" : "",
				 len ? len - 1 : 0, p.prefix);
	if (!p.location) {
		s3_place_done(&p);
		return e->code;
	}
	*ret = p;
	return 0;
}
