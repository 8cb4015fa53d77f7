"""crash.py - the states in which a power cut may leave a folder, from a log of what was done to it.

The model is what POSIX promises and no more.  At a cut:
- what was in a file when an fsync of it began that has come back since is there; of every later write any set of sectors
  may be there, the rest being what was there before, zeros, or stale bytes; the size may be the old, the new or between;
- a folder's entry (a name and what it stands for) is at least as new as it was when the last fsync of the folder that
  has come back began; each entry for itself, in any of its versions since, whatever the order they were made in: of a
  rename across two folders both halves, one or neither may be there;
- a folder's own entry counts like a file's: without an fsync of its parent all that is below may be gone.

`journal` is stricter and closer to ext4, XFS and Btrfs: names change in the order of the calls, and any fsync makes every
earlier change of a name durable; bytes that were not synced are missing or zeros, never stale.
"""
import hashlib
import json
import os

from reclog import AFTER, BEFORE, MARK

PUNCH_HOLE, KEEP_SIZE = 2, 1


class Node:
    """A file or a folder."""

    def __init__(self, number, folder, area, path, base=b""):
        self.number, self.folder, self.area, self.path = number, folder, area, path
        self.base = base            # a file's content before the log
        self.named = bool(path)     # ever
        self.ops = []               # of a file: (start, end, kind, off, len, data), rising by start
        self.entries = {}           # of a folder: name -> [(start, end, node or None)], versions; [0] = before the log
        self.syncs = []             # (start, end)


def _apply(content, kind, off, length, data):
    if kind == "truncate":
        if length < len(content):
            del content[length:]
        else:
            content.extend(bytes(length - len(content)))
        return
    if off + length > len(content):
        content.extend(bytes(off + length - len(content)))
    if kind == "write":
        content[off:off + length] = data
    elif kind == "punch":
        content[off:off + length] = bytes(length)


