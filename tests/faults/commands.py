"""commands.py - the commands that the matrices break, and for each what success means and what must hold after a failure."""
import os
import re

from world import KIB, PACK, Failed, check_points, check_repository, k, packs, qemu_digest, run, sha, sha_file, strays


class Command:
    """args(world): what is run.  success(world, result): exit 0 told the truth.  broken(world, result): the promises after a
    kill or a failure, and that running it again succeeds."""
    empty = False       # starts without a repository
    kill = True         # part of the kill matrix
    codes = (1,)        # exit codes that a failure may have
    refused = None      # what it says when all goes well: it is to fail
    writes = False      # to the repository, other than its sessions

    def __init__(self, template, name):
        self.t, self.name = template, name

    def prepare(self, world):
        pass

    def options(self):
        return ['--key-file', self.t.dir + '/key']

    def run(self, world, fault=None, ok=False):
        return run([*self.options(), *self.args(world)], world.dir, fault, ok)

    def success(self, world, result):
        pass

    def broken(self, world, result):
        self.again(world)
        if self.writes:
            check_repository(self.t, world)

    def survived(self, world, result):
        """Exit 0 in spite of a fault: what else must hold."""
        if self.writes:
            check_repository(self.t, world)

    def again(self, world):
        self.success(world, self.run(world, ok=True))


class Init(Command):
    empty = True
    writes = True

    def args(self, world):
        return ['init', '--pack-size', '1M']

    def survived(self, world, result):
        pass

    def success(self, world, result):
        text = result.out.decode().strip()
        with open(world.dir + '/recovery', 'w') as f:
            f.write(text + '\n')
        os.chmod(world.dir + '/recovery', 0o600)
        if k(world, 'list', '--json').json() != []:
            raise Failed('a new repository lists backups')
        run(['--password-file', 'recovery', 'list'], world.dir, ok=True)
        k(world, 'backup', '--vm', 'small', f'raw:{self.t.dir}/small.raw')
        check_points(world, {'small': sha_file(self.t.dir + '/small.raw')})

    def broken(self, world, result):
        """Either there is a repository that works, or a backup says that there is none and init tells what to do."""
        r = run([*self.options(), 'backup', '--vm', 'small', f'raw:{self.t.dir}/small.raw'], world.dir)
        again = self.run(world)
        if r.rc == 0:
            if again.rc != 1 or 'repository exists already' not in again.err:
                raise Failed(f'init over a repository: exit {again.rc}, {again.err}')
            if not re.search(rb'^[0-9A-Za-z]+(-[0-9A-Za-z]+)+$', result.out.strip()):
                raise Failed(f'there is a repository whose recovery key was never shown: {result.out!r}')
            check_points(world, {'small': sha_file(self.t.dir + '/small.raw')})
            return
        if r.rc != 10:
            raise Failed(f'half a repository: a backup exits with {r.rc}: {r.err.strip()}')
        if again.rc == 0:
            self.success(world, again)
            r = k(world, 'check')
            if 'warning' in r.err:
                raise Failed(f'check complains after init: {r.err.strip()}')
        elif again.rc != 1 or 'interrupted init' not in again.err or 'hint' not in again.err:
            raise Failed(f'init does not say what to do: exit {again.rc}, {again.err.strip()}')


class Backup(Command):
    writes = True
    codes = (1, 3)

    def __init__(self, template, name, vm, points, *images):
        super().__init__(template, name)
        self.vm, self.points, self.images, self.whole = vm, points, images, None

    def args(self, world):
        return ['backup', '--vm', self.vm, '--json', *(i.replace('@', self.t.dir) for i in self.images)]

    def success(self, world, result):
        told = result.json()
        if not told['complete']:
            raise Failed('exit 0 for a backup that is not complete')
        check_points(world, self.points)

    def broken(self, world, result):
        new = [b for b in check_repository(self.t, world) if b['complete']]
        if len(new) > 1 or (result.rc == 0 and not new):
            raise Failed(f'exit {result.rc}, and {len(new)} backups are there')
        if new:
            check_points(world, self.points)
        stored = packs(world)
        r = self.run(world, ok=True)
        self.success(world, r)
        if self.whole is not None and (r.json()['bytes_stored'] > max(0, self.whole - stored) + 2 * PACK + 256 * KIB or
                                       packs(world) > self.whole + 2 * PACK + 64 * KIB):
            raise Failed(f'of {self.whole} bytes {stored} were stored; the next run stored {r.json()["bytes_stored"]}, '
                         f'and there are {packs(world)} now')
        check_repository(self.t, world)


