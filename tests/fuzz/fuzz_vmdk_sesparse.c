/* fuzz_vmdk_sesparse.c - any bytes as an SESparse extent, alone and in a descriptor. */
#include "tests/fuzz/vmdk_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	walk_image(walk_open(format_find("vmdk"), data, size, true, NULL));
	if (size >= 24)
		vmdk_walk_extent("SESPARSE", get_le64(data + 16), data, size);
	return 0;
}
