/* test_ovf.c - appliances: what is found in a descriptor, what is refused, and their manifests. */
#include "tests/test.h"

#include <inttypes.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"
#include "tests/support/folder.h"

#define ENVELOPE(files, disks, items) "<?xml version='1.0'?><ovf:Envelope ovf:version='1.0' xmlns:ovf='http://schemas.dmtf.org/ovf/envelope/1' " \
	"xmlns:rasd='r'><ovf:References>" files "</ovf:References><ovf:DiskSection>" disks "</ovf:DiskSection>" \
	"<ovf:VirtualSystem ovf:id='id'><ovf:Name> web </ovf:Name><ovf:VirtualHardwareSection>" items \
	"</ovf:VirtualHardwareSection></ovf:VirtualSystem></ovf:Envelope>"
#define CONTROLLER(id, type) "<ovf:Item><rasd:InstanceID>" id "</rasd:InstanceID><rasd:ResourceType>" type "</rasd:ResourceType></ovf:Item>"
#define DRIVE(parent, unit, resource) "<ovf:Item><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>" parent "</rasd:Parent>" \
	"<rasd:AddressOnParent>" unit "</rasd:AddressOnParent><rasd:HostResource>" resource "</rasd:HostResource></ovf:Item>"
#define FILE_(id, rest) "<ovf:File ovf:id='" id "' " rest "/>"
#define DISK(id, rest) "<ovf:Disk ovf:diskId='" id "' " rest "/>"

static struct machine *parse(const char *text)
{
	struct err e = ERR_INIT;
	struct machine *m = machine_new(MACHINE_OVF, "x.ovf", &e);

	assert_non_null(m);
	if (ovf_parse(text, strlen(text), m, &e) < 0)
		fail_msg("%s: %s", e.ctx, e.cause);
	return m;
}

static void test_ovf__disks(void **state)
{
	struct machine *m = parse(ENVELOPE(
		FILE_("f1", "ovf:href='a.vmdk'") FILE_("f2", "ovf:href='b.gz' ovf:compression='gzip'") FILE_("f3", "ovf:href='../x.nvram'")
		FILE_("f4", "ovf:href='cd.iso'"),
		DISK("d1", "ovf:fileRef='f1' ovf:capacity='20' ovf:capacityAllocationUnits='byte * 2^30' ovf:format='http://x/vmdk.html#sparse'")
		DISK("d2", "ovf:fileRef='f2' ovf:capacity='9438720'"),
		CONTROLLER("1", "6") CONTROLLER("2", "20") CONTROLLER("3", "6")
		DRIVE("3", "4", "ovf:/disk/d2") DRIVE("2", "0", "/disk/d1") DRIVE("9", "0", "ovf:/file/f1")));

	(void)state;
	assert_string_equal(m->name, "web");
	assert_string_equal(m->version, "1.0");
	assert_int_equal(m->disks.n, 3);
	assert_string_equal(m->disks.p[0].name, "scsi-1-4");
	assert_string_equal(m->disks.p[0].image.path, "b.gz");
	assert_true(m->disks.p[0].gzip && m->disks.p[0].capacity == 9438720);
	assert_null(m->disks.p[0].format);
	assert_string_equal(m->disks.p[1].name, "sata-0-0");
	assert_string_equal(m->disks.p[1].format, "vmdk");
	assert_true(!m->disks.p[1].gzip && m->disks.p[1].capacity == 20 * GIB);
	assert_string_equal(m->disks.p[2].name, "disk-2");
	assert_string_equal(m->disks.p[2].image.path, "a.vmdk");
	assert_int_equal(m->files.n, 4);	/* it, nvram, manifest, certificate */
	assert_string_equal(m->files.p[1].path, "../x.nvram");
	assert_string_equal(m->files.p[2].path, "x.mf");
	assert_int_equal(m->notes.n, 1);
	assert_has(m->notes.p[0], "cd.iso");
	machine_free(m);
}

