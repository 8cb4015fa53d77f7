/*
 * extents.c - the files that a descriptor names, opened and checked.
 */
#include <inttypes.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk_internal.h"

/* Opens the line's file by its name in UTF-8, else by the bytes that the descriptor has: whoever copied the files here
 * has made one of them. */
static int open_part(struct vmdk *v, const struct image_open_opts *o, const struct vmdk_line *l, uint32_t *ret,
		     struct err *e)
{
	struct err second = ERR_INIT;
	int r;

	if (!l->name[0])
		return err_set(e, ERR_CORRUPT, "descriptor: an extent's file name is empty");
	r = image_part_open(&v->im, o, l->name, "extent", ret, e);
	if (r != ERR_NOTFOUND || strcmp(l->name, l->stored) == 0)
		return r;
	if (image_part_open(&v->im, o, l->stored, "extent", ret, &second) < 0)
		return r;
	err_clear(e);
	return 0;
}

static bool wants_file(const struct vmdk_line *l)
{
	return l->kind != VMDK_ZERO && l->access != VMDK_NOACCESS;
}

/* All files are opened before anything points to one: im.parts moves as it grows. */
static int open_parts(struct vmdk *v, const struct image_open_opts *o, uint32_t *numbers, struct err *e)
{
	for (size_t i = 0; i < v->nextents; i++) {
		const struct vmdk_line *l = &v->d.lines.p[i];

		numbers[i] = UINT32_MAX;
		if (wants_file(l) && o->opener && open_part(v, o, l, &numbers[i], e) < 0)
			return e->code;
	}
	return 0;
}

int vmdk_files_take(struct vmdk *v, struct err *e)
{
	v->files = calloc(v->im.parts.n + 1, sizeof(*v->files));
	if (!v->files)
		return err_set(e, ERR_NOMEM, "%zu files of an image", v->im.parts.n + 1);
	v->nfiles = v->im.parts.n + 1;
	for (size_t i = 0; i < v->nfiles; i++)
		v->files[i] = (struct vmdk_file){
			.bytes = image_file(&v->im, (uint32_t)i), .id = image_file_identity(&v->im, (uint32_t)i),
			.path = i ? v->im.parts.p[i - 1].path : v->im.path,
		};
	return 0;
}

static int sparse_header(struct vmdk_sparse *s, enum vmdk_kind kind, struct err *e)
{
	uint8_t magic[4];

	if (kind == VMDK_SESPARSE)
		return vmdk_sesparse_header(s, e);
	/* SPARSE and VMFSSPARSE: the file knows which. */
	if (s->file->bytes.size < sizeof(magic))
		return err_set(e, ERR_CORRUPT, "file of %" PRIu64 " bytes has no header", s->file->bytes.size);
	if (file_pread_full(&s->file->bytes, magic, sizeof(magic), 0, e) < 0)
		return e->code;
	return get_le32(magic) == VMDK_COWD_MAGIC ? vmdk_cowd_header(s, e) : vmdk_sparse_header(s, e);
}

int vmdk_extent_fits(const struct vmdk_extent *x, struct err *e)
{
	const struct vmdk_sparse *s = x->sparse;

	if (s->capacity >= x->len && s->capacity - x->len < s->grain)
		return 0;
	return err_set(e, ERR_CORRUPT,
		       "the descriptor gives it %" PRIu64 " sectors, its own header %" PRIu64, x->len / VMDK_SECTOR,
		       s->capacity / VMDK_SECTOR);
}

static int open_sparse(struct vmdk_extent *x, struct err *e)
{
	if (x->file->sparse || x->file->flat)
		return err_set(e, ERR_CORRUPT, "two extents have the same sparse file");
	x->file->sparse = true;
	x->sparse = calloc(1, sizeof(*x->sparse));
	if (!x->sparse)
		return err_set(e, ERR_NOMEM, "sparse extent");
	x->sparse->file = x->file;
	if (sparse_header(x->sparse, x->kind, e) < 0)
		return e->code;
	if (!x->sparse->capacity)
		return err_set(e, ERR_CORRUPT, "the sparse header has no capacity");
	return vmdk_extent_fits(x, e);
}

static int open_flat(const struct vmdk_extent *x, bool force, struct err *e)
{
	uint64_t size = x->file->bytes.size;

	if (x->file->sparse)
		return err_set(e, ERR_CORRUPT, "one extent has it as a sparse file, another as a flat one");
	x->file->flat = true;
	/* What is missing was there once: zeros in its place are nobody's disk. */
	if (force || range_ok(x->offset, x->len, size))
		return 0;
	(void)err_set(e, ERR_CORRUPT, "file of %" PRIu64 " bytes is too short: the descriptor wants %" PRIu64
		      " bytes at %" PRIu64, size, x->len, x->offset);
	return err_hint(e, "find the whole file; --force reads what is missing as zeros");
}

static int open_one(struct vmdk_extent *x, bool force, struct err *e)
{
	char q[300];
	int r;

	if (!x->file)
		return 0;
	if (x->kind == VMDK_FLAT)
		r = open_flat(x, force, e);
	else
		r = open_sparse(x, e);
	return r < 0 ? err_ctx(e, "extent %s", text_quote(x->file->path, q, sizeof(q))) : 0;
}

int vmdk_extents_open(struct vmdk *v, const struct image_open_opts *o, struct err *e)
{
	CLEANUP(free_ptr) uint32_t *numbers = calloc(v->d.lines.n, sizeof(*numbers));
	uint64_t at = 0;

	v->extents = calloc(v->d.lines.n, sizeof(*v->extents));
	if (!v->extents || !numbers)
		return err_set(e, ERR_NOMEM, "%zu extents", v->d.lines.n);
	v->nextents = v->d.lines.n;
	if (open_parts(v, o, numbers, e) < 0 || vmdk_files_take(v, e) < 0)
		return e->code;
	for (size_t i = 0; i < v->nextents; i++) {
		const struct vmdk_line *l = &v->d.lines.p[i];
		struct vmdk_extent *x = &v->extents[i];

		*x = (struct vmdk_extent){
			.start = at, .len = l->sectors * VMDK_SECTOR, .kind = l->kind, .access = l->access,
			.file = numbers[i] == UINT32_MAX ? NULL : &v->files[numbers[i]],
			.offset = l->offset * VMDK_SECTOR,
		};
		at += x->len;
	}
	for (size_t i = 0; i < v->nextents; i++)
		if (open_one(&v->extents[i], o->force, e) < 0)
			return e->code;
	for (size_t i = 0; i < v->nextents; i++)
		if (v->extents[i].access == VMDK_NOACCESS && v->extents[i].kind != VMDK_ZERO)
			return vmdk_note_add(&v->note, "extents marked NOACCESS, which the guest can't read, are zeros",
					     e);
	return 0;
}

int vmdk_extent_alone(struct vmdk *v, struct vmdk_sparse **s, struct err *e)
{
	v->extents = calloc(1, sizeof(*v->extents));
	if (!v->extents)
		return err_set(e, ERR_NOMEM, "extent");
	v->nextents = 1;
	v->extents[0] = (struct vmdk_extent){
		.len = v->d.lines.n ? v->d.sectors * VMDK_SECTOR : (*s)->capacity, .kind = (*s)->kind,
		.file = &v->files[0],
	};
	v->extents[0].sparse = STEAL(*s);
	return vmdk_extent_fits(&v->extents[0], e);
}
