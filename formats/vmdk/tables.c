/*
 * tables.c - grain directories and tables: what their entries say, and the check of all of them at open.
 *
 *	kind		directory entry			table entry
 *	hosted, COWD	0, or the table's sector	0 nothing; 1 zeros (hosted, by a flag); else the grain's sector
 *	SESparse	0, or 0x10000000 << 32 | index	by the upper 4 bits: 0 nothing, 1 unmapped, 2 zeros, 3 a grain,
 *							whose index is bits 48..59 and, above them, bits 0..47
 *
 * A hosted extent may have all this twice.  The first one counts; where its directory, or one of its tables, is damaged
 * and the copy's isn't, the copy's is used.  Whatever says that a grain lies in a table, in the header or the like is
 * damage, and so is a table that two entries name.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk_internal.h"

#define NOTE_MAX 400
#define SE_TABLE 0x10000000u

const char *vmdk_table_of(const struct vmdk_sparse *s, uint64_t v, uint64_t *ret)
{
	uint64_t bytes = vmdk_table_bytes(s), at;

	if (s->kind == VMDK_SESPARSE) {
		if (v >> 32 != SE_TABLE)
			return "no table's index";
		at = (v & UINT32_MAX) * bytes;
		if (!range_ok(at, bytes, s->tables_len))
			return "the table is outside the area of grain tables";
		at += s->tables;	/* both fit 63 bits */
	} else {
		at = v * VMDK_SECTOR;	/* 32 bits */
	}
	if (!range_ok(at, bytes, s->file->bytes.size))
		return "the table is outside the file";
	*ret = at;
	return NULL;
}

/* What SESparse's entry says; *ret_host stays as it is unless it is a grain. */
static const char *se_grain(const struct vmdk_sparse *s, uint64_t v, struct vmdk_grain *ret)
{
	uint64_t index = (v >> 48 & 0xfff) | (v & 0xffffffffffff) << 12, host;

	switch (v >> 60) {
	case 0:
		ret->kind = VMDK_GRAIN_HOLE;
		return v ? "reserved bits are set" : NULL;
	case 1:
	case 2:
		ret->kind = VMDK_GRAIN_ZERO;
		return NULL;
	case 3:
		if (!mul_u64(index, s->grain, &host) || !add_u64(host, s->grains, &host))
			return "the grain is outside the file";
		ret->host = host;
		ret->kind = VMDK_GRAIN_DATA;
		return NULL;
	}
	return "its kind is not known";
}

const char *vmdk_grain_of(const struct vmdk_sparse *s, uint64_t v, struct vmdk_grain *ret)
{
	uint64_t size = s->file->bytes.size, len = s->compressed ? 1 : s->grain;
	struct vmdk_grain g = { .kind = VMDK_GRAIN_HOLE };

	if (s->kind == VMDK_SESPARSE) {
		const char *bad = se_grain(s, v, &g);

		if (bad)
			return bad;
	} else if (v == 1 && s->zero_entry) {
		g.kind = VMDK_GRAIN_ZERO;
	} else if (v == 1 && s->kind == VMDK_SPARSE) {	/* not what it says: no grain lies behind the header's sector */
		return "it means zeros, and the header says that there is no such entry";
	} else if (v) {
		g.kind = s->compressed ? VMDK_GRAIN_COMPRESSED : VMDK_GRAIN_DATA;
		g.host = v * VMDK_SECTOR;
	}
	if (g.kind == VMDK_GRAIN_DATA || g.kind == VMDK_GRAIN_COMPRESSED) {
		if (g.host >= size)
			return "the grain is outside the file";
		if (vmdk_regions_find(&s->meta, g.host, min_u64(len, size - g.host)))
			return "the grain lies in metadata";
	}
	*ret = g;
	return NULL;
}

/* ---- reading ---- */

int vmdk_scan_dir(const struct vmdk_sparse *s, uint64_t dir, vmdk_scan_fn fn, void *opaque, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(VMDK_SLICE_BYTES);
	uint64_t end = dir + s->dir_entries * s->entry_bytes, data;
	size_t len;

	if (!buf)
		return err_set(e, ERR_NOMEM, "grain directory");
	for (uint64_t at = dir; at < end; at += len) {
		if (file_skip_hole(&s->file->bytes, at, end, &data, e) < 0)
			return e->code;
		at += round_down(data - at, s->entry_bytes);	/* an entry may begin in the hole and end in the data */
		len = (size_t)min_u64(end - at, VMDK_SLICE_BYTES);
		if (!len)
			break;
		if (file_pread_full(&s->file->bytes, buf, len, at, e) < 0)
			return err_ctx(e, "grain directory");
		for (size_t i = 0; i < len; i += s->entry_bytes) {
			uint64_t v = vmdk_entry_get(s, buf + i, 0);

			if (v && fn(opaque, (at + i - dir) / s->entry_bytes, v, e) < 0)
				return e->code;
		}
	}
	return 0;
}

