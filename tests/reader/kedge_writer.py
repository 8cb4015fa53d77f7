#!/usr/bin/python3
"""A small independent writer of kedge repositories in folders, for tests; written from docs/format.md alone.

    kedge_writer.py init REPO --password-file P [--key-file K] [--chunk-size N] [--domain NAME]...
    kedge_writer.py add-slot REPO SECRET --role put|maintain|full --new-key-file K [--vms A,B] [--untrusted] [--removed]
    kedge_writer.py backup REPO SECRET --vm VM --disk [DOMAIN/]NAME=FILE... [--snapshot SNAP/NAME=FILE]... [--attach NAME=FILE]
                                       [--delta] [--no-end]
    kedge_writer.py repack REPO SECRET PACK                  segments moved unopened into a new pack, and an index run
    kedge_writer.py session|renewal|reading|end|collector|epoch|eviction|sweep|doomed|tombstone|restore-record|extension
                    REPO SECRET ...                          any protocol object
    kedge_writer.py golden DIR                               see kedge_golden.py

SECRET is as for kedge_reader.py; the slot that it opens signs.  For tests of refusals: --forge signature (a bit of the
signature flipped), --forge claim=SLOT (claims to be of another slot, signed with one's own key), --forge name=SLOT (put
under another slot's name).  Each command prints the names of what it wrote that later commands need.
It keeps no lease and looks for no eviction: it makes objects, it is not an example of how to write.
"""
import argparse
import copy
import json
import os
import sys
import time
from dataclasses import dataclass, field

import nacl.bindings as sodium

import kedge_format as kf
from kedge_format import FormatError, check
from kedge_reader import Repository, add_secret_options, secrets_of


def new_generation():
    nodes_public, nodes_secret = sodium.crypto_box_keypair()
    data_public, data_secret = sodium.crypto_box_keypair()
    return kf.Generation(os.urandom(32), os.urandom(32), nodes_public, data_public, nodes_secret, data_secret)


def new_keys(domains=()):
    """The keys of a new repository, as its first full slot holds them."""
    authority = os.urandom(32)
    return kf.Keys(os.urandom(16), os.urandom(8), "full", kf.sign_public(authority), os.urandom(32), authority,
                   {1: new_generation()}, {name: os.urandom(32) for name in ("default", *domains)})


def slot_keys(keys, role):
    """Keys of another slot of the same repository."""
    other = copy.deepcopy(keys)
    other.slot, other.seed, other.role = os.urandom(8), os.urandom(32), role
    return other


def put(path, name, data):
    target = os.path.join(path, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target + ".part", "wb") as f:
        f.write(data)
    os.rename(target + ".part", target)
    return name


def put_config(path, keys, chunk_size, signer=kf.AUTHORITY, seed=None, **changes):
    config = {"format": 1, "draft": True, "repository": keys.cipher.hex(), "instance": os.urandom(16).hex(),
              "created": time.time_ns(), "incompatible": [], "compatible": [], "chunk_size": chunk_size,
              "segment_size": 262144, "pack_size": 32 << 20, "lease": 86400, "skew": 600, "settling": 60,
              "grace": 604800, "delta": "off", "domains": list(keys.domains), "lock": None, **changes}
    return put(path, "config", kf.envelope(keys, kf.CONFIG, json.dumps(config).encode(), signer,
                                           seed or keys.authority_seed))


def put_slot(path, full, keys, kdf, secret, label="", vms=None, trusted=True, status="active", serial=1, passes=1,
             memory_kib=8192):
    """Key object and record of a slot; full: keys with the authority's seed.  A removed slot has no key object."""
    record = {"slot": keys.slot.hex(), "sign": kf.sign_public(keys.seed).hex(), "role": keys.role,
              "label": kf.escape(label.encode()), "kdf": kf.KDF_NAME[kdf], "vms": vms, "trusted": trusted,
              "status": status, "serial": serial, "time": time.time_ns()}
    data = kf.envelope(full, kf.SLOT_RECORD, json.dumps(record).encode(), kf.AUTHORITY, full.authority_seed)
    put(path, "slots/%s/%s" % (keys.slot.hex(), kf.digest(data).hex()), data)
    if status == "active":
        data = kf.key_object(keys, kdf, secret, passes, memory_kib)
        put(path, "keys/%s/%s" % (keys.slot.hex(), kf.digest(data).hex()), data)


