/* VMDK descriptors and the extents that they name: what is taken, what is refused, parents, ids, encodings. */
#include "tests/test.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "formats/vmdk/vmdk.h"
#include "formats/vmdk/vmdk_internal.h"
#include "tests/support/kimage.h"

static int parse(const char *type, const char *lines, struct vmdk_descriptor *d, struct err *e)
{
	CLEANUP(free_ptr) char *text = kdescriptor(type, lines);

	return vmdk_descriptor_parse(text, strlen(text), d, e);
}

static void test_parse__all_of_it(void **state)
{
	static const char text[] = "\r\n# Disk DescriptorFile \r\nVERSION = 1 \r\nencoding=\"UTF-8\"\r\ncid=ABCDEF01\r\n"
				   "parentCID=0xdeadbeef\r\nisNativeSnapshot=\"no\"\r\ncreatetype=\"CUSTOM\"\r\n"
				   "parentFileNameHint=\"base one.vmdk\"\r\n\r\n  RW\t5 FLAT \"a b.vmdk\" 7\r\n"
				   "rdonly 6 VMFS \"c.vmdk\" 0 \"devid\"\r\nRW 1 ZERO\r\nNOACCESS 2 SPARSE \"d\"\r\n"
				   "#RW 9 ZERO\r\nunknownKey=1\r\nchangeTrackPath=\"x-ctk.vmdk\"\r\n"
				   "ddb.adapterType = \"lsilogic\"\r\nddb.uuid = \"60 00\"\r\nRW 3 SESPARSE \"e\"";
	struct vmdk_descriptor d;
	struct err e = ERR_INIT;

	(void)state;
	assert_true(vmdk_descriptor_looks(text, sizeof(text)));
	assert_ok(vmdk_descriptor_parse(text, sizeof(text) - 1, &d, &e), &e);
	assert_int_equal(d.cid, 0xabcdef01);
	assert_int_equal(d.parent_cid, 0xdeadbeef);
	assert_string_equal(d.hint, "base one.vmdk");
	assert_string_equal(d.adapter, "lsilogic");
	assert_int_equal(d.lines.n, 5);
	assert_int_equal(d.sectors, 17);
	assert_string_equal(d.lines.p[0].name, "a b.vmdk");
	assert_int_equal(d.lines.p[0].offset, 7);
	assert_int_equal(d.lines.p[1].access, VMDK_RDONLY);
	assert_int_equal(d.lines.p[1].kind, VMDK_FLAT);
	assert_int_equal(d.lines.p[2].kind, VMDK_ZERO);
	assert_null(d.lines.p[2].name);
	assert_int_equal(d.lines.p[3].access, VMDK_NOACCESS);
	assert_int_equal(d.lines.p[4].kind, VMDK_SESPARSE);
	vmdk_descriptor_done(&d);
	/* what is behind a NUL doesn't count */
	assert_ok(vmdk_descriptor_parse("# Disk DescriptorFile\nversion=1\ncreateType=\"custom\"\nRW 1 ZERO\n\0RW 2 ZERO\n",
					71, &d, &e), &e);
	assert_int_equal(d.lines.n, 1);
	vmdk_descriptor_done(&d);
}

