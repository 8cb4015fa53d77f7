"""measure.py - run one command and say what it took; warm files up; time the final sync apart."""
import ctypes
import os
import subprocess
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A command under measurement failed: the benchmark means nothing then."""


def warm(*paths):
    """Read every file whole, holes too: whoever runs next finds all of it in the page cache."""
    buf = bytearray(4 << 20)
    for path in paths:
        files = [path] if os.path.isfile(path) else [os.path.join(d, f) for d, _, fs in os.walk(path) for f in fs]
        for f in files:
            if os.path.islink(f) or not os.path.isfile(f):
                continue
            with open(f, "rb", buffering=0) as h:
                while h.readinto(buf):
                    pass


def sync_fs(folder):
    """Seconds until all that was written to the folder's file system is on its disk."""
    fd = os.open(folder, os.O_RDONLY)
    start = time.perf_counter()
    if libc.syncfs(fd) != 0:
        raise Failed(f"syncfs of {folder}: {os.strerror(ctypes.get_errno())}")
    took = time.perf_counter() - start
    os.close(fd)
    return took


def tree_bytes(folder):
    """Bytes of all files below a folder: what a repository costs."""
    return sum(os.lstat(os.path.join(d, f)).st_size for d, _, fs in os.walk(folder) for f in fs)


def _status_kib(pid, field):
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith(field):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def _io(pid):
    """What the process asked to read, by its own account in /proc (a zombie still has it)."""
    try:
        with open(f"/proc/{pid}/io") as f:
            return dict((k, int(v)) for k, v in (line.split(": ") for line in f))
    except OSError:
        return {}


class Runner:
    """Runs commands; nosync: the program that takes fsync out of all of them alike, or None to leave them as they are; pages: the
    one that touches memory."""

    def __init__(self, work, nosync, pages):
        self.work = work
        self.nosync = nosync
        self.pages = pages
        self.out = os.path.join(work, "out")
        self.err = os.path.join(work, "err")

    def touch(self, mib):
        """What is timed next needs so much memory, of its own and of page cache: lets it find pages that the machine has."""
        sync_fs(self.work)
        subprocess.run([self.pages, str(mib)], check=True)

    def run(self, argv, env=None, cwd=None, anon=False, stdout=None):
        """Returns {wall, user, sys, sync, rchar, anon_kib}; its output is in self.out.  anon: watch its memory."""
        sync_fs(self.work)
        full = ([self.nosync] if self.nosync else []) + [str(a) for a in argv]
        environ = dict(os.environ, LC_ALL="C.UTF-8", TZ="UTC")
        environ.update(env or {})
        peak = [0]
        with open(stdout or self.out, "wb") as out, open(self.err, "wb") as err:
            start = time.perf_counter()
            p = subprocess.Popen(full, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            done = threading.Event()
            if anon:
                def watch():
                    while not done.is_set():
                        peak[0] = max(peak[0], _status_kib(p.pid, "RssAnon:"))
                        time.sleep(0.002)
                t = threading.Thread(target=watch)
                t.start()
            os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
            wall = time.perf_counter() - start
            done.set()
            if anon:
                t.join()
            io = _io(p.pid)
            _, status, ru = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
        if p.returncode != 0:
            told = ""
            for path in (self.err, stdout or self.out):
                with open(path, errors="replace") as f:
                    told += f.read(2000)
            raise Failed(f"exit {p.returncode}: {' '.join(full)}\n{told}")
        return {"wall": wall, "user": ru.ru_utime, "sys": ru.ru_stime, "sync": sync_fs(self.work),
                "rchar": io.get("rchar", 0), "anon_kib": peak[0]}
