"""Storage that shows an older state, and damage in the client's own folders."""
import json
import os
import shutil

import rot_repo

kf = rot_repo.kf


def rollback(place, model, need, failure):
    """Old versions put back, as far as this client has seen the newer ones."""
    def findings():
        code, out, _ = place.run("check", "--json", key="key2")
        return code, [(f["what"], f.get("object", "")) for f in json.loads(out)["findings"]]

    code, out, err = place.run("list")          # remembers what is there now
    need(code == 0, "list: %s", err)
    # The newest backup of a writer and all that came with it, as if it had never been.
    # Of the other writer a session was evicted: there a gap may be lawful (docs/threat-model.md, N6).
    for last in [max((o for o in model.reader.backups if o.slot != model.own), key=lambda o: o.json["sequence"])]:
        gone = [n for n in model.data if n.split("/")[1:3] == last.name.split("/")[1:3]]
        for n in gone:
            place.put(n, None)
        code, out, err = place.run("list")
        need(code == 0 and "shows less" in err, "a rolled back backup is not noticed: %s", err)
        code, out, err = place.run("check", "--json")
        need(code == 6 and any(f.get("object") == last.name and f["what"] == "backup-missing" and f.get("vm") == last.json["vm"]
                               for f in json.loads(out)["findings"]), "check does not name %s: %s", last.name, out)
        for n in gone:
            place.put(n, model.data[n])
        yield "newest backup of a writer with its session"
    # The record of a removed key slot as it was before.
    serials = {}
    for n in model.data:
        if n.startswith("slots/"):
            env = kf.open_envelope(model.reader.keys, model.data[n], kf.SLOT_RECORD, n)
            serials.setdefault(n.split("/")[1], []).append((json.loads(env.payload)["serial"], n))
    name = [max(rows)[1] for rows in serials.values() if len(rows) > 1][0]
    place.put(name, None)
    code, found = findings()
    need(code == 6 and any(what in ("slot-record-missing", "key-missing") for what, _ in found),
         "a key slot's older record passes: %s", found)
    place.put(name, model.data[name])
    yield "older record of a removed key slot"
    # The config of another repository.
    other = rot_repo.Place(place.kedge, os.path.join(place.path, "other"))
    os.makedirs(other.path)
    shutil.copy(os.path.join(place.path, "key1"), other.path)
    other.must("init")
    for what, names in (("config", ["config"]), ("config and keys", ["config"] + [n for n in other.names() if n[:5] == "keys/"])):
        for n in names:
            place.put(n, other.get(n))
        code, out, err = place.run("list")
        if what == "config":
            need(code == 1 and "config" in err and "hint:" in err, "another repository's config: exit %d: %s", code, err)
        else:
            need(code == 1 or not out.strip(), "another repository's config and keys: exit %d: %s", code, out)
        for n in names:
            place.put(n, model.data.get(n))
        yield what + " of another repository"
    shutil.rmtree(other.path)
    code, out, err = place.run("check", "--read-data")
    need(code == 0, "after all was put back: %s", err)


def client(place, model, need, failure):
    """A damaged cache costs time, a damaged state a message; neither costs a backup."""
    def works(what):
        code, out, err = place.run("list", "--json")
        need(code == 0 and len(json.loads(out)) == len(model.reader.backups), "%s: list exits with %d: %s", what, code, err)
        t = model.trees[0]
        code, out, e2 = place.run("cat", "%s:%s@%s/%s" % (t.vm, t.disk, t.id, t.point), binary=True)
        need(code == 0 and out == model.bytes[t.manifest, t.point, t.disk], "%s: cat exits with %d: %s", what, code, e2)
        return err

    works("before")
    state, cache = os.path.join(place.path, "state"), os.path.join(place.path, "cache")
    for folder in (state, cache):
        for base, _, files in os.walk(folder):
            for f in files:
                path = os.path.join(base, f)
                with open(path, "rb") as fd:
                    data = fd.read()
                damaged = [b"", data[:len(data) // 2], data + b"x", os.urandom(len(data))]
                damaged += [data[:i] + bytes([data[i] ^ 1]) + data[i + 1:] for i in range(0, len(data), max(1, len(data) // 40))]
                for n, bad in enumerate(damaged):
                    with open(path, "wb") as fd:
                        fd.write(bad)
                    err = works("%s, damage %d" % (f, n))
                    if f.endswith(".seen"):
                        need(f in err and "not known any more" in err, "nothing says that %s is damaged: %s", f, err)
                    yield "%s %s" % (os.path.basename(folder), f[-5:] if f.endswith((".seen", ".slot")) else "copy")
                    with open(path, "wb") as fd:
                        fd.write(data)
    for what, make in (("a file", lambda p: open(p, "w").close()), ("a dangling link", lambda p: os.symlink("nowhere", p)),
                       ("missing", lambda p: None)):
        for folder in (state, cache):
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            works("%s is %s" % (os.path.basename(folder), what))
            yield "%s is %s" % (os.path.basename(folder), what)
            if os.path.lexists(folder) and not os.path.isdir(folder):
                os.unlink(folder)
