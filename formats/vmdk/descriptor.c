/*
 * descriptor.c - the text that names a disk's extents, its parent and its identity.
 *
 *	# Disk DescriptorFile
 *	version=1
 *	encoding="UTF-8"
 *	CID=fb183c20
 *	parentCID=ffffffff
 *	createType="twoGbMaxExtentSparse"
 *	RW 4192256 SPARSE "disk-s001.vmdk"
 *	ddb.adapterType = "lsilogic"
 *
 * Lines end with LF or CRLF; keys are compared without case; sections are only comments.  A line is an extent's when
 * its first word is an access mode.  What isn't known is skipped, but for the kinds of extents: one that is left out
 * would move all that follows.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/ids.h"
#include "formats/vmdk/vmdk_internal.h"

struct span {
	const char *p;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span s)
{
	while (s.len && is_blank(s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len && is_blank(s.p[s.len - 1]))
		s.len--;
	return s;
}

static bool is_word(struct span s, const char *word)
{
	return s.len == strlen(word) && strncasecmp(s.p, word, s.len) == 0;
}

/* The next line, trimmed; false at the end. */
static bool take_line(struct span *text, struct span *ret)
{
	const char *nl;
	size_t len;

	if (!text->len)
		return false;
	nl = memchr(text->p, '\n', text->len);
	len = nl ? (size_t)(nl - text->p) : text->len;
	*ret = trim((struct span){ text->p, len });
	text->p += len + (nl != NULL);
	text->len -= len + (nl != NULL);
	return true;
}

/* The next word, or "quoted" text, without its quotes. */
static bool take_word(struct span *line, struct span *ret, bool *ret_quoted)
{
	const char *end;

	*line = trim(*line);
	if (!line->len)
		return false;
	*ret_quoted = line->p[0] == '"';
	if (*ret_quoted) {
		end = memchr(line->p + 1, '"', line->len - 1);
		if (!end)
			return false;
		*ret = (struct span){ line->p + 1, (size_t)(end - line->p - 1) };
		end++;
	} else {
		for (end = line->p; end < line->p + line->len && !is_blank(*end); end++)
			;
		*ret = (struct span){ line->p, (size_t)(end - line->p) };
	}
	line->len -= (size_t)(end - line->p);
	line->p = end;
	return true;
}

static bool take_number(struct span s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!s.len)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || !mul_u64(v, 10, &v) || !add_u64(v, (uint64_t)(s.p[i] - '0'), &v) ||
		    v > max)
			return false;
	}
	*ret = v;
	return true;
}

static bool take_hex32(struct span s, uint32_t *ret)
{
	uint32_t v = 0;

	if (s.len > 2 && s.p[0] == '0' && (s.p[1] == 'x' || s.p[1] == 'X'))
		s = (struct span){ s.p + 2, s.len - 2 };
	if (!s.len || s.len > 8)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];
		int n = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (n < 0)
			return false;
		v = v << 4 | (uint32_t)n;
	}
	*ret = v;
	return true;
}

static int copy_text(struct span s, const char *what, char **ret, struct err *e)
{
	char *text;

	if (*ret)
		return err_set(e, ERR_CORRUPT, "descriptor: %s is there twice", what);
	if (s.len > VMDK_NAME_MAX)
		return err_set(e, ERR_CORRUPT, "descriptor: %s of %zu bytes, %d is the limit", what, s.len,
			       VMDK_NAME_MAX);
	text = strndup(s.p, s.len);
	if (!text)
		return err_set(e, ERR_NOMEM, "descriptor");
	*ret = text;
	return 0;
}

/* ---- extent lines ---- */

static const struct { const char *word; enum vmdk_access access; } accesses[] = {
	{ "RW", VMDK_RW }, { "RDONLY", VMDK_RDONLY }, { "NOACCESS", VMDK_NOACCESS },
};

static const struct { const char *word; enum vmdk_kind kind; } kinds[] = {
	{ "FLAT", VMDK_FLAT }, { "VMFS", VMDK_FLAT }, { "SPARSE", VMDK_SPARSE }, { "ZERO", VMDK_ZERO },
	{ "VMFSSPARSE", VMDK_COWD }, { "SESPARSE", VMDK_SESPARSE },
};

