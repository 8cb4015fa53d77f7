/*
 * vhd_write.c - the VHD writer.
 *
 * The guest's size is both sizes in the footer.  Programs that go by the geometry instead, which can't express every
 * size, do so by the creator's name: QEMU for "vpc " and "qemu", before version 10 for all but a few.  "win " is
 * Hyper-V's name, which all of them take at its word.
 *
 * A dynamic image: copy of the footer, header, table, blocks in the order in which they were written to, footer.
 */
#include "formats/vhd/vhd_write.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/blocks.h"
#include "formats/ids.h"
#include "formats/target.h"
#include "formats/vhd/vhd_internal.h"

#define DEFAULT_MODE 0600
#define UNIT_BYTES ((uint32_t)64 << 10)
#define BLOCK_DEFAULT ((uint32_t)2 << 20)
#define BLOCK_MIN ((uint32_t)512 << 10)
#define HEADER_OFFSET VHD_FOOTER_BYTES
#define TABLE_OFFSET (HEADER_OFFSET + VHD_HEADER_BYTES)
#define EPOCH ((int64_t)946684800)	/* 2000-01-01 UTC, where the format's time begins */

const char *const vhd_subformats[] = { "dynamic", "fixed", NULL };

struct vhd_writer {
	struct image_writer w;
	char *path;
	struct fs_atomic file;
	bool replace, begun, fixed;
	uint8_t uuid[16];	/* as stored */
	uint32_t time;
	uint32_t block_size;
	struct blocks blocks;	/* dynamic */
};

static void vhd_writer_free(struct vhd_writer *v)
{
	blocks_done(&v->blocks);
	fs_atomic_done(&v->file);
	free(v->path);
	free(v);
}

static void vhd_abort(struct image_writer *w)
{
	vhd_writer_free((struct vhd_writer *)w);
}

static int vhd_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct vhd_writer *v = (struct vhd_writer *)w;

	if (v->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a VHD image has one state, of %" PRIu64 " bytes", w->size);
	v->begun = true;
	return 0;
}

static int vhd_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct vhd_writer *v = (struct vhd_writer *)w;
	int r = v->fixed ? target_write_sparse(v->file.fd, buf, len, off, e)
			 : blocks_write(&v->blocks, buf, len, off, e);

	return r < 0 ? err_ctx(e, "%s", v->path) : 0;
}

/* Cylinders, heads and sectors by the algorithm in the format's specification, appendix. */
static void put_geometry(uint8_t *p, uint64_t size)
{
	uint64_t sectors = min_u64(size / VHD_SECTOR, (uint64_t)65535 * 16 * 255), by_heads;
	uint32_t heads, spt;

	if (sectors >= (uint64_t)65535 * 16 * 63) {
		spt = 255;
		heads = 16;
		by_heads = sectors / spt;
	} else {
		spt = 17;
		by_heads = sectors / spt;
		heads = (uint32_t)max_u64((by_heads + 1023) / 1024, 4);
		if (by_heads >= heads * 1024 || heads > 16) {
			spt = 31;
			heads = 16;
			by_heads = sectors / spt;
		}
		if (by_heads >= heads * 1024) {
			spt = 63;
			heads = 16;
			by_heads = sectors / spt;
		}
	}
	put_be16(p, (uint16_t)(by_heads / heads));
	p[2] = (uint8_t)heads;
	p[3] = (uint8_t)spt;
}

static void make_footer(const struct vhd_writer *v, uint8_t p[VHD_FOOTER_BYTES])
{
	memset(p, 0, VHD_FOOTER_BYTES);
	memcpy(p, "conectix", 8);
	put_be32(p + 8, 2);
	put_be32(p + 12, 0x10000);
	put_be64(p + 16, v->fixed ? UINT64_MAX : HEADER_OFFSET);
	put_be32(p + 24, v->time);
	memcpy(p + 28, "win ", 4);
	put_be32(p + 32, 0xa0000);
	memcpy(p + 36, "Wi2k", 4);
	put_be64(p + 40, v->w.size);
	put_be64(p + 48, v->w.size);
	put_geometry(p + 56, v->w.size);
	put_be32(p + 60, v->fixed ? VHD_FIXED : VHD_DYNAMIC);
	memcpy(p + 68, v->uuid, sizeof(v->uuid));
	put_be32(p + 64, vhd_checksum(p, VHD_FOOTER_BYTES, 64));
}

