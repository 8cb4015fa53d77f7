#!/usr/bin/python3
"""rot.py --kedge PROGRAM --dir DIR [--parts P,Q] [--sample N] [--flips N] [--from N] [--seed S] [--jobs N]

Damages a small repository in every way that storage can, one case at a time, and asks after each what is promised: that
`check --read-data` names the object, and the VM, point and guest range that it touches; that nothing is restored wrongly; that
what isn't touched comes back bit for bit.  Parts: truncate, swap, delete, rollback, client, flips.  --sample N takes every Nth
case of the first three.  DIR is kept: an interrupted run goes on with --from.  Prints counts; fails if one case does.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rot_repo                                 # noqa: E402
from rot_repo import Model, Place, build        # noqa: E402

RANGES_PER_TREE = 20
# Absence that the protocol can't tell from "not yet" or "no more": leases run out, collectors clean up (docs/threat-model.md, N6).
TRACELESS = ("end", "renewal", "reading", "collector", "epoch", "eviction", "sweep", "doomed", "tombstone", "restore", "extension")


class Case:
    """edits: {name: bytes or None}; span: the bytes of the first that are wrong (None: all); resized: its new length."""

    def __init__(self, part, label, edits, span=None, resized=None):
        self.part, self.label, self.edits, self.span, self.resized = part, label, edits, span, resized


class Failure(Exception):
    pass


def need(condition, text, *args):
    if not condition:
        raise Failure(text % args if args else text)


class Tester:
    def __init__(self, place, model):
        self.place, self.model = place, model

    # --- what a case must do, by the model ---

    def expect(self, case):
        m = self.model
        bad_packs, bad_segments, hidden, bad_slots = set(), set(), set(), set()
        for name, data in case.edits.items():
            kind = name.split("/")[0]
            if kind in ("data", "nodes"):
                if data is None or case.part == "swap":
                    bad_packs.add(name)
                else:
                    packs, segments = m.touched(name, *(case.span or (0, 0)), case.resized)
                    bad_packs |= packs
                    bad_segments |= segments
            elif kind == "manifests":
                hidden.add(name)
            elif kind == "restore":     # what it undeletes is forgotten again
                hidden |= {o.json["manifest"] for o in m.reader.protocol["restore"].values() if o.name == name}
            elif kind == "slots" and self.is_newest(name):
                bad_slots.add(name.split("/")[1])
        if bad_slots:                   # what the slot signed can't be verified
            hidden |= {t.manifest for t in m.trees if t.manifest.split("/")[1] in bad_slots}
            bad_packs |= {n for n in m.data if n.split("/")[0] in ("data", "nodes") and n.split("/")[1] in bad_slots}
        lost = {}
        for t in m.trees:
            ranges = t.lost(m.is_lost(bad_packs, bad_segments)) if bad_packs or bad_segments else []
            if ranges:
                lost[t.manifest, t.point, t.disk] = ranges
        return lost, hidden, bad_slots

    def is_newest(self, name):
        """Whether a slot's record is the one that counts."""
        slot, mine = name.split("/")[1], None
        for n in self.model.data:
            if n.startswith("slots/" + slot):
                env = rot_repo.kf.open_envelope(self.model.reader.keys, self.model.data[n], rot_repo.kf.SLOT_RECORD, n)
                serial = json.loads(env.payload)["serial"]
                if mine is None or serial > mine[0]:
                    mine = (serial, n)
        return mine[1] == name

    def blocks(self, name):
        """'all': nothing opens; 'own': key1 does not open any more; '': it does."""
        if name == "config":
            return "all"
        kind, slot = name.split("/")[:2]
        return "own" if slot == self.model.own and kind in ("keys", "slots") else ""

    # --- the case ---

    def run(self, case, rng, full):
        old = {n: self.model.data.get(n) for n in case.edits}
        for n, data in case.edits.items():
            self.place.put(n, data)
        try:
            return self.judge(case, rng, full)
        except Failure as f:
            raise Failure("%s: %s: %s" % (case.part, case.label, f)) from None
        finally:
            for n, data in old.items():
                self.place.put(n, data)

    def judge(self, case, rng, full):
        blocked = {self.blocks(n) for n in case.edits}
        key = "key1"
        if "all" in blocked or "own" in blocked:
            code, out, err = self.place.run("check")
            want = (10,) if case.edits.get("config", b"") is None else (1, 12)
            need(code in want, "exit %d of what can't be opened: %s", code, err)
            text = " ".join(err.split())
            for n in case.edits:
                parts = n.split("/")
                need(n == "config" and "config" in text or n != "config" and (parts[1] in text or parts[0] == "keys"),
                     "the message does not say that it is %s: %s", n, err)
            need("hint:" in text or "  " in err, "no way out in: %s", err)
            if "all" in blocked:
                return "refused"
            key = "key2" if all(len(n.split("/")) != 3 or n.split("/")[1] in (self.model.own, self.model.recovery)
                                for n in case.edits) else "recovery"
        lost, hidden, bad_slots = self.expect(case)
        code, out, err = self.place.run("check", "--read-data", "--json", key=key)
        verdict = self.findings(case, code, out, err, lost, hidden, bad_slots)
        self.restores(case, rng, full, key, lost, hidden)
        return verdict

    def findings(self, case, code, out, err, lost, hidden, bad_slots):
        need(code in (0, 6), "check exits with %d: %s", code, err)
        found = json.loads(out)["findings"]
        serious = [f for f in found if f["severity"] != "info"]
        named = {f["object"] for f in serious if "object" in f}
        verdict = "damage"
        for n, data in case.edits.items():
            kind = n.split("/")[0]
            if data is not None:
                need(n in named and code == 6, "check (exit %d) does not name %s: %s", code, n, out)
            elif not self.misses(n, named, found):
                need(kind in TRACELESS or self.harmless(n), "check (exit %d) does not miss %s: %s", code, n, out)
                return "traceless"
            elif code == 0:
                verdict = "warning"
            if kind == "manifests" and n not in self.forgotten():
                vms = {f.get("vm") for f in serious if f.get("object", "").startswith(n.rsplit("/", 1)[0].rsplit("/", 1)[0])}
                need(self.vm_of(n) in vms, "the VM of %s is not named: %s", n, out)
        if not bad_slots:
            self.ranges(found, lost, hidden, out)
        return verdict

    def vm_of(self, manifest):
        return self.model.reader.manifests[manifest].json["vm"]

    def forgotten(self):
        return {n for n, o in self.model.reader.manifests.items() if o.status == "forgotten"}

    def harmless(self, name):
        """What is gone and was of no use: a record that another replaced, a manifest that was forgotten."""
        slot_session = name.split("/")[1:3]
        return name.startswith("slots/") and not self.is_newest(name) or name in self.forgotten() or \
            name.startswith("session/") and not any(n.split("/")[1:3] == slot_session for n in self.model.data if n != name)

    def misses(self, name, named, found):
        parts = name.split("/")
        if name in named or "/".join(parts[:-1] + ["?"]) in named:
            return True
        if parts[0] == "manifests":
            return "/".join([parts[0], parts[1], "?", parts[3]]) in named
        if parts[0] == "index":     # named by the packs of that session that nobody names now
            return any(f["what"] == "run-missing" and f["object"].split("/")[1:3] == parts[1:3] for f in found)
        if parts[0] == "slots":
            return any(f["what"] == "slot-record-missing" and f["object"].split("/")[1] == parts[1] for f in found)
        return False

    def ranges(self, found, lost, hidden, out):
        told = {}
        for f in found:
            if f["what"] == "range-lost":
                told.setdefault((f["manifest"], f.get("point"), f["disk"]), []).append((f["start"], f["length"]))
                need(f["vm"] == self.vm_of(f["manifest"]), "another VM: %s", f)
        want = {k: r[:RANGES_PER_TREE] for k, r in lost.items() if k[0] not in hidden}
        need(told == want, "lost ranges are %s, and should be %s", told, want)
        more = {(f["manifest"], f.get("point"), f["disk"]) for f in found if f["what"] == "disk-lost"}
        need(more == {k for k, r in lost.items() if len(r) > RANGES_PER_TREE and k[0] not in hidden}, "summaries: %s", out)

    def restores(self, case, rng, full, key, lost, hidden):
        points = [t for t in self.model.trees if t.point]
        bad = [t for t in points if (t.manifest, t.point, t.disk) in lost or t.manifest in hidden]
        good = [t for t in points if t not in bad]
        if not full:
            bad, good = rng.sample(bad, min(1, len(bad))), rng.sample(good, min(1, len(good)))
        for t in good + bad:
            self.cat(case, t, key, lost.get((t.manifest, t.point, t.disk)), t.manifest in hidden)
        if full and bad:
            self.salvage(rng.choice(bad), key, lost, hidden)

    def cat(self, case, t, key, ranges, is_hidden):
        right = self.model.bytes[t.manifest, t.point, t.disk]
        code, out, err = self.place.run("cat", "%s:%s@%s/%s" % (t.vm, t.disk, t.id, t.point), key=key, binary=True)
        what = "cat of %s:%s@%s/%s" % (t.vm, t.disk, t.id[:8], t.point)
        need(right.startswith(out), "%s gives WRONG BYTES, exit %d", what, code)
        if ranges or is_hidden:
            need(code in ((4,) if ranges and not is_hidden else (1, 4)), "%s exits with %d: %s", what, code, err)
            need(len(err) > 10, "%s says nothing", what)
        else:
            need(code == 0 and out == right, "%s exits with %d after %d of %d bytes: %s", what, code, len(out), len(right), err)

    def salvage(self, t, key, lost, hidden):
        if t.manifest in hidden:
            return
        target = os.path.join(self.place.path, "salvaged")
        code, out, err = self.place.run("restore", "%s:%s@%s/%s" % (t.vm, t.disk, t.id, t.point), "-o", target, "-O", "raw",
                                        "--salvage", "--force", key=key)
        need(code == 4, "restore --salvage exits with %d: %s", code, err)
        with open(target, "rb") as f:
            got = f.read()
        os.unlink(target)
        want = bytearray(self.model.bytes[t.manifest, t.point, t.disk])
        for at, n in lost[t.manifest, t.point, t.disk]:
            want[at:at + n] = bytes(n)
        need(got == bytes(want), "restore --salvage gives other bytes than what is left, and zeros")


