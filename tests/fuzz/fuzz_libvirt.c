/* fuzz_libvirt.c - libvirt domain descriptions, which users attach and guests' owners may have written. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/machine/libvirt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char uuid[MACHINE_UUID_BYTES];

	if (libvirt_uuid(data, size, uuid) == 1 && strlen(uuid) != MACHINE_UUID_BYTES - 1)
		abort();
	return 0;
}
