/* fuzz_vmdk_descriptor.c - any bytes as the text of a VMDK descriptor. */
#include <stdlib.h>

#include "formats/vmdk/vmdk_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmdk_descriptor d = { 0 };
	struct err e = ERR_INIT;
	uint64_t sectors = 0;

	(void)!vmdk_descriptor_looks(data, size);
	if (vmdk_descriptor_parse(data, size, &d, &e) < 0) {
		check(e.code < 0 && e.cause[0] && !d.lines.n);
		return 0;
	}
	check(d.create_type && d.lines.n);
	for (size_t i = 0; i < d.lines.n; i++) {
		const struct vmdk_line *l = &d.lines.p[i];

		check(l->sectors && !l->name == (l->kind == VMDK_ZERO));
		sectors += l->sectors;
	}
	check(sectors == d.sectors && sectors <= VMDK_SECTORS_MAX);
	vmdk_descriptor_done(&d);
	return 0;
}
