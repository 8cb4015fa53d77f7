/*
 * header.c - the VDI header, versions 0 and 1, all little-endian.
 *
 *	 0  64 text              64 u32 signature      68 u32 version
 * version 1, offsets from 72:				version 0:
 *	 0 u32 header size				  0 u32 type
 *	 4 u32 type		  8 u32 flags		  4 u32 flags
 *	12 256 comment					  8 256 comment
 *	268 u32 map offset	272 u32 data offset	264 16 geometry
 *	276 16 geometry		292 4 unused		280 u64 disk size
 *	296 u64 disk size				288 u32 block size
 *	304 u32 block size	308 u32 extra		292 u32 blocks
 *	312 u32 blocks		316 u32 allocated	296 u32 allocated
 *	320 uuid		336 modification	300 uuid	316 modification
 *	352 parent		368 its modification	332 parent; 348: the map, the data right behind it
 *
 * Unknown flags, the geometries and the text decide nothing about what the image reads as.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "formats/vdi/vdi_internal.h"

#define HEADER0_END (VDI_PREHEADER_BYTES + 348u)

static bool take_uuid(struct rd *r, uint8_t uuid[16])
{
	if (!rd_copy(r, uuid, 16))
		return false;
	uuid_swap(uuid);
	return true;
}

static bool decode0(struct rd *r, struct vdi_header *h)
{
	if (!rd_le32(r, &h->type) || !rd_skip(r, 4 + 256 + 16) || !rd_le64(r, &h->size) ||
	    !rd_le32(r, &h->block_size) || !rd_le32(r, &h->blocks) || !rd_le32(r, &h->allocated) ||
	    !take_uuid(r, h->uuid) || !take_uuid(r, h->modify) || !take_uuid(r, h->parent))
		return false;
	h->map_offset = HEADER0_END;
	h->data_offset = HEADER0_END + (uint64_t)h->blocks * 4;
	return true;
}

static bool decode1(struct rd *r, struct vdi_header *h, uint32_t *ret_header_size)
{
	uint32_t map, data;

	if (!rd_le32(r, ret_header_size) || !rd_le32(r, &h->type) || !rd_skip(r, 4 + 256) || !rd_le32(r, &map) ||
	    !rd_le32(r, &data) || !rd_skip(r, 16 + 4) || !rd_le64(r, &h->size) || !rd_le32(r, &h->block_size) ||
	    !rd_le32(r, &h->extra) || !rd_le32(r, &h->blocks) || !rd_le32(r, &h->allocated) ||
	    !take_uuid(r, h->uuid) || !take_uuid(r, h->modify) || !take_uuid(r, h->parent) ||
	    !take_uuid(r, h->parent_modify))
		return false;
	h->map_offset = map;
	h->data_offset = data;
	return true;
}

bool vdi_is_child(const struct vdi_header *h)
{
	return h->type == VDI_UNDO || h->type == VDI_DIFF;
}

/* Where things are. */
static int check_places(const struct vdi_header *h, uint64_t file_size, struct err *e)
{
	uint64_t map_bytes = (uint64_t)h->blocks * 4;

	if (h->version >> 16 && h->map_offset < VDI_PREHEADER_BYTES + VDI_HEADER1_BYTES)
		return err_set(e, ERR_CORRUPT, "header: block map at %" PRIu64 ", inside the header", h->map_offset);
	if (!range_ok(h->map_offset, map_bytes, file_size))
		return err_set(e, ERR_CORRUPT,
			       "header: block map of %" PRIu32 " entries at %" PRIu64 ", file has %" PRIu64 " bytes",
			       h->blocks, h->map_offset, file_size);
	if (h->data_offset < h->map_offset + map_bytes)
		return err_set(e, ERR_CORRUPT,
			       "header: data at %" PRIu64 ", inside the block map of %" PRIu64 " bytes at %" PRIu64,
			       h->data_offset, map_bytes, h->map_offset);
	return 0;
}