class KeyAdd(Command):
    writes = True

    def args(self, world):
        return ['key', 'add', '--label', 'third', '--new-key-file', self.t.dir + '/key3']

    def success(self, world, result):
        k(world, 'list', key='key3')

    def broken(self, world, result):
        """A record without a key may be left: check says whose it is, and it can be removed."""
        self.again(world)
        for s in k(world, 'key', 'list', '--json').json():
            folder = f'{world.dir}/repo/keys/{s["slot"]}'
            if s['label'] == 'third' and not s['removed'] and not (os.path.isdir(folder) and os.listdir(folder)):
                if s['slot'] not in k(world, 'check').err:
                    raise Failed('check does not name the slot that has no key')
                k(world, 'key', 'remove', s['slot'])
        check_repository(self.t, world)
        self.success(world, result)


class KeyRemove(Command):
    """The second key goes; the first always opens, and the second once it is gone never again."""
    writes = True

    def args(self, world):
        return ['key', 'remove', 'second']

    def opens(self, world, key):
        return run(['--key-file', f'{self.t.dir}/{key}', 'list'], world.dir)

    def success(self, world, result):
        if self.opens(world, 'key2').rc != 12:
            raise Failed('a removed key opens')
        for s in k(world, 'key', 'list', '--json').json():
            if s['label'] == 'second' and not s['removed']:
                raise Failed('a removed key is listed')
            folder = f'{world.dir}/repo/keys/{s["slot"]}'
            if s['label'] == 'second' and os.path.isdir(folder) and os.listdir(folder):
                raise Failed('the sealed key of a removed slot is still there')

    def broken(self, world, result):
        check_repository(self.t, world)
        r = self.opens(world, 'key2')
        if r.rc not in (0, 12):
            raise Failed(f'with a key that was being removed: exit {r.rc}, {r.err.strip()}')
        again = self.run(world)
        if again.rc != 0 and not (r.rc == 12 and 'no key fits second' in again.err):
            raise Failed(f'removal again: exit {again.rc}, {again.err.strip()}')
        self.success(world, again)
        check_repository(self.t, world)


class KeyRemoveLast(Command):
    """Is refused, and stays refused: nothing may lock out the last key."""
    writes = True
    refused = 'last full key'

    def prepare(self, world):
        k(world, 'key', 'remove', 'second')

    def args(self, world):
        return ['key', 'remove', 'first']

    def again(self, world):
        r = self.run(world)
        if r.rc != 1 or self.refused not in r.err:
            raise Failed(f'removal of the last key: exit {r.rc}, {r.err.strip()}')

    def success(self, world, result):
        raise Failed('the last key was removed')


class KeyPasswd(Command):
    """One of both secrets always opens; after success only the new one does."""
    writes = True

    def args(self, world):
        return ['key', 'passwd', '--new-key-file', self.t.dir + '/key4']

    def survived(self, world, result):
        check_repository(self.t, world, key='key4')

    def success(self, world, result):
        k(world, 'list', key='key4')
        r = run(['--key-file', self.t.dir + '/key', 'list'], world.dir)
        if r.rc != 12:
            raise Failed(f'the old secret: exit {r.rc}')

    def broken(self, world, result):
        old = run(['--key-file', self.t.dir + '/key', 'list'], world.dir)
        new = run(['--key-file', self.t.dir + '/key4', 'list'], world.dir)
        if (old.rc, new.rc) not in ((0, 12), (0, 0), (12, 0)):
            raise Failed(f'the old secret: exit {old.rc} {old.err}, the new: {new.rc} {new.err}')
        if old.rc == 0:
            self.run(world, ok=True)
        self.success(world, result)
        check_repository(self.t, world, key='key4')


# --- out again ----------------------------------------------------------------------------------------------------------------

