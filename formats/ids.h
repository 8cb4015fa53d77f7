/*
 * ids.h - the ids that formats give their images: UUIDs as text and bytes, and new ones.
 *
 * Here a UUID is 16 bytes in the order of its text (RFC 4122).  Microsoft's and VirtualBox's files hold the first three
 * groups little-endian: uuid_swap turns one into the other.  Pure functions but for the random ones; any thread.
 */
#ifndef KEDGE_FORMATS_IDS_H
#define KEDGE_FORMATS_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/image.h"
#include "formats/writer.h"

#define UUID_TEXT_BYTES 37

/* "28dfb01b-9c38-4e10-...", lower case, no braces; buf takes UUID_TEXT_BYTES.  Returns buf. */
const char *uuid_text(const uint8_t uuid[16], char *buf);
/* The same of a UUID as those files hold it. */
const char *uuid_text_stored(const uint8_t stored[16], char *buf);
/* The reverse, of either case, with or without braces; false: it is none, and *uuid stays. */
bool uuid_parse(const char *text, uint8_t uuid[16]);
bool uuid_is_null(const uint8_t uuid[16]);
/* From the order of a file (or to it): in place. */
void uuid_swap(uint8_t uuid[16]);

/*
 * An id for an image that is being written: kept if the caller gives one (one of o->ids' texts, "" or NULL = none),
 * else a new UUID (version 4) at random or, with o->id_seed, from the seed and what ("vdi image"; never changed: it is
 * part of what a seed gives).
 */
void uuid_for(const struct writer_opts *o, const char *kept, const char *what, uint8_t uuid[16]);
/* The same for 32 bits, as 8 hex digits, never one of the two highest numbers (VMDK's CID). */
uint32_t id32_for(const struct writer_opts *o, const char *kept, const char *what);

#endif
