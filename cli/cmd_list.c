/*
 * cmd_list.c - kedge list: one line a backup.
 */
#include <inttypes.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "cli/table.h"

/* The size of a backup for people: its current state, or its largest. */
static uint64_t backup_size(const struct manifest *m)
{
	uint64_t best = 0;

	for (size_t i = 0; i < m->states.n; i++) {
		const struct manifest_state *s = &m->states.p[i];
		uint64_t sum = 0;

		for (size_t k = 0; k < s->disks.n; k++)
			sum += s->disks.p[k].tree.size;
		if (s->kind == STATE_CURRENT)
			return sum;
		best = sum > best ? sum : best;
	}
	return best;
}

/* "current +7 snapshots +1 layer" */
static void states_text(const struct manifest *m, char *buf, size_t len)
{
	size_t n[3] = { 0 };
	int at;

	for (size_t i = 0; i < m->states.n; i++)
		n[m->states.p[i].kind]++;
	at = snprintf(buf, len, "%s", n[STATE_CURRENT] ? "current" : "-");
	if (n[STATE_SNAPSHOT])
		at += snprintf(buf + at, len - (size_t)at, " +%zu snapshot%s", n[STATE_SNAPSHOT],
			       n[STATE_SNAPSHOT] > 1 ? "s" : "");
	if (n[STATE_LAYER])
		snprintf(buf + at, len - (size_t)at, " +%zu layer%s", n[STATE_LAYER], n[STATE_LAYER] > 1 ? "s" : "");
}

static int add_row(struct cli *c, struct table *t, const struct backup *b, struct err *e)
{
	const struct manifest *m = b->m;
	char id[SHORT_ID_BYTES], time[32], states[96], size[MSG_SIZE_BYTES], read[MSG_SIZE_BYTES],
		stored[MSG_SIZE_BYTES], name[256];
	const char *note = !m->complete ? "incomplete" : b->pending ? "pending" : "";

	states_text(m, states, sizeof(states));
	if (m->vm_name)
		snprintf(name, sizeof(name), "%s (", m->vm);
	else
		snprintf(name, sizeof(name), "%s", m->vm);
	if (m->vm_name) {
		size_t n = strlen(name);

		text_quote(m->vm_name, name + n, sizeof(name) - n - 1);
		n = strlen(name);
		name[n] = ')';
		name[n + 1] = 0;
	}
	return table_row(t, e, short_id(&b->hash, id), name, clock_local_text(m->end_ns, time), states,
			 msg_size(c, backup_size(m), size), msg_size(c, m->bytes_read, read),
			 msg_size(c, m->bytes_stored, stored), note);
}

static int print_text(struct cli *c, const struct backup_list *l, struct err *e)
{
	static const char *const head[] = { "ID", "VM", "TIME", "STATES", "SIZE>", "READ>", "STORED>", "" };
	struct table t;
	int r = 0;

	table_init(&t, 8, head);
	for (size_t i = 0; r == 0 && i < l->n; i++)
		r = add_row(c, &t, &l->p[i], e);
	if (r == 0 && l->n)
		table_print(&t, 0, stdout);
	if (r == 0 && !l->n)
		msg_note(c, c->nargs ? "no backups of %s" : "no backups", c->nargs ? c->args[0] : NULL);
	table_done(&t);
	return r < 0 ? r : msg_flush(e);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	struct opened o = { 0 };
	int r;

	(void)opts;	/* has no options of its own */
	r = open_listed(c, &o, c->nargs ? c->args[0] : NULL, e);
	if (r == 0 && c->g.json) {
		json_t *a = json_array();

		for (size_t i = 0; i < o.backups.n; i++)
			msg_json_push(&a, backup_json(&o.backups.p[i]));
		r = msg_json(a, e);
	} else if (r == 0) {
		r = print_text(c, &o.backups, e);
	}
	opened_done(&o);
	return r;
}

const struct command cmd_list = {
	.name = "list",
	.summary = "list the backups",
	.usage = "[VM]",
	.text = "One line a backup, by VM, oldest first.  `kedge show VM@ID` shows its states.",
	.globals = CLI_REPO | CLI_JSON | CLI_BYTES,
	.max_args = 1,
	.run = run,
};
