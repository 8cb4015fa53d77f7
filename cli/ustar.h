/*
 * ustar.h - headers of a tar archive whose members' sizes are known only after them (POSIX.1-1988 ustar).
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

/* The header at p: a regular file, mode 0644, owner 0.  From 8 GiB on the size is GNU's base-256. */
void ustar_header(uint8_t p[static USTAR_BLOCK], const char *name, uint64_t size, uint64_t mtime);

#endif