@dataclass
class Known:
    """A chunk that deltas may build on."""
    data: bytes
    depth: int = 0
    needed: frozenset = frozenset()


@dataclass
class Frame:
    """What one zstd frame holds: [(id, bytes)], or one of these and the bases that make its prefix."""
    chunks: list
    bases: list = field(default_factory=list)
    prefix: bytes = b""
    depth: int = 0
    codec: int = kf.ZSTD


class PackBuilder:
    """One pack; its segments lie sealed in memory until finish()."""

    def __init__(self, hand, kind, generation=None):
        self.hand, self.kind = hand, kind
        self.number = generation or hand.keys.newest
        self.keys, self.segments, self.body, self.secret, self.births = [], [], bytearray(), None, 0

    def own_key(self):
        if self.secret is None:
            g, r = self.hand.keys.generations[self.number], os.urandom(32)
            self.keys.append((self.number, kf.box(g.data_public if self.kind == kf.DATA_PACK else g.nodes_public, r)))
            self.row, self.secret = len(self.keys) - 1, kf.b2(g.shared, b"kedge-packkey-v1", r)
        return self.secret

    def add(self, frames, birth=None):
        """Seals one segment.  birth: a lie about its birth number, for tests."""
        secret, number = self.own_key(), self.births
        self.births += 1
        plain, rows, chunks = b"", [], []
        for at, f in enumerate(frames):
            decoded = b"".join(data for _, data in f.chunks)
            codec = f.codec
            stored = decoded if codec == kf.RAW else kf.zstd_compress(decoded, f.prefix)
            if codec == kf.ZSTD and len(stored) >= len(decoded):
                codec, stored = kf.RAW, decoded
            rows.append((len(stored), len(decoded), codec))
            plain += stored
            offset = 0
            for id_, data in f.chunks:
                chunks.append(kf.Chunk(id_, at, offset, len(data), f.bases, f.depth))
                offset += len(data)
        sealed = kf.seal(secret, plain, kf.segment_ad(self.hand.keys.cipher, self.kind, self.number, number))
        self.segments.append(kf.Segment(len(self.body), len(sealed), self.row, number if birth is None else birth,
                                        self.hand.keys.slot, 0, rows, chunks))
        self.body += sealed

    def adopt(self, repo, pack, index):
        """Moves a sealed segment here unopened, with the key row that it needs."""
        old = pack.directory.segments[index]
        row = pack.directory.keys[old.key]
        if row not in self.keys:
            self.keys.append(row)
        sealed = repo.folder.read(pack.name, old.offset, old.stored)
        self.segments.append(kf.Segment(len(self.body), len(sealed), self.keys.index(row), old.birth, old.sealer,
                                        old.flags, old.frames, old.chunks))
        self.body += sealed

    def finish(self, seed=None):
        """Puts the pack; returns its name.  The hand's next index run names it.  seed: of another signature, for tests."""
        h = self.hand
        d = kf.Directory(self.kind, h.keys.slot, h.session, os.urandom(16), self.keys, self.segments)
        sealed = kf.envelope(h.keys, kf.DIRECTORY, kf.directory_bytes(d), h.keys.slot, seed or h.keys.seed,
                             generation=self.number)
        data = kf.finish_object(bytes(self.body), sealed, self.kind, d.salt)
        name = put(h.path, kf.object_name(kf.PACK_PREFIX[self.kind], h.keys.slot, h.session, data), data)
        offset = len(data) - kf.TRAILER_BYTES - len(sealed)
        h.written.append((kf.RunPack(self.kind, self.number, h.keys.slot, h.session, kf.digest(data), len(data), offset,
                                     len(sealed), [(s.sealer, s.flags & 1) for s in d.segments]), d))
        return name


