/*
 * points.h - points as commands need them: one disk of one state, and what could not be restored of it.  Main thread
 * only.
 */
#ifndef KEDGE_CLI_POINTS_H
#define KEDGE_CLI_POINTS_H

#include <jansson.h>

#include "cli/cli.h"
#include "repo/backups.h"
#include "restore/restore.h"

/* point_find; what is no point, or more than one, is wrong usage (exit 2). */
MUST_CHECK int points_find(struct cli *c, const struct backup_list *l, const char *text, struct point *ret,
			   struct err *e);
/* Finds a point and its one disk: ret->disk is set.  A VM of several disks without :DISK is ERR_INVALID (exit 2),
 * listing them. */
MUST_CHECK int points_find_disk(struct cli *c, const struct backup_list *l, const char *text, struct point *ret,
				struct err *e);
/* Lists on stderr what a restore could not get. */
void points_report_damage(const struct cli *c, const struct restore_result *res);

/* The same as a JSON array of {start, length, text}. */
json_t *points_damage_json(const struct restore_result *res);

#endif
