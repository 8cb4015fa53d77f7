/* fuzz_ovf.c - any bytes as an OVF descriptor. */
#include <stdlib.h>

#include "formats/machine/machine_internal.h"
#include "tests/fuzz/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_machine(ovf_parse, MACHINE_OVF, data, size);
	return 0;
}
