/*
 * record.c - what a run found out, as a manifest (docs/format.md, section 9).
 *
 * States of the disks come together where they are one condition of the VM: all current states; snapshots of one
 * name, if that name is unique on each disk; lower layers of one file name; what one snapshot of the machine has.  An
 * image's snapshot whose name is empty, or not unique on its disk, stays alone.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/ingest/ingest_internal.h"

/* Copies s (NULL: nothing to copy). */
static int set_text(char **ret, const char *s, struct err *e)
{
	if (!s)
		return 0;
	*ret = text_printf(e, "%s", s);
	return *ret ? 0 : e->code;
}

static int set_id(char **ret, const char *id, struct err *e)
{
	return set_text(ret, id[0] ? id : NULL, e);
}

static int push_text(struct manifest_disk *md, bool dropped, struct err *e, const char *s)
{
	char **slot = dropped ? VEC_PUSH(&md->dropped, e) : VEC_PUSH(&md->features, e);

	return slot ? set_text(slot, s, e) : e->code;
}

static int add_features(const struct image_info *info, struct manifest_disk *md, struct err *e)
{
	static const struct { uint32_t bit; const char *word; } words[] = {
		{ IMAGE_DIRTY, "dirty" }, { IMAGE_CORRUPT, "corrupt" }, { IMAGE_EXTERNAL_DATA, "external-data" },
		{ IMAGE_COMPRESSED_ZSTD, "zstd" }, { IMAGE_EXTENDED_L2, "extended-l2" }, { IMAGE_BITMAPS, "bitmaps" },
		{ IMAGE_LAZY_REFCOUNTS, "lazy-refcounts" }, { IMAGE_RAW_EXTERNAL, "raw-external" },
		{ IMAGE_ENCRYPTED, "encrypted" },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (info->features & words[i].bit && push_text(md, false, e, words[i].word) < 0)
			return e->code;
	for (uint32_t i = 0; i < info->nbitmaps; i++) {
		CLEANUP(free_ptr) char *text = text_printf(e, "bitmap %s", info->bitmaps[i].name);

		if (!text || push_text(md, true, e, text) < 0)
			return e->code;
	}
	return 0;
}

/* seen: nothing of the layer is from an earlier backup that may have read it while somebody wrote to it. */
static int add_layer(const struct ingest_plan *p, const struct image *im, bool seen, struct manifest_disk *md,
		     struct err *e)
{
	struct manifest_layer *l = VEC_PUSH(&md->layers, e);

	if (!l)
		return e->code;
	l->dev = im->identity.dev;
	l->ino = im->identity.ino;
	l->size = im->identity.size;
	l->mtime_ns = im->identity.mtime_ns;
	l->ctime_ns = im->identity.ctime_ns;
	l->block_device = im->identity.block_device;
	l->virtual_size = im->info.virtual_size;
	l->has_boot = p->has_boot && seen && image_is_settled(im);
	memcpy(l->boot, p->boot, sizeof(l->boot));
	memcpy(l->metadata, im->identity.metadata_digest, sizeof(l->metadata));
	return set_text(&l->path, im->path, e) < 0 || set_text(&l->format, im->info.format, e) < 0 ? e->code : 0;
}

/* How a disk was read is how its dearest state was. */
static enum read_how disk_how(const struct plan_disk *d)
{
	enum read_how how = READ_SAME;
	bool any = false;

	for (size_t i = 0; i < d->states.n; i++) {
		const struct plan_state *st = &d->states.p[i];

		if (!st->selected || !st->done)
			continue;
		any = true;
		if (st->did < how)	/* the enum rises as the cost falls */
			how = st->did;
	}
	return any ? how : READ_FULL;
}

static int add_layers(const struct ingest_plan *p, const struct plan_disk *d, struct manifest_disk *md, struct err *e)
{
	const struct chain *c = d->d->chain;
	const uint32_t nlayers = c->nlayers + c->nextra;
	CLEANUP(free_ptr) bool *unseen = calloc(nlayers, sizeof(*unseen));

	if (!unseen)
		return err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " layers", nlayers);
	for (size_t i = 0; i < d->states.n; i++)
		if (d->states.p[i].done && d->states.p[i].did == READ_SAME)
			proof_unseen(p, d, &d->states.p[i], unseen);
	for (uint32_t k = 0; k < nlayers; k++) {
		uint32_t below = chain_below(c, k);

		if (add_layer(p, c->layers[k], !unseen[k], md, e) < 0)
			return e->code;
		md->layers.p[k].has_below = c->nextra > 0;
		md->layers.p[k].below = below == CHAIN_NONE ? k : below;
	}
	return 0;
}

static int add_disk(struct run *run, const struct plan_disk *d, struct err *e)
{
	struct manifest_disk *md = VEC_PUSH(&run->m->disks, e);
	const struct image *top = d->d->chain->layers[0];
	struct image_info info = top->info;

	if (!md)
		return e->code;
	for (uint32_t k = 1; k < d->d->chain->nlayers; k++)	/* its content is this disk's too */
		info.features |= d->d->chain->layers[k]->info.features & IMAGE_ENCRYPTED;
	md->cluster_size = top->info.cluster_size;
	md->how = disk_how(d);
	md->bytes_read = d->bytes_read;
	md->bytes_unchanged = d->bytes_unchanged;
	md->bytes_audited = d->bytes_audited;
	md->audit_owed = d->audit_owed;
	run->res.bytes_unchanged += d->bytes_unchanged;
	run->res.bytes_audited += d->bytes_audited;
	if (set_id(&md->uuid, top->info.ids.uuid, e) < 0 || set_id(&md->modify_uuid, top->info.ids.modify, e) < 0 ||
	    set_id(&md->content_id, top->info.ids.content, e) < 0)
		return e->code;
	if (set_text(&md->name, d->d->name, e) < 0 || set_text(&md->format, top->info.format, e) < 0 ||
	    set_text(&md->path, d->d->path, e) < 0 || set_text(&md->domain, "default", e) < 0 ||
	    add_features(&info, md, e) < 0)
		return e->code;
	return add_layers(run->p, d, md, e);
}

