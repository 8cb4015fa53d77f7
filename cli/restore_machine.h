/*
 * restore_machine.h - `restore --to`: the machine that the restored disks are for.
 *
 *	restore_machine_plan	which kind, from the options, the disks' formats and the saved description; reads that
 *	restore_machine_name	what each attachment is called in the folder
 *	restore_machine_check	whether the description can be made, before hours of writing disks
 *	restore_machine_write	the new description, once all disks are there
 *
 * Main thread only.
 */
#ifndef KEDGE_CLI_RESTORE_MACHINE_H
#define KEDGE_CLI_RESTORE_MACHINE_H

#include <jansson.h>

#include "cli/writer_args.h"
#include "formats/machine/hardware.h"
#include "repo/manifest.h"
#include "restore/restore.h"

struct restore_machine_args {
	const char *kind, *name, *firmware;
	uint64_t memory, cpus;
};

/* Rows for a command's table; its struct has a member `machine`. */
#define RESTORE_MACHINE_ARGS(type)                                                                                     \
	OPT(type, machine.kind, 0, OPT_TEXT, "machine", "KIND",                                                        \
	    "with --to: description to write (default: of the disks' format, where one was saved)",                    \
	    .choices = "libvirt|virtualbox|vmware|ovf|none"),                                                          \
		OPT(type, machine.name, 0, OPT_TEXT, "vm-name", "NAME", "the new machine's name (default: the old one)"), \
		OPT(type, machine.memory, 0, OPT_SIZE, "vm-memory", "SIZE", "its memory (default: as it was, or 1G)",  \
		    .min = 4 * MIB, .max = 16 * TIB),                                                                  \
		OPT(type, machine.cpus, 0, OPT_NUMBER, "vm-cpus", "N", "its CPUs (default: as it was, or 1)",          \
		    .min = 1, .max = HARDWARE_CPUS_MAX),                                                               \
		OPT(type, machine.firmware, 0, OPT_TEXT, "firmware", "KIND",                                           \
		    "its firmware (default: as it was, or bios)", .choices = "bios|uefi")

struct restore_machine {
	bool wanted;
	enum machine_kind to;
	bool esx;			/* VMware: for ESXi */
	const struct restore_machine_args *args;
	/* The saved description; NULL: none. */
	struct machine *saved;
	uint8_t *text;
	size_t len;
	uint32_t attachment;		/* that it is */
	bool edit;			/* it is of the new kind: changed, not made anew */
	struct hardware *h;		/* NULL until it is written */
	char *file;			/* the description's name in the folder */
};

/* A disk that was restored. */
struct restore_machine_disk {
	const char *name, *file;	/* kedge's name; in the folder */
	const char *path;		/* where it is now */
	const struct format *format;
	uint64_t size;
	bool encrypted;
	bool device;			/* file is a link to a volume, which was there */
};

/*
 * Decides.  formats: of the n disks, in order; writer: the options, changed where the kind asks for a subformat.
 * whole: all disks of the machine are restored.  Wrong usage: the kind can't have such disks.
 */
MUST_CHECK int restore_machine_plan(struct cli *c, const struct restore_machine_args *a, struct writer_args *writer,
				    struct restore *rs, const struct manifest *m, const struct format *const *formats,
				    size_t n, bool whole, struct restore_machine *ret, struct err *e);
void restore_machine_done(struct restore_machine *rm);
/* What attachment i is called: ".orig" behind its name where the new machine has no use for it.  malloc'ed. */
MUST_CHECK char *restore_machine_name(const struct restore_machine *rm, const struct manifest *m, size_t i, struct err *e);
/* Before the first disk is written: can the description be made?  disks: path NULL.  As restore_machine_write, without a file. */
MUST_CHECK int restore_machine_check(struct restore_machine *rm, const struct manifest *m, const char *final,
				     const struct restore_machine_disk *disks, size_t n, const struct writer_args *writer,
				     struct err *e);
/*
 * Writes the description into dir, where the disks are; dir will be called `final`.  Gives files of a libvirt machine to
 * who runs it, where root restores.
 */
MUST_CHECK int restore_machine_write(struct restore_machine *rm, const struct manifest *m, const char *dir, const char *final,
				     const struct restore_machine_disk *disks, size_t n, const struct writer_args *writer,
				     struct err *e);
/* The new machine with those disks (path NULL: not there yet), in rm->h. */
MUST_CHECK int restore_machine_make(struct restore_machine *rm, const struct manifest *m,
				    const struct restore_machine_disk *disks, size_t n, const struct writer_args *writer,
				    struct err *e);
/* Says what is not carried over, and the command to type next, with the file at path; with --json *ret_json gets it. */
void restore_machine_report(struct cli *c, const struct restore_machine *rm, const char *path, json_t **ret_json);
/* The mode of a new folder. */
mode_t restore_machine_folder_mode(const struct restore_machine *rm);
/* The bytes of attachment i, at most max, malloc'ed. */
MUST_CHECK int restore_machine_attachment(struct restore *rs, const struct manifest *m, size_t i, size_t max, uint8_t **ret,
					  size_t *ret_len, struct err *e);

#endif
