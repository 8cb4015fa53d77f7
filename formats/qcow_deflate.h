/*
 * qcow_deflate.h - the compressor of qcow and qcow2: raw deflate with a window of 4 KiB, as QEMU has it.
 *
 * What workers_opts calls local_new and local_free: *ret_local is a z_stream, one for each thread.
 */
#ifndef KEDGE_FORMATS_QCOW_DEFLATE_H
#define KEDGE_FORMATS_QCOW_DEFLATE_H

#include "base/cleanup.h"
#include "base/err.h"

MUST_CHECK int qcow_deflate_new(void *opaque, void **ret_local, struct err *e);
void qcow_deflate_free(void *local);	/* NULL is fine */

#endif
