/* test_ingest_settled.c - rule 3 for the current state: what an untouched disk must be to be read no more, and each thing
 * that makes it be read. */
#include "tests/test.h"

#include "base/clock.h"
#include "tests/support/night.h"

#define CLUSTER 4096u
#define DATA 280u		/* clusters */
#define SIZE (300 * CLUSTER)	/* a tree of two levels */
#define BOOT "b49740e8-8dde-418a-9725-f337dd5e0833"
#define OTHER_BOOT "b49740e8-8dde-418a-9725-f337dd5e0834"

/* A base and an overlay, both settled; the overlay has a snapshot. */
struct disk {
	struct nights n;
	struct fake *layers[2];
};

static void settle(struct fake *f)
{
	f->im.unwritten_ns = clock_wall_ns();
}

static void base_has_a_writer(struct disk *d) { d->layers[1]->im.unwritten_ns = 0; }
static void host_started(struct disk *d) { (void)d; setenv("KEDGE_TEST_BOOT_ID", OTHER_BOOT, 1); }

static void setup_disk(struct disk *d)
{
	setenv("KEDGE_TEST_BOOT_ID", BOOT, 1);
	nights_new(&d->n);
	for (size_t i = 0; i < 2; i++) {
		d->layers[i] = fake_new(i ? "low" : "top", CLUSTER, SIZE);
		for (uint64_t k = 0; k < DATA; k++)
			if (i || k % 2)
				fake_write(d->layers[i], k * CLUSTER, i * 1000 + k, false);
		settle(d->layers[i]);
	}
	(void)fake_snapshot(d->layers[0], "one", "1", 1000);
	fake_write(d->layers[0], 3 * CLUSTER, 5000, false);
	d->n.disks[0] = (struct night_disk){ .name = "vda", .layers = d->layers, .nlayers = 2 };
	d->n.ndisks = 1;
	d->n.o.threads = 1;
}

static void disk_done(struct disk *d)
{
	nights_done(&d->n);
	VEC_DONE(&d->layers[0]->im.parts);
	fake_free(d->layers[0]);
	fake_free(d->layers[1]);
	unsetenv("KEDGE_TEST_BOOT_ID");
	unsetenv("KEDGE_TEST_TIME_OFFSET");
}

static void test_settled__is_not_read(void **state)
{
	const struct manifest *m;
	struct disk d;

	(void)state;
	setup_disk(&d);
	m = night(&d.n);
	assert_string_equal(night_how(m, "current", 0), "snapshot");
	assert_true(m->disks.p[0].layers.p[0].has_boot && m->disks.p[0].layers.p[1].has_boot);
	d.layers[0]->nread = d.layers[1]->nread = 0;
	for (unsigned i = 0; i < 3; i++) {
		m = night(&d.n);
		assert_string_equal(night_how(m, "current", 0), "same");
		assert_has(d.n.plan, "vda/current same vm@");
		assert_has(d.n.plan, "/current 0\n");
		assert_int_equal(m->disks.p[0].how, READ_SAME);
		assert_true(m->disks.p[0].bytes_unchanged >= DATA * CLUSTER);
	}
	assert_int_equal(d.layers[0]->nread + d.layers[1]->nread, 0);
	assert_int_equal(night_compare(&d.n, m), 3);
	disk_done(&d);
}

/* An overlay that was thrown away: the layer below is a disk's current state now. */
static void test_settled__layer_becomes_the_top(void **state)
{
	const struct manifest *m;
	struct disk d;

	(void)state;
	setup_disk(&d);
	(void)night(&d.n);
	d.n.disks[0] = (struct night_disk){ .name = "vda", .layers = d.layers + 1, .nlayers = 1 };
	d.layers[1]->nread = 0;
	m = night(&d.n);
	assert_string_equal(night_how(m, "current", 0), "same");
	assert_int_equal(d.layers[1]->nread, 0);
	assert_int_equal(night_compare(&d.n, m), 1);
	disk_done(&d);
}

/* --- trees of another night ------------------------------------------------------------------------------------------ */

