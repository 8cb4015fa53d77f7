/* replay_main.c - runs a fuzz target over the files of the folders given: the corpus as regression test, any
 * compiler. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX ((size_t)64 << 20)

/* Returns the number of files run, -1 on failure. */
static int replay_dir(const char *dir)
{
	struct err e = ERR_INIT;
	struct dirent *ent;
	DIR *d = opendir(dir);
	int n = 0;

	if (!d) {
		perror(dir);
		return -1;
	}
	while ((ent = readdir(d)) != NULL) {
		CLEANUP(free_ptr) uint8_t *data = NULL, *exact = NULL;
		CLEANUP(free_ptr) char *path = NULL;
		size_t len;

		if (ent->d_name[0] == '.')
			continue;
		path = fs_join(dir, ent->d_name, &e);
		if (!path || fs_read_file(path, INPUT_MAX, &data, &len, &e) < 0)
			break;
		exact = malloc(len ? len : 1);	/* exact size: an overrun by one must hit the sanitizer */
		if (!exact) {
			(void)err_set(&e, ERR_NOMEM, "%s: no memory", path);
			break;
		}
		memcpy(exact, data, len);
		printf("%s: %zu bytes\n", path, len);
		fflush(stdout);		/* the last line names the culprit of a crash */
		(void)LLVMFuzzerTestOneInput(exact, len);
		n++;
	}
	closedir(d);
	if (e.code)
		fprintf(stderr, "%s: %s\n", dir, e.cause);
	return e.code ? -1 : n;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int n = replay_dir(argv[i]);

		if (n < 0)
			return 1;
		total += n;
	}
	printf("%d inputs\n", total);
	if (total == 0) {
		fprintf(stderr, "no inputs: an empty corpus tests nothing\n");
		return 1;
	}
	return 0;
}
