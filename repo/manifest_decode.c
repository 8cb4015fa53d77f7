/* manifest_decode.c - a manifest from JSON, everything checked (docs/format.md, section 9). */
#include <inttypes.h>

#include "repo/json_internal.h"
#include "repo/manifest.h"
#include "repo/tree.h"

/* More than any VM has; what keeps one manifest from being a burden. */
#define DISKS_MAX 4096u
#define STATES_MAX 65536u
#define LAYERS_MAX 1024u
#define ATTACHMENTS_MAX 4096u
#define PROBLEMS_MAX 65536u
#define WORDS_MAX 4096u

static const char *const how_names[] = { "full", "snapshot", "layer", "same" };
static const char *const kind_names[] = { "current", "snapshot", "layer" };

static int how_decode(const json_t *o, enum read_how *ret, struct err *e)
{
	size_t i;

	if (js_choice(o, "how", how_names, 4, &i, e) < 0)
		return e->code;
	*ret = (enum read_how)i;
	return 0;
}

static int tree_decode(const json_t *o, uint32_t chunk_size, struct tree_ref *t, struct err *e)
{
	uint32_t want;

	if (js_hex_opt(o, "root", t->root.b, ID_BYTES, &t->has_root, e) < 0 ||
	    js_u32(o, "height", 1, TREE_HEIGHT_MAX, &t->height, e) < 0 ||
	    js_uint(o, "size", 0, INT64_MAX, &t->size, e) < 0)
		return e->code;
	want = chunk_size ? tree_height(t->size, chunk_size) : t->height;
	if (t->height != want)
		return err_set(e, ERR_CORRUPT, "member \"height\" is %" PRIu32 ", %" PRIu64 " bytes need %" PRIu32,
			       t->height, t->size, want);
	if (t->has_root && t->size == 0)
		return err_set(e, ERR_CORRUPT, "member \"root\" is there for 0 bytes");
	return 0;
}

static int layer_decode(const json_t *o, struct manifest_layer *l, struct err *e)
{
	uint64_t modified, changed;

	if (js_text(o, "path", &l->path, e) < 0 || js_text(o, "format", &l->format, e) < 0 ||
	    js_bits(o, "dev", &l->dev, e) < 0 || js_bits(o, "ino", &l->ino, e) < 0 ||
	    js_uint(o, "size", 0, INT64_MAX, &l->size, e) < 0 || js_bits(o, "mtime", &modified, e) < 0 ||
	    js_bits(o, "ctime", &changed, e) < 0 || js_bool(o, "block_device", &l->block_device, e) < 0 ||
	    js_hex(o, "metadata", l->metadata, sizeof(l->metadata), e) < 0 ||
	    js_uint(o, "virtual_size", 0, INT64_MAX, &l->virtual_size, e) < 0 ||
	    js_hex_opt(o, "boot", l->boot, sizeof(l->boot), &l->has_boot, e) < 0)
		return e->code;
	l->has_below = js_has(o, "below");
	if (l->has_below && js_u32(o, "below", 0, LAYERS_MAX, &l->below, e) < 0)
		return e->code;
	l->mtime_ns = (int64_t)modified;	/* files can be older than 1970 */
	l->ctime_ns = (int64_t)changed;
	return 0;
}

static int disk_read_decode(const json_t *o, struct manifest_disk *d, struct err *e)
{
	const json_t *rd;

	if (js_object(o, "read", &rd, e) < 0)
		return e->code;
	if (how_decode(rd, &d->how, e) < 0 || js_uint(rd, "bytes_read", 0, INT64_MAX, &d->bytes_read, e) < 0 ||
	    js_uint(rd, "bytes_unchanged", 0, INT64_MAX, &d->bytes_unchanged, e) < 0 ||
	    js_uint(rd, "bytes_audited", 0, INT64_MAX, &d->bytes_audited, e) < 0 ||
	    js_uint(rd, "audit_owed", 0, INT64_MAX, &d->audit_owed, e) < 0)
		return err_ctx(e, "read");
	return 0;
}

