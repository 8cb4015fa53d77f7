/* fuzz_directory.c - any bytes as a pack's trailer and directory; what decodes encodes to the same again. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "repo/pack.h"

#define DATA_END (64 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_sizes(const struct directory *d)
{
	for (size_t i = 0; i < d->segments.n; i++) {
		const struct dir_segment *s = &d->segments.p[i];

		check(range_ok(s->off, s->stored, DATA_END) && s->key < d->keys.n);
		check(range_ok(s->first_frame, s->nframes, d->frames.n) &&
		      range_ok(s->first_chunk, s->nchunks, d->chunks.n));
		for (uint32_t k = 0; k < s->nchunks; k++) {
			const struct dir_chunk *c = &d->chunks.p[s->first_chunk + k];

			check(c->frame < s->nframes && range_ok(c->first_base, c->nbases, d->bases.n));
			check(range_ok(c->off, c->len, d->frames.p[s->first_frame + c->frame].decoded));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL, *again = NULL;
	CLEANUP(buf_done) struct buf out, out2;
	struct err e = ERR_INIT;
	struct trailer t;

	buf_init(&out, PAYLOAD_MAX_BYTES);
	buf_init(&out2, PAYLOAD_MAX_BYTES);
	if (size >= TRAILER_BYTES && trailer_decode(data, size, &t, &e) == 0) {
		uint8_t back[TRAILER_BYTES];

		trailer_encode(&t, back);
		check(!memcmp(back, data, TRAILER_BYTES));
	}
	err_clear(&e);
	if (directory_decode(data, size, DATA_END, &d, &e) < 0) {
		check(e.code < 0 && e.cause[0] && !d);
		return 0;
	}
	check_sizes(d);
	check(directory_encode(d, &out, &e) == 0 && out.len == size);	/* reserved bytes may differ */
	check(directory_decode(out.p, out.len, DATA_END, &again, &e) == 0);
	check(directory_encode(again, &out2, &e) == 0 && out2.len == out.len && !memcmp(out.p, out2.p, out.len));
	return 0;
}
