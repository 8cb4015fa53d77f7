/*
 * qcow2_write_crypt.c - clusters of images that are encrypted with LUKS.
 *
 * Each sector is encrypted by its place in the file.  What an encrypted file doesn't hold reads as noise, not as zeros:
 * a unit (cluster or subcluster) is written whole as soon as any of it is, and parts that come later are put into it.
 */
#include <string.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/crypt/crypt.h"
#include "formats/qcow2/qcow2_write_internal.h"

#define STEP_BYTES ((size_t)256 << 10)

struct q2w_crypt {
	struct imgcrypt *key;
	uint64_t header_off, header_len;
	pthread_mutex_t lock;	/* held while a part of a unit is written; taken before q->lock */
};

int q2w_crypt_new(struct q2w *q, const struct image_secret *s, unsigned ms, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *header = NULL;
	struct q2w_crypt *c = calloc(1, sizeof(*c));
	uint64_t first;
	size_t len;

	if (!c)
		return err_set(e, ERR_NOMEM, "encryption");
	pthread_mutex_init(&c->lock, NULL);
	q->crypt = c;
	if (luks_make(s, ms, &header, &len, &c->key, e) < 0 ||
	    q2w_alloc(q, div_up(len, q2w_cluster_size(q)), &first, e) < 0)
		return e->code;
	c->header_off = first << q->cluster_bits;
	c->header_len = len;
	return fs_pwrite_full(q->file.fd, header, len, c->header_off, e);
}

void q2w_crypt_free(struct q2w_crypt *c)
{
	if (!c)
		return;
	imgcrypt_free(c->key);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void q2w_crypt_header(const struct q2w_crypt *c, uint64_t *ret_off, uint64_t *ret_len)
{
	*ret_off = c->header_off;
	*ret_len = c->header_len;
}

int q2w_crypt_decrypt(struct q2w *q, uint8_t *buf, size_t len, uint64_t host, struct err *e)
{
	return imgcrypt_decrypt(q->crypt->key, buf, len, host / CRYPT_SECTOR, e);
}

int q2w_crypt_write(struct q2w *q, const uint8_t *buf, size_t len, uint64_t host, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *tmp = malloc(min_size(len, STEP_BYTES));

	if (!tmp)
		return err_set(e, ERR_NOMEM, "encryption");
	for (size_t n; len > 0; buf += n, len -= n, host += n) {
		n = min_size(len, STEP_BYTES);
		if (imgcrypt_encrypt(q->crypt->key, tmp, buf, n, host / CRYPT_SECTOR, e) < 0 ||
		    fs_pwrite_full(q->file.fd, tmp, n, host, e) < 0)
			return e->code;
	}
	return 0;
}

/* Puts bytes into a unit at host that is there already: whole sectors are read where only a part of one changes. */
static int patch(struct q2w *q, uint8_t *tmp, const uint8_t *buf, size_t len, uint64_t host, struct err *e)
{
	uint64_t start = round_down(host, CRYPT_SECTOR);
	size_t whole = (size_t)(round_up(host + len, CRYPT_SECTOR) - start);

	if (whole != len &&
	    (fs_pread_full(q->file.fd, tmp, whole, start, e) < 0 || q2w_crypt_decrypt(q, tmp, whole, start, e) < 0))
		return e->code;
	memcpy(tmp + (host - start), buf, len);
	return q2w_crypt_write(q, tmp, whole, start, e);
}

static int write_part(struct q2w *q, uint8_t *tmp, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	uint64_t size = q2w_unit_size(q), host = 0;
	bool fresh = false;

	if (q2w_place(q, round_down(off, size), size, &host, &fresh, e) < 0)
		return e->code;
	if (!fresh)
		return patch(q, tmp, buf, len, host + off % size, e);
	memset(tmp, 0, (size_t)size);
	memcpy(tmp + off % size, buf, len);
	return q2w_crypt_write(q, tmp, (size_t)size, host, e);
}

int q2w_crypt_write_part(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *tmp = malloc((size_t)q2w_unit_size(q));
	int rc;

	if (!tmp)
		return err_set(e, ERR_NOMEM, "part of a cluster");
	pthread_mutex_lock(&q->crypt->lock);
	rc = write_part(q, tmp, buf, len, off, e);
	pthread_mutex_unlock(&q->crypt->lock);
	return rc;
}
