/*
 * ingest.c - one backup run: every disk's states in order, the audit, and what to do when something does not hold.
 *
 * A state that can't be read is left out of the manifest: a point that would be wrong must never be restorable as
 * right.  The others go on, and the backup is incomplete.  When a disk's files changed while they were read, no
 * single state can be blamed: its states are kept, because most of each is right and a person may want them, but the
 * backup is incomplete, and the problem names the disk.  An incomplete backup is never `latest`, and no later run
 * builds upon a disk of it that had a problem (proof.c).
 *
 * A disk is read again with less trust when the trees of earlier backups can't be read, and, whole and without any
 * base, when the audit finds a claim false.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/ingest/ingest_internal.h"
#include "repo/object.h"

#define AGAIN 1		/* the disk has to be read again */

int run_problem(struct run *run, const char *disk, const char *state, bool incomplete, struct err *e, const char *fmt,
		...)
{
	struct manifest_problem *p = VEC_PUSH(&run->m->problems, e);
	char text[2048];
	va_list ap;

	if (!p)
		return e->code;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->text = strdup(text);
	p->disk = disk ? strdup(disk) : NULL;
	p->state = state ? strdup(state) : NULL;
	if (!p->text || (disk && !p->disk) || (state && !p->state))
		return err_set(e, ERR_NOMEM, "no memory for a message");
	run->res.incomplete |= incomplete;
	return 0;
}

static void drop_problems(struct run *run, size_t n)
{
	while (run->m->problems.n > n) {
		struct manifest_problem *p = &run->m->problems.p[--run->m->problems.n];

		free(p->disk);
		free(p->state);
		free(p->text);
	}
}

/* --- states ---------------------------------------------------------------------------------------------------- */

static bool trusts_proof(const struct plan_disk *d, const struct plan_state *st)
{
	return st->proof && d->trust == TRUST_ALL;
}

/* An error that came from reading an earlier tree, not from the source or the store. */
static int tree_lost(struct run *run, int r, struct err *e)
{
	if (r >= 0 || !nodes_missed(run->nodes) || ingest_fatal(r))
		return r;
	err_clear(e);
	return AGAIN;
}

/* Takes over the tree that an earlier backup has.  Where an epoch is open its chunks may be about to be collected:
 * each is looked up. */
static int reuse(struct run *run, const struct plan_disk *d, struct plan_state *st, struct err *e)
{
	const struct manifest_state_disk *was = st->proof;
	int r = 0;

	st->tree = was->tree;
	st->vm_state = was->vm_state;
	if (run->p->look_up) {
		r = build_copy(run, d, st, &was->tree, false, &st->tree, e);
		if (r >= 0 && was->has_vm_state && !st->failed.code)
			r = build_copy(run, d, st, &was->vm_state, true, &st->vm_state, e);
	}
	r = tree_lost(run, r, e);
	if (r == AGAIN)
		st->proof = NULL;	/* nothing was built on it yet: it alone is read anew */
	if (r || st->failed.code)
		return r < 0 ? r : 0;
	st->done = true;
	st->did = READ_SAME;
	return 0;
}

/* The planned base, or another if that one could not be read: the nearest before it that has a tree. */
static const struct plan_state *base_of(const struct plan_disk *d, size_t i)
{
	const struct plan_state *st = &d->states.p[i];

	if (d->trust == TRUST_NOTHING)
		return NULL;
	if (st->base != NO_BASE && d->states.p[st->base].done)
		return &d->states.p[st->base];
	while (i-- > 0)
		if (d->states.p[i].done)
			return &d->states.p[i];
	return NULL;
}

/* Saved memory that claims more than there is would be read for ever. */
static bool vm_state_is_credible(const struct image *im, uint64_t bytes)
{
	return (im->info.features & IMAGE_EXTERNAL_DATA) || bytes <= im->info.file_size;
}

static int read_vm_state(struct run *run, const struct plan_disk *d, struct plan_state *st, struct err *e)
{
	uint64_t bytes = image_state(st->image, st->index)->vm_state_bytes;

	if (!bytes || st->failed.code)
		return 0;
	if (!vm_state_is_credible(st->image, bytes)) {
		(void)err_set(&st->failed, ERR_CORRUPT,
			      "claims %" PRIu64 " bytes of saved machine memory; the file has %" PRIu64, bytes,
			      st->image->info.file_size);
		return 0;
	}
	return build_vm_state(run, d, st, e);
}

