/* Chains: stacking, references that are and aren't followed, loops, depth, locks. */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "formats/chain.h"
#include "tests/support/qimage.h"

#define CS 65536u

/* Each test has folders of its own: d/ with the images, out/ beside it. */
static int setup(void **state)
{
	static const char *const folders[] = { "t", "t/d", "t/d/sub", "t/out" };

	(void)state;
	for (size_t i = 0; i < 4; i++)
		if (mkdir(folders[i], 0700) < 0)
			return -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return system("rm -rf t");
}

static void make(const char *path, uint64_t size, const char *backing, const char *format, uint64_t guest, uint8_t fill)
{
	struct qimage q;

	qimage_init(&q, 3, 16, size, false, 0);
	if (backing)
		qimage_backing(&q, backing, format);
	if (fill)
		(void)qimage_data(&q, guest, fill);
	qimage_save(&q, path);
	qimage_done(&q);
}

static void make_raw(const char *path, size_t size, uint8_t fill)
{
	struct err e = ERR_INIT;
	uint8_t *p = malloc(size);

	assert_non_null(p);
	memset(p, fill, size);
	assert_ok(fs_write_atomic(path, p, size, true, 0600, &e), &e);
	free(p);
}

static void expect_byte(struct image *im, uint32_t state, uint64_t off, uint8_t want)
{
	struct err e = ERR_INIT;
	uint8_t b;

	assert_ok(image_pread(im, state, &b, 1, off, &e), &e);
	if (b != want)
		fail_msg("byte at %" PRIu64 " is %u, wanted %u", off, b, want);
}

static struct extent extent_at(struct image *im, uint64_t off)
{
	struct err e = ERR_INIT;
	struct extent x;

	assert_ok(image_next_extent(im, 0, off, UINT64_MAX, &x, &e), &e);
	return x;
}

/* Refused with the code; cause and hint contain the words. */
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

static struct chain *opened(const char *path, const struct chain_opts *o)
{
	struct err e = ERR_INIT;
	struct chain *c = NULL;

	assert_ok(chain_open(path, o, &c, &e), &e);
	return c;
}

/* top (8 clusters) over mid (4 clusters, so shorter) over a raw base (6 clusters, longer than mid). */
static void test_chain__stacks(void **state)
{
	struct chain_opts o = { 0 };
	struct err e = ERR_INIT;
	struct chain *c;
	struct image *view;
	struct extent x;

	(void)state;
	make_raw("t/d/base.img", 6 * CS, 9);
	make("t/d/mid.qcow2", 4 * CS - 100, "base.img", "raw", CS, 5);
	make("t/d/top.qcow2", 8 * CS, "mid.qcow2", "qcow2", 0, 3);
	c = opened("t/d/top.qcow2", &o);
	assert_int_equal(c->nlayers, 3);
	assert_int_equal(c->image->info.virtual_size, 8 * CS);
	expect_byte(c->image, 0, 0, 3);
	expect_byte(c->image, 0, CS, 5);
	expect_byte(c->image, 0, 2 * CS, 9);
	expect_byte(c->image, 0, 4 * CS - 101, 9);
	expect_byte(c->image, 0, 4 * CS - 100, 0);	/* behind mid's end are zeros, though base goes on */
	expect_byte(c->image, 0, 8 * CS - 1, 0);
	x = extent_at(c->image, 0);
	assert_true(x.kind == EXTENT_DATA && x.len == CS && x.origin.layer == 0);
	x = extent_at(c->image, CS + 10);
	assert_true(x.kind == EXTENT_DATA && x.len == CS - 10 && x.origin.layer == 1);
	x = extent_at(c->image, 2 * CS);
	assert_true(x.kind == EXTENT_DATA && x.len == 2 * CS - 100 && x.origin.layer == 2 && x.origin.host == 2 * CS);
	x = extent_at(c->image, 4 * CS - 100);
	assert_true(x.kind == EXTENT_ZERO && x.len == 4 * CS + 100);
	assert_ok(chain_view(c, 1, &view, &e), &e);
	assert_int_equal(view->info.virtual_size, 4 * CS - 100);
	expect_byte(view, 0, 0, 9);
	expect_byte(view, 0, CS, 5);
	x = extent_at(view, CS);
	assert_int_equal(x.origin.layer, 1);		/* numbered as in the whole chain */
	image_close(view);
	assert_err(chain_view(c, 3, &view, &e), ERR_INVALID, &e);
	assert_ok(chain_check_unchanged(c, &e), &e);
	assert_int_equal(truncate("t/d/base.img", CS), 0);
	assert_int_equal(chain_check_unchanged(c, &e), ERR_CHANGED);
	assert_has(e.ctx, "base.img");
	chain_close(c);
}

