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

	json_object_set_new(o, "disk", msg_json_text(m->disks.p[sd->disk].name));
	json_object_set_new(o, "size", msg_json_u64(sd->tree.size));
	json_object_set_new(o, "root", sd->tree.has_root ? hex_json(sd->tree.root.b, ID_BYTES) : json_null());
	json_object_set_new(o, "snapshot_id", msg_json_text(sd->snapshot_id));
	json_object_set_new(o, "date", time_json(sd->date_ns));
	json_object_set_new(o, "vm_state_size", sd->has_vm_state ? msg_json_u64(sd->vm_state.size) : json_integer(0));
	json_object_set_new(o, "how", json_string(read_how_name(sd->how)));
	json_object_set_new(o, "bytes_read", msg_json_u64(sd->bytes_read));
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

		json_object_set_new(o, "state", msg_json_text(selector));
		json_object_set_new(o, "kind", json_string(kinds[s->kind]));
		json_object_set_new(o, "name", msg_json_text(s->name));
		for (size_t k = 0; k < s->disks.n; k++)
			json_array_append_new(disks, state_disk_json(m, &s->disks.p[k]));
		json_object_set_new(o, "disks", disks);
		json_array_append_new(states, o);
	}
	return states;
}

static json_t *texts_json(char *const *p, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, msg_json_text(p[i]));
	return a;
}

static json_t *layers_json(const struct manifest_disk *d)
{
	json_t *layers = json_array();

	for (size_t i = 0; i < d->layers.n; i++) {
		const struct manifest_layer *l = &d->layers.p[i];
		json_t *o = json_object();

		json_object_set_new(o, "path", msg_json_text(l->path));
		json_object_set_new(o, "format", msg_json_text(l->format));
		json_object_set_new(o, "size", msg_json_u64(l->size));
		json_object_set_new(o, "virtual_size", msg_json_u64(l->virtual_size));
		json_array_append_new(layers, o);
	}
	return layers;
}

static json_t *disks_json(const struct manifest *m)
{
	json_t *disks = json_array();

	for (size_t i = 0; i < m->disks.n; i++) {
		const struct manifest_disk *d = &m->disks.p[i];
		json_t *o = json_object();

		json_object_set_new(o, "name", msg_json_text(d->name));
		json_object_set_new(o, "format", msg_json_text(d->format));
		json_object_set_new(o, "path", msg_json_text(d->path));
		json_object_set_new(o, "how", json_string(read_how_name(d->how)));
		json_object_set_new(o, "bytes_read", msg_json_u64(d->bytes_read));
		json_object_set_new(o, "bytes_unchanged", msg_json_u64(d->bytes_unchanged));
		json_object_set_new(o, "bytes_audited", msg_json_u64(d->bytes_audited));
		json_object_set_new(o, "features", texts_json(d->features.p, d->features.n));
		json_object_set_new(o, "dropped", texts_json(d->dropped.p, d->dropped.n));
		json_object_set_new(o, "layers", layers_json(d));
		json_array_append_new(disks, o);
	}
	return disks;
}

static json_t *attachments_json(const struct manifest *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < m->attachments.n; i++) {
		json_t *o = json_object();

		json_object_set_new(o, "name", msg_json_text(m->attachments.p[i].name));
		json_object_set_new(o, "size", msg_json_u64(m->attachments.p[i].tree.size));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *problems_json(const struct manifest *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < m->problems.n; i++) {
		json_t *o = json_object();

		json_object_set_new(o, "disk", msg_json_text(m->problems.p[i].disk));
		json_object_set_new(o, "state", msg_json_text(m->problems.p[i].state));
		json_object_set_new(o, "text", msg_json_text(m->problems.p[i].text));
		json_array_append_new(a, o);
	}
	return a;
}

json_t *backup_json(const struct backup *b)
{
	const struct manifest *m = b->m;
	json_t *o = json_object();

	json_object_set_new(o, "id", hex_json(b->hash.b, ID_BYTES));
	json_object_set_new(o, "vm", msg_json_text(m->vm));
	json_object_set_new(o, "vm_name", msg_json_text(m->vm_name ? m->vm_name : m->vm));
	json_object_set_new(o, "host", msg_json_text(m->host));
	json_object_set_new(o, "start", time_json(m->start_ns));
	json_object_set_new(o, "end", time_json(m->end_ns));
	json_object_set_new(o, "complete", json_boolean(m->complete));
	json_object_set_new(o, "pending", json_boolean(b->pending));
	json_object_set_new(o, "bytes_read", msg_json_u64(m->bytes_read));
	json_object_set_new(o, "bytes_hashed", msg_json_u64(m->bytes_hashed));
	json_object_set_new(o, "bytes_new", msg_json_u64(m->bytes_new));
	json_object_set_new(o, "bytes_stored", msg_json_u64(m->bytes_stored));
	json_object_set_new(o, "seconds", json_real((double)m->milliseconds / 1000));
	json_object_set_new(o, "tags", texts_json(m->tags.p, m->tags.n));
	json_object_set_new(o, "disks", disks_json(m));
	json_object_set_new(o, "states", states_json(m));
	json_object_set_new(o, "attachments", attachments_json(m));
	json_object_set_new(o, "problems", problems_json(m));
	return o;
}
