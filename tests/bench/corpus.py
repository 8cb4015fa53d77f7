"""corpus.py - the corpus as it was on each night: images for kedge and qemu-img, raw files for programs that read no images."""
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass

from measure import Failed


@dataclass
class Night:
    """A disk on one night.  image, format: what kedge reads; raw: the same guest content as a sparse raw file."""
    vm: str
    name: str
    source: str         # the corpus's image, relative to it
    point: str          # of SHA256.tsv: current or snapshot:NAME
    sha256: str = ""
    size: int = 0
    data: int = 0       # guest bytes in 4 KiB blocks that are not zero
    changed: int = 0    # guest bytes in 64 KiB clusters that changed since the night before
    image: str = ""
    format: str = ""
    raw: str = ""

    @property
    def text(self):
        return f"{self.vm} {self.name}"


def sha256_file(path):
    h = hashlib.sha256()
    buf = bytearray(4 << 20)
    with open(path, "rb", buffering=0) as f:
        while n := f.readinto(buf):
            h.update(memoryview(buf)[:n])
    return h.hexdigest()


class Corpus:
    def __init__(self, folder, work, qemu_img):
        self.folder = folder
        self.work = work
        self.qemu_img = qemu_img
        self.rows = self._rows()
        self.full = "vm-db/base.qcow2" in {k[0] for k in self.rows}
        self.verified = os.path.join(work, "verified")

    def _rows(self):
        rows = {}
        with open(os.path.join(self.folder, "STATS.tsv")) as f:
            for line in f:
                v = line.rstrip("\n").split("\t")
                if not line.startswith("#"):
                    rows[v[0], v[1]] = (v[3], int(v[2]), int(v[4] or 0), int(v[6] or 0))
        with open(os.path.join(self.folder, "SHA256.tsv")) as f:
            for line in f:
                v = line.rstrip("\n").split("\t")
                if not line.startswith("#"):
                    _, _, data, changed = rows.get((v[0], v[1]), (0, 0, 0, 0))
                    rows[v[0], v[1]] = (v[3], int(v[2]), data, changed)
        return rows

    def night(self, vm, name, source, point):
        n = Night(vm, name, source, point)
        n.sha256, n.size, n.data, n.changed = self.rows[source, point]
        return n

    def vms(self):
        """{VM: its nights in order}, of those that the corpus has."""
        def snapshots(vm, image, word):
            names = [p for (i, p) in self.rows if i == image and p.startswith("snapshot:" + word)]
            return [self.night(vm, p.split(":")[1], image, p) for p in sorted(names)]

        def layers(vm):
            found = sorted(i for (i, p) in self.rows if i.startswith(vm + "/") and p == "current")
            return [self.night(vm, os.path.splitext(os.path.basename(i))[0], i, "current") for i in found]

        shift = [n for n in layers("vm-clone") if n.source.endswith(".vdi")] + layers("vm-shift")
        return {"vm-web": snapshots("vm-web", "vm-web/vm-web.qcow2", "night-"), "vm-db": layers("vm-db"),
                "vm-big-binary": snapshots("vm-big-binary", "vm-big-binary/vm-big-binary.qcow2", "state-"),
                "vm-shift": shift}

    def qemu(self, *args):
        p = subprocess.run([self.qemu_img, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if p.returncode != 0:
            raise Failed(f"qemu-img {' '.join(args)}: {p.stderr}")
        return p.stdout

    def place(self, night):
        """Put the night's image and raw file where each night's were before, as a VM's disk keeps its path."""
        d = os.path.join(self.work, "in", night.vm)
        os.makedirs(d, exist_ok=True)
        night.raw = os.path.join(d, "disk.raw")
        source = os.path.join(self.folder, night.source)
        night.format = "qcow2"
        night.image = source
        if night.point.startswith("snapshot:"):
            night.image = os.path.join(d, "disk.qcow2")
            self._as_of(source, night)
        elif not night.source.endswith(".qcow2"):
            night.image, night.format = night.raw, "raw"
        self._make_raw(source, night)
        return night

    def _as_of(self, source, night):
        name = night.point.split(":")[1]
        stamp = night.image + ".is"
        if _read(stamp) == night.sha256:
            return
        _forget(stamp)
        with open(source, "rb") as s, open(night.image, "wb") as t:
            shutil.copyfileobj(s, t, 4 << 20)
        later = False
        for line in self.qemu("snapshot", "-l", night.image).splitlines()[2:]:
            tag = line.split()[1]
            if later:
                self.qemu("snapshot", "-d", tag, night.image)
            later = later or tag == name
        self.qemu("snapshot", "-a", name, night.image)
        _write(stamp, night.sha256)

    def _make_raw(self, source, night):
        stamp = night.raw + ".is"
        if _read(stamp) == night.sha256:
            return
        _forget(stamp)
        args = ["-l", "snapshot.name=" + night.point.split(":")[1]] if night.point.startswith("snapshot:") else []
        new = night.raw + ".new"
        self.qemu("convert", "-O", "raw", *args, source, new)
        # The same file each night, written over: name and inode stay, as those of a disk do.
        if os.path.exists(night.raw):
            os.truncate(night.raw, 0)
            copy_sparse(new, night.raw)
            os.unlink(new)
        else:
            os.rename(new, night.raw)
        if f"{night.source}\t{night.sha256}\n" not in _read(self.verified):
            got = sha256_file(night.raw)
            if got != night.sha256:
                raise Failed(f"{night.source} {night.point}: qemu-img reads {got}, SHA256.tsv has {night.sha256}")
            with open(self.verified, "a") as f:
                f.write(f"{night.source}\t{night.sha256}\n")
        _write(stamp, night.sha256)

    def compressed(self, night, kind):
        """The night's content as a qcow2 with clusters compressed by zlib or zstd."""
        path = os.path.join(self.work, "in", night.vm, f"{night.name}-{kind}.qcow2")
        if _read(path + ".is") != night.sha256:
            _forget(path + ".is")
            self.qemu("convert", "-O", "qcow2", "-c", "-m", "2", "-W", "-o", "compression_type=" + kind, night.raw, path)
            _write(path + ".is", night.sha256)
        return path


def copy_sparse(src, dst):
    with open(src, "rb", buffering=0) as s, open(dst, "r+b", buffering=0) as t:
        size = os.fstat(s.fileno()).st_size
        t.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(s.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(s.fileno(), at, os.SEEK_HOLE)
            while at < end:
                at += os.copy_file_range(s.fileno(), t.fileno(), min(end - at, 1 << 30), at, at)


def _read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def _write(path, text):
    with open(path, "w") as f:
        f.write(text)


def _forget(path):
    if os.path.exists(path):
        os.unlink(path)