/* Each element of an array into a VEC of strings. */
#define TEXTS_DECODE(o, key, max, vec, e) \
	__extension__({ \
		const json_t *td_a = NULL; \
		int td_rc = js_array((o), (key), (max), &td_a, (e)); \
		for (size_t td_i = 0; td_rc == 0 && td_i < json_array_size(td_a); td_i++) { \
			char **td_p = VEC_PUSH((vec), (e)); \
			td_rc = td_p ? js_text_value(json_array_get(td_a, td_i), (key), td_p, (e)) : (e)->code; \
		} \
		td_rc; \
	})

/* What is below a layer is there, and nothing is below itself. */
static int check_layers(const struct manifest_disk *d, struct err *e)
{
	for (uint32_t i = 0; i < d->layers.n; i++)
		if (d->layers.p[i].has_below && d->layers.p[i].below >= d->layers.n)
			return err_set(e, ERR_CORRUPT, "member \"below\" is %" PRIu32 ", the disk has %zu layers",
				       d->layers.p[i].below, d->layers.n);
	for (uint32_t i = 0; i < d->layers.n; i++) {
		uint32_t steps = 0;

		for (uint32_t k = i; k != MANIFEST_NO_LAYER; k = manifest_layer_below(d, k))
			if (++steps > d->layers.n)
				return err_set(e, ERR_CORRUPT, "layer %" PRIu32 " is below itself", i);
	}
	return 0;
}