static void test_chain__larger_below(void **state)
{
	struct chain_opts o = { 0 };
	struct chain *c;

	(void)state;
	make_raw("t/d/base.img", 6 * CS, 9);
	make("t/d/top.qcow2", 2 * CS + 7, "base.img", "raw", 0, 0);
	c = opened("t/d/top.qcow2", &o);
	assert_int_equal(extent_at(c->image, 0).len, 2 * CS + 7);
	expect_byte(c->image, 0, 2 * CS + 6, 9);
	chain_close(c);
}

static void test_chain__zeros_mask(void **state)
{
	struct chain_opts o = { 0 };
	struct chain *c;
	struct qimage q;

	(void)state;
	make_raw("t/d/base.img", 4 * CS, 9);
	qimage_init(&q, 3, 16, 4 * CS, false, 0);
	qimage_backing(&q, "base.img", "raw");
	qimage_set(&q, CS, 1);
	qimage_save(&q, "t/d/top.qcow2");
	qimage_done(&q);
	c = opened("t/d/top.qcow2", &o);
	expect_byte(c->image, 0, 0, 9);
	expect_byte(c->image, 0, CS, 0);
	expect_byte(c->image, 0, 2 * CS, 9);
	chain_close(c);
}

static void test_chain__snapshots_over_lower_layers(void **state)
{
	struct chain_opts o = { 0 };
	struct err e = ERR_INIT;
	uint8_t a[32], b[32];
	struct chain *c;
	struct qimage q;

	(void)state;
	make_raw("t/d/base.img", 4 * CS, 9);
	qimage_init(&q, 3, 16, 4 * CS, false, 0);
	qimage_backing(&q, "base.img", "raw");
	qimage_snapshot(&q, "1", "before", 3 * CS, 0, 16);
	(void)qimage_data(&q, 0, 1);
	qimage_save(&q, "t/d/top.qcow2");
	qimage_done(&q);
	c = opened("t/d/top.qcow2", &o);
	assert_int_equal(c->image->info.nstates, 2);
	expect_byte(c->image, 0, 0, 1);
	expect_byte(c->image, 1, 0, 9);
	assert_int_equal(image_state(c->image, 1)->size, 3 * CS);
	assert_ok(image_state_digest(c->image, 0, a, &e), &e);
	assert_ok(image_state_digest(c->image, 1, b, &e), &e);
	assert_memory_not_equal(a, b, 32);
	chain_close(c);
}

static void test_chain__no_backing_keeps_holes(void **state)
{
	struct chain_opts o = { .no_backing = true };
	struct chain *c;

	(void)state;
	make("t/d/top.qcow2", 4 * CS, "missing", "raw", 0, 1);
	c = opened("t/d/top.qcow2", &o);
	assert_int_equal(c->nlayers, 1);
	assert_true(extent_at(c->image, CS).kind == EXTENT_HOLE);
	chain_close(c);
	make("t/d/alone.qcow2", 4 * CS, NULL, NULL, 0, 1);
	o.no_backing = false;
	c = opened("t/d/alone.qcow2", &o);
	assert_true(extent_at(c->image, CS).kind == EXTENT_ZERO);
	chain_close(c);
}

