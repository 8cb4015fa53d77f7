/* manifest.c - a backup's manifest in memory, and as JSON (docs/format.md, section 9). */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "repo/json_internal.h"
#include "repo/manifest.h"

static const char *const how_names[] = { "full", "snapshot", "layer", "same" };
static const char *const kind_names[] = { "current", "snapshot", "layer" };

const char *read_how_name(enum read_how how)
{
	return how_names[how];
}

struct manifest *manifest_new(struct err *e)
{
	struct manifest *m = calloc(1, sizeof(*m));

	if (!m)
		(void)err_set(e, ERR_NOMEM, "no memory for a manifest");
	return m;
}

static void disk_done(struct manifest_disk *d)
{
	free(d->name);
	free(d->format);
	free(d->path);
	free(d->domain);
	free(d->uuid);
	free(d->modify_uuid);
	free(d->content_id);
	for (size_t i = 0; i < d->features.n; i++)
		free(d->features.p[i]);
	for (size_t i = 0; i < d->dropped.n; i++)
		free(d->dropped.p[i]);
	for (size_t i = 0; i < d->layers.n; i++) {
		free(d->layers.p[i].path);
		free(d->layers.p[i].format);
	}
	VEC_DONE(&d->features);
	VEC_DONE(&d->dropped);
	VEC_DONE(&d->layers);
}

static void state_done(struct manifest_state *s)
{
	free(s->name);
	free(s->machine_id);
	free(s->parent_id);
	free(s->description);
	for (size_t i = 0; i < s->disks.n; i++)
		free(s->disks.p[i].snapshot_id);
	VEC_DONE(&s->disks);
}

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	free(m->vm);
	free(m->vm_name);
	free(m->host);
	free(m->machine_uuid);
	free(m->machine_kind);
	free(m->machine_source);
	for (size_t i = 0; i < m->problems.n; i++) {
		free(m->problems.p[i].disk);
		free(m->problems.p[i].state);
		free(m->problems.p[i].text);
	}
	for (size_t i = 0; i < m->disks.n; i++)
		disk_done(&m->disks.p[i]);
	for (size_t i = 0; i < m->states.n; i++)
		state_done(&m->states.p[i]);
	for (size_t i = 0; i < m->attachments.n; i++)
		free(m->attachments.p[i].name);
	for (size_t i = 0; i < m->tags.n; i++)
		free(m->tags.p[i]);
	for (size_t i = 0; i < m->pins.n; i++)
		free(m->pins.p[i]);
	VEC_DONE(&m->problems);
	VEC_DONE(&m->disks);
	VEC_DONE(&m->states);
	VEC_DONE(&m->attachments);
	VEC_DONE(&m->tags);
	VEC_DONE(&m->pins);
	free(m);
}

char *manifest_state_selector(const struct manifest_state *s, struct err *e)
{
	switch (s->kind) {
	case STATE_SNAPSHOT: return text_printf(e, "snap:%s", s->name);
	case STATE_LAYER: return text_printf(e, "layer:%s", s->name);
	case STATE_CURRENT: break;
	}
	return text_printf(e, "current");
}

/* --- encoding ----------------------------------------------------------------------------------------------------- */

static json_t *texts_json(char *const *p, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		js_push(&a, js_new_text(p[i]));
	return a;
}

static void set_tree(json_t **o, const struct tree_ref *t)
{
	js_set(o, "root", t->has_root ? js_new_hex(t->root.b, ID_BYTES) : json_null());
	js_set(o, "height", js_new_uint(t->height));
	js_set(o, "size", js_new_uint(t->size));
}