# --- the cases --------------------------------------------------------------------------------------------------------

def truncations(m):
    for name in m.data:
        data = m.data[name]
        lengths = {0, len(data) + 1, len(data) + 48}
        for at, _ in m.structures(name):
            lengths |= {at - 1, at, at + 1}
        for n in sorted(lengths):
            if 0 <= n != len(data):
                grown = (data + bytes(48))[:n]
                yield Case("truncate", "%s to %d of %d" % (name, n, len(data)), {name: grown}, resized=n)


def swaps(m):
    kinds = collections.defaultdict(list)
    for name in m.data:
        kinds[name.split("/")[0]].append(name)
    for names in kinds.values():
        for i, a in enumerate(names):
            b = names[(i + 1) % len(names)]
            if a != b:
                yield Case("swap", "%s and %s" % (a, b), {a: m.data[b], b: m.data[a]})


def deletions(m):
    for name in m.data:
        yield Case("delete", name, {name: None})


def flip(m, seed, i):
    """Half of the flips hit any byte of the repository, half a random structure of a random object of a random kind."""
    rng = random.Random("%s flip %d" % (seed, i))
    names = sorted(m.data)
    if i % 2:
        name = rng.choices(names, [len(m.data[n]) for n in names])[0]
        at = rng.randrange(len(m.data[name]))
    else:
        kind = rng.choice(sorted({n.split("/")[0] for n in names}))
        name = rng.choice([n for n in names if n.split("/")[0] == kind])
        s = m.structures(name)
        k = rng.randrange(len(s) - 1)
        at = rng.randrange(s[k][0], s[k + 1][0])
    data = bytearray(m.data[name])
    bit = rng.randrange(8)
    data[at] ^= 1 << bit
    return Case("flip", "%d: %s bit %d of byte %d" % (i, name, bit, at), {name: bytes(data)}, span=(at, at + 1)), rng


