/* table.c - tables of 64-bit entries, read in pieces. */
#include "formats/table.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "base/num.h"
#include "formats/file.h"

#define SLICE_BYTES ((size_t)65536)

int table_scan(const struct file *f, uint64_t off, uint64_t entries, table_fn fn, void *opaque, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(SLICE_BYTES);
	uint64_t at = off, end = off + entries * 8;

	if (!buf)
		return err_set(e, ERR_NOMEM, "table");
	while (at < end) {
		uint64_t data;
		size_t len;

		if (file_skip_hole(f, at, end, &data, e) < 0)
			return e->code;
		if (data == end)
			break;
		at = max_u64(at, off + round_down(data - off, 8));	/* the table itself may be at any place */
		len = (size_t)min_u64(end - at, SLICE_BYTES);
		if (file_pread_full(f, buf, len, at, e) < 0)
			return e->code;
		for (size_t i = 0; i < len; i += 8) {
			uint64_t v = get_be64(buf + i);

			if (v && fn(opaque, (at - off + i) / 8, v, e) < 0)
				return e->code;
		}
		at += len;
	}
	return 0;
}
