/*
 * vhdx_format.h - numbers and identifiers of the VHDX format, for reader and writer.
 *
 *	0	file identifier: "vhdxfile", creator in UTF-16
 *	64 KiB	header 1;  128 KiB  header 2: the valid one with the larger sequence number counts
 *	192 KiB	region table;  256 KiB  its copy
 *	1 MiB	from here on log, block allocation table, metadata, blocks, each at a multiple of 1 MiB
 *
 * Integers are little-endian; checksums are CRC-32C with their own field as zeros.
 */
#ifndef KEDGE_FORMATS_VHDX_VHDX_FORMAT_H
#define KEDGE_FORMATS_VHDX_VHDX_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

#define VHDX_CREATOR 8		/* of the file identifier: 256 units of UTF-16 */
#define VHDX_CREATOR_UNITS 256
#define VHDX_HEADER_1 (64 * KIB)
#define VHDX_HEADER_2 (128 * KIB)
#define VHDX_HEADER_BYTES 4096
#define VHDX_REGIONS_1 (192 * KIB)
#define VHDX_REGIONS_2 (256 * KIB)
#define VHDX_REGIONS_BYTES 65536
#define VHDX_REGIONS_MAX 2047
#define VHDX_METADATA_TABLE_BYTES 65536
#define VHDX_METADATA_MAX 2047
#define VHDX_UNIT MIB			/* of places in the file */
#define VHDX_LOG_SECTOR 4096
#define VHDX_BLOCK_MIN ((uint32_t)1 << 20)
#define VHDX_BLOCK_MAX ((uint32_t)256 << 20)
#define VHDX_SIZE_MAX (64 * TIB)
#define VHDX_BITMAP_BYTES MIB		/* of a chunk */
#define VHDX_CHUNK_SECTORS ((uint64_t)1 << 23)	/* that one sector bitmap block covers */

#define VHDX_FILE_PARAM_LEAVE_ALLOCATED 1u	/* a fixed disk */
#define VHDX_FILE_PARAM_HAS_PARENT 2u
#define VHDX_META_IS_VIRTUAL_DISK 2u
#define VHDX_META_IS_REQUIRED 4u

enum vhdx_block_state {		/* bits 0..2 of a table entry; bits 20..63 are the place in MiB */
	VHDX_NOT_PRESENT = 0,	/* the parent's; zeros if there is none */
	VHDX_UNDEFINED = 1,
	VHDX_ZERO = 2,
	VHDX_UNMAPPED = 3,
	VHDX_FULLY_PRESENT = 6,
	VHDX_PARTIALLY_PRESENT = 7,	/* differencing: the sector bitmap tells */
};
#define VHDX_ENTRY_STATE 7u
#define VHDX_ENTRY_RESERVED ((uint64_t)0xffff8)

/* GUIDs as they are stored: the first three groups little-endian. */
extern const uint8_t vhdx_guid_bat[16];			/* 2DC27766-F623-4200-9D64-115E9BFD4A08 */
extern const uint8_t vhdx_guid_metadata[16];		/* 8B7CA206-4790-4B9A-B8FE-575F050F886E */
extern const uint8_t vhdx_guid_file_params[16];		/* CAA16737-FA36-4D43-B3B6-33F0AA44E76B */
extern const uint8_t vhdx_guid_disk_size[16];		/* 2FA54224-CD1B-4876-B211-5DBED83BF4B8 */
extern const uint8_t vhdx_guid_disk_id[16];		/* BECA12AB-B2E6-4523-93EF-C309E000C746 */
extern const uint8_t vhdx_guid_logical_sector[16];	/* 8141BF1D-A96F-4709-BA47-F233A8FAAB5F */
extern const uint8_t vhdx_guid_physical_sector[16];	/* CDA348C7-445D-4471-9CC9-E9885251C556 */
extern const uint8_t vhdx_guid_parent_locator[16];	/* A8D35F2D-B30B-454D-ABF7-D3D84834AB0C */
extern const uint8_t vhdx_guid_parent_vhdx[16];		/* B04AEFB7-D19E-4A81-B789-25B8E9445913 */

/* CRC-32C continued over len bytes; begin with UINT32_MAX, and complement the last result. */
uint32_t vhdx_crc(uint32_t crc, const void *p, size_t len);

/* How many blocks of the disk one sector bitmap block covers. */
static inline uint64_t vhdx_chunk_blocks(uint32_t logical_sector, uint32_t block_size)
{
	return VHDX_CHUNK_SECTORS * logical_sector / block_size;
}

#endif
