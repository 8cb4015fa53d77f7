#!/usr/bin/env python3
"""differential_qcow.py KEDGE IMAGES SEED PART: see differential-qcow.sh.

Every other image is QEMU's: converted, compressed or not, or a chain written to by qemu-io.  The rest are made here, from
the format's description and from nothing of kedge: any cluster and L2 size, plain and compressed clusters in any order,
tables anywhere, backing files that are qcow, qcow2 or raw.  What each must read as is computed, not read.  Each is then
written anew by kedge, which must compare equal in QEMU and libqcow.
"""
import os
import struct
import subprocess
import zlib

import pyqcow

from differential import KEDGE, MIB, KIB, Failed, change, each, qemu_reads, qemu_writes, run, same, save, seen


def make_qcow(r, path, content, below, backing):
    """Writes an image that makes content out of below (the backing file's content, or zeros)."""
    bits, l2_bits = r.randrange(9, 17), r.randrange(6, 14)
    cluster, l2_n = 1 << bits, 1 << l2_bits
    clusters = -(-len(content) // cluster)
    l1_n = -(-clusters // l2_n)
    f = bytearray(48)
    name = backing.encode() if backing else b''
    name_at = len(f) + r.choice([0, 0, 16]) if name else 0
    f = f.ljust(name_at, b'\0') + name

    def append(data, align):
        f.extend(b'\x5a' * (-len(f) % align))
        f.extend(data)
        return len(f) - len(data)

    l1_at = append(bytes(8 * l1_n), r.choice([8, 512, cluster]))
    tables = {}
    order = list(range(clusters))
    r.shuffle(order)
    for i in order:
        want = content[i * cluster:(i + 1) * cluster]
        if want == below[i * cluster:(i + 1) * cluster].ljust(len(want), b'\0') and r.random() < 0.9:
            continue
        if i // l2_n not in tables:
            tables[i // l2_n] = append(bytes(8 * l2_n), r.choice([512, cluster]))
            struct.pack_into('>Q', f, l1_at + i // l2_n * 8, tables[i // l2_n])
        data = want.ljust(cluster, b'\x77')       # behind the disk's end lies what nobody may see
        z = zlib.compressobj(r.choice([1, 6, 9]), zlib.DEFLATED, r.choice([-12, -15]))
        packed = z.compress(data) + z.flush()
        if len(packed) < cluster and r.random() < 0.5:
            entry = 1 << 63 | len(packed) << (63 - bits) | append(packed, 1)
            seen['compressed clusters'] += 1
        else:
            entry = append(data, r.choice([512, cluster]))
        struct.pack_into('>Q', f, tables[i // l2_n] + i % l2_n * 8, entry)
    struct.pack_into('>4sIQIIQBBHIQ', f, 0, b'QFI\xfb', 1, name_at, len(name), r.randrange(1 << 32), len(content), bits,
                     l2_bits, 0, 0, l1_at)
    with open(path, 'wb') as out:
        out.write(f)
    seen[f'cluster size {cluster}'] += 1


def model_chain(r, where, log):
    """A chain by the model on a base of any format; returns the top's name, its content, and options."""
    size, options = r.randrange(2, 6 * MIB), []
    content, name = b'', None
    if r.random() < 0.5:
        size -= size % 512
        size = max(size, 512)
        content, kind = change(r, b'', size), r.choice(['raw', 'qcow2', 'qcow'])
        name = f'base.{kind}'
        with open(f'{where}/base', 'wb') as f:
            f.write(content)
        run(log, where, 'qemu-img', 'convert', '-f', 'raw', '-O', kind, 'base', name)
        options = ['--backing-format', kind]
        seen[f'on {kind}'] += 1
    for i in range(r.choice([1, 2, 4]) if not options or options[1] == 'qcow' else 1):
        below, content, old = content, change(r, content, size), name
        name = f'image-{i}.qcow'
        make_qcow(r, f'{where}/{name}', content, below, old)
        log.append(f'# {name}: layer {i} of {size} bytes')
        seen['layers'] += 1
        if r.random() < 0.3:
            size = r.randrange(2, 6 * MIB)
    return name, content, options or ['--backing-format', 'qcow']


def qemu_image(r, where, log):
    size, options, name = r.randrange(1, 8 * MIB // 512) * 512, [], 'q.qcow'
    if r.random() < 0.5:
        content = change(r, b'', size)
        with open(f'{where}/in.raw', 'wb') as f:
            f.write(content)
        how = ['-c'] if r.random() < 0.6 else []
        log.append(f'# qemu-img convert {how} -O qcow')
        p = subprocess.run(['qemu-img', 'convert', *how, '-f', 'raw', '-O', 'qcow', 'in.raw', name], cwd=where,
                           capture_output=True)
        # compressing sizes that don't please it, it exits with 1 and no message; the image is whole
        if p.returncode and not (how and p.returncode == 1 and not p.stderr):
            raise Failed(f'exit {p.returncode}: {p.stderr}')
        seen['QEMU compressed' if how else 'QEMU converted'] += 1
        return name, content, []
    run(log, where, 'qemu-img', 'create', '-q', '-f', 'qcow', name, str(size))
    seen['QEMU written to'] += 1
    for i in range(r.choice([1, 1, 2, 3])):
        if i:
            run(log, where, 'qemu-img', 'create', '-q', '-f', 'qcow', '-F', 'qcow', '-b', name, f'o{i}.qcow')
            name, options = f'o{i}.qcow', ['--backing-format', 'qcow']
            seen['QEMU overlays'] += 1
        qemu_writes(r, log, where, 'qcow', name, size, r.randrange(1, 6))
    return name, qemu_reads(log, where, 'qcow', name), options


def libqcow(path, content, how):
    if '--cluster-size' in how:        # it refuses some of those, QEMU's too
        return
    f = pyqcow.file()
    f.open(path)
    got = f.read_buffer(len(content))
    f.close()
    same('libqcow', got, content)
    seen['read by libqcow'] += 1


def check(r, where, log, number):
    name, content, options = qemu_image(r, where, log) if number % 2 else model_chain(r, where, log)
    same(name, run(log, where, KEDGE, 'dump', '--no-progress', *options, name), content)
    content = content.ljust(-(-len(content) // 512) * 512, b'\0')
    save(where, content)
    how = r.choice([[], ['--compress'], ['--seed-ids', 'x'], ['--cluster-size', '512'], ['--cluster-size', '64K'],
                    ['--cluster-size', '16K', '--compress'], ['--cluster-size', '512', '--compress']])
    run(log, where, KEDGE, 'dump', '-q', '--no-progress', *options, name, '-O', 'qcow', *how, '-o', 'new.qcow')
    run(log, where, 'qemu-img', 'compare', '-q', '-f', 'qcow', '-F', 'raw', 'new.qcow', 'want.raw')
    libqcow(f'{where}/new.qcow', content, how)
    seen[f'written {" ".join(how) or "by default"}'] += 1


each(check)
