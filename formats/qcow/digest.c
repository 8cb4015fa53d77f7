/*
 * digest.c - what identifies a qcow image's state without reading its data.
 *
 * state digest, in the terms of formats/digest.h:
 *	"kedge qcow state 1"
 *	header: disk size, cluster bits, L2 bits, encryption
 *	backing reference ("" = none)
 *	of an encrypted image that was opened: the check value of its key (another password gives other content)
 *	for each L1 entry that names a table, in order: index, entry, then of the L2 table each block of 512 bytes that isn't
 *	    all zero: its place in the table, its bytes; then 2^64 - 1
 * An image has one state: the metadata digest is the state's.
 */
#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/digest.h"
#include "formats/file.h"
#include "formats/qcow/qcow_internal.h"
#include "formats/table.h"

#define BLOCK_BYTES 512u	/* the least L2 table is one */

struct state_digest {
	struct digest d;
	struct qcow *q;
	uint8_t *buf;		/* of an L2 table */
};

static int add_l2(void *opaque, uint64_t index, uint64_t table, struct err *e)
{
	struct state_digest *s = opaque;
	uint32_t len = s->q->h.l2_bytes;
	uint64_t data;

	digest_u64(&s->d, index);
	digest_u64(&s->d, table);
	if (!range_ok(table, len, s->q->im.file.size))
		return err_set(e, ERR_CHANGED, "L1 table: the image was changed while it was read");
	if (file_skip_hole(&s->q->im.file, table, table + len, &data, e) < 0)
		return e->code;
	if (data < table + len) {
		if (file_pread_full(&s->q->im.file, s->buf, len, table, e) < 0)
			return err_ctx(e, "L2 table");
		for (uint32_t i = 0; i < len; i += BLOCK_BYTES) {
			if (bytes_all_zero(s->buf + i, BLOCK_BYTES))
				continue;
			digest_u64(&s->d, i);
			digest_bytes(&s->d, s->buf + i, BLOCK_BYTES);
		}
	}
	digest_u64(&s->d, UINT64_MAX);
	return 0;
}

int qcow_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct qcow *q = (struct qcow *)im;
	CLEANUP(free_ptr) uint8_t *buf = malloc(q->h.l2_bytes);
	struct state_digest s = { .q = q, .buf = buf };

	(void)state;
	if (!buf)
		return err_set(e, ERR_NOMEM, "digest of a state");
	digest_begin(&s.d, "kedge qcow state 1");
	digest_u64(&s.d, q->h.size);
	digest_u64(&s.d, q->h.cluster_bits);
	digest_u64(&s.d, q->h.l2_bits);
	digest_u64(&s.d, q->h.crypt_method);
	digest_text(&s.d, q->backing);
	if (q->crypt) {
		uint8_t check[32];

		imgcrypt_check_value(q->crypt, check);
		digest_bytes(&s.d, check, sizeof(check));
	}
	if (table_scan(&im->file, q->h.l1_offset, q->h.l1_entries, add_l2, &s, e) < 0)
		return e->code;
	digest_end(&s.d, digest);
	return 0;
}
