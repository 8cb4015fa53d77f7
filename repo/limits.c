/*
 * limits.c - measuring the primitives that the pipeline is made of.
 */
#include "repo/limits.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/format.h"

#define MEASURE_SECONDS 0.5
#define SEGMENT ((size_t)SEGMENT_DEFAULT_BYTES)

/* The data without its zero chunks, and room for what the primitives make of a segment. */
struct bench {
	uint8_t *data;
	size_t len;
	uint8_t *out, *back;
	size_t *sizes;		/* compressed size of each segment */
	/* all segments compressed, each at its SEGMENT-sized place (bounded by ZSTD_compressBound) */
	uint8_t *packed;
	size_t nsegments;
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	int level;
	struct cancel *cancel;
};

static size_t bound(void) { return ZSTD_compressBound(SEGMENT); }

static void bench_done(struct bench *b)
{
	free(b->data);
	free(b->out);
	free(b->back);
	free(b->sizes);
	free(b->packed);
	ZSTD_freeCCtx(b->cctx);
	ZSTD_freeDCtx(b->dctx);
}

static int bench_init(struct bench *b, const uint8_t *data, size_t len, struct err *e)
{
	b->data = malloc(len);
	b->out = malloc(bound() + AEAD_BYTES);
	b->back = malloc(bound() + AEAD_BYTES);
	b->cctx = ZSTD_createCCtx();
	b->dctx = ZSTD_createDCtx();
	if (!b->data || !b->out || !b->back || !b->cctx || !b->dctx)
		return err_set(e, ERR_NOMEM, "no memory to measure on %zu bytes", len);
	for (size_t at = 0; at + CHUNK_DEFAULT_BYTES <= len; at += CHUNK_DEFAULT_BYTES)
		if (!bytes_all_zero(data + at, CHUNK_DEFAULT_BYTES)) {
			memcpy(b->data + b->len, data + at, CHUNK_DEFAULT_BYTES);
			b->len += CHUNK_DEFAULT_BYTES;
		}
	b->nsegments = b->len / SEGMENT;
	if (b->len < MIB)
		return err_set(e, ERR_INVALID, "less than 1 MiB of the data is not zero: too little to measure on");
	b->sizes = calloc(b->nsegments, sizeof(*b->sizes));
	b->packed = malloc(b->nsegments * bound());
	if (!b->sizes || !b->packed)
		return err_set(e, ERR_NOMEM, "no memory to measure on %zu bytes", len);
	return 0;
}

static void one_zero_check(struct bench *b, size_t i)
{
	/* data that is not zero ends the search at once: the cost is that of zeros */
	static const uint8_t zeros[SEGMENT];
	volatile bool z;

	__asm__ volatile("" ::: "memory");	/* a pure function of the same bytes would be called once */
	z = bytes_all_zero(zeros, SEGMENT);
	(void)z;
	(void)b;
	(void)i;
}

static void one_hash(struct bench *b, size_t i)
{
	static const uint8_t key[KEY_BYTES] = { 1 };
	struct id id;

	for (size_t at = 0; at < SEGMENT; at += CHUNK_DEFAULT_BYTES)
		crypto_generichash_blake2b(id.b, sizeof(id.b), b->data + i * SEGMENT + at, CHUNK_DEFAULT_BYTES, key,
					   sizeof(key));
}

static void one_compress(struct bench *b, size_t i)
{
	size_t n = ZSTD_compressCCtx(b->cctx, b->packed + i * bound(), bound(), b->data + i * SEGMENT, SEGMENT,
				     b->level);

	b->sizes[i] = ZSTD_isError(n) ? SEGMENT : n;
}

static void one_decode(struct bench *b, size_t i)
{
	volatile size_t n = ZSTD_decompressDCtx(b->dctx, b->back, SEGMENT, b->packed + i * bound(), b->sizes[i]);

	(void)n;
}

static const uint8_t bench_key[KEY_BYTES] = { 2 }, bench_nonce[NONCE_BYTES] = { 3 };

