/*
 * ustar.h - headers of a tar archive whose members' sizes are known only after them (POSIX.1-2001, ustar and pax).
 *
 * libarchive wants a member's size before its bytes; here room is left for the header, and it is written there at the end.
 * Pure functions; any thread.
 */
#ifndef KEDGE_CLI_USTAR_H
#define KEDGE_CLI_USTAR_H

#include <stddef.h>
#include <stdint.h>

#define USTAR_BLOCK 512u
#define USTAR_NAME_MAX 99u		/* characters */
#define USTAR_HEADER_MAX (3 * USTAR_BLOCK)

/* Bytes of the header of a member of at most max bytes: one that might not fit a ustar header gets a pax header. */
size_t ustar_header_bytes(uint64_t max);
/* The header in room bytes (of ustar_header_bytes) at p: a regular file, mode 0644, owner 0. */
void ustar_header(uint8_t *p, size_t room, const char *name, uint64_t size, uint64_t mtime);

#endif
