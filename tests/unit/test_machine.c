/* test_machine.c - machine descriptions: what is found in them, and what is refused. */
#include "tests/test.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "formats/machine/machine_internal.h"
#include "formats/reference.h"
#include "tests/support/folder.h"

#define A "11111111-0000-0000-0000-0000000000a0"
#define B "11111111-0000-0000-0000-0000000000b0"
#define C "11111111-0000-0000-0000-0000000000c0"
#define D "11111111-0000-0000-0000-0000000000d0"
#define M "22222222-0000-0000-0000-000000000001"
#define S1 "33333333-0000-0000-0000-000000000001"
#define S2 "33333333-0000-0000-0000-000000000002"

typedef int (*parser)(const void *text, size_t len, struct machine *m, struct err *e);

static struct machine *parse(parser p, enum machine_kind kind, const char *text)
{
	struct err e = ERR_INIT;
	struct machine *m = machine_new(kind, "machines/x.vmx", &e);

	assert_non_null(m);
	if (p(text, strlen(text), m, &e) < 0)
		fail_msg("%s: %s", e.ctx, e.cause);
	return m;
}

static void refused(parser p, const char *text, int code, const char *word)
{
	struct err e = ERR_INIT;
	struct machine *m = machine_new(MACHINE_VIRTUALBOX, "x.vbox", &e);
	int r = p(text, strlen(text), m, &e);

	if (r != code || !strstr(e.cause, word))
		fail_msg("%d \"%s\", expected %d \"%s\": %.60s", r, e.cause, code, word, text);
	machine_free(m);
}

/* --- VirtualBox ---------------------------------------------------------------------------------------------------- */

#define VBOX(version, body) "<?xml version=\"1.0\"?>\n<!-- note -->\n" \
	"<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"" version "\">" body "</VirtualBox>"
#define MACHINE(body) "<Machine uuid=\"{" M "}\" name=\"deb &amp; ian\" currentSnapshot=\"{" S2 "}\">" body "</Machine>"
#define DEVICE(port, uuid) "<AttachedDevice type=\"HardDisk\" port=\"" port "\" device=\"0\"><Image uuid=\"{" uuid "}\"/></AttachedDevice>"
#define SATA(body) "<StorageControllers><StorageController name=\"SATA\" type=\"AHCI\">" body "</StorageController></StorageControllers>"
#define REGISTRY "<MediaRegistry><HardDisks><HardDisk uuid=\"{" A "}\" location=\"d.vdi\" format=\"VDI\" type=\"Normal\">" \
	"<HardDisk uuid=\"{" B "}\" location=\"Snapshots\\{b}.vdi\" format=\"VDI\"><HardDisk uuid=\"{" C "}\" location=\"Snapshots/{c}.vdi\" format=\"VDI\"/></HardDisk></HardDisk>" \
	"<HardDisk uuid=\"{" D "}\" location=\"C:\\VMs\\data.vmdk\" format=\"VMDK\" type=\"Writethrough\"/></HardDisks></MediaRegistry>"

static void check_vbox(const struct machine *m)
{
	assert_string_equal(m->name, "deb & ian");
	assert_string_equal(m->uuid, M);
	assert_int_equal(m->images.n, 4);
	assert_int_equal(m->disks.n, 3);
	assert_string_equal(m->disks.p[0].name, "SATA-0-0");
	assert_string_equal(m->disks.p[0].image.path, "Snapshots/{c}.vdi");
	assert_string_equal(m->disks.p[0].image.uuid, C);
	assert_string_equal(m->disks.p[0].format, "vdi");
	assert_string_equal(m->disks.p[1].image.path, "data.vmdk");
	assert_true(m->disks.p[1].independent);
	assert_string_equal(m->disks.p[2].skipped, "DVD drive");
	assert_int_equal(m->snapshots.n, 2);
	assert_string_equal(m->snapshots.p[0].id, S1);
	assert_string_equal(m->snapshots.p[0].name, "one");
	assert_string_equal(m->snapshots.p[0].description, "first\nof all");
	assert_int_equal(m->snapshots.p[0].time_ns, INT64_C(1577872800) * 1000000000);
	assert_int_equal(m->snapshots.p[0].parent, MACHINE_NONE);
	assert_int_equal(m->snapshots.p[0].disks.n, 1);
	assert_string_equal(m->snapshots.p[0].disks.p[0].image.path, "d.vdi");
	assert_int_equal(m->snapshots.p[1].parent, 0);
	assert_string_equal(m->snapshots.p[1].disks.p[0].image.path, "Snapshots/{b}.vdi");
	assert_string_equal(m->snapshots.p[1].memory, "Snapshots/x.sav");
	assert_int_equal(m->current, 1);
	assert_int_equal(m->files.n, 2);
	assert_int_equal(m->files.p[1].role, MACHINE_NVRAM);
	assert_string_equal(m->files.p[1].path, "x.nvram");
}

