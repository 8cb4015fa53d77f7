/*
 * vhd_footer.c - footer and dynamic header.
 *
 *	footer  0 "conectix"    8 u32 features   12 u32 version 0x10000   16 u64 dynamic header (fixed: all ones)
 *	       24 u32 time     28 creator[4]     32 u32 its version       36 its system[4]
 *	       40 u64 original size    48 u64 current size    56 u16 cylinders, u8 heads, u8 sectors
 *	       60 u32 type     64 u32 checksum   68 UUID                  84 u8 saved state
 *	header  0 "cxsparse"    8 u64 all ones   16 u64 table   24 u32 version 0x10000   28 u32 entries
 *	       32 u32 block size   36 u32 checksum   40 parent UUID   56 u32 parent's time   64 parent's name, UTF-16
 *	      576 eight locators of 24 bytes: code[4], u32 space, u32 length, u32 0, u64 offset
 *
 * A checksum is the complement of the sum of all other bytes.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/log.h"
#include "formats/file.h"
#include "formats/vhd/vhd_internal.h"

#define FOOTER_CHECKSUM 64
#define HEADER_CHECKSUM 36

uint32_t vhd_checksum(const uint8_t *p, size_t len, size_t field)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i >= field && i < field + 4 ? 0 : p[i];
	return ~sum;
}

static bool is_footer(const uint8_t *p, size_t len)
{
	return memcmp(p, "conectix", 8) == 0 && get_be32(p + FOOTER_CHECKSUM) == vhd_checksum(p, len, FOOTER_CHECKSUM);
}

bool vhd_is_fixed_footer(const uint8_t *p, size_t len)
{
	return is_footer(p, len) && get_be32(p + 60) == VHD_FIXED;
}

static void decode_footer(const uint8_t *p, struct vhd_footer *f)
{
	f->data_offset = get_be64(p + 16);
	f->time = get_be32(p + 24);
	memcpy(f->creator, p + 28, sizeof(f->creator) - 1);	/* NUL-terminated: *f is zeroed */
	f->size = get_be64(p + 48);
	f->chs_size = (uint64_t)get_be16(p + 56) * p[58] * p[59] * VHD_SECTOR;
	f->type = get_be32(p + 60);
	memcpy(f->uuid, p + 68, sizeof(f->uuid));
}

static int check_footer(const struct vhd_footer *f, const uint8_t *p, uint64_t at, uint64_t data_end, struct err *e)
{
	if (get_be32(p + 12) >> 16 != 1)
		return err_set(e, ERR_UNSUPPORTED, "footer at %" PRIu64 ": version 0x%08" PRIx32 " is unknown", at,
			       get_be32(p + 12));
	if (f->type < VHD_FIXED || f->type > VHD_DIFFERENCING)
		return err_set(e, ERR_UNSUPPORTED, "footer at %" PRIu64 ": disk type %" PRIu32 " is unknown", at,
			       f->type);
	if (f->size > VHD_SIZE_MAX)
		return err_set(e, ERR_CORRUPT,
			       "footer at %" PRIu64 ": a disk of %" PRIu64 " bytes; the format ends at 2040 GiB", at,
			       f->size);
	if (f->type == VHD_FIXED && f->size > data_end)
		return err_set(e, ERR_CORRUPT,
			       "footer at %" PRIu64 ": a fixed disk of %" PRIu64 " bytes, the file has only %" PRIu64
			       " before the footer",
			       at, f->size, data_end);
	return 0;
}

static int no_footer(const uint8_t *tail, size_t len, uint64_t file_size, const uint8_t *copy, struct err *e)
{
	if (len == VHD_FOOTER_BYTES && memcmp(tail, "conectix", 8) == 0)
		return err_set(e, ERR_CORRUPT,
			       "footer at %" PRIu64 ": checksum 0x%08" PRIx32 ", its bytes have 0x%08" PRIx32
			       ", and there is no whole copy at the start",
			       file_size - len, get_be32(tail + FOOTER_CHECKSUM),
			       vhd_checksum(tail, VHD_FOOTER_BYTES, FOOTER_CHECKSUM));
	if (memcmp(copy, "conectix", 8) == 0)
		return err_set(e, ERR_CORRUPT,
			       "no footer at the end (%" PRIu64 "), and its copy at 0 has checksum 0x%08" PRIx32
			       ", its bytes have 0x%08" PRIx32,
			       file_size - len, get_be32(copy + FOOTER_CHECKSUM),
			       vhd_checksum(copy, VHD_FOOTER_BYTES, FOOTER_CHECKSUM));
	return err_set(e, ERR_CORRUPT, "no footer at the end of %" PRIu64 " bytes, and no copy of it at the start",
		       file_size);
}

/* The copy stands in for a lost footer; a fixed disk has none, and what looks like one is the guest's. */
static bool is_copy(const uint8_t *p)
{
	return is_footer(p, VHD_FOOTER_BYTES) &&
	       (get_be32(p + 60) == VHD_DYNAMIC || get_be32(p + 60) == VHD_DIFFERENCING);
}

