#!/usr/bin/python3
"""An independent reader of kedge repositories in folders, written from docs/format.md alone.

    kedge_reader.py list REPO                                     one JSON line per backup that counts
    kedge_reader.py digests REPO [BACKUP]                         one TSV line per disk, VM state and attachment
    kedge_reader.py cat REPO BACKUP STATE DISK [-o FILE]          guest bytes; sparse with -o
    kedge_reader.py vmstate REPO BACKUP STATE DISK [-o FILE]
    kedge_reader.py attachment REPO BACKUP NAME [-o FILE]
    kedge_reader.py show REPO NAME                                any envelope, decoded and verified
    kedge_reader.py verify REPO                                   every object, segment, chunk, node and point

One of --password-file (without its last newline), --key-file, --recovery-key-file opens the repository.  --rebuild ignores
the index runs and reads the packs' directories.  BACKUP is a manifest's name, its hash or 8 digits of its start, or a VM
(its newest backup); DISK a name or a number; STATE current, snap:NAME or layer:NAME.

What is wrong but can be passed over goes to stderr, and makes `verify` fail.  Exit 1: refused, or something is wrong.
"""
import argparse
import hashlib
import json
import os
import re
import sys
from collections import OrderedDict
from dataclasses import dataclass, field

import kedge_format as kf
from kedge_format import FormatError, check


class Folder:
    """The objects of a repository, as files."""

    def __init__(self, path):
        self.path = path
        check(os.path.isdir(path), "%s: not a folder", path)

    def names(self, prefix):
        found = []
        for folder, _, files in os.walk(os.path.join(self.path, prefix)):
            for f in files:
                name = os.path.relpath(os.path.join(folder, f), self.path)
                if kf.NAME_RE.fullmatch(name):
                    found.append(name)
        return sorted(found)

    def size(self, name):
        try:
            return os.stat(os.path.join(self.path, name)).st_size
        except FileNotFoundError:
            raise FormatError(name + ": is missing") from None

    def read(self, name, offset, length):
        try:
            with open(os.path.join(self.path, name), "rb") as f:
                f.seek(offset)
                data = f.read(length)
        except FileNotFoundError:
            raise FormatError(name + ": is missing") from None
        check(len(data) == length, "%s: ends early", name)
        return data

    def get(self, name):
        data = self.read(name, 0, self.size(name))
        check(name == "config" or kf.digest(data).hex() == name.rsplit("/", 1)[1], "%s: bytes do not match the name", name)
        return data


class Cache:
    """The most recently used values, bounded by the sum of their lengths."""

    def __init__(self, limit):
        self.limit, self.used, self.items = limit, 0, OrderedDict()

    def get(self, key, make):
        if key in self.items:
            self.items.move_to_end(key)
            return self.items[key]
        value = make()
        self.items[key] = value
        self.used += len(value)
        while self.used > self.limit and len(self.items) > 1:
            self.used -= len(self.items.popitem(last=False)[1])
        return value


@dataclass
class Object:
    """A manifest or protocol object that verified."""
    name: str
    slot: str
    session: str
    json: dict
    status: str = "listed"      # manifests and restore records: listed, pending, void, forgotten


@dataclass
class Place:
    """Where a copy of a chunk or node lies."""
    pack: str
    segment: int
    chunk: int
    depth: int


@dataclass
class Pack:
    name: str
    directory: kf.Directory
    offset: int                 # of the envelope
    length: int
    size: int
    generation: int
    secrets: dict = field(default_factory=dict)


# What 10.1 uses of each kind of protocol object, and the prefixes of names in it: an object without is reported and ignored.
PACKS = "data nodes"
MEMBERS = {"epoch": {"condemned": (list, PACKS + " manifests")}, "eviction": {"evicted": (dict, "")},
           "tombstone": {"manifest": (str, "manifests")},
           "sweep": {"epoch": (str, "epoch"), "evictions": (list, "eviction"), "accepted": (list, "manifests restore sweep"),
                     "doomed": (list, PACKS + " index manifests"), "reprieved": (list, PACKS)},
           "doomed": {"sweeps": (list, "sweep"), "doomed": (list, PACKS + " index manifests")},
           "restore": {"manifest": (str, "manifests"), "tombstones": (list, "tombstone")},
           "session": {"epochs": (list, "epoch")}, "reading": {"points": (list, "manifests")}}


VM_NAME = re.compile("[A-Za-z0-9._-]{1,64}")


def need(value, kind, what):
    check(isinstance(value, kind) and not (kind is int and isinstance(value, bool)), "%s: missing or of another type", what)
    return value


