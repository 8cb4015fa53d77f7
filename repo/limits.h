/*
 * limits.h - what the primitives cost on given data on this machine, and the speed that follows from it as the limit.
 *
 * Threads: call from one; it blocks for about a second per primitive.
 */
#ifndef KEDGE_REPO_LIMITS_H
#define KEDGE_REPO_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"

/* Bytes a second of one core, of plain data unless said otherwise. */
struct limits {
	double zero_check, hash;	/* finding zero chunks; keyed BLAKE2b */
	double compress, decode;	/* zstd at the level given, in segments */
	double seal, open;		/* XChaCha20-Poly1305, of sealed bytes */
	/* to a file in the folder given, fsync included, of written bytes; 0 = not measured */
	double write;
	double ratio;			/* plain bytes per stored byte */
	uint64_t bytes;			/* non-zero data that was measured on */
};

/* Measures on the data (at least 1 MiB of it not zero: ERR_INVALID otherwise).  dir NULL: no write is measured. */
MUST_CHECK int limits_measure(const void *data, size_t len, int zstd_level, const char *dir, struct cancel *cancel,
			      struct limits *ret, struct err *e);
/* Plain bytes a second at which new data can be stored at best on that many cores: hashed, compressed, sealed, opened,
 * decoded and hashed again, hashed as a pack, and written. */
double limits_store(const struct limits *l, unsigned cores);
/* Plain bytes a second at which data can be restored at best: opened, decoded, hashed, written. */
double limits_restore(const struct limits *l, unsigned cores);

#endif
