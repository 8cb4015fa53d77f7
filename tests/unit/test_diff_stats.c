/* test_diff_stats.c - comparing states and counting, against what was written. */
#include "tests/test.h"

#include "repo/backups.h"
#include "repo/diff.h"
#include "repo/protocol.h"
#include "repo/stats.h"
#include "tests/support/run.h"

#define CHUNKS 700u
#define OTHER 600u		/* the second disk is shorter */

struct expect {
	uint8_t changed[CHUNKS];
	uint64_t next;
};

/* Ranges come in order, and cover exactly the chunks that differ. */
static int range(void *opaque, const struct diff_disk *disk, uint64_t off, uint64_t len, struct err *e)
{
	struct expect *x = opaque;

	(void)e;
	assert_string_equal(disk->name, "vda");
	assert_true(off > x->next || x->next == 0);	/* ranges that touch are one */
	x->next = off + len;
	assert_int_equal(off % RUN_CHUNK, 0);
	for (uint64_t i = off / RUN_CHUNK; i < (off + len + RUN_CHUNK - 1) / RUN_CHUNK; i++)
		x->changed[i]++;
	return 0;
}

static bool all_zero(const uint8_t *p)
{
	static const uint8_t zero[RUN_CHUNK];

	return memcmp(p, zero, RUN_CHUNK) == 0;
}

static void test_diff__ranges_are_what_differs(void **state)
{
	uint8_t a[RUN_CHUNK], b[RUN_CHUNK];
	struct repo_reader *rd = NULL;
	struct manifest *ma, *mb;
	struct diff_result d = { 0 };
	struct expect x = { 0 };
	struct tree_ref ta, tb;
	struct run_fx fx;
	struct err e = ERR_INIT;
	uint64_t chunks = 0, zeroed = 0;

	(void)state;
	run_fx_new(&fx);
	assert_ok(run_backup(&fx, 1, CHUNKS, false, &ta, NULL, &e), &e);
	assert_ok(run_backup(&fx, 2, OTHER, false, &tb, NULL, &e), &e);
	ma = run_manifest(&ta);
	mb = run_manifest(&tb);
	assert_ok(repo_reader_new(fx.repo, 0, &rd, &e), &e);
	assert_ok(diff_states(rd, RUN_CHUNK, ma, 0, mb, 0, NULL, range, &x, &d, &e), &e);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		run_chunk(1, i, a);
		memset(b, 0, sizeof(b));
		if (i < OTHER)
			run_chunk(2, i, b);
		assert_int_equal(x.changed[i], memcmp(a, b, sizeof(a)) != 0);
		chunks += x.changed[i];
		zeroed += x.changed[i] && all_zero(b);
	}
	assert_int_equal(d.disks.n, 1);
	assert_true(d.disks.p[0].in_a && d.disks.p[0].in_b && !d.disks.p[0].other_domain);
	assert_int_equal(d.disks.p[0].counts.chunks, chunks);
	assert_int_equal(d.disks.p[0].counts.bytes, chunks * RUN_CHUNK);
	assert_int_equal(d.disks.p[0].counts.bytes_zeroed, zeroed * RUN_CHUNK);
	assert_int_equal(d.disks.p[0].counts.bytes_filled, 0);
	diff_result_done(&d);

	assert_ok(diff_states(rd, RUN_CHUNK, ma, 0, ma, 0, "vda", range, &x, &d, &e), &e);
	assert_int_equal(d.disks.p[0].counts.ranges, 0);
	diff_result_done(&d);
	assert_err(diff_states(rd, RUN_CHUNK, ma, 0, mb, 0, "vdz", NULL, NULL, &d, &e), ERR_NOTFOUND, &e);

	free(mb->disks.p[0].name);	/* another disk: one went, one came */
	mb->disks.p[0].name = strdup("vdb");
	assert_ok(diff_states(rd, RUN_CHUNK, ma, 0, mb, 0, NULL, NULL, NULL, &d, &e), &e);
	assert_int_equal(d.disks.n, 2);
	assert_true(d.disks.p[0].in_a && !d.disks.p[0].in_b && d.disks.p[1].in_b && !d.disks.p[1].in_a);
	assert_int_equal(d.disks.p[0].counts.bytes_zeroed, CHUNKS / 5 * 4 * RUN_CHUNK);
	assert_int_equal(d.disks.p[1].counts.bytes_filled, OTHER / 5 * 4 * RUN_CHUNK);
	diff_result_done(&d);
	manifest_free(ma);
	manifest_free(mb);
	repo_reader_free(rd);
	run_fx_done(&fx);
}

static void test_stats__count_what_was_stored(void **state)
{
	struct repo_writer_stats w[2];
	struct backup_list l = { 0 };
	struct repo_reader *rd = NULL;
	struct repo_stats *s = NULL;
	struct tree_ref t;
	struct run_fx fx;
	struct err e = ERR_INIT;

	(void)state;
	run_fx_new(&fx);
	assert_ok(run_backup(&fx, 1, CHUNKS, false, &t, &w[0], &e), &e);
	assert_ok(run_backup(&fx, 2, OTHER, false, &t, &w[1], &e), &e);
	assert_ok(store_put(fx.store, "stray", "?", 1, 0, &e), &e);
	assert_ok(repo_backups(fx.repo, NULL, &l, NULL, &e), &e);
	assert_ok(repo_reader_new(fx.repo, 0, &rd, &e), &e);
	assert_ok(repo_stats_collect(fx.repo, repo_reader_index(rd), &l, &s, &e), &e);
	assert_int_equal(s->chunks, w[0].chunks_new + w[1].chunks_new);
	assert_int_equal(s->chunk_bytes, s->chunks * RUN_CHUNK);
	assert_true(s->nodes >= 2 + 3 + 3);
	assert_int_equal(s->delta_chunks, 0);
	assert_int_equal(s->unusable_packs, 0);
	assert_int_equal(s->kind[OBJECT_MANIFEST].objects, 2);
	assert_int_equal(s->kind[OBJECT_CONFIG].objects, 1);
	assert_int_equal(s->kind[OBJECT_DATA_SEGMENT].objects + s->kind[OBJECT_NODE_SEGMENT].objects,
			 w[0].packs + w[1].packs);
	assert_int_equal(s->kind[OBJECT_DATA_SEGMENT].bytes + s->kind[OBJECT_NODE_SEGMENT].bytes +
				 s->kind[OBJECT_RUN_TAIL].bytes + s->kind[OBJECT_MANIFEST].bytes,
			 w[0].bytes_stored + w[1].bytes_stored);
	assert_int_equal(s->unknown.objects, 1);
	assert_int_equal(s->vms.n, 1);
	assert_string_equal(s->vms.p[0].vm, "vm");
	assert_int_equal(s->vms.p[0].backups, 2);
	assert_int_equal(s->vms.p[0].states, 2);
	assert_int_equal(s->vms.p[0].logical, (uint64_t)(CHUNKS + OTHER) * RUN_CHUNK);
	assert_int_equal(s->logical, s->vms.p[0].logical);
	repo_stats_free(s);
	backup_list_free(&l);
	repo_reader_free(rd);
	run_fx_done(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_diff__ranges_are_what_differs),
		cmocka_unit_test(test_stats__count_what_was_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
