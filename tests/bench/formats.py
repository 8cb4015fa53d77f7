"""formats.py - reading and writing each format of images, beside qemu-img."""
import os
from dataclasses import dataclass

from measure import Failed, warm

SECRET = "a secret of the benchmark"


@dataclass
class Kind:
    """A format as qemu-img and as kedge call it; packed: its data are compressed."""
    name: str
    driver: str
    qemu: tuple = ()            # how convert writes it
    kedge: tuple = ()           # how dump -O writes it
    writes: bool = True         # whether writing is compared
    packed: bool = False
    secret: bool = False

    @property
    def ours(self):
        return {"vpc": "vhd"}.get(self.driver, self.driver)


KINDS = [Kind("raw", "raw"),
         Kind("qcow2", "qcow2"),
         Kind("qcow2, zlib", "qcow2", ("-c",), ("--compress",), packed=True),
         Kind("qcow2, zstd", "qcow2", ("-c", "-o", "compression_type=zstd"), writes=False, packed=True),
         Kind("qcow2, LUKS", "qcow2", writes=False, secret=True),
         Kind("qcow", "qcow"),
         Kind("vdi, dynamic", "vdi"),
         Kind("vdi, fixed", "vdi", ("-o", "static=on"), ("--subformat", "fixed")),
         Kind("vmdk, monolithicSparse", "vmdk"),
         Kind("vmdk, twoGbMaxExtentSparse", "vmdk", ("-o", "subformat=twoGbMaxExtentSparse"), ("--subformat", "twoGbMaxExtentSparse")),
         Kind("vmdk, streamOptimized", "vmdk", ("-o", "subformat=streamOptimized"), ("--subformat", "streamOptimized"), packed=True),
         Kind("vhd, dynamic", "vpc", ("-o", "force_size=on")),
         Kind("vhd, fixed", "vpc", ("-o", "subformat=fixed,force_size=on"), ("--subformat", "fixed")),
         Kind("vhdx", "vhdx")]


class Images:
    """Images of one disk in every format, made by qemu-img, kept between runs."""

    def __init__(self, c, night):
        self.c = c
        self.night = night
        self.folder = os.path.join(c.work, "in", "formats")
        os.makedirs(self.folder, exist_ok=True)
        self.secret = os.path.join(self.folder, "secret")
        with open(self.secret, "w") as f:
            f.write(SECRET)
        os.chmod(self.secret, 0o600)

    def object(self):
        return ("--object", f"secret,id=s,file={self.secret}")

    def make(self, kind):
        folder = os.path.join(self.folder, "".join(x if x.isalnum() else "-" for x in kind.name))
        path = os.path.join(folder, "disk." + kind.driver)
        stamp = os.path.join(folder, "is")
        if os.path.exists(stamp):
            with open(stamp) as f:
                if f.read() == self.night.sha256:
                    return path
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        if kind.secret:
            self.encrypted(kind, path)
        else:
            self.c.corpus.qemu("convert", "-f", "raw", "-O", kind.driver, *kind.qemu, self.night.raw, path)
        with open(stamp, "w") as f:
            f.write(self.night.sha256)
        return path

    def encrypted(self, kind, path):
        """qemu-img measures how quick PBKDF2 is, and fails at random where the clock of CPU time is coarse."""
        options = ("-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=100")
        for left in range(20, -1, -1):
            try:
                self.c.corpus.qemu("create", "-q", *self.object(), "-f", kind.driver, *options, path, str(self.night.size))
                break
            except Failed:
                if not left:
                    raise
        self.c.corpus.qemu("convert", "-n", *self.object(), "--image-opts", "--target-image-opts",
                           f"driver=raw,file.filename={self.night.raw}",
                           f"driver=qcow2,file.filename={path},encrypt.key-secret=s")

    def readers(self, kind, path):
        null = f"driver=null-co,read-zeroes=on,size={self.night.size}"
        ours = [self.c.kedge, "dump", "--json", "--sink", "null", f"{kind.ours}:{path}"]
        theirs = [self.c.corpus.qemu_img, "convert", "-n", "--target-image-opts"]
        if kind.secret:
            ours += ["--image-secret", self.secret]
            theirs += [*self.object(), "--image-opts", f"driver=qcow2,file.filename={path},encrypt.key-secret=s"]
        else:
            theirs += ["-f", kind.driver, path]
        return [("kedge", ours), ("qemu-img", theirs + [null])]

    def writers(self, kind, path):
        return [("kedge", [self.c.kedge, "dump", "--json", "-O", kind.ours, *kind.kedge, "-o", path, "raw:" + self.night.raw]),
                ("qemu-img", [self.c.corpus.qemu_img, "convert", "-f", "raw", "-O", kind.driver, *kind.qemu, self.night.raw, path])]


def formats(c):
    """Reading an image of each format, and writing one, with vm-web's first night in it."""
    night = c.corpus.place(c.corpus.vms()["vm-web"][0])
    images = Images(c, night)
    wanted = [k for k in KINDS if c.kinds in k.name]
    for kind in wanted:
        path = images.make(kind)
        for i in range(c.rounds):
            both = images.readers(kind, path)
            for who, argv in both[i % 2:] + both[:i % 2]:
                warm(os.path.dirname(path))
                c.r.touch(512)
                c.rec("read " + kind.name, who, c.r.run(argv), i, packed=kind.packed)
    for kind in wanted:
        if kind.writes:
            write(c, images, kind)


def write(c, images, kind):
    folder = os.path.join(c.work, "written")
    path = os.path.join(folder, "disk." + kind.driver)
    os.makedirs(folder, exist_ok=True)
    for i in range(c.rounds):
        both = images.writers(kind, path)
        for who, argv in both[i % 2:] + both[:i % 2]:
            warm(images.night.raw)
            c.r.touch(3072)
            m = c.r.run(argv)
            if i == 0 and who == "kedge":
                c.corpus.qemu("compare", "-f", kind.driver, "-F", "raw", path, images.night.raw)
            size = sum(os.stat(os.path.join(folder, f)).st_blocks * 512 for f in os.listdir(folder))
            c.rec("write " + kind.name, who, m, i, packed=kind.packed, allocated=size)
            for f in os.listdir(folder):
                os.unlink(os.path.join(folder, f))
    os.rmdir(folder)
