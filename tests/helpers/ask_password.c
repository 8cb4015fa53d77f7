/*
 * ask_password.c - gets a passphrase as every command does and prints it in brackets: for tests of cli/password.c.
 *
 *	ask_password [--new] [--password-file FILE]
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "cli/msg.h"
#include "cli/password.h"

int main(int argc, char **argv)
{
	struct secret *s = NULL;
	struct cli c = { 0 };
	struct err e = ERR_INIT;
	bool is_new = false;
	int r;

	if (sodium_init() < 0)
		return 1;
	c.g.password_file = getenv("KEDGE_PASSWORD_FILE");
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--new"))
			is_new = true;
		else if (i + 1 < argc && !strcmp(argv[i], "--password-file"))
			c.g.password_file = argv[++i];
	}
	signals_install(&c.cancel);
	r = is_new ? password_get_new(&c, "new passphrase", NULL, &s, &e)
		   : password_get(&c, "passphrase for /backup", &s, &e);
	if (r < 0) {
		r = c.exit_code ? c.exit_code : exit_of_err(&e);
		msg_error(&c, &e, r);
		return r;
	}
	printf("[%.*s]\n", (int)s->len, (const char *)s->bytes);
	secret_free(s);
	return 0;
}
