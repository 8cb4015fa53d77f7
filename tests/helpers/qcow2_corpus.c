/* qcow2_corpus.c - writes the seeds of the qcow2 fuzz target: qcow2_corpus FOLDER.  Small, one feature or fault
 * each. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "tests/support/qimage.h"

static void save(struct qimage *q, const char *dir, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	qimage_save(q, path);
	qimage_done(q);
}

static void plain(const char *dir)
{
	struct qimage q;

	qimage_init(&q, 2, 9, 70000, false, 0);
	(void)qimage_data(&q, 0, 1);
	(void)qimage_data(&q, 512, 2);
	(void)qimage_data(&q, 69632, 3);
	save(&q, dir, "v2-plain");
	qimage_init(&q, 3, 9, 70001, false, 0);
	(void)qimage_data(&q, 0, 1);
	qimage_set(&q, 512, 1);
	qimage_set(&q, 0, qimage_get64(&q, qimage_entry_at(&q, 0)) | 1);
	qimage_compressed(&q, 1024, 7, false);
	qimage_compressed(&q, 1536, 9, false);
	qimage_backing(&q, "base.img", "raw");
	save(&q, dir, "v3-zero-deflate-backing");
	qimage_init(&q, 3, 9, 70001, false, 0);
	qimage_be64(&q, 72, 8);
	q.p[104] = 1;
	qimage_compressed(&q, 1024, 7, true);
	qimage_compressed(&q, 1536, 9, true);
	save(&q, dir, "v3-zstd");
}

static void snapshots(const char *dir)
{
	struct qimage q;

	qimage_init(&q, 3, 9, 40000, false, 2);
	(void)qimage_data(&q, 0, 1);
	(void)qimage_data(&q, 65536, 0xee);
	qimage_snapshot(&q, "1", "one", 40000, 300, 16);
	(void)qimage_data(&q, 512, 2);
	qimage_snapshot(&q, "2", "two", 100, 0, 16);
	save(&q, dir, "v3-snapshots");
	qimage_init(&q, 2, 9, 40000, false, 0);
	(void)qimage_data(&q, 0, 1);
	qimage_snapshot(&q, "1", "old", 0, 0, 0);
	save(&q, dir, "v2-snapshot-without-size");
}

static void extended(const char *dir)
{
	struct qimage q;

	qimage_init(&q, 3, 14, 200000, true, 0);
	qimage_set(&q, 0, 0);
	qimage_set_bitmap(&q, 0, (uint64_t)0x0ff0f0f0 << 32);
	qimage_set(&q, 16384, qimage_cluster(&q, NULL, 700) | QIMAGE_COPIED);
	qimage_set_bitmap(&q, 16384, 0x3 | (uint64_t)0xc << 32);
	/* Clusters are large here: without the refcount block, and all behind it one cluster forward, the seed is
	 * smaller. */
	qimage_be64(&q, q.cluster, 0);
	memmove(q.p + 2 * q.cluster, q.p + 3 * q.cluster, q.len - 3 * q.cluster);
	q.len -= q.cluster;
	qimage_be64(&q, 40, 2 * q.cluster);
	qimage_be64(&q, 2 * q.cluster, 3 * q.cluster);
	qimage_be64(&q, 3 * q.cluster + 16, 4 * q.cluster);
	save(&q, dir, "v3-extended-l2");
}

static void metadata(const char *dir)
{
	uint8_t ext[24] = { 0 }, entry[32] = { 0 }, row[48] = { 0, 40 };
	struct qimage q;
	uint64_t table, at;

	qimage_init(&q, 3, 9, 40000, false, 0);
	table = qimage_cluster(&q, NULL, 512);
	at = qimage_cluster(&q, NULL, 512);
	qimage_be64(&q, table, at);
	put_be64(entry, table);
	put_be32(entry + 8, 1);
	entry[16] = 1;
	entry[17] = 9;
	put_be16(entry + 18, 1);
	entry[24] = 'b';
	at = qimage_cluster(&q, entry, sizeof(entry));
	put_be32(ext, 1);
	put_be64(ext + 8, sizeof(entry));
	put_be64(ext + 16, at);
	qimage_extension(&q, QIMAGE_EXT_BITMAPS, ext, sizeof(ext));
	qimage_be64(&q, 88, 1);
	save(&q, dir, "v3-bitmap");
	qimage_init(&q, 3, 9, 40000, false, 0);
	memcpy(row + 2, "future", 6);
	qimage_extension(&q, QIMAGE_EXT_FEATURES, row, sizeof(row));
	qimage_be64(&q, 72, (uint64_t)1 << 40);
	save(&q, dir, "v3-unknown-feature");
	qimage_init(&q, 3, 9, 40000, false, 0);
	qimage_be64(&q, 72, 4);
	qimage_extension(&q, QIMAGE_EXT_DATA_FILE, "data.bin", 8);
	qimage_set(&q, 0, QIMAGE_COPIED);
	save(&q, dir, "v3-data-file");
}

static void faults(const char *dir)
{
	struct qimage q;

	qimage_init(&q, 3, 9, 70000, false, 0);
	(void)qimage_data(&q, 0, 1);
	qimage_be64(&q, q.l1 + 8, qimage_get64(&q, q.l1));
	qimage_be64(&q, 72, 3);
	save(&q, dir, "bad-shared-l2");
	qimage_init(&q, 3, 9, 70000, false, 0);
	qimage_set(&q, 0, q.l1);
	qimage_set(&q, 512, QIMAGE_COMPRESSED | 512);
	qimage_set(&q, 1024, UINT64_MAX);
	save(&q, dir, "bad-entries");
	qimage_init(&q, 3, 21, (uint64_t)1 << 60, false, 0);
	q.len = 200;
	save(&q, dir, "bad-huge-claims");
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: qcow2_corpus FOLDER\n");
		return 2;
	}
	plain(argv[1]);
	snapshots(argv[1]);
	extended(argv[1]);
	metadata(argv[1]);
	faults(argv[1]);
	return 0;
}
