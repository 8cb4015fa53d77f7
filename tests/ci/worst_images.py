"""worst_images.py FOLDER: as worst_inputs.py, for images and machines' descriptions: 1 MiB that costs a reader as much as it can.

FOLDER/TARGET/NAME is for tests/fuzz/fuzz_TARGET.c.  What is in FOLDER.files/FORMAT/NAME is for the program: sparse files of
which no more than 1 MiB is not zero.
"""
import gzip
import bz2
import io
import lzma
import os
import random
import struct
import sys
import tarfile
import uuid
import zlib

import zstandard
from vhd_model import guid, vhd_footer, vhd_sum, vhdx_entry, vhdx_sum

MIB = 1 << 20
out = sys.argv[1]
sys.argv[1:] = []


def put(target, name, data):
    """The input, cut to 1 MiB and what a target takes from its head."""
    os.makedirs(f"{out}/{target}", exist_ok=True)
    path = f"{out}/{target}/{name}"
    while os.path.exists(path):     # worst_inputs.py has one of that name
        path += "-too"
    with open(path, "wb") as f:
        f.write((data.encode() if isinstance(data, str) else data)[: MIB + 8])


def rows(row, size=MIB - 12000):
    """As many rows as have room, joined: row(i) is text."""
    made, length, i = [], 0, 0
    while True:
        r = row(i)
        length += len(r)
        if length > size:
            return "".join(made)
        made.append(r)
        i += 1


def ident(i):
    return "{" + str(uuid.UUID(int=i + 1)) + "}"


# --- VirtualBox ------------------------------------------------------------------------------------------------------------
def vbox(name, media, controllers="", snapshots="", current=""):
    put("vbox", name, f'<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux"><Machine uuid="{ident(0)}" name="m"{current}>'
        f"<MediaRegistry><HardDisks>{media}</HardDisks></MediaRegistry>{snapshots}"
        f'<StorageControllers><StorageController name="S" type="AHCI" PortCount="30">{controllers}</StorageController></StorageControllers>'
        "</Machine></VirtualBox>")


def medium(i, more="", end="/>"):
    return f'<HardDisk uuid="{ident(i)}" location="{i:x}.vdi" format="VDI"{more}{end}'


def device(i, port=0):
    return f'<AttachedDevice type="HardDisk" port="{port}"><Image uuid="{ident(i)}"/></AttachedDevice>'


def snapshot(i, inner, devices=""):
    return (f'<Snapshot uuid="{ident(900000 + i)}" name="s{i}" timeStamp="2020-01-01T00:00:00Z"><StorageControllers><StorageController name="S" '
            f'type="AHCI">{devices}</StorageController></StorageControllers>{inner}</Snapshot>')


