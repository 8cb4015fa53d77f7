/*
 * proof.c - when a state needs no reading: rules 1 and 3 of docs/design.md, 5.
 *
 * Rule 1, an image snapshot: the same file holds a snapshot of the same id, name and date, whose digest (header,
 * snapshot entry, L1 and L2 tables) is equal, over lower layers that are untouched.  QEMU never writes to a
 * snapshot's clusters, so the content is equal.
 * Rule 3, a lower layer, or the current state: it and all below it are untouched.
 *
 * Untouched is a file whose device, inode, size, times and metadata digest are as recorded, and whose change time was
 * more than 2 s old when the recording run started: a write in the same tick as the recorded change time would not
 * show.  That it stays so until this run ends is checked at the end (chain_check_unchanged).  A block device has no
 * such times and is never untouched.  Of an image's other files (external data, extents) the metadata digest holds the
 * identities; they must be as old.
 *
 * Nobody should write to a lower layer.  To the top layer somebody does, by any means, and may have been at it when it
 * was read: so for the current state all its layers must also have been settled when they were recorded, and be so
 * now (image_is_settled), under the same start of the host.
 */
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/ingest/ingest_internal.h"

/* What was recorded of a disk of an incomplete backup that had a problem may be torn: not to be built upon. */
static bool is_tainted(const struct manifest *m, const struct manifest_disk *d)
{
	for (size_t i = 0; !m->complete && i < m->problems.n; i++)
		if (!m->problems.p[i].disk || !strcmp(m->problems.p[i].disk, d->name))
			return true;
	return false;
}

static bool may_build_upon(const struct ingest_plan *p, const struct backup *b)
{
	return !b->pending && !b->distrusted && !strcmp(b->m->vm, p->o->vm);
}

const struct manifest *proof_last(const struct ingest_plan *p)
{
	const struct backup_list *l = p->o->backups;

	for (size_t i = l ? l->n : 0; i > 0; i--)
		if (may_build_upon(p, &l->p[i - 1]))
			return l->p[i - 1].m;
	return NULL;
}

static bool same_file(const struct manifest_layer *was, const struct image *im)
{
	return was->dev == im->identity.dev && was->ino == im->identity.ino &&
	       was->block_device == im->identity.block_device && !strcmp(was->format, im->info.format);
}

static bool is_untouched(const struct ingest_plan *p, const struct manifest *m, const struct manifest_layer *was,
			 const struct image *im)
{
	const struct image_identity *id = &im->identity;
	int64_t limit = (m->start_ns < p->start_ns ? m->start_ns : p->start_ns) - IMAGE_SETTLED_NS;

	for (size_t i = 0; i < im->parts.n; i++)
		if (im->parts.p[i].identity.block_device || im->parts.p[i].identity.ctime_ns >= limit)
			return false;
	return same_file(was, im) && !id->block_device && was->size == id->size &&
	       was->virtual_size == im->info.virtual_size && was->mtime_ns == id->mtime_ns &&
	       was->ctime_ns == id->ctime_ns && id->ctime_ns < limit &&
	       !memcmp(was->metadata, id->metadata_digest, sizeof(was->metadata));
}

static bool is_settled(const struct ingest_plan *p, const struct manifest_layer *was, const struct image *im)
{
	return p->has_boot && was->has_boot && !memcmp(was->boot, p->boot, sizeof(was->boot)) && image_is_settled(im);
}

/* The recorded disk's layer `from` and all below it are the chain's layer k and all below it, untouched; settled: and
 * settled. */
static bool all_untouched(const struct ingest_plan *p, const struct manifest *m, const struct manifest_disk *d,
			  uint32_t from, const struct chain *c, uint32_t k, bool settled)
{
	for (; k != CHAIN_NONE && from != MANIFEST_NO_LAYER; k = chain_below(c, k), from = manifest_layer_below(d, from))
		if (!is_untouched(p, m, &d->layers.p[from], c->layers[k]) ||
		    (settled && !is_settled(p, &d->layers.p[from], c->layers[k])))
			return false;
	return k == CHAIN_NONE && from == MANIFEST_NO_LAYER;
}

