/*
 * backup_internal.h - what the files of `kedge backup` share: the sources as given, and what was made of them.
 */
#ifndef KEDGE_CLI_BACKUP_INTERNAL_H
#define KEDGE_CLI_BACKUP_INTERNAL_H

#include "base/vec.h"
#include "cli/image_args.h"
#include "cli/open.h"
#include "formats/machine/libvirt.h"
#include "formats/machine/machine.h"
#include "repo/ingest/ingest.h"

struct backup_opts {
	struct image_args image;
	const char *vm, *states, *audit, *compression;
	struct opt_list attach, tags, skip_disks;
	bool adopt, dry_run, full_read, no_shared_compression;
};

struct source_disk {
	char *name, *path;
	bool format_given;
	struct chain *chain;
	VEC(struct ingest_snapshot) snapshots;	/* of the machine; what they point to is its */
};
struct source_file {
	char *name;
	uint8_t *p;
	size_t len;
	uint32_t mode;
};

/* Everything a backup reads, opened and held. */
struct sources {
	char *vm, *vm_name;		/* vm_name NULL unless vm is an alias of it */
	char *uuid;			/* NULL where neither machine nor attachment tells */
	struct machine *machine;	/* the description that all this came from; NULL: disks were named */
	char *machine_source;		/* host and path */
	VEC(struct source_disk) disks;
	struct image_keys keys;
	VEC(struct source_file) files;
	char **states;			/* selectors, NULL-terminated; NULL = all */
	enum audit_mode audit;
	double audit_value;
};

/* Takes the command line apart and opens disks and attachments.  Wrong usage: exit 2. */
MUST_CHECK int sources_open(struct cli *c, const struct backup_opts *o, struct sources *ret, struct err *e);
void sources_done(struct sources *s);
/* What sources_open does of a machine's description: its disks with their snapshots, and its files. */
MUST_CHECK int sources_open_machine(struct cli *c, const struct backup_opts *o, const char *path, struct sources *s,
				    struct err *e);
/* How many more bytes of attachments there may be; what a backup holds in memory. */
size_t sources_files_left(const struct sources *s);
/* chain_open of a disk of that name, by the command's options and secrets; co has what is the disk's own: allow_paths,
 * format and what a description says.  Warns of damage that doesn't hurt, and of block devices that somebody has. */
MUST_CHECK int sources_open_chain(struct cli *c, const struct backup_opts *o, const struct sources *s, const char *path,
				  const char *disk, struct chain_opts co, struct chain **ret, struct err *e);
/* Refuses a VM name that belongs to another machine (unless --adopt), and a disk whose format is not last night's
 * (unless given). */
MUST_CHECK int sources_check_last(struct cli *c, const struct backup_opts *o, const struct sources *s,
				  const struct backup_list *l, struct err *e);

/* Says what will be read. */
void backup_say_plan(struct cli *c, const struct sources *s, const struct ingest_plan *p);
/* Says how each disk was read, what went wrong, and what would make the next night cheaper. */
void backup_say_result(struct cli *c, const struct sources *s, const struct manifest *m, const struct id *id,
		       bool claim_false);
/* The JSON object that `backup --json` ends with. */
json_t *backup_result_json(const struct manifest *m, const struct id *id, bool claim_false);
json_t *backup_plan_json(const struct sources *s, const struct ingest_plan *p);

#endif
