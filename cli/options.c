/* options.c - the command line against the tables. */
#include "cli/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/cli.h"

#define WORD_MAX 40	/* longer words are not compared: nobody mistypes those into an option */
#define NAMES_MAX 128

static size_t min3(size_t a, size_t b, size_t c)
{
	return min_size(min_size(a, b), c);
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b; both at most WORD_MAX long. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t d[3][WORD_MAX + 1], n = strlen(a), m = strlen(b);
	size_t *before = d[0], *last = d[1], *now = d[2];

	for (size_t j = 0; j <= m; j++)
		last[j] = before[j] = j;
	for (size_t i = 1; i <= n; i++) {
		now[0] = i;
		for (size_t j = 1; j <= m; j++) {
			now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = min_size(now[j], before[j - 2] + 1);
		}
		size_t *oldest = before;

		before = last;
		last = now;
		now = oldest;
	}
	return last[m];
}

const char *nearest_word(const char *word, const char *const *names)
{
	const char *best = NULL;
	size_t len = strlen(word), limit = len / 3 + 1, best_d = limit + 1;

	if (len > WORD_MAX)
		return NULL;
	for (; *names; names++) {
		size_t d;

		if (strlen(*names) > WORD_MAX)
			continue;
		d = edit_distance(word, *names);
		if (len >= 3 && !strncmp(word, *names, len))
			d = 1;		/* an abbreviation is meant, though not accepted */
		if (d < best_d && d < strlen(*names)) {
			best_d = d;
			best = *names;
		}
	}
	return best;
}

struct parser {
	int argc, next;
	int command_at;		/* place of the command's name in argv; argc if there is none */
	char **argv;
	const struct opt *global_table;
	struct cli_globals *globals;
	const struct command *const *commands;
	struct parsed *p;
};

static const struct opt *find_in(const struct opt *t, const char *name, size_t len, char letter)
{
	for (; t && t->name; t++)
		if (letter ? t->letter == letter : strlen(t->name) == len && !strncmp(t->name, name, len))
			return t;
	return NULL;
}

static const struct command *find_command(const struct command *const *commands, const char *name)
{
	for (; *commands; commands++)
		if (!strcmp((*commands)->name, name))
			return *commands;
	return NULL;
}

static int unknown_option(const struct parser *ps, const char *name, size_t len, struct err *e)
{
	const char *names[NAMES_MAX + 1], *near;
	const struct opt *tables[2] = { ps->p->cmd ? ps->p->cmd->options : NULL, ps->global_table };
	char word[WORD_MAX + 8], shown[128];
	size_t n = 0;

	snprintf(word, sizeof(word), "%.*s", (int)min_size(len, WORD_MAX + 1), name);
	text_quote(word, shown, sizeof(shown));
	for (int i = 0; i < 2; i++)
		for (const struct opt *t = tables[i]; t && t->name && n < NAMES_MAX; t++)
			if (!ps->p->cmd || !t->group || (ps->p->cmd->globals & t->group))
				names[n++] = t->name;
	names[n] = NULL;
	near = nearest_word(word, names);
	(void)err_set(e, ERR_INVALID, "unknown option --%s", shown);
	if (near)
		(void)err_hint(e, "did you mean --%s?", near);
	return e->code;
}

static int bad_value(const struct opt *o, const char *value, const char *what, struct err *e)
{
	char shown[128];

	return err_set(e, ERR_INVALID, "--%s: \"%s\" is %s", o->name, text_quote(value, shown, sizeof(shown)), what);
}

static int list_add(struct opt_list *list, const char *value, struct err *e)
{
	const char **p = realloc(list->p, (list->n + 2) * sizeof(*p));

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for an option");
	p[list->n++] = value;
	p[list->n] = NULL;
	list->p = p;
	return 0;
}

static bool is_choice(const char *choices, const char *value)
{
	size_t len = strlen(value);

	for (const char *c = choices; c; c = strchr(c, '|')) {
		c += *c == '|';
		if (len && !strchr(value, '|') && !strncmp(c, value, len) && (c[len] == '|' || !c[len]))
			return true;
		if (!strchr(c, '|'))
			break;
	}
	return false;
}

static int set_number(const struct opt *o, uint64_t *member, const char *value, struct err *e)
{
	uint64_t v, max = o->max ? o->max : UINT64_MAX;
	char what[96], lo[HUMAN_BYTES_MAX], hi[HUMAN_BYTES_MAX];
	bool ok = o->kind == OPT_SIZE ? parse_size(value, &v) : parse_u64(value, 0, UINT64_MAX, &v);

	if (!ok)
		return bad_value(o, value, o->kind == OPT_SIZE ? "not a size (\"64K\", \"1.5G\")" : "not a number", e);
	if (v < o->min || v > max) {
		if (o->kind == OPT_SIZE)
			snprintf(what, sizeof(what), "not between %s and %s", human_bytes(o->min, lo),
				 human_bytes(max, hi));
		else
			snprintf(what, sizeof(what), "not between %" PRIu64 " and %" PRIu64, o->min, max);
		return bad_value(o, value, what, e);
	}
	*member = v;
	return 0;
}

