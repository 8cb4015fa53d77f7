/* Parents that are known by ids: found in folders, checked, refused. */
#include "tests/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/chain.h"
#include "formats/file.h"
#include "formats/ids.h"
#include "tests/support/vimage.h"

#define BS 4096u

/* d/ has the child, d/Snapshots is below it, out/ beside it. */
static int setup(void **state)
{
	static const char *const folders[] = { "t", "t/d", "t/d/Snapshots", "t/d/other", "t/out" };

	(void)state;
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		if (mkdir(folders[i], 0700) < 0)
			return -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return system("rm -rf t");
}

/* An image of 8 blocks; block n holds n + id.  parent 0: a base. */
static void make(const char *path, uint8_t id, uint8_t parent, uint32_t n)
{
	struct vimage v;

	vimage_init(&v, 8 * BS, BS, 0, id);
	(void)vimage_fill(&v, n, (uint8_t)(n + id));
	if (parent)
		vimage_child(&v, parent);
	vimage_save(&v, path);
	vimage_done(&v);
}

static void make_changed(const char *path, uint8_t id)
{
	struct vimage v;

	vimage_init(&v, 8 * BS, BS, 0, id);
	(void)vimage_fill(&v, 2, 3);
	memset(v.p + VIMAGE_MODIFY, 0x5a, 16);
	vimage_save(&v, path);
	vimage_done(&v);
}

static void refused(const char *path, const struct chain_opts *o, int code, const char *cause, const char *hint)
{
	struct err e = ERR_INIT;
	struct chain *c;
	char text[2048];
	int r = chain_open(path, o, &c, &e);

	if (r != code || !strstr(err_text(&e, text, sizeof(text)), cause) || !strstr(e.hint, hint))
		fail_msg("%s: %s: %s (hint: %s); wanted %s, \"%s\", \"%s\"", path, err_code_name(r),
			 err_text(&e, text, sizeof(text)), e.hint, err_code_name(code), cause, hint);
}

static void expect_byte(struct chain *c, uint64_t off, uint8_t want)
{
	struct err e = ERR_INIT;
	uint8_t b;

	assert_ok(image_pread(c->image, 0, &b, 1, off, &e), &e);
	assert_int_equal(b, want);
}

static void reads(const char *path, const struct chain_opts *o, uint32_t layers, const char *bottom)
{
	struct err e = ERR_INIT;
	struct chain *c;

	assert_ok(chain_open(path, o, &c, &e), &e);
	assert_int_equal(c->nlayers, layers);
	assert_has(c->layers[layers - 1]->path, bottom);
	for (uint32_t i = 0; i < layers; i++)	/* layer i has its own byte in block i */
		expect_byte(c, (uint64_t)i * BS, 3);
	chain_close(c);
}

/* Ids are such that block i of layer i reads 3. */
static void make_chain(const char *child, const char *middle, const char *base)
{
	make(child, 3, 2, 0);
	make(middle, 2, 1, 1);
	make(base, 1, 0, 2);
}

static void test_parents__found(void **state)
{
	static const char *const allow[] = { "t/out", NULL }, *const above[] = { "t/d", NULL };
	struct chain_opts o = { 0 };

	(void)state;
	make_chain("t/d/child.vdi", "t/d/{m}.vdi", "t/d/Snapshots/base.vdi");
	/* files that have nothing to do with it, or can't be looked into */
	assert_int_equal(mkfifo("t/d/fifo", 0600), 0);
	assert_int_equal(symlink("Snapshots/base.vdi", "t/d/a-link.vdi"), 0);
	assert_int_equal(symlink("nowhere", "t/d/dangling"), 0);
	assert_int_equal(close(open("t/d/empty", O_CREAT | O_WRONLY, 0600)), 0);
	reads("t/d/child.vdi", &o, 3, "base.vdi");
	assert_int_equal(rename("t/d/Snapshots/base.vdi", "t/d/other/base.vdi"), 0);
	refused("t/d/child.vdi", &o, ERR_NOTFOUND, "01010101-0101-0101-0101-010101010101", "--allow-path DIR");
	assert_int_equal(rename("t/d/other/base.vdi", "t/out/base.vdi"), 0);
	refused("t/d/child.vdi", &o, ERR_NOTFOUND, "t/d/Snapshots", "--allow-path DIR");
	o.allow_paths = allow;
	reads("t/d/child.vdi", &o, 3, "out/base.vdi");
	/* each layer is confined by its own folder: what lies above that of one isn't seen, though its child lies there */
	o.allow_paths = NULL;
	assert_int_equal(rename("t/out/base.vdi", "t/d/base.vdi"), 0);
	assert_int_equal(rename("t/d/{m}.vdi", "t/d/Snapshots/{m}.vdi"), 0);
	refused("t/d/child.vdi", &o, ERR_NOTFOUND, "01010101-0101-0101-0101-010101010101", "--allow-path DIR");
	o.allow_paths = above;
	reads("t/d/child.vdi", &o, 3, "d/base.vdi");
}