class Model:
    """root: the watched folder.  base, base_ids: its snapshot() when the log began, durable.  blind: "file", "dir": kinds of
    fsync that are taken as if the program had not called them (to see that the tests would notice).  unnamed_lasts: what
    is synced of a file without a name stays when it gets one (ext4, XFS; not Btrfs)."""

    def __init__(self, root, recs, base, base_ids, blind=(), unnamed_lasts=True):
        self.root, self.recs, self.blind, self.unnamed_lasts = root, recs, set(blind), unnamed_lasts
        self.nodes, self.folders = [], {}
        self.meta = []                  # changes of names, for `journal`: (start, end, [(folder, name, node)])
        self.all_syncs = []
        self.marks = []                 # (index, dict)
        self._cache = {}
        self.top = self._node(True, "")
        self.folders[""] = self.top
        for path in sorted(base):
            node = self._node(base[path] is None, path, base[path] or b"")
            parent = self.folders[os.path.dirname(path)]
            parent.entries[os.path.basename(path)] = [(-1, -1, node)]
            if node.folder:
                self.folders[path] = node
        by_path = {n.path: n for n in self.nodes}
        self.ids = {ident: by_path[path] for ident, path in base_ids.items()}     # (dev, ino) -> node
        self._read()

    def _node(self, folder, path, base=b""):
        n = Node(len(self.nodes), folder, path.split("/")[0], path, base)
        self.nodes.append(n)
        return n

    # --- reading the log

    def _read(self):
        began, dead = {}, {}
        for i, r in enumerate(self.recs):
            if r.phase == MARK:
                m = json.loads(r.data)
                self.marks.append((i, m))
                if "dead" in m:
                    for seq, t in m["took"].items():
                        dead[(m["dead"], int(seq))] = (i, t)
        ends = {(r.pid, r.seq): i for i, r in enumerate(self.recs) if r.phase == AFTER}
        order = []                      # (end, start, before, after)
        for i, r in enumerate(self.recs):
            if r.phase != BEFORE:
                continue
            key = (r.pid, r.seq)
            if key in ends:
                a = self.recs[ends[key]]
                if a.result >= 0:
                    order.append((ends[key], i, r, a.result, a.dev, a.ino))
            elif key in dead:
                at, t = dead[key]
                order.append((at, i, r, t["result"], t["dev"], t["ino"]))
        order.sort(key=lambda o: o[0])
        for end, start, r, result, dev, ino in order:
            getattr(self, "_" + r.op)(start, end, r, result, (dev, ino))
        for n in self.nodes:
            n.ops.sort(key=lambda o: o[0])

    def _rel(self, path):
        return os.path.relpath(path, self.root) if path != self.root else ""

    def _file(self, r, ident):
        if ident not in self.ids:
            raise ValueError(f"{r.op} of {r.path}: a file that the log has not seen")
        return self.ids[ident]

    def _entry(self, start, end, path, node):
        """One version of a name; returns what `journal` needs."""
        rel = self._rel(path)
        folder, name = self.folders[os.path.dirname(rel)], os.path.basename(rel)
        if node:
            node.named = True
        folder.entries.setdefault(name, [(-1, -1, None)]).append((start, end, node))
        return folder, name, node

    def _create(self, start, end, r, result, ident):
        node = self._node(False, self._rel(r.path) if r.path else "")
        self.ids[ident] = node
        if r.path:
            self.meta.append((start, end, [self._entry(start, end, r.path, node)]))

    def _mkdir(self, start, end, r, result, ident):
        node = self._node(True, self._rel(r.path))
        self.ids[ident] = node
        self.folders[self._rel(r.path)] = node
        self.meta.append((start, end, [self._entry(start, end, r.path, node)]))

    def _link(self, start, end, r, result, ident):
        node = self._file(r, ident)
        node.area = self._rel(r.path2).split("/")[0]
        self.meta.append((start, end, [self._entry(start, end, r.path2, node)]))

    def _rename(self, start, end, r, result, ident):
        node = self._file(r, ident)
        self.meta.append((start, end, [self._entry(start, end, r.path2, node), self._entry(start, end, r.path, None)]))
        if r.folder:        # what is in it is found under the new name from now on
            old, new = self._rel(r.path), self._rel(r.path2)
            self.folders = {new + p[len(old):] if p == old or p.startswith(old + "/") else p: n for p, n in self.folders.items()}

    def _unlink(self, start, end, r, result, ident):
        self.meta.append((start, end, [self._entry(start, end, r.path, None)]))

    _rmdir = _unlink

    def _write(self, start, end, r, result, ident):
        self._file(r, ident).ops.append((start, end, "write", r.off, result, r.data[:result]))

    def _truncate(self, start, end, r, result, ident):
        self._file(r, ident).ops.append((start, end, "truncate", 0, r.len, b""))

    def _fallocate(self, start, end, r, result, ident):
        kind = "punch" if r.mode & PUNCH_HOLE else "grow"
        if r.mode & ~(PUNCH_HOLE | KEEP_SIZE) or (r.mode == KEEP_SIZE):
            raise ValueError(f"fallocate with mode {r.mode} is not modelled")
        self._file(r, ident).ops.append((start, end, kind, r.off, r.len, b""))

    def _fsync(self, start, end, r, result, ident):
        node = self._file(r, ident)
        if ("dir" if node.folder else "file") in self.blind:
            return
        if not node.folder and not node.named and not self.unnamed_lasts:
            return
        node.syncs.append((start, end))
        self.all_syncs.append((start, end))

    def _syncfs(self, start, end, r, result, ident):
        for n in self.nodes:
            n.syncs.append((start, end))
        self.all_syncs.append((start, end))

    # --- what is there at a cut

    @staticmethod
    def _floor(syncs, cut):
        return max((s for s, e in syncs if e < cut), default=-1)

    def versions(self, folder, name, cut):
        """What may stand under a name, oldest first; the first is what is durable."""
        floor = self._floor(folder.syncs, cut)
        v = [x for x in folder.entries[name] if x[0] < cut]
        at = max((i for i, x in enumerate(v) if x[1] < floor or x[1] < 0), default=0)
        return [x[2] for x in v[at:]]

    def content(self, node, cut, how, rng):
        """A file's bytes.  how: "old" nothing unsynced, "new" all, "zeros" the size without the bytes, "prefix", "4096",
        "512": sectors of that size present or not, "stale": the same with garbage where nothing was written."""
        ops = [o for o in node.ops if o[0] < cut]
        floor = self._floor(node.syncs, cut)
        durable = [o for o in ops if o[1] < floor]
        loose = [o for o in ops if o[1] >= floor]
        if not loose:
            how = "old"
        key = (node.number, len(durable), len(ops) if how in ("new", "zeros") else 0, how)
        if how in ("old", "new", "zeros") and key in self._cache:
            return self._cache[key]
        c = bytearray(node.base)
        for o in durable:
            _apply(c, *o[2:])
        if how == "new":
            for o in loose:
                _apply(c, *o[2:])
        elif how == "zeros":
            size = bytearray(c)
            for o in loose:
                _apply(size, *o[2:])
            c = c[:len(size)] + bytes(max(0, len(size) - len(c)))
        elif how != "old":
            self._tear(c, loose, how, rng)
        c = bytes(c)
        if how in ("old", "new", "zeros"):
            self._cache[key] = c
        return c

    @staticmethod
    def _tear(c, loose, how, rng):
        whole = bytearray(c)
        for o in loose:
            _apply(whole, *o[2:])
        if how == "prefix":
            keep = rng.randrange(sum(o[4] if o[2] == "write" else 1 for o in loose) + 1)
            for o in loose:
                n = o[4] if o[2] == "write" else 1
                if keep < n:
                    if o[2] == "write":
                        _apply(c, "write", o[3], keep, o[5][:keep])
                    break
                _apply(c, *o[2:])
                keep -= n
            return
        sector, stale = (512, False) if how == "512" else (4096, how == "stale")
        chance = rng.choice((0.1, 0.5, 0.9, 0.99))
        old = len(c)
        for o in loose:
            if o[2] == "truncate":
                if rng.random() < chance:
                    _apply(c, *o[2:])
                continue
            at = o[3]
            while at < o[3] + o[4]:
                n = min(sector - at % sector, o[3] + o[4] - at)
                if rng.random() < chance:
                    _apply(c, o[2], at, n, o[5][at - o[3]:at - o[3] + n])
                elif stale and at >= old:
                    _apply(c, "write", at, n, rng.randbytes(n))
                at += n
        if rng.random() < 0.5 and len(whole) > len(c):
            c.extend(bytes(len(whole) - len(c)))

    # --- states

    def state(self, cut, names, data, rng):
        """{relative path: bytes, or None for a folder}.  names(versions, area) picks an index into versions;
        data(node) says how."""
        out, contents = {}, {}

        def walk(folder, path):
            for name in folder.entries:
                v = self.versions(folder, name, cut)
                node = v[0] if len(v) == 1 else v[names(v, folder.area or name)]
                if node is None:
                    continue
                p = path + name
                if node.folder:
                    out[p] = None
                    walk(node, p + "/")
                else:
                    if node not in contents:
                        contents[node] = self.content(node, cut, data(node), rng)
                    out[p] = contents[node]
        walk(self.top, "")
        return out

    def corner(self, cut, names, data):
        """names, data: {area: "old" or "new"; "" for the others}."""
        return self.state(cut, lambda v, area: -1 if names.get(area, names[""]) == "new" else 0,
                          lambda node: data.get(node.area, data[""]), None)

    def random(self, cut, rng):
        chance = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        hows = rng.choice((("old", "new"), ("old", "new", "zeros", "prefix", "4096", "512", "stale"), ("new",), ("stale",),
                           ("prefix", "zeros")))
        return self.state(cut, lambda v, area: -1 if rng.random() < chance else rng.randrange(len(v)),
                          lambda node: rng.choice(hows), rng)

    def journal(self, cut, rng):
        floor = self._floor(self.all_syncs, cut)
        begun = [m for m in self.meta if m[0] < cut]
        durable = sum(m[1] < floor for m in begun)
        kept = begun[:durable + rng.randrange(len(begun) - durable + 1)]
        now = {}
        for m in kept:
            for folder, name, node in m[2]:
                now[(folder, name)] = node
        hows = rng.choice((("old", "new"), ("old", "new", "zeros", "prefix", "4096"), ("old",), ("zeros",)))
        out, contents = {}, {}

        def walk(folder, path):
            for name in folder.entries:
                node = now.get((folder, name), folder.entries[name][0][2])
                if node is None:
                    continue
                out[path + name] = None
                if node.folder:
                    walk(node, path + name + "/")
                else:
                    if node not in contents:
                        contents[node] = self.content(node, cut, rng.choice(hows), rng)
                    out[path + name] = contents[node]
        walk(self.top, "")
        return out

    def cuts(self):
        """The indices between which something becomes certain or possible: after each record that is not a write's."""
        return [i + 1 for i, r in enumerate(self.recs) if r.phase == MARK or r.op != "write" or r.phase == AFTER]


def snapshot(root):
    """{relative path: bytes, or None}, and {(dev, ino): relative path}."""
    out, ids = {}, {}
    st = os.lstat(root)
    ids[(st.st_dev, st.st_ino)] = ""
    for folder, subs, files in os.walk(root):
        rel = os.path.relpath(folder, root)
        for name in subs + files:
            path, key = os.path.join(folder, name), os.path.normpath(os.path.join(rel, name))
            st = os.lstat(path)
            ids[(st.st_dev, st.st_ino)] = key
            if name in subs:
                out[key] = None
            else:
                with open(path, "rb") as f:
                    out[key] = f.read()
    return out, ids


def digest(state):
    h = hashlib.blake2b(digest_size=16)
    for path in sorted(state):
        c = state[path]
        h.update(f"{path}\0{-1 if c is None else len(c)}\0".encode())
        if c:
            h.update(hashlib.blake2b(c).digest())
    return h.hexdigest()