def need_root(row, what):
    """(root or None, height, size) of a disk, VM state or attachment."""
    size, height = need(row.get("size"), int, what + ": size"), need(row.get("height"), int, what + ": height")
    check(0 <= size < 1 << 63 and 1 <= height <= kf.MAX_LEVEL, "%s: size or height out of range", what)
    root = row.get("root")
    try:
        root = None if root is None else bytes.fromhex(need(root, str, what + ": root"))
    except ValueError:
        raise FormatError(what + ": root is not hex") from None
    check(root is None or len(root) == 32, "%s: bad root", what)
    return root, height, size


def check_tree(row, what, chunk_size):
    root, height, size = need_root(row, what)
    check(height == kf.height_of(size, chunk_size), "%s: the height does not fit the size", what)
    check(root is None or size, "%s: a root of no bytes", what)


def check_manifest(m, what, chunk_size):
    """Section 9, as far as reading a point leans on it."""
    def rows(of, member, at):
        return [(need(r, dict, "%s: %s" % (at, member)), "%s: %s[%d]" % (at, member, i))
                for i, r in enumerate(need(of.get(member), list, "%s: %s" % (at, member)))]

    check(m.get("format") == 1, "%s: format %s is not known", what, m.get("format"))
    for member, kind in (("vm", str), ("host", str), ("start", int), ("end", int), ("sequence", int), ("complete", bool),
                         ("problems", list), ("machine", dict), ("tags", list), ("pins", list), ("statistics", dict)):
        need(m.get(member), kind, "%s: %s" % (what, member))
    disks = rows(m, "disks", what)
    for disk, at in disks:
        for member in ("name", "domain"):
            check(VM_NAME.fullmatch(need(disk.get(member), str, at + ": " + member)), "%s: bad %s", at, member)
        check(need(disk.get("layers"), list, at + ": layers"), "%s: no layers", at)
    check(len({d["name"] for d, _ in disks}) == len(disks), "%s: two disks of one name", what)
    for state, at in rows(m, "states", what):
        check(state.get("kind") in ("current", "snapshot", "layer"), "%s: unknown kind", at)
        need(state.get("name"), str, at + ": name")
        seen = set()
        for row, at in rows(state, "disks", at):
            disk, layer = need(row.get("disk"), int, at + ": disk"), need(row.get("layer"), int, at + ": layer")
            check(0 <= disk < len(disks) and disk not in seen, "%s: disk %d is not there, or twice", at, disk)
            check(0 <= layer < len(disks[disk][0]["layers"]), "%s: layer %d is not there", at, layer)
            seen.add(disk)
            check_tree(row, at, chunk_size)
            if row.get("vm_state") is not None:
                check_tree(need(row["vm_state"], dict, at + ": vm_state"), at + ": vm_state", chunk_size)
    for row, at in rows(m, "attachments", what):
        name = need(row.get("name"), str, at + ": name")
        check(name not in ("", ".", "..") and "/" not in name, "%s: the name is no file's", at)
        need(row.get("mode"), int, at + ": mode")
        check_tree(row, at, chunk_size)


