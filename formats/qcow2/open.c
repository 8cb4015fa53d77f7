/*
 * open.c - opening a qcow2 image: header, then tables, each checked before the next is believed.
 */
#include <inttypes.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/qcow2/qcow2.h"
#include "formats/qcow2/qcow2_internal.h"

int qcow2_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size)
{
	(void)tail;
	(void)tail_len;
	(void)file_size;
	if (head_len < 8 || get_be32(head) != QCOW2_MAGIC)
		return 0;
	return get_be32(head + 4) == 2 || get_be32(head + 4) == 3 ? 100 : 0;
}

const char *qcow2_name_add(struct qcow2 *q, const void *p, size_t len, const char *what, struct err *e)
{
	struct qcow2_name *n;

	if (len && memchr(p, 0, len)) {
		(void)err_set(e, ERR_CORRUPT, "%s contains a NUL byte", what);
		return NULL;
	}
	n = malloc(sizeof(*n) + len + 1);
	if (!n) {
		(void)err_set(e, ERR_NOMEM, "%s", what);
		return NULL;
	}
	if (len)
		memcpy(n->text, p, len);
	n->text[len] = '\0';
	n->next = q->names;
	q->names = n;
	return n->text;
}

int qcow2_damaged(const struct qcow2 *q, struct err *e)
{
	char quoted[200];

	if (e->code == ERR_CORRUPT)
		(void)err_hint(e, "qemu-img check %s shows what is damaged; restore the image, or repair a copy",
			       text_shell(q->im.path, quoted, sizeof(quoted)));
	return e->code;
}

/* Releases all but the files: those stay the caller's when opening fails. */
static void qcow2_free(struct qcow2 *q)
{
	if (!q)
		return;
	if (q->cache) {
		block_cache_forget(q->cache, &q->owner_tables);
		block_cache_forget(q->cache, &q->owner_clusters);
		block_cache_unref(q->cache);
	}
	qcow2_decompress_done(q);
	imgcrypt_free(q->crypt);
	pthread_mutex_destroy(&q->zstd_lock);
	qcow2_meta_done(&q->meta);
	while (q->names) {
		struct qcow2_name *n = q->names;

		q->names = n->next;
		free(n);
	}
	free(q->bitmaps);
	free(q->bitmap_tables);
	free(q->im.states);
	free(q->st);
	image_base_done(&q->im);
	free(q);
}

void qcow2_close(struct image *im)
{
	qcow2_free((struct qcow2 *)im);
}

/* Gives the file back before it releases the rest. */
static void drop_unopened(struct qcow2 **q)
{
	if (!*q)
		return;
	(*q)->im.file.fd = -1;
	qcow2_free(*q);
}

static int take_names(struct qcow2 *q, const uint8_t *cluster, const struct qcow2_extensions *x, struct err *e)
{
	struct image_info *info = &q->im.info;

	if (q->h.backing_offset && q->h.backing_len) {
		info->backing = qcow2_name_add(q, cluster + q->h.backing_offset, q->h.backing_len,
					       "header: backing file name", e);
		if (!info->backing || image_parent_add(&q->im, info->backing, e) < 0)
			return e->code;
	}
	if (info->backing && x->backing_format.p && x->backing_format.left) {
		info->backing_format = qcow2_name_add(q, x->backing_format.p, min_size(x->backing_format.left, 1024),
						      "header: backing format", e);
		if (!info->backing_format)
			return e->code;
	}
	if (!q->data_file)
		return 0;
	if (!x->data_file.p || !x->data_file.left)
		return err_set(e, ERR_CORRUPT, "header: data are in an external file, and its name is missing");
	if (x->data_file.left > QCOW2_BACKING_NAME_MAX)
		return err_set(e, ERR_CORRUPT, "header: data file name of %zu bytes", x->data_file.left);
	info->data_file = qcow2_name_add(q, x->data_file.p, x->data_file.left, "header: data file name", e);
	return info->data_file ? 0 : e->code;
}

static void take_info(struct qcow2 *q)
{
	struct image_info *info = &q->im.info;
	const struct qcow2_header *h = &q->h;

	info->format = "qcow2";
	info->version = h->version;
	info->file_size = q->im.file.size;
	info->virtual_size = h->size;
	info->cluster_size = q->cluster_size;
	info->compression = h->compression_type ? "zstd" : "deflate";
	info->refcount_bits = 1u << h->refcount_order;
	info->features = (h->incompat & QCOW2_INCOMPAT_DIRTY ? (uint32_t)IMAGE_DIRTY : 0) |
			 (h->incompat & QCOW2_INCOMPAT_CORRUPT ? (uint32_t)IMAGE_CORRUPT : 0) |
			 (q->data_file ? (uint32_t)IMAGE_EXTERNAL_DATA : 0) |
			 (h->compression_type ? (uint32_t)IMAGE_COMPRESSED_ZSTD : 0) |
			 (q->extl2 ? (uint32_t)IMAGE_EXTENDED_L2 : 0) |
			 (info->nbitmaps ? (uint32_t)IMAGE_BITMAPS : 0) |
			 (h->compat & QCOW2_COMPAT_LAZY_REFCOUNTS ? (uint32_t)IMAGE_LAZY_REFCOUNTS : 0) |
			 (q->raw_data ? (uint32_t)IMAGE_RAW_EXTERNAL : 0) |
			 (h->crypt_method ? (uint32_t)IMAGE_ENCRYPTED : 0);
	info->encryption = h->crypt_method ? q->encryption : NULL;
}