/* Storage controllers stand beside the hardware before 1.15, and in it later. */
#define SNAPSHOTS(open, close) "<Snapshot uuid=\"{" S1 "}\" name=\"one\" timeStamp=\"2020-01-01T10:00:00Z\"><Description>first\nof all</Description>" \
	open SATA(DEVICE("0", A) DEVICE("1", D)) close "<Snapshots><Snapshot uuid=\"{" S2 "}\" name=\"two\" timeStamp=\"2020-01-02T10:00:00Z\" stateFile=\"Snapshots/x.sav\">" \
	open SATA(DEVICE("0", B) DEVICE("1", D)) close "</Snapshot></Snapshots></Snapshot>"
#define CURRENT SATA(DEVICE("0", C) DEVICE("1", D) "<AttachedDevice type=\"DVD\" port=\"2\" device=\"0\"><Image uuid=\"{" S1 "}\"/></AttachedDevice>")

static void test_vbox__versions(void **state)
{
	static const char *const texts[] = {
		VBOX("1.12-linux", MACHINE(REGISTRY SNAPSHOTS("<Hardware/>", "") "<Hardware><BIOS><NVRAM path=\"x.nvram\"/></BIOS></Hardware>" CURRENT)),
		VBOX("1.15-windows", MACHINE(REGISTRY SNAPSHOTS("<Hardware/>", "") CURRENT "<Hardware><NVRAM path=\"x.nvram\"/></Hardware>")),
		VBOX("1.19-macosx", MACHINE(REGISTRY SNAPSHOTS("<Hardware><BIOS><NVRAM path=\"Snapshots/1.nvram\"/></BIOS>", "</Hardware>")
					    "<Hardware><BIOS><NVRAM path=\"x.nvram\"/></BIOS>" CURRENT "</Hardware>")),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct machine *m = parse(vbox_parse, MACHINE_VIRTUALBOX, texts[i]);

		check_vbox(m);
		machine_free(m);
	}
}

/* Settings of VirtualBox 3: no registry, so only UUIDs are known. */
static void test_vbox__without_registry(void **state)
{
	struct machine *m = parse(vbox_parse, MACHINE_VIRTUALBOX, VBOX("1.9-linux", "<Machine uuid=\"{" M "}\" name=\"old\">" SATA(DEVICE("0", A)) "</Machine>"));

	(void)state;
	assert_int_equal(m->disks.n, 1);
	assert_null(m->disks.p[0].image.path);
	assert_string_equal(m->disks.p[0].image.uuid, A);
	machine_free(m);
}

static void test_vbox__refused_disks(void **state)
{
	struct machine *m = parse(vbox_parse, MACHINE_VIRTUALBOX,
		VBOX("1.19", "<Machine uuid=\"{" M "}\" name=\"x\"><MediaRegistry><HardDisks><HardDisk uuid=\"{" A "}\" location=\"a.vdi\" format=\"VDI\"><Property name=\"CRYPT/KeyId\" value=\"x\"/></HardDisk>"
		     "<HardDisk uuid=\"{" B "}\" location=\"10.0.0.1|iqn\" format=\"iSCSI\"/></HardDisks></MediaRegistry>" SATA(DEVICE("0", A) DEVICE("1", B)) "</Machine>"));

	(void)state;
	assert_non_null(strstr(m->disks.p[0].refused, "encrypted"));
	assert_non_null(strstr(m->disks.p[1].refused, "iSCSI"));
	machine_free(m);
}

#define XBOX(body) VBOX("1.19", "<Machine uuid=\"{" M "}\" name=\"x\">" body "</Machine>")
#define MEDIA(body) "<MediaRegistry><HardDisks>" body "</HardDisks></MediaRegistry>"
#define IMAGE(uuid, in) "<HardDisk uuid=\"{" uuid "}\" location=\"" uuid ".vdi\" format=\"VDI\">" in "</HardDisk>"
#define CRYPT "<Property name=\"CRYPT/KeyId\" value=\"x\"/>"
#define SNAPSHOT(uuid, body) "<Snapshot uuid=\"{" uuid "}\" name=\"s\"><Hardware>" body "</Hardware></Snapshot>"