class Repository:
    def __init__(self, path, secrets, rebuild=False, lazy=False):
        """secrets: [(kdf, bytes)]; lazy: without the index (enough for keys and protocol objects)."""
        self.folder = Folder(path)
        self.problems = []
        self.rebuild = rebuild
        self.keys = self.open_keys(secrets)
        self.config = self.open_config()
        self.chunk_size = self.config["chunk_size"]
        self.slots = self.load_slots()
        self.packs = {}
        self.segments = Cache(64 << 20)
        self.frames = Cache(64 << 20)
        self.places = None
        if not lazy:
            self.load_protocol()
            self.load_manifests()

    def problem(self, error):
        text = str(error)
        if text not in self.problems:
            self.problems.append(text)
            print("kedge_reader: " + text, file=sys.stderr)

    # --- keys, config, slots ---

    def open_keys(self, secrets):
        for name in self.folder.names("keys"):
            try:
                data = self.folder.get(name)
                kdf, _, slot, *_ = kf.key_object_head(data, name)
                check(slot.hex() == name.split("/")[1], "%s: names another slot", name)
            except FormatError as e:
                self.problem(e)
                continue
            for kind, secret in secrets:
                if kind == kdf:
                    try:
                        return kf.open_key_object(data, secret, name)
                    except FormatError as e:
                        if "does not open" not in str(e):
                            self.problem(e)
        raise FormatError("%s: no key slot opens with this secret" % self.folder.path)

    def open_config(self):
        env = kf.open_envelope(self.keys, self.folder.get("config"), kf.CONFIG, "config")
        check(env.signer == kf.AUTHORITY, "config: not signed by the authority")
        env.verify(self.keys.cipher, self.keys.authority_public)
        config = kf.json_payload(env.payload, "config")
        check(config.get("format") == 1, "config: format %s is not known", config.get("format"))
        unknown = need(config.get("incompatible"), list, "config: incompatible")
        check(not unknown, "config: needs features that this reader lacks: %s", ", ".join(map(str, unknown)))
        check(config.get("repository") == self.keys.cipher.hex(), "config: of another repository")
        size = need(config.get("chunk_size"), int, "config: chunk_size")
        check(4096 <= size <= 4 << 20 and size & (size - 1) == 0, "config: bad chunk size")
        return config

    def load_slots(self):
        slots = {}
        for name in self.folder.names("slots"):
            try:
                env = kf.open_envelope(self.keys, self.folder.get(name), kf.SLOT_RECORD, name)
                check(env.signer == kf.AUTHORITY, "%s: not signed by the authority", name)
                env.verify(self.keys.cipher, self.keys.authority_public)
                record = kf.json_payload(env.payload, name)
                slot = record.get("slot")
                check(slot == name.split("/")[1], "%s: names another slot", name)
                check(record.get("role") in kf.ROLES.values(), "%s: unknown role", name)
                serial = need(record.get("serial"), int, name + ": serial")
                record["sign"] = bytes.fromhex(need(record.get("sign"), str, name + ": sign"))
                check(len(record["sign"]) == 32, "%s: bad public key", name)
                rank = (record.get("status") == "removed", serial)
                if slot not in slots or (slots[slot].get("status") == "removed", slots[slot]["serial"]) < rank:
                    slots[slot] = record
            except (FormatError, ValueError) as e:
                self.problem(e)
        return slots

    def open_signed(self, name, type_, data=None, what=None):
        """An envelope whose signer must be the SLOT of the name, with its signature verified."""
        what = what or name
        env = kf.open_envelope(self.keys, self.folder.get(name) if data is None else data, type_, what)
        slot = name.split("/")[1]
        check(env.signer.hex() == slot, "%s: signer and name differ", what)
        check(slot in self.slots, "%s: slot %s has no record", what, slot)
        env.verify(self.keys.cipher, self.slots[slot]["sign"])
        return env

    # --- protocol objects and manifests (sections 9 and 10) ---

    def load_object(self, name):
        prefix, slot, session, _ = name.split("/")
        manifest = prefix == "manifests"
        env = self.open_signed(name, kf.MANIFEST if manifest else kf.PROTOCOL[prefix])
        value = kf.json_payload(env.payload, name)
        check(value.get("writer" if manifest else "slot") == slot and value.get("session") == session,
              "%s: slot or session is not the name's", name)
        for member, (kind, prefixes) in MEMBERS.get(prefix, {}).items():
            found = need(value.get(member), kind, "%s: %s" % (name, member))
            for text in [] if kind is dict else found if kind is list else [found]:
                check(isinstance(text, str) and kf.NAME_RE.fullmatch(text) and text.split("/")[0] in prefixes.split(),
                      "%s: %s: \"%s\" is no name that it may hold", name, member, text)
        record = self.slots[slot]
        if manifest:
            check_manifest(value, name, self.chunk_size)
            check(record.get("vms") is None or value.get("vm") in record["vms"],
                  "%s: slot %s may not write VM '%s': ignored", name, slot, value.get("vm"))
        elif prefix not in kf.OWN_SIGNED:
            may = ("full",) if prefix == "removal" else ("maintain", "full")
            check(record["role"] in may, "%s: a %s slot may not sign this: ignored", name, record["role"])
        return Object(name, slot, session, value)

    def load_all(self, prefix):
        objects = {}
        for name in self.folder.names(prefix):
            try:
                objects[name] = self.load_object(name)
            except FormatError as e:
                self.problem(e)
        return objects

    def load_protocol(self):
        self.protocol = {p: self.load_all(p) for p in ("epoch", "eviction", "sweep", "doomed", "tombstone", "restore")}
        self.evicted = {}                   # (slot, session) -> names of its evictions
        for name, o in self.protocol["eviction"].items():
            who = o.json["evicted"]
            self.evicted.setdefault((who.get("slot"), who.get("session")), set()).add(name)
        self.judge_sweeps()
        for o in self.protocol["restore"].values():
            o.status = self.judge(o)
        self.doomed = {n for o in self.sweeps.values() for n in o.json["doomed"]}
        self.doomed |= {n for o in self.protocol["doomed"].values() for n in o.json["doomed"]}
        self.condemned = self.doomed | {n for o in self.protocol["epoch"].values() for n in o.json["condemned"]}

    def rejects(self, sweep, o):
        """Whether this sweep record, if it counts, makes o void."""
        evictions = self.evicted.get((o.slot, o.session), set())
        return bool(evictions.intersection(sweep.json["evictions"])) and o.name not in sweep.json["accepted"]

    def judge_sweeps(self):
        """10.1 rule 1: self.sweeps, the sweep records that are not void, and self.firm, the names of the firm ones."""
        records = self.protocol["sweep"]
        undecided, good = dict(records), {}
        while True:
            void = [n for n, o in undecided.items() if any(self.rejects(s, o) for s in good.values())]
            for n in void:
                undecided.pop(n).status = "void"
            fine = [n for n, o in undecided.items() if not any(self.rejects(s, o) for s in undecided.values())]
            good.update({n: undecided.pop(n) for n in fine})
            if not void and not fine:
                break
        for o in undecided.values():
            o.status = "void"
        self.sweeps = good
        self.firm = {n for n, o in good.items() if (o.slot, o.session) not in self.evicted}
        while True:
            accepted = {n for f in self.firm for n in good[f].json["accepted"]}
            more = (accepted & set(good)) - self.firm
            if not more:
                break
            self.firm |= more
        self.accepted = accepted

    def judge(self, o):
        """10.1 rule 2: a manifest or restore record."""
        if (o.slot, o.session) not in self.evicted:
            return "listed"
        if any(self.rejects(s, o) for s in self.sweeps.values()):
            return "void"
        return "listed" if o.name in self.accepted else "pending"

    def forgotten(self, standings):
        """10.1 rule 3: the manifests that a tombstone names which no restore record of these standings undoes."""
        undone = {(o.json["manifest"], t) for o in self.protocol["restore"].values() if o.status in standings
                  for t in o.json["tombstones"]}
        return {o.json["manifest"] for o in self.protocol["tombstone"].values() if (o.json["manifest"], o.name) not in undone}

    def load_manifests(self):
        self.manifests = self.load_all("manifests")
        forgotten, perhaps = self.forgotten(("listed", "pending")), self.forgotten(("listed",))
        for o in self.manifests.values():
            o.status = self.judge(o)
            if o.status != "void" and (o.name in forgotten or o.name in self.doomed):
                o.status = "forgotten"
            elif o.status == "listed" and o.name in perhaps:
                o.status = "pending"
        self.backups = sorted((o for o in self.manifests.values() if o.status in ("listed", "pending")),
                              key=lambda o: (o.json.get("start", 0), o.name))

    def find_backup(self, text):
        check(self.backups, "the repository lists no backup")
        # A VM may be called "db": fewer than 8 digits are no hash.
        found = [o for o in self.backups
                 if text == o.name or len(text) >= 8 and o.name.rsplit("/", 1)[1].startswith(text)]
        found = found or [o for o in self.backups if o.json.get("vm") == text][-1:]
        check(len(found) == 1, "%s: %s", text, "ambiguous" if found else "no such backup is listed")
        return found[0]

    # --- where things are (sections 6 and 8) ---

    def load_index(self):
        self.places = {}                    # (kind, id) -> [Place], least depth first
        if self.rebuild:
            for kind, prefix in kf.PACK_PREFIX.items():
                for name in self.folder.names(prefix):
                    if name not in self.doomed:
                        self.guard(self.index_pack, name)
        else:
            for name in self.folder.names("index"):
                self.guard(self.index_run, name)
        for places in self.places.values():
            places.sort(key=lambda p: p.depth)

    def guard(self, function, *args):
        try:
            return function(*args)
        except FormatError as e:
            self.problem(e)

    def index_pack(self, name):
        pack = self.open_pack(name)
        for s, segment in enumerate(pack.directory.segments):
            for c, chunk in enumerate(segment.chunks):
                self.places.setdefault((pack.directory.kind, chunk.id), []).append(Place(name, s, c, chunk.depth))

    def index_run(self, name):
        packs, entries = self.open_run(name)
        names = [p.name for p in packs]
        for e in entries:
            if names[e.pack] not in self.doomed:
                place = Place(names[e.pack], e.segment, e.chunk, e.depth)
                self.places.setdefault((packs[e.pack].kind, e.id), []).append(place)

    def open_run(self, name, whole=False):
        size = self.folder.size(name)
        check(size >= kf.TRAILER_BYTES, "%s: too short", name)
        if whole:
            self.folder.get(name)
        end = self.folder.read(name, size - kf.TRAILER_BYTES, kf.TRAILER_BYTES)
        offset, length, _ = kf.open_trailer(end, size, kf.INDEX_RUN, name)
        env = self.open_signed(name, kf.RUN_TAIL, self.folder.read(name, offset, length))
        number, packs, fences, count = kf.parse_run_tail(env.payload, offset, name)
        entries, ad = [], self.keys.cipher + bytes([kf.BLOCK]) + number.to_bytes(4, "little")
        for i, (first, hash_) in enumerate(fences):
            what = "%s: block %d" % (name, i)
            sealed = self.folder.read(name, i * kf.BLOCK_BYTES, kf.BLOCK_BYTES)
            check(kf.digest(sealed) == hash_, "%s: altered", what)
            block = kf.parse_block(kf.unseal(self.keys.generation(number, what).index, sealed, ad, what), packs, what)
            check(block[0].id == first and (not entries or entries[-1].id < first), "%s: blocks are not sorted", what)
            entries += block
        check(len(entries) == count, "%s: %d entries instead of %d", name, len(entries), count)
        return packs, entries

    def open_pack(self, name):
        if name not in self.packs:
            prefix, slot, session, _ = name.split("/")
            size = self.folder.size(name)
            check(size >= kf.TRAILER_BYTES, "%s: too short", name)
            end = self.folder.read(name, size - kf.TRAILER_BYTES, kf.TRAILER_BYTES)
            kind = kf.DATA_PACK if prefix == "data" else kf.NODE_PACK
            offset, length, salt = kf.open_trailer(end, size, kind, name)
            env = self.open_signed(name, kf.DIRECTORY, self.folder.read(name, offset, length))
            d = kf.parse_directory(env.payload, offset, self.chunk_size, name)
            check((d.kind, d.slot.hex(), d.session.hex(), d.salt) == (kind, slot, session, salt),
                  "%s: the directory is another pack's", name)
            self.packs[name] = Pack(name, d, offset, length, size, env.generation)
        return self.packs[name]

    def pack_key(self, pack, key):
        if key not in pack.secrets:
            number, sealed = pack.directory.keys[key]
            g = self.keys.generation(number, pack.name)
            data = pack.directory.kind == kf.DATA_PACK
            public, secret = (g.data_public, g.data_secret) if data else (g.nodes_public, g.nodes_secret)
            check(any(secret), "%s: this key may not read %s", pack.name, "data" if data else "nodes")
            r = kf.unbox(public, secret, sealed, pack.name)
            pack.secrets[key] = kf.b2(g.shared, b"kedge-packkey-v1", r)
        return pack.secrets[key]

    def segment(self, pack, index):
        def make():
            d = pack.directory
            s = d.segments[index]
            ad = kf.segment_ad(self.keys.cipher, d.kind, d.keys[s.key][0], s.birth)
            what = "%s: segment %d" % (pack.name, index)
            return kf.unseal(self.pack_key(pack, s.key), self.folder.read(pack.name, s.offset, s.stored), ad, what)
        return self.segments.get((pack.name, index), make)

    def frame(self, pack, segment, index, prefix=b""):
        what = "%s: segment %d: frame %d" % (pack.name, segment, index)
        s = pack.directory.segments[segment]
        stored, decoded, codec = s.frames[index]
        start = sum(f[0] for f in s.frames[:index])
        data = self.segment(pack, segment)[start:start + stored]
        return data if codec == kf.RAW else kf.zstd_frame(data, decoded, what, prefix)

    # --- contents ---

    def fetch(self, kind, id_, domain, needed=(), depth=0):
        """A chunk's or node's bytes, compared with its id.  needed: ids on the way here; returns (bytes, ids needed)."""
        if self.places is None:
            self.load_index()
        what = "%s %s" % ("chunk" if kind == kf.DATA_PACK else "node", id_.hex())
        check(depth <= kf.MAX_DEPTH, "%s: deltas too deep", what)
        errors = []
        for place in self.places.get((kind, id_), []):
            try:
                return self.fetch_copy(kind, id_, domain, place, needed, depth, what)
            except FormatError as e:
                errors.append(str(e))
        raise FormatError("; ".join(errors) if errors else what + ": no index run names it")

    def fetch_copy(self, kind, id_, domain, place, needed, depth, what):
        pack = self.open_pack(place.pack)
        d = pack.directory
        check(place.segment < len(d.segments) and place.chunk < len(d.segments[place.segment].chunks),
              "%s: %s has no such segment or chunk", what, place.pack)
        chunk = d.segments[place.segment].chunks[place.chunk]
        check(d.kind == kind and chunk.id == id_, "%s: %s has another one at its place", what, place.pack)
        needed, prefix = set(needed), []
        for base in chunk.bases:
            check(sum(map(len, prefix)) < kf.MAX_BASES_BYTES, "%s: bases are too large", what)
            data, more = self.fetch(kind, base, domain, needed | {base}, depth + 1)
            needed |= more | {base}
            check(len(needed) <= kf.MAX_NEEDED, "%s: needs too many others", what)
            prefix.append(data)

        def make():
            return self.frame(pack, place.segment, chunk.frame, b"".join(prefix))
        frame = self.frames.get((pack.name, place.segment, chunk.frame), make)
        data = frame[chunk.offset:chunk.offset + chunk.length]
        right = kf.chunk_id(self.keys, domain, data) if kind == kf.DATA_PACK else kf.node_id(self.keys, data)
        check(right == id_, "%s: %s holds other bytes", what, place.pack)
        return data, needed

    def walk(self, root, height, size, index=0, seen=None):
        """(number of the chunk, id) of every chunk that is not zero, rising.  seen: what need not be descended into again,
        shared between trees."""
        data, _ = self.fetch(kf.NODE_PACK, root, "default")
        children = kf.parse_node(data, height, "node " + root.hex())
        span = self.chunk_size * kf.FANOUT ** (height - 1)
        for i, id_ in children.items():
            child = index * kf.FANOUT + i
            check(child * span < size, "node %s: a child past the end", root.hex())
            if height == 1:
                yield child, id_
            elif seen is None or (id_, height, child, size) not in seen:
                if seen is not None:
                    seen.add((id_, height, child, size))
                yield from self.walk(id_, height - 1, size, child, seen)

    def content(self, row, domain, what):
        """(offset, bytes) of all that is not zero."""
        root, height, size = need_root(row, what)
        check(height == kf.height_of(size, self.chunk_size), "%s: the height does not fit the size", what)
        if root is not None:
            for n, id_ in self.walk(root, height, size):
                data, _ = self.fetch(kf.DATA_PACK, id_, domain)
                yield n * self.chunk_size, data[:min(self.chunk_size, size - n * self.chunk_size)]

    def contents_of(self, backup):
        """(kind, selector, name, row, domain) of all that a backup holds."""
        m = backup.json
        disks = need(m.get("disks"), list, backup.name + ": disks")
        for state in need(m.get("states"), list, backup.name + ": states"):
            for row in need(state.get("disks"), list, backup.name + ": disks of a state"):
                at = need(row.get("disk"), int, backup.name + ": disk")
                check(0 <= at < len(disks), "%s: no such disk", backup.name)
                disk = disks[at]
                yield "disk", selector(state), disk["name"], row, disk["domain"]
                if row.get("vm_state") is not None:
                    yield "vmstate", selector(state), disk["name"], row["vm_state"], "default"
        for a in m.get("attachments", []):
            yield "attachment", "-", a["name"], a, "default"

    def find(self, backup, kind, state, name):
        found = [c for c in self.contents_of(backup) if c[0] == kind and c[1] == state]
        disks = [d["name"] for d in backup.json["disks"]]
        if kind != "attachment" and name not in disks and name.isdigit() and int(name) < len(disks):
            name = disks[int(name)]
        found = [c for c in found if c[2] == name]
        check(len(found) == 1, "%s: no %s '%s' in state '%s'", backup.name, kind, name, state)
        return found[0]


