/*
 * settled.c - files of which every later change is sure to show in their change time (docs/design.md, 5).
 *
 * The kernel sets a file's times when a write begins, or when a page of a shared mapping is first made writable, not
 * when the bytes arrive: a long write, direct I/O in flight and a mapping that is written to again all change bytes
 * under times that a reader has seen already.  All of them hold the file open for writing, though, a mapping or a
 * loop device as well as a process; and whoever opens it anew sets new times before the first byte changes.  A read
 * lease (fcntl(2), F_SETLEASE) is granted only while nobody has the file open for writing: it is asked for and given
 * back at once.  Who opens the file for writing in that very moment is made to wait for it, or, with O_NONBLOCK, gets
 * EWOULDBLOCK.
 *
 * This holds on the file systems below, where it was tried out.  Not on tmpfs, which lets a mapping write without a
 * fault, and so without new times, to pages that it has read; nor on overlayfs, whose leases don't know of mappings.
 * Network file systems and FUSE can't know what others do.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "formats/file.h"

#define XFS_MAGIC 0x58465342	/* linux/magic.h has none */

static bool keeps_times(int fd)
{
	struct statfs sf;

	if (fstatfs(fd, &sf) < 0)
		return false;
	switch ((uint32_t)sf.f_type) {
	case EXT4_SUPER_MAGIC:	/* of ext2 and ext3 too */
	case XFS_MAGIC:
	case BTRFS_SUPER_MAGIC:
		return true;
	default:
		LOG_DEBUG("file system type %#x: times prove nothing", (unsigned)sf.f_type);
		return false;
	}
}

/* Nobody has the file open for writing.  Also false where the kernel won't say: leases are for the owner and root. */
static bool has_no_writer(int fd)
{
	/* Who opens it for writing in this very moment waits for us, and the kernel sends a signal: one that is ignored
	 * unless somebody wants it, instead of SIGIO, which would end the process. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
		int why = errno;

		LOG_DEBUG("no lease: errno %d", why);
		errno = why;
		return false;
	}
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);	/* it was there, or the kernel took it away meanwhile */
	return true;
}

bool file_has_writer(int fd)
{
	/* Refused for another reason (somebody else's file, no regular one) it says nothing. */
	return !has_no_writer(fd) && errno == EAGAIN;
}

int64_t file_unwritten(int fd)
{
	int64_t now = clock_wall_ns();	/* before, so that it is never too late */
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !keeps_times(fd) || !has_no_writer(fd))
		return 0;
	return now;
}

static bool settled_since(const struct image_identity *id, int64_t unwritten_ns)
{
	return !id->block_device && unwritten_ns > 0 && id->ctime_ns < unwritten_ns - IMAGE_SETTLED_NS;
}

bool image_is_settled(const struct image *im)
{
	for (size_t i = 0; i < im->parts.n; i++)
		if (!settled_since(&im->parts.p[i].identity, im->parts.p[i].unwritten_ns))
			return false;
	/* Of parts the metadata digest alone tells which they were. */
	return settled_since(&im->identity, im->unwritten_ns) &&
	       (!im->parts.n || !bytes_all_zero(im->identity.metadata_digest, sizeof(im->identity.metadata_digest)));
}
