"""history.py - what is recorded: commands of kedge on a folder, under tests/preload/record.c.

A History has a folder `live` with all that the commands change (repo, state, out...), a log, and marks in the log: which
command began, which ended with success.  Images, keys and expectations are outside of `live` and safe from the cut.
"""
import hashlib
import json
import os
import random
import subprocess

import crash
import reclog

MIB = 1 << 20
FILE_SYSTEMS = ("tmpfs", "plain", "btrfs")


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Image:
    """An image file and the content of its states."""

    def __init__(self, spec, states):
        self.spec, self.states = spec, states


class History:
    def __init__(self, name, variant, folder, program, library, seed):
        self.name, self.variant, self.folder = name, variant, folder
        self.program, self.library = program, library
        self.rng = random.Random(f"{name} {variant} {seed}")
        self.live, self.log = os.path.join(folder, "live"), os.path.join(folder, "log")
        self.images, self.keys = {}, {}
        self.recording, self.fs = False, FILE_SYSTEMS[variant % 3]
        self.next = None                # (vm, image) of a backup to try after the cut
        self.fresh = {}                 # image -> bytes that no other image has
        self.known, self.before = set(), []     # keys, and backups (vm, image), from before the log
        os.makedirs(self.live)
        self.key("k1")

    # --- what is outside

    def key(self, name):
        path = os.path.join(self.folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
            f.write(self.rng.randbytes(64))
        self.keys[name] = path
        return path

    def raw(self, name, content):
        path = os.path.join(self.folder, name + ".raw")
        with open(path, "wb") as f:
            f.write(content)
        self.images[name] = Image("raw:" + path, {"current": sha(content)})

    def qcow2(self, name, contents):
        """contents: [(snapshot or None, bytes)]: each is written and, if named, snapshotted."""
        path = os.path.join(self.folder, name + ".qcow2")
        states = {}
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(len(contents[0][1]))], check=True)
        for snapshot, content in contents:
            part = path + ".part"
            with open(part, "wb") as f:
                f.write(content)
            subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", part, path], check=True)
            os.unlink(part)
            if snapshot:
                subprocess.run(["qemu-img", "snapshot", "-c", snapshot, path], check=True)
            states["snap:" + snapshot if snapshot else "current"] = sha(content)
        self.images[name] = Image("qcow2:" + path, states)

    def bytes(self, mib):
        return self.rng.randbytes(int(mib * MIB))

    # --- commands

    def env(self, where=None, state="state"):
        where = where or self.live
        env = {k: v for k, v in os.environ.items() if not k.startswith(("KEDGE_", "XDG_"))}
        env.update(KEDGE_REPOSITORY=where + "/repo", KEDGE_STATE_DIR=where + "/" + state, KEDGE_CACHE_DIR=where + "/cache",
                   LC_ALL="C.UTF-8", TZ="UTC", HOME=where)
        return env

    def start(self):
        self.base, self.base_ids = crash.snapshot(self.live)
        self.recording = True

    def spawn(self, args, key="k1", kill=None, state="state"):
        env = self.env(state=state)
        if self.recording:
            env.update(LD_PRELOAD=self.library, KEDGE_RECORD_LOG=self.log, KEDGE_RECORD_ROOT=self.live)
            if kill:
                env["KEDGE_RECORD_KILL"] = kill
            env["KEDGE_RECORD_FS"] = self.fs
        return subprocess.Popen([self.program, "--key-file", self.keys[key], *args], env=env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, cwd=self.folder)

    def mark(self, **what):
        if self.recording:
            reclog.mark(self.log, **what)

    def finish(self, p, what, may_fail=False):
        out, err = p.communicate()
        if p.returncode == -9:
            reclog.mark_dead(self.log, p.pid)
            return None
        if p.returncode != 0 and not may_fail:
            raise SystemExit(f"{self.name} {self.variant}: exit {p.returncode}: {what}\n{err.decode()}{out.decode()[-500:]}")
        if p.returncode == 0 and self.recording:
            self.mark(ok=what)
        elif p.returncode == 0:
            self._before(what)
        return out

    def _before(self, what):
        if what["do"] == "backup":
            self.before.append((what["vm"], what["image"]))
        elif what["do"] == "add":
            self.known.add(what["key"])

    def run(self, args, what=None, **how):
        what = what or {"do": args[0]}
        self.mark(begin=what)
        kill, may_fail, may_live = how.get("kill"), how.pop("may_fail", False), how.pop("may_live", False)
        out = self.finish(self.spawn(args, **how), what, may_fail)
        if kill and not may_live and out is not None:
            raise SystemExit(f"{self.name} {self.variant}: {kill}: no such call in {args}")
        return out

    def init(self, **how):
        return self.run(["-q", "init", "--pack-size", "1M"], {"do": "init"}, **how)

    def backup_args(self, vm, image):
        return ["-q", "--json", "backup", "--vm", vm, "--adopt", "--threads", "2", self.images[image].spec]

    def backup(self, vm, image, **how):
        self.run(self.backup_args(vm, image), {"do": "backup", "vm": vm, "image": image, "by": how.get("key", "k1")},
                 **how)

    def backups(self, *pairs):
        """At once; pairs of (vm, image, key)."""
        running = []
        for vm, image, key in pairs:
            what = {"do": "backup", "vm": vm, "image": image, "by": key}
            self.mark(begin=what)
            running.append((self.spawn(self.backup_args(vm, image), key=key), what))
        for p, what in running:
            self.finish(p, what)

    def list(self, **how):
        return self.run(["list", "--json"], **how)

    def key_add(self, name, by="k1", **how):
        self.key(name)
        self.run(["-q", "key", "add", "--label", name, "--new-key-file", self.keys[name]], {"do": "add", "key": name}, key=by,
                 **how)

    def key_remove(self, name, by="k1", **how):
        return self.run(["-q", "key", "remove", name], {"do": "remove", "key": name}, key=by, **how)

    def key_passwd(self, old, new, **how):
        self.key(new)
        self.run(["-q", "key", "passwd", "--new-key-file", self.keys[new]], {"do": "passwd", "old": old, "key": new}, key=old,
                 **how)

    def restore(self, point, args, targets, **how):
        """targets: relative to live; what they hold in the end is what they must hold."""
        self.run(["-q", "restore", point, *args], {"do": "restore", "targets": targets}, **how)

    # --- after

    def model(self, blind=()):
        with open(self.log, "rb") as f:
            recs = reclog.parse(f.read())
        m = crash.Model(self.live, recs, self.base, self.base_ids, blind, unnamed_lasts=self.fs != "btrfs")
        self.final, _ = crash.snapshot(self.live)
        end = len(recs)
        got = m.corner(end, {"": "new"}, {"": "new"})
        if got != self.final:
            wrong = sorted(p for p in set(got) | set(self.final) if got.get(p, 0) != self.final.get(p, 0))
            raise SystemExit(f"{self.name} {self.variant}: the log does not tell what happened to {wrong[:5]}")
        return m


