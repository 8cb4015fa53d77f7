"""world.py - what the kill and the fail matrix share: a repository with backups, commands to break, and what must hold afterwards.

A case is one run of one command with one fault (tests/preload/fault.c), in a copy of the template.  Environment: KEDGE, BUILD.
"""
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess

KEDGE = os.environ['KEDGE']
PRELOAD = os.environ['BUILD'] + '/preload/fault.so'
PACK = 1 << 20
KIB = 1024
LIMIT = 60  # seconds a command may take before it counts as hung


class Failed(Exception):
    """A promise that did not hold."""


class Result:
    def __init__(self, rc, out, err, calls=0, hits=0, what=''):
        self.rc, self.out, self.err, self.calls, self.hits, self.what = rc, out, err, calls, hits, what

    @property
    def killed(self):
        return self.rc == -9

    def json(self):
        return json.loads(self.out)


def run(args, cwd, fault=None, ok=False, stdout=None):
    """fault: a dictionary of FAULT_* without the prefix.  ok: anything but exit 0 fails the case."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('KEDGE_') and k not in ('CLASS', 'NTH')}
    env.update(KEDGE_STATE_DIR=cwd + '/state', KEDGE_CACHE_DIR=cwd + '/cache', KEDGE_REPOSITORY=cwd + '/repo', LC_ALL='C.UTF-8',
               TZ='UTC')
    report = cwd + '/report'
    if fault is not None:
        env['LD_PRELOAD'] = PRELOAD
        env['FAULT_REPORT'] = report
        env.update({'FAULT_' + k: str(v) for k, v in fault.items()})
    try:
        p = subprocess.run([KEDGE, *args], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout or subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=LIMIT)
    except subprocess.TimeoutExpired as e:
        raise Failed(f'hangs: kedge {" ".join(args)}: {(e.stderr or b"").decode(errors="replace")}') from None
    r = Result(p.returncode, p.stdout or b'', p.stderr.decode(errors='replace'))
    if fault is not None:
        with open(report, 'rb') as f:
            b = f.read()
        os.unlink(report)
        r.calls, r.hits = struct.unpack('<QQ', b[:16])
        r.what = b[16:].split(b'\0')[0].decode(errors='replace')
    if ok and r.rc != 0:
        raise Failed(f'exit {r.rc}: kedge {" ".join(args)}: {r.err.strip()}')
    return r


def sha(data):
    return hashlib.sha256(data).hexdigest()


def sha_file(path):
    with open(path, 'rb') as f:
        return sha(f.read())


def tool(*args, cwd):
    subprocess.run(args, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def qemu_digest(image, *args, cwd):
    tool('qemu-img', 'convert', *args, '-O', 'raw', image, 'digest.raw', cwd=cwd)
    try:
        return sha_file(cwd + '/digest.raw')
    finally:
        os.unlink(cwd + '/digest.raw')


def noise(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def files(folder):
    """Relative names of all files below folder, with sizes."""
    found = {}
    for at, _, names in os.walk(folder):
        for n in names:
            p = os.path.join(at, n)
            found[os.path.relpath(p, folder)] = os.lstat(p).st_size
    return found


class Template:
    """A folder with images and a repository with backups of some of them; `expect` says which bytes each point has."""

    def __init__(self, folder):
        self.dir = folder
        os.makedirs(folder)
        for name in ('key', 'key2', 'key3', 'key4'):
            self.write(name, noise(name, 64), 0o600)
        self.images()
        self.repository()

    def write(self, name, data, mode=0o644):
        with open(f'{self.dir}/{name}', 'wb') as f:
            f.write(data)
        os.chmod(f'{self.dir}/{name}', mode)

    def images(self):
        d = self.dir
        old = bytearray(700 * KIB)
        old[64 * KIB:364 * KIB] = noise('old', 300 * KIB)
        self.write('old.raw', old)
        # several packs of 1 MiB, a hole, and text that compresses
        self.write('new.raw', noise('new', 2400 * KIB) + bytes(512 * KIB) + b'all work and no play ' * 10000 + noise('tail', 777))
        self.write('small.raw', noise('small', 200 * KIB) + bytes(100 * KIB))
        self.write('vm.xml', b'<domain><uuid>12345678-9abc-def0-1234-56789abcdef0</uuid><name>small</name></domain>')
        tool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-c', 'old.raw', 'deflate.qcow2', cwd=d)
        tool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd', 'old.raw', 'zstd.qcow2', cwd=d)
        tool('qemu-img', 'create', '-q', '-f', 'qcow2', 'q.qcow2', '2M', cwd=d)
        self.qemu_io('q.qcow2', 'write -P 1 0 600k', 'write -P 2 1M 100k')
        self.paste('q.qcow2', noise('q1', 300 * KIB), 200 * KIB)
        tool('qemu-img', 'snapshot', '-c', 's1', 'q.qcow2', cwd=d)
        self.paste('q.qcow2', noise('q2', 200 * KIB), 64 * KIB)

    def qemu_io(self, image, *commands):
        tool('qemu-io', '-t', 'unsafe', '-f', 'qcow2', *[a for c in commands for a in ('-c', c)], image, cwd=self.dir)

    def paste(self, image, data, at):
        self.write('paste', data)
        self.qemu_io(image, f'write -s paste {at} {len(data)}')
        os.unlink(self.dir + '/paste')

    def k(self, *args):
        return run(['--key-file', 'key', *args], self.dir, ok=True)

    def repository(self):
        d = self.dir
        self.recovery = self.k('-q', 'init', '--pack-size', '1M').out.decode().strip()
        self.k('backup', '--vm', 'old', 'raw:old.raw')
        self.k('backup', '--vm', 'q', 'q.qcow2')
        self.committed = {
            'old': sha_file(d + '/old.raw'),
            'q': qemu_digest('q.qcow2', '-f', 'qcow2', cwd=d),
            'q/snap:s1': qemu_digest('q.qcow2', '-f', 'qcow2', '-l', 's1', cwd=d),
        }
        # the second night of q, and a chain
        tool('qemu-img', 'snapshot', '-c', 's2', 'q.qcow2', cwd=d)
        self.paste('q.qcow2', noise('q3', 1300 * KIB), 300 * KIB)
        tool('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'q.qcow2', '-F', 'qcow2', 'top.qcow2', '2M', cwd=d)
        self.paste('top.qcow2', noise('top', 128 * KIB), 1600 * KIB)
        self.night2 = {
            'q': qemu_digest('q.qcow2', '-f', 'qcow2', cwd=d),
            'q/snap:s1': self.committed['q/snap:s1'],
            'q/snap:s2': self.committed['q'],
        }
        self.chain = {
            'c': qemu_digest('top.qcow2', '-f', 'qcow2', cwd=d),
            'c/layer:q.qcow2': self.night2['q'],
        }
        self.k('key', 'add', '--new-key-file', 'key2', '--label', 'second')
        self.backups = {b['id'] for b in self.k('list', '--json').json()}


def spread(total, part, offset=0):
    """Which of the calls 1 to total: all, or part of them, spread evenly."""
    if not part or total <= part:
        return range(1, total + 1)
    return sorted({1 + (offset + i * total // part) % total for i in range(part)})


class World:
    """A copy of the template's repository and state, for one case.  Images and keys stay where they are."""

    def __init__(self, template, folder, empty=False):
        self.template, self.dir = template.dir, folder
        self.may_leave = False      # one temporary file: its removal failed, or never came
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        for part in () if empty else ('repo', 'state'):
            shutil.copytree(f'{template.dir}/{part}', f'{folder}/{part}')