def selector(state):
    kind = state.get("kind")
    check(kind in ("current", "snapshot", "layer"), "unknown kind of state '%s'", kind)
    return kind if kind == "current" else {"snapshot": "snap", "layer": "layer"}[kind] + ":" + state["name"]


# --- verify ----------------------------------------------------------------------------------------------------------

class Verifier:
    """Reads everything there is; what is wrong ends in repo.problems."""

    def __init__(self, repo):
        self.repo = repo
        self.good = set()           # (kind, id) decoded and compared
        self.counts = dict.fromkeys(("objects", "packs", "runs", "segments", "chunks", "nodes", "deltas", "entries",
                                     "backups", "points", "not_opened"), 0)
        self.seen = set()           # subtrees walked

    def run(self):
        repo = self.repo
        for name in repo.folder.names(""):
            self.counts["objects"] += 1
            repo.guard(repo.folder.get, name)
            prefix = name.split("/")[0]
            if prefix in kf.PROTOCOL and prefix not in repo.protocol:
                repo.guard(repo.load_object, name)
            if prefix == "keys" and name.split("/")[1] not in repo.slots:
                repo.problem(name + ": the slot has no record")
        runs = repo.folder.names("index")
        packs = {n for prefix in kf.PACK_PREFIX.values() for n in repo.folder.names(prefix)}
        for name in runs:
            repo.guard(self.run_of_index, name, packs)
        repo.load_index()
        for name in sorted(packs - repo.doomed):
            repo.guard(self.pack, name)
        for backup in repo.backups:
            self.counts["backups"] += 1
            repo.guard(self.backup, backup)
        return not repo.problems

    def run_of_index(self, name, packs):
        repo = self.repo
        rows, entries = repo.open_run(name, whole=True)
        self.counts["runs"] += 1
        self.counts["entries"] += len(entries)
        opened = []
        for row in rows:
            if row.name in repo.doomed or row.name not in packs:
                check(row.name in repo.doomed, "%s: names %s, which is missing", name, row.name)
                opened.append(None)
                continue
            p = repo.open_pack(row.name)
            opened.append(p)
            mine = (row.size, row.offset, row.length, row.generation, [s[0] for s in row.segments])
            check(mine == (p.size, p.offset, p.length, p.generation, [s.sealer for s in p.directory.segments]),
                  "%s: its row of %s is wrong", name, row.name)
        for e in entries:
            if opened[e.pack]:
                chunks = opened[e.pack].directory.segments[e.segment].chunks
                c = chunks[e.chunk] if e.chunk < len(chunks) else None
                check(c and (c.id, c.bases, c.depth) == (e.id, e.bases, e.depth), "%s: entry %s is wrong", name, e.id.hex())

    def pack(self, name):
        repo = self.repo
        p = repo.open_pack(name)
        self.counts["packs"] += 1
        data = p.directory.kind == kf.DATA_PACK
        g = repo.keys.generations[repo.keys.newest]
        if not any(g.data_secret if data else g.nodes_secret):
            self.counts["not_opened"] += 1
            return
        for index, s in enumerate(p.directory.segments):
            self.counts["segments"] += 1
            for at, c in enumerate(s.chunks):
                if data:
                    self.any_domain(Place(name, index, at, c.depth), c)
                else:
                    repo.fetch_copy(kf.NODE_PACK, c.id, "default", Place(name, index, at, c.depth), (), 0, name)
                self.counts["chunks" if data else "nodes"] += 1
                self.counts["deltas"] += bool(c.bases)
                self.good.add((p.directory.kind, c.id))

    def any_domain(self, place, chunk):
        """A pack doesn't say which domain a chunk is of."""
        errors = []
        for domain in self.repo.keys.domains:
            try:
                return self.repo.fetch_copy(kf.DATA_PACK, chunk.id, domain, place, (), 0, "chunk " + chunk.id.hex())
            except FormatError as e:
                errors.append(str(e))
        raise FormatError(errors[0])

    def backup(self, backup):
        repo = self.repo
        readable = not self.counts["not_opened"]
        for kind, state, name, row, _ in repo.contents_of(backup):
            what = "%s: %s %s %s" % (backup.name, kind, state, name)
            root, height, size = need_root(row, what)
            check(height == kf.height_of(size, repo.chunk_size), "%s: the height does not fit the size", what)
            self.counts["points"] += 1
            for _, id_ in repo.walk(root, height, size, seen=self.seen) if root else ():
                check(not readable or (kf.DATA_PACK, id_) in self.good, "%s: chunk %s is missing or bad", what, id_.hex())
                check((kf.DATA_PACK, id_) in repo.places, "%s: chunk %s is missing", what, id_.hex())


