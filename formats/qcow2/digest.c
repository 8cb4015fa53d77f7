/*
 * digest.c - what identifies a state without reading its data.
 *
 * state digest = BLAKE2b-256 over, integers as u64 LE, texts as length and bytes:
 *	"kedge qcow2 state 1"
 *	header: version, cluster bits, incompatible features without dirty and corrupt, raw-data bit, compression type
 *	backing reference, backing format, data file name ("" = none)
 *	of an encrypted image that was opened: the check value of its key (another password can give other content)
 *	data file, if open: device, inode, size, mtime, ctime
 *	the state: disk size, machine state bytes and guest offset, L1 entries
 *	    of a snapshot also: id, name, date in seconds and nanoseconds, guest clock
 *	for each L1 entry that names a table, in order: index, entry, then of the L2 table each block of 4096 bytes (or
 *	    of a cluster, if that is smaller) that isn't all zero: its place in the table, its bytes; then 2^64 - 1
 * In L1 entries, and in standard and extended L2 entries, bit 63 is left out: it says whether a cluster is shared with
 * other snapshots, and so changes when those come and go.  (In an image with a data file it says whether cluster 0 is
 * allocated, and is kept.)  Where tables of the current state or of other snapshots lie is left out too.
 *
 * metadata digest = BLAKE2b-256 over "kedge qcow2 metadata 1", the current state's digest, the number of snapshots, and
 * for each: L1 offset, L1 entries, disk size, machine state bytes, date, guest clock, id, name.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/digest.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"
#include "formats/table.h"

#define BLOCK_BYTES ((uint64_t)4096)

/* A digest while tables are gone through. */
struct state_digest {
	struct digest d;
	struct qcow2 *q;
	uint8_t *buf;		/* QCOW2_SLICE_BYTES */
};

/* Part of an L2 table at file offset at, len bytes in d->buf: a whole number of blocks. */
static void add_blocks(struct state_digest *d, uint64_t table, uint64_t at, size_t len)
{
	size_t block = (size_t)min_u64(d->q->cluster_size, BLOCK_BYTES);

	for (size_t i = 0; i < len; i += block) {
		if (bytes_all_zero(d->buf + i, block))
			continue;
		for (size_t k = 0; !d->q->data_file && k < block; k += d->q->l2_entry_bytes)
			d->buf[i + k] &= 0x7f;
		digest_u64(&d->d, at + i - table);
		digest_bytes(&d->d, d->buf + i, block);
	}
}

/* Zeros are left out, so that a table may lie in a hole of the file and cost what it weighs. */
static int add_l2(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	struct state_digest *d = opaque;
	const struct qcow2 *q = d->q;
	uint64_t host = v & QCOW2_OFFSET_MASK, end = host + q->cluster_size, at = host, data;
	uint64_t block = min_u64(q->cluster_size, BLOCK_BYTES);
	size_t len;

	if (!host)
		return 0;
	digest_u64(&d->d, index);
	digest_u64(&d->d, host);
	while (at < end) {
		if (file_skip_hole(&q->im.file, at, end, &data, e) < 0)
			return e->code;
		if (data == end)
			break;
		at = round_down(data, block);
		len = (size_t)min_u64(end - at, QCOW2_SLICE_BYTES);
		if (file_pread_full(&q->im.file, d->buf, len, at, e) < 0)
			return err_ctx(e, "L2 table at %" PRIu64, host);
		add_blocks(d, host, at, len);
		at += len;
	}
	digest_u64(&d->d, UINT64_MAX);
	return 0;
}

static void add_header(struct digest *d, const struct qcow2 *q)
{
	digest_u64(d, q->h.version);
	digest_u64(d, q->h.cluster_bits);
	digest_u64(d, q->h.incompat & ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT));
	digest_u64(d, q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA);
	digest_u64(d, q->h.compression_type);
	digest_text(d, q->im.info.backing);
	digest_text(d, q->im.info.backing_format);
	digest_text(d, q->im.info.data_file);
	if (q->crypt) {
		uint8_t check[32];

		imgcrypt_check_value(q->crypt, check);
		digest_bytes(d, check, sizeof(check));
	}
	digest_parts(d, &q->im);
}

static void add_snapshot(struct digest *d, const struct qcow2 *q, uint32_t state)
{
	const struct image_state *is = &q->im.states[state];

	digest_text(d, is->id);
	digest_text(d, is->name);
	digest_u64(d, q->st[state].date_sec);
	digest_u64(d, q->st[state].date_nsec);
	digest_u64(d, is->vm_clock_ns);
}

int qcow2_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)im;
	const struct qcow2_state *st = &q->st[state];
	CLEANUP(free_ptr) uint8_t *buf = malloc(QCOW2_SLICE_BYTES);
	struct state_digest d = { .q = q, .buf = buf };

	if (!buf)
		return err_set(e, ERR_NOMEM, "digest of a state");
	digest_begin(&d.d, "kedge qcow2 state 1");
	add_header(&d.d, q);
	digest_u64(&d.d, im->states[state].size);
	digest_u64(&d.d, im->states[state].vm_state_bytes);
	digest_u64(&d.d, st->vm_base);
	digest_u64(&d.d, st->l1_size);
	if (state)
		add_snapshot(&d.d, q, state);
	if (table_scan(&im->file, st->l1_offset, st->l1_size, add_l2, &d, e) < 0)
		return e->code;
	digest_end(&d.d, digest);
	return 0;
}

int qcow2_metadata_digest(struct qcow2 *q, uint8_t digest[32], struct err *e)
{
	uint8_t current[32];
	struct digest d;

	if (qcow2_state_digest(&q->im, IMAGE_STATE_CURRENT, current, e) < 0)
		return e->code;
	digest_begin(&d, "kedge qcow2 metadata 1");
	digest_bytes(&d, current, sizeof(current));
	digest_u64(&d, q->im.info.nstates - 1);
	for (uint32_t i = 1; i < q->im.info.nstates; i++) {
		digest_u64(&d, q->st[i].l1_offset);
		digest_u64(&d, q->st[i].l1_size);
		digest_u64(&d, q->im.states[i].size);
		digest_u64(&d, q->im.states[i].vm_state_bytes);
		add_snapshot(&d, q, i);
	}
	digest_end(&d, digest);
	return 0;
}
