/*
 * fuzz_chain.c - names that images give of other files.  The input's lines are, for each of three qcow2 images, backing
 * file, backing format and data file (an empty line: none).  Whatever they are, nothing outside the images' folder is
 * opened, and nothing but regular files.  Also: any bytes as a file whose format is to be found out.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/chain.h"
#include "formats/formats.h"

#define IMAGES 3
#define CLUSTER 4096u
#define DISK (256 * KIB)	/* one L2 table's worth is 2 MiB: one L1 entry does */
#define HEADER 104u
#define NAME_MAX_BYTES 1023u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[IMAGES] = { "a.qcow2", "b.qcow2", "sub/c.qcow2" };

static void check(bool ok)
{
	if (!ok)
		abort();
}

static char dir[256], secret[300];

static void remove_folder(void)
{
	static const char *const all[] = { "a.qcow2", "b.qcow2", "sub/c.qcow2", "raw", "link", "sub/up", "loop", "fifo",
					   "outside", "sub" };
	char path[512];

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, all[i]);
		if (unlink(path) < 0)
			(void)rmdir(path);
	}
	(void)rmdir(dir);
	(void)unlink(secret);
}

static void at(char path[512], const char *name) { snprintf(path, 512, "%s/%s", dir, name); }

static void make_link(const char *target, const char *name)
{
	char path[512];

	at(path, name);
	check(symlink(target, path) == 0);
}

/* The images, a raw file, links that stay inside and links that lead out, and a FIFO whose opening would hang. */
static void make_folder(void)
{
	const char *tmp = getenv("TMPDIR");
	struct err e = ERR_INIT;
	char path[512];

	if (dir[0])
		return;
	snprintf(dir, sizeof(dir), "%s/kedge-fuzz.XXXXXX", tmp && strlen(tmp) < 200 ? tmp : "/tmp");
	check(mkdtemp(dir) != NULL);
	snprintf(secret, sizeof(secret), "%s.secret", dir);
	check(atexit(remove_folder) == 0);
	check(fs_write_atomic(secret, dir, CLUSTER / 32, true, 0600, &e) == 0);
	at(path, "sub");
	check(mkdir(path, 0700) == 0);
	at(path, "raw");
	check(fs_write_atomic(path, dir, sizeof(dir), true, 0600, &e) == 0);
	at(path, "fifo");
	check(mkfifo(path, 0600) == 0);
	make_link("sub/c.qcow2", "link");
	make_link("../b.qcow2", "sub/up");
	make_link("loop", "loop");
	make_link(secret, "outside");
}

struct line {
	const uint8_t *p;
	uint32_t len;
};

static struct line next_line(struct rd *r)
{
	const uint8_t *end = r->left ? memchr(r->p, '\n', r->left) : NULL;
	size_t len = end ? (size_t)(end - r->p) : r->left;
	struct line l = { r->p, (uint32_t)min_size(len, NAME_MAX_BYTES) };

	check(rd_skip(r, len) && (!end || rd_skip(r, 1)));
	return l;
}

static void put_extension(uint8_t **p, uint32_t type, const struct line *l)
{
	put_be32(*p, type);
	put_be32(*p + 4, l->len);
	memcpy(*p + 8, l->p, l->len);
	*p += 8 + round_up(l->len, 8);
}

/* A sound, empty qcow2 but for the three names. */
static void make_image(const char *name, const struct line *backing, const struct line *format, const struct line *data)
{
	uint8_t head[CLUSTER] = { 0 }, *p = head + HEADER;
	struct err e = ERR_INIT;
	char path[512];
	int fd;

	memcpy(head, "QFI\xfb", 4);
	put_be32(head + 4, 3);
	put_be32(head + 20, 12);		/* cluster bits */
	put_be64(head + 24, DISK);
	put_be32(head + 36, 1);			/* L1 entries */
	put_be64(head + 40, 3 * CLUSTER);
	put_be64(head + 48, CLUSTER);		/* refcounts */
	put_be32(head + 56, 1);
	put_be64(head + 72, data->len ? 4 : 0);	/* external data file */
	put_be32(head + 96, 4);
	put_be32(head + 100, HEADER);
	if (format->len)
		put_extension(&p, 0xe2792aca, format);
	if (data->len)
		put_extension(&p, 0x44415441, data);
	p += 8;
	if (backing->len) {
		put_be64(head + 8, (uint64_t)(p - head));
		put_be32(head + 16, backing->len);
		memcpy(p, backing->p, backing->len);
	}
	at(path, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd >= 0 && fs_pwrite_full(fd, head, sizeof(head), 0, &e) == 0 && ftruncate(fd, 4 * CLUSTER) == 0);
	close(fd);
}

/* Every file that was opened lies in the folder. */
static void check_layers(const struct chain *c)
{
	CLEANUP(free_ptr) char *root = realpath(dir, NULL);

	check(root != NULL && c->nlayers <= IMAGE_CHAIN_MAX);
	for (uint32_t i = 0; i < c->nlayers; i++) {
		CLEANUP(free_ptr) char *real = realpath(c->layers[i]->path, NULL);

		check(real && strncmp(real, root, strlen(root)) == 0 && real[strlen(root)] == '/');
		check(!c->layers[i]->identity.block_device);
	}
}

static void try_chain(const struct chain_opts *o)
{
	struct chain *c = NULL;
	struct err e = ERR_INIT;
	char path[512];
	uint8_t buf[64];

	at(path, names[0]);
	if (chain_open(path, o, &c, &e) < 0) {
		check(e.code < 0 && e.cause[0] && !c);
		return;
	}
	check_layers(c);
	if (image_pread(c->image, 0, buf, sizeof(buf), 0, &e) < 0)
		check(e.cause[0]);
	chain_close(c);
}

static void try_probe(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	const struct format *f = NULL;
	struct err e = ERR_INIT;

	check(fd >= 0 && fs_pwrite_full(fd, data, size, 0, &e) == 0);
	if (format_probe(fd, "fuzz", &f, &e) < 0)
		check(e.code < 0 && e.cause[0]);
	else
		check(f && f->probe && f->open);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const formats[] = { "raw", "b=qcow2", NULL };
	struct chain_opts alone = { 0 }, more = { .backing_formats = formats, .ignore_locks = true };
	struct rd r = rd_of(data, size);

	try_probe(data, size);
	make_folder();
	for (int i = 0; i < IMAGES; i++) {
		struct line backing = next_line(&r), format = next_line(&r), file = next_line(&r);

		make_image(names[i], &backing, &format, &file);
	}
	try_chain(&alone);
	try_chain(&more);
	return 0;
}
