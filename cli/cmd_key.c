/*
 * cmd_key.c - kedge key: the slots that open the repository.
 */
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "cli/password.h"
#include "cli/table.h"

struct key_opts {
	const char *label, *new_password_file, *new_key_file;
	bool force;
};

static const struct opt key_options[] = {
	OPT(struct key_opts, label, 0, OPT_TEXT, "label", "TEXT", "add: what the key is called"),
	OPT(struct key_opts, new_password_file, 0, OPT_TEXT, "new-password-file", "FILE",
	    "add, passwd: the new passphrase (default: asked for)"),
	OPT(struct key_opts, new_key_file, 0, OPT_TEXT, "new-key-file", "FILE",
	    "add, passwd: a key file instead of a passphrase"),
	OPT(struct key_opts, force, 'f', OPT_FLAG, "force", NULL,
	    "remove: also the last key, the one in use, or one without a record; "
	    "keep: also when the removal began within the last hour"),
	{ .name = NULL },
};

static const char *const kinds[] = { "-", "passphrase", "keyfile", "recovery" };

static bool is_own(struct opened *o, const struct slot_info *s)
{
	return !memcmp(repo_own_slot(o->repo)->b, s->id.b, SLOT_BYTES);
}

/* Of a removal that was interrupted the key object may be left, or that somebody began it. */
static bool is_gone(const struct slot_info *s)
{
	return s->removed && !s->nkeys && !s->leaving_ns;
}

/* What there is to say of a slot: a stable word, what the table shows; and where an interrupted command or a loss
 * shows, what that is, and what `kedge key remove` does about it (NULL: nothing that is wanted), or which of its
 * folders has what is lost. */
struct condition {
	const char *word, *shown, *what, *removing, *lost;
};

static const struct condition *condition_of(struct opened *o, const struct slot_info *s)
{
	static const struct condition
		usual = { .word = "usable", .shown = "" },
		own = { .word = "in-use", .shown = "in use" },
		gone = { .word = "removed", .shown = "removed" },
		half = { "no-key", "opens nothing", "has no key object, as after an interrupted `kedge key add`",
			 "removes it", NULL },
		broken = { "key-damaged", "opens nothing", "has a damaged key object", NULL, "keys" },
		changing = { .word = "change-unfinished", .shown = "opens with several secrets",
			     .what = "opens with more than one secret, as after an interrupted `kedge key passwd`" },
		going = { "removal-unfinished", "removed, not finished", "was removed, but that was not finished",
			  "finishes it", NULL },
		leaving = { "removal-begun", "being removed", "is being removed; where that was interrupted",
			    "ends it, `kedge key keep` with the same gives it up", NULL };

	if (s->removed)
		return s->nkeys || s->leaving_ns ? &going : &gone;
	if (s->leaving_ns)
		return &leaving;
	if (s->nkeys > 1)
		return &changing;
	return !s->nkeys ? &half : !s->kinds ? &broken : is_own(o, s) ? &own : &usual;
}

static const struct condition *condition_of_stray(const struct slot_stray *s)
{
	static const struct condition
		foreign = { "foreign", "opens nothing", "is none of this repository, as after an interrupted init",
			    "removes it", NULL },
		lost = { "no-record", "opens nothing", "has no record that can be read", NULL, "slots" };

	return s->foreign ? &foreign : &lost;
}

static json_t *slot_json(const struct slot_info *s, struct opened *o)
{
	char hex[2 * SLOT_BYTES + 1], time[32];
	json_t *j = json_object();

	msg_json_set(&j, "slot", json_string(text_hex(s->id.b, SLOT_BYTES, hex)));
	msg_json_set(&j, "label", msg_json_text(s->label));
	msg_json_set(&j, "role", json_string(slot_role_name(s->role)));
	msg_json_set(&j, "kind", json_string(kinds[s->kind]));
	msg_json_set(&j, "created", json_string(clock_utc_text(s->time_ns, time)));
	msg_json_set(&j, "removed", json_boolean(s->removed));
	msg_json_set(&j, "in_use", json_boolean(is_own(o, s)));
	msg_json_set(&j, "state", json_string(condition_of(o, s)->word));
	return j;
}

static json_t *stray_json(const struct slot_stray *s)
{
	char hex[2 * SLOT_BYTES + 1];
	json_t *j = json_object();

	msg_json_set(&j, "slot", json_string(text_hex(s->id.b, SLOT_BYTES, hex)));
	msg_json_set(&j, "removed", json_false());
	msg_json_set(&j, "in_use", json_false());
	msg_json_set(&j, "state", json_string(condition_of_stray(s)->word));
	return j;
}

