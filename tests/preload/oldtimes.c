/*
 * oldtimes.c - storage that changes bytes and not times, preloaded: fstat of one file gives times that it had once.
 *
 *	KEDGE_OLD_TIMES=INODE:MTIME:CTIME	in nanoseconds
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static void put_back(unsigned long long ino, struct timespec *mtim, struct timespec *ctim)
{
	const char *text = getenv("KEDGE_OLD_TIMES");
	unsigned long long which, m, c;

	if (!text || sscanf(text, "%llu:%llu:%llu", &which, &m, &c) != 3 || which != ino)
		return;
	*mtim = (struct timespec){ (time_t)(m / 1000000000), (long)(m % 1000000000) };
	*ctim = (struct timespec){ (time_t)(c / 1000000000), (long)(c % 1000000000) };
}

int fstat64(int fd, struct stat64 *st)
{
	int (*real)(int, struct stat64 *) = (int (*)(int, struct stat64 *))dlsym(RTLD_NEXT, "fstat64");
	int r = real(fd, st);

	if (r == 0)
		put_back(st->st_ino, &st->st_mtim, &st->st_ctim);
	return r;
}
