/* fuzz_vbox.c - any bytes as XML of VirtualBox and of libvirt. */
#include <stdlib.h>

#include "formats/machine/machine_internal.h"
#include "tests/fuzz/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_machine(vbox_parse, MACHINE_VIRTUALBOX, data, size);
	fuzz_machine(libvirt_parse, MACHINE_LIBVIRT, data, size);
	return 0;
}
