/*
 * libvirt.c - the machine's UUID out of a libvirt domain description.
 */
#include "formats/machine/libvirt.h"

#include <ctype.h>
#include <expat.h>
#include <stdbool.h>
#include <string.h>

#define DEPTH_MAX 64

struct walk {
	XML_Parser parser;
	unsigned depth;
	unsigned domain_depth;	/* of the open <domain>; 0 = none */
	bool in_uuid, found;
	char text[MACHINE_UUID_BYTES];
	size_t len;
};

static void XMLCALL on_start(void *opaque, const XML_Char *name, const XML_Char **attributes)
{
	struct walk *w = opaque;

	(void)attributes;
	if (++w->depth > DEPTH_MAX)
		XML_StopParser(w->parser, XML_FALSE);
	if (w->depth == 1 && strcmp(name, "domain") && strcmp(name, "domainsnapshot"))
		XML_StopParser(w->parser, XML_FALSE);
	if (!w->domain_depth && w->depth <= 2 && !strcmp(name, "domain"))
		w->domain_depth = w->depth;
	w->in_uuid = w->domain_depth && w->depth == w->domain_depth + 1 && !strcmp(name, "uuid") && !w->found;
	w->len = w->in_uuid ? 0 : w->len;
}

static bool is_uuid(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	return len == MACHINE_UUID_BYTES - 1;
}

static void XMLCALL on_end(void *opaque, const XML_Char *name)
{
	struct walk *w = opaque;

	(void)name;
	if (w->in_uuid)
		w->found = is_uuid(w->text, w->len);
	w->in_uuid = false;
	w->depth--;
}

static void XMLCALL on_text(void *opaque, const XML_Char *s, int len)
{
	struct walk *w = opaque;

	for (int i = 0; w->in_uuid && i < len; i++) {
		if (isspace((unsigned char)s[i]))
			continue;
		if (w->len == sizeof(w->text) - 1) {
			w->in_uuid = false;	/* too long for one */
			return;
		}
		w->text[w->len++] = (char)tolower((unsigned char)s[i]);
	}
}

/* A description has no use for a DTD: its entities and default attributes are how XML bombs and file disclosures are
 * made. */
static void XMLCALL on_dtd(void *opaque, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id,
			   int has_internal)
{
	struct walk *w = opaque;

	(void)name, (void)system_id, (void)public_id, (void)has_internal;
	w->found = false;
	XML_StopParser(w->parser, XML_FALSE);
}

int libvirt_uuid(const void *text, size_t len, char uuid[static MACHINE_UUID_BYTES])
{
	struct walk w = { .parser = len <= 1 << 24 ? XML_ParserCreate(NULL) : NULL };
	bool ok, starved;

	if (!w.parser)
		return len <= 1 << 24 ? -1 : 0;
	XML_SetUserData(w.parser, &w);
	XML_SetElementHandler(w.parser, on_start, on_end);
	XML_SetCharacterDataHandler(w.parser, on_text);
	XML_SetStartDoctypeDeclHandler(w.parser, on_dtd);
	ok = XML_Parse(w.parser, text, (int)len, XML_TRUE) == XML_STATUS_OK && w.found;
	starved = XML_GetErrorCode(w.parser) == XML_ERROR_NO_MEMORY;
	XML_ParserFree(w.parser);
	if (starved)
		return -1;
	if (ok) {
		memcpy(uuid, w.text, MACHINE_UUID_BYTES - 1);
		uuid[MACHINE_UUID_BYTES - 1] = 0;
	}
	return ok;
}
