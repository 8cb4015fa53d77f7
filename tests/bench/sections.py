"""sections.py - what is measured.  Each section appends records to its results; report.py makes the tables."""
import dataclasses
import hashlib
import json
import os
import shutil

from corpus import sha256_file
from formats import formats
from measure import Failed, warm


class Context:
    """What sections share: runner, corpus, tools, rounds, and which VMs to measure."""

    def __init__(self, runner, corpus, tools, rounds, kedge, vms, counter):
        self.r = runner
        self.corpus = corpus
        self.tools = tools
        self.rounds = rounds
        self.vms = vms
        self.counter = counter      # library that counts what is read
        self.kedge = kedge
        self.work = runner.work
        self.records = []
        self.old = []               # of earlier runs
        self.adds = False
        self.kinds = ""             # only formats with this in their names
        self.path = ""
        with open(kedge, "rb") as f:
            self.build = hashlib.sha256(f.read()).hexdigest()[:16]

    def keep(self, record):
        """Adds a record and saves all: a run that is stopped leaves what it has measured.  Cases measured anew replace
        those of earlier runs."""
        self.records.append(record)
        new = {} if self.adds else {r["case"] for r in self.records}
        with open(self.path + ".tmp", "w") as f:
            json.dump([r for r in self.old if r["case"] not in new] + self.records, f, indent=1)
        os.rename(self.path + ".tmp", self.path)

    def rec(self, case, who, measured, round_no=0, **more):
        self.keep(dict(measured, case=case, who=who, round=round_no, **more))
        print(f"  {case:<34} {who:<10} {measured.get('wall', 0):8.3f} s"
              + (f"  (sync {measured['sync']:.2f} s)" if "sync" in measured else ""), flush=True)

    def turns(self):
        """(round, tool): interleaved, each round in another order."""
        for i in range(self.rounds):
            k = i % len(self.tools)
            for t in self.tools[k:] + self.tools[:k]:
                yield i, t

    def saved(self, night, tool):
        return os.path.join(self.work, "saved", f"{night.vm}-{night.name}", tool.name)

    def stamp(self, night, tool):
        return f"{night.sha256} {self.build if tool.name.startswith('kedge') else ''}"

    def put_aside(self, night, tool):
        where = self.saved(night, tool)
        tool.put_aside(where)
        with open(where + ".is", "w") as f:
            f.write(self.stamp(night, tool))

    def have(self, night, tool):
        """Whether the repository with everything up to this night was put aside, by the same build."""
        try:
            with open(self.saved(night, tool) + ".is") as f:
                return f.read() == self.stamp(night, tool)
        except OSError:
            return False

    def drop(self, night):
        shutil.rmtree(os.path.dirname(self.saved(night, self.tools[0])), ignore_errors=True)

    def restore_and_compare(self, tool, night, fmt="raw", whole=False):
        """Restores and proves the result; whole: by the digest in SHA256.tsv, else against the raw file that has it."""
        out = os.path.join(self.work, "restored", "disk." + fmt)
        folder = os.path.dirname(out)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        m = tool.restore(night, out, fmt)
        if whole and fmt == "raw":
            got = sha256_file(out)
            if got != night.sha256:
                raise Failed(f"{tool.name}: restored {night.text} has {got}, not {night.sha256}")
        else:
            self.corpus.qemu("compare", "-f", fmt, "-F", "raw", out, night.raw)
        m["allocated"] = os.stat(out).st_blocks * 512
        shutil.rmtree(folder)
        return m

    def limits(self, night):
        """kedge bench on the night's content: primitives and the limits that follow."""
        warm(night.raw)
        self.r.touch(4096)
        self.r.run([self.kedge, "bench", "--json", "--dir", self.work, night.raw])
        with open(self.r.out) as f:
            self.keep(dict(json.load(f), case=night.text, who="limit"))


def first(c):
    """First backups into an empty repository."""
    for vm, nights in c.corpus.vms().items():
        if vm not in ("vm-db", "vm-web") or vm not in c.vms:
            continue
        night = c.corpus.place(nights[0])
        for i, t in c.turns():
            if t is c.tools[0]:
                c.limits(night)
            t.fresh()
            warm(t.input(night))
            c.r.touch(2048)
            m = t.backup(night)
            c.rec(night.text, t.name, m, i, repo=t.bytes(), data=night.data)
            if i == c.rounds - 1:
                c.restore_and_compare(t, night, whole=True)
                c.put_aside(night, t)