int vmdk_table_read(const struct vmdk_sparse *s, uint64_t table, uint8_t *buf, bool *ret_hole, struct err *e)
{
	size_t len = vmdk_table_bytes(s);
	uint64_t data;

	if (file_skip_hole(&s->file->bytes, table, table + len, &data, e) < 0)
		return e->code;
	*ret_hole = data == table + len;
	if (!*ret_hole)
		return file_pread_full(&s->file->bytes, buf, len, table, e);
	memset(buf, 0, len);
	return 0;
}

uint64_t vmdk_dir_for(const struct vmdk_sparse *s, uint64_t index)
{
	size_t lo = 0, hi = s->from_copy.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->from_copy.p[mid] < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->from_copy.n && s->from_copy.p[lo] == index ? s->copy : s->dir;
}

/* ---- the check at open: directories ---- */

struct dir_check {
	const struct vmdk_sparse *s;
	struct vmdk_regions *r;
	uint64_t dir;
	const char *what;	/* of the tables */
};

static int check_dir_entry(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	const struct dir_check *c = opaque;
	uint64_t table;
	const char *bad = vmdk_table_of(c->s, v, &table);

	if (bad)
		return err_set(e, ERR_CORRUPT, "grain directory entry at %" PRIu64 " (0x%" PRIx64 "): %s",
			       c->dir + index * c->s->entry_bytes, v, bad);
	return vmdk_regions_add(c->r, table, vmdk_table_bytes(c->s), c->what, e);
}

static int add_all(struct vmdk_regions *to, const struct vmdk_regions *from, struct err *e)
{
	for (size_t i = 0; i < from->v.n; i++) {
		struct vmdk_region *r = VEC_PUSH(&to->v, e);

		if (!r)
			return e->code;
		*r = from->v.p[i];
	}
	return 0;
}

/* The directory's own place and its tables', which nothing in `beside` may overlap, nor one another. */
static int check_dir(const struct vmdk_sparse *s, const struct vmdk_regions *beside, uint64_t dir, const char *what,
		     const char *table, struct vmdk_regions *ret, struct err *e)
{
	struct dir_check c = { s, ret, dir, table };

	if (add_all(ret, beside, e) < 0 || vmdk_regions_add(ret, dir, s->dir_entries * s->entry_bytes, what, e) < 0 ||
	    vmdk_scan_dir(s, dir, check_dir_entry, &c, e) < 0)
		return e->code;
	return vmdk_regions_seal(ret, e);
}

int vmdk_note_add(char **note, const char *text, struct err *e)
{
	char *longer = *note ? text_printf(e, "%s; %s", *note, text) : text_printf(e, "%s", text);

	if (!longer)
		return e->code;
	free(*note);
	*note = longer;
	return 0;
}

static void take_regions(struct vmdk_sparse *s, struct vmdk_regions *r)
{
	vmdk_regions_done(&s->meta);
	s->meta = *r;
	*r = (struct vmdk_regions){ 0 };
}

/* The copy stands in for what is wrong, and for what its disk can't read. */
static bool copy_may_help(const struct vmdk_sparse *s, int code)
{
	return s->copy && (code == ERR_CORRUPT || code == ERR_IO);
}

static int check_dirs(struct vmdk_sparse *s, char **note, struct err *e)
{
	CLEANUP(vmdk_regions_done) struct vmdk_regions first = { 0 };
	CLEANUP(vmdk_regions_done) struct vmdk_regions both = { 0 };
	struct err bad = ERR_INIT;
	char text[NOTE_MAX], why[300];
	int r = check_dir(s, &s->meta, s->dir, "grain directory", "grain table", &first, e);

	if (r < 0 && !copy_may_help(s, r))
		return r;
	if (s->copy && check_dir(s, r < 0 ? &s->meta : &first, s->copy, "redundant grain directory",
				 "redundant grain table", &both, &bad) < 0) {
		if (!copy_may_help(s, bad.code)) {
			*e = bad;
			return bad.code;
		}
		if (r < 0)
			return err_ctx(e, "both grain directories are damaged, the first");
		snprintf(text, sizeof(text), "the redundant grain directory is damaged: %.300s",
			 err_text(&bad, why, sizeof(why)));
		s->copy = 0;
		take_regions(s, &first);
		return vmdk_note_add(note, text, e);
	}
	take_regions(s, s->copy ? &both : &first);
	if (r == 0)
		return 0;
	snprintf(text, sizeof(text), "the redundant grain directory is used, the first is damaged: %.300s",
		 err_text(e, why, sizeof(why)));
	err_clear(e);
	s->dir = s->copy;
	s->copy = 0;
	return vmdk_note_add(note, text, e);
}

