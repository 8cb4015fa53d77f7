#!/usr/bin/env python3
"""differential_vhd.py KEDGE IMAGES SEED PART: see differential-vhd.sh.

By turns an image is QEMU's VHD, QEMU's VHDX, a VHD chain and a VHDX chain of the model: made here from the formats'
descriptions and from nothing of kedge, with blocks in any order, gaps, sector bitmaps, all block states, and writes that
are only in the log.  What each must read as is computed, not read.  Each is then written anew by kedge as VHD or VHDX, of
any kind, which must compare equal in QEMU and read equal in libvhdi (and 7-Zip, where it is installed and can).
"""
import hashlib
import os
import random
import shutil
import subprocess
import sys

import pyvhdi

from vhd_model import MIB, change, make_vhd, make_vhdx, seen

KEDGE, IMAGES, SEED, PART = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
part, parts = (int(x) for x in PART.split('/'))
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


def model_chain(r, where, log, kind):
    sector = 512 if kind == 'vhd' else r.choice([512, 512, 4096])
    content, parent = b'', None
    size = r.randrange(1, 6 * MIB // sector) * sector
    for i in range(r.choice([1, 1, 2, 3, 5])):
        below = content
        content = change(r, content, size, sector)
        name = f'image-{i}.{kind}'
        if kind == 'vhd':
            parent = make_vhd(r, where, name, content, below, parent)
        else:
            parent = make_vhdx(r, where, name, content, below, parent, sector)
        log.append(f'# {name}: layer {i} of {size} bytes')
        seen['layers'] += 1
        if r.random() < 0.3:
            size = r.randrange(1, 6 * MIB // sector) * sector
    return name, content


def qemu_image(r, where, log, kind):
    size = r.randrange(1, 8 * MIB // 512) * 512
    fixed = r.random() < 0.4
    options = [f'subformat={"fixed" if fixed else "dynamic"}']
    if kind == 'vpc':
        options += [f'force_size={r.choice(["on", "off"])}']
    else:
        options += [f'block_size={r.choice([0, 1, 2, 8])}M', f'log_size={r.choice([1, 2])}M', f'block_state_zero={r.choice(["on", "off"])}']
    run(log, where, 'qemu-img', 'create', '-q', '-f', kind, '-o', ','.join(options), 'q.img', str(size))
    commands = []
    for _ in range(r.randrange(0, 8)):
        off = r.randrange(0, size, 512)
        n = min(size - off, r.choice([512, 4096, 65536, MIB, 3 * MIB]))
        value = 0 if r.random() < 0.2 else r.randrange(1, 256)      # VHDX has no fast way to write zeros
        commands += ['-c', f'write -P {value} {off} {n}']
    if commands:
        run(log, where, 'qemu-io', '-f', kind, *commands, 'q.img')
    run(log, where, 'qemu-img', 'convert', '-f', kind, '-O', 'raw', 'q.img', 'q.raw')
    seen[f'QEMU {kind} {options[0]}'] += 1
    with open(f'{where}/q.raw', 'rb') as f:
        return 'q.img', f.read()


def libvhdi(path):
    f = pyvhdi.file()
    f.open(path)
    size = f.get_media_size()
    data = f.read_buffer_at_offset(size, 0)
    f.close()
    return data


def write_anew(r, where, log, name, content, number):
    fmt = r.choice(['vhd', 'vhdx'])
    how = r.choice([[], ['--subformat', 'dynamic'], ['--subformat', 'fixed'], ['--subformat', 'fixed', '--preallocation', 'falloc'],
                    ['--cluster-size', '1M'], ['--cluster-size', '512K' if fmt == 'vhd' else '8M'], ['--seed-ids', 'x']])
    run(log, where, KEDGE, 'dump', '-q', '--no-progress', name, '-O', fmt, *how, '-o', f'new.{fmt}')
    qemu = 'vpc' if fmt == 'vhd' else 'vhdx'
    if fmt == 'vhdx':
        run(log, where, 'qemu-img', 'check', '-q', '-f', 'vhdx', 'new.vhdx')
    run(log, where, 'qemu-img', 'compare', '-q', '-f', qemu, '-F', 'raw', f'new.{fmt}', 'want.raw')
    if libvhdi(f'{where}/new.{fmt}') != content:
        raise Failed('libvhdi reads other bytes')
    if SEVEN_ZIP and number % 8 < 4 and (fmt == 'vhd' or len(content) % 4096 == 0):
        if sha(run(log, where, SEVEN_ZIP, 'e', '-so', f'new.{fmt}')) != sha(content):
            raise Failed('7-Zip reads other bytes')
        seen['read by 7-Zip'] += 1
    seen[f'written {fmt} {" ".join(how) or "by default"}'] += 1


def one(number):
    r = random.Random(f'{SEED}-{number}')
    where, log = f'image-{number}', []
    os.mkdir(where)
    try:
        kind = ['vpc', 'vhd', 'vhdx', 'vhdx'][number % 4]
        name, content = qemu_image(r, where, log, kind) if number % 4 in (0, 2) else model_chain(r, where, log, kind)
        with open(f'{where}/want.raw', 'wb') as f:
            f.write(content)
        before = {f: sha(open(f'{where}/{f}', 'rb').read()) for f in os.listdir(where)}
        fmt = ['--format', 'vhd'] if kind != 'vhdx' else []     # a fixed one may begin like anything
        got = run(log, where, KEDGE, 'dump', '--no-progress', *fmt, name)
        if got != content:
            first = next((i for i, (a, b) in enumerate(zip(got, content)) if a != b), min(len(got), len(content)))
            raise Failed(f'{name}: {len(got)} bytes read, {len(content)} wanted, other ones from {first} on')
        if before != {f: sha(open(f'{where}/{f}', 'rb').read()) for f in os.listdir(where)}:
            raise Failed('an image was written to')
        write_anew(r, where, log, name, content, number)
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