def nights(c):
    """The nights after the first, each stored on top of the one before; then one where nothing changed."""
    for vm, list_ in c.corpus.vms().items():
        if vm in ("vm-db", "vm-web") and vm in c.vms:
            one_vm(c, list_)


def one_vm(c, list_):
    for k, night in enumerate(list_):
        c.corpus.place(night)
        if k == 0:
            for t in c.tools:
                if not c.have(night, t):
                    t.fresh()
                    t.backup(night)
                    c.put_aside(night, t)
            continue
        for t in c.tools:
            if t.name == "kedge":
                t.put_back(c.saved(list_[k - 1], t))
                c.keep({"case": night.text, "who": "kedge", "image_bytes": t.bytes_read(night, c.counter)})
        for i, t in c.turns():
            t.put_back(c.saved(list_[k - 1], t))
            before = t.bytes()
            warm(t.input(night), t.home)
            c.r.touch(1024)
            m = t.backup(night)
            c.rec(night.text, t.name, m, i, repo=t.bytes(), grown=t.bytes() - before, data=night.data,
                  changed=night.changed, size=night.size, states=k + 1)
            if i == c.rounds - 1:
                if k == len(list_) - 1 or t.name == "kedge":
                    c.restore_and_compare(t, night)
                c.put_aside(night, t)
        if k > 1:
            c.drop(list_[k - 1])
    last = list_[-1]
    again = dataclasses.replace(last, name="again")
    for i, t in c.turns():
        t.put_back(c.saved(last, t))
        warm(t.input(last), t.home)
        c.r.touch(512)
        c.rec(f"{last.vm} nothing changed", t.name, t.backup(again), i)
    c.drop(last)


def restore(c):
    """vm-db's base, to raw by all and to qcow2 by kedge and qemu-img convert."""
    night = c.corpus.place(c.corpus.vms()["vm-db"][0])
    for t in c.tools:
        if c.have(night, t):
            t.put_back(c.saved(night, t))
        else:
            t.fresh()
            t.backup(night)
            c.put_aside(night, t)
    for i, t in c.turns():
        if t is c.tools[0]:
            c.limits(night)
        warm(t.home)
        c.r.touch(6144)
        c.rec(night.text + " to raw", t.name, c.restore_and_compare(t, night, whole=i == 0), i, data=night.data)
    target = os.path.join(c.work, "converted.qcow2")
    kedge = next((t for t in c.tools if t.name == "kedge"), None)
    for i in range(c.rounds):
        if kedge:
            warm(kedge.home)
            c.r.touch(6144)
            c.rec(night.text + " to qcow2", "kedge", c.restore_and_compare(kedge, night, "qcow2"), i, data=night.data)
        warm(night.raw)
        c.r.touch(6144)
        m = c.r.run([c.corpus.qemu_img, "convert", "-f", "raw", "-O", "qcow2", night.raw, target])
        c.rec(night.text + " to qcow2", "qemu-img", m, i)
        os.unlink(target)


def dump(c):
    """Reading qcow2, plain and compressed, without writing."""
    nights_ = c.corpus.vms()
    base = c.corpus.place(nights_["vm-db"][0])
    cases = [(base.text + ", plain", base.image, base), (base.text + ", zlib", c.corpus.compressed(base, "zlib"), base),
             (base.text + ", zstd", c.corpus.compressed(base, "zstd"), base)]
    for n in nights_["vm-shift"]:
        if n.source.endswith(".qcow2"):
            cases.append((f"vm-shift {n.name}", os.path.join(c.corpus.folder, n.source), n))
    if len(nights_["vm-db"]) > 1:
        top = nights_["vm-db"][-1]
        cases.append((f"vm-db {top.name}, chain of {len(nights_['vm-db'])}", os.path.join(c.corpus.folder, top.source), top))
    for case, image, night in cases:
        null = f"driver=null-co,read-zeroes=on,size={night.size}"
        for i in range(c.rounds):
            both = [("kedge", [c.kedge, "dump", "--json", "--sink", "null", "qcow2:" + image]),
                    ("qemu-img", [c.corpus.qemu_img, "convert", "-n", "-f", "qcow2", "--target-image-opts", image, null])]
            for who, argv in both[i % 2:] + both[:i % 2]:
                warm(*(os.path.join(c.corpus.folder, n.source) for n in nights_["vm-db"]) if "chain" in case else (image,))
                c.r.touch(512)
                c.rec(case, who, c.r.run(argv), i, data=night.data)


