/*
 * header.c - the qcow2 header and its extensions: decode everything, then check everything.
 *
 * All big-endian:
 *	0 magic  4 version  8 backing offset u64  16 backing length  20 cluster bits  24 size u64  32 encryption  36 L1 entries
 *	40 L1 offset u64  48 refcount table offset u64  56 its clusters  60 snapshots  64 snapshot table offset u64
 *	version 3: 72 incompatible u64  80 compatible u64  88 autoclear u64  96 refcount order  100 header length
 *	104 compression type u8, if the header is that long
 * Extensions follow the header: type u32, length u32, data padded to 8; up to type 0, the backing name or the cluster's
 * end.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"

#define EXT_END 0u
#define EXT_BACKING_FORMAT 0xe2792acau
#define EXT_FEATURE_NAMES 0x6803f857u
#define EXT_BITMAPS 0x23852875u
#define EXT_DATA_FILE 0x44415441u
#define EXT_LUKS 0x0537be77u
#define FEATURE_ROW_BYTES 48

static bool decode_v2(struct rd *r, struct qcow2_header *h)
{
	return rd_be64(r, &h->backing_offset) && rd_be32(r, &h->backing_len) && rd_be32(r, &h->cluster_bits) &&
	       rd_be64(r, &h->size) && rd_be32(r, &h->crypt_method) && rd_be32(r, &h->l1_size) &&
	       rd_be64(r, &h->l1_offset) && rd_be64(r, &h->reftable_offset) && rd_be32(r, &h->reftable_clusters) &&
	       rd_be32(r, &h->nb_snapshots) && rd_be64(r, &h->snapshots_offset);
}

static bool decode_v3(struct rd *r, struct qcow2_header *h)
{
	if (!rd_be64(r, &h->incompat) || !rd_be64(r, &h->compat) || !rd_be64(r, &h->autoclear) ||
	    !rd_be32(r, &h->refcount_order) || !rd_be32(r, &h->header_length))
		return false;
	return h->header_length <= QCOW2_V3_HEADER_BYTES || rd_u8(r, &h->compression_type);
}

static int decode(struct rd r, struct qcow2_header *ret, struct err *e)
{
	struct qcow2_header h = { .refcount_order = 4, .header_length = QCOW2_V2_HEADER_BYTES };
	size_t len = r.left;
	uint32_t magic;

	if (!rd_be32(&r, &magic) || magic != QCOW2_MAGIC)
		return err_set(e, ERR_CORRUPT, "no qcow2 header: the file doesn't begin with \"QFI\\xfb\"");
	if (!rd_be32(&r, &h.version))
		return err_set(e, ERR_CORRUPT, "file ends inside the header, after %zu bytes", len);
	if (h.version == 1) {
		(void)err_set(e, ERR_UNSUPPORTED, "qcow version 1");
		return err_hint(e, "that format's name is qcow");
	}
	if (h.version != 2 && h.version != 3)
		return err_set(e, ERR_UNSUPPORTED, "qcow version %" PRIu32 " is unknown", h.version);
	if (!decode_v2(&r, &h) || (h.version == 3 && !decode_v3(&r, &h)))
		return err_set(e, ERR_CORRUPT, "file ends inside the header, after %zu bytes", len);
	*ret = h;
	return 0;
}

/* A table of len bytes at off: aligned, and inside the file. */
static int check_table(const struct qcow2_header *h, uint64_t file_size, const char *what, uint64_t off, uint64_t len,
		       struct err *e)
{
	uint64_t cluster = (uint64_t)1 << h->cluster_bits;

	if (off & (cluster - 1))
		return err_set(e, ERR_CORRUPT, "header: %s at %" PRIu64 " is not aligned to the cluster size %" PRIu64,
			       what, off, cluster);
	if (!range_ok(off, len, file_size))
		return err_set(e, ERR_CORRUPT, "header: %s of %" PRIu64 " bytes at %" PRIu64 " is outside the file of %" PRIu64
			       " bytes", what, len, off, file_size);
	return 0;
}

