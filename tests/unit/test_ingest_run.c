/* test_ingest_run.c - nights of made-up disks: what is read, what is reused, and that every point comes back. */
#include "tests/test.h"

#include "base/clock.h"
#include "base/num.h"
#include "tests/support/night.h"

#define CLUSTER 4096u
#define SIZE (64 * CLUSTER)

/* One disk of one image with two snapshots and some changes after each. */
static struct fake *make_disk(struct nights *n, const char *path)
{
	static struct fake *layers[NIGHT_DISKS_MAX]; /* the run wants an array; each test ends before the next begins */
	struct fake *f = fake_new(path, CLUSTER, SIZE);
	struct night_disk *d = &n->disks[n->ndisks];

	for (uint64_t i = 0; i < 32; i++)
		fake_write(f, i * CLUSTER, 100 + i, false);
	(void)fake_snapshot(f, "one", "1", 1000);
	for (uint64_t i = 4; i < 8; i++)
		fake_write(f, i * CLUSTER, 200 + i, i == 5);
	fake_clear(f, 9 * CLUSTER, EXTENT_ZERO);
	(void)fake_snapshot(f, "two", "2", 2000);
	fake_write(f, 40 * CLUSTER, 300, false);
	layers[n->ndisks] = f;
	*d = (struct night_disk){ .name = n->ndisks ? "vdb" : "vda", .layers = &layers[n->ndisks], .nlayers = 1 };
	n->ndisks++;
	return f;
}

static void test_run__first_night_reads_each_place_once(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	m = night(&n);
	assert_string_equal(n.plan, "vda/snap:one full - 131072\nvda/snap:two snapshot snap:one 16384\nvda/current "
				    "snapshot snap:two 4096\n");
	assert_string_equal(night_how(m, "snap:one", 0), "full");
	assert_string_equal(night_how(m, "snap:two", 0), "snapshot");
	assert_string_equal(night_how(m, "current", 0), "snapshot");
	assert_int_equal(m->disks.p[0].how, READ_FULL);
	assert_int_equal(f->nread, 37 * CLUSTER);
	assert_int_equal(m->bytes_read, 37 * CLUSTER);
	assert_int_equal(n.res.bytes_hashed, 37 * CLUSTER);
	assert_true(m->complete);
	assert_int_equal(m->states.n, 3);
	assert_string_equal(m->states.p[0].name, "current");
	assert_int_equal(night_compare(&n, m), 3);
	nights_done(&n);
	fake_free(f);
}

static void test_run__second_night_reads_what_changed(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	f->nread = 0;
	m = night(&n);
	assert_string_equal(night_how(m, "snap:one", 0), "same");
	assert_string_equal(night_how(m, "snap:two", 0), "same");
	assert_string_equal(night_how(m, "current", 0), "snapshot");
	assert_int_equal(f->nread, CLUSTER);	/* what differs from the newest snapshot, which is proven */
	assert_int_equal(m->disks.p[0].how, READ_SNAPSHOT);
	(void)fake_snapshot(f, "three", "3", 3000);
	fake_write(f, 2 * CLUSTER, 400, false);
	f->nread = 0;
	m = night(&n);
	assert_string_equal(night_how(m, "snap:two", 0), "same");
	assert_string_equal(night_how(m, "snap:three", 0), "snapshot");
	assert_int_equal(f->nread, 2 * CLUSTER);
	assert_int_equal(night_compare(&n, m), 4);
	nights_done(&n);
	fake_free(f);
}

static void test_run__snapshot_must_be_the_same(void **state)
{
	struct nights n;
	struct fake *f;
	char *id;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	f->pub[1].date_ns++;
	assert_string_equal(night_how(night(&n), "snap:one", 0), "snapshot"); /* against "two", which still is proven */
	f->pub[1].date_ns--;
	id = (char *)(uintptr_t)f->pub[1].id;
	f->pub[1].id = "9";
	assert_string_equal(night_how(night(&n), "snap:one", 0), "snapshot");
	f->pub[1].id = id;
	assert_string_equal(night_how(night(&n), "snap:one", 0), "same");
	f->s[1].map[3].host = 0;	/* the snapshot's tables were written over */
	assert_string_equal(night_how(night(&n), "snap:one", 0), "snapshot");
	assert_int_equal(night_compare(&n, n.list.p[n.list.n - 1].m), 3);
	f->im.identity.ino++;		/* a copy in another file */
	assert_string_equal(night_how(night(&n), "snap:two", 0), "snapshot");
	assert_string_equal(night_how(n.list.p[n.list.n - 1].m, "snap:one", 0), "full");
	nights_done(&n);
	fake_free(f);
}

