/*
 * digest.c - what identifies a VDI's state without reading its data.
 *
 * state digest, in the terms of formats/digest.h:
 *	"kedge vdi state 1"
 *	header: version, type, map offset, data offset, disk size, block size, extra bytes, blocks
 *	the four UUIDs: image, modification, parent, parent's modification
 *	the block map: its bytes
 * An image has one state: the metadata digest is the state's.
 */
#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/digest.h"
#include "formats/vdi/vdi_internal.h"

#define PIECE_BYTES ((size_t)64 * 1024)

int vdi_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	const struct vdi_header *h = &((struct vdi *)im)->h;
	CLEANUP(free_ptr) uint8_t *buf = malloc(PIECE_BYTES);
	uint64_t at = h->map_offset, end = at + (uint64_t)h->blocks * 4;
	struct digest d;

	(void)state;
	if (!buf)
		return err_set(e, ERR_NOMEM, "digest of a state");
	digest_begin(&d, "kedge vdi state 1");
	digest_u64(&d, h->version);
	digest_u64(&d, h->type);
	digest_u64(&d, h->map_offset);
	digest_u64(&d, h->data_offset);
	digest_u64(&d, h->size);
	digest_u64(&d, h->block_size);
	digest_u64(&d, h->extra);
	digest_u64(&d, h->blocks);
	digest_bytes(&d, h->uuid, 16);
	digest_bytes(&d, h->modify, 16);
	digest_bytes(&d, h->parent, 16);
	digest_bytes(&d, h->parent_modify, 16);
	for (size_t n; at < end; at += n) {
		n = (size_t)min_u64(PIECE_BYTES, end - at);
		if (file_pread_full(&im->file, buf, n, at, e) < 0)
			return err_ctx(e, "block map");
		digest_bytes(&d, buf, n);
	}
	digest_end(&d, digest);
	return 0;
}
