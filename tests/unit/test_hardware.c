/* test_hardware.c - each kind of machine as each other kind: what is written is read back by our own readers. */
#include "tests/test.h"

#include "base/num.h"
#include "formats/machine/hardware_internal.h"

#define A "11111111-0000-0000-0000-0000000000a0"
#define M "22222222-0000-0000-0000-000000000001"

static const char libvirt[] =
	"<domain type='kvm' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>we&lt;b</name><uuid>" M "</uuid>"
	"<description>one\ntwo &amp; three</description>"
	"<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'><libosinfo:os id='http://debian.org/debian/12'/></libosinfo:libosinfo></metadata>"
	"<memory unit='MiB'>3072</memory><vcpu>4</vcpu><cputune><shares>1</shares></cputune>"
	"<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><firmware><feature enabled='yes' name='secure-boot'/></firmware>"
	"<nvram template='/usr/share/x.fd'>/var/lib/we_VARS.fd</nvram></os>"
	"<cpu><topology sockets='2' cores='2' threads='1'/></cpu><devices>"
	"<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='/old/a.qcow2'/><backingStore type='file'><source file='/old/base'/></backingStore><target dev='vda' bus='virtio'/></disk>"
	"<disk type='block' device='disk'><source dev='/dev/sdx'/><target dev='sda' bus='scsi'/><address type='drive' controller='1' unit='3'/></disk>"
	"<disk type='file' device='cdrom'><source file='/iso'/><target dev='sdc' bus='sata'/></disk>"
	"<controller type='scsi' index='1' model='lsisas1068'/>"
	"<interface type='bridge'><mac address='52:54:00:AA:bb:01'/><source bridge='br0'/><model type='virtio'/></interface>"
	"<interface type='network'><mac address='52:54:00:aa:bb:02'/><source network='default'/><model type='e1000'/></interface>"
	"<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm><hostdev mode='subsystem'/></devices>"
	"<qemu:commandline><qemu:arg value='-x'/></qemu:commandline></domain>";
static const char vbox[] =
	"<?xml version=\"1.0\"?><VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\">"
	"<Machine uuid=\"{" M "}\" name=\"we&lt;b\" OSType=\"Debian_64\" currentSnapshot=\"{" A "}\"><Description>one\ntwo &amp; three</Description>"
	"<MediaRegistry><HardDisks><HardDisk uuid=\"{" A "}\" location=\"a.vdi\" format=\"VDI\" type=\"Normal\"/></HardDisks></MediaRegistry>"
	"<Snapshot uuid=\"{" A "}\" name=\"s\"><Hardware><StorageControllers><StorageController name=\"x\" type=\"AHCI\"><AttachedDevice type=\"HardDisk\" port=\"0\"><Image uuid=\"{" A "}\"/></AttachedDevice></StorageController></StorageControllers></Hardware></Snapshot>"
	"<Hardware><CPU count=\"4\"/><Memory RAMSize=\"3072\"/><Firmware type=\"EFI\"/><TrustedPlatformModule type=\"v2_0\" location=\"\"/>"
	"<BIOS><NVRAM path=\"web.nvram\"/></BIOS><AudioAdapter enabled=\"true\" driver=\"Pulse\"/>"
	"<Network><Adapter slot=\"0\" enabled=\"true\" MACAddress=\"080027AABB01\" type=\"virtio\"><BridgedInterface name=\"eth0\"/></Adapter>"
	"<Adapter slot=\"1\"/><Adapter slot=\"2\" enabled=\"true\" MACAddress=\"080027AABB02\" type=\"82540EM\"><NAT/></Adapter></Network>"
	"<StorageControllers><StorageController name=\"SATA\" type=\"AHCI\" PortCount=\"2\">"
	"<AttachedDevice type=\"HardDisk\" port=\"0\" device=\"0\"><Image uuid=\"{" A "}\"/></AttachedDevice>"
	"<AttachedDevice type=\"DVD\" port=\"1\" device=\"0\"><Image uuid=\"{" M "}\"/></AttachedDevice></StorageController>"
	"<StorageController name=\"SAS\" type=\"LsiLogicSas\" PortCount=\"8\"><AttachedDevice type=\"HardDisk\" port=\"3\" device=\"0\"><Image uuid=\"{" M "}\"/></AttachedDevice></StorageController>"
	"</StorageControllers></Hardware></Machine></VirtualBox>";
