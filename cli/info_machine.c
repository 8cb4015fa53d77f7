/*
 * info_machine.c - a machine's description for people and programs.
 */
#include "cli/info_machine.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/table.h"
#include "formats/machine/machine.h"

#define SHOWN_BYTES 512

static void field(const char *name, const char *value)
{
	char q[SHOWN_BYTES];

	if (value)
		printf("%-14s %s\n", name, text_quote(value, q, sizeof(q)));
}

/* Where the image is; where only its UUID is known, that. */
static const char *image_text(const struct machine_image *im, char *buf, size_t len)
{
	return text_quote(im->path ? im->path : im->uuid ? im->uuid : "", buf, len);
}

static int print_disks(const struct machine *m, struct err *e)
{
	CLEANUP(table_done) struct table t = { 0 };

	table_init(&t, 4, (const char *const[]){ "DISK", "FORMAT", "IMAGE", "" });
	for (size_t i = 0; i < m->disks.n; i++) {
		const struct machine_disk *d = &m->disks.p[i];
		char image[SHOWN_BYTES], note[SHOWN_BYTES], format[64];
		const char *why = d->skipped ? d->skipped : d->refused ? d->refused :
				  d->independent ? "not in snapshots" : d->gzip ? "gzip" : "";

		if (table_row(&t, e, d->name, d->format ? text_quote(d->format, format, sizeof(format)) : NULL,
			      image_text(&d->image, image, sizeof(image)), text_quote(why, note, sizeof(note))) < 0)
			return e->code;
	}
	if (m->disks.n) {
		puts("disks");
		table_print(&t, 2, stdout);
	}
	return 0;
}

static int print_files(const struct machine *m, struct err *e)
{
	CLEANUP(table_done) struct table t = { 0 };

	table_init(&t, 2, (const char *const[]){ "WHAT", "FILE" });
	for (size_t i = 0; i < m->files.n; i++) {
		char path[SHOWN_BYTES];

		if (table_row(&t, e, machine_role_name(m->files.p[i].role),
			      text_quote(m->files.p[i].path, path, sizeof(path))) < 0)
			return e->code;
	}
	puts("files");
	table_print(&t, 2, stdout);
	return 0;
}

static int print_snapshots(const struct machine *m, struct err *e)
{
	CLEANUP(table_done) struct table t = { 0 };

	if (!m->snapshots.n)
		return 0;
	table_init(&t, 5, (const char *const[]){ "ID", "NAME", "DATE", "MADE ON", "DISKS" });
	for (size_t i = 0; i < m->snapshots.n; i++) {
		const struct machine_snapshot *s = &m->snapshots.p[i];
		const char *parent = s->parent == MACHINE_NONE ? "" : m->snapshots.p[s->parent].name;
		char id[SHOWN_BYTES], name[SHOWN_BYTES], on[SHOWN_BYTES], date[32], disks[SHOWN_BYTES] = "";
		size_t n = 0;

		for (size_t k = 0; k < s->disks.n && n < sizeof(disks) - 1; k++) {
			int w = snprintf(disks + n, sizeof(disks) - n, "%s%s", k ? " " : "",
					 m->disks.p[s->disks.p[k].disk].name);

			n += w > 0 ? (size_t)w : 0;
		}
		if (table_row(&t, e, text_quote(s->id, id, sizeof(id)), text_quote(s->name, name, sizeof(name)),
			      s->time_ns ? clock_local_text(s->time_ns, date) : NULL,
			      text_quote(parent, on, sizeof(on)), disks) < 0)
			return e->code;
	}
	puts("snapshots");
	table_print(&t, 2, stdout);
	if (m->current != MACHINE_NONE)
		field("current on", m->snapshots.p[m->current].name);
	return 0;
}

static int print_machine(const struct machine *m, struct err *e)
{
	field("machine", m->path);
	field("kind", machine_kind_name(m->kind));
	field("version", m->version);
	field("name", m->name);
	field("uuid", m->uuid);
	for (size_t i = 0; i < m->notes.n; i++)
		field("note", m->notes.p[i]);
	return print_disks(m, e) < 0 || print_files(m, e) < 0 ? e->code : print_snapshots(m, e);
}