/* A place of the base that the overlay does not hide: while it lies, it reads as something that it never was. */
static void tear_base(struct disk *d, bool torn)
{
	d->layers[1]->lies = torn;
	d->layers[1]->lie_state = 0;
	d->layers[1]->lie_at = 4 * CLUSTER + 77;
}

/* What a backup says of a layer is no more than what was said of it when it was read. */
static void expect_base_is_read_in_the_end(struct disk *d)
{
	const struct manifest *m;

	d->layers[0]->im.unwritten_ns = 0;
	m = night(&d->n);
	assert_string_equal(night_how(m, "layer:low", 0), "same");	/* nobody should write to a lower layer */
	assert_false(m->disks.p[0].layers.p[1].has_boot);
	settle(d->layers[0]);
	m = night(&d->n);
	assert_string_equal(night_how(m, "layer:low", 0), "full");
	assert_string_equal(night_how(m, "current", 0), "snapshot");
	assert_true(m->disks.p[0].layers.p[0].has_boot && m->disks.p[0].layers.p[1].has_boot);
	assert_int_equal(night_compare(&d->n, m), 3);
	m = night(&d->n);
	assert_string_equal(night_how(m, "layer:low", 0), "same");
	assert_string_equal(night_how(m, "current", 0), "same");
	assert_int_equal(night_compare(&d->n, m), 3);
}

static void test_settled__base_was_torn_two_nights_ago(void **state)
{
	struct disk d;

	(void)state;
	setup_disk(&d);
	base_has_a_writer(&d);
	tear_base(&d, true);
	(void)night(&d.n);
	tear_base(&d, false);
	settle(d.layers[1]);
	expect_base_is_read_in_the_end(&d);
	disk_done(&d);
}

/* A crash kept the bytes and lost the times. */
static void test_settled__base_changed_before_the_host_started(void **state)
{
	struct disk d;

	(void)state;
	setup_disk(&d);
	tear_base(&d, true);
	assert_true(night(&d.n)->disks.p[0].layers.p[1].has_boot);
	tear_base(&d, false);
	host_started(&d);
	expect_base_is_read_in_the_end(&d);
	disk_done(&d);
}

/* A disk's top is read while somebody writes to it; then it gets an overlay. */
static void test_settled__torn_top_becomes_a_layer(void **state)
{
	const struct manifest *m;
	struct disk d;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		bool settled = round > 0, started = round > 1;

		setup_disk(&d);
		d.n.disks[0] = (struct night_disk){ .name = "vda", .layers = d.layers + 1, .nlayers = 1 };
		if (!settled)
			base_has_a_writer(&d);
		tear_base(&d, !settled || started);	/* settled, and changed before a crash that lost the time */
		(void)night(&d.n);
		tear_base(&d, false);
		settle(d.layers[1]);
		if (started)
			host_started(&d);
		d.layers[0]->im.unwritten_ns = 0;	/* the machine writes on to the overlay */
		d.n.disks[0] = (struct night_disk){ .name = "vda", .layers = d.layers, .nlayers = 2 };
		m = night(&d.n);
		assert_string_equal(night_how(m, "layer:low", 0), settled && !started ? "same" : "full");
		assert_int_equal(m->disks.p[0].layers.p[1].has_boot, true);
		assert_int_equal(night_compare(&d.n, m), 3);
		m = night(&d.n);
		assert_string_equal(night_how(m, "layer:low", 0), "same");
		disk_done(&d);
	}
}

/* --- what makes it be read ----------------------------------------------------------------------------------------- */