static const char vmx[] =
	".encoding = \"windows-1252\"\nconfig.version = \"8\"\nvirtualHW.version = \"19\"\ndisplayName = \"we<b\"\nguestOS = \"debian10-64\"\n"
	"annotation = \"one|0Atwo & three\"\nuuid.bios = \"22 22 22 22 00 00 00 00-00 00 00 00 00 00 00 01\"\nuuid.location = \"56 4d\"\nmemSize = \"3072\"\n"
	"numvcpus = \"4\"\ncpuid.coresPerSocket = \"2\"\nfirmware = \"efi\"\nuefi.secureBoot.enabled = \"TRUE\"\nnvram = \"web.nvram\"\n"
	"scsi1.present = \"TRUE\"\nscsi1.virtualDev = \"lsisas1068\"\nscsi1:3.present = \"TRUE\"\nscsi1:3.fileName = \"data.vmdk\"\nscsi1:3.redo = \"\"\n"
	"nvme0.present = \"TRUE\"\nnvme0:0.present = \"TRUE\"\nnvme0:0.fileName = \"sys.vmdk\"\n"
	"sata0:1.present = \"TRUE\"\nsata0:1.fileName = \"/x.iso\"\nsata0:1.deviceType = \"cdrom-image\"\n"
	"ethernet0.present = \"TRUE\"\nethernet0.virtualDev = \"vmxnet3\"\nethernet0.connectionType = \"bridged\"\nethernet0.generatedAddress = \"00:0c:29:aa:bb:01\"\nethernet0.addressType = \"generated\"\n"
	"ethernet2.present = \"TRUE\"\nethernet2.virtualDev = \"e1000\"\nethernet2.connectionType = \"nat\"\n"
	"sound.present = \"TRUE\"\nx.caf\xe9 = \"caf\xe9\"\n";
#define ITEM(body) "<Item>" body "</Item>"
#define R(name, text) "<rasd:" name ">" text "</rasd:" name ">"
static const char ovf[] =
	"<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" xmlns:ovf=\"o\" xmlns:rasd=\"r\" xmlns:vmw=\"v\"><VirtualSystem ovf:id=\"web\"><Name>we&lt;b</Name>"
	"<OperatingSystemSection ovf:id=\"96\" vmw:osType=\"debian10_64Guest\"/><AnnotationSection><Annotation>one\ntwo &amp; three</Annotation></AnnotationSection><ProductSection/>"
	"<VirtualHardwareSection>"
	ITEM(R("InstanceID", "1") R("ResourceType", "3") R("VirtualQuantity", "4") "<vmw:CoresPerSocket>2</vmw:CoresPerSocket>")
	ITEM(R("AllocationUnits", "byte * 2^20") R("InstanceID", "2") R("ResourceType", "4") R("VirtualQuantity", "3072"))
	ITEM(R("Address", "0") R("InstanceID", "3") R("ResourceSubType", "vmware.sata.ahci") R("ResourceType", "20"))
	ITEM(R("InstanceID", "4") R("ResourceSubType", "lsilogicsas") R("ResourceType", "6"))
	ITEM(R("AddressOnParent", "0") R("HostResource", "ovf:/disk/a") R("InstanceID", "5") R("Parent", "3") R("ResourceType", "17"))
	ITEM(R("AddressOnParent", "3") R("HostResource", "ovf:/disk/b") R("InstanceID", "6") R("Parent", "4") R("ResourceType", "17"))
	ITEM(R("AddressOnParent", "1") R("InstanceID", "7") R("Parent", "3") R("ResourceType", "15"))
	ITEM(R("Connection", "lan") R("InstanceID", "8") R("ResourceSubType", "VmxNet3") R("ResourceType", "10"))
	ITEM(R("Connection", "NAT") R("InstanceID", "9") R("ResourceSubType", "E1000") R("ResourceType", "10"))
	ITEM(R("ElementName", "sound") R("InstanceID", "10") R("ResourceType", "35"))
	"<vmw:Config vmw:key=\"firmware\" vmw:value=\"efi\"/><vmw:Config vmw:key=\"bootOptions.efiSecureBootEnabled\" vmw:value=\"true\"/>"
	"</VirtualHardwareSection></VirtualSystem></Envelope>";

