/*
 * lock.c - QEMU's image locks.
 *
 * QEMU says what it does to an image by shared OFD locks on single bytes of the file: byte 100 + n, "I use permission
 * n"; byte 200 + n, "I let nobody else use permission n" (block/file-posix.c, RAW_LOCK_PERM_BASE and
 * RAW_LOCK_SHARED_BASE).  Permission 1 is WRITE, 3 is RESIZE.  Like QEMU we take our bytes first and look at the
 * others' afterwards: of two that come at once, at least one sees the other.  The locks go with the open file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/text.h"
#include "formats/chain_internal.h"

#define PERM_BASE 100
#define SHARED_BASE 200

static const struct permission {
	int n;
	const char *name;
} writing[] = { { 1, "write" }, { 3, "resize" } };

int lock_against_writers(int fd, const char *path, bool top, struct err *e)
{
	char q[256];

	for (size_t i = 0; i < 2; i++) {
		struct flock f = {
			.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = SHARED_BASE + writing[i].n, .l_len = 1
		};

		if (fcntl(fd, F_OFD_SETLK, &f) < 0)
			LOG_DEBUG("%s: no lock on byte %d: errno %d", text_quote(path, q, sizeof(q)),
				  SHARED_BASE + writing[i].n, errno);
	}
	for (size_t i = 0; i < 2; i++) {
		/* Asking as a writer would shows any lock, shared ones too; nothing is taken. */
		struct flock f = {
			.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PERM_BASE + writing[i].n, .l_len = 1
		};

		if (fcntl(fd, F_OFD_GETLK, &f) < 0 || f.l_type == F_UNLCK)
			continue;
		text_quote(path, q, sizeof(q));
		(void)err_set(e, ERR_LOCKED, "%s: in use: another process holds QEMU's %s lock (byte %d)", q,
			      writing[i].name, PERM_BASE + writing[i].n);
		if (!top)
			return err_hint(e, "a layer below is being written to, by a block commit or another machine; "
					   "wait until that is done");
		return err_hint(e,
				"take an external snapshot (virsh snapshot-create-as VM NAME --disk-only), then back "
				"up %s, "
				"which is then the layer below",
				q);
	}
	return 0;
}
