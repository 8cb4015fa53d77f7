/*
 * limits.h - what the primitives cost on given data on this machine, and the speed that follows from it as the limit.
 *
 * Threads: call from one; limits_measure blocks for about half a second per primitive and starts threads of its own.
 */
#ifndef KEDGE_REPO_LIMITS_H
#define KEDGE_REPO_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"

/*
 * What files mean to a first backup, in chunks of the default size, and a sample of what is new in them: whole segments
 * spread evenly over all of it.  Zero with .max set (bytes of the sample, at least a few segments) to begin.
 */
struct limits_data {
	uint64_t read;			/* bytes outside of holes */
	uint64_t hashed;		/* of these, in chunks that are not all zero */
	uint64_t fresh;			/* of these, in chunks with content that is new */
	uint8_t *sample;		/* freed by limits_data_done */
	size_t len, max;
	struct limits_seen *seen;	/* private, as are the rest */
	uint8_t *segment;
	size_t fill;
	uint64_t segments, stride;
};

/* Adds a file, read once.  Content is compared by 128-bit hashes; of what holds more than a million different chunks
 * the rest counts as new. */
MUST_CHECK int limits_data_add(struct limits_data *d, const char *path, struct cancel *cancel, struct err *e);
void limits_data_done(struct limits_data *d);

/* Bytes a second of one core while all given cores do the same, of plain data unless said otherwise. */
struct limits {
	unsigned cores;
	double zero_check, hash;	/* finding zero chunks; keyed BLAKE2b */
	double compress, decode;	/* zstd at the level given, in segments */
	double seal, open;		/* XChaCha20-Poly1305, of sealed bytes */
	double name;			/* SHA-256, of sealed bytes */
	/* the kernel's work for a new file in the folder given, and for reading it again from memory; 0 =
	 * not measured */
	double copy_out, copy_in;
	double write;			/* to a file in that folder by one thread, fsync included; 0 = not measured */
	double ratio;			/* plain bytes per stored byte */
	uint64_t bytes;			/* of the sample that was measured on */
};

/* Measures on the sample (at least 1 MiB: ERR_INVALID otherwise) with so many threads.  dir NULL: without files. */
MUST_CHECK int limits_measure(const struct limits_data *d, int zstd_level, const char *dir, unsigned cores,
			      struct cancel *cancel, struct limits *ret, struct err *e);
/* Plain bytes a second at which new data can be stored at best: hashed, compressed, sealed, opened, decoded and hashed
 * again, hashed as a pack, and written (fsync included, if measured). */
double limits_store(const struct limits *l);
/* Plain bytes a second at which data can be restored at best: opened, decoded, hashed, written. */
double limits_restore(const struct limits *l);
/* Seconds that a first backup of the data keeps the cores busy at least: all read, zeros found, the rest hashed, what
 * is new treated as above and written; without waiting for a disk. */
double limits_store_seconds(const struct limits *l, const struct limits_data *d);
/* Likewise for a restore that writes all but zeros. */
double limits_restore_seconds(const struct limits *l, const struct limits_data *d);

#endif
