/*
 * vhdx_header.c - file identifier, the two headers, the two region tables.
 *
 *	header	0 "head"  4 u32 CRC  8 u64 sequence  16 file write GUID  32 data write GUID  48 log GUID
 *		64 u16 log version 0  66 u16 version 1  68 u32 log length  72 u64 log offset
 *	regions	0 "regi"  4 u32 CRC  8 u32 entries  12 u32 0, then entries of 32 bytes:
 *		0 GUID  16 u64 offset  24 u32 length  28 u32 required
 */
#include <inttypes.h>

#include "base/fs.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "formats/vhdx/vhdx_internal.h"

#define REGION_ENTRY_BYTES 32

/* The CRC-32C of len bytes whose field at 4 counts as zeros. */
static bool checksum_fits(const uint8_t *p, size_t len)
{
	uint32_t crc = vhdx_crc(UINT32_MAX, p, 4);

	crc = vhdx_crc(crc, (const uint8_t[4]){ 0 }, 4);
	return ~vhdx_crc(crc, p + 8, len - 8) == get_le32(p + 4);
}

static bool header_valid(const uint8_t *p)
{
	return memcmp(p, "head", 4) == 0 && checksum_fits(p, VHDX_HEADER_BYTES);
}

static int check_header(const struct vhdx_header *h, uint16_t version, uint64_t at, uint64_t file_size, struct err *e)
{
	if (version != 1)
		return err_set(e, ERR_UNSUPPORTED, "header at %" PRIu64 ": version %" PRIu16 " is unknown", at,
			       version);
	if (bytes_all_zero(h->log_guid, sizeof(h->log_guid)) && !h->log_length)
		return 0;
	if (h->log_offset % VHDX_UNIT || h->log_length % VHDX_UNIT || !h->log_length || h->log_offset < VHDX_UNIT ||
	    !range_ok(h->log_offset, h->log_length, file_size))
		return err_set(e, ERR_CORRUPT,
			       "header at %" PRIu64 ": log of %" PRIu32 " bytes at %" PRIu64
			       ": not whole MiB inside the file of %" PRIu64 " bytes",
			       at, h->log_length, h->log_offset, file_size);
	return 0;
}

int vhdx_header_read(const struct file *f, struct vhdx_header *ret, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *both = calloc(2, VHDX_HEADER_BYTES);
	uint8_t *first = both, *second;
	const uint8_t *p;
	bool valid[2];
	size_t len;

	if (!both)
		return err_set(e, ERR_NOMEM, "headers");
	second = both + VHDX_HEADER_BYTES;
	if (file_pread(f, first, 8, 0, &len, e) < 0)
		return e->code;
	if (len < 8 || memcmp(first, "vhdxfile", 8) != 0)
		return err_set(e, ERR_CORRUPT, "no file identifier at 0: not a VHDX image");
	if (file_pread(f, first, VHDX_HEADER_BYTES, VHDX_HEADER_1, &len, e) < 0 ||
	    file_pread(f, second, VHDX_HEADER_BYTES, VHDX_HEADER_2, &len, e) < 0)
		return e->code;
	valid[0] = header_valid(first);
	valid[1] = header_valid(second);
	if (!valid[0] && !valid[1])
		return err_set(e, ERR_CORRUPT,
			       "neither header (at 65536 and 131072) is valid: signatures or checksums are wrong");
	p = valid[0] ? first : second;
	if (valid[0] && valid[1] && get_le64(first + 8) == get_le64(second + 8)) {
		if (memcmp(first, second, VHDX_HEADER_BYTES) != 0)	/* two that are equal: disk2vhd writes them */
			return err_set(e, ERR_CORRUPT,
				       "the headers at 65536 and 131072 differ and have one sequence number, %" PRIu64,
				       get_le64(first + 8));
	} else if (valid[0] && valid[1] && get_le64(second + 8) > get_le64(first + 8)) {
		p = second;
	}
	*ret = (struct vhdx_header){ .sequence = get_le64(p + 8), .log_version = get_le16(p + 64),
				     .log_length = get_le32(p + 68), .log_offset = get_le64(p + 72) };
	memcpy(ret->data_write, p + 32, 16);
	memcpy(ret->log_guid, p + 48, 16);
	return check_header(ret, get_le16(p + 66), p == first ? VHDX_HEADER_1 : VHDX_HEADER_2, f->size, e);
}