static const struct {
	const char *text, *path;
	const char *lost[4];	/* to libvirt, VirtualBox, VMware, OVF: a word of what must be told */
} sources[] = {
	[MACHINE_LIBVIRT] = { libvirt, "web.xml", { NULL, "hostdev", "TPM", "was virtio" } },
	[MACHINE_VIRTUALBOX] = { vbox, "web.vbox", { "sound card", NULL, "TPM", "variables" } },
	[MACHINE_VMWARE] = { vmx, "web.vmx", { "on NVMe", "vmxnet3", NULL, "on NVMe" } },
	[MACHINE_OVF] = { ovf, "web.ovf", { "(lan)", "vmxnet3", "ProductSection", "sound" } },
};

static struct machine *parse(const char *path, const char *text, size_t len, enum machine_kind kind)
{
	struct err e = ERR_INIT;
	struct machine *m = NULL;

	if (kind != MACHINE_OVF) {
		if (machine_parse_text(path, text, len, &m, &e) < 0)
			fail_msg("%s: %s %s\n%s", path, e.ctx, e.cause, text);
		return m;
	}
	m = machine_new(kind, path, &e);	/* two disks, as each machine here */
	assert_non_null(machine_add_disk(m, "disk1", &e));
	assert_non_null(machine_add_disk(m, "disk2", &e));
	assert_int_equal(machine_text(&m->name, "we<b", &e), 0);
	return m;
}

static struct hardware *read_text(const char *path, const char *text, size_t len, enum machine_kind kind)
{
	struct machine *m = parse(path, text, len, kind);
	struct hardware *h = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(m->kind, kind);
	if (hardware_read(text, len, m, &h, &e) < 0)
		fail_msg("%s: %s %s\n%s", path, e.ctx, e.cause, text);
	machine_free(m);
	return h;
}

static struct hardware *source(enum machine_kind kind)
{
	return read_text(sources[kind].path, sources[kind].text, strlen(sources[kind].text), kind);
}

static struct hardware_drive *drive(struct hardware *h, size_t n)
{
	for (size_t i = 0; i < h->drives.n; i++)
		if (h->drives.p[i].kind == DRIVE_DISK && n-- == 0)
			return &h->drives.p[i];
	fail_msg("too few disks");
	return NULL;
}

/* The disk on SAS, in any order. */
static struct hardware_drive *sas(struct hardware *h)
{
	for (size_t i = 0; i < h->drives.n; i++)
		if (h->drives.p[i].kind == DRIVE_DISK && h->drives.p[i].adapter == ADAPTER_LSISAS)
			return &h->drives.p[i];
	fail_msg("no disk on SAS");
	return NULL;
}

static void test_read(void **state)
{
	(void)state;
	for (enum machine_kind k = MACHINE_LIBVIRT; k <= MACHINE_OVF; k++) {
		struct hardware *h = source(k);

		assert_string_equal(h->name, "we<b");
		assert_string_equal(h->description, "one\ntwo & three");
		assert_int_equal(h->memory, 3072 * MIB);
		assert_int_equal(h->cpus, 4);
		assert_true(h->uefi);
		assert_int_equal(h->secure_boot, k != MACHINE_VIRTUALBOX);
		assert_int_equal(h->tpm, k == MACHINE_LIBVIRT || k == MACHINE_VIRTUALBOX ? 2 : 0);
		assert_string_equal(h->guest->vbox, "Debian");
		assert_false(h->bits32);
		assert_int_equal(h->drives.n, 3);
		assert_int_equal(sas(h)->bus, BUS_SCSI);
		assert_int_equal(sas(h)->unit, 3);
		assert_int_equal(h->nics.n, 2);
		assert_int_equal(h->nics.p[1].model, NIC_E1000);
		assert_int_equal(h->nics.p[1].link, LINK_NAT);
		if (k == MACHINE_LIBVIRT || k == MACHINE_VIRTUALBOX)
			assert_string_equal(h->nics.p[1].mac + 8, ":aa:bb:02");
		if (k != MACHINE_OVF)
			assert_string_equal(h->uuid, M);
		hardware_free(h);
	}
}

