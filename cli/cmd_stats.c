/*
 * cmd_stats.c - kedge stats: what the repository holds.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "cli/table.h"
#include "repo/protocol.h"
#include "repo/stats.h"

/* The kind of an object type as people know it: its prefix without the slash. */
static const char *kind_name(enum object_type type, char buf[static 32])
{
	const char *prefix = object_prefix(type);

	if (type == OBJECT_CONFIG)
		return "config";
	if (!prefix)
		return NULL;
	snprintf(buf, 32, "%.*s", (int)strcspn(prefix, "/"), prefix);
	return buf;
}

static json_t *kind_json(const struct stats_kind *k)
{
	json_t *o = json_object();

	msg_json_set(&o, "objects", msg_json_u64(k->objects));
	msg_json_set(&o, "bytes", msg_json_u64(k->bytes));
	return o;
}

static int print_json(const struct repo_stats *s, const struct opened *op, struct err *e)
{
	json_t *o = json_object(), *kinds = json_object(), *vms = json_array();
	char name[32];

	for (int t = 1; t < OBJECT_TYPE_END; t++)
		if (s->kind[t].objects && kind_name((enum object_type)t, name))
			msg_json_set(&kinds, kind_name((enum object_type)t, name), kind_json(&s->kind[t]));
	for (size_t i = 0; i < s->vms.n; i++) {
		const struct stats_vm *v = &s->vms.p[i];
		json_t *row = json_object();

		msg_json_set(&row, "vm", msg_json_text(v->vm));
		msg_json_set(&row, "backups", msg_json_u64(v->backups));
		msg_json_set(&row, "incomplete", msg_json_u64(v->incomplete));
		msg_json_set(&row, "states", msg_json_u64(v->states));
		msg_json_set(&row, "size", msg_json_u64(v->size));
		msg_json_set(&row, "logical", msg_json_u64(v->logical));
		msg_json_set(&row, "bytes_stored", msg_json_u64(v->bytes_stored));
		msg_json_push(&vms, row);
	}
	msg_json_set(&o, "backups", json_integer((json_int_t)op->backups.n));
	msg_json_set(&o, "logical", msg_json_u64(s->logical));
	msg_json_set(&o, "chunks", msg_json_u64(s->chunks));
	msg_json_set(&o, "chunk_bytes", msg_json_u64(s->chunk_bytes));
	msg_json_set(&o, "delta_chunks", msg_json_u64(s->delta_chunks));
	msg_json_set(&o, "nodes", msg_json_u64(s->nodes));
	msg_json_set(&o, "doomed_packs", msg_json_u64(s->unusable_packs));
	msg_json_set(&o, "stored", kind_json(&s->total));
	msg_json_set(&o, "unknown", kind_json(&s->unknown));
	msg_json_set(&o, "kinds", kinds);
	msg_json_set(&o, "vms", vms);
	return msg_json(o, e);
}

static int print_vms(struct cli *c, const struct repo_stats *s, struct err *e)
{
	static const char *const head[] = { "VM", "BACKUPS>", "STATES>", "SIZE>", "ALL STATES>", "STORED>", "NEWEST" };
	struct table t;
	int r = 0;

	table_init(&t, 7, head);
	for (size_t i = 0; r == 0 && i < s->vms.n; i++) {
		const struct stats_vm *v = &s->vms.p[i];
		char n[24], st[24], size[MSG_SIZE_BYTES], all[MSG_SIZE_BYTES], stored[MSG_SIZE_BYTES], time[32];

		snprintf(n, sizeof(n), "%" PRIu64, v->backups);
		snprintf(st, sizeof(st), "%" PRIu64, v->states);
		r = table_row(&t, e, v->vm, n, st, msg_size(c, v->size, size), msg_size(c, v->logical, all),
			      msg_size(c, v->bytes_stored, stored), clock_local_text(v->last_ns, time));
	}
	if (r == 0)
		table_print(&t, 0, stdout);
	table_done(&t);
	return r;
}

static int print_text(struct cli *c, const struct repo_stats *s, struct err *e)
{
	char a[MSG_SIZE_BYTES], name[32];

	if (s->vms.n && print_vms(c, s, e) < 0)
		return e->code;
	printf("chunks: %" PRIu64 ", %s before compression; nodes: %" PRIu64 "\n", s->chunks,
	       msg_size(c, s->chunk_bytes, a), s->nodes);
	for (int t = 1; t < OBJECT_TYPE_END; t++)
		if (s->kind[t].objects && kind_name((enum object_type)t, name))
			printf("  %-10s %8" PRIu64 " object%-1s  %s\n", kind_name((enum object_type)t, name),
			       s->kind[t].objects, msg_plural(s->kind[t].objects), msg_size(c, s->kind[t].bytes, a));
	if (s->unknown.objects)
		printf("  %-10s %8" PRIu64 " object%-1s  %s\n", "not ours", s->unknown.objects,
		       msg_plural(s->unknown.objects), msg_size(c, s->unknown.bytes, a));
	if (s->unusable_packs)
		printf("doomed packs that the next collection removes: %" PRIu64 "\n", s->unusable_packs);
	printf("stored: %s", msg_size(c, s->total.bytes, a));
	if (s->total.bytes && s->logical)
		printf(" for %s of disks: %.1f to 1", msg_size(c, s->logical, a),
		       (double)s->logical / (double)s->total.bytes);
	putchar('\n');
	return msg_flush(e);
}

static int collect(struct opened *o, struct repo_stats **ret, struct err *e)
{
	struct protocol_view *v = NULL;
	struct index *x = NULL;
	const struct index_opts io = { 0 };
	int r = protocol_load(o->repo, false, &v, e);

	if (r == 0)
		r = index_load(o->repo, v, &io, &x, NULL, e);
	if (r == 0)
		r = repo_stats_collect(o->repo, x, &o->backups, ret, e);
	index_free(x);
	protocol_free(v);
	return r;
}

static int run(struct cli *c, void *opts, struct err *e)
{
	CLEANUP(repo_stats_free_cleanup) struct repo_stats *s = NULL;
	struct opened o = { 0 };
	int r;

	(void)opts;	/* has no options of its own */
	r = open_listed(c, &o, NULL, e);
	if (r == 0)
		r = collect(&o, &s, e);
	if (r == 0)
		r = c->g.json ? print_json(s, &o, e) : print_text(c, s, e);
	opened_done(&o);
	return r;
}

const struct command cmd_stats = {
	.name = "stats",
	.summary = "show what the repository holds",
	.usage = "",
	.globals = CLI_REPO | CLI_JSON | CLI_BYTES,
	.run = run,
};