/* A copy is a copy, wherever it is; another name of the same file isn't. */
static void test_parents__several(void **state)
{
	static const char *const allow[] = { "t/out", "t/d", NULL };
	struct chain_opts o = { .allow_paths = allow };

	(void)state;
	make_chain("t/d/child.vdi", "t/d/middle.vdi", "t/out/base.vdi");
	reads("t/d/child.vdi", &o, 3, "base.vdi");
	assert_int_equal(link("t/out/base.vdi", "t/d/base.vdi"), 0);
	reads("t/d/child.vdi", &o, 3, "base.vdi");
	make("t/d/copy.vdi", 1, 0, 2);
	refused("t/d/child.vdi", &o, ERR_INVALID, "2 images have the id of its parent", "move the copies");
	refused("t/d/child.vdi", &o, ERR_INVALID, "copy.vdi", "");
	/* one of them as it was is the right one */
	make_changed("t/d/copy.vdi", 1);
	reads("t/d/child.vdi", &o, 3, "base.vdi");
}

static void test_parents__changed(void **state)
{
	struct chain_opts o = { 0 };

	(void)state;
	make_chain("t/d/child.vdi", "t/d/middle.vdi", "t/d/base.vdi");
	make_changed("t/d/base.vdi", 1);
	refused("t/d/child.vdi", &o, ERR_CHANGED, "written to after", "--force");
	refused("t/d/child.vdi", &o, ERR_CHANGED, "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a, recorded is 81818181", "");
	o.force = true;
	reads("t/d/child.vdi", &o, 3, "base.vdi");
}

/* Two that are each other's parents, and one that is its own. */
static void test_parents__loops(void **state)
{
	struct chain_opts o = { 0 };

	(void)state;
	make("t/d/a.vdi", 1, 2, 0);
	make("t/d/b.vdi", 2, 1, 0);
	refused("t/d/a.vdi", &o, ERR_INVALID, "the chain is a loop", "");
	make("t/d/c.vdi", 3, 3, 0);
	refused("t/d/c.vdi", &o, ERR_NOTFOUND, "03030303", "");
}

/* A guest can write what it likes on its raw disk, a VDI's header too: with a boot sector's mark, or by its name, it is
 * nobody's parent. */
static void test_parents__raw_is_none(void **state)
{
	static const char *const raw[] = { "disk.raw", "DISK.IMG", "disk-flat.vmdk", "disk-f001.vmdk", "disk-f12.vmdk" },
			  *const images[] = { "flat.vmdk", "disk-001.vmdk", "diskf001.vmdk", "disk-f.vmdk", "disk.raw.vdi" };
	struct chain_opts o = { 0 };
	struct err e = ERR_INIT;
	struct chain *c;
	char path[80];
	struct vimage v;

	(void)state;
	make("t/d/child.vdi", 3, 1, 0);
	vimage_init(&v, 8 * BS, BS, 0, 1);
	memcpy(v.p + 510, "\x55\xaa", 2);
	vimage_save(&v, "t/d/disk");
	vimage_done(&v);
	refused("t/d/child.vdi", &o, ERR_NOTFOUND, "no image with the id", "");
	for (size_t i = 0; i < sizeof(raw) / sizeof(*raw); i++) {
		snprintf(path, sizeof(path), "t/d/%s", raw[i]);
		make(path, 1, 0, 1);
		refused("t/d/child.vdi", &o, ERR_NOTFOUND, "no image with the id", "");
		assert_int_equal(unlink(path), 0);
	}
	for (size_t i = 0; i < sizeof(images) / sizeof(*images); i++) {
		snprintf(path, sizeof(path), "t/d/%s", images[i]);
		make(path, 1, 0, 1);
		assert_ok(chain_open("t/d/child.vdi", &o, &c, &e), &e);
		assert_has(c->layers[1]->path, images[i]);
		chain_close(c);
		assert_int_equal(unlink(path), 0);
	}
}

