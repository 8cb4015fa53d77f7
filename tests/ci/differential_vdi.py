#!/usr/bin/env python3
"""differential_vdi.py KEDGE IMAGES SEED PART: see differential-vdi.sh.

Every other image is QEMU's: created dynamic or static, written to by qemu-io.  The rest are made here, from the format's
description and from nothing of kedge: any block size, extra bytes before blocks, header versions, blocks in any order,
free and zero ones, differencing chains whose files lie together or apart.  What each must read as is computed, not read.
Each is then written anew by kedge, dynamic or fixed, which must pass qemu-img check and compare equal (7-Zip too, where
it is installed).
"""
import collections
import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys

KEDGE, IMAGES, SEED, PART = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
part, parts = (int(x) for x in PART.split('/'))
KIB, MIB = 1 << 10, 1 << 20
FREE, ZERO = 0xffffffff, 0xfffffffe
seen = collections.Counter()
SEVEN_ZIP = shutil.which('7zz')


class Failed(Exception):
    pass


def run(log, cwd, *args):
    log.append(' '.join(args))
    p = subprocess.run(args, cwd=cwd, capture_output=True)
    if p.returncode:
        raise Failed(f'exit {p.returncode}: {p.stderr.decode(errors="replace").strip()}')
    return p.stdout


def sha(data):
    return hashlib.sha256(data).hexdigest()


def guid(r):
    return r.randbytes(16)


def header1(r, v):
    size = r.choice([384, 400])
    minor = r.choice([1, 1, 0])
    h = b'<<< differential >>>'.ljust(64, b'\0') + struct.pack('<IHH', 0xbeda107f, minor, 1)
    h += struct.pack('<III', size, v['type'], 0) + b'a comment'.ljust(256, b'\0')
    h += struct.pack('<II', v['map'], v['data']) + struct.pack('<IIIII', 0, 0, 0, 512, 0)
    h += struct.pack('<QIIII', v['size'], v['block'], v['extra'], v['blocks'], v['allocated'])
    return h + v['uuid'] + v['modify'] + v['parent'] + v['parent_modify']


def header0(v):
    h = b'<<< old >>>'.ljust(64, b'\0') + struct.pack('<II', 0xbeda107f, 2)
    h += struct.pack('<II', v['type'], 0) + bytes(272)
    h += struct.pack('<QIII', v['size'], v['block'], v['blocks'], v['allocated'])
    return h + v['uuid'] + v['modify'] + v['parent']


