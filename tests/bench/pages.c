/*
 * pages.c MIB - touches that much memory and gives it back, so that what is timed next finds pages that the machine has.
 *
 * A virtual machine that reports its free pages (virtio-balloon) hands them back to the host after seconds; the first
 * touch of such a page costs many times a later one, and whoever runs next would pay for that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	size_t len = argc == 2 ? strtoul(argv[1], NULL, 10) << 20 : 0;
	char *p = len ? mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;

	if (p == MAP_FAILED) {
		fprintf(stderr, "pages: %s\n", len ? strerror(errno) : "usage: pages MIB");
		return 1;
	}
	for (size_t i = 0; i < len; i += 4096)
		((volatile char *)p)[i] = 1;
	return 0;
}
