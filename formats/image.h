/*
 * image.h - reading a virtual disk, whatever its format: the interface every reader implements, and the chain above it.
 *
 * An image has states (the current one and its internal snapshots).  A state is a map from guest bytes to data, zeros
 * or nothing (a hole: what the layer below shows, else zeros).  Every data extent names its origin, the place in a
 * layer that holds it, so that two states of one image that share a place share the bytes.
 *
 * Images are hostile: every implementation checks each field before use (shared rules: docs/formats.md), allocates in
 * proportion to the file and never to a claim in it, and opens no file but those it was handed.
 *
 * Threads: open and close in one thread; after open, next_extent and pread may be called from any number of threads at
 * once.  Calls block.  Errors: 0 or negative; the image stays usable.
 */
#ifndef KEDGE_FORMATS_IMAGE_H
#define KEDGE_FORMATS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"

struct image;

/* The bytes [start, start + size) of an open file: all of it, or what an archive has of an image. */
struct file {
	int fd;
	uint64_t start, size;
};

#define IMAGE_STATE_CURRENT 0		/* index of the current state; snapshots follow in table order */
#define IMAGE_CHAIN_MAX 200		/* layers in a chain */
#define IMAGE_PARTS_MAX 4096		/* files of one image besides the first */
#define IMAGE_PARENT_REFS_MAX 32	/* places where one image's parent may be */
#define IMAGE_ORIGIN_NONE UINT64_MAX
/* A change in the same tick of the clock as the change before it does not show in a file's times: a file is settled
 * only when its change time is older than this.  It covers times that are kept in seconds, and steps of the clock. */
#define IMAGE_SETTLED_NS (2 * INT64_C(1000000000))

enum extent_kind {
	EXTENT_HOLE,	/* nothing here: the layer below shows through, else zeros */
	EXTENT_ZERO,	/* zeros, whatever is below */
	EXTENT_DATA,	/* bytes that pread returns */
};

/* Equal origins hold equal bytes as long as the image does not change: same layer, same file of it, same host place,
 * same form. */
struct extent_origin {
	uint32_t layer;		/* 0 = top; the chain numbers its layers downwards */
	uint32_t file;		/* of that layer: 0 = the image file, n = its parts' number n - 1 */
	/* host offset of the extent's first byte; for compressed data, of the compressed cluster */
	uint64_t host;
	uint32_t inner;		/* compressed: offset of the first byte in the decompressed cluster; else 0 */
	bool compressed;	/* then consecutive guest bytes have the same host and rising inner */
};

struct extent {
	uint64_t start, len;	/* guest bytes; len > 0 */
	enum extent_kind kind;
	struct extent_origin origin;	/* EXTENT_DATA only */
};

struct image_state {
	const char *name;	/* snapshot's name (bytes; may be empty or duplicate); "current" for index 0 */
	const char *id;		/* snapshot's id as the image stores it; "" for index 0 */
	uint64_t size;		/* virtual bytes of this state, exact */
	int64_t date_ns;	/* when the snapshot was taken, wall clock; 0 for the current state */
	uint64_t vm_clock_ns;	/* guest clock at the snapshot */
	uint64_t vm_state_bytes;/* saved machine memory (0 = none), read by image_pread_vm_state */
};

enum image_feature {		/* bits of image_info.features */
	IMAGE_DIRTY = 1 << 0,		/* was not closed cleanly; reading is right */
	IMAGE_CORRUPT = 1 << 1,		/* marked corrupt: opened only with force */
	IMAGE_EXTERNAL_DATA = 1 << 2,
	IMAGE_COMPRESSED_ZSTD = 1 << 3,
	IMAGE_EXTENDED_L2 = 1 << 4,
	IMAGE_BITMAPS = 1 << 5,		/* has persistent bitmaps */
	IMAGE_LAZY_REFCOUNTS = 1 << 6,
	IMAGE_RAW_EXTERNAL = 1 << 7,
	IMAGE_ENCRYPTED = 1 << 8,
};

struct image_bitmap {
	const char *name;
	uint64_t granularity;
	bool in_use, auto_on;
};

/*
 * Who an image is, by the names that other images know it by.  Lower case, UUIDs without braces; "" = it has none.
 * VirtualBox names images of all formats by one kind of UUID, so that its chains may mix formats.
 */
struct image_ids {
	char uuid[40];		/* of the image: VDI, VHD's footer, VMDK's ddb.uuid.image; VHDX: of the disk */
	char modify[40];	/* of the last change of it: VDI, VMDK's ddb.uuid.modification */
	char content[40];	/* changes whenever the image is written to: VMDK's CID, VHDX's DataWriteGuid */
};

/* A piece of an image that says of which it is made (VMDK). */
struct image_piece {
	const char *kind;		/* as the format calls it: "SPARSE", "FLAT", ... */
	const char *file;		/* the reference as stored; NULL = it needs none */
	uint64_t size;			/* guest bytes */
};