def sizes(c):
    """Repositories of the other VMs, state after state; vm-web's and vm-db's are those that nights leaves."""
    all_ = c.corpus.vms()
    plans = {"vm-big-binary": all_["vm-big-binary"], "vm-shift": all_["vm-web"][:1] + all_["vm-shift"]}
    for vm, list_ in plans.items():
        if vm not in c.vms:
            continue
        for t in c.tools:
            if t.name != "kedge-key":
                t.fresh()
                t.put_aside(os.path.join(c.work, "sizes", t.name))
        for night in list_:
            c.corpus.place(night)
            if vm == "vm-shift":        # machines of their own, not nights of one
                night = dataclasses.replace(night, vm=f"{night.vm}-{night.name}")
            for t in c.tools:
                if t.name != "kedge-key":
                    t.put_back(os.path.join(c.work, "sizes", t.name))
                    warm(t.input(night))
                    m = t.backup(night)
                    c.rec(f"{vm}: {night.name}", t.name, m, repo=t.bytes())
                    t.put_aside(os.path.join(c.work, "sizes", t.name))
    shutil.rmtree(os.path.join(c.work, "sizes"), ignore_errors=True)


def memory(c):
    """The most anonymous memory of each command, by number of threads; what it works on is vm-db's base and night1."""
    all_ = c.corpus.vms()
    base, night = all_["vm-db"][:2]
    web = c.corpus.place(all_["vm-web"][0])
    c.corpus.place(base)
    packed = c.corpus.compressed(base, "zstd")
    out = os.path.join(c.work, "memory.out")
    t = next(x for x in c.tools if x.name == "kedge")
    night_image = os.path.join(c.corpus.folder, night.source)
    for threads, budget in [(1, 256), (2, 256), (4, 256), (16, 256), (16, 96)]:
        common = ("--threads", str(threads)) + (("--memory", f"{budget}M") if budget != 256 else ())
        t.fresh()
        steps = [("backup, first", ("backup", "--vm", base.vm, "qcow2:" + base.image)),
                 ("backup, next night", ("backup", "--vm", base.vm, "qcow2:" + night_image)),
                 ("backup, nothing changed", ("backup", "--vm", base.vm, "qcow2:" + night_image)),
                 ("backup, image with snapshots", ("backup", "--vm", web.vm, "qcow2:" + web.image)),
                 ("list", ("list",)), ("show", ("show", base.vm)), ("stats", ("stats",)), ("key list", ("key", "list")),
                 ("diff", ("diff", base.vm, web.vm)),
                 ("check", ("check",)), ("check --read-data", ("check", "--read-data")),
                 ("cat", ("cat", base.vm)),
                 ("restore -O raw", ("restore", base.vm, "-o", out, "-O", "raw")),
                 ("restore -O qcow2", ("restore", base.vm, "-o", out, "-O", "qcow2")),
                 ("restore -O qcow2 --compress", ("restore", web.vm, "-o", out, "-O", "qcow2", "--compress")),
                 ("dump --sink null, plain", ("dump", "--sink", "null", "qcow2:" + base.image)),
                 ("dump --sink null, zstd", ("dump", "--sink", "null", "qcow2:" + packed)),
                 ("dump -o", ("dump", "-o", out, "qcow2:" + web.image)),
                 ("map", ("map", "qcow2:" + base.image)), ("info", ("info", base.image)),
                 ("doctor", ("doctor",)), ("bench", ("bench", "--dir", c.work, web.raw))]
        for case, args in steps:
            opts = tuple(o for o in takes(t, args[0], common))
            m = t.cmd(*args, *opts, anon=True, stdout=os.devnull)
            if os.path.exists(out):
                os.unlink(out)
            c.rec(case, f"{threads} {budget}", m, threads=threads, budget=budget)
            print(f"    {m['anon_kib'] / 1024:.1f} MiB", flush=True)


def takes(t, command, options):
    """The options, in pairs, that this command has."""
    t.cmd("help", command)
    with open(t.r.out) as f:
        text = f.read()
    for i in range(0, len(options), 2):
        if f"{options[i]} " in text:
            yield from options[i:i + 2]


def prepare(c):
    """Every state read by qemu-img and compared with its digest, before anything is timed."""
    for list_ in c.corpus.vms().values():
        for night in list_:
            c.corpus.place(night)
            print(f"  {night.text}: {night.sha256[:12]}", flush=True)
    base = c.corpus.place(c.corpus.vms()["vm-db"][0])
    for kind in ("zlib", "zstd"):
        c.corpus.compressed(base, kind)


SECTIONS = {"prepare": prepare, "first": first, "nights": nights, "restore": restore, "dump": dump,
            "formats": formats, "sizes": sizes, "memory": memory}
