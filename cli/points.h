/*
 * points.h - points as commands need them: one disk of one state, and what could not be restored of it.  Main thread only.
 */
#ifndef KEDGE_CLI_POINTS_H
#define KEDGE_CLI_POINTS_H

#include "cli/cli.h"
#include "repo/backups.h"
#include "restore/restore.h"

/* Finds a point and its one disk: ret->disk is set.  A VM of several disks without :DISK is ERR_INVALID, listing them. */
MUST_CHECK int points_find_disk(const struct backup_list *l, const char *text, struct point *ret, struct err *e);
/* Lists on stderr what a restore could not get. */
void points_report_damage(const struct cli *c, const struct restore_result *res);

#endif
