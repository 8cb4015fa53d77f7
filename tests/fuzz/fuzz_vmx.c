/* fuzz_vmx.c - any bytes as VMware's configuration, and as its list of snapshots. */
#include <stdlib.h>
#include <string.h>

#include "formats/machine/machine_internal.h"
#include "tests/fuzz/machine.h"

/* A configuration whose disks the list may name; bytes behind the first NUL are the configuration instead. */
static const char config[] = "scsi0:0.present = \"TRUE\"\nscsi0:0.filename = \"a.vmdk\"\nsata0:1.present = \"TRUE\"\n"
			     "sata0:1.filename = \"b.vmdk\"\n";

static int both(const void *text, size_t len, struct machine *m, struct err *e)
{
	const char *nul = memchr(text, 0, len);
	const char *vmx = nul ? nul + 1 : config;
	size_t vmx_len = nul ? len - (size_t)(vmx - (const char *)text) : sizeof(config) - 1;

	if (vmx_parse(vmx, vmx_len, m, e) < 0)
		return e->code;
	return vmsd_parse(text, nul ? (size_t)(nul - (const char *)text) : len, m, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)!vmx_looks(data, size);
	fuzz_machine(vmx_parse, MACHINE_VMWARE, data, size);
	fuzz_machine(both, MACHINE_VMWARE, data, size);
	return 0;
}