static int set_value(const struct opt *o, void *base, const char *value, struct err *e)
{
	void *member = (char *)base + o->offset;
	char what[128];

	switch (o->kind) {
	case OPT_FLAG:
		*(bool *)member = true;
		return 0;
	case OPT_TEXT:
		if (o->choices && !is_choice(o->choices, value)) {
			snprintf(what, sizeof(what), "none of %s", o->choices);
			return bad_value(o, value, what, e);
		}
		/* fall through */
	case OPT_MAYBE:
		*(const char **)member = value ? value : "";
		return 0;
	case OPT_LIST:
		return list_add(member, value, e);
	case OPT_SIZE:
	case OPT_NUMBER:
		return set_number(o, member, value, e);
	}
	return err_set(e, ERR_INTERNAL, "option --%s has no kind", o->name);
}

static bool wants_value(const struct opt *o)
{
	return o->kind != OPT_FLAG && o->kind != OPT_MAYBE;
}

/* The next word as an option's value; NULL when there is none.  The command's name is no value: "kedge -o dump x". */
static const char *take_value(struct parser *ps)
{
	return ps->next < ps->argc && ps->next != ps->command_at ? ps->argv[ps->next++] : NULL;
}

/* The option by name or letter, and where its member lies. */
static const struct opt *lookup(const struct parser *ps, const char *name, size_t len, char letter, void **ret_base)
{
	const struct opt *o = ps->p->cmd ? find_in(ps->p->cmd->options, name, len, letter) : NULL;

	*ret_base = ps->p->opts;
	if (!o) {
		o = find_in(ps->global_table, name, len, letter);
		*ret_base = ps->globals;
	}
	return o;
}

static int check_group(const struct parser *ps, const struct opt *o, struct err *e)
{
	if (o->group && !(ps->p->cmd->globals & o->group))
		return err_set(e, ERR_INVALID, "%s does not take --%s", ps->p->cmd->name, o->name);
	return 0;
}

