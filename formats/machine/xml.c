/*
 * xml.c - XML of strangers: expat, with bounds and without entities.
 */
#include <expat.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"

struct walk {
	XML_Parser parser;
	const struct xml_ops *ops;
	void *opaque;
	unsigned depth;
	unsigned text_depth;	/* of the element that text belongs to */
	struct buf text;
	struct err *e;
};

static void stop(struct walk *w)
{
	(void)XML_StopParser(w->parser, XML_FALSE);	/* fails only when it is stopped already */
}

static void XMLCALL on_start(void *opaque, const XML_Char *name, const XML_Char **attributes)
{
	struct walk *w = opaque;

	if (w->e->code)
		return;
	w->text_depth = ++w->depth;
	buf_clear(&w->text);
	if (w->depth > XML_DEPTH_MAX)
		(void)err_set(w->e, ERR_UNSUPPORTED, "elements are nested more than %u deep", XML_DEPTH_MAX);
	if (w->e->code || w->ops->start(w->opaque, w->depth, name, (const char *const *)attributes, w->e) < 0)
		stop(w);
}

static void XMLCALL on_end(void *opaque, const XML_Char *name)
{
	struct walk *w = opaque;
	bool own = w->text_depth == w->depth;	/* else there were elements in it: then its text doesn't matter */

	if (w->e->code)
		return;
	if (buf_u8(&w->text, 0, w->e) < 0 ||
	    w->ops->end(w->opaque, w->depth, name, own ? (const char *)w->text.p : "", w->e) < 0)
		stop(w);
	buf_clear(&w->text);
	w->depth--;
}

static void XMLCALL on_text(void *opaque, const XML_Char *s, int len)
{
	struct walk *w = opaque;
	size_t n = (size_t)len, room = XML_TEXT_MAX - w->text.len;

	if (!w->e->code && w->text_depth == w->depth && buf_add(&w->text, s, n < room ? n : room, w->e) < 0)
		stop(w);
}

/* A description has no use for a DTD: its entities and default attributes are how XML bombs and file disclosures are
 * made. */
static void XMLCALL on_dtd(void *opaque, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id,
			   int has_internal)
{
	struct walk *w = opaque;

	(void)name, (void)system_id, (void)public_id, (void)has_internal;
	if (!w->e->code)
		(void)err_set(w->e, ERR_CORRUPT, "it has a DTD (entities, default attributes), which no hypervisor writes");
	stop(w);
}

int xml_parse(const void *text, size_t len, const struct xml_ops *ops, void *opaque, struct err *e)
{
	struct walk w = { .ops = ops, .opaque = opaque, .e = e };
	unsigned long line;
	int r;

	if (len > MACHINE_FILE_MAX)
		return err_set(e, ERR_UNSUPPORTED, "%zu bytes, more than %zu", len, MACHINE_FILE_MAX);
	w.parser = XML_ParserCreate(NULL);
	if (!w.parser)
		return err_set(e, ERR_NOMEM, "no memory for an XML parser");
	buf_init(&w.text, XML_TEXT_MAX + 1);
	XML_SetUserData(w.parser, &w);
	XML_SetElementHandler(w.parser, on_start, on_end);
	XML_SetCharacterDataHandler(w.parser, on_text);
	XML_SetStartDoctypeDeclHandler(w.parser, on_dtd);
	r = XML_Parse(w.parser, text, (int)len, XML_TRUE);
	line = XML_GetCurrentLineNumber(w.parser);
	if (r != XML_STATUS_OK && !e->code) {
		enum XML_Error code = XML_GetErrorCode(w.parser);

		(void)err_set(e, code == XML_ERROR_NO_MEMORY ? ERR_NOMEM : ERR_CORRUPT, "%s", XML_ErrorString(code));
	}
	XML_ParserFree(w.parser);
	buf_done(&w.text);
	return e->code ? err_ctx(e, "line %lu", line) : 0;
}

struct root {
	XML_Parser parser;
	char *ret;
	bool found;
};

static void XMLCALL on_root(void *opaque, const XML_Char *name, const XML_Char **attributes)
{
	struct root *r = opaque;

	(void)attributes;
	if (!r->found && strlen(name) < 64) {
		memcpy(r->ret, name, strlen(name) + 1);
		r->found = true;
	}
	(void)XML_StopParser(r->parser, XML_FALSE);
}

static void XMLCALL on_root_dtd(void *opaque, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id,
				int has_internal)
{
	struct root *r = opaque;

	(void)name, (void)system_id, (void)public_id, (void)has_internal;
	(void)XML_StopParser(r->parser, XML_FALSE);
}

bool xml_root(const void *text, size_t len, char ret[static 64])
{
	struct root r = { .parser = len <= MACHINE_FILE_MAX ? XML_ParserCreate(NULL) : NULL, .ret = ret };

	if (!r.parser)
		return false;
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_root, NULL);
	XML_SetStartDoctypeDeclHandler(r.parser, on_root_dtd);
	(void)XML_Parse(r.parser, text, (int)len, XML_FALSE);	/* it is stopped, or there is no root */
	XML_ParserFree(r.parser);
	return r.found;
}

const char *xml_attribute(const char *const *attributes, const char *name)
{
	for (; attributes && attributes[0]; attributes += 2)
		if (!strcmp(attributes[0], name))
			return attributes[1];
	return NULL;
}
