/*
 * stream.c - streamOptimized: the footer, and compressed grains.
 *
 * All things begin at sectors.  A grain is u64 LBA, u32 size, so many bytes of zlib; a marker is u64 value, u32 0, u32
 * type (0 end, 1 table, 2 directory, 3 footer), and `value` sectors follow it.  A file that was written in one go has
 * its directory behind the grains and ends footer marker, footer, end marker; the footer is a header whose directory
 * offset is right.  After the end there may be what a tar or an upload has added.
 *
 * Without markers a table's entry names the zlib data themselves.
 */
#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"
#include "formats/inflate.h"
#include "formats/vmdk/vmdk_internal.h"

#define FOOTER_SEARCH ((uint64_t)64 << 10)
#define MARKER_FOOTER 3
#define GRAIN_HEADER_BYTES 12
/* Behind a cached grain: which sector it says it is of, and how many bytes its data gave.  Any entry may name it. */
#define SAYS_BYTES 16

/* Is p a footer's marker, and a header behind it? */
static bool is_footer(const uint8_t p[static 1024])
{
	return get_le64(p) == 1 && get_le32(p + 8) == 0 && get_le32(p + 12) == MARKER_FOOTER &&
	       get_le32(p + 512) == VMDK_MAGIC;
}

int vmdk_footer_find(const struct vmdk_file *f, const struct vmdk_header *h, uint64_t *ret_dir, struct err *e)
{
	uint64_t size = round_down(f->bytes.size, VMDK_SECTOR);
	uint64_t from = size > FOOTER_SEARCH ? size - FOOTER_SEARCH : 0;
	CLEANUP(free_ptr) uint8_t *buf = malloc(FOOTER_SEARCH);
	struct vmdk_header t;
	uint64_t at;

	if (!buf)
		return err_set(e, ERR_NOMEM, "footer");
	if (file_pread_full(&f->bytes, buf, (size_t)(size - from), from, e) < 0)
		return e->code;
	for (at = size - from; at >= 1024 && !is_footer(buf + at - 1024); at -= VMDK_SECTOR)
		;
	if (at < 1024) {
		(void)err_set(e, ERR_CORRUPT,
			      "no footer in the last 64 KiB of the file, and the header says that the grain directory "
			      "is found by it: the file is cut off");
		return err_hint(e, "copy or download it anew");
	}
	at = at - 512;		/* in buf, of the header behind the marker */
	vmdk_header_decode(buf + at, &t);
	if (t.capacity != h->capacity || t.grain != h->grain || t.table_entries != h->table_entries ||
	    t.flags != h->flags || t.version != h->version || t.compression != h->compression ||
	    t.dir == VMDK_DIR_AT_END)
		return err_set(e, ERR_CORRUPT, "footer at %" PRIu64 ": it doesn't agree with the header", from + at);
	*ret_dir = t.dir;
	return 0;
}

/* ---- grains ---- */

struct fill {
	const struct vmdk_sparse *s;
	uint64_t start;		/* of the grain, in the extent */
	uint64_t wanted;	/* bytes that the disk has of it */
	uint64_t next;		/* as in struct vmdk_run */
};

/* Zlib makes little longer what it can't make shorter; a grain that claims more isn't one. */
static uint64_t size_limit(const struct vmdk_sparse *s)
{
	return s->grain + s->grain / 4 + 1024;
}

/* Reads a grain with its header: *ret (malloc'ed) has *ret_len bytes of zlib data behind GRAIN_HEADER_BYTES. */
static int read_marked(const struct fill *f, uint64_t host, uint8_t **ret, size_t *ret_len, struct err *e)
{
	const struct vmdk_sparse *s = f->s;
	uint64_t room = s->file->bytes.size - host, limit = size_limit(s), first, size;
	CLEANUP(free_ptr) uint8_t *in = malloc((size_t)min_u64(room, limit + GRAIN_HEADER_BYTES));

	if (!in)
		return err_set(e, ERR_NOMEM, "compressed grain");
	first = f->next ? f->next - host : s->grain;
	first = min_u64(min_u64(first, limit), room);
	if (first < GRAIN_HEADER_BYTES)
		return err_set(e, ERR_CORRUPT, "compressed grain at %" PRIu64 ": the file ends inside it", host);
	if (file_pread_full(&s->file->bytes, in, (size_t)first, host, e) < 0)
		return e->code;
	size = get_le32(in + 8);
	if (!size || size > limit || size > room - GRAIN_HEADER_BYTES)
		return err_set(e, ERR_CORRUPT, "compressed grain at %" PRIu64 ": %" PRIu64
			       " bytes are too many or none", host, size);
	if (size + GRAIN_HEADER_BYTES > first &&
	    file_pread_full(&s->file->bytes, in + first, (size_t)(size + GRAIN_HEADER_BYTES - first), host + first,
			    e) < 0)
		return e->code;
	*ret = STEAL(in);
	*ret_len = (size_t)size;
	return 0;
}

