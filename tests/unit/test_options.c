/* The command line against tables. */
#include "tests/test.h"

#include "cli/cli.h"

struct demo_opts {
	bool force;
	const char *out, *mode, *maybe, *env;
	struct opt_list allow;
	uint64_t size, count;
};

static int run_nothing(struct cli *c, void *opts, struct err *e)
{
	(void)c;
	(void)opts;
	(void)e;
	return 0;
}

static const struct opt demo_table[] = {
	OPT(struct demo_opts, force, 'f', OPT_FLAG, "force", NULL, "force"),
	OPT(struct demo_opts, out, 'o', OPT_TEXT, "output", "FILE", "out"),
	OPT(struct demo_opts, mode, 0, OPT_TEXT, "mode", "M", "mode", .choices = "fast|max|off"),
	OPT(struct demo_opts, maybe, 0, OPT_MAYBE, "read-data", "N%", "maybe"),
	OPT(struct demo_opts, env, 0, OPT_TEXT, "env", "X", "env", .env = "KEDGE_TEST_OPTION"),
	OPT(struct demo_opts, allow, 0, OPT_LIST, "allow-path", "DIR", "allow"),
	OPT(struct demo_opts, size, 0, OPT_SIZE, "cluster-size", "SIZE", "size", .min = 512, .max = 2 << 20),
	OPT(struct demo_opts, count, 'n', OPT_NUMBER, "count", "N", "count", .min = 1, .max = 9),
	{ .name = NULL },
};
static const struct command demo = { .name = "demo",
				     .usage = "A [B]",
				     .options = demo_table,
				     .min_args = 1,
				     .max_args = 2,
				     .opts_size = sizeof(struct demo_opts),
				     .globals = CLI_REPO | CLI_JSON,
				     .run = run_nothing };
static const struct command other = { .name = "restore", .usage = "", .run = run_nothing };
static const struct command *const commands[] = { &demo, &other, NULL };

struct run {
	struct cli_globals g;
	struct parsed p;
	struct err e;
	int r;
};

/* Parses "a b c"; the words live until the next call. */
static struct run parse(const char *line)
{
	static char text[256];
	static char *argv[32];
	struct run x = { 0 };
	int argc = 1;