static int add_regions(struct qcow2 *q, struct err *e)
{
	const struct qcow2_header *h = &q->h;
	uint32_t cluster = q->cluster_size;
	struct qcow2_meta *m = &q->meta;

	if (qcow2_meta_add_region(m, 0, 1, cluster, "header", QCOW2_NO_INDEX, e) < 0 ||
	    qcow2_meta_add_region(m, h->l1_offset, (uint64_t)h->l1_size * 8, cluster, "L1 table", QCOW2_NO_INDEX, e) <
		    0 ||
	    qcow2_meta_add_region(m, h->reftable_offset, (uint64_t)h->reftable_clusters * cluster, cluster,
				  "refcount table", QCOW2_NO_INDEX, e) < 0)
		return e->code;
	return 0;
}

static void take_geometry(struct qcow2 *q, const struct qcow2_header *h, const struct image_open_opts *o)
{
	q->h = *h;
	q->force = o->force;
	q->meta.tolerant = o->force;
	q->cluster_size = 1u << h->cluster_bits;
	q->extl2 = h->incompat & QCOW2_INCOMPAT_EXTL2;
	q->data_file = h->incompat & QCOW2_INCOMPAT_DATA_FILE;
	q->raw_data = q->data_file && h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
	q->l2_entry_bytes = q->extl2 ? 16 : 8;
	q->l1_shift = 2 * h->cluster_bits - (q->extl2 ? 4 : 3);
	q->unit_bits = h->cluster_bits - (q->extl2 ? 5 : 0);
}

/* Where the LUKS header is, read and entered among the metadata; what the image is encrypted with; its key. */
static int open_crypt(struct qcow2 *q, struct rd ext, const struct image_open_opts *o, struct err *e)
{
	bool luks = q->h.crypt_method == QCOW2_CRYPT_LUKS;
	struct luks_header h;
	uint64_t off = 0, len = 0;

	if (!q->h.crypt_method)
		return 0;
	snprintf(q->encryption, sizeof(q->encryption), "aes");
	if (luks) {
		if (!rd_be64(&ext, &off) || !rd_be64(&ext, &len))
			return err_set(e, ERR_CORRUPT, "header: encrypted with LUKS, and no extension says where its header is");
		if (off & (q->cluster_size - 1))
			return err_set(e, ERR_CORRUPT, "header: LUKS header at %" PRIu64 " is not aligned", off);
		if (luks_read(&q->im.file, off, len, &h, e) < 0 ||
		    qcow2_meta_add_region(&q->meta, off, len, q->cluster_size, "LUKS header", QCOW2_NO_INDEX, e) < 0)
			return e->code;
		(void)luks_text(&h, q->encryption, sizeof(q->encryption));
		q->crypt_by_host = true;
	}
	if (imgcrypt_unlock(&q->im.file, q->im.path, off, luks ? &h : NULL, o->secrets, &q->crypt, e) < 0)
		return e->code;
	q->im.locked = !q->crypt;
	return 0;
}

static int load(struct qcow2 *q, const struct image_open_opts *o, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *cluster = NULL;
	struct qcow2_extensions ext;
	struct qcow2_header h;
	uint32_t data_file;	/* always 1 */

	if (qcow2_header_read(&q->im.file, o->force, &h, &cluster, &ext, e) < 0)
		return e->code;
	take_geometry(q, &h, o);
	if (take_names(q, cluster, &ext, e) < 0)
		return e->code;
	if (q->data_file && o->opener &&
	    image_part_open(&q->im, o, q->im.info.data_file, "data file", &data_file, e) < 0)
		return e->code;
	if (add_regions(q, e) < 0 || open_crypt(q, ext.luks, o, e) < 0 || qcow2_snapshots_read(q, e) < 0 ||
	    qcow2_bitmaps_read(q, ext.bitmaps, e) < 0 || qcow2_meta_seal(&q->meta, e) < 0 ||
	    qcow2_scan_image(q, e) < 0 || qcow2_bitmaps_scan(q, e) < 0)
		return e->code;
	take_info(q);
	return o->metadata_only ? 0 : qcow2_metadata_digest(q, q->im.identity.metadata_digest, e);
}

int qcow2_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(drop_unopened) struct qcow2 *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return err_set(e, ERR_NOMEM, "qcow2 image");
	pthread_mutex_init(&q->zstd_lock, NULL);
	r = image_base_init(&q->im, &qcow2_ops, fd, path, o, e);
	if (r < 0)
		return r;
	if (block_cache_share(o->cache, &q->cache, e) < 0)
		return e->code;
	r = load(q, o, e);
	if (r < 0) {
		(void)err_ctx(e, "qcow2");
		return qcow2_damaged(q, e);
	}
	*ret = &STEAL(q)->im;
	return 0;
}