static void give_files(struct hardware *h, enum machine_kind to)
{
	static const char *const formats[] = { "qcow2", "vdi", "vmdk", "vmdk" };
	struct err e = ERR_INIT;

	for (size_t i = 0; i < 2; i++) {
		struct hardware_drive *d = drive(h, i);
		char name[40];

		(void)snprintf(name, sizeof(name), "disk %zu &.%s", i, formats[to]);
		assert_int_equal(machine_text(&d->file, name, &e), 0);
		d->format = formats[to];
		d->size = 8 * MIB;
		(void)snprintf(d->uuid, sizeof(d->uuid), "11111111-0000-0000-0000-00000000000%zu", i + 1);
	}
}

static void write_text(struct hardware *h, const struct hardware_write_opts *o, struct buf *b)
{
	struct err e = ERR_INIT;

	buf_init(b, MACHINE_FILE_MAX);
	if (hardware_write(h, o, b, &e) < 0 || buf_u8(b, 0, &e) < 0)
		fail_msg("%s %s", e.ctx, e.cause);
}

static bool told(const struct hardware *h, const char *word)
{
	for (size_t i = 0; i < h->lost.n; i++)
		if (strstr(h->lost.p[i], word))
			return true;
	return false;
}

/* What the two have in common, wherever it went. */
static void check_same(struct hardware *h, struct hardware *got, enum machine_kind to)
{
	assert_string_equal(got->name, h->name);
	assert_string_equal(got->description, h->description);
	assert_int_equal(got->memory, h->memory);
	assert_int_equal(got->cpus, h->cpus);
	assert_int_equal(got->uefi, h->uefi);
	assert_int_equal(got->tpm, h->tpm);
	assert_int_equal(got->secure_boot, h->secure_boot);
	assert_string_equal(got->guest->vbox, "Debian");
	assert_int_equal(got->drives.n, h->drives.n);
	assert_int_equal(sas(got)->unit, 3);
	assert_int_equal(got->nics.n, h->nics.n);
	for (size_t i = 0; i < h->nics.n; i++) {
		assert_int_equal(got->nics.p[i].model, h->nics.p[i].model);
		assert_int_equal(got->nics.p[i].link, h->nics.p[i].link);
		if (to != MACHINE_OVF)
			assert_string_equal(got->nics.p[i].mac, h->nics.p[i].mac);
	}
	if (to != MACHINE_OVF)
		assert_string_equal(got->uuid, h->uuid);
	if (to == MACHINE_LIBVIRT)
		assert_string_equal(drive(got, 0)->image, "/vm/disk 0 &.qcow2");
	else if (to != MACHINE_OVF)
		assert_string_equal(drive(got, to == MACHINE_VMWARE)->image, drive(h, to == MACHINE_VMWARE)->file);
}

/* A new description, whatever it was; also of the same kind. */
static void test_matrix(void **state)
{
	static const char *const names[] = { "a.xml", "a.vbox", "a.vmx", "a.ovf" };
	struct err e = ERR_INIT;

	(void)state;
	for (enum machine_kind from = MACHINE_LIBVIRT; from <= MACHINE_OVF; from++)
		for (enum machine_kind to = MACHINE_LIBVIRT; to <= MACHINE_OVF; to++) {
			struct hardware *h = source(from), *got;
			const char *word = sources[from].lost[to];
			struct buf b;

			give_files(h, to);
			assert_int_equal(hardware_new_ids(h, to, false, "seed", &e), 0);
			if (hardware_fit(h, to, &e) < 0)
				fail_msg("%s", e.cause);
			write_text(h, &(struct hardware_write_opts){ .to = to, .dir = "/vm" }, &b);
			if (to == MACHINE_LIBVIRT && !strstr((const char *)b.p, " target=\"3\" unit=\"0\""))
				fail_msg("SAS's third place is no target: %s", b.p);
			if (word && !told(h, word))
				fail_msg("%d to %d: \"%s\" isn't told", from, to, word);
			got = read_text(names[to], (const char *)b.p, b.len - 1, to);
			check_same(h, got, to);
			hardware_free(got);
			hardware_free(h);
			buf_done(&b);
		}
}