struct image_info {
	const char *format;		/* "qcow2", "raw" */
	uint32_t version;		/* format's own version; 0 for raw */
	uint64_t file_size;		/* bytes of the image file (device size for a block device) */
	uint64_t virtual_size;		/* of the current state */
	uint32_t cluster_size;		/* allocation unit, 0 for raw */
	uint32_t features;		/* enum image_feature */
	uint32_t nstates;		/* 1 + snapshots */
	const char *backing;		/* reference as stored, NULL if none (a parent may still be: by its ids) */
	const char *backing_format;	/* as stored, or implied by the format; NULL if neither */
	const char *data_file;		/* external data file as stored, NULL if none */
	const char *encryption;		/* "aes", or what a LUKS header says; NULL = none */
	const char *compression;	/* "deflate", "zstd"; NULL where the format has none */
	uint32_t refcount_bits;		/* 0 where the format has none */
	uint32_t nbitmaps;
	const struct image_bitmap *bitmaps;
	const char *note;		/* what its user should know: damage that doesn't hurt; NULL = nothing */
	const char *variant;		/* which kind of the format's: "dynamic", "fixed", ...; NULL = there is one */
	struct image_ids ids;
	const char *creator;		/* the program that made it, as stored; NULL = doesn't say */
	const char *adapter;		/* the controller it is meant for, as stored; NULL = doesn't say */
	uint32_t npieces;		/* 0: the image is one */
	const struct image_piece *pieces;
	const char *wrapping;		/* "gzip", "tar member x": what its file is in; NULL = nothing */
	bool sequential;		/* is decompressed while it is read: reading anywhere else than on from there is dear */
	const char *damage;		/* opened though it has one (VDI: with force): the first defect; NULL = none */
	/* What QEMU is known to read otherwise here, or to refuse, the layer below aside (docs/formats.md); NULL = nothing.
	 * Of VDI, VMDK, VHD and VHDX. */
	const char *qemu_differs;
};

/* Identity of the file behind a layer: equal identities with an old change time mean an untouched file. */
struct image_identity {
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
	bool block_device;		/* then nothing above proves anything */
	/* BLAKE2b-256 of what maps the image (header, L1 and L2 tables, ...), see the reader */
	uint8_t metadata_digest[32];
};

/*
 * What an implementation provides.  The wrappers below check ranges (state < nstates, off + len <= the state's size)
 * before the call; an op may rely on that.
 */
struct image_ops {
	const char *format;
	void (*close)(struct image *im);
	/* Fills *ret with the extent that holds guest byte off of the state (1), merged with equal neighbours as far as
	 * is cheap and clipped to [off, off+limit).  For holes of a single layer: EXTENT_HOLE. */
	int (*next_extent)(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			   struct err *e);
	/* Reads guest bytes of this layer alone; holes and zeros read as zeros.  len > 0. */
	int (*pread)(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e);
	/* Reads saved machine memory of a snapshot; NULL: the format has none. */
	int (*pread_vm_state)(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e);
	/* Digest over all that decides what the state reads as, data excepted (qcow2: header, the state's L1 and L2
	 * tables, snapshot entry, data file's identity).  For a raw file: its size and extent-independent; never proves
	 * content. */
	int (*state_digest)(struct image *im, uint32_t state, uint8_t digest[32], struct err *e);
	/* Tells the kernel that [off, off+len) of the state will be read soon, or is no longer needed.  May be NULL. */
	void (*advise)(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need);
	/* image_check_unchanged for an image that is made of others.  NULL: fd and the parts are compared. */
	int (*check_unchanged)(struct image *im, struct err *e);
	/* image_check_parent where comparing parent.ids isn't all.  NULL: it is. */
	int (*check_parent)(const struct image *im, const struct image *parent, struct err *e);
};

/* A file that belongs to an image besides the one that was opened: external data, an extent. */
struct image_part {
	char *path;			/* as opened, for messages; owned */
	int fd;				/* read-only; owned */
	struct image_identity identity;	/* at open */
	int64_t unwritten_ns;		/* as in struct image */
};

/*
 * What an image says of the layer below it (file.h has the functions that fill it).  There is one if refs or ids says
 * anything.  The chain tries the refs in order, then looks for an image with these ids beside the child and in the
 * folders that the user allowed; whatever it opens must pass image_check_parent.
 */
struct image_parent {
	VEC(char *) refs;		/* where it may be, likeliest first: UTF-8 paths with '/'; owned */
	struct image_ids ids;		/* what it must be; "" isn't compared */
	char content2[40];		/* a content id that fits as well (VHDX); "" = none */
};

