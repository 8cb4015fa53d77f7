/*
 * nosync.c - nosync COMMAND...: run it with fsync, fdatasync, sync, syncfs and sync_file_range succeeding at once.
 *
 * Programs differ in when they wait for the disk, and the disk of a virtual machine in how long that takes.  The benchmark
 * takes it out of all of them alike, whatever they are written in (restic makes system calls of its own, so a preloaded
 * library would miss it), and times one syncfs after each.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DONE_IF(nr) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0)

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		DONE_IF(SYS_fsync),
		DONE_IF(SYS_fdatasync),
		DONE_IF(SYS_sync),
		DONE_IF(SYS_syncfs),
		DONE_IF(SYS_sync_file_range),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(*code), code };

	if (argc < 2) {
		fprintf(stderr, "usage: nosync COMMAND...\n");
		return 2;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0) {
		fprintf(stderr, "nosync: seccomp: %s\n", strerror(errno));
		return 1;
	}
	execvp(argv[1], argv + 1);
	fprintf(stderr, "nosync: %s: %s\n", argv[1], strerror(errno));
	return 127;
}