static int read_bare(const struct fill *f, uint64_t host, uint8_t **ret, size_t *ret_len, struct err *e)
{
	const struct vmdk_sparse *s = f->s;
	size_t len = (size_t)min_u64(s->file->bytes.size - host, size_limit(s));
	uint8_t *in = malloc(len);

	if (!in)
		return err_set(e, ERR_NOMEM, "compressed grain");
	if (file_pread_full(&s->file->bytes, in, len, host, e) < 0) {
		free(in);
		return e->code;
	}
	*ret = in;
	*ret_len = len;
	return 0;
}

static int too_little(const struct fill *f, uint64_t host, struct err *e)
{
	return err_set(e, ERR_CORRUPT, "compressed grain at %" PRIu64 ": its zlib data don't give %" PRIu64 " bytes",
		       host, f->wanted);
}

static int fill_grain(void *opaque, uint64_t host, void *buf, size_t len, struct err *e)
{
	const struct fill *f = opaque;
	bool marked = f->s->markers;
	CLEANUP(free_ptr) uint8_t *in = NULL;
	uint8_t *says = (uint8_t *)buf + len - SAYS_BYTES;
	size_t in_len = 0, made = 0;
	int ok;

	if ((marked ? read_marked(f, host, &in, &in_len, e) : read_bare(f, host, &in, &in_len, e)) < 0)
		return e->code;
	len -= SAYS_BYTES;
	ok = inflate_zlib(buf, len, in + (marked ? GRAIN_HEADER_BYTES : 0), in_len, &made);
	if (ok == ERR_NOMEM)
		return err_set(e, ERR_NOMEM, "decompression of the grain at %" PRIu64, host);
	if (!ok)
		return too_little(f, host, e);
	memset((uint8_t *)buf + made, 0, len - made);	/* the last one may end with the disk */
	put_le64(says, marked ? get_le64(in) : 0);
	put_le64(says + 8, made);
	return 0;
}

/* Is the grain the one that the table means?  Asked at each use: another entry may have brought it into the cache. */
static int check_grain(const struct fill *f, uint64_t host, const uint8_t *says, struct err *e)
{
	if (f->s->markers && get_le64(says) != f->start / VMDK_SECTOR)
		return err_set(e, ERR_CORRUPT,
			       "compressed grain at %" PRIu64 ": it is of sector %" PRIu64
			       ", its table has it at %" PRIu64, host, get_le64(says), f->start / VMDK_SECTOR);
	return get_le64(says + 8) < f->wanted ? too_little(f, host, e) : 0;
}

int vmdk_grain_get(struct vmdk *v, const struct vmdk_run *r, uint64_t off, const struct cache_block **ret,
		   struct err *e)
{
	const struct vmdk_extent *x = r->extent;
	struct vmdk_sparse *s = x->sparse;
	uint64_t start = off - x->start - r->inner;
	struct fill f = { s, start, min_u64(s->grain, x->len - start), r->next };
	const struct cache_block *b;

	if (block_cache_get(v->cache, &s->file->owner_grains, r->host, (size_t)s->grain + SAYS_BYTES, fill_grain, &f,
			    &b, e) < 0)
		return e->code;
	if (check_grain(&f, r->host, b->data + s->grain, e) < 0) {
		block_cache_put(v->cache, b);
		return e->code;
	}
	*ret = b;
	return 0;
}
