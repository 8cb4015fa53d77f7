/*
 * vmdk_internal.h - what the parts of the VMDK reader share.
 *
 *	descriptor.c	the text that names extents, parent and identity
 *	encoding.c	names in the descriptor's encoding, as UTF-8
 *	sparse.c	header of a hosted sparse extent (monolithicSparse, twoGbMaxExtentSparse, streamOptimized)
 *	stream.c	footer and compressed grains of streamOptimized
 *	cowd.c		header of a COWD extent (vmfsSparse)
 *	sesparse.c	header of an SESparse extent
 *	regions.c	which places of a file hold metadata
 *	tables.c	grain directories and tables: checked at open, the copy taken where the first is damaged
 *	map.c		guest offset -> run of one kind, within one table or flat file
 *	extents.c	the files that a descriptor names
 *	read.c		the ops: extents, reads
 *	digest.c	what identifies a state
 *	open.c		opening, closing
 *
 * A disk is a row of extents.  A sparse one, whatever its kind, is a two-level map: directory -> tables -> grains.
 */
#ifndef KEDGE_FORMATS_VMDK_VMDK_INTERNAL_H
#define KEDGE_FORMATS_VMDK_VMDK_INTERNAL_H

#include "base/bytes.h"
#include "base/vec.h"
#include "formats/cache.h"
#include "formats/image.h"
#include "formats/vmdk/vmdk.h"

#define VMDK_SECTOR ((uint64_t)512)
#define VMDK_SECTORS_MAX ((uint64_t)1 << 53)	/* of a disk: its bytes fit 63 bits */
#define VMDK_DESCRIPTOR_MAX ((uint64_t)1 << 20)
#define VMDK_EXTENTS_MAX 4096
#define VMDK_NAME_MAX 1024
#define VMDK_GRAIN_SECTORS_MAX ((uint64_t)1 << 21)
#define VMDK_COMPRESSED_GRAIN_MAX ((uint64_t)2 << 20)	/* bytes: it is decompressed as a whole */
/* Of a directory: 128 MiB, for grains of 64 KiB an EiB of disk.  One may lie in a hole, and cost no bytes. */
#define VMDK_DIR_ENTRIES_MAX ((uint64_t)1 << 25)
#define VMDK_SLICE_BYTES 65536			/* tables are read and cached in pieces of at most this */
#define VMDK_CID_NONE 0xffffffffu
#define VMDK_CID_LONG 0xfffffffeu	/* "see longContentID": any number of images have it, so it is no id */

/* ---- the descriptor ---- */

enum vmdk_access { VMDK_RW, VMDK_RDONLY, VMDK_NOACCESS };
enum vmdk_kind { VMDK_FLAT, VMDK_SPARSE, VMDK_ZERO, VMDK_COWD, VMDK_SESPARSE };

struct vmdk_line {		/* an extent line */
	enum vmdk_access access;
	enum vmdk_kind kind;
	uint64_t sectors;
	uint64_t offset;	/* FLAT: sectors into the file */
	char *name;		/* UTF-8; NULL for ZERO */
	char *stored;		/* the name's bytes as they are in the descriptor */
};

struct vmdk_descriptor {
	uint32_t version;
	uint32_t cid, parent_cid;
	char *create_type;	/* as stored */
	char *encoding;		/* as stored, NULL = none */
	char *hint;		/* parentFileNameHint, UTF-8; NULL = none */
	char *adapter;		/* ddb.adapterType; NULL = none */
	/* ddb.uuid.*, VirtualBox; NULL = none */
	char *uuid_image, *uuid_parent, *uuid_modify, *uuid_parent_modify;
	char *uuid;		/* ddb.uuid, VMware */
	char *long_content_id;
	VEC(struct vmdk_line) lines;
	uint64_t sectors;	/* of all lines */
};

/* descriptor.c.  text need not end with NUL; what follows the first NUL does not count. */
MUST_CHECK int vmdk_descriptor_parse(const void *text, size_t len, struct vmdk_descriptor *ret, struct err *e);
void vmdk_descriptor_done(struct vmdk_descriptor *d);
/* Does text look like a descriptor: "# Disk DescriptorFile" as its first line that isn't blank? */
bool vmdk_descriptor_looks(const void *text, size_t len);
/* A ddb.uuid.* in the form in which ids are compared; "" for none (NULL, empty, null).  false: it is no UUID; "". */
bool vmdk_uuid_take(const char *text, char ret[static 40]);

/* ---- sparse extents ---- */

