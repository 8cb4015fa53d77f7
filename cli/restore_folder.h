/*
 * restore_folder.h - a folder that gets all its files at once.
 *
 * They are made under their own names in a staging folder `.kedge-*.tmp`: beside the target where that doesn't exist yet,
 * which then gets its name in one step; else inside it, and the files are moved out of it at the end.  Until then nothing
 * is in the target.  Main thread only.
 */
#ifndef KEDGE_CLI_RESTORE_FOLDER_H
#define KEDGE_CLI_RESTORE_FOLDER_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/err.h"

struct restore_folder {
	char *final;		/* absolute path of the target */
	char *staging;		/* absolute path; NULL: none is open */
	bool exists;		/* the target was there */
};

/* Makes what is missing above dir, and the staging folder (mode 0700). */
MUST_CHECK int restore_folder_open(const char *dir, struct restore_folder *ret, struct err *e);
/*
 * Gives the files their names, `last` (NULL: none) after all others, and a new folder its mode.  Without replace a name
 * that is taken by then is ERR_EXISTS and nothing is moved (what was is taken back); with it (a folder still is ERR_EXISTS), what is replaced first loses `last` and the descriptors of VMDKs in several
 * files, so that no crash leaves old ones beside new disks.
 */
MUST_CHECK int restore_folder_commit(struct restore_folder *f, const char *last, bool replace, mode_t mode, struct err *e);
/* Removes a staging folder that was not committed, with all in it.  Safe on a zeroed struct. */
void restore_folder_done(struct restore_folder *f);

#endif
