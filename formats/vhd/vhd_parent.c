/*
 * vhd_parent.c - what a differencing image says of its parent: its UUID, and names by which it may be found.
 *
 * A locator's code says what its bytes are: W2ru a path relative to the child, W2ku an absolute one, both UTF-16 and in
 * practice little-endian; Wi2r and Wi2k their ancestors in one byte a character; MacX a URL.  The header has the bare
 * name too.
 */
#include <inttypes.h>
#include <strings.h>

#include "base/fs.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "formats/vhd/vhd_internal.h"

#define LOCATOR_BYTES_MAX 65536
#define MAC_ESCAPE 3		/* "%2F" */

/* In the order in which they are tried. */
static const char codes[][5] = { "W2ru", "Wi2r", "MacX", "W2ku", "Wi2k" };

/* The last part of a URL's path, its escapes undone; in place. */
static char *url_name(char *url)
{
	char *name = (char *)(uintptr_t)fs_basename(url), *to = name;

	for (const char *p = name; *p; to++) {
		uint8_t byte;

		if (*p == '%' && strlen(p) >= MAC_ESCAPE && text_unhex((char[3]){ p[1], p[2], 0 }, &byte, 1) && byte &&
		    byte != '/') {
			*to = (char)byte;
			p += MAC_ESCAPE;
		} else {
			*to = *p++;
		}
	}
	*to = '\0';
	return name;
}

static int add_locator(struct vhd *v, const struct vhd_locator *l, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *raw = NULL;
	CLEANUP(free_ptr) char *text = NULL;

	if (l->length > LOCATOR_BYTES_MAX || !range_ok(l->offset, l->length, v->im.file.size))
		return err_set(e, ERR_CORRUPT, "parent locator %.4s: %" PRIu32 " bytes at %" PRIu64,
			       (const char *)l->code, l->length, l->offset);
	raw = calloc(1, (size_t)l->length + 1);
	if (!raw)
		return err_set(e, ERR_NOMEM, "parent locator");
	if (file_pread_full(&v->im.file, raw, l->length, l->offset, e) < 0)
		return err_ctx(e, "parent locator %.4s", (const char *)l->code);
	if (l->code[1] == '2')
		text = text_from_utf16(raw, l->length / 2, false, e);
	else
		text = text_printf(e, "%s", (const char *)raw);
	if (!text && e->code != ERR_CORRUPT)
		return e->code;
	if (!text) {	/* not a name; another locator may have one */
		err_clear(e);
		return 0;
	}
	if (!*text)
		return 0;
	return image_parent_add_windows(&v->im, l->code[0] == 'M' ? url_name(text) : text, e);
}

int vhd_parent_read(struct vhd *v, struct err *e)
{
	CLEANUP(free_ptr) char *name = NULL;

	if (uuid_is_null(v->h.parent_uuid))
		return err_set(e, ERR_CORRUPT,
			       "dynamic header at %" PRIu64 ": a differencing disk that doesn't name its parent",
			       v->f.data_offset);
	uuid_text_stored(v->h.parent_uuid, v->im.parent.ids.uuid);
	for (size_t c = 0; c < sizeof(codes) / sizeof(codes[0]); c++)
		for (size_t i = 0; i < VHD_LOCATORS; i++)
			if (memcmp(v->h.locators[i].code, codes[c], 4) == 0 && v->h.locators[i].length &&
			    add_locator(v, &v->h.locators[i], e) < 0)
				return e->code;
	name = text_from_utf16(v->h.parent_name, sizeof(v->h.parent_name) / 2, true, e);
	if (!name && e->code != ERR_CORRUPT)
		return e->code;
	if (!name)
		err_clear(e);
	else if (*name && image_parent_add_windows(&v->im, name, e) < 0)
		return e->code;
	if (v->im.parent.refs.n)
		v->im.info.backing = v->im.parent.refs.p[0];
	v->im.info.backing_format = "vhd";	/* one of another format, by VirtualBox, is found by its UUID */
	return 0;
}
