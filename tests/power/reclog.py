"""reclog.py - the log that tests/preload/record.c writes: reading it, marks in it, and what a killed process did last.

A log is a list of Rec in the order in which they were written.  Marks are records of the tests' own, with JSON.
"""
import json
import os
import struct
import subprocess

HEAD = struct.Struct("<QIBBBBIIQiiQQQQIIII")
MAGIC = 0x4345524547444544
BEFORE, AFTER, MARK = 0, 1, 2
OPS = [None, "create", "write", "truncate", "fallocate", "link", "rename", "unlink", "mkdir", "rmdir", "fsync", "syncfs"]

# What changes files: a program that imports one of these must find it in record.so.
CHANGING = set("""open open64 openat openat64 openat2 creat creat64 __open_2 __open64_2 __openat_2 __openat64_2 mkstemp
mkstemp64 mkostemp mkostemp64 mkstemps mkstemps64 mkostemps mkostemps64 mkdtemp tmpfile tmpfile64 fopen fopen64 freopen
freopen64 write pwrite pwrite64 writev pwritev pwritev64 pwritev2 pwritev64v2 sendfile sendfile64 splice tee vmsplice
copy_file_range truncate truncate64 ftruncate ftruncate64 fallocate fallocate64 posix_fallocate posix_fallocate64 link
linkat symlink symlinkat rename renameat renameat2 unlink unlinkat remove rmdir mkdir mkdirat mknod mknodat mkfifo
mkfifoat sync syncfs fsync fdatasync sync_file_range msync syscall aio_write aio_write64 lio_listio io_submit chmod
fchmod fchmodat lchmod setxattr fsetxattr lsetxattr utimensat futimens utimes mmap mmap64""".split())
# Not used on files that are watched: /proc is read with fopen; mkostemp is `kedge bench`; chmod is for a folder that
# `restore --to` made.
HARMLESS = {"fopen64", "fopen", "mkostemp64", "mkostemp", "chmod"}


class Rec:
    __slots__ = ("phase", "op", "folder", "pid", "tid", "seq", "result", "error", "dev", "ino", "off", "len", "mode",
                 "path", "path2", "data")


def parse(raw):
    """All records of a log; what a kill tore off at its end is left out."""
    out, at = [], 0
    while at + HEAD.size <= len(raw):
        (magic, size, phase, op, folder, _, pid, tid, seq, result, error, dev, ino, off, length, mode, n1, n2,
         nd) = HEAD.unpack_from(raw, at)
        if magic != MAGIC or size != HEAD.size + n1 + n2 + nd:
            raise ValueError(f"no record at {at} of the log")
        if at + size > len(raw):
            break
        r = Rec()
        r.phase, r.op, r.folder, r.pid, r.tid, r.seq = phase, OPS[op], bool(folder), pid, tid, seq
        r.result, r.error, r.dev, r.ino, r.off, r.len, r.mode = result, error, dev, ino, off, length, mode
        p = at + HEAD.size
        r.path = os.path.normpath(raw[p:p + n1].decode()) if n1 else ""
        r.path2 = os.path.normpath(raw[p + n1:p + n1 + n2].decode()) if n2 else ""
        r.data = raw[p + n1 + n2:at + size]
        out.append(r)
        at += size
    return out


def mark(log, **what):
    """Appends a mark."""
    data = json.dumps(what).encode()
    head = HEAD.pack(MAGIC, HEAD.size + len(data), MARK, 0, 0, 0, os.getpid(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, len(data))
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, head + data)
    finally:
        os.close(fd)


def _took(r):
    """What a call did that had begun when its process was killed: None = nothing, else what AFTER would have said."""
    def at(path):
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None
    st = at(r.path2 or r.path) if r.path else None
    if r.op in ("create", "mkdir"):
        return {"result": 0, "dev": st.st_dev, "ino": st.st_ino} if st else None
    if r.op in ("link", "rename"):
        return {"result": 0, "dev": r.dev, "ino": r.ino} if st and st.st_ino == r.ino else None
    if r.op in ("unlink", "rmdir"):
        return None if st else {"result": 0, "dev": r.dev, "ino": r.ino}
    if not st or st.st_ino != r.ino or r.op in ("fsync", "syncfs"):
        return None
    if r.op != "write":
        return {"result": 0, "dev": r.dev, "ino": r.ino} if st.st_size == r.len else None
    with open(r.path, "rb") as f:
        f.seek(r.off)
        there = f.read(len(r.data))
    n = len(os.path.commonprefix([there, r.data]))
    return {"result": n, "dev": r.dev, "ino": r.ino} if n else None


def mark_dead(log, pid):
    """After a process was killed: notes in the log which of the calls it was in took effect."""
    with open(log, "rb") as f:
        recs = parse(f.read())
    began = {r.seq: r for r in recs if r.pid == pid and r.phase == BEFORE}
    for r in recs:
        if r.pid == pid and r.phase == AFTER:
            began.pop(r.seq, None)
    took = {}
    for seq, r in began.items():
        t = _took(r)
        if t:
            took[seq] = t
    mark(log, dead=pid, took=took)


def check_imports(program, library):
    """Every call that changes files and that program imports must be intercepted."""
    def symbols(path, kinds):
        out = subprocess.run(["nm", "-D", path], check=True, capture_output=True, text=True).stdout
        return {w[-1].split("@")[0] for w in (line.split() for line in out.splitlines()) if w[-2] in kinds}
    missing = (symbols(program, "U") & CHANGING) - symbols(library, "T") - HARMLESS
    if missing:
        raise SystemExit(f"{program} uses {', '.join(sorted(missing))}, which tests/preload/record.c does not record")
