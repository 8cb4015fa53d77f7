#!/usr/bin/env python3
"""power.py - power cuts: records commands, rebuilds the states that a cut may leave, and checks each.

usage: power.py --program KEDGE --library record.so --work FOLDER [--seed N] [--states N] [--jobs N] [--only NAME,...]
                [--variants N] [--blind file|dir] [--keep FOLDER]

--states: random ones per history and variant, besides the systematic ones that --every thins out.  --blind: as if the
program had not called fsync on files or on folders; then the exit code is 0 when that is noticed.
"""
import argparse
import collections
import itertools
import multiprocessing
import os
import random
import shutil
import sys

import crash
import history
import reclog
import verify

CORNERS = [
    ("nothing unsynced", {"": "old"}, {"": "old"}),
    ("everything", {"": "new"}, {"": "new"}),
    ("names without bytes", {"": "new"}, {"": "old"}),
    ("names with zeros", {"": "new"}, {"": "zeros"}),
    ("bytes without names", {"": "old"}, {"": "new"}),
    ("storage old, the rest new", {"": "new", "repo": "old"}, {"": "new", "repo": "old"}),
    ("storage new, the rest old", {"": "old", "repo": "new"}, {"": "old", "repo": "new"}),
]
# Where nothing but backups is under way: a torn file of theirs must be no more than one that is lost.
TEARABLE = ("first", "second", "killed", "killed_twice")


