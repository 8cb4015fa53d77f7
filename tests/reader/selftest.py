#!/usr/bin/python3
"""The reader and the writer against each other: what one writes the other reads, and what is forged or altered is
refused.  Runs in a folder of its own; no kedge program is needed."""
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr

import nacl.bindings as sodium

import kedge_format as kf
import kedge_golden
from kedge_reader import Repository, Verifier, digest_lines

HERE = os.path.dirname(os.path.abspath(__file__))


def run(program, *args, ok=True):
    r = subprocess.run([sys.executable, os.path.join(HERE, program), *args], capture_output=True)
    if ok is not None and (r.returncode == 0) != ok:
        raise AssertionError("%s %s: exit %d\n%s" % (program, args, r.returncode, r.stderr.decode()))
    return r.stdout.decode() if ok else r.stderr.decode()


def quietly(function, *args, **named):
    with redirect_stderr(io.StringIO()):
        return function(*args, **named)


def expected(folder):
    with open(os.path.join(folder, "EXPECTED.tsv")) as f:
        return [line.rstrip("\n").split("\t") for line in f]


class Primitives(unittest.TestCase):
    def test_b2_is_what_libsodium_computes(self):
        for key, person in ((b"", b"kedge-recovery-c"), (bytes(range(32)), b"kedge-chunk-v1")):
            want = sodium.crypto_generichash_blake2b_salt_personal(b"message", 32, key, bytes(16), person.ljust(16, b"\0"))
            self.assertEqual(kf.b2(key, person, b"message"), want)

    def test_padme(self):
        for n, want in ((0, 0), (1, 1), (2, 2), (9, 10), (1000, 1024), (65537, 67584), (1 << 20, 1 << 20)):
            self.assertEqual(kf.padme(n), want)
        for n in range(2, 5000):
            self.assertEqual(kf.padme(kf.padme(n)), kf.padme(n))

    def test_recovery_key(self):
        raw = bytes(range(32))
        text = kf.recovery_encode(raw)
        self.assertRegex(text, "^kedge(-[0-9A-Z]{5}){12}$")
        sloppy = text[6:].replace("-", "").lower().replace("0", "o").replace("1", "l")
        self.assertEqual(kf.recovery_decode(sloppy), raw)
        for at in range(6, len(text)):
            if text[at] != "-":
                wrong = text[:at] + ("2" if text[at] != "2" else "3") + text[at + 1:]
                self.assertRaises(kf.FormatError, kf.recovery_decode, wrong)

    def test_escaped_text(self):
        for raw, text in ((b"a b", "a b"), (b"50%", "50%25"), (b"\xff\n\x7f", "%FF%0A%7F"), ("fö".encode(), "fö")):
            self.assertEqual(kf.escape(raw), text)
            self.assertEqual(kf.unescape(text), raw)
        self.assertRaises(kf.FormatError, kf.unescape, "5%")
        self.assertRaises(kf.FormatError, kf.unescape, "%ff")

    def test_height(self):
        for size, want in ((0, 1), (1, 1), (256 * 4096, 1), (256 * 4096 + 1, 2), (65536 * 4096, 2), (1 << 50, 5)):
            self.assertEqual(kf.height_of(size, 4096), want)


