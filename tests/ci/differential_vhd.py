#!/usr/bin/env python3
"""differential_vhd.py KEDGE IMAGES SEED PART: see differential-vhd.sh.

By turns an image is QEMU's VHD, QEMU's VHDX, a VHD chain and a VHDX chain of the model: made here from the formats'
descriptions and from nothing of kedge, with blocks in any order, gaps, sector bitmaps, all block states, and writes that
are only in the log.  What each must read as is computed, not read.  Each is then written anew by kedge as VHD or VHDX, of
any kind, which must compare equal in QEMU and read equal in libvhdi (and 7-Zip, where it can).
"""
import os

import pyvhdi

from differential import KEDGE, MIB, Failed, change, each, qemu_reads, qemu_writes, run, same, save, seen, seven_zip, sha
from vhd_model import make_vhd, make_vhdx


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
    qemu_writes(r, log, where, kind, 'q.img', size, r.randrange(0, 8), zeros='-P 0')     # VHDX has no fast way to write zeros
    seen[f'QEMU {kind} {options[0]}'] += 1
    return 'q.img', qemu_reads(log, where, kind, 'q.img')


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
    same('libvhdi', libvhdi(f'{where}/new.{fmt}'), content)
    if number % 8 < 4 and (fmt == 'vhd' or len(content) % 4096 == 0):
        seven_zip(log, where, f'new.{fmt}', content)
    seen[f'written {fmt} {" ".join(how) or "by default"}'] += 1


def check(r, where, log, number):
    kind = ['vpc', 'vhd', 'vhdx', 'vhdx'][number % 4]
    name, content = qemu_image(r, where, log, kind) if number % 4 in (0, 2) else model_chain(r, where, log, kind)
    save(where, content)
    before = {f: sha(open(f'{where}/{f}', 'rb').read()) for f in os.listdir(where)}
    fmt = ['--format', 'vhd'] if kind != 'vhdx' else []     # a fixed one may begin like anything
    same(name, run(log, where, KEDGE, 'dump', '--no-progress', *fmt, name), content)
    if before != {f: sha(open(f'{where}/{f}', 'rb').read()) for f in os.listdir(where)}:
        raise Failed('an image was written to')
    write_anew(r, where, log, name, content, number)


each(check)