static int list_json(struct opened *o, const struct slot_list *l, struct err *e)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		msg_json_push(&a, slot_json(&l->p[i], o));
	for (size_t i = 0; i < l->nstrays; i++)
		msg_json_push(&a, stray_json(&l->stray[i]));
	return msg_json(a, e);
}

static int list_table(struct opened *o, const struct slot_list *l, struct table *t, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1], time[32], label[128];
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n; i++) {
		const struct slot_info *s = &l->p[i];

		if (is_gone(s))
			continue;
		r = table_row(t, e, text_hex(s->id.b, SLOT_BYTES, hex), text_quote(s->label, label, sizeof(label)),
			      slot_role_name(s->role), kinds[s->kind], clock_local_text(s->time_ns, time),
			      condition_of(o, s)->shown);
	}
	for (size_t i = 0; r == 0 && i < l->nstrays; i++)
		r = table_row(t, e, text_hex(l->stray[i].id.b, SLOT_BYTES, hex), NULL, NULL, NULL, NULL,
			      condition_of_stray(&l->stray[i])->shown);
	return r;
}

static void advise(struct cli *c, const struct condition *of, const struct slot_id *id)
{
	char hex[2 * SLOT_BYTES + 1];

	text_hex(id->b, SLOT_BYTES, hex);
	if (of->what && of->removing)
		msg_note(c, "key %s %s: `kedge key remove %s` %s", hex, of->what, hex, of->removing);
	else if (of->lost)
		msg_note(c, "key %s %s: bring what is in the folder %s/%s back from a copy of the storage", hex,
			 of->what, of->lost, hex);
	else if (of->what)
		msg_note(c, "key %s %s: run that again with one of them, and the others go", hex, of->what);
}

static int list_text(struct cli *c, struct opened *o, const struct slot_list *l, struct err *e)
{
	static const char *const head[] = { "SLOT", "LABEL", "ROLE", "OPENS WITH", "SINCE", "" };
	struct table t;
	int r;

	table_init(&t, 6, head);
	r = list_table(o, l, &t, e);
	if (r == 0)
		table_print(&t, 0, stdout);
	table_done(&t);
	if (r == 0)
		r = msg_flush(e);
	for (size_t i = 0; r == 0 && i < l->n; i++)
		advise(c, condition_of(o, &l->p[i]), &l->p[i].id);
	for (size_t i = 0; r == 0 && i < l->nstrays; i++)
		advise(c, condition_of_stray(&l->stray[i]), &l->stray[i].id);
	return r;
}

static int key_list(struct cli *c, const struct key_opts *k, struct opened *o, struct err *e)
{
	struct slot_list l = { 0 };
	int r = repo_slots(o->repo, &l, e);

	(void)k;
	if (r == 0)
		r = c->g.json ? list_json(o, &l, e) : list_text(c, o, &l, e);
	slot_list_free(&l);
	return r;
}

static int new_secret(struct cli *c, const struct key_opts *k, struct secret **ret, struct err *e)
{
	if (k->new_key_file && k->new_password_file)
		return cli_usage(c, e, "either --new-key-file or --new-password-file");
	if (k->new_key_file)
		return password_read_key_file(k->new_key_file, ret, e);
	if (k->new_password_file)
		return password_get_new(c, "new passphrase", k->new_password_file, ret, e);
	return password_ask_new(c, "new passphrase", ret, e);	/* the environment has the present one */
}

static int key_add(struct cli *c, const struct key_opts *k, struct opened *o, struct err *e)
{
	/* A full key could make itself trusted anyway. */
	const struct slot_new_opts so = { .label = k->label ? k->label : "unnamed",
					  .role = ROLE_FULL,
					  .trusted = true };
	char hex[2 * SLOT_BYTES + 1];
	struct secret *secret = NULL;
	struct slot_id id;
	int r = new_secret(c, k, &secret, e);

	if (r == 0)
		r = repo_slot_add(o->repo, secret, &so, &id, e);
	secret_free(secret);
	if (r < 0)
		return r;
	text_hex(id.b, SLOT_BYTES, hex);
	if (c->g.json) {
		json_t *j = json_object();

		msg_json_set(&j, "slot", json_string(hex));
		return msg_json(j, e);
	}
	msg_note(c, "added key %s", hex);
	return 0;
}

