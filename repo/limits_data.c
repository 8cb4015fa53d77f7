/*
 * limits_data.c - what files mean to a first backup: how much is to be read, hashed and stored; and a sample of what is
 * new.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "repo/format.h"
#include "repo/limits.h"

#define CHUNK ((size_t)CHUNK_DEFAULT_BYTES)
#define SEGMENT ((size_t)SEGMENT_DEFAULT_BYTES)
#define SEEN_FIRST ((size_t)1 << 12)
#define SEEN_LAST ((size_t)1 << 21)	/* 32 MiB; half of the places are used at most */

/* The hashes of the chunks met so far: open addressing; a hash of zero is an empty place. */
struct limits_seen {
	XXH128_hash_t *p;
	size_t size, n;
};

void limits_data_done(struct limits_data *d)
{
	if (d->seen)
		free(d->seen->p);
	free(d->seen);
	free(d->segment);
	free(d->sample);
	*d = (struct limits_data){ 0 };
}

static bool is_empty(XXH128_hash_t h) { return !h.low64 && !h.high64; }

/* True when the hash was not there. */
static bool seen_put(XXH128_hash_t *p, size_t size, XXH128_hash_t h)
{
	size_t at = (size_t)h.low64 & (size - 1);

	while (!is_empty(p[at])) {
		if (XXH128_isEqual(p[at], h))
			return false;
		at = (at + 1) & (size - 1);
	}
	p[at] = h;
	return true;
}

static int seen_grow(struct limits_seen *s, struct err *e)
{
	size_t size = s->size ? s->size * 2 : SEEN_FIRST;
	XXH128_hash_t *p = calloc(size, sizeof(*p));

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory to count %zu chunks", s->n);
	for (size_t i = 0; i < s->size; i++)
		if (!is_empty(s->p[i]))
			(void)seen_put(p, size, s->p[i]);
	free(s->p);
	s->p = p;
	s->size = size;
	return 0;
}

/* 1: new, 0: met before, negative on error. */
static int seen_add(struct limits_seen *s, const uint8_t *chunk, struct err *e)
{
	XXH128_hash_t h = XXH3_128bits(chunk, CHUNK);

	if (s->n * 2 >= s->size && s->size < SEEN_LAST && seen_grow(s, e) < 0)
		return e->code;
	if (s->n * 2 >= s->size)
		return 1;	/* full: count the rest as new */
	if (!seen_put(s->p, s->size, h))
		return 0;
	s->n++;
	return 1;
}

/* Every stride-th segment is kept; when there is no room, every other one goes and the stride doubles. */
static void keep_segment(struct limits_data *d)
{
	size_t n = d->len / SEGMENT;

	if (d->segments++ % d->stride)
		return;
	if (d->len + SEGMENT > d->max) {
		for (size_t i = 2; i < n; i += 2)
			memcpy(d->sample + i / 2 * SEGMENT, d->sample + i * SEGMENT, SEGMENT);
		d->len = (n + 1) / 2 * SEGMENT;
		d->stride *= 2;
		if ((d->segments - 1) % d->stride)
			return;
	}
	memcpy(d->sample + d->len, d->segment, SEGMENT);
	d->len += SEGMENT;
}

static int add_chunk(struct limits_data *d, const uint8_t *chunk, struct err *e)
{
	int r;

	d->read += CHUNK;
	if (bytes_all_zero(chunk, CHUNK))
		return 0;
	d->hashed += CHUNK;
	r = seen_add(d->seen, chunk, e);
	if (r <= 0)
		return r;
	d->fresh += CHUNK;
	memcpy(d->segment + d->fill, chunk, CHUNK);
	d->fill += CHUNK;
	if (d->fill == SEGMENT) {
		keep_segment(d);
		d->fill = 0;
	}
	return 0;
}

static int init(struct limits_data *d, struct err *e)
{
	d->max -= d->max % SEGMENT;
	d->stride = 1;
	d->seen = calloc(1, sizeof(*d->seen));
	d->segment = malloc(SEGMENT);
	d->sample = malloc(d->max);
	if (!d->seen || !d->segment || !d->sample)
		return err_set(e, ERR_NOMEM, "no memory for a sample of %zu bytes", d->max);
	return 0;
}

/* The chunks from at on until the hole after it; *at moves to where the next data begins, or to the size. */
static int add_run(struct limits_data *d, int fd, uint64_t *at, uint64_t size, uint8_t *buf, struct cancel *cancel,
		   struct err *e)
{
	off_t data = lseek(fd, (off_t)*at, SEEK_DATA), hole;
	uint64_t from, to;

	if (data < 0) {		/* ENXIO: nothing but a hole to the end */
		*at = size;
		return 0;
	}
	hole = lseek(fd, data, SEEK_HOLE);
	from = max_u64(*at, (uint64_t)data / CHUNK * CHUNK);
	to = hole < 0 ? size : (uint64_t)hole;
	for (; from < to && size - from >= CHUNK; from += CHUNK)
		if (fs_pread_full(fd, buf, CHUNK, from, e) < 0 || add_chunk(d, buf, e) < 0 ||
		    cancel_check(cancel, e) < 0)
			return e->code;
	*at = size - from < CHUNK ? size : from;
	return 0;
}

int limits_data_add(struct limits_data *d, const char *path, struct cancel *cancel, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	CLEANUP(free_ptr) uint8_t *buf = malloc(CHUNK);
	uint64_t at = 0;
	struct stat st;
	off_t size;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "%s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is neither a file nor a block device", path);
	size = lseek(fd, 0, SEEK_END);
	if (size < 0)
		return err_sys(e, "%s", path);
	if (!buf)
		return err_set(e, ERR_NOMEM, "no memory to read %s", path);
	if (!d->seen && init(d, e) < 0)
		return e->code;
	while (at < (uint64_t)size)
		if (add_run(d, fd, &at, (uint64_t)size, buf, cancel, e) < 0)
			return err_ctx(e, "%s", path);
	return 0;
}
