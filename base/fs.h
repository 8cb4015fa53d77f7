/*
 * fs.h - files: whole reads and writes, and the one way in which a file appears under its name.
 *
 * All calls retry EINTR and continue short transfers.  They block.  Any thread, on distinct objects.
 */
#ifndef KEDGE_BASE_FS_H
#define KEDGE_BASE_FS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"

/* The result of a call that returns -1 with errno, made again as long as that is EINTR. */
#define FS_RETRY(call) ((int)TEMP_FAILURE_RETRY(call))

/* Reads len bytes at off.  Returns the count: less than len only at end of file. */
MUST_CHECK int fs_pread(int fd, void *buf, size_t len, uint64_t off, size_t *ret_len, struct err *e);
/* Reads exactly len bytes; end of file inside is ERR_CORRUPT ("file ends at N"). */
MUST_CHECK int fs_pread_full(int fd, void *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int fs_pwrite_full(int fd, const void *buf, size_t len, uint64_t off, struct err *e);
MUST_CHECK int fs_write_full(int fd, const void *buf, size_t len, struct err *e);
/* The whole file; larger than max is ERR_INVALID.  *ret is malloc'ed with a NUL after its len bytes. */
MUST_CHECK int fs_read_file(const char *path, size_t max, uint8_t **ret, size_t *ret_len, struct err *e);
/* Creates path and its missing parents with the mode. */
MUST_CHECK int fs_mkdirs(const char *path, mode_t mode, struct err *e);
/* fsync of the folder that holds path, so that a rename or create in it survives a power cut. */
MUST_CHECK int fs_sync_parent(const char *path, struct err *e);
/*
 * True where what was synced of a file without a name (O_TMPFILE) stays durable when the file gets one: ext4, XFS, and
 * in memory, where nothing is.  Btrfs does not write such a file to its log, so that a power cut leaves the name with
 * no bytes.
 */
bool fs_unnamed_lasts(int fd);
/* Gives the open file behind fd a name in the folder dir (or AT_FDCWD), which must be free.  0, or -1 and errno, as
 * linkat. */
MUST_CHECK int fs_name_fd(int fd, int dir, const char *name);
/*
 * True where space that is reserved before it is written makes the writing cheaper: ext4, which otherwise reserves
 * block by block as pages are written, and finds room for them later.
 */
bool fs_reserve_pays(int fd);
/*
 * Reserves the space of [off, off+len), which reads as zeros until it is written, beyond the file's end too: that stays
 * where it is.  0, or -1 and errno, as fallocate.
 */
MUST_CHECK int fs_reserve(int fd, uint64_t off, uint64_t len);
/* "a/b" + "c" = "a/b/c", malloc'ed; an absolute second part stands alone. */
MUST_CHECK char *fs_join(const char *dir, const char *name, struct err *e);
/* The folder part of path ("." if none), malloc'ed. */
MUST_CHECK char *fs_dirname(const char *path, struct err *e);
/* Points into path behind its last slash. */
const char *fs_basename(const char *path);

/* A file in the folder for this process alone, read-write, without a name: gone when it is closed.  *ret_fd is the
 * caller's. */
MUST_CHECK int fs_scratch(const char *dir, int *ret_fd, struct err *e);

/*
 * A file that appears whole or not at all.  Data go to a file without a name in the target's folder, of which nothing
 * is left after a crash; where the file system has no such files, to a temporary name ".kedge-*.tmp".  commit fsyncs,
 * gives the file its name and fsyncs the folder; anything else (fs_atomic_done without commit, a crash) leaves the
 * target as it was.
 */
struct fs_atomic {
	int fd;			/* the temporary file, read-write; the caller may pwrite, ftruncate, fallocate */
	char *path, *tmp;	/* private; tmp NULL: the file has no name */
};
/* Without replace an existing path is ERR_EXISTS, here and again at commit (race-free). */
MUST_CHECK int fs_atomic_open(struct fs_atomic *a, const char *path, bool replace, mode_t mode, struct err *e);
MUST_CHECK int fs_atomic_commit(struct fs_atomic *a, bool replace, struct err *e);
/* The first half of commit, for several files that appear together: without the folder's fsync (fs_sync_parent).  0:
 * the file has its name. */
MUST_CHECK int fs_atomic_name(struct fs_atomic *a, bool replace, struct err *e);
/* removes the temporary file if not committed; safe on a zeroed struct with fd -1 */
void fs_atomic_done(struct fs_atomic *a);
/* open, write len bytes, commit. */
MUST_CHECK int fs_write_atomic(const char *path, const void *buf, size_t len, bool replace, mode_t mode, struct err *e);

#endif