static void test_parents__alone(void **state)
{
	struct chain_opts o = { .no_backing = true };
	struct err e = ERR_INIT;
	struct extent x;
	struct chain *c;

	(void)state;
	make("t/d/child.vdi", 3, 1, 0);
	assert_ok(chain_open("t/d/child.vdi", &o, &c, &e), &e);
	assert_ok(image_next_extent(c->image, 0, BS, 100, &x, &e), &e);
	assert_int_equal(x.kind, EXTENT_HOLE);
	chain_close(c);
}

static void make_vmdk(const char *path, const char *cid, const char *parent_cid, const char *hint)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fprintf(f, "# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=%s\ncreateType=\"custom\"\nRW 8 ZERO\n",
			    cid, parent_cid) > 0);
	assert_true(!hint || fprintf(f, "parentFileNameHint=\"%s\"\n", hint) > 0);
	assert_int_equal(fclose(f), 0);
}

/* By its CID a parent is found under another name; "see longContentID" is none that an image could be known by. */
static void test_parents__vmdk_content(void **state)
{
	struct chain_opts o = { 0 };
	struct err e = ERR_INIT;
	struct chain *c;

	(void)state;
	make_vmdk("t/d/other.vmdk", "0badcafe", "ffffffff", NULL);
	make_vmdk("t/d/child.vmdk", "00000002", "0badcafe", "disk.vmdk");
	assert_ok(chain_open("t/d/child.vmdk", &o, &c, &e), &e);
	assert_has(c->layers[1]->path, "other.vmdk");
	chain_close(c);
	/* What was wrong with the first place is forgotten when the next one has it. */
	make_vmdk("t/d/child.vmdk", "00000002", "0badcafe", "/nowhere/other.vmdk");
	assert_ok(chain_open("t/d/child.vmdk", &o, &c, &e), &e);
	assert_int_equal(e.code, 0);
	chain_close(c);
	make_vmdk("t/d/child.vmdk", "00000002", "0badcafe", "disk.vmdk");
	make_vmdk("t/d/other.vmdk", "fffffffe", "ffffffff", NULL);
	refused("t/d/child.vmdk", &o, ERR_NOTFOUND, "disk.vmdk", "");
	make_vmdk("t/d/child.vmdk", "00000002", "fffffffe", "disk.vmdk");
	refused("t/d/child.vmdk", &o, ERR_NOTFOUND, "disk.vmdk", "");
	make_vmdk("t/d/child.vmdk", "00000002", "fffffffe", "/nowhere/other.vmdk");
	refused("t/d/child.vmdk", &o, ERR_NOTFOUND, "/nowhere/other.vmdk", "");
	make_vmdk("t/d/child.vmdk", "00000002", "fffffffe", "other.vmdk");
	assert_ok(chain_open("t/d/child.vmdk", &o, &c, &e), &e);
	assert_has(c->layers[1]->path, "other.vmdk");
	chain_close(c);
}

/* With force, too, the right one counts before one that was changed, and lies at another place. */
static void test_parents__force_prefers_the_right_one(void **state)
{
	struct chain_opts o = { .force = true };
	struct err e = ERR_INIT;
	struct chain *c;

	(void)state;
	make_vmdk("t/d/disk.vmdk", "00000001", "ffffffff", NULL);
	make_vmdk("t/d/child.vmdk", "00000002", "0badcafe", "disk.vmdk");
	assert_ok(chain_open("t/d/child.vmdk", &o, &c, &e), &e);
	assert_has(c->layers[1]->path, "disk.vmdk");
	chain_close(c);
	make_vmdk("t/d/right.vmdk", "0badcafe", "ffffffff", NULL);
	assert_ok(chain_open("t/d/child.vmdk", &o, &c, &e), &e);
	assert_has(c->layers[1]->path, "right.vmdk");
	chain_close(c);
}

