/* read.c - what the readers of encrypted images share: finding the secret, and reading. */
#include <inttypes.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/crypt/crypt.h"
#include "formats/file.h"

#define SECRETS_MAX 16

int imgcrypt_unlock(const struct file *f, const char *path, uint64_t off, const struct luks_header *h,
		    const struct image_secrets *s, struct imgcrypt **ret, struct err *e)
{
	const struct luks_limits limits = { LUKS_ROUNDS_ONE, LUKS_ROUNDS_ALL, s ? s->cancel : NULL };
	const struct image_secret *fit[SECRETS_MAX];
	size_t n = 0;

	for (int named = 1; named >= 0 && !n; named--)
		for (size_t i = 0; s && i < s->n && n < SECRETS_MAX; i++)
			if (named ? s->p[i].name && !strcmp(s->p[i].name, fs_basename(path)) : !s->p[i].name)
				fit[n++] = &s->p[i];
	if (!n)
		return 0;
	if (h)
		return luks_open(f, off, h, fit, n, &limits, ret, e);
	if (n == 1)
		return imgcrypt_aes_open(fit[0], ret, e);
	(void)err_set(e, ERR_INVALID, "encrypted with AES, where nothing tells which of %zu secrets is right", n);
	return err_hint(e, "--image-secret NAME=FILE says for which layer or disk each is");
}

int imgcrypt_pread(struct imgcrypt *c, const struct file *f, void *buf, size_t len, uint64_t host, uint64_t tweak,
		   struct err *e)
{
	size_t head = (size_t)(host % CRYPT_SECTOR), whole = (size_t)round_up(head + len, CRYPT_SECTOR);
	CLEANUP(free_ptr) uint8_t *tmp = NULL;
	uint8_t *to = buf;

	if (whole != len) {
		to = tmp = malloc(whole);
		if (!tmp)
			return err_set(e, ERR_NOMEM, "decryption of %zu bytes", whole);
	}
	if (file_pread_padded(f, to, whole, host - head, e) < 0 ||
	    imgcrypt_decrypt(c, to, whole, (tweak - head) / CRYPT_SECTOR, e) < 0)
		return e->code;
	if (tmp)
		memcpy(buf, tmp + head, len);
	return 0;
}