vbox("media", rows(medium), device(1))
vbox("media-same", rows(lambda i: medium(1)), device(1))
vbox("media-no-name", rows(lambda i: "<HardDisk/>"), device(1))
vbox("media-deep", rows(lambda i: medium(i, "", ">")), device(1))
n = 590
vbox("media-chain", "".join(medium(i, "", ">") for i in range(n)) + "</HardDisk>" * n, device(n - 1))
vbox("media-long", medium(1, ' x="' + "y" * (MIB - 2000) + '"'), device(1))
vbox("devices", medium(1), rows(lambda i: device(1, i)))
vbox("devices-of-media", rows(medium, MIB // 2), rows(lambda i: device(i, i), MIB // 3))
wide = "<Snapshots>" + rows(lambda i: snapshot(i, "")) + "</Snapshots>"
vbox("snapshots-wide", medium(1), device(1), snapshot(0, wide)[: MIB - 1000])
deep, k = "", 249
for i in range(k, -1, -1):
    deep = snapshot(i, f"<Snapshots>{deep}</Snapshots>" if deep else "", device(i % 40, 0))
vbox("snapshots-deep", "".join(medium(i) for i in range(40)), device(1), deep, f' currentSnapshot="{ident(900000 + k)}"')
vbox("snapshots-of-devices", "".join(medium(i) for i in range(200)), device(1), snapshot(0, "<Snapshots>" + rows(
    lambda i: snapshot(i + 1, "", "".join(device(x, x) for x in range(100))), MIB - 60000) + "</Snapshots>"))
vbox("extra-data", rows(lambda i: f'<ExtraDataItem name="{i}" value="x"/>'))
vbox("settings", rows(lambda i: f'<Property name="CRYPT/{i}" value="x"/>', MIB // 2) + medium(1), device(1))

# --- VMware ----------------------------------------------------------------------------------------------------------------
disk = lambda c, u: f'scsi{c}:{u}.present = "TRUE"\nscsi{c}:{u}.fileName = "{c}-{u}.vmdk"\n'
vmx = {"keys": rows(lambda i: f'k{i:x} = "v"\n'), "same-key": rows(lambda i: 'scsi0:0.fileName = "a.vmdk"\n'),
       "same-key-cases": rows(lambda i: "".join(c.upper() if i >> k & 1 else c for k, c in enumerate("scsizerofilename")) + ' = "v"\n'),
       "disks": rows(lambda i: disk(i // 16, i % 16)), "buses": rows(lambda i: f'scsi{i}.present = "TRUE"\n'),
       "long-line": "x" * MIB, "long-value": 'a = "' + "v" * (MIB - 10), "escapes": 'a = "' + "|22" * (MIB // 3 - 10) + '"\n',
       "lines": "\n" * MIB, "blanks": " " * MIB, "comments": rows(lambda i: "#\n"), "no-values": rows(lambda i: "a=\n"),
       "quotes": '"' * MIB, "units": rows(lambda i: f'scsi0:{i}.fileName = "x.vmdk"\n'),
       "utf16": ".encoding = \"UTF-16LE\"\n" + "\u00e4" * (MIB // 2 - 40), "gbk": '.encoding = "GBK"\na = "' + "\u00e4" * (MIB // 2 - 40) + '"'}
for name, text in vmx.items():
    put("vmx", name, b"x\0" + text.encode())
    put("vmx", "list-" + name, text)
snap = lambda i, parent: f'snapshot{i}.uid = "{i + 1}"\nsnapshot{i}.parent = "{parent}"\nsnapshot{i}.displayName = "s"\n'
node = lambda i, d=1: f'snapshot{i}.numDisks = "{d}"\nsnapshot{i}.disk0.fileName = "a.vmdk"\nsnapshot{i}.disk0.node = "scsi0:0"\n'
lists = {"chain": lambda i: snap(i, i) + node(i), "backwards": lambda i: snap(i, i + 2) + node(i), "one-parent": lambda i: snap(i, 1) + node(i),
         "own-parent": lambda i: snap(i, i + 1) + node(i), "bare": lambda i: f'snapshot{i}.uid = "{i + 1}"\n',
         "same-uid": lambda i: f'snapshot{i}.uid = "1"\n', "claims": lambda i: snap(i, 1) + node(i, 4294967295),
         "far": lambda i: f'snapshot{i * 99991}.uid = "{i}"\n'}
for name, row in lists.items():
    put("vmx", "snapshots-" + name, 'snapshot.numSnapshots = "4096"\nsnapshot.current = "2"\n' + rows(row))
put("vmx", "snapshots-claim", 'snapshot.numSnapshots = "4294967295"\n')
put("vmx", "snapshots-disks", 'snapshot.numSnapshots = "1"\n' + snap(0, 0) + 'snapshot0.numDisks = "60000"\n' + rows(
    lambda i: f'snapshot0.disk{i}.fileName = "a.vmdk"\nsnapshot0.disk{i}.node = "scsi0:0"\n'))

# --- libvirt ---------------------------------------------------------------------------------------------------------------
def libvirt(name, devices, more=""):
    text = f"<domain type='kvm'><name>m</name>{more}<devices>{devices}</devices></domain>"
    put("libvirt", name, text)
    put("vbox", "libvirt-" + name, text)


target = lambda i: f"<target dev='vd{i:x}' bus='virtio'/>"
libvirt("disks", rows(lambda i: f"<disk type='file' device='disk'><source file='/{i:x}'/>{target(i)}</disk>"))
libvirt("disks-same", rows(lambda i: f"<disk type='file' device='disk'><source file='/a'/>{target(0)}</disk>"))
libvirt("disks-empty", rows(lambda i: "<disk/>"))
libvirt("sources", "<disk type='file'>" + rows(lambda i: "<source file='/a'/>") + target(1) + "</disk>")
libvirt("backing-deep", "<disk type='file'><source file='/a'/>" + rows(lambda i: "<backingStore type='file'><source file='/b'/>"))
n = 1100
libvirt("backing-chain", "<disk type='file'><source file='/a'/>" + "<backingStore type='file'><format type='qcow2'/><source file='/b'/>" * n +
        "</backingStore>" * n + target(1) + "</disk>")
libvirt("slices", "<disk type='file'><source file='/a'><slices>" + rows(lambda i: "<slice type='storage' offset='1' size='1'/>") +
        "</slices></source>" + target(1) + "</disk>")
libvirt("metadata", "", "<metadata>" + rows(lambda i: "<x:y xmlns:x='z'/>") + "</metadata>")
libvirt("hosts", "<disk type='network'><source protocol='rbd' name='x'>" + rows(lambda i: f"<host name='{i}'/>") + "</source></disk>")
libvirt("serials", rows(lambda i: f"<disk type='file'><serial>{i}</serial>{target(i)}<source file='/{i}'/></disk>"))

# --- OVF -------------------------------------------------------------------------------------------------------------------
def ovf(name, references, disks, items, hardware="<VirtualHardwareSection>"):
    put("ovf", name, '<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd='
        f'"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"><References>{references}</References><DiskSection>'
        f'<Info/>{disks}</DiskSection><VirtualSystem ovf:id="m"><Info/>{hardware}<Info/>{items}</VirtualHardwareSection></VirtualSystem></Envelope>')


ovf_file = lambda i: f'<File ovf:href="{i:x}.vmdk" ovf:id="f{i:x}"/>'
ovf_disk = lambda i, f=None: f'<Disk ovf:capacity="1" ovf:diskId="d{i:x}" ovf:fileRef="f{i if f is None else f:x}"/>'
item = lambda i, kind, parent, more="": (f"<Item><rasd:InstanceID>{i}</rasd:InstanceID><rasd:ResourceType>{kind}</rasd:ResourceType>"
                                         f"<rasd:Parent>{parent}</rasd:Parent>{more}</Item>")
drive = lambda i, d: item(i + 10, 17, 1, f"<rasd:AddressOnParent>{i}</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d{d:x}</rasd:HostResource>")
bus = item(1, 6, 0)
ovf("files", rows(ovf_file), ovf_disk(1), bus + drive(1, 1))
ovf("files-and-disks", rows(ovf_file, MIB // 3), rows(ovf_disk, MIB // 2), bus + drive(1, 1))
ovf("drives", ovf_file(1), ovf_disk(1), bus + rows(lambda i: drive(i, 1)))
ovf("drives-of-disks", "".join(ovf_file(i) for i in range(3000)), "".join(ovf_disk(i) for i in range(3000)), bus + rows(lambda i: drive(i, 2999 - i), MIB // 2))
ovf("controllers", ovf_file(1), ovf_disk(1), rows(lambda i: item(i, 6, i + 1)))
ovf("same-ids", rows(lambda i: ovf_file(1), MIB // 3), rows(lambda i: ovf_disk(1), MIB // 3), bus + drive(1, 1))
ovf("parents", ovf_file(1), "".join(f'<Disk ovf:capacity="1" ovf:diskId="d{i:x}" ovf:fileRef="f1" ovf:parentRef="d{i + 1:x}"/>' for i in range(9000)),
    bus + drive(1, 1))
ovf("deep", "", "", "<Item>" * (MIB // 8))
ovf("systems", ovf_file(1), ovf_disk(1), "", rows(lambda i: f'</VirtualSystem><VirtualSystem ovf:id="s{i}">') + "<VirtualHardwareSection>")


# --- qcow ------------------------------------------------------------------------------------------------------------------
def qcow(bits, l2_bits, size, l1, body, at=None):
    """Header, L1 table of offsets in the body, body behind it at a multiple of 512 (at: returned for entries)."""
    start = (48 + 8 * len(l1) + 511) // 512 * 512
    head = struct.pack(">IIQIIQBBHIQ", 0x514649FB, 1, 0, 0, 0, size, bits, l2_bits, 0, 0, 48)
    return (head + b"".join(struct.pack(">Q", start + o if o is not None else 0) for o in l1)).ljust(start, b"\0") + body(start)


def tables(start, n, entries):
    """n L2 tables of 64 entries: entries(table, i) in the cluster area, which starts behind them."""
    first = start + n * 512
    return b"".join(struct.pack(">64Q", *[entries(t, i, first) for i in range(64)]) for t in range(n))


n = 1500
clusters = b"\1" * 512 * 64
spread = [i * 512 for i in range(n)]
put("qcow", "alternating", qcow(9, 6, n * 64 * 512, spread, lambda s: tables(s, n, lambda t, i, f: f + i * 512 if i % 2 else 0) + clusters))
put("qcow", "backwards", qcow(9, 6, n * 64 * 512, spread, lambda s: tables(s, n, lambda t, i, f: f + (63 - i) * 512) + clusters))
put("qcow", "same-table", qcow(9, 6, 100000 * 64 * 512, [0] * 100000, lambda s: tables(s, 1, lambda t, i, f: f + i * 512) + clusters))
put("qcow", "empty", qcow(9, 6, 130000 * 64 * 512, [None] * 130000, lambda s: b""))
put("qcow", "large", qcow(16, 13, 131000 << 29, [None] * 131000, lambda s: b""))
put("qcow", "claims", qcow(9, 6, (1 << 63) - 1, [None] * 100, lambda s: bytes(MIB // 2)))
packed = zlib.compressobj(9, zlib.DEFLATED, -12)
packed = packed.compress(bytes([1]) * 65536) + packed.flush()
big = lambda s, n, step: b"".join(struct.pack(">8192Q", *[1 << 63 | len(packed) << 47 | (s + n * 65536 + i % 100 * step)
                                                         for i in range(8192)]) for t in range(n)) + (packed.ljust(512, b"\0") * 200)[: 2 * 65536]
put("qcow", "compressed-same", qcow(16, 13, 12 << 29, [i << 16 for i in range(12)], lambda s: big(s, 12, 0)))
put("qcow", "compressed-each", qcow(16, 13, 12 << 29, [i << 16 for i in range(12)], lambda s: big(s, 12, 512)))


# --- VHD -------------------------------------------------------------------------------------------------------------------
def vhd(name, block, entries, size=None, kind=3, data=b"", locators=b"", where=None):
    count = len(entries)
    size = block * count if size is None else size
    header = struct.pack(">8sQQIIII16sII512s", b"cxsparse", (1 << 64) - 1, 1536, 0x10000, count, block, 0, b"\1" * 16 if kind == 4 else bytes(16), 9, 0, "a".encode("utf-16-be") if kind == 4 else b"") + locators.ljust(448, b"\0")
    footer = vhd_footer(kind, size, bytes(range(16)))
    table = b"".join(struct.pack(">I", x) for x in entries)
    image = footer + vhd_sum(header, 36)[:1024] + table.ljust((len(table) + 511) // 512 * 512, b"\xff") + data
    put("vhd", name, b"\1" + image[: MIB - 512] + footer)


N = (MIB - 8192) // 4
vhd("free", 512, [0xFFFFFFFF] * N)
vhd("free-large", 2 << 20, [0xFFFFFFFF] * N, 2000 << 30)
vhd("same", 4096, [2100] * N)
vhd("far", 2 << 20, [0x40000000 + i * 5000 for i in range(N)], 500 << 30)
for order in "forwards", "backwards", "mixed":
    n = 950
    numbers = list(range(n)) if order == "forwards" else list(range(n))[::-1]
    if order == "mixed":
        random.Random(1).shuffle(numbers)
    start = (1536 + 4 * n + 511) // 512
    for kind, bits in (3, b"\xff"), (4, b"\x55"):
        vhd(f"{order}-{kind}", 512, [start + 2 * i for i in numbers], None, kind, (bits.ljust(512, bits) + b"\1" * 512) * n)
n = 15		# the bitmaps say: every other sector
vhd("bitmaps", 64 << 10, [(1536 + 512) // 512 + i * 129 for i in range(n)], None, 4, (b"\x55" * 512 + b"\1" * 65536) * n)
code = struct.pack(">4sIIIQ", b"W2ru", 2048, MIB - 4096, 0, 2048) * 8
vhd("locators", 4096, [0xFFFFFFFF] * 10, None, 4, "a\\".encode("utf-16-le") * (MIB // 4 - 1200), code)

# --- VMDK ------------------------------------------------------------------------------------------------------------------
DESCRIPTOR = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="custom"\n'
raw_lines = {"zero-lines": lambda i: "RW 1 ZERO\n", "flat-lines": lambda i: 'RW 1 FLAT "a" 0\n', "sparse-lines": lambda i: 'RW 9 SPARSE "a"\n',
             "noaccess": lambda i: 'NOACCESS 1 SPARSE "a"\n', "names": lambda i: f'RW 1 FLAT "{i}"\n', "data-base": lambda i: f'ddb.a{i} = "b"\n',
             "same-key": lambda i: "CID=1\n", "comments": lambda i: "#\n", "changes": lambda i: 'changeTrackPath="a"\n',
             "large-lines": lambda i: f"RW {1 << 40} ZERO\n", "quotes": lambda i: 'RW 1 FLAT "\n'}
for name, row in raw_lines.items():
    for amount, text in ("all", rows(row)), ("4096", "".join(row(i) for i in range(4096))):
        put("vmdk_descriptor", f"{name}-{amount}", DESCRIPTOR + text)
        put("vmdk", f"{name}-{amount}", (DESCRIPTOR + text).encode() + b"\0" + b"\1" * 4096)
for name, piece in {"spaces": " ", "breaks": "\r\n", "quotes": '"', "equals": "=", "text": "a", "commas": "\\"}.items():
    put("vmdk_descriptor", "all-" + name, DESCRIPTOR + piece * (MIB // len(piece) - 200))
    put("vmdk_descriptor", "value-" + name, DESCRIPTOR + 'parentFileNameHint="' + piece * (MIB // len(piece) - 200) + '"\n')
put("vmdk_descriptor", "encoding", '# Disk DescriptorFile\nencoding="windows-1252"\n' + DESCRIPTOR[22:] + "".join(
    'RW 1 FLAT "' + "\u00e4" * 500 + '" 0\n' for i in range(1000)))


def header(flags, capacity, grain, entries, copy, dir_, compression=0, version=1):
    return struct.pack("<IIIQQQQIQQQB4sH", 0x564D444B, version, flags, capacity, grain, 0, 0, entries, copy, dir_, 8, 0, b"\n \r\n",
                       compression).ljust(512, b"\0")


def hosted(name, grain, table, ntables, directory, capacity=None, flags=1, copy=0, compression=0, data=b"", lead=0, version=1, target="vmdk"):
    """directory(t): number of the table in tables; each has 512 entries."""
    size = (ntables * 4 + 511) // 512
    at = 1 + size
    text = header(flags, capacity or ntables * 512 * grain, grain, 512, copy, 1, compression, version)
    text += b"".join(struct.pack("<I", at + 4 * directory(t)) for t in range(ntables)).ljust(size * 512, b"\0")
    distinct = max(directory(t) for t in range(ntables)) + 1
    first = at + 4 * distinct
    for t in range(distinct):
        text += struct.pack("<512I", *[table(t, i, first) for i in range(512)])
    put(target, "hosted-" + name, text + data)


hosted("alternating", 1, lambda t, i, f: f + i % 300 if i % 2 else 0, 400, lambda t: t, data=b"\1" * 512 * 300)
hosted("backwards", 1, lambda t, i, f: f + 299 - i % 300, 400, lambda t: t, data=b"\1" * 512 * 300)
hosted("same-table", 1, lambda t, i, f: f + i, 100000, lambda t: 0, data=b"\1" * 512 * 512)
hosted("same-table-empty", 128, lambda t, i, f: 0, 250000, lambda t: 0)
hosted("zeros", 128, lambda t, i, f: i % 2, 400, lambda t: t, flags=5, version=2)
hosted("bad-tables", 1, lambda t, i, f: 0x7FFFFFFF, 400, lambda t: t, data=b"\1" * 512)
hosted("copies", 1, lambda t, i, f: 0x7FFFFFFF if i == 511 else f, 400, lambda t: t, flags=3, copy=1, data=b"\1" * 512)
put("vmdk", "claims", header(1, 1 << 50, 1, 1 << 25, 0, 1) + bytes(MIB // 2))
put("vmdk", "tables-large", header(1, 1 << 34, 1, 1 << 20, 0, 1) + struct.pack("<I", 2) * 16384 + bytes(MIB // 2))
for grain in 128, 4096:
    piece = zlib.compress(bytes([1]) * grain * 512, 9)
    for step in 0, 1:
        one = struct.pack("<QI", 0, len(piece)) + piece
        one = one.ljust((len(one) + 511) // 512 * 512, b"\0")
        k = len(one) // 512
        # by the marker's word each is the grain of another place, and as the place wants it
        blob = lambda f: b"".join((struct.pack("<QI", i * grain, len(piece)) + piece).ljust(k * 512, b"\0") for i in range(512 // k))
        hosted(f"stream-{grain}-{step}", grain, lambda t, i, f: f + i % (512 // k) * k * step, 1, lambda t: 0, flags=0x30001, compression=1, version=3, data=blob(0))
        hosted(f"stream-bare-{grain}-{step}", grain, lambda t, i, f: f + i % (512 // k) * k * step, 200, lambda t: t, flags=0x10001, compression=1, version=3,
               data=piece.ljust(k * 512, b"\0") * (512 // k))
put("vmdk", "markers", header(0x30001, 1 << 20, 128, 512, 0, (1 << 64) - 1, 1, 3) + (struct.pack("<QII", 0, 0, 3).ljust(512, b"\0")) * 2040)
for name, row in ("same", lambda i: 5), ("each", lambda i: 5 + i * 32), ("empty", lambda i: 0):
    # 4096 entries of 4 bytes, sectors as grains
    n = 60
    text = struct.pack("<8I", 0x44574F43, 1, 3, 4096 * n, 1, 4, n, 2000).ljust(2048, b"\0")
    text += struct.pack(f"<{n}I", *[row(i) for i in range(n)]).ljust(512, b"\0")
    text += struct.pack("<4096I", *[2000 + i % 40 if i % 2 else 0 for i in range(4096)]) * n
    put("vmdk_cowd", name, text.ljust(2000 * 512, b"\0") + b"\1" * 40 * 512)
put("vmdk_cowd", "directory", struct.pack("<8I", 0x44574F43, 1, 3, 0xFFFFFFFF, 1, 4, 0xFFFFFFFF >> 12, 2000).ljust(2048, b"\0") + b"\5\0\0\0" * 250000)


def sesparse(name, n, row, entry):
    """n tables of 4096 entries of 8 bytes, found by row(i) from the directory."""
    dir_sectors = (n * 8 + 511) // 512
    dir_sectors += -dir_sectors % 8
    table = 8 + dir_sectors
    there = max(row(i) for i in range(n)) + 1
    grains = (table + there * 64 + 7) // 8 * 8
    h = struct.pack("<10Q", 0xCAFEBABE, 0x200000001, 4096 * 8 * n, 8, 64, 0, 0, 0, 0, 0)
    for at, size in (1, 1), (2, 1), (3, 1), (8, dir_sectors), (table, there * 64), (0, 0), (0, 0), (grains, 1 << 20):
        h += struct.pack("<2Q", at, size)
    text = h.ljust(512, b"\0") + struct.pack("<4Q", 0xCAFECAFE, 1, 1, 0)
    text = text.ljust(4096, b"\0") + b"".join(struct.pack("<Q", 0x10000000 << 32 | row(i)) for i in range(n)).ljust(dir_sectors * 512, b"\0")
    text += struct.pack("<4096Q", *[entry(i) for i in range(4096)]) * there
    put("vmdk_sesparse", "of-" + name, text.ljust(grains * 512, b"\0") + b"\1" * 4096 * 8)


data_entry = lambda n: 3 << 60 | (n & 0xFFF) << 48 | n >> 12
sesparse("alternating", 28, lambda i: i, lambda i: data_entry(i % 8) if i % 2 else 0)
sesparse("backwards", 28, lambda i: i, lambda i: data_entry(7 - i % 8))
sesparse("same-table", 100000, lambda i: 0, lambda i: data_entry(i % 8))
sesparse("same-table-zeros", 100000, lambda i: 0, lambda i: (1 + i % 2) << 60)


# --- LUKS ------------------------------------------------------------------------------------------------------------------
def luks(name, slots, stripes=4000, key=64, digest=1000, hash_="sha256", payload=4096):
    material = (key * 4000 + 511) // 512
    text = struct.pack(">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", hash_.encode(), payload, key, b"d" * 20, b"s" * 32, digest,
                       b"11111111-1111-1111-1111-111111111111")
    for i in range(8):
        at = 8 + i % max(len(slots), 1) * ((material + 7) // 8 * 8) if i < len(slots) else 8
        text += struct.pack(">II32sII", 0x00AC71F3 if i < len(slots) else 0x0000DEAD, slots[i] if i < len(slots) else 0, b"s" * 32, at, stripes)
    put("luks", name, text.ljust(MIB - 512, b"k"))


for h in "sha1", "sha512", "ripemd160":
    luks(f"slots-{h}", [2300] * 3, hash_=h, payload=2000)
luks("slots-many", [2000] * 8, key=16, payload=2000)
luks("slots-aes-128", [2000] * 3, key=32, payload=2000)
luks("iterations", [0xFFFFFFFF] * 3, digest=0xFFFFFFFF, payload=2000)
luks("stripes", [1000] * 3, stripes=0xFFFFFFFF)


# --- archives ----------------------------------------------------------------------------------------------------------------
GZ, XZ, ZST, BZ2, LZ4, TAR = range(6)
RAW = 8


def archive(name, ending, data):
    for raw in 0, RAW:
        put("archive", f"{name}-{raw}", bytes([ending | raw]) + data[:MIB])


def tar(members):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=tarfile.PAX_FORMAT) as t:
        for info in members:
            t.addfile(info)
            if b.tell() > MIB:
                break
    return b.getvalue()


def member(name, **headers):
    info = tarfile.TarInfo(name)
    info.pax_headers = headers
    return info


zeros = bytes(64 * MIB)
archive("gz-bomb", GZ, gzip.compress(zeros, 9))
archive("gz-members", GZ, gzip.compress(b"") * (MIB // 20))
archive("gz-small", GZ, gzip.compress(b"x") * (MIB // 21))
archive("xz-bomb", XZ, lzma.compress(zeros))
archive("xz-streams", XZ, lzma.compress(b"") * (MIB // 32))
archive("xz-dictionary", XZ, lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]))
archive("zst-bomb", ZST, zstandard.compress(zeros, 19))
archive("zst-frames", ZST, zstandard.compress(b"") * (MIB // 9))
archive("zst-skip", ZST, struct.pack("<II", 0x184D2A50, 0) * (MIB // 8))
archive("bz2-bomb", BZ2, bz2.compress(zeros))
archive("bz2-streams", BZ2, bz2.compress(b"") * (MIB // 14))
archive("bz2-small", BZ2, bz2.compress(b"x") * (MIB // 37))
archive("lz4-skip", LZ4, struct.pack("<II", 0x184D2A50, 0) * (MIB // 8))
archive("tar-members", TAR, tar(member(f"{i}.vmdk") for i in range(3000)))
archive("tar-same", TAR, tar(member("a") for i in range(3000)))
archive("tar-long-names", TAR, tar(member("d/" * 100 + str(i)) for i in range(3000)))
archive("tar-pax", TAR, tar([member("a", **{f"k{i}": "v" for i in range(40000)})]))
archive("tar-pax-one", TAR, tar([member("a", comment="v" * (MIB - 4000))]))
archive("tar-pax-same", TAR, tar(member("a", path="b" * 1000) for i in range(3000)))
archive("tar-map", TAR, tar([member("a", **{"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(1 << 40),
                                            "GNU.sparse.map": ",".join(f"{i * 1024},1" for i in range(100000))})]))
archive("tar-in-gz", 6, gzip.compress(tar(member(f"{i}") for i in range(3000)) + zeros, 9))

# --- for the program: sparse files -------------------------------------------------------------------------------------------
def file(format_, name, size, pieces):
    os.makedirs(f"{out}.files/{format_}", exist_ok=True)
    with open(f"{out}.files/{format_}/{name}", "wb") as f:
        f.truncate(size)
        for at, data in pieces.items():
            f.seek(at)
            f.write(data)


def sealed(b, length):
    return vhdx_sum(b.ljust(length, b"\0"))


FILE_PARAMS, DISK_SIZE, LOGICAL, PHYSICAL, IDENT, LOCATOR = (
    "CAA16737-FA36-4D43-B3B6-33F0AA44E76B", "2FA54224-CD1B-4876-B211-5DBED83BF4B8", "8141BF1D-A96F-4709-BA47-F233A8FAAB5F",
    "CDA348C7-445D-4471-9CC9-E9885251C556", "BECA12AB-B2E6-4523-93EF-C309E000C746", "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")


def vhdx(name, size, block, bat, size_of_file, locator=None, log=b"", log_at=MIB, log_bytes=MIB, extra=(), pieces=()):
    """Log at 1 MiB, metadata at 2 MiB, block table where it has room: 4 MiB."""
    log_id = bytes(range(1, 17)) if log else bytes(16)
    items = [(FILE_PARAMS, struct.pack("<II", block, 2 if locator else 0)), (DISK_SIZE, struct.pack("<Q", size)), (LOGICAL, struct.pack("<I", 512)),
             (PHYSICAL, struct.pack("<I", 4096)), (IDENT, bytes(range(16)))] + ([(LOCATOR, locator)] if locator else [])
    table, body = struct.pack("<8sHH20s", b"metadata", 0, len(items), b""), b""
    for g, v in items:
        table += struct.pack("<16sIIII", guid(g), 65536 + len(body), len(v), 4, 0)
        body += v
    bat_bytes = (len(bat) + MIB - 1) // MIB * MIB or MIB
    regions = [("8B7CA206-4790-4B9A-B8FE-575F050F886E", 2 * MIB, 2 * MIB), ("2DC27766-F623-4200-9D64-115E9BFD4A08", 4 * MIB, bat_bytes)] + list(extra)
    region = struct.pack("<4sIII", b"regi", 0, len(regions), 0) + b"".join(struct.pack("<16sQII", guid(g), at, n, 0) for g, at, n in regions)
    head = lambda n: sealed(struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, n, bytes(16), bytes(range(16)), log_id, 0, 1, log_bytes, log_at), 4096)
    parts = {0: b"vhdxfile", 65536: head(1), 131072: head(2), 196608: sealed(region, 65536), 262144: sealed(region, 65536), log_at: log,
             2 * MIB: table.ljust(65536, b"\0") + body, 4 * MIB: bat}
    file("vhdx", name, size_of_file, {**parts, **dict(pieces)})


def locator(pairs):
    return guid("B04AEFB7-D19E-4A81-B789-25B8E9445913") + struct.pack("<HH", 0, len(pairs)) + b"".join(struct.pack("<IIHH", *p) for p in pairs)


text = ("a" * 32000).encode("utf-16-le")
first = 20 + 12 * 65535
vhdx("locator-one-text", 1 << 30, MIB, bytes(16), 8 * MIB, locator([(first, first, len(text), len(text))] * 65535) + text)
name = "relative_path".encode("utf-16-le")
vhdx("locator-same-key", 1 << 30, MIB, bytes(16), 8 * MIB, locator([(first, first, len(name), 60000)] * 65535) + name + text)
vhdx("locator-claims", 1 << 30, MIB, bytes(16), 8 * MIB, locator([(0xFFFFFFFF, 0xFFFFFFFF, 65534, 65534)] * 65535))
N = 120000
vhdx("free", N << 20, MIB, struct.pack("<Q", 2) * N, 8 * MIB)
vhdx("alternating", (N // 2) << 20, MIB, b"".join(struct.pack("<QQ", (8 + i) << 20 | 6, 0) for i in range(N // 4)), (N // 4 + 16) << 20)
vhdx("backwards", (N // 2) << 20, MIB, b"".join(struct.pack("<Q", (8 + N // 2 - i) << 20 | 6) for i in range(N // 2)), (N // 2 + 16) << 20)
vhdx("same-block", (N // 2) << 20, MIB, struct.pack("<Q", 8 << 20 | 6) * (N // 2), 16 << 20)
vhdx("claims", 64 << 40, MIB, b"", 8 * MIB)
vhdx("claims-large", 64 << 40, 256 << 20, bytes(65536), 8 * MIB)
vhdx("regions", 1 << 30, MIB, bytes(16), 3 << 30, extra=[(str(uuid.UUID(int=i + 9)), (8 + i) * MIB, MIB) for i in range(2045)])
log_id = bytes(range(1, 17))


def log_of(entries, size=MIB):
    ring, pos = bytearray(size), 0
    for i, pages in enumerate(entries):
        pos = vhdx_entry(ring, pos, i + 1, 0, log_id, pages, 8 * MIB)
    return bytes(ring)


vhdx("log-entries", 1 << 30, MIB, bytes(16), 8 * MIB, log=log_of([{4 * MIB + 8192: bytes(4096)}] * 250))
vhdx("log-zeros", 1 << 30, MIB, bytes(16), 64 * MIB, log=log_of([{4 * MIB + 4096 * (i * 100 + k): bytes(4096) for k in range(126)} for i in range(120)]))
vhdx("log-broken", 1 << 30, MIB, bytes(16), 8 * MIB, log=b"".join(log_of([{4 * MIB: bytes(4096)}], 4096)[:4000].ljust(4096, b"x") for i in range(256)))
# each of the entries in turn says that the log begins with it
chain = bytearray(MIB)
for i in range(255):
    vhdx_entry(chain, i * 4096, i + 1, i * 4096, log_id, {4 * MIB + 8192: bytes(4096)}, 8 * MIB)
vhdx("log-tails", 1 << 30, MIB, bytes(16), 8 * MIB, log=bytes(chain))
# an entry as long as the log is claimed at each of its sectors
vhdx("log-long-entries", 1 << 30, MIB, bytes(16), 8 * MIB, log=b"".join(struct.pack(
    "<4sIIIQII16sQQ", b"loge", 1, MIB, 0, i + 1, 0, 0, log_id, 0, 8 * MIB).ljust(4096, b"\0") for i in range(256)))
# ... of a log that takes 256 MiB of nothing
vhdx("log-large", 1 << 30, MIB, bytes(16), 300 * MIB, log=b"".join(struct.pack(
    "<4sIIIQII16sQQ", b"loge", 1, 256 * MIB, 0, i + 1, 0, 0, log_id, 0, 8 * MIB).ljust(4096, b"\0") for i in range(200)), log_at=32 * MIB,
     log_bytes=256 * MIB)
for format_ in "qcow", "vmdk":
    for name in os.listdir(f"{out}/{format_}"):
        os.makedirs(f"{out}.files/{format_}", exist_ok=True)
        os.link(f"{out}/{format_}/{name}", f"{out}.files/{format_}/{name}")
