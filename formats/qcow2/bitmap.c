/*
 * bitmap.c - the directory of persistent dirty bitmaps: what there is, and where its clusters lie.
 *
 * Extension (24 bytes): count u32, 0 u32, directory bytes u64, directory offset u64.  Directory entry, 8-byte aligned:
 * table offset u64, table entries u32, flags u32 (0 in use, 1 auto, 2 extra data compatible), type u8 = 1, granularity
 * bits u8, name length u16, extra length u32; extra, name.  Table entry: offset in bits 9..55; offset 0: bit 0 says all
 * ones.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"
#include "formats/table.h"

#define DIRECTORY_MAX_BYTES ((uint64_t)64 << 20)
#define ENTRY_BYTES 24
#define TABLE_MAX_ENTRIES ((uint32_t)8 << 20)
#define FLAG_IN_USE 1u
#define FLAG_AUTO 2u

static int take_entry(struct qcow2 *q, uint32_t i, struct rd *dir, struct err *e)
{
	struct image_bitmap *b = &q->bitmaps[i];
	struct qcow2_bitmap_table *t = &q->bitmap_tables[i];
	uint32_t flags, extra_len;
	uint8_t type, granularity;
	uint16_t name_len;
	const uint8_t *name;
	size_t before = dir->left;

	if (!rd_be64(dir, &t->off) || !rd_be32(dir, &t->entries) || !rd_be32(dir, &flags) || !rd_u8(dir, &type) ||
	    !rd_u8(dir, &granularity) || !rd_be16(dir, &name_len) || !rd_be32(dir, &extra_len) ||
	    !rd_skip(dir, extra_len) || !rd_take(dir, name_len, &name))
		return err_set(e, ERR_CORRUPT, "directory ends inside it");
	(void)rd_skip(dir, -(before - dir->left) % 8);	/* the last one's padding may be missing */
	if (type != 1 || granularity < 9 || granularity > 31 || !name_len || name_len > 1023)
		return err_set(e, ERR_CORRUPT, "type %u, granularity bits %u, name of %u bytes", type, granularity,
			       name_len);
	if (t->off & (q->cluster_size - 1) || t->entries > TABLE_MAX_ENTRIES ||
	    !range_ok(t->off, (uint64_t)t->entries * 8, q->im.file.size))
		return err_set(e, ERR_CORRUPT,
			       "table of %" PRIu32 " entries at %" PRIu64 " is not aligned or outside the file",
			       t->entries, t->off);
	if (qcow2_meta_add_region(&q->meta, t->off, (uint64_t)t->entries * 8, q->cluster_size, "table of bitmap", i,
				  e) < 0)
		return e->code;
	b->granularity = (uint64_t)1 << granularity;
	b->in_use = flags & FLAG_IN_USE;
	b->auto_on = flags & FLAG_AUTO;
	b->name = qcow2_name_add(q, name, name_len, "a bitmap's name", e);
	return b->name ? 0 : e->code;
}

static int read_directory(struct qcow2 *q, uint32_t n, uint64_t off, uint64_t len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = NULL;
	struct rd dir;

	if (off & (q->cluster_size - 1) || !len || len > DIRECTORY_MAX_BYTES ||
	    !range_ok(off, len, q->im.file.size))
		return err_set(e, ERR_CORRUPT,
			       "bitmap directory of %" PRIu64 " bytes at %" PRIu64
			       " is not aligned or outside the file",
			       len, off);
	if (!n || n > QCOW2_BITMAPS_MAX || n > len / ENTRY_BYTES)
		return err_set(e, ERR_CORRUPT, "%" PRIu32 " bitmaps in a directory of %" PRIu64 " bytes", n, len);
	buf = malloc((size_t)len);
	q->bitmaps = calloc(n, sizeof(*q->bitmaps));
	q->bitmap_tables = calloc(n, sizeof(*q->bitmap_tables));
	if (!buf || !q->bitmaps || !q->bitmap_tables)
		return err_set(e, ERR_NOMEM, "bitmap directory of %" PRIu64 " bytes", len);
	if (file_pread_full(&q->im.file, buf, (size_t)len, off, e) < 0 ||
	    qcow2_meta_add_region(&q->meta, off, len, q->cluster_size, "bitmap directory", QCOW2_NO_INDEX, e) < 0)
		return e->code;
	dir = rd_of(buf, (size_t)len);
	for (uint32_t i = 0; i < n; i++)
		if (take_entry(q, i, &dir, e) < 0)
			return err_ctx(e, "bitmap directory at %" PRIu64 ": entry %" PRIu32, off, i);
	q->im.info.nbitmaps = n;
	q->im.info.bitmaps = q->bitmaps;
	return 0;
}

int qcow2_bitmaps_read(struct qcow2 *q, struct rd ext, struct err *e)
{
	uint32_t n, zero;
	uint64_t len, off;

	/* Without the autoclear bit somebody wrote to the image who knows no bitmaps: they may be anything. */
	if (!ext.p || !(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	if (ext.left != 24 || !rd_be32(&ext, &n) || !rd_be32(&ext, &zero) || !rd_be64(&ext, &len) ||
	    !rd_be64(&ext, &off) || zero)
		return err_set(e, ERR_CORRUPT, "header: bitmaps extension");
	return read_directory(q, n, off, len, e);
}

static int scan_entry(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	struct qcow2 *q = opaque;
	uint64_t host = v & QCOW2_OFFSET_MASK;

	if (v & ~(QCOW2_OFFSET_MASK | 1) || (host && v & 1) || host & (q->cluster_size - 1))
		return err_set(e, ERR_CORRUPT, "entry %" PRIu64 ": 0x%016" PRIx64, index, v);
	if (!host)
		return 0;
	if (!range_ok(host, q->cluster_size, q->im.file.size))
		return err_set(e, ERR_CORRUPT, "entry %" PRIu64 ": cluster at %" PRIu64 " is outside the file", index,
			       host);
	return qcow2_meta_add_cluster(&q->meta, host, QCOW2_OWNER_OTHER, "bitmap cluster", e);
}

int qcow2_bitmaps_scan(struct qcow2 *q, struct err *e)
{
	for (uint32_t i = 0; i < q->im.info.nbitmaps; i++)
		if (table_scan(&q->im.file, q->bitmap_tables[i].off, q->bitmap_tables[i].entries, scan_entry, q, e) <
		    0)
			return err_ctx(e, "table of bitmap %" PRIu32 " at %" PRIu64, i, q->bitmap_tables[i].off);
	return 0;
}