/* A slot by the beginning of its id, or by its label. */
static int find_slot(const struct slot_list *l, const char *text, struct slot_id *ret, bool *ret_stray, struct err *e)
{
	bool stray = false;
	size_t found = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct slot_info *s = &l->p[i];
		char hex[2 * SLOT_BYTES + 1];

		if (is_gone(s) ||
		    (strncmp(text_hex(s->id.b, SLOT_BYTES, hex), text, strlen(text)) && strcmp(s->label, text)))
			continue;
		found++;
		*ret = s->id;
	}
	for (size_t i = 0; i < l->nstrays; i++) {
		char hex[2 * SLOT_BYTES + 1];

		if (strncmp(text_hex(l->stray[i].id.b, SLOT_BYTES, hex), text, strlen(text)))
			continue;
		found++;
		stray = true;
		*ret = l->stray[i].id;
	}
	if (found == 1) {
		*ret_stray = stray;
		return 0;
	}
	err_set(e, found ? ERR_INVALID : ERR_NOTFOUND, found ? "several keys fit %s" : "no key fits %s", text);
	return err_hint(e, "kedge key list shows them; name one by its SLOT");
}

static int key_remove(struct cli *c, const struct key_opts *k, struct opened *o, struct err *e)
{
	struct slot_list l = { 0 };
	struct slot_id id;
	bool stray = false;
	int r = repo_slots(o->repo, &l, e);

	if (r == 0)
		r = find_slot(&l, c->args[1], &id, &stray, e);
	if (r == 0)
		r = repo_slot_remove(o->repo, &id, k->force, e);
	slot_list_free(&l);
	if (r == 0 && stray)
		msg_note(c, "removed what was there of a key slot without a record");
	else if (r == 0)
		msg_note(c, "removed the key; whoever copied the storage before can still open that copy with it");
	return r;
}

static int key_keep(struct cli *c, const struct key_opts *k, struct opened *o, struct err *e)
{
	struct slot_list l = { 0 };
	struct slot_id id;
	bool stray;
	int r = repo_slots(o->repo, &l, e);

	if (r == 0)
		r = find_slot(&l, c->args[1], &id, &stray, e);
	if (r == 0)
		r = repo_slot_keep(o->repo, &id, k->force, e);
	slot_list_free(&l);
	if (r == 0)
		msg_note(c, "the key stays");
	return r;
}

static int key_passwd(struct cli *c, const struct key_opts *k, struct opened *o, struct err *e)
{
	struct secret *secret = NULL;
	int r = new_secret(c, k, &secret, e);

	if (r == 0)
		r = repo_slot_passwd(o->repo, secret, e);
	secret_free(secret);
	if (r == 0)
		msg_note(c, "the key in use has a new passphrase");
	return r;
}

static const struct {
	const char *name;
	size_t nargs;
	bool new_secret, label, force;	/* which options it takes */
	int (*run)(struct cli *c, const struct key_opts *k, struct opened *o, struct err *e);
} actions[] = {
	{ "add", 1, true, true, false, key_add },
	{ "list", 1, false, false, false, key_list },
	{ "remove", 2, false, false, true, key_remove },
	{ "keep", 2, false, false, true, key_keep },
	{ "passwd", 1, true, false, false, key_passwd },
};

static int run(struct cli *c, void *opts, struct err *e)
{
	const struct key_opts *k = opts;
	struct opened o = { 0 };
	size_t i = 0;
	int r;

	while (i < sizeof(actions) / sizeof(*actions) && strcmp(actions[i].name, c->args[0]))
		i++;
	if (i == sizeof(actions) / sizeof(*actions))
		return cli_usage(c, e, "key %s: there is add, list, remove, keep, passwd", c->args[0]);
	if (c->nargs != actions[i].nargs)
		return cli_usage(c, e, actions[i].nargs == 2 ? "key %s: name the key" : "key %s: too many words",
				 c->args[0]);
	if (((k->new_key_file || k->new_password_file) && !actions[i].new_secret) || (k->label && !actions[i].label) ||
	    (k->force && !actions[i].force))
		return cli_usage(c, e, "key %s does not take that option", c->args[0]);
	r = open_repo(c, &o, e);
	if (r == 0)
		r = actions[i].run(c, k, &o, e);
	opened_done(&o);
	return r;
}

const struct command cmd_key = {
	.name = "key",
	.summary = "add, list, remove keys; change a passphrase",
	.usage = "add | list | remove SLOT | keep SLOT | passwd",
	.text = "Every key opens the whole repository.  `passwd` changes the passphrase of the key that was used\n"
		"to open it.  `keep` gives up a removal that was interrupted.",
	.options = key_options,
	.opts_size = sizeof(struct key_opts),
	.globals = CLI_REPO | CLI_JSON,
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