# --- the command line ------------------------------------------------------------------------------------------------

def write_sparse(pieces, size, path):
    with open(path, "wb") as f:
        for offset, data in pieces:
            f.seek(offset)
            f.write(data)
        f.truncate(size)


ZEROS = bytes(1 << 20)


def stream(pieces, size, sink):
    """Calls sink with every byte in order, zeros included."""
    at = 0
    for offset, data in with_end(pieces, size):
        while at < offset:
            n = min(len(ZEROS), offset - at)
            sink(memoryview(ZEROS)[:n])
            at += n
        sink(data)
        at += len(data)


def with_end(pieces, size):
    yield from pieces
    yield size, b""


def sha256_of(repo, row, domain, what):
    h = hashlib.sha256()
    stream(repo.content(row, domain, what), row["size"], h.update)
    return h.hexdigest()


def digest_lines(repo, backups):
    for b in backups:
        for kind, state, name, row, domain in repo.contents_of(b):
            digest = repo.guard(sha256_of, repo, row, domain, "%s: %s %s" % (b.name, state, name))
            yield [b.name.rsplit("/", 1)[1], b.json["vm"], state, kind, name, row["size"], digest or "refused"]


def summary(o):
    m = o.json
    disks = [d["name"] for d in m["disks"]]
    states = [{"selector": selector(s), "disks": [{"disk": disks[r["disk"]], "size": r["size"], "root": r["root"]}
                                                  for r in s["disks"]]} for s in m["states"]]
    keep = {k: m.get(k) for k in ("vm", "vm_name", "host", "start", "end", "writer", "session", "sequence", "previous",
                                  "complete", "tags", "pins")}
    return {"name": o.name, "status": o.status, **keep, "states": states,
            "attachments": [{"name": a["name"], "size": a["size"]} for a in m.get("attachments", [])]}