static json_t *layer_json(const struct manifest_layer *l)
{
	json_t *o = json_object();

	js_set(&o, "path", js_new_text(l->path));
	js_set(&o, "format", js_new_text(l->format));
	js_set(&o, "dev", js_new_bits(l->dev));
	js_set(&o, "ino", js_new_bits(l->ino));
	js_set(&o, "size", js_new_uint(l->size));
	js_set(&o, "mtime", json_integer(l->mtime_ns));
	js_set(&o, "ctime", json_integer(l->ctime_ns));
	js_set(&o, "block_device", json_boolean(l->block_device));
	js_set(&o, "metadata", js_new_hex(l->metadata, sizeof(l->metadata)));
	js_set(&o, "virtual_size", js_new_uint(l->virtual_size));
	js_set(&o, "boot", l->has_boot ? js_new_hex(l->boot, sizeof(l->boot)) : json_null());
	if (l->has_below)
		js_set(&o, "below", js_new_uint(l->below));
	return o;
}

static json_t *disk_json(const struct manifest_disk *d)
{
	json_t *o = json_object(), *layers = json_array(), *rd = json_object();

	for (size_t i = 0; i < d->layers.n; i++)
		js_push(&layers, layer_json(&d->layers.p[i]));
	js_set(&rd, "how", json_string(how_names[d->how]));
	js_set(&rd, "bytes_read", js_new_uint(d->bytes_read));
	js_set(&rd, "bytes_unchanged", js_new_uint(d->bytes_unchanged));
	js_set(&rd, "bytes_audited", js_new_uint(d->bytes_audited));
	js_set(&rd, "audit_owed", js_new_uint(d->audit_owed));
	js_set(&o, "name", json_string(d->name));
	js_set(&o, "format", js_new_text(d->format));
	js_set(&o, "path", js_new_text(d->path));
	js_set(&o, "domain", json_string(d->domain));
	js_set(&o, "cluster_size", js_new_uint(d->cluster_size));
	if (d->uuid)
		js_set(&o, "uuid", js_new_text(d->uuid));
	if (d->modify_uuid)
		js_set(&o, "modify_uuid", js_new_text(d->modify_uuid));
	if (d->content_id)
		js_set(&o, "content_id", js_new_text(d->content_id));
	js_set(&o, "features", texts_json(d->features.p, d->features.n));
	js_set(&o, "dropped", texts_json(d->dropped.p, d->dropped.n));
	js_set(&o, "layers", layers);
	js_set(&o, "read", rd);
	return o;
}

static json_t *vm_state_json(const struct manifest_state_disk *d)
{
	json_t *o;

	if (!d->has_vm_state)
		return json_null();
	o = json_object();
	set_tree(&o, &d->vm_state);
	return o;
}

static json_t *state_disk_json(const struct manifest_state_disk *d)
{
	json_t *o = json_object(), *rd = json_object();

	js_set(&rd, "how", json_string(how_names[d->how]));
	js_set(&rd, "bytes_read", js_new_uint(d->bytes_read));
	js_set(&o, "disk", js_new_uint(d->disk));
	set_tree(&o, &d->tree);
	js_set(&o, "layer", js_new_uint(d->layer));
	if (d->snapshot_id)
		js_set(&o, "snapshot_id", js_new_text(d->snapshot_id));
	js_set(&o, "date", json_integer(d->date_ns));
	js_set(&o, "vm_clock", js_new_bits(d->vm_clock_ns));
	js_set(&o, "digest", d->has_digest ? js_new_hex(d->digest, sizeof(d->digest)) : json_null());
	js_set(&o, "vm_state", vm_state_json(d));
	js_set(&o, "read", rd);
	return o;
}

static json_t *state_json(const struct manifest_state *s)
{
	json_t *o = json_object(), *disks = json_array();

	for (size_t i = 0; i < s->disks.n; i++)
		js_push(&disks, state_disk_json(&s->disks.p[i]));
	js_set(&o, "kind", json_string(kind_names[s->kind]));
	js_set(&o, "name", js_new_text(s->name));
	if (s->machine_id)
		js_set(&o, "machine_id", js_new_text(s->machine_id));
	if (s->parent_id)
		js_set(&o, "parent_id", js_new_text(s->parent_id));
	if (s->description)
		js_set(&o, "description", js_new_text(s->description));
	js_set(&o, "disks", disks);
	return o;
}