/* What keeps a later place from being read is told, not what was wrong with the first. */
static void test_parents__locked(void **state)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1 };
	struct chain_opts o = { 0 };
	int fd;

	(void)state;
	make_vmdk("t/out/base.vmdk", "0badcafe", "ffffffff", NULL);
	make_vmdk("t/d/base.vmdk", "0badcafe", "ffffffff", NULL);
	make_vmdk("t/d/child.vmdk", "00000002", "0badcafe", "../out/base.vmdk");
	fd = open("t/d/base.vmdk", O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);	/* as QEMU that writes to it */
	refused("t/d/child.vmdk", &o, ERR_LOCKED, "base.vmdk", "");
	close(fd);
}

static void test_parents__windows_names(void **state)
{
	static const struct { const char *in, *out; } rows[] = {
		{ ".\\base.vhd", "./base.vhd" },
		{ "..\\vm one\\base.vhd", "../vm one/base.vhd" },
		{ "C:\\VMs\\base.vhd", "base.vhd" },
		{ "C:base.vhd", "base.vhd" },
		{ "\\\\server\\share\\base.vhd", "base.vhd" },
		{ "\\\\?\\Volume{26A21BDA}\\a\\base.vhd", "base.vhd" },
		{ "base.vhd", "base.vhd" },
		{ "/vmfs/volumes/x/base.vmdk", "base.vmdk" },
	};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct image im = { .file.fd = -1 };

		assert_ok(image_parent_add_windows(&im, rows[i].in, &e), &e);
		assert_ok(image_parent_add_windows(&im, rows[i].in, &e), &e);
		assert_int_equal(im.parent.refs.n, 1);
		assert_string_equal(im.parent.refs.p[0], rows[i].out);
		image_base_done(&im);
	}
}

static void test_parents__uuids(void **state)
{
	static const char *const bad[] = { "", "28dfb01b-389c-4e10-b1b1-95726720e3f", "28dfb01b-389c-4e10-b1b1-95726720e3f00",
					   "28dfb01b0389c-4e10-b1b1-95726720e3f0", "28dfb01b-389c-4e10-b1b1-95726720e3fg",
					   "{28dfb01b-389c-4e10-b1b1-95726720e3f0" };
	const struct writer_opts random = { 0 }, seeded = { .id_seed = "s" };
	char text[UUID_TEXT_BYTES];
	uint8_t a[16], b[16];

	(void)state;
	assert_true(uuid_parse("{28DFB01B-389C-4E10-B1B1-95726720E3F0}", a));
	assert_string_equal(uuid_text(a, text), "28dfb01b-389c-4e10-b1b1-95726720e3f0");
	uuid_swap(a);
	assert_string_equal(uuid_text(a, text), "1bb0df28-9c38-104e-b1b1-95726720e3f0");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(uuid_parse(bad[i], a));
	uuid_for(&random, NULL, "x", a);
	uuid_for(&random, "", "x", b);
	assert_memory_not_equal(a, b, 16);
	assert_true(a[6] >> 4 == 4 && a[8] >> 6 == 2);
	uuid_for(&seeded, NULL, "x", a);
	uuid_for(&seeded, "not one", "x", b);
	assert_memory_equal(a, b, 16);
	uuid_for(&seeded, NULL, "y", b);
	assert_memory_not_equal(a, b, 16);
	uuid_for(&random, "28dfb01b-389c-4e10-b1b1-95726720e3f0", "x", a);
	assert_string_equal(uuid_text(a, text), "28dfb01b-389c-4e10-b1b1-95726720e3f0");
	assert_int_equal(id32_for(&random, "1234ABCD", "cid"), 0x1234abcd);
	assert_int_equal(id32_for(&seeded, "ffffffff", "cid"), id32_for(&seeded, NULL, "cid"));
}

/* --- random sets of images against a model ------------------------------------------------------------------------------ */

#define FILES 6u
static const char *const places[] = { "t/d", "t/d/Snapshots", "t/d/other", "t/out" };

struct found {
	unsigned place;			/* index into places */
	uint8_t id, modify, parent, parent_modify;	/* parent 0: a base; parent_modify 0: not recorded */
};

static void make_file(const struct found *f, unsigned n)
{
	struct vimage v;
	char path[64];

	snprintf(path, sizeof(path), "%s/%u.vdi", places[f->place], n);
	vimage_init(&v, 2 * BS, BS, 0, f->id);
	memset(v.p + VIMAGE_MODIFY, f->modify, 16);
	if (f->parent) {
		vimage_child(&v, f->parent);
		memset(v.p + VIMAGE_PARENT_MODIFY, f->parent_modify, 16);
	}
	vimage_save(&v, path);
	vimage_done(&v);
}

