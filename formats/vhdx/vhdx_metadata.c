/*
 * vhdx_metadata.c - the metadata region: what the disk is, and of a differencing image who the parent is.
 *
 *	table	0 "metadata"  10 u16 entries, then from 32 on entries of 32 bytes:
 *		0 GUID  16 u32 offset in the region (>= 64 KiB)  20 u32 length  24 u32 flags
 *	parent locator	0 GUID of its kind  18 u16 count, then from 20 on entries of 12 bytes:
 *		0 u32 key's offset in the locator  4 u32 value's  8 u16 key's length  10 u16 value's; both UTF-16
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "formats/vhdx/vhdx_internal.h"

#define TABLE_ENTRY_BYTES 32
#define ITEMS_MIN_OFFSET 65536
#define LOCATOR_BYTES_MAX ((uint32_t)1 << 20)
#define LOCATOR_ENTRIES_OFFSET 20
#define LOCATOR_ENTRY_BYTES 12

enum item { FILE_PARAMS, DISK_SIZE, LOGICAL_SECTOR, PHYSICAL_SECTOR, DISK_ID, PARENT_LOCATOR, ITEMS };

static const struct kind {
	const uint8_t *guid;
	const char *name;
	uint32_t length;	/* 0: any */
	bool needed;
} kinds[ITEMS] = {
	[FILE_PARAMS] = { vhdx_guid_file_params, "file parameters", 8, true },
	[DISK_SIZE] = { vhdx_guid_disk_size, "disk size", 8, true },
	[LOGICAL_SECTOR] = { vhdx_guid_logical_sector, "logical sector size", 4, true },
	[PHYSICAL_SECTOR] = { vhdx_guid_physical_sector, "physical sector size", 4, false },
	[DISK_ID] = { vhdx_guid_disk_id, "disk id", 16, false },
	[PARENT_LOCATOR] = { vhdx_guid_parent_locator, "parent locator", 0, false },
};

struct item_place {
	bool there;
	uint64_t offset;	/* in the file */
	uint32_t length;
};

static int add_item(const struct vhdx *v, const uint8_t *p, struct item_place items[ITEMS], struct err *e)
{
	uint32_t offset = get_le32(p + 16), length = get_le32(p + 20), flags = get_le32(p + 24);
	char guid[UUID_TEXT_BYTES];
	size_t k = 0;

	uuid_text_stored(p, guid);
	while (k < ITEMS && memcmp(p, kinds[k].guid, 16) != 0)
		k++;
	if (k == ITEMS) {
		if (!(flags & VHDX_META_IS_REQUIRED))
			return 0;
		return err_set(e, ERR_UNSUPPORTED, "metadata at %" PRIu64 ": item %s is unknown and required",
			       v->metadata.offset, guid);
	}
	if (items[k].there)
		return err_set(e, ERR_CORRUPT, "metadata at %" PRIu64 ": two items for %s", v->metadata.offset,
			       kinds[k].name);
	if (offset < ITEMS_MIN_OFFSET || !range_ok(offset, length, v->metadata.length) ||
	    (kinds[k].length && length != kinds[k].length))
		return err_set(e, ERR_CORRUPT, "metadata at %" PRIu64 ": %s: %" PRIu32 " bytes at %" PRIu32,
			       v->metadata.offset, kinds[k].name, length, offset);
	items[k] = (struct item_place){ true, v->metadata.offset + offset, length };
	return 0;
}

static int read_table(struct vhdx *v, struct item_place items[ITEMS], struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = malloc(VHDX_METADATA_TABLE_BYTES);
	uint64_t at = v->metadata.offset;

	if (!p)
		return err_set(e, ERR_NOMEM, "metadata");
	if (vhdx_read(v, p, VHDX_METADATA_TABLE_BYTES, at, e) < 0)
		return err_ctx(e, "metadata");
	if (memcmp(p, "metadata", 8) != 0)
		return err_set(e, ERR_CORRUPT, "no metadata table at %" PRIu64, at);
	if (get_le16(p + 10) > VHDX_METADATA_MAX)
		return err_set(e, ERR_CORRUPT, "metadata table at %" PRIu64 ": %" PRIu16 " entries", at,
			       get_le16(p + 10));
	for (uint32_t i = 1; i <= get_le16(p + 10); i++)
		if (add_item(v, p + (size_t)i * TABLE_ENTRY_BYTES, items, e) < 0)
			return e->code;
	for (size_t k = 0; k < ITEMS; k++)
		if (kinds[k].needed && !items[k].there)
			return err_set(e, ERR_CORRUPT, "metadata table at %" PRIu64 ": no %s", at, kinds[k].name);
	return 0;
}