static void test_run__current_alone_uses_proven_snapshots(void **state)
{
	static const char *const only[] = { "current", NULL };
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	f->nread = 0;
	n.states = only;
	m = night(&n);
	assert_int_equal(m->states.n, 1);
	assert_int_equal(f->nread, CLUSTER);
	assert_string_equal(night_how(m, "current", 0), "snapshot");
	assert_int_equal(night_compare(&n, m), 1);
	nights_done(&n);
	fake_free(f);
}

static void test_run__chosen_states(void **state)
{
	static const char *const by_id[] = { "snapid:2", NULL }, *const none[] = { "snap:nine", NULL };
	struct err e = ERR_INIT;
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	n.states = by_id;
	m = night(&n);
	assert_int_equal(m->states.n, 1);
	assert_string_equal(night_how(m, "snap:two", 0), "full");
	assert_int_equal(night_compare(&n, m), 1);
	n.states = none;
	assert_int_equal(night_fails(&n, &e), ERR_NOTFOUND);
	assert_has(e.cause, "snap:one");
	nights_done(&n);
	fake_free(f);
}

static void test_run__lower_layers(void **state)
{
	struct nights n;
	struct fake *low = fake_new("dir/low", 512, SIZE / 2), *top = fake_new("dir/top", CLUSTER, SIZE),
		    *newer = fake_new("dir/new", CLUSTER, SIZE);
	struct fake *two[] = { top, low }, *three[] = { newer, top, low };
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	for (uint64_t off = 0; off < SIZE / 2; off += 512)
		fake_write(low, off, off, false);
	for (uint64_t i = 0; i < 6; i++)
		fake_write(top, (i + 2) * CLUSTER, i, false);
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = two, .nlayers = 2 };
	n.ndisks = 1;
	setenv("KEDGE_TEST_BOOT_ID", "b49740e8-8dde-418a-9725-f337dd5e0833", 1);
	top->im.unwritten_ns = clock_wall_ns();
	m = night(&n);
	unsetenv("KEDGE_TEST_BOOT_ID");
	assert_string_equal(night_how(m, "layer:low", 0), "full");
	assert_string_equal(night_how(m, "current", 0), "layer");
	assert_int_equal(top->nread + low->nread, SIZE / 2 + 6 * CLUSTER);
	assert_int_equal(night_compare(&n, m), 2);
	/* What was current, and settled, is now a lower layer: nothing but the new top is read. */
	fake_write(newer, 50 * CLUSTER, 9, false);
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = three, .nlayers = 3 };
	top->nread = low->nread = 0;
	m = night(&n);
	assert_string_equal(night_how(m, "layer:low", 0), "same");
	assert_string_equal(night_how(m, "layer:top", 0), "same");
	assert_string_equal(night_how(m, "current", 0), "layer");
	assert_int_equal(top->nread + low->nread, 0);
	assert_int_equal(newer->nread, CLUSTER);
	assert_int_equal(night_compare(&n, m), 3);
	nights_done(&n);
	fake_free(low);
	fake_free(top);
	fake_free(newer);
}

/* How layer:low is read after change was made to it. */
static const char *how_after(void (*change)(struct fake *low))
{
	struct nights n;
	struct fake *low = fake_new("low", CLUSTER, SIZE), *top = fake_new("top", CLUSTER, SIZE),
		    *both[] = { top, low };
	const char *how;

	nights_new(&n);
	fake_write(low, 0, 1, false);
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = both, .nlayers = 2 };
	n.ndisks = 1;
	(void)night(&n);
	change(low);
	how = night_how(night(&n), "layer:low", 0);
	nights_done(&n);
	fake_free(low);
	fake_free(top);
	return how;
}

static void nothing(struct fake *low) { (void)low; }
static void new_mtime(struct fake *low) { low->im.identity.mtime_ns++; }
static void new_ctime(struct fake *low) { low->im.identity.ctime_ns++; }
static void new_inode(struct fake *low) { low->im.identity.ino++; }
static void new_size(struct fake *low) { low->im.identity.size++; }
static void new_metadata(struct fake *low) { low->im.identity.metadata_digest[5]++; }
static void device(struct fake *low) { low->im.identity.block_device = true; }
/* Another file of the image, changed at ns (the metadata digest holds the rest of its identity). */
static void add_part(struct fake *low, int64_t ctime_ns, bool block_device)
{
	struct err e = ERR_INIT;
	struct image_part *p = VEC_PUSH(&low->im.parts, &e);

	assert_non_null(p);
	*p = (struct image_part){ .fd = -1, .identity = { .ctime_ns = ctime_ns, .block_device = block_device } };
}
static void old_part(struct fake *low) { add_part(low, 1000, false); }
static void young_part(struct fake *low)
{
	add_part(low, 1000, false);
	add_part(low, INT64_MAX, false);
}
static void device_part(struct fake *low) { add_part(low, 1000, true); }
static void other_format(struct fake *low) { low->im.info.format = "raw"; }