static bool is_extent(struct span line, enum vmdk_access *ret)
{
	struct span word;
	bool quoted;

	if (!take_word(&line, &word, &quoted) || quoted)
		return false;
	for (size_t i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++) {
		if (!is_word(word, accesses[i].word))
			continue;
		*ret = accesses[i].access;
		return true;
	}
	return false;
}

static int bad_line(struct span line, const char *why, struct err *e)
{
	char raw[160], q[200];

	snprintf(raw, sizeof(raw), "%.*s", (int)min_size(line.len, sizeof(raw) - 1), line.p);
	return err_set(e, ERR_CORRUPT, "descriptor: extent \"%s\": %s", text_quote(raw, q, sizeof(q)), why);
}

static int take_kind(struct span line, struct span word, enum vmdk_kind *ret, struct err *e)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!is_word(word, kinds[i].word))
			continue;
		*ret = kinds[i].kind;
		return 0;
	}
	if (is_word(word, "VMFSRDM") || is_word(word, "VMFSRAW")) {
		(void)bad_line(line, "a physical device, which belongs to another host", e);
		e->code = ERR_UNSUPPORTED;
		return err_hint(e, "back up the device itself: raw:/dev/...");
	}
	(void)bad_line(line, "its kind is not known", e);
	return e->code = ERR_UNSUPPORTED;
}

static int take_file(struct span line, struct span rest, struct vmdk_line *l, struct span *ret_rest, struct err *e)
{
	struct span word;
	bool quoted;

	if (!take_word(&rest, &word, &quoted) || !quoted)
		return bad_line(line, "no file name in quotes", e);
	if (copy_text(word, "an extent's file name", &l->stored, e) < 0)
		return e->code;
	if (l->kind == VMDK_FLAT && take_word(&rest, &word, &quoted) &&
	    (quoted || !take_number(word, VMDK_SECTORS_MAX, &l->offset)))
		return bad_line(line, "its offset is not a number of sectors", e);
	*ret_rest = rest;
	return 0;
}

/* What follows names a device or a partition, and says nothing for files; but two lines may have become one. */
static int check_rest(struct span line, struct span rest, struct err *e)
{
	struct span word;
	uint64_t number;
	bool quoted;

	while (take_word(&rest, &word, &quoted))
		if (!quoted && !take_number(word, UINT64_MAX, &number))
			return bad_line(line, "what follows its file's name is not understood", e);
	return 0;
}

static int take_extent(struct vmdk_descriptor *d, struct span line, enum vmdk_access access, struct err *e)
{
	struct span rest = line, word;
	struct vmdk_line *l;
	bool quoted;

	if (d->lines.n == VMDK_EXTENTS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "descriptor: more than %d extents", VMDK_EXTENTS_MAX);
	l = VEC_PUSH(&d->lines, e);
	if (!l)
		return e->code;
	l->access = access;
	if (!take_word(&rest, &word, &quoted) ||	/* the access mode, looked at already */
	    !take_word(&rest, &word, &quoted) || quoted || !take_number(word, VMDK_SECTORS_MAX, &l->sectors))
		return bad_line(line, "its size is not a number of sectors", e);
	if (!l->sectors)
		return bad_line(line, "it has no sectors", e);
	if (!take_word(&rest, &word, &quoted) || quoted)
		return bad_line(line, "its kind is missing", e);
	if (take_kind(line, word, &l->kind, e) < 0 ||
	    (l->kind != VMDK_ZERO && take_file(line, rest, l, &rest, e) < 0) || check_rest(line, rest, e) < 0)
		return e->code;
	d->sectors += l->sectors;	/* at most 2^54 */
	if (d->sectors > VMDK_SECTORS_MAX)
		return bad_line(line, "with it the disk is larger than 4 EiB", e);
	return 0;
}

/* ---- keys ---- */

