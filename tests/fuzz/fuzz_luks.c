/*
 * fuzz_luks.c - any bytes as a LUKS header: read, described and, where that takes few rounds, tried with a password.
 */
#include "formats/crypt/crypt.h"
#include "formats/image.h"
#include "tests/fuzz/walk.h"

#define ROUNDS_MAX 20000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_quick(const struct luks_header *h)
{
	uint64_t n = h->digest_iterations;

	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		n += h->slots[i].iterations;
	return n <= ROUNDS_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct image_secret pw = { .p = (const uint8_t *)"secret\n", .len = 7 }, *const list[] = { &pw };
	const struct luks_limits limits = { 100000, 1000000, NULL };
	int fd = file_of(data, size);
	struct imgcrypt *c = NULL;
	struct err e = ERR_INIT;
	struct luks_header h;
	char text[160];

	if (luks_read(&(struct file){ fd, 0, size }, 0, size, &h, &e) < 0) {
		check(e.code < 0 && e.cause[0]);
	} else {
		check(strlen(luks_text(&h, text, sizeof(text))) < sizeof(text));
		if (is_quick(&h) && luks_open(&(struct file){ fd, 0, size }, 0, &h, list, 1, &limits, &c, &e) < 0)
			check(e.code < 0 && e.cause[0]);
		imgcrypt_free(c);
	}
	close(fd);
	return 0;
}