static void test_parse__refused(void **state)
{
	static const struct { const char *type, *lines; int code; const char *words; } rows[] = {
		{ "custom", "", ERR_CORRUPT, "names no extents" },
		/* one that is left out moves the others */
		{ "custom", "RW 2048 FLAT \"a\" 0\nRO 2048 FLAT \"b\" 0\nRW 2048 FLAT \"c\" 0", ERR_UNSUPPORTED, "\"RO 2048" },
		{ "custom", "RW 1 ZERO\nSW 2048 FLAT \"b=c\" 0", ERR_UNSUPPORTED, "neither an extent nor" },
		{ "custom", "RW 1 ZERO\nwords", ERR_UNSUPPORTED, "\"words\"" },
		{ "custom", "RW 1 ZERO\n=1", ERR_UNSUPPORTED, "neither an extent nor" },
		{ "custom", "RW 1 ZERO RW 1 ZERO", ERR_CORRUPT, "not understood" },
		{ "custom", "RW 1 FLAT \"a\" 0 RW 1 FLAT \"b\" 0", ERR_CORRUPT, "not understood" },
		{ "custom", "RW 1 SPARSE \"a\" RW 1 SPARSE \"b\"", ERR_CORRUPT, "not understood" },
		{ "custom", "RW x ZERO", ERR_CORRUPT, "not a number of sectors" },
		{ "custom", "RW -1 ZERO", ERR_CORRUPT, "not a number of sectors" },
		{ "custom", "RW 18446744073709551617 ZERO", ERR_CORRUPT, "not a number of sectors" },
		{ "custom", "RW 0 ZERO", ERR_CORRUPT, "no sectors" },
		{ "custom", "RW 9007199254740992 ZERO\nRW 1 ZERO", ERR_CORRUPT, "larger than" },
		{ "custom", "RW 1", ERR_CORRUPT, "kind is missing" },
		{ "custom", "RW 1 FLAT", ERR_CORRUPT, "no file name" },
		{ "custom", "RW 1 FLAT a.vmdk 0", ERR_CORRUPT, "no file name" },
		{ "custom", "RW 1 FLAT \"a.vmdk", ERR_CORRUPT, "no file name" },
		{ "custom", "RW 1 FLAT \"a\" x", ERR_CORRUPT, "offset" },
		{ "custom", "RW 1 VMFSRDM \"a\"", ERR_UNSUPPORTED, "physical device" },
		{ "custom", "RW 1 VSANSPARSE \"a\"", ERR_UNSUPPORTED, "kind is not known" },
		{ "custom", "encryption.keySafe = \"vmware:key\"", ERR_UNSUPPORTED, "encrypted by VMware" },
		{ "vmfsRDM", "RW 1 VMFSRDM \"a\"", ERR_UNSUPPORTED, "physical device" },
		{ "brandNew", "RW 1 ZERO", ERR_UNSUPPORTED, "\"brandNew\" is not known" },
		{ "custom", "RW 1 ZERO\nCID=1", ERR_CORRUPT, "CID is there twice" },
		{ "custom", "RW 1 ZERO\ncreateType=\"vmfs\"", ERR_CORRUPT, "createType is there twice" },
		{ "custom", "RW 1 ZERO\nparentCID=xyz", ERR_CORRUPT, "not a hexadecimal" },
		{ "custom", "RW 1 ZERO\nparentFileNameHint=\"x\"", ERR_CORRUPT, "names a parent" },
		{ "custom", "RW 1 ZERO\nddb.adapterType=\"x", ERR_CORRUPT, "no closing quote" },
		{ "custom", "RW 1 FLAT \"gr\xfcn\"\nencoding=\"ISO-2022-CN-EXT\"", ERR_UNSUPPORTED, "encoding" },
		{ "custom", "RW 1 FLAT \"\x81\"\nencoding=\"windows-1252\"", ERR_CORRUPT, "isn't valid" },
	};
	struct vmdk_descriptor d;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int r = parse(rows[i].type, rows[i].lines, &d, &e);

		if (r != rows[i].code || !strstr(e.cause, rows[i].words))
			fail_msg("%s: %d, \"%s\"", rows[i].lines, r, e.cause);
	}
	assert_err(vmdk_descriptor_parse("RW 1 ZERO\n", 10, &d, &e), ERR_CORRUPT, &e);
	assert_false(vmdk_descriptor_looks("version=1\n", 10));
	assert_false(vmdk_descriptor_looks("", 0));
}

static void test_parse__too_many(void **state)
{
	CLEANUP(free_ptr) char *lines = malloc(4097 * 12 + 1);
	struct vmdk_descriptor d;
	struct err e = ERR_INIT;

	(void)state;
	assert_non_null(lines);
	for (size_t i = 0; i < 4097; i++)
		memcpy(lines + 12 * i, "RW 1 ZERO   \n", 12), lines[12 * i + 11] = '\n';
	lines[4096 * 12] = '\0';
	assert_ok(parse("custom", lines, &d, &e), &e);
	assert_int_equal(d.lines.n, 4096);
	vmdk_descriptor_done(&d);
	lines[4096 * 12] = 'R';
	lines[4097 * 12] = '\0';
	assert_int_equal(parse("custom", lines, &d, &e), ERR_UNSUPPORTED);
}

