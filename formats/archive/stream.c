/*
 * stream.c - a raw disk in a compressed file, as an image that is read from front to back.
 *
 * One decoder serves all threads, one at a time.  kept is a ring: guest byte x lies at x % STREAM_KEPT_BYTES, for the
 * bytes [at - STREAM_KEPT_BYTES, at).
 */
#include "formats/archive/stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/file.h"

#define PIECE_BYTES ((size_t)256 << 10)

struct stream {
	struct image im;
	struct image_state current;
	enum decode_kind kind;
	struct cancel *cancel;
	pthread_mutex_t lock;		/* guards all below; held while bytes are decompressed: there is one stream */
	struct decoder *decoder;
	uint64_t at;			/* what the decoder gives next */
	unsigned restarts;
	uint8_t *kept;
};

static void stream_close(struct image *im)
{
	struct stream *s = (struct stream *)im;

	decoder_free(s->decoder);
	free(s->kept);
	pthread_mutex_destroy(&s->lock);
	image_base_done(im);
	free(s);
}

static int stream_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			      struct err *e)
{
	(void)im;
	(void)state;
	(void)e;
	*ret = (struct extent){ .start = off, .len = limit, .kind = EXTENT_DATA, .origin = { .host = off } };
	return 1;
}

static int restart(struct stream *s, struct err *e)
{
	if (s->decoder && s->restarts++ == STREAM_RESTARTS_MAX) {
		(void)err_set(e, ERR_UNSUPPORTED, "compressed: read backwards more than %u times, each from the start",
			      STREAM_RESTARTS_MAX);
		return err_hint(e, "decompress it first");
	}
	decoder_free(s->decoder);
	s->decoder = NULL;
	s->at = 0;
	return decoder_new(&s->im.file, s->kind, &s->decoder, e);
}

/* Decompresses the next bytes into the ring. */
static int advance(struct stream *s, struct err *e)
{
	size_t in = (size_t)(s->at % STREAM_KEPT_BYTES), got;
	size_t room = min_size(PIECE_BYTES, STREAM_KEPT_BYTES - in);

	if (cancel_check(s->cancel, e) < 0 || decoder_read(s->decoder, s->kept + in, room, &got, e) < 0)
		return e->code;
	if (!got || got > s->current.size - s->at)
		return err_set(e, ERR_CORRUPT, "%s bytes come out of it than the %" PRIu64 " before",
			       got ? "more" : "fewer", s->current.size);
	s->at += got;
	return 0;
}

static int read_locked(struct stream *s, uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	while (len) {
		uint64_t oldest = s->at - min_u64(s->at, STREAM_KEPT_BYTES);
		size_t in = (size_t)(off % STREAM_KEPT_BYTES), n;

		if ((!s->decoder || off < oldest) && restart(s, e) < 0)
			return e->code;
		if (off >= s->at) {
			if (advance(s, e) < 0)
				return e->code;
			continue;
		}
		n = min_size(min_size(len, STREAM_KEPT_BYTES - in), (size_t)(s->at - off));
		memcpy(buf, s->kept + in, n);
		buf += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int stream_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct stream *s = (struct stream *)im;
	int r;

	(void)state;
	pthread_mutex_lock(&s->lock);
	r = read_locked(s, buf, len, off, e);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* As of a raw file: it never proves content.  The compressed file's identity does, where it can. */
static int stream_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	uint8_t in[32] = "kedge compressed raw";	/* then the size, LE */

	(void)e;
	put_le64(in + 24, im->states[state].size);
	(void)crypto_generichash(digest, 32, in, sizeof(in), NULL, 0);	/* fails only for lengths out of range */
	return 0;
}

static const struct image_ops stream_ops = {
	.format = "raw",
	.close = stream_close,
	.next_extent = stream_next_extent,
	.pread = stream_pread,
	.state_digest = stream_state_digest,
};

static int count(struct stream *s, uint64_t max_bytes, uint64_t *ret, struct err *e)
{
	CLEANUP(decoder_free_cleanup) struct decoder *d = NULL;
	uint64_t n = 0;
	size_t got;

	if (decoder_new(&s->im.file, s->kind, &d, e) < 0)
		return e->code;
	do {
		if (cancel_check(s->cancel, e) < 0 || decoder_read(d, s->kept, PIECE_BYTES, &got, e) < 0)
			return e->code;
		n += got;
		if (n > (max_bytes ? max_bytes : (uint64_t)INT64_MAX)) {
			(void)err_set(e, ERR_NOSPACE, "decompressed it has more than %" PRIu64 " bytes", max_bytes);
			return err_hint(e, "if it is meant to be that large: --max-unpacked SIZE");
		}
	} while (got);
	*ret = n;
	return 0;
}

static void stream_drop(struct stream **s)
{
	if (*s) {
		(*s)->im.file.fd = -1;	/* the caller's */
		stream_close(&(*s)->im);
	}
}

int stream_open(int fd, const struct file *file, enum decode_kind kind, uint64_t max_bytes, struct cancel *cancel,
		const char *path, struct image **ret, struct err *e)
{
	CLEANUP(stream_drop) struct stream *s = calloc(1, sizeof(*s));
	const struct image_open_opts o = { .window = file };

	if (!s)
		return err_set(e, ERR_NOMEM, "compressed image");
	pthread_mutex_init(&s->lock, NULL);
	s->kind = kind;
	s->cancel = cancel;
	if (image_base_init(&s->im, &stream_ops, fd, path, &o, e) < 0)
		return e->code;
	s->kept = malloc(STREAM_KEPT_BYTES);
	if (!s->kept)
		return err_set(e, ERR_NOMEM, "buffer of %zu bytes", STREAM_KEPT_BYTES);
	if (count(s, max_bytes, &s->current.size, e) < 0)
		return e->code;
	s->current.name = "current";
	s->current.id = "";
	s->im.states = &s->current;
	s->im.info = (struct image_info){
		.format = "raw",
		.file_size = s->im.file.size,
		.virtual_size = s->current.size,
		.nstates = 1,
		.sequential = true,
	};
	*ret = &STEAL(s)->im;
	return 0;
}
