/*
 * restore_backing.h - `restore --backing FILE`: a file that is proven to hold a stored state, so that what is restored
 * can be an overlay over it.  What is proven is what kedge reads: files of which QEMU is known to read the same only.
 * Main thread only.
 */
#ifndef KEDGE_CLI_RESTORE_BACKING_H
#define KEDGE_CLI_RESTORE_BACKING_H

#include <jansson.h>

#include "cli/image_args.h"
#include "repo/backups.h"

struct restore_backing {
	const char *file;		/* the option's value, "[FORMAT:]FILE"; NULL: no backing file */
	/* filled in by restore_backing_open: */
	struct chain *chain;		/* open and locked against writers until restore_backing_done */
	char *path;			/* canonical */
	char *name; /* how the overlay names it: in its own folder without one, else from the root */
	const char *format;		/* as QEMU calls it */
	/* by restore_backing_prove: */
	struct tree_ref tree;
	const struct backup *backup;
	uint32_t state, disk;
};

#define RESTORE_BACKING_ARGS(type)                                                                                     \
	OPT(type, backing.file, 0, OPT_TEXT, "backing", "[FORMAT:]FILE",                                               \
	    "qcow2: write an overlay over FILE, once FILE is proven to hold a stored state")

/*
 * Opens FILE for an overlay at target; args are for the layers below it.  Refused: what somebody writes to, what is
 * encrypted, compressed, in an archive, or isn't known to be read alike by QEMU in all its layers (restore.md, Overlays),
 * and a target that is one of FILE's own files.
 */
MUST_CHECK int restore_backing_open(struct cli *c, struct restore_backing *b, const struct image_args *args,
				    const char *target, struct err *e);
/*
 * Reads FILE whole and looks for a stored state of a disk with that content: those of vm first, the newest first. None,
 * or none that an overlay may build upon: ERR_INVALID, exit EXIT_NO_MATCH.
 */
MUST_CHECK int restore_backing_prove(struct cli *c, struct restore_backing *b, struct repo *r,
				     const struct backup_list *l, const char *vm, struct err *e);
/* ERR_CHANGED when FILE isn't what was proven any more. */
MUST_CHECK int restore_backing_check(struct restore_backing *b, struct err *e);
void restore_backing_note(const struct cli *c, const struct restore_backing *b);
json_t *restore_backing_json(const struct restore_backing *b);	/* NULL: out of memory */
void restore_backing_done(struct restore_backing *b);

#endif