	snprintf(text, sizeof(text), "%s", line);
	argv[0] = text;
	for (char *save = NULL, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	x.r = options_parse(argc, argv, cli_global_options, &x.g, commands, &x.p, &x.e);
	return x;
}

static void done(struct run *x)
{
	options_done(&x->p, cli_global_options, &x->g);
}

static void test_options__every_kind_and_form(void **state)
{
	struct run x = parse("-r /repo demo --force -oFILE --mode=max --read-data --allow-path a --allow-path=b IMG "
			     "--cluster-size 64K -n 3 -q -- -x");
	const struct demo_opts *o = x.p.opts;

	(void)state;
	assert_ok(x.r, &x.e);
	assert_ptr_equal(x.p.cmd, &demo);
	assert_string_equal(x.g.repo, "/repo");
	assert_true(x.g.quiet && o->force);
	assert_string_equal(o->out, "FILE");
	assert_string_equal(o->mode, "max");
	assert_string_equal(o->maybe, "");
	assert_int_equal(o->allow.n, 2);
	assert_string_equal(o->allow.p[0], "a");
	assert_string_equal(o->allow.p[1], "b");
	assert_null(o->allow.p[2]);
	assert_int_equal(o->size, 65536);
	assert_int_equal(o->count, 3);
	assert_int_equal(x.p.nargs, 2);
	assert_string_equal(x.p.args[0], "IMG");
	assert_string_equal(x.p.args[1], "-x");
	done(&x);
	x = parse("--json --repo=x -qf demo - --read-data=10% -o -");
	o = x.p.opts;
	assert_ok(x.r, &x.e);
	assert_true(x.g.json && x.g.quiet && o->force);
	assert_string_equal(o->maybe, "10%");
	assert_string_equal(o->out, "-");
	assert_string_equal(x.p.args[0], "-");
	done(&x);
}

static void test_options__refusals(void **state)
{
	static const struct { const char *line, *cause, *hint; } rows[] = {
		{ "demo a --outptu x", "unknown option --outptu", "--output" },
		{ "demo a --out x", "unknown option --out", "--output" },
		{ "demo a --zzzzzz", "unknown option --zzzzzz", "" },
		{ "demo a --no-progress", "demo does not take --no-progress", "" },
		{ "demo a --no-progres", "unknown option --no-progres", "" },
		{ "demo a --threads=2", "demo does not take --threads", "" },
		{ "restore --json", "restore does not take --json", "" },
		{ "restore -r x", "restore does not take --repo", "" },
		{ "demo a -z", "unknown option -z", "" },
		{ "demo a --force=1", "--force takes no value", "" },
		{ "demo a --output", "--output needs a value", "" },
		{ "demo a -o", "-o needs a value", "" },
		{ "-o demo a", "-o needs a value", "" },
		{ "demo a --mode fas", "\"fas\" is none of fast|max|off", "" },
		{ "demo a --mode=", "none of", "" },
		{ "demo a --mode fast|max", "none of", "" },
		{ "demo a --cluster-size 1", "not between 512 B and 2.0 MiB", "" },
		{ "demo a --cluster-size x", "not a size", "" },
		{ "demo a -n 10", "not between 1 and 9", "" },
		{ "demo a -n 1x", "not a number", "" },
		{ "demo", "demo needs an operand: kedge demo A [B]", "" },
		{ "demo a b c", "one operand too many: \"c\"", "" },
		{ "dmeo a", "unknown command \"dmeo\"", "\"demo\"" },
		{ "rest", "unknown command \"rest\"", "\"restore\"" },
		{ "xyzzy", "unknown command \"xyzzy\"", "lists the commands" },
		{ "", "no command given", "lists the commands" },
		{ "--json", "--json without a command", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct run x = parse(rows[i].line);

		if (x.r != ERR_INVALID || !strstr(x.e.cause, rows[i].cause) || !strstr(x.e.hint, rows[i].hint))
			fail_msg("\"%s\": %d \"%s\" hint \"%s\"", rows[i].line, x.r, x.e.cause, x.e.hint);
		if (!rows[i].hint[0] && x.e.hint[0])
			fail_msg("\"%s\": hint \"%s\"", rows[i].line, x.e.hint);
		done(&x);
	}
}

static void test_options__environment_serves_when_not_given(void **state)
{
	struct run x;

	(void)state;
	setenv("KEDGE_REPOSITORY", "/from-env", 1);
	setenv("KEDGE_TEST_OPTION", "of-command", 1);
	x = parse("demo a");
	assert_ok(x.r, &x.e);
	assert_string_equal(x.g.repo, "/from-env");
	assert_string_equal(((struct demo_opts *)x.p.opts)->env, "of-command");
	done(&x);
	x = parse("demo a --repo /given --env given");
	assert_string_equal(x.g.repo, "/given");
	assert_string_equal(((struct demo_opts *)x.p.opts)->env, "given");
	done(&x);
	setenv("KEDGE_REPOSITORY", "", 1);
	x = parse("demo a");
	assert_null(x.g.repo);
	done(&x);
	unsetenv("KEDGE_REPOSITORY");
	unsetenv("KEDGE_TEST_OPTION");
}

static void test_options__help_needs_nothing_else(void **state)
{
	struct run x = parse("--help");

	(void)state;
	assert_ok(x.r, &x.e);
	assert_true(x.p.help && !x.p.cmd);
	done(&x);
	x = parse("demo -h");
	assert_ok(x.r, &x.e);
	assert_true(x.p.help && x.p.cmd == &demo);
	done(&x);
	x = parse("--version");
	assert_ok(x.r, &x.e);
	assert_true(x.p.version);
	done(&x);
}

static void test_options__real_tables_are_sound(void **state)
{
	(void)state;
	for (const struct command *const *c = cli_commands; *c; c++) {
		assert_non_null((*c)->run);
		assert_non_null((*c)->usage);
		assert_true((*c)->min_args <= (*c)->max_args);
		for (const struct opt *o = (*c)->options; o && o->name; o++) {
			assert_true(o->offset < (*c)->opts_size);
			assert_true((o->kind == OPT_FLAG) == (o->arg == NULL));
			assert_non_null(o->help);
			for (const struct opt *g = cli_global_options; g->name; g++)	/* would hide the global one */
				if (!strcmp(g->name, o->name) || (g->letter && g->letter == o->letter))
					fail_msg("%s --%s hides a global option", (*c)->name, o->name);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options__every_kind_and_form),
		cmocka_unit_test(test_options__refusals),
		cmocka_unit_test(test_options__environment_serves_when_not_given),
		cmocka_unit_test(test_options__help_needs_nothing_else),
		cmocka_unit_test(test_options__real_tables_are_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