/* ---- the check at open: tables ---- */

struct table_check {
	struct vmdk_sparse *s;
	uint8_t *buf;
	char **note, **damage;
};

/* The place in buf of the first entry that is wrong, and why; NULL: none is. */
static const char *bad_entry(struct vmdk_sparse *s, const uint8_t *buf, uint64_t *ret_index)
{
	struct vmdk_grain g;

	for (uint64_t i = 0; i < s->table_entries; i++) {
		uint64_t v = vmdk_entry_get(s, buf, i);
		const char *bad = v ? vmdk_grain_of(s, v, &g) : NULL;

		if (bad) {
			*ret_index = i;
			return bad;
		}
		s->unmapped |= s->kind == VMDK_SESPARSE && v >> 60 == 1;
	}
	return NULL;
}

/* Is the copy's table good? */
static bool copy_is_good(const struct table_check *c, uint64_t index)
{
	struct vmdk_sparse *s = c->s;
	struct err unheard = ERR_INIT;	/* then the first's damage is what is told */
	uint64_t table, at;
	uint8_t v[4];
	bool hole;

	return s->copy && file_pread_full(&s->file->bytes, v, sizeof(v), s->copy + index * 4, &unheard) == 0 &&
	       get_le32(v) && !vmdk_table_of(s, get_le32(v), &table) &&
	       vmdk_table_read(s, table, c->buf, &hole, &unheard) == 0 && !bad_entry(s, c->buf, &at);
}

/* Reads the table and checks its entries; the message says where and what. */
static int check_entries(const struct table_check *c, uint64_t table, struct err *e)
{
	struct vmdk_sparse *s = c->s;
	const char *bad;
	uint64_t i;
	bool hole;

	if (vmdk_table_read(s, table, c->buf, &hole, e) < 0)
		return err_ctx(e, "grain table at %" PRIu64, table);
	bad = hole ? NULL : bad_entry(s, c->buf, &i);
	if (!bad)
		return 0;
	return err_set(e, ERR_CORRUPT, "grain table entry at %" PRIu64 ": %s", table + i * s->entry_bytes, bad);
}

static int check_table(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	struct table_check *c = opaque;
	struct vmdk_sparse *s = c->s;
	struct err found = ERR_INIT;
	char text[NOTE_MAX], why[300];
	uint64_t table, *slot;
	int r;

	if (vmdk_table_of(s, v, &table))
		return err_set(e, ERR_CHANGED, "the image was changed while it was opened");
	r = check_entries(c, table, &found);
	if (r == 0)
		return 0;
	err_text(&found, why, sizeof(why));
	if (!copy_may_help(s, r) || !copy_is_good(c, index)) {
		if (r != ERR_CORRUPT) {
			*e = found;
			return r;
		}
		if (!*c->damage)	/* its own grains can't be read then; the others can */
			*c->damage = text_printf(e, "%s", why);
		return *c->damage ? 0 : e->code;
	}
	slot = VEC_PUSH(&s->from_copy, e);
	if (!slot)
		return e->code;
	*slot = index;
	if (s->from_copy.n > 1)
		return 0;
	snprintf(text, sizeof(text), "redundant grain tables are used, the first damage: %s", why);
	return vmdk_note_add(c->note, text, e);
}

int vmdk_tables_check(struct vmdk_sparse *s, char **note, char **damage, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(vmdk_table_bytes(s));
	struct table_check c = { s, buf, note, damage };

	if (!buf)
		return err_set(e, ERR_NOMEM, "grain table");
	if (s->dir_entries > VMDK_DIR_ENTRIES_MAX)
		return err_set(e, ERR_UNSUPPORTED, "grain directory of %" PRIu64 " entries, %" PRIu64 " are the limit",
			       s->dir_entries, VMDK_DIR_ENTRIES_MAX);
	if (s->dir_lost &&
	    vmdk_note_add(note, "the redundant grain directory is used, the first is outside the file", e) < 0)
		return e->code;
	if (check_dirs(s, note, e) < 0 || vmdk_scan_dir(s, s->dir, check_table, &c, e) < 0)
		return e->code;
	if (s->unmapped)
		return vmdk_note_add(note, "grains that the guest unmapped read as zeros", e);
	return 0;
}
