/*
 * cmd_show.c - kedge show: one backup with its states, how they were read, and what went wrong.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "cli/table.h"

/* What a point may name the state by: its selector, and the id too where the selector can't be typed or fits another
 * state. */
static const char *state_name(const struct manifest *m, size_t at, const char *selector, char *buf, size_t len)
{
	const struct manifest_state *s = &m->states.p[at];
	char quoted[128];
	bool id = strcmp(text_quote(selector, quoted, sizeof(quoted)), selector) != 0;
	size_t n = (size_t)snprintf(buf, len, "%s", quoted);

	for (size_t i = 0; s->kind == STATE_SNAPSHOT && !id && i < m->states.n; i++)
		id = i != at && m->states.p[i].kind == STATE_SNAPSHOT && !strcmp(m->states.p[i].name, s->name);
	if (s->kind == STATE_SNAPSHOT && id && s->machine_id)
		snprintf(buf + n, len - n, " (snapid:%s)", text_quote(s->machine_id, quoted, sizeof(quoted)));
	else if (s->kind == STATE_SNAPSHOT && id && s->disks.n && s->disks.p[0].snapshot_id)
		snprintf(buf + n, len - n, " (snapid:%s)",
			 text_quote(s->disks.p[0].snapshot_id, quoted, sizeof(quoted)));
	return buf;
}

static int states_table(struct cli *c, const struct manifest *m, struct err *e)
{
	static const char *const head[] = { "STATE", "DISK", "SIZE>", "TAKEN", "READ AS", "READ>", "VM STATE>" };
	struct table t;
	int r = 0;

	table_init(&t, 7, head);
	for (size_t i = 0; r == 0 && i < m->states.n; i++) {
		const struct manifest_state *s = &m->states.p[i];
		CLEANUP(free_ptr) char *selector = manifest_state_selector(s, e);
		char name[280];

		if (!selector)
			r = e->code;
		for (size_t k = 0; r == 0 && k < s->disks.n; k++) {
			const struct manifest_state_disk *sd = &s->disks.p[k];
			char size[MSG_SIZE_BYTES], read[MSG_SIZE_BYTES], vm[MSG_SIZE_BYTES], date[32];

			r = table_row(&t, e, state_name(m, i, selector, name, sizeof(name)), m->disks.p[sd->disk].name,
				      msg_size(c, sd->tree.size, size),
				      sd->date_ns ? clock_local_text(sd->date_ns, date) : NULL, read_how_name(sd->how),
				      msg_size(c, sd->bytes_read, read),
				      sd->has_vm_state ? msg_size(c, sd->vm_state.size, vm) : NULL);
		}
	}
	if (r == 0)
		table_print(&t, 2, stdout);
	table_done(&t);
	return r;
}

static void print_disks(struct cli *c, const struct manifest *m)
{
	char a[512], size[MSG_SIZE_BYTES];

	for (size_t i = 0; i < m->disks.n; i++) {
		const struct manifest_disk *d = &m->disks.p[i];

		printf("disk %s: %s, %s\n", d->name, d->format, text_quote(d->path, a, sizeof(a)));
		for (size_t k = 0; k < d->layers.n; k++)
			printf("  layer %zu: %s, %s, %s\n", k, d->layers.p[k].format,
			       text_quote(d->layers.p[k].path, a, sizeof(a)),
			       msg_size(c, d->layers.p[k].virtual_size, size));
		for (size_t k = 0; k < d->dropped.n; k++)
			printf("  not carried over: %s\n", text_quote(d->dropped.p[k], a, sizeof(a)));
	}
	for (size_t i = 0; i < m->attachments.n; i++)
		printf("attachment %s: %s\n", text_quote(m->attachments.p[i].name, a, sizeof(a)),
		       msg_size(c, m->attachments.p[i].tree.size, size));
}

static int print_text(struct cli *c, const struct backup *b, struct err *e)
{
	const struct manifest *m = b->m;
	char hex[2 * ID_BYTES + 1], t[32], a[512], s1[MSG_SIZE_BYTES], s2[MSG_SIZE_BYTES], s3[MSG_SIZE_BYTES];
	int r;

	printf("backup %s\n", text_hex(b->hash.b, ID_BYTES, hex));
	printf("VM %s", m->vm);
	if (m->vm_name)
		printf(" (%s)", text_quote(m->vm_name, a, sizeof(a)));
	printf(", host %s, %s%s%s\n", text_quote(m->host, hex, sizeof(hex)), clock_local_text(m->end_ns, t),
	       m->complete ? "" : ", INCOMPLETE", b->pending ? ", pending: a sweep has yet to decide about it" : "");
	printf("read %s, new %s, stored %s, %.1f s\n", msg_size(c, m->bytes_read, s1), msg_size(c, m->bytes_new, s2),
	       msg_size(c, m->bytes_stored, s3), (double)m->milliseconds / 1000);
	for (size_t i = 0; i < m->tags.n; i++)
		printf("tag %s\n", text_quote(m->tags.p[i], a, sizeof(a)));
	print_disks(c, m);
	printf("states:\n");
	r = states_table(c, m, e);
	for (size_t i = 0; i < m->problems.n; i++) {
		const struct manifest_problem *p = &m->problems.p[i];

		printf("problem: %s", p->disk ? p->disk : "-");
		if (p->state && *p->state)
			printf(", %s", text_quote(p->state, hex, sizeof(hex)));
		printf(": %s\n", text_quote(p->text, a, sizeof(a)));
	}
	return r < 0 ? r : msg_flush(e);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	struct opened o = { 0 };
	const struct backup *b;
	int r;

	(void)opts;	/* has no options of its own */
	r = open_listed(c, &o, NULL, e);
	if (r == 0)
		r = backup_find(&o.backups, c->args[0], &b, e);
	if (r == ERR_INVALID)
		(void)cli_exit(c, EXIT_USAGE, e);
	if (r == 0)
		r = c->g.json ? msg_json(backup_json(b), e) : print_text(c, b, e);
	opened_done(&o);
	return r;
}

const struct command cmd_show = {
	.name = "show",
	.summary = "show one backup and its states",
	.usage = "VM[@WHEN]",
	.text = "WHEN is latest (default), the beginning of an id, a day (2026-11-20) or a time (2026-11-20T03:00).",
	.globals = CLI_REPO | CLI_JSON | CLI_BYTES,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
