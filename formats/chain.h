/*
 * chain.h - a disk as its layers: the top image and all that it is based on, stacked into one readable map.
 *
 * References (backing files, external data files) come out of hostile images.  One is followed only inside the folder
 * of the image that names it and in folders that the user allowed, only with a known format (stored in the image or
 * given by the user), never as a protocol or json: name.  Parents that are known by an id (VDI) are looked for in the
 * same folders.  Loops (same device and inode twice) and chains of more than
 * IMAGE_CHAIN_MAX layers are refused.
 */
#ifndef KEDGE_FORMATS_CHAIN_H
#define KEDGE_FORMATS_CHAIN_H

#include "base/cancel.h"
#include "formats/image.h"

#define CHAIN_NONE UINT32_MAX
#define CHAIN_LAYERS_MAX 1000		/* of a chain with its branches */

/* An image that a machine's description names; one of the two may be NULL. */
struct chain_ref {
	const char *path;		/* from the description's folder */
	/* What it must call itself, where it has such a name; without path: what is looked for. */
	const char *uuid;
	const char *format;		/* NULL = to be probed */
};

struct chain_opts {
	const char *format;		/* of the top layer; NULL = probe (block devices: raw) */
	const char *const *allow_paths;	/* folders beyond the images' own, NULL-terminated; NULL = none */
	const char *const *device_paths;	/* of these folders those that may have block devices; NULL = all */
	/* For layers whose child stores no format: "FORMAT", or "NAME=FORMAT" for the file of that name (which goes
	 * first); NULL-terminated.  None fits, or NULL: such a layer is refused. */
	const char *const *backing_formats;
	size_t cache_bytes;		/* for tables and decoded clusters of all layers together; 0 = 32 MiB */
	bool force;			/* read images marked corrupt, and parents that were written to since */
	bool ignore_locks;		/* open even if a writer holds QEMU's lock bytes: for `info` only */
	bool settle;			/* find out whether the files are settled (image_is_settled) */
	const struct image_secrets *secrets;	/* for encrypted layers; NULL = none */
	bool locked_ok;			/* open encrypted layers without a secret too: the map alone is wanted */
	/* Where compressed images are decompressed (NULL: /var/tmp), and to how many bytes at most (0: any). */
	const char *temp_dir;
	uint64_t max_unpacked;
	struct cancel *cancel;		/* of that; lives as long as the chain; may be NULL */
	bool gzip;			/* the top file is gzip's, whatever its name */
	bool no_backing;		/* open the top image alone; its holes stay holes */
	/* The description that names the top image, which is then opened as any reference is, and what the image must
	 * call itself (NULL: anything).  chain_open's path may then be NULL: it is looked for by uuid. */
	const char *named_by, *uuid;
	/* More images of this disk, which that description names: each with all below it until the chain is reached. */
	const struct chain_ref *branches;
	size_t nbranches;
	/* A consistent lock against writers is held (QEMU's "no WRITE, no RESIZE" bytes) until close unless the top
	 * layers can't be locked; see docs/formats.md. */
};

struct chain {
	struct image *image; /* the stack: EXTENT_HOLE never appears, origins carry layer numbers; states are the
					 * top image's (each snapshot over the same lower layers) */
	struct image **layers;		/* [0] = top; borrowed, valid until chain_close */
	uint32_t nlayers;
	/* Behind these, the layers that only branches have, each branch from the top down. */
	uint32_t nextra;
	uint32_t *below;		/* for each of all layers the one below it, CHAIN_NONE = none; NULL: nextra is 0 */
	uint32_t *branches;		/* for each of chain_opts.branches its top layer */
};

static inline uint32_t chain_below(const struct chain *c, uint32_t layer)
{
	return c->below ? c->below[layer] : layer + 1 < c->nlayers ? layer + 1 : CHAIN_NONE;
}

/*
 * Opens path and everything below it; path may be in an archive, and compressed (formats/archive/source.h).  On failure nothing is left open.  ERR_LOCKED: a running VM writes to it (the
 * hint says how to back it up).  ERR_INVALID: a reference that may not be followed (the hint is the option that would
 * allow it), an ambiguous or unknown format (the hint is the line to type).
 */
MUST_CHECK int chain_open(const char *path, const struct chain_opts *o, struct chain **ret, struct err *e);
void chain_close(struct chain *c);
/* A readable stack that starts at layer first (its current state), a branch's too: a lower layer as a disk of its own.
 * Borrows c.  Its origins number layers as c->image's do, so that extents of both can be compared. */
MUST_CHECK int chain_view(struct chain *c, uint32_t first, struct image **ret, struct err *e);
/* Where the page cache was looked at last: zeroed at first, then chain_is_cold's. */
struct cold_window {
	const struct image *image;
	uint32_t state;
	uint64_t start;
	bool cold;
};
/*
 * Was most of the data around guest offset off of im's state (the chain, or a view of it) not in the page cache when
 * this window was first asked for?  Then it is to be given back after use (image_advise), so that the host's cache is
 * left as found.  Ask before reading.  Windows are visited in ascending order; errors count as cached.
 */
bool chain_is_cold(const struct chain *c, struct cold_window *w, struct image *im, uint32_t state, uint64_t off);
/* image_check_unchanged of every layer. */
MUST_CHECK int chain_check_unchanged(struct chain *c, struct err *e);

#endif