/* --- for programs ------------------------------------------------------------------------------------------------- */

static json_t *disk_json(const struct machine_disk *d)
{
	json_t *o = json_object();

	msg_json_set(&o, "name", msg_json_text(d->name));
	msg_json_set(&o, "image", msg_json_text(d->image.path));
	msg_json_set(&o, "uuid", msg_json_text(d->image.uuid));
	msg_json_set(&o, "format", msg_json_text(d->format));
	msg_json_set(&o, "skipped", msg_json_text(d->skipped));
	msg_json_set(&o, "refused", msg_json_text(d->refused));
	msg_json_set(&o, "independent", json_boolean(d->independent));
	msg_json_set(&o, "gzip", json_boolean(d->gzip));
	msg_json_set(&o, "capacity", d->capacity ? msg_json_u64(d->capacity) : json_null());
	return o;
}

static json_t *file_json(const struct machine_file *f)
{
	json_t *o = json_object();

	msg_json_set(&o, "what", json_string(machine_role_name(f->role)));
	msg_json_set(&o, "file", msg_json_text(f->path));
	return o;
}

static json_t *snapshot_json(const struct machine *m, const struct machine_snapshot *s)
{
	json_t *o = json_object(), *disks = json_array();
	char date[32];

	for (size_t i = 0; i < s->disks.n; i++) {
		json_t *row = json_object();

		msg_json_set(&row, "disk", msg_json_text(m->disks.p[s->disks.p[i].disk].name));
		msg_json_set(&row, "image", msg_json_text(s->disks.p[i].image.path));
		msg_json_set(&row, "uuid", msg_json_text(s->disks.p[i].image.uuid));
		msg_json_push(&disks, row);
	}
	msg_json_set(&o, "id", msg_json_text(s->id));
	msg_json_set(&o, "name", msg_json_text(s->name));
	msg_json_set(&o, "description", msg_json_text(s->description));
	msg_json_set(&o, "date", s->time_ns ? json_string(clock_utc_text(s->time_ns, date)) : json_null());
	msg_json_set(&o, "parent", msg_json_text(s->parent == MACHINE_NONE ? NULL : m->snapshots.p[s->parent].id));
	msg_json_set(&o, "memory", msg_json_text(s->memory));
	msg_json_set(&o, "disks", disks);
	return o;
}

static json_t *machine_json(const struct machine *m)
{
	json_t *o = json_object(), *disks = json_array(), *files = json_array(), *snapshots = json_array(),
	       *notes = json_array();

	for (size_t i = 0; i < m->disks.n; i++)
		msg_json_push(&disks, disk_json(&m->disks.p[i]));
	for (size_t i = 0; i < m->files.n; i++)
		msg_json_push(&files, file_json(&m->files.p[i]));
	for (size_t i = 0; i < m->snapshots.n; i++)
		msg_json_push(&snapshots, snapshot_json(m, &m->snapshots.p[i]));
	for (size_t i = 0; i < m->notes.n; i++)
		msg_json_push(&notes, msg_json_text(m->notes.p[i]));
	msg_json_set(&o, "machine", msg_json_text(m->path));
	msg_json_set(&o, "kind", json_string(machine_kind_name(m->kind)));
	msg_json_set(&o, "version", msg_json_text(m->version));
	msg_json_set(&o, "name", msg_json_text(m->name));
	msg_json_set(&o, "uuid", msg_json_text(m->uuid));
	msg_json_set(&o, "disks", disks);
	msg_json_set(&o, "files", files);
	msg_json_set(&o, "snapshots", snapshots);
	msg_json_set(&o, "current_snapshot",
		     msg_json_text(m->current == MACHINE_NONE ? NULL : m->snapshots.p[m->current].id));
	msg_json_set(&o, "notes", notes);
	return o;
}

int info_machine(struct cli *c, const char *path, const char *const *allow, struct err *e)
{
	CLEANUP(machine_free_cleanup) struct machine *m = NULL;

	if (machine_open(path, allow, &m, e) < 0)
		return e->code;
	return c->g.json ? msg_json(machine_json(m), e) : print_machine(m, e);
}