static int check_geometry(const struct qcow2_header *h, struct err *e)
{
	bool ext = h->incompat & QCOW2_INCOMPAT_EXTL2;
	unsigned cover_bits;

	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return err_set(e, ERR_CORRUPT, "header: cluster bits %" PRIu32 ", not 9 to 21", h->cluster_bits);
	if (ext && h->cluster_bits < 14)
		return err_set(e, ERR_CORRUPT, "header: extended L2 entries with clusters of %u bytes, 16384 is the least",
			       1u << h->cluster_bits);
	if (h->version == 3 && (h->header_length < QCOW2_V3_HEADER_BYTES || h->header_length % 8 ||
				h->header_length > 1u << h->cluster_bits))
		return err_set(e, ERR_CORRUPT, "header: length %" PRIu32, h->header_length);
	if (h->refcount_order > 6)
		return err_set(e, ERR_CORRUPT, "header: refcount order %" PRIu32 ", not 0 to 6", h->refcount_order);
	if ((uint64_t)h->l1_size * 8 > QCOW2_L1_MAX_BYTES)
		return err_set(e, ERR_CORRUPT, "header: L1 table of %" PRIu32 " entries, 32 MiB is the limit", h->l1_size);
	cover_bits = 2 * h->cluster_bits - (ext ? 4 : 3);
	if (div_up(h->size, (uint64_t)1 << cover_bits) > h->l1_size)
		return err_set(e, ERR_CORRUPT, "header: L1 table of %" PRIu32 " entries is too small for a disk of %" PRIu64
			       " bytes", h->l1_size, h->size);
	return 0;
}

static int check_places(const struct qcow2_header *h, uint64_t file_size, struct err *e)
{
	uint64_t cluster = (uint64_t)1 << h->cluster_bits;
	uint64_t reftable_bytes = h->reftable_clusters * cluster;

	if (!h->reftable_clusters || reftable_bytes > QCOW2_REFTABLE_MAX_BYTES)
		return err_set(e, ERR_CORRUPT, "header: refcount table of %" PRIu32 " clusters", h->reftable_clusters);
	if (h->nb_snapshots > QCOW2_SNAPSHOTS_MAX)
		return err_set(e, ERR_CORRUPT, "header: %" PRIu32 " snapshots, 65536 is the limit", h->nb_snapshots);
	if (check_table(h, file_size, "L1 table", h->l1_offset, (uint64_t)h->l1_size * 8, e) < 0 ||
	    check_table(h, file_size, "refcount table", h->reftable_offset, reftable_bytes, e) < 0 ||
	    (h->nb_snapshots && check_table(h, file_size, "snapshot table", h->snapshots_offset, 40, e) < 0))
		return e->code;
	if (!h->backing_offset)
		return 0;
	if (h->backing_offset < h->header_length || h->backing_offset > cluster || h->backing_len > QCOW2_BACKING_NAME_MAX ||
	    h->backing_len > cluster - h->backing_offset)
		return err_set(e, ERR_CORRUPT, "header: backing file name of %" PRIu32 " bytes at %" PRIu64 " is outside the "
			       "first cluster", h->backing_len, h->backing_offset);
	if (!range_ok(h->backing_offset, h->backing_len, file_size))
		return err_set(e, ERR_CORRUPT, "header: file ends inside the backing file name at %" PRIu64, h->backing_offset);
	return 0;
}