static json_t *attachment_json(const struct manifest_attachment *a)
{
	json_t *o = json_object();

	js_set(&o, "name", js_new_text(a->name));
	set_tree(&o, &a->tree);
	js_set(&o, "mode", js_new_uint(a->mode));
	return o;
}

static json_t *problem_json(const struct manifest_problem *p)
{
	json_t *o = json_object();

	js_set(&o, "disk", js_new_text(p->disk ? p->disk : ""));
	js_set(&o, "state", js_new_text(p->state ? p->state : ""));
	js_set(&o, "text", js_new_text(p->text ? p->text : ""));
	return o;
}

static json_t *machine_json(const struct manifest *m)
{
	json_t *o = json_object();

	js_set(&o, "uuid", js_new_text(m->machine_uuid));
	js_set(&o, "kind", js_new_text(m->machine_kind));
	js_set(&o, "source", js_new_text(m->machine_source ? m->machine_source : ""));
	return o;
}

static json_t *statistics_json(const struct manifest *m)
{
	json_t *o = json_object();

	js_set(&o, "bytes_read", js_new_uint(m->bytes_read));
	js_set(&o, "bytes_hashed", js_new_uint(m->bytes_hashed));
	js_set(&o, "bytes_new", js_new_uint(m->bytes_new));
	js_set(&o, "bytes_stored", js_new_uint(m->bytes_stored));
	js_set(&o, "milliseconds", js_new_uint(m->milliseconds));
	return o;
}

static void set_head(json_t **o, const struct manifest *m)
{
	js_set(o, "format", json_integer(FORMAT_VERSION));
	js_set(o, "vm", json_string(m->vm));
	if (m->vm_name)
		js_set(o, "vm_name", js_new_text(m->vm_name));
	js_set(o, "host", js_new_text(m->host ? m->host : ""));
	js_set(o, "start", json_integer(m->start_ns));
	js_set(o, "end", json_integer(m->end_ns));
	js_set(o, "writer", js_new_hex(m->writer.b, SLOT_BYTES));
	js_set(o, "session", js_new_hex(m->session.b, SESSION_BYTES));
	js_set(o, "sequence", js_new_uint(m->sequence));
	js_set(o, "previous", m->has_previous ? js_new_hex(m->previous.b, ID_BYTES) : json_null());
	js_set(o, "complete", json_boolean(m->complete));
}

int manifest_encode(const struct manifest *m, char **ret, size_t *ret_len, struct err *e)
{
	json_t *o = json_object(), *problems = json_array(), *disks = json_array(), *states = json_array(),
	       *attachments = json_array();
	CLEANUP(free_ptr) char *json = NULL;
	struct manifest *back = NULL;
	size_t len;

	for (size_t i = 0; i < m->problems.n; i++)
		js_push(&problems, problem_json(&m->problems.p[i]));
	for (size_t i = 0; i < m->disks.n; i++)
		js_push(&disks, disk_json(&m->disks.p[i]));
	for (size_t i = 0; i < m->states.n; i++)
		js_push(&states, state_json(&m->states.p[i]));
	for (size_t i = 0; i < m->attachments.n; i++)
		js_push(&attachments, attachment_json(&m->attachments.p[i]));
	set_head(&o, m);
	js_set(&o, "problems", problems);
	js_set(&o, "machine", machine_json(m));
	js_set(&o, "disks", disks);
	js_set(&o, "states", states);
	js_set(&o, "attachments", attachments);
	js_set(&o, "tags", texts_json(m->tags.p, m->tags.n));
	js_set(&o, "pins", texts_json(m->pins.p, m->pins.n));
	js_set(&o, "statistics", statistics_json(m));
	if (js_dump(o, &json, &len, e) < 0)
		return e->code;
	/* A manifest that cannot be read is a lost backup: what is wrong must show before the commit. */
	if (manifest_decode(json, len, 0, &back, e) < 0)
		return err_ctx(e, "memory or program error: the manifest to be stored could not be read back");
	manifest_free(back);
	*ret_len = len;
	*ret = STEAL(json);
	return 0;
}
