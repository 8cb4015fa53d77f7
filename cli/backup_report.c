/*
 * backup_report.c - what `kedge backup` says before and after.
 */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/backup_internal.h"
#include "cli/msg.h"

#define ROWS_SHOWN 16

static const char *how_text(enum read_how how)
{
	static const char *const texts[] = {
		[READ_FULL] = "everything allocated", [READ_SNAPSHOT] = "what differs from another state",
		[READ_LAYER] = "what lies above the layer below", [READ_SAME] = "nothing, it is stored already",
	};

	return texts[how];
}

void backup_say_plan(struct cli *c, const struct sources *s, const struct ingest_plan *p)
{
	const struct ingest_plan_row *rows;
	size_t n = ingest_plan_rows(p, &rows), stored = 0, shown = 0, more = 0;
	char size[MSG_SIZE_BYTES], state[128], base[160];
	uint64_t sum = 0, more_bytes = 0;

	for (size_t i = 0; i < n; i++)
		sum += rows[i].bytes_max;
	msg_note(c, "VM %s: %zu state%s of %zu disk%s, at most %s to read", s->vm, n, msg_plural(n), s->disks.n,
		 msg_plural(s->disks.n), msg_size(c, sum, size));
	for (size_t i = 0; i < n; i++) {
		const struct ingest_plan_row *r = &rows[i];

		/* Of many snapshots the ones that cost nothing are only counted, as are all but the first of the
		 * others. */
		if (n > ROWS_SHOWN && r->how == READ_SAME) {
			stored++;
			continue;
		}
		if (shown == ROWS_SHOWN && !c->g.verbose) {
			more++;
			more_bytes += r->bytes_max;
			continue;
		}
		shown++;
		text_quote(r->state, state, sizeof(state));
		if (r->base)
			text_quote(r->base, base, sizeof(base));
		if (r->how == READ_SAME)
			msg_note(c, "  %s %s: same as %s, nothing to read", s->disks.p[r->disk].name, state,
				 r->base ? base : "one that is stored");
		else
			msg_note(c, "  %s %s: %s%s%s (%s)", s->disks.p[r->disk].name, state, read_how_name(r->how),
				 r->base ? " from " : "", r->base ? base : "", msg_size(c, r->bytes_max, size));
	}
	if (more)
		msg_note(c, "  and %zu more (%s)", more, msg_size(c, more_bytes, size));
	if (stored)
		msg_note(c, "  and %zu that are stored already", stored);
}

/* A snapshot or a lower layer of the disk is stored now: the next night starts from it. */
static bool has_base(const struct manifest *m, size_t disk)
{
	for (size_t i = 0; i < m->states.n; i++)
		if (m->states.p[i].kind != STATE_CURRENT)
			for (size_t k = 0; k < m->states.p[i].disks.n; k++)
				if (m->states.p[i].disks.p[k].disk == disk)
					return true;
	return false;
}

/* The command that makes the next night incremental where this one read the disk in full.  A new snapshot is itself
 * read once; an overlay serves at once, because the layer below it is what was just stored. */
static void say_cheaper(struct cli *c, const struct source_disk *d, bool base)
{
	const struct image *top = d->chain->layers[0];
	char q[512];

	if (top->identity.block_device)
		text_quote(d->path, q, sizeof(q));
	else
		text_shell(d->path, q, sizeof(q));
	if (base)
		msg_note(c, "  the next backup reads only what changed since the snapshots and layers that are stored "
			    "now");
	else if (top->info.wrapping)
		msg_note(c, "  %s lies in an archive or is compressed: it is read in full when that file has changed",
			 q);
	else if (top->identity.block_device)
		msg_note(c, "  %s is a block device: it is read in full each night", q);
	else if (!strcmp(top->info.format, "qcow2") && !(top->info.features & IMAGE_EXTERNAL_DATA))
		msg_note(c, "  to read only what changed from the next night on: "
			    "qemu-img snapshot -c kedge-$(date +%%F) %s, and this backup once more (VM stopped); "
			    "or for a running VM: virsh snapshot-create-as VM kedge-$(date +%%F) --disk-only", q);
	else	/* no internal snapshots: a raw image, or data in another file */
		msg_note(c, "  to read only what changed from the next night on, let the VM write to an overlay: "
			    "qemu-img create -f qcow2 -b %s -F %s OVERLAY.qcow2", q, top->info.format);
}