static void ctime_moved(struct disk *d) { d->layers[0]->im.identity.ctime_ns++; }	/* touch -d, chmod, a new link */
static void mtime_moved(struct disk *d) { d->layers[0]->im.identity.mtime_ns++; }
static void other_inode(struct disk *d) { d->layers[0]->im.identity.ino++; }
static void other_device(struct disk *d) { d->layers[0]->im.identity.dev++; }
static void other_size(struct disk *d) { d->layers[0]->im.identity.size++; }
static void other_tables(struct disk *d) { d->layers[0]->im.identity.metadata_digest[0]++; }
static void has_a_writer(struct disk *d) { d->layers[0]->im.unwritten_ns = 0; }
static void base_moved(struct disk *d) { d->layers[1]->im.identity.ctime_ns++; }
static void had_a_writer(struct disk *d) { d->n.list.p[0].m->disks.p[0].layers.p[0].has_boot = false; }
static void base_had_a_writer(struct disk *d) { d->n.list.p[0].m->disks.p[0].layers.p[1].has_boot = false; }
static void is_device(struct disk *d) { d->layers[0]->im.identity.block_device = true; }
static void was_distrusted(struct disk *d) { d->n.list.p[0].distrusted = true; }
static void is_pending(struct disk *d) { d->n.list.p[0].pending = true; }
static void host_is_silent(struct disk *d) { (void)d; setenv("KEDGE_TEST_BOOT_ID", "-", 1); }
static void full_read(struct disk *d) { d->n.o.full_read = true; }
static void one_layer_less(struct disk *d) { d->n.disks[0].nlayers = 1; }

static struct image_part *add_part(struct disk *d)
{
	struct err e = ERR_INIT;
	struct image_part *part = VEC_PUSH(&d->layers[0]->im.parts, &e);

	assert_non_null(part);
	part->fd = -1;
	d->layers[0]->im.identity.metadata_digest[0] = d->n.list.p[0].m->disks.p[0].layers.p[0].metadata[0] = 1;
	return part;
}

static void part_has_a_writer(struct disk *d) { (void)add_part(d); }
static void part_changed_just_now(struct disk *d)
{
	struct image_part *part = add_part(d);

	part->unwritten_ns = clock_wall_ns();
	part->identity.ctime_ns = part->unwritten_ns - IMAGE_SETTLED_NS;
}

/* Nothing says which part it was. */
static void part_without_digest(struct disk *d)
{
	add_part(d)->unwritten_ns = clock_wall_ns();
	d->layers[0]->im.identity.metadata_digest[0] = d->n.list.p[0].m->disks.p[0].layers.p[0].metadata[0] = 0;
}

static void settled_part(struct disk *d)
{
	add_part(d)->unwritten_ns = clock_wall_ns();
}

/* Both nights saw the same change time, which is not old enough at one of them. */
static void set_ctime(struct disk *d, int64_t ns)
{
	d->layers[0]->im.identity.ctime_ns = d->n.list.p[0].m->disks.p[0].layers.p[0].ctime_ns = ns;
}

static void changed_just_now(struct disk *d) { set_ctime(d, d->layers[0]->im.unwritten_ns - IMAGE_SETTLED_NS); }
static void changed_before_that_run(struct disk *d) { set_ctime(d, d->n.list.p[0].m->start_ns - IMAGE_SETTLED_NS); }
static void changed_in_the_future(struct disk *d) { set_ctime(d, clock_wall_ns() + 1000000000); }

static void clock_went_back(struct disk *d)
{
	set_ctime(d, clock_wall_ns() - 100 * INT64_C(1000000000));
	d->n.list.p[0].m->start_ns = clock_wall_ns();
	setenv("KEDGE_TEST_TIME_OFFSET", "-200", 1);
	settle(d->layers[0]);
	settle(d->layers[1]);
}

static void had_a_problem(struct disk *d)
{
	struct manifest *m = d->n.list.p[0].m;
	struct err e = ERR_INIT;
	struct manifest_problem *p = VEC_PUSH(&m->problems, &e);

	assert_non_null(p);
	p->disk = strdup("vda");
	p->text = strdup("changed while it was read");
	m->complete = false;
}