static void test_run__layer_must_be_untouched(void **state)
{
	static void (*const changes[])(struct fake *) = {
		new_mtime, new_ctime, new_inode, new_size, new_metadata, device, other_format,
		young_part, device_part,
	};

	(void)state;
	assert_string_equal(how_after(nothing), "same");
	assert_string_equal(how_after(old_part), "same");
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		assert_string_equal(how_after(changes[i]), "full");
}

static void test_run__fresh_change_time_proves_nothing(void **state)
{
	struct nights n;
	struct fake *low = fake_new("low", CLUSTER, SIZE), *top = fake_new("top", CLUSTER, SIZE),
		    *both[] = { top, low };

	(void)state;
	nights_new(&n);
	fake_write(low, 0, 1, false);
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = both, .nlayers = 2 };
	n.ndisks = 1;
	(void)night(&n);
	n.list.p[0].m->start_ns = low->im.identity.ctime_ns + 1; /* as if that run had started right after the change */
	assert_string_equal(night_how(night(&n), "layer:low", 0), "full");
	nights_done(&n);
	fake_free(low);
	fake_free(top);
}

static void test_run__pending_and_other_vms_prove_nothing(void **state)
{
	struct nights n;
	struct fake *f;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	(void)night(&n);
	n.list.p[0].pending = true;
	assert_string_equal(night_how(night(&n), "snap:one", 0), "full");
	n.list.n = 1;
	n.list.p[0].pending = false;
	n.list.p[0].m->vm[0] = 'x';
	manifest_free(n.list.p[1].m);
	assert_string_equal(night_how(night(&n), "snap:one", 0), "full");
	nights_done(&n);
	fake_free(f);
}

static void test_run__saved_memory(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	fake_vm_state(f, 2, 3 * CLUSTER + 17, 5);
	m = night(&n);
	assert_int_equal(night_compare(&n, m), 3);
	m = night(&n);
	assert_string_equal(night_how(m, "snap:two", 0), "same");
	assert_int_equal(night_compare(&n, m), 3);
	f->pub[1].vm_state_bytes = (uint64_t)1 << 50;	/* far more than the file has */
	m = night(&n);
	assert_false(m->complete);
	assert_null(night_row(m, "snap:one", 0));
	f->pub[1].vm_state_bytes = 0;
	nights_done(&n);
	fake_free(f);
}

static void test_run__states_of_two_disks(void **state)
{
	struct nights n;
	struct fake *a, *b;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	a = make_disk(&n, "a");
	b = make_disk(&n, "b");
	(void)fake_snapshot(a, "twice", "3", 3000);
	(void)fake_snapshot(a, "twice", "4", 4000);
	(void)fake_snapshot(b, "twice", "3", 3000);
	(void)fake_snapshot(b, "", "4", 4000);
	(void)fake_snapshot(a, "", "5", 4000);
	m = night(&n);
	assert_non_null(night_row(m, "snap:one", 0));
	assert_non_null(night_row(m, "snap:one", 1));
	/* current, one, two together; twice, twice of a and twice of b, both empty names alone */
	assert_int_equal(m->states.n, 3 + 3 + 2);
	assert_int_equal(m->states.p[0].disks.n, 2);
	assert_int_equal(night_compare(&n, m), 2 * 3 + 5);
	nights_done(&n);
	fake_free(a);
	fake_free(b);
}

static void test_run__roots_do_not_depend_on_threads(void **state)
{
	static const unsigned threads[] = { 1, 2, 4, 0 };
	struct id roots[4][3];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct nights n;
		struct fake *f;
		const struct manifest *m;

		nights_new(&n);
		n.o.threads = threads[i];
		n.o.max_bytes = i == 1 ? 64 * KIB : 0;
		f = make_disk(&n, "a");
		m = night(&n);
		assert_int_equal(night_compare(&n, m), 3);
		/* ids are keyed per repository: the content is what must be equal, and was; here the shape */
		for (size_t k = 0; k < 3; k++) {
			roots[i][k] = m->states.p[k].disks.p[0].tree.root;
			assert_true(m->states.p[k].disks.p[0].tree.has_root);
		}
		/* Read it all again, with other threads: the same repository, so the same roots. */
		n.list.p[0].m->vm[0] = 'x';
		n.o.threads = threads[(i + 1) % 4];
		m = night(&n);
		assert_string_equal(night_how(m, "snap:one", 0), "full");
		for (size_t k = 0; k < 3; k++)
			assert_memory_equal(&roots[i][k], &m->states.p[k].disks.p[0].tree.root, ID_BYTES);
		assert_int_equal(m->bytes_new, 0);
		nights_done(&n);
		fake_free(f);
	}
}