static void test_chain__references_refused(void **state)
{
	static const struct {
		const char *name, *cause, *hint;
		int code;
	} rows[] = {
		{ "../out/base.img", "outside the image's folder", "--allow-path", ERR_INVALID },
		{ "sub/../../out/base.img", "outside the image's folder", "--allow-path", ERR_INVALID },
		{ "link-out", "outside the image's folder", "--allow-path", ERR_INVALID },
		{ "dirlink/base.img", "outside the image's folder", "--allow-path", ERR_INVALID },
		{ "/etc/passwd", "outside the image's folder", "--allow-path /etc", ERR_INVALID },
		{ "/proc/self/environ", "outside the image's folder", "--allow-path", ERR_INVALID },
		{ "json:{\"file\":\"base.img\"}", "json:", "paths of local files", ERR_INVALID },
		{ "nbd://host/x", "protocol (nbd:)", "paths of local files", ERR_INVALID },
		{ "nbd:unix:/sock", "protocol", "paths of local files", ERR_INVALID },
		{ "file:base.img", "protocol", "qemu-img rebase", ERR_INVALID },
		{ "fifo", "not a regular file", "regular files", ERR_INVALID },
		{ "sub", "not a regular file", "regular files", ERR_INVALID },
		{ "missing.img", "No such file", "missing", ERR_NOTFOUND },
	};
	struct chain_opts o = { 0 };

	(void)state;
	make_raw("t/out/base.img", CS, 1);
	make_raw("t/d/base.img", CS, 1);
	assert_int_equal(symlink("../out/base.img", "t/d/link-out"), 0);
	assert_int_equal(symlink("../out", "t/d/dirlink"), 0);
	assert_int_equal(mkfifo("t/d/fifo", 0600), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		make("t/d/top.qcow2", CS, rows[i].name, "raw", 0, 0);
		refused("t/d/top.qcow2", &o, rows[i].code, rows[i].cause, rows[i].hint);
	}
}

static void test_chain__references_followed(void **state)
{
	char here[4096], path[5000];
	const char *allow[] = { "t/out", NULL };
	struct chain_opts o = { 0 };

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	snprintf(path, sizeof(path), "%s/t/d/base.img", here);
	make_raw("t/out/base.img", CS, 7);
	make_raw("t/d/base.img", CS, 8);
	make_raw("t/d/sub/base.img", CS, 6);
	assert_int_equal(symlink("../out/base.img", "t/d/link-out"), 0);
	assert_int_equal(symlink("sub/base.img", "t/d/link-in"), 0);
	{
		const struct { const char *name; uint8_t fill; bool allow;
		} rows[] = {
			{ "base.img", 8, false },	 { "./base.img", 8, false },
			{ "sub/base.img", 6, false },	 { path, 8, false },
			{ "sub/../base.img", 8, false }, { "link-in", 6, false },
			{ "../d/base.img", 8, false },	 { "../out/base.img", 7, true },
			{ "link-out", 7, true },	 { "base.img", 8, true },
		};

		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct chain *c;

			make("t/d/top.qcow2", CS, rows[i].name, "raw", 0, 0);
			o.allow_paths = rows[i].allow ? allow : NULL;
			c = opened("t/d/top.qcow2", &o);
			expect_byte(c->image, 0, 0, rows[i].fill);
			chain_close(c);
		}
	}
	allow[0] = "t/absent";
	make("t/d/top.qcow2", CS, "../out/base.img", "raw", 0, 0);
	o.allow_paths = allow;
	refused("t/d/top.qcow2", &o, ERR_NOTFOUND, "--allow-path t/absent", "");
}

/* The second layer's reference counts from its own folder, and its folder is what confines it. */
static void test_chain__folders_of_layers(void **state)
{
	const char *allow[] = { "t/out", NULL };
	struct chain_opts o = { .allow_paths = allow };
	struct chain *c;

	(void)state;
	make_raw("t/out/base.img", CS, 7);
	make_raw("t/d/base.img", CS, 8);
	make("t/out/mid.qcow2", CS, "base.img", "raw", 0, 0);
	make("t/d/top.qcow2", CS, "../out/mid.qcow2", "qcow2", 0, 0);
	c = opened("t/d/top.qcow2", &o);
	expect_byte(c->image, 0, 0, 7);
	chain_close(c);
	make("t/out/mid.qcow2", CS, "../d/base.img", "raw", 0, 0);
	refused("t/d/top.qcow2", &o, ERR_INVALID, "outside the image's folder", "--allow-path");
}

/* A layer that is a symbolic link: its own references count from the link's folder, as QEMU has it. */
static void test_chain__layer_is_a_link(void **state)
{
	const char *allow[] = { "t/out", NULL };
	struct chain_opts o = { .allow_paths = allow };
	struct chain *c;

	(void)state;
	make_raw("t/out/base.img", CS, 7);
	make_raw("t/d/base.img", CS, 8);
	make("t/out/mid.qcow2", CS, "base.img", "raw", 0, 0);
	assert_int_equal(symlink("../out/mid.qcow2", "t/d/mid.qcow2"), 0);
	make("t/d/top.qcow2", CS, "mid.qcow2", "qcow2", 0, 0);
	c = opened("t/d/top.qcow2", &o);
	expect_byte(c->image, 0, 0, 8);
	chain_close(c);
	/* a link elsewhere that leads back must not open its folder to what is behind it */
	o.allow_paths = NULL;
	make("t/d/own.qcow2", CS, "secret.img", "raw", 0, 0);
	make_raw("t/out/secret.img", CS, 9);
	assert_int_equal(symlink("../d/own.qcow2", "t/out/back.qcow2"), 0);
	make("t/d/top.qcow2", CS, "../out/back.qcow2", "qcow2", 0, 0);
	refused("t/d/top.qcow2", &o, ERR_INVALID, "out/back.qcow2 is outside", "--allow-path");
}

