/*
 * tar.c - the members of a tar archive, by libarchive, which skips their data.
 */
#include "formats/archive/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"

#define INPUT_BYTES ((size_t)64 << 10)
#define BLOCK 512u

struct reader {
	struct file f;
	uint64_t at;
	uint8_t *buf;		/* INPUT_BYTES */
	struct err failed;
	struct archive *archive;
};

static void reader_done(struct reader *r)
{
	if (r->archive)
		(void)archive_read_free(r->archive);
	free(r->buf);
}

bool tar_looks(const uint8_t *head, size_t len)
{
	uint64_t sum = 0, stored = 0;
	size_t i = 148;

	if (len < BLOCK || memcmp(head + 257, "ustar", 5) != 0)
		return false;
	for (size_t k = 0; k < BLOCK; k++)
		sum += k >= 148 && k < 156 ? ' ' : head[k];
	while (i < 156 && head[i] == ' ')
		i++;
	for (; i < 156 && head[i] >= '0' && head[i] <= '7'; i++)
		stored = stored * 8 + (uint64_t)(head[i] - '0');
	return sum == stored;
}

static la_ssize_t give(struct archive *a, void *opaque, const void **ret)
{
	struct reader *r = opaque;
	size_t got;

	if (file_pread(&r->f, r->buf, INPUT_BYTES, r->at, &got, &r->failed) < 0) {
		archive_set_error(a, r->failed.os_errno, "read");
		return -1;
	}
	r->at += got;
	*ret = r->buf;
	return (la_ssize_t)got;
}

static la_int64_t skip(struct archive *a, void *opaque, la_int64_t wanted)
{
	struct reader *r = opaque;
	uint64_t n = min_u64((uint64_t)wanted, r->f.size - min_u64(r->at, r->f.size));

	(void)a;
	r->at += n;
	return (la_int64_t)n;
}

static int failed(const struct reader *r, struct err *e)
{
	const char *text = archive_error_string(r->archive);
	char q[200];

	if (r->failed.code) {
		*e = r->failed;
		return e->code;
	}
	return err_set(e, archive_errno(r->archive) == ENOMEM ? ERR_NOMEM : ERR_CORRUPT, "tar archive: %s, before %" PRIu64,
		       text ? text_quote(text, q, sizeof(q)) : "not valid", r->at);
}

static bool is_member(struct archive_entry *entry)
{
	const char *name = archive_entry_pathname(entry);

	return archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry) && name && *name;
}

static uint64_t padded(la_int64_t size)
{
	return ((uint64_t)size + BLOCK - 1) / BLOCK * BLOCK;
}

static int add(const struct reader *r, struct archive_entry *entry, struct tar *t, struct err *e)
{
	const char *name = archive_entry_pathname(entry);
	la_int64_t size = archive_entry_size(entry), at = archive_filter_bytes(r->archive, 0), end;
	struct tar_member *m;
	char q[200];

	if (strlen(name) > TAR_NAME_MAX)
		return err_set(e, ERR_UNSUPPORTED, "tar archive: a member's name has more than %u bytes", TAR_NAME_MAX);
	if (t->members.n == TAR_MEMBERS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "tar archive: more than %u members", TAR_MEMBERS_MAX);
	m = VEC_PUSH(&t->members, e);
	if (!m)
		return e->code;
	/* The size is what some header says that it has unpacked.  Only where as much is stored it lies there as a whole. */
	*m = (struct tar_member){ .sparse = archive_entry_sparse_count(entry) > 0 };
	if (size >= 0 && at >= 0 && archive_read_data_skip(r->archive) != ARCHIVE_OK &&
	    range_ok((uint64_t)at, (uint64_t)size, r->f.size))
		return failed(r, e);
	end = archive_filter_bytes(r->archive, 0);
	if (size >= 0 && at >= 0 && end >= at && range_ok((uint64_t)at, (uint64_t)size, r->f.size) &&
	    (uint64_t)(end - at) != padded(size))
		m->sparse = true;
	if (size < 0 || at < 0 || (!m->sparse && !range_ok((uint64_t)at, (uint64_t)size, r->f.size)))
		return err_set(e, ERR_CORRUPT, "tar archive: %s, %" PRId64 " bytes at %" PRId64
			       ", is outside the file of %" PRIu64 " bytes", text_quote(name, q, sizeof(q)), (int64_t)size,
			       (int64_t)at, r->f.size);
	m->offset = (uint64_t)at;
	m->size = (uint64_t)size;
	m->name = strdup(name);
	return m->name ? 0 : err_set(e, ERR_NOMEM, "names of an archive");
}

