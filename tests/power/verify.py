"""verify.py - what must hold in a state that a power cut left: builds it in a folder, and asks kedge.

Promised is what a command had reported as done before the cut.  What had begun is there wholly or not at all.
"""
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess

LEFTOVERS = (".kedge-*.tmp",)
WRONG_KEY, NO_REPO, DAMAGE = 12, 10, 6
SMALL = 4096


class Wrong(Exception):
    pass


class Facts:
    """What the marks before a cut promise."""

    def __init__(self, marks, h):
        self.repo = "yes" if any("config" == os.path.basename(p) for p in h.base) else "no"
        self.keys = {"k1": "yes"}
        if self.repo == "yes":
            self.keys.update({k: "yes" for k in h.keys if k in h.known})
        self.committed, self.begun = list(h.before), []
        self.targets = {}
        self.redo = None            # the last command if it did not end
        for _, m in marks:
            if "begin" in m:
                self._begin(m["begin"])
            elif "ok" in m:
                self._ok(m["ok"])

    def _begin(self, w):
        self.redo = w
        if w["do"] == "init":
            self.repo = "maybe" if self.repo == "no" else self.repo
        elif w["do"] == "backup":
            self.begun.append((w["vm"], w["image"]))
        elif w["do"] in ("add", "passwd"):
            self.keys[w["key"]] = "maybe"
            if w["do"] == "passwd" and self.keys[w["old"]] == "yes":
                self.keys[w["old"]] = "maybe"
        elif w["do"] == "remove":
            self.keys[w["key"]] = "maybe"
        elif w["do"] == "restore":
            for t in w["targets"]:
                self.targets.setdefault(t, "maybe")

    def _ok(self, w):
        self.redo = None
        if w["do"] == "init":
            self.repo = "yes"
        elif w["do"] == "backup":
            self.committed.append((w["vm"], w["image"]))
        elif w["do"] == "add":
            self.keys[w["key"]] = "yes"
        elif w["do"] == "passwd":
            for k in self.keys:             # every other key object of the slot goes
                if k in w.get("replaces", [w["old"]]):
                    self.keys[k] = "no"
            self.keys[w["key"]] = "yes"
        elif w["do"] == "remove":
            self.keys[w["key"]] = "no"
        elif w["do"] == "restore":
            for t in w["targets"]:
                self.targets[t] = "yes"

    def key(self):
        return json.dumps([self.repo, self.keys, self.committed, self.begun, self.targets, self.redo])


