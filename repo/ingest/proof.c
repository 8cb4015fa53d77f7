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
 * was read: so for the current state all its layers must be settled now (image_is_settled), and all that was recorded
 * of them must have been read when they were, under the same start of the host: that is what `boot` of a layer says.
 * A run in which some tree came from an earlier one says it only where that one did.  So that there will be something
 * to say, all trees of the layers of a chain that is settled now are asked for that.
 *
 * What was read of a layer while it was a disk's top is reused only if it was settled then, and since this start of the
 * host, whatever the layer is now: a machine has written to it, and a crash may have lost the time of that.
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

/* What was recorded of the layer was read when its files were settled, since this host was started. */
static bool was_settled(const struct ingest_plan *p, const struct manifest_layer *was)
{
	return p->has_boot && was->has_boot && !memcmp(was->boot, p->boot, sizeof(was->boot));
}

bool proof_chain_settled(const struct ingest_plan *p, const struct chain *c)
{
	bool settled = p->has_boot;

	for (uint32_t k = 0; settled && k < c->nlayers; k++)
		settled = image_is_settled(c->layers[k]);
	return settled;
}

/* The recorded disk's layer `from` and all below it are layer k of the disk's chain and all below it, untouched; where
 * the chain is settled, what was recorded of its layers was read so. */
static bool all_untouched(const struct ingest_plan *p, const struct manifest *m, const struct manifest_disk *was,
			  uint32_t from, const struct plan_disk *d, uint32_t k)
{
	const struct chain *c = d->d->chain;

	for (; k != CHAIN_NONE && from != MANIFEST_NO_LAYER;
	     k = chain_below(c, k), from = manifest_layer_below(was, from))
		if (!is_untouched(p, m, &was->layers.p[from], c->layers[k]) ||
		    (d->settled && k < c->nlayers && !was_settled(p, &was->layers.p[from])))
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
			    const struct manifest_state_disk *row, const struct plan_disk *pd, struct plan_state *st,
			    struct err *e)
{
	const struct manifest_disk *d = &m->disks.p[row->disk];
	const struct chain *c = pd->d->chain;
	const struct image_state *is = image_state(st->image, st->index);

	if (was->kind != STATE_SNAPSHOT || !row->has_digest || row->layer != 0 || !row->snapshot_id || !d->layers.n)
		return 0;
	if (strcmp(row->snapshot_id, is->id) || strcmp(was->name, is->name) || row->date_ns != is->date_ns ||
	    row->tree.size != st->size || row->has_vm_state != (is->vm_state_bytes > 0) ||
	    (row->has_vm_state && row->vm_state.size != is->vm_state_bytes))
		return 0;
	if (!same_file(&d->layers.p[0], c->layers[0]) ||
	    !all_untouched(p, m, d, manifest_layer_below(d, 0), pd, chain_below(c, 0)))
		return 0;
	if (need_digest(st, e) < 0)
		return e->code;
	return !memcmp(row->digest, st->digest, sizeof(st->digest));
}

/*
 * Rule 3.  The layer may have been a disk's top then (its current state), a lower layer as it is now, or a snapshot of
 * the machine.  The top layer is what a machine writes to, also where a snapshot of the machine names it.
 */
static bool is_same_layer(const struct ingest_plan *p, const struct manifest *m, const struct manifest_state_disk *row,
			  const struct plan_disk *d, const struct plan_state *st)
{
	const struct manifest_disk *was = &m->disks.p[row->disk];

	if (row->snapshot_id || row->tree.size != st->size || (st->layer == 0 && !d->settled) ||
	    (row->layer == 0 && !was_settled(p, &was->layers.p[0])))
		return false;
	return all_untouched(p, m, was, row->layer, d, st->layer);
}

static int proof_in(const struct ingest_plan *p, const struct backup *b, const struct plan_disk *d,
		    struct plan_state *st, struct err *e)
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
			r = st->kind == STATE_SNAPSHOT && !st->machine ? is_same_snapshot(p, m, was, row, d, st, e)
								       : is_same_layer(p, m, row, d, st);
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
			st->proof_disk = &m->disks.p[row->disk];
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
		if (may_build_upon(p, &l->p[i - 1]) && proof_in(p, &l->p[i - 1], d, st, e) < 0)
			return e->code;
	return 0;
}

/* Rule 1 has its own reason to believe what is recorded of the file that holds the snapshot. */
void proof_unseen(const struct ingest_plan *p, const struct plan_disk *d, const struct plan_state *st, bool *unseen)
{
	const struct chain *c = d->d->chain;
	uint32_t k = st->layer, from = st->proof->layer;

	if (st->proof->snapshot_id) {
		k = chain_below(c, k);
		from = manifest_layer_below(st->proof_disk, from);
	}
	for (; k != CHAIN_NONE && from != MANIFEST_NO_LAYER;
	     k = chain_below(c, k), from = manifest_layer_below(st->proof_disk, from))
		unseen[k] |= !was_settled(p, &st->proof_disk->layers.p[from]);
}