# --- what must hold ---------------------------------------------------------------------------------------------------------

def k(world, *args, key='key'):
    return run(['--key-file', world.template + '/' + key, *args], world.dir, ok=True)


def check_points(world, points, key='key'):
    for point, want in points.items():
        if sha(k(world, 'cat', '--no-progress', point, key=key).out) != want:
            raise Failed(f'{point} has other bytes than its source had')


def check_repository(template, world, key='key'):
    """Opens without manual help, says nothing is wrong, and holds all that was committed before, bit for bit.  The backups
    that are there besides."""
    r = k(world, 'list', '--json', key=key)
    if r.err:
        raise Failed(f'list complains: {r.err.strip()}')
    listed = r.json()
    if not template.backups <= {b['id'] for b in listed}:
        raise Failed('a committed backup is not listed any more')
    r = k(world, 'check', '--read-data', key=key)
    if 'warning' in r.err:
        raise Failed(f'check complains: {r.err.strip()}')
    at = {b['vm']: b['id'][:16] for b in listed if b['id'] in template.backups}
    for point, want in template.committed.items():
        vm, slash, state = point.partition('/')
        check_points(world, {f'{vm}@{at[vm]}{slash}{state}': want}, key)
    return [b for b in listed if b['id'] not in template.backups]


def strays(world):
    """What is in the repository and is no object: temporary files."""
    return {f: n for f, n in files(world.dir + '/repo').items() if not re.fullmatch(r'config|[a-z]+(/[0-9a-f]+)+', f)}


def packs(world):
    """Bytes of stored data."""
    return sum(n for f, n in files(world.dir + '/repo').items() if f.startswith('data/'))
