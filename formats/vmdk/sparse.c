/*
 * sparse.c - the header of a hosted sparse extent.
 *
 *	0	magic "KDMV"		28	descriptor offset	64	overhead
 *	4	version 1..3		36	descriptor size		72	unclean shutdown (1 byte)
 *	8	flags			44	entries of a table	73	"\n \r\n"
 *	12	capacity		48	redundant directory	77	compression (2 bytes)
 *	20	grain			56	directory
 *
 * Little-endian, not aligned; offsets and sizes in sectors.  Flags: 0 the line-end check is valid, 1 there is a
 * redundant directory, 2 entry 1 of a table is a grain of zeros, 16 grains are compressed, 17 and carry markers.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk_internal.h"

#define FLAG_CHECK 1u
#define FLAG_COPY 2u
#define FLAG_ZERO 4u
#define FLAG_COMPRESSED (1u << 16)
#define FLAG_MARKERS (1u << 17)
#define FLAGS_MUST_KNOW 0xffff0000u	/* a reader that doesn't know one of the upper half must not go on */

void vmdk_header_decode(const uint8_t p[static VMDK_HEADER_BYTES], struct vmdk_header *ret)
{
	*ret = (struct vmdk_header){
		.version = get_le32(p + 4), .flags = get_le32(p + 8), .capacity = get_le64(p + 12),
		.grain = get_le64(p + 20), .descriptor = get_le64(p + 28), .descriptor_len = get_le64(p + 36),
		.table_entries = get_le32(p + 44), .copy = get_le64(p + 48), .dir = get_le64(p + 56),
		.overhead = get_le64(p + 64), .unclean = p[72], .compression = get_le16(p + 77),
	};
	memcpy(ret->check, p + 73, 4);
}

static int check(const struct vmdk_header *h, struct err *e)
{
	if (h->version < 1 || h->version > 3)
		return err_set(e, ERR_UNSUPPORTED, "sparse header: version %" PRIu32 " is not known", h->version);
	if (h->flags & FLAGS_MUST_KNOW & ~(FLAG_COMPRESSED | FLAG_MARKERS))
		return err_set(e, ERR_UNSUPPORTED, "sparse header: flags 0x%08" PRIx32 " are not known", h->flags);
	if (h->flags & FLAG_CHECK && memcmp(h->check, "\n \r\n", 4) != 0)
		return err_set(e, ERR_CORRUPT,
			       "sparse header: its line ends at 73 were converted: the file was copied as text");
	if (h->capacity > VMDK_SECTORS_MAX)
		return err_set(e, ERR_CORRUPT, "sparse header: capacity of %" PRIu64 " sectors", h->capacity);
	if (!is_pow2(h->grain) || h->grain > VMDK_GRAIN_SECTORS_MAX)
		return err_set(e, ERR_CORRUPT, "sparse header: grains of %" PRIu64 " sectors", h->grain);
	if (!is_pow2(h->table_entries) || h->table_entries > 512)
		return err_set(e, ERR_CORRUPT, "sparse header: tables of %" PRIu32 " entries", h->table_entries);
	if (h->compression > 1)
		return err_set(e, ERR_UNSUPPORTED, "sparse header: compression %u is not known", h->compression);
	if (h->flags & FLAG_COMPRESSED && h->compression != 1)
		return err_set(e, ERR_CORRUPT, "sparse header: compressed, but not how");
	if (h->compression && h->grain * VMDK_SECTOR > VMDK_COMPRESSED_GRAIN_MAX)
		return err_set(e, ERR_UNSUPPORTED, "sparse header: compressed grains of %" PRIu64 " sectors, 4096 is "
			       "the limit", h->grain);
	return 0;
}

/* sectors [at, at+len) of the file in bytes; false: they aren't all there. */
static bool in_file(const struct vmdk_sparse *s, uint64_t at, uint64_t bytes, uint64_t *ret)
{
	uint64_t off;

	if (!mul_u64(at, VMDK_SECTOR, &off) || !range_ok(off, bytes, s->file->bytes.size))
		return false;
	*ret = off;
	return true;
}

