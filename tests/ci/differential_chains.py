#!/usr/bin/env python3
"""differential_chains.py KEDGE IMAGES SEED PART: see differential-chains.sh.

A base of any format, then up to nine overlays of qcow2 and qcow, and of VMDK as long as all below are: each with options, a size
and an order of its own, written to by QEMU (data, zeros, discards, compressed clusters).  What QEMU reads of each layer is taken
when the next one is put on top; at the end `kedge dump` must give all of them, and one of them written anew in another format must
hold the same.
"""
import hashlib
import os

from differential import KEDGE, KIB, MIB, Failed, each, run, seen

BASES = [('raw', []), ('qcow2', []), ('qcow2', ['compat=0.10']), ('qcow', []), ('vdi', []), ('vdi', ['static=on']), ('vmdk', []),
         ('vmdk', ['subformat=monolithicFlat']), ('vmdk', ['subformat=twoGbMaxExtentSparse']), ('vmdk', ['subformat=twoGbMaxExtentFlat']),
         ('vpc', ['force_size=on']), ('vpc', ['subformat=fixed', 'force_size=on']), ('vhdx', []), ('vhdx', ['subformat=fixed'])]
OURS = {'vpc': 'vhd'}
TARGETS = [('raw', 'raw', []), ('qcow2', 'qcow2', []), ('qcow2', 'qcow2', ['--compress']), ('qcow', 'qcow', []), ('vdi', 'vdi', []),
           ('vmdk', 'vmdk', []), ('vmdk', 'vmdk', ['--subformat', 'streamOptimized']), ('vhd', 'vpc', []), ('vhdx', 'vhdx', [])]


def qemu_has(log, where, fmt, name):
    """(digest, size) of what QEMU reads."""
    run(log, where, 'qemu-img', 'convert', '-f', fmt, '-O', 'raw', name, 'q.raw')
    h = hashlib.sha256()
    with open(f'{where}/q.raw', 'rb') as f:
        while block := f.read(MIB):
            h.update(block)
        return h.hexdigest(), f.tell()


def qcow2_options(r):
    cluster = r.choice([512, 4 * KIB, 16 * KIB, 64 * KIB, 64 * KIB, 256 * KIB, 2 * MIB])
    o = [f'cluster_size={cluster}']
    if r.random() < 0.2:
        return o + ['compat=0.10'], cluster
    if cluster >= 16 * KIB and r.random() < 0.5:
        o.append('extended_l2=on')
        seen['extended L2'] += 1
    if r.random() < 0.5:
        o.append('compression_type=zstd')
    return o, cluster


def write(r, log, where, fmt, name, size, cluster):
    """Some writes; what QEMU refuses (a compressed cluster over another) it has said."""
    commands = []
    for _ in range(r.randrange(0, 7)):
        off = r.randrange(0, size, 512)
        n = min(size - off, r.choice([512, 4096, 65536, MIB, 2 * MIB]))
        kind = r.random()
        if kind < 0.55 or fmt in ('vpc', 'vmdk', 'vhdx', 'vdi', 'raw', 'qcow') and kind < 0.8:
            commands.append(f'write -P {r.randrange(1, 256)} {off} {n}')
        elif kind < 0.7 or fmt != 'qcow2':
            commands.append(f'write -z {off} {n}')
            seen['zeros'] += 1
        elif kind < 0.8:
            commands.append(f'write -z -u {off} {n}')
        elif kind < 0.9:
            commands.append(f'discard {off} {n}')
            seen['discarded'] += 1
        elif off // cluster * cluster + cluster <= size:
            commands.append(f'write -c -P {r.randrange(1, 256)} {off // cluster * cluster} {cluster}')
            seen['compressed'] += 1
    for c in commands:
        try:
            run(log, where, 'qemu-io', '-f', fmt, '-c', c, name)
        except Failed:
            if not c.startswith('write -c'):
                raise


def base(r, log, where):
    fmt, options = r.choice(BASES)
    size = r.randrange(1, 6 * MIB // 512) * 512
    if fmt == 'vhdx':
        size = -(-size // MIB) * MIB
    name = f'base.{fmt}'
    run(log, where, 'qemu-img', 'create', '-q', '-f', fmt, *(['-o', ','.join(options)] if options else []), name, str(size))
    write(r, log, where, fmt, name, size, 64 * KIB)
    seen[f'base {fmt} {" ".join(options)}'.strip()] += 1
    return fmt, name, size


def overlay(r, log, where, number, fmt, below, size):
    """Puts a layer on top; (format, name, size)."""
    kind = 'vmdk' if fmt == 'vmdk' and r.random() < 0.5 else 'qcow' if r.random() < 0.25 and fmt != 'raw' else 'qcow2'
    name, cluster = f'layer-{number}.{kind}', 64 * KIB
    if kind != 'vmdk' and r.random() < 0.3:
        size = r.randrange(1, 7 * MIB // 512) * 512
        seen['another size'] += 1
    args = ['-b', below, '-F', fmt]
    if kind == 'qcow2':
        options, cluster = qcow2_options(r)
        args += ['-o', ','.join(options)]
    run(log, where, 'qemu-img', 'create', '-q', '-f', kind, *args, name, *([] if kind == 'vmdk' else [str(size)]))
    write(r, log, where, kind, name, size, cluster)
    seen[f'{kind} over {fmt}'] += 1
    return kind, name, size


def reads(log, where, what, name, wanted, *options):
    got = run(log, where, KEDGE, 'dump', '--no-progress', *options, name)
    if (hashlib.sha256(got).hexdigest(), len(got)) != wanted:
        raise Failed(f'{what}: kedge dump gives {len(got)} bytes, QEMU {wanted[1]}, and others')
    seen['layers read'] += 1


def check(r, where, log, number):
    fmt, name, size = base(r, log, where)
    layers, told = [], []       # told: what qcow doesn't say of the layer below
    for i in range(r.choice([0, 1, 2, 3, 5, 9, 9])):
        layers.append((name, fmt, qemu_has(log, where, fmt, name)))
        below = f'{name}={OURS.get(fmt, fmt)}'
        fmt, name, size = overlay(r, log, where, i + 1, fmt, name, size)
        told += ['--backing-format', below] if fmt == 'qcow' else []
    layers.append((name, fmt, qemu_has(log, where, fmt, name)))
    seen[f'chain of {len(layers)}'] += 1
    for layer, kind, wanted in layers:
        reads(log, where, layer, ('raw:' if kind == 'raw' else '') + layer, wanted, *told)
    layer, kind, wanted = r.choice(layers)
    target, driver, how = r.choice(TARGETS)
    if driver == 'vhdx' and wanted[1] % 512:
        return
    run(log, where, KEDGE, 'dump', '-q', '--no-progress', *told, ('raw:' if kind == 'raw' else '') + layer, '-O', target, *how, '-o', f'new.{target}')
    if driver in ('qcow2', 'vdi', 'vmdk', 'vhdx'):
        run(log, where, 'qemu-img', 'check', '-q', '-f', driver, f'new.{target}')
    run(log, where, 'qemu-img', 'compare', '-q', '-f', driver, '-F', kind, f'new.{target}', layer)
    seen[f'written as {target} {" ".join(how)}'.strip()] += 1


each(check)