static void make_header(const struct vhd_writer *v, uint8_t p[VHD_HEADER_BYTES])
{
	memset(p, 0, VHD_HEADER_BYTES);
	memcpy(p, "cxsparse", 8);
	put_be64(p + 8, UINT64_MAX);
	put_be64(p + 16, TABLE_OFFSET);
	put_be32(p + 24, 0x10000);
	put_be32(p + 28, (uint32_t)v->blocks.n);
	put_be32(p + 32, v->block_size);
	put_be32(p + 36, vhd_checksum(p, VHD_HEADER_BYTES, 36));
}

static uint64_t table_bytes(const struct vhd_writer *v)
{
	return round_up(v->blocks.n * 4, VHD_SECTOR);
}

static int write_table(struct vhd_writer *v, struct err *e)
{
	size_t len = (size_t)table_bytes(v);
	CLEANUP(free_ptr) uint8_t *p = malloc(len + 1);

	if (!p)
		return err_set(e, ERR_NOMEM, "block table");
	memset(p, 0xff, len);
	for (uint64_t i = 0; i < v->blocks.n; i++)
		if (v->blocks.places[i] != BLOCKS_NO_PLACE)
			put_be32(p + i * 4, (uint32_t)((v->blocks.start + v->blocks.places[i] * v->blocks.stride) /
						       VHD_SECTOR));
	return fs_pwrite_full(v->file.fd, p, len, TABLE_OFFSET, e);
}

/* Every block that is there has all its sectors. */
static int write_bitmaps(struct vhd_writer *v, struct err *e)
{
	uint8_t bitmap[BLOCK_DEFAULT / VHD_SECTOR / 8] = { 0 };

	memset(bitmap, 0xff, v->block_size / VHD_SECTOR / 8);
	for (uint32_t i = 0; i < v->blocks.used; i++)
		if (fs_pwrite_full(v->file.fd, bitmap, v->blocks.head, v->blocks.start + i * v->blocks.stride, e) < 0)
			return e->code;
	return 0;
}

static int end_image(struct vhd_writer *v, struct err *e)
{
	uint8_t footer[VHD_FOOTER_BYTES], header[VHD_HEADER_BYTES];
	int fd = v->file.fd;

	if (!v->begun)
		return err_set(e, ERR_INTERNAL, "finished before it was begun");
	make_footer(v, footer);
	if (v->fixed)
		return fs_pwrite_full(fd, footer, sizeof(footer), v->w.size, e);
	make_header(v, header);
	if (write_bitmaps(v, e) < 0 || write_table(v, e) < 0 ||
	    fs_pwrite_full(fd, header, sizeof(header), HEADER_OFFSET, e) < 0 ||
	    fs_pwrite_full(fd, footer, sizeof(footer), blocks_end(&v->blocks), e) < 0)
		return e->code;
	return fs_pwrite_full(fd, footer, sizeof(footer), 0, e);
}

static int vhd_finish(struct image_writer *w, struct err *e)
{
	struct vhd_writer *v = (struct vhd_writer *)w;
	int r = end_image(v, e);

	if (r < 0)
		(void)err_ctx(e, "%s", v->path);
	else
		r = fs_atomic_commit(&v->file, v->replace, e);
	vhd_writer_free(v);
	return r;
}

static const struct writer_ops vhd_writer_ops = {
	.format = "vhd",
	.concurrent = true,
	.begin_state = vhd_begin,
	.write = vhd_write,
	.finish = vhd_finish,
	.abort = vhd_abort,
};

static int check_size(const struct writer_opts *o, struct err *e)
{
	if (o->max_size > o->size)
		return err_set(e, ERR_INVALID, "a VHD image has one size");
	if (o->size % VHD_SECTOR) {
		(void)err_set(e, ERR_INVALID,
			      "a VHD image has whole sectors of 512 bytes, the disk has %" PRIu64 " bytes", o->size);
		return err_hint(e, "a raw image keeps the exact size: -O raw");
	}
	if (o->size > VHD_SIZE_MAX) {
		(void)err_set(e, ERR_INVALID,
			      "a disk of %" PRIu64 " bytes is too large for VHD, which ends at 2040 GiB", o->size);
		return err_hint(e, "use -O vhdx");
	}
	return 0;
}

