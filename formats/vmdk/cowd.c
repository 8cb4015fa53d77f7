/*
 * cowd.c - the header of a COWD extent (createType vmfsSparse): ESX's deltas.
 *
 * Little-endian u32: magic "COWD", version 1, flags, capacity, grain, directory, entries of the directory, next free
 * sector; all in sectors.  A table has 4096 entries.  There is no compression and no entry for zeros.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk_internal.h"

#define HEADER_BYTES 2048
#define UNCLEAN_AT 1648
#define TABLE_ENTRIES 4096

int vmdk_cowd_header(struct vmdk_sparse *s, struct err *e)
{
	uint64_t size = s->file->bytes.size;
	uint32_t version, capacity, grain, dir, entries;
	uint8_t p[HEADER_BYTES];

	if (size < HEADER_BYTES)
		return err_set(e, ERR_CORRUPT, "file of %" PRIu64 " bytes ends inside its COWD header", size);
	if (file_pread_full(&s->file->bytes, p, sizeof(p), 0, e) < 0)
		return e->code;
	if (get_le32(p) != VMDK_COWD_MAGIC)
		return err_set(e, ERR_CORRUPT, "not a vmfsSparse extent: no COWD at its beginning");
	version = get_le32(p + 4);
	capacity = get_le32(p + 12);
	grain = get_le32(p + 16);
	dir = get_le32(p + 20);
	entries = get_le32(p + 24);
	if (version != 1)
		return err_set(e, ERR_UNSUPPORTED, "COWD header: version %" PRIu32 " is not known", version);
	if (!is_pow2(grain) || grain > VMDK_GRAIN_SECTORS_MAX)
		return err_set(e, ERR_CORRUPT, "COWD header: grains of %" PRIu32 " sectors", grain);
	s->kind = VMDK_COWD;
	s->version = version;
	s->capacity = capacity * VMDK_SECTOR;
	s->grain = grain * VMDK_SECTOR;
	s->table_entries = TABLE_ENTRIES;
	s->entry_bytes = 4;
	s->span = s->grain * TABLE_ENTRIES;
	s->dir_entries = div_up(s->capacity, s->span);
	s->dir = dir * VMDK_SECTOR;
	s->unclean = get_le32(p + UNCLEAN_AT) == 1;
	if (entries < s->dir_entries)
		return err_set(e, ERR_CORRUPT,
			       "COWD header: a directory of %" PRIu32 " entries is too small for %" PRIu32 " sectors",
			       entries, capacity);
	if (!dir || !range_ok(s->dir, s->dir_entries * 4, size))
		return err_set(e, ERR_CORRUPT,
			       "COWD header: directory of %" PRIu64 " entries at sector %" PRIu32
			       " is outside the file of %" PRIu64 " bytes", s->dir_entries, dir, size);
	return vmdk_regions_add(&s->meta, 0, HEADER_BYTES, "header", e);
}