/* Data that happens to be zeros cuts out what the base had there. */
static void test_run__written_zeros(void **state)
{
	struct nights n;
	struct fake *f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "a");
	for (uint64_t i = 10; i < 14; i++) {
		fake_write(f, i * CLUSTER, 1, false);
		memset(f->host + f->host_len - CLUSTER, 0, CLUSTER);
	}
	m = night(&n);
	assert_int_equal(n.res.bytes_hashed, 37 * CLUSTER);	/* zeros are not hashed, nor stored */
	assert_int_equal(night_compare(&n, m), 3);
	nights_done(&n);
	fake_free(f);
}

/* The last chunk is zeros behind the disk's end: the same chunk as that of a longer disk with written zeros there. */
static void test_run__tail_is_padded_with_zeros(void **state)
{
	struct nights n;
	struct fake *f = fake_new("a", 512, 2 * CLUSTER + 512), *layer = f;

	(void)state;
	nights_new(&n);
	for (uint64_t off = 0; off < 2 * CLUSTER + 512; off += 512)
		fake_write(f, off, off, false);
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = &layer, .nlayers = 1 };
	n.ndisks = 1;
	assert_int_equal(night(&n)->bytes_new, 3 * CLUSTER);
	fake_resize(f, 3 * CLUSTER);
	for (uint64_t off = 2 * CLUSTER + 512; off < 3 * CLUSTER; off += 512) {
		fake_write(f, off, 1, false);
		memset(f->host + f->host_len - 512, 0, 512);
	}
	assert_int_equal(night(&n)->bytes_new, 0);
	nights_done(&n);
	fake_free(f);
}

static void test_run__nearest_base_is_chosen(void **state)
{
	struct nights n;
	struct fake *low = fake_new("low", CLUSTER, SIZE), *top = fake_new("top", CLUSTER, SIZE),
		    *both[] = { top, low };
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	for (uint64_t i = 0; i < 30; i++) {
		fake_write(low, i * CLUSTER, i, false);
		fake_write(top, i * CLUSTER, 100 + i, false);
	}
	(void)fake_snapshot(top, "full", "1", 1);
	for (uint64_t i = 1; i < 30; i++)
		fake_clear(top, i * CLUSTER, EXTENT_HOLE);	/* now it is nearly the layer below */
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = both, .nlayers = 2 };
	n.ndisks = 1;
	m = night(&n);
	assert_string_equal(night_how(m, "current", 0), "layer");
	assert_int_equal(night_row(m, "current", 0)->bytes_read, CLUSTER);
	assert_int_equal(night_compare(&n, m), 3);
	nights_done(&n);
	fake_free(low);
	fake_free(top);
}

/* 60 leaves, 16 of which are kept in memory: the others come back from the store, where a flush has put them. */
static void test_run__more_nodes_than_are_kept(void **state)
{
	struct nights n;
	struct fake *f = fake_new("a", CLUSTER, 60 * 256 * (uint64_t)CLUSTER), *layer = f;
	const struct manifest *m;

	(void)state;
	nights_new(&n);
	n.o.max_bytes = 64 * KIB;
	for (uint64_t i = 0; i < 60; i++)
		fake_write(f, i * 256 * CLUSTER, i, false);
	(void)fake_snapshot(f, "one", "1", 1);
	for (uint64_t i = 0; i < 60; i++)
		fake_write(f, (i * 256 + 1) * CLUSTER, 100 + i, false);
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = &layer, .nlayers = 1 };
	n.ndisks = 1;
	m = night(&n);
	assert_int_equal(f->nread, 120 * CLUSTER);
	assert_int_equal(night_compare(&n, m), 2);
	nights_done(&n);
	fake_free(f);
}