struct vmdk_region {
	uint64_t start, end;
	const char *what;	/* static text */
};
struct vmdk_regions {
	VEC(struct vmdk_region) v;	/* sorted by start after vmdk_regions_seal */
};
MUST_CHECK int vmdk_regions_add(struct vmdk_regions *r, uint64_t start, uint64_t len, const char *what, struct err *e);
/* Sorts them; two that overlap are ERR_CORRUPT. */
MUST_CHECK int vmdk_regions_seal(struct vmdk_regions *r, struct err *e);
/* What lies in [start, start+len) (static text), or NULL. */
const char *vmdk_regions_find(const struct vmdk_regions *r, uint64_t start, uint64_t len);
void vmdk_regions_done(struct vmdk_regions *r);

/* A file of the image: the named one is number 0. */
struct vmdk_file {
	struct file bytes;		/* borrowed from struct image */
	const struct image_identity *id;	/* likewise */
	const char *path;		/* for messages; likewise */
	char owner_tables, owner_grains;	/* their addresses name our blocks in the cache */
	bool sparse;			/* holds a sparse extent, and nothing else may */
	bool flat;			/* holds flat ones */
};

struct vmdk_sparse {
	enum vmdk_kind kind;		/* SPARSE, COWD, SESPARSE */
	struct vmdk_file *file;
	uint32_t version;
	uint64_t capacity;		/* bytes */
	uint64_t grain;			/* bytes, a power of two */
	uint32_t table_entries;		/* a power of two */
	unsigned entry_bytes;		/* of both levels: 4, 8 */
	uint64_t span;			/* guest bytes of one table */
	uint64_t dir, dir_entries;	/* file offset, count */
	uint64_t copy;			/* file offset of the redundant directory; 0 = none */
	bool dir_lost;			/* dir is the redundant one: the header has none that is in the file */
	uint64_t descriptor, descriptor_len;	/* embedded descriptor, bytes; 0 = none */
	uint64_t tables, tables_len;	/* SESPARSE: area of the tables */
	uint64_t grains;		/* SESPARSE: area of the grains */
	bool zero_entry;		/* entry 1 is a grain of zeros */
	bool compressed, markers;
	bool unclean;			/* was not closed */
	bool unmapped;			/* SESPARSE: has grains that the guest unmapped */
	struct vmdk_regions meta;
	VEC(uint64_t) from_copy;	/* directory entries whose table in the copy is used, ascending */
};

/* Headers: they fill *s but for file, capacity checks included, and enter the fixed areas in s->meta.  s is zeroed but
 * for file, and the caller's to release, also after a failure. */
MUST_CHECK int vmdk_sparse_header(struct vmdk_sparse *s, struct err *e);	/* sparse.c */
MUST_CHECK int vmdk_cowd_header(struct vmdk_sparse *s, struct err *e);		/* cowd.c */
MUST_CHECK int vmdk_sesparse_header(struct vmdk_sparse *s, struct err *e);	/* sesparse.c */
void vmdk_sparse_done(struct vmdk_sparse *s);

/* sparse.c: what a hosted header, at `at` in the file, says; stream.c reads footers with it too. */
struct vmdk_header {
	uint32_t version, flags;
	uint64_t capacity, grain, descriptor, descriptor_len;	/* sectors */
	uint32_t table_entries;
	uint64_t copy, dir, overhead;	/* sectors */
	uint8_t unclean, check[4];
	uint16_t compression;
};
#define VMDK_HEADER_BYTES 79
#define VMDK_MAGIC 0x564d444bu		/* "KDMV" */
#define VMDK_COWD_MAGIC 0x44574f43u	/* "COWD" */
#define VMDK_SESPARSE_MAGIC ((uint64_t)0xcafebabe)
#define VMDK_DIR_AT_END UINT64_MAX
void vmdk_header_decode(const uint8_t p[static VMDK_HEADER_BYTES], struct vmdk_header *ret);

/* stream.c.  Finds the footer, whose directory offset (sectors) replaces the header's. */
MUST_CHECK int vmdk_footer_find(const struct vmdk_file *f, const struct vmdk_header *h, uint64_t *ret_dir,
				struct err *e);

/* ---- tables ---- */

/* What a grain is. */
struct vmdk_grain {
	enum { VMDK_GRAIN_HOLE, VMDK_GRAIN_ZERO, VMDK_GRAIN_DATA, VMDK_GRAIN_COMPRESSED } kind;
	uint64_t host;		/* file offset of its first byte; COMPRESSED: of what holds it */
};

/* tables.c.  Checks directory, copy and all tables, and fills from_copy; *note gets a sentence about what is damaged
 * and doesn't hurt, *damage, if it is NULL, one about the first grain that can't be read.  Both malloc'ed or NULL. */