class Restore(Command):
    """A target has all its bytes or is not there."""
    codes = (1, 4)

    def __init__(self, template, name, points, *args, out='out', fmt='raw'):
        super().__init__(template, name)
        self.points, self.rest, self.out, self.fmt = points, args, out, fmt

    def args(self, world):
        return ['restore', *self.rest, '--no-progress']

    def target(self, world):
        return f'{world.dir}/{self.out}'

    def prepare(self, world):
        os.mkdir(world.dir + '/to')

    def right(self, world):
        for state, want in self.points.items():
            args = ['-f', self.fmt] + (['-l', state] if state else [])
            if qemu_digest(self.target(world), *args, cwd=world.dir) != want:
                raise Failed(f'the target has wrong bytes (state {state or "current"})')

    def success(self, world, result):
        self.right(world)
        self.no_strays(world)

    def no_strays(self, world):
        left = [f for f in os.listdir(os.path.dirname(self.target(world))) if f != os.path.basename(self.out)]
        if left and not (world.may_leave and len(left) == 1):
            raise Failed(f'left beside the target: {left}')

    def broken(self, world, result):
        if os.path.exists(self.target(world)):
            self.right(world)   # killed or failed after it had its name
            os.unlink(self.target(world))
        world.may_leave |= result.killed    # the empty file by which O_TMPFILE is tried
        self.no_strays(world)
        for f in os.listdir(os.path.dirname(self.target(world))):
            os.unlink(f'{os.path.dirname(self.target(world))}/{f}')
        self.again(world)


class RestoreOver(Restore):
    """Onto an existing file, which is the old one or the new one."""
    old = b'old content' * 1000

    def prepare(self, world):
        super().prepare(world)
        with open(self.target(world), 'wb') as f:
            f.write(self.old)

    def broken(self, world, result):
        with open(self.target(world), 'rb') as f:
            if f.read() != self.old:
                self.right(world)
        # between its temporary name and its own a killed restore may leave one file
        left = [f for f in os.listdir(world.dir + '/to') if f != os.path.basename(self.out)]
        if left and (not (result.killed or world.may_leave) or len(left) > 1 or not re.fullmatch(r'\.kedge-[0-9a-f]+\.tmp', left[0])):
            raise Failed(f'left beside the target: {left}')
        for f in left:
            os.unlink(f'{world.dir}/to/{f}')
        self.again(world)


class RestoreDevice(Command):
    """Onto a loop device: whatever happened, a second run makes it right."""
    codes = (1, 4)

    def __init__(self, template, name, device, vm, want, size):
        super().__init__(template, name)
        self.device, self.vm, self.want, self.size = device, vm, want, size

    def prepare(self, world):
        with open(self.device, 'wb') as f:
            f.write(b'\xff' * (self.size + 4096))

    def args(self, world):
        return ['restore', self.vm, '-o', self.device, '-f', '--no-progress']

    def success(self, world, result):
        with open(self.device, 'rb') as f:
            if sha(f.read(self.size)) != self.want:
                raise Failed('the device has wrong bytes')
            if f.read(512) != b'\xff' * 512:
                raise Failed('bytes behind the disk were changed')


class RestoreFolder(Restore):
    """All of a VM into a folder; what is there has all its bytes."""

    def args(self, world):
        return ['restore', self.rest[0], '--to', 'to/all', '-O', 'raw', '--no-progress']

    def no_strays(self, world):
        left = [f for f in os.listdir(world.dir + '/to/all') if f.startswith('.')] if os.path.isdir(world.dir + '/to/all') else []
        if left and not (world.may_leave and len(left) == 1):
            raise Failed(f'left beside the target: {left}')

    def broken(self, world, result):
        world.may_leave |= result.killed
        self.no_strays(world)
        if os.path.exists(self.target(world)):
            self.right(world)
            os.unlink(self.target(world))
        self.again(world)


class Output(Command):
    """What it prints is always the same, but for what `same` takes out."""
    kill = False

    def __init__(self, template, name, *args, codes=(1,), same=lambda b: b, key=True):
        super().__init__(template, name)
        self.words, self.codes, self.same, self.key, self.want = args, codes, same, key, None

    def options(self):
        return super().options() if self.key else []

    def args(self, world):
        return [w.replace('@', self.t.dir) for w in self.words]

    def success(self, world, result):
        got = self.same(result.out)
        if self.want is None:
            self.want = got
        if got != self.want:
            raise Failed(f'exit 0, but other output: {got[:3000]!r}, not {self.want[:3000]!r}')


class Check(Output):
    """A pack that could be read only at the second try may be told of by a warning that names the cause."""

    def success(self, world, result):
        if b'"damages": 0,' in result.out and b'Input/output error' in result.out:
            return
        super().success(world, result)