static void test_chain__formats(void **state)
{
	struct chain_opts o = { 0 };
	struct chain *c;

	(void)state;
	make("t/d/base.qcow2", 2 * CS, NULL, NULL, 0, 4);
	make("t/d/top.qcow2", 2 * CS, "base.qcow2", NULL, 0, 0);
	refused("t/d/top.qcow2", &o, ERR_INVALID, "doesn't say which format", "--backing-format qcow2");
	o.backing_formats = (const char *const[]){ "raw", "bas=raw", "base.qcow2=qcow2", "ase.qcow2=raw", NULL };
	c = opened("t/d/top.qcow2", &o);
	expect_byte(c->image, 0, 0, 4);
	chain_close(c);
	o.backing_formats = (const char *const[]){ "raw", NULL };
	c = opened("t/d/top.qcow2", &o);	/* obeyed, but not in silence */
	expect_byte(c->image, 0, 0, 'Q');
	assert_has(c->layers[1]->info.note, "begins as an image of another format");
	chain_close(c);
	o.backing_formats = (const char *const[]){ "other=raw", NULL };
	refused("t/d/top.qcow2", &o, ERR_INVALID, "doesn't say which format", "--backing-format");
	o.backing_formats = (const char *const[]){ "qcow2", NULL };
	c = opened("t/d/top.qcow2", &o);
	expect_byte(c->image, 0, 0, 4);
	chain_close(c);
	make("t/d/top.qcow2", 2 * CS, "base.qcow2", "raw", 0, 0);	/* stored: obeyed, not probed, not overruled */
	c = opened("t/d/top.qcow2", &o);
	expect_byte(c->image, 0, 0, 'Q');
	chain_close(c);
	make("t/d/top.qcow2", 2 * CS, "base.qcow2", "qed", 0, 0);
	refused("t/d/top.qcow2", &o, ERR_UNSUPPORTED, "\"qed\" is not supported", "");
	o.format = "qed";
	refused("t/d/top.qcow2", &o, ERR_INVALID, "\"qed\" is unknown", "");
	/* a given raw is obeyed: no reference is even looked at */
	o.format = "raw";
	make("t/d/top.qcow2", 2 * CS, "/etc/passwd", "raw", 0, 0);
	c = opened("t/d/top.qcow2", &o);
	assert_int_equal(c->nlayers, 1);
	expect_byte(c->image, 0, 0, 'Q');
	chain_close(c);
}

static void test_chain__loops_and_depth(void **state)
{
	struct chain_opts o = { 0 };
	struct chain *c;
	char name[32], below[32];

	(void)state;
	make("t/d/self.qcow2", CS, "self.qcow2", "qcow2", 0, 0);
	refused("t/d/self.qcow2", &o, ERR_INVALID, "loop", "");
	make("t/d/a.qcow2", CS, "b.qcow2", "qcow2", 0, 0);
	make("t/d/b.qcow2", CS, "c.qcow2", "qcow2", 0, 0);
	make("t/d/c.qcow2", CS, "a.qcow2", "qcow2", 0, 0);
	refused("t/d/a.qcow2", &o, ERR_INVALID, "loop", "");
	assert_int_equal(link("t/d/a.qcow2", "t/d/hard.qcow2"), 0);	/* the same file by another name */
	make("t/d/c.qcow2", CS, "hard.qcow2", "qcow2", 0, 0);
	refused("t/d/a.qcow2", &o, ERR_INVALID, "loop", "");
	make("t/d/0.qcow2", CS, NULL, NULL, 0, 2);
	for (int i = 1; i <= 200; i++) {
		snprintf(name, sizeof(name), "t/d/%d.qcow2", i);
		snprintf(below, sizeof(below), "%d.qcow2", i - 1);
		make(name, CS, below, "qcow2", 0, 0);
	}
	c = opened("t/d/199.qcow2", &o);
	assert_int_equal(c->nlayers, 200);
	expect_byte(c->image, 0, 0, 2);
	chain_close(c);
	refused("t/d/200.qcow2", &o, ERR_UNSUPPORTED, "more than 200 layers", "");
}