MUST_CHECK int vmdk_tables_check(struct vmdk_sparse *s, char **note, char **damage, struct err *e);
/* Adds text to a note; *note is malloc'ed or NULL. */
MUST_CHECK int vmdk_note_add(char **note, const char *text, struct err *e);
/* The file offset of the table of a directory entry's value; 0 = none.  NULL, or what is wrong with it. */
const char *vmdk_table_of(const struct vmdk_sparse *s, uint64_t v, uint64_t *ret);
/* What an entry of a table says.  NULL, or what is wrong with it. */
const char *vmdk_grain_of(const struct vmdk_sparse *s, uint64_t v, struct vmdk_grain *ret);
/* Calls fn for each entry of the directory at `dir` that isn't 0; holes in the file cost nothing. */
typedef int (*vmdk_scan_fn)(void *opaque, uint64_t index, uint64_t value, struct err *e);
MUST_CHECK int vmdk_scan_dir(const struct vmdk_sparse *s, uint64_t dir, vmdk_scan_fn fn, void *opaque, struct err *e);
static inline size_t vmdk_table_bytes(const struct vmdk_sparse *s) { return (size_t)s->table_entries * s->entry_bytes; }
/* Reads the table at `table` whole; *ret_hole: it lies in a hole of the file, buf is zeros. */
MUST_CHECK int vmdk_table_read(const struct vmdk_sparse *s, uint64_t table, uint8_t *buf, bool *ret_hole,
			       struct err *e);
static inline uint64_t vmdk_entry_get(const struct vmdk_sparse *s, const uint8_t *p, uint64_t i)
{
	return s->entry_bytes == 8 ? get_le64(p + i * 8) : get_le32(p + i * 4);
}
/* The directory's offset for entry index: the first, or the copy where the first's table is damaged. */
uint64_t vmdk_dir_for(const struct vmdk_sparse *s, uint64_t index);

/* ---- the image ---- */

struct vmdk_extent {
	uint64_t start, len;		/* guest bytes */
	enum vmdk_kind kind;
	enum vmdk_access access;
	struct vmdk_file *file;		/* NULL: ZERO, or not open (metadata only) */
	uint64_t offset;		/* FLAT: bytes into the file */
	struct vmdk_sparse *sparse;	/* owned; NULL: FLAT, ZERO */
};

struct vmdk_run {
	enum extent_kind kind;
	uint64_t len;			/* guest bytes */
	struct vmdk_extent *extent;	/* DATA */
	uint64_t host;			/* DATA: of the first byte; compressed: of what holds the grain */
	uint32_t inner;			/* compressed: first byte's place in the grain */
	uint64_t next;			/* compressed: where the next grain of the table begins; 0 = not known */
	bool compressed;
};

struct vmdk {
	struct image im;		/* first */
	struct vmdk_descriptor d;
	struct block_cache *cache;
	struct image_state current;
	struct vmdk_extent *extents;
	size_t nextents;
	struct vmdk_file *files;
	size_t nfiles;
	char *note, *damage;
	VEC(struct image_piece) pieces;	/* for info; they borrow from d */
};

/* map.c.  The run at guest offset off, at most limit bytes of it, within one extent and table. */
MUST_CHECK int vmdk_run_at(struct vmdk *v, uint64_t off, uint64_t limit, struct vmdk_run *ret, struct err *e);

/* Adds to an error which extent, if it is another file, and guest offset it is about; returns e->code. */
int vmdk_at(const struct vmdk *v, const struct vmdk_extent *x, uint64_t off, struct err *e);

/* stream.c.  The decompressed grain that run r (compressed) of the guest offset off begins in, from the cache; put it
 * back with block_cache_put(v->cache). */
MUST_CHECK int vmdk_grain_get(struct vmdk *v, const struct vmdk_run *r, uint64_t off, const struct cache_block **ret,
			      struct err *e);

/* read.c */
extern const struct image_ops vmdk_ops;
int vmdk_damaged(struct err *e);	/* adds to an ERR_CORRUPT what the user can do; returns e->code */

/* extents.c.  Fills v->extents and v->files from v->d; without o->opener files stay closed. */
MUST_CHECK int vmdk_extents_open(struct vmdk *v, const struct image_open_opts *o, struct err *e);
/* Makes v->files of the image's file and parts. */
MUST_CHECK int vmdk_files_take(struct vmdk *v, struct err *e);
/* Makes the image's own file, whose header is *s, the only extent; takes *s over. */
MUST_CHECK int vmdk_extent_alone(struct vmdk *v, struct vmdk_sparse **s, struct err *e);
/* Does the descriptor's size agree with the header's capacity, which may be rounded up to a grain? */
MUST_CHECK int vmdk_extent_fits(const struct vmdk_extent *x, struct err *e);

/* digest.c */
MUST_CHECK int vmdk_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e);

/* open.c */
void vmdk_close(struct image *im);

#endif
