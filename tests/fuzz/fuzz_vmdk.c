/*
 * fuzz_vmdk.c - any bytes as a VMDK: a sparse file, streamOptimized or not, or a descriptor; what follows a
 * descriptor's first NUL is what its extents hold.
 */
#include "tests/fuzz/vmdk_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size && data[0] != 'K' ? memchr(data, 0, size) : NULL;
	size_t text = nul ? (size_t)(nul - data) : size;

	walk_probe(data, size);
	vmdk_walk(data, text, data + text + (nul != NULL), size - text - (nul != NULL), false);
	vmdk_walk(data, text, data + text + (nul != NULL), size - text - (nul != NULL), true);
	if (size >= 20 && data[0] == 'K')
		vmdk_walk_extent("SPARSE", get_le64(data + 12), data, size);
	return 0;
}
