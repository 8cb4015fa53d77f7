/* fuzz_s3.c - what servers and files say to the S3 store: XML, the JSON of credentials, times, keys, locations. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "transport/s3/creds.h"
#include "transport/s3/parse.h"
#include "transport/s3/url.h"
#include "transport/s3/xml.h"

static int on_element(void *opaque, const char *parent, const char *name, char *text, struct err *e)
{
	size_t *n = opaque;

	(void)e;
	*n += strlen(parent) + strlen(name) + strlen(text);
	(void)s3_decode(text);
	return 0;
}

static void location(const char *text)
{
	const struct s3_place_opts o = { .endpoint = text }, none = { 0 };
	struct err e = ERR_INIT;
	struct s3_place p, again;

	if (s3_place_parse("s3://bucket/p", &o, &p, &e) == 0)
		s3_place_done(&p);
	err_clear(&e);
	if (strncmp(text, "s3:", 3) || s3_place_parse(text, &none, &p, &e) < 0)
		return;
	/* what it says of itself is the same place again */
	if (!p.aws && (s3_place_parse(p.location, &none, &again, &e) < 0 || strcmp(again.location, p.location) ||
		       strcmp(again.prefix, p.prefix) || strcmp(again.host, p.host)))
		abort();
	if (!p.aws)
		s3_place_done(&again);
	s3_place_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct s3_creds creds;
	struct s3_xml_error x;
	struct err e = ERR_INIT;
	char *text = malloc(size + 1);
	int64_t when;
	size_t n = 0;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	(void)!s3_xml_parse(data, size, on_element, &n, &e);
	err_clear(&e);
	s3_xml_error(data, size, &x);
	if (s3_time_iso(text, &when) && when < 0)
		abort();
	location(text);
	memset(&creds, 0, sizeof(creds));
	if (s3_creds_json(text, size, &creds, &e) == 0 && (!creds.access[0] || !creds.secret[0]))
		abort();
	free(text);
	return 0;
}
