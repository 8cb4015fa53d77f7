/*
 * open.c - opening a VMDK: the descriptor, wherever it is, then the extents, then their tables.
 */
#include <inttypes.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/vmdk/vmdk.h"
#include "formats/vmdk/vmdk_internal.h"

#define MAGIC_BYTES 8

enum content { CONTENT_TEXT, CONTENT_SPARSE, CONTENT_COWD, CONTENT_SESPARSE };

static enum content content_of(const uint8_t *head, size_t len)
{
	if (len >= 4 && get_le32(head) == VMDK_MAGIC)
		return CONTENT_SPARSE;
	if (len >= 4 && get_le32(head) == VMDK_COWD_MAGIC)
		return CONTENT_COWD;
	if (len >= 8 && get_le64(head) == VMDK_SESPARSE_MAGIC)
		return CONTENT_SESPARSE;
	return CONTENT_TEXT;
}

int vmdk_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t file_size)
{
	(void)tail;
	(void)tail_len;
	(void)file_size;
	if (content_of(head, head_len) != CONTENT_TEXT)
		return 100;
	return vmdk_descriptor_looks(head, head_len) ? 100 : 0;
}

static void sparse_free(struct vmdk_sparse **s)
{
	if (*s)
		vmdk_sparse_done(*s);
	free(*s);
}

/* Releases all but the first file: that stays the caller's when opening fails. */
static void vmdk_free(struct vmdk *v)
{
	if (!v)
		return;
	for (size_t i = 0; v->cache && i < v->nfiles; i++) {
		block_cache_forget(v->cache, &v->files[i].owner_tables);
		block_cache_forget(v->cache, &v->files[i].owner_grains);
	}
	block_cache_unref(v->cache);
	for (size_t i = 0; i < v->nextents; i++)
		sparse_free(&v->extents[i].sparse);
	free(v->extents);
	free(v->files);
	free(v->note);
	free(v->damage);
	VEC_DONE(&v->pieces);
	vmdk_descriptor_done(&v->d);
	image_base_done(&v->im);
	free(v);
}

void vmdk_close(struct image *im)
{
	vmdk_free((struct vmdk *)im);
}

static void drop_unopened(struct vmdk **v)
{
	if (!*v)
		return;
	(*v)->im.file.fd = -1;
	vmdk_free(*v);
}

/* ---- ids ---- */

static void take_cid(uint32_t cid, char ret[static 40])
{
	ret[0] = '\0';
	if (cid != VMDK_CID_NONE && cid != VMDK_CID_LONG)
		snprintf(ret, 40, "%08" PRIx32, cid);
}

static void take_ids(const struct vmdk_descriptor *d, struct image_ids *own, struct image_ids *parent)
{
	/* An own id that is none is as one that is missing: no child's record fits it. */
	(void)vmdk_uuid_take(d->uuid_image, own->uuid);
	(void)vmdk_uuid_take(d->uuid_modify, own->modify);
	take_cid(d->cid, own->content);
	take_cid(d->parent_cid, parent->content);
	(void)vmdk_uuid_take(d->uuid_parent, parent->uuid);	/* these two are checked */
	if (parent->uuid[0])	/* without a parent its modification means nothing */
		(void)vmdk_uuid_take(d->uuid_parent_modify, parent->modify);
}

/* Where the parent may be: the name as it is, as Windows would mean it, and, if it can be known there, beside the
 * child: it may have come from another host, from any folder there. */
static int take_parent(struct vmdk *v, struct err *e)
{
	const char *hint = v->d.hint;

	take_ids(&v->d, &v->im.info.ids, &v->im.parent.ids);
	if (v->d.parent_cid == VMDK_CID_NONE || !hint || !hint[0])
		return 0;
	v->im.info.backing = hint;
	v->im.info.backing_format = "vmdk";
	if (image_parent_add(&v->im, hint, e) < 0)
		return e->code;
	if ((strchr(hint, '\\') || (hint[0] && hint[1] == ':')) && image_parent_add_windows(&v->im, hint, e) < 0)
		return e->code;
	if (!v->im.parent.ids.content[0] && !v->im.parent.ids.uuid[0])
		return vmdk_note_add(&v->note,
				     "the image below is taken by its name alone: parentCID=fffffffe says nothing of "
				     "it", e);
	hint = fs_basename(v->im.parent.refs.p[v->im.parent.refs.n - 1]);
	return hint[0] ? image_parent_add(&v->im, hint, e) : 0;
}

