/*
 * libvirt.c - the machine's UUID out of a libvirt domain description.
 */
#include "formats/machine/libvirt.h"

#include <string.h>

#include "formats/machine/machine_internal.h"

#define SPACE " \t\r\n"

struct find {
	unsigned domain;	/* depth of <domain>; 0 = not there yet */
	char *uuid;		/* NULL = not found yet */
};

static int on_start(void *opaque, unsigned depth, const char *name, const char *const *a, struct err *e)
{
	struct find *f = opaque;

	(void)a;
	if (depth == 1 && strcmp(name, "domain") && strcmp(name, "domainsnapshot"))
		return err_set(e, ERR_CORRUPT, "the root element is not domain");
	if (!f->domain && depth <= 2 && !strcmp(name, "domain"))
		f->domain = depth;
	return 0;
}

static int on_end(void *opaque, unsigned depth, const char *name, const char *text, struct err *e)
{
	struct find *f = opaque;
	char uuid[MACHINE_UUID_BYTES] = "";

	if (!f->domain || depth != f->domain + 1 || strcmp(name, "uuid") || f->uuid)
		return 0;
	text += strspn(text, SPACE);
	if (strcspn(text, SPACE) != sizeof(uuid) - 1 || text[sizeof(uuid) - 1 + strspn(text + sizeof(uuid) - 1, SPACE)])
		return 0;
	memcpy(uuid, text, sizeof(uuid) - 1);
	return machine_uuid(&f->uuid, uuid, e);
}

int libvirt_uuid(const void *text, size_t len, char uuid[static MACHINE_UUID_BYTES])
{
	static const struct xml_ops ops = { on_start, on_end };
	struct find f = { 0 };
	struct err e = ERR_INIT;
	bool found = xml_parse(text, len, &ops, &f, &e) == 0 && f.uuid;

	if (found)
		memcpy(uuid, f.uuid, MACHINE_UUID_BYTES);
	free(f.uuid);
	return e.code == ERR_NOMEM ? -1 : found;
}
