/*
 * num.h - arithmetic that cannot wrap, and numbers as people write them.
 *
 * The checked operations return true and set *ret, or return false and leave it.  Pure functions; any thread.
 */
#ifndef KEDGE_BASE_NUM_H
#define KEDGE_BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

static inline bool add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t v;
	if (__builtin_add_overflow(a, b, &v))
		return false;
	*ret = v;
	return true;
}
static inline bool mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t v;
	if (__builtin_mul_overflow(a, b, &v))
		return false;
	*ret = v;
	return true;
}
static inline bool mul_size(size_t a, size_t b, size_t *ret)
{
	size_t v;
	if (__builtin_mul_overflow(a, b, &v))
		return false;
	*ret = v;
	return true;
}
static inline bool u64_to_size(uint64_t a, size_t *ret)
{
	if (a > SIZE_MAX)
		return false;
	*ret = (size_t)a;
	return true;
}
/* True when [off, off+len) lies inside [0, size). */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t size) { return off <= size && len <= size - off; }
static inline bool is_pow2(uint64_t v) { return v && !(v & (v - 1)); }
static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline uint64_t round_down(uint64_t v, uint64_t pow2) { return v & ~(pow2 - 1); }
/* Saturates at the largest multiple instead of wrapping. */
static inline uint64_t round_up(uint64_t v, uint64_t pow2)
{
	uint64_t r;
	return add_u64(v, pow2 - 1, &r) ? round_down(r, pow2) : round_down(UINT64_MAX, pow2);
}
static inline uint64_t div_up(uint64_t v, uint64_t d) { return v / d + (v % d != 0); }

/* Parses "10", "64K", "1.5G", "2MiB", "1MB": binary units for K, KiB, M, ..., P; all of text must match.  False: not a
 * size. */
bool parse_size(const char *text, uint64_t *ret);
/* Parses a decimal integer in [min, max]; all of text must match. */
bool parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
/* "1.5 GiB", "17 B": at most 15 characters.  Writes to buf, returns buf. */
#define HUMAN_BYTES_MAX 24
const char *human_bytes(uint64_t v, char buf[static HUMAN_BYTES_MAX]);

#endif
