"""A small but rich repository to damage, what it holds by the independent reader, and where each structure of an object begins."""
import hashlib
import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reader"))
import kedge_format as kf           # noqa: E402
import kedge_reader                 # noqa: E402

WRITER = os.path.join(os.path.dirname(kedge_reader.__file__), "kedge_writer.py")
CHUNK = 4096
ROOT_SLOT = "key1"


class Place:
    """A repository with a client's own state and cache."""

    def __init__(self, kedge, path):
        self.kedge, self.path = kedge, path
        self.repo = os.path.join(path, "repo")
        self.env = {**os.environ, "KEDGE_REPOSITORY": self.repo, "KEDGE_STATE_DIR": os.path.join(path, "state"),
                    "KEDGE_CACHE_DIR": os.path.join(path, "cache")}

    def run(self, *args, key=ROOT_SLOT, binary=False):
        try:
            secret = "--password-file" if key == "recovery" else "--key-file"
            r = subprocess.run([self.kedge, secret, os.path.join(self.path, key), *args], env=self.env, cwd=self.path,
                               stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except subprocess.TimeoutExpired:
            return -1, b"" if binary else "", "no end after 60 s: " + " ".join(args)
        return r.returncode, r.stdout if binary else r.stdout.decode(), r.stderr.decode()

    def must(self, *args, key=ROOT_SLOT):
        code, out, err = self.run(*args, key=key)
        if code:
            raise SystemExit("exit %d: %s\n%s" % (code, " ".join(args), err))
        return out

    def post(self, *args, key=ROOT_SLOT):
        r = subprocess.run(["/usr/bin/python3", WRITER, args[0], self.repo, "--key-file", os.path.join(self.path, key),
                            *args[1:]], capture_output=True, text=True)
        if r.returncode:
            raise SystemExit("kedge_writer %s: %s" % (" ".join(args), r.stderr))
        return r.stdout.strip()

    def names(self):
        return kedge_reader.Folder(self.repo).names("")

    def get(self, name):
        with open(os.path.join(self.repo, name), "rb") as f:
            return f.read()

    def put(self, name, data):
        """None removes it."""
        path = os.path.join(self.repo, name)
        if os.path.exists(path):
            os.unlink(path)
        if data is not None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)


def noise(rng, n):
    return rng.getrandbits(8 * n).to_bytes(n, "little")


def qemu(*args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)


def poke(path, offset, data):
    """Writes into a qcow2's guest bytes."""
    with open(path + ".bits", "wb") as f:
        f.write(data)
    qemu("qemu-io", "-f", "qcow2", "-c", "write -s %s.bits %d %d" % (path, offset, len(data)), path)
    os.unlink(path + ".bits")


