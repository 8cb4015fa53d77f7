/*
 * vmdk_files.h - what the VMDK fuzz targets share: descriptors whose extents are the input, or a part of it.
 */
#ifndef KEDGE_TESTS_FUZZ_VMDK_FILES_H
#define KEDGE_TESTS_FUZZ_VMDK_FILES_H

#include <fcntl.h>

#include "tests/fuzz/walk.h"

/* Two files of equal content, so that a disk may have two sparse extents; a name's last byte chooses. */
struct vmdk_files {
	int fd[2];
};

static inline int vmdk_give(void *opaque, const char *reference, const char *what, struct image_part *ret,
			    struct err *e)
{
	const struct vmdk_files *f = opaque;

	(void)e;
	check(reference[0] && what[0]);
	*ret = (struct image_part){
		.path = strdup("extent"),
		.fd = fcntl(f->fd[reference[strlen(reference) - 1] & 1], F_DUPFD_CLOEXEC, 0),
	};
	check(ret->path && ret->fd >= 0);
	return 0;
}

/* first as an image, over files that hold extent. */
static inline void vmdk_walk(const void *first, size_t first_len, const uint8_t *extent, size_t len, bool force)
{
	struct vmdk_files files = { { file_of(extent, len), file_of(extent, len) } };
	const struct image_opener opener = { vmdk_give, &files };

	walk_image(walk_open(format_find("vmdk"), first, first_len, force, &opener));
	close(files.fd[0]);
	close(files.fd[1]);
}

/* The input as two extents of a kind, of so many sectors each, on either side of zeros. */
static inline void vmdk_walk_extent(const char *kind, uint64_t sectors, const uint8_t *data, size_t size)
{
	char text[400];
	int n = snprintf(text, sizeof(text),
			 "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n"
			 "RW %llu %s \"a\"\nRW 9 ZERO\nRDONLY %llu %s \"b\"\n",
			 (unsigned long long)sectors, kind, (unsigned long long)sectors, kind);

	check(n > 0 && (size_t)n < sizeof(text));
	vmdk_walk(text, (size_t)n, data, size, false);
}

#endif