static void test_chain__data_file(void **state)
{
	const char *allow[] = { "t/out", NULL };
	struct chain_opts o = { 0 };
	struct chain *c;
	struct qimage q;

	(void)state;
	make_raw("t/d/data.bin", 2 * CS, 7);
	make_raw("t/out/data.bin", 2 * CS, 6);
	for (int i = 0; i < 4; i++) {
		static const char *const names[] = { "data.bin", "../out/data.bin", "json:{}", "top.qcow2" };

		qimage_init(&q, 3, 16, 2 * CS, false, 0);
		qimage_be64(&q, 72, 4);
		qimage_extension(&q, QIMAGE_EXT_DATA_FILE, names[i], strlen(names[i]));
		qimage_set(&q, 0, QIMAGE_COPIED);
		qimage_save(&q, "t/d/top.qcow2");
		qimage_done(&q);
		o.allow_paths = NULL;
		if (i == 1) {
			refused("t/d/top.qcow2", &o, ERR_INVALID, "data file", "--allow-path");
			o.allow_paths = allow;
		} else if (i > 1) {
			refused("t/d/top.qcow2", &o, ERR_INVALID, "data file", "");
			continue;
		}
		c = opened("t/d/top.qcow2", &o);
		expect_byte(c->image, 0, 0, i ? 6 : 7);
		chain_close(c);
	}
}

static void test_chain__top_must_be_a_file(void **state)
{
	struct chain_opts o = { .format = "raw" };

	(void)state;
	assert_int_equal(mkfifo("t/d/fifo", 0600), 0);
	refused("t/d/fifo", &o, ERR_INVALID, "a FIFO", "");
	refused("t/d", &o, ERR_INVALID, "a folder", "");
	refused("/dev/zero", &o, ERR_INVALID, "special file", "");
	refused("t/d/absent", &o, ERR_NOTFOUND, "t/d/absent", "");
}

/* Takes a shared lock on the byte as QEMU does; returns the descriptor. */
static int hold(const char *path, off_t byte)
{
	struct flock f = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &f), 0);
	return fd;
}

static bool writer_could_come(const char *path, off_t byte)
{
	struct flock f = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int fd = open(path, O_RDONLY);

	assert_int_equal(fcntl(fd, F_OFD_GETLK, &f), 0);
	close(fd);
	return f.l_type == F_UNLCK;
}

static void test_chain__locks(void **state)
{
	struct chain_opts o = { 0 };
	struct chain *c;
	int fd;

	(void)state;
	make("t/d/base.qcow2", CS, NULL, NULL, 0, 4);
	make("t/d/top.qcow2", CS, "base.qcow2", "qcow2", 0, 0);
	for (off_t byte = 101; byte <= 103; byte += 2) {
		fd = hold("t/d/top.qcow2", byte);
		refused("t/d/top.qcow2", &o, ERR_LOCKED, "in use", "virsh snapshot-create-as");
		o.ignore_locks = true;
		chain_close(opened("t/d/top.qcow2", &o));
		o.ignore_locks = false;
		close(fd);
	}
	fd = hold("t/d/base.qcow2", 101);
	refused("t/d/top.qcow2", &o, ERR_LOCKED, "base.qcow2", "layer below");
	close(fd);
	fd = hold("t/d/base.qcow2", 100);	/* a running machine reads its lower layers: fine */
	c = opened("t/d/base.qcow2", &o);
	close(fd);
	assert_false(writer_could_come("t/d/base.qcow2", 201));
	assert_false(writer_could_come("t/d/base.qcow2", 203));
	assert_true(writer_could_come("t/d/base.qcow2", 101));
	chain_close(c);
	assert_true(writer_could_come("t/d/base.qcow2", 201));
}