def make_vdi(r, path, content, below, parent):
    """Writes an image that makes content out of below (the parent's content, or zeros); returns its two UUIDs."""
    block = r.choice([4 * KIB, 64 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 8 * MIB])
    old = parent is None and r.random() < 0.2
    v = {'type': 4 if parent else r.choice([1, 1, 2]), 'size': len(content), 'block': block,
         'extra': 0 if old else r.choice([0, 0, 512, 4096]), 'blocks': -(-len(content) // block) + r.choice([0, 0, 3]),
         'uuid': guid(r), 'modify': guid(r), 'parent': parent[0] if parent else bytes(16),
         'parent_modify': parent[1] if parent and r.random() < 0.9 else bytes(16)}
    entries, data = [FREE] * v['blocks'], []
    order = list(range(-(-len(content) // block)))
    if v['type'] != 2:
        r.shuffle(order)
    for i in order:
        want = content[i * block:(i + 1) * block]
        if v['type'] != 2 and want == below[i * block:(i + 1) * block].ljust(len(want), b'\0') and r.random() < 0.9:
            continue
        if v['type'] != 2 and not any(want) and r.random() < 0.8:
            entries[i] = ZERO
            seen['zero blocks'] += 1
            continue
        entries[i] = len(data)
        data.append(want.ljust(block, b'\x77'))        # behind the disk's end lies what nobody may see
    v['allocated'] = len(data)
    v['map'] = 420 if old else r.choice([472, 512, 4096, MIB])
    v['data'] = v['map'] + 4 * v['blocks']
    if not old:
        v['data'] = -(-v['data'] // 512) * 512 + r.choice([0, 512])
    with open(path, 'wb') as f:
        f.write(header0(v) if old else header1(r, v))
        f.seek(v['map'])
        f.write(struct.pack(f'<{len(entries)}I', *entries))
        f.truncate(max(v['data'], f.tell()))
        for i, d in enumerate(data):
            f.seek(v['data'] + i * (block + v['extra']))
            f.write(b'\x55' * v['extra'] + d)
    seen[f'block size {block}'] += 1
    seen['version 0' if old else 'version 1'] += 1
    seen['extra bytes'] += v['extra'] > 0
    seen['fixed'] += v['type'] == 2
    return v['uuid'], v['modify']


def change(r, content, size):
    """Another state of the disk, of size bytes."""
    out = bytearray(content[:size].ljust(size, b'\0'))
    for _ in range(r.randrange(1, 8)):
        off = r.randrange(0, size, 512)
        n = min(size - off, r.choice([512, 4096, 70000, MIB, 3 * MIB]))
        out[off:off + n] = bytes(n) if r.random() < 0.3 else r.randbytes(min(n, 5000)).ljust(n, bytes([r.randrange(256)]))
    return bytes(out)


def model_chain(r, where, log):
    """A chain by the model; returns the top's name, its content and the options that find its parents."""
    content, parent, options = b'', None, []
    size = r.randrange(1, 6 * MIB // 512) * 512
    for i in range(r.choice([1, 1, 2, 3, 5])):
        folder, below = '', content
        content = change(r, content, size)
        if i == 0 and r.random() < 0.3:
            folder = 'apart/'
            os.mkdir(f'{where}/apart')
            options = ['--allow-path', 'apart']
        name = f'{folder}image-{r.randrange(10 ** 9)}.vdi'
        parent = make_vdi(r, f'{where}/{name}', content, below, parent)
        log.append(f'# {name}: layer {i} of {size} bytes')
        seen['layers'] += 1
        if r.random() < 0.3:
            size = r.randrange(1, 6 * MIB // 512) * 512
    return name, content, options


def qemu_image(r, where, log):
    size = r.randrange(1, 8 * MIB // 512) * 512
    static = r.random() < 0.4
    run(log, where, 'qemu-img', 'create', '-q', '-f', 'vdi', '-o', f'static={"on" if static else "off"}', 'q.vdi', str(size))
    commands = []
    for _ in range(r.randrange(0, 8)):
        off = r.randrange(0, size, 512)
        n = min(size - off, r.choice([512, 4096, 65536, MIB, 3 * MIB]))
        kind = '-z' if r.random() < 0.2 else f'-P {r.randrange(1, 256)}'
        commands += ['-c', f'write {kind} {off} {n}']
    if commands:
        run(log, where, 'qemu-io', '-f', 'vdi', *commands, 'q.vdi')
    run(log, where, 'qemu-img', 'convert', '-f', 'vdi', '-O', 'raw', 'q.vdi', 'q.raw')
    seen['QEMU static' if static else 'QEMU dynamic'] += 1
    with open(f'{where}/q.raw', 'rb') as f:
        return 'q.vdi', f.read(), []


def one(number):
    r = random.Random(f'{SEED}-{number}')
    where, log = f'image-{number}', []
    os.mkdir(where)
    try:
        name, content, options = qemu_image(r, where, log) if number % 2 else model_chain(r, where, log)
        with open(f'{where}/want.raw', 'wb') as f:
            f.write(content)
        got = run(log, where, KEDGE, 'dump', '--no-progress', *options, name)
        if len(got) != len(content) or sha(got) != sha(content):
            raise Failed(f'{name}: {len(got)} bytes read, other ones than the {len(content)} that it holds')
        how = r.choice([[], ['--subformat', 'dynamic'], ['--subformat', 'fixed'], ['--preallocation', 'metadata'],
                        ['--preallocation', 'falloc'], ['--seed-ids', 'x']])
        run(log, where, KEDGE, 'dump', '-q', '--no-progress', *options, name, '-O', 'vdi', *how, '-o', 'new.vdi')
        run(log, where, 'qemu-img', 'check', '-q', '-f', 'vdi', 'new.vdi')
        run(log, where, 'qemu-img', 'compare', '-q', '-f', 'vdi', '-F', 'raw', 'new.vdi', 'want.raw')
        if SEVEN_ZIP and number % 4 < 2:
            if sha(run(log, where, SEVEN_ZIP, 'e', '-so', 'new.vdi')) != sha(content):
                raise Failed('7-Zip reads other bytes')
            seen['read by 7-Zip'] += 1
        seen[f'written {" ".join(how) or "by default"}'] += 1
    except Failed as e:
        print(f'FAILED: image {number} of seed {SEED}: {e}')
        print('\n'.join('    ' + line for line in log))
        return False
    shutil.rmtree(where)
    return True


numbers = range(part, IMAGES + 1, parts)
good = sum(one(n) for n in numbers)
print(f'{good} of {len(numbers)} images good; ' + ', '.join(f'{k} {v}' for k, v in sorted(seen.items())))
sys.exit(0 if good == len(numbers) and good else 1)
