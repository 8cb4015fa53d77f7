/*
 * ovf_manifest.c - an appliance's files: where they are, and whether they have the sums that its manifest gives.
 *
 *	SHA256(disk.vmdk)= 1f3d...	a line each; SHA1 and SHA512 too; writers differ in their blanks
 */
#include <ctype.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/archive/tar.h"
#include "formats/file.h"
#include "formats/machine/machine_internal.h"
#include "formats/reference.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define MANIFEST_MAX ((size_t)16 << 20)
#define SUM_TEXT_MAX (2 * EVP_MAX_MD_SIZE)
#define LINES_MAX 65536u

static int open_archive(const char *path, int *ret_fd, struct file *ret, struct tar *ret_tar, struct err *e)
{
	struct image_identity id;
	int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));

	if (fd < 0)
		return err_sys(e, "open");
	*ret_fd = fd;
	if (file_identity(fd, &id, e) < 0)
		return e->code;
	*ret = (struct file){ fd, 0, id.size };
	return tar_list(ret, ret_tar, e);
}

static bool is_descriptor(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && !strcasecmp(name + n - 4, ".ovf");
}

bool ova_is(const char *path)
{
	CLEANUP(tar_done) struct tar t = { 0 };
	CLEANUP(close_fd) int fd = -1;
	struct err unheard = ERR_INIT;
	uint8_t head[512];
	struct file f;
	size_t len;

	if (open_archive(path, &fd, &f, &t, &unheard) < 0 || file_pread(&f, head, sizeof(head), 0, &len, &unheard) < 0 ||
	    !tar_looks(head, len))
		return false;
	for (size_t i = 0; i < t.members.n; i++)
		if (is_descriptor(t.members.p[i].name))
			return true;
	return false;
}

static int find_descriptor(const struct tar *t, const struct tar_member **ret, struct err *e)
{
	*ret = NULL;
	for (size_t i = 0; i < t->members.n; i++) {
		if (!is_descriptor(t->members.p[i].name))
			continue;
		if (*ret)
			return err_set(e, ERR_CORRUPT, "the archive has two descriptors (.ovf)");
		*ret = &t->members.p[i];
	}
	return *ret ? 0 : err_set(e, ERR_CORRUPT, "the archive has no descriptor (.ovf)");
}

/* The whole of a member, at most max bytes. */
static int read_member(const struct file *f, const struct tar_member *m, size_t max, uint8_t **ret, size_t *ret_len,
		       struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	char q[200];

	text_quote(m->name, q, sizeof(q));
	if (m->sparse || m->size > max)
		return err_set(e, ERR_INVALID, "%s: more than the %zu bytes that are kept", q, max);
	p = malloc((size_t)m->size + 1);
	if (!p)
		return err_set(e, ERR_NOMEM, "%s: no memory for it", q);
	if (fs_pread_full(f->fd, p, (size_t)m->size, f->start + m->offset, e) < 0)
		return err_ctx(e, "%s", q);
	p[m->size] = 0;
	*ret = STEAL(p);
	*ret_len = (size_t)m->size;
	return 0;
}

int ova_read(const char *path, const char *name, size_t max, char **ret_name, uint8_t **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(tar_done) struct tar t = { 0 };
	CLEANUP(close_fd) int fd = -1;
	const struct tar_member *m = NULL;
	char q[200];
	struct file f;

	if (open_archive(path, &fd, &f, &t, e) < 0 || (!name && find_descriptor(&t, &m, e) < 0))
		return e->code;
	if (name)
		m = tar_find(&t, name);
	if (!m)
		return err_set(e, ERR_NOTFOUND, "the archive has no %s", text_quote(name, q, sizeof(q)));
	if (read_member(&f, m, max, ret, ret_len, e) < 0)
		return e->code;
	return ret_name ? machine_text(ret_name, m->name, e) : 0;
}

bool machine_in_archive(const struct machine *m)
{
	return m->kind == MACHINE_OVF && !is_descriptor(m->path);
}

/* --- the manifest -------------------------------------------------------------------------------------------------- */

struct check {
	const struct machine *m;
	const char *const *allow;
	struct cancel *cancel;
	struct tar tar;
	struct file archive;		/* fd -1: files lie in the folder */
	uint8_t *buf;			/* PIECE_BYTES */
};

static void check_done(struct check *c)
{
	tar_done(&c->tar);
	close_fd(&c->archive.fd);
	free(c->buf);
}

static int hash_file(const struct check *c, const struct file *f, const EVP_MD *md, char text[SUM_TEXT_MAX + 1], struct err *e)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned sum_len = 0;
	bool ok = ctx && EVP_DigestInit_ex(ctx, md, NULL) == 1;
	int r = 0;

	for (uint64_t at = 0; ok && r == 0 && at < f->size; at += PIECE_BYTES) {
		size_t n = (size_t)min_u64(PIECE_BYTES, f->size - at);

		r = cancel_check(c->cancel, e) < 0 ? e->code : file_pread_full(f, c->buf, n, at, e);
		ok = r < 0 || EVP_DigestUpdate(ctx, c->buf, n) == 1;
	}
	ok = ok && EVP_DigestFinal_ex(ctx, sum, &sum_len) == 1;
	EVP_MD_CTX_free(ctx);
	if (r < 0)
		return r;
	if (!ok)
		return err_set(e, ERR_NOMEM, "libcrypto can't compute the sum");
	text_hex(sum, sum_len, text);
	return 0;
}

