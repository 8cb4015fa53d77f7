/*
 * file.h - what every reader does with the file behind an image: identity, holes, padded reads, page cache advice.
 *
 * The files are open read-only and owned by the caller.  Calls block.  Any thread: nothing here moves a file offset
 * that somebody else relies on.
 */
#ifndef KEDGE_FORMATS_FILE_H
#define KEDGE_FORMATS_FILE_H

#include "formats/image.h"

/* Identity of an open file or block device (size in bytes), metadata_digest zero.  Anything else (a folder, a FIFO, a
 * character device) is ERR_INVALID. */
MUST_CHECK int file_identity(int fd, struct image_identity *ret, struct err *e);
/* ERR_CHANGED when fd's file is no longer as *was says (size, times, device, inode; of a block device, the size). */
MUST_CHECK int file_check_unchanged(int fd, const struct image_identity *was, struct err *e);
/*
 * The wall clock at a moment when nobody had fd's file open for writing (by a process, a mapping or the kernel), on a
 * file system where whoever opens it later gives it a new change time before the first byte changes.  0: it is not so,
 * or can't be known: a block device, another file system, a file of somebody else.  To be asked before file_identity.
 */
int64_t file_unwritten(int fd);
/* True when somebody is known to have fd's file open for writing; false where it isn't known. */
bool file_has_writer(int fd);
/* As fs_pread and fs_pread_full of base/fs.h; what lies behind f's end is not read. */
MUST_CHECK int file_pread(const struct file *f, void *buf, size_t len, uint64_t off, size_t *ret_len, struct err *e);
MUST_CHECK int file_pread_full(const struct file *f, void *buf, size_t len, uint64_t off, struct err *e);
/* Reads len bytes at off; bytes from f's end on are zeros.  A file that ends before: ERR_CHANGED. */
MUST_CHECK int file_pread_padded(const struct file *f, void *buf, size_t len, uint64_t off, struct err *e);
/* Is off inside data or a hole, and where does that end (<= end)?  off < end <= file size.  A file system that can't
 * tell, and a block device, has data only. */
MUST_CHECK int file_next_data(const struct file *f, uint64_t off, uint64_t end, bool *ret_data, uint64_t *ret_end,
			      struct err *e);
/* Where the first byte of data is in [off, end), or end; off < end.  Unlike file_next_data it doesn't look for the end
 * of the data, which takes as long as the extents up to there are many.  A block device has data only. */
MUST_CHECK int file_skip_hole(const struct file *f, uint64_t off, uint64_t end, uint64_t *ret, struct err *e);
/* posix_fadvise WILLNEED or DONTNEED; what the kernel answers doesn't matter. */
void file_advise(const struct file *f, uint64_t off, uint64_t len, bool will_need);

/* What all implementations share of struct image.  init fills ops, path, file and identity, and owns fd only from a
 * successful return on; of o the window counts. done closes the files and frees path, parts and parent. */
MUST_CHECK int image_base_init(struct image *im, const struct image_ops *ops, int fd, const char *path,
			       const struct image_open_opts *o, struct err *e);
void image_base_done(struct image *im);

/*
 * Opens another file of im by o->opener, which is not NULL, and makes it a part.  *ret_file is its number for origins:
 * an old one if the same file (device and inode) is a part already.
 */
MUST_CHECK int image_part_open(struct image *im, const struct image_open_opts *o, const char *reference,
			       const char *what, uint32_t *ret_file, struct err *e);

/*
 * Adds a place to look for the parent, as the chain is to look it up (relative: from im's folder); one that is there
 * already counts once.  More than IMAGE_PARENT_REFS_MAX: ERR_CORRUPT.
 */
MUST_CHECK int image_parent_add(struct image *im, const char *ref, struct err *e);
/*
 * The same for a path as Windows writes it, in UTF-8: '\\' separates.  Of one with a drive letter, a share or a volume,
 * which mean nothing here, the file's name alone is taken, to be found beside im.
 */
MUST_CHECK int image_parent_add_windows(struct image *im, const char *ref, struct err *e);

#endif