static int take_key(struct vmdk_descriptor *d, struct span key, struct span value, bool *seen, struct err *e)
{
	const struct { const char *key; char **to; } texts[] = {
		{ "encoding", &d->encoding }, { "createType", &d->create_type }, { "parentFileNameHint", &d->hint },
		{ "ddb.adapterType", &d->adapter }, { "ddb.uuid", &d->uuid },
		{ "ddb.longContentID", &d->long_content_id }, { "ddb.uuid.image", &d->uuid_image },
		{ "ddb.uuid.parent", &d->uuid_parent }, { "ddb.uuid.modification", &d->uuid_modify },
		{ "ddb.uuid.parentmodification", &d->uuid_parent_modify },
	};
	const struct { const char *key; uint32_t *to; } numbers[] = {
		{ "version", &d->version }, { "CID", &d->cid }, { "parentCID", &d->parent_cid },
	};

	if (key.len > 11 && strncasecmp(key.p, "encryption.", 11) == 0) {
		(void)err_set(e, ERR_UNSUPPORTED, "descriptor: the disk is encrypted by VMware (%.*s)",
			      (int)min_size(key.len, 40), key.p);
		return err_hint(e, "remove the encryption in VMware, or back the machine up from inside");
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (is_word(key, texts[i].key))
			return copy_text(value, texts[i].key, texts[i].to, e);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (!is_word(key, numbers[i].key))
			continue;
		if (seen[i])
			return err_set(e, ERR_CORRUPT, "descriptor: %s is there twice", numbers[i].key);
		seen[i] = true;
		return take_hex32(value, numbers[i].to) ? 0 :
		       err_set(e, ERR_CORRUPT, "descriptor: %s is not a hexadecimal number", numbers[i].key);
	}
	return 0;
}

/* A line that is left out may be an extent's, and what follows it would move down. */
static int refuse_line(struct span line, struct err *e)
{
	char raw[160], q[200];

	snprintf(raw, sizeof(raw), "%.*s", (int)min_size(line.len, sizeof(raw) - 1), line.p);
	return err_set(e, ERR_UNSUPPORTED, "descriptor: line \"%s\" is neither an extent nor a key's value",
		       text_quote(raw, q, sizeof(q)));
}

static bool is_key(struct span key)
{
	for (size_t i = 0; i < key.len; i++)
		if (is_blank(key.p[i]) || key.p[i] == '"')
			return false;
	return key.len > 0;
}

static int take_any(struct vmdk_descriptor *d, struct span line, bool *seen, struct err *e)
{
	const char *eq;
	struct span key, value, word;
	enum vmdk_access access;
	bool quoted;

	if (!line.len || line.p[0] == '#')
		return 0;
	if (is_extent(line, &access))
		return take_extent(d, line, access, e);
	eq = memchr(line.p, '=', line.len);
	key = trim((struct span){ line.p, eq ? (size_t)(eq - line.p) : 0 });
	if (!is_key(key))
		return refuse_line(line, e);
	value = trim((struct span){ eq + 1, line.len - (size_t)(eq + 1 - line.p) });
	if (value.len && value.p[0] == '"') {
		if (!take_word(&value, &word, &quoted))
			return err_set(e, ERR_CORRUPT, "descriptor: the value of %.*s has no closing quote",
				       (int)min_size(key.len, 40), key.p);
		value = word;
	}
	return take_key(d, key, value, seen, e);
}

/* ---- what must hold ---- */

static int check_type(const struct vmdk_descriptor *d, struct err *e)
{
	static const char *const good[] = {
		"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
		"2GbMaxExtentSparse", "2GbMaxExtentFlat", "streamOptimized", "vmfs", "vmfsThin", "vmfsPreallocated",
		"vmfsEagerZeroedThick", "vmfsSparse", "seSparse", "vmfsSeSparse", "custom",
		/* made of files, or of devices, which are followed only where the user allows it */
		"fullDevice", "partitionedDevice",
	};
	static const char *const devices[] = {
		"vmfsRaw", "vmfsRDM", "vmfsRDMP", "vmfsRawDeviceMap", "vmfsPassthroughRawDeviceMap",
	};
	char q[80];

	if (!d->create_type)
		return err_set(e, ERR_CORRUPT, "descriptor: no createType");
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (strcasecmp(d->create_type, good[i]) == 0)
			return 0;
	text_quote(d->create_type, q, sizeof(q));
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		if (strcasecmp(d->create_type, devices[i]) != 0)
			continue;
		(void)err_set(e, ERR_UNSUPPORTED,
			      "descriptor: createType \"%s\": the disk is a physical device, which belongs to another "
			      "host", q);
		return err_hint(e, "back up the device itself: raw:/dev/...");
	}
	return err_set(e, ERR_UNSUPPORTED, "descriptor: createType \"%s\" is not known", q);
}

