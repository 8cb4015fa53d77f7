/* fuzz_config.c - any bytes as the config, and as what a client remembers of a repository. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "repo/repo_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(free_ptr) char *json = NULL;
	struct repo_config c, again;
	struct seen seen;
	struct err e = ERR_INIT;
	size_t len;

	if (config_decode(data, size, &c, &e) == 0) {
		check(is_pow2(c.chunk_size) && c.chunk_size >= CHUNK_MIN_BYTES && c.chunk_size <= CHUNK_MAX_BYTES);
		check(config_encode(&c, &json, &len, &e) == 0 && config_decode(json, len, &again, &e) == 0);
		check(again.chunk_size == c.chunk_size && again.pack_size == c.pack_size &&
		      again.lease_ns == c.lease_ns && again.draft == c.draft &&
		      !memcmp(again.cipher_id, c.cipher_id, CIPHER_ID_BYTES));
	} else {
		check(e.code < 0 && e.cause[0]);
	}
	err_clear(&e);
	if (seen_decode(data, size, &seen, &e) == 0) {
		for (size_t i = 0; i < seen.heads.n; i++)
			check(seen.heads.p[i].sequence > 0 &&
			      memchr(seen.heads.p[i].vm, 0, sizeof(seen.heads.p[i].vm)));
		seen_done(&seen);
	}
	return 0;
}
