/*
 * backup_json.c - a backup as JSON for programs: what list, show and backup print.
 */
#include "base/clock.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"

static json_t *hex_json(const void *p, size_t len)
{
	char hex[2 * 32 + 1];

	return json_string(text_hex(p, len, hex));
}

static json_t *time_json(int64_t ns)
{
	char text[32];

	return ns ? json_string(clock_utc_text(ns, text)) : json_null();
}

static json_t *state_disk_json(const struct manifest *m, const struct manifest_state_disk *sd)
{
	json_t *o = json_object();

	msg_json_set(&o, "disk", msg_json_text(m->disks.p[sd->disk].name));
	msg_json_set(&o, "size", msg_json_u64(sd->tree.size));
	msg_json_set(&o, "root", sd->tree.has_root ? hex_json(sd->tree.root.b, ID_BYTES) : json_null());
	msg_json_set(&o, "snapshot_id", msg_json_text(sd->snapshot_id));
	msg_json_set(&o, "date", time_json(sd->date_ns));
	msg_json_set(&o, "vm_state_size", sd->has_vm_state ? msg_json_u64(sd->vm_state.size) : json_integer(0));
	msg_json_set(&o, "how", json_string(read_how_name(sd->how)));
	msg_json_set(&o, "bytes_read", msg_json_u64(sd->bytes_read));
	return o;
}

static json_t *states_json(const struct manifest *m)
{
	static const char *const kinds[] = {
		[STATE_CURRENT] = "current", [STATE_SNAPSHOT] = "snapshot", [STATE_LAYER] = "layer",
	};
	json_t *states = json_array();

	for (size_t i = 0; i < m->states.n; i++) {
		const struct manifest_state *s = &m->states.p[i];
		struct err e = ERR_INIT;
		CLEANUP(free_ptr) char *selector = manifest_state_selector(s, &e);
		json_t *o = json_object(), *disks = json_array();

		msg_json_set(&o, "state", msg_json_text(selector));
		msg_json_set(&o, "kind", json_string(kinds[s->kind]));
		msg_json_set(&o, "name", msg_json_text(s->name));
		msg_json_set(&o, "machine_id", msg_json_text(s->machine_id));
		msg_json_set(&o, "parent_id", msg_json_text(s->parent_id));
		msg_json_set(&o, "description", msg_json_text(s->description));
		for (size_t k = 0; k < s->disks.n; k++)
			msg_json_push(&disks, state_disk_json(m, &s->disks.p[k]));
		msg_json_set(&o, "disks", disks);
		msg_json_push(&states, o);
	}
	return states;
}

static json_t *texts_json(char *const *p, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		msg_json_push(&a, msg_json_text(p[i]));
	return a;
}

static json_t *layers_json(const struct manifest_disk *d)
{
	json_t *layers = json_array();

	for (size_t i = 0; i < d->layers.n; i++) {
		const struct manifest_layer *l = &d->layers.p[i];
		json_t *o = json_object();

		msg_json_set(&o, "path", msg_json_text(l->path));
		msg_json_set(&o, "format", msg_json_text(l->format));
		msg_json_set(&o, "size", msg_json_u64(l->size));
		msg_json_set(&o, "virtual_size", msg_json_u64(l->virtual_size));
		msg_json_push(&layers, o);
	}
	return layers;
}

static json_t *disks_json(const struct manifest *m)
{
	json_t *disks = json_array();

	for (size_t i = 0; i < m->disks.n; i++) {
		const struct manifest_disk *d = &m->disks.p[i];
		json_t *o = json_object();

		msg_json_set(&o, "name", msg_json_text(d->name));
		msg_json_set(&o, "format", msg_json_text(d->format));
		msg_json_set(&o, "path", msg_json_text(d->path));
		msg_json_set(&o, "how", json_string(read_how_name(d->how)));
		msg_json_set(&o, "bytes_read", msg_json_u64(d->bytes_read));
		msg_json_set(&o, "bytes_unchanged", msg_json_u64(d->bytes_unchanged));
		msg_json_set(&o, "bytes_audited", msg_json_u64(d->bytes_audited));
		msg_json_set(&o, "uuid", msg_json_text(d->uuid));
		msg_json_set(&o, "modify_uuid", msg_json_text(d->modify_uuid));
		msg_json_set(&o, "content_id", msg_json_text(d->content_id));
		msg_json_set(&o, "features", texts_json(d->features.p, d->features.n));
		msg_json_set(&o, "dropped", texts_json(d->dropped.p, d->dropped.n));
		msg_json_set(&o, "layers", layers_json(d));
		msg_json_push(&disks, o);
	}
	return disks;
}

static json_t *attachments_json(const struct manifest *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < m->attachments.n; i++) {
		json_t *o = json_object();

		msg_json_set(&o, "name", msg_json_text(m->attachments.p[i].name));
		msg_json_set(&o, "size", msg_json_u64(m->attachments.p[i].tree.size));
		msg_json_push(&a, o);
	}
	return a;
}

static json_t *problems_json(const struct manifest *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < m->problems.n; i++) {
		json_t *o = json_object();

		msg_json_set(&o, "disk", msg_json_text(m->problems.p[i].disk));
		msg_json_set(&o, "state", msg_json_text(m->problems.p[i].state));
		msg_json_set(&o, "text", msg_json_text(m->problems.p[i].text));
		msg_json_push(&a, o);
	}
	return a;
}

json_t *backup_json(const struct backup *b)
{
	const struct manifest *m = b->m;
	json_t *o = json_object();

	msg_json_set(&o, "id", hex_json(b->hash.b, ID_BYTES));
	msg_json_set(&o, "vm", msg_json_text(m->vm));
	msg_json_set(&o, "vm_name", msg_json_text(m->vm_name ? m->vm_name : m->vm));
	msg_json_set(&o, "host", msg_json_text(m->host));
	msg_json_set(&o, "start", time_json(m->start_ns));
	msg_json_set(&o, "end", time_json(m->end_ns));
	msg_json_set(&o, "complete", json_boolean(m->complete));
	msg_json_set(&o, "pending", json_boolean(b->pending));
	msg_json_set(&o, "bytes_read", msg_json_u64(m->bytes_read));
	msg_json_set(&o, "bytes_hashed", msg_json_u64(m->bytes_hashed));
	msg_json_set(&o, "bytes_new", msg_json_u64(m->bytes_new));
	msg_json_set(&o, "bytes_stored", msg_json_u64(m->bytes_stored));
	msg_json_set(&o, "seconds", json_real((double)m->milliseconds / 1000));
	msg_json_set(&o, "tags", texts_json(m->tags.p, m->tags.n));
	msg_json_set(&o, "disks", disks_json(m));
	msg_json_set(&o, "states", states_json(m));
	msg_json_set(&o, "attachments", attachments_json(m));
	msg_json_set(&o, "problems", problems_json(m));
	return o;
}