static int check_features(const struct qcow2_header *h, bool force, struct err *e)
{
	if (h->crypt_method > 2)
		return err_set(e, ERR_CORRUPT, "header: encryption method %" PRIu32, h->crypt_method);
	if (h->crypt_method && h->incompat & QCOW2_INCOMPAT_DATA_FILE)
		return err_set(e, ERR_UNSUPPORTED, "encrypted, with an external data file");
	if (h->compression_type > 1)
		return err_set(e, ERR_UNSUPPORTED, "header: compression type %u is unknown", h->compression_type);
	if (!h->compression_type != !(h->incompat & QCOW2_INCOMPAT_COMPRESSION))
		return err_set(e, ERR_CORRUPT, "header: compression type %u contradicts the feature bit", h->compression_type);
	if (!(h->incompat & QCOW2_INCOMPAT_DATA_FILE)) {
		if (h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
			return err_set(e, ERR_CORRUPT, "header: raw external data without an external data file");
	} else if (h->nb_snapshots) {
		return err_set(e, ERR_CORRUPT, "header: snapshots in an image with an external data file");
	} else if ((h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA) && h->backing_offset) {
		return err_set(e, ERR_CORRUPT, "header: a backing file with raw external data");
	}
	if ((h->incompat & QCOW2_INCOMPAT_CORRUPT) && !force) {
		(void)err_set(e, ERR_CORRUPT, "the image is marked corrupt");
		return err_hint(e, "repair a copy with qemu-img check -r all, or read what is there with --force");
	}
	return 0;
}

/* Names the unknown bits by the table that the image brings along for that. */
static int refuse_features(uint64_t unknown, struct rd table, struct err *e)
{
	char name[64], list[300] = "";
	size_t n = 0;

	for (unsigned bit = 0; bit < 64; bit++) {
		struct rd t = table;
		const uint8_t *row;
		int w;

		if (!(unknown >> bit & 1))
			continue;
		snprintf(name, sizeof(name), "without a name");
		while (rd_take(&t, FEATURE_ROW_BYTES, &row)) {
			char raw[47] = { 0 };

			if (row[0] != 0 || row[1] != bit)
				continue;
			memcpy(raw, row + 2, 46);
			text_quote(raw, name, sizeof(name));
		}
		w = snprintf(list + n, sizeof(list) - n, "%sbit %u (%s)", n ? ", " : "", bit, name);
		if (w < 0 || (size_t)w >= sizeof(list) - n)
			break;
		n += (size_t)w;
	}
	return err_set(e, ERR_UNSUPPORTED, "the image needs features that kedge doesn't know: %s", list);
}

static int take_extension(struct qcow2_extensions *x, uint32_t type, struct rd data, struct err *e)
{
	struct rd *to = type == EXT_BACKING_FORMAT ? &x->backing_format : type == EXT_FEATURE_NAMES ? &x->feature_names :
			type == EXT_BITMAPS ? &x->bitmaps : type == EXT_DATA_FILE ? &x->data_file :
			type == EXT_LUKS ? &x->luks : NULL;

	if (!to)
		return 0;
	if (to->p)
		return err_set(e, ERR_CORRUPT, "header: extension 0x%08" PRIx32 " occurs twice", type);
	*to = data;
	return 0;
}

static int parse_extensions(struct rd r, struct qcow2_extensions *ret, struct err *e)
{
	struct qcow2_extensions x = { 0 };

	while (r.left >= 8) {
		uint32_t type = 0, len = 0;
		struct rd data;

		(void)(rd_be32(&r, &type) && rd_be32(&r, &len));	/* 8 bytes are there */
		if (type == EXT_END)
			break;
		if (!rd_window(&r, len, &data))
			return err_set(e, ERR_CORRUPT, "header: extension 0x%08" PRIx32 " of %" PRIu32 " bytes reaches past "
				       "the end of the extensions", type, len);
		if (take_extension(&x, type, data, e) < 0)
			return e->code;
		if (!rd_skip(&r, -len % 8))
			break;
	}
	*ret = x;
	return 0;
}

int qcow2_header_read(const struct file *f, bool force, struct qcow2_header *ret, uint8_t **ret_cluster,
		      struct qcow2_extensions *ret_ext, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *cluster = NULL;
	uint8_t first[QCOW2_V3_HEADER_BYTES + 8];
	struct qcow2_extensions ext;
	struct qcow2_header h;
	uint64_t unknown;
	size_t len;
	struct rd r;

	if (file_pread(f, first, sizeof(first), 0, &len, e) < 0 || decode(rd_of(first, len), &h, e) < 0)
		return e->code;
	if (check_geometry(&h, e) < 0 || check_places(&h, f->size, e) < 0)
		return e->code;
	len = (size_t)min_u64(f->size, (uint64_t)1 << h.cluster_bits);
	cluster = malloc(len);
	if (!cluster)
		return err_set(e, ERR_NOMEM, "first cluster");
	if (file_pread_full(f, cluster, len, 0, e) < 0)
		return e->code;
	r = rd_of(cluster, h.backing_offset ? min_size(len, (size_t)h.backing_offset) : len);
	if (!rd_skip(&r, h.header_length))
		return err_set(e, ERR_CORRUPT, "file ends inside the header, after %zu bytes", len);
	if (parse_extensions(r, &ext, e) < 0)
		return e->code;
	unknown = h.incompat & ~QCOW2_INCOMPAT_KNOWN;
	if (unknown)
		return refuse_features(unknown, ext.feature_names, e);
	if (check_features(&h, force, e) < 0)
		return e->code;
	*ret = h;
	*ret_ext = ext;
	*ret_cluster = STEAL(cluster);
	return 0;
}