/* ---- descriptors ---- */

/* The bytes that may be a descriptor: all of a text file, a sparse file's embedded one; *ret NULL: there is none. */
static int read_text(const struct file *f, uint64_t at, uint64_t len, uint8_t **ret, struct err *e)
{
	uint8_t *text = malloc((size_t)len + 1);

	if (!text)
		return err_set(e, ERR_NOMEM, "descriptor of %" PRIu64 " bytes", len);
	if (file_pread_full(f, text, (size_t)len, at, e) < 0) {
		free(text);
		return e->code;
	}
	*ret = text;
	return 0;
}

static int load_text(struct vmdk *v, uint64_t at, uint64_t len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *text = NULL;

	if (len > VMDK_DESCRIPTOR_MAX)
		return err_set(e, ERR_INVALID, "no VMDK: neither a sparse header nor a descriptor");
	if (read_text(&v->im.file, at, len, &text, e) < 0)
		return e->code;
	if (!vmdk_descriptor_looks(text, (size_t)len))
		return err_set(e, ERR_INVALID, "no VMDK: the first line is not \"# Disk DescriptorFile\"");
	return vmdk_descriptor_parse(text, (size_t)len, &v->d, e);
}

/* *ret_has: the sparse file's place for a descriptor has one.  Extents of a split disk may leave it empty. */
static int load_embedded(struct vmdk *v, const struct vmdk_sparse *s, bool *ret_has, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *text = NULL;

	*ret_has = false;
	if (!s->descriptor_len)
		return 0;
	if (read_text(&v->im.file, s->descriptor, s->descriptor_len, &text, e) < 0)
		return e->code;
	if (bytes_all_zero(text, (size_t)s->descriptor_len))
		return 0;
	*ret_has = true;
	return vmdk_descriptor_parse(text, (size_t)s->descriptor_len, &v->d, e);
}

/* ---- the three kinds of a first file ---- */

static int extent_of_disk(struct vmdk *v, bool force, struct vmdk_sparse **s, struct err *e)
{
	if (!force) {
		(void)err_set(e, ERR_UNSUPPORTED, "an extent without a descriptor: a part of a disk");
		return err_hint(e,
				"name the disk's descriptor, the small file that lists its extents; or, to read this "
				"part alone, give --force");
	}
	if (!(*s)->capacity)
		return err_set(e, ERR_CORRUPT, "the sparse header has no capacity");
	v->d.create_type = strdup("extent");
	v->d.cid = v->d.parent_cid = VMDK_CID_NONE;
	return v->d.create_type ? vmdk_extent_alone(v, s, e) : err_set(e, ERR_NOMEM, "extent");
}

static int load_sparse(struct vmdk *v, enum content content, const struct image_open_opts *o, struct err *e)
{
	CLEANUP(sparse_free) struct vmdk_sparse *s = calloc(1, sizeof(*s));
	bool has = false;
	int r;

	if (!s)
		return err_set(e, ERR_NOMEM, "sparse extent");
	if (vmdk_files_take(v, e) < 0)
		return e->code;
	s->file = &v->files[0];
	r = content == CONTENT_COWD ? vmdk_cowd_header(s, e) :
	    content == CONTENT_SESPARSE ? vmdk_sesparse_header(s, e) : vmdk_sparse_header(s, e);
	if (r < 0 || load_embedded(v, s, &has, e) < 0)
		return e->code;
	if (!has)
		return extent_of_disk(v, o->force, &s, e);
	if (!s->capacity) {	/* a descriptor in a sparse file's clothes */
		free(STEAL(v->files));
		v->nfiles = 0;
		return vmdk_extents_open(v, o, e);
	}
	if (v->d.lines.n != 1 || v->d.lines.p[0].kind != VMDK_SPARSE)
		return err_set(e, ERR_UNSUPPORTED,
			       "descriptor: it lies in a sparse file and names other extents than that (%zu)",
			       v->d.lines.n);
	return vmdk_extent_alone(v, &s, e);
}

