/*
 * raw.c - reading raw files, with their holes, and block devices.
 *
 * The virtual size is the file's, to the byte.  Holes come from SEEK_DATA and SEEK_HOLE; a block device is all data.
 */
#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/raw/raw.h"

#include <sodium.h>

struct raw {
	struct image im;
	struct image_state current;
};

static void raw_close(struct image *im)
{
	image_base_done(im);
	free(im);
}

static int raw_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			   struct err *e)
{
	uint64_t end = off + limit;
	bool data = true;

	(void)state;
	if (!im->identity.block_device) {
		int r = file_next_data(&im->file, off, off + limit, &data, &end, e);

		if (r < 0)
			return r;
	}
	*ret = (struct extent){ .start = off, .len = end - off, .kind = data ? EXTENT_DATA : EXTENT_HOLE };
	if (data)
		ret->origin.host = off;
	return 1;
}

static int raw_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)state;
	return file_pread_padded(&im->file, buf, len, off, e);
}

/* Two raw files of one size have one digest: it never proves content. */
static int raw_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	uint8_t in[24] = "kedge raw state";	/* then the size, LE, at 16 */

	(void)state;
	(void)e;
	for (int i = 0; i < 8; i++)
		in[16 + i] = (uint8_t)(im->file.size >> (8 * i));
	(void)crypto_generichash(digest, 32, in, sizeof(in), NULL, 0);	/* fails only for lengths out of range */
	return 0;
}

static void raw_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	(void)state;
	file_advise(&im->file, off, len, will_need);
}

static const struct image_ops raw_ops = {
	.format = "raw",
	.close = raw_close,
	.next_extent = raw_next_extent,
	.pread = raw_pread,
	.state_digest = raw_state_digest,
	.advise = raw_advise,
};

int raw_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(free_ptr) struct raw *raw = calloc(1, sizeof(*raw));
	int r;

	if (!raw)
		return err_set(e, ERR_NOMEM, "raw image");
	r = image_base_init(&raw->im, &raw_ops, fd, path, o, e);
	if (r < 0)
		return r;
	raw->current = (struct image_state){ .name = "current", .id = "", .size = raw->im.file.size };
	raw->im.states = &raw->current;
	raw->im.info = (struct image_info){
		.format = "raw",
		.file_size = raw->im.file.size,
		.virtual_size = raw->im.file.size,
		.nstates = 1,
	};
	*ret = &STEAL(raw)->im;
	return 0;
}