static int read_state(struct run *run, const struct plan_disk *d, size_t i, struct err *e)
{
	struct plan_state *st = &d->states.p[i];
	const struct plan_state *base = base_of(d, i);
	int r = st->failed.code ? 0 : build_state(run, d, st, base, e);

	if (r >= 0)
		r = read_vm_state(run, d, st, e);
	r = tree_lost(run, r, e);
	if (r)
		return r;
	st->did_base = base ? (uint32_t)(base - d->states.p) : NO_BASE;
	st->did = !base ? READ_FULL : base->kind == STATE_LAYER ? READ_LAYER : READ_SNAPSHOT;
	st->done = !st->failed.code;
	return 0;
}

static bool is_needed(const struct plan_disk *d, size_t i)
{
	bool needed = d->states.p[i].selected;

	for (size_t k = 0; !needed && k < d->states.n; k++)
		needed = d->states.p[k].selected && !d->states.p[k].proof && d->states.p[k].base == i;
	return needed;
}

/* What an earlier backup holds comes first, because it may be the base of any other. */
static int do_states(struct run *run, const struct plan_disk *d, struct err *e)
{
	for (size_t i = 0; i < d->states.n; i++) {
		struct plan_state *st = &d->states.p[i];
		uint64_t before = pipe_bytes_read(run->pipe);
		int r;

		if (!trusts_proof(d, st) || !is_needed(d, i))
			continue;
		r = reuse(run, d, st, e);
		st->bytes_read = pipe_bytes_read(run->pipe) - before;
		if (r)
			return r;
	}
	for (size_t i = 0; i < d->states.n; i++) {
		struct plan_state *st = &d->states.p[i];
		uint64_t before = pipe_bytes_read(run->pipe);
		int r;

		if (st->done || !st->selected)
			continue;
		r = read_state(run, d, i, e);
		st->bytes_read += pipe_bytes_read(run->pipe) - before;
		if (r)
			return r < 0 ? err_ctx(e, "%s", st->selector) : r;
	}
	return 0;
}

static int report_failed(struct run *run, const struct plan_disk *d, struct err *e)
{
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];

	for (size_t i = 0; i < d->states.n; i++) {
		const struct plan_state *st = &d->states.p[i];

		if (st->selected && st->failed.code &&
		    run_problem(run, d->d->name, st->selector, true, e, "left out, because it can't be read: %s",
				err_text(&st->failed, text, sizeof(text))) < 0)
			return e->code;
	}
	return 0;
}

/* --- disks ----------------------------------------------------------------------------------------------------- */

/* Notes a change of the disk's files, once.  Any other failure to look at them counts as one. */
static int note_change(struct run *run, struct plan_disk *d, struct err *e)
{
	struct err why = ERR_INIT;
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];

	if (d->changed || chain_check_unchanged(d->d->chain, &why) >= 0)
		return 0;
	if (ingest_fatal(why.code)) {
		*e = why;
		return e->code;
	}
	d->changed = true;
	return run_problem(run, d->d->name, NULL, true, e,
			   "changed while it was read, so its states may be a mixture: %s",
			   err_text(&why, text, sizeof(text)));
}

static int note_false(struct run *run, struct plan_disk *d, const struct audit_finding *f, struct err *e)
{
	const struct plan_state *st = &d->states.p[f->state];

	if (note_change(run, d, e) < 0)
		return e->code;
	if (d->changed)
		return 0;	/* nothing was claimed falsely: it became another disk meanwhile */
	run->res.claim_false = true;
	return run_problem(run, d->d->name, st->selector, false, e,
			   "the image says that byte %" PRIu64
			   " is unchanged since %s, but it is not: the whole disk was read instead; something "
			   "writes to the image behind its metadata, or its storage loses data",
			   f->at, f->base != NO_BASE ? d->states.p[f->base].selector : st->proof_text);
}

/* Forgets what was done, to do it again. */
static void reset_disk(struct plan_disk *d, enum trust trust)
{
	d->trust = trust;
	for (size_t i = 0; i < d->states.n; i++) {
		struct plan_state *st = &d->states.p[i];

		st->done = false;
		err_clear(&st->failed);
		st->did_base = NO_BASE;
	}
}

