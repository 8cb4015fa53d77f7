/*
 * target.h - what every writer does before its first byte: look at what is there, and stay away from what is in use.
 *
 * Any thread.  Calls block.
 */
#ifndef KEDGE_FORMATS_TARGET_H
#define KEDGE_FORMATS_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct target {
	bool exists, block_device;
};

/*
 * Looks at path.  Absent, a regular file or a block device are fine; anything else is ERR_INVALID.  An existing file or
 * device that a running QEMU writes to is ERR_LOCKED.
 */
MUST_CHECK int target_look(const char *path, struct target *ret, struct err *e);

/*
 * Opens a block device for writing, alone: ERR_LOCKED when it, or a partition of it, is mounted, swap, part of another
 * device, or a running QEMU's disk (the message says which).  QEMU will not write to it until *ret_fd is closed.
 * *ret_size is its size in bytes.
 */
MUST_CHECK int target_open_device(const char *path, int *ret_fd, uint64_t *ret_size, struct err *e);

/*
 * Makes [off, off+len) of a block device zero: given back to the device where that reads as zeros, written otherwise.
 */
MUST_CHECK int target_zero_device(int fd, uint64_t off, uint64_t len, struct err *e);

/* Writes zeros: bytes that read as zero and take their space.  Any fd. */
MUST_CHECK int target_write_zeros(int fd, uint64_t off, uint64_t len, struct err *e);

/* Writes what is not zero, into a file that reads as zeros there: longer runs of zeros stay holes. */
MUST_CHECK int target_write_sparse(int fd, const uint8_t *buf, size_t len, uint64_t off, struct err *e);

/* Reserves the space of [off, off+len) of a file, whose content stays; ERR_NOSPACE when there is not enough. */
MUST_CHECK int target_reserve(int fd, uint64_t off, uint64_t len, struct err *e);

#endif
