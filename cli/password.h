/*
 * password.h - secrets from where they may come from: a file, a command, the terminal; never the command line.
 *
 * Order: --password-file, KEDGE_PASSWORD_FILE, KEDGE_PASSWORD_COMMAND, the terminal.  Secrets live in sodium_malloc
 * memory only (locked, guarded, wiped by secret_done); sodium_init must have been called.
 */
#ifndef KEDGE_CLI_PASSWORD_H
#define KEDGE_CLI_PASSWORD_H

#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"

#define PASSWORD_MAX_BYTES 1024
#define KEY_FILE_MAX_BYTES (1 << 20)

struct secret {
	uint8_t *p;	/* NUL after len bytes */
	size_t len;
};

void secret_done(struct secret *s);	/* wipes; safe on a zeroed struct */

/*
 * The passphrase: prompt ("passphrase for /backup") is shown on the terminal only.  A passphrase is the first line; an
 * empty one is refused.  No source: ERR_INVALID with exit 2 and the ways to give one.
 */
MUST_CHECK int password_get(struct cli *c, const char *prompt, struct secret *ret, struct err *e);
/* As password_get, for a passphrase that is being set: the terminal asks twice.  file: instead of --password-file and the
 * environment (a second passphrase); NULL = as password_get. */
MUST_CHECK int password_get_new(struct cli *c, const char *prompt, const char *file, struct secret *ret, struct err *e);
/* The bytes of a key file, 1..KEY_FILE_MAX_BYTES of them. */
MUST_CHECK int password_read_key_file(const char *path, struct secret *ret, struct err *e);

#endif