static void one_seal(struct bench *b, size_t i)
{
	unsigned long long n;

	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(b->out, &n, b->data + i * SEGMENT, SEGMENT, NULL, 0, NULL,
							 bench_nonce, bench_key);
}

static void one_open(struct bench *b, size_t i)
{
	volatile int r;

	(void)i;	/* what one_seal left: the cost does not depend on the bytes */
	r = crypto_aead_xchacha20poly1305_ietf_decrypt(b->back, NULL, NULL, b->out, SEGMENT + TAG_BYTES, NULL, 0,
						       bench_nonce, bench_key);
	(void)r;
}

/* Bytes a second of one over the segments, for at least MEASURE_SECONDS and each segment once. */
static double measure(struct bench *b, void (*one)(struct bench *, size_t))
{
	double start = clock_mono(), t = 0;
	size_t n = 0;

	while ((t < MEASURE_SECONDS || n < b->nsegments) && !cancel_requested(b->cancel)) {
		one(b, n++ % b->nsegments);
		t = clock_mono() - start;
	}
	LOG_DEBUG("%zu segments of %zu bytes in %.3f s", n, SEGMENT, t);
	return t > 0 ? (double)n * SEGMENT / t : 0;
}

static int measure_write(struct bench *b, const char *dir, double *ret, struct err *e)
{
	CLEANUP(free_ptr) char *path = text_printf(e, "%s/kedge-bench.XXXXXX", dir);
	CLEANUP(close_fd) int fd = -1;
	double start;

	if (!path)
		return e->code;
	fd = FS_RETRY(mkostemp(path, O_CLOEXEC));
	if (fd < 0)
		return err_sys(e, "a file in %s", dir);
	unlink(path);
	start = clock_mono();
	for (size_t i = 0; i < 4 && !cancel_requested(b->cancel); i++)
		if (fs_write_full(fd, b->data, b->len, e) < 0)
			return err_ctx(e, "%s", dir);
	if (FS_RETRY(fsync(fd)) < 0)
		return err_sys(e, "fsync in %s", dir);
	*ret = 4.0 * (double)b->len / (clock_mono() - start);
	return 0;
}

int limits_measure(const void *data, size_t len, int zstd_level, const char *dir, struct cancel *cancel,
		   struct limits *ret, struct err *e)
{
	CLEANUP(bench_done) struct bench b = { .level = zstd_level, .cancel = cancel };
	struct limits l = { 0 };
	size_t stored = 0;

	if (bench_init(&b, data, len, e) < 0)
		return e->code;
	l.bytes = b.len;
	l.zero_check = measure(&b, one_zero_check);
	l.hash = measure(&b, one_hash);
	l.compress = measure(&b, one_compress);
	l.decode = measure(&b, one_decode);
	l.seal = measure(&b, one_seal);
	l.open = measure(&b, one_open);
	for (size_t i = 0; i < b.nsegments; i++)
		stored += min_size(b.sizes[i], SEGMENT);
	l.ratio = stored ? (double)b.nsegments * SEGMENT / (double)stored : 1;
	if (dir && measure_write(&b, dir, &l.write, e) < 0)
		return e->code;
	if (cancel_check(cancel, e) < 0)
		return e->code;
	*ret = l;
	return 0;
}

/* Seconds that a plain byte costs the cores and the disk; whichever is slower is the limit, for they overlap. */
static double limit_of(const struct limits *l, double cpu, unsigned cores, double written)
{
	double t = cpu / (cores ? cores : 1);

	if (l->write > 0 && written / l->write > t)
		t = written / l->write;
	return t > 0 ? 1 / t : 0;
}

double limits_store(const struct limits *l, unsigned cores)
{
	double stored = 1 / l->ratio;	/* of one plain byte */
	double cpu = 1 / l->zero_check + 2 / l->hash + 1 / l->compress + 1 / l->decode +
		     stored * (1 / l->seal + 1 / l->open + 1 / l->hash);

	return limit_of(l, cpu, cores, stored);
}

double limits_restore(const struct limits *l, unsigned cores)
{
	double cpu = 1 / l->hash + 1 / l->decode + 1 / l->ratio / l->open;

	return limit_of(l, cpu, cores, 1);
}
