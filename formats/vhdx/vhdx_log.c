/*
 * vhdx_log.c - the log: which of its entries count, and what they write.
 *
 * The log is a ring of sectors of 4096 bytes.  An entry:
 *
 *	0 "loge"  4 u32 CRC  8 u32 length  12 u32 tail  16 u64 sequence  24 u32 descriptors  28 u32 0
 *	32 log GUID  48 u64 flushed file size  56 u64 last file size
 *	64 descriptors of 32 bytes, filled up to a sector:
 *		"zero"  4 u32 0         8 u64 length         16 u64 file offset  24 u64 sequence
 *		"desc"  4 u32 trailing  8 u64 leading bytes  16 u64 file offset  24 u64 sequence
 *	then a sector for each "desc": "data"  4 u32 sequence, high half  8 4084 bytes  4092 u32 sequence, low half
 *
 * Entries that follow each other with rising sequence numbers are a sequence.  Of those whose last entry's tail points
 * into them the one with the highest number is the active one; it is replayed from that tail on ([MS-VHDX], 2.3.2).
 *
 * Cost: the ring is read once.  An entry's further sectors begin with a descriptor or with "data", never with "loge",
 * so that no sector belongs to two candidates that both get that far; and an entry can't start where another one that
 * was good goes on.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "formats/file.h"
#include "formats/vhdx/vhdx_internal.h"

#define ENTRY_HEADER_BYTES 64
#define DESCRIPTOR_BYTES 32

struct entry {
	uint32_t pos, length, tail, descriptors;	/* places count from the log's start */
	uint64_t sequence, flushed, last;
};

struct log {
	struct vhdx *v;
	VEC(struct entry) entries;	/* the good ones, by place */
	uint8_t *sector;		/* VHDX_LOG_SECTOR bytes */
};

/* Sector number n of an entry that starts at pos, which may go round the ring's end. */
static uint64_t sector_at(const struct log *l, uint32_t pos, uint32_t n)
{
	return l->v->h.log_offset + ((uint64_t)pos + (uint64_t)n * VHDX_LOG_SECTOR) % l->v->h.log_length;
}

static int read_sector(struct log *l, uint32_t pos, uint32_t n, struct err *e)
{
	return file_pread_full(&l->v->im.file, l->sector, VHDX_LOG_SECTOR, sector_at(l, pos, n), e);
}

static uint32_t descriptor_sectors(uint32_t descriptors)
{
	return (uint32_t)div_up(ENTRY_HEADER_BYTES + (uint64_t)descriptors * DESCRIPTOR_BYTES, VHDX_LOG_SECTOR);
}

/* The header in l->sector, as far as it can be judged alone. */
static bool header_good(const struct log *l, uint32_t pos, struct entry *ret)
{
	const uint8_t *p = l->sector;
	uint32_t ring = l->v->h.log_length;
	struct entry x = { .pos = pos, .length = get_le32(p + 8), .tail = get_le32(p + 12),
			   .sequence = get_le64(p + 16), .descriptors = get_le32(p + 24),
			   .flushed = get_le64(p + 48), .last = get_le64(p + 56) };

	if (memcmp(p, "loge", 4) != 0 || memcmp(p + 32, l->v->h.log_guid, 16) != 0)
		return false;
	if (!x.length || x.length % VHDX_LOG_SECTOR || x.length > ring || x.tail % VHDX_LOG_SECTOR || x.tail >= ring ||
	    !x.sequence || descriptor_sectors(x.descriptors) > x.length / VHDX_LOG_SECTOR)
		return false;
	*ret = x;
	return true;
}

/* The descriptors in sector n of the entry, counted into *data. */
static bool descriptors_good(const struct log *l, const struct entry *x, uint32_t n, uint32_t *data)
{
	uint32_t per = VHDX_LOG_SECTOR / DESCRIPTOR_BYTES, skip = ENTRY_HEADER_BYTES / DESCRIPTOR_BYTES;
	uint64_t first = (uint64_t)n * per;	/* counted as if the header were descriptors too */

	for (uint64_t i = max_u64(first, skip); i < first + per && i < (uint64_t)x->descriptors + skip; i++) {
		const uint8_t *d = l->sector + (i - first) * DESCRIPTOR_BYTES;

		if ((memcmp(d, "zero", 4) != 0 && memcmp(d, "desc", 4) != 0) || get_le64(d + 24) != x->sequence)
			return false;
		*data += d[0] == 'd';
	}
	return true;
}