static int disk_decode(const json_t *o, struct manifest_disk *d, struct err *e)
{
	const json_t *layers;

	if (js_name(o, "name", &d->name, e) < 0 || js_text(o, "format", &d->format, e) < 0 ||
	    js_text(o, "path", &d->path, e) < 0 || js_name(o, "domain", &d->domain, e) < 0 ||
	    js_u32(o, "cluster_size", 0, UINT32_MAX, &d->cluster_size, e) < 0 ||
	    js_text_opt(o, "uuid", &d->uuid, e) < 0 || js_text_opt(o, "modify_uuid", &d->modify_uuid, e) < 0 ||
	    js_text_opt(o, "content_id", &d->content_id, e) < 0 ||
	    TEXTS_DECODE(o, "features", WORDS_MAX, &d->features, e) < 0 ||
	    TEXTS_DECODE(o, "dropped", WORDS_MAX, &d->dropped, e) < 0 ||
	    js_array(o, "layers", LAYERS_MAX, &layers, e) < 0 || disk_read_decode(o, d, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_array_size(layers); i++) {
		struct manifest_layer *l = VEC_PUSH(&d->layers, e);

		if (!l)
			return e->code;
		if (layer_decode(json_array_get(layers, i), l, e) < 0)
			return err_ctx(e, "layers[%zu]", i);
	}
	return check_layers(d, e);
}

static int disks_decode(const json_t *o, struct manifest *m, struct err *e)
{
	const json_t *a;

	if (js_array(o, "disks", DISKS_MAX, &a, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_array_size(a); i++) {
		struct manifest_disk *d = VEC_PUSH(&m->disks, e);

		if (!d)
			return e->code;
		if (disk_decode(json_array_get(a, i), d, e) < 0)
			return err_ctx(e, "disks[%zu]", i);
		for (size_t k = 0; k < i; k++)
			if (!strcmp(m->disks.p[k].name, d->name))
				return err_set(e, ERR_CORRUPT, "disks %zu and %zu have the same name", k, i);
	}
	return 0;
}

static int state_disk_decode(const json_t *o, const struct manifest *m, enum state_kind kind, uint32_t chunk_size,
			     struct manifest_state_disk *d, struct err *e)
{
	const json_t *vm_state, *rd;

	if (js_u32(o, "disk", 0, UINT32_MAX, &d->disk, e) < 0)
		return e->code;
	if (d->disk >= m->disks.n)
		return err_set(e, ERR_CORRUPT, "member \"disk\" is %" PRIu32 ", there are %zu disks", d->disk,
			       m->disks.n);
	if (tree_decode(o, chunk_size, &d->tree, e) < 0 || js_u32(o, "layer", 0, UINT32_MAX, &d->layer, e) < 0)
		return e->code;
	if (d->layer >= m->disks.p[d->disk].layers.n)
		return err_set(e, ERR_CORRUPT, "member \"layer\" is %" PRIu32 ", the disk has %zu layers", d->layer,
			       m->disks.p[d->disk].layers.n);
	if (js_text_opt(o, "snapshot_id", &d->snapshot_id, e) < 0 || js_time(o, "date", &d->date_ns, e) < 0 ||
	    js_bits(o, "vm_clock", &d->vm_clock_ns, e) < 0 ||
	    js_hex_opt(o, "digest", d->digest, sizeof(d->digest), &d->has_digest, e) < 0 ||
	    js_object(o, "read", &rd, e) < 0 || how_decode(rd, &d->how, e) < 0 ||
	    js_uint(rd, "bytes_read", 0, INT64_MAX, &d->bytes_read, e) < 0)
		return e->code;
	if (d->snapshot_id && kind != STATE_SNAPSHOT)
		return err_set(e, ERR_CORRUPT, "member \"snapshot_id\" is there in a state that is no snapshot");
	d->has_vm_state = js_has(o, "vm_state");
	if (!d->has_vm_state)
		return 0;
	if (js_object(o, "vm_state", &vm_state, e) < 0)
		return e->code;
	if (tree_decode(vm_state, chunk_size, &d->vm_state, e) < 0)
		return err_ctx(e, "vm_state");
	return 0;
}

static int state_decode(const json_t *o, const struct manifest *m, uint32_t chunk_size, struct manifest_state *s,
			struct err *e)
{
	const json_t *a;
	size_t kind;

	if (js_choice(o, "kind", kind_names, 3, &kind, e) < 0 || js_text(o, "name", &s->name, e) < 0 ||
	    js_text_opt(o, "machine_id", &s->machine_id, e) < 0 || js_text_opt(o, "parent_id", &s->parent_id, e) < 0 ||
	    js_text_opt(o, "description", &s->description, e) < 0 || js_array(o, "disks", m->disks.n, &a, e) < 0)
		return e->code;
	s->kind = (enum state_kind)kind;
	if (s->kind != STATE_SNAPSHOT && (s->machine_id || s->parent_id || s->description))
		return err_set(e, ERR_CORRUPT, "a machine's snapshot is told in a state that is no snapshot");
	for (size_t i = 0; i < json_array_size(a); i++) {
		struct manifest_state_disk *d = VEC_PUSH(&s->disks, e);

		if (!d)
			return e->code;
		if (state_disk_decode(json_array_get(a, i), m, s->kind, chunk_size, d, e) < 0)
			return err_ctx(e, "disks[%zu]", i);
		for (size_t k = 0; k < i; k++)
			if (s->disks.p[k].disk == d->disk)
				return err_set(e, ERR_CORRUPT, "disk %" PRIu32 " is there twice", d->disk);
	}
	return 0;
}

static int states_decode(const json_t *o, struct manifest *m, uint32_t chunk_size, struct err *e)
{
	const json_t *a;

	if (js_array(o, "states", STATES_MAX, &a, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_array_size(a); i++) {
		struct manifest_state *s = VEC_PUSH(&m->states, e);

		if (!s)
			return e->code;
		if (state_decode(json_array_get(a, i), m, chunk_size, s, e) < 0)
			return err_ctx(e, "states[%zu]", i);
	}
	return 0;
}

static int attachments_decode(const json_t *o, struct manifest *m, uint32_t chunk_size, struct err *e)
{
	const json_t *a;

	if (js_array(o, "attachments", ATTACHMENTS_MAX, &a, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_array_size(a); i++) {
		struct manifest_attachment *at = VEC_PUSH(&m->attachments, e);
		const json_t *row = json_array_get(a, i);

		if (!at)
			return e->code;
		if (js_text(row, "name", &at->name, e) < 0 || tree_decode(row, chunk_size, &at->tree, e) < 0 ||
		    js_u32(row, "mode", 0, 07777, &at->mode, e) < 0)
			return err_ctx(e, "attachments[%zu]", i);
		if (!at->name[0] || strchr(at->name, '/') || !strcmp(at->name, ".") || !strcmp(at->name, ".."))
			return err_set(e, ERR_CORRUPT, "attachment %zu has a name that is no file's", i);
	}
	return 0;
}

static int problems_decode(const json_t *o, struct manifest *m, struct err *e)
{
	const json_t *a;

	if (js_array(o, "problems", PROBLEMS_MAX, &a, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_array_size(a); i++) {
		struct manifest_problem *p = VEC_PUSH(&m->problems, e);
		const json_t *row = json_array_get(a, i);

		if (!p)
			return e->code;
		if (js_text(row, "disk", &p->disk, e) < 0 || js_text(row, "state", &p->state, e) < 0 ||
		    js_text(row, "text", &p->text, e) < 0)
			return err_ctx(e, "problems[%zu]", i);
	}
	return 0;
}

static int head_decode(const json_t *o, struct manifest *m, struct err *e)
{
	const json_t *machine, *statistics;
	uint64_t format;

	if (js_uint(o, "format", 0, INT64_MAX, &format, e) < 0)
		return e->code;
	if (format != FORMAT_VERSION)
		return err_set(e, ERR_UNSUPPORTED, "the manifest has format %" PRIu64 "; this program knows format %d",
			       format, FORMAT_VERSION);
	if (js_name(o, "vm", &m->vm, e) < 0 || js_text_opt(o, "vm_name", &m->vm_name, e) < 0 ||
	    js_text(o, "host", &m->host, e) < 0 || js_time(o, "start", &m->start_ns, e) < 0 ||
	    js_time(o, "end", &m->end_ns, e) < 0 || js_hex(o, "writer", m->writer.b, SLOT_BYTES, e) < 0 ||
	    js_hex(o, "session", m->session.b, SESSION_BYTES, e) < 0 ||
	    js_uint(o, "sequence", 1, INT64_MAX, &m->sequence, e) < 0 ||
	    js_hex_opt(o, "previous", m->previous.b, ID_BYTES, &m->has_previous, e) < 0 ||
	    js_bool(o, "complete", &m->complete, e) < 0 || js_object(o, "machine", &machine, e) < 0 ||
	    js_object(o, "statistics", &statistics, e) < 0)
		return e->code;
	if (js_text_opt(machine, "uuid", &m->machine_uuid, e) < 0 ||
	    js_text_opt(machine, "kind", &m->machine_kind, e) < 0 ||
	    js_text(machine, "source", &m->machine_source, e) < 0)
		return err_ctx(e, "machine");
	if (js_uint(statistics, "bytes_read", 0, INT64_MAX, &m->bytes_read, e) < 0 ||
	    js_uint(statistics, "bytes_hashed", 0, INT64_MAX, &m->bytes_hashed, e) < 0 ||
	    js_uint(statistics, "bytes_new", 0, INT64_MAX, &m->bytes_new, e) < 0 ||
	    js_uint(statistics, "bytes_stored", 0, INT64_MAX, &m->bytes_stored, e) < 0 ||
	    js_uint(statistics, "milliseconds", 0, INT64_MAX, &m->milliseconds, e) < 0)
		return err_ctx(e, "statistics");
	return 0;
}

int manifest_decode(const void *json, size_t len, uint32_t chunk_size, struct manifest **ret, struct err *e)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = manifest_new(e);
	CLEANUP(js_decref) json_t *o = NULL;

	if (!m || js_parse(json, len, &o, e) < 0 || head_decode(o, m, e) < 0 || problems_decode(o, m, e) < 0 ||
	    disks_decode(o, m, e) < 0 || states_decode(o, m, chunk_size, e) < 0 ||
	    attachments_decode(o, m, chunk_size, e) < 0 || TEXTS_DECODE(o, "tags", WORDS_MAX, &m->tags, e) < 0 ||
	    TEXTS_DECODE(o, "pins", WORDS_MAX, &m->pins, e) < 0)
		return e->code;
	*ret = STEAL(m);
	return 0;
}