/* The key is the first image's; what was made on it is encrypted, wherever the property stands.  Its neighbour isn't. */
static void test_vbox__encrypted_chain(void **state)
{
	static const char *const media[] = { IMAGE(A, CRYPT IMAGE(B, "")) IMAGE(C, ""), IMAGE(A, IMAGE(B, "") CRYPT) IMAGE(C, "") };
	static const char *const then[] = { A, B };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct err e = ERR_INIT;
		CLEANUP(free_ptr) char *now = text_printf(&e, XBOX(MEDIA("%s") SATA(DEVICE("0", B) DEVICE("1", C))), media[i]);
		CLEANUP(free_ptr) char *was = text_printf(&e, XBOX(MEDIA("%s") SNAPSHOT(S1, SATA("<AttachedDevice type=\"HardDisk\" port=\"0\"><Image uuid=\"{%s}\"/></AttachedDevice>"))
							  SATA(DEVICE("0", C))), media[i], then[i]);
		struct machine *m = parse(vbox_parse, MACHINE_VIRTUALBOX, now);

		assert_non_null(m->disks.p[0].refused);
		assert_non_null(strstr(m->disks.p[0].refused, "encrypted"));
		assert_null(m->disks.p[1].refused);
		machine_free(m);
		m = parse(vbox_parse, MACHINE_VIRTUALBOX, was);	/* the disk was encrypted at a snapshot */
		assert_non_null(m->disks.p[0].refused);
		machine_free(m);
	}
}

#define CONTROLLER(name, uuid) "<StorageController name=\"" name "\">" DEVICE("0", uuid) "</StorageController>"
#define TWO(a, b) "<StorageControllers>" CONTROLLER("A (1)", a) CONTROLLER("A [1]", b) "</StorageControllers>"

/* Two places that give one name: each keeps its own states. */
static void test_vbox__like_places(void **state)
{
	struct machine *m = parse(vbox_parse, MACHINE_VIRTUALBOX, XBOX(SNAPSHOT(S1, TWO(A, B)) TWO(C, D)));

	(void)state;
	assert_string_equal(m->disks.p[0].name, "A__1_-0-0");
	assert_string_equal(m->disks.p[1].name, "A__1_-0-0-2");
	assert_int_equal(m->snapshots.p[0].disks.n, 2);
	assert_string_equal(m->snapshots.p[0].disks.p[0].image.uuid, A);
	assert_string_equal(m->snapshots.p[0].disks.p[1].image.uuid, B);
	machine_free(m);
	m = parse(vbox_parse, MACHINE_VIRTUALBOX, XBOX(SNAPSHOT(S1, "<StorageControllers>" CONTROLLER("A [1]", B) "</StorageControllers>") TWO(C, D)));
	assert_int_equal(m->snapshots.p[0].disks.n, 1);
	assert_int_equal(m->snapshots.p[0].disks.p[0].disk, 1);	/* the first disk came later */
	machine_free(m);
}

/* An image that a disk still has is none of a snapshot, whichever disk it is. */
static void test_vbox__written_since(void **state)
{
	struct machine *m = parse(vbox_parse, MACHINE_VIRTUALBOX, XBOX(SNAPSHOT(S1, SATA(DEVICE("0", A) DEVICE("1", B) DEVICE("2", C)))
								      SATA(DEVICE("0", A) DEVICE("1", C) DEVICE("2", D))));

	(void)state;
	assert_int_equal(m->snapshots.p[0].disks.n, 1);
	assert_string_equal(m->snapshots.p[0].disks.p[0].image.uuid, B);
	assert_int_equal(m->notes.n, 2);
	assert_non_null(strstr(m->notes.p[0], "disk SATA-0-0"));
	machine_free(m);
}

/* What the registry says of a snapshot's image, too, is not to be guessed from what is in it. */
static void test_vbox__formats_then(void **state)
{
	struct machine *m = parse(vbox_parse, MACHINE_VIRTUALBOX,
		XBOX(MEDIA("<HardDisk uuid=\"{" A "}\" location=\"a.img\" format=\"RAW\"/>" IMAGE(B, "")) SNAPSHOT(S1, SATA(DEVICE("0", A))) SATA(DEVICE("0", B))));

	(void)state;
	assert_string_equal(m->snapshots.p[0].disks.p[0].format, "raw");
	machine_free(m);
}

