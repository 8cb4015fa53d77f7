"""report.py - tables of medians, ratios and bars from the results, as Markdown."""
import json
import os
import re
import subprocess
from statistics import median

MIB = 1 << 20


class Results:
    def __init__(self, folder, section):
        path = os.path.join(folder, section + ".json")
        self.records = []
        if os.path.exists(path):
            with open(path) as f:
                self.records = json.load(f)

    def cases(self):
        return list(dict.fromkeys(r["case"] for r in self.records if r["who"] != "limit"))

    def of(self, case, who, field="wall"):
        return [r[field] for r in self.records if r["case"] == case and r["who"] == who and field in r]

    def med(self, case, who, field="wall"):
        v = self.of(case, who, field)
        return median(v) if v else None

    def faster(self, case):
        both = [v for v in (self.med(case, "restic"), self.med(case, "borg")) if v is not None]
        return min(both) if both else None


def seconds(v):
    return "-" if v is None else f"{v:.3f}" if v < 1 else f"{v:.2f}" if v < 10 else f"{v:.1f}"


def spread(values):
    """median (least-most)"""
    if not values:
        return "-"
    return seconds(median(values)) + (f" ({seconds(min(values))}-{seconds(max(values))})" if len(values) > 1 else "")


def mib(v):
    return "-" if v is None else f"{v / MIB:.1f}" if v < 100 * MIB else f"{v / MIB:.0f}"


def times(v):
    return "-" if v is None else f"{v:.2f}x"


def met(yes):
    return "met" if yes else "**not met**"


def least(value, wanted):
    return "" if value is None else f"{wanted:g}x: {met(value >= wanted)}"


def ratio(a, b):
    return a / b if a is not None and b else None


def table(head, rows):
    if not rows:
        return ""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def cells(r, case, names, field="wall"):
    return [spread(r.of(case, n, field)) for n in names]