static int check_opts(const struct writer_opts *o, bool fixed, struct err *e)
{
	struct target t;

	if (target_look(o->path, &t, e) < 0)
		return e->code;
	if (t.block_device)
		return err_set(e, ERR_INVALID, "%s is a block device: only a raw image can be written to it", o->path);
	if (o->compress)
		return err_set(e, ERR_INVALID, "a VHD image has no compression");
	if (o->cluster_size && fixed)
		return err_set(e, ERR_INVALID, "a fixed VHD image has no blocks");
	if (o->cluster_size &&
	    (!is_pow2(o->cluster_size) || o->cluster_size < BLOCK_MIN || o->cluster_size > BLOCK_DEFAULT))
		return err_set(e, ERR_INVALID, "VHD blocks have 512 KiB, 1 MiB or 2 MiB, not %" PRIu32 " bytes",
			       o->cluster_size);
	if (o->preallocation == PREALLOC_METADATA)
		return err_set(e, ERR_INVALID, "a VHD image has no metadata to preallocate");
	if (o->preallocation != PREALLOC_OFF && !fixed) {
		(void)err_set(e, ERR_INVALID, "a dynamic VHD image cannot be preallocated");
		return err_hint(e, "use --subformat fixed");
	}
	return check_size(o, e);
}

static int open_file(struct vhd_writer *v, const struct writer_opts *o, struct err *e)
{
	int fd;

	v->path = strdup(o->path);
	if (!v->path)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	if (!v->fixed && blocks_init(&v->blocks, o->size, v->block_size, false, e) < 0)
		return e->code;
	if (fs_atomic_open(&v->file, o->path, o->replace, o->mode ? o->mode : DEFAULT_MODE, e) < 0)
		return e->code;
	fd = v->blocks.fd = v->file.fd;
	v->blocks.head = (uint32_t)round_up(div_up(v->block_size / VHD_SECTOR, 8), VHD_SECTOR);
	v->blocks.stride = v->blocks.head + v->block_size;
	v->blocks.start = TABLE_OFFSET + table_bytes(v);
	if (!v->fixed)
		return 0;
	if (FS_RETRY(ftruncate(fd, (off_t)o->size)) < 0)
		return err_sys(e, "%s: size of %" PRIu64 " bytes", v->path, o->size);
	if ((o->preallocation != PREALLOC_OFF && target_reserve(fd, 0, o->size + VHD_FOOTER_BYTES, e) < 0) ||
	    (o->preallocation == PREALLOC_FULL && target_write_zeros(fd, 0, o->size, e) < 0))
		return err_ctx(e, "%s", v->path);
	return 0;
}

static uint32_t footer_time(const struct writer_opts *o)
{
	int64_t s = (o->time_ns ? o->time_ns / 1000000000 : (int64_t)time(NULL)) - EPOCH;

	return s < 0 ? 0 : s > UINT32_MAX ? UINT32_MAX : (uint32_t)s;
}

int vhd_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	bool fixed = o->subformat ? !strcmp(o->subformat, "fixed") : o->preallocation > PREALLOC_METADATA;
	struct vhd_writer *v;

	if (o->subformat && !fixed && strcmp(o->subformat, "dynamic") != 0)
		return err_set(e, ERR_INVALID, "a VHD image is dynamic or fixed, not %s", o->subformat);
	if (check_opts(o, fixed, e) < 0)
		return e->code;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	v->w = (struct image_writer){ .ops = &vhd_writer_ops, .cluster_size = UNIT_BYTES, .size = o->size,
				      .in_order = o->id_seed };
	v->file.fd = -1;
	v->replace = o->replace;
	v->fixed = fixed;
	v->block_size = o->cluster_size ? o->cluster_size : BLOCK_DEFAULT;
	v->time = footer_time(o);
	uuid_for(o, o->ids ? o->ids->uuid : NULL, "vhd image", v->uuid);
	uuid_swap(v->uuid);
	if (open_file(v, o, e) < 0) {
		vhd_writer_free(v);
		return e->code;
	}
	*ret = &v->w;
	return 0;
}
