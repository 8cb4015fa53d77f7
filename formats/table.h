/*
 * table.h - walking tables of big-endian 64-bit entries, which qcow and qcow2 are made of.
 *
 * Any thread.  Calls block.
 */
#ifndef KEDGE_FORMATS_TABLE_H
#define KEDGE_FORMATS_TABLE_H

#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct file;

typedef int (*table_fn)(void *opaque, uint64_t index, uint64_t entry, struct err *e);

/* Calls fn for each entry of the table at off that is not 0, in order; holes in the file cost nothing.  The table lies
 * inside the file.  What fn returns below 0 ends it and is returned. */
MUST_CHECK int table_scan(const struct file *f, uint64_t off, uint64_t entries, table_fn fn, void *opaque,
			  struct err *e);

#endif
