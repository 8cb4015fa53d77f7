/*
 * limits.c - measuring the primitives that the pipeline is made of.
 */
#include "repo/limits.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/num.h"
#include "base/text.h"
#include "base/workers.h"
#include "repo/crypt.h"
#include "repo/format.h"
#include "repo/sha256.h"

#define MEASURE_SECONDS 0.5
#define SEGMENT ((size_t)SEGMENT_DEFAULT_BYTES)

/* The sample, and room for what the primitives make of it. */
struct bench {
	const uint8_t *data;
	size_t len;
	size_t *sizes;		/* compressed size of each segment */
	/* all segments compressed, each at its SEGMENT-sized place (bounded by ZSTD_compressBound) */
	uint8_t *packed;
	size_t nsegments;
	unsigned nlanes;
	struct lane *lanes;
	int level;
	struct cancel *cancel;
};

/* What one of the threads works with; it takes every nlanes-th segment. */
struct lane {
	struct bench *b;
	size_t index;
	uint8_t *out, *back;
	struct crypt *crypt;
	struct sha256 *sha256;
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	int fd;			/* -1: no files */
	size_t written;		/* segments in it */
	void (*one)(struct lane *, size_t);
	double rate;
	struct err failed;	/* of what needs memory */
};

DEFINE_CLEANUP(struct workers, workers_free)

static size_t bound(void) { return ZSTD_compressBound(SEGMENT); }

static void bench_done(struct bench *b)
{
	for (size_t i = 0; b->lanes && i < b->nlanes; i++) {
		struct lane *l = &b->lanes[i];

		free(l->out);
		free(l->back);
		crypt_free(l->crypt);
		sha256_free(l->sha256);
		ZSTD_freeCCtx(l->cctx);
		ZSTD_freeDCtx(l->dctx);
		if (l->fd >= 0)
			close(l->fd);
	}
	free(b->lanes);
	free(b->sizes);
	free(b->packed);
}

static int open_unnamed(const char *dir, int *ret, struct err *e)
{
	CLEANUP(free_ptr) char *path = text_printf(e, "%s/kedge-bench.XXXXXX", dir);

	if (!path)
		return e->code;
	*ret = FS_RETRY(mkostemp(path, O_CLOEXEC));
	if (*ret < 0)
		return err_sys(e, "a file in %s", dir);
	unlink(path);
	return 0;
}

static int lane_init(struct lane *l, struct bench *b, size_t index, const char *dir, struct err *e)
{
	l->b = b;
	l->index = index;
	l->out = malloc(bound() + AEAD_BYTES);
	l->back = malloc(bound() + AEAD_BYTES);
	l->cctx = ZSTD_createCCtx();
	l->dctx = ZSTD_createDCtx();
	if (!l->out || !l->back || !l->cctx || !l->dctx)
		return err_set(e, ERR_NOMEM, "no memory to measure with %u threads", b->nlanes);
	if (crypt_new(&l->crypt, e) < 0 || sha256_new(&l->sha256, e) < 0)
		return e->code;
	return dir ? open_unnamed(dir, &l->fd, e) : 0;
}

static int bench_init(struct bench *b, const struct limits_data *d, const char *dir, unsigned cores, struct err *e)
{
	if (d->len < MIB)
		return err_set(e, ERR_INVALID, "less than 1 MiB of the data is not zero: too little to measure on");
	b->data = d->sample;
	b->len = d->len;
	b->nsegments = b->len / SEGMENT;
	b->sizes = calloc(b->nsegments, sizeof(*b->sizes));
	b->packed = malloc(b->nsegments * bound());
	b->lanes = calloc(cores, sizeof(*b->lanes));
	if (!b->sizes || !b->packed || !b->lanes)
		return err_set(e, ERR_NOMEM, "no memory to measure on %zu bytes", b->len);
	b->nlanes = cores;
	for (size_t i = 0; i < cores; i++)
		b->lanes[i].fd = -1;
	for (size_t i = 0; i < cores; i++)
		if (lane_init(&b->lanes[i], b, i, dir, e) < 0)
			return e->code;
	return 0;
}