static void test_encodings(void **state)
{
	static const struct { const char *encoding, *stored, *name; } rows[] = {
		{ NULL, "a\xff", "a\xff" },
		{ "UTF-8", "gr\xc3\xbcn", "gr\xc3\xbcn" },
		{ "windows-1252", "gr\xfcn\x80", "gr\xc3\xbcn\xe2\x82\xac" },
		{ "GBK", "\xc4\xe3", "\xe4\xbd\xa0" },
		{ "Shift_JIS", "\x82\xa0", "\xe3\x81\x82" },
		{ "Big5", "\xa7\x41", "\xe4\xbd\xa0" },
		{ "nobody-knows", "plain", "plain" },
	};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CLEANUP(free_ptr) char *name = NULL;

		assert_ok(vmdk_to_utf8(rows[i].encoding, rows[i].stored, strlen(rows[i].stored), &name, &e), &e);
		assert_string_equal(name, rows[i].name);
	}
}

/* ---- extents ---- */

static void expect_bytes(struct image *im, uint64_t off, size_t len, uint8_t fill)
{
	uint8_t *buf = malloc(len);
	struct err e = ERR_INIT;

	assert_non_null(buf);
	assert_ok(image_pread(im, 0, buf, len, off, &e), &e);
	for (size_t i = 0; i < len; i++)
		if (buf[i] != fill)
			fail_msg("byte at %" PRIu64 ": %u, wanted %u", off + i, buf[i], fill);
	free(buf);
}

static int open_lines(const char *type, const char *lines, struct kfiles *files, bool force, struct image **ret,
		      struct err *e)
{
	CLEANUP(free_ptr) char *text = kdescriptor(type, lines);

	return kdescriptor_open(text, files, force, ret, e);
}

/* Every kind in one descriptor, each in its place. */
static void test_extents__mixed(void **state)
{
	struct kimage flat, sparse, cowd;
	struct kfiles files = { 0 };
	struct err e = ERR_INIT;
	struct image *im;
	struct extent x;

	(void)state;
	kimage_init(&flat, 6);
	for (uint8_t i = 0; i < 6; i++)
		kimage_fill(&flat, i, (uint8_t)(100 + i), KSECTOR);
	kimage_sparse(&sparse, 1 | 1 << 5, "");
	kimage_cowd(&cowd);
	kfiles_add(&files, "gr\xc3\xbcn-flat.vmdk", &flat);
	kfiles_add(&files, "s.vmdk", &sparse);
	kfiles_add(&files, "c.vmdk", &cowd);
	assert_ok(open_lines("custom", "encoding=\"windows-1252\"\nRW 2 FLAT \"gr\xfcn-flat.vmdk\" 3\nRW 4 ZERO\n"
			     "RDONLY 24 SPARSE \"s.vmdk\"\nNOACCESS 3 FLAT \"secret\" 0\n"
			     "RW 1 VMFS \"gr\xfcn-flat.vmdk\"\nRW 4196 VMFSSPARSE \"c.vmdk\"", &files, false, &im, &e), &e);
	assert_int_equal(im->info.virtual_size, (2 + 4 + 24 + 3 + 1 + 4196) * KSECTOR);
	assert_int_equal(im->parts.n, 3);	/* one file twice is one; what is not accessible is not opened */
	assert_has(im->info.note, "NOACCESS");
	expect_bytes(im, 0, 512, 103);
	expect_bytes(im, 512, 512, 104);
	expect_bytes(im, 1024, 2048, 0);
	expect_bytes(im, 6 * KSECTOR, 1024, 1);
	expect_bytes(im, 6 * KSECTOR + 5 * 1024, 1024, 6);
	expect_bytes(im, 30 * KSECTOR, 3 * 512, 0);
	expect_bytes(im, 33 * KSECTOR, 512, 100);
	expect_bytes(im, 34 * KSECTOR + 512, 512, 2);
	assert_ok(image_next_extent(im, 0, 0, UINT64_MAX, &x, &e), &e);
	assert_true(x.kind == EXTENT_DATA && x.origin.file == 1 && x.origin.host == 3 * KSECTOR && x.len == 1024);
	assert_ok(image_next_extent(im, 0, 6 * KSECTOR, UINT64_MAX, &x, &e), &e);
	assert_true(x.kind == EXTENT_DATA && x.origin.file == 2 && x.len == 1024);
	assert_ok(image_next_extent(im, 0, 30 * KSECTOR, UINT64_MAX, &x, &e), &e);
	assert_true(x.kind == EXTENT_ZERO && x.len == 3 * 512);
	image_close(im);
	kfiles_done(&files);
	kimage_done(&flat);
	kimage_done(&sparse);
	kimage_done(&cowd);
}

