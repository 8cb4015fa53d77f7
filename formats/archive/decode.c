/*
 * decode.c - compressed files as streams: gzip by zlib, which checks the CRC (libarchive doesn't), all others by libarchive.
 */
#define ZLIB_CONST
#include "formats/archive/decode.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/num.h"
#include "formats/file.h"

#define INPUT_BYTES ((size_t)256 << 10)
#define GZIP_WINDOW (15 + 16)	/* of zlib: 32 KiB, in gzip's frame */

static const struct kind {
	enum decode_kind kind;
	const char *name, *ending;
	uint8_t magic[6], magic_len;
} kinds[] = {
	{ DECODE_GZIP, "gzip", ".gz", { 0x1f, 0x8b, 8 }, 3 },
	{ DECODE_XZ, "xz", ".xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6 },
	{ DECODE_ZSTD, "zstd", ".zst", { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	{ DECODE_BZIP2, "bzip2", ".bz2", { 'B', 'Z', 'h' }, 3 },
	{ DECODE_LZ4, "lz4", ".lz4", { 0x04, 0x22, 0x4d, 0x18 }, 4 },
};
#define NKINDS (sizeof(kinds) / sizeof(*kinds))

struct decoder {
	struct file in;
	uint64_t at;			/* of in: what comes next */
	uint8_t *buf;			/* INPUT_BYTES */
	struct err failed;		/* of reading in, while a library is being called */
	struct archive *archive;	/* NULL: gzip */
	z_stream z;
	enum decode_kind kind;
	bool z_begun, in_member, ended, whole;
};

static bool ends_with(const char *name, const char *ending)
{
	size_t n = strlen(name), m = strlen(ending);

	return n > m && !strcmp(name + n - m, ending);
}

enum decode_kind decode_kind_of(const char *name, const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < NKINDS; i++)
		if (len >= kinds[i].magic_len && !memcmp(head, kinds[i].magic, kinds[i].magic_len) &&
		    (!name || ends_with(name, kinds[i].ending)))
			return kinds[i].kind;
	return DECODE_NONE;
}

const char *decode_kind_name(enum decode_kind kind)
{
	for (size_t i = 0; i < NKINDS; i++)
		if (kinds[i].kind == kind)
			return kinds[i].name;
	return "none";
}

size_t decode_stem(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < NKINDS; i++)
		if (ends_with(name, kinds[i].ending))
			return len - strlen(kinds[i].ending);
	return len;
}

/* --- gzip ---------------------------------------------------------------------------------------------------------- */

static int fill(struct decoder *d, struct err *e)
{
	size_t got;

	if (d->z.avail_in)
		return 1;
	if (file_pread(&d->in, d->buf, INPUT_BYTES, d->at, &got, e) < 0)
		return e->code;
	d->at += got;
	d->z.next_in = d->buf;
	d->z.avail_in = (uInt)got;
	return got > 0;
}

/* What follows a member: another one, or zeros, with which tapes and devices pad.  1: another; 0: the end. */
static int next_member(struct decoder *d, struct err *e)
{
	int r;

	while ((r = fill(d, e)) > 0) {
		size_t zeros = 0;

		while (zeros < d->z.avail_in && !d->z.next_in[zeros])
			zeros++;
		d->z.next_in += zeros;
		d->z.avail_in -= (uInt)zeros;
		if (d->z.avail_in)
			break;
	}
	if (r <= 0)
		return r;
	if (inflateReset2(&d->z, GZIP_WINDOW) != Z_OK)
		return err_set(e, ERR_INTERNAL, "zlib: reset failed");
	d->in_member = true;
	return 1;
}

static int gzip_failed(const struct decoder *d, int code, struct err *e)
{
	if (code == Z_MEM_ERROR)
		return err_set(e, ERR_NOMEM, "no memory to decompress");
	return err_set(e, ERR_CORRUPT, "gzip data before %" PRIu64 ": %s", d->at - d->z.avail_in,
		       code == Z_NEED_DICT ? "a dictionary is needed" : d->z.msg ? d->z.msg : "not valid");
}

static int gzip_read(struct decoder *d, void *buf, size_t len, size_t *ret_len, struct err *e)
{
	d->z.next_out = buf;
	d->z.avail_out = (uInt)min_u64(len, UINT32_MAX);
	len = d->z.avail_out;
	while (d->z.avail_out == len && !d->ended) {
		int r = d->in_member ? fill(d, e) : next_member(d, e);

		if (r < 0)
			return r;
		if (!r && d->in_member)
			return err_set(e, ERR_CORRUPT, "gzip data end early, at %" PRIu64, d->at);
		if (!r) {
			d->ended = true;
			break;
		}
		r = inflate(&d->z, Z_NO_FLUSH);
		if (r == Z_STREAM_END)
			d->in_member = false;
		else if (r != Z_OK && r != Z_BUF_ERROR)
			return gzip_failed(d, r, e);
	}
	*ret_len = len - d->z.avail_out;
	return 0;
}

/* --- the others ---------------------------------------------------------------------------------------------------- */

static la_ssize_t give(struct archive *a, void *opaque, const void **ret)
{
	struct decoder *d = opaque;
	size_t got;

	if (file_pread(&d->in, d->buf, INPUT_BYTES, d->at, &got, &d->failed) < 0) {
		archive_set_error(a, d->failed.os_errno, "read");
		return -1;
	}
	d->at += got;
	*ret = d->buf;
	return (la_ssize_t)got;
}

static int archive_failed(struct decoder *d, struct err *e)
{
	const char *text = archive_error_string(d->archive);

	if (d->failed.code) {
		*e = d->failed;
		return e->code;
	}
	if (archive_errno(d->archive) == ENOMEM)
		return err_set(e, ERR_NOMEM, "no memory to decompress");
	return err_set(e, ERR_CORRUPT, "compressed data before %" PRIu64 ": %s", d->at, text ? text : "not valid");
}

/*
 * Exactly this filter: libarchive's usual way is to look at what comes out, too, and to go on decompressing.  But what
 * comes out belongs to a guest, that may write anything to the begin of its disk.
 */
static int add_filter(struct archive *a, enum decode_kind kind)
{
	switch (kind) {
	case DECODE_XZ:
		return archive_read_append_filter(a, ARCHIVE_FILTER_XZ);
	case DECODE_ZSTD:
		return archive_read_append_filter(a, ARCHIVE_FILTER_ZSTD);
	case DECODE_BZIP2:
		return archive_read_append_filter(a, ARCHIVE_FILTER_BZIP2);
	default:
		return archive_read_append_filter(a, ARCHIVE_FILTER_LZ4);
	}
}

/* ARCHIVE_WARN of a filter: it would start a program, which is not for a library to do. */
static int archive_begin(struct decoder *d, enum decode_kind kind, struct err *e)
{
	struct archive_entry *entry;
	int r;

	d->archive = archive_read_new();
	if (!d->archive)
		return err_set(e, ERR_NOMEM, "no memory to decompress");
	if (add_filter(d->archive, kind) != ARCHIVE_OK)
		return err_set(e, ERR_UNSUPPORTED, "this libarchive was built without %s", decode_kind_name(kind));
	if (archive_read_support_format_raw(d->archive) != ARCHIVE_OK ||
	    archive_read_support_format_empty(d->archive) != ARCHIVE_OK)
		return archive_failed(d, e);
	r = archive_read_open(d->archive, d, NULL, give, NULL);
	if (r == ARCHIVE_OK && archive_errno(d->archive))	/* the first bytes are bad, and pass for an empty file */
		return archive_failed(d, e);
	if (r == ARCHIVE_OK)
		r = archive_read_next_header(d->archive, &entry);
	if (r == ARCHIVE_EOF) {
		d->ended = true;
		return 0;
	}
	return r == ARCHIVE_OK ? 0 : archive_failed(d, e);
}

/*
 * Where the frames of an lz4 file end that libarchive took: it eats four bytes of what follows them, so it can't say.
 * doc/lz4_Frame_format.md of lz4.
 */
static int lz4_end(const struct file *in, uint64_t *ret, struct err *e)
{
	uint8_t b[7];
	uint64_t at = 0, end;
	size_t got;

	for (;;) {
		if (file_pread(in, b, sizeof(b), at, &got, e) < 0)
			return e->code;
		*ret = at;
		if (got >= 4 && (get_le32(b) & ~0xfu) == 0x184d2a50u) {	/* to be skipped */
			if (got < sizeof(b) || file_pread_full(in, b, 4, at + 4, e) < 0)
				return got < sizeof(b) ? 0 : e->code;
			at += 8 + (uint64_t)get_le32(b);
			continue;
		}
		if (got < sizeof(b) || get_le32(b) != 0x184d2204u)
			return 0;
		end = at + 7 + (b[4] & 8 ? 8 : 0) + (b[4] & 1 ? 4 : 0);
		for (at = end;; at = end) {
			uint8_t n[4];

			if (file_pread_full(in, n, sizeof(n), at, e) < 0)
				return e->code;
			end = at + 4 + (get_le32(n) & 0x7fffffffu) + (get_le32(n) && b[4] & 16 ? 4 : 0);
			if (!get_le32(n))
				break;
		}
		at = end + (b[4] & 4 ? 4 : 0);
	}
}

/*
 * libarchive takes whatever isn't the begin of another stream for the end, so a defect there would cut the disk short.
 * Zeros may follow, with which tapes and devices pad.
 */
static int check_end(struct decoder *d, struct err *e)
{
	uint64_t at = (uint64_t)archive_filter_bytes(d->archive, -1);
	size_t got = 1;

	if (d->whole)
		return 0;
	if (d->kind == DECODE_LZ4 && lz4_end(&d->in, &at, e) < 0)
		return e->code;
	if (at > d->in.size)
		return err_set(e, ERR_CORRUPT, "%s data end early, at %" PRIu64, decode_kind_name(d->kind), d->in.size);
	for (uint64_t p = at; got; p += got) {
		if (file_pread(&d->in, d->buf, INPUT_BYTES, p, &got, e) < 0)
			return e->code;
		if (got && !bytes_all_zero(d->buf, got))
			return err_set(e, ERR_CORRUPT, "what follows the %s data at %" PRIu64
				       " is no more of them: it is damaged, cut off or something else",
				       decode_kind_name(d->kind), at);
	}
	d->whole = true;
	return 0;
}

static int other_read(struct decoder *d, void *buf, size_t len, size_t *ret_len, struct err *e)
{
	la_ssize_t n = d->ended ? 0 : archive_read_data(d->archive, buf, len);

	if (n < 0)
		return archive_failed(d, e);
	d->ended = d->ended || !n;
	if (!n && check_end(d, e) < 0)
		return e->code;
	*ret_len = (size_t)n;
	return 0;
}

int decoder_new(const struct file *in, enum decode_kind kind, struct decoder **ret, struct err *e)
{
	CLEANUP(decoder_free_cleanup) struct decoder *d = calloc(1, sizeof(*d));

	if (d)
		d->buf = malloc(INPUT_BYTES);
	if (!d || !d->buf)
		return err_set(e, ERR_NOMEM, "no memory to decompress");
	d->in = *in;
	d->kind = kind;
	if (kind != DECODE_GZIP) {
		if (archive_begin(d, kind, e) < 0)
			return e->code;
	} else {
		if (inflateInit2(&d->z, GZIP_WINDOW) != Z_OK)
			return err_set(e, ERR_NOMEM, "no memory to decompress");
		d->z_begun = d->in_member = true;
	}
	*ret = STEAL(d);
	return 0;
}

int decoder_read(struct decoder *d, void *buf, size_t len, size_t *ret_len, struct err *e)
{
	return d->archive ? other_read(d, buf, len, ret_len, e) : gzip_read(d, buf, len, ret_len, e);
}

void decoder_free(struct decoder *d)
{
	if (!d)
		return;
	if (d->archive)
		(void)archive_read_free(d->archive);
	if (d->z_begun)
		(void)inflateEnd(&d->z);
	free(d->buf);
	free(d);
}
