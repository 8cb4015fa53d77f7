/*
 * cold.c - is what a reader is about to read in the page cache?
 *
 * RWF_NOWAIT never reads from the disk, so asking changes nothing.  Three places inside a window of the disk are asked,
 * not its start, which the kernel may have read ahead for us.  That is a sample, not a proof; a file system that can't
 * tell counts as cached.
 */
#include <errno.h>
#include <sys/uio.h>

#include "base/num.h"
#include "formats/chain.h"

#define WINDOW_BYTES (16 * MIB)
#define PLACES 4		/* quarters; the first is left out */

/* 1 not cached, 0 cached or not known, -1 no data there. */
static int cold_at(const struct chain *c, struct image *im, uint32_t state, uint64_t off)
{
	struct err unheard = ERR_INIT;	/* the read will find it again and say it */
	struct extent x;
	struct file f;
	uint8_t byte;
	struct iovec v = { .iov_base = &byte, .iov_len = 1 };

	if (off >= image_state(im, state)->size || image_next_extent(im, state, off, 1, &x, &unheard) < 0 ||
	    x.kind != EXTENT_DATA)
		return -1;
	f = image_file(c->layers[x.origin.layer], x.origin.file);
	return preadv2(f.fd, &v, 1, (off_t)(f.start + x.origin.host), RWF_NOWAIT) < 0 && errno == EAGAIN;
}

bool chain_is_cold(const struct chain *c, struct cold_window *w, struct image *im, uint32_t state, uint64_t off)
{
	unsigned asked = 0, cold = 0;

	if (w->image == im && w->state == state && off >= w->start && off - w->start < WINDOW_BYTES)
		return w->cold;
	*w = (struct cold_window){ .image = im, .state = state, .start = round_down(off, WINDOW_BYTES) };
	for (unsigned i = 1; i <= PLACES; i++) {
		/* Where the window has little data the place that is wanted has to do. */
		uint64_t at = i < PLACES ? w->start + i * WINDOW_BYTES / PLACES : off;
		int r = i < PLACES || !asked ? cold_at(c, im, state, at) : -1;

		asked += r >= 0;
		cold += r == 1;
	}
	w->cold = 2 * cold > asked;
	return w->cold;
}
