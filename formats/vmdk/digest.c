/*
 * digest.c - what identifies the state of a VMDK without reading its data.
 *
 * state digest, see formats/digest.h:
 *	"kedge vmdk state 2"
 *	createType, CID, parentCID, parent's name, ddb.uuid.image, .parent, .modification, .parentmodification
 *	size; number of extents; of each: kind, access, guest bytes, number of its file (2^64 - 1 = none), offset in it
 *	    of a sparse one: version, capacity, grain, entries of a table, zero entries, compressed, markers,
 *	    SESparse's area of grains;
 *	    for each directory entry that isn't 0, in order: index, place of the table, and its bytes if they aren't all
 *	    zero; then 2^64 - 1
 *	of each file but the first: device, inode, size, mtime, ctime
 * Flat extents prove nothing about their content: that is what their files' times are for.
 *
 * metadata digest = state digest: there is one state.
 */
#include "base/fs.h"
#include "formats/file.h"
#include "formats/digest.h"
#include "formats/vmdk/vmdk_internal.h"

struct tables {
	struct digest *d;
	const struct vmdk_sparse *s;
	uint8_t *buf;		/* a table */
};

static int add_table(void *opaque, uint64_t index, uint64_t v, struct err *e)
{
	struct tables *t = opaque;
	const struct vmdk_sparse *s = t->s;
	uint64_t dir = vmdk_dir_for(s, index), table;
	uint8_t p[4];
	bool hole;

	if (dir != s->dir) {
		if (file_pread_full(&s->file->bytes, p, sizeof(p), dir + index * 4, e) < 0)
			return e->code;
		v = get_le32(p);
	}
	if (vmdk_table_of(s, v, &table))
		return err_set(e, ERR_CHANGED, "the image was changed while it was read");
	if (vmdk_table_read(s, table, t->buf, &hole, e) < 0)
		return e->code;
	digest_u64(t->d, index);
	digest_u64(t->d, table);
	if (!hole && !bytes_all_zero(t->buf, vmdk_table_bytes(s)))
		digest_bytes(t->d, t->buf, vmdk_table_bytes(s));
	return 0;
}

static int add_sparse(struct digest *d, const struct vmdk_sparse *s, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(vmdk_table_bytes(s));
	struct tables t = { d, s, buf };

	if (!buf)
		return err_set(e, ERR_NOMEM, "digest of a state");
	digest_u64(d, s->version);
	digest_u64(d, s->capacity);
	digest_u64(d, s->grain);
	digest_u64(d, s->table_entries);
	digest_u64(d, s->zero_entry);
	digest_u64(d, s->compressed);
	digest_u64(d, s->markers);
	digest_u64(d, s->grains);
	if (vmdk_scan_dir(s, s->dir, add_table, &t, e) < 0)
		return e->code;
	digest_u64(d, UINT64_MAX);
	return 0;
}

static void add_descriptor(struct digest *d, const struct vmdk_descriptor *x)
{
	digest_text(d, x->create_type);
	digest_u64(d, x->cid);
	digest_u64(d, x->parent_cid);
	digest_text(d, x->hint);
	digest_text(d, x->uuid_image);
	digest_text(d, x->uuid_parent);
	digest_text(d, x->uuid_modify);
	digest_text(d, x->uuid_parent_modify);
}

int vmdk_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct vmdk *v = (struct vmdk *)im;
	struct digest d;

	digest_begin(&d, "kedge vmdk state 2");
	add_descriptor(&d, &v->d);
	digest_u64(&d, im->states[state].size);
	digest_u64(&d, v->nextents);
	for (size_t i = 0; i < v->nextents; i++) {
		const struct vmdk_extent *x = &v->extents[i];

		digest_u64(&d, x->kind);
		digest_u64(&d, x->access);
		digest_u64(&d, x->len);
		digest_u64(&d, x->file ? (uint64_t)(x->file - v->files) : UINT64_MAX);
		digest_u64(&d, x->offset);
		if (x->sparse && add_sparse(&d, x->sparse, e) < 0)
			return e->code;
	}
	digest_parts(&d, im);
	digest_end(&d, digest);
	return 0;
}