static int check_metadata(const struct vhdx_metadata *m, uint32_t params, uint64_t at, struct err *e)
{
	if (params & ~(VHDX_FILE_PARAM_LEAVE_ALLOCATED | VHDX_FILE_PARAM_HAS_PARENT))
		return err_set(e, ERR_UNSUPPORTED, "metadata at %" PRIu64 ": file parameters 0x%08" PRIx32
			       " are unknown", at, params);
	if (!is_pow2(m->block_size) || m->block_size < VHDX_BLOCK_MIN || m->block_size > VHDX_BLOCK_MAX)
		return err_set(e, ERR_CORRUPT,
			       "metadata at %" PRIu64 ": block size %" PRIu32
			       " is not a power of two from 1 to 256 MiB",
			       at, m->block_size);
	if (m->sector != 512 && m->sector != 4096)
		return err_set(e, ERR_CORRUPT, "metadata at %" PRIu64 ": logical sectors of %" PRIu32 " bytes", at,
			       m->sector);
	if (m->size > VHDX_SIZE_MAX || m->size % m->sector)
		return err_set(e, ERR_CORRUPT,
			       "metadata at %" PRIu64 ": disk of %" PRIu64
			       " bytes: not whole sectors, or more than 64 TiB",
			       at, m->size);
	return 0;
}

/* ---- the parent ---- */

static const char *const keys[] = { "parent_linkage", "parent_linkage2", "relative_path", "volume_path",
				    "absolute_win32_path" };
#define KEYS (sizeof(keys) / sizeof(keys[0]))

/* Is the UTF-16 text of n bytes this one?  A NUL may end it. */
static bool is_text(const uint8_t *p, uint32_t n, const char *text)
{
	size_t len = strlen(text);

	if (n / 2 < len || (n / 2 > len && get_le16(p + 2 * len)))
		return false;
	for (size_t i = 0; i < len; i++)
		if (get_le16(p + 2 * i) != (uint8_t)text[i])
			return false;
	return true;
}

/* What the locator says under one key.  All entries may share one long text: what is wanted is taken, and once. */
static int take_pair(const uint8_t *p, uint32_t len, const uint8_t *entry, char *values[KEYS], struct err *e)
{
	uint32_t key = get_le32(entry), value = get_le32(entry + 4);
	uint16_t nkey = get_le16(entry + 8), nvalue = get_le16(entry + 10);

	if (!range_ok(key, nkey, len) || !range_ok(value, nvalue, len))
		return err_set(e, ERR_CORRUPT, "parent locator of %" PRIu32 " bytes: texts of %" PRIu16 " at %" PRIu32
			       " and %" PRIu16 " at %" PRIu32, len, nkey, key, nvalue, value);
	for (size_t i = 0; i < KEYS; i++) {
		if (!is_text(p + key, nkey, keys[i]))
			continue;
		if (values[i])
			return err_set(e, ERR_CORRUPT, "parent locator: %s is there twice", keys[i]);
		values[i] = text_from_utf16(p + value, nvalue / 2, false, e);
		return values[i] ? 0 : e->code;
	}
	return 0;
}

static int take_linkages(struct vhdx *v, char *const values[KEYS], struct err *e)
{
	for (size_t i = 0; i < 2; i++)
		if (values[i] && !uuid_parse(values[i], v->m.linkage[i]))
			return err_set(e, ERR_CORRUPT, "parent locator: %s is not a GUID", keys[i]);
	if (uuid_is_null(v->m.linkage[0]))
		return err_set(e, ERR_CORRUPT, "parent locator: no parent_linkage");
	uuid_text(v->m.linkage[0], v->im.parent.ids.content);
	if (!uuid_is_null(v->m.linkage[1]))
		uuid_text(v->m.linkage[1], v->im.parent.content2);
	return 0;
}

