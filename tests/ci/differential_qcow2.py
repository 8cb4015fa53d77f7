#!/usr/bin/env python3
"""differential_qcow2.py KEDGE IMAGES SEED PART: see differential-qcow2.sh.

Each image is a random sequence of steps: create (any options), write, write zeros, discard, write compressed, snapshot,
resize, put an overlay on top.  Whenever a state is frozen (snapshot, overlay, end) QEMU's digest of it is taken at that
moment; at the end kedge must give each of them.  So a snapshot's own size counts, which qemu-img convert -l gets wrong.
"""
import collections
import hashlib
import os
import random
import shutil
import subprocess
import sys

KEDGE, IMAGES, SEED, PART = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
part, parts = (int(x) for x in PART.split('/'))
KIB, MIB = 1 << 10, 1 << 20
seen = collections.Counter()


class Failed(Exception):
    pass


class Image:
    def __init__(self, number):
        self.r = random.Random(f'{SEED}-{number}')
        self.dir = f'image-{number}'
        os.mkdir(self.dir)
        self.log, self.wanted, self.layers = [], [], 0
        self.snapshots, self.data_file = 0, False

    def run(self, *args, ok=True):
        self.log.append(' '.join(args))
        p = subprocess.run(args, cwd=self.dir, capture_output=True)
        if ok and p.returncode:
            raise Failed(f'exit {p.returncode}: {p.stderr.decode(errors="replace").strip()}')
        return p

    def io(self, commands):
        """Some may fail (QEMU writes no compressed cluster over another): what QEMU then reads is what counts."""
        args = [a for c in commands for a in ('-c', c)]
        p = self.run('qemu-io', '-f', 'qcow2', *args, self.name, ok=False)
        seen['writes done'] += p.stdout.count(b'wrote ') + p.stdout.count(b'discard ')

    def qemu_digest(self, name, fmt='qcow2'):
        self.run('qemu-img', 'convert', '-f', fmt, '-O', 'raw', name, 'out.raw')
        h = hashlib.sha256()
        with open(f'{self.dir}/out.raw', 'rb') as f:
            while block := f.read(MIB):
                h.update(block)
        size = os.stat(f'{self.dir}/out.raw').st_size
        os.unlink(f'{self.dir}/out.raw')
        return h.hexdigest(), size

    def freeze(self, what, name, *args):
        """What the disk holds now must come out of `kedge dump args` at the end."""
        self.wanted.append((what, self.qemu_digest(name), args))

    def options(self, overlay):
        r, o = self.r, {}
        v3 = r.random() < 0.8
        o['compat'] = '1.1' if v3 else '0.10'
        o['cluster_size'] = r.choice([512, 1024, 2048, 4096, 16384, 32768, 65536, 65536, 262144, 2 * MIB])
        if v3:
            if r.random() < 0.3 and o['cluster_size'] >= 16384:
                o['extended_l2'] = 'on'
            if r.random() < 0.4:
                o['compression_type'] = 'zstd'
            if r.random() < 0.2:
                o['lazy_refcounts'] = 'on'
            if r.random() < 0.3:
                o['refcount_bits'] = r.choice([1, 2, 4, 8, 32, 64])
            if not overlay and r.random() < 0.15:
                o['data_file'] = f'data-{self.layers}.bin'
                if r.random() < 0.5:
                    o['data_file_raw'] = 'on'
        if not overlay and r.random() < 0.15:
            o['preallocation'] = r.choice(['metadata', 'falloc'])
        for k, v in o.items():
            if k in ('preallocation', 'data_file_raw', 'data_file'):
                seen[k] += 1
            elif k not in ('refcount_bits', 'cluster_size'):
                seen[f'{k}={v}'] += 1
        seen[f'cluster {o["cluster_size"]}'] += 1
        return o

    def create(self, backing=None, backing_format=None):
        o = self.options(backing is not None)
        self.name = f'layer-{self.layers}.qcow2'
        self.layers += 1
        cs = o['cluster_size']
        top = 3 * MIB if cs <= 1024 else 40 * MIB if cs >= 262144 else 12 * MIB
        self.size = self.r.randrange(1, top // 512) * 512
        if cs == 2 * MIB and self.r.random() < 0.5:
            self.size += 2 * MIB
        if self.r.random() < 0.3:
            self.size = (self.size + cs - 1) // cs * cs
        self.cs = cs
        self.data_file = 'data_file' in o
        self.one_bit = o.get('refcount_bits') in (1,)
        self.compat2 = o['compat'] == '0.10'
        args = ['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', ','.join(f'{k}={v}' for k, v in o.items())]
        if backing:
            args += ['-b', backing, '-F', backing_format]
        self.run(*args, self.name, str(self.size))

    def place(self, align):
        r = self.r
        unit = self.cs if align else r.choice([512, 512, self.cs])
        off = r.randrange(0, max(1, self.size // unit)) * unit
        most = min(self.size - off, r.choice([512, 4096, self.cs, 3 * self.cs, 40 * self.cs, MIB]))
        length = max(512, most // 512 * 512)
        return off, min(length, self.size - off)

    def writes(self):
        r, cmds = self.r, []
        for _ in range(r.randrange(1, 9)):
            off, length = self.place(False)
            kind = r.random()
            if length <= 0:
                continue
            if kind < 0.5:
                cmds.append(f'write -P {r.randrange(1, 256)} {off} {length}')
            elif kind < 0.62:
                cmds.append(f'write -z {off} {length}')
                seen['zeros'] += 1
            elif kind < 0.72:
                cmds.append(f'write -z -u {off} {length}')
                seen['zeros, unmapped'] += 1
            elif kind < 0.82:
                cmds.append(f'discard {off} {length}')
                seen['discard'] += 1
            elif not self.data_file:
                off = off // self.cs * self.cs
                length = min(self.cs, self.size - off)
                cmds.append(f'write -c -P {r.randrange(1, 256)} {off} {length}')
                seen['compressed'] += 1
        # Which byte pattern repeats is not enough for a compressor: one write of noise from a file.
        if r.random() < 0.5:
            noise = f'{self.dir}/noise'
            off, length = self.place(False)
            with open(noise, 'wb') as f:
                f.write(r.randbytes(min(length, 65536)))
            cmds.append(f'write -s noise {off} {length}')
        if cmds:
            self.io(cmds)

    def compressed_whole(self):
        """Packed compressed clusters, as convert -c writes them."""
        o = self.options(True)
        o.pop('preallocation', None)
        self.run('qemu-img', 'convert', '-c', '-f', 'qcow2', '-O', 'qcow2', '-o',
                 ','.join(f'{k}={v}' for k, v in o.items()), self.name, 'packed.qcow2')
        os.replace(f'{self.dir}/packed.qcow2', f'{self.dir}/{self.name}')
        self.cs, self.compat2 = o['cluster_size'], o['compat'] == '0.10'
        self.one_bit = o.get('refcount_bits') in (1,)
        seen['convert -c'] += 1

    def snapshot(self):
        if self.data_file or self.one_bit:
            return
        self.snapshots += 1
        name = f's{self.snapshots}'
        p = self.run('qemu-img', 'snapshot', '-c', name, self.name, ok=False)
        if p.returncode:        # refcount bits too few for one more
            return
        seen['snapshot'] += 1
        self.freeze(f'snapshot {name}', self.name, '--state', f'snap:{name}')

    def resize(self):
        size = self.r.randrange(1, self.size // 256 + 3) * 512
        args = ['--shrink'] if size < self.size else []
        p = self.run('qemu-img', 'resize', '-q', '-f', 'qcow2', *args, self.name, str(size), ok=False)
        if p.returncode == 0:   # version 2 with snapshots can't be resized
            self.size = size
            seen['resize'] += 1
            if self.snapshots:
                seen['resize after a snapshot'] += 1

    def bitmap(self):
        if not self.compat2:
            self.run('qemu-img', 'bitmap', '--add', '-g', '64k', self.name, f'b{self.r.randrange(10 ** 9)}', ok=False)
            seen['bitmap'] += 1

    def overlay(self):
        if self.r.random() < 0.25:      # a raw layer can only be the lowest
            base = f'base-{self.layers}.img'
            self.run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', self.name, base)
            below, fmt = base, 'raw'
            seen['raw base'] += 1
        else:
            below, fmt = self.name, 'qcow2'
        # Snapshots of a layer that is now below are reached by naming that layer.
        self.wanted = [(w, d, (*a, '@' + self.name) if not any(x.startswith('@') for x in a) else a)
                       for w, d, a in self.wanted]
        self.freeze('lower layer', self.name, '@' + self.name)
        self.snapshots = 0
        self.create(below, fmt)
        seen['overlay'] += 1

    def make(self):
        r = self.r
        self.create()
        for _ in range(r.randrange(1, 5)):
            self.writes()
            kind = r.random()
            if kind < 0.3:
                self.snapshot()
            elif kind < 0.45:
                self.resize()
            elif kind < 0.65:
                self.overlay()
            elif kind < 0.7:
                self.bitmap()
            elif kind < 0.8 and not self.snapshots and self.layers == 1 and not self.data_file:
                self.compressed_whole()
        self.writes()
        if r.random() < 0.1 and not self.compat2 and not self.data_file:
            # Left dirty, as by a crash: lazy refcounts and no close.
            self.run('qemu-img', 'amend', '-f', 'qcow2', '-o', 'lazy_refcounts=on', self.name)
            p = subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 90 0 512', '-c', 'flush', '-c', 'abort', self.name],
                               cwd=self.dir, capture_output=True)
            seen['dirty'] += p.returncode != 0
        self.freeze('current', self.name)

    def check(self):
        # qemu-img reads a dirty image without repairing it only when it opens it read-only, as convert does.
        for what, (digest, size), args in self.wanted:
            name = next((a[1:] for a in args if a.startswith('@')), self.name)
            args = [a for a in args if not a.startswith('@')]
            cmd = [KEDGE, 'dump', '--no-progress', *args, name]
            self.log.append(' '.join(cmd))
            p = subprocess.Popen(cmd, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            h, got = hashlib.sha256(), 0
            while block := p.stdout.read(MIB):
                h.update(block)
                got += len(block)
            err = p.stderr.read().decode(errors='replace')
            if p.wait():
                raise Failed(f'{what}: kedge dump: exit {p.returncode}: {err}')
            if (h.hexdigest(), got) != (digest, size):
                raise Failed(f'{what}: kedge {h.hexdigest()[:16]} ({got} bytes), QEMU {digest[:16]} ({size} bytes)')
            seen['states'] += 1


NEEDED = ['writes done', 'compat=1.1', 'compat=0.10', 'extended_l2=on', 'compression_type=zstd', 'lazy_refcounts=on', 'data_file',
          'data_file_raw', 'preallocation', 'zeros', 'zeros, unmapped', 'discard', 'compressed', 'convert -c', 'snapshot',
          'resize', 'resize after a snapshot', 'bitmap', 'raw base', 'overlay', 'dirty', 'cluster 512', 'cluster 2097152']
failed = made = 0
for i in range(part - 1, IMAGES, parts):
    im = Image(i)
    try:
        im.make()
        im.check()
    except Failed as e:
        failed += 1
        print(f'image {i} (SEED={SEED}): {e}\n  ' + '\n  '.join(im.log[-40:]))
    made += 1
    shutil.rmtree(im.dir)
print(f'{made} images, {seen["states"]} states, {failed} wrong')
print(', '.join(f'{k} {n}' for k, n in sorted(seen.items())))
missing = [k for k in NEEDED if not seen[k]] if made >= 150 else []
if missing:
    print('never exercised: ' + ', '.join(missing))
sys.exit(1 if failed or missing else 0)
