/* fuzz_vmdk_cowd.c - any bytes as a COWD extent (vmfsSparse), alone and in a descriptor. */
#include "tests/fuzz/vmdk_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	walk_image(walk_open(format_find("vmdk"), data, size, true, NULL));
	if (size >= 16)
		vmdk_walk_extent("VMFSSPARSE", get_le32(data + 12), data, size);
	return 0;
}