class Hand:
    """One run of one slot: a session and what is written in it."""

    def __init__(self, path, keys, chunk_size, session=None, library=None, sequence=1, previous=None):
        self.path, self.keys, self.chunk_size = path, keys, chunk_size
        self.session = session or os.urandom(16)
        self.library = {} if library is None else library       # id -> Known; nodes: id -> True
        self.sequence, self.previous = sequence, previous
        self.written = []                                       # (RunPack, Directory) that no run names yet
        self.new_chunks, self.new_nodes = [], []                # Frames; (id, bytes)

    # --- single objects ---

    def post(self, prefix, forge=None, **members):
        """A protocol object or manifest; returns its name."""
        how, _, victim = (forge or "").partition("=")
        check(how in ("", "signature", "claim", "name"), "unknown forgery: %s", how)
        other = bytes.fromhex(victim) if victim else self.keys.slot
        signer = other if how == "claim" else self.keys.slot
        who = "writer" if prefix == "manifests" else "slot"
        value = {who: other.hex(), "session": self.session.hex(), **members}
        if prefix != "manifests":
            value.setdefault("time", time.time_ns())
        payload = json.dumps(value, ensure_ascii=False).encode()
        keys = self.keys
        type_ = kf.MANIFEST if prefix == "manifests" else kf.PROTOCOL[prefix]
        seed = os.urandom(32) if how == "signature" else keys.seed
        data = kf.envelope(keys, type_, payload, signer, seed)
        return put(self.path, kf.object_name(prefix, other, self.session, data), data)

    def begin(self, kind="backup", vm=None, epochs=()):
        return self.post("session", kind=kind, host="golden", vm=vm, epochs=list(epochs))

    def end(self, outcome="done"):
        return self.post("end", outcome=outcome)

    # --- contents ---

    def store_chunk(self, domain, data, bases=()):
        """bases: ids in self.library; returns the chunk's id."""
        data = data.ljust(self.chunk_size, b"\0")
        id_ = kf.chunk_id(self.keys, domain, data)
        if id_ not in self.library:
            known = [self.library[b] for b in bases]
            depth = 1 + max(k.depth for k in known) if known else 0
            self.library[id_] = Known(data, depth, frozenset(bases).union(*(k.needed for k in known)))
            prefix = b"".join(k.data for k in known)
            self.new_chunks.append(Frame([(id_, data)], list(bases), prefix, depth, kf.ZSTD_PREFIX if bases else kf.ZSTD))
        return id_

    def store_node(self, level, children):
        encoded = kf.node_bytes(level, children)
        id_ = kf.node_id(self.keys, encoded)
        if id_ not in self.library:
            self.library[id_] = True
            self.new_nodes.append((id_, encoded))
        return id_

    def store_tree(self, ids, size):
        """ids: {number of the chunk: id}; returns {root, height, size}, members of a disk's row."""
        height, level = kf.height_of(size, self.chunk_size), dict(ids)
        for l in range(1, height + 1):
            parents = {}
            for n, id_ in level.items():
                parents.setdefault(n // kf.FANOUT, {})[n % kf.FANOUT] = id_
            level = {n: self.store_node(l, children) for n, children in parents.items()}
        return {"root": level[0].hex() if level else None, "height": height, "size": size}

    def store_bytes(self, data, domain="default"):
        return self.store_pieces(split(data, self.chunk_size), len(data), domain)

    def store_pieces(self, pieces, size, domain="default", bases=None):
        """pieces: (number, bytes); bases: {number: ids of bases}."""
        ids = {n: self.store_chunk(domain, data, (bases or {}).get(n, ())) for n, data in pieces if any(data)}
        return self.store_tree(ids, size)

    def flush(self, per_frame=4, per_segment=262144, generation=None):
        """Writes what is new: packs, then an index run.  Returns the names (last data pack, node pack, run), None for absent.
        per_frame: chunks; per_segment: bytes."""
        names = [None, None, None]
        if self.new_chunks:
            pack, full, frames = PackBuilder(self, kf.DATA_PACK, generation), [], []
            for f in self.new_chunks:
                if f.bases:
                    frames.append(f)
                else:
                    full += f.chunks
            frames += [Frame(full[i:i + per_frame]) for i in range(0, len(full), per_frame)]
            while frames:
                n = 1
                while n < len(frames) and sum(len(f.chunks) for f in frames[:n + 1]) * self.chunk_size <= per_segment:
                    n += 1
                pack.add(frames[:n])
                del frames[:n]
                if frames and len(pack.body) > 32 << 20:
                    pack.finish()
                    pack = PackBuilder(self, kf.DATA_PACK, generation)
            names[0] = pack.finish()
        if self.new_nodes:
            pack = PackBuilder(self, kf.NODE_PACK, generation)
            pack.add([Frame(self.new_nodes[i:i + 16]) for i in range(0, len(self.new_nodes), 16)])
            names[1] = pack.finish()
        self.new_chunks, self.new_nodes = [], []
        if self.written:
            names[2] = self.put_run(generation=generation)
        return names

    def put_run(self, change=None, generation=None):
        """An index run of the packs written since the last one.  change: a function that may falsify an entry."""
        packs = [p for p, _ in self.written]
        entries = {}
        for at, (_, d) in enumerate(self.written):
            for s, segment in enumerate(d.segments):
                for c, chunk in enumerate(segment.chunks):
                    entries.setdefault(chunk.id, kf.Entry(chunk.id, at, s, c, chunk.bases, chunk.depth))
        rows = [change(e) if change else e for _, e in sorted(entries.items())]
        data = kf.index_run(self.keys, packs, rows, self.keys.slot, self.keys.seed, generation)
        self.written = []
        return put(self.path, kf.object_name("index", self.keys.slot, self.session, data), data)

    def put_manifest(self, vm, disks, states, attachments=(), forge=None, **changes):
        """disks: [{name, domain, ...}], states: [(kind, name, [row])]; a row is {disk, root, height, size, ...}."""
        now = time.time_ns()
        read = {"how": "full", "bytes_read": 0}
        disks = [{"format": "raw", "path": "/images/%s.img" % d["name"], "domain": "default", "cluster_size": 65536,
                  "features": [], "dropped": [], "layers": [layer("/images/%s.img" % d["name"])],
                  "read": {**read, "bytes_unchanged": 0, "bytes_audited": 0, "audit_owed": 0}, **d} for d in disks]
        states = [{"kind": kind, "name": name, "disks": [
            {"layer": 0, "date": 0, "vm_clock": 0, "digest": None, "vm_state": None, "read": read, **row}
            for row in rows]} for kind, name, rows in states]
        members = {"format": 1, "vm": vm, "host": "golden", "start": now, "end": now + 1, "sequence": self.sequence,
                   "previous": self.previous, "complete": True, "problems": [],
                   "machine": {"uuid": None, "kind": None, "source": "golden:/images"}, "disks": disks,
                   "states": states, "attachments": list(attachments), "tags": [], "pins": [],
                   "statistics": {"bytes_read": 0, "bytes_hashed": 0, "bytes_new": 0, "bytes_stored": 0,
                                  "milliseconds": 1}, **changes}
        name = self.post("manifests", forge=forge, **members)
        self.sequence, self.previous = self.sequence + 1, name.rsplit("/", 1)[1]
        return name


def layer(path):
    return {"path": path, "format": "raw", "dev": 0, "ino": 0, "size": 0, "mtime": 0, "ctime": 0, "block_device": False,
            "metadata": "00" * 32, "virtual_size": 0}


def split(data, chunk_size):
    return ((n, data[at:at + chunk_size]) for n, at in enumerate(range(0, len(data), chunk_size)))


def pieces_of(path, chunk_size):
    """Holes aren't read: a sparse file costs what it holds."""
    with open(path, "rb") as f:
        at, size = 0, os.fstat(f.fileno()).st_size
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA) // chunk_size * chunk_size
            except OSError:
                return
            f.seek(at)
            yield at // chunk_size, f.read(chunk_size)
            at += chunk_size