static void test_extents__refused(void **state)
{
	struct kimage flat, sparse;
	struct kfiles files = { 0 };
	struct err e = ERR_INIT;
	struct image *im;

	(void)state;
	kimage_init(&flat, 6);
	kimage_fill(&flat, 5, 7, KSECTOR);
	kimage_sparse(&sparse, 1, "");
	kfiles_add(&files, "f", &flat);
	kfiles_add(&files, "s", &sparse);
	assert_err(open_lines("custom", "RW 1 FLAT \"nowhere\" 0", &files, false, &im, &e), ERR_NOTFOUND, &e);
	assert_err(open_lines("custom", "RW 1 FLAT \"\" 0", &files, false, &im, &e), ERR_CORRUPT, &e);
	assert_int_equal(open_lines("custom", "RW 24 SPARSE \"s\"\nRW 24 SPARSE \"s\"", &files, false, &im, &e), ERR_CORRUPT);
	assert_has(e.cause, "the same sparse file");
	assert_err(open_lines("custom", "RW 24 SPARSE \"s\"\nRW 1 FLAT \"s\" 0", &files, false, &im, &e), ERR_CORRUPT, &e);
	assert_err(open_lines("custom", "RW 1 FLAT \"s\" 0\nRW 24 SPARSE \"s\"", &files, false, &im, &e), ERR_CORRUPT, &e);
	assert_int_equal(open_lines("custom", "RW 25 SPARSE \"s\"", &files, false, &im, &e), ERR_CORRUPT);
	assert_has(e.cause, "gives it 25 sectors, its own header 24");
	assert_err(open_lines("custom", "RW 6 SPARSE \"f\"", &files, false, &im, &e), ERR_CORRUPT, &e);
	assert_err(open_lines("custom", "RW 6 SESPARSE \"f\"", &files, false, &im, &e), ERR_CORRUPT, &e);
	/* a flat file that is too short; force reads zeros there */
	assert_int_equal(open_lines("custom", "RW 2 FLAT \"f\" 5", &files, false, &im, &e), ERR_CORRUPT);
	assert_has(e.cause, "too short");
	assert_ok(open_lines("custom", "RW 2 FLAT \"f\" 5", &files, true, &im, &e), &e);
	expect_bytes(im, 0, 512, 7);
	expect_bytes(im, 512, 512, 0);
	image_close(im);
	/* without its other files an image can be looked at, not read */
	assert_ok(open_lines("custom", "RW 6 FLAT \"f\" 0\nRW 24 SPARSE \"s\"", NULL, false, &im, &e), &e);
	assert_int_equal(im->info.virtual_size, 30 * KSECTOR);
	assert_int_equal(image_pread(im, 0, &(uint8_t){ 0 }, 1, 0, &e), ERR_INVALID);
	image_close(im);
	kfiles_done(&files);
	kimage_done(&flat);
	kimage_done(&sparse);
}

/* Each extent is damaged: one is told of, and how many more there are. */
static void test_extents__notes(void **state)
{
	struct kimage s[3];
	struct kfiles files = { 0 };
	struct err e = ERR_INIT;
	struct image *im;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		kimage_sparse(&s[i], 1, "");
		kimage_le32(&s[i], 3 * KSECTOR + 4, 99999);
		kfiles_add(&files, (const char *[]){ "a", "b", "c" }[i], &s[i]);
	}
	assert_ok(open_lines("custom", "RW 24 SPARSE \"a\"\nRW 24 SPARSE \"b\"\nRW 24 SPARSE \"c\"", &files, false, &im, &e), &e);
	assert_has(im->info.note, "extent a: the redundant grain directory is damaged");
	assert_has(im->info.note, "; there are notes of 2 more extents");
	assert_null(strstr(im->info.note, "extent b"));
	image_close(im);
	kfiles_done(&files);
	for (size_t i = 0; i < 3; i++)
		kimage_done(&s[i]);
}