# --- the histories ----------------------------------------------------------------------------------------------------

def init(h):
    h.raw("a1", h.bytes(1.5))
    h.next = ("a", "a1")
    if h.variant % 4 >= 2:
        os.mkdir(h.live + "/repo")
    h.start()
    h.init()


def init_killed(h):
    """An init that dies, and another that finds what it left."""
    kills = ["name:/slots/:after:1", "name:/keys/:after:1", "name:/keys/:after:2", "name:/config:before:1",
             "name:/config:after:1", "mkdir:/repo:after:1"]
    h.raw("a1", h.bytes(1.5))
    h.next = ("a", "a1")
    h.start()
    h.init(kill=kills[h.variant % len(kills)])
    h.init(may_fail=True)


def first(h):
    h.raw("a1", h.bytes(2.5) + bytes(MIB))
    h.next, h.fresh = ("a", "a1"), {"a1": 2.5 * MIB}
    h.init()
    h.start()
    h.backup("a", "a1")


def second(h):
    a = h.bytes(2.5)
    h.raw("a1", a)
    h.raw("a2", a[:MIB] + h.bytes(0.7) + a[int(1.7 * MIB):])
    h.raw("b1", h.bytes(0.5) + a[MIB:2 * MIB])
    h.next = ("b", "b1")
    h.init()
    h.backup("a", "a1")
    h.start()
    h.backup("a", "a2")
    h.backup("b", "b1")


KILLS = ["name:/data/:after:1", "name:/data/:before:2", "name:/data/:after:3", "name:/nodes/:after:1",
         "name:/index/:before:1", "name:/index/:after:1", "name:/manifests/:after:1", "name:/manifests/:before:1",
         "name:/session/:after:1", "mkdir:/data/:after:1", "mkdir:/manifests/:after:1", "fsync:/index/:before:1",
         "name:/end/:after:1", "name:.seen:after:1", "fsync:/manifests/:before:1"]


def killed(h):
    """A backup dies; then the same one, or one of another VM by another key slot that finds its chunks, succeeds."""
    a = h.bytes(2.5)
    h.raw("a1", a)
    h.raw("a2", h.bytes(3.2))
    h.raw("a3", h.bytes(0.3) + a)
    h.next, h.fresh = ("a", "a3"), {"a2": 3.2 * MIB}
    h.init()
    h.key_add("k2")
    h.backup("a", "a1")
    h.start()
    h.backup("a", "a2", kill=KILLS[h.variant % len(KILLS)])
    how = h.variant // len(KILLS) % 4
    if how & 1:
        h.list(state="state2")
    if how & 2:
        h.backup("b", "a2", key="k2")
    h.backup("a", "a2")