/* One attempt.  AGAIN: with less trust; *ret_finding says why when it is TRUST_NOTHING. */
static int try_disk(struct run *run, struct plan_disk *d, struct audit_finding *ret_finding, struct err *e)
{
	double start = clock_mono();
	int r = do_states(run, d, e);

	d->seconds += clock_mono() - start;
	if (r) {
		if (r == AGAIN)
			reset_disk(d, TRUST_RUN);
		return r;
	}
	if (report_failed(run, d, e) < 0)
		return e->code;
	if (d->trust == TRUST_NOTHING) {
		d->bytes_unchanged = d->audit_owed = 0;
		return 0;
	}
	r = audit_disk(run, d, ret_finding, e);
	if (r > 0)
		reset_disk(d, r == AUDIT_FALSE ? TRUST_NOTHING : TRUST_RUN);
	return r < 0 ? r : r > 0 ? AGAIN : 0;
}

static int do_disk(struct run *run, struct plan_disk *d, struct err *e)
{
	uint64_t before = pipe_bytes_read(run->pipe);
	bool incomplete = run->res.incomplete;
	size_t nproblems = run->m->problems.n;
	struct audit_finding f = { 0 };
	int r;

	while ((r = try_disk(run, d, &f, e)) == AGAIN) {
		/* What failed is found again, and reported by the attempt that counts. */
		drop_problems(run, nproblems);
		run->res.incomplete = incomplete;
		if (d->trust == TRUST_RUN)
			repo_notice(run->p->r,
				    "disk %s: a tree of an earlier backup can't be read, so the disk is read anew; run "
				    "`kedge check`",
				    d->d->name);
		else if (note_false(run, d, &f, e) < 0)
			return e->code;
		nproblems = run->m->problems.n;
		incomplete = run->res.incomplete;
	}
	d->bytes_read = pipe_bytes_read(run->pipe) - before - d->bytes_audited;
	return r < 0 ? err_ctx(e, "disk %s", d->d->name) : note_change(run, d, e);
}

/* --- the run --------------------------------------------------------------------------------------------------- */

static int add_attachments(struct run *run, struct err *e)
{
	const struct ingest_opts *o = run->p->o;

	for (size_t i = 0; i < o->nattachments; i++) {
		const struct ingest_attachment *a = &o->attachments[i];
		struct manifest_attachment *out = VEC_PUSH(&run->m->attachments, e);

		if (!out)
			return e->code;
		out->mode = a->mode;
		out->name = text_printf(e, "%s", a->name);
		if (!out->name || repo_writer_add_bytes(run->w, a->p, a->len, &out->tree, e) < 0)
			return err_ctx(e, "attachment %s", a->name);
	}
	return 0;
}

static int do_all(struct run *run, struct err *e)
{
	struct ingest_plan *p = run->p;

	for (size_t i = 0; i < p->o->ndisks; i++)
		if (do_disk(run, &p->disks[i], e) < 0)
			return e->code;
	if (add_attachments(run, e) < 0)
		return e->code;
	/* Once more, just before the commit: an early disk may have changed while a later one was read. */
	for (size_t i = 0; i < p->o->ndisks; i++)
		if (note_change(run, &p->disks[i], e) < 0)
			return e->code;
	return record_fill(run, e);
}

int ingest_run(struct ingest_plan *p, struct repo_writer *w, struct manifest **ret_manifest, struct ingest_result *ret,
	       struct err *e)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = manifest_new(e);
	CLEANUP(nodes_free_cleanup) struct nodes *nodes = NULL;
	CLEANUP(pipe_free_cleanup) struct pipe *pl = NULL;
	CLEANUP(crypt_free_cleanup) struct crypt *crypt = NULL;
	struct run run = { .p = p, .w = w, .m = m, .audit_seconds = p->o->audit_value };

	if (!m || nodes_new(w, (p->o->max_bytes ? p->o->max_bytes : INGEST_DEFAULT_BYTES) / 4, &nodes, e) < 0 ||
	    pipe_new(p, w, &pl, e) < 0 || crypt_new(&crypt, e) < 0)
		return e->code;
	run.crypt = crypt;
	run.nodes = nodes;
	run.pipe = pl;
	if (do_all(&run, e) < 0)
		return e->code;
	*ret = run.res;
	*ret_manifest = STEAL(m);
	return 0;
}