static void one_zero_check(struct lane *l, size_t i)
{
	/* data that is not zero ends the search at once: the cost is that of zeros */
	static const uint8_t zeros[SEGMENT];
	volatile bool z;

	__asm__ volatile("" ::: "memory");	/* a pure function of the same bytes would be called once */
	z = bytes_all_zero(zeros, SEGMENT);
	(void)z;
	(void)l;
	(void)i;
}

static void one_hash(struct lane *l, size_t i)
{
	static const uint8_t key[KEY_BYTES] = { 1 };
	const uint8_t *p = l->b->data + i * SEGMENT;
	struct id id;

	for (size_t at = 0; l->failed.code == 0 && at < SEGMENT; at += CHUNK_DEFAULT_BYTES)
		(void)!crypt_b2(l->crypt, key, "kedge-chunk-v1", p + at, CHUNK_DEFAULT_BYTES, &id, &l->failed);
}

static void one_compress(struct lane *l, size_t i)
{
	size_t n = ZSTD_compressCCtx(l->cctx, l->b->packed + i * bound(), bound(), l->b->data + i * SEGMENT, SEGMENT,
				     l->b->level);

	l->b->sizes[i] = ZSTD_isError(n) ? SEGMENT : n;
}

static void one_decode(struct lane *l, size_t i)
{
	volatile size_t n = ZSTD_decompressDCtx(l->dctx, l->back, SEGMENT, l->b->packed + i * bound(), l->b->sizes[i]);

	(void)n;
}

static const uint8_t bench_key[KEY_BYTES] = { 2 }, bench_nonce[NONCE_BYTES] = { 3 };
static const struct crypt_aead bench_aead = { .key = bench_key, .nonce = bench_nonce };

static void one_seal(struct lane *l, size_t i)
{
	(void)!crypt_seal(l->crypt, &bench_aead, l->b->data + i * SEGMENT, SEGMENT, l->out, &l->failed);
}

static void one_open(struct lane *l, size_t i)
{
	(void)i;	/* what one_seal left: the cost does not depend on the bytes */
	(void)!crypt_open(l->crypt, &bench_aead, l->out, SEGMENT + TAG_BYTES, l->back, &l->failed);
}

static void one_name(struct lane *l, size_t i)
{
	struct id id;

	(void)!sha256_of(l->sha256, l->b->data + i * SEGMENT, SEGMENT, &id, &l->failed);
}

/* A fresh page for every page written, as a restore or a new pack has it. */
static void one_copy_out(struct lane *l, size_t i)
{
	struct err e = ERR_INIT;

	if (fs_pwrite_full(l->fd, l->b->data + i * SEGMENT, SEGMENT, l->written * SEGMENT, &e) == 0)
		l->written++;
}

static void one_copy_in(struct lane *l, size_t i)
{
	struct err e = ERR_INIT;
	size_t n;

	(void)!fs_pread(l->fd, l->back, SEGMENT, l->written ? i % l->written * SEGMENT : 0, &n, &e);
}

/* One thread's part: at least MEASURE_SECONDS, and each of its segments once. */
static int run_lane(void *local, void *item, struct err *e)
{
	struct lane *l = item;
	const struct bench *b = l->b;
	double start = clock_mono(), t = 0;
	size_t n = 0, i = l->index;

	(void)local;
	while ((t < MEASURE_SECONDS || n * b->nlanes < b->nsegments) && l->failed.code == 0 &&
	       !cancel_requested(b->cancel)) {
		if (i >= b->nsegments)
			i = l->index % b->nsegments;
		l->one(l, i);
		i += b->nlanes;
		n++;
		t = clock_mono() - start;
	}
	if (l->failed.code) {
		*e = l->failed;
		return e->code;
	}
	l->rate = t > 0 ? (double)n * SEGMENT / t : 0;
	LOG_DEBUG("%zu segments of %zu bytes in %.3f s", n, SEGMENT, t);
	return cancel_check(b->cancel, e);
}

/* Bytes a second of one core, all of them at it at once: that is how the pipeline finds them. */
static int measure(struct bench *b, void (*one)(struct lane *, size_t), double *ret, struct err *e)
{
	struct workers_opts o = { .name = "bench", .threads = b->nlanes, .max_bytes = SIZE_MAX, .run = run_lane };
	CLEANUP(workers_free_cleanup) struct workers *w = NULL;
	double sum = 0;
	void *item;
	int r;

	if (workers_new(&o, &w, e) < 0)
		return e->code;
	for (size_t i = 0; i < b->nlanes; i++) {
		b->lanes[i].one = one;
		if (workers_submit(w, &b->lanes[i], 1, e) < 0)
			return e->code;
	}
	workers_close(w);
	while ((r = workers_next(w, &item, e)) > 0)
		sum += ((struct lane *)item)->rate;
	if (r < 0)
		return r;
	*ret = sum / b->nlanes;
	return 0;
}

