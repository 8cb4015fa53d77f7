/*
 * url.h - where an S3 repository is: endpoint, bucket, prefix and region from what people write.
 *
 *	s3:https://HOST[:PORT]/BUCKET[/PREFIX]		the endpoint is part of it (http: too, [IPv6] too)
 *	s3://BUCKET[/PREFIX]				AWS, or the endpoint given beside it
 *
 * A struct s3_place is constant once it is made; any thread may read it.
 */
#ifndef KEDGE_TRANSPORT_S3_URL_H
#define KEDGE_TRANSPORT_S3_URL_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define S3_REGION_MAX 64

enum s3_style { S3_STYLE_AUTO, S3_STYLE_PATH, S3_STYLE_VIRTUAL };

/* What is given beside the location.  NULL: not given. */
struct s3_place_opts {
	const char *endpoint;		/* "https://host[:port]"; wins over the environment */
	const char *region;
	enum s3_style style;		/* auto: virtual-host style for AWS where the bucket's name allows it */
};

struct s3_place {
	bool tls;
	bool aws;		/* the host follows from the region: s3.REGION.amazonaws.com */
	bool virtual_host;	/* the bucket is in the host's name, not in the path */
	bool region_known;	/* somebody named it; else it is a guess that the server may correct */
	char *host;		/* without bucket; IPv6 in brackets; ":port" unless it is the default */
	char *bucket, *prefix;	/* prefix: "" or "a/b/" */
	char region[S3_REGION_MAX];
	char *location;		/* for messages: "s3:https://host/bucket/prefix" */
};

/* Is the location one of S3? */
bool s3_is_location(const char *location);
/* ERR_INVALID with the reason and a hint; a location with a password in it is refused and not repeated. */
MUST_CHECK int s3_place_parse(const char *location, const struct s3_place_opts *o, struct s3_place *ret, struct err *e);
void s3_place_done(struct s3_place *p);	/* zeroes it */
/* The host that requests go to when the bucket lies in region: text_printf'ed, the caller's. */
MUST_CHECK char *s3_place_host(const struct s3_place *p, const char *region, struct err *e);
/* Letters, digits and hyphens, as regions are: what a server says may end up in a host's name. */
bool s3_region_ok(const char *region);

/* Appends s as URLs and SigV4 want it: all but A-Z a-z 0-9 - . _ ~ (and / if slashes stay) as %XX, upper case. */
MUST_CHECK int s3_encode(struct buf *b, const char *s, bool keep_slash, struct err *e);
/* Undoes %XX and, as in forms, '+'; in place.  False: a malformed escape, or a NUL. */
bool s3_decode(char *s);

#endif