static int check(const struct vdi_header *h, uint32_t header_size, uint64_t file_size, struct err *e)
{
	if (header_size < VDI_HEADER1_BYTES)
		return err_set(e, ERR_CORRUPT, "header: size of %" PRIu32 " bytes at offset 72, at least %u are needed",
			       header_size, VDI_HEADER1_BYTES);
	if (h->type < VDI_DYNAMIC || h->type > VDI_DIFF)
		return err_set(e, ERR_CORRUPT, "header: image type %" PRIu32, h->type);
	if (!is_pow2(h->block_size) || h->block_size < VDI_BLOCK_MIN_BYTES)
		return err_set(e, ERR_CORRUPT, "header: block size %" PRIu32 " is no power of two from 512 on",
			       h->block_size);
	if (h->extra && !is_pow2(h->extra))
		return err_set(e, ERR_CORRUPT, "header: %" PRIu32 " extra bytes before each block, no power of two",
			       h->extra);
	if (h->blocks > VDI_BLOCKS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "header: %" PRIu32 " blocks, at most %u are read", h->blocks,
			       VDI_BLOCKS_MAX);
	if ((uint64_t)h->blocks * h->block_size < h->size)
		return err_set(e, ERR_CORRUPT,
			       "header: disk of %" PRIu64 " bytes, but %" PRIu32 " blocks of %" PRIu32 " bytes",
			       h->size, h->blocks, h->block_size);
	if (h->allocated > h->blocks)
		return err_set(e, ERR_CORRUPT, "header: %" PRIu32 " blocks allocated of %" PRIu32, h->allocated,
			       h->blocks);
	if (vdi_is_child(h) == uuid_is_null(h->parent))
		return err_set(e, ERR_CORRUPT, "header: image type %" PRIu32 " %s a parent UUID", h->type,
			       vdi_is_child(h) ? "without" : "with");
	return check_places(h, file_size, e);
}

/* "<<< Oracle VM VirtualBox Disk Image >>>\n", as all programs write it, without what isn't a name. */
static void take_creator(const uint8_t text[static VDI_TEXT_BYTES], char ret[static VDI_TEXT_BYTES + 1])
{
	const char *p = (const char *)text;
	size_t len = strnlen(p, VDI_TEXT_BYTES);

	while (len && strchr("< ", *p)) {
		p++;
		len--;
	}
	while (len && strchr("> \r\n", p[len - 1]))
		len--;
	memcpy(ret, p, len);
	ret[len] = '\0';
}

int vdi_header_read(const struct file *f, struct vdi_header *ret, struct err *e)
{
	uint8_t buf[VDI_HEADER_MAX_BYTES];
	struct vdi_header h = { 0 };
	uint32_t signature, header_size = VDI_HEADER1_BYTES;
	struct rd r;
	size_t len;

	if (file_pread(f, buf, sizeof(buf), 0, &len, e) < 0)
		return err_ctx(e, "header");
	r = rd_of(buf, len);
	if (!rd_skip(&r, VDI_SIGNATURE_OFFSET) || !rd_le32(&r, &signature) || !rd_le32(&r, &h.version))
		return err_set(e, ERR_CORRUPT, "header: the file has %zu bytes", len);
	if (signature != VDI_SIGNATURE)
		return err_set(e, ERR_CORRUPT, "header: signature 0x%08" PRIx32 " at offset 64, VDI's is 0x%08x",
			       signature, VDI_SIGNATURE);
	if (h.version >> 16 > 1)
		return err_set(e, ERR_UNSUPPORTED, "header: version %" PRIu32 ".%" PRIu32, h.version >> 16,
			       h.version & 0xffff);
	if (!(h.version >> 16 ? decode1(&r, &h, &header_size) : decode0(&r, &h)))
		return err_set(e, ERR_CORRUPT, "header: the file ends inside it, at %zu", len);
	if (check(&h, header_size, f->size, e) < 0)
		return e->code;
	take_creator(buf, h.creator);
	*ret = h;
	return 0;
}

static void id_text(const uint8_t uuid[16], char *buf)
{
	buf[0] = '\0';
	if (!uuid_is_null(uuid))
		uuid_text(uuid, buf);
}

void vdi_header_ids(const struct vdi_header *h, struct image_ids *ret)
{
	*ret = (struct image_ids){ 0 };
	id_text(h->uuid, ret->uuid);
	id_text(h->modify, ret->modify);
}