static int measure_write(struct bench *b, const char *dir, double *ret, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	double start;

	if (open_unnamed(dir, &fd, e) < 0)
		return e->code;
	start = clock_mono();
	for (size_t i = 0; i < 4 && !cancel_requested(b->cancel); i++)
		if (fs_write_full(fd, b->data, b->len, e) < 0)
			return err_ctx(e, "%s", dir);
	if (FS_RETRY(fsync(fd)) < 0)
		return err_sys(e, "fsync in %s", dir);
	*ret = 4.0 * (double)b->len / (clock_mono() - start);
	return 0;
}

int limits_measure(const struct limits_data *d, int zstd_level, const char *dir, unsigned cores, struct cancel *cancel,
		   struct limits *ret, struct err *e)
{
	CLEANUP(bench_done) struct bench b = { .level = zstd_level, .cancel = cancel };
	struct limits l = { .cores = cores ? cores : 1, .bytes = d->len };
	size_t stored = 0;

	if (bench_init(&b, d, dir, l.cores, e) < 0 ||
	    measure(&b, one_zero_check, &l.zero_check, e) < 0 || measure(&b, one_hash, &l.hash, e) < 0 ||
	    measure(&b, one_compress, &l.compress, e) < 0 || measure(&b, one_decode, &l.decode, e) < 0 ||
	    measure(&b, one_seal, &l.seal, e) < 0 || measure(&b, one_open, &l.open, e) < 0 ||
	    measure(&b, one_name, &l.name, e) < 0)
		return e->code;
	for (size_t i = 0; i < b.nsegments; i++)
		stored += min_size(b.sizes[i], SEGMENT);
	l.ratio = stored ? (double)b.nsegments * SEGMENT / (double)stored : 1;
	if (dir && (measure(&b, one_copy_out, &l.copy_out, e) < 0 || measure(&b, one_copy_in, &l.copy_in, e) < 0 ||
		    measure_write(&b, dir, &l.write, e) < 0))
		return e->code;
	*ret = l;
	return cancel_check(cancel, e);
}

static double cost(double rate) { return rate > 0 ? 1 / rate : 0; }

/* Core-seconds of a new plain byte, and of one that is restored; without reading and writing. */
static double store_cost(const struct limits *l)
{
	return 2 / l->hash + 1 / l->compress + 1 / l->decode + (1 / l->seal + 1 / l->open + 1 / l->name) / l->ratio;
}

static double restore_cost(const struct limits *l) { return 1 / l->hash + 1 / l->decode + 1 / l->ratio / l->open; }

/* Whichever of cores and disk is slower is the limit, for they overlap. */
static double limit_of(const struct limits *l, double cpu, double written)
{
	double t = cpu / l->cores;

	if (l->write > 0 && written / l->write > t)
		t = written / l->write;
	return t > 0 ? 1 / t : 0;
}

double limits_store(const struct limits *l)
{
	return limit_of(l, store_cost(l) + cost(l->copy_in) + cost(l->copy_out) / l->ratio, 1 / l->ratio);
}

double limits_restore(const struct limits *l) { return limit_of(l, restore_cost(l) + cost(l->copy_out), 1); }

double limits_store_seconds(const struct limits *l, const struct limits_data *d)
{
	double cpu = (double)d->read * cost(l->copy_in) + (double)(d->read - d->hashed) / l->zero_check +
		     (double)(d->hashed - d->fresh) / l->hash +
		     (double)d->fresh * (store_cost(l) + cost(l->copy_out) / l->ratio);

	return cpu / l->cores;
}

double limits_restore_seconds(const struct limits *l, const struct limits_data *d)
{
	double cpu = (double)d->fresh * (restore_cost(l) + cost(l->copy_in) / l->ratio) +
		     (double)d->hashed * cost(l->copy_out);

	return cpu / l->cores;
}