/* ---- parents and ids ---- */

#define PARENT "parentCID=deadbeef\nRW 1 ZERO\nparentFileNameHint="

static void test_parents__by_name(void **state)
{
	static const struct { const char *hint, *refs[3]; } rows[] = {
		{ "base.vmdk", { "base.vmdk" } },
		{ "../base.vmdk", { "../base.vmdk", "base.vmdk" } },
		{ "/vmfs/volumes/4f/base.vmdk", { "/vmfs/volumes/4f/base.vmdk", "base.vmdk" } },
		{ "C:\\vms\\base.vmdk", { "C:\\vms\\base.vmdk", "base.vmdk" } },
		{ "..\\vm\\base.vmdk", { "..\\vm\\base.vmdk", "../vm/base.vmdk", "base.vmdk" } },
	};
	struct err e = ERR_INIT;
	struct image *im;
	char lines[200];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = 0;

		snprintf(lines, sizeof(lines), PARENT "\"%s\"", rows[i].hint);
		assert_ok(open_lines("custom", lines, NULL, false, &im, &e), &e);
		assert_true(image_has_parent(im));
		assert_string_equal(im->parent.ids.content, "deadbeef");
		assert_string_equal(im->info.backing, rows[i].hint);
		assert_string_equal(im->info.backing_format, "vmdk");
		for (; n < 3 && rows[i].refs[n]; n++)
			if (n >= im->parent.refs.n || strcmp(im->parent.refs.p[n], rows[i].refs[n]) != 0)
				fail_msg("%s: place %zu is %s", rows[i].hint, n, n < im->parent.refs.n ? im->parent.refs.p[n] : "-");
		assert_int_equal(n, im->parent.refs.n);
		image_close(im);
	}
}

#define UUIDS "RW 1 ZERO\nddb.uuid.image=\"0D00D660-2611-439c-9471-5236e3733bc5\"\n" \
	      "ddb.uuid.modification=\"133882ab-2864-4609-971f-99bc49732f3b\"\n"

static void test_parents__by_uuid(void **state)
{
	CLEANUP(free_ptr) char *text = kdescriptor("custom", UUIDS);
	const struct kimage k = { (uint8_t *)text, strlen(text) };
	struct image_ids ids = { 0 };
	struct err e = ERR_INIT;
	struct image *im;
	int fd;

	(void)state;
	assert_ok(open_lines("custom", UUIDS "ddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"\n"
			     "ddb.uuid.parentmodification=\"21bc9620-13de-4425-a32a-f6c1ef630541\"", NULL, false, &im, &e), &e);
	assert_false(image_has_parent(im));
	assert_string_equal(im->info.ids.uuid, "0d00d660-2611-439c-9471-5236e3733bc5");
	image_close(im);
	assert_ok(open_lines("custom", UUIDS "ddb.uuid.parent=\"21bc9620-13de-4425-a32a-f6c1ef630541\"", NULL, false, &im,
			     &e), &e);
	assert_true(image_has_parent(im));
	assert_string_equal(im->parent.ids.uuid, "21bc9620-13de-4425-a32a-f6c1ef630541");
	assert_string_equal(im->parent.ids.content, "");
	assert_int_equal(im->parent.refs.n, 0);
	image_close(im);
	assert_ok(open_lines("custom", UUIDS "ddb.uuid.parent=\"{21BC9620-13de-4425-a32a-f6c1ef630541}\"", NULL, false, &im,
			     &e), &e);
	assert_string_equal(im->parent.ids.uuid, "21bc9620-13de-4425-a32a-f6c1ef630541");
	image_close(im);
	fd = kimage_fd(&k);
	assert_int_equal(vmdk_read_ids(&(struct file){ fd, 0, k.len }, &ids, &e), 1);
	assert_string_equal(ids.uuid, "0d00d660-2611-439c-9471-5236e3733bc5");
	assert_string_equal(ids.modify, "133882ab-2864-4609-971f-99bc49732f3b");
	assert_string_equal(ids.content, "12345678");
	close(fd);
}

