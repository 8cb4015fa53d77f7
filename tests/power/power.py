#!/usr/bin/env python3
"""power.py - power cuts: records commands, rebuilds the states that a cut may leave, and checks each.

usage: power.py --program KEDGE --library record.so --work FOLDER [--seed N] [--states N] [--jobs N] [--only NAME,...]
                [--variants N] [--blind file|dir] [--keep FOLDER]

--states: random ones per history and variant, besides the systematic ones that --every thins out.  --blind: as if the
program had not called fsync on files or on folders; then the exit code is 0 when that is noticed.
"""
import argparse
import collections
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


def plan(model, h, o):
    """[(cut, kind, seed)], in an order of no meaning."""
    rng = random.Random(f"{o.seed} {h.name} {h.variant}")
    cuts = model.cuts()
    corners = [(cut, i, 0) for cut in cuts for i in range(len(CORNERS))]
    rng.shuffle(corners)
    corners = corners[:int(len(corners) * o.every)]
    rest = [(rng.choice(cuts), "random" if rng.random() < 0.8 else "journal", rng.getrandbits(60)) for _ in range(o.states)]
    return corners + rest


def make(model, spec):
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
        state = make(model, spec)
        facts = verify.Facts([m for m in model.marks if m[0] < spec[0]], h)
        try:
            v.verify(state, facts)
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
