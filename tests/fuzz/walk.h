/*
 * walk.h - what the fuzz targets of image formats share: the input as a file, every state walked, read and digested.
 *
 * Whatever the bytes claim, the work is bounded by what is there: caps on extents and bytes stand for a caller that
 * stops somewhere, and an input of 1 MiB must be done within a second.
 */
#ifndef KEDGE_TESTS_FUZZ_WALK_H
#define KEDGE_TESTS_FUZZ_WALK_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/formats.h"

#define EXTENTS_MAX 20000
#define READ_MAX (8 * MIB)
#define PIECE ((size_t)64 << 10)
#define PAGE ((size_t)4096)

struct walk_budget {
	unsigned extents;
	uint64_t bytes;
	uint8_t *buf;
};

static inline void check(bool ok)
{
	if (!ok)
		abort();
}

/* Zeros and holes must read as zeros; errors must have a code and a cause. */
static inline void walk_extent(struct image *im, uint32_t state, const struct extent *x, struct walk_budget *b)
{
	size_t n = (size_t)min_u64(x->len, PIECE);
	struct err e = ERR_INIT;

	if (b->bytes > READ_MAX)
		return;
	b->bytes += n;
	memset(b->buf, 0xff, n);
	if (image_pread(im, state, b->buf, n, x->start, &e) < 0) {
		check(e.code < 0 && e.cause[0]);
		return;
	}
	if (x->kind != EXTENT_DATA)
		check(bytes_all_zero(b->buf, n));
}

static inline void walk_state(struct image *im, uint32_t state, struct walk_budget *b)
{
	uint64_t size = image_state(im, state)->size, end = 0;
	struct err e = ERR_INIT;
	uint8_t digest[32];
	struct extent x;

	for (uint64_t off = 0; off < size && b->extents < EXTENTS_MAX; off = end, b->extents++) {
		if (image_next_extent(im, state, off, size - off, &x, &e) < 0) {
			check(e.code < 0 && e.cause[0]);
			break;
		}
		check(x.start == off && x.len && x.len <= size - off);
		end = x.start + x.len;
		walk_extent(im, state, &x, b);
	}
	if (size && image_pread(im, state, b->buf, 1, size - 1, &e) < 0)
		check(e.cause[0]);
	if (image_state(im, state)->vm_state_bytes &&
	    image_pread_vm_state(im, state, b->buf, (size_t)min_u64(PIECE, image_state(im, state)->vm_state_bytes), 0,
				 &e) < 0)
		check(e.cause[0]);
	if (b->extents < EXTENTS_MAX && image_state_digest(im, state, digest, &e) < 0)
		check(e.cause[0]);
}

/* The bytes as a file of its own, zero pages as holes. */
static inline int file_of(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct err e = ERR_INIT;

	check(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	for (size_t at = 0, n; at < size; at += n) {
		n = min_size(size - at, PAGE);
		if (!bytes_all_zero(data + at, n))
			check(fs_pwrite_full(fd, data + at, n, at, &e) == 0);
	}
	return fd;
}

struct walk_input {
	const uint8_t *data;
	size_t size;
};

/* An opener (image_open_opts): any other file that the image wants has the same bytes; opaque is a struct walk_input. */
static inline int give_input(void *opaque, const char *reference, const char *what, struct image_part *ret, struct err *e)
{
	const struct walk_input *in = opaque;

	(void)e;
	check(reference[0] && what[0]);
	*ret = (struct image_part){ .path = strdup("data"), .fd = file_of(in->data, in->size) };
	check(ret->path);
	return 0;
}

/* Every state of im (NULL: nothing), which is closed. */
static inline void walk_image(struct image *im)
{
	struct walk_budget b = { .buf = malloc(PIECE) };
	struct err e = ERR_INIT;

	for (uint32_t i = 0; im && b.buf && i < im->info.nstates && b.extents < EXTENTS_MAX; i++)
		walk_state(im, i, &b);
	if (im) {
		check(image_check_unchanged(im, &e) == 0);
		image_advise(im, 0, 0, MIB, true);
		image_advise(im, 0, 0, MIB, false);
	}
	image_close(im);
	free(b.buf);
}

/* The input by the format's own open; NULL if it is none, for a reason that is told.  opener may be NULL. */
static inline struct image *walk_open(const struct format *f, const uint8_t *data, size_t size, bool force,
				      const struct image_opener *opener)
{
	const struct image_open_opts o = { .force = force, .opener = opener };
	int fd = file_of(data, size);
	struct err e = ERR_INIT;
	struct image *im;

	if (f->open(fd, "fuzz", &o, &im, &e) == 0)
		return im;
	check(e.code < 0 && e.cause[0]);
	close(fd);
	return NULL;
}

/* Probing, and reading the ids of whatever it is. */
static inline void walk_probe(const uint8_t *data, size_t size)
{
	int fd = file_of(data, size);
	struct image_ids ids = { 0 };
	struct err e = ERR_INIT;
	const struct format *f;

	if (format_probe(fd, "fuzz", &f, &e) < 0)
		check(e.cause[0]);
	else if (f->read_ids)
		(void)!f->read_ids(&(struct file){ fd, 0, size }, &ids, &e);
	check(memchr(ids.uuid, 0, sizeof(ids.uuid)) && memchr(ids.modify, 0, sizeof(ids.modify)) &&
	      memchr(ids.content, 0, sizeof(ids.content)));
	close(fd);
}

#endif
