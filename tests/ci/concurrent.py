"""concurrent.py SEED ROUNDS WRITERS...: many programs at once on one repository, whatever they do and however they are delayed.

A round is a fresh repository, some VMs and some nights.  A night is WRITERS backups at once (one VM by two writers, VMs with the same
content, two hosts' states and caches, three key slots), with list, check, restore, cat, stats, key add and key remove beside them, until
all backups are done; and a hand that stops any of them at random for some milliseconds.  All must succeed and say nothing on stderr
(-q: neither warning nor error).  Afterwards every point ever stored is what its image was, bit for bit, and check --read-data is clean.
KEDGE is the program.  THREADS (optional) goes to --threads.
"""
import hashlib, json, os, random, shutil, signal, subprocess, sys, threading, time

KEDGE = os.environ["KEDGE"]
BLOCK = 65536
SLOW = float(os.environ.get("SLOWER", "1"))	# how much slower than release the program is: sanitizers
LIMIT = 120 * SLOW


def fail(text):
    raise SystemExit("FAILED: " + text)


class Host:
    """A state and a cache folder; programs that share one share what they remember."""
    def __init__(self, name):
        self.env = dict(os.environ, KEDGE_STATE_DIR=os.path.abspath(f"state-{name}"), KEDGE_CACHE_DIR=os.path.abspath(f"cache-{name}"))


class Vm:
    def __init__(self, rng, name, pool):
        self.rng, self.name, self.pool, self.path, self.points = rng, name, pool, f"{name}.raw", []
        self.blocks = [rng.choice(pool) if rng.random() < 0.6 else None for _ in range(rng.choice((20, 40, 90)))]
        self.write()

    def change(self):
        for _ in range(self.rng.randrange(1, 12)):
            self.blocks[self.rng.randrange(len(self.blocks))] = self.rng.choice(self.pool) if self.rng.random() < 0.5 else self.rng.randbytes(BLOCK)
        self.write()

    def write(self):
        data = b"".join(b or bytes(BLOCK) for b in self.blocks) + self.pool[0][:777]
        with open(self.path, "wb") as f:
            f.write(data)
        self.digest = hashlib.sha256(data).hexdigest()


