/*
 * bytes.h - integers in byte arrays, and the bounded cursor by which everything untrusted is parsed.
 *
 * get_/put_ work on pointers that the caller has checked.  struct rd takes or fails: a getter that returns false has
 * neither moved the cursor nor touched its output.  A window is a sub-cursor that cannot read past its own end.
 * struct rd borrows the bytes: they must outlive it.  No function here allocates or logs.
 */
#ifndef KEDGE_BASE_BYTES_H
#define KEDGE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t get_be16(const uint8_t *p) { return (uint16_t)((unsigned)p[0] << 8 | p[1]); }
static inline uint32_t get_be32(const uint8_t *p) { return (uint32_t)get_be16(p) << 16 | get_be16(p + 2); }
static inline uint64_t get_be64(const uint8_t *p) { return (uint64_t)get_be32(p) << 32 | get_be32(p + 4); }
static inline uint16_t get_le16(const uint8_t *p) { return (uint16_t)(p[0] | (unsigned)p[1] << 8); }
static inline uint32_t get_le32(const uint8_t *p) { return get_le16(p) | (uint32_t)get_le16(p + 2) << 16; }
static inline uint64_t get_le64(const uint8_t *p) { return get_le32(p) | (uint64_t)get_le32(p + 4) << 32; }

static inline void put_be16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static inline void put_be32(uint8_t *p, uint32_t v) { put_be16(p, (uint16_t)(v >> 16)); put_be16(p + 2, (uint16_t)v); }
static inline void put_be64(uint8_t *p, uint64_t v) { put_be32(p, (uint32_t)(v >> 32)); put_be32(p + 4, (uint32_t)v); }
static inline void put_le16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v; p[1] = (uint8_t)(v >> 8); }
static inline void put_le32(uint8_t *p, uint32_t v) { put_le16(p, (uint16_t)v); put_le16(p + 2, (uint16_t)(v >> 16)); }
static inline void put_le64(uint8_t *p, uint64_t v) { put_le32(p, (uint32_t)v); put_le32(p + 4, (uint32_t)(v >> 32)); }

struct rd {
	const uint8_t *p;
	size_t left;
};

static inline struct rd rd_of(const void *p, size_t len) { return (struct rd){ .p = p, .left = len }; }

/* Takes len bytes: *ret points into the underlying bytes. */
static inline bool rd_take(struct rd *r, size_t len, const uint8_t **ret)
{
	if (len > r->left)
		return false;
	*ret = r->p;
	r->p += len;
	r->left -= len;
	return true;
}
static inline bool rd_skip(struct rd *r, size_t len)
{
	const uint8_t *p;
	return rd_take(r, len, &p);
}
static inline bool rd_copy(struct rd *r, void *buf, size_t len)
{
	const uint8_t *p;
	if (!rd_take(r, len, &p))
		return false;
	memcpy(buf, p, len);
	return true;
}
/* A cursor over the next len bytes, which r itself skips. */
static inline bool rd_window(struct rd *r, size_t len, struct rd *ret)
{
	const uint8_t *p;
	if (!rd_take(r, len, &p))
		return false;
	*ret = rd_of(p, len);
	return true;
}
static inline bool rd_u8(struct rd *r, uint8_t *ret) { return rd_copy(r, ret, 1); }

#define RD_DEFINE(name, type, width) \
	static inline bool rd_##name(struct rd *r, type *ret) \
	{ \
		const uint8_t *p; \
		if (!rd_take(r, width, &p)) \
			return false; \
		*ret = get_##name(p); \
		return true; \
	}
RD_DEFINE(be16, uint16_t, 2)
RD_DEFINE(be32, uint32_t, 4)
RD_DEFINE(be64, uint64_t, 8)
RD_DEFINE(le16, uint16_t, 2)
RD_DEFINE(le32, uint32_t, 4)
RD_DEFINE(le64, uint64_t, 8)
#undef RD_DEFINE

/* True when all len bytes are 0.  Fast: a 64 KiB chunk costs a few microseconds. */
bool bytes_all_zero(const void *p, size_t len);

#endif
