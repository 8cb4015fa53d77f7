/*
 * sesparse.c - the headers of an SESparse extent: ESXi's deltas of large disks.
 *
 * Little-endian u64, in sectors; constant header at 0:
 *
 *	0	magic 0xcafebabe	80	volatile header: offset, size	144	grain tables: offset, size
 *	8	version 2.1		96	journal header			160	free bitmap
 *	16	capacity		112	journal				176	backmap
 *	24	grain (8)		128	grain directory			192	grains
 *	32	table (64)		40 flags, 48..79 reserved: 0		208..511 zeros
 *
 * Volatile header: magic 0xcafecafe, free table, next transaction, journal must be replayed.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk_internal.h"

#define VERSION ((uint64_t)0x0000000200000001)
#define VOLATILE_MAGIC ((uint64_t)0xcafecafe)
#define GRAIN_SECTORS 8
#define TABLE_SECTORS 64

struct area {
	uint64_t at, len;	/* bytes */
};

static const struct { unsigned at; const char *what; bool whole; } areas[] = {
	{ 80, "volatile header", true }, { 96, "journal header", false }, { 112, "journal", false },
	{ 128, "grain directory", true }, { 144, "area of grain tables", false }, { 160, "free bitmap", false },
	{ 176, "backmap", false }, { 192, "area of grains", false },
};
enum { VOLATILE, JOURNAL_HEADER, JOURNAL, DIRECTORY, TABLES, FREE_BITMAP, BACKMAP, GRAINS, AREAS };

static int take_areas(const struct vmdk_sparse *s, const uint8_t *p, struct area a[static AREAS], struct err *e)
{
	uint64_t size = s->file->bytes.size;

	for (size_t i = 0; i < AREAS; i++) {
		uint64_t at = get_le64(p + areas[i].at), len = get_le64(p + areas[i].at + 8);

		if (!mul_u64(at, VMDK_SECTOR, &a[i].at) || !mul_u64(len, VMDK_SECTOR, &a[i].len) ||
		    a[i].at > INT64_MAX || a[i].len > INT64_MAX ||
		    (areas[i].whole && (!at || !range_ok(a[i].at, a[i].len, size))))
			return err_set(e, ERR_CORRUPT,
				       "SESparse header: %s of %" PRIu64 " sectors at sector %" PRIu64
				       " is outside the file of %" PRIu64 " bytes", areas[i].what, len, at, size);
	}
	return 0;
}

static int check_volatile(struct vmdk_sparse *s, const struct area *a, struct err *e)
{
	uint8_t p[32];

	if (a->len < VMDK_SECTOR)
		return err_set(e, ERR_CORRUPT, "SESparse header: no volatile header");
	if (file_pread_full(&s->file->bytes, p, sizeof(p), a->at, e) < 0)
		return e->code;
	if (get_le64(p) != VOLATILE_MAGIC)
		return err_set(e, ERR_CORRUPT, "SESparse volatile header at %" PRIu64 ": wrong magic", a->at);
	if (get_le64(p + 24)) {
		(void)err_set(
			e, ERR_UNSUPPORTED,
			"SESparse journal must be replayed, and its format isn't public: the extent is in use, or "
			"its host crashed");
		return err_hint(e, "power the machine off, or open and close the disk on its ESXi host");
	}
	return 0;
}

static int check_fixed(const uint8_t *p, struct err *e)
{
	uint64_t version = get_le64(p + 8), capacity = get_le64(p + 16), grain = get_le64(p + 24),
		 table = get_le64(p + 32), flags = get_le64(p + 40);

	if (version != VERSION)
		return err_set(e, ERR_UNSUPPORTED, "SESparse header: version 0x%" PRIx64 " is not known", version);
	if (capacity > VMDK_SECTORS_MAX)
		return err_set(e, ERR_CORRUPT, "SESparse header: capacity of %" PRIu64 " sectors", capacity);
	if (grain != GRAIN_SECTORS || table != TABLE_SECTORS)
		return err_set(e, ERR_UNSUPPORTED,
			       "SESparse header: grains of %" PRIu64 " and tables of %" PRIu64 " sectors, not 8 and 64",
			       grain, table);
	if (flags || !bytes_all_zero(p + 48, 32))
		return err_set(e, ERR_UNSUPPORTED, "SESparse header: flags 0x%" PRIx64 " or reserved fields are set",
			       flags);
	if (!bytes_all_zero(p + 208, 304))
		return err_set(e, ERR_CORRUPT, "SESparse header: what must be zero from 208 on isn't");
	return 0;
}

int vmdk_sesparse_header(struct vmdk_sparse *s, struct err *e)
{
	struct area a[AREAS];
	uint8_t p[VMDK_SECTOR];

	if (s->file->bytes.size < sizeof(p))
		return err_set(e, ERR_CORRUPT, "file of %" PRIu64 " bytes ends inside its SESparse header",
			       s->file->bytes.size);
	if (file_pread_full(&s->file->bytes, p, sizeof(p), 0, e) < 0)
		return e->code;
	if (get_le64(p) != VMDK_SESPARSE_MAGIC)
		return err_set(e, ERR_CORRUPT, "not an SESparse extent: wrong magic");
	if (check_fixed(p, e) < 0 || take_areas(s, p, a, e) < 0 || check_volatile(s, &a[VOLATILE], e) < 0)
		return e->code;
	s->kind = VMDK_SESPARSE;
	s->version = 2;
	s->capacity = get_le64(p + 16) * VMDK_SECTOR;
	s->grain = GRAIN_SECTORS * VMDK_SECTOR;
	s->table_entries = TABLE_SECTORS * 512 / 8;
	s->entry_bytes = 8;
	s->span = s->grain * s->table_entries;
	s->dir = a[DIRECTORY].at;
	s->dir_entries = div_up(s->capacity, s->span);
	s->tables = a[TABLES].at;
	s->tables_len = a[TABLES].len;
	s->grains = a[GRAINS].at;
	if (s->dir_entries > a[DIRECTORY].len / 8)
		return err_set(e, ERR_CORRUPT,
			       "SESparse header: a directory of %" PRIu64 " bytes is too small for %" PRIu64 " sectors",
			       a[DIRECTORY].len, s->capacity / VMDK_SECTOR);
	if (vmdk_regions_add(&s->meta, 0, VMDK_SECTOR, "header", e) < 0)
		return e->code;
	/* The directory and the tables that are used are entered when they are checked. */
	for (size_t i = VOLATILE; i < GRAINS; i++)
		if (i != DIRECTORY && i != TABLES &&
		    vmdk_regions_add(&s->meta, a[i].at, a[i].len, areas[i].what, e) < 0)
			return e->code;
	return 0;
}