# --- the command line ------------------------------------------------------------------------------------------------

class LazyLibrary(dict):
    """What an existing repository holds, fetched when a delta needs it."""

    def __init__(self, repo, domain_of):
        super().__init__()
        self.repo, self.domain_of = repo, domain_of

    def __contains__(self, id_):
        return super().__contains__(id_) or (kf.DATA_PACK, id_) in self.repo.places or \
            (kf.NODE_PACK, id_) in self.repo.places

    def __missing__(self, id_):
        data, needed = self.repo.fetch(kf.DATA_PACK, id_, self.domain_of[id_])
        place = self.repo.places[kf.DATA_PACK, id_][0]
        self[id_] = Known(data, place.depth, frozenset(needed))
        return self[id_]


def opened(args, lazy=False):
    return Repository(args.repo, secrets_of(args), lazy=lazy)


def hand_of(args, repo, **more):
    session = bytes.fromhex(args.session) if args.session else None
    return Hand(args.repo, repo.keys, repo.chunk_size, session, **more)


def cmd_init(args):
    check(not os.path.exists(os.path.join(args.repo, "config")), "%s: holds a repository already", args.repo)
    os.makedirs(args.repo, exist_ok=True)
    keys, first = new_keys(args.domain), True
    for kdf, secret in secrets_of(args):
        mine = keys if first else slot_keys(keys, "full")
        put_slot(args.repo, keys, mine, kdf, secret, kf.KDF_NAME[kdf])
        first = False
    put_config(args.repo, keys, args.chunk_size)