static void say_disk(struct cli *c, const struct sources *s, const struct manifest *m, size_t i)
{
	const struct manifest_disk *d = &m->disks.p[i];
	char read[MSG_SIZE_BYTES], same[MSG_SIZE_BYTES], audit[MSG_SIZE_BYTES], q[256];

	msg_note(c, "disk %s: %s (%s): %s read, %s unchanged%s%s%s", d->name, read_how_name(d->how), how_text(d->how),
		 msg_size(c, d->bytes_read, read), msg_size(c, d->bytes_unchanged, same), d->bytes_audited ? " (" : "",
		 d->bytes_audited ? msg_size(c, d->bytes_audited, audit) : "",
		 d->bytes_audited ? " of it read again and compared)" : "");
	if (d->how == READ_FULL && i < s->disks.n)
		say_cheaper(c, &s->disks.p[i], has_base(m, i));
	for (size_t k = 0; k < d->dropped.n; k++)
		msg_note(c, "  not carried over: %s", text_quote(d->dropped.p[k], q, sizeof(q)));
}

void backup_say_result(struct cli *c, const struct sources *s, const struct manifest *m, const struct id *id,
		       bool claim_false)
{
	char short_text[SHORT_ID_BYTES], stored[MSG_SIZE_BYTES], fresh[MSG_SIZE_BYTES], q[600];

	for (size_t i = 0; i < m->disks.n; i++)
		say_disk(c, s, m, i);
	for (size_t i = 0; i < m->problems.n; i++) {
		const struct manifest_problem *p = &m->problems.p[i];
		char state[128];

		msg_warn(c, "disk %s%s%s: %s", p->disk ? p->disk : "-", p->state && *p->state ? ", " : "",
			 p->state ? text_quote(p->state, state, sizeof(state)) : "", text_quote(p->text, q, sizeof(q)));
	}
	if (claim_false)
		msg_warn(c, "a part that was called unchanged had changed: the disk was read in full, and this backup "
			    "is right; earlier ones that relied on the same claim may not be");
	msg_note(c, "backup %s of %s: %s new, %s stored, %.1f s%s", short_id(id, short_text), m->vm,
		 msg_size(c, m->bytes_new, fresh), msg_size(c, m->bytes_stored, stored), (double)m->milliseconds / 1000,
		 m->complete ? "" : "; INCOMPLETE");
}

json_t *backup_plan_json(const struct sources *s, const struct ingest_plan *p)
{
	const struct ingest_plan_row *rows;
	size_t n = ingest_plan_rows(p, &rows);
	json_t *o = json_object(), *a = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *row = json_object();

		msg_json_set(&row, "disk", msg_json_text(s->disks.p[rows[i].disk].name));
		msg_json_set(&row, "state", msg_json_text(rows[i].state));
		msg_json_set(&row, "how", json_string(read_how_name(rows[i].how)));
		msg_json_set(&row, "base", msg_json_text(rows[i].base));
		msg_json_set(&row, "bytes_max", msg_json_u64(rows[i].bytes_max));
		msg_json_set(&row, "size", msg_json_u64(rows[i].size));
		msg_json_push(&a, row);
	}
	msg_json_set(&o, "vm", msg_json_text(s->vm));
	msg_json_set(&o, "dry_run", json_true());
	msg_json_set(&o, "states", a);
	return o;
}

json_t *backup_result_json(const struct manifest *m, const struct id *id, bool claim_false)
{
	const struct backup b = { .hash = *id, .m = (struct manifest *)m };	/* only read */
	json_t *o = backup_json(&b);

	msg_json_set(&o, "claim_false", json_boolean(claim_false));
	return o;
}