def show(repo, name):
    prefix = name.split("/")[0]
    if prefix in ("config", "slots"):
        env = kf.open_envelope(repo.keys, repo.folder.get(name), kf.CONFIG if prefix == "config" else kf.SLOT_RECORD, name)
        return kf.json_payload(env.payload, name)
    check(prefix == "manifests" or prefix in kf.PROTOCOL, "%s: not an envelope alone", name)
    return repo.load_object(name).json


def add_secret_options(p):
    p.add_argument("--password-file", action="append", default=[])
    p.add_argument("--key-file", action="append", default=[])
    p.add_argument("--recovery-key-file", action="append", default=[])


def secrets_of(args):
    def whole(path):
        with open(path, "rb") as f:
            return f.read()
    secrets = [(kf.KDF_KEYFILE, whole(p)) for p in args.key_file]
    secrets += [(kf.KDF_RECOVERY, kf.recovery_decode(whole(p).decode())) for p in args.recovery_key_file]
    for p in args.password_file:
        text = whole(p)
        secrets.append((kf.KDF_PASSPHRASE, text[:-1] if text.endswith(b"\n") else text))
    check(secrets, "give --password-file, --key-file or --recovery-key-file")
    return secrets


def arguments(argv):
    p = argparse.ArgumentParser(description="Independent reader of kedge repositories.")
    sub = p.add_subparsers(dest="command", required=True)
    for command, operands in (("list", ""), ("digests", "backup?"), ("cat", "backup state disk"),
                              ("vmstate", "backup state disk"), ("attachment", "backup disk"), ("show", "name"),
                              ("verify", "")):
        c = sub.add_parser(command)
        c.add_argument("repo")
        for operand in operands.split():
            c.add_argument(operand.rstrip("?"), nargs="?" if operand.endswith("?") else None)
        add_secret_options(c)
        c.add_argument("--rebuild", action="store_true", help="ignore index runs, read the packs' directories")
        if command == "list":
            c.add_argument("--all", action="store_true", help="also void and forgotten ones")
        if command in ("cat", "vmstate", "attachment"):
            c.add_argument("-o", dest="output")
    return p.parse_args(argv)


