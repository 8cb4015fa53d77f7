/*
 * vmdk_write_descriptor.c - the text that goes with the extents.
 *
 * Geometry is what VMware gives disks of SCSI controllers: 255 heads of 63 sectors.  ddb.uuid begins with VMware's own
 * 60 00 C2 9; the last eight digits of ddb.longContentID are the CID.
 */
#include <inttypes.h>
#include <stdarg.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/ids.h"
#include "formats/vmdk/vmdk_write_internal.h"

#define HEADS 255u
#define TRACK 63u

static int add(struct buf *b, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int add(struct buf *b, struct err *e, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text))
		return err_set(e, ERR_INTERNAL, "descriptor: a line is too long");
	return buf_add(b, text, (size_t)n, e);
}

static int add_head(const struct vw *v, struct buf *b, struct err *e)
{
	static const char *const types[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
					     "streamOptimized", "vmfs" };

	return add(b, e, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08" PRIx32 "\nparentCID=ffffffff\n"
		   "createType=\"%s\"\n\n# Extent description\n", v->cid, types[v->subformat]);
}

static int add_extents(const struct vw *v, struct buf *b, struct err *e)
{
	const char *type = v->subformat == VW_FLAT ? "FLAT" : v->subformat == VW_VMFS ? "VMFS" : "SPARSE";

	for (size_t i = 0; i < v->nextents; i++)
		if (add(b, e, "%s %" PRIu64 " %s \"%s\"%s\n", v->subformat == VW_STREAM ? "RDONLY" : "RW",
			v->extents[i].len / VMDK_SECTOR, type, v->extents[i].name,
			v->subformat == VW_FLAT ? " 0" : "") < 0)
			return e->code;
	return 0;
}

/* "60 00 C2 9f 48 66 ae a5-2f 18 d3 03 0b a9 14 ff" */
static void vmware_text(const uint8_t uuid[16], char text[static 49])
{
	for (size_t i = 0; i < 16; i++)
		snprintf(text + 3 * i, 4, i == 2 ? "%02X%c" : "%02x%c", uuid[i], i == 7 ? '-' : ' ');
	text[47] = '\0';
}

static int add_database(const struct vw *v, struct buf *b, struct err *e)
{
	static const char null_uuid[] = "00000000-0000-0000-0000-000000000000";
	char uuid[UUID_TEXT_BYTES], modify[UUID_TEXT_BYTES], own[49], content[33];
	uint64_t cylinders = max_u64(v->size / VMDK_SECTOR / (HEADS * TRACK), 1);

	vmware_text(v->vmware_uuid, own);
	if (add(b, e, "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"%s\"\nddb.adapterType = \"lsilogic\"\n"
		"ddb.geometry.cylinders = \"%" PRIu64 "\"\nddb.geometry.heads = \"%u\"\n"
		"ddb.geometry.sectors = \"%u\"\n", v->subformat == VW_VMFS ? "8" : "4", cylinders, HEADS, TRACK) < 0)
		return e->code;
	return add(b, e,
		   "ddb.longContentID = \"%s\"\nddb.uuid = \"%s\"\nddb.uuid.image=\"%s\"\nddb.uuid.parent=\"%s\"\n"
		   "ddb.uuid.modification=\"%s\"\nddb.uuid.parentmodification=\"%s\"\n",
		   text_hex(v->content, 16, content), own, uuid_text(v->uuid, uuid), null_uuid,
		   uuid_text(v->modify, modify), null_uuid);
}

int vw_descriptor(const struct vw *v, struct buf *b, struct err *e)
{
	if (add_head(v, b, e) < 0 || add_extents(v, b, e) < 0)
		return e->code;
	return add_database(v, b, e);
}

int vw_descriptor_embed(const struct vw *v, int fd, struct err *e)
{
	struct buf b;
	int r;

	buf_init(&b, VW_DESCRIPTOR_SECTORS * VMDK_SECTOR);
	r = vw_descriptor(v, &b, e);
	if (r == 0)
		r = buf_add_zero(&b, (size_t)(VW_DESCRIPTOR_SECTORS * VMDK_SECTOR) - b.len, e);
	if (r == 0)
		r = fs_pwrite_full(fd, b.p, b.len, vw_base(v) + VMDK_SECTOR, e);
	buf_done(&b);
	return r;
}

void vw_header(uint8_t p[static 512], const struct vmdk_header *h)
{
	memset(p, 0, 512);
	put_le32(p, VMDK_MAGIC);
	put_le32(p + 4, h->version);
	put_le32(p + 8, h->flags);
	put_le64(p + 12, h->capacity);
	put_le64(p + 20, h->grain);
	put_le64(p + 28, h->descriptor);
	put_le64(p + 36, h->descriptor_len);
	put_le32(p + 44, h->table_entries);
	put_le64(p + 48, h->copy);
	put_le64(p + 56, h->dir);
	put_le64(p + 64, h->overhead);
	memcpy(p + 73, "\n \r\n", 4);
	put_le16(p + 77, h->compression);
}
