/*
 * raw_pack.c - the writer of compressed raw disks: guest bytes in order, gaps as zeros, through one encoder into a file.
 */
#define ZLIB_CONST
#include "formats/raw/raw_pack.h"

#include <inttypes.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/fs.h"
#include "base/num.h"

#define UNIT_BYTES ((uint32_t)64 << 10)
#define OUT_BYTES ((size_t)256 << 10)
#define DEFAULT_MODE 0600
#define DEFAULT_MAX_BYTES ((size_t)64 << 20)
#define ZSTD_THREAD_BYTES ((size_t)16 << 20)	/* what a thread takes, about */
#define XZ_BLOCK_BYTES ((uint64_t)4 << 20)
#define XZ_PRESET 6u

struct packer {
	struct image_writer w;
	struct fs_atomic file;
	char *path;
	bool replace, begun;
	enum raw_pack pack;
	uint64_t at;		/* guest bytes that the encoder has */
	uint64_t written;
	uint8_t *out;		/* OUT_BYTES */
	ZSTD_CCtx *zstd;
	z_stream z;
	bool z_begun;
	lzma_stream lzma;
};

static const uint8_t zeros[64 * 1024];

static void packer_free(struct packer *p)
{
	ZSTD_freeCCtx(p->zstd);
	if (p->z_begun)
		(void)deflateEnd(&p->z);
	lzma_end(&p->lzma);
	fs_atomic_done(&p->file);
	free(p->out);
	free(p->path);
	free(p);
}

static void pack_abort(struct image_writer *w)
{
	packer_free((struct packer *)w);
}

static int pack_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct packer *p = (struct packer *)w;

	if (p->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a raw image has one state, of %" PRIu64 " bytes", w->size);
	p->begun = true;
	return 0;
}

static int put(struct packer *p, size_t len, struct err *e)
{
	if (len && fs_pwrite_full(p->file.fd, p->out, len, p->written, e) < 0)
		return e->code;
	p->written += len;
	return 0;
}

/* --- encoders: all of buf, and with end the rest of the stream ------------------------------------------------------ */

static int feed_zstd(struct packer *p, const uint8_t *buf, size_t len, bool end, struct err *e)
{
	ZSTD_inBuffer in = { buf, len, 0 };
	size_t left;

	do {
		ZSTD_outBuffer out = { p->out, OUT_BYTES, 0 };

		left = ZSTD_compressStream2(p->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return err_set(e, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(left));
		if (put(p, out.pos, e) < 0)
			return e->code;
	} while (in.pos < len || (end && left));
	return 0;
}

static int feed_gzip(struct packer *p, const uint8_t *buf, size_t len, bool end, struct err *e)
{
	int r;

	p->z.next_in = buf;
	p->z.avail_in = (uInt)len;
	do {
		p->z.next_out = p->out;
		p->z.avail_out = (uInt)OUT_BYTES;
		r = deflate(&p->z, end ? Z_FINISH : Z_NO_FLUSH);
		if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
			return err_set(e, ERR_INTERNAL, "zlib: error %d", r);
		if (put(p, OUT_BYTES - p->z.avail_out, e) < 0)
			return e->code;
	} while (p->z.avail_in || !p->z.avail_out || (end && r != Z_STREAM_END));
	return 0;
}

static int feed_xz(struct packer *p, const uint8_t *buf, size_t len, bool end, struct err *e)
{
	lzma_ret r;

	p->lzma.next_in = buf;
	p->lzma.avail_in = len;
	do {
		p->lzma.next_out = p->out;
		p->lzma.avail_out = OUT_BYTES;
		r = lzma_code(&p->lzma, end ? LZMA_FINISH : LZMA_RUN);
		if (r != LZMA_OK && r != LZMA_STREAM_END && r != LZMA_BUF_ERROR)
			return err_set(e, r == LZMA_MEM_ERROR ? ERR_NOMEM : ERR_INTERNAL, "xz: error %d", (int)r);
		if (put(p, OUT_BYTES - p->lzma.avail_out, e) < 0)
			return e->code;
	} while (p->lzma.avail_in || (end && r != LZMA_STREAM_END));
	return 0;
}

static int feed(struct packer *p, const uint8_t *buf, size_t len, bool end, struct err *e)
{
	p->at += len;
	switch (p->pack) {
	case RAW_ZSTD: return feed_zstd(p, buf, len, end, e);
	case RAW_XZ: return feed_xz(p, buf, len, end, e);
	default: return feed_gzip(p, buf, len, end, e);
	}
}

static int feed_zeros(struct packer *p, uint64_t to, struct err *e)
{
	while (p->at < to)
		if (feed(p, zeros, (size_t)min_u64(to - p->at, sizeof(zeros)), false, e) < 0)
			return e->code;
	return 0;
}

/* --- the writer ---------------------------------------------------------------------------------------------------- */

static int pack_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct packer *p = (struct packer *)w;
	const uint8_t *from = buf;

	if (off < p->at)
		return err_set(e, ERR_INTERNAL, "%s: written out of order: %" PRIu64 " after %" PRIu64, p->path, off, p->at);
	if (feed_zeros(p, off, e) < 0)
		return err_ctx(e, "%s", p->path);
	for (size_t n; len; from += n, len -= n) {
		n = min_size(len, (size_t)1 << 20);
		if (feed(p, from, n, false, e) < 0)
			return err_ctx(e, "%s", p->path);
	}
	return 0;
}

