/*
 * completion.c - completion scripts for bash, zsh and fish, written from the same tables as the parser: they can't be
 * out of date.
 *
 * `kedge help --completion SHELL` prints them; `make install` puts them where the shells look.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* What an option's value is, for the shell. */
static bool takes_path(const struct opt *o)
{
	return o->arg && (strstr(o->arg, "FILE") || strstr(o->arg, "DIR") || strstr(o->arg, "PATH"));
}

static bool applies(const struct opt *o, const struct command *cmd)
{
	return !o->group || (cmd->globals & o->group);
}

/* A single-quoted string for a shell; the tables hold no control characters. */
static void quoted(const char *s)
{
	putchar('\'');
	for (; *s; s++)
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	putchar('\'');
}

/* Calls fn for every option of cmd, its own first. */
static void each_option(const struct command *cmd, void (*fn)(const struct command *, const struct opt *))
{
	for (const struct opt *o = cmd->options; o && o->name; o++)
		fn(cmd, o);
	for (const struct opt *o = cli_global_options; o->name; o++)
		if (applies(o, cmd))
			fn(cmd, o);
}

static void bash_word(const struct command *cmd, const struct opt *o)
{
	(void)cmd;
	printf(" --%s", o->name);
	if (o->letter)
		printf(" -%c", o->letter);
}