static int begin(struct reader *r, struct err *e)
{
	r->buf = malloc(INPUT_BYTES);
	r->archive = archive_read_new();
	if (!r->buf || !r->archive)
		return err_set(e, ERR_NOMEM, "no memory to read an archive");
	if (archive_read_support_format_tar(r->archive) != ARCHIVE_OK ||
	    archive_read_set_read_callback(r->archive, give) != ARCHIVE_OK ||
	    archive_read_set_skip_callback(r->archive, skip) != ARCHIVE_OK ||
	    archive_read_set_callback_data(r->archive, r) != ARCHIVE_OK || archive_read_open1(r->archive) != ARCHIVE_OK)
		return failed(r, e);
	return 0;
}

/* The next member that is a file: 1; 0 at the end.  A warning is about a name's characters: names are bytes here. */
static int next(struct reader *r, struct archive_entry **ret, struct err *e)
{
	int rc;

	while ((rc = archive_read_next_header(r->archive, ret)) == ARCHIVE_OK || rc == ARCHIVE_WARN)
		if (is_member(*ret))
			return 1;
	return rc == ARCHIVE_EOF ? 0 : failed(r, e);
}

int tar_list(const struct file *f, struct tar *ret, struct err *e)
{
	CLEANUP(reader_done) struct reader r = { .f = *f };
	struct archive_entry *entry;
	struct tar t = { 0 };
	int rc = begin(&r, e);

	while (rc == 0 && (rc = next(&r, &entry, e)) > 0)
		rc = add(&r, entry, &t, e);
	if (rc < 0) {
		tar_done(&t);
		return rc;
	}
	*ret = t;
	return 0;
}

/* The bytes of the member's map of data; of one without a map, all. */
static uint64_t mapped(struct archive_entry *entry)
{
	la_int64_t at, len;
	uint64_t sum = 0;

	if (archive_entry_sparse_reset(entry) == 0)
		return (uint64_t)archive_entry_size(entry);
	while (archive_entry_sparse_next(entry, &at, &len) == ARCHIVE_OK)
		if (!add_u64(sum, (uint64_t)len, &sum))
			return UINT64_MAX;
	return sum;
}

/* What isn't written of fd is a hole already.  All that the headers promise must be there, and nothing else. */
static int unpack_data(const struct reader *r, struct archive_entry *entry, int fd, struct cancel *cancel, struct err *e)
{
	uint64_t size = (uint64_t)archive_entry_size(entry), wanted = mapped(entry), sum = 0;
	const void *p;
	la_int64_t at;
	size_t len;
	int rc;

	while ((rc = archive_read_data_block(r->archive, &p, &len, &at)) == ARCHIVE_OK) {
		if (len && (at < 0 || !range_ok((uint64_t)at, len, size)))
			return err_set(e, ERR_CORRUPT, "tar archive: data at %" PRId64 " of a member of %" PRIu64 " bytes",
				       (int64_t)at, size);
		if (cancel_check(cancel, e) < 0 || (len && fs_pwrite_full(fd, p, len, (uint64_t)at, e) < 0))
			return e->code;
		sum += len;
	}
	if (rc != ARCHIVE_EOF)
		return failed(r, e);
	if (sum != wanted)
		return err_set(e, ERR_CORRUPT, "tar archive: a member has %" PRIu64 " bytes of data, and its headers say %" PRIu64,
			       sum, wanted);
	return 0;
}

int tar_unpack(const struct file *f, size_t number, int fd, uint64_t max_bytes, struct cancel *cancel, uint64_t *ret_size,
	       struct err *e)
{
	CLEANUP(reader_done) struct reader r = { .f = *f };
	struct archive_entry *entry = NULL;
	uint64_t size;
	int rc = begin(&r, e);

	for (size_t i = 0; rc >= 0 && i <= number; i++)
		rc = next(&r, &entry, e);
	if (rc < 0)
		return rc;
	if (!rc || archive_entry_size(entry) < 0)
		return err_set(e, ERR_CHANGED, "the archive was changed while it was read");
	size = (uint64_t)archive_entry_size(entry);
	if (max_bytes && size > max_bytes)
		return err_set(e, ERR_NOSPACE, "unpacked it has more than %" PRIu64 " bytes", max_bytes);
	if (FS_RETRY(ftruncate(fd, (off_t)size)) < 0)
		return err_sys(e, "size of %" PRIu64 " bytes", size);
	if (unpack_data(&r, entry, fd, cancel, e) < 0)
		return e->code;
	*ret_size = size;
	return 0;
}

void tar_done(struct tar *t)
{
	for (size_t i = 0; i < t->members.n; i++)
		free(t->members.p[i].name);
	VEC_DONE(&t->members);
}

static const char *plain(const char *name)
{
	while (name[0] == '.' && name[1] == '/')
		name += 2;
	return name;
}

const struct tar_member *tar_find(const struct tar *t, const char *name)
{
	for (size_t i = t->members.n; i-- > 0;)
		if (!strcmp(plain(t->members.p[i].name), plain(name)))
			return &t->members.p[i];
	return NULL;
}
