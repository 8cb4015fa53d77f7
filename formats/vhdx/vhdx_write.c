/*
 * vhdx_write.c - the VHDX writer.
 *
 *	0	identifier, headers, region tables
 *	1 MiB	log, 1 MiB, empty
 *	2 MiB	metadata, 1 MiB
 *	3 MiB	block allocation table
 *	then	blocks: of a fixed disk in order, else as they were written to
 *
 * Regions and metadata are marked as required, as the specification asks for and VirtualBox insists on.
 */
#include "formats/vhdx/vhdx_write.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/blocks.h"
#include "formats/ids.h"
#include "formats/target.h"
#include "formats/vhdx/vhdx_format.h"

#define DEFAULT_MODE 0600
#define UNIT_BYTES ((uint32_t)64 << 10)
#define BLOCK_DEFAULT ((uint32_t)2 << 20)
#define BLOCKS_DEFAULT_MAX ((uint64_t)1 << 20)
#define SECTOR 512
#define PHYSICAL_SECTOR 4096
#define LOG_OFFSET (1 * MIB)
#define METADATA_OFFSET (2 * MIB)
#define TABLE_OFFSET (3 * MIB)
#define ITEMS_OFFSET 65536	/* of the metadata's items in their region */
#define TABLE_PIECE_ENTRIES ((size_t)8192)
#define MAX_BYTES_DEFAULT ((size_t)64 << 20)

const char *const vhdx_subformats[] = { "dynamic", "fixed", NULL };

struct vhdx_writer {
	struct image_writer w;
	char *path;
	struct fs_atomic file;
	bool replace, begun, fixed;
	uint32_t block_size;
	uint8_t file_write[16], data_write[16], disk_id[16];	/* as stored */
	struct blocks blocks;
};

static void vhdx_writer_free(struct vhdx_writer *v)
{
	blocks_done(&v->blocks);
	fs_atomic_done(&v->file);
	free(v->path);
	free(v);
}

static void vhdx_abort(struct image_writer *w)
{
	vhdx_writer_free((struct vhdx_writer *)w);
}

static int vhdx_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct vhdx_writer *v = (struct vhdx_writer *)w;

	if (v->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a VHDX image has one state, of %" PRIu64 " bytes", w->size);
	v->begun = true;
	return 0;
}

static int vhdx_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vhdx_writer *v = (struct vhdx_writer *)w;

	return blocks_write(&v->blocks, buf, len, off, e) < 0 ? err_ctx(e, "%s", v->path) : 0;
}

/* ---- the parts of the file ---- */

static void put_checksum(uint8_t *p, size_t len)
{
	put_le32(p + 4, 0);
	put_le32(p + 4, ~vhdx_crc(UINT32_MAX, p, len));
}

static int write_identifier(struct vhdx_writer *v, struct err *e)
{
	static const char creator[] = "kedge";
	uint8_t p[520] = "vhdxfile";

	for (size_t i = 0; creator[i]; i++)
		put_le16(p + 8 + 2 * i, (uint8_t)creator[i]);
	return fs_pwrite_full(v->file.fd, p, sizeof(p), 0, e);
}

static uint64_t table_entries(const struct vhdx_writer *v)
{
	uint64_t n = v->blocks.n;

	return n ? n + (n - 1) / vhdx_chunk_blocks(SECTOR, v->block_size) : 0;
}

/* Bytes of the table's region. */
static uint64_t table_bytes(const struct vhdx_writer *v)
{
	return max_u64(round_up(table_entries(v) * 8, VHDX_UNIT), VHDX_UNIT);
}

static int write_headers(struct vhdx_writer *v, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = calloc(1, VHDX_HEADER_BYTES);

	if (!p)
		return err_set(e, ERR_NOMEM, "header");
	memcpy(p, "head", 4);
	memcpy(p + 16, v->file_write, 16);
	memcpy(p + 32, v->data_write, 16);
	put_le16(p + 66, 1);
	put_le32(p + 68, (uint32_t)MIB);
	put_le64(p + 72, LOG_OFFSET);
	for (uint64_t i = 1; i <= 2; i++) {
		put_le64(p + 8, i);
		put_checksum(p, VHDX_HEADER_BYTES);
		if (fs_pwrite_full(v->file.fd, p, VHDX_HEADER_BYTES, i * VHDX_HEADER_1, e) < 0)
			return e->code;
	}
	return 0;
}

static void put_region(uint8_t *p, const uint8_t guid[16], uint64_t off, uint64_t len)
{
	memcpy(p, guid, 16);
	put_le64(p + 16, off);
	put_le32(p + 24, (uint32_t)len);
	put_le32(p + 28, 1);
}

