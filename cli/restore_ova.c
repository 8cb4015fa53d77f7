/*
 * restore_ova.c - OVF packages: digests.
 */
#include "cli/restore_ova.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"

#define READ_BYTES ((size_t)1 << 20)

static void context_done(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}

static int hash(int fd, uint64_t off, uint64_t len, EVP_MD_CTX *c, uint8_t *buf, struct err *e)
{
	while (len) {
		size_t n;

		if (fs_pread(fd, buf, (size_t)min_u64(len, READ_BYTES), off, &n, e) < 0)
			return e->code;
		if (!n)
			break;
		if (EVP_DigestUpdate(c, buf, n) != 1)
			return err_set(e, ERR_NOMEM, "no memory for SHA-256");
		off += n;
		len -= n;
	}
	return 0;
}

int restore_sha256(const char *path, uint64_t off, uint64_t len, char ret[static RESTORE_SHA256_BYTES], struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	CLEANUP(free_ptr) uint8_t *buf = malloc(READ_BYTES);
	CLEANUP(context_done) EVP_MD_CTX *c = EVP_MD_CTX_new();
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n;

	if (fd < 0)
		return err_sys(e, "%s", path);
	if (!buf || !c || EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1)
		return err_set(e, ERR_NOMEM, "no memory for SHA-256");
	if (hash(fd, off, len, c, buf, e) < 0)
		return err_ctx(e, "%s", path);
	if (EVP_DigestFinal_ex(c, sum, &n) != 1 || n != 32)
		return err_set(e, ERR_NOMEM, "no memory for SHA-256");
	(void)text_hex(sum, n, ret);
	return 0;
}
