/* inflate.c - deflate by libdeflate; by zlib where a stream must be taken that isn't whole. */
#define ZLIB_CONST
#include "formats/inflate.h"

#include <libdeflate.h>
#include <zlib.h>

/* The forgiving decoder: a stream that goes on, or is cut off, after a full block of output is fine. */
static int inflate_lenient(void *out, size_t out_len, const void *in, size_t in_len)
{
	z_stream z = { .next_in = in, .avail_in = (uInt)in_len, .next_out = out, .avail_out = (uInt)out_len };
	int r;

	if (inflateInit2(&z, -15) != Z_OK)
		return ERR_NOMEM;
	r = inflate(&z, Z_FINISH);
	(void)inflateEnd(&z);
	if (r == Z_MEM_ERROR)
		return ERR_NOMEM;
	return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && z.avail_out == 0;
}

int inflate_raw(void *out, size_t out_len, const void *in, size_t in_len)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	enum libdeflate_result r = LIBDEFLATE_BAD_DATA;
	size_t used, made = 0;

	if (d)
		r = libdeflate_deflate_decompress_ex(d, in, in_len, out, out_len, &used, &made);
	libdeflate_free_decompressor(d);
	if (r == LIBDEFLATE_SUCCESS && made == out_len)
		return 1;
	return inflate_lenient(out, out_len, in, in_len);
}

int inflate_zlib(void *out, size_t out_len, const void *in, size_t in_len, size_t *ret_made)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	enum libdeflate_result r;
	size_t used, made = 0;

	if (!d)
		return ERR_NOMEM;
	r = libdeflate_zlib_decompress_ex(d, in, in_len, out, out_len, &used, &made);
	libdeflate_free_decompressor(d);
	if (r != LIBDEFLATE_SUCCESS)
		return 0;
	*ret_made = made;
	return 1;
}