static int write_regions(struct vhdx_writer *v, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = calloc(1, VHDX_REGIONS_BYTES);

	if (!p)
		return err_set(e, ERR_NOMEM, "region table");
	memcpy(p, "regi", 4);
	put_le32(p + 8, 2);
	put_region(p + 16, vhdx_guid_metadata, METADATA_OFFSET, MIB);
	put_region(p + 48, vhdx_guid_bat, TABLE_OFFSET, table_bytes(v));
	put_checksum(p, VHDX_REGIONS_BYTES);
	if (fs_pwrite_full(v->file.fd, p, VHDX_REGIONS_BYTES, VHDX_REGIONS_1, e) < 0)
		return e->code;
	return fs_pwrite_full(v->file.fd, p, VHDX_REGIONS_BYTES, VHDX_REGIONS_2, e);
}

static int write_metadata(struct vhdx_writer *v, struct err *e)
{
	uint8_t params[8], size[8], logical[4], physical[4], table[32 + 5 * 32] = "metadata", items[64];
	const struct {
		const uint8_t *guid, *value;
		uint32_t len, flags;
	} rows[] = {
		{ vhdx_guid_file_params, params, 8, VHDX_META_IS_REQUIRED },
		{ vhdx_guid_disk_size, size, 8, VHDX_META_IS_REQUIRED | VHDX_META_IS_VIRTUAL_DISK },
		{ vhdx_guid_logical_sector, logical, 4, VHDX_META_IS_REQUIRED | VHDX_META_IS_VIRTUAL_DISK },
		{ vhdx_guid_physical_sector, physical, 4, VHDX_META_IS_REQUIRED | VHDX_META_IS_VIRTUAL_DISK },
		{ vhdx_guid_disk_id, v->disk_id, 16, VHDX_META_IS_REQUIRED | VHDX_META_IS_VIRTUAL_DISK },
	};
	uint32_t at = 0;

	put_le32(params, v->block_size);
	put_le32(params + 4, v->fixed ? VHDX_FILE_PARAM_LEAVE_ALLOCATED : 0);
	put_le64(size, v->w.size);
	put_le32(logical, SECTOR);
	put_le32(physical, PHYSICAL_SECTOR);
	put_le16(table + 10, sizeof(rows) / sizeof(*rows));
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint8_t *p = table + 32 + 32 * i;

		memcpy(p, rows[i].guid, 16);
		put_le32(p + 16, ITEMS_OFFSET + at);
		put_le32(p + 20, rows[i].len);
		put_le32(p + 24, rows[i].flags);
		memcpy(items + at, rows[i].value, rows[i].len);
		at += rows[i].len;
	}
	if (fs_pwrite_full(v->file.fd, table, sizeof(table), METADATA_OFFSET, e) < 0)
		return e->code;
	return fs_pwrite_full(v->file.fd, items, at, METADATA_OFFSET + ITEMS_OFFSET, e);
}

/* What is 0 is not written: the file reads so. */
static int write_table(struct vhdx_writer *v, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = malloc(TABLE_PIECE_ENTRIES * 8);
	uint64_t entries = table_entries(v), chunk = vhdx_chunk_blocks(SECTOR, v->block_size);

	if (!p)
		return err_set(e, ERR_NOMEM, "block allocation table");
	for (uint64_t first = 0, n; first < entries; first += n) {
		n = min_u64(entries - first, TABLE_PIECE_ENTRIES);
		memset(p, 0, (size_t)n * 8);
		for (uint64_t i = first; i < first + n; i++) {
			uint64_t block = i - i / (chunk + 1);

			if (i % (chunk + 1) == chunk || v->blocks.places[block] == BLOCKS_NO_PLACE)
				continue;
			put_le64(p + (i - first) * 8,
				 (v->blocks.start + v->blocks.places[block] * v->blocks.stride) | VHDX_FULLY_PRESENT);
		}
		if (target_write_sparse(v->file.fd, p, (size_t)n * 8, TABLE_OFFSET + first * 8, e) < 0)
			return e->code;
	}
	return 0;
}

static int end_image(struct vhdx_writer *v, struct err *e)
{
	if (!v->begun)
		return err_set(e, ERR_INTERNAL, "finished before it was begun");
	if (FS_RETRY(ftruncate(v->file.fd, (off_t)blocks_end(&v->blocks))) < 0)
		return err_sys(e, "size of %" PRIu64 " bytes", blocks_end(&v->blocks));
	if (write_table(v, e) < 0 || write_metadata(v, e) < 0 || write_regions(v, e) < 0 || write_headers(v, e) < 0)
		return e->code;
	return write_identifier(v, e);
}

static int vhdx_finish(struct image_writer *w, struct err *e)
{
	struct vhdx_writer *v = (struct vhdx_writer *)w;
	int r = end_image(v, e);

	if (r < 0)
		(void)err_ctx(e, "%s", v->path);
	else
		r = fs_atomic_commit(&v->file, v->replace, e);
	vhdx_writer_free(v);
	return r;
}

static const struct writer_ops vhdx_writer_ops = {
	.format = "vhdx",
	.concurrent = true,
	.begin_state = vhdx_begin,
	.write = vhdx_write,
	.finish = vhdx_finish,
	.abort = vhdx_abort,
};

/* ---- opening ---- */