static void test_vbox__hostile(void **state)
{
	(void)state;
	refused(vbox_parse, "<VirtualBox><Machine", ERR_CORRUPT, "");
	refused(vbox_parse, VBOX("1.19", ""), ERR_CORRUPT, "no machine");
	refused(vbox_parse, "<x/>", ERR_CORRUPT, "root element");
	refused(vbox_parse, VBOX("1.19", "<MachineEncrypted/>"), ERR_UNSUPPORTED, "encrypted");
	refused(vbox_parse, "<!DOCTYPE x [<!ENTITY a \"b\">]><VirtualBox>&a;</VirtualBox>", ERR_CORRUPT, "entities");
	refused(vbox_parse, "<!DOCTYPE x [<!ATTLIST V a CDATA \"b\">]><VirtualBox><V/></VirtualBox>", ERR_CORRUPT, "DTD");
	refused(vbox_parse, "<!DOCTYPE x [<!ENTITY a SYSTEM \"/etc/passwd\">]><VirtualBox>&a;</VirtualBox>", ERR_CORRUPT, "entities");
	refused(vbox_parse, VBOX("1", MACHINE("<MediaRegistry><HardDisks><HardDisk uuid=\"{" A "}\" location=\"a\"/><HardDisk uuid=\"{" A "}\" location=\"b\"/></HardDisks></MediaRegistry>")),
		ERR_CORRUPT, "two images");
	refused(vbox_parse, VBOX("1", MACHINE("<MediaRegistry><HardDisks><HardDisk uuid=\"zz\" location=\"a\"/></HardDisks></MediaRegistry>")), ERR_CORRUPT, "without a UUID");
	refused(vbox_parse, VBOX("1", MACHINE("<Snapshot name=\"x\"/>")), ERR_CORRUPT, "without a UUID");
	refused(vbox_parse, XBOX(SNAPSHOT(S1, "") SNAPSHOT(S2, "") SNAPSHOT(S1, "")), ERR_CORRUPT, "two snapshots have the UUID " S1);
	refused(vbox_parse, XBOX(SATA(DEVICE("0", A) DEVICE("0", B))), ERR_CORRUPT, "two drives are at SATA-0-0");
	refused(vbox_parse, XBOX(SNAPSHOT(S1, SATA(DEVICE("0", A) DEVICE("0", B))) SATA(DEVICE("0", C))), ERR_CORRUPT, "two disks at SATA-0-0");
	refused(vbox_parse, XBOX(SATA(DEVICE("-1", A))), ERR_CORRUPT, "no number");
}

static char *repeated(const char *head, const char *one, size_t n, const char *tail)
{
	size_t len = strlen(one);
	char *s = malloc(strlen(head) + n * len + strlen(tail) + 1), *p = s;

	assert_non_null(s);
	memcpy(p, head, strlen(head));
	p += strlen(head);
	for (size_t i = 0; i < n; i++, p += len)
		memcpy(p, one, len);
	memcpy(p, tail, strlen(tail) + 1);
	return s;
}

static void test_vbox__too_much(void **state)
{
	static const char head[] = "<VirtualBox><Machine uuid=\"{" M "}\" name=\"x\">";
	char *deep = repeated(head, "<a>", 2000, ""), *many = repeated(head, "<Snapshot uuid=\"{" S1 "}\" name=\"x\"/>", 5000, "");
	char *disks = strdup(head), *name = repeated("", "n", 256, "");
	CLEANUP(free_ptr) char *controller = NULL;
	struct err e = ERR_INIT;

	(void)state;
	for (int i = 0; i < 300; i++) {
		char *more = text_printf(&e, "%s<AttachedDevice port=\"%d\"/>%s", disks, i, i == 299 ? "</Machine></VirtualBox>" : "");

		free(disks);
		disks = more;
	}
	controller = text_printf(&e, XBOX("<StorageController name=\"%s\"/>"), name);
	refused(vbox_parse, controller, ERR_UNSUPPORTED, "controller's name");
	free(name);
	refused(vbox_parse, deep, ERR_UNSUPPORTED, "nested");
	refused(vbox_parse, many, ERR_UNSUPPORTED, "snapshots");
	refused(vbox_parse, disks, ERR_UNSUPPORTED, "drives");
	free(deep);
	free(many);
	free(disks);
}

/* --- VMware -------------------------------------------------------------------------------------------------------- */

static const char workstation[] =
	"#!/usr/bin/vmware\n.encoding = \"windows-1252\"\nconfig.version = \"8\"\nvirtualHW.version = \"19\"\n"
	"displayName = \"caf\xe9 |22x|22\"\nuuid.bios = \"56 4d 2e 4c 5b 1c 0a 3e-8f 11 5c 6d 7e 8f 90 a1\"\n"
	"scsi0.present = \"TRUE\"\nscsi0:0.PRESENT = \"TRUE\"\nscsi0:0.fileName = \"web-000002.vmdk\"\n"
	"sata0:1.present = \"TRUE\"\nsata0:1.fileName = \"/usr/lib/linux.iso\"\nsata0:1.deviceType = \"cdrom-image\"\n"
	"scsi0:1.present = \"TRUE\"\nscsi0:1.fileName = \"C:\\Machines\\web\\data.vmdk\"\nscsi0:1.mode = \"independent-persistent\"\n"
	"scsi0:2.present = \"FALSE\"\nscsi0:2.fileName = \"gone.vmdk\"\n"
	"nvme0:0.present = \"TRUE\"\nnvme0:0.fileName = \"fast-000001.vmdk\"\r\n"
	"nvram = \"web.nvram\"\nextendedConfigFile = \"web.vmxf\"\n";