class Report:
    def __init__(self, folder, versions):
        self.folder = folder
        self.v = versions

    def results(self, section):
        return Results(self.folder, section)

    def limit(self, case, field):
        """What kedge bench computed for the case's data, at its fastest: disturbances must not lower the bar."""
        found = [x["data"][field] for s in ("first", "restore") for x in self.results(s).records
                 if x["case"] == case and x["who"] == "limit"]
        return min(found) if found else None

    def first(self):
        r = self.results("first")
        rows = []
        for case in r.cases():
            kedge = r.med(case, "kedge")
            x = ratio(r.faster(case), kedge)
            limit = self.limit(case, "store_seconds")
            y = ratio(limit, kedge)
            rows.append([case, str(len(r.of(case, "kedge")))] + cells(r, case, ("kedge", "restic", "borg"))
                        + [times(x), least(x, 2.5), seconds(limit), times(y), least(y, 0.7)])
        return "## First backup\n\nInto an empty repository; seconds.\n\n" + table(
            ["", "rounds", self.v["kedge"], self.v["restic"], self.v["borg"], "to the faster peer", "bar", "limit",
             "of the limit", "bar"], rows) if rows else ""

    def nights(self):
        r = self.results("nights")
        rows, read = [], []
        for case in r.cases():
            kedge, key = r.med(case, "kedge"), r.med(case, "kedge-key")
            changed = r.med(case, "kedge", "changed") or 0
            x = ratio(r.faster(case), kedge)
            bar = least(x, 20) if 0 < changed < 50 * MIB else least(x, 4) if changed > 350 * MIB else ""
            if "nothing changed" in case and key is not None:
                bar = f"under 0.3 s with a key file: {met(key < 0.3)}"
            rows.append([case, str(len(r.of(case, "kedge"))), mib(changed) if changed else "-"]
                        + cells(r, case, ("kedge", "kedge-key", "restic", "borg")) + [times(x), bar])
            if changed and r.med(case, "kedge", "image_bytes"):
                read.append(self.read_row(r, case, changed))
        if not rows:
            return ""
        return ("## Next nights\n\nEach on top of the nights before it; seconds. *changed* is what is in 64 KiB clusters that differ from the "
                "night before.\nWith a key file nothing is derived from a password.\n\n" + table(
                    ["", "rounds", "changed, MiB", self.v["kedge"], self.v["kedge"] + ", key file", self.v["restic"],
                     self.v["borg"], "to the faster peer", "bar"], rows)
                + "\nWhat kedge read of the image and its layers, MiB, as a preloaded library counted it in a run of its own. *metadata* "
                "is what the\nL2 tables of all states or layers can have at most.\n\n" + table(
                    ["", "changed", "read", "metadata", "audit sample", "the rest / changed", "bar"], read))

    @staticmethod
    def read_row(r, case, changed):
        got, audit = r.med(case, "kedge", "image_bytes"), r.med(case, "kedge", "bytes_audited")
        tables = r.med(case, "kedge", "states") * (r.med(case, "kedge", "size") / 65536 * 8)
        x = max(got - audit - tables, 0) / changed
        return [case, mib(changed), mib(got), mib(tables), mib(audit), times(x), f"at most 1.2x: {met(x <= 1.2)}"]

    def restore(self):
        r = self.results("restore")
        rows = []
        for case in r.cases():
            kedge = r.med(case, "kedge")
            limit = self.limit(case.rsplit(" to ", 1)[0], "restore_seconds")
            y = ratio(limit, kedge)
            if case.endswith("raw"):
                x = ratio(r.faster(case), kedge)
                bars = [times(x), least(x, 1.5), seconds(limit), times(y), least(y, 0.7)]
            else:
                both = [v for v in (r.med(case, "qemu-img"), limit) if v is not None]
                x = ratio(r.med(case, "qemu-img"), kedge)
                slower = ratio(max(both), kedge) if both else None
                bars = [times(x), "" if slower is None else f"1x, or of the limit: {met(slower >= 1)}",
                        seconds(limit), times(y), ""]
            rows.append([case, str(len(r.of(case, "kedge")))] + cells(r, case, ("kedge", "restic", "borg", "qemu-img"))
                        + bars)
        return ("## Restore\n\nSparse, every id verified; seconds. qemu-img: `convert` from the raw file to qcow2.\n\n" + table(
            ["", "rounds", self.v["kedge"], self.v["restic"], self.v["borg"], self.v["qemu-img"],
             "to the faster peer", "bar", "limit", "of the limit", "bar"], rows)) if rows else ""

    def dump(self):
        r = self.results("dump")
        rows = []
        for case in r.cases():
            x = ratio(r.med(case, "qemu-img"), r.med(case, "kedge"))
            packed = re.search("zlib|zstd|compressed", case)
            rows.append([case, str(len(r.of(case, "kedge")))] + cells(r, case, ("kedge", "qemu-img"))
                        + [times(x), least(x, 1.5 if packed else 1)])
        return ("## Reading qcow2\n\n`kedge dump --sink null` and `qemu-img convert -n --target-image-opts` into `driver=null-co,"
                "read-zeroes=on`; seconds.\n\n" + table(
                    ["", "rounds", self.v["kedge"], self.v["qemu-img"], "ratio", "bar"], rows)) if rows else ""

    def formats(self):
        r = self.results("formats")
        parts = []
        for verb, head, text in (
                ("read", "Reading each format", "`kedge dump --sink null` and `qemu-img convert -n --target-image-opts` into "
                 "`driver=null-co,read-zeroes=on`, images by qemu-img; seconds."),
                ("write", "Writing each format", "`kedge dump -O` and `qemu-img convert`, both from the same raw file; seconds; MiB "
                 "that the image takes on the disk.")):
            rows = [self.format_row(r, case, verb) for case in r.cases() if case.startswith(verb + " ")]
            sizes = ["kedge, MiB", "qemu-img, MiB"] if verb == "write" else []
            if rows:
                parts.append(f"## {head}\n\nThe content is vm-web's of night 1. {text}\n\n" + table(
                    ["", "rounds", self.v["kedge"], self.v["qemu-img"], "ratio", "bar", "kedge, CPU", "qemu-img, CPU", *sizes], rows))
        return "\n".join(parts)

    @staticmethod
    def format_row(r, case, verb):
        x = ratio(r.med(case, "qemu-img"), r.med(case, "kedge"))
        wanted = 1.5 if verb == "read" and any(r.of(case, "kedge", "packed")) else 1
        row = [case[len(verb) + 1:], str(len(r.of(case, "kedge")))] + cells(r, case, ("kedge", "qemu-img")) + [times(x), least(x, wanted)]
        row += [seconds(r.med(case, w, "user") + r.med(case, w, "sys")) for w in ("kedge", "qemu-img")]
        return row + ([mib(r.med(case, w, "allocated")) for w in ("kedge", "qemu-img")] if verb == "write" else [])

    def sizes(self):
        rows = []
        n = self.results("nights")
        for vm, what in (("vm-web", "nights 1 to 7"), ("vm-db", "base to night 3")):
            mine = [c for c in n.cases() if c.startswith(vm + " ") and n.med(c, "kedge", "repo")]
            if mine:
                rows.append(self.size_row(n, mine[-1], f"{vm}, {what}" if "night" in mine[-1] else mine[-1], True))
        s = self.results("sizes")
        rows += [self.size_row(s, c, c, False) for c in s.cases()]
        return ("## Repository sizes\n\nMiB of all objects, after each backup of a VM in turn (of vm-web and vm-db after the "
                "last).\n\n" + table(
                    ["", self.v["kedge"], self.v["restic"], self.v["borg"], "to the smaller peer", "bar"], rows)) if rows else ""

    @staticmethod
    def size_row(r, case, text, has_bar):
        k, *peers = [r.med(case, w, "repo") for w in ("kedge", "restic", "borg")]
        there = [p for p in peers if p]
        x = k / min(there) if there and k else None
        bar = f"at most 0.95x: {met(x <= 0.95)}" if has_bar and x else ""
        return [text, mib(k), *map(mib, peers), times(x), bar]

    def memory(self):
        r = self.results("memory")
        who = list(dict.fromkeys(x["who"] for x in r.records))
        rows = []
        for case in r.cases():
            peaks = {w: r.med(case, w, "anon_kib") for w in who}
            over = any(p is not None and p > int(w.split()[1]) * 1024 for w, p in peaks.items())
            rows.append([case] + [mib(p * 1024) if p is not None else "-" for p in peaks.values()] + [met(not over)])
        heads = []
        for w in who:
            threads, budget = w.split()
            heads.append(f"{threads} thread{'s' if threads != '1' else ''}" + (f", --memory {budget}M" if budget != "256" else ""))
        return ("## Anonymous memory\n\nThe most that a command had (RssAnon, watched every 2 ms), MiB; on vm-db's base and night 1. "
                "The bar is `--memory`:\n256 MiB by default.\n\n" + table(["", *heads, "bar"], rows)) if rows else ""

    def syncs(self):
        rows = []
        for section in ("first", "restore"):
            r = self.results(section)
            for case in r.cases():
                rows.append([section + ": " + case] + cells(r, case, ("kedge", "restic", "borg", "qemu-img"), "sync"))
        return ("## The final sync\n\nOne syncfs after each of the above, timed apart; seconds. It says more of the disk than of the "
                "programs.\n\n" + table(["", self.v["kedge"], self.v["restic"], self.v["borg"], self.v["qemu-img"]], rows)
                ) if rows else ""

    def limits(self):
        rows = []
        fields = ("hash", "compress", "decode", "seal", "open", "name", "copy_out", "copy_in")
        for section in ("first", "restore"):
            r = self.results(section)
            for case in dict.fromkeys(x["case"] for x in r.records if x["who"] == "limit"):
                mine = [x for x in r.records if x["who"] == "limit" and x["case"] == case]
                d = mine[0]["data"]
                rows.append([f"{section}: {case}"] + [mib(d[f]) for f in ("bytes_read", "bytes_hashed", "bytes_new")]
                            + [f"{median(x['ratio'] for x in mine):.2f}"]
                            + [mib(max(x.get(f, 0) for x in mine)) for f in fields])
        return ("## Limits\n\nWhat `kedge bench` measured beside the runs, MiB a second of one core while all work, at its fastest; the "
                "limits above follow from\nthese and from how much of the data is not zero, and new.\n\n" + table(
                    ["", "read, MiB", "not zero", "new", "ratio", "BLAKE2b", "zstd -1", "decoding", "sealing", "opening", "SHA-256",
                     "writing a file", "reading it"], rows)) if rows else ""