static void test_ovf__units(void **state)
{
	static const struct { const char *units; uint64_t bytes; } rows[] = {
		{ "byte", 3 }, { "byte * 2^20", 3 * MIB }, { "byte*2^10", 3 * KIB }, { "byte * 10^9", UINT64_C(3000000000) },
		{ "MegaBytes", 3 * MIB }, { "byte * 2^64", 0 }, { "byte * 99999999^9", 0 }, { "furlong * 2^20", 0 }, { "byte * 2^", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char text[2000];
		struct machine *m;

		(void)snprintf(text, sizeof(text), ENVELOPE(FILE_("f", "ovf:href='a'"),
			       DISK("d", "ovf:fileRef='f' ovf:capacity='3' ovf:capacityAllocationUnits='%s'"), DRIVE("", "0", "ovf:/disk/d")),
			       rows[i].units);
		m = parse(text);
		if (m->disks.p[0].capacity != rows[i].bytes)
			fail_msg("%s: %" PRIu64, rows[i].units, m->disks.p[0].capacity);
		machine_free(m);
	}
}

static void test_ovf__what_cannot_be_read_is_refused(void **state)
{
	static const struct { const char *text, *why; } disks[] = {
		{ ENVELOPE("", DISK("d", "ovf:capacity='1'"), DRIVE("", "0", "ovf:/disk/d")), "empty" },
		{ ENVELOPE("", DISK("d", "ovf:fileRef='f'"), DRIVE("", "0", "ovf:/disk/d")), "no file" },
		{ ENVELOPE("", "", DRIVE("", "0", "ovf:/disk/d")), "not described" },
		{ ENVELOPE("", "", DRIVE("", "0", "")), "not described" },
		{ ENVELOPE(FILE_("f", "ovf:href='a' ovf:chunkSize='100'"), DISK("d", "ovf:fileRef='f'"), DRIVE("", "0", "ovf:/disk/d")), "pieces" },
		{ ENVELOPE(FILE_("f", "ovf:href='a' ovf:compression='lzma'"), DISK("d", "ovf:fileRef='f'"), DRIVE("", "0", "ovf:/disk/d")), "compressed" },
		{ ENVELOPE(FILE_("f", "ovf:href='a'"), DISK("d", "ovf:fileRef='f' ovf:parentRef='e'"), DRIVE("", "0", "ovf:/disk/d")), "based on" },
	};
	static const struct { const char *text; int code; const char *why; } whole[] = {
		{ "<Envelope/>", ERR_CORRUPT, "no VirtualSystem" },
		{ "<Envelope><VirtualSystem/><VirtualSystem/></Envelope>", ERR_UNSUPPORTED, "several machines" },
		{ "<Envelope><VirtualSystem/>", ERR_CORRUPT, "" },
		{ "<!DOCTYPE Envelope [<!ENTITY a 'b'>]><Envelope><VirtualSystem/></Envelope>", ERR_CORRUPT, "" },
		{ ENVELOPE("", DISK("d", "ovf:capacity='18446744073709551615' ovf:capacityAllocationUnits='byte * 2^10'"),
			   DRIVE("", "0", "ovf:/disk/d")), ERR_CORRUPT, "capacity" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(disks) / sizeof(*disks); i++) {
		struct machine *m = parse(disks[i].text);

		assert_has(m->disks.p[0].refused, disks[i].why);
		machine_free(m);
	}
	for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++) {
		struct err e = ERR_INIT;
		struct machine *m = machine_new(MACHINE_OVF, "x.ovf", &e);

		if (ovf_parse(whole[i].text, strlen(whole[i].text), m, &e) != whole[i].code || !strstr(e.cause, whole[i].why))
			fail_msg("%zu: %d %s", i, e.code, e.cause);
		machine_free(m);
	}
}

static void put(const char *dir, const char *name, const char *text)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = fs_join(dir, name, &e);

	assert_ok(fs_write_atomic(path, text, strlen(text), true, 0600, &e), &e);
}

#define SHA1_ABC "a9993e364706816aba3e25717850c26c9cd0d89d"
#define SHA256_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void test_ovf__manifest(void **state)
{
	static const struct { const char *text; int code; const char *why; } rows[] = {
		{ "SHA1(a)= " SHA1_ABC "\n", 1, "" },
		{ "SHA256 (a) = " SHA256_ABC "\r\n\r\nSHA1(a)=" SHA1_ABC, 1, "" },
		{ "sha256(a)= BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", 1, "" },
		{ "", 1, "" },
		{ "SHA1(a)= " SHA256_ABC, ERR_CORRUPT, "was changed" },
		{ "SHA1(a)= a9993e", ERR_CORRUPT, "was changed" },
		{ "SHA1(b)= " SHA1_ABC, ERR_NOTFOUND, "" },
		{ "SHA1(/etc/passwd)= " SHA1_ABC, ERR_INVALID, "outside" },
		{ "MD5(a)= 00", ERR_UNSUPPORTED, "unknown kind" },
		{ "SHA1(a)=", ERR_CORRUPT, "no line" },
		{ ")(", ERR_CORRUPT, "no line" },
	};
	char *dir = test_folder_new();
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = fs_join(dir, "x.ovf", &e);
	struct machine *m;

	(void)state;
	put(dir, "a", "abc");
	put(dir, "x.ovf", ENVELOPE("", "", ""));
	assert_int_equal(machine_is(path), 1);
	assert_ok(machine_open(path, NULL, &m, &e), &e);
	assert_int_equal(machine_verify(m, NULL, NULL, &e), 0);	/* there is none */
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct err now = ERR_INIT;

		put(dir, "x.mf", rows[i].text);
		if (machine_verify(m, NULL, NULL, &now) != rows[i].code || !strstr(now.cause, rows[i].why))
			fail_msg("\"%s\": %d %s", rows[i].text, now.code, now.cause);
	}
	machine_free(m);
	test_folder_done(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ovf__disks),
		cmocka_unit_test(test_ovf__units),
		cmocka_unit_test(test_ovf__what_cannot_be_read_is_refused),
		cmocka_unit_test(test_ovf__manifest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