/* First member of every implementation. */
struct image {
	const struct image_ops *ops;
	struct image_info info;
	struct image_state *states;	/* info.nstates of them */
	char *path;			/* as opened, for messages */
	struct file file;		/* the image file, read-only; fd owned, -1 for a chain */
	/* At open, metadata_digest included for formats that have one; of an image in an archive, the archive's. */
	struct image_identity identity;
	/* When, before its identity was taken, nobody had the file open for writing; 0: not known (file.h). */
	int64_t unwritten_ns;
	bool locked;			/* encrypted and opened without a secret: its data can't be read */
	VEC(struct image_part) parts;	/* its other files, open; file n of an origin is part n - 1 */
	struct image_parent parent;
	/* Of one that was found in something else (formats/archive/source.h): */
	char *wrapping;			/* info.wrapping; owned */
	bool member;			/* of an archive: has no folder */
	bool decoded;			/* file is a copy; outer_fd, owned, is what identity and locks are of */
	int outer_fd;
};

struct block_cache;
struct image_secrets;

/*
 * Opens files that an image names; the chain provides it.  It follows a reference only where docs/formats.md allows it,
 * takes the locks, and refuses files that are in the chain already.  what: "data file", "extent".  *ret becomes the
 * caller's.
 */
struct image_opener {
	int (*open)(void *opaque, const char *reference, const char *what, struct image_part *ret, struct err *e);
	void *opaque;
};

/* How a format opens its file; fd is open read-only.  A format opens no file but that one and through opener. */
struct image_open_opts {
	const struct file *window;	/* the image is this part of fd's file (fd aside); NULL: all of it */
	bool force;		/* open although marked corrupt */
	bool metadata_only;	/* info: content won't be read; identity.metadata_digest stays zero */
	/* for the image's other files (image_part_open); NULL: leave them, reading from them is an error then */
	const struct image_opener *opener;
	/* for encrypted images (formats/crypt/crypt.h), used during open only.  Without one that is for this image it opens
	 * locked; one that doesn't fit is ERR_AUTH.  NULL = none */
	const struct image_secrets *secrets;
	/* shared with other images (a reference is taken); NULL = the image makes its own */
	struct block_cache *cache;
};

/* Everything below is the callers' side; implementations are called only through it. */
void image_close(struct image *im);	/* NULL is fine */
static inline const struct image_info *image_info(const struct image *im) { return &im->info; }
const struct image_state *image_state(const struct image *im, uint32_t state);
MUST_CHECK int image_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
				 struct err *e);
MUST_CHECK int image_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int image_pread_vm_state(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off,
				    struct err *e);
MUST_CHECK int image_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e);
void image_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need);
/* The files of im that origins number: 0 = the image file.  -1: im was opened without its other files. */
static inline int image_file_fd(const struct image *im, uint32_t file)
{
	return !file ? im->file.fd : file <= im->parts.n ? im->parts.p[file - 1].fd : -1;
}
static inline const struct image_identity *image_file_identity(const struct image *im, uint32_t file)
{
	return file ? &im->parts.p[file - 1].identity : &im->identity;
}
static inline struct file image_file(const struct image *im, uint32_t file)
{
	return file && file <= im->parts.n ?
	       (struct file){ im->parts.p[file - 1].fd, 0, im->parts.p[file - 1].identity.size } :
	       file ? (struct file){ .fd = -1 } : im->file;
}
/* The file as it lies on the disk: what identity and locks are of. */
static inline int image_outer_fd(const struct image *im)
{
	return im->decoded ? im->outer_fd : im->file.fd;
}
/* Is there a layer below this one? */
static inline bool image_has_parent(const struct image *im)
{
	return im->parent.refs.n || im->parent.ids.uuid[0] || im->parent.ids.content[0];
}
/*
 * Is parent the layer that im was made on?  ERR_INVALID: another image (its uuid differs, or it has none); ERR_CHANGED:
 * it was written to since (modify or content differs).  The message names both files and both ids.
 */
MUST_CHECK int image_check_parent(const struct image *im, const struct image *parent, struct err *e);
/*
 * True when every change of the image's files since they were opened, whoever makes it, changes their change times:
 * from then on equal identities are equal content until this host starts anew (a crash can lose a change time and keep
 * the bytes).  Only for images of chain_opts.settle; one of several files must have digest_parts in its metadata
 * digest.
 */
bool image_is_settled(const struct image *im);
/* ERR_CHANGED when a file behind the layer is no longer what it was at open (size, mtime, ctime, inode). */
MUST_CHECK int image_check_unchanged(struct image *im, struct err *e);

/* Finds a state by selector: "current", "snap:NAME" (name, must be unique), "snapid:ID".  ERR_NOTFOUND lists what there
 * is; ERR_INVALID when a name fits two (lists both as snapid:). */
MUST_CHECK int image_find_state(const struct image *im, const char *selector, uint32_t *ret, struct err *e);

#endif