/* ---- opening ---- */

/* What is noted of extents is told of the first of them: a disk may have thousands. */
static int add_notes(struct vmdk *v, const struct vmdk_extent *x, const char *note, size_t more, struct err *e)
{
	CLEANUP(free_ptr) char *text = NULL;
	char q[300], rest[60] = "";

	if (!x)
		return 0;
	if (more)
		(void)snprintf(rest, sizeof(rest), "; there are notes of %zu more extents", more);
	text = x->file == v->files ? text_printf(e, "%s%s", note, rest) :
	       text_printf(e, "extent %s: %s%s", text_quote(x->file->path, q, sizeof(q)), note, rest);
	return text ? vmdk_note_add(&v->note, text, e) : e->code;
}

static int check_tables(struct vmdk *v, struct err *e)
{
	CLEANUP(free_ptr) char *first = NULL;
	const struct vmdk_extent *noted = NULL;
	size_t more = 0;
	char q[300];

	for (size_t i = 0; i < v->nextents; i++) {
		const struct vmdk_extent *x = &v->extents[i];
		CLEANUP(free_ptr) char *damage = NULL;
		CLEANUP(free_ptr) char *note = NULL;

		if (!x->sparse)
			continue;
		text_quote(x->file->path, q, sizeof(q));
		if (vmdk_tables_check(x->sparse, &note, &damage, e) < 0)
			return x->file == v->files ? e->code : err_ctx(e, "extent %s", q);
		more += noted && note;
		if (note && !noted) {
			noted = x;
			first = STEAL(note);
		}
		if (!damage || v->damage)
			continue;
		v->damage = x->file == v->files ? STEAL(damage) : text_printf(e, "extent %s: %s", q, damage);
		if (!v->damage)
			return e->code;
	}
	return add_notes(v, noted, first, more, e);
}

/* What the descriptor says the image is made of; an embedded one names its own file alone. */
static int take_pieces(struct vmdk *v, struct err *e)
{
	static const char *const kinds[] = { [VMDK_FLAT] = "FLAT", [VMDK_SPARSE] = "SPARSE", [VMDK_ZERO] = "ZERO",
					     [VMDK_COWD] = "VMFSSPARSE", [VMDK_SESPARSE] = "SESPARSE" };

	for (size_t i = 0; i < v->d.lines.n; i++) {
		const struct vmdk_line *l = &v->d.lines.p[i];
		struct image_piece *p = VEC_PUSH(&v->pieces, e);

		if (!p)
			return e->code;
		*p = (struct image_piece){ kinds[l->kind], l->name, l->sectors * VMDK_SECTOR };
	}
	v->im.info.pieces = v->pieces.p;
	v->im.info.npieces = (uint32_t)v->pieces.n;
	return 0;
}

/* It skips extent lines of other kinds than it knows, goes by the sparse header's capacity, reads the first directory
 * alone, and follows a hint whatever parentCID says. */
static const char *qemu_differs(const struct vmdk *v)
{
	const struct vmdk_extent *x = v->extents;

	if (image_has_parent(&v->im) || v->d.hint || v->d.parent_cid != VMDK_CID_NONE)
		return "it names a parent";
	if (v->nextents != 1 || x->kind != VMDK_SPARSE || x->access != VMDK_RW || !x->sparse)
		return "its extents aren't one sparse one in the file itself";
	if (x->len != x->sparse->capacity)
		return "the header's capacity isn't the disk's size";
	if (x->sparse->descriptor && x->sparse->descriptor != VMDK_SECTOR)
		return "its descriptor isn't at sector 1";
	if (v->note)	/* a copy used for what is damaged, above all */
		return v->note;
	return x->sparse->compressed && !x->sparse->markers ? "compressed grains without markers" : NULL;
}