/* VMware's paravirtual SCSI has 16 places, libvirt's SAS 8; each is a target, whose LUN is 0. */
static void test_scsi_targets(void **state)
{
	static const char text[] =
		"config.version = \"8\"\nvirtualHW.version = \"14\"\ndisplayName = \"x\"\nscsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\n"
		"scsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"a.vmdk\"\nscsi0:1.present = \"TRUE\"\nscsi0:1.fileName = \"b.vmdk\"\n"
		"scsi0:12.present = \"TRUE\"\nscsi0:12.fileName = \"c.vmdk\"\n"
		"scsi1.present = \"TRUE\"\nscsi1.virtualDev = \"lsisas1068\"\nscsi1:9.present = \"TRUE\"\nscsi1:9.fileName = \"d.vmdk\"\n";
	static const char *const places[] = {
		"controller=\"0\" bus=\"0\" target=\"0\" unit=\"0\"", "controller=\"0\" bus=\"0\" target=\"1\" unit=\"0\"",
		"controller=\"0\" bus=\"0\" target=\"12\" unit=\"0\"", "controller=\"1\" bus=\"0\" target=\"0\" unit=\"0\"",
	};
	struct hardware *h = read_text("a.vmx", text, sizeof(text) - 1, MACHINE_VMWARE);
	struct err e = ERR_INIT;
	struct buf b;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(machine_text(&drive(h, i)->file, "x.qcow2", &e), 0);
		drive(h, i)->format = "qcow2";
	}
	assert_int_equal(hardware_new_ids(h, MACHINE_LIBVIRT, false, NULL, &e), 0);
	assert_int_equal(hardware_fit(h, MACHINE_LIBVIRT, &e), 0);
	write_text(h, &(struct hardware_write_opts){ .to = MACHINE_LIBVIRT, .dir = "/vm" }, &b);
	for (size_t i = 0; i < 4; i++)
		if (!strstr((const char *)b.p, places[i]))
			fail_msg("%s is not there: %s", places[i], b.p);
	buf_done(&b);
	hardware_free(h);
}

/* The old description with new disks: all else stays, what would be the old machine's goes. */
static const struct {
	enum machine_kind kind;
	const char *stays[6], *goes[8];
} edits[] = {
	{ MACHINE_LIBVIRT, { "qemu:arg value=\"-x\"", "<shares>1</shares>", "hostdev", "discard=\"unmap\"", "file=\"/vm/disk 0 &amp;.qcow2\"", ">/vm/web_VARS.fd</nvram>" },
	  { M, " id=\"7\"", "/old/", "/dev/sdx", "52:54:00:AA", "/iso", "/var/lib" } },
	{ MACHINE_VIRTUALBOX, { "AudioAdapter", "TrustedPlatformModule", "location=\"disk 0 &amp;.vdi\"", "name=\"SAS\"", "path=\"web_VARS.fd\"", "slot=\"1\"" },
	  { M, A, "Snapshot uuid", "currentSnapshot", "080027AABB", "a.vdi\"" } },
	{ MACHINE_VMWARE, { "virtualHW.version = \"19\"", "sound.present = \"TRUE\"", "x.caf\xe9 = \"caf\xc3\xa9\"", "nvme0:0.fileName = \"disk 0 &.vmdk\"", "nvram = \"web_VARS.fd\"", "annotation = \"one|0Atwo & three\"" },
	  { "22 22 22", "uuid.location", "scsi1:3.redo", "generatedAddress", "data.vmdk", "windows-1252" } },
};

static void test_edit(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++) {
		const enum machine_kind k = edits[i].kind;
		const char *text = sources[k].text;
		struct hardware *h = source(k), *got;
		struct buf b;

		give_files(h, k);
		assert_int_equal(hardware_new_ids(h, k, false, NULL, &e), 0);
		write_text(h, &(struct hardware_write_opts){ .to = k, .dir = "/vm", .text = text, .len = strlen(text), .nvram = "web_VARS.fd" }, &b);
		for (size_t w = 0; w < 6; w++)
			if (!strstr((const char *)b.p, edits[i].stays[w]))
				fail_msg("%s is gone: %s", edits[i].stays[w], b.p);
		for (size_t w = 0; w < 8 && edits[i].goes[w]; w++)
			if (strstr((const char *)b.p, edits[i].goes[w]))
				fail_msg("%s is there: %s", edits[i].goes[w], b.p);
		got = read_text(sources[k].path, (const char *)b.p, b.len - 1, k);
		check_same(h, got, k);
		hardware_free(got);
		hardware_free(h);
		buf_done(&b);
	}
}

