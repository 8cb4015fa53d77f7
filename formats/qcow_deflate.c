/* qcow_deflate.c - how clusters of qcow and qcow2 are compressed. */
#include "formats/qcow_deflate.h"

#include <stdlib.h>
#include <zlib.h>

#define WINDOW_BITS 12		/* QEMU's: its decoder has a window of 4 KiB */
#define MEM_LEVEL 8		/* 9, as QEMU, takes a fifth longer and packs no better */

int qcow_deflate_new(void *opaque, void **ret_local, struct err *e)
{
	z_stream *z = calloc(1, sizeof(*z));

	(void)opaque;
	if (!z ||
	    deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(z);
		return err_set(e, ERR_NOMEM, "compression");
	}
	*ret_local = z;
	return 0;
}

void qcow_deflate_free(void *local)
{
	if (local)
		(void)deflateEnd(local);	/* says only that the stream was not at its end */
	free(local);
}