bool vmdk_uuid_take(const char *text, char ret[static 40])
{
	uint8_t uuid[16];

	ret[0] = '\0';
	if (!text || !text[0])
		return true;
	if (!uuid_parse(text, uuid))
		return false;
	if (!uuid_is_null(uuid))
		(void)uuid_text(uuid, ret);
	return true;
}

/* Is there a parent or isn't there?  Whoever errs here reads a delta as a whole disk: what isn't understood is
 * refused. */
static int check_parent(const struct vmdk_descriptor *d, struct err *e)
{
	bool named = d->hint && d->hint[0];
	char uuid[40], modify[40], q[80];

	if (!vmdk_uuid_take(d->uuid_parent, uuid))
		return err_set(e, ERR_CORRUPT, "descriptor: ddb.uuid.parent \"%s\" is no UUID",
			       text_quote(d->uuid_parent, q, sizeof(q)));
	if (!vmdk_uuid_take(d->uuid_parent_modify, modify))
		return err_set(e, ERR_CORRUPT, "descriptor: ddb.uuid.parentmodification \"%s\" is no UUID",
			       text_quote(d->uuid_parent_modify, q, sizeof(q)));
	if (d->parent_cid == VMDK_CID_NONE && named)
		return err_set(e, ERR_CORRUPT,
			       "descriptor: it names a parent (parentFileNameHint) and has none (parentCID=ffffffff)");
	if (d->parent_cid != VMDK_CID_NONE && !named && !uuid[0])
		return err_set(e, ERR_CORRUPT, "descriptor: it has a parent (parentCID=%08" PRIx32
			       ") and doesn't name it: no parentFileNameHint", d->parent_cid);
	return 0;
}

static int check_all(const struct vmdk_descriptor *d, const bool *seen, struct err *e)
{
	if (!seen[0])
		return err_set(e, ERR_CORRUPT, "descriptor: no version");
	if (d->version < 1 || d->version > 4)
		return err_set(e, ERR_UNSUPPORTED, "descriptor: version %" PRIu32 " is not known", d->version);
	if (check_type(d, e) < 0)
		return e->code;
	if (!d->lines.n)
		return err_set(e, ERR_CORRUPT, "descriptor: it names no extents");
	return check_parent(d, e);
}

/* Names become UTF-8 when all is read: the encoding's line may stand anywhere. */
static int convert(struct vmdk_descriptor *d, struct err *e)
{
	char *hint = d->hint;

	if (hint) {
		d->hint = NULL;
		if (vmdk_to_utf8(d->encoding, hint, strlen(hint), &d->hint, e) < 0) {
			d->hint = hint;
			return e->code;
		}
		free(hint);
	}
	for (size_t i = 0; i < d->lines.n; i++) {
		struct vmdk_line *l = &d->lines.p[i];

		if (l->stored && vmdk_to_utf8(d->encoding, l->stored, strlen(l->stored), &l->name, e) < 0)
			return e->code;
	}
	return 0;
}

bool vmdk_descriptor_looks(const void *text, size_t len)
{
	struct span s = { text, strnlen(text, len) }, line;

	while (take_line(&s, &line))
		if (line.len)
			return is_word(line, "# Disk DescriptorFile");
	return false;
}

int vmdk_descriptor_parse(const void *text, size_t len, struct vmdk_descriptor *ret, struct err *e)
{
	CLEANUP(vmdk_descriptor_done) struct vmdk_descriptor d = { .cid = VMDK_CID_NONE, .parent_cid = VMDK_CID_NONE };
	struct span s = { text, strnlen(text, len) }, line;
	bool seen[3] = { false };	/* version, CID, parentCID */

	while (take_line(&s, &line))
		if (take_any(&d, line, seen, e) < 0)
			return e->code;
	if (check_all(&d, seen, e) < 0 || convert(&d, e) < 0)
		return e->code;
	*ret = d;
	d = (struct vmdk_descriptor){ 0 };
	return 0;
}

void vmdk_descriptor_done(struct vmdk_descriptor *d)
{
	char *texts[] = { d->create_type, d->encoding, d->hint, d->adapter, d->uuid_image, d->uuid_parent,
			  d->uuid_modify, d->uuid_parent_modify, d->uuid, d->long_content_id };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
	for (size_t i = 0; i < d->lines.n; i++) {
		free(d->lines.p[i].name);
		free(d->lines.p[i].stored);
	}
	VEC_DONE(&d->lines);
	*d = (struct vmdk_descriptor){ 0 };
}
