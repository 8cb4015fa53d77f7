/*
 * header.c - the header of qcow version 1, big-endian:
 *
 *	 0 magic		 4 version 1		 8 u64 backing name's place, 0 = none
 *	16 its length		20 mtime		24 u64 disk size
 *	32 u8 cluster bits	33 u8 L2 bits		34 u16 unused
 *	36 encryption: 0, 1 AES				40 u64 L1 table's place
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/qcow/qcow_internal.h"

static int decode(struct rd r, struct qcow_header *ret, struct err *e)
{
	struct qcow_header h = { 0 };
	size_t len = r.left;
	uint32_t magic, version;

	if (!rd_be32(&r, &magic) || magic != QCOW_MAGIC)
		return err_set(e, ERR_CORRUPT, "no qcow header: the file doesn't begin with \"QFI\\xfb\"");
	if (!rd_be32(&r, &version))
		return err_set(e, ERR_CORRUPT, "file ends inside the header, after %zu bytes", len);
	if (version != 1) {
		(void)err_set(e, ERR_UNSUPPORTED, "header: version %" PRIu32 ", not 1", version);
		return version == 2 || version == 3 ? err_hint(e, "the format's name is qcow2") : e->code;
	}
	if (!rd_be64(&r, &h.backing_offset) || !rd_be32(&r, &h.backing_len) || !rd_be32(&r, &h.mtime) ||
	    !rd_be64(&r, &h.size) || !rd_u8(&r, &h.cluster_bits) || !rd_u8(&r, &h.l2_bits) || !rd_skip(&r, 2) ||
	    !rd_be32(&r, &h.crypt_method) || !rd_be64(&r, &h.l1_offset))
		return err_set(e, ERR_CORRUPT, "file ends inside the header, after %zu bytes", len);
	*ret = h;
	return 0;
}

static int check_geometry(struct qcow_header *h, struct err *e)
{
	if (h->cluster_bits < QCOW_CLUSTER_BITS_MIN || h->cluster_bits > QCOW_CLUSTER_BITS_MAX)
		return err_set(e, ERR_CORRUPT, "header: cluster bits %u at offset 32, not 9 to 16", h->cluster_bits);
	if (h->l2_bits < QCOW_L2_BITS_MIN || h->l2_bits > QCOW_L2_BITS_MAX)
		return err_set(e, ERR_CORRUPT, "header: L2 bits %u at offset 33, not 6 to 13", h->l2_bits);
	if (h->size <= 1)
		return err_set(e, ERR_CORRUPT, "header: disk of %" PRIu64 " bytes, 2 are the least", h->size);
	if (h->size > QCOW_SIZE_MAX)
		return err_set(e, ERR_CORRUPT, "header: disk of %" PRIu64 " bytes is too large", h->size);
	if (h->crypt_method > QCOW_CRYPT_AES)
		return err_set(e, ERR_CORRUPT, "header: encryption method %" PRIu32 " at offset 36", h->crypt_method);
	h->cluster_size = 1u << h->cluster_bits;
	h->l2_bytes = 8u << h->l2_bits;
	h->l1_shift = (unsigned)h->cluster_bits + h->l2_bits;
	h->l1_entries = div_up(h->size, (uint64_t)1 << h->l1_shift);
	return 0;
}

static int check_places(const struct qcow_header *h, uint64_t file_size, struct err *e)
{
	if (h->l1_offset < QCOW_HEADER_BYTES)
		return err_set(e, ERR_CORRUPT, "header: L1 table at %" PRIu64 ", inside the header", h->l1_offset);
	/* the disk is below 2^63 bytes, so the table is below 2^51 */
	if (!range_ok(h->l1_offset, h->l1_entries * 8, file_size))
		return err_set(e, ERR_CORRUPT,
			       "header: L1 table of %" PRIu64 " entries at %" PRIu64 " is outside the file of %" PRIu64
			       " bytes",
			       h->l1_entries, h->l1_offset, file_size);
	if (!h->backing_offset)
		return 0;
	if (h->backing_len > QCOW_BACKING_NAME_MAX)
		return err_set(e, ERR_CORRUPT, "header: backing file name of %" PRIu32 " bytes, 1023 are the limit",
			       h->backing_len);
	if (h->backing_offset < QCOW_HEADER_BYTES || !range_ok(h->backing_offset, h->backing_len, file_size))
		return err_set(e, ERR_CORRUPT,
			       "header: backing file name of %" PRIu32 " bytes at %" PRIu64
			       " is in the header or outside the file",
			       h->backing_len, h->backing_offset);
	return 0;
}

static int read_backing(const struct file *f, const struct qcow_header *h, char **ret, struct err *e)
{
	CLEANUP(free_ptr) char *name = calloc(1, (size_t)h->backing_len + 1);

	if (!name)
		return err_set(e, ERR_NOMEM, "backing file name");
	if (file_pread_full(f, name, h->backing_len, h->backing_offset, e) < 0)
		return err_ctx(e, "backing file name");
	if (strlen(name) != h->backing_len)
		return err_set(e, ERR_CORRUPT, "header: backing file name contains a NUL byte");
	*ret = STEAL(name);
	return 0;
}

int qcow_header_read(const struct file *f, struct qcow_header *ret, char **ret_backing, struct err *e)
{
	uint8_t buf[QCOW_HEADER_BYTES];
	char *backing = NULL;
	struct qcow_header h;
	size_t len;

	if (file_pread(f, buf, sizeof(buf), 0, &len, e) < 0)
		return err_ctx(e, "header");
	if (decode(rd_of(buf, len), &h, e) < 0 || check_geometry(&h, e) < 0 || check_places(&h, f->size, e) < 0)
		return e->code;
	if (h.backing_offset && h.backing_len && read_backing(f, &h, &backing, e) < 0)
		return e->code;
	*ret = h;
	*ret_backing = backing;
	return 0;
}