/* A delta whose link is damaged must not become a whole disk. */
static void test_parents__damaged_link(void **state)
{
	static const struct { const char *lines, *words; } rows[] = {
		{ "ddb.uuid.parent=\"1bc9620-13de-4425-a32a-f6c1ef630541\"", "ddb.uuid.parent \"1bc9620-" },
		{ "ddb.uuid.parent=\"21bc9620-13de-4425-a32a-f6c1ef63054g\"", "is no UUID" },
		{ "ddb.uuid.parent=\"21bc9620013de-4425-a32a-f6c1ef630541\"", "is no UUID" },
		{ "ddb.uuid.parent=none", "is no UUID" },
		{ "ddb.uuid.parentmodification=\"x\"", "ddb.uuid.parentmodification" },
		{ "parentCID=deadbeef", "parentCID=deadbeef) and doesn't name it" },
		{ "parentCID=deadbeef\nparentFileNameHint=\"\"", "doesn't name it" },
		{ "parentCID=fffffffe", "parentCID=fffffffe) and doesn't name it" },
		{ "parentCID=fffffffe\nddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"", "doesn't name it" },
		{ "parentFileNameHint=\"a\"", "has none" },
	};
	struct image *im;
	char lines[200];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = ERR_INIT;

		snprintf(lines, sizeof(lines), "RW 1 ZERO\n%s", rows[i].lines);
		if (open_lines("custom", lines, NULL, true, &im, &e) != ERR_CORRUPT)
			fail_msg("%s is taken", rows[i].lines);
		assert_has(e.cause, rows[i].words);
	}
}

/* fffffffe is what many images have: nothing is found or proven by it. */
static void test_parents__no_content_id(void **state)
{
	struct err e = ERR_INIT;
	struct image *im;

	(void)state;
	assert_ok(open_lines("custom", "parentCID=fffffffe\nRW 1 ZERO\nparentFileNameHint=\"/vmfs/base.vmdk\"", NULL,
			     false, &im, &e), &e);
	assert_true(image_has_parent(im));
	assert_string_equal(im->parent.ids.content, "");
	assert_int_equal(im->parent.refs.n, 1);
	assert_string_equal(im->parent.refs.p[0], "/vmfs/base.vmdk");
	assert_has(im->info.note, "by its name alone");
	image_close(im);
}

static void test_ids__embedded(void **state)
{
	struct image_ids ids = { 0 };
	struct err e = ERR_INIT;
	struct kimage k;
	int fd;

	(void)state;
	kimage_sparse(&k, 0, "ddb.uuid.image=\"0d00d660-2611-439c-9471-5236e3733bc5\"");
	fd = kimage_fd(&k);
	assert_int_equal(vmdk_read_ids(&(struct file){ fd, 0, k.len }, &ids, &e), 1);
	assert_string_equal(ids.uuid, "0d00d660-2611-439c-9471-5236e3733bc5");
	close(fd);
	kimage_le64(&k, 36, UINT64_MAX / 256);
	fd = kimage_fd(&k);
	assert_int_equal(vmdk_read_ids(&(struct file){ fd, 0, k.len }, &ids, &e), 0);
	close(fd);
	kimage_done(&k);
	kimage_cowd(&k);
	fd = kimage_fd(&k);
	assert_int_equal(vmdk_read_ids(&(struct file){ fd, 0, k.len }, &ids, &e), 0);
	close(fd);
	kimage_done(&k);
}

/* An embedded descriptor speaks of its own file alone. */
static void test_embedded__other_extents(void **state)
{
	struct err e = ERR_INIT;
	struct image *im;
	struct kimage k;

	(void)state;
	kimage_sparse(&k, 0, "RW 1 FLAT \"/etc/passwd\" 0");
	assert_int_equal(kimage_open(&k, NULL, false, &im, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "names other extents");
	kimage_done(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse__all_of_it),
		cmocka_unit_test(test_parse__refused),
		cmocka_unit_test(test_parse__too_many),
		cmocka_unit_test(test_encodings),
		cmocka_unit_test(test_extents__mixed),
		cmocka_unit_test(test_extents__refused),
		cmocka_unit_test(test_extents__notes),
		cmocka_unit_test(test_parents__by_name),
		cmocka_unit_test(test_parents__by_uuid),
		cmocka_unit_test(test_parents__damaged_link),
		cmocka_unit_test(test_parents__no_content_id),
		cmocka_unit_test(test_ids__embedded),
		cmocka_unit_test(test_embedded__other_extents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