static int take_pairs(struct vhdx *v, const uint8_t *p, uint32_t len, char *values[KEYS], struct err *e)
{
	uint32_t n = get_le16(p + 18);

	if (memcmp(p, vhdx_guid_parent_vhdx, 16) != 0)
		return err_set(e, ERR_UNSUPPORTED, "parent locator: its kind is unknown");
	if (!range_ok(LOCATOR_ENTRIES_OFFSET, (uint64_t)n * LOCATOR_ENTRY_BYTES, len))
		return err_set(e, ERR_CORRUPT, "parent locator of %" PRIu32 " bytes: %" PRIu32 " entries", len, n);
	for (uint32_t i = 0; i < n; i++)
		if (take_pair(p, len, p + LOCATOR_ENTRIES_OFFSET + (size_t)i * LOCATOR_ENTRY_BYTES, values, e) < 0)
			return e->code;
	if (take_linkages(v, values, e) < 0)
		return e->code;
	for (size_t i = 2; i < KEYS; i++)
		if (values[i] && *values[i] && image_parent_add_windows(&v->im, values[i], e) < 0)
			return e->code;
	return 0;
}

static int read_parent(struct vhdx *v, const struct item_place *x, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	char *values[KEYS] = { NULL };
	int r;

	if (!x->there)
		return err_set(e, ERR_CORRUPT, "metadata at %" PRIu64 ": a differencing disk that names no parent",
			       v->metadata.offset);
	if (x->length < LOCATOR_ENTRIES_OFFSET || x->length > LOCATOR_BYTES_MAX)
		return err_set(e, ERR_CORRUPT, "parent locator at %" PRIu64 ": %" PRIu32 " bytes", x->offset,
			       x->length);
	p = malloc(x->length);
	if (!p)
		return err_set(e, ERR_NOMEM, "parent locator");
	r = vhdx_read(v, p, x->length, x->offset, e);
	if (r == 0)
		r = take_pairs(v, p, x->length, values, e);
	for (size_t i = 0; i < KEYS; i++)
		free(values[i]);
	if (r < 0)
		return err_ctx(e, "metadata at %" PRIu64, x->offset);
	if (v->im.parent.refs.n)
		v->im.info.backing = v->im.parent.refs.p[0];
	v->im.info.backing_format = "vhdx";
	return 0;
}

int vhdx_metadata_read(struct vhdx *v, struct err *e)
{
	struct item_place items[ITEMS] = { 0 };
	uint8_t params[8], size[8], sector[4], id[16] = { 0 };
	uint32_t flags;

	if (read_table(v, items, e) < 0)
		return e->code;
	if (vhdx_read(v, params, sizeof(params), items[FILE_PARAMS].offset, e) < 0 ||
	    vhdx_read(v, size, sizeof(size), items[DISK_SIZE].offset, e) < 0 ||
	    vhdx_read(v, sector, sizeof(sector), items[LOGICAL_SECTOR].offset, e) < 0 ||
	    (items[DISK_ID].there && vhdx_read(v, id, sizeof(id), items[DISK_ID].offset, e) < 0))
		return err_ctx(e, "metadata");
	if (!uuid_is_null(id))
		uuid_text_stored(id, v->im.info.ids.uuid);
	flags = get_le32(params + 4);
	v->m.block_size = get_le32(params);
	v->m.fixed = flags & VHDX_FILE_PARAM_LEAVE_ALLOCATED;
	v->m.has_parent = flags & VHDX_FILE_PARAM_HAS_PARENT;
	v->m.size = get_le64(size);
	v->m.sector = get_le32(sector);
	if (check_metadata(&v->m, flags, v->metadata.offset, e) < 0)
		return e->code;
	return v->m.has_parent ? read_parent(v, &items[PARENT_LOCATOR], e) : 0;
}
