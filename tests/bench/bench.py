"""bench.py - run the sections asked for, keep their results, and print the tables.  See run.sh."""
import argparse
import json
import os
import re
import subprocess
import sys

import report
import tools
from corpus import Corpus
from measure import Failed, Runner
from sections import SECTIONS, Context


def versions(kedge, peers):
    """{program: its name and version}, for the heads of columns."""
    found = {"kedge": subprocess.run([kedge, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout}
    for name in ("restic", "borg", "qemu-img"):
        with open(os.path.join(peers, name + ".version")) as f:
            found[name] = f.readline()
    return {k: k + " " + re.search(r"\d+(\.\d+)+", v).group(0) for k, v in found.items()}


def main():
    p = argparse.ArgumentParser()
    for name in ("corpus", "work", "results", "peers", "kedge", "nosync", "counter", "pages", "only", "rounds", "tools", "vms", "kinds", "report"):
        p.add_argument("--" + name, default="")
    p.add_argument("--add", action="store_true")
    a = p.parse_args()
    os.makedirs(a.work, exist_ok=True)
    os.makedirs(a.results, exist_ok=True)
    runner = Runner(a.work, a.nosync or None, a.pages)
    corpus = Corpus(a.corpus, a.work, os.path.join(a.peers, "bin", "qemu-img"))
    programs = {"kedge": a.kedge, "kedge-key": a.kedge, "restic": os.path.join(a.peers, "bin", "restic"),
                "borg": os.path.join(a.peers, "bin", "borg")}
    wanted = a.tools.split() or list(programs)
    chosen = [t(runner, programs[t.name], os.path.join(a.work, "t")) for t in tools.ALL if t.name in wanted]
    for name in a.only.split() or SECTIONS:
        if name == "report":
            continue
        if name not in SECTIONS:
            sys.exit(f"no section {name}; there are {' '.join(SECTIONS)}")
        print(f"{name}:", flush=True)
        c = Context(runner, corpus, chosen, int(a.rounds), a.kedge, a.vms.split() or list(corpus.vms()),
                    a.counter)
        c.path = os.path.join(a.results, name + ".json")
        if os.path.exists(c.path):
            with open(c.path) as f:
                c.old = json.load(f)
        c.adds = a.add
        c.kinds = a.kinds
        SECTIONS[name](c)
    tables(a)


def tables(a):
    text = report.make(a.results, versions(a.kedge, a.peers), a.work, tools.Borg.encryption)
    with open(a.report, "w") as f:
        f.write(text)
    print(text)


try:
    main()
except Failed as e:
    sys.exit(f"bench: {e}")