def build(place, rng):
    """VMs a (qcow2, snapshots, three nights), b (two raw disks, an attachment), c (a chain; another slot), protocol objects
    of every kind."""
    w = place.path
    os.makedirs(w)
    for key in ("key1", "key2", "key3"):
        with open(os.path.join(w, key), "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(noise(rng, 64))
    recovery = place.must("-q", "init", "--chunk-size", str(CHUNK), "--pack-size", "1M")
    with open(os.path.join(w, "recovery"), "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(recovery)
    place.must("key", "add", "--label", "second", "--new-key-file", os.path.join(w, "key2"))
    place.must("key", "add", "--label", "gone", "--new-key-file", os.path.join(w, "key3"))
    slots = json.loads(place.must("key", "list", "--json"))
    gone = [s for s in slots if s.get("label") == "gone"][0]
    place.must("key", "remove", gone.get("slot") or gone["id"])
    a = os.path.join(w, "a.qcow2")
    qemu("qemu-img", "create", "-q", "-f", "qcow2", a, "24M")
    for night in range(3):
        for at in (0, 5 << 20, 20 << 20):
            poke(a, at + night * 100000 // 512 * 512, noise(rng, 122880))
        if night < 2:
            qemu("qemu-img", "snapshot", "-c", "s%d" % night, a)
        place.must("backup", "--vm", "a", a)
    for disk, mib in (("b0", 3), ("b1", 2)):
        with open(os.path.join(w, disk), "wb") as f:
            f.truncate((mib << 20) + 1536)
            for at in range(0, mib << 20, 1 << 20):
                f.seek(at)
                f.write(noise(rng, 300000) + bytes(50000) + b"text " * 20000)
    with open(os.path.join(w, "b.xml"), "wb") as f:
        f.write(b"<domain/>" + noise(rng, 9000).hex().encode())
    for night in range(2):
        with open(os.path.join(w, "b0"), "r+b") as f:
            f.seek(night * 200000)
            f.write(noise(rng, 70000))
        place.must("backup", "--vm", "b", "vda=raw:" + os.path.join(w, "b0"), "vdb=raw:" + os.path.join(w, "b1"),
                   "--attach", os.path.join(w, "b.xml"))
    base, top = os.path.join(w, "base.qcow2"), os.path.join(w, "top.qcow2")
    qemu("qemu-img", "create", "-q", "-f", "qcow2", base, "16M")
    poke(base, 1 << 20, noise(rng, 400 << 10))
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
    poke(top, 9 << 20, noise(rng, 200 << 10))
    place.must("backup", "--vm", "c", top, key="key2")
    place.must("restore", "c", "-o", os.path.join(w, "c.out"), key="key2")
    post_objects(place)
    return place


def post_objects(place):
    """Those that kedge itself doesn't write yet, and a condition in which they all count."""
    manifests = sorted(n for n in place.names() if n.startswith("manifests/"))
    tomb = place.post("tombstone", "--manifest", manifests[0])
    place.post("restore-record", "--manifest", manifests[0], "--tombstone", tomb)
    place.must("backup", "--vm", "f", "raw:" + os.path.join(place.path, "b.xml"))
    place.post("tombstone", "--manifest", (set(n for n in place.names() if n.startswith("manifests/")) - set(manifests)).pop())
    session = place.post("session", "--vm", "x").split("/")[2]
    place.post("renewal", "--session", session, "--number", "1")
    dead = place.post("session", "--vm", "x")
    eviction = place.post("eviction", "--evict", dead)
    collector = place.post("collector").split("/")[2]
    epoch = place.post("epoch", "--session", collector)
    sweep = place.post("sweep", "--session", collector, "--epoch", epoch, "--eviction", eviction)
    place.post("doomed", "--sweep", sweep)
    place.post("reading", "--point", manifests[1])
    place.post("extension", "--object", manifests[1], "--until", "9")


class Tree:
    """One tree of a backup: who it is for people, and its ids."""

    def __init__(self, backup, kind, state, name, row, nodes):
        self.manifest, self.vm = backup.name, backup.json["vm"]
        self.id = backup.name.rsplit("/", 1)[1]
        self.point = None if kind == "attachment" else state
        self.disk = name
        self.size, self.root, self.height, self.nodes = row["size"], row["root"] and bytes.fromhex(row["root"]), row["height"], nodes

    def lost(self, is_lost):
        """Ranges (offset, length) that can't be had, joined, as check tells them."""
        found = []

        def add(chunk, n):
            start, end = chunk * CHUNK, min((chunk + n) * CHUNK, self.size)
            if start >= self.size:
                return
            if found and found[-1][1] == start:
                found[-1][1] = end
            else:
                found.append([start, end])

        def walk(id_, level, index):
            if is_lost(kf.DATA_PACK if level == 0 else kf.NODE_PACK, id_):
                add(index * kf.FANOUT ** level, kf.FANOUT ** level)
            elif level:
                for i, child in self.nodes[id_].items():
                    walk(child, level - 1, index * kf.FANOUT + i)
        if self.root:
            walk(self.root, self.height, 0)
        return [(a, b - a) for a, b in found]


class Model:
    """What the whole repository holds."""

    def __init__(self, place):
        with open(os.path.join(place.path, ROOT_SLOT), "rb") as f:
            secret = f.read()
        self.reader = kedge_reader.Repository(place.repo, [(kf.KDF_KEYFILE, secret)])
        self.reader.load_index()
        if self.reader.problems:
            raise SystemExit("the independent reader finds the fresh repository damaged")
        self.own = self.reader.keys.slot.hex()
        self.recovery = [s for s, r in self.reader.slots.items() if r["kdf"] == "recovery"][0]
        self.data = {n: place.get(n) for n in place.names()}
        self.trees, self.nodes = [], {}
        for backup in self.reader.backups:
            for kind, state, name, row, _ in self.reader.contents_of(backup):
                if row["root"]:
                    self.load(bytes.fromhex(row["root"]), row["height"])
                self.trees.append(Tree(backup, kind, state, name, row, self.nodes))
        self.digest = {}
        self.bytes = {}
        for t in self.trees:
            key = (t.manifest, t.point, t.disk)
            row = self.reader.find(self.backup(t.manifest), "disk" if t.point else "attachment", t.point or "-", t.disk)
            h = bytearray(t.size)
            for at, piece in self.reader.content(row[3], row[4], "tree"):
                h[at:at + len(piece)] = piece
            self.bytes[key] = bytes(h)
            self.digest[key] = hashlib.sha256(h).digest()

    def backup(self, name):
        return [b for b in self.reader.backups if b.name == name][0]

    def load(self, id_, level):
        if id_ in self.nodes:
            return
        data, _ = self.reader.fetch(kf.NODE_PACK, id_, "default")
        self.nodes[id_] = kf.parse_node(data, level, "node")
        if level > 1:
            for child in self.nodes[id_].values():
                self.load(child, level - 1)

    def is_lost(self, bad_packs, bad_segments):
        places = self.reader.places

        def f(kind, id_):
            return all(p.pack in bad_packs or (p.pack, p.segment) in bad_segments for p in places[kind, id_])
        return f

    def touched(self, name, start, end, resized):
        """(bad packs, bad segments) when bytes [start, end) of a pack are wrong."""
        if name.split("/")[0] not in ("data", "nodes"):
            return set(), set()
        pack = self.reader.open_pack(name)
        if resized is not None:     # the new length: without its directory nothing of it can be used
            return ({name} if resized < pack.offset + pack.length else set()), set()
        if start < pack.offset + pack.length and end > pack.offset:
            return {name}, set()
        return set(), {(name, i) for i, s in enumerate(pack.directory.segments)
                       if start < s.offset + s.stored and end > s.offset}

    def structures(self, name):
        """[(offset, what begins there)], rising, the end of the object included."""
        data, kind = self.data[name], name.split("/")[0]
        if kind == "keys":
            at = [(0, "magic"), (8, "version"), (9, "kdf"), (10, "zeros"), (16, "cipher id"), (32, "slot"), (40, "passes"),
                  (44, "memory"), (48, "salt"), (64, "nonce"), (88, "ciphertext"), (len(data) - 16, "tag")]
        elif kind in ("data", "nodes"):
            pack = self.reader.open_pack(name)
            at = []
            for s in pack.directory.segments:
                at += [(s.offset, "segment nonce"), (s.offset + 24, "segment"), (s.offset + s.stored - 16, "segment tag")]
            last = max(s.offset + s.stored for s in pack.directory.segments)
            at += [(last, "padding")] if last < pack.offset else []
            at += envelope_at(data, pack.offset, pack.length) + trailer_at(len(data))
        elif kind == "index":
            offset, length, _ = kf.open_trailer(data[-48:], len(data), kf.INDEX_RUN, name)
            env = self.reader.open_signed(name, kf.RUN_TAIL, data[offset:offset + length])
            blocks = len(kf.parse_run_tail(env.payload, offset, name)[2])
            at = []
            for b in range(blocks):
                at += [(b * 65536, "block nonce"), (b * 65536 + 24, "block"), (b * 65536 + 65520, "block tag")]
            at += [(blocks * 65536, "padding")] if blocks * 65536 < offset else []
            at += envelope_at(data, offset, length) + trailer_at(len(data))
        else:
            at = envelope_at(data, 0, len(data))
        return sorted(set(at)) + [(len(data), "end")]


def envelope_at(data, offset, length):
    at = [(0, "envelope magic"), (8, "version"), (9, "type"), (10, "sealing"), (11, "zero"), (12, "generation")]
    body = 16
    if data[offset + 10] == kf.OBJECT_KEY:
        at.append((16, "sealed key"))
        body = 96
    at += [(body, "nonce"), (body + 24, "ciphertext"), (length - 16, "tag")]
    return [(offset + a, what) for a, what in at]


def trailer_at(size):
    return [(size - 48 + a, "trailer " + what) for a, what in
            ((0, "magic"), (8, "version"), (9, "kind"), (10, "zeros"), (12, "length"), (16, "offset"), (24, "zeros"), (32, "salt"))]
