/* xml.c - expat, kept on a short lead: no DTD, hence no entities; bounded depth and text. */
#include "transport/s3/xml.h"

#include <expat.h>
#include <sodium.h>
#include <string.h>

#include "base/num.h"

#define NAME_MAX_BYTES 64

struct walk {
	XML_Parser parser;
	s3_xml_fn fn;
	void *opaque;
	struct err *e;
	unsigned depth;
	char names[S3_XML_DEPTH_MAX + 1][NAME_MAX_BYTES];	/* [0] = "", above the root */
	char *text;		/* of the innermost element */
	size_t len;
};

static void fail(struct walk *w, const char *what)
{
	if (!w->e->code)
		(void)err_set(w->e, ERR_CORRUPT, "the server's answer %s", what);
	(void)XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL on_start(void *opaque, const XML_Char *name, const XML_Char **attributes)
{
	struct walk *w = opaque;
	const char *colon = strrchr(name, ':');

	(void)attributes;
	if (w->e->code)
		return;
	if (w->depth == S3_XML_DEPTH_MAX) {
		fail(w, "is nested too deep");
		return;
	}
	w->depth++;
	snprintf(w->names[w->depth], NAME_MAX_BYTES, "%s", colon ? colon + 1 : name);
	w->len = 0;
}

static void XMLCALL on_end(void *opaque, const XML_Char *name)
{
	struct walk *w = opaque;

	(void)name;
	if (w->e->code)
		return;
	w->text[w->len] = '\0';
	if (w->fn(w->opaque, w->names[w->depth - 1], w->names[w->depth], w->text, w->e) < 0)
		(void)XML_StopParser(w->parser, XML_FALSE);
	w->depth--;
	w->len = 0;
}

static void XMLCALL on_text(void *opaque, const XML_Char *s, int len)
{
	struct walk *w = opaque;
	size_t n = (size_t)len;

	if (w->e->code)
		return;
	if (n > S3_XML_TEXT_MAX - w->len) {
		fail(w, "has an element with too much text");
		return;
	}
	memcpy(w->text + w->len, s, n);
	w->len += n;
}

/* S3 has no use for one: its entities are how a small document becomes a huge one. */
static void XMLCALL on_dtd(void *opaque, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id,
			   int has_internal)
{
	(void)name, (void)system_id, (void)public_id, (void)has_internal;
	fail(opaque, "has a DTD, which S3's never have");
}

int s3_xml_parse(const void *text, size_t len, s3_xml_fn fn, void *opaque, struct err *e)
{
	struct err why = ERR_INIT;	/* e may hold what somebody else has failed with */
	struct walk w = { .fn = fn, .opaque = opaque, .e = &why };
	int r;

	if (len > INT32_MAX)
		return err_set(e, ERR_CORRUPT, "the server's answer has %zu bytes", len);
	w.parser = XML_ParserCreate(NULL);
	w.text = malloc(S3_XML_TEXT_MAX + 1);
	if (!w.parser || !w.text) {
		if (w.parser)
			XML_ParserFree(w.parser);
		free(w.text);
		return err_set(e, ERR_NOMEM, "XML parser");
	}
	XML_SetUserData(w.parser, &w);
	XML_SetElementHandler(w.parser, on_start, on_end);
	XML_SetCharacterDataHandler(w.parser, on_text);
	XML_SetStartDoctypeDeclHandler(w.parser, on_dtd);
	r = XML_Parse(w.parser, len ? text : "", (int)len, XML_TRUE);
	if (r != XML_STATUS_OK && !why.code) {
		enum XML_Error code = XML_GetErrorCode(w.parser);

		(void)err_set(&why, code == XML_ERROR_NO_MEMORY ? ERR_NOMEM : ERR_CORRUPT,
			      "the server's answer is no XML that can be read: %s", XML_ErrorString(code));
	}
	XML_ParserFree(w.parser);
	sodium_memzero(w.text, S3_XML_TEXT_MAX + 1);
	free(w.text);
	if (why.code)
		*e = why;
	return why.code;
}

static int on_error(void *opaque, const char *parent, const char *name, char *text, struct err *e)
{
	struct s3_xml_error *x = opaque;

	(void)e;
	if (strcmp(parent, "Error"))
		return 0;
	if (!strcmp(name, "Code"))
		snprintf(x->code, sizeof(x->code), "%s", text);
	else if (!strcmp(name, "Message"))
		snprintf(x->message, sizeof(x->message), "%.255s", text);
	else if (!strcmp(name, "Region"))
		snprintf(x->region, sizeof(x->region), "%s", text);
	else if (!strcmp(name, "Endpoint"))
		snprintf(x->endpoint, sizeof(x->endpoint), "%s", text);
	return 0;
}

void s3_xml_error(const void *text, size_t len, struct s3_xml_error *ret)
{
	struct s3_xml_error x = { 0 };
	struct err unheard = ERR_INIT;	/* a proxy's page says as much as nothing */

	(void)!s3_xml_parse(text, len, on_error, &x, &unheard);
	*ret = x;
}