static int add_row(struct manifest_state *ms, uint32_t disk, const struct plan_state *st, struct err *e)
{
	struct manifest_state_disk *row = VEC_PUSH(&ms->disks, e);
	const struct image_state *is = image_state(st->image, st->index);

	if (!row)
		return e->code;
	row->disk = disk;
	row->tree = st->tree;
	row->layer = st->layer;
	row->date_ns = plan_state_date(st);
	row->vm_clock_ns = is->vm_clock_ns;
	row->has_digest = st->has_digest;
	memcpy(row->digest, st->digest, sizeof(row->digest));
	row->has_vm_state = is->vm_state_bytes > 0;
	row->vm_state = st->vm_state;
	row->how = st->did;
	row->bytes_read = st->bytes_read;
	return st->kind == STATE_SNAPSHOT && !st->machine ? set_text(&row->snapshot_id, is->id, e) : 0;
}

/* The manifest's states while they are put together. */
struct states {
	struct run *run;
	VEC(bool) shared;	/* per state: other disks' of the same name may join */
};

/* The first `others` of the states are other disks': only those can be of the same name. */
static struct manifest_state *state_for(struct states *s, const struct plan_state *st, size_t others, struct err *e)
{
	struct manifest *m = s->run->m;
	struct manifest_state *ms;
	bool *shared;

	for (size_t i = 0; st->machine && i < others; i++)
		if (m->states.p[i].machine_id && !strcmp(m->states.p[i].machine_id, st->machine->id))
			return &m->states.p[i];
	for (size_t i = 0; !st->machine && st->name_unique && i < others; i++)
		if (s->shared.p[i] && m->states.p[i].kind == st->kind && !strcmp(m->states.p[i].name, st->name))
			return &m->states.p[i];
	shared = VEC_PUSH(&s->shared, e);
	ms = shared ? VEC_PUSH(&m->states, e) : NULL;
	if (!ms)
		return NULL;
	*shared = st->name_unique && !st->machine;
	ms->kind = st->kind;
	if (st->machine && (set_text(&ms->machine_id, st->machine->id, e) < 0 ||
			    set_text(&ms->parent_id, st->machine->parent_id, e) < 0 ||
			    set_text(&ms->description, st->machine->description, e) < 0))
		return NULL;
	return set_text(&ms->name, st->name, e) < 0 ? NULL : ms;
}

/* Current first, then snapshots, oldest first, then lower layers from the top down. */
static int add_states(struct states *s, enum state_kind kind, struct err *e)
{
	struct ingest_plan *p = s->run->p;

	for (uint32_t i = 0; i < p->o->ndisks; i++) {
		const struct plan_disk *d = &p->disks[i];
		size_t others = s->run->m->states.n;

		for (size_t k = 0; k < d->states.n; k++) {
			const struct plan_state *st = &d->states.p[kind == STATE_LAYER ? d->states.n - 1 - k : k];
			struct manifest_state *ms;

			if (st->kind != kind || !st->selected || !st->done)
				continue;
			ms = state_for(s, st, others, e);
			if (!ms || add_row(ms, i, st, e) < 0)
				return e->code;
		}
	}
	return 0;
}

static int add_words(struct run *run, struct err *e)
{
	const struct ingest_opts *o = run->p->o;
	struct manifest *m = run->m;
	char host[256] = "";

	(void)gethostname(host, sizeof(host) - 1);	/* fails for longer names, and leaves them cut */
	if (set_text(&m->vm, o->vm, e) < 0 || set_text(&m->vm_name, o->vm_name, e) < 0 ||
	    set_text(&m->host, host, e) < 0 || set_text(&m->machine_uuid, o->machine_uuid, e) < 0 ||
	    set_text(&m->machine_kind, o->machine_kind, e) < 0 ||
	    set_text(&m->machine_source, o->machine_source, e) < 0)
		return e->code;
	for (const char *const *t = o->tags; t && *t; t++) {
		char **slot = VEC_PUSH(&m->tags, e);

		if (!slot || set_text(slot, *t, e) < 0)
			return e->code;
	}
	return 0;
}

static void add_numbers(struct run *run)
{
	struct repo_writer_stats ws;
	struct manifest *m = run->m;

	repo_writer_stats(run->w, &ws);
	run->res.bytes_read = pipe_bytes_read(run->pipe);
	run->res.bytes_hashed = pipe_bytes_hashed(run->pipe);
	m->start_ns = run->p->start_ns;
	m->end_ns = clock_wall_ns();
	m->complete = !run->res.incomplete;
	m->bytes_read = run->res.bytes_read;
	m->bytes_hashed = run->res.bytes_hashed;
	m->bytes_new = ws.bytes_new;
	m->bytes_stored = ws.bytes_stored;
	m->milliseconds = (uint64_t)((clock_mono() - run->p->start) * 1000);
}

int record_fill(struct run *run, struct err *e)
{
	struct states s = { .run = run };
	int r = add_words(run, e);

	for (size_t i = 0; r >= 0 && i < run->p->o->ndisks; i++)
		r = add_disk(run, &run->p->disks[i], e);
	for (int kind = STATE_CURRENT; r >= 0 && kind <= STATE_LAYER; kind++)
		r = add_states(&s, (enum state_kind)kind, e);
	VEC_DONE(&s.shared);
	if (r < 0)
		return r;
	add_numbers(run);
	return 0;
}
