/*
 * xml.h - what S3 and STS answer, element by element.  Documents with a DTD are refused, depth and text are bounded;
 * whoever reads a document bounds its size.  Pure functions; any thread.
 */
#ifndef KEDGE_TRANSPORT_S3_XML_H
#define KEDGE_TRANSPORT_S3_XML_H

#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"

#define S3_XML_TEXT_MAX 16384u
#define S3_XML_DEPTH_MAX 16u

/* An element that closes: its name without prefix, its parent's ("" for the root), and its own text, which the callee
 * may change.  Negative stops. */
typedef int (*s3_xml_fn)(void *opaque, const char *parent, const char *name, char *text, struct err *e);
/* ERR_CORRUPT: not well-formed, has a DTD, too deep, too much text; ERR_NOMEM; what fn returned.  What was
 * buffered is wiped. */
MUST_CHECK int s3_xml_parse(const void *text, size_t len, s3_xml_fn fn, void *opaque, struct err *e);

/* <Error>: what a server says when it refuses.  "" = not said. */
struct s3_xml_error {
	char code[64], message[256], region[64], endpoint[256];
};
/* Whatever can be found in it; what is no such document gives empty members. */
void s3_xml_error(const void *text, size_t len, struct s3_xml_error *ret);

#endif