static void test_settled__or_read(void **state)
{
	static void (*const changes[])(struct disk *) = {
		ctime_moved, mtime_moved, other_inode, other_device, other_size, other_tables, has_a_writer,
		base_has_a_writer,
		base_moved, had_a_writer, base_had_a_writer, is_device, was_distrusted, is_pending, host_started,
		host_is_silent, full_read, one_layer_less, part_has_a_writer, part_changed_just_now, part_without_digest,
		changed_just_now, changed_before_that_run, changed_in_the_future, clock_went_back, had_a_problem,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const struct manifest *m;
		struct disk d;

		setup_disk(&d);
		(void)night(&d.n);
		changes[i](&d);
		m = night(&d.n);
		if (!strcmp(night_how(m, "current", 0), "same"))
			fail_msg("change %zu did not make the current state be read", i);
		assert_true(night_compare(&d.n, m) >= 2);
		disk_done(&d);
	}
}

static void test_settled__with_parts(void **state)
{
	struct disk d;

	(void)state;
	setup_disk(&d);
	(void)night(&d.n);
	settled_part(&d);
	assert_string_equal(night_how(night(&d.n), "current", 0), "same");
	disk_done(&d);
}

static void test_settled__full_read_reads_all(void **state)
{
	const struct manifest *m;
	struct disk d;

	(void)state;
	setup_disk(&d);
	(void)night(&d.n);
	d.n.o.full_read = true;
	d.n.o.audit = AUDIT_DEFAULT;
	m = night(&d.n);
	assert_has(d.n.plan, "vda/current full -");
	assert_has(d.n.plan, "vda/snap:one full -");
	assert_has(d.n.plan, "vda/layer:low full -");
	for (size_t i = 0; i < m->states.n; i++)
		assert_int_equal(m->states.p[i].disks.p[0].how, READ_FULL);
	assert_int_equal(m->disks.p[0].bytes_read, 3 * DATA * CLUSTER);
	assert_int_equal(m->disks.p[0].bytes_unchanged, 0);
	assert_int_equal(m->bytes_new, 0);
	assert_int_equal(night_compare(&d.n, m), 3);
	disk_done(&d);
}

static void test_settled__audit_proves_it_false(void **state)
{
	const struct manifest *m;
	struct disk d;

	(void)state;
	setup_disk(&d);
	(void)night(&d.n);
	d.layers[0]->lies = true;
	d.layers[0]->lie_state = 0;
	d.layers[0]->lie_at = 3 * CLUSTER + 77;	/* a place of the current state alone */
	d.n.o.audit = AUDIT_PERCENT;
	d.n.o.audit_value = 100;
	m = night(&d.n);
	assert_has(d.n.plan, "vda/current same");
	assert_true(d.n.res.claim_false);
	assert_true(m->complete);
	assert_has(m->problems.p[0].text, "12288");
	assert_string_equal(night_how(m, "current", 0), "full");
	assert_int_equal(night_compare(&d.n, m), 3);
	/* What was read whole is what the next night compares with. */
	m = night(&d.n);
	assert_false(d.n.res.claim_false);
	assert_string_equal(night_how(m, "current", 0), "same");
	assert_int_equal(night_compare(&d.n, m), 3);
	disk_done(&d);
}

static void test_settled__changes_while_it_is_looked_at(void **state)
{
	const struct manifest *m;
	struct disk d;

	(void)state;
	setup_disk(&d);
	(void)night(&d.n);
	d.layers[0]->changed = true;
	m = night(&d.n);
	assert_string_equal(night_how(m, "current", 0), "same");
	assert_true(d.n.res.incomplete);
	assert_false(m->complete);
	disk_done(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settled__is_not_read),
		cmocka_unit_test(test_settled__layer_becomes_the_top),
		cmocka_unit_test(test_settled__base_was_torn_two_nights_ago),
		cmocka_unit_test(test_settled__base_changed_before_the_host_started),
		cmocka_unit_test(test_settled__torn_top_becomes_a_layer),
		cmocka_unit_test(test_settled__or_read),
		cmocka_unit_test(test_settled__with_parts),
		cmocka_unit_test(test_settled__full_read_reads_all),
		cmocka_unit_test(test_settled__audit_proves_it_false),
		cmocka_unit_test(test_settled__changes_while_it_is_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