static bool may_look(const struct found *child, unsigned place, bool allow_out)
{
	return place == child->place || (place == 1 && child->place == 0) || (place == 3 && allow_out);
}

/* How many fit; *ret is one of them. */
static unsigned candidates(const struct found *f, unsigned child, bool exactly, bool allow_out, unsigned *ret)
{
	unsigned found = 0;

	for (unsigned i = 0; i < FILES; i++) {
		const struct found *c = &f[child];

		if (i == child || f[i].id != c->parent || !may_look(c, f[i].place, allow_out) ||
		    (exactly && c->parent_modify && f[i].modify != c->parent_modify))
			continue;
		*ret = i;
		found++;
	}
	return found;
}

/* What opening file top must give: the number of layers, or the error. */
static int model(const struct found *f, unsigned top, bool allow_out, bool force, unsigned layers[FILES])
{
	unsigned n = 0, at = top, next = 0, found;

	for (;;) {
		for (unsigned i = 0; i < n; i++)
			if (layers[i] == at)
				return ERR_INVALID;
		layers[n++] = at;
		if (!f[at].parent)
			return (int)n;
		found = candidates(f, at, true, allow_out, &next);
		if (!found) {
			found = candidates(f, at, false, allow_out, &next);
			if (found == 1 && !force)
				return ERR_CHANGED;
		}
		if (found != 1)
			return found ? ERR_INVALID : ERR_NOTFOUND;
		at = next;
	}
}

static unsigned rnd(uint64_t *state, unsigned n)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(*state >> 33) % n;
}

static void expect_model(const struct found *f, unsigned top, bool allow_out, bool force)
{
	static const char *const allow[] = { "t/out", NULL };
	struct chain_opts o = { .allow_paths = allow_out ? allow : NULL, .force = force };
	unsigned layers[FILES];
	int want = model(f, top, allow_out, force, layers), r;
	struct err e = ERR_INIT;
	struct chain *c = NULL;
	char path[64];

	snprintf(path, sizeof(path), "%s/%u.vdi", places[f[top].place], top);
	r = chain_open(path, &o, &c, &e);
	if (want < 0) {
		if (r != want)
			fail_msg("%s: %s (%s), wanted %s", path, err_code_name(r), e.cause, err_code_name(want));
		return;
	}
	assert_ok(r, &e);
	assert_int_equal(c->nlayers, want);
	for (unsigned i = 0; i < c->nlayers; i++) {
		snprintf(path, sizeof(path), "%s/%u.vdi", places[f[layers[i]].place], layers[i]);
		assert_has(c->layers[i]->path, path);
	}
	chain_close(c);
}

static void test_parents__random(void **state)
{
	unsigned good = 0, bad[2] = { 0 };
	uint64_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		struct found f[FILES];
		unsigned layers[FILES];

		assert_int_equal(system("rm -f t/d/*.vdi t/d/*/*.vdi t/out/*.vdi"), 0);
		for (unsigned i = 0; i < FILES; i++) {
			f[i] = (struct found){ .place = rnd(&seed, 4), .id = (uint8_t)(1 + rnd(&seed, 5)),
					      .modify = (uint8_t)(0x10 + rnd(&seed, 2)) };
			if (rnd(&seed, 3)) {
				f[i].parent = (uint8_t)(1 + rnd(&seed, 5));
				f[i].parent_modify = (uint8_t)(rnd(&seed, 3) ? 0x10 + rnd(&seed, 2) : 0);
			}
			make_file(&f[i], i);
		}
		for (unsigned i = 0; i < 4 * FILES; i++) {
			expect_model(f, i % FILES, i & 8, i & 16);
			good += model(f, i % FILES, i & 8, i & 16, layers) > 1;
			bad[0] += model(f, i % FILES, i & 8, i & 16, layers) == ERR_CHANGED;
			bad[1] += model(f, i % FILES, i & 8, i & 16, layers) == ERR_INVALID;
		}
	}
	assert_true(good > 40 && bad[0] > 20 && bad[1] > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_parents__found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__several, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__changed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__loops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__raw_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__vmdk_content, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__force_prefers_the_right_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__locked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parents__random, setup, teardown),
		cmocka_unit_test(test_parents__windows_names),
		cmocka_unit_test(test_parents__uuids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