/* A disk that isn't restored goes, and is told of; one more comes to the others. */
static void test_other_disks(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++) {
		const enum machine_kind k = edits[i].kind;
		const char *text = sources[k].text;
		struct hardware *h = source(k), *got;
		struct hardware_drive *d;
		struct buf b;
		char name[65];

		give_files(h, k);
		d = drive(h, 0);
		memcpy(name, d->name, strlen(d->name) + 1);
		free(d->file);
		d->file = NULL;
		d = hardware_add_disk(h, "extra", &e);
		assert_non_null(d);
		assert_int_equal(machine_text(&d->file, "extra.img", &e), 0);
		d->format = k == MACHINE_LIBVIRT ? "raw" : k == MACHINE_VIRTUALBOX ? "vdi" : "vmdk";
		memcpy(d->uuid, A, sizeof(A));
		assert_int_equal(hardware_new_ids(h, k, true, NULL, &e), 0);
		write_text(h, &(struct hardware_write_opts){ .to = k, .dir = "/vm", .text = text, .len = strlen(text), .keep_ids = true }, &b);
		assert_true(told(h, name));
		got = read_text(sources[k].path, (const char *)b.p, b.len - 1, k);
		assert_string_equal(got->uuid, M);
		assert_int_equal(got->drives.n, 3);
		assert_non_null(strstr((const char *)b.p, "extra.img"));
		hardware_free(got);
		hardware_free(h);
		buf_done(&b);
	}
}

static size_t count(const char *text, const char *word)
{
	size_t n = 0;

	for (; (text = strstr(text, word)); text += strlen(word))
		n++;
	return n;
}

/* One more disk for a description that is edited: its text, with its NUL. */
static void edit_added(const char *path, const char *text, enum machine_kind kind, struct buf *b)
{
	struct hardware *h = read_text(path, text, strlen(text), kind), *got;
	struct err e = ERR_INIT;
	struct hardware_drive *d;
	size_t drives;

	for (size_t i = 0; i < h->drives.n; i++) {
		assert_int_equal(machine_text(&h->drives.p[i].file, "x.vmdk", &e), 0);
		h->drives.p[i].format = "vmdk";
		memcpy(h->drives.p[i].uuid, M, sizeof(M));
	}
	d = hardware_add_disk(h, "extra", &e);
	assert_non_null(d);
	assert_int_equal(machine_text(&d->file, "extra.vmdk", &e), 0);
	d->format = "vmdk";
	memcpy(d->uuid, A, sizeof(A));
	drives = h->drives.n;
	assert_int_equal(hardware_new_ids(h, kind, false, NULL, &e), 0);
	assert_int_equal(hardware_fit_added(h, kind, &e), 0);
	write_text(h, &(struct hardware_write_opts){ .to = kind, .dir = "/vm", .text = text, .len = strlen(text) }, b);
	got = read_text(path, (const char *)b->p, b->len - 1, kind);
	assert_int_equal(got->drives.n, drives);
	hardware_free(got);
	hardware_free(h);
}

#define VMX "config.version = \"8\"\nvirtualHW.version = \"14\"\ndisplayName = \"x\"\n"