static const char snapshots[] =
	".encoding = \"UTF-8\"\nsnapshot.lastUID = \"2\"\nsnapshot.current = \"2\"\nsnapshot.numSnapshots = \"2\"\n"
	"snapshot0.uid = \"1\"\nsnapshot0.filename = \"web-Snapshot1.vmsn\"\nsnapshot0.displayName = \"before\"\n"
	"snapshot0.description = \"two|0Alines\"\nsnapshot0.createTimeHigh = \"367298\"\nsnapshot0.createTimeLow = \"-1317273600\"\n"
	"snapshot0.numDisks = \"2\"\nsnapshot0.disk0.fileName = \"web.vmdk\"\nsnapshot0.disk0.node = \"scsi0:0\"\n"
	"snapshot0.disk1.fileName = \"fast.vmdk\"\nsnapshot0.disk1.node = \"nvme0:0\"\n"
	"snapshot1.uid = \"2\"\nsnapshot1.filename = \"web-Snapshot2.vmsn\"\nsnapshot1.parent = \"1\"\nsnapshot1.type = \"1\"\n"
	"snapshot1.displayName = \"after\"\nsnapshot1.disk0.fileName = \"web-000001.vmdk\"\nsnapshot1.disk0.node = \"scsi0:0\"\n";

static void test_vmx__workstation(void **state)
{
	struct machine *m = parse(vmx_parse, MACHINE_VMWARE, workstation);
	struct err e = ERR_INIT;

	(void)state;
	assert_string_equal(m->name, "caf\xc3\xa9 \"x\"");
	assert_string_equal(m->uuid, "564d2e4c-5b1c-0a3e-8f11-5c6d7e8f90a1");
	assert_int_equal(m->disks.n, 4);
	assert_string_equal(m->disks.p[0].name, "nvme0-0");
	assert_string_equal(m->disks.p[1].skipped, "CD drive");
	assert_string_equal(m->disks.p[2].name, "scsi0-0");
	assert_string_equal(m->disks.p[3].image.path, "data.vmdk");
	assert_true(m->disks.p[3].independent);
	assert_int_equal(m->files.n, 3);
	assert_int_equal(vmsd_parse(snapshots, strlen(snapshots), m, &e), 0);
	assert_int_equal(m->snapshots.n, 2);
	assert_string_equal(m->snapshots.p[0].description, "two\nlines");
	assert_int_equal(m->snapshots.p[0].time_ns, ((INT64_C(367298) << 32) + INT64_C(2977693696)) * 1000);
	assert_null(m->snapshots.p[0].memory);
	assert_int_equal(m->snapshots.p[0].disks.n, 2);
	assert_string_equal(m->snapshots.p[0].disks.p[0].image.path, "fast.vmdk");
	assert_string_equal(m->snapshots.p[0].disks.p[1].image.path, "web.vmdk");
	assert_int_equal(m->snapshots.p[1].parent, 0);
	assert_string_equal(m->snapshots.p[1].memory, "web-Snapshot2.vmsn");
	assert_int_equal(m->current, 1);
	machine_free(m);
}

/* The disk's own image as a snapshot's: by a name that is another's only to look at, too (chain.c tells those). */
static void test_vmx__written_since(void **state)
{
	static const char list[] = "snapshot0.uid = \"1\"\nsnapshot0.displayName = \"x\"\nsnapshot0.disk0.fileName = \"web-000002.vmdk\"\nsnapshot0.disk0.node = \"SCSI0:0\"\n"
		"snapshot0.disk1.fileName = \"fast.vmdk\"\nsnapshot0.disk1.node = \"nvme0:0\"\n";
	struct machine *m = parse(vmx_parse, MACHINE_VMWARE, workstation);
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(vmsd_parse(list, strlen(list), m, &e), 0);
	assert_int_equal(m->snapshots.p[0].disks.n, 1);
	assert_string_equal(m->snapshots.p[0].disks.p[0].image.path, "fast.vmdk");
	assert_int_equal(m->notes.n, 1);
	machine_free(m);
}

