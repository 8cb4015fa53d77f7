/*
 * qdecode.h - a small decoder of qcow2 version 3 that shares nothing with kedge's reader and trusts nothing: for what
 * the writer wrote, without a data file; what is a backing file's reads as zeros.
 *
 * Source: docs/interop/qcow2.txt of QEMU.  Everything aborts on failure: it is for tests.
 */
#ifndef KEDGE_TESTS_SUPPORT_QDECODE_H
#define KEDGE_TESTS_SUPPORT_QDECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image_secret;
struct imgcrypt;

#define QDECODE_STATES 130

struct qdecode_table {		/* a state */
	uint64_t l1_off, l1_n, size, vm_bytes;
};

struct qdecode {
	uint8_t *p;
	size_t len;
	unsigned bits;
	uint64_t cluster, l2_n;
	bool extended, zstd;
	struct qdecode_table t[QDECODE_STATES + 1];	/* snapshots, then the current state */
	const uint8_t *snap[QDECODE_STATES];
	uint32_t nsnap;
	uint32_t *refs;		/* counted here */
	uint64_t nclusters;
	uint64_t luks_off, luks_len;	/* 0: not encrypted */
	struct imgcrypt *key;
};

/* Reads the file into memory, and its header and snapshot table; *im needs qdecode_done. */
void qdecode_load(struct qdecode *im, const char *path);
void qdecode_done(struct qdecode *im);
/* Opens the encryption with formats/crypt, which other programs prove (tests/e2e/38-encrypted-restore.sh). */
void qdecode_unlock(struct qdecode *im, const char *path, const struct image_secret *s);
/* The L2 entry of cluster c; 0: none.  *ret_bitmap: its other half, 0 where entries are short. */
uint64_t qdecode_entry(const struct qdecode *im, const struct qdecode_table *t, uint64_t c);
uint64_t qdecode_entry_bitmap(const struct qdecode *im, const struct qdecode_table *t, uint64_t c,
			      uint64_t *ret_bitmap);
void qdecode_read(const struct qdecode *im, const struct qdecode_table *t, uint8_t *out, uint64_t len, uint64_t off);
/* Counts every reference anew: refcounts and copied flags are right, nothing is leaked. */
void qdecode_check(struct qdecode *im);

#endif
