/* help.c - help texts from the tables, and the command that shows them. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"

#define NAME_COLUMN 26

static void print_option(const struct opt *o)
{
	char left[80], letter[8] = "    ";
	int n;

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	if (o->kind == OPT_MAYBE)
		n = snprintf(left, sizeof(left), "  %s--%s[=%s]", letter, o->name, o->arg);
	else
		n = snprintf(left, sizeof(left), "  %s--%s%s%s", letter, o->name, o->arg ? " " : "",
			     o->arg ? o->arg : "");
	if (n > NAME_COLUMN)
		printf("%s\n%*s  %s", left, NAME_COLUMN, "", o->help);
	else
		printf("%-*s  %s", NAME_COLUMN, left, o->help);
	if (o->choices)
		printf(" (%s)", o->choices);
	if (o->env)
		printf(" [%s]", o->env);
	putchar('\n');
}

void help_print_all(void)
{
	printf("kedge " KEDGE_VERSION ": backup and disaster recovery of virtual machine disks\n\n"
	       "usage: kedge COMMAND [OPTIONS] [OPERANDS]\n\ncommands:\n");
	for (const struct command *const *c = cli_commands; *c; c++)
		printf("  %-10s  %s\n", (*c)->name, (*c)->summary);
	printf("\noptions that many commands take, before or after the command:\n");
	for (const struct opt *o = cli_global_options; o->name; o++)
		print_option(o);
	printf("\nkedge help COMMAND shows the options and operands of one.\n");
}

void help_print_command(const struct command *cmd)
{
	printf("kedge %s: %s\n\nusage: kedge %s [OPTIONS]%s%s\n", cmd->name, cmd->summary, cmd->name,
	       cmd->usage[0] ? " " : "", cmd->usage);
	if (cmd->text)
		printf("\n%s\n", cmd->text);
	if (cmd->options)
		printf("\noptions:\n");
	for (const struct opt *o = cmd->options; o && o->name; o++)
		print_option(o);
	printf("\ngeneral options:\n");
	for (const struct opt *o = cli_global_options; o->name; o++)
		if (!o->group || (cmd->globals & o->group))
			print_option(o);
}

struct help_opts {
	const char *completion;
};

static const struct opt help_options[] = {
	OPT(struct help_opts, completion, 0, OPT_TEXT, "completion", "SHELL", "print the completion script for a shell",
	    .choices = "bash|zsh|fish"),
	{ .name = NULL },
};

static int run_help(struct cli *c, void *opts, struct err *e)
{
	const struct help_opts *o = opts;
	const char *names[64];
	char shown[128];
	const char *near;
	size_t n = 0;

	if (o->completion) {
		completion_print(o->completion);
		return EXIT_DONE;
	}
	if (c->nargs == 0) {
		help_print_all();
		return EXIT_DONE;
	}
	for (const struct command *const *cmd = cli_commands; *cmd && n < 63; cmd++) {
		if (!strcmp((*cmd)->name, c->args[0])) {
			help_print_command(*cmd);
			return EXIT_DONE;
		}
		names[n++] = (*cmd)->name;
	}
	names[n] = NULL;
	near = nearest_word(c->args[0], names);
	(void)err_set(e, ERR_INVALID, "no command \"%s\"", text_quote(c->args[0], shown, sizeof(shown)));
	if (near)
		(void)err_hint(e, "did you mean kedge help %s?", near);
	else
		(void)err_hint(e, "kedge help lists the commands");
	return cli_exit(c, EXIT_USAGE, e);
}

const struct command cmd_help = {
	.name = "help",
	.summary = "show the commands, or the options of one",
	.usage = "[COMMAND]",
	.options = help_options,
	.opts_size = sizeof(struct help_opts),
	.max_args = 1,
	.run = run_help,
};