def scenario(place, model, tally):
    """Old versions put back, and the client's own folders."""
    from rot_client import client, rollback
    for part in (rollback, client):
        for label in part(place, model, need, Failure):
            tally[part.__name__, label, "noticed"] += 1


# --- running them -----------------------------------------------------------------------------------------------------

class Runner:
    def __init__(self, args, first, model):
        self.args, self.first, self.model = args, first, model
        self.local, self.lock, self.n = threading.local(), threading.Lock(), 0
        self.tally, self.failures = collections.Counter(), []

    def tester(self):
        if not hasattr(self.local, "t"):
            with self.lock:
                self.n += 1
                path = os.path.join(self.args.dir, "work%d" % self.n)
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(self.first.path, path)
            self.local.t = Tester(Place(self.args.kedge, path), self.model)
        return self.local.t

    def one(self, case, rng, full):
        try:
            verdict = self.tester().run(case, rng, full)
        except Failure as f:
            verdict = "FAILED"
            with self.lock:
                self.failures.append(str(f))
        with self.lock:
            for name in list(case.edits)[:1]:
                self.tally[case.part, name.split("/")[0], verdict] += 1

    def all(self, cases):
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:
            for f in [pool.submit(self.one, *c) for c in cases]:
                f.result()


def prepare(args):
    first = Place(args.kedge, os.path.join(args.dir, "first"))
    if not os.path.exists(os.path.join(args.dir, "built")):
        shutil.rmtree(first.path, ignore_errors=True)
        build(first, random.Random(args.seed))
        code, out, err = first.run("check", "--read-data", "--json")
        if code or json.loads(out)["warnings"]:
            raise SystemExit("the fresh repository does not pass: %s%s" % (out, err))
        open(os.path.join(args.dir, "built"), "w").close()
    return first, Model(first)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kedge", required=True)
    p.add_argument("--dir", required=True)
    p.add_argument("--parts", default="truncate,swap,delete,scenario,flips")
    p.add_argument("--sample", type=int, default=1)
    p.add_argument("--flips", type=int, default=10000)
    p.add_argument("--from", type=int, default=0, dest="start")
    p.add_argument("--seed", default="1")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    args = p.parse_args()
    os.makedirs(args.dir, exist_ok=True)
    first, model = prepare(args)
    runner = Runner(args, first, model)
    parts = args.parts.split(",")
    order = random.Random(args.seed + " order")
    for part, make in (("truncate", truncations), ("swap", swaps), ("delete", deletions)):
        if part in parts:
            cases = list(make(model))
            order.shuffle(cases)
            runner.all((c, random.Random(c.label), args.sample == 1) for c in cases[::args.sample])
    if "scenario" in parts:
        try:
            scenario(runner.tester().place, model, runner.tally)
        except Failure as f:
            runner.failures.append(str(f))
    if "flips" in parts:
        runner.all((*flip(model, args.seed, i), False) for i in range(args.start, args.flips))
    report(runner, model)


def report(runner, model):
    objects = collections.Counter(n.split("/")[0] for n in model.data)
    print("repository: %d objects, %d bytes, %d trees: %s" % (
        len(model.data), sum(map(len, model.data.values())), len(model.trees),
        ", ".join("%d %s" % (n, k) for k, n in sorted(objects.items()))))
    total = collections.Counter()
    for (part, kind, verdict), n in sorted(runner.tally.items()):
        print("%-9s %-10s %-9s %6d" % (part, kind, verdict, n))
        total[part, verdict] += n
    for (part, verdict), n in sorted(total.items()):
        print("all %-9s %-9s %6d" % (part, verdict, n))
    for f in runner.failures[:40]:
        print("FAILED:", f[:3000])
    print("%d cases, %d failed" % (sum(runner.tally.values()), len(runner.failures)))
    sys.exit(1 if runner.failures else 0)


if __name__ == "__main__":
    main()
