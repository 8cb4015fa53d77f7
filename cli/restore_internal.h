/*
 * restore_internal.h - what the files of `kedge restore` share.
 *
 *	cmd_restore.c		options, what is to be written, disks
 *	restore_to.c		--to: a folder with all disks, the attachments and a machine
 *	restore_folder.c	... that appears at once
 *	restore_machine.c	... and its description
 *	restore_ova.c		-O ova: all of that in one file; ustar.c: its headers
 *	restore_crypt.c, restore_size.c, restore_backing.c	encryption, growth, overlays
 */
#ifndef KEDGE_CLI_RESTORE_INTERNAL_H
#define KEDGE_CLI_RESTORE_INTERNAL_H

#include <jansson.h>

#include "cli/msg.h"
#include "cli/open.h"
#include "cli/points.h"
#include "cli/restore_backing.h"
#include "cli/restore_crypt.h"
#include "cli/restore_folder.h"
#include "cli/restore_machine.h"
#include "cli/writer_args.h"
#include "restore/restore.h"

struct restore_cmd_opts {
	const char *output, *to;
	struct writer_args writer;
	struct opt_list sizes;
	struct restore_crypt crypt;
	struct restore_backing backing;
	struct restore_machine_args machine;
	bool force, with_snapshots, salvage;
};

/* One disk to write. */
struct restore_target {
	uint32_t disk;
	const struct manifest_state_disk *sd;
	const struct format *format;
	uint64_t size;		/* that the disk gets: at least that of sd's tree */
	bool sized;		/* by --size */
	const struct image_secret *secret;	/* that opens it; NULL: not encrypted */
	char *path;
	struct writer_part *part;	/* of an OVA; NULL: a file of its own */
	char *made;		/* where it is written until all is there; NULL: at path */
};
struct restore_job {
	struct cli *c;
	const struct restore_cmd_opts *o;
	struct restore_crypt *crypt;
	struct restore_backing *backing;
	struct opened open;
	struct point pt;
	VEC(struct restore_target) targets;
	struct restore_result result;
	json_t *written;	/* --json: what was written */
	struct writer_args *writer;	/* o's */
	struct restore *rs;
	bool ova;
	/* --to, and of the OVA the machine: */
	struct restore_folder folder;
	struct restore_machine machine;
};

/* The format of a disk in a file of that name (NULL: by what it was). */
const struct format *restore_format(const struct restore_cmd_opts *o, const char *path, const struct manifest_disk *d);
/* One more disk; takes path over. */
MUST_CHECK int restore_add_target(struct restore_job *j, uint32_t disk, char *path, struct err *e);

/* Writes the disk, and says so. */
MUST_CHECK int restore_target_write(struct restore_job *j, const struct restore_target *t, struct err *e);

/* restore_ova.c.  As restore_to_plan; all of it. */
MUST_CHECK int restore_ova_plan(struct restore_job *j, struct err *e);
MUST_CHECK int restore_ova_write(struct restore_job *j, struct err *e);

/* restore_to.c.  All targets are named and checked before the first byte is written; j->pt is found, j->rs open. */
MUST_CHECK int restore_to_plan(struct restore_job *j, struct err *e);
/* Before the first disk, and after the last: attachments, the machine, the names. */
MUST_CHECK int restore_to_begin(struct restore_job *j, struct err *e);
MUST_CHECK int restore_to_end(struct restore_job *j, struct err *e);
/* What to type next; with --json a member of *o. */
void restore_to_report(struct restore_job *j, json_t **o);
void restore_to_done(struct restore_job *j);

#endif
