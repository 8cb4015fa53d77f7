/*
 * table.h - columns of text, aligned.  Cells are copied; what comes from outside must have gone through text_quote.
 */
#ifndef KEDGE_CLI_TABLE_H
#define KEDGE_CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/err.h"

#define TABLE_COLS_MAX 16

struct table {
	size_t cols;
	const char *head[TABLE_COLS_MAX];	/* "SIZE>" is aligned right, "NAME" left */
	char **cells;				/* nrows * cols */
	size_t ncells, cap;
};

/* head: cols column titles, static texts. */
void table_init(struct table *t, size_t cols, const char *const *head);
void table_done(struct table *t);	/* safe on a zeroed struct */
/* One row of t->cols cells (const char *; NULL = "-"). */
MUST_CHECK int table_row(struct table *t, struct err *e, ...);
/* Title line and rows, each behind indent spaces. */
void table_print(const struct table *t, size_t indent, FILE *to);

#endif
