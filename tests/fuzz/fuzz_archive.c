/*
 * fuzz_archive.c - any bytes as an archive or compressed file.
 *
 * The first byte chooses the name's ending and what is wanted; the rest is the file.  At most 4 MiB may come out of it.
 */
#include "formats/archive/source.h"
#include "formats/archive/tar.h"
#include "tests/fuzz/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const endings[] = { "gz", "xz", "zst", "bz2", "lz4", "tar", "tgz", "tar.gz" };

static void walk_tar(int fd, size_t size)
{
	struct err e = ERR_INIT;
	struct tar t = { 0 };

	if (tar_list(&(struct file){ fd, 0, size }, &t, &e) < 0)
		check(e.code < 0 && e.cause[0]);
	for (size_t i = 0; i < t.members.n; i++) {
		const struct tar_member *m = &t.members.p[i];

		check(m->name[0] && tar_find(&t, m->name));
		check(m->sparse || range_ok(m->offset, m->size, size));
	}
	tar_done(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct source_opts o = { .temp_dir = "/dev/shm", .max_bytes = 4 * MIB };
	const struct image_open_opts io = { 0 };
	struct source s = { .file.fd = -1, .outer = -1 };
	const struct format *f;
	struct image *im = NULL;
	struct err e = ERR_INIT;
	char path[32];
	bool raw;
	int fd;

	if (!size)
		return 0;
	(void)snprintf(path, sizeof(path), "fuzz.%s", endings[*data & 7]);
	raw = *data & 8;
	fd = file_of(data + 1, size - 1);
	walk_tar(fd, size - 1);
	f = format_find("raw");
	if (source_open(fd, path, *data & 16 ? "a" : NULL, raw ? "raw" : NULL, &o, &s, &e) == 0 &&
	    (raw || source_probe(&s, path, &f, &e) == 0) && source_image(&s, f, path, &io, &o, &im, &e) == 0)
		walk_image(im);
	else
		check(e.code < 0 && e.cause[0]);
	source_done(&s);
	return 0;
}
