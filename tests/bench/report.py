"""report.py - tables of medians, ratios and bars from the results, as Markdown."""
import json
import os
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
        return list(dict.fromkeys(r["case"] for r in self.records))

    def of(self, case, who, field="wall"):
        return [r[field] for r in self.records if r["case"] == case and r["who"] == who and field in r]

    def med(self, case, who, field="wall"):
        v = self.of(case, who, field)
        return median(v) if v else None


def seconds(v):
    return "-" if v is None else f"{v:.2f}" if v < 10 else f"{v:.1f}"


def spread(values):
    """median (least-most), n known from the text above."""
    if not values:
        return "-"
    return seconds(median(values)) + (f" ({seconds(min(values))}-{seconds(max(values))})" if len(values) > 1 else "")


def times(v):
    return "-" if v is None else f"{v:.2f}x"


def bar(value, least):
    """A bar that wants at least so much."""
    if value is None:
        return ""
    return f">= {least:g}: " + ("met" if value >= least else "**not met**")


def ratio(a, b):
    return a / b if a is not None and b else None


def faster(r, case):
    both = [v for v in (r.med(case, "restic"), r.med(case, "borg")) if v is not None]
    return min(both) if both else None


def table(head, rows):
    if not rows:
        return ""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def limit_seconds(r, case, field):
    """What kedge bench computed for the case's data."""
    found = [x["data"][field] for x in r.records if x["case"] == case and x["who"] == "limit"]
    return median(found) if found else None


def first(folder):
    r = Results(folder, "first")
    rows = []
    for case in r.cases():
        kedge = r.med(case, "kedge")
        x = ratio(faster(r, case), kedge)
        limit = limit_seconds(r, case, "store_seconds")
        y = ratio(limit, kedge)
        rows.append([case] + [spread(r.of(case, w)) for w in ("kedge", "restic", "borg")]
                    + [times(x), bar(x, 2.5), seconds(limit), times(y), bar(y, 0.7)])
    return table(["first backup, s", "kedge", "restic", "borg", "to the faster peer", "bar", "limit, s", "of the limit",
                  "bar"], rows)


def nights(folder):
    r = Results(folder, "nights")
    rows = []
    for case in r.cases():
        kedge = r.med(case, "kedge")
        x = ratio(faster(r, case), kedge)
        changed = (r.med(case, "kedge", "changed") or 0) / MIB
        least = 20 if 0 < changed < 50 else 4 if changed > 350 else None
        met = bar(x, least) if least else ""
        if "nothing" in case:
            key = r.med(case, "kedge-key")
            met = "" if key is None else "< 0.3 s without derivation: " + ("met" if key < 0.3 else "**not met**")
        rows.append([case, f"{changed:.0f}"] + [spread(r.of(case, w)) for w in ("kedge", "kedge-key", "restic", "borg")]
                    + [times(x), met])
    return table(["next night, s", "changed, MiB", "kedge", "kedge, key file", "restic", "borg", "to the faster peer",
                  "bar"], rows)


def restore(folder):
    r = Results(folder, "restore")
    rows = []
    for case in r.cases():
        kedge = r.med(case, "kedge")
        if kedge is None:
            continue
        base = case.rsplit(" to ", 1)[0]
        limit = limit_seconds(r, base, "restore_seconds")
        if case.endswith("raw"):
            x = ratio(faster(r, case), kedge)
            met = bar(x, 1.5)
        else:
            slower = max(v for v in (r.med(case, "qemu-img"), limit) if v is not None)
            x = ratio(slower, kedge)
            met = bar(x, 1)
        y = ratio(limit, kedge)
        rows.append([case] + [spread(r.of(case, w)) for w in ("kedge", "restic", "borg", "qemu-img")]
                    + [times(x), met, seconds(limit), times(y), bar(y, 0.7) if case.endswith("raw") else ""])
    return table(["restore, s", "kedge", "restic", "borg", "qemu-img", "ratio", "bar", "limit, s", "of the limit", "bar"],
                 rows)


def dump(folder):
    r = Results(folder, "dump")
    rows = []
    for case in r.cases():
        x = ratio(r.med(case, "qemu-img"), r.med(case, "kedge"))
        packed = "zlib" in case or "zstd" in case or "compressed" in case
        rows.append([case] + [spread(r.of(case, w)) for w in ("kedge", "qemu-img")] + [times(x), bar(x, 1.5 if packed else 1)])
    return table(["read qcow2, s", "kedge dump --sink null", "qemu-img convert to null-co", "ratio", "bar"], rows)


def make(folder, args):
    parts = [f(folder) for f in (first, nights, restore, dump)]
    return "\n".join(p for p in parts if p)