/* A fragmented base under an empty overlay: the map of both must agree byte for byte with what is read. */
static void test_chain__map_and_bytes_agree(void **state)
{
	struct chain_opts o = { 0 };
	struct err e = ERR_INIT;
	struct chain *c;
	struct qimage q;
	uint8_t *all = malloc(64 * 4096), *part = malloc(64 * 4096);
	struct extent x;

	(void)state;
	assert_true(all && part);
	qimage_init(&q, 3, 12, 64 * 4096, false, 0);
	for (unsigned i = 0; i < 64; i += 2)
		(void)qimage_data(&q, (uint64_t)((i * 5) % 64) * 4096, (uint8_t)(i + 1));
	qimage_save(&q, "t/d/base.qcow2");
	qimage_done(&q);
	qimage_init(&q, 3, 9, 64 * 4096, false, 0);
	qimage_backing(&q, "base.qcow2", "qcow2");
	(void)qimage_data(&q, 5 * 512, 0xaa);
	qimage_set(&q, 9 * 512, 1);
	qimage_compressed(&q, 100 * 512, 3, false);
	qimage_save(&q, "t/d/top.qcow2");
	qimage_done(&q);
	c = opened("t/d/top.qcow2", &o);
	assert_ok(image_pread(c->image, 0, all, 64 * 4096, 0, &e), &e);
	memset(part, 0, 64 * 4096);
	for (uint64_t off = 0; off < 64 * 4096; off += x.len) {
		uint64_t limit = off % 3 ? 777 : UINT64_MAX;

		assert_ok(image_next_extent(c->image, 0, off, limit, &x, &e), &e);
		assert_true(x.kind != EXTENT_HOLE);
		if (x.kind == EXTENT_DATA)
			assert_ok(image_pread(c->layers[x.origin.layer], 0, part + off, (size_t)x.len, off, &e), &e);
	}
	assert_memory_equal(all, part, 64 * 4096);
	image_advise(c->image, 0, 0, 64 * 4096, true);
	image_advise(c->image, 0, 0, 64 * 4096, false);
	chain_close(c);
	free(all);
	free(part);
}

/* ---- threads ---- */

struct reader {
	struct image *im;
	uint32_t state;
	uint64_t sum;
};

static void *read_all(void *opaque)
{
	struct reader *r = opaque;
	uint64_t size = image_state(r->im, r->state)->size;
	uint8_t buf[5000];
	struct err e = ERR_INIT;
	struct extent x;

	for (uint64_t off = 0; off < size; off += sizeof(buf)) {
		size_t n = (size_t)min_u64(sizeof(buf), size - off);

		if (image_next_extent(r->im, r->state, off, n, &x, &e) < 0 || image_pread(r->im, r->state, buf, n, off, &e) < 0)
			return NULL;
		for (size_t i = 0; i < n; i++)
			r->sum += buf[i] * (off + i + 1);
	}
	return NULL;
}

/* A chain's map remembers what its layers said last: for many readers at once, and two states. */
static void test_chain__threads(void **state)
{
	struct chain_opts o = { 0 };
	struct reader r[6];
	pthread_t t[6];
	struct qimage q;
	struct chain *c;

	(void)state;
	for (int layer = 0; layer < 3; layer++) {
		char name[32], below[32];

		snprintf(name, sizeof(name), "t/d/%d.qcow2", layer);
		snprintf(below, sizeof(below), "%d.qcow2", layer - 1);
		qimage_init(&q, 3, 12, 3 * MIB, false, 0);
		if (layer)
			qimage_backing(&q, below, "qcow2");
		for (unsigned i = (unsigned)layer; i < 700; i += 3 + (unsigned)layer)
			(void)qimage_data(&q, i * 4096, (uint8_t)(i + (unsigned)layer));
		if (layer == 2) {
			qimage_snapshot(&q, "1", "s", 2 * MIB, 0, 16);
			(void)qimage_data(&q, 4096, 0xaa);
		}
		qimage_save(&q, name);
		qimage_done(&q);
	}
	c = opened("t/d/2.qcow2", &o);
	for (uint32_t i = 0; i < 6; i++) {
		r[i] = (struct reader){ .im = c->image, .state = i % 2 };
		assert_int_equal(pthread_create(&t[i], NULL, read_all, &r[i]), 0);
	}
	for (uint32_t i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	for (uint32_t i = 0; i < 6; i++)
		assert_true(r[i].sum && r[i].sum == r[i % 2].sum);
	assert_true(r[0].sum != r[1].sum);
	chain_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_chain__stacks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__larger_below, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__zeros_mask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__snapshots_over_lower_layers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__no_backing_keeps_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__references_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__references_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__folders_of_layers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__layer_is_a_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__formats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__loops_and_depth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__data_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__top_must_be_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__locks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__map_and_bytes_agree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain__threads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