static void test_vmx__esxi(void **state)
{
	struct machine *m = parse(vmx_parse, MACHINE_VMWARE,
		".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"14\"\nnvram = \"db.nvram\"\nsvga.present = \"TRUE\"\n"
		"scsi0.virtualDev = \"pvscsi\"\nscsi0:0.deviceType = \"scsi-hardDisk\"\nscsi0:0.fileName = \"db.vmdk\"\nscsi0:0.present = \"TRUE\"\n"
		"ide1:0.startConnected = \"FALSE\"\nide1:0.deviceType = \"atapi-cdrom\"\nide1:0.fileName = \"emptyBackingString\"\nide1:0.present = \"TRUE\"\n"
		"scsi0:1.deviceType = \"scsi-hardDisk\"\nscsi0:1.fileName = \"/vmfs/volumes/5f0e/db/data.vmdk\"\nscsi0:1.present = \"TRUE\"\n");

	(void)state;
	assert_null(m->name);
	assert_int_equal(m->disks.n, 3);
	assert_string_equal(m->disks.p[0].skipped, "CD drive");
	assert_string_equal(m->disks.p[1].image.path, "db.vmdk");
	assert_string_equal(m->disks.p[2].image.path, "/vmfs/volumes/5f0e/db/data.vmdk");
	machine_free(m);
}

static void test_vmx__hostile(void **state)
{
	(void)state;
	refused(vmx_parse, "config.version = \"8\"\nencryption.keySafe = \"vmware:key/list/x\"\n", ERR_UNSUPPORTED, "encrypted");
	refused(vmx_parse, "config.version = \"8\"\nvtpm.present = \"TRUE\"\n", ERR_UNSUPPORTED, "TPM");
	refused(vmx_parse, "config.version = \"8\"\nCONFIG.version = \"8\"\n", ERR_CORRUPT, "twice");
	refused(vmx_parse, "config.version = \"8\n", ERR_CORRUPT, "closing quote");
	refused(vmx_parse, "just words\n", ERR_CORRUPT, "line 1");
	refused(vmx_parse, ".encoding = \"UTF-7\"\ndisplayName = \"\xe9\"\n", ERR_UNSUPPORTED, "UTF-7");
	refused(vmsd_parse, "snapshot0.uid = \"1\"\nsnapshot0.parent = \"2\"\nsnapshot1.uid = \"2\"\nsnapshot1.parent = \"1\"\n", ERR_CORRUPT, "parents");
	refused(vmsd_parse, "snapshot0.uid = \"1\"\nsnapshot0.parent = \"1\"\n", ERR_CORRUPT, "parents");
	refused(vmsd_parse, "snapshot0.uid = \"1\"\nsnapshot1.uid = \"1\"\n", ERR_CORRUPT, "two snapshots");
}

static void test_vmx__looks(void **state)
{
	(void)state;
	assert_true(vmx_looks(workstation, strlen(workstation)));
	assert_true(vmx_looks("x = \"\"\nconfig.VERSION = \"8\"", 27));
	assert_false(vmx_looks("# Disk DescriptorFile\nversion=1\n", 32));
	assert_false(vmx_looks("config.version = \"8\"\n\0", 22));
	assert_false(vmx_looks("", 0));
}

/* --- libvirt ------------------------------------------------------------------------------------------------------- */

static void test_domain__disks(void **state)
{
	struct machine *m = parse(libvirt_parse, MACHINE_LIBVIRT,
		"<domain type='kvm'><name>web</name><uuid>" M "</uuid><os><type>hvm</type><loader type='pflash'>/usr/share/OVMF_CODE.fd</loader><nvram template='/t'>/nv/web.fd</nvram></os><devices>"
		"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/web.qcow2'/><backingStore type='file'><format type='raw'/><source file='/i/base.raw'/></backingStore><target dev='vda'/></disk>"
		"<disk type='block' device='disk'><source dev='/dev/vg/web'/><target dev='vdb'/></disk>"
		"<disk type='file' device='cdrom'><target dev='sda'/></disk>"
		"<disk type='network' device='disk'><source protocol='rbd' name='p/i'/><target dev='vdc'/></disk>"
		"<tpm model='tpm-crb'><backend type='emulator'><source type='file' path='/tpm/x'/></backend></tpm></devices></domain>");

	(void)state;
	assert_int_equal(m->disks.n, 4);
	assert_string_equal(m->disks.p[0].name, "vda");
	assert_string_equal(m->disks.p[0].image.path, "/i/web.qcow2");
	assert_string_equal(m->disks.p[0].format, "qcow2");
	assert_string_equal(m->disks.p[1].image.path, "/dev/vg/web");
	assert_string_equal(m->disks.p[1].format, "raw");
	assert_string_equal(m->disks.p[2].skipped, "cdrom drive");
	assert_non_null(strstr(m->disks.p[3].refused, "network"));
	assert_int_equal(m->files.n, 4);
	assert_int_equal(m->files.p[1].role, MACHINE_LOADER);
	assert_string_equal(m->files.p[2].path, "/nv/web.fd");
	assert_int_equal(m->files.p[3].role, MACHINE_TPM);
	machine_free(m);
}

#define DISK(type, source, more) "<disk type='file' device='disk'><driver type='" type "'/><source file='/i/x'>" source "</source>" more "<target dev='vda'/></disk>"

