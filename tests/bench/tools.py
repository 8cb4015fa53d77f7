"""tools.py - the programs side by side: how each makes a repository, backs up, restores."""
import json
import os
import shutil

from measure import tree_bytes


def _copy(src, dst):
    shutil.rmtree(dst, ignore_errors=True)
    shutil.copytree(src, dst, symlinks=True)


class Tool:
    """A program with its repository, caches and state in one folder, so that all of it can be put aside and back."""
    name = ""

    def __init__(self, runner, program, top):
        self.r = runner
        self.program = program
        self.home = os.path.join(top, self.name)
        self.repo = os.path.join(self.home, "repo")
        self.password = os.path.join(self.home, "password")

    def fresh(self):
        shutil.rmtree(self.home, ignore_errors=True)
        os.makedirs(self.home)
        fd = os.open(self.password, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"correct horse battery\n")
        os.close(fd)
        self.init()

    def put_aside(self, where):
        _copy(self.home, where)

    def put_back(self, where):
        _copy(where, self.home)

    def bytes(self):
        return tree_bytes(self.repo)

    def input(self, night):
        """The file that this program is given."""
        return night.raw


class Kedge(Tool):
    """Reads the image itself; all else by default."""
    name = "kedge"
    secret = ()

    def env(self):
        return {"KEDGE_REPOSITORY": self.repo, "KEDGE_PASSWORD_FILE": self.password,
                "KEDGE_STATE_DIR": os.path.join(self.home, "state"), "KEDGE_CACHE_DIR": os.path.join(self.home, "cache")}

    def cmd(self, *args, **kw):
        return self.r.run([self.program, *args, *self.secret], env=self.env(), **kw)

    def init(self):
        self.cmd("init")

    def input(self, night):
        return night.image

    def backup(self, night):
        m = self.cmd("backup", "--json", "--vm", night.vm, f"{night.format}:{night.image}")
        with open(self.r.out) as f:
            j = json.load(f)
        for k in ("bytes_read", "bytes_hashed", "bytes_new", "bytes_stored"):
            m[k] = j[k]
        m["bytes_audited"] = sum(d["bytes_audited"] for d in j["disks"])
        m["how"] = ",".join(d["how"] for d in j["disks"])
        return m

    def bytes_read(self, night, counter):
        """What a backup of this night reads from the image and its layers, by a library that counts it.  Not timed."""
        report = os.path.join(self.home, "reads")
        env = dict(self.env(), LD_PRELOAD=counter, READS_REPORT=report, READS_BELOW=os.path.dirname(night.image) + "/")
        self.r.run([self.program, "backup", "--json", "--vm", night.vm, f"{night.format}:{night.image}", *self.secret],
                   env=env)
        with open(report) as f:
            return int(f.read())

    def restore(self, night, out, fmt="raw"):
        return self.cmd("restore", night.vm, "-o", out, "-O", fmt)

    def cat(self, night, out):
        self.cmd("cat", night.vm, stdout=out)

    def open(self):
        """What opening the repository costs, key derivation included."""
        return self.cmd("list", "--json")


class KedgeKey(Kedge):
    """The same with a key file: nothing is derived, so what is left is the work."""
    name = "kedge-key"

    def __init__(self, *args):
        super().__init__(*args)
        self.key = os.path.join(self.home, "key")
        self.secret = ("--key-file", self.key)

    def env(self):
        e = super().env()
        del e["KEDGE_PASSWORD_FILE"]
        return e

    def init(self):
        fd = os.open(self.key, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, os.urandom(64))
        os.close(fd)
        super().init()


class Restic(Tool):
    name = "restic"

    def cmd(self, *args, **kw):
        env = {"RESTIC_REPOSITORY": self.repo, "RESTIC_PASSWORD_FILE": self.password,
               "RESTIC_CACHE_DIR": os.path.join(self.home, "cache")}
        return self.r.run([self.program, "--quiet", *args], env=env, **kw)

    def init(self):
        self.cmd("init")

    def backup(self, night):
        return self.cmd("backup", os.path.basename(night.raw), cwd=os.path.dirname(night.raw))

    def restore(self, night, out, fmt="raw"):
        folder = os.path.dirname(out)
        m = self.cmd("restore", "latest", "--target", folder, "--sparse")
        os.rename(os.path.join(folder, os.path.basename(night.raw)), out)
        return m

    def cat(self, night, out):
        self.cmd("dump", "latest", "/" + os.path.basename(night.raw), stdout=out)

    def open(self):
        return self.cmd("cat", "config")


class Borg(Tool):
    name = "borg"
    # Of borg's two kinds of authenticated encryption, the one that is faster on this processor.
    encryption = "repokey" if " sha_ni " in open("/proc/cpuinfo").read() else "repokey-blake2"

    def cmd(self, *args, **kw):
        env = {"BORG_BASE_DIR": os.path.join(self.home, "base"), "BORG_REPO": self.repo,
               "BORG_PASSPHRASE": "correct horse battery", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        return self.r.run([self.program, *args], env=env, **kw)

    def init(self):
        self.cmd("init", "--encryption", self.encryption)

    def backup(self, night):
        return self.cmd("create", "--compression", "zstd,3", "::" + night.name, os.path.basename(night.raw),
                        cwd=os.path.dirname(night.raw))

    def restore(self, night, out, fmt="raw"):
        folder = os.path.dirname(out)
        m = self.cmd("extract", "--sparse", "::" + night.name, cwd=folder)
        os.rename(os.path.join(folder, os.path.basename(night.raw)), out)
        return m

    def cat(self, night, out):
        self.cmd("extract", "--stdout", "::" + night.name, stdout=out)

    def open(self):
        return self.cmd("list", "--last", "1")


ALL = (Kedge, KedgeKey, Restic, Borg)