def run(args):
    repo = Repository(args.repo, secrets_of(args), args.rebuild)
    if args.command == "list":
        for o in sorted(repo.manifests.values(), key=lambda o: o.json["start"]) if args.all else repo.backups:
            print(json.dumps(summary(o), ensure_ascii=False))
    elif args.command == "digests":
        before = len(repo.problems)
        for line in digest_lines(repo, [repo.find_backup(args.backup)] if args.backup else repo.backups):
            print(*line, sep="\t")
        return len(repo.problems) == before
    elif args.command == "show":
        print(json.dumps(show(repo, args.name), ensure_ascii=False, indent=1))
    elif args.command == "verify":
        v = Verifier(repo)
        good = v.run()
        print(json.dumps({**v.counts, "problems": len(repo.problems)}))
        return good
    else:
        kind = {"cat": "disk"}.get(args.command, args.command)
        state = "-" if kind == "attachment" else args.state
        _, _, name, row, domain = repo.find(repo.find_backup(args.backup), kind, state, args.disk)
        pieces = repo.content(row, domain, "%s %s" % (state, name))
        if args.output:
            write_sparse(pieces, row["size"], args.output)
        else:
            stream(pieces, row["size"], sys.stdout.buffer.write)
    return True


def main():
    try:
        sys.exit(0 if run(arguments(sys.argv[1:])) else 1)
    except (FormatError, OSError) as e:
        print("kedge_reader: %s" % e, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