static bool data_good(const struct log *l, const struct entry *x)
{
	const uint8_t *p = l->sector;

	return memcmp(p, "data", 4) == 0 && get_le32(p + 4) == x->sequence >> 32 &&
	       get_le32(p + VHDX_LOG_SECTOR - 4) == (uint32_t)x->sequence;
}

/* Is there a whole entry at pos?  1 and *ret, or 0. */
static int entry_read(struct log *l, uint32_t pos, struct entry *ret, struct err *e)
{
	uint32_t data = 0, heads, sectors, stored, crc;
	struct entry x;

	if (read_sector(l, pos, 0, e) < 0)
		return e->code;
	if (!header_good(l, pos, &x) || !descriptors_good(l, &x, 0, &data))
		return 0;
	heads = descriptor_sectors(x.descriptors);
	sectors = x.length / VHDX_LOG_SECTOR;
	stored = get_le32(l->sector + 4);
	memset(l->sector + 4, 0, 4);
	crc = vhdx_crc(UINT32_MAX, l->sector, VHDX_LOG_SECTOR);
	for (uint32_t n = 1; n < sectors; n++) {
		if (n == heads && heads + data != sectors)
			return 0;
		if (read_sector(l, pos, n, e) < 0)
			return e->code;
		if (n < heads ? !descriptors_good(l, &x, n, &data) : !data_good(l, &x))
			return 0;
		crc = vhdx_crc(crc, l->sector, VHDX_LOG_SECTOR);
	}
	if (heads + data != sectors || ~crc != stored)
		return 0;
	*ret = x;
	return 1;
}

/* Finds all entries; sectors in holes of the file have none. */
static int find_entries(struct log *l, struct err *e)
{
	uint64_t start = l->v->h.log_offset, end = start + l->v->h.log_length, stop = start;
	struct entry x, *slot;
	bool data = true;
	int r;

	for (uint64_t at = start; at < end; at += VHDX_LOG_SECTOR) {
		if (at >= stop && file_next_data(&l->v->im.file, at, end, &data, &stop, e) < 0)
			return e->code;
		if (!data && stop >= at + VHDX_LOG_SECTOR) {
			at = round_down(stop, VHDX_LOG_SECTOR) - VHDX_LOG_SECTOR;
			continue;
		}
		r = entry_read(l, (uint32_t)(at - start), &x, e);
		if (r < 0)
			return err_ctx(e, "log at %" PRIu64, at);
		if (!r)
			continue;
		slot = VEC_PUSH(&l->entries, e);
		if (!slot)
			return e->code;
		*slot = x;
	}
	return 0;
}

/* Number of the entry at pos, or entries.n. */
static size_t find(const struct log *l, uint64_t pos)
{
	size_t lo = 0, hi = l->entries.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->entries.p[mid].pos < pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < l->entries.n && l->entries.p[lo].pos == pos ? lo : l->entries.n;
}

/* The entry that continues the sequence after number i, or entries.n. */
static size_t next_entry(const struct log *l, size_t i)
{
	const struct entry *x = &l->entries.p[i];
	size_t next = find(l, ((uint64_t)x->pos + x->length) % l->v->h.log_length);

	return next < l->entries.n && l->entries.p[next].sequence == x->sequence + 1 ? next : l->entries.n;
}

/* Finds the active sequence: numbers of its first and last entry.  False: there is none. */
static bool find_active(const struct log *l, size_t *ret_first, size_t *ret_last)
{
	uint64_t best = 0;
	size_t end;

	for (size_t i = 0; i < l->entries.n; i = end) {
		size_t last = i, tail, at;

		for (size_t n; (n = next_entry(l, last)) < l->entries.n; last = n)
			;
		/* What starts inside this sequence ends where it does, and has less for the tail to point to. */
		end = last < i ? l->entries.n : last + 1;
		tail = find(l, l->entries.p[last].tail);
		for (at = i; at != tail && at != last; at = next_entry(l, at))
			;
		if (at != tail || l->entries.p[last].sequence <= best)
			continue;
		best = l->entries.p[last].sequence;
		*ret_first = tail;
		*ret_last = last;
	}
	return best;
}

