/*
 * decompress.c - compressed clusters: raw deflate or zstd, one cluster of output each.
 *
 * With x = 62 - (cluster_bits - 8), an L2 entry holds the host offset in its lower x bits, then the number of further
 * 512-byte sectors up to bit 61.  So the length is an upper bound: what follows belongs to the next compressed cluster,
 * and the last one may be cut by the file's end.  A result is always one whole cluster; anything else is corruption.
 *
 * Results are cached by entry: one compressed cluster that millions of entries share is decompressed once, and a reader
 * that takes a cluster in small pieces pays once.
 */
#include <inttypes.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/num.h"
#include "formats/file.h"
#include "formats/inflate.h"
#include "formats/qcow2/qcow2_internal.h"

static unsigned host_bits(const struct qcow2 *q)
{
	return 62 - (q->h.cluster_bits - 8);
}

uint64_t qcow2_compressed_host(const struct qcow2 *q, uint64_t entry)
{
	return entry & (((uint64_t)1 << host_bits(q)) - 1);
}

uint64_t qcow2_compressed_len(const struct qcow2 *q, uint64_t entry)
{
	uint64_t sectors = (entry >> host_bits(q) & (((uint64_t)1 << (q->h.cluster_bits - 8)) - 1)) + 1;

	return sectors * 512 - (qcow2_compressed_host(q, entry) & 511);
}

/* The decoders answer 1: the cluster is full; 0: the data are bad; or ERR_NOMEM. */

static ZSTD_DCtx *zstd_take(struct qcow2 *q)
{
	ZSTD_DCtx *d = NULL;

	pthread_mutex_lock(&q->zstd_lock);
	if (q->nzstd_idle)
		d = q->zstd_idle[--q->nzstd_idle];
	pthread_mutex_unlock(&q->zstd_lock);
	return d ? d : ZSTD_createDCtx();
}

static void zstd_give(struct qcow2 *q, ZSTD_DCtx *d)
{
	pthread_mutex_lock(&q->zstd_lock);
	if (d && q->nzstd_idle < sizeof(q->zstd_idle) / sizeof(q->zstd_idle[0])) {
		q->zstd_idle[q->nzstd_idle++] = d;
		d = NULL;
	}
	pthread_mutex_unlock(&q->zstd_lock);
	ZSTD_freeDCtx(d);
}

void qcow2_decompress_done(struct qcow2 *q)
{
	while (q->nzstd_idle)
		ZSTD_freeDCtx(q->zstd_idle[--q->nzstd_idle]);
}

/* Whole frames, one after the other, without a window buffer: how every writer so far does it. */
static bool zstd_frames(ZSTD_DCtx *d, uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len)
{
	while (out_len) {
		size_t frame = ZSTD_findFrameCompressedSize(in, in_len), made;

		if (ZSTD_isError(frame) || !frame)
			return false;
		made = ZSTD_decompressDCtx(d, out, out_len, in, frame);
		if (ZSTD_isError(made))
			return false;
		in += frame;
		in_len -= frame;
		out += made;
		out_len -= made;
	}
	return true;
}

/* A frame that goes on or is cut off after a full cluster of output. */
static int zstd_lenient(ZSTD_DCtx *d, void *out, size_t out_len, const void *in, size_t in_len)
{
	ZSTD_inBuffer i = { in, in_len, 0 };
	ZSTD_outBuffer o = { out, out_len, 0 };

	if (ZSTD_isError(ZSTD_DCtx_reset(d, ZSTD_reset_session_only)))
		return 0;
	while (o.pos < o.size) {
		size_t in_was = i.pos, out_was = o.pos, r = ZSTD_decompressStream(d, &o, &i);

		if (ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
			return ERR_NOMEM;
		if (ZSTD_isError(r) || (i.pos == in_was && o.pos == out_was))
			return 0;
	}
	return 1;
}

static int zstd_cluster(struct qcow2 *q, void *out, size_t out_len, const void *in, size_t in_len)
{
	ZSTD_DCtx *d = zstd_take(q);
	int ok;

	if (!d)
		return ERR_NOMEM;
	ok = zstd_frames(d, out, out_len, in, in_len) ? 1 : zstd_lenient(d, out, out_len, in, in_len);
	zstd_give(q, d);
	return ok;
}

static int fill_cluster(void *opaque, uint64_t entry, void *buf, size_t len, struct err *e)
{
	struct qcow2 *q = opaque;
	uint64_t host = qcow2_compressed_host(q, entry), bound = qcow2_compressed_len(q, entry),
		 size = q->im.file.size;
	CLEANUP(free_ptr) uint8_t *in = NULL;
	int ok;

	if (host >= size)
		return err_set(e, ERR_CORRUPT, "compressed cluster at %" PRIu64 " is outside the file", host);
	bound = min_u64(bound, size - host);
	in = malloc((size_t)bound);
	if (!in)
		return err_set(e, ERR_NOMEM, "compressed cluster of %" PRIu64 " bytes", bound);
	if (file_pread_padded(&q->im.file, in, (size_t)bound, host, e) < 0)
		return e->code;
	ok = q->h.compression_type ? zstd_cluster(q, buf, len, in, (size_t)bound)
				   : inflate_raw(buf, len, in, (size_t)bound);
	if (ok == ERR_NOMEM)
		return err_set(e, ERR_NOMEM, "decompression of the cluster at %" PRIu64, host);
	if (ok)
		return 0;
	return err_set(e, ERR_CORRUPT, "compressed cluster at %" PRIu64 ": its %s data don't give %zu bytes", host,
		       q->h.compression_type ? "zstd" : "deflate", len);
}

int qcow2_cluster_get(struct qcow2 *q, uint64_t entry, const struct cache_block **ret, struct err *e)
{
	return block_cache_get(q->cache, &q->owner_clusters, entry, q->cluster_size, fill_cluster, q, ret, e);
}
