/* fuzz_run.c - any bytes as the tail, or (first byte odd) as a block of an index run. */
#include <stdlib.h>
#include <string.h>

#include "repo/index_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void fuzz_tail(const uint8_t *data, size_t size)
{
	struct run_tail t = { 0 }, again = { 0 };
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, PAYLOAD_MAX_BYTES);
	if (run_tail_decode(data, size, PACK_MAX_BYTES, &t, &e) == 0) {
		struct run_shape s = { 0 };

		check(run_tail_encode(&t, &out, &e) == 0 && out.len == size);
		check(run_tail_decode(out.p, out.len, PACK_MAX_BYTES, &again, &e) == 0);
		check(again.packs.n == t.packs.n && again.nentries == t.nentries && again.segments.n == t.segments.n);
		check(run_shape_take(&t, &s, &e) == 0);
		run_shape_done(&s);
	} else {
		check(e.code < 0 && e.cause[0]);
	}
	buf_done(&out);
	run_tail_done(&t);
	run_tail_done(&again);
}

static void fuzz_block(const uint8_t *data, size_t size)
{
	uint32_t nsegments[3] = { 1, 100, 70000 }, used = 4, n = 0;
	struct run_block *b = calloc(1, sizeof(*b)), *again = calloc(1, sizeof(*b));
	struct run_fence fences[2];
	struct run_shape s = { 3, 2, nsegments, fences };
	struct run_entry en, found;
	struct err e = ERR_INIT;

	check(b && again);
	memcpy(b->plain, data, size < INDEX_BLOCK_PLAIN ? size : INDEX_BLOCK_PLAIN);
	memcpy(fences[0].first.b, b->plain + 4, ID_BYTES);
	memset(fences[1].first.b, 0xfe, ID_BYTES);
	if (run_block_decode(b, &s, 0, &e) == 0) {
		for (uint32_t i = 0; i < b->n; i++) {
			run_block_entry(b, i, &en);
			check(en.pack < 3 && en.segment < nsegments[en.pack] && en.nbases <= BASES_MAX);
			check(run_block_find(b, &en.id, &found) == 1 && id_eq(&found.id, &en.id));
			check(run_block_add(again->plain, &used, &n, &en));
		}
		check(!memcmp(again->plain, b->plain, INDEX_BLOCK_PLAIN));
	} else {
		check(e.code < 0 && e.cause[0]);
	}
	free(b);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		fuzz_block(data + 1, size - 1);
	else
		fuzz_tail(data + 1, size - 1);
	return 0;
}
