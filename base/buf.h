/*
 * buf.h - a growable byte buffer that knows its maximum.
 *
 * buf_init gives the maximum; growing past it is ERR_NOMEM, never truncation.  After a failure the content is as
 * before.  Appending amortises.  Threads: one buffer, one thread.  buf_done is safe on a zeroed struct.
 */
#ifndef KEDGE_BASE_BUF_H
#define KEDGE_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct buf {
	uint8_t *p;	/* content; NULL while cap is 0 */
	size_t len;	/* bytes in use */
	size_t cap;	/* bytes allocated */
	size_t max;	/* cap never exceeds this */
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);	/* frees; b is as after buf_init */
static inline void buf_clear(struct buf *b) { b->len = 0; }
/* Makes room for len more bytes and returns where they go, without counting them; NULL with *e set. */
MUST_CHECK uint8_t *buf_room(struct buf *b, size_t len, struct err *e);
/* Makes room for len more bytes, counts them, and returns where they go (content undefined); NULL with *e set. */
MUST_CHECK uint8_t *buf_extend(struct buf *b, size_t len, struct err *e);
MUST_CHECK int buf_add(struct buf *b, const void *p, size_t len, struct err *e);
MUST_CHECK int buf_add_zero(struct buf *b, size_t len, struct err *e);
MUST_CHECK int buf_u8(struct buf *b, uint8_t v, struct err *e);
MUST_CHECK int buf_le16(struct buf *b, uint16_t v, struct err *e);
MUST_CHECK int buf_le32(struct buf *b, uint32_t v, struct err *e);
MUST_CHECK int buf_le64(struct buf *b, uint64_t v, struct err *e);
/* Hands the bytes over (free() them); b is empty after. */
uint8_t *buf_take(struct buf *b, size_t *ret_len);

#endif
