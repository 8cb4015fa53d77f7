#!/usr/bin/python3
"""memory_flip.py --kedge PROGRAM --preload FLIP.SO --dir DIR [--runs N] [--from N] [--seed S] [--jobs N] [--points P,Q]

Backs up under tests/preload/flip.c, which changes one bit of a buffer before or after the Nth call of a library.  Then either
the backup has failed, says what it suspects, and one without the flip succeeds; or what it stored is right: every state and
attachment restores bit for bit, and check --read-data finds nothing.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rot_repo import Place, noise, poke, qemu   # noqa: E402

# A bit that changes while the object is being written leaves that object behind, under a name that its bytes don't fit.
LEAVES_RUBBLE = ("write-before",)


class Failure(Exception):
    pass


def need(condition, text, *args):
    if not condition:
        raise Failure(text % args if args else text)


def build(place, rng):
    """A repository with one night of a VM, and the VM as it is the next night."""
    w = place.path
    os.makedirs(w)
    with open(os.path.join(w, "key1"), "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(noise(rng, 64))
    place.must("init", "--chunk-size", "4K", "--pack-size", "1M")
    a, b, x = (os.path.join(w, n) for n in ("a.qcow2", "b.raw", "x.xml"))
    qemu("qemu-img", "create", "-q", "-f", "qcow2", a, "16M")
    poke(a, 0, noise(rng, 200 << 10) + b"some text " * 20000)
    qemu("qemu-img", "snapshot", "-c", "s1", a)
    with open(b, "wb") as f:
        f.write(noise(rng, 300 << 10) + bytes(1 << 20) + b"more text " * 30000)
        f.truncate((3 << 20) + 512)
    with open(x, "wb") as f:
        f.write(b"<domain/>" * 1000)
    place.must(*backup_of(w))
    poke(a, 3 << 20, noise(rng, 700 << 10) + b"new text " * 20000)
    poke(a, 64 << 10, noise(rng, 64 << 10))
    with open(b, "r+b") as f:
        f.seek(1 << 20)
        f.write(noise(rng, 600 << 10))
    with open(x, "ab") as f:
        f.write(noise(rng, 5000).hex().encode())
    want = {}
    for name, args in (("current", []), ("snap:s1", ["-l", "s1"])):
        qemu("qemu-img", "convert", "-O", "raw", *args, a, os.path.join(w, "raw"))
        want["vda/" + name] = digest(os.path.join(w, "raw"))
    want["vdb/current"], want["x.xml"] = digest(b), digest(x)
    return want


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def backup_of(w):
    """w: where the images are, which stays the same."""
    return ["backup", "--vm", "m", "--audit", "off", "vda=" + os.path.join(w, "a.qcow2"), "vdb=raw:" + os.path.join(w, "b.raw"),
            "--attach", os.path.join(w, "x.xml")]


class Runner:
    def __init__(self, args):
        self.args, self.local, self.lock, self.n = args, threading.local(), threading.Lock(), 0
        self.tally, self.says, self.failures = collections.Counter(), collections.Counter(), []
        self.first = Place(args.kedge, os.path.join(args.dir, "first"))
        shutil.rmtree(self.first.path, ignore_errors=True)
        self.want = build(self.first, random.Random(args.seed))
        place = self.place()
        code, err, told = self.backup(place, "")
        need(code == 0, "the backup without a flip: %s", err)
        self.verify(place, "without a flip")
        self.counts = {p: int(n) for p, n in (line.split() for line in told.splitlines())}
        for point, n in self.counts.items():
            need(n, "no call at %s: a library's function that the program uses is not in flip.c", point)

    def place(self):
        if not hasattr(self.local, "place"):
            with self.lock:
                self.n += 1
                self.local.place = Place(self.args.kedge, os.path.join(self.args.dir, "run%d" % self.n))
        path = self.local.place.path
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        for name in os.listdir(self.first.path):
            if name in ("repo", "state", "cache"):
                shutil.copytree(os.path.join(self.first.path, name), os.path.join(path, name))
        shutil.copy(os.path.join(self.first.path, "key1"), path)
        return self.local.place

    def backup(self, place, flip):
        log = os.path.join(place.path, "flips")
        env = {**place.env, "LD_PRELOAD": self.args.preload, "KEDGE_FLIP": flip, "KEDGE_FLIP_LOG": log}
        r = subprocess.run([place.kedge, "--key-file", os.path.join(place.path, "key1"), *backup_of(self.first.path)], env=env,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=120)
        with open(log) as f:
            return r.returncode, r.stderr, f.read()

    def verify(self, place, what, rubble=False):
        code, out, err = place.run("check", "--read-data")
        need(code == 0 or rubble and code == 6, "%s: check exits with %d: %s%s", what, code, out, err)
        for name in self.want:
            if "/" in name:
                disk, state = name.split("/")
                code, out, err = place.run("cat", "m:%s@latest/%s" % (disk, state), binary=True)
                got = hashlib.sha256(out).hexdigest()
                need(code == 0 and got == self.want[name], "%s: cat of %s exits with %d, %s: %s", what, name, code,
                     "right" if got == self.want[name] else "WRONG", err)
        target = os.path.join(place.path, "out")
        shutil.rmtree(target, ignore_errors=True)
        code, out, err = place.run("restore", "m", "--to", target, "-O", "raw")
        need(code == 0, "%s: restore exits with %d: %s", what, code, err)
        for name, key in (("vda.raw", "vda/current"), ("vdb.raw", "vdb/current"), ("x.xml", "x.xml")):
            need(digest(os.path.join(target, name)) == self.want[key], "%s: %s is restored WRONG", what, name)

    def run(self, i):
        rng = random.Random("%s run %d" % (self.args.seed, i))
        points = sorted(p for p in self.counts if not self.args.points or p in self.args.points.split(","))
        point = points[i % len(points)]
        flip = "%s:%d:%d" % (point, rng.randrange(self.counts[point]) + 1, rng.randrange(1 << 30))
        place = self.place()
        try:
            verdict, says = self.judge(place, flip, point)
        except Failure as f:
            verdict, says = "FAILED", ""
            with self.lock:
                self.failures.append("run %d, %s: %s" % (i, flip, f))
        with self.lock:
            self.tally[point, verdict] += 1
            if says:
                self.says[says] += 1

    def judge(self, place, flip, point):
        code, err, told = self.backup(place, flip)
        last = told.splitlines()[-1].split()
        verdict = {"flipped": "stored right", "protected": "protected"}.get(last[0], "not reached")
        if code == 0:
            # the end marker comes after the commit: that it went wrong is told, and nothing depends on it
            self.verify(place, "after success (%s)" % " ".join(last), point in LEAVES_RUBBLE and "memory error" in err)
            return verdict, ""
        need(code in (1, 12), "exit %d: %s", code, err)     # 12: it was the key object that had just been read
        need("error:" in err, "no message: %s", err)
        code, out, again = place.run(*backup_of(self.first.path))
        need(code == 0, "the next backup exits with %d: %s; before: %s", code, again, err)
        self.verify(place, "the backup after the failed one", point in LEAVES_RUBBLE)
        text = [line for line in err.splitlines() if "error:" in line][0]
        return "refused", "memory" if "memory" in text else text[:160]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kedge", required=True)
    p.add_argument("--preload", required=True)
    p.add_argument("--dir", required=True)
    p.add_argument("--runs", type=int, default=1000)
    p.add_argument("--from", type=int, default=0, dest="start")
    p.add_argument("--seed", default="1")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--points")
    args = p.parse_args()
    os.makedirs(args.dir, exist_ok=True)
    try:
        runner = Runner(args)
    except Failure as f:
        raise SystemExit(str(f))
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for f in [pool.submit(runner.run, i) for i in range(args.start, args.runs)]:
            f.result()
    print("calls: " + ", ".join("%s %d" % c for c in sorted(runner.counts.items())))
    for (point, verdict), n in sorted(runner.tally.items()):
        print("%-15s %-13s %5d" % (point, verdict, n))
    total = collections.Counter()
    for (_, verdict), n in runner.tally.items():
        total[verdict] += n
    for verdict, n in sorted(total.items()):
        print("all             %-13s %5d" % (verdict, n))
    for text, n in runner.says.most_common(20):
        print("says %5d: %s" % (n, text))
    for f in runner.failures[:60]:
        print("FAILED:", f[:1200])
    print("%d runs, %d failed" % (sum(runner.tally.values()), len(runner.failures)))
    sys.exit(1 if runner.failures else 0)


if __name__ == "__main__":
    main()
