/* qcow2_write_codec.c - one cluster compressed, and decompressed: by deflate, as all versions have it, or by zstd. */
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "formats/inflate.h"
#include "formats/qcow2/qcow2_write_internal.h"
#include "formats/qcow_deflate.h"

struct codec {
	void *deflate;		/* one of the two: of qcow_deflate.h, a z_stream */
	ZSTD_CCtx *zstd;	/* at zstd's own level, as QEMU */
};

void q2w_codec_free(void *codec)
{
	struct codec *c = codec;

	if (!c)
		return;
	qcow_deflate_free(c->deflate);
	ZSTD_freeCCtx(c->zstd);
	free(c);
}

int q2w_codec_new(void *opaque, void **ret_codec, struct err *e)
{
	const struct q2w *q = opaque;
	struct codec *c = calloc(1, sizeof(*c));

	if (!c || (q->zstd && !(c->zstd = ZSTD_createCCtx()))) {
		free(c);
		return err_set(e, ERR_NOMEM, "compression");
	}
	if (!q->zstd && qcow_deflate_new(NULL, &c->deflate, e) < 0) {
		free(c);
		return e->code;
	}
	*ret_codec = c;
	return 0;
}

/* The room of len - 1 bytes is the format's: it has no entry for a compressed cluster of a whole one. */
static int compress_zstd(ZSTD_CCtx *c, const uint8_t *in, size_t len, uint8_t *out, size_t *ret_len, struct err *e)
{
	size_t n = ZSTD_compress2(c, out, len - 1, in, len);
	ZSTD_ErrorCode code = ZSTD_getErrorCode(n);

	if (code == ZSTD_error_memory_allocation)
		return err_set(e, ERR_NOMEM, "compression");
	if (code != ZSTD_error_no_error && code != ZSTD_error_dstSize_tooSmall)
		return err_set(e, ERR_INTERNAL, "compression failed: %s", ZSTD_getErrorName(n));
	*ret_len = code == ZSTD_error_no_error ? n : 0;
	return 0;
}

static int compress_deflate(z_stream *z, const uint8_t *in, size_t len, uint8_t *out, size_t *ret_len, struct err *e)
{
	int rc;

	if (deflateReset(z) != Z_OK)
		return err_set(e, ERR_INTERNAL, "compression cannot be started again");
	z->next_in = (uint8_t *)(uintptr_t)in;
	z->avail_in = (uInt)len;
	z->next_out = out;
	z->avail_out = (uInt)len - 1;
	rc = deflate(z, Z_FINISH);
	if (rc != Z_STREAM_END && rc != Z_OK && rc != Z_BUF_ERROR)
		return err_set(e, ERR_INTERNAL, "compression failed with %d", rc);
	*ret_len = rc == Z_STREAM_END ? len - 1 - z->avail_out : 0;
	return 0;
}

int q2w_compress(void *codec, const uint8_t *in, size_t len, uint8_t *out, size_t *ret_len, struct err *e)
{
	struct codec *c = codec;

	return c->zstd ? compress_zstd(c->zstd, in, len, out, ret_len, e)
		       : compress_deflate(c->deflate, in, len, out, ret_len, e);
}

/* One frame, which says itself where it ends. */
static int decompress_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	size_t frame = ZSTD_findFrameCompressedSize(in, in_len), n;

	if (ZSTD_isError(frame))
		return 0;
	n = ZSTD_decompress(out, out_len, in, frame);
	if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
		return ERR_NOMEM;
	return !ZSTD_isError(n) && n == out_len;
}

int q2w_decompress(const struct q2w *q, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len, struct err *e)
{
	int ok = q->zstd ? decompress_zstd(in, in_len, out, out_len) : inflate_raw(out, out_len, in, in_len);

	if (ok == ERR_NOMEM)
		return err_set(e, ERR_NOMEM, "decompression");
	return ok ? 0 : err_set(e, ERR_CORRUPT, "a compressed cluster doesn't give its %zu bytes", out_len);
}
