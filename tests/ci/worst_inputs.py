"""worst_inputs.py FOLDER: inputs of 1 MiB that cost a parser as much as they can, FOLDER/TARGET/NAME for tests/fuzz/fuzz_TARGET.c."""
import json, os, struct, sys, uuid, zlib
import zstandard

MIB = 1 << 20
HASH, SLOT, SESSION = "0123456789abcdef" * 4, "0123456789abcdef", "0123456789abcdef" * 2
out = sys.argv[1]


def put(target, name, data):
    """The input, cut to 1 MiB and what a target takes from its head."""
    os.makedirs(f"{out}/{target}", exist_ok=True)
    with open(f"{out}/{target}/{name}", "wb") as f:
        f.write((data.encode() if isinstance(data, str) else data)[: MIB + 8])


def rows(row, size=MIB):
    """As many rows as have room: row(i) is text."""
    made, length, i = [], 0, 0
    while True:
        r = row(i)
        length += len(r) + 1
        if length > size:
            return ",".join(made)
        made.append(r)
        i += 1


# --- JSON of any kind, for all who take it ---------------------------------------------------------------------------------
def any_json():
    yield "deep-arrays", '{"a":' + "[" * MIB
    yield "deep-objects", '{"a":' * (MIB // 5)
    yield "deep-closed", '{"a":' + "[" * (MIB // 2 - 5) + "]" * (MIB // 2 - 5) + "}"
    yield "duplicates", "{" + rows(lambda i: '"a":1') + "}"
    yield "members", "{" + rows(lambda i: f'"{i:x}":1') + "}"
    yield "empty-objects", '{"a":[' + rows(lambda i: "{}", MIB - 9) + "]}"
    yield "empty-arrays", '{"a":[' + rows(lambda i: "[]", MIB - 9) + "]}"
    yield "numbers", '{"a":[' + rows(lambda i: "1", MIB - 9) + "]}"
    yield "long-number", '{"format":' + "1" * (MIB - 20) + "}"
    yield "long-real", '{"format":0.' + "1" * (MIB - 20) + "}"
    yield "exponents", '{"a":[' + rows(lambda i: "1e308", MIB - 9) + "]}"
    yield "long-text", '{"vm":"' + "a" * (MIB - 20) + '"}'
    yield "escapes", '{"vm":"' + "\\u00e4" * (MIB // 6 - 4) + '"}'
    yield "percents", '{"host":"' + "%41" * (MIB // 3 - 4) + '"}'
    yield "spaces", " " * MIB + "{}"
    yield "unclosed-text", '{"' + "x" * MIB


for name, text in any_json():
    put("config", name, text)
    put("manifest", name, text)
    put("slot", name, text)
    put("protocol", name, b"\0" + text.encode())

# --- a config, slot records and what a client has seen ----------------------------------------------------------------------
head = {"slot": SLOT, "session": SESSION, "time": 1}
put("config", "heads", '{"heads":[' + rows(lambda i: json.dumps(
    {"slot": SLOT, "session": SESSION, "hash": HASH, "sequence": i + 1, "end": i, "vm": "v" * 64}), MIB - 30) + '],"slots":[]}')
put("config", "slots", '{"heads":[],"slots":[' + rows(lambda i: f'{{"slot":"{i:016x}","serial":1}}', MIB - 30) + "]}")
config = {"format": 1, "draft": True, "repository": SESSION, "instance": SESSION, "created": 1, "incompatible": [], "compatible": [],
          "chunk_size": 65536, "segment_size": 262144, "pack_size": 1 << 25, "lease": 86400, "skew": 1, "settling": 1, "grace": 1,
          "delta": "off", "domains": [], "lock": None}
for member in "incompatible", "compatible", "domains":
    put("config", member, json.dumps(config).replace(f'"{member}": []', f'"{member}":[' + rows(lambda i: f'"{i:x}"', MIB - 600) + "]"))
record = {"slot": SLOT, "sign": HASH, "role": "full", "label": "l" * 100, "kdf": "keyfile", "vms": [], "trusted": True,
          "status": "active", "serial": 1, "time": 1}
put("slot", "vms", json.dumps(record).replace('"vms": []', '"vms":[' + rows(lambda i: f'"{i:x}"', 770000) + "]"))
put("slot", "label", json.dumps({**record, "label": "%ff" * 340000}))

# --- manifests: each array as long as it can be -------------------------------------------------------------------------------
layer = {"path": "", "format": "", "dev": 1, "ino": 1, "size": 1, "mtime": 1, "ctime": 1, "block_device": False, "metadata": HASH,
         "virtual_size": 1}
read = {"how": "full", "bytes_read": 0, "bytes_unchanged": 0, "bytes_audited": 0, "audit_owed": 0}


def disk(i, layers=None):
    return {"name": f"{i:x}", "format": "", "path": "", "domain": "d", "cluster_size": 0, "features": [], "dropped": [],
            "layers": layers if layers is not None else [layer], "read": read}


def state_disk(i):
    return {"disk": i, "root": None, "height": 1, "size": 1, "layer": 0, "date": 0, "vm_clock": 0, "digest": None, "vm_state": None,
            "read": {"how": "full", "bytes_read": 0}}


def manifest(name, **members):
    m = {"format": 1, "vm": "v", "host": "", "start": 1, "end": 1, "writer": SLOT, "session": SESSION, "sequence": 1,
         "previous": None, "complete": True, "problems": [], "machine": {"uuid": None, "kind": None, "source": ""}, "disks": [],
         "states": [], "attachments": [], "tags": [], "pins": [],
         "statistics": {"bytes_read": 0, "bytes_hashed": 0, "bytes_new": 0, "bytes_stored": 0, "milliseconds": 0}}
    m.update(members)
    text = json.dumps(m, separators=(",", ":"))
    assert len(text) <= MIB, (name, len(text))
    put("manifest", name, text)


manifest("disks", disks=[disk(i) for i in range(2400)])
manifest("disks-same-name", disks=[disk(i % 2399) for i in range(2400)])
manifest("layers", disks=[disk(i, [layer] * 1024) for i in range(5)])
manifest("state-of-disks", disks=[disk(i) for i in range(1700)], states=[{"kind": "current", "name": "", "disks": [state_disk(i) for i in range(1700)]}])
manifest("states", disks=[disk(0)], states=[{"kind": "snapshot", "name": "s", "disks": []}] * 20000)
manifest("states-same-disk", disks=[disk(0)] , states=[{"kind": "snapshot", "name": f"{i}", "disks": [state_disk(0)]} for i in range(5500)])
manifest("problems", problems=[{"disk": "", "state": "", "text": ""}] * 27000)
manifest("attachments", attachments=[{"name": "a", "root": None, "height": 1, "size": 1, "mode": 0}] * 4096)
manifest("words", disks=[{**disk(0), "features": ["f"] * 4096, "dropped": ["d"] * 4096}], tags=["t"] * 4096, pins=["p"] * 4096)
manifest("tags", tags=["%41" * 80] * 4000)

# --- protocol objects ------------------------------------------------------------------------------------------------------------
types = ["session", "renewal", "reading", "end", "collector", "epoch", "eviction", "sweep", "doomed", "tombstone", "restore", "extension"]


def name_of(prefix, i):
    return f"{prefix}/{SLOT}/{SESSION}/{i * 0x9e3779b97f4a7c15f39cc0605cedc835 % (1 << 256):064x}"


def names(prefix, size, order=1):
    n = size // (len(name_of(prefix, 0)) + 3)
    return [name_of(prefix, i) for i in range(n)][::order]


def protocol(name, of, **members):
    put("protocol", name, bytes([types.index(of)]) + json.dumps({**head, **members}, separators=(",", ":")).encode())


room = MIB - 2000
protocol("session-epochs", "session", kind="backup", host="h", vm=None, epochs=names("epoch", room))
protocol("reading-points", "reading", purpose="p", points=names("manifests", room, -1))
protocol("epoch-condemned", "epoch", condemned=names("data", room))
protocol("epoch-condemned-same", "epoch", condemned=[name_of("data", 1)] * 8000)
part = room // 4
protocol("sweep-all", "sweep", epoch=name_of("epoch", 1), evictions=names("eviction", part), accepted=names("manifests", part),
         doomed=names("data", part), reprieved=names("nodes", part))
protocol("sweep-evictions", "sweep", epoch=name_of("epoch", 1), evictions=names("eviction", room), accepted=[], doomed=[], reprieved=[])
protocol("sweep-accepted", "sweep", epoch=name_of("epoch", 1), evictions=[], accepted=names("sweep", room), doomed=[], reprieved=[])
protocol("doomed", "doomed", sweeps=names("sweep", room // 2), doomed=names("index", room // 2))
protocol("restore", "restore", manifest=name_of("manifests", 1), tombstones=names("tombstone", room))
protocol("extension", "extension", until=1, objects=names("data", room))

# --- directories: keys, segments, frames, chunks, bases -----------------------------------------------------------------------------
def directory(keys, segments, chunks):
    return (struct.pack("<BBHIII", 1, 1, 0, keys, len(segments), chunks) + bytes(8 + 16 + 16) + bytes(84) * keys + b"".join(segments))


def segment(off, frames, chunks, nchunks):
    stored = 40 + sum(f[0] for f in frames)
    return (struct.pack("<QIIQ", off, stored, 0, 0) + bytes(8) + struct.pack("<BBHHH", 0, 0, len(frames), nchunks, 0) +
            b"".join(struct.pack("<IIB3x", *f) for f in frames) + chunks)


def chunk(i, frame, bases=0, off=0, length=1):
    return struct.pack(">Q", i) + bytes(24) + struct.pack("<HBBII", frame, bases, 1 if bases else 0, off, length) + bytes(32 * bases)


put("directory", "keys", directory(12400, [segment(0, [(1, 1, 0)], chunk(0, 0), 1)], 1))
put("directory", "segments", directory(1, [segment(41 * i, [(1, 1, 0)], chunk(i, 0), 1) for i in range(10900)], 10900))
put("directory", "segments-backwards", directory(1, [segment(41 * i, [(1, 1, 0)], chunk(i, 0), 1) for i in range(10900)][::-1], 10900))
put("directory", "segments-overlap", directory(1, [segment(0, [(1, 1, 0)], chunk(i, 0), 1) for i in range(10900)], 10900))
put("directory", "frames", directory(1, [segment(i * 9000, [(1, 1, 0)] * 4096, chunk(i, 0), 1) for i in range(21)], 21))
put("directory", "chunks", directory(1, [segment(i * 99, [(1, 1, 0)], b"".join(chunk(k, 0) for k in range(4096)), 4096) for i in range(5)], 5 * 4096))
put("directory", "same-chunks", directory(1, [segment(i * 99, [(1, 1, 0)], chunk(0, 0) * 4096, 4096) for i in range(5)], 5 * 4096))
put("directory", "bases", directory(1, [segment(0, [(1, 1, 2)] * 4096, b"".join(chunk(k, k, 4) for k in range(4096)), 4096)], 4096))
put("directory", "counts", struct.pack("<BBHIII", 1, 1, 0, 65536, 0xffffffff, 0xffffffff) + bytes(MIB))

# --- segments: what decoding can be made to cost ---------------------------------------------------------------------------------------
CHUNK = 4096
frame = zstandard.ZstdCompressor(level=19).compress(bytes(4 * MIB))
far = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27, write_content_size=0)).compressobj()
far = far.compress(b"x" * CHUNK) + far.flush()


def fuzz_segment(name, directory_bytes, frames):
    put("segment", name, struct.pack("<H", len(directory_bytes)) + directory_bytes + frames)


fuzz_segment("bomb", directory(1, [segment(0, [(len(frame), 4 * MIB, 1)], b"".join(chunk(i, 0, 0, i * CHUNK, CHUNK) for i in range(1000)), 1000)], 1000), frame)
fuzz_segment("window", directory(1, [segment(0, [(len(far), CHUNK, 1)], chunk(0, 0, 0, 0, CHUNK), 1)], 1), far)
small = zstandard.ZstdCompressor().compress(bytes(1024))
fuzz_segment("frames", directory(1, [segment(0, [(len(small), 1024, 1)] * 3500, chunk(0, 0, 0, 0, 1024), 1)], 1), small * 3500)
deltas = [(len(frame), 4 * MIB, 1)][:0] + [(CHUNK, CHUNK, 0)] + [(len(far), CHUNK, 2)] * 300
fuzz_segment("deltas", directory(1, [segment(0, deltas, chunk(0, 0, 0, 0, CHUNK) + b"".join(
    struct.pack(">Q", 0) + bytes(24) + struct.pack("<HBBII", k, 4, 8, 0, CHUNK) + bytes(128) for k in range(1, 301)), 301)], 301), bytes(CHUNK) + far * 300)

# --- index runs: slots, packs, segments, blocks ------------------------------------------------------------------------------------------
def tail(slots, packs, segments, blocks, entries):
    return bytes([0]) + (struct.pack("<IIIIIIQ", 1, 1, slots, packs, blocks, 0, entries) + b"".join(struct.pack("<Q", i) for i in range(slots)) +
        b"".join(struct.pack("<BBHIII", 1, 0, 0, 1, slots - 1, segments) + bytes(48) + struct.pack("<QQIIQ", 1000, 900, 52, 0, 0) for _ in range(packs)) +
        bytes(4) * (packs * segments) + b"".join(struct.pack(">Q", i) + bytes(56) for i in range(blocks)))


put("run", "slots", tail(65536, 1, 1, 1, 1))
put("run", "slots-and-packs", tail(65536, 5200, 1, 1, 1))
put("run", "packs", tail(1, 10400, 1, 1, 1))
put("run", "segments", tail(1, 1, 262000, 1, 1))
put("run", "blocks", tail(1, 1, 1, 4096, 4096))
put("run", "blocks-too-many", tail(1, 1, 1, 16000, 16000))
put("run", "block", bytes([1]) + struct.pack("<I", 1488) + b"".join(struct.pack(">Q", i) + bytes(24) + struct.pack("<IIHBB", 2, 0, 0, 0, 0) for i in range(1488)))
put("run", "block-of-deltas", bytes([1]) + struct.pack("<I", 380) + b"".join(
    struct.pack(">Q", i) + bytes(24) + struct.pack("<IIHBB", 2, 0, 0, 4, 8) + bytes(128) for i in range(380)))

# --- key objects ---------------------------------------------------------------------------------------------------------------------------
def keys(generations, domains):
    p = struct.pack("<BBHI", 1, 3, domains, generations) + bytes([1]) * 96
    p += b"".join(struct.pack("<I", i + 1) + bytes([1]) * 192 for i in range(generations))
    p += b"".join(bytes([len(n)]) + n + bytes(32) for n in [b"default"] + [b"%064x" % i for i in range(domains - 1)])
    return p + bytes(-len(p) % 256)


put("slot", "generations", keys(1024, 1))
put("slot", "domains", keys(1, 4096))
put("slot", "both", keys(1024, 4096))
put("slot", "counts", struct.pack("<BBHI", 1, 3, 65535, 0xffffffff) + bytes(MIB))

# --- sealed objects --------------------------------------------------------------------------------------------------------------------------
def plain(encoding, stored, decoded):
    return struct.pack("<III", encoding, len(stored), decoded) + bytes(72) + stored


big = zstandard.ZstdCompressor(level=1).compress(bytes(64 * MIB))
for t, kind in (8, "manifest"), (9, "session"), (0, "config"):
    for mode in 1, 2:
        put("envelope", f"bomb-{kind}-{mode}", bytes([t, mode]) + plain(1, big, 64 * MIB))
        put("envelope", f"bomb-claims-little-{kind}-{mode}", bytes([t, mode]) + plain(1, big, MIB))
        put("envelope", f"claims-{kind}-{mode}", bytes([t, mode]) + plain(1, zstandard.compress(b"x"), 64 * MIB))
        put("envelope", f"padding-{kind}-{mode}", bytes([t, mode]) + plain(0, b"{}", 2) + bytes(MIB - 100))
    put("envelope", f"payload-{kind}", bytes([t, 3]) + os.urandom(MIB))
    put("envelope", f"zeros-{kind}", bytes([t, 3]) + bytes(MIB))
put("envelope", "many-frames", bytes([9, 2]) + plain(1, zstandard.compress(b"") * (MIB // 10), 0))

# --- text, points, names of files ---------------------------------------------------------------------------------------------------------------
long = {"a": "a", "percent": "%41", "bad-percent": "%", "control": "\x01", "quote": "'", "digit": "9", "space": " ", "slash": "/", "colon": ":",
        "at": "@", "bidi": "\u202e", "dash": "-", "dots": "../", "zeros": "0"}
for name, piece in long.items():
    text = (piece * MIB)[: MIB // len(piece.encode())]
    put("text", name, text)
    put("point", name, text)
    put("chain", name, text)
    put("point", f"web-{name}", "web/" + text)
    put("point", f"state-{name}", "web@latest/snap:" + text)
put("text", "not-utf8", b"\xff" * MIB)
put("text", "recovery", "kedge-" + "01234-" * (MIB // 6))
put("chain", "lines", "\n" * MIB)
put("chain", "long-lines", ("a/" * 511 + "\n") * 1025)
put("chain", "vmdk", " " * 4000 + "# Disk DescriptorFile")

# --- XML ------------------------------------------------------------------------------------------------------------------------------------------
put("libvirt", "deep", "<domain>" * (MIB // 8))
put("libvirt", "wide", "<domain>" + "<a/>" * (MIB // 4 - 10) + "</domain>")
put("libvirt", "uuids", "<domain>" + "<uuid>x</uuid>" * (MIB // 14 - 10) + "</domain>")
put("libvirt", "attributes", "<domain " + " ".join(f"a{i:x}=''" for i in range(100000)) + "/>")
put("libvirt", "long-attribute", "<domain a='" + "x" * (MIB - 30) + "'/>")
put("libvirt", "long-name", "<" + "d" * MIB)
put("libvirt", "comment", "<!--" + "-" * MIB)
put("libvirt", "text", "<domain><uuid>" + " " * (MIB - 60) + "</uuid></domain>")
put("libvirt", "entity-of-text", "<domain><uuid>" + "&amp;" * (MIB // 5 - 20) + "</uuid></domain>")
put("libvirt", "entities", "<!DOCTYPE d [<!ENTITY a '" + "x" * 1000 + "'>" + "".join(
    f"<!ENTITY b{i} '{'&a;' * 100}'>" for i in range(3000)) + "]><domain>" + "".join(f"&b{i};" for i in range(3000)) + "</domain>")
put("libvirt", "namespaces", "<domain " + " ".join(f"xmlns:a{i:x}='u'" for i in range(50000)) + "/>")

# --- qcow2 ------------------------------------------------------------------------------------------------------------------------------------------
def qcow2(bits, size, l1, clusters, version=3, snapshots=(), incompat=0, header_more=b""):
    """An image: header, L1 of the offsets given, refcount table (empty), then clusters as they are, then the snapshot table."""
    c = 1 << bits
    l1_clusters = (len(l1) * 8 + c - 1) // c or 1
    start = (1 + l1_clusters + 1) * c
    body = b"".join(clusters)
    table = b"".join(snapshots)
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, 0, 0, bits, size, 0, len(l1), c, (1 + l1_clusters) * c, 1, len(snapshots), start + len(body) if table else 0)
    if version == 3:
        head += struct.pack(">QQQII", incompat, 0, 0, 4, 104) + header_more
    data = head + bytes(c - len(head)) + b"".join(struct.pack(">Q", (start + o) | 1 << 63 if o is not None else 0) for o in l1)
    data += bytes((1 + l1_clusters) * c - len(data)) + bytes(c) + body + table
    return data


def entry(l1_offset, l1_size, ident=b"1", name=b"s", extra=b"", vm_state=0):
    e = struct.pack(">QIHHIIQII", l1_offset, l1_size, len(ident), len(name), 1, 1, 1, vm_state, len(extra)) + extra + ident + name
    return e + bytes(-len(e) % 8)


C = 512
n = 1500	# L2 tables of 64 entries, no two of which are one run: data and hole in turn, or data far apart
first = (1 + (n * 8 + C - 1) // C + 1 + n) * C	# the first data cluster
tables = [struct.pack(">64Q", *[first | 1 << 63 if i % 2 else 0 for i in range(64)]) for _ in range(n)]
blocks = [bytes([1]) * C] * 64
put("qcow2", "alternating", qcow2(9, n * 64 * C, [i * C for i in range(n)], tables + blocks))
put("qcow2", "same-table", qcow2(9, 60000 * 64 * C, [0] * 60000, tables[:1]))
data = [struct.pack(">64Q", *[(first + k * 7 % 60 * C) | 1 << 63 for k in range(64)]) for _ in range(n)]
put("qcow2", "same-clusters", qcow2(9, n * 64 * C, [i * C for i in range(n)], data + blocks))
put("qcow2", "empty-l1", qcow2(9, 130000 * 64 * C, [None] * 130000, []))
put("qcow2", "large-l1", qcow2(16, 65536 << 29, [None] * 65536, []))
packed = zlib.compressobj(9, zlib.DEFLATED, -12)
packed = packed.compress(bytes([1]) * (1 << 16)) + packed.flush()
packed += bytes(-len(packed) % 65536)
# one compressed cluster named by all entries of 12 tables: 6 GiB of guest bytes
at = (1 + 1 + 1 + 12) << 16
comp = struct.pack(">Q", 1 << 62 | at)
put("qcow2", "compressed-same", qcow2(16, 12 << 29, [i << 16 for i in range(12)], [comp * 8192] * 12 + [packed]))
# each entry names the same stream 512 bytes on: none is in the cache
put("qcow2", "compressed-each", qcow2(16, 11 << 29, [i << 16 for i in range(11)], [b"".join(
    struct.pack(">Q", 1 << 62 | 127 << 54 | (((1 + 1 + 1 + 11) << 16) + k % 100 * 512)) for k in range(8192))] * 11 + [packed, packed]))
put("qcow2", "snapshots-v2", qcow2(9, 0, [], [], 2, [entry(0, 0, b"", b"") for _ in range(26000)]))
put("qcow2", "snapshots-v3", qcow2(9, 0, [], [], 3, [entry(0, 0, b"", b"", bytes(16)) for _ in range(18000)]))
put("qcow2", "snapshots-named", qcow2(9, 0, [], [], 2, [entry(0, 0, b"%d" % i, b"s%d" % i) for i in range(18500)]))
put("qcow2", "snapshots-same-name", qcow2(9, 0, [], [], 2, [entry(0, 0, b"1", b"same") for _ in range(21000)]))
put("qcow2", "snapshots-long-names", qcow2(9, 0, [], [], 2, [entry(0, 0, b"i" * 65535, b"n" * 65535) for _ in range(7)]))
# every snapshot says that the image's own L1 table is its too (force tolerates it): tables times snapshots
put("qcow2", "snapshots-on-one-l1", qcow2(9, 64 * 64000 * C, [None] * 64000, [], 2, [entry(512, 64000, b"", b"") for _ in range(12000)]))
# each with a table of its own that names the same L2 tables
m = 850
shared = [struct.pack(">64Q", *[i % 2 for i in range(64)])] * 64
put("qcow2", "snapshots-share-l2", qcow2(9, 64 * 64 * C, [k * C for k in range(64)], shared + [
    struct.pack(">64Q", *[(3 + k) * C for k in range(64)])] * m, 3,
    [entry((3 + 64 + i) * C, 64, b"%d" % i, b"s%d" % i, struct.pack(">QQ", 0, 64 * 64 * C)) for i in range(m)]))
put("qcow2", "extensions", qcow2(18, 0, [], [], 3, (), 0, struct.pack(">II", 0x12345678, 0) * 32000))
put("qcow2", "feature-names", qcow2(18, 0, [], [], 3, (), 1 << 63, struct.pack(">II", 0x6803f857, 48 * 5400) + bytes(48 * 5400)))
put("qcow2", "claims", qcow2(9, (1 << 63) - 1, [None] * 10, [], 3, (), 0)[:MIB] + bytes(MIB // 2))
bitmaps = b"".join(struct.pack(">QIIBBHI", 0, 0, 0, 1, 9, 1, 0) + bytes([97 + i % 26]) + bytes(7) for i in range(30000))
put("qcow2", "bitmaps", qcow2(9, 0, [], [bitmaps], 3, (), 0, struct.pack(">IIIIQQ", 0x23852875, 24, 30000, 0, len(bitmaps), 3 * C)))
# a bitmap extension that counts needs its autoclear bit
b = bytearray(open(f"{out}/qcow2/bitmaps", "rb").read())
b[88:96] = struct.pack(">Q", 1)
put("qcow2", "bitmaps-valid", bytes(b))
ext = struct.pack(">QQ", (3 + 55) << 14 | 1 << 63, 0x55555555) * (16384 // 16)
put("qcow2", "subclusters", qcow2(14, 55 * (16384 // 16) * 16384, [i << 14 for i in range(55)], [ext] * 55 + [bytes([1]) * 16384], 3, (), 16))


# --- VDI ------------------------------------------------------------------------------------------------------------------
def vdi(block, entries, data=b"", claimed=None, extra=0, kind=1):
    n = len(entries) // 4 if claimed is None else claimed
    at = 512 + len(entries)
    h = bytes(64) + struct.pack("<IIIII", 0xBEDA107F, 0x10001, 400, kind, 0) + bytes(256) + struct.pack("<II", 512, at) + bytes(20)
    h += struct.pack("<QIIII", n * block, block, extra, n, n) + b"\1" * 32 + bytes(48)
    return h.ljust(512, b"\0") + entries + data


FREE, ZERO = struct.pack("<I", 0xFFFFFFFF), struct.pack("<I", 0xFFFFFFFE)
N = (MIB - 512) // 4
put("vdi", "free-and-zero", vdi(512, (FREE + ZERO) * (N // 2)))
put("vdi", "free-large-blocks", vdi(1 << 31, FREE * N))
n = 1900	# data and hole in turn; data backwards
put("vdi", "alternating", vdi(512, b"".join(FREE + struct.pack("<I", i) for i in range(n)), b"\1" * 512 * n))
put("vdi", "backwards", vdi(512, b"".join(struct.pack("<I", n - 1 - i) for i in range(n)), b"\1" * 512 * n))
put("vdi", "alias-at-the-end", vdi(512, FREE * 200000 + b"".join(struct.pack("<I", i) for i in range(400)) + bytes(4), b"\1" * 512 * 400))
put("vdi", "claims", vdi(1 << 31, FREE * 100, b"", 0x1FFFFFFF, 1 << 31))
# data that are there by the header's word only: beyond each block's extra bytes the file has ended
put("vdi", "far", vdi(512, b"".join(struct.pack("<I", i) for i in range(n)), b"\1" * 4096, None, 1 << 31))


# --- VMDK -----------------------------------------------------------------------------------------------------------------
def descriptor(lines, more=""):
    return f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="custom"\n{more}{lines}\n'


def sparse(capacity, grain, entries, build, flags=3, compression=0):
    """A hosted extent with its descriptor, of 512-byte sectors; build(first free sector) gives (directory, copy or 0, rest)."""
    text = descriptor(f'RW {capacity} SPARSE "x"').encode()
    directory, copy, rest = build(2)
    h = struct.pack("<IIIQQQQIQQQB4sH", 0x564D444B, 3 if compression else 1, flags, capacity, grain, 1, 1, entries, copy, directory, 0, 0,
                    b"\n \r\n", compression)
    return h.ljust(512, b"\0") + text.ljust(512, b"\0") + rest


def sectors(b):
    return b.ljust((len(b) + 511) // 512 * 512, b"\0")


def words(values):
    return sectors(struct.pack(f"<{len(values)}I", *values))


def tables(n, entries, entry, copies=False, grain=1):
    """n tables of so many entries: entry(i, where data are, of the copy) is the i-th of all."""
    size, dirs = (entries * 4 + 511) // 512, (n * 4 + 511) // 512

    def build(at):
        parts, first = [], at + (dirs + n * size) * (1 + copies)
        for c in range(1 + copies):
            base = at + c * (dirs + n * size)
            parts.append(words([base + dirs + i * size for i in range(n)]))
            parts += [words([entry(i * entries + k, first, c) for k in range(entries)]) for i in range(n)]
        return at, at + dirs + n * size if copies else 0, b"".join(parts) + b"\1" * (grain * 512)

    return build


room = MIB // 512 - 100
put("vmdk", "alternating", sparse(512 * (room // 4), 1, 512, tables(room // 4, 512, lambda i, f, c: f if i & 1 else 0)))
put("vmdk", "one-grain", sparse(512 * (room // 4), 1, 512, tables(room // 4, 512, lambda i, f, c: f)))
put("vmdk", "small-tables", sparse(room - 20, 1, 1, tables(room - 20, 1, lambda i, f, c: f)))
put("vmdk", "large-grains", sparse((1 << 21) * 512 * 400, 1 << 21, 512, tables(400, 512, lambda i, f, c: f if i & 1 else 0)))
# the first's tables are all damaged, the copy's are sound; then both are
put("vmdk", "copies", sparse(512 * 220, 1, 512, tables(220, 512, lambda i, f, c: f + (0 if c or i % 512 < 511 else 5000), True)))
put("vmdk", "copies-damaged", sparse(512 * 220, 1, 512, tables(220, 512, lambda i, f, c: 1 << 30, True)))
# directories whose entries name one table, none, or one another
for name, entry in ("same-table", lambda i: 1500), ("overlapping", lambda i: 200 + i % 1800), ("nowhere", lambda i: 1 << 31), ("descending", lambda i: 2000 - i % 1800):
    n = 20000
    put("vmdk", name, sparse(n, 1, 1, lambda at: (at, 0, words([entry(i) for i in range(n)]).ljust(MIB - 1024, b"\1"))))
put("vmdk", "empty-directory", sparse(1 << 27, 1, 512, lambda at: (at, 0, bytes(1 << 20))))
# bare streams: each entry another of few streams, which give 2 MiB each
z = sectors(zlib.compress(bytes(2 << 20), 9))
n, per = 200, len(z) // 512
put("vmdk", "streams", sparse(4096 * 512 * 190, 4096, 512, lambda at: (
    at, 0, words([at + 2 + i * 4 for i in range(190)]).ljust(1024, b"\0") +
    b"".join(words([at + 2 + 190 * 4 + (i * 512 + k) % n * per for k in range(512)]) for i in range(190)) + z * n), 0x10001, 1))
flat = lambda i: f'RW 1 FLAT "{i}" {i}\n'
for target in "vmdk", "vmdk_descriptor":
    put(target, "flats", descriptor("".join(flat(i) for i in range(4096))) + "\0" + "x" * 4096 * 512)
    put(target, "too-many-flats", descriptor("".join(flat(i) for i in range(50000))))
    put(target, "zeros", descriptor("RW 1 ZERO\n" * 4096))
    put(target, "long-line", descriptor('RW 1 FLAT "' + "a" * (MIB - 200)))
    put(target, "long-key", descriptor("RW 1 ZERO\n" + "k" * (MIB - 300)))
    put(target, "words", descriptor("RW 1 FLAT \"a\" 0" + " 1" * (MIB // 2 - 200)))
    put(target, "keys", descriptor("RW 1 ZERO\n" + "a=b\n" * (MIB // 4 - 60)))
    put(target, "comments", descriptor("RW 1 ZERO\n" + "#\n" * (MIB // 2 - 100)))
    put(target, "blank", "\n" * MIB)
    put(target, "hint", descriptor('RW 1 ZERO\n', 'parentCID=1\nparentFileNameHint="' + "../" * (MIB // 3 - 200) + '"\n').replace("parentCID=ffffffff\n", ""))
    for encoding in "Shift_JIS", "UTF-8", "GBK":
        put(target, f"names-{encoding}", descriptor("".join(f'RW 1 FLAT "{"ab" * 120}{i}" 0\n' for i in range(3900)), f'encoding="{encoding}"\n'))


def cowd(grain, entry, n):
    head = struct.pack("<IIIIIII", 0x44574F43, 1, 3, 4096 * grain * n, grain, 4, n)
    return head.ljust(2048, b"\0") + words([4 + (n * 4 + 511) // 512 + 32 * i for i in range(n)]) + b"".join(
        words([entry(i * 4096 + k) for k in range(4096)]) for i in range(n)) + b"\1" * 512


put("vmdk_cowd", "alternating", cowd(1, lambda i: i & 1 and 4 + 1 + 32 * 60, 60))
put("vmdk_cowd", "one-grain", cowd(1, lambda i: 4 + 1 + 32 * 60, 60))
put("vmdk_cowd", "wrong", cowd(1, lambda i: 5, 60))


def sesparse(entry, n, directory=lambda i: 0x10000000 << 32 | i):
    dirs = (n * 8 + 511) // 512
    grains = 2 + dirs + 64 * n
    h = struct.pack("<QQQQQQ", 0xCAFEBABE, 0x200000001, 4096 * 8 * n, 8, 64, 0) + bytes(32)
    for at, length in (1, 1), (0, 0), (0, 0), (2, dirs), (2 + dirs, 64 * n), (0, 0), (0, 0), (grains, 8):
        h += struct.pack("<QQ", at, length)
    return (h.ljust(512, b"\0") + struct.pack("<Q", 0xCAFECAFE).ljust(512, b"\0") + sectors(struct.pack(f"<{n}Q", *map(directory, range(n)))) +
            b"".join(struct.pack("<4096Q", *(entry(i * 4096 + k) for k in range(4096))) for i in range(n)) + b"\1" * 4096)


put("vmdk_sesparse", "alternating", sesparse(lambda i: i & 1 and 3 << 60, 31))
put("vmdk_sesparse", "kinds", sesparse(lambda i: (i & 3) << 60, 31))
put("vmdk_sesparse", "wrong", sesparse(lambda i: 4 << 60, 31))
put("vmdk_sesparse", "same-table", sesparse(lambda i: 3 << 60, 31, lambda i: 0x10000000 << 32))


# --- machines -------------------------------------------------------------------------------------------------------------
def uid(i):
    return f"{{{i:08x}-0000-0000-0000-000000000000}}"


def vbox(body, head=""):
    text = f'{head}<VirtualBox><Machine uuid="{uid(1)}" name="x">{body}</Machine></VirtualBox>'
    assert len(text) <= MIB, len(text)
    return text


def many(row, size):
    made, length, i = [], 0, 0
    while length + len(row(i)) <= size:
        made.append(row(i))
        length += len(made[-1])
        i += 1
    return "".join(made)


def device(port, image):
    return f'<AttachedDevice port="{port}"><Image uuid="{uid(image)}"/></AttachedDevice>'


room = MIB - 400
drives = "".join(device(i, i) for i in range(256))
put("vbox", "media", vbox("<MediaRegistry><HardDisks>" + many(lambda i: f'<HardDisk uuid="{uid(i)}" location="a"/>', 15000 * 60) + "</HardDisks></MediaRegistry>"))
put("vbox", "media-nested", vbox("<MediaRegistry><HardDisks>" + "".join(f'<HardDisk uuid="{uid(i)}" location="a">' for i in range(1100)) +
                                 '<Property name="CRYPT/KeyId"/>' * 15000 + "</HardDisk>" * 1100 + "</HardDisks></MediaRegistry>"))
put("vbox", "then", vbox(f'<Snapshot uuid="{uid(1)}" name="s">' + many(lambda i: device(256 + i, i), room - len(drives) - 100) + "</Snapshot>" + drives))
put("vbox", "then-last-place", vbox(f'<Snapshot uuid="{uid(1)}" name="s">' + device(255, 7) * 7000 + "</Snapshot>" + drives))
put("vbox", "snapshots", vbox(many(lambda i: f'<Snapshot uuid="{uid(i)}" name="s">{device(255, 999)}</Snapshot>', 4096 * 130) + drives))
put("vbox", "attributes", vbox("<AttachedDevice " + many(lambda i: f'a{i:x}="" ', room) + "/>"))
put("vbox", "attributes-often", vbox(many(lambda i: "<AttachedDevice " + " ".join(f'{c}=""' for c in "abcdefghijklmnopqrstuvwxyz") + "/>", room)))
put("vbox", "controller", vbox(f'<StorageController name="{"n" * 255}">' + many(lambda i: f'<AttachedDevice port="{i}"/>', room - 300) + "</StorageController>"))
put("vbox", "defaults", '<!DOCTYPE VirtualBox [<!ATTLIST HardDisk location CDATA "' + "A" * (MIB // 2) + '">]>' +
    vbox("<MediaRegistry><HardDisks>" + many(lambda i: f'<HardDisk uuid="{uid(i)}"/>', MIB // 3) + "</HardDisks></MediaRegistry>"))
put("vbox", "domain-disks", "<domain><name>x</name><devices>" + many(lambda i: f"<disk><source file='{i}'/><target dev='v'/></disk>", room) + "</devices></domain>")
put("vbox", "domain-sources", "<domain><name>x</name><devices><disk>" + many(lambda i: "<source file='a'><slices/></source>", room) + "</disk></devices></domain>")
put("vmx", "snapshots", many(lambda i: f'snapshot{i}.uid = "{i}"\nsnapshot{i}.parent = "{i + 1}"\nsnapshot{i}.disk0.node = "scsi0:0"\nsnapshot{i}.disk0.filename = "c"\n', 4096 * 110))
put("vmx", "snapshots-same", many(lambda i: f'snapshot{i}.uid = "1"\n', 4000 * 24))
put("vmx", "disks-gone", 'snapshot0.uid = "1"\n' + many(lambda i: f'snapshot0.disk{i}.node = "x"\nsnapshot0.disk{i}.filename = "c"\n', room))
put("vmx", "drives", many(lambda i: f'scsi{i % 900}:{i // 900}.filename = "a"\n', room))
put("vmx", "keys", many(lambda i: f'{i:x}=""\n', room))

# --- VHD: many blocks, few and each with a bitmap ---------------------------------------------------------------------------


def vhd(kind, block, entries, data=b""):
    f = struct.pack(">8sIIQI4sI4sQQHBBII16sB427s", b"conectix", 2, 0x10000, 512, 1, b"win ", 0, b"Wi2k", entries * block, entries * block,
                    1, 4, 17, kind, 0, b"A" * 16, 0, b"")
    h = struct.pack(">8sQQIIII16s", b"cxsparse", 0xFFFFFFFFFFFFFFFF, 1536, 0x10000, entries, block, 0, b"P" * 16 if kind == 4 else b"").ljust(1024, b"\0")
    return lambda table: b"\1" + f + h + table.ljust((entries * 4 + 511) // 512 * 512, b"\xff") + data + f


def blocks(n, step, first):
    return b"".join(struct.pack(">I", first + i * step) for i in range(n))


n = 250000
put("vhd", "absent", vhd(3, 512, n)(b""))
put("vhd", "zeros", vhd(3, 512, n)(bytes(4 * n)))
put("vhd", "same-block", vhd(4, 512, n - 9000, b"\xaa" * 4096)(struct.pack(">I", 3 + (n - 9000) * 4 // 512 + 1) * (n - 9000)))
n = 1000
first = 3 + (n * 4 + 511) // 512
put("vhd", "differencing", vhd(4, 512, n, b"\xaa" * 1024 * n)(blocks(n, 2, first)))
put("vhd", "backwards", vhd(4, 512, n, b"\xaa" * 1024 * n)(blocks(n, -2, first + 2 * n - 2)))

# --- VHDX: what is behind checksums -------------------------------------------------------------------------------------------


def guid(text):
    return uuid.UUID(text).bytes_le


def locator(keys, value):
    """As many entries as there are keys; all have one value."""
    at = 20 + 12 * 65535
    texts, places = value, {}
    for k in set(keys):
        places[k] = (at + len(texts), len(k) * 2)
        texts += k.encode("utf-16-le")
    rows = b"".join(struct.pack("<IIHH", places[k][0], at, places[k][1], len(value)) for k in keys)
    return guid("B04AEFB7-D19E-4A81-B789-25B8E9445913") + struct.pack("<HH", 0, len(keys)) + rows.ljust(12 * 65535, b"\0") + texts


def vhdx(parent, log=b"", log_guid=b""):
    items = [("CAA16737-FA36-4D43-B3B6-33F0AA44E76B", struct.pack("<II", MIB, 2 if parent else 0)), ("2FA54224-CD1B-4876-B211-5DBED83BF4B8", struct.pack("<Q", 4 * MIB)),
             ("8141BF1D-A96F-4709-BA47-F233A8FAAB5F", struct.pack("<I", 512)), ("BECA12AB-B2E6-4523-93EF-C309E000C746", b"I" * 16)]
    items += [("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C", parent)] if parent else []
    table, body = struct.pack("<8sHH20s", b"metadata", 0, len(items), b""), b""
    for g, v in items:
        table += struct.pack("<16sIII4s", guid(g), 65536 + len(body), len(v), 4, b"")
        body += v
    head = [struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, s, b"F" * 16, b"D" * 16, g, 0, 1, MIB, MIB) for s, g in ((1, b""), (2, log_guid))]
    regions = struct.pack("<4sIII", b"regi", 0, 2, 0) + b"".join(struct.pack("<16sQII", guid(g), o, MIB, 1) for g, o in (
        ("8B7CA206-4790-4B9A-B8FE-575F050F886E", 2 * MIB), ("2DC27766-F623-4200-9D64-115E9BFD4A08", 3 * MIB)))
    pieces = [(0, b"vhdxfile"), (65536, head[0]), (131072, head[1]), (196608, regions), (262144, regions), (2 * MIB, table), (MIB, log)]
    pieces += [(2 * MIB + 65536 + i, body[i:i + 65535]) for i in range(0, len(body), 65535)]
    return bytes([1, 5]) + b"".join(struct.pack("<IH", o, len(d)) + d for o, d in pieces)


text = "x" * 32767
put("vhdx", "locator-unknown", vhdx(locator(["x"] * 65535, text.encode("utf-16-le"))))
put("vhdx", "locator-long-keys", vhdx(locator([text] * 65535, text.encode("utf-16-le"))))
put("vhdx", "locator-last", vhdx(locator(["x"] * 65534 + ["parent_linkage"], text.encode("utf-16-le"))))

# --- qcow of version 1 ----------------------------------------------------------------------------------------------------------


def qcow(bits, l2_bits, tables, rest=b""):
    per = 1 << (bits + l2_bits)
    l1 = 48 + len(tables) * 8
    at = [l1 + i * (8 << l2_bits) for i in range(len(tables))]
    return (struct.pack(">IIQIIQBBHIQ", 0x514649FB, 1, 0, 0, 0, len(tables) * per, bits, l2_bits, 0, 0, 48) + struct.pack(f">{len(tables)}Q", *at) + b"".join(tables) + rest)


end = (48 + 8 * 120 + 120 * 8192 + 4095) // 4096 * 4096
for name, entry in ("alternating", lambda i: end if i & 1 else 0), ("same", lambda i: end), ("compressed", lambda i: 1 << 63 | 60 << 51 | end), ("wrong", lambda i: 1):
    put("qcow", name, qcow(12, 10, [struct.pack(">1024Q", *(entry(i) for i in range(1024)))] * 120,
                          bytes(end - 48 - 8 * 120 - 120 * 8192) + zlib.compress(bytes(4096), 9)[2:-4].ljust(4096, b"\0")))
put("qcow", "empty-tables", qcow(9, 6, [bytes(512)] * 1900))