static int take_descriptor(struct vmdk_sparse *s, const struct vmdk_header *h, struct err *e)
{
	uint64_t bytes;

	if (!h->descriptor || !h->descriptor_len)
		return 0;
	if (!mul_u64(h->descriptor_len, VMDK_SECTOR, &bytes) || bytes > VMDK_DESCRIPTOR_MAX ||
	    !in_file(s, h->descriptor, bytes, &s->descriptor))
		return err_set(e, ERR_CORRUPT,
			       "sparse header: descriptor of %" PRIu64 " sectors at sector %" PRIu64
			       " is outside the file of %" PRIu64 " bytes, or larger than 1 MiB",
			       h->descriptor_len, h->descriptor, s->file->bytes.size);
	s->descriptor_len = bytes;
	return vmdk_regions_add(&s->meta, s->descriptor, bytes, "descriptor", e);
}

static int take_tables(struct vmdk_sparse *s, const struct vmdk_header *h, struct err *e)
{
	uint64_t dir = h->dir, bytes;

	s->capacity = h->capacity * VMDK_SECTOR;
	s->grain = h->grain * VMDK_SECTOR;
	s->table_entries = h->table_entries;
	s->entry_bytes = 4;
	s->span = s->grain * s->table_entries;
	s->dir_entries = div_up(s->capacity, s->span);
	bytes = s->dir_entries * 4;
	s->zero_entry = h->flags & FLAG_ZERO;
	s->compressed = h->compression == 1;
	s->markers = h->flags & FLAG_MARKERS;
	s->unclean = h->unclean == 1;
	if (dir == VMDK_DIR_AT_END && vmdk_footer_find(s->file, h, &dir, e) < 0)
		return e->code;
	/* A copy that isn't there is damage that doesn't hurt; writers that have none leave anything here. */
	if (h->flags & FLAG_COPY && h->copy && h->copy != dir && !in_file(s, h->copy, bytes, &s->copy))
		s->copy = 0;
	if (in_file(s, dir, bytes, &s->dir) && (s->dir || !bytes))
		return 0;
	if (!s->copy)
		return err_set(e, ERR_CORRUPT,
			       "sparse header: grain directory of %" PRIu64 " entries at sector %" PRIu64
			       " is outside the file of %" PRIu64 " bytes", s->dir_entries, dir, s->file->bytes.size);
	s->dir = s->copy;
	s->copy = 0;
	s->dir_lost = true;
	return 0;
}

int vmdk_sparse_header(struct vmdk_sparse *s, struct err *e)
{
	uint8_t p[VMDK_HEADER_BYTES];
	struct vmdk_header h;

	if (s->file->bytes.size < VMDK_SECTOR)
		return err_set(e, ERR_CORRUPT, "file of %" PRIu64 " bytes ends inside its sparse header",
			       s->file->bytes.size);
	if (file_pread_full(&s->file->bytes, p, sizeof(p), 0, e) < 0)
		return e->code;
	if (get_le32(p) != VMDK_MAGIC)
		return err_set(e, ERR_CORRUPT, "not a sparse extent: no KDMV at its beginning");
	vmdk_header_decode(p, &h);
	s->kind = VMDK_SPARSE;
	s->version = h.version;
	if (check(&h, e) < 0 || vmdk_regions_add(&s->meta, 0, VMDK_SECTOR, "header", e) < 0 ||
	    take_descriptor(s, &h, e) < 0)
		return e->code;
	/* Without a capacity the file is a descriptor in a sparse extent's clothes. */
	return h.capacity ? take_tables(s, &h, e) : 0;
}

void vmdk_sparse_done(struct vmdk_sparse *s)
{
	vmdk_regions_done(&s->meta);
	VEC_DONE(&s->from_copy);
}