/* Lines of a place without a disk are replaced, a full controller isn't filled over, its name is its owner's. */
static void test_added_disk(void **state)
{
	struct buf b;

	(void)state;
	edit_added("a.vmx", VMX "scsi0.present = \"TRUE\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"a.vmdk\"\nscsi0:1.present = \"FALSE\"\n", MACHINE_VMWARE, &b);
	assert_int_equal(count((const char *)b.p, "scsi0:1.present"), 1);
	assert_non_null(strstr((const char *)b.p, "scsi0:1.fileName = \"extra.vmdk\""));
	buf_done(&b);
	edit_added("a.vmx", VMX "sata0.present = \"FALSE\"\nide0:0.present = \"TRUE\"\nide0:0.fileName = \"a.vmdk\"\nide0:1.present = \"TRUE\"\nide0:1.fileName = \"b.vmdk\"\n"
		   "ide1:0.present = \"TRUE\"\nide1:0.fileName = \"c.vmdk\"\nide1:1.present = \"TRUE\"\nide1:1.fileName = \"d.vmdk\"\n", MACHINE_VMWARE, &b);
	assert_int_equal(count((const char *)b.p, "sata0.present"), 1);
	assert_non_null(strstr((const char *)b.p, "sata0:2.fileName = \"extra.vmdk\""));
	buf_done(&b);
	edit_added("a.vbox", "<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\"><Machine uuid=\"{" M "}\" name=\"x\">"
		   "<MediaRegistry><HardDisks><HardDisk uuid=\"{" M "}\" location=\"a.vdi\" format=\"VDI\" type=\"Normal\"/></HardDisks></MediaRegistry><Hardware>"
		   "<StorageControllers><StorageController name=\"My disks\" type=\"AHCI\" PortCount=\"1\"><AttachedDevice type=\"HardDisk\" port=\"0\"><Image uuid=\"{" M "}\"/></AttachedDevice>"
		   "</StorageController></StorageControllers></Hardware></Machine></VirtualBox>", MACHINE_VIRTUALBOX, &b);
	assert_int_equal(count((const char *)b.p, "type=\"AHCI\""), 1);
	assert_non_null(strstr((const char *)b.p, "PortCount=\"2\""));
	buf_done(&b);
}

/* What libvirt refuses in a name; a 32-bit guest runs on a 64-bit CPU, a 64-bit one that was called otherwise on no other. */
static void test_libvirt_takes(void **state)
{
	static const char text[] = VMX "guestOS = \"other\"\nscsi0.present = \"TRUE\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"a.vmdk\"\n";
	struct hardware *h = read_text("a.vmx", text, sizeof(text) - 1, MACHINE_VMWARE);
	struct err e = ERR_INIT;
	struct buf b;

	(void)state;
	assert_int_equal(machine_text(&h->name, "we/b\nx", &e), 0);
	assert_int_equal(machine_text(&drive(h, 0)->file, "x.qcow2", &e), 0);
	drive(h, 0)->format = "qcow2";
	assert_int_equal(hardware_new_ids(h, MACHINE_LIBVIRT, false, NULL, &e), 0);
	assert_int_equal(hardware_fit(h, MACHINE_LIBVIRT, &e), 0);
	write_text(h, &(struct hardware_write_opts){ .to = MACHINE_LIBVIRT, .dir = "/vm" }, &b);
	assert_non_null(strstr((const char *)b.p, "<name>we_b_x</name>"));
	assert_non_null(strstr((const char *)b.p, "arch=\"x86_64\""));
	assert_true(told(h, "name"));
	hardware_free(h);
	buf_done(&b);
}

