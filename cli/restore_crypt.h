/*
 * restore_crypt.h - which restored disks are encrypted, and with what.  Main thread only.
 */
#ifndef KEDGE_CLI_RESTORE_CRYPT_H
#define KEDGE_CLI_RESTORE_CRYPT_H

#include "cli/image_args.h"
#include "repo/manifest.h"

struct restore_crypt {
	struct image_args args;		/* of which secrets counts */
	const char *encrypt;		/* "luks": also what wasn't encrypted; NULL */
	uint64_t iter_ms;
	bool plaintext;
	/* filled in by restore_crypt_load: */
	struct image_keys keys;
	bool used[IMAGE_KEYS_MAX];
};

/* Rows for a command's table; its struct has a member `crypt`. */
#define RESTORE_CRYPT_ARGS(type)                                                                                       \
	OPT(type, crypt.args.secrets, 0, OPT_LIST, "image-secret", "[DISK=]FILE",                                      \
	    "encrypt the new image as the old one was: the passphrase is in FILE (repeatable)"),                       \
		OPT(type, crypt.encrypt, 0, OPT_TEXT, "encrypt", "KIND",                                               \
		    "encrypt images that were not encrypted too; needs --image-secret", .choices = "luks"),            \
		OPT(type, crypt.iter_ms, 0, OPT_NUMBER, "iter-time", "MS",                                             \
		    "how long trying a passphrase is to take (default: 2000)", .min = 100, .max = 10000),             \
		OPT(type, crypt.plaintext, 0, OPT_FLAG, "plaintext", NULL,                                             \
		    "write disks unencrypted whose image was encrypted")

/* Reads the secrets; wrong usage where options contradict each other. */
MUST_CHECK int restore_crypt_load(struct cli *c, struct restore_crypt *rc, struct err *e);
void restore_crypt_done(struct restore_crypt *rc);
/*
 * The passphrase for a disk's new image in *ret, borrowed from rc; NULL: it is not to be encrypted.  ERR_INVALID: it
 * was encrypted, and nobody says how to go on.
 */
MUST_CHECK int restore_crypt_secret(struct cli *c, struct restore_crypt *rc, const struct manifest_disk *d,
				    const struct format *f, const char *path, const struct image_secret **ret,
				    struct err *e);
/* After all disks: wrong usage when a secret was for none of them. */
MUST_CHECK int restore_crypt_all_used(struct cli *c, const struct restore_crypt *rc, struct err *e);

#endif