static int pack_finish(struct image_writer *w, struct err *e)
{
	struct packer *p = (struct packer *)w;
	int r;

	if (!p->begun)
		r = err_set(e, ERR_INTERNAL, "finished before it was begun");
	else if (feed_zeros(p, w->size, e) < 0 || feed(p, zeros, 0, true, e) < 0)
		r = err_ctx(e, "%s", p->path);
	else
		r = fs_atomic_commit(&p->file, p->replace, e);
	packer_free(p);
	return r;
}

static const struct writer_ops pack_ops = {
	.format = "raw",
	.begin_state = pack_begin,
	.write = pack_write,
	.finish = pack_finish,
	.abort = pack_abort,
};

/* --- making one ---------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && !strcmp(s + n - m, end);
}

enum raw_pack raw_pack_of(const struct writer_opts *o)
{
	if (o->subformat)
		return !strcmp(o->subformat, "zst") ? RAW_ZSTD : !strcmp(o->subformat, "gz") ? RAW_GZIP :
		       !strcmp(o->subformat, "xz") ? RAW_XZ : RAW_PLAIN;
	return ends_with(o->path, ".gz") ? RAW_GZIP : ends_with(o->path, ".xz") ? RAW_XZ :
	       ends_with(o->path, ".zst") || o->compress ? RAW_ZSTD : RAW_PLAIN;
}

static int begin_zstd(struct packer *p, unsigned threads, size_t max_bytes, struct err *e)
{
	size_t n = min_size(threads, max_bytes / ZSTD_THREAD_BYTES);

	p->zstd = ZSTD_createCCtx();
	if (!p->zstd)
		return err_set(e, ERR_NOMEM, "compressor");
	/* A library that was built without threads refuses them: then it goes on with this one. */
	(void)ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_nbWorkers, n > 1 ? (int)n : 0);
	if (ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_checksumFlag, 1)) ||
	    ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(p->zstd, p->w.size)))
		return err_set(e, ERR_INTERNAL, "zstd refuses its parameters");
	return 0;
}

/* As hard, and in as many threads, as the memory allows. */
static int begin_xz(struct packer *p, unsigned threads, size_t max_bytes, struct err *e)
{
	lzma_mt mt = { .block_size = XZ_BLOCK_BYTES, .check = LZMA_CHECK_CRC64, .threads = threads ? threads : 1,
		       .preset = XZ_PRESET };

	while (lzma_stream_encoder_mt_memusage(&mt) > max_bytes && (mt.threads > 1 || mt.preset > 0)) {
		if (mt.preset > 3 || mt.threads == 1)
			mt.preset--;
		else
			mt.threads--;
	}
	if (lzma_stream_encoder_mt(&p->lzma, &mt) != LZMA_OK)
		return err_set(e, ERR_NOMEM, "compressor");
	return 0;
}

static int begin_encoder(struct packer *p, const struct writer_opts *o, struct err *e)
{
	size_t max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_MAX_BYTES;

	if (p->pack == RAW_ZSTD)
		return begin_zstd(p, o->threads, max_bytes, e);
	if (p->pack == RAW_XZ)
		return begin_xz(p, o->threads, max_bytes, e);
	if (deflateInit2(&p->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return err_set(e, ERR_NOMEM, "compressor");
	p->z_begun = true;
	return 0;
}

int raw_pack_create(const struct writer_opts *o, enum raw_pack pack, struct image_writer **ret, struct err *e)
{
	struct packer *p;
	int r;

	if (o->preallocation != PREALLOC_OFF)
		return err_set(e, ERR_INVALID, "a compressed image cannot be preallocated");
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	p->w = (struct image_writer){ .ops = &pack_ops, .cluster_size = UNIT_BYTES, .size = o->size, .in_order = true };
	p->lzma = (lzma_stream)LZMA_STREAM_INIT;
	p->file.fd = -1;
	p->pack = pack;
	p->replace = o->replace;
	p->out = malloc(OUT_BYTES);
	p->path = strdup(o->path);
	if (!p->out || !p->path)
		r = err_set(e, ERR_NOMEM, "writer of %s", o->path);
	else
		r = begin_encoder(p, o, e);
	if (r == 0)
		r = fs_atomic_open(&p->file, o->path, o->replace, o->mode ? o->mode : DEFAULT_MODE, e);
	if (r < 0) {
		packer_free(p);
		return r;
	}
	*ret = &p->w;
	return 0;
}
