/* fuzz_node.c - node_decode on any bytes; what it accepts encodes back to the same bytes: the form is canonical. */
#include <stdlib.h>

#include "repo/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = ERR_INIT;
	struct node n;
	uint8_t raw[NODE_MAX_BYTES];

	for (uint32_t level = 1; level <= TREE_HEIGHT_MAX; level++) {
		if (node_decode(data, size, level, &n, &e) < 0)
			continue;
		if (node_encode(&n, raw) != size || memcmp(raw, data, size) != 0)
			abort();
	}
	return 0;
}