static int check_opts(const struct writer_opts *o, bool fixed, struct err *e)
{
	struct target t;

	if (target_look(o->path, &t, e) < 0)
		return e->code;
	if (t.block_device)
		return err_set(e, ERR_INVALID, "%s is a block device: only a raw image can be written to it", o->path);
	if (o->compress)
		return err_set(e, ERR_INVALID, "a VHDX image has no compression");
	if (o->cluster_size &&
	    (!is_pow2(o->cluster_size) || o->cluster_size < VHDX_BLOCK_MIN || o->cluster_size > VHDX_BLOCK_MAX))
		return err_set(e, ERR_INVALID, "VHDX blocks have 1 to 256 MiB, a power of two, not %" PRIu32 " bytes",
			       o->cluster_size);
	if (o->preallocation == PREALLOC_METADATA)
		return err_set(e, ERR_INVALID, "a VHDX image has no metadata to preallocate");
	if (o->preallocation != PREALLOC_OFF && !fixed) {
		(void)err_set(e, ERR_INVALID, "a dynamic VHDX image cannot be preallocated");
		return err_hint(e, "use --subformat fixed");
	}
	if (o->max_size > o->size)
		return err_set(e, ERR_INVALID, "a VHDX image has one size");
	if (o->size % SECTOR) {
		(void)err_set(e, ERR_INVALID,
			      "a VHDX image has whole sectors of 512 bytes, the disk has %" PRIu64 " bytes", o->size);
		return err_hint(e, "a raw image keeps the exact size: -O raw");
	}
	if (o->size > VHDX_SIZE_MAX)
		return err_set(e, ERR_INVALID,
			       "a disk of %" PRIu64 " bytes is too large for VHDX, which ends at 64 TiB", o->size);
	return 0;
}

/* The table is in memory until the end: 4 bytes a block. */
static int check_table(const struct vhdx_writer *v, const struct writer_opts *o, struct err *e)
{
	size_t max = o->max_bytes ? o->max_bytes : MAX_BYTES_DEFAULT;
	uint64_t n = div_up(o->size, v->block_size);

	if (n * sizeof(*v->blocks.places) <= max)
		return 0;
	(void)err_set(e, ERR_INVALID,
		      "the table of %" PRIu64 " blocks of %" PRIu32 " bytes needs more memory than there is", n,
		      v->block_size);
	return err_hint(e, "use larger blocks (--cluster-size), or more memory (--memory)");
}

static int open_file(struct vhdx_writer *v, const struct writer_opts *o, struct err *e)
{
	uint64_t start, len;
	int fd;

	v->path = strdup(o->path);
	if (!v->path)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	if (check_table(v, o, e) < 0 || blocks_init(&v->blocks, o->size, v->block_size, v->fixed, e) < 0)
		return e->code;
	if (fs_atomic_open(&v->file, o->path, o->replace, o->mode ? o->mode : DEFAULT_MODE, e) < 0)
		return e->code;
	fd = v->blocks.fd = v->file.fd;
	v->blocks.stride = v->block_size;
	v->blocks.start = start = TABLE_OFFSET + table_bytes(v);
	len = blocks_end(&v->blocks) - start;
	if ((o->preallocation != PREALLOC_OFF && target_reserve(fd, 0, start + len, e) < 0) ||
	    (o->preallocation == PREALLOC_FULL && target_write_zeros(fd, start, len, e) < 0))
		return err_ctx(e, "%s", v->path);
	return 0;
}

static uint32_t default_block(uint64_t size)
{
	uint32_t block = BLOCK_DEFAULT;

	while (div_up(size, block) > BLOCKS_DEFAULT_MAX)
		block *= 2;
	return block;
}

static void take_ids(struct vhdx_writer *v, const struct writer_opts *o)
{
	uuid_for(o, NULL, "vhdx file write", v->file_write);
	uuid_for(o, o->ids ? o->ids->content : NULL, "vhdx data write", v->data_write);
	uuid_for(o, o->ids ? o->ids->uuid : NULL, "vhdx disk", v->disk_id);
	uuid_swap(v->file_write);
	uuid_swap(v->data_write);
	uuid_swap(v->disk_id);
}

int vhdx_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	bool fixed = o->subformat ? !strcmp(o->subformat, "fixed") : o->preallocation > PREALLOC_METADATA;
	struct vhdx_writer *v;

	if (o->subformat && !fixed && strcmp(o->subformat, "dynamic") != 0)
		return err_set(e, ERR_INVALID, "a VHDX image is dynamic or fixed, not %s", o->subformat);
	if (check_opts(o, fixed, e) < 0)
		return e->code;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	v->w = (struct image_writer){ .ops = &vhdx_writer_ops, .cluster_size = UNIT_BYTES, .size = o->size,
				      .in_order = o->id_seed };
	v->file.fd = -1;
	v->replace = o->replace;
	v->fixed = fixed;
	v->block_size = o->cluster_size ? o->cluster_size : default_block(o->size);
	take_ids(v, o);
	if (open_file(v, o, e) < 0) {
		vhdx_writer_free(v);
		return e->code;
	}
	*ret = &v->w;
	return 0;
}
