"""Golden repositories: what every reader must read, and what it must refuse.  See make().

Each point's expected digest is computed from plain bytes here, never by reading the repository back.
"""
import hashlib
import os
import random
import shutil
from dataclasses import replace

import kedge_format as kf
from kedge_reader import Repository
from kedge_writer import Frame, Hand, PackBuilder, layer, new_generation, new_keys, put, put_config, put_slot, slot_keys

PASSWORD = b"correct horse"
ZEROS = bytes(1 << 20)


class Image:
    """A disk as {number of the chunk: bytes} and a size."""

    def __init__(self, size, chunk_size, chunks=()):
        self.size, self.chunk_size, self.chunks = size, chunk_size, dict(chunks)

    def sha256(self):
        h, at = hashlib.sha256(), 0
        for n, data in sorted(self.chunks.items()):
            for _ in range((n * self.chunk_size - at) // len(ZEROS)):
                h.update(ZEROS)
            h.update(ZEROS[:(n * self.chunk_size - at) % len(ZEROS)])
            data = data.ljust(self.chunk_size, b"\0")[:self.size - n * self.chunk_size]
            h.update(data)
            at = n * self.chunk_size + len(data)
        for _ in range((self.size - at) // len(ZEROS)):
            h.update(ZEROS)
        h.update(ZEROS[:(self.size - at) % len(ZEROS)])
        return h.hexdigest()


class Golden:
    def __init__(self, path, chunk_size):
        self.path, self.cs = path, chunk_size
        self.repo_path = os.path.join(path, "repo")
        self.lines = []
        self.random = random.Random(1)
        self.library = {}
        self.keys = new_keys(["tenant-b"])

    # --- actors ---

    def secret(self, name, data):
        with open(os.path.join(self.path, name), "wb") as f:
            f.write(data)
        return data[:-1] if name == "password" else data

    def make_slots(self):
        keys, path = self.keys, self.repo_path
        self.other = slot_keys(keys, "full")
        self.put_only, self.maintain, self.removed = (slot_keys(keys, r) for r in ("put", "maintain", "put"))
        raw = os.urandom(32)
        self.secret("recovery.key", kf.recovery_encode(raw).encode() + b"\n")
        self.slots = [(keys, kf.KDF_PASSPHRASE, self.secret("password", PASSWORD + b"\n"), {}),
                      (slot_keys(keys, "full"), kf.KDF_RECOVERY, raw, {})]
        for k, name, more in ((self.other, "full.key", {}), (self.maintain, "maintain.key", {}),
                              (self.put_only, "put.key", {"vms": ["gamma"], "trusted": False})):
            self.slots.append((k, kf.KDF_KEYFILE, self.secret(name, os.urandom(100)), more))
        for k, kdf, secret, more in self.slots:
            put_slot(path, keys, k, kdf, secret, "100%", **more)
        put_slot(path, keys, self.removed, kf.KDF_KEYFILE, b"", status="active", vms=["gone", "other"])
        shutil.rmtree(os.path.join(path, "keys", self.removed.slot.hex()))
        put_slot(path, keys, self.removed, kf.KDF_KEYFILE, b"", status="removed", vms=["gone"], serial=2)

    def new_generation(self):
        """Adds generation 2 to every slot's key object; later objects are sealed under it.  The removed slot lacks it."""
        generation = new_generation()
        shutil.rmtree(os.path.join(self.repo_path, "keys"))
        for k, kdf, secret, _ in self.slots:
            k.generations[2] = generation
            data = kf.key_object(k, kdf, secret)
            put(self.repo_path, "keys/%s/%s" % (k.slot.hex(), kf.digest(data).hex()), data)
        put_config(self.repo_path, self.keys, self.cs)

    def hand(self, keys=None, session=None, fresh=False):
        """fresh: knows nothing of what the repository holds, so that it stores all that it needs."""
        return Hand(self.repo_path, keys or self.keys, self.cs, session, {} if fresh else self.library)

    # --- contents ---

    def noise(self, size=None):
        return self.random.randbytes(self.cs if size is None else size)

    def text(self):
        words = [self.random.randbytes(4).hex() for _ in range(40)]
        return " ".join(self.random.choice(words) for _ in range(self.cs // 9 + 1)).encode()[:self.cs]

    def small(self, chunks=3, text=False):
        return Image(chunks * self.cs, self.cs, {n: self.text() if text else self.noise() for n in range(chunks)})

    def store(self, hand, image, domain="default", bases=None):
        return hand.store_pieces(sorted(image.chunks.items()), image.size, domain, bases)

    # --- expectations ---

    def expect(self, verdict, manifest, vm, state="-", kind="-", name="-", size="-", sha256="-"):
        self.lines.append([verdict, manifest.rsplit("/", 1)[1], vm, state, kind, name, size, sha256])

    def expect_image(self, verdict, manifest, vm, image, state="current", kind="disk", name="disk"):
        self.expect(verdict, manifest, vm, state, kind, name, image.size, "-" if verdict == "refuse" else image.sha256())

    def simple(self, vm, verdict="ok", keys=None, session=None, image=None, forge=None, hand=None, end=True, **changes):
        """A backup of one small disk in one state; returns (manifest, hand)."""
        image = image or self.small()
        hand = hand or self.hand(keys, session)
        hand.begin(vm=vm)
        row = self.store(hand, image)
        hand.flush()
        manifest = hand.put_manifest(vm, [{"name": "disk"}], [("current", "current", [{"disk": 0, **row}])], forge=forge,
                                     **changes)
        if end:
            hand.end()
        if verdict == "absent":
            self.expect(verdict, manifest, vm)
        else:
            self.expect_image(verdict, manifest, vm, image)
        return manifest, hand

    # --- the scenes ---

    def alpha(self):
        """Two disks, snapshots with VM state, attachments, deltas by place up to depth 8, two generations of keys."""
        cs, h = self.cs, self.hand()
        root = Image(3 * 256 * cs + 700, cs, {n: self.text() for n in range(0, 40)})
        root.chunks.update({n: self.noise() for n in (255, 256, 300, 767)})
        root.chunks[768] = self.noise(700)
        data = Image(260 * 256 * cs + 1, cs, {n: self.text() for n in (0, 77, 256 * 60)})
        data.chunks[260 * 256] = b"!"
        memory, xml, empty = (Image(n, cs) for n in (10000, 5000, 0))
        memory.chunks = dict(enumerate(split_bytes(self.noise(10000), cs)))
        xml.chunks = dict(enumerate(split_bytes(b"<domain/>" * 555 + b"12345", cs)))
        snapshot, ids = "f\u00f6re 1%25%FF", {}
        for night in range(1, 12):
            if night == 5:
                self.new_generation()
            old = Image(root.size, cs, root.chunks)
            bases = {}
            if night > 1:
                for n in (5, 40 - night):
                    root.chunks[n] = change(root.chunks[n], self.noise(50), night * 60)
                bases[5] = [ids[5]] if self.library[ids[5]].depth < kf.MAX_DEPTH else []
            if night == 2:      # by likeness: made up of parts of others
                for n, parts in ((60, (1, 2)), (61, (3, 4, 6)), (62, (7, 8, 9, 10))):
                    size = cs // len(parts)
                    root.chunks[n] = b"".join(old.chunks[p][-size:] for p in parts).ljust(cs, b"+")
                    bases[n] = [ids[p] for p in parts]
            h.begin(vm="alpha")
            before = self.store(h, old)
            rows = [{"disk": 0, **self.store(h, root, bases=bases)}]
            if night in (1, 11):
                rows.append({"disk": 1, **self.store(h, data)})
            ids = {n: kf.chunk_id(h.keys, "default", c.ljust(cs, b"\0")) for n, c in root.chunks.items()}
            saved = {"disk": 0, **before, "snapshot_id": "1", "date": 1700000000 * 10**9, "vm_clock": 5,
                     "digest": "ab" * 32, "vm_state": self.store(h, memory)}
            attachments = [{"name": "domain.xml", "mode": 0o640, **self.store(h, xml)},
                           {"name": "empty", "mode": 0o600, **self.store(h, empty)}]
            h.flush(generation=1 if night < 5 else 2)
            m = h.put_manifest("alpha", [{"name": "root", "format": "qcow2"}, {"name": "data"}],
                               [("current", "current", rows), ("snapshot", snapshot, [saved])], attachments)
            if night in (1, 11):
                self.expect_image("ok", m, "alpha", data, "current", "disk", "data")
            for what in ((root, "current", "disk", "root"),
                         (old, "snap:" + snapshot, "disk", "root"), (memory, "snap:" + snapshot, "vmstate", "root"),
                         (xml, "-", "attachment", "domain.xml"), (empty, "-", "attachment", "empty")):
                self.expect_image("ok", m, "alpha", *what)
        depths = [k.depth for k in self.library.values() if k is not True]
        assert max(depths) == 8 and self.library[ids[5]].depth == 1, "the chain is not what it was meant to be"
        h.end()

    def beta(self):
        """Sizes at the edges, another domain, layers."""
        cs, h, span = self.cs, self.hand(self.other), self.cs * 256
        images = {"one": Image(1, cs, {0: b"x"}), "none": Image(0, cs), "zero": Image(span, cs),
                  "chunk": Image(cs, cs, {0: self.noise()}), "full": Image(span, cs, {255: self.text()}),
                  "over": Image(span + 1, cs, {0: self.text(), 256: b"y"}), "512": Image(512, cs, {0: self.noise(512)})}
        h.begin(vm="beta")
        rows = [{"disk": i, **self.store(h, image, "tenant-b")} for i, image in enumerate(images.values())]
        lower = self.small(2)
        row = {"disk": 3, **self.store(h, lower, "tenant-b"), "layer": 1}
        h.flush()
        m = h.put_manifest("beta", [{"name": n, "domain": "tenant-b", "layers": [layer("/images/top"), layer("/images/base")]}
                                     for n in images],
                           [("current", "current", rows), ("layer", "base", [row])], vm_name="b\u00e9ta %2F",
                           complete=False, problems=[{"disk": "one", "state": "current", "text": "golden"}],
                           tags=["weekly"], pins=["keep"])
        h.end()
        for name, image in images.items():
            self.expect_image("ok", m, "beta", image, name=name)
        self.expect_image("ok", m, "beta", lower, "layer:base", name="chunk")

    def who_may_write(self):
        self.simple("gamma", keys=self.put_only)
        self.simple("delta", "absent", keys=self.put_only)              # not one of its VMs
        self.simple("gone", keys=self.removed)                          # a removed slot's work stays
        self.simple("other", "absent", keys=self.removed)               # the newer record counts
        self.simple("forged", "absent", forge="signature")
        self.simple("forged", "absent", keys=self.put_only, forge="claim=" + self.keys.slot.hex())
        self.simple("forged", "absent", keys=self.put_only, forge="name=" + self.keys.slot.hex())
        self.simple("forged", "absent", keys=slot_keys(self.keys, "full"))      # a slot without a record
        self.simple("future", "absent", format=2)
        m, _ = self.simple("altered", "absent")
        path = os.path.join(self.repo_path, m)
        flip(path, os.path.getsize(path) // 2)

    def forgetting(self):
        hand, low = self.hand(self.maintain), self.hand(self.put_only)
        m, _ = self.simple("forgotten", "absent")
        hand.post("tombstone", manifest=m)
        m, _ = self.simple("undeleted")
        stone = hand.post("tombstone", manifest=m)
        self.hand().post("restore", manifest=m, tombstones=[stone])
        m, _ = self.simple("forgotten-twice", "absent")
        stone = hand.post("tombstone", manifest=m)
        self.hand().post("restore", manifest=m, tombstones=[stone])
        hand.post("tombstone", manifest=m)
        m, _ = self.simple("stone-by-put")
        low.post("tombstone", manifest=m)
        m, _ = self.simple("stone-forged")
        hand.post("tombstone", manifest=m, forge="signature")
        low.post("tombstone", manifest=m, forge="claim=" + self.keys.slot.hex())
        m, _ = self.simple("undelete-by-put", "absent")
        stone = hand.post("tombstone", manifest=m)
        low.post("restore", manifest=m, tombstones=[stone])
        m, _ = self.simple("undelete-of-another", "absent")
        stone = hand.post("tombstone", manifest=m)
        self.hand().post("restore", manifest="manifests/" + "/".join(["ab" * 8, "cd" * 16, "ef" * 32]), tombstones=[stone])

    def collector(self):
        c = self.hand(self.maintain)
        c.post("collector")
        return c

    def evict(self, by, victim, kind="writer"):
        return by.post("eviction", evicted={"slot": victim.keys.slot.hex(), "session": victim.session.hex(), "kind": kind})

    def sweep(self, by, evictions=(), accepted=(), doomed=(), **more):
        epoch = by.post("epoch", condemned=list(doomed))
        name = by.post("sweep", epoch=epoch, evictions=list(evictions), accepted=list(accepted), doomed=list(doomed),
                       reprieved=[], **more)
        os.unlink(os.path.join(self.repo_path, epoch))
        return name

    def evictions(self):
        """Rules 1 and 2 of 10.1, by sessions that were evicted."""
        c = self.collector()
        m, h = self.simple("void", "absent", end=False)
        self.sweep(c, [self.evict(c, h)])
        m, h = self.simple("accepted", end=False)
        self.sweep(c, [self.evict(c, h)], [m])
        m, h = self.simple("pending", "pending", end=False)
        self.evict(c, h)
        # Evicted twice; the sweep knows of one eviction only: enough.
        m, h = self.simple("void-once", "absent", end=False)
        e = self.evict(c, h)
        self.evict(self.collector(), h)
        self.sweep(c, [e])
        # Evictions and sweeps that don't count.
        m, h = self.simple("evicted-by-put", end=False)
        e = self.evict(self.hand(self.put_only), h)
        self.sweep(c, [e])
        m, h = self.simple("swept-by-put", "pending", end=False)
        self.sweep(self.hand(self.put_only), [self.evict(c, h)])
        # Restore records of evicted sessions: void ones undo nothing, pending ones do (for reading).
        for vm, verdict, covered in (("undelete-void", "absent", True), ("undelete-pending", "pending", False)):
            m, _ = self.simple(vm, verdict)
            stone = c.post("tombstone", manifest=m)
            u = self.hand()
            u.begin("undelete", vm)
            u.post("restore", manifest=m, tombstones=[stone])
            e = self.evict(c, u)
            if covered:
                self.sweep(c, [e])

    def collectors(self):
        """Sweep records of evicted collectors."""
        # c1's record is not accepted by c2's: it voids nothing and dooms nothing; the manifest stays pending.
        c1, c2 = self.collector(), self.collector()
        m, h = self.simple("void-sweep", "pending", end=False)
        e = self.evict(c1, h)
        packs = [n for n in names_under(self.repo_path, "data") if h.session.hex() in n]
        self.sweep(c1, [e], doomed=packs)
        self.sweep(c2, [self.evict(c2, c1, "collector")])
        # c3's is accepted by c2's, which is firm: firm as well, and so is what it accepted.
        c3 = self.collector()
        m, h = self.simple("firm-sweep", end=False)
        m2, h2 = self.simple("void-by-accepted", "absent", end=False)
        s = self.sweep(c3, [self.evict(c3, h), self.evict(c3, h2)], [m])
        self.sweep(c2, [self.evict(c2, c3, "collector")], [s])
        # c4 is evicted and no record covers that: its record counts (void for what it rejects), but isn't firm.
        c4 = self.collector()
        m, h = self.simple("weak-accept", "pending", end=False)
        m2, h2 = self.simple("weak-void", "absent", end=False)
        self.sweep(c4, [self.evict(c4, h), self.evict(c4, h2)], [m])
        self.evict(c2, c4, "collector")
        # c5 rejects a manifest, c6 rejects c5's record, c7 rejects c6's and accepts c5's: the manifest is void.
        c5, c6, c7 = (self.collector() for _ in range(3))
        m, h = self.simple("chain", "absent", end=False)
        s5 = self.sweep(c5, [self.evict(c5, h)])
        e5, e6 = self.evict(c6, c5, "collector"), self.evict(c7, c6, "collector")
        self.sweep(c6, [e5])
        self.sweep(c7, [e5, e6], [s5])

    def dooming(self):
        """Doomed packs: entries ignored, also where the bytes are still there."""
        c = self.collector()
        image = self.small()
        _, h1 = self.simple("doomed-copy", image=image, hand=self.hand(fresh=True))
        _, h2 = self.simple("doomed-copy", image=image, hand=self.hand(fresh=True))
        self.sweep(c, doomed=self.packs_of(h1))
        for name in self.packs_of(h1):
            os.unlink(os.path.join(self.repo_path, name))
        _, h = self.simple("doomed-only", "refuse")
        self.sweep(c, doomed=self.packs_of(h, "data"))
        _, h = self.simple("doomed-nodes", "refuse")
        c.post("doomed", sweeps=[], doomed=self.packs_of(h, "nodes"))
        _, h = self.simple("doomed-by-put")
        self.hand(self.put_only).post("doomed", sweeps=[], doomed=self.packs_of(h))
        _, h = self.simple("condemned")                     # condemned packs are read
        c.post("epoch", condemned=self.packs_of(h))
        # Moved: segments of two packs in one new pack, unopened; the old ones doomed and deleted.
        image = Image(40 * self.cs, self.cs, {n: self.text() for n in range(40)})
        h = self.hand(self.other)
        row = self.store(h, Image(image.size, self.cs, {n: image.chunks[n] for n in range(20)}))
        h.flush(per_segment=4 * self.cs)
        self.simple("moved", image=image, hand=h)
        old = self.packs_of(h, "data")
        repo = Repository(self.repo_path, [(kf.KDF_PASSPHRASE, PASSWORD)], lazy=True)
        mover = self.hand(self.maintain)
        pack = PackBuilder(mover, kf.DATA_PACK)
        for name in old:
            source = repo.open_pack(name)
            for i in reversed(range(len(source.directory.segments))):
                pack.adopt(repo, source, i)
        assert len(old) == 2 and len(pack.keys) == 2 and row["root"]
        pack.finish()
        mover.put_run()
        self.sweep(c, doomed=old)
        for name in old:
            os.unlink(os.path.join(self.repo_path, name))

    def packs_of(self, hand, *prefixes):
        return [n for p in prefixes or ("data", "nodes") for n in names_under(self.repo_path, p) if hand.session.hex() in n]

    def index_runs(self):
        """Runs that err, beside runs that don't."""
        image = self.small(8, text=True)
        h = self.hand(self.other, fresh=True)
        row = self.store(h, image)
        h.flush(per_frame=1)
        repo = Repository(self.repo_path, [(kf.KDF_PASSPHRASE, PASSWORD)], lazy=True)
        for name in self.packs_of(h):
            p = repo.open_pack(name)
            h.written.append((kf.RunPack(p.directory.kind, p.generation, h.keys.slot, h.session,
                                         bytes.fromhex(name.rsplit("/", 1)[1]), p.size, p.offset, p.length,
                                         [(s.sealer, 0) for s in p.directory.segments]), p.directory))
        h.put_run(lambda e: replace(e, chunk=(e.chunk + 1) % 8))
        h.begin(vm="wrong-run")
        m = h.put_manifest("wrong-run", [{"name": "disk"}], [("current", "current", [{"disk": 0, **row}])])
        self.expect_image("ok", m, "wrong-run", image)

    # --- points that are listed and cannot be read ---

    def crafted(self, vm, image, packs, verdict="refuse", lost_node=None, **row):
        """A manifest over what the caller's packs hold.  packs(hand): adds data frames by hand.  lost_node: not stored."""
        h = self.hand(self.other, fresh=True)
        h.begin(vm=vm)
        ids = {n: kf.chunk_id(h.keys, "default", data) for n, data in image.chunks.items()}
        tree = h.store_tree(ids, image.size)
        if lost_node is not None:
            del h.new_nodes[lost_node]
        h.flush()
        packs(h)
        if h.written:
            h.put_run()
        m = h.put_manifest(vm, [{"name": "disk"}], [("current", "current", [{"disk": 0, **tree, **row}])])
        h.end()
        if verdict == "absent":
            self.expect(verdict, m, vm)
        else:
            self.expect_image(verdict, m, vm, image)
        return h

    def delta(self, data, *bases, depth=1):
        return Frame([self.named(data)], [self.named(b)[0] for b in bases], b"".join(bases), depth, kf.ZSTD_PREFIX)

    def named(self, data):
        return kf.chunk_id(self.keys, "default", data), data

    def pack_of(self, h, frames, seed=None, **how):
        pack = PackBuilder(h, kf.DATA_PACK)
        pack.add(frames, **how)
        pack.finish(seed)

    def chains(self):
        """Deltas on deltas up to the limits and beyond; circles."""
        for vm, length, lie, verdict in (("depth-8", 8, 255, "ok"), ("depth-9", 9, 255, "refuse"),
                                         ("depth-9-lie", 9, 8, "refuse")):
            data = [self.text()]
            for i in range(length):
                data.append(change(data[-1], self.noise(20), 40 * i))
            frames = [Frame([self.named(data[0])])]
            frames += [self.delta(data[i], data[i - 1], depth=min(i, lie)) for i in range(1, length + 1)]
            self.crafted(vm, self.image(data[-1]), lambda h: self.pack_of(h, frames), verdict=verdict)
        self.needs_many("needs-16", (4, 4, 4, 0), "ok")
        self.needs_many("needs-17", (4, 4, 4, 1), "refuse")
        for vm, verdict in (("circle", "refuse"), ("half-circle", "ok")):
            a, b = self.text(), self.text()

            def packs(h):
                self.pack_of(h, [self.delta(a, b), self.delta(b, a, depth=2)])
                h.put_run()
                if verdict == "ok":     # a full copy of one elsewhere breaks the circle
                    self.pack_of(h, [Frame([self.named(a)])])
            self.crafted(vm, self.image(a, b), packs, verdict=verdict)

    def image(self, *chunks):
        return Image(len(chunks) * self.cs, self.cs, dict(enumerate(chunks)))

    def chunks(self):
        """Chunks that aren't there, or aren't what their id says."""
        data = self.noise()
        self.crafted("missing-chunk", self.image(data), lambda h: None)
        data = self.noise()
        self.crafted("wrong-bytes", self.image(data), lambda h: self.pack_of(h, [Frame([(self.named(data)[0], self.noise())])]))
        data = self.noise()
        self.crafted("wrong-birth", self.image(data), lambda h: self.pack_of(h, [Frame([self.named(data)])], birth=7))
        data = self.noise()
        self.crafted("missing-base", self.image(data), lambda h: self.pack_of(h, [self.delta(data, self.text())]))
        data, good, bad = self.text(), self.text(), self.text()
        self.crafted("wrong-base", self.image(data), lambda h: self.pack_of(
            h, [Frame([(self.named(good)[0], bad)]), self.delta(data, good)]))
        data = self.noise()
        h = self.crafted("flipped-data", self.image(data), lambda h: self.pack_of(h, [Frame([self.named(data)])]))
        flip(os.path.join(self.repo_path, self.packs_of(h, "data")[0]), 100)

    def forged_packs(self):
        """Packs with a directory that another key signed, named by runs that are rightly signed."""
        for vm, order, verdict in (("forged-pack", (True,), "refuse"), ("forged-pack-first", (True, False), "ok"),
                                   ("forged-pack-last", (False, True), "ok")):
            data = self.noise()

            def packs(h):
                for forged in order:
                    self.pack_of(h, [Frame([self.named(data)])], os.urandom(32) if forged else None)
                    h.put_run()
            self.crafted(vm, self.image(data), packs, verdict=verdict)

    def needs_many(self, vm, bases_of, verdict):
        """One chunk on four bases, of which each has some of its own: 4 + the sum in all."""
        frames, middle = [], []
        for count in bases_of:
            leaves = [self.text() for _ in range(count)]
            frames += [Frame([(kf.chunk_id(self.keys, "default", d), d)]) for d in leaves]
            data = self.text()
            ids = [kf.chunk_id(self.keys, "default", d) for d in leaves]
            middle.append((kf.chunk_id(self.keys, "default", data), data))
            frames.append(Frame([middle[-1]], ids, b"".join(leaves), 1, kf.ZSTD_PREFIX) if ids else Frame([middle[-1]]))
        image = Image(self.cs, self.cs, {0: self.text()})
        top = (kf.chunk_id(self.keys, "default", image.chunks[0]), image.chunks[0])
        frames.append(Frame([top], [i for i, _ in middle], b"".join(d for _, d in middle), 2, kf.ZSTD_PREFIX))
        self.crafted(vm, image, lambda h: self.pack_of(h, frames), verdict=verdict)

    def trees(self):
        """Roots that are not what a tree's root must be."""
        image = self.small(2)
        self.crafted("missing-root", image, lambda h: None, root="ab" * 32)
        self.crafted("wrong-height", image, lambda h: self.store(h, image) and h.flush(), verdict="absent", height=2)
        self.crafted("past-the-end", image, lambda h: self.store(h, image) and h.flush(), size=self.cs)
        self.lines[-1][6] = self.cs
        image = Image(300 * self.cs, self.cs, {3: b"kept" * (self.cs // 4), 260: self.noise(), 299: self.noise()})
        self.crafted("lost-node", image, lambda h: self.store(h, image) and h.flush(), lost_node=1)
        image = self.small(2)
        for vm, encode in (("empty-node", lambda ids: kf.node_bytes(1, {})),
                           ("long-node", lambda ids: kf.node_bytes(1, ids) + b"\0"),
                           ("short-node", lambda ids: kf.node_bytes(1, ids)[:-1]),
                           ("level-2-node", lambda ids: kf.node_bytes(2, ids)),
                           ("version-2-node", lambda ids: b"\2" + kf.node_bytes(1, ids)[1:])):
            ids = {n: kf.chunk_id(self.keys, "default", d) for n, d in image.chunks.items()}
            encoded = encode(ids)
            id_ = kf.node_id(self.keys, encoded)

            def nodes(h):
                self.store(h, image)
                h.new_nodes.append((id_, encoded))
                h.flush()
            self.crafted(vm, image, nodes, root=id_.hex())

    def strays(self):
        """What a reader leaves alone."""
        junk = os.urandom(300)
        put(self.repo_path, kf.object_name("catalogue", self.keys.slot, os.urandom(16), junk), junk)
        put(self.repo_path, kf.object_name("parity", self.keys.slot, os.urandom(16), junk), junk)
        put(self.repo_path, "manifests/README", b"not an object\n")
        put(self.repo_path, "lost+found/x", b"")
        h = self.hand()
        h.begin(vm="crashed")
        self.store(h, self.small())
        h.flush()
        h.post("renewal", number=1)
        h.post("reading", points=[], purpose="restore")
        self.collector().post("extension", objects=[], until=0)

    def run(self, *scenes):
        os.makedirs(self.repo_path)
        self.make_slots()
        put_config(self.repo_path, self.keys, self.cs)
        for scene in scenes:
            scene(self)
        with open(os.path.join(self.path, "EXPECTED.tsv"), "w") as f:
            for line in self.lines:
                print(*line, sep="\t", file=f)


def refused_repositories(path, chunk_size):
    """path/refuse/NAME: repositories that must not open (password as of the good one), and REFUSED.tsv."""
    lines = []

    def scene(name, why, config=None, spoil=None):
        repo, keys = os.path.join(path, "refuse", name), new_keys()
        put_slot(repo, keys, keys, kf.KDF_PASSPHRASE, PASSWORD)
        put_config(repo, keys, **{"chunk_size": chunk_size, **(config(keys) if config else {})})
        if spoil:
            spoil(repo, keys)
        lines.append((name, why))

    def spoil_key(offset, value, name_of=lambda data: kf.digest(data).hex()):
        def spoil(repo, keys):
            name = names_under(repo, "keys")[0]
            with open(os.path.join(repo, name), "rb") as f:
                data = bytearray(f.read())
            data[offset:offset + len(value)] = value
            os.unlink(os.path.join(repo, name))
            put(repo, "keys/%s/%s" % (keys.slot.hex(), name_of(data)), bytes(data))
        return spoil

    scene("feature", "needs a feature that is not known", lambda k: {"incompatible": ["time-travel"]})
    scene("format-2", "format 2", lambda k: {"format": 2})
    scene("config-by-slot", "config signed by a slot", lambda k: {"signer": k.slot, "seed": k.seed})
    scene("config-forged", "config not signed by the authority", lambda k: {"seed": k.seed})
    scene("config-of-another", "config of another repository", lambda k: {"repository": "00" * 16})
    scene("chunk-size", "chunk size not a power of two", lambda k: {"chunk_size": 5000})
    scene("config-flipped", "config altered", spoil=lambda r, k: flip(os.path.join(r, "config"), 60))
    scene("config-missing", "no config", spoil=lambda r, k: os.unlink(os.path.join(r, "config")))
    scene("key-version", "key object of version 2", spoil=spoil_key(8, b"\2"))
    scene("draft-1", "the first draft: names by BLAKE2b-256", spoil=spoil_key(
        10, b"\0", lambda data: hashlib.blake2b(data, digest_size=32).hexdigest()))
    scene("draft-3", "a later draft", spoil=spoil_key(10, b"\3"))
    scene("key-memory", "Argon2id with 1 TiB", spoil=spoil_key(44, b"\0\0\0\x40"))
    scene("key-salt", "key object altered", spoil=spoil_key(50, b"\0\0\0\0\0\0"))
    scene("key-renamed", "key object whose bytes are not its name's", spoil=lambda r, k: flip(
        os.path.join(r, names_under(r, "keys")[0]), 70))
    with open(os.path.join(path, "REFUSED.tsv"), "w") as f:
        for line in lines:
            print(*line, sep="\t", file=f)


def names_under(path, prefix):
    return sorted(os.path.relpath(os.path.join(folder, f), path)
                  for folder, _, files in os.walk(os.path.join(path, prefix)) for f in files)


def split_bytes(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


def change(data, part, at):
    return data[:at] + part + data[at + len(part):]


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 0x10]))


def make(path, chunk_size=4096):
    """Writes into the new folder `path`:
    good/           repo, and password, full.key, put.key, maintain.key, recovery.key that open it.  EXPECTED.tsv: verdict,
                    manifest's hash, VM, state, kind (disk, vmstate, attachment), name, size, sha256.  Verdicts: ok; pending
                    (read, but not to be built upon); refuse (listed, reading it must fail); absent (not listed)
    hostile/        the same; rightly signed packs, runs and nodes that lie
    refuse/NAME/    repositories that must not open with good/password; REFUSED.tsv: name, why
    """
    g = Golden
    Golden(os.path.join(path, "good"), chunk_size).run(g.alpha, g.beta, g.who_may_write, g.forgetting, g.evictions,
                                                       g.collectors, g.dooming, g.index_runs, g.strays)
    Golden(os.path.join(path, "hostile"), chunk_size).run(g.chains, g.chunks, g.forged_packs, g.trees)
    refused_repositories(path, chunk_size)
