/*
 * cli.h - what a command is, and what it gets to work with.
 *
 * A command is one file cli/cmd_x.c with one `const struct command cmd_x`, declared below and listed in cli/commands.c;
 * help, man page tests and completions follow from its tables.  main.c parses, sets up, runs, reports.
 */
#ifndef KEDGE_CLI_CLI_H
#define KEDGE_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/progress.h"
#include "cli/exit.h"
#include "cli/options.h"

/* Global options that only some commands take: bits of command.globals.  --quiet, --verbose, --help, --version: all. */
enum cli_group {
	CLI_REPO = 1 << 0,	/* -r, --repo, --password-file, --key-file, --s3-*, --cacert */
	CLI_JSON = 1 << 1,
	CLI_PROGRESS = 1 << 2,	/* --no-progress */
	CLI_BYTES = 1 << 3,
	CLI_THREADS = 1 << 4,
	CLI_MEMORY = 1 << 5,
};

struct cli_globals {
	const char *repo;		/* --repo or KEDGE_REPOSITORY; NULL: none given */
	const char *password_file;	/* --password-file or KEDGE_PASSWORD_FILE */
	const char *key_file;
	const char *s3_endpoint, *s3_region, *s3_style, *s3_profile, *cacert;
	bool json, quiet, verbose, no_progress, bytes, help, version;
	/* worker threads; never 0 after set-up: default = CPUs that the process may use */
	uint64_t threads;
	uint64_t memory;		/* bytes that a command may use for buffers; default 256 MiB */
};

struct bar;

struct cli {
	const struct command *cmd;
	struct cli_globals g;
	const char *const *args;	/* operands, nargs within the command's limits */
	size_t nargs;
	struct cancel cancel;		/* set by SIGINT, SIGTERM, SIGHUP: hand &cancel to what takes long */
	struct progress progress;	/* hand &progress to what takes long */
	struct bar *bar;		/* behind progress; NULL = nobody looks */
	bool test_store;		/* a store that is opened is tried first, by objects of its own: store_caps then hold */
	int exit_code;			/* chosen by cli_exit; 0 = by the error */
};

struct command {
	const char *name;
	const char *summary;		/* one line for the list of commands */
	const char *usage;		/* operands: "IMAGE" */
	const char *text;		/* paragraphs for `kedge help NAME`; may be NULL */
	const struct opt *options;	/* NULL = none */
	size_t opts_size;		/* of the struct that options fill in */
	unsigned globals;		/* enum cli_group bits it takes; others are refused */
	size_t min_args, max_args;	/* operands; max SIZE_MAX = any */
	/* Returns an enum exit_code, or negative with *e set: main prints it and exits by exit_of_err or cli_exit. */
	int (*run)(struct cli *c, void *opts, struct err *e);
};

/* All commands, in the order of the help; NULL at the end. */
extern const struct command *const cli_commands[];
extern const struct opt cli_global_options[];

extern const struct command cmd_backup, cmd_bench, cmd_cat, cmd_check, cmd_diff, cmd_doctor, cmd_dump, cmd_help,
	cmd_info, cmd_init, cmd_key, cmd_list, cmd_map, cmd_restore, cmd_show, cmd_stats;

/* Makes the failure in e exit with code instead: `return cli_exit(c, EXIT_NO_REPO, e)`.  Returns e->code. */
static inline int cli_exit(struct cli *c, int code, const struct err *e)
{
	c->exit_code = code;
	return e->code;
}

/* Wrong usage found by a command: sets e to ERR_INVALID, exit 2, and the hint to `kedge help NAME`. */
int cli_usage(struct cli *c, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* cli/help.c: to stdout. */
void help_print_all(void);
void help_print_command(const struct command *cmd);
/* cli/completion.c: the completion script for "bash", "zsh" or "fish", to stdout. */
void completion_print(const char *shell);

/* cli/signals.c: SIGINT, SIGTERM and SIGHUP request c; a second one exits at once with 130.  SIGUSR1 asks for a line of
 * progress.  SIGPIPE is ignored: writes fail with EPIPE.  c must live as long as the process. */
void signals_install(struct cancel *c);
/* True once after each SIGUSR1. */
bool signals_take_usr1(void);

#endif