static int add_write(struct log *l, const struct entry *x, const uint8_t *d, uint64_t data, struct err *e)
{
	struct vhdx *v = l->v;
	bool zero = memcmp(d, "zero", 4) == 0;
	uint64_t start = get_le64(d + 16), len = zero ? get_le64(d + 8) : VHDX_LOG_SECTOR, log = v->h.log_offset;
	struct vhdx_write *w;

	if (start % VHDX_LOG_SECTOR || len % VHDX_LOG_SECTOR || !range_ok(start, len, v->size))
		return err_set(e, ERR_CORRUPT,
			       "log entry at %" PRIu64 ": writes %" PRIu64 " bytes at %" PRIu64
			       " to a file of %" PRIu64 " bytes",
			       log + x->pos, len, start, v->size);
	if (len && (start < VHDX_REGIONS_1 || (start < log + v->h.log_length && log < start + len)))
		return err_set(e, ERR_CORRUPT, "log entry at %" PRIu64 ": writes to the %s, at %" PRIu64, log + x->pos,
			       start < VHDX_REGIONS_1 ? "headers" : "log", start);
	if (!len)
		return 0;
	if (v->writes.n == VHDX_LOG_WRITES_MAX)
		return err_set(e, ERR_UNSUPPORTED, "log of more than %zu writes", VHDX_LOG_WRITES_MAX);
	w = VEC_PUSH(&v->writes, e);
	if (!w)
		return e->code;
	*w = (struct vhdx_write){ .start = start, .end = start + len, .data = zero ? VHDX_ZEROS : data };
	if (!zero) {
		w->trailing = get_le32(d + 4);
		w->leading = get_le64(d + 8);
	}
	return 0;
}

static int replay_entry(struct log *l, const struct entry *x, struct err *e)
{
	uint32_t data = descriptor_sectors(x->descriptors);
	uint32_t skip = ENTRY_HEADER_BYTES / DESCRIPTOR_BYTES, per = VHDX_LOG_SECTOR / DESCRIPTOR_BYTES;

	for (uint32_t i = 0; i < x->descriptors; i++) {
		uint32_t n = i + skip;
		const uint8_t *d = l->sector + (size_t)(n % per) * DESCRIPTOR_BYTES;

		if ((!i || n % per == 0) && read_sector(l, x->pos, n / per, e) < 0)
			return e->code;
		if (add_write(l, x, d, sector_at(l, x->pos, data), e) < 0)
			return e->code;
		data += d[0] == 'd';
	}
	return 0;
}

static int replay(struct log *l, struct err *e)
{
	struct vhdx *v = l->v;
	size_t first, last;

	if (find_entries(l, e) < 0)
		return e->code;
	if (!find_active(l, &first, &last))
		return err_set(e, ERR_CORRUPT,
			       "log at %" PRIu64 ": writes are pending, and it has no whole sequence of entries",
			       v->h.log_offset);
	if (v->im.file.size < l->entries.p[last].flushed)
		return err_set(e, ERR_CORRUPT,
			       "log entry at %" PRIu64 ": the file had %" PRIu64 " bytes, and has %" PRIu64
			       ": it was cut off",
			       v->h.log_offset + l->entries.p[last].pos, l->entries.p[last].flushed,
			       v->im.file.size);
	for (size_t i = first;; i = next_entry(l, i)) {
		v->size = max_u64(v->size, min_u64(l->entries.p[i].last, INT64_MAX));
		if (i == last)
			break;
	}
	for (size_t i = first;; i = next_entry(l, i)) {
		if (replay_entry(l, &l->entries.p[i], e) < 0)
			return e->code;
		if (i == last)
			break;
	}
	return vhdx_overlay_seal(v, e);
}

int vhdx_log_read(struct vhdx *v, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *sector = NULL;
	struct log l = { .v = v };
	int r;

	v->size = v->im.file.size;
	if (bytes_all_zero(v->h.log_guid, sizeof(v->h.log_guid)))
		return 0;
	if (v->h.log_version != 0)
		return err_set(e, ERR_UNSUPPORTED, "log of version %" PRIu16 " with pending writes", v->h.log_version);
	l.sector = sector = malloc(VHDX_LOG_SECTOR);
	if (!sector)
		return err_set(e, ERR_NOMEM, "log");
	r = replay(&l, e);
	VEC_DONE(&l.entries);
	return r;
}