static int parse_long(struct parser *ps, const char *word, struct err *e)
{
	const char *eq = strchr(word, '='), *value = eq ? eq + 1 : NULL;
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	void *base;
	const struct opt *o = lookup(ps, word, len, 0, &base);

	if (!o)
		return unknown_option(ps, word, len, e);
	if (check_group(ps, o, e) < 0)
		return e->code;
	if (o->kind == OPT_FLAG && value)
		return err_set(e, ERR_INVALID, "--%s takes no value", o->name);
	if (wants_value(o) && !value)
		value = take_value(ps);
	if (wants_value(o) && !value)
		return err_set(e, ERR_INVALID, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
	return set_value(o, base, value, e);
}

static int parse_letters(struct parser *ps, const char *letters, struct err *e)
{
	for (; *letters; letters++) {
		void *base;
		const struct opt *o = lookup(ps, "", 0, *letters, &base);
		const char *value = NULL;
		char shown[8];

		if (!o)
			return err_set(e, ERR_INVALID, "unknown option -%s",
				       text_quote((char[2]){ *letters, 0 }, shown, sizeof(shown)));
		if (check_group(ps, o, e) < 0)
			return e->code;
		if (wants_value(o)) {
			value = letters[1] ? letters + 1 : take_value(ps);
			if (!value)
				return err_set(e, ERR_INVALID, "-%c needs a value: -%c %s", o->letter, o->letter,
					       o->arg);
			return set_value(o, base, value, e);
		}
		if (set_value(o, base, NULL, e) < 0)
			return e->code;
	}
	return 0;
}

static int unknown_command(const struct parser *ps, const char *word, struct err *e)
{
	const char *names[NAMES_MAX + 1], *near;
	char shown[128];
	size_t n = 0;

	for (const struct command *const *c = ps->commands; *c && n < NAMES_MAX; c++)
		names[n++] = (*c)->name;
	names[n] = NULL;
	near = nearest_word(word, names);
	(void)err_set(e, ERR_INVALID, "unknown command \"%s\"", text_quote(word, shown, sizeof(shown)));
	if (near)
		(void)err_hint(e, "did you mean \"%s\"?", near);
	else
		(void)err_hint(e, "kedge help lists the commands");
	return e->code;
}

/* True when the option word a (global options only are known yet) takes the next word as its value. */
static bool takes_next(const struct parser *ps, const char *a)
{
	const struct opt *o;

	if (a[1] == '-') {
		o = strchr(a, '=') ? NULL : find_in(ps->global_table, a + 2, strlen(a + 2), 0);
		return o && wants_value(o);
	}
	for (const char *l = a + 1; *l; l++) {
		o = find_in(ps->global_table, "", 0, *l);
		if (!o || wants_value(o))
			return o && !l[1];
	}
	return false;
}

/* Finds the command before anything else is parsed, so that global options may stand before it. */
static int find_command_word(const struct parser *ps)
{
	for (int i = 1; i < ps->argc; i++) {
		const char *a = ps->argv[i];

		if (a[0] != '-' || !a[1])
			return i;
		if (!strcmp(a, "--"))
			return i + 1 < ps->argc ? i + 1 : ps->argc;
		if (takes_next(ps, a))
			i++;
	}
	return ps->argc;
}

static int pick_command(struct parser *ps, struct err *e)
{
	struct parsed *p = ps->p;

	ps->command_at = find_command_word(ps);
	if (ps->command_at >= ps->argc)
		return 0;
	p->cmd = find_command(ps->commands, ps->argv[ps->command_at]);
	if (!p->cmd)
		return unknown_command(ps, ps->argv[ps->command_at], e);
	p->opts = calloc(1, p->cmd->opts_size ? p->cmd->opts_size : 1);
	if (!p->opts)
		return err_set(e, ERR_NOMEM, "no memory for options");
	return 0;
}

static void set_from_env(const struct opt *t, void *base)
{
	for (; t && t->name; t++) {
		const char **member = (const char **)(void *)((char *)base + t->offset), *value;

		if (t->kind != OPT_TEXT || !t->env || *member)
			continue;
		value = getenv(t->env);
		if (value && *value)
			*member = value;
	}
}

static int check_args(const struct parsed *p, struct err *e)
{
	const struct command *c = p->cmd;
	char shown[128];

	if (p->nargs < c->min_args) {
		(void)err_set(e, ERR_INVALID, "%s needs %s: kedge %s %s", c->name,
			      c->min_args == 1 ? "an operand" : "more operands", c->name, c->usage);
		return e->code;
	}
	if (p->nargs > c->max_args)
		return err_set(e, ERR_INVALID, "%s: one operand too many: \"%s\"", c->name,
			       text_quote(p->args[c->max_args], shown, sizeof(shown)));
	return 0;
}

static int parse_words(struct parser *ps, struct err *e)
{
	struct parsed *p = ps->p;
	bool ended = false;

	while (ps->next < ps->argc) {
		int at = ps->next++;
		const char *a = ps->argv[at];
		int r = 0;

		if (ended || a[0] != '-' || !a[1]) {
			if (at != ps->command_at)
				p->args[p->nargs++] = a;
		} else if (!strcmp(a, "--")) {
			ended = true;
		} else if (!p->cmd && strcmp(a, "--help") && strcmp(a, "-h") && strcmp(a, "--version")) {
			r = err_set(e, ERR_INVALID, "%s without a command", a);
		} else {
			r = a[1] == '-' ? parse_long(ps, a + 2, e) : parse_letters(ps, a + 1, e);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int options_parse(int argc, char **argv, const struct opt *global_table, struct cli_globals *globals,
		  const struct command *const *commands, struct parsed *ret, struct err *e)
{
	struct parser ps = { .argc = argc, .argv = argv, .next = 1, .global_table = global_table, .globals = globals,
			     .commands = commands, .p = ret };

	*ret = (struct parsed){ 0 };
	ret->args = calloc((size_t)argc + 1, sizeof(*ret->args));
	if (!ret->args)
		return err_set(e, ERR_NOMEM, "no memory for operands");
	if (pick_command(&ps, e) < 0 || parse_words(&ps, e) < 0)
		return e->code;
	ret->help = globals->help;
	ret->version = globals->version;
	if (ret->help || ret->version)
		return 0;
	if (!ret->cmd) {
		(void)err_set(e, ERR_INVALID, "no command given");
		return err_hint(e, "kedge help lists the commands");
	}
	set_from_env(global_table, globals);
	set_from_env(ret->cmd->options, ret->opts);
	return check_args(ret, e);
}

static void free_lists(const struct opt *t, void *base)
{
	for (; t && t->name && base; t++) {
		struct opt_list *list = (struct opt_list *)(void *)((char *)base + t->offset);

		if (t->kind == OPT_LIST) {
			free(list->p);
			*list = (struct opt_list){ 0 };
		}
	}
}

void options_done(struct parsed *p, const struct opt *global_table, struct cli_globals *globals)
{
	free_lists(global_table, globals);
	if (p->cmd)
		free_lists(p->cmd->options, p->opts);
	free(p->opts);
	free(p->args);
	*p = (struct parsed){ 0 };
}
