/*
 * read.c - the reading ops: runs of the map put together, and their bytes.
 */
#include <inttypes.h>

#include "base/num.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2_internal.h"

static bool continues(const struct qcow2_run *a, const struct qcow2_run *b)
{
	if (a->kind != b->kind || a->kind == QCOW2_RUN_COMPRESSED)
		return false;
	return a->kind != QCOW2_RUN_DATA || a->host + a->len == b->host;
}

/* The data file alone is the disk: what its file system calls a hole is one, and so is what it is too short for. */
static int raw_data_run(struct qcow2 *q, uint64_t off, uint64_t limit, struct qcow2_run *ret, struct err *e)
{
	struct file f;
	uint64_t end = off + limit;
	bool data = false;

	if (!q->im.parts.n)
		return err_set(e, ERR_INVALID, "its external data file is not open");
	f = image_file(&q->im, 1);
	if (off < f.size && file_next_data(&f, off, min_u64(end, f.size), &data, &end, e) < 0)
		return err_ctx(e, "data file");
	*ret = (struct qcow2_run){ .kind = data ? QCOW2_RUN_DATA : QCOW2_RUN_ZERO, .len = end - off, .host = off };
	return 0;
}

static int run_at(struct qcow2 *q, uint32_t state, uint64_t off, uint64_t limit, struct qcow2_run *ret, struct err *e)
{
	return q->raw_data ? raw_data_run(q, off, limit, ret, e) : qcow2_run_at(q, state, off, limit, ret, e);
}

static int qcow2_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			     struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)im;
	struct err later = ERR_INIT;	/* of a run behind the first: found again, and reported, in its turn */
	struct qcow2_run r, next;

	if (run_at(q, state, off, limit, &r, e) < 0)
		return qcow2_damaged(q, e);
	while (r.len < limit && run_at(q, state, off + r.len, limit - r.len, &next, &later) == 0 &&
	       continues(&r, &next))
		r.len += next.len;
	*ret = (struct extent){ .start = off, .len = r.len };
	switch (r.kind) {
	case QCOW2_RUN_HOLE:
		ret->kind = EXTENT_HOLE;
		break;
	case QCOW2_RUN_ZERO:
		ret->kind = EXTENT_ZERO;
		break;
	case QCOW2_RUN_DATA:
		ret->kind = EXTENT_DATA;
		ret->origin = (struct extent_origin){ .file = q->data_file, .host = r.host };
		break;
	case QCOW2_RUN_COMPRESSED:
		ret->kind = EXTENT_DATA;
		ret->origin = (struct extent_origin){ .host = r.host, .inner = r.inner, .compressed = true };
		break;
	}
	return 1;
}

static int read_compressed(struct qcow2 *q, const struct qcow2_run *r, void *buf, struct err *e)
{
	const struct cache_block *b;

	if (qcow2_cluster_get(q, r->entry, &b, e) < 0)
		return e->code;
	memcpy(buf, b->data + r->inner, (size_t)r->len);
	block_cache_put(q->cache, b);
	return 0;
}

/* A run at guest offset off. */
static int read_data(struct qcow2 *q, const struct qcow2_run *r, void *buf, uint64_t off, struct err *e)
{
	struct file f;

	if (q->im.locked)
		return err_set(e, ERR_INVALID, "encrypted, and no secret was given");
	if (q->crypt)
		return imgcrypt_pread(q->crypt, &q->im.file, buf, (size_t)r->len, r->host,
				   q->crypt_by_host ? r->host : off, e);
	if (!q->data_file)
		return file_pread_padded(&q->im.file, buf, (size_t)r->len, r->host, e);
	if (!q->im.parts.n)
		return err_set(e, ERR_INVALID, "its external data file is not open");
	f = image_file(&q->im, 1);
	if (file_pread_padded(&f, buf, (size_t)r->len, r->host, e) < 0)
		return err_ctx(e, "data file");
	return 0;
}

/* Guest bytes of the state's tree, which maps machine state behind the disk's end too. */
static int read_at(struct qcow2 *q, uint32_t state, uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	while (len) {
		struct qcow2_run r;
		int err = 0;

		if (run_at(q, state, off, len, &r, e) < 0)
			return e->code;
		if (r.kind == QCOW2_RUN_DATA)
			err = read_data(q, &r, buf, off, e);
		else if (r.kind == QCOW2_RUN_COMPRESSED)
			err = read_compressed(q, &r, buf, e);
		else
			memset(buf, 0, (size_t)r.len);
		if (err < 0)
			return err_ctx(e, "guest offset %" PRIu64, off);
		buf += r.len;
		off += r.len;
		len -= (size_t)r.len;
	}
	return 0;
}

static int qcow2_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)im;

	return read_at(q, state, buf, len, off, e) < 0 ? qcow2_damaged(q, e) : 0;
}

static int qcow2_pread_vm_state(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)im;

	if (read_at(q, state, buf, len, q->st[state].vm_base + off, e) == 0)
		return 0;
	(void)err_ctx(e, "machine state");
	return qcow2_damaged(q, e);
}

static void qcow2_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct qcow2 *q = (struct qcow2 *)im;
	struct err unheard = ERR_INIT;	/* advice: who reads will find the error */
	struct file f = image_file(im, q->data_file);

	while (len) {
		struct qcow2_run r;

		if (run_at(q, state, off, len, &r, &unheard) < 0)
			return;
		if (r.kind == QCOW2_RUN_DATA)
			file_advise(&f, r.host, r.len, will_need);
		else if (r.kind == QCOW2_RUN_COMPRESSED)
			file_advise(&im->file, r.host, qcow2_compressed_len(q, r.entry), will_need);
		off += r.len;
		len -= r.len;
	}
}

const struct image_ops qcow2_ops = {
	.format = "qcow2",
	.close = qcow2_close,
	.next_extent = qcow2_next_extent,
	.pread = qcow2_pread,
	.pread_vm_state = qcow2_pread_vm_state,
	.state_digest = qcow2_state_digest,
	.advise = qcow2_advise,
};
