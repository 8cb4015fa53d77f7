/* commands.c - the table of commands and of the options that all or several of them take. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/num.h"

const struct command *const cli_commands[] = {
	&cmd_init, &cmd_backup, &cmd_list, &cmd_show, &cmd_restore, &cmd_cat, &cmd_check, &cmd_diff, &cmd_stats,
	&cmd_key, &cmd_doctor, &cmd_bench, &cmd_info, &cmd_map, &cmd_dump, &cmd_help, NULL,
};

#define GLOBAL(member, letter, kind, ...) OPT(struct cli_globals, member, letter, kind, __VA_ARGS__)

const struct opt cli_global_options[] = {
	GLOBAL(repo, 'r', OPT_TEXT, "repo", "PATH", "the repository: a folder, or s3:URL", .env = "KEDGE_REPOSITORY",
	       .group = CLI_REPO),
	GLOBAL(password_file, 0, OPT_TEXT, "password-file", "FILE", "read the passphrase from FILE",
	       .env = "KEDGE_PASSWORD_FILE", .group = CLI_REPO),
	GLOBAL(key_file, 0, OPT_TEXT, "key-file", "FILE", "open the repository with a key file, not a passphrase",
	       .group = CLI_REPO),
	GLOBAL(s3_endpoint, 0, OPT_TEXT, "s3-endpoint", "URL", "where the bucket of s3://BUCKET is (default: AWS)",
	       .group = CLI_REPO),
	GLOBAL(s3_region, 0, OPT_TEXT, "s3-region", "NAME", "region of the bucket (default: found out)",
	       .group = CLI_REPO),
	GLOBAL(s3_style, 0, OPT_TEXT, "s3-style", "STYLE", "where requests name the bucket: path, virtual or auto",
	       .group = CLI_REPO, .choices = "auto|path|virtual"),
	GLOBAL(s3_profile, 0, OPT_TEXT, "s3-profile", "NAME", "profile of ~/.aws whose credentials are used",
	       .group = CLI_REPO),
	GLOBAL(cacert, 0, OPT_TEXT, "cacert", "FILE", "certificates (PEM) that storage is trusted by, not the system's",
	       .group = CLI_REPO),
	GLOBAL(json, 0, OPT_FLAG, "json", NULL, "results and errors as JSON on stdout", .group = CLI_JSON),
	GLOBAL(bytes, 0, OPT_FLAG, "bytes", NULL, "exact sizes instead of rounded ones", .group = CLI_BYTES),
	GLOBAL(no_progress, 0, OPT_FLAG, "no-progress", NULL, "no progress line on a terminal", .group = CLI_PROGRESS),
	GLOBAL(threads, 0, OPT_NUMBER, "threads", "N", "worker threads (default: as many as CPUs may be used)",
	       .min = 1, .max = 256, .group = CLI_THREADS),
	GLOBAL(memory, 0, OPT_SIZE, "memory", "SIZE", "memory for buffers (default 256M)", .min = 16 * MIB, .max = TIB,
	       .group = CLI_MEMORY),
	GLOBAL(quiet, 'q', OPT_FLAG, "quiet", NULL, "only errors and warnings on stderr"),
	GLOBAL(verbose, 'v', OPT_FLAG, "verbose", NULL, "say on stderr what is done in detail"),
	GLOBAL(help, 'h', OPT_FLAG, "help", NULL, "show help"),
	GLOBAL(version, 0, OPT_FLAG, "version", NULL, "show the version"),
	{ .name = NULL },
};

int cli_usage(struct cli *c, struct err *e, const char *fmt, ...)
{
	char cause[ERR_CAUSE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cause, sizeof(cause), fmt, ap);
	va_end(ap);
	(void)err_set(e, ERR_INVALID, "%s", cause);
	(void)err_hint(e, "kedge help %s", c->cmd->name);
	return cli_exit(c, EXIT_USAGE, e);
}