/* What makes the disk's content another than the file's is refused, not passed over. */
static void test_domain__content(void **state)
{
	static const struct { const char *disk, *word; } disks[] = {
		{ DISK("raw", "<slices><slice type='storage' offset='1048576' size='4096'/></slices>", ""), "slice" },
		{ DISK("raw", "<encryption format='luks'><secret type='passphrase' uuid='" A "'/></encryption>", ""), "LUKS" },
		{ DISK("raw", "", "<encryption format='luks'/>"), "LUKS" },
		{ DISK("qcow2", "<encryption format='luks'/>", ""), NULL },	/* inside the image: --image-secret */
		{ DISK("qcow2", "", "<backingStore><source file='/b'><slices/><encryption/></source></backingStore>"), NULL },
		{ DISK("raw", "", "<mirror job='copy'><source file='/m'><slices/></source></mirror>"), NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(disks) / sizeof(*disks); i++) {
		struct err e = ERR_INIT;
		CLEANUP(free_ptr) char *text = text_printf(&e, "<domain><name>x</name><devices>%s</devices></domain>", disks[i].disk);
		struct machine *m = parse(libvirt_parse, MACHINE_LIBVIRT, text);

		assert_string_equal(m->disks.p[0].image.path, "/i/x");
		if (disks[i].word ? !m->disks.p[0].refused || !strstr(m->disks.p[0].refused, disks[i].word) : m->disks.p[0].refused != NULL)
			fail_msg("%zu: %s", i, m->disks.p[0].refused ? m->disks.p[0].refused : "taken");
		assert_int_equal(m->notes.n, i == 5);
		machine_free(m);
	}
}

/* A TPM's state in a folder, or where only libvirt knows, is told of; that in a file is kept. */
static void test_domain__tpm(void **state)
{
	static const struct { const char *backend; size_t nfiles, nnotes; } tpms[] = {
		{ "<backend type='emulator' version='2.0'/>", 0, 1 }, { "<backend type='emulator'><source type='dir' path='/tpm'/></backend>", 0, 1 },
		{ "<backend type='emulator'><source type='file' path='/tpm/x'/></backend>", 1, 0 },
		{ "<backend type='external'><source type='unix' path='/run/x.sock'/></backend>", 0, 0 },
		{ "<backend type='passthrough'><device path='/dev/tpm0'/></backend>", 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(tpms) / sizeof(*tpms); i++) {
		struct err e = ERR_INIT;
		CLEANUP(free_ptr) char *text = text_printf(&e, "<domain><name>x</name><devices><tpm model='tpm-crb'>%s</tpm></devices></domain>", tpms[i].backend);
		struct machine *m = parse(libvirt_parse, MACHINE_LIBVIRT, text);

		if (m->files.n != 1 + tpms[i].nfiles || m->notes.n != tpms[i].nnotes)
			fail_msg("%zu: %zu files, %zu notes", i, (size_t)m->files.n, (size_t)m->notes.n);
		machine_free(m);
	}
}

static void test_domain__hostile(void **state)
{
	(void)state;
	refused(libvirt_parse, "<domain/>", ERR_CORRUPT, "no name");
	refused(libvirt_parse, "<!DOCTYPE x [<!ENTITY a \"b\">]><domain><name>&a;</name></domain>", ERR_CORRUPT, "entities");
}

/* --- files --------------------------------------------------------------------------------------------------------- */

static void put(const char *dir, const char *name, const char *text)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = fs_join(dir, name, &e);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_machine__is(void **state)
{
	static const struct { const char *name, *text; int is; } files[] = {
		{ "a.vbox", "<?xml version=\"1.0\"?>\n<VirtualBox/>", 1 }, { "a.VMX", "config.version = \"8\"\n", 1 },
		{ "a.xml", "<domain type='kvm'>", 1 }, { "b.xml", "<domainsnapshot/>", 0 }, { "disk.raw", "<VirtualBox/>", 0 },
		{ "b.vbox", "no xml", 0 }, { "b.vmx", "no = \"machine\"", 0 }, { "c.vbox", "", 0 }, { "vmx", "config.version = \"8\"\n", 0 },
	};
	char *dir = test_folder_new();
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		CLEANUP(free_ptr) char *path = fs_join(dir, files[i].name, &e);

		put(dir, files[i].name, files[i].text);
		if (machine_is(path) != files[i].is)
			fail_msg("%s", files[i].name);
	}
	assert_int_equal(machine_is(dir), 0);
	assert_int_equal(machine_is("/nonexistent.vmx"), 0);
	test_folder_done(dir);
}

static void test_machine__references(void **state)
{
	char *dir = test_folder_new(), *away = test_folder_new();
	const char *allow[] = { away, NULL };
	struct machine_file inside = { .path = (char *)(uintptr_t)"x.nvram" }, outside = { 0 };
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = fs_join(dir, "x.vmx", &e);
	CLEANUP(free_ptr) char *far = fs_join(away, "y.nvram", &e);
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct machine *m;
	uint32_t mode;
	size_t len;

	(void)state;
	put(dir, "x.vmx", workstation);
	put(dir, "x.vmsd", snapshots);
	put(dir, "x.nvram", "12345");
	put(away, "y.nvram", "6");
	outside.path = far;
	assert_int_equal(machine_open(path, NULL, &m, &e), 0);
	assert_int_equal(m->snapshots.n, 2);
	assert_int_equal(machine_read_file(m, &inside, NULL, 5, &p, &len, &mode, &e), 0);
	assert_int_equal(len, 5);
	free(STEAL(p));
	assert_int_equal(machine_read_file(m, &inside, NULL, 4, &p, &len, &mode, &e), ERR_INVALID);
	err_clear(&e);
	assert_int_equal(machine_read_file(m, &outside, NULL, 5, &p, &len, &mode, &e), ERR_INVALID);
	assert_non_null(strstr(e.hint, "--allow-path"));
	err_clear(&e);
	assert_int_equal(machine_read_file(m, &outside, allow, 5, &p, &len, &mode, &e), 0);
	machine_free(m);
	test_folder_done(away);
	test_folder_done(dir);
}

/* The machine's own folder is looked in without being asked for: not for devices. */
static void test_machine__devices(void **state)
{
	char *dir = test_folder_new();
	const char *const own[] = { dir, NULL }, *const none[] = { NULL };
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *vmx = fs_join(dir, "x.vmx", &e);
	CLEANUP(free_ptr) char *node = fs_join(dir, "disk", &e);
	CLEANUP(free_ptr) char *path = NULL;
	int fd;

	(void)state;
	if (mknod(node, S_IFBLK | 0600, makedev(240, 1)) < 0) {	/* of no driver */
		test_folder_done(dir);
		skip();
	}
	assert_int_equal(reference_open(vmx, "disk", "disk", own, none, &fd, &path, &e), ERR_INVALID);
	assert_has(e.cause, "a block device");
	err_clear(&e);
	assert_true(reference_open(vmx, "disk", "disk", own, NULL, &fd, &path, &e) < 0);	/* given: tried */
	assert_null(strstr(e.cause, "a block device"));
	err_clear(&e);
	assert_true(reference_open(vmx, "disk", "disk", own, own, &fd, &path, &e) < 0);
	assert_null(strstr(e.cause, "a block device"));
	assert_int_equal(unlink(node), 0);
	test_folder_done(dir);
}

static void test_machine__locked(void **state)
{
	char *dir = test_folder_new();
	struct machine_image image = { .path = (char *)(uintptr_t)"web.vmdk" };
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = fs_join(dir, "x.vmx", &e);
	CLEANUP(free_ptr) char *lock = fs_join(dir, "web.vmdk.lck", &e);
	struct machine *m;

	(void)state;
	put(dir, "x.vmx", workstation);
	assert_int_equal(mkdir(lock, 0700), 0);
	assert_int_equal(machine_open(path, NULL, &m, &e), 0);
	assert_int_equal(machine_check_locked(m, &image, &e), 0);
	put(lock, "M12345.lck", "");
	assert_int_equal(machine_check_locked(m, &image, &e), ERR_LOCKED);
	err_clear(&e);
	assert_int_equal(machine_check_locked(m, NULL, &e), 0);
	machine_free(m);
	test_folder_done(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vbox__versions), cmocka_unit_test(test_vbox__without_registry),
		cmocka_unit_test(test_vbox__refused_disks), cmocka_unit_test(test_vbox__encrypted_chain),
		cmocka_unit_test(test_vbox__like_places), cmocka_unit_test(test_vbox__written_since), cmocka_unit_test(test_vbox__formats_then),
		cmocka_unit_test(test_vbox__hostile), cmocka_unit_test(test_vbox__too_much),
		cmocka_unit_test(test_vmx__workstation), cmocka_unit_test(test_vmx__written_since), cmocka_unit_test(test_vmx__esxi), cmocka_unit_test(test_vmx__hostile),
		cmocka_unit_test(test_vmx__looks), cmocka_unit_test(test_domain__disks), cmocka_unit_test(test_domain__content), cmocka_unit_test(test_domain__tpm), cmocka_unit_test(test_domain__hostile),
		cmocka_unit_test(test_machine__is), cmocka_unit_test(test_machine__references), cmocka_unit_test(test_machine__devices), cmocka_unit_test(test_machine__locked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
