/* fuzz_manifest.c - any bytes as a manifest; what decodes encodes, and decodes to the same again. */
#include <stdlib.h>
#include <string.h>

#include "repo/manifest.h"
#include "repo/tree.h"

#define CHUNK 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_indexes(const struct manifest *m)
{
	for (size_t i = 0; i < m->states.n; i++) {
		for (size_t k = 0; k < m->states.p[i].disks.n; k++) {
			const struct manifest_state_disk *d = &m->states.p[i].disks.p[k];

			check(d->disk < m->disks.n && d->layer < m->disks.p[d->disk].layers.n);
			check(d->tree.height == tree_height(d->tree.size, CHUNK));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = NULL, *again = NULL;
	CLEANUP(free_ptr) char *json = NULL, *json2 = NULL;
	struct err e = ERR_INIT;
	size_t len, len2;

	if (manifest_decode(data, size, CHUNK, &m, &e) < 0) {
		check(e.code < 0 && e.cause[0] && !m);
		return 0;
	}
	check_indexes(m);
	check(manifest_encode(m, &json, &len, &e) == 0);
	check(manifest_decode(json, len, CHUNK, &again, &e) == 0);
	check(manifest_encode(again, &json2, &len2, &e) == 0 && len == len2 && !memcmp(json, json2, len));
	return 0;
}
