/*
 * kimage.h - small VMDK files built in memory, right or wrong in any field, and the opener that hands out extents.
 *
 * Everything aborts on failure: it is for tests.
 */
#ifndef KEDGE_TESTS_SUPPORT_KIMAGE_H
#define KEDGE_TESTS_SUPPORT_KIMAGE_H

#include "formats/image.h"

#define KSECTOR 512u

struct kimage {
	uint8_t *p;
	size_t len;		/* bytes */
};

/* Room for so many sectors, zeroed; what was there stays. */
void kimage_init(struct kimage *k, size_t sectors);
void kimage_grow(struct kimage *k, size_t sectors);
void kimage_done(struct kimage *k);
void kimage_le32(struct kimage *k, uint64_t at, uint32_t v);
void kimage_le64(struct kimage *k, uint64_t at, uint64_t v);
void kimage_text(struct kimage *k, uint64_t at, const char *text);
/* len bytes of `fill` at sector. */
void kimage_fill(struct kimage *k, uint64_t sector, uint8_t fill, size_t len);
int kimage_fd(const struct kimage *k);

/* What a hosted header says; sectors. */
struct kheader {
	uint32_t version, flags;
	uint64_t capacity, grain, descriptor, descriptor_len;
	uint32_t entries;
	uint64_t copy, dir, overhead;
	uint16_t compression;
};
void kimage_header(struct kimage *k, uint64_t sector, const struct kheader *h);

/*
 * monolithicSparse of 23 sectors, capacity 24: grains of 2 sectors, tables of 4 entries; descriptor at sector 1,
 * redundant directory at 3 with tables at 4..6, directory at 7 with tables at 8..10, grain n (if in `grains`, a bit mask)
 * at sector 12 + 2n, every byte n + 1.  extra is added to the descriptor.
 */
void kimage_sparse(struct kimage *k, uint32_t grains, const char *extra);
#define KSPARSE_TABLE(n) ((8u + (n)) * KSECTOR)
#define KSPARSE_COPY_TABLE(n) ((4u + (n)) * KSECTOR)
/* streamOptimized of the same geometry, directory behind the grains and footer; every byte of grain n is n + 1.
 * *ret_grain (12 of them): where grain n begins, sectors; may be NULL. */
void kimage_stream(struct kimage *k, uint32_t grains, uint64_t ret_grain[12]);
/* COWD: 4196 sectors, grain 1 sector, tables at sectors 5 and 37, grains from 69: sectors 0, 1, 4095 and 4195 have the bytes
 * 1, 2, 3, 4. */
void kimage_cowd(struct kimage *k);
/* SESparse: 32848 sectors, grains of 8; grain 0 and 1 data (1, 2), 2 zero, 3 unmapped, 4105 data (3). */
void kimage_sesparse(struct kimage *k);
#define KSE_TABLE(n) ((8u + 64u * (n)) * KSECTOR)

/* A descriptor: the head with a createType, lines, more text. */
char *kdescriptor(const char *type, const char *lines);

/* Files by name for an opener; up to 4. */
struct kfiles {
	struct { const char *name; const struct kimage *k; int fd; } f[4];
	unsigned asked;		/* how often something was opened */
};
void kfiles_add(struct kfiles *f, const char *name, const struct kimage *k);
void kfiles_done(struct kfiles *f);

/* vmdk_open of k, or of text; files may be NULL (no opener). */
int kimage_open(const struct kimage *k, struct kfiles *files, bool force, struct image **ret, struct err *e);
int kdescriptor_open(const char *text, struct kfiles *files, bool force, struct image **ret, struct err *e);

#endif