class Golden(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp(dir=os.environ.get("TESTDIR"))
        cls.golden = os.path.join(cls.work, "golden")
        kedge_golden.make(cls.golden)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.work)

    def opened(self, folder, key="password", **how):
        with open(os.path.join(self.golden, folder, key), "rb") as f:
            secret = f.read()
        kind, secret = {"password": (kf.KDF_PASSPHRASE, secret[:-1]),
                        "recovery.key": (kf.KDF_RECOVERY, kf.recovery_decode(secret.decode("latin-1"))
                                         if key == "recovery.key" else b"")}.get(key, (kf.KDF_KEYFILE, secret))
        return Repository(os.path.join(self.golden, folder, "repo"), [(kind, secret)], **how)

    def compare(self, folder, **how):
        repo = quietly(self.opened, folder, **how)
        got = sorted([str(f) for f in line] for line in quietly(list, digest_lines(repo, repo.backups)))
        lines = expected(os.path.join(self.golden, folder))
        want = sorted(l[1:7] + ["refused" if l[0] == "refuse" else l[7]] for l in lines if l[0] != "absent")
        self.maxDiff = None
        self.assertEqual(got, want)
        self.assertEqual({o.name.rsplit("/", 1)[1] for o in repo.backups if o.status == "pending"},
                         {l[1] for l in lines if l[0] == "pending"})
        self.assertFalse({l[1] for l in lines if l[0] == "absent"} & {g[0] for g in got})

    def test_every_point(self):
        for key in ("password", "full.key", "recovery.key"):
            for rebuild in (False, True):
                with self.subTest(key=key, rebuild=rebuild):
                    self.compare("good", key=key, rebuild=rebuild)

    def test_lies_are_refused(self):
        for rebuild in (False, True):
            self.compare("hostile", rebuild=rebuild)

    def test_maintain_sees_the_structure_only(self):
        full, repo = quietly(self.opened, "good"), quietly(self.opened, "good", key="maintain.key")
        self.assertEqual([o.name for o in repo.backups], [o.name for o in full.backups])
        for *_, name, size, digest in quietly(list, digest_lines(repo, repo.backups)):
            self.assertEqual(digest == "refused", name not in ("none", "zero", "empty"), name)
        v = Verifier(repo)
        quietly(v.run)
        self.assertGreater(v.counts["not_opened"], 0)
        self.assertEqual(v.counts["chunks"], 0)
        self.assertGreater(v.counts["nodes"], 0)

    def test_put_reads_no_manifest(self):
        repo = quietly(self.opened, "good", key="put.key")
        self.assertEqual(repo.backups, [])
        self.assertTrue(any("may not read manifests" in p for p in repo.problems))

    def test_repositories_that_must_not_open(self):
        with open(os.path.join(self.golden, "REFUSED.tsv")) as f:
            names = [line.split("\t")[0] for line in f]
        self.assertGreater(len(names), 10)
        for name in names:
            with self.subTest(name), self.assertRaises(kf.FormatError):
                quietly(Repository, os.path.join(self.golden, "refuse", name), [(kf.KDF_PASSPHRASE, kedge_golden.PASSWORD)])