int vhd_footer_read(const struct file *file, struct vhd_footer *ret, uint64_t *ret_data_end, struct err *e)
{
	uint8_t tail[VHD_FOOTER_BYTES] = { 0 }, copy[VHD_FOOTER_BYTES] = { 0 };
	size_t len = (size_t)min_u64(file->size, sizeof(tail)), copy_len;
	uint64_t at = file->size - len, end = at;
	struct vhd_footer f = { 0 };
	const uint8_t *p = tail;

	if (file_pread_full(file, tail, len, at, e) < 0 || file_pread(file, copy, sizeof(copy), 0, &copy_len, e) < 0)
		return e->code;
	if (len == VHD_FOOTER_BYTES && is_footer(tail, VHD_FOOTER_BYTES)) {
		if (is_copy(copy) && memcmp(tail, copy, sizeof(copy)) != 0)
			LOG_DEBUG("footer at %" PRIu64 " and its copy at 0 differ: the footer counts", at);
	} else if (len == VHD_FOOTER_BYTES && is_footer(tail + 1, VHD_OLD_FOOTER_BYTES)) {
		p = tail + 1;
		end = at = at + 1;
	} else if (is_copy(copy)) {
		LOG_DEBUG("no valid footer at %" PRIu64 ": its copy at 0 counts", at);
		end = memcmp(tail, "conectix", 8) == 0 ? at : file->size;
		p = copy;
		at = 0;
	} else {
		return no_footer(tail, len, file->size, copy, e);
	}
	decode_footer(p, &f);
	if (check_footer(&f, p, at, end, e) < 0)
		return e->code;
	f.copy_differs = f.type == VHD_FIXED ? !memcmp(copy, "conectix", 8) : memcmp(tail, copy, sizeof(copy)) != 0;
	*ret = f;
	*ret_data_end = end;
	return 0;
}

static void decode_header(const uint8_t *p, struct vhd_header *h)
{
	h->table_offset = get_be64(p + 16);
	h->entries = get_be32(p + 28);
	h->block_size = get_be32(p + 32);
	memcpy(h->parent_uuid, p + 40, sizeof(h->parent_uuid));
	h->parent_time = get_be32(p + 56);
	memcpy(h->parent_name, p + 64, sizeof(h->parent_name));
	for (size_t i = 0; i < VHD_LOCATORS; i++) {
		const uint8_t *l = p + 576 + 24 * i;

		memcpy(h->locators[i].code, l, 4);
		h->locators[i].length = get_be32(l + 8);
		h->locators[i].offset = get_be64(l + 16);
	}
}

static int check_header(const struct vhd_header *h, const uint8_t *p, uint64_t at, uint64_t file_size, uint64_t size,
			struct err *e)
{
	if (get_be32(p + 24) >> 16 != 1)
		return err_set(e, ERR_UNSUPPORTED, "dynamic header at %" PRIu64 ": version 0x%08" PRIx32 " is unknown",
			       at, get_be32(p + 24));
	if (!is_pow2(h->block_size) || h->block_size < VHD_SECTOR || h->block_size > VHD_BLOCK_MAX)
		return err_set(e, ERR_CORRUPT,
			       "dynamic header at %" PRIu64 ": block size %" PRIu32
			       " is not a power of two from 512 to 256 MiB",
			       at, h->block_size);
	if (h->entries < div_up(size, h->block_size))
		return err_set(e, ERR_CORRUPT,
			       "dynamic header at %" PRIu64 ": %" PRIu32 " table entries, the disk has %" PRIu64
			       " blocks",
			       at, h->entries, div_up(size, h->block_size));
	if (!range_ok(h->table_offset, (uint64_t)h->entries * 4, file_size))
		return err_set(e, ERR_CORRUPT,
			       "dynamic header at %" PRIu64 ": table of %" PRIu32 " entries at %" PRIu64
			       " is outside the file of %" PRIu64 " bytes",
			       at, h->entries, h->table_offset, file_size);
	return 0;
}

int vhd_header_read(const struct file *file, const struct vhd_footer *f, struct vhd_header *ret, struct err *e)
{
	uint8_t p[VHD_HEADER_BYTES];
	uint64_t at = f->data_offset;
	struct vhd_header h = { 0 };

	if (!range_ok(at, sizeof(p), file->size))
		return err_set(e, ERR_CORRUPT,
			       "footer: dynamic header at %" PRIu64 " is outside the file of %" PRIu64 " bytes", at,
			       file->size);
	if (file_pread_full(file, p, sizeof(p), at, e) < 0)
		return e->code;
	if (memcmp(p, "cxsparse", 8) != 0)
		return err_set(e, ERR_CORRUPT, "no dynamic header at %" PRIu64 ", where the footer says it is", at);
	if (get_be32(p + HEADER_CHECKSUM) != vhd_checksum(p, sizeof(p), HEADER_CHECKSUM))
		return err_set(e, ERR_CORRUPT,
			       "dynamic header at %" PRIu64 ": checksum 0x%08" PRIx32 ", its bytes have 0x%08" PRIx32,
			       at, get_be32(p + HEADER_CHECKSUM), vhd_checksum(p, sizeof(p), HEADER_CHECKSUM));
	decode_header(p, &h);
	if (check_header(&h, p, at, file->size, f->size, e) < 0)
		return e->code;
	*ret = h;
	return 0;
}
