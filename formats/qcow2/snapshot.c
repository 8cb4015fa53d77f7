/*
 * snapshot.c - the snapshot table, which gives the image its states.
 *
 * Entries are 8-byte aligned, big-endian: L1 offset u64, L1 entries u32, id length u16, name length u16, seconds u32,
 * nanoseconds u32, guest clock ns u64, machine state bytes u32, extra length u32; then extra data (machine state bytes
 * u64, disk size u64, ...), id, name.  No terminators.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"

#define ENTRY_BYTES 40
#define ENTRY_TAIL_MAX (QCOW2_SNAPSHOT_EXTRA_MAX + 2 * 65535)

struct entry {
	uint64_t l1_offset;
	uint32_t l1_size;
	uint16_t id_len, name_len;
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_ns;
	uint32_t vm_state_bytes;
	uint32_t extra_len;
	uint64_t vm_state_large;	/* from the extra data; else as vm_state_bytes */
	uint64_t disk_size;		/* likewise; else the image's present size */
};

static int read_fixed(const struct qcow2 *q, uint64_t at, struct entry *ret, struct err *e)
{
	uint8_t buf[ENTRY_BYTES] = { 0 };
	struct rd r = rd_of(buf, sizeof(buf));
	struct entry n = { 0 };

	if (!range_ok(at, sizeof(buf), q->im.file.size))
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: file of %" PRIu64 " bytes ends inside the entry at %" PRIu64,
			       q->im.file.size, at);
	if (file_pread_full(&q->im.file, buf, sizeof(buf), at, e) < 0)
		return e->code;
	if (!rd_be64(&r, &n.l1_offset) || !rd_be32(&r, &n.l1_size) || !rd_be16(&r, &n.id_len) ||
	    !rd_be16(&r, &n.name_len) || !rd_be32(&r, &n.date_sec) || !rd_be32(&r, &n.date_nsec) ||
	    !rd_be64(&r, &n.vm_clock_ns) || !rd_be32(&r, &n.vm_state_bytes) || !rd_be32(&r, &n.extra_len))
		return err_set(e, ERR_INTERNAL, "snapshot entry");
	if (n.extra_len > QCOW2_SNAPSHOT_EXTRA_MAX)
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: entry at %" PRIu64 " has %" PRIu32 " bytes of extra data, 1024 is "
			       "the limit",
			       at, n.extra_len);
	if (q->h.version == 3 && n.extra_len < 16)
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: entry at %" PRIu64 " has %" PRIu32 " bytes of extra data, version 3 "
			       "needs 16",
			       at, n.extra_len);
	if (n.date_nsec >= 1000000000)
		return err_set(e, ERR_CORRUPT, "snapshot table: entry at %" PRIu64 " has %" PRIu32 " nanoseconds", at,
			       n.date_nsec);
	*ret = n;
	return 0;
}

/* The guest bytes that the snapshot's L1 table can map. */
static uint64_t l1_reach(const struct qcow2 *q, const struct entry *n)
{
	return (uint64_t)n->l1_size << q->l1_shift;	/* <= 2^22 << 39 */
}

static int check_entry(const struct qcow2 *q, const struct entry *n, bool own_size, uint64_t at, struct err *e)
{
	uint64_t vm_end;

	if ((uint64_t)n->l1_size * 8 > QCOW2_L1_MAX_BYTES)
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: entry at %" PRIu64 ": L1 table of %" PRIu32 " entries, 32 MiB is the "
			       "limit",
			       at, n->l1_size);
	if (n->l1_offset & (q->cluster_size - 1))
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: entry at %" PRIu64 ": L1 table at %" PRIu64 " is not aligned", at,
			       n->l1_offset);
	if (!range_ok(n->l1_offset, (uint64_t)n->l1_size * 8, q->im.file.size))
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: entry at %" PRIu64 ": L1 table of %" PRIu32 " entries at %" PRIu64
			       " is outside the file of %" PRIu64 " bytes",
			       at, n->l1_size, n->l1_offset, q->im.file.size);
	if (own_size && n->disk_size > l1_reach(q, n))
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: entry at %" PRIu64 ": L1 table of %" PRIu32 " entries is too small for "
			       "a disk of %" PRIu64 " bytes",
			       at, n->l1_size, n->disk_size);
	if (own_size && n->vm_state_large &&
	    (!add_u64(round_up(n->disk_size, (uint64_t)1 << q->l1_shift), n->vm_state_large, &vm_end) ||
	     vm_end > l1_reach(q, n)))
		return err_set(e, ERR_CORRUPT,
			       "snapshot table: entry at %" PRIu64 ": L1 table of %" PRIu32 " entries is too small for "
			       "%" PRIu64 " bytes of machine state",
			       at, n->l1_size, n->vm_state_large);
	return 0;
}