def cmd_add_slot(args):
    repo = opened(args, lazy=True)
    with open(args.new_key_file, "rb") as f:
        secret = f.read()
    keys = slot_keys(repo.keys, args.role)
    put_slot(args.repo, repo.keys, keys, kf.KDF_KEYFILE, secret, vms=args.vms.split(",") if args.vms else None,
             trusted=not args.untrusted)
    if args.removed:
        put_slot(args.repo, repo.keys, keys, kf.KDF_KEYFILE, secret, status="removed", serial=2)
        for name in repo.folder.names("keys/" + keys.slot.hex()):
            os.unlink(os.path.join(args.repo, name))
    print(keys.slot.hex())


def cmd_backup(args):
    repo = opened(args)
    repo.load_index()
    places, domains = {}, {}            # (disk, chunk number) -> id before; id -> domain
    mine = [o for o in repo.manifests.values() if o.slot == repo.keys.slot.hex()]
    last = max(mine, key=lambda o: o.json["sequence"], default=None)
    before = [o for o in repo.backups if o.json["vm"] == args.vm and o.status == "listed"]
    if args.delta and before:
        for kind, state, name, row, domain in repo.contents_of(before[-1]):
            if kind == "disk" and state == "current" and row["root"]:
                for n, id_ in repo.walk(bytes.fromhex(row["root"]), row["height"], row["size"]):
                    places[name, n], domains[id_] = id_, domain
    hand = hand_of(args, repo, library=LazyLibrary(repo, domains), sequence=last.json["sequence"] + 1 if last else 1,
                   previous=last.name.rsplit("/", 1)[1] if last else None)
    hand.begin(vm=args.vm, epochs=list(repo.protocol["epoch"]))
    disks, states = [], {("current", "current"): []}
    for text, snapshots in [(t, False) for t in args.disk] + [(t, True) for t in args.snapshot]:
        label, _, path = text.partition("=")
        head, _, name = label.rpartition("/")
        if not snapshots:
            disks.append({"name": name, "domain": head or "default", "path": kf.escape(os.fsencode(path))})
        at = [d["name"] for d in disks].index(name)
        bases = {}
        for (disk, n), id_ in places.items():
            known = hand.library[id_] if disk == name and domains[id_] == disks[at]["domain"] else None
            if known and known.depth < kf.MAX_DEPTH and len(known.needed) < kf.MAX_NEEDED:
                bases[n] = [id_]
        row = hand.store_pieces(pieces_of(path, hand.chunk_size), os.path.getsize(path), disks[at]["domain"], bases)
        state = ("snapshot", kf.escape(os.fsencode(head))) if snapshots else ("current", "current")
        states.setdefault(state, []).append({"disk": at, **row, **({"snapshot_id": "1"} if snapshots else {})})
    attachments = []
    for text in args.attach:
        name, _, path = text.partition("=")
        row = hand.store_pieces(pieces_of(path, hand.chunk_size), os.path.getsize(path))
        attachments.append({"name": name, "mode": 0o600, **row})
    hand.flush()
    print(hand.put_manifest(args.vm, disks, [(k, n, rows) for (k, n), rows in states.items()], attachments,
                            forge=args.forge))
    if not args.no_end:
        hand.end()


def cmd_repack(args):
    repo = opened(args)
    hand = hand_of(args, repo)
    old = repo.open_pack(args.pack)
    pack = PackBuilder(hand, old.directory.kind)
    for i in range(len(old.directory.segments)):
        pack.adopt(repo, old, i)
    print(pack.finish())
    print(hand.put_run())


