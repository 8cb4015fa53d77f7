/*
 * encoding.c - names in the descriptor's encoding, as UTF-8.
 *
 * VMware writes the encoding of its host: UTF-8, windows-1252, GBK, ...  The name comes out of the image, so only those
 * that a host could have are handed to iconv: never one with shift states.
 */
#include <errno.h>
#include <iconv.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "formats/vmdk/vmdk_internal.h"

static const char *const known[] = {
	"windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254", "windows-1255", "windows-1256",
	"windows-1257", "windows-1258", "GBK", "GB18030", "GB2312", "Big5", "Shift_JIS", "EUC-JP", "EUC-KR", "KOI8-R",
	"TIS-620", "ISO-8859-1", "ISO-8859-2", "ISO-8859-3", "ISO-8859-4", "ISO-8859-5", "ISO-8859-6", "ISO-8859-7",
	"ISO-8859-8", "ISO-8859-9", "ISO-8859-13", "ISO-8859-15",
};

/* What iconv calls it; NULL: not known. */
static const char *iconv_name(const char *encoding)
{
	static const struct { const char *stored, *name; } others[] = {
		{ "windows-932", "CP932" }, { "windows-31j", "CP932" }, { "windows-936", "CP936" },
		{ "windows-949", "CP949" }, { "windows-950", "CP950" }, { "windows-874", "CP874" },
		{ "US-ASCII", "ASCII" }, { "ASCII", "ASCII" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcasecmp(known[i], encoding) == 0)
			return known[i];
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcasecmp(others[i].stored, encoding) == 0)
			return others[i].name;
	return NULL;
}

static bool is_ascii(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)p[i] >= 0x80)
			return false;
	return true;
}

static int copy(const char *p, size_t len, char **ret, struct err *e)
{
	char *s = malloc(len + 1);

	if (!s)
		return err_set(e, ERR_NOMEM, "name in a descriptor");
	memcpy(s, p, len);
	s[len] = '\0';
	*ret = s;
	return 0;
}

int vmdk_to_utf8(const char *encoding, const char *p, size_t len, char **ret, struct err *e)
{
	CLEANUP(free_ptr) char *out = NULL;
	char *in = (char *)(uintptr_t)p, *to, q[80];
	size_t left = len, room = len * 4;
	const char *name;
	iconv_t cd;
	bool ok;

	/* UTF-8 is taken as it is: on Linux a file's name is bytes, and may be broken UTF-8. */
	if (!encoding || strcasecmp(encoding, "UTF-8") == 0 || is_ascii(p, len))
		return copy(p, len, ret, e);
	name = iconv_name(encoding);
	cd = name ? iconv_open("UTF-8", name) : (iconv_t)-1;
	if (cd == (iconv_t)-1)
		return err_set(e, ERR_UNSUPPORTED, "descriptor: encoding \"%s\" of its names is not known",
			       text_quote(encoding, q, sizeof(q)));
	out = malloc(room + 1);
	to = out;
	ok = out && iconv(cd, &in, &left, &to, &room) != (size_t)-1 && !left;
	(void)iconv_close(cd);
	if (!out)
		return err_set(e, ERR_NOMEM, "name in a descriptor");
	if (!ok)
		return err_set(e, ERR_CORRUPT, "descriptor: a name isn't valid %s", name);
	*to = '\0';
	*ret = STEAL(out);
	return 0;
}
