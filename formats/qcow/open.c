/*
 * open.c - opening a qcow image, and the reading ops.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/qcow/qcow.h"
#include "formats/qcow/qcow_internal.h"

int qcow_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size)
{
	(void)tail;
	(void)tail_len;
	(void)file_size;
	return head_len >= 8 && get_be32(head) == QCOW_MAGIC && get_be32(head + 4) == 1 ? 100 : 0;
}

/* Tells what can be done about a damaged image. */
static int damaged(const struct qcow *q, struct err *e)
{
	char s[200];

	if (e->code == ERR_CORRUPT)
		(void)err_hint(e, "restore %s, or copy it anew if it was copied incompletely; --force reads what of it is "
				  "sound",
			       text_shell(q->im.path, s, sizeof(s)));
	return e->code;
}

static int qcow_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			    struct err *e)
{
	struct qcow *q = (struct qcow *)im;
	struct err later = ERR_INIT;	/* of a run behind the first: found again, and reported, in its turn */
	struct qcow_run r, next;

	(void)state;
	if (qcow_run_at(q, off, limit, &r, e) < 0)
		return damaged(q, e);
	while (r.len < limit && r.kind != QCOW_RUN_COMPRESSED &&
	       qcow_run_at(q, off + r.len, limit - r.len, &next, &later) == 0 && next.kind == r.kind &&
	       (r.kind == QCOW_RUN_HOLE || next.host == r.host + r.len))
		r.len += next.len;
	*ret = (struct extent){ .start = off, .len = r.len, .kind = r.kind == QCOW_RUN_HOLE ? EXTENT_HOLE : EXTENT_DATA };
	if (r.kind != QCOW_RUN_HOLE)
		ret->origin = (struct extent_origin){
			.host = r.host, .inner = r.inner, .compressed = r.kind == QCOW_RUN_COMPRESSED
		};
	return 1;
}

/* A run at guest offset off. */
static int read_run(struct qcow *q, const struct qcow_run *r, uint8_t *buf, uint64_t off, struct err *e)
{
	const struct cache_block *b;

	switch (r->kind) {
	case QCOW_RUN_HOLE:
		memset(buf, 0, (size_t)r->len);
		return 0;
	case QCOW_RUN_DATA:
		if (q->im.locked)
			return err_set(e, ERR_INVALID, "encrypted, and no secret was given");
		if (q->crypt)
			return imgcrypt_pread(q->crypt, &q->im.file, buf, (size_t)r->len, r->host, off, e);
		return file_pread_padded(&q->im.file, buf, (size_t)r->len, r->host, e);
	case QCOW_RUN_COMPRESSED:
		break;
	}
	if (qcow_cluster_get(q, r->entry, &b, e) < 0)
		return e->code;
	memcpy(buf, b->data + r->inner, (size_t)r->len);
	block_cache_put(q->cache, b);
	return 0;
}

static int qcow_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct qcow *q = (struct qcow *)im;
	uint8_t *p = buf;

	(void)state;
	while (len) {
		struct qcow_run r;

		if (qcow_run_at(q, off, len, &r, e) < 0)
			return damaged(q, e);
		if (read_run(q, &r, p, off, e) < 0) {
			(void)err_ctx(e, "guest offset %" PRIu64, off);
			return damaged(q, e);
		}
		p += r.len;
		off += r.len;
		len -= (size_t)r.len;
	}
	return 0;
}

static void qcow_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct err unheard = ERR_INIT;	/* advice: who reads will find the error */
	struct qcow *q = (struct qcow *)im;
	struct qcow_run r;

	(void)state;
	for (; len; off += r.len, len -= r.len) {
		if (qcow_run_at(q, off, len, &r, &unheard) < 0)
			return;
		if (r.kind == QCOW_RUN_DATA)
			file_advise(&im->file, r.host, r.len, will_need);
		else if (r.kind == QCOW_RUN_COMPRESSED)
			file_advise(&im->file, r.host, qcow_compressed_len(q, r.entry), will_need);
	}
}

static void qcow_free(struct qcow *q)
{
	if (!q)
		return;
	if (q->cache) {
		block_cache_forget(q->cache, &q->owner_tables);
		block_cache_forget(q->cache, &q->owner_clusters);
		block_cache_unref(q->cache);
	}
	imgcrypt_free(q->crypt);
	free(q->tables);
	free(q->backing);
	image_base_done(&q->im);
	free(q);
}

static void qcow_close(struct image *im)
{
	qcow_free((struct qcow *)im);
}

static const struct image_ops qcow_ops = {
	.format = "qcow",
	.close = qcow_close,
	.next_extent = qcow_next_extent,
	.pread = qcow_pread,
	.state_digest = qcow_state_digest,
	.advise = qcow_advise,
};

static void take_info(struct qcow *q)
{
	q->current = (struct image_state){ .name = "current", .id = "", .size = q->h.size };
	q->im.states = &q->current;
	q->im.info = (struct image_info){
		.format = "qcow",
		.version = 1,
		.file_size = q->im.file.size,
		.virtual_size = q->h.size,
		.cluster_size = q->h.cluster_size,
		.nstates = 1,
		.backing = q->backing,
		.compression = "deflate",
		.encryption = q->h.crypt_method ? "aes" : NULL,
		.features = q->h.crypt_method ? (uint32_t)IMAGE_ENCRYPTED : 0,
	};
}

static int load(struct qcow *q, const struct image_open_opts *o, struct err *e)
{
	q->force = o->force;
	if (qcow_header_read(&q->im.file, &q->h, &q->backing, e) < 0)
		return e->code;
	take_info(q);
	if (q->backing && image_parent_add(&q->im, q->backing, e) < 0)
		return e->code;
	if (qcow_scan(q, e) < 0)
		return e->code;
	if (q->h.crypt_method && imgcrypt_unlock(&q->im.file, q->im.path, 0, NULL, o->secrets, &q->crypt, e) < 0)
		return e->code;
	q->im.locked = q->h.crypt_method && !q->crypt;
	return o->metadata_only ? 0 : qcow_state_digest(&q->im, 0, q->im.identity.metadata_digest, e);
}

/* Gives the file back before it releases the rest. */
static void drop_unopened(struct qcow **q)
{
	if (*q)
		(*q)->im.file.fd = -1;
	qcow_free(*q);
}

int qcow_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(drop_unopened) struct qcow *q = calloc(1, sizeof(*q));

	if (!q)
		return err_set(e, ERR_NOMEM, "qcow image");
	if (image_base_init(&q->im, &qcow_ops, fd, path, o, e) < 0)
		return e->code;
	if (block_cache_share(o->cache, &q->cache, e) < 0)
		return e->code;
	if (load(q, o, e) < 0) {
		(void)err_ctx(e, "qcow");
		return damaged(q, e);
	}
	*ret = &STEAL(q)->im;
	return 0;
}