/* Servers aren't clients, whose names begin alike; what is old is known, too. */
static void test_guests(void **state)
{
	static const struct {
		const char *vmware, *vbox;
	} cases[] = {
		{ "windows9-64", "Windows10" }, { "windows9srv-64", "Windows2016" }, { "windows8srv-64", "Windows2012" },
		{ "windows8-64", "Windows8" }, { "windows7srv-64", "Windows2008" }, { "windows7", "Windows7" },
		{ "windows2019srv-64", "Windows2019" }, { "windows2019srvnext-64", "Windows2022" },
		{ "windows2022srvnext-64", "Windows2025" }, { "windows11-64", "Windows11" }, { "winxppro", "WindowsXP" },
		{ "winvista-64", "WindowsVista" }, { "winnetenterprise-64", "Windows2003" }, { "longhorn-64", "Windows2008" },
		{ "other3xlinux-64", "Linux" }, { "ubuntu-64", "Ubuntu" }, { "sles12-64", "SUSE" }, { "solaris11-64", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_string_equal(hardware_guest(MACHINE_VMWARE, cases[i].vmware)->vbox, cases[i].vbox);
}

/* QEMU takes no volume as a file, nor a file as a volume. */
static void test_device(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	for (int edit = 0; edit < 2; edit++) {
		struct hardware *h = source(MACHINE_LIBVIRT);
		struct hardware_write_opts o = { .to = MACHINE_LIBVIRT, .dir = "/vm" };
		struct buf b;

		give_files(h, MACHINE_LIBVIRT);
		drive(h, 0)->device = true;
		drive(h, 0)->format = "raw";
		assert_int_equal(hardware_new_ids(h, MACHINE_LIBVIRT, false, NULL, &e), 0);
		if (edit) {
			o.text = libvirt;
			o.len = strlen(libvirt);
		} else
			assert_int_equal(hardware_fit(h, MACHINE_LIBVIRT, &e), 0);
		write_text(h, &o, &b);
		assert_non_null(strstr((const char *)b.p, "<source dev=\"/vm/disk 0 &amp;.qcow2\""));
		assert_non_null(strstr((const char *)b.p, "<disk type=\"block\""));
		assert_non_null(strstr((const char *)b.p, "<source file=\"/vm/disk 1 &amp;.qcow2\""));
		assert_null(strstr((const char *)b.p, "/dev/sdx"));
		buf_done(&b);
		hardware_free(h);
	}
}

static void test_ids(void **state)
{
	struct hardware *a = source(MACHINE_LIBVIRT), *b = source(MACHINE_LIBVIRT);
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(hardware_new_ids(a, MACHINE_VMWARE, false, "x", &e), 0);
	assert_int_equal(hardware_new_ids(b, MACHINE_VMWARE, false, "x", &e), 0);
	assert_string_equal(a->uuid, b->uuid);
	assert_string_equal(a->nics.p[0].mac, b->nics.p[0].mac);
	assert_string_not_equal(a->nics.p[0].mac, a->nics.p[1].mac);
	assert_memory_equal(a->nics.p[0].mac, "00:50:56:", 9);
	assert_int_equal(hardware_new_ids(b, MACHINE_VMWARE, false, NULL, &e), 0);
	assert_string_not_equal(a->uuid, b->uuid);
	hardware_free(a);
	hardware_free(b);
}

/* Names of strangers in XML and in a dictionary. */
static void test_escapes(void **state)
{
	static const char bad[] = "a\"b|c<d>&'e\\f\tg\x01h";
	struct err e = ERR_INIT;
	struct hardware *h = NULL, *got;

	(void)state;
	for (enum machine_kind k = MACHINE_LIBVIRT; k <= MACHINE_VMWARE; k++) {
		static const char *const names[] = { "a.xml", "a.vbox", "a.vmx" };
		struct buf b;

		assert_int_equal(hardware_new(bad, &h, &e), 0);
		assert_int_equal(hardware_new_ids(h, k, false, NULL, &e), 0);
		assert_int_equal(hardware_fit(h, k, &e), 0);
		write_text(h, &(struct hardware_write_opts){ .to = k, .dir = "/" }, &b);
		got = read_text(names[k], (const char *)b.p, b.len - 1, k);
		assert_string_equal(got->name, k == MACHINE_VMWARE ? bad : "a\"b|c<d>&'e\\f\tg\\x01h");
		hardware_free(got);
		hardware_free(h);
		buf_done(&b);
	}
}

/* More disks than a bus has places for. */
static void test_places(void **state)
{
	struct err e = ERR_INIT;
	struct hardware *h = NULL;

	(void)state;
	assert_int_equal(hardware_new("many", &h, &e), 0);
	for (int i = 0; i < 40; i++) {
		struct hardware_drive *d = hardware_add_disk(h, "d", &e);

		assert_non_null(d);
		d->bus = i < 6 ? BUS_IDE : BUS_SCSI;
		d->adapter = i < 6 ? ADAPTER_OTHER : ADAPTER_LSISAS;
		d->controller = d->unit = 0;
		assert_int_equal(machine_text(&d->file, "f", &e), 0);
		d->format = "vmdk";
	}
	assert_int_equal(hardware_fit(h, MACHINE_VMWARE, &e), 0);
	for (size_t i = 0; i < h->drives.n; i++)
		for (size_t k = 0; k < i; k++)
			assert_false(h->drives.p[i].bus == h->drives.p[k].bus && h->drives.p[i].unit == h->drives.p[k].unit &&
				     h->drives.p[i].controller == h->drives.p[k].controller);
	assert_int_equal(h->drives.p[5].bus, BUS_SATA);
	hardware_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read), cmocka_unit_test(test_matrix), cmocka_unit_test(test_scsi_targets), cmocka_unit_test(test_edit),
		cmocka_unit_test(test_other_disks), cmocka_unit_test(test_device), cmocka_unit_test(test_guests), cmocka_unit_test(test_libvirt_takes), cmocka_unit_test(test_added_disk), cmocka_unit_test(test_ids), cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
