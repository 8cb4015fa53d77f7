/*
 * open.h - from the command line to an open repository: store, password, folders, exit codes.  Main thread only.
 */
#ifndef KEDGE_CLI_OPEN_H
#define KEDGE_CLI_OPEN_H

#include <jansson.h>

#include "cli/cli.h"
#include "repo/backups.h"
#include "repo/repo.h"
#include "transport/store.h"

/* A repository as a command has it.  Zero it first; opened_done releases what there is. */
struct opened {
	struct store *store;
	struct repo *repo;
	struct backup_list backups;	/* filled in by open_backups */
	uint32_t bad;			/* backups that can't be read or must not count */
	char *state_dir, *cache_dir;
};

/* Opens the store named by --repo.  None named: exit 2; none there: exit 10. */
MUST_CHECK int open_store(struct cli *c, bool create, struct store **ret, struct err *e);
/* Opens the store, gets the password, opens the repository.  Exit 2, 10, 12 as documented. */
MUST_CHECK int open_repo(struct cli *c, struct opened *o, struct err *e);
/* Lists the backups of vm (NULL = all) into o->backups. */
MUST_CHECK int open_backups(struct opened *o, const char *vm, struct err *e);
/* open_repo and open_backups: what most commands begin with. */
MUST_CHECK int open_listed(struct cli *c, struct opened *o, const char *vm, struct err *e);
void opened_done(struct opened *o);

/* The secret that opens or is to open a repository: --key-file, or the passphrase.  fresh: it is being set. */
MUST_CHECK int open_secret(struct cli *c, bool fresh, struct secret **ret, struct err *e);

/* How many digits of an id people are shown. */
#define SHORT_ID_DIGITS 12
#define SHORT_ID_BYTES (SHORT_ID_DIGITS + 1)
const char *short_id(const struct id *id, char buf[static SHORT_ID_BYTES]);
/* The JSON of a backup as list, show and backup print it; NULL: out of memory. */
json_t *backup_json(const struct backup *b);

#endif