static void take_info(struct vmdk *v)
{
	struct image_info *info = &v->im.info;

	v->current = (struct image_state){ .name = "current", .id = "" };
	v->im.states = &v->current;
	info->format = "vmdk";
	info->nstates = 1;
	info->version = v->d.version;
	info->file_size = v->im.file.size;
	info->variant = v->d.create_type;
	info->adapter = v->d.adapter;
	info->note = v->note;
	info->damage = v->damage;
	info->qemu_differs = qemu_differs(v);
	for (size_t i = 0; i < v->nextents; i++) {
		const struct vmdk_sparse *s = v->extents[i].sparse;

		info->virtual_size += v->extents[i].len;
		if (!s)
			continue;
		info->cluster_size = info->cluster_size ? info->cluster_size : (uint32_t)s->grain;
		info->compression = s->compressed ? "deflate" : info->compression;
		info->features |= s->unclean ? (uint32_t)IMAGE_DIRTY : 0;
	}
	v->current.size = info->virtual_size;
}

static int load(struct vmdk *v, const struct image_open_opts *o, struct err *e)
{
	uint8_t head[MAGIC_BYTES];
	enum content content;
	size_t len;
	int r;

	if (file_pread(&v->im.file, head, sizeof(head), 0, &len, e) < 0)
		return e->code;
	content = content_of(head, len);
	if (content != CONTENT_TEXT)
		r = load_sparse(v, content, o, e);
	else
		r = load_text(v, 0, v->im.file.size, e) < 0 ? e->code : vmdk_extents_open(v, o, e);
	if (r < 0 || take_parent(v, e) < 0 || check_tables(v, e) < 0)
		return e->code;
	take_info(v);
	if (content == CONTENT_TEXT && take_pieces(v, e) < 0)
		return e->code;
	return o->metadata_only ? 0 : vmdk_state_digest(&v->im, 0, v->im.identity.metadata_digest, e);
}

int vmdk_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(drop_unopened) struct vmdk *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_set(e, ERR_NOMEM, "VMDK image");
	r = image_base_init(&v->im, &vmdk_ops, fd, path, o, e);
	if (r < 0)
		return r;
	if (block_cache_share(o->cache, &v->cache, e) < 0)
		return e->code;
	if (load(v, o, e) < 0)
		return vmdk_damaged(e);
	*ret = &STEAL(v)->im;
	return 0;
}

int vmdk_read_ids(const struct file *f, struct image_ids *ret, struct err *e)
{
	CLEANUP(vmdk_descriptor_done) struct vmdk_descriptor d = { 0 };
	CLEANUP(free_ptr) uint8_t *text = NULL;
	struct image_ids parent = { 0 }, own = { 0 };
	uint64_t at = 0, len = f->size;
	uint8_t head[VMDK_HEADER_BYTES];
	struct vmdk_header h;

	if (f->size < sizeof(head))
		return 0;
	if (file_pread_full(f, head, sizeof(head), 0, e) < 0)
		return e->code;
	if (content_of(head, sizeof(head)) == CONTENT_SPARSE) {
		vmdk_header_decode(head, &h);
		if (!mul_u64(h.descriptor, VMDK_SECTOR, &at) || !mul_u64(h.descriptor_len, VMDK_SECTOR, &len) || !at)
			return 0;
	} else if (content_of(head, sizeof(head)) != CONTENT_TEXT) {
		return 0;
	}
	if (!len || len > VMDK_DESCRIPTOR_MAX || !range_ok(at, len, f->size))
		return 0;
	if (read_text(f, at, len, &text, e) < 0)
		return e->code;
	if (!vmdk_descriptor_looks(text, (size_t)len))
		return 0;
	if (vmdk_descriptor_parse(text, (size_t)len, &d, e) < 0)
		return e->code;
	take_ids(&d, &own, &parent);
	*ret = own;
	return own.uuid[0] || own.content[0];
}