class Round:
    def __init__(self, seed, writers):
        self.rng, self.writers = random.Random(seed), writers
        self.keys, self.hosts = ["key0", "key1", "key2"], [Host("a"), Host("b")]
        self.running, self.lock, self.commands, self.problems = {}, threading.Lock(), 0, []

    def command(self, host, key, args):
        threads = ["--threads", os.environ["THREADS"]] if "THREADS" in os.environ and args[0] in ("backup", "check", "restore", "cat") else []
        return [KEDGE, "-r", "repo", "--key-file", key, *args, *threads], host.env

    def run(self, host, key, *args, quiet=True, out=None, ok=(0,)):
        """Its stdout; a failure or a word on stderr is a problem of the round."""
        cmd, env = self.command(host, key, args + (("-q",) if quiet else ()))
        p = subprocess.Popen(cmd, env=env, stdout=out or subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        with self.lock:
            self.running[p.pid] = p
        try:
            stdout, stderr = p.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            p.kill()
            stdout, stderr = p.communicate()
            stderr += b"\ntime limit"
        with self.lock:
            del self.running[p.pid]
            self.commands += 1
        if p.returncode not in ok or stderr.strip():
            with self.lock:
                self.problems.append(f"exit {p.returncode}: {' '.join(cmd)}\n{stderr.decode(errors='replace')[:4000]}")
            return None
        return stdout

    # --- what runs beside backups ----------------------------------------------------------------------------------------------
    def a_point(self, rng):
        known = [(vm, p) for vm in self.vms for p in list(vm.points)]
        return rng.choice(known) if known else (None, None)

    def restore(self, host, rng, n):
        vm, point = self.a_point(rng)
        if not point:
            return
        target = f"restored-{n}.{rng.choice(('raw', 'qcow2'))}"
        if self.run(host, rng.choice(self.keys), "restore", f"{vm.name}@{point[0]}", "-o", target, "-f") is None:
            return
        if target.endswith(".qcow2"):
            subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", target, target + ".out"], check=True)
            os.rename(target + ".out", target)
            os.truncate(target, point[2])	# qcow2 counts in sectors
        self.expect(target, point[1], f"{vm.name}@{point[0]} restored beside backups")

    def cat(self, host, rng, n):
        vm, point = self.a_point(rng)
        if point:
            with open(f"cat-{n}", "wb") as f:
                if self.run(host, rng.choice(self.keys), "cat", f"{vm.name}@{point[0]}", out=f) is None:
                    return
            self.expect(f"cat-{n}", point[1], f"{vm.name}@{point[0]} by cat beside backups")

    def list(self, host, rng, n):
        before = sum(len(vm.points) for vm in self.vms)
        got = self.run(host, rng.choice(self.keys), "list", "--json")
        if got is not None and len(json.loads(got)) < before:
            self.problems.append(f"list shows {len(json.loads(got))} backups after {before} were committed")

    def check(self, host, rng, n):
        self.run(host, rng.choice(self.keys), "check", *rng.choice((["--read-data"], ["--read-data=30%"], [], [])))

    def stats(self, host, rng, n):
        self.run(host, rng.choice(self.keys), "stats")

    def show(self, host, rng, n):
        vm, point = self.a_point(rng)
        if point:
            self.run(host, rng.choice(self.keys), "show", f"{vm.name}@{point[0]}")

    def key(self, host, rng, n):
        name = f"spare-{n}-{rng.getrandbits(32)}"
        self.make_key(name)
        if self.run(host, rng.choice(self.keys), "key", "add", "--label", name, "--new-key-file", name) is None:
            return
        self.run(host, name, "list")
        self.run(host, rng.choice(self.keys), "key", "remove", name)

    # --- a night -----------------------------------------------------------------------------------------------------------------
    def make_key(self, name):
        with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
            f.write(os.urandom(64))

    def expect(self, path, digest, what):
        with open(path, "rb") as f:
            if hashlib.file_digest(f, "sha256").hexdigest() != digest:
                self.problems.append(f"{what} is not what was stored")
        os.unlink(path)

    def backup(self, vm, host, key, delay):
        time.sleep(delay)
        out = self.run(host, key, "backup", "--vm", vm.name, "--json", f"raw:{vm.path}")
        if out is not None:
            vm.points.append((json.loads(out)["id"], vm.digest, os.path.getsize(vm.path)))

    def companion(self, n, seed, stop):
        rng = random.Random(seed)
        doings = [self.restore, self.restore, self.cat, self.list, self.list, self.check, self.stats, self.show, self.key]
        while True:
            rng.choice(doings)(rng.choice(self.hosts), rng, n)
            if stop.is_set() or self.problems:
                return

    def stirrer(self, seed, stop):
        rng = random.Random(seed)
        while not stop.wait(rng.random() * 0.02 * SLOW):
            with self.lock:
                running = list(self.running.values())
            if running:
                p = rng.choice(running)
                p.send_signal(signal.SIGSTOP)	# nothing happens to one that has ended
                time.sleep(rng.choice((0.001, 0.01, 0.05, 0.1)))
                p.send_signal(signal.SIGCONT)

    def night(self):
        rng, stop = self.rng, threading.Event()
        vms = [rng.choice(self.vms) for _ in range(self.writers)]
        backups = [threading.Thread(target=self.backup, args=(vm, rng.choice(self.hosts), rng.choice(self.keys), rng.random() * 0.05)) for vm in vms]
        beside = [threading.Thread(target=self.companion, args=(n, rng.random(), stop)) for n in range(3)]
        hand = threading.Thread(target=self.stirrer, args=(rng.random(), stop))
        for t in backups + beside + [hand]:
            t.start()
        for t in backups:
            t.join()
        stop.set()
        for t in beside + [hand]:
            t.join()
        self.verdict()

    def verdict(self):
        if self.problems:
            fail(f"{len(self.problems)} problems:\n" + "\n".join(self.problems))

    def play(self, nights):
        rng = self.rng
        for key in self.keys:
            self.make_key(key)
        self.run(self.hosts[0], "key0", "init", "--chunk-size", rng.choice(("4K", "16K", "64K")))
        for key in self.keys[1:]:
            self.run(self.hosts[0], "key0", "key", "add", "--label", key, "--new-key-file", key)
        pool = [rng.randbytes(BLOCK) for _ in range(40)]
        self.vms = [Vm(rng, f"vm{i}", pool) for i in range(max(2, self.writers * 2 // 3))]
        shutil.copy(self.vms[0].path, self.vms[1].path)	# two machines with one content
        self.vms[1].blocks, self.vms[1].digest = list(self.vms[0].blocks), self.vms[0].digest
        self.verdict()
        for n in range(nights):
            self.night()
            for vm in self.vms:
                if rng.random() < 0.7:
                    vm.change()
        self.afterwards()

    def afterwards(self):
        host = self.hosts[1]
        listed = json.loads(self.run(host, "key0", "list", "--json") or b"[]")
        want = sorted(p[0] for vm in self.vms for p in vm.points)
        if sorted(b["id"] for b in listed) != want or not all(b["complete"] for b in listed):
            self.problems.append(f"listed: {[b['id'] for b in listed]}, stored: {want}")
        for vm in self.vms:
            for point in vm.points:
                with open("afterwards", "wb") as f:
                    self.run(host, "key1", "cat", f"{vm.name}@{point[0]}", out=f)
                self.expect("afterwards", point[1], f"{vm.name}@{point[0]}")
        self.run(host, "key2", "check", "--read-data")
        for folder, _, files in os.walk("repo"):
            self.problems += [f"left behind: {folder}/{f}" for f in files if f.startswith(".")]
        keys = json.loads(self.run(host, "key0", "key", "list", "--json") or b"[]")
        if sum(not k["removed"] for k in keys) != 4:
            self.problems.append(f"{sum(not k['removed'] for k in keys)} keys are left of 4")
        self.points = len(want)
        self.verdict()


def main():
    seed, rounds, writers = int(sys.argv[1]), int(sys.argv[2]), [int(w) for w in sys.argv[3:]]
    commands = points = 0
    for n in range(rounds):
        os.mkdir("round")
        os.chdir("round")
        r = Round(f"{seed}-{n}", writers[n % len(writers)])
        try:
            r.play(2)
        except SystemExit as e:
            raise SystemExit(f"round {n} of seed {seed}, {r.writers} writers: {e}")
        os.chdir("..")
        shutil.rmtree("round")
        commands += r.commands
        points += r.points
    print(f"{rounds} rounds, {commands} commands, {points} points restored bit for bit")


main()
