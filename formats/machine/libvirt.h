/*
 * libvirt.h - what kedge reads out of a libvirt domain description.
 */
#ifndef KEDGE_FORMATS_MACHINE_LIBVIRT_H
#define KEDGE_FORMATS_MACHINE_LIBVIRT_H

#include <stddef.h>

#define MACHINE_UUID_BYTES 37	/* text with NUL */

/* 1 when text (hostile bytes) is an XML document whose root is <domain> or <domainsnapshot> with a well-formed
 * <uuid> directly inside <domain>: *uuid is its lower-case text.  Entities that the document declares are refused.
 * 0 otherwise; -1: no memory to tell.  Source: libvirt's "Domain XML format", general metadata.  Any thread. */
int libvirt_uuid(const void *text, size_t len, char uuid[static MACHINE_UUID_BYTES]);

#endif
