/* vimage.c - small VDI images built in memory. */
#include "tests/test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/vdi/vdi.h"
#include "tests/support/vimage.h"

static void extend(struct vimage *v, size_t len)
{
	if (len <= v->len)
		return;
	v->p = realloc(v->p, len);
	assert_non_null(v->p);
	memset(v->p + v->len, 0, len - v->len);
	v->len = len;
}

void vimage_le32(struct vimage *v, size_t at, uint32_t value)
{
	put_le32(v->p + at, value);
}

void vimage_le64(struct vimage *v, size_t at, uint64_t value)
{
	put_le64(v->p + at, value);
}

void vimage_entry(struct vimage *v, uint32_t block, uint32_t entry)
{
	put_le32(v->p + v->map + (size_t)block * 4, entry);
}

static void start(struct vimage *v, uint64_t size, uint32_t block, uint32_t extra, uint32_t version, size_t map)
{
	*v = (struct vimage){ .block = block, .extra = extra, .blocks = (uint32_t)div_up(size, block), .map = map };
	v->data = map + (size_t)v->blocks * 4;
	if (version > 2)
		v->data = round_up(v->data, 512);
	extend(v, v->data);
	memcpy(v->p, "<<< test >>>", 12);
	put_le32(v->p + 64, 0xbeda107f);
	put_le32(v->p + VIMAGE_VERSION, version);
	for (uint32_t i = 0; i < v->blocks; i++)
		vimage_entry(v, i, UINT32_MAX);
}

void vimage_init(struct vimage *v, uint64_t size, uint32_t block, uint32_t extra, uint8_t id)
{
	start(v, size, block, extra, 0x10001, 512);
	vimage_le32(v, VIMAGE_HEADER_SIZE, 400);
	vimage_le32(v, VIMAGE_TYPE, 1);
	vimage_le32(v, VIMAGE_MAP, (uint32_t)v->map);
	vimage_le32(v, VIMAGE_DATA, (uint32_t)v->data);
	vimage_le64(v, VIMAGE_SIZE, size);
	vimage_le32(v, VIMAGE_BLOCK, block);
	vimage_le32(v, VIMAGE_EXTRA, extra);
	vimage_le32(v, VIMAGE_BLOCKS, v->blocks);
	memset(v->p + VIMAGE_UUID, id, 16);
	memset(v->p + VIMAGE_MODIFY, id ^ 0x80, 16);
}

void vimage_init0(struct vimage *v, uint64_t size, uint32_t block, uint8_t id)
{
	start(v, size, block, 0, 2, 420);
	vimage_le32(v, 72, 1);
	vimage_le64(v, 352, size);
	vimage_le32(v, 360, block);
	vimage_le32(v, 364, v->blocks);
	memset(v->p + 372, id, 16);
	memset(v->p + 388, id ^ 0x80, 16);
}

void vimage_child(struct vimage *v, uint8_t parent)
{
	vimage_le32(v, VIMAGE_TYPE, 4);
	memset(v->p + VIMAGE_PARENT, parent, 16);
	memset(v->p + VIMAGE_PARENT_MODIFY, parent ^ 0x80, 16);
}

void vimage_done(struct vimage *v)
{
	free(v->p);
	*v = (struct vimage){ 0 };
}

size_t vimage_fill(struct vimage *v, uint32_t block, uint8_t fill)
{
	size_t at = v->data + (size_t)v->allocated * (v->block + v->extra) + v->extra;

	extend(v, at + v->block);
	memset(v->p + at - v->extra, 0xee, v->extra);
	memset(v->p + at, fill, v->block);
	vimage_entry(v, block, v->allocated++);
	vimage_le32(v, get_le32(v->p + VIMAGE_VERSION) > 2 ? VIMAGE_ALLOCATED : 368, v->allocated);
	return at;
}

const char *vimage_uuid(uint8_t id, bool modify, char buf[40])
{
	unsigned b = modify ? id ^ 0x80u : id;

	snprintf(buf, 40, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b, b, b, b, b, b, b, b, b, b,
		 b, b, b, b, b, b);
	return buf;
}

int vimage_fd(const struct vimage *v)
{
	int fd = memfd_create("vimage", MFD_CLOEXEC);
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	assert_ok(fs_pwrite_full(fd, v->p, v->len, 0, &e), &e);
	return fd;
}

void vimage_save(const struct vimage *v, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	assert_ok(fs_pwrite_full(fd, v->p, v->len, 0, &e), &e);
	close(fd);
}

int vimage_open(const struct vimage *v, bool force, struct image **ret, struct err *e)
{
	struct image_open_opts o = { .force = force };
	int fd = vimage_fd(v), r = vdi_open(fd, "test.vdi", &o, ret, e);

	if (r < 0)
		close(fd);
	return r;
}
