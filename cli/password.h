/*
 * password.h - secrets from where they may come from: a file, a command, the terminal; never the command line.
 *
 * Order: --password-file, KEDGE_PASSWORD_FILE, KEDGE_PASSWORD_COMMAND, the terminal.  The results are struct secret of
 * repo/keys.h (guarded memory; secret_free wipes).  sodium_init must have been called.  Main thread only.
 */
#ifndef KEDGE_CLI_PASSWORD_H
#define KEDGE_CLI_PASSWORD_H

#include "cli/cli.h"
#include "repo/keys.h"

#define PASSWORD_MAX_BYTES 1024
#define KEY_FILE_MAX_BYTES (1 << 20)

/*
 * The passphrase: prompt ("passphrase of the repository") is shown on the terminal only.  A passphrase is the first
 * line; an empty one is refused.  No source: ERR_INVALID with exit 2 and the ways to give one.
 */
MUST_CHECK int password_get(struct cli *c, const char *prompt, struct secret **ret, struct err *e);
/* As password_get, for a passphrase that is being set: the terminal asks twice.  file: instead of --password-file and
 * the environment; NULL = as password_get. */
MUST_CHECK int password_get_new(struct cli *c, const char *prompt, const char *file, struct secret **ret,
				struct err *e);
/* Asks for a new passphrase on the terminal, twice, whatever the options and the environment say. */
MUST_CHECK int password_ask_new(struct cli *c, const char *prompt, struct secret **ret, struct err *e);
/* A key file as a secret: 32 bytes to 1 MiB. */
MUST_CHECK int password_read_key_file(const char *path, struct secret **ret, struct err *e);

/*
 * What a file of --image-secret holds, to the byte as QEMU's secret object takes it, in locked memory: *ret is for
 * sodium_free.  At most PASSWORD_MAX_BYTES; an empty one is refused.
 */
MUST_CHECK int password_read_image_secret(const struct cli *c, const char *path, uint8_t **ret, size_t *ret_len,
					  struct err *e);

#endif