/* ---- region table ---- */

struct regions {
	VEC(struct vhdx_region) all;	/* also those that are unknown */
	uint64_t at;			/* of the table */
};

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

static int add_region(struct vhdx *v, struct regions *r, const uint8_t *p, struct err *e)
{
	struct vhdx_region x = { get_le64(p + 16), get_le32(p + 24) }, *slot, *known = NULL;
	char guid[UUID_TEXT_BYTES];

	uuid_text_stored(p, guid);
	if (x.offset % VHDX_UNIT || x.length % VHDX_UNIT || x.offset < VHDX_UNIT || !x.length ||
	    !range_ok(x.offset, x.length, v->size))
		return err_set(e, ERR_CORRUPT,
			       "region table at %" PRIu64 ": region %s, %" PRIu32 " bytes at %" PRIu64
			       ": not whole MiB inside the file of %" PRIu64 " bytes",
			       r->at, guid, x.length, x.offset, v->size);
	if (v->h.log_length && overlap(x.offset, x.length, v->h.log_offset, v->h.log_length))
		return err_set(e, ERR_CORRUPT, "region table at %" PRIu64 ": region %s overlaps the log", r->at, guid);
	for (size_t i = 0; i < r->all.n; i++)
		if (overlap(x.offset, x.length, r->all.p[i].offset, r->all.p[i].length))
			return err_set(e, ERR_CORRUPT,
				       "region table at %" PRIu64 ": region %s overlaps the one at %" PRIu64, r->at,
				       guid, r->all.p[i].offset);
	if (memcmp(p, vhdx_guid_bat, 16) == 0)
		known = &v->bat;
	else if (memcmp(p, vhdx_guid_metadata, 16) == 0)
		known = &v->metadata;
	else if (get_le32(p + 28) & 1)
		return err_set(e, ERR_UNSUPPORTED, "region table at %" PRIu64 ": region %s is unknown and required",
			       r->at, guid);
	if (known && known->length)
		return err_set(e, ERR_CORRUPT, "region table at %" PRIu64 ": two regions %s", r->at, guid);
	slot = VEC_PUSH(&r->all, e);
	if (!slot)
		return e->code;
	*slot = x;
	if (known)
		*known = x;
	return 0;
}

static bool regions_valid(const uint8_t *p)
{
	return memcmp(p, "regi", 4) == 0 && checksum_fits(p, VHDX_REGIONS_BYTES) &&
	       get_le32(p + 8) <= VHDX_REGIONS_MAX;
}

int vhdx_regions_read(struct vhdx *v, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = malloc(VHDX_REGIONS_BYTES);
	struct regions r = { .at = VHDX_REGIONS_1 };
	int rc = 0;

	if (!p)
		return err_set(e, ERR_NOMEM, "region table");
	if (vhdx_read(v, p, VHDX_REGIONS_BYTES, r.at, e) < 0)
		return e->code;
	if (!regions_valid(p)) {
		r.at = VHDX_REGIONS_2;
		if (vhdx_read(v, p, VHDX_REGIONS_BYTES, r.at, e) < 0)
			return e->code;
		if (!regions_valid(p))
			return err_set(e, ERR_CORRUPT,
				       "neither region table (at 196608 and 262144) is valid: signature, checksum or "
				       "count is wrong");
	}
	for (uint32_t i = 0; rc == 0 && i < get_le32(p + 8); i++)
		rc = add_region(v, &r, p + 16 + (size_t)i * REGION_ENTRY_BYTES, e);
	VEC_DONE(&r.all);
	if (rc < 0)
		return rc;
	if (!v->bat.length || !v->metadata.length)
		return err_set(e, ERR_CORRUPT, "region table at %" PRIu64 ": no %s", r.at,
			       v->bat.length ? "metadata region" : "block allocation table");
	return 0;
}