/* Whatever happens to an image over some nights, every point of every night's last backup reads as the image does. */
static void random_nights(uint64_t seed)
{
	uint64_t rng = seed;
	struct nights n;
	uint32_t cluster = seed % 3 == 0 ? 512 : seed % 3 == 1 ? 4096 : 65536;
	struct fake *low = fake_new("low", 512, 40 * 4096 + 512), *top = fake_new("top", cluster, 60 * 4096),
		    *both[] = { top, low };

	nights_new(&n);
	n.disks[0] = (struct night_disk){ .name = "vda", .layers = both, .nlayers = 2 };
	n.ndisks = 1;
	n.o.threads = 2;
	for (unsigned i = 0; i < 30; i++)
		fake_write(low, fake_random(&rng) % low->pub[0].size, fake_random(&rng), i % 5 == 0);
	for (unsigned day = 0; day < 6; day++) {
		char name[16], id[16];

		for (unsigned i = 0; i < 8; i++) {
			uint64_t off = fake_random(&rng) % top->pub[0].size, what = fake_random(&rng) % 8;

			if (what < 6)
				fake_write(top, off, fake_random(&rng), what == 0);
			else
				fake_clear(top, off, what == 6 ? EXTENT_ZERO : EXTENT_HOLE);
		}
		if (day == 2)
			fake_resize(top, 300 * 4096 + 512);	/* the tree grows */
		if (day == 4)
			fake_resize(top, 33 * 4096 + 100);
		snprintf(name, sizeof(name), "day%u", day);
		snprintf(id, sizeof(id), "%u", day + 1);
		if (fake_random(&rng) % 3)
			(void)fake_snapshot(top, name, id, (int64_t)day);
		if (day == 3)
			low->im.identity.mtime_ns++;	/* touched: is read again */
		n.o.audit = AUDIT_PERCENT;
		n.o.audit_value = 100;
		assert_true(night_compare(&n, night(&n)) >= 2);
		assert_false(n.res.claim_false);
		assert_false(n.res.incomplete);
	}
	nights_done(&n);
	fake_free(low);
	fake_free(top);
}

static void test_run__random_nights(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++)
		random_nights(seed);
}

static void test_run__attachments_tags_and_names(void **state)
{
	static const char *const tags[] = { "weekly", NULL };
	struct ingest_attachment a = { .name = "vm.xml", .p = "<domain/>", .len = 9, .mode = 0640 };
	struct err e = ERR_INIT;
	struct repo_reader *rd;
	const struct manifest *m;
	struct nights n;
	struct fake *f;
	char got[9];

	(void)state;
	nights_new(&n);
	f = make_disk(&n, "dir/a");
	n.o.attachments = &a;
	n.o.nattachments = 1;
	n.o.tags = tags;
	n.o.machine_uuid = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
	n.o.machine_source = "host:dir/a";
	m = night(&n);
	assert_string_equal(m->attachments.p[0].name, "vm.xml");
	assert_int_equal(m->attachments.p[0].mode, 0640);
	assert_string_equal(m->tags.p[0], "weekly");
	assert_string_equal(m->machine_uuid, n.o.machine_uuid);
	assert_string_equal(m->disks.p[0].path, "dir/a");
	assert_string_equal(m->disks.p[0].layers.p[0].path, "dir/a");
	assert_ok(repo_reader_new(n.t.repo, 0, &rd, &e), &e);
	assert_ok(repo_reader_pread(rd, "default", &m->attachments.p[0].tree, got, 9, 0, &e), &e);
	assert_memory_equal(got, "<domain/>", 9);
	repo_reader_free(rd);
	nights_done(&n);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run__first_night_reads_each_place_once),
		cmocka_unit_test(test_run__second_night_reads_what_changed),
		cmocka_unit_test(test_run__snapshot_must_be_the_same),
		cmocka_unit_test(test_run__current_alone_uses_proven_snapshots),
		cmocka_unit_test(test_run__chosen_states),
		cmocka_unit_test(test_run__lower_layers),
		cmocka_unit_test(test_run__layer_must_be_untouched),
		cmocka_unit_test(test_run__fresh_change_time_proves_nothing),
		cmocka_unit_test(test_run__pending_and_other_vms_prove_nothing),
		cmocka_unit_test(test_run__saved_memory),
		cmocka_unit_test(test_run__states_of_two_disks),
		cmocka_unit_test(test_run__roots_do_not_depend_on_threads),
		cmocka_unit_test(test_run__written_zeros),
		cmocka_unit_test(test_run__tail_is_padded_with_zeros),
		cmocka_unit_test(test_run__nearest_base_is_chosen),
		cmocka_unit_test(test_run__more_nodes_than_are_kept),
		cmocka_unit_test(test_run__random_nights),
		cmocka_unit_test(test_run__attachments_tags_and_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