class Commands(unittest.TestCase):
    """Both programs by their command lines, on a small repository without anything strange."""

    def setUp(self):
        self.work = tempfile.mkdtemp(dir=os.environ.get("TESTDIR"))
        self.addCleanup(shutil.rmtree, self.work)
        self.repo = self.path("repo")
        with open(self.path("password"), "w") as f:
            f.write("secret\n")
        with open(self.path("key"), "wb") as f:
            f.write(os.urandom(64))
        self.secret = ("--password-file", self.path("password"))
        run("kedge_writer.py", "init", self.repo, *self.secret, "--key-file", self.path("key"), "--chunk-size", "4096",
            "--domain", "b")

    def path(self, name):
        return os.path.join(self.work, name)

    def image(self, name, size, parts):
        with open(self.path(name), "wb") as f:
            for offset, data in parts:
                f.seek(offset)
                f.write(data)
            f.truncate(size)
        return self.path(name)

    def backup(self, *args):
        return run("kedge_writer.py", "backup", self.repo, *self.secret, *args).strip()

    def nights(self):
        """Three images, each a little different, backed up as deltas; returns [(manifest, image)]."""
        found, noise = [], os.urandom(40000)
        for night in range(3):
            parts = [(8192, noise), (8300, b"night %d" % night), (3 << 20, b"%d" % night * 5000)]
            image = self.image("disk.%d" % night, (4 << 20) + 513, parts)
            found.append((self.backup("--vm", "v", "--disk", "b/disk=" + image, "--delta", "--attach",
                                      "note=" + self.path("password")), image))
        return found

    def test_backup_and_cat(self):
        for manifest, image in self.nights():
            for how in ((), ("--rebuild",)):
                out = self.path("out")
                run("kedge_reader.py", "cat", self.repo, manifest, "current", "disk", "-o", out, "--key-file",
                    self.path("key"), *how)
                with open(out, "rb") as a, open(image, "rb") as b:
                    self.assertEqual(a.read(), b.read())
                self.assertLess(os.stat(out).st_blocks * 512, 1 << 20)
        self.assertEqual(run("kedge_reader.py", "attachment", self.repo, "v", "note", *self.secret), "secret\n")
        out = run("kedge_reader.py", "verify", self.repo, *self.secret)
        self.assertRegex(out, r'"deltas": [1-9].*"problems": 0}')

    def test_every_altered_byte_is_noticed(self):
        self.nights()
        clean = Repository(self.repo, [(kf.KDF_PASSPHRASE, b"secret")])
        self.assertTrue(Verifier(clean).run())
        for name in clean.folder.names(""):
            path = os.path.join(self.repo, name)
            size = os.path.getsize(path)
            offset = int.from_bytes(os.urandom(4), "little") % size
            with self.subTest(name=name, offset=offset):
                kedge_golden.flip(path, offset)
                self.assertFalse(self.verifies())
                kedge_golden.flip(path, offset)
                os.rename(path, path + ".away")
                if name.split("/")[0] in ("data", "nodes", "config", "slots"):
                    self.assertFalse(self.verifies())
                os.rename(path + ".away", path)
        self.assertTrue(self.verifies())

    def verifies(self):
        try:
            return quietly(Verifier(quietly(Repository, self.repo, [(kf.KDF_PASSPHRASE, b"secret")])).run)
        except kf.FormatError:
            return False

    def test_segments_that_moved(self):
        found = self.nights()
        repo = Repository(self.repo, [(kf.KDF_PASSPHRASE, b"secret")])
        packs = repo.folder.names("data") + repo.folder.names("nodes")
        for pack in packs:
            run("kedge_writer.py", "repack", self.repo, *self.secret, pack)
        epoch = run("kedge_writer.py", "epoch", self.repo, *self.secret, "--condemn", *packs).strip()
        run("kedge_writer.py", "sweep", self.repo, *self.secret, "--epoch", epoch, "--doom", *packs)
        for pack in packs:
            os.unlink(os.path.join(self.repo, pack))
        out = run("kedge_reader.py", "verify", self.repo, *self.secret)
        self.assertIn('"problems": 0', out)
        with open(found[2][1], "rb") as f:
            got = subprocess.run([sys.executable, os.path.join(HERE, "kedge_reader.py"), "cat", self.repo, "v", "current", "0",
                                  *self.secret], capture_output=True)
            self.assertEqual(got.stdout, f.read())

    def test_protocol_objects(self):
        """Each command, well signed and forged, and what it does to the list."""
        image = self.image("disk", 20000, [(0, b"x" * 9000)])
        key, put = ("--key-file", self.path("key")), ("--key-file", self.path("put"))
        with open(self.path("put"), "wb") as f:
            f.write(os.urandom(32))
        slot = run("kedge_writer.py", "add-slot", self.repo, *self.secret, "--role", "put", "--new-key-file", self.path("put"),
                   "--vms", "v").strip()
        a = self.backup("--vm", "v", "--disk", "disk=" + image)
        full = a.split("/")[1]

        def post(*args, secret=self.secret):
            return run("kedge_writer.py", *args[:1], self.repo, *secret, *args[1:]).strip()

        def listed():
            out = run("kedge_reader.py", "list", self.repo, *self.secret)
            return {line.split('"')[3]: line.split('"')[7] for line in out.splitlines()}

        for how in ("signature", "claim=" + full, "name=" + full):
            post("tombstone", "--manifest", a, "--forge", how, secret=put)
            post("eviction", "--evict", a, "--forge", how, secret=put)
        post("tombstone", "--manifest", a, "--forge", "signature")
        post("tombstone", "--manifest", a, "--forge", "name=" + slot)
        self.assertEqual(listed(), {a: "listed"})
        stone = post("tombstone", "--manifest", a, secret=key)
        self.assertEqual(listed(), {})
        post("restore-record", "--manifest", a, "--tombstone", stone)
        self.assertEqual(listed(), {a: "listed"})
        b = run("kedge_writer.py", "backup", self.repo, *put, "--vm", "v", "--disk", "disk=" + image, "--no-end").strip()
        run("kedge_writer.py", "backup", self.repo, *put, "--vm", "w", "--disk", "disk=" + image)
        self.assertEqual(listed(), {a: "listed", b: "listed"})
        collector = post("collector")
        e = post("eviction", "--evict", b)
        self.assertEqual(listed(), {a: "listed", b: "pending"})
        session = collector.split("/")[2]
        epoch = post("epoch", "--condemn", "data/" + "/".join(("ab" * 8, "cd" * 16, "ef" * 32)), "--session", session)
        s = post("sweep", "--epoch", epoch, "--eviction", e, "--session", session)
        self.assertEqual(listed(), {a: "listed"})
        e2 = post("eviction", "--evict", s, "--kind", "collector")
        post("sweep", "--epoch", epoch, "--eviction", e2, e, "--accept", b)
        self.assertEqual(listed(), {a: "listed", b: "listed"})
        for args in (("session", "--vm", "v", "--epoch", epoch), ("renewal",), ("reading", "--point", a), ("end",),
                     ("doomed", "--sweep", s), ("extension", "--object", a, "--until", "5")):
            name = post(*args)
            self.assertIn('"session"', run("kedge_reader.py", "show", self.repo, name, *self.secret))


if __name__ == "__main__":
    unittest.main()
