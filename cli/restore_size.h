/*
 * restore_size.h - `restore --size`: disks that get larger, and what their partition tables need then.  Main thread
 * only.
 */
#ifndef KEDGE_CLI_RESTORE_SIZE_H
#define KEDGE_CLI_RESTORE_SIZE_H

#include "cli/cli.h"
#include "restore/restore.h"

/* "[DISK=]SIZE" taken apart: *ret_disk_len 0 is no disk.  The size is rounded up to whole sectors of 512 bytes, which
 * every format has.  Wrong usage: not a size, or more than a disk can have. */
MUST_CHECK int restore_size_parse(struct cli *c, const char *arg, size_t *ret_disk_len, uint64_t *ret_size,
				  struct err *e);
/* A disk with so many bytes is to get size: wrong usage when that would cut it off. */
MUST_CHECK int restore_size_check(struct cli *c, const char *disk, uint64_t stored, uint64_t size, struct err *e);

/* How a disk is divided, by what its first sectors say. */
enum partitions { PARTITIONS_UNKNOWN, PARTITIONS_NONE, PARTITIONS_MBR, PARTITIONS_GPT };
/* UNKNOWN: they can't be had. */
enum partitions restore_size_partitions(struct restore *rs, const char *domain, const struct tree_ref *t);
/* "gpt", "mbr", "none" or "unknown". */
const char *restore_size_partitions_name(enum partitions p);
/* Says what to do with the partition table of a disk that grew. */
void restore_size_note(const struct cli *c, const char *disk, const char *path, const char *format, enum partitions p,
		       uint64_t stored, uint64_t size);

#endif
