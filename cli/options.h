/*
 * options.h - options as tables: parsed, refused, suggested and explained from one place.
 *
 * A command has a struct of its options and a table that says where each lies in it (offsetof).  The struct starts
 * zeroed; an option that was not given keeps that.  --opt=value and --opt value are the same, -x value and -xvalue too;
 * flags may be bundled (-qv); `--` ends the options.  Global options stand before or after the command, its own behind
 * it.  No abbreviations: a script must not break because an option was added.
 */
#ifndef KEDGE_CLI_OPTIONS_H
#define KEDGE_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/err.h"

enum opt_kind {			/* and the type of the member at offset */
	OPT_FLAG,		/* bool */
	OPT_TEXT,		/* const char *: the argument, valid as long as argv */
	OPT_MAYBE,		/* const char *: --opt gives "", --opt=value the value */
	OPT_LIST,		/* struct opt_list: may be given several times */
	OPT_SIZE,		/* uint64_t: bytes, "64K" */
	OPT_NUMBER,		/* uint64_t */
};

/* Arguments in the order given; p has a NULL at the end; both NULL and 0 when never given. */
struct opt_list {
	const char **p;
	size_t n;
};

struct opt {
	const char *name;	/* without "--"; NULL ends the table */
	char letter;		/* 0 = none */
	enum opt_kind kind;
	size_t offset;
	const char *arg;	/* what the value is called in the help: "FILE" */
	const char *help;	/* one line, lower case, no full stop */
	uint64_t min, max;	/* OPT_SIZE, OPT_NUMBER: inclusive; max 0 = no limit */
	/* OPT_TEXT: environment variable that serves when the option is not given; NULL = none */
	const char *env;
	/* global options: bit of cli/cli.h that a command must have to take it; 0 = all take it */
	unsigned group;
	const char *choices;	/* OPT_TEXT: "a|b|c", the values allowed; NULL = any */
};

/* One row of a table: OPT(struct dump_opts, output, 'o', OPT_TEXT, "output", "FILE", "write to FILE", .choices =
 * "a|b") */
#define OPT(type, member, letter_, kind_, name_, arg_, help_, ...) \
	{ .name = (name_), .letter = (letter_), .kind = (kind_), .offset = offsetof(type, member), .arg = (arg_), \
	  .help = (help_), ##__VA_ARGS__ }

struct command;
struct cli_globals;

/* What the command line says.  Zero it first; options_done frees (values point into argv). */
struct parsed {
	const struct command *cmd;	/* NULL when only --help or --version was asked for */
	void *opts;			/* the command's struct, malloc'ed */
	const char **args;		/* operands */
	size_t nargs;
	bool help, version;
};

/*
 * Parses argv[1..] against the global table (whose members lie in globals) and the commands.  On failure (ERR_INVALID:
 * wrong usage, the cause names the option and the nearest one; ERR_NOMEM) *ret still is to be released by options_done.
 */
MUST_CHECK int options_parse(int argc, char **argv, const struct opt *global_table, struct cli_globals *globals,
			     const struct command *const *commands, struct parsed *ret, struct err *e);
void options_done(struct parsed *p, const struct opt *global_table, struct cli_globals *globals);

/* Of names (NULL-terminated) the one that a slip of the pen turned into word; NULL if none is near. */
const char *nearest_word(const char *word, const char *const *names);

#endif
