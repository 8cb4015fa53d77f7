/*
 * info_machine.h - `kedge info` of a machine's description.
 */
#ifndef KEDGE_CLI_INFO_MACHINE_H
#define KEDGE_CLI_INFO_MACHINE_H

#include "cli/cli.h"

/* Prints the machine, its disks, files and snapshots; allow: --allow-path, NULL-terminated or NULL. */
MUST_CHECK int info_machine(struct cli *c, const char *path, const char *const *allow, struct err *e);

#endif
