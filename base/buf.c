/* buf.c - a growable byte buffer with a maximum. */
#include "base/buf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"

#define BUF_FIRST_BYTES 64

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_done(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ .max = b->max };
}

uint8_t *buf_room(struct buf *b, size_t len, struct err *e)
{
	size_t need, cap;
	uint8_t *p;

	if (len > b->max - b->len) {
		(void)err_set(e, ERR_NOMEM, "buffer of at most %zu bytes is full (%zu in use, %zu more wanted)", b->max,
			      b->len, len);
		return NULL;
	}
	need = b->len + len;
	if (need <= b->cap && b->p)
		return b->p + b->len;
	cap = b->cap < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : b->cap;
	while (cap < need && cap <= b->max / 2)
		cap *= 2;
	cap = cap < need ? b->max : min_size(cap, b->max);
	p = realloc(b->p, cap ? cap : 1);
	if (!p) {
		(void)err_set(e, ERR_NOMEM, "no memory for a buffer of %zu bytes", cap);
		return NULL;
	}
	b->p = p;
	b->cap = cap;
	return p + b->len;
}

uint8_t *buf_extend(struct buf *b, size_t len, struct err *e)
{
	uint8_t *p = buf_room(b, len, e);

	if (p)
		b->len += len;
	return p;
}

int buf_add(struct buf *b, const void *src, size_t len, struct err *e)
{
	uint8_t *p = buf_extend(b, len, e);

	if (!p)
		return e->code;
	if (len)
		memcpy(p, src, len);
	return 0;
}

int buf_add_zero(struct buf *b, size_t len, struct err *e)
{
	uint8_t *p = buf_extend(b, len, e);

	if (!p)
		return e->code;
	memset(p, 0, len);
	return 0;
}

int buf_u8(struct buf *b, uint8_t v, struct err *e)
{
	return buf_add(b, &v, 1, e);
}

int buf_le16(struct buf *b, uint16_t v, struct err *e)
{
	uint8_t bytes[2];

	put_le16(bytes, v);
	return buf_add(b, bytes, sizeof(bytes), e);
}

int buf_le32(struct buf *b, uint32_t v, struct err *e)
{
	uint8_t bytes[4];

	put_le32(bytes, v);
	return buf_add(b, bytes, sizeof(bytes), e);
}

int buf_le64(struct buf *b, uint64_t v, struct err *e)
{
	uint8_t bytes[8];

	put_le64(bytes, v);
	return buf_add(b, bytes, sizeof(bytes), e);
}

uint8_t *buf_take(struct buf *b, size_t *ret_len)
{
	uint8_t *p = STEAL(b->p);

	*ret_len = b->len;
	*b = (struct buf){ .max = b->max };
	return p;
}