static void bash_value(const struct command *cmd, const struct opt *o)
{
	(void)cmd;
	if (!o->arg || o->kind == OPT_MAYBE)
		return;
	printf("\t\t%s:--%s", cmd->name, o->name);
	if (o->letter)
		printf("|%s:-%c", cmd->name, o->letter);
	if (o->choices) {
		fputs(") COMPREPLY=($(compgen -W '", stdout);
		for (const char *p = o->choices; *p; p++)
			putchar(*p == '|' ? ' ' : *p);
		fputs("' -- \"$cur\")); return ;;\n", stdout);
	} else if (takes_path(o)) {
		fputs(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", stdout);
	} else {
		fputs(") return ;;\n", stdout);
	}
}

/* The global options that take a value, as a pattern of a case: what follows one is no command. */
static void bash_global_values(void)
{
	const char *bar = "";

	for (const struct opt *o = cli_global_options; o->name; o++) {
		if (!o->arg || o->kind == OPT_MAYBE)
			continue;
		printf("%s--%s", bar, o->name);
		if (o->letter)
			printf("|-%c", o->letter);
		bar = "|";
	}
}

static void bash_global_words(void)
{
	for (const struct opt *o = cli_global_options; o->name; o++)
		bash_word(NULL, o);
}

static void bash_commands(char sep)
{
	for (const struct command *const *c = cli_commands; *c; c++) {
		if (c != cli_commands)
			putchar(sep);
		fputs((*c)->name, stdout);
	}
}

static void print_bash(void)
{
	fputs("# bash completion of kedge; written by: kedge help --completion bash\n"
	      "_kedge()\n{\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= value= w\n"
	      "\tCOMPREPLY=()\n\tfor w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
	      "\t\t[ -z \"$value\" ] || { value=; continue; }\n\t\tcase $w in\n\t\t", stdout);
	bash_global_values();
	fputs(") value=1 ;;\n\t\t", stdout);
	bash_commands('|');
	fputs(") cmd=$w; break ;;\n\t\tesac\n\tdone\n\tif [ -z \"$cmd\" ]; then\n"
	      "\t\tif [ -n \"$value\" ]; then COMPREPLY=($(compgen -f -- \"$cur\")); return; fi\n"
	      "\t\tCOMPREPLY=($(compgen -W '", stdout);
	bash_commands(' ');
	bash_global_words();
	fputs("' -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase $cmd:$prev in\n", stdout);
	for (const struct command *const *c = cli_commands; *c; c++)
		each_option(*c, bash_value);
	fputs("\tesac\n\tcase $cmd:$cur in\n", stdout);
	for (const struct command *const *c = cli_commands; *c; c++) {
		printf("\t\t%s:-*) COMPREPLY=($(compgen -W '", (*c)->name);
		each_option(*c, bash_word);
		fputs("' -- \"$cur\")) ;;\n", stdout);
	}
	fputs("\t\thelp:*) COMPREPLY=($(compgen -W '", stdout);
	bash_commands(' ');
	fputs("' -- \"$cur\")) ;;\n"
	      "\t\tkey:*) COMPREPLY=($(compgen -W 'add list remove keep passwd' -- \"$cur\")) ;;\n"
	      "\t\t*) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n\tesac\n}\ncomplete -o filenames -F _kedge kedge\n",
	      stdout);
}

static void zsh_option(const struct command *cmd, const struct opt *o)
{
	char spec[600], value[160] = "";
	size_t n = 0;

	(void)cmd;
	if (o->choices) {
		char words[100];

		for (const char *p = o->choices; *p && n + 1 < sizeof(words); p++)
			words[n++] = *p == '|' ? ' ' : *p;
		words[n] = 0;
		snprintf(value, sizeof(value), ":%s:(%s)", o->arg, words);
	} else if (o->arg) {
		snprintf(value, sizeof(value), ":%s:%s", o->arg, takes_path(o) ? "_files" : "");
	}
	/* Square brackets and colons mean something to _arguments. */
	snprintf(spec, sizeof(spec), "%s--%s%s[", o->kind == OPT_LIST ? "*" : "", o->name,
		 o->kind == OPT_MAYBE ? "=-" : o->arg ? "=" : "");
	n = strlen(spec);
	for (const char *p = o->help; *p && n < 300; p++) {
		if (strchr("[]:", *p))
			spec[n++] = '\\';
		spec[n++] = *p;
	}
	spec[n] = 0;
	n = strlen(spec);
	snprintf(spec + n, sizeof(spec) - n, "]%s", o->kind == OPT_MAYBE ? "" : value);
	fputs(" \\\n\t\t\t", stdout);
	quoted(spec);
}

static void print_zsh(void)
{
	fputs("#compdef kedge\n# written by: kedge help --completion zsh\n_kedge()\n{\n\tlocal -a commands\n\tlocal "
	      "cmd w\n\tcommands=(\n",
	      stdout);
	for (const struct command *const *c = cli_commands; *c; c++) {
		char row[200];

		snprintf(row, sizeof(row), "%s:%s", (*c)->name, (*c)->summary);
		fputs("\t\t", stdout);
		quoted(row);
		putchar('\n');
	}
	fputs("\t)\n\tfor w in ${words[2,CURRENT-1]}; do\n\t\tif (( ${commands[(I)$w:*]} )); then cmd=$w; break; "
	      "fi\n\tdone\n"
	      "\tcase $cmd in\n\t'') _describe command commands ;;\n",
	      stdout);
	for (const struct command *const *c = cli_commands; *c; c++) {
		printf("\t%s) _arguments -S", (*c)->name);
		each_option(*c, zsh_option);
		fputs(" \\\n\t\t\t'*::operand:_files' ;;\n", stdout);
	}
	fputs("\tesac\n}\n_kedge \"$@\"\n", stdout);
}

static void fish_option(const struct command *cmd, const struct opt *o)
{
	printf("complete -c kedge -n '__fish_seen_subcommand_from %s' -l %s", cmd->name, o->name);
	if (o->letter)
		printf(" -s %c", o->letter);
	if (o->choices) {
		fputs(" -x -a '", stdout);
		for (const char *p = o->choices; *p; p++)
			putchar(*p == '|' ? ' ' : *p);
		putchar('\'');
	} else if (o->arg && o->kind != OPT_MAYBE) {
		fputs(takes_path(o) ? " -r -F" : " -x", stdout);
	}
	fputs(" -d ", stdout);
	quoted(o->help);
	putchar('\n');
}

static void print_fish(void)
{
	fputs("# fish completion of kedge; written by: kedge help --completion fish\n", stdout);
	for (const struct command *const *c = cli_commands; *c; c++) {
		printf("complete -c kedge -n __fish_use_subcommand -f -a %s -d ", (*c)->name);
		quoted((*c)->summary);
		putchar('\n');
	}
	for (const struct command *const *c = cli_commands; *c; c++)
		each_option(*c, fish_option);
}

void completion_print(const char *shell)
{
	if (!strcmp(shell, "bash"))
		print_bash();
	else if (!strcmp(shell, "zsh"))
		print_zsh();
	else
		print_fish();
}