def machine(work):
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read())
    with open("/proc/meminfo") as f:
        memory = int(re.search(r"MemTotal:\s*(\d+)", f.read()).group(1)) / (1 << 20)
    fs = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", work], stdout=subprocess.PIPE, text=True).stdout.strip()
    kernel = re.match(r"[0-9.]+", os.uname().release).group(0)
    with open("/etc/os-release") as f:
        system = re.search(r'PRETTY_NAME="(.*)"', f.read())
    return (f"{len(os.sched_getaffinity(0))} cores of a virtual machine ({cpu.group(1) if cpu else os.uname().machine}), "
            f"{memory:.0f} GiB of memory, Linux {kernel}, {system.group(1) if system else 'Linux'}, {fs} file system.")


METHOD = """\
Made by `make bench CORPUS=DIR` ([tests/bench](../tests/bench/README.md) tells how it measures). Medians, in parentheses the least and the
most. Every program has the same data in the page cache, writes sparse files, and waits for no disk: fsync and its kin return at once for
all of them alike, and one syncfs is timed apart. Memory is touched before each run, so that none pays for pages that the host had taken
back. Rounds are interleaved, each in another order. kedge reads the images; restic and borg
({encryption}, zstd,3) get the same guest content as a raw file, converted outside of the timing. Every restored disk was compared with the
original. Password and key derivation are part of the time of all of them.
"""


def make(folder, versions, work, encryption):
    r = Report(folder, versions)
    parts = [r.first(), r.nights(), r.restore(), r.sizes(), r.dump(), r.formats(), r.memory(), r.limits(), r.syncs()]
    head = "# Benchmarks\n\n" + METHOD.format(encryption=encryption) + "\nMachine: " + machine(work) + "\n"
    return "\n".join([head] + [p for p in parts if p])
