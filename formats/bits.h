/*
 * bits.h - runs of equal bits in a bitmap: which sectors of a block are present.
 *
 * Pure functions; any thread.
 */
#ifndef KEDGE_FORMATS_BITS_H
#define KEDGE_FORMATS_BITS_H

#include <stdbool.h>
#include <stdint.h>

/* How many bits from number from on equal the first, at most up to number end (from < end).  *ret_set is that bit.
 * msb_first: bit 0 is the highest of the first byte (VHD), else the lowest (VHDX). */
uint64_t bits_run(const uint8_t *p, uint64_t from, uint64_t end, bool msb_first, bool *ret_set);

#endif