class Verifier:
    def __init__(self, h, folder):
        self.h, self.folder, self.pool = h, folder, folder + ".pool"
        self.counts, self.may_warn, self.victim = {}, False, None
        for p in (folder, self.pool):
            shutil.rmtree(p, ignore_errors=True)
        os.makedirs(self.pool)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- building

    def build(self, state):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        for path in sorted(state):
            c, to = state[path], os.path.join(self.folder, path)
            if c is None:
                os.mkdir(to)
                continue
            src = os.path.join(self.pool, hashlib.blake2b(c, digest_size=16).hexdigest()) if len(c) >= SMALL else to
            if not os.path.exists(src):
                with open(src, "wb") as f:
                    f.write(c)
            if src != to:
                os.link(src, to)

    # --- asking

    def run(self, args, key, state="state"):
        p = subprocess.run([self.h.program, "--key-file", self.h.keys[key], *args], env=self.h.env(self.folder, state),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.h.folder, timeout=120)
        return p.returncode, p.stdout, p.stderr.decode("utf-8", "replace")

    def must(self, args, key, quiet=False, state="state"):
        rc, out, err = self.run(args, key, state)
        if rc != 0:
            raise Wrong(f"{' '.join(args[:4])}: exit {rc}: {err}{out[-1500:].decode('utf-8', 'replace')}")
        if quiet and err and not self.may_warn:
            raise Wrong(f"{' '.join(args[:4])}: says: {err}")
        return out

    def opens(self, key):
        rc, _, err = self.run(["key", "list"], key)
        if rc not in (0, WRONG_KEY):
            raise Wrong(f"key {key}: exit {rc}: {err}")
        return rc == 0

    def check_keys(self, facts):
        good = []
        for k, wanted in facts.keys.items():
            got = self.opens(k)
            if got and wanted == "no":
                raise Wrong(f"key {k} was removed, and opens")
            if not got and wanted == "yes":
                raise Wrong(f"key {k} does not open")
            if got:
                good.append(k)
        if not good:
            raise Wrong(f"no key opens: {facts.keys}")
        return good

    def digest(self, point, key):
        return hashlib.sha256(self.must(["-q", "cat", "--no-progress", point], key, quiet=True)).hexdigest()

    def check_points(self, facts, key, state="state"):
        """Every backup that was reported is listed, and every one that is listed is whole."""
        left = list(facts.committed)
        for b in json.loads(self.must(["list", "--json"], key, quiet=True, state=state)):
            got = {s["state"]: self.digest(f"{b['vm']}@{b['id']}/{s['state']}", key) for s in b["states"]}
            for i, (vm, image) in enumerate(left):
                if vm == b["vm"] and self.h.images[image].states == got:
                    del left[i]
                    break
            else:
                if not any(vm == b["vm"] and self.h.images[i].states == got for vm, i in facts.begun):
                    raise Wrong(f"backup {b['id']} of {b['vm']} is none that was made")
        if left:
            raise Wrong(f"backups are lost: {left}")

    def check_all(self, facts, key):
        self.check_points(facts, key)
        if not self.victim:
            self.must(["check", "--read-data", "--no-progress"], key)
            return
        rc, out, err = self.run(["check", "--read-data", "--no-progress"], key)
        if rc not in (0, DAMAGE):
            raise Wrong(f"check of a torn {self.victim}: exit {rc}: {err}")
        if self.victim.startswith("repo/") and self.victim.split("/")[4] not in err + out.decode():
            raise Wrong(f"check says nothing of a torn {self.victim}: {err}{out.decode()}")

    def backup(self, facts, state, key):
        """What was interrupted, or one more; what is stored already isn't sent again."""
        w = facts.redo if facts.redo and facts.redo["do"] == "backup" else None
        vm, image = (w["vm"], w["image"]) if w else self.h.next
        if w and facts.keys.get(w["by"]) == "yes":
            key = w["by"]
        out = json.loads(self.must(self.h.backup_args(vm, image), key, quiet=True))
        fresh = self.h.fresh.get(image)
        if w and fresh and image not in [i for _, i in facts.committed]:
            there = self.orphans(state, key)
            if there and not self.victim and out["bytes_stored"] > max(fresh * 1.1 - there, 0) + 200000:
                raise Wrong(f"of {fresh} new bytes {there} were stored; sent again: {out['bytes_stored']}")
            if there:
                self.count("resumed")
        facts.committed.append((vm, image))

    def orphans(self, state, key):
        """Bytes in whole data packs that the key's slot put since the log began, in sessions that are there."""
        slot = next(k["slot"] for k in json.loads(self.must(["key", "list", "--json"], key)) if k["in_use"])
        sessions = {p.split("/")[3] for p in state if p.startswith(f"repo/session/{slot}/") and p.count("/") == 4}
        return sum(len(c) for p, c in state.items()
                   if c and p.startswith(f"repo/data/{slot}/") and p not in self.h.base and p.split("/")[3] in sessions and
                   hashlib.sha256(c).hexdigest() == os.path.basename(p))

    def check_targets(self, facts, state):
        for t, wanted in facts.targets.items():
            got = state.get(t)
            if got == self.h.final[t]:
                continue
            if wanted == "yes":
                raise Wrong(f"{t} was restored, and is {'not there' if got is None else 'wrong'}")
            if got is not None and got != self.h.base.get(t):
                raise Wrong(f"{t} is there, and is wrong")
        for p, c in state.items():
            if c is None or not p.startswith(("out/", "new/")) or p in facts.targets or c == self.h.base.get(p):
                continue
            if c == self.h.final.get(p):
                continue
            if not any(fnmatch.fnmatch(os.path.basename(p), x) for x in LEFTOVERS):
                raise Wrong(f"{p} is left over, and is wrong")

    def redo_keys(self, facts, good):
        """What was interrupted is done again, and counts then."""
        w, by = facts.redo, good[0]
        if w["do"] == "remove":
            others = [k for k in good if k != w["key"]]
            rc, _, err = self.run(["-q", "key", "remove", w["key"]], others[0])
            if rc != 0 and "no key fits" not in err:
                raise Wrong(f"removing key {w['key']} again: exit {rc}: {err}")
            if self.opens(w["key"]):
                raise Wrong(f"key {w['key']} was removed again, and opens")
            return others[0]
        if w["do"] == "add":
            self.must(["-q", "key", "add", "--label", w["key"], "--new-key-file", self.h.keys[w["key"]]], by, quiet=True)
        elif w["do"] == "passwd":
            by = w["old"] if w["old"] in good else w["key"]
            self.must(["-q", "key", "passwd", "--new-key-file", self.h.keys[w["key"]]], by, quiet=True)
            if self.opens(w["old"]):
                raise Wrong(f"key {w['old']} was replaced, and opens")
        if not self.opens(w["key"]):
            raise Wrong(f"key {w['key']} does not open")
        return w["key"]

    def half_made(self, facts):
        """Init did not report success: whatever opens must be whole; else another init must succeed."""
        rc, _, err = self.run(["list"], "k1")
        if rc == 0:
            return
        if rc not in (NO_REPO, 1) or facts.repo == "yes":
            raise Wrong(f"list after init: exit {rc}: {err}")
        self.count("init again")
        self.must(["-q", "init", "--pack-size", "1M"], "k1")

    def verify(self, state, facts, victim=None):
        """Raises Wrong.  victim: a file that is torn, though it was synced."""
        self.victim = victim
        self.build(state)
        # slots of an init that died are removed last by the one that is made again, and reported until then
        self.may_warn = facts.repo != "yes" or victim is not None
        self.check_targets(facts, state)
        if facts.repo != "yes":
            self.half_made(facts)
        good = self.check_keys(facts) if len(facts.keys) > 1 else ["k1"]
        key = good[0]
        self.check_all(facts, key)
        if any(p.startswith("state2/") for p in state):
            self.check_points(facts, key, state="state2")
        if facts.redo and facts.redo["do"] in ("add", "remove", "passwd"):
            key = self.redo_keys(facts, good)
        self.backup(facts, state, key)
        if victim and victim.startswith("state/"):
            self.victim, self.may_warn = None, False    # a warning once is enough
        self.check_all(facts, key)