/* tail holds extra data, id and name. */
static int take_entry(struct qcow2 *q, uint32_t i, struct entry *n, uint64_t at, struct rd tail, struct err *e)
{
	struct image_state *is = &q->im.states[i];
	struct qcow2_state *st = &q->st[i];
	bool own_size = n->extra_len >= 16;
	struct rd extra, id, name;

	if (!rd_window(&tail, n->extra_len, &extra) || !rd_window(&tail, n->id_len, &id) ||
	    !rd_window(&tail, n->name_len, &name))
		return err_set(e, ERR_INTERNAL, "snapshot entry");
	if (!rd_be64(&extra, &n->vm_state_large))
		n->vm_state_large = n->vm_state_bytes;
	if (!rd_be64(&extra, &n->disk_size))
		n->disk_size = q->h.size;
	if (check_entry(q, n, own_size, at, e) < 0 ||
	    qcow2_meta_add_region(&q->meta, n->l1_offset, (uint64_t)n->l1_size * 8, q->cluster_size,
				  "L1 table of snapshot", i, e) < 0)
		return e->code;
	*st = (struct qcow2_state){
		.l1_offset = n->l1_offset, .l1_size = n->l1_size, .own_size = own_size,
		.vm_base = round_up(n->disk_size, (uint64_t)1 << q->l1_shift),
		.date_sec = n->date_sec, .date_nsec = n->date_nsec,
	};
	is->size = n->disk_size;
	is->date_ns = (int64_t)n->date_sec * 1000000000 + n->date_nsec;
	is->vm_clock_ns = n->vm_clock_ns;
	is->vm_state_bytes = n->vm_state_large;
	/* An old entry without a size may be of a disk that was resized since: then its machine state isn't where we
	 * look. */
	if (!own_size && (st->vm_base > l1_reach(q, n) || is->vm_state_bytes > l1_reach(q, n) - st->vm_base))
		is->vm_state_bytes = 0;
	is->id = qcow2_name_add(q, id.p, id.left, "a snapshot's id", e);
	is->name = is->id ? qcow2_name_add(q, name.p, name.left, "a snapshot's name", e) : NULL;
	return is->name ? 0 : err_ctx(e, "snapshot table: entry at %" PRIu64, at);
}

static int read_table(struct qcow2 *q, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *tail = malloc(ENTRY_TAIL_MAX);
	uint64_t start = q->h.snapshots_offset, at = start;

	if (!tail)
		return err_set(e, ERR_NOMEM, "snapshot entry");
	for (uint32_t i = 1; i <= q->h.nb_snapshots; i++) {
		struct entry n = { 0 };
		size_t len;

		if (read_fixed(q, at, &n, e) < 0)
			return e->code;
		len = (size_t)n.extra_len + n.id_len + n.name_len;
		if (!range_ok(at + ENTRY_BYTES, len, q->im.file.size))
			return err_set(e, ERR_CORRUPT,
				       "snapshot table: file of %" PRIu64 " bytes ends inside the entry at %" PRIu64,
				       q->im.file.size, at);
		if (file_pread_full(&q->im.file, tail, len, at + ENTRY_BYTES, e) < 0 ||
		    take_entry(q, i, &n, at, rd_of(tail, len), e) < 0)
			return e->code;
		at += round_up(ENTRY_BYTES + len, 8);
		if (at - start > QCOW2_SNAPSHOT_TABLE_MAX_BYTES)
			return err_set(e, ERR_CORRUPT, "snapshot table at %" PRIu64 " is longer than 64 MiB", start);
	}
	/* The padding after the last entry may be missing at the file's end. */
	return qcow2_meta_add_region(&q->meta, start, min_u64(at, q->im.file.size) - start, q->cluster_size,
				     "snapshot table", QCOW2_NO_INDEX, e);
}

int qcow2_snapshots_read(struct qcow2 *q, struct err *e)
{
	uint32_t n = q->h.nb_snapshots + 1;

	/* Each entry has at least 40 bytes in the file. */
	if (q->h.nb_snapshots &&
	    (uint64_t)q->h.nb_snapshots * ENTRY_BYTES > q->im.file.size - q->h.snapshots_offset)
		return err_set(e, ERR_CORRUPT,
			       "snapshot table at %" PRIu64 ": %" PRIu32
			       " snapshots don't fit into the file of %" PRIu64 " bytes",
			       q->h.snapshots_offset, q->h.nb_snapshots, q->im.file.size);
	q->im.states = calloc(n, sizeof(*q->im.states));
	q->st = calloc(n, sizeof(*q->st));
	if (!q->im.states || !q->st)
		return err_set(e, ERR_NOMEM, "%" PRIu32 " snapshots", n - 1);
	q->im.info.nstates = n;
	q->im.states[0] = (struct image_state){ .name = "current", .id = "", .size = q->h.size };
	q->st[0] = (struct qcow2_state){ .l1_offset = q->h.l1_offset, .l1_size = q->h.l1_size, .own_size = true };
	return n > 1 ? read_table(q, e) : 0;
}