def plan(model, h, o):
    """[(cut, kind, seed)], in an order of no meaning."""
    rng = random.Random(f"{o.seed} {h.name} {h.variant}")
    cuts = model.cuts()
    corners = [(cut, i, 0) for cut in cuts for i in range(len(CORNERS))]
    rng.shuffle(corners)
    corners = corners[:int(len(corners) * o.every)]
    rest = [(rng.choice(cuts), "random" if rng.random() < 0.8 else "journal", rng.getrandbits(60)) for _ in range(o.states)]
    if h.name in TEARABLE and not o.blind:
        torn = ((rng.choice(cuts), "torn", rng.getrandbits(60)) for _ in range(50 * o.states))
        rest += list(itertools.islice((t for t in torn if make_torn(model, t)[1]), o.states // 2))
    return corners + rest


def make(model, spec):
    return make_torn(model, spec)[0] if spec[1] == "torn" else make_one(model, spec)


def make_torn(model, spec):
    """A disk that lied: one file that the interrupted command had put, or that a client keeps, is torn under its name."""
    rng = random.Random(spec[2])
    state = make_one(model, (spec[0], 1, 0))
    done = max((i for i, m in model.marks if "ok" in m and i < spec[0]), default=0)
    before = make_one(model, (done, 1, 0))
    sessions = {p.split("/")[3] for p in before if p.startswith("repo/session/") and p.count("/") == 4}
    indexed = {p.split("/")[3] for p in state if p.startswith("repo/index/") and p.count("/") == 4}
    victims = [p for p, c in sorted(state.items())
               if c and (p.startswith("state/") or p.startswith("repo/") and p.count("/") == 4 and p not in before and
                         p.split("/")[3] not in sessions and
                         not (p.startswith(("repo/data/", "repo/nodes/")) and p.split("/")[3] in indexed))]
    if not victims:
        return state, None
    victim = rng.choice(victims)
    c = bytearray(state[victim])
    how, at = rng.choice(("empty", "short", "zeros", "sector", "stale")), rng.randrange(len(c))
    if how in ("empty", "short"):
        del c[0 if how == "empty" else at:]
    else:
        at = 0 if how == "zeros" else at // 512 * 512
        n = len(c) if how == "zeros" else min(512, len(c) - at)
        c[at:at + n] = rng.randbytes(n) if how == "stale" else bytes(n)
    if c == state[victim]:
        return state, None
    state[victim] = bytes(c)
    return state, victim


def make_one(model, spec):
    cut, kind, seed = spec
    if kind == "random":
        return model.random(cut, random.Random(seed))
    if kind == "journal":
        return model.journal(cut, random.Random(seed))
    return model.corner(cut, CORNERS[kind][1], CORNERS[kind][2])


def work(job):
    """Checks some of the states: [(spec, text)] of what is wrong, the number of distinct ones, counts."""
    h, model, specs, folder = job
    v = verify.Verifier(h, folder)
    wrong, done = [], collections.Counter()
    for spec in specs:
        state, victim = make_torn(model, spec) if spec[1] == "torn" else (make(model, spec), None)
        facts = verify.Facts([m for m in model.marks if m[0] < spec[0]], h)
        try:
            v.verify(state, facts, victim)
        except verify.Wrong as e:
            wrong.append((spec, str(e)))
        done[spec[1] if isinstance(spec[1], str) else "corner"] += 1
    done.update(v.counts)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder + ".pool", ignore_errors=True)
    return wrong, done


def distinct(model, h, specs):
    """One spec for each state together with what is promised in it."""
    seen, out = set(), []
    for spec in specs:
        facts = verify.Facts([m for m in model.marks if m[0] < spec[0]], h)
        key = crash.digest(make(model, spec)) + facts.key()
        if key not in seen:
            seen.add(key)
            out.append(spec)
    return out


def name_of(spec):
    return f"cut {spec[0]}, {spec[1] if isinstance(spec[1], str) else CORNERS[spec[1]][0]}, seed {spec[2]}"


def keep(o, h, model, spec, text, n):
    folder = os.path.join(o.keep, f"{h.name}.{h.variant}.{n}")
    shutil.rmtree(folder, ignore_errors=True)
    v = verify.Verifier(h, folder + "/state")
    v.build(make(model, spec))
    shutil.copy(h.log, folder)
    for k in h.keys.values():
        shutil.copy(k, folder)
    shutil.rmtree(folder + "/state.pool")
    with open(folder + "/what", "w") as f:
        f.write(f"{h.name} {h.variant}: {name_of(spec)}\n{text}\n{[m for m in model.marks if m[0] < spec[0]]}\n")
        for i, r in enumerate(model.recs[max(0, spec[0] - 40):spec[0]]):
            f.write(f"{i + max(0, spec[0] - 40)} {r.phase} {r.op} {r.path} {r.path2} {r.data if r.phase == 2 else ''}\n")


def run_one(o, name, variant):
    folder = os.path.join(o.work, f"{name}.{variant}")
    os.makedirs(folder)
    h = history.record(name, variant, folder, o.program, o.library, o.seed)
    model = h.model(blind=[o.blind] if o.blind else [])
    specs = distinct(model, h, plan(model, h, o))
    parts = [(h, model, specs[i::o.jobs], os.path.join(o.work, f"v{i}")) for i in range(o.jobs)]
    with multiprocessing.Pool(o.jobs) as pool:
        results = pool.map(work, parts, 1)
    wrong, done = [w for r in results for w in r[0]], sum((r[1] for r in results), collections.Counter())
    for n, (spec, text) in enumerate(wrong[:20]):
        if not o.blind:
            print(f"WRONG: {name} {variant}: {name_of(spec)}: {text.strip()}")
            if o.keep:
                keep(o, h, model, spec, text, n)
    shutil.rmtree(folder)
    return len(specs), len(wrong), done


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--program", required=True)
    a.add_argument("--library", required=True)
    a.add_argument("--work", required=True)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--states", type=int, default=10)
    a.add_argument("--every", type=float, default=0.0)
    a.add_argument("--jobs", type=int, default=2)
    a.add_argument("--only", default=",".join(history.ALL))
    a.add_argument("--variants", default="1")
    a.add_argument("--blind", choices=("file", "dir"))
    a.add_argument("--keep")
    o = a.parse_args()
    reclog.check_imports(o.program, o.library)
    first, _, last = o.variants.partition("-")
    variants = range(int(first), int(last) + 1) if last else range(int(first))
    total = bad = 0
    for name in o.only.split(","):
        states, wrong, done = 0, 0, collections.Counter()
        for variant in variants:
            s, w, d = run_one(o, name, variant)
            states, wrong, done = states + s, wrong + w, done + d
        print(f"{name}: {states} states, {wrong} wrong ({', '.join(f'{k} {n}' for k, n in sorted(done.items()))})", flush=True)
        total, bad = total + states, bad + wrong
    print(f"{total} states, {bad} wrong")
    if o.blind:
        bad = 0 if bad else 1
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
