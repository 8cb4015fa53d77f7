/*
 * digest.c - what identifies a state without reading its data.
 *
 * state digest = BLAKE2b-256 over, integers as u64 LE, texts as length and bytes:
 *	"kedge qcow2 state 1"
 *	header: version, cluster bits, incompatible features without dirty and corrupt, raw-data bit, compression type
 *	backing reference, backing format, data file name ("" = none)
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
#include <sodium.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"

#define BLOCK_BYTES ((uint64_t)4096)

struct digest {
	crypto_generichash_state h;
	struct qcow2 *q;
	uint8_t *buf;		/* QCOW2_SLICE_BYTES */
};

/* libsodium's hash functions fail only for lengths out of range. */
static void add(struct digest *d, const void *p, size_t len)
{
	(void)crypto_generichash_update(&d->h, p, len);
}

static void add_u(struct digest *d, uint64_t v)
{
	uint8_t b[8];

	put_le64(b, v);
	add(d, b, sizeof(b));
}

static void add_text(struct digest *d, const char *s)
{
	size_t n = s ? strlen(s) : 0;

	add_u(d, n);
	add(d, s ? s : "", n);
}

static void begin(struct digest *d, struct qcow2 *q, const char *what)
{
	d->q = q;
	(void)crypto_generichash_init(&d->h, NULL, 0, 32);
	add_text(d, what);
}

static void end(struct digest *d, uint8_t digest[32])
{
	(void)crypto_generichash_final(&d->h, digest, 32);
}

/* Part of an L2 table at file offset at, len bytes in d->buf: a whole number of blocks. */
static void add_blocks(struct digest *d, uint64_t table, uint64_t at, size_t len)
{
	size_t block = (size_t)min_u64(d->q->cluster_size, BLOCK_BYTES);

	for (size_t i = 0; i < len; i += block) {
		if (bytes_all_zero(d->buf + i, block))
			continue;
		for (size_t k = 0; !d->q->data_file && k < block; k += d->q->l2_entry_bytes)
			d->buf[i + k] &= 0x7f;
		add_u(d, at + i - table);
		add(d, d->buf + i, block);
	}
}

/* Zeros are left out, so that a table may lie in a hole of the file and cost what it weighs. */
static int add_l2(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	struct digest *d = opaque;
	const struct qcow2 *q = d->q;
	uint64_t host = v & QCOW2_OFFSET_MASK, end = host + q->cluster_size, at = host, stop;
	uint64_t block = min_u64(q->cluster_size, BLOCK_BYTES);
	bool data;
	size_t len;

	if (!host)
		return 0;
	add_u(d, index);
	add_u(d, host);
	while (at < end) {
		if (file_next_data(q->im.fd, at, end, &data, &stop, e) < 0)
			return e->code;
		if (!data && (stop == end || round_down(stop, block) > at)) {
			at = stop == end ? end : round_down(stop, block);
			continue;
		}
		len = (size_t)min_u64(end - at, QCOW2_SLICE_BYTES);
		if (fs_pread_full(q->im.fd, d->buf, len, at, e) < 0)
			return err_ctx(e, "L2 table at %" PRIu64, host);
		add_blocks(d, host, at, len);
		at += len;
	}
	add_u(d, UINT64_MAX);
	return 0;
}

static void add_header(struct digest *d)
{
	const struct qcow2 *q = d->q;
	const struct image_identity *id = &q->im.data_identity;

	add_u(d, q->h.version);
	add_u(d, q->h.cluster_bits);
	add_u(d, q->h.incompat & ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT));
	add_u(d, q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA);
	add_u(d, q->h.compression_type);
	add_text(d, q->im.info.backing);
	add_text(d, q->im.info.backing_format);
	add_text(d, q->im.info.data_file);
	if (q->im.data_fd < 0)
		return;
	add_u(d, id->dev);
	add_u(d, id->ino);
	add_u(d, id->size);
	add_u(d, (uint64_t)id->mtime_ns);
	add_u(d, (uint64_t)id->ctime_ns);
}

static void add_snapshot(struct digest *d, uint32_t state)
{
	const struct image_state *is = &d->q->im.states[state];

	add_text(d, is->id);
	add_text(d, is->name);
	add_u(d, d->q->st[state].date_sec);
	add_u(d, d->q->st[state].date_nsec);
	add_u(d, is->vm_clock_ns);
}

int qcow2_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)im;
	const struct qcow2_state *st = &q->st[state];
	CLEANUP(free_ptr) uint8_t *buf = malloc(QCOW2_SLICE_BYTES);
	struct digest d = { .buf = buf };

	if (!buf)
		return err_set(e, ERR_NOMEM, "digest of a state");
	begin(&d, q, "kedge qcow2 state 1");
	add_header(&d);
	add_u(&d, im->states[state].size);
	add_u(&d, im->states[state].vm_state_bytes);
	add_u(&d, st->vm_base);
	add_u(&d, st->l1_size);
	if (state)
		add_snapshot(&d, state);
	if (qcow2_scan_table(im->fd, st->l1_offset, st->l1_size, add_l2, &d, e) < 0)
		return e->code;
	end(&d, digest);
	return 0;
}

int qcow2_metadata_digest(struct qcow2 *q, uint8_t digest[32], struct err *e)
{
	uint8_t current[32];
	struct digest d;

	if (qcow2_state_digest(&q->im, IMAGE_STATE_CURRENT, current, e) < 0)
		return e->code;
	begin(&d, q, "kedge qcow2 metadata 1");
	add(&d, current, sizeof(current));
	add_u(&d, q->im.info.nstates - 1);
	for (uint32_t i = 1; i < q->im.info.nstates; i++) {
		add_u(&d, q->st[i].l1_offset);
		add_u(&d, q->st[i].l1_size);
		add_u(&d, q->im.states[i].size);
		add_u(&d, q->im.states[i].vm_state_bytes);
		add_snapshot(&d, i);
	}
	end(&d, digest);
	return 0;
}
