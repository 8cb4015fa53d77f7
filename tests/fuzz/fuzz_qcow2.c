/*
 * fuzz_qcow2.c - any bytes as a qcow2 image: open, walk the map of every state, read, digest.
 *
 * Whatever the bytes claim, the work is bounded by what is there: caps on extents and bytes stand for a caller that
 * stops somewhere, and an input of 1 MiB must be done within a second.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/formats.h"
#include "formats/qcow2/qcow2.h"

#define EXTENTS_MAX 20000
#define READ_MAX (8 * MIB)
#define PIECE ((size_t)64 << 10)
#define PAGE ((size_t)4096)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct budget {
	unsigned extents;
	uint64_t bytes;
	uint8_t *buf;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Zeros and holes must read as zeros; errors must have a code and a cause. */
static void read_extent(struct image *im, uint32_t state, const struct extent *x, struct budget *b)
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

static void walk(struct image *im, uint32_t state, struct budget *b)
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
		read_extent(im, state, &x, b);
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
static int file_of(const uint8_t *data, size_t size)
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

struct input {
	const uint8_t *data;
	size_t size;
};

/* The data file that it wants has the same bytes. */
static int give_input(void *opaque, const char *reference, const char *what, struct image_part *ret, struct err *e)
{
	const struct input *in = opaque;

	(void)e;
	check(reference[0] && what[0]);
	*ret = (struct image_part){ .path = strdup("data"), .fd = file_of(in->data, in->size) };
	check(ret->path);
	return 0;
}

/* Opens it alone, and again with its data file if it wants one; NULL if it is none. */
static struct image *open_image(const uint8_t *data, size_t size, bool force)
{
	struct image_open_opts o = { .force = force };
	struct input in = { data, size };
	const struct image_opener opener = { give_input, &in };
	int fd = file_of(data, size);
	struct err e = ERR_INIT;
	const struct format *f;
	struct image *im;

	if (format_probe(fd, "fuzz", &f, &e) < 0)
		check(e.cause[0]);
	if (qcow2_open(fd, "fuzz", &o, &im, &e) < 0) {
		check(e.code < 0 && e.cause[0]);
		close(fd);
		return NULL;
	}
	if (!im->info.data_file)
		return im;
	image_close(im);
	fd = file_of(data, size);
	o.opener = &opener;
	check(qcow2_open(fd, "fuzz", &o, &im, &e) == 0);
	return im;
}

static void run(const uint8_t *data, size_t size, bool force)
{
	struct budget b = { .buf = malloc(PIECE) };
	struct image *im = open_image(data, size, force);
	struct err e = ERR_INIT;

	for (uint32_t i = 0; im && b.buf && i < im->info.nstates && b.extents < EXTENTS_MAX; i++)
		walk(im, i, &b);
	if (im) {
		check(image_check_unchanged(im, &e) == 0);
		image_advise(im, 0, 0, MIB, true);
		image_advise(im, 0, 0, MIB, false);
	}
	image_close(im);
	free(b.buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run(data, size, false);
	run(data, size, true);
	return 0;
}