static int need_digest(struct plan_state *st, struct err *e)
{
	if (!st->has_digest && image_state_digest(st->image, st->index, st->digest, e) < 0)
		return e->code;
	st->has_digest = true;
	return 0;
}

/* Rule 1.  1: holds. */
static int is_same_snapshot(const struct ingest_plan *p, const struct manifest *m, const struct manifest_state *was,
			    const struct manifest_state_disk *row, const struct chain *c, struct plan_state *st,
			    struct err *e)
{
	const struct manifest_disk *d = &m->disks.p[row->disk];
	const struct image_state *is = image_state(st->image, st->index);

	if (was->kind != STATE_SNAPSHOT || !row->has_digest || row->layer != 0 || !row->snapshot_id || !d->layers.n)
		return 0;
	if (strcmp(row->snapshot_id, is->id) || strcmp(was->name, is->name) || row->date_ns != is->date_ns ||
	    row->tree.size != st->size || row->has_vm_state != (is->vm_state_bytes > 0) ||
	    (row->has_vm_state && row->vm_state.size != is->vm_state_bytes))
		return 0;
	if (!same_file(&d->layers.p[0], c->layers[0]) ||
	    !all_untouched(p, m, d, manifest_layer_below(d, 0), c, chain_below(c, 0), false))
		return 0;
	if (need_digest(st, e) < 0)
		return e->code;
	return !memcmp(row->digest, st->digest, sizeof(st->digest));
}

/* Rule 3.  The layer may have been a disk's top then (its current state), a lower layer as it is now, or a snapshot of
 * the machine. */
static bool is_same_layer(const struct ingest_plan *p, const struct manifest *m, const struct manifest_state_disk *row,
			  const struct chain *c, const struct plan_state *st)
{
	/* the top layer is what a machine writes to, also where a snapshot of the machine names it */
	return !row->snapshot_id && row->tree.size == st->size &&
	       all_untouched(p, m, &m->disks.p[row->disk], row->layer, c, st->layer, st->layer == 0);
}

static int proof_in(const struct ingest_plan *p, const struct backup *b, const struct chain *c, struct plan_state *st,
		    struct err *e)
{
	const struct manifest *m = b->m;

	for (size_t i = 0; i < m->states.n; i++) {
		const struct manifest_state *was = &m->states.p[i];

		for (size_t k = 0; k < was->disks.n; k++) {
			const struct manifest_state_disk *row = &was->disks.p[k];
			CLEANUP(free_ptr) char *selector = NULL;
			char when[32];
			int r;

			if (is_tainted(m, &m->disks.p[row->disk]))
				continue;
			r = st->kind == STATE_SNAPSHOT && !st->machine ? is_same_snapshot(p, m, was, row, c, st, e)
								       : is_same_layer(p, m, row, c, st);
			if (r <= 0) {
				if (r < 0)
					return r;
				continue;
			}
			selector = manifest_state_selector(was, e);
			if (!selector)
				return e->code;
			st->proof_text = text_printf(e, "%s@%s/%s", m->vm, clock_utc_text(m->end_ns, when), selector);
			if (!st->proof_text)
				return e->code;
			st->proof = row;
			return 0;
		}
	}
	return 0;
}

int proof_find(struct ingest_plan *p, const struct plan_disk *d, struct plan_state *st, struct err *e)
{
	const struct backup_list *l = p->o->backups;

	if (p->o->full_read)
		return 0;
	/* Newest first: its nodes are the likeliest to be cached. */
	for (size_t i = l ? l->n : 0; i > 0 && !st->proof; i--)
		if (may_build_upon(p, &l->p[i - 1]) && proof_in(p, &l->p[i - 1], d->d->chain, st, e) < 0)
			return e->code;
	return 0;
}