def killed_twice(h):
    a = h.bytes(1.2)
    h.raw("a1", h.bytes(2.2))
    h.raw("a2", a + h.bytes(1.2))
    h.next = ("a", "a2")
    h.init()
    h.key_add("k2")
    h.start()
    h.backup("a", "a1", kill=KILLS[h.variant % len(KILLS)])
    h.backup("a", "a1", kill=KILLS[h.variant * 7 % 9], may_live=True)
    h.list(state="state2")
    h.backup("b", "a1", key="k2")
    h.backup("a", "a2")


def keys(h):
    h.raw("a1", h.bytes(1.2))
    h.raw("a2", h.bytes(1.2))
    h.next = ("a", "a2")
    h.init()
    h.backup("a", "a1")
    h.start()
    h.key_add("k2")
    h.key_passwd("k1", "k3")
    h.key_remove("k2", by="k3")
    h.key_add("k4", by="k3")


def keys_killed(h):
    """Changes of keys that die, and are done again."""
    kills = ["name:/slots/:after:1", "name:/keys/:after:1", "unlink:/keys/:after:1", "unlink:/keys/:before:1",
             "mkdir:/keys/:after:1", "mkdir:/slots/:after:1"]
    h.raw("a1", h.bytes(1.2))
    h.next = ("a", "a1")
    h.init()
    h.key_add("k2")
    h.start()
    k = kills[h.variant % 4]
    if k.startswith("unlink"):
        h.key_remove("k2", kill=k)
        h.key_remove("k2", may_fail=True)
        h.key_passwd("k1", "k3", kill=k)
        h.key_passwd("k3", "k4")
    else:
        h.key_remove("k2", kill="name:/slots/:after:1")
        h.key_remove("k2", may_fail=True)
        h.key_add("k3", kill=kills[h.variant % 6] if not k.startswith("unlink") else None)
        h.key_add("k4")
        h.key_passwd("k1", "k5", kill="name:/keys/:after:1")
        h.key_passwd("k1", "k6")


def two(h):
    """Two at once, of two key slots, with much in common."""
    a = h.bytes(2.5)
    h.raw("a1", a)
    h.raw("a2", h.bytes(1.2) + a[:MIB])
    h.raw("b1", h.bytes(0.5) + a[MIB:2 * MIB] + h.bytes(1))
    h.raw("b2", h.bytes(0.5) + a[MIB:2 * MIB] + h.bytes(0.5))
    h.next = ("b", "b2")
    h.init()
    h.key_add("k2")
    h.backup("a", "a1")
    h.start()
    h.backups(("a", "a2", "k1"), ("b", "b1", "k2" if h.variant % 2 else "k1"))
    if h.variant % 3 == 0:
        h.backups(("a", "b1", "k1"), ("b", "a2", "k2"), ("c", "b1", "k1"))


def restores(h):
    a = h.bytes(1.5)
    h.qcow2("a1", [("s1", a + bytes(MIB)), (None, a[:MIB] + h.bytes(0.5) + bytes(MIB))])
    h.raw("a2", h.bytes(0.6))
    h.next = ("a", "a2")
    h.init()
    h.backup("a", "a1")
    os.mkdir(h.live + "/out")
    with open(h.live + "/out/old.qcow2", "wb") as f:
        f.write(b"what was here before" * 1000)
    out = h.live + "/out/"
    h.start()
    if h.variant % 4 >= 2:
        kill = ("fsync:/out:before:1" if h.fs == "plain" else "name:/out/1.raw:before:1") if h.variant % 8 < 4 else "fsync:/out:after:1"
        h.restore("a/snap:s1", ["-o", out + "1.raw"], ["out/1.raw"], kill=kill)
        h.run(["-q", "restore", "a/current", "--to", h.live + "/new/deep", "--with-snapshots", "-O", "qcow2"],
              {"do": "restore", "targets": []}, kill="mkdir:/new/deep:after:1")
    if not os.path.exists(out + "1.raw"):
        h.restore("a/snap:s1", ["-o", out + "1.raw"], ["out/1.raw"])
    h.restore("a/current", ["-o", out + "2.qcow2", "-O", "qcow2"], ["out/2.qcow2"])
    h.restore("a/current", ["-o", out + "old.qcow2", "--force"], ["out/old.qcow2"])
    h.restore("a/current", ["--to", h.live + "/new/deep", "--with-snapshots", "-O", "qcow2"], ["new/deep/disk0.qcow2"])


ALL = {f.__name__: f for f in (init, init_killed, first, second, killed, killed_twice, keys, keys_killed, two, restores)}


def record(name, variant, folder, program, library, seed):
    h = History(name, variant, folder, program, library, seed)
    ALL[name](h)
    return h