/* Opens a file that the manifest names: *ret_fd is -1 where it is a part of the archive. */
static int open_listed(const struct check *c, const char *name, int *ret_fd, struct file *ret, struct err *e)
{
	const struct tar_member *m;
	struct image_identity id;
	char *path = NULL;

	if (c->archive.fd >= 0) {
		m = tar_find(&c->tar, name);
		if (!m)
			return err_set(e, ERR_NOTFOUND, "the archive doesn't have it");
		if (m->sparse)
			return err_set(e, ERR_UNSUPPORTED, "it is stored as a sparse file");
		*ret = (struct file){ c->archive.fd, m->offset, m->size };
		return 0;
	}
	if (reference_open(c->m->path, name, "file", c->allow, NULL, ret_fd, &path, e) < 0)
		return e->code;
	free(path);
	if (file_identity(*ret_fd, &id, e) < 0)
		return e->code;
	*ret = (struct file){ *ret_fd, 0, id.size };
	return 0;
}

/* "ALGORITHM(NAME)= SUM"; the parts are cut out of line. */
static bool split_line(char *line, char **ret_algorithm, char **ret_name, char **ret_sum)
{
	char *open = strchr(line, '('), *close = strrchr(line, ')'), *end;

	if (!open || !close || close < open)
		return false;
	*ret_algorithm = line;
	*ret_name = open + 1;
	for (end = open; end > line && isspace((unsigned char)end[-1]); end--)
		;
	*end = '\0';
	*close = '\0';
	close++;
	close += strspn(close, " \t=");
	close[strcspn(close, " \t\r")] = '\0';
	*ret_sum = close;
	return *line && **ret_name && *close;
}

static int check_line(struct check *c, char *line, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	char *algorithm, *name, *sum, have[SUM_TEXT_MAX + 1], q[300];
	const EVP_MD *md;
	struct file f;

	if (!split_line(line, &algorithm, &name, &sum))
		return err_set(e, ERR_CORRUPT, "\"%s\" is no line of a manifest", text_quote(line, q, sizeof(q)));
	text_quote(name, q, sizeof(q));
	md = !strcasecmp(algorithm, "SHA1") ? EVP_sha1() : !strcasecmp(algorithm, "SHA256") ? EVP_sha256() :
	     !strcasecmp(algorithm, "SHA512") ? EVP_sha512() : NULL;
	if (!md)
		return err_set(e, ERR_UNSUPPORTED, "%s has an unknown kind of sum", q);
	if (open_listed(c, name, &fd, &f, e) < 0 || hash_file(c, &f, md, have, e) < 0)
		return err_ctx(e, "%s", q);
	if (!strcasecmp(have, sum))
		return 0;
	return err_set(e, ERR_CORRUPT, "%s was changed: its %s is %.20s..., the manifest says %.20s...", q, algorithm, have, sum);
}

static int check_lines(struct check *c, char *text, struct err *e)
{
	unsigned n = 0;

	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!line[strspn(line, " \t\r")])
			continue;
		if (n++ == LINES_MAX)
			return err_set(e, ERR_UNSUPPORTED, "more than %u lines", LINES_MAX);
		if (check_line(c, line, e) < 0)
			return e->code;
	}
	return 0;
}

int machine_verify(const struct machine *m, const char *const *allow, struct cancel *cancel, struct err *e)
{
	CLEANUP(check_done) struct check c = { .m = m, .allow = allow, .cancel = cancel, .archive.fd = -1 };
	CLEANUP(free_ptr) uint8_t *text = NULL;
	const struct machine_file *manifest = NULL;
	uint32_t mode;
	size_t len;

	for (size_t i = 0; i < m->files.n; i++)
		if (m->files.p[i].role == MACHINE_MANIFEST)
			manifest = &m->files.p[i];
	if (!manifest)
		return 0;
	if (machine_read_file(m, manifest, allow, MANIFEST_MAX, &text, &len, &mode, e) < 0) {
		if (e->code != ERR_NOTFOUND)
			return e->code;
		err_clear(e);
		return 0;
	}
	c.buf = malloc(PIECE_BYTES);
	if (!c.buf)
		return err_set(e, ERR_NOMEM, "no memory to compute sums");
	if (machine_in_archive(m) && open_archive(m->path, &c.archive.fd, &c.archive, &c.tar, e) < 0)
		return e->code;
	if (check_lines(&c, (char *)text, e) < 0) {
		(void)err_ctx(e, "%s", manifest->path);
		if (e->code == ERR_CANCELLED || e->code == ERR_NOMEM)
			return e->code;
		return err_hint(e, "get the appliance again; --force reads it as it is");
	}
	return 1;
}