class Dump(Output):
    """Also writes a file, which has all bytes or is not there."""

    def __init__(self, template, name, image, want):
        super().__init__(template, name, 'dump', image, '-o', 'to/dump', '--no-progress', key=False)
        self.digest = want

    def prepare(self, world):
        os.mkdir(world.dir + '/to')

    def success(self, world, result):
        if sha_file(world.dir + '/to/dump') != self.digest:
            raise Failed('the file has wrong bytes')
        os.unlink(world.dir + '/to/dump')
        if len(os.listdir(world.dir + '/to')) > world.may_leave:
            raise Failed(f'left: {os.listdir(world.dir + "/to")}')

    def broken(self, world, result):
        if os.path.exists(world.dir + '/to/dump'):
            self.success(world, result)
        if os.listdir(world.dir + '/to'):
            raise Failed(f'left: {os.listdir(world.dir + "/to")}')
        self.again(world)


def no_times(out):
    return re.sub(rb'[0-9.]+ s\b|"se(?:ed|conds)": [0-9.e-]+|[0-9.]+ [KMG]iB/s', b'', out)


def all_commands(t, device=None):
    """t: the template; device: a block device to restore to."""
    new, small = sha_file(t.dir + '/new.raw'), sha_file(t.dir + '/small.raw')
    old, q = t.committed['old'], t.committed['q']
    to_device = [RestoreDevice(t, 'restore device', device, 'q', q, 2 << 20)] if device else []
    return to_device + [
        Init(t, 'init'),
        Backup(t, 'backup small', 'small', {'small': small}, 'raw:@/small.raw', '--attach', '@/vm.xml'),
        Backup(t, 'backup compressed', 'z', {'z:a': old, 'z:b': old}, 'a=@/deflate.qcow2', 'b=@/zstd.qcow2'),
        Backup(t, 'backup first', 'new', {'new': new}, 'raw:@/new.raw'),
        Backup(t, 'backup incremental', 'q', t.night2, '@/q.qcow2'),
        Backup(t, 'backup chain', 'c', t.chain, '@/top.qcow2'),
        KeyAdd(t, 'key add'),
        KeyRemove(t, 'key remove'),
        KeyRemoveLast(t, 'key remove last'),
        KeyPasswd(t, 'key passwd'),
        Restore(t, 'restore raw', {'': old}, 'old', '-o', 'to/out', out='to/out'),
        Restore(t, 'restore qcow2', {'': q}, 'q', '-o', 'to/out.qcow2', out='to/out.qcow2', fmt='qcow2'),
        Restore(t, 'restore snapshots', {'': q, 's1': t.committed['q/snap:s1']}, 'q', '-o', 'to/out.qcow2', '--with-snapshots',
                out='to/out.qcow2', fmt='qcow2'),
        Restore(t, 'restore compressed', {'': q}, 'q', '-o', 'to/out.qcow2', '--compress', out='to/out.qcow2', fmt='qcow2'),
        RestoreFolder(t, 'restore folder', {'': q}, 'q', out='to/all/disk0.raw'),
        RestoreOver(t, 'restore over', {'': old}, 'old', '-o', 'to/out', '-f', out='to/out'),
        Output(t, 'cat', 'cat', '--no-progress', 'q/snap:s1', codes=(1, 4)),
        Check(t, 'check', 'check', '--json', '--no-progress', same=no_times, codes=(1, 6)),
        Check(t, 'check data', 'check', '--read-data', '--no-progress', '--json', same=no_times, codes=(1, 6)),
        Output(t, 'list', 'list'),
        Output(t, 'list json', 'list', '--json'),
        Output(t, 'show', 'show', 'q'),
        Output(t, 'diff', 'diff', 'q', 'q/snap:s1'),
        Output(t, 'stats', 'stats'),
        Output(t, 'key list', 'key', 'list'),
        Output(t, 'info', 'info', '@/top.qcow2', '--chain', '--json', key=False),
        Output(t, 'map', 'map', '@/q.qcow2', '--json', key=False),
        Output(t, 'dump deflate', 'dump', '@/deflate.qcow2', '--no-progress', key=False),
        Output(t, 'dump zstd', 'dump', '@/zstd.qcow2', '--no-progress', key=False),
        Output(t, 'dump', 'dump', '@/top.qcow2', '--no-progress', key=False),
        Dump(t, 'dump file', '@/q.qcow2', t.night2['q']),
    ]