def evicted(args):
    """--evict takes the name of anything that the session wrote."""
    _, slot, session, *_ = args.evict.split("/")
    return {"slot": slot, "session": session, "kind": args.kind}


# command -> (prefix, [(option, how often)], members from the parsed options)
OBJECTS = {
    "session": ("session", [("kind", "backup"), ("vm", None), ("epoch", [])],
                lambda a: {"kind": a.kind, "host": "test", "vm": a.vm, "epochs": a.epoch}),
    "renewal": ("renewal", [("number", "1")], lambda a: {"number": int(a.number)}),
    "reading": ("reading", [("point", [])], lambda a: {"points": a.point, "purpose": "test"}),
    "end": ("end", [("outcome", "done")], lambda a: {"outcome": a.outcome}),
    "collector": ("collector", [], lambda a: {}),
    "epoch": ("epoch", [("condemn", [])], lambda a: {"condemned": a.condemn}),
    "eviction": ("eviction", [("evict", ...), ("kind", "writer")], lambda a: {"evicted": evicted(a)}),
    "sweep": ("sweep", [("epoch", ...), ("eviction", []), ("accept", []), ("doom", []), ("reprieve", [])],
              lambda a: {"epoch": a.epoch, "evictions": a.eviction, "accepted": a.accept, "doomed": a.doom,
                         "reprieved": a.reprieve}),
    "doomed": ("doomed", [("sweep", []), ("doom", [])], lambda a: {"sweeps": a.sweep, "doomed": a.doom}),
    "tombstone": ("tombstone", [("manifest", ...)], lambda a: {"manifest": a.manifest}),
    "restore-record": ("restore", [("manifest", ...), ("tombstone", [])],
                       lambda a: {"manifest": a.manifest, "tombstones": a.tombstone}),
    "extension": ("extension", [("object", []), ("until", "0")], lambda a: {"objects": a.object, "until": int(a.until)}),
}


def cmd_object(args):
    prefix, _, members = OBJECTS[args.command]
    repo = opened(args, lazy=True)
    more = members(args)
    if args.time:
        more["time"] = args.time
    print(hand_of(args, repo).post(prefix, forge=args.forge, **more))


def cmd_golden(args):
    import kedge_golden
    kedge_golden.make(args.dir, args.chunk_size)


def arguments(argv):
    p = argparse.ArgumentParser(description="Independent writer of kedge repositories, for tests.")
    sub = p.add_subparsers(dest="command", required=True)

    def command(name, function):
        c = sub.add_parser(name)
        c.set_defaults(function=function)
        c.add_argument("repo")
        add_secret_options(c)
        c.add_argument("--session", help="32 hex digits; default: a new one")
        c.add_argument("--forge", help="signature, claim=SLOT or name=SLOT")
        return c

    c = command("init", cmd_init)
    c.add_argument("--chunk-size", type=int, default=65536)
    c.add_argument("--domain", action="append", default=[])
    c = command("add-slot", cmd_add_slot)
    c.add_argument("--role", choices=sorted(kf.ROLES.values()), required=True)
    c.add_argument("--new-key-file", required=True)
    c.add_argument("--vms")
    c.add_argument("--untrusted", action="store_true")
    c.add_argument("--removed", action="store_true")
    c = command("backup", cmd_backup)
    c.add_argument("--vm", required=True)
    for option in ("--disk", "--snapshot", "--attach"):
        c.add_argument(option, action="append", default=[])
    c.add_argument("--delta", action="store_true")
    c.add_argument("--no-end", action="store_true")
    command("repack", cmd_repack).add_argument("pack")
    for name, (_, options, _) in OBJECTS.items():
        c = command(name, cmd_object)
        c.add_argument("--time", type=int)
        for option, default in options:
            many = {"nargs": "*"} if default == [] else {}
            c.add_argument("--" + option, default=None if default is ... else default, required=default is ..., **many)
    c = sub.add_parser("golden")
    c.set_defaults(function=cmd_golden)
    c.add_argument("dir")
    c.add_argument("--chunk-size", type=int, default=4096)
    return p.parse_args(argv)


def main():
    args = arguments(sys.argv[1:])
    try:
        args.function(args)
    except (FormatError, OSError) as e:
        print("kedge_writer: %s" % e, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
